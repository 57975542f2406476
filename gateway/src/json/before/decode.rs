//! Reads a message from JSON. The first value that does not fit is named by its JSON pointer.

use std::collections::HashMap;

use base64::Engine as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::Value as JsonValue;

use super::{DURATION, TIMESTAMP, WELL_KNOWN, time, words};
use crate::json::echo::shorten;

/// Whole numbers up to here are exact as floating-point numbers, so `5.0` may stand for 5.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// JSON pointer (RFC 6901) from the top of the request.
    pub(crate) pointer: String,
    /// Stable machine-readable reason.
    pub(crate) code: String,
    /// A sentence a person can act on.
    pub(crate) reason: String,
}

/// Where a value is; turned into text only where something is wrong with it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum At<'a> {
    Top,
    Field(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl At<'_> {
    fn violation(&self, code: &str, reason: impl Into<String>) -> Violation {
        Violation { pointer: self.pointer(), code: code.to_owned(), reason: reason.into() }
    }

    pub(crate) fn pointer(&self) -> String {
        match self {
            At::Top => String::new(),
            At::Field(parent, name) => format!("{}/{}", parent.pointer(), escape(name)),
            At::Index(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
}

/// One token of a JSON pointer.
pub(crate) fn escape(token: &str) -> String {
    shorten(token).replace('~', "~0").replace('/', "~1")
}

/// Reads a whole message.
pub(crate) fn message(
    descriptor: &MessageDescriptor,
    json: &JsonValue,
    at: &At<'_>,
) -> Result<DynamicMessage, Violation> {
    if descriptor.package_name() == WELL_KNOWN {
        return well_known(descriptor, json, at);
    }
    let JsonValue::Object(members) = json else {
        return Err(wrong_type(json, "an object", at));
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    for (name, value) in members {
        let at = At::Field(at, name);
        let field = known_field(descriptor, name, &at)?;
        set(&mut message, &field, value, &at)?;
    }
    Ok(message)
}

/// The field of that name.
pub(crate) fn known_field(
    descriptor: &MessageDescriptor,
    name: &str,
    at: &At<'_>,
) -> Result<FieldDescriptor, Violation> {
    descriptor.get_field_by_name(name).ok_or_else(|| {
        let known: Vec<_> = descriptor.fields().map(|field| field.name().to_owned()).collect();
        let reason = format!("there is no field `{}` here; fields are {}", shorten(name), known.join(", "));
        at.violation("unknown_field", reason)
    })
}

/// Reads one field into `message`; `null` leaves it unset.
pub(crate) fn set(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    json: &JsonValue,
    at: &At<'_>,
) -> Result<(), Violation> {
    if json.is_null() {
        return Ok(());
    }
    let taken = field.containing_oneof().and_then(|group| group.fields().find(|other| message.has_field(other)));
    if let Some(other) = taken {
        let reason = format!("only one of `{}` and `{}` can be given", other.name(), field.name());
        return Err(at.violation("one_of", reason));
    }
    let value = value(field, json, at)?;
    message.set_field(field, value);
    Ok(())
}

fn value(field: &FieldDescriptor, json: &JsonValue, at: &At<'_>) -> Result<Value, Violation> {
    let kind = field.kind();
    if field.is_map() {
        let JsonValue::Object(members) = json else {
            return Err(wrong_type(json, "an object", at));
        };
        return map(&kind, members, at);
    }
    if field.is_list() {
        let items = elements(json, at)?;
        let read = items.iter().enumerate().map(|(index, item)| single(&kind, item, &At::Index(at, index)));
        return Ok(Value::List(read.collect::<Result<_, _>>()?));
    }
    single(&kind, json, at)
}

/// The elements of a list.
pub(crate) fn elements<'j>(json: &'j JsonValue, at: &At<'_>) -> Result<&'j [JsonValue], Violation> {
    json.as_array().map(Vec::as_slice).ok_or_else(|| wrong_type(json, "a list", at))
}

fn map(kind: &Kind, members: &serde_json::Map<String, JsonValue>, at: &At<'_>) -> Result<Value, Violation> {
    let Some(entry) = kind.as_message() else {
        return Err(at.violation("wrong_type", "this is no map"));
    };
    let (key_field, value_field) = (entry.map_entry_key_field(), entry.map_entry_value_field());
    let mut read = HashMap::with_capacity(members.len());
    for (name, item) in members {
        let at = At::Field(at, name);
        let key = key(&key_field.kind(), name).ok_or_else(|| at.violation("malformed_key", "the key does not fit"))?;
        read.insert(key, single(&value_field.kind(), item, &at)?);
    }
    Ok(Value::Map(read))
}

fn key(kind: &Kind, text: &str) -> Option<MapKey> {
    match kind {
        Kind::String => Some(MapKey::String(text.to_owned())),
        Kind::Bool => text.parse().ok().map(MapKey::Bool),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => text.parse().ok().map(MapKey::I32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => text.parse().ok().map(MapKey::I64),
        Kind::Uint32 | Kind::Fixed32 => text.parse().ok().map(MapKey::U32),
        Kind::Uint64 | Kind::Fixed64 => text.parse().ok().map(MapKey::U64),
        _ => None,
    }
}

fn single(kind: &Kind, json: &JsonValue, at: &At<'_>) -> Result<Value, Violation> {
    match kind {
        Kind::Double => number(json, at).map(Value::F64),
        Kind::Float => float(number(json, at)?, at).map(Value::F32),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            integer(json, i32::MIN.into(), i32::MAX.into(), at).map(|n| Value::I32(n as i32))
        }
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
            integer(json, i64::MIN.into(), i64::MAX.into(), at).map(|n| Value::I64(n as i64))
        }
        Kind::Uint32 | Kind::Fixed32 => integer(json, 0, u32::MAX.into(), at).map(|n| Value::U32(n as u32)),
        Kind::Uint64 | Kind::Fixed64 => integer(json, 0, u64::MAX.into(), at).map(|n| Value::U64(n as u64)),
        Kind::Bool => json.as_bool().map(Value::Bool).ok_or_else(|| wrong_type(json, "true or false", at)),
        Kind::String | Kind::Bytes | Kind::Enum(_) => {
            let text = json
                .as_str()
                .ok_or_else(|| wrong_type(json, if matches!(kind, Kind::Enum(_)) { "a word" } else { "text" }, at))?;
            from_text(kind, text, at)
        }
        Kind::Message(descriptor) => message(descriptor, json, at).map(Value::Message),
    }
}

/// Reads a single value from plain text, as paths and query parameters have it.
pub(crate) fn from_text(kind: &Kind, text: &str, at: &At<'_>) -> Result<Value, Violation> {
    match kind {
        Kind::String => Ok(Value::String(text.to_owned())),
        Kind::Bytes => base64::engine::general_purpose::STANDARD
            .decode(text)
            .map(|bytes| Value::Bytes(bytes.into()))
            .map_err(|_| at.violation("malformed_base64", "the value is no base64")),
        Kind::Enum(enumeration) => words::number_of(enumeration, text)
            .map(Value::EnumNumber)
            .map_err(|reason| at.violation("unknown_value", reason)),
        Kind::Message(_) => single(kind, &JsonValue::String(text.to_owned()), at),
        Kind::Bool | Kind::Double | Kind::Float => plain(kind, text, at),
        _ => plain(kind, text, at),
    }
}

/// Numbers, `true` and `false` are spelled as in JSON.
fn plain(kind: &Kind, text: &str, at: &At<'_>) -> Result<Value, Violation> {
    let json = serde_json::from_str(text).ok().filter(|json: &JsonValue| json.is_number() || json.is_boolean());
    single(kind, &json.unwrap_or_else(|| JsonValue::String(text.to_owned())), at)
}

fn number(json: &JsonValue, at: &At<'_>) -> Result<f64, Violation> {
    match json {
        JsonValue::Number(number) => {
            number.as_f64().filter(|n| n.is_finite()).ok_or_else(|| out_of_range(number, "a double", at))
        }
        JsonValue::String(text) if is_not_finite(text) => {
            Err(at.violation("not_finite", format!("{text} is no number; leave the field out where there is no value")))
        }
        _ => Err(wrong_type(json, "a number", at)),
    }
}

fn float(wide: f64, at: &At<'_>) -> Result<f32, Violation> {
    let narrow = wide as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(out_of_range(wide, "a single-precision number", at)) }
}

fn integer(json: &JsonValue, low: i128, high: i128, at: &At<'_>) -> Result<i128, Violation> {
    let range = || format!("a whole number from {low} to {high}");
    let JsonValue::Number(number) = json else {
        return match json.as_str() {
            Some(text) if is_not_finite(text) => {
                Err(at.violation("not_finite", format!("{text} is no number; {} is needed", range())))
            }
            _ => Err(wrong_type(json, &range(), at)),
        };
    };
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)).or_else(|| {
        let float = number.as_f64()?;
        (float.fract() == 0.0 && float.abs() <= EXACT_MAX).then_some(float as i128)
    });
    whole.filter(|whole| (low..=high).contains(whole)).ok_or_else(|| out_of_range(number, &range(), at))
}

