use std::collections::{BTreeMap, BTreeSet};

use super::alterations::Alterations;
use crate::domain::cycles::strongly_connected;
use crate::domain::links::{Links, NodeIndex, reached};
use crate::domain::routes::Routes;
use crate::domain::snapshot::Snapshot;

/// Which services are composed, and in what order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Callees before callers; members of a cycle together.
    pub(super) in_turn: Vec<Vec<NodeIndex>>,
    /// Too many: those farthest from any change, in lexical order.
    pub(super) left_out: Vec<NodeIndex>,
    paths: BTreeMap<NodeIndex, Vec<NodeIndex>>,
}

impl Scope {
    /// What is changed and everybody who waits for it, at most `nodes_max`; where services are asked for, only those and what
    /// lies between them and the changes.
    #[must_use]
    pub fn of(snapshot: &Snapshot, alterations: &Alterations, asked: &[NodeIndex], nodes_max: usize) -> Self {
        let links = snapshot.request_path();
        let changed = alterations.changed();
        let routes = Routes::to(links.node_count(), &changed, |node| links.callers(node));
        let mut added: BTreeMap<NodeIndex, Vec<NodeIndex>> = BTreeMap::new();
        for (caller, callee) in alterations.added() {
            added.entry(caller).or_default().push(callee);
        }
        let above = |node: &NodeIndex| routes.distance(*node).is_some();
        let callees = |node: NodeIndex| -> BTreeSet<NodeIndex> {
            let added = added.get(&node).into_iter().flatten();
            links.callees(node).iter().chain(added).copied().filter(above).collect()
        };
        let mut nodes: Vec<NodeIndex> = (0..links.node_count() as NodeIndex).filter(above).collect();
        if !asked.is_empty() {
            let asked = asked.iter().copied().filter(above);
            let needed = reached(links.node_count(), asked, callees);
            nodes.retain(|&node| needed[node as usize]);
        }
        nodes.sort_by_key(|&node| (routes.distance(node), node));
        let mut left_out = nodes.split_off(nodes.len().min(nodes_max));
        left_out.sort_unstable();
        nodes.sort_unstable();
        let place = |node: NodeIndex| nodes.binary_search(&node).ok().map(|place| place as NodeIndex);
        let mut edges = Vec::new();
        for (caller, &node) in (0..).zip(&nodes) {
            edges.extend(callees(node).into_iter().filter_map(place).map(|callee| (caller, callee, 0)));
        }
        let of_place = |place: NodeIndex| nodes[place as usize];
        let in_turn = strongly_connected(&Links::new(nodes.len(), &edges));
        let in_turn = in_turn.into_iter().map(|members| members.into_iter().map(of_place).collect()).collect();
        let paths = nodes.iter().map(|&node| (node, routes.path(node, |node| links.callees(node)))).collect();
        Self { in_turn, left_out, paths }
    }

    /// Services that are composed, those nearest to a change first, then in lexical order.
    #[must_use]
    pub fn nearest_first(&self) -> Vec<NodeIndex> {
        let mut nodes: Vec<NodeIndex> = self.paths.keys().copied().collect();
        nodes.sort_by_key(|node| self.paths[node].len());
        nodes
    }

    /// The shortest walk from a service to what is changed, of several the lexically first.
    #[must_use]
    pub fn path(&self, node: NodeIndex) -> &[NodeIndex] {
        self.paths.get(&node).map_or(&[], Vec::as_slice)
    }
}
