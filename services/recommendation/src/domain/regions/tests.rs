use super::*;
use attain_attainment::{TierPolicy, recommend};
use attain_vocabulary::{BUCKET_MS, BucketCounts, DependencyMode, Tier, TimeWindow};
use proptest::prelude::*;

use crate::domain::components::failures;

const BUCKETS: i64 = 30 * 288;

fn id(text: &str) -> EntityId {
    EntityId::new("id", text).expect("valid")
}

/// Thirty days of a service of the second tier, a share of which fails now and then.
fn history(valid: u64, bad_ratio: f64) -> Vec<SliBucket> {
    let bucket = |i: i64| {
        let bad = (valid as f64 * bad_ratio * (i + 1) as f64) as u64 - (valid as f64 * bad_ratio * i as f64) as u64;
        let counts = BucketCounts::new(valid, bad.min(valid), Some(0)).expect("valid");
        SliBucket::new(i * BUCKET_MS, counts, BTreeMap::new(), None).expect("valid")
    };
    (0..BUCKETS).map(bucket).collect()
}

fn whole(buckets: Vec<SliBucket>) -> RecommendationInput {
    let range = TimeRange::new("range", 0, BUCKETS * BUCKET_MS).expect("ascending");
    let input = failures(&id("shop"), range, buckets, Vec::new(), Vec::new());
    RecommendationInput { tier: Tier::Two, policy: TierPolicy::for_tier(Tier::Two), ..input }
}

fn kept(region: &str, buckets: Vec<SliBucket>) -> RegionKept {
    RegionKept {
        region: region.to_owned(),
        range: TimeRange::new("range", 0, BUCKETS * BUCKET_MS).expect("ascending"),
        buckets,
        sources: vec![Source::Traces],
        dependencies: BTreeMap::new(),
        elsewhere: BTreeSet::new(),
        structure: whole(Vec::new()).structure,
    }
}

/// What comes of regions that together are the whole.
fn looked_at(regions: &[(&str, u64, f64)]) -> Outlook {
    let histories: Vec<Vec<SliBucket>> =
        regions.iter().map(|(_, valid, bad_ratio)| history(*valid, *bad_ratio)).collect();
    let summed = (0..BUCKETS as usize).map(|i| {
        let of = |count: fn(BucketCounts) -> u64| histories.iter().map(|buckets| count(buckets[i].counts)).sum();
        let counts = BucketCounts::new(of(BucketCounts::valid), of(BucketCounts::bad), Some(0)).expect("nested");
        SliBucket::new(i as i64 * BUCKET_MS, counts, BTreeMap::new(), None).expect("valid")
    });
    let whole = whole(summed.collect());
    let results: Vec<(&str, RecommendationResult)> = regions
        .iter()
        .zip(histories)
        .map(|((name, ..), buckets)| (*name, recommend(&kept(name, buckets).input(&whole))))
        .collect();
    let results: Vec<(&str, &RecommendationResult)> = results.iter().map(|(name, result)| (*name, result)).collect();
    outlook(&recommend(&whole), &results).expect("there are regions")
}

#[test]
fn a_small_bad_region_is_named_and_not_hidden() {
    let outlook = looked_at(&[("asia", 100, 0.02), ("eu", 10_000, 0.0005), ("us", 10_000, 0.0005)]);
    assert_eq!(outlook.worst, "asia");
    assert_eq!(outlook.hidden, ["asia"]);
    let [asia, eu, us] = &outlook.regions[..] else { panic!("{outlook:?}") };
    let (target, max) = outlook.whole.expect("offered");
    assert!(asia.whole_miss_probability.expect("estimated") > max, "{asia:?}");
    assert!(eu.whole_miss_probability.expect("estimated") <= max, "{eu:?}");
    assert_eq!(eu.whole_miss_probability, us.whole_miss_probability);
    assert!(asia.balanced_target_ratio.expect("offered") < target);
    assert!((asia.attained_ratio.expect("measured") - 0.98).abs() < 1e-9);
    assert!((asia.request_share - 100.0 / 20_100.0).abs() < 1e-12 && outlook.counted_share == 1.0);
    let paragraph = outlook.paragraph();
    assert!(paragraph.contains("asia is the worst") && paragraph.contains("The total hides asia"), "{paragraph}");
    for number in
        [asia.attained_ratio, asia.balanced_target_ratio, asia.whole_miss_probability, Some(target), Some(max)]
    {
        let number = percent(number.expect("a field"));
        assert!(paragraph.contains(&number), "{number} in {paragraph}");
    }
}

