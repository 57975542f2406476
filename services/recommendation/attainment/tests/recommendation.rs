//! The whole computation on simulated histories: what is promised, why, what would help, and what is said when little is known.
#![allow(clippy::unwrap_used)]

mod simulated;

use std::collections::BTreeMap;

use attain_attainment::{
    Ambition, ConfidenceLevel, ConstraintKind, CounterfactualStructure, CurrentSlo, Doubt, Exclusion, Importance,
    OWN_FAILURES_HALVED, OfferBasis, Reach, RecommendationInput, RecommendationResult, ShareSeries, SplitMethod,
    StructureFacts, number, percent, recommend,
};
use attain_vocabulary::{BUCKET_MS, BucketCounts, DAY_MS, EntityKind, Objective, SliKind, TimeRange, TimeWindow};
use simulated::{PER_DAY, World, id};

fn fallback(key: &str, caller: &str, reach: Reach, saved_ratio: f64) -> CounterfactualStructure {
    CounterfactualStructure {
        key: key.into(),
        description: format!("a fallback on {caller}'s call"),
        ceiling_after_ratio: Some(0.999),
        caller: id(caller),
        callee: id(if caller == "checkout-service" { "payment-service" } else { "external-payment-api" }),
        saved_ratio,
        reach,
        other_reaches: Vec::new(),
    }
}

fn deeper(share: f64) -> Reach {
    Reach::Through {
        dependency: id("payment-service"),
        share: ShareSeries { otherwise: share, by_bucket: BTreeMap::new() },
    }
}

fn checkout() -> RecommendationInput {
    let mut input = World::checkout(90).input();
    input.counterfactuals = vec![
        fallback("near", "checkout-service", Reach::Direct, 0.9),
        fallback("far", "payment-service", deeper(0.8), 1.0),
    ];
    input.current_slos = vec![CurrentSlo {
        kind: SliKind::Availability,
        target: Objective::new("target", 0.995).unwrap(),
        latency_threshold_ms: None,
        window: TimeWindow::from_days("window", 30).unwrap(),
    }];
    input
}

#[test]
fn checkout_learns_that_its_payment_provider_holds_it_back() {
    let result = recommend(&checkout());
    let sli = &result.slis[0];
    assert!(!result.fallback && sli.offer_note.is_empty(), "{:#?}", result.confidence);
    let targets: Vec<f64> = sli.offers.iter().map(|offer| offer.target_ratio).collect();
    assert_eq!(targets.len(), 3);
    assert!(targets.windows(2).all(|pair| pair[0] <= pair[1]), "{targets:?}");
    assert!(sli.offers.iter().all(|offer| offer.miss_probability.unwrap() <= offer.miss_probability_max));

    let split = sli.failure_split.as_ref().unwrap();
    assert_eq!(split.method, SplitMethod::Traces);
    assert!((split.own_failure_ratio / 0.0005 - 1.0).abs() < 0.2, "{split:?}");
    assert!((split.inherited_failure_ratio / 0.0033 - 1.0).abs() < 0.2, "{split:?}");
    assert!((split.inherited[0].hardness.unwrap() - 1.0).abs() < 1e-6);

    assert_eq!(sli.binding_constraint.kind, ConstraintKind::Dependency);
    assert_eq!(
        sli.binding_constraint.entity_id,
        Some(id("external-payment-api")),
        "four fifths come from further down"
    );
    assert!(sli.binding_constraint.relaxed_target_ratio > Some(sli.offers[1].target_ratio));

    let keys: Vec<&str> = sli.counterfactuals.iter().map(|c| c.key.as_str()).collect();
    assert_eq!(keys, ["near", "far", OWN_FAILURES_HALVED], "ranked by what they buy");
    assert!(sli.counterfactuals[0].balanced_target_ratio > Some(sli.offers[1].target_ratio));
    assert!(sli.counterfactuals[0].attained_ratio > sli.measured.attained_ratio.unwrap());

    let slo = sli.current_slo.as_ref().unwrap();
    assert_eq!((slo.window.days(), slo.attained), (30, Some(true)));
    assert!(slo.miss_probability.unwrap() > 0.0);
}

