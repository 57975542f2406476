//! Answers as messages.

use std::sync::Arc;

use attain_proto::convert;
use attain_proto::graph::v1 as wire;
use attain_proto::vocabulary::v1::Cycle as WireCycle;
use attain_reliability::{BoundsMethod, Evaluation, EvaluationMethod, RetryMethod};

use crate::domain::availability::Availability;
use crate::domain::blast::Hit;
use crate::domain::chokes::ChokePoint;
use crate::domain::cuts::Cut;
use crate::domain::cycles::Cycle;
use crate::domain::findings::Finding;
use crate::domain::links::{EdgeIndex, NodeIndex};
use crate::domain::snapshot::Snapshot;
use crate::domain::walk::{Heading, Neighbourhood};
use crate::queries::{Analysis, Answer, Changed, FailingCall, SlowCall, TopologyChanges};
use crate::storage::held::Held;

/// Most calls to cut of one cycle.
const CUT_EDGES_MAX: usize = 100;
/// Most importances of one service and state, those of components that the changes are about counted apart.
const IMPORTANCES_MAX: usize = 50;

pub(crate) fn neighbourhood(held: &Held, found: &Neighbourhood) -> wire::GetDependenciesResponse {
    let reached = found.reached.iter().map(|reached| wire::ReachedEntity {
        entity: Some((*held.entities[reached.node as usize]).clone()),
        distance: reached.distance,
        direction: match reached.heading {
            None => wire::Direction::Unspecified,
            Some(Heading::Downstream) => wire::Direction::Downstream,
            Some(Heading::Upstream) => wire::Direction::Upstream,
            Some(Heading::Both) => wire::Direction::Both,
        }
        .into(),
    });
    wire::GetDependenciesResponse {
        entities: reached.collect(),
        dependencies: found.edges.iter().map(|&edge| held.dependency(edge)).collect(),
        dependency_confidences: held.confidences(&found.edges),
        snapshot: None,
        truncated: found.truncated,
    }
}

pub(crate) fn analysis(held: &Held, analysis: Analysis) -> wire::AnalyzeServiceResponse {
    let snapshot = &held.snapshot;
    wire::AnalyzeServiceResponse {
        fan_in_count: analysis.fan_in_count,
        fan_out_count: analysis.fan_out_count,
        downstream_count: analysis.downstream_count,
        depth: analysis.depth,
        longest_chain: names(snapshot, &analysis.longest_chain),
        blast_radius: analysis.blast.hits.iter().map(|hit| hurt(snapshot, hit)).collect(),
        cycles: analysis.cycles.iter().map(|(found, _)| cycle(snapshot, found)).collect(),
        cycle_cuts: analysis.cycles.iter().map(|(_, found)| cycle_cut(snapshot, found)).collect(),
        single_points_of_failure: names(snapshot, &analysis.single_points.nodes),
        findings: analysis.findings.into_iter().map(|found| finding(snapshot, found)).collect(),
        betweenness_ratio: analysis.betweenness.map(|(ratio, _)| ratio),
        betweenness_sampled: analysis.betweenness.is_some_and(|(_, sampled)| sampled),
        latency_critical_path: analysis.slow_calls.iter().map(|call| slow_call(snapshot, call)).collect(),
        availability_critical_path: analysis.failing_calls.iter().map(|call| failing_call(snapshot, call)).collect(),
        choke_points: analysis.choke_points.iter().map(|point| choke_point(snapshot, point)).collect(),
        separated_count: analysis.separated_count,
        doubtful_dependencies: analysis.doubtful.iter().map(|&(edge, sure)| doubtful(held, edge, sure)).collect(),
        snapshot: None,
    }
}

fn hurt(snapshot: &Snapshot, hit: &Hit) -> wire::BlastRadiusEntry {
    wire::BlastRadiusEntry {
        service_id: snapshot.id(hit.node).to_string(),
        impact_ratio: hit.impact_ratio,
        distance: hit.distance,
        path: names(snapshot, &hit.path),
    }
}

pub(crate) fn cycle(snapshot: &Snapshot, cycle: &Cycle) -> WireCycle {
    WireCycle { service_ids: names(snapshot, &cycle.members), bootstrap_hazard: cycle.bootstrap_hazard }
}

fn slow_call(snapshot: &Snapshot, call: &SlowCall) -> wire::SlowCall {
    let ends = dependency_ref(snapshot, call.ends);
    wire::SlowCall {
        caller_id: ends.caller_id,
        callee_id: ends.callee_id,
        calls_per_request: call.calls_per_request,
        mean_ms: call.mean_ms,
        p95_ms: call.p95_ms,
        wait_ms: call.calls_per_request * call.mean_ms,
    }
}

fn failing_call(snapshot: &Snapshot, call: &FailingCall) -> wire::FailingCall {
    let ends = dependency_ref(snapshot, call.ends);
    wire::FailingCall {
        caller_id: ends.caller_id,
        callee_id: ends.callee_id,
        passes_on_ratio: call.passes_on_ratio,
        failure_ratio: call.failure_ratio,
        lost_ratio: call.passes_on_ratio * call.failure_ratio,
    }
}

fn choke_point(snapshot: &Snapshot, point: &ChokePoint) -> wire::ChokePoint {
    wire::ChokePoint { entity_id: snapshot.id(point.node).to_string(), behind_count: point.behind_count }
}

