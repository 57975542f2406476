//! Bad input gets a clear answer that names the field; what is good in the same request is kept.

use serde_json::{Value, json};

use crate::harness::{Up, bucket_times, client, folder};

/// The pointers and codes of a problem or of a partial success.
fn complaints(answer: &Value) -> Vec<(String, String)> {
    let list =
        answer.get("errors").or_else(|| answer.get("rejected")).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    list.iter().map(|entry| (text(entry, "pointer"), text(entry, "code"))).collect()
}

#[tokio::test]
async fn each_bad_row_is_named_and_the_rest_kept() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;

    let graph = json!({
        "services": [{"id": "good"}, {"id": "other", "tier": "platinum"}],
        "dependencies": [
            {"caller_id": "good", "callee_id": "good"},
            {"caller_id": "good", "callee_id": "store", "call_fraction": 0.5},
        ],
    });
    let (status, answer) = up.post("/api/v1/services/dependencies", &graph).await;
    assert_eq!(status, 200, "{answer}");
    let pointers: Vec<String> = complaints(&answer).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(pointers, ["/services/1/tier", "/dependencies/0/callee_id"], "{answer}");
    assert_eq!((&answer["accepted_service_count"], &answer["accepted_dependency_count"]), (&json!(1), &json!(1)));

    let future = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(48)).as_second() / 300 * 300;
    let future = jiff::Timestamp::from_second(future).unwrap().to_string();
    let time = bucket_times();
    let buckets = json!({"buckets": [
        {"start_time": time(0), "valid_count": 10, "bad_count": 1},
        {"start_time": time(1), "valid_count": 10, "bad_count": 11},
        {"start_time": time(2), "valid_count": "NaN", "bad_count": 0},
        {"start_time": future, "valid_count": 10, "bad_count": 0},
    ]});
    let (status, answer) = up.post("/api/v1/services/good/metrics", &buckets).await;
    assert_eq!((status, &answer["accepted_count"]), (200, &json!(1)), "{answer}");
    let pointers: Vec<String> = complaints(&answer).into_iter().map(|(pointer, _)| pointer).collect();
    assert_eq!(pointers, ["/buckets/1/bad_count", "/buckets/2/valid_count", "/buckets/3/start_time"], "{answer}");
}

#[tokio::test]
async fn a_cycle_is_accepted_and_reported() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let graph = json!({"services": [{"id": "a", "depends_on": ["b"]}, {"id": "b", "depends_on": ["a"]}]});
    let (status, answer) = up.post("/api/v1/services/dependencies", &graph).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["cycles"][0]["service_ids"], json!(["a", "b"]), "{answer}");
    assert_eq!(answer["cycles"][0]["bootstrap_hazard"], true);
    let (status, answer) = up.get("/api/v1/services/a/slo-recommendations").await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_problem_with_a_reason() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let send = async |body: Vec<u8>| {
        let answer = client()
            .post(format!("{}/api/v1/services/dependencies", up.gateway))
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap())
    };
    let (status, problem) = send(vec![b'{', b'"', 0xff, b'"', b'}']).await;
    assert_eq!(status, 400, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("UTF-8"), "{problem}");
    let (status, problem) = send(b"{\"services\": [}".to_vec()).await;
    assert_eq!(status, 400, "{problem}");
    let (status, problem) = send(vec![b' '; 50 * 1024 * 1024]).await;
    assert_eq!(status, 413, "{problem}");

    let (status, problem) = up.get("/api/v1/services/nobody/slo-recommendations").await;
    assert_eq!(status, 404);
    assert!(problem["detail"].as_str().unwrap().contains("nobody"), "{problem}");
    assert_eq!(up.get("/api/v1/nothing").await.0, 404);
    let nonsense = json!({"proposals": [{"service_id": "nobody", "target_ratio": 99.9}]});
    let (status, problem) = up.post("/api/v1/slos/impact-analysis", &nonsense).await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/proposals/0/target_ratio", "{problem}");
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let dir = folder();
    let rates = ["--set", "gateway.rates.reads_per_minute=60", "--set", "gateway.rates.reads_burst=5"];
    let up = Up::start(dir.path(), &rates).await;
    let mut refused = None;
    for _ in 0..50 {
        let answer = client().get(format!("{}/api/v1/services", up.gateway)).send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a caller without bounds is refused");
    let after: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(after >= 1);
    assert_eq!(refused.json::<Value>().await.unwrap()["status"], 429);
}
