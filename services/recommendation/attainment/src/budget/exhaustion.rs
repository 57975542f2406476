//! When the rest of a budget will be spent: first passages of paths drawn from the predictive distribution.

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Horizon, STEPS};
use crate::{Episode, Forecast, SliHistory, predict};

/// Paths that are drawn: the standard error of a probability is at most 1.1 points.
pub const PATHS: usize = 2048;
/// Amounts of failure that paths start from, at equal steps of probability; each is used [`PATHS`] / [`STRATA`] times.
const STRATA: usize = 256;
/// Most incidents of one path; where more are likely they are so small that how many there are no longer matters.
const INCIDENTS_MAX: usize = 64;
/// An episode that ended this close before the newest bucket's end may go on.
const STILL_MS: i64 = 2 * BUCKET_MS;
/// Quantiles of the date that are told.
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];
/// Most dates that the probability is told for.
const DATES_MAX: usize = 32;

/// When a budget will be spent that is not spent yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Exhaustion {
    /// Until when it looks: a rolling window's length from now, by when nothing of today counts any more.
    pub horizon_end_ms: UnixMillis,
    /// Probability that the budget is overspent at some instant until then.
    pub probability: f64,
    /// Standard error of the probability, from the number of paths alone.
    pub standard_error: f64,
    /// Dates by which it is overspent with these probabilities, as far as the probability goes.
    pub dates: Vec<DateQuantile>,
    /// Probability that it was overspent at some instant by each date, oldest first; never falls.
    pub by_date: Vec<ProbabilityBy>,
    /// Share of the budget that is left at the end: mean.
    pub remaining_ratio_mean: f64,
    /// The share that less is left with 5 % probability.
    pub remaining_ratio_low: f64,
    /// The same with 95 %.
    pub remaining_ratio_high: f64,
    /// The incident that goes on now; `None` where nothing beyond the chronic level fails.
    pub burning: Option<Burning>,
    /// Days of history that the forecast rests on.
    pub observed_days: f64,
    /// Requests a day that are expected: the mean of the days covered.
    pub valid_per_day: f64,
}

/// A quantile of the date of exhaustion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DateQuantile {
    /// Probability.
    pub probability: f64,
    /// The date that it is overspent by with this probability, to one step of the forecast (1/96 of the time ahead).
    pub time_ms: UnixMillis,
}

/// How likely the budget was overspent by a date.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProbabilityBy {
    /// The date.
    pub time_ms: UnixMillis,
    /// Probability that it was overspent at some instant until then.
    pub probability: f64,
}

/// An incident that goes on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Burning {
    /// Since when.
    pub start_ms: UnixMillis,
    /// Failures a day beyond the chronic level, so far.
    pub excess_bad_per_day: f64,
}

/// Draws [`PATHS`] futures and counts those that overspend. `None` without a request, or where no time is left.
///
/// Of each path the chronic level and the failures that incidents bring until the end follow the predictive distribution of
/// that time ([`predict`]). Incidents come at any time alike; given any, their number is a Poisson one that is not zero, whose
/// mean gives the predictive's own probability of none; their sizes split the whole as independent exponential amounts do; each
/// fails every request while it lasts. One that is going on lasts on: a time T is exceeded by what is still to come with
/// probability `d / (d + T)` after it has lasted `d` (no length is more natural than another: Gott, *Nature* 363, 1993), at the
/// rate so far. Requests come evenly at the mean of the days covered.
pub(super) fn forecast(history: &SliHistory, horizon: &Horizon, seed: u64) -> Option<Exhaustion> {
    let days = horizon.days();
    if days <= 0.0 {
        return None;
    }
    let prediction = predict(history.series(), days, horizon.now_ms)?;
    let burning = burning(&prediction.episodes, history, horizon.now_ms);
    let mut paths = Paths::new(&prediction.forecast, burning, horizon, seed);
    let mut first = [0_usize; STEPS];
    let mut left: Vec<f64> = Vec::with_capacity(PATHS);
    for path in 0..PATHS {
        let bad = paths.draw(path);
        if let Some(step) = (0..STEPS).find(|step| horizon.overspent(*step, bad[*step])) {
            first[step] += 1;
        }
        left.push(horizon.remaining_ratio(STEPS - 1, bad[STEPS - 1]));
    }
    left.sort_by(f64::total_cmp);
    let by: Vec<f64> = first
        .iter()
        .scan(0, |sum, count| {
            *sum += count;
            Some(*sum as f64 / PATHS as f64)
        })
        .collect();
    let probability = by[STEPS - 1];
    let date = |probability: f64| {
        let step = by.iter().position(|reached| *reached >= probability)?;
        Some(DateQuantile { probability, time_ms: horizon.ms(step) })
    };
    let every = STEPS.div_ceil(DATES_MAX);
    let dates = (0..STEPS).rev().step_by(every);
    let mut by_date: Vec<ProbabilityBy> =
        dates.map(|step| ProbabilityBy { time_ms: horizon.ms(step), probability: by[step] }).collect();
    by_date.reverse();
    Some(Exhaustion {
        horizon_end_ms: horizon.end_ms,
        probability,
        standard_error: (probability * (1.0 - probability) / PATHS as f64).sqrt(),
        dates: QUANTILES.into_iter().filter_map(date).collect(),
        by_date,
        remaining_ratio_mean: left.iter().sum::<f64>() / PATHS as f64,
        remaining_ratio_low: left[PATHS / 20],
        remaining_ratio_high: left[PATHS - 1 - PATHS / 20],
        burning,
        observed_days: prediction.observed_days,
        valid_per_day: horizon.valid_per_day,
    })
}

