use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::lifecycle_service_client::LifecycleServiceClient;
use attain_proto::recommendation::v1::{DecisionAction as Action, PendingState, RecommendationState as State};
use attain_proto::vocabulary::v1::{SliKind, Tier};
use attain_recommendation::Config;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::harness::{Mesh, PATIENCE, fault, reason};
use crate::world::NOW_MS;

const DAY_MS: i64 = 86_400_000;

/// A request of somebody whom the gateway knows.
fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-attain-caller", caller.parse().unwrap());
    request.metadata_mut().insert("x-attain-role", "approver".parse().unwrap());
    request
}

fn lifecycle(mesh: &Mesh) -> LifecycleServiceClient<Channel> {
    LifecycleServiceClient::new(mesh.channel.clone())
}

fn accept(service_id: &str, recommendation_id: &str) -> wire::DecideSloRequest {
    wire::DecideSloRequest {
        service_id: service_id.into(),
        action: Action::Accept as i32,
        recommendation_id: recommendation_id.into(),
        ..wire::DecideSloRequest::default()
    }
}

async fn propose(mesh: &Mesh, caller: &str) -> wire::PendingDecision {
    let id = mesh.recommend("auth").await.id;
    let answer = mesh.client.clone().decide_slo(by(caller, accept("auth", &id))).await.unwrap().into_inner();
    assert_eq!((answer.decision, answer.slo), (None, None));
    answer.pending.expect("tier 1 needs somebody else")
}

async fn approve(mesh: &Mesh, caller: &str, id: &str) -> Result<wire::ApproveDecisionResponse, tonic::Status> {
    let request = wire::ApproveDecisionRequest { decision_id: id.into(), reason: "looked at it".into() };
    lifecycle(mesh).approve_decision(by(caller, request)).await.map(tonic::Response::into_inner)
}

async fn pending(mesh: &Mesh, state: PendingState) -> Vec<wire::PendingDecision> {
    let request = wire::ListPendingDecisionsRequest { state: state as i32, ..Default::default() };
    lifecycle(mesh).list_pending_decisions(request).await.unwrap().into_inner().pending
}

async fn slos(mesh: &Mesh, request: wire::ListRegisteredSlosRequest) -> wire::ListRegisteredSlosResponse {
    lifecycle(mesh).list_registered_slos(request).await.unwrap().into_inner()
}

async fn states(mesh: &Mesh, state: State) -> Vec<(String, u32)> {
    let request = wire::ListRecommendationsRequest { state: state as i32, ..Default::default() };
    let listed = lifecycle(mesh).list_recommendations(request).await.unwrap().into_inner().recommendations;
    listed.into_iter().map(|one| (one.service_id, one.version)).collect()
}

