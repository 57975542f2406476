//! Sampled requests of one service, each with the calls that it waited for.

use std::collections::BTreeMap;

use attain_composition::{Distribution, Oddities, Span, Trace, critical_path_ns};
use attain_vocabulary::UnixMillis;

/// Fewest requests that anything is composed from: below it not even a 90th percentile has a handful of requests above it.
pub const REQUESTS_MIN: usize = 30;
/// Most requests of one service that are composed: the newest.
pub const REQUESTS_MAX: usize = 1_000;

pub(crate) const NS_PER_MS: f64 = 1e6;
const NS_PER_US: u64 = 1_000;
/// Longest time that is read: 104 days, as far as `f64` counts nanoseconds.
const US_MAX: u64 = (1 << 53) / NS_PER_US;

/// One request as it was sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// When it began.
    pub start_ms: UnixMillis,
    /// Microseconds that it took.
    pub duration_us: u64,
    /// In any order.
    pub calls: Vec<SampledCall>,
    /// Whether it made more calls than are listed.
    pub truncated: bool,
}

/// A call of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledCall {
    /// Who was called.
    pub callee_id: String,
    /// Microseconds from the beginning of the request.
    pub start_us: u64,
    /// Microseconds that it took.
    pub duration_us: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// Enough requests of one service to compose its latency from. Requests that failed are among them: somebody waited for them as
/// well. Those with more calls than are listed are not: what they waited for nobody knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Requests {
    traces: Vec<Trace>,
    failed_calls_ms: BTreeMap<String, Vec<f64>>,
    span_ms: (UnixMillis, UnixMillis),
    truncated_count: usize,
}

impl Requests {
    /// Reads samples in any order; nothing where fewer than [`REQUESTS_MIN`] are usable. Of more than [`REQUESTS_MAX`] the newest
    /// are taken.
    #[must_use]
    pub fn read(service_id: &str, mut samples: Vec<Sampled>) -> Option<Self> {
        samples.sort_by_key(|sample| (sample.start_ms, sample.duration_us));
        let all = samples.len();
        samples.retain(|sample| !sample.truncated);
        let truncated_count = all - samples.len();
        samples.drain(..samples.len().saturating_sub(REQUESTS_MAX));
        let built: Vec<(UnixMillis, Trace)> =
            samples.iter().filter_map(|sample| Some((sample.start_ms, trace(service_id, sample)?))).collect();
        let (first, last) = (built.first()?.0, built.last()?.0);
        let mut failed_calls_ms: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for call in samples.iter().flat_map(|sample| &sample.calls).filter(|call| call.failed) {
            failed_calls_ms.entry(call.callee_id.clone()).or_default().push(call.duration_us.min(US_MAX) as f64 / 1e3);
        }
        let traces: Vec<Trace> = built.into_iter().map(|(_, trace)| trace).collect();
        let enough = traces.len() >= REQUESTS_MIN;
        enough.then_some(Self { traces, failed_calls_ms, span_ms: (first, last), truncated_count })
    }

    /// Oldest first.
    #[must_use]
    pub fn traces(&self) -> &[Trace] {
        &self.traces
    }

    /// Milliseconds of the calls to a callee that requests wait for.
    pub fn calls_ms(&self, callee_id: &str) -> impl Iterator<Item = f64> {
        let calls = self.traces.iter().flat_map(Trace::calls);
        calls.filter(move |(part, _)| *part == callee_id).map(|(_, ns)| ns as f64 / NS_PER_MS)
    }

    /// Milliseconds of the failed calls to a callee.
    pub(crate) fn failed_calls_ms(&self, callee_id: &str) -> &[f64] {
        self.failed_calls_ms.get(callee_id).map_or(&[], Vec::as_slice)
    }

    /// When the oldest and the newest began.
    #[must_use]
    pub fn span_ms(&self) -> (UnixMillis, UnixMillis) {
        self.span_ms
    }

    /// Requests left out because not all of their calls are known.
    #[must_use]
    pub fn truncated_count(&self) -> usize {
        self.truncated_count
    }

    /// How long they took.
    #[must_use]
    pub fn latency(&self) -> Distribution {
        durations(&self.traces)
    }
}

