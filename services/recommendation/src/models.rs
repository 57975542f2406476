//! The registry of models: which is live, which forecast beside it, how well, and who may become the live one.

use std::collections::BTreeMap;

use attain_attainment::{MODEL_VERSION, Model, RecommendationInput, predict_with, usable_counts};
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER as CALLER};
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, InvalidValue, TenantId, TimeRange, TimeWindow, UnixMillis};

use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::calibration::Class;
use crate::domain::models::{Content, Registered, Use, altered, checked_texts, of_these_statistics, registered};
use crate::domain::scores::{Comparison, Demands, Stated, compare};
use crate::domain::slo::{Action, checked_reason};
use crate::engine::Engine;
use crate::gather::blocking;
use crate::gather::own::counts_of;
use crate::members::Refusal;
use crate::message::models as message;
use crate::storage::{NewForecast, Registry, Window};

/// Most shadows that forecast of those that people registered, and as many of those that were fitted: the newest ones.
const SHADOWS_MAX: usize = 4;
/// How long after its end a window is closed: measurements arrive late.
const SETTLE_MS: i64 = 60 * 60 * 1000;
/// How long after its end a window is tried to be closed.
const GIVEN_UP_MS: i64 = 7 * DAY_MS;
/// Most windows that one sweep closes.
const CLOSED_MAX: u32 = 200;
/// Least share of a window's buckets that must be there for it to count as measured.
const COVERAGE_MIN: f64 = 0.5;

/// The model to recommend with, as it is for a class; `None` for the compiled one.
pub(crate) async fn live(engine: &Engine, context: &CallContext, class: Class) -> Result<Option<Model>, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    stored(&registry, registry.live(), class)
}

/// The same for several services, each by its class; those that the compiled one serves are left out.
pub(crate) async fn live_of(
    engine: &Engine,
    context: &CallContext,
    classes: impl Iterator<Item = (EntityId, Class)>,
) -> Result<BTreeMap<EntityId, Model>, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    let mut found = BTreeMap::new();
    for (id, class) in classes {
        if let Some(model) = stored(&registry, registry.live(), class)? {
            found.insert(id, model);
        }
    }
    Ok(found)
}

/// A model by its version; `None` for the compiled one.
pub(crate) async fn of_version(
    engine: &Engine,
    context: &CallContext,
    version: &str,
    class: Class,
) -> Result<Option<Model>, Error> {
    stored(&engine.store.registry(&context.tenant).await?, version, class)
}

fn stored(registry: &Registry, version: &str, class: Class) -> Result<Option<Model>, Error> {
    if version == MODEL_VERSION {
        return Ok(None);
    }
    let model = registry.find(version).map(|registered| registered.for_class(class));
    model.map(Some).ok_or_else(|| Error::Broken(format!("the model {version} is not there")))
}

/// The version that an experiment may serve where one was asked for: the live one where none was.
///
/// # Errors
/// Says what is lacking where it is a shadow that might not be promoted.
pub(crate) async fn usable(engine: &Engine, context: &CallContext, version: &str) -> Result<String, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    if version.is_empty() {
        return Ok(registry.live().to_owned());
    }
    let used = used(&registry, find(&registry, version)?);
    if !of_these_statistics(version) {
        let lacking = vec![format!("it was registered for other statistics than {MODEL_VERSION}")];
        return Err(Error::NotPromotable { version: version.to_owned(), lacking });
    }
    if used == Use::Shadow {
        let Comparison { lacking, .. } = compared(engine, context, version, registry.live()).await?;
        if !lacking.is_empty() {
            return Err(Error::NotPromotable { version: version.to_owned(), lacking });
        }
    }
    Ok(version.to_owned())
}

/// What the live model and its shadows say of the availability of the next window, whatever arm of an experiment the recommendation is
/// made in; nothing where there are no requests or no shadow whose scores anybody would read.
pub(crate) fn forecasts(input: &RecommendationInput, registry: &Registry) -> Vec<NewForecast> {
    let shadows = shadows(registry);
    if shadows.is_empty() {
        return Vec::new();
    }
    let series = usable_counts(input);
    let window_days = f64::from(input.window.days());
    let Some(prediction) = predict_with(&input.constants(), &series, window_days, input.as_of_ms) else {
        return Vec::new();
    };
    let class = Class { tier: input.tier, kind: input.kind };
    let forecast = |of: &Registered| {
        let Model { version, constants, layer } = of.for_class(class);
        NewForecast { version, stated: Stated::of(&prediction.forecast_with(&constants).with_layer(layer)) }
    };
    registry.find(registry.live()).into_iter().chain(shadows).map(forecast).collect()
}

/// Keeps forecasts. Where that fails the recommendation stands: a window is missing among the scores, and it is logged.
pub(crate) async fn keep(
    engine: &Engine,
    context: &CallContext,
    (service, window, start_ms): (&EntityId, TimeWindow, UnixMillis),
    forecasts: &[NewForecast],
) {
    // Models are compared on windows that begin as they are foretold: a calendar window is another one every day of a month.
    if forecasts.is_empty() || window.is_calendar() {
        return;
    }
    let window = Window { service_id: service.to_string(), days: window.days(), start_ms };
    if let Err(error) = engine.store.keep_forecasts(&context.tenant, &window, forecasts).await {
        tracing::warn!(service.id = %service, reason = %error, "forecasts of models could not be kept");
    }
}

