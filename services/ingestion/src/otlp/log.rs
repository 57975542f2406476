//! Makes received spans durable, several exports a transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attain_runtime::clock::Clock;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::backlog::{Backlog, Handed};
use super::span::SpansRecord;
use crate::storage::{ReceivedSpans, Store};

/// Most exports that wait for the writer; each is one whose sender waits.
const QUEUE_MAX: usize = 64;
/// Most bytes in one transaction, those of one export more.
const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// When the sender of a refused export should try again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// The way into the span log.
#[derive(Debug, Clone)]
pub(super) struct SpanLog {
    queue: mpsc::Sender<Append>,
    backlog: Arc<Backlog>,
    bytes_max: u64,
}

#[derive(Debug)]
struct Append {
    received: ReceivedSpans,
    record: SpansRecord,
    durable: oneshot::Sender<Result<bool, Status>>,
}

impl SpanLog {
    /// Starts the writer; it ends with the last clone of the log.
    pub(super) fn start(store: Store, clock: Clock, backlog: Arc<Backlog>, bytes_max: u64) -> Self {
        let (queue, appends) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write(store, clock, Arc::clone(&backlog), appends));
        Self { queue, backlog, bytes_max }
    }

    /// Whether more waits in the log than may; whoever sends now is asked to come again.
    pub(super) fn refuse_when_full(&self) -> Result<(), Status> {
        if self.backlog.bytes.load(Ordering::Relaxed) < self.bytes_max {
            return Ok(());
        }
        let mut details = ErrorDetails::with_retry_info(Some(RETRY_DELAY));
        details.set_error_info("SPAN_LOG_FULL", "attain", std::collections::HashMap::new());
        let message = "spans arrive faster than they are settled; try again later";
        Err(Status::with_error_details(Code::ResourceExhausted, message, details))
    }

    /// Keeps an export, the record of which is its payload; when it returns it is durable. `false` where it was kept before.
    pub(super) async fn append(&self, received: ReceivedSpans, record: SpansRecord) -> Result<bool, Status> {
        let (durable, told) = oneshot::channel();
        let stopped = || Status::unavailable("the receiver is stopping; try again");
        self.queue.send(Append { received, record, durable }).await.map_err(|_| stopped())?;
        told.await.map_err(|_| stopped())?
    }
}

async fn write(store: Store, clock: Clock, backlog: Arc<Backlog>, mut appends: mpsc::Receiver<Append>) {
    while let Some(first) = appends.recv().await {
        let mut bytes = first.received.payload.len();
        let (mut exports, mut waiting) = (vec![first.received], vec![(first.record, first.durable)]);
        while bytes < TRANSACTION_BYTES_MAX
            && let Ok(next) = appends.try_recv()
        {
            bytes += next.received.payload.len();
            exports.push(next.received);
            waiting.push((next.record, next.durable));
        }
        match store.append_spans(clock.now_ms(), &exports).await {
            Ok(sequences) => {
                let mut handed = Vec::with_capacity(exports.len());
                for ((sequence, export), (record, durable)) in sequences.iter().zip(exports).zip(waiting) {
                    handed.extend(sequence.map(|sequence| Handed { tenant: export.tenant, sequence, record }));
                    // A sender that went away is not told; its spans are kept all the same.
                    let _ = durable.send(Ok(sequence.is_some()));
                }
                backlog.hand(handed.into_iter(), bytes as u64);
            }
            Err(error) => {
                let status = Status::from(error);
                for (_, durable) in waiting {
                    let _ = durable.send(Err(status.clone()));
                }
            }
        }
    }
}
