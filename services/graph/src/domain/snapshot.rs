//! The graph of one tenant at one version, immutable.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, Tier, UnixMillis};
use foldhash::{HashMap, HashSet};

use super::chain::Chains;
use super::cycles::{Cycle, cycles, strongly_connected};
use super::links::{EdgeIndex, Links, NodeIndex};
use super::needs::Needs;
use super::upstream::Upstream;

/// A node as the graph needs to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name.
    pub id: EntityId,
    /// What it is.
    pub kind: EntityKind,
    /// How critical it is; `None` where nobody says.
    pub tier: Option<Tier>,
    /// Where it runs; `None` where nobody says.
    pub region: Option<Box<str>>,
    /// Availability that a contract promises, in (0, 1].
    pub published_availability_ratio: Option<f64>,
    /// Whether it reports traces itself.
    pub traced: bool,
}

impl Node {
    /// A node of which nothing is known but that an edge names it.
    pub(super) fn implied(id: &EntityId) -> Self {
        Self {
            id: id.clone(),
            kind: EntityKind::Service,
            tier: None,
            region: None,
            published_availability_ratio: None,
            traced: false,
        }
    }
}

/// An edge by the names of its ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Dependency {
    /// Who calls.
    pub caller: EntityId,
    /// Who is called.
    pub callee: EntityId,
    /// What is known of the edge.
    pub terms: Terms,
}

/// What is known of an edge. Ratios are fractions in `[0, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What a failure of the callee does to the caller.
    pub mode: DependencyMode,
    /// Calls for each request of the caller, at least 0.
    pub call_rate: Option<f64>,
    /// Share of the caller's requests that call the callee.
    pub call_fraction: Option<f64>,
    /// Share of failed calls that a fallback saves.
    pub fallback_success_ratio: Option<f64>,
    /// Further attempts after a failed one.
    pub retry_count: u32,
    /// Milliseconds after which the caller gives an attempt up; `None` where nobody says.
    pub timeout_ms: Option<u32>,
    /// Name of the redundancy group, unique in the caller.
    pub group: Option<String>,
    /// How many members of the group must work, at least 1; where nobody says, 1.
    pub group_required_count: Option<u32>,
    /// Whether a person or a catalogue declared the edge.
    pub declared: bool,
    /// Whether traces showed the edge.
    pub traced: bool,
    /// Calls seen.
    pub observed_call_count: u64,
    /// Failed ones among them; `None` where nobody knows.
    pub observed_failure_count: Option<u64>,
    /// Failed calls under a parent that succeeded; `None` where nobody knows.
    pub observed_rescued_count: Option<u64>,
    /// When anybody last saw it; `None` where nobody did.
    pub last_seen_ms: Option<UnixMillis>,
}

impl Terms {
    /// An edge of which nothing but the mode is known.
    #[must_use]
    pub fn of_mode(mode: DependencyMode) -> Self {
        Self {
            mode,
            call_rate: None,
            call_fraction: None,
            fallback_success_ratio: None,
            retry_count: 0,
            timeout_ms: None,
            group: None,
            group_required_count: None,
            declared: false,
            traced: false,
            observed_call_count: 0,
            observed_failure_count: None,
            observed_rescued_count: None,
            last_seen_ms: None,
        }
    }

    /// Whether a request waits for the call.
    #[must_use]
    pub fn on_request_path(&self) -> bool {
        self.mode != DependencyMode::Async
    }
}

/// An edge by the positions of its ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who calls.
    pub caller: NodeIndex,
    /// Who is called.
    pub callee: NodeIndex,
    /// What is known of the edge; the snapshots of several versions share what did not change.
    pub terms: Arc<Terms>,
}

/// Nodes in lexical order, edges in lexical order of caller and callee, and what every question needs of them.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(super) nodes: Arc<[Node]>,
    /// Nodes without a row of their own: they are there because an edge names them. In lexical order.
    pub(super) implied: Vec<EntityId>,
    pub(super) edges: Arc<[Edge]>,
    pub(super) all: Arc<Links>,
    pub(super) request_path: Arc<Links>,
    pub(super) cycles: Arc<[Cycle]>,
    pub(super) chains: Arc<Chains>,
    pub(super) needs: Arc<Needs>,
    pub(super) upstream: Arc<Upstream>,
}

impl Snapshot {
    /// Builds the graph. Of several rows with the same name or the same ends the last stands; an end without a row of its
    /// own becomes a service; an edge to itself says nothing and is left out.
    #[must_use]
    pub fn build(nodes: Vec<Node>, mut dependencies: Vec<Dependency>) -> Self {
        dependencies.retain(|dependency| dependency.caller != dependency.callee);
        let (nodes, implied) = intern(nodes, &dependencies);
        let edges = connect(&nodes, dependencies);
        Self::connected(nodes.into(), implied, edges.into())
    }

