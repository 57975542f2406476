//! The domain at stated sizes: 5,000 services with 15,000 dependencies, and a layered graph of 54 services with 288.

#![allow(missing_docs)]

use std::hint::black_box;

use attain_graph::domain::availability::evaluate;
use attain_graph::domain::blast::{self, blast};
use attain_graph::domain::findings::findings;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Change, NamedRate, Scenario};
use attain_graph::domain::single_points::single_points;
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_graph::domain::walk::{Bounds, Heading, walk};
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DependencyMode, EntityId, EntityKind};
use criterion::{Criterion, criterion_group, criterion_main};

fn id(number: usize) -> EntityId {
    EntityId::new("id", &format!("service-{number:05}")).expect("well formed")
}

fn rows(count: usize, edges: &[(usize, usize)]) -> (Vec<Node>, Vec<Dependency>) {
    let node =
        |number| Node { id: id(number), kind: EntityKind::Service, published_availability_ratio: None, traced: true };
    let terms = |number: usize| {
        let mode = if number.is_multiple_of(5) { DependencyMode::Soft } else { DependencyMode::Hard };
        Terms { call_fraction: Some(0.1 + 0.1 * (number % 10) as f64), declared: true, ..Terms::of_mode(mode) }
    };
    let edge = |(number, &(caller, callee)): (usize, &(usize, usize))| Dependency {
        caller: id(caller),
        callee: id(callee),
        terms: terms(number),
    };
    ((0..count).map(node).collect(), edges.iter().enumerate().map(edge).collect())
}

/// Callees are drawn from lower quarters more often, so that some become hubs; no two runs differ.
fn fleet() -> (Vec<Node>, Vec<Dependency>) {
    let mut state = 20_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut edges = Vec::new();
    while edges.len() < 15_000 {
        let caller = draw(5_000);
        let bound = 5_000 - caller;
        let callee = caller + draw(bound).max(draw(bound)).max(draw(bound));
        if callee > caller && !edges.contains(&(caller, callee)) {
            edges.push((caller, callee));
        }
    }
    rows(5_000, &edges)
}

/// Nine layers of six; every service needs all of the next layer: 8 · 36 = 288 edges.
fn layered() -> (Vec<Node>, Vec<Dependency>) {
    let below =
        |layer: usize| (0..6).flat_map(move |from| (0..6).map(move |to| (layer * 6 + from, layer * 6 + 6 + to)));
    rows(54, &(0..8).flat_map(below).collect::<Vec<_>>())
}

fn at_fleet_size(criterion: &mut Criterion) {
    let (nodes, edges) = fleet();
    let snapshot = Snapshot::build(nodes.clone(), edges.clone());
    let everyone = 0..snapshot.nodes().len() as NodeIndex;
    let hub = everyone.clone().max_by_key(|&node| snapshot.all().callers(node).len()).expect("not empty");
    let top = everyone.max_by_key(|&node| snapshot.chains().depth(node)).expect("not empty");
    let walks = Bounds { nodes_max: 5_000, edges_max: 50_000 };
    let blasts = blast::Bounds { hits_max: 5_000, path_nodes_max: 200_000, bdd_nodes_max: 200_000 };

    let mut group = criterion.benchmark_group("5000 services, 15000 dependencies");
    group.sample_size(10);
    group.bench_function("build", |bencher| {
        bencher.iter_with_setup(|| (nodes.clone(), edges.clone()), |(nodes, edges)| Snapshot::build(nodes, edges));
    });
    group.bench_function("walk to depth 3", |bencher| {
        bencher.iter(|| walk(&snapshot, black_box(top), Heading::Both, Some(3), walks));
    });
    group.bench_function("blast of the biggest hub", |bencher| {
        bencher.iter(|| blast(&snapshot, black_box(hub), blasts));
    });
    group.bench_function("single points of the deepest", |bencher| {
        bencher.iter(|| single_points(snapshot.needs(), black_box(top), 20_000_000));
    });
    group.bench_function("findings of the deepest", |bencher| {
        bencher.iter(|| findings(&snapshot, black_box(top), 200));
    });
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    let (nodes, edges) = layered();
    let snapshot = Snapshot::build(nodes, edges);
    let rate = Rate { failure_ratio: 0.001, includes_dependencies: false };
    let rates: Vec<NamedRate> =
        snapshot.nodes().iter().map(|node| NamedRate { entity_id: node.id.to_string(), rate }).collect();
    let change = Change::Attained { entity_id: snapshot.id(53).to_string(), availability_ratio: 0.9 };
    let limits = EvaluationLimits { bdd_nodes_max: 200_000, samples: 65_536, seed: 1 };

    let mut group = criterion.benchmark_group("54 services in 9 layers, 288 dependencies");
    group.sample_size(10);
    for (name, changes) in [("one service", vec![]), ("one service before and after", vec![change])] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let scenario = Scenario::resolve(&snapshot, &rates, &changes).expect("every name is known");
                evaluate(&scenario, black_box(&[0]), &limits, &|| false)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, at_fleet_size, layers);
criterion_main!(benches);
