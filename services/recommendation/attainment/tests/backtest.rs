//! A back-test sees nothing of the future, and offers of the past are missed about as often as they said.
#![allow(clippy::unwrap_used)]

mod simulated;

use attain_attainment::{
    Ambition, Backtest, ConfidenceLevel, CountPoint, CountSeries, RecommendationInput, Record, TierPolicy, backtest,
    predict, recommend, strictest_target,
};
use attain_vocabulary::{BUCKET_MS, DAY_MS, Tier};
use proptest::prelude::*;
use simulated::{Dice, PER_DAY, World, counts, end_of, incidents, severities};

const WINDOW_DAYS: f64 = 28.0;

fn policy() -> TierPolicy {
    TierPolicy { target_ratio_max: 0.99999, ..TierPolicy::for_tier(Tier::One) }
}

/// Two-hour incidents at rates that differ between services, over levels that differ.
fn points(seed: u64, days: usize) -> Vec<CountPoint> {
    let mut dice = Dice(seed);
    let rate = 0.12 * libm::exp(dice.normal());
    let all = incidents(&mut dice, days, rate, 16.0, 0.3);
    let chronic = 0.0002 * libm::exp(1.5 * dice.normal());
    counts(&mut dice, 500.0, chronic, &severities(days * PER_DAY, &all))
}

fn tested(points: Vec<CountPoint>, days: usize) -> Option<Backtest> {
    backtest(&CountSeries::new(points), WINDOW_DAYS, end_of(days), &policy())
}

#[test]
fn an_origin_makes_the_offer_that_its_past_alone_would_have_made() {
    let all = points(3, 90);
    let found = tested(all.clone(), 90).unwrap();
    assert_eq!((found.first_origin_ms, found.last_origin_ms), (end_of(27), end_of(62)));
    let (mut probabilities, mut allowed, mut missed) = (0.0, 0.0, 0);
    for origin in (27..=62).step_by(7) {
        let past = CountSeries::new(all[..origin * PER_DAY].to_vec());
        let prediction = predict(&past, WINDOW_DAYS, end_of(origin)).unwrap();
        let target = strictest_target(&prediction, &policy(), 0.10).unwrap();
        probabilities += prediction.forecast.miss_probability(1.0 - target);
        allowed += 1.0 - target;
        let next = CountSeries::new(all[origin * PER_DAY..(origin + 28) * PER_DAY].to_vec());
        missed += u64::from(next.attained_ratio().unwrap() < target);
    }
    let record = found.of(Ambition::Balanced);
    assert_eq!((record.forecast_count, record.missed_count), (6, missed));
    assert_eq!(record.window_count, 1.0 + 35.0 / 28.0);
    assert!((record.probability_sum - probabilities).abs() < 1e-12 && (record.allowed_sum - allowed).abs() < 1e-12);
}

#[test]
fn what_has_not_happened_yet_changes_no_offer() {
    let calm = points(5, 90);
    let mut ill = calm.clone();
    ill[88 * PER_DAY..].iter_mut().for_each(|point| point.bad = point.valid);
    let (calm, ill) = (tested(calm, 90).unwrap(), tested(ill, 90).unwrap());
    for ambition in Ambition::ALL {
        let (before, after) = (calm.of(ambition), ill.of(ambition));
        assert_eq!((before.probability_sum, before.allowed_sum), (after.probability_sum, after.allowed_sum));
    }
    assert!(ill.of(Ambition::Balanced).missed_count > calm.of(Ambition::Balanced).missed_count);
}

#[test]
fn offers_of_the_past_are_missed_about_as_often_as_they_said() {
    const SERVICES: u64 = 120;
    let mut records = [Record::default(); 3];
    for service in 0..SERVICES {
        let found = tested(points(1000 + service, 110), 110).unwrap();
        for (sum, ambition) in records.iter_mut().zip(Ambition::ALL) {
            sum.add(&found.of(ambition));
        }
    }
    for record in &records {
        let (low, high) = record.met_interval().unwrap();
        let stated = 1.0 - record.stated_miss_probability().unwrap();
        assert!((low - 0.02..=high + 0.02).contains(&stated), "{stated} outside {low} to {high}: {record:?}");
    }
    for record in &records[1..] {
        assert!(record.allowed_over_observed().unwrap() < 6.0, "{record:?}");
    }
    let met = records.map(|record| record.met_ratio().unwrap());
    assert!(met[0] > met[1] && met[1] > met[2], "{met:?}");
}

