//! Reads JSON into the wire format of a message. The first value that does not fit is named by its JSON pointer.

use std::collections::BTreeMap;

use base64::Engine as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::Number;

use super::document::{Document, Elements, Item, Members, Shape};
use super::echo::shorten;
use super::plan::{Field, Kind, Label, Message, MessageId, Plans};
use super::time::{self, Seconds};
use super::wire::{put_bytes, put_sized};

/// Whole numbers up to here are exact as floating-point numbers, so `5.0` may stand for 5.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Numbers of the fields of a map's entries.
const KEY_FIELD: u32 = 1;
const VALUE_FIELD: u32 = 2;

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

/// One member of an object that stands for a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'d> {
    pub(crate) name: &'d str,
    /// The place of its field; none where the message has no such field.
    place: Option<usize>,
    pub(crate) item: Item<'d>,
}

/// The members of an object; of those of one field only the last.
pub(crate) fn members<'d>(message: &Message, object: Members<'d>) -> Vec<Member<'d>> {
    let mut members = Vec::with_capacity(message.fields.len());
    // Beyond the bits that there are, a name counts as repeated, and the last is looked for.
    let (mut seen, mut repeated) = (0_u64, false);
    for (name, item) in object {
        let place = message.place_of(name);
        if let Some(place) = place {
            let bit = u32::try_from(place).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(u64::MAX);
            repeated |= seen & bit != 0;
            seen |= bit;
        }
        members.push(Member { name, place, item });
    }
    if repeated {
        keep_last(message, &mut members);
    }
    members
}

fn keep_last(message: &Message, members: &mut Vec<Member<'_>>) {
    let mut last = vec![0; message.fields.len()];
    for (position, member) in members.iter().enumerate() {
        if let Some(place) = member.place {
            last[place] = position;
        }
    }
    let mut position = 0..;
    members.retain(|member| {
        let position = position.next();
        member.place.is_none_or(|place| Some(last[place]) == position)
    });
}

impl Member<'_> {
    /// The field of that name.
    pub(crate) fn field<'p>(&self, message: &'p Message, at: &At<'_>) -> Result<&'p Field, Violation> {
        self.place.map(|place| &message.fields[place]).ok_or_else(|| {
            let name = shorten(self.name);
            at.violation("unknown_field", format!("there is no field `{name}` here; fields are {}", message.names()))
        })
    }
}

/// Which fields were given of groups of which only one can be.
#[derive(Debug, Default)]
pub(crate) struct Chosen<'p>(Vec<&'p Field>);

impl<'p> Chosen<'p> {
    fn choose(&mut self, field: &'p Field, at: &At<'_>) -> Result<(), Violation> {
        if field.group.is_none() {
            return Ok(());
        }
        if let Some(other) = self.0.iter().find(|other| other.group == field.group) {
            let reason = format!("only one of `{}` and `{}` can be given", other.name, field.name);
            return Err(at.violation("one_of", reason));
        }
        self.0.push(field);
        Ok(())
    }
}

/// Appends the fields of a whole message. After an error `out` holds a part of them.
pub(crate) fn message(
    plans: &Plans,
    id: MessageId,
    item: Item<'_>,
    at: &At<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let Shape::Object(object) = item.shape() else {
        return Err(wrong_type(item, "an object", at));
    };
    let message = plans.message(id);
    let mut chosen = Chosen::default();
    for member in members(message, object) {
        let at = At::Field(at, member.name);
        set(plans, member.field(message, &at)?, member.item, &at, &mut chosen, out)?;
    }
    Ok(())
}

