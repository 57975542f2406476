//! Databases of earlier versions: whatever version one was made by, and however many steps it takes, what each version
//! wrote reads the same afterwards.

use std::borrow::Cow;
use std::collections::BTreeSet;

use attain_runtime::database::{Database, Migrations};
use attain_vocabulary::{BUCKET_MS, DAY_MS, SliBucket, Source};
use sqlx::migrate::Migrator;

use super::forward_seeds::{reads, run, seed, settles};
use super::record::{encode_entity, encode_histogram, encode_shares, encode_terms, source_number};
use super::rows::stored;
use super::testing::{CAPACITY, FreshDatabase, bucket, id, tenant};
use super::{BucketSpan, ChangeKind, PackCursor, Store, migrations};
use crate::domain::{DependencyTerms, Entity, MergedBucket};

const DAY: i64 = DAY_MS / BUCKET_MS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_forward_from_every_released_version() {
    for version in versions() {
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        migrates_from(&url, version).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_forward_from_every_released_version() {
    for version in versions() {
        let Some(fresh) = FreshDatabase::create().await else { return };
        migrates_from(&fresh.url, version).await;
        fresh.remove().await;
    }
}

fn versions() -> Vec<i64> {
    let of = |migrator: &Migrator| migrator.iter().map(|migration| migration.version).collect::<Vec<_>>();
    let migrations = migrations();
    assert_eq!(of(&migrations.sqlite), of(&migrations.postgres), "both databases have the same versions");
    of(&migrations.sqlite)
}

/// The migrations that there were at a version.
fn until(version: i64) -> Migrations {
    let cut = |migrator: Migrator| Migrator {
        migrations: Cow::Owned(migrator.iter().filter(|migration| migration.version <= version).cloned().collect()),
        ..Migrator::DEFAULT
    };
    let Migrations { sqlite, postgres } = migrations();
    Migrations { sqlite: cut(sqlite), postgres: cut(postgres) }
}

/// Data of each version, a step at a time to `version`, and from there at once to the newest.
async fn migrates_from(url: &str, version: i64) {
    for step in versions().into_iter().filter(|step| *step <= version) {
        let database = Database::open("ingestion", url, &until(step)).await.expect("migrated");
        if step == 1 {
            write_version_1(&database).await;
        }
        seed(&database, step).await;
        database.close().await;
    }
    let store = Store::open(url, CAPACITY).await.expect("migrated");
    reads_what_was_written(&store).await;
    reads(&store, version).await;
    let mut cursor = Some(PackCursor::default());
    while let Some(from) = cursor {
        cursor = store.pack(from, 80 * DAY_MS).await.expect("packed").next;
    }
    reads_what_was_written(&store).await;
    reads(&store, version).await;
    settles(&store).await;
    store.close().await;
    Store::open(url, CAPACITY).await.expect("opened again").close().await;
}

/// Buckets a day for 70 days, so that they need several partitions.
fn buckets() -> Vec<(Source, SliBucket)> {
    let of = |day: i64| {
        let n = day * DAY + day;
        [(Source::Declared, bucket(n, 10, 1, None)), (Source::Traces, bucket(n + 1, 20, 2, Some(1)))]
    };
    (0..70).flat_map(of).collect()
}

async fn write_version_1(database: &Database) {
    let mut transaction = database.begin_write().await.expect("begun");
    run(&mut transaction, sqlx::query("INSERT INTO tenants (tenant_id, topology_version) VALUES ('acme', 2)")).await;
    run(&mut transaction, sqlx::query("UPDATE counters SET last = 3 WHERE name = 'changes'")).await;
    for (sequence, service, kind) in [(1i64, "checkout", 1i64), (2, "payment", 1), (3, "checkout", 2)] {
        let sql = "INSERT INTO changes (tenant_id, service_id, kind, sequence) VALUES ('acme', $1, $2, $3)";
        run(&mut transaction, sqlx::query(sql).bind(service).bind(kind).bind(sequence)).await;
    }
    for name in ["checkout", "payment"] {
        let entity = Entity { owner: Some("Päyments".into()), ..Entity::named(id(name)) };
        let sql = "INSERT INTO entities (tenant_id, id, search, record, request_count) VALUES ('acme', $1, $2, $3, 7)";
        run(&mut transaction, sqlx::query(sql).bind(name).bind(entity.search_text()).bind(encode_entity(&entity)))
            .await;
    }
    for (source, terms, call_count) in [(1i64, DependencyTerms::hard(), 0i64), (2, DependencyTerms::default(), 4)] {
        let sql = "INSERT INTO dependencies (tenant_id, caller_id, callee_id, source, terms, call_count, \
                   calling_request_count, failure_count, rescued_count) \
                   VALUES ('acme', 'checkout', 'payment', $1, $2, $3, $3, 0, 0)";
        run(&mut transaction, sqlx::query(sql).bind(source).bind(encode_terms(&terms)).bind(call_count)).await;
    }
    for (source, bucket) in buckets() {
        let sql = "INSERT INTO sli_buckets (tenant_id, service_id, start_ms, source, valid_count, bad_count, \
                   inherited_bad_count, shares, latency) VALUES ('acme', 'checkout', $1, $2, $3, $4, $5, $6, $7)";
        let query = sqlx::query(sql)
            .bind(bucket.start_ms)
            .bind(source_number(source))
            .bind(stored(bucket.counts.valid()))
            .bind(stored(bucket.counts.bad()))
            .bind(bucket.counts.inherited_bad().map(stored))
            .bind(encode_shares(&bucket.inherited_by_dependency))
            .bind(bucket.latency.as_ref().map(encode_histogram));
        run(&mut transaction, query).await;
    }
    let sql = "INSERT INTO counter_states (tenant_id, key, state) VALUES ('acme', 'requests', $1)";
    run(&mut transaction, sqlx::query(sql).bind(vec![5u8])).await;
    transaction.commit().await.expect("committed");
}

async fn reads_what_was_written(store: &Store) {
    let acme = tenant("acme");
    let topology = store.topology(&acme).await.expect("read");
    assert_eq!((topology.version, topology.entities.len(), topology.dependencies.len()), (2, 2, 1));
    assert_eq!(topology.entities[0].owner.as_deref(), Some("Päyments"));
    let edge = &topology.dependencies[0];
    assert_eq!((edge.terms.mode, edge.sightings.call_count), (DependencyTerms::hard().mode, 4));
    let mut span = BucketSpan { start_ms: 0, end_ms: i64::MAX };
    let mut read: Vec<(Source, SliBucket)> = Vec::new();
    loop {
        let page = store.sli_page(&acme, &id("checkout"), span, 1_000, true).await.expect("read");
        let alone = |merged: MergedBucket| (merged.sources.iter().next().expect("a source"), merged.bucket);
        read.extend(page.buckets.into_iter().map(alone));
        let Some(next_ms) = page.next_start_ms else { break };
        span.start_ms = next_ms;
    }
    assert_eq!(read, buckets());
    let summary = store.data_summary(&acme, &id("checkout")).await.expect("read");
    assert_eq!((summary.bucket_count, summary.dependency_count), (140, 1));
    assert_eq!(summary.sources, BTreeSet::from([Source::Declared, Source::Traces]));
    let changes = store.changes_after(0, 10).await.expect("read");
    let told: Vec<_> = changes.iter().map(|change| (change.sequence, change.service.as_str(), change.kind)).collect();
    let (topology, sli) = (ChangeKind::Topology, ChangeKind::Sli);
    assert_eq!(told, [(1, "checkout", topology), (2, "payment", topology), (3, "checkout", sli)]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let look = move |states: &super::CounterStates| {
        sender.send(states.clone()).expect("somebody listens");
        crate::domain::ObservationBatch::default()
    };
    store.observe(&acme, &["requests".to_owned()], look).await.expect("applied");
    assert_eq!(receiver.recv().expect("told").get("requests"), Some(&vec![5]));
}
