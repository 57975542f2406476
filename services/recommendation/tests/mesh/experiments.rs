//! Two ways to suggest an offer, side by side on teams that were drawn by lot.

use std::collections::{BTreeMap, BTreeSet};

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::DecisionAction as Action;
use attain_proto::vocabulary::v1::{EntityKind, SliKind, Tier};
use attain_recommendation::Config;
use attain_vocabulary::DAY_MS;
use tonic::Status;

use crate::harness::{Mesh, fault, reason};
use crate::world::NOW_MS;

const TEAMS: usize = 12;
const AVAILABILITY: i32 = SliKind::Availability as i32;

/// Services of twelve teams, two a team, each as steady as the next.
async fn teams() -> Mesh {
    let mesh = Mesh::start_with(Config::default()).await;
    let steady = mesh.world.histories.lock().unwrap()["user-db"].clone();
    for id in names() {
        mesh.world.histories.lock().unwrap().insert(id.clone(), steady.clone());
        mesh.world.entity(&id, EntityKind::Service, Tier::Tier3);
        let (team, _) = id.rsplit_once('-').unwrap();
        mesh.world.entities.lock().unwrap().get_mut(&id).unwrap().owner = team.to_owned();
    }
    mesh
}

fn names() -> impl Iterator<Item = String> {
    (0..TEAMS).flat_map(|team| ["x", "y"].map(|service| format!("team{team}-{service}")))
}

fn bolder() -> wire::StartExperimentRequest {
    wire::StartExperimentRequest {
        name: "bolder".into(),
        unit: wire::ExperimentUnit::Team as i32,
        treatment: Some(wire::ExperimentArm {
            ambition: wire::Ambition::Ambitious as i32,
            ..wire::ExperimentArm::default()
        }),
        control: Some(wire::ExperimentArm {
            ambition: wire::Ambition::Conservative as i32,
            ..wire::ExperimentArm::default()
        }),
        metric: wire::ExperimentMetric::Acceptance as i32,
        duration_days: 7,
        note: "do teams want more?".into(),
    }
}

async fn start(mesh: &Mesh, request: wire::StartExperimentRequest) -> Result<wire::Experiment, Status> {
    mesh.client.clone().start_experiment(request).await.map(|answer| answer.into_inner().experiment.unwrap())
}

async fn standing(mesh: &Mesh, id: &str) -> wire::GetExperimentResponse {
    let request = wire::GetExperimentRequest { experiment_id: id.into() };
    mesh.client.clone().get_experiment(request).await.unwrap().into_inner()
}

fn suggested(recommendation: &wire::Recommendation) -> &wire::SuggestedOffer {
    recommendation.suggested.iter().find(|suggested| suggested.kind == AVAILABILITY).unwrap()
}

async fn decide(mesh: &Mesh, recommendation: &wire::Recommendation, action: Action) {
    let request = wire::DecideSloRequest {
        service_id: recommendation.service_id.clone(),
        action: action as i32,
        recommendation_id: recommendation.id.clone(),
        kind: AVAILABILITY,
        ambition: if action == Action::Accept { suggested(recommendation).ambition } else { 0 },
        reason: "as the team wants it".into(),
        ..wire::DecideSloRequest::default()
    };
    mesh.decide(request).await.unwrap();
}

