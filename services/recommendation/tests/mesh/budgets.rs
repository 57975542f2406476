//! Error budgets, alerts and agreements over the shop's thirty days: checkout fails a quarter of an hour's requests every thirteen days.

use attain_proto::convert::{duration_millis, timestamp, unix_millis};
use attain_proto::ingestion::v1::{Incident, IncidentKind};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{SliBucket, SliKind};
use attain_recommendation::Config;
use attain_runtime::context::CallContext;
use attain_vocabulary::{BUCKET_MS, DAY_MS, TenantId, TimeWindow};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tonic::{Code, Status};

use crate::harness::{Mesh, PATIENCE, fault, reason};
use crate::world::{NOW_MS, first_ms};

async fn budgets(mesh: &Mesh, service_id: &str) -> wire::GetErrorBudgetsResponse {
    let request = wire::GetErrorBudgetsRequest { service_id: service_id.into() };
    mesh.client.clone().get_error_budgets(request).await.unwrap().into_inner()
}

async fn alerts(mesh: &Mesh, service_id: &str, target_ratio: f64) -> wire::GetAlertsResponse {
    let request = wire::GetAlertsRequest { service_id: service_id.into(), target_ratio, window_days: 0 };
    mesh.client.clone().get_alerts(request).await.unwrap().into_inner()
}

async fn sla(mesh: &Mesh, service_id: &str) -> wire::GetSlaSuggestionResponse {
    let request = wire::GetSlaSuggestionRequest { service_id: service_id.into(), ..Default::default() };
    mesh.client.clone().get_sla_suggestion(request).await.unwrap().into_inner()
}

/// Requests and failures of the last so many days, counted by hand.
fn counted(mesh: &Mesh, service_id: &str, days: i64) -> (u64, u64) {
    let end_ms = NOW_MS - NOW_MS.rem_euclid(BUCKET_MS);
    let histories = mesh.world.histories.lock().unwrap();
    let inside = |bucket: &&SliBucket| unix_millis(bucket.start_time.as_ref().unwrap()) >= end_ms - days * DAY_MS;
    let inside: Vec<&SliBucket> = histories[service_id].iter().filter(inside).collect();
    (inside.iter().map(|bucket| bucket.valid_count).sum(), inside.iter().map(|bucket| bucket.bad_count).sum())
}

#[tokio::test]
async fn a_budget_is_what_the_window_holds_and_reading_it_writes_nothing() {
    let mesh = Mesh::start().await;
    assert!(budgets(&mesh, "checkout").await.notes[0].contains("no SLO in force"));
    mesh.declare("checkout", 0.99).await;
    let written = mesh.audit().await.len();
    let answer = budgets(&mesh, "checkout").await;
    let budget = &answer.budgets[0];
    let (valid, bad) = counted(&mesh, "checkout", 28);
    assert_eq!((budget.slo_id.as_str(), budget.kind), ("checkout/availability", SliKind::Availability as i32));
    assert_eq!((budget.valid_count, budget.bad_count), (valid, bad as f64));
    assert!((budget.spent_ratio.unwrap() - bad as f64 / (0.01 * valid as f64)).abs() < 1e-9);
    assert_eq!((budget.coverage_ratio, budget.exhausted), (1.0, false));
    let windows: Vec<i64> =
        budget.burn_rates.iter().map(|rate| duration_millis(rate.window.as_ref().unwrap())).collect();
    assert_eq!(windows, [3_600_000, 6 * 3_600_000, 3 * DAY_MS]);
    let forecast = budget.forecast.as_ref().unwrap();
    assert!((0.0..=1.0).contains(&forecast.exhaustion_probability));
    assert_eq!(
        unix_millis(forecast.horizon_time.as_ref().unwrap()) - unix_millis(answer.as_of_time.as_ref().unwrap()),
        28 * DAY_MS
    );
    assert!(budget.detail.contains('%'), "{}", budget.detail);
    assert_eq!(budgets(&mesh, "checkout").await, answer, "asking again says the same");
    assert_eq!(mesh.audit().await.len(), written, "reads write nothing");
}

#[tokio::test]
async fn a_latency_slo_has_a_budget_of_slow_requests() {
    let mesh = Mesh::start().await;
    let declare = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: wire::DecisionAction::Declare as i32,
        kind: SliKind::Latency as i32,
        target_ratio: Some(0.95),
        latency_threshold_ms: Some(300),
        window_days: 7,
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(declare).await.unwrap();
    let budget = budgets(&mesh, "checkout").await.budgets.remove(0);
    // Two of a hundred requests take 450 ms.
    assert!((budget.spent_ratio.unwrap() - 0.4).abs() < 0.01, "{budget:?}");
    assert_eq!((budget.latency_threshold_ms, budget.window_days), (300, 7));
}

/// Declares an SLO of checkout over the calendar month, which is October 2026, of which the 26th has come.
async fn declare_month(mesh: &Mesh, target_ratio: f64) -> wire::ErrorBudget {
    let declare = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: wire::DecisionAction::Declare as i32,
        target_ratio: Some(target_ratio),
        calendar_window: wire::CalendarWindow::Month as i32,
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(declare).await.unwrap();
    budgets(mesh, "checkout").await.budgets.remove(0)
}

