use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::DecisionAction as Action;
use attain_proto::vocabulary::v1::SliKind;
use futures::future::join_all;
use tonic::{Code, Request};

use crate::harness::{Mesh, fault, reason};
use crate::world::NOW_MS;

fn request(action: Action, recommendation_id: &str) -> wire::DecideSloRequest {
    wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: action as i32,
        recommendation_id: recommendation_id.into(),
        ..wire::DecideSloRequest::default()
    }
}

async fn slos(mesh: &Mesh) -> Vec<wire::Slo> {
    let request = wire::ListSlosRequest { service_id: "checkout".into() };
    mesh.client.clone().list_slos(request).await.unwrap().into_inner().slos
}

#[tokio::test]
async fn accepting_puts_exactly_the_offer_in_force() {
    let mut mesh = Mesh::start().await;
    let recommendation = mesh.recommend("checkout").await;
    let mut expected = Vec::new();
    for sli in &recommendation.slis {
        for offer in &sli.offers {
            let accept = wire::DecideSloRequest {
                kind: sli.kind,
                ambition: offer.ambition,
                ..request(Action::Accept, &recommendation.id)
            };
            let decided = mesh.decide(accept).await.unwrap();
            let slo = decided.slo.unwrap();
            assert_eq!(slo.target_ratio.to_bits(), offer.target_ratio.to_bits());
            assert_eq!(
                (slo.latency_threshold_ms, slo.window_days),
                (offer.latency_threshold_ms, recommendation.window_days)
            );
            assert_eq!((slo.recommendation_id.as_str(), slo.as_recommended), (recommendation.id.as_str(), true));
            assert_eq!(decided.decision.unwrap().target_ratio.to_bits(), offer.target_ratio.to_bits());
            expected.retain(|kept: &wire::Slo| kept.kind != slo.kind);
            expected.push(slo);
        }
    }
    assert_eq!(expected.len(), 2);
    mesh.restart().await;
    assert_eq!(slos(&mesh).await, expected);
}

#[tokio::test]
async fn it_is_the_version_named_that_is_accepted_however_old() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    mesh.world.rewrite_last_bucket("checkout", 2_000);
    mesh.clock.set(NOW_MS + 60_000);
    assert_eq!(mesh.recommend("checkout").await.version, 2);
    let slo = mesh.decide(request(Action::Accept, &first.id)).await.unwrap().slo.unwrap();
    let balanced = first.slis[0].offers.iter().find(|offer| offer.ambition == wire::Ambition::Balanced as i32).unwrap();
    assert_eq!((slo.target_ratio.to_bits(), slo.recommendation_id), (balanced.target_ratio.to_bits(), first.id));
    assert_eq!(slo.kind, SliKind::Availability as i32);
}

#[tokio::test]
async fn modify_reject_and_declare_do_what_they_say() {
    let mesh = Mesh::start().await;
    let id = mesh.recommend("checkout").await.id;
    let reject = wire::DecideSloRequest { reason: "too strict before the sale".into(), ..request(Action::Reject, &id) };
    assert_eq!(mesh.decide(reject.clone()).await.unwrap().slo, None);
    let modify = wire::DecideSloRequest {
        target_ratio: Some(0.1 + 0.2),
        reason: "contract".into(),
        ..request(Action::Modify, &id)
    };
    let modified = mesh.decide(modify).await.unwrap().slo.unwrap();
    assert_eq!(
        (modified.target_ratio.to_bits(), modified.as_recommended, modified.version),
        ((0.1f64 + 0.2).to_bits(), false, 1)
    );
    assert_eq!(mesh.decide(reject).await.unwrap().slo, Some(modified.clone()));
    let declared = mesh.declare("checkout", 0.99).await;
    assert_eq!(
        (declared.version, declared.recommendation_id.as_str(), declared.id.as_str()),
        (2, "", "checkout/availability")
    );
    let latency = wire::DecideSloRequest {
        kind: SliKind::Latency as i32,
        target_ratio: Some(0.95),
        latency_threshold_ms: Some(1000),
        window_days: 30,
        ..request(Action::Declare, "")
    };
    let latency = mesh.decide(latency).await.unwrap().slo.unwrap();
    assert_eq!((latency.version, latency.window_days, latency.latency_threshold_ms), (1, 30, 1000));
    assert_eq!(slos(&mesh).await, [declared, latency]);
}

