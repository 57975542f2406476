//! Ready, asked, drained; and the loop of recommending and deciding.

use serde_json::{Value, json};

use crate::harness::{Up, buckets, folder};

fn availability(recommendation: &Value) -> &Value {
    recommendation["slis"].as_array().unwrap().iter().find(|sli| sli["kind"] == "availability").unwrap()
}

/// A → B → D, each with two weeks of data.
async fn chain(up: &Up) {
    let graph = json!({"services": [
        {"id": "a", "tier": "tier_1", "depends_on": ["b"]},
        {"id": "b", "depends_on": ["d"]},
        {"id": "d", "kind": "datastore"},
    ]});
    assert_eq!(up.post("/api/v1/services/dependencies", &graph).await.0, 200);
    for (service, bad) in [("a", 3), ("b", 2), ("d", 1)] {
        let body = json!({"buckets": buckets(service, 14 * 288, 1000, bad)});
        let (status, answer) = up.post(&format!("/api/v1/services/{service}/metrics"), &body).await;
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["accepted_count"], 14 * 288);
    }
}

#[tokio::test]
async fn starts_within_its_bound_answers_and_drains() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    assert_eq!(up.get("/healthz").await.0, 200);
    assert_eq!(up.get("/readyz").await.0, 200);
    let (status, contract) = up.get("/api/v1/openapi.json").await;
    assert_eq!((status, contract["openapi"].as_str()), (200, Some("3.1.0")));
    assert!(up.stop().await, "a drained mesh ends with success");
}

#[tokio::test]
async fn accepting_stores_exactly_the_version_named() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    chain(&up).await;
    let (status, answer) = up.get("/api/v1/services/a/slo-recommendations").await;
    assert_eq!(status, 200, "{answer}");
    let recommendation = &answer["recommendation"];
    let id = recommendation["id"].as_str().unwrap();
    let offer = availability(recommendation)["offers"].as_array().unwrap().last().unwrap().clone();

    let decision =
        json!({"action": "accept", "recommendation_id": id, "kind": "availability", "ambition": offer["ambition"]});
    let (status, decided) = up.post("/api/v1/services/a/slos", &decision).await;
    assert_eq!(status, 200, "{decided}");
    let (_, slos) = up.get("/api/v1/services/a/slos").await;
    let slo = &slos["slos"][0];
    // Bit for bit, through JSON, gRPC, the database and back.
    let bits = |value: &Value| value.as_f64().unwrap().to_bits();
    assert_eq!(bits(&slo["target_ratio"]), bits(&offer["target_ratio"]));
    assert_eq!(slo["recommendation_id"], id);

    let (_, same) = up.get(&format!("/api/v1/slo-recommendations/{id}")).await;
    assert_eq!(&same["recommendation"], recommendation, "a recommendation never changes");
    let (_, replay) = up.get(&format!("/api/v1/slo-recommendations/{id}/replay")).await;
    assert_eq!(replay["identical"], true, "{replay}");
    let (_, audit) = up.get("/api/v1/audit").await;
    let actions: Vec<&str> =
        audit["records"].as_array().unwrap().iter().map(|r| r["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"slo.accepted"), "{actions:?}");
}

#[tokio::test]
async fn modifying_and_rejecting_need_a_reason_and_the_right_version() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    chain(&up).await;
    let (_, answer) = up.get("/api/v1/services/b/slo-recommendations").await;
    let id = answer["recommendation"]["id"].as_str().unwrap().to_owned();
    let modify = json!({"action": "modify", "recommendation_id": id, "kind": "availability", "target_ratio": 0.9973});
    let (status, problem) = up.post("/api/v1/services/b/slos", &modify).await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/reason");

    let mut modify = modify;
    modify["reason"] = "holiday season".into();
    let (status, decided) = up.post("/api/v1/services/b/slos", &modify).await;
    assert_eq!((status, decided["slo"]["target_ratio"].as_f64()), (200, Some(0.9973)), "{decided}");
    modify["version_match"] = 7.into();
    let (status, _) = up.post("/api/v1/services/b/slos", &modify).await;
    assert!(status == 409 || status == 412, "{status}");
    let reject = json!({"action": "reject", "recommendation_id": id, "kind": "availability", "reason": "too loose"});
    assert_eq!(up.post("/api/v1/services/b/slos", &reject).await.0, 200);
    let (_, history) = up.get("/api/v1/services/b/slo-history").await;
    assert_eq!(history["decisions"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn impact_is_transitive() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    chain(&up).await;
    let declare = json!({"action": "declare", "kind": "availability", "target_ratio": 0.999});
    assert_eq!(up.post("/api/v1/services/d/slos", &declare).await.0, 200);
    let body = json!({"proposals": [{"service_id": "d", "target_ratio": 0.9}]});
    let (status, answer) = up.post("/api/v1/slos/impact-analysis", &body).await;
    assert_eq!(status, 200, "{answer}");
    let a = answer["affected"]
        .as_array()
        .unwrap()
        .iter()
        .find(|service| service["service_id"] == "a")
        .expect("A is above D");
    let (before, after) = (a["ceiling_before_ratio"].as_f64().unwrap(), a["ceiling_after_ratio"].as_f64().unwrap());
    assert!(before > 0.99 && after < 0.901, "{a}");
    assert_eq!(a["path"], json!(["a", "b", "d"]));
}

#[tokio::test]
async fn little_data_is_a_labelled_answer() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let graph = json!({"services": [{"id": "young", "tier": "tier_2"}]});
    assert_eq!(up.post("/api/v1/services/dependencies", &graph).await.0, 200);
    for count in [0, 3] {
        if count > 0 {
            let body = json!({"buckets": buckets("young", count, 10, 0)});
            assert_eq!(up.post("/api/v1/services/young/metrics", &body).await.0, 200);
        }
        let (status, answer) = up.get("/api/v1/services/young/slo-recommendations").await;
        assert_eq!(status, 200, "{answer}");
        let recommendation = &answer["recommendation"];
        assert_eq!(recommendation["confidence"]["level"], "low");
        assert_eq!(recommendation["fallback"], true);
        assert!(!recommendation["confidence"]["raise_with"].as_array().unwrap().is_empty());
    }
}
