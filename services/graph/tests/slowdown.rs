//! What changes do to latency, against requests whose latency after the change is known.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod fixture;

use std::collections::BTreeMap;

use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::requests::{Requests, Sampled, SampledCall};
use attain_graph::domain::scenario::{Amendment, Place, SaidTerms};
use attain_graph::domain::slowdown::{Alterations, Change, Inputs, Outcome, Outcomes, Scope, evaluate};
use attain_graph::domain::snapshot::{Dependency, Snapshot, Terms};
use attain_vocabulary::{DependencyMode, LatencyHistogram};
use fixture::{at, edge, graph, hard, id, in_background, names};
use proptest::prelude::*;

const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];

struct World {
    snapshot: Snapshot,
    requests: BTreeMap<NodeIndex, Requests>,
    own: BTreeMap<NodeIndex, LatencyHistogram>,
    calls: BTreeMap<(NodeIndex, NodeIndex), LatencyHistogram>,
}

impl World {
    fn of(edges: impl IntoIterator<Item = Dependency>) -> Self {
        Self { snapshot: graph(edges), requests: BTreeMap::new(), own: BTreeMap::new(), calls: BTreeMap::new() }
    }

    fn sampled(mut self, name: &str, samples: Vec<Sampled>) -> Self {
        self.requests.insert(at(&self.snapshot, name), Requests::read(name, samples).unwrap());
        self
    }

    fn counted(mut self, caller: &str, callee: &str, latencies_ms: impl IntoIterator<Item = f64>) -> Self {
        let ends = (at(&self.snapshot, caller), at(&self.snapshot, callee));
        self.calls.insert(ends, histogram(latencies_ms));
        self
    }

    fn measured(mut self, name: &str, latencies_ms: impl IntoIterator<Item = f64>) -> Self {
        self.own.insert(at(&self.snapshot, name), histogram(latencies_ms));
        self
    }

    fn after(&self, changes: &[Change]) -> Outcomes {
        self.after_at_most(changes, &[], usize::MAX, &|| false)
    }

    fn after_at_most(
        &self,
        changes: &[Change],
        asked: &[&str],
        nodes_max: usize,
        give_up: &dyn Fn() -> bool,
    ) -> Outcomes {
        let alterations = Alterations::resolve(&self.snapshot, changes).unwrap();
        let asked: Vec<NodeIndex> = asked.iter().map(|name| at(&self.snapshot, name)).collect();
        let scope = Scope::of(&self.snapshot, &alterations, &asked, nodes_max);
        let of_calls = |edge| {
            let edge = self.snapshot.edge(edge);
            self.calls.get(&(edge.caller, edge.callee)).cloned()
        };
        let inputs = Inputs {
            snapshot: &self.snapshot,
            alterations: &alterations,
            requests: &self.requests,
            own: &self.own,
            of_calls: &of_calls,
        };
        evaluate(&inputs, &scope, give_up)
    }

    fn outcome(&self, changes: &[Change], name: &str) -> Outcome {
        let node = at(&self.snapshot, name);
        let found = self.after(changes);
        let names = names(&self.snapshot, &found.unknown).join(", ");
        let outcome = found.services.into_iter().find(|outcome| outcome.node == node);
        outcome.unwrap_or_else(|| panic!("{name} is composed; unknown are {names}"))
    }

    fn unknown(&self, changes: &[Change]) -> Vec<String> {
        let found = self.after(changes);
        names(&self.snapshot, &found.unknown).into_iter().map(str::to_owned).collect()
    }
}

fn histogram(latencies_ms: impl IntoIterator<Item = f64>) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    latencies_ms.into_iter().for_each(|latency_ms| histogram.record(latency_ms));
    histogram
}

/// Callee, beginning and duration in milliseconds.
type Call<'a> = (&'a str, f64, f64);

fn sample(place: usize, duration_ms: f64, calls: &[Call<'_>]) -> Sampled {
    let us = |ms: f64| (ms * 1e3).round() as u64;
    let call = |&(callee_id, start_ms, duration_ms): &Call<'_>| SampledCall {
        callee_id: callee_id.to_owned(),
        start_us: us(start_ms),
        duration_us: us(duration_ms),
        failed: false,
    };
    Sampled {
        start_ms: 1_000 * place as i64,
        duration_us: us(duration_ms),
        calls: calls.iter().map(call).collect(),
        truncated: false,
    }
}

