use attain_redaction::redact;
use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, InvalidValue, Ratio, UnixMillis};

use super::incident_event::SaidTimes;
use super::maintenance::{self, Bounds};
use super::{entity_name, optional_text, required_text, without_secrets};

pub(super) const ID_CHARS_MAX: usize = 200;
pub(super) const TITLE_CHARS_MAX: usize = 300;
pub(super) const SUMMARY_CHARS_MAX: usize = 20_000;
pub(super) const PRIORITY_CHARS_MAX: usize = 64;
const REASON_CHARS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 200;
pub(super) const SERVICES_MAX: usize = 200;

/// The code of what a sender may not say without the role approver.
pub const NEEDS_APPROVER: &str = "needs_approver";

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
    /// Who sent it with that word; only an approver may.
    pub excluded_by: Option<String>,
    /// Whether its pager says that it was none: declined, cancelled, or part of another one. It concerns no service then.
    pub dismissed: bool,
    /// Services that its pager names and that are not known here.
    pub unknown: BTreeSet<UnknownService>,
    /// What a person decided on its place in estimates.
    pub decision: Option<ExclusionDecision>,
    /// Services that a person named.
    pub link: Option<ServiceLink>,
    /// When its pager said what is known, field by field.
    pub said: SaidTimes,
}

/// A service under its pager's names, redacted, of which none is known here yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnknownService {
    /// Its names, the likeliest first.
    pub names: Vec<String>,
    /// The services that may be meant, the likeliest first.
    pub candidates: Vec<EntityId>,
}

/// Who sends incidents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IncidentSender {
    /// What the gateway calls the sender.
    pub name: String,
    /// Whether it may say what counts in estimates.
    pub may_approve: bool,
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

    /// Every service it concerns: those hurt and the cause; none where there was no incident.
    pub fn concerned(&self) -> BTreeSet<&EntityId> {
        if self.dismissed {
            return BTreeSet::new();
        }
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

    /// When it ended, never before it began: the two may have been told in any order. Planned work ends within its bound,
    /// also where it was told before there was one.
    pub fn ended_ms(&self) -> Option<UnixMillis> {
        let bound_ms = self.start_ms.saturating_add(maintenance::LENGTH_MS_MAX);
        let end_ms = match self.kind {
            IncidentKind::Incident => self.end_ms,
            IncidentKind::Maintenance => Some(self.end_ms.map_or(bound_ms, |end_ms| end_ms.min(bound_ms))),
        };
        end_ms.map(|end_ms| end_ms.max(self.start_ms))
    }

    /// Takes services over that were unknown and are not any more: those for which `found` has one.
    pub fn resolve(&mut self, found: impl Fn(&UnknownService) -> Option<EntityId>) {
        self.unknown.retain(|unknown| match found(unknown) {
            Some(service) => {
                self.services.insert(service);
                false
            }
            None => true,
        });
    }

    /// Whether it, told in place of `before`, leaves out of estimates what was not left out before, or takes a window of
    /// planned work away: `before` is left out, and this says otherwise of when, of whom, or of what it is.
    pub fn moves_exclusion(&self, before: &Self) -> bool {
        let ended_ms = |incident: &Self| incident.ended_ms().unwrap_or(UnixMillis::MAX);
        let of_others = before.link.is_none() && !self.services.is_subset(&before.services);
        let longer = self.start_ms < before.start_ms || ended_ms(self) > ended_ms(before);
        before.exclusion().0 && (self.kind != before.kind || longer || of_others)
    }

    /// What a sender wrote in place of what was known; what persons decided stays.
    pub fn replacing(self, before: &Self) -> Self {
        Self { decision: before.decision.clone(), link: before.link.clone(), ..self }
    }
}

impl UnknownService {
    /// What it may be found by: its names in lower case, and the services that may be meant.
    pub fn keys(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.names.iter().map(|name| name.trim().to_lowercase());
        names.chain(self.candidates.iter().map(ToString::to_string))
    }
}

impl IncidentSender {
    /// Refuses what only an approver may say.
    ///
    /// # Errors
    /// Names the field, with the code [`NEEDS_APPROVER`].
    pub fn approves(&self, field: &str, what: &str) -> Result<(), InvalidValue> {
        if self.may_approve {
            return Ok(());
        }
        Err(InvalidValue::new(field, NEEDS_APPROVER, format!("{what} needs the role approver")))
    }

