//! SLOs in force and the decisions that put them there.

use attain_attainment::Ambition;
use attain_redaction::redact;
use attain_vocabulary::{EntityId, InvalidValue, Objective, SliKind, TimeWindow, UnixMillis};
use serde::{Deserialize, Serialize};

use super::contradiction::Contradiction;

/// Longest reason that is kept, in characters.
const REASON_LEN_MAX: usize = 2000;
/// Slowest latency threshold that is taken for one, in milliseconds: an hour.
const LATENCY_THRESHOLD_MS_MAX: u32 = 3_600_000;
/// Oldest age that is taken for fresh, in milliseconds: a week.
const AGE_THRESHOLD_MS_MAX: u32 = 604_800_000;

/// An SLO in force: one a service and SLI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slo {
    pub(crate) service: EntityId,
    pub(crate) kind: SliKind,
    pub(crate) target: Objective,
    /// Requests faster than this are good; of freshness slices in which nothing was older. `None` for availability.
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) window: TimeWindow,
    /// From 1.
    pub(crate) version: u32,
    /// The recommendation that it follows; empty when it was declared.
    pub(crate) recommendation_id: String,
    pub(crate) as_recommended: bool,
    pub(crate) update_ms: UnixMillis,
}

impl Slo {
    /// Unique in the tenant.
    pub(crate) fn id(&self) -> String {
        format!("{}/{}", self.service, kind_word(self.kind))
    }
}

/// What a person decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Accept,
    Modify,
    Reject,
    Declare,
}

impl Action {
    pub(crate) const ALL: [Self; 4] = [Self::Accept, Self::Modify, Self::Reject, Self::Declare];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Modify => "modify",
            Self::Reject => "reject",
            Self::Declare => "declare",
        }
    }

    /// What the audit log calls it.
    pub(crate) fn audit_action(self) -> &'static str {
        match self {
            Self::Accept => "slo.accepted",
            Self::Modify => "slo.modified",
            Self::Reject => "slo.rejected",
            Self::Declare => "slo.declared",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.word() == word)
    }
}

/// A decision as kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) id: String,
    pub(crate) action: Action,
    pub(crate) service: EntityId,
    pub(crate) recommendation_id: String,
    pub(crate) kind: SliKind,
    /// Which offer; for accept.
    pub(crate) ambition: Option<Ambition>,
    /// `None` for reject.
    pub(crate) target_ratio: Option<f64>,
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) reason: String,
    pub(crate) decided_by: String,
    /// Who approved; empty where nobody had to.
    pub(crate) approved_by: String,
    /// Version of the policy that accepted it; 0 where a person decided.
    pub(crate) policy_version: u32,
    pub(crate) create_ms: UnixMillis,
    /// What is promised below and too little for it; `None` where it holds.
    pub(crate) contradiction: Option<Contradiction>,
}

/// A target that is to come into force.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct NewTarget {
    pub(crate) target: Objective,
    pub(crate) latency_threshold_ms: Option<u32>,
    pub(crate) window: TimeWindow,
    pub(crate) as_recommended: bool,
}

/// A checked decision, ready to be stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) action: Action,
    pub(crate) service: EntityId,
    pub(crate) recommendation_id: String,
    pub(crate) kind: SliKind,
    pub(crate) ambition: Option<Ambition>,
    /// `None` for reject.
    pub(crate) target: Option<NewTarget>,
    pub(crate) reason: String,
    pub(crate) decided_by: String,
    pub(crate) time_ms: UnixMillis,
    /// Version in force that the decision was made on; 0 for none.
    pub(crate) version_match: Option<u32>,
    /// What is promised below and too little for it, and why it is taken all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contradiction: Option<Contradiction>,
}

/// Word of an SLI kind in storage and names.
pub(crate) fn kind_word(kind: SliKind) -> &'static str {
    match kind {
        SliKind::Availability => "availability",
        SliKind::Latency => "latency",
        SliKind::Freshness => "freshness",
    }
}

/// The kind behind a stored word.
pub(crate) fn kind_from_word(word: &str) -> Option<SliKind> {
    [SliKind::Availability, SliKind::Latency, SliKind::Freshness].into_iter().find(|kind| kind_word(*kind) == word)
}

/// Word of an ambition in storage.
pub(crate) fn ambition_word(ambition: Ambition) -> &'static str {
    match ambition {
        Ambition::Conservative => "conservative",
        Ambition::Balanced => "balanced",
        Ambition::Ambitious => "ambitious",
    }
}

/// The ambition behind a stored word.
pub(crate) fn ambition_from_word(word: &str) -> Option<Ambition> {
    Ambition::ALL.into_iter().find(|ambition| ambition_word(*ambition) == word)
}