fn is_not_finite(text: &str) -> bool {
    matches!(text.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity")
}

fn out_of_range(value: impl std::fmt::Display, wanted: &str, at: &At<'_>) -> Violation {
    at.violation("out_of_range", format!("{value} is not {wanted}"))
}

fn wrong_type(json: &JsonValue, wanted: &str, at: &At<'_>) -> Violation {
    let given = match json {
        JsonValue::Null => "null".to_owned(),
        JsonValue::Bool(value) => value.to_string(),
        JsonValue::Number(number) => number.to_string(),
        JsonValue::String(text) => format!("the text `{}`", shorten(text)),
        JsonValue::Array(_) => "a list".to_owned(),
        JsonValue::Object(_) => "an object".to_owned(),
    };
    at.violation("wrong_type", format!("{given} is not {wanted}"))
}

fn well_known(descriptor: &MessageDescriptor, json: &JsonValue, at: &At<'_>) -> Result<DynamicMessage, Violation> {
    let text = |wanted: &str| json.as_str().ok_or_else(|| wrong_type(json, wanted, at));
    match descriptor.full_name() {
        TIMESTAMP => time::read_timestamp(descriptor, text("a time like 2026-11-01T00:00:00Z")?)
            .map_err(|reason| at.violation("malformed_time", reason)),
        DURATION => time::read_duration(descriptor, text("a span of time like 3.5s")?)
            .map_err(|reason| at.violation("malformed_duration", reason)),
        _ => DynamicMessage::deserialize_with_options(descriptor.clone(), json, &DeserializeOptions::new())
            .map_err(|error| at.violation("malformed_value", error.to_string())),
    }
}
