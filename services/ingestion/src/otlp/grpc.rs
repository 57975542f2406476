//! OTLP/gRPC: the protocol's two services. A call is read by hand: the transport's own way reads and decodes it in one step,
//! within no bounds of time or memory, and answers what is too large as if it could be sent again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use attain_runtime::context::CallContext;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_server,
};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceResponse, trace_service_server};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::{Code, Status};

use super::body::{Coding, Held, throw_away};
use super::counts::Counts;
use super::receivers::{MetricsReceiver, TraceReceiver};
use super::refusal::named;
use super::sent::SentSpans;
use super::way_in::{WayIn, Written};
use crate::Config;

/// What stands before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const STATUS: &str = "grpc-status";

/// The services of the protocol.
pub(super) fn routes(
    (traces, metrics): (Arc<TraceReceiver>, Arc<MetricsReceiver>),
    config: &Config,
    counts: &Arc<Counts>,
) -> Routes {
    let way_in = Arc::new(WayIn::new(config, Arc::clone(counts)));
    let shared = || (Arc::clone(&way_in), Arc::clone(counts));
    Routes::new(Server::new(traces, shared())).add_service(Server::new(metrics, shared()))
}

/// One of the protocol's services: it has one method, with one message and one answer.
trait Receiver: Send + Sync + 'static {
    const SERVICE: &'static str;
    const EXPORT: &'static str;
    type Sent: Message + Default + 'static;
    type Answer: Message + Default + 'static;

    fn take(
        &self,
        context: CallContext,
        sent: Self::Sent,
        bytes: usize,
    ) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

impl Receiver for TraceReceiver {
    const SERVICE: &'static str = trace_service_server::SERVICE_NAME;
    const EXPORT: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    type Sent = SentSpans;
    type Answer = ExportTraceServiceResponse;

    async fn take(&self, context: CallContext, sent: SentSpans, _: usize) -> Result<Self::Answer, Status> {
        Ok(ExportTraceServiceResponse { partial_success: self.accept(context, sent).await? })
    }
}

impl Receiver for MetricsReceiver {
    const SERVICE: &'static str = metrics_service_server::SERVICE_NAME;
    const EXPORT: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
    type Sent = ExportMetricsServiceRequest;
    type Answer = ExportMetricsServiceResponse;

    async fn take(&self, context: CallContext, sent: Self::Sent, bytes: usize) -> Result<Self::Answer, Status> {
        Ok(ExportMetricsServiceResponse { partial_success: self.accept(context, sent, bytes).await? })
    }
}

struct Server<R> {
    receiver: Arc<R>,
    way_in: Arc<WayIn>,
    counts: Arc<Counts>,
}

impl<R> Server<R> {
    fn new(receiver: Arc<R>, (way_in, counts): (Arc<WayIn>, Arc<Counts>)) -> Self {
        Self { receiver, way_in, counts }
    }
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.receiver), (Arc::clone(&self.way_in), Arc::clone(&self.counts)))
    }
}

impl<R: Receiver> NamedService for Server<R> {
    const NAME: &'static str = R::SERVICE;
}

impl<R: Receiver> Service<Request<Body>> for Server<R> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            if request.uri().path() != R::EXPORT {
                server.counts.exports_refused_path.add(1);
                return Ok(Status::unimplemented("the service has no such method").into_http());
            }
            let (parts, mut body) = request.into_parts();
            Ok(match server.export(parts.headers, &mut body).await {
                Ok(answer) => answered(&answer),
                Err(status) => {
                    throw_away(body);
                    status.into_http()
                }
            })
        })
    }
}

impl<R: Receiver> Server<R> {
    async fn export(&self, headers: HeaderMap, body: &mut Body) -> Result<R::Answer, Status> {
        let coding = coding(&headers).inspect_err(|_| self.counts.exports_refused_media_type.add(1))?;
        let context = self.way_in.context(&MetadataMap::from_headers(headers))?;
        let mut knock = self.way_in.knock()?;
        let framed = self.way_in.read(&mut knock, body, PREFIX_BYTES).await?;
        let (held, coding) = unframed(framed, coding).map_err(|reason| self.way_in.malformed(reason))?;
        // Only now: whoever sends slowly keeps nobody out.
        let _place = self.way_in.place(knock).await?;
        let decode = |message: Bytes| R::Sent::decode(message).map_err(|error| error.to_string());
        let (sent, bytes) = self.way_in.decoded(held, Written { coding, is_json: false }, decode).await?;
        self.way_in.answered(self.receiver.take(context, sent, bytes).await)
    }
}

/// How messages that say so are compressed; `None` where none may be.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, Status> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(None),
        Some(b"gzip") => Ok(Some(Coding::Gzip)),
        Some(b"zstd") => Ok(Some(Coding::Zstd)),
        Some(_) => {
            // The code that gRPC has for it.
            let mut refused =
                named(Code::Unimplemented, "UNSUPPORTED_CONTENT_ENCODING", "grpc-encoding is gzip, zstd or identity");
            refused.metadata_mut().insert(ACCEPT_ENCODING, MetadataValue::from_static("identity,gzip,zstd"));
            Err(refused)
        }
    }
}

