//! Draws buckets from a system.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, LatencyHistogram, SliBucket, UnixMillis, bucket_start};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _, Poisson};

use crate::model::{Component, SimulatedIncident, Simulation, System};

pub(crate) const BUCKETS_PER_DAY: usize = 288;
const MINUTE_MS: i64 = 60_000;
/// 99 % point of the standard normal distribution.
const Z99: f64 = 2.326_347_874_040_841;
/// How much slower a component answers while an episode lasts.
const SLOWDOWN: f64 = 3.0;
/// Resolution of the latency histograms: bounds grow by 2^(1/8).
const LATENCY_SCALE: i8 = 3;

/// Simulates `days` of five-minute buckets that end at the last full bucket before `end_ms`.
///
/// # Panics
/// When calls name unknown components or form a cycle: a system is written by hand and checked by its tests.
#[must_use]
pub fn simulate(system: System, seed: u64, end_ms: UnixMillis, days: u32) -> Simulation {
    let end_ms = bucket_start(end_ms);
    let bucket_count = days as usize * BUCKETS_PER_DAY;
    let start_ms = end_ms - bucket_count as i64 * BUCKET_MS;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let order = leaves_first(&system);
    let share = traffic_shares(&system, &order);

    let mut counts: BTreeMap<EntityId, Vec<Drawn>> = BTreeMap::new();
    for index in 0..bucket_count {
        let mut failing: BTreeMap<&EntityId, f64> = BTreeMap::new();
        for component in &order {
            let expected = system.requests_per_second * 300.0 * share[&component.id] * season(index);
            let valid = poisson(&mut random, expected);
            let drawn = draw(&system, component, index, bucket_count, valid, &failing, &mut random);
            failing.insert(&component.id, drawn.failure_probability);
            counts.entry(component.id.clone()).or_default().push(drawn);
        }
    }
    let buckets = system
        .components
        .iter()
        .map(|component| (component.id.clone(), with_latency(component, &counts[&component.id], start_ms)))
        .collect();
    let incidents = incidents(&system, end_ms, start_ms);
    Simulation { system, buckets, incidents }
}

/// Requests of one component in one bucket.
struct Drawn {
    valid: u64,
    bad: u64,
    inherited: BTreeMap<EntityId, u64>,
    failure_probability: f64,
    slow: bool,
}

fn draw(
    system: &System,
    component: &Component,
    index: usize,
    bucket_count: usize,
    valid: u64,
    failing: &BTreeMap<&EntityId, f64>,
    random: &mut ChaCha8Rng,
) -> Drawn {
    let episode = component.episodes.iter().find(|episode| {
        let start = bucket_count.saturating_sub(episode.minutes_before_end as usize / 5);
        (start..start + episode.minutes as usize / 5).contains(&index)
    });
    let own = episode.map_or(component.chronic_failure_ratio, |episode| episode.failure_ratio);
    let mut working = 1.0 - own;
    let mut left = valid;
    let mut bad = binomial(random, left, own);
    left -= bad;
    let mut inherited = BTreeMap::new();
    let mut slow = episode.is_some();
    for call in system.calls.iter().filter(|call| call.caller == component.id) {
        let probability = call.call_fraction * failing[&call.callee];
        working *= 1.0 - probability;
        slow |= failing[&call.callee] * call.call_fraction > 0.1;
        let failed = binomial(random, left, probability);
        left -= failed;
        bad += failed;
        if failed > 0 {
            inherited.insert(call.callee.clone(), failed);
        }
    }
    Drawn { valid, bad, inherited, failure_probability: 1.0 - working, slow }
}

/// Lays latency over the drawn requests so that the whole span has the component's p99.
fn with_latency(component: &Component, drawn: &[Drawn], start_ms: UnixMillis) -> Vec<SliBucket> {
    let sigma = (component.latency_ms_p99 / component.latency_ms_p50).ln() / Z99;
    let histograms = |median: f64| -> Vec<LatencyHistogram> {
        drawn
            .iter()
            .map(|bucket| log_normal(median * if bucket.slow { SLOWDOWN } else { 1.0 }, sigma, bucket.valid))
            .collect()
    };
    let mut all = LatencyHistogram::empty();
    histograms(component.latency_ms_p50).iter().for_each(|histogram| all.merge(histogram));
    let correction = all.quantile(0.99).map_or(1.0, |p99| component.latency_ms_p99 / p99);

    let laid_out = histograms(component.latency_ms_p50 * correction);
    drawn
        .iter()
        .zip(laid_out)
        .enumerate()
        .map(|(index, (drawn, latency))| {
            let inherited = drawn.inherited.values().sum();
            let counts = BucketCounts::new(drawn.valid, drawn.bad, Some(inherited)).expect("drawn from the valid ones");
            let start = start_ms + index as i64 * BUCKET_MS;
            SliBucket::new(start, counts, drawn.inherited.clone(), Some(latency)).expect("aligned, and shares sum up")
        })
        .collect()
}

