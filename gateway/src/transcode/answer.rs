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
/// Fields of answers that say how the answer came about, not what it is: entity tags are those of the answer without them.
const PASSING: [&str; 1] = ["knowledge_age"];
/// What the tags of lists begin with, in the place of a version.
const OF_A_LIST: &str = "list";

/// An answer's JSON and, where it is one versioned thing or a list of such, its entity tag.
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
    let one = version(&endpoint.plans, endpoint.output, message).map(|version| version.to_string());
    let tag = match one.or_else(|| lists_versions(endpoint).then(|| OF_A_LIST.to_owned())) {
        None => None,
        Some(version) => Some(format!("\"{version}-{}\"", hash(endpoint, message, &body)?)),
    };
    Ok(Answer { body, tag })
}

/// Whether answers of this shape carry an entity tag: they hold one thing with an id and a version, or list such things.
pub(crate) fn is_tagged(endpoint: &Endpoint) -> bool {
    versioned(&endpoint.plans, endpoint.output).next().is_some() || lists_versions(endpoint)
}

/// Whether an endpoint that reads answers with a list of things with an id and a version, or of what holds one.
fn lists_versions(endpoint: &Endpoint) -> bool {
    let plans = &endpoint.plans;
    let fields = plans.message(endpoint.output).fields.iter();
    endpoint.verb == http::Method::GET
        && fields.filter(|field| field.is_list()).any(|field| match field.kind {
            Kind::Message(item) => version_field(plans, item).is_some() || versioned(plans, item).next().is_some(),
            _ => false,
        })
}

/// Hash of the JSON of an answer without what is passing.
fn hash(endpoint: &Endpoint, message: &[u8], body: &[u8]) -> Result<String, Malformed> {
    let fields = &endpoint.plans.message(endpoint.output).fields;
    let passing: Vec<u32> =
        fields.iter().filter(|field| PASSING.contains(&&*field.name)).map(|field| field.number).collect();
    let hash = if passing.is_empty() {
        Sha256::digest(body)
    } else {
        let mut lasting = Vec::with_capacity(body.len());
        encode::write(&endpoint.plans, endpoint.output, &without(message, &passing)?, &mut lasting)?;
        Sha256::digest(&lasting)
    };
    Ok(hex::encode(&hash[..TAG_HASH_BYTES]))
}

/// A message without some of its fields.
fn without(message: &[u8], numbers: &[u32]) -> Result<Vec<u8>, Malformed> {
    let mut kept = Vec::with_capacity(message.len());
    let mut fields = Fields::of(message);
    let mut before = fields.rest();
    while let Some(read) = fields.next() {
        let (number, _) = read?;
        if !numbers.contains(&number) {
            kept.extend_from_slice(&before[..before.len() - fields.rest().len()]);
        }
        before = fields.rest();
    }
    Ok(kept)
}

/// The things with an id and a version that a message holds, each with its field and that of its version.
fn versioned(plans: &Plans, message: MessageId) -> impl Iterator<Item = (&Field, &Field)> {
    plans.message(message).fields.iter().filter(|field| !field.is_list()).filter_map(|field| {
        let Kind::Message(thing) = field.kind else { return None };
        Some((field, version_field(plans, thing)?))
    })
}

/// The version of a thing that has an id too.
fn version_field(plans: &Plans, thing: MessageId) -> Option<&Field> {
    let thing = plans.message(thing);
    thing.field("id").filter(|id| id.kind == Kind::Text)?;
    thing.field("version").filter(|version| version.kind == Kind::Uint32)
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
    use attain_proto::recommendation::v1::{
        DecideSloResponse, GetSloRecommendationsResponse, ListSlosResponse, Recommendation, Slo,
    };
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
            let message = DecideSloResponse { slo: Some(slo), ..DecideSloResponse::default() };
            assert!(is_tagged(endpoint("DecideSlo")));
            write(endpoint("DecideSlo"), &message.encode_to_vec()).expect("JSON").tag.expect("a tag")
        };
        assert_eq!(decided(0.999), decided(0.999));
        assert_ne!(decided(0.999), decided(0.9990000000000001));
        assert!(decided(0.999).starts_with("\"3-"));
        let nothing = DecideSloResponse::default().encode_to_vec();
        assert_eq!(write(endpoint("DecideSlo"), &nothing).expect("JSON").tag, None);
        assert!(!is_tagged(endpoint("ListAuditRecords")) && !is_tagged(endpoint("AnalyzeImpact")));
    }

    #[test]
    fn lists_of_versioned_things_have_a_tag_of_their_content() {
        let contract = Contract::read(attain_proto::DESCRIPTORS).expect("valid");
        let endpoint = |operation_id: &str| {
            let mut endpoints = contract.endpoints().iter();
            endpoints.find(|endpoint| endpoint.operation_id == operation_id).expect(operation_id)
        };
        let tag = |slos: Vec<Slo>| {
            let answer = write(endpoint("ListSlos"), &ListSlosResponse { slos }.encode_to_vec()).expect("JSON");
            answer.tag.expect("a tag")
        };
        assert_eq!(tag(vec![Slo::default()]), tag(vec![Slo::default()]));
        assert_ne!(tag(vec![Slo::default()]), tag(vec![Slo { version: 2, ..Slo::default() }]));
        assert_ne!(tag(vec![]), tag(vec![Slo::default()]));
        // No version: it cannot be sent as `If-Match`.
        assert!(tag(vec![]).starts_with("\"list-"));
        for nested in ["ListRegisteredSlos", "ListRecommendations", "ListPolicyVersions"] {
            assert!(is_tagged(endpoint(nested)), "{nested}");
        }
    }

    #[test]
    fn what_is_passing_does_not_change_the_tag() {
        let contract = Contract::read(attain_proto::DESCRIPTORS).expect("valid");
        let endpoint = contract.endpoints().iter().find(|endpoint| endpoint.operation_id == "GetSloRecommendations");
        let answer = |age_seconds: i64, stale: bool| {
            let recommendation = Recommendation { id: "rec-1".into(), version: 4, ..Recommendation::default() };
            let message = GetSloRecommendationsResponse {
                recommendation: Some(recommendation),
                stale,
                stale_reason: String::new(),
                knowledge_age: Some(attain_proto::convert::duration(age_seconds * 1000)),
                decided_below: Vec::new(),
            };
            write(endpoint.expect("there"), &message.encode_to_vec()).expect("JSON")
        };
        let (young, old) = (answer(1, false), answer(2, false));
        assert_eq!(young.tag, old.tag);
        assert!(young.tag.as_ref().is_some_and(|tag| tag.starts_with("\"4-")));
        assert_ne!(young.body, old.body);
        assert_ne!(young.tag, answer(1, true).tag);
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