    pub(super) fn connected(nodes: Arc<[Node]>, implied: Vec<EntityId>, edges: Arc<[Edge]>) -> Self {
        let all = links(nodes.len(), &edges, |_| true);
        let request_path = links(nodes.len(), &edges, Terms::on_request_path);
        let needs = Arc::new(Needs::of(&nodes, &edges, &request_path));
        let cycles = cycles(&all, &needs).into();
        let components = strongly_connected(&request_path);
        let chains = Arc::new(Chains::of(&request_path, &components));
        let upstream = Arc::new(Upstream::of(&needs, &components));
        Self { nodes, implied, edges, all, request_path, cycles, chains, needs, upstream }
    }

    /// The same nodes without some of the edges, told by position.
    #[must_use]
    pub fn without(&self, dropped: &[bool]) -> Self {
        let kept = self.edges.iter().zip(dropped).filter(|(_, dropped)| !**dropped);
        let edges = kept.map(|(edge, _)| edge.clone()).collect();
        Self::connected(Arc::clone(&self.nodes), self.implied.clone(), edges)
    }

    /// Nodes in lexical order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Names of the nodes that are there only because an edge names them, in lexical order.
    pub(crate) fn implied(&self) -> &[EntityId] {
        &self.implied
    }

    /// Edges in lexical order of caller and callee.
    #[must_use]
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Position of a name.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<NodeIndex> {
        find(&self.nodes, id)
    }

    /// Name at a position.
    ///
    /// # Panics
    /// When the position is of another, larger snapshot.
    #[must_use]
    pub fn id(&self, node: NodeIndex) -> &EntityId {
        &self.nodes[node as usize].id
    }

    /// Everything that is said to run in a region, and the node that stands for it where there is one.
    pub fn in_region<'a>(&'a self, region: &'a str) -> impl Iterator<Item = NodeIndex> + 'a {
        let stands_for_it = move |node: &Node| node.kind == EntityKind::Region && node.id.as_str() == region;
        let nodes = (0..).zip(&self.nodes[..]);
        nodes
            .filter(move |(_, node)| node.region.as_deref() == Some(region) || stands_for_it(node))
            .map(|(position, _)| position)
    }

    /// Who is down when these are: with a region everything that is said to run there, with an API or a system its parts. Who is
    /// down by an edge is left to the structure.
    #[must_use]
    pub fn down_with(&self, struck: impl IntoIterator<Item = NodeIndex>) -> BTreeSet<NodeIndex> {
        let mut down = BTreeSet::new();
        let mut open: Vec<NodeIndex> = struck.into_iter().collect();
        while let Some(node) = open.pop() {
            let Node { kind, id, .. } = &self.nodes[node as usize];
            match (down.insert(node), kind) {
                (true, EntityKind::Region) => open.extend(self.in_region(id.as_str())),
                (true, kind) if kind.is_composite() => open.extend(self.all.callees(node)),
                _ => {}
            }
        }
        down
    }

    /// Systems of which one of the nodes is a member: who enters a system by whom depends on whom its members call.
    #[must_use]
    pub fn systems_above(&self, members: &BTreeSet<NodeIndex>) -> BTreeSet<NodeIndex> {
        let is_system = |node: &NodeIndex| self.nodes[*node as usize].kind == EntityKind::System;
        members.iter().flat_map(|&member| self.all.callers(member)).copied().filter(is_system).collect()
    }

    /// Links without those of APIs and systems, which are what their parts make of them and call nobody.
    #[must_use]
    pub fn calls_among<'a>(&'a self, links: &'a Links) -> Cow<'a, Links> {
        let composite = |node: NodeIndex| self.nodes[node as usize].kind.is_composite();
        let all = (0..self.nodes.len() as NodeIndex).map(|node| (node, links.callees(node)));
        if !all.clone().any(|(node, callees)| composite(node) && !callees.is_empty()) {
            return Cow::Borrowed(links);
        }
        let calls = all.filter(|(node, _)| !composite(*node));
        let edges = calls.flat_map(|(node, callees)| {
            callees.iter().zip(links.out_edges(node)).map(move |(&callee, &edge)| (node, callee, edge))
        });
        Cow::Owned(Links::new(self.nodes.len(), &edges.collect::<Vec<_>>()))
    }

    /// Whether traces can show the calls of an edge: they did, or both ends are of a kind that is called.
    #[must_use]
    pub fn can_be_traced(&self, edge: &Edge) -> bool {
        let is_called = |end: NodeIndex| self.nodes[end as usize].kind.is_called();
        edge.terms.traced || is_called(edge.caller) && is_called(edge.callee)
    }

