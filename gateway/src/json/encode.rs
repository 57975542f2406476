//! Writes a message as JSON straight from the wire: fields in the contract's order, map keys in their order, unset fields
//! left out.

use base64::Engine as _;
use prost::encoding::WireType;
use serde::Serialize;

use super::plan::{Field, Kind, Label, MessageId, Plans};
use super::time::{self, Seconds};
use super::wire::{self, Fields, Malformed, Raw};

/// Messages within messages, as deep as Protocol Buffers' own readers follow.
const DEPTH_MAX: usize = 100;
const KEY_FIELD: u32 = 1;
const VALUE_FIELD: u32 = 2;

/// Reads a message of a contract from the wire.
#[derive(Debug, Clone, Copy)]
struct Writer<'p> {
    plans: &'p Plans,
    depth_left: usize,
}

/// Appends the JSON of a message.
///
/// # Errors
/// Where `bytes` are no such message.
pub(crate) fn write(plans: &Plans, id: MessageId, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    Writer { plans, depth_left: DEPTH_MAX }.message(id, bytes, out)
}

impl Writer<'_> {
    fn message(self, id: MessageId, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let depth_left = self.depth_left.checked_sub(1).ok_or(Malformed("it is nested too deeply"))?;
        let inner = Self { depth_left, ..self };
        let message = self.plans.message(id);
        let found = index(&message.fields, bytes)?;
        out.push(b'{');
        let mut separator = false;
        for (field, found) in message.fields.iter().zip(&found) {
            if field.label == Label::Optional && found.count == 0 {
                continue;
            }
            if std::mem::replace(&mut separator, true) {
                out.push(b',');
            }
            // A name in the contract's language has nothing to escape.
            out.push(b'"');
            out.extend_from_slice(field.name.as_bytes());
            out.extend_from_slice(b"\":");
            inner.field(field, *found, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn field(self, field: &Field, found: Found<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match field.label {
            Label::Implicit | Label::Optional => self.single(field, found, out),
            Label::List | Label::Packed => {
                out.push(b'[');
                let start = out.len();
                found.each(field.number, |raw| self.elements(field.kind, raw, start, out))?;
                out.push(b']');
                Ok(())
            }
            Label::Map(key) => self.map(field, key, found, out),
        }
    }

    /// A field that is there once: the last counts, and parts of one message are one.
    fn single(self, field: &Field, found: Found<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if found.count > 1 && matches!(field.kind, Kind::Message(_) | Kind::Timestamp | Kind::Duration) {
            let mut joined = Vec::new();
            found.each(field.number, |raw| {
                joined.extend_from_slice(bytes_of(raw)?);
                Ok(())
            })?;
            return self.value(field.kind, Raw::Bytes(&joined), out);
        }
        self.value(field.kind, found.last.unwrap_or(field.kind.default()), out)
    }

    /// The elements of one record of a list: one, or a packed piece of them.
    fn elements(self, kind: Kind, raw: Raw<'_>, start: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let separated = |raw, out: &mut Vec<u8>| {
            if out.len() > start {
                out.push(b',');
            }
            self.value(kind, raw, out)
        };
        let (Raw::Bytes(mut piece), true) = (raw, kind.wire_type() != WireType::LengthDelimited) else {
            return separated(raw, out);
        };
        while !piece.is_empty() {
            let raw = match kind.wire_type() {
                WireType::SixtyFourBit => Raw::Fixed64(u64::from_le_bytes(wire::fixed(&mut piece)?)),
                WireType::ThirtyTwoBit => Raw::Fixed32(u32::from_le_bytes(wire::fixed(&mut piece)?)),
                _ => Raw::Varint(wire::varint(&mut piece)?),
            };
            separated(raw, out)?;
        }
        Ok(())
    }

    /// Of entries with one key the last counts.
    fn map(self, field: &Field, key_kind: Kind, found: Found<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut entries = Vec::with_capacity(found.count);
        found.each(field.number, |raw| {
            let (mut key, mut value) = (key_kind.default(), field.kind.default());
            for part in Fields::of(bytes_of(raw)?) {
                match part? {
                    (KEY_FIELD, raw) => key = raw,
                    (VALUE_FIELD, raw) => value = raw,
                    _ => {}
                }
            }
            entries.push((Key::read(key_kind, key)?, value));
            Ok(())
        })?;
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push(b'{');
        for (place, (key, value)) in entries.iter().enumerate() {
            if entries.get(place + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            if out.last() != Some(&b'{') {
                out.push(b',');
            }
            key.write(out)?;
            out.push(b':');
            self.value(field.kind, *value, out)?;
        }
        out.push(b'}');
        Ok(())
    }

    fn value(self, kind: Kind, raw: Raw<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match (kind, raw) {
            // What is not finite has no number in JSON and is written as null.
            (Kind::Double, Raw::Fixed64(bits)) => json(&f64::from_bits(bits), out),
            (Kind::Float, Raw::Fixed32(bits)) => json(&f32::from_bits(bits), out),
            (Kind::Int32 | Kind::Int64, Raw::Varint(number)) => match kind {
                Kind::Int32 => json(&(number as i32), out),
                _ => json(&(number as i64), out),
            },
            (Kind::Uint32, Raw::Varint(number)) => json(&(number as u32), out),
            (Kind::Uint64, Raw::Varint(number)) => json(&number, out),
            (Kind::Sint32, Raw::Varint(number)) => json(&unfolded(number & u64::from(u32::MAX)), out),
            (Kind::Sint64, Raw::Varint(number)) => json(&unfolded(number), out),
            (Kind::Fixed32, Raw::Fixed32(number)) => json(&number, out),
            (Kind::Sfixed32, Raw::Fixed32(number)) => json(&(number as i32), out),
            (Kind::Fixed64, Raw::Fixed64(number)) => json(&number, out),
            (Kind::Sfixed64, Raw::Fixed64(number)) => json(&(number as i64), out),
            (Kind::Bool, Raw::Varint(number)) => json(&(number != 0), out),
            (Kind::Enum(id), Raw::Varint(number)) => match self.plans.words(id).word_of(number as i32) {
                Some(word) => quoted(word, out),
                None => json(&(number as i32), out),
            },
            (Kind::Text, Raw::Bytes(text)) => quoted(text_of(text)?, out),
            (Kind::Bytes, Raw::Bytes(bytes)) => quoted(&base64::engine::general_purpose::STANDARD.encode(bytes), out),
            (Kind::Message(id), Raw::Bytes(bytes)) => self.message(id, bytes, out),
            (Kind::Timestamp, Raw::Bytes(bytes)) => json(&time::timestamp_text(seconds(bytes)?), out),
            (Kind::Duration, Raw::Bytes(bytes)) => quoted(&time::duration_text(seconds(bytes)?), out),
            _ => Err(Malformed("a field is of another type")),
        }
    }
}

/// Where a field is in a message.
#[derive(Debug, Clone, Copy, Default)]
struct Found<'b> {
    /// The message from the first record of the field on.
    from: &'b [u8],
    last: Option<Raw<'b>>,
    count: usize,
}

impl<'b> Found<'b> {
    /// Reads every record of the field.
    fn each(self, number: u32, mut read: impl FnMut(Raw<'b>) -> Result<(), Malformed>) -> Result<(), Malformed> {
        // Those of a list stand together as a rule: what follows the last of them is not looked at.
        let records = Fields::of(self.from).filter(|record| record.as_ref().is_ok_and(|(one, _)| *one == number));
        records.take(self.count).try_for_each(|record| read(record?.1))
    }
}

/// Finds the records of each field. Fields that this version of the contract does not know are passed over.
fn index<'b>(fields: &[Field], bytes: &'b [u8]) -> Result<Vec<Found<'b>>, Malformed> {
    let mut found = vec![Found::default(); fields.len()];
    let mut records = Fields::of(bytes);
    let mut place = 0;
    loop {
        let from = records.rest();
        let Some(record) = records.next() else { return Ok(found) };
        let (number, raw) = record?;
        // In the order of their numbers as a rule: the next is the same field or one behind it.
        if fields.get(place).is_none_or(|field| field.number != number) {
            let Ok(known) = fields.binary_search_by_key(&number, |field| field.number) else { continue };
            place = known;
        }
        let field = &mut found[place];
        if field.count == 0 {
            field.from = from;
        }
        field.last = Some(raw);
        field.count += 1;
        only_one(fields, place, &mut found);
    }
}

