//! Senders who are slow, many, or no senders at all.

use std::pin::Pin;

use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_runtime::admission::Limits;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use trace::span::SpanKind::Server;

use super::*;

const EXPORT_SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn one_span(trace: u8) -> ExportTraceServiceRequest {
    export("shop", vec![span(trace, 1, 0, Server, false)])
}

/// A message as it stands in a call.
fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
    [&[compressed][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

/// A call whose body begins with these bytes, and ends with them or not at all.
async fn call(channel: &Channel, encoding: &str, bytes: Vec<u8>, ends: bool) -> Status {
    let begun = stream::iter([Ok::<_, std::io::Error>(Frame::data(Bytes::from(bytes)))]);
    let frames: Pin<Box<dyn futures::Stream<Item = _> + Send>> =
        if ends { Box::pin(begun) } else { Box::pin(begun.chain(stream::pending())) };
    let request = http::Request::post(EXPORT_SPANS)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", encoding)
        .body(Body::new(StreamBody::new(frames)))
        .unwrap();
    let mut channel = channel.clone();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    Status::from_header_map(response.headers()).unwrap_or_else(|| Status::ok("in the trailers"))
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Asks until an export is answered with this code.
async fn until(served: &Served, code: Code) {
    let began = Instant::now();
    loop {
        let answer = served.traces().export(one_span(1)).await.map_or_else(|status| status.code(), |_| Code::Ok);
        if answer == code {
            return;
        }
        assert!(began.elapsed() < WITHIN, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Places are for work: whoever is slow to send takes none, so that a few of them keep nobody out, also where all of them
/// come over one connection.
#[tokio::test]
async fn senders_who_hesitate_keep_nobody_out() {
    // Fewer than hesitate in the end, and room for all of them to be on their way.
    let limits = Limits { ingests_max: 7, ..Limits::default() };
    let served = Served::start(Config { limits, otlp_message_bytes_max: 64 * 1024, ..Config::default() }).await;
    let whole = framed(0, &one_span(2).encode_to_vec());
    let hesitant: Vec<JoinHandle<Status>> = (0..8)
        .map(|_| {
            let (channel, begun) = (served.otlp.clone(), whole[..whole.len() - 1].to_vec());
            tokio::spawn(async move { call(&channel, "identity", begun, false).await })
        })
        .collect();
    // Together they have all the room that there is in memory.
    until(&served, Code::ResourceExhausted).await;
    hesitant[7].abort();
    until(&served, Code::Ok).await;
    assert!(hesitant[..7].iter().all(|call| !call.is_finished()), "they are waited for");
    hesitant.iter().for_each(JoinHandle::abort);
    served.stop().await;
}

#[tokio::test]
async fn a_call_that_never_comes_whole_is_asked_to_come_again() {
    let served = Served::start(Config { otlp_body_seconds_max: 1, ..Config::default() }).await;
    for begun in [vec![], framed(0, &one_span(2).encode_to_vec())] {
        let told = call(&served.otlp, "identity", begun, false).await;
        assert_eq!((told.code(), reason(&told).as_str()), (Code::Unavailable, "BODY_INTERRUPTED"), "{told:?}");
        assert!(told.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    }
    served.stop().await;
}

#[tokio::test]
async fn what_is_no_export_is_refused_for_good() {
    let served = Served::start(Config { otlp_message_bytes_max: 64 * 1024, ..Config::default() }).await;
    let zstd = |bytes: &[u8], window_log: u32| {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        framed(1, &encoder.finish().unwrap())
    };
    let message = one_span(2).encode_to_vec();
    for (encoding, bytes, code, named) in [
        ("identity", framed(0, b"\xff\xff"), Code::InvalidArgument, "MALFORMED_BODY"),
        ("identity", framed(0, b"\x0a\x02\x12\x09"), Code::InvalidArgument, "MALFORMED_BODY"),
        ("identity", framed(1, &message), Code::InvalidArgument, "MALFORMED_BODY"),
        ("gzip", framed(1, &message), Code::InvalidArgument, "MALFORMED_BODY"),
        ("identity", [framed(0, &message), vec![0]].concat(), Code::InvalidArgument, "MALFORMED_BODY"),
        ("identity", framed(0, &[0; 70_000]), Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        ("zstd", zstd(&vec![0; 32 << 20], 19), Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        ("zstd", zstd(&message, 27), Code::InvalidArgument, "MALFORMED_BODY"),
        ("deflate", framed(1, &message), Code::Unimplemented, "UNSUPPORTED_CONTENT_ENCODING"),
        ("zstd", zstd(&message, 19), Code::Ok, ""),
        ("gzip", framed(0, &message), Code::Ok, ""),
    ] {
        let told = call(&served.otlp, encoding, bytes, true).await;
        assert_eq!((told.code(), reason(&told).as_str()), (code, named), "{encoding}: {told:?}");
    }
    served.stop().await;
}

pub(super) fn of_tenant<T>(tenant: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-attain-tenant", tenant.parse().unwrap());
    request
}

#[tokio::test]
async fn there_are_so_many_tenants_and_no_more() {
    let config = || Config { tenants_max: 2, ..Config::default() };
    let served = Served::start(config()).await;
    let requests = || measured("shop", vec![durations(200, 10, [5, 0, 0], true)]);
    let mut metrics = MetricsServiceClient::new(served.otlp.clone());
    let nothing = ExportTraceServiceRequest::default();
    for tenant in ["nobody", "nothing"] {
        served.traces().export(of_tenant(tenant, nothing.clone())).await.unwrap();
    }
    served.traces().export(of_tenant("a", one_span(1))).await.unwrap();
    metrics.export(of_tenant("b", requests())).await.unwrap();
    for refused in [
        served.traces().export(of_tenant("c", one_span(1))).await.unwrap_err(),
        metrics.export(of_tenant("c", requests())).await.unwrap_err(),
    ] {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "TENANTS_FULL"));
        assert!(refused.message().contains("ingestion.tenants_max"), "{refused:?}");
    }
    metrics.export(of_tenant("a", requests())).await.unwrap();
    // They are known to the next process too, settled or not; who comes another way is nobody's to refuse.
    let declare = words::IngestDependenciesRequest {
        services: vec![words::ServiceDeclaration { id: "cart".into(), ..Default::default() }].into(),
        ..Default::default()
    };
    served.ingestion.clone().ingest_dependencies(of_tenant("d", declare)).await.unwrap();
    let folder = served.stop().await;
    let again = Served::start_in(folder, config()).await;
    for (tenant, code) in [("a", Code::Ok), ("b", Code::Ok), ("d", Code::Ok), ("e", Code::FailedPrecondition)] {
        let answer = again.traces().export(of_tenant(tenant, one_span(2))).await;
        assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code, "{tenant}");
    }
    again.stop().await;
}

#[tokio::test]
async fn what_a_full_tenant_leaves_out_is_told() {
    let served = Served::start(Config { entities_per_tenant_max: 1, ..Config::default() }).await;
    let requests = |service| measured(service, vec![durations(200, 10, [5, 0, 0], true)]);
    assert_eq!(served.measure(requests("shop")).await, 0);
    let mut metrics = MetricsServiceClient::new(served.otlp.clone());
    let partial = metrics.export(requests("cart")).await.unwrap().into_inner().partial_success.unwrap();
    assert_eq!(partial.rejected_data_points, 1);
    assert!(partial.error_message.contains("ingestion.entities_per_tenant_max"), "{}", partial.error_message);
    assert_eq!(served.counted("shop", 5).await.valid_count, 5);
    let mut status = StatusServiceClient::new(served.otlp.clone());
    let began = Instant::now();
    loop {
        let told = status.get_status(GetStatusRequest {}).await.unwrap().into_inner();
        let room = told.conditions.iter().find(|condition| condition.name == "capacity").unwrap();
        assert!(told.ready && !room.required, "it serves all the same");
        if !room.holds {
            assert!(room.detail.contains("default") && room.detail.contains("entities_per_tenant_max"), "{room:?}");
            break;
        }
        assert!(began.elapsed() < WITHIN, "{room:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    served.stop().await;
}

#[tokio::test]
async fn an_export_of_delta_points_sent_again_counts_once_however_many_there_are() {
    let served = Served::start(Config::default()).await;
    let many = || {
        let points = (1..=100).map(|second| durations(200, second, [1, 0, 0], false));
        measured("shop", points.collect())
    };
    for _ in 0..3 {
        assert_eq!(served.measure(many()).await, 0);
    }
    assert_eq!(served.measure(measured("shop", vec![durations(200, 200, [3, 0, 0], false)])).await, 0);
    assert_eq!(served.counted("shop", 103).await.valid_count, 103);
    served.stop().await;
}
