use std::sync::atomic::Ordering;

use attain_proto::graph::v1::latency_change::Change as By;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::graph::v1::{LatencyChange, ScenarioChange};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::SliKind;
use tonic::Status;

use crate::harness::{Mesh, fault};

async fn slower(mesh: &Mesh, entity_id: &str, by: Option<By>) -> Result<wire::AnalyzeWhatIfResponse, Status> {
    let change = Change::Latency(LatencyChange { entity_id: entity_id.into(), change: by });
    let changes = vec![ScenarioChange { change: Some(change) }];
    let request = wire::AnalyzeWhatIfRequest { changes, ..wire::AnalyzeWhatIfRequest::default() };
    mesh.client.clone().analyze_what_if(request).await.map(tonic::Response::into_inner)
}

async fn promise_latency(mesh: &Mesh, service_id: &str, threshold_ms: u32) {
    let request = wire::DecideSloRequest {
        service_id: service_id.into(),
        action: wire::DecisionAction::Declare as i32,
        kind: SliKind::Latency as i32,
        target_ratio: Some(0.99),
        latency_threshold_ms: Some(threshold_ms),
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(request).await.unwrap();
}

fn ids(answer: &wire::AnalyzeWhatIfResponse) -> Vec<&str> {
    answer.affected.iter().map(|affected| affected.service_id.as_str()).collect()
}

#[tokio::test]
async fn whoever_gets_slower_is_told_though_nobody_is_less_available() {
    let mesh = Mesh::start().await;
    promise_latency(&mesh, "checkout", 200).await;
    let answer = slower(&mesh, "provider", Some(By::AddedMs(150.0))).await.unwrap();
    assert_eq!(ids(&answer), ["checkout", "payment", "provider", "gateway"], "whose SLO it may break comes first");
    let checkout = &answer.affected[0];
    assert_eq!(checkout.ceiling_before_ratio, checkout.ceiling_after_ratio);
    assert_eq!(checkout.path, ["checkout", "payment", "provider"]);
    let latency = checkout.latency.as_ref().unwrap();
    assert_eq!((latency.threshold_ms, latency.target_ratio), (Some(200), Some(0.99)));
    assert_eq!(latency.slow_before_ratio, Some(0.001));
    assert_eq!(latency.slow_after_ratio, Some(wire::RatioInterval { low_ratio: 0.001, high_ratio: 0.2 }));
    // What was measured of it as a whole was passed on, as it was of the gateway, which nobody calls.
    assert_eq!(latency.quantiles[2].before_ms, 120.0);
    assert_eq!(answer.affected[3].latency.as_ref().unwrap().quantiles[0].before_ms, 120.0);
    assert_eq!(answer.affected[1].latency.as_ref().unwrap().quantiles[0].before_ms, 80.0);
    assert!(
        checkout.detail.contains("95 of 100 requests take at most 120 ms to 270 ms, before 120 ms"),
        "{checkout:?}"
    );
    assert!(checkout.detail.contains("its SLO allows 1 %"), "{checkout:?}");
    assert_eq!(answer.affected[1].latency.as_ref().unwrap().threshold_ms, None);
    let missing: Vec<&str> = answer.missing_inputs.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(missing, ["request_samples"]);

    let faster = slower(&mesh, "provider", Some(By::AddedMs(-30.0))).await.unwrap();
    assert_eq!(faster.affected.len(), 4);
    assert!(faster.affected.iter().all(|affected| !affected.latency_unknown));
    let nothing = slower(&mesh, "provider", Some(By::AddedMs(0.0))).await.unwrap();
    assert_eq!(ids(&nothing), <[&str; 0]>::default());
}

#[tokio::test]
async fn what_becomes_of_a_latency_may_be_unknown_or_not_to_be_had() {
    let mesh = Mesh::start().await;
    let unknown = slower(&mesh, "young", Some(By::AddedMs(5.0))).await.unwrap();
    let [young] = &unknown.affected[..] else { panic!("{unknown:?}") };
    assert!(young.latency_unknown && young.latency.is_none());
    assert!(young.detail.ends_with("what becomes of its latency nobody knows"), "{}", young.detail);
    mesh.world.latencies_down.store(true, Ordering::SeqCst);
    let without = slower(&mesh, "provider", Some(By::Factor(2.0))).await.unwrap();
    assert_eq!((without.affected.len(), without.missing_inputs[0].name.as_str()), (0, "latency"));
}

#[tokio::test]
async fn a_latency_change_that_cannot_be_is_refused_by_field() {
    let mesh = Mesh::start().await;
    for (entity_id, by, field, code) in [
        ("nobody", Some(By::Factor(2.0)), "entity_id", "unknown_service"),
        ("provider", None, "change", "required"),
        ("provider", Some(By::Factor(0.0)), "factor", "out_of_range"),
        ("provider", Some(By::Factor(f64::NAN)), "factor", "out_of_range"),
        ("provider", Some(By::AddedMs(f64::INFINITY)), "added_ms", "out_of_range"),
    ] {
        let refused = slower(&mesh, entity_id, by).await.unwrap_err();
        assert_eq!(fault(&refused), (format!("changes/0/latency/{field}"), code.to_owned()));
    }
}
