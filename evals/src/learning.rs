//! Learning of ambition against simulated teams whose taste is known: what it costs to find the offer that they take, and whether
//! off-policy estimates tell what another policy would have got.
//!
//! A team has a favourite of the three offers, and takes each as it is with a probability of its own. What it does not take it
//! edits towards its favourite, takes the favourite instead, or rejects. Nothing of that is known to what is scored.

use anyhow::ensure;
use attain_attainment::Ambition;
use attain_learning::{Cell, Direction, Evidence, Observed, Outcome, Policy, Shown, State, suggest};
use attain_vocabulary::{DAY_MS, EntityKind, SliKind, Tier};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::scores;

const CELL: Cell = Cell { tier: Tier::Two, kind: EntityKind::Service, sli: SliKind::Availability };
/// How what is not taken is told: the rest is rejected.
const EDITS: f64 = 0.5;
const TAKES_FAVOURITE: f64 = 0.2;
/// A rejected suggestion is also called too strict or too loose this often.
const SAYS_WHY: f64 = 0.3;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated teams, 10 to 10,000.
    #[arg(long, default_value_t = 200)]
    teams: u32,
    /// Decisions of each, 20 to 10,000; one every two days.
    #[arg(long, default_value_t = 200)]
    decisions: u32,
}

/// Probability to take each offer as it is.
#[derive(Debug, Clone, Copy)]
struct Taste([f64; 3]);

impl Taste {
    fn drawn(random: &mut ChaCha8Rng) -> Self {
        let favourite = random.random_range(0..3);
        let likes = random.random_range(0.6..0.95);
        Self([0, 1, 2].map(|i| if i == favourite { likes } else { likes * random.random_range(0.1..0.8) }))
    }

    fn favourite(self) -> usize {
        (0..3).max_by(|a, b| self.0[*a].total_cmp(&self.0[*b])).unwrap_or(1)
    }
}

/// What one team's history came to.
#[derive(Debug, Default, Clone, Copy)]
struct Run {
    /// Loss a decision against always suggesting the favourite: in probability of being taken.
    regret: f64,
    /// The same in the last quarter.
    regret_late: f64,
    /// Share of suggestions in the last quarter that were the favourite.
    favourite_late: f64,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((10..=10_000).contains(&options.teams), "--teams: {} is outside 10 to 10,000", options.teams);
    ensure!((20..=10_000).contains(&options.decisions), "--decisions: {} is outside 20 to 10,000", options.decisions);
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut runs = Vec::new();
    let mut changed = Vec::new();
    let mut fixed = [const { Vec::new() }; 3];
    let mut even = Vec::new();
    let mut off_policy = OffPolicy::default();
    for _ in 0..options.teams {
        let taste = Taste::drawn(&mut random);
        let best = taste.0[taste.favourite()];
        let (run, state) = simulate(&mut random, options.decisions, |_| taste);
        runs.push(run);
        off_policy.score(&state, taste);
        for (regrets, taken) in fixed.iter_mut().zip(taste.0) {
            regrets.push(best - taken);
        }
        even.push(best - taste.0.iter().sum::<f64>() / 3.0);
        let later = Taste::drawn(&mut random);
        let half = options.decisions / 2;
        changed.push(simulate(&mut random, options.decisions, |n| if n < half { taste } else { later }).0);
    }
    let fixed = fixed.map(|regrets| mean(regrets.iter().copied()));
    // The best that one ambition for every team would have done.
    let best_fixed = fixed.into_iter().fold(f64::INFINITY, f64::min);
    let learned = mean(runs.iter().map(|run| run.regret));
    let late = mean(runs.iter().map(|run| run.regret_late));
    let (estimates, coverage) = off_policy.report();
    Ok(json!({
        "seed": options.seed,
        "teams": options.teams,
        "decisions": options.decisions,
        "regret": {
            "learned": learned,
            "learned_last_quarter": late,
            "always_conservative": fixed[0],
            "always_balanced": fixed[1],
            "always_ambitious": fixed[2],
            "evenly_at_random": mean(even.iter().copied()),
        },
        "favourite_suggested_last_quarter": mean(runs.iter().map(|run| run.favourite_late)),
        "taste_that_changed_half_way": {
            "regret": mean(changed.iter().map(|run| run.regret)),
            "regret_last_quarter": mean(changed.iter().map(|run| run.regret_late)),
            "favourite_suggested_last_quarter": mean(changed.iter().map(|run| run.favourite_late)),
        },
        "off_policy": estimates,
        "objective": "regret below half of the best fixed ambition's, the last quarter's below a quarter of it, and 95 % intervals of \
                      the doubly robust estimate that hold the truth in at least 90 %",
        "objective_met": learned < best_fixed / 2.0 && late < best_fixed / 4.0 && coverage >= 0.90,
    }))
}

