//! How each method predicts: our own, and what others do.

use attain_attainment::{Constants, IncidentForecast};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::series::Past;
use crate::scores;

const DRAWS: usize = 1_000;
const SEED: u64 = 7;

/// A predictive distribution of a window's bad share.
#[derive(Debug, Clone)]
pub(super) enum Predictive {
    Law(IncidentForecast),
    /// A sample, ascending.
    Draws(Vec<f64>),
    /// The first with a weight, the second with the rest.
    Mixture(f64, Box<Predictive>, Box<Predictive>),
    ParetoTail(Box<Tail>),
}

/// A law whose upper end is a generalised Pareto law.
#[derive(Debug, Clone)]
pub(super) struct Tail {
    body: Predictive,
    from: f64,
    above: f64,
    shape: f64,
    scale: f64,
}

impl Tail {
    fn exceed(&self, x: f64) -> f64 {
        if x <= self.from {
            return self.body.exceed(x);
        }
        self.above * (1.0 + self.shape * (x - self.from) / self.scale).powf(-1.0 / self.shape)
    }
}

impl Predictive {
    pub(super) fn sample(mut draws: Vec<f64>) -> Self {
        draws.sort_by(f64::total_cmp);
        Self::Draws(draws)
    }

    /// `P(X > x)`.
    pub(super) fn exceed(&self, x: f64) -> f64 {
        match self {
            Self::Law(law) => law.exceed(x),
            Self::Draws(draws) => (draws.len() - draws.partition_point(|draw| *draw <= x)) as f64 / draws.len() as f64,
            Self::Mixture(weight, a, b) => weight * a.exceed(x) + (1.0 - weight) * b.exceed(x),
            Self::ParetoTail(tail) => tail.exceed(x),
        }
    }

    /// `P(X >= x)`.
    pub(super) fn reach(&self, x: f64) -> f64 {
        match self {
            Self::Law(law) => {
                if x <= 0.0 {
                    1.0
                } else {
                    law.exceed(x)
                }
            }
            Self::Draws(draws) => (draws.len() - draws.partition_point(|draw| *draw < x)) as f64 / draws.len() as f64,
            Self::Mixture(weight, a, b) => weight * a.reach(x) + (1.0 - weight) * b.reach(x),
            Self::ParetoTail(tail) => {
                if x <= 0.0 {
                    1.0
                } else {
                    tail.exceed(x)
                }
            }
        }
    }

    /// What is not exceeded with probability `p`.
    pub(super) fn quantile(&self, p: f64) -> f64 {
        match self {
            Self::Law(law) => law.quantile(p),
            Self::Draws(draws) => scores::sorted_quantile(draws, p),
            Self::Mixture(..) | Self::ParetoTail(_) => self.quantile_by_halving(p),
        }
    }

    fn quantile_by_halving(&self, p: f64) -> f64 {
        if self.exceed(0.0) <= 1.0 - p {
            return 0.0;
        }
        let (mut low, mut high) = (1e-12f64.ln(), 1e3f64.ln());
        while high - low > 1e-7 {
            let middle = (low + high) / 2.0;
            if self.exceed(middle.exp()) <= 1.0 - p { high = middle } else { low = middle }
        }
        high.exp()
    }
}

/// A method by name: from what is known to a predictive distribution.
pub(super) type Baseline = fn(&Past) -> Predictive;

/// What a forecaster without Attain would do.
pub(super) const BASELINES: [(&str, Baseline); 4] = [
    ("historical_mean", historical_mean),
    ("percentile_of_daily_values", percentile_of_daily_values),
    ("block_bootstrap", block_bootstrap),
    ("iid_bootstrap", iid_bootstrap),
];

pub(super) fn drifting_level(constants: &Constants, past: &Past) -> Predictive {
    Predictive::Law(IncidentForecast::fit_with(
        constants,
        &past.ages_days,
        &past.amounts_days,
        past.observed_days,
        past.window_days,
    ))
}

/// The law with its upper `above` replaced by a generalised Pareto law of the same density where it begins.
pub(super) fn with_pareto_tail(body: Predictive, above: f64, shape: f64) -> Predictive {
    let from = body.quantile(1.0 - above);
    let step = from * 1e-4;
    let density = (body.exceed(from - step) - body.exceed(from + step)) / (2.0 * step);
    if from <= 0.0 || density.is_nan() || density <= 0.0 {
        return body;
    }
    let above = body.exceed(from);
    Predictive::ParetoTail(Box::new(Tail { body, from, above, shape, scale: above / density }))
}

fn historical_mean(past: &Past) -> Predictive {
    Predictive::sample(vec![scores::mean(&past.daily)])
}

/// What most tools offer: a percentile of daily values as the target of a month.
fn percentile_of_daily_values(past: &Past) -> Predictive {
    Predictive::sample(past.daily.clone())
}

/// Stationary bootstrap of daily values (Politis & Romano 1994), blocks as long as the history asks.
pub(super) fn block_bootstrap(past: &Past) -> Predictive {
    resample(past, block_length(&past.daily))
}

/// Days drawn one by one.
pub(super) fn iid_bootstrap(past: &Past) -> Predictive {
    resample(past, 1.0)
}

