use std::borrow::Cow;
use std::collections::BTreeMap;

use attain_vocabulary::{DAY_MS, LatencyHistogram, UnixMillis};

use crate::cells::Cells;
use crate::offers::UseRange;
use crate::prediction::predict_from;
use crate::sanity::Usable;
use crate::series::Sums;
use crate::timeline::Timeline;
use crate::{Ambition, Constants, CountPoint, CountSeries, LATENCY_MENU_MS, Offer, OfferBasis, Prediction, TierPolicy};

/// A quantile q is told only by at least this many requests slower than it: 10 / (1 - q) effective ones in all.
const SLOW_REQUESTS_MIN: f64 = 10.0;

/// Thresholds that are counted in one pass over the histograms: often the first or the second is safe enough for all.
const AT_ONCE: usize = 2;

/// Histograms that are counted before anything else is done with them: what is far away comes faster when several are waited for.
const FETCHED: usize = 32;

/// One histogram in so many is looked at to guess which thresholds will be asked about.
const SAMPLED: usize = 16;

/// The latency histograms of a history: of each bucket that has one, and of each without a request, which is not a gap.
pub(crate) struct Latencies<'a> {
    starts: Vec<UnixMillis>,
    histograms: Vec<Option<&'a LatencyHistogram>>,
    /// Requests in each histogram: counted once, and asked for at every threshold.
    counts: Vec<f64>,
    /// All of them together.
    pub(crate) merged: LatencyHistogram,
    /// What was slower than thresholds that were expected to be asked about.
    expected: Vec<(u32, Vec<f64>)>,
    constants: Constants,
}

/// A threshold and what the history says of it.
pub(crate) struct AtThreshold {
    pub(crate) threshold_ms: u32,
    /// Requests, and those that were slower.
    pub(crate) sums: Sums,
    pub(crate) cells: Cells,
    pub(crate) prediction: Prediction,
}

/// Offers at a quantile and the forecasts that they were read from.
pub(crate) struct LatencyOffers {
    pub(crate) offers: Vec<Offer>,
    /// One for each threshold looked at, tightest first.
    pub(crate) looked_at: Vec<AtThreshold>,
    /// Whether too few requests count as independent to tell the quantile.
    pub(crate) refused: bool,
}

impl<'a> Latencies<'a> {
    /// `None` when no bucket holds a request's latency. A histogram is far away in memory: while it is near, it is counted, added to
    /// the others, and asked about the thresholds that are expected.
    pub(crate) fn of(usable: &Usable<'a>, constants: Constants, expected: &[u32]) -> Option<Self> {
        if !usable.tells_latency {
            return None;
        }
        let rows = usable.buckets.len();
        let (mut starts, mut histograms, mut counts) = three(rows);
        let mut columns = Columns::of(expected, rows);
        let mut merge = Merge::default();
        for buckets in usable.buckets.chunks(FETCHED) {
            let counted = buckets.iter().map(|bucket| bucket.latency.as_ref().map_or(0, LatencyHistogram::count));
            for (bucket, count) in buckets.iter().zip(counted.collect::<Vec<u64>>()) {
                let histogram = bucket.latency.as_ref().filter(|_| count > 0);
                if histogram.is_none() && bucket.counts.valid() > 0 {
                    continue;
                }
                if let Some(histogram) = histogram {
                    merge.add(histogram, count);
                }
                columns.ask(histogram, count as f64);
                starts.push(bucket.start_ms);
                histograms.push(histogram);
                counts.push(count as f64);
            }
        }
        let any = histograms.iter().any(Option::is_some);
        let expected = expected.iter().copied().zip(columns.slower).collect();
        any.then(|| Self { merged: merge.finish(), starts, histograms, counts, expected, constants })
    }

    /// The thresholds that will most likely be asked about: told by some of the histograms.
    pub(crate) fn likely_thresholds(usable: &Usable<'_>, quantile: f64) -> Vec<u32> {
        let mut merge = Merge::default();
        if usable.tells_latency {
            let sampled = usable.buckets.iter().step_by(SAMPLED).filter_map(|bucket| bucket.latency.as_ref());
            sampled.for_each(|histogram| merge.add(histogram, histogram.count()));
        }
        let merged = merge.finish();
        if merged.count() == 0 { Vec::new() } else { possible(&merged, quantile).take(AT_ONCE).collect() }
    }

    /// Requests slower than a threshold, bucket by bucket.
    pub(crate) fn slower_than(&self, threshold_ms: u32) -> CountSeries {
        let slower = self.slower(threshold_ms);
        let rows = self.starts.iter().zip(&self.counts).zip(slower.iter());
        CountSeries::of(
            rows.map(|((start_ms, valid), bad)| CountPoint { start_ms: *start_ms, valid: *valid, bad: *bad }).collect(),
        )
    }

