//! The domain at stated sizes: 54 services in layers with 288 dependencies, 5,000 services with 15,000 and hubs among them,
//! and 100,000 with 500,000.

#![allow(missing_docs)]

use std::collections::HashSet;
use std::hint::black_box;

use attain_graph::domain::availability::evaluate;
use attain_graph::domain::betweenness::betweenness;
use attain_graph::domain::blast::{self, blast};
use attain_graph::domain::cuts::cut;
use attain_graph::domain::cycles::strongly_connected;
use attain_graph::domain::findings::findings;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Change, NamedRate, Scenario};
use attain_graph::domain::single_points::single_points;
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_graph::domain::update::Told;
use attain_graph::domain::walk::{Bounds, Heading, walk};
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DependencyMode, EntityId, EntityKind};
use criterion::{Criterion, criterion_group, criterion_main};

fn id(number: usize) -> EntityId {
    EntityId::new("id", &format!("service-{number:05}")).expect("well formed")
}

fn rows(count: usize, edges: &[(usize, usize)]) -> (Vec<Node>, Vec<Dependency>) {
    let node = |number| Node {
        id: id(number),
        kind: EntityKind::Service,
        tier: None,
        region: None,
        published_availability_ratio: None,
        traced: true,
    };
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

/// Edges lead to greater numbers and callees are drawn towards the end, so that some become hubs; no two runs differ.
fn drawn(count: usize, edge_count: usize) -> (Vec<Node>, Vec<Dependency>) {
    let mut state = 20_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    let mut seen = HashSet::new();
    let mut edges = Vec::new();
    while edges.len() < edge_count {
        let caller = draw(count);
        let bound = count - caller;
        let callee = caller + draw(bound).max(draw(bound)).max(draw(bound));
        if callee > caller && seen.insert((caller, callee)) {
            edges.push((caller, callee));
        }
    }
    rows(count, &edges)
}

/// Nine layers of six; every service needs all of the next layer: 8 · 36 = 288 edges.
fn layered() -> (Vec<Node>, Vec<Dependency>) {
    let below =
        |layer: usize| (0..6).flat_map(move |from| (0..6).map(move |to| (layer * 6 + from, layer * 6 + 6 + to)));
    rows(54, &(0..8).flat_map(below).collect::<Vec<_>>())
}

const WALKS: Bounds = Bounds { nodes_max: 5_000, edges_max: 50_000 };
const BLASTS: blast::Bounds = blast::Bounds { hits_max: 5_000, path_nodes_max: 200_000, bdd_nodes_max: 200_000 };

fn hub(snapshot: &Snapshot) -> NodeIndex {
    let everyone = 0..snapshot.nodes().len() as NodeIndex;
    everyone.max_by_key(|&node| snapshot.all().callers(node).len()).expect("not empty")
}

fn deepest(snapshot: &Snapshot) -> NodeIndex {
    let everyone = 0..snapshot.nodes().len() as NodeIndex;
    everyone.max_by_key(|&node| snapshot.chains().depth(node)).expect("not empty")
}

/// All that is said of a caller, with other terms.
fn told(snapshot: &Snapshot, caller: NodeIndex, change: impl Fn(&mut Terms)) -> Told {
    let outgoing = snapshot.all().out_edges(caller).iter().map(|&edge| {
        let edge = snapshot.edge(edge);
        let mut terms = Terms::clone(&edge.terms);
        change(&mut terms);
        (snapshot.id(edge.callee).clone(), terms)
    });
    let node = Some(snapshot.nodes()[caller as usize].clone());
    Told { id: snapshot.id(caller).clone(), node, outgoing: outgoing.collect() }
}

fn at_fleet_size(criterion: &mut Criterion) {
    let (nodes, edges) = drawn(5_000, 15_000);
    let snapshot = Snapshot::build(nodes.clone(), edges.clone());
    let (hub, top) = (hub(&snapshot), deepest(&snapshot));

    let mut group = criterion.benchmark_group("5000 services, 15000 dependencies");
    group.sample_size(10);
    group.bench_function("build", |bencher| {
        bencher.iter_with_setup(|| (nodes.clone(), edges.clone()), |(nodes, edges)| Snapshot::build(nodes, edges));
    });
    let callers = snapshot.edges().chunk_by(|a, b| a.caller == b.caller);
    let callers: Vec<NodeIndex> = callers.filter(|edges| edges.len() == 3).map(|edges| edges[0].caller).collect();
    let middle = callers[callers.len() / 2];
    let updates = [
        ("update: counts of one caller", told(&snapshot, middle, |terms| terms.observed_call_count += 1)),
        ("update: call rates of one caller", told(&snapshot, middle, |terms| terms.call_fraction = Some(0.123))),
        ("update: one edge of a caller less", {
            let mut told = told(&snapshot, middle, |_| ());
            told.outgoing.pop();
            told
        }),
        (
            "update: a node more",
            Told { id: id(5_000), node: None, outgoing: vec![(id(1), Terms::of_mode(DependencyMode::Hard))] },
        ),
    ];
    for (name, told) in updates {
        group.bench_function(name, |bencher| {
            bencher.iter_with_setup(|| vec![told.clone()], |told| black_box(&snapshot).updated(told));
        });
    }
    group.bench_function("walk to depth 3", |bencher| {
        bencher.iter(|| walk(&snapshot, black_box(top), Heading::Both, Some(3), WALKS));
    });
    group.bench_function("blast of the biggest hub", |bencher| {
        bencher.iter(|| blast(&snapshot, black_box(hub), BLASTS));
    });
    group.bench_function("single points of the deepest", |bencher| {
        bencher.iter(|| single_points(snapshot.needs(), black_box(top), 20_000_000));
    });
    group.bench_function("findings of the deepest", |bencher| {
        bencher.iter(|| findings(&snapshot, black_box(top), 200));
    });
    group.bench_function("betweenness of all", |bencher| {
        bencher.iter(|| betweenness(black_box(snapshot.request_path()), &|| false));
    });
    let rate = Rate { failure_ratio: 0.001, includes_dependencies: false };
    let rates: Vec<NamedRate> =
        snapshot.nodes().iter().map(|node| NamedRate { entity_id: node.id.to_string(), rate }).collect();
    let worse = [Change::Attained { entity_id: snapshot.id(hub).to_string(), availability_ratio: 0.9 }];
    let affected: Vec<NodeIndex> =
        blast(&snapshot, hub, BLASTS).expect("fits").hits.iter().map(|hit| hit.node).collect();
    let limits = EvaluationLimits { bdd_nodes_max: 200_000, samples: 65_536, seed: 1 };
    for count in [1, 10] {
        group.bench_function(format!("worse hub, {count} of those who need it before and after"), |bencher| {
            bencher.iter(|| {
                let scenario = Scenario::resolve(&snapshot, &rates, &worse).expect("every name is known");
                evaluate(&scenario, black_box(&affected[..count]), &limits, &|| false)
            });
        });
    }
    group.bench_function("worse hub, all of those who need it before and after", |bencher| {
        bencher.iter(|| {
            let scenario = Scenario::resolve(&snapshot, &rates, &worse).expect("every name is known");
            evaluate(&scenario, black_box(&affected), &limits, &|| false)
        });
    });
    let everyone: Vec<NodeIndex> = (0..snapshot.nodes().len() as NodeIndex).collect();
    group.bench_function("calls to cut among all", |bencher| bencher.iter(|| cut(&snapshot, black_box(&everyone))));
    group.finish();
}

fn at_a_hundred_thousand(criterion: &mut Criterion) {
    let (nodes, edges) = drawn(100_000, 500_000);
    let snapshot = Snapshot::build(nodes, edges);
    let hub = hub(&snapshot);
    let mut group = criterion.benchmark_group("100000 services, 500000 dependencies");
    group.sample_size(10);
    group.bench_function("strongly connected components", |bencher| {
        bencher.iter(|| strongly_connected(black_box(snapshot.all())));
    });
    group.bench_function("blast of the biggest hub", |bencher| {
        bencher.iter(|| blast(&snapshot, black_box(hub), BLASTS));
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
    let bottom = snapshot.nodes().len() as NodeIndex - 1;
    group.bench_function("walk to depth 8", |bencher| {
        bencher.iter(|| walk(&snapshot, black_box(0), Heading::Both, Some(8), WALKS));
    });
    group.bench_function("blast from the bottom", |bencher| {
        bencher.iter(|| blast(&snapshot, black_box(bottom), BLASTS));
    });
    group.bench_function("single points of the top", |bencher| {
        bencher.iter(|| single_points(snapshot.needs(), black_box(0), 20_000_000));
    });
    group.bench_function("findings of the top", |bencher| {
        bencher.iter(|| findings(&snapshot, black_box(0), 200));
    });
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

criterion_group!(benches, layers, at_fleet_size, at_a_hundred_thousand);
criterion_main!(benches);
