//! Impact of one component that is fully down on everybody above it.

use crate::bdd::{Diagram, LimitExceeded};
use crate::elimination::{self, Weights};
use crate::equations::{Clause, Equation, Impact, Numbering, Source, Variable};
use crate::exact::cost_max;
use crate::fixed_point::{Schedule, Start, solve, strongly_connected};
use crate::frontier::Plan;
use crate::structure::{Component, Group, Structure};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// Calls past which elimination is not tried where they cross a lot: the frontier does not stay narrow then, and finding
/// that out would take longer than the approximation.
const CROSSING_CALLS_MAX: usize = 5_000;
/// Calls that may be spared past which no diagram is tried where they cross a lot: it would be given up at its limit.
const CROSSING_PARTIAL_CALLS_MAX: usize = 1_000;

/// How impacts were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationMethod {
    /// Elimination over a frontier, or a binary decision diagram: shared parts of the ways up count once.
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

/// Impact of `down` on every component, exact where one elimination over a frontier or a decision diagram of `bdd_nodes_max`
/// nodes suffices for all of them. The frontier is tried first. Where thousands of calls that are not certain to fail cross
/// each other, neither is.
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

/// How much of the impacts of `down` is in doubt, by which [`propagate`] chooses its way.
///
/// # Panics
/// When `down` is not a component of the structure.
#[must_use]
pub fn crossing(structure: &Structure, down: Component) -> Crossing {
    Doubt::of(structure, &Reach::of(structure, down)).crossing
}

/// What `down` reaches upwards.
struct Reach {
    down: Component,
    /// Direct callers of each component, those of one after those of another.
    callers: Vec<u32>,
    /// By component index: where its callers start; with an end marker.
    starts: Vec<u32>,
    /// By component index.
    reached: Vec<bool>,
    /// How many are reached.
    count: usize,
}

impl Reach {
    fn of(structure: &Structure, down: Component) -> Self {
        let count = structure.component_count();
        let calls = || {
            let callers = structure.components().filter(|&caller| caller != down);
            callers.flat_map(|caller| structure.callees(caller).map(move |callee| (caller, callee)))
        };
        let mut starts = vec![0_u32; count + 2];
        calls().for_each(|(_, callee)| starts[callee.index() + 2] += 1);
        for index in 2..starts.len() {
            starts[index] += starts[index - 1];
        }
        let mut callers = vec![0; starts[count + 1] as usize];
        for (caller, callee) in calls() {
            let next = &mut starts[callee.index() + 1];
            callers[*next as usize] = caller.0;
            *next += 1;
        }
        starts.pop();
        let mut reach = Self { down, callers, starts, reached: vec![false; count], count: 0 };
        reach.climb();
        reach
    }

    fn climb(&mut self) {
        self.reached[self.down.index()] = true;
        let mut open = vec![self.down.0];
        while let Some(node) = open.pop() {
            self.count += 1;
            let range = self.range(node);
            for &caller in &self.callers[range] {
                if !std::mem::replace(&mut self.reached[caller as usize], true) {
                    open.push(caller);
                }
            }
        }
    }

    fn range(&self, node: u32) -> std::ops::Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }

    fn callers(&self, node: u32) -> &[u32] {
        &self.callers[self.range(node)]
    }

    fn components(&self) -> impl Iterator<Item = Component> + '_ {
        let indices = 0..self.reached.len() as u32;
        indices.filter(|&index| self.reached[index as usize]).map(Component)
    }
}

/// How much is left to find out about those whom what is down reaches and who do not fail by certain calls alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crossing {
    /// Such components.
    pub component_count: usize,
    /// Calls between them.
    pub call_count: usize,
    /// Those of the calls that may be spared.
    pub partial_call_count: usize,
}

impl Crossing {
    /// Whether [`propagate`] tries to find exact impacts.
    #[must_use]
    pub fn may_be_exact(&self) -> bool {
        self.frontier_may_fit() || self.diagram_may_fit()
    }

    fn frontier_may_fit(&self) -> bool {
        self.call_count <= CROSSING_CALLS_MAX || !self.is_many(self.call_count)
    }

    fn diagram_may_fit(&self) -> bool {
        self.partial_call_count <= CROSSING_PARTIAL_CALLS_MAX || !self.is_many(self.partial_call_count)
    }

