//! A genuine OpenTelemetry SDK with no special settings: what it sends becomes edges, rates, failures and latencies, and
//! recommendations follow.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Up, eventually, folder, provided};

const REQUESTS: u64 = 200;
const WITHIN: Duration = Duration::from_secs(60);

/// Runs the shop to its end; what it says it sent.
async fn run_shop(python: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mesh/otel_shop.py");
    let mut command = Command::new(python);
    // Settings of the machine must not reach the SDK.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    let output = command.arg(script).arg(REQUESTS.to_string()).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(!complaints.contains("Failed to export"), "{complaints}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The edges that begin at a service or below, as `caller>callee`.
async fn edges(up: &Up, service: &str) -> BTreeMap<String, Value> {
    let (status, answer) =
        up.get(&format!("/api/v1/services/{service}/dependencies?direction=downstream&depth=10")).await;
    if status != 200 {
        return BTreeMap::new();
    }
    let name =
        |edge: &Value| format!("{}>{}", edge["caller_id"].as_str().unwrap(), edge["callee_id"].as_str().unwrap());
    answer["dependencies"].as_array().unwrap().iter().map(|edge| (name(edge), edge.clone())).collect()
}

/// Sums of all buckets of a service: valid, bad, inherited; and the latencies that were kept.
async fn sums(up: &Up, service: &str) -> (u64, u64, u64, u64) {
    let (status, answer) = up.get(&format!("/api/v1/services/{service}/metrics")).await;
    if status != 200 {
        return (0, 0, 0, 0);
    }
    let buckets = answer["buckets"].as_array().unwrap();
    let sum = |key: &str| buckets.iter().map(|bucket| bucket[key].as_u64().unwrap_or(0)).sum();
    let latencies = buckets.iter().filter_map(|bucket| bucket["latency"]["bucket_counts"].as_array());
    let latency_count = latencies.flatten().map(|count| count.as_u64().unwrap()).sum();
    (sum("valid_count"), sum("bad_count"), sum("inherited_bad_count"), latency_count)
}

#[tokio::test]
async fn what_an_sdk_sends_is_what_is_known() {
    let Some(python) = provided("ATTAIN_TEST_PYTHON") else { return };
    let dir = folder();
    // The port that every SDK sends to when nobody says otherwise.
    let up = Up::start_with_otlp(dir.path(), "127.0.0.1:4317", &["--set", "ingestion.trace_idle_seconds=6"]).await;
    let sent = run_shop(&python).await;

    // Traces come to rest some seconds after their last span.
    let known = eventually("the edges of the shop", WITHIN, async || {
        let known = edges(&up, "storefront").await;
        let complete = sent["edges"].as_array().unwrap().iter().all(|edge| {
            let name = format!("{}>{}", edge["caller"].as_str().unwrap(), edge["callee"].as_str().unwrap());
            known.get(&name).is_some_and(|known| known["observed_call_count"] == edge["calls"])
        });
        complete.then(|| json!(known))
    })
    .await;
    let expected = sent["edges"].as_array().unwrap();
    assert_eq!(known.as_object().unwrap().len(), expected.len(), "no edge that is none: {known}");
    for edge in expected {
        let known = &known[format!("{}>{}", edge["caller"].as_str().unwrap(), edge["callee"].as_str().unwrap())];
        // What is zero may be left out.
        let count = |key: &str| known[key].as_u64().unwrap_or(0);
        assert_eq!(count("observed_failure_count"), edge["failures"].as_u64().unwrap(), "{edge} {known}");
        assert_eq!(count("observed_rescued_count"), edge["rescued"].as_u64().unwrap(), "{edge} {known}");
        assert_eq!((known["call_rate"].as_f64(), known["call_fraction"].as_f64()), (Some(1.0), Some(1.0)), "{known}");
        assert!(known["observed_latency"]["bucket_counts"].is_array(), "{known}");
        assert_eq!(known["sources"], json!(["traces"]), "{known}");
    }

    for (service, counts) in sent["services"].as_object().unwrap() {
        let count = |key: &str| counts[key].as_u64().unwrap();
        let valid = count("valid");
        assert_eq!(sums(&up, service).await, (valid, count("bad"), count("inherited"), valid), "{service}");
        let (_, answer) = up.get(&format!("/api/v1/services/{service}")).await;
        let sources = answer["data"]["sources"].as_array().unwrap();
        assert!(sources.contains(&json!("traces")) && sources.contains(&json!("otlp_metrics")), "{answer}");
    }
    let (_, found) = up.get("/api/v1/services?query=postgresql").await;
    assert_eq!(
        (&found["services"][0]["id"], &found["services"][0]["kind"]),
        (&json!("postgresql/prices"), &json!("datastore"))
    );

    // Five minutes are little: the answer says so.
    let (status, answer) = up.get("/api/v1/services/cart-service/slo-recommendations").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["recommendation"]["confidence"]["level"], "low", "{answer}");
    assert!(!answer["recommendation"]["confidence"]["raise_with"].as_array().unwrap().is_empty(), "{answer}");
    assert!(up.stop().await);
}