#[tokio::test]
async fn decisions_are_kept_newest_first_with_who_decided() {
    let mesh = Mesh::start().await;
    for i in 0..5u32 {
        let mut declare = Request::new(wire::DecideSloRequest {
            target_ratio: Some(0.9 + f64::from(i) / 100.0),
            ..request(Action::Declare, "")
        });
        declare.metadata_mut().insert("x-attain-caller", "group:payments".parse().unwrap());
        mesh.client.clone().decide_slo(declare).await.unwrap();
    }
    let (mut targets, mut page_token) = (Vec::new(), String::new());
    loop {
        let list = wire::ListDecisionsRequest { service_id: "checkout".into(), page_size: 2, page_token };
        let page = mesh.client.clone().list_decisions(list).await.unwrap().into_inner();
        assert!(page.decisions.iter().all(|decision| decision.decided_by == "group:payments"));
        targets.extend(page.decisions.iter().map(|decision| (decision.target_ratio * 100.0).round() as u32));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(targets, [94, 93, 92, 91, 90]);
    let bad = wire::ListDecisionsRequest { service_id: "checkout".into(), page_size: 0, page_token: "first".into() };
    assert_eq!(
        fault(&mesh.client.clone().list_decisions(bad).await.unwrap_err()),
        ("page_token".into(), "malformed".into())
    );
}

#[tokio::test]
async fn what_cannot_be_decided_is_refused_by_field() {
    let mesh = Mesh::start().await;
    let id = mesh.recommend("checkout").await.id;
    let other = mesh.recommend("auth").await.id;
    let modify =
        || wire::DecideSloRequest { target_ratio: Some(0.99), reason: "why".into(), ..request(Action::Modify, &id) };
    let cases = [
        (request(Action::Unspecified, &id), "action", "required"),
        (request(Action::Accept, ""), "recommendation_id", "required"),
        (request(Action::Accept, &other), "recommendation_id", "other_service"),
        (request(Action::Declare, &id), "recommendation_id", "not_allowed"),
        (request(Action::Declare, ""), "target_ratio", "required"),
        (request(Action::Reject, &id), "reason", "required"),
        (wire::DecideSloRequest { reason: " ".into(), ..modify() }, "reason", "required"),
        (wire::DecideSloRequest { target_ratio: Some(99.9), ..modify() }, "target_ratio", "out_of_range"),
        (wire::DecideSloRequest { target_ratio: Some(1.0), ..modify() }, "target_ratio", "out_of_range"),
        (wire::DecideSloRequest { target_ratio: Some(f64::NAN), ..modify() }, "target_ratio", "not_a_number"),
        (wire::DecideSloRequest { latency_threshold_ms: Some(5), ..modify() }, "latency_threshold_ms", "not_allowed"),
        (wire::DecideSloRequest { kind: SliKind::Latency as i32, ..modify() }, "latency_threshold_ms", "required"),
        (wire::DecideSloRequest { window_days: 7, ..modify() }, "window_days", "other_window"),
        (wire::DecideSloRequest { kind: 9, ..modify() }, "kind", "unknown_value"),
        (
            wire::DecideSloRequest { target_ratio: Some(0.9), ..request(Action::Accept, &id) },
            "target_ratio",
            "not_allowed",
        ),
        (wire::DecideSloRequest { ambition: 7, ..request(Action::Accept, &id) }, "ambition", "unknown_value"),
        (wire::DecideSloRequest { service_id: "?".into(), ..modify() }, "service_id", "malformed_name"),
    ];
    for (request, field, code) in cases {
        let status = mesh.decide(request.clone()).await.expect_err(field);
        assert_eq!(fault(&status), (field.to_owned(), code.to_owned()), "{request:?}");
    }
    let status = mesh.decide(request(Action::Accept, "rec-none")).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
    let unknown =
        wire::DecideSloRequest { service_id: "nobody".into(), target_ratio: Some(0.9), ..request(Action::Declare, "") };
    assert_eq!(reason(&mesh.decide(unknown).await.unwrap_err()), (Code::NotFound, "UNKNOWN_SERVICE".into()));
    // Another tenant cannot decide upon it.
    let mut foreign = Request::new(modify());
    foreign.metadata_mut().insert("x-attain-tenant", "other".parse().unwrap());
    let status = mesh.client.clone().decide_slo(foreign).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
    assert_eq!(slos(&mesh).await, []);
}

#[tokio::test]
async fn an_offer_that_was_not_made_cannot_be_accepted() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("young").await;
    let accept = wire::DecideSloRequest {
        service_id: "young".into(),
        ambition: wire::Ambition::Ambitious as i32,
        ..request(Action::Accept, &recommendation.id)
    };
    assert_eq!(fault(&mesh.decide(accept.clone()).await.unwrap_err()), ("ambition".into(), "not_offered".into()));
    let latency = wire::DecideSloRequest { kind: SliKind::Latency as i32, ..accept };
    assert_eq!(fault(&mesh.decide(latency).await.unwrap_err()), ("kind".into(), "not_recommended".into()));
}

#[tokio::test]
async fn of_decisions_on_the_same_version_one_wins() {
    let mesh = Mesh::start().await;
    assert_eq!(mesh.declare("checkout", 0.9).await.version, 1);
    let tries = (0..8u32).map(|i| {
        let declare = wire::DecideSloRequest {
            target_ratio: Some(0.91 + f64::from(i) / 1000.0),
            version_match: Some(1),
            ..request(Action::Declare, "")
        };
        mesh.decide(declare)
    });
    let (won, lost): (Vec<_>, Vec<_>) = join_all(tries).await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 7));
    for status in lost {
        assert_eq!(reason(&status.unwrap_err()), (Code::Aborted, "VERSION_MISMATCH".into()));
    }
    let in_force = slos(&mesh).await;
    assert_eq!((in_force.len(), in_force[0].version), (1, 2));
    assert_eq!(won[0].as_ref().unwrap().slo.as_ref(), Some(&in_force[0]));
}
