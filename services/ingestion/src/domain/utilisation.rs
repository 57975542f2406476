use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, EntityId, InvalidValue, Source, UnixMillis, UtilisationKind, bucket_start};

use super::{BucketLimits, BucketMode, check_start, most_direct_first};

/// How far above 1 a ratio may be measured and counts as 1: rates over a scrape interval are estimates.
const RATIO_TOLERANCE: f64 = 0.05;
/// Deepest queue that anybody can mean.
const DEPTH_MAX: f64 = 1e9;
/// Oldest message that anybody can mean, in seconds: a year. Beyond it somebody sent milliseconds, or an instant.
const AGE_SECONDS_MAX: f64 = 31_536_000.0;
/// Values are kept to a millionth.
const PARTS: f64 = 1e6;

/// What was used of one kind in five minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UtilisationBucket {
    start_ms: UnixMillis,
    kind: UtilisationKind,
    average: f64,
    maximum: f64,
    sample_count: u32,
}

/// A bucket as a sender wrote it, before it is checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UtilisationDraft {
    /// Start of the bucket.
    pub start_ms: UnixMillis,
    /// What is used up.
    pub kind: UtilisationKind,
    /// Mean over the bucket and all instances.
    pub average: f64,
    /// Largest value; the mean where nobody says.
    pub maximum: Option<f64>,
    /// Samples that it was computed from; 0 for 1.
    pub sample_count: u32,
}

/// Utilisation that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedUtilisation {
    /// Of which service.
    pub service: EntityId,
    /// Who measured it.
    pub source: Source,
    /// What to do with a stored bucket of the same source, start and kind.
    pub mode: BucketMode,
    /// The bucket.
    pub bucket: UtilisationBucket,
}

/// A bucket and who measured it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeasuredUtilisation {
    /// Who.
    pub source: Source,
    /// What.
    pub bucket: UtilisationBucket,
}

/// What was used of one kind over some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UtilisationSummary {
    /// What is used up.
    pub kind: UtilisationKind,
    /// Median of the buckets' means.
    pub average_p50: f64,
    /// The mean that one bucket in 20 exceeds.
    pub average_p95: f64,
    /// Largest value.
    pub maximum: f64,
    /// The newest bucket.
    pub newest: UtilisationBucket,
    /// How many buckets this sums up.
    pub bucket_count: usize,
}

impl UtilisationBucket {
    /// Checks a bucket. Values are kept to a millionth; a ratio up to 1.05 counts as 1.
    ///
    /// # Errors
    /// Names the first field that cannot be right: a start that is no multiple of five minutes (`start_time`), a value that
    /// is no number, below 0, above 1 for a ratio, above 1e9 for a depth or above a year of seconds for an age (`average`,
    /// `maximum`), a largest value below the mean (`maximum`).
    pub fn new(
        start_ms: UnixMillis,
        kind: UtilisationKind,
        average: f64,
        maximum: f64,
        sample_count: u32,
    ) -> Result<Self, InvalidValue> {
        if start_ms.rem_euclid(BUCKET_MS) != 0 {
            let reason = "the start is not a multiple of five minutes";
            return Err(InvalidValue::new("start_time", "not_aligned", reason));
        }
        let average = checked("average", kind, average)?;
        let maximum = checked("maximum", kind, maximum)?;
        if maximum < average {
            let reason = format!("the largest value {maximum} is below the mean {average}");
            return Err(InvalidValue::new("maximum", "maximum_below_average", reason));
        }
        Ok(Self { start_ms, kind, average, maximum, sample_count: sample_count.max(1) })
    }

    /// The bucket of one sample: what a gauge said at some instant. Several are added up by [`add_utilisation`].
    ///
    /// # Errors
    /// As [`Self::new`], naming `average`.
    pub fn of_sample(time_ms: UnixMillis, kind: UtilisationKind, value: f64) -> Result<Self, InvalidValue> {
        Self::new(bucket_start(time_ms), kind, value, value, 1)
    }

    /// Start of the bucket; a multiple of five minutes.
    #[must_use]
    pub fn start_ms(self) -> UnixMillis {
        self.start_ms
    }

    /// What is used up.
    #[must_use]
    pub fn kind(self) -> UtilisationKind {
        self.kind
    }

    /// Mean over the bucket and all instances: a ratio in `[0, 1]`, a depth, or seconds.
    #[must_use]
    pub fn average(self) -> f64 {
        self.average
    }

    /// Largest value in the bucket; at least the mean.
    #[must_use]
    pub fn maximum(self) -> f64 {
        self.maximum
    }

    /// Samples that it was computed from; at least 1.
    #[must_use]
    pub fn sample_count(self) -> u32 {
        self.sample_count
    }
}

