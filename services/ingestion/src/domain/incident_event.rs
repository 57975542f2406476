use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};

use super::incident::{ID_CHARS_MAX, PRIORITY_CHARS_MAX, SUMMARY_CHARS_MAX, TITLE_CHARS_MAX, redacted};
use super::{Incident, IncidentKind, UnknownService, required_text, without_secrets};

/// Most names that may be services which are remembered of one incident.
const UNKNOWN_MAX: usize = 20;

/// When a pager said what is known of an incident, field by field; `None` where no event did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SaidTimes {
    /// The title.
    pub title_ms: Option<UnixMillis>,
    /// The services.
    pub services_ms: Option<UnixMillis>,
    /// When it began.
    pub start_ms: Option<UnixMillis>,
    /// Whether and when it ended.
    pub end_ms: Option<UnixMillis>,
    /// The priority.
    pub priority_ms: Option<UnixMillis>,
    /// The summary.
    pub summary_ms: Option<UnixMillis>,
    /// Whether it was one at all.
    pub dismissed_ms: Option<UnixMillis>,
}

/// One event of a pager: what it says of an incident, `None` where it is silent. Its free text is redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncidentEvent {
    /// The incident.
    pub id: String,
    /// The pager.
    pub origin: &'static str,
    /// When it happened by the pager's clock: of two events the later one is right, whichever arrives first.
    pub time_ms: UnixMillis,
    /// One line.
    pub title: Option<String>,
    /// Services that were hurt.
    pub services: Option<BTreeSet<EntityId>>,
    /// Services that were hurt under names that nobody knows here; where `services` is `None`, names that may be such.
    pub unknown: BTreeSet<UnknownService>,
    /// Whether it was no incident.
    pub dismissed: Option<bool>,
    /// When it began.
    pub start_ms: Option<UnixMillis>,
    /// Whether it ended, and when: `Some(None)` says that it lasts.
    pub end_ms: Option<Option<UnixMillis>>,
    /// Priority in the pager's own words.
    pub priority: Option<String>,
    /// What happened.
    pub summary: Option<String>,
}

impl IncidentEvent {
    /// Checks what cannot be right and redacts free text; what is longer than is kept is cut. `latest_ms` is the latest time
    /// that is not in the future.
    ///
    /// # Errors
    /// Names the first field that cannot be right.
    pub fn check(mut self, latest_ms: UnixMillis) -> Result<Self, InvalidValue> {
        without_secrets("id", &self.id)?;
        self.id = required_text("id", &self.id, ID_CHARS_MAX)?;
        let times = [("time", Some(self.time_ms)), ("start_time", self.start_ms), ("end_time", self.end_ms.flatten())];
        for (field, time_ms) in times {
            if time_ms.is_some_and(|time_ms| time_ms > latest_ms) {
                return Err(InvalidValue::new(field, "future_time", "the time is in the future"));
            }
        }
        self.title = self.title.and_then(|text| kept(&text, TITLE_CHARS_MAX));
        self.priority = self.priority.and_then(|text| kept(&text, PRIORITY_CHARS_MAX));
        self.summary = self.summary.and_then(|text| kept(&text, SUMMARY_CHARS_MAX));
        Ok(self)
    }

    /// The incident as far as this event alone tells.
    #[must_use]
    pub fn opening(&self) -> Incident {
        let mut incident = Incident {
            id: self.id.clone(),
            kind: IncidentKind::Incident,
            title: self.id.clone(),
            services: BTreeSet::new(),
            cause: None,
            start_ms: self.time_ms,
            end_ms: None,
            severity: None,
            priority: None,
            summary: None,
            excluded: false,
            exclusion_reason: None,
            origin: Some(self.origin.to_owned()),
            excluded_by: None,
            dismissed: false,
            unknown: BTreeSet::new(),
            decision: None,
            link: None,
            said: SaidTimes::default(),
        };
        incident.hear(self);
        incident
    }
}

impl Incident {
    /// Takes an event in: each field that the event speaks of stands as the newest event says. The order of arrival and
    /// deliveries of the same event again make no difference; of two values told for the same instant the greater stands.
    pub fn hear(&mut self, event: &IncidentEvent) {
        let at = event.time_ms;
        if self.said.start_ms.is_none() && event.start_ms.is_none() && self.origin.as_deref() == Some(event.origin) {
            self.start_ms = self.start_ms.min(at);
        }
        newest(&mut self.title, &mut self.said.title_ms, &event.title, at);
        // What is known and what is not are one statement.
        let told = event.services.clone().map(|services| (services, event.unknown.clone()));
        let mut hurt = (std::mem::take(&mut self.services), std::mem::take(&mut self.unknown));
        newest(&mut hurt, &mut self.said.services_ms, &told, at);
        (self.services, self.unknown) = hurt;
        if self.said.services_ms.is_none() {
            self.unknown.extend(event.unknown.iter().cloned());
            // The first in their order, so that the order of arrival makes no difference.
            while self.unknown.len() > UNKNOWN_MAX {
                self.unknown.pop_last();
            }
        }
        newest(&mut self.dismissed, &mut self.said.dismissed_ms, &event.dismissed, at);
        newest(&mut self.start_ms, &mut self.said.start_ms, &event.start_ms, at);
        newest(&mut self.end_ms, &mut self.said.end_ms, &event.end_ms, at);
        newest(&mut self.priority, &mut self.said.priority_ms, &event.priority.clone().map(Some), at);
        newest(&mut self.summary, &mut self.said.summary_ms, &event.summary.clone().map(Some), at);
    }
}

