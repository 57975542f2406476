//! What a replay found, and why it may differ from what was stored.

use attain_attainment::MODEL_VERSION;

use super::models::of_these_statistics;

/// A recommendation as it was stored, beside one computed again from its inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replay<'a> {
    /// Whether what is stored has the hash that it was stored with.
    pub(crate) stored_untouched: bool,
    /// The same of its inputs.
    pub(crate) input_untouched: bool,
    /// Whether the result has the hash of what is stored.
    pub(crate) same_result: bool,
    /// What the stored one was made with.
    pub(crate) model_version: &'a str,
}

impl Replay<'_> {
    /// Whether every byte agrees.
    pub(crate) fn identical(self) -> bool {
        self.stored_untouched && self.input_untouched && self.same_result
    }

    /// Why not, in a sentence with what would tell; empty where it does.
    pub(crate) fn reason(self) -> String {
        if self.identical() {
            String::new()
        } else if !self.stored_untouched {
            "what is stored no longer has the hash that it was stored with: look at the audit log and the backups"
                .into()
        } else if !self.input_untouched {
            "the inputs no longer have the hash that they were kept with: look at the audit log and the backups".into()
        } else if of_these_statistics(self.model_version) {
            format!(
                "the same inputs give another result at the same version `{MODEL_VERSION}`: the build that made it computes otherwise"
            )
        } else {
            format!(
                "it was made with `{}`, and this program computes with `{MODEL_VERSION}`: replay it with a build of the version that made it",
                self.model_version
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_has_a_reason_and_agreement_has_none() {
        let same =
            Replay { stored_untouched: true, input_untouched: true, same_result: true, model_version: MODEL_VERSION };
        assert!(same.identical() && same.reason().is_empty());
        let older = "drifting-level-0";
        // A version whose statistics give the same result after all.
        assert!(Replay { model_version: older, ..same }.identical());
        let own = format!("{MODEL_VERSION}-0123456789ab");
        for (replay, word) in [
            (Replay { stored_untouched: false, ..same }, "what is stored"),
            (Replay { input_untouched: false, ..same }, "the inputs no longer"),
            (Replay { same_result: false, ..same }, "at the same version"),
            (Replay { same_result: false, model_version: &own, ..same }, "at the same version"),
            (Replay { same_result: false, model_version: older, ..same }, "with a build of the version that made it"),
        ] {
            assert!(!replay.identical() && replay.reason().contains(word), "{replay:?}: {}", replay.reason());
        }
        assert!(Replay { same_result: false, model_version: older, ..same }.reason().contains("`drifting-level-0`"));
    }
}