/// Checks the reason of a decision, and redacts it.
pub(crate) fn checked_reason(action: Action, reason: &str) -> Result<String, InvalidValue> {
    checked_note(reason, matches!(action, Action::Modify | Action::Reject))
}

/// Checks a reason, and redacts it.
pub(crate) fn checked_note(reason: &str, needed: bool) -> Result<String, InvalidValue> {
    let reason = checked_text("reason", reason)?;
    if needed && reason.is_empty() {
        return Err(InvalidValue::new("reason", "required", "say why, so that whoever reads it later understands"));
    }
    Ok(reason)
}

/// Checks the length of what a person wrote, and redacts it.
pub(crate) fn checked_text(field: &str, text: &str) -> Result<String, InvalidValue> {
    let text = text.trim();
    let length = text.chars().count();
    if length > REASON_LEN_MAX {
        let reason = format!("{length} characters; at most {REASON_LEN_MAX} are kept");
        return Err(InvalidValue::new(field, "too_long", reason));
    }
    Ok(redact(text).0.into_owned())
}

/// Checks the threshold of a target: needed for latency and for freshness, refused for availability.
pub(crate) fn checked_threshold(kind: SliKind, threshold_ms: Option<u32>) -> Result<Option<u32>, InvalidValue> {
    let field = "latency_threshold_ms";
    match (kind, threshold_ms.filter(|threshold| *threshold > 0)) {
        (SliKind::Availability, None) => Ok(None),
        (SliKind::Availability, Some(_)) => {
            Err(InvalidValue::new(field, "not_allowed", "an availability SLO has no latency threshold"))
        }
        (SliKind::Latency, None) => {
            Err(InvalidValue::new(field, "required", "say which latency in milliseconds is still good"))
        }
        (SliKind::Latency, Some(threshold)) if threshold <= LATENCY_THRESHOLD_MS_MAX => Ok(Some(threshold)),
        (SliKind::Latency, Some(threshold)) => {
            let text = format!("{threshold} ms is longer than an hour; write milliseconds");
            Err(InvalidValue::new(field, "out_of_range", text))
        }
        (SliKind::Freshness, None) => {
            Err(InvalidValue::new(field, "required", "say which age in milliseconds is still fresh"))
        }
        (SliKind::Freshness, Some(threshold)) if threshold <= AGE_THRESHOLD_MS_MAX => Ok(Some(threshold)),
        (SliKind::Freshness, Some(threshold)) => {
            let text = format!("an age of {threshold} ms is more than a week; write milliseconds");
            Err(InvalidValue::new(field, "out_of_range", text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for action in Action::ALL {
            assert_eq!(Action::from_word(action.word()), Some(action));
        }
        for ambition in Ambition::ALL {
            assert_eq!(ambition_from_word(ambition_word(ambition)), Some(ambition));
        }
        for kind in [SliKind::Availability, SliKind::Latency, SliKind::Freshness] {
            assert_eq!(kind_from_word(kind_word(kind)), Some(kind));
        }
        assert_eq!(kind_from_word("durability"), None);
    }

    #[test]
    fn reasons_and_thresholds_are_asked_for_where_they_matter() {
        let code = |result: Result<String, InvalidValue>| result.map_err(|invalid| invalid.code);
        assert_eq!(code(checked_reason(Action::Reject, "  ")), Err("required"));
        assert_eq!(code(checked_reason(Action::Accept, "")), Ok(String::new()));
        assert_eq!(
            code(checked_reason(Action::Reject, "says jane@mail.example")),
            Ok("says [redacted:email]".to_owned())
        );
        assert_eq!(code(checked_reason(Action::Accept, &"x".repeat(2001))), Err("too_long"));
        let code = |kind, threshold| checked_threshold(kind, threshold).map_err(|invalid| invalid.code);
        assert_eq!(code(SliKind::Latency, None), Err("required"));
        assert_eq!(code(SliKind::Latency, Some(u32::MAX)), Err("out_of_range"));
        assert_eq!(code(SliKind::Latency, Some(200)), Ok(Some(200)));
        assert_eq!(code(SliKind::Availability, Some(200)), Err("not_allowed"));
        assert_eq!(code(SliKind::Availability, Some(0)), Ok(None));
        assert_eq!(code(SliKind::Freshness, Some(0)), Err("required"));
        assert_eq!(code(SliKind::Freshness, Some(86_400_000)), Ok(Some(86_400_000)));
        assert_eq!(code(SliKind::Freshness, Some(604_800_001)), Err("out_of_range"));
    }
}
