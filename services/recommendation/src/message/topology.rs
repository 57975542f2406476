//! Entities and edges as the graph engine and ingestion send them.

use std::collections::BTreeMap;

use attain_attainment::{SlowAbove, SlowRequests};
use attain_proto::convert;
use attain_proto::graph::v1 as graph;
use attain_proto::vocabulary::v1 as wire;
use attain_vocabulary::{DependencyMode, EntityId, EntityKind, InvalidValue, Tier};

use crate::domain::components::{Facts, Rate};
use crate::domain::flow::Edge;
use crate::domain::kept::{EdgeChange, sha256_hex};

/// A service, and what is known of it; what was left unsaid is read as the contract says.
pub(crate) fn entity(entity: &wire::Entity) -> Result<(EntityId, Facts), InvalidValue> {
    let id = EntityId::new("id", &entity.id)?;
    let facts = Facts {
        kind: convert::word::<wire::EntityKind, _>("kind", entity.kind)?.unwrap_or(EntityKind::Service),
        tier: convert::word::<wire::Tier, _>("tier", entity.tier)?.unwrap_or(Tier::Three),
        published_ratio: entity.published_availability_ratio.filter(|ratio| (0.0..=1.0).contains(ratio)),
    };
    Ok((id, facts))
}

/// An edge as far as failures are concerned.
pub(crate) fn edge(dependency: &wire::Dependency) -> Result<Edge, InvalidValue> {
    Ok(Edge {
        caller: EntityId::new("caller_id", &dependency.caller_id)?,
        callee: EntityId::new("callee_id", &dependency.callee_id)?,
        mode: convert::word::<wire::DependencyMode, _>("mode", dependency.mode)?.unwrap_or(DependencyMode::Hard),
        call_fraction: dependency.call_fraction,
        fallback_success_ratio: dependency.fallback_success_ratio,
    })
}

/// SHA-256 in hex of what people and the catalogue declare of the edges into a node, whatever calls were seen; `None` where there
/// is no edge. What traces show of an edge as well is left out: it moves by itself.
pub(crate) fn declared_sha256(dependencies: &[wire::Dependency], callee: &EntityId) -> Option<String> {
    let declares = |source: &i32| [wire::Source::Declared as i32, wire::Source::Catalogue as i32].contains(source);
    let mut edges: Vec<serde_json::Value> = dependencies
        .iter()
        .filter(|edge| edge.callee_id == callee.as_str())
        .map(|edge| {
            let seen = edge.sources.contains(&(wire::Source::Traces as i32));
            let unseen = |value: Option<f64>| value.filter(|_| !seen);
            serde_json::json!([
                edge.caller_id,
                edge.sources.iter().any(declares),
                edge.mode,
                unseen(edge.call_rate),
                unseen(edge.call_fraction),
                edge.fallback_success_ratio,
                edge.retry_count,
                edge.timeout_ms,
                edge.redundancy_group,
                edge.redundancy_required_count,
            ])
        })
        .collect();
    edges.sort_by_key(ToString::to_string);
    (!edges.is_empty()).then(|| sha256_hex(serde_json::Value::from(edges).to_string().as_bytes()))
}

/// The edge with a fallback that saves a share of the failed calls.
pub(crate) fn with_fallback(edge: &Edge, dependency: &wire::Dependency, fallback_success_ratio: f64) -> EdgeChange {
    EdgeChange {
        caller: edge.caller.clone(),
        callee: edge.callee.clone(),
        mode: DependencyMode::Soft,
        call_rate: dependency.call_rate,
        call_fraction: dependency.call_fraction,
        fallback_success_ratio: Some(fallback_success_ratio),
        retry_count: dependency.retry_count,
        timeout_ms: dependency.timeout_ms,
        protocol: dependency.protocol.clone(),
        redundancy_group: dependency.redundancy_group.clone(),
        redundancy_required_count: dependency.redundancy_required_count,
    }
}

/// A change of structure, ready for the what-if route.
pub(crate) fn scenario(change: &EdgeChange) -> graph::ScenarioChange {
    let dependency = wire::Dependency {
        caller_id: change.caller.to_string(),
        callee_id: change.callee.to_string(),
        mode: wire::DependencyMode::from(change.mode) as i32,
        call_rate: change.call_rate,
        call_fraction: change.call_fraction,
        fallback_success_ratio: change.fallback_success_ratio,
        retry_count: change.retry_count,
        timeout_ms: change.timeout_ms,
        protocol: change.protocol.clone(),
        redundancy_group: change.redundancy_group.clone(),
        redundancy_required_count: change.redundancy_required_count,
        ..wire::Dependency::default()
    };
    graph::ScenarioChange { change: Some(graph::scenario_change::Change::SetDependency(dependency)) }
}

/// A component that attains exactly this availability.
pub(crate) fn attained(entity: &EntityId, availability_ratio: f64) -> graph::ScenarioChange {
    let attained = graph::AttainedRatio { entity_id: entity.to_string(), availability_ratio };
    graph::ScenarioChange { change: Some(graph::scenario_change::Change::AttainedRatio(attained)) }
}

/// Who makes requests slow, as sampled requests tell; parts without a name of an entity are left out.
pub(crate) fn slow_requests(sampled: &graph::SampledLatency) -> SlowRequests {
    let part = |part: &graph::SlowWithout| Some((EntityId::new("part_id", &part.part_id).ok()?, part.slow_count));
    let above = |slow: &graph::SlowRequests| SlowAbove {
        threshold_ms: slow.threshold_ms as u32,
        slow_count: slow.slow_count,
        without: slow.without.iter().filter_map(part).collect(),
    };
    SlowRequests { sample_count: sampled.sample_count, thresholds: sampled.slow.iter().map(above).collect() }
}

/// Rates as the graph engine reads them.
pub(crate) fn rates(rates: &[Rate]) -> Vec<graph::ComponentRate> {
    let rate = |rate: &Rate| graph::ComponentRate {
        entity_id: rate.id.to_string(),
        own_failure_ratio: rate.own_failure_ratio,
        includes_dependencies: rate.includes_dependencies,
    };
    rates.iter().map(rate).collect()
}

/// A service of an evaluation, by name.
pub(crate) fn by_service(
    response: &graph::EvaluateAvailabilityResponse,
) -> BTreeMap<&str, &graph::ServiceAvailability> {
    response.services.iter().map(|service| (service.service_id.as_str(), service)).collect()
}
