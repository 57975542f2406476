//! Time to evaluate one root: layered graphs of 54 components and 288 edges, and trees of 5,000 components.
#![allow(missing_docs, clippy::unwrap_used)]

use attain_reliability::{Component, EdgeEffect, EvaluationLimits, Structure, StructureBuilder, evaluate, propagate};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;

fn structure(count: u32, edges: impl Iterator<Item = (u32, u32)>, effect: EdgeEffect) -> Structure {
    let mut builder = StructureBuilder::new();
    for _ in 0..count {
        builder.add_component(0.001, false).unwrap();
    }
    for (caller, callee) in edges {
        builder.add_edge(Component(caller), Component(callee), effect).unwrap();
    }
    builder.build()
}

fn layered(effect: EdgeEffect) -> Structure {
    let edges = (0..48).flat_map(|caller| {
        let next = (caller / 6 + 1) * 6;
        (next..next + 6).map(move |callee| (caller, callee))
    });
    structure(54, edges, effect)
}

fn tree(effect: EdgeEffect) -> Structure {
    structure(5_000, (1..5_000).map(|node| ((node - 1) / 4, node)), effect)
}

fn benches(criterion: &mut Criterion) {
    let limits = EvaluationLimits::default();
    let cases = [
        ("layered 54/288 hard", layered(EdgeEffect::hard())),
        ("layered 54/288 partial", layered(EdgeEffect::partial(0.3))),
        (
            "layered 54/288 partial, retried",
            layered(EdgeEffect { retry_count: 2, persistent_share: 0.8, ..EdgeEffect::partial(0.3) }),
        ),
        (
            "tree 5000 partial, retried",
            tree(EdgeEffect { retry_count: 2, persistent_share: 0.8, ..EdgeEffect::partial(0.3) }),
        ),
        ("tree 5000 hard", tree(EdgeEffect::hard())),
        ("tree 5000 partial", tree(EdgeEffect::partial(0.3))),
    ];
    let mut group = criterion.benchmark_group("evaluate");
    group.sample_size(10);
    for (name, structure) in &cases {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| evaluate(black_box(structure), Component(0), &limits));
        });
    }
    let sampled = EvaluationLimits { bdd_nodes_max: 2, ..limits };
    group.bench_function("layered 54/288 partial, sampled", |bencher| {
        bencher.iter(|| evaluate(black_box(&cases[1].1), Component(0), &sampled));
    });
    group.finish();
    let (name, leaf) = ("propagate from a leaf, tree 5000 partial", Component(4_999));
    let tree = tree(EdgeEffect::partial(0.3));
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| propagate(black_box(&tree), leaf, limits.bdd_nodes_max));
    });
}

criterion_group!(evaluation, benches);
criterion_main!(evaluation);
