//! Experiments: begun, stopped and read; and which arm a service is in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::Model;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};

use crate::Error;
use crate::domain::audit::Entry;
use crate::domain::calibration::Class;
use crate::domain::experiments::{
    Arm, Assigned, Experiment, Plan, Stop, UnitKind, arm_result, conclude, connected, horizon, team,
};
use crate::domain::kept::sha256_hex;
use crate::domain::models::checked_texts;
use crate::domain::slo::checked_note;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::message::experiments as message;
use crate::models;
use crate::page;
use crate::storage::NewExposure;

/// The arm that a service is in now; `None` where no experiment runs, or the service takes no part.
pub(crate) async fn assigned(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    owner: &str,
) -> Result<Option<Assigned>, Error> {
    match engine.store.running_experiment(&context.tenant, engine.clock.now_ms()).await? {
        Some(plan) => of_plan(engine, context, &plan, service, owner).await,
        None => Ok(None),
    }
}

/// The same where the newest plan that nobody stopped was read already.
pub(crate) async fn of_plan(
    engine: &Engine,
    context: &CallContext,
    plan: &Plan,
    service: &EntityId,
    owner: &str,
) -> Result<Option<Assigned>, Error> {
    if !plan.lasts(engine.clock.now_ms()) {
        return Ok(None);
    }
    let unit = match plan.unit {
        UnitKind::Team => Some(team(service.as_str(), owner)),
        UnitKind::Component => engine.store.experiment_unit(&context.tenant, &plan.id, service).await?,
    };
    Ok(unit.map(|unit| plan.assigned(unit)))
}

/// The model to recommend with: the arm's, else the live one; `None` for the compiled one.
pub(crate) async fn model(
    engine: &Engine,
    context: &CallContext,
    assigned: Option<&Assigned>,
    class: Class,
) -> Result<Option<Model>, Error> {
    match assigned {
        Some(assigned) => models::of_version(engine, context, &assigned.arm.model_version, class).await,
        None => models::live(engine, context, class).await,
    }
}

/// What is noted of a recommendation that was made in an arm.
pub(crate) fn exposure(assigned: Option<&Assigned>, message: &wire::Recommendation) -> Option<NewExposure> {
    Some(NewExposure { assigned: assigned?.clone(), suggested: message::suggested_availability(message) })
}

/// Begins one.
pub(crate) async fn start(
    engine: &Arc<Engine>,
    context: &CallContext,
    request: wire::StartExperimentRequest,
) -> Result<wire::StartExperimentResponse, Error> {
    let now_ms = engine.clock.now_ms();
    let plan = asked(context, &request, now_ms)?;
    let plan = with_models(engine, context, plan).await?;
    let (plan, units) = drawn(engine, context, plan).await?;
    let detail = serde_json::to_string(&plan).map_err(|error| Error::Broken(error.to_string()))?;
    let entry = entry(context, now_ms, "experiment.started", detail);
    let sequence = engine.store.start_experiment(&context.tenant, &plan, &units, entry).await?;
    let experiment = Experiment { sequence, plan, stop: None };
    Ok(wire::StartExperimentResponse { experiment: Some(message::experiment(&experiment, now_ms)) })
}

/// Ends one before its horizon.
pub(crate) async fn stop(
    engine: &Engine,
    context: &CallContext,
    request: wire::StopExperimentRequest,
) -> Result<wire::StopExperimentResponse, Error> {
    let reason = checked_note(&request.reason, true)?;
    let experiment = find(engine, context, &request.experiment_id).await?;
    let id = &experiment.plan.id;
    let stop = Stop { time_ms: engine.clock.now_ms(), by: context.caller.clone(), reason };
    let detail = serde_json::json!({"experiment_id": id, "reason": stop.reason});
    let entry = entry(context, stop.time_ms, "experiment.stopped", detail.to_string());
    if !engine.store.stop_experiment(&context.tenant, id, &stop, entry).await? {
        return Err(Error::ExperimentOver(id.clone()));
    }
    let stopped = Experiment { stop: Some(stop), ..experiment };
    let message = message::experiment(&stopped, engine.clock.now_ms());
    Ok(wire::StopExperimentResponse { experiment: Some(message) })
}

/// Lists them, the newest first.
pub(crate) async fn list(
    engine: &Engine,
    context: &CallContext,
    request: &wire::ListExperimentsRequest,
) -> Result<wire::ListExperimentsResponse, Error> {
    let (size, before) = (page::page_size(request.page_size)?, page::position(&request.page_token)?);
    let mut page = engine.store.experiments(&context.tenant, before, size + 1).await?;
    let next_page_token = page::next_token(&mut page, size, |experiment| experiment.sequence);
    let now_ms = engine.clock.now_ms();
    let experiments = page.iter().map(|experiment| message::experiment(experiment, now_ms)).collect();
    Ok(wire::ListExperimentsResponse { experiments, next_page_token })
}

