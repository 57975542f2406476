//! The allow-list of attributes: whose text may be kept, of spans and of points. Everything else of an export is looked at or
//! not, and gone when it was reduced. A convention that is read from now on belongs here, or this test fails.

use std::collections::BTreeSet;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;

use super::known::KnownNames;
use super::points::{PointLimits, read_points};
use super::reduce::{SpanLimits, reduce};
use super::sent::SentSpans;
use crate::domain::BucketLimits;

/// Attributes of spans whose text, redacted and bent into a name, may be kept. Of an address only the host is.
const KEPT: &[&str] = &[
    "service.name",
    "cloud.region",
    "peer.service",
    "service.peer.name",
    "server.address",
    "net.peer.name",
    "net.sock.peer.name",
    "server.socket.domain",
    "http.host",
    "network.peer.address",
    "net.sock.peer.addr",
    "server.socket.address",
    "net.peer.ip",
    "url.full",
    "http.url",
    "db.system",
    "db.system.name",
    "db.namespace",
    "db.name",
    "messaging.system",
    "messaging.destination",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.source",
    "messaging.source.name",
    "messaging.source.template",
    "rpc.system",
    "rpc.system.name",
    // What an operation is called, folded to a template.
    "http.request.method",
    "http.method",
    "http.route",
    "url.template",
    "rpc.service",
    "rpc.method",
    "db.operation",
    "db.operation.name",
    "db.collection.name",
    "db.sql.table",
    "db.mongodb.collection",
    "messaging.operation",
    "messaging.operation.type",
];

/// Those of them that no reading can do without.
const NEEDED: &[&str] = &[
    "service.name",
    "cloud.region",
    "peer.service",
    "server.address",
    "url.full",
    "db.namespace",
    "messaging.destination.name",
    "client",
];

/// The same of points only: both ends of a service graph's edge, and where a gRPC client calls.
const KEPT_OF_POINTS: &[&str] = &["client", "server", "grpc.target"];

/// Attributes that senders put on spans, points and resources, and that nothing may keep: the rest of the conventions, and
/// what people add by hand.
const NOT_KEPT: &[&str] = &[
    "http.target",
    "url.path",
    "url.query",
    "url.fragment",
    "http.user_agent",
    "user_agent.original",
    "http.client_ip",
    "client.address",
    "net.peer.port",
    "net.sock.peer.port",
    "network.peer.port",
    "server.socket.port",
    "server.port",
    "http.request.header.authorization",
    "http.request.header.cookie",
    "http.response.header.set-cookie",
    "http.response.status_code",
    "http.status_code",
    "rpc.grpc.status_code",
    "error.type",
    "rpc.grpc.request.metadata.authorization",
    "db.statement",
    "db.query.text",
    "db.query.summary",
    "db.connection_string",
    "db.user",
    "db.redis.database_index",
    "messaging.message.id",
    "messaging.message.conversation_id",
    "messaging.message.body",
    "messaging.kafka.message.key",
    "messaging.consumer.group.name",
    "messaging.client.id",
    "exception.type",
    "exception.message",
    "exception.stacktrace",
    "enduser.id",
    "enduser.role",
    "user.id",
    "user.email",
    "user.name",
    "user.full_name",
    "session.id",
    "code.function",
    "code.filepath",
    "thread.name",
    "graphql.document",
    "aws.s3.key",
    "faas.trigger",
    "gen_ai.prompt",
    "gen_ai.completion",
    "process.command_line",
    "process.command_args",
    "process.owner",
    "host.name",
    "host.ip",
    "host.mac",
    "k8s.pod.name",
    "container.id",
    "cloud.account.id",
    "service.instance.id",
    "service.version",
    "deployment.environment",
    "password",
    "api_key",
    "card",
    "customer",
    "x.y.z",
    "",
    "Service.Name",
    "service.name ",
];

const NOW_MS: i64 = 1_793_000_000_000;
const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;
const TIME: BucketLimits = BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 400 };

fn said(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(attribute: &KeyValue) -> Option<Resource> {
    Some(Resource { attributes: vec![attribute.clone()], ..Resource::default() })
}

fn scope(mark: &str) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: mark.into(), version: mark.into(), ..InstrumentationScope::default() })
}

/// Companions that make others be looked at.
fn companions() -> Vec<Vec<KeyValue>> {
    vec![
        vec![],
        vec![said("db.system", "postgresql")],
        vec![said("messaging.system", "kafka")],
        vec![said("rpc.system", "grpc")],
        vec![said("client", "one")],
        vec![said("server", "two")],
    ]
}

