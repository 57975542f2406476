//! What all ways lead through: dominators below a service, and whether it holds its surroundings together.

use petgraph::algo::dominators::simple_fast;

use super::links::{Links, NodeIndex};

/// A component that every call chain from the service to those behind it passes through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChokePoint {
    /// The component.
    pub node: NodeIndex,
    /// How many are behind it.
    pub behind_count: u32,
}

/// Dominators below a service other than itself, the one with most behind it first, then in lexical order.
#[must_use]
pub fn choke_points(links: &Links, service: NodeIndex) -> Vec<ChokePoint> {
    let dominators = simple_fast(links.forward(), service);
    let nodes = 0..links.node_count() as NodeIndex;
    let above: Vec<Option<NodeIndex>> = nodes.map(|node| dominators.immediate_dominator(node)).collect();
    let mut children = vec![0_u32; above.len()];
    above.iter().flatten().for_each(|&node| children[node as usize] += 1);
    // From the leaves of the tree of dominators up: whoever has no child left hands over what is behind it.
    let mut behind = vec![0_u32; above.len()];
    let mut leaves: Vec<NodeIndex> = (0..).zip(&children).filter(|(_, count)| **count == 0).map(|(n, _)| n).collect();
    while let Some(node) = leaves.pop() {
        if let Some(parent) = above[node as usize] {
            behind[parent as usize] += behind[node as usize] + 1;
            children[parent as usize] -= 1;
            if children[parent as usize] == 0 {
                leaves.push(parent);
            }
        }
    }
    let others = (0..).zip(behind).filter(|&(node, behind_count)| node != service && behind_count > 0);
    let mut points: Vec<ChokePoint> = others.map(|(node, behind_count)| ChokePoint { node, behind_count }).collect();
    points.sort_by_key(|point| (std::cmp::Reverse(point.behind_count), point.node));
    points
}

/// How many services connected to this one, edges read in both directions, are cut off from the largest part of them when it
/// is taken out; 0 where it is no articulation point.
#[must_use]
pub fn separated_count(links: &Links, service: NodeIndex) -> u32 {
    let mut seen = vec![false; links.node_count()];
    seen[service as usize] = true;
    let mut parts = Vec::new();
    for &start in neighbours(links, service) {
        if std::mem::replace(&mut seen[start as usize], true) {
            continue;
        }
        let mut open = vec![start];
        let mut count = 0;
        while let Some(node) = open.pop() {
            count += 1;
            for &next in neighbours(links, node) {
                if !std::mem::replace(&mut seen[next as usize], true) {
                    open.push(next);
                }
            }
        }
        parts.push(count);
    }
    parts.iter().sum::<u32>() - parts.iter().max().copied().unwrap_or_default()
}

fn neighbours(links: &Links, node: NodeIndex) -> impl Iterator<Item = &NodeIndex> {
    links.callees(node).iter().chain(links.callers(node))
}
