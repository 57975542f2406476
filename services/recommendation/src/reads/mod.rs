//! Puts who read what into the audit log without holding a read up: a call leaves a note in a bounded queue and goes on; one
//! writer takes many notes at a time and appends them in one transaction a tenant.
//!
//! A note that finds the queue full is counted, and the count becomes a record before the next notes. What is in the queue when
//! the process is killed is lost; a drained process has written it.

mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::{CallContext, Role};
use attain_vocabulary::{TenantId, UnixMillis};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use crate::domain::kept::sha256_hex;
use crate::domain::reads::{ABANDONED, ANSWERED, Answer, Lost, Noted, Read, recommendation_named, service_named};
use crate::storage::{Store, StoredRecommendation};
use crate::{Config, Error};

/// Where calls leave their notes.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    queue: mpsc::Sender<Noted>,
    lost: Arc<Losses>,
    clock: Clock,
}

/// Notes that found no room, by tenant.
#[derive(Debug, Default)]
struct Losses(Mutex<BTreeMap<TenantId, Lost>>);

impl Losses {
    fn add(&self, tenant: TenantId, lost: Lost) {
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        losses.entry(tenant).and_modify(|before| *before = before.and(lost)).or_insert(lost);
    }

    fn take(&self) -> BTreeMap<TenantId, Lost> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The task that writes notes down.
pub(crate) struct Writing {
    stop: Shutdown,
    task: JoinHandle<()>,
    /// How long a stopping process goes on trying.
    drain: Duration,
}

impl Writing {
    /// Writes what is in the queue and ends; whatever is noted afterwards is lost.
    pub(crate) async fn finish(mut self) {
        self.stop.cancel();
        match tokio::time::timeout(self.drain, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(error = %error, "the writer of read records broke off"),
            Err(_) => {
                self.task.abort();
                tracing::error!("the last reads could not be written to the audit log in time");
            }
        }
    }
}

/// Opens the queue and begins to write it down.
pub(crate) fn begin(config: &Config, store: Store, clock: Clock) -> (Reads, Writing) {
    let (queue, notes) = mpsc::channel(config.reads_queued_max);
    let lost = Arc::new(Losses::default());
    let stop = Shutdown::new();
    let writer = writer::Writer::new(config, store, notes, Arc::clone(&lost), stop.clone());
    let drain = Duration::from_secs(config.drain_seconds);
    (Reads { queue, lost, clock }, Writing { stop, task: tokio::spawn(writer.run()), drain })
}

impl Reads {
    /// Begins to note a call. `rpc` is a name in [`crate::domain::reads::ACTIONS`].
    pub(crate) fn begin(&self, rpc: &'static str, context: &CallContext, request: &impl Message) -> Asking {
        let read = Read {
            rpc,
            caller: context.caller.clone(),
            role: context.role.map(Role::name),
            service_id: String::new(),
            recommendation_id: String::new(),
            asked_sha256: sha256_hex(&request.encode_to_vec()),
            answer: None,
            outcome: ABANDONED,
        };
        Asking { reads: self.clone(), tenant: context.tenant.clone(), read: Some(read) }
    }

    fn note(&self, tenant: TenantId, read: Read) {
        let time_ms: UnixMillis = self.clock.now_ms();
        if let Err(error) = self.queue.try_send(Noted { tenant, time_ms, read }) {
            let (mpsc::error::TrySendError::Full(noted) | mpsc::error::TrySendError::Closed(noted)) = error;
            self.lost.add(noted.tenant, Lost::one(time_ms));
        }
    }
}

/// A call that is being answered. Dropped before it is told how it ended, it was abandoned.
#[derive(Debug)]
pub(crate) struct Asking {
    reads: Reads,
    tenant: TenantId,
    /// Until it is told.
    read: Option<Read>,
}

impl Asking {
    pub(crate) fn of_service(mut self, service_id: &str) -> Self {
        if let Some(read) = &mut self.read {
            read.service_id = service_named(service_id);
        }
        self
    }

    pub(crate) fn of_recommendation(mut self, recommendation_id: &str) -> Self {
        if let Some(read) = &mut self.read {
            read.recommendation_id = recommendation_named(recommendation_id);
        }
        self
    }

    /// Notes a read whose whole answer is hashed.
    pub(crate) fn answered<T: Message>(self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let told = result.as_ref().map(|answer| Answer { version: 0, sha256: sha256_hex(&answer.encode_to_vec()) });
        self.end(told);
        Ok(Response::new(result?))
    }

    /// Notes a read of one recommendation: its id, version and the hash that its own record has.
    pub(crate) fn answered_by<T>(mut self, result: &Result<T, Error>, of: impl Fn(&T) -> &StoredRecommendation) {
        let told = result.as_ref().map(|answer| {
            let stored = of(answer);
            if let Some(read) = &mut self.read {
                read.service_id.clone_from(&stored.service_id);
                read.recommendation_id.clone_from(&stored.id);
            }
            Answer { version: stored.version, sha256: stored.result_sha256.clone() }
        });
        self.end(told);
    }

    /// Notes a write only where it was refused: one that was done has its record. Where the caller goes away before this is told,
    /// nobody here knows which it was; the note says only that.
    pub(crate) fn written<T>(mut self, result: &Result<T, Error>) {
        match result {
            Ok(_) => self.read = None,
            Err(error) => self.end(Err(error)),
        }
    }

    fn end(mut self, told: Result<Answer, &Error>) {
        let Some(mut read) = self.read.take() else { return };
        read.outcome = match &told {
            Ok(_) => ANSWERED,
            Err(error) => error.reason(),
        };
        read.answer = told.ok();
        self.reads.note(self.tenant.clone(), read);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(read) = self.read.take() {
            self.reads.note(self.tenant.clone(), read);
        }
    }
}

#[cfg(test)]
mod tests;