#[tokio::test]
async fn teams_get_the_arm_that_they_drew_and_the_verdict_comes_once() {
    let mesh = teams().await;
    let mut before = BTreeMap::new();
    for id in names() {
        before.insert(id.clone(), mesh.recommend(&id).await);
    }
    let experiment = start(&mesh, bolder()).await.unwrap();
    assert_eq!(experiment.state(), wire::ExperimentState::Running);
    assert_eq!(reason(&start(&mesh, bolder()).await.unwrap_err()).1, "EXPERIMENT_RUNNING");
    let mut arms: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for id in names() {
        let recommendation = mesh.recommend(&id).await;
        let drawn = recommendation.experiment.as_ref().unwrap();
        assert_eq!((drawn.experiment_id.as_str(), drawn.propensity), (experiment.id.as_str(), 0.5));
        arms.entry(drawn.unit.clone()).or_default().insert(drawn.arm);
        let treated = drawn.arm() == wire::ExperimentArmName::Treatment;
        let expected = if treated { wire::Ambition::Ambitious } else { wire::Ambition::Conservative };
        assert_eq!(
            (suggested(&recommendation).ambition, suggested(&recommendation).propensity),
            (expected as i32, 1.0)
        );
        // Nothing but the suggestion is another.
        assert_eq!((recommendation.version, &recommendation.slis), (2, &before[&id].slis));
        assert!(recommendation.changes.iter().any(|change| change.contains(&experiment.id)), "{recommendation:?}");
        assert_eq!(mesh.recommend(&id).await, recommendation, "and it holds");
        let request = wire::ReplayRecommendationRequest { recommendation_id: recommendation.id.clone() };
        assert!(mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner().identical);
        // Whoever is asked to be bolder, is glad of it.
        decide(&mesh, &recommendation, if treated { Action::Accept } else { Action::Reject }).await;
    }
    assert!(arms.len() == TEAMS && arms.values().all(|drawn| drawn.len() == 1), "a team has one arm: {arms:?}");

    let early = standing(&mesh, &experiment.id).await;
    let [control, treatment] = early.arms.as_slice() else { panic!("two arms") };
    assert_eq!(control.unit_count + treatment.unit_count, TEAMS as u32);
    assert!(control.unit_count >= 4 && treatment.unit_count >= 4);
    assert_eq!(
        (treatment.service_count, treatment.decision_count),
        (2 * treatment.unit_count, 2 * treatment.unit_count)
    );
    assert_eq!(treatment.acceptance_ratio.as_ref().unwrap().value, 1.0);
    assert_eq!(control.acceptance_ratio.as_ref().unwrap().value, 0.0);
    let verdict = early.verdict.unwrap();
    assert_eq!(
        (verdict.conclusion(), verdict.difference, verdict.p_value),
        (wire::ExperimentConclusion::TooEarly, None, None)
    );

    mesh.clock.set(NOW_MS + 7 * DAY_MS);
    let over = standing(&mesh, &experiment.id).await;
    assert_eq!(over.experiment.unwrap().state(), wire::ExperimentState::Complete);
    let verdict = over.verdict.unwrap();
    assert_eq!(verdict.conclusion(), wire::ExperimentConclusion::Higher, "{verdict:?}");
    assert!(verdict.p_value.unwrap() < 0.05 && verdict.difference.unwrap().value == 1.0);
    // Everybody is as before.
    let after = mesh.recommend("team0-x").await;
    assert_eq!(after.experiment, None);
    let actions: Vec<String> = mesh.audit().await.into_iter().map(|record| record.action).collect();
    let found: Vec<&str> = actions.iter().map(String::as_str).filter(|of| of.starts_with("experiment.")).collect();
    assert_eq!(found, ["experiment.started", "experiment.refused"]);
}

#[tokio::test]
async fn who_stops_early_gets_no_verdict_and_a_roll_back_stops_too() {
    let mesh = teams().await;
    for id in names() {
        mesh.recommend(&id).await;
    }
    let experiment = start(&mesh, bolder()).await.unwrap();
    let request = wire::StopExperimentRequest { experiment_id: experiment.id.clone(), reason: "too bold".into() };
    let stopped = mesh.client.clone().stop_experiment(request.clone()).await.unwrap().into_inner().experiment.unwrap();
    assert_eq!((stopped.state(), stopped.stop_reason.as_str()), (wire::ExperimentState::Stopped, "too bold"));
    assert_eq!(reason(&mesh.client.clone().stop_experiment(request).await.unwrap_err()).1, "EXPERIMENT_OVER");
    let verdict = standing(&mesh, &experiment.id).await.verdict.unwrap();
    assert_eq!(verdict.conclusion(), wire::ExperimentConclusion::Stopped);
    assert_eq!(mesh.recommend("team0-x").await.experiment, None);
    mesh.clock.set(NOW_MS + 1);
    let next = start(&mesh, bolder()).await.unwrap();
    assert_ne!(next.id, experiment.id);
    let listed = mesh.client.clone().list_experiments(wire::ListExperimentsRequest::default()).await.unwrap();
    let listed: Vec<String> = listed.into_inner().experiments.into_iter().map(|experiment| experiment.id).collect();
    assert_eq!(listed, [next.id, experiment.id]);
}

