//! A history of counts.

use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, SliBucket, UnixMillis};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, Exp, LogNormal, Normal, Poisson};

use super::future::Origin;
use super::{FIRST_COUNTS, Fleet, Law, PAST_EVENTS, Seen, buckets, load};
use crate::process::{BUCKETS_PER_DAY, season};

/// Buckets of the longest incident: a day.
const INCIDENT_BUCKETS_MAX: usize = BUCKETS_PER_DAY;

/// What was counted, and in which state it ended.
#[derive(Debug, Clone)]
pub struct Past {
    /// By component; empty where nothing is seen of it.
    pub counts: Vec<Counts>,
    /// By component, seen or not: the probability that a request failed of its own, over the traffic of the whole past.
    pub own_failure_ratio: Vec<f64>,
    /// The state at its end.
    pub origin: Origin,
}

/// Requests of one component.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Position of the first bucket.
    pub first: usize,
    /// Requests by bucket.
    pub valid: Vec<u32>,
    /// Failed ones among them.
    pub bad: Vec<u32>,
    /// Failed because a call did: bucket (from the first), callee, requests. By bucket.
    inherited: Vec<(u32, u32, u32)>,
}

/// Something that happens to one component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Event {
    /// The chronic level is multiplied.
    Level(f64),
    /// An incident begins that fails a share of requests.
    Begin(f64),
    /// One of that share ends.
    End(f64),
}

/// By bucket, then component.
pub(super) type Events = Vec<(usize, usize, Event)>;

impl Fleet {
    /// Draws `days` of history. The same seed gives the same counts.
    #[must_use]
    pub fn past(&self, seed: u64, days: u32) -> Past {
        let length = buckets(days);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(PAST_EVENTS);
        let events = self.events(&mut random, length);
        let mut origin = Origin::new(self);
        let mut next = events.iter().peekable();
        let count = self.components.len();
        let (mut own, mut failing) = (vec![0.0; count], Vec::new());
        let mut own_by_bucket = vec![Vec::with_capacity(length); count];
        let mut failing_by_bucket = vec![Vec::with_capacity(length); count];
        let (mut own_failed, mut traffic) = (vec![0.0; count], 0.0);
        for bucket in 0..length {
            while let Some((_, at, event)) = next.next_if(|(time, ..)| *time <= bucket) {
                origin.apply(*at, *event);
            }
            origin.own(self, load(bucket), &mut own);
            self.failing(&own, &mut failing);
            traffic += season(bucket);
            for at in 0..count {
                own_failed[at] += season(bucket) * own[at];
                own_by_bucket[at].push(own[at] as f32);
                failing_by_bucket[at].push(failing[at] as f32);
            }
        }
        // Incidents that are not over at the end go on after it.
        origin.endings = next.filter(|(.., event)| matches!(event, Event::End(_))).copied().collect();
        origin.endings.iter_mut().for_each(|(time, ..)| *time -= length);
        let counts = (0..count)
            .map(|at| {
                // One stream of random numbers a component: nobody's counts depend on another's.
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                random.set_stream(FIRST_COUNTS + at as u64);
                self.count(at, &own_by_bucket[at], &failing_by_bucket, &mut random)
            })
            .collect();
        let own_failure_ratio = own_failed.into_iter().map(|failed| failed / traffic).collect();
        Past { counts, own_failure_ratio, origin }
    }

    /// What happens within so many buckets; ends may lie beyond.
    pub(super) fn events(&self, random: &mut ChaCha8Rng, length: usize) -> Events {
        let mut events = Events::new();
        for (at, component) in self.components.iter().enumerate() {
            let law = component.law;
            for time in times(random, law.changes_per_day, length) {
                let factor = Normal::new(0.0, law.change_deviation).map_or(0.0, |normal| normal.sample(random));
                events.push((time, at, Event::Level(factor.exp())));
            }
            for time in times(random, law.incidents_per_day, length) {
                incident(&mut events, random, (time, at), &law);
            }
        }
        for domain in &self.domains {
            for time in times(random, domain.incidents_per_day, length) {
                for &at in &domain.members {
                    if random.random_bool(domain.hit_probability) {
                        incident(&mut events, random, (time, at), &self.components[at].law);
                    }
                }
            }
        }
        events.sort_by_key(|(time, at, _)| (*time, *at));
        events
    }

