//! One request of OTLP/HTTP: admitted, read, decoded, taken, answered.

use std::sync::Arc;
use std::time::Instant;

use attain_runtime::admission::{self, overloaded};
use attain_runtime::context::CallContext;
use attain_runtime::gate::{Gate, Place};
use attain_runtime::readiness::Readiness;
use attain_runtime::serve::call_timeout;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::super::counts::Counts;
use super::super::receivers::{MetricsReceiver, TraceReceiver};
use super::super::sent::SentSpans;
use super::body::{Budget, Coding, Held, NoBody, throw_away};
use super::json::{Wrong, metrics_from_json, traces_from_json};
use super::reply::{Encoding, Reply, http_status, named};
use crate::Config;

/// Messages of the largest size that may be in memory at a time, as sent and decompressed.
const LARGEST_MESSAGES: usize = 8;

/// What exports share on their way in.
pub(super) struct Door {
    traces: Arc<TraceReceiver>,
    metrics: Arc<MetricsReceiver>,
    counts: Arc<Counts>,
    readiness: Readiness,
    gate: Gate,
    budget: Budget,
    message_bytes_max: usize,
    duration: Histogram<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Metrics => "/v1/metrics",
        }
    }

    fn of(path: &str) -> Option<Self> {
        [Self::Traces, Self::Metrics].into_iter().find(|signal| signal.path() == path)
    }
}

/// A refusal before a receiver was asked.
type Refusal = (StatusCode, Status);

impl Door {
    pub(super) fn new(
        config: &Config,
        (traces, metrics): (Arc<TraceReceiver>, Arc<MetricsReceiver>),
        counts: Arc<Counts>,
        readiness: Readiness,
    ) -> Self {
        let duration =
            opentelemetry::global::meter("attain").f64_histogram("http.server.request.duration").with_unit("s").build();
        Self {
            traces,
            metrics,
            counts,
            readiness,
            gate: admission::ingests_gate(config.limits.ingests_max),
            budget: Budget::new(config.otlp_message_bytes_max, LARGEST_MESSAGES),
            message_bytes_max: config.otlp_message_bytes_max,
            duration,
        }
    }

