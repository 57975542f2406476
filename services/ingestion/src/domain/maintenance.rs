use attain_vocabulary::{DAY_MS, InvalidValue, UnixMillis};

use super::incident::{SERVICES_MAX, redacted, services};
use super::{Incident, IncidentDraft, IncidentKind, IncidentSender, optional_text, required_text, without_secrets};

/// Longest window: a longer one would take more than a month out of estimates by one call.
pub(super) const LENGTH_MS_MAX: i64 = LENGTH_DAYS_MAX * DAY_MS;
/// How far ahead work may be planned, in days.
const AHEAD_DAYS_MAX: i64 = 366;
const LENGTH_DAYS_MAX: i64 = 31;
const REASON_CHARS_MAX: usize = 300;
const ID_CHARS_MAX: usize = 200;

/// A span of planned work as somebody declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceDraft {
    /// A name; empty for `unnamed`.
    pub id: String,
    /// When it begins.
    pub start_ms: UnixMillis,
    /// When it ends.
    pub end_ms: UnixMillis,
    /// What is worked on.
    pub service_ids: Vec<String>,
    /// What is done.
    pub reason: String,
}

/// When planned work may be, whichever way it is told.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The time.
    pub now_ms: UnixMillis,
    /// How far a sender's clock may be off.
    pub skew_ms: i64,
}

impl Bounds {
    pub(super) fn latest_ms(self) -> UnixMillis {
        self.now_ms.saturating_add(self.skew_ms)
    }

    pub(super) fn check(
        self,
        start_ms: UnixMillis,
        end_ms: Option<UnixMillis>,
        service_ids: &[String],
    ) -> Result<(), InvalidValue> {
        let Some(end_ms) = end_ms else {
            return Err(InvalidValue::new("end_time", "required", "planned work has an end"));
        };
        if start_ms > self.now_ms.saturating_add(AHEAD_DAYS_MAX * DAY_MS) {
            let reason = format!("work is planned at most {AHEAD_DAYS_MAX} days ahead");
            return Err(InvalidValue::new("start_time", "too_far_ahead", reason));
        }
        if end_ms <= start_ms {
            return Err(InvalidValue::new("end_time", "ends_before_start", "the window does not end after it begins"));
        }
        if end_ms.saturating_sub(start_ms) > LENGTH_MS_MAX {
            let reason = format!("a window has at most {LENGTH_DAYS_MAX} days");
            return Err(InvalidValue::new("end_time", "too_long", reason));
        }
        if service_ids.is_empty() {
            let reason = format!("a window names 1 to {SERVICES_MAX} services");
            return Err(InvalidValue::new("service_ids", "required", reason));
        }
        services(service_ids).map(drop)
    }

    /// What is over was measured already: whoever takes it out of estimates decides.
    pub(super) fn not_backdated(self, start_ms: UnixMillis, sender: &IncidentSender) -> Result<(), InvalidValue> {
        if start_ms >= self.now_ms.saturating_sub(self.skew_ms) {
            return Ok(());
        }
        sender.approves("start_time", "planned work that began before it is declared")
    }
}

impl MaintenanceDraft {
    /// Checks everything that can be wrong with a window. `unnamed` makes a name of what it says.
    ///
    /// # Errors
    /// Names the first field that cannot be right.
    pub fn check(
        self,
        sender: &IncidentSender,
        bounds: Bounds,
        unnamed: impl Fn(&Self) -> String,
    ) -> Result<Incident, InvalidValue> {
        without_secrets("window_id", &self.id)?;
        let id = optional_text("window_id", &self.id, ID_CHARS_MAX)?.unwrap_or_else(|| unnamed(&self));
        bounds.check(self.start_ms, Some(self.end_ms), &self.service_ids)?;
        let reason = redacted(required_text("reason", &self.reason, REASON_CHARS_MAX)?);
        let draft = IncidentDraft {
            id,
            kind: IncidentKind::Maintenance,
            title: reason.clone(),
            service_ids: self.service_ids,
            start_ms: self.start_ms,
            end_ms: Some(self.end_ms),
            excluded: true,
            exclusion_reason: reason,
            ..IncidentDraft::default()
        };
        Ok(Incident { excluded_by: Some(sender.signature()), ..draft.check(UnixMillis::MAX)? })
    }
}

