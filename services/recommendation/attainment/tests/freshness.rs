//! Freshness of what is processed asynchronously, and the conditions of offers, through the whole recommendation.
#![allow(clippy::unwrap_used)]

mod simulated;

use attain_attainment::{
    AGE_MENU_MS, AGES_HALVED, AgeBucket, Ambition, AsynchronousEdge, ConstraintKind, CurrentSlo, DependencyHistory,
    Exclusion, OfferBasis, RecommendationInput, SliResult, Used, freshness_outcome, number, percent, recommend,
};
use attain_vocabulary::{
    BUCKET_MS, DAY_MS, DependencyMode, Objective, SliKind, TimeRange, TimeWindow, UtilisationKind,
};
use proptest::prelude::*;
use simulated::{Dice, World, id};

/// Slices of a day.
const PER_DAY: usize = 288;

/// A consumer that takes a second or two, and falls behind now and then: while it stands still the oldest message ages by the
/// clock, and afterwards the backlog drains half as fast as it built up.
fn ages(days: usize, seed: u64, standstills_per_day: f64, slices_mean: f64) -> Vec<AgeBucket> {
    let mut dice = Dice(seed);
    let (mut left, mut behind_ms) = (0usize, 0.0f64);
    let slice = |i: usize, dice: &mut Dice| {
        if left == 0 && dice.uniform() < standstills_per_day / PER_DAY as f64 {
            left = (-slices_mean * libm::log(1.0 - dice.uniform())).ceil() as usize;
        }
        behind_ms = match left {
            0 => (behind_ms - BUCKET_MS as f64 / 2.0).max(0.0),
            _ => behind_ms + BUCKET_MS as f64,
        };
        left = left.saturating_sub(1);
        let own = 1_500.0 * libm::exp(0.4 * dice.normal());
        AgeBucket { start_ms: i as i64 * BUCKET_MS, oldest_ms: (own + behind_ms) as u64 }
    };
    let mut slice = slice;
    (0..days * PER_DAY).map(|i| slice(i, &mut dice)).collect()
}

/// A consumer of which nothing but ages was measured.
fn consumer(ages: Vec<AgeBucket>) -> RecommendationInput {
    let mut input = World::checkout(1).input();
    let end_ms = ages.last().map_or(0, |age| age.start_ms + BUCKET_MS);
    input.history.buckets.clear();
    input.history.range = TimeRange::new("range", 0, end_ms).unwrap();
    input.dependencies.clear();
    input.as_of_ms = end_ms;
    input.utilisation.ages = ages;
    input
}

fn freshness(input: &RecommendationInput) -> Option<SliResult> {
    recommend(input).slis.into_iter().find(|sli| sli.kind == SliKind::Freshness)
}

#[test]
fn ages_are_offered_from_the_menu_each_as_risky_as_it_says() {
    let input = consumer(ages(90, 7, 0.3, 6.0));
    let sli = freshness(&input).unwrap();
    assert_eq!(sli.offers.len(), 3, "{}", sli.offer_note);
    assert!(!sli.fallback && sli.backtest.is_some() && sli.forecast.is_some());
    for (offer, ambition) in sli.offers.iter().zip(Ambition::ALL) {
        assert_eq!((offer.ambition, offer.basis), (ambition, OfferBasis::Estimate));
        assert_eq!(offer.target_ratio, input.policy.latency_quantile);
        assert!(AGE_MENU_MS.contains(&offer.latency_threshold_ms.unwrap()));
        assert!(offer.miss_probability.unwrap() <= ambition.miss_probability_max());
    }
    let thresholds: Vec<u32> = sli.offers.iter().map(|offer| offer.latency_threshold_ms.unwrap()).collect();
    assert!(thresholds.windows(2).all(|pair| pair[0] >= pair[1]), "less risk, more time: {thresholds:?}");
    assert_eq!(sli.latency_threshold_ms, Some(thresholds[1]));
    let older = input.utilisation.ages.iter().filter(|age| age.oldest_ms > u64::from(thresholds[1])).count();
    assert_eq!((sli.measured.valid_count, sli.measured.bad_count), (90 * 288, older as u64));
    assert_eq!(sli.binding_constraint.kind, ConstraintKind::Own);
    let faster = &sli.counterfactuals[0];
    assert_eq!(faster.key, AGES_HALVED);
    assert!(faster.miss_probability <= sli.offers[1].miss_probability.unwrap());
    assert!(faster.balanced_target_ratio >= Some(sli.offers[1].target_ratio));
    assert!(faster.attained_ratio >= sli.measured.attained_ratio.unwrap());
}

