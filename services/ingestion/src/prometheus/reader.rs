//! Reads a piece of time of one mapping and stores it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use super::answer::{QueryError, RangeSeries};
use super::claims::{self, Spans};
use super::client::Client;
use super::counting::{NAMES, Tally};
use super::edges::Calls;
use super::mapping::Reading;
use super::pace::{Piece, Place};
use super::progress::{Followed, PassedOver};
use super::{edges, sli, utilisation};
use crate::count::{Count, observed};
use crate::domain::ObservationBatch;
use crate::storage::{CounterStates, Store};
use crate::{Error, PrometheusConfig};

pub(super) struct Reader {
    store: Store,
    client: Client,
    settings: PrometheusConfig,
    counts: BTreeMap<&'static str, Count>,
}

/// Why a mapping could not be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Storage(#[from] Error),
}

/// What a piece was good for.
#[derive(Debug)]
pub(super) struct Outcome {
    /// How far the mapping was read before.
    pub(super) from_ms: UnixMillis,
    /// How long the server worked.
    pub(super) took: Duration,
    /// What was measured; `None` where nothing was stored.
    pub(super) measured: Option<Spans>,
}

/// What the answers to a piece say.
enum Learned {
    Batch(Box<ObservationBatch>),
    /// What of it is new is known only beside the marks that are stored.
    Calls(Calls),
}

impl Reader {
    pub(super) fn new(store: Store, client: Client, settings: PrometheusConfig) -> Self {
        let counts = NAMES.into_iter().map(|name| (name, observed("prometheus", name))).collect();
        Self { store, client, settings, counts }
    }

    pub(super) fn count(&self, name: &str, count: usize) {
        if let Some(counter) = self.counts.get(name) {
            counter.add(count);
        }
    }

    /// Reads one mapping on by a piece, or looks up where to begin.
    pub(super) async fn step(&self, followed: &mut Followed, newest_ms: UnixMillis) -> Result<Outcome, Trouble> {
        let place = match followed.place {
            Some(place) => place,
            None => self.look_up(followed, newest_ms).await?,
        };
        followed.place = Some(place);
        if place.end_ms >= newest_ms {
            return Ok(Outcome { from_ms: place.end_ms, took: Duration::ZERO, measured: None });
        }
        let place = Place { read_ms: place.read_ms - self.reread_ms(followed), ..place };
        followed.place = Some(place);
        followed.rereads = false;
        let piece = followed.pace.next_piece(place.read_ms, newest_ms);
        let asked = Instant::now();
        let answers = self.answers(&followed.mapping.reading, piece).await;
        let took = asked.elapsed();
        let measured = match answers {
            Ok(answers) => {
                let measured = self.keep(followed, answers, place, piece).await?;
                followed.pace.answered();
                Some(measured)
            }
            Err(error) => self.ask_for_less(followed, place, piece, error).await?,
        };
        Ok(Outcome { from_ms: place.end_ms, took, measured })
    }

    /// How much of what was read is asked for again: samples come late.
    fn reread_ms(&self, followed: &Followed) -> i64 {
        if followed.rereads && followed.mapping.reading.replaces() {
            i64::from(self.settings.reread_seconds) * 1_000 / BUCKET_MS * BUCKET_MS
        } else {
            0
        }
    }

    /// Halves what is asked for where less may be answered. One bucket that stays too large is passed over: those after it
    /// may be answered. A server that is slow or fails may recover, and is asked again.
    async fn ask_for_less(
        &self,
        followed: &mut Followed,
        place: Place,
        piece: Piece,
        error: QueryError,
    ) -> Result<Option<Spans>, Trouble> {
        match &error {
            QueryError::TooLarge(_) => self.count("answers_too_large", 1),
            QueryError::TimedOut(_) => self.count("queries_timed_out", 1),
            QueryError::Failed(_) => self.count("queries_not_executed", 1),
            QueryError::Partial(_) => self.count("answers_partial", 1),
            QueryError::TooManySeries { .. } => self.count("answers_too_many_series", 1),
            QueryError::Unavailable(_) | QueryError::Refused(_) | QueryError::Credentials(_) => {}
        }
        if !error.asks_for_less() {
            return Err(error.into());
        }
        if followed.pace.halve(piece) {
            return Ok(None);
        }
        let QueryError::TooLarge(reason) = &error else { return Err(error.into()) };
        if !followed.pace.gives_up() {
            return Err(error.into());
        }
        let measured = self.keep(followed, Vec::new(), place, piece).await?;
        let count = followed.passed_over.as_ref().map_or(0, |passed_over| passed_over.count) + 1;
        let reason = reason.clone();
        followed.passed_over = Some(PassedOver { count, last_end_ms: piece.last_end_ms, reason });
        self.count("buckets_passed_over", 1);
        Ok(Some(measured))
    }

