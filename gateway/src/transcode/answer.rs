//! Writes an answer as JSON with its entity tag.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _};
use sha2::{Digest as _, Sha256};

use crate::json::Json;

/// Bytes of the content's hash that an entity tag keeps.
const TAG_HASH_BYTES: usize = 16;

/// An answer's JSON and, where it is one versioned thing, its entity tag.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) tag: Option<String>,
}

/// Writes `message`.
///
/// # Errors
/// Where a value has no JSON; the contract has none such.
pub(crate) fn write(message: &DynamicMessage) -> Result<Answer, serde_json::Error> {
    let body = serde_json::to_vec(&Json(message))?;
    let tag = version(message).map(|version| {
        let hash = Sha256::digest(&body);
        format!("\"{version}-{}\"", hex::encode(&hash[..TAG_HASH_BYTES]))
    });
    Ok(Answer { body, tag })
}

/// Whether answers of this shape carry an entity tag: they hold one thing with an id and a version.
pub(crate) fn is_tagged(answer: &MessageDescriptor) -> bool {
    answer.fields().any(|field| !field.is_list() && field.kind().as_message().is_some_and(is_versioned))
}

fn is_versioned(message: &MessageDescriptor) -> bool {
    let has =
        |name: &str, fits: fn(&Kind) -> bool| message.get_field_by_name(name).is_some_and(|field| fits(&field.kind()));
    has("id", |kind| matches!(kind, Kind::String)) && has("version", |kind| matches!(kind, Kind::Uint32))
}

fn version(answer: &DynamicMessage) -> Option<u32> {
    let descriptor = answer.descriptor();
    let field = descriptor.fields().find(|field| {
        !field.is_list() && field.kind().as_message().is_some_and(is_versioned) && answer.has_field(field)
    })?;
    let thing = answer.get_field(&field);
    thing.as_message()?.get_field_by_name("version")?.as_u32()
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
    use attain_proto::recommendation::v1::{DecideSloResponse, ListSlosResponse, Slo};
    use prost_reflect::DescriptorPool;

    fn dynamic(name: &str, message: &impl prost::Message) -> DynamicMessage {
        let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
        let mut dynamic =
            DynamicMessage::new(pool.get_message_by_name(&format!("attain.recommendation.v1.{name}")).expect(name));
        dynamic.transcode_from(message).expect("one contract");
        dynamic
    }

    #[test]
    fn one_versioned_thing_has_a_tag_of_its_content() {
        let decided = |target_ratio: f64| {
            let slo = Slo { id: "checkout:availability".into(), version: 3, target_ratio, ..Slo::default() };
            let message = dynamic("DecideSloResponse", &DecideSloResponse { slo: Some(slo), decision: None });
            assert!(is_tagged(&message.descriptor()));
            write(&message).expect("JSON").tag.expect("a tag")
        };
        assert_eq!(decided(0.999), decided(0.999));
        assert_ne!(decided(0.999), decided(0.9990000000000001));
        assert!(decided(0.999).starts_with("\"3-"));
        let list = dynamic("ListSlosResponse", &ListSlosResponse { slos: vec![Slo::default()] });
        assert_eq!(write(&list).expect("JSON").tag, None);
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
