//! What every use case works with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attain_runtime::channel;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TenantId, TimeWindow};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::below::Below;
use crate::changes::Changes;
use crate::domain::freshness::{Ages, Staleness};
use crate::histories::Histories;
use crate::learning::Memory;
use crate::members::{Graph, Ingestion, Knowledge};
use crate::reads::Reads;
use crate::storage::{Store, StoredRecommendation};
use crate::webhooks::vault::Vault;
use crate::{Config, Error};

/// The other members, the store, time and the bounds.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) ingestion: Ingestion,
    pub(crate) graph: Graph,
    pub(crate) knowledge: Knowledge,
    /// What is known of ingestion's changes without asking it.
    pub(crate) changes: Arc<Changes>,
    pub(crate) clock: Clock,
    /// Histories that were read already.
    pub(crate) histories: Histories,
    /// What was learned from decisions, by tenant.
    pub(crate) learned: Memory,
    /// Who was decided upon, by tenant.
    pub(crate) below: Below,
    /// Who read what, on the way to the audit log.
    pub(crate) reads: Reads,
    pub(crate) config: Config,
    /// What secrets of webhooks are encrypted with; `None` where no key is configured, and then there are none.
    pub(crate) vault: Option<Vault>,
    /// One computation at a time for a service and window.
    pub(crate) flights: Flights<FlightKey, Result<Arc<Landed>, Error>>,
    /// Places for computations, each of which holds histories in memory.
    pub(crate) places: Arc<Semaphore>,
}

/// What a computation ended with.
#[derive(Debug)]
pub(crate) struct Landed {
    pub(crate) recommendation: StoredRecommendation,
    /// Why it may be another already.
    pub(crate) staleness: Option<Staleness>,
}

/// Whose recommendation is being computed.
pub(crate) type FlightKey = (TenantId, EntityId, TimeWindow);

impl Engine {
    /// # Errors
    /// Names the setting where a member's address cannot be understood.
    pub(crate) fn new(
        config: Config,
        store: Store,
        changes: Arc<Changes>,
        clock: Clock,
        reads: Reads,
        vault: Option<Vault>,
    ) -> Result<Self, Error> {
        let member = |key: &str, url: &str| channel::connect(&format!("recommendation.{key}"), url);
        Ok(Self {
            ingestion: Ingestion::new(member("ingestion_url", &config.ingestion_url)?),
            graph: Graph::new(member("graph_url", &config.graph_url)?),
            knowledge: Knowledge::new(member("rag_url", &config.rag_url)?),
            places: Arc::new(Semaphore::new(config.computations_max)),
            flights: Flights::default(),
            histories: Histories::new(config.histories_mib_max * 1024 * 1024),
            changes,
            learned: Memory::default(),
            below: Below::default(),
            reads,
            vault,
            store,
            clock,
            config,
        })
    }

    pub(crate) fn ages(&self) -> Ages {
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Ages {
            recompute_min_ms: ms(self.config.min_recompute_interval_seconds),
            max_ms: ms(self.config.max_age_seconds),
        }
    }

    /// A place for a computation that somebody waits for: within the caller's deadline or not at all. It goes where the histories
    /// go, so that one whose caller went away counts until it ends.
    pub(crate) async fn place(&self, context: &CallContext) -> Result<OwnedSemaphorePermit, Error> {
        tokio::time::timeout(context.remaining(), Arc::clone(&self.places).acquire_owned())
            .await
            .map_err(|_| Error::Deadline)?
            .map_err(|error| Error::Broken(error.to_string()))
    }

    pub(crate) fn compute_timeout(&self) -> Duration {
        Duration::from_secs(self.config.compute_seconds_max)
    }
}

/// Work that everybody who asks for the same thing at the same time shares. It goes on when whoever asked first goes away.
pub(crate) struct Flights<K, V: Clone>(Mutex<BTreeMap<K, Shared<BoxFuture<'static, V>>>>);

impl<K, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, V: Clone> std::fmt::Debug for Flights<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flights")
    }
}

impl<K: Ord + Clone, V: Clone> Flights<K, V> {
    /// The work in flight for the key; begun by `start` where there is none. `land` has to be called when it ends.
    pub(crate) fn join(&self, key: K, start: impl FnOnce() -> BoxFuture<'static, V>) -> Shared<BoxFuture<'static, V>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        flights.entry(key).or_insert_with(|| start().shared()).clone()
    }

    /// Forgets work that ended.
    pub(crate) fn land(&self, key: &K) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn whoever_asks_while_it_runs_shares_the_work() {
        let flights: Flights<&str, u32> = Flights::default();
        let begun = AtomicU32::new(0);
        let (release, released) = oneshot::channel::<u32>();
        let join = |work: BoxFuture<'static, u32>| {
            flights.join("key", || {
                begun.fetch_add(1, Ordering::SeqCst);
                work
            })
        };
        let first = join(async move { released.await.unwrap_or(0) }.boxed());
        let second = join(async { 99 }.boxed());
        release.send(7).expect("awaited");
        assert_eq!((second.await, first.await), (7, 7));
        flights.land(&"key");
        assert_eq!(join(async { 8 }.boxed()).await, 8);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