    pub(super) fn signature(&self) -> String {
        redacted(self.name.chars().take(NAME_CHARS_MAX).collect())
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
    /// Checks everything that can be wrong with an incident, redacts its free text, and refuses what its sender may not say.
    /// Planned work has the bounds of a maintenance window whichever way it comes.
    ///
    /// # Errors
    /// Names the first field that cannot be right, or that needs an approver.
    pub fn admit(self, sender: &IncidentSender, bounds: Bounds) -> Result<Incident, InvalidValue> {
        if self.kind == IncidentKind::Maintenance {
            bounds.check(self.start_ms, self.end_ms, &self.service_ids)?;
            bounds.not_backdated(self.start_ms, sender)?;
            return Ok(Incident { excluded_by: Some(sender.signature()), ..self.check(UnixMillis::MAX)? });
        }
        if !self.excluded {
            return self.check(bounds.latest_ms());
        }
        sender.approves("excluded", "leaving an incident out of estimates")?;
        if self.exclusion_reason.trim().is_empty() {
            let reason = "a reason is required to leave an incident out";
            return Err(InvalidValue::new("exclusion_reason", "required", reason));
        }
        Ok(Incident { excluded_by: Some(sender.signature()), ..self.check(bounds.latest_ms())? })
    }

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
            excluded_by: None,
            dismissed: false,
            unknown: BTreeSet::new(),
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
    use attain_vocabulary::DAY_MS;

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

    const BOUNDS: Bounds = Bounds { now_ms: 10 * DAY_MS, skew_ms: 300_000 };

    fn sender(may_approve: bool) -> IncidentSender {
        IncidentSender { name: "ci".into(), may_approve }
    }

    #[test]
    fn only_an_approver_leaves_an_incident_out_and_says_why() {
        let excluded = IncidentDraft { excluded: true, exclusion_reason: "load test".into(), ..draft() };
        let kept = excluded.clone().admit(&sender(true), BOUNDS).expect("may");
        assert_eq!((kept.exclusion(), kept.excluded_by.as_deref()), ((true, Some("load test")), Some("ci")));
        let error = excluded.clone().admit(&sender(false), BOUNDS).expect_err("may not");
        assert_eq!((error.field.as_str(), error.code), ("excluded", "needs_approver"));
        let silent = IncidentDraft { exclusion_reason: " ".into(), ..excluded };
        let error = silent.admit(&sender(true), BOUNDS).expect_err("no reason");
        assert_eq!((error.field.as_str(), error.code), ("exclusion_reason", "required"));
        assert_eq!(draft().admit(&sender(false), BOUNDS).expect("may").excluded_by, None);
        let planned = IncidentDraft {
            kind: IncidentKind::Maintenance,
            start_ms: 9 * DAY_MS,
            service_ids: vec!["a".into()],
            ..draft()
        };
        let error = planned.clone().admit(&sender(true), BOUNDS).expect_err("no end");
        assert_eq!((error.field.as_str(), error.code), ("end_time", "required"));
        let over = IncidentDraft { end_ms: Some(9 * DAY_MS + 1), ..planned };
        let error = over.clone().admit(&sender(false), BOUNDS).expect_err("over");
        assert_eq!((error.field.as_str(), error.code), ("start_time", "needs_approver"));
        assert_eq!(over.admit(&sender(true), BOUNDS).expect("may").exclusion(), (true, Some("Checkout down")));
    }

    #[test]
    fn planned_work_that_was_told_without_an_end_has_one() {
        let mut window = draft().check(2_000).expect("valid");
        assert_eq!(window.ended_ms(), None);
        window.kind = IncidentKind::Maintenance;
        assert_eq!(window.ended_ms(), Some(1_000 + 31 * DAY_MS));
    }

    #[test]
    fn what_is_left_out_is_not_widened_in_passing() {
        let report = |draft: IncidentDraft| draft.check(i64::MAX).expect("valid");
        let base = IncidentDraft { end_ms: Some(2_000), service_ids: vec!["a".into()], ..draft() };
        let mut known = report(base.clone());
        let longer = report(IncidentDraft { end_ms: None, ..base.clone() });
        assert!(!longer.moves_exclusion(&known), "it counts");
        known.decision = Some(ExclusionDecision::new(true, "drill", "jane", 5).expect("valid"));
        for (told, moves) in [
            (base.clone(), false),
            (IncidentDraft { start_ms: 1_500, ..base.clone() }, false),
            (IncidentDraft { start_ms: 999, ..base.clone() }, true),
            (IncidentDraft { end_ms: Some(2_001), ..base.clone() }, true),
            (IncidentDraft { end_ms: None, ..base.clone() }, true),
            (IncidentDraft { service_ids: vec!["a".into(), "b".into()], ..base.clone() }, true),
            (IncidentDraft { kind: IncidentKind::Maintenance, ..base }, true),
        ] {
            assert_eq!(report(told.clone()).moves_exclusion(&known), moves, "{told:?}");
        }
    }

    #[test]
    fn unknown_services_are_taken_over_when_they_are_found() {
        let mut incident = draft().check(2_000).expect("valid");
        let unknown = |name: &str| UnknownService {
            names: vec![name.to_owned()],
            candidates: vec![EntityId::new("id", name).expect("valid")],
        };
        incident.unknown = BTreeSet::from([unknown("cart"), unknown("mail")]);
        incident.resolve(|unknown| unknown.candidates.iter().find(|id| id.as_str() == "cart").cloned());
        assert_eq!((incident.services.len(), incident.unknown.clone()), (1, BTreeSet::from([unknown("mail")])));
        incident.dismissed = true;
        assert!(incident.concerned().is_empty());
    }
}
