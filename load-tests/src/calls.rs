//! Calls of several classes, each answered, refused or failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use attain_members::{Mesh, post, rest_client};
use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;

use crate::sending::retry_delay;
use crate::traffic::Traffic;

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const TRACES_PER_EXPORT: u64 = 50;
const CONNECTIONS: usize = 8;
const BUCKET_SECONDS: u64 = 300;
/// A day of one service: the default page of a read.
const BUCKETS_READ: u64 = 288;
const BUCKETS_WRITTEN: u64 = 250;
const WRITES: u64 = 256;
/// Marks the places of the trace id in an encoded export.
const SEED: u64 = 0x5eed_0f7e_57ab_1e55;
/// Marks the places of the requests in a written bucket; each write puts a number of its own there, as many digits long.
const VALID_COUNT: u64 = 700_000_007;

/// What a caller got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Accepted,
    /// Told to come again later, with a time.
    Refused,
    /// Told to come again later, without a time.
    RefusedWithoutTime,
    Failed,
}

/// One class of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    OtlpSpans,
    RestReads,
    RestWrites,
}

impl Class {
    pub(crate) const ALL: [Self; 3] = [Self::OtlpSpans, Self::RestReads, Self::RestWrites];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OtlpSpans => "otlp_spans",
            Self::RestReads => "rest_reads",
            Self::RestWrites => "rest_writes",
        }
    }
}

/// Everything that is needed to make a call.
#[derive(Debug)]
pub(crate) struct Caller {
    gateway_url: String,
    rest: reqwest::Client,
    otlp: Vec<Channel>,
    /// The two parts of some traces, as two services would send them.
    exports: [Template; 2],
    /// Writes, made beforehand: making one takes longer than refusing it.
    writes: Vec<Template>,
    next: AtomicU64,
}

impl Caller {
    /// Connects, and puts the history there that is read.
    pub(crate) async fn prepare(mesh: &Mesh) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let exports = traffic.exports(0, TRACES_PER_EXPORT, now.as_millis() as i64);
        let exports = exports.map(|export| Template::new(export.encode_to_vec(), &SEED.to_be_bytes()));
        let mut otlp = Vec::new();
        for _ in 0..CONNECTIONS {
            otlp.push(Channel::from_shared(mesh.ingestion.otlp_address.clone())?.connect().await?);
        }
        let newest_bucket = now.as_secs() / BUCKET_SECONDS - 1;
        let write = |number: u64| {
            let service = format!("write-{}", number % 8);
            let first = number / 8 * BUCKETS_WRITTEN;
            let body = buckets(newest_bucket, &service, first, BUCKETS_WRITTEN, |_| VALID_COUNT).to_string();
            Template::new(body.into_bytes(), VALID_COUNT.to_string().as_bytes())
        };
        let caller = Self {
            gateway_url: mesh.gateway_url.clone(),
            rest: rest_client(),
            otlp,
            exports,
            writes: (0..WRITES).map(write).collect(),
            next: AtomicU64::new(1),
        };
        let body = buckets(newest_bucket, "read-me", 0, BUCKETS_READ, |before| 1000 + before % 90).to_string();
        let (status, answer) = post(&caller.rest, &caller.url("metrics"), body).await?;
        ensure!(status == 200, "{status}: {answer}");
        Ok(caller)
    }

    /// Makes one call.
    pub(crate) async fn call(&self, class: Class) -> Answer {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match class {
            Class::OtlpSpans => self.export(number).await,
            Class::RestReads => {
                let path = format!("services/read-me/metrics?page_size={BUCKETS_READ}");
                answer_of(self.rest.get(self.url(&path))).await
            }
            Class::RestWrites => {
                // No bucket of it is as it is stored.
                let valid_count = (VALID_COUNT + number).to_string();
                let body = self.writes[(number % WRITES) as usize].with(valid_count.as_bytes());
                let request = self.rest.post(self.url("metrics")).header("content-type", "application/json");
                answer_of(request.body(body)).await
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.gateway_url)
    }

    /// The same spans with trace ids of their own: two calls after one another bring the two parts of the same traces.
    async fn export(&self, number: u64) -> Answer {
        let id = SEED.wrapping_add(number / 2).to_be_bytes();
        let export = self.exports[(number % 2) as usize].with(&id);
        let channel = self.otlp[number as usize % CONNECTIONS].clone();
        let mut client = Grpc::new(channel);
        if client.ready().await.is_err() {
            return Answer::Failed;
        }
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(EXPORT_PATH);
        match client.unary(tonic::Request::new(export), path, Raw).await {
            Ok(_) => Answer::Accepted,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                if retry_delay(&status).is_some() {
                    Answer::Refused
                } else {
                    Answer::RefusedWithoutTime
                }
            }
            Err(_) => Answer::Failed,
        }
    }
}

