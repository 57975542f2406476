//! What each version wrote, and how it reads today. A version that adds tables adds a seed here.

use attain_runtime::database::Database;
use attain_vocabulary::{DAY_MS, LatencyHistogram, SliBucket, Source, UtilisationKind};
use sqlx::{Any, Transaction};

use super::block::pack;
use super::incident_record::encode_incident;
use super::incidents::NAMED_ANYWHERE;
use super::record::{encode_histogram, source_number};
use super::rows::Bound;
use super::testing::{bucket, id, tenant};
use super::{BucketSpan, CatalogueEntry, DaySpan, PendingSpans, ReceivedSpans, Store};
use crate::domain::{Incident, IncidentDraft, ObservationBatch, SettledSpans};

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const DIGEST: [u8; 16] = [7; 16];
/// Of a day whose partition version 1 needed already.
const BLOCK_DAY: i64 = 3;

/// Writes what `version` brought, as it wrote it.
pub(super) async fn seed(database: &Database, version: i64) {
    let mut transaction = database.begin_write().await.expect("begun");
    match version {
        1 => seed_1(&mut transaction).await,
        2 => seed_2(&mut transaction).await,
        3 => seed_3(&mut transaction).await,
        4 => seed_4(&mut transaction).await,
        5 => seed_5(&mut transaction).await,
        6 => seed_6(&mut transaction).await,
        10 => seed_10(&mut transaction).await,
        14 => seed_14(&mut transaction).await,
        _ => {}
    }
    transaction.commit().await.expect("committed");
}

/// Reads back what every version up to `version` wrote.
pub(super) async fn reads(store: &Store, version: i64) {
    reads_1(store, version).await;
    if version >= 2 {
        reads_2(store).await;
    }
    if version >= 3 {
        reads_3(store).await;
    }
    if version >= 4 {
        reads_4(store).await;
    }
    if version >= 5 {
        reads_5(store).await;
    }
    if version >= 6 {
        reads_6(store).await;
    }
    if version >= 10 {
        reads_10(store).await;
    }
    if version >= 14 {
        reads_14(store).await;
    }
}

pub(super) async fn run(transaction: &mut Transaction<'static, Any>, query: Bound<'_>) {
    query.execute(&mut **transaction).await.expect("written");
}

async fn run_all(transaction: &mut Transaction<'static, Any>, statements: &[&'static str]) {
    for statement in statements.iter().copied() {
        run(transaction, sqlx::query(statement)).await;
    }
}

fn incident() -> Incident {
    let draft = IncidentDraft {
        id: "INC-7".into(),
        title: "Down".into(),
        service_ids: vec!["checkout".into()],
        cause_service_id: "payment".into(),
        start_ms: 5_000,
        severity_ratio: Some(0.5),
        ..IncidentDraft::default()
    };
    draft.check(i64::MAX).expect("valid")
}

/// Acknowledged spans, one of them settled twice in part, and an incident.
async fn seed_1(transaction: &mut Transaction<'static, Any>) {
    let sql = "INSERT INTO span_log (tenant_id, sequence, received_ms, payload, remaining, revision) \
               VALUES ('acme', $1, 1000, $2, $3, $4)";
    run(transaction, sqlx::query(sql).bind(1_i64).bind(vec![1_u8, 2]).bind(None::<Vec<u8>>).bind(0_i64)).await;
    run(transaction, sqlx::query(sql).bind(2_i64).bind(vec![3_u8, 4]).bind(Some(vec![4_u8])).bind(2_i64)).await;
    run_all(transaction, &["UPDATE counters SET last = 2 WHERE name = 'span_log'"]).await;
    let sql = "INSERT INTO incidents (tenant_id, id, start_ms, record) VALUES ('acme', 'INC-7', 5000, $1)";
    run(transaction, sqlx::query(sql).bind(encode_incident(&incident()))).await;
    let of_service = "INSERT INTO incident_services (tenant_id, service_id, start_ms, incident_id) \
                      VALUES ('acme', 'checkout', 5000, 'INC-7'), ('acme', 'payment', 5000, 'INC-7')";
    run_all(transaction, &[of_service]).await;
}

