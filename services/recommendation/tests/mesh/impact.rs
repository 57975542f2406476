use std::sync::atomic::Ordering;

use attain_proto::convert::duration;
use attain_proto::graph::v1::outage::Place;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::graph::v1::{AttainedRatio, DependencyRef, Outage, OwnFailure, ScenarioChange};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{Dependency, DependencyMode, EntityKind, Tier};
use tonic::Status;

use crate::harness::{Mesh, fault};

async fn impact(mesh: &Mesh, proposals: &[(&str, f64)]) -> Result<wire::AnalyzeImpactResponse, Status> {
    let proposal = |(service_id, target_ratio): &(&str, f64)| wire::ProposedSlo {
        service_id: (*service_id).into(),
        target_ratio: *target_ratio,
    };
    let request = wire::AnalyzeImpactRequest { proposals: proposals.iter().map(proposal).collect(), window_days: 0 };
    mesh.client.clone().analyze_impact(request).await.map(tonic::Response::into_inner)
}

async fn what_if(mesh: &Mesh, change: Change) -> Result<wire::AnalyzeWhatIfResponse, Status> {
    what_if_for(mesh, vec![change], None).await
}

async fn what_if_for(
    mesh: &Mesh,
    changes: Vec<Change>,
    outage_minutes: Option<i64>,
) -> Result<wire::AnalyzeWhatIfResponse, Status> {
    let request = wire::AnalyzeWhatIfRequest {
        changes: changes.into_iter().map(|change| ScenarioChange { change: Some(change) }).collect(),
        window_days: 0,
        outage_duration: outage_minutes.map(|minutes| duration(minutes * 60_000)),
    };
    mesh.client.clone().analyze_what_if(request).await.map(tonic::Response::into_inner)
}

fn down(place: Place) -> Change {
    Change::Outage(Outage { place: Some(place) })
}

fn of<'a>(answer: &'a wire::AnalyzeWhatIfResponse, service_id: &str) -> &'a wire::AffectedService {
    answer.affected.iter().find(|affected| affected.service_id == service_id).unwrap()
}

fn edge(caller: &str, callee: &str) -> Dependency {
    Dependency { caller_id: caller.into(), callee_id: callee.into(), ..Dependency::default() }
}

#[tokio::test]
async fn lowering_a_promise_reaches_everybody_above() {
    let mesh = Mesh::start().await;
    mesh.declare("d", 0.999).await;
    mesh.declare("a", 0.995).await;
    let answer = impact(&mesh, &[("d", 0.9)]).await.unwrap();
    let ids: Vec<&str> = answer.affected.iter().map(|affected| affected.service_id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "d"]);
    let a = &answer.affected[0];
    assert_eq!(a.path, ["a", "b", "d"]);
    // a and b fail 0.03 % of their own each: each component once, on both sides.
    let own = (1.0f64 - 0.0003) * (1.0 - 0.0003);
    assert!((a.ceiling_before_ratio - 0.999 * own).abs() < 1e-4, "{a:?}");
    assert!((a.ceiling_after_ratio - 0.9 * own).abs() < 1e-4, "{a:?}");
    assert!(a.slo_out_of_reach);
    let (before, after) = (a.miss_probability_before.unwrap(), a.miss_probability_after.unwrap());
    assert!(before < 0.5 && after > 0.99, "{before} {after}");
    // A tenth of requests against a budget of half a percent.
    assert!(
        (a.budget_share_after.unwrap() - 20.0).abs() < 0.1 && (a.budget_share_before.unwrap() - 0.2).abs() < 0.01,
        "{a:?}"
    );
    assert!(a.detail.contains("out of reach"), "{}", a.detail);
    let b = &answer.affected[1];
    assert!(b.target_ratio.is_none() && b.miss_probability_after.is_none() && !b.slo_out_of_reach);
    assert_eq!(
        answer.baselines,
        [wire::Baseline { service_id: "d".into(), availability_ratio: 0.999, origin: "slo_in_force".into() }]
    );
    assert_eq!(answer.snapshot.unwrap().version, mesh.world.topology_version());
    assert_eq!(answer.assumed_perfect_ids, Vec::<String>::new());
}

#[tokio::test]
async fn proposing_what_is_in_force_changes_nothing() {
    let mesh = Mesh::start().await;
    mesh.declare("d", 0.999).await;
    mesh.declare("a", 0.995).await;
    let answer = impact(&mesh, &[("d", 0.999)]).await.unwrap();
    assert_eq!(answer.affected.len(), 3);
    for affected in answer.affected {
        assert_eq!(affected.ceiling_before_ratio, affected.ceiling_after_ratio);
        assert_eq!(affected.miss_probability_before, affected.miss_probability_after);
        assert_eq!(affected.budget_share_before, affected.budget_share_after);
    }
}

