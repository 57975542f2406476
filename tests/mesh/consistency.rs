//! Whether SLOs in force hold together, over REST and by the command.

use serde_json::{Value, json};

use crate::harness::{Up, attain, buckets, folder};

async fn declare(up: &Up, service: &str, target_ratio: f64) {
    let body = json!({"action": "declare", "kind": "availability", "target_ratio": target_ratio});
    let (status, answer) = up.post(&format!("/api/v1/services/{service}/slos"), &body).await;
    assert_eq!(status, 200, "{answer}");
}

fn ratio(moves: &Value, service: &str) -> Option<f64> {
    let moves = moves.as_array().unwrap();
    moves.iter().find(|target| target["service_id"] == service)?["target_ratio"].as_f64()
}

#[tokio::test]
async fn contradictions_are_found_moved_and_settled_by_what_is_proposed() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let (status, answer) = up.get("/api/v1/fleet/consistency").await;
    assert_eq!((status, &answer["consistent"], &answer["slo_count"]), (200, &json!(true), &json!(0)), "{answer}");
    let graph = json!({"services": [
        {"id": "web", "tier": "tier_1", "depends_on": ["api", "session-store"]},
        {"id": "api", "tier": "tier_2", "depends_on": ["store"]},
        {"id": "session-store"},
        {"id": "store", "tier": "tier_3"},
    ]});
    assert_eq!(up.post("/api/v1/services/dependencies", &graph).await.0, 200);
    let (status, answer) = up.post("/api/v1/metrics", &json!({"buckets": buckets("store", 400, 10_000, 5)})).await;
    assert_eq!(status, 200, "{answer}");
    declare(&up, "web", 0.9995).await;
    declare(&up, "api", 0.999).await;
    declare(&up, "store", 0.99).await;

    let (status, answer) = up.get("/api/v1/fleet/consistency?repairs_max=6").await;
    assert_eq!((status, &answer["consistent"], &answer["slo_count"]), (200, &json!(false), &json!(3)), "{answer}");
    let broken = answer["contradictions"].as_array().unwrap();
    let promise = |caller: &str, callee: &str| {
        broken.iter().any(|broken| broken["service_id"] == caller && broken["callee_id"] == callee)
    };
    assert!(promise("web", "api") && promise("api", "store"), "{answer}");
    let ceiling = broken.iter().find(|broken| broken["service_id"] == "web" && broken["callee_id"] == "").unwrap();
    assert_eq!(ceiling["chain"], json!(["web", "api", "store"]));
    assert!(!answer["repairs"].as_array().unwrap().is_empty(), "{answer}");
    assert_eq!(answer["unresolved"], json!([]), "{answer}");
    assert!(answer["assumed_perfect_ids"].as_array().unwrap().contains(&json!("session-store")), "{answer}");

    // Whoever follows the proposal has nothing left to settle.
    let moves = &answer["moves"];
    assert!(!moves.as_array().unwrap().is_empty());
    for service in ["web", "api", "store"] {
        if let Some(target_ratio) = ratio(moves, service) {
            let slos = up.get(&format!("/api/v1/services/{service}/slos")).await.1;
            let version = slos["slos"][0]["version"].clone();
            let body = json!({"action": "declare", "target_ratio": target_ratio, "version_match": version});
            let (status, answer) = up.post(&format!("/api/v1/services/{service}/slos"), &body).await;
            assert_eq!(status, 200, "{answer}");
        }
    }
    let (_, settled) = up.get("/api/v1/fleet/consistency").await;
    assert_eq!((&settled["consistent"], &settled["moves"]), (&json!(true), &json!([])), "{settled}");

    let refused = up.get("/api/v1/fleet/consistency?repairs_max=51").await;
    assert_eq!(refused.0, 400, "{}", refused.1);
    let output = attain().args(["consistency", "--format", "json", "--url", &up.gateway]).output().await.unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), &printed["consistent"]), (true, &json!(true)));
    assert!(up.stop().await);
}