#[test]
fn too_little_history_is_not_scored() {
    assert_eq!(tested(points(1, 50), 50), None, "22 days before a window of 28 are no estimate");
    assert!(tested(points(1, 51), 51).is_some());
    assert_eq!(backtest(&CountSeries::default(), WINDOW_DAYS, 0, &policy()), None);
    let mut gap = points(1, 51);
    gap.truncate(30 * PER_DAY);
    assert_eq!(tested(gap, 51), None, "a week of a window of four is no outcome");
}

#[test]
fn a_record_of_misses_lowers_the_confidence() {
    let mut input = World::checkout(90).input();
    let part = |input: &RecommendationInput| {
        let result = recommend(input);
        (result.confidence.parts.into_iter().find(|part| part.name == "backtest").unwrap(), result.confidence.level)
    };
    let (own, _) = part(&input);
    assert!(own.detail.contains("of 6 windows"), "{}", own.detail);
    let class = |missed_count| Record {
        forecast_count: 400,
        missed_count,
        window_count: 180.0,
        probability_sum: 36.0,
        ..Record::default()
    };
    input.class_record = Some(class(36));
    assert_eq!(part(&input).0.score, own.score);
    input.class_record = Some(class(300));
    let (poor, level) = part(&input);
    assert!(poor.score < 0.2 && level == ConfidenceLevel::Low, "{poor:?}");
    assert!(recommend(&input).confidence.raise_with.iter().any(|remedy| remedy.contains("windows that meet")));
}

#[test]
fn the_answer_discloses_the_back_test_of_each_estimate() {
    let mut world = World::checkout(90);
    world.latencies = true;
    let result = recommend(&world.input());
    assert_eq!(result.slis.len(), 2);
    for sli in &result.slis {
        let found = sli.backtest.as_ref().unwrap();
        assert_eq!(found.offers.iter().map(|offer| offer.ambition).collect::<Vec<_>>(), Ambition::ALL);
        assert!(found.of(Ambition::Balanced).forecast_count >= 5, "{found:?}");
    }
    assert!(result.explanation.contains("balanced offers of its past"), "{}", result.explanation);
    assert!(recommend(&World::checkout(7).input()).slis[0].backtest.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Any gaps, any end: what is counted stays consistent, and origins never reach into the window that is open.
    #[test]
    fn records_hold_together(seed in 0u64..10_000, days in 20usize..120, gap in 0usize..120, length in 0usize..60, window in prop::sample::select(vec![7.0, 28.0, 30.0, 90.0])) {
        let mut all = points(seed, days);
        let gap = gap as i64 * DAY_MS..(gap + length) as i64 * DAY_MS;
        all.retain(|point| !gap.contains(&point.start_ms));
        let now = end_of(days) + BUCKET_MS;
        if let Some(found) = backtest(&CountSeries::new(all), window, now, &policy()) {
            prop_assert!(found.first_origin_ms <= found.last_origin_ms);
            prop_assert!(found.last_origin_ms + (window * DAY_MS as f64) as i64 <= now);
            let records = Ambition::ALL.map(|ambition| found.of(ambition));
            for record in &records {
                prop_assert!(record.missed_count <= record.forecast_count);
                prop_assert!(record.window_count <= record.forecast_count as f64);
                prop_assert!(record.brier_sum <= record.forecast_count as f64 && record.probability_sum <= 0.25 * record.forecast_count as f64);
            }
            prop_assert!(records[0].forecast_count <= records[1].forecast_count && records[1].forecast_count <= records[2].forecast_count);
            prop_assert!(records[0].forecast_count < records[2].forecast_count || records[0].missed_count <= records[2].missed_count);
        }
    }
}
