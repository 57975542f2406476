//! One named count: on this process's own metrics, and readable here.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;

/// A count of what an observer of telemetry took, refused, dropped or cut.
#[derive(Debug)]
pub(crate) struct Count {
    value: AtomicU64,
    exported: Counter<u64>,
    label: KeyValue,
}

impl Count {
    /// A count of `what` by an observer.
    pub(crate) fn new(observer: &'static str, what: &'static str) -> Self {
        let exported = opentelemetry::global::meter("attain")
            .u64_counter("attain.ingestion.observed")
            .with_description("What observers of telemetry took, refused, dropped or cut")
            .build();
        Self { value: AtomicU64::new(0), exported, label: KeyValue::new("attain.what", format!("{observer}.{what}")) }
    }

    /// Adds; nothing for 0.
    pub(crate) fn add(&self, count: usize) {
        if count > 0 {
            self.value.fetch_add(count as u64, Ordering::Relaxed);
            self.exported.add(count as u64, std::slice::from_ref(&self.label));
        }
    }

    /// What was counted since the start.
    pub(crate) fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}
