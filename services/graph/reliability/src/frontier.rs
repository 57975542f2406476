//! In which order components are added to a frontier and leave it again, and what that costs, from structure alone.
//!
//! Callees come before callers. A component is on the frontier from its first clause that can be decided until its last
//! caller has read it: a caller's clauses are taken one by one, as each is a factor of its own (a noisy-and), so that
//! a caller of a hundred leaves is never beside more than one of them. A caller is opened as soon as a component on the
//! frontier has nobody else left to be read by, which replaces one by the other. Otherwise, of the components whose callees
//! are all complete, one that leaves again at once is taken first, and among equals the one that comes first when callees
//! are visited depth first, those first whose own part needs the widest frontier (the order in which Sethi and Ullman 1970
//! evaluate a tree with the fewest registers).

use crate::equations::{Clause, Equation};
use crate::fixed_point::Schedule;
use std::collections::{BTreeMap, BTreeSet};

/// Components on the frontier at once, at most: a table of 8 MB.
const WIDTH_MAX: usize = 20;

/// Cost from which other orders are tried too.
const TRIED_AGAIN_FROM: usize = 500_000;
/// Orders that are tried, each with its own choice among equals: the cheapest is often several times cheaper.
const TRIES: u64 = 8;
/// Past so many nodes one try must do.
const TRIED_AGAIN_NODES_MAX: usize = 2_000;

/// One step over the table of the frontier's states. A component's bit is 1 where it is up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// A component comes on top, up.
    Open,
    /// It fails with the variable's failure ratio, where the other is down or, without one, anywhere; without a variable for
    /// certain.
    Fail { bit: u32, below: Option<u32>, variable: Option<u32> },
    /// It fails where fewer of the members are up.
    FailBelow { bit: u32, required: u32, members: u32 },
    /// Everything that the node needs has been counted.
    Complete { bit: u32, node: u32 },
    /// Nobody reads it any more; those above it move down by one.
    Close { bit: u32 },
}

/// The steps from an empty frontier to the root alone or, without one, to an empty frontier again.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) steps: Vec<Step>,
    /// States that are read or written, all steps together.
    pub(crate) cost: usize,
}

impl Plan {
    /// The cheapest that is found for everything on the schedule; nothing where there is a cycle or the cost is above the
    /// limit.
    pub(crate) fn of(
        equations: &[Equation],
        schedule: &Schedule,
        root: Option<usize>,
        cost_max: usize,
    ) -> Option<Self> {
        if schedule.is_cyclic() {
            return None;
        }
        let nodes = Nodes::of(equations, schedule)?;
        let widths = nodes.widths();
        let plan = |seed, cost_max| {
            let places = nodes.visited(&widths, seed);
            Planner::new(&nodes, places, equations.len(), root, cost_max).plan()
        };
        let mut best = plan(0, cost_max);
        let tries = if nodes.order.len() > TRIED_AGAIN_NODES_MAX { 1 } else { TRIES };
        for seed in 1..tries {
            let cost = best.as_ref().map_or(cost_max, |best| best.cost);
            if cost < TRIED_AGAIN_FROM {
                break;
            }
            best = plan(seed, cost).or(best);
        }
        best
    }
}

/// Whatever has a bit of its own: nodes of the equations, then variables that occur more than once.
struct Nodes {
    /// Callees first.
    order: Vec<usize>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Variables of this node alone.
    own: Vec<u32>,
    /// Callee and what saves the request, by callee.
    needs: Vec<(usize, Option<u32>)>,
    groups: Vec<(usize, Vec<usize>)>,
    /// Distinct.
    callees: Vec<usize>,
    /// Distinct.
    callers: Vec<usize>,
}

impl Nodes {
    fn of(equations: &[Equation], schedule: &Schedule) -> Option<Self> {
        let mut order = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        nodes.resize_with(equations.len(), Node::default);
        for (variable, node) in (equations.len()..).zip(shared(equations, schedule)?).map(|(node, v)| (v, node)) {
            nodes.push(Node { own: vec![variable], ..Node::default() });
            order.push((variable, node));
        }
        let bit_of: BTreeMap<u32, usize> = order.iter().copied().collect();
        let mut order: Vec<usize> = order.into_iter().map(|(_, node)| node).collect();
        for node in schedule.nodes() {
            nodes[node] = Node::new(&equations[node], &bit_of);
            order.push(node);
            for index in 0..nodes[node].callees.len() {
                let callee = nodes[node].callees[index];
                nodes[callee].callers.push(node);
            }
        }
        Some(Self { order, nodes })
    }