    /// Whether so many calls are more by a quarter of the components than a tree would have.
    fn is_many(&self, call_count: usize) -> bool {
        let beyond_a_tree = (call_count + 1).saturating_sub(self.component_count);
        4 * beyond_a_tree > self.component_count
    }
}

/// Those who fail for certain, and how much is left to find out about the others.
struct Doubt {
    /// By component index: whether certain calls alone make it fail.
    certain: Vec<bool>,
    crossing: Crossing,
}

impl Doubt {
    fn of(structure: &Structure, reach: &Reach) -> Self {
        let certain = certain(structure, reach);
        let in_doubt = |component: Component| reach.reached[component.index()] && !certain[component.index()];
        let mut crossing = Crossing::default();
        for component in reach.components().filter(|&component| in_doubt(component)) {
            crossing.component_count += 1;
            for edge in structure.edges_of(component).map(|edge| structure.edge(edge)) {
                let counts = in_doubt(edge.callee);
                crossing.call_count += usize::from(counts);
                crossing.partial_call_count += usize::from(counts && edge.effect.impact_ratio < 1.0);
            }
            let members = structure.groups_of(component).iter().flat_map(|group| &group.members);
            crossing.call_count += members.filter(|&&member| in_doubt(member)).count();
        }
        Self { certain, crossing }
    }
}

fn certain(structure: &Structure, reach: &Reach) -> Vec<bool> {
    let mut certain = vec![false; structure.component_count()];
    certain[reach.down.index()] = true;
    let mut open = vec![reach.down.0];
    while let Some(node) = open.pop() {
        for &caller in reach.callers(node) {
            if !certain[caller as usize] && must_fail(structure, Component(caller), &certain) {
                certain[caller as usize] = true;
                open.push(caller);
            }
        }
    }
    certain
}

fn must_fail(structure: &Structure, caller: Component, certain: &[bool]) -> bool {
    let fails = |component: Component| certain[component.index()];
    let mut edges = structure.edges_of(caller).map(|edge| structure.edge(edge));
    edges.any(|edge| edge.effect.impact_ratio >= 1.0 && fails(edge.callee))
        || structure.groups_of(caller).iter().any(|group| {
            let failing = group.members.iter().filter(|&&member| fails(member)).count();
            failing > group.members.len() - group.required
        })
}

fn exactly(structure: &Structure, reach: &Reach, bdd_nodes_max: usize) -> Result<Vec<f64>, LimitExceeded> {
    let doubt = Doubt::of(structure, reach);
    if !doubt.crossing.may_be_exact() {
        return Err(LimitExceeded);
    }
    let impact = |edge| {
        let edge = structure.edge(edge);
        let open = reach.reached[edge.callee.index()] && !doubt.certain[edge.caller.index()];
        let ratio = if open { edge.effect.impact_ratio } else { 0.0 };
        Impact::of(ratio, ratio)
    };
    let mut numbering = Numbering::new(structure, &impact);
    for component in reach.components() {
        numbering.depth_first(component);
    }
    let node_of = |component| {
        let node = numbering.node_of(component);
        node.expect("every reached component was numbered")
    };
    let mut equations = numbering.equations();
    perfect_own_health(&mut equations, &numbering.variables);
    let nodes: Vec<usize> = reach.components().map(node_of).collect();
    let mut down = vec![false; equations.len()];
    for (component, &node) in reach.components().zip(&nodes) {
        down[node] = doubt.certain[component.index()];
    }
    take_down(&mut equations, &down);
    let schedule = Schedule::of(&equations, nodes.iter().copied());
    let ratio = |v: u32| numbering.variables[v as usize].failure_ratio;
    let plan = || Plan::of(&equations, &schedule, None, cost_max(bdd_nodes_max));
    let by_node = match doubt.crossing.frontier_may_fit().then(plan).flatten() {
        Some(plan) => by_elimination(&plan, equations.len(), &ratio),
        None if doubt.crossing.diagram_may_fit() => by_diagram(&equations, &schedule, bdd_nodes_max, &ratio)?,
        None => return Err(LimitExceeded),
    };
    let mut impact_ratios = vec![0.0; structure.component_count()];
    for (component, node) in reach.components().zip(nodes) {
        impact_ratios[component.index()] = by_node[node];
    }
    Ok(impact_ratios)
}