fn times(name: &str, factor: f64) -> Change {
    Change::Times { entity_id: name.into(), factor }
}

fn plus(name: &str, added_ms: f64) -> Change {
    Change::Plus { entity_id: name.into(), added_ms }
}

fn down(name: &str) -> Change {
    Change::Outage(Place::Entity(name.into()))
}

fn set(caller: &str, callee: &str, say: impl FnOnce(&mut SaidTerms)) -> Change {
    let mut said = SaidTerms::default();
    say(&mut said);
    Change::Set(Box::new(Amendment { caller: id(caller), callee: id(callee), said }))
}

fn remove(caller: &str, callee: &str) -> Change {
    Change::Remove { caller_id: caller.into(), callee_id: callee.into() }
}

fn with_timeout(caller: &str, callee: &str, timeout_ms: u32, retry_count: u32) -> Dependency {
    let terms = Terms { timeout_ms: Some(timeout_ms), retry_count, ..Terms::of_mode(DependencyMode::Hard) };
    edge(caller, callee, terms)
}

fn exactly(outcome: &Outcome, expected: impl Fn(f64) -> f64) {
    for quantile in QUANTILES {
        let expected = expected(quantile);
        let (low, high) = outcome.after(quantile);
        let near = |found: f64| (found - expected).abs() < 2e-6 * (1.0 + expected);
        assert!(near(low) && near(high), "{quantile}: {expected} is not {low} to {high}");
    }
}

fn quantile(values: &mut [f64], quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = (quantile * values.len() as f64 - 0.5).clamp(0.0, values.len() as f64 - 1.0);
    let (below, above) = (values[position.floor() as usize], values[position.ceil() as usize]);
    below + position.fract() * (above - below)
}

/// Numbers in `[0, 1)` that look like chance and are none.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        // Knuth's MMIX.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Milliseconds with a long tail, whole microseconds.
    fn latency(&mut self, scale_ms: f64) -> f64 {
        let u = self.next();
        (scale_ms * (0.2 - (1.0 - u).ln()) * 1e3).round() / 1e3
    }
}

#[test]
fn nothing_that_changes_changes_nothing_to_the_last_bit() {
    let mut numbers = Numbers(1);
    let samples = (0..60).map(|place| {
        let x = numbers.latency(20.0);
        sample(place, x + numbers.latency(10.0), &[("x", 0.0, x)])
    });
    let sampled = World::of([hard("a", "x"), hard("b", "a")]).sampled("a", samples.collect());
    let sampled = sampled.counted("b", "a", (1..500).map(f64::from)).measured("b", (1..900).map(f64::from));
    for changes in [
        vec![times("x", 1.0)],
        vec![plus("x", 40.0), plus("x", -40.0)],
        vec![times("x", 4.0), plus("x", 8.0), times("x", 0.25), plus("x", -2.0)],
        vec![
            set("a", "x", |said| said.call_fraction = Some(1.0)),
            set("a", "x", |said| said.mode = Some(DependencyMode::Hard)),
        ],
        vec![remove("a", "x"), set("a", "x", |_| {}), Change::Other],
    ] {
        for name in ["a", "b"] {
            let outcome = sampled.outcome(&[changes.clone(), vec![times("a", 1.0)]].concat(), name);
            for quantile in QUANTILES {
                let before = outcome.before.quantile(quantile);
                assert_eq!(outcome.after(quantile), (before, before), "{name} {changes:?}");
            }
            let before = outcome.before.share_above(30.0);
            assert_eq!(outcome.share_above_after(30.0), (before, before));
        }
    }
}

#[test]
fn a_call_that_is_hidden_behind_a_slower_one_counts_once_it_is_the_slower() {
    let samples = |place| sample(place, 60.0, &[("x", 5.0, 50.0), ("y", 5.0, 30.0)]);
    let world = World::of([hard("a", "x"), hard("a", "y")]).sampled("a", (0..40).map(samples).collect());
    exactly(&world.outcome(&[times("y", 1.6)], "a"), |_| 60.0);
    exactly(&world.outcome(&[times("y", 2.0)], "a"), |_| 70.0);
    exactly(&world.outcome(&[plus("y", 45.0)], "a"), |_| 85.0);
    exactly(&world.outcome(&[times("x", 0.1)], "a"), |_| 40.0);
    exactly(&world.outcome(&[remove("a", "x")], "a"), |_| 40.0);
}

