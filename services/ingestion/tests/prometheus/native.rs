//! Native histograms: written to a genuine server by remote write, read back by a preset.

use attain_ingestion::PrometheusConfig;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, LatencyHistogram, bucket_start};
use prost::Message;

use crate::harness::{NOW_MS, Served, provided, start_prometheus};

const SAMPLE_MS: i64 = 15_000;
/// Counts are of five minutes whatever the window.
const MAPPING: &str = "[[mapping]]\npreset = 'otel-http'\nnative_histograms = true\nwindow = '15m'\n";

/// The parts of `prometheus.WriteRequest` (remote write 1.0) that this needs.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "4")]
    histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, tag = "3")]
    sum: f64,
    #[prost(sint32, tag = "4")]
    schema: i32,
    #[prost(double, tag = "5")]
    zero_threshold: f64,
    #[prost(uint64, optional, tag = "6")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "11")]
    positive_spans: Vec<Span>,
    #[prost(sint64, repeated, tag = "12")]
    positive_deltas: Vec<i64>,
    #[prost(int64, tag = "15")]
    timestamp: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// 45 minutes of one series: each sample has `fast` more observations in (115, 125] ms, `slow` more in (2, 2.18] s and one
/// more that took no time.
fn series(status: &str, fast: i64, slow: i64) -> TimeSeries {
    let labels = [
        ("__name__", "http_server_request_duration_seconds"),
        ("http_response_status_code", status),
        ("instance", "i"),
        ("job", "eu/shop"),
    ];
    let last_ms = bucket_start(NOW_MS);
    let histograms = (0..=180).map(|n| Histogram {
        count: Some(((fast + slow + 1) * n) as u64),
        sum: n as f64,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: Some(n as u64),
        positive_spans: vec![Span { offset: -24, length: 1 }, Span { offset: 32, length: 1 }],
        positive_deltas: vec![fast * n, (slow - fast) * n],
        timestamp: last_ms - (180 - n) * SAMPLE_MS,
    });
    let label = |(name, value): (&str, &str)| Label { name: name.into(), value: value.into() };
    TimeSeries { labels: labels.map(label).to_vec(), histograms: histograms.collect() }
}

/// Snappy's block format, with nothing but literals.
fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length as u8 & 0x7f) | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    for chunk in bytes.chunks(65_536) {
        out.push(61 << 2);
        out.extend_from_slice(&((chunk.len() - 1) as u16).to_le_bytes());
        out.extend_from_slice(chunk);
    }
    out
}

#[tokio::test]
async fn native_histograms_are_counts_and_latencies() {
    let Some(program) = provided() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--enable-feature=native-histograms",
        "--web.enable-remote-write-receiver",
        "--storage.tsdb.retention.time=20y",
    ];
    let (mut server, url) = start_prometheus(&program, folder.path(), "global: {}\n", &arguments).await;
    let written = WriteRequest { timeseries: vec![series("200", 8, 1), series("503", 0, 0)] };
    let answer = reqwest::Client::new()
        .post(format!("{url}/api/v1/write"))
        .header("content-encoding", "snappy")
        .header("content-type", "application/x-protobuf")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(snappy(&written.encode_to_vec()))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());

    let settings = PrometheusConfig { url, backfill_days: 1, ..PrometheusConfig::default() };
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, MAPPING).await;
    served.wait("read", |holds, _| holds).await;
    let buckets = served.buckets("shop", NOW_MS).await;
    let bucket = &buckets[&(bucket_start(NOW_MS) - 3 * BUCKET_MS)];
    assert_eq!((bucket.valid_count, bucket.bad_count), (220, 20));
    let latency = LatencyHistogram::try_from(bucket.latency.as_ref().unwrap()).unwrap();
    assert_eq!((latency.count(), latency.zero_count()), (220, 40));
    assert_eq!((latency.count_above(1_500.0), latency.count_above(2_500.0)), (20.0, 0.0));
    let median = latency.quantile(0.5).unwrap();
    assert!((105.0..135.0).contains(&median), "{median}");
    served.stop().await;
    server.kill().await.unwrap();
}
