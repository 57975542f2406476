//! One tenant's graph as it is held: the snapshot for questions, the rows of the wire for answers.

use std::sync::Arc;
use std::time::Instant;

use attain_proto::ingestion::v1::GetTopologyResponse;
use attain_proto::rows::Rows;
use attain_proto::vocabulary::v1 as wire;
use attain_vocabulary::{EntityId, InvalidValue, LatencyHistogram, UnixMillis};
use foldhash::HashMap;

use crate::domain::confidence::confidence;
use crate::domain::links::EdgeIndex;
use crate::domain::snapshot::{Dependency, Edge, Node, Snapshot, sort_keeping_last};
use crate::error::Error;
use crate::topology;

/// A snapshot and the rows that it was read from, at the same positions.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) snapshot: Snapshot,
    /// Version of the topology.
    pub(crate) version: u64,
    /// What ingestion wants to see again when it is asked what changed since.
    pub(crate) epoch: String,
    /// By node; versions share what is the same.
    pub(crate) entities: Vec<Arc<wire::Entity>>,
    /// By edge, as they came: few of them are ever part of an answer. Versions share the memory of what is the same.
    pub(crate) dependencies: Rows<wire::Dependency>,
    /// Bytes of edges that parts brought since all were in memory of their own.
    pub(super) parts_bytes: usize,
    /// When it was asked for: it holds everything that was acknowledged before.
    pub(crate) asked: Asked,
}

/// A moment, on the clock that people read and on the one that never steps back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) time_ms: UnixMillis,
    pub(crate) at: Instant,
}

/// How large a graph may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) entities_max: usize,
    pub(crate) dependencies_max: usize,
}

impl Held {
    /// Reads a topology. A row that the contract forbids refuses the whole: a graph with a hole would answer wrongly
    /// without a sign of it.
    pub(crate) fn read(topology: GetTopologyResponse, size: Size, asked: Asked) -> Result<Self, Error> {
        let GetTopologyResponse { version, epoch, entities, dependencies, .. } = topology;
        within("entities", entities.len(), size.entities_max)?;
        within("dependencies", dependencies.len(), size.dependencies_max)?;
        let entities = entities_in_order(&entities)?;
        let nodes = nodes(&entities)?;
        let ids: HashMap<&str, &EntityId> = nodes.iter().map(|node| (node.id.as_str(), &node.id)).collect();
        let (dependencies, edges) = edges_in_order(dependencies, |name| ids.get(name).map(|id| (*id).clone()))?;
        let snapshot = Snapshot::build(nodes, edges);
        let entities = with_every_node(entities, snapshot.nodes());
        Ok(Self { snapshot, version, epoch, entities, dependencies, parts_bytes: 0, asked })
    }

    /// The row of an edge.
    pub(crate) fn dependency(&self, edge: EdgeIndex) -> wire::Dependency {
        // All of them were read when this was made.
        self.dependencies.get(edge as usize).and_then(Result::ok).unwrap_or_default()
    }

    /// How sure it is that each of these edges is there, when the snapshot was asked for. Quick where edges of one caller follow
    /// each other.
    pub(crate) fn confidences(&self, edges: &[EdgeIndex]) -> Vec<f64> {
        let edges: Vec<&Edge> = edges.iter().map(|&edge| self.snapshot.edge(edge)).collect();
        let of_callers = edges.chunk_by(|a, b| a.caller == b.caller).flat_map(|edges| {
            let observed = self.snapshot.is_observed(edges[0].caller);
            let would_be_seen = move |edge: &Edge| observed && self.snapshot.can_be_traced(edge);
            edges.iter().map(move |edge| confidence(&edge.terms, would_be_seen(edge), self.asked.time_ms))
        });
        of_callers.collect()
    }

    /// Latency of the calls of an edge; `None` where none was counted.
    pub(crate) fn latency(&self, edge: EdgeIndex) -> Option<LatencyHistogram> {
        let row = self.dependency(edge);
        LatencyHistogram::try_from(row.observed_latency.as_deref()?).ok().filter(|latency| latency.count() > 0)
    }