#[test]
fn calls_one_after_the_other_add_up_and_a_service_can_be_slower_itself() {
    let samples = |place| sample(place, 100.0, &[("x", 10.0, 20.0), ("x", 30.0, 20.0), ("y", 60.0, 10.0)]);
    let world = World::of([hard("a", "x"), hard("a", "y")]).sampled("a", (0..40).map(samples).collect());
    exactly(&world.outcome(&[plus("x", 7.0)], "a"), |_| 114.0);
    exactly(&world.outcome(&[times("x", 2.0), times("y", 3.0)], "a"), |_| 160.0);
    exactly(&world.outcome(&[times("x", 2.0), times("a", 0.5), plus("a", 1.0)], "a"), |_| 71.0);
    assert_eq!(world.outcome(&[plus("x", 7.0)], "a").share_above_after(113.0), (1.0, 1.0));
    assert_eq!(world.outcome(&[plus("x", 7.0)], "a").share_above_after(115.0), (0.0, 0.0));
    // A latency of its own stays above 0.
    exactly(&world.outcome(&[plus("x", -500.0)], "a"), |_| 60.0);
}

/// Requests of `a`, each with one of `x`, which waits for `z`; what `z` takes after the change is given.
struct Chain {
    /// Own time of a, what x takes besides z, z.
    parts: Vec<[f64; 3]>,
}

impl Chain {
    fn of(seed: u64, count: usize) -> Self {
        let mut numbers = Numbers(seed);
        let part = |_| [numbers.latency(8.0), numbers.latency(15.0), numbers.latency(30.0)];
        Self { parts: (0..count).map(part).collect() }
    }

    fn world(&self) -> World {
        World::of([hard("a", "x"), hard("x", "z")])
    }

    fn samples_of_a(&self) -> Vec<Sampled> {
        let sample = |(place, [a, x, z]): (usize, &[f64; 3])| sample(place, a + x + z, &[("x", a / 2.0, x + z)]);
        self.parts.iter().enumerate().map(sample).collect()
    }

    fn samples_of_x(&self) -> Vec<Sampled> {
        let sample = |(place, [_, x, z]): (usize, &[f64; 3])| sample(place, x + z, &[("z", x / 2.0, *z)]);
        self.parts.iter().enumerate().map(sample).collect()
    }

    fn a_after(&self, z_after: impl Fn(f64) -> f64) -> Vec<f64> {
        self.parts.iter().map(|[a, x, z]| a + x + z_after(*z)).collect()
    }

    fn counted(&self, world: World) -> World {
        let world = world.counted("a", "x", self.parts.iter().map(|[_, x, z]| x + z));
        world.counted("x", "z", self.parts.iter().map(|[.., z]| *z)).measured("a", self.a_after(|z| z))
    }
}

#[test]
fn two_levels_of_samples_are_exact_however_requests_are_mixed() {
    for seed in 0..20 {
        let chain = Chain::of(seed, 200);
        let world = chain.world().sampled("a", chain.samples_of_a()).sampled("x", chain.samples_of_x());
        for (change, after) in [
            (times("z", 3.0), (|z| 3.0 * z) as fn(f64) -> f64),
            (times("z", 0.2), |z| 0.2 * z),
            (plus("z", 120.0), |z| z + 120.0),
        ] {
            let outcome = world.outcome(&[change], "a");
            let mut expected = chain.a_after(after);
            exactly(&outcome, |at| quantile(&mut expected.clone(), at));
            expected.sort_by(f64::total_cmp);
            assert_eq!(outcome.sample_count, 200);
        }
    }
}