    /// The rows, and how many requests each holds.
    pub(crate) fn timeline(&self, now_ms: UnixMillis) -> Timeline {
        Timeline::new(self.starts.clone(), self.counts.clone(), now_ms)
    }

    /// How many requests of each row were slower than a threshold.
    fn slower(&self, threshold_ms: u32) -> Cow<'_, [f64]> {
        match self.expected.iter().find(|(expected, _)| *expected == threshold_ms) {
            Some((_, slower)) => slower.into(),
            None => self.slower_than_each(&[threshold_ms]).pop().unwrap_or_default().into(),
        }
    }

    /// The same of several.
    fn slower_than_each(&self, thresholds_ms: &[u32]) -> Vec<Vec<f64>> {
        let mut columns = Columns::of(thresholds_ms, self.starts.len());
        self.histograms.iter().zip(&self.counts).for_each(|(histogram, count)| columns.ask(*histogram, *count));
        columns.slower
    }

    /// Of some thresholds, each with how many requests of each row were slower: those not expected in one pass.
    pub(crate) fn slower_than_some(&self, thresholds_ms: &[u32]) -> Vec<(u32, Cow<'_, [f64]>)> {
        let expected = |threshold: &u32| self.expected.iter().any(|(expected, _)| expected == threshold);
        let others: Vec<u32> = thresholds_ms.iter().copied().filter(|threshold| !expected(threshold)).collect();
        let mut columns = self.slower_than_each(&others).into_iter();
        let slower = |threshold: &u32| {
            let counted = if expected(threshold) { None } else { columns.next() };
            (*threshold, counted.map_or_else(|| self.slower(*threshold), Cow::Owned))
        };
        thresholds_ms.iter().map(slower).collect()
    }

    /// What the history says of one threshold.
    pub(crate) fn at(&self, threshold_ms: u32, window_days: f64, now_ms: UnixMillis) -> Option<AtThreshold> {
        let (timeline, slower) = (self.timeline(now_ms), self.slower(threshold_ms));
        AtThreshold::of(&self.constants, threshold_ms, &timeline, &slower, window_days)
    }

    /// For each ambition the smallest threshold on the menu that a share `quantile` of requests stays under in the next window,
    /// but for the risk that the policy allows.
    ///
    /// Thresholds that more than the budget exceeded over the whole history are passed over: their forecast's mean is
    /// above the budget.
    pub(crate) fn offers(
        &self,
        policy: &TierPolicy,
        quantile: f64,
        window_days: f64,
        now_ms: UnixMillis,
    ) -> LatencyOffers {
        let timeline = self.timeline(now_ms);
        let possible: Vec<u32> = possible(&self.merged, quantile).collect();
        let columns = possible
            .chunks(AT_ONCE)
            .flat_map(|thresholds| self.slower_than_some(thresholds))
            .map(|(threshold, slower)| (threshold, &timeline, slower));
        LatencyOffers::among(&self.constants, policy, columns, quantile, window_days)
    }

    /// Days with a latency in them.
    pub(crate) fn days(&self) -> f64 {
        let rows = self.starts.iter().zip(&self.histograms).filter(|(_, histogram)| histogram.is_some());
        let mut days: Vec<i64> = rows.map(|(start_ms, _)| start_ms.div_euclid(DAY_MS)).collect();
        days.dedup();
        days.len() as f64
    }
}

/// Three empty columns with room for so many rows.
fn three<A, B, C>(rows: usize) -> (Vec<A>, Vec<B>, Vec<C>) {
    (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows))
}

/// Thresholds of the menu, tightest first, that no more than the budget exceeded.
fn possible(merged: &LatencyHistogram, quantile: f64) -> impl Iterator<Item = u32> + '_ {
    let slow_max = (1.0 - quantile) * merged.count() as f64;
    LATENCY_MENU_MS.into_iter().filter(move |threshold| merged.count_above(f64::from(*threshold)) <= slow_max)
}

/// How many requests of each row were slower than some thresholds.
struct Columns {
    /// Logarithms of the thresholds to base 2.
    thresholds: Vec<f64>,
    slower: Vec<Vec<f64>>,
}

impl Columns {
    fn of(thresholds_ms: &[u32], rows: usize) -> Self {
        let thresholds = thresholds_ms.iter().map(|threshold| libm::log2(f64::from(*threshold))).collect();
        Self { thresholds, slower: thresholds_ms.iter().map(|_| Vec::with_capacity(rows)).collect() }
    }

