//! How often offers are missed: what the store promises of it.

use std::collections::BTreeMap;

use attain_attainment::{Backtest, OfferRecord, Record};
use attain_vocabulary::{DAY_MS, EntityKind, Tier};

use super::*;
use crate::domain::calibration::{Claim, Class, Evidence, Published, Records};

const CLASS: Class = Class { tier: Tier::Two, kind: EntityKind::Service };

/// A recommendation that adds nothing to any record.
pub(super) fn nothing() -> Evidence {
    Evidence {
        class: CLASS,
        window: TimeWindow::default(),
        start_ms: 0,
        end_ms: 28 * DAY_MS,
        backtests: BTreeMap::new(),
        claims: Vec::new(),
    }
}

fn record(forecast_count: u64, missed_count: u64) -> Record {
    Record {
        forecast_count,
        missed_count,
        window_count: 2.25,
        probability_sum: 0.1 * forecast_count as f64,
        brier_sum: 0.5,
        allowed_sum: 0.03,
        observed_sum: 0.01,
    }
}

/// Each ambition has its own number of misses.
fn tested(forecast_count: u64, missed: [u64; 3]) -> BTreeMap<SliKind, Backtest> {
    let of = |(ambition, missed)| OfferRecord { ambition, record: record(forecast_count, missed) };
    let backtest = Backtest {
        window_days: 28.0,
        step_days: 7.0,
        first_origin_ms: 0,
        last_origin_ms: 35 * DAY_MS,
        offers: Ambition::ALL.into_iter().zip(missed).map(of).collect(),
    };
    BTreeMap::from([(SliKind::Availability, backtest)])
}

fn claims(target_ratio: f64) -> Vec<Claim> {
    let claim = |(ambition, miss_probability)| Claim {
        sli: SliKind::Availability,
        ambition,
        target_ratio,
        latency_threshold_ms: None,
        miss_probability,
    };
    Ambition::ALL.into_iter().zip([0.01, 0.08, 0.2]).map(claim).collect()
}

fn made(service_id: &str, version: u32, evidence: Evidence) -> NewRecommendation {
    NewRecommendation { evidence, ..new(service_id, version) }
}

/// Offers made on a day, for the 28 days after it.
pub(in crate::storage) fn on_day(day: i64) -> Evidence {
    Evidence { start_ms: day * DAY_MS, end_ms: (day + 28) * DAY_MS, claims: claims(0.999), ..nothing() }
}

async fn only(store: &Store, of: &TenantId) -> Published {
    let published = store.published(of, Filter::default()).await.expect("read");
    assert_eq!(published.len(), 1, "{published:?}");
    published.into_values().next().expect("one")
}

fn counts(records: &Records) -> [(u64, u64); 3] {
    records.each_ref().map(|record| (record.forecast_count, record.missed_count))
}

pub(super) async fn the_newest_back_test_of_each_service_counts(store: &Store) {
    for (name, version, backtests) in
        [("cart", 1, tested(6, [0, 3, 5])), ("cart", 2, tested(6, [0, 1, 2])), ("checkout", 1, tested(4, [1, 1, 1]))]
    {
        let evidence = Evidence { backtests, ..nothing() };
        store.insert(&tenant(), made(name, version, evidence)).await.expect("stored");
    }
    let found = only(store, &tenant()).await;
    assert_eq!((found.backtest_service_count, found.lived_service_count), (2, 0));
    assert_eq!(counts(&found.backtest), [(10, 1), (10, 2), (10, 3)]);
    assert_eq!((found.backtest[1].window_count, found.backtest[1].brier_sum), (4.5, 1.0));
    // Of its class a service hears of the others.
    let of_class = async |name| {
        store.class_record(&tenant(), CLASS, TimeWindow::default(), &service(name)).await.expect("read").expect("there")
    };
    let heard = of_class("cart").await;
    assert_eq!((heard.forecast_count, heard.missed_count), (4, 1));
    assert_eq!(of_class("new").await.missed_count, 2);
    // A version without a back-test takes the one before away.
    store.insert(&tenant(), made("checkout", 2, nothing())).await.expect("stored");
    assert_eq!(counts(&only(store, &tenant()).await.backtest)[1], (6, 1));
}

