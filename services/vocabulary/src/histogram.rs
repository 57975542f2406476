use serde::{Deserialize, Serialize};

use crate::InvalidValue;

/// Finest and coarsest resolution that OpenTelemetry allows.
const SCALE_MIN: i8 = -10;
const SCALE_MAX: i8 = 20;
/// Most buckets kept; more are halved in resolution. OpenTelemetry SDKs use 160.
const BUCKETS_MAX: usize = 160;
/// Resolution that explicit buckets are converted to: a relative width of 2^(1/8), about 9 %.
const SCALE_OF_EXPLICIT: i8 = 3;

/// Resolution of a histogram: bucket bounds are powers of `2^(2^-scale)`.
pub type HistogramScale = i8;

/// A latency distribution in milliseconds as an OpenTelemetry base-2 exponential histogram.
///
/// Bucket `i` counts observations in `(base^(offset+i), base^(offset+i+1)]`, `base = 2^(2^-scale)`. At most 160 buckets
/// are kept: a wider range halves the resolution. Source: OpenTelemetry metrics data model, exponential histogram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyHistogram {
    scale: HistogramScale,
    zero_count: u64,
    offset: i32,
    counts: Vec<u64>,
}

impl LatencyHistogram {
    /// Checks a histogram; empty buckets at both ends are dropped, and more than 160 are merged.
    ///
    /// # Errors
    /// Refuses a scale outside -10 to 20, more than 4096 buckets, an offset whose bounds no `f64` holds, and counts whose
    /// sum does not fit 64 bits.
    pub fn new(scale: HistogramScale, zero_count: u64, offset: i32, counts: Vec<u64>) -> Result<Self, InvalidValue> {
        if !(SCALE_MIN..=SCALE_MAX).contains(&scale) {
            let reason = format!("scale {scale} is outside {SCALE_MIN} to {SCALE_MAX}");
            return Err(InvalidValue::new("latency/scale", "out_of_range", reason));
        }
        if counts.len() > 4096 {
            let reason = format!("{} buckets; at most 4096 are read", counts.len());
            return Err(InvalidValue::new("latency/bucket_counts", "too_long", reason));
        }
        let exponent = |index: i64| index as f64 * libm::exp2(-f64::from(scale));
        let ends = [i64::from(offset), i64::from(offset) + counts.len() as i64];
        if ends.iter().any(|end| exponent(*end).abs() > 1000.0) {
            let reason = "the bounds of these buckets are no latency";
            return Err(InvalidValue::new("latency/offset", "out_of_range", reason));
        }
        if counts.iter().try_fold(zero_count, |sum, n| sum.checked_add(*n)).is_none() {
            return Err(InvalidValue::new("latency/bucket_counts", "out_of_range", "the counts do not fit 64 bits"));
        }
        let mut histogram = Self { scale, zero_count, offset, counts };
        histogram.normalise();
        Ok(histogram)
    }

    /// An empty histogram at a resolution.
    #[must_use]
    pub fn empty() -> Self {
        Self { scale: SCALE_OF_EXPLICIT, zero_count: 0, offset: 0, counts: Vec::new() }
    }