    /// How wide the frontier gets when only the node and what is below it is added, as if nothing were shared.
    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![1; self.nodes.len()];
        for &node in &self.order {
            let (mut first, mut second) = (0, 0);
            for &callee in &self.nodes[node].callees {
                let width = widths[callee];
                second = second.max(width.min(first));
                first = first.max(width);
            }
            widths[node] = first.max(second + 1);
        }
        widths
    }

    /// By node: its place in the visit. The seed decides among callees of one width; 0 takes them in their order.
    fn visited(&self, widths: &[usize], seed: u64) -> Vec<usize> {
        const UNSEEN: usize = usize::MAX;
        let widest_last = |mut nodes: Vec<usize>| {
            nodes.sort_unstable_by_key(|&node| (widths[node], mixed(node, seed), std::cmp::Reverse(node)));
            nodes
        };
        let mut places = vec![UNSEEN; self.nodes.len()];
        let mut entered = vec![false; self.nodes.len()];
        let mut next = 0;
        let roots = self.order.iter().copied().filter(|&node| self.nodes[node].callers.is_empty());
        let mut open = widest_last(roots.collect());
        while let Some(&node) = open.last() {
            if !std::mem::replace(&mut entered[node], true) {
                let callees = self.nodes[node].callees.iter().copied().filter(|&callee| !entered[callee]);
                open.extend(widest_last(callees.collect()));
                continue;
            }
            open.pop();
            if places[node] == UNSEEN {
                places[node] = next;
                next += 1;
            }
        }
        places
    }
}

/// A number without pattern, the same for a node and a seed; 0 for the seed 0 (the steps of `SplitMix64`).
fn mixed(node: usize, seed: u64) -> u64 {
    if seed == 0 {
        return 0;
    }
    let mut mixed = (node as u64).wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Node {
    fn new(equation: &Equation, bit_of: &BTreeMap<u32, usize>) -> Self {
        let mut node = Self::default();
        for variable in &equation.own {
            match bit_of.get(variable) {
                Some(&bit) => node.needs.push((bit, None)),
                None => node.own.push(*variable),
            }
        }
        for clause in &equation.clauses {
            match clause {
                Clause::Needs { node: callee, unless } => node.needs.push((*callee, *unless)),
                Clause::AtLeast { required, nodes } => node.groups.push((*required, nodes.clone())),
            }
        }
        node.needs.sort_unstable();
        let members = node.groups.iter().flat_map(|(_, members)| members);
        node.callees = node.needs.iter().map(|(callee, _)| callee).chain(members).copied().collect();
        node.callees.sort_unstable();
        node.callees.dedup();
        node
    }
}

/// Variables that more than one node fails by; nothing where one that saves a request occurs again.
fn shared(equations: &[Equation], schedule: &Schedule) -> Option<Vec<u32>> {
    let mut own: Vec<u32> = Vec::new();
    let mut guards: Vec<u32> = Vec::new();
    for equation in schedule.nodes().map(|node| &equations[node]) {
        own.extend(&equation.own);
        guards.extend(equation.clauses.iter().filter_map(|clause| match clause {
            Clause::Needs { unless, .. } => *unless,
            Clause::AtLeast { .. } => None,
        }));
    }
    own.sort_unstable();
    guards.sort_unstable();
    let repeated = guards.windows(2).any(|pair| pair[0] == pair[1]);
    if repeated || guards.iter().any(|guard| own.binary_search(guard).is_ok()) {
        return None;
    }
    let mut shared: Vec<u32> = own.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    shared.dedup();
    Some(shared)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Open,
    Complete,
    Closed,
}

enum Task {
    Complete(usize),
    /// Somebody's last reader may have to be opened.
    Check(usize),
}

struct Planner<'a> {
    nodes: &'a [Node],
    /// Nodes from this one on are variables.
    variables_from: usize,
    root: Option<usize>,
    cost_max: usize,
    places: Vec<usize>,
    stages: Vec<Stage>,
    /// By node: callees not complete.
    incomplete: Vec<usize>,
    /// By node: clauses of callers that have not read it.
    unread: Vec<usize>,
    /// By node: callers not open.
    unopened: Vec<usize>,
    /// Not open, every callee complete: whether it stays for a while, its place, itself.
    ready: BTreeSet<(bool, usize, usize)>,
    frontier: Vec<usize>,
    tasks: Vec<Task>,
    plan: Plan,
}

/// The plan would cost more than its limit.
struct TooWide;

