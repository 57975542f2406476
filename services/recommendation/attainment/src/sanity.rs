use attain_vocabulary::{BUCKET_MS, DAY_MS, SliBucket, TimeRange, UnixMillis, bucket_start};

use crate::{CountPoint, CountSeries, Exclusion, RecommendationInput};

/// The buckets that are read, and how much of the span they cover. A gap is never counted as good: it is not counted.
pub(crate) struct Usable<'a> {
    /// By ascending start; none excluded, none outside the span, none at or after the instant asked for.
    pub(crate) buckets: Vec<&'a SliBucket>,
    /// One point for each of `buckets`.
    pub(crate) series: CountSeries,
    pub(crate) coverage_ratio: f64,
    pub(crate) exclusions: Vec<Exclusion>,
    /// End of the newest bucket, excluded ones among them.
    pub(crate) newest_ms: Option<UnixMillis>,
    /// Whether any of `buckets` tells latencies.
    pub(crate) tells_latency: bool,
}

/// Whatever looks at each bucket that is read while it is near.
pub(crate) trait Witness<'a> {
    /// For at most so many rows.
    fn with_room(rows: usize) -> Self;

    /// Sees a bucket that becomes the next row.
    fn see(&mut self, bucket: &'a SliBucket);
}

impl<'a> Witness<'a> for () {
    fn with_room(_: usize) -> Self {}

    fn see(&mut self, _: &'a SliBucket) {}
}

impl<'a> Usable<'a> {
    pub(crate) fn of(input: &'a RecommendationInput) -> Self {
        Self::seen_by::<()>(input).0
    }

    /// The same, each bucket of it seen by a witness, in order.
    pub(crate) fn seen_by<W: Witness<'a>>(input: &'a RecommendationInput) -> (Self, W) {
        Self::read(input.history.range, input.as_of_ms, &input.history.buckets, &input.exclusions)
    }

    pub(crate) fn within(
        range: TimeRange,
        as_of_ms: UnixMillis,
        buckets: &'a [SliBucket],
        exclusions: &[Exclusion],
    ) -> Self {
        Self::read::<()>(range, as_of_ms, buckets, exclusions).0
    }

    fn read<W: Witness<'a>>(
        range: TimeRange,
        as_of_ms: UnixMillis,
        buckets: &'a [SliBucket],
        exclusions: &[Exclusion],
    ) -> (Self, W) {
        let end = range.end_ms().min(as_of_ms).max(range.start_ms());
        let exclusions: Vec<Exclusion> = exclusions
            .iter()
            .filter(|exclusion| exclusion.range.start_ms() < end && exclusion.range.end_ms() > range.start_ms())
            .cloned()
            .collect();
        let spans = union(&exclusions);
        let inside = || {
            buckets.iter().filter(|bucket| {
                bucket.start_ms >= range.start_ms() && bucket.start_ms.saturating_add(BUCKET_MS) <= end
            })
        };
        let read = Read::in_order(inside(), buckets.len(), &spans).unwrap_or_else(|| {
            let mut sorted: Vec<&SliBucket> = inside().collect();
            sorted.sort_by_key(|bucket| bucket.start_ms);
            sorted.dedup_by_key(|bucket| bucket.start_ms);
            let in_order = Read::in_order(sorted.into_iter(), buckets.len(), &spans);
            in_order.unwrap_or_else(|| Read::with_room(0))
        });
        let Read { buckets, points, newest_ms, tells_latency, witness } = read;
        let possible = possible(range.start_ms(), end, &spans);
        let coverage_ratio = if possible > 0 { (buckets.len() as f64 / possible as f64).min(1.0) } else { 0.0 };
        let series = CountSeries::of(points);
        (Self { buckets, series, coverage_ratio, exclusions, newest_ms, tells_latency }, witness)
    }
}

/// Buckets of a span and their counts, in one pass: a bucket is large, and ninety days of them are more than what is near.
struct Read<'a, W> {
    buckets: Vec<&'a SliBucket>,
    points: Vec<CountPoint>,
    newest_ms: Option<UnixMillis>,
    tells_latency: bool,
    witness: W,
}

impl<'a, W: Witness<'a>> Read<'a, W> {
    /// `None` where a bucket does not start after the one before it.
    fn in_order(
        inside: impl Iterator<Item = &'a SliBucket>,
        buckets_max: usize,
        spans: &[(UnixMillis, UnixMillis)],
    ) -> Option<Self> {
        let (mut read, mut last_ms) = (Self::with_room(buckets_max), None);
        for bucket in inside {
            if last_ms.is_some_and(|last_ms| last_ms >= bucket.start_ms) {
                return None;
            }
            last_ms = Some(bucket.start_ms);
            if !excluded(spans, bucket.start_ms) {
                read.buckets.push(bucket);
                read.points.push(point(bucket));
                read.tells_latency |= bucket.latency.is_some();
                read.witness.see(bucket);
            }
        }
        read.newest_ms = last_ms.map(|last_ms| last_ms + BUCKET_MS);
        Some(read)
    }

    fn with_room(buckets_max: usize) -> Self {
        let (buckets, points) = (Vec::with_capacity(buckets_max), Vec::with_capacity(buckets_max));
        Self { buckets, points, newest_ms: None, tells_latency: false, witness: W::with_room(buckets_max) }
    }
}

