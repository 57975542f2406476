//! The steady state's decision diagram from the root down.
//!
//! Conjoining diagrams meets every pair of their parts. Where whole layers are shared, most pairs amount to the same set
//! of components that must work, found again and again: for 9 full layers of 6 there are 70,000 nodes but 68 million
//! pairs. Here that set is the state. It starts with the root; a component whose turn it is must be up itself, and each
//! of its edges either is saved or adds its callee. The request fails when a component in the set is down, so a set
//! that empties has succeeded: what is demanded a second time, round a cycle, adds nothing, which is the greatest fixed
//! point. Equal sets are the same function and are expanded once.
//!
//! Only for systems without groups: "k of n" is no set of components that must work.

use crate::bdd::{Diagram, FALSE, Function, LimitExceeded, Node, TRUE};
use crate::equations::{Clause, Equation, System};
use crate::fixed_point::Schedule;
use std::collections::HashMap;

/// Words of remembered states allowed for each node of the limit: sets of a few dozen components at the limit's size.
const WORDS_PER_NODE: usize = 32;

/// A system as one list of steps a component.
pub(crate) struct Demand {
    steps: Vec<Step>,
    /// By node: where its steps start; they end where the next node's start.
    starts: Vec<u32>,
    /// By step: the node it belongs to.
    node_of: Vec<u32>,
    /// By node: position of its cycle, callers first.
    ranks: Vec<u32>,
    /// By node: whether it is in a cycle, hence may be demanded again after its turn.
    cyclic: Vec<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The variable must be up.
    Must(u32),
    /// The callee is demanded.
    Add(usize),
    /// The callee is demanded unless the variable is up.
    AddUnless(u32, usize),
    /// Nothing remains.
    End,
}

/// Components that must work yet: for each the step that comes next; and those in cycles that had their turn. Sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    open: Vec<u32>,
    seen: Vec<u32>,
}

/// Functions made so far, by what remains: several roots share them.
pub(crate) struct Expansion<'a> {
    demand: &'a Demand,
    known: HashMap<State, Function>,
    words_left: usize,
}

/// Nothing is left to do for a request that has failed.
type Remaining = Option<State>;

enum Task {
    Visit(Remaining),
    Join(u32, State),
}

impl Expansion<'_> {
    /// Whether a node works, as a function; each of the variables occurs at most once on a way down.
    pub(crate) fn function_of(&mut self, root: usize, diagram: &mut Diagram) -> Result<Function, LimitExceeded> {
        let mut tasks = vec![Task::Visit(Some(self.demand.start(root)))];
        let mut results: Vec<Function> = Vec::new();
        while let Some(task) = tasks.pop() {
            match task {
                Task::Visit(None) => results.push(FALSE),
                Task::Visit(Some(state)) => {
                    if let Some(&function) = self.known.get(&state) {
                        results.push(function);
                        continue;
                    }
                    let Some((variable, low, high)) = self.demand.branches(&state) else {
                        results.push(TRUE);
                        continue;
                    };
                    let words = state.open.len() + state.seen.len() + 1;
                    self.words_left = self.words_left.checked_sub(words).ok_or(LimitExceeded)?;
                    tasks.push(Task::Join(variable, state));
                    tasks.push(Task::Visit(low));
                    tasks.push(Task::Visit(Some(high)));
                }
                Task::Join(variable, state) => {
                    // The high branch was pushed last, hence done first and lies below.
                    let (low, high) = (results.pop(), results.pop());
                    let (Some(low), Some(high)) = (low, high) else {
                        unreachable!("both branches are done before they are joined");
                    };
                    let function = diagram.make(Node { variable, low, high })?;
                    self.known.insert(state, function);
                    results.push(function);
                }
            }
        }
        Ok(results.pop().expect("every task leaves one result"))
    }
}

impl Demand {
    /// The system's steady state as steps; nothing where it has groups.
    ///
    /// Cycles are those before anything was factored out: only between those is every variable of a caller sure to come
    /// before its callees'.
    pub(crate) fn of(system: &System) -> Option<Self> {
        Self::new(&system.steady, &Schedule::of(&system.cold, [0]))
    }

    /// The same for equations of which nothing was factored out, with their cycles.
    pub(crate) fn new(equations: &[Equation], schedule: &Schedule) -> Option<Self> {
        let mut demand = Self {
            steps: Vec::new(),
            starts: Vec::with_capacity(equations.len()),
            node_of: Vec::new(),
            ranks: vec![0; equations.len()],
            cyclic: vec![false; equations.len()],
        };
        for (rank, members) in schedule.components().iter().rev().enumerate() {
            for &node in members {
                demand.ranks[node] = rank as u32;
                demand.cyclic[node] = members.len() > 1;
            }
        }
        for (node, equation) in equations.iter().enumerate() {
            demand.starts.push(demand.steps.len() as u32);
            demand.steps.extend(steps_of(equation)?);
            demand.node_of.resize(demand.steps.len(), node as u32);
        }
        Some(demand)
    }