    fn count(&self, at: usize, own: &[f32], failing: &[Vec<f32>], random: &mut ChaCha8Rng) -> Counts {
        let component = &self.components[at];
        if component.seen == Seen::Nothing {
            return Counts::default();
        }
        let first = own.len().saturating_sub(buckets(component.age_days));
        let mut counts = Counts { first, ..Counts::default() };
        let mut by_callee: Vec<(u32, f64)> = Vec::new();
        for bucket in first..own.len() {
            let expected = component.requests_per_second * 300.0 * season(bucket);
            let valid = Poisson::new(expected).map_or(0.0, |poisson| poisson.sample(random)) as u64;
            let mut bad = binomial(random, valid, f64::from(failing[at][bucket]));
            counts.valid.push(valid as u32);
            counts.bad.push(bad as u32);
            if bad == 0 || self.needs[at].is_empty() {
                continue;
            }
            by_callee.clear();
            for need in &self.needs[at] {
                let all: f64 = need.callees.iter().map(|&callee| f64::from(failing[callee][bucket])).product();
                // The last replica that was tried is the one that the request failed by.
                by_callee.extend(need.callees.last().map(|callee| (*callee as u32, need.weight * all)));
            }
            // Of a failed request: of its own, else by the first call that failed.
            let mut left = f64::from(failing[at][bucket]) - f64::from(own[bucket]);
            let inherited = if left > 0.0 { binomial(random, bad, left / f64::from(failing[at][bucket])) } else { 0 };
            bad = inherited;
            let last = by_callee.len() - 1;
            left = by_callee.iter().map(|(_, share)| share).sum();
            for (position, (callee, share)) in by_callee.iter().enumerate() {
                let of = if position == last || left <= 0.0 { 1.0 } else { (share / left).min(1.0) };
                let failed = binomial(random, bad, of);
                bad -= failed;
                left -= share;
                if failed > 0 {
                    counts.inherited.push(((bucket - first) as u32, *callee, failed as u32));
                }
            }
        }
        counts
    }
}

impl Counts {
    /// Failed requests, and those that failed because a call to a callee did.
    #[must_use]
    pub fn failed(&self) -> (u64, BTreeMap<usize, u64>) {
        let mut by_callee = BTreeMap::new();
        for (_, callee, failed) in &self.inherited {
            *by_callee.entry(*callee as usize).or_insert(0) += u64::from(*failed);
        }
        (self.bad.iter().map(|bad| u64::from(*bad)).sum(), by_callee)
    }

    /// The same without the requests that failed of the component's own.
    #[must_use]
    pub fn without_own(&self) -> Self {
        let mut bad = vec![0; self.bad.len()];
        self.inherited.iter().for_each(|(bucket, _, failed)| bad[*bucket as usize] += failed);
        Self { bad, ..self.clone() }
    }

    /// The same without the requests that failed because calls to a callee did.
    #[must_use]
    pub fn without(&self, callee: usize) -> Self {
        let mut without = self.clone();
        for (bucket, _, failed) in self.inherited.iter().filter(|(_, of, _)| *of as usize == callee) {
            without.bad[*bucket as usize] -= failed;
        }
        without.inherited.retain(|(_, of, _)| *of as usize != callee);
        without
    }

    /// Buckets as they are measured, where the past ends at `end_ms`: with what traces tell where the component is traced.
    /// Calls to callees that nobody sees count as the component's own failures.
    ///
    /// # Panics
    /// When `end_ms` is not the start of a bucket.
    #[must_use]
    pub fn buckets(
        &self,
        fleet: &Fleet,
        traced: bool,
        end_ms: UnixMillis,
        is_seen: impl Fn(usize) -> bool,
    ) -> Vec<SliBucket> {
        let start_ms = end_ms - self.valid.len() as i64 * BUCKET_MS;
        let mut inherited = self.inherited.iter().peekable();
        let bucket = |(at, (valid, bad)): (usize, (&u32, &u32))| {
            let mut shares: BTreeMap<EntityId, u64> = BTreeMap::new();
            while let Some((_, callee, failed)) = inherited.next_if(|(bucket, ..)| *bucket as usize == at) {
                if traced && is_seen(*callee as usize) {
                    *shares.entry(fleet.components[*callee as usize].id.clone()).or_default() += u64::from(*failed);
                }
            }
            let sum = traced.then(|| shares.values().sum());
            let counts =
                BucketCounts::new(u64::from(*valid), u64::from(*bad), sum).expect("failed ones are among the valid");
            SliBucket::new(start_ms + at as i64 * BUCKET_MS, counts, shares, None).expect("aligned, and shares sum up")
        };
        self.valid.iter().zip(&self.bad).enumerate().map(bucket).collect()
    }
}

/// Buckets in which something of a rate happens, by the traffic of the time: what people do brings failures.
fn times(random: &mut ChaCha8Rng, per_day: f64, length: usize) -> Vec<usize> {
    const SEASON_MAX: f64 = 1.8;
    let Ok(pause) = Exp::new(per_day / BUCKETS_PER_DAY as f64 * SEASON_MAX) else { return Vec::new() };
    let (mut at, mut times) = (0.0, Vec::new());
    loop {
        at += pause.sample(random);
        if at >= length as f64 {
            return times;
        }
        if random.random::<f64>() * SEASON_MAX < season(at as usize) {
            times.push(at as usize);
        }
    }
}

fn incident(events: &mut Events, random: &mut ChaCha8Rng, (time, at): (usize, usize), law: &Law) {
    let minutes = LogNormal::new(law.minutes_median.ln(), 1.0).map_or(law.minutes_median, |long| long.sample(random));
    let length = ((minutes / 5.0).ceil() as usize).clamp(1, INCIDENT_BUCKETS_MAX);
    let share = if random.random_bool(law.outage_share) { 1.0 } else { 10f64.powf(random.random_range(-2.0..0.0)) };
    events.push((time, at, Event::Begin(share)));
    events.push((time + length, at, Event::End(share)));
}

fn binomial(random: &mut ChaCha8Rng, trials: u64, probability: f64) -> u64 {
    Binomial::new(trials, probability.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(random))
}