/// Tells how one stands.
pub(crate) async fn standing(
    engine: &Engine,
    context: &CallContext,
    id: &str,
) -> Result<wire::GetExperimentResponse, Error> {
    let experiment = find(engine, context, id).await?;
    let (units, open) = engine.store.lived(&context.tenant, &experiment.plan).await?;
    let now_ms = engine.clock.now_ms();
    blocking(move || {
        let conclusion = conclude(&experiment, &units, open, now_ms);
        let arms = attain_learning::Side::ALL.map(|side| message::arm_result(side, &arm_result(&units, side)));
        wire::GetExperimentResponse {
            experiment: Some(message::experiment(&experiment, now_ms)),
            arms: arms.to_vec(),
            open_window_count: open,
            verdict: Some(message::verdict(&experiment.plan, &conclusion)),
        }
    })
    .await
}

/// What was asked for, checked as far as it can be without looking anything up.
fn asked(context: &CallContext, request: &wire::StartExperimentRequest, now_ms: UnixMillis) -> Result<Plan, Error> {
    let texts = checked_texts(&request.name, &request.note);
    let unit = message::unit_kind(request.unit);
    let metric = message::metric(request.metric);
    let control = message::arm(request.control.as_ref(), "control");
    let treatment = message::arm(request.treatment.as_ref(), "treatment");
    let horizon = horizon(now_ms, request.duration_days);
    match (texts, unit, metric, control, treatment, horizon) {
        (Ok((name, note)), Ok(unit), Ok(metric), Ok(control), Ok(treatment), Ok(horizon_ms)) => {
            let started_by = context.caller.clone();
            let named = format!("experiment\n{}\n{name}\n{now_ms}\n{started_by}", context.tenant);
            let id = format!("exp-{}", &sha256_hex(named.as_bytes())[..20]);
            let salt = String::new();
            let start_ms = now_ms;
            Ok(Plan { id, name, note, unit, control, treatment, metric, start_ms, horizon_ms, started_by, salt })
        }
        (texts, unit, metric, control, treatment, horizon) => {
            let others = [unit.err(), metric.err(), control.err(), treatment.err(), horizon.err()];
            Err(Error::Invalid(texts.err().into_iter().flatten().chain(others.into_iter().flatten()).collect()))
        }
    }
}

/// The plan with the versions of its models. An experiment is no way around the scores: a shadow takes part once it could be promoted.
async fn with_models(engine: &Engine, context: &CallContext, plan: Plan) -> Result<Plan, Error> {
    let control = models::usable(engine, context, &plan.control.model_version).await?;
    let treatment = models::usable(engine, context, &plan.treatment.model_version).await?;
    let plan = Plan {
        control: Arm { model_version: control, ..plan.control },
        treatment: Arm { model_version: treatment, ..plan.treatment },
        ..plan
    };
    if plan.control == plan.treatment {
        let reason = "both arms are the same: name another model, or an ambition";
        return Err(InvalidValue::new("treatment", "same_as_control", reason).into());
    }
    Ok(plan)
}

/// The plan with a salt, and the component of each service where components are drawn.
async fn drawn(
    engine: &Arc<Engine>,
    context: &CallContext,
    plan: Plan,
) -> Result<(Plan, BTreeMap<EntityId, String>), Error> {
    let components = match plan.unit {
        UnitKind::Team => BTreeMap::new(),
        UnitKind::Component => {
            let topology = engine.ingestion.topology(context).await.map_err(|refusal| refusal.fatal("ingestion"))?;
            let edges = topology.edges.iter().map(|edge| (&edge.caller, &edge.callee));
            connected(topology.facts.keys(), edges)
        }
    };
    let units: BTreeSet<String> = match plan.unit {
        UnitKind::Team => engine.store.teams(&context.tenant).await?,
        UnitKind::Component => components.values().cloned().collect(),
    };
    Ok((plan.salted(&units)?, components))
}

async fn find(engine: &Engine, context: &CallContext, id: &str) -> Result<Experiment, Error> {
    let found = engine.store.experiment(&context.tenant, id).await?;
    found.ok_or_else(|| Error::UnknownExperiment(id.to_owned()))
}

fn entry(context: &CallContext, time_ms: UnixMillis, action: &str, detail_json: String) -> Entry {
    let (caller, action) = (context.caller.clone(), action.to_owned());
    Entry { time_ms, caller, action, service_id: String::new(), detail_json }
}
