//! A consumer of messages behind a queue: how old the oldest one becomes while it falls behind.
//!
//! A fluid queue, first in first out: in each slice so many messages arrive, and so many can be processed. What is left over waits.
//! The oldest message at the end of a slice is as old as the backlog took to arrive; within a slice its age lies between those at
//! both ends, on top of what one message takes.

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, SliBucket, UnixMillis};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, LogNormal};
use std::collections::BTreeMap;

use crate::model::Simulation;

/// Seconds of a slice.
const SLICE_S: f64 = 300.0;
/// Keeps the consumer's draws apart from those of the system that feeds it.
const STREAM: u64 = 0x636f_6e73_756d_6572;

/// A consumer, and when it is slow.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Its name.
    pub id: EntityId,
    /// Who sends to it without waiting: a component that each good request of makes one message.
    pub sender: EntityId,
    /// What it processes in a second, over the mean of what arrives.
    pub capacity_factor: f64,
    /// Share of messages that fail, in [0, 1).
    pub failure_ratio: f64,
    /// What one message takes at the median, in seconds.
    pub seconds_p50: f64,
    /// Spans in which it processes less: minutes before the end of the data, minutes long, share of its capacity that is left.
    pub slow: Vec<(u32, u32, f64)>,
}

/// What was measured of a consumer in a slice of five minutes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Start of the slice.
    pub start_ms: UnixMillis,
    /// Mean age of the oldest message, in seconds.
    pub age_average_s: f64,
    /// Its largest age, in seconds.
    pub age_max_s: f64,
    /// Share of its capacity that was used, in [0, 1].
    pub busy_ratio: f64,
}

/// What a consumer processed, and how it fell behind; both oldest first.
///
/// # Panics
/// When the sender is no component of the simulation: a consumer is written by hand and checked by its tests.
#[must_use]
pub fn consume(simulation: &Simulation, consumer: &Consumer, seed: u64) -> (Vec<SliBucket>, Vec<Backlog>) {
    let sent = &simulation.buckets[&consumer.sender];
    let arrivals: Vec<f64> = sent.iter().map(|bucket| (bucket.counts.valid() - bucket.counts.bad()) as f64).collect();
    let mean = arrivals.iter().sum::<f64>() / arrivals.len().max(1) as f64;
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ STREAM);
    let service = LogNormal::new(consumer.seconds_p50.ln(), 0.4).expect("a positive median");
    let (mut backlog, mut age) = (0.0f64, 0.0f64);
    let mut buckets = Vec::with_capacity(sent.len());
    let mut measured = Vec::with_capacity(sent.len());
    for (index, (bucket, arrived)) in sent.iter().zip(&arrivals).enumerate() {
        let capacity = consumer.capacity_factor * mean * consumer.left(index, sent.len());
        let processed = (backlog + arrived).min(capacity);
        backlog += arrived - processed;
        let before = age;
        age = if *arrived > 0.0 { backlog / arrived * SLICE_S } else { before };
        let own = service.sample(&mut random);
        measured.push(Backlog {
            start_ms: bucket.start_ms,
            age_average_s: own + f64::midpoint(before, age),
            age_max_s: 1.5 * own + before.max(age),
            busy_ratio: if capacity > 0.0 { (processed / capacity).min(1.0) } else { 1.0 },
        });
        let valid = processed.round() as u64;
        let failed = Binomial::new(valid, consumer.failure_ratio).expect("a share").sample(&mut random);
        let counts = BucketCounts::new(valid, failed, Some(0)).expect("drawn from the valid ones");
        buckets.push(SliBucket::new(bucket.start_ms, counts, BTreeMap::new(), None).expect("aligned"));
    }
    (buckets, measured)
}

impl Consumer {
    /// Share of its capacity that is left in a slice.
    fn left(&self, index: usize, slices: usize) -> f64 {
        let minutes_before_end = ((slices - index) as i64 * BUCKET_MS / 60_000) as u32;
        let slow = |(begin, long, _): &&(u32, u32, f64)| {
            (begin.saturating_sub(*long) + 1..=*begin).contains(&minutes_before_end)
        };
        self.slow.iter().find(slow).map_or(1.0, |(_, _, left)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop;

    const END_MS: UnixMillis = 1_793_000_000_000;

    #[test]
    fn the_oldest_message_ages_while_the_consumer_is_slow_and_no_longer() {
        let simulation = shop::simulate(shop::SEED, END_MS);
        let consumer = shop::mailer();
        let (buckets, measured) = consume(&simulation, &consumer, shop::SEED);
        assert_eq!((buckets.len(), measured.len()), (8_640, 8_640));
        assert_eq!(consume(&simulation, &consumer, shop::SEED).1, measured, "the same seed gives the same ages");
        let old = |backlog: &Backlog| backlog.age_max_s > 60.0;
        let longest = consumer.slow.iter().map(|(_, minutes, _)| minutes).sum::<u32>() / 5;
        let count = measured.iter().filter(|backlog| old(backlog)).count();
        assert!(count > 0 && count < 10 * longest as usize, "{count} slices are old");
        assert!(!old(&measured[0]) && !old(&measured[8_639]));
        assert!(measured.iter().all(|backlog| backlog.age_average_s <= backlog.age_max_s));
        assert!(measured.iter().all(|backlog| (0.0..=1.0).contains(&backlog.busy_ratio)));
        let sent: u64 = simulation.buckets[&consumer.sender].iter().map(|b| b.counts.valid() - b.counts.bad()).sum();
        let processed: u64 = buckets.iter().map(|bucket| bucket.counts.valid()).sum();
        assert!(sent.abs_diff(processed) < 10_000, "{sent} sent, {processed} processed");
    }
}
