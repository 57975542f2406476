//! What must hold for every graph, against slower and plainer computations of the same thing.

#![allow(clippy::unwrap_used)]

mod fixture;

use std::sync::Arc;

use attain_graph::domain::availability::evaluate;
use attain_graph::domain::blast::{self, blast};
use attain_graph::domain::cycles::strongly_connected;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Change, NamedRate, Scenario};
use attain_graph::domain::single_points::single_points;
use attain_graph::domain::snapshot::{Dependency, Snapshot, Terms};
use attain_graph::domain::structure::{Model, Rate, among};
use attain_graph::domain::upstream::NO_WAY;
use attain_graph::domain::walk::{Bounds, Heading, walk};
use attain_reliability::propagation::{crossing, noisy_or};
use attain_reliability::{Component, Evaluation, EvaluationLimits, EvaluationMethod};
use attain_vocabulary::DependencyMode;
use fixture::{edge, node};
use petgraph::graph::DiGraph;
use proptest::prelude::*;
use proptest::sample::Index;

const WIDE: Bounds = Bounds { nodes_max: usize::MAX, edges_max: usize::MAX };

fn terms() -> impl Strategy<Value = Terms> {
    let mode = prop_oneof![
        5 => Just(DependencyMode::Hard),
        2 => Just(DependencyMode::Soft),
        1 => Just(DependencyMode::Async)
    ];
    let share = || proptest::option::of(prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]);
    let group = proptest::option::weighted(0.4, (prop_oneof![Just("g"), Just("h")], 1..4_u32));
    (mode, share(), share(), group).prop_map(|(mode, call_fraction, fallback_success_ratio, group)| Terms {
        call_fraction,
        fallback_success_ratio,
        group: group.map(|(name, _)| name.to_owned()),
        group_required_count: group.map(|(_, count)| count),
        ..Terms::of_mode(mode)
    })
}

fn name(number: usize) -> String {
    format!("n{number:02}")
}

/// Up to `most` nodes, all of them in the graph; edges to lower numbers too unless `acyclic`.
fn graphs(most: usize, acyclic: bool) -> impl Strategy<Value = Snapshot> {
    (1..=most).prop_flat_map(move |count| {
        let edges = proptest::collection::vec((0..count, 0..count, terms()), 0..count * 3);
        edges.prop_map(move |edges| {
            let edges = edges.into_iter().filter(|(from, to, _)| !acyclic || from < to);
            let edges = edges.filter(|(from, to, _)| from != to);
            let edges: Vec<Dependency> = edges.map(|(from, to, terms)| edge(&name(from), &name(to), terms)).collect();
            Snapshot::build((0..count).map(|number| node(&name(number))).collect(), edges)
        })
    })
}

/// Shortest distances by relaxing every edge until nothing changes.
fn distances(snapshot: &Snapshot, start: NodeIndex, upstream: bool) -> Vec<Option<u32>> {
    let mut distances = vec![None; snapshot.nodes().len()];
    distances[start as usize] = Some(0);
    for _ in 0..snapshot.nodes().len() {
        for edge in snapshot.edges() {
            let (from, to) = if upstream { (edge.callee, edge.caller) } else { (edge.caller, edge.callee) };
            if let Some(distance) = distances[from as usize].map(|distance: u32| distance + 1) {
                let known = distances[to as usize].get_or_insert(distance);
                *known = (*known).min(distance);
            }
        }
    }
    distances
}

/// Every chain from a node of a graph without cycles, the longest and then lexically first of them.
fn longest(snapshot: &Snapshot, node: NodeIndex) -> Vec<NodeIndex> {
    let below = snapshot.request_path().callees(node).iter().map(|&callee| longest(snapshot, callee));
    let best = below.min_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    std::iter::once(node).chain(best.unwrap_or_default()).collect()
}

/// By edge: whether no request waits for it.
fn not_waited_for(snapshot: &Snapshot) -> Vec<bool> {
    snapshot.edges().iter().map(|edge| !edge.terms.on_request_path()).collect()
}

/// Availability of every node when one is down and everything else perfect.
fn without(snapshot: &Snapshot, down: NodeIndex, root: NodeIndex) -> Evaluation {
    let mut rates = vec![Rate::default(); snapshot.nodes().len()];
    rates[down as usize].failure_ratio = 1.0;
    let model = Model::new(snapshot.needs(), &rates).unwrap();
    attain_reliability::evaluate(&model.structure, Component(root), &EvaluationLimits::default())
}

fn own_failure_ratio(number: u32) -> f64 {
    0.01 + 0.02 * f64::from(number)
}

type Answer = (Arc<Evaluation>, Option<Arc<Evaluation>>, bool);

