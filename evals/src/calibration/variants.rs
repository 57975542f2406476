//! What else was tried, scored like the predictor itself: each differs from it in one thing.

use attain_attainment::calibration::{AdaptiveLevel, Isotonic, Layer, Stated};
use attain_attainment::{ClassPrior, Constants, Peer};

use super::methods::{self, Predictive};
use super::report::{Backtest, GOALS, Scored};
use super::series::{Case, Past, Series};

/// Share of the upper tail that a generalised Pareto law replaces, and its shapes.
const TAIL: f64 = 0.1;

/// Every variant by name.
pub(super) fn backtests(series: &[Series], cases: &[Vec<Case>], own: &Backtest) -> Vec<(&'static str, Backtest)> {
    let default = Constants::DEFAULT;
    let law = |past: &Past| methods::drifting_level(&Constants::DEFAULT, past);
    let with = |weight: f64| {
        move |past: &Past| Predictive::Mixture(weight, Box::new(law(past)), Box::new(methods::iid_bootstrap(past)))
    };
    let tail = |shape: f64| move |past: &Past| methods::with_pareto_tail(law(past), TAIL, shape);
    let freedom = |degrees_of_freedom: u32| {
        move |past: &Past| methods::drifting_level(&Constants { degrees_of_freedom, ..default }, past)
    };
    let joined =
        |hours: f64| move |past: &Past| methods::drifting_level(&Constants::DEFAULT, &past.joined(hours / 24.0));
    let drift = |drift: f64| move |past: &Past| methods::drifting_level(&Constants { drift, ..default }, past);
    let lower =
        |lower_stretch: f64| move |past: &Past| methods::drifting_level(&Constants { lower_stretch, ..default }, past);
    let run = |method: &dyn Fn(&Past) -> Predictive| super::backtest(cases, method);
    vec![
        ("iid_bootstrap_a_quarter", run(&with(0.75))),
        ("iid_bootstrap_a_half", run(&with(0.5))),
        ("pareto_tail_0.25", run(&tail(0.25))),
        ("pareto_tail_0.5", run(&tail(0.5))),
        ("student_4", run(&freedom(4))),
        ("student_60", run(&freedom(60))),
        ("joined_within_1_hour", run(&joined(1.0))),
        ("joined_within_24_hours", run(&joined(24.0))),
        ("drift_of_0.1", run(&drift(0.1))),
        ("drift_of_0.2", run(&drift(0.2))),
        ("no_drift", run(&drift(1e-3))),
        ("as_wide_below_as_above", run(&lower(1.0))),
        ("half_as_wide_again_below", run(&lower(1.5))),
        (
            "drift_as_a_random_walk",
            run(&|past| methods::drifting_level(&Constants { drift_growth: 1.0, ..default }, past)),
        ),
        (
            "drift_whatever_the_window",
            run(&|past| methods::drifting_level(&Constants { drift_growth: 0.0, ..default }, past)),
        ),
        (
            "prior_of_10_days",
            run(&|past| methods::drifting_level(&Constants { prior_exposure_days: 10.0, ..default }, past)),
        ),
        ("sizes_believed_soon", run(&|past| methods::drifting_level(&soon_believed(), past))),
        ("class_of_the_others", of_class(series, cases, |_, _| true)),
        ("class_of_like_names", of_class(series, cases, |a, b| ending(a) == ending(b))),
        ("adaptive_0.005", adaptive(cases, 0.005)),
        ("adaptive_0.02", adaptive(cases, 0.02)),
        ("isotonic_where_earned", isotonic(cases, own, |others| Map::Earned(Layer::learn(others)))),
        ("isotonic_always", isotonic(cases, own, |others| Map::Always(Isotonic::fit(&others.concat(), 0.0)))),
    ]
}

/// The constants before short histories were looked at: a few incidents told the mean and the spread of sizes.
fn soon_believed() -> Constants {
    Constants {
        recent_size_weight: 1.0,
        prior_size_weight: 0.5,
        prior_size_variation: 2.0,
        prior_size_variation_weight: 2.0,
        degrees_of_freedom: 12,
        ..Constants::DEFAULT
    }
}