impl UtilisationDraft {
    /// Checks everything that can be wrong with a bucket that arrives now.
    ///
    /// # Errors
    /// As [`UtilisationBucket::new`], and refuses a start in the future or too long ago.
    pub fn check(self, limits: BucketLimits) -> Result<UtilisationBucket, InvalidValue> {
        check_start(self.start_ms, limits)?;
        let maximum = self.maximum.unwrap_or(self.average);
        UtilisationBucket::new(self.start_ms, self.kind, self.average, maximum, self.sample_count)
    }
}

/// What a value is a measure of, in millionths: the resolution in which it is kept.
#[must_use]
pub fn millionths(value: f64) -> u64 {
    (value * PARTS).round() as u64
}

/// The value of so many millionths.
#[must_use]
pub fn from_millionths(parts: u64) -> f64 {
    parts as f64 / PARTS
}

/// Adds up two measurements of the same bucket and kind by the same source: the mean over all samples, the larger maximum.
#[must_use]
pub fn add_utilisation(stored: UtilisationBucket, more: UtilisationBucket) -> UtilisationBucket {
    let (n, m) = (f64::from(stored.sample_count), f64::from(more.sample_count));
    let average = from_millionths(millionths((stored.average * n + more.average * m) / (n + m)));
    let maximum = stored.maximum.max(more.maximum);
    let sample_count = stored.sample_count.saturating_add(more.sample_count);
    UtilisationBucket { average: average.min(maximum), maximum, sample_count, ..stored }
}

/// Of several measurements of the same bucket and kind that of the most direct source; by start and kind.
#[must_use]
pub fn merge_utilisation(measured: impl IntoIterator<Item = MeasuredUtilisation>) -> Vec<MeasuredUtilisation> {
    let mut standing: BTreeMap<(UnixMillis, UtilisationKind), MeasuredUtilisation> = BTreeMap::new();
    for measured in measured {
        let stands = standing.entry((measured.bucket.start_ms, measured.bucket.kind)).or_insert(measured);
        if most_direct_first(measured.source) < most_direct_first(stands.source) {
            *stands = measured;
        }
    }
    standing.into_values().collect()
}

/// Sums buckets up by kind; a kind without any has no summary. Percentiles are nearest-rank.
#[must_use]
pub fn summarise_utilisation(buckets: &[UtilisationBucket]) -> Vec<UtilisationSummary> {
    let mut by_kind: BTreeMap<UtilisationKind, Vec<UtilisationBucket>> = BTreeMap::new();
    for bucket in buckets {
        by_kind.entry(bucket.kind).or_default().push(*bucket);
    }
    let summary = |(kind, buckets): (UtilisationKind, Vec<UtilisationBucket>)| {
        let newest = *buckets.iter().max_by_key(|bucket| bucket.start_ms)?;
        let mut averages: Vec<f64> = buckets.iter().map(|bucket| bucket.average).collect();
        averages.sort_by(f64::total_cmp);
        let rank = |share: f64| averages[((share * averages.len() as f64).ceil() as usize).max(1) - 1];
        Some(UtilisationSummary {
            kind,
            average_p50: rank(0.5),
            average_p95: rank(0.95),
            maximum: buckets.iter().map(|bucket| bucket.maximum).fold(0.0, f64::max),
            newest,
            bucket_count: buckets.len(),
        })
    };
    by_kind.into_iter().filter_map(summary).collect()
}

