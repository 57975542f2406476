//! OTLP exports of a made-up company: the same seed gives the same spans.
//!
//! A trace goes through three services and ends at a database: three requests (SERVER spans) and three calls (CLIENT spans),
//! each with the ten attributes that instrumentation of the stable conventions sets. The middle service is another process:
//! its spans come in an export of their own, as they do in production.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Spans of one trace.
pub(crate) const SPANS_PER_TRACE: u64 = 6;
/// SERVER spans among them; the rest are CLIENT spans.
pub(crate) const REQUESTS_PER_TRACE: u64 = 3;
/// How many others one service calls.
const CALLEES: u32 = 5;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Where spans come from.
#[derive(Debug, Clone)]
pub(crate) struct Traffic {
    /// Begins every service's name, so that runs do not meet.
    pub(crate) run: String,
    pub(crate) seed: u64,
    pub(crate) services: u32,
}

impl Traffic {
    pub(crate) fn service(&self, number: u32) -> String {
        format!("{}-{number}", self.run)
    }

    /// The two exports that hold the traces from `first` on, `count` of them, that ended at `now_ms`.
    pub(crate) fn exports(&self, first: u64, count: u64, now_ms: i64) -> [ExportTraceServiceRequest; 2] {
        let mut pieces: [BTreeMap<u32, Vec<Span>>; 2] = Default::default();
        for trace in first..first + count {
            for (number, (service, span)) in self.trace(trace, now_ms).into_iter().enumerate() {
                let piece = usize::from((2..4).contains(&number));
                pieces[piece].entry(service).or_default().push(span);
            }
        }
        pieces.map(|services| ExportTraceServiceRequest {
            resource_spans: services.into_iter().map(|(service, spans)| self.of_service(service, spans)).collect(),
        })
    }

    fn of_service(&self, service: u32, spans: Vec<Span>) -> ResourceSpans {
        let attributes = vec![
            text("service.name", &self.service(service)),
            text("service.version", "1.4.2"),
            text("telemetry.sdk.language", "rust"),
        ];
        ResourceSpans {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }
    }

    /// Spans from the first request to the call of the database, each with the number of its service.
    fn trace(&self, number: u64, now_ms: i64) -> Vec<(u32, Span)> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(number));
        let mut chain = [random.random_range(0..self.services); 3];
        for place in 1..chain.len() {
            chain[place] = (chain[place - 1] + random.random_range(1..=CALLEES)) % self.services;
        }
        let failed = random.random_range(0..100) == 0;
        let end_ns = now_ms as u64 * NANOS_PER_MILLI;
        let mut spans = Vec::with_capacity(SPANS_PER_TRACE as usize);
        let mut span = |place: usize, kind: SpanKind, attributes: Vec<KeyValue>| {
            let id = spans.len() as u64;
            // Each lies within its parent.
            let (start_ns, end_ns) = (end_ns - (60 - 5 * id) * NANOS_PER_MILLI, end_ns - id * NANOS_PER_MILLI);
            let parent_span_id = if id == 0 { Vec::new() } else { span_id(number, id - 1) };
            let span = Span {
                trace_id: trace_id(self.seed, number),
                span_id: span_id(number, id),
                parent_span_id,
                name: "GET /items/{id}".into(),
                kind: kind.into(),
                start_time_unix_nano: start_ns,
                end_time_unix_nano: end_ns,
                attributes,
                ..Span::default()
            };
            spans.push((chain[place], span));
        };
        for place in 0..chain.len() {
            span(place, SpanKind::Server, server_attributes(number, failed));
            let attributes = match chain.get(place + 1) {
                Some(callee) => client_attributes(&self.service(*callee), number, failed),
                None => database_attributes(&self.service(chain[place]), failed),
            };
            span(place, SpanKind::Client, attributes);
        }
        spans
    }
}

fn trace_id(seed: u64, number: u64) -> Vec<u8> {
    let id = (u128::from(seed) << 64) | u128::from(number + 1);
    id.to_be_bytes().to_vec()
}

fn span_id(number: u64, of_trace: u64) -> Vec<u8> {
    ((number + 1) << 4 | of_trace).to_be_bytes().to_vec()
}

fn server_attributes(number: u64, failed: bool) -> Vec<KeyValue> {
    vec![
        text("http.request.method", "GET"),
        text("http.route", "/items/{id}"),
        text("url.path", &format!("/items/{number}")),
        text("url.scheme", "http"),
        integer("http.response.status_code", if failed { 503 } else { 200 }),
        text("server.address", "items.internal"),
        integer("server.port", 8080),
        text("network.protocol.version", "1.1"),
        text("user_agent.original", "shop-web/2.3"),
        text("client.address", "198.51.100.7"),
    ]
}

fn client_attributes(callee: &str, number: u64, failed: bool) -> Vec<KeyValue> {
    vec![
        text("http.request.method", "GET"),
        text("url.full", &format!("http://{callee}:8080/items/{number}")),
        integer("http.response.status_code", if failed { 503 } else { 200 }),
        text("server.address", callee),
        integer("server.port", 8080),
        text("network.protocol.version", "1.1"),
        text("network.peer.address", "10.0.0.7"),
        integer("network.peer.port", 8080),
        text("peer.service", callee),
        integer("http.request.resend_count", 0),
    ]
}

fn database_attributes(service: &str, failed: bool) -> Vec<KeyValue> {
    vec![
        text("db.system.name", "postgresql"),
        text("db.namespace", service),
        text("db.operation.name", "SELECT"),
        text("db.collection.name", "items"),
        text("db.query.text", "SELECT * FROM items WHERE id = $1"),
        text("server.address", "db.internal"),
        integer("server.port", 5432),
        text("network.peer.address", "10.0.0.9"),
        integer("db.response.returned_rows", 1),
        text("error.type", if failed { "57P01" } else { "" }),
    ]
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const NOW_MS: i64 = 1_793_000_000_000;

    fn traffic(seed: u64) -> Traffic {
        Traffic { run: "run".into(), seed, services: 50 }
    }

    #[test]
    fn the_same_seed_gives_the_same_spans_and_another_seed_others() {
        assert_eq!(traffic(1).exports(0, 20, NOW_MS), traffic(1).exports(0, 20, NOW_MS));
        assert_ne!(traffic(1).exports(0, 20, NOW_MS), traffic(2).exports(0, 20, NOW_MS));
    }

    #[test]
    fn traces_come_in_two_pieces_of_spans_with_ten_attributes() {
        let exports = traffic(7).exports(100, 50, NOW_MS);
        let mut ids = BTreeSet::new();
        let (mut requests, mut count) = (0, 0);
        for (piece, export) in exports.iter().enumerate() {
            let spans = export.resource_spans.iter().flat_map(|of| &of.scope_spans[0].spans);
            for span in spans {
                assert_eq!(span.attributes.len(), 10);
                assert!(ids.insert(span.span_id.clone()), "each id once");
                assert!(span.start_time_unix_nano < span.end_time_unix_nano);
                requests += u64::from(span.kind == i32::from(SpanKind::Server));
                count += 1;
            }
            assert!(!export.resource_spans.is_empty(), "piece {piece}");
        }
        assert_eq!((count, requests), (50 * SPANS_PER_TRACE, 50 * REQUESTS_PER_TRACE));
    }

    #[test]
    fn nobody_calls_itself() {
        for trace in 0..500 {
            let spans = traffic(3).trace(trace, NOW_MS);
            assert_ne!(spans[0].0, spans[2].0);
            assert_ne!(spans[2].0, spans[4].0);
        }
    }
}
