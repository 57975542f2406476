use attain_vocabulary::{EntityId, UnixMillis};

use super::hour_start;

/// Most calls that are kept of one request.
pub const CALLS_PER_SAMPLE_MAX: usize = 64;

/// One request of a service with the calls to others that it waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSample {
    /// Who answered the request.
    pub service: EntityId,
    /// What decides whether it is kept: of each service and hour the least ranks are. Drawn from the ids of trace and span,
    /// so that how long the request took has no part in it.
    pub rank: u64,
    /// When it began, in microseconds since the Unix epoch.
    pub start_time_us: i64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Whether it failed.
    pub failed: bool,
    /// The calls within it by the time of their beginning; the longest [`CALLS_PER_SAMPLE_MAX`] where there were more.
    pub calls: Vec<SampledCall>,
    /// Whether it made more calls than are listed.
    pub truncated: bool,
}

/// A call within a request: begins and ends while the request lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampledCall {
    /// Who was called; not the service itself.
    pub callee: EntityId,
    /// From the beginning of the request to that of the call, in microseconds.
    pub offset_us: u64,
    /// How long the caller waited for it, in microseconds.
    pub duration_us: u64,
    /// Whether it failed.
    pub failed: bool,
}

impl RequestSample {
    /// The hour that it is sampled of, by the time of its beginning.
    #[must_use]
    pub fn hour_ms(&self) -> UnixMillis {
        hour_start(self.start_time_us.div_euclid(1_000))
    }

    /// Leaves out the calls to some callees.
    pub fn leave_out_callees(&mut self, is_kept: impl Fn(&EntityId) -> bool) {
        let call_count = self.calls.len();
        self.calls.retain(|call| is_kept(&call.callee));
        self.truncated |= self.calls.len() < call_count;
    }
}

/// Of samples of one service and hour the `max` with the least ranks, in the order of their ranks; of those with the same
/// rank, which are the same request, the first. What is dropped once is never missed later: the least of what was kept and
/// of what came since are the least of all.
#[must_use]
pub fn least_ranks(mut samples: Vec<RequestSample>, max: usize) -> Vec<RequestSample> {
    samples.sort_by_key(|sample| sample.rank);
    samples.dedup_by_key(|sample| sample.rank);
    samples.truncate(max);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(rank: u64, duration_us: u64) -> RequestSample {
        RequestSample {
            service: EntityId::new("service", "shop").expect("valid"),
            rank,
            start_time_us: 3_600_000_000 + 5,
            duration_us,
            failed: false,
            calls: Vec::new(),
            truncated: false,
        }
    }

    #[test]
    fn a_sample_is_of_the_hour_that_it_began_in() {
        assert_eq!(sample(1, 1).hour_ms(), 3_600_000);
        assert_eq!(RequestSample { start_time_us: -1, ..sample(1, 1) }.hour_ms(), -3_600_000);
    }

    #[test]
    fn calls_that_are_left_out_are_told() {
        let call = |callee: &str| SampledCall {
            callee: EntityId::new("callee", callee).expect("valid"),
            offset_us: 0,
            duration_us: 1,
            failed: false,
        };
        let mut of_two = RequestSample { calls: vec![call("cart"), call("price")], ..sample(1, 9) };
        of_two.leave_out_callees(|_| true);
        assert!(!of_two.truncated && of_two.calls.len() == 2);
        of_two.leave_out_callees(|callee| callee.as_str() == "cart");
        assert!(of_two.truncated && of_two.calls == [call("cart")]);
    }

    proptest! {
        #[test]
        fn the_least_of_the_least_are_the_least(ranks in prop::collection::vec(0u64..40, 0..60), split in 0usize..60, max in 0usize..10) {
            // A request is the same whenever it comes.
            let all: Vec<RequestSample> = ranks.iter().map(|rank| sample(*rank, rank * 7 % 11)).collect();
            let (first, second) = all.split_at(split.min(all.len()));
            let mut in_parts = least_ranks(first.to_vec(), max);
            in_parts.extend(second.iter().cloned());
            let kept = least_ranks(in_parts, max);
            let mut expected = ranks.clone();
            expected.sort_unstable();
            expected.dedup();
            expected.truncate(max);
            prop_assert_eq!(kept.iter().map(|kept| kept.rank).collect::<Vec<_>>(), expected);
            prop_assert_eq!(kept, least_ranks(all, max));
        }
    }
}
