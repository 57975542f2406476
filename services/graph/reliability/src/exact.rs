//! Ways to an exact answer, in an order that structure and limits alone decide.
//!
//! A diagram of few nodes is tried first: trees and whatever else comes apart into modules fit one, which is linear in them
//! and knows minimal sets besides. What does not fit is eliminated where the frontier stays narrow, which is known before
//! any work is done. Only what is cyclic or wide is left to diagrams up to the limit.

use crate::bdd::LimitExceeded;
use crate::equations::Order;
use crate::frontier::Plan;

/// Nodes of the first diagram: this many, and some for each variable. Less than a millisecond for a few hundred of those.
const FIRST_NODES: usize = 1_000;
const FIRST_NODES_PER_VARIABLE: usize = 16;

/// Cost of an elimination allowed for each node of a diagram's limit: in both, time and memory are then about the same.
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
    if let Some(plan) = plan(cost_max(nodes_max)) {
        return Some(eliminate(&plan));
    }
    let depth_first = if few < nodes_max { diagram(Order::DepthFirst, nodes_max) } else { Err(LimitExceeded) };
    depth_first.or_else(|LimitExceeded| diagram(Order::CallersFirst, nodes_max)).ok()
}

/// Nodes of a diagram that is worth trying before anything else.
fn few_nodes(variable_count: usize) -> usize {
    FIRST_NODES + FIRST_NODES_PER_VARIABLE * variable_count
}

/// Cost of an elimination that a limit of a diagram's nodes stands for.
pub(crate) fn cost_max(nodes_max: usize) -> usize {
    nodes_max.saturating_mul(COST_PER_NODE)
}
