//! What is left of an availability without doubtful edges.

use std::collections::BTreeMap;

use attain_reliability::EvaluationLimits;
use attain_vocabulary::UnixMillis;

use super::availability::{Interruption, distinct_count, evaluate_among};
use super::confidence::below;
use super::links::{NodeIndex, reached};
use super::scenario::{Change, NamedRate, Scenario};
use super::snapshot::Snapshot;

/// Availability in the present state, and after the changes where there are some.
pub type Pair = (f64, Option<f64>);

/// Evaluates those of the services that reach an edge whose confidence is below the bound, without such edges. A change that
/// removes one of them changes nothing then.
///
/// # Errors
/// As [`evaluate`](super::availability::evaluate).
pub fn without_doubtful(
    snapshot: &Snapshot,
    (confidence_min, as_of_ms): (f64, UnixMillis),
    (rates, changes): (&[NamedRate], &[Change]),
    services: &[NodeIndex],
    limits: &EvaluationLimits,
    give_up: &dyn Fn() -> bool,
) -> Result<BTreeMap<NodeIndex, Pair>, Interruption> {
    let doubtful = below(snapshot, confidence_min, as_of_ms);
    let resting = resting_on(snapshot, &doubtful);
    let asked_count = distinct_count(services);
    let services: Vec<NodeIndex> = services.iter().copied().filter(|&node| resting[node as usize]).collect();
    if services.is_empty() {
        return Ok(BTreeMap::new());
    }
    let without = snapshot.without(&doubtful);
    let stands = |change: &&Change| match change {
        Change::Remove { caller_id, callee_id } => {
            let ends = without.find(caller_id).zip(without.find(callee_id));
            ends.is_none_or(|(caller, callee)| without.edge_between(caller, callee).is_some())
        }
        _ => true,
    };
    let left: Vec<Change> = changes.iter().filter(stands).cloned().collect();
    // Everything was resolved on the whole graph before, and the nodes are the same.
    let Ok(scenario) = Scenario::resolve(&without, rates, &left) else { return Ok(BTreeMap::new()) };
    let found =
        evaluate_among(&scenario, &services, asked_count, limits, give_up)?.services.into_iter().map(|service| {
            let before = service.before.availability_ratio;
            let after = service.after.map_or(before, |after| after.availability_ratio);
            (service.node, (before, (!changes.is_empty()).then_some(after)))
        });
    Ok(found.collect())
}

/// Who reaches one of these edges on the request path.
fn resting_on(snapshot: &Snapshot, doubtful: &[bool]) -> Vec<bool> {
    let edges = snapshot.edges().iter().zip(doubtful);
    let callers = edges.filter(|(edge, doubtful)| **doubtful && edge.terms.on_request_path());
    let above = |node: NodeIndex| snapshot.request_path().callers(node).iter().copied();
    reached(snapshot.nodes().len(), callers.map(|(edge, _)| edge.caller), above)
}
