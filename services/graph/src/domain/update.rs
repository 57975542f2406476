//! A snapshot from the one before it. What is told anew of some services is read; of everything else the two snapshots share the
//! memory, and what follows from the structure too where the structure is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use attain_vocabulary::EntityId;

use super::chain::Chains;
use super::cycles::{cycles, strongly_connected, with_needs};
use super::links::NodeIndex;
use super::snapshot::{Edge, Node, Snapshot, Terms, find, links, sort_keeping_last};
use super::upstream::Upstream;

/// All that is said of one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its name.
    pub id: EntityId,
    /// Its own row; `None` where there is none, or none any more.
    pub node: Option<Node>,
    /// Whom it calls, and what is known of each of these edges.
    pub outgoing: Vec<(EntityId, Terms)>,
}

/// Nodes after an update.
struct Nodes {
    nodes: Arc<[Node]>,
    implied: Vec<EntityId>,
    /// New positions by old ones; `None` where all are where they were. Of a node that is gone the position means nothing.
    moved: Option<Vec<NodeIndex>>,
}

/// A caller whose edges are not what they were.
struct Changed {
    caller: NodeIndex,
    /// Where its edges were.
    before: Range<usize>,
    after: Vec<Edge>,
}

impl Snapshot {
    /// The graph in which what is told of some services stands in place of all that was said of them: the same as built from all
    /// rows. Of several for the same service the last stands; an edge to itself says nothing.
    #[must_use]
    pub fn updated(&self, mut told: Vec<Told>) -> Self {
        sort_keeping_last(&mut told, |a, b| a.id.cmp(&b.id));
        for Told { id, outgoing, .. } in &mut told {
            outgoing.retain(|(callee, _)| callee != id);
            sort_keeping_last(outgoing, |(a, _), (b, _)| a.cmp(b));
        }
        let Nodes { nodes, implied, moved } = self.nodes_after(&told);
        let changed = self.changed(&nodes, moved.is_none(), told);
        match moved {
            Some(moved) => {
                let edges = self.edges_after(&changed, |node| moved[node as usize]);
                Self::connected(nodes, implied, edges)
            }
            None => self.with_edges(nodes, implied, &changed),
        }
    }

    /// With every node where it was.
    fn with_edges(&self, nodes: Arc<[Node]>, implied: Vec<EntityId>, changed: &[Changed]) -> Self {
        let mut after = Self { nodes, implied, ..self.clone() };
        after.edges = if changed.is_empty() { after.edges } else { self.edges_after(changed, |node| node) };
        let same = |of: &dyn Fn(&Edge, &Edge) -> bool| {
            changed.iter().all(|Changed { before, after, .. }| {
                let before = &self.edges[before.clone()];
                before.len() == after.len() && before.iter().zip(after).all(|(before, after)| of(before, after))
            })
        };
        let same_ends = same(&|before, after| before.callee == after.callee);
        let same_path =
            same_ends && same(&|before, after| before.terms.on_request_path() == after.terms.on_request_path());
        if !same_ends {
            after.all = links(after.nodes.len(), &after.edges, |_| true);
        }
        if !same_path {
            after.request_path = links(after.nodes.len(), &after.edges, Terms::on_request_path);
        }
        let differing = after.needs_again(self.of_another_kind(&after), changed);
        if !same_path || !differing.is_empty() {
            let components = strongly_connected(&after.request_path);
            after.upstream = Arc::new(Upstream::of(&after.needs, &components));
            if !same_path {
                after.chains = Arc::new(Chains::of(&after.request_path, &components));
            }
        }
        if !same_ends {
            after.cycles = cycles(&after.all, &after.needs).into();
        } else if !differing.is_empty() {
            after.cycles = with_needs(&self.cycles, &after.needs, &differing).into();
        }
        after
    }

    /// Nodes of another kind than after, at the same positions.
    fn of_another_kind(&self, after: &Self) -> Vec<NodeIndex> {
        if Arc::ptr_eq(&self.nodes, &after.nodes) {
            return Vec::new();
        }
        let both = (0..).zip(self.nodes.iter().zip(after.nodes.iter()));
        both.filter(|(_, (before, after))| before.kind != after.kind).map(|(node, _)| node).collect()
    }

    /// Reads again what those need whose kind or edges changed, and the systems above them; who needs anything else.
    fn needs_again(&mut self, of_another_kind: Vec<NodeIndex>, changed: &[Changed]) -> Vec<NodeIndex> {
        let callers: BTreeSet<NodeIndex> = changed.iter().map(|changed| changed.caller).collect();
        let mut again = self.systems_above(&callers);
        again.extend(callers.iter().chain(&of_another_kind));
        let mut needs = Arc::clone(&self.needs);
        let differs = |&node: &NodeIndex| {
            let row = &self.nodes[node as usize];
            let edges = &self.edges[self.outgoing(row.id.as_str())];
            needs.replace(node, row, edges, |member| self.request_path.callees(member))
        };
        let differing = again.into_iter().filter(differs).collect();
        self.needs = needs;
        differing
    }

