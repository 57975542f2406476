//! Who makes requests slow: what is said would be gained is what is gained where the part is gone.
#![allow(clippy::unwrap_used)]

mod simulated;

use std::collections::BTreeMap;

use attain_attainment::{
    Ambition, ConstraintKind, LATENCY_MENU_MS, RecommendationInput, RecommendationResult, SliResult, SlowAbove,
    SlowRequests, recommend,
};
use attain_vocabulary::{LatencyHistogram, SliKind};
use simulated::{Dice, World, id};

/// Milliseconds that the service takes itself, and that it waits for its dependency: median and spread of the logarithm.
#[derive(Clone, Copy)]
struct Times {
    own: (f64, f64),
    waiting: (f64, f64),
}

const WAITING: Times = Times { own: (30.0, 0.25), waiting: (70.0, 0.6) };
const BUSY: Times = Times { own: (70.0, 0.6), waiting: (10.0, 0.25) };

impl Times {
    /// One request: what it does itself, and what it waits.
    fn draw(self, dice: &mut Dice) -> (f64, f64) {
        let mut time = |(median, spread): (f64, f64)| median * libm::exp(spread * dice.normal());
        (time(self.own), time(self.waiting))
    }
}

/// Ninety days of as many requests a bucket; `kept` says what of a request's times is left. Histograms of a few buckets are used over and over.
fn input(times: Times, kept: impl Fn((f64, f64)) -> f64) -> RecommendationInput {
    let mut input = World::checkout(90).input();
    let mut dice = Dice(11);
    let histogram = |_| {
        let mut histogram = LatencyHistogram::empty();
        (0..1_000).for_each(|_| histogram.record(kept(times.draw(&mut dice))));
        histogram
    };
    let some: Vec<LatencyHistogram> = (0..32).map(histogram).collect();
    for (at, bucket) in input.history.buckets.iter_mut().enumerate() {
        bucket.latency = Some(some[at * 7 % some.len()].clone());
    }
    input
}

/// Requests of the same kind, sampled.
fn sampled(times: Times, count: u32) -> SlowRequests {
    let mut dice = Dice(23);
    let requests: Vec<(f64, f64)> = (0..count).map(|_| times.draw(&mut dice)).collect();
    let above = |threshold_ms: u32| {
        let slower = |left: fn(&(f64, f64)) -> f64| {
            requests.iter().filter(|request| left(request) > f64::from(threshold_ms)).count() as u32
        };
        let without = [(id("checkout-service"), slower(|request| request.1)), (id("payment-service"), slower(|r| r.0))];
        SlowAbove { threshold_ms, slow_count: slower(|request| request.0 + request.1), without: without.into() }
    };
    SlowRequests { sample_count: count, thresholds: LATENCY_MENU_MS.map(above).to_vec() }
}

fn with_samples(mut input: RecommendationInput, slow: SlowRequests) -> RecommendationResult {
    input.structure.as_mut().unwrap().slow_requests = Some(slow);
    recommend(&input)
}

fn latency(result: &RecommendationResult) -> &SliResult {
    result.slis.iter().find(|sli| sli.kind == SliKind::Latency).unwrap()
}

fn offered(result: &RecommendationResult) -> usize {
    let balanced = latency(result).offers.iter().find(|offer| offer.ambition == Ambition::Balanced).unwrap();
    step(balanced.latency_threshold_ms.unwrap())
}

fn step(threshold_ms: u32) -> usize {
    LATENCY_MENU_MS.iter().position(|menu| *menu == threshold_ms).unwrap()
}

#[test]
fn without_whom_it_waits_for_it_offers_what_was_said() {
    for (times, part, kind, kept) in [
        (WAITING, "payment-service", ConstraintKind::Dependency, (|r| r.0) as fn((f64, f64)) -> f64),
        (BUSY, "checkout-service", ConstraintKind::Own, |r| r.1),
    ] {
        let result = with_samples(input(times, |(own, waiting)| own + waiting), sampled(times, 1_000));
        let binding = &latency(&result).binding_constraint;
        assert_eq!((binding.kind, binding.entity_id.clone()), (kind, Some(id(part))), "{}", binding.detail);
        let slow = 1.0 - latency(&result).measured.attained_ratio.unwrap();
        assert!(binding.contribution_ratio > 0.8 * slow && binding.contribution_ratio < slow, "{}", binding.detail);
        let relaxed = binding.relaxed_latency_threshold_ms.unwrap();
        let gone = offered(&recommend(&input(times, kept)));
        assert!(step(relaxed).abs_diff(gone) <= 1, "said {relaxed}, became {}", LATENCY_MENU_MS[gone]);
        assert!(step(relaxed) < offered(&result));
        let sentence = format!("without that {relaxed} ms could be offered");
        assert!(result.explanation.contains(&sentence), "{}", result.explanation);
        // Nothing that is offered rests on samples.
        let unsampled = recommend(&input(times, |(own, waiting)| own + waiting));
        assert_eq!(latency(&unsampled).offers, latency(&result).offers);
    }
}

#[test]
fn where_samples_do_not_tell_all_is_its_own_and_said_so() {
    let measured = input(WAITING, |(own, waiting)| own + waiting);
    let untold = recommend(&measured);
    let few = with_samples(measured.clone(), sampled(WAITING, 9));
    let nobody = SlowRequests {
        sample_count: 1_000,
        thresholds: LATENCY_MENU_MS
            .map(|threshold_ms| SlowAbove { threshold_ms, slow_count: 50, without: BTreeMap::new() })
            .to_vec(),
    };
    let nobody = with_samples(measured, nobody);
    for (result, said) in [
        (&untold, "waiting for dependencies included."),
        (&few, "waiting for dependencies included: too few of 9 sampled requests are slow to tell for whom."),
        (&nobody, "and no part alone, gone, would make any of the sampled ones fast enough."),
    ] {
        let binding = &latency(result).binding_constraint;
        assert_eq!((binding.kind, binding.entity_id.clone()), (ConstraintKind::Own, Some(id("checkout-service"))));
        assert_eq!(binding.relaxed_latency_threshold_ms, None);
        assert!(binding.detail.ends_with(said), "{}", binding.detail);
        assert!(!result.explanation.contains("What holds it back"), "{}", result.explanation);
    }
}
