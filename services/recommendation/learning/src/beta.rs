/// Points of the grid on which densities are compared: with the decay of evidence a posterior is seldom narrower than 0.02.
const GRID: usize = 256;

/// A Beta distribution: what is believed of a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beta {
    /// Successes, the prior's among them; above 0.
    pub alpha: f64,
    /// Failures, the prior's among them; above 0.
    pub beta: f64,
}

impl Beta {
    /// Its mean, in (0, 1).
    #[must_use]
    pub fn mean(self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// The mass of each step of the grid. Computed from the density at the middle of the step, so no special function is needed
    /// and a density that rises without bound at an end is cut there.
    pub(crate) fn gridded(self) -> Gridded {
        let log_density = |i: usize| {
            let x = (i as f64 + 0.5) / GRID as f64;
            (self.alpha - 1.0) * libm::log(x) + (self.beta - 1.0) * libm::log(1.0 - x)
        };
        let logs: Vec<f64> = (0..GRID).map(log_density).collect();
        let greatest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let densities: Vec<f64> = logs.into_iter().map(|log| libm::exp(log - greatest)).collect();
        let sum: f64 = densities.iter().sum();
        Gridded(densities.into_iter().map(|density| density / sum).collect())
    }
}

/// A distribution on the grid: masses that sum to 1.
pub(crate) struct Gridded(Vec<f64>);

impl Gridded {
    /// The quantile; to a small part of a step of the grid, which is 0.004.
    pub(crate) fn quantile(&self, probability: f64) -> f64 {
        let mut below = 0.0;
        for (i, mass) in self.0.iter().copied().enumerate() {
            if below + mass >= probability {
                let share = if mass > 0.0 { (probability - below) / mass } else { 0.5 };
                return (i as f64 + share) / GRID as f64;
            }
            below += mass;
        }
        1.0
    }
}

/// For each distribution the probability that a draw from it is the greatest of one draw from each: what Thompson sampling would
/// choose it with. They sum to 1.
///
/// P(i) = ∫ fᵢ(x) Π_{j≠i} Fⱼ(x) dx (Thompson, *Biometrika* 25, 1933), summed over the grid with each step's own mass halved in F.
pub(crate) fn probabilities_best(beliefs: &[Gridded]) -> Vec<f64> {
    let mut below = vec![0.0; beliefs.len()];
    let mut best = vec![0.0; beliefs.len()];
    for step in 0..GRID {
        for (i, chance) in best.iter_mut().enumerate() {
            let others = (0..beliefs.len()).filter(|j| *j != i);
            *chance += beliefs[i].0[step] * others.map(|j| below[j] + 0.5 * beliefs[j].0[step]).product::<f64>();
        }
        below.iter_mut().zip(beliefs).for_each(|(below, belief)| *below += belief.0[step]);
    }
    let sum: f64 = best.iter().sum();
    best.into_iter().map(|chance| chance / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn best_of(beliefs: &[Beta]) -> Vec<f64> {
        probabilities_best(&beliefs.iter().map(|belief| belief.gridded()).collect::<Vec<_>>())
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Beta(1, 1) is uniform; Beta(2, 1) has F(x) = x²; Beta(2, 2) has F(x) = 3x² - 2x³.
        for (belief, probability, expected) in [
            (Beta { alpha: 1.0, beta: 1.0 }, 0.05, 0.05),
            (Beta { alpha: 2.0, beta: 1.0 }, 0.05, 0.05_f64.sqrt()),
            (Beta { alpha: 2.0, beta: 2.0 }, 0.5, 0.5),
            (Beta { alpha: 2.0, beta: 2.0 }, 0.15625, 0.25),
        ] {
            assert!((belief.gridded().quantile(probability) - expected).abs() < 2e-3, "{belief:?}");
        }
    }

    #[test]
    fn the_better_of_two_is_known_in_closed_form() {
        // Of Beta(2, 1) and Beta(1, 1): ∫ 2x · x dx = 2/3.
        let best = best_of(&[Beta { alpha: 2.0, beta: 1.0 }, Beta { alpha: 1.0, beta: 1.0 }]);
        assert!((best[0] - 2.0 / 3.0).abs() < 1e-4, "{best:?}");
        // Of three alike each is as likely.
        let best = best_of(&[Beta { alpha: 3.0, beta: 4.0 }; 3]);
        assert!(best.iter().all(|chance| (chance - 1.0 / 3.0).abs() < 1e-9), "{best:?}");
    }

    proptest! {
        #[test]
        fn chances_sum_to_one_and_more_evidence_for_one_never_lowers_its(
            beliefs in prop::collection::vec((0.3..60.0_f64, 0.3..60.0_f64), 1..4),
            more in 0.0..20.0_f64,
        ) {
            let mut beliefs: Vec<Beta> = beliefs.into_iter().map(|(alpha, beta)| Beta { alpha, beta }).collect();
            let before = best_of(&beliefs);
            prop_assert!((before.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(before.iter().all(|chance| (0.0..=1.0).contains(chance)));
            beliefs[0].alpha += more;
            prop_assert!(best_of(&beliefs)[0] >= before[0] - 1e-9);
        }

        #[test]
        fn quantiles_ascend(alpha in 0.3..100.0_f64, beta in 0.3..100.0_f64) {
            let belief = Beta { alpha, beta }.gridded();
            let (low, middle, high) = (belief.quantile(0.05), belief.quantile(0.5), belief.quantile(0.95));
            prop_assert!(0.0 <= low && low <= middle && middle <= high && high <= 1.0);
        }
    }
}
