//! Exports over OTLP/gRPC as the Collector sends them, compressed by gzip, each with traces of its own. They are made beforehand:
//! making one takes longer than refusing it. What was refused is sent again.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use tonic::body::Body;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use crate::calls::Answer;
use crate::sending::retry_delay;
use crate::template::Template;
use crate::traffic::Traffic;

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// As many as make their first parts the largest batch of an SDK as it is set: 512 spans.
const TRACES_PER_EXPORT: u64 = 128;
/// Marks the places of the trace id in an encoded export.
const SEED: u64 = 0x5eed_0f7e_57ab_1e55;

/// Exports that were not accepted yet.
#[derive(Debug)]
pub(crate) struct Exports(Mutex<VecDeque<Bytes>>);

impl Exports {
    /// So many pairs, each the two parts of some traces that ended at `now_ms`, as two services would send them.
    pub(crate) fn make(pairs: u64, now_ms: i64) -> anyhow::Result<Self> {
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let parts = traffic.exports(0, TRACES_PER_EXPORT, now_ms);
        let parts = parts.map(|export| Template::new(export.encode_to_vec(), &SEED.to_be_bytes()));
        let mut made = VecDeque::new();
        for pair in 0..pairs {
            for part in &parts {
                made.push_back(message(&part.with(&SEED.wrapping_add(pair).to_be_bytes()))?);
            }
        }
        Ok(Self(Mutex::new(made)))
    }

    /// Sends the next.
    pub(crate) async fn send(&self, channel: Channel) -> Answer {
        let Some(message) = self.waiting().pop_front() else { return Answer::Failed };
        let answer = answer_of(channel, message.clone()).await;
        if answer != Answer::Accepted {
            self.waiting().push_back(message);
        }
        answer
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands before a message of gRPC, that it is compressed and its length, and the message.
fn message(export: &[u8]) -> anyhow::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(export)?;
    let compressed = encoder.finish()?;
    let length = u32::try_from(compressed.len())?.to_be_bytes();
    Ok(Bytes::from([&[1], &length[..], &compressed].concat()))
}

async fn answer_of(mut channel: Channel, message: Bytes) -> Answer {
    let request = Request::post(EXPORT_PATH)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-encoding", "gzip")
        .body(Body::new(Full::new(message)));
    let (Ok(request), Ok(channel)) = (request, channel.ready().await) else { return Answer::Failed };
    let status = match channel.call(request).await {
        Ok(response) => status(response).await,
        Err(_) => None,
    };
    match status {
        Some(status) if status.code() == Code::Ok => Answer::Accepted,
        Some(status) if status.code() == Code::ResourceExhausted => match retry_delay(&status) {
            Some(_) => Answer::Refused,
            None => Answer::RefusedWithoutTime,
        },
        Some(_) | None => Answer::Failed,
    }
}

/// How a call ended; `None` where that did not come.
async fn status(response: Response<Body>) -> Option<Status> {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Some(status);
    }
    let collected = response.into_body().collect().await.ok()?;
    collected.trailers().and_then(|trailers: &HeaderMap| Status::from_header_map(trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::SPANS_PER_TRACE;

    #[test]
    fn every_span_of_both_parts_can_be_given_another_trace() {
        let traffic = Traffic { run: "overload".into(), seed: SEED, services: 50 };
        let parts = traffic.exports(0, TRACES_PER_EXPORT, 1_793_000_000_000);
        let spans = parts.each_ref().map(|export| {
            let spans: usize = export.resource_spans.iter().map(|of| of.scope_spans[0].spans.len()).sum();
            assert_eq!(Template::new(export.encode_to_vec(), &SEED.to_be_bytes()).place_count(), spans);
            spans as u64
        });
        assert_eq!(spans.iter().sum::<u64>(), TRACES_PER_EXPORT * SPANS_PER_TRACE, "together whole traces");
        assert_eq!(spans[0], 512);
    }
}
