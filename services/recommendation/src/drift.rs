//! Watching own failures: when a recommendation is computed, and by a sweep over services that changed. The same sweep does what
//! else the past asks for: it closes windows that models have forecast, and fits constants anew when it is time.

use std::sync::Arc;
use std::time::Duration;

use attain_attainment::ToldApart;
use attain_drift::Settings;
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::Shutdown;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::domain::drift::{Watched, watched};
use crate::domain::turns::Turns;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::gather::own::failures_of;
use crate::message::drift as message;
use crate::page::page_size;
use crate::storage::StoredDrift;
use crate::{Error, models, recommendations, retraining};

/// Most services that wait for a sweep.
const WAITING_MAX: usize = 50_000;
/// Services that are read from the store at a time when more changed than is remembered.
const PAGE: u32 = 500;

/// Lists how own failures stand.
pub(crate) async fn list(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListDriftRequest,
) -> Result<wire::ListDriftResponse, Error> {
    let size = page_size(request.page_size)?;
    let service = match request.service_id.as_str() {
        "" => None,
        id => Some(EntityId::new("service_id", id)?),
    };
    let state = message::asked_state(request.state)?;
    let after = match request.page_token.as_str() {
        "" => String::new(),
        // A page token is the last name of the page before.
        token => EntityId::new("page_token", token)?.to_string(),
    };
    let mut page = engine.store.drift(&context.tenant, service.as_ref(), state, &after, size + 1).await?;
    let more = page.len() > size as usize;
    page.truncate(size as usize);
    let next_page_token = page.last().filter(|_| more).map(|last| last.service_id.clone()).unwrap_or_default();
    let row = |row: &StoredDrift| wire::ServiceDrift {
        service_id: row.service_id.clone(),
        drift: Some(message::drift(&row.watched)),
        check_time: Some(timestamp(row.check_ms)),
    };
    Ok(wire::ListDriftResponse { services: page.iter().map(row).collect(), next_page_token })
}

/// Notes what a computation saw. Gives when the newest change was found.
pub(crate) async fn note(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    watched: &Watched,
) -> Result<Option<UnixMillis>, Error> {
    let now_ms = engine.clock.now_ms();
    let (noted_ms, _) = engine.store.note_drift(&context.tenant, service, watched, &context.caller, now_ms).await?;
    Ok(noted_ms)
}

/// Looks at services that changed, a bounded number at a time, and computes their recommendations anew where their own failures are at
/// another level; then closes windows that models have forecast, and fits a model anew where it is time.
pub(crate) struct Sweeper {
    engine: Arc<Engine>,
    turns: Turns,
    /// Where the walk over everything that is stored has come to, while there is one.
    walk: Option<(String, String)>,
}

impl Sweeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let seconds = engine.config.drift_check_interval_seconds;
        let interval_ms = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self { engine, turns: Turns::new(WAITING_MAX, interval_ms), walk: None }
    }

    /// Sweeps until the shutdown.
    pub(crate) async fn run(mut self, shutdown: Shutdown) {
        let limit = self.engine.config.drift_sweep_services_max;
        let pause = Duration::from_millis(self.engine.config.drift_sweep_interval_ms);
        let mut sweeps = interval_at(Instant::now() + pause, pause);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sweeping = async {
            loop {
                sweeps.tick().await;
                if limit > 0 {
                    self.sweep(limit).await;
                }
                models::close(&self.engine).await;
                retraining::in_turn(&self.engine).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sweeping => {}
        }
    }

    async fn sweep(&mut self, limit: usize) {
        let now_ms = self.engine.clock.now_ms();
        let (touched, all) = self.engine.changes.take_touched(WAITING_MAX);
        let mut room = true;
        for key in touched {
            room &= self.turns.note(key, now_ms);
        }
        if (all || !room) && self.walk.is_none() {
            self.walk = Some(<(String, String)>::default());
        }
        if let Err(error) = self.walk_on(now_ms).await {
            tracing::warn!(reason = %error, "services with recommendations could not be listed for the watch over own failures");
        }
        for (tenant, service) in self.turns.take(limit, now_ms) {
            // It is looked at again when it changes again.
            if let Err(error) = look(&self.engine, &tenant, &service).await {
                tracing::debug!(service.id = %service, reason = %error, "own failures could not be looked at");
            }
        }
    }

    /// More changed than is remembered: whoever has a recommendation gets a turn, a page at each sweep.
    async fn walk_on(&mut self, now_ms: UnixMillis) -> Result<(), Error> {
        let Some((tenant, service)) = &self.walk else { return Ok(()) };
        let page = self.engine.store.recommended((tenant, service), PAGE).await?;
        let last = page.last().map(|(tenant, service)| (tenant.to_string(), service.to_string()));
        let noted = page.into_iter().all(|key| self.turns.note(key, now_ms));
        if noted {
            self.walk = last;
        }
        Ok(())
    }
}

/// Looks at one service, and computes its recommendations anew where its level changed.
async fn look(engine: &Arc<Engine>, tenant: &TenantId, service: &EntityId) -> Result<(), Error> {
    let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let watched = {
        // Histories are held in memory, as a computation holds them.
        let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
        let input = failures_of(engine, &context, service).await?;
        blocking(move || watched((&input, &ToldApart::of(&input)), Settings::OWN_FAILURES)).await?
    };
    let now_ms = engine.clock.now_ms();
    let (noted_ms, new) = engine.store.note_drift(tenant, service, &watched, CALLER, now_ms).await?;
    if new {
        tracing::info!(service.id = %service, "the level of own failures changed");
    }
    if noted_ms.is_none() {
        return Ok(());
    }
    // Whoever noted it first, a sweep or the computation for one window: the others do not know it yet.
    for window in engine.store.windows(tenant, service).await? {
        let latest = engine.store.latest(tenant, service, window).await?;
        if latest.is_some_and(|latest| recommendations::knows_no_drift(&latest, noted_ms)) {
            let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
            recommendations::newest(engine, &context, service.clone(), window).await?;
        }
    }
    Ok(())
}
