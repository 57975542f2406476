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

fn rows(node_count: usize, edges: &[(NodeIndex, NodeIndex, EdgeIndex)]) -> Csr<(), EdgeIndex> {
    let mut rows = Csr::from_sorted_edges(edges).expect("the edges are sorted and each pair is named once");
    while rows.node_count() < node_count {
        rows.add_node(());
    }
    rows
}
