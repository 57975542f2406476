use serde::{Deserialize, Serialize};

use crate::beta::Beta;

/// Days after which a new level of failure is believed by half against the level before it.
///
/// A choice, not a measurement: a segment needs 3 days to be called a regime, and after a month the old level should no longer
/// matter (2 %).
const REGIME_HALF_LIFE_DAYS: f64 = 5.0;
/// Relative variance of the chronic level from one window to the next before any is measured (20 % up or down), the weeks
/// that it counts for, and the least that is believed however steady the past (5 %).
const DRIFT_PRIOR: f64 = 0.04;
const DRIFT_PRIOR_WEEKS: f64 = 4.0;
const DRIFT_MIN: f64 = 0.0025;

/// Requests of a span of days outside episodes.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Level {
    /// Days.
    pub days: f64,
    /// Requests.
    pub valid: f64,
    /// Failures among them.
    pub bad: f64,
}

/// What the chronic forecast is fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChronicEvidence {
    /// The regime that holds now.
    pub now: Level,
    /// What was before it; no requests when nothing was.
    pub before: Level,
    /// Whole weeks of the present regime, any order.
    pub weeks: Vec<Level>,
    /// How many times the variance of a sum exceeds that of independent requests: 1 + (mean bucket - 1) rho.
    pub design_effect: f64,
    /// Requests expected in the window ahead.
    pub window_valid: f64,
    /// Length of the window ahead, in days.
    pub window_days: f64,
}

/// Bad fraction that the chronic level of failure brings to the next window: a Beta distribution whose mean is the level of
/// the present regime, shrunk towards the one before, and whose spread has the counting noise of the window
/// (Beta-Binomial), the error of estimation and the drift of the level in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChronicForecast {
    alpha: f64,
    beta: f64,
}

impl ChronicForecast {
    /// Fits the evidence. Without a request the level is 1/2 failure in none: a mean of one half, as wide as can be.
    #[must_use]
    pub fn fit(evidence: &ChronicEvidence) -> Self {
        let design_effect = evidence.design_effect.max(1.0);
        let (now, now_variance) = estimate(&evidence.now, design_effect);
        let (mean, variance) = if evidence.before.valid > 0.0 {
            let (before, before_variance) = estimate(&evidence.before, design_effect);
            let old = libm::exp2(-evidence.now.days / REGIME_HALF_LIFE_DAYS);
            let apart = (now - before) * (now - before);
            (
                (1.0 - old) * now + old * before,
                (1.0 - old) * now_variance + old * before_variance + old * (1.0 - old) * apart,
            )
        } else {
            (now, now_variance)
        };
        let mean = mean.clamp(1e-12, 1.0 - 1e-9);
        let drift = drift(&evidence.weeks, design_effect) * (evidence.window_days / 28.0).max(1.0);
        let counting = design_effect * (1.0 - mean) / (evidence.window_valid.max(1.0) * mean);
        let relative = (1.0 + variance / (mean * mean)) * (1.0 + drift) * (1.0 + counting) - 1.0;
        Self::matching(mean, relative * mean * mean)
    }

    fn matching(mean: f64, variance: f64) -> Self {
        let binary = mean * (1.0 - mean);
        let size = binary / variance.clamp(binary * 1e-7, binary * 0.95) - 1.0;
        Self { alpha: mean * size, beta: (1.0 - mean) * size }
    }

    /// Expected bad fraction.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// Standard deviation of the bad fraction.
    #[must_use]
    pub fn standard_deviation(&self) -> f64 {
        let size = self.alpha + self.beta;
        (self.mean() * (1.0 - self.mean()) / (size + 1.0)).sqrt()
    }

    /// Probability that the bad fraction is greater than `bad_ratio`.
    #[must_use]
    pub fn exceed(&self, bad_ratio: f64) -> f64 {
        if bad_ratio < 0.0 {
            return 1.0;
        }
        if bad_ratio >= 1.0 {
            return 0.0;
        }
        Beta::new(self.alpha, self.beta).map_or(0.0, |law| law.above(bad_ratio))
    }
}

/// Mean and variance of the failure ratio after the counts, from half a failure in one request before them (Jeffreys).
fn estimate(level: &Level, design_effect: f64) -> (f64, f64) {
    let (valid, bad) = (level.valid / design_effect, level.bad / design_effect);
    let mean = (bad + 0.5) / (valid + 1.0);
    (mean, mean * (1.0 - mean) / (valid + 2.0))
}

/// Relative variance of the level between weeks, less what counting explains, shrunk to its prior.
fn drift(weeks: &[Level], design_effect: f64) -> f64 {
    let weeks: Vec<&Level> = weeks.iter().filter(|week| week.valid > 0.0).collect();
    let bad: f64 = weeks.iter().map(|week| week.bad).sum();
    if weeks.len() < 2 || bad <= 0.0 {
        return DRIFT_PRIOR;
    }
    let count = weeks.len() as f64;
    let rates: Vec<f64> = weeks.iter().map(|week| week.bad / week.valid).collect();
    let mean = rates.iter().sum::<f64>() / count;
    let between = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / (count - 1.0);
    let counting = design_effect * mean * weeks.iter().map(|week| 1.0 / week.valid).sum::<f64>() / count;
    let measured = ((between - counting) / (mean * mean)).max(0.0);
    let pooled = (DRIFT_PRIOR_WEEKS * DRIFT_PRIOR + (count - 1.0) * measured) / (DRIFT_PRIOR_WEEKS + count - 1.0);
    pooled.max(DRIFT_MIN)
}