/// The newest episode, where it reaches the newest bucket and that one is of now.
fn burning(episodes: &[Episode], history: &SliHistory, now_ms: UnixMillis) -> Option<Burning> {
    let newest_ms = history.newest_ms().filter(|newest| now_ms - newest <= STILL_MS)?;
    let last = episodes.last().filter(|episode| newest_ms - episode.end_ms <= STILL_MS)?;
    let days = (last.end_ms - last.start_ms) as f64 / DAY_MS as f64;
    (days > 0.0).then(|| Burning { start_ms: last.start_ms, excess_bad_per_day: last.excess_bad / days })
}

/// Draws paths.
struct Paths<'a> {
    horizon: &'a Horizon,
    forecast: &'a Forecast,
    burning: Option<Burning>,
    /// Failures of incidents until the end as a share of requests, by stratum.
    amounts: Vec<f64>,
    /// Mean of the number of incidents before those without any are taken out.
    incidents: f64,
    random: ChaCha8Rng,
}

impl<'a> Paths<'a> {
    fn new(forecast: &'a Forecast, burning: Option<Burning>, horizon: &'a Horizon, seed: u64) -> Self {
        let incident = forecast.incident();
        let none = incident.no_incident_probability();
        let amounts = (0..STRATA).map(|i| incident.quantile((i as f64 + 0.5) / STRATA as f64)).collect();
        let random = ChaCha8Rng::seed_from_u64(seed);
        Self { horizon, forecast, burning, amounts, incidents: -libm::log(none.max(1e-30)), random }
    }

    /// Failures from now to the end of each step.
    fn draw(&mut self, path: usize) -> [f64; STEPS] {
        let days = self.horizon.days();
        let per_day = self.horizon.valid_per_day;
        let chronic = self.forecast.chronic_quantile(self.uniform());
        let amount_days = self.amounts[path % STRATA] * days;
        let mut fails: Vec<(f64, f64, f64)> = self.incidents(amount_days, days);
        if let Some(burning) = self.burning {
            let lasted = (self.horizon.now_ms - burning.start_ms) as f64 / DAY_MS as f64;
            let share = self.uniform().max(1e-12);
            let lasts = (lasted * (1.0 - share) / share).min(days);
            fails.push((0.0, lasts, (burning.excess_bad_per_day / per_day).min(1.0)));
        }
        std::array::from_fn(|step| {
            let until = days * (step + 1) as f64 / STEPS as f64;
            let bad_days: f64 =
                fails.iter().map(|(start, length, share)| share * (until - start).clamp(0.0, *length)).sum();
            (per_day * (chronic * until + bad_days)).min(per_day * until)
        })
    }

    /// Incidents by start, length in days, and share of requests that fail.
    fn incidents(&mut self, amount_days: f64, days: f64) -> Vec<(f64, f64, f64)> {
        if amount_days <= 0.0 {
            return Vec::new();
        }
        let count = self.count();
        let weights: Vec<f64> = (0..count).map(|_| -libm::log((1.0 - self.uniform()).max(1e-300))).collect();
        let sum: f64 = weights.iter().sum::<f64>().max(1e-300);
        weights
            .into_iter()
            .map(|weight| {
                let length = (amount_days * weight / sum).min(days);
                (self.uniform() * (days - length), length, 1.0)
            })
            .collect()
    }

    /// A Poisson number that is not zero, by inversion.
    fn count(&mut self) -> usize {
        let mean = self.incidents;
        let none = libm::exp(-mean);
        let drawn = none + (1.0 - none) * self.uniform();
        let (mut count, mut term, mut sum) = (0_usize, none, none);
        while sum < drawn && count < INCIDENTS_MAX {
            count += 1;
            term *= mean / count as f64;
            sum += term;
        }
        count.max(1)
    }

    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
