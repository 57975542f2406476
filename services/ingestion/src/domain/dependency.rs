use attain_vocabulary::{DAY_MS, DependencyMode, EntityId, InvalidValue, LatencyHistogram, Ratio, Source, UnixMillis};

use super::call_days::{add_calls, rates};
use super::{CallDays, CallerRequests, FirstDay, SourceSet};

/// Most further attempts that anybody can mean.
const RETRIES_MAX: u32 = 10;
/// Most calls a request that anybody can mean.
const CALL_RATE_MAX: f64 = 1e6;
/// Longest time-out that anybody can mean: a day.
const TIMEOUT_MS_MAX: u32 = 86_400_000;
/// Most members of a redundancy group that anybody can mean.
const REQUIRED_COUNT_MAX: u32 = 10_000;

/// Caller and callee; never the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DependencyKey {
    caller: EntityId,
    callee: EntityId,
}

/// What is said of an edge; what nobody said is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DependencyTerms {
    /// What a failure of the callee does to the caller.
    pub mode: Option<DependencyMode>,
    /// Calls to the callee for each request of the caller.
    pub call_rate: Option<f64>,
    /// Share of the caller's requests that call the callee.
    pub call_fraction: Option<Ratio>,
    /// Share of failed calls that a fallback saves.
    pub fallback_success: Option<Ratio>,
    /// Further attempts after a failed one.
    pub retry_count: Option<u32>,
    /// Time after which the caller gives up.
    pub timeout_ms: Option<u32>,
    /// For example `http`, `grpc`, `sql`.
    pub protocol: Option<String>,
    /// Edges of one caller with the same group back each other up.
    pub redundancy_group: Option<String>,
    /// How many members of the group must work.
    pub redundancy_required_count: Option<u32>,
}

/// What one observer saw of an edge; all zero and `None` where none did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sightings {
    /// When the edge was first seen.
    pub first_seen_ms: Option<UnixMillis>,
    /// When it was last seen.
    pub last_seen_ms: Option<UnixMillis>,
    /// Calls.
    pub call_count: u64,
    /// Requests of the caller that called at least once.
    pub calling_request_count: u64,
    /// Failed calls; `None` where the observer does not know.
    pub failure_count: Option<u64>,
    /// Failed calls that a retry made good, or under a parent that succeeded nevertheless; `None` where the observer does
    /// not know, as all but traces do not.
    pub rescued_count: Option<u64>,
    /// Calls that repeated an earlier one which had failed; `None` where the observer does not know.
    pub retry_count: Option<u64>,
    /// Latency of the calls.
    pub latency: Option<LatencyHistogram>,
    /// Calls by day, of the days that rates are measured in; only traces know them.
    pub days: CallDays,
    /// The day of the first of them; only where traces saw it.
    pub first_day: Option<FirstDay>,
}

/// What one source says of one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct DependencyStatement {
    /// The edge.
    pub key: DependencyKey,
    /// Who says it.
    pub source: Source,
    /// What is said.
    pub terms: DependencyTerms,
    /// What was seen.
    pub sightings: Sightings,
}

/// What all sources together say of one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Dependency {
    /// The edge.
    pub key: DependencyKey,
    /// What is said.
    pub terms: DependencyTerms,
    /// What was seen.
    pub sightings: Sightings,
    /// Who knows the edge.
    pub sources: SourceSet,
}

impl DependencyKey {
    /// Checks an edge.
    ///
    /// # Errors
    /// Refuses an edge from a node to itself, naming `callee_id`.
    pub fn new(caller: EntityId, callee: EntityId) -> Result<Self, InvalidValue> {
        if caller == callee {
            let reason = format!("{caller} cannot depend on itself");
            return Err(InvalidValue::new("callee_id", "self_dependency", reason));
        }
        Ok(Self { caller, callee })
    }

    /// Who needs.
    #[must_use]
    pub fn caller(&self) -> &EntityId {
        &self.caller
    }

    /// Who is needed.
    #[must_use]
    pub fn callee(&self) -> &EntityId {
        &self.callee
    }
}

impl DependencyTerms {
    /// What a name in a `depends_on` list says where nothing else is declared.
    #[must_use]
    pub fn hard() -> Self {
        Self { mode: Some(DependencyMode::Hard), ..Self::default() }
    }