    /// Adds a row of so many requests.
    fn ask(&mut self, histogram: Option<&LatencyHistogram>, count: f64) {
        for (threshold, slower) in self.thresholds.iter().zip(&mut self.slower) {
            let above = histogram.map_or(0.0, |histogram| histogram.count_above_log2(*threshold));
            slower.push(above.min(count));
        }
    }
}

impl AtThreshold {
    /// Of a timeline that ends now, and how many of each row were slower; `None` when there is none.
    pub(crate) fn of(
        constants: &Constants,
        threshold_ms: u32,
        timeline: &Timeline,
        slower: &[f64],
        window_days: f64,
    ) -> Option<Self> {
        let cells = Cells::along(timeline, slower);
        let prediction = predict_from(constants, cells.all(), window_days, timeline.now_ms)?;
        Some(Self { threshold_ms, sums: Sums::of_columns(&timeline.valid, slower), cells, prediction })
    }

    /// Whether enough requests count as independent to tell a budget.
    pub(crate) fn tells(&self, budget: f64) -> bool {
        self.prediction.effective_sample_count * budget >= SLOW_REQUESTS_MIN && self.prediction.distinguishes(budget)
    }
}

impl LatencyOffers {
    /// Looks at thresholds, tightest first, until each ambition has its offer or there is too little to tell the quantile.
    pub(crate) fn among<'t>(
        constants: &Constants,
        policy: &TierPolicy,
        thresholds: impl Iterator<Item = (u32, &'t Timeline, Cow<'t, [f64]>)>,
        quantile: f64,
        window_days: f64,
    ) -> Self {
        let budget = 1.0 - quantile;
        let mut found = Self { offers: Vec::new(), looked_at: Vec::new(), refused: false };
        for (threshold, timeline, slower) in thresholds {
            let Some(at) = AtThreshold::of(constants, threshold, timeline, &slower, window_days) else {
                break;
            };
            let told = at.tells(budget);
            if told {
                found.take(&at, policy, quantile);
            }
            found.looked_at.push(at);
            // What a tighter threshold was good for stands, though this one tells no more.
            found.refused = !told && found.offers.is_empty();
            if !told || found.offers.len() == Ambition::ALL.len() {
                break;
            }
        }
        found
    }

    /// Adds an offer for each ambition still without one that the threshold is safe enough for: the least safe first.
    fn take(&mut self, at: &AtThreshold, policy: &TierPolicy, quantile: f64) {
        let forecast = &at.prediction.forecast;
        let missed = forecast.miss_probability(1.0 - quantile);
        let lacking = &Ambition::ALL[..Ambition::ALL.len() - self.offers.len()];
        let safe: Vec<Ambition> =
            lacking.iter().copied().filter(|ambition| missed <= policy.miss_probability_max(*ambition)).collect();
        if safe.is_empty() {
            return;
        }
        let range = UseRange::of(forecast, policy);
        for ambition in safe.into_iter().rev() {
            let threshold = Some(at.threshold_ms);
            let offer = range.offer(forecast, ambition, OfferBasis::Estimate, quantile, threshold);
            self.offers.insert(0, offer);
        }
    }
}

/// Buckets that a table of one resolution may span: more than any service's latencies at a sane resolution.
const TABLE_MAX: usize = 4096;

/// Adds up histograms. Those of one resolution go through a flat table: merging thousands one by one costs as many copies.
struct Merge {
    /// The resolution of the last one and its table; most are alike.
    scale: i8,
    table: Table,
    /// Tables of the others.
    tables: BTreeMap<i8, Table>,
    /// What did not fit a table.
    rest: LatencyHistogram,
}

impl Default for Merge {
    fn default() -> Self {
        Self { scale: 0, table: Table::default(), tables: BTreeMap::new(), rest: LatencyHistogram::empty() }
    }
}

impl Merge {
    /// Adds a histogram of so many requests.
    fn add(&mut self, histogram: &LatencyHistogram, count: u64) {
        if histogram.scale() != self.scale {
            self.turn_to(histogram.scale());
        }
        if !self.table.add(histogram, count) {
            self.rest.merge(histogram);
        }
    }

    fn turn_to(&mut self, scale: i8) {
        let table = self.tables.remove(&scale).unwrap_or_default();
        let last = std::mem::replace(&mut self.table, table);
        self.tables.insert(std::mem::replace(&mut self.scale, scale), last);
    }

