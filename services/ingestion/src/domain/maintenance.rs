use attain_vocabulary::{DAY_MS, InvalidValue, UnixMillis};

use super::incident::{SERVICES_MAX, redacted, services};
use super::{Incident, IncidentDraft, IncidentKind, optional_text, required_text, without_secrets};

/// How far ahead work may be planned, in days.
const AHEAD_DAYS_MAX: i64 = 366;
/// Longest window, in days: a longer one would take more than a month out of estimates by one call.
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

impl MaintenanceDraft {
    /// Checks everything that can be wrong with a window. `unnamed` makes a name of what it says.
    ///
    /// # Errors
    /// Names the first field that cannot be right.
    pub fn check(self, now_ms: UnixMillis, unnamed: impl Fn(&Self) -> String) -> Result<Incident, InvalidValue> {
        without_secrets("window_id", &self.id)?;
        let id = optional_text("window_id", &self.id, ID_CHARS_MAX)?.unwrap_or_else(|| unnamed(&self));
        if self.start_ms > now_ms + AHEAD_DAYS_MAX * DAY_MS {
            let reason = format!("work is planned at most {AHEAD_DAYS_MAX} days ahead");
            return Err(InvalidValue::new("start_time", "too_far_ahead", reason));
        }
        if self.end_ms <= self.start_ms {
            return Err(InvalidValue::new("end_time", "ends_before_start", "the window does not end after it begins"));
        }
        if self.end_ms - self.start_ms > LENGTH_DAYS_MAX * DAY_MS {
            return Err(InvalidValue::new(
                "end_time",
                "too_long",
                format!("a window has at most {LENGTH_DAYS_MAX} days"),
            ));
        }
        if self.service_ids.is_empty() {
            let reason = format!("a window names 1 to {SERVICES_MAX} services");
            return Err(InvalidValue::new("service_ids", "required", reason));
        }
        services(&self.service_ids)?;
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
        draft.check(UnixMillis::MAX)
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

    #[test]
    fn planned_work_may_be_to_come_and_is_left_out() {
        let window = draft().check(NOW_MS, |_| "made".into()).expect("valid");
        assert_eq!((window.id.as_str(), window.kind), ("made", IncidentKind::Maintenance));
        assert_eq!(window.exclusion(), (true, Some("failover drill")));
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (bad, field, code) in [
            (MaintenanceDraft { start_ms: NOW_MS + 400 * DAY_MS, ..draft() }, "start_time", "too_far_ahead"),
            (MaintenanceDraft { end_ms: draft().start_ms, ..draft() }, "end_time", "ends_before_start"),
            (MaintenanceDraft { end_ms: NOW_MS + 40 * DAY_MS, ..draft() }, "end_time", "too_long"),
            (MaintenanceDraft { service_ids: Vec::new(), ..draft() }, "service_ids", "required"),
            (MaintenanceDraft { service_ids: vec!["a b".into()], ..draft() }, "service_ids/0", "malformed_name"),
            (MaintenanceDraft { reason: " ".into(), ..draft() }, "reason", "required"),
        ] {
            let error = bad.check(NOW_MS, |_| "made".into()).expect_err(field);
            assert_eq!((error.field.as_str(), error.code), (field, code));
        }
    }
}
