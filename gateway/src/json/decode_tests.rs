use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage};

use super::super::draw::{DEPTH_MAX, Draw, MESSAGES, PLANS, decoded};
use super::*;

fn read(name: &str, text: &str) -> Result<Vec<u8>, Violation> {
    let document = Document::parse(text).expect("JSON");
    let mut out = Vec::new();
    let id = PLANS.find(name).expect(name);
    message(&PLANS, id, document.top(), &At::Top, &mut out).map(|()| out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn documents_are_read_as_protocol_buffers_own_json_is(state in any::<u64>(), which in any::<prop::sample::Index>()) {
        let descriptor = which.get(&MESSAGES);
        let document = Draw { state, odd_percent: 0 }.message(descriptor, DEPTH_MAX);
        let expected =
            DynamicMessage::deserialize_with_options(descriptor.clone(), &document, &DeserializeOptions::new());
        let expected = expected.expect("valid").encode_to_vec();
        let read = read(descriptor.full_name(), &document.to_string()).expect("valid");
        prop_assert_eq!(decoded(descriptor, &read), decoded(descriptor, &expected), "{}", document);
    }

    #[test]
    fn a_document_with_odd_values_is_read_or_refused_at_one_of_its_places(
        state in any::<u64>(),
        which in any::<prop::sample::Index>(),
        odd_percent in 1..12_u64,
    ) {
        let descriptor = which.get(&MESSAGES);
        let document = Draw { state, odd_percent }.message(descriptor, DEPTH_MAX);
        match read(descriptor.full_name(), &document.to_string()) {
            Ok(read) => drop(decoded(descriptor, &read)),
            Err(violation) => {
                prop_assert!(document.pointer(&violation.pointer).is_some(), "{}: {violation:?}", document);
            }
        }
    }
}

#[test]
fn of_members_with_one_name_the_last_counts() {
    let dependency = "attain.vocabulary.v1.Dependency";
    for (repeated, once) in [
        (r#"{"caller_id": 7, "callee_id": "b", "caller_id": "a"}"#, r#"{"callee_id": "b", "caller_id": "a"}"#),
        (r#"{"caller_id": "a", "caller_id": null}"#, "{}"),
        (r#"{"sources": ["traces"], "sources": ["declared"]}"#, r#"{"sources": ["declared"]}"#),
        (
            r#"{"observed_latency": {"scale": 3}, "observed_latency": {"zero_count": 1}}"#,
            r#"{"observed_latency": {"zero_count": 1}}"#,
        ),
    ] {
        assert_eq!(read(dependency, repeated), read(dependency, once), "{repeated}");
    }
    let bucket = "attain.vocabulary.v1.SliBucket";
    let repeated = r#"{"inherited_by_dependency": {"a": "x", "a": 2}}"#;
    assert_eq!(read(bucket, repeated), read(bucket, r#"{"inherited_by_dependency": {"a": 2}}"#));
    let change = "attain.graph.v1.ScenarioChange";
    let repeated = r#"{"remove_dependency": {"caller_id": "a"}, "remove_dependency": {"caller_id": "b"}}"#;
    assert_eq!(read(change, repeated), read(change, r#"{"remove_dependency": {"caller_id": "b"}}"#));
}

#[test]
fn a_message_of_many_members_with_one_name_is_read_in_time() {
    let text = format!("{{{}\"caller_id\":\"a\"}}", "\"caller_id\":7,".repeat(200_000));
    let expected = read("attain.vocabulary.v1.Dependency", r#"{"caller_id": "a"}"#);
    assert_eq!(read("attain.vocabulary.v1.Dependency", &text), expected);
}
