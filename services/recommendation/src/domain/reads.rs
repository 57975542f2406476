//! Who read what, as the audit log keeps it: ids and hashes, never the question or the answer.

use std::collections::BTreeMap;

use attain_redaction::redact;
use attain_runtime::context::RECOMMENDATION_CALLER;
use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use super::audit::{Entry, READ_PREFIX};

/// What the log calls a call, by the name of its RPC; of a call that writes, what it calls one that was refused. Calls that write
/// leave the record of what they did in the transaction that did it.
pub(crate) const ACTIONS: &[(&str, &str)] = &[
    ("GetSloRecommendations", "read.recommendation"),
    ("GetRecommendation", "read.recommendation"),
    ("ReplayRecommendation", "read.replay"),
    ("GetRecommendationChanges", "read.changes"),
    ("ListSlos", "read.slos"),
    ("ListDecisions", "read.decisions"),
    ("AnalyzeImpact", "read.impact"),
    ("AnalyzeWhatIf", "read.what_if"),
    ("AnalyzeConsistency", "read.consistency"),
    ("ListAuditRecords", "read.audit"),
    ("GetAuditHead", "read.audit"),
    ("GetLearning", "read.learning"),
    ("ListFeedback", "read.feedback"),
    ("ListDrift", "read.drift"),
    ("ListModels", "read.models"),
    ("GetModelScores", "read.models"),
    ("RegisterModel", "model.refused"),
    ("PromoteModel", "model.refused"),
    ("RollBackModel", "model.refused"),
    ("ListExperiments", "read.experiments"),
    ("GetExperiment", "read.experiments"),
    ("StartExperiment", "experiment.refused"),
    ("StopExperiment", "experiment.refused"),
    ("GetErrorBudgets", "read.error_budgets"),
    ("GetAlerts", "read.alerts"),
    ("GetSlaSuggestion", "read.sla_suggestion"),
    ("GetSloExport", "read.slos"),
    ("ImportSlos", "slo.refused"),
    ("GetCalibration", "read.calibration"),
    ("ListRecommendations", "read.recommendations"),
    ("ListPendingDecisions", "read.pending_decisions"),
    ("GetPolicy", "read.policy"),
    ("ListPolicyVersions", "read.policy"),
    ("ListRegisteredSlos", "read.slos"),
    ("GetSlo", "read.slos"),
    ("ListSloVersions", "read.slos"),
    ("ApproveDecision", "pending_decision.refused"),
    ("RefuseDecision", "pending_decision.refused"),
    ("WithdrawDecision", "pending_decision.refused"),
    ("SetPolicy", "policy.refused"),
    ("DecideSlo", "slo.refused"),
    ("SubmitFeedback", "feedback.refused"),
    ("ListWebhooks", "read.webhooks"),
    ("ListDeliveries", "read.deliveries"),
    ("CreateWebhook", "webhook.refused"),
    ("DeleteWebhook", "webhook.refused"),
    ("RotateWebhookSecret", "webhook.refused"),
    ("RetryDelivery", "webhook.refused"),
];

/// What the log calls a call that writes whose caller went away before it was told the end: it may have been done, and then it
/// has its own record, or not.
pub(crate) const WRITE_ABANDONED: &str = "write.abandoned";

/// How the log says that reads were not recorded one by one.
pub(crate) const DROPPED: &str = "reads.dropped";

/// Outcome of a call that was answered.
pub(crate) const ANSWERED: &str = "OK";
/// Outcome of a call whose caller went away before the answer.
pub(crate) const ABANDONED: &str = "ABANDONED";

/// Longest name of a recommendation that is written down: those that there are have 24 characters.
const RECOMMENDATION_ID_LEN_MAX: usize = 40;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Read {
    pub(crate) rpc: &'static str,
    pub(crate) caller: String,
    pub(crate) role: Option<&'static str>,
    /// Empty where none is meant, or what was given is no name of a service.
    pub(crate) service_id: String,
    /// Empty likewise.
    pub(crate) recommendation_id: String,
    /// SHA-256 of the request, in hex.
    pub(crate) asked_sha256: String,
    /// What was answered; `None` where nothing was.
    pub(crate) answer: Option<Answer>,
    /// [`ANSWERED`], [`ABANDONED`] or the reason of a refusal.
    pub(crate) outcome: &'static str,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    /// Version of the recommendation; 0 where the answer is none.
    pub(crate) version: u32,
    /// SHA-256 in hex: of the recommendation's result as its record has it, else of the whole answer.
    pub(crate) sha256: String,
}

