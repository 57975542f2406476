//! Decisions beside what is promised below: what contradicts it is refused unless somebody says why, and what is decided below
//! is followed by those above.

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::lifecycle_service_client::LifecycleServiceClient;
use attain_proto::recommendation::v1::{DecisionAction as Action, PendingState};
use attain_proto::vocabulary::v1::SliKind;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Mesh, fault, reason};

const WHY: &str = "the sale cannot wait for payment";

fn lifecycle(mesh: &Mesh) -> LifecycleServiceClient<Channel> {
    LifecycleServiceClient::new(mesh.channel.clone())
}

fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-attain-caller", caller.parse().unwrap());
    request.metadata_mut().insert("x-attain-role", "approver".parse().unwrap());
    request
}

fn accept(service_id: &str, recommendation_id: &str) -> wire::DecideSloRequest {
    wire::DecideSloRequest {
        service_id: service_id.into(),
        action: Action::Accept as i32,
        recommendation_id: recommendation_id.into(),
        ..wire::DecideSloRequest::default()
    }
}

fn refused(status: &Status) -> (Code, String) {
    assert_eq!(reason(status).1, "CONTRADICTS_DEPENDENCY", "{status:?}");
    let details = status.get_error_details();
    let metadata = &details.error_info().unwrap().metadata;
    (status.code(), format!("{} {}", metadata["callee_id"], metadata["consistent_target_ratio"]))
}

fn balanced(recommendation: &wire::Recommendation) -> &wire::Offer {
    recommendation.slis[0].offers.iter().find(|offer| offer.ambition() == wire::Ambition::Balanced).unwrap()
}

async fn decisions(mesh: &Mesh, service_id: &str) -> Vec<wire::Decision> {
    let list = wire::ListDecisionsRequest { service_id: service_id.into(), ..Default::default() };
    mesh.client.clone().list_decisions(list).await.unwrap().into_inner().decisions
}

#[tokio::test]
async fn a_contradiction_is_refused_unless_somebody_says_why() {
    let mesh = Mesh::start().await;
    mesh.declare("payment", 0.9).await;
    let id = mesh.recommend("checkout").await.id;
    let no = mesh.decide(accept("checkout", &id)).await.unwrap_err();
    assert_eq!(refused(&no), (Code::FailedPrecondition, "payment 0.9".into()));
    assert!(no.message().contains("payment") && no.message().contains("90 %"), "{}", no.message());
    assert_eq!(decisions(&mesh, "checkout").await, []);

    // What holds can be put in force by hand, what does not cannot either.
    let modify = |target_ratio| wire::DecideSloRequest {
        action: Action::Modify as i32,
        target_ratio: Some(target_ratio),
        reason: "as payment bears it".into(),
        ..accept("checkout", &id)
    };
    assert_eq!(refused(&mesh.decide(modify(0.95)).await.unwrap_err()).1, "payment 0.9");
    let modified = mesh.decide(modify(0.9)).await.unwrap();
    assert_eq!(modified.decision.unwrap().contradiction, None);

    let said = wire::DecideSloRequest { contradiction_reason: WHY.into(), ..accept("checkout", &id) };
    let decided = mesh.decide(said).await.unwrap();
    let taken = decided.decision.unwrap().contradiction.unwrap();
    assert_eq!((taken.callee_id.as_str(), taken.reason.as_str()), ("payment", WHY));
    assert_eq!((taken.target_ratio, taken.consistent_target_ratio), (decided.slo.unwrap().target_ratio, Some(0.9)));
    assert_eq!(taken.chain, ["checkout", "payment"]);

    // It is told wherever the decision is.
    let told = Some(taken.clone());
    assert_eq!(decisions(&mesh, "checkout").await[0].contradiction, told);
    let get = wire::GetRecommendationRequest { recommendation_id: id.clone() };
    let standing = mesh.client.clone().get_recommendation(get).await.unwrap().into_inner().lifecycle.unwrap();
    assert_eq!(standing.contradiction, told);
    let listed = lifecycle(&mesh).list_recommendations(wire::ListRecommendationsRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().recommendations[0].contradiction, told);
    let registered = lifecycle(&mesh).list_registered_slos(wire::ListRegisteredSlosRequest::default()).await.unwrap();
    let registered = registered.into_inner().slos;
    assert_eq!((registered[0].contradiction.as_ref(), registered[1].contradiction.as_ref()), (told.as_ref(), None));
    let versions = wire::ListSloVersionsRequest {
        service_id: "checkout".into(),
        kind: "availability".into(),
        ..Default::default()
    };
    let versions = lifecycle(&mesh).list_slo_versions(versions).await.unwrap().into_inner().versions;
    assert_eq!((versions[0].contradiction.as_ref(), versions[1].contradiction.as_ref()), (told.as_ref(), None));
    let record = mesh.audit().await.into_iter().find(|record| record.action == "slo.accepted").unwrap();
    let detail: serde_json::Value = serde_json::from_str(&record.detail_json).unwrap();
    assert_eq!(detail["contradiction"]["callee"], "payment");
    assert_eq!(
        (&detail["contradiction"]["reason"], &detail["contradiction"]["needed_ratio"]),
        (&WHY.into(), &taken.needed_ratio.into())
    );
}