#[test]
fn regression_finds_what_traces_would_have_told() {
    let mut world = World::checkout(60);
    world.traced = false;
    let result = recommend(&world.input());
    let split = result.slis[0].failure_split.as_ref().unwrap();
    assert_eq!(split.method, SplitMethod::Regression);
    let share = &split.inherited[0];
    assert!((share.hardness.unwrap() - 1.0).abs() < 0.05, "{share:?}");
    assert!(share.hardness_standard_error < 0.05, "{share:?}");
    assert!((split.own_failure_ratio / 0.0005 - 1.0).abs() < 0.4, "{split:?}");
}

#[test]
fn a_soft_dependency_is_measured_soft_whatever_was_declared() {
    let mut world = World::checkout(60);
    world.traced = false;
    let mut input = world.input();
    // The dependency's failures swapped for another service's, which this one never shows.
    world.seed = 99;
    world.dependency_incidents.iter_mut().for_each(|incident| incident.start += 1000);
    input.dependencies[0].buckets = world.input().dependencies[0].buckets.clone();
    let result = recommend(&input);
    let share = &result.slis[0].failure_split.as_ref().unwrap().inherited[0];
    assert!(share.hardness.unwrap() < 0.1, "{share:?}");
}

/// An API of a provider that fails a hundredth, and of another part that fails less.
fn api(ceiling_ratio: f64) -> RecommendationInput {
    let mut input = World::checkout(60).input();
    input.kind = EntityKind::Api;
    input.history.buckets.clear();
    let importance =
        |entity: &str, contribution_ratio| Importance { entity_id: id(entity), birnbaum: 0.9, contribution_ratio };
    input.structure = Some(StructureFacts {
        ceiling_ratio,
        exact: true,
        importances: vec![importance("other", 0.002), importance("provider", 0.01)],
        assumed_perfect_ids: Vec::new(),
        snapshot_version: 7,
        snapshot_age_ms: 0,
        doubt: Doubt::default(),
        consistent_targets: Vec::new(),
        slow_requests: None,
    });
    input
}

#[test]
fn an_api_is_promised_no_more_than_its_parts_allow() {
    let input = api(0.988);
    let result = recommend(&input);
    let sli = &result.slis[0];
    assert!(result.fallback && sli.fallback && sli.measured.attained_ratio.is_none());
    assert_eq!((sli.ceiling_ratio, result.confidence.level), (Some(0.988), ConfidenceLevel::Low));
    let [offer] = &sli.offers[..] else { panic!("{:?}", sli.offers) };
    assert_eq!((offer.target_ratio, offer.basis), (0.98, OfferBasis::Template), "the next of the menu below 98.8 %");
    assert_eq!(offer.miss_probability, None, "there is no forecast");
    assert_eq!(sli.binding_constraint.kind, ConstraintKind::Dependency);
    assert_eq!(sli.binding_constraint.entity_id, Some(id("provider")));
    for text in [&result.explanation, &sli.offer_note] {
        assert!(text.contains("no requests of its own") && text.contains("98.8 %"), "{text}");
    }
    assert!(!result.explanation.contains("No request"), "{}", result.explanation);

    // Parts that allow more than the template leave it as it is.
    let good = recommend(&api(0.99999));
    assert_eq!(good.slis[0].offers[0].target_ratio, input.policy.template_target_ratio);
    assert_eq!(good.slis[0].binding_constraint.kind, ConstraintKind::Data);
    // Parts that allow next to nothing leave nothing to offer, and parts of which nothing is known only the template.
    let poor = recommend(&api(0.4));
    assert!(
        poor.slis[0].offers.is_empty() && poor.explanation.contains("No target on the menu"),
        "{}",
        poor.explanation
    );
    let unknown = recommend(&api(1.0));
    assert_eq!(unknown.slis[0].offers[0].target_ratio, input.policy.template_target_ratio);
    assert!(!unknown.explanation.contains("100 %"), "{}", unknown.explanation);

    // A service without data is no composite, and an API that somebody measures is answered like everybody.
    let service = recommend(&RecommendationInput { kind: EntityKind::Service, ..api(0.988) });
    assert_eq!(service.slis[0].offers[0].target_ratio, input.policy.template_target_ratio);
    let measured = RecommendationInput { kind: EntityKind::Api, ..checkout() };
    assert_eq!(recommend(&measured), recommend(&checkout()));
}

