use std::collections::BTreeMap;

use attain_vocabulary::{
    BUCKET_MS, BucketCounts, DAY_MS, EntityId, InvalidValue, LatencyHistogram, SliBucket, Source, UnixMillis,
};

/// Largest count that a double holds exactly: 2^53.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// What may be sent now.
#[derive(Debug, Clone, Copy)]
pub struct BucketLimits {
    /// The time of arrival.
    pub now_ms: UnixMillis,
    /// How far a sender's clock may run ahead.
    pub future_skew_ms: i64,
    /// How old a bucket may be, in days.
    pub age_days_max: u32,
}

/// Latency as a sender wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum Latency {
    /// Checked already.
    Exponential(LatencyHistogram),
    /// Upper bounds and one count more than bounds; converted here.
    Explicit {
        /// Upper bounds, ascending.
        bounds_ms: Vec<f64>,
        /// Observations a bucket.
        counts: Vec<u64>,
    },
}

/// One bucket as a sender wrote it, before it is checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BucketDraft {
    /// Start of the bucket.
    pub start_ms: UnixMillis,
    /// Requests that count.
    pub valid_count: f64,
    /// Requests among them that failed.
    pub bad_count: f64,
    /// Failures that a failed dependency explains.
    pub inherited_bad_count: Option<f64>,
    /// Inherited failures by the directly called dependency.
    pub inherited_by_dependency: BTreeMap<EntityId, u64>,
    /// Latency of the valid requests.
    pub latency: Option<Latency>,
}

impl BucketDraft {
    /// Checks everything that can be wrong with a bucket.
    ///
    /// # Errors
    /// Names the first field that is: a count that is no whole number of at least 0 (at most 2^53), counts that do not
    /// nest, a start in the future, too long ago or not on a multiple of five minutes, a latency histogram that is
    /// malformed or counts more requests than there were.
    pub fn check(self, limits: BucketLimits) -> Result<SliBucket, InvalidValue> {
        check_start(self.start_ms, limits)?;
        let valid = whole("valid_count", self.valid_count)?;
        let bad = whole("bad_count", self.bad_count)?;
        let inherited = self.inherited_bad_count.map(|count| whole("inherited_bad_count", count)).transpose()?;
        let counts = BucketCounts::new(valid, bad, inherited)?;
        let latency = self.latency.map(|latency| checked_latency(latency, valid)).transpose()?;
        // An empty histogram says nothing.
        let latency = latency.filter(|latency| latency.count() > 0);
        let mut shares = self.inherited_by_dependency;
        shares.retain(|_, count| *count > 0);
        SliBucket::new(self.start_ms, counts, shares, latency)
    }
}

pub(super) fn check_start(start_ms: UnixMillis, limits: BucketLimits) -> Result<(), InvalidValue> {
    if start_ms > limits.now_ms.saturating_add(limits.future_skew_ms) {
        return Err(InvalidValue::new("start_time", "future_time", "the bucket starts in the future"));
    }
    let age_max_ms = i64::from(limits.age_days_max) * DAY_MS;
    if start_ms < limits.now_ms.saturating_sub(age_max_ms) {
        let reason = format!("the bucket is more than {} days old", limits.age_days_max);
        return Err(InvalidValue::new("start_time", "too_old", reason));
    }
    if start_ms.rem_euclid(BUCKET_MS) != 0 {
        let reason = "the start is not a multiple of five minutes";
        return Err(InvalidValue::new("start_time", "not_aligned", reason));
    }
    Ok(())
}

fn whole(field: &str, value: f64) -> Result<u64, InvalidValue> {
    if value.is_nan() {
        return Err(InvalidValue::new(field, "not_a_number", "NaN is no count"));
    }
    if !(0.0..=COUNT_MAX).contains(&value) {
        return Err(InvalidValue::new(field, "out_of_range", format!("{value} is outside 0 to 2^53")));
    }
    if value.fract() != 0.0 {
        return Err(InvalidValue::new(field, "not_whole", format!("{value} is not a whole number of requests")));
    }
    Ok(value as u64)
}

