//! Makes received spans durable, several exports a transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attain_runtime::clock::Clock;
use attain_vocabulary::TenantId;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::settler::Backlog;
use crate::storage::Store;

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
    tenant: TenantId,
    payload: Vec<u8>,
    durable: oneshot::Sender<Result<(), Status>>,
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

    /// Keeps a row; when it returns it is durable.
    pub(super) async fn append(&self, tenant: TenantId, payload: Vec<u8>) -> Result<(), Status> {
        let (durable, told) = oneshot::channel();
        let stopped = || Status::unavailable("the receiver is stopping; try again");
        self.queue.send(Append { tenant, payload, durable }).await.map_err(|_| stopped())?;
        told.await.map_err(|_| stopped())?
    }
}

async fn write(store: Store, clock: Clock, backlog: Arc<Backlog>, mut appends: mpsc::Receiver<Append>) {
    while let Some(first) = appends.recv().await {
        let mut bytes = first.payload.len();
        let mut payloads = vec![(first.tenant, first.payload)];
        let mut waiting = vec![first.durable];
        while bytes < TRANSACTION_BYTES_MAX
            && let Ok(next) = appends.try_recv()
        {
            bytes += next.payload.len();
            payloads.push((next.tenant, next.payload));
            waiting.push(next.durable);
        }
        let result = store.append_spans(clock.now_ms(), &payloads).await.map(drop).map_err(Status::from);
        if result.is_ok() {
            backlog.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            backlog.appended.notify_one();
        }
        for durable in waiting {
            // A sender that went away is not told; its spans are kept all the same.
            let _ = durable.send(result.clone());
        }
    }
}