    /// Checks every number.
    ///
    /// # Errors
    /// Names the first field that is out of range or no number.
    pub fn checked(self) -> Result<Self, InvalidValue> {
        if let Some(rate) = self.call_rate {
            if rate.is_nan() {
                return Err(InvalidValue::new("call_rate", "not_a_number", "NaN is no rate"));
            }
            if !(0.0..=CALL_RATE_MAX).contains(&rate) {
                let reason = format!("{rate} is outside [0, {CALL_RATE_MAX}]");
                return Err(InvalidValue::new("call_rate", "out_of_range", reason));
            }
        }
        let within = |field: &str, value: Option<u32>, range: std::ops::RangeInclusive<u32>| match value {
            Some(value) if !range.contains(&value) => {
                let reason = format!("{value} is outside {} to {}", range.start(), range.end());
                Err(InvalidValue::new(field, "out_of_range", reason))
            }
            _ => Ok(()),
        };
        within("retry_count", self.retry_count, 0..=RETRIES_MAX)?;
        within("timeout_ms", self.timeout_ms, 1..=TIMEOUT_MS_MAX)?;
        within("redundancy_required_count", self.redundancy_required_count, 1..=REQUIRED_COUNT_MAX)?;
        Ok(self)
    }

    /// These terms, and where they are silent the other ones.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            mode: self.mode.or(other.mode),
            call_rate: self.call_rate.or(other.call_rate),
            call_fraction: self.call_fraction.or(other.call_fraction),
            fallback_success: self.fallback_success.or(other.fallback_success),
            retry_count: self.retry_count.or(other.retry_count),
            timeout_ms: self.timeout_ms.or(other.timeout_ms),
            protocol: self.protocol.or(other.protocol),
            redundancy_group: self.redundancy_group.or(other.redundancy_group),
            redundancy_required_count: self.redundancy_required_count.or(other.redundancy_required_count),
        }
    }
}

impl Sightings {
    /// Adds what a later look of the same observer saw. What is not known of some of the calls is not known of their sum.
    pub fn add(&mut self, more: &Self) {
        let known = |kept: Option<u64>, added: Option<u64>| match (kept, added) {
            (Some(kept), Some(added)) => Some(kept.saturating_add(added)),
            (None, added) if self.call_count == 0 => added,
            (kept, None) if more.call_count == 0 => kept,
            _ => None,
        };
        self.failure_count = known(self.failure_count, more.failure_count);
        self.rescued_count = known(self.rescued_count, more.rescued_count);
        self.retry_count = known(self.retry_count, more.retry_count);
        self.first_seen_ms = [self.first_seen_ms, more.first_seen_ms].into_iter().flatten().min();
        self.last_seen_ms = self.last_seen_ms.max(more.last_seen_ms);
        self.call_count = self.call_count.saturating_add(more.call_count);
        self.calling_request_count = self.calling_request_count.saturating_add(more.calling_request_count);
        add_calls(&mut self.days, &more.days);
        self.first_day = self.first_day.or(more.first_day);
        if let Some(latency) = &more.latency {
            self.latency.get_or_insert_with(LatencyHistogram::empty).merge(latency);
        }
    }
}

/// Merges what several sources say of one edge, and takes their terms; `None` for no statement.
///
/// Terms: each field as the first source says it in the order declared, catalogue, traces, OTLP metrics, service graph,
/// Prometheus, Istio, Linkerd, Jaeger; call rate and fraction, where nobody says them, as traces show them among the requests
/// of the caller that traces show: no other source counts those.
///
/// Sightings: those of one source, since each counts the same calls again: of those that saw calls lately, the first in the
/// same order. Lately is within the caller's window before the newest call that anybody saw, so that an observer that was
/// switched off gives way. Of the others only when the edge was first and last seen.
#[must_use]
pub fn merge_statements(
    statements: &mut [DependencyStatement],
    caller_requests: CallerRequests<'_>,
) -> Option<Dependency> {
    statements.sort_by_key(|statement| precedence(statement.source));
    let key = statements.first()?.key.clone();
    let traced = statements.iter().find(|statement| statement.source == Source::Traces);
    let seen_rates = traced.map(|statement| rates(&statement.sightings, caller_requests));
    let sightings = standing(statements, caller_requests.window_days);
    let mut merged = Dependency { key, terms: DependencyTerms::default(), sightings, sources: SourceSet::default() };
    for statement in statements {
        merged.terms = std::mem::take(&mut merged.terms).or(std::mem::take(&mut statement.terms));
        merged.sources.insert(statement.source);
    }
    merged.terms = std::mem::take(&mut merged.terms).or(seen_rates.unwrap_or_default());
    Some(merged)
}

