//! Writes a message as JSON: fields in the contract's order, map keys in lexical order, unset fields left out.

use std::collections::BTreeMap;

use base64::Engine as _;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, SerializeOptions, Value};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};

use super::{DURATION, TIMESTAMP, WELL_KNOWN, time, words};

/// A message as JSON.
pub(crate) struct Json<'a>(pub(crate) &'a DynamicMessage);

struct Item<'a>(&'a Kind, &'a Value);

struct Field<'a>(&'a FieldDescriptor, &'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use prost_reflect::ReflectMessage as _;
        let message = self.0;
        let descriptor = message.descriptor();
        match descriptor.full_name() {
            TIMESTAMP => return time::timestamp_text(message).serialize(serializer),
            DURATION => return serializer.serialize_str(&time::duration_text(message)),
            _ if descriptor.package_name() == WELL_KNOWN => {
                let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
                return message.serialize_with_options(serializer, &options.skip_default_fields(false));
            }
            _ => {}
        }
        let mut map = serializer.serialize_map(None)?;
        for field in descriptor.fields() {
            if !field.supports_presence() || message.has_field(&field) {
                map.serialize_entry(field.name(), &Field(&field, &message.get_field(&field)))?;
            }
        }
        map.end()
    }
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kind = self.0.kind();
        match self.1 {
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(&Item(&kind, item)))?;
                list.end()
            }
            Value::Map(entries) => {
                let value_kind = kind.as_message().map(|entry| entry.map_entry_value_field().kind());
                let value_kind = value_kind.unwrap_or(kind);
                let sorted: BTreeMap<&MapKey, &Value> = entries.iter().collect();
                serializer.collect_map(sorted.iter().map(|(key, value)| (key_text(key), Item(&value_kind, value))))
            }
            single => Item(&kind, single).serialize(serializer),
        }
    }
}

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (self.1, self.0) {
            (Value::Bool(value), _) => serializer.serialize_bool(*value),
            (Value::I32(value), _) => serializer.serialize_i32(*value),
            (Value::I64(value), _) => serializer.serialize_i64(*value),
            (Value::U32(value), _) => serializer.serialize_u32(*value),
            (Value::U64(value), _) => serializer.serialize_u64(*value),
            // What is not finite has no number in JSON and is written as null.
            (Value::F32(value), _) => serializer.serialize_f32(*value),
            (Value::F64(value), _) => serializer.serialize_f64(*value),
            (Value::String(value), _) => serializer.serialize_str(value),
            (Value::Bytes(value), _) => {
                serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(value))
            }
            (Value::EnumNumber(number), Kind::Enum(enumeration)) => match words::word_of(enumeration, *number) {
                Some(word) => serializer.serialize_str(&word),
                None => serializer.serialize_i32(*number),
            },
            (Value::EnumNumber(number), _) => serializer.serialize_i32(*number),
            (Value::Message(message), _) => Json(message).serialize(serializer),
            // Lists and maps do not nest in the contract's language.
            (Value::List(_) | Value::Map(_), _) => serializer.serialize_unit(),
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(value) => value.to_string(),
        MapKey::I32(value) => value.to_string(),
        MapKey::I64(value) => value.to_string(),
        MapKey::U32(value) => value.to_string(),
        MapKey::U64(value) => value.to_string(),
        MapKey::String(value) => value.clone(),
    }
}
