//! Each preset against series of the shape that its exporter writes, on a genuine server.

use std::fmt::Write as _;

use attain_ingestion::PrometheusConfig;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::ingestion::v1::{GetServiceRequest, ListUtilisationRequest};
use attain_proto::vocabulary::v1::{EntityKind, Source, UtilisationKind};
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, LatencyHistogram, bucket_start};

use crate::harness::{NOW_MS, Served, edges_of, provided, with_history};

const SAMPLE_S: i64 = 30;
const SAMPLES: i64 = 2 * 3600 / SAMPLE_S;

/// Counters by their rise a sample, with the labels that every scrape adds.
const COUNTERS: &[(&str, &str, f64)] = &[
    ("http_server_request_duration_seconds_count", r#"job="eu/otel-shop",http_response_status_code="200""#, 9.0),
    ("http_server_request_duration_seconds_count", r#"job="eu/otel-shop",http_response_status_code="500""#, 1.0),
    (
        "http_server_request_duration_seconds_bucket",
        r#"job="eu/otel-shop",http_response_status_code="200",le="0.1""#,
        9.0,
    ),
    (
        "http_server_request_duration_seconds_bucket",
        r#"job="eu/otel-shop",http_response_status_code="200",le="+Inf""#,
        9.0,
    ),
    ("http_server_duration_milliseconds_count", r#"job="old-shop",http_status_code="204""#, 9.0),
    ("http_server_duration_milliseconds_count", r#"job="old-shop",http_status_code="503""#, 1.0),
    ("http_server_duration_milliseconds_bucket", r#"job="old-shop",http_status_code="204",le="100""#, 9.0),
    ("http_server_duration_milliseconds_bucket", r#"job="old-shop",http_status_code="204",le="+Inf""#, 9.0),
    ("http_requests_total", r#"job="plain",code="200""#, 8.0),
    ("http_requests_total", r#"job="plain",code="502""#, 1.0),
    ("http_requests_total", r#"job="plain",status="503""#, 1.0),
    ("http_request_duration_seconds_bucket", r#"job="plain",le="0.1""#, 9.0),
    ("http_request_duration_seconds_bucket", r#"job="plain",le="+Inf""#, 10.0),
    ("grpc_server_handled_total", r#"job="grpc",grpc_code="OK""#, 8.0),
    ("grpc_server_handled_total", r#"job="grpc",grpc_code="NotFound""#, 1.0),
    ("grpc_server_handled_total", r#"job="grpc",grpc_code="Unavailable""#, 1.0),
    ("grpc_server_handling_seconds_bucket", r#"job="grpc",le="0.1""#, 9.0),
    ("grpc_server_handling_seconds_bucket", r#"job="grpc",le="+Inf""#, 10.0),
    ("rpc_server_call_duration_seconds_count", r#"job="rpc",rpc_response_status_code="OK""#, 9.0),
    ("rpc_server_call_duration_seconds_count", r#"job="rpc",rpc_response_status_code="INTERNAL""#, 1.0),
    ("rpc_server_call_duration_seconds_bucket", r#"job="rpc",rpc_response_status_code="OK",le="0.1""#, 9.0),
    ("rpc_server_call_duration_seconds_bucket", r#"job="rpc",rpc_response_status_code="OK",le="+Inf""#, 9.0),
    ("rpc_server_duration_milliseconds_count", r#"job="rpc-old",rpc_grpc_status_code="0""#, 9.0),
    ("rpc_server_duration_milliseconds_count", r#"job="rpc-old",rpc_grpc_status_code="14""#, 1.0),
    ("rpc_server_duration_milliseconds_bucket", r#"job="rpc-old",rpc_grpc_status_code="0",le="100""#, 9.0),
    ("rpc_server_duration_milliseconds_bucket", r#"job="rpc-old",rpc_grpc_status_code="0",le="+Inf""#, 9.0),
    (
        "istio_requests_total",
        r#"reporter="destination",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="200",grpc_response_status="0""#,
        8.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="destination",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="200",grpc_response_status="14""#,
        1.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="destination",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="503",grpc_response_status="14""#,
        1.0,
    ),
    (
        "istio_request_duration_milliseconds_bucket",
        r#"reporter="destination",destination_canonical_service="mesh-shop",response_code="200",le="100""#,
        9.0,
    ),
    (
        "istio_request_duration_milliseconds_bucket",
        r#"reporter="destination",destination_canonical_service="mesh-shop",response_code="200",le="+Inf""#,
        9.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="source",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="200""#,
        8.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="source",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="0""#,
        2.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="source",source_canonical_service="unknown",destination_canonical_service="mesh-shop",response_code="200""#,
        8.0,
    ),
    ("response_total", r#"direction="inbound",deployment="linked",classification="success""#, 9.0),
    ("response_total", r#"direction="inbound",deployment="linked",classification="failure""#, 1.0),
    ("response_latency_ms_bucket", r#"direction="inbound",deployment="linked",le="100""#, 9.0),
    ("response_latency_ms_bucket", r#"direction="inbound",deployment="linked",le="+Inf""#, 10.0),
    (
        "response_total",
        r#"direction="outbound",deployment="linked",dst_deployment="books",classification="success""#,
        8.0,
    ),
    (
        "response_total",
        r#"direction="outbound",deployment="linked",dst_deployment="books",classification="failure""#,
        2.0,
    ),
    ("envoy_cluster_upstream_rq_xx", r#"envoy_cluster_name="edge-shop",envoy_response_code_class="2""#, 9.0),
    ("envoy_cluster_upstream_rq_xx", r#"envoy_cluster_name="edge-shop",envoy_response_code_class="5""#, 1.0),
    ("envoy_cluster_upstream_rq_time_bucket", r#"envoy_cluster_name="edge-shop",le="100""#, 9.0),
    ("envoy_cluster_upstream_rq_time_bucket", r#"envoy_cluster_name="edge-shop",le="+Inf""#, 10.0),
    ("traces_service_graph_request_total", r#"client="cart",server="cart-db",connection_type="database""#, 10.0),
    ("traces_service_graph_request_failed_total", r#"client="cart",server="cart-db",connection_type="database""#, 2.0),
    (
        "traces_service_graph_request_server_seconds_bucket",
        r#"client="cart",server="cart-db",connection_type="database",le="0.1""#,
        9.0,
    ),
    (
        "traces_service_graph_request_server_seconds_bucket",
        r#"client="cart",server="cart-db",connection_type="database",le="+Inf""#,
        10.0,
    ),
    // Seconds of processor time: 15 of 30 on one core of two, and 6 of 30 idle.
    ("container_cpu_usage_seconds_total", r#"namespace="a",pod="p1",container="boxed",cpu="total""#, 15.0),
    ("container_cpu_usage_seconds_total", r#"namespace="a",pod="p2",container="boxed",cpu="total""#, 45.0),
    ("container_cpu_usage_seconds_total", r#"id="/docker/1",name="jar""#, 15.0),
    ("node_cpu_seconds_total", r#"instance="host:9100",cpu="0",mode="idle""#, 6.0),
];

const GAUGES: &[(&str, &str, f64)] = &[
    (
        "kube_pod_container_resource_limits",
        r#"namespace="a",pod="p1",container="boxed",resource="cpu",unit="core""#,
        2.0,
    ),
    (
        "kube_pod_container_resource_limits",
        r#"namespace="a",pod="p2",container="boxed",resource="cpu",unit="core""#,
        2.0,
    ),
    (
        "kube_pod_container_resource_limits",
        r#"namespace="a",pod="p1",container="boxed",resource="memory",unit="byte""#,
        1000.0,
    ),
    ("container_memory_working_set_bytes", r#"namespace="a",pod="p1",container="boxed""#, 600.0),
    ("container_spec_cpu_quota", r#"id="/docker/1",name="jar""#, 100_000.0),
    ("container_spec_cpu_period", r#"id="/docker/1",name="jar""#, 100_000.0),
    ("container_memory_working_set_bytes", r#"id="/docker/1",name="jar""#, 300.0),
    ("container_spec_memory_limit_bytes", r#"id="/docker/1",name="jar""#, 1000.0),
    ("node_memory_MemAvailable_bytes", r#"instance="host:9100""#, 250.0),
    ("node_memory_MemTotal_bytes", r#"instance="host:9100""#, 1000.0),
    ("node_filesystem_avail_bytes", r#"instance="host:9100",fstype="ext4",mountpoint="/""#, 100.0),
    ("node_filesystem_size_bytes", r#"instance="host:9100",fstype="ext4",mountpoint="/""#, 1000.0),
    ("pg_stat_database_numbackends", r#"job="pg",instance="i",datname="a""#, 20.0),
    ("pg_stat_database_numbackends", r#"job="pg",instance="i",datname="b""#, 30.0),
    ("pg_settings_max_connections", r#"job="pg",instance="i""#, 100.0),
    ("mysql_global_status_threads_connected", r#"job="my",instance="i""#, 30.0),
    ("mysql_global_variables_max_connections", r#"job="my",instance="i""#, 120.0),
    ("redis_memory_used_bytes", r#"job="red",instance="i""#, 700.0),
    ("redis_memory_max_bytes", r#"job="red",instance="i""#, 1000.0),
    ("redis_connected_clients", r#"job="red",instance="i""#, 10.0),
    ("redis_config_maxclients", r#"job="red",instance="i""#, 100.0),
    ("kafka_consumergroup_lag", r#"consumergroup="billing",topic="t",partition="0""#, 400.0),
    ("kafka_consumergroup_lag", r#"consumergroup="billing",topic="t",partition="1""#, -1.0),
    ("rabbitmq_queue_messages", r#"queue="mails",instance="i""#, 55.0),
];

const PRESETS: [&str; 17] = [
    "otel-http",
    "otel-http-old",
    "http-requests",
    "grpc",
    "otel-rpc",
    "otel-rpc-old",
    "istio",
    "linkerd",
    "envoy",
    "service-graph",
    "kubernetes",
    "cadvisor",
    "node",
    "postgres",
    "mysql",
    "redis",
    "kafka",
];

fn history() -> String {
    let first_s = bucket_start(NOW_MS) / 1000 - SAMPLES * SAMPLE_S;
    let mut text = String::new();
    for (values, rises) in [(COUNTERS, true), (GAUGES, false)] {
        for (name, labels, value) in values {
            let scraped = [r#"job="j""#, r#"instance="i""#];
            let key = |label: &str| label.split('=').next().unwrap_or_default().to_owned() + "=";
            let missing = scraped.iter().filter(|label| !labels.split(',').any(|known| known.starts_with(&key(label))));
            let labels = missing.fold((*labels).to_owned(), |labels, label| format!("{labels},{label}"));
            for n in 0..=SAMPLES {
                let value = if rises { value * n as f64 } else { *value };
                writeln!(text, "{name}{{{labels}}} {value} {}", first_s + n * SAMPLE_S).unwrap();
            }
        }
    }
    text
}

#[tokio::test]
async fn each_preset_reads_what_its_exporter_writes() {
    let Some(program) = provided() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut server, url) = with_history(&program, folder.path(), &history()).await;
    let mapping: String =
        PRESETS.iter().chain(&["rabbitmq"]).map(|name| format!("[[mapping]]\npreset = '{name}'\n")).collect();
    let settings = PrometheusConfig { url, backfill_days: 1, server_share_ratio: 1.0, ..PrometheusConfig::default() };
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, &mapping).await;
    served.wait("read", |holds, _| holds).await;

    for service in ["otel-shop", "old-shop", "plain", "grpc", "rpc", "rpc-old", "mesh-shop", "linked", "edge-shop"] {
        let buckets = served.buckets(service, NOW_MS).await;
        let bucket = &buckets.get(&(bucket_start(NOW_MS) - 10 * BUCKET_MS)).unwrap_or_else(|| panic!("{service}"));
        let bad = if ["plain", "mesh-shop"].contains(&service) { 20 } else { 10 };
        assert_eq!((bucket.valid_count, bucket.bad_count), (100, bad), "{service}");
        let latency =
            LatencyHistogram::try_from(bucket.latency.as_ref().unwrap_or_else(|| panic!("{service}"))).unwrap();
        assert!(latency.count_above(100.5) <= 10.5 && latency.count() >= 90, "{service}: {latency:?}");
        assert!((40.0..=100.5).contains(&latency.quantile(0.5).unwrap()), "{service}: {latency:?}");
    }

    let edges = edges_of(&served.channel).await;
    let share = |caller: &str, callee: &str| {
        let edge = &edges.get(&(caller.to_owned(), callee.to_owned())).unwrap_or_else(|| panic!("{caller} {callee}"));
        edge.observed_failure_count.unwrap() as f64 / edge.observed_call_count as f64
    };
    for (caller, callee, source) in [
        ("front", "mesh-shop", Source::Istio),
        ("linked", "books", Source::Linkerd),
        ("cart", "cart-db", Source::Prometheus),
    ] {
        assert!((share(caller, callee) - 0.2).abs() < 0.01, "{caller} {callee}");
        let edge = &edges[&(caller.to_owned(), callee.to_owned())];
        assert_eq!((edge.sources.clone(), edge.observed_rescued_count), (vec![source as i32], None));
    }
    assert_eq!(edges.len(), 3, "{:?}", edges.keys());
    utilisation_is_read(&served).await;
    served.stop().await;
    server.kill().await.unwrap();
}

async fn utilisation_is_read(served: &Served) {
    use UtilisationKind::{ConnectionPool, Cpu, Memory, QueueDepth, Saturation};
    for (service, kind, entity, average, maximum) in [
        ("boxed", Cpu, EntityKind::Service, 0.5, 0.75),
        ("boxed", Memory, EntityKind::Service, 0.6, 0.6),
        ("jar", Cpu, EntityKind::Service, 0.5, 0.5),
        ("jar", Memory, EntityKind::Service, 0.3, 0.3),
        ("host:9100", Cpu, EntityKind::Infrastructure, 0.8, 0.8),
        ("host:9100", Memory, EntityKind::Infrastructure, 0.75, 0.75),
        ("host:9100", Saturation, EntityKind::Infrastructure, 0.9, 0.9),
        ("pg", ConnectionPool, EntityKind::Datastore, 0.5, 0.5),
        ("my", ConnectionPool, EntityKind::Datastore, 0.25, 0.25),
        ("red", Memory, EntityKind::Cache, 0.7, 0.7),
        ("red", ConnectionPool, EntityKind::Cache, 0.1, 0.1),
        ("billing", QueueDepth, EntityKind::Service, 400.0, 400.0),
        ("mails", QueueDepth, EntityKind::Queue, 55.0, 55.0),
    ] {
        let mut client = IngestionServiceClient::new(served.channel.clone());
        let request = ListUtilisationRequest {
            service_id: service.into(),
            kind: kind.into(),
            ..ListUtilisationRequest::default()
        };
        let used =
            client.list_utilisation(request).await.unwrap_or_else(|error| panic!("{service}: {error}")).into_inner();
        let [summary] = &used.summaries[..] else { panic!("{service} {kind:?}: {used:?}") };
        assert!((summary.average_p50 - average).abs() < 0.01, "{service}: {summary:?}");
        assert!((summary.maximum - maximum).abs() < 0.01, "{service}: {summary:?}");
        assert!(used.buckets.len() >= 20, "{service}: {} buckets", used.buckets.len());
        let known = client.get_service(GetServiceRequest { service_id: service.into() }).await.unwrap().into_inner();
        assert_eq!(known.service.unwrap().kind, entity as i32, "{service}");
        assert!(known.data.unwrap().utilisation.contains(summary), "{service}");
    }
}
