//! What the store promises to observers, on both databases.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, DAY_MS, DependencyMode, EntityKind, LatencyHistogram, Ratio, Source};

use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{BucketSpan, DeclaredEdge, Store};
use crate::domain::{
    BucketMode, DayCalls, Dependency, DependencyTerms, EntityDeclaration, ObservationBatch, ObservedBucket,
    ObservedEdge, ObservedEntity, RequestDays, Sightings, SourceSet,
};

on_both_databases!(
    sightings_add_up_beside_what_is_declared,
    call_rates_are_those_of_the_last_days_since_the_edge_was_seen,
    what_an_observer_does_not_know_stays_unknown_and_observers_are_not_added_up,
    buckets_of_several_sources_are_kept_apart_and_read_as_one,
    counter_states_are_read_and_written_in_the_transaction,
    silent_counters_are_forgotten_by_their_keys,
    a_full_tenant_keeps_what_concerns_known_names,
    edges_beyond_the_bound_are_told_and_known_ones_go_on,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

fn seen(call_count: u64, first_seen_ms: i64) -> Sightings {
    Sightings {
        first_seen_ms: Some(first_seen_ms),
        last_seen_ms: Some(first_seen_ms + 5),
        call_count,
        calling_request_count: call_count / 2,
        failure_count: Some(1),
        rescued_count: Some(1),
        retry_count: Some(2),
        latency: Some(LatencyHistogram::from_explicit(&[10.0], &[call_count, 0]).expect("valid")),
        days: BTreeMap::from([(0, DayCalls { call_count, calling_request_count: call_count / 2 })]),
        first_day: None,
    }
}

fn observed_edge(sightings: Sightings) -> ObservedEdge {
    let key = edge("checkout", "payment");
    ObservedEdge { key, source: Source::Traces, asynchronous: Some(true), protocol: Some("grpc".into()), sightings }
}

fn observed_bucket(source: Source, mode: BucketMode, bucket: attain_vocabulary::SliBucket) -> ObservedBucket {
    ObservedBucket { service: id("checkout"), source, mode, bucket }
}

async fn sightings_add_up_beside_what_is_declared(store: &Store) {
    let acme = tenant("acme");
    let entity = |request_count| ObservedEntity {
        id: id("checkout"),
        kind: Some(EntityKind::Service),
        source: Source::Traces,
        request_count,
    };
    let callee = ObservedEntity {
        id: id("payment"),
        kind: Some(EntityKind::External),
        source: Source::Traces,
        request_count: 0,
    };
    let batch = ObservationBatch {
        entities: vec![entity(5), callee],
        edges: vec![observed_edge(seen(10, 100)), observed_edge(seen(10, 50))],
        requests: BTreeMap::from([(id("checkout"), RequestDays::from([(0, 5)]))]),
        ..ObservationBatch::default()
    };
    let first = store.observe(&acme, &[], |_| batch.clone()).await.expect("applied");
    let second = store.observe(&acme, &[], |_| batch.clone()).await.expect("applied");
    assert!(second > first, "what was seen is part of the topology");

    let topology = store.topology(&acme).await.expect("read");
    let edge_seen = &topology.dependencies[0];
    assert_eq!(
        (edge_seen.terms.mode, edge_seen.terms.protocol.as_deref()),
        (Some(DependencyMode::Async), Some("grpc"))
    );
    assert_eq!((edge_seen.terms.call_rate, edge_seen.sightings.call_count), (Some(4.0), 40));
    assert_eq!((edge_seen.sightings.first_seen_ms, edge_seen.sightings.last_seen_ms), (Some(50), Some(105)));
    assert_eq!(edge_seen.sightings.latency.as_ref().map(LatencyHistogram::count), Some(40));
    assert_eq!(topology.entities[1].kind(), EntityKind::External);

    let declared = DeclaredEdge { key: edge("checkout", "payment"), said: DependencyTerms::hard(), listed: false };
    store.declare(&acme, vec![EntityDeclaration::named(id("payment"))], vec![declared]).await.expect("declared");
    let merged = store.topology(&acme).await.expect("read").dependencies.remove(0);
    assert_eq!(merged.terms.mode, Some(DependencyMode::Hard));
    assert_eq!(merged.sightings.call_count, 40);
    assert_eq!(merged.sources, SourceSet::from([Source::Declared, Source::Traces]));
    // An empty batch is no change.
    let version = store.topology(&acme).await.expect("read").version;
    assert_eq!(store.observe(&acme, &[], |_| ObservationBatch::default()).await.expect("applied"), version);
}

/// What traces show on one day: requests of checkout in its first and its last five minutes, each of the last ones calling
/// payment.
fn traced_day(day: i64, first_requests: u64, last_requests: u64) -> ObservationBatch {
    let last_n = (day + 1) * (DAY_MS / BUCKET_MS) - 1;
    let requests = |n, count| observed_bucket(Source::Traces, BucketMode::Add, bucket(n, count, 0, Some(0)));
    let sightings = Sightings {
        first_seen_ms: Some(last_n * BUCKET_MS),
        last_seen_ms: Some(last_n * BUCKET_MS),
        call_count: last_requests,
        calling_request_count: last_requests,
        days: BTreeMap::from([(day, DayCalls { call_count: last_requests, calling_request_count: last_requests })]),
        ..Sightings::default()
    };
    ObservationBatch {
        buckets: vec![requests(day * (DAY_MS / BUCKET_MS), first_requests), requests(last_n, last_requests)],
        requests: BTreeMap::from([(id("checkout"), RequestDays::from([(day, first_requests + last_requests)]))]),
        edges: if last_requests > 0 { vec![observed_edge(sightings)] } else { Vec::new() },
        ..ObservationBatch::default()
    }
}

async fn only_edge(store: &Store) -> Dependency {
    let mut dependencies = store.topology(&tenant("acme")).await.expect("read").dependencies;
    assert_eq!(dependencies.len(), 1);
    dependencies.remove(0)
}

async fn call_rates_are_those_of_the_last_days_since_the_edge_was_seen(store: &Store) {
    let acme = tenant("acme");
    let observe = async |batch: ObservationBatch| store.observe(&acme, &[], |_| batch).await.expect("applied");
    let rates = async || {
        let terms = only_edge(store).await.terms;
        (terms.call_rate, terms.call_fraction.map(Ratio::get))
    };
    // Long before the edge; then on the edge's first day once in a batch of its own, once in the batch that shows the edge.
    for day in [700, 990, 999] {
        observe(traced_day(day, 10_000, 0)).await;
    }
    observe(traced_day(1_000, 900, 0)).await;
    observe(traced_day(1_000, 50, 100)).await;
    assert_eq!(rates().await, (Some(1.0), Some(1.0)), "every request since then calls");
    observe(traced_day(1_001, 100, 0)).await;
    assert_eq!(rates().await, (Some(0.5), Some(0.5)));
    // Late: a day before the edge, a day of it, and one that is too long ago.
    observe(traced_day(999, 7, 0)).await;
    observe(traced_day(1_001, 0, 200)).await;
    observe(traced_day(500, 7_000, 0)).await;
    assert_eq!(rates().await, (Some(0.75), Some(0.75)));
    // Nobody calls any more.
    observe(traced_day(1_028, 600, 0)).await;
    assert_eq!(rates().await.0, Some(200.0 / 900.0), "of day 1000 nothing counts any more");
    observe(traced_day(1_040, 500, 0)).await;
    assert_eq!(rates().await, (Some(0.0), Some(0.0)));
    assert_eq!(only_edge(store).await.sightings.call_count, 300, "it is known all the same");
}

async fn what_an_observer_does_not_know_stays_unknown_and_observers_are_not_added_up(store: &Store) {
    let acme = tenant("acme");
    let told = |source, call_count, failure_count| {
        let last_seen_ms = Some(1_000);
        let sightings = Sightings { call_count, failure_count, last_seen_ms, ..Sightings::default() };
        let edge = ObservedEdge { source, asynchronous: None, protocol: None, ..observed_edge(sightings) };
        ObservationBatch { edges: vec![edge], ..ObservationBatch::default() }
    };
    let counted = async || {
        let seen = only_edge(store).await.sightings;
        (seen.call_count, seen.failure_count, seen.rescued_count, seen.retry_count)
    };
    let observe = async |batch: ObservationBatch| store.observe(&acme, &[], |_| batch).await.expect("applied");
    for _ in 0..2 {
        observe(told(Source::Jaeger, 400, None)).await;
    }
    assert_eq!(counted().await, (800, None, None, None));
    for (source, calls, stands) in [(Source::Linkerd, 300, 600), (Source::Istio, 50, 100), (Source::Prometheus, 20, 40)]
    {
        for _ in 0..2 {
            observe(told(source, calls, Some(10))).await;
        }
        assert_eq!(counted().await, (stands, Some(20), None, None), "{source:?}");
    }
    let edge = only_edge(store).await;
    assert_eq!(edge.sources, SourceSet::from([Source::Prometheus, Source::Istio, Source::Linkerd, Source::Jaeger]));
    assert_eq!((edge.terms.call_rate, edge.terms.call_fraction), (None, None));
}

async fn buckets_of_several_sources_are_kept_apart_and_read_as_one(store: &Store) {
    let acme = tenant("acme");
    let rows = |n| {
        vec![
            observed_bucket(Source::Traces, BucketMode::Add, bucket(n, 10, 4, Some(2))),
            observed_bucket(Source::OtlpMetrics, BucketMode::Replace, bucket(n, 100, 20, None)),
        ]
    };
    let batch = ObservationBatch { buckets: (1..=30).flat_map(rows).collect(), ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch.clone()).await.expect("applied");
    store.observe(&acme, &[], |_| batch.clone()).await.expect("applied");
    let twice = ObservationBatch { buckets: [rows(31), rows(31)].concat(), ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| twice).await.expect("applied");

    let (mut starts, mut span) = (Vec::new(), ALL);
    loop {
        let page = store.sli_page(&acme, &id("checkout"), span, 3, true).await.expect("read");
        assert!(!page.buckets.is_empty() && page.buckets.len() <= 3);
        for merged in &page.buckets {
            assert_eq!((merged.bucket.counts.valid(), merged.bucket.counts.bad()), (100, 20));
            assert_eq!(merged.bucket.counts.inherited_bad(), Some(10), "the traces' half of the failures");
            starts.push(merged.bucket.start_ms / attain_vocabulary::BUCKET_MS);
        }
        let Some(next) = page.next_start_ms else { break };
        span.start_ms = next;
    }
    assert_eq!(starts, (1..=31).collect::<Vec<i64>>());
    let summary = store.data_summary(&acme, &id("checkout")).await.expect("read");
    assert_eq!((summary.bucket_count, summary.sources.len()), (31, 2));
    let mut write = store.begin_write(&acme).await.expect("begun");
    let starts = [attain_vocabulary::BUCKET_MS];
    let (_, traces) = write.stored_rows(&id("checkout"), Source::Traces, &starts).await.expect("read").remove(0);
    assert_eq!((traces.counts.valid(), traces.counts.inherited_bad()), (20, Some(4)));
    assert_eq!(traces.latency.map(|latency| latency.count()), Some(20));
}

async fn counter_states_are_read_and_written_in_the_transaction(store: &Store) {
    let acme = tenant("acme");
    let keys = ["requests".to_owned(), "errors".to_owned()];
    let count_up = |states: &BTreeMap<String, Vec<u8>>| {
        let last = states.get("requests").map_or(0, |state| state[0]);
        let errors = (last == 0).then(|| vec![7]);
        let counter_states =
            BTreeMap::from([("requests".to_owned(), Some(vec![last + 1])), ("errors".to_owned(), errors)]);
        ObservationBatch { counter_states, ..ObservationBatch::default() }
    };
    // Many at once: each sees what the one before wrote.
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, acme, keys) = (store.clone(), acme.clone(), keys.clone());
            tokio::spawn(async move { store.observe(&acme, &keys, count_up).await.expect("applied") })
        })
        .collect();
    for task in tasks {
        task.await.expect("run");
    }
    let read = std::sync::Mutex::new(BTreeMap::new());
    let look = |states: &BTreeMap<String, Vec<u8>>| {
        read.lock().expect("whole").clone_from(states);
        ObservationBatch::default()
    };
    store.observe(&acme, &keys, look).await.expect("applied");
    assert_eq!(*read.lock().expect("whole"), BTreeMap::from([("requests".to_owned(), vec![8])]));
}