    /// Whether all that is new since `before` is what was counted on edges that were known: the same nodes, the same edges.
    pub(crate) fn only_counts_since(&self, before: &Self) -> bool {
        let (new, old) = (&self.dependencies, &before.dependencies);
        let same_entity = |(new, old): (&Arc<wire::Entity>, &Arc<wire::Entity>)| Arc::ptr_eq(new, old) || new == old;
        if self.entities.len() != before.entities.len() || new.len() != old.len() {
            return false;
        }
        let mut differing = (0..new.len()).filter(|&edge| !new.is_same(edge, old, edge)).peekable();
        differing.peek().is_some()
            && self.entities.iter().zip(&before.entities).all(same_entity)
            && differing.all(|edge| matches!((new.get(edge), old.get(edge)), (Some(Ok(new)), Some(Ok(old))) if same_edge(&new, &old)))
    }
}

/// Whether two rows say the same of an edge, but for what was counted and, where calls were counted, what follows from it.
pub(crate) fn same_edge(new: &wire::Dependency, old: &wire::Dependency) -> bool {
    let said = |row: &wire::Dependency| (row.call_rate, row.call_fraction, row.fallback_success_ratio);
    let counted = new.observed_call_count > 0 && old.observed_call_count > 0;
    (&new.caller_id, &new.callee_id, new.mode) == (&old.caller_id, &old.callee_id, old.mode)
        && (new.retry_count, new.timeout_ms, &new.protocol) == (old.retry_count, old.timeout_ms, &old.protocol)
        && (&new.redundancy_group, new.redundancy_required_count)
            == (&old.redundancy_group, old.redundancy_required_count)
        && new.sources == old.sources
        && (counted || said(new) == said(old))
}

pub(super) fn within(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    if count <= limit { Ok(()) } else { Err(Error::TooLarge { what, count, limit }) }
}

fn unreadable(list: &str, error: &dyn std::error::Error) -> Error {
    Error::Topology(InvalidValue::new(list, "unreadable", error.to_string()))
}

/// In the order of nodes; of several of the same name the last.
pub(super) fn entities_in_order(rows: &Rows<wire::Entity>) -> Result<Vec<wire::Entity>, Error> {
    let mut entities = rows.to_vec().map_err(|error| unreadable("entities", &error))?;
    sort_keeping_last(&mut entities, |a, b| a.id.cmp(&b.id));
    Ok(entities)
}

/// By entity.
pub(super) fn nodes(entities: &[wire::Entity]) -> Result<Vec<Node>, Error> {
    let node = |(index, entity)| topology::node(entity).map_err(|invalid| refused("entities", index, invalid));
    entities.iter().enumerate().map(node).collect()
}

/// Rows in the order of edges, which ingestion promises, and what each says; of several for the same edge the last. `named` has
/// ids of names that have one.
pub(super) fn edges_in_order(
    rows: Rows<wire::Dependency>,
    named: impl Fn(&str) -> Option<EntityId> + Copy,
) -> Result<(Rows<wire::Dependency>, Vec<Dependency>), Error> {
    let read = edges(&rows, named)?;
    if read.is_sorted_by(|a, b| (&a.caller, &a.callee) < (&b.caller, &b.callee)) {
        return Ok((rows, read));
    }
    let mut sorted = rows.to_vec().map_err(|error| unreadable("dependencies", &error))?;
    sort_keeping_last(&mut sorted, |a, b| (&a.caller_id, &a.callee_id).cmp(&(&b.caller_id, &b.callee_id)));
    let rows = Rows::from(sorted);
    let read = edges(&rows, named)?;
    Ok((rows, read))
}

fn edges(
    rows: &Rows<wire::Dependency>,
    named: impl Fn(&str) -> Option<EntityId> + Copy,
) -> Result<Vec<Dependency>, Error> {
    let mut edges = Vec::with_capacity(rows.len());
    for (index, edge) in rows.map(|row| row.map(|row| topology::dependency(row, named))).enumerate() {
        let edge = edge.map_err(|error| unreadable("dependencies", &error))?;
        edges.push(edge.map_err(|invalid| refused("dependencies", index, invalid))?);
    }
    Ok(edges)
}

pub(super) fn refused(list: &str, index: usize, invalid: InvalidValue) -> Error {
    Error::Topology(invalid.within(&format!("{list}/{index}")))
}

