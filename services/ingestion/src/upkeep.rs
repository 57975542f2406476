//! What is done to history in the background: days that are over are packed, what is too old goes, and on PostgreSQL the
//! partitions of the time to come are made.

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{DAY_MS, UnixMillis};
use tokio::time::Instant;

use crate::count::Count;
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

/// Keeps history in order until shutdown. A round that fails is tried again at the next.
pub(crate) async fn run(store: Store, config: Arc<Config>, clock: Clock, shutdown: Shutdown) {
    let count = |what| Count::new("upkeep", what);
    let counts = Counts {
        packed: count("packed_buckets"),
        blocks: count("written_blocks"),
        damaged: count("damaged_days"),
        expired: count("expired"),
        failed: count("failed_rounds"),
    };
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
