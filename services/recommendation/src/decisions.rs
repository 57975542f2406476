//! What a person decides about a recommendation, and what that puts in force.

use attain_attainment::Ambition;
use attain_proto::convert;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind as WireKind;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, Objective, SliKind, TimeWindow};

use crate::Error;
use crate::approvals;
use crate::contradictions;
use crate::domain::lifecycle::Pending;
use crate::domain::slo::{
    Action, NewTarget, Slo, Verdict, ambition_word, checked_reason, checked_threshold, kind_word,
};
use crate::engine::Engine;
use crate::members::Refusal;
use crate::message::slo::{action_of, ambition_of};
use crate::message::window;
use crate::recommendations;
use crate::storage::{Decided, Terms};

/// What came of a decision.
#[derive(Debug)]
pub(crate) enum Came {
    /// It is made.
    Decided(Box<Decided>),
    /// It waits for somebody else; what is in force stays.
    Pending(Box<Pending>, Option<Slo>),
}

/// Checks the decision against the recommendation that it names, then writes it, or lets it wait for an approval.
pub(crate) async fn decide_slo(
    engine: &Engine,
    context: &CallContext,
    request: wire::DecideSloRequest,
) -> Result<Came, Error> {
    let asked = Asked::read(&request)?;
    let (recommendation, target) = match asked.action {
        Action::Declare => {
            known(engine, context, &asked.service).await?;
            (None, Some(declared(&request, &asked)?))
        }
        Action::Accept | Action::Modify | Action::Reject => {
            let recommendation = recommendations::one(engine, context, &request.recommendation_id).await?;
            if asked.action != Action::Reject {
                approvals::acceptable(engine, context, &request.recommendation_id).await?;
            }
            let target = against(&recommendation, &request, &asked)?;
            (Some(recommendation), target)
        }
    };
    let mut verdict = Verdict {
        action: asked.action,
        service: asked.service,
        recommendation_id: request.recommendation_id,
        kind: asked.kind,
        ambition: (asked.action == Action::Accept).then_some(asked.ambition),
        target,
        reason: asked.reason,
        decided_by: context.caller.clone(),
        time_ms: engine.clock.now_ms(),
        version_match: request.version_match,
        contradiction: None,
    };
    if let Some(recommendation) = &recommendation {
        let reason = &request.contradiction_reason;
        verdict.contradiction = contradictions::taken(engine, context, recommendation, &verdict, reason).await?;
    }
    if verdict.target.is_none() {
        return Ok(Came::Decided(Box::new(engine.store.decide(&context.tenant, verdict, &Terms::default()).await?)));
    }
    approvals::decide_or_propose(engine, context, verdict).await
}

/// The request, each field checked by itself.
struct Asked {
    service: EntityId,
    action: Action,
    kind: SliKind,
    ambition: Ambition,
    reason: String,
}

impl Asked {
    fn read(request: &wire::DecideSloRequest) -> Result<Self, Error> {
        let mut faults = Vec::new();
        let service = EntityId::new("service_id", &request.service_id).map_err(|fault| faults.push(fault)).ok();
        let action = action_of(request.action).map_err(|fault| faults.push(fault)).ok();
        let kind = convert::word::<WireKind, SliKind>("kind", request.kind).map_err(|fault| faults.push(fault)).ok();
        let ambition = ambition_of(request.ambition).map_err(|fault| faults.push(fault)).ok();
        let reason =
            action.and_then(|action| checked_reason(action, &request.reason).map_err(|fault| faults.push(fault)).ok());
        if let Some(fault) = action.and_then(|action| misplaced_recommendation(action, &request.recommendation_id)) {
            faults.push(fault);
        }
        faults
            .extend(action.and_then(|action| contradictions::misplaced_reason(action, &request.contradiction_reason)));
        match (service, action, kind, ambition, reason) {
            (Some(service), Some(action), Some(kind), Some(ambition), Some(reason)) if faults.is_empty() => {
                Ok(Self { service, action, kind: kind.unwrap_or(SliKind::Availability), ambition, reason })
            }
            _ => Err(Error::Invalid(faults)),
        }
    }
}

