use attain_vocabulary::{BUCKET_MS, SliBucket, TimeRange};

use crate::sanity::{excluded, possible, union};
use crate::{Exclusion, ServiceHistory};

/// What a window turned out to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Requests that counted.
    pub valid: f64,
    /// Bad over valid, in [0, 1].
    pub bad_ratio: f64,
    /// Buckets over those that the window, exclusions taken out, could hold.
    pub covered_share: f64,
}

/// What was measured in a window, exclusions left out; `None` where no request counted. With a threshold in milliseconds a request
/// that is not faster is bad.
#[must_use]
pub fn outcome(
    history: &ServiceHistory,
    exclusions: &[Exclusion],
    window: TimeRange,
    latency_threshold_ms: Option<u32>,
) -> Option<Outcome> {
    let spans = union(exclusions);
    let (start, end) = (window.start_ms(), window.end_ms());
    let counts = |bucket: &&SliBucket| {
        let inside = bucket.start_ms >= start && bucket.start_ms.saturating_add(BUCKET_MS) <= end;
        inside && !excluded(&spans, bucket.start_ms)
    };
    let (mut buckets, mut valid, mut bad) = (0.0, 0.0, 0.0);
    for bucket in history.buckets.iter().filter(counts) {
        let (of_bucket, bad_of_bucket) = match (latency_threshold_ms, &bucket.latency) {
            (None, _) => (bucket.counts.valid() as f64, bucket.counts.bad() as f64),
            (Some(threshold), Some(latency)) => (latency.count() as f64, latency.count_above(f64::from(threshold))),
            // Nobody asked: that is no gap.
            (Some(_), None) if bucket.counts.valid() == 0 => (0.0, 0.0),
            (Some(_), None) => continue,
        };
        buckets += 1.0;
        valid += of_bucket;
        bad += bad_of_bucket;
    }
    let possible = possible(start, end, &spans).max(1) as f64;
    (valid > 0.0).then(|| Outcome {
        valid,
        bad_ratio: (bad / valid).clamp(0.0, 1.0),
        covered_share: f64::min(buckets / possible, 1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::{BucketCounts, LatencyHistogram};
    use std::collections::BTreeMap;

    fn range(from: i64, to: i64) -> TimeRange {
        TimeRange::new("range", from * BUCKET_MS, to * BUCKET_MS).expect("ascending")
    }

    #[test]
    fn a_window_counts_what_lies_in_it_and_is_not_left_out() {
        let bucket = |i: i64| {
            let latency =
                (i != 4).then(|| LatencyHistogram::from_explicit(&[100.0, 400.0], &[6, 4, 0]).expect("valid"));
            let counts = BucketCounts::new(10, if i < 3 { 5 } else { 1 }, None).expect("valid");
            SliBucket::new(i * BUCKET_MS, counts, BTreeMap::new(), latency).expect("valid")
        };
        let history = ServiceHistory { range: range(0, 10), buckets: (0..8).map(bucket).collect() };
        let exclusions = [Exclusion { range: range(0, 3), reason: "maintenance".into() }];
        let seen = outcome(&history, &exclusions, range(0, 10), None).expect("measured");
        assert_eq!((seen.valid, seen.covered_share), (50.0, 5.0 / 7.0));
        assert!((seen.bad_ratio - 0.1).abs() < 1e-12);
        let slow = outcome(&history, &[], range(2, 6), Some(100)).expect("measured");
        assert_eq!((slow.valid, slow.covered_share), (30.0, 0.75), "a bucket without a histogram is a gap");
        let above = history.buckets[0].latency.as_ref().expect("there").count_above(100.0);
        assert!((slow.bad_ratio - above / 10.0).abs() < 1e-12 && above > 3.9, "{}", slow.bad_ratio);
        assert_eq!(outcome(&history, &[], range(8, 10), None), None);
    }
}
