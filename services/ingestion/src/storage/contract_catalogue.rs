//! What the store promises of a catalogue, on both databases.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, EntityKind, Source, Tier};

use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{CatalogueEntry, CatalogueOutcome, CatalogueProblem, CatalogueSnapshot, DeclaredEdge, Store};
use crate::Error;
use crate::domain::{
    CatalogueWords, DependencyTerms, EntityDeclaration, ObservationBatch, ObservedEdge, Sightings, SourceSet,
};

on_both_databases!(
    a_sweep_is_taken_over_and_the_same_sweep_changes_nothing,
    what_the_catalogue_says_stands_behind_what_people_declare,
    what_the_catalogue_holds_no_more_is_taken_back,
    what_others_know_survives_the_catalogue,
    a_sweep_that_lost_too_much_is_not_applied,
    the_same_entities_understood_otherwise_are_taken_over_again,
    a_full_tenant_takes_nothing_of_a_sweep,
    in_a_full_tenant_a_sweep_may_move_an_edge,
    a_catalogue_is_of_one_tenant,
    a_large_catalogue_is_kept_whole,
);

const NOW_MS: i64 = 1_793_000_000_000;
const APPLIED_ALL: CatalogueOutcome = CatalogueOutcome::Applied { added_count: 3, gone_count: 0 };

/// Components by name with the version of each, and edges.
pub(super) fn snapshot(components: &[(&str, &str)], edges: &[(&str, &str)]) -> CatalogueSnapshot {
    let reference = |name: &str| format!("component:default/{name}");
    let entry = |(name, etag): &(&str, &str)| {
        (reference(name), CatalogueEntry { etag: (*etag).to_owned(), service: Some(id(name)) })
    };
    let words = |(name, etag): &(&str, &str)| {
        let words = CatalogueWords {
            reference: reference(name),
            display_name: Some(format!("{name} {etag}")),
            kind: Some(EntityKind::Service),
            tier: Some(Tier::Two),
            owner: Some("Crew".into()),
            system: Some("parcels".into()),
            lifecycle: Some("production".into()),
        };
        (id(name), words)
    };
    CatalogueSnapshot {
        understanding: "1".into(),
        entries: components.iter().map(entry).collect(),
        words: components.iter().map(words).collect(),
        edges: edges.iter().map(|(from, to)| (edge(from, to), DependencyTerms::default())).collect(),
        problems: vec![CatalogueProblem { code: "tier_unknown".into(), count: 2, examples: vec!["gold".into()] }],
    }
}

pub(super) fn three() -> CatalogueSnapshot {
    let mut three = snapshot(&[("a", "1"), ("b", "1"), ("c", "1")], &[("a", "b"), ("b", "c"), ("a", "c")]);
    let system = CatalogueEntry { etag: "1".into(), service: None };
    three.entries.insert("system:default/parcels".into(), system);
    three
}

pub(super) async fn apply(store: &Store, tenant_name: &str, snapshot: &CatalogueSnapshot) -> CatalogueOutcome {
    store.apply_catalogue(&tenant(tenant_name), snapshot, 0.5, NOW_MS).await.expect("applied")
}

