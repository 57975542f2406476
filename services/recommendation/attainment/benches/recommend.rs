//! One recommendation: 90 days of five-minute buckets, one dependency, eight counterfactuals; with and without latencies.
#![allow(missing_docs)]

#[path = "../tests/simulated/mod.rs"]
mod simulated;

use std::collections::BTreeMap;
use std::hint::black_box;

use attain_attainment::{CounterfactualStructure, Reach, RecommendationInput, ShareSeries, recommend};
use criterion::{Criterion, criterion_group, criterion_main};
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
    };
    input.counterfactuals = (0..counterfactuals).map(change).collect();
    input
}

fn benches(c: &mut Criterion) {
    for (name, latencies, counterfactuals) in [
        ("availability", false, 0),
        ("availability_8_counterfactuals", false, 8),
        ("availability_and_latency", true, 0),
    ] {
        let input = input(latencies, counterfactuals);
        c.bench_function(name, |b| b.iter(|| recommend(black_box(&input))));
    }
}

criterion_group!(recommendation, benches);
criterion_main!(recommendation);
