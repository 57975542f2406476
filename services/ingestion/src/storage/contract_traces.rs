//! What the store promises to the receiver of traces, on both databases.

use attain_vocabulary::{LatencyHistogram, Source};

use super::testing::{bucket, edge, id, on_both_databases, tenant};
use super::{BucketSpan, DaySpan, OperationPosition, PendingSpans, ReceivedSpans, SpanMemory, Store};
use crate::Error;
use crate::domain::{
    BucketMode, ObservationBatch, ObservedBucket, ObservedEdge, ObservedOperation, OperationCounts, OperationKey,
    SettledFingerprints, SettledSpans, Sightings,
};

on_both_databases!(
    spans_wait_in_order_until_they_are_settled,
    each_span_counts_once_whenever_the_process_ends,
    an_export_is_kept_once,
    receipts_are_forgotten_by_age_and_number,
    settled_spans_are_remembered_newest_last,
    retries_add_up,
    operations_add_up_and_are_bounded,
    operations_are_read_by_page_and_forgotten_by_day,
);

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const DAYS: DaySpan = DaySpan { first_day: 0, end_day: i64::MAX };

/// An export whose digest is that of its number.
fn export(of: &str, number: u8, length: usize) -> ReceivedSpans {
    ReceivedSpans { tenant: tenant(of), digest: [number; 16], payload: vec![number; length] }
}

fn settled(spans: &PendingSpans, remaining: Option<Vec<u8>>) -> SettledSpans {
    SettledSpans { sequence: spans.sequence, revision: spans.revision, remaining }
}

fn observed_bucket(valid: u64) -> ObservedBucket {
    let bucket = bucket(1, valid, 1, Some(1));
    ObservedBucket { service: id("checkout"), source: Source::Traces, mode: BucketMode::Add, bucket }
}

fn observed_edge(call_count: u64, retry_count: u64) -> ObservedEdge {
    let sightings = Sightings { call_count, retry_count: Some(retry_count), ..Sightings::default() };
    ObservedEdge {
        key: edge("checkout", "payment"),
        source: Source::Traces,
        asynchronous: None,
        protocol: None,
        sightings,
    }
}