impl<'a> Planner<'a> {
    fn new(nodes: &'a Nodes, places: Vec<usize>, variables_from: usize, root: Option<usize>, cost_max: usize) -> Self {
        let mut unread = vec![0; nodes.nodes.len()];
        for node in &nodes.nodes {
            let members = node.groups.iter().flat_map(|(_, members)| members);
            node.needs.iter().map(|(callee, _)| callee).chain(members).for_each(|&callee| unread[callee] += 1);
        }
        let mut planner = Self {
            variables_from,
            root,
            cost_max,
            places,
            stages: vec![Stage::Waiting; nodes.nodes.len()],
            incomplete: nodes.nodes.iter().map(|node| node.callees.len()).collect(),
            unopened: nodes.nodes.iter().map(|node| node.callers.len()).collect(),
            unread,
            ready: BTreeSet::new(),
            frontier: Vec::new(),
            tasks: Vec::new(),
            plan: Plan { steps: Vec::new(), cost: 0 },
            nodes: &nodes.nodes,
        };
        for &node in nodes.order.iter().filter(|&&node| nodes.nodes[node].callees.is_empty()) {
            planner.ready.insert(planner.key(node));
        }
        planner
    }

    fn plan(mut self) -> Option<Plan> {
        while let Some((_, _, node)) = self.ready.first().copied() {
            self.open(node).ok()?;
            while let Some(task) = self.tasks.pop() {
                match task {
                    Task::Complete(node) => self.complete(node),
                    Task::Check(node) => self.check(node),
                }
                .ok()?;
            }
        }
        Some(self.plan)
    }

    fn key(&self, node: usize) -> (bool, usize, usize) {
        (self.unopened[node] > 0, self.places[node], node)
    }

    /// Puts a node on the frontier, with everything that can be decided of it.
    fn open(&mut self, node: usize) -> Result<(), TooWide> {
        let nodes = self.nodes;
        self.ready.remove(&self.key(node));
        if self.frontier.len() >= WIDTH_MAX {
            return Err(TooWide);
        }
        self.frontier.push(node);
        self.stages[node] = Stage::Open;
        self.step(Step::Open)?;
        for &variable in &nodes[node].own {
            let bit = self.bit(node);
            self.step(Step::Fail { bit, below: None, variable: Some(variable) })?;
        }
        for &callee in &nodes[node].callees {
            let key = self.key(callee);
            self.unopened[callee] -= 1;
            if self.ready.remove(&key) {
                self.ready.insert(self.key(callee));
            }
            self.tasks.push(Task::Check(callee));
        }
        for &(callee, unless) in &nodes[node].needs {
            self.read(node, callee, unless)?;
        }
        for group in &nodes[node].groups {
            self.read_group(node, group)?;
        }
        if self.incomplete[node] == 0 {
            self.tasks.push(Task::Complete(node));
        }
        Ok(())
    }

    /// What follows from a node of which everything was decided.
    fn complete(&mut self, node: usize) -> Result<(), TooWide> {
        let nodes = self.nodes;
        self.stages[node] = Stage::Complete;
        if node < self.variables_from {
            let bit = self.bit(node);
            self.step(Step::Complete { bit, node: node as u32 })?;
        }
        for &caller in &nodes[node].callers {
            self.incomplete[caller] -= 1;
            let done = self.incomplete[caller] == 0;
            if self.stages[caller] == Stage::Open {
                let needs = &nodes[caller].needs;
                let first = needs.partition_point(|&(callee, _)| callee < node);
                for &(_, unless) in needs[first..].iter().take_while(|&&(callee, _)| callee == node) {
                    self.read(caller, node, unless)?;
                }
                for group in nodes[caller].groups.iter().filter(|(_, members)| members.contains(&node)) {
                    self.read_group(caller, group)?;
                }
                if done {
                    self.tasks.push(Task::Complete(caller));
                }
            } else if done {
                self.ready.insert(self.key(caller));
            }
            for (_, members) in nodes[caller].groups.iter().filter(|(_, members)| members.contains(&node)) {
                self.tasks.extend(members.iter().map(|&member| Task::Check(member)));
            }
        }
        self.tasks.push(Task::Check(node));
        self.close_if_read(node)
    }

    /// Opens the only caller that has not read a node, so that it takes the node's place.
    fn check(&mut self, node: usize) -> Result<(), TooWide> {
        if self.stages[node] != Stage::Complete || self.unopened[node] != 1 {
            return Ok(());
        }
        let mut callers = self.nodes[node].callers.iter().copied();
        match callers.find(|&caller| self.stages[caller] == Stage::Waiting) {
            Some(caller) if self.can_read(caller, node) => self.open(caller),
            _ => Ok(()),
        }
    }

    /// Whether the caller, once open, reads the node at once.
    fn can_read(&self, caller: usize, node: usize) -> bool {
        let Node { needs, groups, .. } = &self.nodes[caller];
        let complete = |&member: &usize| self.stages[member] == Stage::Complete;
        needs.binary_search_by_key(&node, |&(callee, _)| callee).is_ok()
            || groups.iter().any(|(_, members)| members.contains(&node) && members.iter().all(complete))
    }

