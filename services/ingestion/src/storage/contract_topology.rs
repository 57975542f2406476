//! What the store promises to whoever holds a version of a topology, on both databases.

use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, DAY_MS, DependencyMode, EntityKind, Source, TenantId, Tier};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::contract_catalogue::{apply, snapshot};
use super::testing::{CAPACITY, bucket, edge, id, on_both_databases, tenant};
use super::{Capacity, DeclaredEdge, HandedTopology, HeldVersion, Store, Topology, epochs};
use crate::domain::{
    BucketMode, DayCalls, DependencyTerms, EntityDeclaration, ObservationBatch, ObservedBucket, ObservedEdge,
    ObservedEntity, RequestDays, Sightings,
};

on_both_databases!(
    a_part_on_top_of_its_base_is_the_whole,
    a_part_tells_of_what_changed_and_of_what_is_gone,
    a_version_of_another_start_is_answered_as_a_whole,
    where_most_changed_the_whole_is_handed_out,
);

/// Writes of one tenant, and tenants.
const WRITES: usize = 14;
const TENANTS: usize = 12;
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

/// One write; services by their places among the names.
#[derive(Debug, Clone)]
enum Written {
    Declared { services: Vec<(usize, usize)>, edges: Vec<(usize, usize, bool)> },
    Seen { source: Source, day: i64, edges: Vec<(usize, usize, u64)>, requests: Vec<(usize, u64)> },
    Catalogued { components: Vec<(usize, usize)>, edges: Vec<(usize, usize)> },
    Measured(usize),
}

fn written() -> impl Strategy<Value = Written> {
    let of = || 0..NAMES.len();
    let few = 0..4_usize;
    let declared = (
        prop::collection::vec((of(), 0..3_usize), few.clone()),
        prop::collection::vec((of(), of(), any::<bool>()), few.clone()),
    );
    let source = prop::sample::select(vec![Source::Traces, Source::Prometheus, Source::ServiceGraph]);
    let seen = (
        (source, 0..60_i64),
        prop::collection::vec((of(), of(), 1..9_u64), few.clone()),
        prop::collection::vec((of(), 1..99_u64), few),
    );
    let catalogued = (
        prop::collection::btree_map(of(), 0..3_usize, 1..6),
        prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    );
    prop_oneof![
        3 => declared.prop_map(|(services, edges)| Written::Declared { services, edges }),
        4 => seen.prop_map(|((source, day), edges, requests)| Written::Seen { source, day, edges, requests }),
        2 => catalogued.prop_map(|(components, edges)| {
            let components: Vec<_> = components.into_iter().collect();
            let of = |index: prop::sample::Index| index.get(&components).0;
            let edges = edges.into_iter().map(|(from, to)| (of(from), of(to))).collect();
            Written::Catalogued { components, edges }
        }),
        1 => of().prop_map(Written::Measured),
    ]
}