/// Waits for what the upkeep brings about.
async fn until_audited(mesh: &Mesh, action: &str) -> wire::AuditRecord {
    let reached = async {
        loop {
            if let Some(record) = mesh.audit().await.into_iter().find(|record| record.action == action) {
                return record;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect(action)
}

fn brisk() -> Config {
    Config { upkeep_interval_seconds: 1, ..Config::default() }
}

#[tokio::test]
async fn a_critical_service_needs_two_people() {
    let mesh = Mesh::start().await;
    let proposed = propose(&mesh, "ada").await;
    assert_eq!(
        (proposed.state(), proposed.proposed_by.as_str(), proposed.replaces_version),
        (PendingState::Waiting, "ada", 0)
    );
    assert_eq!(pending(&mesh, PendingState::Waiting).await, std::slice::from_ref(&proposed));
    assert_eq!(slos(&mesh, Default::default()).await.slos, []);

    let refused = approve(&mesh, "ada", &proposed.id).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::PermissionDenied, "SAME_IDENTITY".into()));
    for nobody in ["local", "unknown"] {
        let refused = approve(&mesh, nobody, &proposed.id).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::PermissionDenied, "NO_IDENTITY".into()));
    }
    let mut foreign =
        by("grace", wire::ApproveDecisionRequest { decision_id: proposed.id.clone(), reason: String::new() });
    foreign.metadata_mut().insert("x-attain-tenant", "other".parse().unwrap());
    let refused = lifecycle(&mesh).approve_decision(foreign).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "UNKNOWN_DECISION".into()));

    let approved = approve(&mesh, "grace", &proposed.id).await.unwrap();
    let (slo, decision) = (approved.slo.unwrap(), approved.decision.unwrap());
    assert_eq!(slo.target_ratio.to_bits(), proposed.target_ratio.to_bits());
    assert_eq!((decision.decided_by.as_str(), decision.approved_by.as_str()), ("ada", "grace"));
    let again = approve(&mesh, "grace", &proposed.id).await.unwrap_err();
    assert_eq!(reason(&again), (Code::FailedPrecondition, "DECISION_CLOSED".into()));
    let closed = pending(&mesh, PendingState::Approved).await.remove(0);
    assert_eq!((closed.closed_by.as_str(), closed.decision_id), ("grace", decision.id.clone()));
    assert_eq!(states(&mesh, State::Accepted).await, [("auth".to_owned(), 1)]);

    let request =
        wire::ListSloVersionsRequest { service_id: "auth".into(), kind: "availability".into(), ..Default::default() };
    let versions = lifecycle(&mesh).list_slo_versions(request).await.unwrap().into_inner().versions;
    assert_eq!(
        (versions.len(), versions[0].decision_id.clone(), versions[0].approved_by.as_str()),
        (1, decision.id, "grace")
    );
    let audit = mesh.audit().await;
    // What was refused is written in batches, some time later.
    let done = audit.iter().filter(|one| !one.action.ends_with(".refused"));
    let actions: Vec<(&str, &str)> = done.map(|one| (one.action.as_str(), one.caller.as_str())).collect();
    assert_eq!(
        actions,
        [("recommendation.created", "unknown"), ("decision.proposed", "ada"), ("slo.accepted", "grace")]
    );
}

#[tokio::test]
async fn only_what_replaces_something_critical_waits() {
    let mesh = Mesh::start().await;
    // Tier 2: one person suffices.
    let id = mesh.recommend("checkout").await.id;
    let answer = mesh.client.clone().decide_slo(by("ada", accept("checkout", &id))).await.unwrap().into_inner();
    assert!(answer.pending.is_none() && answer.slo.is_some());
    // The first statement of what is in force is none to approve; the second changes it.
    let declare = |target_ratio| {
        let request = wire::DecideSloRequest {
            service_id: "auth".into(),
            action: Action::Declare as i32,
            target_ratio: Some(target_ratio),
            ..Default::default()
        };
        let mut client = mesh.client.clone();
        async move { client.decide_slo(by("ada", request)).await }
    };
    let id = mesh.recommend("auth").await.id;
    let first = declare(0.99).await;
    assert_eq!(first.unwrap().into_inner().slo.unwrap().version, 1);
    let second = declare(0.9).await.unwrap().into_inner();
    assert_eq!((second.slo.unwrap().version, second.pending.unwrap().replaces_version), (1, 1));
    // A refusal changes nothing, so it waits for nobody.
    let reject = wire::DecideSloRequest { action: Action::Reject as i32, reason: "no".into(), ..accept("auth", &id) };
    let rejected = mesh.client.clone().decide_slo(by("ada", reject)).await.unwrap().into_inner();
    assert!(rejected.pending.is_none() && rejected.decision.is_some());
    // Where callers are not told apart there is no second one.
    let alone = mesh.client.clone().decide_slo(by("local", accept("auth", &id))).await.unwrap().into_inner();
    assert!(alone.pending.is_none() && alone.decision.is_some());
}