#[test]
fn without_histories_or_a_graph_nothing_is_made_up() {
    let mut world = World::checkout(60);
    world.traced = false;
    let mut input = world.input();
    input.counterfactuals = vec![fallback("near", "checkout-service", Reach::Direct, 0.9)];
    input.dependencies[0].buckets.clear();
    let result = recommend(&input);
    let split = result.slis[0].failure_split.as_ref().unwrap();
    assert_eq!((split.method, split.inherited.len()), (SplitMethod::Unknown, 0));
    assert!(result.slis[0].counterfactuals.is_empty());
    assert_ne!(result.confidence.level, ConfidenceLevel::High);

    input.dependencies.clear();
    assert_eq!(recommend(&input).slis[0].failure_split.as_ref().unwrap().method, SplitMethod::NoDependencies);
    input.structure = None;
    assert_eq!(recommend(&input).slis[0].failure_split.as_ref().unwrap().method, SplitMethod::Unknown);
}

#[test]
fn a_day_of_data_gives_the_template_and_says_so() {
    let mut world = World::checkout(1);
    world.own_incidents.clear();
    world.dependency_incidents.clear();
    let result = recommend(&world.input());
    let sli = &result.slis[0];
    assert!(result.fallback && sli.fallback);
    assert_eq!(result.confidence.level, ConfidenceLevel::Low);
    assert_eq!(sli.offers.len(), 1);
    assert_eq!((sli.offers[0].basis, sli.offers[0].target_ratio), (OfferBasis::Template, 0.9995));
    assert!(sli.offers[0].miss_probability.unwrap() > 0.5, "what little there is speaks against it");
    assert_eq!(sli.binding_constraint.kind, ConstraintKind::Data);
    assert!(result.explanation.contains("template"), "{}", result.explanation);
    assert!(result.confidence.raise_with[0].starts_with("more history"), "{:?}", result.confidence.raise_with);
}

#[test]
fn no_data_at_all_is_an_answer() {
    let mut input = World::checkout(30).input();
    input.history.buckets.clear();
    let result = recommend(&input);
    let offer = &result.slis[0].offers[0];
    assert_eq!((offer.basis, offer.miss_probability), (OfferBasis::Template, None));
    assert_eq!(result.data.coverage_ratio, 0.0);
    assert_eq!((result.slis.len(), result.slis[0].measured.attained_ratio), (1, None));
}

#[test]
fn little_traffic_binds_by_volume_and_says_how_much_would_do() {
    let mut world = World::checkout(90);
    (world.valid, world.own_chronic, world.dependency_chronic) = (1.0, 0.0, 0.0);
    world.own_incidents.clear();
    world.dependency_incidents.clear();
    let mut input = world.input();
    // One request an hour: 672 in a window, which tell a budget of 0.45 % from none.
    for bucket in &mut input.history.buckets {
        if bucket.start_ms % (12 * BUCKET_MS) != 0 {
            bucket.counts = BucketCounts::new(0, 0, Some(0)).unwrap();
        }
    }
    let result = recommend(&input);
    let sli = &result.slis[0];
    let binding = &sli.binding_constraint;
    assert_eq!(binding.kind, ConstraintKind::Volume, "{binding:?} {:?}", result.confidence);
    let need = binding.volume_need.unwrap();
    assert!((need.window_request_count as f64 * (1.0 - need.target_ratio) - 3.0).abs() < 0.01, "{need:?}");
    assert!(need.probes_per_minute.is_some_and(|probes| probes > 0.0) && need.window_days_needed > 28.0);
    let smallest = result.data.smallest_distinguishable_budget.unwrap();
    assert!(sli.offers.iter().all(|offer| offer.error_budget_ratio >= smallest * 0.999));
}

#[test]
fn policy_binds_where_the_service_could_do_better() {
    let mut world = World::checkout(90);
    (world.valid, world.own_chronic, world.dependency_chronic) = (1e5, 0.0, 0.0);
    world.own_incidents.clear();
    world.dependency_incidents.clear();
    let mut input = world.input();
    input.policy.target_ratio_max = 0.99;
    let result = recommend(&input);
    assert_eq!(result.slis[0].binding_constraint.kind, ConstraintKind::Policy);
    assert!(result.slis[0].offers.iter().all(|offer| offer.target_ratio == 0.99));
}