    pub(crate) fn expand(&self, states_max: usize) -> Expansion<'_> {
        let words_left = states_max.saturating_mul(WORDS_PER_NODE);
        Expansion { demand: self, known: HashMap::new(), words_left }
    }

    fn start(&self, root: usize) -> State {
        let mut state = State::default();
        self.demand(root, &mut state);
        self.tidy(&mut state);
        state
    }

    /// The variable that is decided next and what remains if it is down and if it is up; nothing when all is done.
    fn branches(&self, state: &State) -> Option<(u32, Remaining, State)> {
        let decisions = state.open.iter().enumerate();
        let (position, variable) = decisions
            .filter_map(|(position, &step)| Some((position, self.variable(step)?)))
            .min_by_key(|&(_, variable)| variable)?;
        let mut high = state.clone();
        let step = high.open.remove(position);
        self.go_on(step + 1, &mut high);
        let low = match self.steps[step as usize] {
            Step::AddUnless(_, callee) => {
                let mut low = high.clone();
                self.demand(callee, &mut low);
                self.tidy(&mut low);
                Some(low)
            }
            _ => None,
        };
        self.tidy(&mut high);
        Some((variable, low, high))
    }

    fn variable(&self, step: u32) -> Option<u32> {
        match self.steps[step as usize] {
            Step::Must(variable) | Step::AddUnless(variable, _) => Some(variable),
            Step::Add(_) | Step::End => None,
        }
    }

    fn demand(&self, node: usize, state: &mut State) {
        if self.is_new(node, state) {
            self.go_on(self.starts[node], state);
        }
    }

    /// Demands what is needed in any case and stops before the first decision.
    fn go_on(&self, step: u32, state: &mut State) {
        let mut steps = vec![step];
        while let Some(step) = steps.pop() {
            match self.steps[step as usize] {
                Step::Must(_) | Step::AddUnless(..) => state.open.push(step),
                Step::End => {}
                Step::Add(node) => {
                    steps.push(step + 1);
                    if self.is_new(node, state) {
                        steps.push(self.starts[node]);
                    }
                }
            }
        }
    }

    /// Outside cycles, whoever is demanded twice is so before its turn, and the state holds it once.
    fn is_new(&self, node: usize, state: &mut State) -> bool {
        if !self.cyclic[node] {
            return true;
        }
        let new = !state.seen.contains(&(node as u32));
        if new {
            state.seen.push(node as u32);
        }
        new
    }

    /// One form for equal states: sorted, once each, and without what nobody left could demand again.
    fn tidy(&self, state: &mut State) {
        state.open.sort_unstable();
        state.open.dedup();
        let rank = |node: u32| self.ranks[node as usize];
        let open = state.open.iter();
        let first = open.map(|&step| rank(self.node_of[step as usize])).min();
        state.seen.retain(|&node| first.is_some_and(|first| rank(node) >= first));
        state.seen.sort_unstable();
    }
}

/// Own variables first, then callees that are needed in any case, then the others as their turn comes.
fn steps_of(equation: &Equation) -> Option<Vec<Step>> {
    let mut steps: Vec<Step> = equation.own.iter().map(|&v| Step::Must(v)).collect();
    let mut guarded = Vec::new();
    for clause in &equation.clauses {
        match *clause {
            Clause::Needs { node, unless: None } => steps.push(Step::Add(node)),
            Clause::Needs { node, unless: Some(variable) } => guarded.push((variable, node)),
            Clause::AtLeast { .. } => return None,
        }
    }
    guarded.sort_unstable();
    steps.extend(guarded.into_iter().map(|(v, node)| Step::AddUnless(v, node)));
    steps.push(Step::End);
    Some(steps)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::equations::{Impact, Order};
    use crate::fixed_point::{Start, solve};
    use crate::structure::{Component, EdgeEffect, Structure, StructureBuilder};
    use proptest::prelude::*;

    fn plain(structure: &Structure, edge: usize) -> Impact {
        let ratio = structure.edge(edge).effect.impact_ratio;
        Impact::of(ratio, ratio)
    }

    proptest! {
        #[test]
        fn both_ways_give_the_same_probability(
            edges in prop::collection::vec((0..7_u32, 1..7_u32, prop_oneof![Just(1.0), 0.1..0.9_f64]), 0..18),
        ) {
            let mut builder = StructureBuilder::new();
            for node in 1..=7 {
                builder.add_component(0.03 * f64::from(node), false).unwrap();
            }
            for (caller, offset, impact) in edges {
                let callee = Component((caller + offset) % 7);
                builder.add_edge(Component(caller), callee, EdgeEffect::partial(impact)).unwrap();
            }
            let structure = builder.build();
            let root = Component(0);
            let impact = |edge| plain(&structure, edge);
            let system = System::compile(&structure, root, &impact, Order::CallersFirst);
            let ratio = |v: u32| system.variables[v as usize].failure_ratio;

            let mut down = Diagram::new(100_000);
            let from_root = Demand::of(&system).unwrap().expand(100_000).function_of(0, &mut down).unwrap();
            let mut up = Diagram::new(100_000);
            let schedule = Schedule::of(&system.steady, [0]);
            let conjoined = solve(&system.steady, &schedule, Start::AllUp, &mut up).unwrap()[0];

            let found = down.measure(from_root, ratio);
            let expected = up.measure(conjoined, ratio);
            let difference = found.down[from_root as usize] - expected.down[conjoined as usize];
            prop_assert!(difference.abs() < 1e-12, "{difference}");
            let count = system.variables.len();
            let found = down.birnbaum(from_root, &found, ratio, count);
            let expected = up.birnbaum(conjoined, &expected, ratio, count);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn groups_are_left_to_the_other_way() {
        let mut builder = StructureBuilder::new();
        let [root, one, two] = [0.1; 3].map(|q| builder.add_component(q, false).unwrap());
        builder.add_group(root, &[one, two], 1, None).unwrap();
        let structure = builder.build();
        let system = System::compile(&structure, root, &|edge| plain(&structure, edge), Order::CallersFirst);
        assert!(Demand::of(&system).is_none());
    }
}
