//! What is said of reasons holds: doubts lower the confidence, targets of others limit offers, and what binds can be taken away.
#![allow(clippy::unwrap_used)]

mod simulated;

use std::collections::BTreeMap;

use attain_attainment::{
    Ambition, ConsistentTarget, ConstraintKind, CounterfactualStructure, DependencyHistory, Doubt, DoubtfulEdge,
    FleetLimit, OWN_FAILURES_HALVED, Reach, RecommendationInput, RecommendationResult, ShareSeries, TARGET_MENU,
    held_beside, percent, recommend, with_change, without_cause,
};
use attain_vocabulary::{BucketCounts, SliBucket};
use proptest::prelude::*;
use simulated::{World, id};

fn graph_part(result: &RecommendationResult) -> (f64, &str) {
    let part = result.confidence.parts.iter().find(|part| part.name == "graph").unwrap();
    (part.score, &part.detail)
}

fn balanced(result: &RecommendationResult) -> Option<f64> {
    let offers = &result.slis[0].offers;
    offers.iter().find(|offer| offer.ambition == Ambition::Balanced).map(|offer| offer.target_ratio)
}

fn doubting(doubt: Doubt) -> RecommendationInput {
    let mut input = World::checkout(90).input();
    let structure = input.structure.as_mut().unwrap();
    (structure.ceiling_ratio, structure.doubt) = (0.999, doubt);
    input
}

fn edge() -> DoubtfulEdge {
    DoubtfulEdge { caller: id("checkout"), callee: id("search"), confidence: 0.31 }
}

#[test]
fn the_further_doubts_move_the_ceiling_the_less_sure_is_the_answer() {
    let sure = recommend(&doubting(Doubt::default()));
    let without = |ratio| Doubt { edges: vec![edge()], ceiling_without_edges_ratio: Some(ratio), ..Doubt::default() };
    let (near, far) = (recommend(&doubting(without(0.9991))), recommend(&doubting(without(0.9999999))));
    let budget = 1.0 - balanced(&sure).unwrap();
    assert!(graph_part(&near).0 < graph_part(&sure).0);
    assert!((graph_part(&near).0 - (1.0 - 0.5 * (0.0001 / budget).min(1.0))).abs() < 1e-6);
    assert!(graph_part(&far).0 < graph_part(&near).0);
    assert!(graph_part(&far).1.contains("without 1 doubtful dependencies the ceiling would be 99.99999 %"));
    let remedy = far.confidence.raise_with.iter().any(|remedy| remedy.contains("checkout to search"));
    assert_eq!(remedy, graph_part(&far).0 < 0.7, "{:?}", far.confidence);
    // The offers themselves rest on what was measured.
    assert_eq!(balanced(&far), balanced(&sure));
}

#[test]
fn components_without_data_are_named_with_what_they_might_do() {
    let mut input = doubting(Doubt {
        unknown_failure_ratio: Some(0.002),
        ceiling_with_unknown_ratio: Some(0.9),
        ..Doubt::default()
    });
    input.structure.as_mut().unwrap().assumed_perfect_ids = vec![id("cache")];
    let result = recommend(&input);
    let (score, detail) = graph_part(&result);
    assert_eq!(score, 0.5);
    assert!(detail.contains("failed 0.2 % of requests it would be 90 %"), "{detail}");
    assert!(result.confidence.raise_with.iter().any(|remedy| remedy.ends_with("without data: cache")));
}

#[test]
fn an_offer_says_what_it_becomes_beside_the_targets_of_others() {
    let mut input = World::checkout(90).input();
    let alone = recommend(&input);
    let offered = balanced(&alone).unwrap();
    let target = |ambition, offered_ratio, target_ratio| ConsistentTarget {
        ambition,
        offered_ratio,
        target_ratio,
        limited_by: Some(FleetLimit {
            callee: Some(id("payment")),
            needed_ratio: 0.03,
            chain: vec![id("checkout"), id("payment")],
        }),
    };
    input.structure.as_mut().unwrap().consistent_targets =
        vec![target(Ambition::Balanced, offered, Some(0.97)), target(Ambition::Ambitious, 0.123, Some(0.1))];
    let beside = recommend(&input);
    assert_eq!(held_beside(alone, &input), beside, "what was computed already stands");
    let offer = |ambition| beside.slis[0].offers.iter().find(|offer| offer.ambition == ambition).unwrap();
    assert_eq!(offer(Ambition::Balanced).consistent_target_ratio, Some(0.97));
    assert_eq!(offer(Ambition::Balanced).target_ratio, offered);
    // What was held against the others was another offer.
    assert_eq!(offer(Ambition::Ambitious).limited_by, None);
    let said = "The balanced offer is stricter than payment promises lets it be: 3 % of its requests may fail by promises kept; 97 % holds beside that.";
    assert!(beside.explanation.contains(said), "{}", beside.explanation);
}

#[test]
fn old_inputs_keep_their_hash() {
    let input = World::checkout(3).input();
    let json = serde_json::to_string(&input).unwrap();
    for absent in ["doubt", "consistent_targets", "other_reaches"] {
        assert!(!json.contains(absent), "{absent}");
    }
    assert_eq!(serde_json::from_str::<RecommendationInput>(&json).unwrap(), input);
}

