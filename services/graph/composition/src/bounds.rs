//! Bounds on a sum or a maximum of latencies when only each one's own distribution is known.
//!
//! For any dependence (Makarov 1981; as quantiles Williamson and Downs 1990):
//! `sup over u ≤ p of F⁻¹(u) + G⁻¹(p − u) ≤ Q(p) ≤ inf over u ≥ p of F⁻¹(u) + G⁻¹(1 + p − u)`, and for the maximum
//! `max(F⁻¹(p), G⁻¹(p)) ≤ Q(p) ≤ inf over u ≥ p of max(F⁻¹(u), G⁻¹(1 + p − u))`.
//! Where latencies are known to be positively dependent (being fast together is at least as likely as by chance) the
//! copula lies between independence and comonotonicity, and the same holds with `u v = p` in place of `u + v = 1 + p`, and
//! `(1 − u)(1 − v) = 1 − p` in place of `u + v = p`.
//!
//! More than two are taken one after the other, which keeps bounds valid but not sharp. Quantiles are kept at 1,000 steps,
//! rounded outwards: the lower bound is read at the step below, the upper at the step above.

use crate::Distribution;

/// Steps that probabilities are kept at.
const STEPS: usize = 1_000;

/// What is known of how latencies move together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// Nothing.
    Unknown,
    /// Being fast together is at least as likely as by chance; for more than two, also for each and the rest together.
    Positive,
}

/// Bounds on a latency distribution: for every quantile a least and a greatest latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// Step k: least latency in milliseconds of the quantiles from k/1000 up.
    lower: Vec<f64>,
    /// Step k: greatest latency in milliseconds of the quantiles up to (k + 1)/1000.
    upper: Vec<f64>,
}

impl Bounds {
    /// One latency alone, up to the resolution.
    #[must_use]
    pub fn of(distribution: &Distribution) -> Self {
        let at = |step: usize| distribution.quantile(step as f64 / STEPS as f64);
        Self { lower: (0..STEPS).map(at).collect(), upper: (1..=STEPS).map(at).collect() }
    }

    /// Least and greatest latency in milliseconds that the quantile in `[0, 1]` can have.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> (f64, f64) {
        let position = quantile.clamp(0.0, 1.0) * STEPS as f64;
        let step = (position + 1e-9).floor() as usize;
        let above = (position - 1e-9).ceil().max(1.0) as usize;
        (self.lower[step.min(STEPS - 1)], self.upper[above - 1])
    }

    /// One after the other.
    #[must_use]
    pub fn in_sequence(&self, other: &Self, dependence: Dependence) -> Self {
        let sum = |a: f64, b: f64| a + b;
        Self { lower: self.least(other, dependence, sum), upper: self.greatest(other, dependence, sum) }
    }

    /// Both at once, until the slower one is done.
    #[must_use]
    pub fn at_once(&self, other: &Self, dependence: Dependence) -> Self {
        let comonotone = self.lower.iter().zip(&other.lower).map(|(a, b)| a.max(*b)).collect();
        Self { lower: comonotone, upper: self.greatest(other, dependence, f64::max) }
    }

    fn least(&self, other: &Self, dependence: Dependence, combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let of_step = |step: usize| {
            let pairs = (0..=step).map(|u| {
                let v = match dependence {
                    Dependence::Unknown => step - u,
                    // (1 − u)(1 − v) = 1 − p, v rounded down.
                    Dependence::Positive => (step - u) * STEPS / (STEPS - u),
                };
                combine(self.lower[u], other.lower[v])
            });
            pairs.fold(0.0, f64::max)
        };
        (0..STEPS).map(of_step).collect()
    }

    fn greatest(&self, other: &Self, dependence: Dependence, combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        let of_step = |step: usize| {
            let pairs = (step..=STEPS).map(|u| {
                let v = match dependence {
                    Dependence::Unknown => STEPS + step - u,
                    // u v = p, v rounded up.
                    Dependence::Positive => (step * STEPS).div_ceil(u),
                };
                combine(self.upper[u - 1], other.upper[v - 1])
            });
            pairs.fold(f64::INFINITY, f64::min)
        };
        (1..=STEPS).map(of_step).collect()
    }
}
