//! A snapshot from the one before it is the one that is built from all rows, and shares with it what did not change.

#![allow(clippy::unwrap_used)]

mod fixture;

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_graph::domain::snapshot::{Dependency, Edge, Node, Snapshot, Terms};
use attain_graph::domain::update::Told;
use attain_vocabulary::{DependencyMode, EntityKind};
use fixture::{at, edge, hard, id, node, shop};
use proptest::prelude::*;

/// Rows as ingestion keeps them.
#[derive(Debug, Clone, Default)]
struct Rows {
    nodes: BTreeMap<usize, Node>,
    edges: BTreeMap<usize, BTreeMap<usize, Terms>>,
}

/// What becomes of one service.
#[derive(Debug, Clone)]
enum Change {
    Replaced {
        row: Option<Node>,
        outgoing: BTreeMap<usize, Terms>,
    },
    /// The same edges with other terms, cyclically.
    Terms(Vec<Terms>),
    /// The same edges, called more often.
    Counted(u64),
    Gone,
    Nothing,
}

fn name(number: usize) -> String {
    format!("n{number:02}")
}

impl Rows {
    fn change(&mut self, service: usize, change: &Change) {
        let outgoing = self.edges.entry(service).or_default();
        match change {
            Change::Replaced { row, outgoing: wanted } => {
                let with_row = |row| (service, Node { id: id(&name(service)), ..row });
                self.nodes.remove(&service);
                self.nodes.extend(row.clone().map(with_row));
                *outgoing = wanted.clone();
            }
            Change::Terms(terms) => {
                outgoing.values_mut().zip(terms.iter().cycle()).for_each(|(old, new)| *old = new.clone())
            }
            Change::Counted(count) => outgoing.values_mut().for_each(|terms| terms.observed_call_count += count),
            Change::Gone => {
                self.nodes.remove(&service);
                outgoing.clear();
            }
            Change::Nothing => {}
        }
    }

    fn told(&self, service: usize) -> Told {
        let outgoing = self.edges.get(&service).into_iter().flatten();
        Told {
            id: id(&name(service)),
            node: self.nodes.get(&service).cloned(),
            outgoing: outgoing.map(|(callee, terms)| (id(&name(*callee)), terms.clone())).collect(),
        }
    }

    fn built(&self) -> Snapshot {
        let edges = self.edges.iter().flat_map(|(caller, outgoing)| {
            outgoing.iter().map(|(callee, terms)| edge(&name(*caller), &name(*callee), terms.clone()))
        });
        Snapshot::build(self.nodes.values().cloned().collect(), edges.collect())
    }
}

fn terms() -> impl Strategy<Value = Terms> {
    let mode = prop_oneof![
        5 => Just(DependencyMode::Hard),
        2 => Just(DependencyMode::Soft),
        2 => Just(DependencyMode::Async)
    ];
    let group = prop::option::weighted(0.3, (prop_oneof![Just("g"), Just("h")], 1..4_u32));
    (mode, prop::option::of(0.0..1.0), group).prop_map(|(mode, call_fraction, group)| Terms {
        call_fraction,
        group: group.map(|(name, _)| name.to_owned()),
        group_required_count: group.map(|(_, count)| count),
        ..Terms::of_mode(mode)
    })
}

/// Of a service among so many. A callee may be of a name that nobody else has; edges to itself say nothing.
fn change(count: usize) -> impl Strategy<Value = (usize, Change)> {
    let outgoing = || prop::collection::btree_map(0..count + 2, terms(), 0..5);
    let kind = prop_oneof![3 => Just(EntityKind::Service), 1 => Just(EntityKind::System), 1 => Just(EntityKind::Api)];
    let row = (any::<bool>(), kind).prop_map(|(traced, kind)| Node { traced, kind, ..node("any") });
    let replaced = (prop::option::weighted(0.8, row), outgoing());
    let change = prop_oneof![
        4 => replaced.prop_map(|(row, outgoing)| Change::Replaced { row, outgoing }),
        3 => prop::collection::vec(terms(), 1..4).prop_map(Change::Terms),
        3 => (1..9_u64).prop_map(Change::Counted),
        2 => Just(Change::Gone),
        1 => Just(Change::Nothing),
    ];
    (0..count, change)
}