    /// How far a mapping was read, by whichever process; the beginning of the past that is wanted where it never was.
    async fn look_up(&self, followed: &mut Followed, newest_ms: UnixMillis) -> Result<Place, Error> {
        let keys: Vec<String> = std::iter::once(&followed.key).chain(&followed.former_key).cloned().collect();
        let mut stored = None;
        self.store
            .observe(&self.settings.tenant, &keys, |states| {
                stored = keys.iter().find_map(|key| Some((key, cursor_in(states, key)?)));
                ObservationBatch::default()
            })
            .await?;
        followed.rereads = stored.is_some();
        Ok(match stored {
            Some((key, end_ms)) => Place { end_ms, is_stored: *key == followed.key, read_ms: end_ms },
            None => {
                let beginning_ms = newest_ms - i64::from(self.settings.backfill_days) * DAY_MS;
                Place { end_ms: beginning_ms, is_stored: false, read_ms: beginning_ms }
            }
        })
    }

    async fn answers(&self, reading: &Reading, piece: Piece) -> Result<Vec<Vec<RangeSeries>>, QueryError> {
        let mut answers = Vec::new();
        for (_, query) in reading.queries() {
            let answer = self.client.query_range(query, piece.first_end_ms, piece.last_end_ms).await?;
            self.count("query_warnings", answer.warning_count);
            answers.push(answer.series);
        }
        Ok(answers)
    }

    /// Stores what was read and how far it goes, in one transaction. Where the cursor is not where the reading began (another
    /// process went on from the same place, or the database was cleared), nothing is stored, and where to go on is looked up
    /// again.
    async fn keep(
        &self,
        followed: &mut Followed,
        answers: Vec<Vec<RangeSeries>>,
        from: Place,
        piece: Piece,
    ) -> Result<Spans, Error> {
        let (learned, mut tally) = learn(&followed.mapping.reading, answers);
        let key = &followed.key;
        let after = from.after(piece);
        let mut keys = vec![key.clone()];
        let measured = match &learned {
            Learned::Batch(batch) => claims::spans(batch),
            Learned::Calls(calls) => {
                keys.extend(calls.mark_keys());
                Spans::new()
            }
        };
        let mut is_kept = false;
        self.store
            .observe(&self.settings.tenant, &keys, |states| {
                if cursor_in(states, key) != from.is_stored.then_some(from.end_ms) {
                    return ObservationBatch::default();
                }
                let mut batch = match learned {
                    Learned::Batch(batch) => *batch,
                    Learned::Calls(calls) => {
                        let seen = edges::uncounted(calls, states, &followed.identities, &mut tally);
                        let (edges, entities, counter_states) = (seen.edges, seen.entities, seen.marks);
                        ObservationBatch { edges, entities, counter_states, ..ObservationBatch::default() }
                    }
                };
                batch.counter_states.insert(key.clone(), Some(after.end_ms.to_be_bytes().to_vec()));
                is_kept = true;
                batch
            })
            .await?;
        if !is_kept {
            followed.place = None;
            return Ok(Spans::new());
        }
        followed.place = Some(after);
        tally.0.iter().for_each(|(name, count)| self.count(name, *count));
        Ok(measured)
    }
}

/// What answers say, and what was left out.
fn learn(reading: &Reading, answers: Vec<Vec<RangeSeries>>) -> (Learned, Tally) {
    let mut tally = Tally::default();
    let mut batch = ObservationBatch::default();
    match reading {
        Reading::Sli(queries) => {
            let told = sli::requests(queries, answers, &mut tally);
            (batch.buckets, batch.regional) = (told.buckets, told.regional);
        }
        Reading::Edges(queries) => return (Learned::Calls(edges::calls(queries, answers, &mut tally)), tally),
        Reading::Utilisation(queries) => {
            let used = utilisation::utilisation(queries, answers, &mut tally);
            (batch.utilisation, batch.entities) = (used.utilisation, used.entities);
        }
    }
    (Learned::Batch(Box::new(batch)), tally)
}