#[tokio::test]
async fn a_service_without_an_slo_is_read_as_measured_or_as_published() {
    let mesh = Mesh::start().await;
    let answer = impact(&mesh, &[("payment", 0.99), ("provider", 0.9), ("young", 0.9)]).await.unwrap();
    let origins: Vec<(&str, &str)> =
        answer.baselines.iter().map(|b| (b.service_id.as_str(), b.origin.as_str())).collect();
    assert_eq!(origins, [("payment", "measured"), ("provider", "published"), ("young", "structure")]);
    assert!((answer.baselines[0].availability_ratio - 0.9945).abs() < 0.002, "{:?}", answer.baselines);
    assert_eq!(answer.baselines[1].availability_ratio, 0.995);
    assert_eq!(answer.baselines[2].availability_ratio, 1.0);
    // Who is affected by several is told once; the changed ones come last, in lexical order.
    let ids: Vec<&str> = answer.affected.iter().map(|affected| affected.service_id.as_str()).collect();
    assert_eq!(ids.len(), 5);
    let mut last = ids[2..].to_vec();
    last.sort_unstable();
    assert_eq!(last, ["payment", "provider", "young"]);
}

#[tokio::test]
async fn raising_a_promise_helps() {
    let mesh = Mesh::start().await;
    mesh.declare("checkout", 0.995).await;
    let answer = impact(&mesh, &[("provider", 0.9999)]).await.unwrap();
    let checkout = answer.affected.iter().find(|affected| affected.service_id == "checkout").unwrap();
    assert!(checkout.ceiling_after_ratio > checkout.ceiling_before_ratio);
    assert!(checkout.miss_probability_after.unwrap() <= checkout.miss_probability_before.unwrap());
    assert_eq!(checkout.path, ["checkout", "payment", "provider"]);
}

#[tokio::test]
async fn bad_proposals_are_refused_by_field() {
    let mesh = Mesh::start().await;
    for (proposals, field, code) in [
        (vec![], "proposals", "required"),
        (vec![("d", 1.0)], "proposals/0/target_ratio", "out_of_range"),
        (vec![("d", 0.9), ("d", 0.8)], "proposals/1/service_id", "duplicate"),
        (vec![("d", 0.9), ("nobody", 0.8)], "proposals/1/service_id", "unknown_service"),
    ] {
        assert_eq!(fault(&impact(&mesh, &proposals).await.unwrap_err()), (field.to_owned(), code.to_owned()));
    }
}

#[tokio::test]
async fn a_fallback_lifts_everybody_above_it() {
    let mesh = Mesh::start().await;
    mesh.declare("checkout", 0.995).await;
    let soft = Dependency {
        mode: DependencyMode::Soft as i32,
        fallback_success_ratio: Some(0.9),
        ..edge("payment", "provider")
    };
    let answer = what_if(&mesh, Change::SetDependency(soft)).await.unwrap();
    let ids: Vec<&str> = answer.affected.iter().map(|affected| affected.service_id.as_str()).collect();
    assert_eq!(ids.len(), 3);
    for affected in &answer.affected {
        assert!((affected.ceiling_after_ratio - affected.ceiling_before_ratio - 0.0045).abs() < 1e-4, "{affected:?}");
        assert!(["payment", "checkout", "gateway"].contains(&affected.service_id.as_str()));
    }
    let checkout = answer.affected.iter().find(|affected| affected.service_id == "checkout").unwrap();
    assert!(checkout.miss_probability_after.unwrap() < checkout.miss_probability_before.unwrap());
    assert_eq!(checkout.path, ["checkout", "payment"]);
}

#[tokio::test]
async fn edges_come_and_go() {
    let mesh = Mesh::start().await;
    let added = what_if(&mesh, Change::SetDependency(edge("a", "payment"))).await.unwrap();
    assert_eq!(added.affected[0].service_id, "a");
    assert!(added.affected[0].ceiling_after_ratio < added.affected[0].ceiling_before_ratio - 0.004);
    let remove = DependencyRef { caller_id: "payment".into(), callee_id: "provider".into() };
    let removed = what_if(&mesh, Change::RemoveDependency(remove)).await.unwrap();
    assert_eq!(removed.affected.len(), 3);
    let attained = AttainedRatio { entity_id: "user-db".into(), availability_ratio: 0.5 };
    let worse = what_if(&mesh, Change::AttainedRatio(attained)).await.unwrap();
    assert!(
        worse.affected.iter().any(|affected| affected.service_id == "gateway" && affected.ceiling_after_ratio < 0.5)
    );
}