#[tokio::test]
async fn proposals_are_refused_withdrawn_overtaken_and_lapse() {
    let mesh = Mesh::start_with(brisk()).await;
    let (one, two, three) = (propose(&mesh, "ada").await, propose(&mesh, "ada").await, propose(&mesh, "ada").await);
    let refuse = |caller: &'static str, why: &str| {
        let request = wire::RefuseDecisionRequest { decision_id: one.id.clone(), reason: why.into() };
        let mut client = lifecycle(&mesh);
        async move { client.refuse_decision(by(caller, request)).await }
    };
    assert_eq!(fault(&refuse("grace", " ").await.unwrap_err()), ("reason".into(), "required".into()));
    let refused = refuse("grace", "too loose").await.unwrap().into_inner().pending.unwrap();
    assert_eq!((refused.state(), refused.close_reason.as_str()), (PendingState::Refused, "too loose"));
    let withdraw = |caller: &'static str| {
        let request = wire::WithdrawDecisionRequest { decision_id: two.id.clone(), reason: String::new() };
        let mut client = lifecycle(&mesh);
        async move { client.withdraw_decision(by(caller, request)).await }
    };
    let others = withdraw("grace").await.unwrap_err();
    assert_eq!(reason(&others), (Code::PermissionDenied, "NOT_THE_PROPOSER".into()));
    assert_eq!(withdraw("ada").await.unwrap().into_inner().pending.unwrap().state(), PendingState::Withdrawn);
    // Somebody put another SLO in force since the third was proposed.
    mesh.declare("auth", 0.9).await;
    let overtaken = approve(&mesh, "grace", &three.id).await.unwrap_err();
    assert_eq!(reason(&overtaken), (Code::Aborted, "VERSION_MISMATCH".into()));
    assert_eq!(pending(&mesh, PendingState::Waiting).await, std::slice::from_ref(&three));
    mesh.clock.set(NOW_MS + 7 * DAY_MS);
    let late = approve(&mesh, "grace", &three.id).await.unwrap_err();
    assert_eq!(reason(&late), (Code::FailedPrecondition, "DECISION_CLOSED".into()));
    assert_eq!(until_audited(&mesh, "decision.expired").await.caller, "recommendation");
    assert_eq!(pending(&mesh, PendingState::Expired).await.len(), 1);
    assert_eq!(slos(&mesh, Default::default()).await.slos.len(), 1);
}

#[tokio::test]
async fn what_is_too_old_cannot_be_accepted_and_the_newest_is_named() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    let second = {
        mesh.world.rewrite_last_bucket("checkout", 2_000);
        mesh.clock.set(NOW_MS + 60_000);
        mesh.recommend("checkout").await
    };
    assert_eq!(states(&mesh, State::Superseded).await, [("checkout".to_owned(), 1)]);
    assert_eq!(states(&mesh, State::Open).await, [("checkout".to_owned(), 2)]);
    // Tier 2 has 45 days.
    mesh.clock.set(NOW_MS + 45 * DAY_MS);
    let late = mesh.decide(accept("checkout", &first.id)).await.unwrap_err();
    assert_eq!(reason(&late), (Code::FailedPrecondition, "RECOMMENDATION_EXPIRED".into()));
    assert!(late.message().contains(&second.id), "{}", late.message());
    assert_eq!(states(&mesh, State::Expired).await, [("checkout".to_owned(), 1)]);
    let get = wire::GetRecommendationRequest { recommendation_id: first.id.clone() };
    let told = mesh.client.clone().get_recommendation(get).await.unwrap().into_inner();
    let lifecycle = told.lifecycle.unwrap();
    assert_eq!((lifecycle.state(), lifecycle.newest_recommendation_id), (State::Expired, second.id.clone()));
    assert_eq!(told.recommendation, Some(first.clone()));
    // Refusing it is still possible, and the newer one has a minute left.
    let reject = wire::DecideSloRequest {
        action: Action::Reject as i32,
        reason: "late".into(),
        ..accept("checkout", &first.id)
    };
    mesh.decide(reject).await.unwrap();
    mesh.decide(accept("checkout", &second.id)).await.unwrap();
    assert_eq!(states(&mesh, State::Rejected).await, [("checkout".to_owned(), 1)]);
}

#[tokio::test]
async fn a_review_that_is_near_offers_a_renewal() {
    let mesh = Mesh::start_with(brisk()).await;
    let id = mesh.recommend("checkout").await.id;
    mesh.decide(accept("checkout", &id)).await.unwrap();
    mesh.declare("auth", 0.99).await;
    let expiring = || slos(&mesh, wire::ListRegisteredSlosRequest { expiring: true, ..Default::default() });
    assert_eq!(expiring().await.slos, []);
    // Tier 2: reviewed after 180 days, renewed 14 days before.
    mesh.clock.set(NOW_MS + 166 * DAY_MS);
    let offered = until_audited(&mesh, "slo.renewal_offered").await;
    let detail: serde_json::Value = serde_json::from_str(&offered.detail_json).unwrap();
    let found = expiring().await.slos.remove(0);
    assert!(found.expiring && found.renewal_recommendation_id != id, "{found:?}");
    assert_eq!(detail["recommendation_id"].as_str(), Some(found.renewal_recommendation_id.as_str()));
    let renewed = mesh.decide(accept("checkout", &found.renewal_recommendation_id)).await.unwrap().slo.unwrap();
    assert_eq!(renewed.version, 2);
    assert_eq!(expiring().await.slos, []);
}