#[test]
fn a_change_and_its_reverse_cancel_where_there_are_samples() {
    let chain = Chain::of(3, 120);
    let world = chain.world().sampled("a", chain.samples_of_a()).sampled("x", chain.samples_of_x());
    for name in ["a", "x"] {
        let outcome = world.outcome(&[times("z", 3.0), plus("x", 5.0), plus("x", -5.0), times("z", 1.0 / 3.0)], name);
        exactly(&outcome, |at| outcome.before.quantile(at));
    }
    // Twice as slow, taken as the present state, and then back.
    let slower: Vec<[f64; 3]> = chain.parts.iter().map(|[a, x, z]| [*a, *x, 2.0 * z]).collect();
    let slower = Chain { parts: slower };
    let back = slower.world().sampled("a", slower.samples_of_a()).sampled("x", slower.samples_of_x());
    let original = world.outcome(&[times("z", 1.0)], "a");
    exactly(&back.outcome(&[times("z", 0.5)], "a"), |at| original.before.quantile(at));
}

#[test]
fn half_of_the_calls_is_half_of_the_requests_that_wait() {
    let samples = |place| sample(place, 100.0, &[("x", 10.0, 60.0)]);
    let world = World::of([hard("a", "x")]).sampled("a", (0..40).map(samples).collect());
    let half = world.outcome(&[set("a", "x", |said| said.call_fraction = Some(0.25))], "a");
    assert_eq!(half.share_above_after(99.0), (0.25, 0.25));
    assert_eq!(half.after(0.5), (40.0, 40.0));
    exactly(&world.outcome(&[set("a", "x", |said| said.mode = Some(DependencyMode::Async))], "a"), |_| 40.0);
    // Of calls of which no sample tells when they are made nobody knows who is waited for.
    let mixed = |place| if place % 2 == 0 { samples(place) } else { sample(place, 40.0, &[]) };
    let half_call = edge("a", "x", Terms { call_fraction: Some(0.5), ..Terms::of_mode(DependencyMode::Hard) });
    let world = World::of([half_call]).sampled("a", (0..40).map(mixed).collect());
    let more = world.outcome(&[set("a", "x", |said| said.call_fraction = Some(1.0))], "a");
    let (low, high) = more.after(0.25);
    assert!(low == 40.0 && high >= 100.0, "{low} {high}");
    assert!(more.after(0.99).1 <= 160.1, "{:?}", more.after(0.99));
    let fewer = world.outcome(&[set("a", "x", |said| said.call_fraction = Some(0.25))], "a");
    assert_eq!(fewer.share_above_after(99.0), (0.25, 0.25));
}

#[test]
fn a_call_waits_for_its_timeouts_at_most() {
    let samples = |place| sample(place, 60.0, &[("x", 5.0, 50.0)]);
    let world = |edge| World::of([edge]).sampled("a", (0..40).map(samples).collect());
    let once = world(with_timeout("a", "x", 80, 0));
    exactly(&once.outcome(&[times("x", 1.5)], "a"), |_| 85.0);
    exactly(&once.outcome(&[times("x", 40.0)], "a"), |_| 90.0);
    assert_eq!(once.outcome(&[down("x")], "a").after(0.5), (10.0, 90.0), "it fails at once, or hangs");
    let thrice = world(with_timeout("a", "x", 80, 2));
    assert_eq!(thrice.outcome(&[times("x", 40.0)], "a").after(0.5), (90.0, 250.0));
    // A timeout that is not kept today is not counted on; one that is new is.
    let not_kept = world(with_timeout("a", "x", 20, 0));
    exactly(&not_kept.outcome(&[times("x", 2.0)], "a"), |_| 60.0);
    let cut = not_kept.outcome(&[set("a", "x", |said| said.timeout_ms = Some(30))], "a");
    exactly(&cut, |_| 40.0);
    // Nobody knows how long a call waits without one.
    let endless = World::of([hard("a", "x"), hard("b", "a")]).sampled("a", (0..40).map(samples).collect());
    assert_eq!(endless.unknown(&[down("x")]), ["a", "b"]);
    let shielded = World::of([hard("a", "x"), with_timeout("b", "a", 100, 1)]);
    let shielded = shielded.sampled("a", (0..40).map(samples).collect());
    let shielded = shielded.sampled("b", (0..40).map(|place| sample(place, 70.0, &[("a", 5.0, 60.0)])).collect());
    assert_eq!(shielded.unknown(&[down("x")]), ["a"]);
    assert_eq!(shielded.outcome(&[down("x")], "b").after(0.5), (10.0, 210.0));
}