async fn reads_1(store: &Store, version: i64) {
    let acme = tenant("acme");
    assert_eq!(store.incidents(&acme, None, None, 10).await.expect("read"), [incident()]);
    for service in ["checkout", "payment"] {
        let listed = store.incidents(&acme, Some(&id(service)), None, 10).await.expect("read");
        assert_eq!(listed, [incident()], "{service}");
    }
    let pending = store.pending_spans(0, 10).await.expect("read");
    let row = |sequence, payload: &[u8], remaining: Option<&[u8]>, revision| PendingSpans {
        tenant: acme.clone(),
        sequence,
        received_ms: 1_000,
        payload: payload.to_vec(),
        remaining: remaining.map(<[u8]>::to_vec),
        revision,
    };
    let mut expected = vec![row(1, &[1, 2], None, 0), row(2, &[3, 4], Some(&[4]), 2)];
    if version >= 3 {
        expected.push(row(3, &[5, 6], Some(&[6]), 1));
    }
    assert_eq!(pending, expected, "whatever was acknowledged waits, as far as it was settled");
}

fn packed_day() -> Vec<SliBucket> {
    (0..288).step_by(3).map(|n| bucket(BLOCK_DAY * 288 + n, 30 + n as u64, 2, Some(1))).collect()
}

async fn seed_2(transaction: &mut Transaction<'static, Any>) {
    let packed = pack(&packed_day());
    let sql = "INSERT INTO sli_blocks (tenant_id, service_id, day_ms, source, slots, counts, latency) \
               VALUES ('acme', 'payment', $1, $2, $3, $4, $5)";
    let query = sqlx::query(sql).bind(BLOCK_DAY * DAY_MS).bind(source_number(Source::Traces));
    run(transaction, query.bind(packed.slots.to_vec()).bind(packed.counts).bind(packed.latency)).await;
    let until = "UPDATE tenants SET packed_until_ms = $1 WHERE tenant_id = 'acme'";
    run(transaction, sqlx::query(until).bind((BLOCK_DAY + 1) * DAY_MS)).await;
}

async fn reads_2(store: &Store) {
    let page = store.sli_page(&tenant("acme"), &id("payment"), ALL, 1_000, true).await.expect("read");
    assert!(page.buckets.into_iter().map(|merged| merged.bucket).eq(packed_day()));
}

fn latency() -> LatencyHistogram {
    LatencyHistogram::from_explicit(&[10.0, 100.0], &[3, 1, 0]).expect("valid")
}

async fn seed_3(transaction: &mut Transaction<'static, Any>) {
    let log = "INSERT INTO span_log (tenant_id, sequence, received_ms, payload) VALUES ('acme', 3, 1000, $1)";
    run(transaction, sqlx::query(log).bind(vec![5_u8, 6])).await;
    let progress = "INSERT INTO span_progress (tenant_id, sequence, revision, remaining) VALUES ('acme', 3, 1, $1)";
    run(transaction, sqlx::query(progress).bind(vec![6_u8])).await;
    let receipt = "INSERT INTO span_receipts (tenant_id, digest, received_ms) VALUES ('acme', $1, 1000)";
    run(transaction, sqlx::query(receipt).bind(DIGEST.to_vec())).await;
    let settled =
        "INSERT INTO settled_spans (tenant_id, settlement, settled_ms, fingerprints) VALUES ('acme', 1, 900, $1)";
    run(transaction, sqlx::query(settled).bind([1_u64, 2].map(u64::to_be_bytes).concat())).await;
    let counts = [
        "UPDATE counters SET last = 3 WHERE name = 'span_log'",
        "UPDATE counters SET last = 1 WHERE name = 'settled_spans'",
    ];
    run_all(transaction, &counts).await;
    let operation = "INSERT INTO operations (tenant_id, service_id, day, callee_id, operation, request_count, bad_count, latency) \
                     VALUES ('acme', 'checkout', 3, '', 'GET /', 4, 1, $1)";
    run(transaction, sqlx::query(operation).bind(encode_histogram(&latency()))).await;
}

