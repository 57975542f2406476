//! Reads each mapping on to now, and then each bucket when it is over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use attain_runtime::clock::Clock;
use attain_runtime::readiness::Condition;
use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;

use super::answer::{QueryError, RangeSeries};
use super::client::Client;
use super::counting::{NAMES, Tally};
use super::mapping::{Mapping, Reading};
use super::{edges, sli, utilisation};
use crate::count::Count;
use crate::domain::ObservationBatch;
use crate::storage::{CounterStates, Store};
use crate::{Error, PrometheusConfig};

/// Most buckets of a service asked for at a time: a day.
const POINTS_MAX: i64 = DAY_MS / BUCKET_MS;
/// First and longest pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Longest that the server rests between two pieces of the past.
const REST_MAX: Duration = Duration::from_secs(30);

pub(super) struct Follower {
    store: Store,
    client: Client,
    followed: Vec<Followed>,
    settings: PrometheusConfig,
    clock: Clock,
    counts: BTreeMap<&'static str, Count>,
    /// How far each mapping is behind, in seconds.
    behind: Gauge<u64>,
}

/// A mapping and how far it was read.
struct Followed {
    mapping: Mapping,
    key: String,
    /// End of the newest bucket that was read; `None` before it was looked up.
    cursor: Option<Cursor>,
    /// How many buckets of a service to ask for at a time.
    points: i64,
}

/// How far a mapping was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    end_ms: UnixMillis,
    /// Whether that is stored; not before the first piece.
    is_stored: bool,
}

