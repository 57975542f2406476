//! Impact of one component that is fully down on everybody above it.

use crate::bdd::{Diagram, LimitExceeded};
use crate::equations::{Clause, Equation, Impact, Numbering, Source, Variable};
use crate::fixed_point::{Schedule, Start, solve, strongly_connected};
use crate::structure::{Component, Group, Structure};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// How impacts were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationMethod {
    /// Binary decision diagram: shared parts of the ways up count once.
    Exact,
    /// Noisy-or in one pass over the callers, see [`noisy_or`].
    NoisyOr,
}

/// Who is hurt when one component is down.
#[derive(Debug, Clone, PartialEq)]
pub struct Propagation {
    /// By component index: probability in `[0, 1]` that a request fails when the component is down and everything else is
    /// perfect; 1 for the component itself, 0 for whom it does not reach.
    pub impact_ratios: Vec<f64>,
    /// How they were computed.
    pub method: PropagationMethod,
}

/// Impact of `down` on every component, exact while a decision diagram of `bdd_nodes_max` nodes suffices for all of them.
///
/// Only fallbacks and calls not made are random: own failure ratios and common causes are set aside. Retries do not help
/// against a component that stays down. A black box is not reached: its ratio already includes what is below it. Cycles
/// are read in the steady state.
///
/// # Panics
/// When `down` is not a component of the structure.
#[must_use]
pub fn propagate(structure: &Structure, down: Component, bdd_nodes_max: usize) -> Propagation {
    let reach = Reach::of(structure, down);
    match exactly(structure, &reach, bdd_nodes_max) {
        Ok(impact_ratios) => Propagation { impact_ratios, method: PropagationMethod::Exact },
        Err(LimitExceeded) => {
            Propagation { impact_ratios: noisy_or_over(structure, &reach), method: PropagationMethod::NoisyOr }
        }
    }
}

/// The approximation behind [`propagate`], by component index: callees are taken as failing independently of each other,
/// `1 − Π (1 − impact · callee's impact)` over edges, and a group by the distribution of how many members fail.
///
/// Without cycles and groups that is at least the exact impact, as ways up that share an edge count as if they were
/// separate (the failures are associated). Inside a cycle, components are settled from the hardest hit to the least and
/// only settled callees count, so that no impact comes back to feed itself. Time: O(E log E), plus the square of a group's
/// size.
///
/// # Panics
/// When `down` is not a component of the structure.
#[must_use]
pub fn noisy_or(structure: &Structure, down: Component) -> Vec<f64> {
    noisy_or_over(structure, &Reach::of(structure, down))
}

/// What `down` reaches upwards.
struct Reach {
    down: Component,
    /// Direct callers, by component index.
    callers: Vec<Vec<u32>>,
    /// By component index.
    reached: Vec<bool>,
}

impl Reach {
    fn of(structure: &Structure, down: Component) -> Self {
        let mut callers = vec![Vec::new(); structure.component_count()];
        for caller in structure.components().filter(|&caller| caller != down) {
            for callee in structure.callees(caller) {
                callers[callee.index()].push(caller.0);
            }
        }
        let mut reached = vec![false; structure.component_count()];
        reached[down.index()] = true;
        let mut open = vec![down.0];
        while let Some(node) = open.pop() {
            for &caller in &callers[node as usize] {
                if !std::mem::replace(&mut reached[caller as usize], true) {
                    open.push(caller);
                }
            }
        }
        Self { down, callers, reached }
    }

    fn components(&self) -> impl Iterator<Item = Component> + '_ {
        let indices = 0..self.reached.len() as u32;
        indices.filter(|&index| self.reached[index as usize]).map(Component)
    }
}