async fn silent_counters_are_forgotten_by_their_keys(store: &Store) {
    let keys = ["a/1", "a/2", "a/3", "b/1"].map(String::from);
    for name in ["acme", "other"] {
        let counter_states = keys.iter().map(|key| (key.clone(), Some(vec![1]))).collect();
        let batch = ObservationBatch { counter_states, ..ObservationBatch::default() };
        store.observe(&tenant(name), &[], |_| batch).await.expect("applied");
    }
    store.forget_counter_states("a/", "a/3").await.expect("forgotten");
    for name in ["acme", "other"] {
        let (sender, receiver) = std::sync::mpsc::channel();
        let look = move |states: &BTreeMap<String, Vec<u8>>| {
            sender.send(states.keys().cloned().collect::<Vec<_>>()).expect("somebody listens");
            ObservationBatch::default()
        };
        store.observe(&tenant(name), &keys, look).await.expect("applied");
        assert_eq!(receiver.recv().expect("told"), ["a/3", "b/1"]);
    }
}

async fn a_full_tenant_keeps_what_concerns_known_names(store: &Store) {
    let acme = tenant("acme");
    let many = (0..1_999).map(|i| EntityDeclaration::named(id(&format!("s{i}"))));
    let known = many.chain([EntityDeclaration::named(id("checkout"))]).collect();
    store.declare(&acme, known, Vec::new()).await.expect("just fits");
    let batch = ObservationBatch {
        edges: vec![observed_edge(seen(10, 100))],
        buckets: vec![observed_bucket(Source::Traces, BucketMode::Add, bucket(1, 10, 1, Some(1)))],
        ..ObservationBatch::default()
    };
    let left_out = store.observe_telling(&acme, &[], |_| batch).await.expect("applied").left_out;
    assert!(left_out.has_edge(&edge("checkout", "payment"), Source::Traces));
    assert_eq!((left_out.entities, left_out.edge_count), (BTreeSet::from([id("payment")]), 1));
    assert_eq!(store.over_capacity.counted(), [1, 1, 0, 0, 0, 0, 0]);
    let topology = store.topology(&acme).await.expect("read");
    assert!(topology.dependencies.is_empty() && topology.entities.len() == 2_000);
    assert_eq!(store.sli_page(&acme, &id("checkout"), ALL, 1, true).await.expect("read").buckets.len(), 1);
}

