//! Shortest walks to the nearest of some nodes.

use super::links::NodeIndex;

/// How far everybody is from the nearest target.
#[derive(Debug, Clone)]
pub struct Routes(Vec<u32>);

/// No distance.
pub const NO_WAY: u32 = u32::MAX;

impl Routes {
    /// Every walk goes from callers to callees; `callers` tells who calls a node.
    #[must_use]
    pub fn to<'a>(node_count: usize, targets: &[NodeIndex], callers: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Self {
        let mut distances = vec![NO_WAY; node_count];
        targets.iter().for_each(|&target| distances[target as usize] = 0);
        let mut met = targets.to_vec();
        let mut next = 0;
        while let Some(&node) = met.get(next) {
            next += 1;
            let distance = distances[node as usize] + 1;
            for &caller in callers(node) {
                if distances[caller as usize] == NO_WAY {
                    distances[caller as usize] = distance;
                    met.push(caller);
                }
            }
        }
        Self(distances)
    }

    /// Of distances that are known, by node; [`NO_WAY`] where no walk leads.
    #[must_use]
    pub fn known(distances: Vec<u32>) -> Self {
        Self(distances)
    }

    /// Edges on the shortest walk from a node to a target; nothing where there is none.
    #[must_use]
    pub fn distance(&self, from: NodeIndex) -> Option<u32> {
        Some(self.0[from as usize]).filter(|&distance| distance != NO_WAY)
    }

    /// The shortest walk from a node to a target, both included, of several the lexically first; empty where there is none.
    #[must_use]
    pub fn path<'a>(&self, from: NodeIndex, callees: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Vec<NodeIndex> {
        let Some(distance) = self.distance(from) else { return Vec::new() };
        let mut path = Vec::with_capacity(distance as usize + 1);
        path.push(from);
        let mut node = from;
        for _ in 0..distance {
            node = self.step(node, callees(node));
            path.push(node);
        }
        path
    }

    /// The paths from several nodes, in their order. Many lead over the same nodes, from each of which the next is looked for
    /// once; and for all nodes of a round before those they lead to, as one search need not wait for what another reads.
    #[must_use]
    pub fn paths<'a>(&self, from: &[NodeIndex], callees: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Vec<Vec<NodeIndex>> {
        const UNKNOWN: NodeIndex = NodeIndex::MAX;
        let mut next = vec![UNKNOWN; self.0.len()];
        let is_on_the_way = |node: &NodeIndex| !matches!(self.0[*node as usize], 0 | NO_WAY);
        let mut open: Vec<NodeIndex> = from.iter().copied().filter(is_on_the_way).collect();
        while !open.is_empty() {
            open.retain_mut(|node| {
                let known = &mut next[*node as usize];
                let is_new = *known == UNKNOWN;
                if is_new {
                    *known = self.step(*node, callees(*node));
                    *node = *known;
                }
                is_new && is_on_the_way(node)
            });
        }
        let path = |&start: &NodeIndex| {
            let Some(distance) = self.distance(start) else { return Vec::new() };
            let mut path = Vec::with_capacity(distance as usize + 1);
            path.push(start);
            path.extend((0..distance).scan(start, |node, _| {
                *node = next[*node as usize];
                Some(*node)
            }));
            path
        };
        from.iter().map(path).collect()
    }

    /// The next node on the way from one that is not a target itself and has one.
    fn step(&self, node: NodeIndex, callees: &[NodeIndex]) -> NodeIndex {
        let left = self.0[node as usize] - 1;
        *callees.iter().find(|&&callee| self.0[callee as usize] == left).expect("a distance comes from a nearer callee")
    }
}
