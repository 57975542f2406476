//! How long a service waits for its calls, against what can be drawn or worked out by hand.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use attain_graph::domain::latency::{self, CALLS_MAX, Call, WaitQuantile, dearest, split};
use attain_vocabulary::LatencyHistogram;
use proptest::prelude::*;

fn histogram_of(observations: &[(f64, u64)]) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    observations.iter().for_each(|&(latency_ms, count)| histogram.record_many(latency_ms, count));
    histogram
}

fn call(callee: u32, call_fraction: f64, count: u32, observations: &[(f64, u64)]) -> Call {
    Call { callee, call_fraction, count, latency: histogram_of(observations) }
}

fn wait(calls: &[Call]) -> Result<Vec<WaitQuantile>, attain_composition::Error> {
    latency::wait(calls, &|| false).map(Option::unwrap)
}

fn near(found: f64, expected: f64) -> bool {
    (found / expected - 1.0).abs() < 0.05
}

#[test]
fn one_call_alone_is_its_own_latency() {
    let found = wait(&[call(0, 1.0, 1, &[(10.0, 900), (80.0, 100)])]).unwrap();
    for quantile in &found {
        let expected = if quantile.quantile < 0.9 { 10.0 } else { 80.0 };
        let (low, high) = quantile.in_sequence;
        if quantile.quantile != 0.9 {
            assert!(near(low, expected) && near(high, expected), "{quantile:?}");
        }
        assert_eq!(quantile.in_sequence, quantile.at_once);
    }
    assert_eq!(wait(&[]).unwrap(), []);
}

#[test]
fn who_seldom_calls_seldom_waits_and_calls_add_up() {
    let seldom = wait(&[call(0, 0.03, 1, &[(50.0, 1_000)])]).unwrap();
    assert_eq!(seldom[2].in_sequence.1, 0.0, "95 of 100 requests do not call");
    assert!(near(seldom[3].in_sequence.0, 50.0));
    // Constant latencies leave no doubt: twice 20 ms and once 30.
    let both = wait(&[call(0, 1.0, 2, &[(20.0, 100)]), call(1, 1.0, 1, &[(30.0, 100)])]).unwrap();
    for quantile in both {
        assert!(near(quantile.in_sequence.0, 70.0) && near(quantile.in_sequence.1, 70.0), "{quantile:?}");
        assert!(near(quantile.at_once.0, 40.0) && near(quantile.at_once.1, 40.0), "{quantile:?}");
    }
}

#[test]
fn nobody_waits_for_an_answer_that_is_given_up() {
    let calls = [call(0, 1.0, 3, &[(10.0, 900)]), call(1, 1.0, 1, &[(30.0, 100)])];
    assert_eq!(latency::wait(&calls, &|| true).unwrap(), None);
    assert_eq!(latency::wait(&[], &|| true).unwrap(), Some(Vec::new()));
}

#[test]
fn a_threshold_is_split_where_it_saves_most() {
    let calls = [call(0, 1.0, 1, &[(100.0, 990), (400.0, 10)]), call(1, 1.0, 2, &[(20.0, 1_000)])];
    let budget = split(&calls, 500.0).unwrap();
    assert!(budget.stages_ms[0] >= 400.0 && budget.stages_ms[1] >= 40.0, "{budget:?}");
    assert!(budget.stages_ms.iter().sum::<f64>() <= 500.0 + 1e-9);
    assert_eq!(budget.miss_probability_max, 0.0);
    // Too little for the slow hundredth: it is given up.
    let tight = split(&calls, 200.0).unwrap();
    assert!((tight.miss_probability_max - 0.01).abs() < 1e-9, "{tight:?}");
    assert!(split(&calls, 0.0).is_err() && split(&[], 10.0).is_err());
}