async fn edges_beyond_the_bound_are_told_and_known_ones_go_on(store: &Store) {
    let acme = tenant("acme");
    let between = |caller: usize, callee: usize| DeclaredEdge {
        key: edge(&format!("s{caller}"), &format!("s{callee}")),
        said: DependencyTerms::hard(),
        listed: false,
    };
    let known = (0..40).flat_map(|caller| (50..100).map(move |callee| (caller, callee)));
    let known = known.map(|(caller, callee)| between(caller, callee)).collect();
    store.declare(&acme, Vec::new(), known).await.expect("just fits");
    let seen_between =
        |caller: &str, callee: &str| ObservedEdge { key: edge(caller, callee), ..observed_edge(seen(1, 1)) };
    let mut full = store.watch_full();
    let batch = ObservationBatch {
        edges: vec![seen_between("s0", "s50"), seen_between("s1", "s2")],
        ..ObservationBatch::default()
    };
    let left_out = store.observe_telling(&acme, &[], |_| batch).await.expect("applied").left_out;
    let expected = [edge("s0", "s50"), edge("s1", "s2")].map(|key| (key, Source::Traces));
    assert_eq!(left_out.edges, BTreeSet::from(expected), "each source's row is one");
    assert!(left_out.entities.is_empty() && store.over_capacity.counted()[1] == 2);
    let told = full.borrow_and_update().clone().expect("told");
    assert_eq!((told.tenant, told.setting), (acme, "ingestion.dependencies_per_tenant_max"));
}
