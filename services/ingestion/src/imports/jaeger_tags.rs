//! Tags of Jaeger's spans and processes as attributes of OpenTelemetry.

use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use serde_json::Value;

/// The attributes that tags say; a tag that says nothing readable is left out.
pub(super) fn attributes(tags: &[&Value]) -> Vec<KeyValue> {
    tags.iter().filter_map(|tag| Some(attribute(tag["key"].as_str()?, value(tag)?))).collect()
}

pub(super) fn attribute(key: &str, value: OtlpValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// The text of the tag with this key, whatever its type.
pub(super) fn text(tags: &[&Value], key: &str) -> Option<String> {
    let tag = tags.iter().find(|tag| tag["key"] == key)?;
    match &tag["value"] {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Jaeger writes whole numbers beyond 2^53 as texts, and names the type beside the value.
fn value(tag: &Value) -> Option<OtlpValue> {
    let kind = tag["type"].as_str().unwrap_or_default();
    Some(match (&tag["value"], kind) {
        (Value::Bool(truth), _) => OtlpValue::BoolValue(*truth),
        (Value::Number(number), _) => match number.as_i64() {
            Some(whole) => OtlpValue::IntValue(whole),
            None => OtlpValue::DoubleValue(number.as_f64()?),
        },
        (Value::String(text), "int64") => OtlpValue::IntValue(text.parse().ok()?),
        (Value::String(text), "float64") => OtlpValue::DoubleValue(text.parse().ok()?),
        (Value::String(text), "bool") => OtlpValue::BoolValue(text.parse().ok()?),
        (Value::String(_), "binary") => return None,
        (Value::String(text), _) => OtlpValue::StringValue(text.clone()),
        _ => return None,
    })
}