#[test]
fn gaps_and_exclusions_are_counted_and_told() {
    let mut input = World::checkout(60).input();
    let day = |from: i64, to: i64| TimeRange::new("range", from * DAY_MS, to * DAY_MS).unwrap();
    input.exclusions = vec![
        Exclusion { range: day(3, 4), reason: "declared maintenance".into() },
        Exclusion { range: day(400, 401), reason: "elsewhere".into() },
    ];
    input.history.buckets.retain(|bucket| !(10 * DAY_MS..15 * DAY_MS).contains(&bucket.start_ms));
    let all = recommend(&World::checkout(60).input());
    let result = recommend(&input);
    assert_eq!(result.data.exclusions.len(), 1, "only those that touch the history");
    assert!((result.data.coverage_ratio - 54.0 / 59.0).abs() < 1e-12);
    assert_eq!(result.data.bucket_count, 54 * PER_DAY as u64);
    assert!(result.data.episode_count < all.data.episode_count, "the incident in maintenance does not count");
}

#[test]
fn a_change_of_level_is_reported_with_the_history_that_it_leaves() {
    let mut input = World::checkout(90).input();
    let mut before = World::checkout(90);
    before.own_chronic = 0.02;
    let cut = 50 * PER_DAY;
    let old = before.input().history.buckets;
    input.history.buckets = old[..cut].iter().chain(&input.history.buckets[cut..]).cloned().collect();
    let result = recommend(&input);
    let start = result.data.regime_start_ms.expect("a change");
    assert!((start / DAY_MS - 50).abs() <= 1 && (result.data.regime_days - 40.0).abs() <= 1.0);
    assert!(result.data.regime_level_factor.unwrap() < 0.3);
    let steady = recommend(&World::checkout(90).input());
    assert!(result.slis[0].offers[1].target_ratio <= steady.slis[0].offers[1].target_ratio);
    assert!(result.slis[0].forecast.as_ref().unwrap().chronic_mean() < 0.006, "the level of today counts");
}

#[test]
fn latency_offers_are_thresholds_that_a_quantile_stays_under() {
    let mut world = World::checkout(60);
    world.latencies = true;
    let mut input = world.input();
    input.current_slos = vec![CurrentSlo {
        kind: SliKind::Latency,
        target: Objective::new("target", 0.95).unwrap(),
        latency_threshold_ms: Some(1000),
        window: TimeWindow::default(),
    }];
    let result = recommend(&input);
    let sli = &result.slis[1];
    assert_eq!((sli.kind, sli.offers.len(), sli.fallback), (SliKind::Latency, 3, false), "{sli:#?}");
    let thresholds: Vec<u32> = sli.offers.iter().map(|offer| offer.latency_threshold_ms.unwrap()).collect();
    assert!(thresholds.windows(2).all(|pair| pair[0] >= pair[1]), "less risk, more time: {thresholds:?}");
    let p95 = sli.measured.latency_ms_p95.unwrap();
    assert!(f64::from(*thresholds.last().unwrap()) >= p95 && thresholds[0] <= 1000, "{thresholds:?} around {p95}");
    assert!(
        sli.offers
            .iter()
            .all(|offer| offer.target_ratio == 0.95 && offer.miss_probability.unwrap() <= offer.miss_probability_max)
    );
    assert!(sli.current_slo.as_ref().unwrap().miss_probability.unwrap() < 0.1);
}

#[test]
fn few_requests_are_refused_a_latency_quantile() {
    let mut world = World::checkout(30);
    (world.valid, world.latencies) = (1000.0, true);
    let mut input = world.input();
    for (i, bucket) in input.history.buckets.iter_mut().enumerate() {
        if i % 100 != 0 {
            bucket.latency = None;
        } else if let Some(latency) = &mut bucket.latency {
            *latency = attain_vocabulary::LatencyHistogram::from_explicit(&[100.0, 200.0], &[0, 1, 0]).unwrap();
        }
    }
    let result = recommend(&input);
    let sli = &result.slis[1];
    assert!(sli.fallback && !result.fallback, "availability is told, latency is not");
    assert_eq!((sli.offers.len(), sli.offers[0].basis), (1, OfferBasis::Template));
    assert!(sli.offer_note.contains("Too few"), "{}", sli.offer_note);
}

