//! Reduced ordered binary decision diagrams (Bryant 1986; for reliability Rauzy 1993), hash-consed, with a limit.
//!
//! A node means "if its variable is up then `high`, else `low`". Equal functions are the same node, so comparing two is
//! comparing indices, and children always have smaller indices than parents, so one pass over the indices is a pass from
//! the leaves to the root.

use crate::fixed_point::Algebra;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A function: the index of its node.
pub(crate) type Function = u32;

pub(crate) const FALSE: Function = 0;
pub(crate) const TRUE: Function = 1;
const TERMINAL: u32 = u32::MAX;

/// Steps of conjunction and disjunction allowed for each node of the limit. Functions of one shape need 2 to 10 a node;
/// beyond this the time would go into nodes that are thrown away.
const STEPS_PER_NODE: usize = 64;

/// Remembered operations for each node of the limit; past it they are forgotten, which costs time and no correctness.
/// With the unique table that makes about 150 bytes a node.
const MEMO_PER_NODE: usize = 4;

/// The diagram would outgrow its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitExceeded;

/// All nodes of all functions built so far.
pub(crate) struct Diagram {
    nodes: Vec<Node>,
    unique: HashMap<Node, Function, BuildHasherDefault<Mix>>,
    memo: HashMap<(Operation, Function, Function), Function, BuildHasherDefault<Mix>>,
    nodes_max: usize,
    steps_left: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) variable: u32,
    pub(crate) low: Function,
    pub(crate) high: Function,
}

/// Probability of being up and of being down for every node up to a root. Both are sums of products of positive numbers,
/// so neither loses digits, however close the other is to 1.
pub(crate) struct Measures {
    pub(crate) up: Vec<f64>,
    pub(crate) down: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    And,
    Or,
}

enum Task {
    Visit(Function, Function),
    Join(u32, Function, Function),
}

impl Diagram {
    /// An empty diagram that refuses to hold more than about `nodes_max` nodes, intermediate ones included.
    pub(crate) fn new(nodes_max: usize) -> Self {
        let terminal = |value| Node { variable: TERMINAL, low: value, high: value };
        Self {
            nodes: vec![terminal(FALSE), terminal(TRUE)],
            unique: HashMap::default(),
            memo: HashMap::default(),
            nodes_max: nodes_max.min(u32::MAX as usize - 2),
            steps_left: nodes_max.saturating_mul(STEPS_PER_NODE),
        }
    }

    /// The node of a function that is not constant.
    pub(crate) fn node(&self, function: Function) -> Option<Node> {
        let node = self.nodes[function as usize];
        (node.variable != TERMINAL).then_some(node)
    }

    /// Probabilities of every node up to `root`, each variable down with its failure ratio.
    pub(crate) fn measure(&self, root: Function, failure_ratio: impl Fn(u32) -> f64) -> Measures {
        let mut measures = Measures::default();
        self.measure_on(&mut measures, root as usize + 1, failure_ratio);
        measures
    }

    /// Goes on to the first `node_count` nodes.
    pub(crate) fn measure_on(&self, to: &mut Measures, node_count: usize, failure_ratio: impl Fn(u32) -> f64) {
        for node in self.nodes.iter().take(node_count).skip(to.up.len()) {
            let q = failure_ratio(node.variable);
            let weigh = |of: &[f64]| (1.0 - q) * of[node.high as usize] + q * of[node.low as usize];
            to.up.push(weigh(&to.up));
            to.down.push(weigh(&to.down));
        }
    }

    /// Nodes so far, constants included.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// `P(f | variable up) − P(f | variable down)` for all variables in one pass from the root to the leaves: a node's
    /// share is the probability of arriving at it times the difference between its children.
    pub(crate) fn birnbaum(
        &self,
        root: Function,
        measures: &Measures,
        failure_ratio: impl Fn(u32) -> f64,
        variable_count: usize,
    ) -> Vec<f64> {
        let mut importance = vec![0.0; variable_count];
        let mut arrival = vec![0.0; root as usize + 2];
        arrival[root as usize] = 1.0;
        for function in (2..=root).rev() {
            let here = arrival[function as usize];
            if here == 0.0 {
                continue;
            }
            let node = self.nodes[function as usize];
            let q = failure_ratio(node.variable);
            arrival[node.high as usize] += (1.0 - q) * here;
            arrival[node.low as usize] += q * here;
            importance[node.variable as usize] += here * measures.gain(node);
        }
        importance
    }

    /// The function "if the variable is up then `high`, else `low`".
    ///
    /// Below, the variable must not occur again. With [`Algebra`]'s operations all functions must also keep one order of
    /// variables; measures, importances and minimal sets do not need it.
    pub(crate) fn make(&mut self, node: Node) -> Result<Function, LimitExceeded> {
        if node.low == node.high {
            return Ok(node.low);
        }
        if let Some(&function) = self.unique.get(&node) {
            return Ok(function);
        }
        if self.nodes.len() >= self.nodes_max {
            return Err(LimitExceeded);
        }
        let function = self.nodes.len() as Function;
        self.nodes.push(node);
        self.unique.insert(node, function);
        Ok(function)
    }

