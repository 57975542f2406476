//! What the store promises of incidents, events of pagers, maintenance and what persons decide, on both databases.

use std::collections::BTreeSet;

use attain_vocabulary::Source;

use super::testing::{id, on_both_databases, tenant};
use super::{ChangeKind, IncidentNews, Store};
use crate::Error;
use crate::domain::{
    Bounds, EntityDeclaration, ExclusionDecision, Incident, IncidentDraft, IncidentEvent, IncidentKind, IncidentSender,
    MaintenanceDraft, ObservationBatch, ObservedEntity, ServiceLink, UnknownService,
};

on_both_databases!(
    events_in_any_order_and_told_twice_make_one_incident,
    what_a_person_decided_outlasts_what_senders_tell,
    a_link_by_hand_moves_the_incident_between_services,
    a_window_is_listed_changed_and_removed,
    a_refused_change_writes_nothing,
    known_services_are_told_from_others,
    a_service_that_appears_later_gets_its_incidents,
    names_that_are_translated_later_get_their_services,
    what_turns_out_to_be_none_concerns_no_service,
);

fn event(time_ms: i64) -> IncidentEvent {
    IncidentEvent {
        id: "pagerduty:P1".into(),
        origin: "pagerduty",
        time_ms,
        title: Some("Down".into()),
        services: Some(BTreeSet::from([id("a")])),
        unknown: BTreeSet::new(),
        dismissed: None,
        start_ms: Some(100),
        end_ms: None,
        priority: Some("P1".into()),
        summary: None,
    }
}

fn told(event: IncidentEvent) -> IncidentNews {
    IncidentNews::Event(Box::new(event))
}

fn triggered() -> IncidentNews {
    told(IncidentEvent { end_ms: Some(None), ..event(100) })
}

fn resolved() -> IncidentNews {
    told(IncidentEvent { end_ms: Some(Some(700)), ..event(700) })
}

async fn only(store: &Store, service: Option<&str>) -> Incident {
    let mut found = store.incidents(&tenant("acme"), service.map(id).as_ref(), None, 10).await.expect("read");
    assert_eq!(found.len(), 1);
    found.remove(0)
}

async fn incident_changes(store: &Store) -> Vec<(u64, String)> {
    let changes = store.changes_after(0, 100).await.expect("read");
    changes
        .into_iter()
        .filter(|change| change.kind == ChangeKind::Incident)
        .map(|change| (change.sequence, change.service.to_string()))
        .collect()
}

async fn events_in_any_order_and_told_twice_make_one_incident(store: &Store) {
    let acme = tenant("acme");
    store.tell_incidents(&acme, vec![resolved()]).await.expect("kept");
    store.tell_incidents(&acme, vec![triggered(), resolved()]).await.expect("kept");
    let incident = only(store, Some("a")).await;
    assert_eq!((incident.start_ms, incident.end_ms, incident.priority.as_deref()), (100, Some(700), Some("P1")));
    let before = incident_changes(store).await;
    store.tell_incidents(&acme, vec![triggered(), resolved(), triggered()]).await.expect("kept");
    assert_eq!(only(store, None).await, incident);
    assert_eq!(incident_changes(store).await, before, "told again, nothing changes");
}

async fn what_a_person_decided_outlasts_what_senders_tell(store: &Store) {
    let acme = tenant("acme");
    store.tell_incidents(&acme, vec![triggered()]).await.expect("kept");
    let decision = ExclusionDecision::new(true, "load test", "jane", 900).expect("valid");
    let decide = |incident: &mut Incident| {
        incident.decision = Some(decision.clone());
        Ok(())
    };
    let decided = store.change_incident(&acme, "pagerduty:P1", decide).await.expect("kept").expect("known");
    assert_eq!(decided.exclusion(), (true, Some("load test")));
    let before = incident_changes(store).await;
    store.tell_incidents(&acme, vec![resolved()]).await.expect("kept");
    let report = IncidentDraft { id: "pagerduty:P1".into(), title: "Other".into(), start_ms: 50, ..Default::default() };
    store.put_incidents(&acme, vec![report.check(1_000).expect("valid")]).await.expect("kept");
    let kept = only(store, None).await;
    assert_eq!((kept.decision.as_ref(), kept.title.as_str()), (Some(&decision), "Other"));
    assert!(incident_changes(store).await.last() > before.last());
    let unknown = store.change_incident(&acme, "nobody", |_| Ok(())).await.expect("read");
    assert_eq!(unknown, None);
}