#[tokio::test]
async fn the_registry_is_read_by_page_and_filter() {
    let mesh = Mesh::start().await;
    for service in ["checkout", "auth", "payment", "a"] {
        mesh.declare(service, 0.99).await;
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page =
            slos(&mesh, wire::ListRegisteredSlosRequest { page_size: 3, page_token, ..Default::default() }).await;
        seen.extend(page.slos.into_iter().map(|one| one.slo.unwrap().service_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a", "auth", "checkout", "payment"]);
    let critical =
        slos(&mesh, wire::ListRegisteredSlosRequest { tier: Tier::Tier1 as i32, ..Default::default() }).await;
    assert_eq!(critical.slos.len(), 1);
    let latency = wire::ListRegisteredSlosRequest { kind: SliKind::Latency as i32, ..Default::default() };
    assert_eq!(slos(&mesh, latency).await.slos, []);
    for (page_token, field) in [("x", "page_token"), ("latency:", "page_token"), ("cpu:a", "page_token")] {
        let request = wire::ListRegisteredSlosRequest { page_token: page_token.into(), ..Default::default() };
        let status = lifecycle(&mesh).list_registered_slos(request).await.unwrap_err();
        assert_eq!(fault(&status), (field.into(), "malformed".into()));
    }
    let get = |service_id: &str, kind: &str| {
        let request = wire::GetSloRequest { service_id: service_id.into(), kind: kind.into() };
        let mut client = lifecycle(&mesh);
        async move { client.get_slo(request).await.map(tonic::Response::into_inner) }
    };
    assert_eq!(get("a", "availability").await.unwrap().slo.unwrap().target_ratio, 0.99);
    assert_eq!(reason(&get("a", "latency").await.unwrap_err()), (Code::NotFound, "UNKNOWN_SLO".into()));
    assert_eq!(fault(&get("a", "cpu").await.unwrap_err()), ("kind".into(), "unknown_value".into()));
}

#[tokio::test]
async fn a_policy_is_set_matched_and_remembered() {
    let mesh = Mesh::start().await;
    let mut client = lifecycle(&mesh);
    let policy = client.get_policy(wire::GetPolicyRequest::default()).await.unwrap().into_inner().policy.unwrap();
    assert_eq!((policy.version, policy.tiers.len(), policy.set_time), (0, 4, None));
    assert!(policy.tiers.iter().all(|rules| rules.automatic.is_none()));
    let rules = wire::TierRules { four_eyes: Some(true), ..policy.tiers[1].clone() };
    let set = wire::SetPolicyRequest {
        tiers: vec![rules],
        reason: "audit".into(),
        version_match: Some(0),
        ..Default::default()
    };
    let answer = client.set_policy(by("root", set.clone())).await.unwrap().into_inner().policy.unwrap();
    assert_eq!((answer.version, answer.set_by.as_str(), answer.pending_days), (1, "root", 7));
    let stale = client.set_policy(by("root", set.clone())).await.unwrap_err();
    assert_eq!(reason(&stale), (Code::Aborted, "VERSION_MISMATCH".into()));
    // Now a service of tier 2 needs two people too.
    let id = mesh.recommend("checkout").await.id;
    let decided = mesh.client.clone().decide_slo(by("ada", accept("checkout", &id))).await.unwrap().into_inner();
    assert!(decided.pending.is_some());
    let before =
        client.get_policy(wire::GetPolicyRequest { version: Some(0) }).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(before, policy);
    let missing = client.get_policy(wire::GetPolicyRequest { version: Some(9) }).await.unwrap_err();
    assert_eq!(reason(&missing), (Code::NotFound, "UNKNOWN_POLICY".into()));
    let versions = client.list_policy_versions(wire::ListPolicyVersionsRequest::default()).await.unwrap().into_inner();
    assert_eq!(versions.policies, [answer]);
    let automatic =
        wire::AutomaticAcceptance { steps_max: 1, per_day_max: 1, days_between_min: 1, ..Default::default() };
    let first = wire::TierRules { automatic: Some(automatic), ..policy.tiers[0].clone() };
    for (tiers, pending_days, reason, field, code) in [
        (vec![first], None, "why", "tiers/0/automatic", "not_allowed"),
        (
            vec![wire::TierRules { four_eyes: None, ..policy.tiers[1].clone() }],
            None,
            "why",
            "tiers/0/four_eyes",
            "required",
        ),
        (vec![wire::TierRules { tier: 0, ..policy.tiers[1].clone() }], None, "why", "tiers/0/tier", "required"),
        (vec![policy.tiers[1].clone(), policy.tiers[1].clone()], None, "why", "tiers/1/tier", "named_twice"),
        (vec![], Some(0), "why", "pending_days", "out_of_range"),
        (vec![], None, "", "reason", "required"),
    ] {
        let set = wire::SetPolicyRequest { tiers, pending_days, reason: reason.into(), version_match: None };
        let status = client.set_policy(by("root", set)).await.unwrap_err();
        assert_eq!(fault(&status), (field.to_owned(), code.to_owned()));
    }
}

#[tokio::test]
async fn policy_accepts_only_what_it_may() {
    let mesh = Mesh::start().await;
    let mut client = lifecycle(&mesh);
    let policy = client.get_policy(wire::GetPolicyRequest::default()).await.unwrap().into_inner().policy.unwrap();
    let automatic = wire::AutomaticAcceptance {
        steps_max: 5,
        per_day_max: 1,
        days_between_min: 1,
        first_slo: true,
        service_ids: vec!["d".into(), "inventory".into(), "auth".into()],
        ..Default::default()
    };
    let rules = wire::TierRules { automatic: Some(automatic), ..policy.tiers[1].clone() };
    let set = wire::SetPolicyRequest { tiers: vec![rules], reason: "toil".into(), ..Default::default() };
    client.set_policy(by("root", set)).await.unwrap();
    let ask = |service_id: &'static str, window_days| {
        let request =
            wire::GetSloRecommendationsRequest { service_id: service_id.into(), window_days, ..Default::default() };
        let mut client = mesh.client.clone();
        async move { client.get_slo_recommendations(request).await.unwrap().into_inner().recommendation.unwrap() }
    };
    let level = |recommendation: &wire::Recommendation| recommendation.confidence.as_ref().unwrap().level();
    // Thirty days of history are too few for 28 days ahead, enough for 7.
    let unsure = ask("d", 28).await;
    assert_ne!(level(&unsure), wire::ConfidenceLevel::High);
    assert_eq!(slos(&mesh, Default::default()).await.slos, []);
    let sure = ask("d", 7).await;
    assert_eq!(level(&sure), wire::ConfidenceLevel::High, "{:?}", sure.confidence);
    let accepted = slos(&mesh, Default::default()).await.slos.remove(0).slo.unwrap();
    let balanced = sure.slis[0].offers.iter().find(|offer| offer.ambition() == wire::Ambition::Balanced).unwrap();
    assert_eq!(accepted.target_ratio.to_bits(), balanced.target_ratio.to_bits());
    assert_eq!((accepted.recommendation_id, accepted.as_recommended), (sure.id.clone(), true));
    // One a day for the tier, none for tier 1, none for who is not named.
    for service in ["inventory", "auth", "b"] {
        ask(service, 7).await;
    }
    assert_eq!(slos(&mesh, Default::default()).await.slos.len(), 1);
    let decided = mesh.audit().await.into_iter().find(|record| record.action == "slo.accepted").unwrap();
    let detail: serde_json::Value = serde_json::from_str(&decided.detail_json).unwrap();
    assert_eq!((decided.caller.as_str(), detail["policy_version"].as_u64()), ("policy", Some(1)));
    assert!(detail["reason"].as_str().unwrap().contains("high confidence"), "{detail}");
    let list = wire::ListDecisionsRequest { service_id: "d".into(), ..Default::default() };
    let kept = mesh.client.clone().list_decisions(list).await.unwrap().into_inner().decisions;
    assert_eq!((kept[0].decided_by.as_str(), kept[0].policy_version), ("policy", 1));
}
