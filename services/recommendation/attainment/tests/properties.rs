//! What must hold for any history, however small or odd.
#![allow(clippy::unwrap_used)]

mod simulated;

use std::collections::BTreeMap;

use attain_attainment::{
    ConsistentTarget, Constants, CountPoint, CountSeries, CounterfactualStructure, CurrentSlo, DependencyBucket,
    DependencyHistory, Doubt, Exclusion, FleetLimit, Importance, Model, Offer, OfferBasis, Reach, RecommendationInput,
    ServiceHistory, ShareSeries, StructureFacts, TARGET_MENU, TierPolicy, ToldApart, UtilisationFacts, failure_split,
    held_beside, own_failures, predict, recommend, recommend_told, strictest_target,
};
use attain_vocabulary::{
    BUCKET_MS, BucketCounts, DependencyMode, EntityId, EntityKind, LatencyHistogram, Objective, SliBucket, SliKind,
    Tier, TimeRange, TimeWindow,
};
use proptest::prelude::*;
use simulated::{World, id};

/// Requests of a bucket: none, few, many, as many as 64 bits hold.
fn valid() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0u64), 1u64..5, 1u64..100_000, Just(u64::MAX)]
}

fn bucket() -> impl Strategy<Value = (i64, u64, f64, f64, bool, bool)> {
    (
        0i64..4000,
        valid(),
        prop_oneof![Just(0.0), Just(1.0), 0.0f64..1.0, 0.0f64..0.01],
        0.0f64..=1.0,
        any::<bool>(),
        any::<bool>(),
    )
}

fn sli_bucket((at, valid, bad, inherited, traced, timed): (i64, u64, f64, f64, bool, bool)) -> SliBucket {
    let bad = ((valid as f64 * bad) as u64).min(valid);
    let inherited = ((bad as f64 * inherited) as u64).min(bad);
    let by: BTreeMap<EntityId, u64> =
        if traced { [(id("a"), inherited / 2), (id("b"), inherited / 3)].into() } else { BTreeMap::new() };
    let counts = BucketCounts::new(valid, bad, traced.then_some(inherited)).unwrap();
    let latency = timed.then(|| {
        LatencyHistogram::from_explicit(&[10.0, 100.0, 30_000.0], &[valid / 4, valid / 4, bad / 8, bad / 16]).unwrap()
    });
    SliBucket::new(at * BUCKET_MS, counts, by, latency).unwrap()
}

fn dependency(name: &str, mode: DependencyMode, buckets: Vec<(i64, u64, f64)>) -> DependencyHistory {
    let bucket = |(at, valid, bad): (i64, u64, f64)| DependencyBucket {
        start_ms: at * BUCKET_MS,
        counts: BucketCounts::new(valid, ((valid as f64 * bad) as u64).min(valid), None).unwrap(),
    };
    DependencyHistory {
        id: id(name),
        mode,
        call_fraction: Some(2.0),
        fallback_success_ratio: Some(f64::NAN),
        buckets: buckets.into_iter().map(bucket).collect(),
    }
}

/// In force over a week, or the window of the calendar that is offered for.
fn slo(slow: bool, target: f64, calendar: Option<TimeWindow>) -> CurrentSlo {
    CurrentSlo {
        kind: if slow { SliKind::Latency } else { SliKind::Availability },
        target: Objective::new("target", target).unwrap(),
        latency_threshold_ms: slow.then_some(300),
        window: calendar.unwrap_or(TimeWindow::from_days("window", 7).unwrap()),
    }
}

/// Each offer allowed a little less than it promises.
fn held(mut input: RecommendationInput, offers: &[Offer]) -> RecommendationInput {
    let limit = FleetLimit { callee: Some(id("a")), needed_ratio: 0.1, chain: vec![id("svc"), id("a")] };
    let target = |offer: &Offer| ConsistentTarget {
        ambition: offer.ambition,
        offered_ratio: offer.target_ratio,
        target_ratio: Some(offer.target_ratio / 2.0),
        limited_by: Some(limit.clone()),
    };
    if let Some(structure) = &mut input.structure {
        structure.consistent_targets = offers.iter().map(target).collect();
    }
    input
}

fn change(key: &str, reach: Reach, saved_ratio: f64) -> CounterfactualStructure {
    CounterfactualStructure {
        key: key.into(),
        description: "a fallback".into(),
        ceiling_after_ratio: Some(1.5),
        caller: id("svc"),
        callee: id("a"),
        saved_ratio,
        reach,
        other_reaches: Vec::new(),
    }
}