/// What a name says of its source: its last two words (`user_reported`, `online_game`).
fn ending(name: &str) -> &str {
    name.rmatch_indices('_').nth(1).map_or(name, |(at, _)| &name[at..])
}

/// The constants of each series blended with what the other series of its class are like.
fn of_class(series: &[Series], cases: &[Vec<Case>], alike: impl Fn(&str, &str) -> bool) -> Backtest {
    let peers: Vec<Peer> = series.iter().map(peer).collect();
    let mut backtest = Vec::with_capacity(cases.len());
    for (own, cases) in cases.iter().enumerate() {
        let is_peer = |other: usize| other != own && alike(&series[own].name, &series[other].name);
        let others: Vec<Peer> =
            (0..peers.len()).filter(|other| is_peer(*other)).map(|other| peers[other].clone()).collect();
        let window_days = cases.first().map_or(30.0, |case| case.past.window_days);
        let constants = ClassPrior::learn(&others, window_days).constants();
        let scored = |case: &Case| Scored::of(&methods::drifting_level(&constants, &case.past), case);
        backtest.push(cases.iter().map(scored).collect());
    }
    backtest
}

/// The whole of a series as another one may know it.
fn peer(series: &Series) -> Peer {
    let last = series.incidents.last().map_or(0.0, |incident| incident.start_days);
    Peer {
        ages_days: series.incidents.iter().map(|incident| last - incident.start_days).collect(),
        amounts: series.incidents.iter().map(|incident| incident.amount_days).collect(),
        observed_days: last,
    }
}

/// The level asked for follows the misses of the series so far.
fn adaptive(cases: &[Vec<Case>], step: f64) -> Backtest {
    let of_series = |cases: &Vec<Case>| {
        let mut levels = GOALS.map(|goal| AdaptiveLevel::new(goal, step));
        let mut scored = Vec::with_capacity(cases.len());
        for case in cases {
            let predictive = methods::drifting_level(&Constants::DEFAULT, &case.past);
            let mut one = Scored::of(&predictive, case);
            for (quantile, level) in one.quantiles.iter_mut().zip(&mut levels) {
                *quantile = predictive.quantile(1.0 - level.level());
                level.observe(case.outcome > *quantile);
            }
            scored.push(one);
        }
        scored
    };
    cases.iter().map(of_series).collect()
}

enum Map {
    Earned(Layer),
    Always(Isotonic),
}

impl Map {
    fn probability(&self, stated: f64) -> f64 {
        match self {
            Self::Earned(layer) => layer.probability(stated),
            Self::Always(isotonic) => isotonic.probability(stated),
        }
    }

    fn stated(&self, probability: f64) -> f64 {
        match self {
            Self::Earned(layer) => layer.stated(probability),
            Self::Always(isotonic) => isotonic.stated(probability),
        }
    }
}

/// Probabilities mended by a map that is fitted to the other series.
fn isotonic(cases: &[Vec<Case>], own: &Backtest, fit: impl Fn(&[Vec<Stated>]) -> Map) -> Backtest {
    let stated: Vec<Vec<Stated>> = own.iter().map(|scored| scored.iter().flat_map(Scored::stated).collect()).collect();
    let of_series = |(index, cases): (usize, &Vec<Case>)| {
        let others: Vec<Vec<Stated>> =
            stated.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, stated)| stated.clone()).collect();
        let map = fit(&others);
        let mend = |case: &Case| {
            let predictive = methods::drifting_level(&Constants::DEFAULT, &case.past);
            let plain = Scored::of(&predictive, case);
            Scored {
                quantiles: GOALS.map(|goal| predictive.quantile(1.0 - map.stated(goal))),
                exceed: plain.exceed.map(|probability| map.probability(probability)),
                pit: (1.0 - map.probability(1.0 - plain.pit.0), 1.0 - map.probability(1.0 - plain.pit.1)),
                ..plain
            }
        };
        cases.iter().map(mend).collect()
    };
    cases.iter().enumerate().map(of_series).collect()
}
