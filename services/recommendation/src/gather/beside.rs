//! Holds the offers of a service against the targets of what it depends on.

use std::collections::BTreeMap;
use std::time::Duration;

use attain_attainment::{
    Ambition, ConsistentTarget, Constants, FleetLimit, MissingInput, RecommendationResult, TARGET_MENU,
};
use attain_proto::graph::v1 as graph;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, SliKind, TimeWindow};
use futures::future::try_join_all;
use prost::Message as _;

use super::blocking;
use crate::Error;
use crate::domain::components::{Rate, rates};
use crate::domain::consistent::{Offered, Promises, bad_window_factor, consistent_target};
use crate::domain::flow::{Component, Edge};
use crate::engine::Engine;
use crate::fleet;
use crate::members::Refusal;
use crate::message::{slo, topology};

/// Longest wait for the graph engine: an offer is worth telling without it.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Everything that a service needs, with what is known of it.
pub(super) struct Surroundings<'a> {
    pub(super) service: &'a EntityId,
    pub(super) window: TimeWindow,
    pub(super) known: BTreeMap<EntityId, Component>,
    pub(super) edges: Vec<Edge>,
    pub(super) now_ms: i64,
    /// What the live model predicts with.
    pub(super) constants: Constants,
}

/// What each offer of availability becomes, none where nothing is promised below; and what is missing where that could not be
/// asked. Without a graph there is nothing below.
pub(super) async fn consistent_targets(
    engine: &Engine,
    context: &CallContext,
    around: Surroundings<'_>,
    draft: &RecommendationResult,
    graph_known: bool,
) -> Result<(Vec<ConsistentTarget>, Option<MissingInput>), Error> {
    let offers = draft.slis.iter().filter(|sli| sli.kind == SliKind::Availability).flat_map(|sli| &sli.offers);
    let offers: Vec<(Ambition, f64)> = offers.map(|offer| (offer.ambition, offer.target_ratio)).collect();
    let promises = if graph_known { promises(engine, context, &around).await? } else { Promises::default() };
    if offers.is_empty() || promises.is_empty() {
        return Ok((Vec::new(), None));
    }
    let service = around.service.clone();
    let rates = in_a_bad_window(around, &promises).await?;
    let held = offers.iter().map(|offer| held(engine, context, &service, *offer, &promises, &rates));
    let answer = tokio::time::timeout(WAIT_MAX.min(context.remaining() / 4), try_join_all(held)).await;
    let answer = answer.unwrap_or_else(|_| Err(Refusal::Unreachable("it did not answer in time".to_owned())));
    Ok(match answer {
        Ok(targets) => (targets, None),
        Err(refusal) => {
            let why = refusal.detail();
            let detail = format!("the offers could not be held against the targets of what is depended on ({why})");
            (Vec::new(), Some(MissingInput { name: "fleet".to_owned(), detail }))
        }
    })
}

/// What one target becomes beside what is promised below.
pub(super) async fn held_alone(
    engine: &Engine,
    context: &CallContext,
    around: Surroundings<'_>,
    target: (Ambition, f64),
) -> Result<ConsistentTarget, Error> {
    let promises = promises(engine, context, &around).await?;
    let service = around.service.clone();
    if promises.is_empty() {
        return Ok(consistent_target(target, target.1, Vec::new()));
    }
    let rates = in_a_bad_window(around, &promises).await?;
    let held = held(engine, context, &service, target, &promises, &rates);
    let answer = tokio::time::timeout(WAIT_MAX.min(context.remaining() / 2), held).await;
    answer.map_err(|_| Error::Deadline)?.map_err(|refusal| refusal.fatal("graph"))
}

