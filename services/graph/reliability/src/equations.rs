//! The part of a structure that a root reaches, as monotone equations over independent variables.

use crate::fixed_point::strongly_connected;
use crate::structure::{Component, Structure};
use std::collections::BTreeMap;

/// How variables are numbered, which decides the size of a decision diagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// By first use, each callee's part before its next sibling: linear for trees.
    DepthFirst,
    /// Every caller before its callees (cycles apart), an edge's fallback just before its callee: narrow for layered
    /// graphs whose layers share much.
    CallersFirst,
}

/// What a variable stands for; it is up with probability `1 − failure_ratio`, independently of all others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable {
    pub(crate) failure_ratio: f64,
    /// The same from a cold start, at least as great.
    pub(crate) cold_failure_ratio: f64,
    pub(crate) source: Source,
}

/// What a failed callee does to the request over one edge, its retries counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Impact {
    Nothing,
    Certain,
    /// Fails it with these probabilities: in the steady state, and from a cold start.
    Partial {
        steady: f64,
        cold: f64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Own(Component),
    CommonCause(usize),
    /// Whether a failed callee leaves the request unharmed on one edge.
    Fallback,
}

/// `W = (all own variables) ∧ (all clauses)`; without any, W is true.
#[derive(Debug, Clone, Default)]
pub(crate) struct Equation {
    pub(crate) own: Vec<u32>,
    pub(crate) clauses: Vec<Clause>,
}

#[derive(Debug, Clone)]
pub(crate) enum Clause {
    /// `W_node`, or else the variable.
    Needs { node: usize, unless: Option<u32> },
    /// At least `required` of the nodes; false when there are too few.
    AtLeast { required: usize, nodes: Vec<usize> },
}

/// Everything that deciding about one root takes. Node 0 is the root.
///
/// The root's availability is the product over `series` times the probability that `steady`'s root is up.
pub(crate) struct System {
    pub(crate) order: Order,
    pub(crate) variables: Vec<Variable>,
    /// Variables that the root cannot do without, in no other equation below.
    pub(crate) series: Vec<u32>,
    /// Given that all of `series` is up: equations whose greatest fixed point is wanted.
    pub(crate) steady: Vec<Equation>,
    /// Given the same: equations whose least fixed point is wanted.
    pub(crate) cold: Vec<Equation>,
}

impl Impact {
    /// `cold` is at least `steady`.
    pub(crate) fn of(steady: f64, cold: f64) -> Self {
        if cold <= 0.0 {
            Self::Nothing
        } else if steady >= 1.0 {
            Self::Certain
        } else {
            Self::Partial { steady, cold }
        }
    }

    /// Probability of failing a request in the steady state.
    pub(crate) fn steady(self) -> f64 {
        match self {
            Self::Nothing => 0.0,
            Self::Certain => 1.0,
            Self::Partial { steady, .. } => steady,
        }
    }
}

impl Clause {
    pub(crate) fn nodes(&self) -> &[usize] {
        match self {
            Self::Needs { node, .. } => std::slice::from_ref(node),
            Self::AtLeast { nodes, .. } => nodes,
        }
    }
}

impl System {
    /// `impact` is asked by the edge's index.
    pub(crate) fn compile(
        structure: &Structure,
        root: Component,
        impact: &dyn Fn(usize) -> Impact,
        order: Order,
    ) -> Self {
        let mut numbering = Numbering::new(structure, impact);
        numbering.reach(root, order);
        let full = numbering.equations();
        factor(order, numbering.variables, &full)
    }
}

