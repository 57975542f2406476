//! What the structure allows, today and after each change that would help most.

use std::collections::BTreeMap;
use std::time::Duration;

use attain_attainment::{
    CounterfactualStructure, Doubt, Importance, LATENCY_MENU_MS, MissingInput, SlowRequests, StructureFacts,
};
use attain_proto::convert::duration_millis;
use attain_proto::graph::v1 as graph;
use attain_runtime::context::CallContext;
use attain_vocabulary::EntityId;
use futures::future::join_all;

use crate::domain::components::rates;
use crate::domain::doubt::{CONFIDENCE_MIN, doubtful_edges, with_unknown_failing};
use crate::domain::fallbacks::{FALLBACK_SUCCESS_RATIO, Fallback, fallbacks};
use crate::domain::flow::Component;
use crate::domain::kept::{EdgeChange, SnapshotSize};
use crate::engine::Engine;
use crate::members::Closure;
use crate::message::topology;

/// The age of a snapshot is told in whole minutes, so that two looks at the same data agree.
const AGE_STEP_MS: i64 = 60_000;
/// Longest wait for sampled requests: they name who makes requests slow, and no offer rests on them.
const SAMPLES_WAIT_MAX: Duration = Duration::from_secs(2);

/// What the graph engine said.
#[derive(Debug, Default)]
pub(super) struct Structure {
    pub(super) facts: Option<StructureFacts>,
    pub(super) counterfactuals: Vec<CounterfactualStructure>,
    pub(super) changes: BTreeMap<String, EdgeChange>,
    pub(super) size: Option<SnapshotSize>,
}

/// Evaluates the present state and each change, and asks who makes requests slow where latencies are known, all at once.
pub(super) async fn ask(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    closure: &Closure,
    known: &BTreeMap<EntityId, Component>,
    tells_latency: bool,
    missing: &mut Vec<MissingInput>,
) -> Structure {
    let own = rates(known, &closure.edges);
    let unknown = with_unknown_failing(&own, &closure.facts, known);
    let rates = topology::rates(&own);
    let (mut counterfactuals, changes) = counterfactuals(service, closure, known);
    let services = std::slice::from_ref(service);
    let scenarios = counterfactuals.iter().filter_map(|change| changes.get(&change.key)).map(topology::scenario);
    let after = scenarios.map(|change| engine.graph.evaluate(context, services, &rates, vec![change], None));
    let with_unknown = async {
        let (failing, rates) = unknown?;
        let answer = engine.graph.evaluate(context, services, &topology::rates(&rates), Vec::new(), None).await;
        let ceiling = answer.ok()?.services.first()?.before.as_ref()?.availability_ratio;
        Some((failing, ceiling))
    };
    let present = engine.graph.evaluate(context, services, &rates, Vec::new(), Some(CONFIDENCE_MIN));
    let slow = slow_requests(engine, context, service, tells_latency);
    let (present, with_unknown, answers, slow) = futures::join!(present, with_unknown, join_all(after), slow);
    let present = match present {
        Ok(present) => present,
        Err(refusal) => {
            let detail = format!("the structure could not be evaluated ({}): no ceiling", refusal.detail());
            missing.push(MissingInput { name: "graph".to_owned(), detail });
            return Structure { counterfactuals, changes, ..Structure::default() };
        }
    };
    for (change, answer) in counterfactuals.iter_mut().zip(answers) {
        let services = answer.ok().map(|answer| answer.services).unwrap_or_default();
        change.ceiling_after_ratio =
            services.first().and_then(|service| service.after.as_ref()).map(|after| after.availability_ratio);
    }
    let edges = doubtful_edges(&closure.edges, &closure.confidences);
    let without = present.services.first().and_then(|service| service.without_doubtful_before_ratio);
    let doubt = Doubt {
        ceiling_without_edges_ratio: without.filter(|_| !edges.is_empty()),
        edges,
        unknown_failure_ratio: with_unknown.map(|(failing, _)| failing),
        ceiling_with_unknown_ratio: with_unknown.map(|(_, ceiling)| ceiling),
    };
    let snapshot = present.snapshot.as_ref();
    let size =
        snapshot.map(|info| SnapshotSize { entity_count: info.entity_count, dependency_count: info.dependency_count });
    let facts = facts(&present, doubt).map(|facts| StructureFacts { slow_requests: slow, ..facts });
    Structure { facts, counterfactuals, changes, size }
}

/// Who makes requests slow. Without an answer in time everything slow is listed as the service's own.
async fn slow_requests(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    tells_latency: bool,
) -> Option<SlowRequests> {
    if !tells_latency {
        return None;
    }
    let sampled = engine.graph.sampled(context, service, &LATENCY_MENU_MS);
    match tokio::time::timeout(SAMPLES_WAIT_MAX.min(context.remaining() / 4), sampled).await {
        Ok(Ok(sampled)) => sampled.as_ref().map(topology::slow_requests),
        Ok(Err(refusal)) => {
            tracing::warn!(%service, why = %refusal.detail(), "nobody says who makes requests slow");
            None
        }
        Err(_) => {
            tracing::warn!(%service, "sampled requests did not come in time: nobody says who makes requests slow");
            None
        }
    }
}

pub(super) fn facts(response: &graph::EvaluateAvailabilityResponse, doubt: Doubt) -> Option<StructureFacts> {
    let availability = response.services.first()?.before.as_ref()?;
    let id = |text: &str| EntityId::new("entity_id", text).ok();
    let importance = |importance: &graph::Importance| {
        let entity_id = id(&importance.entity_id)?;
        Some(Importance { entity_id, birnbaum: importance.birnbaum, contribution_ratio: importance.contribution_ratio })
    };
    let snapshot = response.snapshot.as_ref();
    let age_ms = snapshot.and_then(|info| info.age.as_ref()).map_or(0, duration_millis);
    Some(StructureFacts {
        ceiling_ratio: availability.availability_ratio,
        exact: availability.method() == graph::EvaluationMethod::Exact,
        importances: availability.importances.iter().filter_map(importance).collect(),
        assumed_perfect_ids: response.assumed_perfect_ids.iter().filter_map(|text| id(text)).collect(),
        snapshot_version: snapshot.map_or(0, |info| info.version),
        snapshot_age_ms: age_ms - age_ms.rem_euclid(AGE_STEP_MS),
        doubt,
        consistent_targets: Vec::new(),
        slow_requests: None,
    })
}

/// Fallbacks, with the edge that each puts in place of the one there is.
fn counterfactuals(
    service: &EntityId,
    closure: &Closure,
    known: &BTreeMap<EntityId, Component>,
) -> (Vec<CounterfactualStructure>, BTreeMap<String, EdgeChange>) {
    let found = fallbacks(service, &closure.facts, &closure.edges, known);
    let change = |fallback: &Fallback| {
        let (edge, dependency) = (&closure.edges[fallback.edge], &closure.dependencies[fallback.edge]);
        (fallback.structure.key.clone(), topology::with_fallback(edge, dependency, FALLBACK_SUCCESS_RATIO))
    };
    let changes = found.iter().map(change).collect();
    (found.into_iter().map(|fallback| fallback.structure).collect(), changes)
}
