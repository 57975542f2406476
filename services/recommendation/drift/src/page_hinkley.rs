use serde::{Deserialize, Serialize};

use crate::{Direction, Found};

/// The Page–Hinkley test, both ways: `m_t = sum (x_i - mean_i - delta)`, and a change where `m_t - min m` exceeds the threshold;
/// the same for what falls. `mean_i` is the mean of all values so far.
///
/// Source: E. S. Page, Biometrika 41 (1954); D. V. Hinkley, Biometrika 58 (1971). Meant for values of standard deviation 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageHinkley {
    delta: f64,
    threshold: f64,
    count: u64,
    mean: f64,
    up: Side,
    down: Side,
}

/// One direction: the sum above its least value, and for how many values it has been above.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Side {
    above: f64,
    since: usize,
}

impl Side {
    fn push(&mut self, step: f64) {
        self.above += step;
        self.since += 1;
        if self.above <= 0.0 {
            *self = Self::default();
        }
    }
}

impl PageHinkley {
    /// `delta` is the change per value that is tolerated, `threshold` the sum beyond it; both in standard deviations.
    #[must_use]
    pub fn new(delta: f64, threshold: f64) -> Self {
        Self { delta, threshold, count: 0, mean: 0.0, up: Side::default(), down: Side::default() }
    }

    /// Takes the next value; one that is not finite is not read. After a find it starts anew.
    pub fn push(&mut self, value: f64) -> Option<Found> {
        if !value.is_finite() {
            return None;
        }
        self.count += 1;
        self.mean += (value - self.mean) / self.count as f64;
        let distance = value - self.mean;
        self.up.push(distance - self.delta);
        self.down.push(-distance - self.delta);
        let (direction, side) = match (self.up.above > self.threshold, self.down.above > self.threshold) {
            (true, _) => (Direction::Up, self.up),
            (false, true) => (Direction::Down, self.down),
            (false, false) => return None,
        };
        let found = Found {
            direction: Some(direction),
            values_since: side.since,
            statistic: side.above,
            threshold: self.threshold,
        };
        self.reset();
        Some(found)
    }

    /// Forgets everything that was seen.
    pub fn reset(&mut self) {
        *self = Self::new(self.delta, self.threshold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_found_by_hand_computation() {
        // Mean 0 over ten zeros; then ones: the means are 1/11, 2/12, 3/13 …, so the sum after k ones is
        // sum (1 - j/(10+j) - 0.1), which is 0.809, 1.542, 2.212 for k = 1, 2, 3.
        let mut test = PageHinkley::new(0.1, 2.0);
        let finds: Vec<Option<Found>> = [0.0; 10].into_iter().chain([1.0; 3]).map(|x| test.push(x)).collect();
        assert!(finds[..12].iter().all(Option::is_none));
        let found = finds[12].expect("the sum exceeds 2");
        let by_hand = (1..=3).map(|j| 1.0 - f64::from(j) / f64::from(10 + j) - 0.1).sum::<f64>();
        assert!((found.statistic - by_hand).abs() < 1e-12);
        assert_eq!((found.values_since, found.direction), (3, Some(Direction::Up)));
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        let mut test = PageHinkley::new(0.1, 2.0);
        let before = test.clone();
        assert_eq!(test.push(f64::NAN).or(test.push(f64::INFINITY)), None);
        assert_eq!(test, before);
    }
}
