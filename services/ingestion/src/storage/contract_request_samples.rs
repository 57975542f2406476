//! What the store promises of sampled requests, on both databases.

use attain_vocabulary::Source;

use super::testing::{CAPACITY, bucket, id, on_both_databases, tenant};
use super::{BucketSpan, Store};
use crate::domain::{BucketMode, ObservationBatch, ObservedBucket, RequestSample, SampledCall, least_ranks};

on_both_databases!(
    the_least_ranks_of_each_hour_stay_whoever_brings_them_in_whatever_order,
    a_request_that_comes_again_changes_nothing,
    hours_are_read_newest_first,
    old_hours_are_forgotten,
    what_a_full_tenant_leaves_out_is_not_sampled,
    samples_tell_of_no_change,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const HOUR_MS: i64 = 3_600_000;

fn sample(service: &str, hour: i64, rank: u64) -> RequestSample {
    let call = |n: u64| SampledCall {
        callee: id(&format!("callee-{}", n % 3)),
        offset_us: n * 10,
        duration_us: rank % 7,
        failed: n == 1,
    };
    RequestSample {
        service: id(service),
        rank,
        start_time_us: hour * HOUR_MS * 1_000 + (rank % 3_600_000_000) as i64,
        duration_us: 100 + rank % 50,
        failed: rank.is_multiple_of(5),
        calls: (0..rank % 5).map(call).collect(),
        truncated: rank.is_multiple_of(11),
    }
}

async fn keep(store: &Store, of: &str, request_samples: Vec<RequestSample>) {
    let batch = ObservationBatch { request_samples, ..ObservationBatch::default() };
    store.observe(&tenant(of), &[], |_| batch).await.expect("kept");
}

/// All that is kept of a service, newest hour first.
async fn kept(store: &Store, of: &str, service: &str) -> Vec<RequestSample> {
    let hours = store.request_samples(&tenant(of), &id(service), ALL, 1_000).await.expect("read");
    hours.into_iter().flat_map(|hour| hour.samples).collect()
}

async fn the_least_ranks_of_each_hour_stay_whoever_brings_them_in_whatever_order(store: &Store) {
    // Ranks as they come: each once, spread over all of them.
    let ranks: Vec<u64> = (1..=40).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let of_shop: Vec<RequestSample> = ranks.iter().map(|rank| sample("shop", 7, *rank)).collect();
    for (tenant, batch) in [("one", 40), ("by-one", 1), ("by-seven", 7)] {
        for samples in of_shop.chunks(batch) {
            keep(store, tenant, samples.to_vec()).await;
        }
        let expected = least_ranks(of_shop.clone(), CAPACITY.request_samples_per_hour);
        assert_eq!(kept(store, tenant, "shop").await, expected, "{tenant}");
    }
    for samples in of_shop.chunks(3).rev() {
        keep(store, "backwards", samples.to_vec()).await;
    }
    assert_eq!(kept(store, "backwards", "shop").await, kept(store, "one", "shop").await);
    assert_eq!(kept(store, "nobody", "shop").await, [], "tenants do not meet");
    // Another service and the next hour have a place of their own each.
    keep(store, "one", vec![sample("cart", 7, u64::MAX), sample("shop", 8, u64::MAX)]).await;
    assert_eq!(kept(store, "one", "cart").await, [sample("cart", 7, u64::MAX)]);
    assert_eq!(kept(store, "one", "shop").await.len(), CAPACITY.request_samples_per_hour + 1);
}

async fn a_request_that_comes_again_changes_nothing(store: &Store) {
    keep(store, "acme", vec![sample("shop", 7, 1), sample("shop", 7, 2)]).await;
    let before = kept(store, "acme", "shop").await;
    // Less was there of its trace the second time.
    keep(store, "acme", vec![RequestSample { calls: Vec::new(), ..sample("shop", 7, 2) }]).await;
    assert_eq!(kept(store, "acme", "shop").await, before);
}

async fn hours_are_read_newest_first(store: &Store) {
    let all = (0..10).flat_map(|hour| (0..2).map(move |rank| sample("shop", hour, rank)));
    keep(store, "acme", all.collect()).await;
    let hours = async |start: i64, end: i64, limit| {
        let span = BucketSpan { start_ms: start * HOUR_MS, end_ms: end * HOUR_MS };
        let found = store.request_samples(&tenant("acme"), &id("shop"), span, limit).await.expect("read");
        assert!(found.iter().all(|hour| hour.samples.len() == 2));
        assert!(found.iter().all(|hour| hour.samples.iter().all(|sample| sample.hour_ms() == hour.hour_ms)));
        found.into_iter().map(|hour| hour.hour_ms / HOUR_MS).collect::<Vec<_>>()
    };
    assert_eq!(hours(0, 10, 100).await, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(hours(0, 10, 3).await, [9, 8, 7]);
    assert_eq!(hours(4, 7, 100).await, [6, 5, 4]);
    assert_eq!(hours(10, 20, 100).await, [0_i64; 0]);
}

async fn old_hours_are_forgotten(store: &Store) {
    keep(store, "acme", (0..4).map(|hour| sample("shop", hour, 1)).collect()).await;
    keep(store, "other", vec![sample("shop", 0, 1)]).await;
    let forget = async |rows_max| store.forget_request_samples(2 * HOUR_MS + 5, rows_max).await.expect("forgotten");
    assert_eq!(forget(2).await, 2, "so many a step");
    assert_eq!(forget(2).await, 1);
    assert_eq!(forget(2).await, 0);
    assert_eq!(kept(store, "acme", "shop").await, [sample("shop", 3, 1), sample("shop", 2, 1)]);
    assert_eq!(kept(store, "other", "shop").await, []);
}

async fn what_a_full_tenant_leaves_out_is_not_sampled(store: &Store) {
    let measured = |service: String| ObservedBucket {
        service: id(&service),
        source: Source::Traces,
        mode: BucketMode::Add,
        bucket: bucket(1, 10, 1, None),
    };
    let names = (0..CAPACITY.entities_max).map(|n| format!("service-{n}"));
    let full = ObservationBatch { buckets: names.map(measured).collect(), ..ObservationBatch::default() };
    store.observe(&tenant("acme"), &[], |_| full).await.expect("kept");
    let calls = ["service-2", "one-too-many"].map(|callee| SampledCall {
        callee: id(callee),
        offset_us: 1,
        duration_us: 2,
        failed: false,
    });
    let of_known = RequestSample { calls: calls.to_vec(), truncated: false, ..sample("service-1", 7, 1) };
    let batch = ObservationBatch {
        buckets: vec![measured("one-too-many".to_owned())],
        request_samples: vec![of_known.clone(), sample("one-too-many", 7, 1)],
        ..ObservationBatch::default()
    };
    let left_out = store.observe_telling(&tenant("acme"), &[], |_| batch).await.expect("kept").left_out;
    assert_eq!(left_out.request_sample_count, 1);
    let expected = RequestSample { calls: calls[..1].to_vec(), truncated: true, ..of_known };
    assert_eq!(kept(store, "acme", "service-1").await, [expected]);
    assert_eq!(kept(store, "acme", "one-too-many").await, []);
}

async fn samples_tell_of_no_change(store: &Store) {
    let before = store.newest_sequence().await.expect("read");
    keep(store, "acme", vec![sample("shop", 7, 1)]).await;
    assert_eq!(store.newest_sequence().await.expect("read"), before);
    assert_eq!(kept(store, "acme", "shop").await.len(), 1);
}