/// Appends one field; `null` leaves it unset.
pub(crate) fn set<'p>(
    plans: &'p Plans,
    field: &'p Field,
    item: Item<'_>,
    at: &At<'_>,
    chosen: &mut Chosen<'p>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    if item.is_null() {
        return Ok(());
    }
    chosen.choose(field, at)?;
    match field.label {
        Label::Implicit | Label::Optional => put(field, out, |out| value(plans, field.kind, item, at, out)).map(|_| ()),
        Label::List => {
            let mut elements = elements(item, at)?.enumerate();
            elements.try_for_each(|(index, one)| element(plans, field, one, &At::Index(at, index), out))
        }
        Label::Packed => packed(plans, field, elements(item, at)?, at, out),
        Label::Map(key) => {
            let Shape::Object(object) = item.shape() else {
                return Err(wrong_type(item, "an object", at));
            };
            map(plans, field, key, object, at, out)
        }
    }
}

/// Appends a field that is there once, and takes it back where it is left out as the default. Whether it was.
fn put(
    field: &Field,
    out: &mut Vec<u8>,
    content: impl FnOnce(&mut Vec<u8>) -> Result<bool, Violation>,
) -> Result<bool, Violation> {
    let start = out.len();
    encode_key(field.number, field.kind.wire_type(), out);
    let left_out = content(out)? && field.label == Label::Implicit;
    if left_out {
        out.truncate(start);
    }
    Ok(left_out)
}

/// Appends one element of a list. After an error `out` holds a part of it.
pub(crate) fn element(
    plans: &Plans,
    field: &Field,
    item: Item<'_>,
    at: &At<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    encode_key(field.number, field.kind.wire_type(), out);
    value(plans, field.kind, item, at, out).map(|_| ())
}

/// The elements of a list.
pub(crate) fn elements<'d>(item: Item<'d>, at: &At<'_>) -> Result<Elements<'d>, Violation> {
    match item.shape() {
        Shape::List(elements) => Ok(elements),
        _ => Err(wrong_type(item, "a list", at)),
    }
}

fn packed(
    plans: &Plans,
    field: &Field,
    elements: Elements<'_>,
    at: &At<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    if elements.is_empty() {
        return Ok(());
    }
    encode_key(field.number, WireType::LengthDelimited, out);
    put_sized(out, |out| {
        for (index, element) in elements.enumerate() {
            value(plans, field.kind, element, &At::Index(at, index), out)?;
        }
        Ok(())
    })
}

fn map(
    plans: &Plans,
    field: &Field,
    key_kind: Kind,
    object: Members<'_>,
    at: &At<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    // Of members with one name the last counts.
    let last: BTreeMap<&str, Item<'_>> = object.collect();
    for (name, item) in last {
        let at = At::Field(at, name);
        encode_key(field.number, WireType::LengthDelimited, out);
        put_sized(out, |out| {
            encode_key(KEY_FIELD, key_kind.wire_type(), out);
            key(key_kind, name, out).ok_or_else(|| at.violation("malformed_key", "the key does not fit"))?;
            encode_key(VALUE_FIELD, field.kind.wire_type(), out);
            value(plans, field.kind, item, &at, out).map(|_| ())
        })?;
    }
    Ok(())
}

fn key(kind: Kind, text: &str, out: &mut Vec<u8>) -> Option<()> {
    match kind {
        Kind::Text => put_bytes(out, text.as_bytes()),
        Kind::Bool => encode_varint(text.parse::<bool>().ok()?.into(), out),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => whole(kind, text.parse::<i32>().ok()?.into(), out),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => whole(kind, text.parse::<i64>().ok()?.into(), out),
        Kind::Uint32 | Kind::Fixed32 => whole(kind, text.parse::<u32>().ok()?.into(), out),
        Kind::Uint64 | Kind::Fixed64 => whole(kind, text.parse::<u64>().ok()?.into(), out),
        _ => return None,
    }
    Some(())
}

