//! What the structure allows each of several services to attain, before and after changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use attain_reliability::{Evaluation, EvaluationLimits};

use super::links::NodeIndex;
use super::opened::opened;
use super::routes::Routes;
use super::scenario::{Scenario, State};
use super::structure::Model;
use super::together::{Pair, Question};

/// One service.
#[derive(Debug, Clone, PartialEq)]
pub struct Availability {
    /// The service.
    pub node: NodeIndex,
    /// Present state.
    pub before: Arc<Evaluation>,
    /// After the changes; none without changes, the present state's where they do not reach the service.
    pub after: Option<Arc<Evaluation>>,
    /// The shortest walk from the service to a changed component, of several the lexically first; empty where changes do
    /// not reach it.
    pub path: Vec<NodeIndex>,
}

/// All services.
#[derive(Debug, Clone, PartialEq)]
pub struct Availabilities {
    /// In the order asked for.
    pub services: Vec<Availability>,
    /// Services that nobody waited for any more, in the order asked for.
    pub unevaluated: Vec<NodeIndex>,
    /// Components that one of the services reaches and that have no rate, in lexical order.
    pub assumed_perfect: Vec<NodeIndex>,
    /// Components that the changes are about, in lexical order.
    pub contributing: Vec<NodeIndex>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Interruption {
    /// Nobody waits for it any more.
    #[error("the evaluation was given up")]
    GivenUp,
    /// The structure function cannot be built.
    #[error(transparent)]
    Structure(#[from] attain_reliability::Error),
}

/// Evaluates services; each once, however often it is asked for, and after the changes only where they reach it. Several are
/// evaluated [`together`](super::together). Black boxes above a change are [`opened`] first. When `give_up` says so between two
/// pieces of work, whoever is not evaluated by then is left out.
///
/// # Errors
/// When `give_up` says so before the first service is evaluated; when the structure is too large.
pub fn evaluate(
    scenario: &Scenario,
    services: &[NodeIndex],
    limits: &EvaluationLimits,
    give_up: &dyn Fn() -> bool,
) -> Result<Availabilities, Interruption> {
    evaluate_among(scenario, services, distinct_count(services), limits, give_up)
}

pub(super) fn distinct_count(services: &[NodeIndex]) -> usize {
    services.iter().collect::<BTreeSet<_>>().len()
}

/// The same for some of `asked_count` different services, in the way in which all of them are evaluated.
pub(super) fn evaluate_among(
    scenario: &Scenario,
    services: &[NodeIndex],
    asked_count: usize,
    limits: &EvaluationLimits,
    give_up: &dyn Fn() -> bool,
) -> Result<Availabilities, Interruption> {
    let scenario = opened(scenario, limits, give_up)?;
    let model = |state: &State| Model::new(&state.needs, &state.rates);
    let before = model(&scenario.before)?;
    let after = scenario.after.as_ref().map(model).transpose()?;
    // The present state's edges suffice: whoever reaches a change by an edge that was added or removed passes that edge's
    // caller, which is itself changed.
    let links = before.links();
    let routes = Routes::to(links.node_count(), &scenario.changed, |node| links.callers(node));
    let contributing: Vec<NodeIndex> = scenario.contributing.iter().copied().collect();
    let question =
        Question { before: &before, after: after.as_ref(), routes: &routes, contributing: &contributing, asked_count };
    let known = question.evaluate(services, limits, give_up);
    let states = [(Some(&scenario.before), Some(&before)), (scenario.after.as_ref(), after.as_ref())];
    let assumed_perfect = assumed_perfect(scenario.before.rates.len(), services, &states);
    let unevaluated: Vec<NodeIndex> = services.iter().copied().filter(|node| !known.contains_key(node)).collect();
    if known.is_empty() && !unevaluated.is_empty() {
        return Err(Interruption::GivenUp);
    }
    let service = |&node: &NodeIndex| {
        let Pair { before, after } = known.get(&node)?.clone();
        Some(Availability { node, before, after, path: routes.path(node, |node| links.callees(node)) })
    };
    let services = services.iter().filter_map(service).collect();
    Ok(Availabilities { services, unevaluated, assumed_perfect, contributing })
}

fn assumed_perfect(
    node_count: usize,
    services: &[NodeIndex],
    states: &[(Option<&State>, Option<&Model>)],
) -> Vec<NodeIndex> {
    let mut assumed = vec![false; node_count];
    for (state, model) in states {
        if let (Some(state), Some(model)) = (state, model) {
            let reached = model.reached(services.iter().copied());
            for (assumed, (reached, rated)) in assumed.iter_mut().zip(reached.iter().zip(&state.rated)) {
                *assumed |= reached & !rated;
            }
        }
    }
    (0..).zip(assumed).filter(|(_, assumed)| *assumed).map(|(node, _)| node).collect()
}