fn misplaced_recommendation(action: Action, id: &str) -> Option<InvalidValue> {
    let field = "recommendation_id";
    match (action == Action::Declare, id.is_empty()) {
        (true, false) => Some(InvalidValue::new(
            field,
            "not_allowed",
            "a declared SLO follows no recommendation; accept or modify one instead",
        )),
        (false, true) => {
            Some(InvalidValue::new(field, "required", "name exactly the recommendation that was decided upon"))
        }
        (true, true) | (false, false) => None,
    }
}

async fn known(engine: &Engine, context: &CallContext, service: &EntityId) -> Result<(), Error> {
    match engine.ingestion.entity(context, service).await {
        Ok(_) => Ok(()),
        Err(Refusal::Unknown) => Err(Error::UnknownService(service.to_string())),
        Err(other) => Err(other.fatal("ingestion")),
    }
}

fn declared(request: &wire::DecideSloRequest, asked: &Asked) -> Result<NewTarget, Error> {
    let window = window::asked(request.window_days, request.calendar_window)?;
    own_target(request, asked.kind, window)
}

/// A target of the person's own.
fn own_target(request: &wire::DecideSloRequest, kind: SliKind, window: TimeWindow) -> Result<NewTarget, Error> {
    let field = "target_ratio";
    let ratio = request
        .target_ratio
        .ok_or_else(|| InvalidValue::new(field, "required", "say the target as a fraction, for example 0.999"))?;
    let target = Objective::new(field, ratio)?;
    let latency_threshold_ms = checked_threshold(kind, request.latency_threshold_ms)?;
    Ok(NewTarget { target, latency_threshold_ms, window, as_recommended: false })
}

/// Holds the decision against the recommendation; `None` where nothing new comes into force.
fn against(
    recommendation: &wire::Recommendation,
    request: &wire::DecideSloRequest,
    asked: &Asked,
) -> Result<Option<NewTarget>, Error> {
    if recommendation.service_id != asked.service.as_str() {
        let reason = format!("{} is a recommendation for {}", recommendation.id, recommendation.service_id);
        return Err(InvalidValue::new("recommendation_id", "other_service", reason).into());
    }
    let window = window::of(recommendation)?;
    let named = window::asked(request.window_days, request.calendar_window)?;
    if (request.window_days, request.calendar_window) != (0, 0) && named != window {
        let reason = format!("the recommendation is for the window {window}; ask for one for {named}");
        return Err(InvalidValue::new("window_days", "other_window", reason).into());
    }
    let number = WireKind::from(asked.kind) as i32;
    let sli = recommendation.slis.iter().find(|sli| sli.kind == number).ok_or_else(|| {
        InvalidValue::new(
            "kind",
            "not_recommended",
            format!("{} says nothing of {}", recommendation.id, kind_word(asked.kind)),
        )
    })?;
    match asked.action {
        Action::Accept => offered(recommendation, sli, request, asked, window).map(Some),
        Action::Modify => own_target(request, asked.kind, window).map(Some),
        Action::Reject | Action::Declare => Ok(None),
    }
}

/// Exactly the offer, to the last bit.
fn offered(
    recommendation: &wire::Recommendation,
    sli: &wire::SliRecommendation,
    request: &wire::DecideSloRequest,
    asked: &Asked,
    window: TimeWindow,
) -> Result<NewTarget, Error> {
    for (field, given) in [
        ("target_ratio", request.target_ratio.is_some()),
        ("latency_threshold_ms", request.latency_threshold_ms.is_some()),
    ] {
        if given {
            return Err(InvalidValue::new(
                field,
                "not_allowed",
                "accept takes the offer as it is; use modify for another",
            )
            .into());
        }
    }
    let number = crate::message::slo::ambition(asked.ambition) as i32;
    let offer = sli.offers.iter().find(|offer| offer.ambition == number).ok_or_else(|| {
        let reason = format!(
            "{} has no {} offer for {}",
            recommendation.id,
            ambition_word(asked.ambition),
            kind_word(asked.kind)
        );
        InvalidValue::new("ambition", "not_offered", reason)
    })?;
    let target = Objective::new("target_ratio", offer.target_ratio)?;
    let latency_threshold_ms = Some(offer.latency_threshold_ms).filter(|threshold| *threshold > 0);
    Ok(NewTarget { target, latency_threshold_ms, window, as_recommended: true })
}
