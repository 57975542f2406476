use super::*;
use crate::client::request::Method;

#[test]
fn a_decision_sends_what_was_said_and_nothing_else() {
    let command = Command::Decide {
        service_id: "checkout".into(),
        action: Action::Accept,
        recommendation: Some("rec-1".into()),
        sli: Sli::Availability,
        ambition: Some(Ambition::Balanced),
        target_ratio: None,
        latency_threshold_ms: None,
        window: None,
        reason: None,
        contradiction_reason: None,
        version_match: None,
    };
    let request = command.request().expect("valid");
    assert_eq!((request.method, request.path.as_str()), (Method::Post, "/api/v1/services/checkout/slos"));
    let body: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
    let expected =
        json!({"action": "accept", "recommendation_id": "rec-1", "kind": "availability", "ambition": "balanced"});
    assert_eq!(body, expected);
}

#[test]
fn what_concerns_incidents_goes_to_their_routes() {
    let sent = |command: Command| {
        let request = command.request().expect("valid");
        let body = request.body.map(|body| serde_json::from_slice::<Value>(&body).expect("JSON"));
        (request.method, request.path, body.unwrap_or_default())
    };
    let incident_id = "pagerduty:P1".to_owned();
    let exclude = Command::Exclude { incident_id, reason: Some("drill".into()), undo: false, by: None };
    let expected = json!({"excluded": true, "reason": "drill", "by": null});
    assert_eq!(sent(exclude), (Method::Post, "/api/v1/incidents/pagerduty%3AP1/exclusion".into(), expected));
    let link = Command::Link { incident_id: "I".into(), services: vec!["a".into()], by: Some("jane".into()) };
    assert_eq!(sent(link).1, "/api/v1/incidents/I/services");
    let end = |delete| Command::MaintenanceEnd { window_id: "w".into(), end_time: None, delete };
    assert_eq!(sent(end(true)).0, Method::Delete);
    assert_eq!(sent(end(false)).1, "/api/v1/maintenance-windows/w/end");
}

#[test]
fn services_are_listed_by_kind() {
    let listed = |kind| Command::Services { query: None, kind }.request().expect("valid").query;
    assert_eq!(listed(Some(EntityKind::NodePool)), [("kind", "node-pool".to_owned())]);
    assert_eq!(listed(None), []);
}

#[test]
fn a_window_is_days_or_a_word_of_the_calendar() {
    let asked = |window| {
        let service_id = "checkout".to_owned();
        Command::Recommend { service_id, window_days: None, window, region: None }.request().expect("valid").query
    };
    assert_eq!(asked(Some(Window::Days30)), [("window_days", "30".to_owned())]);
    assert_eq!(asked(Some(Window::Quarter)), [("calendar_window", "quarter".to_owned())]);
    assert_eq!(asked(None), []);
    let of = Command::Calibration { tier: Some(Tier::One), kind: None }.request().expect("valid");
    assert_eq!((of.path.as_str(), of.query), ("/api/v1/calibration", vec![("tier", "tier-1".to_owned())]));
}