/// Lists the models: the live one first, then shadows, then retired ones, each the newest first.
pub(crate) async fn list(engine: &Engine, context: &CallContext) -> Result<wire::ListModelsResponse, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    let mut models: Vec<(Use, &Registered)> =
        registry.models.iter().rev().map(|of| (used(&registry, of), of)).collect();
    models.sort_by_key(|(used, _)| *used);
    let retraining = engine.store.retraining(&context.tenant).await?;
    Ok(wire::ListModelsResponse {
        models: models.into_iter().map(|(used, of)| message::model(of, used)).collect(),
        retraining: retraining.map(|(fit_ms, outcome)| message::retraining(fit_ms, outcome)),
    })
}

/// How well a model predicts beside the live one.
pub(crate) async fn scores(
    engine: &Engine,
    context: &CallContext,
    version: &str,
) -> Result<wire::GetModelScoresResponse, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    let of = find(&registry, version)?;
    // Counted first: a window that closes in between is then among the scores, and not missing from both.
    let open_window_count = engine.store.open_windows(&context.tenant, version).await?;
    let comparison = compared(engine, context, version, registry.live()).await?;
    Ok(wire::GetModelScoresResponse {
        model: Some(message::model(of, used(&registry, of))),
        comparison: Some(message::comparison(&comparison, registry.live(), used(&registry, of) == Use::Shadow)),
        open_window_count,
    })
}

/// Registers constants as a shadow.
pub(crate) async fn register(
    engine: &Engine,
    context: &CallContext,
    request: wire::RegisterModelRequest,
) -> Result<wire::RegisterModelResponse, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    let parent = find(&registry, registry.live())?;
    let changes: BTreeMap<String, f64> = request.constants.into_iter().collect();
    let texts = checked_texts(&request.name, &request.note);
    let (constants, (name, note)) = match (altered(&parent.content.constants, &changes), texts) {
        (Ok(constants), Ok(texts)) => (constants, texts),
        (constants, texts) => {
            let faults = [constants.err(), texts.err()];
            return Err(Error::Invalid(faults.into_iter().flatten().flatten().collect()));
        }
    };
    let (caller, now_ms) = (context.caller.clone(), engine.clock.now_ms());
    let parent_version = parent.version.clone();
    // What it says of classes stays: it was learned on what is stated, and scores will tell whether it still fits.
    let content = Content { constants, classes: parent.content.classes.clone() };
    let new = registered(content, name, note, parent_version, caller, now_ms);
    if new.content_sha256 == registry.models[0].content_sha256 {
        let reason = "these are the compiled constants: roll back to that model instead";
        return Err(InvalidValue::new("constants", "compiled", reason).into());
    }
    let entry = entry(context, now_ms, "model.registered", &new.version, &[("content_sha256", &new.content_sha256)]);
    engine.store.register_model(&context.tenant, &new, entry).await?;
    // What was there already keeps its name and its use.
    let registry = engine.store.registry(&context.tenant).await?;
    let of = find(&registry, &new.version)?;
    Ok(wire::RegisterModelResponse { model: Some(message::model(of, used(&registry, of))) })
}

/// Makes a shadow the live model if its scores are better.
pub(crate) async fn promote(
    engine: &Engine,
    context: &CallContext,
    version: &str,
) -> Result<wire::PromoteModelResponse, Error> {
    let registry = engine.store.registry(&context.tenant).await?;
    let of = find(&registry, version)?;
    if used(&registry, of) != Use::Shadow {
        let lacking = vec!["only a shadow is promoted; an earlier live model comes back by a roll-back".to_owned()];
        return Err(Error::NotPromotable { version: version.to_owned(), lacking });
    }
    let live = registry.live();
    let comparison = compared(engine, context, version, live).await?;
    if !comparison.lacking.is_empty() {
        return Err(Error::NotPromotable { version: version.to_owned(), lacking: comparison.lacking });
    }
    let p_value = comparison.p_value.to_string();
    let entry =
        entry(context, engine.clock.now_ms(), "model.promoted", version, &[("before", live), ("p_value", &p_value)]);
    engine.store.make_live(&context.tenant, version, live, entry).await?;
    Ok(wire::PromoteModelResponse {
        model: Some(message::model(of, Use::Live)),
        comparison: Some(message::comparison(&comparison, live, true)),
    })
}