/// Failure ratios by node.
fn by_elimination(plan: &Plan, node_count: usize, failure_ratio: &dyn Fn(u32) -> f64) -> Vec<f64> {
    struct Impacts<'a> {
        failure_ratio: &'a dyn Fn(u32) -> f64,
        by_node: Vec<f64>,
    }
    impl Weights for Impacts<'_> {
        fn failure_ratio(&self, variable: u32) -> f64 {
            (self.failure_ratio)(variable)
        }

        fn completed(&mut self, node: usize, down: f64) {
            self.by_node[node] = down;
        }
    }
    let mut impacts = Impacts { failure_ratio, by_node: vec![0.0; node_count] };
    elimination::run(plan, &mut impacts);
    impacts.by_node
}

/// The same.
fn by_diagram(
    equations: &[Equation],
    schedule: &Schedule,
    nodes_max: usize,
    failure_ratio: &dyn Fn(u32) -> f64,
) -> Result<Vec<f64>, LimitExceeded> {
    let mut diagram = Diagram::new(nodes_max);
    let functions = solve(equations, schedule, Start::AllUp, &mut diagram)?;
    let top = functions.iter().copied().max().unwrap_or_default();
    let measures = diagram.measure(top, failure_ratio);
    Ok(functions.into_iter().map(|function| measures.down[function as usize]).collect())
}

/// Replaces nodes by false, in their own equations and in those of their callers.
fn take_down(equations: &mut [Equation], down: &[bool]) {
    let never = || Clause::AtLeast { required: 1, nodes: Vec::new() };
    for (equation, &is_down) in equations.iter_mut().zip(down) {
        let clauses = std::mem::take(&mut equation.clauses);
        if is_down {
            *equation = Equation { own: Vec::new(), clauses: vec![never()] };
            continue;
        }
        equation.clauses.extend(clauses.into_iter().filter_map(|clause| match clause {
            Clause::Needs { node, unless: Some(variable) } if down[node] => {
                equation.own.push(variable);
                None
            }
            Clause::Needs { node, unless: None } if down[node] => Some(never()),
            Clause::AtLeast { required, mut nodes } => {
                nodes.retain(|&node| !down[node]);
                Some(Clause::AtLeast { required, nodes })
            }
            needs @ Clause::Needs { .. } => Some(needs),
        }));
    }
}

/// Leaves fallbacks as the only variables.
fn perfect_own_health(equations: &mut [Equation], variables: &[Variable]) {
    for equation in equations {
        let random = |&v: &u32| variables[v as usize].source == Source::Fallback;
        equation.own.retain(random);
    }
}

fn noisy_or_over(structure: &Structure, reach: &Reach) -> Vec<f64> {
    callees_first(structure, reach).unwrap_or_else(|| cycle_by_cycle(structure, reach))
}

/// Each component when the last of its callees is known (Kahn 1962); nothing where there is a cycle.
fn callees_first(structure: &Structure, reach: &Reach) -> Option<Vec<f64>> {
    let mut impacts = vec![0.0; structure.component_count()];
    impacts[reach.down.index()] = 1.0;
    let mut unknown = vec![0_u32; structure.component_count()];
    for component in reach.components() {
        reach.callers(component.0).iter().for_each(|&caller| unknown[caller as usize] += 1);
    }
    let mut known = vec![reach.down.0];
    let mut known_count = 0;
    while let Some(node) = known.pop() {
        known_count += 1;
        if node != reach.down.0 {
            impacts[node as usize] = combined(structure, Component(node), &impacts);
        }
        for &caller in reach.callers(node) {
            unknown[caller as usize] -= 1;
            if unknown[caller as usize] == 0 {
                known.push(caller);
            }
        }
    }
    (known_count == reach.count).then_some(impacts)
}