/// Of a thousand requests in each five minutes of 60 days some fail of their own, by payment, and by a database that payment
/// needs as well: of what arrives by payment, that share is the database's. Now and then the database is down for both.
fn diamond(share: f64) -> RecommendationInput {
    let mut input = World::checkout(60).input();
    for (at, bucket) in input.history.buckets.iter_mut().enumerate() {
        let down = at % 2000 < 6;
        let (own, payment, database) =
            (at as u64 % 2, if down { 200 } else { u64::from(at % 10 == 0) }, if down { 300 } else { 0 });
        let by = BTreeMap::from([(id("payment-service"), payment), (id("database"), database)]);
        let by = by.into_iter().filter(|(_, failed)| *failed > 0).collect();
        let inherited = payment + database;
        let counts = BucketCounts::new(1000, own + inherited, Some(inherited)).unwrap();
        *bucket = SliBucket::new(bucket.start_ms, counts, by, None).unwrap();
    }
    let dependency = DependencyHistory { id: id("database"), buckets: Vec::new(), ..input.dependencies[0].clone() };
    input.dependencies.push(dependency);
    let share = ShareSeries { otherwise: share, by_bucket: BTreeMap::new() };
    input.counterfactuals = vec![CounterfactualStructure {
        key: "fallback:payment-service:database".into(),
        description: "a fallback".into(),
        ceiling_after_ratio: None,
        caller: id("payment-service"),
        callee: id("database"),
        saved_ratio: 1.0,
        reach: Reach::Through { dependency: id("payment-service"), share },
        other_reaches: Vec::new(),
    }];
    input
}

#[test]
fn a_component_that_is_reached_by_two_ways_binds_once_with_all_of_its_failures() {
    let input = diamond(0.75);
    let result = recommend(&input);
    let binding = &result.slis[0].binding_constraint;
    assert_eq!((binding.kind, &binding.entity_id), (ConstraintKind::Dependency, &Some(id("database"))));
    let sum = |input: &RecommendationInput, of: &str| {
        let failed = |bucket: &SliBucket| bucket.inherited_by_dependency.get(&id(of)).copied().unwrap_or(0);
        input.history.buckets.iter().map(failed).sum::<u64>() as f64
    };
    let blamed = sum(&input, "database") + 0.75 * sum(&input, "payment-service");
    assert!((binding.contribution_ratio * 1000.0 * input.history.buckets.len() as f64 - blamed).abs() < 1e-3);
    let changed = without_cause(&input, binding).unwrap();
    assert_eq!(sum(&changed, "database"), 0.0);
    assert!((sum(&changed, "payment-service") - 0.25 * sum(&input, "payment-service")).abs() <= 1.0);
    assert!(binding.relaxed_target_ratio > balanced(&result), "{binding:?}");
    assert_eq!(balanced(&recommend(&changed)), binding.relaxed_target_ratio);
    // Little of what arrives by payment is the database's: it is no less the database that fails by its own call.
    let apart = recommend(&diamond(0.1));
    let binding = &apart.slis[0].binding_constraint;
    assert_eq!(binding.entity_id, Some(id("database")));
    let changed = without_cause(&diamond(0.1), binding).unwrap();
    assert!((sum(&changed, "payment-service") - 0.9 * sum(&input, "payment-service")).abs() <= 1.0);
}

#[test]
fn a_fallback_further_down_saves_by_every_way_that_its_edge_reaches_the_service() {
    let one_way = diamond(0.75);
    let mut input = one_way.clone();
    // The edge lies below the database's own dependency too.
    let share = ShareSeries { otherwise: 0.5, by_bucket: BTreeMap::new() };
    input.counterfactuals[0].other_reaches = vec![Reach::Through { dependency: id("database"), share }];
    let bad = |input: &RecommendationInput| input.history.buckets.iter().map(|bucket| bucket.counts.bad()).sum::<u64>();
    let key = input.counterfactuals[0].key.clone();
    let [one, both] = [&one_way, &input].map(|input| bad(input) - bad(&with_change(input, &key).unwrap()));
    let database: u64 = (0..input.history.buckets.len()).filter(|at| at % 2000 < 6).map(|_| 300).sum();
    assert!((both as f64 - one as f64 - 0.5 * database as f64).abs() <= 2.0, "{one} {both}");
    let found = recommend(&with_change(&input, &key).unwrap());
    let said = &recommend(&input).slis[0].counterfactuals;
    let said = said.iter().find(|counterfactual| counterfactual.key == key).unwrap();
    assert!((found.slis[0].measured.attained_ratio.unwrap() - said.attained_ratio).abs() < 1e-12);
}

