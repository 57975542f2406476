use std::collections::BTreeSet;

use attain_vocabulary::{DependencyMode, EntityId, InvalidValue, LatencyHistogram, Ratio, Source, UnixMillis};

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

/// What traces showed of an edge; all zero and `None` where none did.
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
    /// Failed calls.
    pub failure_count: u64,
    /// Failed calls that a retry made good, or under a parent that succeeded nevertheless.
    pub rescued_count: u64,
    /// Calls that repeated an earlier one which had failed.
    pub retry_count: u64,
    /// Latency of the calls.
    pub latency: Option<LatencyHistogram>,
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
    pub sources: BTreeSet<Source>,
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
    /// Adds what another observer, or a later look, saw.
    pub fn add(&mut self, more: &Self) {
        self.first_seen_ms = [self.first_seen_ms, more.first_seen_ms].into_iter().flatten().min();
        self.last_seen_ms = self.last_seen_ms.max(more.last_seen_ms);
        self.call_count = self.call_count.saturating_add(more.call_count);
        self.calling_request_count = self.calling_request_count.saturating_add(more.calling_request_count);
        self.failure_count = self.failure_count.saturating_add(more.failure_count);
        self.rescued_count = self.rescued_count.saturating_add(more.rescued_count);
        self.retry_count = self.retry_count.saturating_add(more.retry_count);
        if let Some(latency) = &more.latency {
            self.latency.get_or_insert_with(LatencyHistogram::empty).merge(latency);
        }
    }

    /// Of two views of the same calls the first that shows any, seen as long as both together.
    fn or(self, other: Self) -> Self {
        let first_seen_ms = [self.first_seen_ms, other.first_seen_ms].into_iter().flatten().min();
        let last_seen_ms = self.last_seen_ms.max(other.last_seen_ms);
        let shown = if self.call_count > 0 { self } else { other };
        Self { first_seen_ms, last_seen_ms, ..shown }
    }

    /// Calls a request and the share of requests that call, among so many requests of the caller; empty terms where no
    /// request was seen.
    fn rates(&self, caller_request_count: u64) -> DependencyTerms {
        if caller_request_count == 0 || self.call_count == 0 {
            return DependencyTerms::default();
        }
        let of_requests = |count: u64| count as f64 / caller_request_count as f64;
        let fraction = of_requests(self.calling_request_count).min(1.0);
        DependencyTerms {
            call_rate: Some(of_requests(self.call_count)),
            // No source counted them where calls are known and calling requests are not.
            call_fraction: (self.calling_request_count > 0)
                .then(|| Ratio::new("call_fraction", fraction).ok())
                .flatten(),
            ..DependencyTerms::default()
        }
    }
}

/// Merges what several sources say of one edge; `None` for no statement.
///
/// Terms: each field as the first source says it in the order declared, catalogue, traces, OTLP metrics, Prometheus, service
/// graph; call rate and fraction, where nobody says them, as seen among `caller_request_count` requests. Sightings: those of
/// the first source in the same order that saw a call, since each counts the same calls again; of the others only when the
/// edge was first and last seen.
#[must_use]
pub fn merge_statements(mut statements: Vec<DependencyStatement>, caller_request_count: u64) -> Option<Dependency> {
    statements.sort_by_key(|statement| precedence(statement.source));
    let key = statements.first()?.key.clone();
    // A service graph counts no requests of the caller: its calls are no measure of them.
    let has_rates = |statement: &DependencyStatement| {
        statement.source != Source::ServiceGraph && statement.sightings.call_count > 0
    };
    let has_rates = statements.iter().any(has_rates);
    let mut merged = Dependency {
        key,
        terms: DependencyTerms::default(),
        sightings: Sightings::default(),
        sources: BTreeSet::new(),
    };
    for statement in statements {
        merged.terms = std::mem::take(&mut merged.terms).or(statement.terms);
        merged.sightings = merged.sightings.or(statement.sightings);
        merged.sources.insert(statement.source);
    }
    if has_rates {
        merged.terms = std::mem::take(&mut merged.terms).or(merged.sightings.rates(caller_request_count));
    }
    Some(merged)
}