/// Of a group of which only one field can be given, the last counts.
fn only_one(fields: &[Field], given: usize, found: &mut [Found<'_>]) {
    let Some(group) = fields[given].group else { return };
    for (place, field) in fields.iter().enumerate() {
        if place != given && field.group == Some(group) {
            found[place] = Found::default();
        }
    }
}

/// A map's key, in the order in which keys are written.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key<'b> {
    Number(i128),
    Bool(bool),
    Text(&'b str),
}

impl<'b> Key<'b> {
    fn read(kind: Kind, raw: Raw<'b>) -> Result<Self, Malformed> {
        Ok(match (kind, raw) {
            (Kind::Text, Raw::Bytes(text)) => Self::Text(text_of(text)?),
            (Kind::Bool, Raw::Varint(number)) => Self::Bool(number != 0),
            (Kind::Int32, Raw::Varint(number)) => Self::Number((number as i32).into()),
            (Kind::Int64, Raw::Varint(number)) => Self::Number((number as i64).into()),
            (Kind::Uint32, Raw::Varint(number)) => Self::Number((number as u32).into()),
            (Kind::Uint64, Raw::Varint(number)) => Self::Number(number.into()),
            (Kind::Sint32, Raw::Varint(number)) => Self::Number(unfolded(number & u64::from(u32::MAX)).into()),
            (Kind::Sint64, Raw::Varint(number)) => Self::Number(unfolded(number).into()),
            (Kind::Fixed32, Raw::Fixed32(number)) => Self::Number(number.into()),
            (Kind::Sfixed32, Raw::Fixed32(number)) => Self::Number((number as i32).into()),
            (Kind::Fixed64, Raw::Fixed64(number)) => Self::Number(number.into()),
            (Kind::Sfixed64, Raw::Fixed64(number)) => Self::Number((number as i64).into()),
            _ => return Err(Malformed("a key is of another type")),
        })
    }

    fn write(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Text(text) => quoted(text, out),
            Self::Number(number) => quoted(&number.to_string(), out),
            Self::Bool(value) => quoted(&value.to_string(), out),
        }
    }
}

