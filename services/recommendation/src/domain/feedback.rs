//! What people say is wrong with a recommendation.

use std::collections::{BTreeMap, BTreeSet};

use attain_redaction::redact;
use attain_vocabulary::{DAY_MS, EntityId, InvalidValue, SliKind, UnixMillis};
use serde::{Deserialize, Serialize};

/// Longest text that is kept, in characters.
const TEXT_LEN_MAX: usize = 2000;
/// How long a dependency that somebody said is wrong is pointed out: as long as history is read, unless set otherwise.
pub(crate) const DISPUTED_MS: i64 = 90 * DAY_MS;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FeedbackKind {
    WrongDependency,
    WrongSplit,
    TooStrict,
    TooLoose,
    Other,
}

impl FeedbackKind {
    pub(crate) const ALL: [Self; 5] =
        [Self::WrongDependency, Self::WrongSplit, Self::TooStrict, Self::TooLoose, Self::Other];

    /// Its word in storage and in the audit log.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::WrongDependency => "wrong_dependency",
            Self::WrongSplit => "wrong_split",
            Self::TooStrict => "too_strict",
            Self::TooLoose => "too_loose",
            Self::Other => "other",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Checked feedback, ready to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewFeedback {
    pub(crate) recommendation_id: String,
    pub(crate) service: EntityId,
    pub(crate) said: Said,
    /// SHA-256 of what was declared of the edges into the dependency, in hex; empty where none is meant.
    pub(crate) edges_sha256: String,
    pub(crate) submitted_by: String,
    pub(crate) time_ms: UnixMillis,
}

/// What was said, each field checked against the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) feedback_kind: FeedbackKind,
    pub(crate) kind: Option<SliKind>,
    pub(crate) dependency: Option<EntityId>,
    /// Without secrets and personal data.
    pub(crate) text: String,
}

/// Feedback as kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feedback {
    pub(crate) id: String,
    pub(crate) new: NewFeedback,
}

/// What one caller said of a dependency, the newest of what they said of the same edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispute {
    pub(crate) dependency: EntityId,
    /// As [`NewFeedback::edges_sha256`]; empty in what was kept before it was.
    pub(crate) edges_sha256: String,
    pub(crate) submitted_by: String,
    pub(crate) time_ms: UnixMillis,
}

/// Dependencies of which a dispute stands, by name: there is still an edge, and nothing else was declared of it since. `declared`
/// tells the hash of what is declared now of the edges into a dependency, `None` where there is no edge.
pub(crate) fn standing(disputes: &[Dispute], declared: impl Fn(&EntityId) -> Option<String>) -> Vec<Disputed> {
    let mut by_name: BTreeMap<&EntityId, Vec<&Dispute>> = BTreeMap::new();
    for dispute in disputes {
        by_name.entry(&dispute.dependency).or_default().push(dispute);
    }
    let disputed = |(dependency, disputes): (&EntityId, Vec<&Dispute>)| {
        let now = declared(dependency)?;
        let stands = |dispute: &&&Dispute| dispute.edges_sha256.is_empty() || dispute.edges_sha256 == now;
        let standing: Vec<&&Dispute> = disputes.iter().filter(stands).collect();
        let callers: BTreeSet<&str> = standing.iter().map(|dispute| dispute.submitted_by.as_str()).collect();
        Some(Disputed {
            dependency: dependency.clone(),
            caller_count: u32::try_from(callers.len()).unwrap_or(u32::MAX),
            time_ms: standing.iter().map(|dispute| dispute.time_ms).max()?,
        })
    };
    by_name.into_iter().filter_map(disputed).collect()
}

/// A dependency that people said is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disputed {
    pub(crate) dependency: EntityId,
    /// How many callers said so.
    pub(crate) caller_count: u32,
    /// When it was said last.
    pub(crate) time_ms: UnixMillis,
}

/// Checks what was said.
pub(crate) fn said(
    feedback_kind: FeedbackKind,
    kind: Option<SliKind>,
    dependency_id: &str,
    text: &str,
) -> Result<Said, Vec<InvalidValue>> {
    let mut faults = Vec::new();
    let dependency = dependency(feedback_kind, dependency_id).map_err(|fault| faults.push(fault)).ok().flatten();
    let text = checked_text(feedback_kind, text).map_err(|fault| faults.push(fault)).ok();
    // What is too strict or too loose is so for one SLI; the first one that comes to mind.
    let tells = matches!(feedback_kind, FeedbackKind::TooStrict | FeedbackKind::TooLoose);
    let kind = kind.or(tells.then_some(SliKind::Availability));
    match text {
        Some(text) if faults.is_empty() => Ok(Said { feedback_kind, kind, dependency, text }),
        _ => Err(faults),
    }
}

