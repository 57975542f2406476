use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// The newest values of a stream, in the order of time and in the order of size: medians and quantiles of each step are then
/// looked up instead of sorted for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Sorted {
    in_time: VecDeque<f64>,
    by_size: Vec<f64>,
}

impl Sorted {
    /// Adds a finite value, and gives up the oldest where there are more than `values_max`.
    pub(crate) fn push(&mut self, value: f64, values_max: usize) {
        self.in_time.push_back(value);
        self.by_size.insert(self.by_size.partition_point(|other| *other < value), value);
        if self.in_time.len() > values_max
            && let Some(oldest) = self.in_time.pop_front()
        {
            // The first that is not less is equal to it: it was put there.
            self.by_size.remove(self.by_size.partition_point(|other| *other < oldest));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_size.len()
    }

    pub(crate) fn in_time(&self) -> impl Iterator<Item = f64> + Clone {
        self.in_time.iter().copied()
    }

    pub(crate) fn by_size(&self) -> &[f64] {
        &self.by_size
    }

    pub(crate) fn clear(&mut self) {
        self.in_time.clear();
        self.by_size.clear();
    }

    /// The middle of the values; of two, what is between them. 0 without any.
    pub(crate) fn median(&self) -> f64 {
        let values = &self.by_size;
        let middle = values.len() / 2;
        match values.len() {
            0 => 0.0,
            count if count.is_multiple_of(2) => values[middle - 1].midpoint(values[middle]),
            _ => values[middle],
        }
    }

    /// The median distance of the values from a centre: the nearest ones are taken from both sides until half are.
    pub(crate) fn median_distance(&self, centre: f64) -> f64 {
        let values = &self.by_size;
        let mut above = values.partition_point(|value| *value < centre);
        let mut below = above;
        let mut nearest = || {
            let up = values.get(above).map_or(f64::INFINITY, |value| value - centre);
            let down = below.checked_sub(1).map_or(f64::INFINITY, |below| centre - values[below]);
            if up <= down {
                above += 1
            } else {
                below -= 1
            }
            up.min(down)
        };
        let mut distances = [0.0; 2];
        for _ in 0..values.len() / 2 + 1 {
            distances = [distances[1], nearest()];
        }
        if values.len().is_multiple_of(2) { distances[0].midpoint(distances[1]) } else { distances[1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_hold_the_same_values() {
        let mut sorted = Sorted::default();
        assert_eq!((sorted.median(), sorted.len()), (0.0, 0));
        for value in [5.0, 1.0, 3.0, 3.0, 2.0, 0.0] {
            sorted.push(value, 4);
        }
        assert_eq!(sorted.in_time().collect::<Vec<_>>(), [3.0, 3.0, 2.0, 0.0]);
        assert_eq!(sorted.by_size(), [0.0, 2.0, 3.0, 3.0]);
        assert_eq!(sorted.median(), 2.5);
        // Distances 2.5, 0.5, 0.5, 0.5.
        assert_eq!(sorted.median_distance(2.5), 0.5);
        sorted.push(9.0, 5);
        // 0 2 3 3 9 around 3: 0 0 1 3 6.
        assert_eq!((sorted.median(), sorted.median_distance(3.0)), (3.0, 1.0));
    }

    #[test]
    fn the_median_distance_is_the_one_that_sorting_finds() {
        let mut sorted = Sorted::default();
        for i in 0..60u32 {
            sorted.push(f64::from(i * 7919 % 101), 31);
            let centre = sorted.median();
            let mut distances: Vec<f64> = sorted.in_time().map(|value| (value - centre).abs()).collect();
            distances.sort_by(f64::total_cmp);
            let middle = distances.len() / 2;
            let expected = if distances.len().is_multiple_of(2) {
                distances[middle - 1].midpoint(distances[middle])
            } else {
                distances[middle]
            };
            assert_eq!(sorted.median_distance(centre), expected, "{distances:?}");
        }
    }
}
