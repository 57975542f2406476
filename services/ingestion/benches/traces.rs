//! How many spans a second one core takes: from the bytes of OTLP exports to edges, buckets and operations in SQLite, durable
//! at acknowledgement.
//!
//! The whole path is measured in processor time of the whole process, so that the time of other threads (the database's)
//! counts and waiting for the disk does not. Spans arrive as from 50 services at 20,000 a second, each service exporting 512
//! of its spans at a time; a trace has 5 to 10 spans of 10 attributes, and is settled ten seconds after its last one.
//! Beside it, single traces of 20,000 spans in shapes that nobody means to send: their spans must not cost more by much.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use attain_ingestion::Config;
use attain_ingestion::otlp::Pipeline;
use attain_runtime::clock::Clock;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures::StreamExt as _;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

const START_MS: i64 = 1_793_000_000_000;
const SERVICES: u64 = 50;
const SPANS_AN_EXPORT: usize = 512;
const SPANS_A_SECOND: usize = 20_000;
const SECONDS: i64 = 20;
const SENDERS: usize = 16;

/// Traces of a shop of 50 services, the same at every run.
struct Shop {
    drawn: u64,
    trace: u64,
    /// Spans that each service has not exported.
    queues: Vec<Vec<Span>>,
    exports: Vec<Vec<u8>>,
}

impl Shop {
    fn new() -> Self {
        Self { drawn: 7, trace: 0, queues: vec![Vec::new(); SERVICES as usize], exports: Vec::new() }
    }

