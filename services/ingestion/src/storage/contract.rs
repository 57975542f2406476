//! What the store promises of declarations, buckets, incidents and changes, on both databases.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, DependencyMode, EntityId, EntityKind, Ratio, Source, Tier};

use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{BucketSpan, Change, ChangeKind, DeclaredEdge, IncidentPosition, Store};
use crate::Error;
use crate::domain::{DependencyTerms, EntityDeclaration, Incident, IncidentDraft, SourceSet};

on_both_databases!(
    what_is_declared_is_read_back_and_declaring_it_again_changes_nothing,
    a_listed_edge_is_hard_unless_more_is_said,
    a_tenant_sees_only_its_own,
    a_full_tenant_gets_no_more,
    services_are_searched_and_paged_in_byte_order,
    every_kind_is_kept_and_found,
    buckets_are_replaced_and_replacing_them_by_themselves_changes_nothing,
    more_rows_than_a_statement_holds_are_all_kept,
    a_large_part_of_a_tenant_is_changed_like_a_small_one,
    incidents_are_replaced_and_listed_newest_first,
    changes_come_in_order_and_of_each_kind_the_newest_stays,
    a_follower_skips_nothing_while_many_write,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

fn listed(caller: &str, callee: &str) -> DeclaredEdge {
    DeclaredEdge { key: edge(caller, callee), said: DependencyTerms::default(), listed: true }
}

async fn a_large_part_of_a_tenant_is_changed_like_a_small_one(store: &Store) {
    let acme = tenant("acme");
    let name = |number: usize| format!("service-{number:04}");
    let edges = (1..1_900).map(|number| listed(&name(number), &name(number - 1))).collect();
    store.declare(&acme, Vec::new(), edges).await.expect("declared");
    // Some are named one by one; for most all are read.
    for part in [600, 1_500] {
        let owned =
            |number| EntityDeclaration { owner: Some("team".into()), ..EntityDeclaration::named(id(&name(number))) };
        let before = store.topology(&acme).await.expect("read");
        let own: Vec<EntityDeclaration> = (0..part).map(owned).collect();
        let twice = vec![listed(&name(part), &name(0)), listed(&name(part), &name(part - 1))];
        let version = store.declare(&acme, own.clone(), twice.clone()).await.expect("declared");
        assert_eq!(store.declare(&acme, own, twice).await.expect("declared"), version, "it changed nothing");
        let after = store.topology(&acme).await.expect("read");
        assert_eq!(after.dependencies.len(), before.dependencies.len() + 1);
        assert_eq!(after.entities.len(), 1_900);
        assert_eq!(after.entities.iter().filter(|entity| entity.owner() == Some("team")).count(), part);
    }
}

async fn what_is_declared_is_read_back_and_declaring_it_again_changes_nothing(store: &Store) {
    let acme = tenant("acme");
    let checkout = EntityDeclaration {
        display_name: Some("Checkout".into()),
        tier: Some(Tier::One),
        owner: Some("Päyments".into()),
        ..EntityDeclaration::named(id("checkout"))
    };
    let external = EntityDeclaration { kind: Some(EntityKind::External), ..EntityDeclaration::named(id("psp")) };
    let external = external.publish(Some(0.995)).expect("valid");
    let said = DependencyTerms {
        mode: Some(DependencyMode::Soft),
        call_rate: Some(1.5),
        call_fraction: Ratio::new("f", 0.25).ok(),
        fallback_success: Ratio::new("f", 0.1).ok(),
        retry_count: Some(2),
        timeout_ms: Some(800),
        protocol: Some("grpc".into()),
        redundancy_group: Some("psps".into()),
        redundancy_required_count: Some(1),
    };
    let edges =
        vec![DeclaredEdge { key: edge("checkout", "psp"), said: said.clone(), listed: false }, listed("psp", "db")];
    let entities = vec![checkout, external];
    let version = store.declare(&acme, entities.clone(), edges.clone()).await.expect("declared");

    let topology = store.topology(&acme).await.expect("read");
    assert_eq!(topology.version, version);
    let names: Vec<&str> = topology.entities.iter().map(|entity| entity.id.as_str()).collect();
    assert_eq!(names, ["checkout", "db", "psp"]);
    assert_eq!(topology.entities[0].owner.as_deref(), Some("Päyments"));
    assert_eq!(topology.entities[1].kind(), EntityKind::Service);
    assert_eq!(topology.entities[2].published_availability.map(Ratio::get), Some(0.995));
    assert_eq!(topology.dependencies[0].terms, said);
    assert_eq!(topology.dependencies[0].sources, SourceSet::from([Source::Declared]));
    assert_eq!(topology.dependencies[1].terms, DependencyTerms::hard());

    let before = store.changes_after(0, 100).await.expect("read");
    let again = store.declare(&acme, entities, edges).await.expect("declared");
    assert_eq!(again, version);
    assert_eq!(store.changes_after(0, 100).await.expect("read"), before);

    // Fields left out keep their value.
    let tier = EntityDeclaration { tier: Some(Tier::Two), ..EntityDeclaration::named(id("checkout")) };
    let newer = store.declare(&acme, vec![tier], Vec::new()).await.expect("declared");
    assert!(newer > version);
    let read = store.entity(&acme, &id("checkout")).await.expect("read").expect("known");
    assert_eq!((read.tier, read.display_name.as_deref()), (Some(Tier::Two), Some("Checkout")));
}

async fn a_listed_edge_is_hard_unless_more_is_said(store: &Store) {
    let acme = tenant("acme");
    let soft = DependencyTerms { mode: Some(DependencyMode::Soft), ..DependencyTerms::default() };
    let explicit = DeclaredEdge { key: edge("a", "b"), said: soft, listed: false };
    store.declare(&acme, Vec::new(), vec![listed("a", "b"), explicit, listed("a", "c")]).await.expect("declared");
    // A later list does not undo what was said.
    store.declare(&acme, Vec::new(), vec![listed("a", "b")]).await.expect("declared");
    let modes: Vec<_> =
        store.topology(&acme).await.expect("read").dependencies.into_iter().map(|d| d.terms.mode).collect();
    assert_eq!(modes, [Some(DependencyMode::Soft), Some(DependencyMode::Hard)]);
}

async fn a_tenant_sees_only_its_own(store: &Store) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    store.declare(&acme, Vec::new(), vec![listed("a", "b")]).await.expect("declared");
    store.replace_buckets(&acme, vec![(id("a"), bucket(1, 10, 1, None))]).await.expect("kept");
    store.put_incidents(&acme, vec![incident("INC-1", 5, &["a"])]).await.expect("kept");
    let topology = store.topology(&other).await.expect("read");
    assert!(topology.version == 0 && topology.entities.is_empty() && topology.dependencies.is_empty());
    assert!(store.entity(&other, &id("a")).await.expect("read").is_none());
    assert!(store.sli_page(&other, &id("a"), ALL, 10, true).await.expect("read").buckets.is_empty());
    assert!(store.incidents(&other, None, None, 10).await.expect("read").is_empty());
    assert!(store.change_heads(&other, &BTreeSet::from([id("a")])).await.expect("read").is_empty());
    assert_eq!(store.data_summary(&other, &id("a")).await.expect("read"), Default::default());
}

