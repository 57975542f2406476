//! Strongly connected components, and which of them cannot start from cold.

use super::links::{Links, NodeIndex};
use super::needs::Needs;

/// A strongly connected component of more than one node, over every edge: asynchronous ones close a cycle too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Members in lexical order.
    pub members: Vec<NodeIndex>,
    /// Whether hard edges alone close a cycle among the members: then nothing in it starts from cold by itself.
    pub bootstrap_hazard: bool,
}

/// Every strongly connected component, single nodes included, callees before callers; members in lexical order.
#[must_use]
pub fn strongly_connected(links: &Links) -> Vec<Vec<NodeIndex>> {
    tarjan(links.node_count(), |node| links.callees(node))
}

/// Cycles by their first members.
#[must_use]
pub fn cycles(all: &Links, needs: &Needs) -> Vec<Cycle> {
    let mut cycles: Vec<Cycle> = strongly_connected(all)
        .into_iter()
        .filter(|members| members.len() > 1)
        .map(|members| Cycle { bootstrap_hazard: is_hazard(&members, needs), members })
        .collect();
    cycles.sort_unstable_by(|a, b| a.members.cmp(&b.members));
    cycles
}

fn is_hazard(members: &[NodeIndex], needs: &Needs) -> bool {
    let local = |node: NodeIndex| members.binary_search(&node).ok().map(|position| position as NodeIndex);
    let hard: Vec<Vec<NodeIndex>> =
        members.iter().map(|&member| needs.hard_callees(member).filter_map(local).collect()).collect();
    let components = tarjan(members.len(), |node| &hard[node as usize]);
    components.iter().any(|component| component.len() > 1)
}

const UNSEEN: u32 = u32::MAX;

/// Tarjan 1972, with a stack of its own: a long chain must not overflow the thread's.
fn tarjan<'a>(node_count: usize, successors: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Vec<Vec<NodeIndex>> {
    let mut search = Search {
        order: vec![UNSEEN; node_count],
        lowest: vec![UNSEEN; node_count],
        open: vec![false; node_count],
        path: Vec::new(),
        seen_count: 0,
        components: Vec::new(),
    };
    for root in 0..node_count as NodeIndex {
        if search.order[root as usize] == UNSEEN {
            search.from(root, &successors);
        }
    }
    search.components
}

struct Search {
    order: Vec<u32>,
    lowest: Vec<u32>,
    open: Vec<bool>,
    path: Vec<NodeIndex>,
    seen_count: u32,
    components: Vec<Vec<NodeIndex>>,
}

impl Search {
    fn from<'a>(&mut self, root: NodeIndex, successors: &impl Fn(NodeIndex) -> &'a [NodeIndex]) {
        self.enter(root);
        let mut calls = vec![(root, 0)];
        while let Some((node, position)) = calls.last_mut() {
            let node = *node;
            let Some(&next) = successors(node).get(*position) else {
                calls.pop();
                if let Some(&(parent, _)) = calls.last() {
                    self.lower(parent, self.lowest[node as usize]);
                }
                self.leave(node);
                continue;
            };
            *position += 1;
            if self.order[next as usize] == UNSEEN {
                self.enter(next);
                calls.push((next, 0));
            } else if self.open[next as usize] {
                self.lower(node, self.order[next as usize]);
            }
        }
    }

    fn enter(&mut self, node: NodeIndex) {
        self.order[node as usize] = self.seen_count;
        self.lowest[node as usize] = self.seen_count;
        self.seen_count += 1;
        self.open[node as usize] = true;
        self.path.push(node);
    }

    fn lower(&mut self, node: NodeIndex, to: u32) {
        let lowest = &mut self.lowest[node as usize];
        *lowest = (*lowest).min(to);
    }

    fn leave(&mut self, node: NodeIndex) {
        if self.lowest[node as usize] != self.order[node as usize] {
            return;
        }
        let start = self.path.iter().rposition(|&other| other == node).unwrap_or_default();
        let mut members = self.path.split_off(start);
        for &member in &members {
            self.open[member as usize] = false;
        }
        members.sort_unstable();
        self.components.push(members);
    }
}
