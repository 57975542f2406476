use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use attain_vocabulary::{EntityId, TenantId};
use futures::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;
use crate::domain::{MergedBucket, SourceSet};
use crate::storage::{BucketSpan, Store};

/// Buckets a chunk: seven days, well under a megabyte with histograms.
const CHUNK_BUCKETS_MAX: usize = 7 * 288;
/// Buckets that are read at once: going to the database costs as much as a week of them, and only so many stand in memory.
const PAGE_BUCKETS_MAX: usize = 5 * CHUNK_BUCKETS_MAX;

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
    pub(crate) sources: SourceSet,
    page: Arc<Vec<MergedBucket>>,
    /// Which of the page.
    places: Range<usize>,
}

impl HistoryChunk {
    pub(crate) fn buckets(&self) -> &[MergedBucket] {
        &self.page[self.places.clone()]
    }
}

struct Reader {
    store: Store,
    question: HistoryQuestion,
    /// Where the service at the front goes on after `page`; `None` where that is its last.
    next_start_ms: Option<i64>,
    /// Of the service at the front, what was read, and how much of it was sent.
    page: Arc<Vec<MergedBucket>>,
    sent: usize,
    _place: OwnedSemaphorePermit,
}

/// Streams the history of each service in turn, oldest first. A service without buckets in the span has no chunk.
pub(crate) fn stream_history(
    store: Store,
    question: HistoryQuestion,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<HistoryChunk, Error>> + Send + 'static {
    let next_start_ms = Some(question.span.start_ms);
    let reader = Reader { store, question, next_start_ms, page: Arc::default(), sent: 0, _place: place };
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
            if self.sent < self.page.len() {
                let places = self.sent..self.page.len().min(self.sent + CHUNK_BUCKETS_MAX);
                self.sent = places.end;
                let buckets = &self.page[places.clone()];
                let sources = buckets.iter().fold(SourceSet::default(), |all, merged| all.union(merged.sources));
                return Ok(Some(HistoryChunk { service, sources, page: Arc::clone(&self.page), places }));
            }
            match self.next_start_ms {
                Some(start_ms) => self.read_page(&service, start_ms).await?,
                None => {
                    self.question.services.pop_front();
                    self.next_start_ms = Some(self.question.span.start_ms);
                }
            }
        }
        Ok(None)
    }

    async fn read_page(&mut self, service: &EntityId, start_ms: i64) -> Result<(), Error> {
        let HistoryQuestion { tenant, span, with_latency, .. } = &self.question;
        let span = BucketSpan { start_ms, ..*span };
        let page = self.store.sli_page(tenant, service, span, PAGE_BUCKETS_MAX, *with_latency).await?;
        self.next_start_ms = page.next_start_ms;
        (self.page, self.sent) = (Arc::new(page.buckets), 0);
        Ok(())
    }
}