#[tokio::test]
async fn an_outage_uses_up_budgets_for_as_long_as_it_lasts() {
    let mesh = Mesh::start().await;
    mesh.declare("checkout", 0.995).await;
    let provider = || down(Place::EntityId("provider".into()));
    let ever = what_if(&mesh, provider()).await.unwrap();
    let checkout = of(&ever, "checkout");
    assert_eq!((checkout.ceiling_after_ratio, checkout.ceiling_during_ratio), (0.0, None));
    assert!(checkout.slo_out_of_reach && checkout.miss_probability_after.unwrap() > 0.99);
    assert_eq!(checkout.path, ["checkout", "payment", "provider"]);

    let hour = what_if_for(&mesh, vec![provider()], Some(60)).await.unwrap();
    let mut ids: Vec<&str> = hour.affected.iter().map(|affected| affected.service_id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["checkout", "gateway", "payment", "provider"]);
    let checkout = of(&hour, "checkout");
    let share = 1.0 / (28.0 * 24.0);
    assert_eq!(checkout.ceiling_during_ratio, Some(0.0));
    let expected = checkout.ceiling_before_ratio * (1.0 - share);
    assert!((checkout.ceiling_after_ratio - expected).abs() < 1e-12, "{checkout:?}");
    let used = checkout.ceiling_before_ratio * share / 0.005;
    assert!((checkout.outage_budget_share.unwrap() - used).abs() < 1e-9, "{checkout:?}");
    assert!(checkout.miss_probability_after.unwrap() > checkout.miss_probability_before.unwrap());
    assert!(checkout.detail.contains("while the outage lasts it attains 0 %"), "{}", checkout.detail);
    // Nobody promised anything for the gateway.
    assert_eq!(of(&hour, "gateway").outage_budget_share, None);
    // Longer than the window is the whole window.
    let months = what_if_for(&mesh, vec![provider()], Some(60 * 24 * 365)).await.unwrap();
    assert_eq!(of(&months, "checkout").ceiling_after_ratio, 0.0);
}

#[tokio::test]
async fn a_region_or_a_system_that_is_down_takes_others_along() {
    let mesh = Mesh::start().await;
    mesh.world.entity("west", EntityKind::Region, Tier::Unspecified);
    mesh.world.entity("system:default/shop", EntityKind::System, Tier::Unspecified);
    mesh.world.entities.lock().unwrap().get_mut("user-db").unwrap().region = "west".into();
    mesh.world.depend("system:default/shop", "inventory");
    let hurt = async |place: Place| {
        let answer = what_if(&mesh, down(place)).await.unwrap();
        let affected = answer.affected.into_iter();
        let mut hurt: Vec<(String, f64)> = affected.map(|one| (one.service_id, one.ceiling_after_ratio)).collect();
        hurt.sort_by(|a, b| a.0.cmp(&b.0));
        hurt
    };
    let down_all = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), 0.0)).collect::<Vec<_>>();
    let expected = down_all(&["auth", "gateway", "user-db", "west"]);
    assert_eq!(hurt(Place::EntityId("west".into())).await, expected);
    assert_eq!(hurt(Place::Region("west".into())).await, expected);
    let expected = down_all(&["checkout", "gateway", "inventory", "system:default/shop"]);
    assert_eq!(hurt(Place::EntityId("system:default/shop".into())).await, expected);
}

#[tokio::test]
async fn a_fallback_can_be_tried_against_an_outage() {
    let mesh = Mesh::start().await;
    mesh.declare("checkout", 0.995).await;
    let soft = Dependency {
        mode: DependencyMode::Soft as i32,
        fallback_success_ratio: Some(0.9),
        ..edge("payment", "provider")
    };
    let changes = vec![Change::SetDependency(soft), down(Place::EntityId("provider".into()))];
    let answer = what_if_for(&mesh, changes, Some(60)).await.unwrap();
    let checkout = of(&answer, "checkout");
    // While the provider is down nine in ten are saved; all the rest of the window the fallback helps.
    let during = checkout.ceiling_during_ratio.unwrap();
    assert!(during > 0.89 && during < 0.9, "{checkout:?}");
    assert!(checkout.ceiling_after_ratio > checkout.ceiling_before_ratio, "{checkout:?}");
    assert!(checkout.budget_share_after.unwrap() < checkout.budget_share_before.unwrap(), "{checkout:?}");
    assert!(checkout.outage_budget_share.unwrap() < 0.05, "{checkout:?}");
}

