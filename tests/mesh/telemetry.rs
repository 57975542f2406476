//! The mesh's own telemetry goes out by OTLP: here to another mesh, which sees it as it sees any service.

use std::time::Duration;

use crate::harness::{Up, eventually, folder};

#[tokio::test]
async fn one_mesh_observes_another() {
    let (observer_dir, observed_dir) = (folder(), folder());
    let observer = Up::start(observer_dir.path(), &["--set", "ingestion.trace_idle_seconds=6"]).await;
    let endpoint = format!("telemetry.otlp_endpoint={}", observer.printed["otlp"].as_str().unwrap());
    let observed = Up::start(observed_dir.path(), &["--set", &endpoint]).await;
    for _ in 0..20 {
        assert_eq!(observed.get("/api/v1/services").await.0, 200);
    }
    let found = eventually("the observed mesh is a service", Duration::from_secs(60), async || {
        let (status, answer) = observer.get("/api/v1/services/attain-mesh").await;
        (status == 200 && answer["data"]["bucket_count"].as_u64() > Some(0)).then_some(answer)
    })
    .await;
    assert!(found["data"]["sources"].as_array().unwrap().contains(&"traces".into()), "{found}");
}