fn dependency(feedback_kind: FeedbackKind, id: &str) -> Result<Option<EntityId>, InvalidValue> {
    let field = "dependency_id";
    match (feedback_kind, id.is_empty()) {
        (FeedbackKind::WrongDependency, true) => {
            Err(InvalidValue::new(field, "required", "name the dependency that is wrong"))
        }
        (FeedbackKind::WrongDependency, false) => {
            let id = EntityId::new(field, id)?;
            if redact(id.as_str()).1 > 0 {
                return Err(InvalidValue::new(field, "not_allowed", "the name holds a secret or personal data"));
            }
            Ok(Some(id))
        }
        (_, true) => Ok(None),
        (_, false) => Err(InvalidValue::new(field, "not_allowed", "only a wrong dependency names one")),
    }
}

fn checked_text(feedback_kind: FeedbackKind, text: &str) -> Result<String, InvalidValue> {
    let text = text.trim();
    if feedback_kind == FeedbackKind::Other && text.is_empty() {
        return Err(InvalidValue::new("text", "required", "say what is wrong"));
    }
    let length = text.chars().count();
    if length > TEXT_LEN_MAX {
        let reason = format!("{length} characters; at most {TEXT_LEN_MAX} are kept");
        return Err(InvalidValue::new("text", "too_long", reason));
    }
    Ok(redact(text).0.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back() {
        for kind in FeedbackKind::ALL {
            assert_eq!(FeedbackKind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(FeedbackKind::from_word("praise"), None);
    }

    #[test]
    fn a_dispute_stands_as_long_as_the_edge_is_what_was_disputed() {
        let id = |name| EntityId::new("id", name).expect("valid");
        let dispute = |name, edges: &str, by: &str, time_ms| Dispute {
            dependency: id(name),
            edges_sha256: edges.into(),
            submitted_by: by.into(),
            time_ms,
        };
        let disputes = [
            dispute("db", "before", "ada", 9),
            dispute("db", "now", "ada", 5),
            dispute("db", "now", "bob", 7),
            // Kept before hashes were.
            dispute("db", "", "bob", 3),
            dispute("cache", "before", "ada", 4),
            dispute("gone", "now", "ada", 4),
        ];
        let declared = |of: &EntityId| (of.as_str() != "gone").then(|| "now".to_owned());
        assert_eq!(standing(&disputes, declared), [Disputed { dependency: id("db"), caller_count: 2, time_ms: 7 }]);
        assert_eq!(standing(&disputes, |_| None), []);
    }

    #[test]
    fn each_kind_takes_what_it_needs() {
        let checked = |kind, dependency: &str, text: &str| said(kind, None, dependency, text);
        let faults = |result: Result<Said, Vec<InvalidValue>>| -> Vec<(String, String)> {
            let faults = result.expect_err("refused");
            faults.into_iter().map(|fault| (fault.field.to_string(), fault.code.to_string())).collect()
        };
        let one = |field: &str, code: &str| vec![(field.to_owned(), code.to_owned())];
        assert_eq!(faults(checked(FeedbackKind::WrongDependency, "", "")), one("dependency_id", "required"));
        assert_eq!(faults(checked(FeedbackKind::TooStrict, "db", "")), one("dependency_id", "not_allowed"));
        assert_eq!(faults(checked(FeedbackKind::Other, "", "  ")), one("text", "required"));
        assert_eq!(faults(checked(FeedbackKind::Other, "", &"x".repeat(2001))), one("text", "too_long"));
        let wrong = checked(FeedbackKind::WrongDependency, "db", "ask jane@mail.example").expect("kept");
        assert_eq!(wrong.text, "ask [redacted:email]");
        assert_eq!((wrong.dependency.as_ref().map(EntityId::as_str), wrong.kind), (Some("db"), None));
        let strict = checked(FeedbackKind::TooStrict, "", "").expect("kept");
        assert_eq!((strict.dependency, strict.kind), (None, Some(SliKind::Availability)));
    }
}
