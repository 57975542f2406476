//! What the structure allows, today and after each change that would help most.

use std::collections::BTreeMap;

use attain_attainment::{CounterfactualStructure, Importance, MissingInput, Reach, StructureFacts, percent};
use attain_proto::convert::duration_millis;
use attain_proto::graph::v1 as graph;
use attain_runtime::context::CallContext;
use attain_vocabulary::{DependencyMode, EntityId};
use futures::future::join_all;

use crate::domain::components::rates;
use crate::domain::flow::{Component, Edge, EdgeFlow, Flows};
use crate::domain::kept::{EdgeChange, SnapshotSize};
use crate::engine::Engine;
use crate::members::Closure;
use crate::message::topology;

/// Share of failed calls that the fallbacks of counterfactuals save: what a cache or a second provider typically keeps.
const FALLBACK_SUCCESS_RATIO: f64 = 0.9;
/// Most edges that a counterfactual is solved for.
const EDGES_MAX: usize = 3;
/// The age of a snapshot is told in whole minutes, so that two looks at the same data agree.
const AGE_STEP_MS: i64 = 60_000;

/// What the graph engine said.
#[derive(Debug, Default)]
pub(super) struct Structure {
    pub(super) facts: Option<StructureFacts>,
    pub(super) counterfactuals: Vec<CounterfactualStructure>,
    pub(super) changes: BTreeMap<String, EdgeChange>,
    pub(super) size: Option<SnapshotSize>,
}

/// Evaluates the present state and each change, all at once.
pub(super) async fn ask(
    engine: &Engine,
    context: &CallContext,
    service: &EntityId,
    closure: &Closure,
    known: &BTreeMap<EntityId, Component>,
    missing: &mut Vec<MissingInput>,
) -> Structure {
    let rates = topology::rates(&rates(known, &closure.edges));
    let (mut counterfactuals, changes) = counterfactuals(service, closure, known);
    let services = std::slice::from_ref(service);
    let scenarios = counterfactuals.iter().filter_map(|change| changes.get(&change.key)).map(topology::scenario);
    let evaluations = std::iter::once(Vec::new())
        .chain(scenarios.map(|change| vec![change]))
        .map(|changes| engine.graph.evaluate(context, services, &rates, changes, None));
    let mut answers = join_all(evaluations).await.into_iter();
    let present = match answers.next() {
        Some(Ok(present)) => present,
        Some(Err(refusal)) => {
            let detail = format!("the structure could not be evaluated ({}): no ceiling", refusal.detail());
            missing.push(MissingInput { name: "graph".to_owned(), detail });
            return Structure { counterfactuals, changes, ..Structure::default() };
        }
        None => return Structure::default(),
    };
    for (change, answer) in counterfactuals.iter_mut().zip(answers) {
        let services = answer.ok().map(|answer| answer.services).unwrap_or_default();
        change.ceiling_after_ratio =
            services.first().and_then(|service| service.after.as_ref()).map(|after| after.availability_ratio);
    }
    let snapshot = present.snapshot.as_ref();
    let size =
        snapshot.map(|info| SnapshotSize { entity_count: info.entity_count, dependency_count: info.dependency_count });
    Structure { facts: facts(&present), counterfactuals, changes, size }
}

fn facts(response: &graph::EvaluateAvailabilityResponse) -> Option<StructureFacts> {
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
    })
}

/// A fallback on each of the edges by which most failures arrive.
fn counterfactuals(
    service: &EntityId,
    closure: &Closure,
    known: &BTreeMap<EntityId, Component>,
) -> (Vec<CounterfactualStructure>, BTreeMap<String, EdgeChange>) {
    let flows = Flows::new(service, known, &closure.edges);
    let mut changes = BTreeMap::new();
    let mut structures = Vec::new();
    let calls = |edge: &Edge| !closure.facts.get(&edge.caller).is_some_and(|facts| facts.kind.is_composite());
    let candidates = flows.edges().into_iter().filter_map(|flow| {
        // An API or a system calls nobody: there is no code of its own that could fall back.
        let edge = Some(&closure.edges[flow.edge]).filter(|edge| calls(edge))?;
        Some((flow, saved_by_fallback(edge)?))
    });
    for (flow, saved_ratio) in candidates.take(EDGES_MAX) {
        let edge = &closure.edges[flow.edge];
        let key = format!("fallback:{}:{}", edge.caller, edge.callee);
        changes.insert(
            key.clone(),
            topology::with_fallback(edge, &closure.dependencies[flow.edge], FALLBACK_SUCCESS_RATIO),
        );
        structures.push(CounterfactualStructure {
            description: format!(
                "a fallback in {} that saves {} of the failed calls to {}",
                edge.caller,
                percent(FALLBACK_SUCCESS_RATIO),
                edge.callee
            ),
            key,
            ceiling_after_ratio: None,
            caller: edge.caller.clone(),
            callee: edge.callee.clone(),
            saved_ratio,
            reach: reach(&flows, flow),
        });
    }
    (structures, changes)
}

/// Share of the failures that get through today which the fallback would save; `None` where one as good is there already.
fn saved_by_fallback(edge: &Edge) -> Option<f64> {
    let today = match edge.mode {
        DependencyMode::Hard => 0.0,
        // A fallback of unknown worth cannot be compared with another.
        DependencyMode::Soft => edge.fallback_success_ratio?,
        DependencyMode::Async => return None,
    };
    (today < FALLBACK_SUCCESS_RATIO).then(|| 1.0 - (1.0 - FALLBACK_SUCCESS_RATIO) / (1.0 - today))
}

fn reach(flows: &Flows<'_>, flow: EdgeFlow) -> Reach {
    match flow.through {
        None => Reach::Direct,
        Some(dependency) => {
            let share = flows.share_series(&dependency, flow.edge);
            Reach::Through { dependency, share }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_only_worth_what_it_saves_beyond_the_one_there_is() {
        let id = |text: &str| EntityId::new("id", text).expect("valid");
        let edge = |mode, fallback_success_ratio| Edge {
            caller: id("a"),
            callee: id("b"),
            mode,
            call_fraction: None,
            fallback_success_ratio,
        };
        let saved = |mode, ratio| saved_by_fallback(&edge(mode, ratio)).map(|saved| (saved * 1e9).round() / 1e9);
        assert_eq!(saved(DependencyMode::Hard, None), Some(0.9));
        assert_eq!(saved(DependencyMode::Soft, Some(0.5)), Some(0.8));
        assert_eq!(saved(DependencyMode::Soft, Some(0.95)), None);
        assert_eq!(saved(DependencyMode::Soft, None), None);
        assert_eq!(saved(DependencyMode::Async, None), None);
    }
}
