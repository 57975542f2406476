//! Traces as Jaeger's query service and its UI export them, as OTLP has spans.
//!
//! Source: Jaeger documentation, HTTP JSON of the query service (`/api/traces`); the mapping of tags and references follows
//! the OpenTelemetry specification, "Jaeger exporter". A span without `span.kind` whose parent is of another service, or that
//! has none, is taken for a server's.

use std::collections::{BTreeMap, HashMap};

use attain_vocabulary::{DAY_MS, InvalidValue};
use opentelemetry_proto::tonic::common::v1::any_value::Value as OtlpValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::jaeger_tags::{attribute, attributes, text};
use super::node::Node;
use super::{Complaint, Contents, Reading};
use crate::domain::BucketLimits;

const MICROS_A_MILLI: i64 = 1_000;
const NANOS_A_MICRO: i64 = 1_000;

pub(super) fn read(document: &Value, reading: &Reading) -> Result<Contents, InvalidValue> {
    let top = Node::top(document);
    let data = top.get("data");
    let list = data.as_ref().unwrap_or(&top);
    let several = list.elements().ok();
    let traces = several.as_deref().unwrap_or(std::slice::from_ref(list));
    if several.is_none() && top.get("spans").is_none() {
        let reason = "traces are expected, as a list under `data`, as a list, or one by itself";
        return Err(InvalidValue::new("document", "wrong_type", reason));
    }
    let shift_us = reading.end_ms.map_or(0, |end_ms| end_ms.saturating_mul(MICROS_A_MILLI) - newest_us(traces));
    let mut contents = Contents::default();
    let mut index = 0;
    for trace in traces {
        let spans = match trace.require("spans") {
            Ok(spans) => spans,
            Err(complaint) => {
                contents.rejected.push(complaint);
                continue;
            }
        };
        let translator =
            Translator { processes: processes(trace), services: services(trace), shift_us, limits: reading.limits };
        let spans = match spans.elements() {
            Ok(spans) => spans,
            Err(complaint) => {
                contents.rejected.push(complaint);
                continue;
            }
        };
        translator.translate(&spans, &mut index, &mut contents);
    }
    Ok(contents)
}

/// The end of the newest span, in microseconds.
fn newest_us(traces: &[Node<'_>]) -> i64 {
    let spans = traces.iter().flat_map(|trace| trace.list("spans"));
    let end = |span: &Value| Some(span["startTime"].as_i64()?.saturating_add(span["duration"].as_i64().unwrap_or(0)));
    spans.filter_map(end).max().unwrap_or(0)
}

/// The processes of a trace by their ids.
fn processes<'a>(trace: &Node<'a>) -> HashMap<String, &'a Value> {
    let all = trace.value()["processes"].as_object();
    all.into_iter().flatten().map(|(id, process)| (id.clone(), process)).collect()
}

/// The service of each span, by the span's id as it is written.
fn services(trace: &Node<'_>) -> HashMap<String, String> {
    let processes = processes(trace);
    let service = |span: &Value| Some((span["spanID"].as_str()?.to_owned(), service_of(span, &processes)?.to_owned()));
    trace.list("spans").into_iter().filter_map(service).collect()
}

/// The process stands in the span itself, or in the trace under the span's `processID`.
fn process_of<'a>(span: &'a Value, processes: &HashMap<String, &'a Value>) -> Option<&'a Value> {
    let own = span.get("process").filter(|process| process.is_object());
    own.or_else(|| processes.get(span["processID"].as_str()?).copied())
}

fn service_of<'a>(span: &'a Value, processes: &HashMap<String, &'a Value>) -> Option<&'a str> {
    process_of(span, processes)?["serviceName"].as_str().filter(|name| !name.is_empty())
}

struct Translator<'a> {
    processes: HashMap<String, &'a Value>,
    services: HashMap<String, String>,
    shift_us: i64,
    limits: BucketLimits,
}