fn cursor_in(states: &CounterStates, key: &str) -> Option<UnixMillis> {
    let bytes = <[u8; 8]>::try_from(states.get(key)?.as_slice()).ok()?;
    Some(i64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::mapping::parse;
    use super::*;
    use crate::storage::Capacity;

    const NEWEST_MS: UnixMillis = 1_793_000_100_000;
    const EDGES: &str = "[[mapping]]\npreset = 'service-graph'\n";

    struct Testing {
        reader: Reader,
        _folder: tempfile::TempDir,
    }

    impl Testing {
        async fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
            let capacity = Capacity {
                entities_max: 100,
                dependencies_max: 100,
                operations_per_service_max: 3,
                call_rate_days: 28,
                request_samples_per_hour: 1,
            };
            let store = Store::open(&url, capacity).await.expect("opened");
            let settings =
                PrometheusConfig { url: "http://127.0.0.1:9".into(), backfill_days: 1, ..PrometheusConfig::default() };
            let client = Client::new(&settings).map_err(|(key, _)| key).expect("a client");
            Self { reader: Reader::new(store, client, settings), _folder: folder }
        }

        /// One mapping, looked up.
        async fn followed(&self, text: &str) -> Followed {
            let mapping = parse(text).expect("valid").remove(0);
            let mut followed = Followed::new(mapping, &self.reader.settings.url);
            let place = self.reader.look_up(&mut followed, NEWEST_MS).await.expect("looked up");
            followed.place = Some(place);
            followed
        }

        /// Stores ten calls in each five minutes of a piece.
        async fn keep(&self, followed: &mut Followed) {
            let place = followed.place.expect("looked up");
            let piece = followed.pace.next_piece(place.read_ms, NEWEST_MS);
            let ends = (piece.first_end_ms..=piece.last_end_ms).step_by(BUCKET_MS as usize);
            let labels = [("client", "shop"), ("server", "pay")];
            let calls = RangeSeries {
                labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
                values: ends.map(|end_ms| (end_ms, 10.0)).collect(),
                histograms: Vec::new(),
            };
            self.reader.keep(followed, vec![vec![calls]], place, piece).await.expect("kept");
        }

        async fn calls(&self) -> u64 {
            let topology = self.reader.store.topology(&self.reader.settings.tenant).await.expect("read");
            topology.dependencies.iter().map(|edge| edge.sightings.call_count).sum()
        }
    }

    #[tokio::test]
    async fn of_two_that_go_on_from_the_same_place_one_stores() {
        let testing = Testing::new().await;
        let (mut one, mut other) = (testing.followed(EDGES).await, testing.followed(EDGES).await);
        testing.keep(&mut one).await;
        testing.keep(&mut other).await;
        assert_eq!((testing.calls().await, other.place), (2_880, None), "it is looked up again");
        let place = testing.reader.look_up(&mut other, NEWEST_MS).await.expect("looked up");
        assert_eq!((Some(place), place.end_ms), (one.place, NEWEST_MS));
    }

    #[tokio::test]
    async fn a_cursor_that_vanished_is_no_success() {
        let testing = Testing::new().await;
        let mut followed = testing.followed(EDGES).await;
        testing.keep(&mut followed).await;
        testing.reader.store.forget_counter_states("prometheus/", "prometheus0").await.expect("forgotten");
        let first = followed.place.expect("kept");
        followed.place = Some(Place { read_ms: first.end_ms - 5 * BUCKET_MS, ..first });
        testing.keep(&mut followed).await;
        assert_eq!(followed.place, None, "nothing was stored");
        let mut again = testing.followed(EDGES).await;
        assert_eq!(again.place.map(|place| (place.end_ms, place.is_stored)), Some((NEWEST_MS - DAY_MS, false)));
        testing.keep(&mut again).await;
        assert_eq!((testing.calls().await, again.place), (2_880, Some(first)), "and what was counted counts once");
    }

    #[tokio::test]
    async fn edges_that_a_former_version_counted_are_not_counted_again() {
        let testing = Testing::new().await;
        let former = testing.followed(EDGES).await.former_key.expect("of edges");
        let end_ms = NEWEST_MS - 3 * BUCKET_MS;
        let counter_states = BTreeMap::from([(former, Some(end_ms.to_be_bytes().to_vec()))]);
        let batch = ObservationBatch { counter_states, ..ObservationBatch::default() };
        testing.reader.store.observe(&testing.reader.settings.tenant, &[], |_| batch).await.expect("stored");
        let mut followed = testing.followed(EDGES).await;
        assert_eq!(followed.place, Some(Place { end_ms, is_stored: false, read_ms: end_ms }));
        testing.keep(&mut followed).await;
        assert_eq!(testing.calls().await, 30);
        assert_eq!(testing.followed(EDGES).await.place, followed.place, "from now on it is known by what is read");
    }
}