prop_compose! {
    fn input()(
        buckets in prop::collection::vec(bucket(), 0..60),
        callee in prop::collection::vec((0i64..4000, valid(), 0.0f64..=1.0), 0..40),
        graph in any::<bool>(),
        days in prop::sample::select(vec![7u32, 28, 30, 90]),
        end in 0i64..4000,
        as_of in 0i64..5000,
        share in prop_oneof![Just(f64::NAN), -1.0f64..2.0],
        calendar in prop::option::of(prop::sample::select(vec![TimeWindow::MONTH, TimeWindow::QUARTER])),
        promised in prop::option::of((any::<bool>(), 0.5f64..0.9999)),
        drift in prop::option::of(0.05f64..20.0),
    ) -> RecommendationInput {
        let range = TimeRange::new("range", 0, end * BUCKET_MS).unwrap();
        let reach = Reach::Through { dependency: id("b"), share: ShareSeries { otherwise: share, by_bucket: BTreeMap::new() } };
        RecommendationInput {
            service: id("svc"),
            tier: Tier::Two,
            kind: EntityKind::Service,
            window: calendar.unwrap_or(TimeWindow::from_days("window", days).unwrap()),
            as_of_ms: as_of * BUCKET_MS,
            history: ServiceHistory { range, buckets: buckets.into_iter().map(sli_bucket).collect() },
            dependencies: vec![
                dependency("a", DependencyMode::Hard, callee.clone()),
                dependency("b", DependencyMode::Soft, callee),
                dependency("c", DependencyMode::Async, vec![]),
            ],
            exclusions: vec![Exclusion { range: TimeRange::new("range", i64::MIN, 20 * BUCKET_MS).unwrap(), reason: "old".into() }],
            incident_ids: vec!["incident-1".into()],
            structure: graph.then(|| StructureFacts {
                ceiling_ratio: f64::NAN,
                exact: false,
                importances: vec![Importance { entity_id: id("a"), birnbaum: f64::INFINITY, contribution_ratio: 0.1 }],
                assumed_perfect_ids: vec![id("b")],
                snapshot_version: 1,
                snapshot_age_ms: -5,
                doubt: Doubt::default(),
                consistent_targets: Vec::new(),
                slow_requests: None,
            }),
            counterfactuals: vec![change("near", Reach::Direct, 1.0), change("far", reach, share)],
            current_slos: promised.into_iter().map(|(slow, target)| slo(slow, target, calendar)).collect(),
            missing_inputs: vec![],
            policy: TierPolicy::for_tier(Tier::Two),
            class_record: None,
            quiet_slices_good: false,
            utilisation: UtilisationFacts::default(),
            seed: 1,
            model: drift.map(|drift| Model { version: "other".into(), constants: Constants { drift, ..Constants::DEFAULT }, layer: None }),
        }
    }
}