/// SLOs in force of what is depended on, and the newest offers of what has none.
async fn promises(engine: &Engine, context: &CallContext, around: &Surroundings<'_>) -> Result<Promises, Error> {
    let others: Vec<&EntityId> = around.known.keys().filter(|id| *id != around.service).collect();
    let mut promises = Promises::default();
    for (id, target_ratio) in engine.store.targets_of(&context.tenant, SliKind::Availability, &others).await? {
        promises.in_force.insert(id, target_ratio);
    }
    let open: Vec<&EntityId> = others.into_iter().filter(|id| !promises.in_force.contains_key(*id)).collect();
    for (id, message) in engine.store.newest_messages(&context.tenant, &open, around.window).await? {
        let message = wire::Recommendation::decode(message.as_slice());
        let offered = message.map(|message| offered(&message)).unwrap_or_default();
        if !offered.is_empty() {
            promises.offered.insert(id, offered);
        }
    }
    Ok(promises)
}

/// What a recommendation offers, as far as it holds beside others; a template is nobody's promise.
fn offered(recommendation: &wire::Recommendation) -> Offered {
    let availability = |sli: &&wire::SliRecommendation| sli.kind() == vocabulary::SliKind::Availability;
    let offers = recommendation.slis.iter().filter(availability).flat_map(|sli| &sli.offers);
    let offers = offers.filter(|_| !recommendation.fallback);
    let holding = |offer: &&wire::Offer| offer.limited_by.is_none() || offer.consistent_target_ratio.is_some();
    let offer = |offer: &wire::Offer| {
        Some((slo::ambition_of(offer.ambition).ok()?, offer.consistent_target_ratio.unwrap_or(offer.target_ratio)))
    };
    offers.filter(holding).filter_map(offer).collect()
}

/// Own failures; those of the service and of whoever promises something as they are in a bad window.
async fn in_a_bad_window(around: Surroundings<'_>, promises: &Promises) -> Result<Vec<graph::ComponentRate>, Error> {
    let Surroundings { service, window, known, edges, now_ms, constants } = around;
    let (service, promises) = (service.clone(), promises.clone());
    blocking(move || {
        let promising =
            |id: &EntityId| *id == service || promises.in_force.contains_key(id) || promises.offered.contains_key(id);
        let worse = |rate: Rate| {
            let forecast = known.get(&rate.id).filter(|_| promising(&rate.id));
            let forecast = forecast.and_then(|component| fleet::forecast(&constants, component, window, now_ms));
            let factor = forecast.map_or(1.0, |forecast| bad_window_factor(&forecast));
            Rate { own_failure_ratio: (rate.own_failure_ratio * factor).min(1.0), ..rate }
        };
        topology::rates(&rates(&known, &edges).into_iter().map(worse).collect::<Vec<_>>())
    })
    .await
}

async fn held(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    offer: (Ambition, f64),
    promises: &Promises,
    rates: &[graph::ComponentRate],
) -> Result<ConsistentTarget, Refusal> {
    let target =
        |id: &EntityId, target_ratio, fixed| graph::TargetInForce { service_id: id.to_string(), target_ratio, fixed };
    let beside = promises.beside(offer.0);
    let others = beside.iter().map(|(id, ratio)| target(id, *ratio, true));
    let question = graph::SolveTargetsRequest {
        targets: others.chain([target(service, offer.1, false)]).collect(),
        rates: rates.to_vec(),
        menu_ratios: TARGET_MENU.to_vec(),
        repairs_max: 0,
        scope_ids: vec![service.to_string()],
    };
    let solved = engine.graph.solve(context, question).await?;
    let own = solved.targets.iter().find(|target| target.service_id == service.as_str());
    let contradictions = solved.contradictions.into_iter().filter(|found| found.service_id == service.as_str());
    let id = |text: &String| EntityId::new("service_id", text).ok();
    let limit = |found: graph::Contradiction| FleetLimit {
        callee: id(&found.callee_id),
        needed_ratio: found.needed_ratio,
        chain: found.chain.iter().filter_map(id).collect(),
    };
    let solved_ratio = own.map_or(offer.1, |own| own.target_ratio);
    Ok(consistent_target(offer, solved_ratio, contradictions.map(limit).collect()))
}
