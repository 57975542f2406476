use attain_attainment::Ambition;
use serde::{Deserialize, Serialize};

use crate::Arms;
use crate::arms::place;
use crate::state::Shown;

/// 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A policy that might have suggested instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Always the offer of the least risk.
    AlwaysConservative,
    /// Always balanced.
    AlwaysBalanced,
    /// Always the offer of the most risk.
    AlwaysAmbitious,
    /// The offer whose posterior mean was the greatest at the time.
    BestSoFar,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AlwaysConservative, Self::AlwaysBalanced, Self::AlwaysAmbitious, Self::BestSoFar];

    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AlwaysConservative => "always_conservative",
            Self::AlwaysBalanced => "always_balanced",
            Self::AlwaysAmbitious => "always_ambitious",
            Self::BestSoFar => "best_so_far",
        }
    }

    /// What it suggests of the offers there are. Where its own is not offered: the next with less risk, else the next with more.
    fn choice(self, before: &Arms, offered: &[Ambition]) -> Option<Ambition> {
        let wanted = match self {
            Self::AlwaysConservative => Ambition::Conservative,
            Self::AlwaysBalanced => Ambition::Balanced,
            Self::AlwaysAmbitious => Ambition::Ambitious,
            Self::BestSoFar => {
                let mean = |ambition: &Ambition| before.belief(*ambition).mean();
                return offered
                    .iter()
                    .copied()
                    .reduce(|best, next| if mean(&next) > mean(&best) { next } else { best });
            }
        };
        let safer = offered.iter().copied().filter(|ambition| place(*ambition) <= place(wanted)).max();
        safer.or_else(|| offered.iter().copied().min())
    }
}

/// A share with its 95 % interval, each in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The share.
    pub ratio: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a policy would have got.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyEstimate {
    /// Which.
    pub policy: Policy,
    /// Inverse propensity scoring (Horvitz and Thompson, 1952): unbiased, wide.
    pub ips: Option<Estimate>,
    /// Self-normalised (Swaminathan and Joachims, NeurIPS 2015): slightly biased, narrower. `None` where no decision was on what the
    /// policy would have suggested.
    pub snips: Option<Estimate>,
    /// Doubly robust (Dudík, Langford and Li, ICML 2011) with the posterior mean before each decision as its model.
    pub doubly_robust: Option<Estimate>,
    /// Decisions it rests on.
    pub decision_count: u32,
    /// (Σw)² / Σw².
    pub effective_count: f64,
}

/// Sums over decisions: w the weight π(a) / p(a), r 1 where the suggestion was accepted as it was, d the doubly robust term, m what
/// the model said of the policy's choice, p the propensity of that choice, suggested or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    count: u32,
    weight: f64,
    weight_squared: f64,
    reward: f64,
    robust: f64,
    /// Σ 1 / p.
    inverse: f64,
    /// Σ m / p.
    inverse_model: f64,
    /// Σ m² / p.
    inverse_model_squared: f64,
}

impl Tally {
    /// Takes in a decision; `before` is what was known before it. What could not be suggested tells nothing of a policy that would have.
    pub(crate) fn add(&mut self, policy: Policy, before: &Arms, shown: &Shown, accepted: bool) {
        let offered: Vec<Ambition> = shown.offered().collect();
        let Some(choice) = policy.choice(before, &offered) else { return };
        let (Some(propensity), Some(_)) = (shown.propensity(choice), shown.propensity(shown.suggested)) else { return };
        let weight = if choice == shown.suggested { 1.0 / propensity } else { 0.0 };
        let reward = f64::from(accepted);
        let model = before.belief(choice).mean();
        self.count += 1;
        self.weight += weight;
        self.weight_squared += weight * weight;
        self.reward += weight * reward;
        self.robust += model + weight * (reward - model);
        self.inverse += 1.0 / propensity;
        self.inverse_model += model / propensity;
        self.inverse_model_squared += model * model / propensity;
    }

    pub(crate) fn estimate(&self, policy: Policy) -> PolicyEstimate {
        let some = self.count > 0;
        PolicyEstimate {
            policy,
            ips: some.then(|| self.mean(self.reward, self.ips_variance())),
            snips: (self.weight > 0.0).then(|| self.self_normalised()),
            doubly_robust: some.then(|| self.mean(self.robust, self.robust_variance())),
            decision_count: self.count,
            effective_count: self.effective_count(),
        }
    }

    fn effective_count(&self) -> f64 {
        if self.weight > 0.0 { self.weight * self.weight / self.weight_squared } else { 0.0 }
    }

    /// A mean with its normal interval; `variance` is that of the sum.
    fn mean(&self, sum: f64, variance: f64) -> Estimate {
        let n = f64::from(self.count);
        interval(sum / n, Z * variance.max(0.0).sqrt() / n)
    }

    /// Share that is accepted, by Laplace's rule of succession on as many decisions as the weights are worth: what variances are
    /// computed with, since the observed ones are far too small where a policy's choice was seldom suggested.
    fn likely(&self) -> f64 {
        let n = self.effective_count();
        let ratio = if self.weight > 0.0 { self.reward / self.weight } else { 0.0 };
        (ratio * n + 1.0) / (n + 2.0)
    }

