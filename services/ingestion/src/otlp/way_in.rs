//! What the exports of a port share on their way in, whichever transport brings them: where there would be no place for an export
//! it is refused before its body is read; a body is read whole within bounds, then there is a place for it or not (whoever
//! sends slowly keeps nobody out), and only then it is decompressed and decoded.

use std::sync::Arc;

use attain_runtime::admission::{ingests_gate, overloaded};
use attain_runtime::context::CallContext;
use attain_runtime::gate::{Gate, Knock, Place};
use attain_runtime::serve::call_timeout;
use bytes::Bytes;
use hyper::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use super::body::{Budget, Coding, Held, NoBody};
use super::counts::Counts;
use super::refusal::{malformed, named, try_again, with_reason};
use crate::Config;

/// Messages of the largest size that may be in memory at a time, as sent and decompressed.
const LARGEST_MESSAGES: usize = 8;
/// Most bytes of plain protobuf that are decoded on the thread that received them: some milliseconds' work.
const BYTES_AT_ONCE_MAX: usize = 256 * 1024;
/// How many bytes come out of a compressed one, commonly.
const COMPRESSED_TIMES: usize = 8;
/// How much more work a byte of JSON is.
const JSON_TIMES: usize = 4;

/// The way in of one port.
pub(super) struct WayIn {
    counts: Arc<Counts>,
    gate: Gate,
    budget: Budget,
    message_bytes_max: usize,
}

/// What a body says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) coding: Coding,
    pub(super) is_json: bool,
}

impl Written {
    /// Whether so many bytes are worth a thread of their own.
    fn is_large(self, bytes: usize) -> bool {
        let compressed = if self.coding == Coding::Identity { 1 } else { COMPRESSED_TIMES };
        let json = if self.is_json { JSON_TIMES } else { 1 };
        bytes.saturating_mul(compressed * json) > BYTES_AT_ONCE_MAX
    }
}

impl WayIn {
    pub(super) fn new(config: &Config, counts: Arc<Counts>) -> Self {
        let message_bytes_max = config.otlp_message_bytes_max;
        Self {
            counts,
            gate: ingests_gate(config.limits.ingests_max),
            budget: Budget::new(message_bytes_max, LARGEST_MESSAGES, config.otlp_body_patience()),
            message_bytes_max,
        }
    }

    /// Who sends.
    pub(super) fn context(&self, metadata: &MetadataMap) -> Result<CallContext, Status> {
        CallContext::read(metadata, call_timeout())
            .map_err(|status| with_reason(&status, "MALFORMED_TENANT"))
            .inspect_err(|_| self.counts.exports_refused_tenant.add(1))
    }

    /// Whether an export may come in, as far as its head tells.
    pub(super) fn knock(&self) -> Result<Knock<'_>, Status> {
        self.gate.knock().ok_or_else(|| self.refusal(NoBody::Busy))
    }

    /// Reads a body whole: one message, and so many bytes of its transport around it.
    pub(super) async fn read<B>(&self, knock: &mut Knock<'_>, body: &mut B, frame_bytes: usize) -> Result<Held, Status>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        knock.prepare(self.budget.read(body, frame_bytes)).await.map_err(|why| self.refusal(why))
    }

    pub(super) async fn place(&self, knock: Knock<'_>) -> Result<Place, Status> {
        knock.enter().await.ok_or_else(|| self.refusal(NoBody::Busy))
    }

    /// The message of a body, and how many bytes it has. A large one is decompressed and decoded on a thread for work that
    /// blocks, so that others are answered meanwhile.
    pub(super) async fn decoded<M: Send + 'static>(
        &self,
        held: Held,
        written: Written,
        decode: fn(Bytes) -> Result<M, String>,
    ) -> Result<(M, usize), Status> {
        let is_large = written.is_large(held.bytes.len());
        let budget = self.budget.clone();
        let work = move || {
            let Held { bytes, share: _share } = budget.decompress(written.coding, held).map_err(NoMessage::NoBody)?;
            let length = bytes.len();
            Ok((decode(bytes).map_err(NoMessage::NoExport)?, length))
        };
        let decoded = if is_large {
            let working = tokio::task::spawn_blocking(work);
            working.await.map_err(|_| Status::internal("the export could not be read"))?
        } else {
            work()
        };
        decoded.map_err(|why| match why {
            NoMessage::NoBody(why) => self.refusal(why),
            NoMessage::NoExport(reason) => self.malformed(&format!("the body is no export: {reason}")),
        })
    }

    /// Counts what a receiver answered where storage failed it.
    pub(super) fn answered<T>(&self, answer: Result<T, Status>) -> Result<T, Status> {
        answer.inspect_err(|status| {
            if status.code() == Code::Unavailable {
                self.counts.exports_refused_storage.add(1);
            }
        })
    }

    /// Counts and names a body that is no message.
    pub(super) fn malformed(&self, text: &str) -> Status {
        self.counts.exports_malformed.add(1);
        malformed(text)
    }

    fn refusal(&self, why: NoBody) -> Status {
        match why {
            NoBody::Busy => {
                self.counts.exports_refused_busy.add(1);
                overloaded()
            }
            NoBody::TooLarge => {
                self.counts.exports_refused_size.add(1);
                let max = self.message_bytes_max;
                let text = format!(
                    "an export has at most {max} bytes, compressed or not (ingestion.otlp_message_bytes_max); \
                     send less at once"
                );
                named(Code::InvalidArgument, "MESSAGE_TOO_LARGE", text)
            }
            NoBody::Malformed => self.malformed("the body is not compressed as it says"),
            NoBody::Interrupted => {
                self.counts.exports_refused_late.add(1);
                try_again("BODY_INTERRUPTED", "the body did not come whole in time (ingestion.otlp_body_seconds_max)")
            }
        }
    }
}

/// Why there is no message.
enum NoMessage {
    NoBody(NoBody),
    NoExport(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_bodies_are_decoded_where_they_are_and_large_ones_elsewhere() {
        for (coding, is_json, most) in [
            (Coding::Identity, false, 256 * 1024),
            (Coding::Gzip, false, 32 * 1024),
            (Coding::Identity, true, 64 * 1024),
            (Coding::Zstd, true, 8 * 1024),
        ] {
            let written = Written { coding, is_json };
            assert!(!written.is_large(most) && written.is_large(most + 1), "{written:?}");
        }
    }
}