fn precedence(source: Source) -> u8 {
    match source {
        Source::Declared => 0,
        Source::Catalogue => 1,
        Source::Traces => 2,
        Source::OtlpMetrics => 3,
        Source::Prometheus => 4,
        Source::ServiceGraph => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> DependencyKey {
        let id = |name| EntityId::new("id", name).expect("valid");
        DependencyKey::new(id("checkout"), id("payment")).expect("two nodes")
    }

    fn seen(source: Source, call_count: u64, calling_request_count: u64) -> DependencyStatement {
        let sightings = Sightings {
            first_seen_ms: Some(5),
            last_seen_ms: Some(9),
            call_count,
            calling_request_count,
            failure_count: 2,
            rescued_count: 1,
            retry_count: 3,
            latency: Some(LatencyHistogram::from_explicit(&[10.0], &[call_count, 0]).expect("valid")),
        };
        let terms = DependencyTerms { mode: Some(DependencyMode::Async), ..DependencyTerms::default() };
        DependencyStatement { key: key(), source, terms, sightings }
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
    fn a_service_graph_counts_the_same_calls_again() {
        let graph = seen(Source::ServiceGraph, 500, 0);
        let alone = merge_statements(vec![graph.clone()], 0).expect("an edge");
        assert_eq!((alone.sightings.call_count, alone.sources.len()), (500, 1));
        let of_few = merge_statements(vec![graph.clone()], 20).expect("an edge");
        assert_eq!(of_few.terms.call_rate, None, "months of calls are not those of the 20 requests that traces showed");
        let both = merge_statements(vec![graph, seen(Source::Traces, 30, 15)], 20).expect("an edge");
        assert_eq!((both.sightings.call_count, both.sources.len()), (30, 2));
    }

    #[test]
    fn what_is_declared_wins_and_calls_are_those_of_one_observer() {
        let terms = DependencyTerms { call_fraction: Ratio::new("f", 0.25).ok(), ..DependencyTerms::hard() };
        let declared =
            DependencyStatement { key: key(), source: Source::Declared, terms, sightings: Sightings::default() };
        let mut metrics = seen(Source::OtlpMetrics, 10, 0);
        metrics.sightings.last_seen_ms = Some(11);
        let statements = vec![metrics, seen(Source::Traces, 30, 15), declared];
        let merged = merge_statements(statements, 20).expect("an edge");
        assert_eq!(merged.terms.mode, Some(DependencyMode::Hard));
        assert_eq!(merged.terms.call_rate, Some(1.5));
        assert_eq!(merged.terms.call_fraction.map(Ratio::get), Some(0.25));
        assert_eq!(
            (merged.sightings.call_count, merged.sightings.failure_count, merged.sightings.rescued_count),
            (30, 2, 1)
        );
        assert_eq!(merged.sightings.retry_count, 3);
        assert_eq!((merged.sightings.first_seen_ms, merged.sightings.last_seen_ms), (Some(5), Some(11)));
        assert_eq!(merged.sightings.latency.map(|latency| latency.count()), Some(30));
        assert_eq!(merged.sources.len(), 3);
    }

    #[test]
    fn an_edge_nobody_states_is_none() {
        assert_eq!(merge_statements(Vec::new(), 5), None);
    }

    proptest! {
        #[test]
        fn a_merged_call_fraction_is_a_fraction(calls in 0u64..1000, calling in 0u64..1000, requests in 0u64..1000) {
            let merged = merge_statements(vec![seen(Source::Traces, calls, calling)], requests).expect("an edge");
            if let Some(fraction) = merged.terms.call_fraction {
                prop_assert!((0.0..=1.0).contains(&fraction.get()));
            }
            prop_assert_eq!(merged.terms.call_rate.is_some(), requests > 0 && calls > 0);
        }
    }
}