fn exactly(structure: &Structure, reach: &Reach, bdd_nodes_max: usize) -> Result<Vec<f64>, LimitExceeded> {
    let impact = |edge| {
        let edge = structure.edge(edge);
        let open = reach.reached[edge.callee.index()] && edge.caller != reach.down;
        let ratio = if open { edge.effect.impact_ratio } else { 0.0 };
        Impact::of(ratio, ratio)
    };
    let mut numbering = Numbering::new(structure, &impact);
    for component in reach.components() {
        numbering.depth_first(component);
    }
    let mut equations = numbering.equations();
    perfect_own_health(&mut equations, &numbering.variables);
    let node_of = |component| {
        let node = numbering.node_of(component);
        node.expect("every reached component was numbered")
    };
    equations[node_of(reach.down)] =
        Equation { own: Vec::new(), clauses: vec![Clause::AtLeast { required: 1, nodes: Vec::new() }] };
    let mut diagram = Diagram::new(bdd_nodes_max);
    let roots: Vec<usize> = reach.components().map(node_of).collect();
    let schedule = Schedule::of(&equations, roots);
    let functions = solve(&equations, &schedule, Start::AllUp, &mut diagram)?;
    let top = functions.iter().copied().max().unwrap_or_default();
    let ratio = |v: u32| numbering.variables[v as usize].failure_ratio;
    let measures = diagram.measure(top, ratio);
    let mut impact_ratios = vec![0.0; structure.component_count()];
    for component in reach.components() {
        let function = functions[node_of(component)];
        impact_ratios[component.index()] = measures.down[function as usize];
    }
    Ok(impact_ratios)
}

/// Leaves fallbacks as the only variables.
fn perfect_own_health(equations: &mut [Equation], variables: &[Variable]) {
    for equation in equations {
        let random = |&v: &u32| variables[v as usize].source == Source::Fallback;
        equation.own.retain(random);
    }
}

fn noisy_or_over(structure: &Structure, reach: &Reach) -> Vec<f64> {
    let order = strongly_connected(structure.component_count(), reach.components().map(Component::index), |node| {
        let component = Component(node as u32);
        if component == reach.down {
            return Vec::new();
        }
        let callees = structure.callees(component).into_iter();
        let reached = callees.filter(|callee| reach.reached[callee.index()]);
        reached.map(Component::index).collect()
    });
    let mut impacts = vec![0.0; structure.component_count()];
    impacts[reach.down.index()] = 1.0;
    for members in order {
        match members[..] {
            [node] if node == reach.down.index() => {}
            [node] => impacts[node] = combined(structure, Component(node as u32), &impacts),
            _ => settle(structure, reach, &members, &mut impacts),
        }
    }
    impacts
}

/// The cycle's members from the hardest hit to the least; an impact of 0 in `impacts` means "not settled yet".
fn settle(structure: &Structure, reach: &Reach, members: &[usize], impacts: &mut [f64]) {
    let mut open: BTreeMap<u32, f64> = members.iter().map(|&node| (node as u32, 0.0)).collect();
    let mut queue = BinaryHeap::new();
    let mut candidates: Vec<u32> = open.keys().copied().collect();
    loop {
        for node in candidates {
            if let Some(best) = open.get_mut(&node) {
                let impact = combined(structure, Component(node), impacts);
                if impact > *best {
                    *best = impact;
                    queue.push(Candidate { impact, node });
                }
            }
        }
        let Some(hit) = queue.pop() else {
            return;
        };
        candidates = match open.get(&hit.node) {
            Some(&best) if best == hit.impact => {
                open.remove(&hit.node);
                impacts[hit.node as usize] = hit.impact;
                reach.callers[hit.node as usize].clone()
            }
            _ => Vec::new(),
        };
    }
}

