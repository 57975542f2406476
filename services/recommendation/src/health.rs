//! Looks at what this member stands on, again and again, and says so in its readiness: storage and ingestion are needed; the
//! graph and knowledge are only missed.

use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::channel;
use attain_runtime::readiness::{Condition, Readiness};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::storage::Store;
use crate::{Config, Error};

/// Longest that a look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// First wait after a look that found something wrong.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The looks, until they are told to stop.
pub(crate) struct Looks(JoinSet<()>);

impl Looks {
    pub(crate) fn abort_all(mut self) {
        self.0.abort_all();
    }
}

/// Begins to look at the database and the members.
pub(crate) fn watch(
    config: &Config,
    readiness: &Readiness,
    storage: Condition,
    store: Store,
    shutdown: Shutdown,
) -> Result<Looks, Error> {
    let interval = Duration::from_secs(config.health_interval_seconds);
    let mut looks = JoinSet::new();
    let needed = readiness.require("ingestion", "not asked yet");
    let members = [
        (needed, "ingestion_url", &config.ingestion_url),
        (readiness.prefer("graph", "not asked yet"), "graph_url", &config.graph_url),
        (readiness.prefer("knowledge", "not asked yet"), "rag_url", &config.rag_url),
    ];
    for (condition, key, url) in members {
        let channel = channel::connect(&format!("recommendation.{key}"), url)?;
        looks.spawn(look_at_member(condition, url.clone(), channel, interval, shutdown.clone()));
    }
    looks.spawn(look_at_storage(storage, store, interval, shutdown));
    Ok(Looks(looks))
}

async fn look_at_member(condition: Condition, url: String, channel: Channel, interval: Duration, shutdown: Shutdown) {
    let mut client = HealthClient::new(channel);
    let mut backoff = Backoff::new(interval);
    loop {
        let look = tokio::time::timeout(LOOK_TIMEOUT, client.check(HealthCheckRequest::default())).await;
        let wrong = match look {
            Ok(Ok(response)) if response.get_ref().status() == ServingStatus::Serving => None,
            Ok(Ok(_)) => Some(format!("{url} is not ready")),
            Ok(Err(status)) => Some(format!("{url} does not answer: {}", status.message())),
            Err(_) => Some(format!("{url} does not answer in time")),
        };
        let wait = backoff.after(wrong.is_none());
        match wrong {
            None => condition.met(url.clone()),
            Some(detail) => condition.unmet(detail),
        }
        if pause(wait, &shutdown).await {
            return;
        }
    }
}

/// The database was there when this began, so the first look comes after a pause.
async fn look_at_storage(condition: Condition, store: Store, interval: Duration, shutdown: Shutdown) {
    let mut backoff = Backoff::new(interval);
    let mut wait = interval;
    while !pause(wait, &shutdown).await {
        let look = store.ping().await;
        wait = backoff.after(look.is_ok());
        match look {
            Ok(()) => condition.met(store.description()),
            Err(error) => condition.unmet(error.to_string()),
        }
    }
}

/// How long to wait for the next look: the interval while all is well, else from short to the interval.
struct Backoff {
    interval: Duration,
    next: Duration,
}

impl Backoff {
    fn new(interval: Duration) -> Self {
        Self { interval, next: WAIT_MIN }
    }

    fn after(&mut self, well: bool) -> Duration {
        if well {
            self.next = WAIT_MIN;
            return self.interval;
        }
        let wait = self.next.min(self.interval);
        self.next = (self.next * 2).min(self.interval);
        wait
    }
}

/// Waits; whether it is time to stop.
async fn pause(wait: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = tokio::time::sleep(wait) => false,
        () = shutdown.cancelled() => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_while_something_is_wrong() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let waits: Vec<u64> = (0..6).map(|_| backoff.after(false).as_millis() as u64).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.after(true), Duration::from_secs(1));
        assert_eq!(backoff.after(false), WAIT_MIN);
    }
}
