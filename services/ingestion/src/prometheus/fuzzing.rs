use super::client::read_answer;
use super::convert::{Answers, convert};
use super::mapping::parse;

/// What a Prometheus server answers, turned into buckets.
pub fn prometheus_answer(bytes: &[u8]) {
    let mapping = "[[mapping]]\nlabel = \"service\"\nvalid = \"a\"\nbad = \"b\"\nlatency_buckets = \"c\"\n";
    let mappings = parse(mapping).expect("a valid mapping");
    let read = || read_answer(200, bytes).unwrap_or_default();
    let _ = convert(&mappings[0], Answers { valid: read(), bad: read(), latency: read() });
}

/// A mapping file.
pub fn prometheus_mapping(text: &str) {
    let _ = parse(text);
}
