//! What the graph says against itself.

mod fixture;

use attain_graph::domain::findings::findings;
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_vocabulary::{DependencyMode, EntityKind};
use fixture::{at, edge, hard, in_group, node, soft};

/// Nothing to complain about: declared, seen, and its call fraction known.
fn clean(mode: DependencyMode) -> Terms {
    Terms { call_fraction: Some(1.0), declared: true, traced: true, observed_call_count: 1_000, ..Terms::of_mode(mode) }
}

fn codes(nodes: Vec<Node>, edges: Vec<Dependency>) -> Vec<&'static str> {
    let snapshot = Snapshot::build(nodes, edges);
    let mut codes: Vec<_> = findings(&snapshot, at(&snapshot, "a"), 50).into_iter().map(|found| found.code).collect();
    codes.sort_unstable();
    codes
}

fn of_edge(terms: Terms) -> Vec<&'static str> {
    codes(Vec::new(), vec![edge("a", "b", terms)])
}

#[test]
fn each_doubt_has_its_code() {
    use DependencyMode::{Async, Hard, Soft};
    let failures = |mode, failures, rescued| Terms {
        observed_failure_count: Some(failures),
        observed_rescued_count: Some(rescued),
        ..clean(mode)
    };
    let cases: Vec<(Terms, &[&str])> = vec![
        (clean(Hard), &[]),
        (Terms { call_fraction: None, ..clean(Hard) }, &["call_fraction_unknown"]),
        (Terms { call_fraction: None, call_rate: Some(0.4), ..clean(Hard) }, &[]),
        (Terms { call_fraction: None, ..clean(Async) }, &[]),
        (failures(Hard, 30, 1), &["hard_with_observed_fallback"]),
        (failures(Hard, 30, 0), &[]),
        (Terms { fallback_success_ratio: Some(0.5), ..clean(Hard) }, &["hard_with_declared_fallback"]),
        (failures(Soft, 19, 19), &["soft_without_fallback"]),
        (failures(Soft, 20, 10), &[]),
        (Terms { observed_rescued_count: None, ..failures(Soft, 400, 0) }, &["soft_without_fallback"]),
        (Terms { observed_rescued_count: None, fallback_success_ratio: Some(0.99), ..failures(Soft, 400, 0) }, &[]),
        (Terms { fallback_success_ratio: Some(0.99), ..failures(Soft, 400, 200) }, &["fallback_weaker_than_declared"]),
        (Terms { fallback_success_ratio: Some(0.5), ..failures(Soft, 400, 200) }, &[]),
    ];
    for (terms, expected) in cases {
        assert_eq!(of_edge(terms.clone()), expected, "{terms:?}");
    }
}

#[test]
fn declared_and_observed_are_compared_where_both_could_be() {
    let unseen = Terms { traced: false, observed_call_count: 0, ..clean(DependencyMode::Hard) };
    let undeclared = Terms { declared: false, ..clean(DependencyMode::Hard) };
    // Nobody traces a: silence proves nothing.
    assert!(of_edge(unseen.clone()).is_empty());
    let traced = Node { traced: true, ..node("a") };
    assert_eq!(codes(vec![traced], vec![edge("a", "b", unseen.clone())]), ["declared_never_observed"]);
    // Nobody declares a: there is nothing to leave out.
    assert!(of_edge(undeclared.clone()).is_empty());
    let both = vec![edge("a", "b", clean(DependencyMode::Hard)), edge("a", "c", undeclared)];
    assert_eq!(codes(Vec::new(), both), ["observed_never_declared"]);
}

#[test]
fn an_external_party_nobody_knows_is_named() {
    let external =
        |published| Node { kind: EntityKind::External, published_availability_ratio: published, ..node("b") };
    let unseen = Terms { traced: false, observed_call_count: 0, ..clean(DependencyMode::Hard) };
    let with = |published, terms| codes(vec![external(published)], vec![edge("a", "b", terms)]);
    assert_eq!(with(None, unseen.clone()), ["external_availability_unknown"]);
    assert!(with(Some(0.999), unseen).is_empty());
    assert!(with(None, clean(DependencyMode::Hard)).is_empty());
}

#[test]
fn cycles_and_groups_that_contradict_themselves_are_named() {
    let fraction = |mut dependency: Dependency| {
        dependency.terms.call_fraction = Some(1.0);
        dependency
    };
    let ring = |back: Dependency| codes(Vec::new(), vec![fraction(hard("a", "b")), fraction(back)]);
    assert_eq!(ring(hard("b", "a")), ["bootstrap_hazard"]);
    assert_eq!(ring(soft("b", "a", 0.9)), ["dependency_cycle"]);
    let group = |counts: &[u32]| {
        let members = ["b", "c", "d"].iter().zip(counts);
        codes(Vec::new(), members.map(|(callee, &count)| fraction(in_group("a", callee, count))).collect())
    };
    assert!(group(&[1, 1]).is_empty());
    assert_eq!(group(&[1]), ["redundancy_group_of_one"]);
    assert_eq!(group(&[3, 3]), ["redundancy_group_too_small"]);
    assert_eq!(group(&[1, 2, 1]), ["redundancy_count_contradicts"]);
}

#[test]
fn findings_end_at_the_bound_and_say_so() {
    let snapshot = fixture::shop();
    let found = findings(&snapshot, at(&snapshot, "api-gateway"), 3);
    let codes: Vec<_> = found.iter().map(|finding| finding.code).collect();
    assert_eq!(
        codes,
        ["call_fraction_unknown", "call_fraction_unknown", "call_fraction_unknown", "findings_truncated"]
    );
}
