//! What the store promises of utilisation, on both databases.

use std::collections::BTreeSet;

use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityKind, Source, Tier, UtilisationKind};

use super::testing::{id, on_both_databases, tenant};
use super::{BucketSpan, ChangeKind, Store};
use crate::domain::{
    BucketMode, EntityDeclaration, ObservationBatch, ObservedEntity, ObservedUtilisation, UtilisationBucket,
};

on_both_databases!(
    utilisation_is_replaced_and_replacing_it_by_itself_changes_nothing,
    samples_add_up_within_a_bucket,
    the_most_direct_source_is_read,
    days_are_paged_without_gaps,
    old_days_are_forgotten_and_others_stay,
    what_is_observed_never_changes_what_was_declared,
    ages_are_kept_and_a_new_one_is_a_new_measurement,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

fn used(n: i64, kind: UtilisationKind, average: f64) -> UtilisationBucket {
    UtilisationBucket::new(n * BUCKET_MS, kind, average, average, 1).expect("valid")
}

fn observed(source: Source, mode: BucketMode, bucket: UtilisationBucket) -> ObservedUtilisation {
    ObservedUtilisation { service: id("cart"), source, mode, bucket }
}

async fn observe(store: &Store, utilisation: Vec<ObservedUtilisation>) {
    let batch = ObservationBatch { utilisation, ..ObservationBatch::default() };
    store.observe(&tenant("acme"), &[], |_| batch).await.expect("applied");
}

async fn read(store: &Store, span: BucketSpan) -> Vec<UtilisationBucket> {
    let page = store.utilisation_page(&tenant("acme"), &id("cart"), span, 5_000).await.expect("read");
    assert_eq!(page.next_start_ms, None);
    page.buckets.into_iter().map(|measured| measured.bucket).collect()
}

async fn utilisation_is_replaced_and_replacing_it_by_itself_changes_nothing(store: &Store) {
    let acme = tenant("acme");
    let rows = || {
        let of = |name: &str, n, kind, value| (id(name), used(n, kind, value));
        vec![
            of("cart", 1, UtilisationKind::Cpu, 0.1),
            of("cart", 1, UtilisationKind::QueueDepth, 40.5),
            of("cart", 300, UtilisationKind::Cpu, 0.3),
            of("pay", 1, UtilisationKind::Memory, 0.9),
            of("cart", 1, UtilisationKind::Cpu, 0.2),
        ]
    };
    store.replace_utilisation(&acme, rows()).await.expect("kept");
    let kept = vec![
        used(1, UtilisationKind::Cpu, 0.2),
        used(1, UtilisationKind::QueueDepth, 40.5),
        used(300, UtilisationKind::Cpu, 0.3),
    ];
    assert_eq!(read(store, ALL).await, kept);
    assert_eq!(read(store, BucketSpan { start_ms: BUCKET_MS, end_ms: 300 * BUCKET_MS }).await, kept[..2]);
    let known = store.entity(&acme, &id("pay")).await.expect("read").expect("created");
    assert_eq!((known.kind(), known.sources), (EntityKind::Service, BTreeSet::from([Source::Declared])));

    let before = store.changes_after(0, 100).await.expect("read");
    let told: Vec<&str> =
        before.iter().filter(|change| change.kind == ChangeKind::Utilisation).map(|c| c.service.as_str()).collect();
    assert_eq!(told, ["cart", "pay"]);
    store.replace_utilisation(&acme, rows()).await.expect("kept");
    assert_eq!(store.changes_after(0, 100).await.expect("read"), before);
    store.replace_utilisation(&acme, vec![(id("cart"), used(1, UtilisationKind::Cpu, 0.5))]).await.expect("kept");
    assert_eq!(store.changes_after(before.last().expect("some").sequence, 100).await.expect("read").len(), 1);
    assert_eq!(read(store, ALL).await[0].average(), 0.5);

    let others = store.utilisation_page(&tenant("other"), &id("cart"), ALL, 10).await.expect("read");
    assert_eq!(others, Default::default());
}

async fn samples_add_up_within_a_bucket(store: &Store) {
    let add = |value| observed(Source::OtlpMetrics, BucketMode::Add, used(1, UtilisationKind::Cpu, value));
    observe(store, vec![add(0.1), add(0.2)]).await;
    observe(store, vec![add(0.9)]).await;
    let bucket = read(store, ALL).await[0];
    assert_eq!((bucket.average(), bucket.maximum(), bucket.sample_count()), (0.4, 0.9, 3));
    // What replaces stands alone, and what is added to it in the same batch stands on it.
    let replace = observed(Source::OtlpMetrics, BucketMode::Replace, used(1, UtilisationKind::Cpu, 0.5));
    observe(store, vec![replace, add(0.3)]).await;
    let bucket = read(store, ALL).await[0];
    assert_eq!((bucket.average(), bucket.maximum(), bucket.sample_count()), (0.4, 0.5, 2));
}

async fn the_most_direct_source_is_read(store: &Store) {
    let said = |source, n, value| observed(source, BucketMode::Replace, used(n, UtilisationKind::Memory, value));
    observe(store, vec![said(Source::OtlpMetrics, 1, 0.1), said(Source::Prometheus, 1, 0.2)]).await;
    observe(store, vec![said(Source::OtlpMetrics, 2, 0.3)]).await;
    let averages: Vec<f64> = read(store, ALL).await.iter().map(|bucket| bucket.average()).collect();
    assert_eq!(averages, [0.2, 0.3]);
}

async fn days_are_paged_without_gaps(store: &Store) {
    let acme = tenant("acme");
    let starts: Vec<i64> = (0..40 * 288).step_by(7).collect();
    let both = |n: &i64| [used(*n, UtilisationKind::Cpu, 0.5), used(*n, UtilisationKind::Memory, 0.5)];
    let rows = starts.iter().flat_map(both).map(|bucket| (id("cart"), bucket)).collect();
    store.replace_utilisation(&acme, rows).await.expect("kept");
    for limit in [1, 41, 300, 2_000] {
        let (mut found, mut span, mut pages) = (Vec::new(), ALL, 0);
        loop {
            let page = store.utilisation_page(&acme, &id("cart"), span, limit).await.expect("read");
            assert!(!page.buckets.is_empty() && page.buckets.len() <= 2 * limit, "{limit}");
            found.extend(page.buckets.iter().map(|measured| measured.bucket.start_ms() / BUCKET_MS));
            pages += 1;
            let Some(next) = page.next_start_ms else { break };
            span.start_ms = next;
            if limit == 1 && pages == 100 {
                break;
            }
        }
        found.dedup();
        assert_eq!(found, starts[..found.len()]);
        assert!(limit == 1 || found.len() == starts.len(), "{limit}: {}", found.len());
    }
}

async fn old_days_are_forgotten_and_others_stay(store: &Store) {
    let rows = |day: i64| (id("cart"), used(day * 288 + 5, UtilisationKind::Cpu, 0.5));
    store.replace_utilisation(&tenant("acme"), (0..10).map(rows).collect()).await.expect("kept");
    store.replace_utilisation(&tenant("other"), vec![rows(2)]).await.expect("kept");
    // A day goes when it is over, and so many rows at a time.
    assert_eq!(store.expire(4 * DAY_MS - 1, 3).await.expect("forgotten"), 3);
    assert_eq!(store.expire(4 * DAY_MS - 1, 3).await.expect("forgotten"), 1);
    assert_eq!(store.expire(4 * DAY_MS - 1, 3).await.expect("forgotten"), 0);
    assert_eq!(store.expire(4 * DAY_MS, 3).await.expect("forgotten"), 1);
    assert_eq!(read(store, ALL).await.len(), 6);
}

async fn ages_are_kept_and_a_new_one_is_a_new_measurement(store: &Store) {
    let acme = tenant("acme");
    let age = |n, seconds| (id("cart"), used(n, UtilisationKind::MessageAge, seconds));
    let head = || async {
        store
            .change_heads(&acme, &BTreeSet::from([id("cart")]))
            .await
            .expect("read")
            .first()
            .map(|head| head.sli_sequence)
    };
    store.replace_utilisation(&acme, vec![age(1, 12.25), age(2, 86_400.0)]).await.expect("kept");
    let first = head().await.expect("known");
    assert!(first > 0);
    store.replace_utilisation(&acme, vec![age(1, 12.25)]).await.expect("kept");
    assert_eq!(head().await, Some(first), "what is kept already changes nothing");
    store.replace_utilisation(&acme, vec![age(3, 0.5)]).await.expect("kept");
    assert!(head().await > Some(first));
    let kept: Vec<f64> = read(store, ALL).await.iter().map(|bucket| bucket.maximum()).collect();
    assert_eq!(kept, [12.25, 86_400.0, 0.5]);
}

async fn what_is_observed_never_changes_what_was_declared(store: &Store) {
    let acme = tenant("acme");
    let declared = EntityDeclaration {
        tier: Some(Tier::One),
        kind: Some(EntityKind::Datastore),
        owner: Some("Data".into()),
        ..EntityDeclaration::named(id("cart"))
    };
    store.declare(&acme, vec![declared], Vec::new()).await.expect("declared");
    let seen = |source| ObservedEntity { id: id("cart"), kind: Some(EntityKind::Service), source, request_count: 3 };
    let batch = ObservationBatch {
        entities: vec![seen(Source::Traces), seen(Source::Prometheus), seen(Source::ServiceGraph)],
        utilisation: vec![observed(Source::Prometheus, BucketMode::Replace, used(1, UtilisationKind::Cpu, 0.5))],
        ..ObservationBatch::default()
    };
    store.observe(&acme, &[], |_| batch).await.expect("applied");
    let entity = store.entity(&acme, &id("cart")).await.expect("read").expect("known");
    assert_eq!(
        (entity.tier, entity.kind(), entity.owner.as_deref()),
        (Some(Tier::One), EntityKind::Datastore, Some("Data"))
    );
    assert!(entity.sources.contains(&Source::ServiceGraph));
}