/// The sightings that stand, of statements in their order.
fn standing(statements: &[DependencyStatement], window_days: u32) -> Sightings {
    let seen = || statements.iter().map(|statement| &statement.sightings);
    let calling = || seen().filter(|sightings| sightings.call_count > 0);
    let newest_ms = calling().filter_map(|sightings| sightings.last_seen_ms).max();
    let lately_ms = newest_ms.map(|newest_ms| newest_ms.saturating_sub(i64::from(window_days) * DAY_MS));
    let stands = calling().find(|sightings| sightings.last_seen_ms >= lately_ms);
    Sightings {
        first_seen_ms: seen().filter_map(|sightings| sightings.first_seen_ms).min(),
        last_seen_ms: seen().filter_map(|sightings| sightings.last_seen_ms).max(),
        ..stands.cloned().unwrap_or_default()
    }
}

fn precedence(source: Source) -> u8 {
    match source {
        Source::Declared => 0,
        Source::Catalogue => 1,
        Source::Traces => 2,
        Source::OtlpMetrics => 3,
        Source::ServiceGraph => 4,
        Source::Prometheus => 5,
        Source::Istio => 6,
        Source::Linkerd => 7,
        Source::Jaeger => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DayCalls, RequestDays};
    use super::*;

    fn key() -> DependencyKey {
        let id = |name| EntityId::new("id", name).expect("valid");
        DependencyKey::new(id("checkout"), id("payment")).expect("two nodes")
    }

    const DAY: i64 = 20_000;

    fn seen(source: Source, call_count: u64, calling_request_count: u64) -> DependencyStatement {
        let traces = source == Source::Traces;
        let days = CallDays::from([(DAY, DayCalls { call_count, calling_request_count })]);
        let sightings = Sightings {
            first_seen_ms: Some(DAY * DAY_MS + 5),
            last_seen_ms: Some(DAY * DAY_MS + 9),
            call_count,
            calling_request_count,
            failure_count: (source != Source::Jaeger).then_some(2),
            rescued_count: traces.then_some(1),
            retry_count: traces.then_some(3),
            latency: Some(LatencyHistogram::from_explicit(&[10.0], &[call_count, 0]).expect("valid")),
            days: if traces { days } else { CallDays::new() },
            first_day: None,
        };
        let terms = DependencyTerms { mode: Some(DependencyMode::Async), ..DependencyTerms::default() };
        DependencyStatement { key: key(), source, terms, sightings }
    }

    /// Among so many requests of the caller on the day of the edge.
    fn merged(mut statements: Vec<DependencyStatement>, requests: u64) -> Option<Dependency> {
        let days = RequestDays::from([(DAY, requests)]);
        merge_statements(&mut statements, CallerRequests { days: &days, window_days: 28 })
    }

    #[test]
    fn nobody_depends_on_itself() {
        let id = EntityId::new("id", "a").expect("valid");
        let error = DependencyKey::new(id.clone(), id).expect_err("itself");
        assert_eq!((error.field.as_str(), error.code), ("callee_id", "self_dependency"));
    }

    #[test]
    fn numbers_that_cannot_be_right_are_named() {
        let base = DependencyTerms::default;
        let cases = [
            (DependencyTerms { call_rate: Some(f64::NAN), ..base() }, "call_rate", "not_a_number"),
            (DependencyTerms { call_rate: Some(-0.1), ..base() }, "call_rate", "out_of_range"),
            (DependencyTerms { call_rate: Some(f64::INFINITY), ..base() }, "call_rate", "out_of_range"),
            (DependencyTerms { retry_count: Some(11), ..base() }, "retry_count", "out_of_range"),
            (DependencyTerms { timeout_ms: Some(0), ..base() }, "timeout_ms", "out_of_range"),
            (
                DependencyTerms { redundancy_required_count: Some(0), ..base() },
                "redundancy_required_count",
                "out_of_range",
            ),
        ];
        for (terms, field, code) in cases {
            let error = terms.checked().expect_err(field);
            assert_eq!((error.field.as_str(), error.code), (field, code));
        }
        assert!(DependencyTerms { call_rate: Some(3.5), retry_count: Some(10), ..base() }.checked().is_ok());
    }

    #[test]
    fn of_several_observers_one_stands_and_only_traces_give_rates() {
        let observers = [
            (Source::Traces, 30),
            (Source::OtlpMetrics, 60),
            (Source::ServiceGraph, 500),
            (Source::Prometheus, 501),
            (Source::Istio, 502),
            (Source::Linkerd, 503),
            (Source::Jaeger, 504),
        ];
        for (at, (source, calls)) in observers.into_iter().enumerate() {
            let statements = observers[at..].iter().rev().map(|(source, calls)| seen(*source, *calls, *calls / 2));
            let edge = merged(statements.collect(), 20).expect("an edge");
            assert_eq!(edge.sightings.call_count, calls, "{source:?} stands alone, the others are the same calls");
            assert_eq!(edge.sources.iter().count(), observers.len() - at);
            let traced = source == Source::Traces;
            assert_eq!(edge.terms.call_rate, traced.then_some(1.5), "{source:?} counts no requests of the caller");
            assert_eq!(edge.sightings.rescued_count, traced.then_some(1), "{source:?}");
            assert_eq!(edge.sightings.failure_count.is_some(), source != Source::Jaeger, "{source:?}");
        }
    }

    #[test]
    fn an_observer_that_was_switched_off_gives_way() {
        let mut jaeger = seen(Source::Jaeger, 40, 0);
        let both = |jaeger: &DependencyStatement| {
            let edge = merged(vec![seen(Source::Istio, 900, 0), jaeger.clone()], 0).expect("an edge");
            (edge.sightings.call_count, edge.sightings.first_seen_ms)
        };
        jaeger.sightings.last_seen_ms = Some((DAY + 28) * DAY_MS);
        assert_eq!(both(&jaeger), (900, Some(DAY * DAY_MS + 5)));
        jaeger.sightings.last_seen_ms = Some((DAY + 29) * DAY_MS);
        assert_eq!(both(&jaeger), (40, Some(DAY * DAY_MS + 5)));
    }

    #[test]
    fn what_is_not_known_of_some_calls_is_not_known_of_their_sum() {
        let of = |call_count, failure_count| Sightings { call_count, failure_count, ..Sightings::default() };
        for (one, other, sum) in [
            (of(5, Some(1)), of(7, Some(2)), Some(3)),
            (of(5, Some(1)), of(7, None), None),
            (of(5, None), of(7, Some(2)), None),
            (of(0, None), of(7, Some(2)), Some(2)),
            (of(5, Some(1)), of(0, None), Some(1)),
            (of(0, Some(4)), of(7, Some(0)), Some(4)),
        ] {
            let mut both = one.clone();
            both.add(&other);
            assert_eq!(both.failure_count, sum, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_is_declared_wins_and_calls_are_those_of_one_observer() {
        let terms = DependencyTerms { call_fraction: Ratio::new("f", 0.25).ok(), ..DependencyTerms::hard() };
        let declared =
            DependencyStatement { key: key(), source: Source::Declared, terms, sightings: Sightings::default() };
        let mut metrics = seen(Source::OtlpMetrics, 10, 0);
        metrics.sightings.last_seen_ms = Some(DAY * DAY_MS + 11);
        let statements = vec![metrics, seen(Source::Traces, 30, 15), declared];
        let merged = merged(statements, 20).expect("an edge");
        assert_eq!(merged.terms.mode, Some(DependencyMode::Hard));
        assert_eq!(merged.terms.call_rate, Some(1.5));
        assert_eq!(merged.terms.call_fraction.map(Ratio::get), Some(0.25));
        let seen = merged.sightings;
        assert_eq!((seen.call_count, seen.failure_count, seen.rescued_count), (30, Some(2), Some(1)));
        assert_eq!(seen.retry_count, Some(3));
        assert_eq!((seen.first_seen_ms, seen.last_seen_ms), (Some(DAY * DAY_MS + 5), Some(DAY * DAY_MS + 11)));
        assert_eq!(seen.latency.map(|latency| latency.count()), Some(30));
        assert_eq!(merged.sources.iter().count(), 3);
    }

    #[test]
    fn an_edge_nobody_states_is_none() {
        assert_eq!(merged(Vec::new(), 5), None);
    }
}
