//! SLI buckets read from a Prometheus-compatible server by range queries.
//!
//! A mapping file says which PromQL counts the requests, the failures and the latencies of which service (`mapping`). Each
//! mapping is read on its own, oldest first: at the first start from so many days back, then on from where it ended. A
//! cursor is stored with the buckets in one transaction, so that a restart neither skips nor repeats; only buckets that are
//! over, and some seconds more, are asked for. Reading a bucket again replaces it.
//!
//! **Invariants.** A server that is away, slow or wrong never stops ingestion: the readiness condition `prometheus` says
//! what is the matter, and it is asked again. A gap stays a gap. Answers are bounded: too large ones are asked for in
//! smaller pieces.
//!
//! **Deliberately unknown here**: how the server got its numbers, and any tenant but the default one.

mod client;
mod convert;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod mapping;

use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::{Condition, Readiness};
use attain_vocabulary::{BUCKET_MS, DAY_MS, TenantId, UnixMillis};
use tokio::task::JoinHandle;

pub(crate) use mapping::read_mappings;

use crate::count::Count;
use crate::domain::ObservationBatch;
use crate::storage::Store;
use crate::{Config, Error, PrometheusConfig};
use client::{Client, QueryError};
use convert::{Answers, Converted, convert};
use mapping::Mapping;

/// Most buckets of a service asked for at a time: a day.
const POINTS_MAX: i64 = DAY_MS / BUCKET_MS;
/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Follows the configured server until `shutdown`; `None` where none is configured.
///
/// # Errors
/// Names the setting that cannot be right.
pub fn follow(
    config: &Config,
    store: &Store,
    readiness: &Readiness,
    clock: &Clock,
    shutdown: &Shutdown,
) -> Result<Option<JoinHandle<()>>, Error> {
    let Some(settings) = &config.prometheus else { return Ok(None) };
    let condition = readiness.prefer("prometheus", "not asked yet");
    let malformed = |error: QueryError| attain_runtime::Error::Config(format!("ingestion.prometheus.url: {error}"));
    let mappings = read_mappings(&settings.mapping_file)?;
    let followed = mappings.into_iter().map(|mapping| Followed {
        key: mapping.cursor_key(&settings.url),
        mapping,
        cursor_ms: None,
        points: POINTS_MAX,
    });
    let follower = Follower {
        store: store.clone(),
        client: Client::new(&settings.url).map_err(malformed)?,
        followed: followed.collect(),
        settings: settings.clone(),
        clock: clock.clone(),
        counts: Counts::default(),
    };
    let shutdown = shutdown.clone();
    Ok(Some(tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follower.run(condition) => {}
        }
    })))
}

struct Follower {
    store: Store,
    client: Client,
    followed: Vec<Followed>,
    settings: PrometheusConfig,
    clock: Clock,
    counts: Counts,
}

/// A mapping and how far it was read.
struct Followed {
    mapping: Mapping,
    key: String,
    /// End of the newest bucket that was read; `None` before it was looked up.
    cursor_ms: Option<UnixMillis>,
    /// How many buckets of a service to ask for at a time.
    points: i64,
}

struct Counts {
    buckets: Count,
    series_unnamed: Count,
    not_a_number: Count,
    bad_clamped: Count,
    latency_malformed: Count,
    queries_failed: Count,
}

impl Default for Counts {
    fn default() -> Self {
        let count = |what| Count::new("prometheus", what);
        Self {
            buckets: count("buckets"),
            series_unnamed: count("series_unnamed"),
            not_a_number: count("not_a_number"),
            bad_clamped: count("bad_clamped"),
            latency_malformed: count("latency_malformed"),
            queries_failed: count("queries_failed"),
        }
    }
}

/// Why a mapping could not be read on.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Storage(#[from] Error),
}

