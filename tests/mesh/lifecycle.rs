//! Ready, asked, drained; and the loop of recommending and deciding.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Up, buckets, client, folder};

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

/// A request with headers: status, entity tag and JSON, null where there is no body.
async fn send(
    up: &Up,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> (u16, String, Value) {
    let mut request = client().request(method, format!("{}{path}", up.gateway));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned()).unwrap_or_default();
    (status, tag, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

#[tokio::test]
async fn entity_tags_tell_what_is_held_already_and_guard_what_is_replaced() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    chain(&up).await;
    let read = async |path: &str, tag: &str| send(&up, Method::GET, path, &[("if-none-match", tag)], None).await;
    let newest = "/api/v1/services/b/slo-recommendations";
    let (status, tag, answer) = read(newest, "").await;
    assert_eq!(status, 200, "{answer}");
    // The age of the knowledge by which it is judged is another each time; the tag is not.
    assert_eq!(read(newest, &tag).await.0, 304);
    let id = answer["recommendation"]["id"].as_str().unwrap().to_owned();
    let one = format!("/api/v1/slo-recommendations/{id}");
    let (_, open, answer) = read(&one, "").await;
    assert_eq!(answer["lifecycle"]["state"], "open", "{answer}");
    assert_eq!(read(&one, &open).await.0, 304);

    let slos = "/api/v1/services/b/slos";
    let (status, none, _) = read(slos, "").await;
    assert_eq!((status, read(slos, &none).await.0), (200, 304));
    let accept = json!({"action": "accept", "recommendation_id": id, "kind": "availability", "ambition": "balanced"});
    let decide = async |tag: &str| send(&up, Method::POST, slos, &[("if-match", tag)], Some(&accept)).await;
    let (status, first, answer) = decide("\"0\"").await;
    assert_eq!(status, 200, "{answer}");
    let (status, _, problem) = decide("\"0\"").await;
    assert_eq!((status, problem["current_version"].as_u64()), (412, Some(1)), "{problem}");
    assert_eq!(problem["code"], "version_mismatch");
    assert_eq!(decide(&none).await.0, 400, "the tag of a list names no version");
    assert_eq!(decide(&first).await.0, 200);
    let (status, _, listed) = read(slos, &none).await;
    assert_eq!((status, listed["slos"][0]["version"].as_u64()), (200, Some(2)));
    let slo = "/api/v1/services/b/slos/availability";
    let (_, second, answer) = read(slo, "").await;
    assert_eq!((answer["slo"]["version"].as_u64(), read(slo, &second).await.0), (Some(2), 304));
    assert_eq!(read(slo, &first).await.0, 200);
    // What became of the recommendation is part of it.
    let (status, _, answer) = read(&one, &open).await;
    assert_eq!((status, answer["lifecycle"]["state"].as_str()), (200, Some("accepted")));

    let policy = "/api/v1/policy";
    let (_, defaults, answer) = read(policy, "").await;
    assert_eq!(answer["policy"]["tiers"][0]["four_eyes"], true);
    let body = json!({"pending_days": 3, "reason": "quicker"});
    let set = async |tag: &str| send(&up, Method::PUT, policy, &[("if-match", tag)], Some(&body)).await;
    let (status, _, answer) = set(&defaults).await;
    assert_eq!((status, answer["policy"]["version"].as_u64()), (200, Some(1)), "{answer}");
    let (status, _, problem) = set(&defaults).await;
    assert_eq!((status, problem["current_version"].as_u64()), (412, Some(1)), "{problem}");
}

#[tokio::test]
async fn keys_make_two_people_of_two_callers() {
    // What `printf KEY | sha256sum` prints.
    let keys = [
        ("15b5f344504549a217d5e34c7ae9b0af03c413536b0d0c0fc48822ac8922d3c8", "ada", "admin"),
        ("472be0fb4b6a99c6946a165dd34324a8fa6252e9b89b771708631414b7b39e17", "ada", "approver"),
        ("72ef804535b6f5be52e73a10d0ca5eb88da4808257f80f41dd55d0fac6745f77", "grace", "approver"),
        ("ec4408df15da46b328f6f3246fa723d0aa6cb0f0a0dd9c4626080ab1b02aa3b2", "eve", "reader"),
    ]
    .map(|(sha256, caller, role)| {
        format!("{{sha256=\"{sha256}\", tenant=\"default\", caller=\"{caller}\", role=\"{role}\"}}")
    });
    let keys = format!("gateway.keys=[{}]", keys.join(", "));
    let dir = folder();
    let up = Up::start(dir.path(), &["--set", "gateway.auth=keys", "--set", &keys]).await;
    let as_key = async |key: &str, method: Method, path: &str, body: Option<&Value>| {
        let (status, _, answer) = send(&up, method, path, &[("x-api-key", key)], body).await;
        (status, answer)
    };
    let graph = json!({"services": [{"id": "pay", "tier": "tier_1", "owner": "payments"}]});
    assert_eq!(as_key("ada-key", Method::POST, "/api/v1/services/dependencies", Some(&graph)).await.0, 200);
    let (status, answer) = as_key("ada-key", Method::GET, "/api/v1/services/pay/slo-recommendations", None).await;
    assert_eq!(status, 200, "{answer}");
    let decide = json!({"action": "modify", "recommendation_id": answer["recommendation"]["id"], "kind": "availability",
        "target_ratio": 0.995, "reason": "contract"});
    let (status, answer) = as_key("ada-key", Method::POST, "/api/v1/services/pay/slos", Some(&decide)).await;
    assert_eq!((status, answer["pending"]["proposed_by"].as_str()), (200, Some("ada")), "{answer}");
    let id = answer["pending"]["id"].as_str().unwrap().to_owned();
    let approve =
        async |key: &str| as_key(key, Method::POST, &format!("/api/v1/decisions/{id}/approve"), Some(&json!({}))).await;
    let (status, problem) = approve("ada-other-key").await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("same_identity")), "another key of the same person");
    assert_eq!(approve("reader-key").await.1["code"], "forbidden");
    let (_, pending) = as_key("reader-key", Method::GET, "/api/v1/decisions/pending", None).await;
    assert_eq!(pending["pending"][0]["state"], "waiting");
    let (status, answer) = approve("grace-key").await;
    assert_eq!((status, answer["slo"]["target_ratio"].as_f64()), (200, Some(0.995)), "{answer}");
    let (_, registry) = as_key("reader-key", Method::GET, "/api/v1/slos?owner=payments&tier=tier_1", None).await;
    assert_eq!(registry["slos"][0]["slo"]["service_id"], "pay", "{registry}");
    assert_eq!(as_key("grace-key", Method::GET, "/api/v1/webhooks", None).await.0, 403);
    let inside = json!({"url": "https://127.0.0.1/hook"});
    let (status, problem) = as_key("ada-key", Method::POST, "/api/v1/webhooks", Some(&inside)).await;
    assert_eq!((status, problem["errors"][0]["code"].as_str()), (400, Some("private_address")), "{problem}");
}
