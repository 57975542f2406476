//! Calls that Jaeger counted, by the span of time that it counted them in: the same span never counts twice, spans that overlap
//! are refused. Pure.

use std::collections::BTreeMap;

use attain_vocabulary::{DAY_MS, Source, UnixMillis};

use super::{CountedEdge, Format};
use crate::domain::{ObservedEdge, Sightings};
use crate::{Config, Error};

/// Under which counted dependencies are remembered by the span of time that they were counted in.
pub(super) const WINDOW_PREFIX: &str = "jaeger/";

/// Calls that were counted in one span of time, by caller and callee.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WindowRecord {
    #[prost(message, repeated, tag = "1")]
    edges: Vec<EdgeCount>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EdgeCount {
    #[prost(string, tag = "1")]
    caller: String,
    #[prost(string, tag = "2")]
    callee: String,
    #[prost(uint64, tag = "3")]
    call_count: u64,
}

/// The span of time that counts were taken in; `None` where nobody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window(Option<(UnixMillis, UnixMillis)>);

impl Window {
    /// Sorts by the end, so that old ones can be forgotten.
    pub(super) fn key(self) -> String {
        match self.0 {
            Some((start_ms, end_ms)) => format!("{WINDOW_PREFIX}{end_ms:020}/{start_ms:020}"),
            None => format!("{WINDOW_PREFIX}unnamed"),
        }
    }

    /// The span of a key; `None` for that of no span.
    pub(super) fn read(key: &str) -> Option<Self> {
        let (end_ms, start_ms) = key.strip_prefix(WINDOW_PREFIX)?.split_once('/')?;
        Some(Self(Some((start_ms.parse().ok()?, end_ms.parse().ok()?))))
    }

    pub(super) fn ended_before(self, time_ms: UnixMillis) -> bool {
        self.0.is_some_and(|(_, end_ms)| end_ms < time_ms)
    }

    /// Refuses a span that overlaps one of those that were imported, or is one too many.
    pub(super) fn fits_between(self, known: &[Self], spans_max: usize) -> Result<(), Error> {
        let Some((start_ms, end_ms)) = self.0 else { return Ok(()) };
        if known.contains(&self) {
            return Ok(());
        }
        let overlaps = |other: &&Self| other.0.is_some_and(|(start, end)| start < end_ms && start_ms < end);
        if let Some(Self(Some((start, end)))) = known.iter().find(overlaps) {
            let told =
                |time_ms| jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| String::new(), |t| t.to_string());
            let reason = format!(
                "the span overlaps one that was imported, {} to {}: the same calls would count twice",
                told(*start),
                told(*end)
            );
            return Err(Error::invalid("start_time", "overlaps", reason));
        }
        if known.len() >= spans_max {
            let reason =
                format!("{spans_max} spans are remembered already (ingestion.jaeger_spans_max); import longer ones");
            return Err(Error::invalid("start_time", "too_many", reason));
        }
        Ok(())
    }
}

/// What counts of a span of time add.
pub(super) struct News {
    pub(super) edges: Vec<ObservedEdge>,
    /// What is known of the span now.
    pub(super) record: WindowRecord,
    /// Dependencies beyond the most that one span has.
    pub(super) left_out: usize,
}

/// What the counts have more than was known of the same span, and what is known of it now: of each dependency the greatest
/// count, since calls of a span are only ever found later, never taken back.
pub(super) fn news(
    edges: &[CountedEdge],
    known: WindowRecord,
    window: Window,
    (now_ms, edges_max): (UnixMillis, usize),
) -> News {
    let mut counts: BTreeMap<(String, String), u64> =
        known.edges.into_iter().map(|edge| ((edge.caller, edge.callee), edge.call_count)).collect();
    let (mut more, mut left_out) = (Vec::new(), 0);
    for edge in edges {
        let ends = (edge.key.caller().to_string(), edge.key.callee().to_string());
        let before = counts.get(&ends).copied();
        if before.is_none() && counts.len() >= edges_max {
            left_out += 1;
            continue;
        }
        let added = edge.call_count.saturating_sub(before.unwrap_or(0));
        if before.is_some() && added == 0 {
            continue;
        }
        counts.insert(ends, edge.call_count);
        let (first_ms, last_ms) = window.0.unwrap_or((now_ms, now_ms));
        // The document tells nothing of failures.
        let sightings = Sightings {
            first_seen_ms: Some(first_ms),
            last_seen_ms: Some(last_ms.min(now_ms)),
            call_count: added,
            ..Sightings::default()
        };
        let source = Source::Jaeger;
        more.push(ObservedEdge { key: edge.key.clone(), source, asynchronous: None, protocol: None, sightings });
    }
    let edges = counts.into_iter().map(|((caller, callee), call_count)| EdgeCount { caller, callee, call_count });
    News { edges: more, record: WindowRecord { edges: edges.collect() }, left_out }
}

