//! Latencies of range queries as exponential histograms. Pure.

use std::collections::BTreeMap;

use attain_vocabulary::{LatencyHistogram, UnixMillis};

use super::answer::{NativeHistogram, RangeSeries};
use super::counting::rounded;

/// Cumulative counts by upper bound.
type Bounds = Vec<(f64, f64)>;

/// What a server told of one service's latencies in five minutes.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Upper bounds in milliseconds with cumulative counts, of all series together.
    classic: Bounds,
    native: Vec<NativeHistogram>,
    unit_ms: f64,
}

/// Latencies by what `key` makes of a series' labels, and by instant; how many series had no key or no bound.
pub(super) fn latencies<K: Ord + Clone>(
    series: Vec<RangeSeries>,
    unit_ms: f64,
    key: impl Fn(&RangeSeries) -> Option<K>,
) -> (BTreeMap<(K, UnixMillis), Latency>, usize) {
    let mut found: BTreeMap<(K, UnixMillis), Latency> = BTreeMap::new();
    let mut unnamed_count = 0;
    for series in series {
        let Some(named) = key(&series) else {
            unnamed_count += 1;
            continue;
        };
        for (end_ms, histogram) in &series.histograms {
            found.entry((named.clone(), *end_ms)).or_default().native.push(histogram.clone());
        }
        let bound = series.labels.get("le").and_then(|le| le.parse::<f64>().ok()).filter(|bound| !bound.is_nan());
        if bound.is_none() && !series.values.is_empty() {
            unnamed_count += 1;
        }
        for (bound, (end_ms, value)) in
            bound.iter().flat_map(|bound| series.values.iter().map(move |value| (bound, value)))
        {
            found.entry((named.clone(), *end_ms)).or_default().add(bound * unit_ms, *value);
        }
    }
    found.values_mut().for_each(|latency| latency.unit_ms = unit_ms);
    (found, unnamed_count)
}

impl Latency {
    fn add(&mut self, bound_ms: f64, count: f64) {
        match self.classic.iter_mut().find(|(known, _)| *known == bound_ms) {
            Some((_, known)) => *known += count,
            None => self.classic.push((bound_ms, count)),
        }
    }

    /// A histogram of at most `max` observations. Native buckets stand before classic ones: they are finer.
    ///
    /// `None` where there is no bucket for all observations, or a count is no number.
    pub(super) fn histogram(self, max: u64) -> Option<LatencyHistogram> {
        if self.native.is_empty() {
            return cumulative(self.classic, max);
        }
        let mut all = LatencyHistogram::empty();
        for histogram in &self.native {
            let room = max.saturating_sub(all.count());
            all.merge(&cumulative(bounds(histogram, self.unit_ms), room)?);
        }
        Some(all)
    }
}

/// The buckets of a native histogram as cumulative counts. Observations around zero are at most zero: their bucket is as
/// narrow as the exporter's threshold, a rounding error by default. Of custom buckets the first begins at minus infinity,
/// but no latency is below zero: it holds what took up to its bound.
fn bounds(histogram: &NativeHistogram, unit_ms: f64) -> Bounds {
    let mut bounds = vec![(0.0, 0.0)];
    let mut below = 0.0;
    for (from, to, count) in &histogram.buckets {
        if *from > 0.0 && bounds.last().is_some_and(|(last, _)| *last < from * unit_ms) {
            bounds.push((from * unit_ms, below));
        }
        below += count;
        if from.is_nan() || to.is_nan() {
            // Sorted last, where the bound for all has to be.
            bounds.push((f64::NAN, below));
        } else if *to <= 0.0 || (*from < 0.0 && from.is_finite()) {
            bounds[0].1 = below;
        } else if to.is_finite() {
            bounds.push((to * unit_ms, below));
        }
    }
    bounds.push((f64::INFINITY, below));
    bounds
}

