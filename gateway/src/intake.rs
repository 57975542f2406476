//! Takes request bodies in: within their own bound and a bound over all of them, as JSON or as they came.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde_json::error::Category;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::json::document::Document;
use crate::json::{Violation, locate};
use crate::problem::Problem;

const KIB: usize = 1024;

/// Bounds on bodies.
#[derive(Debug)]
pub(crate) struct Intake {
    bytes_max: usize,
    /// One permit a KiB of body held.
    held: Arc<Semaphore>,
}

/// What a body may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// JSON.
    Json,
    /// Whatever the member that takes it can read.
    Anything,
}

/// A body and its share of the bound over all bodies.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    _held: Option<OwnedSemaphorePermit>,
}

impl Intake {
    pub(crate) fn new(bytes_max: usize, bytes_in_flight_max: usize) -> Self {
        let permits = bytes_in_flight_max.div_ceil(KIB).min(Semaphore::MAX_PERMITS);
        Self { bytes_max, held: Arc::new(Semaphore::new(permits)) }
    }

    /// Refuses what is too large, or of a type that is not `wanted`, by its headers, then reads it.
    pub(crate) async fn take(&self, headers: &HeaderMap, body: &mut Body, wanted: Wanted) -> Result<Taken, Problem> {
        check_type(headers, wanted)?;
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.bytes_max as u64) {
            return Err(self.too_large());
        }
        let mut taken = Taken { bytes: Vec::new(), _held: None };
        let mut chunks = std::mem::take(body).into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body broke off"))?;
            if let Err(problem) = self.add(&mut taken, &chunk) {
                // What is left goes back to be drained, so that the answer can be read.
                *body =
                    Body::new(http_body_util::StreamBody::new(chunks.map(|chunk| chunk.map(hyper::body::Frame::data))));
                return Err(problem);
            }
        }
        Ok(taken)
    }

    fn add(&self, taken: &mut Taken, chunk: &Bytes) -> Result<(), Problem> {
        let length = taken.bytes.len() + chunk.len();
        if length > self.bytes_max {
            return Err(self.too_large());
        }
        let missing = length.div_ceil(KIB) - taken.bytes.len().div_ceil(KIB);
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        let more = Arc::clone(&self.held).try_acquire_many_owned(missing).map_err(|_| Problem::overloaded())?;
        match &mut taken._held {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
        taken.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn too_large(&self) -> Problem {
        let detail = format!("the body is larger than {} bytes; send it in parts", self.bytes_max);
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    }
}

fn check_type(headers: &HeaderMap, wanted: Wanted) -> Result<(), Problem> {
    let refuse =
        |detail: String| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return refuse("compressed bodies are not read; send it plain".into());
    }
    if wanted == Wanted::Anything {
        return Ok(());
    }
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    let charset =
        given.to_ascii_lowercase().split("charset=").nth(1).map(|rest| rest.trim_matches(['"', ' ', ';']).to_owned());
    match (json, charset.as_deref()) {
        (true, None | Some("utf-8" | "utf8")) => Ok(()),
        (true, Some(_)) => refuse("JSON is read as UTF-8 only".into()),
        (false, _) if given.is_empty() => refuse("the header `content-type: application/json` is needed".into()),
        (false, _) => refuse(format!("the body has to be application/json, not {}", crate::json::echo::shorten(given))),
    }
}

/// Reads a body as JSON.
///
/// # Errors
/// 400 with line, column and, where it can be told, the pointer of the value that is no JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document<'_>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let reason = format!("the byte at offset {offset} is no UTF-8");
        malformed("invalid_utf8", locate::pointer_at(bytes, offset), reason)
    })?;
    Document::parse(text).map_err(|error| syntax(bytes, &error))
}

fn syntax(bytes: &[u8], error: &serde_json::Error) -> Problem {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return malformed("malformed_json", String::new(), "the body is empty".into());
    }
    let (line, column) = (error.line(), error.column());
    let early = error.classify() == Category::Eof;
    let offset = if early { bytes.len() } else { locate::offset_of(bytes, line, column) };
    let place = format!("line {line}, column {column}");
    let here = std::str::from_utf8(&bytes[offset..]).unwrap_or_default();
    if here.starts_with("NaN") || here.starts_with("Infinity") {
        let reason = format!("JSON has no NaN or infinity ({place}); leave the field out where there is no value");
        return malformed("not_finite", locate::pointer_at(bytes, offset), reason);
    }
    let what = error.to_string();
    let what = if early { "the body ends too early" } else { what.split(" at line ").next().unwrap_or_default() };
    malformed("malformed_json", locate::pointer_at(bytes, offset), format!("{what} ({place})"))
}

fn malformed(code: &str, pointer: String, reason: String) -> Problem {
    let mut problem = Problem::invalid(Violation { pointer, code: code.to_owned(), reason });
    problem.code = code.to_owned();
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_placed() {
        for (text, code, pointer, says) in [
            (&b"{\"buckets\":[{\"bad_count\": NaN}]}"[..], "not_finite", "/buckets/0/bad_count", "line 1, column 27"),
            (b"{\"a\": -Infinity}", "not_finite", "/a", "leave the field out"),
            (b"{\"a\": 1,\n}", "malformed_json", "", "line 2"),
            (b"{\"a\": [1, 2", "malformed_json", "/a/1", "ends too early"),
            (b"{\"a\": \"\xff\"}", "invalid_utf8", "/a", "offset 7"),
            (b"", "malformed_json", "", "empty"),
            (b"{} {}", "malformed_json", "", "trailing"),
            (b"{\"a\": 1e999}", "malformed_json", "/a", "range"),
        ] {
            let problem = parse(text).expect_err(code);
            let error = &problem.errors[0];
            let name = String::from_utf8_lossy(text);
            assert_eq!((problem.code.as_str(), error.pointer.as_str()), (code, pointer), "{name}");
            assert!(problem.detail.contains(says), "{name}: {}", problem.detail);
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let problem = parse("[".repeat(100_000).as_bytes()).expect_err("too deep");
        assert_eq!(problem.code, "malformed_json");
    }

    #[test]
    fn only_json_is_read() {
        let typed = |value: &str| HeaderMap::from_iter([(CONTENT_TYPE, value.parse().expect("a header"))]);
        for good in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON;charset=\"UTF-8\"",
            "application/merge-patch+json",
        ] {
            check_type(&typed(good), Wanted::Json).expect(good);
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
            assert_eq!(
                check_type(&typed(bad), Wanted::Json).expect_err(bad).status,
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            );
        }
        check_type(&HeaderMap::new(), Wanted::Json).expect_err("no type");
        for any in ["text/csv", "application/json; charset=latin1", "x"] {
            check_type(&typed(any), Wanted::Anything).expect(any);
        }
        let packed = HeaderMap::from_iter([(CONTENT_ENCODING, "gzip".parse().expect("a header"))]);
        check_type(&packed, Wanted::Anything).expect_err("packed");
    }

    #[tokio::test]
    async fn bodies_are_bounded_each_and_together() {
        let intake = Intake::new(2048, 2048);
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, "application/json".parse().expect("a header"))]);
        let take = async |bytes: usize| intake.take(&headers, &mut Body::from(vec![b' '; bytes]), Wanted::Json).await;
        let first = take(1500).await.expect("fits");
        assert_eq!(take(1500).await.expect_err("no room").status, StatusCode::SERVICE_UNAVAILABLE);
        drop(first);
        take(2048).await.expect("room again");
        assert_eq!(take(2049).await.expect_err("too large").status, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