/// A call, whose and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) tenant: TenantId,
    pub(crate) time_ms: UnixMillis,
    pub(crate) read: Read,
}

/// Reads of a tenant that found no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) count: u64,
    pub(crate) first_ms: UnixMillis,
    pub(crate) last_ms: UnixMillis,
}

impl Lost {
    pub(crate) fn one(time_ms: UnixMillis) -> Self {
        Self { count: 1, first_ms: time_ms, last_ms: time_ms }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            first_ms: self.first_ms.min(other.first_ms),
            last_ms: self.last_ms.max(other.last_ms),
        }
    }
}

/// The name of a service as it may be written down; empty where it is none, or holds what is redacted.
pub(crate) fn service_named(text: &str) -> String {
    match EntityId::new("service_id", text) {
        Ok(id) if redact(text).1 == 0 => id.to_string(),
        _ => String::new(),
    }
}

/// The same for a recommendation, of a whole service or of a region, whose name follows an `@`.
pub(crate) fn recommendation_named(text: &str) -> String {
    let (whole, region) = text.split_once('@').map_or((text, None), |(whole, region)| (whole, Some(region)));
    let plain = whole.len() <= RECOMMENDATION_ID_LEN_MAX
        && region.is_none_or(|region| !service_named(region).is_empty())
        && whole.strip_prefix("rec-").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if plain { text.to_owned() } else { String::new() }
}

/// The records of a batch, each tenant's by itself and by time: what was lost first, then one for all calls that are alike in who
/// asked what and was answered what, with how many there were and when the last was.
pub(crate) fn entries(noted: Vec<Noted>, lost: &BTreeMap<TenantId, Lost>) -> BTreeMap<TenantId, Vec<Entry>> {
    let mut alike: BTreeMap<TenantId, BTreeMap<Read, Lost>> = BTreeMap::new();
    for Noted { tenant, time_ms, read } in noted {
        let one = Lost::one(time_ms);
        alike.entry(tenant).or_default().entry(read).and_modify(|all| *all = all.and(one)).or_insert(one);
    }
    let mut entries: BTreeMap<TenantId, Vec<Entry>> =
        lost.iter().map(|(tenant, lost)| (tenant.clone(), vec![dropped(*lost)])).collect();
    for (tenant, reads) in alike {
        let mut reads: Vec<(Read, Lost)> = reads.into_iter().collect();
        reads.sort_by_key(|(_, times)| times.first_ms);
        entries.entry(tenant).or_default().extend(reads.into_iter().map(|(read, times)| entry(read, times)));
    }
    entries
}

fn entry(read: Read, times: Lost) -> Entry {
    let action = action(&read);
    let detail = serde_json::json!({
        "rpc": read.rpc,
        "role": read.role,
        "recommendation_id": read.recommendation_id,
        "version": read.answer.as_ref().map(|answer| answer.version).filter(|version| *version > 0),
        "asked_sha256": read.asked_sha256,
        "answer_sha256": read.answer.map(|answer| answer.sha256),
        "outcome": read.outcome,
        "count": times.count,
        "last_time_ms": times.last_ms,
    });
    Entry {
        time_ms: times.first_ms,
        caller: read.caller,
        action: action.to_owned(),
        service_id: read.service_id,
        detail_json: detail.to_string(),
    }
}

fn action(read: &Read) -> &'static str {
    let action = ACTIONS.iter().find(|(rpc, _)| *rpc == read.rpc).map_or("read.other", |(_, action)| *action);
    let writes = !action.starts_with(READ_PREFIX);
    if writes && read.outcome == ABANDONED { WRITE_ABANDONED } else { action }
}

/// The calls of a record that could not be written.
pub(crate) fn lost(entry: &Entry) -> Lost {
    let detail: serde_json::Value = serde_json::from_str(&entry.detail_json).unwrap_or_default();
    Lost {
        count: detail["count"].as_u64().unwrap_or(1),
        first_ms: entry.time_ms,
        last_ms: detail["last_time_ms"].as_i64().unwrap_or(entry.time_ms),
    }
}

