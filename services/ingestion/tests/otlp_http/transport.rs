//! Encodings, compression, bounds, refusals.

use std::io::Write as _;

use attain_ingestion::Config;
use attain_runtime::admission::Limits;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as trace;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{JSON, NOW_MS, PROTOBUF, Served, eventually};

/// The example of the protocol's repository (opentelemetry-proto, examples/trace.json).
const TRACE_EXAMPLE: &str = include_str!("trace_example.json");

fn span(id: u8) -> trace::Span {
    trace::Span {
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        kind: 2,
        start_time_unix_nano: NOW_MS as u64 * 1_000_000 - 5_000_000,
        end_time_unix_nano: NOW_MS as u64 * 1_000_000,
        ..Default::default()
    }
}

fn export(service: &str, spans: Vec<trace::Span>) -> ExportTraceServiceRequest {
    let value = Some(AnyValue { value: Some(Any::StringValue(service.into())) });
    let attributes = vec![KeyValue { key: "service.name".into(), value, ..Default::default() }];
    let resource = Some(Resource { attributes, ..Default::default() });
    let scope_spans = vec![trace::ScopeSpans { spans, ..Default::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![trace::ResourceSpans { resource, scope_spans, ..Default::default() }],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A refusal's HTTP status, reason and code.
async fn refused(response: reqwest::Response) -> (u16, String, i32) {
    let (http, media_type) = (response.status().as_u16(), response.headers()["content-type"].clone());
    let body = response.bytes().await.unwrap();
    if media_type == JSON {
        let status: Value = serde_json::from_slice(&body).unwrap();
        let reason = status["details"].as_array().unwrap().iter().find_map(|detail| detail["reason"].as_str());
        return (http, reason.unwrap_or_default().to_owned(), status["code"].as_i64().unwrap() as i32);
    }
    let status = tonic_types::pb::Status::decode(body).unwrap();
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("ErrorInfo"));
    let info = info.map(|detail| tonic_types::pb::ErrorInfo::decode(detail.value.as_slice()).unwrap());
    (http, info.unwrap_or_default().reason, status.code)
}

#[tokio::test]
async fn spans_come_in_every_encoding_and_compression() {
    let served = Served::start(Config::default()).await;
    let plain = export("plain", vec![span(1)]).encode_to_vec();
    let zipped = gzip(&export("gzip", vec![span(2)]).encode_to_vec());
    let zstd = zstd::encode_all(export("zstd", vec![span(3)]).encode_to_vec().as_slice(), 3).unwrap();
    let json = gzip(TRACE_EXAMPLE.as_bytes());
    for (headers, body, empty) in [
        (vec![("content-type", PROTOBUF)], plain, ""),
        (vec![("content-type", PROTOBUF), ("content-encoding", "gzip")], zipped, ""),
        (vec![("content-type", PROTOBUF), ("content-encoding", "zstd")], zstd, ""),
        (vec![("content-type", "application/json; charset=utf-8"), ("content-encoding", "gzip")], json, "{}"),
    ] {
        let response = served.post("/v1/traces", &headers, body).await;
        assert_eq!(response.status(), 200, "{headers:?}");
        assert!(headers[0].1.starts_with(response.headers()["content-type"].to_str().unwrap()), "{headers:?}");
        assert_eq!(response.bytes().await.unwrap(), empty.as_bytes(), "{headers:?}: all was taken");
    }
    for service in ["plain", "gzip", "zstd"] {
        assert_eq!(served.settled(service).await.valid_count, 1);
    }
    let example = served.settled("my.service").await;
    assert_eq!((example.valid_count, example.bad_count), (1, 0));
    served.stop().await;
}

#[tokio::test]
async fn what_is_refused_among_what_is_kept_is_partial_success() {
    let served = Served::start(Config::default()).await;
    let bad = trace::Span { trace_id: vec![1; 4], ..span(9) };
    let answer: ExportTraceServiceResponse = served.export("/v1/traces", &export("shop", vec![span(1), bad])).await;
    let partial = answer.partial_success.unwrap();
    assert!(partial.rejected_spans == 1 && partial.error_message.contains("trace_id"), "{partial:?}");

    let mut example: Value = serde_json::from_str(TRACE_EXAMPLE).unwrap();
    example["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"] = json!("abcd");
    let response = served.post("/v1/traces", &[("content-type", JSON)], example.to_string()).await;
    assert_eq!(response.status(), 200);
    let told: Value = response.json().await.unwrap();
    assert_eq!(told["partialSuccess"]["rejectedSpans"], "1", "{told}");
    served.stop().await;
}

#[tokio::test]
async fn refusals_name_what_is_wrong_in_the_senders_encoding() {
    let served = Served::start(Config { otlp_message_bytes_max: 65_536, ..Config::default() }).await;
    let bomb = gzip(&vec![0; 32 << 20]);
    let large = vec![0u8; 100_000];
    let protobuf = ("content-type", PROTOBUF);
    let json = ("content-type", JSON);
    for (path, headers, body, expected) in [
        ("/v1/traces", vec![protobuf], b"\xff\xff".to_vec(), (400, "MALFORMED_BODY", 3)),
        ("/v1/traces", vec![json], b"[]".to_vec(), (400, "MALFORMED_BODY", 3)),
        ("/v1/metrics", vec![json], br#"{"resourceMetrics":5}"#.to_vec(), (400, "MALFORMED_BODY", 3)),
        ("/v1/traces", vec![json, ("content-encoding", "gzip")], b"{}".to_vec(), (400, "MALFORMED_BODY", 3)),
        ("/v1/traces", vec![protobuf, ("content-encoding", "gzip")], bomb, (413, "MESSAGE_TOO_LARGE", 3)),
        ("/v1/traces", vec![protobuf], large, (413, "MESSAGE_TOO_LARGE", 3)),
        ("/v1/traces", vec![("content-type", "text/plain")], vec![], (415, "UNSUPPORTED_MEDIA_TYPE", 3)),
        ("/v1/traces", vec![json, ("content-encoding", "br")], vec![], (415, "UNSUPPORTED_CONTENT_ENCODING", 3)),
        ("/v1/logs", vec![protobuf], vec![], (404, "UNKNOWN_PATH", 5)),
        ("/", vec![json], vec![], (404, "UNKNOWN_PATH", 5)),
    ] {
        let told = refused(served.post(path, &headers, body).await).await;
        assert_eq!((told.0, told.1.as_str(), told.2), expected, "{path} {headers:?}");
    }
    let tenant = [json, ("x-attain-tenant", "Not A Tenant")];
    assert_eq!(refused(served.post("/v1/traces", &tenant, "{}").await).await.0, 400);
    let got = served.http.get(served.url("/v1/traces")).header("content-type", JSON).send().await.unwrap();
    assert_eq!((got.status().as_u16(), &got.headers()["allow"]), (405, &"POST".parse().unwrap()));
    served.stop().await;
}

#[tokio::test]
async fn the_tenant_is_named_by_a_header() {
    let served = Served::start(Config::default()).await;
    let headers = [("content-type", PROTOBUF), ("x-attain-tenant", "acme")];
    let response = served.post("/v1/traces", &headers, export("shop", vec![span(1)]).encode_to_vec()).await;
    assert_eq!(response.status(), 200);
    let response = served.post("/v1/traces", &headers[..1], export("cart", vec![span(2)]).encode_to_vec()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(served.settled("cart").await.valid_count, 1);
    assert_eq!(served.buckets("shop").await, [], "it is another tenant's");
    served.stop().await;
}

/// Room for eight messages in memory, the fewest that can be had.
fn little_room() -> Config {
    Config { otlp_message_bytes_max: 64 * 1024, ..Config::default() }
}

/// Eight senders who keep the last byte of their body back: no room is left.
async fn hesitate(served: &Served, body: &[u8]) -> Vec<TcpStream> {
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {PROTOBUF}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..body.len() - 1]).await.unwrap();
        streams.push(stream);
    }
    eventually("a full house", async || {
        let response = served.post("/v1/traces", &[("content-type", JSON)], "{}").await;
        (response.status() == 429).then_some(())
    })
    .await;
    streams
}

#[tokio::test]
async fn overload_is_refused_at_once_and_ends() {
    let served = Served::start(little_room()).await;
    let body = export("shop", vec![span(1)]).encode_to_vec();
    let hesitant = hesitate(&served, &body).await;
    for (media_type, body) in [(PROTOBUF, body), (JSON, b"{}".to_vec())] {
        let response = served.post("/v1/traces", &[("content-type", media_type)], body).await;
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &"1".parse().unwrap()));
        assert_eq!(refused(response).await, (429, "OVERLOADED".to_owned(), 8));
    }
    drop(hesitant);
    eventually("room", async || {
        let response = served.post("/v1/traces", &[("content-type", JSON)], "{}").await;
        (response.status() == 200).then_some(())
    })
    .await;
    served.stop().await;
}

