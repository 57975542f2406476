use std::collections::VecDeque;

use attain_vocabulary::{EntityId, TenantId};
use futures::stream::{self, Stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::Error;
use crate::domain::SourceSet;
use crate::storage::{BucketSpan, FoundHistory, Handing, NextDays, Store};

/// Buckets a chunk, less than a day more or less: seven days, well under a megabyte with histograms.
const CHUNK_BUCKETS: usize = 7 * 288;
/// Buckets that are read at once, most of them still packed: a quarter, so that most questions go to the database once.
const READ_BUCKETS_MAX: usize = 13 * CHUNK_BUCKETS;

/// Whose history to read.
#[derive(Debug, Clone)]
pub(crate) struct HistoryQuestion {
    pub(crate) tenant: TenantId,
    /// In this order.
    pub(crate) services: VecDeque<EntityId>,
    pub(crate) span: BucketSpan,
    pub(crate) with_latency: bool,
    pub(crate) handing: Handing,
}

/// Consecutive days of one service; at least one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryChunk {
    pub(crate) service: EntityId,
    pub(crate) sources: SourceSet,
    pub(crate) days: NextDays,
}

struct Reader {
    store: Store,
    question: HistoryQuestion,
    /// Where the service at the front goes on after `found`; `None` where that is its last.
    next_start_ms: Option<i64>,
    /// Of the service at the front, what was read and not yet sent. Unpacked as it is sent: little memory is quick memory.
    found: Option<FoundHistory>,
    _place: OwnedSemaphorePermit,
}

/// Streams the history of each service in turn, oldest first. A service without buckets in the span has no chunk.
pub(crate) fn stream_history(
    store: Store,
    question: HistoryQuestion,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<HistoryChunk, Error>> + Send + 'static {
    let next_start_ms = Some(question.span.start_ms);
    let reader = Reader { store, question, next_start_ms, found: None, _place: place };
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
            let handing = self.question.handing;
            let days = self.found.as_mut().map_or(Ok(None), |found| found.next_days(CHUNK_BUCKETS, handing))?;
            if let Some(days) = days {
                return Ok(Some(HistoryChunk { service, sources: sources(&days), days }));
            }
            self.found = match self.next_start_ms {
                Some(start_ms) => Some(self.read(&service, start_ms).await?),
                None => {
                    self.question.services.pop_front();
                    self.next_start_ms = Some(self.question.span.start_ms);
                    None
                }
            };
        }
        Ok(None)
    }

    async fn read(&mut self, service: &EntityId, start_ms: i64) -> Result<FoundHistory, Error> {
        let HistoryQuestion { tenant, span, with_latency, .. } = &self.question;
        let span = BucketSpan { start_ms, ..*span };
        let found = self.store.find_history(tenant, service, span, READ_BUCKETS_MAX, *with_latency).await?;
        self.next_start_ms = found.next_start_ms();
        Ok(found)
    }
}

fn sources(days: &NextDays) -> SourceSet {
    match days {
        NextDays::Kept(days) => {
            let mut sources = SourceSet::default();
            days.iter().for_each(|day| sources.insert(day.source));
            sources
        }
        NextDays::Unpacked(buckets) => {
            buckets.iter().fold(SourceSet::default(), |all, merged| all.union(merged.sources))
        }
    }
}
