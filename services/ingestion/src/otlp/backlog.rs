//! What the receiver hands to the settler: rows of the span log that are durable, so that it need not read them again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use attain_vocabulary::TenantId;
use tokio::sync::Notify;

use super::span::SpansRecord;

/// Most spans and links that are handed over and not taken; what comes on top is read from the log.
const SPANS_MAX: usize = 200_000;

/// A row of the span log.
#[derive(Debug, PartialEq)]
pub(super) struct Handed {
    pub(super) tenant: TenantId,
    pub(super) sequence: i64,
    pub(super) record: SpansRecord,
}

/// What the receiver and the settler share.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Wakes the settler.
    pub(super) appended: Notify,
    /// Bytes that wait in the span log: as last counted, and what was appended since.
    pub(super) bytes: AtomicU64,
    handed: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    rows: VecDeque<Handed>,
    held_count: usize,
}

impl Handed {
    /// Spans, and what they link to.
    fn held_count(&self) -> usize {
        self.record.spans.len() + self.record.links.len()
    }
}

impl Backlog {
    /// Hands rows over, in their order, as far as there is room.
    pub(super) fn hand(&self, rows: impl Iterator<Item = Handed>, bytes: u64) {
        let mut queue = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            if queue.held_count < SPANS_MAX {
                queue.held_count += row.held_count();
                queue.rows.push_back(row);
            }
        }
        drop(queue);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appended.notify_one();
    }

    /// The next row that was handed over.
    pub(super) fn take(&self) -> Option<Handed> {
        let mut queue = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let row = queue.rows.pop_front()?;
        queue.held_count -= row.held_count();
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::super::span::SpanRecord;
    use super::*;

    #[test]
    fn what_is_handed_over_is_bounded() {
        let backlog = Backlog::default();
        let row = |sequence| Handed {
            tenant: TenantId::default(),
            sequence,
            record: SpansRecord { spans: vec![SpanRecord::default(); SPANS_MAX / 2], ..SpansRecord::default() },
        };
        backlog.hand((1..=3).map(row), 7);
        let taken = || std::iter::from_fn(|| backlog.take()).map(|row| row.sequence).collect::<Vec<_>>();
        assert_eq!(taken(), [1, 2]);
        backlog.hand((4..=4).map(row), 1);
        assert_eq!((taken(), backlog.bytes.load(Ordering::Relaxed)), (vec![4], 8));
    }
}