/// Places are for work: whoever is slow to send takes none, so that a few of them keep nobody out.
#[tokio::test]
async fn senders_who_hesitate_keep_nobody_out() {
    let limits = Limits { ingests_max: 7, ..Limits::default() };
    let served = Served::start(Config { limits, ..little_room() }).await;
    let body = export("shop", vec![span(1)]).encode_to_vec();
    let mut hesitant = hesitate(&served, &body).await;
    hesitant.truncate(7);
    eventually("room", async || {
        let response = served.post("/v1/traces", &[("content-type", JSON)], "{}").await;
        (response.status() == 200).then_some(())
    })
    .await;
    served.stop().await;
}

/// By the protocol 408 is for good and 503 is not: a link that was slow once must not cost an export.
#[tokio::test]
async fn a_body_that_never_comes_whole_is_asked_to_come_again() {
    let served = Served::start(Config { otlp_body_seconds_max: 1, ..Config::default() }).await;
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {JSON}\r\ncontent-length: 9\r\n\r\n{{"
    );
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("BODY_INTERRUPTED"), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn an_export_in_flight_ends_before_the_process_does() {
    let served = Served::start(little_room()).await;
    let body = export("shop", vec![span(1)]).encode_to_vec();
    let mut stream = hesitate(&served, &body).await.swap_remove(0);
    served.shutdown.cancel();
    stream.write_all(&body[body.len() - 1..]).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    served.stop().await;
}

#[tokio::test]
async fn a_full_span_log_says_when_to_come_again() {
    let served = Served::start(Config { span_log_bytes_max: 1, ..Config::default() }).await;
    let send = async |id| {
        let body = export("shop", vec![span(id)]).encode_to_vec();
        served.post("/v1/traces", &[("content-type", PROTOBUF)], body).await
    };
    assert_eq!(send(1).await.status(), 200);
    let response = send(2).await;
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(refused(response).await, (429, "SPAN_LOG_FULL".to_owned(), 8));
    served.stop().await;
}

#[tokio::test]
async fn health_is_told_at_the_receivers_port() {
    let served = Served::start(Config::default()).await;
    eventually("readiness", async || {
        let response = served.http.get(served.url("/healthz")).send().await.unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
    served.stop().await;
}
