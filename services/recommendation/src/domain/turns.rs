//! Whose turn it is to be looked at: whoever changed, each no sooner than an interval after its last turn, in bounded memory.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, TenantId, UnixMillis};

type Key = (TenantId, EntityId);

/// Services that wait for their turn, and those that had it lately.
#[derive(Debug)]
pub(crate) struct Turns {
    /// From when on each may have its turn.
    waiting: BTreeMap<Key, UnixMillis>,
    /// When each that had its turn lately may have the next.
    rested: BTreeMap<Key, UnixMillis>,
    services_max: usize,
    interval_ms: i64,
}

impl Turns {
    pub(crate) fn new(services_max: usize, interval_ms: i64) -> Self {
        Self { waiting: BTreeMap::new(), rested: BTreeMap::new(), services_max, interval_ms }
    }

    /// The service changed. Whether there was room for it.
    pub(crate) fn note(&mut self, key: Key, now_ms: UnixMillis) -> bool {
        if self.waiting.len() >= self.services_max && !self.waiting.contains_key(&key) {
            return false;
        }
        let due_ms = self.rested.get(&key).copied().unwrap_or(now_ms);
        self.waiting.entry(key).or_insert(due_ms);
        true
    }

    /// At most `limit` services whose turn has come, those that wait longest first.
    pub(crate) fn take(&mut self, limit: usize, now_ms: UnixMillis) -> Vec<Key> {
        self.rested.retain(|_, due_ms| *due_ms > now_ms);
        let mut due: Vec<(UnixMillis, Key)> = self
            .waiting
            .iter()
            .filter(|(_, due_ms)| **due_ms <= now_ms)
            .map(|(key, due_ms)| (*due_ms, key.clone()))
            .collect();
        due.sort();
        due.truncate(limit);
        for (_, key) in &due {
            self.waiting.remove(key);
            if self.rested.len() < self.services_max {
                self.rested.insert(key.clone(), now_ms.saturating_add(self.interval_ms));
            }
        }
        due.into_iter().map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (TenantId::default(), EntityId::new("id", name).expect("valid"))
    }

    fn names(taken: &[Key]) -> Vec<&str> {
        taken.iter().map(|(_, service)| service.as_str()).collect()
    }

    #[test]
    fn each_has_its_turn_once_an_interval() {
        let mut turns = Turns::new(3, 100);
        assert!(["b", "a", "b", "c"].into_iter().all(|name| turns.note(key(name), 0)));
        assert!(!turns.note(key("d"), 0), "no room");
        assert_eq!(names(&turns.take(2, 0)), ["a", "b"]);
        assert!(turns.note(key("a"), 10));
        assert_eq!(names(&turns.take(9, 50)), ["c"]);
        assert_eq!(names(&turns.take(9, 99)), [""; 0]);
        assert_eq!(names(&turns.take(9, 100)), ["a"]);
        assert!(turns.note(key("b"), 101), "it rested long enough");
        assert_eq!(names(&turns.take(9, 101)), ["b"]);
    }
}
