//! A shadow forecasts beside the live model, is scored when windows close, becomes the live one only when it is better, and
//! gives way again at once.

use std::collections::HashMap;

use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{EntityKind, Tier};
use attain_recommendation::Config;
use attain_vocabulary::{BUCKET_MS, DAY_MS};
use tonic::Status;

use crate::harness::{Mesh, PATIENCE, fault, reason};
use crate::world::{NOW_MS, World};

const MEASURED: [&str; 9] = ["a", "auth", "b", "checkout", "d", "gateway", "inventory", "payment", "user-db"];
const COMPILED: &str = attain_attainment::MODEL_VERSION;

impl World {
    /// Another four weeks that go as the first four did.
    fn a_month_passes(&self) {
        let shift = 30 * 288 * BUCKET_MS;
        for buckets in self.histories.lock().unwrap().values_mut() {
            let mut later = buckets[..29 * 288].to_vec();
            for bucket in &mut later {
                bucket.start_time = Some(timestamp(unix_millis(&bucket.start_time.unwrap()) + shift));
            }
            buckets.extend(later);
        }
        MEASURED.into_iter().for_each(|id| self.touch_measurements(id));
    }
}

async fn register(mesh: &Mesh, constants: &[(&str, f64)]) -> Result<wire::Model, Status> {
    let constants: HashMap<String, f64> = constants.iter().map(|(name, value)| ((*name).into(), *value)).collect();
    let request = wire::RegisterModelRequest { name: "surer".into(), constants, note: "fewer surprises".into() };
    mesh.client.clone().register_model(request).await.map(|answer| answer.into_inner().model.unwrap())
}

async fn models(mesh: &Mesh) -> Vec<(String, wire::ModelState)> {
    let listed = mesh.client.clone().list_models(wire::ListModelsRequest {}).await.unwrap().into_inner().models;
    listed.into_iter().map(|model| (model.version.clone(), model.state())).collect()
}

async fn scores(mesh: &Mesh, version: &str) -> Result<wire::GetModelScoresResponse, Status> {
    let request = wire::GetModelScoresRequest { version: version.into() };
    mesh.client.clone().get_model_scores(request).await.map(tonic::Response::into_inner)
}

async fn promote(mesh: &Mesh, version: &str) -> Result<wire::PromoteModelResponse, Status> {
    let request = wire::PromoteModelRequest { version: version.into() };
    mesh.client.clone().promote_model(request).await.map(tonic::Response::into_inner)
}

async fn roll_back(mesh: &Mesh, version: &str) -> Result<wire::Model, Status> {
    let request = wire::RollBackModelRequest { version: version.into(), reason: "too strict".into() };
    mesh.client.clone().roll_back_model(request).await.map(|answer| answer.into_inner().model.unwrap())
}

async fn replays(mesh: &Mesh, recommendation: &wire::Recommendation) -> bool {
    let request = wire::ReplayRecommendationRequest { recommendation_id: recommendation.id.clone() };
    mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner().identical
}

