use std::ops::Range;

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::calibration::Layer;
use crate::cells::{Cells, Span};
use crate::episodes::tell_apart;
use crate::regime::regimes_of;
use crate::{
    ChronicEvidence, ChronicForecast, Constants, CountPoint, CountSeries, Episode, Forecast, IncidentForecast, Level,
    Regime,
};

const WEEK_MS: i64 = 7 * DAY_MS;
/// The rule of three: with no failure in n requests the 95 % upper bound of the failure ratio is about 3 / n
/// (Hanley & Lippman-Hand, JAMA 1983).
pub(crate) const RULE_OF_THREE: f64 = 3.0;

/// What a history of counts says of the next window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The predictive distribution of the next window's bad fraction.
    pub forecast: Forecast,
    /// Levels of failure, oldest first; the last one holds now.
    pub regimes: Vec<Regime>,
    /// Failure in excess of the chronic level, oldest first.
    pub episodes: Vec<Episode>,
    /// What the incident part was fitted to: days of history present.
    pub observed_days: f64,
    /// Instant that ages count from.
    pub now_ms: UnixMillis,
    /// Length of the window ahead, in days.
    pub window_days: f64,
    /// What it was predicted with.
    pub constants: Constants,
    /// Correlation of outcomes within a bucket outside episodes, in [0, 1].
    pub intra_bucket_correlation: f64,
    /// How many times it multiplies the variance of a sum: 1 + (mean bucket - 1) x correlation.
    pub design_effect: f64,
    /// Requests that count as independent in the history.
    pub effective_sample_count: f64,
    /// Requests expected in the window ahead.
    pub expected_window_count: f64,
    /// Least budget that those tell from none: 3 / effective requests.
    pub smallest_distinguishable_budget: f64,
}

/// From counts to the predictive distribution with the compiled constants: see [`predict_with`].
#[must_use]
pub fn predict(series: &CountSeries, window_days: f64, now_ms: UnixMillis) -> Option<Prediction> {
    predict_with(&Constants::DEFAULT, series, window_days, now_ms)
}

/// From counts to the predictive distribution: regimes, then episodes over the chronic level, then the forecast of both.
/// `None` when no request was counted.
///
/// `now_ms` is the instant that the window ahead starts at; episodes' ages count from it.
#[must_use]
pub fn predict_with(
    constants: &Constants,
    series: &CountSeries,
    window_days: f64,
    now_ms: UnixMillis,
) -> Option<Prediction> {
    predict_from(constants, Cells::of(series.points(), now_ms).all(), window_days, now_ms)
}

/// The same from cells that were made once.
pub(crate) fn predict_from(
    constants: &Constants,
    cells: Span<'_>,
    window_days: f64,
    now_ms: UnixMillis,
) -> Option<Prediction> {
    predict_all(constants, cells, &[window_days], now_ms).pop()
}

/// The same for windows of several lengths, of which only the forecasts differ; none when no request was counted.
pub(crate) fn predict_all(
    constants: &Constants,
    cells: Span<'_>,
    windows_days: &[f64],
    now_ms: UnixMillis,
) -> Vec<Prediction> {
    let totals = cells.totals();
    let valid = totals.valid;
    if valid <= 0.0 {
        return Vec::new();
    }
    let days = cells.days();
    let regimes = regimes_of(&days);
    let apart = tell_apart(cells, &days, &regimes);
    let observed_days = totals.covered_days();
    let design_effect = 1.0 + (valid / totals.busy - 1.0).max(0.0) * apart.correlation;
    let now_from = regimes.last().map_or(i64::MIN, |regime| regime.start_ms);
    let evidence = evidence(cells, &apart.chronic_bad, now_from, now_ms);
    let ahead = |window_days: &f64| {
        let window_days = *window_days;
        let expected_window_count = valid / observed_days * window_days;
        let chronic = ChronicForecast::fit(&ChronicEvidence {
            design_effect,
            window_valid: expected_window_count,
            window_days,
            ..evidence.clone()
        });
        let incident = fit_incidents(constants, &apart.episodes, observed_days, window_days, now_ms);
        Prediction {
            forecast: Forecast::new(Some(chronic), incident),
            regimes: regimes.clone(),
            episodes: apart.episodes.clone(),
            observed_days,
            now_ms,
            window_days,
            constants: *constants,
            intra_bucket_correlation: apart.correlation,
            design_effect,
            effective_sample_count: valid / design_effect,
            expected_window_count,
            smallest_distinguishable_budget: RULE_OF_THREE * design_effect / expected_window_count,
        }
    };
    windows_days.iter().map(ahead).collect()
}

impl Prediction {
    /// Whether the window's traffic tells a budget from none.
    #[must_use]
    pub fn distinguishes(&self, budget: f64) -> bool {
        // A hair of tolerance: 1 - target is not exact.
        budget >= self.smallest_distinguishable_budget * (1.0 - 1e-9)
    }

    /// The forecast if the episodes had been others.
    pub(crate) fn with_episodes(&self, episodes: &[Episode]) -> Forecast {
        self.refitted(&self.constants, episodes)
    }

    /// The same under a layer.
    #[must_use]
    pub fn with_layer(self, layer: Option<Layer>) -> Self {
        Self { forecast: self.forecast.with_layer(layer), ..self }
    }