/// Splits off what the root cannot do without. Sound for the greatest fixed point: where the root is up, so is every
/// component of its hard closure, hence their `W` may be replaced by true. For the least only their own variables may:
/// assuming their `W` would let a cycle start itself.
fn factor(order: Order, variables: Vec<Variable>, full: &[Equation]) -> System {
    let closure = hard_closure(full);
    let mut in_series = vec![false; variables.len()];
    for (equation, _) in full.iter().zip(&closure).filter(|(_, inside)| **inside) {
        for &variable in &equation.own {
            in_series[variable as usize] = true;
        }
    }
    let rest = |own: &[u32]| -> Vec<u32> {
        let outside = own.iter().filter(|&&v| !in_series[v as usize]);
        outside.copied().collect()
    };
    let mut steady: Vec<Equation> = full
        .iter()
        .map(|equation| Equation {
            own: rest(&equation.own),
            clauses: equation.clauses.iter().filter_map(|clause| given(clause, &closure)).collect(),
        })
        .collect();
    for node in (1..steady.len()).filter(|&node| closure[node]) {
        let clauses = std::mem::take(&mut steady[node].clauses);
        steady[0].clauses.extend(clauses);
    }
    let cold =
        full.iter().map(|equation| Equation { own: rest(&equation.own), clauses: equation.clauses.clone() }).collect();
    System {
        order,
        series: (0..variables.len() as u32).filter(|&v| in_series[v as usize]).collect(),
        variables,
        steady,
        cold,
    }
}

/// Nodes without which node 0 is down, whatever else is up: reached by unguarded clauses alone.
fn hard_closure(equations: &[Equation]) -> Vec<bool> {
    let mut inside = vec![false; equations.len()];
    inside[0] = true;
    let mut open = vec![0];
    while let Some(node) = open.pop() {
        for clause in &equations[node].clauses {
            if let Clause::Needs { node, unless: None } = *clause
                && !inside[node]
            {
                inside[node] = true;
                open.push(node);
            }
        }
    }
    inside
}

/// The clause where some nodes are known to be up; nothing when that settles it.
fn given(clause: &Clause, up: &[bool]) -> Option<Clause> {
    match clause {
        Clause::Needs { node, .. } if up[*node] => None,
        Clause::Needs { .. } => Some(clause.clone()),
        Clause::AtLeast { required, nodes } => {
            let open: Vec<usize> = nodes.iter().copied().filter(|&node| !up[node]).collect();
            let required = required.saturating_sub(nodes.len() - open.len());
            (required > 0).then_some(Clause::AtLeast { required, nodes: open })
        }
    }
}

/// Gives reached components their node and everything random its variable, in order of first use.
pub(crate) struct Numbering<'a> {
    structure: &'a Structure,
    impact: &'a dyn Fn(usize) -> Impact,
    node_of: Vec<Option<usize>>,
    components: Vec<Component>,
    own: Vec<u32>,
    guards: BTreeMap<usize, u32>,
    causes: BTreeMap<usize, u32>,
    pub(crate) variables: Vec<Variable>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Edge(usize),
    Cause(usize),
    Member(Component),
}

impl<'a> Numbering<'a> {
    /// `impact` is asked by the edge's index.
    pub(crate) fn new(structure: &'a Structure, impact: &'a dyn Fn(usize) -> Impact) -> Self {
        Self {
            structure,
            impact,
            node_of: vec![None; structure.component_count()],
            components: Vec::new(),
            own: Vec::new(),
            guards: BTreeMap::new(),
            causes: BTreeMap::new(),
            variables: Vec::new(),
        }
    }

    /// The node of a component that was reached.
    pub(crate) fn node_of(&self, component: Component) -> Option<usize> {
        self.node_of[component.index()]
    }

    /// The component of a node.
    pub(crate) fn component_of(&self, node: usize) -> Component {
        self.components[node]
    }

    /// The variable of an edge that may leave the request unharmed.
    pub(crate) fn guard_of(&self, edge: usize) -> Option<u32> {
        self.guards.get(&edge).copied()
    }

    pub(crate) fn reach(&mut self, root: Component, order: Order) {
        match order {
            Order::DepthFirst => self.depth_first(root),
            Order::CallersFirst => self.callers_first(root),
        }
    }

    pub(crate) fn depth_first(&mut self, root: Component) {
        if self.node_of(root).is_some() {
            return;
        }
        let mut open = vec![self.enter(root)];
        while let Some(steps) = open.last_mut() {
            let Some(step) = steps.next() else {
                open.pop();
                continue;
            };
            self.number(&step);
            if let Some(callee) = self.callee(&step)
                && self.node_of(callee).is_none()
            {
                let steps = self.enter(callee);
                open.push(steps);
            }
        }
    }

