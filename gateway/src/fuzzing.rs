//! The decoders of this crate, open to `fuzz/`: each takes any bytes and must neither panic nor break its promise. And what
//! `benches/` measures. Only behind the feature `fuzzing`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use http::HeaderMap;

use crate::contract::{Contract, Endpoint};
use crate::intake;
use crate::json::decode::{At, message};
use crate::json::document::Document;
use crate::json::encode;
use crate::json::plan::{MessageId, Plans};
use crate::template::Template;
use crate::transcode::answer::write;
use crate::transcode::request::{Given, assemble};

struct Known {
    plans: Plans,
    /// Every message of the contract, in the order of the descriptors.
    messages: Vec<(MessageId, MessageDescriptor)>,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("the contract's own descriptors");
    let plans = Plans::compile(&pool);
    let known = pool.all_messages().filter(|known| known.package_name().starts_with("attain."));
    let messages = known.filter_map(|known| Some((plans.find(known.full_name())?, known))).collect();
    Known { plans, messages }
});

/// JSON for a message of the contract, which the first byte chooses. What is read is a message.
pub fn json(bytes: &[u8]) {
    let Some((chosen, rest)) = bytes.split_first() else { return };
    let (id, descriptor) = &KNOWN.messages[usize::from(*chosen) % KNOWN.messages.len()];
    let Some(document) = std::str::from_utf8(rest).ok().and_then(|text| Document::parse(text).ok()) else { return };
    let mut encoded = Vec::new();
    if message(&KNOWN.plans, *id, document.top(), &At::Top, &mut encoded).is_ok() {
        DynamicMessage::decode(descriptor.clone(), &*encoded).expect("what was written is a message");
        let mut text = Vec::new();
        encode::write(&KNOWN.plans, *id, &encoded, &mut text).expect("what was read can be written");
    }
}

static CONTRACT: LazyLock<Contract> =
    LazyLock::new(|| Contract::read(attain_proto::DESCRIPTORS).expect("the contract can be served"));

fn endpoint(operation_id: &str) -> Option<&'static Endpoint> {
    let mut endpoints = CONTRACT.endpoints().iter().map(AsRef::as_ref);
    endpoints.find(|endpoint: &&Endpoint| endpoint.operation_id == operation_id)
}

/// The encoded request that a body becomes; none where it is refused, or the operation takes no body or binds a path.
pub fn request(operation_id: &str, body: &[u8]) -> Option<Vec<u8>> {
    let document = intake::parse(body).ok()?;
    let given = Given { captures: &[], query: "", headers: &HeaderMap::new() };
    Some(assemble(endpoint(operation_id)?, given, Some(&document)).ok()?.message)
}

/// The body that an encoded answer becomes; none where it is no such answer.
pub fn answer(operation_id: &str, message: &[u8]) -> Option<Vec<u8>> {
    Some(write(endpoint(operation_id)?, message).ok()?.body)
}

/// A template of an address, and an address that it may stand for.
pub fn template(text: &str) {
    let (template, path) = text.split_once('\n').unwrap_or((text, "/a/b"));
    if let Ok(template) = Template::parse(template) {
        let _ = (template.matches(path), template.shape(), template.variables().count());
    }
}
