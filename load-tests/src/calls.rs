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
    export: Vec<u8>,
    /// Where the upper half of the trace id stands in the export.
    places: Vec<usize>,
    /// Writes, made beforehand: making one takes longer than refusing it.
    writes: Vec<Bytes>,
    next: AtomicU64,
}

impl Caller {
    /// Connects, and puts the history there that is read.
    pub(crate) async fn prepare(mesh: &Mesh) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let [export, _] = traffic.exports(0, TRACES_PER_EXPORT, now.as_millis() as i64);
        let export = export.encode_to_vec();
        let places = places(&export, &SEED.to_be_bytes());
        let mut otlp = Vec::new();
        for _ in 0..CONNECTIONS {
            otlp.push(Channel::from_shared(mesh.ingestion.otlp_address.clone())?.connect().await?);
        }
        let newest_bucket = now.as_secs() / BUCKET_SECONDS - 1;
        let write = |number: u64| {
            let service = format!("write-{}", number % 8);
            Bytes::from(buckets(newest_bucket, &service, number / 8 * BUCKETS_WRITTEN, BUCKETS_WRITTEN).to_string())
        };
        let caller = Self {
            gateway_url: mesh.gateway_url.clone(),
            rest: rest_client(),
            otlp,
            export,
            places,
            writes: (0..WRITES).map(write).collect(),
            next: AtomicU64::new(1),
        };
        let body = buckets(newest_bucket, "read-me", 0, BUCKETS_READ).to_string();
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
                let body = self.writes[(number % WRITES) as usize].clone();
                let request = self.rest.post(self.url("metrics")).header("content-type", "application/json");
                answer_of(request.body(body)).await
            }
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1/{path}", self.gateway_url)
    }

    /// The same spans with trace ids of their own.
    async fn export(&self, number: u64) -> Answer {
        let mut export = self.export.clone();
        let id = SEED.wrapping_add(number).to_be_bytes();
        for place in &self.places {
            export[*place..*place + id.len()].copy_from_slice(&id);
        }
        let channel = self.otlp[number as usize % CONNECTIONS].clone();
        let mut client = Grpc::new(channel);
        if client.ready().await.is_err() {
            return Answer::Failed;
        }
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(EXPORT_PATH);
        match client.unary(tonic::Request::new(Bytes::from(export)), path, Raw).await {
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

/// Every place at which `what` begins.
fn places(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    bytes.windows(what.len()).enumerate().filter(|(_, window)| *window == what).map(|(place, _)| place).collect()
}

fn buckets(newest_bucket: u64, service: &str, first: u64, count: u64) -> Value {
    let buckets = (first..first + count).map(|before| {
        let start = rfc3339((newest_bucket - before) * BUCKET_SECONDS);
        json!({"service_id": service, "start_time": start, "valid_count": 1000 + before % 90, "bad_count": before % 7})
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
    fn every_span_of_an_export_can_be_given_another_trace() {
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let [export, _] = traffic.exports(0, 3, 1_793_000_000_000);
        let spans: usize = export.resource_spans.iter().map(|of| of.scope_spans[0].spans.len()).sum();
        assert_eq!(places(&export.encode_to_vec(), &SEED.to_be_bytes()).len(), spans);
    }
}