async fn write(store: &Store, tenant: &TenantId, written: &Written) {
    let ends = |from: usize, to: usize| (from != to).then(|| edge(NAMES[from], NAMES[to]));
    match written {
        Written::Declared { services, edges } => {
            let service = |(name, owner): &(usize, usize)| EntityDeclaration {
                owner: Some(format!("team {owner}")),
                tier: (*owner == 1).then_some(Tier::One),
                ..EntityDeclaration::named(id(NAMES[*name]))
            };
            let declared = |(from, to, soft): &(usize, usize, bool)| {
                let said = DependencyTerms { mode: soft.then_some(DependencyMode::Soft), ..DependencyTerms::default() };
                Some(DeclaredEdge { key: ends(*from, *to)?, said, listed: !soft })
            };
            let edges = edges.iter().filter_map(declared).collect();
            store.declare(tenant, services.iter().map(service).collect(), edges).await.expect("declared");
        }
        Written::Seen { source, day, edges, requests } => {
            let sightings = |count: u64| Sightings {
                first_seen_ms: Some(day * DAY_MS),
                last_seen_ms: Some(day * DAY_MS + BUCKET_MS),
                call_count: count,
                calling_request_count: count,
                failure_count: (count > 4).then_some(1),
                days: BTreeMap::from([(*day, DayCalls { call_count: count, calling_request_count: count })]),
                ..Sightings::default()
            };
            let seen = |(from, to, count): &(usize, usize, u64)| {
                let (source, sightings) = (*source, sightings(*count));
                Some(ObservedEdge { key: ends(*from, *to)?, source, asynchronous: None, protocol: None, sightings })
            };
            let requested =
                requests.iter().map(|(name, count)| (id(NAMES[*name]), RequestDays::from([(*day, *count)])));
            let entity = |(name, count): &(usize, u64)| ObservedEntity {
                id: id(NAMES[*name]),
                kind: (*count > 50).then_some(EntityKind::Datastore),
                source: *source,
                request_count: *count,
            };
            let batch = ObservationBatch {
                edges: edges.iter().filter_map(seen).collect(),
                entities: requests.iter().map(entity).collect(),
                requests: requested.collect(),
                ..ObservationBatch::default()
            };
            store.observe(tenant, &[], |_| batch).await.expect("applied");
        }
        Written::Catalogued { components, edges } => {
            let etags = ["1", "2", "3"];
            let components: Vec<_> = components.iter().map(|(name, etag)| (NAMES[*name], etags[*etag])).collect();
            let edges: Vec<_> = edges.iter().filter(|(from, to)| from != to).collect();
            let edges: Vec<_> = edges.iter().map(|(from, to)| (NAMES[*from], NAMES[*to])).collect();
            let snapshot = snapshot(&components, &edges);
            // Whatever share of the catalogue is gone.
            store.apply_catalogue(tenant, &snapshot, 1.0, 5).await.expect("applied");
        }
        Written::Measured(name) => {
            let observed = ObservedBucket {
                service: id(NAMES[*name]),
                source: Source::Prometheus,
                mode: BucketMode::Replace,
                bucket: bucket(3, 9, 1, None),
            };
            let batch = ObservationBatch { buckets: vec![observed], ..ObservationBatch::default() };
            store.observe(tenant, &[], |_| batch).await.expect("applied");
        }
    }
}

/// What is handed out, as a topology, and what else is told.
async fn handed(store: &Store, tenant: &TenantId, held: Option<HeldVersion<'_>>) -> (Topology, HandedTopology) {
    let (mut entities, mut dependencies) = (Vec::new(), Vec::new());
    let (node, edge) = (|entity| entities.push(entity), |dependency| dependencies.push(dependency));
    let handed = store.visit_topology(tenant, held, node, edge).await.expect("read");
    (Topology { version: handed.version, entities, dependencies }, handed)
}

/// A part on top of the topology that it is a part of.
fn joined(base: &Topology, (part, told): (Topology, HandedTopology)) -> Topology {
    let Some(changed) = told.changed else { return part };
    assert!(part.entities.iter().all(|entity| changed.contains(&entity.id)), "{changed:?}");
    assert!(part.dependencies.iter().all(|dependency| changed.contains(dependency.key.caller())), "{changed:?}");
    let kept = base.entities.iter().filter(|entity| !changed.contains(&entity.id));
    let mut entities: Vec<_> = kept.cloned().chain(part.entities).collect();
    entities.sort_by(|a, b| a.id.cmp(&b.id));
    let kept = base.dependencies.iter().filter(|dependency| !changed.contains(dependency.key.caller()));
    let mut dependencies: Vec<_> = kept.cloned().chain(part.dependencies).collect();
    dependencies.sort_by(|a, b| a.key.cmp(&b.key));
    Topology { version: part.version, entities, dependencies }
}

async fn a_part_on_top_of_its_base_is_the_whole(store: &Store) {
    let mut runner = TestRunner::deterministic();
    let writes = prop::collection::vec(written(), WRITES);
    let mut part_count = 0;
    for number in 0..TENANTS {
        let acme = tenant(&format!("acme-{number}"));
        let writes = writes.new_tree(&mut runner).expect("drawn").current();
        let mut held: Vec<(Topology, String)> = Vec::new();
        for (place, written) in writes.iter().enumerate() {
            write(store, &acme, written).await;
            let (whole, told) = handed(store, &acme, None).await;
            assert_eq!(told.changed, None);
            for (base, epoch) in &held {
                let part = handed(store, &acme, Some(HeldVersion { version: base.version, epoch })).await;
                part_count += usize::from(part.1.changed.is_some());
                assert_eq!(joined(base, part), whole, "from {} after {:?}", base.version, &writes[..=place]);
            }
            held.push((whole, told.epoch));
        }
    }
    // Only before the first write of topology there is nothing to be a part of.
    let pairs = TENANTS * WRITES * (WRITES - 1) / 2;
    assert!(part_count > pairs * 9 / 10, "{part_count} of {pairs} were parts");
}