    /// Converts explicit buckets: `counts[i]` observations at most `bounds_ms[i]`, the last without a bound.
    ///
    /// The observations of a bucket are spread evenly over its logarithmic width; those above the last bound are put
    /// just above it, and those of the first bucket between a half of its bound and the bound. Totals are kept exactly.
    ///
    /// # Errors
    /// Refuses bounds that do not ascend or are not positive and finite, and a wrong number of counts.
    pub fn from_explicit(bounds_ms: &[f64], counts: &[u64]) -> Result<Self, InvalidValue> {
        let ascending = bounds_ms.windows(2).all(|pair| pair[0] < pair[1]);
        let usable = bounds_ms.iter().all(|bound| bound.is_finite() && *bound >= 0.0 && *bound < 1e12);
        if bounds_ms.is_empty() || !ascending || !usable {
            let reason = "bounds must ascend, and each be a number of milliseconds of at least 0";
            return Err(InvalidValue::new("latency_explicit/bounds_ms", "malformed_bounds", reason));
        }
        if counts.len() != bounds_ms.len() + 1 {
            let reason =
                format!("{} counts for {} bounds; one more than bounds is needed", counts.len(), bounds_ms.len());
            return Err(InvalidValue::new("latency_explicit/counts", "wrong_length", reason));
        }
        if counts.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)).is_none() {
            return Err(InvalidValue::new("latency_explicit/counts", "out_of_range", "the counts do not fit 64 bits"));
        }
        let mut histogram = Self::empty();
        for (i, count) in counts.iter().copied().enumerate().filter(|(_, count)| *count > 0) {
            let upper = bounds_ms.get(i).copied();
            let lower = i.checked_sub(1).map(|below| bounds_ms[below]);
            histogram.spread(lower, upper, count);
        }
        histogram.normalise();
        Ok(histogram)
    }

    /// Counts one observation; anything not above zero, and NaN, counts as zero.
    pub fn record(&mut self, latency_ms: f64) {
        self.record_many(latency_ms, 1);
    }

    /// Counts equal observations.
    pub fn record_many(&mut self, latency_ms: f64, count: u64) {
        if latency_ms.is_nan() || latency_ms <= 1e-9 {
            self.zero_count = self.zero_count.saturating_add(count);
            return;
        }
        let index = bucket_index(latency_ms.min(1e12), self.scale);
        self.add_at(index, count);
        if self.counts.len() > BUCKETS_MAX {
            self.normalise();
        }
    }

    /// Adds another histogram; the coarser of both resolutions stays.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.scale > other.scale {
            self.halve();
        }
        while other.scale > self.scale {
            other.halve();
        }
        self.zero_count = self.zero_count.saturating_add(other.zero_count);
        for (i, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add_at(other.offset + i as i32, *count);
        }
        self.normalise();
    }

    /// Observations in all.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::try_from(sum(&self.counts) + u128::from(self.zero_count)).unwrap_or(u64::MAX)
    }

    /// Latency below which a share `quantile` of the observations lies, interpolated within its bucket on the logarithmic
    /// scale; `None` when empty.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * total as f64;
        let mut below = self.zero_count as f64;
        if rank <= below {
            return Some(0.0);
        }
        for (i, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if rank <= below + count {
                let position = f64::from(self.offset) + i as f64 + (rank - below) / count;
                return Some(self.bound(position));
            }
            below += count;
        }
        Some(self.bound(f64::from(self.offset) + self.counts.len() as f64))
    }

    /// Mean latency, each observation taken for the middle of its bucket on the logarithmic scale; `None` when empty.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let total = self.count();
        let middle = |i: usize| self.bound(f64::from(self.offset) + i as f64 + 0.5);
        let sum: f64 = self.counts.iter().enumerate().map(|(i, count)| *count as f64 * middle(i)).sum();
        (total > 0).then(|| sum / total as f64)
    }

    /// The same with every latency a number of times as long, as near as buckets allow: at most half a bucket off.
    ///
    /// # Errors
    /// Refuses a factor that is not a positive number, and one that no bucket holds.
    pub fn scaled(&self, factor: f64) -> Result<Self, InvalidValue> {
        if !(factor.is_finite() && factor > 0.0) {
            return Err(InvalidValue::new("factor", "out_of_range", format!("{factor} is no positive number")));
        }
        let shift = (libm::log2(factor) * libm::exp2(f64::from(self.scale))).round();
        let offset = self.offset.saturating_add(shift as i32);
        Self::new(self.scale, self.zero_count, offset, self.counts.clone())
    }

    /// The same with further observations too close to zero to place.
    #[must_use]
    pub fn with_zeros(&self, count: u64) -> Self {
        Self { zero_count: self.zero_count.saturating_add(count), ..self.clone() }
    }

    /// Observations slower than a threshold, interpolated within its bucket; at most [`Self::count`].
    #[must_use]
    pub fn count_above(&self, threshold_ms: f64) -> f64 {
        if threshold_ms <= 0.0 {
            return (self.count() - self.zero_count) as f64;
        }
        self.count_above_log2(libm::log2(threshold_ms))
    }

    /// The same with the threshold's logarithm to base 2: for many histograms against one threshold.
    #[must_use]
    pub fn count_above_log2(&self, threshold_log2: f64) -> f64 {
        let position = threshold_log2 * power_of_two(self.scale) - f64::from(self.offset);
        // Buckets wholly below the threshold add nothing; a cast saturates.
        let below = (position.floor().max(0.0) as usize).min(self.counts.len());
        let Some((within, above)) = self.counts[below..].split_first() else { return 0.0 };
        let share = (below as f64 + 1.0 - position).clamp(0.0, 1.0);
        let above = sum(above);
        // As exact, and no call, where it fits 64 bits.
        *within as f64 * share + u64::try_from(above).map_or_else(|_| above as f64, |above| above as f64)
    }

    /// Resolution.
    #[must_use]
    pub fn scale(&self) -> HistogramScale {
        self.scale
    }

    /// Observations too close to zero to place.
    #[must_use]
    pub fn zero_count(&self) -> u64 {
        self.zero_count
    }

    /// Index of the first bucket.
    #[must_use]
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Observations a bucket.
    #[must_use]
    pub fn bucket_counts(&self) -> &[u64] {
        &self.counts
    }

    fn bound(&self, position: f64) -> f64 {
        libm::exp2(position * libm::exp2(-f64::from(self.scale)))
    }

    fn add_at(&mut self, index: i32, count: u64) {
        if self.counts.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let missing = (self.offset - index) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.offset = index;
        }
        let at = (index - self.offset) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] = self.counts[at].saturating_add(count);
    }

    /// Spreads a bucket `(lower, upper]` over the exponential ones, keeping its total.
    fn spread(&mut self, lower: Option<f64>, upper: Option<f64>, count: u64) {
        let (from, to) = match (lower.filter(|l| *l > 0.0), upper.filter(|u| *u > 0.0)) {
            (Some(lower), Some(upper)) => (lower, upper),
            (Some(lower), None) => (lower, lower * 1.001),
            (None, Some(upper)) => (upper / 2.0, upper),
            (None, None) => {
                self.zero_count = self.zero_count.saturating_add(count);
                return;
            }
        };
        let first = bucket_index(from * (1.0 + 1e-9), self.scale);
        let last = bucket_index(to, self.scale);
        let per_octave = libm::exp2(f64::from(self.scale));
        let (start, end) = (libm::log2(from) * per_octave, libm::log2(to) * per_octave);
        let mut placed = 0u64;
        for index in first..=last {
            let reached = ((f64::from(index) + 1.0).min(end) - start) / (end - start);
            let up_to_here = if index == last { count } else { (reached.clamp(0.0, 1.0) * count as f64) as u64 };
            let here = up_to_here.max(placed) - placed;
            if here > 0 {
                self.add_at(index, here);
            }
            placed += here;
        }
    }

    fn normalise(&mut self) {
        self.trim();
        while self.counts.len() > BUCKETS_MAX && self.scale > SCALE_MIN {
            self.halve();
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.counts.last() == Some(&0) {
            self.counts.pop();
        }
        let leading = self.counts.iter().take_while(|count| **count == 0).count();
        self.counts.drain(..leading);
        self.offset = if self.counts.is_empty() { 0 } else { self.offset + leading as i32 };
    }

    /// Merges pairs of buckets: one step of scale down.
    fn halve(&mut self) {
        let old = std::mem::take(&mut self.counts);
        let offset = self.offset;
        self.scale -= 1;
        for (i, count) in old.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.add_at((offset + i as i32).div_euclid(2), count);
        }
    }
}

