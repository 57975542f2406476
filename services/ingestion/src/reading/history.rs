use std::collections::VecDeque;

use attain_vocabulary::{EntityId, TenantId};
use futures::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;
use crate::domain::{MergedBucket, SourceSet};
use crate::storage::{BucketSpan, Store};

/// Buckets a chunk: seven whole days, so that no day is unpacked for two chunks; well under a megabyte with histograms.
const CHUNK_BUCKETS_MAX: usize = 7 * 288;

/// Whose history to read.
#[derive(Debug, Clone)]
pub(crate) struct HistoryQuestion {
    pub(crate) tenant: TenantId,
    /// In this order.
    pub(crate) services: VecDeque<EntityId>,
    pub(crate) span: BucketSpan,
    pub(crate) with_latency: bool,
}

/// Consecutive buckets of one service; at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryChunk {
    pub(crate) service: EntityId,
    pub(crate) buckets: Vec<MergedBucket>,
    pub(crate) sources: SourceSet,
}

struct Reader {
    store: Store,
    question: HistoryQuestion,
    /// Where the service at the front goes on.
    start_ms: i64,
    _place: OwnedSemaphorePermit,
}

/// Streams the history of each service in turn, oldest first. A service without buckets in the span has no chunk.
pub(crate) fn stream_history(
    store: Store,
    question: HistoryQuestion,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<HistoryChunk, Error>> + Send + 'static {
    let start_ms = question.span.start_ms;
    let reader = Reader { store, question, start_ms, _place: place };
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next_chunk().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Reader {
    async fn next_chunk(&mut self) -> Result<Option<HistoryChunk>, Error> {
        while let Some(service) = self.question.services.front().cloned() {
            let span = BucketSpan { start_ms: self.start_ms, end_ms: self.question.span.end_ms };
            let with_latency = self.question.with_latency;
            let page =
                self.store.sli_page(&self.question.tenant, &service, span, CHUNK_BUCKETS_MAX, with_latency).await?;
            match page.next_start_ms {
                Some(next_start_ms) => self.start_ms = next_start_ms,
                None => {
                    self.question.services.pop_front();
                    self.start_ms = self.question.span.start_ms;
                }
            }
            if !page.buckets.is_empty() {
                let sources = page.buckets.iter().fold(SourceSet::default(), |all, merged| all.union(merged.sources));
                return Ok(Some(HistoryChunk { service, buckets: page.buckets, sources }));
            }
        }
        Ok(None)
    }
}
