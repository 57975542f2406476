//! What is remembered of spans for a while, in bounded memory: which were settled, and who sent a message.

use attain_vocabulary::UnixMillis;

use super::hashing::{NumberMap, NumberSet};
use super::names::Symbol;
use super::sampling::mix;

/// A span, or with a span id of 0 its trace, as a number that is as good as unique: two of a million spans share one with
/// a probability of 3 in 10^8.
pub(super) fn fingerprint(trace_id: u128, span_id: u64) -> u64 {
    mix(mix(mix((trace_id >> 64) as u64) ^ trace_id as u64) ^ span_id)
}

/// Spans and traces that were settled: what comes again counts no second time. Two generations, the older of which is
/// forgotten when the newer is full or older than the window: as many as `count_max` are in memory at most, and half of them
/// at least before any is forgotten; where their number allows, each is remembered for the window.
#[derive(Debug)]
pub(super) struct Settled {
    older: NumberSet<u64>,
    newer: NumberSet<u64>,
    newer_since_ms: UnixMillis,
    count_max: usize,
    window_ms: i64,
}

impl Settled {
    /// Remembers at most `count_max` fingerprints, for `window_ms` at least where the number allows.
    pub(super) fn new(count_max: usize, window_ms: i64) -> Self {
        Self { older: NumberSet::default(), newer: NumberSet::default(), newer_since_ms: 0, count_max, window_ms }
    }

    pub(super) fn insert(&mut self, fingerprint: u64, now_ms: UnixMillis) {
        if self.newer.is_empty() {
            self.newer_since_ms = now_ms;
        }
        let full = self.newer.len() >= self.count_max.div_ceil(2);
        if full || now_ms.saturating_sub(self.newer_since_ms) > self.window_ms {
            self.older = std::mem::take(&mut self.newer);
            self.newer_since_ms = now_ms;
        }
        self.newer.insert(fingerprint);
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        self.newer.contains(&fingerprint) || self.older.contains(&fingerprint)
    }
}

/// Who sent which message: consumers in other traces link to the span that sent it. Those of all tenants, in two
/// generations like [`Settled`]; not kept across restarts.
#[derive(Debug)]
pub(super) struct Producers {
    older: NumberMap<u64, Symbol>,
    newer: NumberMap<u64, Symbol>,
    count_max: usize,
}

impl Producers {
    /// Remembers at most `count_max` senders.
    pub(super) fn new(count_max: usize) -> Self {
        Self { older: NumberMap::default(), newer: NumberMap::default(), count_max }
    }

    /// Remembers the service of a span that sent a message.
    pub(super) fn insert(&mut self, fingerprint: u64, service: Symbol) {
        if self.newer.len() >= self.count_max.div_ceil(2) {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(fingerprint, service);
    }

    pub(super) fn service(&self, fingerprint: u64) -> Option<Symbol> {
        self.newer.get(&fingerprint).or_else(|| self.older.get(&fingerprint)).copied()
    }

    /// The names in use.
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.newer.values().chain(self.older.values()).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_was_settled_is_remembered_within_bounds() {
        let mut settled = Settled::new(10, 1_000);
        (0..8).for_each(|n| settled.insert(n, 0));
        assert!((0..8).all(|n| settled.contains(n)));
        (8..100).for_each(|n| settled.insert(n, 0));
        assert!(!settled.contains(0) && (95..100).all(|n| settled.contains(n)));
        assert!(settled.newer.len() + settled.older.len() <= 10);

        let mut settled = Settled::new(1_000, 1_000);
        settled.insert(1, 0);
        settled.insert(2, 1_000);
        assert!(settled.contains(1));
        settled.insert(3, 1_001);
        settled.insert(4, 3_000);
        assert!(!settled.contains(1) && !settled.contains(2) && settled.contains(3) && settled.contains(4));
    }

    #[test]
    fn senders_of_messages_are_remembered_within_bounds() {
        let mut producers = Producers::new(100);
        let service = super::super::names::Names::default().intern("shop");
        (0..200).for_each(|n| producers.insert(n, service));
        assert!((150..200).all(|n| producers.service(n) == Some(service)));
        assert_eq!(producers.service(0), None);
        assert!(producers.symbols().count() <= 100);
    }

    #[test]
    fn spans_of_a_trace_and_the_trace_differ() {
        let prints: HashSet<u64> =
            (0..100u128).flat_map(|trace| (0..100).map(move |span| fingerprint(trace, span))).collect();
        assert_eq!(prints.len(), 10_000);
    }
}