#[test]
fn failed_calls_that_are_tried_again_take_up_to_their_time_once_more() {
    let samples = (0..40).map(|place| {
        let mut sample = sample(place, 60.0, &[("x", 5.0, 50.0)]);
        sample.calls[0].failed = place % 4 == 0;
        sample
    });
    let world = World::of([hard("a", "x")]).sampled("a", samples.collect());
    let retried = world.outcome(&[set("a", "x", |said| said.retry_count = Some(2))], "a");
    assert_eq!(retried.after(0.5), (60.0, 60.0));
    let (low, high) = retried.after(0.9);
    assert!(low == 60.0 && (high - 160.0).abs() < 1e-6, "{low} {high}");
    // Shares of a range are rounded up to thousandths.
    let (low, high) = retried.share_above_after(61.0);
    assert!(low == 0.0 && (0.25..0.2521).contains(&high), "{low} {high}");
}

#[test]
fn what_is_called_in_the_background_is_not_waited_for() {
    let samples = |place| sample(place, 20.0, &[("x", 5.0, 10.0)]);
    let world = World::of([in_background("a", "x"), hard("b", "a")]).sampled("a", (0..40).map(samples).collect());
    let found = world.after(&[times("x", 10.0)]);
    assert!(found.services.is_empty(), "{:?}", found.services);
    assert_eq!(names(&world.snapshot, &found.unknown), ["x"], "it changes itself, and nobody measured it");
}

#[test]
fn a_cycle_of_which_samples_tell_comes_to_rest_and_another_is_confessed() {
    // Every third request of b calls a again, which calls b again: such a request takes longer.
    let deep = |place: usize| place.is_multiple_of(3);
    let of_b = |place: usize| {
        let again = if deep(place) { 40.0 } else { 0.0 };
        let calls = [("z", 2.0, 10.0), ("a", 20.0, again)];
        sample(place, 25.0 + again + place as f64 / 1e3, &calls[..if deep(place) { 2 } else { 1 }])
    };
    let of_a = |place: usize| {
        let b = if deep(place) { 65.0 } else { 25.0 };
        sample(place, b + 5.0 + place as f64 / 1e3, &[("b", 2.0, b)])
    };
    let edges = [hard("a", "b"), hard("b", "a"), hard("b", "z"), hard("c", "a")];
    let world = World::of(edges.clone());
    let world = world.sampled("a", (0..90).map(of_a).collect()).sampled("b", (0..90).map(of_b).collect());
    let outcome = world.outcome(&[plus("z", 6.0)], "a");
    assert!(outcome.in_cycle && !world.outcome(&[plus("a", 1.0), times("z", 1.0)], "a").before.quantile(0.5).is_nan());
    // Two thirds of b's requests call nobody who is slower but z; a request that goes round once has both.
    let (low, high) = outcome.after(0.5);
    assert!((low - outcome.before.quantile(0.5) - 6.0).abs() < 0.1 && (high - low).abs() < 1e-6, "{low} {high}");
    let (low, _) = outcome.after(0.95);
    let more = low - outcome.before.quantile(0.95);
    assert!((12.0..40.0).contains(&more), "{more}");
    // Without samples every request of either calls the other, for ever.
    let unsampled = World::of(edges).counted("a", "b", [20.0; 9]).counted("b", "a", [30.0; 9]);
    let unsampled = unsampled.counted("b", "z", [10.0; 9]).counted("c", "a", [30.0; 9]);
    assert_eq!(unsampled.unknown(&[plus("z", 6.0)]), ["a", "b", "c"]);
}

#[test]
fn without_samples_calls_one_after_the_other_and_at_once_are_both_within() {
    let edges = [hard("a", "x"), hard("a", "y")];
    let world = World::of(edges).counted("a", "x", [20.0; 50]).counted("a", "y", [30.0; 50]).measured("a", [60.0; 50]);
    let outcome = world.outcome(&[plus("x", 25.0), plus("y", 5.0)], "a");
    let before = outcome.before.quantile(0.9);
    let (low, high) = outcome.after(0.9);
    assert!(low == before && (high - before - 30.0).abs() < 4.0, "{low} {high}");
    let faster = world.outcome(&[times("x", 0.5)], "a");
    let (low, high) = faster.after(0.5);
    assert!(high == faster.before.quantile(0.5) && (high - low - 10.0).abs() < 1.5, "{low} {high}");
    let removed = world.outcome(&[remove("a", "y")], "a");
    assert!((removed.before.quantile(0.5) - removed.after(0.5).0 - 30.0).abs() < 4.0);
    // A call of one in a hundred requests does not move the 95th.
    let seldom = edge("a", "x", Terms { call_fraction: Some(0.01), ..Terms::of_mode(DependencyMode::Hard) });
    let world = World::of([seldom]).counted("a", "x", [20.0; 50]).measured("a", [60.0; 50]);
    let outcome = world.outcome(&[times("x", 100.0)], "a");
    let (before, (low, high)) = (outcome.before.quantile(0.95), outcome.after(0.95));
    assert!(low == before && (0.0..0.2).contains(&(high - before)), "{before} {low} {high}");
    assert!(outcome.share_above_after(100.0).1 <= 0.0121);
}

