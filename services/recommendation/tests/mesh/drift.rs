//! A service that begins to fail more: it is marked, its callers are not, and its recommendation is made anew unasked.

use std::sync::atomic::Ordering;

use attain_proto::convert::unix_millis;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind;
use attain_recommendation::Config;
use attain_vocabulary::DAY_MS;

use crate::harness::{Mesh, fault};
use crate::world::{SLI, World, first_ms};

const WORSE_FROM_DAY: i64 = 20;

impl World {
    /// From a day on d fails five requests in a thousand more; a inherits that by way of b.
    fn worsen(&self) {
        let mut histories = self.histories.lock().unwrap();
        for (id, callee) in [("d", None), ("b", Some("d")), ("a", Some("b"))] {
            for bucket in histories.get_mut(id).unwrap().iter_mut().skip(WORSE_FROM_DAY as usize * 288) {
                bucket.bad_count += 10;
                if let Some(callee) = callee {
                    *bucket.inherited_bad_count.as_mut().unwrap() += 10;
                    *bucket.inherited_by_dependency.entry(callee.to_owned()).or_default() += 10;
                }
            }
        }
        drop(histories);
        ["a", "b", "d"].into_iter().for_each(|id| self.touch_measurements(id));
    }
}

fn drift(recommendation: &wire::Recommendation) -> &wire::Drift {
    let availability = recommendation.slis.iter().find(|sli| sli.kind == SliKind::Availability as i32).unwrap();
    availability.drift.as_ref().unwrap()
}

async fn listed(mesh: &Mesh, request: wire::ListDriftRequest) -> Vec<wire::ServiceDrift> {
    mesh.client.clone().list_drift(request).await.unwrap().into_inner().services
}

#[tokio::test]
async fn whoever_fails_more_is_marked_and_whoever_inherits_it_is_not() {
    let mesh = Mesh::start().await;
    mesh.world.worsen();
    let recommendation = mesh.recommend("d").await;
    let found = drift(&recommendation);
    assert_eq!((found.state(), found.direction()), (wire::DriftState::Drifted, wire::DriftDirection::Worse));
    let since = unix_millis(found.since_time.as_ref().unwrap());
    assert!((since - first_ms() - WORSE_FROM_DAY * DAY_MS).abs() <= DAY_MS, "{found:?}");
    assert!((found.before_failure_ratio.unwrap() - 0.0005).abs() < 0.0001, "{found:?}");
    assert!((found.after_failure_ratio.unwrap() - 0.0055).abs() < 0.0002, "{found:?}");
    assert!(
        found.signals.iter().any(|signal| signal.detector() == wire::DriftDetector::PageHinkley)
            && found.signals.iter().all(|signal| signal.statistic > signal.threshold)
    );
    assert!(found.detail.contains("rose"), "{}", found.detail);
    for caller in ["b", "a"] {
        let recommendation = mesh.recommend(caller).await;
        let steady = drift(&recommendation);
        assert_eq!(steady.state(), wire::DriftState::Steady, "{caller}: {steady:?}");
        assert_eq!((steady.before_failure_ratio, steady.after_failure_ratio), (None, None), "nothing changed");
    }
    let drifted = wire::ListDriftRequest { state: wire::DriftState::Drifted as i32, ..Default::default() };
    let all = listed(&mesh, wire::ListDriftRequest::default()).await;
    let names: Vec<&str> = all.iter().map(|row| row.service_id.as_str()).collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert_eq!(listed(&mesh, drifted).await[..], all[2..]);
    assert_eq!(all[2].drift.as_ref(), Some(found));
    // It is part of what is replayed.
    let request = wire::ReplayRecommendationRequest { recommendation_id: recommendation.id.clone() };
    assert!(mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner().identical);
    let found: Vec<wire::AuditRecord> =
        mesh.audit().await.into_iter().filter(|record| record.action == "drift.found").collect();
    assert_eq!((found.len(), found[0].service_id.as_str()), (1, "d"));
}

