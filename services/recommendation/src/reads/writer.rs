//! Takes notes out of the queue, many at a time, and appends them; tells the ends of the chains from time to time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_vocabulary::TenantId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Losses;
use crate::domain::audit::{Anchor, Entry};
use crate::domain::reads::{Noted, entries, lost};
use crate::storage::Store;
use crate::{Config, Error};

/// Most notes that one transaction appends.
const BATCH_MAX: usize = 1000;
/// Between attempts to write to a database that does not answer, doubled after each.
const RETRY_DELAY: Duration = Duration::from_millis(100);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    store: Store,
    notes: mpsc::Receiver<Noted>,
    lost: Arc<Losses>,
    stop: Shutdown,
    flush: Duration,
    /// Between two tellings of where the chains end; none where it is zero.
    anchors: Duration,
    /// Where each chain ended when it was last told.
    told: BTreeMap<String, Anchor>,
}

impl Writer {
    pub(super) fn new(
        config: &Config,
        store: Store,
        notes: mpsc::Receiver<Noted>,
        lost: Arc<Losses>,
        stop: Shutdown,
    ) -> Self {
        Self {
            store,
            notes,
            lost,
            stop,
            flush: Duration::from_millis(config.reads_flush_ms),
            anchors: Duration::from_secs(config.audit_anchor_interval_seconds),
            told: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut next_anchors = Instant::now() + self.anchors;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = sleep_until(next_anchors), if !self.anchors.is_zero() => {
                    self.tell_anchors().await;
                    next_anchors = Instant::now() + self.anchors;
                    continue;
                }
                received = self.notes.recv_many(&mut batch, BATCH_MAX) => if received == 0 { break },
            }
            // What comes meanwhile goes into the same transaction, and what is alike into the same record.
            let full = Instant::now() + self.flush;
            while batch.len() < BATCH_MAX {
                let room = BATCH_MAX - batch.len();
                tokio::select! {
                    () = self.stop.cancelled() => break,
                    () = sleep_until(full) => break,
                    received = self.notes.recv_many(&mut batch, room) => if received == 0 { break },
                }
            }
            self.write(std::mem::take(&mut batch)).await;
        }
        self.notes.close();
        while self.notes.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.write(std::mem::take(&mut batch)).await;
        }
        // What found the queue closed.
        self.write(Vec::new()).await;
        if !self.anchors.is_zero() {
            self.tell_anchors().await;
        }
    }

    /// Appends a batch and what was lost before it, however long that takes; meanwhile the queue fills, and losses are counted.
    async fn write(&mut self, batch: Vec<Noted>) {
        let lost = self.lost.take();
        for (tenant, lost) in &lost {
            tracing::warn!(tenant = %tenant, count = lost.count, "reads were not recorded one by one");
        }
        for (tenant, entries) in entries(batch, &lost) {
            self.append(&tenant, entries).await;
        }
    }

    /// Where the database refuses the whole, the records are appended one by one, and those that it refuses are counted as lost.
    async fn append(&self, tenant: &TenantId, entries: Vec<Entry>) {
        if self.answered(tenant, &entries).await.is_ok() {
            return;
        }
        for entry in entries {
            if let Err(error) = self.answered(tenant, std::slice::from_ref(&entry)).await {
                tracing::error!(error = %error, tenant = %tenant, "a read cannot be recorded");
                self.lost.add(tenant.clone(), lost(&entry));
            }
        }
    }

    /// Tries until the database answers.
    async fn answered(&self, tenant: &TenantId, entries: &[Entry]) -> Result<(), Error> {
        let mut delay = RETRY_DELAY;
        loop {
            match self.store.append_records(tenant, entries.to_vec()).await {
                Err(Error::Storage(detail)) => {
                    tracing::warn!(
                        error = detail,
                        delay_ms = delay.as_millis() as u64,
                        "reads could not be recorded yet"
                    );
                }
                answered => return answered,
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_DELAY_MAX);
        }
    }

    /// Logs where each chain ends that has grown: whoever keeps the log elsewhere can tell later that a chain was cut.
    async fn tell_anchors(&mut self) {
        let ends = match self.store.audit_ends().await {
            Ok(ends) => ends,
            Err(error) => {
                tracing::warn!(error = %error, "the ends of the audit logs could not be read");
                return;
            }
        };
        for (tenant_id, sequence, sha256) in ends {
            let anchor = Anchor { sequence, sha256 };
            if self.told.get(&tenant_id) != Some(&anchor) {
                tracing::info!(tenant = tenant_id, anchor = %anchor, "the audit log ends here");
                self.told.insert(tenant_id, anchor);
            }
        }
    }
}