/// Appends a value without its field's key. Whether it is the default.
fn value(plans: &Plans, kind: Kind, item: Item<'_>, at: &At<'_>, out: &mut Vec<u8>) -> Result<bool, Violation> {
    match kind {
        Kind::Double => {
            let number = number(item, at)?;
            out.extend_from_slice(&number.to_le_bytes());
            Ok(number == 0.0)
        }
        Kind::Float => {
            let number = float(number(item, at)?, at)?;
            out.extend_from_slice(&number.to_le_bytes());
            Ok(number == 0.0)
        }
        Kind::Bool => {
            let Shape::Bool(value) = item.shape() else { return Err(wrong_type(item, "true or false", at)) };
            out.push(value.into());
            Ok(!value)
        }
        Kind::Text | Kind::Bytes => {
            text(plans, kind, item.text().ok_or_else(|| wrong_type(item, "text", at))?, at, out)
        }
        Kind::Enum(_) => text(plans, kind, item.text().ok_or_else(|| wrong_type(item, "a word", at))?, at, out),
        Kind::Message(id) => put_sized(out, |out| message(plans, id, item, at, out)).map(|()| false),
        Kind::Timestamp => {
            let given = item.text().ok_or_else(|| wrong_type(item, "a time like 2026-11-01T00:00:00Z", at))?;
            seconds(time::read_timestamp(given).map_err(|reason| at.violation("malformed_time", reason))?, out)
        }
        Kind::Duration => {
            let given = item.text().ok_or_else(|| wrong_type(item, "a span of time like 3.5s", at))?;
            seconds(time::read_duration(given).map_err(|reason| at.violation("malformed_duration", reason))?, out)
        }
        Kind::Unserved => Err(at.violation("malformed_value", "values of this type are not read")),
        _ => {
            let (low, high) = bounds(kind);
            let number = integer(item, low, high, at)?;
            whole(kind, number, out);
            Ok(number == 0)
        }
    }
}

/// Appends one value of a field from plain text, as paths and query parameters have it.
pub(crate) fn parameter(
    plans: &Plans,
    field: &Field,
    given: &str,
    at: &At<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Violation> {
    let content = |out: &mut Vec<u8>| from_text(plans, field.kind, given, at, out);
    if field.label == Label::Packed {
        encode_key(field.number, WireType::LengthDelimited, out);
        return put_sized(out, |out| content(out).map(|_| ()));
    }
    put(field, out, content).map(|_| ())
}

fn from_text(plans: &Plans, kind: Kind, given: &str, at: &At<'_>, out: &mut Vec<u8>) -> Result<bool, Violation> {
    match kind {
        Kind::Text | Kind::Bytes | Kind::Enum(_) => text(plans, kind, given, at, out),
        Kind::Message(_) | Kind::Timestamp | Kind::Duration | Kind::Unserved => {
            value(plans, kind, Document::of_text(given).top(), at, out)
        }
        // Numbers, `true` and `false` are spelled as in JSON.
        _ => {
            let plain = |document: &Document<'_>| {
                !matches!(document.top().shape(), Shape::Null | Shape::Text(_) | Shape::List(_) | Shape::Object(_))
            };
            let document = Document::parse(given).ok().filter(plain).unwrap_or_else(|| Document::of_text(given));
            value(plans, kind, document.top(), at, out)
        }
    }
}

fn text(plans: &Plans, kind: Kind, given: &str, at: &At<'_>, out: &mut Vec<u8>) -> Result<bool, Violation> {
    match kind {
        Kind::Enum(id) => {
            let number = plans.words(id).number_of(given).map_err(|reason| at.violation("unknown_value", reason))?;
            whole(Kind::Int32, number.into(), out);
            Ok(number == 0)
        }
        Kind::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(given);
            let bytes = bytes.map_err(|_| at.violation("malformed_base64", "the value is no base64"))?;
            put_bytes(out, &bytes);
            Ok(bytes.is_empty())
        }
        _ => {
            put_bytes(out, given.as_bytes());
            Ok(given.is_empty())
        }
    }
}

/// Appends a point or a span of time as the message that it is.
fn seconds(Seconds { seconds, nanos }: Seconds, out: &mut Vec<u8>) -> Result<bool, Violation> {
    put_sized(out, |out| {
        for (number, part) in [(time::SECONDS_FIELD, seconds), (time::NANOS_FIELD, nanos.into())] {
            if part != 0 {
                encode_key(number, WireType::Varint, out);
                encode_varint(part as u64, out);
            }
        }
        Ok(())
    })
    .map(|()| false)
}