fn cycle_by_cycle(structure: &Structure, reach: &Reach) -> Vec<f64> {
    let order = strongly_connected(structure.component_count(), reach.components().map(Component::index), |node| {
        let component = Component(node as u32);
        let callees = structure.callees(component).filter(|callee| reach.reached[callee.index()]);
        if component == reach.down { Vec::new() } else { callees.map(Component::index).collect() }
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

fn settle(structure: &Structure, reach: &Reach, members: &[usize], impacts: &mut [f64]) {
    let members: Vec<u32> = members.iter().map(|&node| node as u32).collect();
    let impact_of = |impacts: &&mut [f64], node| combined(structure, Component(node), impacts);
    let set = |impacts: &mut &mut [f64], node: u32, impact| impacts[node as usize] = impact;
    settle_cycle(&members, |node| reach.callers(node), &mut { impacts }, impact_of, set);
}

/// Impacts on a cycle's members, from the hardest hit to the least: `impact_of` tells what somebody feels by the impacts set so
/// far, those that `set` has not set counting as none. So no impact comes back to feed itself.
pub fn settle_cycle<'a, Impacts>(
    members: &[u32],
    callers: impl Fn(u32) -> &'a [u32],
    impacts: &mut Impacts,
    impact_of: impl Fn(&Impacts, u32) -> f64,
    set: impl Fn(&mut Impacts, u32, f64),
) {
    let mut open: BTreeMap<u32, f64> = members.iter().map(|&node| (node, 0.0)).collect();
    let mut queue = BinaryHeap::new();
    let mut candidates: Vec<u32> = open.keys().copied().collect();
    loop {
        for node in candidates {
            if let Some(best) = open.get_mut(&node) {
                let impact = impact_of(impacts, node);
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
                set(impacts, hit.node, hit.impact);
                callers(hit.node).to_vec()
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
    let edges = structure.edges_of(component).map(|edge| {
        let edge = structure.edge(edge);
        edge.effect.impact_ratio * impacts[edge.callee.index()]
    });
    let group_failure = |group: &Group| {
        let members = group.members.iter().map(|member| impacts[member.index()]);
        more_than(group.members.len() - group.required, members)
    };
    at_least_one(edges.chain(structure.groups_of(component).iter().map(group_failure)))
}

/// Probability that one of several independent failures occurs.
pub fn at_least_one(failures: impl Iterator<Item = f64>) -> f64 {
    let mut sum = AtLeastOne::default();
    failures.for_each(|lost| sum.add(lost));
    sum.failure_ratio()
}

/// The same, one failure at a time.
#[derive(Debug, Clone, Copy)]
pub struct AtLeastOne {
    up: f64,
    down: f64,
}

impl Default for AtLeastOne {
    fn default() -> Self {
        Self { up: 1.0, down: 0.0 }
    }
}

impl AtLeastOne {
    /// One more that fails with this probability, independently of the others.
    #[inline]
    pub fn add(&mut self, failure_ratio: f64) {
        self.down += self.up * failure_ratio;
        self.up *= 1.0 - failure_ratio;
    }

    /// Probability that any fails, in `[0, 1]`.
    #[inline]
    #[must_use]
    pub fn failure_ratio(self) -> f64 {
        f64::min(self.down, 1.0)
    }
}

/// Probability that more of several independent failures occur than there are to `spare` (Poisson–binomial).
pub fn more_than(spare: usize, failures: impl Iterator<Item = f64>) -> f64 {
    let mut failed = vec![0.0; spare + 2];
    failed[0] = 1.0;
    for impact in failures {
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
    fn whoever_fails_for_certain_is_no_matter_of_chance_in_a_large_graph() {
        // 200 that fail for certain and call each other by halves, 6,000 times, and two above them that may be spared.
        let certain = 2..202;
        let mut edges: Vec<(u32, u32, f64)> = certain.clone().map(|caller| (caller, 202, 1.0)).collect();
        let between = |caller| (1..=30).map(move |step| (caller, 2 + (caller - 2 + step) % 200, 0.5));
        edges.extend(certain.flat_map(between));
        edges.extend([(0, 1, 0.5), (1, 2, 0.5)]);
        let found = propagate(&structure(203, &edges), Component(202), 1_000);
        assert_eq!(found.method, PropagationMethod::Exact);
        close(&found.impact_ratios[..3], &[0.25, 0.5, 1.0]);
        assert!(found.impact_ratios[2..].iter().all(|&impact| impact == 1.0));
    }

    #[test]
    fn thousands_of_calls_that_cross_are_approximated() {
        let calls = (0..600_u32).flat_map(|caller| (1..=10).map(move |step| (caller, caller + step * step, 0.4)));
        let edges: Vec<(u32, u32, f64)> = calls.filter(|&(_, callee, _)| callee <= 600).collect();
        let structure = structure(601, &edges);
        let found = propagate(&structure, Component(600), 200_000);
        assert_eq!(found.method, PropagationMethod::NoisyOr);
        assert_eq!(found.impact_ratios, noisy_or(&structure, Component(600)));
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
