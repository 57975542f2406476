//! Through whom call chains lead: betweenness centrality over shortest walks (Freeman 1977), by the accumulation of Brandes (2001).

use std::collections::VecDeque;

use super::links::{Links, NodeIndex};

/// Nodes up to which every node is a source.
pub const EXACT_NODES_MAX: usize = 5_000;
/// Sources of an estimate (Brandes and Pich 2007).
const SOURCES: usize = 256;
const UNREACHED: u32 = u32::MAX;

/// Betweenness of every node.
#[derive(Debug, Clone, PartialEq)]
pub struct Betweenness {
    /// Share of the pairs of other nodes, one of which reaches the other, whose shortest walks lead through the node, in `[0, 1]`;
    /// where there are several shortest walks, the share of them. By node.
    pub ratios: Vec<f64>,
    /// Whether only some nodes were taken as beginnings of walks.
    pub sampled: bool,
}

/// Betweenness over these links; nothing where `give_up` said so.
#[must_use]
pub fn betweenness(links: &Links, give_up: &dyn Fn() -> bool) -> Option<Betweenness> {
    let count = links.node_count();
    let sampled = count > EXACT_NODES_MAX;
    let step = if sampled { count.div_ceil(SOURCES) } else { 1 };
    let mut search = Search::new(count);
    let (mut through, mut reached_by, mut pairs) = (vec![0.0; count], vec![0_u64; count], 0_u64);
    let mut begins = vec![0_u64; count];
    for source in (0..count).step_by(step) {
        if give_up() {
            return None;
        }
        let reached = search.from(links, source as NodeIndex, &mut through, &mut reached_by);
        begins[source] = reached;
        pairs += reached;
    }
    // A node is no inner part of walks that begin or end at it.
    let inner = |node: usize| pairs - begins[node] - reached_by[node];
    let ratio = |node: usize| if inner(node) == 0 { 0.0 } else { through[node] / inner(node) as f64 };
    Some(Betweenness { ratios: (0..count).map(ratio).collect(), sampled })
}

/// One breadth-first search after the other, over the same memory.
struct Search {
    distance: Vec<u32>,
    walk_count: Vec<f64>,
    dependent: Vec<f64>,
    order: Vec<NodeIndex>,
    open: VecDeque<NodeIndex>,
}

impl Search {
    fn new(count: usize) -> Self {
        Self {
            distance: vec![UNREACHED; count],
            walk_count: vec![0.0; count],
            dependent: vec![0.0; count],
            order: Vec::new(),
            open: VecDeque::new(),
        }
    }

    /// Adds the walks from one source; how many others it reaches.
    fn from(&mut self, links: &Links, source: NodeIndex, through: &mut [f64], reached_by: &mut [u64]) -> u64 {
        self.reach(links, source);
        for &node in self.order.iter().rev() {
            let at = node as usize;
            for &callee in links.callees(node) {
                let below = callee as usize;
                if self.distance[below] == self.distance[at] + 1 {
                    self.dependent[at] += self.walk_count[at] / self.walk_count[below] * (1.0 + self.dependent[below]);
                }
            }
            if node != source {
                through[at] += self.dependent[at];
                reached_by[at] += 1;
            }
        }
        let reached = self.order.len() as u64 - 1;
        for node in self.order.drain(..) {
            self.distance[node as usize] = UNREACHED;
            self.walk_count[node as usize] = 0.0;
            self.dependent[node as usize] = 0.0;
        }
        reached
    }

    fn reach(&mut self, links: &Links, source: NodeIndex) {
        self.distance[source as usize] = 0;
        self.walk_count[source as usize] = 1.0;
        self.open.push_back(source);
        while let Some(node) = self.open.pop_front() {
            self.order.push(node);
            let (next, walks) = (self.distance[node as usize] + 1, self.walk_count[node as usize]);
            for &callee in links.callees(node) {
                let at = callee as usize;
                if self.distance[at] == UNREACHED {
                    self.distance[at] = next;
                    self.open.push_back(callee);
                }
                if self.distance[at] == next {
                    self.walk_count[at] += walks;
                }
            }
        }
    }
}