#[test]
fn a_consumer_without_requests_has_a_template_and_an_estimate() {
    let result = recommend(&consumer(ages(90, 7, 0.3, 6.0)));
    assert!(result.fallback && result.slis[0].fallback, "of requests nothing is known");
    for part in ["As to freshness, in nineteen of twenty slices", "of slices no older than", "with a probability of"] {
        assert!(result.explanation.contains(part), "{part}: {}", result.explanation);
    }
}

#[test]
fn too_few_days_give_no_offer_and_say_so() {
    let sli = freshness(&consumer(ages(13, 7, 0.3, 6.0))).unwrap();
    assert_eq!((sli.offers.len(), sli.latency_threshold_ms, sli.measured.attained_ratio), (0, None, None));
    assert!(sli.offer_note.contains("too few days"), "{}", sli.offer_note);
    assert!(sli.measured.latency_ms_p95.is_some() && sli.measured.valid_count == 13 * 288);
    assert_eq!(freshness(&consumer(Vec::new())), None);
}

#[test]
fn a_consumer_that_is_always_late_is_promised_nothing() {
    let late = (0..90 * PER_DAY).map(|i| AgeBucket { start_ms: i as i64 * BUCKET_MS, oldest_ms: 200_000_000 });
    let sli = freshness(&consumer(late.collect())).unwrap();
    assert_eq!((sli.offers.len(), sli.measured.attained_ratio), (0, Some(0.0)));
    assert!(sli.offer_note.contains("too old too often"), "{}", sli.offer_note);
}

#[test]
fn a_gap_is_no_slice_and_an_exclusion_takes_slices_out() {
    let mut input = consumer(ages(60, 3, 0.3, 6.0));
    let whole = freshness(&input).unwrap();
    let range = TimeRange::new("range", 10 * DAY_MS, 12 * DAY_MS).unwrap();
    input.exclusions = vec![Exclusion { range, reason: "maintenance".into() }];
    let without = freshness(&input).unwrap();
    assert_eq!(whole.measured.valid_count - without.measured.valid_count, 2 * 288);
    input.exclusions.clear();
    input.utilisation.ages.retain(|age| !(10 * DAY_MS..12 * DAY_MS).contains(&age.start_ms));
    assert_eq!(freshness(&input).unwrap().measured, without.measured);
}

#[test]
fn an_slo_in_force_is_held_against_its_own_age() {
    let mut input = consumer(ages(90, 7, 0.3, 6.0));
    input.current_slos = vec![CurrentSlo {
        kind: SliKind::Freshness,
        target: Objective::new("target", 0.9).unwrap(),
        latency_threshold_ms: Some(300_000),
        window: TimeWindow::default(),
    }];
    let slo = freshness(&input).unwrap().current_slo.unwrap();
    let range = TimeRange::new("range", 0, input.as_of_ms).unwrap();
    let all = freshness_outcome(&input.utilisation.ages, &[], range, 300_000).unwrap();
    assert!((slo.attained_ratio.unwrap() - (1.0 - all.bad_ratio)).abs() < 1e-12);
    assert!(slo.miss_probability.unwrap() < 0.5 && slo.attained == Some(true));
    let text = recommend(&input).explanation;
    assert!(text.contains("Its SLO of 90 % of slices no older than 5 min was attained"), "{text}");
    input.utilisation.ages.clear();
    let sli = freshness(&input).unwrap();
    assert_eq!((sli.current_slo.unwrap().miss_probability, sli.offer_note.as_str()), (None, "No age was measured."));
}

#[test]
fn only_edges_without_an_age_lack_freshness() {
    let mut input = World::checkout(90).input();
    for name in ["mailer", "ledger"] {
        input.dependencies.push(DependencyHistory {
            id: id(name),
            mode: DependencyMode::Async,
            call_fraction: None,
            fallback_success_ratio: None,
            buckets: Vec::new(),
        });
    }
    let edge = |name, age_measured| AsynchronousEdge {
        callee: id(name),
        age_measured,
        age_threshold_ms: None,
        target_ratio: None,
    };
    input.utilisation.asynchronous = vec![edge("mailer", true), edge("ledger", false)];
    let missing = recommend(&input).missing_inputs;
    assert_eq!(missing.len(), 1);
    assert!(missing[0].detail.starts_with("ledger is called"), "{}", missing[0].detail);
    input.utilisation.asynchronous[1].age_measured = true;
    assert_eq!(recommend(&input).missing_inputs, []);
}

