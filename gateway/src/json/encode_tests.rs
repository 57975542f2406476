use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};

use super::super::decode::{self, At};
use super::super::document::Document;
use super::super::draw::{DEPTH_MAX, Draw, MESSAGES, PLANS, decoded};
use super::*;

fn written(name: &str, message: &[u8]) -> Result<String, Malformed> {
    let mut out = Vec::new();
    write(&PLANS, PLANS.find(name).expect(name), message, &mut out)?;
    Ok(String::from_utf8(out).expect("text"))
}

/// Reads what was written.
fn read(name: &str, text: &str) -> Vec<u8> {
    let document = Document::parse(text).expect("JSON");
    let mut out = Vec::new();
    decode::message(&PLANS, PLANS.find(name).expect(name), document.top(), &At::Top, &mut out).expect(text);
    out
}

/// An encoded message that Protocol Buffers' own JSON reader and writer made.
fn drawn(descriptor: &MessageDescriptor, state: u64) -> Vec<u8> {
    let document = Draw { state, odd_percent: 0 }.message(descriptor, DEPTH_MAX);
    let message = DynamicMessage::deserialize_with_options(descriptor.clone(), document, &DeserializeOptions::new());
    message.expect("valid").encode_to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_is_read_as_the_same(one in any::<u64>(), other in any::<u64>(), which in any::<prop::sample::Index>()) {
        let descriptor = which.get(&MESSAGES);
        // Messages one behind the other are one: lists grow, parts are joined, of the rest the last counts.
        for message in [drawn(descriptor, one), [drawn(descriptor, one), drawn(descriptor, other)].concat()] {
            let text = written(descriptor.full_name(), &message).expect("a message");
            let again = read(descriptor.full_name(), &text);
            prop_assert_eq!(decoded(descriptor, &again), decoded(descriptor, &message), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_written_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60), which in any::<prop::sample::Index>()) {
        let descriptor = which.get(&MESSAGES);
        if let Ok(text) = written(descriptor.full_name(), &bytes) {
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
        }
    }
}

#[test]
fn what_is_not_known_is_passed_over_and_what_does_not_fit_is_refused() {
    let change = "attain.vocabulary.v1.Cycle";
    let expected = "{\"service_ids\":[\"a\"],\"bootstrap_hazard\":true}";
    // Field 99 is unknown; field 2 comes before field 1.
    assert_eq!(written(change, &[0x9a, 6, 1, b'x', 16, 1, 10, 1, b'a']).as_deref(), Ok(expected));
    for bytes in [&[16][..], &[10, 1, 0xff], &[8, 1], &[10, 9, b'a'], &[18, 0]] {
        written(change, bytes).expect_err("no such message");
    }
}

#[test]
fn numbers_in_one_piece_and_by_themselves_are_one_list() {
    let histogram = "attain.vocabulary.v1.LatencyHistogram";
    let text = written(histogram, &[8, 1, 34, 3, 1, 0xac, 2, 32, 5, 34, 0]).expect("a message");
    assert_eq!(text, "{\"scale\":-1,\"zero_count\":0,\"offset\":0,\"bucket_counts\":[1,300,5]}");
}

#[test]
fn nesting_has_an_end() {
    // The only message at hand that holds messages of its own type.
    let (name, number) = ("google.api.HttpRule", 11);
    let mut bytes = Vec::new();
    assert!(written(name, &bytes).is_ok());
    for _ in 0..200 {
        let mut outer = Vec::new();
        prost::encoding::encode_key(number, WireType::LengthDelimited, &mut outer);
        wire::put_bytes(&mut outer, &bytes);
        bytes = outer;
    }
    assert_eq!(written(name, &bytes), Err(Malformed("it is nested too deeply")));
}