/// Numbers of a text, the names and descriptions that may hold digits taken out first.
fn numbers(result: &RecommendationResult) -> Vec<String> {
    let mut text = result.explanation.replace(result.service.as_str(), "").replace(',', "");
    for sli in &result.slis {
        for change in &sli.counterfactuals {
            text = text.replace(&change.description, "");
        }
    }
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|token| token.trim_matches('.').to_owned())
        .filter(|token| token.chars().any(|c| c.is_ascii_digit()))
        .collect()
}

fn leaves(value: &serde_json::Value, out: &mut Vec<f64>) {
    match value {
        serde_json::Value::Number(n) => out.extend(n.as_f64()),
        serde_json::Value::Array(all) => all.iter().for_each(|value| leaves(value, out)),
        serde_json::Value::Object(all) => all.values().for_each(|value| leaves(value, out)),
        _ => {}
    }
}

#[test]
fn each_number_of_the_explanation_is_a_field_of_the_result() {
    let mut traced = World::checkout(90);
    traced.latencies = true;
    let mut quiet = World::checkout(90);
    quiet.valid = 2.0;
    let mut inputs =
        vec![checkout(), traced.input(), quiet.input(), World::checkout(1).input(), World::checkout(30).input()];
    inputs.push(RecommendationInput { structure: None, dependencies: vec![], ..checkout() });
    inputs[4].history.buckets.clear();
    for input in inputs {
        let result = recommend(&input);
        let mut fields = Vec::new();
        leaves(&serde_json::to_value(&result).unwrap(), &mut fields);
        let spoken: Vec<String> = fields
            .iter()
            .flat_map(|field| [percent(*field).replace(" %", ""), number(*field), field.to_string()])
            .collect();
        for number in numbers(&result) {
            assert!(spoken.contains(&number), "{number} is no field, in: {}", result.explanation);
        }
    }
}

#[test]
fn a_replay_is_identical_through_json() {
    let input = checkout();
    let kept = serde_json::to_string(&input).unwrap();
    let first = serde_json::to_string(&recommend(&input)).unwrap();
    let again: RecommendationInput = serde_json::from_str(&kept).unwrap();
    assert_eq!(serde_json::to_string(&recommend(&again)).unwrap(), first);
    let result: RecommendationResult = serde_json::from_str(&first).unwrap();
    assert_eq!(serde_json::to_string(&result).unwrap(), first);
}

#[test]
fn the_share_of_a_bucket_is_used_where_it_is_known() {
    let mut input = checkout();
    let known =
        ShareSeries { otherwise: 0.0, by_bucket: (0..90 * PER_DAY as i64).map(|i| (i * BUCKET_MS, 1.0)).collect() };
    let all = Reach::Through { dependency: id("payment-service"), share: known };
    input.counterfactuals = vec![
        fallback("by bucket", "payment-service", all, 0.5),
        fallback("constant", "payment-service", deeper(1.0), 0.5),
    ];
    let solved = recommend(&input).slis[0].counterfactuals.clone();
    let of = |key: &str| solved.iter().find(|c| c.key == key).unwrap().attained_ratio;
    assert_eq!(of("by bucket"), of("constant"));
    assert!(of("by bucket") > of(OWN_FAILURES_HALVED));
}

#[test]
fn ambitions_ask_for_what_they_say() {
    assert_eq!(Ambition::ALL.map(Ambition::miss_probability_max), [0.02, 0.10, 0.25]);
}

#[test]
fn a_policy_that_takes_less_risk_is_offered_looser_targets_and_says_so() {
    let house = recommend(&checkout());
    let mut input = checkout();
    input.policy.miss_probabilities = Some([0.001, 0.02, 0.10]);
    let careful = recommend(&input);
    for (house, careful) in house.slis.iter().zip(&careful.slis) {
        let risks: Vec<f64> = careful.offers.iter().map(|offer| offer.miss_probability_max).collect();
        assert_eq!(risks, [0.001, 0.02, 0.10], "{:?}", careful.kind);
        assert!(careful.offers.iter().all(|offer| offer.miss_probability.unwrap() <= offer.miss_probability_max));
        let terms = |offer: &attain_attainment::Offer| (offer.target_ratio, offer.latency_threshold_ms);
        // What was conservative is balanced now, and what was balanced is ambitious.
        assert_eq!(terms(&careful.offers[1]), terms(&house.offers[0]), "{:?}", careful.kind);
        assert_eq!(terms(&careful.offers[2]), terms(&house.offers[1]), "{:?}", careful.kind);
    }
}