/// Waits until the sweep has closed every window that a version has forecast.
async fn closed(mesh: &Mesh, version: &str) -> wire::ModelComparison {
    let reached = async {
        loop {
            let scores = scores(mesh, version).await.unwrap();
            if scores.open_window_count == 0 {
                return scores.comparison.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("windows close")
}

fn config() -> Config {
    let (promotion_windows_min, promotion_services_min) = (9, 9);
    Config { drift_sweep_interval_ms: 10, promotion_windows_min, promotion_services_min, ..Config::default() }
}

#[tokio::test]
async fn a_better_shadow_becomes_live_and_gives_way_again() {
    let mesh = Mesh::following(config()).await;
    // Less is expected of what was never seen.
    let shadow = register(&mesh, &[("prior_size", 0.003)]).await.unwrap();
    assert_eq!((shadow.state(), shadow.parent_version.as_str()), (wire::ModelState::Shadow, COMPILED));
    let version = shadow.version.as_str();
    let mut first = None;
    for id in MEASURED {
        let recommendation = mesh.recommend(id).await;
        assert_eq!(recommendation.model_version, COMPILED, "a shadow is never shown");
        first = Some(recommendation);
    }
    assert_eq!(scores(&mesh, version).await.unwrap().open_window_count, 9);
    let refused = promote(&mesh, version).await.unwrap_err();
    assert_eq!(reason(&refused).1, "MODEL_NOT_BETTER");
    assert!(refused.message().contains("0 closed windows; 9 are needed, 9 more"), "{}", refused.message());

    mesh.world.a_month_passes();
    mesh.clock.set(NOW_MS + 29 * DAY_MS);
    let comparison = closed(&mesh, version).await;
    assert_eq!((comparison.window_count, comparison.service_count), (9, 9));
    assert!(comparison.log_pinball_difference < 0.0 && comparison.p_value < 0.05, "{comparison:?}");
    let promoted = promote(&mesh, version).await.unwrap();
    assert_eq!(promoted.model.unwrap().state(), wire::ModelState::Live);
    assert_eq!(
        models(&mesh).await,
        [(version.to_owned(), wire::ModelState::Live), (COMPILED.to_owned(), wire::ModelState::Retired)]
    );
    let by_shadow = mesh.recommend("user-db").await;
    assert_eq!(by_shadow.model_version, version);
    // Each is made again by the version that it names.
    assert!(replays(&mesh, first.as_ref().unwrap()).await && replays(&mesh, &by_shadow).await);

    assert_eq!(roll_back(&mesh, "").await.unwrap().version, COMPILED);
    assert_eq!(mesh.recommend("user-db").await.model_version, COMPILED);
    assert_eq!(roll_back(&mesh, version).await.unwrap().version, version);
    let actions: Vec<String> = mesh.audit().await.into_iter().map(|record| record.action).collect();
    let of_models: Vec<&str> =
        actions.iter().map(String::as_str).filter(|action| action.starts_with("model.")).collect();
    assert_eq!(
        of_models,
        ["model.registered", "model.refused", "model.promoted", "model.rolled_back", "model.rolled_back"]
    );
}

#[tokio::test]
async fn a_worse_shadow_is_refused_with_its_scores() {
    let mesh = Mesh::following(config()).await;
    // A hundred days of outage before anything was seen.
    let shadow = register(&mesh, &[("prior_size", 3.0)]).await.unwrap();
    for id in MEASURED {
        mesh.recommend(id).await;
    }
    mesh.world.a_month_passes();
    mesh.clock.set(NOW_MS + 29 * DAY_MS);
    let comparison = closed(&mesh, &shadow.version).await;
    assert!(!comparison.promotable && comparison.log_pinball_difference > 0.0, "{comparison:?}");
    let refused = promote(&mesh, &shadow.version).await.unwrap_err();
    assert!(refused.message().contains("log-pinball"), "{}", refused.message());
    assert_eq!(models(&mesh).await[0], (COMPILED.to_owned(), wire::ModelState::Live));
}

#[tokio::test]
async fn constants_are_fitted_to_the_past_and_forecast_as_a_shadow() {
    let mesh = Mesh::following(Config { retrain_interval_seconds: 3_600, ..config() }).await;
    mesh.world.a_month_passes();
    mesh.clock.set(NOW_MS + 29 * DAY_MS);
    let steady = mesh.world.histories.lock().unwrap()["user-db"].clone();
    for id in (0..30).map(|i| format!("steady-{i}")) {
        mesh.world.histories.lock().unwrap().insert(id.clone(), steady.clone());
        mesh.world.entity(&id, EntityKind::Service, Tier::Tier3);
        mesh.recommend(&id).await;
    }
    // A sweep has seen that there is somebody: nobody asked for a.
    let seen = async {
        let request = wire::ListDriftRequest { service_id: "a".into(), ..Default::default() };
        while mesh.client.clone().list_drift(request.clone()).await.unwrap().into_inner().services.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("a is looked at");
    assert_eq!(models(&mesh).await.len(), 1, "it is not time");
    mesh.clock.set(NOW_MS + 29 * DAY_MS + 3_600_000);
    let fitted = async {
        while models(&mesh).await.len() == 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, fitted).await.expect("a shadow is there");
    let listed = mesh.client.clone().list_models(wire::ListModelsRequest {}).await.unwrap().into_inner().models;
    let shadow = &listed[1];
    assert_eq!((shadow.state(), shadow.name.as_str()), (wire::ModelState::Shadow, "retrained"));
    assert_eq!((shadow.created_by.as_str(), shadow.parent_version.as_str()), ("recommendation", COMPILED));
    assert!(shadow.note.contains("60 closed windows"), "{}", shadow.note);
}

#[tokio::test]
async fn what_cannot_be_a_model_is_refused_by_name() {
    let mesh = Mesh::start().await;
    let refused = register(&mesh, &[("nothing", 1.0)]).await.unwrap_err();
    assert_eq!(fault(&refused), ("constants/nothing".into(), "out_of_range".into()));
    assert_eq!(fault(&register(&mesh, &[]).await.unwrap_err()).0, "constants");
    assert_eq!(reason(&scores(&mesh, "none").await.unwrap_err()).1, "UNKNOWN_MODEL");
    assert_eq!(reason(&promote(&mesh, COMPILED).await.unwrap_err()).1, "MODEL_NOT_BETTER");
    assert_eq!(fault(&roll_back(&mesh, "").await.unwrap_err()).0, "version");
    let shadow = register(&mesh, &[("drift", 0.3)]).await.unwrap();
    // The same once more is the same.
    assert_eq!(register(&mesh, &[("drift", 0.3)]).await.unwrap(), shadow);
    assert_eq!(fault(&roll_back(&mesh, &shadow.version).await.unwrap_err()), ("version".into(), "not_retired".into()));
    let silent = wire::RollBackModelRequest::default();
    assert_eq!(fault(&mesh.client.clone().roll_back_model(silent).await.unwrap_err()).0, "reason");
}

#[tokio::test]
async fn what_an_earlier_build_made_live_gives_way_to_the_compiled_model() {
    let mesh = Mesh::start().await;
    mesh.recommend("user-db").await;
    mesh.tamper(
        "INSERT INTO model_lives (tenant_id, sequence, version, create_ms) \
         VALUES ('default', 1000000, 'drifting-level-0-0123456789ab', 1)",
    )
    .await;
    let after = mesh.recommend("user-db").await;
    assert_eq!((after.model_version.as_str(), after.version), (COMPILED, 1), "and what is stored holds");
    assert_eq!(models(&mesh).await, [(COMPILED.to_owned(), wire::ModelState::Live)]);
    register(&mesh, &[("drift", 0.3)]).await.expect("the live model is there");
}
