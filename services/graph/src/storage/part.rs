//! A graph from the one before it and what changed since: of services that nothing is told of, the two share rows, nodes and
//! edges.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use attain_proto::ingestion::v1::GetTopologyResponse;
use attain_proto::rows::Rows;
use attain_proto::vocabulary::v1 as wire;
use attain_vocabulary::{EntityId, InvalidValue};

use super::held::{Asked, Held, Size, edges_in_order, entities_in_order, implied, nodes, refused, within};
use crate::domain::snapshot::{Node, Snapshot};
use crate::domain::update::Told;
use crate::error::Error;

/// What is told of one service.
struct Of {
    entity: Option<Arc<wire::Entity>>,
    told: Told,
    /// Its outgoing edges among the rows of the part.
    rows: Range<usize>,
}

type Services = BTreeMap<EntityId, Of>;

impl Held {
    /// Puts what changed in place of what was held of the same services. A row that the contract forbids refuses the whole, as
    /// do rows of services that are not told to have changed.
    pub(crate) fn updated(&self, part: GetTopologyResponse, size: Size, asked: Asked) -> Result<Self, Error> {
        let GetTopologyResponse { version, epoch, base_version, changed_service_ids, entities, dependencies } = part;
        if base_version != self.version {
            let reason = format!("a part on top of another version than {}, which was asked for", self.version);
            return Err(Error::Topology(InvalidValue::new("base_version", "out_of_range", reason)));
        }
        within("entities", entities.len(), size.entities_max)?;
        within("dependencies", dependencies.len(), size.dependencies_max)?;
        let mut services = services(&changed_service_ids)?;
        tell_entities(&mut services, &entities, &self.entities)?;
        let fresh = tell_edges(&mut services, dependencies, &self.snapshot)?;
        let told = services.iter_mut().map(|(id, of)| std::mem::replace(&mut of.told, nothing(id.clone())));
        let snapshot = self.snapshot.updated(told.collect());
        let entity_count = snapshot.nodes().len() - snapshot.implied().len();
        within("entities", entity_count, size.entities_max)?;
        within("dependencies", snapshot.edges().len(), size.dependencies_max)?;
        let entities = self.entities_after(&services, &snapshot);
        let parts_bytes = self.parts_bytes + fresh.byte_count();
        let dependencies = self.rows_after(&services, &fresh);
        // Rows that are replaced may stay in memory as long as others of their time.
        let (dependencies, parts_bytes) = match dependencies.byte_count() {
            held_bytes if parts_bytes > held_bytes => (dependencies.apart(), 0),
            _ => (dependencies, parts_bytes),
        };
        Ok(Self { snapshot, version, epoch, entities, dependencies, parts_bytes, asked })
    }

    fn entities_after(&self, services: &Services, snapshot: &Snapshot) -> Vec<Arc<wire::Entity>> {
        let (mut held, mut told) = (self.entities.iter().peekable(), services.iter().peekable());
        let entity = |node: &Node| {
            while held.next_if(|entity| entity.id.as_str() < node.id.as_str()).is_some() {}
            while told.next_if(|(id, _)| **id < node.id).is_some() {}
            let before = held.next_if(|entity| entity.id == node.id.as_str());
            let after = match told.next_if(|(id, _)| **id == node.id) {
                Some((_, of)) => of.entity.as_ref(),
                None => before,
            };
            after.map_or_else(|| implied(node), Arc::clone)
        };
        snapshot.nodes().iter().map(entity).collect()
    }

    fn rows_after(&self, services: &Services, fresh: &Rows<wire::Dependency>) -> Rows<wire::Dependency> {
        let (mut rows, mut from) = (Rows::default(), 0);
        for (id, of) in services {
            let before = self.snapshot.outgoing(id.as_str());
            rows.share(&self.dependencies, from..before.start);
            rows.share(fresh, of.rows.clone());
            from = before.end;
        }
        rows.share(&self.dependencies, from..self.dependencies.len());
        rows
    }
}

fn nothing(id: EntityId) -> Told {
    Told { id, node: None, outgoing: Vec::new() }
}

