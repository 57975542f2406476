//! Ways to an exact answer, in an order that structure and limits alone decide.
//!
//! A diagram of few nodes is tried first: trees and whatever else comes apart into modules fit one, which is linear in them
//! and knows minimal sets besides. Whatever does not fit is eliminated where that is cheap, else conjoined into diagrams
//! up to the limit, else eliminated up to it.

use crate::bdd::LimitExceeded;
use crate::equations::Order;
use crate::frontier::Plan;

/// Nodes of the first diagram: this many, and some for each variable. Built in about a millisecond.
const FIRST_NODES: usize = 1_000;
const FIRST_NODES_PER_VARIABLE: usize = 16;

/// Cost of an elimination that comes before large diagrams: about ten milliseconds, importances included.
const CHEAP: usize = 5_000_000;

/// Cost of an elimination allowed for each node of a diagram's limit: it then takes no longer than the diagram would, and
/// less memory.
const COST_PER_NODE: usize = 200;

/// The first way that fits: `diagram` within a number of nodes, or `eliminate` by a plan, which `plan` makes within a cost.
pub(crate) fn first_that_fits<T>(
    variable_count: usize,
    nodes_max: usize,
    diagram: impl Fn(Order, usize) -> Result<T, LimitExceeded>,
    plan: impl FnOnce(usize) -> Option<Plan>,
    eliminate: impl FnOnce(&Plan) -> T,
) -> Option<T> {
    let few = few_nodes(variable_count).min(nodes_max);
    if let Ok(found) = diagram(Order::DepthFirst, few) {
        return Some(found);
    }
    let plan = plan(cost_max(nodes_max));
    if plan.as_ref().is_some_and(|plan| plan.cost <= CHEAP) {
        return plan.as_ref().map(eliminate);
    }
    let depth_first = if few < nodes_max { diagram(Order::DepthFirst, nodes_max) } else { Err(LimitExceeded) };
    let found = depth_first.or_else(|LimitExceeded| diagram(Order::CallersFirst, nodes_max));
    found.ok().or_else(|| plan.as_ref().map(eliminate))
}

/// Nodes of a diagram that is worth trying before anything else.
pub(crate) fn few_nodes(variable_count: usize) -> usize {
    FIRST_NODES + FIRST_NODES_PER_VARIABLE * variable_count
}

/// Cost of an elimination that a limit of a diagram's nodes stands for.
pub(crate) fn cost_max(nodes_max: usize) -> usize {
    nodes_max.saturating_mul(COST_PER_NODE)
}
