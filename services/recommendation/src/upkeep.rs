//! What time alone brings about: pending decisions lapse, and SLOs whose review is near are offered a renewal.

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER};
use tokio::task::JoinHandle;

use crate::domain::audit::Entry;
use crate::domain::lifecycle::PendingState;
use crate::domain::slo::kind_word;
use crate::engine::Engine;
use crate::storage::{Closing, Renewal, Terms};
use crate::{Error, recommendations};

/// Most of each that one round attends to.
const ROUND_MAX: u32 = 100;
/// Milliseconds in an hour.
const HOUR_MS: i64 = 3_600_000;

/// Attends to it again and again until the stop.
pub(crate) fn keep(engine: Arc<Engine>, shutdown: Shutdown) -> JoinHandle<()> {
    let interval = Duration::from_secs(engine.config.upkeep_interval_seconds);
    tokio::spawn(async move {
        loop {
            for (what, done) in [
                ("pending decisions", lapse(&engine).await),
                ("renewals", renew(&engine).await),
                ("deliveries", forget(&engine).await),
            ] {
                if let Err(error) = done {
                    tracing::warn!(attain.what = what, error = %error, "upkeep failed; the next round tries again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.cancelled() => return,
            }
        }
    })
}

/// Puts on record that nobody approved in time.
async fn lapse(engine: &Engine) -> Result<(), Error> {
    let now_ms = engine.clock.now_ms();
    for (tenant, id) in engine.store.lapsed(now_ms, ROUND_MAX).await? {
        let closing = Closing {
            id,
            outcome: PendingState::Expired,
            caller: RECOMMENDATION_CALLER.to_owned(),
            reason: String::new(),
            time_ms: now_ms,
        };
        match engine.store.close_pending(&tenant, closing, Terms::default()).await {
            // Another process did.
            Ok(_) | Err(Error::DecisionClosed { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Offers the newest recommendation in the place of each SLO whose review is near.
async fn renew(engine: &Arc<Engine>) -> Result<(), Error> {
    for renewal in engine.store.renewals_due(engine.clock.now_ms(), ROUND_MAX).await? {
        let context = CallContext::new(renewal.tenant.clone(), RECOMMENDATION_CALLER, engine.compute_timeout());
        let slo = &renewal.slo;
        let computed = recommendations::newest(engine, &context, slo.service.clone(), slo.window).await;
        let now_ms = engine.clock.now_ms();
        if let Err(error) = computed {
            tracing::info!(service.id = %slo.service, error = %error, "a renewal could not be computed");
            // Until the review the next round tries again; then it is offered without a recommendation.
            if now_ms < renewal.review_ms {
                continue;
            }
        }
        let open = engine.store.open_recommendation(&renewal.tenant, &slo.service, slo.window, now_ms).await?;
        engine.store.offer_renewal(&renewal, entry(&renewal, open.as_deref(), now_ms)).await?;
    }
    Ok(())
}

fn entry(renewal: &Renewal, recommendation_id: Option<&str>, time_ms: i64) -> Entry {
    let slo = &renewal.slo;
    let detail = serde_json::json!({
        "kind": kind_word(slo.kind),
        "slo_version": slo.version,
        "target_ratio": slo.target.target_ratio(),
        "review_ms": renewal.review_ms,
        "recommendation_id": recommendation_id,
        "window": slo.window.to_string(),
    });
    Entry {
        time_ms,
        caller: RECOMMENDATION_CALLER.to_owned(),
        action: "slo.renewal_offered".to_owned(),
        service_id: slo.service.to_string(),
        detail_json: detail.to_string(),
    }
}

async fn forget(engine: &Engine) -> Result<(), Error> {
    let kept_ms = i64::from(engine.config.webhooks.kept_days) * 24 * HOUR_MS;
    engine.store.forget_deliveries(engine.clock.now_ms() - kept_ms).await
}
