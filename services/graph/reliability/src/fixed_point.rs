//! Greatest and least solutions of monotone equations, over any algebra of truth values.

use crate::equations::{Clause, Equation};

/// Truth values in some representation: a decision diagram, or many sampled states at once.
pub(crate) trait Algebra {
    type Value: Copy + PartialEq;
    type Error;

    fn constant(&self, up: bool) -> Self::Value;
    fn variable(&mut self, variable: u32) -> Result<Self::Value, Self::Error>;
    fn and(&mut self, a: Self::Value, b: Self::Value) -> Result<Self::Value, Self::Error>;
    fn or(&mut self, a: Self::Value, b: Self::Value) -> Result<Self::Value, Self::Error>;

    /// Sorts operands so that conjoining them from the first to the last is cheapest.
    fn arrange(&self, _operands: &mut [Self::Value]) {}
}

/// Where the iteration starts, and hence which fixed point it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// All up: the greatest, the steady state.
    AllUp,
    /// All down: the least, what comes up from a cold start.
    AllDown,
}

/// Strongly connected components of equations, callees before callers.
pub(crate) struct Schedule(Vec<Vec<usize>>);

impl Schedule {
    /// Everything that the roots reach.
    pub(crate) fn of(equations: &[Equation], roots: impl IntoIterator<Item = usize>) -> Self {
        Self(strongly_connected(equations.len(), roots, |node| {
            let clauses = equations[node].clauses.iter();
            clauses.flat_map(Clause::nodes).copied().collect()
        }))
    }

    /// Whether there is a cycle: without one the two fixed points are the same.
    pub(crate) fn is_cyclic(&self) -> bool {
        self.0.iter().any(|members| members.len() > 1)
    }

    /// Strongly connected components, callees before callers.
    pub(crate) fn components(&self) -> &[Vec<usize>] {
        &self.0
    }

    /// The nodes that are solved.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().flatten().copied()
    }
}

/// Solves by Kleene iteration inside each strongly connected component, each value put to use at once.
///
/// From all up every step can only lower a value and from all down only raise it (the equations are monotone), and there
/// are finitely many functions, so the iteration ends, and at the greatest or least fixed point whatever the order of the
/// steps. Values of nodes outside the schedule stay at the start.
pub(crate) fn solve<A: Algebra>(
    equations: &[Equation],
    schedule: &Schedule,
    start: Start,
    algebra: &mut A,
) -> Result<Vec<A::Value>, A::Error> {
    let mut values = vec![algebra.constant(start == Start::AllUp); equations.len()];
    let mut operands = Vec::new();
    for members in &schedule.0 {
        solve_component(equations, members, &mut values, &mut operands, algebra)?;
    }
    Ok(values)
}

/// One strongly connected component, those below it solved and its own values at the start; `operands` is room to work in.
pub(crate) fn solve_component<A: Algebra>(
    equations: &[Equation],
    members: &[usize],
    values: &mut [A::Value],
    operands: &mut Vec<A::Value>,
    algebra: &mut A,
) -> Result<(), A::Error> {
    loop {
        let mut changed = false;
        for &node in members {
            let value = value_of(&equations[node], values, operands, algebra)?;
            changed |= value != values[node];
            values[node] = value;
        }
        if members.len() == 1 || !changed {
            return Ok(());
        }
    }
}

fn value_of<A: Algebra>(
    equation: &Equation,
    values: &[A::Value],
    operands: &mut Vec<A::Value>,
    algebra: &mut A,
) -> Result<A::Value, A::Error> {
    operands.clear();
    for &variable in &equation.own {
        operands.push(algebra.variable(variable)?);
    }
    for clause in &equation.clauses {
        operands.push(match clause {
            Clause::Needs { node, unless: None } => values[*node],
            Clause::Needs { node, unless: Some(variable) } => {
                let saved = algebra.variable(*variable)?;
                algebra.or(saved, values[*node])?
            }
            Clause::AtLeast { required, nodes } => {
                let members = nodes.iter().map(|&node| values[node]).collect();
                at_least(*required, members, algebra)?
            }
        });
    }
    algebra.arrange(operands);
    let mut all = algebra.constant(true);
    for &operand in operands.iter() {
        all = algebra.and(all, operand)?;
    }
    Ok(all)
}

