//! Answers in the encoding of the request: the protocol's responses, or `google.rpc.Status`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::super::refusal::reason;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

pub(super) type Reply = Response<Full<Bytes>>;

impl Encoding {
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn reply(self, status: StatusCode, body: Vec<u8>) -> Reply {
        let mut reply = Response::new(Full::new(Bytes::from(body)));
        *reply.status_mut() = status;
        reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type()));
        reply
    }

    pub(super) fn traces_taken(self, partial_success: Option<ExportTracePartialSuccess>) -> Reply {
        let body = match self {
            Self::Protobuf => ExportTraceServiceResponse { partial_success }.encode_to_vec(),
            Self::Json => partial_json(
                partial_success.map(|partial| ("rejectedSpans", partial.rejected_spans, partial.error_message)),
            ),
        };
        self.reply(StatusCode::OK, body)
    }

    pub(super) fn metrics_taken(self, partial_success: Option<ExportMetricsPartialSuccess>) -> Reply {
        let body = match self {
            Self::Protobuf => ExportMetricsServiceResponse { partial_success }.encode_to_vec(),
            Self::Json => {
                let named = |partial: ExportMetricsPartialSuccess| {
                    ("rejectedDataPoints", partial.rejected_data_points, partial.error_message)
                };
                partial_json(partial_success.map(named))
            }
        };
        self.reply(StatusCode::OK, body)
    }

    /// A refusal. What the sender may send again says when; by the protocol that is 429, 502, 503 and 504 only.
    pub(super) fn refused(self, status: &Status) -> Reply {
        self.said(http_status(status), status)
    }

    /// A status under an HTTP status of the caller's choice.
    pub(super) fn said(self, http: StatusCode, status: &Status) -> Reply {
        let body = match self {
            Self::Protobuf => status_protobuf(status),
            Self::Json => status_json(status).to_string().into_bytes(),
        };
        let mut reply = self.reply(http, body);
        let retryable = matches!(http.as_u16(), 429 | 502 | 503 | 504);
        if retryable {
            let seconds = retry_delay(status).unwrap_or(Duration::from_secs(1)).as_secs_f64().ceil() as u64;
            reply.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        reply
    }

    /// 405: what this path takes.
    pub(super) fn not_allowed(self, allowed: &'static str, status: &Status) -> Reply {
        let mut reply = self.refused(status);
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        reply
    }
}

/// The HTTP status that the protocol has for what a receiver said.
pub(super) fn http_status(status: &Status) -> StatusCode {
    match reason(status).as_str() {
        "MESSAGE_TOO_LARGE" => return StatusCode::PAYLOAD_TOO_LARGE,
        "UNSUPPORTED_MEDIA_TYPE" | "UNSUPPORTED_CONTENT_ENCODING" => return StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "METHOD_NOT_ALLOWED" => return StatusCode::METHOD_NOT_ALLOWED,
        _ => {}
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::AlreadyExists => {
            StatusCode::BAD_REQUEST
        }
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        // Each of these may be sent again.
        Code::Unavailable | Code::Aborted | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn partial_json(partial: Option<(&str, i64, String)>) -> Vec<u8> {
    let body = match partial {
        None => json!({}),
        Some((name, rejected, message)) => {
            json!({"partialSuccess": {name: rejected.to_string(), "errorMessage": message}})
        }
    };
    body.to_string().into_bytes()
}

fn retry_delay(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// A status with details carries itself, encoded.
fn status_protobuf(status: &Status) -> Vec<u8> {
    if status.details().is_empty() {
        let plain = tonic_types::pb::Status {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        };
        return plain.encode_to_vec();
    }
    status.details().to_vec()
}

/// As proto3 JSON: of the details those that receivers send, the others as their bytes.
fn status_json(status: &Status) -> Value {
    let carried = tonic_types::pb::Status::decode(status.details()).unwrap_or_default();
    let details: Vec<Value> = carried
        .details
        .iter()
        .map(|detail| match detail.type_url.rsplit('/').next() {
            Some("google.rpc.RetryInfo") => {
                let delay = retry_delay(status).unwrap_or_default().as_secs_f64();
                json!({"@type": detail.type_url, "retryDelay": format!("{delay}s")})
            }
            Some("google.rpc.ErrorInfo") => {
                let info = status.get_details_error_info();
                let (reason, domain) = info.map(|info| (info.reason, info.domain)).unwrap_or_default();
                json!({"@type": detail.type_url, "reason": reason, "domain": domain})
            }
            _ => json!({"@type": detail.type_url, "value": STANDARD.encode(&detail.value)}),
        })
        .collect();
    json!({"code": status.code() as i32, "message": status.message(), "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_runtime::admission::overloaded;

    #[test]
    fn a_status_is_written_in_both_encodings() {
        let written = status_json(&overloaded());
        assert_eq!((&written["code"], written["details"].as_array().map(Vec::len)), (&json!(8), Some(2)));
        let details = written["details"].as_array().expect("details");
        let retry = details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.RetryInfo");
        assert_eq!(retry.expect("a retry info")["retryDelay"], "1s");
        let decoded = tonic_types::pb::Status::decode(status_protobuf(&overloaded()).as_slice()).expect("a status");
        assert_eq!((decoded.code, decoded.details.len()), (8, 2));
        let plain = tonic_types::pb::Status::decode(status_protobuf(&Status::internal("no")).as_slice()).expect("one");
        assert_eq!((plain.code, plain.message.as_str()), (13, "no"));
    }

    #[test]
    fn what_may_be_sent_again_says_when() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let reply = encoding.refused(&overloaded());
            assert_eq!(reply.headers()[RETRY_AFTER], "1");
            assert_eq!(reply.headers()[CONTENT_TYPE], encoding.media_type());
            let reply = encoding.refused(&Status::invalid_argument("no"));
            assert!(!reply.headers().contains_key(RETRY_AFTER));
        }
    }

    #[test]
    fn partial_success_is_written_as_the_protocol_says() {
        assert_eq!(partial_json(None), b"{}");
        let written = partial_json(Some(("rejectedSpans", 3, "bad".into())));
        let expected = json!({"partialSuccess": {"rejectedSpans": "3", "errorMessage": "bad"}});
        assert_eq!(serde_json::from_slice::<Value>(&written).expect("json"), expected);
    }
}
