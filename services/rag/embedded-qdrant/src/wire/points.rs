//! Points, their ids, and how a delete selects them.

use std::str::FromStr;

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{PointId as WireId, PointStruct, PointsSelector, RetrievedPoint, ScoredPoint};
use qdrant_edge::external::uuid::Uuid;
use qdrant_edge::{PointId, PointStructPersisted, Record, VectorStructPersisted};

use super::filter::filter_from_wire;
use super::payload::{payload_from_wire, payload_to_wire};
use super::vectors::{vectors_from_wire, vectors_to_wire};
use crate::Error;
use crate::storage::collection::Selection;
use crate::storage::search::Found;

/// A point id: an unsigned number or a UUID.
pub(crate) fn point_id_from_wire(field: &str, id: Option<WireId>) -> Result<PointId, Error> {
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Num(number)) => Ok(PointId::NumId(number)),
        Some(PointIdOptions::Uuid(text)) => Uuid::from_str(&text)
            .map(PointId::Uuid)
            .map_err(|_| Error::invalid(field, format!("`{text}` is not a UUID"))),
        None => Err(Error::invalid(field, "has no point id")),
    }
}

/// A point id, for the answer.
pub(crate) fn point_id_to_wire(id: PointId) -> WireId {
    let options = match id {
        PointId::NumId(number) => PointIdOptions::Num(number),
        PointId::Uuid(uuid) => PointIdOptions::Uuid(uuid.to_string()),
    };
    WireId { point_id_options: Some(options) }
}

/// Several point ids, at most `max`.
pub(crate) fn point_ids_from_wire(field: &str, ids: Vec<WireId>, max: usize) -> Result<Vec<PointId>, Error> {
    check_count(field, ids.len(), max)?;
    ids.into_iter().enumerate().map(|(index, id)| point_id_from_wire(&format!("{field}[{index}]"), Some(id))).collect()
}

/// The points of an upsert, at most `max`, each with its place in the request for errors.
pub(crate) fn points_from_wire(points: Vec<PointStruct>, max: usize) -> Result<Vec<PointStructPersisted>, Error> {
    check_count("points", points.len(), max)?;
    points.into_iter().enumerate().map(|(index, point)| point_from_wire(&format!("points[{index}]"), point)).collect()
}

/// What a delete selects; nothing at all is an error, so that a forgotten selector deletes nothing in silence.
pub(crate) fn selection_from_wire(selector: Option<PointsSelector>, max: usize) -> Result<Selection, Error> {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => {
            Ok(Selection::Ids(point_ids_from_wire("points.ids", list.ids, max)?))
        }
        Some(PointsSelectorOneOf::Filter(filter)) => {
            Ok(Selection::Matching(filter_from_wire("points.filter", Some(filter))?.unwrap_or_default()))
        }
        None => Err(Error::invalid("points", "selects nothing")),
    }
}

/// A stored point, for the answer.
pub(crate) fn retrieved_to_wire(record: Record) -> RetrievedPoint {
    RetrievedPoint {
        id: Some(point_id_to_wire(record.id)),
        payload: payload_to_wire(record.payload),
        vectors: vectors_to_wire(record.vector),
        ..RetrievedPoint::default()
    }
}

/// A found point, for the answer.
pub(crate) fn scored_to_wire(score: f32, version: u64, record: Record) -> ScoredPoint {
    ScoredPoint {
        id: Some(point_id_to_wire(record.id)),
        payload: payload_to_wire(record.payload),
        vectors: vectors_to_wire(record.vector),
        score,
        version,
        ..ScoredPoint::default()
    }
}

/// The name and score of a found point, for an answer that holds nothing else of it.
pub(crate) fn found_to_wire(found: Found) -> ScoredPoint {
    ScoredPoint {
        id: Some(point_id_to_wire(found.id)),
        score: found.score,
        version: found.version,
        ..ScoredPoint::default()
    }
}

fn point_from_wire(field: &str, point: PointStruct) -> Result<PointStructPersisted, Error> {
    let vectors = vectors_from_wire(&format!("{field}.vectors"), point.vectors)?;
    Ok(PointStructPersisted {
        id: point_id_from_wire(&format!("{field}.id"), point.id)?,
        vector: VectorStructPersisted::Named(vectors.into_iter().collect()),
        payload: Some(payload_from_wire(&format!("{field}.payload"), point.payload)?),
    })
}

fn check_count(field: &str, count: usize, max: usize) -> Result<(), Error> {
    if count > max {
        return Err(Error::invalid(field, format!("{count} are more than the {max} allowed at once")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_both_ways() {
        for wire in [WireId::from(u64::MAX), WireId::from("6ba7b810-9dad-11d1-80b4-00c04fd430c8".to_owned())] {
            let id = point_id_from_wire("id", Some(wire.clone())).expect("a good id");
            assert_eq!(point_id_to_wire(id), wire);
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for id in [None, Some(WireId::default()), Some(WireId::from("runbook-7".to_owned()))] {
            assert!(point_id_from_wire("id", id.clone()).is_err(), "{id:?}");
        }
    }

    #[test]
    fn more_points_than_allowed_are_refused_whole() {
        let points = vec![PointStruct::new(1, vec![1.0], qdrant_client::Payload::new()); 3];
        let refusal = points_from_wire(points, 2).expect_err("three points");
        assert!(refusal.to_string().contains("3 are more than the 2"), "{refusal}");
    }

    #[test]
    fn a_delete_without_a_selector_is_refused() {
        assert!(selection_from_wire(None, 10).is_err());
        assert!(selection_from_wire(Some(PointsSelector::default()), 10).is_err());
    }
}
