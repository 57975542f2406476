//! What the scores of a back-test say, with how sure they are.

use attain_attainment::calibration::{Isotonic, Stated};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::methods::Predictive;
use super::series::Case;
use crate::scores;

/// What the offers ask: probability of a miss.
pub(super) const GOALS: [f64; 3] = [0.02, 0.10, 0.25];
/// Budgets at which stated probabilities are scored.
pub(super) const BUDGETS: [f64; 7] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.02, 0.05];
/// Bad shares below this are as good as none on the logarithmic scale.
const LOG_FLOOR: f64 = 1e-4;
const PIT_BINS: usize = 10;
const RESAMPLES: usize = 500;
const SEED: u64 = 7;

/// One forecast and what happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scored {
    pub(super) outcome: f64,
    /// Bad share that is exceeded with the probability of each goal.
    pub(super) quantiles: [f64; 3],
    /// Probability to exceed each budget.
    pub(super) exceed: [f64; 7],
    /// What the forecast put below the outcome, and up to it.
    pub(super) pit: (f64, f64),
}

impl Scored {
    pub(super) fn of(predictive: &Predictive, case: &Case) -> Self {
        Self {
            outcome: case.outcome,
            quantiles: GOALS.map(|goal| predictive.quantile(1.0 - goal)),
            exceed: BUDGETS.map(|budget| predictive.exceed(budget)),
            pit: (1.0 - predictive.reach(case.outcome), 1.0 - predictive.exceed(case.outcome)),
        }
    }

    fn missed(&self, goal: usize) -> f64 {
        f64::from(u8::from(self.outcome > self.quantiles[goal]))
    }

    fn pinball(&self, goal: usize) -> f64 {
        scores::pinball(self.outcome, self.quantiles[goal], 1.0 - GOALS[goal])
    }

    fn log_pinball(&self, goal: usize) -> f64 {
        let scale = |share: f64| (share.max(0.0) + LOG_FLOOR).ln();
        scores::pinball(scale(self.outcome), scale(self.quantiles[goal]), 1.0 - GOALS[goal])
    }

    pub(super) fn stated(&self) -> impl Iterator<Item = Stated> {
        let outcome = self.outcome;
        self.exceed
            .into_iter()
            .zip(BUDGETS)
            .map(move |(probability, budget)| Stated { probability, happened: outcome > budget })
    }
}

/// Every score that is a number a method.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Summary {
    pub(super) missed: [f64; 3],
    pub(super) pinball: [f64; 3],
    pub(super) log_pinball: [f64; 3],
    /// Mean budget allowed over mean bad share observed.
    pub(super) tightness: [f64; 3],
    pub(super) ece: f64,
    pub(super) brier: f64,
}

impl Summary {
    pub(super) fn of<'a>(scored: impl Iterator<Item = &'a Scored> + Clone) -> Self {
        let count = scored.clone().count().max(1) as f64;
        let mean = |value: &dyn Fn(&Scored) -> f64| scored.clone().map(value).sum::<f64>() / count;
        let by_goal = |value: fn(&Scored, usize) -> f64| [0, 1, 2].map(|goal| mean(&|scored| value(scored, goal)));
        let observed = mean(&|scored| scored.outcome);
        let stated: Vec<(f64, bool)> =
            scored.clone().flat_map(Scored::stated).map(|stated| (stated.probability, stated.happened)).collect();
        Self {
            missed: by_goal(Scored::missed),
            pinball: by_goal(Scored::pinball),
            log_pinball: by_goal(Scored::log_pinball),
            tightness: by_goal(|scored, goal| scored.quantiles[goal]).map(|allowed| allowed / observed.max(1e-12)),
            ece: scores::expected_calibration_error(&stated),
            brier: scores::brier(&stated),
        }
    }

    pub(super) fn log_pinball_mean(&self) -> f64 {
        scores::mean(&self.log_pinball)
    }
}

/// The forecasts of a method, one list a series.
pub(super) type Backtest = Vec<Vec<Scored>>;