/// What is left of exports that carry the attribute everywhere, and the mark wherever else a text can stand.
fn kept_of_spans(attribute: &KeyValue, mark: &str) -> String {
    let spans = companions().into_iter().enumerate().flat_map(|(i, companions)| {
        let attributes: Vec<_> = companions.into_iter().chain([attribute.clone()]).collect();
        (1..=5).map(move |kind| trace::Span {
            trace_id: vec![1; 16],
            span_id: vec![i as u8 + 1; 8],
            trace_state: format!("a={mark}"),
            name: "GET /x".into(),
            kind,
            start_time_unix_nano: NOW_NS,
            end_time_unix_nano: NOW_NS + 1,
            attributes: attributes.clone(),
            events: vec![trace::span::Event { name: mark.into(), ..Default::default() }],
            links: vec![trace::span::Link {
                trace_state: mark.into(),
                attributes: attributes.clone(),
                ..Default::default()
            }],
            status: Some(trace::Status { message: mark.into(), code: 2 }),
            ..Default::default()
        })
    });
    let scope_spans = trace::ScopeSpans { scope: scope(mark), spans: spans.collect(), schema_url: mark.into() };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![trace::ResourceSpans {
            resource: resource(attribute),
            scope_spans: vec![scope_spans],
            schema_url: mark.into(),
        }],
    };
    let limits =
        SpanLimits { time: TIME, attributes_max: 64, value_bytes_max: 1_024, links_max: 128, weight_max: 1 << 20 };
    let reduced = reduce(&SentSpans::from(&request), limits, &KnownNames::default()).expect("an export");
    assert_eq!(reduced.rejected.count(), 0);
    String::from_utf8_lossy(&reduced.payload).into_owned()
}

fn kept_of_points(attribute: &KeyValue, mark: &str) -> String {
    let data_points: Vec<_> = companions()
        .into_iter()
        .map(|companions| metrics::HistogramDataPoint {
            start_time_unix_nano: NOW_NS - 1,
            time_unix_nano: NOW_NS,
            count: 1,
            attributes: companions.into_iter().chain([attribute.clone()]).collect(),
            ..Default::default()
        })
        .collect();
    let names = [
        "http.server.request.duration",
        "http.client.request.duration",
        "grpc.client.call.duration",
        "rpc.client.call.duration",
        "db.client.operation.duration",
        "messaging.client.operation.duration",
        "traces_service_graph_request_client_seconds",
        mark,
    ];
    let of = |name: &str| metrics::Metric {
        name: name.into(),
        description: mark.into(),
        unit: mark.into(),
        data: Some(metrics::metric::Data::Histogram(metrics::Histogram {
            data_points: data_points.clone(),
            aggregation_temporality: 1,
        })),
        ..Default::default()
    };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![metrics::ResourceMetrics {
            resource: resource(attribute),
            scope_metrics: vec![metrics::ScopeMetrics {
                scope: scope(mark),
                metrics: names.map(of).to_vec(),
                schema_url: mark.into(),
            }],
            schema_url: mark.into(),
        }],
    };
    let limits = PointLimits { time: TIME, ..crate::Config::default().point_limits(TIME.now_ms) };
    format!("{:?}", read_points(&request, limits))
}

#[test]
fn only_the_allow_list_is_kept() {
    let mut kept = BTreeSet::new();
    for key in KEPT.iter().chain(KEPT_OF_POINTS).chain(NOT_KEPT) {
        for value in ["kept-word", "https://kept-word.example:8443/secret-path?secret-query=1#secret-end"] {
            let attribute = said(key, value);
            for left in [kept_of_spans(&attribute, "secret-mark"), kept_of_points(&attribute, "secret-mark")] {
                assert!(!left.contains("secret-mark"), "{key}: {left}");
                if left.contains("kept-word") {
                    kept.insert(*key);
                }
                // The path of an address is gone where the attribute is one.
                assert!(!["url.full", "http.url"].contains(key) || !left.contains("secret-"), "{key}: {left}");
            }
        }
    }
    let allowed: BTreeSet<&str> = KEPT.iter().chain(KEPT_OF_POINTS).copied().collect();
    assert!(kept.is_subset(&allowed), "kept, and not on the list: {:?}", kept.difference(&allowed));
    assert!(NEEDED.iter().all(|key| kept.contains(key)), "what is needed is not kept: {kept:?}");
}