/// An entity for each node: the told ones, in the order of nodes, and of the others the names.
fn with_every_node(told: Vec<wire::Entity>, nodes: &[Node]) -> Vec<Arc<wire::Entity>> {
    let mut told = told.into_iter().peekable();
    let entity =
        |node: &Node| told.next_if(|entity| entity.id == node.id.as_str()).map_or_else(|| implied(node), Arc::new);
    nodes.iter().map(entity).collect()
}

/// The entity of a node that nothing but edges tell of.
pub(super) fn implied(node: &Node) -> Arc<wire::Entity> {
    Arc::new(wire::Entity { id: node.id.to_string(), ..Default::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { entities_max: 3, dependencies_max: 3 };

    fn asked() -> Asked {
        Asked { time_ms: 0, at: Instant::now() }
    }

    fn edge(caller: &str, callee: &str, protocol: &str) -> wire::Dependency {
        wire::Dependency {
            caller_id: caller.into(),
            callee_id: callee.into(),
            protocol: protocol.into(),
            ..Default::default()
        }
    }

    #[test]
    fn rows_stand_at_the_positions_of_the_snapshot() {
        let topology = GetTopologyResponse {
            version: 7,
            entities: vec![wire::Entity { id: "b".into(), owner: "team".into(), ..Default::default() }].into(),
            dependencies: vec![edge("b", "c", "grpc"), edge("b", "a", "old"), edge("b", "a", "new")].into(),
            ..Default::default()
        };
        let held = Held::read(topology, SIZE, asked()).expect("valid");
        let names: Vec<&str> = held.entities.iter().map(|entity| entity.id.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(held.entities[1].owner, "team");
        for (node, entity) in held.snapshot.nodes().iter().zip(&held.entities) {
            assert_eq!(node.id.as_str(), entity.id);
        }
        let protocols = [0, 1].map(|edge| held.dependency(edge).protocol);
        assert_eq!((protocols, held.snapshot.edges().len()), (["new", "grpc"].map(str::to_owned), 2));
    }

    #[test]
    fn a_graph_with_a_hole_or_past_the_bound_is_refused() {
        let mut bad = edge("a", "b", "");
        bad.call_fraction = Some(2.0);
        let topology = GetTopologyResponse { version: 1, dependencies: vec![bad].into(), ..Default::default() };
        let error = Held::read(topology, SIZE, asked()).expect_err("no fraction").to_string();
        assert!(error.contains("dependencies/0/call_fraction"), "{error}");
        let topology = GetTopologyResponse { entities: vec![wire::Entity::default(); 4].into(), ..Default::default() };
        let error = Held::read(topology, SIZE, asked()).expect_err("too many");
        assert!(matches!(error, Error::TooLarge { what: "entities", count: 4, limit: 3 }));
    }

    #[test]
    fn counts_are_told_from_structure() {
        let counted = |count: u64| wire::Dependency {
            observed_call_count: count,
            call_fraction: Some(1.0 / count as f64),
            ..edge("a", "b", "grpc")
        };
        let read = |dependencies: Vec<wire::Dependency>, owner: &str| {
            let entities = vec![wire::Entity { id: "a".into(), owner: owner.into(), ..Default::default() }];
            let (entities, dependencies) = (entities.into(), dependencies.into());
            let topology = GetTopologyResponse { version: 1, entities, dependencies, ..Default::default() };
            Held::read(topology, SIZE, asked()).expect("valid")
        };
        let before = read(vec![counted(2), edge("a", "c", "")], "team");
        let only_counts = |after: Held| after.only_counts_since(&before);
        assert!(only_counts(read(vec![counted(3), edge("a", "c", "")], "team")));
        // Nothing new at all, an edge more or less, other ends, another owner, another protocol.
        assert!(!only_counts(read(vec![counted(2), edge("a", "c", "")], "team")));
        assert!(!only_counts(read(vec![counted(3), edge("a", "c", ""), edge("c", "b", "")], "team")));
        assert!(!only_counts(read(vec![counted(3)], "team")));
        assert!(!only_counts(read(vec![counted(3), edge("b", "c", "")], "team")));
        assert!(!only_counts(read(vec![counted(3), edge("a", "c", "")], "others")));
        assert!(!only_counts(read(vec![counted(3), edge("a", "c", "http")], "team")));
        // Said of an edge that nobody counted on.
        let said = wire::Dependency { call_fraction: Some(0.5), ..edge("a", "c", "") };
        assert!(!only_counts(read(vec![counted(3), said], "team")));
    }
}