/// The one message of a call, without what stands before it.
fn unframed(mut held: Held, coding: Option<Coding>) -> Result<(Held, Coding), &'static str> {
    let message = held.bytes.split_off(PREFIX_BYTES.min(held.bytes.len()));
    let prefix = <[u8; PREFIX_BYTES]>::try_from(&held.bytes[..]).map_err(|_| "there is no message")?;
    let [compressed, length @ ..] = prefix;
    if u32::from_be_bytes(length) as usize != message.len() {
        return Err("there is not exactly one whole message");
    }
    let coding = match (compressed, coding) {
        (0, _) => Coding::Identity,
        (1, Some(coding)) => coding,
        (1, None) => return Err("a message is compressed, and grpc-encoding does not say how"),
        _ => return Err("a message is neither compressed nor not"),
    };
    Ok((Held { bytes: message, share: held.share }, coding))
}

fn answered(answer: &impl Message) -> Response<Body> {
    let length = answer.encoded_len();
    let mut message = BytesMut::with_capacity(PREFIX_BYTES + length);
    message.put_u8(0);
    message.put_u32(length as u32);
    message.put_slice(&answer.encode_to_vec());
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static(STATUS), HeaderValue::from_static("0"))]);
    let frames = [Frame::data(message.freeze()), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(futures::stream::iter(frames))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::body::Budget;
    use super::*;
    use attain_runtime::admission::Limits;
    use futures::poll;
    use tonic_types::StatusExt as _;

    /// Takes exports and never answers.
    struct Never;

    impl Receiver for Never {
        const SERVICE: &'static str = "never";
        const EXPORT: &'static str = "/never/Export";
        type Sent = ();
        type Answer = ();

        async fn take(&self, _: CallContext, (): (), _: usize) -> Result<(), Status> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn where_there_is_no_place_an_export_is_refused_before_its_body_comes() {
        let limits = Limits { ingests_max: 1, ..Limits::default() };
        let counts = Arc::new(Counts::default());
        let way_in = Arc::new(WayIn::new(&Config { limits, ..Config::default() }, Arc::clone(&counts)));
        let mut server = Server::new(Arc::new(Never), (way_in, Arc::clone(&counts)));
        let mut call = |body: Body| server.call(Request::post(Never::EXPORT).body(body).expect("a request"));
        let nothing = || Body::new(StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>()));

        let mut inside = call(Body::new(http_body_util::Full::new(Bytes::from_static(&[0; PREFIX_BYTES]))));
        assert!(poll!(&mut inside).is_pending());
        let mut coming = call(nothing());
        assert!(poll!(&mut coming).is_pending(), "there is room for one to wait");
        let Poll::Ready(Ok(refused)) = poll!(call(nothing())) else { panic!("its body is waited for") };
        let status = Status::from_header_map(refused.headers()).expect("a status");
        assert_eq!((status.code(), counts.exports_refused_busy.value()), (Code::ResourceExhausted, 1));
        assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));

        // Who does not come is not waited for by others.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(poll!(&mut coming).is_pending());
        assert!(poll!(call(nothing())).is_pending());
    }

    async fn read(bytes: &[u8]) -> Held {
        let budget = Budget::new(1 << 20, 1, Duration::from_secs(30));
        budget.read(&mut http_body_util::Full::new(Bytes::copy_from_slice(bytes)), PREFIX_BYTES).await.expect("whole")
    }

    #[tokio::test]
    async fn a_call_has_exactly_one_message() {
        for (bytes, said, expected) in [
            (&b"\0\0\0\0\x03abc"[..], None, Ok((&b"abc"[..], Coding::Identity))),
            (b"\0\0\0\0\x03abc", Some(Coding::Gzip), Ok((b"abc", Coding::Identity))),
            (b"\x01\0\0\0\x03abc", Some(Coding::Zstd), Ok((b"abc", Coding::Zstd))),
            (b"\0\0\0\0\0", None, Ok((b"", Coding::Identity))),
            (b"\x01\0\0\0\x03abc", None, Err("grpc-encoding")),
            (b"\x02\0\0\0\x03abc", None, Err("neither")),
            (b"\0\0\0\0\x04abc", None, Err("exactly one")),
            (b"\0\0\0\0\x01ab", None, Err("exactly one")),
            (b"\0\0\0", None, Err("no message")),
            (b"", None, Err("no message")),
        ] {
            let unframed = unframed(read(bytes).await, said);
            let told = unframed.as_ref().map(|(held, coding)| (&held.bytes[..], *coding));
            match expected {
                Ok(expected) => assert_eq!(told, Ok(expected), "{bytes:?}"),
                Err(named) => assert!(told.is_err_and(|reason| reason.contains(named)), "{bytes:?}: {told:?}"),
            }
        }
    }
}
