//! One recommendation: 90 days of five-minute buckets, one dependency, eight counterfactuals; with and without latencies. In
//! processor time, not by the clock.
#![allow(missing_docs)]

mod processor_time;
#[path = "../tests/simulated/mod.rs"]
mod simulated;

use std::collections::BTreeMap;
use std::hint::black_box;

use attain_attainment::{
    CountPoint, CountSeries, CounterfactualStructure, Reach, RecommendationInput, ShareSeries, backtest, predict,
    recommend,
};
use criterion::{Criterion, criterion_group, criterion_main};
use processor_time::ProcessorTime;
use simulated::{World, id};

fn input(latencies: bool, counterfactuals: usize) -> RecommendationInput {
    let mut world = World::checkout(90);
    world.latencies = latencies;
    let mut input = world.input();
    let change = |i: usize| CounterfactualStructure {
        key: format!("change-{i}"),
        description: "a fallback".into(),
        ceiling_after_ratio: None,
        caller: id("payment-service"),
        callee: id("external-payment-api"),
        saved_ratio: 0.9,
        reach: Reach::Through {
            dependency: id("payment-service"),
            share: ShareSeries { otherwise: (i + 1) as f64 / 10.0, by_bucket: BTreeMap::new() },
        },
        other_reaches: Vec::new(),
    };
    input.counterfactuals = (0..counterfactuals).map(change).collect();
    input
}

fn benches(c: &mut Criterion<ProcessorTime>) {
    for (name, latencies, counterfactuals) in [
        ("availability", false, 0),
        ("availability_8_counterfactuals", false, 8),
        ("availability_and_latency", true, 0),
        ("availability_and_latency_8_counterfactuals", true, 8),
    ] {
        let input = input(latencies, counterfactuals);
        c.bench_function(name, |b| b.iter(|| recommend(black_box(&input))));
    }
}

/// The back-test by itself, beside one prediction from the whole history.
fn backtests(c: &mut Criterion<ProcessorTime>) {
    let input = input(false, 0);
    let point = |bucket: &attain_vocabulary::SliBucket| CountPoint {
        start_ms: bucket.start_ms,
        valid: bucket.counts.valid() as f64,
        bad: bucket.counts.bad() as f64,
    };
    let series = CountSeries::new(input.history.buckets.iter().map(point).collect());
    c.bench_function("prediction", |b| b.iter(|| predict(black_box(&series), 28.0, input.as_of_ms)));
    for window_days in [7.0, 28.0] {
        let name = format!("backtest_{window_days}_days");
        c.bench_function(&name, |b| {
            b.iter(|| backtest(black_box(&series), window_days, input.as_of_ms, &input.policy))
        });
    }
}

criterion_group! {
    name = recommendation;
    config = Criterion::default().with_measurement(ProcessorTime);
    targets = benches, backtests
}
criterion_main!(recommendation);
