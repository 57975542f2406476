//! Strongly connected components, and which of them cannot start from cold.

use super::links::{Links, NodeIndex};
use super::needs::Needs;

/// A strongly connected component of more than one node, over every edge: asynchronous ones close a cycle too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// Members in lexical order.
    pub members: Vec<NodeIndex>,
    /// Whether some member cannot come up after a full stop, with everything outside the cycle up and every member healthy:
    /// from all down it stays down, where from all up it stays up. Certain requirements alone count, redundancy groups
    /// included; a call that is not always made, or that a fallback may save, lets its caller start.
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

/// The same cycles with other needs of some callers, sorted: only those of whom one is a member are looked at again.
pub(super) fn with_needs(cycles: &[Cycle], needs: &Needs, changed: &[NodeIndex]) -> Vec<Cycle> {
    let is_changed = |node: &NodeIndex| changed.binary_search(node).is_ok();
    let cycle = |cycle: &Cycle| {
        let mut cycle = cycle.clone();
        if cycle.members.iter().any(is_changed) {
            cycle.bootstrap_hazard = is_hazard(&cycle.members, needs);
        }
        cycle
    };
    cycles.iter().map(cycle).collect()
}

/// The least fixed point of the members' certain requirements, all of whose greatest one is up.
fn is_hazard(members: &[NodeIndex], needs: &Needs) -> bool {
    let inside = |node: &NodeIndex| members.binary_search(node).ok();
    let mut waiting = Vec::new();
    let mut waits_for: Vec<Vec<usize>> = vec![Vec::new(); members.len()];
    let mut unmet = vec![0_usize; members.len()];
    for (caller, &member) in members.iter().enumerate() {
        for need in needs.of_caller(member).iter().filter(|need| need.is_certain()) {
            let starting: Vec<usize> = need.members.iter().filter_map(inside).collect();
            let up_already = need.members.len() - starting.len();
            let missing = (need.required_count as usize).saturating_sub(up_already);
            if missing > 0 {
                unmet[caller] += 1;
                starting.iter().for_each(|&callee| waits_for[callee].push(waiting.len()));
                waiting.push((caller, missing));
            }
        }
    }
    let mut up: Vec<usize> = (0..members.len()).filter(|&member| unmet[member] == 0).collect();
    let mut started_count = 0;
    while let Some(started) = up.pop() {
        started_count += 1;
        for &requirement in &waits_for[started] {
            let (caller, missing) = &mut waiting[requirement];
            let last = *missing == 1;
            *missing = missing.saturating_sub(1);
            if last {
                unmet[*caller] -= 1;
                if unmet[*caller] == 0 {
                    up.push(*caller);
                }
            }
        }
    }
    started_count < members.len()
}

const UNSEEN: u32 = u32::MAX;

/// Tarjan 1972, with a stack of its own: a long chain must not overflow the thread's.
pub(super) fn tarjan<'a>(node_count: usize, successors: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Vec<Vec<NodeIndex>> {
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
