//! What would be otherwise if the graph were wrong.

use std::collections::BTreeMap;

use attain_attainment::DoubtfulEdge;
use attain_vocabulary::{DependencyMode, EntityId};

use super::components::{Facts, Rate};
use super::flow::{Component, Edge};

/// Below this confidence an edge is doubtful: it is as likely not to be there.
pub const CONFIDENCE_MIN: f64 = 0.5;
/// Most doubtful edges that are kept with a recommendation.
const EDGES_MAX: usize = 20;
/// Confidence is told in steps, so that two looks at the same data agree though the data has grown older.
const CONFIDENCE_STEP: f64 = 0.01;

/// Edges on the request path that may not be there, the least sure first; `confidences` in the order of the edges, none where
/// they are not told.
#[must_use]
pub fn doubtful_edges(edges: &[Edge], confidences: &[f64]) -> Vec<DoubtfulEdge> {
    let doubtful =
        |(edge, confidence): &(&Edge, &f64)| edge.mode != DependencyMode::Async && **confidence < CONFIDENCE_MIN;
    let mut found: Vec<DoubtfulEdge> = edges
        .iter()
        .zip(confidences)
        .filter(doubtful)
        .map(|(edge, confidence)| DoubtfulEdge {
            caller: edge.caller.clone(),
            callee: edge.callee.clone(),
            confidence: (confidence / CONFIDENCE_STEP).round() * CONFIDENCE_STEP,
        })
        .collect();
    found.sort_by(|a, b| {
        let name = |edge: &DoubtfulEdge| (edge.caller.clone(), edge.callee.clone());
        a.confidence.total_cmp(&b.confidence).then_with(|| name(a).cmp(&name(b)))
    });
    found.truncate(EDGES_MAX);
    found
}

/// Rates in which components without data fail as much as the median of those that were measured, of their own; and how much
/// that is. `None` where every component has a rate, or none was measured.
#[must_use]
pub fn with_unknown_failing(
    rates: &[Rate],
    facts: &BTreeMap<EntityId, Facts>,
    known: &BTreeMap<EntityId, Component>,
) -> Option<(f64, Vec<Rate>)> {
    let rated = |id: &EntityId| rates.iter().any(|rate| rate.id == *id);
    let unknown = facts.iter().filter(|(id, facts)| !facts.kind.is_composite() && !rated(id)).map(|(id, _)| id);
    let unknown: Vec<&EntityId> = unknown.collect();
    let mut measured: Vec<f64> =
        known.values().filter_map(|component| component.split.as_ref()).map(|split| split.own_failure_ratio).collect();
    measured.sort_by(f64::total_cmp);
    let middle = measured.get(measured.len().saturating_sub(1) / 2).zip(measured.get(measured.len() / 2));
    let failing = middle.map(|(below, above)| f64::midpoint(*below, *above)).filter(|_| !unknown.is_empty())?;
    let rate = |id: &EntityId| Rate { id: id.clone(), own_failure_ratio: failing, includes_dependencies: false };
    Some((failing, rates.iter().cloned().chain(unknown.into_iter().map(rate)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_attainment::{FailureSplit, SplitMethod};
    use attain_vocabulary::{EntityKind, Tier};

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    #[test]
    fn the_least_sure_edge_is_named_first_and_asynchronous_ones_never() {
        let edge = |callee, mode| Edge {
            caller: id("a"),
            callee: id(callee),
            mode,
            call_fraction: None,
            fallback_success_ratio: None,
        };
        let edges = [
            edge("sure", DependencyMode::Hard),
            edge("old", DependencyMode::Soft),
            edge("queue", DependencyMode::Async),
            edge("seldom", DependencyMode::Hard),
        ];
        let found = doubtful_edges(&edges, &[0.9, 0.4, 0.1, 0.123]);
        let told: Vec<(&str, f64)> = found.iter().map(|edge| (edge.callee.as_str(), edge.confidence)).collect();
        assert_eq!(told, [("seldom", 0.12), ("old", 0.4)]);
        assert_eq!(doubtful_edges(&edges, &[]), []);
    }

    #[test]
    fn what_has_no_data_is_taken_to_fail_like_the_others() {
        let facts = |kind| Facts { kind, tier: Tier::Two, published_ratio: None };
        let split = |own_failure_ratio| FailureSplit {
            own_failure_ratio,
            inherited_failure_ratio: 0.0,
            unattributed_ratio: 0.0,
            method: SplitMethod::NoDependencies,
            inherited: Vec::new(),
        };
        let measured = |own| Component { split: Some(split(own)), ..Component::default() };
        let known =
            BTreeMap::from([(id("a"), measured(0.001)), (id("b"), measured(0.003)), (id("c"), measured(0.002))]);
        let rates: Vec<Rate> = ["a", "b", "c"]
            .map(|name| Rate { id: id(name), own_failure_ratio: 0.0, includes_dependencies: false })
            .into();
        let all = BTreeMap::from([
            (id("a"), facts(EntityKind::Service)),
            (id("dark"), facts(EntityKind::Datastore)),
            (id("api"), facts(EntityKind::Api)),
        ]);
        let (failing, with) = with_unknown_failing(&rates, &all, &known).expect("one has no data");
        assert_eq!((failing, with.len()), (0.002, 4));
        assert_eq!((with[3].id.as_str(), with[3].own_failure_ratio), ("dark", 0.002));
        let known_only = BTreeMap::from([(id("a"), facts(EntityKind::Service))]);
        assert_eq!(with_unknown_failing(&rates, &known_only, &known), None);
        assert_eq!(with_unknown_failing(&rates[..1], &all, &BTreeMap::new()), None);
    }
}
