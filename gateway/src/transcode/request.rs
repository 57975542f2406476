//! Assembles a request message from path, query, headers and body.

use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::contract::{Endpoint, VERSION_MATCH};
use crate::json::decode::{self, At, Chosen};
use crate::json::document::{Document, Item, Shape};
use crate::json::plan::{self, Field, Label, Message};
use crate::json::wire::{Fields, Raw, put_bytes, put_sized};
use crate::json::{Violation, echo};
use crate::problem::Problem;
use crate::transcode::batch::Batch;

/// An encoded request message, and for a batch the account of what was set aside.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) message: Vec<u8>,
    pub(crate) batch: Option<Batch>,
}

/// What a request says, apart from its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Raw path segments, in the order of the template's variables.
    pub(crate) captures: &'a [&'a str],
    /// Raw query.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
}

/// Fields of a body that is passed on as it came.
const CONTENT_TYPE_FIELD: u32 = 1;
const DATA_FIELD: u32 = 2;
/// Room for keys, lengths and a content type beside a body that is passed on as it came.
const KEYS_BYTES: usize = 256;

/// A field that is bound outside the query and the body, with what the path gives it.
type Bound<'p> = Vec<(&'p Field, Option<String>)>;

/// Assembles the message of an endpoint whose body is JSON, or that has none. `body` is there exactly where it has one.
pub(crate) fn assemble(
    endpoint: &Endpoint,
    given: Given<'_>,
    body: Option<&Document<'_>>,
) -> Result<Assembled, Problem> {
    // Without the names of fields a message has about half the bytes.
    let mut out = Vec::with_capacity(body.map_or(0, Document::text_bytes) / 2);
    let bound = from_path(endpoint, given.captures, &mut out)?;
    let batch = match body {
        None => {
            read_query(endpoint, &bound, given.query, &mut out).map_err(Problem::invalid)?;
            None
        }
        Some(document) => {
            refuse_query(given.query).map_err(Problem::invalid)?;
            read_body(endpoint, &bound, document.top(), &mut out)?
        }
    };
    read_if_match(endpoint, given.headers, &mut out)?;
    Ok(Assembled { message: out, batch })
}

/// Assembles the message of an endpoint that takes the body as it came; what neither it nor the path binds comes from the
/// query.
pub(crate) fn assemble_raw(
    endpoint: &Endpoint,
    field: &FieldDescriptor,
    given: Given<'_>,
    body: &[u8],
) -> Result<Assembled, Problem> {
    let mut out = Vec::with_capacity(body.len() + given.query.len() + KEYS_BYTES);
    let mut bound = from_path(endpoint, given.captures, &mut out)?;
    let raw = message_of(endpoint).field(field.name());
    bound.extend(raw.map(|raw| (raw, None)));
    read_query(endpoint, &bound, given.query, &mut out).map_err(Problem::invalid)?;
    let content_type =
        given.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    encode_key(field.number(), WireType::LengthDelimited, &mut out);
    put_sized(&mut out, |out| {
        for (number, part) in [(CONTENT_TYPE_FIELD, content_type.as_bytes()), (DATA_FIELD, body)] {
            encode_key(number, WireType::LengthDelimited, out);
            put_bytes(out, part);
        }
        Ok::<(), Problem>(())
    })?;
    Ok(Assembled { message: out, batch: endpoint.reports_rejections().then(Batch::of_document) })
}

fn message_of(endpoint: &Endpoint) -> &Message {
    endpoint.plans.message(endpoint.input)
}

/// Appends the fields that the path binds, and tells which those are.
fn from_path<'e>(endpoint: &'e Endpoint, captures: &[&str], out: &mut Vec<u8>) -> Result<Bound<'e>, Problem> {
    let fields = endpoint.template.variables().filter_map(|name| message_of(endpoint).field(name));
    let bound = fields.zip(captures).map(|(field, raw)| {
        let text = percent_decode_str(raw).decode_utf8().map_err(|_| not_utf8(&field.name))?;
        decode::parameter(&endpoint.plans, field, &text, &At::Top, out).map_err(Problem::invalid)?;
        Ok((field, Some(text.into_owned())))
    });
    bound.collect()
}

fn binding<'b>(bound: &'b Bound<'_>, field: &Field) -> Option<&'b Option<String>> {
    bound.iter().find(|(one, _)| one.number == field.number).map(|(_, text)| text)
}

fn read_query(endpoint: &Endpoint, bound: &Bound<'_>, query: &str, out: &mut Vec<u8>) -> Result<(), Violation> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, text) in pairs(query)? {
        let at = At::Field(&At::Top, &name);
        let field = message_of(endpoint).field(&name);
        let field = field.filter(|field| takes_parameter(field) && binding(bound, field).is_none());
        let field = field.ok_or_else(|| unknown_parameter(endpoint, bound, &name))?;
        if !field.is_list() && seen.contains(&&*field.name) {
            let reason = format!("`{name}` is given more than once");
            return Err(Violation { pointer: at.pointer(), code: "repeated_parameter".into(), reason });
        }
        decode::parameter(&endpoint.plans, field, &text, &at, out)?;
        seen.push(&field.name);
    }
    Ok(())
}

/// Whether a field can be written as a query parameter: plain values, times, spans, and lists of them.
pub(crate) fn is_parameter(field: &FieldDescriptor) -> bool {
    let plain = match field.kind() {
        Kind::Message(message) => {
            matches!(message.full_name(), "google.protobuf.Timestamp" | "google.protobuf.Duration")
        }
        _ => true,
    };
    plain && !field.is_map()
}

