//! Problem documents (RFC 9457): what a caller is told when a request fails, and nothing of the mesh's insides.

use std::time::Duration;

use attain_redaction::redact;
use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::json::Violation;
use crate::told;

const CONTENT_TYPE: &str = "application/problem+json";
const TYPE_PREFIX: &str = "urn:attain:problem:";
/// Who signs the error details that may be passed on.
const ERROR_DOMAIN: &str = "attain";
/// Metadata of an error that names the version that is there, where another was expected.
const FOUND_VERSION: &str = "found_version";
/// When a caller should try again where nobody said.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A failed request.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable, in snake case.
    pub(crate) code: String,
    pub(crate) detail: Box<str>,
    pub(crate) errors: Vec<Violation>,
    /// The version that is there, where the request expected another.
    pub(crate) current_version: Option<u32>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    instance: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Entry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_version: Option<u32>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct Entry<'a> {
    pointer: String,
    code: &'a str,
    reason: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            detail: detail.into().into_boxed_str(),
            errors: Vec::new(),
            current_version: None,
            retry_after: None,
            headers: Vec::new(),
        }
    }

    /// The request as a whole cannot be read.
    pub(crate) fn invalid(violation: Violation) -> Self {
        let place = if violation.pointer.is_empty() { String::new() } else { format!("{}: ", violation.pointer) };
        let detail = format!("{place}{}", violation.reason);
        Self { errors: vec![violation], ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail) }
    }

    pub(crate) fn internal() -> Self {
        let detail = "the gateway failed; the request id names the request in its logs";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub(crate) fn deadline() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", "the answer did not come within the deadline")
    }

    pub(crate) fn overloaded() -> Self {
        let detail = "too many requests in flight; try again shortly";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).retry_after(RETRY_DELAY)
    }

    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// What a member answered, as far as a caller may know it. `member` is its name.
    pub(crate) fn from_status(status: &Status, member: &str) -> Self {
        let details = status.get_error_details();
        let signed = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let (http, generic) = http_of(status.code());
        let code = signed.map_or_else(|| generic.to_owned(), |info| info.reason.to_ascii_lowercase());
        let detail = if signed.is_some() || speaks_to_the_caller(status.code()) {
            sentence(status.message(), generic)
        } else {
            insides(status.code(), member)
        };
        let violations = details.bad_request().map(|request| request.field_violations.as_slice()).unwrap_or_default();
        let errors =
            violations.iter().map(|violation| field_violation(&violation.field, &violation.description)).collect();
        let current_version =
            signed.and_then(|info| info.metadata.get(FOUND_VERSION)).and_then(|version| version.parse().ok());
        let retry = details.retry_info().and_then(|info| info.retry_delay);
        let waits = matches!(http, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after = retry.or_else(|| waits.then_some(RETRY_DELAY));
        Self { errors, current_version, retry_after, ..Self::new(http, &code, detail) }
    }

    /// The document as a response. `instance` is the path that was asked for.
    pub(crate) fn into_response(self, instance: &str, request_id: &str) -> Response<Body> {
        // Whatever a caller sent may stand in it, such as a name that is not known.
        let said = |text: &str| redact(text).0.into_owned();
        let document = Document {
            r#type: format!("{TYPE_PREFIX}{}", self.code),
            title: title(&self.code),
            status: self.status.as_u16(),
            detail: said(&self.detail),
            instance: told::path(instance).into_owned(),
            code: &self.code,
            errors: self
                .errors
                .iter()
                .map(|error| Entry { pointer: said(&error.pointer), code: &error.code, reason: said(&error.reason) })
                .collect(),
            current_version: self.current_version,
            request_id,
        };
        let body = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(delay) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(delay)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"attain\""));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// Rounded up: a caller who waits this long is let through.