fn newest<T: Clone + Ord>(kept: &mut T, said_ms: &mut Option<UnixMillis>, told: &Option<T>, at_ms: UnixMillis) {
    let Some(told) = told else { return };
    let newer = said_ms.is_none_or(|said_ms| said_ms < at_ms);
    if newer || (*said_ms == Some(at_ms) && *told > *kept) {
        *kept = told.clone();
        *said_ms = Some(at_ms);
    }
}

/// A pager's text in bounds, secrets taken out before it is cut, so that no half of one stays.
fn kept(text: &str, chars_max: usize) -> Option<String> {
    let plain: String =
        text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\r' | '\t') { ' ' } else { c }).collect();
    let cut: String = redacted(plain).trim().chars().take(chars_max).collect();
    Some(cut.trim_end().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(time_ms: i64) -> IncidentEvent {
        IncidentEvent {
            id: "pagerduty:P1".into(),
            origin: "pagerduty",
            time_ms,
            title: None,
            services: None,
            unknown: BTreeSet::new(),
            dismissed: None,
            start_ms: None,
            end_ms: None,
            priority: None,
            summary: None,
        }
    }

    #[test]
    fn resolved_before_triggered_is_resolved() {
        let triggered =
            IncidentEvent { title: Some("Down".into()), start_ms: Some(100), end_ms: Some(None), ..event(110) };
        let resolved = IncidentEvent { end_ms: Some(Some(500)), ..event(500) };
        let mut incident = resolved.opening();
        incident.hear(&triggered);
        incident.hear(&triggered);
        assert_eq!((incident.title.as_str(), incident.start_ms, incident.end_ms), ("Down", 100, Some(500)));
        incident.hear(&IncidentEvent { end_ms: Some(None), ..event(600) });
        assert_eq!(incident.end_ms, None, "opened again");
    }

    #[test]
    fn text_is_redacted_then_cut() {
        let long = IncidentEvent {
            title: Some(format!("{} password=hunter2", "x".repeat(295))),
            summary: Some("\u{0}".into()),
            ..event(1)
        };
        let checked = long.check(10).expect("valid");
        let title = checked.title.expect("a title");
        assert!(title.chars().count() <= 300 && !title.contains("hunt"), "{title}");
        assert_eq!(checked.summary, None);
        let error = IncidentEvent { start_ms: Some(11), ..event(1) }.check(10).expect_err("to come");
        assert_eq!((error.field.as_str(), error.code), ("start_time", "future_time"));
    }

    fn arbitrary_event() -> impl Strategy<Value = IncidentEvent> {
        let text = || prop::option::of("[ab]{1,2}");
        let services = prop::option::of(prop::collection::btree_set("[ab]", 0..3));
        let unknown = prop::collection::btree_set("[cd]", 0..2);
        (
            0i64..4,
            text(),
            services,
            prop::option::of(0i64..4),
            prop::option::of(prop::option::of(0i64..4)),
            text(),
            text(),
            (unknown, prop::option::of(any::<bool>())),
        )
            .prop_map(
                |(time_ms, title, services, start_ms, end_ms, priority, summary, (unknown, dismissed))| IncidentEvent {
                    title,
                    services: services
                        .map(|names| names.iter().map(|n| EntityId::new("id", n).expect("valid")).collect()),
                    unknown: unknown
                        .into_iter()
                        .map(|name| UnknownService { names: vec![name], candidates: Vec::new() })
                        .collect(),
                    dismissed,
                    start_ms,
                    end_ms,
                    priority,
                    summary,
                    ..event(time_ms)
                },
            )
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_makes_no_difference(
            (events, shuffled) in prop::collection::vec(arbitrary_event(), 1..7)
                .prop_flat_map(|events| (Just(events.clone()), Just(events).prop_shuffle()))
        ) {
            let hear = |events: &[IncidentEvent]| {
                let mut incident = events[0].opening();
                // The first one again: deliveries may be repeated.
                events.iter().for_each(|event| incident.hear(event));
                incident
            };
            prop_assert_eq!(hear(&events), hear(&shuffled));
        }
    }
}
