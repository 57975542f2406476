//! What metrics tell of calls, and their bounds.

use attain_ingestion::Config;
use attain_proto::convert::timestamp;
use attain_proto::ingestion::v1 as words;
use attain_proto::vocabulary::v1::{EntityKind, Source};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as wire;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use serde_json::{Value, json};

use crate::{JSON, NOW_MS, Served};

const NOW_NS: u64 = NOW_MS as u64 * 1_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// `key=value` words; whole numbers are numbers.
fn attributes(written: &str) -> Vec<KeyValue> {
    let attribute = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap();
        let value = value.parse().map_or_else(|_| Any::StringValue(value.to_owned()), Any::IntValue);
        KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
    };
    written.split_whitespace().map(attribute).collect()
}

/// Delta histograms of the last minute, each point so many observations between 100 and 250 ms.
fn durations(name: &str, points: &[(&str, u64)]) -> wire::Metric {
    let point = |(written, count): &(&str, u64)| wire::HistogramDataPoint {
        attributes: attributes(written),
        start_time_unix_nano: NOW_NS - MINUTE_NS,
        time_unix_nano: NOW_NS,
        count: *count,
        bucket_counts: vec![0, *count, 0],
        explicit_bounds: vec![0.1, 0.25],
        ..Default::default()
    };
    let histogram = wire::Histogram { data_points: points.iter().map(point).collect(), aggregation_temporality: 1 };
    wire::Metric { name: name.into(), unit: "s".into(), data: Some(Data::Histogram(histogram)), ..Default::default() }
}

/// Cumulative counts since a while ago.
fn totals(name: &str, (start_ns, time_ns): (u64, u64), points: &[(&str, i64)]) -> wire::Metric {
    let point = |(written, count): &(&str, i64)| wire::NumberDataPoint {
        attributes: attributes(written),
        start_time_unix_nano: start_ns,
        time_unix_nano: time_ns,
        value: Some(wire::number_data_point::Value::AsInt(*count)),
        ..Default::default()
    };
    let sum =
        wire::Sum { data_points: points.iter().map(point).collect(), aggregation_temporality: 2, is_monotonic: true };
    wire::Metric { name: name.into(), data: Some(Data::Sum(sum)), ..Default::default() }
}

