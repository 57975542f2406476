//! Fallbacks that would help most: one on each of the edges by which most failures reach a service.

use std::collections::BTreeMap;

use attain_attainment::{CounterfactualStructure, Reach, percent};
use attain_vocabulary::{DependencyMode, EntityId};

use super::components::Facts;
use super::flow::{Component, Edge, EdgeFlow, Flows};

/// Share of failed calls that the fallbacks of counterfactuals save: what a cache or a second provider typically keeps.
pub const FALLBACK_SUCCESS_RATIO: f64 = 0.9;
/// Most edges that a counterfactual is solved for.
const EDGES_MAX: usize = 3;
/// Most direct dependencies by which the failures of an edge are followed; each is kept with its share bucket by bucket.
const REACHES_MAX: usize = 4;

/// A fallback to solve again with.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Position of its edge.
    pub edge: usize,
    /// What it changes; the ceiling after it is not known yet.
    pub structure: CounterfactualStructure,
}

/// The fallbacks, the one on the edge that brings most failures first; at most three.
#[must_use]
pub fn fallbacks(
    service: &EntityId,
    facts: &BTreeMap<EntityId, Facts>,
    edges: &[Edge],
    known: &BTreeMap<EntityId, Component>,
) -> Vec<Fallback> {
    let flows = Flows::new(service, known, edges);
    let calls = |edge: &Edge| !facts.get(&edge.caller).is_some_and(|facts| facts.kind.is_composite());
    let candidates = flows.edges().into_iter().filter_map(|flow| {
        // An API or a system calls nobody: there is no code of its own that could fall back.
        let edge = Some(&edges[flow.edge]).filter(|edge| calls(edge))?;
        Some((flow, saved_by_fallback(edge)?))
    });
    let fallback = |(flow, saved_ratio): (EdgeFlow, f64)| {
        let edge = &edges[flow.edge];
        let (reach, other_reaches) = reaches(&flows, &flow);
        let structure = CounterfactualStructure {
            description: format!(
                "a fallback in {} that saves {} of the failed calls to {}",
                edge.caller,
                percent(FALLBACK_SUCCESS_RATIO),
                edge.callee
            ),
            key: format!("fallback:{}:{}", edge.caller, edge.callee),
            ceiling_after_ratio: None,
            caller: edge.caller.clone(),
            callee: edge.callee.clone(),
            saved_ratio,
            reach,
            other_reaches,
        };
        Fallback { edge: flow.edge, structure }
    };
    candidates.take(EDGES_MAX).map(fallback).collect()
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

/// The way that brings most, and the others.
fn reaches(flows: &Flows<'_>, flow: &EdgeFlow) -> (Reach, Vec<Reach>) {
    let through = |dependency: &EntityId| {
        let share = flows.share_series(dependency, flow.edge);
        Reach::Through { dependency: dependency.clone(), share }
    };
    let mut ways = flow.through.iter().take(REACHES_MAX).map(through);
    (ways.next().unwrap_or(Reach::Direct), ways.collect())
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