async fn a_full_tenant_gets_no_more(store: &Store) {
    let acme = tenant("acme");
    let many =
        |from: usize, to: usize| (from..to).map(|i| EntityDeclaration::named(id(&format!("s{i}")))).collect::<Vec<_>>();
    store.declare(&acme, many(0, 2_000), Vec::new()).await.expect("just fits");
    let refused = store.declare(&acme, many(1_999, 2_001), Vec::new()).await;
    assert!(matches!(refused, Err(Error::TenantFull { what: "entities", max: 2_000 })));
    store.declare(&acme, many(0, 10), Vec::new()).await.expect("known ones may be updated");
}

async fn services_are_searched_and_paged_in_byte_order(store: &Store) {
    let acme = tenant("acme");
    let named =
        |name: &str, owner: &str| EntityDeclaration { owner: Some(owner.into()), ..EntityDeclaration::named(id(name)) };
    let all = vec![
        named("b", "Team_X"),
        named("B", "team-x"),
        named("a-1", "other"),
        named("a1", "other"),
        named("a/1", "50%"),
    ];
    store.declare(&acme, all, Vec::new()).await.expect("declared");
    let names = |found: Vec<crate::domain::Entity>| found.into_iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
    let page = |query: &'static str, after: Option<&'static str>, limit| {
        let (store, acme) = (store.clone(), acme.clone());
        async move { store.entities(&acme, query, after.map(id).as_ref(), limit).await.expect("read") }
    };
    assert_eq!(names(page("", None, 10).await), ["B", "a-1", "a/1", "a1", "b"]);
    assert_eq!(names(page("", Some("a-1"), 2).await), ["a/1", "a1"]);
    assert_eq!(names(page("team_x", None, 10).await), ["b"]);
    assert_eq!(names(page("%", None, 10).await), ["a/1"]);
    assert_eq!(names(page("OTHER", None, 10).await), ["a-1", "a1"]);
    assert!(page("\\", None, 10).await.is_empty());
}

