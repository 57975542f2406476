//! One tenant's graph as it is held: the snapshot for questions, the rows of the wire for answers.

use std::time::Instant;

use attain_proto::ingestion::v1::GetTopologyResponse;
use attain_proto::vocabulary::v1 as wire;
use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};
use foldhash::{HashMap, HashSet};

use crate::domain::snapshot::{Snapshot, sort_keeping_last};
use crate::error::Error;
use crate::topology;

/// A snapshot and the rows that it was read from, at the same positions.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) snapshot: Snapshot,
    /// Version of the topology.
    pub(crate) version: u64,
    /// By node.
    pub(crate) entities: Vec<wire::Entity>,
    /// By edge.
    pub(crate) dependencies: Vec<wire::Dependency>,
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
        let GetTopologyResponse { version, entities, dependencies } = topology;
        within("entities", entities.len(), size.entities_max)?;
        within("dependencies", dependencies.len(), size.dependencies_max)?;
        let entities = entities.to_vec().map_err(|error| unreadable("entities", &error))?;
        let mut dependencies = dependencies.to_vec().map_err(|error| unreadable("dependencies", &error))?;
        sort_keeping_last(&mut dependencies, |a, b| (&a.caller_id, &a.callee_id).cmp(&(&b.caller_id, &b.callee_id)));
        let entities = with_every_end(entities, &dependencies);
        let nodes = rows("entities", &entities, topology::node)?;
        let ids: HashMap<&str, &EntityId> = nodes.iter().map(|node| (node.id.as_str(), &node.id)).collect();
        let edges = rows("dependencies", &dependencies, |row| topology::dependency(row, &ids))?;
        let snapshot = Snapshot::build(nodes, edges);
        Ok(Self { snapshot, version, entities, dependencies, asked })
    }

    /// Whether all that is new since `before` is what was counted on edges that were known: the same nodes, the same edges.
    pub(crate) fn only_counts_since(&self, before: &Self) -> bool {
        let (new, old) = (&self.dependencies, &before.dependencies);
        self.entities == before.entities
            && new.len() == old.len()
            && new.iter().zip(old).all(|(new, old)| same_edge(new, old))
            && new != old
    }
}

/// Whether two rows say the same of an edge, but for what was counted and, where calls were counted, what follows from it.
fn same_edge(new: &wire::Dependency, old: &wire::Dependency) -> bool {
    let said = |row: &wire::Dependency| (row.call_rate, row.call_fraction, row.fallback_success_ratio);
    let counted = new.observed_call_count > 0 && old.observed_call_count > 0;
    (&new.caller_id, &new.callee_id, new.mode) == (&old.caller_id, &old.callee_id, old.mode)
        && (new.retry_count, new.timeout_ms, &new.protocol) == (old.retry_count, old.timeout_ms, &old.protocol)
        && (&new.redundancy_group, new.redundancy_required_count)
            == (&old.redundancy_group, old.redundancy_required_count)
        && new.sources == old.sources
        && (counted || said(new) == said(old))
}

fn within(what: &'static str, count: usize, limit: usize) -> Result<(), Error> {
    if count <= limit { Ok(()) } else { Err(Error::TooLarge { what, count, limit }) }
}

fn unreadable(list: &str, error: &dyn std::error::Error) -> Error {
    Error::Topology(InvalidValue::new(list, "unreadable", error.to_string()))
}

fn rows<Row, Value>(
    list: &str,
    rows: &[Row],
    read: impl Fn(&Row) -> Result<Value, InvalidValue>,
) -> Result<Vec<Value>, Error> {
    let mut values = Vec::with_capacity(rows.len());
    for (index, row) in rows.iter().enumerate() {
        values.push(read(row).map_err(|invalid| Error::Topology(invalid.within(&format!("{list}/{index}"))))?);
    }
    Ok(values)
}

fn with_every_end(mut entities: Vec<wire::Entity>, dependencies: &[wire::Dependency]) -> Vec<wire::Entity> {
    let known: HashSet<&str> = entities.iter().map(|entity| entity.id.as_str()).collect();
    let ends = dependencies.iter().flat_map(|row| [row.caller_id.as_str(), row.callee_id.as_str()]);
    let missing: HashSet<&str> = ends.filter(|end| !known.contains(end)).collect();
    let missing: Vec<wire::Entity> =
        missing.into_iter().map(|id| wire::Entity { id: id.to_owned(), ..Default::default() }).collect();
    entities.extend(missing);
    sort_keeping_last(&mut entities, |a, b| a.id.cmp(&b.id));
    entities
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
        };
        let held = Held::read(topology, SIZE, asked()).expect("valid");
        let names: Vec<&str> = held.entities.iter().map(|entity| entity.id.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(held.entities[1].owner, "team");
        for (node, entity) in held.snapshot.nodes().iter().zip(&held.entities) {
            assert_eq!(node.id.as_str(), entity.id);
        }
        let protocols: Vec<&str> = held.dependencies.iter().map(|row| row.protocol.as_str()).collect();
        assert_eq!((protocols, held.snapshot.edges().len()), (vec!["new", "grpc"], 2));
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
            Held::read(GetTopologyResponse { version: 1, entities, dependencies }, SIZE, asked()).expect("valid")
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
