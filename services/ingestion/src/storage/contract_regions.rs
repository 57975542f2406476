//! Counts by region on both databases.

use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, SliBucket, Source, TenantId};

use super::testing::{bucket, id, on_both_databases, tenant};
use super::{BucketSpan, REGIONS_MAX, Store};
use crate::Error;
use crate::domain::{BucketMode, ObservationBatch, ObservedBucket, Region, RegionalBucket};

on_both_databases!(
    regions_are_kept_beside_the_whole_and_change_nothing_of_it,
    what_observers_see_adds_up_and_the_most_direct_source_stands,
    regions_beyond_the_bound_replace_their_sum_where_an_observer_reads_again,
    regions_beyond_the_bound_are_one_and_senders_of_their_own_counts_are_refused,
    regions_of_one_tenant_are_nobody_elses_and_go_when_they_are_old,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

fn region(name: &str) -> Region {
    Region::new("region", name).expect("valid")
}

fn seen(name: &str, source: Source, bucket: SliBucket) -> RegionalBucket {
    let observed = ObservedBucket { service: id("checkout"), source, mode: BucketMode::Add, bucket };
    RegionalBucket { region: region(name), observed }
}

async fn observe(store: &Store, tenant: &TenantId, regional: Vec<RegionalBucket>) {
    let batch = ObservationBatch {
        buckets: regional.iter().map(|bucket| bucket.observed.clone()).collect(),
        regional,
        ..ObservationBatch::default()
    };
    store.observe(tenant, &[], |_| batch).await.expect("applied");
}

/// Starts, valid and bad counts by region.
async fn counts(store: &Store, tenant: &TenantId, service: &EntityId) -> BTreeMap<String, Vec<(i64, u64, u64)>> {
    let found = store.regional_history(tenant, service, ALL, None).await.expect("read");
    let count = |bucket: &SliBucket| (bucket.start_ms / BUCKET_MS, bucket.counts.valid(), bucket.counts.bad());
    found
        .iter()
        .map(|(region, buckets)| {
            (region.as_str().to_owned(), buckets.iter().map(|merged| count(&merged.bucket)).collect())
        })
        .collect()
}

/// Start, valid and bad of a bucket.
type Counted = (i64, u64, u64);

fn expected<const N: usize>(regions: [(&str, &[Counted]); N]) -> BTreeMap<String, Vec<Counted>> {
    regions.map(|(name, buckets)| (name.to_owned(), buckets.to_vec())).into()
}

async fn regions_are_kept_beside_the_whole_and_change_nothing_of_it(store: &Store) {
    let (acme, checkout) = (tenant("acme"), id("checkout"));
    let whole = vec![(checkout.clone(), bucket(1, 10, 3, None))];
    let regional = vec![
        (checkout.clone(), region("eu"), bucket(1, 6, 0, None)),
        (checkout.clone(), region("us"), bucket(1, 4, 2, None)),
        // Of two for the same time the later one stands, and days are apart.
        (checkout.clone(), region("us"), bucket(1, 4, 3, None)),
        (checkout.clone(), region("us"), bucket(500, 1, 1, None)),
    ];
    store.replace_measured(&acme, whole.clone(), regional.clone()).await.expect("kept");
    let both = expected([("eu", &[(1, 6, 0)]), ("us", &[(1, 4, 3), (500, 1, 1)])]);
    assert_eq!(counts(store, &acme, &checkout).await, both);
    let page = store.sli_page(&acme, &checkout, ALL, 10, true).await.expect("read");
    assert_eq!(page.buckets.iter().map(|merged| &merged.bucket).collect::<Vec<_>>(), [&whole[0].1]);
    let found = store.regional_history(&acme, &checkout, ALL, Some(&region("eu"))).await.expect("read");
    assert!(found.len() == 1 && found[&region("eu")].iter().all(|merged| merged.bucket.latency.is_none()));
    let day = BucketSpan { start_ms: 2 * BUCKET_MS, end_ms: DAY_MS * 2 };
    let found = store.regional_history(&acme, &checkout, day, None).await.expect("read");
    assert_eq!(found.keys().map(Region::as_str).collect::<Vec<_>>(), ["us"]);

    // The same again changes nothing, something else does, and a service may be known by its regions alone.
    let before = store.newest_sequence().await.expect("read");
    store.replace_measured(&acme, whole, regional).await.expect("kept");
    assert_eq!(store.newest_sequence().await.expect("read"), before);
    let alone = vec![(id("cart"), region("eu"), bucket(1, 5, 5, None))];
    store.replace_measured(&acme, Vec::new(), alone).await.expect("kept");
    assert!(store.newest_sequence().await.expect("read") > before);
    assert!(store.entity(&acme, &id("cart")).await.expect("read").is_some());
    assert_eq!(store.regions(&acme, &checkout).await.expect("read"), [region("eu"), region("us")]);
}

async fn what_observers_see_adds_up_and_the_most_direct_source_stands(store: &Store) {
    let (acme, checkout) = (tenant("acme"), id("checkout"));
    let traced = |bad| seen("eu", Source::Traces, bucket(3, 2, bad, None));
    observe(store, &acme, vec![traced(1), traced(0)]).await;
    observe(store, &acme, vec![traced(1), seen("us", Source::Traces, bucket(3, 7, 0, None))]).await;
    assert_eq!(counts(store, &acme, &checkout).await, expected([("eu", &[(3, 6, 2)]), ("us", &[(3, 7, 0)])]));
    observe(store, &acme, vec![seen("eu", Source::OtlpMetrics, bucket(3, 100, 9, None))]).await;
    assert_eq!(counts(store, &acme, &checkout).await["eu"], [(3, 100, 9)]);
}

async fn regions_beyond_the_bound_are_one_and_senders_of_their_own_counts_are_refused(store: &Store) {
    let (acme, checkout) = (tenant("acme"), id("checkout"));
    let name = |n: usize| format!("zone-{n:02}");
    let all = (0..REGIONS_MAX + 3).rev().map(|n| seen(&name(n), Source::Traces, bucket(1, 2, 1, None)));
    observe(store, &acme, all.collect()).await;
    let found = counts(store, &acme, &checkout).await;
    assert_eq!(found.len(), REGIONS_MAX + 1);
    assert_eq!(found["other-regions"], [(1, 6, 3)]);
    assert!(found.contains_key(&name(REGIONS_MAX - 1)) && !found.contains_key(&name(REGIONS_MAX)));
    // Those that are known go on by themselves; the others stay together.
    observe(store, &acme, vec![seen(&name(0), Source::Traces, bucket(1, 1, 0, None))]).await;
    observe(store, &acme, vec![seen("brand-new", Source::Traces, bucket(1, 1, 0, None))]).await;
    let found = counts(store, &acme, &checkout).await;
    assert_eq!((&found[&name(0)][..], &found["other-regions"][..]), (&[(1, 3, 1)][..], &[(1, 7, 3)][..]));

    let whole = vec![(checkout.clone(), bucket(9, 1, 0, None))];
    let more = vec![(checkout.clone(), region("mine"), bucket(9, 1, 0, None))];
    let refused = store.replace_measured(&acme, whole, more).await;
    assert!(
        matches!(&refused, Err(Error::TooManyRegions { service, region }) if *service == checkout && region == "mine")
    );
    let page = store.sli_page(&acme, &checkout, ALL, 10, false).await.expect("read");
    assert!(page.buckets.iter().all(|merged| merged.bucket.start_ms != 9 * BUCKET_MS), "all of it or nothing");
}

async fn regions_beyond_the_bound_replace_their_sum_where_an_observer_reads_again(store: &Store) {
    let (acme, checkout) = (tenant("acme"), id("checkout"));
    let read = |valid: u64| {
        let one = |n: usize| {
            let mut one = seen(&format!("zone-{n:02}"), Source::Prometheus, bucket(1, valid, 1, None));
            one.observed.mode = BucketMode::Replace;
            one
        };
        (0..REGIONS_MAX + 3).map(one).collect::<Vec<_>>()
    };
    for valid in [2, 5, 5] {
        observe(store, &acme, read(valid)).await;
        let found = counts(store, &acme, &checkout).await;
        assert_eq!(
            (&found["zone-00"][..], &found["other-regions"][..]),
            (&[(1, valid, 1)][..], &[(1, 3 * valid, 3)][..])
        );
    }
}

async fn regions_of_one_tenant_are_nobody_elses_and_go_when_they_are_old(store: &Store) {
    let (acme, other, checkout) = (tenant("acme"), tenant("other"), id("checkout"));
    for (tenant, name) in [(&acme, "eu"), (&other, "secret-site")] {
        let rows = vec![(checkout.clone(), region(name), bucket(1, 4, 1, None))];
        store.replace_measured(tenant, Vec::new(), rows).await.expect("kept");
    }
    assert_eq!(counts(store, &acme, &checkout).await, expected([("eu", &[(1, 4, 1)])]));
    assert_eq!(counts(store, &other, &checkout).await, expected([("secret-site", &[(1, 4, 1)])]));
    assert_eq!(store.regions(&acme, &checkout).await.expect("read"), [region("eu")]);

    let later = vec![(checkout.clone(), region("us"), bucket(3 * 288, 4, 1, None))];
    store.replace_measured(&acme, Vec::new(), later).await.expect("kept");
    while store.expire(2 * DAY_MS, 1).await.expect("deleted") > 0 {}
    assert_eq!(counts(store, &acme, &checkout).await, expected([("us", &[(3 * 288, 4, 1)])]));
    assert_eq!(store.regions(&acme, &checkout).await.expect("read"), [region("us")]);
    assert_eq!(store.regions(&other, &checkout).await.expect("read"), []);
}
