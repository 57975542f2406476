//! JSON for messages of the contract. [`plan`] holds what the descriptors say of them as tables; a body is parsed to a
//! [`document`] and read from there into the wire format by [`decode`], which says by JSON pointer what cannot be read;
//! [`encode`] writes the wire format as JSON. [`words`] spells enums, [`wire`] is the wire format, [`locate`] finds the place of a syntax error,
//! [`echo`] repeats a caller's own words.

pub(crate) mod decode;
pub(crate) mod document;
#[cfg(test)]
mod draw;
pub(crate) mod echo;
pub(crate) mod encode;
pub(crate) mod locate;
pub(crate) mod plan;
mod time;
pub(crate) mod wire;
pub(crate) mod words;

pub(crate) use decode::Violation;

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";
/// Package of Protocol Buffers' own messages; of those only times and spans are served.
const WELL_KNOWN: &str = "google.protobuf";