    /// Whether calls of a service would be seen: it reports traces, or some of its calls were traced.
    #[must_use]
    pub fn is_observed(&self, caller: NodeIndex) -> bool {
        let mut edges = self.all.out_edges(caller).iter();
        self.nodes[caller as usize].traced || edges.any(|&edge| self.edge(edge).terms.traced)
    }

    /// Positions of the edges that a caller has; of an unknown one, none at the place where they would be.
    pub(crate) fn outgoing(&self, caller: &str) -> Range<usize> {
        let (caller, known) = match self.nodes.binary_search_by(|node| node.id.as_str().cmp(caller)) {
            Ok(position) => (position, true),
            Err(position) => (position, false),
        };
        let start = self.edges.partition_point(|edge| (edge.caller as usize) < caller);
        let count = if known { self.all.callees(caller as NodeIndex).len() } else { 0 };
        start..start + count
    }

    /// The edge between two nodes.
    #[must_use]
    pub fn edge_between(&self, caller: NodeIndex, callee: NodeIndex) -> Option<EdgeIndex> {
        let position = self.all.callees(caller).binary_search(&callee).ok()?;
        Some(self.all.out_edges(caller)[position])
    }

    /// An edge by its position.
    ///
    /// # Panics
    /// When the position is of another, larger snapshot.
    #[must_use]
    pub fn edge(&self, edge: EdgeIndex) -> &Edge {
        &self.edges[edge as usize]
    }

    /// Every edge.
    #[must_use]
    pub fn all(&self) -> &Links {
        &self.all
    }

    /// Edges that a request waits for: all but the asynchronous ones.
    #[must_use]
    pub fn request_path(&self) -> &Links {
        &self.request_path
    }

    /// Cycles, by their first members.
    #[must_use]
    pub fn cycles(&self) -> &[Cycle] {
        &self.cycles
    }

    /// Longest call chains.
    #[must_use]
    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// Who feels whose failure.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What each caller needs to work.
    #[must_use]
    pub fn needs(&self) -> &Arc<Needs> {
        &self.needs
    }
}

/// All nodes, and the names of those without a row.
fn intern(mut nodes: Vec<Node>, dependencies: &[Dependency]) -> (Vec<Node>, Vec<EntityId>) {
    let known: HashSet<EntityId> = nodes.iter().map(|node| node.id.clone()).collect();
    let ends = dependencies.iter().flat_map(|dependency| [&dependency.caller, &dependency.callee]);
    let missing: HashSet<&EntityId> = ends.filter(|end| !known.contains(*end)).collect();
    let mut implied: Vec<EntityId> = missing.into_iter().cloned().collect();
    implied.sort_unstable();
    nodes.extend(implied.iter().map(Node::implied));
    sort_keeping_last(&mut nodes, |a, b| a.id.cmp(&b.id));
    (nodes, implied)
}

fn connect(nodes: &[Node], dependencies: Vec<Dependency>) -> Vec<Edge> {
    let positions: HashMap<&EntityId, NodeIndex> = nodes.iter().map(|node| &node.id).zip(0..).collect();
    let edge = |Dependency { caller, callee, terms }| Edge {
        caller: positions[&caller],
        callee: positions[&callee],
        terms: Arc::new(terms),
    };
    let mut edges: Vec<Edge> = dependencies.into_iter().map(edge).collect();
    sort_keeping_last(&mut edges, |a, b| (a.caller, a.callee).cmp(&(b.caller, b.callee)));
    edges
}

/// Sorts rows; of several that are equal the last stays. Quick where they are in order.
pub(crate) fn sort_keeping_last<Row>(rows: &mut Vec<Row>, compare: impl Fn(&Row, &Row) -> Ordering) {
    rows.sort_by(&compare);
    rows.dedup_by(|later, earlier| {
        let same = compare(later, earlier).is_eq();
        if same {
            std::mem::swap(later, earlier);
        }
        same
    });
}

pub(super) fn find(nodes: &[Node], id: &str) -> Option<NodeIndex> {
    nodes.binary_search_by(|node| node.id.as_str().cmp(id)).ok().map(|position| position as NodeIndex)
}

pub(super) fn links(node_count: usize, edges: &[Edge], counts: impl Fn(&Terms) -> bool) -> Arc<Links> {
    let edges: Vec<_> = (0..)
        .zip(edges)
        .filter(|(_, edge)| counts(&edge.terms))
        .map(|(position, edge)| (edge.caller, edge.callee, position))
        .collect();
    Arc::new(Links::new(node_count, &edges))
}
