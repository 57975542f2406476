//! Calls of several classes, each answered, refused or failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use attain_members::{Mesh, post, rest_client};
use clap::ValueEnum;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::exporting::Exports;
use crate::template::Template;

/// Pairs of exports: more than one core takes while it is loaded.
const EXPORT_PAIRS: u64 = 6_000;
const CONNECTIONS: usize = 8;
const BUCKET_SECONDS: u64 = 300;
/// A day of one service: the default page of a read.
const BUCKETS_READ: u64 = 288;
const BUCKETS_WRITTEN: u64 = 250;
const WRITES: u64 = 256;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
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
    exports: Exports,
    /// Writes, made beforehand: making one takes longer than refusing it.
    writes: Vec<Template>,
    next: AtomicU64,
}

impl Caller {
    /// Connects, and puts the history there that is read.
    pub(crate) async fn prepare(mesh: &Mesh, class: Class) -> anyhow::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let pairs = if class == Class::OtlpSpans { EXPORT_PAIRS } else { 0 };
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
            exports: Exports::make(pairs, now.as_millis() as i64)?,
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
            Class::OtlpSpans => self.exports.send(self.otlp[number as usize % CONNECTIONS].clone()).await,
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

#[cfg(test)]
mod tests {
    use super::*;

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