pub(crate) fn whole_seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// The status and the code of a gRPC code that says nothing more of itself.
fn http_of(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_request"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "forbidden"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        // Neither is cured by sending the same request again: the caller has to read the present state first.
        Code::Aborted => (StatusCode::CONFLICT, "conflict"),
        Code::FailedPrecondition => (StatusCode::CONFLICT, "failed_precondition"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "not_implemented"),
        // A member that stops cancels what it has in flight; the caller is still there.
        Code::Unavailable | Code::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        // An answer that says OK never gets here as a failure.
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

/// Whether a message under this code is written for whoever sent the request.
fn speaks_to_the_caller(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::ResourceExhausted => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

fn insides(code: Code, member: &str) -> String {
    match code {
        Code::Unavailable | Code::Cancelled => format!("{member} cannot be reached at the moment"),
        Code::DeadlineExceeded => format!("{member} did not answer within the deadline"),
        Code::Unimplemented => format!("{member} does not serve this yet"),
        _ => format!("{member} failed; the request id names the request in its logs"),
    }
}

fn sentence(message: &str, generic: &str) -> String {
    if message.is_empty() { title(generic) } else { message.to_owned() }
}

/// `buckets/3/bad_count` with `bad_exceeds_valid: 5 of 3` as a violation.
fn field_violation(field: &str, description: &str) -> Violation {
    let is_code = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let (code, reason) = match description.split_once(": ") {
        Some((code, reason)) if is_code(code) => (code, reason),
        _ => ("invalid_value", description),
    };
    let pointer = format!("/{}", field.trim_start_matches('/').replace('.', "/"));
    Violation { pointer, code: code.to_owned(), reason: reason.to_owned() }
}

/// `rate_limited` as `Rate limited`.
fn title(code: &str) -> String {
    let mut words = code.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_code_has_a_status_of_its_class() {
        for number in 1..=16 {
            let (status, code) = http_of(Code::from_i32(number));
            assert!(status.is_client_error() || status.is_server_error(), "{number}");
            assert!(!code.is_empty());
        }
    }

    #[test]
    fn violations_keep_field_code_and_reason() {
        let mut details =
            ErrorDetails::with_bad_request_violation("target_ratio", "out_of_range: 1.5 is outside (0, 1)");
        details.set_error_info("INVALID_TARGET", "attain", [("k".to_owned(), "v".to_owned())]);
        let status = Status::with_error_details(Code::InvalidArgument, "the target is out of range", details);
        let problem = Problem::from_status(&status, "recommendation");
        assert_eq!((problem.status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "invalid_target"));
        let expected = Violation {
            pointer: "/target_ratio".into(),
            code: "out_of_range".into(),
            reason: "1.5 is outside (0, 1)".into(),
        };
        assert_eq!(problem.errors, [expected]);
    }

    #[test]
    fn insides_are_not_passed_on() {
        for code in [
            Code::Internal,
            Code::Unknown,
            Code::DataLoss,
            Code::Unavailable,
            Code::Unauthenticated,
            Code::DeadlineExceeded,
        ] {
            let problem = Problem::from_status(&Status::new(code, "SELECT secret FROM 10.0.0.1"), "ingestion");
            assert!(!problem.detail.contains("SELECT"), "{code:?}");
            assert!(problem.detail.contains("ingestion"), "{code:?}");
        }
    }

    #[test]
    fn a_version_that_is_not_the_one_expected_is_named() {
        let found = [("found_version".to_owned(), "3".to_owned())];
        let details = ErrorDetails::with_error_info("VERSION_MISMATCH", "attain", found);
        let status = Status::with_error_details(Code::Aborted, "version 3 is in force, not 2", details);
        assert_eq!(Problem::from_status(&status, "recommendation").current_version, Some(3));
        assert_eq!(Problem::from_status(&Status::aborted("no"), "recommendation").current_version, None);
    }

    #[test]
    fn what_a_member_signs_is_passed_on_with_its_delay() {
        let mut details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1500)));
        details.set_error_info("STORAGE_DOWN", "attain", [("k".to_owned(), "v".to_owned())]);
        let status = Status::with_error_details(Code::Unavailable, "storage does not answer", details);
        let problem = Problem::from_status(&status, "ingestion");
        assert_eq!((problem.code.as_str(), &*problem.detail), ("storage_down", "storage does not answer"));
        let response = problem.into_response("/x", "id");
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(response.headers()[header::CONTENT_TYPE], CONTENT_TYPE);
    }
}
