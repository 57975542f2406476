//! The decoders of this crate, open to `fuzz/`: each takes any bytes and must neither panic nor break its promise. Only
//! behind the feature `fuzzing`.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::json::decode::{At, message};
use crate::template::Template;

/// Every message of the contract, in the order of the descriptors.
static MESSAGES: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("the contract's own descriptors");
    pool.all_messages().filter(|known| known.package_name().starts_with("attain.")).collect()
});

/// JSON for a message of the contract, which the first byte chooses.
pub fn json(bytes: &[u8]) {
    let Some((chosen, rest)) = bytes.split_first() else { return };
    let descriptor = &MESSAGES[usize::from(*chosen) % MESSAGES.len()];
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(rest) else { return };
    if let Ok(read) = message(descriptor, &json, &At::Top) {
        let _ = read.encode_to_vec();
    }
}

/// A template of an address, and an address that it may stand for.
pub fn template(text: &str) {
    let (template, path) = text.split_once('\n').unwrap_or((text, "/a/b"));
    if let Ok(template) = Template::parse(template) {
        let _ = (template.matches(path), template.shape(), template.variables().count());
    }
}
