//! Several members on one PostgreSQL: each has a store of its own, and they share nothing but the database.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_vocabulary::{BUCKET_MS, DAY_MS, Source};
use futures::StreamExt as _;

use super::testing::{CAPACITY, FreshDatabase, bucket, edge, id, tenant};
use super::{BucketSpan, Change, ChangeKind, PackCursor, ReceivedSpans, Store};
use crate::Error;
use crate::domain::{
    BucketMode, MergedBucket, ObservationBatch, ObservedBucket, ObservedEdge, SettledSpans, Sightings,
};
use crate::reading::{FollowFrom, follow_changes};

const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };
const WITHIN: Duration = Duration::from_secs(60);

/// Two members on a database of the test's own.
struct Members {
    fresh: FreshDatabase,
    stores: [Store; 2],
}

impl Members {
    async fn start() -> Option<Self> {
        let fresh = FreshDatabase::create().await?;
        let open = || Store::open(&fresh.url, CAPACITY);
        // At the same time, as they would be.
        let (first, second) = tokio::join!(open(), open());
        let stores = [first.expect("opened"), second.expect("opened")];
        Some(Self { fresh, stores })
    }

    async fn end(self) {
        for store in &self.stores {
            store.close().await;
        }
        self.fresh.remove().await;
    }
}

fn adding(service: &str, n: i64, valid: u64) -> ObservedBucket {
    let bucket = bucket(n, valid, 0, None);
    ObservedBucket { service: id(service), source: Source::Traces, mode: BucketMode::Add, bucket }
}

async fn valid_counts(store: &Store, service: &str) -> BTreeMap<i64, u64> {
    let (mut counts, mut span) = (BTreeMap::new(), ALL);
    loop {
        let page = store.sli_page(&tenant("acme"), &id(service), span, 10_000, true).await.expect("read");
        let count = |merged: &MergedBucket| (merged.bucket.start_ms / BUCKET_MS, merged.bucket.counts.valid());
        counts.extend(page.buckets.iter().map(count));
        let Some(next_start_ms) = page.next_start_ms else { return counts };
        span.start_ms = next_start_ms;
    }
}

/// What the other member commits wakes nobody here: it is found by looking.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_one_member_learns_what_both_write() {
    const WRITES: u64 = 40;
    let Some(members) = Members::start().await else { return };
    let [here, other] = &members.stores;
    let writers: Vec<_> = [here, other]
        .into_iter()
        .enumerate()
        .map(|(member, store)| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..WRITES {
                    let service = id(&format!("service-{member}-{n}"));
                    store
                        .replace_buckets(&tenant("acme"), vec![(service, bucket(1, n + 1, 0, None))])
                        .await
                        .expect("kept");
                }
            })
        })
        .collect();
    let poll = Duration::from_millis(10);
    let mut changes = pin!(follow_changes(here.clone(), FollowFrom::default(), poll, Shutdown::new(), None));
    let mut seen: Vec<Change> = Vec::new();
    let following = async {
        while seen.len() < 2 * 2 * WRITES as usize {
            seen.push(changes.next().await.expect("goes on").expect("read"));
        }
    };
    tokio::time::timeout(WITHIN, following).await.expect("all are found");
    for writer in writers {
        writer.await.expect("written");
    }
    let sequences: Vec<u64> = seen.iter().map(|change| change.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "each once, in order");

    // Alone the other one writes: nothing wakes this follower at all.
    other.replace_buckets(&tenant("acme"), vec![(id("late"), bucket(1, 1, 0, None))]).await.expect("kept");
    let next = tokio::time::timeout(WITHIN, changes.next()).await.expect("found").expect("goes on").expect("read");
    assert_eq!((next.service, next.kind), (id("late"), ChangeKind::Topology));
    members.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_write_the_same_buckets_and_pack_them_lose_and_double_nothing() {
    const ROUNDS: i64 = 30;
    let Some(members) = Members::start().await else { return };
    let mut tasks = Vec::new();
    for store in &members.stores {
        let writer = store.clone();
        tasks.push(tokio::spawn(async move {
            for round in 0..ROUNDS {
                // Two months of one service: each needs partitions that the other may just be making.
                let buckets = (0..8).map(|n| adding("checkout", (round % 10 * 6 + n) * 288 + n, 1)).collect();
                let batch = ObservationBatch { buckets, ..ObservationBatch::default() };
                writer.observe(&tenant("acme"), &[], |_| batch).await.expect("applied");
            }
        }));
        let packer = store.clone();
        tasks.push(tokio::spawn(async move {
            for hours in 0..15 {
                let mut cursor = Some(PackCursor::default());
                while let Some(from) = cursor {
                    cursor = packer.pack(from, 60 * DAY_MS + hours * DAY_MS / 24).await.expect("packed").next;
                }
            }
        }));
    }
    for task in tasks {
        task.await.expect("run");
    }
    let mut expected: BTreeMap<i64, u64> = BTreeMap::new();
    for round in 0..ROUNDS {
        for n in 0..8 {
            *expected.entry((round % 10 * 6 + n) * 288 + n).or_default() += members.stores.len() as u64;
        }
    }
    for store in &members.stores {
        assert_eq!(valid_counts(store, "checkout").await, expected);
    }
    members.end().await;
}

