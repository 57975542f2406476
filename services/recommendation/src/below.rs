//! Decisions below: what was decided about the services that others need, and the recommendations that follow from it.
//!
//! Each recommendation notes how far in the tenant's log it has looked at SLOs in force. One that was decided later, about
//! something that the service needs, makes it stale at once, in every process and without a mark that could be lost. The
//! [`Follower`] computes those anew, and only those; reading computes nothing for this reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, TenantId};
use tokio::task::JoinHandle;

use crate::domain::below::{DecidedBelow, Promised, callees_first};
use crate::engine::Engine;
use crate::members::{Direction, Refusal};
use crate::storage::Store;
use crate::{Error, recommendations};

/// Under which name callers are computed anew.
const CALLER: &str = "recommendation";
/// Most tenants whose decisions are held in memory, about 100 bytes a service; those beyond are read each time.
const TENANTS_MAX: usize = 10_000;
/// Rounds after which a caller that cannot be computed is left to whoever asks for it.
const ROUNDS_MAX: u32 = 10;

/// Who was decided upon, by tenant, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Below(Mutex<BTreeMap<TenantId, Arc<Promised>>>);

impl Below {
    /// Everything that was decided up to now.
    pub(crate) async fn now(&self, store: &Store, tenant: &TenantId) -> Result<Arc<Promised>, Error> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned().unwrap_or_default();
        // Places in the log are taken and given free in order, so nothing at or before the newest comes later.
        let newest = store.newest_slo(tenant).await?;
        if held.up_to >= newest {
            return Ok(held);
        }
        let mut read = (*held).clone();
        read.learn(store.slos_decided(tenant, held.up_to, newest).await?);
        read.up_to = newest;
        let read = Arc::new(read);
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = tenants.get(tenant).is_some_and(|other| other.up_to >= read.up_to);
        if !newer && (tenants.len() < TENANTS_MAX || tenants.contains_key(tenant)) {
            tenants.insert(tenant.clone(), Arc::clone(&read));
        }
        Ok(read)
    }
}

/// Computes callers anew again and again until the stop.
pub(crate) fn follow(engine: Arc<Engine>, shutdown: Shutdown) -> JoinHandle<()> {
    let interval = Duration::from_millis(engine.config.decisions_follow_interval_ms);
    tokio::spawn(async move {
        let mut follower = Follower { engine, rounds: BTreeMap::new() };
        loop {
            if let Err(error) = follower.round().await {
                tracing::warn!(error = %error, "decisions could not be followed; the next round tries again");
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    })
}

/// Follows decisions.
struct Follower {
    engine: Arc<Engine>,
    /// Rounds that a tenant's newest decisions have taken already.
    rounds: BTreeMap<TenantId, u32>,
}

impl Follower {
    async fn round(&mut self) -> Result<(), Error> {
        for (tenant, followed) in self.engine.store.tenants_to_follow().await? {
            let newest = self.engine.store.newest_slo(&tenant).await?;
            let decided = self.engine.store.slos_decided(&tenant, followed, newest).await?;
            let rounds = self.rounds.entry(tenant.clone()).or_default();
            *rounds += 1;
            if !follow_up(&self.engine, &tenant, &decided).await? && *rounds < ROUNDS_MAX {
                continue;
            }
            // Whoever was left out is stale still, and is told so.
            self.engine.store.note_followed(&tenant, newest).await?;
            self.rounds.remove(&tenant);
        }
        Ok(())
    }
}

/// Computes everybody anew who needs one of these and has looked at other promises; whether that is everybody.
async fn follow_up(engine: &Arc<Engine>, tenant: &TenantId, decided: &[DecidedBelow]) -> Result<bool, Error> {
    let context = || CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let Some(callers) = callers(engine, &context(), decided).await else { return Ok(false) };
    let mut complete = true;
    for service in callers {
        for window in engine.store.windows(tenant, &service).await? {
            match recommendations::follow(engine, &context(), &service, window).await {
                Ok(()) => {}
                Err(Error::UnknownService(_)) => {
                    tracing::debug!(service.id = %service, "a caller is not known any more");
                }
                Err(error) => {
                    complete = false;
                    tracing::info!(service.id = %service, error = %error, "a caller could not be computed anew");
                }
            }
        }
    }
    Ok(complete)
}

/// Who needs one of these, callees first; `None` where the graph cannot be asked.
async fn callers(engine: &Engine, context: &CallContext, decided: &[DecidedBelow]) -> Option<Vec<EntityId>> {
    let (mut members, mut edges) = (BTreeSet::new(), BTreeSet::new());
    for below in decided {
        match engine.graph.closure(context, &below.service, Direction::Upstream).await {
            Ok(closure) => {
                members.extend(closure.order);
                edges.extend(closure.edges.into_iter().map(|edge| (edge.caller, edge.callee)));
            }
            // Nobody calls what the graph does not know.
            Err(Refusal::Unknown) => {}
            Err(refusal) => {
                tracing::info!(reason = refusal.detail(), "whom a decision touches could not be asked");
                return None;
            }
        }
    }
    Some(callees_first(&members, &edges))
}
