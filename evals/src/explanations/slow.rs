//! Who is said to make requests slow, made to take no time.
//!
//! The requests of a case are drawn anew: what the service does itself, and what it waits for two callees one after the other. All of them
//! are measured, some are sampled. Without the time of the part that is named the threshold that is offered has to become the one
//! that was said, or its neighbour on the menu: what is said rests on a sample.

use std::collections::BTreeMap;

use attain_attainment::{
    Ambition, LATENCY_MENU_MS, RecommendationInput, RecommendationResult, SliResult, SlowAbove, SlowRequests, recommend,
};
use attain_vocabulary::{EntityId, LatencyHistogram, SliKind};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal};

use super::{Case, paragraph};

/// Requests that are sampled.
const SAMPLES: usize = 1_000;
/// Histograms that the buckets share, and requests in each.
const HISTOGRAMS: usize = 16;
const REQUESTS: usize = 1_000;
/// Steps of the menu between what was said and what is found.
const STEPS_MAX: usize = 1;

/// The parts of a request: the service itself and two callees.
const PARTS: usize = 3;

/// Milliseconds that each part takes.
struct Times([LogNormal<f64>; PARTS]);

type Request = [f64; PARTS];

impl Times {
    fn draw(random: &mut ChaCha8Rng) -> Self {
        Self(std::array::from_fn(|_| {
            let (median_ms, spread) = (random.random_range(5.0..120.0_f64), random.random_range(0.1..0.7));
            LogNormal::new(median_ms.ln(), spread).expect("a spread")
        }))
    }

    fn request(&self, random: &mut ChaCha8Rng) -> Request {
        self.0.map(|time| time.sample(random))
    }
}

/// Milliseconds of a request, but for those of a part.
fn without(request: &Request, part: Option<usize>) -> f64 {
    request.iter().enumerate().filter(|(at, _)| Some(*at) != part).map(|(_, ms)| ms).sum()
}

/// Draws requests for a case, and checks what is said of those that are slow.
pub(super) fn gone(case: &mut Case, input: &RecommendationInput, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x51_0e);
    let times = Times::draw(&mut random);
    let callee =
        |name: &str| EntityId::new("part", &format!("{name}-of-{}", input.service)).unwrap_or(input.service.clone());
    let parts = [input.service.clone(), callee("first"), callee("second")];
    let seen: Vec<Vec<Request>> =
        (0..HISTOGRAMS).map(|_| (0..REQUESTS).map(|_| times.request(&mut random)).collect()).collect();
    let sampled: Vec<Request> = (0..SAMPLES).map(|_| times.request(&mut random)).collect();
    let mut measured = measured(input, &seen, None);
    let Some(structure) = &mut measured.structure else { return };
    structure.slow_requests = Some(told(&sampled, &parts));
    let result = recommend(&measured);
    case.unknown_numbers.extend(paragraph::unknown_numbers(&result));
    let Some(binding) = latency(&result).map(|sli| &sli.binding_constraint) else { return };
    let (Some(said_ms), Some(part)) = (binding.relaxed_latency_threshold_ms, &binding.entity_id) else { return };
    let named = parts.iter().position(|of| of == part);
    let again = recommend(&self::measured(input, &seen, named));
    let found_ms = latency(&again).and_then(offered_ms);
    let near = |found_ms: u32| step(found_ms).abs_diff(step(said_ms)) <= STEPS_MAX;
    case.check("slow_parts", named.is_some() && found_ms.is_some_and(near), || {
        format!("without {part} {said_ms} ms was said, {found_ms:?} is found ({})", binding.detail)
    });
}

/// The input with the latencies of requests, as they would be without a part.
fn measured(input: &RecommendationInput, seen: &[Vec<Request>], part: Option<usize>) -> RecommendationInput {
    let histogram = |requests: &Vec<Request>| {
        let mut histogram = LatencyHistogram::empty();
        requests.iter().for_each(|request| histogram.record(without(request, part)));
        histogram
    };
    let histograms: Vec<LatencyHistogram> = seen.iter().map(histogram).collect();
    let mut input = input.clone();
    for (at, bucket) in input.history.buckets.iter_mut().enumerate() {
        bucket.latency = Some(histograms[at % histograms.len()].clone());
    }
    input
}

/// What the graph engine tells of sampled requests.
fn told(sampled: &[Request], parts: &[EntityId; PARTS]) -> SlowRequests {
    let above = |threshold_ms: u32| {
        let slower = |part: Option<usize>| {
            sampled.iter().filter(|request| without(request, part) > f64::from(threshold_ms)).count() as u32
        };
        let without: BTreeMap<EntityId, u32> =
            parts.iter().enumerate().map(|(at, part)| (part.clone(), slower(Some(at)))).collect();
        SlowAbove { threshold_ms, slow_count: slower(None), without }
    };
    SlowRequests { sample_count: sampled.len() as u32, thresholds: LATENCY_MENU_MS.map(above).to_vec() }
}

fn latency(result: &RecommendationResult) -> Option<&SliResult> {
    result.slis.iter().find(|sli| sli.kind == SliKind::Latency && !sli.fallback)
}

fn offered_ms(sli: &SliResult) -> Option<u32> {
    sli.offers.iter().find(|offer| offer.ambition == Ambition::Balanced).and_then(|offer| offer.latency_threshold_ms)
}

/// Place on the menu.
fn step(threshold_ms: u32) -> usize {
    LATENCY_MENU_MS.iter().take_while(|menu| **menu < threshold_ms).count()
}
