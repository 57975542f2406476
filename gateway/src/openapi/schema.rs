//! Messages and enums as JSON schemas, as [`crate::json`] reads and writes them.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value as JsonValue, json};

use crate::contract::comment;
use crate::json::words;

const WELL_KNOWN: &str = "google.protobuf";

/// Schema names: the message's own, or with its package where two packages use it.
#[derive(Debug)]
pub(crate) struct Names(BTreeMap<String, String>);

impl Names {
    pub(crate) fn new(pool: &DescriptorPool) -> Self {
        let messages = pool.all_messages().map(|message| message.full_name().to_owned());
        let enums = pool.all_enums().map(|enumeration| enumeration.full_name().to_owned());
        let all: Vec<String> = messages.chain(enums).filter(|name| !name.starts_with(WELL_KNOWN)).collect();
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let mut uses: BTreeMap<String, usize> = BTreeMap::new();
        for name in &all {
            *uses.entry(last(name)).or_default() += 1;
        }
        let short = |name: &String| {
            if uses[&last(name)] == 1 { last(name) } else { name.clone() }
        };
        Self(all.iter().map(|name| (name.clone(), short(name))).collect())
    }

    fn get<'n>(&'n self, full_name: &'n str) -> &'n str {
        self.0.get(full_name).map_or(full_name, String::as_str)
    }

    /// A reference to the schema of a message or enum.
    pub(crate) fn reference(&self, full_name: &str) -> JsonValue {
        json!({"$ref": format!("#/components/schemas/{}", self.get(full_name))})
    }
}

/// Adds what an RPC's answer is made of, and what its request is made of.
pub(crate) fn add(
    schemas: &mut Map<String, JsonValue>,
    names: &Names,
    input: &MessageDescriptor,
    output: &MessageDescriptor,
) {
    let mut seen = BTreeSet::new();
    add_message(schemas, names, input, &mut seen);
    add_message(schemas, names, output, &mut seen);
}

fn add_message(
    schemas: &mut Map<String, JsonValue>,
    names: &Names,
    message: &MessageDescriptor,
    seen: &mut BTreeSet<String>,
) {
    if message.package_name() == WELL_KNOWN || !seen.insert(message.full_name().to_owned()) {
        return;
    }
    if !message.is_map_entry() {
        schemas.insert(names.get(message.full_name()).to_owned(), of_message(message, names, &[]));
    }
    for field in message.fields() {
        match field.kind() {
            Kind::Message(inner) => add_message(schemas, names, &inner, seen),
            Kind::Enum(enumeration) => {
                schemas.insert(names.get(enumeration.full_name()).to_owned(), of_enum(&enumeration));
            }
            _ => {}
        }
    }
}

/// An object with the message's fields, except those named in `without`.
pub(crate) fn of_message(message: &MessageDescriptor, names: &Names, without: &[FieldDescriptor]) -> JsonValue {
    let fields = message.fields().filter(|field| !without.contains(field));
    let properties: Map<String, JsonValue> =
        fields.map(|field| (field.name().to_owned(), of_field(&field, names))).collect();
    json!({
        "type": "object",
        "description": comment(&message.parent_file(), message.path()),
        "properties": properties,
        "additionalProperties": false,
    })
}

fn of_enum(enumeration: &EnumDescriptor) -> JsonValue {
    let file = enumeration.parent_file();
    let values = enumeration
        .values()
        .map(|value| format!("`{}`: {}", words::word(enumeration, value.name()), comment(&file, value.path())));
    let meaning = values.collect::<Vec<_>>().join(" ");
    json!({
        "type": "string",
        "description": format!("{} {meaning}", comment(&file, enumeration.path())),
        "enum": words::all(enumeration),
    })
}

/// A field with its comment.
pub(crate) fn of_field(field: &FieldDescriptor, names: &Names) -> JsonValue {
    let mut schema = shape(field, names);
    let text = comment(&field.parent_message().parent_file(), field.path());
    if !text.is_empty() {
        schema["description"] = JsonValue::String(text);
    }
    schema
}

fn shape(field: &FieldDescriptor, names: &Names) -> JsonValue {
    let kind = field.kind();
    if field.is_map() {
        let value = kind.as_message().map(|entry| of_kind(&entry.map_entry_value_field().kind(), names));
        return json!({"type": "object", "additionalProperties": value.unwrap_or(JsonValue::Bool(true))});
    }
    if field.is_list() {
        return json!({"type": "array", "items": of_kind(&kind, names)});
    }
    of_kind(&kind, names)
}

fn of_kind(kind: &Kind, names: &Names) -> JsonValue {
    let integer = |format: &str, low: i128, high: i128| {
        let bound = |n: i128| u64::try_from(n).map_or_else(|_| json!(n as i64), |n| json!(n));
        json!({"type": "integer", "format": format, "minimum": bound(low), "maximum": bound(high)})
    };
    match kind {
        Kind::Double => json!({"type": "number", "format": "double"}),
        Kind::Float => json!({"type": "number", "format": "float"}),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => integer("int32", i32::MIN.into(), i32::MAX.into()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => integer("int64", i64::MIN.into(), i64::MAX.into()),
        Kind::Uint32 | Kind::Fixed32 => integer("uint32", 0, u32::MAX.into()),
        Kind::Uint64 | Kind::Fixed64 => integer("uint64", 0, u64::MAX.into()),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::String => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
        Kind::Enum(enumeration) => names.reference(enumeration.full_name()),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
            "google.protobuf.Duration" => {
                json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"})
            }
            _ if message.package_name() == WELL_KNOWN => json!({}),
            full_name => names.reference(full_name),
        },
    }
}

/// A problem document.
pub(crate) fn problem() -> JsonValue {
    let text = |description: &str| json!({"type": "string", "description": description});
    json!({
        "type": "object",
        "description": "A failed request (RFC 9457).",
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "Names the kind of problem: `urn:attain:problem:` and the code."},
            "title": text("The code in words."),
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": text("A sentence a person can act on."),
            "instance": text("The path that was asked for."),
            "code": text("Stable and machine-readable, for example `rate_limited`."),
            "errors": {
                "type": "array",
                "description": "The values that were refused, where the request is at fault.",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": text("JSON pointer into the body, or a slash and the name of a parameter."),
                        "code": text("Stable and machine-readable, for example `out_of_range`."),
                        "reason": text("A sentence a person can act on."),
                    },
                    "required": ["pointer", "code", "reason"],
                },
            },
            "current_version": {"type": "integer", "description": "The version that is there, where the request expected another."},
            "request_id": text("Names the request in the gateway's logs; also the header x-request-id."),
        },
        "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
    })
}
