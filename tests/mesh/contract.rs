//! The contract as outsiders see it: buf's lint, reflection, health.

use std::path::Path;

use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use tokio::process::Command;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Up, folder, provided};

#[tokio::test]
async fn buf_finds_nothing_to_complain_about() {
    let Some(buf) = provided("ATTAIN_TEST_BUF") else { return };
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let output = Command::new(&buf).arg("lint").current_dir(&proto).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test]
async fn every_member_reports_health_and_says_what_it_serves() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    for (member, service) in [
        ("ingestion", "attain.ingestion.v1.IngestionService"),
        ("graph", "attain.graph.v1.GraphService"),
        ("recommendation", "attain.recommendation.v1.RecommendationService"),
        ("rag", "attain.rag.v1.KnowledgeService"),
        ("rag", "attain.rag.v1.AnswerService"),
    ] {
        let address = up.printed["members"][member].as_str().unwrap();
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        for name in ["", service] {
            let request = HealthCheckRequest { service: name.to_owned() };
            let answer = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
            assert_eq!(answer.status, 1, "{member} {name:?} is serving");
        }
        let status = StatusServiceClient::new(channel).get_status(GetStatusRequest {}).await.unwrap().into_inner();
        assert!(status.ready && status.service == member, "{status:?}");
    }
}

#[tokio::test]
async fn a_reflection_client_lists_the_service() {
    let Some(buf) = provided("ATTAIN_TEST_BUF") else { return };
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let address = up.printed["members"]["graph"].as_str().unwrap();
    // `buf curl` without a schema asks the server's reflection for it.
    let url = format!("http://{address}/attain.graph.v1.GraphService/GetSnapshot");
    let output = Command::new(&buf)
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", "{}", &url])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("snapshot"));
}
