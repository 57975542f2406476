//! JSON for messages of the contract, by their descriptors: [`encode`] writes, [`decode`] reads and says by JSON pointer what
//! cannot be read, [`words`] spells enums, [`locate`] finds the place of a syntax error,
//! [`echo`] repeats a caller's own words.

pub(crate) mod decode;
pub(crate) mod echo;
pub(crate) mod encode;
pub(crate) mod locate;
mod time;
pub(crate) mod words;

pub(crate) use decode::Violation;
pub(crate) use encode::Json;

const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";
/// Package of messages whose JSON is defined by Protocol Buffers and left to prost-reflect, times and spans excepted.
const WELL_KNOWN: &str = "google.protobuf";
