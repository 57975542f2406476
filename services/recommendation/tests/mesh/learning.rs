//! What is learned from decisions and feedback, and that it moves the suggestion alone.

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::{DecisionAction as Action, FeedbackKind};
use attain_proto::vocabulary::v1::{Dependency, DependencyMode, SliKind};
use tonic::Code;

use crate::harness::{Mesh, fault, reason};
use crate::world::{NOW_MS, TOPOLOGY};

const AVAILABILITY: i32 = SliKind::Availability as i32;

fn suggested(recommendation: &wire::Recommendation) -> &wire::SuggestedOffer {
    recommendation.suggested.iter().find(|suggested| suggested.kind == AVAILABILITY).unwrap()
}

async fn decide(mesh: &Mesh, action: Action, recommendation: &wire::Recommendation, target_ratio: Option<f64>) {
    let request = wire::DecideSloRequest {
        service_id: recommendation.service_id.clone(),
        action: action as i32,
        recommendation_id: recommendation.id.clone(),
        kind: AVAILABILITY,
        ambition: if action == Action::Accept { suggested(recommendation).ambition } else { 0 },
        target_ratio,
        reason: "as the team wants it".into(),
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(request).await.unwrap();
}

async fn learning(mesh: &Mesh) -> wire::GetLearningResponse {
    mesh.client.clone().get_learning(wire::GetLearningRequest {}).await.unwrap().into_inner()
}

async fn submit(mesh: &Mesh, request: wire::SubmitFeedbackRequest) -> Result<wire::Feedback, tonic::Status> {
    mesh.client.clone().submit_feedback(request).await.map(|answer| answer.into_inner().feedback.unwrap())
}

fn feedback(id: &str, kind: FeedbackKind) -> wire::SubmitFeedbackRequest {
    wire::SubmitFeedbackRequest { recommendation_id: id.into(), feedback_kind: kind as i32, ..Default::default() }
}

/// The recommendation anew, after a change of what it is computed from.
async fn anew(mesh: &Mesh, step: u32) -> wire::Recommendation {
    mesh.world.rewrite_last_bucket("checkout", 20 + u64::from(step));
    mesh.clock.set(NOW_MS + 60_000 * i64::from(step));
    mesh.recommend("checkout").await
}

#[tokio::test]
async fn each_estimate_has_a_suggestion_with_its_propensity_and_reasons() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("checkout").await;
    assert_eq!(recommendation.suggested.len(), recommendation.slis.len());
    for suggested in &recommendation.suggested {
        let sli = recommendation.slis.iter().find(|sli| sli.kind == suggested.kind).unwrap();
        assert!(sli.offers.iter().any(|offer| offer.ambition == suggested.ambition));
        assert_eq!(suggested.evidence.len(), sli.offers.len());
        let chosen = suggested.evidence.iter().find(|evidence| evidence.ambition == suggested.ambition).unwrap();
        assert_eq!(chosen.propensity.to_bits(), suggested.propensity.to_bits());
        let sum: f64 = suggested.evidence.iter().map(|evidence| evidence.propensity).sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert_eq!((suggested.learning_version, chosen.suggested_count), (0, 0));
        assert!(!suggested.reason.is_empty());
    }
    let request = wire::ReplayRecommendationRequest { recommendation_id: recommendation.id };
    assert!(mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner().identical);
}

#[tokio::test]
async fn decisions_move_the_suggestion_and_nothing_else() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    decide(&mesh, Action::Reject, &first, None).await;
    let told = learning(&mesh).await;
    assert_eq!(told.cells.len(), 1);
    assert_eq!((told.cells[0].reject_count, told.cells[0].accept_count), (1, 0));
    let wanted = suggested(&first).ambition;
    let of = |evidence: &[wire::AmbitionEvidence]| {
        evidence.iter().find(|evidence| evidence.ambition == wanted).unwrap().acceptance_mean
    };
    let before = of(&suggested(&first).evidence);
    assert!(of(&told.cells[0].evidence) < before);
    let second = anew(&mesh, 1).await;
    assert_eq!((second.version, suggested(&second).learning_version), (2, told.version));
    assert_eq!(suggested(&second).learning_sha256, told.sha256);
    assert!(of(&suggested(&second).evidence) < before);
    // What was learned is no part of what is offered.
    let other = Mesh::start().await;
    other.recommend("checkout").await;
    let untaught = anew(&other, 1).await;
    assert_eq!(second.slis, untaught.slis);
    assert_eq!(second.confidence, untaught.confidence);
    // Replayed from its own inputs, whatever was learned since.
    decide(&mesh, Action::Accept, &second, None).await;
    let request = wire::ReplayRecommendationRequest { recommendation_id: second.id };
    assert!(mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner().identical);
}

