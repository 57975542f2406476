//! Who makes sampled requests slow: how many would still be if one part took no time.

use std::collections::BTreeSet;

use attain_composition::Trace;

use super::requests::NS_PER_MS;

/// Sampled requests that took longer than a threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowRequests {
    /// In milliseconds.
    pub threshold_ms: f64,
    /// How many took longer.
    pub count: usize,
    /// How many would have without the time of a part, the fewest first; the service itself among the parts.
    pub without: Vec<(String, usize)>,
}

/// Holds requests against thresholds.
///
/// Without a callee its calls take no time; self time and lags stay, and stages decide anew who is waited for, so a callee that is
/// hidden behind another one makes nobody slow. Without the service itself its self time is gone. Times of several parts do not add up: a
/// request may be fast enough without either of two.
#[must_use]
pub fn slow_requests(traces: &[Trace], thresholds_ms: &[f64]) -> Vec<SlowRequests> {
    if thresholds_ms.is_empty() {
        return Vec::new();
    }
    let whole = sorted(traces.iter().map(Trace::duration_ns));
    let own = traces.first().map(|trace| {
        let without = sorted(traces.iter().map(|trace| trace.duration_ns().saturating_sub(trace.self_ns())));
        (trace.root().to_owned(), without)
    });
    let called: BTreeSet<&str> = traces.iter().flat_map(Trace::calls).map(|(part, _)| part).collect();
    let without = |part: &&str| {
        let left = |(called, ns): (&str, u64)| if called == *part { 0 } else { ns };
        let durations =
            traces.iter().map(|trace| trace.duration_with_ns(&trace.calls().map(left).collect::<Vec<u64>>()));
        ((*part).to_owned(), sorted(durations))
    };
    let parts: Vec<(String, Vec<u64>)> = own.into_iter().chain(called.iter().map(without)).collect();
    let of = |threshold_ms: &f64| {
        let slower = |durations: &[u64]| count_above(durations, *threshold_ms);
        let mut without: Vec<(String, usize)> =
            parts.iter().map(|(part, durations)| (part.clone(), slower(durations))).collect();
        without.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
        SlowRequests { threshold_ms: *threshold_ms, count: slower(&whole), without }
    };
    thresholds_ms.iter().map(of).collect()
}

fn sorted(durations: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut durations: Vec<u64> = durations.collect();
    durations.sort_unstable();
    durations
}

fn count_above(sorted_ns: &[u64], threshold_ms: f64) -> usize {
    sorted_ns.len() - sorted_ns.partition_point(|ns| *ns as f64 <= threshold_ms * NS_PER_MS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::domain::requests::{Requests, Sampled, SampledCall};

    fn sample(at: i64, duration_ms: u64, calls: &[(&str, u64, u64)]) -> Sampled {
        let call = |&(callee_id, start_ms, duration_ms): &(&str, u64, u64)| SampledCall {
            callee_id: callee_id.to_owned(),
            start_us: start_ms * 1_000,
            duration_us: duration_ms * 1_000,
            failed: false,
        };
        let calls = calls.iter().map(call).collect();
        Sampled { start_ms: at, duration_us: duration_ms * 1_000, calls, truncated: false }
    }

    #[test]
    fn who_is_not_waited_for_makes_nobody_slow() {
        // Thirty requests of 10 ms each for the service itself; ten wait long for b, with the shorter call of c hidden behind.
        let slow = |at: i64| sample(at, 110, &[("b", 5, 100), ("c", 6, 60)]);
        let quick = |at: i64| sample(at, 30, &[("b", 5, 20)]);
        let samples = (0..30).map(|at| if at < 10 { slow(at) } else { quick(at) }).collect();
        let requests = Requests::read("a", samples).unwrap();
        let found = slow_requests(requests.traces(), &[50.0, 80.0, 110.0, 5.0]);
        let told = |at: usize| {
            let without: Vec<(&str, usize)> = found[at].without.iter().map(|(part, count)| (&**part, *count)).collect();
            (found[at].count, without)
        };
        assert_eq!(told(0), (10, vec![("a", 10), ("b", 10), ("c", 10)]), "without b they wait for c: 71 ms");
        assert_eq!(told(1), (10, vec![("b", 0), ("a", 10), ("c", 10)]));
        assert_eq!(told(2), (0, vec![("a", 0), ("b", 0), ("c", 0)]), "at the threshold is not above it");
        assert_eq!(told(3), (30, vec![("a", 30), ("b", 30), ("c", 30)]));
        assert_eq!(slow_requests(requests.traces(), &[]), []);
    }
}
