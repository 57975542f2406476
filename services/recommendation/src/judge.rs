//! What became of offers that were made: once their window has closed they are held against what was measured in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attain_attainment::{AgeBucket, Exclusion, Held, ServiceHistory, freshness_outcome, outcome};
use attain_runtime::Shutdown;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{EntityId, SliBucket, SliKind, TenantId, TimeRange, UnixMillis};

use crate::Error;
use crate::engine::Engine;
use crate::gather::{blocking, incidents};
use crate::members::Refusal;
use crate::storage::{DueOffer, Judgement};

/// How long after its end a window is judged: spans wait for their traces, and exports are sent again.
const SETTLED_MS: i64 = 3_600_000;
/// Most offers that are read at a time.
const DUE_MAX: u32 = 600;
/// Least share of a window, what was left out of it not counted, that buckets cover before it proves anything.
const COVERED_SHARE_MIN: f64 = 0.5;

/// Judges the offers of every tenant again and again, until the stop.
pub(crate) async fn sweep(engine: Arc<Engine>, shutdown: Shutdown) {
    let interval = Duration::from_secs(engine.config.judge_interval_seconds);
    loop {
        match everybody(&engine).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(judge.offer_count = count, "judged offers whose window has closed"),
            Err(error) => tracing::warn!(error = %error, "offers whose window has closed could not be judged"),
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Judges what is due of one service. That is not what the caller asked for: a failure is told to the log.
pub(crate) async fn in_passing(engine: &Engine, context: &CallContext, service: &EntityId) {
    let judged = async {
        let due = engine.store.due_offers(Some((&context.tenant, service)), settled_before(engine), DUE_MAX).await?;
        judge(engine, context, service, due).await
    };
    if let Err(error) = judged.await {
        tracing::warn!(service.id = %service, error = %error, "offers whose window has closed could not be judged");
    }
}

/// One batch after the other, as long as there are full ones and something comes of them.
async fn everybody(engine: &Engine) -> Result<usize, Error> {
    let mut count = 0;
    loop {
        let (due, judged) = batch(engine).await?;
        count += judged;
        if due < DUE_MAX as usize || judged == 0 {
            return Ok(count);
        }
    }
}

/// One service after the other; a service whose measurements cannot be had now is left for the next time. How many offers were due, and
/// how many were judged.
async fn batch(engine: &Engine) -> Result<(usize, usize), Error> {
    let due = engine.store.due_offers(None, settled_before(engine), DUE_MAX).await?;
    let due_count = due.len();
    let mut services: BTreeMap<(TenantId, EntityId), Vec<DueOffer>> = BTreeMap::new();
    for offer in due {
        services.entry((offer.tenant.clone(), offer.service.clone())).or_default().push(offer);
    }
    let mut count = 0;
    for ((tenant, service), due) in services {
        let context = CallContext::new(tenant, CALLER, engine.compute_timeout());
        let _place = engine.places.acquire().await.map_err(|error| Error::Broken(error.to_string()))?;
        match judge(engine, &context, &service, due).await {
            Ok(judged) => count += judged,
            Err(error) => {
                tracing::warn!(service.id = %service, error = %error, "offers whose window has closed could not be judged");
            }
        }
    }
    Ok((due_count, count))
}

fn settled_before(engine: &Engine) -> UnixMillis {
    engine.clock.now_ms() - SETTLED_MS
}

/// Holds offers of one service against its measurements; how many.
async fn judge(engine: &Engine, context: &CallContext, service: &EntityId, due: Vec<DueOffer>) -> Result<usize, Error> {
    let (Some(start_ms), Some(end_ms)) =
        (due.iter().map(|offer| offer.start_ms).min(), due.iter().map(|offer| offer.end_ms).max())
    else {
        return Ok(0);
    };
    let range = TimeRange::new("range", start_ms, end_ms)?;
    let without_latency = due.iter().all(|offer| offer.kind != SliKind::Latency);
    let ids = std::slice::from_ref(service);
    let ages = async {
        match due.iter().any(|offer| offer.kind == SliKind::Freshness) {
            true => engine.ingestion.ages(context, service, range).await,
            false => Ok(Vec::new()),
        }
    };
    let (histories, known, ages) = futures::join!(
        engine.ingestion.histories(context, ids, range, without_latency),
        engine.ingestion.incidents(context, service),
        ages,
    );
    let ages = or_nothing(ages)?;
    let mut histories = or_nothing(histories)?;
    let known = or_nothing(known)?;
    let (_, exclusions) = incidents(service, &known, range);
    let buckets = histories.remove(service).unwrap_or_default().buckets;
    let judged = blocking(move || held_against(due, range, (buckets, &ages), &exclusions)).await?;
    engine.store.judge(&judged, engine.clock.now_ms()).await?;
    Ok(judged.len())
}

/// Of a service that is gone there is nothing: its offers stay unjudged, and nobody waits for it.
fn or_nothing<T: Default>(answer: Result<T, Refusal>) -> Result<T, Error> {
    match answer {
        Ok(known) => Ok(known),
        Err(Refusal::Unknown) => Ok(T::default()),
        Err(other) => Err(other.fatal("ingestion")),
    }
}

fn held_against(
    due: Vec<DueOffer>,
    range: TimeRange,
    (buckets, ages): (Vec<SliBucket>, &[AgeBucket]),
    exclusions: &[Exclusion],
) -> Vec<(DueOffer, Judgement)> {
    let history = ServiceHistory { range, buckets };
    let judgement = |offer: &DueOffer| {
        let window = TimeRange::new("window", offer.start_ms, offer.end_ms).ok()?;
        let seen = match (offer.kind, offer.latency_threshold_ms) {
            (SliKind::Freshness, threshold) => freshness_outcome(ages, exclusions, window, threshold.unwrap_or(0)),
            (_, threshold) => outcome(&history, exclusions, window, threshold),
        };
        let seen = seen.filter(|seen| seen.covered_share >= COVERED_SHARE_MIN)?;
        let held =
            Held { miss_probability: 0.0, allowed_ratio: 1.0 - offer.target_ratio, observed_ratio: seen.bad_ratio };
        Some(if held.missed() { Judgement::Missed(seen.bad_ratio) } else { Judgement::Met(seen.bad_ratio) })
    };
    let pair = |offer: DueOffer| {
        let judgement = judgement(&offer).unwrap_or(Judgement::Unjudged);
        (offer, judgement)
    };
    due.into_iter().map(pair).collect()
}