fn of_service(service: &str, metrics: Vec<wire::Metric>) -> ExportMetricsServiceRequest {
    let resource = Some(Resource { attributes: attributes(&format!("service.name={service}")), ..Default::default() });
    let scope_metrics = vec![wire::ScopeMetrics { metrics, ..Default::default() }];
    let of_resource = wire::ResourceMetrics { resource, scope_metrics, ..Default::default() };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

async fn send(served: &Served, request: &ExportMetricsServiceRequest) -> Option<ExportMetricsPartialSuccess> {
    served.export::<ExportMetricsServiceResponse>("/v1/metrics", request).await.partial_success
}

/// `caller>callee calls failures observations source`, in order.
async fn told(served: &Served) -> Vec<String> {
    let edges = served.edges().await.into_iter().map(|edge| {
        let latency = edge.observed_latency.map_or(0, |latency| latency.bucket_counts.iter().sum::<u64>());
        let sources: Vec<&str> =
            edge.sources.iter().map(|source| Source::try_from(*source).unwrap().as_str_name()).collect();
        format!(
            "{}>{} {} {} {latency} {}",
            edge.caller_id,
            edge.callee_id,
            edge.observed_call_count,
            edge.observed_failure_count.map_or_else(|| "?".to_owned(), |count| count.to_string()),
            sources.join(",")
        )
    });
    edges.collect()
}

#[tokio::test]
async fn clients_tell_whom_they_call() {
    let served = Served::start(Config::default()).await;
    let http = durations(
        "http.client.request.duration",
        &[
            ("http.request.method=GET server.address=cart server.port=80 http.response.status_code=200", 90),
            ("http.request.method=GET server.address=cart server.port=80 http.response.status_code=503", 10),
            ("http.request.method=GET", 7),
        ],
    );
    let rpc = durations("rpc.client.call.duration", &[("rpc.system.name=grpc server.address=prices", 5)]);
    let db = durations(
        "db.client.operation.duration",
        &[
            ("db.system.name=postgresql db.namespace=users db.operation.name=SELECT", 40),
            ("db.system.name=postgresql db.namespace=users db.operation.name=SELECT error.type=timeout", 2),
        ],
    );
    let sent = durations(
        "messaging.client.operation.duration",
        &[
            ("messaging.system=kafka messaging.destination.name=orders messaging.operation.type=send", 3),
            ("messaging.system=kafka messaging.destination.name=orders messaging.operation.type=receive", 9),
        ],
    );
    let request = of_service("shop", vec![http, rpc, db, sent]);
    assert_eq!(send(&served, &request).await, None);
    assert_eq!(send(&served, &request).await, None, "sent again by a sender that did not hear the answer");
    let expected = [
        "shop>cart 100 10 100 SOURCE_OTLP_METRICS",
        "shop>kafka/orders 3 0 3 SOURCE_OTLP_METRICS",
        "shop>postgresql/users 42 2 42 SOURCE_OTLP_METRICS",
        "shop>prices 5 0 5 SOURCE_OTLP_METRICS",
    ];
    assert_eq!(told(&served).await, expected);
    // A datastore is measured by its callers; a host may be a service that measures itself.
    let users = served.buckets("postgresql/users").await;
    assert_eq!((users[0].valid_count, users[0].bad_count), (42, 2));
    assert_eq!(served.buckets("cart").await, []);
    let kinds = served
        .ingestion
        .clone()
        .get_topology(words::GetTopologyRequest::default())
        .await
        .unwrap()
        .into_inner()
        .entities
        .to_vec()
        .unwrap();
    let kind = |id: &str| kinds.iter().find(|entity| entity.id == id).unwrap().kind();
    assert_eq!(kind("postgresql/users"), EntityKind::Datastore);
    assert_eq!((kind("kafka/orders"), kind("cart")), (EntityKind::Queue, EntityKind::External));
    served.stop().await;
}

#[tokio::test]
async fn a_service_graph_becomes_edges() {
    let served = Served::start(Config::default()).await;
    let pair = "client=shop server=cart connection_type=";
    let database = "client=cart server=prices connection_type=database";
    let user = "client=user server=shop connection_type=virtual_node";
    let span = (NOW_NS - 5 * MINUTE_NS, NOW_NS - MINUTE_NS);
    let calls = |at, counts: [i64; 3]| {
        let points = [(pair, counts[0]), (database, counts[1]), (user, counts[2])];
        totals("traces_service_graph_request_total", at, &points)
    };
    let failures = |at, count| totals("traces_service_graph_request_failed_total", at, &[(pair, count)]);
    let latency = |name| durations(name, &[(pair, 60)]);
    let first = vec![
        calls(span, [50, 20, 70]),
        failures(span, 5),
        latency("traces_service_graph_request_client_seconds"),
        latency("traces_service_graph_request_server_seconds"),
    ];
    assert_eq!(send(&served, &of_service("collector", first)).await, None);
    let later = (span.0, NOW_NS);
    assert_eq!(
        send(&served, &of_service("collector", vec![calls(later, [60, 20, 80]), failures(later, 6)])).await,
        None
    );
    let expected = ["cart>prices 20 0 0 SOURCE_SERVICE_GRAPH", "shop>cart 60 6 60 SOURCE_SERVICE_GRAPH"];
    assert_eq!(told(&served).await, expected);

    // A collector that has run for long: the edge is known, its calls count from now on.
    let long_ago = (NOW_NS - 600 * MINUTE_NS, NOW_NS);
    let mail = [("client=shop server=mail connection_type=messaging_system", 900)];
    let request = of_service("other-collector", vec![totals("traces_service_graph_request_total", long_ago, &mail)]);
    assert_eq!(send(&served, &request).await, None);
    assert!(told(&served).await.contains(&"shop>mail 0 ? 0 SOURCE_SERVICE_GRAPH".to_owned()));
    served.stop().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_series_and_no_more() {
    let config = || Config { series_per_tenant_max: 3, ..Config::default() };
    let served = Served::start(config()).await;
    let requests = |routes: &[&'static str]| {
        let points: Vec<String> = routes.iter().map(|route| format!("http.route={route}")).collect();
        let points: Vec<(&str, u64)> = points.iter().map(|written| (written.as_str(), 1)).collect();
        of_service("shop", vec![durations("http.server.request.duration", &points)])
    };
    assert_eq!(send(&served, &requests(&["/a", "/b"])).await, None);
    let partial = send(&served, &requests(&["/a", "/c", "/d", "/e"])).await.unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    assert!(partial.error_message.contains("series_per_tenant_max"), "{}", partial.error_message);
    assert_eq!(served.buckets("shop").await[0].valid_count, 3);
    // The next day known series go on; what is silent for a day makes room.
    let at = |days: u64, route: &str| {
        let mut request = requests(&[]);
        let mut metric = durations("http.server.request.duration", &[(&format!("http.route={route}"), 1)]);
        if let Some(Data::Histogram(histogram)) = &mut metric.data {
            histogram.data_points[0].start_time_unix_nano += days * 1_440 * MINUTE_NS;
            histogram.data_points[0].time_unix_nano += days * 1_440 * MINUTE_NS;
        }
        request.resource_metrics[0].scope_metrics[0].metrics = vec![metric];
        request
    };
    served.clock.set(NOW_MS + 86_400_000);
    assert_eq!(send(&served, &at(1, "/a")).await, None);
    assert_eq!(send(&served, &at(1, "/f")).await.unwrap().rejected_data_points, 1);
    served.clock.set(NOW_MS + 2 * 86_400_000);
    assert_eq!(send(&served, &at(2, "/f")).await, None);
    served.stop().await;
}

#[tokio::test]
async fn attributes_have_bounds() {
    let config = Config { point_attributes_max: 2, point_attribute_bytes_max: 10, ..Config::default() };
    let served = Served::start(config).await;
    let points = [("http.route=/a", 1), ("http.route=/long/as/it/is", 1), ("a=1 b=2 c=3", 1)];
    let partial = send(&served, &of_service("shop", vec![durations("http.server.request.duration", &points)])).await;
    let partial = partial.unwrap();
    assert_eq!(partial.rejected_data_points, 2);
    for named in ["ingestion.point_attributes_max", "ingestion.point_attribute_bytes_max"] {
        assert!(partial.error_message.contains(named), "{}", partial.error_message);
    }
    served.stop().await;
}

#[tokio::test]
async fn exemplars_name_the_traces_of_slow_and_failed_requests() {
    let served = Served::start(Config::default()).await;
    let exemplar = |id: u8, seconds: f64| wire::Exemplar {
        time_unix_nano: NOW_NS,
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        value: Some(wire::exemplar::Value::AsDouble(seconds)),
        ..Default::default()
    };
    let mut metric = durations(
        "http.server.request.duration",
        &[("http.response.status_code=200", 10), ("http.response.status_code=500", 1)],
    );
    if let Some(Data::Histogram(histogram)) = &mut metric.data {
        histogram.data_points[0].exemplars = (1..=7).map(|id| exemplar(id, f64::from(id) / 10.0)).collect();
        // Without a trace, and with what is no latency.
        histogram.data_points[0].exemplars.push(wire::Exemplar { trace_id: vec![], ..exemplar(9, 9.0) });
        histogram.data_points[0].exemplars.push(exemplar(10, f64::NAN));
        histogram.data_points[1].exemplars = vec![exemplar(8, 0.05)];
    }
    assert_eq!(send(&served, &of_service("shop", vec![metric])).await, None);
    let request = words::ListExemplarsRequest { service_id: "shop".into(), page_size: 4, ..Default::default() };
    let first = served.ingestion.clone().list_exemplars(request.clone()).await.unwrap().into_inner();
    let next = words::ListExemplarsRequest { page_token: first.next_page_token.clone(), ..request.clone() };
    let second = served.ingestion.clone().list_exemplars(next).await.unwrap().into_inner();
    assert_eq!((first.exemplars.len(), second.exemplars.len(), second.next_page_token.as_str()), (4, 2, ""));
    let listed: Vec<_> = first.exemplars.iter().chain(&second.exemplars).collect();
    let said: Vec<(&str, f64, bool)> =
        listed.iter().map(|kept| (&kept.trace_id[..2], kept.latency_ms, kept.failed)).collect();
    let expected = [
        ("03", 300.0, false),
        ("04", 400.0, false),
        ("05", 500.0, false),
        ("06", 600.0, false),
        ("07", 700.0, false),
        ("08", 50.0, true),
    ];
    assert_eq!(said, expected);
    assert_eq!((listed[0].span_id.as_str(), &listed[0].time), ("0303030303030303", &Some(timestamp(NOW_MS))));
    let unknown = words::ListExemplarsRequest { service_id: "nobody".into(), ..request };
    assert_eq!(served.ingestion.clone().list_exemplars(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    served.stop().await;
}

/// Written as browsers and scripts write it: numbers as strings or not, what nobody knows, null.
#[tokio::test]
async fn metrics_come_as_json() {
    let served = Served::start(Config::default()).await;
    let start = (NOW_NS - MINUTE_NS).to_string();
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}], "mood": "good"},
        "scopeMetrics": [{"scope": null, "metrics": [
            {"name": "http.server.request.duration", "unit": "s", "histogram": {"aggregationTemporality": 1, "dataPoints": [{
                "startTimeUnixNano": start, "timeUnixNano": NOW_NS, "count": "3", "sum": 0.5,
                "bucketCounts": ["1", 2], "explicitBounds": [0.1],
                "attributes": [{"key": "http.response.status_code", "value": {"intValue": "500"}}],
            }]}},
            {"name": "rpc.server.call.duration", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [{
                "startTimeUnixNano": start, "timeUnixNano": NOW_NS.to_string(), "count": 4, "scale": 0, "zeroCount": "1",
                "positive": {"offset": -3, "bucketCounts": ["2", "1"]},
            }]}},
        ]}],
    }]});
    let response = served.post("/v1/metrics", &[("content-type", JSON)], body.to_string()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<Value>().await.unwrap(), json!({}));
    let shop = &served.buckets("shop").await[0];
    assert_eq!((shop.valid_count, shop.bad_count), (7, 3));
    served.stop().await;
}
