//! Fits constants to a tenant's own past, by schedule and after a drift, and registers what predicts better as a shadow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::usable_counts;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, TenantId, TimeRange, UnixMillis, bucket_start};

use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::models::registered;
use crate::domain::retraining::{Case, Fitted, cases, fit};
use crate::engine::Engine;
use crate::gather::blocking;
use crate::gather::own::counts_of;
use crate::members::Refusal;

/// Most services whose history is fitted to.
const SERVICES_MAX: u32 = 200;
/// A drift fits anew no sooner than this after the last fit: it takes reading all those histories.
const AFTER_DRIFT_MS: i64 = DAY_MS;

/// When each tenant's constants are fitted anew.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// `None` where nothing is fitted.
    interval_ms: Option<i64>,
    /// When each tenant was fitted last, or seen first.
    fitted: BTreeMap<TenantId, UnixMillis>,
    drifted: BTreeSet<TenantId>,
}

impl Schedule {
    /// `interval_seconds` of 0 is never.
    pub(crate) fn new(interval_seconds: u64) -> Self {
        let interval_ms = i64::try_from(interval_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self {
            interval_ms: Some(interval_ms).filter(|interval| *interval > 0),
            fitted: BTreeMap::new(),
            drifted: BTreeSet::new(),
        }
    }

    /// There is something of the tenant to fit to.
    pub(crate) fn seen(&mut self, tenant: &TenantId, now_ms: UnixMillis) {
        if !self.fitted.contains_key(tenant) {
            self.fitted.insert(tenant.clone(), now_ms);
        }
    }

    /// One of the tenant's services fails at another level.
    pub(crate) fn drifted(&mut self, tenant: &TenantId) {
        self.drifted.insert(tenant.clone());
    }

    /// The tenant whose turn it is, at most one at a time.
    pub(crate) fn take(&mut self, now_ms: UnixMillis) -> Option<TenantId> {
        let interval_ms = self.interval_ms?;
        let due = |(tenant, last): &(&TenantId, &UnixMillis)| {
            let age_ms = now_ms - **last;
            age_ms >= interval_ms || (age_ms >= AFTER_DRIFT_MS.min(interval_ms) && self.drifted.contains(*tenant))
        };
        let tenant = self.fitted.iter().find(due).map(|(tenant, _)| tenant.clone())?;
        self.fitted.insert(tenant.clone(), now_ms);
        self.drifted.remove(&tenant);
        Some(tenant)
    }
}

/// Fits the constants of a tenant and registers them as a shadow where they predict its own past better.
pub(crate) async fn retrain(engine: &Arc<Engine>, tenant: &TenantId) -> Result<Fitted, Error> {
    let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let registry = engine.store.registry(tenant).await?;
    let live = registry.find(registry.live()).ok_or_else(|| Error::UnknownModel(registry.live().to_owned()))?.clone();
    let end_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let services = engine.store.recommended((tenant.as_str(), ""), SERVICES_MAX).await?;
    let mut by_service = Vec::new();
    for (_, service) in services.into_iter().filter(|(of, _)| of == tenant) {
        by_service.push(past(engine, tenant, &service, end_ms, live.model.constants).await?);
    }
    let constants = live.model.constants;
    let windows: usize = by_service.iter().map(Vec::len).sum();
    let fitted = blocking(move || fit(&by_service, &constants)).await?;
    match &fitted {
        Fitted::Better { constants, loss: (before, after) } => {
            let note =
                format!("Fitted to {windows} closed windows of the past: log-pinball {after:.4}, before {before:.4}.");
            let now_ms = engine.clock.now_ms();
            let new = registered(*constants, "retrained".into(), note, live.model.version, context.caller, now_ms);
            let detail = serde_json::json!({"version": new.model.version, "content_sha256": new.content_sha256});
            let entry = Entry {
                time_ms: now_ms,
                caller: CALLER.to_owned(),
                action: "model.registered".to_owned(),
                service_id: String::new(),
                detail_json: detail.to_string(),
            };
            engine.store.register_model(tenant, &new, entry).await?;
            tracing::info!(model.version = new.model.version, "constants were fitted anew");
        }
        Fitted::AsGood => tracing::info!("constants near the live ones predict no better"),
        Fitted::TooLittle(lacking) => tracing::info!(lacking, "constants are not fitted: too little is known"),
    }
    Ok(fitted)
}

/// Windows of one service's past; none where it is gone.
async fn past(
    engine: &Arc<Engine>,
    tenant: &TenantId,
    service: &EntityId,
    end_ms: UnixMillis,
    constants: attain_attainment::Constants,
) -> Result<Vec<Case>, Error> {
    let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
    let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let range = TimeRange::new("range", end_ms - i64::from(engine.config.history_days) * DAY_MS, end_ms)?;
    match counts_of(engine, &context, service, range).await {
        Ok(input) => blocking(move || cases(&usable_counts(&input), &constants, end_ms)).await,
        Err(Refusal::Unknown) => Ok(Vec::new()),
        Err(refusal) => Err(refusal.fatal("ingestion")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_by_schedule_and_sooner_after_a_drift() {
        let tenant = TenantId::default();
        let mut schedule = Schedule::new(7 * 86_400);
        assert_eq!(schedule.take(0), None, "nobody is there");
        schedule.seen(&tenant, 0);
        assert_eq!(schedule.take(DAY_MS), None);
        schedule.drifted(&tenant);
        assert_eq!(schedule.take(DAY_MS - 1), None);
        assert_eq!(schedule.take(DAY_MS), Some(tenant.clone()));
        schedule.seen(&tenant, 2 * DAY_MS);
        assert_eq!(schedule.take(7 * DAY_MS), None, "it drifted once");
        assert_eq!(schedule.take(8 * DAY_MS), Some(tenant.clone()));
        let mut never = Schedule::new(0);
        never.seen(&tenant, 0);
        never.drifted(&tenant);
        assert_eq!(never.take(i64::MAX), None);
    }
}
