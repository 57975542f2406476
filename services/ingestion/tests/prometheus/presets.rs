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
    // No status, for the connection broke.
    ("http_server_request_duration_seconds_count", r#"job="eu/otel-shop",error_type="timeout""#, 1.0),
    ("http_server_requests_seconds_count", r#"job="spring",status="200",outcome="SUCCESS""#, 9.0),
    ("http_server_requests_seconds_count", r#"job="spring",status="500",outcome="SERVER_ERROR""#, 1.0),
    ("http_server_requests_seconds_bucket", r#"job="spring",status="200",le="0.1""#, 9.0),
    ("http_server_requests_seconds_bucket", r#"job="spring",status="200",le="+Inf""#, 9.0),
    ("grpc_server_call_duration_seconds_count", r#"job="eu/native-grpc",grpc_status="OK""#, 8.0),
    ("grpc_server_call_duration_seconds_count", r#"job="eu/native-grpc",grpc_status="CANCELLED""#, 1.0),
    ("grpc_server_call_duration_seconds_count", r#"job="eu/native-grpc",grpc_status="UNAVAILABLE""#, 1.0),
    ("grpc_server_call_duration_seconds_bucket", r#"job="eu/native-grpc",grpc_status="OK",le="0.1""#, 9.0),
    ("grpc_server_call_duration_seconds_bucket", r#"job="eu/native-grpc",grpc_status="OK",le="+Inf""#, 10.0),
    // Counters of their own with equal labels.
    ("jobs_total", r#"job="lists""#, 10.0),
    ("job_errors_total", r#"job="lists""#, 1.0),
    ("job_timeouts_total", r#"job="lists""#, 2.0),
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
        r#"reporter="source",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="200",response_flags="-""#,
        7.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="source",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="0",response_flags="UF""#,
        2.0,
    ),
    // The caller went away.
    (
        "istio_requests_total",
        r#"reporter="source",source_canonical_service="front",destination_canonical_service="mesh-shop",response_code="0",response_flags="DC""#,
        1.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="waypoint",source_canonical_service="front",destination_canonical_service="ambient",response_code="200",response_flags="-""#,
        9.0,
    ),
    (
        "istio_requests_total",
        r#"reporter="waypoint",source_canonical_service="front",destination_canonical_service="ambient",response_code="503",response_flags="UF""#,
        1.0,
    ),
    (
        "istio_request_duration_milliseconds_bucket",
        r#"reporter="waypoint",source_canonical_service="front",destination_canonical_service="ambient",le="100""#,
        9.0,
    ),
    (
        "istio_request_duration_milliseconds_bucket",
        r#"reporter="waypoint",source_canonical_service="front",destination_canonical_service="ambient",le="+Inf""#,
        10.0,
    ),
    ("response_total", r#"direction="inbound",statefulset="linked-set",classification="success""#, 9.0),
    ("response_total", r#"direction="inbound",statefulset="linked-set",classification="failure""#, 1.0),
    ("response_latency_ms_bucket", r#"direction="inbound",statefulset="linked-set",le="100""#, 9.0),
    ("response_latency_ms_bucket", r#"direction="inbound",statefulset="linked-set",le="+Inf""#, 10.0),
    (
        "response_total",
        r#"direction="outbound",statefulset="linked-set",dst_daemonset="agents",classification="success""#,
        8.0,
    ),
    (
        "response_total",
        r#"direction="outbound",statefulset="linked-set",dst_daemonset="agents",classification="failure""#,
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
        "traces_service_graph_request_client_seconds_bucket",
        r#"client="cart",server="cart-db",connection_type="database",le="0.1""#,
        9.0,
    ),
    (
        "traces_service_graph_request_client_seconds_bucket",
        r#"client="cart",server="cart-db",connection_type="database",le="+Inf""#,
        10.0,
    ),
    // An external party sends no spans: what it would have said of each call is 0.
    (
        "traces_service_graph_request_total",
        r#"client="cart",server="psp.example",connection_type="virtual_node""#,
        10.0,
    ),
    (
        "traces_service_graph_request_failed_total",
        r#"client="cart",server="psp.example",connection_type="virtual_node""#,
        2.0,
    ),
    (
        "traces_service_graph_request_server_seconds_bucket",
        r#"client="cart",server="psp.example",connection_type="virtual_node",le="0.1""#,
        10.0,
    ),
    (
        "traces_service_graph_request_server_seconds_bucket",
        r#"client="cart",server="psp.example",connection_type="virtual_node",le="+Inf""#,
        10.0,
    ),
    (
        "traces_service_graph_request_client_seconds_bucket",
        r#"client="cart",server="psp.example",connection_type="virtual_node",le="0.1""#,
        0.0,
    ),
    (
        "traces_service_graph_request_client_seconds_bucket",
        r#"client="cart",server="psp.example",connection_type="virtual_node",le="0.4""#,
        10.0,
    ),
    (
        "traces_service_graph_request_client_seconds_bucket",
        r#"client="cart",server="psp.example",connection_type="virtual_node",le="+Inf""#,
        10.0,
    ),
    // Seconds of processor time: 15 of 30 on one core of two, and 6 of 30 idle.
    ("container_cpu_usage_seconds_total", r#"namespace="a",pod="p1",container="boxed",cpu="total""#, 15.0),
    ("container_cpu_usage_seconds_total", r#"namespace="a",pod="p2",container="boxed",cpu="total""#, 45.0),
    // A container beside it, nearer to its limit.
    ("container_cpu_usage_seconds_total", r#"namespace="a",pod="p1",container="proxy",cpu="total""#, 24.0),
    ("container_cpu_cfs_periods_total", r#"namespace="a",pod="p1",container="boxed""#, 300.0),
    ("container_cpu_cfs_throttled_periods_total", r#"namespace="a",pod="p1",container="boxed""#, 60.0),
    ("container_cpu_usage_seconds_total", r#"id="/docker/1",name="jar""#, 15.0),
    ("container_cpu_cfs_periods_total", r#"id="/docker/1",name="jar""#, 300.0),
    ("container_cpu_cfs_throttled_periods_total", r#"id="/docker/1",name="jar""#, 30.0),
    ("node_cpu_seconds_total", r#"instance="host:9100",cpu="0",mode="idle""#, 6.0),
    ("node_cpu_seconds_total", r#"instance="busy:9100",cpu="0",mode="idle""#, 9.0),
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
        r#"namespace="a",pod="p1",container="proxy",resource="cpu",unit="core""#,
        1.0,
    ),
    ("kube_pod_owner", r#"namespace="a",pod="p1",owner_kind="ReplicaSet",owner_name="box-shop-6d4cf56db6""#, 1.0),
    ("kube_pod_owner", r#"namespace="a",pod="p2",owner_kind="StatefulSet",owner_name="box-store""#, 1.0),
    ("kube_pod_labels", r#"namespace="a",pod="p1",label_app_kubernetes_io_name="box-app""#, 1.0),
    ("process_cpu_usage", r#"job="spring""#, 0.3),
    ("jvm_memory_used_bytes", r#"job="spring",area="heap",id="G1 Eden Space""#, 100.0),
    ("jvm_memory_used_bytes", r#"job="spring",area="heap",id="G1 Old Gen""#, 300.0),
    ("jvm_memory_used_bytes", r#"job="spring",area="nonheap",id="Metaspace""#, 700.0),
    ("jvm_memory_max_bytes", r#"job="spring",area="heap",id="G1 Eden Space""#, -1.0),
    ("jvm_memory_max_bytes", r#"job="spring",area="heap",id="G1 Old Gen""#, 1000.0),
    ("tomcat_threads_busy_threads", r#"job="spring",name="http-nio-8080""#, 50.0),
    ("tomcat_threads_config_max_threads", r#"job="spring",name="http-nio-8080""#, 200.0),
    ("executor_active_threads", r#"job="spring",name="applicationTaskExecutor""#, 6.0),
    ("executor_pool_core_threads", r#"job="spring",name="applicationTaskExecutor""#, 8.0),
    ("executor_pool_max_threads", r#"job="spring",name="applicationTaskExecutor""#, 2_147_483_647.0),
    ("hikaricp_connections_active", r#"job="spring",pool="HikariPool-1""#, 8.0),
    ("hikaricp_connections_max", r#"job="spring",pool="HikariPool-1""#, 10.0),
    ("node_load1", r#"instance="busy:9100""#, 0.7),
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
    ("kafka_consumergroup_group_max_lag_seconds", r#"cluster_name="c",group="shipping""#, 42.5),
    ("aws_sqs_approximate_age_of_oldest_message_maximum", r#"dimension_QueueName="orders",region="eu""#, 61.0),
    ("aws_sqs_approximate_age_of_oldest_message_maximum", r#"queue_name="returns""#, 7.0),
    (
        "stackdriver_pubsub_subscription_pubsub_googleapis_com_subscription_oldest_unacked_message_age",
        r#"subscription_id="invoices""#,
        9.5,
    ),
    ("rabbitmq_queue_messages", r#"queue="mails",instance="i""#, 55.0),
    ("rabbitmq_queue_messages", r#"instance="aggregated""#, 500.0),
    ("rabbitmq_detailed_queue_messages", r#"queue="letters",vhost="/",instance="i""#, 7.0),
];

const PRESETS: [&str; 26] = [
    "otel-http",
    "otel-http-old",
    "http-requests",
    "micrometer",
    "grpc",
    "grpc-otel",
    "otel-rpc",
    "otel-rpc-old",
    "istio",
    "istio-ambient",
    "linkerd",
    "envoy",
    "service-graph",
    "kubernetes",
    "kubernetes-workload",
    "kubernetes-labels",
    "cadvisor",
    "node",
    "postgres",
    "mysql",
    "redis",
    "kafka",
    "kafka-lag",
    "sqs",
    "pubsub",
    "rabbitmq",
];

/// Counters of one's own, of which some count the same kind of thing.
const LISTS: &str = "
[[mapping]]
name = 'lists'
label = 'job'
valid_counter = 'jobs_total'
bad_counter = ['job_errors_total', 'job_timeouts_total']
";

/// Services whose requests some preset reads.
const SERVICES: [&str; 13] = [
    "otel-shop",
    "old-shop",
    "plain",
    "spring",
    "grpc",
    "native-grpc",
    "rpc",
    "rpc-old",
    "mesh-shop",
    "ambient",
    "linked",
    "linked-set",
    "edge-shop",
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
        PRESETS.iter().map(|name| format!("[[mapping]]\npreset = '{name}'\n")).chain([LISTS.to_owned()]).collect();
    let settings = PrometheusConfig { url, backfill_days: 1, server_share_ratio: 1.0, ..PrometheusConfig::default() };
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, &mapping).await;
    served.wait("read", |holds, _| holds).await;

    for service in SERVICES {
        let buckets = served.buckets(service, NOW_MS).await;
        let bucket = &buckets.get(&(bucket_start(NOW_MS) - 10 * BUCKET_MS)).unwrap_or_else(|| panic!("{service}"));
        let expected = match service {
            "plain" | "mesh-shop" => (100, 20),
            "otel-shop" => (110, 20),
            _ => (100, 10),
        };
        assert_eq!((bucket.valid_count, bucket.bad_count), expected, "{service}");
        let latency =
            LatencyHistogram::try_from(bucket.latency.as_ref().unwrap_or_else(|| panic!("{service}"))).unwrap();
        assert!(latency.count_above(100.5) <= 10.5 && latency.count() >= 90, "{service}: {latency:?}");
        assert!((40.0..=100.5).contains(&latency.quantile(0.5).unwrap()), "{service}: {latency:?}");
    }

    let lists = &served.buckets("lists", NOW_MS).await[&(bucket_start(NOW_MS) - 10 * BUCKET_MS)];
    assert_eq!((lists.valid_count, lists.bad_count), (100, 30), "counters of a list add up");

    let edges = edges_of(&served.channel).await;
    let share = |caller: &str, callee: &str| {
        let edge = &edges.get(&(caller.to_owned(), callee.to_owned())).unwrap_or_else(|| panic!("{caller} {callee}"));
        edge.observed_failure_count.unwrap() as f64 / edge.observed_call_count as f64
    };
    for (caller, callee, source) in [
        ("front", "mesh-shop", Source::Istio),
        ("linked", "books", Source::Linkerd),
        ("linked-set", "agents", Source::Linkerd),
        ("cart", "cart-db", Source::Prometheus),
        ("cart", "psp.example", Source::Prometheus),
    ] {
        assert!((share(caller, callee) - 0.2).abs() < 0.01, "{caller} {callee}");
        let edge = &edges[&(caller.to_owned(), callee.to_owned())];
        assert_eq!((edge.sources.clone(), edge.observed_rescued_count), (vec![source as i32], None));
    }
    assert!((share("front", "ambient") - 0.1).abs() < 0.01);
    assert_eq!(edges.len(), 6, "{:?}", edges.keys());
    let external = &edges[&("cart".to_owned(), "psp.example".to_owned())];
    let latency = LatencyHistogram::try_from(external.observed_latency.as_deref().unwrap()).unwrap();
    assert!((95.0..=410.0).contains(&latency.quantile(0.5).unwrap()), "as the caller saw it: {latency:?}");
    utilisation_is_read(&served).await;
    served.stop().await;
    server.kill().await.unwrap();
}

async fn utilisation_is_read(served: &Served) {
    use UtilisationKind::{ConnectionPool, Cpu, Memory, MessageAge, QueueDepth, Saturation};
    for (service, kind, entity, average, maximum) in [
        ("boxed", Cpu, EntityKind::Service, 0.5, 0.75),
        ("boxed", Memory, EntityKind::Service, 0.6, 0.6),
        ("boxed", Saturation, EntityKind::Service, 0.2, 0.2),
        ("proxy", Cpu, EntityKind::Service, 0.8, 0.8),
        ("box-shop", Cpu, EntityKind::Service, 0.8, 0.8),
        ("box-store", Cpu, EntityKind::Service, 0.75, 0.75),
        ("box-shop", Memory, EntityKind::Service, 0.6, 0.6),
        ("box-shop", Saturation, EntityKind::Service, 0.2, 0.2),
        ("box-app", Cpu, EntityKind::Service, 0.8, 0.8),
        ("spring", Cpu, EntityKind::Service, 0.3, 0.3),
        ("spring", Memory, EntityKind::Service, 0.4, 0.4),
        ("spring", Saturation, EntityKind::Service, 0.75, 0.75),
        ("spring", ConnectionPool, EntityKind::Service, 0.8, 0.8),
        ("busy:9100", Saturation, EntityKind::Infrastructure, 0.7, 0.7),
        ("letters", QueueDepth, EntityKind::Queue, 7.0, 7.0),
        ("jar", Saturation, EntityKind::Service, 0.1, 0.1),
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
        ("shipping", MessageAge, EntityKind::Service, 42.5, 42.5),
        ("orders", MessageAge, EntityKind::Queue, 61.0, 61.0),
        ("returns", MessageAge, EntityKind::Queue, 7.0, 7.0),
        ("invoices", MessageAge, EntityKind::Queue, 9.5, 9.5),
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
