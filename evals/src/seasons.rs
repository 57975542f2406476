//! Whether failures that follow the clock or the calendar mislead the predictor: simulated services whose truth is known.
//!
//! Each service has 90 days of five-minute counts, is predicted, and is scored on the 28 days that follow. Services of every shape have the
//! same kind of levels and incidents; only when requests come and when they fail differs. The seed decides everything.

use attain_attainment::{CountPoint, CountSeries, predict};
use attain_vocabulary::BUCKET_MS;
use clap::Args;
use indicatif::ProgressBar;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, Exp, LogNormal};
use serde_json::{Map, Value, json};

use crate::scores;

const PER_DAY: usize = 288;
const HISTORY_DAYS: usize = 90;
const WINDOW_DAYS: usize = 28;
const GOALS: [f64; 3] = [0.02, 0.10, 0.25];
/// Requests in five minutes, in the mean.
const VALID: f64 = 500.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Decides everything random.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Services of each shape.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    services: u32,
}

/// When requests come and when they fail, relative to the mean, at a bucket of the week that begins on a Monday.
struct Shape {
    name: &'static str,
    traffic: fn(usize) -> f64,
    failure: fn(usize) -> f64,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "steady", traffic: |_| 1.0, failure: |_| 1.0 },
    Shape { name: "traffic_by_day_and_week", traffic: load, failure: |_| 1.0 },
    Shape { name: "failures_by_load", traffic: load, failure: |bucket| load(bucket) * load(bucket) },
    Shape { name: "failures_at_night", traffic: load, failure: |bucket| if load(bucket) < 0.4 { 5.0 } else { 0.5 } },
    Shape {
        name: "monday_job",
        traffic: load,
        failure: |bucket| if (108..132).contains(&bucket) { 30.0 } else { 1.0 },
    },
];

/// Busy at noon, a fifth at midnight, half as much at weekends.
fn load(bucket: usize) -> f64 {
    let hour = (bucket % PER_DAY) as f64 / PER_DAY as f64;
    let day = 1.0 - 0.66 * (std::f64::consts::TAU * hour).cos();
    day * if bucket / PER_DAY >= 5 { 0.58 } else { 1.17 }
}

/// What one service's forecast said and what came.
struct Outcome {
    bad: f64,
    quantiles: [f64; 3],
    episodes: usize,
    incidents: usize,
}

/// Simulates and scores every shape.
pub(crate) fn run(options: &Options) -> anyhow::Result<Value> {
    let progress = ProgressBar::new(u64::from(options.services) * SHAPES.len() as u64);
    let mut shapes = Map::new();
    for shape in &SHAPES {
        let outcomes: anyhow::Result<Vec<Outcome>> = (0..options.services)
            .map(|service| {
                progress.inc(1);
                outcome(shape, options.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(service)))
            })
            .collect();
        shapes.insert(shape.name.to_owned(), report(&outcomes?));
    }
    progress.finish_and_clear();
    Ok(json!({
        "seed": options.seed,
        "services": options.services,
        "history_days": HISTORY_DAYS,
        "window_days": WINDOW_DAYS,
        "shapes": shapes,
    }))
}

fn outcome(shape: &Shape, seed: u64) -> anyhow::Result<Outcome> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let days = HISTORY_DAYS + WINDOW_DAYS;
    // Levels and rates differ between services; incidents last two hours and fail 30 % in the median.
    let level = LogNormal::new((2e-4f64).ln(), 1.0)?.sample(&mut random);
    let rate_per_day = LogNormal::new((0.07f64).ln(), 0.8)?.sample(&mut random);
    let mut severity = vec![0.0f64; days * PER_DAY];
    let (gap, length, hurt) =
        (Exp::new(rate_per_day)?, LogNormal::new((24f64).ln(), 0.8)?, LogNormal::new((0.3f64).ln(), 0.7)?);
    let (mut at, mut incidents) = (gap.sample(&mut random), 0);
    while at < days as f64 {
        let first = (at * PER_DAY as f64) as usize;
        let end = (first + length.sample(&mut random).ceil() as usize).min(severity.len());
        let share = hurt.sample(&mut random).min(1.0);
        severity[first..end].iter_mut().for_each(|severity| *severity = severity.max(share));
        incidents += usize::from(first < HISTORY_DAYS * PER_DAY);
        at += gap.sample(&mut random);
    }
    let mut points = Vec::with_capacity(severity.len());
    for (i, severity) in severity.iter().enumerate() {
        let bucket = i % (7 * PER_DAY);
        let valid = (VALID * (shape.traffic)(bucket)).round().max(1.0);
        let ratio = (level * (shape.failure)(bucket) + severity).min(1.0);
        let bad = Binomial::new(valid as u64, ratio)?.sample(&mut random) as f64;
        points.push(CountPoint { start_ms: i as i64 * BUCKET_MS, valid, bad });
    }
    let next = CountSeries::new(points.split_off(HISTORY_DAYS * PER_DAY));
    let now_ms = (HISTORY_DAYS * PER_DAY) as i64 * BUCKET_MS;
    let prediction = predict(&CountSeries::new(points), WINDOW_DAYS as f64, now_ms);
    let prediction = prediction.ok_or_else(|| anyhow::anyhow!("a service without requests"))?;
    Ok(Outcome {
        bad: next.bad() / next.valid(),
        quantiles: GOALS.map(|goal| prediction.forecast.quantile(1.0 - goal)),
        episodes: prediction.episodes.len(),
        incidents,
    })
}

fn report(outcomes: &[Outcome]) -> Value {
    let mean = |value: &dyn Fn(&Outcome) -> f64| scores::mean(&outcomes.iter().map(value).collect::<Vec<_>>());
    let by_goal = |value: &dyn Fn(&Outcome, usize) -> f64| -> Map<String, Value> {
        let of = |(goal, name): (usize, &f64)| (format!("{name:.2}"), json!(mean(&|outcome| value(outcome, goal))));
        GOALS.iter().enumerate().map(of).collect()
    };
    let observed = mean(&|outcome| outcome.bad);
    json!({
        "missed": by_goal(&|outcome, goal| f64::from(u8::from(outcome.bad > outcome.quantiles[goal]))),
        "tightness": by_goal(&|outcome, goal| outcome.quantiles[goal] / observed.max(1e-12)),
        "log_pinball": by_goal(&|outcome, goal| {
            let scale = |share: f64| (share + 1e-4).ln();
            scores::pinball(scale(outcome.bad), scale(outcome.quantiles[goal]), 1.0 - GOALS[goal])
        }),
        "episodes_found": mean(&|outcome| outcome.episodes as f64),
        "incidents_in_history": mean(&|outcome| outcome.incidents as f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_a_mean_of_about_one() {
        for shape in &SHAPES {
            let week = 7 * PER_DAY;
            let traffic = (0..week).map(shape.traffic).sum::<f64>() / week as f64;
            assert!((0.95..1.05).contains(&traffic), "{} {traffic}", shape.name);
        }
    }

    #[test]
    fn a_seed_gives_the_same_again_and_another_does_not() {
        let run = |seed| outcome(&SHAPES[2], seed).map(|outcome| (outcome.bad, outcome.quantiles)).expect("simulates");
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