async fn reads_3(store: &Store) {
    let acme = tenant("acme");
    let again = ReceivedSpans { tenant: acme.clone(), digest: DIGEST, payload: vec![5] };
    assert_eq!(
        store.append_spans(2_000, &[again]).await.expect("known"),
        [None],
        "a retry across the upgrade is known"
    );
    let settled = store.settled_fingerprints(10).await.expect("read");
    assert_eq!((settled.len(), settled[0].settled_ms, settled[0].fingerprints.clone()), (1, 900, vec![1, 2]));
    let days = DaySpan { first_day: 0, end_day: 10 };
    let operations = store.operations(&acme, &id("checkout"), days, None, 10).await.expect("read");
    let [operation] = &operations[..] else { panic!("{operations:?}") };
    assert_eq!((operation.key.name.as_str(), operation.key.day, &operation.key.callee), ("GET /", 3, &None));
    assert_eq!((operation.seen.request_count, operation.seen.bad_count), (4, 1));
    assert_eq!(operation.seen.latency, latency());
}

async fn seed_4(transaction: &mut Transaction<'static, Any>) {
    let exemplar = "INSERT INTO exemplars (tenant_id, service_id, hour_ms, failed, trace_id, span_id, time_ms, latency_us) \
                    VALUES ('acme', 'checkout', 3600000, 1, '000000000000000000000000000000ab', '00000000000000cd', 3600007, 250)";
    run_all(transaction, &[exemplar]).await;
}

async fn reads_4(store: &Store) {
    let exemplars = store.exemplars(&tenant("acme"), &id("checkout"), ALL, None, 10).await.expect("read");
    let [exemplar] = &exemplars[..] else { panic!("{exemplars:?}") };
    assert_eq!((exemplar.trace_id, exemplar.span_id, exemplar.failed), (0xab, 0xcd, true));
    assert_eq!((exemplar.time_ms, exemplar.latency_us), (3_600_007, 250));
}

/// One bucket of processor time: the sixth of its day, 0.5 on average and at most, of three samples.
const UTILISATION: &str = "0a1008011201051a03a0c21e2201002a0103";

async fn seed_5(transaction: &mut Transaction<'static, Any>) {
    let record = hex::decode(UTILISATION).expect("hexadecimal");
    let sql = "INSERT INTO utilisation_days (tenant_id, service_id, day_ms, source, record) \
               VALUES ('acme', 'checkout', $1, $2, $3)";
    let query = sqlx::query(sql).bind(DAY_MS).bind(source_number(Source::Prometheus)).bind(record);
    run(transaction, query).await;
}

async fn reads_5(store: &Store) {
    let page = store.utilisation_page(&tenant("acme"), &id("checkout"), ALL, 10).await.expect("read");
    let [measured] = &page.buckets[..] else { panic!("{page:?}") };
    let bucket = measured.bucket;
    assert_eq!((measured.source, bucket.kind()), (Source::Prometheus, UtilisationKind::Cpu));
    assert_eq!((bucket.start_ms(), bucket.sample_count()), (DAY_MS + 5 * 300_000, 3));
    assert_eq!((bucket.average(), bucket.maximum()), (0.5, 0.5));
}

/// Understood as `1`: two entities, one service, no edge.
const SWEEP: &str = "0a0131100218012000";

async fn seed_6(transaction: &mut Transaction<'static, Any>) {
    let sql = "INSERT INTO catalogue_sweeps (tenant_id, applied_ms, record) VALUES ('acme', 1793000000000, $1)";
    run(transaction, sqlx::query(sql).bind(hex::decode(SWEEP).expect("hexadecimal"))).await;
    let entries = "INSERT INTO catalogue_entries (tenant_id, reference, etag, service_id) \
                   VALUES ('acme', 'component:default/checkout', 'e1', 'checkout'), ('acme', 'system:default/shop', 'e2', '')";
    run_all(transaction, &[entries]).await;
}