    fn callers_first(&mut self, root: Component) {
        let count = self.structure.component_count();
        let callees_first = strongly_connected(count, [root.index()], |node| {
            let steps = self.steps(Component(node as u32));
            let callees = steps.iter().filter_map(|step| self.callee(step));
            callees.map(Component::index).collect()
        });
        let order = callees_first.into_iter().flatten().rev();
        let mut incoming = vec![Vec::new(); count];
        for component in order.map(|node| Component(node as u32)) {
            for step in incoming[component.index()].iter() {
                self.number(step);
            }
            for step in self.enter(component) {
                match (&step, self.callee(&step)) {
                    (Step::Edge(_), Some(callee)) if self.node_of(callee).is_none() => {
                        incoming[callee.index()].push(step);
                    }
                    _ => self.number(&step),
                }
            }
        }
    }

    fn enter(&mut self, component: Component) -> std::vec::IntoIter<Step> {
        let structure = self.structure;
        self.node_of[component.index()] = Some(self.components.len());
        self.components.push(component);
        let failure_ratio = structure.own(component).failure_ratio;
        let own = self.variable(failure_ratio, failure_ratio, Source::Own(component));
        self.own.push(own);
        self.steps(component).into_iter()
    }

    fn steps(&self, component: Component) -> Vec<Step> {
        let edges = self.structure.edges_of(component);
        let mut steps: Vec<Step> = edges.map(Step::Edge).collect();
        for group in self.structure.groups_of(component) {
            steps.extend(group.cause.map(Step::Cause));
            steps.extend(group.members.iter().copied().map(Step::Member));
        }
        steps
    }

    /// Whom the step leads to.
    fn callee(&self, step: &Step) -> Option<Component> {
        match *step {
            Step::Edge(edge) => {
                let callee = self.structure.edge(edge).callee;
                ((self.impact)(edge) != Impact::Nothing).then_some(callee)
            }
            Step::Cause(_) => None,
            Step::Member(member) => Some(member),
        }
    }

    /// Numbers what the step makes random.
    fn number(&mut self, step: &Step) {
        match *step {
            Step::Edge(edge) => {
                if let Impact::Partial { steady, cold } = (self.impact)(edge) {
                    let guard = self.variable(steady, cold, Source::Fallback);
                    self.guards.insert(edge, guard);
                }
            }
            Step::Cause(cause) if !self.causes.contains_key(&cause) => {
                let failure_ratio = self.structure.cause(cause).failure_ratio;
                let variable = self.variable(failure_ratio, failure_ratio, Source::CommonCause(cause));
                self.causes.insert(cause, variable);
            }
            Step::Cause(_) | Step::Member(_) => {}
        }
    }

    fn variable(&mut self, failure_ratio: f64, cold_failure_ratio: f64, source: Source) -> u32 {
        self.variables.push(Variable { failure_ratio, cold_failure_ratio, source });
        (self.variables.len() - 1) as u32
    }

    /// One equation a node, in the order in which they were reached.
    pub(crate) fn equations(&self) -> Vec<Equation> {
        (0..self.components.len()).map(|node| self.equation(node)).collect()
    }

    fn equation(&self, node: usize) -> Equation {
        let component = self.components[node];
        let mut equation = Equation { own: vec![self.own[node]], clauses: Vec::new() };
        for edge in self.structure.edges_of(component) {
            if let Some(node) = self.node_of(self.structure.edge(edge).callee)
                && (self.impact)(edge) != Impact::Nothing
            {
                let unless = self.guards.get(&edge).copied();
                equation.clauses.push(Clause::Needs { node, unless });
            }
        }
        for group in self.structure.groups_of(component) {
            let members = group.members.iter();
            let nodes: Vec<usize> = members.filter_map(|&member| self.node_of(member)).collect();
            if group.required == nodes.len() {
                let needs = |node| Clause::Needs { node, unless: None };
                equation.clauses.extend(nodes.into_iter().map(needs));
            } else {
                equation.clauses.push(Clause::AtLeast { required: group.required, nodes });
            }
            if let Some(variable) = group.cause.and_then(|cause| self.causes.get(&cause)) {
                equation.own.push(*variable);
            }
        }
        equation.own.sort_unstable();
        equation.own.dedup();
        equation
    }
}
