//! The decoders of this crate, open to `fuzz/`: each takes any bytes and must neither panic nor break its promise. Only
//! behind the feature `fuzzing`.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::json::decode::{At, message};
use crate::json::document::Document;
use crate::json::plan::{MessageId, Plans};
use crate::template::Template;

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
    }
}

/// A template of an address, and an address that it may stand for.
pub fn template(text: &str) {
    let (template, path) = text.split_once('\n').unwrap_or((text, "/a/b"));
    if let Ok(template) = Template::parse(template) {
        let _ = (template.matches(path), template.shape(), template.variables().count());
    }
}
