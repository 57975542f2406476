//! What is said of reasons holds: doubts lower the confidence, targets of others limit offers, and what binds can be taken away.
#![allow(clippy::unwrap_used)]

mod simulated;

use attain_attainment::{
    Ambition, ConsistentTarget, ConstraintKind, CounterfactualStructure, Doubt, DoubtfulEdge, FleetLimit,
    OWN_FAILURES_HALVED, Reach, RecommendationInput, RecommendationResult, held_beside, recommend, with_change,
    without_cause,
};
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
    assert!(!json.contains("doubt") && !json.contains("consistent_targets"));
    assert_eq!(serde_json::from_str::<RecommendationInput>(&json).unwrap(), input);
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