#[tokio::test]
async fn the_budget_of_a_month_ends_with_it_and_keeps_all_that_it_has_seen() {
    let mesh = Mesh::start().await;
    let month = TimeWindow::MONTH.in_force_at(NOW_MS);
    let budget = declare_month(&mesh, 0.99).await;
    assert_eq!((budget.calendar_window(), budget.window_days), (wire::CalendarWindow::Month, 30));
    assert_eq!(unix_millis(budget.window_start_time.as_ref().unwrap()), month.start_ms());
    let horizon = budget.forecast.as_ref().unwrap().horizon_time.as_ref().unwrap();
    assert_eq!(unix_millis(horizon), month.end_ms());
    let days = (NOW_MS - NOW_MS.rem_euclid(BUCKET_MS) - month.start_ms()) as f64 / DAY_MS as f64;
    assert_eq!(budget.valid_count, (days * 288.0).round() as u64 * 2000);
    assert!(budget.detail.contains("of the month so far. Before the month ends it is overspent"), "{}", budget.detail);
    assert!(!budget.detail.contains("days"), "{}", budget.detail);
    let policy = alerts(&mesh, "checkout", 0.0).await.policies.remove(0);
    assert_eq!(policy.calendar_window(), wire::CalendarWindow::Month);

    let spent = declare_month(&mesh, 0.9999).await;
    assert!(spent.exhausted && spent.restored_time.is_none());
    assert!(spent.detail.ends_with("it is overspent until the month ends."), "{}", spent.detail);
    // A little less than what October has left of requests would earn back.
    let worst = budget.bad_count / (budget.valid_count as f64 * 1.1);
    let nearly = declare_month(&mesh, 1.0 - worst).await;
    assert!(nearly.exhausted && nearly.restored_time.is_some(), "{nearly:?}");
    assert!(nearly.detail.contains("until enough further requests have succeeded"), "{}", nearly.detail);
}