#[test]
fn where_the_tier_asks_for_no_more_neither_traffic_nor_failures_are_blamed() {
    let mut input = World::checkout(90).input();
    let free = recommend(&input);
    let target = balanced(&free).unwrap();
    input.policy.target_ratio_max = 0.95;
    let held = recommend(&input);
    let binding = &held.slis[0].binding_constraint;
    assert_eq!((binding.kind, balanced(&held)), (ConstraintKind::Policy, Some(0.95)));
    assert_eq!(binding.relaxed_target_ratio, Some(target));
    let said = format!("does not ask for it; without that the balanced target would be {}.", percent(target));
    assert!(held.explanation.contains(&said), "{}", held.explanation);
    // At the target that could be met anyway nothing is gained, and that is said; no traffic is asked for what is not allowed.
    input.policy.target_ratio_max = target;
    let met = recommend(&input);
    let binding = &met.slis[0].binding_constraint;
    assert_eq!(
        (binding.kind, binding.relaxed_target_ratio, binding.volume_need),
        (ConstraintKind::Policy, Some(target), None)
    );
    assert!(met.explanation.contains("asks for no more, and this history would not carry more"), "{}", met.explanation);
}

#[test]
fn a_history_without_failures_says_what_traffic_a_stricter_target_needs_where_it_cannot_be_told() {
    let mut needs = 0;
    for (every, valid) in [(64, 1), (16, 1), (4, 1), (1, 1), (1, 20), (1, 100_000)] {
        let mut input = World::checkout(60).input();
        input.policy.target_ratio_max = 1.0;
        for (at, bucket) in input.history.buckets.iter_mut().enumerate() {
            let counts = BucketCounts::new(if at % every == 0 { valid } else { 0 }, 0, Some(0)).unwrap();
            *bucket = SliBucket::new(bucket.start_ms, counts, BTreeMap::new(), None).unwrap();
        }
        let result = recommend(&input);
        if result.fallback {
            continue;
        }
        let binding = &result.slis[0].binding_constraint;
        let next =
            balanced(&result).map_or(0, |target| TARGET_MENU.iter().position(|step| *step == target).unwrap() + 1);
        let told = 1.0 - TARGET_MENU[next] >= result.data.smallest_distinguishable_budget.unwrap() * (1.0 - 1e-9);
        assert!(matches!(binding.kind, ConstraintKind::Volume | ConstraintKind::Data), "{binding:?}");
        assert_eq!(
            binding.volume_need.map(|need| need.target_ratio),
            (!told).then_some(TARGET_MENU[next]),
            "{binding:?}"
        );
        if let Some(need) = binding.volume_need {
            assert!(binding.detail.contains(&need.window_request_count.to_string()), "{binding:?}");
            needs += 1;
        }
    }
    assert!(needs > 0);
}

/// A checkout with a fallback to think of.
fn world(seed: u64, chronic: f64, traced: bool) -> RecommendationInput {
    let mut world = World::checkout(60);
    (world.seed, world.own_chronic, world.traced) = (seed, chronic, traced);
    let mut input = world.input();
    let callee = input.dependencies[0].id.clone();
    input.counterfactuals = vec![CounterfactualStructure {
        key: "fallback".into(),
        description: "a fallback".into(),
        ceiling_after_ratio: None,
        caller: input.service.clone(),
        callee,
        saved_ratio: 0.9,
        reach: Reach::Direct,
        other_reaches: Vec::new(),
    }];
    input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_said_of_less_failure_is_what_less_failure_gives(
        seed in 0u64..1_000_000,
        chronic in 0.0001f64..0.01,
        traced in any::<bool>(),
    ) {
        let input = world(seed, chronic, traced);
        let result = recommend(&input);
        prop_assume!(!result.fallback);
        let sli = &result.slis[0];
        let today = balanced(&result);
        let as_said = |said: Option<f64>, found: &RecommendationResult| {
            let found = (!found.fallback).then(|| balanced(found)).flatten();
            if said > today { found == said } else { found <= today }
        };
        for counterfactual in &sli.counterfactuals {
            let changed = with_change(&input, &counterfactual.key).unwrap_or_else(|| input.clone());
            let found = recommend(&changed);
            let attained = found.slis[0].measured.attained_ratio.unwrap();
            prop_assert!((attained - counterfactual.attained_ratio).abs() < 1e-12, "{counterfactual:?} {attained}");
            prop_assert!(as_said(counterfactual.balanced_target_ratio, &found), "{today:?} {counterfactual:?} {:?}", balanced(&found));
        }
        let binding = &sli.binding_constraint;
        if matches!(binding.kind, ConstraintKind::Own | ConstraintKind::Dependency) {
            let changed = without_cause(&input, binding).unwrap();
            prop_assert!(as_said(binding.relaxed_target_ratio, &recommend(&changed)), "{today:?} {binding:?}");
            // Whole failures are taken away, and as many as are blamed.
            let bad = |input: &RecommendationInput| input.history.buckets.iter().map(|bucket| bucket.counts.bad()).sum::<u64>() as f64;
            let valid: u64 = input.history.buckets.iter().map(|bucket| bucket.counts.valid()).sum();
            let gone = (bad(&input) - bad(&changed)) / valid as f64;
            prop_assert!((gone - binding.contribution_ratio).abs() * (valid as f64) < 1.0 + 1e-3);
        }
        prop_assert_eq!(with_change(&input, "unheard of"), None);
        prop_assert!(with_change(&input, OWN_FAILURES_HALVED).is_some());
    }
}
