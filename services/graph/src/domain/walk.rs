//! The neighbourhood of a node, breadth first and bounded.

use std::collections::BTreeMap;

use super::links::{EdgeIndex, Links, NodeIndex};
use super::snapshot::Snapshot;

/// Which way to walk, and by which way a node was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heading {
    /// Towards what the node needs.
    Downstream,
    /// Towards who needs the node.
    Upstream,
    /// Both ways, each kept to its own direction: callers of what is needed are no part of it.
    Both,
}

/// How much a walk may return.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Nodes, the start included.
    pub nodes_max: usize,
    /// Edges.
    pub edges_max: usize,
}

/// A node that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// The node.
    pub node: NodeIndex,
    /// Edges on the shortest walk.
    pub distance: u32,
    /// By which way; `None` for the start, both where it is reached either way.
    pub heading: Option<Heading>,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbourhood {
    /// By distance, then in lexical order; the start first.
    pub reached: Vec<Reached>,
    /// Every edge between the nodes reached, in lexical order.
    pub edges: Vec<EdgeIndex>,
    /// Whether a bound cut something off.
    pub truncated: bool,
}

/// Walks every edge, asynchronous ones included, at most `depth` far.
#[must_use]
pub fn walk(
    snapshot: &Snapshot,
    start: NodeIndex,
    heading: Heading,
    depth: Option<u32>,
    bounds: Bounds,
) -> Neighbourhood {
    let links = snapshot.all();
    let mut walk = Walk::from(start, bounds.nodes_max);
    let mut down = Front::new(links, start, heading != Heading::Upstream);
    let mut up = Front::new(links, start, heading != Heading::Downstream);
    let mut distance = 0;
    while !walk.truncated && depth.is_none_or(|depth| distance < depth) && (down.is_open() || up.is_open()) {
        distance += 1;
        let mut level = BTreeMap::new();
        for node in down.advance(Links::callees) {
            level.insert(node, Heading::Downstream);
        }
        for node in up.advance(Links::callers) {
            level.entry(node).and_modify(|heading| *heading = Heading::Both).or_insert(Heading::Upstream);
        }
        walk.take(distance, level);
    }
    walk.finish(links, bounds.edges_max)
}

/// One direction of a walk: the nodes at the present distance.
struct Front<'a> {
    links: &'a Links,
    nodes: Vec<NodeIndex>,
    seen: Vec<bool>,
}

impl<'a> Front<'a> {
    fn new(links: &'a Links, start: NodeIndex, open: bool) -> Self {
        let mut seen = vec![false; links.node_count()];
        seen[start as usize] = true;
        Self { links, nodes: if open { vec![start] } else { Vec::new() }, seen }
    }

    fn is_open(&self) -> bool {
        !self.nodes.is_empty()
    }

    /// One step; returns the nodes that are new to this direction.
    fn advance(&mut self, neighbours: impl Fn(&Links, NodeIndex) -> &[NodeIndex]) -> Vec<NodeIndex> {
        let mut next = Vec::new();
        for &node in &self.nodes {
            for &neighbour in neighbours(self.links, node) {
                if !std::mem::replace(&mut self.seen[neighbour as usize], true) {
                    next.push(neighbour);
                }
            }
        }
        self.nodes.clone_from(&next);
        next
    }
}

struct Walk {
    reached: Vec<Reached>,
    position: BTreeMap<NodeIndex, usize>,
    nodes_max: usize,
    truncated: bool,
}

impl Walk {
    fn from(start: NodeIndex, nodes_max: usize) -> Self {
        let first = Reached { node: start, distance: 0, heading: None };
        Self { reached: vec![first], position: BTreeMap::from([(start, 0)]), nodes_max, truncated: false }
    }

    fn take(&mut self, distance: u32, level: BTreeMap<NodeIndex, Heading>) {
        for (node, heading) in level {
            if let Some(&position) = self.position.get(&node) {
                // Reached the other way before.
                self.reached[position].heading = Some(Heading::Both);
            } else if self.reached.len() < self.nodes_max {
                self.position.insert(node, self.reached.len());
                self.reached.push(Reached { node, distance, heading: Some(heading) });
            } else {
                self.truncated = true;
            }
        }
    }

    fn finish(self, links: &Links, edges_max: usize) -> Neighbourhood {
        let mut edges = Vec::new();
        for &node in self.position.keys() {
            let out = links.callees(node).iter().zip(links.out_edges(node));
            edges.extend(out.filter(|(callee, _)| self.position.contains_key(callee)).map(|(_, &edge)| edge));
        }
        let truncated = self.truncated || edges.len() > edges_max;
        edges.truncate(edges_max);
        Neighbourhood { reached: self.reached, edges, truncated }
    }
}
