//! Who is connected to whom, in both directions, as compressed sparse rows.

use petgraph::csr::Csr;

/// A node's position in a snapshot.
pub type NodeIndex = u32;
/// An edge's position in a snapshot.
pub type EdgeIndex = u32;

/// Edges of one kind between the nodes of a snapshot.
#[derive(Debug, Clone)]
pub struct Links {
    forward: Csr<(), EdgeIndex>,
    reverse: Csr<(), EdgeIndex>,
}

impl Links {
    /// Links between `node_count` nodes. `edges` names caller, callee and the edge's position, each pair once, sorted by
    /// caller and callee.
    #[must_use]
    pub fn new(node_count: usize, edges: &[(NodeIndex, NodeIndex, EdgeIndex)]) -> Self {
        let mut reversed: Vec<_> = edges.iter().map(|&(caller, callee, edge)| (callee, caller, edge)).collect();
        reversed.sort_unstable();
        Self { forward: rows(node_count, edges), reverse: rows(node_count, &reversed) }
    }

    /// Callers to callees, for algorithms on graphs.
    pub(crate) fn forward(&self) -> &Csr<(), EdgeIndex> {
        &self.forward
    }

    /// Number of nodes, unconnected ones included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.forward.node_count()
    }

    /// Whom the node calls, in lexical order.
    #[must_use]
    pub fn callees(&self, node: NodeIndex) -> &[NodeIndex] {
        self.forward.neighbors_slice(node)
    }

    /// Who calls the node, in lexical order.
    #[must_use]
    pub fn callers(&self, node: NodeIndex) -> &[NodeIndex] {
        self.reverse.neighbors_slice(node)
    }

    /// Positions of the edges to [`Self::callees`], in that order.
    #[must_use]
    pub fn out_edges(&self, node: NodeIndex) -> &[EdgeIndex] {
        self.forward.edges_slice(node)
    }

    /// Positions of the edges from [`Self::callers`], in that order.
    #[must_use]
    pub fn in_edges(&self, node: NodeIndex) -> &[EdgeIndex] {
        self.reverse.edges_slice(node)
    }
}

/// Who is met from the starts on, step by step, the starts included; by position.
pub(crate) fn reached<Steps: IntoIterator<Item = NodeIndex>>(
    node_count: usize,
    starts: impl IntoIterator<Item = NodeIndex>,
    steps: impl Fn(NodeIndex) -> Steps,
) -> Vec<bool> {
    let mut reached = vec![false; node_count];
    let mut open: Vec<NodeIndex> = starts.into_iter().collect();
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node as usize], true) {
            open.extend(steps(node));
        }
    }
    reached
}

/// Shortest walks to the nearest of several targets, of several walks the lexically first.
pub(crate) struct Routes<Callees> {
    callees: Callees,
    distances: Vec<Option<u32>>,
}

impl<'a, Callees: Fn(NodeIndex) -> &'a [NodeIndex]> Routes<Callees> {
    /// `callees` tells whom a node leads to, in lexical order.
    pub(crate) fn new(node_count: usize, callees: Callees, targets: &[NodeIndex]) -> Self {
        let mut callers = vec![Vec::new(); node_count];
        for node in 0..node_count as NodeIndex {
            callees(node).iter().for_each(|&callee| callers[callee as usize].push(node));
        }
        let mut distances = vec![None; node_count];
        let mut front = Vec::new();
        for &target in targets {
            if distances[target as usize].replace(0).is_none() {
                front.push(target);
            }
        }
        for distance in 1.. {
            let mut next = Vec::new();
            for &caller in front.iter().flat_map(|&node| &callers[node as usize]) {
                if distances[caller as usize].is_none() {
                    distances[caller as usize] = Some(distance);
                    next.push(caller);
                }
            }
            if next.is_empty() {
                break;
            }
            front = next;
        }
        Self { callees, distances }
    }

    /// Steps to the nearest target; `None` where none is reached.
    pub(crate) fn distance(&self, from: NodeIndex) -> Option<u32> {
        self.distances[from as usize]
    }

    /// The walk from a node to the nearest target, both included; empty where none is reached.
    pub(crate) fn path(&self, from: NodeIndex) -> Vec<NodeIndex> {
        let mut path = Vec::new();
        let mut next = self.distance(from).map(|_| from);
        while let Some(node) = next {
            path.push(node);
            next = match self.distance(node) {
                Some(left @ 1..) => {
                    let nearer = |callee: &NodeIndex| self.distance(*callee) == Some(left - 1);
                    (self.callees)(node).iter().copied().find(nearer)
                }
                _ => None,
            };
        }
        path
    }
}

fn rows(node_count: usize, edges: &[(NodeIndex, NodeIndex, EdgeIndex)]) -> Csr<(), EdgeIndex> {
    let mut rows = Csr::from_sorted_edges(edges).expect("the edges are sorted and each pair is named once");
    while rows.node_count() < node_count {
        rows.add_node(());
    }
    rows
}
