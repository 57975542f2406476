//! Payload values: protobuf `Value` ⇄ JSON.

use std::collections::HashMap;

use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::with_payload_selector::SelectorOptions;
use qdrant_client::qdrant::{ListValue, Struct, Value, WithPayloadSelector};
use qdrant_edge::{JsonPath, Payload, PayloadSelector, WithPayloadInterface};
use serde_json::{Map, Number, Value as Json};

use crate::Error;

/// A point's payload as the engine stores it.
pub(crate) fn payload_from_wire(field: &str, payload: HashMap<String, Value>) -> Result<Payload, Error> {
    Ok(Payload(object_from_wire(field, payload)?))
}

/// A stored payload as the client expects it; nothing at all becomes an empty map.
pub(crate) fn payload_to_wire(payload: Option<Payload>) -> HashMap<String, Value> {
    payload.into_iter().flatten().map(|(key, value)| (key, value_to_wire(value))).collect()
}

/// Which parts of the payload to return; `default` where the request does not say.
pub(crate) fn payload_selector_from_wire(
    selector: Option<WithPayloadSelector>,
    default: bool,
) -> Result<WithPayloadInterface, Error> {
    let Some(options) = selector.and_then(|selector| selector.selector_options) else {
        return Ok(WithPayloadInterface::Bool(default));
    };
    Ok(match options {
        SelectorOptions::Enable(enable) => WithPayloadInterface::Bool(enable),
        SelectorOptions::Include(include) => WithPayloadInterface::Selector(PayloadSelector::new_include(paths(
            "with_payload.include",
            &include.fields,
        )?)),
        SelectorOptions::Exclude(exclude) => WithPayloadInterface::Selector(PayloadSelector::new_exclude(paths(
            "with_payload.exclude",
            &exclude.fields,
        )?)),
    })
}

/// A path into a payload, such as `tenant` or `source.lines[]`.
pub(crate) fn path(field: &str, key: &str) -> Result<JsonPath, Error> {
    key.parse().map_err(|()| Error::invalid(field, format!("`{key}` is not a payload path")))
}

fn paths(field: &str, keys: &[String]) -> Result<Vec<JsonPath>, Error> {
    keys.iter().map(|key| path(field, key)).collect()
}

fn object_from_wire(field: &str, values: HashMap<String, Value>) -> Result<Map<String, Json>, Error> {
    values
        .into_iter()
        .map(|(key, value)| {
            let json = value_from_wire(&format!("{field}.{key}"), value)?;
            Ok((key, json))
        })
        .collect()
}

fn value_from_wire(field: &str, value: Value) -> Result<Json, Error> {
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(flag)) => Json::Bool(flag),
        Some(Kind::IntegerValue(integer)) => Json::Number(integer.into()),
        Some(Kind::DoubleValue(double)) => {
            Json::Number(Number::from_f64(double).ok_or_else(|| Error::invalid(field, "is not a finite number"))?)
        }
        Some(Kind::StringValue(text)) => Json::String(text),
        Some(Kind::ListValue(list)) => Json::Array(
            list.values
                .into_iter()
                .enumerate()
                .map(|(index, value)| value_from_wire(&format!("{field}[{index}]"), value))
                .collect::<Result<_, Error>>()?,
        ),
        Some(Kind::StructValue(object)) => Json::Object(object_from_wire(field, object.fields)?),
    })
}

fn value_to_wire(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(flag),
        // Whole numbers past i64 cannot come from the wire; as a double they stay close.
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::DoubleValue(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value_to_wire).collect() }),
        Json::Object(fields) => Kind::StructValue(Struct {
            fields: fields.into_iter().map(|(key, value)| (key, value_to_wire(value))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Kind::NullValue(0)),
            any::<bool>().prop_map(Kind::BoolValue),
            any::<i64>().prop_map(Kind::IntegerValue),
            (-1e300f64..1e300).prop_map(|double| Kind::DoubleValue(double + 0.5)),
            ".*".prop_map(Kind::StringValue),
        ]
        .prop_map(|kind| Value { kind: Some(kind) });
        leaf.prop_recursive(3, 24, 4, |inner| {
            let list =
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|values| Kind::ListValue(ListValue { values }));
            let object = proptest::collection::hash_map(".*", inner, 0..4)
                .prop_map(|fields| Kind::StructValue(Struct { fields }));
            prop_oneof![list, object].prop_map(|kind| Value { kind: Some(kind) })
        })
    }

    proptest! {
        #[test]
        fn a_payload_comes_back_as_it_was_sent(
            payload in proptest::collection::hash_map("[a-z]{1,8}", any_value(), 0..4)
        ) {
            let stored = payload_from_wire("payload", payload.clone()).expect("finite values");
            prop_assert_eq!(payload_to_wire(Some(stored)), payload);
        }
    }

    #[test]
    fn a_number_that_json_cannot_hold_is_refused_with_its_place() {
        let list = Value {
            kind: Some(Kind::ListValue(ListValue { values: vec![Value { kind: Some(Kind::DoubleValue(f64::NAN)) }] })),
        };
        let refusal = payload_from_wire("points[2].payload", HashMap::from([("x".into(), list)])).expect_err("NaN");
        assert!(refusal.to_string().starts_with("points[2].payload.x[0]:"), "{refusal}");
    }

    #[test]
    fn the_default_of_a_selector_is_the_method_s() {
        for default in [false, true] {
            let selected = payload_selector_from_wire(None, default).expect("no selector");
            assert_eq!(selected, WithPayloadInterface::Bool(default));
        }
    }
}
