//! One named count: on this process's own metrics, and readable here.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, Value, global};

/// A count of one thing among those that a metric tells apart by `attain.what`.
#[derive(Debug)]
pub struct Count {
    value: AtomicU64,
    exported: Counter<u64>,
    label: KeyValue,
}

impl Count {
    /// A count of `what` under the metric `name`.
    #[must_use]
    pub fn new(name: &'static str, description: &'static str, what: impl Into<Value>) -> Self {
        let exported = global::meter("attain").u64_counter(name).with_description(description).build();
        Self { value: AtomicU64::new(0), exported, label: KeyValue::new("attain.what", what) }
    }

    /// Adds; nothing for 0.
    pub fn add(&self, count: usize) {
        if count > 0 {
            self.value.fetch_add(count as u64, Ordering::Relaxed);
            self.exported.add(count as u64, std::slice::from_ref(&self.label));
        }
    }

    /// What was counted since the start.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}