#[tokio::test]
async fn a_reason_belongs_to_what_is_accepted_or_modified_and_is_recorded_only_with_a_contradiction() {
    let mesh = Mesh::start().await;
    let declare = wire::DecideSloRequest {
        action: Action::Declare as i32,
        target_ratio: Some(0.9),
        contradiction_reason: WHY.into(),
        ..accept("checkout", "")
    };
    let no = mesh.decide(declare).await.unwrap_err();
    assert_eq!(fault(&no), ("contradiction_reason".into(), "not_allowed".into()));
    let id = mesh.recommend("checkout").await.id;
    let long = wire::DecideSloRequest { contradiction_reason: "x".repeat(2001), ..accept("checkout", &id) };
    assert_eq!(fault(&mesh.decide(long).await.unwrap_err()), ("contradiction_reason".into(), "too_long".into()));
    let needless = wire::DecideSloRequest { contradiction_reason: WHY.into(), ..accept("checkout", &id) };
    assert_eq!(mesh.decide(needless).await.unwrap().decision.unwrap().contradiction, None);
}

#[tokio::test]
async fn what_was_decided_below_since_counts_and_reading_does_not_write() {
    let mesh = Mesh::start().await;
    let before = mesh.recommend("checkout").await;
    let aside = mesh.recommend("b").await;
    assert!(balanced(&before).limited_by.is_none());
    mesh.declare("payment", 0.9).await;
    let records = mesh.audit().await.len();
    for _ in 0..3 {
        let answer = mesh.ask("checkout").await.unwrap();
        assert_eq!((answer.stale, answer.stale_reason.as_str()), (true, "decided_below"));
        let below: Vec<&str> = answer.decided_below.iter().map(|below| below.service_id.as_str()).collect();
        assert_eq!((answer.recommendation, &below[..]), (Some(before.clone()), &["payment"][..]));
        assert!(answer.decided_below[0].decide_time.is_some());
    }
    let untouched = mesh.ask("b").await.unwrap();
    assert_eq!((untouched.stale, untouched.decided_below.len(), untouched.recommendation), (false, 0, Some(aside)));
    assert_eq!(mesh.audit().await.len(), records);
    // The recommendation knows nothing of it; whoever accepts it is told all the same.
    let no = mesh.decide(accept("checkout", &before.id)).await.unwrap_err();
    assert_eq!(refused(&no).1, "payment 0.9");
    // Where the promises cannot be asked, what the recommendation says stands.
    mesh.world.targets_down.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(mesh.decide(accept("checkout", &before.id)).await.is_ok());
}

#[tokio::test]
async fn whoever_stands_above_is_computed_anew_and_nobody_else() {
    let mesh = Mesh::following_decisions().await;
    for service in ["gateway", "checkout", "auth", "b"] {
        assert_eq!(mesh.recommend(service).await.version, 1);
    }
    mesh.declare("payment", 0.9).await;
    let followed = mesh.until("gateway", |answer| !answer.stale).await.recommendation.unwrap();
    let checkout = mesh.ask("checkout").await.unwrap();
    let checkout = (checkout.stale, checkout.recommendation.unwrap());
    assert_eq!((checkout.0, checkout.1.version, followed.version), (false, 2, 2));
    assert_eq!(balanced(&checkout.1).limited_by.as_ref().unwrap().callee_id, "payment");
    for service in ["auth", "b"] {
        let answer = mesh.ask(service).await.unwrap();
        assert_eq!((answer.stale, answer.recommendation.unwrap().version), (false, 1), "{service}");
    }
    // Whoever follows is told in the log of who made it.
    let made = mesh.audit().await.into_iter().filter(|record| record.action == "recommendation.created");
    let by_itself: Vec<String> =
        made.filter(|record| record.caller == "recommendation").map(|record| record.service_id).collect();
    assert_eq!(by_itself, ["checkout", "gateway"], "callees before their callers");
}