    fn finish(mut self) -> LatencyHistogram {
        self.tables.insert(self.scale, self.table);
        let mut merged = self.rest;
        for (scale, table) in self.tables {
            if let Ok(part) = LatencyHistogram::new(scale, table.zeros, table.first, table.counts) {
                // The first part as it is: an empty histogram would only coarsen it.
                merged = if merged.count() == 0 {
                    part
                } else {
                    let mut sum = part;
                    sum.merge(&merged);
                    sum
                };
            }
        }
        merged
    }
}

/// Sums of bucket counts from an index on.
#[derive(Default)]
struct Table {
    zeros: u64,
    first: i32,
    counts: Vec<u64>,
}

impl Table {
    /// Adds a histogram of so many requests; `false`, and nothing added, when the table would get too wide or too full.
    fn add(&mut self, histogram: &LatencyHistogram, count: u64) -> bool {
        let (offset, added) = (histogram.offset(), histogram.bucket_counts());
        if self.counts.is_empty() {
            self.first = offset;
        }
        let first = i64::from(self.first.min(offset));
        let end = |first: i32, len: usize| i64::from(first) + len as i64;
        let span = end(self.first, self.counts.len()).max(end(offset, added.len())) - first;
        let full = self.zeros.checked_add(count).is_none() || count > u64::MAX / 1_000_000;
        if span > TABLE_MAX as i64 || full {
            return false;
        }
        if offset < self.first {
            let missing = (i64::from(self.first) - first) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = offset;
        }
        self.counts.resize(self.counts.len().max(span as usize), 0);
        let at = (i64::from(offset) - first) as usize;
        self.zeros += histogram.zero_count();
        for (sum, count) in self.counts[at..].iter_mut().zip(added) {
            *sum += count;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::{BUCKET_MS, Tier};

    fn merge(histograms: &[LatencyHistogram]) -> LatencyHistogram {
        let mut merge = Merge::default();
        for histogram in histograms {
            merge.add(histogram, histogram.count());
        }
        merge.finish()
    }

    #[test]
    fn merging_keeps_every_request_and_the_resolution() {
        let explicit = |counts: &[u64]| LatencyHistogram::from_explicit(&[20.0, 100.0, 900.0], counts).expect("valid");
        let fine = LatencyHistogram::new(10, 3, 5000, vec![7; 20]).expect("valid");
        let histograms = [explicit(&[5, 50, 5, 0]), explicit(&[0, 0, 40, 1]), LatencyHistogram::empty(), fine];
        let merged = merge(&histograms);
        assert_eq!(merged.count(), 60 + 41 + 143);
        let alike = merge(&histograms[..2]);
        let mut one_by_one = histograms[0].clone();
        one_by_one.merge(&histograms[1]);
        assert_eq!(alike, one_by_one);
    }

    #[test]
    fn what_a_tighter_threshold_is_good_for_stands_where_a_longer_one_tells_no_more() {
        let series = |from_day: i64, valid: f64, bad: f64| {
            let point = |i: i64| CountPoint { start_ms: i * BUCKET_MS, valid, bad };
            CountSeries::new((from_day * 288..60 * 288).map(point).collect())
        };
        let even = |per_bucket: f64| series(0, 1000.0, per_bucket);
        let sparse = series(56, 1.0, 0.0);
        let among = |of: Vec<(u32, CountSeries)>| {
            let now_ms = 60 * DAY_MS;
            let timelines: Vec<Timeline> = of.iter().map(|(_, series)| Timeline::of(series.points(), now_ms)).collect();
            let columns = of
                .iter()
                .zip(&timelines)
                .map(|((threshold, series), timeline)| (*threshold, timeline, Cow::Owned(series.failures())));
            LatencyOffers::among(&Constants::DEFAULT, &TierPolicy::for_tier(Tier::Two), columns, 0.995, 28.0)
        };
        let alone = among(vec![(200, sparse.clone())]);
        assert!(alone.refused && alone.offers.is_empty());
        let some = (10..100).map(|twentieth| even(f64::from(twentieth) / 20.0)).find(|even| {
            let found = among(vec![(100, even.clone())]);
            (1..3).contains(&found.offers.len())
        });
        let some = some.expect("a level that some ambitions allow and others do not");
        let found = among(vec![(100, some.clone()), (200, sparse)]);
        assert!(!found.refused && found.looked_at.len() == 2);
        assert_eq!(found.offers, among(vec![(100, some)]).offers);
    }

    #[test]
    fn what_does_not_fit_a_table_is_still_counted() {
        let far = |offset| LatencyHistogram::new(10, 0, offset, vec![1]).expect("valid");
        let full = LatencyHistogram::new(3, 0, 0, vec![u64::MAX / 2]).expect("valid");
        let histograms = [far(-9000), far(9000), full];
        assert_eq!(merge(&histograms).count(), u64::MAX / 2 + 2);
    }
}
