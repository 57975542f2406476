//! The predictor's constants, chosen on one half of the series and scored on the other.
//!
//! Series take turns by name, so that each half holds every kind. The search starts far from the constants in use, at the least
//! value of every grid, since those in use were once shaped on series like these. One constant after the other takes the value of its grid
//! that scores best on the half, for a few rounds: bounded and deterministic.

use attain_attainment::Constants;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};

use super::methods;
use super::report::{GOALS, Scored, Summary, by_goal};
use super::series::Case;

const ROUNDS: usize = 4;

/// A constant by name, where it is, and the values that are tried.
struct Tuned {
    name: &'static str,
    at: fn(&mut Constants) -> &mut f64,
    grid: &'static [f64],
}

const TUNED: [Tuned; 14] = [
    Tuned { name: "drift", at: |c| &mut c.drift, grid: &[0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6] },
    Tuned { name: "transient", at: |c| &mut c.transient, grid: &[0.0, 0.02, 0.05, 0.1, 0.2, 0.4] },
    Tuned { name: "prior_incidents", at: |c| &mut c.prior_incidents, grid: &[0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0] },
    Tuned {
        name: "prior_exposure_days",
        at: |c| &mut c.prior_exposure_days,
        grid: &[0.0, 5.0, 10.0, 20.0, 40.0, 80.0],
    },
    Tuned { name: "recent_size_weight", at: |c| &mut c.recent_size_weight, grid: &[0.5, 1.0, 2.0, 4.0, 8.0] },
    Tuned { name: "prior_size", at: |c| &mut c.prior_size, grid: &[0.003, 0.01, 0.02, 0.03, 0.05, 0.1] },
    Tuned { name: "prior_size_weight", at: |c| &mut c.prior_size_weight, grid: &[0.1, 0.25, 0.5, 1.0, 2.0, 4.0] },
    Tuned { name: "prior_size_variation", at: |c| &mut c.prior_size_variation, grid: &[0.5, 1.0, 2.0, 4.0, 8.0] },
    Tuned {
        name: "prior_size_variation_weight",
        at: |c| &mut c.prior_size_variation_weight,
        grid: &[0.5, 1.0, 2.0, 4.0, 8.0],
    },
    Tuned {
        name: "size_half_life_days",
        at: |c| &mut c.size_half_life_days,
        grid: &[90.0, 180.0, 360.0, 720.0, 1440.0],
    },
    Tuned { name: "rate_half_life_days", at: |c| &mut c.rate_half_life_days, grid: &[30.0, 60.0, 120.0, 240.0] },
    Tuned { name: "half_life_days_min", at: |c| &mut c.half_life_days_min, grid: &[7.0, 15.0, 25.0, 40.0] },
    Tuned { name: "lower_stretch", at: |c| &mut c.lower_stretch, grid: &[1.0, 1.25, 1.5, 2.0] },
    Tuned { name: "half_life_days_max", at: |c| &mut c.half_life_days_max, grid: &[120.0, 180.0, 240.0, 360.0, 720.0] },
];
/// Even numbers: the law has a closed form there.
const FREEDOMS: [u32; 5] = [4, 8, 12, 20, 60];

/// Chooses on each half and scores on the other.
pub(super) fn choose(names: &[&str], cases: &[Vec<Case>]) -> Value {
    let half = |which: usize| -> Vec<&Case> { cases.iter().skip(which).step_by(2).flatten().collect() };
    let names_of = |which: usize| -> Vec<&str> { names.iter().skip(which).step_by(2).copied().collect() };
    let values = TUNED.iter().map(|tuned| tuned.grid.len()).sum::<usize>() + FREEDOMS.len();
    let progress = ProgressBar::new((2 * ROUNDS * values) as u64);
    let mut all_out: Vec<Scored> = Vec::new();
    let mut folds = Vec::new();
    for chosen_on in [0, 1] {
        let (seen, aside) = (half(chosen_on), half(1 - chosen_on));
        let constants = search(&seen, &progress);
        let out = score(&constants, &aside);
        let in_use = score(&Constants::DEFAULT, &aside);
        folds.push(json!({
            "chosen_on": names_of(chosen_on),
            "scored_on": names_of(1 - chosen_on),
            "constants": named(&constants),
            "on_chosen": summary(&score(&constants, &seen)),
            "on_set_aside": summary(&out),
            "constants_in_use_on_set_aside": summary(&in_use),
        }));
        all_out.extend(out);
    }
    progress.finish_and_clear();
    let whole: Vec<&Case> = cases.iter().flatten().collect();
    json!({
        "folds": folds,
        "set_aside_in_all": summary(&all_out),
        "constants_in_use": named(&Constants::DEFAULT),
        "constants_in_use_in_all": summary(&score(&Constants::DEFAULT, &whole)),
    })
}

fn score(constants: &Constants, cases: &[&Case]) -> Vec<Scored> {
    cases.iter().map(|case| Scored::of(&methods::drifting_level(constants, &case.past), case)).collect()
}

/// Less is better: accuracy of probabilities (against always saying the base rate), of quantiles on the log scale, and how far
/// offers are from being missed as often as they say.
fn objective(scored: &[Scored]) -> f64 {
    let summary = Summary::of(scored.iter());
    let stated: Vec<bool> = scored.iter().flat_map(Scored::stated).map(|stated| stated.happened).collect();
    let rate = stated.iter().filter(|happened| **happened).count() as f64 / stated.len().max(1) as f64;
    let off: f64 = summary.missed.iter().zip(GOALS).map(|(missed, goal)| (missed - goal).abs()).sum();
    summary.brier / (rate * (1.0 - rate)).max(1e-9) + summary.log_pinball_mean() + off
}

fn search(cases: &[&Case], progress: &ProgressBar) -> Constants {
    let mut best = Constants { degrees_of_freedom: FREEDOMS[0], ..Constants::DEFAULT };
    for tuned in &TUNED {
        *(tuned.at)(&mut best) = tuned.grid[0];
    }
    let mut least = objective(&score(&best, cases));
    let mut consider = |candidate: Constants, best: &mut Constants| {
        let now = objective(&score(&candidate, cases));
        // A hair less is noise of the last digits.
        if now < least - 1e-9 {
            (least, *best) = (now, candidate);
        }
        progress.inc(1);
    };
    for _ in 0..ROUNDS {
        for tuned in &TUNED {
            for value in tuned.grid {
                let mut candidate = best;
                *(tuned.at)(&mut candidate) = *value;
                consider(candidate, &mut best);
            }
        }
        for degrees_of_freedom in FREEDOMS {
            consider(Constants { degrees_of_freedom, ..best }, &mut best);
        }
    }
    best
}

fn named(constants: &Constants) -> Map<String, Value> {
    let mut constants = *constants;
    let mut named: Map<String, Value> =
        TUNED.iter().map(|tuned| (tuned.name.to_owned(), json!(*(tuned.at)(&mut constants)))).collect();
    named.insert("degrees_of_freedom".to_owned(), json!(constants.degrees_of_freedom));
    named
}

fn summary(scored: &[Scored]) -> Value {
    let summary = Summary::of(scored.iter());
    json!({
        "forecasts": scored.len(),
        "missed": by_goal(|goal| json!(summary.missed[goal])),
        "ece": summary.ece,
        "brier": summary.brier,
        "log_pinball": summary.log_pinball_mean(),
        "pinball": by_goal(|goal| json!(summary.pinball[goal])),
        "tightness": by_goal(|goal| json!(summary.tightness[goal])),
        "objective": objective(scored),
    })
}
