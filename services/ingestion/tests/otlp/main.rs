//! OTLP/gRPC as an SDK sends it: a served process, exports by the protocol's own client, answers by the mesh's.

#![allow(clippy::unwrap_used)]

mod samples;
mod senders;

use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners};
use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1 as words;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::vocabulary::v1::SliBucket;
use attain_redaction::redact;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, bucket_start};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as metrics;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

const NOW_MS: i64 = 1_793_000_000_000;
const WITHIN: Duration = Duration::from_secs(20);

struct Served {
    clock: Clock,
    folder: TempDir,
    otlp: Channel,
    otlp_url: String,
    ingestion: IngestionServiceClient<Channel>,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
}

impl Served {
    async fn start(config: Config) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config).await
    }

    async fn start_at(clock: Clock, config: Config) -> Self {
        Self::start_with(tempfile::tempdir().unwrap(), clock, config).await
    }

    async fn start_in(folder: TempDir, config: Config) -> Self {
        Self::start_with(folder, Clock::held(NOW_MS), config).await
    }

    async fn start_with(folder: TempDir, clock: Clock, config: Config) -> Self {
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
        let addresses = (listeners.mesh.local_addr().unwrap(), listeners.otlp.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let config = Config { database_url, ..config };
        let serving = attain_ingestion::serve(config, listeners, clock.clone(), shutdown.clone());
        let ended = tokio::spawn(serving);
        let connect =
            async |address| Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let ingestion = IngestionServiceClient::new(connect(addresses.0).await);
        let (otlp, otlp_url) = (connect(addresses.1).await, format!("http://{}", addresses.1));
        Self { clock, folder, otlp, otlp_url, ingestion, shutdown, ended }
    }

    async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
        self.folder
    }

    fn traces(&self) -> TraceServiceClient<Channel> {
        TraceServiceClient::new(self.otlp.clone())
    }

    async fn send(&self, request: ExportTraceServiceRequest) -> ExportTraceServiceResponse {
        self.traces().export(request).await.unwrap().into_inner()
    }

    async fn measure(&self, request: ExportMetricsServiceRequest) -> i64 {
        let answer = MetricsServiceClient::new(self.otlp.clone()).export(request).await.unwrap().into_inner();
        answer.partial_success.map_or(0, |partial| partial.rejected_data_points)
    }

    /// Buckets of a service; none while it is not known.
    async fn buckets(&self, service: &str) -> Vec<SliBucket> {
        let request = words::ListSliBucketsRequest {
            service_id: service.into(),
            start_time: Some(timestamp(NOW_MS - 10 * BUCKET_MS)),
            end_time: Some(timestamp(NOW_MS + 10 * BUCKET_MS)),
            ..Default::default()
        };
        match self.ingestion.clone().list_sli_buckets(request).await {
            Ok(answer) => answer.into_inner().buckets,
            Err(status) if status.code() == Code::NotFound => Vec::new(),
            Err(status) => panic!("{status:?}"),
        }
    }

    /// Waits until so many requests of a service are counted, and returns its one bucket.
    async fn counted(&self, service: &str, valid: u64) -> SliBucket {
        let began = Instant::now();
        loop {
            let buckets = self.buckets(service).await;
            if buckets.iter().map(|bucket| bucket.valid_count).sum::<u64>() >= valid {
                assert_eq!(buckets.len(), 1);
                return buckets[0].clone();
            }
            assert!(began.elapsed() < WITHIN, "{service}: {buckets:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn said(key: &str, value: impl Into<Value>) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value.into()) }), ..Default::default() }
}

fn text(value: &str) -> Value {
    Value::StringValue(value.into())
}

fn of_service(name: &str) -> Option<Resource> {
    Some(Resource { attributes: vec![said("service.name", text(name))], ..Default::default() })
}

fn span(trace: u8, id: u8, parent: u8, kind: trace::span::SpanKind, failed: bool) -> trace::Span {
    let start_time_unix_nano = NOW_MS as u64 * 1_000_000;
    trace::Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { vec![] } else { vec![parent; 8] },
        kind: kind as i32,
        start_time_unix_nano,
        end_time_unix_nano: start_time_unix_nano + 5_000_000,
        status: failed.then(|| trace::Status { code: trace::status::StatusCode::Error as i32, ..Default::default() }),
        ..Default::default()
    }
}

fn export(service: &str, spans: Vec<trace::Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![trace::ScopeSpans { spans, ..Default::default() }];
    let resource_spans =
        vec![trace::ResourceSpans { resource: of_service(service), scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }
}

#[tokio::test]
async fn services_that_export_apart_meet_in_the_graph() {
    use trace::span::SpanKind::{Client, Server};
    let served = Served::start(Config::default()).await;
    let mut gzip = served.traces().send_compressed(CompressionEncoding::Gzip);
    let mut zstd = served.traces().send_compressed(CompressionEncoding::Zstd);
    let malformed = trace::Span { trace_id: vec![1; 4], ..span(9, 9, 0, Server, false) };
    let cart = export("cart", vec![span(1, 3, 2, Server, true), malformed]);
    let partial = gzip.export(cart).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace_id"), "{}", partial.error_message);
    let shop = export("shop", vec![span(1, 1, 0, Server, true), span(1, 2, 1, Client, true)]);
    assert_eq!(zstd.export(shop).await.unwrap().into_inner().partial_success, None);

    served.clock.set(NOW_MS + 61_000);
    let shop = served.counted("shop", 1).await;
    assert_eq!((shop.bad_count, shop.inherited_bad_count), (1, Some(1)));
    assert_eq!(shop.inherited_by_dependency.into_iter().collect::<Vec<_>>(), [("cart".to_owned(), 1)]);
    let topology =
        served.ingestion.clone().get_topology(words::GetTopologyRequest::default()).await.unwrap().into_inner();
    let edges = topology.dependencies.to_vec().unwrap();
    assert_eq!(edges.len(), 1);
    let edge = &edges[0];
    assert_eq!((edge.caller_id.as_str(), edge.callee_id.as_str()), ("shop", "cart"));
    assert_eq!(
        (edge.observed_call_count, edge.observed_failure_count, edge.observed_rescued_count),
        (1, Some(1), Some(0))
    );
    assert_eq!((edge.call_rate, edge.call_fraction), (Some(1.0), Some(1.0)));
    served.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_outlives_the_process() {
    use trace::span::SpanKind::Server;
    let served = Served::start(Config::default()).await;
    let spans: Vec<_> = (1..=50).map(|trace| span(trace, 1, 0, Server, trace % 10 == 0)).collect();
    for pair in spans.chunks(2) {
        assert_eq!(served.send(export("shop", pair.to_vec())).await.partial_success, None);
    }
    // The clock stands still: nothing was settled yet.
    assert!(served.buckets("shop").await.is_empty());
    let folder = served.stop().await;
    let again = Served::start_in(folder, Config::default()).await;
    // Read by the new process now, due later.
    let late = span(51, 1, 0, Server, false);
    assert_eq!(again.send(export("shop", vec![late])).await.partial_success, None);
    let began = Instant::now();
    let mut elapsed_ms = 0;
    while again.buckets("shop").await.is_empty() && began.elapsed() < WITHIN {
        elapsed_ms += 10_000;
        again.clock.set(NOW_MS + elapsed_ms);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let shop = again.counted("shop", 51).await;
    assert_eq!((shop.valid_count, shop.bad_count, shop.inherited_bad_count), (51, 5, Some(0)));
    again.stop().await;
}

#[tokio::test]
async fn a_full_log_says_when_to_come_again() {
    use trace::span::SpanKind::Server;
    let served = Served::start(Config { span_log_bytes_max: 1, ..Config::default() }).await;
    assert_eq!(served.send(export("shop", vec![span(1, 1, 0, Server, false)])).await.partial_success, None);
    let refused = served.traces().export(export("shop", vec![span(2, 1, 0, Server, false)])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    assert_eq!(refused.get_details_error_info().unwrap().reason, "SPAN_LOG_FULL");
    served.stop().await;
}

#[tokio::test]
async fn messages_have_a_bound_and_tenants_a_shape() {
    use trace::span::SpanKind::Server;
    let served = Served::start(Config::default()).await;
    let long = said("note", text(&"x".repeat(17 * 1024 * 1024)));
    let large = trace::Span { attributes: vec![long], ..span(1, 1, 0, Server, false) };
    let refused = served.traces().export(export("shop", vec![large])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(refused.get_details_error_info().unwrap().reason, "MESSAGE_TOO_LARGE");

    let mut request = Request::new(export("shop", vec![span(1, 1, 0, Server, false)]));
    request.metadata_mut().insert("x-attain-tenant", "Not A Tenant".parse().unwrap());
    assert_eq!(served.traces().export(request).await.unwrap_err().code(), Code::InvalidArgument);
    served.stop().await;
}

#[tokio::test]
async fn health_is_told_at_the_receivers_port() {
    let served = Served::start(Config::default()).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(served.otlp.clone());
    for service in ["", "opentelemetry.proto.collector.trace.v1.TraceService"] {
        let began = Instant::now();
        loop {
            let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
            let status = health.check(request).await.map(|answer| answer.into_inner().status);
            if matches!(status, Ok(1)) {
                break;
            }
            assert!(began.elapsed() < WITHIN, "{status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    served.stop().await;
}

/// One series of `http.server.request.duration`: so many requests below 100 ms and so many below 250 ms.
fn durations(status: i64, time_s: i64, counts: [u64; 3], cumulative: bool) -> metrics::Metric {
    let start_s = if cumulative { 0 } else { time_s - 10 };
    let ns = |seconds: i64| ((bucket_start(NOW_MS) + seconds * 1000) * 1_000_000) as u64;
    let point = metrics::HistogramDataPoint {
        attributes: vec![said("http.response.status_code", Value::IntValue(status))],
        start_time_unix_nano: ns(start_s),
        time_unix_nano: ns(time_s),
        count: counts.iter().sum(),
        bucket_counts: counts.to_vec(),
        explicit_bounds: vec![0.1, 0.25],
        ..Default::default()
    };
    let histogram =
        metrics::Histogram { data_points: vec![point], aggregation_temporality: if cumulative { 2 } else { 1 } };
    metrics::Metric {
        name: "http.server.request.duration".into(),
        unit: "s".into(),
        data: Some(metrics::metric::Data::Histogram(histogram)),
        ..Default::default()
    }
}

fn measured(service: &str, metrics: Vec<metrics::Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![metrics::ScopeMetrics { metrics, ..Default::default() }];
    let of_resource = metrics::ResourceMetrics { resource: of_service(service), scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

#[tokio::test]
async fn metrics_become_buckets_and_count_once() {
    let served = Served::start(Config::default()).await;
    let first = || measured("shop", vec![durations(200, 10, [90, 5, 0], true), durations(503, 10, [5, 0, 0], true)]);
    assert_eq!(served.measure(first()).await, 0);
    // Sent again by a sender that did not hear the answer.
    assert_eq!(served.measure(first()).await, 0);
    assert_eq!(served.measure(measured("shop", vec![durations(200, 20, [180, 10, 1], true)])).await, 0);
    let shop = served.counted("shop", 196).await;
    assert_eq!((shop.valid_count, shop.bad_count, shop.inherited_bad_count), (196, 5, None));
    let latency = attain_vocabulary::LatencyHistogram::try_from(shop.latency.as_ref().unwrap()).unwrap();
    assert_eq!(latency.count(), 196);
    assert!((latency.count_above(110.0) - 10.0).abs() < 2.0, "{}", latency.count_above(110.0));

    let delta = || measured("pay", vec![durations(200, 20, [10, 0, 0], false)]);
    assert_eq!((served.measure(delta()).await, served.measure(delta()).await), (0, 0));
    assert_eq!(served.measure(measured("pay", vec![durations(200, 30, [7, 0, 0], false)])).await, 0);
    assert_eq!(served.counted("pay", 17).await.valid_count, 17);
    served.stop().await;
}

#[tokio::test]
async fn the_state_of_a_series_outlives_the_process() {
    let served = Served::start(Config::default()).await;
    assert_eq!(served.measure(measured("shop", vec![durations(200, 10, [50, 0, 0], true)])).await, 0);
    let folder = served.stop().await;
    let again = Served::start_in(folder, Config::default()).await;
    again.clock.set(NOW_MS + 86_400_000);
    assert_eq!(again.measure(measured("shop", vec![durations(200, 20, [60, 0, 0], true)])).await, 0);
    assert_eq!(again.counted("shop", 60).await.valid_count, 60);
    again.stop().await;
}

#[tokio::test]
async fn other_metrics_are_accepted_and_malformed_points_named() {
    let served = Served::start(Config::default()).await;
    let unknown = metrics::Metric { name: "process.cpu.time".into(), ..durations(200, 10, [1, 0, 0], true) };
    // SDKs in transition send the old name beside the new one: counted once.
    let old = metrics::Metric {
        name: "http.server.duration".into(),
        unit: "ms".into(),
        ..durations(200, 10, [3, 0, 0], true)
    };
    let good = durations(200, 10, [3, 0, 0], true);
    let future = durations(200, 86_400, [1, 0, 0], true);
    let mut unsummed = durations(200, 20, [3, 0, 0], true);
    if let Some(metrics::metric::Data::Histogram(histogram)) = &mut unsummed.data {
        histogram.data_points[0].count = 4;
    }
    assert_eq!(served.measure(measured("shop", vec![unknown, old, good, future, unsummed])).await, 2);
    assert_eq!(served.counted("shop", 3).await.valid_count, 3);
    served.stop().await;
}

#[tokio::test]
async fn no_secret_of_a_name_reaches_the_database() {
    use trace::span::SpanKind::Client;
    let served = Served::start(Config::default()).await;
    let canary = format!("jane.{}@example.com", "canary");
    assert!(!redact(&canary).0.contains("canary"));
    let attributes = vec![
        said("peer.service", text(&format!("mail {canary}"))),
        said("url.full", text(&format!("https://{}:pw@x.example.com/{canary}", "canary"))),
        said("db.statement", text("SELECT canary")),
    ];
    let told = trace::Span { name: format!("GET /{canary}"), attributes, ..span(1, 1, 0, Client, false) };
    assert_eq!(served.send(export("shop", vec![told])).await.partial_success, None);
    let folder = served.stop().await;
    let mut files = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
        files += 1;
    }
    assert!(files > 0);
}

/// What a genuine SDK sends: three services, each with batches of its own, to the address that the protocol's variable
/// names.
#[tokio::test]
async fn a_genuine_sdk_is_understood() {
    let Some(python) = std::env::var("ATTAIN_TEST_PYTHON").ok().filter(|python| !python.is_empty()) else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "ATTAIN_TEST_PYTHON is required and not set");
        eprintln!("SKIPPED: ATTAIN_TEST_PYTHON is not set");
        return;
    };
    let served = Served::start_at(Clock::system(), Config { trace_idle_seconds: 6, ..Config::default() }).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/mesh/otel_shop.py");
    let mut command = tokio::process::Command::new(python);
    command.args([script, "200"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", &served.otlp_url);
    let output = command.output().await.unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !complaints.contains("Failed to export"), "{complaints}");
    let sent: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();

    let began = Instant::now();
    let edges = loop {
        let topology =
            served.ingestion.clone().get_topology(words::GetTopologyRequest::default()).await.unwrap().into_inner();
        let edges = topology.dependencies.to_vec().unwrap();
        let call_count: u64 = edges.iter().map(|edge| edge.observed_call_count).sum();
        if call_count >= 600 {
            break edges;
        }
        assert!(began.elapsed() < WITHIN, "{edges:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let told = edges.iter().map(|edge| {
        serde_json::json!({
            "caller": edge.caller_id, "callee": edge.callee_id, "calls": edge.observed_call_count,
            "failures": edge.observed_failure_count, "rescued": edge.observed_rescued_count,
        })
    });
    let mut expected = sent["edges"].as_array().unwrap().clone();
    expected.sort_by_key(|edge| edge["caller"].as_str().unwrap().to_owned());
    assert_eq!(told.collect::<Vec<_>>(), expected);
    for (service, counts) in sent["services"].as_object().unwrap() {
        let start_time = Some(timestamp(Clock::system().now_ms() - 2 * BUCKET_MS));
        let request = words::ListSliBucketsRequest { service_id: service.clone(), start_time, ..Default::default() };
        let buckets = served.ingestion.clone().list_sli_buckets(request).await.unwrap().into_inner().buckets;
        assert_eq!(buckets.len(), 1, "{service}: {buckets:?}");
        let bucket = &buckets[0];
        let counted = serde_json::json!({
            "valid": bucket.valid_count, "bad": bucket.bad_count, "inherited": bucket.inherited_bad_count,
        });
        assert_eq!(&counted, counts, "{service}");
        let latency = attain_vocabulary::LatencyHistogram::try_from(bucket.latency.as_ref().unwrap()).unwrap();
        assert_eq!(latency.count(), bucket.valid_count, "{service}");
    }
    served.stop().await;
}
