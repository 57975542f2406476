//! An export of spans reduced to what joining needs. Operation names, events, links and all other attributes are dropped
//! here: nothing is kept that nothing reads.

use attain_redaction::redact;
use std::collections::{BTreeMap, HashMap};

use attain_vocabulary::{DAY_MS, EntityId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as wire;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

use super::conventions::{Facts, PeerName, text};
use super::span::{PeerRecord, SpanKind, SpanRecord, SpansRecord, peer_kind_number};
use crate::domain::BucketLimits;

/// The service of whoever does not name itself, as SDKs call it too.
const UNKNOWN_SERVICE: &str = "unknown_service";
const NANOS_A_MILLI: u64 = 1_000_000;

/// What is left of an export.
#[derive(Debug, PartialEq)]
pub(super) struct Reduced {
    /// A row of the span log; empty when no span was kept.
    pub(super) payload: Vec<u8>,
    pub(super) kept_count: usize,
    pub(super) rejected: Rejected,
}

/// Rows that were refused, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rejected(BTreeMap<&'static str, usize>);

impl Rejected {
    pub(super) fn note(&mut self, reason: &'static str) {
        self.note_many(reason, 1);
    }

    pub(super) fn note_many(&mut self, reason: &'static str, count: usize) {
        *self.0.entry(reason).or_insert(0) += count;
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// For people: every reason and how often.
    pub(super) fn message(&self) -> String {
        let reasons: Vec<String> = self.0.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
        reasons.join("; ")
    }
}

/// Reduces an export; spans that cannot be right are left out and counted.
pub(super) fn reduce(request: &ExportTraceServiceRequest, limits: BucketLimits) -> Reduced {
    let mut reducer = Reducer { limits, record: SpansRecord::default(), names: HashMap::new(), peers: HashMap::new() };
    let mut rejected = Rejected::default();
    for of_resource in &request.resource_spans {
        let service = reducer.name(service_name(of_resource.resource.as_ref()).as_str());
        for span in of_resource.scope_spans.iter().flat_map(|scope| &scope.spans) {
            match reducer.span(span, service) {
                Ok(record) => reducer.record.spans.push(record),
                Err(reason) => rejected.note(reason),
            }
        }
    }
    let kept_count = reducer.record.spans.len();
    let payload = if kept_count == 0 { Vec::new() } else { reducer.record.encode_to_vec() };
    Reduced { payload, kept_count, rejected }
}

/// The name of the service that a resource describes.
pub(super) fn service_name(resource: Option<&Resource>) -> EntityId {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    let named = attributes.iter().rev().find(|attribute| attribute.key == "service.name");
    let named = named.and_then(|attribute| attribute.value.as_ref()).and_then(text);
    named.and_then(entity_name).unwrap_or_else(|| EntityId::new("service", UNKNOWN_SERVICE).expect("a valid name"))
}

/// A name that was observed, redacted before it is bent into shape.
pub(super) fn entity_name(observed: &str) -> Option<EntityId> {
    EntityId::from_observed(&redact(observed).0)
}

struct Reducer {
    limits: BucketLimits,
    record: SpansRecord,
    names: HashMap<String, u32>,
    peers: HashMap<PeerName, u32>,
}

impl Reducer {
    fn span(&mut self, span: &wire::Span, service: u32) -> Result<SpanRecord, &'static str> {
        let trace_id = id::<16>(&span.trace_id).map(u128::from_be_bytes).filter(|id| *id != 0);
        let trace_id = trace_id.ok_or("trace_id is not 16 bytes with one that is not zero")?;
        let span_id = id::<8>(&span.span_id).map(u64::from_be_bytes).filter(|id| *id != 0);
        let span_id = span_id.ok_or("span_id is not 8 bytes with one that is not zero")?;
        let parent_id = if span.parent_span_id.is_empty() {
            Some(0)
        } else {
            id::<8>(&span.parent_span_id).map(u64::from_be_bytes)
        };
        let parent_id = parent_id.ok_or("parent_span_id is neither empty nor 8 bytes")?;
        self.check_times(span)?;
        let facts = Facts::read(&span.attributes);
        let kind = SpanKind::from_number(i64::from(span.kind));
        let status_error = span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32);
        let peer = if kind.is_call() { facts.peer() } else { None };
        Ok(SpanRecord {
            trace_id_high: (trace_id >> 64) as u64,
            trace_id_low: trace_id as u64,
            span_id,
            parent_id,
            service,
            kind: SpanRecord::kind_number(kind),
            start_ns: span.start_time_unix_nano,
            duration_ns: span.end_time_unix_nano - span.start_time_unix_nano,
            failed: facts.failed(status_error),
            peer: peer.map_or(0, |peer| self.peer(peer)),
            protocol: facts
                .protocol()
                .filter(|_| kind != SpanKind::Internal)
                .map_or(0, |protocol| self.protocol(protocol)),
        })
    }

    fn check_times(&self, span: &wire::Span) -> Result<(), &'static str> {
        if span.start_time_unix_nano == 0 {
            return Err("start_time_unix_nano is missing");
        }
        if span.end_time_unix_nano < span.start_time_unix_nano {
            return Err("the span ends before it starts");
        }
        within(self.limits, span.start_time_unix_nano)
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(place) = self.names.get(name) {
            return *place;
        }
        let place = self.record.names.len() as u32;
        self.record.names.push(name.to_owned());
        self.names.insert(name.to_owned(), place);
        place
    }

    /// From 1. A protocol is a word; whatever is not one is bent like a name.
    fn protocol(&mut self, protocol: &str) -> u32 {
        if let Some(place) = self.names.get(protocol) {
            return *place + 1;
        }
        entity_name(protocol).map_or(0, |bent| self.name(bent.as_str()) + 1)
    }

    /// From 1; 0 where the name has nothing that a name can have.
    fn peer(&mut self, peer: PeerName) -> u32 {
        if let Some(place) = self.peers.get(&peer) {
            return *place;
        }
        let Some(id) = entity_name(&peer.name) else { return 0 };
        self.record.peers.push(PeerRecord { id: id.to_string(), kind: peer_kind_number(peer.kind) });
        let place = self.record.peers.len() as u32;
        self.peers.insert(peer, place);
        place
    }
}