    fn read(&mut self, caller: usize, callee: usize, variable: Option<u32>) -> Result<(), TooWide> {
        if self.stages[callee] != Stage::Complete {
            return Ok(());
        }
        let (bit, below) = (self.bit(caller), Some(self.bit(callee)));
        self.step(Step::Fail { bit, below, variable })?;
        self.unread[callee] -= 1;
        self.close_if_read(callee)
    }

    fn read_group(&mut self, caller: usize, (required, members): &(usize, Vec<usize>)) -> Result<(), TooWide> {
        if members.iter().any(|&member| self.stages[member] != Stage::Complete) {
            return Ok(());
        }
        let mask = members.iter().map(|&member| 1 << self.bit(member)).sum();
        let bit = self.bit(caller);
        self.step(Step::FailBelow { bit, required: *required as u32, members: mask })?;
        for &member in members {
            self.unread[member] -= 1;
            self.close_if_read(member)?;
        }
        Ok(())
    }

    fn close_if_read(&mut self, node: usize) -> Result<(), TooWide> {
        if self.stages[node] != Stage::Complete || self.unread[node] > 0 || self.root == Some(node) {
            return Ok(());
        }
        let bit = self.bit(node);
        self.step(Step::Close { bit })?;
        self.frontier.remove(bit as usize);
        self.stages[node] = Stage::Closed;
        Ok(())
    }

    fn bit(&self, node: usize) -> u32 {
        let position = self.frontier.iter().position(|&other| other == node);
        position.expect("a node is on the frontier until everybody has read it") as u32
    }

    fn step(&mut self, step: Step) -> Result<(), TooWide> {
        let states = 1 << self.frontier.len();
        self.plan.cost += match step {
            Step::Open | Step::Close { .. } | Step::FailBelow { .. } => states,
            Step::Fail { below: None, .. } => states,
            Step::Fail { below: Some(_), .. } | Step::Complete { .. } => states / 2,
        };
        self.plan.steps.push(step);
        if self.plan.cost > self.cost_max { Err(TooWide) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equations(count: usize, calls: &[(usize, usize)]) -> Vec<Equation> {
        let mut equations: Vec<Equation> = Vec::new();
        equations.resize_with(count, Equation::default);
        for &(caller, node) in calls {
            equations[caller].clauses.push(Clause::Needs { node, unless: None });
        }
        equations
    }

    fn plan(count: usize, calls: &[(usize, usize)], cost_max: usize) -> Option<Plan> {
        let equations = equations(count, calls);
        Plan::of(&equations, &Schedule::of(&equations, [0]), Some(0), cost_max)
    }

    fn width(plan: &Plan) -> usize {
        let mut width = 0;
        let widths = plan.steps.iter().map(|step| {
            match step {
                Step::Open => width += 1,
                Step::Close { .. } => width -= 1,
                _ => {}
            }
            width
        });
        widths.max().unwrap_or_default()
    }

    #[test]
    fn chains_and_stars_take_two_whatever_hangs_on_them() {
        let star: Vec<(usize, usize)> = (1..100).map(|leaf| (0, leaf)).collect();
        assert_eq!(plan(100, &star, usize::MAX).as_ref().map(width), Some(2));
        let chain: Vec<(usize, usize)> = (0..99).map(|caller| (caller, caller + 1)).collect();
        assert_eq!(plan(100, &chain, usize::MAX).as_ref().map(width), Some(2));
    }

    #[test]
    fn a_caterpillar_is_taken_from_its_end() {
        // 0 → 1 → … → 49, each with a leaf, which comes before or after the rest of the chain.
        for leaves_first in [false, true] {
            let (chain, leaf) = if leaves_first { (50, 0) } else { (0, 50) };
            let of_chain = |place: usize| (place + chain) % 100;
            let calls = (0..50).flat_map(|place| {
                let next = (place < 49).then(|| (of_chain(place), of_chain(place + 1)));
                next.into_iter().chain([(of_chain(place), place + leaf)])
            });
            let equations = equations(100, &calls.collect::<Vec<_>>());
            let root = of_chain(0);
            let plan = Plan::of(&equations, &Schedule::of(&equations, [root]), Some(root), usize::MAX);
            assert!(plan.is_some_and(|plan| width(&plan) <= 3));
        }
    }

    #[test]
    fn full_layers_take_twice_their_width() {
        let calls = (0..48).flat_map(|caller| {
            let next = (caller / 6 + 1) * 6;
            (next..next + 6).map(move |callee| (caller, callee))
        });
        let calls: Vec<(usize, usize)> = calls.collect();
        assert_eq!(plan(54, &calls, usize::MAX).as_ref().map(width), Some(12));
        assert!(plan(54, &calls, 10_000).is_none());
    }
}
