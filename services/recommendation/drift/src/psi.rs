use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::sorted::Sorted;
use crate::{Direction, Found};

/// Fewest values that a bin is expected to hold on either side, as for a chi-squared test.
const EXPECTED_MIN: f64 = 5.0;
/// Index from which a shift is called one, once its noise is taken off: the rule of thumb of credit scoring calls 0.1 to 0.25
/// a small shift and more a large one (N. Siddiqi, *Credit Risk Scorecards*, 2006).
const INDEX_MIN: f64 = 0.1;
/// Added to each bin, so that an empty one has a logarithm (Jeffreys).
const PSEUDO_COUNT: f64 = 0.5;

/// The population stability index between the newest values and those before them.
///
/// `PSI = sum (q_b - p_b) ln(q_b / p_b)` over bins that are quantiles of the earlier values. Where nothing changed it is about
/// `(1/n + 1/m)` times a chi-squared variable of `bins - 1` degrees of freedom (B. Yurdakul, *Statistical Properties of
/// Population Stability Index*, 2018), so what is compared is the index over `(1/n + 1/m)` with the quantile of that law, and
/// the index is told with its expected noise taken off. Values that follow one another alike count for fewer:
/// `n (1 - r) / (1 + r)`, r the correlation of neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Psi {
    bins: usize,
    recent_max: usize,
    reference_max: usize,
    threshold: f64,
    reference: Sorted,
    recent: VecDeque<f64>,
}

/// Two samples compared.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Comparison {
    /// The index with its expected noise taken off; 0 where it was all noise.
    index: f64,
    /// The index over the noise of one degree of freedom: chi-squared where nothing changed.
    statistic: f64,
    /// Bins with different edges, less one.
    degrees_of_freedom: usize,
}

impl Psi {
    /// Compares the newest `recent_max` values with up to `reference_max` before them, in `bins` bins. `threshold` is the
    /// normal deviate whose tail is the false alarms that are borne at one comparison.
    #[must_use]
    pub fn new(bins: usize, recent_max: usize, reference_max: usize, threshold: f64) -> Self {
        let (bins, recent_max) = (bins.max(2), recent_max.max(1));
        Self { bins, recent_max, reference_max, threshold, reference: Sorted::default(), recent: VecDeque::new() }
    }

    /// Takes the next value; one that is not finite is not read. After a find it starts anew.
    pub fn push(&mut self, value: f64) -> Option<Found> {
        if !value.is_finite() {
            return None;
        }
        self.recent.push_back(value);
        if self.recent.len() > self.recent_max
            && let Some(oldest) = self.recent.pop_front()
        {
            self.reference.push(oldest, self.reference_max);
        }
        if self.recent.len() < self.recent_max {
            return None;
        }
        let recent = self.recent.make_contiguous();
        let compared = compare(&self.reference, recent, self.bins)?;
        let threshold = chi_squared(compared.degrees_of_freedom, self.threshold);
        if compared.statistic <= threshold || compared.index < INDEX_MIN {
            return None;
        }
        let direction = direction(&self.reference, recent);
        let found = Found { direction, values_since: self.recent_max, statistic: compared.statistic, threshold };
        self.reset();
        Some(found)
    }

    /// Forgets everything that was seen.
    pub fn reset(&mut self) {
        self.reference.clear();
        self.recent.clear();
    }
}

/// Compares two samples; `None` where one is too small for the bins.
fn compare(reference: &Sorted, recent: &[f64], bins: usize) -> Option<Comparison> {
    let independent = (independent(reference.in_time()), independent(recent.iter().copied()));
    let least = independent.0.min(independent.1) / bins as f64;
    if least.is_nan() || least < EXPECTED_MIN {
        return None;
    }
    let edges = edges(reference.by_size(), bins);
    let below = |edge: &f64| reference.by_size().partition_point(|value| value <= edge);
    let p = shares(&edges.iter().map(below).collect::<Vec<_>>(), reference.len());
    let below = |edge: &f64| recent.iter().filter(|value| *value <= edge).count();
    let q = shares(&edges.iter().map(below).collect::<Vec<_>>(), recent.len());
    let raw: f64 = p.iter().zip(&q).map(|(p, q)| (q - p) * libm::log(q / p)).sum();
    let noise = 1.0 / independent.0 + 1.0 / independent.1;
    let degrees_of_freedom = edges.len();
    let index = (raw - noise * degrees_of_freedom as f64).max(0.0);
    Some(Comparison { index, statistic: raw / noise, degrees_of_freedom })
}