async fn answer_of(request: reqwest::RequestBuilder) -> Answer {
    let Ok(response) = request.send().await else { return Answer::Failed };
    let status = response.status().as_u16();
    let timed = response.headers().contains_key("retry-after");
    // An answer is there when its last byte is.
    if response.bytes().await.is_err() {
        return Answer::Failed;
    }
    match (status, timed) {
        (200..=299, _) => Answer::Accepted,
        (429 | 503, true) => Answer::Refused,
        (429 | 503, false) => Answer::RefusedWithoutTime,
        _ => Answer::Failed,
    }
}

/// A body with places that each call fills in.
#[derive(Debug)]
struct Template {
    body: Vec<u8>,
    places: Vec<usize>,
}

impl Template {
    /// Marked by `what` wherever it stands.
    fn new(body: Vec<u8>, what: &[u8]) -> Self {
        let places = places(&body, what);
        Self { body, places }
    }

    /// The body with something as long in those places.
    fn with(&self, filled: &[u8]) -> Bytes {
        let mut body = self.body.clone();
        for place in &self.places {
            body[*place..*place + filled.len()].copy_from_slice(filled);
        }
        Bytes::from(body)
    }
}

/// Every place at which `what` begins.
fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what).map(|(place, _)| place).collect()
}

fn buckets(newest_bucket: u64, service: &str, first: u64, count: u64, valid_count: fn(u64) -> u64) -> Value {
    let buckets = (first..first + count).map(|before| {
        let start = rfc3339((newest_bucket - before) * BUCKET_SECONDS);
        let valid_count = valid_count(before);
        json!({"service_id": service, "start_time": start, "valid_count": valid_count, "bad_count": before % 7})
    });
    json!({"buckets": buckets.collect::<Vec<_>>()})
}

fn rfc3339(seconds: u64) -> String {
    jiff::Timestamp::from_second(seconds as i64).unwrap_or_default().to_string()
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_of_both_parts_can_be_given_another_trace() {
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let exports = traffic.exports(0, 3, 1_793_000_000_000);
        let spans = exports.each_ref().map(|export| {
            let spans: usize = export.resource_spans.iter().map(|of| of.scope_spans[0].spans.len()).sum();
            assert_eq!(Template::new(export.encode_to_vec(), &SEED.to_be_bytes()).places.len(), spans);
            spans as u64
        });
        assert_eq!(spans.iter().sum::<u64>(), 3 * crate::traffic::SPANS_PER_TRACE, "together whole traces");
    }

    #[test]
    fn every_bucket_of_a_write_is_new() {
        let body = buckets(5_976_000, "write-1", 250, BUCKETS_WRITTEN, |_| VALID_COUNT).to_string();
        let template = Template::new(body.into_bytes(), VALID_COUNT.to_string().as_bytes());
        let filled = template.with((VALID_COUNT + 5).to_string().as_bytes());
        let filled: Value = serde_json::from_slice(&filled).expect("JSON");
        let buckets = filled["buckets"].as_array().expect("a list");
        assert_eq!(buckets.len() as u64, BUCKETS_WRITTEN);
        assert!(buckets.iter().all(|bucket| bucket["valid_count"] == VALID_COUNT + 5));
    }
}
