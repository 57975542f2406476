//! How strongly the self times of one trace move together.
//!
//! Ranks within their pool become normal scores `z = Φ⁻¹(u)`. For a one-factor Gaussian copula the mean product of two
//! scores of one trace is ρ; over m scores the sum of products of pairs is `(Σz)² − Σz²`, of which there are m(m − 1).

use statrs::distribution::{ContinuousCDF, Normal};

/// Ranks are kept this far from 0 and 1, so that one extreme value of a small pool does not decide ρ.
const RANK_MARGIN: f64 = 0.02;
/// ρ above this would leave no own variation at all.
const RHO_MAX: f64 = 0.97;

/// Standard normal value of a rank in `[0, 1]`, finite at both ends.
pub(crate) fn score_of(rank: f64) -> f64 {
    Normal::standard().inverse_cdf(rank.clamp(f64::EPSILON, 1.0 - f64::EPSILON))
}

/// Rank in `[0, 1]` of a standard normal value.
pub(crate) fn rank_of(score: f64) -> f64 {
    Normal::standard().cdf(score)
}

/// Standard normal value of a rank for estimating ρ.
pub(crate) fn cut_score_of(rank: f64) -> f64 {
    score_of(rank.clamp(RANK_MARGIN, 1.0 - RANK_MARGIN))
}

/// Sums over traces from which ρ is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Dependence {
    products: f64,
    squares: f64,
    pairs: f64,
    scores: f64,
}

impl Dependence {
    /// Adds the scores of one trace.
    pub(crate) fn add(&mut self, scores: &[f64]) {
        let (sum, squares) = scores.iter().fold((0.0, 0.0), |(sum, squares), z| (sum + z, squares + z * z));
        let count = scores.len() as f64;
        self.products += sum * sum - squares;
        self.pairs += count * (count - 1.0);
        self.squares += squares;
        self.scores += count;
    }

    /// ρ in `[0, 0.97]`; nothing where no trace has two self times that vary. Cut ranks have a variance below 1, so
    /// products are divided by the mean square.
    pub(crate) fn rho(&self) -> Option<f64> {
        let usable = self.pairs > 0.0 && self.squares > 0.0;
        usable.then(|| (self.products / self.pairs / (self.squares / self.scores)).clamp(0.0, RHO_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_factor_that_scores_were_drawn_with_is_found() {
        for expected in [0.0f64, 0.3, 0.9] {
            let mut random = ChaCha8Rng::seed_from_u64(1);
            let mut normal = || score_of(random.random());
            let mut dependence = Dependence::default();
            for _ in 0..4_000 {
                let common = normal();
                let scores: Vec<f64> = (0..6)
                    .map(|_| cut_score_of(rank_of(expected.sqrt() * common + (1.0 - expected).sqrt() * normal())))
                    .collect();
                dependence.add(&scores);
            }
            let found = dependence.rho().unwrap_or(f64::NAN);
            assert!((found - expected).abs() < 0.03, "{expected} {found}");
        }
        assert_eq!(Dependence::default().rho(), None);
    }
}