async fn every_kind_is_kept_and_found(store: &Store) {
    let acme = tenant("acme");
    let of_kind = |kind: EntityKind| EntityDeclaration { kind: Some(kind), ..EntityDeclaration::named(named_by(kind)) };
    let kinds = EntityKind::ALL.into_iter();
    store.declare(&acme, kinds.map(of_kind).collect(), Vec::new()).await.expect("declared");
    // More than are read at once, and what is looked for stands at both ends.
    let many = (0..700).map(|i| EntityDeclaration::named(id(&format!("many-{i:03}"))));
    store.declare(&acme, many.collect(), Vec::new()).await.expect("declared");
    let last = EntityDeclaration { kind: Some(EntityKind::Api), ..EntityDeclaration::named(id("zzz")) };
    store.declare(&acme, vec![last], Vec::new()).await.expect("declared");
    for kind in EntityKind::ALL {
        let read = store.entity(&acme, &named_by(kind)).await.expect("read").expect("known");
        assert_eq!((read.declared_kind, read.kind()), (Some(kind), kind));
        let found = store.entities_of_kind(&acme, ("k-", kind), None, 10).await.expect("read");
        assert_eq!(found.into_iter().map(|entity| entity.id).collect::<Vec<_>>(), [named_by(kind)]);
    }
    let apis = |after: Option<EntityId>, limit| {
        let (store, acme) = (store.clone(), acme.clone());
        async move {
            let found =
                store.entities_of_kind(&acme, ("", EntityKind::Api), after.as_ref(), limit).await.expect("read");
            found.into_iter().map(|entity| entity.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(apis(None, 10).await, [named_by(EntityKind::Api), id("zzz")]);
    assert_eq!(apis(None, 1).await, [named_by(EntityKind::Api)]);
    assert_eq!(apis(Some(named_by(EntityKind::Api)), 1).await, [id("zzz")]);
    assert_eq!(apis(Some(id("zzz")), 1).await, []);
}

fn named_by(kind: EntityKind) -> EntityId {
    id(&format!("k-{kind:?}"))
}

async fn buckets_are_replaced_and_replacing_them_by_themselves_changes_nothing(store: &Store) {
    let acme = tenant("acme");
    let first = vec![(id("a"), bucket(1, 10, 1, None)), (id("a"), bucket(2, 20, 2, Some(1)))];
    store.replace_buckets(&acme, first.clone()).await.expect("kept");
    let head = |service| {
        let (store, acme) = (store.clone(), acme.clone());
        async move { store.change_heads(&acme, &BTreeSet::from([id(service)])).await.expect("read").remove(0) }
    };
    let before = head("a").await;
    assert!(before.topology_sequence > 0, "a measured service is known");
    assert!(before.sli_sequence > before.topology_sequence);
    store.replace_buckets(&acme, first).await.expect("kept");
    assert_eq!(head("a").await, before);

    // The later one of a request stands.
    let again = vec![(id("a"), bucket(2, 5, 0, None)), (id("a"), bucket(2, 7, 3, None))];
    store.replace_buckets(&acme, again).await.expect("kept");
    assert!(head("a").await.sli_sequence > before.sli_sequence);
    let page = store.sli_page(&acme, &id("a"), ALL, 10, true).await.expect("read");
    let buckets: Vec<_> = page.buckets.iter().map(|merged| merged.bucket.clone()).collect();
    assert_eq!(buckets, [bucket(1, 10, 1, None), bucket(2, 7, 3, None)]);
    assert_eq!(page.buckets[0].sources, SourceSet::from([Source::Declared]));
    let without = store.sli_page(&acme, &id("a"), ALL, 10, false).await.expect("read");
    assert!(without.buckets.iter().all(|merged| merged.bucket.latency.is_none()));
    let summary = store.data_summary(&acme, &id("a")).await.expect("read");
    assert_eq!((summary.first_and_last_ms, summary.bucket_count), (Some((BUCKET_MS, 2 * BUCKET_MS)), 2));
    assert_eq!(summary.sources, BTreeSet::from([Source::Declared]));
    let entity = store.entity(&acme, &id("a")).await.expect("read").expect("known");
    assert_eq!((entity.kind(), entity.declared_kind), (EntityKind::Service, None));
}

async fn more_rows_than_a_statement_holds_are_all_kept(store: &Store) {
    let acme = tenant("acme");
    let edges: Vec<DeclaredEdge> = (0..777).map(|i| listed("hub", &format!("spoke-{i:03}"))).collect();
    store.declare(&acme, Vec::new(), edges).await.expect("declared");
    let topology = store.topology(&acme).await.expect("read");
    assert_eq!((topology.entities.len(), topology.dependencies.len()), (778, 777));
    assert!(topology.dependencies.is_sorted_by(|a, b| a.key < b.key));

    let rows = (1..=777).map(|n| (id("hub"), bucket(n, n as u64, 0, None))).collect();
    store.replace_buckets(&acme, rows).await.expect("kept");
    let mut read = Vec::new();
    let mut span = ALL;
    loop {
        let page = store.sli_page(&acme, &id("hub"), span, 100, true).await.expect("read");
        assert!(page.buckets.len() <= 100);
        read.extend(page.buckets.into_iter().map(|merged| merged.bucket.counts.valid()));
        let Some(next) = page.next_start_ms else { break };
        span.start_ms = next;
    }
    assert_eq!(read, (1..=777).collect::<Vec<u64>>());
}

fn incident(name: &str, start_ms: i64, services: &[&str]) -> Incident {
    let draft = IncidentDraft {
        id: name.into(),
        title: "Down".into(),
        service_ids: services.iter().map(ToString::to_string).collect(),
        start_ms,
        severity_ratio: Some(0.5),
        ..IncidentDraft::default()
    };
    draft.check(i64::MAX).expect("valid")
}

async fn incidents_are_replaced_and_listed_newest_first(store: &Store) {
    let acme = tenant("acme");
    let names = |found: Vec<Incident>| found.into_iter().map(|incident| incident.id).collect::<Vec<_>>();
    let all = vec![incident("C", 10, &["a", "b"]), incident("A", 20, &["a"]), incident("B", 10, &["b"])];
    store.put_incidents(&acme, all.clone()).await.expect("kept");
    assert_eq!(names(store.incidents(&acme, None, None, 10).await.expect("read")), ["A", "B", "C"]);
    let after = IncidentPosition { start_ms: 10, id: "B".into() };
    assert_eq!(names(store.incidents(&acme, None, Some(&after), 10).await.expect("read")), ["C"]);
    assert_eq!(names(store.incidents(&acme, Some(&id("a")), None, 1).await.expect("read")), ["A"]);
    let changes = store.changes_after(0, 100).await.expect("read");
    store.put_incidents(&acme, all).await.expect("kept");
    assert_eq!(store.changes_after(0, 100).await.expect("read"), changes);

    // Moved to another service and time: both services learn of it.
    let moved = Incident { cause: Some(id("d")), end_ms: Some(40), ..incident("A", 30, &["c"]) };
    store.put_incidents(&acme, vec![moved.clone()]).await.expect("kept");
    assert_eq!(store.incidents(&acme, None, None, 1).await.expect("read"), [moved]);
    assert_eq!(names(store.incidents(&acme, Some(&id("a")), None, 10).await.expect("read")), ["C"]);
    assert_eq!(names(store.incidents(&acme, Some(&id("d")), None, 10).await.expect("read")), ["A"]);
    let last = changes.last().expect("changes").sequence;
    let told: Vec<_> = store.changes_after(last, 100).await.expect("read").into_iter().map(|c| c.service).collect();
    assert_eq!(told, [id("a"), id("c"), id("d")]);
}

async fn changes_come_in_order_and_of_each_kind_the_newest_stays(store: &Store) {
    let acme = tenant("acme");
    store.declare(&acme, Vec::new(), vec![listed("a", "b")]).await.expect("declared");
    for valid in 1..=3 {
        store.replace_buckets(&acme, vec![(id("a"), bucket(1, valid, 0, None))]).await.expect("kept");
    }
    let changes = store.changes_after(0, 100).await.expect("read");
    let told: Vec<_> = changes.iter().map(|change| (change.kind, change.service.as_str())).collect();
    assert_eq!(told, [(ChangeKind::Topology, "a"), (ChangeKind::Topology, "b"), (ChangeKind::Sli, "a")]);
    assert!(changes.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert_eq!(store.changes_after(0, 1).await.expect("read"), changes[..1]);
    assert_eq!(store.changes_after(changes[1].sequence, 100).await.expect("read"), changes[2..]);
    let heads = store.change_heads(&acme, &BTreeSet::from([id("a"), id("b"), id("nobody")])).await.expect("read");
    let sequences: Vec<_> = heads.iter().map(|h| (h.topology_sequence, h.sli_sequence, h.incident_sequence)).collect();
    assert_eq!(sequences, [(changes[0].sequence, changes[2].sequence, 0), (changes[1].sequence, 0, 0)]);
}

async fn a_follower_skips_nothing_while_many_write(store: &Store) {
    const TENANTS: usize = 4;
    const WRITES: u64 = 12;
    let writers: Vec<_> = (0..TENANTS)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                let own = tenant(&format!("tenant-{i}"));
                for n in 1..=WRITES {
                    // A service of its own each time, so that no change overtakes another.
                    let row = (id(&format!("service-{n}")), bucket(1, n, 0, None));
                    store.replace_buckets(&own, vec![row]).await.expect("kept");
                }
            })
        })
        .collect();
    let mut seen: Vec<Change> = Vec::new();
    let mut wake = store.watch_changes();
    while seen.len() < TENANTS * WRITES as usize * 2 {
        wake.borrow_and_update();
        let after = seen.last().map_or(0, |change| change.sequence);
        let more = store.changes_after(after, 7).await.expect("read");
        if more.is_empty() {
            wake.changed().await.expect("the store lives");
        }
        seen.extend(more);
    }
    for writer in writers {
        writer.await.expect("written");
    }
    let sequences: Vec<u64> = seen.iter().map(|change| change.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    let mut by_tenant: BTreeMap<&str, usize> = BTreeMap::new();
    for change in &seen {
        *by_tenant.entry(change.tenant.as_str()).or_default() += 1;
    }
    assert!(by_tenant.values().all(|count| *count == WRITES as usize * 2), "{by_tenant:?}");
}
