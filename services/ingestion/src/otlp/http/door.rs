//! One request of OTLP/HTTP: admitted, read, decoded, taken, answered.

use std::sync::Arc;
use std::time::Instant;

use attain_runtime::readiness::Readiness;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::super::body::{Coding, throw_away};
use super::super::counts::Counts;
use super::super::receivers::{MetricsReceiver, TraceReceiver};
use super::super::refusal::named;
use super::super::sent::SentSpans;
use super::super::way_in::{WayIn, Written};
use super::json::{metrics_from_json, traces_from_json};
use super::reply::{Encoding, Reply};
use crate::Config;

/// What exports share on their way in.
pub(super) struct Door {
    traces: Arc<TraceReceiver>,
    metrics: Arc<MetricsReceiver>,
    counts: Arc<Counts>,
    readiness: Readiness,
    way_in: WayIn,
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

impl Door {
    pub(super) fn new(
        config: &Config,
        (traces, metrics): (Arc<TraceReceiver>, Arc<MetricsReceiver>),
        counts: Arc<Counts>,
        readiness: Readiness,
    ) -> Self {
        let duration =
            opentelemetry::global::meter("attain").f64_histogram("http.server.request.duration").with_unit("s").build();
        let way_in = WayIn::new(config, Arc::clone(&counts));
        Self { traces, metrics, counts, readiness, way_in, duration }
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
                None => encoding.said(StatusCode::OK, &Status::ok("ready")),
                Some(missing) => {
                    let text = format!("{}: {}", missing.name, missing.detail);
                    encoding.refused(&Status::unavailable(text))
                }
            };
        }
        let text = match path {
            "/v1/logs" => "logs are not kept here: send POST /v1/traces and /v1/metrics",
            "/v1development/profiles" => "profiles are not kept here: send POST /v1/traces and /v1/metrics",
            _ => "there is nothing at this path: send POST /v1/traces and /v1/metrics",
        };
        self.counts.exports_refused_path.add(1);
        encoding.refused(&named(Code::NotFound, "UNKNOWN_PATH", text))
    }

    async fn exchange(&self, signal: Signal, request: Request<Incoming>) -> Reply {
        let (parts, mut body) = request.into_parts();
        let encoding = match encoding(&parts.headers) {
            Ok(encoding) => encoding,
            Err(status) => {
                self.counts.exports_refused_media_type.add(1);
                throw_away(body);
                return Encoding::Json.refused(&status);
            }
        };
        if parts.method != Method::POST {
            self.counts.exports_refused_path.add(1);
            throw_away(body);
            let status = named(Code::Unimplemented, "METHOD_NOT_ALLOWED", "exports come by POST");
            return encoding.not_allowed("POST", &status);
        }
        match self.take(signal, encoding, &parts.headers, &mut body).await {
            Ok(reply) => reply,
            Err(status) => {
                throw_away(body);
                encoding.refused(&status)
            }
        }
    }

    async fn take(
        &self,
        signal: Signal,
        encoding: Encoding,
        headers: &HeaderMap,
        body: &mut Incoming,
    ) -> Result<Reply, Status> {
        let coding = coding(headers).inspect_err(|_| self.counts.exports_refused_media_type.add(1))?;
        let context = self.way_in.context(&MetadataMap::from_headers(headers.clone()))?;
        let mut knock = self.way_in.knock()?;
        let held = self.way_in.read(&mut knock, body, 0).await?;
        // Only now: whoever sends slowly keeps nobody out.
        let _place = self.way_in.place(knock).await?;
        let written = Written { coding, is_json: encoding == Encoding::Json };
        match signal {
            Signal::Traces => {
                let (export, _) = self.way_in.decoded(held, written, spans(encoding)).await?;
                let partial = self.way_in.answered(self.traces.accept(context, export).await)?;
                Ok(encoding.traces_taken(partial))
            }
            Signal::Metrics => {
                let (export, bytes) = self.way_in.decoded(held, written, points(encoding)).await?;
                let partial = self.way_in.answered(self.metrics.accept(context, export, bytes).await)?;
                Ok(encoding.metrics_taken(partial))
            }
        }
    }
}

fn spans(encoding: Encoding) -> fn(Bytes) -> Result<SentSpans, String> {
    match encoding {
        Encoding::Protobuf => |bytes| SentSpans::decode(bytes).map_err(|error| error.to_string()),
        Encoding::Json => {
            |bytes| traces_from_json(&bytes).map(|export| SentSpans::from(&export)).map_err(|wrong| wrong.to_string())
        }
    }
}

fn points(encoding: Encoding) -> fn(Bytes) -> Result<ExportMetricsServiceRequest, String> {
    match encoding {
        Encoding::Protobuf => |bytes| ExportMetricsServiceRequest::decode(bytes).map_err(|error| error.to_string()),
        Encoding::Json => |bytes| metrics_from_json(&bytes).map_err(|wrong| wrong.to_string()),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    [Encoding::Protobuf, Encoding::Json]
        .into_iter()
        .find(|known| known.media_type().eq_ignore_ascii_case(media_type))
        .ok_or_else(|| {
            let text = "Content-Type is application/x-protobuf or application/json";
            named(Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", text)
        })
}

fn coding(headers: &HeaderMap) -> Result<Coding, Status> {
    let said = headers.get(CONTENT_ENCODING).map_or(Ok(""), |value| value.to_str()).unwrap_or("?");
    match said.trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        _ => {
            let text = "Content-Encoding is gzip, zstd or identity";
            Err(named(Code::InvalidArgument, "UNSUPPORTED_CONTENT_ENCODING", text))
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