    /// Var Σwr = Σ (q/p − q²): the propensities are known, so only q is estimated.
    fn ips_variance(&self) -> f64 {
        let q = self.likely();
        q * self.inverse - f64::from(self.count) * q * q
    }

    /// Var Σd ≤ Σ E(r − m)² / p, and E(r − m)² = q − 2qm + m².
    fn robust_variance(&self) -> f64 {
        let q = self.likely();
        q * self.inverse - 2.0 * q * self.inverse_model + self.inverse_model_squared
    }

    /// Σwr / Σw with the interval of Wilson (1927) for as many trials as the weights are worth.
    fn self_normalised(&self) -> Estimate {
        let ratio = self.reward / self.weight;
        let n = self.weight * self.weight / self.weight_squared;
        let centre = (ratio + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (ratio * (1.0 - ratio) / n + Z * Z / (4.0 * n * n)).max(0.0).sqrt();
        let around = interval(centre, half);
        // Rounding may leave an end on the wrong side of a share of 0 or 1.
        Estimate { ratio, low: around.low.min(ratio), high: around.high.max(ratio) }
    }
}

fn interval(centre: f64, half: f64) -> Estimate {
    let clip = |ratio: f64| ratio.clamp(0.0, 1.0);
    Estimate { ratio: clip(centre), low: clip(centre - half), high: clip(centre + half) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(suggested: Ambition, propensities: [Option<f64>; 3]) -> Shown {
        Shown { suggested, propensities }
    }

    #[test]
    fn estimates_are_those_of_the_formulas() {
        // Two decisions on balanced at p = 0.5 (one accepted), one on ambitious at p = 0.25.
        let all = [Some(0.25), Some(0.5), Some(0.25)];
        let mut tally = Tally::default();
        for (suggested, accepted) in
            [(Ambition::Balanced, true), (Ambition::Balanced, false), (Ambition::Ambitious, true)]
        {
            tally.add(Policy::AlwaysBalanced, &Arms::default(), &shown(suggested, all), accepted);
        }
        let estimate = tally.estimate(Policy::AlwaysBalanced);
        let ratio = |estimate: Option<Estimate>| estimate.expect("some").ratio;
        assert!((ratio(estimate.ips) - 2.0 / 3.0).abs() < 1e-12);
        assert!((ratio(estimate.snips) - 0.5).abs() < 1e-12);
        // The model says 2/3 of balanced: 2/3 + 2·(1 − 2/3), 2/3 − 2·2/3 and 2/3.
        assert!((ratio(estimate.doubly_robust) - (4.0 / 3.0 - 2.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((estimate.decision_count, estimate.effective_count), (3, 2.0));
        for estimate in [estimate.ips, estimate.snips, estimate.doubly_robust].into_iter().flatten() {
            assert!(0.0 <= estimate.low && estimate.low < estimate.ratio && estimate.ratio < estimate.high);
        }
    }

    #[test]
    fn without_decisions_there_is_no_estimate() {
        let estimate = Tally::default().estimate(Policy::BestSoFar);
        assert_eq!((estimate.ips, estimate.snips, estimate.doubly_robust), (None, None, None));
        assert_eq!(estimate.effective_count, 0.0);
    }

    #[test]
    fn decisions_that_a_policy_could_not_have_seen_tell_nothing_of_it() {
        // Balanced always, as where nothing is explored.
        let only = [Some(0.0), Some(1.0), Some(0.0)];
        let told = |policy: Policy| {
            let mut tally = Tally::default();
            tally.add(policy, &Arms::default(), &shown(Ambition::Balanced, only), true);
            tally.estimate(policy)
        };
        let of = |policy: Policy| (told(policy).decision_count, told(policy).ips.map(|estimate| estimate.ratio));
        assert_eq!(of(Policy::AlwaysBalanced), (1, Some(1.0)));
        assert_eq!((of(Policy::AlwaysConservative), of(Policy::AlwaysAmbitious)), ((0, None), (0, None)));
    }

    #[test]
    fn a_policy_keeps_to_what_is_offered() {
        let arms = Arms::default();
        let choice = |policy: Policy, offered: &[Ambition]| policy.choice(&arms, offered);
        let ends = [Ambition::Conservative, Ambition::Ambitious];
        assert_eq!(choice(Policy::AlwaysBalanced, &ends), Some(Ambition::Conservative));
        assert_eq!(choice(Policy::AlwaysConservative, &[Ambition::Ambitious]), Some(Ambition::Ambitious));
        assert_eq!(choice(Policy::AlwaysAmbitious, &Ambition::ALL), Some(Ambition::Ambitious));
        assert_eq!(choice(Policy::BestSoFar, &Ambition::ALL), Some(Ambition::Balanced));
        assert_eq!(choice(Policy::BestSoFar, &[]), None);
    }
}