    /// A number below `below`. Source: Knuth's MMIX generator, its high bits.
    fn draw(&mut self, below: u64) -> u64 {
        self.drawn = self.drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.drawn >> 33) % below
    }

    /// The exports of one second.
    fn second(&mut self, second: i64, all: bool) -> Vec<Vec<u8>> {
        let mut span_count = 0;
        while span_count < SPANS_A_SECOND {
            span_count += self.trace((START_MS + second * 1_000) as u64 * 1_000_000);
        }
        if all {
            (0..SERVICES as usize).for_each(|service| self.export(service));
        }
        std::mem::take(&mut self.exports)
    }

    /// A request that goes down a chain of two to four services, the last of which asks a database.
    fn trace(&mut self, at_ns: u64) -> usize {
        self.trace += 1;
        let depth = 2 + self.draw(3);
        let first = self.draw(SERVICES);
        let with_database = self.draw(4) > 0;
        let fails = self.draw(50) == 0;
        let (mut id, mut parent) = (0, 0);
        let mut push = |shop: &mut Self, service: u64, kind: i32, attributes: Vec<KeyValue>, name: &str| {
            id += 1;
            let took_ns = 1_000_000 + shop.draw(80_000_000);
            let span = Span {
                trace_id: [shop.trace.to_be_bytes(), at_ns.to_be_bytes()].concat(),
                span_id: (shop.trace << 8 | id).to_be_bytes().to_vec(),
                parent_span_id: if parent == 0 {
                    Vec::new()
                } else {
                    (shop.trace << 8 | parent).to_be_bytes().to_vec()
                },
                name: name.to_owned(),
                kind,
                start_time_unix_nano: at_ns + id * 1_000_000,
                end_time_unix_nano: at_ns + id * 1_000_000 + took_ns,
                attributes,
                status: Some(Status { code: if fails && parent != 0 { 2 } else { 0 }, message: String::new() }),
                ..Span::default()
            };
            parent = id;
            shop.queue(service, span);
        };
        for step in 0..depth {
            let service = (first + step * 7) % SERVICES;
            push(self, service, 2, server(service, step), "GET /orders/{id}");
            let next = (first + (step + 1) * 7) % SERVICES;
            if step + 1 < depth {
                push(self, service, 3, client(next), "GET");
            } else if with_database {
                push(self, service, 3, database(service), "SELECT orders");
            }
        }
        id as usize
    }

    fn queue(&mut self, service: u64, span: Span) {
        self.queues[service as usize].push(span);
        if self.queues[service as usize].len() == SPANS_AN_EXPORT {
            self.export(service as usize);
        }
    }

    fn export(&mut self, service: usize) {
        let spans = std::mem::take(&mut self.queues[service]);
        let resource = vec![
            said("service.name", &format!("shop-service-{service}")),
            said("telemetry.sdk.language", "java"),
            said("telemetry.sdk.name", "opentelemetry"),
            said("telemetry.sdk.version", "1.45.0"),
        ];
        let of_resource = ResourceSpans {
            resource: Some(Resource { attributes: resource, ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        };
        self.exports.push(ExportTraceServiceRequest { resource_spans: vec![of_resource] }.encode_to_vec());
    }
}

fn server(service: u64, step: u64) -> Vec<KeyValue> {
    vec![
        said("http.request.method", "GET"),
        said("http.route", ["/orders/{id}", "/carts/{id}/items", "/prices"][(step % 3) as usize]),
        said("url.path", "/orders/8124"),
        said("url.scheme", "https"),
        said("server.address", &format!("shop-service-{service}.internal")),
        number("server.port", 8443),
        number("http.response.status_code", 200),
        said("user_agent.original", "okhttp/4.12.0"),
        said("network.protocol.version", "1.1"),
        number("thread.id", 41),
    ]
}

fn client(next: u64) -> Vec<KeyValue> {
    vec![
        said("http.request.method", "GET"),
        said("url.full", &format!("https://shop-service-{next}.internal:8443/orders/8124")),
        said("server.address", &format!("shop-service-{next}.internal")),
        number("server.port", 8443),
        number("http.response.status_code", 200),
        said("network.protocol.version", "1.1"),
        said("network.peer.address", "10.0.7.12"),
        number("network.peer.port", 8443),
        said("thread.name", "http-nio-8443-exec-3"),
        number("thread.id", 41),
    ]
}

fn database(service: u64) -> Vec<KeyValue> {
    vec![
        said("db.system.name", "postgresql"),
        said("db.namespace", &format!("orders_{}", service % 10)),
        said("db.operation.name", "SELECT"),
        said("db.collection.name", "orders"),
        said("db.query.text", "SELECT id, total, placed_at FROM orders WHERE id = ?"),
        said("server.address", "db-1.internal"),
        number("server.port", 5432),
        said("network.peer.address", "10.0.9.4"),
        said("thread.name", "http-nio-8443-exec-3"),
        number("thread.id", 41),
    ]
}

fn said(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn number(key: &str, value: i64) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(value)) }),
        ..KeyValue::default()
    }
}

/// Processor time that all threads of this process took; in steps of 10 ms.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Takes and settles everything; the processor time of it, and how many spans there were.
async fn whole_path() -> (Duration, u64) {
    let folder = tempfile::tempdir().unwrap();
    let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
    let clock = Clock::held(START_MS);
    let mut pipeline = Pipeline::open(Config { database_url, ..Config::default() }, clock.clone()).await.unwrap();
    let mut shop = Shop::new();
    let mut took = Duration::ZERO;
    for second in 0..SECONDS {
        let exports = shop.second(second, second + 1 == SECONDS);
        let began = processor_time();
        let accepting = futures::stream::iter(&exports).map(|bytes| pipeline.accept(bytes));
        accepting.buffer_unordered(SENDERS).for_each(|accepted| async { accepted.unwrap() }).await;
        clock.set(clock.now_ms() + 1_000);
        pipeline.settle(clock.now_ms()).await.unwrap();
        took += processor_time() - began;
    }
    let began = processor_time();
    pipeline.settle(clock.now_ms() + 61_000).await.unwrap();
    took += processor_time() - began;
    let (accepted, settled) = pipeline.accepted_and_settled();
    assert_eq!((accepted, pipeline.waiting().await.unwrap().row_count), (settled, 0));
    (took, settled)
}