fn services(ids: &[String]) -> Result<Services, Error> {
    let service = |(index, id): (usize, &String)| {
        let id = EntityId::new("", id).map_err(|invalid| refused("changed_service_ids", index, invalid))?;
        Ok((id.clone(), Of { entity: None, told: nothing(id), rows: 0..0 }))
    };
    ids.iter().enumerate().map(service).collect()
}

/// Of an entity that is the same as before, the one before stands.
fn tell_entities(
    services: &mut Services,
    rows: &Rows<wire::Entity>,
    before: &[Arc<wire::Entity>],
) -> Result<(), Error> {
    let entities = entities_in_order(rows)?;
    let nodes = nodes(&entities)?;
    for (index, (entity, node)) in entities.into_iter().zip(nodes).enumerate() {
        let of = services.get_mut(&node.id).ok_or_else(|| not_changed("entities", index, "id", &node.id))?;
        let held = before.binary_search_by(|held| held.id.as_str().cmp(&entity.id)).ok().map(|place| &before[place]);
        let same = held.filter(|held| ***held == entity).cloned();
        of.entity = Some(same.unwrap_or_else(|| Arc::new(entity)));
        of.told.node = Some(node);
    }
    Ok(())
}

/// Returns the rows, in the order of edges and in memory of their own: what came beside them is not kept for their sake.
fn tell_edges(
    services: &mut Services,
    rows: Rows<wire::Dependency>,
    before: &Snapshot,
) -> Result<Rows<wire::Dependency>, Error> {
    let (rows, edges) = edges_in_order(rows, |name| before.find(name).map(|node| before.id(node).clone()))?;
    for (index, edge) in edges.into_iter().enumerate() {
        let of = services.get_mut(&edge.caller);
        let of = of.ok_or_else(|| not_changed("dependencies", index, "caller_id", &edge.caller))?;
        let start = if of.told.outgoing.is_empty() { index } else { of.rows.start };
        of.rows = start..index + 1;
        of.told.outgoing.push((edge.callee, edge.terms));
    }
    Ok(rows.apart())
}