/// `count` observations of a log-normal distribution, laid out by its cumulative distribution, so that no randomness is
/// spent on what the eye would not see.
fn log_normal(median_ms: f64, sigma: f64, count: u64) -> LatencyHistogram {
    let per_octave = f64::exp2(f64::from(LATENCY_SCALE));
    let index_of = |z: f64| ((median_ms.ln() + z * sigma) / std::f64::consts::LN_2 * per_octave).floor() as i32;
    let (first, last) = (index_of(-4.0), index_of(4.0));
    let upper = |index: i32| f64::exp2((f64::from(index) + 1.0) / per_octave);
    let mut placed = 0;
    let mut counts = Vec::with_capacity((last - first + 1) as usize);
    for index in first..=last {
        let share = if index == last { 1.0 } else { normal_cdf((upper(index).ln() - median_ms.ln()) / sigma) };
        let up_to_here = (share * count as f64).round() as u64;
        counts.push(up_to_here.saturating_sub(placed));
        placed = placed.max(up_to_here);
    }
    LatencyHistogram::new(LATENCY_SCALE, 0, first, counts).expect("a range of a few octaves")
}

/// Standard normal distribution function by Abramowitz and Stegun 26.2.17 (error below 7.5e-8).
fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let tail = series.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * t) * (-z * z / 2.0).exp()
        / (2.0 * std::f64::consts::PI).sqrt();
    if z >= 0.0 { 1.0 - tail } else { tail }
}

/// Traffic over the day and the week, mean 1: quiet nights, and weekends at 80 %.
pub(crate) fn season(index: usize) -> f64 {
    let day_phase = (index % BUCKETS_PER_DAY) as f64 / BUCKETS_PER_DAY as f64;
    let weekend = (index / BUCKETS_PER_DAY) % 7 >= 5;
    let daily = 1.0 - 0.6 * (2.0 * std::f64::consts::PI * day_phase).cos();
    daily * if weekend { 0.8 } else { 1.08 }
}

/// Requests of each component for one request at the entrance.
fn traffic_shares(system: &System, leaves_first: &[&Component]) -> BTreeMap<EntityId, f64> {
    let mut shares: BTreeMap<EntityId, f64> = system.components.iter().map(|c| (c.id.clone(), 0.0)).collect();
    shares.insert(system.entrance.clone(), 1.0);
    for component in leaves_first.iter().rev() {
        let own = shares[&component.id];
        for call in system.calls.iter().filter(|call| call.caller == component.id) {
            *shares.get_mut(&call.callee).expect("calls name components") += own * call.call_fraction;
        }
    }
    shares
}

fn leaves_first(system: &System) -> Vec<&Component> {
    let mut done: BTreeSet<&EntityId> = BTreeSet::new();
    let mut order = Vec::with_capacity(system.components.len());
    while order.len() < system.components.len() {
        let ready: Vec<&Component> = system
            .components
            .iter()
            .filter(|component| !done.contains(&component.id))
            .filter(|component| {
                system.calls.iter().filter(|call| call.caller == component.id).all(|call| done.contains(&call.callee))
            })
            .collect();
        assert!(!ready.is_empty(), "calls form a cycle or name an unknown component");
        done.extend(ready.iter().map(|component| &component.id));
        order.extend(ready);
    }
    order
}

fn incidents(system: &System, end_ms: UnixMillis, start_ms: UnixMillis) -> Vec<SimulatedIncident> {
    let mut incidents: Vec<SimulatedIncident> = system
        .components
        .iter()
        .flat_map(|component| component.episodes.iter().map(move |episode| (component, episode)))
        .map(|(component, episode)| {
            let start = end_ms - i64::from(episode.minutes_before_end / 5 * 5) * MINUTE_MS;
            SimulatedIncident {
                id: episode.incident_id.clone(),
                title: episode.title.clone(),
                cause: component.id.clone(),
                affected: affected_by(system, &component.id),
                start_ms: start,
                end_ms: start + i64::from(episode.minutes) * MINUTE_MS,
                failure_ratio: episode.failure_ratio,
            }
        })
        .filter(|incident| incident.start_ms >= start_ms)
        .collect();
    incidents.sort_by(|a, b| (a.start_ms, &a.id).cmp(&(b.start_ms, &b.id)));
    incidents
}

fn affected_by(system: &System, cause: &EntityId) -> Vec<EntityId> {
    let mut affected = BTreeSet::from([cause.clone()]);
    let mut frontier = vec![cause.clone()];
    while let Some(callee) = frontier.pop() {
        for call in system.calls.iter().filter(|call| call.callee == callee) {
            if affected.insert(call.caller.clone()) {
                frontier.push(call.caller.clone());
            }
        }
    }
    affected.into_iter().collect()
}

fn poisson(random: &mut ChaCha8Rng, mean: f64) -> u64 {
    Poisson::new(mean).map_or(0, |distribution| distribution.sample(random) as u64)
}

fn binomial(random: &mut ChaCha8Rng, trials: u64, probability: f64) -> u64 {
    Binomial::new(trials, probability.clamp(0.0, 1.0)).map_or(0, |distribution| distribution.sample(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_function_agrees_with_published_values() {
        // Standard normal table.
        for (z, expected) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (Z99, 0.99)] {
            assert!((normal_cdf(z) - expected).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn a_laid_out_distribution_keeps_count_and_quantiles() {
        let histogram = log_normal(45.0, 0.7, 100_000);
        assert_eq!(histogram.count(), 100_000);
        let p99 = histogram.quantile(0.99).expect("not empty");
        assert!((p99 / (45.0 * (0.7 * Z99).exp()) - 1.0).abs() < 0.02, "{p99}");
    }

    #[test]
    fn the_season_has_mean_one() {
        let week: f64 = (0..7 * BUCKETS_PER_DAY).map(season).sum::<f64>() / (7 * BUCKETS_PER_DAY) as f64;
        assert!((week - 1.0).abs() < 1e-9, "{week}");
    }
}