struct Candidate {
    impact: f64,
    node: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_impact = self.impact.total_cmp(&other.impact);
        by_impact.then_with(|| other.node.cmp(&self.node))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

fn combined(structure: &Structure, component: Component, impacts: &[f64]) -> f64 {
    let edges: f64 = structure
        .edges_of(component)
        .map(|edge| structure.edge(edge))
        .map(|edge| (-edge.effect.impact_ratio * impacts[edge.callee.index()]).ln_1p())
        .sum();
    let groups: f64 = structure.groups_of(component).iter().map(|group| (-group_failure(group, impacts)).ln_1p()).sum();
    // Adding 0 turns the −0 of "not hit" into 0.
    -(edges + groups).exp_m1() + 0.0
}

/// Probability that more members fail than the group can spare (Poisson–binomial).
fn group_failure(group: &Group, impacts: &[f64]) -> f64 {
    let spare = group.members.len() - group.required;
    let mut failed = vec![0.0; spare + 2];
    failed[0] = 1.0;
    for member in &group.members {
        let impact = impacts[member.index()];
        failed[spare + 1] += failed[spare] * impact;
        for count in (1..=spare).rev() {
            failed[count] = failed[count] * (1.0 - impact) + failed[count - 1] * impact;
        }
        failed[0] *= 1.0 - impact;
    }
    failed[spare + 1].min(1.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::structure::{EdgeEffect, StructureBuilder};

    fn structure(count: usize, edges: &[(u32, u32, f64)]) -> Structure {
        let mut builder = StructureBuilder::new();
        for _ in 0..count {
            builder.add_component(0.3, false).unwrap();
        }
        for &(caller, callee, impact) in edges {
            let effect = EdgeEffect::partial(impact);
            builder.add_edge(Component(caller), Component(callee), effect).unwrap();
        }
        builder.build()
    }

    fn check(structure: &Structure, down: u32, exact: &[f64], approximate: &[f64]) {
        let found = propagate(structure, Component(down), 10_000);
        assert_eq!(found.method, PropagationMethod::Exact);
        close(&found.impact_ratios, exact);
        let forced = propagate(structure, Component(down), 0);
        if forced.method == PropagationMethod::NoisyOr {
            close(&forced.impact_ratios, approximate);
        }
        close(&noisy_or(structure, Component(down)), approximate);
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?} is not {expected:?}");
    }

    #[test]
    fn a_chain_multiplies_and_bystanders_are_untouched() {
        let chain = structure(4, &[(0, 1, 0.5), (1, 2, 0.4), (2, 3, 1.0)]);
        let expected = [0.2, 0.4, 1.0, 0.0];
        check(&chain, 2, &expected, &expected);
    }

    #[test]
    fn ways_up_that_share_an_edge_count_it_once() {
        // 0 → {1, 2} → 3 → 4: the edge 3 → 4 is shared, which noisy-or does not see.
        let edges = [(0, 1, 0.5), (0, 2, 0.5), (1, 3, 1.0), (2, 3, 1.0), (3, 4, 0.2)];
        let shared = structure(5, &edges);
        let exact = [0.2 * 0.75, 0.2, 0.2, 0.2, 1.0];
        let approximate = [1.0 - 0.9 * 0.9, 0.2, 0.2, 0.2, 1.0];
        check(&shared, 4, &exact, &approximate);
    }

    #[test]
    fn an_impact_does_not_feed_itself_round_a_cycle() {
        let cycle = structure(3, &[(0, 1, 1.0), (1, 0, 1.0), (0, 2, 0.5)]);
        let expected = [0.5, 0.5, 1.0];
        check(&cycle, 2, &expected, &expected);
    }

    #[test]
    fn the_dependencies_of_what_is_down_do_not_matter() {
        let chain = structure(3, &[(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)]);
        let expected = [1.0, 1.0, 1.0];
        check(&chain, 1, &expected, &expected);
    }

    #[test]
    fn a_spare_member_shields_and_a_black_box_does_too() {
        let mut builder = StructureBuilder::new();
        let [top, opaque, one, two, shared] =
            [false, true, false, false, false].map(|black_box| builder.add_component(0.1, black_box).unwrap());
        builder.add_group(top, &[one, two], 1, Some(0.1)).unwrap();
        builder.add_edge(opaque, one, EdgeEffect::hard()).unwrap();
        builder.add_edge(one, shared, EdgeEffect::hard()).unwrap();
        builder.add_edge(two, shared, EdgeEffect::partial(0.5)).unwrap();
        let structure = builder.build();
        check(&structure, one.0, &[0.0, 0.0, 1.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 0.0, 0.0]);
        let both = [0.5, 0.0, 1.0, 0.5, 1.0];
        check(&structure, shared.0, &both, &both);
    }
}