fn resample(past: &Past, mean_block_days: f64) -> Predictive {
    let daily = &past.daily;
    let mut random = ChaCha8Rng::seed_from_u64(SEED ^ past.observed_days.to_bits());
    let restart = (1.0 / mean_block_days).clamp(0.0, 1.0);
    let days = past.window_days as usize;
    let mut draw = || {
        let mut day = random.random_range(0..daily.len());
        let mut total = daily[day];
        for _ in 1..days {
            let jump = restart >= 1.0 || random.random_bool(restart);
            day = if jump { random.random_range(0..daily.len()) } else { (day + 1) % daily.len() };
            total += daily[day];
        }
        total / days as f64
    };
    Predictive::sample((0..DRAWS).map(|_| draw()).collect())
}

/// Mean block of the stationary bootstrap that estimates a mean's variance best: Politis & White (2004) with the correction
/// of Patton, Politis & White (2009). 1 when the values do not vary or hang together.
pub(super) fn block_length(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = scores::mean(values);
    let autocovariance = |lag: usize| {
        let pairs = values.iter().zip(&values[lag.min(values.len())..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n
    };
    let variance = autocovariance(0);
    if values.len() < 10 || variance <= 0.0 {
        return 1.0;
    }
    let run = (n.log10().sqrt().ceil() as usize).max(5);
    let lag_max = n.sqrt().ceil() as usize + run;
    let band = 2.0 * (n.log10() / n).sqrt();
    let still = |lag: usize| (autocovariance(lag) / variance).abs() < band;
    // The last lag before as many small correlations as `run` in a row.
    let last = (0..lag_max).find(|lag| (lag + 1..=lag + run).all(still)).unwrap_or(lag_max);
    let reach = (2 * last.max(1)).min(lag_max);
    let (mut spectrum, mut slope) = (variance, 0.0);
    for lag in 1..=reach {
        let share = lag as f64 / reach as f64;
        let taper = if share <= 0.5 { 1.0 } else { 2.0 * (1.0 - share) };
        let covariance = autocovariance(lag);
        spectrum += 2.0 * taper * covariance;
        slope += 2.0 * taper * lag as f64 * covariance;
    }
    let denominator = 2.0 * spectrum * spectrum;
    if denominator <= 0.0 {
        return 1.0;
    }
    let length = (2.0 * slope * slope / denominator * n).cbrt();
    let most = (3.0 * n.sqrt()).min(n / 3.0).ceil();
    length.clamp(1.0, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(daily: Vec<f64>) -> Past {
        Past { ages_days: vec![], amounts_days: vec![], observed_days: daily.len() as f64, window_days: 10.0, daily }
    }

    #[test]
    fn a_sample_knows_ties_and_a_mixture_lies_between() {
        let sample = Predictive::sample(vec![0.2, 0.0, 0.0, 0.4]);
        assert_eq!(
            (sample.exceed(0.0), sample.reach(0.0), sample.exceed(0.2), sample.reach(0.2)),
            (0.5, 1.0, 0.25, 0.5)
        );
        let other = Predictive::sample(vec![0.1]);
        let mixture = Predictive::Mixture(0.5, Box::new(sample), Box::new(other));
        assert_eq!(mixture.exceed(0.15), 0.25);
        assert!((mixture.quantile(0.80) - 0.2).abs() < 1e-6, "{}", mixture.quantile(0.80));
    }

    /// The correlation of a first-order autoregression is a^k, for which the best length is (n 4 a^2 / (1 - a^2)^2)^(1/3) (both
    /// sums over all lags; Politis & White 2004, section 3.2): 15.9 days for a = 0.7 and n = 1,000 is met within the noise.
    #[test]
    fn blocks_are_as_long_as_values_hang_together() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        let mut level = 0.0;
        let mut values = |carry: f64| -> Vec<f64> {
            (0..1_000)
                .map(|_| {
                    let noise = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
                    level = carry * level + noise;
                    level
                })
                .collect()
        };
        let expected = (1_000.0 * 4.0 * 0.49 / (0.51f64 * 0.51)).cbrt();
        let hanging = block_length(&values(0.7));
        assert!((expected * 0.6..expected * 1.6).contains(&hanging), "{hanging} for {expected}");
        let apart = block_length(&values(0.0));
        assert!(apart < 5.0, "{apart}");
        assert_eq!(block_length(&[0.0; 180]), 1.0);
    }

    #[test]
    fn a_bootstrap_keeps_the_mean_and_blocks_widen_what_hangs_together() {
        let daily: Vec<f64> = (0..180).map(|day| if day % 60 < 12 { 0.1 } else { 0.0 }).collect();
        let past = past(daily);
        let (block, single) = (block_bootstrap(&past), iid_bootstrap(&past));
        let spread = |predictive: &Predictive| predictive.quantile(0.95) - predictive.quantile(0.05);
        assert!(spread(&block) > 1.3 * spread(&single), "{} against {}", spread(&block), spread(&single));
        let Predictive::Draws(draws) = &single else { unreachable!("a bootstrap is a sample") };
        assert!((scores::mean(draws) - 0.02).abs() < 0.003);
    }
}