#[tokio::test]
async fn what_was_learned_is_made_again_from_the_log() {
    let mut mesh = Mesh::start().await;
    for step in 0..6 {
        let recommendation = anew(&mesh, step).await;
        match step % 3 {
            0 => decide(&mesh, Action::Accept, &recommendation, None).await,
            1 => decide(&mesh, Action::Modify, &recommendation, Some(0.9)).await,
            _ => decide(&mesh, Action::Reject, &recommendation, None).await,
        }
        if step == 4 {
            submit(&mesh, feedback(&recommendation.id, FeedbackKind::TooStrict)).await.unwrap();
            // Said twice by the same caller it counts once, and so does a second decision.
            submit(&mesh, feedback(&recommendation.id, FeedbackKind::TooLoose)).await.unwrap();
            decide(&mesh, Action::Reject, &recommendation, None).await;
        }
        learning(&mesh).await;
    }
    let told = learning(&mesh).await;
    let cell = &told.cells[0];
    assert_eq!((cell.accept_count, cell.modify_count, cell.reject_count, cell.feedback_count), (2, 2, 2, 1));
    assert_eq!(told.policies.len(), 4);
    for policy in &told.policies {
        assert_eq!(policy.decision_count, 6, "{}", policy.policy);
        let robust = policy.doubly_robust.as_ref().unwrap();
        assert!(robust.low_ratio <= robust.acceptance_ratio && robust.acceptance_ratio <= robust.high_ratio);
    }
    mesh.restart().await;
    assert_eq!(learning(&mesh).await, told);
    // Another tenant knows nothing of it.
    let context = attain_runtime::context::CallContext::new(
        attain_vocabulary::TenantId::new("tenant", "other").unwrap(),
        "test",
        crate::harness::PATIENCE,
    );
    let other =
        mesh.client.clone().get_learning(context.request(wire::GetLearningRequest {})).await.unwrap().into_inner();
    assert_eq!((other.version, other.cells.len(), other.feedback.len()), (0, 0, 0));
    let theirs = mesh.ask_as("other", "checkout").await.recommendation.unwrap();
    assert_eq!(suggested(&theirs).learning_version, 0);
}

#[tokio::test]
async fn feedback_is_kept_counted_and_audited_and_a_disputed_dependency_is_pointed_out() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    let wrong = wire::SubmitFeedbackRequest {
        dependency_id: "provider".into(),
        text: "gone since spring, says jane@mail.example".into(),
        ..feedback(&first.id, FeedbackKind::WrongDependency)
    };
    let kept = submit(&mesh, wrong).await.unwrap();
    assert_eq!((kept.service_id.as_str(), kept.dependency_id.as_str()), ("checkout", "provider"));
    assert_eq!(kept.text, "gone since spring, says [redacted:email]");
    submit(&mesh, feedback(&first.id, FeedbackKind::WrongSplit)).await.unwrap();
    let request = wire::ListFeedbackRequest { service_id: "checkout".into(), page_size: 1, ..Default::default() };
    let page = mesh.client.clone().list_feedback(request.clone()).await.unwrap().into_inner();
    assert_eq!(page.feedback[0].feedback_kind, FeedbackKind::WrongSplit as i32);
    let rest = wire::ListFeedbackRequest { page_token: page.next_page_token, ..request };
    assert_eq!(mesh.client.clone().list_feedback(rest).await.unwrap().into_inner().feedback, [kept]);
    let counted: Vec<(i32, u32)> =
        learning(&mesh).await.feedback.iter().map(|count| (count.feedback_kind, count.count)).collect();
    assert_eq!(counted, [(FeedbackKind::WrongDependency as i32, 1), (FeedbackKind::WrongSplit as i32, 1)]);
    assert_eq!(mesh.audit().await.iter().filter(|record| record.action == "feedback.submitted").count(), 2);

    let second = anew(&mesh, 1).await;
    let disputed: Vec<_> =
        second.missing_inputs.iter().filter(|missing| missing.name == "dependency_disputed").collect();
    assert_eq!(disputed.len(), 1);
    assert!(disputed[0].detail.contains("provider"), "{disputed:?}");
    assert_eq!(second.confidence.unwrap().level, first.confidence.unwrap().level);
}