/// Values that count as independent.
fn independent(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let (sum, count) = values.clone().fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    let mean = sum / count;
    let square: f64 = values.clone().map(|value| (value - mean) * (value - mean)).sum();
    let pairs = values.clone().zip(values.skip(1));
    let neighbours: f64 = pairs.map(|(a, b)| (a - mean) * (b - mean)).sum();
    let correlation = if square > 0.0 { (neighbours / square).clamp(0.0, 0.95) } else { 0.0 };
    count * (1.0 - correlation) / (1.0 + correlation)
}

/// Upper edges of all bins but the last, each once; a value equal to one lies below it.
fn edges(by_size: &[f64], bins: usize) -> Vec<f64> {
    let mut edges: Vec<f64> = (1..bins).map(|bin| by_size[(bin * by_size.len() / bins).max(1) - 1]).collect();
    edges.dedup();
    edges
}

/// Shares of the bins, from how many values lie below each edge.
fn shares(below: &[usize], count: usize) -> Vec<f64> {
    let ends = below.iter().copied().chain([count]);
    let begins = std::iter::once(0).chain(below.iter().copied());
    let whole = count as f64 + PSEUDO_COUNT * (below.len() + 1) as f64;
    ends.zip(begins).map(|(end, begin)| ((end - begin) as f64 + PSEUDO_COUNT) / whole).collect()
}

fn direction(reference: &Sorted, recent: &[f64]) -> Option<Direction> {
    let before = reference.in_time().sum::<f64>() / reference.len() as f64;
    let after = recent.iter().sum::<f64>() / recent.len() as f64;
    match after.total_cmp(&before) {
        std::cmp::Ordering::Greater => Some(Direction::Up),
        std::cmp::Ordering::Less => Some(Direction::Down),
        std::cmp::Ordering::Equal => None,
    }
}

/// Quantile of the chi-squared law at a normal deviate (E. B. Wilson, M. M. Hilferty, PNAS 17, 1931).
fn chi_squared(degrees_of_freedom: usize, deviate: f64) -> f64 {
    let k = degrees_of_freedom as f64;
    let ninth = 2.0 / (9.0 * k);
    let root = 1.0 - ninth + deviate * ninth.sqrt();
    k * root * root * root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(values: &[f64]) -> Sorted {
        let mut sorted = Sorted::default();
        values.iter().for_each(|value| sorted.push(*value, usize::MAX));
        sorted
    }

    #[test]
    fn the_index_agrees_with_a_worked_example() {
        // Ten values below and ten above the only edge, against five and fifteen, half a value added to each bin:
        // p = 10.5/21, q = 5.5/21 and 15.5/21.
        let reference: Vec<f64> = (0..20).map(|i| f64::from(i % 2)).collect();
        let recent: Vec<f64> = (0..20).map(|i| f64::from(u8::from(i % 4 != 0))).collect();
        let (p, q) = (0.5f64, [5.5 / 21.0, 15.5 / 21.0]);
        let raw: f64 = q.iter().map(|q| (q - p) * libm::log(q / p)).sum();
        let compared = compare(&sorted(&reference), &recent, 2).expect("ten a bin");
        assert_eq!(compared.degrees_of_freedom, 1);
        assert!((compared.statistic - raw / (2.0 / 20.0)).abs() < 1e-12, "{compared:?}");
        assert!((compared.index - (raw - 0.1)).abs() < 1e-12);
    }

    #[test]
    fn small_samples_are_refused() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * 7 % 40)).collect();
        assert!(compare(&sorted(&values), &values, 5).is_some());
        assert_eq!(compare(&sorted(&values[..24]), &values, 5), None);
        assert_eq!(compare(&sorted(&values), &[], 5), None);
        assert_eq!(compare(&sorted(&[]), &values, 5), None);
    }

    #[test]
    fn a_comparison_does_not_care_which_way_time_runs() {
        let reference: Vec<f64> = (0..100).map(|i| f64::from(i * 37 % 101)).collect();
        let recent: Vec<f64> = (0..50).map(|i| f64::from(i * 29 % 53) + 40.0).collect();
        let reversed = |values: &[f64]| values.iter().rev().copied().collect::<Vec<f64>>();
        let forth = compare(&sorted(&reference), &recent, 4).expect("enough");
        let back = compare(&sorted(&reversed(&reference)), &reversed(&recent), 4).expect("enough");
        assert!(forth.index > INDEX_MIN && (forth.index - back.index).abs() < 1e-9, "{forth:?} {back:?}");
        assert!((forth.statistic / back.statistic - 1.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_of_the_chi_squared_law_are_those_of_the_tables() {
        // The 95 % and 99 % points for 4 degrees of freedom are 9.488 and 13.277.
        assert!((chi_squared(4, 1.644_854) - 9.488).abs() < 0.05);
        assert!((chi_squared(4, 2.326_348) - 13.277).abs() < 0.05);
    }
}
