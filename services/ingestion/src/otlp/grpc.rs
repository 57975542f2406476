//! OTLP/gRPC: the protocol's services, with refusals that an exporter reads rightly.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::counts::Counts;
use super::receivers::{MetricsReceiver, TraceReceiver};

/// The services of the protocol; a message has at most so many bytes, compressed or not.
pub(super) fn routes(
    (traces, metrics): (Arc<TraceReceiver>, Arc<MetricsReceiver>),
    message_bytes_max: usize,
    counts: Arc<Counts>,
) -> Routes {
    let traces = TraceServiceServer::from_arc(traces)
        .max_decoding_message_size(message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let metrics = MetricsServiceServer::from_arc(metrics)
        .max_decoding_message_size(message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd);
    let plain = |counts: &Arc<Counts>| PlainRefusals { inner: (), message_bytes_max, counts: Arc::clone(counts) };
    Routes::new(plain(&counts).around(traces)).add_service(plain(&counts).around(metrics))
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
