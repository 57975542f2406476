//! What the store promises of exemplars, on both databases.

use super::testing::{bucket, id, on_both_databases, tenant};
use super::{BucketSpan, ExemplarPosition, Store};
use crate::domain::{BucketMode, Exemplar, ObservationBatch, ObservedBucket};
use attain_vocabulary::Source;

on_both_databases!(
    the_worst_of_each_hour_stay_whoever_brings_them,
    exemplars_are_paged_newest_first,
    old_exemplars_are_forgotten,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const HOUR_MS: i64 = 3_600_000;

fn exemplar(service: &str, trace_id: u128, time_ms: i64, latency_us: u64, failed: bool) -> Exemplar {
    Exemplar { service: id(service), trace_id, span_id: 9, time_ms, latency_us, failed }
}

async fn keep(store: &Store, exemplars: Vec<Exemplar>) {
    let measured = ObservedBucket {
        service: id("shop"),
        source: Source::OtlpMetrics,
        mode: BucketMode::Add,
        bucket: bucket(1, 10, 1, None),
    };
    let batch = ObservationBatch { exemplars, buckets: vec![measured], ..ObservationBatch::default() };
    store.observe(&tenant("acme"), &[], |_| batch).await.expect("kept");
}

async fn listed(store: &Store, service: &str) -> Vec<(u128, u64, bool)> {
    let found = store.exemplars(&tenant("acme"), &id(service), ALL, None, 1_000).await.expect("read");
    found.into_iter().map(|found| (found.trace_id, found.latency_us, found.failed)).collect()
}

async fn the_worst_of_each_hour_stay_whoever_brings_them(store: &Store) {
    for batch in 0..4u64 {
        let of_shop = (1..=5u64).map(|n| {
            let rank = batch * 5 + n;
            exemplar("shop", u128::from(rank), rank as i64, rank * 10, false)
        });
        let failed = exemplar("shop", u128::from(100 + batch), 50, batch, true);
        keep(store, of_shop.chain([failed, exemplar("cart", 1, 7, 1, false)]).collect()).await;
    }
    let mut kept = listed(store, "shop").await;
    kept.sort_unstable();
    let slow = (16..=20u64).map(|rank| (u128::from(rank), rank * 10, false));
    let failed = (0..4u64).map(|batch| (u128::from(100 + batch), batch, true));
    assert_eq!(kept, slow.chain(failed).collect::<Vec<_>>());
    assert_eq!(listed(store, "cart").await, [(1, 1, false)]);

    let other = store.exemplars(&tenant("other"), &id("shop"), ALL, None, 10).await.expect("read");
    assert_eq!(other, []);
    // The same trace again, slower now; and in the next hour nothing is in its way.
    keep(store, vec![exemplar("shop", 16, 16, 500, false), exemplar("shop", 1, HOUR_MS, 1, false)]).await;
    let kept = listed(store, "shop").await;
    assert_eq!((kept[0], kept.len()), ((1, 1, false), 10));
    assert!(kept.contains(&(16, 500, false)));
}

async fn exemplars_are_paged_newest_first(store: &Store) {
    // Two at the same time, and one trace that is of both sorts.
    let all = [(3, 30, false), (2, 20, true), (2, 20, false), (1, 20, false), (9, HOUR_MS + 1, true)];
    keep(store, all.iter().map(|(trace, time, failed)| exemplar("shop", *trace, *time, 1, *failed)).collect()).await;
    let mut pages = Vec::new();
    let mut after: Option<ExemplarPosition> = None;
    loop {
        let page = store.exemplars(&tenant("acme"), &id("shop"), ALL, after.as_ref(), 2).await.expect("read");
        let Some(last) = page.last() else { break };
        after = Some(ExemplarPosition { time_ms: last.time_ms, trace_id: last.trace_id, failed: last.failed });
        pages.extend(page.into_iter().map(|found| (found.trace_id, found.time_ms, found.failed)));
    }
    let expected = [(9, HOUR_MS + 1, true), (3, 30, false), (1, 20, false), (2, 20, false), (2, 20, true)];
    assert_eq!(pages, expected);
    let span = BucketSpan { start_ms: 20, end_ms: 30 };
    let within = store.exemplars(&tenant("acme"), &id("shop"), span, None, 10).await.expect("read");
    assert_eq!(within.len(), 3);
}

async fn old_exemplars_are_forgotten(store: &Store) {
    keep(store, vec![exemplar("shop", 1, 5, 1, false), exemplar("shop", 2, HOUR_MS + 5, 1, false)]).await;
    assert_eq!(store.forget_exemplars(HOUR_MS + 4, 10).await.expect("forgotten"), 1);
    assert_eq!(listed(store, "shop").await, [(2, 1, false)]);
    assert_eq!(store.forget_exemplars(HOUR_MS + 4, 10).await.expect("nothing left"), 0);
    keep(store, (1..=3).map(|trace| exemplar("shop", trace, 5, 1, false)).collect()).await;
    assert_eq!(store.forget_exemplars(HOUR_MS + 4, 2).await.expect("forgotten"), 2, "so many a step");
}
