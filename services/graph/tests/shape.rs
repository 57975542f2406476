//! Calls to cut and betweenness, against plainer computations of the same thing.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::betweenness::betweenness;
use attain_graph::domain::cuts::cut;
use attain_graph::domain::cycles::strongly_connected;
use attain_graph::domain::links::{Links, NodeIndex};
use attain_graph::domain::snapshot::{Dependency, Snapshot};
use fixture::{at, graph, hard, in_background, node, soft};
use proptest::prelude::*;

fn named(snapshot: &Snapshot, edges: &[(NodeIndex, NodeIndex)]) -> Vec<(String, String)> {
    edges.iter().map(|&(a, b)| (snapshot.id(a).to_string(), snapshot.id(b).to_string())).collect()
}

fn cut_of(edges: impl IntoIterator<Item = Dependency>) -> Vec<(String, String)> {
    let snapshot = graph(edges);
    let [cycle] = snapshot.cycles() else { panic!("one cycle") };
    let cut = cut(&snapshot, &cycle.members);
    assert!(cut.fewest);
    named(&snapshot, &cut.edges)
}

fn pair(caller: &str, callee: &str) -> (String, String) {
    (caller.to_owned(), callee.to_owned())
}

#[test]
fn the_call_that_closes_every_cycle_is_cut_and_of_two_the_one_that_is_spared_more_easily() {
    // Two cycles share b → c.
    let shared = [hard("a", "b"), hard("b", "c"), hard("c", "a"), hard("c", "d"), hard("d", "b")];
    assert_eq!(cut_of(shared), [pair("b", "c")]);
    assert_eq!(cut_of([hard("a", "b"), soft("b", "a", 0.9)]), [pair("b", "a")]);
    assert_eq!(cut_of([soft("a", "b", 0.9), in_background("b", "a")]), [pair("b", "a")]);
    assert_eq!(cut_of([hard("a", "b"), hard("b", "a")]).len(), 1);
}

#[test]
fn through_the_middle_of_a_chain_leads_the_only_walk_and_parallel_ways_share_theirs() {
    let of = |snapshot: &Snapshot, name: &str| {
        betweenness(snapshot.request_path(), &|| false).unwrap().ratios[at(snapshot, name) as usize]
    };
    let chain = graph([hard("a", "b"), hard("b", "c")]);
    assert_eq!((of(&chain, "a"), of(&chain, "b"), of(&chain, "c")), (0.0, 1.0, 0.0));
    let diamond = graph([hard("a", "b"), hard("a", "c"), hard("b", "d"), hard("c", "d")]);
    // Beside b there are a → c, c → d and a → d, of which half of the last one leads through b.
    assert!((of(&diamond, "b") - 0.5 / 3.0).abs() < 1e-12);
}

#[test]
fn somebody_who_waits_no_longer_stops_the_computation() {
    assert_eq!(betweenness(graph([hard("a", "b")]).request_path(), &|| true), None);
}

#[test]
fn past_the_exact_size_the_estimate_is_near_and_says_that_it_is_one() {
    let name = |number: usize| format!("n{number:05}");
    // A star of chains: half of the nodes call the hub, which calls the other half.
    let half = 3_000;
    let above = (0..half).map(|number| hard(&name(number), "hub"));
    let below = (half..2 * half).map(|number| hard("hub", &name(number)));
    let snapshot = graph(above.chain(below));
    let found = betweenness(snapshot.request_path(), &|| false).unwrap();
    assert!(found.sampled);
    assert!((found.ratios[at(&snapshot, "hub") as usize] - 1.0).abs() < 1e-9);
}

#[test]
fn a_ring_of_thousands_is_cut_once_whoever_it_is_found_by() {
    let name = |number: usize| format!("n{number:05}");
    let count = 3_000;
    let ring = (0..count).map(|number| hard(&name(number), &name((number + 1) % count)));
    let snapshot = graph(ring);
    let found = cut(&snapshot, &snapshot.cycles()[0].members);
    assert_eq!((found.edges.len(), found.fewest), (1, false));
}

fn graphs(most: usize) -> impl Strategy<Value = Snapshot> {
    (2..=most).prop_flat_map(|count| {
        let name = |number: usize| format!("n{number:02}");
        proptest::collection::vec((0..count, 0..count, 0..3_u8), 0..count * 3).prop_map(move |edges| {
            let row = |(from, to, kind): (usize, usize, u8)| match kind {
                0 => soft(&name(from), &name(to), 0.5),
                1 => in_background(&name(from), &name(to)),
                _ => hard(&name(from), &name(to)),
            };
            let edges = edges.into_iter().filter(|(from, to, _)| from != to).map(row).collect();
            Snapshot::build((0..count).map(|number| node(&name(number))).collect(), edges)
        })
    })
}

