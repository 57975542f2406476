#![allow(dead_code)]
pub(crate) mod decode;
pub(crate) mod encode;
mod time;
mod words;
const TIMESTAMP: &str = "google.protobuf.Timestamp";
const DURATION: &str = "google.protobuf.Duration";
const WELL_KNOWN: &str = "google.protobuf";