#[tokio::test]
async fn what_cannot_be_an_experiment_is_refused_by_name() {
    let mesh = teams().await;
    // Nobody asked for a recommendation yet: no team is known.
    assert_eq!(fault(&start(&mesh, bolder()).await.unwrap_err()), ("unit".into(), "too_few_units".into()));
    for id in names() {
        mesh.recommend(&id).await;
    }
    let alter = |change: fn(&mut wire::StartExperimentRequest)| {
        let mut request = bolder();
        change(&mut request);
        request
    };
    for (request, field) in [
        (alter(|r| r.name = String::new()), "name"),
        (alter(|r| r.unit = 0), "unit"),
        (alter(|r| r.metric = 9), "metric"),
        (alter(|r| r.duration_days = 6), "duration_days"),
        (alter(|r| r.treatment = r.control.clone()), "treatment"),
        (alter(|r| r.treatment.as_mut().unwrap().ambition = 9), "treatment/ambition"),
    ] {
        assert_eq!(fault(&start(&mesh, request).await.unwrap_err()).0, field);
    }
    let unknown = alter(|r| r.treatment.as_mut().unwrap().model_version = "none".into());
    assert_eq!(reason(&start(&mesh, unknown).await.unwrap_err()).1, "UNKNOWN_MODEL");
    // A shadow takes part once it could be promoted.
    let constants = std::collections::HashMap::from([("drift".to_owned(), 0.3)]);
    let request = wire::RegisterModelRequest { name: "wider".into(), constants, note: String::new() };
    let shadow = mesh.client.clone().register_model(request).await.unwrap().into_inner().model.unwrap();
    let mut unproven = bolder();
    unproven.treatment.as_mut().unwrap().model_version = shadow.version;
    assert_eq!(reason(&start(&mesh, unproven).await.unwrap_err()).1, "MODEL_NOT_BETTER");
    let request = wire::GetExperimentRequest { experiment_id: "none".into() };
    assert_eq!(reason(&mesh.client.clone().get_experiment(request).await.unwrap_err()).1, "UNKNOWN_EXPERIMENT");
}

#[tokio::test]
async fn services_that_call_one_another_have_one_arm() {
    let mesh = teams().await;
    // Each team's services call one another, whoever owns them.
    for team in 0..TEAMS {
        mesh.world.depend(&format!("team{team}-x"), &format!("team{team}-y"));
    }
    let request = wire::StartExperimentRequest { unit: wire::ExperimentUnit::Component as i32, ..bolder() };
    let experiment = start(&mesh, request).await.unwrap();
    let mut drawn = BTreeMap::new();
    for id in names() {
        let recommendation = mesh.recommend(&id).await;
        drawn.insert(id, recommendation.experiment.unwrap());
    }
    for team in 0..TEAMS {
        assert_eq!(drawn[&format!("team{team}-x")], drawn[&format!("team{team}-y")]);
    }
    // What came later takes no part.
    mesh.world.entity("later", EntityKind::Service, Tier::Tier3);
    assert_eq!(mesh.recommend("later").await.experiment, None);
    let found = standing(&mesh, &experiment.id).await;
    assert_eq!(found.arms.iter().map(|arm| arm.unit_count).sum::<u32>(), TEAMS as u32);
}
