//! Graphs that are meant to be hard: a clique, dense layers, a hub of 10,000 and a chain of 100,000. Every figure of an analysis
//! and one evaluation each, so that nothing in an answer grows without bounds.

#![allow(missing_docs)]

use std::hint::black_box;

use attain_graph::domain::availability::evaluate;
use attain_graph::domain::blast::{self, blast};
use attain_graph::domain::chokes::{choke_points, separated_count};
use attain_graph::domain::critical::critical_path;
use attain_graph::domain::cuts::cut;
use attain_graph::domain::findings::findings;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{NamedRate, Scenario};
use attain_graph::domain::single_points::single_points;
use attain_graph::domain::snapshot::{Dependency, Edge, Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DependencyMode, EntityId};
use criterion::{Criterion, criterion_group, criterion_main};

const BLASTS: blast::Bounds = blast::Bounds { hits_max: 5_000, path_nodes_max: 200_000, bdd_nodes_max: 200_000 };
const LIMITS: EvaluationLimits = EvaluationLimits { bdd_nodes_max: 200_000, samples: 65_536, seed: 1 };

fn graph(edges: impl Iterator<Item = (usize, usize)>) -> Snapshot {
    let id = |number: usize| EntityId::new("id", &format!("service-{number:06}")).expect("well formed");
    let edge = |(caller, callee): (usize, usize)| Dependency {
        caller: id(caller),
        callee: id(callee),
        terms: Terms {
            call_fraction: Some(0.1 + 0.1 * ((caller + callee) % 10) as f64),
            observed_call_count: 100,
            observed_failure_count: Some(1),
            ..Terms::of_mode(DependencyMode::Hard)
        },
    };
    Snapshot::build(Vec::new(), edges.map(edge).collect())
}

fn clique() -> Snapshot {
    graph((0..300).flat_map(|from| (0..300).map(move |to| (from, to))))
}

fn dense_layers() -> Snapshot {
    let below = |layer: usize| {
        (0..100).flat_map(move |from| (0..100).map(move |to| (layer * 100 + from, layer * 100 + 100 + to)))
    };
    graph((0..9).flat_map(below))
}

/// 10,000 callers of one service with 10,000 callees.
fn hub() -> Snapshot {
    let callers = (1..=10_000).map(|caller| (caller, 0));
    graph(callers.chain((10_001..=20_000).map(|callee| (0, callee))))
}

fn chain() -> Snapshot {
    graph((0..100_000).map(|caller| (caller, caller + 1)))
}

fn analysed(snapshot: &Snapshot, node: NodeIndex) -> usize {
    let failing = |edge: &Edge| Some(edge.terms.observed_failure_count? as f64 / edge.terms.observed_call_count as f64);
    let cuts: usize = snapshot.cycles().iter().map(|cycle| cut(snapshot, &cycle.members).edges.len()).sum();
    blast(snapshot, node, BLASTS).expect("fits").hits.len()
        + single_points(snapshot.needs(), node, 20_000_000).nodes.len()
        + findings(snapshot, node, 200).len()
        + choke_points(snapshot.request_path(), node).len()
        + separated_count(snapshot.all(), node) as usize
        + critical_path(snapshot, node, |_| 1.0, failing).len()
        + cuts
}

fn adversarial(criterion: &mut Criterion) {
    for (name, snapshot, node) in [
        ("clique of 300", clique(), 0),
        ("10 layers of 100", dense_layers(), 0),
        ("hub of 10,000 and 10,000", hub(), 0),
        ("chain of 100,000, from its middle", chain(), 50_000),
    ] {
        let rate = Rate { failure_ratio: 0.001, includes_dependencies: false };
        let rates: Vec<NamedRate> =
            snapshot.nodes().iter().map(|node| NamedRate { entity_id: node.id.to_string(), rate }).collect();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.bench_function("analysis", |bencher| bencher.iter(|| analysed(&snapshot, black_box(node))));
        group.bench_function("evaluation", |bencher| {
            bencher.iter(|| {
                let scenario = Scenario::resolve(&snapshot, &rates, &[]).expect("every name is known");
                evaluate(&scenario, black_box(&[node]), &LIMITS, &|| false)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, adversarial);
criterion_main!(benches);
