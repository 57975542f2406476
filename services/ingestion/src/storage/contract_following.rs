//! The change stream from end to end: whoever follows it, and whichever side starts again in between, learns of the newest
//! change of each service and kind once, in order; on both databases.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use attain_runtime::Shutdown;
use futures::{Stream, StreamExt as _};

use super::testing::{CAPACITY, FreshDatabase, bucket, id, tenant};
use super::{Change, Store};
use crate::Error;
use crate::reading::{FollowFrom, follow_changes};

/// Longer than any test: what this process commits wakes the follower without it.
const POLL: Duration = Duration::from_secs(3_600);
const SERVICES: u64 = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_follower_misses_nothing_across_restarts() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
    follows_across_restarts(&url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_follower_misses_nothing_across_restarts() {
    let Some(fresh) = FreshDatabase::create().await else { return };
    follows_across_restarts(&fresh.url).await;
    fresh.remove().await;
}

async fn write(store: &Store, n: u64) {
    let acme = tenant("acme");
    let row = (id(&format!("service-{}", n % SERVICES)), bucket(1, n + 1, 0, None));
    store.replace_buckets(&acme, vec![row]).await.expect("kept");
}

async fn take(changes: impl Stream<Item = Result<Change, Error>>, until: u64, seen: &mut Vec<Change>) {
    let mut changes = pin!(changes);
    while seen.last().is_none_or(|last| last.sequence < until) {
        seen.push(changes.next().await.expect("goes on").expect("read"));
    }
}

/// After what was seen, as a follower remembers it.
fn from(seen: &[Change]) -> FollowFrom {
    seen.last().map_or_else(FollowFrom::default, |last| FollowFrom { after: last.sequence, epoch: last.epoch.clone() })
}

async fn follows_across_restarts(url: &str) {
    let mut seen: Vec<Change> = Vec::new();
    for round in 0..4u64 {
        let store = Store::open(url, CAPACITY).await.expect("opened");
        let shutdown = Shutdown::new();
        let follow = |seen: &[Change]| follow_changes(store.clone(), from(seen), POLL, shutdown.clone(), None);
        let begun = store.newest_sequence().await.expect("read");
        let writer = {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..30 {
                    write(&store, round * 30 + n).await;
                }
            })
        };
        // The follower goes away three times in the middle, and comes back with the last sequence that it saw.
        for part in 1..=3 {
            take(follow(&seen), begun + part * 5, &mut seen).await;
        }
        writer.await.expect("written");
        // Ingestion ends: the stream ends, rather than failing or waiting.
        let last = store.newest_sequence().await.expect("read");
        let changes = follow(&seen);
        let mut changes = pin!(changes);
        while seen.last().is_some_and(|change| change.sequence < last) {
            seen.push(changes.next().await.expect("goes on").expect("read"));
        }
        shutdown.cancel();
        assert!(changes.next().await.is_none());
        // Written while nobody follows.
        write(&store, 1_000 + round).await;
        store.close().await;
    }
    let store = Store::open(url, CAPACITY).await.expect("opened");
    let newest = store.newest_sequence().await.expect("read");
    let rest = follow_changes(store.clone(), from(&seen), POLL, Shutdown::new(), None);
    take(rest, newest, &mut seen).await;
    assert!(seen.is_sorted_by(|a, b| a.sequence < b.sequence), "each once, in order");
    assert!(seen.iter().all(|change| !change.epoch.is_empty()));
    let of = |changes: &[Change]| {
        let newest = changes.iter().map(|change| ((change.service.clone(), change.kind), change.sequence));
        newest.collect::<BTreeMap<_, _>>()
    };
    let log = store.changes_after(0, 1_000).await.expect("read");
    assert_eq!(log.len() as u64, 2 * SERVICES, "compacted: topology and SLI of each");
    assert_eq!(of(&seen), of(&log), "of each the newest was seen last");

    // One that fell far behind reads what is left of the log: bounded by the services, not by the writes.
    let mut slow = Vec::new();
    take(follow_changes(store.clone(), from(&[]), POLL, Shutdown::new(), None), newest, &mut slow).await;
    assert_eq!(slow, log);
    // One that followed another database is told so.
    let ahead = FollowFrom { after: newest + 1, ..from(&seen) };
    let ahead = follow_changes(store.clone(), ahead, POLL, Shutdown::new(), None);
    let told = pin!(ahead).next().await.expect("an answer");
    assert!(matches!(told, Err(Error::SequenceAhead { after, newest: last }) if after == newest + 1 && last == newest));
    store.close().await;
}