async fn a_link_by_hand_moves_the_incident_between_services(store: &Store) {
    let acme = tenant("acme");
    store.tell_incidents(&acme, vec![triggered()]).await.expect("kept");
    let link = ServiceLink::new(&["b".into()], "jane", 900).expect("valid");
    let to_b = |incident: &mut Incident| {
        incident.link = Some(link);
        Ok(())
    };
    store.change_incident(&acme, "pagerduty:P1", to_b).await.expect("kept").expect("known");
    store.tell_incidents(&acme, vec![resolved()]).await.expect("kept");
    assert!(store.incidents(&acme, Some(&id("a")), None, 10).await.expect("read").is_empty());
    let linked = only(store, Some("b")).await;
    assert_eq!((linked.end_ms, linked.services), (Some(700), BTreeSet::from([id("a")])));
    let changed: BTreeSet<String> = incident_changes(store).await.into_iter().map(|(_, service)| service).collect();
    assert_eq!(changed, BTreeSet::from(["a".to_owned(), "b".to_owned()]), "both were touched");
}

async fn a_window_is_listed_changed_and_removed(store: &Store) {
    let acme = tenant("acme");
    let window = MaintenanceDraft {
        id: "drill".into(),
        start_ms: 5_000,
        end_ms: 9_000,
        service_ids: vec!["a".into()],
        reason: "failover drill".into(),
    };
    let bounds = Bounds { now_ms: 1_000, skew_ms: 0 };
    store
        .put_incidents(&acme, vec![window.check(&IncidentSender::default(), bounds, |_| String::new()).expect("valid")])
        .await
        .expect("kept");
    let listed = only(store, Some("a")).await;
    assert_eq!((listed.kind, listed.exclusion()), (IncidentKind::Maintenance, (true, Some("failover drill"))));
    let is_window = |incident: &Incident| incident.kind == IncidentKind::Maintenance;
    assert!(!store.remove_incident(&acme, "drill", |_| false).await.expect("read"));
    assert!(store.remove_incident(&acme, "drill", is_window).await.expect("gone"));
    assert!(!store.remove_incident(&acme, "drill", is_window).await.expect("read"), "gone already");
    assert!(store.incidents(&acme, Some(&id("a")), None, 10).await.expect("read").is_empty());
    assert_eq!(incident_changes(store).await.len(), 1, "of one service the newest change stays");
}

async fn a_refused_change_writes_nothing(store: &Store) {
    let acme = tenant("acme");
    store.tell_incidents(&acme, vec![triggered()]).await.expect("kept");
    let before = (only(store, None).await, incident_changes(store).await);
    let refused = store.change_incident(&acme, "pagerduty:P1", |incident| {
        incident.title = "changed".into();
        Err(Error::invalid("reason", "required", "no"))
    });
    assert!(matches!(refused.await, Err(Error::Invalid(_))));
    assert_eq!((only(store, None).await, incident_changes(store).await), before);
}

async fn known_services_are_told_from_others(store: &Store) {
    let acme = tenant("acme");
    let declared = crate::domain::EntityDeclaration::named(id("a"));
    store.declare(&acme, vec![declared], Vec::new()).await.expect("declared");
    let asked = BTreeSet::from([id("a"), id("b")]);
    assert_eq!(store.known_services(&acme, &asked).await.expect("read"), BTreeSet::from([id("a")]));
    assert!(store.known_services(&tenant("other"), &asked).await.expect("read").is_empty());
}