/// Requests and failures of the service bucket by bucket, as an estimate reads them: nothing outside the span, nothing excluded.
#[must_use]
pub fn usable_counts(input: &RecommendationInput) -> CountSeries {
    Usable::of(input).series
}

fn point(bucket: &SliBucket) -> CountPoint {
    let (valid, bad) = (bucket.counts.valid(), bucket.counts.bad());
    // What is read from elsewhere was not always held against itself.
    CountPoint { start_ms: bucket.start_ms, valid: valid as f64, bad: bad.min(valid) as f64 }
}

/// Excluded spans widened to whole buckets, in order, none overlapping another.
pub(crate) fn union(exclusions: &[Exclusion]) -> Vec<(UnixMillis, UnixMillis)> {
    let whole = |range: &TimeRange| {
        let end = bucket_start(range.end_ms().saturating_sub(1).min(i64::MAX - BUCKET_MS)) + BUCKET_MS;
        (bucket_start(range.start_ms().max(i64::MIN + BUCKET_MS)), end)
    };
    let mut spans: Vec<_> =
        exclusions.iter().filter(|e| e.range.start_ms() < e.range.end_ms()).map(|e| whole(&e.range)).collect();
    spans.sort_unstable();
    let mut joined: Vec<(UnixMillis, UnixMillis)> = Vec::new();
    for (start, end) in spans {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

pub(crate) fn excluded(spans: &[(UnixMillis, UnixMillis)], start: UnixMillis) -> bool {
    let next = spans.partition_point(|span| span.0 <= start);
    next > 0 && start < spans[next - 1].1
}

/// Buckets that the span could hold, excluded ones taken out.
pub(crate) fn possible(start: UnixMillis, end: UnixMillis, spans: &[(UnixMillis, UnixMillis)]) -> i64 {
    let first = start.saturating_add(BUCKET_MS - 1).div_euclid(BUCKET_MS);
    let whole = |from: i64, to: i64| (to - from).max(0);
    let end = end.div_euclid(BUCKET_MS);
    let out: i64 = spans
        .iter()
        .map(|span| whole(first.max(span.0.div_euclid(BUCKET_MS)), end.min(span.1.div_euclid(BUCKET_MS))))
        .sum();
    (whole(first, end) - out).max(0)
}

/// Days between two instants; 0 when the second is not later.
pub(crate) fn days_between(start: UnixMillis, end: UnixMillis) -> f64 {
    end.saturating_sub(start).max(0) as f64 / DAY_MS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusion(start: i64, end: i64) -> Exclusion {
        Exclusion { range: TimeRange::new("range", start, end).expect("ascending"), reason: "maintenance".into() }
    }

    #[test]
    fn an_exclusion_takes_out_each_bucket_that_it_touches() {
        let spans = union(&[
            exclusion(BUCKET_MS + 1, BUCKET_MS + 2),
            exclusion(3 * BUCKET_MS, 5 * BUCKET_MS),
            exclusion(4 * BUCKET_MS, 4 * BUCKET_MS),
        ]);
        assert_eq!(spans, [(BUCKET_MS, 2 * BUCKET_MS), (3 * BUCKET_MS, 5 * BUCKET_MS)]);
        let out: Vec<bool> = (0..6).map(|i| excluded(&spans, i * BUCKET_MS)).collect();
        assert_eq!(out, [false, true, false, true, true, false]);
        assert_eq!(possible(0, 6 * BUCKET_MS, &spans), 3);
    }

    #[test]
    fn buckets_are_read_in_order_however_they_come() {
        let bucket = |i: i64, valid: u64| {
            let counts = attain_vocabulary::BucketCounts::new(valid, 1, None).expect("nested");
            SliBucket::new(i * BUCKET_MS, counts, std::collections::BTreeMap::new(), None).expect("aligned")
        };
        let range = TimeRange::new("range", 0, 4 * BUCKET_MS).expect("ascending");
        let out = [exclusion(2 * BUCKET_MS, 3 * BUCKET_MS)];
        let read = |buckets: &[SliBucket]| {
            let usable = Usable::within(range, 4 * BUCKET_MS, buckets, &out);
            let read = usable.buckets.iter().map(|bucket| bucket.counts.valid()).collect::<Vec<_>>();
            (read, usable.series, usable.newest_ms, usable.coverage_ratio)
        };
        let in_order = read(&[bucket(-1, 9), bucket(0, 5), bucket(1, 6), bucket(2, 7), bucket(4, 9)]);
        assert_eq!((in_order.0.as_slice(), in_order.2), ([5, 6].as_slice(), Some(3 * BUCKET_MS)));
        // Another order, and one that is there twice: the first of the two is read.
        let shuffled = read(&[bucket(4, 9), bucket(1, 6), bucket(2, 7), bucket(0, 5), bucket(1, 8)]);
        assert_eq!(shuffled, in_order);
    }

    #[test]
    fn overlapping_exclusions_are_counted_once() {
        let spans = union(&[exclusion(0, 3 * BUCKET_MS), exclusion(BUCKET_MS, 4 * BUCKET_MS)]);
        assert_eq!(possible(0, 10 * BUCKET_MS, &spans), 6);
        assert_eq!(possible(0, 0, &spans), 0);
        assert_eq!(days_between(DAY_MS, 0), 0.0);
    }
}
