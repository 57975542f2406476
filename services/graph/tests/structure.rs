//! Walks, cycles, chains, blast radii and single points of failure on graphs small enough to see through.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::blast::{self, blast};
use attain_graph::domain::single_points::single_points;
use attain_graph::domain::snapshot::{Dependency, Snapshot, Terms};
use attain_graph::domain::walk::{Bounds, Heading, walk};
use attain_vocabulary::DependencyMode;
use fixture::{at, edge, graph, hard, in_background, in_group, names, shop, soft};

const WIDE: Bounds = Bounds { nodes_max: 100, edges_max: 100 };
const BLAST: blast::Bounds = blast::Bounds { hits_max: 100, path_nodes_max: 100, bdd_nodes_max: 10_000 };

fn walked(snapshot: &Snapshot, start: &str, heading: Heading, depth: Option<u32>) -> Vec<(String, u32)> {
    let found = walk(snapshot, at(snapshot, start), heading, depth, WIDE);
    assert!(!found.truncated);
    found.reached.iter().map(|reached| (snapshot.id(reached.node).to_string(), reached.distance)).collect()
}

fn listed(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
    expected.iter().map(|(name, distance)| ((*name).to_owned(), *distance)).collect()
}

#[test]
fn the_shop_is_walked_by_distance_and_then_by_name() {
    let shop = shop();
    let down = [("checkout-service", 0), ("inventory-service", 1), ("payment-service", 1), ("external-payment-api", 2)];
    assert_eq!(walked(&shop, "checkout-service", Heading::Downstream, None), listed(&down));
    assert_eq!(walked(&shop, "checkout-service", Heading::Downstream, Some(1)), listed(&down[..3]));
    let up = [("external-payment-api", 0), ("payment-service", 1), ("checkout-service", 2), ("api-gateway", 3)];
    assert_eq!(walked(&shop, "external-payment-api", Heading::Upstream, None), listed(&up));
    // The gateway's other needs are no neighbours of checkout.
    let both = [
        ("checkout-service", 0),
        ("api-gateway", 1),
        ("inventory-service", 1),
        ("payment-service", 1),
        ("external-payment-api", 2),
    ];
    assert_eq!(walked(&shop, "checkout-service", Heading::Both, None), listed(&both));
}

#[test]
fn a_walk_says_by_which_way_and_where_it_was_cut_off() {
    let ring = graph([hard("a", "b"), hard("b", "c"), hard("c", "a"), in_background("c", "d")]);
    let found = walk(&ring, at(&ring, "a"), Heading::Both, None, WIDE);
    let headings: Vec<_> = found.reached.iter().map(|reached| reached.heading).collect();
    assert_eq!(names(&ring, found.reached.iter().map(|reached| &reached.node)), ["a", "b", "c", "d"]);
    assert_eq!(headings, [None, Some(Heading::Both), Some(Heading::Both), Some(Heading::Downstream)]);
    assert_eq!(found.edges, [0, 1, 2, 3]);

    let narrow = Bounds { nodes_max: 3, edges_max: 2 };
    let cut = walk(&ring, at(&ring, "a"), Heading::Downstream, None, narrow);
    assert_eq!((cut.reached.len(), cut.edges.len(), cut.truncated), (3, 2, true));
}

fn cycles(edges: impl IntoIterator<Item = Dependency>) -> Vec<(Vec<String>, bool)> {
    let snapshot = graph(edges);
    let name = |cycle: &attain_graph::domain::cycles::Cycle| {
        let members = names(&snapshot, &cycle.members).into_iter().map(str::to_owned).collect();
        (members, cycle.bootstrap_hazard)
    };
    snapshot.cycles().iter().map(name).collect()
}

#[test]
fn a_cycle_is_a_hazard_where_a_member_has_nothing_to_start_from() {
    let ab = |hazard| vec![(vec!["a".to_owned(), "b".to_owned()], hazard)];
    assert_eq!(cycles([hard("b", "a"), hard("a", "b"), hard("a", "c")]), ab(true));
    assert_eq!(cycles([hard("b", "a"), soft("a", "b", 0.9)]), ab(false));
    assert_eq!(cycles([hard("b", "a"), in_background("a", "b")]), ab(false));
    assert!(cycles([hard("a", "b"), hard("b", "c"), hard("a", "c")]).is_empty());
    // b works with c alone.
    let spare = cycles([hard("a", "b"), in_group("b", "a", 1), in_group("b", "c", 1)]);
    assert_eq!(spare, ab(false));
    // Whichever spare is tried first waits for a.
    let spares = cycles([in_group("a", "b", 1), in_group("a", "c", 1), hard("b", "a"), hard("c", "a")]);
    assert_eq!(spares, vec![(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], true)]);
    // Half of the requests do not make the call.
    let seldom = Terms { call_fraction: Some(0.5), ..Terms::of_mode(DependencyMode::Hard) };
    assert_eq!(cycles([hard("b", "a"), edge("a", "b", seldom)]), ab(false));
    // A soft edge elsewhere in the component does not defuse the hard ring inside it.
    let inner = cycles([hard("a", "b"), hard("b", "a"), soft("b", "c", 0.5), hard("c", "a")]);
    assert_eq!(inner, vec![(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], true)]);
}