async fn spans_wait_in_order_until_they_are_settled(store: &Store) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    assert_eq!(store.newest_spans().await.expect("read"), 0);
    let exports = [export("acme", 1, 10), export("other", 2, 20), export("acme", 3, 30)];
    let sequences = store.append_spans(1_000, &exports).await.expect("kept");
    let sequences: Vec<i64> = sequences.into_iter().map(|sequence| sequence.expect("new")).collect();
    assert!(sequences.is_sorted_by(|a, b| a + 1 == *b) && sequences.len() == 3);
    assert_eq!(store.newest_spans().await.expect("read"), sequences[2]);
    let size = store.span_log_size().await.expect("read");
    assert_eq!((size.row_count, size.payload_bytes), (3, 60));
    let pending = store.pending_spans(0, 10).await.expect("read");
    assert_eq!(pending.iter().map(|spans| spans.payload[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.pending_spans(sequences[0], 1).await.expect("read"), pending[1..2]);

    let work = vec![settled(&pending[0], None), settled(&pending[2], Some(vec![9]))];
    let batch = ObservationBatch { settled_spans: work.clone(), ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch.clone()).await.expect("settled");
    let left = store.pending_spans(0, 10).await.expect("read");
    assert_eq!(left.iter().map(|spans| spans.sequence).collect::<Vec<_>>(), sequences[1..]);
    assert_eq!((left[1].remaining.as_deref(), left[1].revision), (Some(&[9u8][..]), 1));
    assert_eq!((left[0].tenant.clone(), left[0].received_ms), (other, 1_000));

    // The same work once more, and another tenant's row, are refused whole.
    let with_buckets = |settled_spans| ObservationBatch {
        buckets: vec![observed_bucket(1)],
        settled_spans,
        ..ObservationBatch::default()
    };
    for work in [work, vec![settled(&left[0], None)]] {
        let refused = store.observe(&acme, &[], |_| with_buckets(work.clone())).await;
        assert!(matches!(refused, Err(Error::AlreadySettled { .. })), "{refused:?}");
    }
    assert!(store.sli_page(&acme, &id("checkout"), ALL, 1, true).await.expect("read").buckets.is_empty());
    assert_eq!(store.pending_spans(0, 10).await.expect("read"), left);

    // A row that was begun is ended.
    let batch = ObservationBatch { settled_spans: vec![settled(&left[1], None)], ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch).await.expect("settled");
    assert_eq!(store.pending_spans(0, 10).await.expect("read"), left[..1]);
}

/// A process that ends between acknowledgement and settlement, or in the middle of it, leaves what it left here: an
/// appended row, and a transaction that nobody committed.
async fn each_span_counts_once_whenever_the_process_ends(store: &Store) {
    let acme = tenant("acme");
    store.append_spans(1, &[export("acme", 1, 1)]).await.expect("kept");
    let work = |pending: &[PendingSpans]| ObservationBatch {
        edges: vec![observed_edge(10, 0)],
        buckets: vec![observed_bucket(10)],
        settled_spans: pending.iter().map(|spans| settled(spans, None)).collect(),
        ..ObservationBatch::default()
    };
    let pending = store.pending_spans(0, 10).await.expect("read");
    let mut ended = store.begin_write(&acme).await.expect("begun");
    ended.apply(work(&pending)).await.expect("applied, not committed");
    drop(ended);
    assert_eq!(store.pending_spans(0, 10).await.expect("read"), pending, "nothing was settled");
    assert!(store.topology(&acme).await.expect("read").dependencies.is_empty(), "nothing was counted");

    store.observe(&acme, &[], |_| work(&pending)).await.expect("settled");
    let again = store.observe(&acme, &[], |_| work(&pending)).await;
    assert!(matches!(again, Err(Error::AlreadySettled { .. })));
    assert!(store.pending_spans(0, 10).await.expect("read").is_empty());
    assert_eq!(store.topology(&acme).await.expect("read").dependencies[0].sightings.call_count, 10);
    let page = store.sli_page(&acme, &id("checkout"), ALL, 10, true).await.expect("read");
    assert_eq!(page.buckets[0].bucket.counts.valid(), 10);
}

async fn an_export_is_kept_once(store: &Store) {
    let (first, second) = (export("acme", 1, 10), export("acme", 2, 10));
    let of_another = ReceivedSpans { tenant: tenant("other"), ..first.clone() };
    let kept = |sequences: Vec<Option<i64>>| sequences.iter().map(Option::is_some).collect::<Vec<bool>>();
    // A copy within one transaction, a retry while the row waits, the same by another tenant, and a retry after all.
    let exports = [first.clone(), first.clone(), second.clone()];
    assert_eq!(kept(store.append_spans(1, &exports).await.expect("kept")), [true, false, true]);
    assert_eq!(
        kept(store.append_spans(2, &[second, of_another, first.clone()]).await.expect("kept")),
        [false, true, false]
    );
    let pending = store.pending_spans(0, 10).await.expect("read");
    assert_eq!(pending.len(), 3);
    let of_acme = pending.iter().filter(|spans| spans.tenant == tenant("acme"));
    let settled_spans = of_acme.map(|spans| settled(spans, None)).collect();
    let batch = ObservationBatch { settled_spans, ..ObservationBatch::default() };
    store.observe(&tenant("acme"), &[], |_| batch).await.expect("settled");
    assert_eq!(kept(store.append_spans(3, &[first]).await.expect("kept")), [false]);
    assert_eq!(store.span_log_size().await.expect("read").row_count, 1);
}

/// Forgets in steps of one row; how many there were.
async fn forget(store: &Store, before_ms: i64, (receipts_max, settled_max): (usize, usize)) -> u64 {
    let forgettable = store.forgettable_spans(SpanMemory { before_ms, receipts_max, settled_max }).await.expect("read");
    let mut count = 0;
    loop {
        match store.forget_spans(forgettable, 1).await.expect("forgotten") {
            0 => return count,
            step => count += step,
        }
    }
}

async fn receipts_are_forgotten_by_age_and_number(store: &Store) {
    for number in 1..=6 {
        store.append_spans(i64::from(number) * 1_000, &[export("acme", number, 1)]).await.expect("kept");
    }
    let known =
        async |number: u8| store.append_spans(9_000, &[export("acme", number, 1)]).await.expect("kept")[0].is_none();
    assert_eq!(forget(store, 2_000, (10, 100)).await, 1);
    assert!(!known(1).await, "too old");
    assert!(known(2).await);
    // Those received at 9 s, 6 s and 5 s stay.
    assert_eq!(forget(store, 2_000, (3, 100)).await, 3, "those of 4, 3 and 2 s, one a step");
    assert!(known(5).await && known(6).await && known(1).await);
    assert!(!known(4).await, "too many");
}

async fn settled_spans_are_remembered_newest_last(store: &Store) {
    for settlement in 0..40u64 {
        let fingerprints = vec![settlement, u64::MAX - settlement];
        let settled_fingerprints = Some(SettledFingerprints { settled_ms: settlement as i64, fingerprints });
        let batch = ObservationBatch { settled_fingerprints, ..ObservationBatch::default() };
        store.observe(&tenant("acme"), &[], |_| batch).await.expect("kept");
    }
    let all = store.settled_fingerprints(1_000).await.expect("read");
    assert_eq!(all.iter().map(|settled| settled.settled_ms).collect::<Vec<_>>(), (0..40).collect::<Vec<_>>());
    assert_eq!(all[3].fingerprints, [3, u64::MAX - 3]);
    let newest = store.settled_fingerprints(5).await.expect("read");
    assert_eq!(newest.iter().map(|settled| settled.settled_ms).collect::<Vec<_>>(), [37, 38, 39]);
    // Five fingerprints are those of three settlements.
    assert_eq!(forget(store, 30, (1, 5)).await, 37);
    assert_eq!(store.settled_fingerprints(1_000).await.expect("read"), all[37..]);
    assert_eq!(forget(store, 39, (1, 100)).await, 2);
    assert_eq!(store.settled_fingerprints(1_000).await.expect("read"), all[39..]);
    assert_eq!(forget(store, 40, (1, 100)).await, 1);
}

async fn retries_add_up(store: &Store) {
    for retry_count in [2, 3] {
        let edges = vec![observed_edge(10, retry_count)];
        let batch = ObservationBatch { edges, ..ObservationBatch::default() };
        store.observe(&tenant("acme"), &[], |_| batch).await.expect("applied");
    }
    let topology = store.topology(&tenant("acme")).await.expect("read");
    assert_eq!(topology.dependencies[0].sightings.retry_count, Some(5));
}

fn operation(callee: Option<&str>, name: &str, day: i64, request_count: u64) -> ObservedOperation {
    let mut latency = LatencyHistogram::empty();
    latency.record_many(5.0, request_count);
    ObservedOperation {
        key: OperationKey { service: id("checkout"), callee: callee.map(id), name: name.to_owned(), day },
        seen: OperationCounts { request_count, bad_count: 1, latency },
    }
}

async fn observe(store: &Store, operations: Vec<ObservedOperation>) {
    let batch = ObservationBatch { operations, ..ObservationBatch::default() };
    store.observe(&tenant("acme"), &[], |_| batch).await.expect("applied");
}

async fn operations(store: &Store, after: Option<&OperationPosition>, limit: usize) -> Vec<ObservedOperation> {
    store.operations(&tenant("acme"), &id("checkout"), DAYS, after, limit).await.expect("read")
}

async fn operations_add_up_and_are_bounded(store: &Store) {
    observe(store, vec![operation(None, "GET /a", 1, 3), operation(Some("payment"), "GET /a", 1, 4)]).await;
    // Of this service and day three are kept.
    let more = ["GET /a", "GET /b", "GET /c", "GET /d"].map(|name| operation(None, name, 1, 5)).to_vec();
    observe(store, more).await;
    observe(store, vec![operation(None, "GET /d", 1, 7), operation(None, "GET /d", 2, 1)]).await;
    let read = operations(store, None, 10).await;
    let told: Vec<(i64, Option<&str>, &str, u64)> = read
        .iter()
        .map(|op| {
            (op.key.day, op.key.callee.as_ref().map(|id| id.as_str()), op.key.name.as_str(), op.seen.request_count)
        })
        .collect();
    let expected = [
        (1, None, "GET /a", 8),
        (1, None, "GET /b", 5),
        (1, None, "other", 17),
        (1, Some("payment"), "GET /a", 4),
        (2, None, "GET /d", 1),
    ];
    assert_eq!(told, expected);
    assert_eq!((read[0].seen.bad_count, read[0].seen.latency.count()), (2, 8));
    let others = store.operations(&tenant("other"), &id("checkout"), DAYS, None, 10).await.expect("read");
    assert!(others.is_empty(), "tenants do not meet");
}

async fn operations_are_read_by_page_and_forgotten_by_day(store: &Store) {
    for day in 1..=4 {
        observe(store, vec![operation(None, "a", day, 1), operation(Some("payment"), "b", day, 1)]).await;
    }
    let whole = operations(store, None, 100).await;
    assert_eq!(whole.len(), 8);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = operations(store, after.as_ref(), 3).await;
        let Some(last) = page.last() else { break };
        after = Some(OperationPosition::of(&last.key));
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    let days = DaySpan { first_day: 2, end_day: 3 };
    assert_eq!(store.operations(&tenant("acme"), &id("checkout"), days, None, 10).await.expect("read"), whole[2..4]);
    assert_eq!(store.forget_operations(3, 3).await.expect("forgotten"), 3, "so many a step");
    assert_eq!(store.forget_operations(3, 3).await.expect("forgotten"), 1);
    assert_eq!(store.forget_operations(3, 3).await.expect("nothing left"), 0);
    assert_eq!(operations(store, None, 100).await, whole[4..]);
}