/// The spans of one trace: the first is a root, the others are below it; every one names another service or another host.
#[derive(Clone, Copy)]
struct LongTrace {
    name: &'static str,
    root_kind: i32,
    kind: i32,
    of_one_service: bool,
    of_one_host: bool,
}

const SPANS_OF_LONG_TRACE: u64 = 20_000;
const LONG_TRACES: [LongTrace; 4] = [
    LongTrace { name: "a call that many answer", root_kind: 3, kind: 2, of_one_service: false, of_one_host: true },
    LongTrace { name: "a call that wraps many", root_kind: 3, kind: 3, of_one_service: true, of_one_host: true },
    LongTrace { name: "a request with many callees", root_kind: 2, kind: 3, of_one_service: true, of_one_host: false },
    LongTrace { name: "a request with many attempts", root_kind: 2, kind: 3, of_one_service: true, of_one_host: true },
];

impl LongTrace {
    fn export(self) -> Vec<u8> {
        let at_ns = START_MS as u64 * 1_000_000;
        let spans = (1..=SPANS_OF_LONG_TRACE).map(|id| {
            let host = if self.of_one_host { 0 } else { id };
            let service = if self.of_one_service || id == 1 { 0 } else { id };
            let span = Span {
                trace_id: vec![1; 16],
                span_id: id.to_be_bytes().to_vec(),
                parent_span_id: if id == 1 { Vec::new() } else { 1u64.to_be_bytes().to_vec() },
                name: "work".to_owned(),
                kind: if id == 1 { self.root_kind } else { self.kind },
                start_time_unix_nano: at_ns + id,
                end_time_unix_nano: at_ns + id + 1_000,
                attributes: vec![said("server.address", &format!("h{host}.example.com"))],
                status: Some(Status { code: 2, message: String::new() }),
                ..Span::default()
            };
            ResourceSpans {
                resource: Some(Resource {
                    attributes: vec![said("service.name", &format!("service-{service}"))],
                    ..Resource::default()
                }),
                scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }
        });
        ExportTraceServiceRequest { resource_spans: spans.collect() }.encode_to_vec()
    }

    /// Takes and settles it; the processor time of it.
    async fn whole_path(export: &[u8]) -> Duration {
        let folder = tempfile::tempdir().unwrap();
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        let clock = Clock::held(START_MS);
        let mut pipeline = Pipeline::open(Config { database_url, ..Config::default() }, clock).await.unwrap();
        let began = processor_time();
        pipeline.accept(export).await.unwrap();
        pipeline.settle(START_MS).await.unwrap();
        pipeline.settle(START_MS + 61_000).await.unwrap();
        let took = processor_time() - began;
        assert_eq!(pipeline.accepted_and_settled(), (SPANS_OF_LONG_TRACE, SPANS_OF_LONG_TRACE));
        took
    }
}

fn long_traces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("traces of 20,000 spans, processor time");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    group.throughput(Throughput::Elements(SPANS_OF_LONG_TRACE)).sample_size(10).sampling_mode(SamplingMode::Flat);
    for trace in LONG_TRACES {
        let export = trace.export();
        group.bench_function(trace.name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(LongTrace::whole_path(&export))).sum());
        });
    }
    group.finish();
}

fn traces(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("traces");
    let exports = Shop::new().second(0, true);
    let in_exports = |export: &Vec<u8>| ExportTraceServiceRequest::decode(&export[..]).unwrap();
    let count = |request: ExportTraceServiceRequest| request.resource_spans[0].scope_spans[0].spans.len() as u64;
    group.throughput(Throughput::Elements(exports.iter().map(in_exports).map(count).sum()));
    group.bench_function("decode alone", |bencher| {
        bencher.iter(|| exports.iter().for_each(|export| drop(black_box(in_exports(export)))));
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (_, span_count) = runtime.block_on(whole_path());
    group.throughput(Throughput::Elements(span_count));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(20));
    group.bench_function("whole path, processor time", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| runtime.block_on(whole_path()).0).sum());
    });
    group.finish();
}

criterion_group!(benches, traces, long_traces);
criterion_main!(benches);