fn checked_latency(latency: Latency, valid: u64) -> Result<LatencyHistogram, InvalidValue> {
    let (field, histogram) = match latency {
        Latency::Exponential(histogram) => ("latency", histogram),
        Latency::Explicit { bounds_ms, counts } => {
            ("latency_explicit", LatencyHistogram::from_explicit(&bounds_ms, &counts)?)
        }
    };
    if histogram.count() > valid {
        let reason = format!("{} latencies among {valid} valid requests", histogram.count());
        return Err(InvalidValue::new(field, "latency_exceeds_valid", reason));
    }
    Ok(histogram)
}

/// Adds up two measurements of the same bucket by the same source. Where only one of them tells own and inherited
/// failures apart, the failures of the other count as own.
#[must_use]
pub fn add_buckets(stored: &SliBucket, more: &SliBucket) -> SliBucket {
    let valid = stored.counts.valid().saturating_add(more.counts.valid());
    let bad = stored.counts.bad().saturating_add(more.counts.bad());
    let inherited = match (stored.counts.inherited_bad(), more.counts.inherited_bad()) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    };
    let mut shares = stored.inherited_by_dependency.clone();
    for (id, count) in &more.inherited_by_dependency {
        let share = shares.entry(id.clone()).or_insert(0);
        *share = share.saturating_add(*count);
    }
    let latency = match (stored.latency.clone(), &more.latency) {
        (Some(mut latency), Some(added)) => {
            latency.merge(added);
            Some(latency)
        }
        (stored, added) => stored.or_else(|| added.clone()),
    };
    // Sums of counts that nest do nest.
    let counts = BucketCounts::new(valid, bad, inherited).unwrap_or(more.counts);
    SliBucket { start_ms: stored.start_ms, counts, inherited_by_dependency: shares, latency }
}

/// One bucket as several sources together tell it.
#[derive(Debug, Clone, PartialEq)]
pub struct MergedBucket {
    /// The bucket.
    pub bucket: SliBucket,
    /// Whose measurements it holds.
    pub sources: SourceSet,
}

/// A set of sources in two bytes: every bucket of a history has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceSet(u16);

impl SourceSet {
    /// Adds one.
    pub fn insert(&mut self, source: Source) {
        self.0 |= 1 << source as u16;
    }

    /// Those of both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// In their order.
    pub fn iter(self) -> impl Iterator<Item = Source> {
        Source::ALL.into_iter().filter(move |source| self.0 & (1 << *source as u16) != 0)
    }
}

impl<const N: usize> From<[Source; N]> for SourceSet {
    fn from(sources: [Source; N]) -> Self {
        let mut set = Self::default();
        sources.into_iter().for_each(|source| set.insert(source));
        set
    }
}

/// Sources from the most to the least direct one: what a sender counted itself, what its monitoring counted, what its
/// SDK counted, what traces (often sampled) showed.
#[must_use]
pub fn most_direct_first(source: Source) -> u8 {
    match source {
        Source::Declared => 0,
        Source::Catalogue => 1,
        Source::Prometheus => 2,
        Source::OtlpMetrics => 3,
        // They tell of edges, never of buckets.
        Source::ServiceGraph | Source::Istio | Source::Linkerd | Source::Jaeger => 4,
        Source::Traces => 5,
    }
}

/// Merges measurements of the same bucket; `None` for none.
///
/// The counts of the most direct source stand. Where it does not tell own and inherited failures apart and another one
/// does, that one's inherited share of failures, by dependency, is scaled onto its count of failures (rounded; no failures
/// there tells nothing, unless there are none here either). Where it has no latency, that of the next source that has one
/// stands, provided that it counts no more requests than there were.
#[must_use]
pub fn merge_sources(mut measurements: Vec<(Source, SliBucket)>) -> Option<MergedBucket> {
    measurements.sort_by_key(|(source, _)| most_direct_first(*source));
    let mut rest = measurements.into_iter();
    let (source, mut bucket) = rest.next()?;
    let mut sources = SourceSet::from([source]);
    for (source, other) in rest {
        if bucket.counts.inherited_bad().is_none() && borrow_split(&mut bucket, &other) {
            sources.insert(source);
        }
        if bucket.latency.is_none()
            && let Some(latency) = other.latency.filter(|latency| latency.count() <= bucket.counts.valid())
        {
            bucket.latency = Some(latency);
            sources.insert(source);
        }
    }
    Some(MergedBucket { bucket, sources })
}