#[tokio::test]
async fn a_dispute_ends_with_its_edge_and_with_another_declaration_of_it() {
    let mesh = Mesh::start().await;
    let id = mesh.recommend("checkout").await.id;
    let dispute = |dependency: &str| wire::SubmitFeedbackRequest {
        dependency_id: dependency.into(),
        ..feedback(&id, FeedbackKind::WrongDependency)
    };
    // Gateway calls auth; checkout does not.
    let refused = submit(&mesh, dispute("auth")).await.unwrap_err();
    assert_eq!(fault(&refused), ("dependency_id".into(), "no_dependency".into()));
    for dependency in ["provider", "inventory"] {
        submit(&mesh, dispute(dependency)).await.unwrap();
    }
    let disputed = |recommendation: &wire::Recommendation| {
        let missing = recommendation.missing_inputs.iter().filter(|missing| missing.name == "dependency_disputed");
        let names =
            missing.flat_map(|missing| ["provider", "inventory"].map(|name| (missing.detail.contains(name), name)));
        names.filter(|(named, _)| *named).map(|(_, name)| name).collect::<Vec<_>>()
    };
    assert_eq!(disputed(&anew(&mesh, 1).await), ["inventory", "provider"]);
    mesh.world.dependencies.lock().unwrap().retain(|edge| edge.callee_id != "inventory");
    mesh.world.touch("default", "checkout", TOPOLOGY);
    assert_eq!(disputed(&anew(&mesh, 2).await), ["provider"], "there is no edge to inventory any more");
    let declare = |edge: &mut Dependency| {
        edge.mode = DependencyMode::Soft as i32;
        edge.fallback_success_ratio = Some(0.9);
    };
    mesh.world.dependencies.lock().unwrap().iter_mut().filter(|edge| edge.callee_id == "provider").for_each(declare);
    mesh.world.touch("default", "payment", TOPOLOGY);
    assert_eq!(disputed(&anew(&mesh, 3).await), [""; 0], "the edge was declared anew");
    submit(&mesh, dispute("provider")).await.unwrap();
    assert_eq!(disputed(&anew(&mesh, 4).await), ["provider"], "and is wrong all the same, somebody says");
}

#[tokio::test]
async fn feedback_that_cannot_be_right_is_refused_by_field() {
    let mesh = Mesh::start().await;
    let id = mesh.recommend("checkout").await.id;
    let refused = |request| async { submit(&mesh, request).await.unwrap_err() };
    let none = refused(feedback(&id, FeedbackKind::Unspecified)).await;
    assert_eq!(fault(&none), ("feedback_kind".into(), "required".into()));
    let strange = wire::SubmitFeedbackRequest { feedback_kind: 99, ..feedback(&id, FeedbackKind::Other) };
    assert_eq!(fault(&refused(strange).await), ("feedback_kind".into(), "unknown_value".into()));
    let unnamed = refused(feedback(&id, FeedbackKind::WrongDependency)).await;
    assert_eq!(fault(&unnamed), ("dependency_id".into(), "required".into()));
    assert_eq!(fault(&refused(feedback(&id, FeedbackKind::Other)).await), ("text".into(), "required".into()));
    let unknown = refused(feedback("rec-none", FeedbackKind::TooLoose)).await;
    assert_eq!(reason(&unknown), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
}

#[tokio::test]
async fn a_template_is_not_suggested() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("young").await;
    assert!(recommendation.fallback);
    assert!(recommendation.suggested.is_empty());
}
