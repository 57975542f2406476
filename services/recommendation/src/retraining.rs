//! Fits a model to a tenant's own past, by schedule and after a drift, and registers what predicts better as a shadow: constants, and
//! what classes of services tell.

use std::sync::Arc;

use attain_attainment::RecommendationInput;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, TenantId, TimeRange, UnixMillis, bucket_start};

use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::model_classes::Past;
use crate::domain::models::{Content, Registered, registered};
use crate::domain::retraining::{fitted, past_of};
use crate::engine::Engine;
use crate::gather::blocking;
use crate::gather::own::counts_of;
use crate::members::Refusal;

/// Most services whose history is fitted to.
const SERVICES_MAX: u32 = 200;
/// A drift fits anew no sooner than this after the last fit: it takes reading all those histories.
const AFTER_DRIFT_MS: i64 = DAY_MS;

/// Fits the model of the tenant whose turn it is, at most one at a time. When that was last is stored: a process that is started anew goes
/// on with the schedule of the one before, and of several processes one takes the turn.
pub(crate) async fn in_turn(engine: &Arc<Engine>) {
    let now_ms = engine.clock.now_ms();
    let interval_ms = i64::try_from(engine.config.retrain_interval_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    if interval_ms == 0 {
        return;
    }
    match engine.store.retraining_turn(now_ms, interval_ms, AFTER_DRIFT_MS.min(interval_ms)).await {
        Ok(None) => {}
        Ok(Some(tenant)) => {
            let outcome = match retrain(engine, &tenant).await {
                Ok(outcome) => outcome,
                Err(error) => format!("It broke off: {error}."),
            };
            tracing::info!(tenant.id = %tenant, outcome, "the model was to be fitted anew");
            if let Err(error) = engine.store.note_retraining(&tenant, &outcome).await {
                tracing::warn!(tenant.id = %tenant, reason = %error, "what came of a fit could not be noted");
            }
        }
        Err(error) => tracing::warn!(reason = %error, "whose model is to be fitted anew could not be read"),
    }
}

/// Fits the model of a tenant and registers it as a shadow where it predicts its own past better: what came of it.
async fn retrain(engine: &Arc<Engine>, tenant: &TenantId) -> Result<String, Error> {
    let registry = engine.store.registry(tenant).await?;
    let live = registry.find(registry.live()).ok_or_else(|| Error::UnknownModel(registry.live().to_owned()))?.clone();
    let end_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let services = engine.store.recommended((tenant.as_str(), ""), SERVICES_MAX).await?;
    let (mut pasts, mut unread) = (Vec::new(), 0);
    for (_, service) in services.into_iter().filter(|(of, _)| of == tenant) {
        match past(engine, tenant, &service, end_ms, &live.content).await {
            Ok(past) => pasts.extend(past),
            Err(error) => {
                unread += 1;
                tracing::warn!(service.id = %service, reason = %error, "a history could not be read for a fit");
            }
        }
    }
    let unread = if unread > 0 { format!(" {unread} histories could not be read.") } else { String::new() };
    let before = live.content.clone();
    let (content, note) = match blocking(move || fitted(&pasts, &before)).await? {
        Ok(fitted) => fitted,
        Err(why) => return Ok(format!("Nothing new: {why}.{unread}")),
    };
    let now_ms = engine.clock.now_ms();
    let new = registered(content, "retrained".into(), note.clone(), live.version, CALLER.to_owned(), now_ms);
    engine.store.register_model(tenant, &new, entry(&new, now_ms)).await?;
    Ok(format!("{} is a shadow. {note}{unread}", new.version))
}

/// One service's past; `None` where it is gone.
async fn past(
    engine: &Arc<Engine>,
    tenant: &TenantId,
    service: &EntityId,
    end_ms: UnixMillis,
    live: &Content,
) -> Result<Option<Past>, Error> {
    let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
    let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let range = TimeRange::new("range", end_ms - i64::from(engine.config.history_days) * DAY_MS, end_ms)?;
    let constants = live.constants;
    let read = move |input: RecommendationInput| past_of(&input, &constants, end_ms);
    match counts_of(engine, &context, service, range).await {
        Ok(input) => blocking(move || read(input)).await.map(Some),
        Err(Refusal::Unknown) => Ok(None),
        Err(refusal) => Err(refusal.fatal("ingestion")),
    }
}

fn entry(new: &Registered, time_ms: UnixMillis) -> Entry {
    let detail = serde_json::json!({"version": new.version, "content_sha256": new.content_sha256});
    Entry {
        time_ms,
        caller: CALLER.to_owned(),
        action: "model.registered".to_owned(),
        service_id: String::new(),
        detail_json: detail.to_string(),
    }
}