#[test]
fn what_nobody_knows_is_said_and_what_is_known_of_it_is_used() {
    // Nobody knows how long calls to x take: so much longer is known, so many times as long is not.
    let world = World::of([hard("a", "x"), hard("b", "a")]).counted("b", "a", [40.0; 9]).measured("b", [50.0; 9]);
    assert_eq!(world.unknown(&[times("x", 2.0)]), ["a", "b", "x"]);
    assert_eq!(world.unknown(&[plus("x", 10.0)]), ["x"]);
    let b = world.outcome(&[plus("x", 10.0)], "b");
    assert!((b.after(0.5).1 - b.before.quantile(0.5) - 10.0).abs() < 0.1);
    // A service that nobody calls and nobody measured hands on what it waits for.
    let world = World::of([hard("a", "x"), hard("b", "a")]).counted("a", "x", [20.0; 9]).measured("b", [50.0; 9]);
    assert_eq!(world.unknown(&[times("x", 2.0)]), ["a"]);
    let b = world.outcome(&[times("x", 2.0)], "b");
    assert!((b.after(0.5).1 - b.before.quantile(0.5) - 20.0).abs() < 2.0);
}

#[test]
fn a_call_that_is_added_takes_as_long_as_calls_to_the_callee_do() {
    let world = World::of([hard("a", "x"), hard("b", "y")]).counted("b", "y", [20.0; 9]).measured("a", [50.0; 9]);
    let added = world.outcome(&[set("a", "y", |_| {})], "a");
    let (low, high) = added.after(0.5);
    assert!(low == added.before.quantile(0.5) && (high - low - 20.0).abs() < 2.0, "{low} {high}");
    let slower = world.outcome(&[set("a", "y", |_| {}), times("y", 3.0)], "a");
    assert!((slower.after(0.5).1 - low - 60.0).abs() < 6.0);
    assert_eq!(world.unknown(&[set("b", "x", |_| {})]), ["b"], "nobody knows how long x takes");
}

#[test]
fn only_what_lies_above_a_change_is_composed_and_only_so_much() {
    let edges = [hard("a", "x"), hard("b", "a"), hard("c", "b"), hard("d", "z"), hard("e", "x")];
    let mut world = World::of(edges);
    for name in ["a", "b", "c", "d", "e", "x", "z"] {
        world = world.measured(name, [50.0; 9]);
    }
    let composed = |found: &Outcomes| -> Vec<String> {
        found.services.iter().map(|outcome| world.snapshot.id(outcome.node).to_string()).collect()
    };
    let change = [plus("x", 10.0)];
    assert_eq!(composed(&world.after(&change)), ["a", "b", "c", "e", "x"]);
    let asked = world.after_at_most(&change, &["b", "d"], usize::MAX, &|| false);
    assert_eq!(composed(&asked), ["a", "b", "x"], "and what lies between");
    let three = world.after_at_most(&change, &[], 3, &|| false);
    assert_eq!(composed(&three), ["a", "e", "x"]);
    assert_eq!(names(&world.snapshot, &three.unevaluated), ["b", "c"]);
    let calls = std::cell::Cell::new(0);
    let given_up = world.after_at_most(&change, &[], usize::MAX, &|| calls.replace(calls.get() + 1) >= 2);
    assert_eq!((given_up.services.len(), given_up.unevaluated.len()), (2, 3));
    let unknown = Alterations::resolve(&world.snapshot, &[plus("x", 1.0), times("nobody", 2.0)]).unwrap_err();
    assert_eq!((unknown[0].field.as_str(), unknown[0].code), ("changes/1/latency/entity_id", "unknown_entity"));
}