fn checked(field: &str, kind: UtilisationKind, value: f64) -> Result<f64, InvalidValue> {
    if value.is_nan() {
        return Err(InvalidValue::new(field, "not_a_number", "NaN is no measure"));
    }
    let max = match kind {
        UtilisationKind::QueueDepth => DEPTH_MAX,
        UtilisationKind::MessageAge => AGE_SECONDS_MAX,
        _ => 1.0 + RATIO_TOLERANCE,
    };
    if !(0.0..=max).contains(&value) {
        let reason = match kind {
            UtilisationKind::QueueDepth => format!("{value} is outside 0 to {DEPTH_MAX}"),
            UtilisationKind::MessageAge => format!("{value} is outside 0 to {AGE_SECONDS_MAX}: an age is in seconds"),
            _ => format!("{value} is outside [0, 1]; write 80 % as 0.8"),
        };
        return Err(InvalidValue::new(field, "out_of_range", reason));
    }
    Ok(from_millionths(millionths(if kind.is_ratio() { value.min(1.0) } else { value })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use UtilisationKind::{Cpu, Memory, MessageAge, QueueDepth};
    use proptest::prelude::*;

    const T: UnixMillis = 1_793_000_100_000;

    fn bucket(n: i64, kind: UtilisationKind, average: f64) -> UtilisationBucket {
        UtilisationBucket::new(T + n * BUCKET_MS, kind, average, average, 1).expect("valid")
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (start_ms, kind, average, maximum, field, code) in [
            (T + 1, Cpu, 0.5, 0.5, "start_time", "not_aligned"),
            (T, Cpu, f64::NAN, 0.5, "average", "not_a_number"),
            (T, Cpu, 45.0, 90.0, "average", "out_of_range"),
            (T, Memory, 0.5, 1.06, "maximum", "out_of_range"),
            (T, Memory, -0.1, 0.5, "average", "out_of_range"),
            (T, QueueDepth, 5.0, 2e9, "maximum", "out_of_range"),
            (T, QueueDepth, 5.0, 4.0, "maximum", "maximum_below_average"),
            (T, MessageAge, -1.0, 4.0, "average", "out_of_range"),
            (T, MessageAge, 30.0, 1_793_000_100.0, "maximum", "out_of_range"),
        ] {
            let error = UtilisationBucket::new(start_ms, kind, average, maximum, 1).expect_err(code);
            assert_eq!((error.field.as_str(), error.code), (field, code), "{average} {maximum}");
        }
        let full = UtilisationBucket::new(T, Cpu, 0.99, 1.03, 0).expect("an estimate of all");
        assert_eq!((full.maximum(), full.sample_count()), (1.0, 1));
        let deep = UtilisationBucket::of_sample(T + 1, QueueDepth, 12_000.5).expect("a depth");
        assert_eq!((deep.start_ms(), deep.average()), (T, 12_000.5));
        let old = UtilisationBucket::new(T, MessageAge, 12.5, 90.25, 3).expect("seconds");
        assert_eq!((old.average(), old.maximum()), (12.5, 90.25));
    }

    #[test]
    fn a_draft_is_held_to_the_clock() {
        let limits = BucketLimits { now_ms: T, future_skew_ms: 0, age_days_max: 1 };
        let draft = UtilisationDraft { start_ms: T, kind: Cpu, average: 0.5, maximum: None, sample_count: 0 };
        assert_eq!(draft.check(limits), Ok(bucket(0, Cpu, 0.5)));
        for (n, code) in [(1, "future_time"), (-300, "too_old")] {
            let draft = UtilisationDraft { start_ms: T + n * BUCKET_MS, ..draft };
            assert_eq!(draft.check(limits).map_err(|error| error.code), Err(code));
        }
    }

    #[test]
    fn the_most_direct_source_stands() {
        let said = |source, average| MeasuredUtilisation { source, bucket: bucket(0, Cpu, average) };
        let other = MeasuredUtilisation { source: Source::OtlpMetrics, bucket: bucket(0, Memory, 0.9) };
        let merged = merge_utilisation([said(Source::OtlpMetrics, 0.3), other, said(Source::Prometheus, 0.4)]);
        assert_eq!(merged, [said(Source::Prometheus, 0.4), other]);
    }

    #[test]
    fn a_summary_ranks_the_means_and_keeps_the_largest_value() {
        let mut buckets: Vec<UtilisationBucket> = (0..20).map(|n| bucket(n, Cpu, n as f64 / 20.0)).collect();
        buckets.push(UtilisationBucket::new(T, QueueDepth, 3.0, 70.0, 4).expect("valid"));
        let summaries = summarise_utilisation(&buckets);
        assert_eq!((summaries[0].kind, summaries[0].bucket_count), (Cpu, 20));
        assert_eq!((summaries[0].average_p50, summaries[0].average_p95), (0.45, 0.9));
        assert_eq!((summaries[0].maximum, summaries[0].newest), (0.95, buckets[19]));
        assert_eq!((summaries[1].average_p50, summaries[1].average_p95, summaries[1].maximum), (3.0, 3.0, 70.0));
        assert_eq!(summarise_utilisation(&[]), []);
    }

    proptest! {
        #[test]
        fn adding_up_is_the_mean_of_all_samples(values in prop::collection::vec(0.0..=1.0f64, 1..40)) {
            let samples = values.iter().map(|value| UtilisationBucket::of_sample(T, Cpu, *value).expect("valid"));
            let all = samples.reduce(add_utilisation).expect("at least one");
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            prop_assert!((all.average() - mean).abs() < 1e-6 * values.len() as f64);
            prop_assert!(all.average() <= all.maximum());
            prop_assert_eq!(all.sample_count() as usize, values.len());
        }

        #[test]
        fn what_is_kept_in_millionths_comes_back_the_same(value in 0.0..1e9f64) {
            let kept = UtilisationBucket::of_sample(T, QueueDepth, value).expect("valid").average();
            prop_assert_eq!(from_millionths(millionths(kept)), kept);
        }
    }
}