pub(super) async fn offers_are_kept_once_a_week_and_judged_once(store: &Store) {
    // Days 7 to 13 since 1970 are of one week for the store, 14 is of the next.
    for (version, day) in [(1, 7), (2, 9), (3, 14)] {
        store.insert(&tenant(), made("cart", version, on_day(day))).await.expect("stored");
    }
    let found = only(store, &tenant()).await;
    assert_eq!((found.open_count, counts(&found.lived)), (6, [(0, 0); 3]));
    let due = |before_day: i64| store.due_offers(None, before_day * DAY_MS, 100);
    assert_eq!(due(35).await.expect("read").len(), 0, "a window that ends now is not over");
    let first = due(36).await.expect("read");
    assert_eq!(first.iter().map(|offer| offer.start_ms).collect::<Vec<_>>(), [7 * DAY_MS; 3]);
    assert_eq!(store.due_offers(None, i64::MAX, 4).await.expect("read").len(), 4);
    let one = store.due_offers(Some((&tenant(), &service("other"))), i64::MAX, 100).await.expect("read");
    assert_eq!(one, []);
    let judged: Vec<(DueOffer, Judgement)> = first
        .into_iter()
        .map(|offer| {
            let judgement = match offer.ambition {
                Ambition::Conservative => Judgement::Met(0.0005),
                _ => Judgement::Missed(0.002),
            };
            (offer, judgement)
        })
        .collect();
    store.judge(&judged, 9).await.expect("judged");
    let turned: Vec<_> = judged.iter().map(|(offer, _)| (offer.clone(), Judgement::Unjudged)).collect();
    store.judge(&turned, 10).await.expect("judged");
    let found = only(store, &tenant()).await;
    assert_eq!((found.open_count, found.unjudged_count, found.lived_service_count), (3, 0, 1));
    assert_eq!(counts(&found.lived), [(1, 0), (1, 1), (1, 1)]);
    let balanced = found.lived[1];
    assert!((balanced.brier_sum - 0.92 * 0.92).abs() < 1e-12 && (balanced.probability_sum - 0.08).abs() < 1e-12);
    assert!((balanced.allowed_sum - 0.001).abs() < 1e-12 && balanced.observed_sum == 0.002);
    // Two starts a week apart, windows of four weeks.
    let second: Vec<_> = due(43).await.expect("read").into_iter().map(|offer| (offer, Judgement::Met(0.0))).collect();
    store.judge(&second, 11).await.expect("judged");
    assert_eq!(only(store, &tenant()).await.lived[1].window_count, 1.25);
}

pub(super) async fn classes_are_told_apart_and_filtered(store: &Store) {
    let of = |tier, kind| Evidence { class: Class { tier, kind }, claims: claims(0.99), ..nothing() };
    store.insert(&tenant(), made("cart", 1, of(Tier::One, EntityKind::Service))).await.expect("stored");
    store.insert(&tenant(), made("db", 1, of(Tier::One, EntityKind::Datastore))).await.expect("stored");
    store.insert(&tenant(), made("mail", 1, of(Tier::Four, EntityKind::Service))).await.expect("stored");
    let count = |tier, kind| {
        let filter = Filter { tier, kind };
        async move { store.published(&tenant(), filter).await.expect("read").len() }
    };
    assert_eq!(count(None, None).await, 3);
    assert_eq!(count(Some(Tier::One), None).await, 2);
    assert_eq!(count(None, Some(EntityKind::Service)).await, 2);
    assert_eq!(count(Some(Tier::Four), Some(EntityKind::Datastore)).await, 0);
    let other = TenantId::new("tenant", "other").expect("valid");
    assert_eq!(store.published(&other, Filter::default()).await.expect("read").len(), 0);
    // Nothing left behind by a version that came too late.
    let late = made("cart", 1, Evidence { backtests: tested(6, [0, 0, 0]), ..nothing() });
    assert_eq!(store.insert(&tenant(), late).await.expect("answered"), Inserted::Overtaken);
    assert!(
        store
            .published(&tenant(), Filter::default())
            .await
            .expect("read")
            .values()
            .all(|p| p.backtest_service_count == 0)
    );
}