#[test]
fn the_dearest_calls_are_composed_and_the_rest_is_confessed() {
    let many: Vec<Call> = (0..60).map(|n| call(n as u32, 1.0, 1, &[(1.2_f64.powi(n), 10)])).collect();
    let (kept, truncated) = dearest(many);
    assert!(truncated && kept.len() == CALLS_MAX as usize);
    assert_eq!((kept[0].callee, kept[39].callee), (59, 20));
    assert!(!dearest(vec![call(0, 1.0, 10, &[(1.0, 1)])]).1);
}

#[test]
fn a_scaled_latency_is_so_many_times_as_long() {
    let before = histogram_of(&[(10.0, 500), (40.0, 500)]);
    for factor in [0.5, 1.0, 2.0, 3.7] {
        let after = before.scaled(factor).unwrap();
        assert!(near(after.mean().unwrap(), factor * before.mean().unwrap()), "{factor}");
        assert!(near(after.quantile(0.25).unwrap(), factor * before.quantile(0.25).unwrap()), "{factor}");
    }
    assert!(before.scaled(0.0).is_err() && before.scaled(f64::NAN).is_err() && before.scaled(1e300).is_err());
}

const POINTS: usize = 2_000;

/// Ranks of three latencies that have nothing to do with each other. No chance in it: the additive recurrence of the plastic
/// number fills the square evenly, beside equal steps.
fn spread_evenly() -> impl Iterator<Item = [f64; 3]> {
    (0..POINTS).map(|point| {
        let at = point as f64 + 0.5;
        [at / POINTS as f64, (at * 0.754_877_666_246_693).fract(), (at * 0.569_840_290_998_053).fract()]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever moves together: the same ranks for all, or each its own.
    #[test]
    fn what_is_drawn_lies_within_the_bounds(
        seeds in proptest::collection::vec((1.0..200.0_f64, 1.0..5.0_f64, 0.2..1.0_f64), 1..4),
        together in any::<bool>(),
    ) {
        let calls: Vec<Call> = (0..)
            .zip(&seeds)
            .map(|(n, (base, spread, fraction))| {
                call(n, *fraction, 1, &[(*base, 700), (base * spread, 250), (base * spread * spread, 50)])
            })
            .collect();
        let at = |call: &Call, rank: f64| {
            let calling = rank - (1.0 - call.call_fraction);
            if calling <= 0.0 { 0.0 } else { call.latency.quantile(calling / call.call_fraction).unwrap() }
        };
        let mut drawn: Vec<(f64, f64)> = spread_evenly()
            .map(|[a, b, c]| {
                let ranks = if together { [a, a, a] } else { [a, b, c] };
                let waits = calls.iter().zip(ranks).map(|(call, rank)| at(call, rank));
                (waits.clone().sum(), waits.fold(0.0, f64::max))
            })
            .collect();
        let found = wait(&calls).unwrap();
        for quantile in &found {
            // As far as the points tell: quantiles a few hundredths to either side.
            let slack = 0.04;
            let position = |q: f64| (q.clamp(0.0, 1.0) * (POINTS - 1) as f64) as usize;
            drawn.sort_by(|a, b| a.0.total_cmp(&b.0));
            prop_assert!(drawn[position(quantile.quantile + slack)].0 >= quantile.in_sequence.0 * 0.95);
            prop_assert!(drawn[position(quantile.quantile - slack)].0 <= quantile.in_sequence.1 * 1.05 + 1e-9);
            drawn.sort_by(|a, b| a.1.total_cmp(&b.1));
            prop_assert!(drawn[position(quantile.quantile + slack)].1 >= quantile.at_once.0 * 0.95);
            prop_assert!(drawn[position(quantile.quantile - slack)].1 <= quantile.at_once.1 * 1.05 + 1e-9);
            prop_assert!(quantile.in_sequence.0 <= quantile.in_sequence_positive.0 + 1e-9);
            prop_assert!(quantile.in_sequence_positive.1 <= quantile.in_sequence.1 + 1e-9);
            prop_assert!(quantile.at_once_positive.1 <= quantile.at_once.1 + 1e-9);
            prop_assert!(quantile.at_once.1 <= quantile.in_sequence.1 + 1e-9);
        }
    }
}
