//! Freshness over gRPC: from ages that ingestion holds to an SLO in force, its budget, and what became of the offers.

use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{DependencyMode, EntityKind, SliKind, Tier};
use attain_vocabulary::{BUCKET_MS, DAY_MS};

use crate::harness::{Mesh, fault};
use crate::world::{NOW_MS, SLI, World, first_ms};

const HOUR_MS: i64 = 3_600_000;

/// Slices from an instant to another: a second or two, and every third day an hour and a half in which the oldest message ages.
fn ages(from_ms: i64, to_ms: i64) -> Vec<(i64, f64)> {
    let age = |start_ms: i64| {
        let since_ms = (start_ms - first_ms()).rem_euclid(3 * DAY_MS);
        let waits = if since_ms < HOUR_MS * 3 / 2 { since_ms as f64 / 1000.0 } else { 0.0 };
        (start_ms, 1.25 + waits)
    };
    (from_ms..to_ms).step_by(BUCKET_MS as usize).map(age).collect()
}

/// Checkout sends mails without waiting, and to a ledger of which nothing is known.
fn with_consumers(world: &World) {
    for id in ["mailer", "ledger"] {
        world.entity(id, EntityKind::Service, Tier::Tier3);
        world.depend("checkout", id);
        world.dependencies.lock().unwrap().last_mut().unwrap().mode = DependencyMode::Async as i32;
    }
    world.ages.lock().unwrap().insert("mailer".into(), ages(first_ms(), NOW_MS - BUCKET_MS));
}

fn freshness(recommendation: &wire::Recommendation) -> Option<&wire::SliRecommendation> {
    recommendation.slis.iter().find(|sli| sli.kind == SliKind::Freshness as i32)
}

