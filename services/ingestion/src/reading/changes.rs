use std::collections::VecDeque;
use std::time::Duration;

use attain_runtime::Shutdown;
use futures::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::Error;
use crate::storage::{Change, Store};

/// Changes read from the log at a time.
const PAGE_CHANGES_MAX: usize = 1_000;

/// From where to follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FollowFrom {
    /// Only changes with a greater sequence number.
    pub(crate) after: u64,
    /// The epoch that came with that number; empty where the follower keeps none.
    pub(crate) epoch: String,
}

struct Follower {
    store: Store,
    /// Sequence of the last change that was read.
    after: u64,
    /// What is to be checked before anything is read.
    epoch: Option<String>,
    read: VecDeque<Change>,
    /// Wakes at every commit of this process.
    newest: watch::Receiver<u64>,
    poll: Duration,
    shutdown: Shutdown,
    _place: Option<OwnedSemaphorePermit>,
}

/// Follows the change log of all tenants from a sequence number on, until shutdown. What is committed while nobody reads
/// is read from the log afterwards: a slow reader falls behind, and never skips the newest change of a service. `poll` is
/// how often to look for what other processes committed. At most a page of changes waits in memory. `place` is held as
/// long as the stream.
///
/// A follower that knows of more changes than there are, or of others, followed another database, or this one before it
/// was put back: it is told so ([`Error::SequenceAhead`], [`Error::OtherEpoch`]) rather than left waiting.
pub(crate) fn follow_changes(
    store: Store,
    from: FollowFrom,
    poll: Duration,
    shutdown: Shutdown,
    place: Option<OwnedSemaphorePermit>,
) -> impl Stream<Item = Result<Change, Error>> + Send + 'static {
    let newest = store.watch_changes();
    let FollowFrom { after, epoch } = from;
    let epoch = Some(epoch).filter(|epoch| after > 0 && !epoch.is_empty());
    let follower = Follower { store, after, epoch, read: VecDeque::new(), newest, poll, shutdown, _place: place };
    stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next_change().await {
            Ok(Some(change)) => Some((Ok(change), Some(follower))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Follower {
    async fn check_epoch(&mut self) -> Result<(), Error> {
        let Some(epoch) = self.epoch.take() else { return Ok(()) };
        let newest = self.store.newest_sequence().await?;
        if self.after > newest {
            return Err(Error::SequenceAhead { after: self.after, newest });
        }
        match self.store.change_epoch(self.after).await? {
            Some(here) if here == epoch => Ok(()),
            _ => Err(Error::OtherEpoch { after: self.after, epoch }),
        }
    }

    /// The next change; `None` at shutdown.
    async fn next_change(&mut self) -> Result<Option<Change>, Error> {
        self.check_epoch().await?;
        loop {
            if self.shutdown.is_cancelled() {
                return Ok(None);
            }
            if let Some(change) = self.read.pop_front() {
                return Ok(Some(change));
            }
            // Marked as seen before the log is read: a commit in between wakes the wait below.
            self.newest.borrow_and_update();
            self.read = self.store.changes_after(self.after, PAGE_CHANGES_MAX).await?.into();
            if let Some(last) = self.read.back() {
                self.after = last.sequence;
                continue;
            }
            // Also while it follows: the database may be put back under a running process.
            let newest = self.store.newest_sequence().await?;
            if self.after > newest {
                return Err(Error::SequenceAhead { after: self.after, newest });
            }
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(self.poll) => {}
                // Never fails: the store holds the sender.
                _ = self.newest.changed() => {}
            }
        }
    }
}