#[test]
fn the_longest_chain_counts_a_cycle_once_and_breaks_ties_by_name() {
    let shop = shop();
    let chain = shop.chains().longest(at(&shop, "api-gateway"));
    assert_eq!(names(&shop, &chain), ["api-gateway", "checkout-service", "payment-service", "external-payment-api"]);
    assert_eq!(shop.chains().depth(at(&shop, "api-gateway")), 3);

    let tie = graph([hard("a", "c"), hard("a", "b"), hard("b", "z"), hard("c", "y")]);
    assert_eq!(names(&tie, &tie.chains().longest(at(&tie, "a"))), ["a", "b", "z"]);

    let ring = graph([hard("a", "q"), hard("q", "p"), hard("p", "q"), hard("q", "z"), in_background("z", "y")]);
    assert_eq!(names(&ring, &ring.chains().longest(at(&ring, "a"))), ["a", "p", "z"]);
    assert_eq!(names(&ring, &ring.chains().longest(at(&ring, "q"))), ["q", "z"]);
    assert_eq!(ring.chains().depth(at(&ring, "z")), 0);
}

#[test]
fn a_blast_weighs_call_fractions_fallbacks_and_spares() {
    let seldom = Terms { call_fraction: Some(0.05), ..Terms::of_mode(DependencyMode::Hard) };
    let snapshot = graph([
        edge("gateway", "checkout", seldom),
        hard("checkout", "payment"),
        soft("report", "payment", 0.75),
        in_group("spared", "payment", 1),
        in_group("spared", "other", 1),
        in_background("mailer", "payment"),
    ]);
    let found = blast(&snapshot, at(&snapshot, "payment"), BLAST).unwrap();
    let hits: Vec<_> =
        found.hits.iter().map(|hit| (snapshot.id(hit.node).as_str(), hit.impact_ratio, hit.distance)).collect();
    assert_eq!(hits, [("checkout", 1.0, 1), ("report", 0.25, 1), ("gateway", 0.05, 2), ("spared", 0.0, 1)]);
    assert_eq!(names(&snapshot, &found.hits[2].path), ["gateway", "checkout", "payment"]);
    assert!(!found.truncated);

    let narrow = blast::Bounds { path_nodes_max: 5, ..BLAST };
    let cut = blast(&snapshot, at(&snapshot, "payment"), narrow).unwrap();
    assert_eq!((cut.hits.len(), cut.truncated), (2, true));
}

fn necessary(edges: impl IntoIterator<Item = Dependency>, root: &str) -> Vec<String> {
    let snapshot = graph(edges);
    let found = single_points(snapshot.needs(), at(&snapshot, root), 1_000);
    assert!(found.complete);
    names(&snapshot, &found.nodes).into_iter().map(str::to_owned).collect()
}

#[test]
fn a_single_point_of_failure_is_what_nothing_spares() {
    assert_eq!(necessary([hard("a", "b"), hard("b", "c"), soft("b", "d", 0.1), hard("d", "e")], "a"), ["b", "c"]);
    // Both spares stand on the same store.
    let spares = [in_group("a", "b", 1), in_group("a", "c", 1), hard("b", "store"), hard("c", "store"), hard("c", "d")];
    assert_eq!(necessary(spares, "a"), ["store"]);
    // Two of three must work: losing two of them at once is too many.
    let quorum = [in_group("a", "b", 2), in_group("a", "c", 2), in_group("a", "d", 2), hard("b", "x"), hard("c", "x")];
    assert_eq!(necessary(quorum, "a"), ["x"]);
    // A group that needs all its members is no redundancy.
    assert_eq!(necessary([in_group("a", "b", 2), in_group("a", "c", 2)], "a"), ["b", "c"]);
    assert_eq!(necessary([hard("a", "b"), hard("b", "a")], "a"), ["b"]);
    assert!(necessary([in_background("a", "b")], "a").is_empty());
}

#[test]
fn a_search_that_is_too_long_says_so() {
    let snapshot = graph([in_group("a", "b", 1), in_group("a", "c", 1), hard("b", "store"), hard("c", "store")]);
    let found = single_points(snapshot.needs(), at(&snapshot, "a"), 1);
    assert!(!found.complete);
}

#[test]
fn an_end_without_a_row_and_an_edge_to_itself_are_no_trouble() {
    let snapshot = Snapshot::build(vec![fixture::node("lonely")], vec![hard("a", "a"), hard("a", "b")]);
    assert_eq!((snapshot.nodes().len(), snapshot.edges().len()), (3, 1));
    assert_eq!(walked(&snapshot, "lonely", Heading::Both, None), listed(&[("lonely", 0)]));
    assert!(graph([]).nodes().is_empty());
}
