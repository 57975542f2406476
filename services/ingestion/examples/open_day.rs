//! What history is kept in while it comes: many services for some hours, five minutes at a time, with the upkeep of a
//! service beside them. Prints how many rows and blocks there were, and how many bytes packing wrote.
//!
//! ```text
//! cargo run --release -p attain-ingestion --example open_day -- --services 10000 --hours 26
//! ```
//!
//! One source, each bucket with a latency histogram; on SQLite in a temporary folder. Of `--pack-after-hours` other values
//! than the default show what it costs.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use attain_ingestion::storage::{Capacity, PackCursor, Store};
use attain_vocabulary::{BUCKET_MS, BucketCounts, DAY_MS, EntityId, LatencyHistogram, SliBucket, TenantId};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sqlx::{AnyConnection, Connection as _, Row as _};

type Failure = Box<dyn Error>;

const HOUR_MS: i64 = DAY_MS / 24;
const BEGAN_MS: i64 = 20_752 * DAY_MS;
/// As many as an observer writes at a time.
const BUCKETS_A_WRITE: usize = 2_000;

#[derive(Debug, Default)]
struct Seen {
    rows_max: u64,
    blocks_written: u64,
    /// Of all blocks as they were written, each time that they were.
    block_bytes_written: u64,
    writing: Duration,
    packing: Duration,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let asked = |name: &str, default: i64| -> Result<i64, Failure> {
        let given = std::env::args().skip_while(|argument| argument != name).nth(1);
        Ok(given.map(|given| given.parse()).transpose()?.unwrap_or(default))
    };
    let (services, hours) = (asked("--services", 10_000)?, asked("--hours", 26)?);
    let pack_after_ms = asked("--pack-after-hours", 1)? * HOUR_MS;
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
    let capacity = Capacity {
        entities_max: 100_000,
        dependencies_max: 1,
        operations_per_service_max: 1,
        call_rate_days: 28,
        request_samples_per_hour: 1,
    };
    let store = Store::open(&url, capacity).await?;
    sqlx::any::install_default_drivers();
    let mut looking = AnyConnection::connect(&url).await?;
    let names: Vec<EntityId> =
        (0..services).map(|i| EntityId::new("id", &format!("service-{i}"))).collect::<Result<_, _>>()?;
    let (mut random, mut seen) = (ChaCha8Rng::seed_from_u64(1), Seen::default());
    for step in 0..hours * 12 {
        let start_ms = BEGAN_MS + step * BUCKET_MS;
        write(&store, &names, start_ms, &mut random, &mut seen).await?;
        // Upkeep comes as often.
        pack(&store, start_ms + BUCKET_MS - pack_after_ms, &mut looking, &mut seen).await?;
        eprint!("\r{step} of {} steps", hours * 12);
    }
    eprintln!();
    let size = store.history_size().await?;
    store.close().await;
    let bytes = std::fs::metadata(folder.path().join("ingestion.db"))?.len();
    println!(
        "{services} services, {hours} hours: at most {} rows, {} rows and {} blocks at the end, {bytes} bytes on disk",
        seen.rows_max, size.row_count, size.block_count
    );
    println!(
        "packing wrote {} blocks with {} bytes in {:.1} s; rows were written in {:.1} s",
        seen.blocks_written,
        seen.block_bytes_written,
        seen.packing.as_secs_f64(),
        seen.writing.as_secs_f64()
    );
    Ok(())
}

async fn write(
    store: &Store,
    names: &[EntityId],
    start_ms: i64,
    random: &mut ChaCha8Rng,
    seen: &mut Seen,
) -> Result<(), Failure> {
    for names in names.chunks(BUCKETS_A_WRITE) {
        let mut buckets = Vec::with_capacity(names.len());
        for name in names {
            buckets.push((name.clone(), bucket(start_ms, random)?));
        }
        let begun = Instant::now();
        store.replace_buckets(&TenantId::default(), buckets).await?;
        seen.writing += begun.elapsed();
    }
    seen.rows_max = seen.rows_max.max(store.history_size().await?.row_count);
    Ok(())
}

/// Some 1,200 requests, a dozen places over two orders of magnitude, with noise.
fn bucket(start_ms: i64, random: &mut ChaCha8Rng) -> Result<SliBucket, Failure> {
    let mut latency = LatencyHistogram::empty();
    for place in 0..12_i32 {
        latency
            .record_many(8.0 * libm::pow(1.5, f64::from(place)), (1_200 * random.random_range(15..35) / 100) >> place);
    }
    let counts = BucketCounts::new(latency.count(), random.random_range(0..4), None)?;
    Ok(SliBucket::new(start_ms, counts, std::collections::BTreeMap::new(), Some(latency))?)
}

async fn pack(
    store: &Store,
    closed_before_ms: i64,
    looking: &mut AnyConnection,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let (begun, mut cursor, mut written) = (Instant::now(), Some(PackCursor::default()), 0);
    while let Some(from) = cursor {
        let step = store.pack(from, closed_before_ms).await?;
        written += step.block_count as u64;
        cursor = step.next;
    }
    seen.packing += begun.elapsed();
    seen.blocks_written += written;
    if written > 0 {
        // Each round writes the blocks of one day, all of them.
        let day_ms = (closed_before_ms - 1).div_euclid(DAY_MS) * DAY_MS;
        let sql = "SELECT COALESCE(SUM(LENGTH(counts) + LENGTH(COALESCE(latency, ''))), 0) AS bytes FROM sli_blocks WHERE day_ms = $1";
        let row = sqlx::query(sql).bind(day_ms).fetch_one(looking).await?;
        seen.block_bytes_written += row.try_get::<i64, _>("bytes")? as u64;
    }
    Ok(())
}