async fn a_part_tells_of_what_changed_and_of_what_is_gone(store: &Store) {
    let acme = tenant("acme");
    apply(store, "acme", &snapshot(&[("a", "1"), ("b", "1"), ("c", "1")], &[("a", "b"), ("b", "c")])).await;
    let (whole, told) = handed(store, &acme, None).await;
    assert_eq!((whole.entities.len(), whole.dependencies.len()), (3, 2));
    let held = HeldVersion { version: whole.version, epoch: &told.epoch };
    let nothing = handed(store, &acme, Some(held)).await;
    let empty = Topology { version: whole.version, entities: Vec::new(), dependencies: Vec::new() };
    assert_eq!(nothing, (empty, HandedTopology { changed: Some([].into()), ..told.clone() }));

    apply(store, "acme", &snapshot(&[("a", "2"), ("b", "1")], &[("a", "b")])).await;
    let (part, now) = handed(store, &acme, Some(held)).await;
    assert_eq!(now.changed, Some(["a", "b", "c"].map(id).into()));
    assert_eq!(part.entities.iter().map(|entity| entity.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(part.dependencies.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [edge("a", "b")]);

    // Counts of a caller: its rates follow from them, so its edges are told.
    let held = HeldVersion { version: now.version, epoch: &now.epoch };
    let requests = BTreeMap::from([(id("a"), RequestDays::from([(0, 5)]))]);
    let entity = ObservedEntity { id: id("a"), kind: None, source: Source::Traces, request_count: 5 };
    let batch = ObservationBatch { entities: vec![entity], requests, ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch).await.expect("applied");
    let (part, now) = handed(store, &acme, Some(held)).await;
    assert_eq!((now.changed, part.dependencies.len()), (Some([id("a")].into()), 1));
    // What another tenant writes is not among it.
    apply(store, "globex", &snapshot(&[("b", "1")], &[])).await;
    let (_, now) = handed(store, &acme, Some(held)).await;
    assert_eq!(now.changed, Some([id("a")].into()));
}

async fn a_version_of_another_start_is_answered_as_a_whole(store: &Store) {
    let acme = tenant("acme");
    apply(store, "acme", &snapshot(&[("a", "1"), ("b", "1")], &[("a", "b")])).await;
    let (whole, told) = handed(store, &acme, None).await;
    let of_no_epoch = [0, whole.version + 1].map(|version| HeldVersion { version, epoch: &told.epoch });
    for held in [HeldVersion { version: whole.version, epoch: "" }].into_iter().chain(of_no_epoch) {
        assert_eq!(handed(store, &acme, Some(held)).await, (whole.clone(), told.clone()), "{held:?}");
    }
    // Another start, with another window for rates as it may be.
    epochs::begin(&store.database).await.expect("begun");
    let other = Store { capacity: Capacity { call_rate_days: 1, ..CAPACITY }, ..store.clone() };
    let held = HeldVersion { version: whole.version, epoch: &told.epoch };
    let (topology, of_other) = handed(&other, &acme, Some(held)).await;
    assert_eq!((topology, of_other.changed), (whole, None));
    assert_ne!(of_other.epoch, told.epoch);
}

async fn where_most_changed_the_whole_is_handed_out(store: &Store) {
    let acme = tenant("acme");
    let declare = async |from: usize, to: usize, owner: &str| {
        let named = |number| EntityDeclaration {
            owner: Some(owner.to_owned()),
            ..EntityDeclaration::named(id(&format!("service-{number}")))
        };
        store.declare(&acme, (from..to).map(named).collect(), Vec::new()).await.expect("declared")
    };
    declare(0, 1_900, "one").await;
    let (whole, told) = handed(store, &acme, None).await;
    let held = HeldVersion { version: whole.version, epoch: &told.epoch };
    declare(0, 999, "two").await;
    let (part, now) = handed(store, &acme, Some(held)).await;
    assert_eq!((part.entities.len(), now.changed.map(|changed| changed.len())), (999, Some(999)));
    declare(999, 1_000, "two").await;
    let (part, now) = handed(store, &acme, Some(held)).await;
    assert_eq!((part.entities.len(), now.changed), (1_900, None));
}
