use std::sync::atomic::Ordering;
use std::time::Duration;

use attain_proto::recommendation::v1 as wire;
use attain_recommendation::Config;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{Mesh, reason};
use crate::world::NOW_MS;

fn names(recommendation: &wire::Recommendation) -> Vec<&str> {
    recommendation.missing_inputs.iter().map(|missing| missing.name.as_str()).collect()
}

fn score(recommendation: &wire::Recommendation) -> f64 {
    recommendation.confidence.as_ref().unwrap().score
}

#[tokio::test]
async fn without_the_graph_there_is_an_answer_without_a_ceiling() {
    let mesh = Mesh::start().await;
    mesh.world.graph_down.store(true, Ordering::SeqCst);
    let blind = mesh.recommend("checkout").await;
    assert_eq!(names(&blind), ["graph"]);
    let availability = &blind.slis[0];
    assert!(availability.ceiling_ratio.is_none() && !availability.offers.is_empty());
    // Traces still tell what was inherited.
    assert_eq!(availability.failure_split.as_ref().unwrap().inherited[0].dependency_id, "payment");
    mesh.world.graph_down.store(false, Ordering::SeqCst);
    // It is asked again once the shortest interval has passed, though nothing changed at ingestion.
    assert_eq!(mesh.recommend("checkout").await, blind);
    mesh.clock.set(NOW_MS + 10_000);
    let seeing = mesh.recommend("checkout").await;
    assert_eq!((seeing.version, names(&seeing).len()), (2, 0));
    assert!(score(&seeing) >= score(&blind), "{} < {}", score(&seeing), score(&blind));
    assert!(seeing.changes.iter().any(|change| change.contains("`graph` is there again")), "{:?}", seeing.changes);
}

#[tokio::test]
async fn without_knowledge_nothing_is_cited_and_confidence_says_so() {
    let mesh = Mesh::start().await;
    mesh.world.knowledge_down.store(true, Ordering::SeqCst);
    let silent = mesh.recommend("checkout").await;
    assert_eq!(names(&silent), ["knowledge"]);
    assert!(silent.citations.is_empty() && !silent.evidence_note.is_empty());
    assert!(!silent.slis[0].offers.is_empty() && silent.slis[0].ceiling_ratio.is_some());
    let inputs = silent.confidence.as_ref().unwrap().parts.iter().find(|part| part.name == "inputs").unwrap();
    assert!(inputs.score < 0.7 && inputs.detail.contains("knowledge"), "{inputs:?}");
    mesh.world.knowledge_down.store(false, Ordering::SeqCst);
    mesh.clock.set(NOW_MS + 10_000);
    let cited = mesh.recommend("checkout").await;
    assert_eq!((cited.version, cited.citations.len()), (2, 1));
    assert!(score(&cited) >= score(&silent));
}

/// A deadline of the caller that a computation alone keeps easily, and an index that hangs would not.
const DEADLINE: Duration = Duration::from_secs(8);

async fn within_deadline(mesh: &Mesh, service: &str) -> wire::Recommendation {
    let mut request = tonic::Request::new(wire::GetSloRecommendationsRequest {
        service_id: service.to_owned(),
        ..Default::default()
    });
    request.set_timeout(DEADLINE);
    let answer = tokio::time::timeout(DEADLINE, mesh.client.clone().get_slo_recommendations(request)).await;
    answer.expect("an answer in time").unwrap().into_inner().recommendation.unwrap()
}

fn assert_uncited(recommendation: &wire::Recommendation) {
    assert_eq!(names(recommendation), ["knowledge"], "{:?}", recommendation.missing_inputs);
    assert!(recommendation.citations.is_empty() && recommendation.evidence_note.contains("could not be searched"));
    assert!(!recommendation.slis[0].offers.is_empty() && recommendation.slis[0].ceiling_ratio.is_some());
}

