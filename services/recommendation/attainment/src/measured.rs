use attain_vocabulary::{BUCKET_MS, SliBucket, TimeRange, UnixMillis};

use crate::freshness::{older_than, usable};
use crate::latency::Latencies;
use crate::sanity::{Usable, possible, union};
use crate::{AgeBucket, Constants, CountSeries, Exclusion};

/// What counts as bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliMeasured {
    /// Requests that failed.
    Availability,
    /// Requests slower than so many milliseconds.
    SlowerThanMs(u32),
}

/// The history of one SLI as an SLO reads it: buckets in order, excluded spans taken out, a gap not counted at all.
#[derive(Debug, Clone, PartialEq)]
pub struct SliHistory {
    series: CountSeries,
    range: TimeRange,
    excluded: Vec<(UnixMillis, UnixMillis)>,
    /// Sums of valid and bad before each bucket, and of all at the end.
    sums: Vec<(f64, f64)>,
}

/// Requests of a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// Requests that count.
    pub valid: f64,
    /// Those among them that were not good.
    pub bad: f64,
    /// Buckets there are over buckets that the span could hold, excluded ones taken out; 0 where it could hold none.
    pub coverage_ratio: f64,
}

impl Tally {
    /// Bad over valid; `None` without requests.
    #[must_use]
    pub fn error_ratio(&self) -> Option<f64> {
        (self.valid > 0.0).then(|| (self.bad / self.valid).clamp(0.0, 1.0))
    }
}

impl SliHistory {
    /// Reads the buckets of a span that end by `as_of_ms` (the end of the newest bucket that is read). Of latency only the
    /// buckets that know theirs are read, and those without a request.
    #[must_use]
    pub fn read(
        range: TimeRange,
        as_of_ms: UnixMillis,
        buckets: &[SliBucket],
        exclusions: &[Exclusion],
        sli: SliMeasured,
    ) -> Self {
        let usable = Usable::within(range, as_of_ms, buckets, exclusions);
        let series = match sli {
            SliMeasured::Availability => usable.series,
            SliMeasured::SlowerThanMs(threshold_ms) => Latencies::of(&usable, Constants::DEFAULT, &[threshold_ms])
                .map(|latencies| latencies.slower_than(threshold_ms))
                .unwrap_or_default(),
        };
        let end_ms = range.end_ms().min(as_of_ms).max(range.start_ms());
        let range = TimeRange::new("range", range.start_ms(), end_ms).unwrap_or(range);
        Self::new(series, range, union(&usable.exclusions))
    }

    /// Reads the ages of a span that end by `as_of_ms` as a freshness SLO does: slices in the place of requests, bad where something
    /// was older than the threshold.
    #[must_use]
    pub fn of_ages(
        range: TimeRange,
        as_of_ms: UnixMillis,
        ages: &[AgeBucket],
        exclusions: &[Exclusion],
        age_threshold_ms: u32,
    ) -> Self {
        let end_ms = range.end_ms().min(as_of_ms).max(range.start_ms());
        let series = older_than(&usable(ages, exclusions, end_ms), age_threshold_ms);
        let range = TimeRange::new("range", range.start_ms(), end_ms).unwrap_or(range);
        Self::new(series.between(range.start_ms(), end_ms), range, union(exclusions))
    }

    /// A history of counts that nothing was excluded from.
    #[must_use]
    pub fn of(series: CountSeries, range: TimeRange) -> Self {
        Self::new(series, range, Vec::new())
    }

    fn new(series: CountSeries, range: TimeRange, excluded: Vec<(UnixMillis, UnixMillis)>) -> Self {
        let mut sums = Vec::with_capacity(series.points().len() + 1);
        let mut sum = (0.0, 0.0);
        sums.push(sum);
        for point in series.points() {
            sum = (sum.0 + point.valid, sum.1 + point.bad);
            sums.push(sum);
        }
        Self { series, range, excluded, sums }
    }

    /// The counts.
    #[must_use]
    pub fn series(&self) -> &CountSeries {
        &self.series
    }

    /// The span that was read.
    #[must_use]
    pub fn range(&self) -> TimeRange {
        self.range
    }

