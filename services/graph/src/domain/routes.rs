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
        for left in (0..distance).rev() {
            let mut callees = callees(node).iter();
            node = *callees
                .find(|&&callee| self.0[callee as usize] == left)
                .expect("a distance comes from a nearer callee");
            path.push(node);
        }
        path
    }
}