/// `2^scale`, exactly.
fn power_of_two(scale: HistogramScale) -> f64 {
    f64::from_bits(((1023 + i64::from(scale)) as u64) << 52)
}

fn bucket_index(value: f64, scale: HistogramScale) -> i32 {
    (libm::log2(value) * libm::exp2(f64::from(scale))).ceil() as i32 - 1
}

/// Several at a time: as many as there can be, of less than 2^48 each, cannot overflow, nor can halves of 32 bits.
fn sum(counts: &[u64]) -> u128 {
    let (sum, bits) = counts.iter().fold((0u64, 0), |(sum, bits), n| (sum.wrapping_add(*n), bits | n));
    if bits >> 48 == 0 && counts.len() < 1 << 16 {
        return u128::from(sum);
    }
    let (high, low) = counts.iter().fold((0, 0), |(high, low), n| (high + (n >> 32), low + (n & 0xffff_ffff)));
    (u128::from(high) << 32) + u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn explicit_buckets_keep_their_totals_and_their_quantiles() {
        let histogram = LatencyHistogram::from_explicit(&[100.0, 250.0, 1000.0], &[900, 90, 9, 1]).expect("valid");
        assert_eq!(histogram.count(), 1000);
        // 90 observations over log2(2.5) octaves at 8 buckets each: 8.5 in the bucket that straddles the bound.
        let above = histogram.count_above(250.0);
        assert!((above - 10.0).abs() < 8.5, "{above}");
        let p99 = histogram.quantile(0.99).expect("not empty");
        assert!((200.0..=275.0).contains(&p99), "{p99}");
    }

    #[test]
    fn refuses_what_is_no_histogram() {
        assert_eq!(
            LatencyHistogram::from_explicit(&[2.0, 1.0], &[0, 0, 0]).map_err(|e| e.code),
            Err("malformed_bounds")
        );
        assert_eq!(LatencyHistogram::from_explicit(&[f64::NAN], &[0, 0]).map_err(|e| e.code), Err("malformed_bounds"));
        assert_eq!(LatencyHistogram::from_explicit(&[1.0], &[1]).map_err(|e| e.code), Err("wrong_length"));
        assert_eq!(LatencyHistogram::new(21, 0, 0, vec![]).map_err(|e| e.code), Err("out_of_range"));
        assert_eq!(LatencyHistogram::new(0, u64::MAX, 0, vec![1]).map_err(|e| e.code), Err("out_of_range"));
        assert_eq!(LatencyHistogram::new(0, 0, i32::MAX, vec![1]).map_err(|e| e.code), Err("out_of_range"));
    }

    fn recorded(values: &[f64]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::empty();
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_wide_numbers(
            counts in prop::collection::vec(prop_oneof![0u64..1 << 48, any::<u64>()], 0..200),
        ) {
            prop_assert_eq!(sum(&counts), counts.iter().map(|n| u128::from(*n)).sum::<u128>());
        }
    }

    proptest! {
        #[test]
        fn merging_is_recording_both(a in prop::collection::vec(0.001f64..1e5, 0..60), b in prop::collection::vec(0.001f64..1e5, 0..60)) {
            let mut merged = recorded(&a);
            merged.merge(&recorded(&b));
            let both: Vec<f64> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(merged.count(), both.len() as u64);
            if !both.is_empty() {
                let (x, y) = (merged.quantile(0.5).unwrap_or(0.0), recorded(&both).quantile(0.5).unwrap_or(0.0));
                prop_assert!(libm::log2(x / y).abs() <= 0.26, "{} {}", x, y);
            }
        }

        #[test]
        fn a_quantile_is_within_a_bucket_of_the_sample(mut values in prop::collection::vec(0.1f64..1e4, 1..200), q in 0.01f64..1.0) {
            let estimate = recorded(&values).quantile(q).expect("not empty");
            values.sort_by(f64::total_cmp);
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1];
            prop_assert!(libm::log2(estimate / exact).abs() <= 0.126 * 2.0, "{} against {}", estimate, exact);
        }

        #[test]
        fn few_are_slower_than_much_and_all_than_nothing(values in prop::collection::vec(0.1f64..1e4, 1..100), t in 0.1f64..1e4) {
            let histogram = recorded(&values);
            let above = histogram.count_above(t);
            prop_assert!(above >= 0.0 && above <= values.len() as f64);
            prop_assert!(histogram.count_above(t * 1.5) <= above + 1e-9);
            prop_assert_eq!(histogram.count_above(1e9), 0.0);
        }
    }
}
