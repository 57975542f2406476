//! Assembles a request message from path, query, headers and body.

use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value};
use serde_json::Value as JsonValue;

use crate::contract::{Endpoint, VERSION_MATCH};
use crate::json::Violation;
use crate::json::decode::{self, At};
use crate::json::echo;
use crate::problem::Problem;
use crate::transcode::batch::Batch;

/// A request message, and for a batch the account of what was set aside.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) message: DynamicMessage,
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

/// Assembles the message of an endpoint whose body is JSON, or that has none. `body` is there exactly where it has one.
pub(crate) fn assemble(endpoint: &Endpoint, given: Given<'_>, body: Option<&JsonValue>) -> Result<Assembled, Problem> {
    let (mut message, bound) = from_path(endpoint, given.captures)?;
    let batch = match body {
        None => {
            read_query(&mut message, &bound, given.query).map_err(Problem::invalid)?;
            None
        }
        Some(json) => {
            refuse_query(given.query).map_err(Problem::invalid)?;
            read_body(&mut message, endpoint, &bound, json)?
        }
    };
    read_if_match(&mut message, given.headers)?;
    Ok(Assembled { message, batch })
}

/// Assembles the message of an endpoint that takes the body as it came; what neither it nor the path binds comes from the
/// query.
pub(crate) fn assemble_raw(
    endpoint: &Endpoint,
    field: &FieldDescriptor,
    given: Given<'_>,
    body: Vec<u8>,
) -> Result<Assembled, Problem> {
    let (mut message, mut bound) = from_path(endpoint, given.captures)?;
    bound.push(field.clone());
    read_query(&mut message, &bound, given.query).map_err(Problem::invalid)?;
    if let Kind::Message(descriptor) = field.kind() {
        let content_type =
            given.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut raw = DynamicMessage::new(descriptor);
        raw.set_field_by_name("content_type", Value::String(content_type.to_owned()));
        raw.set_field_by_name("data", Value::Bytes(body.into()));
        message.set_field(field, Value::Message(raw));
    }
    Ok(Assembled { message, batch: endpoint.reports_rejections().then(Batch::of_document) })
}

/// A message with the fields that the path binds, and which those are.
fn from_path(endpoint: &Endpoint, captures: &[&str]) -> Result<(DynamicMessage, Vec<FieldDescriptor>), Problem> {
    let mut message = DynamicMessage::new(endpoint.rpc.input());
    let bound = endpoint.path_fields();
    for (field, raw) in bound.iter().zip(captures) {
        let text = percent_decode_str(raw).decode_utf8().map_err(|_| not_utf8(field.name()))?;
        message.set_field(field, Value::String(text.into_owned()));
    }
    Ok((message, bound))
}

fn read_query(message: &mut DynamicMessage, bound: &[FieldDescriptor], query: &str) -> Result<(), Violation> {
    let descriptor = message.descriptor();
    for (name, text) in pairs(query)? {
        let at = At::Field(&At::Top, &name);
        let field = descriptor.get_field_by_name(&name).filter(|field| is_parameter(field) && !bound.contains(field));
        let field = field.ok_or_else(|| unknown_parameter(&descriptor, bound, &name))?;
        let value = decode::from_text(&field.kind(), &text, &at)?;
        if field.is_list() {
            if let Some(items) = message.get_field_mut(&field).as_list_mut() {
                items.push(value);
            }
        } else if message.has_field(&field) {
            let reason = format!("`{name}` is given more than once");
            return Err(Violation { pointer: at.pointer(), code: "repeated_parameter".into(), reason });
        } else {
            message.set_field(&field, value);
        }
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

fn unknown_parameter(descriptor: &MessageDescriptor, bound: &[FieldDescriptor], name: &str) -> Violation {
    let known: Vec<_> = parameters(descriptor, bound).iter().map(|field| field.name().to_owned()).collect();
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
    message: &mut DynamicMessage,
    endpoint: &Endpoint,
    bound: &[FieldDescriptor],
    json: &JsonValue,
) -> Result<Option<Batch>, Problem> {
    let JsonValue::Object(members) = json else {
        let reason = "the body has to be a JSON object";
        return Err(Problem::invalid(Violation {
            pointer: String::new(),
            code: "wrong_type".into(),
            reason: reason.into(),
        }));
    };
    let descriptor = message.descriptor();
    let mut batch = Batch::new(&endpoint.batch_fields);
    for (name, value) in members {
        let at = At::Field(&At::Top, name);
        let field = decode::known_field(&descriptor, name, &at).map_err(Problem::invalid)?;
        if bound.contains(&field) {
            agree_with_path(message, &field, value).map_err(Problem::invalid)?;
        } else if endpoint.batch_fields.contains(&field) && !value.is_null() {
            let elements = decode::elements(value, &at).map_err(Problem::invalid)?;
            let kept = batch.read(&field, elements, &at)?;
            message.set_field(&field, Value::List(kept));
        } else {
            decode::set(message, &field, value, &at).map_err(Problem::invalid)?;
        }
    }
    if endpoint.batch_fields.is_empty() {
        return Ok(None);
    }
    batch.refuse_if_nothing_is_left()?;
    Ok(Some(batch))
}

/// A field that the path binds may be repeated in the body, with the same value.
fn agree_with_path(message: &DynamicMessage, field: &FieldDescriptor, json: &JsonValue) -> Result<(), Violation> {
    if json.is_null() || json.as_str() == message.get_field(field).as_str() {
        return Ok(());
    }
    let reason = format!("`{}` differs from the one in the path", field.name());
    Err(Violation { pointer: format!("/{}", field.name()), code: "differs_from_path".into(), reason })
}

/// `If-Match: "3"`, or an entity tag of ours, which begins with the version, names the version that is replaced.
fn read_if_match(message: &mut DynamicMessage, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(given) = headers.get(header::IF_MATCH) else {
        return Ok(());
    };
    let Some(field) = message.descriptor().get_field_by_name(VERSION_MATCH) else {
        return Ok(());
    };
    let version = given.to_str().ok().and_then(version_of).ok_or_else(|| {
        let detail =
            "If-Match has to be one version in double quotes, for example \"3\", or an entity tag as it was sent";
        Problem::new(StatusCode::BAD_REQUEST, "malformed_if_match", detail)
    })?;
    let there = message.has_field(&field).then(|| message.get_field(&field).as_u32()).flatten();
    if there.is_some_and(|there| there != version) {
        let reason = format!("`{VERSION_MATCH}` differs from If-Match");
        return Err(Problem::invalid(Violation {
            pointer: format!("/{VERSION_MATCH}"),
            code: "differs_from_if_match".into(),
            reason,
        }));
    }
    message.set_field(&field, Value::U32(version));
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