fn simulate(random: &mut ChaCha8Rng, decisions: u32, taste: impl Fn(u32) -> Taste) -> (Run, State) {
    let mut state = State::default();
    let mut run = Run::default();
    let late = decisions - decisions / 4;
    let mut sequence = 0;
    for n in 0..decisions {
        let taste = taste(n);
        let time_ms = i64::from(n) * 2 * DAY_MS;
        let arms = state.arms(CELL, time_ms);
        let suggestion = suggest(&arms, &Ambition::ALL, true, random.random()).expect("three offers");
        let place = Ambition::ALL.iter().position(|ambition| *ambition == suggestion.ambition).expect("one of them");
        let loss = taste.0[taste.favourite()] - taste.0[place];
        run.regret += loss / f64::from(decisions);
        if n >= late {
            run.regret_late += loss / f64::from(decisions - late);
            run.favourite_late += f64::from(place == taste.favourite()) / f64::from(decisions - late);
        }
        let shown = Shown {
            suggested: suggestion.ambition,
            propensities: [0, 1, 2].map(|i| Some(suggestion.views[i].propensity)),
        };
        for observed in answer(random, taste, shown, place) {
            sequence += 1;
            state.learn(&Evidence { sequence, time_ms, cell: CELL, observed });
        }
    }
    (run, state)
}

/// What the team does with the suggestion at `place`.
fn answer(random: &mut ChaCha8Rng, taste: Taste, shown: Shown, place: usize) -> Vec<Observed> {
    let favourite = taste.favourite();
    let wanted = Ambition::ALL[favourite];
    if random.random_bool(taste.0[place]) {
        return vec![Observed::Decision(shown, Outcome::Accepted(shown.suggested))];
    }
    let how: f64 = random.random();
    if how < EDITS {
        return vec![Observed::Decision(shown, Outcome::Edited(wanted))];
    }
    if how < EDITS + TAKES_FAVOURITE && favourite != place {
        return vec![Observed::Decision(shown, Outcome::Accepted(wanted))];
    }
    let mut observed = vec![Observed::Decision(shown, Outcome::Rejected)];
    if favourite != place && random.random_bool(SAYS_WHY) {
        let direction = if favourite < place { Direction::TooStrict } else { Direction::TooLoose };
        observed.push(Observed::Feedback(shown, direction));
    }
    observed
}

/// Estimates of what each fixed ambition would have got, held against what it would have.
#[derive(Debug, Default)]
struct OffPolicy {
    /// Error and whether the interval holds the truth: by inverse propensity, self-normalised, doubly robust.
    scored: [Vec<(f64, bool)>; 3],
}

impl OffPolicy {
    fn score(&mut self, state: &State, taste: Taste) {
        for estimate in state.policies() {
            let truth = match estimate.policy {
                Policy::AlwaysConservative => taste.0[0],
                Policy::AlwaysBalanced => taste.0[1],
                Policy::AlwaysAmbitious => taste.0[2],
                Policy::BestSoFar => continue,
            };
            let of_method = [estimate.ips, estimate.snips, estimate.doubly_robust];
            for (scored, estimate) in self.scored.iter_mut().zip(of_method) {
                // An estimate that cannot be given is one that says nothing: its interval is all of [0, 1].
                let error = estimate.map_or(0.5 - truth, |estimate| estimate.ratio - truth);
                let holds = estimate.is_none_or(|estimate| (estimate.low..=estimate.high).contains(&truth));
                scored.push((error, holds));
            }
        }
    }

    /// The report, and how often the doubly robust interval holds the truth.
    fn report(&self) -> (Value, f64) {
        let of = |scored: &[(f64, bool)]| {
            let coverage = mean(scored.iter().map(|(_, holds)| f64::from(*holds)));
            let report = json!({
                "bias": mean(scored.iter().map(|(error, _)| *error)),
                "rmse": mean(scored.iter().map(|(error, _)| error * error)).sqrt(),
                "interval_coverage": coverage,
                "estimates": scored.len(),
            });
            (report, coverage)
        };
        let [ips, snips, robust] = [0, 1, 2].map(|method| of(&self.scored[method]));
        (json!({"ips": ips.0, "snips": snips.0, "doubly_robust": robust.0}), robust.1)
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    scores::mean(&values.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_report_and_another_one_does_not() {
        let report = |seed| run(&Options { seed, teams: 10, decisions: 40 }).expect("in range");
        assert_eq!(report(3), report(3));
        assert_ne!(report(3)["regret"], report(4)["regret"]);
        assert!(run(&Options { seed: 1, teams: 9, decisions: 40 }).is_err());
    }
}