    /// The forecast of the same history with other constants.
    #[must_use]
    pub fn forecast_with(&self, constants: &Constants) -> Forecast {
        self.refitted(constants, &self.episodes)
    }

    fn refitted(&self, constants: &Constants, episodes: &[Episode]) -> Forecast {
        let incident = fit_incidents(constants, episodes, self.observed_days, self.window_days, self.now_ms);
        self.forecast.with_incident(incident)
    }
}

fn fit_incidents(
    constants: &Constants,
    episodes: &[Episode],
    observed_days: f64,
    window_days: f64,
    now_ms: UnixMillis,
) -> IncidentForecast {
    let age = |episode: &Episode| now_ms.saturating_sub(episode.start_ms).max(0) as f64 / DAY_MS as f64;
    let ages: Vec<f64> = episodes.iter().map(age).collect();
    let amounts: Vec<f64> = episodes.iter().map(|episode| episode.amount_days).collect();
    IncidentForecast::fit_with(constants, &ages, &amounts, observed_days, window_days)
}

/// Chronic levels: of the regime that holds now, of the time before, and of the whole weeks of the present one, counted back from
/// now.
fn evidence(cells: Span<'_>, chronic_bad: &[f64], now_from: UnixMillis, now_ms: UnixMillis) -> ChronicEvidence {
    let week_of = |point: &CountPoint| ((now_ms - 1 - point.start_ms).max(0) / WEEK_MS) as usize;
    let mut at = cells.points.partition_point(|point| point.start_ms < now_from);
    let before = chronic(cells, chronic_bad, 0..at, [Level::default(); 1])[0];
    let mut now = Level::default();
    let mut weeks: Vec<Level> = Vec::new();
    while let Some(first) = cells.points.get(at) {
        let week = week_of(first);
        let next = at + cells.points[at..].partition_point(|point| week_of(point) >= week);
        if week >= weeks.len() {
            weeks.resize(week + 1, Level::default());
        }
        [now, weeks[week]] = chronic(cells, chronic_bad, at..next, [now, Level::default()]);
        at = next;
    }
    weeks.retain(|week| week.days > 6.0);
    ChronicEvidence { now, before, weeks, design_effect: 1.0, window_valid: 0.0, window_days: 0.0 }
}

/// Levels to which some cells are added: handed on by value, so that they stay in registers.
fn chronic<const N: usize>(
    cells: Span<'_>,
    chronic_bad: &[f64],
    of: Range<usize>,
    mut levels: [Level; N],
) -> [Level; N] {
    let bucket_days = BUCKET_MS as f64 / DAY_MS as f64;
    for ((point, weight), bad) in cells.slice(of.start, of.end).iter().zip(&chronic_bad[of]) {
        for level in &mut levels {
            level.days += weight.buckets * bucket_days;
            level.valid += point.valid;
            level.bad += bad;
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(days: i64, valid: f64, bad: f64) -> CountSeries {
        let points = (0..days * 288).map(|i| {
            // Whole failures that average to `bad`.
            let bad = ((i + 1) as f64 * bad).floor() - (i as f64 * bad).floor();
            CountPoint { start_ms: i * BUCKET_MS, valid, bad }
        });
        CountSeries::new(points.collect())
    }

    #[test]
    fn the_rule_of_three_decides_what_traffic_can_tell() {
        let prediction = predict(&steady(30, 1.0, 0.0), 30.0, 30 * DAY_MS).expect("requests were counted");
        assert!((prediction.expected_window_count - 8640.0).abs() < 1e-6);
        assert!((prediction.smallest_distinguishable_budget - 3.0 / 8640.0).abs() < 1e-12);
        assert!(prediction.distinguishes(0.0005) && !prediction.distinguishes(0.0001));
    }

    #[test]
    fn the_mean_follows_the_level_and_the_window() {
        let prediction = predict(&steady(90, 1000.0, 2.0), 28.0, 90 * DAY_MS).expect("requests were counted");
        assert_eq!((prediction.regimes.len(), prediction.episodes.len()), (1, 0));
        assert!((prediction.forecast.chronic_mean() / 0.002 - 1.0).abs() < 0.01);
        assert!(prediction.forecast.miss_probability(0.001) > 0.99);
        assert!(prediction.forecast.miss_probability(0.02) < 0.02);
    }

    #[test]
    fn clustered_failures_are_worth_fewer_requests() {
        let points = (0..30 * 288i64).map(|i| CountPoint {
            start_ms: i * BUCKET_MS,
            valid: 1000.0,
            bad: if i % 2 == 0 { 8.0 } else { 0.0 },
        });
        let clustered = predict(&CountSeries::new(points.collect()), 28.0, 30 * DAY_MS).expect("requests were counted");
        let even = predict(&steady(30, 1000.0, 4.0), 28.0, 30 * DAY_MS).expect("requests were counted");
        assert!(clustered.design_effect > 3.0, "{}", clustered.design_effect);
        assert_eq!(even.design_effect, 1.0);
        assert!(clustered.effective_sample_count < even.effective_sample_count / 3.0);
    }

    #[test]
    fn nothing_counted_is_nothing_said() {
        assert_eq!(predict(&CountSeries::default(), 28.0, 0), None);
        assert_eq!(predict(&steady(3, 0.0, 0.0), 28.0, 0), None);
    }
}