/// A histogram of cumulative counts.
fn cumulative(mut bounds: Bounds, max: u64) -> Option<LatencyHistogram> {
    bounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    if bounds.last()?.0 != f64::INFINITY {
        return None;
    }
    let mut below = 0;
    let mut counts = Vec::with_capacity(bounds.len());
    for (_, cumulative) in &bounds {
        // An estimate may make a wider bucket hold less than a narrower one; it holds no less.
        let up_to_here = rounded(*cumulative)?.min(max).max(below);
        counts.push(up_to_here - below);
        below = up_to_here;
    }
    let finite: Vec<f64> = bounds.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
    LatencyHistogram::from_explicit(&finite, &counts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(buckets: &[(f64, f64, f64)]) -> Latency {
        let histogram = NativeHistogram { buckets: buckets.to_vec() };
        Latency { native: vec![histogram], unit_ms: 1_000.0, ..Latency::default() }
    }

    #[test]
    fn native_buckets_keep_their_place_and_their_total() {
        // Schema 3: bounds 2^(n/8) seconds, with a gap, and a bucket around zero.
        let bound = |n: f64| libm::exp2(n / 8.0);
        let buckets = [(-0.001, 0.001, 2.0), (bound(-20.0), bound(-19.0), 90.0), (bound(0.0), bound(1.0), 7.0)];
        let histogram = native(&buckets).histogram(1_000).expect("valid");
        assert_eq!((histogram.count(), histogram.zero_count()), (99, 2));
        assert!((histogram.count_above(1_000.0) - 7.0).abs() < 1.0, "{histogram:?}");
        assert_eq!(histogram.count_above(1_000.0 * bound(1.0) * 1.1), 0.0);
        let median = histogram.quantile(0.5).expect("some");
        assert!((1_000.0 * bound(-20.5)..1_000.0 * bound(-18.5)).contains(&median), "{median}");
        // As many as there were requests, and of fractions the sum is rounded, not each.
        assert_eq!(native(&buckets).histogram(50).expect("valid").count(), 50);
        let thirds = [(0.1, 0.2, 0.4), (0.2, 0.4, 0.4), (0.4, 0.8, 0.4)];
        assert_eq!(native(&thirds).histogram(9).expect("valid").count(), 1);
    }

    #[test]
    fn the_first_of_custom_buckets_is_not_zero() {
        let custom = native(&[(f64::NEG_INFINITY, 0.05, 40.0), (0.05, 0.1, 40.0), (0.1, f64::INFINITY, 20.0)]);
        let histogram = custom.histogram(100).expect("valid");
        assert_eq!((histogram.count(), histogram.zero_count()), (100, 0));
        let low = histogram.quantile(0.2).expect("some");
        assert!((1.0..=55.0).contains(&low), "{low}");
        // One may begin at zero itself.
        let custom = native(&[(f64::NEG_INFINITY, 0.0, 2.0), (0.0, 0.05, 8.0)]);
        let histogram = custom.histogram(100).expect("valid");
        assert_eq!((histogram.count(), histogram.zero_count()), (10, 2));
    }

    #[test]
    fn what_is_no_histogram_is_none() {
        assert_eq!(native(&[(0.1, 0.2, f64::NAN)]).histogram(9), None);
        assert_eq!(native(&[(f64::NAN, 0.2, 1.0)]).histogram(9), None);
        assert_eq!(native(&[(0.1, 0.2, -3.0)]).histogram(9), None);
        assert_eq!(native(&[]).histogram(9).map(|histogram| histogram.count()), Some(0));
        assert_eq!(Latency::default().histogram(9), None);
    }

    #[test]
    fn several_native_histograms_are_merged() {
        let one = NativeHistogram { buckets: vec![(0.1, 0.2, 5.0)] };
        let other = NativeHistogram { buckets: vec![(0.15, 0.16, 5.0)] };
        let latency = Latency { native: vec![one, other], unit_ms: 1_000.0, ..Latency::default() };
        assert_eq!(latency.histogram(8).map(|histogram| histogram.count()), Some(8));
    }
}