#[tokio::test]
async fn what_reads_a_history_waits_for_a_place_and_no_longer_than_its_caller() {
    let mesh = Mesh::start_with(Config { computations_max: 1, ..Config::default() }).await;
    mesh.declare("auth", 0.99).await;
    let held = mesh.world.checkout_held.lock().await;
    let mut client = mesh.client.clone();
    let request = wire::GetSloRecommendationsRequest { service_id: "checkout".into(), ..Default::default() };
    let computing = tokio::spawn(async move { client.get_slo_recommendations(request).await });
    let begun = async {
        while mesh.world.computations.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.expect("the only place is taken");

    let late = |status: Status| [Code::DeadlineExceeded, Code::Cancelled].contains(&status.code());
    let context = CallContext::new(TenantId::default(), "test", Duration::from_millis(300));
    let (mut client, service_id) = (mesh.client.clone(), || String::from("auth"));
    let budgets_of = wire::GetErrorBudgetsRequest { service_id: service_id() };
    assert!(client.get_error_budgets(context.request(budgets_of)).await.is_err_and(late));
    let alerts_of = wire::GetAlertsRequest { service_id: service_id(), ..Default::default() };
    let context = CallContext::new(TenantId::default(), "test", Duration::from_millis(300));
    assert!(client.get_alerts(context.request(alerts_of)).await.is_err_and(late));
    let sla_of = wire::GetSlaSuggestionRequest { service_id: service_id(), ..Default::default() };
    let context = CallContext::new(TenantId::default(), "test", Duration::from_millis(300));
    assert!(client.get_sla_suggestion(context.request(sla_of)).await.is_err_and(late));
    let export_of =
        wire::GetSloExportRequest { service_id: service_id(), format: "openslo".into(), ..Default::default() };
    let context = CallContext::new(TenantId::default(), "test", Duration::from_millis(300));
    assert!(client.get_slo_export(context.request(export_of)).await.is_err_and(late));

    drop(held);
    computing.await.unwrap().unwrap();
    assert_eq!(budgets(&mesh, "auth").await.budgets.len(), 1);
}

#[tokio::test]
async fn an_overspent_budget_a_gap_and_an_exclusion_are_told() {
    let mesh = Mesh::start().await;
    mesh.declare("checkout", 0.9999).await;
    assert!(budgets(&mesh, "checkout").await.budgets[0].exhausted);
    mesh.world.histories.lock().unwrap().get_mut("checkout").unwrap().truncate(16 * 288);
    let answer = budgets(&mesh, "checkout").await;
    assert!((answer.budgets[0].coverage_ratio - 0.5).abs() < 0.001, "{answer:?}");
    assert_eq!(answer.budgets[0].burn_rates[0].burn_rate, None);
    mesh.world.incidents.lock().unwrap().push(Incident {
        id: "drill".into(),
        service_ids: vec!["checkout".into()],
        start_time: Some(timestamp(first_ms() + 9 * DAY_MS)),
        end_time: Some(timestamp(first_ms() + 10 * DAY_MS)),
        kind: IncidentKind::Maintenance as i32,
        exclusion_reason: "fail-over drill".into(),
        ..Incident::default()
    });
    let with_drill = budgets(&mesh, "checkout").await;
    assert!(with_drill.notes.iter().any(|note| note.contains("fail-over drill")), "{:?}", with_drill.notes);
    assert_eq!(answer.budgets[0].valid_count - with_drill.budgets[0].valid_count, 288 * 2000);
}

#[tokio::test]
async fn alerts_are_tested_against_incidents_on_record() {
    let mesh = Mesh::start().await;
    assert!(alerts(&mesh, "checkout", 0.0).await.policies.is_empty());
    mesh.declare("checkout", 0.99).await;
    // The outages that the world simulates, as a pager would have told of them, and one that nobody saw here.
    let hour = |day: i64| first_ms() + (24 * day - 5) * 3_600_000;
    let incident = |id: &str, start_ms: i64, end_ms: i64| Incident {
        id: id.into(),
        service_ids: vec!["checkout".into()],
        start_time: Some(timestamp(start_ms)),
        end_time: Some(timestamp(end_ms)),
        ..Incident::default()
    };
    *mesh.world.incidents.lock().unwrap() = vec![
        incident("one", hour(13), hour(13) + 3_600_000),
        incident("two", hour(26), hour(26) + 3_600_000),
        incident("unseen", hour(5), hour(5) + 3_600_000),
    ];
    let policy = alerts(&mesh, "checkout", 0.0).await.policies.remove(0);
    let rates: Vec<i64> = policy.rules.iter().map(|rule| (rule.burn_rate * 100.0).round() as i64).collect();
    assert_eq!(rates, [1344, 560, 280, 100]);
    let tested = policy.back_test.as_ref().unwrap();
    assert!((tested.covered_days - 30.0).abs() < 0.01);
    let pages = &tested.severities[0];
    assert_eq!(pages.severity, wire::AlertSeverity::Page as i32);
    let score = &pages.scores[0];
    assert_eq!((score.reference_count, score.detected_count), (3, 2), "{score:?}");
    assert_eq!(score.recall, Some(2.0 / 3.0));
    let found_ms = duration_millis(score.detection_median.as_ref().unwrap());
    assert!((BUCKET_MS..=12 * BUCKET_MS).contains(&found_ms), "{score:?}");
    assert_eq!(pages.newest.len() as u32, pages.alert_count);
    assert!(policy.notes.iter().any(|note| note.contains("five minutes")), "{:?}", policy.notes);

    let asked = alerts(&mesh, "young", 0.999).await;
    assert_eq!((asked.policies[0].slo_id.as_str(), &asked.policies[0].back_test), ("", &None));
    let window = wire::GetAlertsRequest { service_id: "checkout".into(), target_ratio: 0.0, window_days: 7 };
    let refused = mesh.client.clone().get_alerts(window).await.unwrap_err();
    assert_eq!(fault(&refused), ("window_days".into(), "not_allowed".into()));
}

#[tokio::test]
async fn an_agreement_is_looser_than_the_objective_and_costs_what_its_schedule_says() {
    let mesh = Mesh::start().await;
    let free = sla(&mesh, "checkout").await.suggestion.unwrap();
    assert!(free.miss_probability <= free.miss_probability_max && free.default_schedule);
    assert_eq!((free.slo_target_ratio, free.miss_probability_max), (None, 0.01));
    mesh.declare("checkout", free.target_ratio).await;
    let below = sla(&mesh, "checkout").await;
    let suggestion = below.suggestion.unwrap();
    assert!(suggestion.target_ratio < free.target_ratio && suggestion.limited_by_slo);
    assert!(below.detail.contains("looser than the SLO in force"), "{}", below.detail);
    let with = wire::GetSlaSuggestionRequest {
        service_id: "checkout".into(),
        miss_probability_max: 0.2,
        credit_steps: vec!["0.9999=0.5".into()],
    };
    let dear = mesh.client.clone().get_sla_suggestion(with.clone()).await.unwrap().into_inner().suggestion.unwrap();
    assert!((dear.expected_credit_ratio - 0.5 * dear.credits[0].probability).abs() < 1e-12);
    let wrong = wire::GetSlaSuggestionRequest { credit_steps: vec!["all".into()], ..with };
    let refused = mesh.client.clone().get_sla_suggestion(wrong).await.unwrap_err();
    assert_eq!(fault(&refused), ("credit_steps[0]".into(), "malformed".into()));
    let nothing = sla(&mesh, "young").await;
    assert!(nothing.suggestion.is_none() && nothing.detail.contains("No request"), "{nothing:?}");
}

#[tokio::test]
async fn who_is_not_known_and_who_cannot_be_asked() {
    let mesh = Mesh::start().await;
    let unknown = wire::GetErrorBudgetsRequest { service_id: "nobody".into() };
    let refused = mesh.client.clone().get_error_budgets(unknown).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "UNKNOWN_SERVICE".into()));
    mesh.world.ingestion_down.store(true, Ordering::SeqCst);
    let request = wire::GetErrorBudgetsRequest { service_id: "checkout".into() };
    let refused = mesh.client.clone().get_error_budgets(request).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "MEMBER_UNREACHABLE".into()));
}