/// Each takes whatever is pending; a row that the other settled meanwhile is refused whole, and read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_two_members_settle_count_once() {
    const EXPORTS: u8 = 60;
    let Some(members) = Members::start().await else { return };
    let [here, other] = &members.stores;
    for number in 0..EXPORTS {
        let store = if number % 2 == 0 { here } else { other };
        let export = ReceivedSpans { tenant: tenant("acme"), digest: [number; 16], payload: vec![number] };
        // Also a copy that a sender sends to the other member.
        for (store, new) in [(store, true), (other, false), (here, false)] {
            let kept = store.append_spans(1, std::slice::from_ref(&export)).await.expect("kept");
            assert_eq!(kept[0].is_some(), new);
        }
    }
    let settlers = [here, other].map(|store| tokio::spawn(settle_all(store.clone())));
    let mut refused = 0;
    for settler in settlers {
        refused += settler.await.expect("settled");
    }
    eprintln!("{refused} settlements were refused");
    assert_eq!(valid_counts(here, "checkout").await, BTreeMap::from([(1, u64::from(EXPORTS))]));
    let topology = other.topology(&tenant("acme")).await.expect("read");
    assert_eq!(topology.dependencies[0].sightings.call_count, u64::from(EXPORTS));
    assert_eq!(here.span_log_size().await.expect("read").row_count, 0);
    members.end().await;
}

/// Settles three rows at a time until there are none; how often the other one was first.
async fn settle_all(store: Store) -> u32 {
    let mut refused = 0;
    loop {
        let pending = store.pending_spans(0, 3).await.expect("read");
        if pending.is_empty() {
            return refused;
        }
        let row = |sequence, revision| SettledSpans { sequence, revision, remaining: None };
        let sightings = Sightings { call_count: pending.len() as u64, ..Sightings::default() };
        let (key, source) = (edge("checkout", "payment"), Source::Traces);
        let batch = ObservationBatch {
            buckets: vec![adding("checkout", 1, pending.len() as u64)],
            edges: vec![ObservedEdge { key, source, asynchronous: None, protocol: None, sightings }],
            settled_spans: pending.iter().map(|spans| row(spans.sequence, spans.revision)).collect(),
            ..ObservationBatch::default()
        };
        match store.observe(&tenant("acme"), &[], |_| batch).await {
            Ok(_) => {}
            Err(Error::AlreadySettled { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_drop_the_same_partitions_drop_each_once() {
    let Some(members) = Members::start().await else { return };
    let [here, other] = &members.stores;
    here.prepare_partitions(0, 100 * DAY_MS).await.expect("made");
    other.prepare_partitions(0, 130 * DAY_MS).await.expect("made");
    let (first, second) = tokio::join!(here.expire(70 * DAY_MS, 100), other.expire(70 * DAY_MS, 100));
    assert_eq!(first.expect("dropped") + second.expect("dropped"), 4, "two partitions of two tables");
    assert_eq!(here.partition_count().await.expect("read"), 3);
    members.end().await;
}

/// To drop a partition waits for whoever reads it, and nobody waits behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_do_not_wait_behind_a_partition_that_is_to_go() {
    const WAITING: &str = "SELECT COUNT(*) AS waiting FROM pg_stat_activity \
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let Some(members) = Members::start().await else { return };
    let [here, other] = &members.stores;
    let days = |from: i64, to: i64| (from * 288..to * 288).map(|n| (id("checkout"), bucket(n, 1, 0, None))).collect();
    here.replace_buckets(&tenant("acme"), days(0, 1)).await.expect("kept");
    here.replace_buckets(&tenant("acme"), days(80, 81)).await.expect("kept");
    let mut reading = here.begin_read().await.expect("begun");
    sqlx::query("SELECT COUNT(*) FROM sli_blocks").fetch_one(&mut *reading).await.expect("read");
    let mut overtook = false;
    for _ in 0..5 {
        let store = other.clone();
        let dropping = tokio::spawn(async move { store.expire(70 * DAY_MS, 100).await });
        while !dropping.is_finished() && !overtook {
            let row = sqlx::query(WAITING).fetch_one(here.database.pool()).await.expect("read");
            if super::rows::count(&row, "waiting").expect("a count") > 0 {
                let read = valid_counts(here, "checkout").await;
                assert!(read.len() >= 288 && read.contains_key(&(80 * 288)), "what is kept is read");
                overtook = !dropping.is_finished();
            }
        }
        // It gives up rather than wait for ever, and that is no failure.
        dropping.await.expect("run").expect("no failure");
        if overtook {
            break;
        }
    }
    assert!(overtook, "a reader came through while the drop was waiting");
    reading.commit().await.expect("ended");
    let mut left = 1;
    while left > 0 {
        left = here.expire(70 * DAY_MS, 100).await.expect("dropped");
    }
    assert_eq!(here.partition_count().await.expect("read"), 1, "what was begun is finished");
    assert_eq!(valid_counts(here, "checkout").await.len(), 288);
    members.end().await;
}

#[tokio::test]
async fn a_commit_is_on_disk_though_the_database_says_that_it_need_not_be() {
    for (said, holds) in [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")] {
        let Some(fresh) = FreshDatabase::create().await else { return };
        let (_, name) = fresh.url.rsplit_once('/').expect("a database");
        let store = Store::open(&fresh.url, CAPACITY).await.expect("opened");
        let alter = format!("ALTER DATABASE {name} SET synchronous_commit = {said}");
        sqlx::query(sqlx::AssertSqlSafe(alter)).execute(store.database.pool()).await.expect("altered");
        store.close().await;
        let store = Store::open(&fresh.url, CAPACITY).await.expect("opened");
        let mut settings = BTreeSet::new();
        for _ in 0..3 {
            let row = sqlx::query("SELECT current_setting('synchronous_commit') AS setting");
            let row = row.fetch_one(store.database.pool()).await.expect("read");
            settings.insert(super::rows::column::<String>(&row, "setting").expect("a text"));
        }
        assert_eq!(settings, BTreeSet::from([holds.to_owned()]), "{said}");
        store.close().await;
        fresh.remove().await;
    }
}