#[tokio::test]
async fn those_with_an_slo_are_evaluated_first_and_who_is_left_out_is_counted() {
    let mesh = Mesh::start().await;
    mesh.declare("gateway", 0.99).await;
    mesh.world.evaluates_at_most.store(2, Ordering::SeqCst);
    let answer = what_if(&mesh, down(Place::EntityId("provider".into()))).await.unwrap();
    assert_eq!(answer.affected[0].service_id, "gateway");
    assert_eq!(answer.affected.len(), 2);
    let [missing] = &answer.missing_inputs[..] else { panic!("{answer:?}") };
    assert_eq!(missing.name, "evaluation");
    assert!(missing.detail.starts_with("2 of the affected services"), "{missing:?}");
    let answer = impact(&mesh, &[("provider", 0.9)]).await.unwrap();
    assert_eq!((answer.affected.len(), answer.missing_inputs.len()), (2, 1));
}

#[tokio::test]
async fn a_region_goes_down_with_everything_in_it() {
    let mesh = Mesh::start().await;
    mesh.declare("a", 0.995).await;
    for (id, region) in [("user-db", "west"), ("d", "west"), ("inventory", "east")] {
        mesh.world.entities.lock().unwrap().get_mut(id).unwrap().region = region.into();
    }
    let answer = what_if(&mesh, down(Place::Region("west".into()))).await.unwrap();
    let mut ids: Vec<&str> = answer.affected.iter().map(|affected| affected.service_id.as_str()).collect();
    assert_eq!(ids[0], "a", "the one whose SLO falls out of reach is hurt most");
    ids.sort_unstable();
    assert_eq!(ids, ["a", "auth", "b", "d", "gateway", "user-db"]);
    assert!(answer.affected.iter().all(|affected| affected.ceiling_after_ratio == 0.0));
    assert_eq!(of(&answer, "gateway").path, ["gateway", "auth", "user-db"]);
}

#[tokio::test]
async fn a_service_that_fails_more_of_its_own_is_felt_above() {
    let mesh = Mesh::start().await;
    let own = OwnFailure { entity_id: "d".into(), own_failure_ratio: 0.2 };
    let answer = what_if(&mesh, Change::OwnFailure(own)).await.unwrap();
    assert!((of(&answer, "d").ceiling_after_ratio - 0.8).abs() < 1e-9, "{answer:?}");
    assert!(of(&answer, "a").ceiling_after_ratio < 0.8);
}

#[tokio::test]
async fn bad_changes_are_refused_by_field() {
    let mesh = Mesh::start().await;
    let remove = |caller: &str, callee: &str| {
        Change::RemoveDependency(DependencyRef { caller_id: caller.into(), callee_id: callee.into() })
    };
    let attained = AttainedRatio { entity_id: "nobody".into(), availability_ratio: 0.5 };
    for (change, field, code) in [
        (remove("a", "d"), "changes/0/remove_dependency/callee_id", "unknown_dependency"),
        (remove("nobody", "d"), "changes/0/remove_dependency/caller_id", "unknown_service"),
        (Change::SetDependency(edge("a", "nobody")), "changes/0/set_dependency/callee_id", "unknown_service"),
        (Change::SetDependency(edge("a", "a")), "changes/0/set_dependency/callee_id", "self_dependency"),
        (Change::AttainedRatio(attained), "changes/0/attained_ratio/entity_id", "unknown_service"),
        (down(Place::EntityId("nobody".into())), "changes/0/outage/entity_id", "unknown_service"),
        (down(Place::Region("nowhere".into())), "changes/0/outage/region", "unknown_region"),
    ] {
        assert_eq!(fault(&what_if(&mesh, change).await.unwrap_err()), (field.to_owned(), code.to_owned()));
    }
    for (change, minutes, code) in [
        (Change::SetDependency(edge("a", "d")), 60, "out_of_place"),
        (down(Place::EntityId("d".into())), 0, "out_of_range"),
    ] {
        let refused = what_if_for(&mesh, vec![change], Some(minutes)).await.unwrap_err();
        assert_eq!(fault(&refused), ("outage_duration".to_owned(), code.to_owned()));
    }
}
