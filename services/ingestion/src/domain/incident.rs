use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, InvalidValue, Ratio, UnixMillis};

use super::{entity_name, optional_text, required_text, without_secrets};

const ID_CHARS_MAX: usize = 200;
const TITLE_CHARS_MAX: usize = 300;
const SUMMARY_CHARS_MAX: usize = 20_000;
const REASON_CHARS_MAX: usize = 1_000;
const SERVICES_MAX: usize = 200;

/// Something that went wrong. Its free text is redacted.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Stable name in the sender's system.
    pub id: String,
    /// One line.
    pub title: String,
    /// Services that were hurt.
    pub services: BTreeSet<EntityId>,
    /// The service or party that caused it, where known.
    pub cause: Option<EntityId>,
    /// When it began.
    pub start_ms: UnixMillis,
    /// When it ended; `None` while it lasts.
    pub end_ms: Option<UnixMillis>,
    /// Share of requests that failed, where known.
    pub severity: Option<Ratio>,
    /// What happened.
    pub summary: Option<String>,
    /// Whether a person excluded it from estimates.
    pub excluded: bool,
    /// Why it is excluded.
    pub exclusion_reason: Option<String>,
}

/// An incident as a sender wrote it, before it is checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IncidentDraft {
    /// Stable name in the sender's system.
    pub id: String,
    /// One line.
    pub title: String,
    /// Services that were hurt.
    pub service_ids: Vec<String>,
    /// The cause; empty when not known.
    pub cause_service_id: String,
    /// When it began.
    pub start_ms: UnixMillis,
    /// When it ended.
    pub end_ms: Option<UnixMillis>,
    /// Share of requests that failed.
    pub severity_ratio: Option<f64>,
    /// What happened.
    pub summary: String,
    /// Whether a person excluded it.
    pub excluded: bool,
    /// Why.
    pub exclusion_reason: String,
}

impl Incident {
    /// Every service it concerns: those hurt and the cause.
    pub fn concerned(&self) -> BTreeSet<&EntityId> {
        self.services.iter().chain(&self.cause).collect()
    }
}

impl IncidentDraft {
    /// Checks everything that can be wrong with an incident, and redacts its free text. `latest_ms` is the latest
    /// beginning that is not in the future.
    ///
    /// # Errors
    /// Names the first field that cannot be right.
    pub fn check(self, latest_ms: UnixMillis) -> Result<Incident, InvalidValue> {
        without_secrets("id", &self.id)?;
        let id = required_text("id", &self.id, ID_CHARS_MAX)?;
        let title = required_text("title", &self.title, TITLE_CHARS_MAX)?;
        let services = services(&self.service_ids)?;
        let named = !self.cause_service_id.is_empty();
        let cause = named.then(|| entity_name("cause_service_id", &self.cause_service_id)).transpose()?;
        if self.start_ms > latest_ms {
            return Err(InvalidValue::new("start_time", "future_time", "the incident begins in the future"));
        }
        if self.end_ms.is_some_and(|end_ms| end_ms < self.start_ms) {
            return Err(InvalidValue::new("end_time", "ends_before_start", "the incident ends before it begins"));
        }
        let severity = self.severity_ratio.map(|value| Ratio::new("severity_ratio", value)).transpose()?;
        let summary = optional_text("summary", &self.summary, SUMMARY_CHARS_MAX)?;
        let exclusion_reason = optional_text("exclusion_reason", &self.exclusion_reason, REASON_CHARS_MAX)?;
        Ok(Incident {
            id,
            title,
            services,
            cause,
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            severity,
            summary,
            excluded: self.excluded,
            exclusion_reason,
        })
    }
}

fn services(names: &[String]) -> Result<BTreeSet<EntityId>, InvalidValue> {
    if names.len() > SERVICES_MAX {
        let reason = format!("{} services; at most {SERVICES_MAX} are kept", names.len());
        return Err(InvalidValue::new("service_ids", "too_long", reason));
    }
    names.iter().enumerate().map(|(i, name)| entity_name(&format!("service_ids/{i}"), name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> IncidentDraft {
        IncidentDraft { id: "INC-1".into(), title: "Checkout down".into(), start_ms: 1_000, ..IncidentDraft::default() }
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        let cases = [
            (IncidentDraft { id: " ".into(), ..draft() }, "id", "required"),
            (IncidentDraft { id: "x".repeat(201), ..draft() }, "id", "too_long"),
            (IncidentDraft { title: String::new(), ..draft() }, "title", "required"),
            (
                IncidentDraft { service_ids: vec!["a".into(), "b c".into()], ..draft() },
                "service_ids/1",
                "malformed_name",
            ),
            (IncidentDraft { service_ids: vec!["a".into(); 201], ..draft() }, "service_ids", "too_long"),
            (IncidentDraft { cause_service_id: "-".into(), ..draft() }, "cause_service_id", "malformed_name"),
            (IncidentDraft { start_ms: 2_001, ..draft() }, "start_time", "future_time"),
            (IncidentDraft { end_ms: Some(999), ..draft() }, "end_time", "ends_before_start"),
            (IncidentDraft { severity_ratio: Some(1.5), ..draft() }, "severity_ratio", "out_of_range"),
            (IncidentDraft { severity_ratio: Some(f64::NAN), ..draft() }, "severity_ratio", "not_a_number"),
            (IncidentDraft { summary: "x".repeat(20_001), ..draft() }, "summary", "too_long"),
        ];
        for (draft, field, code) in cases {
            let error = draft.check(2_000).expect_err(field);
            assert_eq!((error.field.as_str(), error.code), (field, code));
        }
    }

    #[test]
    fn free_text_is_redacted_and_the_cause_is_concerned() {
        let draft = IncidentDraft {
            service_ids: vec!["b".into(), "a".into(), "a".into()],
            cause_service_id: "c".into(),
            summary: "rotated password=hunter2".into(),
            ..draft()
        };
        let incident = draft.check(2_000).expect("valid");
        assert_eq!(incident.concerned().iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert!(!incident.summary.expect("a summary").contains("hunter2"));
    }
}