/// Least and greatest whole number of a kind.
fn bounds(kind: Kind) -> (i128, i128) {
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => (i32::MIN.into(), i32::MAX.into()),
        Kind::Uint32 | Kind::Fixed32 => (0, u32::MAX.into()),
        Kind::Uint64 | Kind::Fixed64 => (0, u64::MAX.into()),
        _ => (i64::MIN.into(), i64::MAX.into()),
    }
}

/// Appends a whole number within the bounds of its kind.
fn whole(kind: Kind, number: i128, out: &mut Vec<u8>) {
    match kind {
        Kind::Fixed32 | Kind::Sfixed32 => out.extend_from_slice(&(number as u32).to_le_bytes()),
        Kind::Fixed64 | Kind::Sfixed64 => out.extend_from_slice(&(number as u64).to_le_bytes()),
        // Small numbers of either sign are short: 0, -1, 1, -2 become 0, 1, 2, 3.
        Kind::Sint32 | Kind::Sint64 => encode_varint(((number << 1) ^ (number >> 127)) as u64, out),
        // Negative numbers are written with all of their 64 bits.
        _ => encode_varint(number as u64, out),
    }
}

fn number(item: Item<'_>, at: &At<'_>) -> Result<f64, Violation> {
    match item.shape() {
        Shape::Natural(number) => Ok(number as f64),
        Shape::Negative(number) => Ok(number as f64),
        Shape::Float(number) => Ok(number),
        Shape::Text(text) if is_not_finite(text) => {
            Err(at.violation("not_finite", format!("{text} is no number; leave the field out where there is no value")))
        }
        _ => Err(wrong_type(item, "a number", at)),
    }
}

fn float(wide: f64, at: &At<'_>) -> Result<f32, Violation> {
    let narrow = wide as f32;
    if narrow.is_finite() { Ok(narrow) } else { Err(out_of_range(wide, "a single-precision number", at)) }
}

fn integer(item: Item<'_>, low: i128, high: i128, at: &At<'_>) -> Result<i128, Violation> {
    let range = || format!("a whole number from {low} to {high}");
    let whole = match item.shape() {
        Shape::Natural(number) => Some(number.into()),
        Shape::Negative(number) => Some(number.into()),
        Shape::Float(number) => (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i128),
        Shape::Text(text) if is_not_finite(text) => {
            return Err(at.violation("not_finite", format!("{text} is no number; {} is needed", range())));
        }
        _ => return Err(wrong_type(item, &range(), at)),
    };
    whole
        .filter(|whole| (low..=high).contains(whole))
        .ok_or_else(|| out_of_range(spelled(item).unwrap_or_default(), &range(), at))
}

fn is_not_finite(text: &str) -> bool {
    matches!(text.trim_start_matches(['-', '+']).to_ascii_lowercase().as_str(), "nan" | "inf" | "infinity")
}

fn out_of_range(value: impl std::fmt::Display, wanted: &str, at: &At<'_>) -> Violation {
    at.violation("out_of_range", format!("{value} is not {wanted}"))
}

/// A number as JSON writes it.
fn spelled(item: Item<'_>) -> Option<String> {
    match item.shape() {
        Shape::Natural(number) => Some(number.to_string()),
        Shape::Negative(number) => Some(number.to_string()),
        Shape::Float(number) => Number::from_f64(number).map(|number| number.to_string()),
        _ => None,
    }
}

fn wrong_type(item: Item<'_>, wanted: &str, at: &At<'_>) -> Violation {
    let given = match item.shape() {
        Shape::Null => "null".to_owned(),
        Shape::Bool(value) => value.to_string(),
        Shape::Text(text) => format!("the text `{}`", shorten(text)),
        Shape::List(_) => "a list".to_owned(),
        Shape::Object(_) => "an object".to_owned(),
        Shape::Natural(_) | Shape::Negative(_) | Shape::Float(_) => spelled(item).unwrap_or_default(),
    };
    at.violation("wrong_type", format!("{given} is not {wanted}"))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