/// A shape of calls: how long a request takes when its calls take these times.
fn shaped(shape: u8, own: f64, x: f64, y: f64) -> f64 {
    match shape {
        0 => own + x + y,
        1 => own + x.max(y),
        // y begins when x is half done.
        _ => own + x.max(x / 2.0 + y),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn slower_is_never_faster(seed in any::<u64>(), factors in (0.1..4.0_f64, 0.1..4.0_f64), sampled in 0..4_u8) {
        let chain = Chain::of(seed, 40);
        let mut world = chain.counted(chain.world());
        if sampled & 1 != 0 {
            world = world.sampled("a", chain.samples_of_a());
        }
        if sampled & 2 != 0 {
            world = world.sampled("x", chain.samples_of_x());
        }
        let (less, more) = (factors.0.min(factors.1), factors.0.max(factors.1));
        let (less, more) = (world.outcome(&[times("z", less)], "a"), world.outcome(&[times("z", more)], "a"));
        for quantile in QUANTILES {
            let ((low, high), (low_more, high_more)) = (less.after(quantile), more.after(quantile));
            prop_assert!(low <= low_more + 1e-6 && high <= high_more + 1e-6, "{low} {high} {low_more} {high_more}");
            prop_assert!(low <= high + 1e-6);
        }
    }

    /// Whatever is sampled, the latency after lies in the range: as far as buckets of histograms and a few ranks tell.
    #[test]
    fn ranges_hold_what_requests_would_take(
        seed in any::<u64>(),
        shape in 0..3_u8,
        together in any::<bool>(),
        factor in 0.2..5.0_f64,
        sampled in 0..4_u8,
    ) {
        let mut numbers = Numbers(seed);
        // Own time of a, y, what x takes besides z, and z.
        let parts: Vec<[f64; 4]> = (0..400).map(|_| {
            let busy = numbers.next();
            let mut part = |scale: f64| numbers.latency(if together { scale * (0.2 + 3.0 * busy) } else { scale });
            [part(5.0), part(20.0), part(10.0), part(20.0)]
        }).collect();
        let x = |part: &[f64; 4]| part[2] + part[3];
        let a = |part: &[f64; 4], z: f64| shaped(shape, part[0], part[2] + z, part[1]);
        let mut world = World::of([hard("a", "x"), hard("a", "y"), hard("x", "z")])
            .counted("a", "x", parts.iter().map(x))
            .counted("a", "y", parts.iter().map(|part| part[1]))
            .counted("x", "z", parts.iter().map(|part| part[3]))
            .measured("a", parts.iter().map(|part| a(part, part[3])));
        if sampled & 1 != 0 {
            let samples = parts.iter().enumerate().map(|(place, part)| {
                let begin = match shape { 0 => x(part), 1 => 0.0, _ => x(part) / 2.0 };
                sample(place, a(part, part[3]), &[("x", 0.0, x(part)), ("y", begin, part[1])])
            });
            world = world.sampled("a", samples.collect());
        }
        if sampled & 2 != 0 {
            let samples = parts.iter().enumerate().map(|(place, part)| sample(place, x(part), &[("z", 0.0, part[3])]));
            world = world.sampled("x", samples.collect());
        }
        let outcome = world.outcome(&[times("z", factor)], "a");
        // A call that begins when another is half done is pushed back by it, which no sample tells: up to half of the change.
        if shape == 2 && sampled & 1 != 0 {
            return Ok(());
        }
        let mut truth: Vec<f64> = parts.iter().map(|part| a(part, factor * part[3])).collect();
        for at in QUANTILES {
            let (low, high) = outcome.after(at);
            let slack = if sampled == 3 { 0.0 } else { 0.01 };
            let (least, most) = (quantile(&mut truth, at - slack), quantile(&mut truth, (at + slack).min(1.0)));
            prop_assert!(low <= most * 1.1 + 0.01, "{at}: {low} is above {most}");
            prop_assert!(high * 1.1 + 0.01 >= least, "{at}: {high} is below {least}");
            if sampled == 3 {
                let expected = quantile(&mut truth, at);
                prop_assert!((low - expected).abs() < 0.01 && (high - expected).abs() < 0.01, "{low} {high} {expected}");
            }
        }
    }
}