/// Draws of series, and within each of blocks of windows that follow one another: the same for every method, so that
/// differences are of the same windows.
pub(super) struct Resamples(Vec<Vec<(usize, usize)>>);

impl Resamples {
    /// For so many windows a series. Series are drawn with replacement and each is made up of circular blocks as long as the cube root of
    /// its windows.
    pub(super) fn new(windows: &[usize]) -> Self {
        let used: Vec<usize> = (0..windows.len()).filter(|series| windows[*series] > 0).collect();
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mut draw = || {
            let mut drawn = Vec::new();
            for _ in 0..used.len() {
                let series = used[random.random_range(0..used.len())];
                let count = windows[series];
                let block = (count as f64).cbrt().ceil() as usize;
                let end = drawn.len() + count;
                while drawn.len() < end {
                    let start = random.random_range(0..count);
                    let length = block.min(end - drawn.len());
                    drawn.extend((0..length).map(|i| (series, (start + i) % count)));
                }
            }
            drawn
        };
        Self((0..RESAMPLES).map(|_| draw()).collect())
    }

    /// A summary for each draw.
    pub(super) fn summaries(&self, backtest: &Backtest) -> Vec<Summary> {
        let draw =
            |cases: &Vec<(usize, usize)>| Summary::of(cases.iter().map(|(series, window)| &backtest[*series][*window]));
        self.0.iter().map(draw).collect()
    }
}

/// 5 % and 95 % quantile.
pub(super) fn interval(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let values: Vec<f64> = values.collect();
    [scores::quantile(&values, 0.05), scores::quantile(&values, 0.95)]
}

pub(super) fn by_goal(value: impl Fn(usize) -> Value) -> Map<String, Value> {
    GOALS.iter().enumerate().map(|(index, goal)| (format!("{goal:.2}"), value(index))).collect()
}

/// All scores of a method.
pub(super) fn report(backtest: &Backtest, resampled: &[Summary]) -> Value {
    let all: Vec<&Scored> = backtest.iter().flatten().collect();
    let summary = Summary::of(all.iter().copied());
    let mut intervals = by_goal(|goal| json!(interval(resampled.iter().map(|summary| summary.missed[goal]))));
    intervals.insert("ece".into(), json!(interval(resampled.iter().map(|summary| summary.ece))));
    intervals.insert("brier".into(), json!(interval(resampled.iter().map(|summary| summary.brier))));
    intervals.insert("log_pinball".into(), json!(interval(resampled.iter().map(Summary::log_pinball_mean))));
    json!({
        "missed": by_goal(|goal| json!(summary.missed[goal])),
        "intervals": intervals,
        "ece": summary.ece,
        "brier": summary.brier,
        "pinball": by_goal(|goal| json!(summary.pinball[goal])),
        "log_pinball": summary.log_pinball_mean(),
        "log_pinball_by_goal": by_goal(|goal| json!(summary.log_pinball[goal])),
        "tightness": by_goal(|goal| json!(summary.tightness[goal])),
        "corp": corp(&all.iter().flat_map(|scored| scored.stated()).collect::<Vec<_>>()),
        "corp_by_budget": BUDGETS
            .iter()
            .enumerate()
            .map(|(index, budget)| {
                let stated: Vec<Stated> =
                    all.iter().filter_map(|scored| scored.stated().nth(index)).collect();
                (format!("{budget}"), corp(&stated))
            })
            .collect::<Map<String, Value>>(),
        "pit": pit(&all),
    })
}

/// Brier score taken apart: `score = miscalibration - discrimination + uncertainty` by pooling of adjacent violators
/// (Dimitriadis, Gneiting & Jordan 2021).
fn corp(stated: &[Stated]) -> Value {
    let score = |probability: &dyn Fn(f64) -> f64| {
        let pairs: Vec<(f64, bool)> =
            stated.iter().map(|stated| (probability(stated.probability), stated.happened)).collect();
        scores::brier(&pairs)
    };
    let rate = stated.iter().filter(|stated| stated.happened).count() as f64 / stated.len().max(1) as f64;
    let fit = Isotonic::fit(stated, 0.0);
    let (own, mended, constant) = (score(&|p| p), score(&|p| fit.step(p)), score(&|_| rate));
    json!({ "miscalibration": own - mended, "discrimination": constant - mended, "uncertainty": constant })
}