impl Incident {
    /// Refuses a window that takes out of estimates what has been measured already, unless an approver declares it or
    /// `known` covered it before.
    ///
    /// # Errors
    /// Names `start_time`.
    pub fn plans_ahead(
        &self,
        known: Option<&Self>,
        sender: &IncidentSender,
        bounds: Bounds,
    ) -> Result<(), InvalidValue> {
        let past_ms = bounds.now_ms.saturating_sub(bounds.skew_ms);
        let covers = |known: &Self| {
            let end_ms = self.ended_ms().unwrap_or(UnixMillis::MAX).min(past_ms);
            known.kind == IncidentKind::Maintenance
                && self.start_ms >= known.start_ms
                && known.ended_ms().is_some_and(|known_ms| end_ms <= known_ms)
                && self.services.is_subset(known.hurt())
        };
        if known.is_some_and(covers) { Ok(()) } else { bounds.not_backdated(self.start_ms, sender) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_793_491_200_000;

    fn draft() -> MaintenanceDraft {
        MaintenanceDraft {
            id: String::new(),
            start_ms: NOW_MS + DAY_MS,
            end_ms: NOW_MS + 2 * DAY_MS,
            service_ids: vec!["user-db".into()],
            reason: "failover drill".into(),
        }
    }

    const BOUNDS: Bounds = Bounds { now_ms: NOW_MS, skew_ms: 300_000 };

    fn sender(may_approve: bool) -> IncidentSender {
        IncidentSender { name: "ci".into(), may_approve }
    }

    fn check(draft: MaintenanceDraft) -> Result<Incident, InvalidValue> {
        draft.check(&sender(false), BOUNDS, |_| "made".into())
    }

    #[test]
    fn planned_work_may_be_to_come_and_is_left_out() {
        let window = check(draft()).expect("valid");
        assert_eq!((window.id.as_str(), window.kind), ("made", IncidentKind::Maintenance));
        assert_eq!((window.exclusion(), window.excluded_by.as_deref()), ((true, Some("failover drill")), Some("ci")));
    }

    #[test]
    fn what_cannot_be_right_is_named_whichever_way_it_comes() {
        for (bad, field, code) in [
            (MaintenanceDraft { start_ms: NOW_MS + 400 * DAY_MS, ..draft() }, "start_time", "too_far_ahead"),
            (MaintenanceDraft { end_ms: draft().start_ms, ..draft() }, "end_time", "ends_before_start"),
            (MaintenanceDraft { end_ms: NOW_MS + 40 * DAY_MS, ..draft() }, "end_time", "too_long"),
            (MaintenanceDraft { start_ms: i64::MIN, ..draft() }, "end_time", "too_long"),
            (MaintenanceDraft { service_ids: Vec::new(), ..draft() }, "service_ids", "required"),
            (MaintenanceDraft { service_ids: vec!["a b".into()], ..draft() }, "service_ids/0", "malformed_name"),
        ] {
            let row = IncidentDraft {
                id: "W-1".into(),
                title: "drill".into(),
                kind: IncidentKind::Maintenance,
                start_ms: bad.start_ms,
                end_ms: Some(bad.end_ms),
                service_ids: bad.service_ids.clone(),
                ..IncidentDraft::default()
            };
            for error in [check(bad).expect_err(field), row.admit(&sender(true), BOUNDS).expect_err(field)] {
                assert_eq!((error.field.as_str(), error.code), (field, code));
            }
        }
        let error = check(MaintenanceDraft { reason: " ".into(), ..draft() }).expect_err("no reason");
        assert_eq!((error.field.as_str(), error.code), ("reason", "required"));
    }

    #[test]
    fn what_is_over_is_taken_out_by_an_approver_alone() {
        let window = |from_ms: i64, to_ms: i64, service: &str| {
            let span = MaintenanceDraft { start_ms: NOW_MS + from_ms, end_ms: NOW_MS + to_ms, ..draft() };
            check(MaintenanceDraft { service_ids: vec![service.into()], ..span }).expect("valid")
        };
        let refused = |window: &Incident, known: Option<&Incident>| {
            assert_eq!(window.plans_ahead(known, &sender(true), BOUNDS), Ok(()));
            window.plans_ahead(known, &sender(false), BOUNDS).err().map(|error| (error.field, error.code))
        };
        let no = Some(("start_time".to_owned(), "needs_approver"));
        let (long_ago, running) = (window(-DAY_MS, -1, "user-db"), window(-DAY_MS, DAY_MS, "user-db"));
        assert_eq!(refused(&window(-300_000, DAY_MS, "user-db"), None), None, "clocks differ");
        assert_eq!(refused(&long_ago, None), no);
        assert_eq!(refused(&long_ago, Some(&long_ago)), None, "declared again");
        assert_eq!(refused(&window(-DAY_MS, 2 * DAY_MS, "user-db"), Some(&running)), None, "it takes longer");
        assert_eq!(refused(&window(-DAY_MS, DAY_MS, "user-db"), Some(&window(-DAY_MS, -DAY_MS / 2, "user-db"))), no);
        assert_eq!(refused(&window(-2 * DAY_MS, DAY_MS, "user-db"), Some(&running)), no);
        assert_eq!(refused(&window(-DAY_MS, DAY_MS, "cart"), Some(&running)), no);
    }
}
