use attain_redaction::redact;
use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, InvalidValue, Ratio, UnixMillis};

use super::incident_event::SaidTimes;
use super::{entity_name, optional_text, required_text, without_secrets};

pub(super) const ID_CHARS_MAX: usize = 200;
pub(super) const TITLE_CHARS_MAX: usize = 300;
pub(super) const SUMMARY_CHARS_MAX: usize = 20_000;
pub(super) const PRIORITY_CHARS_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 200;
pub(super) const SERVICES_MAX: usize = 200;

/// What kind of span an incident is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncidentKind {
    /// Something went wrong.
    #[default]
    Incident,
    /// Planned work; always left out of estimates.
    Maintenance,
}

/// Something that went wrong, or planned work. Its free text is redacted.
#[derive(Debug, Clone, PartialEq)]
pub struct Incident {
    /// Stable name in the sender's system.
    pub id: String,
    /// What kind of span it is.
    pub kind: IncidentKind,
    /// One line.
    pub title: String,
    /// Services that were hurt, as its sender says; a person may have said otherwise.
    pub services: BTreeSet<EntityId>,
    /// The service or party that caused it, where known.
    pub cause: Option<EntityId>,
    /// When it began.
    pub start_ms: UnixMillis,
    /// When it ended; `None` while it lasts.
    pub end_ms: Option<UnixMillis>,
    /// Share of requests that failed, where known.
    pub severity: Option<Ratio>,
    /// Priority in the sender's own words.
    pub priority: Option<String>,
    /// What happened.
    pub summary: Option<String>,
    /// Whether its sender says that it is left out of estimates; a person may have decided otherwise.
    pub excluded: bool,
    /// Why.
    pub exclusion_reason: Option<String>,
    /// Which other tool told of it; `None` for a sender of the contract.
    pub origin: Option<String>,
    /// What a person decided on its place in estimates.
    pub decision: Option<ExclusionDecision>,
    /// Services that a person named.
    pub link: Option<ServiceLink>,
    /// When its pager said what is known, field by field.
    pub said: SaidTimes,
}

/// A person's word on whether an incident counts in estimates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExclusionDecision {
    /// Whether it is left out.
    pub excluded: bool,
    /// Why.
    pub reason: Option<String>,
    /// Who says so.
    pub by: String,
    /// When.
    pub time_ms: UnixMillis,
}

/// A person's word on which services an incident hurt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLink {
    /// The services.
    pub services: BTreeSet<EntityId>,
    /// Who says so.
    pub by: String,
    /// When.
    pub time_ms: UnixMillis,
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
    /// What kind of span it is.
    pub kind: IncidentKind,
    /// Priority in the sender's own words.
    pub priority: String,
    /// Which other tool told of it.
    pub origin: Option<&'static str>,
}

impl Incident {
    /// The services that were hurt: as a person named them, else as the sender did.
    pub fn hurt(&self) -> &BTreeSet<EntityId> {
        self.link.as_ref().map_or(&self.services, |link| &link.services)
    }

    /// Every service it concerns: those hurt and the cause.
    pub fn concerned(&self) -> BTreeSet<&EntityId> {
        self.hurt().iter().chain(&self.cause).collect()
    }

    /// Whether it is left out of estimates, and why: planned work always; else as a person decided, else as the sender says.
    pub fn exclusion(&self) -> (bool, Option<&str>) {
        match (&self.kind, &self.decision) {
            (IncidentKind::Maintenance, _) => (true, self.exclusion_reason.as_deref().or(Some(&self.title))),
            (IncidentKind::Incident, Some(decision)) => (decision.excluded, decision.reason.as_deref()),
            (IncidentKind::Incident, None) => (self.excluded, self.exclusion_reason.as_deref()),
        }
    }

    /// When it ended, never before it began: the two may have been told in any order.
    pub fn ended_ms(&self) -> Option<UnixMillis> {
        self.end_ms.map(|end_ms| end_ms.max(self.start_ms))
    }

    /// What a sender wrote in place of what was known; what persons decided stays.
    pub fn replacing(self, before: &Self) -> Self {
        Self { decision: before.decision.clone(), link: before.link.clone(), ..self }
    }
}

impl ExclusionDecision {
    /// Checks and redacts a decision.
    ///
    /// # Errors
    /// Names `reason` where it is missing and needed, or the field that is too long.
    pub fn new(excluded: bool, reason: &str, by: &str, time_ms: UnixMillis) -> Result<Self, InvalidValue> {
        let reason = optional_text("reason", reason, REASON_CHARS_MAX)?;
        if excluded && reason.is_none() {
            return Err(InvalidValue::new("reason", "required", "a reason is required to leave an incident out"));
        }
        let by = redacted(required_text("by", by, NAME_CHARS_MAX)?);
        Ok(Self { excluded, reason: reason.map(redacted), by, time_ms })
    }
}

impl ServiceLink {
    /// Checks and redacts a link.
    ///
    /// # Errors
    /// Names the service that has no such name, or `by` where it is too long.
    pub fn new(service_ids: &[String], by: &str, time_ms: UnixMillis) -> Result<Self, InvalidValue> {
        let by = redacted(required_text("by", by, NAME_CHARS_MAX)?);
        Ok(Self { services: services(service_ids)?, by, time_ms })
    }
}

pub(super) fn redacted(text: String) -> String {
    redact(&text).0.into_owned()
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
        let priority = optional_text("priority", &self.priority, PRIORITY_CHARS_MAX)?;
        Ok(Incident {
            id,
            kind: self.kind,
            title: redacted(title),
            services,
            cause,
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            severity,
            priority: priority.map(redacted),
            summary: summary.map(redacted),
            excluded: self.excluded,
            exclusion_reason: exclusion_reason.map(redacted),
            origin: self.origin.map(str::to_owned),
            decision: None,
            link: None,
            said: SaidTimes::default(),
        })
    }
}

pub(super) fn services(names: &[String]) -> Result<BTreeSet<EntityId>, InvalidValue> {
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
    fn a_persons_word_outlasts_what_its_sender_writes() {
        let mut incident = draft().check(2_000).expect("valid");
        assert_eq!(incident.exclusion(), (false, None));
        incident.decision = Some(ExclusionDecision::new(true, "load test", "jane", 5).expect("valid"));
        incident.link = Some(ServiceLink::new(&["cart".into()], "jane", 5).expect("valid"));
        let later = IncidentDraft { service_ids: vec!["checkout".into()], ..draft() }.check(2_000).expect("valid");
        let kept = later.replacing(&incident);
        assert_eq!(kept.exclusion(), (true, Some("load test")));
        assert_eq!(kept.hurt().iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["cart"]);
        assert_eq!(kept.services.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["checkout"]);

        let planned = IncidentDraft { kind: IncidentKind::Maintenance, ..draft() }.check(2_000).expect("valid");
        let counted = ExclusionDecision::new(false, "", "jane", 5).expect("valid");
        assert!(Incident { decision: Some(counted), ..planned }.exclusion().0, "planned work never counts");
        assert_eq!(ExclusionDecision::new(true, " ", "jane", 5).expect_err("no reason").field, "reason");
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
