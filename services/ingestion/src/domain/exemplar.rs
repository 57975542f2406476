use std::cmp::Reverse;
use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, UnixMillis};

/// Most exemplars kept of one service and hour: of failed requests, and of the others.
const KEPT_OF_EACH_MAX: usize = 5;
const HOUR_MS: i64 = 3_600_000;

/// One request that stands for others like it, and the trace that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exemplar {
    /// Who answered the request.
    pub service: EntityId,
    /// The trace; not 0.
    pub trace_id: u128,
    /// The span of the request; 0 where nothing tells.
    pub span_id: u64,
    /// When it was measured.
    pub time_ms: UnixMillis,
    /// How long the request took, in microseconds.
    pub latency_us: u64,
    /// Whether it failed.
    pub failed: bool,
}

/// The hour of a time.
#[must_use]
pub fn hour_start(time_ms: UnixMillis) -> UnixMillis {
    time_ms - time_ms.rem_euclid(HOUR_MS)
}

/// Of the exemplars of one service and hour those that are kept: the five slowest failed requests and the five slowest
/// others, of each trace one of either sort. What is dropped once is never missed later: keeping the worst of what was
/// kept and of what came since is keeping the worst of all.
#[must_use]
pub fn worst(exemplars: Vec<Exemplar>) -> Vec<Exemplar> {
    let mut of_trace: BTreeMap<(bool, u128), Exemplar> = BTreeMap::new();
    for exemplar in exemplars {
        let key = (exemplar.failed, exemplar.trace_id);
        let rank = |of: &Exemplar| (of.latency_us, Reverse(of.time_ms), Reverse(of.span_id));
        match of_trace.get(&key) {
            Some(slowest) if rank(slowest) >= rank(&exemplar) => {}
            _ => {
                of_trace.insert(key, exemplar);
            }
        }
    }
    let (failed, others): (Vec<_>, Vec<_>) = of_trace.into_values().partition(|exemplar| exemplar.failed);
    [failed, others]
        .into_iter()
        .flat_map(|mut list| {
            list.sort_by_key(|exemplar| (Reverse(exemplar.latency_us), exemplar.trace_id));
            list.truncate(KEPT_OF_EACH_MAX);
            list
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exemplar(trace_id: u128, latency_us: u64, failed: bool) -> Exemplar {
        let service = EntityId::new("service", "shop").expect("valid");
        Exemplar { service, trace_id, span_id: 7, time_ms: 5, latency_us, failed }
    }

    #[test]
    fn the_slowest_and_the_failed_stay() {
        let fast = (1..=20).map(|trace| exemplar(trace, trace as u64, false));
        let kept = worst(fast.chain([exemplar(30, 1, true), exemplar(20, 99, false)]).collect());
        let said: Vec<(u128, u64, bool)> =
            kept.iter().map(|kept| (kept.trace_id, kept.latency_us, kept.failed)).collect();
        let expected =
            [(30, 1, true), (20, 99, false), (19, 19, false), (18, 18, false), (17, 17, false), (16, 16, false)];
        assert_eq!(said, expected);
    }

    #[test]
    fn hours_begin_on_the_hour() {
        assert_eq!([hour_start(-1), hour_start(0), hour_start(HOUR_MS + 5)], [-HOUR_MS, 0, HOUR_MS]);
    }

    proptest! {
        #[test]
        fn the_worst_of_the_worst_is_the_worst(all in prop::collection::vec((1u128..12, 0u64..50, any::<bool>()), 0..60), split in 0usize..60) {
            let all: Vec<Exemplar> = all.into_iter().map(|(trace, latency, failed)| exemplar(trace, latency, failed)).collect();
            let (first, second) = all.split_at(split.min(all.len()));
            let mut in_parts = worst(first.to_vec());
            in_parts.extend(second.iter().cloned());
            prop_assert_eq!(worst(in_parts), worst(all));
        }
    }
}
