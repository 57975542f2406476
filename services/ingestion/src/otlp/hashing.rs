//! A quick hash of numbers, keyed by the process, for tables that are asked several times a span.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use super::sampling::mix;

/// A table by numbers.
pub(super) type NumberMap<K, V> = HashMap<K, V, Keyed>;
/// A set of numbers.
pub(super) type NumberSet<K> = HashSet<K, Keyed>;

/// Drawn once a process: senders choose ids, and must not be able to choose ones that fall together.
static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u64));

#[derive(Debug, Clone, Copy)]
pub(super) struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        Self(*KEY)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(self.0)
    }
}

#[derive(Debug)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_numbers_have_different_hashes() {
        let keyed = Keyed::default();
        let hashes: HashSet<u64> = (0..10_000u128).map(|number| keyed.hash_one(number << 60)).collect();
        assert_eq!(hashes.len(), 10_000);
        assert_ne!(keyed.hash_one((1u32, 2u32)), keyed.hash_one((2u32, 1u32)));
    }
}