/// Over, and hurt nobody that is known.
fn of_unknown(names: &[&str]) -> IncidentNews {
    let unknown = |name: &&str| UnknownService {
        names: vec![(*name).to_owned()],
        candidates: vec![id(&name.replace(' ', "-")), id(&name.to_lowercase().replace(' ', "-"))],
    };
    let unknown = names.iter().map(unknown).collect();
    told(IncidentEvent { services: Some(BTreeSet::new()), unknown, end_ms: Some(Some(700)), ..event(700) })
}

async fn a_service_that_appears_later_gets_its_incidents(store: &Store) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    store.tell_incidents(&acme, vec![of_unknown(&["Cart Service", "Mail"])]).await.expect("kept");
    let declare = async |of: &attain_vocabulary::TenantId, name: &str| {
        store.declare(of, vec![EntityDeclaration::named(id(name))], Vec::new()).await.expect("declared");
    };
    declare(&other, "cart-service").await;
    declare(&acme, "cart").await;
    assert!(store.incidents(&acme, Some(&id("cart-service")), None, 10).await.expect("read").is_empty());
    assert!(incident_changes(store).await.is_empty());

    declare(&acme, "cart-service").await;
    let linked = only(store, Some("cart-service")).await;
    assert_eq!((linked.services.len(), linked.unknown.len(), linked.end_ms), (1, 1, Some(700)));
    assert_eq!(incident_changes(store).await.len(), 1, "whoever follows learns of it");
    // Seen by traces, and both spellings at once: the likelier one is meant.
    let seen = |name: &str| ObservedEntity { id: id(name), kind: None, source: Source::Traces, request_count: 1 };
    let batch = ObservationBatch { entities: vec![seen("mail"), seen("Mail")], ..ObservationBatch::default() };
    store.observe(&acme, &[], |_| batch).await.expect("observed");
    let linked = only(store, Some("Mail")).await;
    assert_eq!(linked.services, BTreeSet::from([id("Mail"), id("cart-service")]));
    assert!(linked.unknown.is_empty());
    assert!(store.incidents(&acme, Some(&id("mail")), None, 10).await.expect("read").is_empty());
}

async fn names_that_are_translated_later_get_their_services(store: &Store) {
    let acme = tenant("acme");
    store.tell_incidents(&acme, vec![of_unknown(&["Public API"])]).await.expect("kept");
    assert_eq!(store.link_named("mail", &id("mail")).await.expect("none"), 0);
    assert_eq!(store.link_named("public api", &id("api-gateway")).await.expect("linked"), 1);
    let linked = only(store, Some("api-gateway")).await;
    assert!(linked.unknown.is_empty());
    assert_eq!(store.link_named("public api", &id("api-gateway")).await.expect("none"), 0, "known now");
    let gone = store.remove_incident(&acme, "pagerduty:P1", |_| true).await.expect("gone");
    assert!(gone);
    store.tell_incidents(&acme, vec![of_unknown(&["Public API"])]).await.expect("kept again");
}

async fn what_turns_out_to_be_none_concerns_no_service(store: &Store) {
    let acme = tenant("acme");
    let dismissed = |time_ms, dismissed| vec![told(IncidentEvent { dismissed: Some(dismissed), ..event(time_ms) })];
    store.tell_incidents(&acme, vec![triggered()]).await.expect("kept");
    let before = incident_changes(store).await;
    store.tell_incidents(&acme, dismissed(800, true)).await.expect("kept");
    store.tell_incidents(&acme, vec![resolved()]).await.expect("kept");
    assert!(store.incidents(&acme, Some(&id("a")), None, 10).await.expect("read").is_empty());
    assert!(only(store, None).await.dismissed, "it is listed");
    assert!(incident_changes(store).await > before, "the service learns of it");
    store.tell_incidents(&acme, dismissed(900, false)).await.expect("kept");
    assert!(!only(store, Some("a")).await.dismissed, "it was one after all");
}