    /// Answers whatever comes.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Reply {
        let began = Instant::now();
        let signal = Signal::of(request.uri().path());
        let method = request.method().clone();
        let reply = match signal {
            Some(signal) => self.exchange(signal, request).await,
            None => self.elsewhere(&request),
        };
        let labels = [
            KeyValue::new("http.request.method", if method == Method::POST { "POST" } else { "_OTHER" }),
            KeyValue::new("http.route", signal.map_or("", Signal::path)),
            KeyValue::new("http.response.status_code", i64::from(reply.status().as_u16())),
            KeyValue::new("attain.service", "ingestion"),
        ];
        self.duration.record(began.elapsed().as_secs_f64(), &labels);
        reply
    }

    /// Health, and what is not there.
    fn elsewhere(&self, request: &Request<Incoming>) -> Reply {
        let encoding = encoding(request.headers()).unwrap_or(Encoding::Json);
        let path = request.uri().path();
        if path == "/healthz" && request.method() == Method::GET {
            let status = self.readiness.status();
            let missing = status.conditions.iter().find(|condition| condition.required && !condition.holds);
            return match missing {
                None => encoding.refused(StatusCode::OK, &Status::ok("ready")),
                Some(missing) => {
                    let text = format!("{}: {}", missing.name, missing.detail);
                    encoding.refused(StatusCode::SERVICE_UNAVAILABLE, &Status::unavailable(text))
                }
            };
        }
        let text = match path {
            "/v1/logs" => "logs are not kept here: send POST /v1/traces and /v1/metrics",
            "/v1development/profiles" => "profiles are not kept here: send POST /v1/traces and /v1/metrics",
            _ => "there is nothing at this path: send POST /v1/traces and /v1/metrics",
        };
        encoding.refused(StatusCode::NOT_FOUND, &named(Code::NotFound, "UNKNOWN_PATH", text))
    }

    async fn exchange(&self, signal: Signal, request: Request<Incoming>) -> Reply {
        let (parts, mut body) = request.into_parts();
        let encoding = match encoding(&parts.headers) {
            Ok(encoding) => encoding,
            Err((http, status)) => {
                self.counts.exports_refused_media_type.add(1);
                throw_away(body);
                return Encoding::Json.refused(http, &status);
            }
        };
        if parts.method != Method::POST {
            throw_away(body);
            let status = named(Code::Unimplemented, "METHOD_NOT_ALLOWED", "exports come by POST");
            return encoding.not_allowed("POST", &status);
        }
        match self.take(signal, encoding, &parts.headers, &mut body).await {
            Ok(reply) => reply,
            Err((http, status)) => {
                throw_away(body);
                encoding.refused(http, &status)
            }
        }
    }

    async fn take(
        &self,
        signal: Signal,
        encoding: Encoding,
        headers: &HeaderMap,
        body: &mut Incoming,
    ) -> Result<Reply, Refusal> {
        let coding = coding(headers).inspect_err(|_| self.counts.exports_refused_media_type.add(1))?;
        let context = CallContext::read(&MetadataMap::from_headers(headers.clone()), call_timeout())
            .map_err(|status| (http_status(&status), status))?;
        let held = self.budget.read(body).await.map_err(|why| self.no_body(why))?;
        // Only now: whoever sends slowly keeps nobody out.
        let _place = self.place().await?;
        let message = self.budget.decompress(coding, held).map_err(|why| self.no_body(why))?;
        match signal {
            Signal::Traces => {
                let from_json = |body: &[u8]| traces_from_json(body).map(|export| SentSpans::from(&export));
                let export = self.decode(encoding, &message, from_json)?;
                drop(message);
                let partial = self.traces.accept(context, export).await;
                partial.map(|partial| encoding.traces_taken(partial))
            }
            Signal::Metrics => {
                let export: ExportMetricsServiceRequest = self.decode(encoding, &message, metrics_from_json)?;
                drop(message);
                let partial = self.metrics.accept(context, export).await;
                partial.map(|partial| encoding.metrics_taken(partial))
            }
        }
        .map_err(|status| (http_status(&status), status))
    }

    async fn place(&self) -> Result<Place, Refusal> {
        admission::enter(&self.gate).await.map_err(|refused| self.busy(refused))
    }

    fn busy(&self, refused: Status) -> Refusal {
        self.counts.exports_refused_busy.add(1);
        (StatusCode::TOO_MANY_REQUESTS, refused)
    }

    fn no_body(&self, why: NoBody) -> Refusal {
        match why {
            NoBody::Busy => self.busy(overloaded()),
            NoBody::TooLarge => {
                self.counts.exports_refused_size.add(1);
                let text = format!(
                    "an export has at most {} bytes, compressed or not; send less at once",
                    self.message_bytes_max
                );
                (StatusCode::PAYLOAD_TOO_LARGE, named(Code::InvalidArgument, "MESSAGE_TOO_LARGE", text))
            }
            NoBody::Malformed => {
                self.counts.exports_malformed.add(1);
                let text = "the body is not compressed as Content-Encoding says";
                (StatusCode::BAD_REQUEST, named(Code::InvalidArgument, "MALFORMED_BODY", text))
            }
            NoBody::Interrupted => {
                let text = "the body did not come whole in time";
                (StatusCode::REQUEST_TIMEOUT, named(Code::DeadlineExceeded, "BODY_INTERRUPTED", text))
            }
        }
    }

    fn decode<M: Message + Default>(
        &self,
        encoding: Encoding,
        message: &Held,
        from_json: fn(&[u8]) -> Result<M, Wrong>,
    ) -> Result<M, Refusal> {
        let decoded = match encoding {
            Encoding::Protobuf => M::decode(message.bytes.as_slice()).map_err(|error| error.to_string()),
            Encoding::Json => from_json(&message.bytes).map_err(|wrong| wrong.to_string()),
        };
        decoded.map_err(|reason| {
            self.counts.exports_malformed.add(1);
            let text = format!("the body is no export: {reason}");
            (StatusCode::BAD_REQUEST, named(Code::InvalidArgument, "MALFORMED_BODY", text))
        })
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    [Encoding::Protobuf, Encoding::Json]
        .into_iter()
        .find(|known| known.media_type().eq_ignore_ascii_case(media_type))
        .ok_or_else(|| {
            let text = "Content-Type is application/x-protobuf or application/json";
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, named(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", text))
        })
}

fn coding(headers: &HeaderMap) -> Result<Coding, Refusal> {
    let said = headers.get(CONTENT_ENCODING).map_or(Ok(""), |value| value.to_str()).unwrap_or("?");
    match said.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        _ => {
            let text = "Content-Encoding is gzip, zstd or identity";
            Err((
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                named(Code::InvalidArgument, "UNSUPPORTED_CONTENT_ENCODING", text),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_a_body_is_stands_in_its_headers() {
        let headers = |name: http::HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        for (said, expected) in [
            ("application/json", Some(Encoding::Json)),
            ("application/json; charset=utf-8", Some(Encoding::Json)),
            ("Application/X-Protobuf", Some(Encoding::Protobuf)),
            ("application/protobuf", None),
            ("text/plain", None),
        ] {
            assert_eq!(encoding(&headers(CONTENT_TYPE, said)).ok(), expected, "{said}");
        }
        assert!(encoding(&HeaderMap::new()).is_err());
        for (said, expected) in [
            ("gzip", Some(Coding::Gzip)),
            ("ZSTD", Some(Coding::Zstd)),
            ("identity", Some(Coding::Identity)),
            ("br", None),
            ("gzip, gzip", None),
        ] {
            assert_eq!(coding(&headers(CONTENT_ENCODING, said)).ok(), expected, "{said}");
        }
        assert_eq!(coding(&HeaderMap::new()).ok(), Some(Coding::Identity));
    }
}