fn not_changed(list: &str, index: usize, field: &str, id: &EntityId) -> Error {
    let reason = format!("`{id}` is not among the services that changed");
    refused(list, index, InvalidValue::new(field, "not_changed", reason))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { entities_max: 7, dependencies_max: 40 };

    type Edges = BTreeMap<(usize, usize), u64>;

    /// Rows as ingestion keeps them: owners of entities, counts of edges.
    #[derive(Debug, Clone, Default)]
    struct Kept {
        owners: BTreeMap<usize, u8>,
        edges: Edges,
    }

    fn asked() -> Asked {
        Asked { time_ms: 0, at: Instant::now() }
    }

    fn name(number: usize) -> String {
        format!("n{number}")
    }

    impl Kept {
        /// An owner of 0 is none: the entity goes.
        fn change(&mut self, service: usize, owner: u8, outgoing: &[(usize, u64)]) {
            self.owners.remove(&service);
            self.owners.extend((owner > 0).then_some((service, owner)));
            self.edges.retain(|(caller, _), _| *caller != service);
            let outgoing = outgoing.iter().filter(|(callee, _)| *callee != service);
            self.edges.extend(outgoing.map(|(callee, count)| ((service, *callee), *count)));
        }

        /// The rows of some services, or of all.
        fn answer(&self, version: u64, of: Option<&[usize]>) -> GetTopologyResponse {
            let is_told = |service: &usize| of.is_none_or(|of| of.contains(service));
            let entity = |(id, owner): (&usize, &u8)| wire::Entity {
                id: name(*id),
                owner: owner.to_string(),
                ..Default::default()
            };
            let edge = |((caller, callee), count): (&(usize, usize), &u64)| wire::Dependency {
                caller_id: name(*caller),
                callee_id: name(*callee),
                observed_call_count: *count,
                ..Default::default()
            };
            let changed: std::collections::BTreeSet<usize> = of.unwrap_or_default().iter().copied().collect();
            GetTopologyResponse {
                version,
                epoch: "of this start".into(),
                base_version: if of.is_some() { version - 1 } else { 0 },
                changed_service_ids: changed.into_iter().map(name).collect(),
                entities: self.owners.iter().filter(|(id, _)| is_told(id)).map(entity).collect(),
                dependencies: self.edges.iter().filter(|((caller, _), _)| is_told(caller)).map(edge).collect(),
            }
        }
    }

    fn read(whole: GetTopologyResponse) -> Held {
        Held::read(whole, SIZE, asked()).expect("valid")
    }

    proptest! {
        #[test]
        fn parts_one_after_the_other_come_to_what_the_whole_is(
            parts in prop::collection::vec(
                prop::collection::vec((0..6_usize, 0..3_u8, prop::collection::vec((0..7_usize, 0..4_u64), 0..4)), 0..4),
                1..12,
            ),
        ) {
            let mut kept = Kept::default();
            (0..5).for_each(|service| kept.change(service, 1, &[(service + 1, 1), (0, 2)]));
            let mut held = read(kept.answer(1, None));
            for (version, changes) in (2..).zip(&parts) {
                changes.iter().for_each(|(service, owner, outgoing)| kept.change(*service, *owner, outgoing));
                let changed: Vec<usize> = changes.iter().map(|(service, ..)| *service).collect();
                held = held.updated(kept.answer(version, Some(&changed)), SIZE, asked()).expect("valid");
                let whole = read(kept.answer(version, None));
                prop_assert_eq!((held.version, &held.epoch), (whole.version, &whole.epoch));
                prop_assert_eq!(&held.entities, &whole.entities);
                prop_assert_eq!(&held.dependencies, &whole.dependencies);
                prop_assert_eq!(format!("{:?}", held.snapshot), format!("{:?}", whole.snapshot));
                prop_assert!(held.parts_bytes <= held.dependencies.byte_count());
            }
        }
    }

    #[test]
    fn what_is_not_told_of_shares_its_memory_and_counts_are_told_from_structure() {
        let mut kept = Kept::default();
        kept.change(0, 1, &[(1, 5), (2, 5)]);
        kept.change(1, 1, &[(2, 5)]);
        let before = read(kept.answer(1, None));
        kept.change(1, 1, &[(2, 6)]);
        let counted = before.updated(kept.answer(2, Some(&[1])), SIZE, asked()).expect("valid");
        assert!(counted.only_counts_since(&before));
        assert_eq!(counted.dependency(2).observed_call_count, 6);
        assert!(before.entities.iter().zip(&counted.entities).all(|(before, after)| Arc::ptr_eq(before, after)));
        let same = counted.updated(kept.answer(3, Some(&[])), SIZE, asked()).expect("valid");
        assert!(!same.only_counts_since(&counted));
        kept.change(1, 2, &[(2, 7)]);
        let owned = same.updated(kept.answer(4, Some(&[1])), SIZE, asked()).expect("valid");
        assert!(!owned.only_counts_since(&same), "another owner is more than a count");
    }

    #[test]
    fn a_part_of_something_else_is_refused() {
        let mut kept = Kept::default();
        kept.change(0, 1, &[(1, 5)]);
        let held = read(kept.answer(1, None));
        kept.change(0, 2, &[(1, 5), (2, 5)]);
        let refused = |part: GetTopologyResponse| held.updated(part, SIZE, asked()).expect_err("refused").to_string();
        let part = kept.answer(2, Some(&[0]));
        let cases = [
            ("base_version", GetTopologyResponse { base_version: 7, ..part.clone() }),
            (
                "entities/0/id",
                GetTopologyResponse { dependencies: Rows::default(), changed_service_ids: Vec::new(), ..part.clone() },
            ),
            (
                "dependencies/0/caller_id",
                GetTopologyResponse { entities: Rows::default(), changed_service_ids: Vec::new(), ..part.clone() },
            ),
            ("changed_service_ids/0", GetTopologyResponse { changed_service_ids: vec![String::new()], ..part.clone() }),
        ];
        for (field, part) in cases {
            let error = refused(part);
            assert!(error.contains(field), "{error} should name {field}");
        }
        let small = Size { entities_max: 1, dependencies_max: 1 };
        let error = held.updated(part, small, asked()).expect_err("two edges");
        assert!(matches!(error, Error::TooLarge { what: "dependencies", count: 2, limit: 1 }));
    }
}