fn without(snapshot: &Snapshot, gone: &[(NodeIndex, NodeIndex)]) -> bool {
    let left = (0..).zip(snapshot.edges()).map(|(position, edge)| (edge.caller, edge.callee, position));
    let left: Vec<_> = left.filter(|(caller, callee, _)| !gone.contains(&(*caller, *callee))).collect();
    let components = strongly_connected(&Links::new(snapshot.nodes().len(), &left));
    components.iter().all(|members| members.len() == 1)
}

/// Shortest walks between every two nodes, each written out.
fn walks(links: &Links) -> Vec<Vec<NodeIndex>> {
    let mut shortest = Vec::new();
    for source in 0..links.node_count() as NodeIndex {
        let mut layer = vec![vec![source]];
        let mut seen = vec![source];
        while !layer.is_empty() {
            let mut next = Vec::new();
            for walk in &layer {
                for &callee in links.callees(*walk.last().unwrap()) {
                    if !seen.contains(&callee) {
                        next.push([&walk[..], &[callee]].concat());
                    }
                }
            }
            seen.extend(next.iter().map(|walk| *walk.last().unwrap()));
            shortest.extend(next.iter().cloned());
            layer = next;
        }
    }
    shortest
}

proptest! {
    #[test]
    fn after_the_cut_no_cycle_is_left_and_fewer_calls_leave_one(snapshot in graphs(8)) {
        let cuts: Vec<_> = snapshot.cycles().iter().map(|cycle| cut(&snapshot, &cycle.members)).collect();
        let all: Vec<_> = cuts.iter().flat_map(|cut| cut.edges.clone()).collect();
        prop_assert!(without(&snapshot, &all));
        for (cycle, cut) in snapshot.cycles().iter().zip(&cuts) {
            prop_assert!(cut.fewest);
            let inside = |node: NodeIndex| cycle.members.contains(&node);
            let others: Vec<_> = all.iter().copied().filter(|&(caller, _)| !inside(caller)).collect();
            let edges: Vec<_> = snapshot.edges().iter().map(|edge| (edge.caller, edge.callee)).collect();
            let within: Vec<_> = edges.into_iter().filter(|&(a, b)| inside(a) && inside(b)).collect();
            prop_assume!(within.len() <= 12);
            for chosen in 0_u32..1 << within.len() {
                if (chosen.count_ones() as usize) < cut.edges.len() {
                    let tried = within.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
                    let tried: Vec<_> = tried.map(|(_, edge)| *edge).chain(others.iter().copied()).collect();
                    prop_assert!(!without(&snapshot, &tried), "{:?} instead of {:?}", tried, cut.edges);
                }
            }
        }
    }

    #[test]
    fn the_greedy_order_leaves_no_cycle_either(snapshot in graphs(30)) {
        let all: Vec<_> = snapshot.cycles().iter().flat_map(|cycle| cut(&snapshot, &cycle.members).edges).collect();
        prop_assert!(without(&snapshot, &all));
    }

    #[test]
    fn betweenness_is_the_share_of_shortest_walks(snapshot in graphs(7)) {
        let links = snapshot.request_path();
        let found = betweenness(links, &|| false).unwrap();
        prop_assert!(!found.sampled);
        let walks = walks(links);
        let ends = |walk: &Vec<NodeIndex>| (walk[0], *walk.last().unwrap());
        for node in 0..links.node_count() as NodeIndex {
            let mut pairs: Vec<_> = walks.iter().map(ends).filter(|&(a, b)| a != node && b != node).collect();
            pairs.sort_unstable();
            pairs.dedup();
            let share = |&pair: &(NodeIndex, NodeIndex)| {
                let between: Vec<_> = walks.iter().filter(|walk| ends(walk) == pair).collect();
                between.iter().filter(|walk| walk.contains(&node)).count() as f64 / between.len() as f64
            };
            let expected = if pairs.is_empty() { 0.0 } else { pairs.iter().map(share).sum::<f64>() / pairs.len() as f64 };
            prop_assert!((found.ratios[node as usize] - expected).abs() < 1e-12);
        }
    }
}