/// Counts over a few days, dense enough for levels, episodes and regimes to be found.
fn series() -> impl Strategy<Value = CountSeries> {
    let day = (prop_oneof![Just(0.0), 0.0f64..0.02], 0usize..300, 0usize..40, 0.0f64..1.0, 1.0f64..2000.0);
    prop::collection::vec(day, 1..40).prop_map(|days| {
        let mut points = Vec::new();
        for (d, (chronic, start, length, severity, valid)) in days.into_iter().enumerate() {
            for i in 0..288usize {
                let ill = (start..start + length).contains(&i);
                let wobble = 0.5 + ((i * 37 + d * 11) % 100) as f64 / 100.0;
                let bad = (valid * (chronic * wobble + if ill { severity } else { 0.0 })).floor();
                points.push(CountPoint { start_ms: (d * 288 + i) as i64 * BUCKET_MS, valid, bad });
            }
        }
        CountSeries::new(points)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_input_gets_an_answer_that_holds_together(input in input()) {
        let result = recommend(&input);
        prop_assert_eq!(serde_json::to_string(&recommend(&input)).unwrap(), serde_json::to_string(&result).unwrap());
        let told = ToldApart::of(&RecommendationInput { structure: None, ..input.clone() });
        prop_assert_eq!(&recommend_told(&input, &told), &result);
        prop_assert_eq!(told.own_failures(&input), own_failures(&input));
        let beside = held(input.clone(), &result.slis[0].offers);
        prop_assert_eq!(held_beside(result.clone(), &beside), recommend(&beside));
        for slo in result.slis.iter().filter_map(|sli| sli.current_slo.as_ref()) {
            prop_assert!(slo.miss_probability.is_none_or(|missed| (0.0..=1.0).contains(&missed)), "{slo:?}");
        }
        let text = serde_json::to_string(&result).unwrap();
        let read: attain_attainment::RecommendationResult = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text, "nothing that JSON cannot hold");
        prop_assert!((0.0..=1.0).contains(&result.confidence.score));
        prop_assert!((0.0..=1.0).contains(&result.data.coverage_ratio));
        for sli in &result.slis {
            prop_assert_eq!(sli.fallback, sli.offers.iter().any(|offer| offer.basis == OfferBasis::Template));
            prop_assert!(sli.offers.len() == 3 || !sli.offer_note.is_empty());
            for offer in sli.offers.iter().filter(|offer| offer.basis == OfferBasis::Estimate) {
                prop_assert!(offer.miss_probability.unwrap() <= offer.miss_probability_max);
                prop_assert!(offer.budget_use_low <= offer.budget_use_high);
            }
            prop_assert!(sli.offers.windows(2).all(|pair| pair[0].target_ratio <= pair[1].target_ratio));
        }
        let split = result.slis[0].failure_split.as_ref().unwrap();
        let total = result.slis[0].measured.attained_ratio.map_or(0.0, |attained| 1.0 - attained);
        prop_assert!((split.own_failure_ratio + split.inherited_failure_ratio - total).abs() < 1e-9, "{split:?} of {total}");
        let named: f64 = split.inherited.iter().map(|share| share.failure_ratio).sum();
        prop_assert!((named + split.unattributed_ratio - split.inherited_failure_ratio).abs() < 1e-9, "{split:?}");
    }

    #[test]
    fn a_stricter_target_is_missed_no_less(series in series(), window in prop::sample::select(vec![7.0, 28.0, 90.0])) {
        let prediction = predict(&series, window, 40 * 288 * BUCKET_MS);
        prop_assert!(prediction.is_some());
        if let Some(prediction) = prediction {
            let missed: Vec<f64> = TARGET_MENU.iter().map(|target| prediction.forecast.miss_probability(1.0 - target)).collect();
            prop_assert!(missed.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "{missed:?}");
            // The one that is found by halves is the one that looking at each from the strictest on finds.
            let policy = TierPolicy::for_tier(Tier::Two);
            for most in [0.02, 0.1, 0.25] {
                let fits = |(target, missed): &(&f64, &f64)| {
                    **target <= policy.target_ratio_max && prediction.distinguishes(1.0 - **target) && **missed <= most
                };
                let step_by_step = TARGET_MENU.iter().zip(&missed).rev().find(fits).map(|(target, _)| *target);
                prop_assert_eq!(strictest_target(&prediction, &policy, most), step_by_step);
            }
        }
    }

    #[test]
    fn a_full_fallback_never_worsens(days in 20usize..40, seed in 0u64..1000, start in 0usize..5000, severity in 0.0f64..1.0) {
        let mut world = simulated::World::checkout(days);
        world.seed = seed;
        world.dependency_incidents.push(simulated::Incident { start, buckets: 20, severity });
        let mut input = world.input();
        let mut full = change("full", Reach::Direct, 1.0);
        (full.caller, full.callee) = (id("checkout-service"), id("payment-service"));
        input.counterfactuals = vec![full];
        let result = recommend(&input);
        let sli = &result.slis[0];
        let balanced = sli.offers.iter().find(|offer| offer.ambition == attain_attainment::Ambition::Balanced);
        let today = balanced.and_then(|offer| offer.miss_probability);
        for after in &sli.counterfactuals {
            prop_assert!(after.balanced_target_ratio >= balanced.map(|offer| offer.target_ratio));
            prop_assert!(today.is_none_or(|today| after.miss_probability <= today));
            prop_assert!(after.attained_ratio >= sli.measured.attained_ratio.unwrap() - 1e-12);
        }
        prop_assert!(result.fallback || !sli.counterfactuals.is_empty());
    }
}

/// What was told apart once serves the recommendation as if it were told apart for it, whether the graph was known or not.
#[test]
fn failures_told_apart_before_make_the_same_recommendation() {
    let worlds = [
        World { latencies: true, ..World::checkout(40) },
        World { traced: false, ..World::checkout(35) },
        World { days: 3, ..World::checkout(3) },
    ];
    for world in worlds {
        let known = world.input();
        let unknown = RecommendationInput { structure: None, ..known.clone() };
        let alone = RecommendationInput { dependencies: Vec::new(), ..known.clone() };
        let untraced = World { traced: false, ..world }.input();
        let alone_untraced = RecommendationInput { dependencies: Vec::new(), ..untraced.clone() };
        for input in [known, unknown, alone, untraced, alone_untraced] {
            let without_graph = RecommendationInput { structure: None, ..input.clone() };
            let told = ToldApart::of(&input);
            assert_eq!(*told.ratios(), failure_split(&input));
            for seen in [&input, &without_graph] {
                assert_eq!(recommend_told(seen, &told), recommend(seen));
                assert_eq!(told.own_failures(seen), own_failures(seen));
            }
            assert_eq!(recommend_told(&input, &ToldApart::of(&without_graph)), recommend(&input));
        }
    }
}
