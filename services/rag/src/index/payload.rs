//! What a point carries beside its vectors, and how it is read back.

use std::collections::{BTreeSet, HashMap};

use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind as ValueKind;
use qdrant_client::qdrant::{PointId, Value};
use sha2::{Digest as _, Sha256};

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::document::DocumentId;

pub(super) const TENANT: &str = "tenant_id";
pub(super) const DOCUMENT: &str = "document_id";
pub(super) const VERSION: &str = "version";
pub(super) const KIND: &str = "kind";
pub(super) const SERVICES: &str = "service_ids";
pub(super) const NAMES: &str = "names";
pub(super) const DOUBTED: &str = "doubted";
pub(super) const KEY: &str = "key";
pub(super) const MODEL: &str = "model";
pub(super) const START: &str = "start_offset";
pub(super) const END: &str = "end_offset";
pub(super) const ORDINAL: &str = "ordinal";
pub(super) const HEADINGS: &str = "headings";
pub(super) const TITLE_TERMS: &str = "title_terms";
pub(super) const SKETCH: &str = "sketch";
pub(super) const TIERS: &str = "tiers";
pub(super) const OBJECTIVE: &str = "states_objective";
pub(super) const REVIEW: &str = "review_ms";
pub(super) const QUOTE_SHA256: &str = "quote_sha256";

/// The name of a point: that of a document, or of one of its passages.
pub(crate) type Point = u128;

/// The point of a document, or of one of its passages: the same for the same place, so that writing again overwrites.
pub(super) fn point(tenant: &TenantId, document: &DocumentId, ordinal: Option<usize>) -> Point {
    let place = ordinal.map_or_else(|| "document".to_owned(), |ordinal| format!("passage {ordinal}"));
    let digest = Sha256::digest(format!("{tenant}\n{document}\n{place}"));
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    // RFC 9562: version 8 (of the maker's own design), variant 10.
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Point::from_be_bytes(bytes)
}

/// The name as the server knows it.
pub(super) fn point_id(point: Point) -> PointId {
    let hex = hex::encode(point.to_be_bytes());
    PointId::from(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// The name of a point that the server found.
pub(super) fn point_of(id: Option<&PointId>) -> Result<Point, Error> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(uuid)) => Point::from_str_radix(&uuid.replace('-', ""), 16).ok(),
        _ => None,
    }
    .ok_or_else(|| Error::Corrupt("a point of the index has another name than documents and passages have".to_owned()))
}

/// Reads the fields of a point.
pub(super) struct Reader<'a>(pub(super) &'a HashMap<String, Value>);

impl Reader<'_> {
    pub(super) fn text(&self, field: &str) -> Result<&str, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::StringValue(text)) => Ok(text),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn number(&self, field: &str) -> Result<u32, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::IntegerValue(number)) => u32::try_from(*number).map_err(|_| missing(field)),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn time_ms(&self, field: &str) -> Result<i64, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::IntegerValue(number)) => Ok(*number),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn flag(&self, field: &str) -> Result<bool, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::BoolValue(flag)) => Ok(*flag),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn numbers(&self, field: &str) -> Result<BTreeSet<u32>, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::ListValue(list)) => list
                .values
                .iter()
                .map(|value| match &value.kind {
                    Some(ValueKind::IntegerValue(number)) => u32::try_from(*number).map_err(|_| missing(field)),
                    _ => Err(missing(field)),
                })
                .collect(),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn texts(&self, field: &str) -> Result<Vec<String>, Error> {
        match self.0.get(field).and_then(|value| value.kind.as_ref()) {
            Some(ValueKind::ListValue(list)) => list
                .values
                .iter()
                .map(|value| match &value.kind {
                    Some(ValueKind::StringValue(text)) => Ok(text.clone()),
                    _ => Err(missing(field)),
                })
                .collect(),
            _ => Err(missing(field)),
        }
    }

    pub(super) fn set(&self, field: &str) -> Result<BTreeSet<String>, Error> {
        Ok(self.texts(field)?.into_iter().collect())
    }

    pub(super) fn document(&self) -> Result<DocumentId, Error> {
        DocumentId::new(DOCUMENT, self.text(DOCUMENT)?).map_err(|invalid| Error::Corrupt(invalid.to_string()))
    }

    pub(super) fn tenant(&self) -> Result<TenantId, Error> {
        TenantId::new(TENANT, self.text(TENANT)?).map_err(|invalid| Error::Corrupt(invalid.to_string()))
    }
}

fn missing(field: &str) -> Error {
    Error::Corrupt(format!("a point of the index has no readable {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn point_ids_are_stable_and_apart() {
        let tenant = |name| TenantId::new("t", name).expect("valid");
        let document = |name| DocumentId::new("d", name).expect("valid");
        let points = [
            point(&tenant("a"), &document("x"), None),
            point(&tenant("a"), &document("x"), Some(0)),
            point(&tenant("a"), &document("x"), Some(1)),
            point(&tenant("b"), &document("x"), None),
            point(&tenant("a"), &document("y"), None),
        ];
        assert_eq!(BTreeSet::from(points).len(), points.len());
        assert_eq!(point(&tenant("a"), &document("x"), None), points[0]);
        for point in points {
            assert_eq!(point_of(Some(&point_id(point))).expect("a name"), point);
        }
        assert!(point_of(Some(&PointId::from(7))).is_err() && point_of(None).is_err());
    }
}
