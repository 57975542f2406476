//! OTLP/gRPC: the protocol's services, with refusals that an exporter reads rightly.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceResponse, trace_service_server};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::counts::Counts;
use super::receivers::{MetricsReceiver, TraceReceiver};
use super::sent::SentSpans;

/// The services of the protocol; a message has at most so many bytes, compressed or not.
pub(super) fn routes(
    (traces, metrics): (Arc<TraceReceiver>, Arc<MetricsReceiver>),
    message_bytes_max: usize,
    counts: Arc<Counts>,
) -> Routes {
    let traces = TraceServer { receiver: traces, message_bytes_max };
    let metrics = MetricsServiceServer::from_arc(metrics)
        .max_decoding_message_size(message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let plain = |counts: &Arc<Counts>| PlainRefusals { inner: (), message_bytes_max, counts: Arc::clone(counts) };
    Routes::new(plain(&counts).around(traces)).add_service(plain(&counts).around(metrics))
}

/// The trace service of the protocol, which leaves what is in an export undecoded.
#[derive(Clone)]
struct TraceServer {
    receiver: Arc<TraceReceiver>,
    message_bytes_max: usize,
}

const EXPORT_SPANS: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl NamedService for TraceServer {
    const NAME: &'static str = trace_service_server::SERVICE_NAME;
}

impl Service<Request<Body>> for TraceServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != EXPORT_SPANS {
            return Box::pin(async { Ok(Status::unimplemented("the service has no such method").into_http()) });
        }
        let mut grpc = Grpc::new(ProstCodec::<ExportTraceServiceResponse, SentSpans>::default())
            .max_decoding_message_size(self.message_bytes_max)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd);
        let export = Export(Arc::clone(&self.receiver));
        Box::pin(async move { Ok(grpc.unary(export, request).await) })
    }
}

struct Export(Arc<TraceReceiver>);

impl UnaryService<SentSpans> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<SentSpans>) -> Self::Future {
        let receiver = Arc::clone(&self.0);
        Box::pin(async move { receiver.export(request).await })
    }
}

/// Says that a message is too large in a way that its sender does not try again: the transport's own OUT_OF_RANGE, and
/// RESOURCE_EXHAUSTED for what is too large once decompressed, are told as INVALID_ARGUMENT. An exporter repeats the
/// former, and the latter comes without RetryInfo, which here always says when to come again.
#[derive(Clone)]
struct PlainRefusals<S> {
    inner: S,
    message_bytes_max: usize,
    counts: Arc<Counts>,
}

impl PlainRefusals<()> {
    fn around<S>(self, inner: S) -> PlainRefusals<S> {
        PlainRefusals { inner, message_bytes_max: self.message_bytes_max, counts: self.counts }
    }
}

impl<S: NamedService> NamedService for PlainRefusals<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for PlainRefusals<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        let (bytes_max, counts) = (self.message_bytes_max, Arc::clone(&self.counts));
        Box::pin(async move {
            let response = answer.await?;
            if !Status::from_header_map(response.headers()).is_some_and(|status| is_too_large(&status)) {
                return Ok(response);
            }
            counts.exports_refused_size.add(1);
            Ok(too_large(bytes_max).into_http())
        })
    }
}

/// What the transport says of a message above its bound; the receivers say neither.
fn is_too_large(status: &Status) -> bool {
    match status.code() {
        Code::OutOfRange => true,
        Code::ResourceExhausted => status.details().is_empty(),
        _ => false,
    }
}

fn too_large(bytes_max: usize) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("MESSAGE_TOO_LARGE", "attain", std::collections::HashMap::new());
    let message = format!("an export has at most {bytes_max} bytes, compressed or not; send less at once");
    Status::with_error_details(Code::InvalidArgument, message, details)
}
