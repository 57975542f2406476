//! What is done to history in the background: hours that are over are packed, what is too old goes, and on PostgreSQL the
//! partitions of the time to come are made.

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{DAY_MS, UnixMillis};
use tokio::time::Instant;

use crate::count::{Count, observed};
use crate::imports::ServiceNames;
use crate::storage::{PackCursor, Store};
use crate::{Config, Error};

/// Rows deleted in a transaction.
const EXPIRE_ROWS_MAX: usize = 500;
/// How far ahead partitions are made: as long as a partition, so that there is always a next one.
const AHEAD_MS: i64 = 28 * DAY_MS;

struct Counts {
    packed: Count,
    blocks: Count,
    damaged: Count,
    expired: Count,
    failed: Count,
}

impl Counts {
    fn new() -> Self {
        let count = |what| observed("upkeep", what);
        Self {
            packed: count("packed_buckets"),
            blocks: count("written_blocks"),
            damaged: count("damaged_days"),
            expired: count("expired"),
            failed: count("failed_rounds"),
        }
    }
}

/// Keeps history in order until shutdown. A round that fails is tried again at the next.
pub(crate) async fn run(store: Store, config: Arc<Config>, clock: Clock, shutdown: Shutdown) {
    let counts = Counts::new();
    let rounds = async {
        let mut linked = false;
        loop {
            if !linked {
                linked = link_translated(&store, &config).await.inspect_err(tell_unlinked).is_ok();
            }
            if let Err(error) = round(&store, &config, clock.now_ms(), &counts).await {
                counts.failed.add(1);
                tracing::warn!(error = %error, "history could not be kept in order; it is tried again");
            }
            tokio::time::sleep(Duration::from_secs(config.upkeep_interval_seconds)).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = rounds => {}
    }
}

fn tell_unlinked(error: &Error) {
    tracing::warn!(error = %error, "incidents could not be linked by the settings; it is tried again");
}

/// Incidents that came before the settings translated the names of their services are linked to them now.
async fn link_translated(store: &Store, config: &Config) -> Result<(), Error> {
    for (name, service) in ServiceNames::new(&config.incidents.services)?.translations() {
        store.link_named(name, service).await?;
    }
    Ok(())
}

async fn round(store: &Store, config: &Config, now_ms: UnixMillis, counts: &Counts) -> Result<(), Error> {
    let closed_before_ms = config.closed_before_ms(now_ms);
    let keep_from_ms = config.keep_from_ms(now_ms);
    store.close_days_before(closed_before_ms);
    store.prepare_partitions(keep_from_ms, now_ms.saturating_add(AHEAD_MS)).await?;
    let mut cursor = Some(PackCursor::default());
    while let Some(from) = cursor {
        let begun = Instant::now();
        let step = store.pack(from, closed_before_ms).await?;
        counts.packed.add(step.row_count);
        counts.blocks.add(step.block_count);
        counts.damaged.add(step.damaged_count);
        cursor = step.next;
        // As long as it took: whoever writes has the database for half of the time at least.
        tokio::time::sleep(begun.elapsed()).await;
    }
    loop {
        let begun = Instant::now();
        let gone = store.expire(keep_from_ms, EXPIRE_ROWS_MAX).await?;
        counts.expired.add(usize::try_from(gone).unwrap_or(usize::MAX));
        if gone == 0 {
            return Ok(());
        }
        tokio::time::sleep(begun.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use attain_vocabulary::{BUCKET_MS, UtilisationKind};

    use super::*;
    use crate::domain::UtilisationBucket;
    use crate::storage::BucketSpan;
    use crate::storage::testing::{bucket, id, on_both_databases, tenant};

    on_both_databases!(a_round_packs_what_is_over_and_deletes_what_is_too_old);

    const DAYS: i64 = 1_700;
    const NOW_MS: i64 = DAYS * DAY_MS + 5 * DAY_MS / 24;
    const ALL: BucketSpan = BucketSpan { start_ms: 0, end_ms: i64::MAX };

    async fn a_round_packs_what_is_over_and_deletes_what_is_too_old(store: &Store) {
        let config = Config { history_days: 30, ..Config::default() };
        let counts = Counts::new();
        let acme = tenant("acme");
        let per_day = DAY_MS / BUCKET_MS;
        let used = |n| UtilisationBucket::new(n * BUCKET_MS, UtilisationKind::Cpu, 0.5, 0.5, 1).expect("valid");
        // More days than are deleted at a time.
        let utilisation = (0..DAYS).map(|day| (id("checkout"), used(day * per_day + 7)));
        store.replace_utilisation(&acme, utilisation.collect()).await.expect("kept");
        let buckets = (0..5 * 12).map(|n| (id("checkout"), bucket(DAYS * per_day + n, 1, 0, None)));
        store.replace_buckets(&acme, buckets.collect()).await.expect("kept");
        store
            .replace_buckets(&acme, vec![(id("checkout"), bucket(DAYS * per_day - 100 * per_day, 1, 0, None))])
            .await
            .expect("kept");
        let before = store.data_summary(&acme, &id("checkout")).await.expect("read");

        round(store, &config, NOW_MS, &counts).await.expect("kept in order");
        let page = store.utilisation_page(&acme, &id("checkout"), ALL, 5_000).await.expect("read");
        let starts: Vec<i64> = page.buckets.iter().map(|measured| measured.bucket.start_ms() / DAY_MS).collect();
        assert_eq!(starts, (DAYS - 30..DAYS).collect::<Vec<_>>(), "every day of which something is kept");
        let after = store.data_summary(&acme, &id("checkout")).await.expect("read");
        assert_eq!(after.bucket_count + 1, before.bucket_count, "the old one is gone, whether row or block");
        assert_eq!(after.bucket_count, 5 * 12);
        assert_eq!(
            store.history_size().await.expect("read").row_count,
            12,
            "of the day that goes on only the last hour is rows"
        );
    }
}