#[test]
fn regions_that_are_alike_hide_nothing() {
    let outlook = looked_at(&[("eu", 5_000, 0.001), ("us", 5_000, 0.001)]);
    assert_eq!((outlook.worst.as_str(), &outlook.hidden[..]), ("eu", &[][..]), "the first in lexical order");
    assert!(!outlook.paragraph().contains("hides"));
    assert_eq!(
        looked_at(&[("eu", 5_000, 0.001)]).paragraph(),
        "All that tells a region (100 % of its requests) was answered in eu."
    );
}

#[test]
fn a_region_is_decided_on_by_its_own_history_and_what_runs_there() {
    let mut all = whole(history(1_000, 0.001));
    let dependency = |name: &str, ratio: f64| DependencyHistory {
        id: id(name),
        mode: DependencyMode::Hard,
        call_fraction: Some(1.0),
        fallback_success_ratio: None,
        buckets: super::super::components::counts(&history(10, ratio)),
    };
    all.dependencies = vec![dependency("db", 0.1), dependency("pool-us", 0.2), dependency("queue", 0.3)];
    let mut of = kept("eu", history(7, 0.0));
    of.dependencies.insert(id("db"), super::super::components::counts(&history(10, 0.4)));
    of.elsewhere.insert(id("pool-us"));
    let input = of.input(&all);
    assert_eq!(input.history.buckets, history(7, 0.0));
    let bad = |of: &DependencyHistory| of.buckets.iter().map(|bucket| bucket.counts.bad()).sum::<u64>();
    let called: Vec<(&str, u64)> = input.dependencies.iter().map(|of| (of.id.as_str(), bad(of))).collect();
    assert_eq!(called, [("db", 4 * BUCKETS as u64), ("queue", bad(&all.dependencies[2]))]);
    assert_eq!((input.window, input.tier, input.as_of_ms), (TimeWindow::default(), Tier::Two, all.as_of_ms));

    let facts = |kind| Facts { kind, tier: Tier::Two, published_ratio: None };
    let facts = BTreeMap::from([
        (id("db"), facts(EntityKind::Datastore)),
        (id("pool-eu"), facts(EntityKind::NodePool)),
        (id("pool-us"), facts(EntityKind::NodePool)),
        (id("pool"), facts(EntityKind::NodePool)),
        (id("us"), facts(EntityKind::Region)),
        (id("eu"), facts(EntityKind::Region)),
    ]);
    // A datastore may be called from everywhere; of infrastructure that nobody says anything of, nothing is known.
    let regions = [("db", "us"), ("pool-eu", "eu"), ("pool-us", "us")];
    let regions = regions.map(|(name, region)| (id(name), region.to_owned())).into();
    assert_eq!(elsewhere("eu", &facts, &regions), BTreeSet::from([id("pool-us"), id("us")]));

    let rate = |name: &str, own| Rate { id: id(name), own_failure_ratio: own, includes_dependencies: false };
    let rates = rates_in(
        &[rate("db", 0.1), rate("pool-us", 0.2)],
        vec![rate("db", 0.4)],
        &BTreeSet::from([id("pool-us"), id("us")]),
    );
    let told: Vec<(&str, f64)> = rates.iter().map(|rate| (rate.id.as_str(), rate.own_failure_ratio)).collect();
    assert_eq!(told, [("db", 0.4), ("pool-us", 0.0), ("us", 0.0)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whoever is named is not better than anybody, nobody is hidden who keeps what is offered, and shares add up.
    #[test]
    fn the_worst_is_the_worst(ratios in prop::collection::vec((1u64..3_000, 0.0..0.05f64), 1..4)) {
        let names = ["a", "b", "c", "d"];
        let regions: Vec<(&str, u64, f64)> =
            ratios.iter().zip(names).map(|((valid, ratio), name)| (name, *valid, *ratio)).collect();
        let outlook = looked_at(&regions);
        let worst = outlook.regions.iter().find(|of| of.region == outlook.worst).expect("one of them");
        let missed = |of: &Summary| of.whole_miss_probability.unwrap_or(-1.0);
        for of in &outlook.regions {
            prop_assert!(missed(of) <= missed(worst));
            let would_miss = outlook.whole.is_some_and(|(_, max)| missed(of) > max);
            prop_assert_eq!(outlook.hidden.contains(&of.region), would_miss);
        }
        let shares: f64 = outlook.regions.iter().map(|of| of.request_share).sum();
        prop_assert!((shares - 1.0).abs() < 1e-9 && outlook.counted_share == 1.0);
        prop_assert!(!outlook.paragraph().is_empty());
    }
}
