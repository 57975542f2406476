//! Experiments on simulated teams: how often arms that are alike are called different, at the horizon alone and by somebody who looks
//! every week, and how often arms that differ are.

use anyhow::ensure;
use attain_learning::{Side, UnitOutcome, difference};
use clap::Args;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _};
use serde_json::{Value, json};

/// Greatest p-value that counts as a difference, as in the product.
const P_VALUE_MAX: f64 = 0.05;
/// Weeks from the start to the horizon.
const WEEKS: usize = 12;
/// Decisions of a team in a week, and how alike those of one team are: its own share is a Beta variable worth so many decisions.
const A_WEEK: u32 = 2;
const ALIKE: f64 = 4.0;
/// Share of suggestions that the mean team accepts in the control.
const ACCEPTED: f64 = 0.5;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Teams of an experiment, 8 to 1,000; half of them get each arm.
    #[arg(long, default_value_t = 24)]
    teams: usize,
    /// Experiments of each kind, 10 to 100,000.
    #[arg(long, default_value_t = 300)]
    experiments: u32,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    ensure!((8..=1_000).contains(&options.teams), "--teams: {} is outside 8 to 1,000", options.teams);
    ensure!(
        (10..=100_000).contains(&options.experiments),
        "--experiments: {} is outside 10 to 100,000",
        options.experiments
    );
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut rows = Vec::new();
    for lift in [0.0, 0.1, 0.2, 0.3] {
        let mut found = Found::default();
        for _ in 0..options.experiments {
            found.add(&simulate(&mut random, options.teams, lift)?);
        }
        let share = |count: u32| f64::from(count) / f64::from(options.experiments);
        rows.push(json!({
            "lift": lift,
            "called_different_at_horizon": share(found.at_horizon),
            "called_different_by_weekly_looks": share(found.by_looking),
            "called_different_by_decisions_as_units": share(found.by_decisions),
            "interval_holds_lift": share(found.held),
        }));
    }
    Ok(json!({ "teams": options.teams, "weeks": WEEKS, "experiments": options.experiments, "lifts": rows }))
}

#[derive(Default)]
struct Found {
    at_horizon: u32,
    by_looking: u32,
    by_decisions: u32,
    held: u32,
}

/// What one experiment came to.
struct Seen {
    at_horizon: bool,
    by_looking: bool,
    by_decisions: bool,
    held: bool,
}

impl Found {
    fn add(&mut self, seen: &Seen) {
        self.at_horizon += u32::from(seen.at_horizon);
        self.by_looking += u32::from(seen.by_looking);
        self.by_decisions += u32::from(seen.by_decisions);
        self.held += u32::from(seen.held);
    }
}

/// Teams decide every week; the treatment lifts the share that each accepts.
fn simulate(random: &mut ChaCha8Rng, teams: usize, lift: f64) -> anyhow::Result<Seen> {
    let mut units = Vec::with_capacity(teams);
    for team in 0..teams {
        let side = if team % 2 == 0 { Side::Control } else { Side::Treatment };
        let mean = ACCEPTED + if side == Side::Treatment { lift } else { 0.0 };
        let share = Beta::new(mean * ALIKE, (1.0 - mean) * ALIKE)?.sample(random);
        units.push((share, UnitOutcome { side, numerator: 0.0, denominator: 0.0 }));
    }
    let mut by_looking = false;
    for week in 0..WEEKS {
        for (share, unit) in &mut units {
            let accepted = (0..A_WEEK).filter(|_| random.random_bool(*share)).count();
            unit.numerator += accepted as f64;
            unit.denominator += f64::from(A_WEEK);
        }
        let outcomes: Vec<UnitOutcome> = units.iter().map(|(_, unit)| *unit).collect();
        let Ok(compared) = difference(&outcomes, week as u64) else { continue };
        let different = compared.p_value <= P_VALUE_MAX;
        by_looking |= different;
        if week + 1 == WEEKS {
            let held = compared.interval.ends.is_some_and(|(low, high)| (low..=high).contains(&lift));
            let by_decisions = difference(&singly(&outcomes), 0).is_ok_and(|naive| naive.p_value <= P_VALUE_MAX);
            return Ok(Seen { at_horizon: different, by_looking, by_decisions, held });
        }
    }
    Ok(Seen { at_horizon: false, by_looking, by_decisions: false, held: false })
}

/// Each decision as a unit of its own, as if those of a team were not alike.
fn singly(outcomes: &[UnitOutcome]) -> Vec<UnitOutcome> {
    let of = |unit: &UnitOutcome| {
        let (side, accepted) = (unit.side, unit.numerator as usize);
        (0..unit.denominator as usize).map(move |i| UnitOutcome {
            side,
            numerator: f64::from(u8::from(i < accepted)),
            denominator: 1.0,
        })
    };
    outcomes.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_that_are_alike_are_seldom_called_different_and_others_often() {
        let told = run(&Options { seed: 3, teams: 24, experiments: 20 }).expect("in range");
        let of = |at: usize, name: &str| told["lifts"][at][name].as_f64().expect("a number");
        assert!(of(0, "called_different_at_horizon") < 0.3, "{told}");
        assert!(of(3, "called_different_at_horizon") > 0.5, "{told}");
        assert!(of(0, "called_different_by_weekly_looks") >= of(0, "called_different_at_horizon"));
        assert!(run(&Options { seed: 3, teams: 7, experiments: 20 }).is_err());
    }
}