impl Follower {
    async fn run(mut self, condition: Condition) {
        let mut pause = PAUSE_MIN;
        loop {
            let troubles = self.round(&condition).await;
            let wait = if troubles.is_empty() {
                pause = PAUSE_MIN;
                Duration::from_secs(self.settings.interval_seconds)
            } else {
                self.counts.queries_failed.add(troubles.len());
                if pause == PAUSE_MIN {
                    tracing::warn!(trouble = %troubles.join("; "), "Prometheus cannot be read; it is asked again");
                }
                condition.unmet(troubles.join("; "));
                let wait = pause;
                pause = (pause * 2).min(PAUSE_MAX);
                wait
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads every mapping on to now; what went wrong with those that could not be.
    async fn round(&mut self, condition: &Condition) -> Vec<String> {
        let mut troubles = Vec::new();
        let newest_ms = newest_end(self.clock.now_ms(), self.settings.lag_seconds);
        let mut followed = std::mem::take(&mut self.followed);
        for followed in &mut followed {
            if let Err(trouble) = self.catch_up(followed, newest_ms, condition).await {
                troubles.push(format!("{}: {trouble}", followed.mapping.name));
            }
        }
        self.followed = followed;
        if troubles.is_empty() {
            condition.met(format!("read to {}", told(newest_ms)));
        }
        troubles
    }

    async fn catch_up(
        &self,
        followed: &mut Followed,
        newest_ms: UnixMillis,
        condition: &Condition,
    ) -> Result<(), Trouble> {
        let mut cursor_ms = match followed.cursor_ms {
            Some(cursor_ms) => cursor_ms,
            None => self
                .stored_cursor(&followed.key)
                .await?
                .unwrap_or_else(|| newest_ms - i64::from(self.settings.backfill_days) * DAY_MS),
        };
        while cursor_ms < newest_ms {
            followed.cursor_ms = Some(cursor_ms);
            let end_ms = newest_ms.min(cursor_ms + followed.points * BUCKET_MS);
            match self.answers(&followed.mapping, cursor_ms + BUCKET_MS, end_ms).await {
                Err(QueryError::TooLarge(_)) if followed.points > 1 => {
                    followed.points /= 2;
                    continue;
                }
                Err(error) => return Err(error.into()),
                Ok(answers) => self.keep(convert(&followed.mapping, answers), &followed.key, end_ms).await?,
            }
            cursor_ms = end_ms;
            if cursor_ms < newest_ms {
                condition.unmet(format!("{}: read to {}", followed.mapping.name, told(cursor_ms)));
            }
        }
        followed.cursor_ms = Some(cursor_ms);
        Ok(())
    }

    async fn stored_cursor(&self, key: &str) -> Result<Option<UnixMillis>, Error> {
        let mut cursor = None;
        self.store
            .observe(&TenantId::default(), &[key.to_owned()], |states| {
                let stored = states.get(key).and_then(|state| <[u8; 8]>::try_from(state.as_slice()).ok());
                cursor = stored.map(i64::from_be_bytes);
                ObservationBatch::default()
            })
            .await?;
        Ok(cursor)
    }

    async fn answers(
        &self,
        mapping: &Mapping,
        start_ms: UnixMillis,
        end_ms: UnixMillis,
    ) -> Result<Answers, QueryError> {
        let valid = self.client.query_range(&mapping.valid, start_ms, end_ms).await?;
        let bad = self.client.query_range(&mapping.bad, start_ms, end_ms).await?;
        let latency = match &mapping.latency {
            Some(latency) => self.client.query_range(&latency.query, start_ms, end_ms).await?,
            None => Vec::new(),
        };
        Ok(Answers { valid, bad, latency })
    }

    /// Stores buckets and how far they go, in one transaction.
    async fn keep(&self, converted: Converted, key: &str, end_ms: UnixMillis) -> Result<(), Error> {
        let bucket_count = converted.buckets.len();
        let counter_states = std::iter::once((key.to_owned(), Some(end_ms.to_be_bytes().to_vec()))).collect();
        let batch = ObservationBatch { buckets: converted.buckets, counter_states, ..ObservationBatch::default() };
        self.store.observe(&TenantId::default(), &[], |_| batch).await?;
        self.counts.buckets.add(bucket_count);
        self.counts.series_unnamed.add(converted.unnamed_count);
        self.counts.not_a_number.add(converted.not_a_number_count);
        self.counts.bad_clamped.add(converted.clamped_count);
        self.counts.latency_malformed.add(converted.latency_malformed_count);
        Ok(())
    }
}

/// End of the newest bucket that is over for long enough.
fn newest_end(now_ms: UnixMillis, lag_seconds: u32) -> UnixMillis {
    attain_vocabulary::bucket_start(now_ms - i64::from(lag_seconds) * 1000)
}

fn told(time_ms: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_buckets_that_are_over_are_read() {
        let start = 1_793_000_100_000;
        for (now_ms, lag_seconds, expected) in [
            (start, 0, start),
            (start, 30, start - BUCKET_MS),
            (start + 29_999, 30, start - BUCKET_MS),
            (start + 30_000, 30, start),
            (start + BUCKET_MS - 1, 0, start),
        ] {
            assert_eq!(newest_end(now_ms, lag_seconds), expected, "{now_ms} {lag_seconds}");
        }
    }
}