/// Query parameters of a message.
pub(crate) fn parameters(message: &MessageDescriptor, bound: &[FieldDescriptor]) -> Vec<FieldDescriptor> {
    message.fields().filter(|field| is_parameter(field) && !bound.contains(field)).collect()
}

/// The same of its table.
fn takes_parameter(field: &Field) -> bool {
    !matches!(field.kind, plan::Kind::Message(_) | plan::Kind::Unserved) && !matches!(field.label, Label::Map(_))
}

fn unknown_parameter(endpoint: &Endpoint, bound: &Bound<'_>, name: &str) -> Violation {
    let fields = message_of(endpoint).fields.iter();
    let known = fields.filter(|field| takes_parameter(field) && binding(bound, field).is_none());
    let known: Vec<_> = known.map(|field| &*field.name).collect();
    let known = if known.is_empty() { "there are none".into() } else { format!("there are {}", known.join(", ")) };
    let reason = format!("there is no query parameter `{}`; {known}", echo::shorten(name));
    Violation { pointer: At::Field(&At::Top, name).pointer(), code: "unknown_parameter".into(), reason }
}

fn refuse_query(query: &str) -> Result<(), Violation> {
    match pairs(query)?.into_iter().next() {
        None => Ok(()),
        Some((name, _)) => {
            let reason =
                format!("`{}` is given as a query parameter; this route reads its body only", echo::shorten(&name));
            Err(Violation { pointer: At::Field(&At::Top, &name).pointer(), code: "unknown_parameter".into(), reason })
        }
    }
}

fn pairs(query: &str) -> Result<Vec<(String, String)>, Violation> {
    let decode = |text: &str| -> Result<String, Violation> {
        let spaced = text.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned).map_err(|_| Violation {
            pointer: String::new(),
            code: "invalid_utf8".into(),
            reason: "the query is no UTF-8 when percent-decoded".into(),
        })
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(name, value)| Ok((decode(name)?, decode(value)?)))
        .collect()
}

fn read_body(
    endpoint: &Endpoint,
    bound: &Bound<'_>,
    body: Item<'_>,
    out: &mut Vec<u8>,
) -> Result<Option<Batch>, Problem> {
    let Shape::Object(object) = body.shape() else {
        let (pointer, reason) = (String::new(), "the body has to be a JSON object".to_owned());
        return Err(Problem::invalid(Violation { pointer, code: "wrong_type".into(), reason }));
    };
    let (plans, message) = (&endpoint.plans, message_of(endpoint));
    let (mut batch, mut chosen) = (Batch::new(&endpoint.batch_fields), Chosen::default());
    for member in decode::members(message, object) {
        let at = At::Field(&At::Top, member.name);
        let field = member.field(message, &at).map_err(Problem::invalid)?;
        if let Some(text) = binding(bound, field) {
            agree_with_path(field, text.as_deref(), member.item).map_err(Problem::invalid)?;
        } else if batch.reads(field) && !member.item.is_null() {
            let elements = decode::elements(member.item, &at).map_err(Problem::invalid)?;
            batch.read(plans, field, elements, &at, out)?;
        } else {
            decode::set(plans, field, member.item, &at, &mut chosen, out).map_err(Problem::invalid)?;
        }
    }
    if endpoint.batch_fields.is_empty() {
        return Ok(None);
    }
    batch.refuse_if_nothing_is_left()?;
    Ok(Some(batch))
}

/// A field that the path binds may be repeated in the body, with the same value.
fn agree_with_path(field: &Field, text: Option<&str>, item: Item<'_>) -> Result<(), Violation> {
    if item.is_null() || item.text() == text {
        return Ok(());
    }
    let reason = format!("`{}` differs from the one in the path", field.name);
    Err(Violation { pointer: format!("/{}", field.name), code: "differs_from_path".into(), reason })
}

/// `If-Match: "3"`, or an entity tag of ours, which begins with the version, names the version that is replaced.
fn read_if_match(endpoint: &Endpoint, headers: &HeaderMap, out: &mut Vec<u8>) -> Result<(), Problem> {
    let Some(given) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    let Some(field) = message_of(endpoint).field(VERSION_MATCH) else {
        return Ok(());
    };
    let version = given.to_str().ok().and_then(version_of).ok_or_else(|| {
        let detail =
            "If-Match has to be one version in double quotes, for example \"3\", or an entity tag as it was sent";
        Problem::new(StatusCode::BAD_REQUEST, "malformed_if_match", detail)
    })?;
    let there = Fields::of(out).filter_map(Result::ok).find(|(number, _)| *number == field.number);
    if there.is_some_and(|(_, there)| there != Raw::Varint(version.into())) {
        let reason = format!("`{VERSION_MATCH}` differs from If-Match");
        return Err(Problem::invalid(Violation {
            pointer: format!("/{VERSION_MATCH}"),
            code: "differs_from_if_match".into(),
            reason,
        }));
    }
    if there.is_none() {
        encode_key(field.number, WireType::Varint, out);
        encode_varint(version.into(), out);
    }
    Ok(())
}

fn version_of(tag: &str) -> Option<u32> {
    let opaque = tag.trim().strip_prefix('"')?.strip_suffix('"')?;
    opaque.split_once('-').map_or(opaque, |(version, _)| version).parse().ok()
}

fn not_utf8(field: &str) -> Problem {
    let reason = "the path segment is no UTF-8 when percent-decoded";
    Problem::invalid(Violation { pointer: format!("/{field}"), code: "invalid_utf8".into(), reason: reason.into() })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
