//! Whom an outage hurts, over REST and by the command.

use serde_json::{Value, json};

use crate::harness::{Up, attain, buckets, folder};

async fn what_if(up: &Up, question: Value) -> Value {
    let (status, answer) = up.post("/api/v1/slos/what-if", &question).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

fn of<'a>(answer: &'a Value, service: &str) -> &'a Value {
    let affected = answer["affected"].as_array().unwrap();
    affected.iter().find(|affected| affected["service_id"] == service).unwrap_or_else(|| panic!("{service}: {answer}"))
}

#[tokio::test]
async fn a_region_is_survived_by_whoever_has_a_spare_elsewhere() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let spare = |callee: &str| json!({"caller_id": "api", "callee_id": callee, "redundancy_group": "db", "redundancy_required_count": 1});
    let graph = json!({
        "services": [
            {"id": "web", "tier": "tier_1", "depends_on": ["api", "search"]},
            {"id": "api", "tier": "tier_2"},
            {"id": "db-east", "kind": "datastore", "region": "east"},
            {"id": "db-west", "kind": "datastore", "region": "west"},
            {"id": "search", "region": "west"},
        ],
        "dependencies": [spare("db-east"), spare("db-west")],
    });
    let (status, answer) = up.post("/api/v1/services/dependencies", &graph).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = up.post("/api/v1/metrics", &json!({"buckets": buckets("web", 400, 10_000, 5)})).await;
    assert_eq!(status, 200, "{answer}");
    let declared = json!({"action": "declare", "kind": "availability", "target_ratio": 0.999});
    assert_eq!(up.post("/api/v1/services/web/slos", &declared).await.0, 200);

    let west = what_if(&up, json!({"changes": [{"outage": {"region": "west"}}], "outage_duration": "2700s"})).await;
    let mut hurt: Vec<&str> =
        west["affected"].as_array().unwrap().iter().map(|affected| affected["service_id"].as_str().unwrap()).collect();
    hurt.sort_unstable();
    assert_eq!(hurt, ["db-west", "search", "web"], "the api has a database elsewhere: {west}");
    let web = of(&west, "web");
    assert_eq!((&web["ceiling_during_ratio"], &web["path"]), (&json!(0.0), &json!(["web", "search"])));
    // 45 of 40,320 minutes against a budget of a thousandth.
    let used = web["outage_budget_share"].as_f64().unwrap();
    assert!((used - 45.0 / 40.32 * web["ceiling_before_ratio"].as_f64().unwrap()).abs() < 1e-9, "{web}");

    let east = what_if(&up, json!({"changes": [{"outage": {"region": "east"}}]})).await;
    assert_eq!(east["affected"].as_array().unwrap().len(), 1, "{east}");
    let refused = up.post("/api/v1/slos/what-if", &json!({"changes": [{"outage": {"region": "north"}}]})).await;
    assert_eq!((refused.0, &refused.1["errors"][0]["code"]), (400, &json!("unknown_region")), "{}", refused.1);

    let arguments = ["outage", "search", "--minutes", "45", "--format", "json", "--url", &up.gateway];
    let output = attain().args(arguments).output().await.unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.success(), of(&printed, "web")), (true, web));
    let nowhere = attain().args(["outage", "--url", &up.gateway]).output().await.unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "neither a service nor a region");
    assert!(up.stop().await);
}