fn accept(recommendation: &wire::Recommendation) -> wire::DecideSloRequest {
    wire::DecideSloRequest {
        service_id: recommendation.service_id.clone(),
        action: wire::DecisionAction::Accept as i32,
        recommendation_id: recommendation.id.clone(),
        kind: SliKind::Freshness as i32,
        ambition: wire::Ambition::Balanced as i32,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_freshness_offer_becomes_an_slo_with_a_budget_of_slices() {
    let mesh = Mesh::start().await;
    with_consumers(&mesh.world);
    let recommendation = mesh.recommend("mailer").await;
    let sli = freshness(&recommendation).unwrap();
    assert_eq!(sli.measured.unwrap().valid_count as usize, mesh.world.ages.lock().unwrap()["mailer"].len());
    assert_eq!(sli.offers.len(), 3, "{}", sli.offer_note);
    let balanced = sli.offers[1].clone();
    assert_eq!(sli.latency_threshold_ms, balanced.latency_threshold_ms);
    let suggested = recommendation.suggested.iter().find(|suggested| suggested.kind == SliKind::Freshness as i32);
    assert!(suggested.is_some(), "{:?}", recommendation.suggested);

    let slo = mesh.decide(accept(&recommendation)).await.unwrap().slo.unwrap();
    assert_eq!((slo.kind, slo.id.as_str()), (SliKind::Freshness as i32, "mailer/freshness"));
    assert_eq!((slo.target_ratio, slo.latency_threshold_ms), (balanced.target_ratio, balanced.latency_threshold_ms));

    let request = wire::GetErrorBudgetsRequest { service_id: "mailer".into() };
    let budgets = mesh.client.clone().get_error_budgets(request).await.unwrap().into_inner().budgets;
    let limit = f64::from(slo.latency_threshold_ms) / 1000.0;
    let inside = |(start_ms, _): &&(i64, f64)| *start_ms >= NOW_MS - NOW_MS.rem_euclid(BUCKET_MS) - 28 * DAY_MS;
    let held = mesh.world.ages.lock().unwrap()["mailer"].clone();
    let (valid, bad) = (
        held.iter().filter(inside).count() as u64,
        held.iter().filter(inside).filter(|(_, seconds)| *seconds > limit).count() as f64,
    );
    assert_eq!((budgets[0].valid_count, budgets[0].bad_count), (valid, bad));

    let request = wire::GetAlertsRequest { service_id: "mailer".into(), ..Default::default() };
    let alerts = mesh.client.clone().get_alerts(request).await.unwrap().into_inner();
    assert_eq!(alerts.policies.len(), 1, "{alerts:?}");
    // Other tools count the same slices by the same limit, and the document is the SLO that is in force.
    for (format, said) in [
        ("openslo", format!("value: {limit:?}\n")),
        ("sloth", format!("> bool {limit})[{{{{.window}}}}:5m]")),
        ("pyrra", "bool_gauge".to_owned()),
        ("prometheus", format!("<= bool {limit}\n")),
    ] {
        let request =
            wire::GetSloExportRequest { service_id: "mailer".into(), format: format.into(), ..Default::default() };
        let exported = mesh.client.clone().get_slo_export(request).await.unwrap().into_inner();
        let text = &exported.files[0].content;
        assert!(text.contains(&said), "{said} in {text}");
        assert!(text.contains(r#"kafka_consumergroup_group_max_lag_seconds{group="mailer"}"#) != (format == "pyrra"));
        if format == "openslo" {
            let request = wire::ImportSlosRequest { text: text.clone() };
            let imported = mesh.client.clone().import_slos(request).await.unwrap().into_inner();
            assert_eq!((imported.unchanged_count, imported.refused_count), (1, 0), "{imported:?}");
        }
    }
    let again = mesh.recommend("mailer").await;
    let current = freshness(&again).unwrap().current_slo.clone().unwrap();
    assert_eq!(current.attained, Some(true));
    assert!(current.miss_probability.is_some());
}

#[tokio::test]
async fn a_caller_knows_what_freshness_to_expect() {
    let mesh = Mesh::start().await;
    with_consumers(&mesh.world);
    let edge = |callee_id: &str, age_measured| wire::AsynchronousEdge {
        callee_id: callee_id.into(),
        age_measured,
        ..Default::default()
    };
    let before = mesh.recommend("checkout").await;
    assert_eq!(before.asynchronous, [edge("ledger", false), edge("mailer", true)]);
    let missing: Vec<&str> = before.missing_inputs.iter().map(|missing| missing.detail.as_str()).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].starts_with("ledger is called asynchronously"), "{missing:?}");
    assert!(before.slis[0].offers.iter().all(|offer| offer.conditions.is_some()), "{before:?}");

    let recommendation = mesh.recommend("mailer").await;
    let slo = mesh.decide(accept(&recommendation)).await.unwrap().slo.unwrap();
    mesh.world.rewrite_last_bucket("checkout", 2_000);
    mesh.clock.set(NOW_MS + 60_000);
    let after = mesh.recommend("checkout").await;
    let expected = wire::AsynchronousEdge {
        age_threshold_ms: Some(slo.latency_threshold_ms),
        target_ratio: Some(slo.target_ratio),
        ..edge("mailer", true)
    };
    assert_eq!(after.asynchronous[1], expected);
    let replay = wire::ReplayRecommendationRequest { recommendation_id: after.id };
    assert!(mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner().identical);
}

#[tokio::test]
async fn a_freshness_slo_needs_an_age() {
    let mesh = Mesh::start().await;
    with_consumers(&mesh.world);
    let declare = |threshold| wire::DecideSloRequest {
        service_id: "mailer".into(),
        action: wire::DecisionAction::Declare as i32,
        kind: SliKind::Freshness as i32,
        target_ratio: Some(0.99),
        latency_threshold_ms: threshold,
        ..Default::default()
    };
    for (threshold, code) in [(None, "required"), (Some(604_800_001), "out_of_range")] {
        let refused = mesh.decide(declare(threshold)).await.unwrap_err();
        assert_eq!(fault(&refused), ("latency_threshold_ms".to_owned(), code.to_owned()));
    }
    let slo = mesh.decide(declare(Some(300_000))).await.unwrap().slo.unwrap();
    assert_eq!((slo.latency_threshold_ms, slo.window_days), (300_000, 28));
}

#[tokio::test]
async fn offers_of_freshness_are_judged_by_the_ages_that_followed() {
    let mesh = Mesh::start().await;
    with_consumers(&mesh.world);
    let weekly = || async {
        let request =
            wire::GetSloRecommendationsRequest { service_id: "mailer".into(), window_days: 7, ..Default::default() };
        mesh.client.clone().get_slo_recommendations(request).await.unwrap().into_inner().recommendation.unwrap()
    };
    let first = weekly().await;
    let offers = freshness(&first).unwrap().offers.len() as u64;
    assert_eq!(offers, 3);
    let later_ms = NOW_MS + 7 * DAY_MS + 2 * HOUR_MS;
    mesh.clock.set(later_ms);
    mesh.world.ages.lock().unwrap().insert("mailer".into(), ages(first_ms(), later_ms));
    mesh.world.touch("default", "mailer", SLI);
    weekly().await;
    let request = wire::GetCalibrationRequest { tier: Tier::Tier3 as i32, kind: EntityKind::Service as i32 };
    let classes = mesh.client.clone().get_calibration(request).await.unwrap().into_inner().classes;
    let class = classes.into_iter().find(|class| class.sli_kind == SliKind::Freshness as i32).unwrap();
    let lived = class.lived.unwrap();
    let balanced = lived.balanced.unwrap();
    // As the weeks before: an hour and a half in three days is less than what an offer lets pass.
    assert_eq!((balanced.forecast_count, balanced.missed_count), (1, 0));
}
