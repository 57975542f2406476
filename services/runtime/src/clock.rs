//! Time, handed in where it is needed so that tests can hold it still.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use attain_vocabulary::UnixMillis;

/// Tells the time in milliseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Clock(Face);

#[derive(Debug, Clone)]
enum Face {
    System,
    Held(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Face::System)
    }

    /// A clock that stands still until it is [set](Self::set).
    #[must_use]
    pub fn held(time_ms: UnixMillis) -> Self {
        Self(Face::Held(Arc::new(AtomicI64::new(time_ms))))
    }

    /// Sets a held clock and all its clones; the machine's clock stays as it is.
    pub fn set(&self, time_ms: UnixMillis) {
        if let Face::Held(held) = &self.0 {
            held.store(time_ms, Ordering::SeqCst);
        }
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> UnixMillis {
        match &self.0 {
            Face::Held(held) => held.load(Ordering::SeqCst),
            Face::System => match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => since.as_millis() as i64,
                Err(before) => -(before.duration().as_millis() as i64),
            },
        }
    }
}