/// Milliseconds of roots; at least one.
pub(crate) fn durations(traces: &[Trace]) -> Distribution {
    let latencies_ms = traces.iter().map(|trace| trace.duration_ns() as f64 / NS_PER_MS).collect();
    Distribution::from_samples(latencies_ms).expect("at least one, none negative")
}

/// The part of each request's time that each part determined, in milliseconds, one value a request: those of one request add up
/// to its duration. The service itself is among the parts.
pub(crate) fn critical_times_ms(traces: &[Trace]) -> BTreeMap<&str, Vec<f64>> {
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (place, trace) in traces.iter().enumerate() {
        for (part, ns) in critical_path_ns(trace) {
            times.entry(part).or_insert_with(|| vec![0.0; traces.len()])[place] = ns as f64 / NS_PER_MS;
        }
    }
    times
}

/// A request of depth one: what nobody waited for is left out, and clocks that differ are put right.
fn trace(service_id: &str, sample: &Sampled) -> Option<Trace> {
    let start_ns = u64::try_from(sample.start_ms).ok()?.checked_mul(1_000_000)?;
    let span = |id: String, parent_id: Option<String>, part: &str, start_us: u64, duration_us: u64| {
        let start_ns = start_ns.checked_add(start_us.min(US_MAX) * NS_PER_US)?;
        let end_ns = start_ns.checked_add(duration_us.min(US_MAX) * NS_PER_US)?;
        Some(Span { id, parent_id, part: part.to_owned(), start_ns, end_ns })
    };
    let root = || "request".to_owned();
    let mut spans = vec![span(root(), None, service_id, 0, sample.duration_us)?];
    for (place, call) in sample.calls.iter().enumerate() {
        spans.push(span(place.to_string(), Some(root()), &call.callee_id, call.start_us, call.duration_us)?);
    }
    Trace::build(&spans, &mut Oddities::default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(at: i64, duration_us: u64, calls: &[(&str, u64, u64)]) -> Sampled {
        let call = |&(callee_id, start_us, duration_us): &(&str, u64, u64)| SampledCall {
            callee_id: callee_id.to_owned(),
            start_us,
            duration_us,
            failed: false,
        };
        Sampled { start_ms: at, duration_us, calls: calls.iter().map(call).collect(), truncated: false }
    }

    #[test]
    fn too_few_are_none_and_of_too_many_the_newest_stay() {
        let many = |count: usize| (0..count as i64).map(|at| sample(at, 10, &[])).collect::<Vec<_>>();
        assert_eq!(Requests::read("a", many(REQUESTS_MIN - 1)), None);
        let mut truncated = many(REQUESTS_MIN);
        truncated[3].truncated = true;
        assert_eq!(Requests::read("a", truncated), None);
        let mut samples = many(REQUESTS_MAX + 5);
        samples[REQUESTS_MAX].truncated = true;
        let read = Requests::read("a", samples).unwrap();
        assert_eq!((read.traces().len(), read.truncated_count()), (REQUESTS_MAX, 1));
        assert_eq!(read.span_ms(), (4, REQUESTS_MAX as i64 + 4));
    }

    #[test]
    fn the_time_of_a_request_is_divided_over_those_who_determined_it() {
        let samples =
            vec![sample(0, 100_000, &[("b", 10_000, 50_000), ("c", 20_000, 20_000), ("d", 70_000, 5_000)]); 30];
        let read = Requests::read("a", samples).unwrap();
        let times = critical_times_ms(read.traces());
        let firsts: Vec<(&str, f64)> = times.iter().map(|(part, times)| (*part, times[0])).collect();
        assert_eq!(firsts, [("a", 45.0), ("b", 50.0), ("d", 5.0)], "c is hidden behind b");
    }

    #[test]
    fn times_that_cannot_be_are_no_reason_to_stop() {
        let mut samples = vec![sample(5, 1_000, &[("b", u64::MAX, u64::MAX)]); 30];
        samples.push(sample(-1, u64::MAX, &[]));
        samples.push(sample(i64::MAX, 1, &[]));
        let read = Requests::read("a", samples).unwrap();
        assert_eq!(read.traces().len(), 30);
        assert_eq!(read.traces()[0].calls().count(), 0);
    }
}