#[tokio::test]
async fn knowledge_that_hangs_costs_the_evidence_and_not_the_answer() {
    let mesh = Mesh::start_with(Config { evidence_ms_max: 100, ..Config::default() }).await;
    mesh.world.knowledge_hangs.store(true, Ordering::SeqCst);
    let silent = within_deadline(&mesh, "checkout").await;
    assert_uncited(&silent);
    assert!(silent.missing_inputs[0].detail.contains("no answer within 100 ms"), "{:?}", silent.missing_inputs);
    mesh.world.knowledge_hangs.store(false, Ordering::SeqCst);
    mesh.clock.set(NOW_MS + 10_000);
    assert_eq!(within_deadline(&mesh, "checkout").await.citations.len(), 1);
}

#[tokio::test]
async fn a_caller_in_a_hurry_gets_an_answer_from_a_patient_service() {
    let mesh = Mesh::start_with(Config { evidence_ms_max: 60_000, ..Config::default() }).await;
    mesh.world.knowledge_hangs.store(true, Ordering::SeqCst);
    assert_uncited(&within_deadline(&mesh, "checkout").await);
}

#[tokio::test]
async fn knowledge_that_refuses_is_named_whatever_it_says() {
    let mesh = Mesh::start().await;
    let codes =
        [Code::Unavailable, Code::Internal, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Unimplemented];
    for (place, code) in codes.into_iter().enumerate() {
        *mesh.world.knowledge_refuses.lock().unwrap() = Some(code);
        mesh.clock.set(NOW_MS + 10_000 * place as i64);
        let silent = within_deadline(&mesh, "checkout").await;
        assert_uncited(&silent);
    }
    // In the middle of its life knowledge comes back, answers, and goes.
    *mesh.world.knowledge_refuses.lock().unwrap() = None;
    mesh.clock.set(NOW_MS + 100_000);
    assert_eq!(within_deadline(&mesh, "checkout").await.citations.len(), 1);
    *mesh.world.knowledge_refuses.lock().unwrap() = Some(Code::Unavailable);
    assert_eq!(
        within_deadline(&mesh, "checkout").await.citations.len(),
        1,
        "what was cited stays while nothing changed"
    );
}

#[tokio::test]
async fn without_ingestion_what_is_stored_is_shown_as_stale() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    mesh.world.ingestion_down.store(true, Ordering::SeqCst);
    let answer = mesh.ask("checkout").await.unwrap();
    assert!(answer.stale);
    assert_eq!(answer.recommendation, Some(first));
    let status = mesh.ask("gateway").await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "MEMBER_UNREACHABLE".into()));
    assert!(status.get_error_details().retry_info().is_some());
    // A failed computation is not remembered.
    mesh.world.ingestion_down.store(false, Ordering::SeqCst);
    assert_eq!(mesh.recommend("gateway").await.version, 1);
}

#[tokio::test]
async fn an_impact_cannot_be_told_without_the_graph() {
    let mesh = Mesh::start().await;
    mesh.world.graph_down.store(true, Ordering::SeqCst);
    let proposals = vec![wire::ProposedSlo { service_id: "d".into(), target_ratio: 0.9 }];
    let status =
        mesh.client.clone().analyze_impact(wire::AnalyzeImpactRequest { proposals, window_days: 0 }).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "MEMBER_UNREACHABLE".into()));
}

#[tokio::test]
async fn an_impact_without_history_says_what_it_rests_on() {
    let mesh = Mesh::start().await;
    mesh.declare("d", 0.999).await;
    mesh.world.ingestion_down.store(true, Ordering::SeqCst);
    let proposals = vec![wire::ProposedSlo { service_id: "d".into(), target_ratio: 0.9 }];
    let answer = mesh
        .client
        .clone()
        .analyze_impact(wire::AnalyzeImpactRequest { proposals, window_days: 0 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.missing_inputs[0].name, "history");
    assert_eq!(answer.assumed_perfect_ids, ["a", "b"]);
    assert!((answer.affected[0].ceiling_after_ratio - 0.9).abs() < 1e-12);
}
