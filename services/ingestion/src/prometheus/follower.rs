//! Reads each mapping on to now, and then each bucket when it is over: always the mapping that is least behind, so that one
//! with much of the past to read, or one that fails, holds up no other.

use std::collections::BTreeSet;
use std::time::Duration;

use attain_runtime::clock::Clock;
use attain_runtime::readiness::Condition;
use attain_vocabulary::UnixMillis;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Gauge;

use super::claims::{Claims, Spans};
use super::client::Client;
use super::mapping::Mapping;
use super::progress::{Followed, told};
use super::reader::{Outcome, Reader, Trouble};
use crate::PrometheusConfig;
use crate::storage::Store;

/// Longest that the server rests between two pieces of the past.
const REST_MAX: Duration = Duration::from_secs(30);

pub(super) struct Follower {
    reader: Reader,
    followed: Vec<Followed>,
    claims: Claims,
    settings: PrometheusConfig,
    clock: Clock,
    /// How far each mapping is behind, in seconds.
    behind: Gauge<u64>,
}

impl Follower {
    pub(super) fn new(
        store: Store,
        client: Client,
        mappings: Vec<Mapping>,
        settings: PrometheusConfig,
        clock: Clock,
    ) -> Self {
        let edges: BTreeSet<u64> = mappings.iter().filter_map(Mapping::edge_identity).collect();
        let mut followed: Vec<Followed> =
            mappings.into_iter().map(|mapping| Followed::new(mapping, &settings.url)).collect();
        followed.iter_mut().for_each(|followed| followed.identities.all.clone_from(&edges));
        let behind = opentelemetry::global::meter("attain")
            .u64_gauge("attain.ingestion.prometheus.behind")
            .with_unit("s")
            .with_description("How far behind now each mapping was read")
            .build();
        let reader = Reader::new(store, client, settings.clone());
        Self { reader, followed, claims: Claims::default(), settings, clock, behind }
    }

    pub(super) async fn run(mut self, condition: Condition) {
        loop {
            let newest_ms = newest_end(self.clock.now_ms(), self.settings.lag_seconds);
            let Some(index) = next(&self.followed, newest_ms) else {
                tokio::time::sleep(self.wait(newest_ms)).await;
                continue;
            };
            let outcome = self.reader.step(&mut self.followed[index], newest_ms).await;
            let rest = self.settle(index, outcome, newest_ms);
            self.tell(&condition, newest_ms);
            tokio::time::sleep(rest).await;
        }
    }

    /// How long there is nothing to do.
    fn wait(&self, newest_ms: UnixMillis) -> Duration {
        let pauses = self.followed.iter().filter(|followed| followed.is_behind(newest_ms)).map(Followed::pauses);
        pauses.chain([Duration::from_secs(self.settings.interval_seconds)]).min().unwrap_or_default()
    }

    /// Takes note of what a step was good for; how long the server rests after it.
    fn settle(&mut self, index: usize, outcome: Result<Outcome, Trouble>, newest_ms: UnixMillis) -> Duration {
        let followed = &mut self.followed[index];
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(trouble) => {
                self.reader.count("queries_failed", 1);
                if followed.failed(trouble.to_string()) {
                    let mapping = &followed.mapping.name;
                    tracing::warn!(%mapping, %trouble, "Prometheus cannot be read; it is asked again");
                }
                return Duration::ZERO;
            }
        };
        if outcome.measured.is_some() || !followed.is_behind(newest_ms) {
            followed.went_on(outcome.from_ms, newest_ms);
            let seconds = (followed.behind_ms(newest_ms) / 1_000).max(0) as u64;
            self.behind.record(seconds, &[KeyValue::new("attain.mapping", followed.mapping.name.clone())]);
        }
        self.note_claims(index, outcome.measured.unwrap_or_default());
        if self.followed[index].is_behind(newest_ms) {
            rest(outcome.took, self.settings.server_share_ratio)
        } else {
            Duration::ZERO
        }
    }

    fn note_claims(&mut self, index: usize, measured: Spans) {
        let more = self.claims.note(index, measured);
        if more > 0 {
            self.reader.count("measured_twice", more);
            let told = self.overlaps().unwrap_or_default();
            tracing::warn!(overlaps = %told, "two mappings measure the same service");
        }
    }

    fn overlaps(&self) -> Option<String> {
        self.claims.told(|index| self.followed.get(index).map(|of| of.mapping.name.clone()).unwrap_or_default())
    }

    fn tell(&self, condition: &Condition, newest_ms: UnixMillis) {
        let lacks = self.followed.iter().filter_map(Followed::lack).chain(self.overlaps());
        let hindrances: Vec<String> =
            self.followed.iter().filter_map(|followed| followed.hindrance(newest_ms)).collect();
        if !hindrances.is_empty() {
            condition.unmet(hindrances.into_iter().chain(lacks).collect::<Vec<_>>().join("; "));
        } else if self.followed.iter().all(|followed| followed.place.is_some() && !followed.is_behind(newest_ms)) {
            let read = format!("read to {}", told(newest_ms));
            condition.met(std::iter::once(read).chain(lacks).collect::<Vec<_>>().join("; "));
        }
    }
}

/// The mapping to read on next: the one that is least behind, of those that are behind and do not pause.
fn next(followed: &[Followed], newest_ms: UnixMillis) -> Option<usize> {
    let due = followed.iter().enumerate().filter(|(_, of)| of.is_behind(newest_ms) && of.pauses().is_zero());
    due.min_by_key(|(_, of)| of.behind_ms(newest_ms)).map(|(index, _)| index)
}

/// How long the server rests after it worked, so that it works for us a share of the time only.
fn rest(worked: Duration, share: f64) -> Duration {
    worked.mul_f64(1.0 / share - 1.0).min(REST_MAX)
}

/// End of the newest bucket that is over for long enough.
fn newest_end(now_ms: UnixMillis, lag_seconds: u32) -> UnixMillis {
    attain_vocabulary::bucket_start(now_ms - i64::from(lag_seconds) * 1000)
}

#[cfg(test)]
mod tests {
    use super::super::mapping::parse;
    use super::super::pace::Place;
    use super::*;
    use attain_vocabulary::{BUCKET_MS, DAY_MS};

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

    #[tokio::test]
    async fn whoever_is_least_behind_comes_first_and_whoever_failed_pauses() {
        let mappings =
            parse("[[mapping]]\nname = 'a'\nvalid = 'x'\nbad = 'y'\n[[mapping]]\nname = 'b'\nvalid = 'x'\nbad = 'z'\n");
        let mut followed: Vec<Followed> =
            mappings.expect("valid").into_iter().map(|mapping| Followed::new(mapping, "http://a")).collect();
        assert_eq!(next(&followed, START), Some(0), "it is looked up first");
        let at = |end_ms| Some(Place { end_ms, is_stored: true, read_ms: end_ms });
        (followed[0].place, followed[1].place) = (at(START - 90 * DAY_MS), at(START - BUCKET_MS));
        assert_eq!(next(&followed, START), Some(1));
        assert!(followed[1].failed("away".into()) && !followed[1].failed("away".into()));
        assert_eq!(next(&followed, START), Some(0));
        (followed[0].place, followed[1].place) = (at(START), at(START));
        assert_eq!(next(&followed, START), None);
    }
}
