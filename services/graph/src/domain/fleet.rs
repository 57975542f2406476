//! The graph as a fleet whose targets have to hold together.

use attain_consistency::{Edge, Error, Fleet, Group, Service};
use attain_vocabulary::{EntityId, InvalidValue, Objective};

use super::links::{NodeIndex, reached};
use super::needs::Need;
use super::scenario::{Complaints, State, known};
use super::snapshot::Snapshot;

/// How often an attempt that is not doomed fails at most, by which retries are credited. A bound for whatever has a target.
const ATTEMPT_FAILURE_MAX: f64 = 0.1;

/// A target that somebody was promised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// Availability.
    pub target: Objective,
    /// Whether it cannot be moved.
    pub fixed: bool,
}

/// A promise by the name of who gave it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedPromise {
    /// Whose.
    pub service_id: String,
    /// What was promised.
    pub promise: Promise,
}

/// Promises by node.
///
/// # Errors
/// Names every promise of a service that the snapshot does not hold, and every second one of a service.
pub fn promises(snapshot: &Snapshot, named: &[NamedPromise]) -> Result<Vec<Option<Promise>>, Vec<InvalidValue>> {
    let mut complaints = Complaints::default();
    let mut promises = vec![None; snapshot.nodes().len()];
    for (index, NamedPromise { service_id, promise }) in named.iter().enumerate() {
        let field = format!("targets/{index}/service_id");
        match known(snapshot, &field, service_id) {
            Err(invalid) => complaints.add(invalid),
            Ok(node) if promises[node as usize].replace(*promise).is_some() => {
                complaints.add(InvalidValue::new(field, "duplicate", format!("`{service_id}` has a target already")));
            }
            Ok(_) => {}
        }
    }
    complaints.none_or(promises)
}

/// Nodes without a rate on which a promise rests, in lexical order.
#[must_use]
pub fn assumed_perfect(state: &State, promises: &[Option<Promise>]) -> Vec<NodeIndex> {
    let promised = (0..).zip(promises).filter_map(|(node, promise)| promise.and(Some(node)));
    let below = |node: NodeIndex| {
        let open = !state.rates[node as usize].includes_dependencies;
        let needs = state.needs.of_caller(node).iter().filter(move |need| open && need.matters());
        needs.flat_map(|need| need.members.iter().copied())
    };
    let reached = reached(promises.len(), promised, below);
    (0..).zip(reached).filter_map(|(node, reached)| (reached && !state.rated[node as usize]).then_some(node)).collect()
}

/// The state as far as some nodes need it: whoever they do not reach rests on nothing.
#[must_use]
pub fn within(snapshot: &Snapshot, mut state: State, scope: &[NodeIndex]) -> State {
    let reached =
        reached(state.rates.len(), scope.iter().copied(), |node| snapshot.request_path().callees(node).iter().copied());
    for (rate, _) in state.rates.iter_mut().zip(reached).filter(|(_, reached)| !reached) {
        rate.includes_dependencies = true;
    }
    state
}

/// Every node with its promise, if it has one, and what a failure of its callees does to it. The order is that of the nodes.
///
/// A node whose rate includes its dependencies rests on nothing further. A redundancy group counts as hard, whatever
/// fallback stands behind it.
///
/// # Errors
/// A rate outside `[0, 1]`.
pub fn fleet(snapshot: &Snapshot, state: &State, promises: &[Option<Promise>]) -> Result<Fleet, Error> {
    let nodes = snapshot.nodes().iter().zip(&state.rates).zip(promises);
    let services = nodes.map(|((node, rate), promise)| Service {
        id: node.id.clone(),
        tier: node.tier,
        target: promise.map(|promise| promise.target),
        fixed: promise.is_some_and(|promise| promise.fixed),
        own_floor: rate.failure_ratio,
    });
    let id = |node: NodeIndex| -> EntityId { snapshot.id(node).clone() };
    let (mut edges, mut groups) = (Vec::new(), Vec::new());
    for (caller, _) in (0..).zip(&state.rates).filter(|(_, rate)| !rate.includes_dependencies) {
        for need in state.needs.of_caller(caller).iter().filter(|need| need.matters()) {
            match need.members[..] {
                [callee] => {
                    edges.push(Edge { caller: id(caller), callee: id(callee), impact: impact_after_retries(need) })
                }
                _ => groups.push(Group {
                    caller: id(caller),
                    members: need.members.iter().map(|member| id(*member)).collect(),
                    required_count: need.required_count as usize,
                }),
            }
        }
    }
    Fleet::new(services.collect(), &edges, &groups)
}

/// Probability that a failure of the callee fails a request: what outlasts every attempt, and what happens to hit all.
fn impact_after_retries(need: &Need) -> f64 {
    let effect = need.effect;
    let retries = i32::try_from(effect.retry_count).unwrap_or(i32::MAX);
    let by_chance = (1.0 - effect.persistent_share) * libm::pow(ATTEMPT_FAILURE_MAX, f64::from(retries));
    effect.impact_ratio * (effect.persistent_share + by_chance)
}