fn everybody(snapshot: &Snapshot, changes: &[Change]) -> Vec<Answer> {
    let rates: Vec<NamedRate> = (0..)
        .zip(snapshot.nodes())
        .map(|(number, node)| NamedRate {
            entity_id: node.id.to_string(),
            rate: Rate { failure_ratio: own_failure_ratio(number), includes_dependencies: false },
        })
        .collect();
    let scenario = Scenario::resolve(snapshot, &rates, changes).unwrap();
    let services: Vec<NodeIndex> = (0..snapshot.nodes().len() as NodeIndex).collect();
    let answer = evaluate(&scenario, &services, &EvaluationLimits::default(), &|| false).unwrap();
    assert!(answer.assumed_perfect.is_empty());
    answer.services.into_iter().map(|service| (service.before, service.after, service.path.is_empty())).collect()
}

fn set(snapshot: &Snapshot, edge: &attain_graph::domain::snapshot::Edge) -> Change {
    fixture::set(Dependency {
        caller: snapshot.id(edge.caller).clone(),
        callee: snapshot.id(edge.callee).clone(),
        terms: Terms::clone(&edge.terms),
    })
}

fn remove(snapshot: &Snapshot, edge: &attain_graph::domain::snapshot::Edge) -> Change {
    Change::Remove { caller_id: snapshot.id(edge.caller).to_string(), callee_id: snapshot.id(edge.callee).to_string() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_walk_reaches_what_is_reachable_at_its_distance(snapshot in graphs(12, false), depth in 0..5_u32) {
        let down = distances(&snapshot, 0, false);
        let up = distances(&snapshot, 0, true);
        let nearest = |a: Option<u32>, b: Option<u32>| a.into_iter().chain(b).min();
        let both: Vec<_> = down.iter().zip(&up).map(|(a, b)| nearest(*a, *b)).collect();
        for (heading, expected) in [(Heading::Downstream, down), (Heading::Upstream, up), (Heading::Both, both)] {
            let found = walk(&snapshot, 0, heading, (depth > 0).then_some(depth), WIDE);
            let within = |distance: &u32| depth == 0 || *distance <= depth;
            let mut expected: Vec<(u32, NodeIndex)> = (0..)
                .zip(&expected)
                .filter_map(|(node, distance)| distance.filter(within).map(|distance| (distance, node)))
                .collect();
            expected.sort_unstable();
            let reached: Vec<_> = found.reached.iter().map(|reached| (reached.distance, reached.node)).collect();
            prop_assert_eq!(&reached, &expected);
            let inside = |node: NodeIndex| reached.iter().any(|(_, other)| *other == node);
            let edges: Vec<u32> = (0..)
                .zip(snapshot.edges())
                .filter(|(_, edge)| inside(edge.caller) && inside(edge.callee))
                .map(|(position, _)| position)
                .collect();
            prop_assert_eq!(found.edges, edges);
            prop_assert!(!found.truncated);
        }
    }

    #[test]
    fn a_bounded_walk_is_the_beginning_of_the_whole(snapshot in graphs(12, false), nodes_max in 1..12_usize) {
        let whole = walk(&snapshot, 0, Heading::Downstream, None, WIDE);
        let cut = walk(&snapshot, 0, Heading::Downstream, None, Bounds { nodes_max, ..WIDE });
        prop_assert_eq!(&cut.reached[..], &whole.reached[..whole.reached.len().min(nodes_max)]);
        prop_assert_eq!(cut.truncated, whole.reached.len() > nodes_max);
    }

    #[test]
    fn strongly_connected_components_are_petgraphs(snapshot in graphs(14, false)) {
        let mut other = DiGraph::<(), ()>::new();
        let nodes: Vec<_> = snapshot.nodes().iter().map(|_| other.add_node(())).collect();
        for edge in snapshot.edges() {
            other.add_edge(nodes[edge.caller as usize], nodes[edge.callee as usize], ());
        }
        let mut expected: Vec<Vec<NodeIndex>> = petgraph::algo::tarjan_scc(&other)
            .into_iter()
            .map(|members| members.into_iter().map(|node| node.index() as NodeIndex).collect())
            .collect();
        expected.iter_mut().for_each(|members| members.sort_unstable());
        let mut found = strongly_connected(snapshot.all());
        let mut place = vec![0; snapshot.nodes().len()];
        for (position, members) in found.iter().enumerate() {
            members.iter().for_each(|&member| place[member as usize] = position);
        }
        for edge in snapshot.edges() {
            prop_assert!(place[edge.callee as usize] <= place[edge.caller as usize], "callees come first");
        }
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_longest_chain_is_the_longest_of_all(snapshot in graphs(8, true)) {
        for node in 0..snapshot.nodes().len() as NodeIndex {
            let expected = longest(&snapshot, node);
            prop_assert_eq!(snapshot.chains().depth(node) as usize, expected.len() - 1);
            prop_assert_eq!(snapshot.chains().longest(node), expected);
        }
    }

    #[test]
    fn a_blast_is_what_the_structure_function_says(snapshot in graphs(7, false)) {
        let bounds = blast::Bounds { hits_max: 100, path_nodes_max: 1_000, bdd_nodes_max: 100_000 };
        for down in 0..snapshot.nodes().len() as NodeIndex {
            for hit in blast(&snapshot, down, bounds).unwrap().hits {
                let expected = without(&snapshot, down, hit.node);
                prop_assert_eq!(expected.method, EvaluationMethod::Exact);
                prop_assert!((hit.impact_ratio - expected.unavailability_ratio).abs() < 1e-12);
                prop_assert_eq!(hit.path.len() as u32, hit.distance + 1);
                for step in hit.path.windows(2) {
                    prop_assert!(snapshot.request_path().callees(step[0]).contains(&step[1]));
                }
            }
        }
    }

    #[test]
    fn a_wave_is_the_noisy_or_of_the_structure_function(snapshot in graphs(9, false)) {
        for down in 0..snapshot.nodes().len() as NodeIndex {
            let wave = snapshot.upstream().wave(down);
            let mut nodes: Vec<NodeIndex> = wave.met().map(|(node, _)| node).collect();
            nodes.sort_unstable();
            let structure = among(snapshot.needs(), &nodes).unwrap();
            let down_among = Component(nodes.binary_search(&down).unwrap() as u32);
            for (&node, expected) in nodes.iter().zip(noisy_or(&structure, down_among)) {
                let found = wave.felt(node).impact_ratio;
                prop_assert!((found - expected).abs() < 1e-12, "{} is not {}", found, expected);
            }
            prop_assert_eq!(wave.crossing(), crossing(&structure, down_among));
            let distances = distances(&snapshot.without(&not_waited_for(&snapshot)), down, true);
            for (node, distance) in (0..).zip(distances) {
                let found = Some(wave.felt(node).distance()).filter(|&distance| distance != NO_WAY);
                prop_assert_eq!(found, distance);
            }
        }
    }

    #[test]
    fn a_single_point_of_failure_leaves_no_availability(snapshot in graphs(7, false)) {
        let found = single_points(snapshot.needs(), 0, usize::MAX);
        let expected: Vec<NodeIndex> = (1..snapshot.nodes().len() as NodeIndex)
            .filter(|&node| without(&snapshot, node, 0).availability_ratio == 0.0)
            .collect();
        prop_assert_eq!((found.nodes, found.complete), (expected, true));
    }

    /// Everybody healthy, and what is outside the cycle needs nothing.
    #[test]
    fn a_bootstrap_hazard_is_a_cold_start_that_cannot_happen(snapshot in graphs(7, false)) {
        for cycle in snapshot.cycles() {
            let of_members = snapshot.edges().iter().filter(|edge| cycle.members.contains(&edge.caller));
            let retried = |edge: &attain_graph::domain::snapshot::Edge| Dependency {
                caller: snapshot.id(edge.caller).clone(),
                callee: snapshot.id(edge.callee).clone(),
                terms: Terms { retry_count: 2, ..Terms::clone(&edge.terms) },
            };
            let alone = Snapshot::build(snapshot.nodes().to_vec(), of_members.map(retried).collect());
            let model = Model::new(alone.needs(), &vec![Rate::default(); alone.nodes().len()]).unwrap();
            let evaluate = |&member: &NodeIndex| {
                attain_reliability::evaluate(&model.structure, Component(member), &EvaluationLimits::default())
            };
            let evaluations: Vec<Evaluation> = cycle.members.iter().map(evaluate).collect();
            prop_assert!(evaluations.iter().all(|found| found.availability_ratio == 1.0));
            let stuck = evaluations.iter().any(|found| found.cold_start_ratio == 0.0);
            prop_assert_eq!(cycle.bootstrap_hazard, stuck, "{:?}", cycle);
        }
    }

    #[test]
    fn changes_to_nothing_change_nothing(snapshot in graphs(7, false), which in any::<Index>()) {
        prop_assume!(!snapshot.edges().is_empty());
        for (before, after, _) in everybody(&snapshot, &[set(&snapshot, which.get(snapshot.edges()))]) {
            prop_assert_eq!(Some(before), after);
        }
    }

    #[test]
    fn a_change_and_its_reverse_cancel(snapshot in graphs(7, false), which in any::<Index>()) {
        prop_assume!(!snapshot.edges().is_empty());
        let edge = which.get(snapshot.edges());
        let own = |failure_ratio| Change::OwnFailure { entity_id: name(0), failure_ratio };
        let pairs = [[remove(&snapshot, edge), set(&snapshot, edge)], [own(0.7), own(own_failure_ratio(0))]];
        for (before, after, _) in pairs.iter().flat_map(|changes| everybody(&snapshot, changes)) {
            prop_assert_eq!(Some(before), after);
        }
    }

    #[test]
    fn who_is_not_reached_by_a_change_stays_as_it_was(snapshot in graphs(7, false)) {
        let attained = Change::Attained { entity_id: name(0), availability_ratio: 0.5 };
        let changed = everybody(&snapshot, std::slice::from_ref(&attained));
        for (node, (before, after, untouched)) in (0..).zip(changed) {
            let reaches = Model::new(snapshot.needs(), &vec![Rate::default(); snapshot.nodes().len()])
                .unwrap()
                .reached([node])[0];
            prop_assert_eq!(untouched, !reaches);
            prop_assert!(!untouched || Some(before) == after);
        }
    }
}