/// A piece of time to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// End of its first bucket.
    first_end_ms: UnixMillis,
    /// End of its last bucket.
    last_end_ms: UnixMillis,
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
    pub(super) fn new(
        store: Store,
        client: Client,
        mappings: Vec<Mapping>,
        settings: PrometheusConfig,
        clock: Clock,
    ) -> Self {
        let followed = mappings.into_iter().map(|mapping| Followed {
            key: mapping.cursor_key(&settings.url),
            mapping,
            cursor: None,
            points: POINTS_MAX,
        });
        let behind = opentelemetry::global::meter("attain")
            .u64_gauge("attain.ingestion.prometheus.behind")
            .with_unit("s")
            .with_description("How far behind now each mapping was read")
            .build();
        Self {
            store,
            client,
            followed: followed.collect(),
            settings,
            clock,
            counts: NAMES.into_iter().map(|name| (name, Count::new("prometheus", name))).collect(),
            behind,
        }
    }

    pub(super) async fn run(mut self, condition: Condition) {
        let mut pause = PAUSE_MIN;
        loop {
            let troubles = self.round(&condition).await;
            let wait = if troubles.is_empty() {
                pause = PAUSE_MIN;
                Duration::from_secs(self.settings.interval_seconds)
            } else {
                self.count("queries_failed", troubles.len());
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
        let mut cursor = match followed.cursor {
            Some(cursor) => cursor,
            None => self.stored_cursor(&followed.key, newest_ms).await?,
        };
        let began_ms = cursor.end_ms;
        let mut reread_ms = if followed.mapping.reading.replaces() { self.reread_ms(cursor) } else { 0 };
        while cursor.end_ms < newest_ms {
            followed.cursor = Some(cursor);
            let piece = next_piece(cursor.end_ms, newest_ms, reread_ms, followed.points);
            let asked = Instant::now();
            let answers = match self.answers(&followed.mapping.reading, piece).await {
                Err(QueryError::TooLarge(_)) if followed.points > 1 => {
                    self.count("answers_too_large", 1);
                    followed.points /= 2;
                    continue;
                }
                answers => answers?,
            };
            let took = asked.elapsed();
            cursor = self.keep(followed, answers, cursor, piece.last_end_ms).await?;
            reread_ms = 0;
            self.tell_progress(followed, (began_ms, cursor.end_ms, newest_ms), condition);
            if cursor.end_ms < newest_ms {
                tokio::time::sleep(rest(took, self.settings.server_share_ratio)).await;
            }
        }
        followed.cursor = Some(cursor);
        Ok(())
    }

    /// How much of what was read is asked for again: samples come late.
    fn reread_ms(&self, cursor: Cursor) -> i64 {
        if cursor.is_stored { i64::from(self.settings.reread_seconds) * 1_000 / BUCKET_MS * BUCKET_MS } else { 0 }
    }

    fn tell_progress(
        &self,
        followed: &Followed,
        (began_ms, read_ms, newest_ms): (UnixMillis, UnixMillis, UnixMillis),
        condition: &Condition,
    ) {
        let name = &followed.mapping.name;
        let behind_ms = newest_ms - read_ms;
        self.behind.record((behind_ms / 1_000).max(0) as u64, &[KeyValue::new("attain.mapping", name.clone())]);
        if behind_ms > 0 {
            let done = 100 * (read_ms - began_ms) / (newest_ms - began_ms).max(1);
            condition.unmet(format!("{name}: read to {} ({done} %)", told(read_ms)));
        }
    }

    /// How far a mapping was read, by whichever process; the beginning of the past that is wanted where it never was.
    async fn stored_cursor(&self, key: &str, newest_ms: UnixMillis) -> Result<Cursor, Error> {
        let mut stored = None;
        self.store
            .observe(&self.settings.tenant, &[key.to_owned()], |states| {
                stored = cursor_in(states, key);
                ObservationBatch::default()
            })
            .await?;
        let beginning = newest_ms - i64::from(self.settings.backfill_days) * DAY_MS;
        Ok(stored.unwrap_or(Cursor { end_ms: beginning, is_stored: false }))
    }

    async fn answers(&self, reading: &Reading, piece: Piece) -> Result<Vec<Vec<RangeSeries>>, QueryError> {
        let mut answers = Vec::new();
        for (_, query) in reading.queries() {
            let answer = self.client.query_range(query, piece.first_end_ms, piece.last_end_ms).await;
            if matches!(answer, Err(QueryError::TooManySeries { .. })) {
                self.count("answers_too_many_series", 1);
            }
            answers.push(answer?);
        }
        Ok(answers)
    }

    /// Stores what was read and how far it goes, in one transaction. Where another process went on from the same place
    /// meanwhile, nothing is stored, so that no edge counts twice. How far it was read now.
    async fn keep(
        &self,
        followed: &Followed,
        answers: Vec<Vec<RangeSeries>>,
        from: Cursor,
        end_ms: UnixMillis,
    ) -> Result<Cursor, Error> {
        let (mut batch, tally) = learn(&followed.mapping.reading, answers);
        let key = &followed.key;
        let after = Cursor { end_ms, is_stored: true };
        batch.counter_states = std::iter::once((key.clone(), Some(end_ms.to_be_bytes().to_vec()))).collect();
        let mut overtaken = None;
        self.store
            .observe(&self.settings.tenant, std::slice::from_ref(key), |states| {
                let stored = cursor_in(states, key);
                let expected = if from.is_stored { Some(from) } else { None };
                if stored == expected {
                    return batch;
                }
                overtaken = stored;
                ObservationBatch::default()
            })
            .await?;
        if let Some(other) = overtaken {
            return Ok(other);
        }
        tally.0.iter().for_each(|(name, count)| self.count(name, *count));
        Ok(after)
    }

    fn count(&self, name: &str, count: usize) {
        if let Some(counter) = self.counts.get(name) {
            counter.add(count);
        }
    }
}

/// What answers say, and what was left out.
fn learn(reading: &Reading, answers: Vec<Vec<RangeSeries>>) -> (ObservationBatch, Tally) {
    let mut tally = Tally::default();
    let mut batch = ObservationBatch::default();
    match reading {
        Reading::Sli(queries) => batch.buckets = sli::buckets(queries, answers, &mut tally),
        Reading::Edges(queries) => {
            let seen = edges::edges(queries, answers, &mut tally);
            (batch.edges, batch.entities) = (seen.edges, seen.entities);
        }
        Reading::Utilisation(queries) => {
            let used = utilisation::utilisation(queries, answers, &mut tally);
            (batch.utilisation, batch.entities) = (used.utilisation, used.entities);
        }
    }
    (batch, tally)
}

fn cursor_in(states: &CounterStates, key: &str) -> Option<Cursor> {
    let bytes = <[u8; 8]>::try_from(states.get(key)?.as_slice()).ok()?;
    Some(Cursor { end_ms: i64::from_be_bytes(bytes), is_stored: true })
}

/// What comes next: at most `points` buckets, of which the first may have been read before.
fn next_piece(cursor_ms: UnixMillis, newest_ms: UnixMillis, reread_ms: i64, points: i64) -> Piece {
    // At least one bucket is new.
    let reread_ms = reread_ms.min((points - 1) * BUCKET_MS);
    let after_ms = cursor_ms - reread_ms;
    Piece { first_end_ms: after_ms + BUCKET_MS, last_end_ms: newest_ms.min(after_ms + points * BUCKET_MS) }
}

/// How long the server rests after it worked, so that it works for us a share of the time only.
fn rest(worked: Duration, share: f64) -> Duration {
    worked.mul_f64(1.0 / share - 1.0).min(REST_MAX)
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
    use proptest::prelude::*;

    const START: UnixMillis = 1_793_000_100_000;

    #[test]
    fn only_buckets_that_are_over_are_read() {
        for (now_ms, lag_seconds, expected) in [
            (START, 0, START),
            (START, 30, START - BUCKET_MS),
            (START + 29_999, 30, START - BUCKET_MS),
            (START + 30_000, 30, START),
            (START + BUCKET_MS - 1, 0, START),
        ] {
            assert_eq!(newest_end(now_ms, lag_seconds), expected, "{now_ms} {lag_seconds}");
        }
    }

    #[test]
    fn the_server_rests_as_long_as_it_works() {
        assert_eq!(rest(Duration::from_secs(2), 0.5), Duration::from_secs(2));
        assert_eq!(rest(Duration::from_secs(2), 1.0), Duration::ZERO);
        assert_eq!(rest(Duration::from_secs(100), 0.1), REST_MAX);
    }

    proptest! {
        #[test]
        fn pieces_cover_every_bucket_up_to_now(buckets in 1i64..2_000, reread in 0i64..10, points in 1i64..=POINTS_MAX) {
            let newest_ms = START + buckets * BUCKET_MS;
            let (mut cursor_ms, mut reread_ms, mut count) = (START, reread * BUCKET_MS, 0);
            while cursor_ms < newest_ms {
                let piece = next_piece(cursor_ms, newest_ms, reread_ms, points);
                prop_assert!(piece.first_end_ms <= cursor_ms + BUCKET_MS, "nothing is skipped");
                prop_assert!(piece.last_end_ms > cursor_ms && piece.last_end_ms <= newest_ms, "something is new");
                prop_assert!((piece.last_end_ms - piece.first_end_ms) / BUCKET_MS < points);
                (cursor_ms, reread_ms, count) = (piece.last_end_ms, 0, count + 1);
            }
            prop_assert!(count <= buckets);
        }
    }
}