    /// Bryant's apply with a stack of its own: a diagram is as deep as it has variables.
    fn apply(&mut self, operation: Operation, a: Function, b: Function) -> Result<Function, LimitExceeded> {
        let mut tasks = vec![Task::Visit(a, b)];
        let mut results: Vec<Function> = Vec::new();
        while let Some(task) = tasks.pop() {
            self.steps_left = self.steps_left.checked_sub(1).ok_or(LimitExceeded)?;
            match task {
                Task::Visit(a, b) => {
                    let (a, b) = (a.min(b), a.max(b));
                    if let Some(known) = self.known(operation, a, b) {
                        results.push(known);
                        continue;
                    }
                    let (left, right) = (self.nodes[a as usize], self.nodes[b as usize]);
                    let variable = left.variable.min(right.variable);
                    let (a_low, a_high) = left.split(variable, a);
                    let (b_low, b_high) = right.split(variable, b);
                    tasks.push(Task::Join(variable, a, b));
                    tasks.push(Task::Visit(a_low, b_low));
                    tasks.push(Task::Visit(a_high, b_high));
                }
                Task::Join(variable, a, b) => {
                    // The high branch was pushed last, hence done first and lies below.
                    let (low, high) = (results.pop(), results.pop());
                    let (Some(low), Some(high)) = (low, high) else {
                        unreachable!("both branches are done before they are joined");
                    };
                    let joined = self.make(Node { variable, low, high })?;
                    if self.memo.len() >= self.nodes_max.saturating_mul(MEMO_PER_NODE) {
                        self.memo.clear();
                    }
                    self.memo.insert((operation, a, b), joined);
                    results.push(joined);
                }
            }
        }
        Ok(results.pop().expect("every task leaves one result"))
    }

    /// The result where it takes no work; `a ≤ b`.
    fn known(&self, operation: Operation, a: Function, b: Function) -> Option<Function> {
        if a == b {
            return Some(a);
        }
        match (operation, a) {
            (Operation::And, FALSE) => Some(FALSE),
            (Operation::And, TRUE) => Some(b),
            (Operation::Or, FALSE) => Some(b),
            (Operation::Or, TRUE) => Some(TRUE),
            // Constants are the smallest functions, so where `a` is none, `b` is none.
            _ => self.memo.get(&(operation, a, b)).copied(),
        }
    }
}

impl Node {
    fn split(self, variable: u32, function: Function) -> (Function, Function) {
        if self.variable == variable { (self.low, self.high) } else { (function, function) }
    }
}

impl Default for Measures {
    /// Of the constants.
    fn default() -> Self {
        Self { up: vec![0.0, 1.0], down: vec![1.0, 0.0] }
    }
}

impl Measures {
    /// Forgets all but the first nodes.
    pub(crate) fn truncate(&mut self, node_count: usize) {
        self.up.truncate(node_count);
        self.down.truncate(node_count);
    }

    /// Difference between a node's children, from whichever side has the smaller numbers.
    fn gain(&self, node: Node) -> f64 {
        let (low, high) = (node.low as usize, node.high as usize);
        let gain = if self.up[high] < self.down[low] {
            self.up[high] - self.up[low]
        } else {
            self.down[low] - self.down[high]
        };
        gain.max(0.0)
    }
}

impl Algebra for Diagram {
    type Value = Function;
    type Error = LimitExceeded;

    fn constant(&self, up: bool) -> Function {
        if up { TRUE } else { FALSE }
    }

    fn variable(&mut self, variable: u32) -> Result<Function, LimitExceeded> {
        self.make(Node { variable, low: FALSE, high: TRUE })
    }

    fn and(&mut self, a: Function, b: Function) -> Result<Function, LimitExceeded> {
        self.apply(Operation::And, a, b)
    }

    fn or(&mut self, a: Function, b: Function) -> Result<Function, LimitExceeded> {
        self.apply(Operation::Or, a, b)
    }

    /// Lowest in the order first: a conjunction then walks each operand once instead of the growing whole.
    fn arrange(&self, operands: &mut [Function]) {
        operands.sort_by_key(|&function| {
            let variable = self.nodes[function as usize].variable;
            (std::cmp::Reverse(variable), function)
        });
    }
}

/// Multiplicative mixing of small integers, after Firefox's hash: keys are our own indices, so a keyed hash would buy
/// nothing, and diagrams spend most of their time here.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn equal_functions_are_the_same_node() {
        let mut diagram = Diagram::new(100);
        let [x, y, z] = [0, 1, 2].map(|v| diagram.variable(v).unwrap());
        let xy = diagram.and(x, y).unwrap();
        let left = diagram.or(xy, z).unwrap();
        let xz = diagram.or(z, x).unwrap();
        let yz = diagram.or(y, z).unwrap();
        let right = diagram.and(yz, xz).unwrap();
        assert_eq!(left, right);
    }

    #[test]
    fn tiny_failure_ratios_keep_their_digits() {
        let mut diagram = Diagram::new(100);
        let [x, y] = [0, 1].map(|v| diagram.variable(v).unwrap());
        let either = diagram.or(x, y).unwrap();
        let measures = diagram.measure(either, |_| 1e-9);
        let down = measures.down[either as usize];
        assert!((down / 1e-18 - 1.0).abs() < 1e-12, "{down}");
        let importance = diagram.birnbaum(either, &measures, |_| 1e-9, 2);
        assert!((importance[0] / 1e-9 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_diagram_past_its_limit_says_so() {
        let mut diagram = Diagram::new(6);
        let mut all = diagram.constant(true);
        let grown = (0..10).try_for_each(|v| {
            let variable = diagram.variable(v)?;
            all = diagram.and(all, variable)?;
            Ok(())
        });
        assert_eq!(grown, Err(LimitExceeded));
    }
}
