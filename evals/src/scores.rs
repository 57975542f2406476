//! Measures of forecasts and of rankings.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Mean of the values; 0 when there are none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Quantile by linear interpolation between order statistics (type 7); 0 when there are none.
pub(crate) fn quantile(values: &[f64], p: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted_quantile(&sorted, p)
}

/// The same of values in ascending order.
pub(crate) fn sorted_quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = p.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Pinball loss of a quantile forecast: `p (y - q)` above, `(1 - p)(q - y)` below.
pub(crate) fn pinball(outcome: f64, forecast: f64, p: f64) -> f64 {
    let distance = outcome - forecast;
    if distance > 0.0 { p * distance } else { (p - 1.0) * distance }
}

/// Expected calibration error over ten equal bins of probability.
pub(crate) fn expected_calibration_error(forecasts: &[(f64, bool)]) -> f64 {
    const BINS: usize = 10;
    let bin = |p: f64| ((p * BINS as f64) as usize).min(BINS - 1);
    let error_of = |index: usize| {
        let members: Vec<&(f64, bool)> = forecasts.iter().filter(|(p, _)| bin(*p) == index).collect();
        let stated: f64 = members.iter().map(|(p, _)| p).sum();
        let happened = members.iter().filter(|(_, happened)| *happened).count() as f64;
        (stated - happened).abs()
    };
    (0..BINS).map(error_of).sum::<f64>() / forecasts.len().max(1) as f64
}

/// Mean squared error of probabilities.
pub(crate) fn brier(forecasts: &[(f64, bool)]) -> f64 {
    mean(&forecasts.iter().map(|(p, happened)| (p - f64::from(*happened)).powi(2)).collect::<Vec<_>>())
}

/// 90 % interval of a statistic of values that come in groups, by drawing groups and then as many values of each again. Values of one
/// group alone are taken as independent of one another.
pub(crate) fn clustered_interval<T: Copy>(groups: &[Vec<T>], seed: u64, statistic: impl Fn(&[T]) -> f64) -> (f64, f64) {
    const DRAWS: usize = 2_000;
    let groups: Vec<&Vec<T>> = groups.iter().filter(|group| !group.is_empty()).collect();
    if groups.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn = Vec::new();
    let mut draw = || {
        drawn.clear();
        for _ in 0..groups.len() {
            let group = groups[random.random_range(0..groups.len())];
            drawn.extend((0..group.len()).map(|_| group[random.random_range(0..group.len())]));
        }
        statistic(&drawn)
    };
    let statistics: Vec<f64> = (0..DRAWS).map(|_| draw()).collect();
    (quantile(&statistics, 0.05), quantile(&statistics, 0.95))
}

/// Normalised discounted cumulative gain of the first `k`, gain = grade. `None` where nothing is relevant.
pub(crate) fn ndcg(grades: &[u32], all_relevant: &[u32], k: usize) -> Option<f64> {
    let discounted = |grades: &[u32]| -> f64 {
        grades.iter().take(k).enumerate().map(|(rank, grade)| f64::from(*grade) / (rank as f64 + 2.0).log2()).sum()
    };
    let mut ideal = all_relevant.to_vec();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted(&ideal);
    (best > 0.0).then(|| discounted(grades) / best)
}

/// Probability that an answerable question has more confidence than an unanswerable one; ties count half. `None` where one
/// kind is missing.
pub(crate) fn area_under_roc(answerable: &[f64], unanswerable: &[f64]) -> Option<f64> {
    if answerable.is_empty() || unanswerable.is_empty() {
        return None;
    }
    let wins: f64 = answerable
        .iter()
        .flat_map(|a| unanswerable.iter().map(move |u| if a > u { 1.0 } else { f64::from(a == u) / 2.0 }))
        .sum();
    Some(wins / (answerable.len() * unanswerable.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_agree_with_worked_examples() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert!((pinball(3.0, 1.0, 0.9) - 1.8).abs() < 1e-12 && (pinball(1.0, 3.0, 0.9) - 0.2).abs() < 1e-12);
        assert!((brier(&[(0.8, true), (0.3, false)]) - (0.04 + 0.09) / 2.0).abs() < 1e-12);
        // Bin 0.8: two forecasts state 1.6 in all and one happened.
        assert!((expected_calibration_error(&[(0.8, true), (0.8, false)]) - 0.3).abs() < 1e-12);
        // Gains 1 at rank 1 and 2 at rank 2, against 2 then 1.
        let expected = (1.0 + 2.0 / 3f64.log2()) / (2.0 + 1.0 / 3f64.log2());
        assert!((ndcg(&[1, 2], &[2, 1], 10).expect("relevant") - expected).abs() < 1e-12);
        assert_eq!(ndcg(&[0], &[], 10), None);
        assert_eq!(area_under_roc(&[0.9, 0.5], &[0.5, 0.1]), Some(0.875));
    }

    #[test]
    fn an_interval_holds_the_mean_and_is_the_same_again() {
        let values: Vec<f64> = (0..20).map(|i| f64::from(i % 3)).collect();
        let one = [values.clone()];
        let (low, high) = clustered_interval(&one, 1, mean);
        assert!(low < mean(&values) && mean(&values) < high);
        assert_eq!(clustered_interval(&one, 1, mean), (low, high));
        assert_eq!(clustered_interval(&[Vec::<f64>::new()], 1, mean), (0.0, 0.0));
    }

    #[test]
    fn values_that_go_together_tell_less() {
        let apart = [(0..40).map(|i| f64::from(i % 2)).collect::<Vec<f64>>()];
        let together: Vec<Vec<f64>> = (0..4).map(|group| vec![f64::from(group % 2); 10]).collect();
        let width = |groups: &[Vec<f64>]| {
            let (low, high) = clustered_interval(groups, 1, mean);
            high - low
        };
        assert!(width(&together) > 2.0 * width(&apart), "{} {}", width(&together), width(&apart));
    }
}
