//! Windows of the calendar, from the question to the SLO in force, and budgets counted by time.

use attain_proto::convert::unix_millis;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::lifecycle_service_client::LifecycleServiceClient;
use attain_proto::recommendation::v1::{Ambition, BudgetingMethod, CalendarWindow, DecisionAction};
use attain_vocabulary::DAY_MS;
use tonic::Status;

use crate::harness::{Mesh, fault};
use crate::world::NOW_MS;

async fn ask(mesh: &Mesh, window_days: u32, calendar_window: CalendarWindow) -> Result<wire::Recommendation, Status> {
    let request = wire::GetSloRecommendationsRequest {
        service_id: "checkout".into(),
        window_days,
        calendar_window: calendar_window as i32,
        ..Default::default()
    };
    let answer = mesh.client.clone().get_slo_recommendations(request).await?.into_inner();
    Ok(answer.recommendation.unwrap())
}

#[tokio::test]
async fn a_month_is_offered_whole_and_assessed_as_far_as_it_has_come() {
    let mesh = Mesh::start().await;
    // It is the 26th of October 2026.
    let month = ask(&mesh, 0, CalendarWindow::Month).await.unwrap();
    assert_eq!((month.window_days, month.calendar_window()), (30, CalendarWindow::Month), "November has 30 days");
    let in_force = month.window_in_force.unwrap();
    let range = in_force.range.unwrap();
    let (start, end) = (unix_millis(&range.start_time.unwrap()), unix_millis(&range.end_time.unwrap()));
    assert_eq!(end - start, 31 * DAY_MS);
    assert!(start < NOW_MS && NOW_MS < end && in_force.bad_ratio.is_some());
    assert!((in_force.request_share - (1.0 - in_force.remaining_days / 31.0)).abs() < 0.01, "{in_force:?}");
    let offers = &month.slis[0].offers;
    assert_eq!(offers.len(), 3, "{}", month.slis[0].offer_note);
    assert!(offers.iter().all(|offer| (0.0..=1.0).contains(&offer.in_force_miss_probability.unwrap())));

    // Each window has versions of its own, and asking again makes none.
    let rolling = ask(&mesh, 30, CalendarWindow::Unspecified).await.unwrap();
    assert_eq!((rolling.version, rolling.window_in_force), (1, None));
    assert!(rolling.slis[0].offers.iter().all(|offer| offer.in_force_miss_probability.is_none()));
    assert_eq!(ask(&mesh, 0, CalendarWindow::Month).await.unwrap().id, month.id);
    let replay = wire::ReplayRecommendationRequest { recommendation_id: month.id.clone() };
    assert!(mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner().identical);

    let accept = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: DecisionAction::Accept as i32,
        recommendation_id: month.id.clone(),
        ambition: Ambition::Balanced as i32,
        ..wire::DecideSloRequest::default()
    };
    let other = wire::DecideSloRequest { calendar_window: CalendarWindow::Quarter as i32, ..accept.clone() };
    let refused = mesh.decide(other).await.unwrap_err();
    assert_eq!(fault(&refused), ("window_days".to_owned(), "other_window".to_owned()));
    let slo = mesh.decide(accept).await.unwrap().slo.unwrap();
    assert_eq!((slo.calendar_window(), slo.window_days), (CalendarWindow::Month, 30));
    let assessed = ask(&mesh, 0, CalendarWindow::Month).await.unwrap().slis.remove(0).current_slo.unwrap();
    assert_eq!(assessed.slo.unwrap().calendar_window(), CalendarWindow::Month);
    assert_eq!(assessed.miss_probability, offers[1].in_force_miss_probability);
}

#[tokio::test]
async fn a_question_names_one_window() {
    let mesh = Mesh::start().await;
    let refused = ask(&mesh, 30, CalendarWindow::Quarter).await.unwrap_err();
    assert_eq!(fault(&refused), ("window_days".to_owned(), "not_allowed".to_owned()));
    let declare = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: DecisionAction::Declare as i32,
        target_ratio: Some(0.99),
        calendar_window: CalendarWindow::Quarter as i32,
        ..wire::DecideSloRequest::default()
    };
    let slo = mesh.decide(declare).await.unwrap().slo.unwrap();
    assert_eq!((slo.calendar_window(), slo.window_days), (CalendarWindow::Quarter, 91));
}

