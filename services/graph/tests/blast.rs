//! Blast radii of graphs so large that shortcuts are taken, against slower and plainer computations of the same thing.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::blast::{self, Hit, blast};
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::routes::Routes;
use attain_graph::domain::snapshot::{Dependency, Snapshot, Terms};
use attain_graph::domain::structure::among;
use attain_reliability::Component;
use attain_reliability::propagation::{crossing, noisy_or};
use attain_vocabulary::DependencyMode;
use fixture::{edge, graph};

/// Nothing is cut off.
const ALL: blast::Bounds = blast::Bounds { hits_max: usize::MAX, path_nodes_max: usize::MAX, bdd_nodes_max: 10_000 };
const COUNT: usize = 3_000;

/// Numbers that look drawn, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// Calls that fail some or all requests, with and without fallbacks and groups.
    fn terms(&mut self) -> Terms {
        let of_mode = |mode| Terms { call_fraction: Some(1.0), ..Terms::of_mode(mode) };
        let hard = of_mode(DependencyMode::Hard);
        let part = 0.1 * (1 + self.below(9)) as f64;
        match self.below(20) {
            0 => of_mode(DependencyMode::Async),
            1 => Terms { fallback_success_ratio: Some(1.0), ..of_mode(DependencyMode::Soft) },
            2..4 => Terms { group: Some("spare".to_owned()), ..hard },
            4 => Terms { group: Some("spare".to_owned()), retry_count: 1, ..of_mode(DependencyMode::Soft) },
            5..7 => Terms { group: Some("both".to_owned()), group_required_count: Some(2), ..hard },
            7..9 => hard,
            _ => Terms { call_fraction: Some(part), ..hard },
        }
    }
}

fn name(number: usize) -> String {
    format!("n{number:05}")
}

/// Callees are drawn towards the end, so that some become hubs; a few calls lead back a little, which makes cycles.
fn tangled(seed: u64) -> Snapshot {
    let mut dice = Dice(seed);
    let mut call = |caller: usize| {
        let room = COUNT - caller;
        let ahead = 1 + dice.below(room).max(dice.below(room));
        let back = caller.saturating_sub(1 + dice.below(3));
        let callee = if dice.below(200) == 0 { back } else { (caller + ahead).min(COUNT - 1) };
        edge(&name(caller), &name(callee), dice.terms())
    };
    graph((0..COUNT - 1).flat_map(|caller| [caller; 5]).map(&mut call).collect::<Vec<Dependency>>())
}

/// The nodes whose failure is asked for: hubs, and others here and there.
fn some_down(snapshot: &Snapshot) -> Vec<NodeIndex> {
    let mut nodes: Vec<NodeIndex> = (0..snapshot.nodes().len() as NodeIndex).collect();
    nodes.sort_by_key(|&node| std::cmp::Reverse(snapshot.request_path().callers(node).len()));
    nodes.iter().step_by(271).copied().collect()
}

#[test]
fn of_many_who_are_hurt_the_hardest_hit_are_listed() {
    for seed in 0..3 {
        let snapshot = tangled(seed);
        for down in some_down(&snapshot) {
            let all = blast(&snapshot, down, ALL).unwrap();
            assert!(!all.truncated);
            for hits_max in [0, 1, 30, 64, 500, 1_000, all.hits.len().saturating_sub(1), all.hits.len()] {
                let some = blast(&snapshot, down, blast::Bounds { hits_max, ..ALL }).unwrap();
                assert_eq!(some.hits, all.hits[..hits_max.min(all.hits.len())]);
                assert_eq!(some.truncated, hits_max < all.hits.len());
            }
        }
    }
}

#[test]
fn whoever_is_hurt_has_the_noisy_or_of_the_structure_and_the_first_of_the_shortest_walks() {
    let snapshot = tangled(7);
    let links = snapshot.request_path();
    for down in some_down(&snapshot) {
        let routes = Routes::to(links.node_count(), &[down], |node| links.callers(node));
        let nodes: Vec<NodeIndex> =
            (0..links.node_count() as NodeIndex).filter(|&node| routes.distance(node).is_some()).collect();
        let structure = among(snapshot.needs(), &nodes).unwrap();
        let down_among = Component(nodes.binary_search(&down).unwrap() as u32);
        let is_exact = crossing(&structure, down_among).may_be_exact();
        assert_eq!(snapshot.upstream().wave(down).crossing().may_be_exact(), is_exact);
        let impacts = noisy_or(&structure, down_among);
        let blast = blast(&snapshot, down, ALL).unwrap();
        assert_eq!(blast.hits.len() + 1, nodes.len());
        for Hit { node, impact_ratio, distance, path } in blast.hits {
            let expected = impacts[nodes.binary_search(&node).unwrap()];
            assert!(is_exact || (impact_ratio - expected).abs() < 1e-9, "{impact_ratio} is not {expected}");
            assert_eq!(Some(distance), routes.distance(node));
            assert_eq!(path, routes.path(node, |node| links.callees(node)));
        }
    }
}

#[test]
fn exact_impacts_are_looked_for_where_calls_hardly_cross_however_many_they_are() {
    let seldom = || Terms { call_fraction: Some(0.999), ..Terms::of_mode(DependencyMode::Hard) };
    let chain = |caller: usize| edge(&name(caller), &name(caller + 1), seldom());
    let snapshot = graph((0..6_000).map(chain));
    let last = snapshot.nodes().len() as NodeIndex - 1;
    assert_eq!(snapshot.upstream().wave(last).crossing().call_count, 5_999);
    assert!(snapshot.upstream().wave(last).crossing().may_be_exact());

    let tangled = tangled(1);
    let hub = some_down(&tangled)[0];
    let wave = tangled.upstream().wave(hub);
    assert!(!wave.crossing().may_be_exact());
    let nodes = wave.met().map(|(node, _)| node).collect::<std::collections::BTreeSet<_>>();
    let calls: usize = nodes.iter().map(|&node| tangled.request_path().callees(node).len()).sum();
    assert!(wave.crossing().call_count < calls / 2, "counted until nothing exact is tried, not to the end");
}