/// Makes an earlier model the live one again, whatever its scores.
pub(crate) async fn roll_back(
    engine: &Engine,
    context: &CallContext,
    request: wire::RollBackModelRequest,
) -> Result<wire::RollBackModelResponse, Error> {
    let reason = checked_reason(Action::Reject, &request.reason)?;
    let registry = engine.store.registry(&context.tenant).await?;
    let live = registry.live();
    let version = match request.version.as_str() {
        "" => registry.lives.iter().rev().map(String::as_str).find(|version| *version != live).unwrap_or(MODEL_VERSION),
        version => version,
    };
    let of = find(&registry, version)?;
    if !of_these_statistics(version) {
        let reason = format!(
            "`{version}` was registered for other statistics than {MODEL_VERSION}; register its constants anew"
        );
        return Err(InvalidValue::new("version", "other_statistics", reason).into());
    }
    if used(&registry, of) != Use::Retired {
        let reason = format!("`{version}` was never live before the present model; promote it instead");
        return Err(InvalidValue::new("version", "not_retired", reason).into());
    }
    let entry =
        entry(context, engine.clock.now_ms(), "model.rolled_back", version, &[("before", live), ("reason", &reason)]);
    engine.store.make_live(&context.tenant, version, live, entry).await?;
    Ok(wire::RollBackModelResponse { model: Some(message::model(of, Use::Live)) })
}

/// Closes windows that are over, a bounded number at a time.
pub(crate) async fn close(engine: &Engine) {
    let before_ms = engine.clock.now_ms() - SETTLE_MS;
    let over = match engine.store.windows_over(before_ms, CLOSED_MAX).await {
        Ok(over) => over,
        Err(error) => return tracing::warn!(reason = %error, "windows that are over could not be listed"),
    };
    for (tenant, window) in over {
        if let Err(error) = close_one(engine, &tenant, &window).await {
            tracing::debug!(service.id = window.service_id, reason = %error, "a window could not be closed; it is tried again");
            give_up(engine, &tenant, &window).await;
        }
    }
}

/// A window that could not be closed for a week counts as not measured: otherwise those that never can be would keep the others waiting.
async fn give_up(engine: &Engine, tenant: &TenantId, window: &Window) {
    if engine.clock.now_ms() - window.close_ms() < GIVEN_UP_MS {
        return;
    }
    if let Err(error) = engine.store.close_window(tenant, window, None).await {
        tracing::warn!(service.id = window.service_id, reason = %error, "a window could not be given up");
    }
}

async fn close_one(engine: &Engine, tenant: &TenantId, window: &Window) -> Result<(), Error> {
    let service = EntityId::new("service_id", &window.service_id)?;
    let context = CallContext::new(tenant.clone(), CALLER, engine.compute_timeout());
    let range = TimeRange::new("range", window.start_ms, window.close_ms())?;
    let bad_ratio = match counts_of(engine, &context, &service, range).await {
        Ok(input) => blocking(move || measured(&input)).await?,
        // Whoever is gone will not be measured any more.
        Err(Refusal::Unknown) => None,
        Err(refusal) => return Err(refusal.fatal("ingestion")),
    };
    engine.store.close_window(tenant, window, bad_ratio).await
}

/// Bad fraction of a window; `None` where too little of it was measured.
fn measured(input: &RecommendationInput) -> Option<f64> {
    let series = usable_counts(input);
    let days = (input.history.range.end_ms() - input.history.range.start_ms()) as f64 / DAY_MS as f64;
    let covered = series.points().len() as f64 * BUCKET_MS as f64 / DAY_MS as f64;
    let attained = series.attained_ratio().filter(|_| covered >= COVERAGE_MIN * days)?;
    Some((1.0 - attained).clamp(0.0, 1.0))
}

async fn compared(engine: &Engine, context: &CallContext, version: &str, live: &str) -> Result<Comparison, Error> {
    let closed = engine.store.closed_windows(&context.tenant, version, live).await?;
    let demands = Demands {
        windows_min: engine.config.promotion_windows_min,
        services_min: engine.config.promotion_services_min,
    };
    blocking(move || compare(&closed, demands)).await
}

fn find<'a>(registry: &'a Registry, version: &str) -> Result<&'a Registered, Error> {
    registry.find(version).ok_or_else(|| Error::UnknownModel(version.to_owned()))
}

fn used(registry: &Registry, of: &Registered) -> Use {
    let version = &of.version;
    if registry.live() == version {
        Use::Live
    } else if version == MODEL_VERSION || registry.lives.contains(version) || !of_these_statistics(version) {
        Use::Retired
    } else {
        Use::Shadow
    }
}

fn shadows(registry: &Registry) -> Vec<&Registered> {
    let (fitted, by_hand): (Vec<&Registered>, Vec<&Registered>) = registry
        .models
        .iter()
        .rev()
        .filter(|of| used(registry, of) == Use::Shadow)
        .partition(|of| of.created_by == CALLER);
    // Fits come every week: among themselves alone they would push out what a person registered before its first window closes.
    by_hand.into_iter().take(SHADOWS_MAX).chain(fitted.into_iter().take(SHADOWS_MAX)).collect()
}

fn entry(context: &CallContext, time_ms: UnixMillis, action: &str, version: &str, told: &[(&str, &str)]) -> Entry {
    let mut detail = serde_json::Map::new();
    detail.insert("version".to_owned(), version.into());
    detail.extend(told.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    Entry {
        time_ms,
        caller: context.caller.clone(),
        action: action.to_owned(),
        service_id: String::new(),
        detail_json: serde_json::Value::Object(detail).to_string(),
    }
}