/// Histogram of the probability integral transform, 0.1 in each bin when the forecast is right; an outcome that has a probability of its own
/// spreads over what it covers (Czado, Gneiting & Held 2009).
fn pit(all: &[&Scored]) -> Vec<f64> {
    let below = |edge: f64| {
        let part = |scored: &&Scored| {
            let (low, high) = scored.pit;
            if high > low { ((edge - low) / (high - low)).clamp(0.0, 1.0) } else { f64::from(u8::from(high <= edge)) }
        };
        all.iter().map(part).sum::<f64>() / all.len().max(1) as f64
    };
    let edge = |bin: usize| bin as f64 / PIT_BINS as f64;
    (0..PIT_BINS).map(|bin| below(edge(bin + 1)) - if bin == 0 { 0.0 } else { below(edge(bin)) }).collect()
}

/// One row a series.
pub(super) fn per_series(names: &[&str], backtest: &Backtest) -> Vec<Value> {
    let row = |(name, scored): (&&str, &Vec<Scored>)| {
        let summary = Summary::of(scored.iter());
        json!({
            "series": name,
            "forecasts": scored.len(),
            "observed": scores::mean(&scored.iter().map(|scored| scored.outcome).collect::<Vec<_>>()),
            "missed": by_goal(|goal| json!(summary.missed[goal])),
            "brier": summary.brier,
            "log_pinball": summary.log_pinball_mean(),
            "tightness": by_goal(|goal| json!(summary.tightness[goal])),
        })
    };
    names.iter().zip(backtest).filter(|(_, scored)| !scored.is_empty()).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(outcome: f64, stated: f64) -> Scored {
        Scored { outcome, quantiles: [0.0; 3], exceed: [stated; 7], pit: (0.2, 0.6) }
    }

    #[test]
    fn a_method_that_promises_nothing_bad_is_missed_whenever_something_is() {
        let backtest = vec![vec![scored(0.0, 0.0), scored(0.02, 0.0)]];
        let resampled = Resamples::new(&[2]).summaries(&backtest);
        let report = report(&backtest, &resampled);
        assert_eq!(report["missed"]["0.02"], 0.5);
        assert!(report["ece"].as_f64().is_some_and(|error| error > 0.3));
        assert_eq!(report["tightness"]["0.10"], 0.0);
    }

    #[test]
    fn the_parts_of_the_brier_score_sum_to_it() {
        let stated: Vec<Stated> = [(0.1, true), (0.1, false), (0.4, false), (0.8, true), (0.9, false), (0.9, true)]
            .map(|(probability, happened)| Stated { probability, happened })
            .to_vec();
        let parts = corp(&stated);
        let part = |name: &str| parts[name].as_f64().expect("a number");
        let pairs: Vec<(f64, bool)> = stated.iter().map(|stated| (stated.probability, stated.happened)).collect();
        let sum = part("miscalibration") - part("discrimination") + part("uncertainty");
        assert!((sum - scores::brier(&pairs)).abs() < 1e-12);
        assert!(part("miscalibration") >= 0.0 && part("discrimination") >= 0.0);
    }

    #[test]
    fn an_outcome_with_a_probability_spreads_over_what_it_covers() {
        let all = [scored(0.0, 0.1)];
        let bins = pit(&all.iter().collect::<Vec<_>>());
        assert_eq!(bins.len(), PIT_BINS);
        assert!((bins.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((bins[2] - 0.25).abs() < 1e-12 && bins[0] == 0.0 && bins[6].abs() < 1e-12, "{bins:?}");
    }

    #[test]
    fn resamples_hold_as_many_windows_and_are_the_same_again() {
        let draws = Resamples::new(&[4, 0, 9]);
        assert!(draws.0.iter().all(|draw| draw.iter().all(|(series, window)| *window < [4, 0, 9][*series])));
        assert_eq!(draws.0, Resamples::new(&[4, 0, 9]).0);
    }
}