fn dropped(lost: Lost) -> Entry {
    let detail = serde_json::json!({ "count": lost.count, "last_time_ms": lost.last_ms });
    Entry {
        time_ms: lost.first_ms,
        caller: RECOMMENDATION_CALLER.to_owned(),
        action: DROPPED.to_owned(),
        service_id: String::new(),
        detail_json: detail.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn noted(tenant: &str, time_ms: UnixMillis, caller: &str) -> Noted {
        let read = Read {
            rpc: "GetRecommendation",
            caller: caller.into(),
            role: Some("reader"),
            service_id: "checkout".into(),
            recommendation_id: "rec-1".into(),
            asked_sha256: "aa".into(),
            answer: Some(Answer { version: 3, sha256: "bb".into() }),
            outcome: ANSWERED,
        };
        Noted { tenant: TenantId::new("tenant", tenant).expect("valid"), time_ms, read }
    }

    #[test]
    fn what_is_alike_is_one_record_and_nothing_is_uncounted() {
        let batch = vec![noted("a", 5, "ada"), noted("b", 1, "ada"), noted("a", 7, "ada"), noted("a", 3, "bob")];
        let lost = BTreeMap::from([(batch[1].tenant.clone(), Lost { count: 9, first_ms: 2, last_ms: 4 })]);
        let entries = entries(batch, &lost);
        let told: Vec<(&str, &str, i64, u64)> = entries
            .iter()
            .flat_map(|(tenant, entries)| {
                entries.iter().map(|entry| {
                    let detail: Value = serde_json::from_str(&entry.detail_json).expect("JSON");
                    let count = detail["count"].as_u64().expect("a count");
                    (tenant.as_str(), entry.action.as_str(), entry.time_ms, count)
                })
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a", "read.recommendation", 3, 1),
                ("a", "read.recommendation", 5, 2),
                ("b", DROPPED, 2, 9),
                ("b", "read.recommendation", 1, 1),
            ]
        );
        let detail: Value =
            serde_json::from_str(&entries.first_key_value().expect("one").1[1].detail_json).expect("JSON");
        assert_eq!((detail["last_time_ms"].as_i64(), detail["version"].as_u64()), (Some(7), Some(3)));
    }

    #[test]
    fn a_write_whose_caller_went_away_is_not_called_refused() {
        let action_of = |rpc, outcome| action(&Read { rpc, outcome, ..noted("a", 0, "ada").read });
        assert_eq!(action_of("DecideSlo", "VERSION_MISMATCH"), "slo.refused");
        assert_eq!(action_of("DecideSlo", ABANDONED), WRITE_ABANDONED);
        assert_eq!(action_of("ListSlos", ABANDONED), "read.slos");
    }

    #[test]
    fn the_calls_of_a_record_are_counted_again() {
        let batch = vec![noted("a", 5, "ada"), noted("a", 7, "ada")];
        let entries = entries(batch, &BTreeMap::new());
        assert_eq!(lost(&entries.first_key_value().expect("one").1[0]), Lost { count: 2, first_ms: 5, last_ms: 7 });
        assert_eq!(
            lost(&dropped(Lost { count: 9, first_ms: 2, last_ms: 4 })),
            Lost { count: 9, first_ms: 2, last_ms: 4 }
        );
    }

    #[test]
    fn the_page_about_the_log_names_every_action() {
        let page = include_str!("../../../../docs/recommendation/audit.md");
        let table: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        let named = |action: &str| table.iter().any(|line| line.contains(&format!("`{action}`")));
        for action in ACTIONS.iter().map(|(_, action)| *action).chain([DROPPED, WRITE_ABANDONED]) {
            assert!(named(action), "{action} is in no row of the table");
        }
    }

    #[test]
    fn only_names_are_written_down() {
        assert_eq!(service_named("checkout"), "checkout");
        assert_eq!(service_named("jane.doe@mail.example"), "");
        assert_eq!(service_named(""), "");
        assert_eq!(recommendation_named("rec-0123456789abcdef0123"), "rec-0123456789abcdef0123");
        assert_eq!(recommendation_named("rec-0123@eu-west-1"), "rec-0123@eu-west-1");
        for other in [
            "",
            "rec-jane",
            "rec-0123@",
            "rec-0123@jane.doe@mail.example",
            "0123@eu",
            "jane.doe@mail.example",
            &format!("rec-{}", "a".repeat(99)),
        ] {
            assert_eq!(recommendation_named(other), "");
        }
    }
}