fn doubtful(held: &Held, edge: EdgeIndex, confidence: f64) -> wire::DoubtfulDependency {
    let row = held.dependency(edge);
    let age = |last_ms: i64| convert::duration((held.asked.time_ms - last_ms).max(0));
    wire::DoubtfulDependency {
        confidence,
        age: row.last_seen_time.as_ref().map(|last| age(convert::unix_millis(last))),
        sources: row.sources,
        dependency: Some(wire::DependencyRef { caller_id: row.caller_id, callee_id: row.callee_id }),
    }
}

fn dependency_ref(snapshot: &Snapshot, (caller, callee): (NodeIndex, NodeIndex)) -> wire::DependencyRef {
    wire::DependencyRef { caller_id: snapshot.id(caller).to_string(), callee_id: snapshot.id(callee).to_string() }
}

fn cycle_cut(snapshot: &Snapshot, cut: &Cut) -> wire::CycleCut {
    let named = cut.edges.iter().take(CUT_EDGES_MAX).map(|&ends| dependency_ref(snapshot, ends));
    wire::CycleCut { edges: named.collect(), edge_count: cut.edges.len() as u32, fewest: cut.fewest }
}

pub(crate) fn changes(changes: TopologyChanges) -> wire::GetTopologyChangesResponse {
    let version = |held: &Arc<Held>| wire::KeptVersion {
        version: held.version,
        read_time: Some(convert::timestamp(held.asked.time_ms)),
    };
    let entity = |Changed { before, after }| wire::EntityChange { before, after };
    let dependency = |Changed { before, after }| wire::DependencyChange { before, after };
    wire::GetTopologyChangesResponse {
        from: Some(version(&changes.from)),
        to: Some(version(&changes.to)),
        entities: changes.entities.into_iter().map(entity).collect(),
        dependencies: changes.dependencies.into_iter().map(dependency).collect(),
        truncated: changes.truncated,
        kept: changes.kept.iter().map(version).collect(),
    }
}

fn finding(snapshot: &Snapshot, finding: Finding) -> wire::Finding {
    wire::Finding {
        code: finding.code.to_owned(),
        service_ids: names(snapshot, &finding.nodes),
        detail: finding.detail,
    }
}

pub(crate) fn availabilities(snapshot: &Snapshot, answer: &Answer) -> wire::EvaluateAvailabilityResponse {
    let found = &answer.availabilities;
    let service = |service: &Availability| {
        let without = answer.without_doubtful.get(&service.node);
        wire::ServiceAvailability {
            without_doubtful_before_ratio: without.map(|(before, _)| *before),
            without_doubtful_after_ratio: without.and_then(|(_, after)| *after),
            ..of_service(snapshot, service, &found.contributing)
        }
    };
    wire::EvaluateAvailabilityResponse {
        services: found.services.iter().map(service).collect(),
        assumed_perfect_ids: names(snapshot, &found.assumed_perfect),
        unevaluated_ids: names(snapshot, &found.unevaluated),
        snapshot: None,
    }
}

fn of_service(snapshot: &Snapshot, service: &Availability, contributing: &[NodeIndex]) -> wire::ServiceAvailability {
    wire::ServiceAvailability {
        service_id: snapshot.id(service.node).to_string(),
        before: Some(availability(snapshot, &service.before, contributing)),
        after: service.after.as_ref().map(|after| availability(snapshot, after, contributing)),
        path: names(snapshot, &service.path),
        ..wire::ServiceAvailability::default()
    }
}

fn availability(snapshot: &Snapshot, found: &Evaluation, contributing: &[NodeIndex]) -> wire::Availability {
    // Components past the nodes stand for redundancy groups; they never fail of their own.
    let of_nodes = found.importances.iter().filter(|importance| importance.component.index() < snapshot.nodes().len());
    let others = of_nodes.clone().skip(IMPORTANCES_MAX);
    let asked = others.filter(|importance| contributing.binary_search(&importance.component.0).is_ok());
    let told = of_nodes.clone().take(IMPORTANCES_MAX).chain(asked.take(IMPORTANCES_MAX));
    wire::Availability {
        availability_ratio: found.availability_ratio,
        unavailability_ratio: found.unavailability_ratio,
        method: method(found.method).into(),
        retry_method: match found.retries {
            RetryMethod::Exact => wire::RetryMethod::Exact,
            RetryMethod::Bounded => wire::RetryMethod::Bounded,
        }
        .into(),
        interval_low_ratio: found.interval.0,
        interval_high_ratio: found.interval.1,
        bound_low_ratio: found.bounds.0,
        bound_high_ratio: found.bounds.1,
        bounds_method: match found.bounds_method {
            BoundsMethod::EsaryProschan => wire::BoundsMethod::EsaryProschan,
            BoundsMethod::Bracket => wire::BoundsMethod::Bracket,
        }
        .into(),
        cold_start_ratio: found.cold_start_ratio,
        cold_start_method: method(found.cold_start_method).into(),
        importances_truncated: !found.importances_complete || of_nodes.clone().nth(IMPORTANCES_MAX).is_some(),
        importances: told
            .map(|importance| wire::Importance {
                entity_id: snapshot.id(importance.component.0).to_string(),
                birnbaum: importance.birnbaum,
                contribution_ratio: importance.contribution,
            })
            .collect(),
    }
}

fn method(method: EvaluationMethod) -> wire::EvaluationMethod {
    match method {
        EvaluationMethod::Exact => wire::EvaluationMethod::Exact,
        EvaluationMethod::MonteCarlo => wire::EvaluationMethod::MonteCarlo,
    }
}

pub(super) fn names(snapshot: &Snapshot, nodes: &[NodeIndex]) -> Vec<String> {
    nodes.iter().map(|&node| snapshot.id(node).to_string()).collect()
}