#[tokio::test]
async fn the_lifecycle_tells_a_calendar_window_by_its_name() {
    let mesh = Mesh::start().await;
    let mut lifecycle = LifecycleServiceClient::new(mesh.channel.clone());
    for window in [CalendarWindow::Quarter, CalendarWindow::Month] {
        let id = ask(&mesh, 0, window).await.unwrap().id;
        let accept = wire::DecideSloRequest {
            service_id: "checkout".into(),
            action: DecisionAction::Accept as i32,
            recommendation_id: id,
            ambition: Ambition::Balanced as i32,
            ..wire::DecideSloRequest::default()
        };
        mesh.decide(accept).await.unwrap();
    }
    let expected = [(30, CalendarWindow::Month), (91, CalendarWindow::Quarter)];
    let versions = wire::ListSloVersionsRequest {
        service_id: "checkout".into(),
        kind: "availability".into(),
        ..wire::ListSloVersionsRequest::default()
    };
    let versions = lifecycle.list_slo_versions(versions).await.unwrap().into_inner().versions;
    assert_eq!(versions.iter().map(|one| (one.window_days, one.calendar_window())).collect::<Vec<_>>(), expected);
    let listed =
        lifecycle.list_recommendations(wire::ListRecommendationsRequest::default()).await.unwrap().into_inner();
    let listed = listed.recommendations;
    assert_eq!(listed.iter().map(|one| (one.window_days, one.calendar_window())).collect::<Vec<_>>(), expected);
    let id = {
        let request = wire::GetSloRecommendationsRequest {
            service_id: "auth".into(),
            calendar_window: CalendarWindow::Month as i32,
            ..wire::GetSloRecommendationsRequest::default()
        };
        mesh.client.clone().get_slo_recommendations(request).await.unwrap().into_inner().recommendation.unwrap().id
    };
    let mut propose = tonic::Request::new(wire::DecideSloRequest {
        service_id: "auth".into(),
        action: DecisionAction::Accept as i32,
        recommendation_id: id,
        ..wire::DecideSloRequest::default()
    });
    propose.metadata_mut().insert("x-attain-caller", "ada".parse().unwrap());
    let pending = mesh.client.clone().decide_slo(propose).await.unwrap().into_inner().pending.unwrap();
    assert_eq!((pending.window_days, pending.calendar_window()), (30, CalendarWindow::Month));
    let record = mesh.audit().await.pop().unwrap();
    let detail: serde_json::Value = serde_json::from_str(&record.detail_json).unwrap();
    assert_eq!((record.action.as_str(), &detail["window"]), ("decision.proposed", &"month".into()));
}

#[tokio::test]
async fn availability_is_counted_by_time_as_well() {
    let mesh = Mesh::start().await;
    let answer = ask(&mesh, 7, CalendarWindow::Unspecified).await.unwrap();
    let [slices, ratios] = answer.slis[0].budgetings.clone().try_into().unwrap();
    assert_eq!((slices.method(), ratios.method()), (BudgetingMethod::Timeslices, BudgetingMethod::RatioTimeslices));
    assert_eq!((slices.slice_target_ratio, slices.slice_minutes, slices.quiet_slice_count), (0.95, 5, 0));
    assert_eq!(slices.slice_count, 30 * 288);
    // Traffic is even, so weighing by time or by requests is one.
    assert!((ratios.attained_ratio - answer.slis[0].measured.unwrap().attained_ratio.unwrap()).abs() < 1e-9);
    assert!(ratios.balanced.unwrap().miss_probability <= 0.10);
    assert!(answer.slis[1..].iter().all(|sli| sli.budgetings.is_empty()));
}
