//! What a process needs before it serves, as named conditions that people and probes can read.

use std::sync::{Arc, Mutex, PoisonError};

use attain_proto::convert;
use attain_proto::status::v1 as wire;
use attain_vocabulary::UnixMillis;
use tokio::sync::watch;

/// The conditions of one process.
#[derive(Debug, Clone)]
pub struct Readiness {
    service: &'static str,
    start_ms: UnixMillis,
    conditions: Arc<Mutex<Vec<wire::Condition>>>,
    ready: watch::Sender<bool>,
}

/// One condition; whoever holds it says whether it is met.
#[derive(Debug, Clone)]
pub struct Condition {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// A process without conditions: ready.
    #[must_use]
    pub fn new(service: &'static str, start_ms: UnixMillis) -> Self {
        let (ready, _) = watch::channel(true);
        Self { service, start_ms, conditions: Arc::default(), ready }
    }

    /// Adds something without which the service refuses work; not met yet.
    #[must_use]
    pub fn require(&self, name: &str, detail: &str) -> Condition {
        self.add(name, detail, true)
    }

    /// Adds something that the service profits from but can do without; not met yet.
    #[must_use]
    pub fn prefer(&self, name: &str, detail: &str) -> Condition {
        self.add(name, detail, false)
    }

    /// Whether every required condition is met, now and after each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// The state of every condition.
    #[must_use]
    pub fn status(&self) -> wire::GetStatusResponse {
        wire::GetStatusResponse {
            service: self.service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: Some(convert::timestamp(self.start_ms)),
            ready: *self.ready.borrow(),
            conditions: self.lock().clone(),
        }
    }

    /// The service, for example `rag`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.service
    }

    fn add(&self, name: &str, detail: &str, required: bool) -> Condition {
        let condition = wire::Condition { name: name.to_owned(), holds: false, required, detail: detail.to_owned() };
        let index = {
            let mut conditions = self.lock();
            conditions.push(condition);
            conditions.len() - 1
        };
        self.publish();
        Condition { readiness: self.clone(), index }
    }

    fn publish(&self) {
        let ready = self.lock().iter().all(|condition| condition.holds || !condition.required);
        self.ready.send_replace(ready);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<wire::Condition>> {
        // A panic elsewhere leaves the list whole: every change is one assignment.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// The condition is met; `detail` says by what.
    pub fn met(&self, detail: impl Into<String>) {
        self.set(true, detail.into());
    }

    /// The condition is not met; `detail` says why.
    pub fn unmet(&self, detail: impl Into<String>) {
        self.set(false, detail.into());
    }

    fn set(&self, holds: bool, detail: String) {
        {
            let mut conditions = self.readiness.lock();
            conditions[self.index].holds = holds;
            conditions[self.index].detail = detail;
        }
        self.readiness.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_required_condition_is_met() {
        let readiness = Readiness::new("rag", 0);
        let ready = readiness.watch();
        assert!(*ready.borrow());
        let storage = readiness.require("storage", "not opened yet");
        let model = readiness.prefer("model", "not loaded yet");
        assert!(!*ready.borrow());
        storage.met("SQLite");
        assert!(*ready.borrow());
        model.unmet("not found");
        assert!(*ready.borrow());
        storage.unmet("lost");
        assert!(!*ready.borrow());
        assert_eq!(readiness.status().conditions.len(), 2);
    }
}
