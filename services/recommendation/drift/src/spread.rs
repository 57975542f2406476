use serde::{Deserialize, Serialize};

use crate::sorted::Sorted;

/// Standard deviation of a normal law over the median of its absolute distances from the middle.
const NORMAL: f64 = 1.482_6;

/// Centre and spread of the values so far, so that a stream can be told in standard deviations: the median, and the median
/// absolute distance from it. Neither moves much while fewer than half of the values are odd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    warm: usize,
    values_max: usize,
    values: Sorted,
}

impl Spread {
    /// Says nothing before `warm` values, and remembers the newest `values_max`.
    #[must_use]
    pub fn new(warm: usize, values_max: usize) -> Self {
        let warm = warm.max(2);
        Self { warm, values_max: values_max.max(warm), values: Sorted::default() }
    }

    /// The value in standard deviations from the centre of those before it, cut to `-clip..=clip`; `None` while there are too
    /// few of those. `noise` is the variance that the value has by counting alone: the spread is never less.
    pub fn push(&mut self, value: f64, noise: f64, clip: f64) -> Option<f64> {
        if !value.is_finite() {
            return None;
        }
        let told = (self.values.len() >= self.warm).then(|| {
            let centre = self.values.median();
            let spread = NORMAL * self.values.median_distance(centre);
            let variance = (spread * spread).max(noise).max(f64::MIN_POSITIVE);
            ((value - centre) / variance.sqrt()).clamp(-clip, clip)
        });
        self.values.push(value, self.values_max);
        told
    }

    /// How many more values it needs before it says anything.
    #[must_use]
    pub fn lacking(&self) -> usize {
        self.warm.saturating_sub(self.values.len())
    }

    /// Forgets everything that was seen.
    pub fn reset(&mut self) {
        self.values.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_told_in_deviations_once_there_are_enough() {
        let mut spread = Spread::new(5, 10);
        for value in [1.0, 2.0, 3.0, 4.0, 5.0] {
            assert_eq!(spread.push(value, 0.0, 9.0), None);
        }
        assert_eq!(spread.lacking(), 0);
        // Median 3, distances 2 1 0 1 2.
        let told = spread.push(3.0 + 2.0 * NORMAL, 0.0, 9.0).expect("warm");
        assert!((told - 2.0).abs() < 1e-12, "{told}");
        assert_eq!(spread.push(1e9, 0.0, 4.0), Some(4.0));
        // What counting alone explains is no distance.
        let told = spread.push(4.0, 100.0, 9.0).expect("warm");
        assert!(told.abs() < 0.2, "{told}");
        assert_eq!(spread.push(f64::NAN, 0.0, 9.0), None);
    }
}