#[tokio::test]
async fn pages_and_states_are_checked() {
    let mesh = Mesh::start().await;
    for id in ["a", "b", "d"] {
        mesh.recommend(id).await;
    }
    let mut request = wire::ListDriftRequest { page_size: 2, ..Default::default() };
    let first = mesh.client.clone().list_drift(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.services.len(), first.next_page_token.as_str()), (2, "b"));
    request.page_token = first.next_page_token;
    let second = mesh.client.clone().list_drift(request).await.unwrap().into_inner();
    assert_eq!((second.services[0].service_id.as_str(), second.next_page_token.as_str()), ("d", ""));
    for (request, field) in [
        (wire::ListDriftRequest { state: 99, ..Default::default() }, "state"),
        (wire::ListDriftRequest { page_size: 501, ..Default::default() }, "page_size"),
        (wire::ListDriftRequest { service_id: "\u{1}".into(), ..Default::default() }, "service_id"),
    ] {
        let refused = mesh.client.clone().list_drift(request).await.unwrap_err();
        assert_eq!(fault(&refused).0, field);
    }
}

#[tokio::test]
async fn a_service_without_traffic_cannot_be_told_of() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("young").await;
    let found = drift(&recommendation);
    assert_eq!((found.state(), found.cell_count), (wire::DriftState::CannotTell, 0));
    assert!(found.detail.contains("28 more stretches"), "{}", found.detail);
}

#[tokio::test]
async fn a_sweep_finds_it_and_the_recommendation_is_made_anew_unasked() {
    let config = Config { drift_sweep_interval_ms: 10, drift_check_interval_seconds: 0, ..Config::default() };
    let mesh = Mesh::following(config).await;
    let before = mesh.recommend("d").await;
    assert_eq!((before.version, drift(&before).state()), (1, wire::DriftState::Steady));
    mesh.world.worsen();
    // Time stands still, so that new measurements alone would leave the first version as it is.
    let answer = mesh.until("d", |answer| answer.recommendation.as_ref().unwrap().version == 2).await;
    let after = answer.recommendation.unwrap();
    assert_eq!((answer.stale, drift(&after).state()), (false, wire::DriftState::Drifted));
    let offers = |recommendation: &wire::Recommendation| recommendation.slis[0].offers.clone();
    assert_ne!(offers(&before), offers(&after));
    // The same change is no second one.
    mesh.world.touch("default", "d", SLI);
    let swept = mesh.world.computations.load(Ordering::SeqCst);
    let stale = mesh.until("d", |answer| answer.stale).await;
    assert_eq!((stale.stale_reason.as_str(), stale.recommendation.unwrap().version), ("measurements_changed", 2));
    assert_eq!(mesh.world.computations.load(Ordering::SeqCst), swept);
}

#[tokio::test]
async fn until_it_is_made_anew_the_stored_one_is_stale_for_that_reason() {
    let config = Config { drift_sweep_services_max: 0, change_confirm_interval_ms: 60_000, ..Config::default() };
    let mesh = Mesh::following(config).await;
    let stored = mesh.recommend("d").await;
    assert!(!mesh.ask("d").await.unwrap().stale);
    // As a sweep of another process would have noted it.
    mesh.tamper("UPDATE drift SET noted_ms = check_ms, state = 'drifted' WHERE service_id = 'd'").await;
    mesh.world.ingestion_down.store(true, Ordering::SeqCst);
    let answer = mesh.ask("d").await.unwrap();
    assert_eq!((answer.stale_reason.as_str(), answer.recommendation), ("drift", Some(stored)));
    mesh.world.ingestion_down.store(false, Ordering::SeqCst);
    let answer = mesh.ask("d").await.unwrap();
    assert_eq!((answer.stale, answer.stale_reason.as_str()), (false, ""));
}