#[test]
fn each_condition_that_is_told_is_a_field() {
    let mut input = World::checkout(90).input();
    let used = |kind, average_p95, maximum| Used { kind, average_p95, maximum, bucket_count: 2_016 };
    input.utilisation.used =
        vec![used(UtilisationKind::Cpu, 0.62, 0.91), used(UtilisationKind::QueueDepth, 14.5, 230.0)];
    let result = recommend(&input);
    let conditions = result.conditions.unwrap();
    let most = input.history.buckets.iter().map(|bucket| bucket.counts.valid()).max().unwrap();
    assert_eq!(conditions.request_rate_max, Some(most as f64 / 300.0));
    assert!(conditions.request_rate_p95 <= conditions.request_rate_max);
    assert_eq!(conditions.utilisation, input.utilisation.used);
    let told = format!(
        "All this holds for loads like those measured: up to {} requests a second over five minutes; {} of cpu and a queue \
         depth of {} in nineteen of twenty five-minute means of the last week.",
        number(conditions.request_rate_max.unwrap()),
        percent(0.62),
        number(14.5)
    );
    assert!(result.explanation.contains(&told), "{told} is not in: {}", result.explanation);
    let nothing = recommend(&consumer(ages(30, 7, 0.3, 6.0)));
    assert_eq!(nothing.conditions, None);
}

#[test]
fn an_input_without_ages_is_kept_as_it_was_before_there_were_any() {
    let input = World::checkout(30).input();
    let kept = serde_json::to_value(&input).unwrap();
    assert_eq!(kept.get("utilisation"), None);
    assert_eq!(serde_json::from_value::<RecommendationInput>(kept).unwrap(), input);
    let aged = consumer(ages(20, 7, 0.3, 6.0));
    let kept = serde_json::to_vec(&aged).unwrap();
    assert_eq!(serde_json::from_slice::<RecommendationInput>(&kept).unwrap(), aged);
}

/// Consumers that stand still now and then, of every pace: 90 days are known, 28 follow.
#[test]
#[allow(clippy::print_stdout)]
fn offers_are_missed_about_as_often_as_they_say() {
    let mut dice = Dice(20_261_130);
    let mut missed = [0usize; 3];
    let mut made = [0usize; 3];
    for seed in 0..160 {
        let (rate, slices) = (libm::exp(libm::log(0.05) + dice.uniform() * 3.0), 2.0 + 22.0 * dice.uniform());
        let all = ages(118, 1_000 + seed, rate, slices);
        let (past, future) = all.split_at(90 * PER_DAY);
        let input = consumer(past.to_vec());
        let window = TimeRange::new("window", input.as_of_ms, input.as_of_ms + 28 * DAY_MS).unwrap();
        for (i, offer) in freshness(&input).unwrap().offers.iter().enumerate() {
            let seen = freshness_outcome(future, &[], window, offer.latency_threshold_ms.unwrap()).unwrap();
            made[i] += 1;
            missed[i] += usize::from(seen.bad_ratio > 1.0 - offer.target_ratio);
        }
    }
    let share = |i: usize| missed[i] as f64 / made[i] as f64;
    println!("made {made:?}; missed {:.3}, {:.3}, {:.3}", share(0), share(1), share(2));
    assert!(made.iter().all(|made| *made >= 150), "{made:?}");
    // Three standard errors of what is allowed above it.
    for (i, allowed) in [0.02, 0.10, 0.25f64].into_iter().enumerate() {
        let error = (allowed * (1.0 - allowed) / made[i] as f64).sqrt();
        assert!(share(i) <= allowed + 3.0 * error, "{missed:?} of {made:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_ages_give_an_answer_that_holds_together(
        sent in prop::collection::vec((0i64..9_000, prop_oneof![0u64..5_000, Just(u64::MAX), 0u64..100_000_000]), 0..400),
        repeated in 1usize..20,
        as_of in 0i64..10_000,
        days in prop::sample::select(vec![7u32, 28, 90]),
    ) {
        let mut input = consumer(Vec::new());
        for step in 0..repeated {
            input.utilisation.ages.extend(sent.iter().map(|(at, oldest_ms)| AgeBucket {
                start_ms: (at + step as i64 * 450) * BUCKET_MS,
                oldest_ms: *oldest_ms,
            }));
        }
        input.as_of_ms = as_of * BUCKET_MS;
        input.window = TimeWindow::from_days("window", days).unwrap();
        let result = recommend(&input);
        prop_assert_eq!(recommend(&input), result.clone());
        let mut turned = input.clone();
        turned.utilisation.ages.sort_by_key(|age| age.start_ms);
        if turned.utilisation.ages.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms) {
            prop_assert_eq!(recommend(&turned), result.clone(), "the order in which ages are handed in tells nothing");
        }
        for sli in result.slis.iter().filter(|sli| sli.kind == SliKind::Freshness) {
            prop_assert!(sli.measured.bad_count <= sli.measured.valid_count);
            let mut last = u32::MAX;
            for offer in &sli.offers {
                prop_assert!(offer.miss_probability.unwrap() <= offer.miss_probability_max + 1e-12);
                let threshold = offer.latency_threshold_ms.unwrap();
                prop_assert!(threshold <= last);
                last = threshold;
            }
        }
    }
}
