//! Writes an answer as JSON with its entity tag.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;
use sha2::{Digest as _, Sha256};

use crate::contract::Endpoint;
use crate::json::encode;
use crate::json::plan::{Field, Kind, MessageId, Plans};
use crate::json::wire::{Fields, Malformed, Raw};

/// Bytes of the content's hash that an entity tag keeps.
const TAG_HASH_BYTES: usize = 16;
/// JSON is about this much longer than the wire format.
const JSON_LENGTH_FACTOR: usize = 3;

/// An answer's JSON and, where it is one versioned thing, its entity tag.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) tag: Option<String>,
}

/// Writes an encoded answer of an endpoint.
///
/// # Errors
/// Where it is no such message.
pub(crate) fn write(endpoint: &Endpoint, message: &[u8]) -> Result<Answer, Malformed> {
    let mut body = Vec::with_capacity(JSON_LENGTH_FACTOR * message.len());
    encode::write(&endpoint.plans, endpoint.output, message, &mut body)?;
    let tag = version(&endpoint.plans, endpoint.output, message).map(|version| {
        let hash = Sha256::digest(&body);
        format!("\"{version}-{}\"", hex::encode(&hash[..TAG_HASH_BYTES]))
    });
    Ok(Answer { body, tag })
}

/// Whether answers of this shape carry an entity tag: they hold one thing with an id and a version.
pub(crate) fn is_tagged(endpoint: &Endpoint) -> bool {
    versioned(&endpoint.plans, endpoint.output).next().is_some()
}

/// The things with an id and a version that a message holds, each with its field and that of its version.
fn versioned(plans: &Plans, message: MessageId) -> impl Iterator<Item = (&Field, &Field)> {
    plans.message(message).fields.iter().filter(|field| !field.is_list()).filter_map(|field| {
        let Kind::Message(thing) = field.kind else { return None };
        let thing = plans.message(thing);
        let version = thing.field("version").filter(|version| version.kind == Kind::Uint32);
        thing.field("id").filter(|id| id.kind == Kind::Text)?;
        Some((field, version?))
    })
}

fn version(plans: &Plans, message: MessageId, answer: &[u8]) -> Option<u32> {
    let last =
        |bytes, wanted: &Field| Fields::of(bytes).filter_map(Result::ok).filter(|one| one.0 == wanted.number).last();
    versioned(plans, message).find_map(|(thing, version)| match last(answer, thing)?.1 {
        Raw::Bytes(thing) => match last(thing, version) {
            Some((_, Raw::Varint(number))) => u32::try_from(number).ok(),
            _ => Some(0),
        },
        _ => None,
    })
}

/// Whether the caller holds this version already.
pub(crate) fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use attain_proto::recommendation::v1::{DecideSloResponse, ListSlosResponse, Slo};
    use prost::Message as _;

    #[test]
    fn one_versioned_thing_has_a_tag_of_its_content() {
        let contract = Contract::read(attain_proto::DESCRIPTORS).expect("valid");
        let endpoint = |operation_id: &str| {
            let mut endpoints = contract.endpoints().iter();
            endpoints.find(|endpoint| endpoint.operation_id == operation_id).expect(operation_id)
        };
        let decided = |target_ratio: f64| {
            let slo = Slo { id: "checkout:availability".into(), version: 3, target_ratio, ..Slo::default() };
            let message = DecideSloResponse { slo: Some(slo), decision: None };
            assert!(is_tagged(endpoint("DecideSlo")));
            write(endpoint("DecideSlo"), &message.encode_to_vec()).expect("JSON").tag.expect("a tag")
        };
        assert_eq!(decided(0.999), decided(0.999));
        assert_ne!(decided(0.999), decided(0.9990000000000001));
        assert!(decided(0.999).starts_with("\"3-"));
        let nothing = DecideSloResponse::default().encode_to_vec();
        assert_eq!(write(endpoint("DecideSlo"), &nothing).expect("JSON").tag, None);
        let list = ListSlosResponse { slos: vec![Slo::default()] }.encode_to_vec();
        assert_eq!(write(endpoint("ListSlos"), &list).expect("JSON").tag, None);
        assert!(!is_tagged(endpoint("ListSlos")));
    }

    #[test]
    fn known_tags_are_recognised() {
        for (header, known) in
            [("\"3-ab\"", true), ("W/\"3-ab\"", true), ("\"x\", \"3-ab\"", true), ("*", true), ("\"3-ac\"", false)]
        {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, header.parse().expect("a header"))]);
            assert_eq!(is_known(&headers, "\"3-ab\""), known, "{header}");
        }
    }
}