/// The span of time of a document, as its sender gives it.
pub(super) fn window(
    config: &Config,
    format: Format,
    span: (Option<UnixMillis>, Option<UnixMillis>),
    now_ms: UnixMillis,
) -> Result<Window, Error> {
    let refuse = |field: &str, code, reason: &str| Err(Error::invalid(field, code, reason));
    let latest_ms = now_ms.saturating_add(config.future_skew_ms());
    if span.1.is_some_and(|end_ms| end_ms > latest_ms) {
        return refuse("end_time", "future_time", "the end is in the future");
    }
    match (format, span) {
        (_, (None, None)) | (Format::JaegerTraces, (None, Some(_))) => Ok(Window(None)),
        (Format::JaegerDependencies, (Some(start_ms), Some(end_ms))) => {
            if end_ms <= start_ms {
                return refuse("end_time", "ends_before_start", "the span does not end after it starts");
            }
            if end_ms < now_ms - i64::from(config.bucket_age_days_max) * DAY_MS || start_ms < 0 {
                return refuse("end_time", "too_old", "the span is too long ago");
            }
            Ok(Window(Some((start_ms, end_ms))))
        }
        (Format::JaegerDependencies, _) => {
            refuse("start_time", "required", "start_time and end_time are given together, or neither")
        }
        (Format::JaegerTraces, _) => refuse("start_time", "not_read", "traces are moved by end_time alone"),
        _ => refuse("end_time", "not_read", "documents of this format tell their own times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DependencyKey;
    use attain_vocabulary::EntityId;

    fn edge(callee: &str, call_count: u64) -> CountedEdge {
        let id = |name| EntityId::new("id", name).expect("valid");
        CountedEdge { key: DependencyKey::new(id("a"), id(callee)).expect("two nodes"), call_count }
    }

    #[test]
    fn the_same_span_of_time_counts_once_and_grows_with_what_is_found_later() {
        let window = Window(Some((0, 100)));
        let added = |edges: &[CountedEdge], known: WindowRecord| {
            let news = news(edges, known, window, (200, 2));
            assert_eq!(news.left_out, 0);
            (news.edges.iter().map(|edge| edge.sightings.call_count).collect::<Vec<_>>(), news.record)
        };
        let (first, record) = added(&[edge("b", 5), edge("c", 0)], WindowRecord::default());
        assert_eq!(first, [5, 0], "an edge without a call is an edge");
        let (again, record) = added(&[edge("b", 5), edge("c", 0)], record);
        assert_eq!(again, [0; 0]);
        let (later, record) = added(&[edge("b", 9)], record);
        assert_eq!(later, [4]);
        let (fewer, record) = added(&[edge("b", 2)], record);
        assert_eq!((fewer, record.edges.len()), (vec![], 2));
        let full = news(&[edge("b", 10), edge("d", 1)], record, window, (200, 2));
        assert_eq!(
            (full.edges.len(), full.record.edges.len(), full.left_out),
            (1, 2, 1),
            "a span has so many, no more"
        );
        assert!(full.edges.iter().all(|edge| edge.sightings.failure_count.is_none() && edge.source == Source::Jaeger));
    }

    #[test]
    fn spans_that_overlap_are_refused_and_no_more_than_so_many_are_kept() {
        let span = |start_ms, end_ms| Window(Some((start_ms, end_ms)));
        let known = [span(100, 200), span(300, 400)];
        let refused = |window: Window, max| match window.fits_between(&known, max) {
            Ok(()) => None,
            Err(Error::Invalid(invalid)) => Some(invalid[0].code),
            Err(other) => panic!("{other}"),
        };
        for fits in [span(200, 300), span(0, 100), span(400, 500), span(100, 200), Window(None)] {
            assert_eq!(refused(fits, 3), None, "{fits:?}");
        }
        for overlapping in [span(199, 201), span(0, 101), span(120, 130), span(0, 900), span(100, 201)] {
            assert_eq!(refused(overlapping, 3), Some("overlaps"), "{overlapping:?}");
        }
        assert_eq!((refused(span(400, 500), 2), refused(span(100, 200), 2)), (Some("too_many"), None));
        for window in known {
            assert_eq!(Window::read(&window.key()), Some(window));
            assert!(window.ended_before(401) && !window.ended_before(200));
        }
        assert_eq!(Window::read(&Window(None).key()), None);
    }

    #[test]
    fn spans_of_time_are_named_apart_and_sort_by_their_end() {
        let keys =
            [Window(Some((5, 90))), Window(Some((0, 100))), Window(Some((5, 100))), Window(None)].map(Window::key);
        assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        let config = Config::default();
        let now_ms = 1_793_491_200_000;
        for (format, span, field) in [
            (Format::JaegerDependencies, (Some(1), None), "start_time"),
            (Format::JaegerDependencies, (Some(now_ms), Some(now_ms)), "end_time"),
            (Format::JaegerDependencies, (Some(1), Some(2)), "end_time"),
            (Format::JaegerDependencies, (Some(1), Some(now_ms * 2)), "end_time"),
            (Format::JaegerTraces, (Some(1), Some(now_ms)), "start_time"),
            (Format::Pagerduty, (None, Some(now_ms)), "end_time"),
        ] {
            let Err(Error::Invalid(invalid)) = window(&config, format, span, now_ms) else {
                panic!("{format:?} {span:?}")
            };
            assert_eq!(invalid[0].field, field);
        }
    }
}