/// At least `required` of the members, by dynamic programming over members: `t_j ← t_j ∨ (member ∧ t_{j−1})`.
fn at_least<A: Algebra>(required: usize, mut members: Vec<A::Value>, algebra: &mut A) -> Result<A::Value, A::Error> {
    algebra.arrange(&mut members);
    let mut reached = vec![algebra.constant(false); required + 1];
    reached[0] = algebra.constant(true);
    for (seen, &member) in members.iter().enumerate() {
        for count in (1..=required.min(seen + 1)).rev() {
            let with = algebra.and(member, reached[count - 1])?;
            reached[count] = algebra.or(reached[count], with)?;
        }
    }
    Ok(reached[required])
}

/// Tarjan's strongly connected components of what the roots reach, successors before predecessors, without recursion.
pub(crate) fn strongly_connected(
    node_count: usize,
    roots: impl IntoIterator<Item = usize>,
    successors: impl Fn(usize) -> Vec<usize>,
) -> Vec<Vec<usize>> {
    let mut search = Tarjan {
        index: vec![UNSEEN; node_count],
        low: vec![0; node_count],
        on_stack: vec![false; node_count],
        stack: Vec::new(),
        next: 0,
        found: Vec::new(),
    };
    for root in roots {
        if search.index[root] == UNSEEN {
            search.explore(root, &successors);
        }
    }
    search.found
}

const UNSEEN: usize = usize::MAX;

struct Tarjan {
    index: Vec<usize>,
    low: Vec<usize>,
    on_stack: Vec<bool>,
    stack: Vec<usize>,
    next: usize,
    found: Vec<Vec<usize>>,
}

impl Tarjan {
    fn explore(&mut self, root: usize, successors: &impl Fn(usize) -> Vec<usize>) {
        let mut calls = vec![(root, self.enter(root, successors))];
        while let Some((node, open)) = calls.last_mut() {
            let node = *node;
            match open.next() {
                Some(next) if self.index[next] == UNSEEN => {
                    let open = self.enter(next, successors);
                    calls.push((next, open));
                }
                Some(next) if self.on_stack[next] => {
                    self.low[node] = self.low[node].min(self.index[next]);
                }
                Some(_) => {}
                None => {
                    calls.pop();
                    if let Some(&(caller, _)) = calls.last() {
                        self.low[caller] = self.low[caller].min(self.low[node]);
                    }
                    self.leave(node);
                }
            }
        }
    }

    fn enter(&mut self, node: usize, successors: &impl Fn(usize) -> Vec<usize>) -> std::vec::IntoIter<usize> {
        self.index[node] = self.next;
        self.low[node] = self.next;
        self.next += 1;
        self.on_stack[node] = true;
        self.stack.push(node);
        successors(node).into_iter()
    }

    /// Takes a whole component off the stack when the node is the first that was seen of it.
    fn leave(&mut self, node: usize) {
        if self.low[node] != self.index[node] {
            return;
        }
        let start = self
            .stack
            .iter()
            .rposition(|&other| other == node)
            .expect("a node is on the stack until its component is complete");
        let members = self.stack.split_off(start);
        for &member in &members {
            self.on_stack[member] = false;
        }
        // Nodes seen last lie deepest: solving them first lets values travel a whole round in one pass.
        self.found.push(members.into_iter().rev().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn components(edges: &[(usize, usize)], count: usize) -> Vec<Vec<usize>> {
        strongly_connected(count, 0..count, |node| {
            let from_node = edges.iter().filter(|(from, _)| *from == node);
            from_node.map(|&(_, to)| to).collect()
        })
    }

    #[test]
    fn cycles_are_one_component_and_callees_come_first() {
        let edges = [(0, 1), (1, 2), (2, 1), (2, 3), (3, 4), (4, 3)];
        let found: Vec<Vec<usize>> = components(&edges, 5)
            .into_iter()
            .map(|mut members| {
                members.sort_unstable();
                members
            })
            .collect();
        assert_eq!(found, [vec![3, 4], vec![1, 2], vec![0]]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_needs_no_call_stack() {
        let count = 100_000;
        let found = strongly_connected(count, [0], |node| (node + 1 < count).then_some(node + 1).into_iter().collect());
        assert_eq!(found.len(), count);
        assert_eq!(found[0], [count - 1]);
    }
}
