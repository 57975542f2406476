use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{Direction, Found};

/// Buckets of one size before two of them become one of twice the size; `M` in the paper.
const BUCKETS_PER_SIZE: usize = 5;
/// Fewest values on either side of a cut.
const SIDE_MIN: u64 = 5;

/// ADWIN2: a window of the newest values that is cut wherever both parts have means that cannot be alike.
///
/// The window is kept as an exponential histogram: at most five buckets of each size 1, 2, 4, …, so that memory and the cuts
/// that are tried grow with the logarithm of its length. Parts of `n0` and `n1` values differ where their means are further
/// apart than `sqrt(2/m s² ln(2/d)) + 2/(3m) ln(2/d)`, with `1/m = 1/n0 + 1/n1`, `s²` the variance of the window and
/// `d = delta / ln n`.
///
/// Source: A. Bifet, R. Gavaldà, *Learning from Time-Changing Data with Adaptive Windowing*, SDM 2007, sections 3 and 4. The
/// bound is for values in [0, 1]: whatever lies outside is cut to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adwin {
    delta: f64,
    values_max: u64,
    /// Oldest first; sizes never grow towards the newest.
    buckets: VecDeque<Bucket>,
}

/// Values next to one another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bucket {
    count: u64,
    sum: f64,
    /// Sum of squared distances from the bucket's mean.
    spread: f64,
}

impl Bucket {
    const NONE: Self = Self { count: 0, sum: 0.0, spread: 0.0 };

    fn mean(self) -> f64 {
        self.sum / self.count.max(1) as f64
    }

    fn with(self, other: Self) -> Self {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let apart = self.mean() - other.mean();
        Self {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            spread: self.spread + other.spread + apart * apart * a * b / (a + b),
        }
    }
}

impl Adwin {
    /// `delta` in (0, 1) bounds the probability that a window without a change is cut; the window holds about `values_max`
    /// values at most.
    #[must_use]
    pub fn new(delta: f64, values_max: u64) -> Self {
        Self { delta, values_max, buckets: VecDeque::new() }
    }

    /// Takes the next value, cut to [0, 1]; one that is not a number is not read. After a find only the values since are kept.
    pub fn push(&mut self, value: f64) -> Option<Found> {
        if value.is_nan() {
            return None;
        }
        self.buckets.push_back(Bucket { count: 1, sum: value.clamp(0.0, 1.0), spread: 0.0 });
        self.compress();
        while self.len() > self.values_max {
            self.buckets.pop_front();
        }
        let mut found: Option<Found> = None;
        while let Some((cut, find)) = self.cut() {
            self.buckets.drain(..cut);
            // The first cut of a step says how far apart the parts were; later ones only move its place.
            found = Some(Found { values_since: find.values_since, ..found.unwrap_or(find) });
        }
        found
    }

    /// Values in the window.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Buckets that are kept: what memory grows with.
    #[must_use]
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Forgets everything that was seen.
    pub fn reset(&mut self) {
        self.buckets.clear();
    }

    /// Makes one of the two oldest buckets of a size wherever there are more than allowed, smallest size first.
    fn compress(&mut self) {
        let mut end = self.buckets.len();
        while let Some(size) = end.checked_sub(1).map(|newest| self.buckets[newest].count) {
            let first = self.buckets.iter().position(|bucket| bucket.count == size).unwrap_or(end);
            if end - first <= BUCKETS_PER_SIZE {
                return;
            }
            self.buckets[first] = self.buckets[first].with(self.buckets[first + 1]);
            self.buckets.remove(first + 1);
            end = first + 1;
        }
    }

    /// The oldest place at which the window falls apart: buckets before it, and what was found.
    fn cut(&self) -> Option<(usize, Found)> {
        let whole = self.buckets.iter().fold(Bucket::NONE, |whole, bucket| whole.with(*bucket));
        if whole.count < 2 * SIDE_MIN {
            return None;
        }
        let variance = whole.spread / whole.count as f64;
        let doubt = libm::log(2.0 * libm::log(whole.count as f64) / self.delta);
        let mut old = Bucket::NONE;
        for (index, bucket) in self.buckets.iter().enumerate() {
            old = old.with(*bucket);
            let count = whole.count - old.count;
            if old.count < SIDE_MIN || count < SIDE_MIN {
                continue;
            }
            let new = (whole.sum - old.sum) / count as f64;
            let harmonic = 1.0 / (1.0 / old.count as f64 + 1.0 / count as f64);
            let bound = (2.0 / harmonic * variance * doubt).sqrt() + 2.0 / (3.0 * harmonic) * doubt;
            let apart = new - old.mean();
            if apart.abs() > bound {
                let direction = Some(if apart > 0.0 { Direction::Up } else { Direction::Down });
                let values_since = usize::try_from(count).unwrap_or(usize::MAX);
                return Some((index + 1, Found { direction, values_since, statistic: apart.abs(), threshold: bound }));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_keeps_sums_and_a_logarithm_of_buckets() {
        let mut adwin = Adwin::new(1e-9, 100_000);
        let value = |i: u32| f64::from(i % 10) / 10.0;
        for i in 0..10_000 {
            assert_eq!(adwin.push(value(i)), None);
        }
        let whole = adwin.buckets.iter().fold(Bucket::NONE, |whole, bucket| whole.with(*bucket));
        assert_eq!(whole.count, 10_000);
        assert!((whole.sum - 4_500.0).abs() < 1e-6);
        // The variance of 0, 0.1 … 0.9 is 0.0825.
        assert!((whole.spread / 10_000.0 - 0.0825).abs() < 1e-9);
        assert!(adwin.bucket_count() <= BUCKETS_PER_SIZE * 14, "{}", adwin.bucket_count());
        let sizes: Vec<u64> = adwin.buckets.iter().map(|bucket| bucket.count).collect();
        assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
    }

    #[test]
    fn the_window_holds_no_more_than_it_may() {
        let mut adwin = Adwin::new(1e-9, 64);
        (0..1_000).for_each(|_| assert_eq!(adwin.push(0.5), None));
        assert!(adwin.len() <= 64 && adwin.len() > 32, "{}", adwin.len());
    }
}