async fn reads_6(store: &Store) {
    let acme = tenant("acme");
    let sweep = store.applied_sweep(&acme).await.expect("read").expect("one was applied");
    assert_eq!((sweep.applied_ms, sweep.entity_count, sweep.service_count), (1_793_000_000_000, 2, 1));
    // The same sweep is known again, entry by entry.
    let entry = |etag: &str, service: Option<&str>| CatalogueEntry { etag: etag.into(), service: service.map(id) };
    let same = super::CatalogueSnapshot {
        understanding: "1".into(),
        entries: [
            ("component:default/checkout".to_owned(), entry("e1", Some("checkout"))),
            ("system:default/shop".to_owned(), entry("e2", None)),
        ]
        .into(),
        ..Default::default()
    };
    let outcome = store.apply_catalogue(&acme, &same, 0.5, 1_793_000_000_001).await.expect("read");
    assert_eq!(outcome, super::CatalogueOutcome::Unchanged);
}

async fn seed_10(transaction: &mut Transaction<'static, Any>) {
    let name = "INSERT INTO incident_names (tenant_id, name, incident_id) VALUES ('acme', 'shop api', 'INC-7')";
    run_all(transaction, &[name]).await;
}

async fn reads_10(store: &Store) {
    let waiting = sqlx::query(NAMED_ANYWHERE).bind("shop api").fetch_all(store.database.pool()).await.expect("read");
    assert_eq!(waiting.len(), 1, "a name still waits for its service");
}

/// One request of 9 ms that began 5 ms into its hour, failed, and called `cart` twice, the second time in vain; there were
/// more calls.
const SAMPLED: &str = "0a0463617274122609070000000000000010882718a84620012801320200003a04e807a01f4204d00f88274a0101";

async fn seed_14(transaction: &mut Transaction<'static, Any>) {
    let sql =
        "INSERT INTO request_samples (tenant_id, service_id, hour_ms, record) VALUES ('acme', 'checkout', 3600000, $1)";
    run(transaction, sqlx::query(sql).bind(hex::decode(SAMPLED).expect("hexadecimal"))).await;
}

async fn reads_14(store: &Store) {
    let hours = store.request_samples(&tenant("acme"), &id("checkout"), ALL, 10).await.expect("read");
    let [hour] = &hours[..] else { panic!("{hours:?}") };
    let [sample] = &hour.samples[..] else { panic!("{hour:?}") };
    assert_eq!((hour.hour_ms, sample.start_time_us, sample.duration_us), (3_600_000, 3_600_005_000, 9_000));
    assert_eq!((sample.rank, sample.failed, sample.truncated), (7, true, true));
    let calls: Vec<_> = sample.calls.iter().map(|call| (call.offset_us, call.duration_us, call.failed)).collect();
    assert_eq!(calls, [(1_000, 2_000, false), (4_000, 5_000, true)]);
    assert!(sample.calls.iter().all(|call| call.callee == id("cart")));
}

/// What was acknowledged before the upgrade is settled after it, each row in the state that it was left in.
pub(super) async fn settles(store: &Store) {
    let acme = tenant("acme");
    let pending = store.pending_spans(0, 10).await.expect("read");
    let done =
        |spans: &PendingSpans| SettledSpans { sequence: spans.sequence, revision: spans.revision, remaining: None };
    let batch = ObservationBatch { settled_spans: pending.iter().map(done).collect(), ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch).await.expect("settled");
    assert!(store.pending_spans(0, 10).await.expect("read").is_empty());
    // Numbers go on after those of before.
    let new = ReceivedSpans { tenant: acme, digest: [8; 16], payload: vec![9] };
    let kept = store.append_spans(3_000, &[new]).await.expect("kept");
    assert_eq!(kept, [pending.last().map(|last| last.sequence + 1)]);
}
