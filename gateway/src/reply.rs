//! What every answer has: its headers, its request id, its entity tag.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};

use crate::limits::Allowance;
use crate::transcode::answer::{self, Answer};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_LEN_MAX: usize = 64;

/// An RPC's answer, or 304 where the caller holds it already.
pub(crate) fn respond(answer: Answer, parts: &Parts) -> Response<Body> {
    let Some(tag) = answer.tag else {
        return text("application/json", answer.body);
    };
    let reads = matches!(parts.method, http::Method::GET | http::Method::HEAD);
    let mut response = if reads && answer::is_known(&parts.headers, &tag) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        text("application/json", answer.body)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    response
}

/// A body that is not to be kept by caches.
pub(crate) fn text(media_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Headers that every answer carries.
pub(crate) fn finish(headers: &mut HeaderMap, allowance: Option<Allowance>, request_id: &str) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(allowance) = allowance {
        allowance.write(headers);
    }
}

/// Names requests: a random part for the process and a counter.
#[derive(Debug)]
pub(crate) struct Ids {
    process: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        // The standard library seeds its hashers from the system's randomness.
        Self { process: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    /// The caller's own id where it is short and plain, and no key that was put there by mistake.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        let plain = |text: &&str| {
            (1..=REQUEST_ID_LEN_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                && attain_redaction::redact(text).1 == 0
        };
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
        given.map_or_else(
            || format!("{:016x}-{:x}", self.process, self.next.fetch_add(1, Ordering::Relaxed)),
            str::to_owned,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_the_callers_where_they_are_plain() {
        let ids = Ids::new();
        let of = |value: &str| ids.of(&HeaderMap::from_iter([(REQUEST_ID, value.parse().expect("a header"))]));
        assert_eq!(of("abc-1.2_3"), "abc-1.2_3");
        for odd in ["", "a b", "<x>", &"x".repeat(65), &format!("{}_{}", "ghp", "0123456789".repeat(4))] {
            assert_ne!(of(odd), odd);
        }
        assert_ne!(ids.of(&HeaderMap::new()), ids.of(&HeaderMap::new()));
    }
}
