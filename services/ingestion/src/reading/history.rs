use std::collections::{BTreeMap, VecDeque};

use attain_vocabulary::{EntityId, TenantId, UnixMillis};
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
    /// What is held already of some of them.
    pub(crate) held: BTreeMap<EntityId, Held>,
}

/// What a caller read of a service before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Number of a change that everything up to was known of before it was read.
    pub(crate) sequence: u64,
    /// What starts later is not held.
    pub(crate) end_ms: UnixMillis,
}

/// Consecutive days of one service; at least one, or until when what is held of it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryChunk {
    pub(crate) service: EntityId,
    pub(crate) sources: SourceSet,
    pub(crate) days: NextDays,
    /// Whether any of the days has latency, read or not.
    pub(crate) tells_latency: bool,
    pub(crate) held_until_ms: Option<UnixMillis>,
}

/// Where the service at the front goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing of it was looked at.
    Begins,
    /// What starts then, behind what was found.
    From(UnixMillis),
    /// It was its last.
    Ends,
}

struct Reader {
    store: Store,
    question: HistoryQuestion,
    next: Next,
    /// Of the service at the front, what was read and not yet sent. Unpacked as it is sent: little memory is quick memory.
    found: Option<FoundHistory>,
    _place: OwnedSemaphorePermit,
}

/// Streams the history of each service in turn, oldest first. A service without buckets in the span has no chunk; of one that
/// is held only what may be different is streamed, as far as that is known.
pub(crate) fn stream_history(
    store: Store,
    question: HistoryQuestion,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<HistoryChunk, Error>> + Send + 'static {
    let reader = Reader { store, question, next: Next::Begins, found: None, _place: place };
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
                let tells_latency = self.found.as_ref().is_some_and(|found| found.tells_latency);
                let sources = sources(&days);
                return Ok(Some(HistoryChunk { service, sources, days, tells_latency, held_until_ms: None }));
            }
            self.found = match self.next {
                Next::Begins => {
                    if let Some(chunk) = self.skip_held(&service).await? {
                        return Ok(Some(chunk));
                    }
                    Some(self.read(&service, self.question.span.start_ms).await?)
                }
                Next::From(start_ms) => Some(self.read(&service, start_ms).await?),
                Next::Ends => {
                    self.question.services.pop_front();
                    self.next = Next::Begins;
                    None
                }
            };
        }
        Ok(None)
    }

    /// Goes on behind what stands of what is held, and says until when that is; `None` where the whole has to be read.
    async fn skip_held(&mut self, service: &EntityId) -> Result<Option<HistoryChunk>, Error> {
        let HistoryQuestion { tenant, span, held, .. } = &self.question;
        let Some(held) = held.get(service) else { return Ok(None) };
        let unchanged = self.store.unchanged_before_ms(tenant, service, held.sequence).await?;
        let until_ms = unchanged.map(|unchanged_ms| unchanged_ms.min(held.end_ms));
        let Some(until_ms) = until_ms.filter(|until_ms| *until_ms > span.start_ms) else { return Ok(None) };
        self.next = if until_ms < span.end_ms { Next::From(until_ms) } else { Next::Ends };
        Ok(Some(HistoryChunk {
            service: service.clone(),
            sources: SourceSet::default(),
            days: NextDays::Unpacked(Vec::new()),
            tells_latency: false,
            held_until_ms: Some(until_ms),
        }))
    }

    async fn read(&mut self, service: &EntityId, start_ms: i64) -> Result<FoundHistory, Error> {
        let HistoryQuestion { tenant, span, with_latency, .. } = &self.question;
        let span = BucketSpan { start_ms, ..*span };
        let found = self.store.find_history(tenant, service, span, READ_BUCKETS_MAX, *with_latency).await?;
        self.next = found.next_start_ms().map_or(Next::Ends, Next::From);
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