impl Translator<'_> {
    /// Translates the spans of one trace, those of one process together.
    fn translate(&self, spans: &[Node<'_>], index: &mut usize, contents: &mut Contents) {
        let mut by_process: BTreeMap<String, (Resource, Vec<Span>)> = BTreeMap::new();
        for span in spans {
            match self.span(span) {
                Ok(translated) => {
                    let process = process_of(span.value(), &self.processes);
                    let key = process.map(ToString::to_string).unwrap_or_default();
                    by_process.entry(key).or_insert_with(|| (resource(process), Vec::new())).1.push(translated);
                    contents.span_count += 1;
                }
                Err(complaint) => contents.rejected.push(complaint.at(*index)),
            }
            *index += 1;
        }
        contents.spans.resource_spans.extend(by_process.into_values().map(|(resource, spans)| ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }));
    }

    fn span(&self, span: &Node<'_>) -> Result<Span, Complaint> {
        let tags = span.list("tags");
        let own_service = service_of(span.value(), &self.processes).ok_or_else(|| {
            Complaint::new(
                format!("{}/processID", span.pointer()),
                "required",
                "the span has no process with a serviceName",
            )
        })?;
        let written_trace = span.required_text("traceID")?;
        let (parent, links) = references(span.value(), &written_trace);
        let (start_ns, end_ns) = self.times(span)?;
        let called = parent.as_deref().is_none_or(|parent| self.services.get(parent).is_some_and(|s| s != own_service));
        Ok(Span {
            trace_id: id::<16>(span, "traceID")?.to_vec(),
            span_id: id::<8>(span, "spanID")?.to_vec(),
            parent_span_id: parent.as_deref().and_then(number::<8>).map(Vec::from).unwrap_or_default(),
            trace_state: text(&tags, "w3c.tracestate").unwrap_or_default(),
            name: span.optional_text("operationName")?.unwrap_or_default(),
            kind: kind(text(&tags, "span.kind").as_deref(), called) as i32,
            start_time_unix_nano: start_ns,
            end_time_unix_nano: end_ns,
            attributes: attributes(&tags),
            links,
            status: Some(Status { code: status(&tags) as i32, ..Status::default() }),
            ..Span::default()
        })
    }

    /// Start and end in nanoseconds.
    fn times(&self, span: &Node<'_>) -> Result<(u64, u64), Complaint> {
        let start = span.require("startTime")?;
        let late = || start.complain("out_of_range", "no time is that late");
        let start_us =
            i64::try_from(start.whole()?).ok().and_then(|us| us.checked_add(self.shift_us)).ok_or_else(late)?;
        let duration_us = span.get("duration").map_or(Ok(0), |node| node.whole())?;
        let end_us = i64::try_from(duration_us).ok().and_then(|us| start_us.checked_add(us)).ok_or_else(late)?;
        let start_ms = start_us.div_euclid(MICROS_A_MILLI);
        if start_ms > self.limits.now_ms.saturating_add(self.limits.future_skew_ms) {
            return Err(start.complain("future_time", "the time is in the future"));
        }
        if start_ms < self.limits.now_ms.saturating_sub(i64::from(self.limits.age_days_max) * DAY_MS) {
            let reason = "the time is too long ago; `end_time` moves the spans of a document in time";
            return Err(start.complain("too_old", reason));
        }
        let nanos = |us: i64| us.checked_mul(NANOS_A_MICRO).and_then(|ns| u64::try_from(ns).ok()).ok_or_else(late);
        Ok((nanos(start_us)?, nanos(end_us)?))
    }
}

fn resource(process: Option<&Value>) -> Resource {
    let name = process.and_then(|process| process["serviceName"].as_str()).unwrap_or_default();
    let tags: Vec<&Value> = process.and_then(|process| process["tags"].as_array()).into_iter().flatten().collect();
    let mut all = attributes(&tags);
    all.retain(|attribute| attribute.key != "service.name");
    all.push(attribute("service.name", OtlpValue::StringValue(name.to_owned())));
    Resource { attributes: all, ..Resource::default() }
}

/// The id of the parent as it is written, and what else is referred to: a child's reference of the same trace names the
/// parent, else one that follows from it.
fn references(span: &Value, trace: &str) -> (Option<String>, Vec<Link>) {
    let all: Vec<&Value> = span["references"].as_array().into_iter().flatten().collect();
    let here = |reference: &&&Value, kind: &str| reference["refType"] == kind && reference["traceID"] == trace;
    let chosen = all.iter().find(|r| here(r, "CHILD_OF")).or_else(|| all.iter().find(|r| here(r, "FOLLOWS_FROM")));
    let parent = chosen.and_then(|reference| reference["spanID"].as_str()).or_else(|| span["parentSpanID"].as_str());
    let others = all.iter().filter(|reference| chosen.is_none_or(|chosen| !std::ptr::eq(*chosen, **reference)));
    let link = |reference: &&Value| {
        Some(Link {
            trace_id: number::<16>(reference["traceID"].as_str()?)?.to_vec(),
            span_id: number::<8>(reference["spanID"].as_str()?)?.to_vec(),
            ..Link::default()
        })
    };
    (parent.filter(|parent| !parent.is_empty()).map(str::to_owned), others.filter_map(link).collect())
}

fn kind(said: Option<&str>, called: bool) -> SpanKind {
    match said {
        Some("server") => SpanKind::Server,
        Some("client") => SpanKind::Client,
        Some("producer") => SpanKind::Producer,
        Some("consumer") => SpanKind::Consumer,
        None if called => SpanKind::Server,
        _ => SpanKind::Internal,
    }
}

fn status(tags: &[&Value]) -> StatusCode {
    let said = text(tags, "otel.status_code");
    match (said.as_deref(), text(tags, "error").as_deref()) {
        (Some("ERROR"), _) | (_, Some("true")) => StatusCode::Error,
        (Some("OK"), _) => StatusCode::Ok,
        _ => StatusCode::Unset,
    }
}

fn id<const LENGTH: usize>(span: &Node<'_>, name: &str) -> Result<[u8; LENGTH], Complaint> {
    let text = span.required_text(name)?;
    number(&text).ok_or_else(|| {
        Complaint::new(format!("{}/{name}", span.pointer()), "malformed_id", "an id has a digit that is not zero")
    })
}

/// An id as bytes: hexadecimal digits, leading zeros left out as they often are; other texts by their hash. `None` for zero.
fn number<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let is_number = text.len() <= 2 * LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_number {
        hex::decode_to_slice(format!("{text:0>width$}", width = 2 * LENGTH), &mut bytes).ok()?;
    } else {
        bytes.copy_from_slice(&Sha256::digest(text)[..LENGTH]);
    }
    (bytes != [0; LENGTH]).then_some(bytes)
}