async fn names_and_edges(store: &Store, tenant_name: &str) -> (Vec<String>, Vec<(String, String)>) {
    let topology = store.topology(&tenant(tenant_name)).await.expect("read");
    let edges = topology.dependencies.iter();
    (
        topology.entities.iter().map(|entity| entity.id.to_string()).collect(),
        edges.map(|edge| (edge.key.caller().to_string(), edge.key.callee().to_string())).collect(),
    )
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

async fn a_sweep_is_taken_over_and_the_same_sweep_changes_nothing(store: &Store) {
    assert_eq!(store.applied_sweep(&tenant("acme")).await.expect("read"), None);
    assert_eq!(apply(store, "acme", &three()).await, APPLIED_ALL);
    let (names, edges) = names_and_edges(store, "acme").await;
    assert_eq!(
        (names, edges),
        (vec!["a".into(), "b".into(), "c".into()], pairs(&[("a", "b"), ("a", "c"), ("b", "c")]))
    );
    let read = store.entity(&tenant("acme"), &id("a")).await.expect("read").expect("known");
    assert_eq!(read.catalogue.as_ref(), three().words.get(&id("a")));
    assert_eq!(read.sources, BTreeSet::from([Source::Catalogue]));
    let found = store.entities(&tenant("acme"), "crew", None, 10).await.expect("read");
    assert_eq!(found.len(), 3, "searched by the catalogue's owner");
    let sweep = store.applied_sweep(&tenant("acme")).await.expect("read").expect("applied");
    assert_eq!((sweep.applied_ms, sweep.entity_count, sweep.service_count, sweep.dependency_count), (NOW_MS, 4, 3, 3));
    assert_eq!(sweep.problems, three().problems);

    let before = store.changes_after(0, 100).await.expect("read");
    assert_eq!(before.len(), 3);
    let again = store.apply_catalogue(&tenant("acme"), &three(), 0.5, NOW_MS + 5).await.expect("applied");
    assert_eq!(again, CatalogueOutcome::Unchanged);
    assert_eq!(store.changes_after(0, 100).await.expect("read"), before);
    let sweep = store.applied_sweep(&tenant("acme")).await.expect("read").expect("applied");
    assert_eq!(sweep.applied_ms, NOW_MS);

    // Of a change only what it touches is written.
    let mut newer = three();
    newer.entries.extend(snapshot(&[("c", "2")], &[]).entries);
    newer.words.extend(snapshot(&[("c", "2")], &[]).words);
    newer.edges.remove(&edge("b", "c"));
    assert_eq!(apply(store, "acme", &newer).await, CatalogueOutcome::Applied { added_count: 0, gone_count: 0 });
    let last = before.last().expect("some").sequence;
    let touched = store.changes_after(last, 100).await.expect("read");
    assert_eq!(touched.iter().map(|change| change.service.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

async fn what_the_catalogue_says_stands_behind_what_people_declare(store: &Store) {
    let acme = tenant("acme");
    let declared = EntityDeclaration {
        tier: Some(Tier::One),
        kind: Some(EntityKind::External),
        ..EntityDeclaration::named(id("a"))
    };
    let soft = DependencyTerms { mode: Some(DependencyMode::Soft), ..DependencyTerms::default() };
    let said = DeclaredEdge { key: edge("a", "b"), said: soft, listed: false };
    store.declare(&acme, vec![declared], vec![said]).await.expect("declared");
    let mut three = three();
    let asynchronous = DependencyTerms {
        mode: Some(DependencyMode::Async),
        protocol: Some("grpc".into()),
        ..DependencyTerms::default()
    };
    three.edges.insert(edge("a", "b"), asynchronous);
    apply(store, "acme", &three).await;
    let read = store.entity(&acme, &id("a")).await.expect("read").expect("known");
    assert_eq!((read.tier(), read.kind(), read.owner()), (Some(Tier::One), EntityKind::External, Some("Crew")));
    let edges = store.topology(&acme).await.expect("read").dependencies;
    assert_eq!((edges[0].terms.mode, edges[0].terms.protocol.as_deref()), (Some(DependencyMode::Soft), Some("grpc")));
    assert_eq!(edges[0].sources, SourceSet::from([Source::Declared, Source::Catalogue]));
}

async fn what_the_catalogue_holds_no_more_is_taken_back(store: &Store) {
    apply(store, "acme", &three()).await;
    let before = store.changes_after(0, 100).await.expect("read").last().expect("some").sequence;
    let mut fewer = three();
    fewer.entries.remove("component:default/c");
    fewer.words.remove(&id("c"));
    fewer.edges.retain(|key, _| key.callee() != &id("c"));
    assert_eq!(apply(store, "acme", &fewer).await, CatalogueOutcome::Applied { added_count: 0, gone_count: 1 });
    assert_eq!(names_and_edges(store, "acme").await, (vec!["a".into(), "b".into()], pairs(&[("a", "b")])));
    assert!(store.entity(&tenant("acme"), &id("c")).await.expect("read").is_none());
    let told: Vec<String> =
        store.changes_after(before, 100).await.expect("read").into_iter().map(|change| change.service.into()).collect();
    assert_eq!(told, ["a", "b", "c"], "who follows the log hears of the node and of both its callers");
    // It comes back as it was.
    assert_eq!(apply(store, "acme", &three()).await, CatalogueOutcome::Applied { added_count: 1, gone_count: 0 });
    assert_eq!(names_and_edges(store, "acme").await.1, pairs(&[("a", "b"), ("a", "c"), ("b", "c")]));
}

async fn what_others_know_survives_the_catalogue(store: &Store) {
    let acme = tenant("acme");
    let names = ["traced", "declared", "listed", "measured", "caller"];
    let all: Vec<(&str, &str)> = names.iter().map(|name| (*name, "1")).chain([("a", "1"), ("only", "1")]).collect();
    let edges = [("caller", "traced"), ("a", "only"), ("a", "traced")];
    apply(store, "acme", &snapshot(&all, &edges)).await;
    let sightings = Sightings { call_count: 3, ..Sightings::default() };
    let seen = ObservedEdge {
        key: edge("caller", "traced"),
        source: Source::Traces,
        asynchronous: None,
        protocol: None,
        sightings,
    };
    let batch = ObservationBatch { edges: vec![seen], ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch).await.expect("observed");
    let listed = DeclaredEdge { key: edge("declared", "listed"), said: DependencyTerms::default(), listed: true };
    store.declare(&acme, Vec::new(), vec![listed]).await.expect("declared");
    store.replace_buckets(&acme, vec![(id("measured"), bucket(1, 10, 1, None))]).await.expect("kept");

    let everything_gone = store.apply_catalogue(&acme, &snapshot(&[], &[]), 1.0, NOW_MS).await.expect("applied");
    assert_eq!(everything_gone, CatalogueOutcome::Applied { added_count: 0, gone_count: 7 });
    let topology = store.topology(&acme).await.expect("read");
    let sources: BTreeMap<&str, &BTreeSet<Source>> =
        topology.entities.iter().map(|entity| (entity.id.as_str(), &entity.sources)).collect();
    let (declared, traces) = (BTreeSet::from([Source::Declared]), BTreeSet::from([Source::Traces]));
    let expected = [
        ("caller", &traces),
        ("declared", &declared),
        ("listed", &declared),
        ("measured", &declared),
        ("traced", &traces),
    ];
    assert_eq!(sources, BTreeMap::from(expected));
    assert!(topology.entities.iter().all(|entity| entity.catalogue.is_none() && entity.owner().is_none()));
    let kept: Vec<&str> = topology.dependencies.iter().map(|edge| edge.key.caller().as_str()).collect();
    assert_eq!(kept, ["caller", "declared"]);
    assert!(topology.dependencies.iter().all(|edge| edge.sources.iter().all(|source| source != Source::Catalogue)));
}

async fn a_sweep_that_lost_too_much_is_not_applied(store: &Store) {
    apply(store, "acme", &three()).await;
    let before = (names_and_edges(store, "acme").await, store.changes_after(0, 100).await.expect("read"));
    let one = snapshot(&[("a", "1"), ("new", "1")], &[]);
    for (fewer, gone_count) in [(one, 3), (snapshot(&[], &[]), 4)] {
        let outcome = apply(store, "acme", &fewer).await;
        assert_eq!(outcome, CatalogueOutcome::Shrunken { gone_count, known_count: 4 });
        let after = (names_and_edges(store, "acme").await, store.changes_after(0, 100).await.expect("read"));
        assert_eq!(after, before);
    }
    // Just half is believed.
    let half = snapshot(&[("a", "1"), ("b", "1")], &[("a", "b")]);
    assert_eq!(apply(store, "acme", &half).await, CatalogueOutcome::Applied { added_count: 0, gone_count: 1 });
    // The first sweep of an empty catalogue has nothing to lose.
    let applied = apply(store, "other", &snapshot(&[], &[])).await;
    assert_eq!(applied, CatalogueOutcome::Applied { added_count: 0, gone_count: 0 });
}

async fn the_same_entities_understood_otherwise_are_taken_over_again(store: &Store) {
    apply(store, "acme", &three()).await;
    let mut renamed = CatalogueSnapshot { understanding: "2".into(), ..three() };
    let words = renamed.words.remove(&id("c")).expect("there");
    renamed.words.insert(id("default/c"), words);
    renamed.edges = BTreeMap::from([(edge("a", "default/c"), DependencyTerms::default())]);
    let entry = renamed.entries.get_mut("component:default/c").expect("there");
    entry.service = Some(id("default/c"));
    assert_eq!(apply(store, "acme", &renamed).await, CatalogueOutcome::Applied { added_count: 1, gone_count: 1 });
    let expected = (vec!["a".into(), "b".into(), "default/c".into()], pairs(&[("a", "default/c")]));
    assert_eq!(names_and_edges(store, "acme").await, expected);
}

async fn a_full_tenant_takes_nothing_of_a_sweep(store: &Store) {
    let acme = tenant("acme");
    let many = (0..1_999).map(|i| EntityDeclaration::named(id(&format!("s{i}")))).collect();
    store.declare(&acme, many, Vec::new()).await.expect("just fits");
    let before = store.topology(&acme).await.expect("read");
    let refused = store.apply_catalogue(&acme, &three(), 0.5, NOW_MS).await;
    assert!(matches!(refused, Err(Error::TenantFull { what: "entities", max: 2_000 })));
    assert_eq!(store.topology(&acme).await.expect("read"), before);
    assert_eq!(store.applied_sweep(&acme).await.expect("read"), None);
}

async fn in_a_full_tenant_a_sweep_may_move_an_edge(store: &Store) {
    let acme = tenant("acme");
    let listed = |i: usize| DeclaredEdge {
        key: edge(&format!("s{}", i / 50), &format!("s{}", 50 + i % 50)),
        said: DependencyTerms::default(),
        listed: true,
    };
    store.declare(&acme, Vec::new(), (0..1_999).map(listed).collect()).await.expect("room for one more");
    let sweep = |etag, edges: &[(&str, &str)]| snapshot(&[("a", etag), ("b", etag)], edges);
    apply(store, "acme", &sweep("1", &[("a", "b")])).await;
    let moved = apply(store, "acme", &sweep("2", &[("b", "a")])).await;
    assert_eq!(moved, CatalogueOutcome::Applied { added_count: 0, gone_count: 0 });
    let (_, edges) = names_and_edges(store, "acme").await;
    assert_eq!(edges.len(), 2_000);
    assert!(edges.contains(&("b".to_owned(), "a".to_owned())) && !edges.contains(&("a".to_owned(), "b".to_owned())));
    let both = store.apply_catalogue(&acme, &sweep("3", &[("a", "b"), ("b", "a")]), 0.5, NOW_MS).await;
    assert!(matches!(both, Err(Error::TenantFull { what: "dependencies", max: 2_000 })));
}

async fn a_catalogue_is_of_one_tenant(store: &Store) {
    apply(store, "acme", &three()).await;
    apply(store, "other", &snapshot(&[("a", "1")], &[])).await;
    let gone = store.apply_catalogue(&tenant("other"), &snapshot(&[], &[]), 1.0, NOW_MS).await.expect("applied");
    assert_eq!(gone, CatalogueOutcome::Applied { added_count: 0, gone_count: 1 });
    assert_eq!(names_and_edges(store, "acme").await.0.len(), 3);
    assert_eq!(apply(store, "acme", &three()).await, CatalogueOutcome::Unchanged);
}

async fn a_large_catalogue_is_kept_whole(store: &Store) {
    let names: Vec<String> = (0..1_200).map(|i| format!("s{i}")).collect();
    let components: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let edges: Vec<(&str, &str)> = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    apply(store, "acme", &snapshot(&components, &edges)).await;
    let (kept, kept_edges) = names_and_edges(store, "acme").await;
    assert_eq!((kept.len(), kept_edges.len()), (1_200, 1_199));
    let outcome = apply(store, "acme", &snapshot(&components[..700], &edges[..699])).await;
    assert_eq!(outcome, CatalogueOutcome::Applied { added_count: 0, gone_count: 500 });
    let (kept, kept_edges) = names_and_edges(store, "acme").await;
    assert_eq!((kept.len(), kept_edges.len()), (700, 699));
}
