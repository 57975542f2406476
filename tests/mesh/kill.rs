//! kill −9 in the middle of ingestion: whatever was acknowledged is there afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::harness::{Up, bucket_times, folder, get, post};

#[tokio::test]
async fn every_acknowledged_bucket_survives() {
    let dir = folder();
    let mut acknowledged_in_all = 0;
    for round in 0..3 {
        let up = Up::start(dir.path(), &[]).await;
        let service = format!("service-{round}");
        let acknowledged = Arc::new(AtomicU64::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let writer =
            tokio::spawn(write(up.gateway.clone(), service.clone(), Arc::clone(&acknowledged), Arc::clone(&stopped)));
        while acknowledged.load(Ordering::SeqCst) < 200 {
            tokio::task::yield_now().await;
        }
        up.kill_9().await;
        stopped.store(true, Ordering::SeqCst);
        writer.await.unwrap();

        let again = Up::start(dir.path(), &[]).await;
        let kept = count(&again.gateway, &service).await;
        let acknowledged = acknowledged.load(Ordering::SeqCst);
        // The write in flight may have been kept without an answer; none that was answered may be lost.
        assert!(kept >= acknowledged, "{kept} kept of {acknowledged} acknowledged");
        acknowledged_in_all += acknowledged;
        again.kill_9().await;
    }
    println!("{acknowledged_in_all} acknowledged buckets survived three kills");
}

async fn write(gateway: String, service: String, acknowledged: Arc<AtomicU64>, stopped: Arc<AtomicBool>) {
    let client = crate::harness::client();
    let time = bucket_times();
    for batch in 0.. {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let buckets: Vec<_> =
            (0..10).map(|i| json!({"start_time": time(batch * 10 + i), "valid_count": 100, "bad_count": 1})).collect();
        let request = client
            .post(format!("{gateway}/api/v1/services/{service}/metrics"))
            .header("content-type", "application/json")
            .body(json!({"buckets": buckets}).to_string());
        match request.send().await {
            Ok(answer) if answer.status().is_success() => acknowledged.fetch_add(10, Ordering::SeqCst),
            // The process is gone; so is the writer.
            _ => return,
        };
    }
}

async fn count(gateway: &str, service: &str) -> u64 {
    let (status, answer) = get(gateway, &format!("/api/v1/services/{service}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["data"]["bucket_count"].as_u64().unwrap()
}

#[tokio::test]
async fn decisions_and_documents_survive_too() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let graph = json!({"services": [{"id": "kept"}]});
    assert_eq!(post(&up.gateway, "/api/v1/services/dependencies", &graph).await.0, 200);
    let declare = json!({"action": "declare", "kind": "availability", "target_ratio": 0.9973});
    assert_eq!(post(&up.gateway, "/api/v1/services/kept/slos", &declare).await.0, 200);
    let document = json!({"documents": [{"id": "runbooks/kept", "kind": "runbook", "text": "# Zebra crossing\n\nThe zebra queue stalls when the zebra worker is paused. Restart the zebra worker."}]});
    assert_eq!(post(&up.gateway, "/api/v1/knowledge/documents", &document).await.0, 200);
    up.kill_9().await;

    let again = Up::start(dir.path(), &[]).await;
    let (_, slos) = again.get("/api/v1/services/kept/slos").await;
    assert_eq!(slos["slos"][0]["target_ratio"].as_f64(), Some(0.9973));
    let (_, found) = again.get("/api/v1/knowledge/search?query=zebra+worker+paused").await;
    assert_eq!(found["citations"][0]["document_id"], "runbooks/kept", "{found}");
}