    /// Excluded spans in whole buckets, in order, apart from one another: start and end.
    #[must_use]
    pub fn excluded(&self) -> &[(UnixMillis, UnixMillis)] {
        &self.excluded
    }

    /// Requests of the buckets that start in `[from_ms, to_ms)`.
    #[must_use]
    pub fn tally(&self, from_ms: UnixMillis, to_ms: UnixMillis) -> Tally {
        let points = self.series.points();
        let first = points.partition_point(|point| point.start_ms < from_ms);
        let end = points.partition_point(|point| point.start_ms < to_ms).max(first);
        let could = possible(from_ms, to_ms, &self.excluded);
        let coverage_ratio = if could > 0 { ((end - first) as f64 / could as f64).min(1.0) } else { 0.0 };
        // Differences of sums may be off by a hair.
        let valid = (self.sums[end].0 - self.sums[first].0).max(0.0);
        Tally { valid, bad: (self.sums[end].1 - self.sums[first].1).clamp(0.0, valid), coverage_ratio }
    }

    /// Requests a day of what is covered; 0 without any.
    #[must_use]
    pub fn valid_per_day(&self) -> f64 {
        let days = self.series.covered_days();
        if days > 0.0 { self.series.valid() / days } else { 0.0 }
    }

    /// End of the newest bucket.
    #[must_use]
    pub fn newest_ms(&self) -> Option<UnixMillis> {
        self.series.points().last().map(|point| point.start_ms + BUCKET_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CountPoint;
    use attain_vocabulary::BucketCounts;
    use std::collections::BTreeMap;

    fn bucket(number: i64, valid: u64, bad: u64) -> SliBucket {
        let counts = BucketCounts::new(valid, bad, None).expect("nested");
        SliBucket::new(number * BUCKET_MS, counts, BTreeMap::new(), None).expect("aligned")
    }

    #[test]
    fn a_gap_is_not_counted_and_an_exclusion_is_no_gap() {
        let buckets: Vec<SliBucket> = [0, 1, 2, 3, 6, 7].into_iter().map(|i| bucket(i, 10, 1)).collect();
        let range = TimeRange::new("range", 0, 8 * BUCKET_MS).expect("ascending");
        let excluded = TimeRange::new("range", 2 * BUCKET_MS, 4 * BUCKET_MS).expect("ascending");
        let exclusions = [Exclusion { range: excluded, reason: "maintenance".into() }];
        let history = SliHistory::read(range, 8 * BUCKET_MS, &buckets, &exclusions, SliMeasured::Availability);
        let all = history.tally(0, 8 * BUCKET_MS);
        assert_eq!((all.valid, all.bad), (40.0, 4.0));
        assert!((all.coverage_ratio - 4.0 / 6.0).abs() < 1e-12, "{all:?}");
        assert_eq!(history.tally(4 * BUCKET_MS, 6 * BUCKET_MS), Tally::default());
        assert_eq!(history.newest_ms(), Some(8 * BUCKET_MS));
        assert_eq!(history.tally(0, 0).error_ratio(), None);
    }

    #[test]
    fn without_latencies_nothing_is_said_of_them() {
        let range = TimeRange::new("range", 0, BUCKET_MS).expect("ascending");
        let history = SliHistory::read(range, BUCKET_MS, &[bucket(0, 10, 1)], &[], SliMeasured::SlowerThanMs(100));
        assert_eq!(history.series(), &CountSeries::default());
        assert_eq!(history.valid_per_day(), 0.0);
    }

    #[test]
    fn sums_of_parts_are_the_sum() {
        let points = (0..100).map(|i| CountPoint { start_ms: i * BUCKET_MS, valid: 7.0, bad: (i % 3) as f64 });
        let range = TimeRange::new("range", 0, 100 * BUCKET_MS).expect("ascending");
        let history = SliHistory::of(CountSeries::new(points.collect()), range);
        let (whole, left, right) = (
            history.tally(0, 100 * BUCKET_MS),
            history.tally(0, 37 * BUCKET_MS),
            history.tally(37 * BUCKET_MS, 100 * BUCKET_MS),
        );
        assert_eq!((whole.valid, whole.bad), (left.valid + right.valid, left.bad + right.bad));
    }
}