#[tokio::test]
async fn a_decision_is_followed_after_a_restart_too() {
    let mut mesh = Mesh::start().await;
    mesh.recommend("checkout").await;
    mesh.declare("payment", 0.9).await;
    assert!(mesh.ask("checkout").await.unwrap().stale);
    mesh.restart().await;
    // The first round comes with the start.
    let followed = mesh.until("checkout", |answer| !answer.stale).await.recommendation.unwrap();
    assert_eq!((followed.version, balanced(&followed).consistent_target_ratio), (2, Some(0.9)));
}

#[tokio::test]
async fn a_proposal_is_held_again_when_it_is_approved() {
    let mesh = Mesh::start().await;
    let id = mesh.recommend("auth").await.id;
    let propose = |contradiction_reason: &str| {
        let request =
            wire::DecideSloRequest { contradiction_reason: contradiction_reason.into(), ..accept("auth", &id) };
        let mut client = mesh.client.clone();
        async move { client.decide_slo(by("ada", request)).await.map(|answer| answer.into_inner().pending.unwrap()) }
    };
    let approve = |decision_id: String| {
        let request = wire::ApproveDecisionRequest { decision_id, reason: String::new() };
        let mut client = lifecycle(&mesh);
        async move { client.approve_decision(by("grace", request)).await.map(tonic::Response::into_inner) }
    };
    let held = propose("").await.unwrap();
    mesh.declare("user-db", 0.9).await;
    assert_eq!(refused(&approve(held.id.clone()).await.unwrap_err()), (Code::FailedPrecondition, "user-db 0.9".into()));
    let waiting = wire::ListPendingDecisionsRequest { state: PendingState::Waiting as i32, ..Default::default() };
    let waiting = lifecycle(&mesh).list_pending_decisions(waiting).await.unwrap().into_inner().pending;
    assert_eq!(waiting, [held]);
    assert_eq!(refused(&propose("").await.unwrap_err()).1, "user-db 0.9");
    let known = propose(WHY).await.unwrap();
    assert_eq!(known.contradiction.as_ref().unwrap().reason, WHY);
    let approved = approve(known.id).await.unwrap().decision.unwrap();
    assert_eq!(approved.contradiction, known.contradiction);
    let proposed = mesh.audit().await.into_iter().rfind(|record| record.action == "decision.proposed").unwrap();
    assert!(proposed.detail_json.contains(WHY), "{}", proposed.detail_json);
}

#[tokio::test]
async fn policy_never_accepts_a_contradiction() {
    const CASES: [(&str, &str); 4] = [("checkout", "payment"), ("b", "d"), ("a", "b"), ("inventory", "user-db")];
    let accepted_of = async |below: Option<f64>| {
        let mesh = Mesh::start().await;
        mesh.world.depend("inventory", "user-db");
        mesh.world.touch_topology("inventory");
        let mut client = lifecycle(&mesh);
        let policy = client.get_policy(wire::GetPolicyRequest::default()).await.unwrap().into_inner().policy.unwrap();
        let automatic = wire::AutomaticAcceptance {
            steps_max: 5,
            per_day_max: 9,
            days_between_min: 1,
            first_slo: true,
            service_ids: CASES.map(|(service, _)| service.to_owned()).to_vec(),
            ..Default::default()
        };
        let of_tier =
            |place: usize| wire::TierRules { automatic: Some(automatic.clone()), ..policy.tiers[place].clone() };
        let tiers = vec![of_tier(1), of_tier(2), of_tier(3)];
        let set = wire::SetPolicyRequest { tiers, reason: "toil".into(), ..Default::default() };
        client.set_policy(by("root", set)).await.unwrap();
        let mut accepted = Vec::new();
        for (service, callee) in CASES {
            if let Some(target) = below {
                mesh.declare(callee, target).await;
            }
            let ask =
                wire::GetSloRecommendationsRequest { service_id: service.into(), window_days: 7, ..Default::default() };
            let answer = mesh.client.clone().get_slo_recommendations(ask).await.unwrap().into_inner();
            let limited = balanced(answer.recommendation.as_ref().unwrap()).limited_by.is_some();
            assert!(limited || below.is_none(), "{service}");
            let by_policy =
                |decision: &wire::Decision| decision.decided_by == "policy" && decision.kind() == SliKind::Availability;
            if decisions(&mesh, service).await.iter().any(by_policy) {
                accepted.push(service);
            }
        }
        accepted
    };
    let free = accepted_of(None).await;
    assert!(!free.is_empty(), "nothing keeps policy from these where nothing is promised below");
    assert_eq!(accepted_of(Some(0.9)).await, Vec::<&str>::new());
}