/// Scales the own/inherited split of `other` onto `bucket`; whether there was one to scale.
fn borrow_split(bucket: &mut SliBucket, other: &SliBucket) -> bool {
    let Some(their_inherited) = other.counts.inherited_bad() else { return false };
    let (bad, their_bad) = (bucket.counts.bad(), other.counts.bad());
    if bad > 0 && their_bad == 0 {
        return false;
    }
    let scale = |count: u64| if their_bad == 0 { 0.0 } else { count as f64 * bad as f64 / their_bad as f64 };
    let inherited = (scale(their_inherited).round() as u64).min(bad);
    let mut left = inherited;
    let mut shares = BTreeMap::new();
    for (id, count) in &other.inherited_by_dependency {
        let share = (scale(*count).round() as u64).min(left);
        left -= share;
        if share > 0 {
            shares.insert(id.clone(), share);
        }
    }
    if let Ok(counts) = BucketCounts::new(bucket.counts.valid(), bad, Some(inherited)) {
        bucket.counts = counts;
        bucket.inherited_by_dependency = shares;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: i64 = 1_793_000_100_000;
    const LIMITS: BucketLimits = BucketLimits { now_ms: NOW_MS, future_skew_ms: BUCKET_MS, age_days_max: 400 };

    fn draft() -> BucketDraft {
        let start_ms = attain_vocabulary::bucket_start(NOW_MS);
        BucketDraft { start_ms, valid_count: 100.0, bad_count: 5.0, ..BucketDraft::default() }
    }

    fn id(name: &str) -> EntityId {
        EntityId::new("id", name).expect("valid")
    }

    fn explicit(counts: &[u64]) -> Option<Latency> {
        Some(Latency::Explicit { bounds_ms: vec![10.0], counts: counts.to_vec() })
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        let start_ms = draft().start_ms;
        let cases = [
            (BucketDraft { valid_count: f64::NAN, ..draft() }, "valid_count", "not_a_number"),
            (BucketDraft { valid_count: -1.0, ..draft() }, "valid_count", "out_of_range"),
            (BucketDraft { valid_count: f64::INFINITY, ..draft() }, "valid_count", "out_of_range"),
            (BucketDraft { bad_count: 0.5, ..draft() }, "bad_count", "not_whole"),
            (BucketDraft { bad_count: 101.0, ..draft() }, "bad_count", "bad_exceeds_valid"),
            (BucketDraft { inherited_bad_count: Some(6.0), ..draft() }, "inherited_bad_count", "inherited_exceeds_bad"),
            (BucketDraft { start_ms: start_ms + 2 * BUCKET_MS, ..draft() }, "start_time", "future_time"),
            (BucketDraft { start_ms: start_ms - 401 * DAY_MS, ..draft() }, "start_time", "too_old"),
            (BucketDraft { start_ms: start_ms - 1, ..draft() }, "start_time", "not_aligned"),
            (BucketDraft { latency: explicit(&[100, 1]), ..draft() }, "latency_explicit", "latency_exceeds_valid"),
            (BucketDraft { latency: explicit(&[1]), ..draft() }, "latency_explicit/counts", "wrong_length"),
            (
                BucketDraft { inherited_by_dependency: BTreeMap::from([(id("db"), 1)]), ..draft() },
                "inherited_by_dependency",
                "inherited_exceeds_bad",
            ),
        ];
        for (draft, field, code) in cases {
            let error = draft.clone().check(LIMITS).expect_err(field);
            assert_eq!((error.field.as_str(), error.code), (field, code), "{draft:?}");
        }
    }

    #[test]
    fn explicit_latency_is_converted_and_an_empty_one_is_none() {
        let kept = BucketDraft { latency: explicit(&[90, 10]), ..draft() }.check(LIMITS).expect("valid");
        assert_eq!(kept.latency.map(|latency| latency.count()), Some(100));
        let empty = BucketDraft { latency: explicit(&[0, 0]), ..draft() }.check(LIMITS).expect("valid");
        assert_eq!(empty.latency, None);
    }

    fn bucket(valid: u64, bad: u64, inherited: Option<u64>, db: u64) -> SliBucket {
        let counts = BucketCounts::new(valid, bad, inherited).expect("nested");
        let shares = if db > 0 { BTreeMap::from([(id("db"), db)]) } else { BTreeMap::new() };
        SliBucket::new(0, counts, shares, None).expect("valid")
    }

    #[test]
    fn the_most_direct_source_stands_with_the_split_of_the_traces() {
        let merged = merge_sources(vec![
            (Source::Traces, bucket(10, 4, Some(3), 2)),
            (Source::Prometheus, bucket(1000, 40, None, 0)),
            (Source::OtlpMetrics, bucket(900, 30, None, 0)),
        ]);
        let merged = merged.expect("measured");
        assert_eq!((merged.bucket.counts.valid(), merged.bucket.counts.bad()), (1000, 40));
        assert_eq!(merged.bucket.counts.inherited_bad(), Some(30));
        assert_eq!(merged.bucket.inherited_by_dependency, BTreeMap::from([(id("db"), 20)]));
        assert_eq!(merged.sources, SourceSet::from([Source::Traces, Source::Prometheus]));
        assert_eq!(merged.sources.iter().collect::<Vec<_>>(), [Source::Traces, Source::Prometheus]);
    }

    #[test]
    fn traces_without_failures_tell_nothing_of_failures() {
        let traces = (Source::Traces, bucket(10, 0, Some(0), 0));
        let merged =
            merge_sources(vec![traces.clone(), (Source::Declared, bucket(100, 7, None, 0))]).expect("measured");
        assert_eq!(merged.bucket.counts.inherited_bad(), None);
        let merged = merge_sources(vec![traces, (Source::Declared, bucket(100, 0, None, 0))]).expect("measured");
        assert_eq!(merged.bucket.counts.inherited_bad(), Some(0));
    }

    prop_compose! {
        fn any_bucket()(valid in 0u64..10_000, bad in 0.0f64..=1.0, inherited in prop::option::of(0.0f64..=1.0), share in 0.0f64..=1.0) -> SliBucket {
            let bad = (valid as f64 * bad) as u64;
            let inherited = inherited.map(|part| (bad as f64 * part) as u64);
            let db = inherited.map_or(0, |count| (count as f64 * share) as u64);
            bucket(valid, bad, inherited, db)
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_nests(valid in -5.0f64..200.0, bad in -5.0f64..200.0, inherited in prop::option::of(-5.0f64..200.0), whole: bool) {
            let round = |value: f64| if whole { value.round() } else { value };
            let draft = BucketDraft {
                valid_count: round(valid), bad_count: round(bad), inherited_bad_count: inherited.map(round), ..draft()
            };
            let fits = whole && draft.valid_count >= draft.bad_count && draft.bad_count >= 0.0
                && draft.inherited_bad_count.is_none_or(|count| (0.0..=draft.bad_count).contains(&count));
            let checked = draft.check(LIMITS);
            if fits {
                prop_assert!(checked.is_ok());
            }
            if let Ok(bucket) = checked {
                prop_assert!(bucket.counts.bad() <= bucket.counts.valid());
                prop_assert!(bucket.counts.inherited_bad().unwrap_or(0) <= bucket.counts.bad());
            }
        }

        #[test]
        fn merged_and_added_buckets_nest(a in any_bucket(), b in any_bucket(), c in any_bucket()) {
            let merged = merge_sources(vec![(Source::Traces, a.clone()), (Source::Declared, b.clone()), (Source::Prometheus, c)]);
            let merged = merged.expect("measured").bucket;
            prop_assert_eq!((merged.counts.valid(), merged.counts.bad()), (b.counts.valid(), b.counts.bad()));
            let sum = add_buckets(&a, &b);
            prop_assert_eq!(sum.counts.valid(), a.counts.valid() + b.counts.valid());
            prop_assert_eq!(&sum, &add_buckets(&b, &a));
            for bucket in [merged, sum] {
                prop_assert!(SliBucket::new(0, bucket.counts, bucket.inherited_by_dependency.clone(), None).is_ok());
            }
        }
    }
}