proptest! {
    #[test]
    fn an_update_is_what_is_built_from_all_rows(
        first in prop::collection::vec(change(9), 0..12),
        updates in prop::collection::vec(prop::collection::vec(change(9), 0..4), 1..7),
    ) {
        let mut rows = Rows::default();
        first.iter().for_each(|(service, change)| rows.change(*service, change));
        let mut snapshot = rows.built();
        for changes in &updates {
            changes.iter().for_each(|(service, change)| rows.change(*service, change));
            snapshot = snapshot.updated(changes.iter().map(|(service, _)| rows.told(*service)).collect());
            // Everything that it consists of.
            prop_assert_eq!(format!("{snapshot:#?}"), format!("{:#?}", rows.built()), "after {:?}", changes);
        }
    }
}

fn told(caller: &str, outgoing: Vec<Dependency>) -> Told {
    let outgoing = outgoing.into_iter().map(|edge| (edge.callee, edge.terms)).collect();
    Told { id: id(caller), node: None, outgoing }
}

fn called(caller: &str, callee: &str, count: u64) -> Dependency {
    edge(caller, callee, Terms { observed_call_count: count, ..Terms::of_mode(DependencyMode::Hard) })
}

fn of(snapshot: &Snapshot, caller: &str, callee: &str) -> Edge {
    snapshot.edge(snapshot.edge_between(at(snapshot, caller), at(snapshot, callee)).unwrap()).clone()
}

#[test]
fn where_only_counts_differ_everything_that_follows_from_structure_is_shared() {
    let before = shop();
    let after = before.updated(vec![told("auth-service", vec![called("auth-service", "user-db", 7)])]);
    assert_eq!(of(&after, "auth-service", "user-db").terms.observed_call_count, 7);
    assert_eq!(of(&before, "auth-service", "user-db").terms.observed_call_count, 0);
    assert!(std::ptr::eq(before.nodes(), after.nodes()));
    assert!(std::ptr::eq(before.all(), after.all()) && std::ptr::eq(before.request_path(), after.request_path()));
    assert!(std::ptr::eq(before.cycles(), after.cycles()) && std::ptr::eq(before.chains(), after.chains()));
    assert!(Arc::ptr_eq(before.needs(), after.needs()));
    let others = ["payment-service", "external-payment-api"];
    let terms = [&before, &after].map(|snapshot| of(snapshot, others[0], others[1]).terms);
    assert!(Arc::ptr_eq(&terms[0], &terms[1]));
}

#[test]
fn where_terms_differ_the_structure_is_shared_and_the_callers_needs_are_new() {
    let cycle = [hard("a", "b"), hard("b", "a"), hard("c", "a")];
    let before = Snapshot::build(Vec::new(), cycle.to_vec());
    assert!(before.cycles()[0].bootstrap_hazard);
    let after = before.updated(vec![told("b", vec![fixture::soft("b", "a", 0.9)])]);
    assert!(std::ptr::eq(before.all(), after.all()) && std::ptr::eq(before.chains(), after.chains()));
    assert!(!after.cycles()[0].bootstrap_hazard, "b starts without a");
    let needs = |snapshot: &Snapshot, caller: &str| snapshot.needs().of_caller(at(snapshot, caller)).as_ptr();
    assert_eq!(needs(&before, "c"), needs(&after, "c"));
    assert_ne!(needs(&before, "b"), needs(&after, "b"));
    // An asynchronous call is none that a request waits for.
    let after = before.updated(vec![told("b", vec![fixture::in_background("b", "a")])]);
    assert!(std::ptr::eq(before.all(), after.all()) && !std::ptr::eq(before.request_path(), after.request_path()));
    assert_eq!((after.chains().depth(at(&after, "c")), after.request_path().callees(at(&after, "b")).len()), (2, 0));
}

#[test]
fn what_nobody_names_any_more_is_gone_and_what_is_named_stays() {
    let before = shop();
    let after = before.updated(vec![told("payment-service", Vec::new())]);
    assert!(after.find("external-payment-api").is_none() && after.find("payment-service").is_some());
    assert_eq!(after.edges().len(), before.edges().len() - 1);
    // With a row of its own it would have stayed; told of as gone, it stays as long as somebody calls it.
    let with_row =
        Snapshot::build(vec![node("external-payment-api")], vec![hard("payment-service", "external-payment-api")]);
    let called = with_row.updated(vec![told("external-payment-api", Vec::new())]);
    assert_eq!(called.nodes().len(), 2);
    let left = with_row.updated(vec![told("payment-service", Vec::new())]);
    assert_eq!(left.nodes().iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["external-payment-api"]);
    assert!(left.updated(vec![told("external-payment-api", Vec::new())]).nodes().is_empty());
}