/// Whether a time is neither in the future nor too long ago.
pub(super) fn within(limits: BucketLimits, time_ns: u64) -> Result<(), &'static str> {
    let time_ms = (time_ns / NANOS_A_MILLI) as i64;
    if time_ms > limits.now_ms.saturating_add(limits.future_skew_ms) {
        return Err("the time is in the future");
    }
    if time_ms < limits.now_ms.saturating_sub(i64::from(limits.age_days_max) * DAY_MS) {
        return Err("the time is too long ago");
    }
    Ok(())
}

fn id<const LENGTH: usize>(bytes: &[u8]) -> Option<[u8; LENGTH]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::span::decode;
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

    const NOW_MS: i64 = 1_793_000_000_000;
    const LIMITS: BucketLimits = BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 400 };
    const NOW_NS: u64 = NOW_MS as u64 * NANOS_A_MILLI;

    fn span() -> wire::Span {
        wire::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            kind: 3,
            start_time_unix_nano: NOW_NS,
            end_time_unix_nano: NOW_NS + 5,
            ..wire::Span::default()
        }
    }

    fn said(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    fn export(service: Option<&str>, spans: Vec<wire::Span>) -> ExportTraceServiceRequest {
        let attributes = service.map(|name| said("service.name", name)).into_iter().collect();
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        }
    }

    #[test]
    fn spans_that_cannot_be_right_are_left_out_and_named() {
        let cases = [
            (wire::Span { trace_id: vec![1; 15], ..span() }, "trace_id"),
            (wire::Span { trace_id: vec![0; 16], ..span() }, "trace_id"),
            (wire::Span { span_id: vec![], ..span() }, "span_id"),
            (wire::Span { span_id: vec![0; 8], ..span() }, "span_id"),
            (wire::Span { parent_span_id: vec![1; 7], ..span() }, "parent_span_id"),
            (wire::Span { start_time_unix_nano: 0, ..span() }, "start_time_unix_nano"),
            (wire::Span { end_time_unix_nano: 0, ..span() }, "ends before"),
            (wire::Span { start_time_unix_nano: u64::MAX - 1, end_time_unix_nano: u64::MAX, ..span() }, "future"),
            (wire::Span { start_time_unix_nano: 1, ..span() }, "long ago"),
        ];
        for (bad, named) in cases {
            let reduced = reduce(&export(Some("cart"), vec![bad, span()]), LIMITS);
            assert_eq!((reduced.kept_count, reduced.rejected.count()), (1, 1), "{named}");
            assert!(reduced.rejected.message().contains(named), "{}", reduced.rejected.message());
        }
    }

    #[test]
    fn what_is_kept_is_what_joining_needs() {
        let mut sent = span();
        sent.parent_span_id = vec![3; 8];
        sent.name = "GET /users/jane@example.com".into();
        sent.attributes =
            vec![said("db.system", "postgresql"), said("db.name", "users"), said("db.statement", "SELECT secret")];
        sent.status = Some(wire::Status { code: 2, message: "secret".into() });
        let reduced = reduce(&export(Some("user service"), vec![sent]), LIMITS);
        let kept = decode(&reduced.payload).expect("a row").remove(0);
        assert_eq!(kept.service.as_str(), "user-service");
        assert_eq!((kept.trace_id, kept.parent_id), (u128::from_be_bytes([1; 16]), u64::from_be_bytes([3; 8])));
        assert_eq!((kept.kind, kept.failed, kept.duration_ns), (SpanKind::Client, true, 5));
        assert_eq!(kept.peer.expect("a peer").id.as_str(), "postgresql/users");
        assert_eq!(kept.protocol.as_deref(), Some("sql"));
        let bytes = String::from_utf8_lossy(&reduced.payload).into_owned();
        assert!(!bytes.contains("jane") && !bytes.contains("secret"), "{bytes}");
    }

    #[test]
    fn whoever_has_no_name_is_unknown_and_secrets_in_names_go() {
        for (name, expected) in [(None, "unknown_service"), (Some("***"), "unknown_service"), (Some("a"), "a")] {
            let reduced = reduce(&export(name, vec![span()]), LIMITS);
            assert_eq!(decode(&reduced.payload).expect("a row")[0].service.as_str(), expected);
        }
        let mut sent = span();
        sent.attributes = vec![said("peer.service", "mail to jane.doe@example.com")];
        let reduced = reduce(&export(None, vec![sent]), LIMITS);
        let peer = decode(&reduced.payload).expect("a row").remove(0).peer.expect("a peer");
        assert!(!peer.id.as_str().contains("jane"), "{}", peer.id);
    }

    #[test]
    fn nothing_kept_is_no_row() {
        assert!(reduce(&ExportTraceServiceRequest::default(), LIMITS).payload.is_empty());
    }
}
