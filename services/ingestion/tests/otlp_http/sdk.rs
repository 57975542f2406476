//! A genuine SDK over HTTP.

use attain_ingestion::Config;
use attain_proto::ingestion::v1 as words;
use attain_runtime::clock::Clock;
use serde_json::{Value, json};

use crate::{Served, eventually};

/// The same shop as over gRPC: what it says it sent is what is known, and its slow and failed requests can be looked up.
#[tokio::test]
async fn a_genuine_sdk_is_understood() {
    let Some(python) = std::env::var("ATTAIN_TEST_PYTHON").ok().filter(|python| !python.is_empty()) else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "ATTAIN_TEST_PYTHON is required and not set");
        eprintln!("SKIPPED: ATTAIN_TEST_PYTHON is not set");
        return;
    };
    let served = Served::start_at(Clock::system(), Config { trace_idle_seconds: 6, ..Config::default() }).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/mesh/otel_shop.py");
    let mut command = tokio::process::Command::new(python);
    command.args([script, "200"]).env("OTEL_EXPORTER_OTLP_ENDPOINT", served.url(""));
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let output = command.output().await.unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !complaints.contains("Failed to export"), "{complaints}");
    let sent: Value = serde_json::from_slice(&output.stdout).unwrap();

    let edges = eventually("the edges", async || {
        let edges = served.edges().await;
        (edges.iter().map(|edge| edge.observed_call_count).sum::<u64>() >= 600).then_some(edges)
    })
    .await;
    let told = edges.iter().map(|edge| {
        json!({
            "caller": edge.caller_id, "callee": edge.callee_id, "calls": edge.observed_call_count,
            "failures": edge.observed_failure_count, "rescued": edge.observed_rescued_count,
        })
    });
    let mut expected = sent["edges"].as_array().unwrap().clone();
    expected.sort_by_key(|edge| edge["caller"].as_str().unwrap().to_owned());
    assert_eq!(told.collect::<Vec<_>>(), expected);

    for (service, counts) in sent["services"].as_object().unwrap() {
        let buckets = served.buckets(service).await;
        assert_eq!(buckets.len(), 1, "{service}: {buckets:?}");
        assert_eq!(
            (Some(buckets[0].valid_count), Some(buckets[0].bad_count)),
            (counts["valid"].as_u64(), counts["bad"].as_u64())
        );
    }
    let request = words::ListExemplarsRequest { service_id: "price-service".into(), ..Default::default() };
    let exemplars = served.ingestion.clone().list_exemplars(request).await.unwrap().into_inner().exemplars;
    assert!(exemplars.iter().any(|exemplar| exemplar.failed), "{exemplars:?}");
    assert!(exemplars.iter().all(|exemplar| exemplar.trace_id.len() == 32 && exemplar.span_id.len() == 16));
    served.stop().await;
}