impl Kind {
    /// What stands for a value that is not there.
    fn default(self) -> Raw<'static> {
        match self.wire_type() {
            WireType::SixtyFourBit => Raw::Fixed64(0),
            WireType::ThirtyTwoBit => Raw::Fixed32(0),
            WireType::LengthDelimited => Raw::Bytes(&[]),
            _ => Raw::Varint(0),
        }
    }
}

/// 0, 1, 2, 3 stand for 0, -1, 1, -2.
fn unfolded(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn seconds(bytes: &[u8]) -> Result<Seconds, Malformed> {
    let mut read = Seconds::default();
    for field in Fields::of(bytes) {
        match field? {
            (time::SECONDS_FIELD, Raw::Varint(number)) => read.seconds = number as i64,
            (time::NANOS_FIELD, Raw::Varint(number)) => read.nanos = number as i32,
            _ => {}
        }
    }
    Ok(read)
}

fn bytes_of(raw: Raw<'_>) -> Result<&[u8], Malformed> {
    match raw {
        Raw::Bytes(bytes) => Ok(bytes),
        _ => Err(Malformed("a field is of another type")),
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed("a text is no UTF-8"))
}

fn quoted(text: &str, out: &mut Vec<u8>) -> Result<(), Malformed> {
    json(text, out)
}

fn json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) -> Result<(), Malformed> {
    serde_json::to_writer(out, value).map_err(|_| Malformed("a value has no JSON"))
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
