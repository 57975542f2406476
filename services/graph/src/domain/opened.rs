//! Components that are rated as a whole, opened where a change is below them.
//!
//! A component whose own failures nobody can tell from what it inherits is a black box: what it calls is part of its
//! rate. A change of what it calls would then be felt by nobody above it, an outage included. So every black box with a
//! change below it is opened: it gets the own failure ratio with which it attains, as long as nothing changes, exactly
//! what it was rated with. Where what is known of its dependencies is worse than that, it fails none of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use attain_reliability::{Component, Evaluation, EvaluationLimits, evaluate as evaluate_root};

use super::availability::Interruption;
use super::cycles::strongly_connected;
use super::links::{Links, NodeIndex, reached};
use super::needs::Needs;
use super::scenario::{Scenario, State};
use super::structure::{Model, Rate};

/// The scenario with every black box opened that the changes reach, those aside whose rate the question sets.
///
/// Boxes in one cycle are opened one after the other, the one that fails most at last, the others as they are by then: members
/// of a hard cycle attain the same, and that is then the least that one of them was rated with.
///
/// # Errors
/// When `give_up` says so between two boxes; when the structure is too large.
pub fn opened<'a>(
    scenario: &'a Scenario,
    limits: &EvaluationLimits,
    give_up: &dyn Fn() -> bool,
) -> Result<Cow<'a, Scenario>, Interruption> {
    let (Some(after), before) = (&scenario.after, &scenario.before) else { return Ok(Cow::Borrowed(scenario)) };
    let links = links(&before.needs);
    let above = |node: NodeIndex| links.callers(node).iter().copied();
    let reached = reached(links.node_count(), scenario.changed.iter().copied(), above);
    let box_failing = |node: NodeIndex| {
        let rate = before.rates[node as usize];
        let is_box = reached[node as usize] && rate.includes_dependencies && !scenario.rate_set.contains(&node);
        is_box.then_some(rate.failure_ratio)
    };
    let (mut rates, mut after) = (before.rates.clone(), after.clone());
    for boxes in in_turn(&links, box_failing) {
        for &node in &boxes {
            rates[node as usize] = Rate { failure_ratio: 0.0, includes_dependencies: false };
        }
        let model = Model::new(&before.needs, &rates)?;
        for node in boxes {
            if give_up() {
                return Err(Interruption::GivenUp);
            }
            let inherited = evaluate_root(&model.structure, Component(node), limits);
            let rated = before.rates[node as usize].failure_ratio;
            rates[node as usize].failure_ratio = own_failure_ratio(rated, &inherited);
            after.rates[node as usize] = rates[node as usize];
        }
    }
    let before = State { rates, ..before.clone() };
    Ok(Cow::Owned(Scenario { before, after: Some(after), ..scenario.clone() }))
}

/// `q` with `(1 − q) · inherited availability = 1 − rated`, within `[0, 1]`.
fn own_failure_ratio(rated: f64, inherited: &Evaluation) -> f64 {
    if inherited.availability_ratio <= 0.0 {
        return 0.0;
    }
    ((rated - inherited.unavailability_ratio) / inherited.availability_ratio).clamp(0.0, 1.0)
}

/// Whom each caller can feel.
fn links(needs: &Needs) -> Links {
    let mut edges = Vec::new();
    for caller in 0..needs.node_count() as NodeIndex {
        let felt = needs.of_caller(caller).iter().filter(|need| need.matters());
        let callees: BTreeSet<NodeIndex> = felt.flat_map(|need| need.members.iter().copied()).collect();
        edges.extend(callees.into_iter().map(|callee| (caller, callee, 0)));
    }
    Links::new(needs.node_count(), &edges)
}

/// Boxes that can be opened at once, those below before those above. `box_failing` tells how often a box fails.
fn in_turn(links: &Links, box_failing: impl Fn(NodeIndex) -> Option<f64>) -> impl Iterator<Item = Vec<NodeIndex>> {
    let mut turn_of = vec![0_u32; links.node_count()];
    let mut turns: BTreeMap<u32, Vec<NodeIndex>> = BTreeMap::new();
    for members in strongly_connected(links) {
        let below = members.iter().flat_map(|&member| links.callees(member));
        let mut turn = below.map(|&callee| turn_of[callee as usize]).max().unwrap_or_default();
        let mut boxes: Vec<(f64, NodeIndex)> =
            members.iter().filter_map(|&member| Some((box_failing(member)?, member))).collect();
        boxes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, node) in boxes {
            turn += 1;
            turns.entry(turn).or_default().push(node);
        }
        members.iter().for_each(|&member| turn_of[member as usize] = turn);
    }
    turns.into_values()
}