    fn nodes_after(&self, told: &[Told]) -> Nodes {
        let ids: BTreeSet<&EntityId> = told.iter().map(|told| &told.id).collect();
        let callees: BTreeSet<&EntityId> =
            told.iter().flat_map(|told| told.outgoing.iter().map(|(callee, _)| callee)).collect();
        let calls = |id: &EntityId, position: Option<NodeIndex>| match told.binary_search_by(|told| told.id.cmp(id)) {
            Ok(place) => !told[place].outgoing.is_empty(),
            Err(_) => position.is_some_and(|node| !self.all.callees(node).is_empty()),
        };
        let is_called = |position: Option<NodeIndex>| {
            let mut callers = position.into_iter().flat_map(|node| self.all.callers(node));
            callers.any(|&caller| !ids.contains(self.id(caller)))
        };
        let is_named = |id: &EntityId| {
            let position = self.find(id.as_str());
            callees.contains(id) || calls(id, position) || is_called(position)
        };
        // Nodes with rows of which nothing is told stay, whoever names them.
        let mut rows: BTreeMap<&EntityId, Option<&Node>> = self.implied.iter().map(|id| (id, None)).collect();
        rows.extend(callees.iter().filter(|id| self.find(id.as_str()).is_none()).map(|id| (*id, None)));
        rows.extend(told.iter().map(|told| (&told.id, told.node.as_ref())));
        let implied: Vec<EntityId> =
            rows.iter().filter(|(id, row)| row.is_none() && is_named(id)).map(|(id, _)| (*id).clone()).collect();
        let after = |(id, row): (&EntityId, Option<&Node>)| {
            let implied = || implied.binary_search(id).is_ok().then(|| Node::implied(id));
            (id.clone(), row.cloned().or_else(implied))
        };
        let after: BTreeMap<EntityId, Option<Node>> = rows.into_iter().map(after).collect();
        let (nodes, moved) = self.with_nodes(after);
        Nodes { nodes, implied, moved }
    }

    /// Puts nodes in, in place of those of the same names, or takes these away.
    fn with_nodes(&self, after: BTreeMap<EntityId, Option<Node>>) -> (Arc<[Node]>, Option<Vec<NodeIndex>>) {
        let place = |id: &EntityId| self.find(id.as_str());
        if after.iter().all(|(id, node)| place(id).is_some() == node.is_some()) {
            let placed = after.into_values().flatten().filter_map(|node| Some((place(&node.id)?, node)));
            let differing: Vec<_> = placed.filter(|(place, node)| self.nodes[*place as usize] != *node).collect();
            let mut nodes = Arc::clone(&self.nodes);
            for (place, node) in differing {
                Arc::make_mut(&mut nodes)[place as usize] = node;
            }
            return (nodes, None);
        }
        let mut nodes = Vec::with_capacity(self.nodes.len() + after.len());
        let mut moved = Vec::with_capacity(self.nodes.len());
        let mut after = after.into_iter().peekable();
        for node in self.nodes.iter() {
            while let Some((_, new)) = after.next_if(|(id, _)| *id < node.id) {
                nodes.extend(new);
            }
            moved.push(nodes.len() as NodeIndex);
            match after.next_if(|(id, _)| *id == node.id) {
                Some((_, told)) => nodes.extend(told),
                None => nodes.push(node.clone()),
            }
        }
        nodes.extend(after.filter_map(|(_, new)| new));
        (nodes.into(), Some(moved))
    }

    /// The callers whose edges are not what they were, in lexical order; where nodes moved, all that are told of.
    fn changed(&self, nodes: &[Node], in_place: bool, told: Vec<Told>) -> Vec<Changed> {
        let at = |id: &EntityId| find(nodes, id.as_str());
        let changed = |Told { id, outgoing, .. }: Told| {
            let before = self.outgoing(id.as_str());
            // Where it is gone, it has no edges either.
            let caller = at(&id).unwrap_or_default();
            let edge = |(callee, terms)| Some(Edge { caller, callee: at(&callee)?, terms: Arc::new(terms) });
            let after: Vec<Edge> = outgoing.into_iter().filter_map(edge).collect();
            (!in_place || self.edges[before.clone()] != after[..]).then_some(Changed { caller, before, after })
        };
        told.into_iter().filter_map(changed).collect()
    }

    fn edges_after(&self, changed: &[Changed], place: impl Fn(NodeIndex) -> NodeIndex) -> Arc<[Edge]> {
        let kept = |range: Range<usize>| {
            self.edges[range].iter().map(|edge| Edge {
                caller: place(edge.caller),
                callee: place(edge.callee),
                terms: Arc::clone(&edge.terms),
            })
        };
        let mut edges =
            Vec::with_capacity(self.edges.len() + changed.iter().map(|changed| changed.after.len()).sum::<usize>());
        let mut from = 0;
        for Changed { before, after, .. } in changed {
            edges.extend(kept(from..before.start));
            edges.extend_from_slice(after);
            from = before.end;
        }
        edges.extend(kept(from..self.edges.len()));
        edges.into()
    }
}
