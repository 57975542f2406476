//! The gateway over loopback, with members that implement the generated server traits on the other end.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod client;
mod members;
mod operation;

use std::net::SocketAddr;
use std::sync::Arc;

use attain_gateway::{Config, Error};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use client::{ask, get, post, write_then_read};
use http::StatusCode;
use members::{Memory, Running};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A gateway and the members behind it.
struct Mesh {
    address: SocketAddr,
    memory: Arc<Memory>,
    ingestion: Running,
    _others: Vec<Running>,
    shutdown: Shutdown,
    serving: JoinHandle<Result<(), Error>>,
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn mesh_with(adjust: impl FnOnce(&mut Config)) -> Mesh {
    let memory = Arc::new(Memory::default());
    let ingestion = members::ingestion(&memory).await;
    let others = vec![members::graph(&memory).await, members::recommendation(&memory).await, members::rag().await];
    let url = |running: &Running| format!("http://{}", running.address);
    let mut config = Config {
        ingestion_url: url(&ingestion),
        graph_url: url(&others[0]),
        recommendation_url: url(&others[1]),
        rag_url: url(&others[2]),
        ..Config::default()
    };
    adjust(&mut config);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let serving =
        tokio::spawn(attain_gateway::serve(config, listener, Clock::held(1_793_491_200_000), shutdown.clone()));
    Mesh { address, memory, ingestion, _others: others, shutdown, serving }
}

async fn mesh() -> Mesh {
    mesh_with(|_| {}).await
}

#[tokio::test]
async fn half_a_batch_is_kept_and_a_cycle_is_reported() {
    let mesh = mesh().await;
    let body = json!({
        "services": [{"id": 7}, {"id": "a", "tier": "tier-1"}, {"id": "b", "depends_on": ["a"]}, {"id": "?"}],
        "dependencies": [{"caller_id": "a", "callee_id": "b"}, {"caller_id": "a", "callee_id": "a"}]
    });
    let answer = post("/api/v1/services/dependencies", body).send(mesh.address).await;
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    assert_eq!((&json["accepted_service_count"], &json["accepted_dependency_count"]), (&json!(2), &json!(1)));
    let pointers: Vec<_> =
        json["rejected"].as_array().unwrap().iter().map(|row| row["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/services/0/id", "/services/3/id", "/dependencies/1/callee_id"]);
    assert_eq!(json["rejected"][2]["code"], "self_dependency");
    assert_eq!(json["cycles"], json!([{"service_ids": ["a", "b"], "bootstrap_hazard": true}]));
    assert_eq!((&json["graph_snapshot_version"], &json["topology_version"]), (&json!(2), &json!(2)));

    let service = get("/api/v1/services/a").send(mesh.address).await.json();
    assert_eq!(service["service"]["tier"], "tier_1");
}

#[tokio::test]
async fn without_the_graph_engine_the_write_stands() {
    let graph_url = nobody().await;
    let mesh = mesh_with(|config| config.graph_url = graph_url).await;
    let answer = post("/api/v1/services/dependencies", json!({"services": [{"id": "a"}]})).send(mesh.address).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        (&answer.json()["graph_snapshot_version"], &answer.json()["accepted_service_count"]),
        (&json!(0), &json!(1))
    );
    let problem = get("/api/v1/services/a/dependencies").send(mesh.address).await;
    assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem.header("retry-after"), "1");
    assert_eq!(problem.problem()["detail"], "graph cannot be reached at the moment");
}

#[tokio::test]
async fn numbers_go_through_to_the_last_digit() {
    let mesh = mesh().await;
    for number in [0.1 + 0.2, 0.9995, 1e-9, f64::MIN_POSITIVE, 0.999_999_999_999_999_9] {
        let body = format!("{{\"action\":\"modify\",\"target_ratio\":{number:?}}}");
        let decided = post("/api/v1/services/a/slos", body).send(mesh.address).await.json();
        let read = get("/api/v1/services/a/slos").send(mesh.address).await.json();
        for json in [&decided["slo"], &read["slos"][0]] {
            assert_eq!(json["target_ratio"].as_f64().map(f64::to_bits), Some(number.to_bits()), "{json}");
        }
    }
    let answer = get("/api/v1/slo-recommendations/r").send(mesh.address).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for exact in ["0.30000000000000004", "1e-9", "2.2250738585072014e-308", "18446744073709551615"] {
        assert!(text.contains(exact), "{exact}: {text}");
    }
}

#[tokio::test]
async fn versions_are_tagged_and_matched() {
    let mesh = mesh().await;
    let recommendation = get("/api/v1/slo-recommendations/r").send(mesh.address).await;
    let tag = recommendation.header("etag").to_owned();
    assert!(tag.starts_with("\"7-"), "{tag}");
    let again = get("/api/v1/slo-recommendations/r").header("if-none-match", &tag).send(mesh.address).await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (StatusCode::NOT_MODIFIED, 0, tag.as_str()));

    let declare = json!({"action": "declare", "target_ratio": 0.99});
    let decide = |tag: &str| post("/api/v1/services/a/slos", &declare).header("if-match", tag);
    let first = decide("\"0\"").send(mesh.address).await;
    assert_eq!(first.status, StatusCode::OK);
    let stale = decide("\"0\"").send(mesh.address).await;
    assert_eq!((stale.status, &stale.problem()["code"]), (StatusCode::PRECONDITION_FAILED, &json!("version_mismatch")));
    assert_eq!(decide(first.header("etag")).send(mesh.address).await.status, StatusCode::OK);
    assert_eq!(decide("3").send(mesh.address).await.problem()["code"], "malformed_if_match");
}

#[tokio::test]
async fn every_bad_request_is_a_problem_that_names_its_place() {
    let mesh = mesh().await;
    let metrics = "/api/v1/services/a/metrics";
    let bad_row = json!({"buckets": [{"valid_count": 1, "bad_count": 2}]});
    let cases = [
        (get("/api/v2/services"), 404, "route_not_found", None),
        (get("/api/v1/services/nobody"), 404, "unknown_service", None),
        (ask("PATCH", "/api/v1/services"), 405, "method_not_allowed", None),
        (get("/api/v1/services?page=2"), 400, "invalid_request", Some("/page")),
        (get("/api/v1/services/a%FF"), 400, "invalid_request", Some("/service_id")),
        (post(metrics, "{\"buckets\": [{\"bad_count\": NaN}]}"), 400, "not_finite", Some("/buckets/0/bad_count")),
        (post(metrics, "{\"buckets\": ["), 400, "malformed_json", Some("/buckets/0")),
        (post(metrics, "{\"buckets\": {}}"), 400, "invalid_request", Some("/buckets")),
        (post(metrics, "{\"buckets\": []}"), 400, "invalid_request", Some("/buckets")),
        (post(metrics, "{\"bucket\": []}"), 400, "invalid_request", Some("/bucket")),
        (post(metrics, bad_row), 422, "nothing_accepted", Some("/buckets/0/bad_count")),
        (
            post(metrics, "{\"buckets\": [{\"valid_count\": \"NaN\"}]}"),
            422,
            "nothing_accepted",
            Some("/buckets/0/valid_count"),
        ),
        (post(metrics, "").bytes(b"{\"service_id\": \"\xff\"}"), 400, "invalid_utf8", Some("/service_id")),
        (post(metrics, ""), 400, "malformed_json", Some("")),
        (ask("POST", metrics).bytes(b"{}"), 415, "unsupported_media_type", None),
        (ask("POST", metrics).header("content-type", "text/csv").bytes(b"{}"), 415, "unsupported_media_type", None),
        (post(metrics, "{}").header("content-encoding", "gzip"), 415, "unsupported_media_type", None),
        (post("/api/v1/slos/impact-analysis", "{}"), 429, "overloaded", None),
        (get("/api/v1/services/a/slo-recommendations"), 503, "storage_down", None),
        (get("/api/v1/services/a/metrics"), 501, "not_implemented", None),
    ];
    for (ask, status, code, pointer) in cases {
        let name = format!("{ask:?}");
        let answer = ask.send(mesh.address).await;
        let problem = answer.problem();
        assert_eq!((answer.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{name}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"].as_str(), pointer, "{name}: {problem}");
    }
    let wrong_verb = ask("PATCH", "/api/v1/services").send(mesh.address).await;
    assert_eq!(wrong_verb.header("allow"), "GET, HEAD");
    let waits = get("/api/v1/services/a/slo-recommendations").send(mesh.address).await;
    assert_eq!(waits.header("retry-after"), "7");
}

#[tokio::test]
async fn what_a_member_says_of_its_insides_stays_inside() {
    let mesh = mesh().await;
    let answer = post("/api/v1/incidents", json!({"incidents": [{"id": "a"}]})).send(mesh.address).await;
    assert_eq!((answer.status, &answer.problem()["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("internal")));
    assert!(!String::from_utf8_lossy(&answer.body).contains("/var/lib"));
}

#[tokio::test]
async fn large_bodies_are_refused_and_the_refusal_can_be_read() {
    let mesh = mesh().await;
    let chunk = vec![b' '; 1_000_000];
    let head = "POST /api/v1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let announced = format!("{head}content-length: 50000000\r\n\r\n");
    let text = write_then_read(mesh.address, &announced, &chunk, 50, b"").await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("body_too_large"), "{text}");

    let piece = [format!("{:x}\r\n", chunk.len()).as_bytes(), &chunk, b"\r\n"].concat();
    let unannounced = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let text = write_then_read(mesh.address, &unannounced, &piece, 50, b"0\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.1 413") && text.contains("body_too_large"), "{text}");

    let expecting = format!("{head}content-length: 50000000\r\nexpect: 100-continue\r\n\r\n");
    let text = write_then_read(mesh.address, &expecting, b"", 0, b"").await;
    assert!(text.starts_with("HTTP/1.1 413"), "{text}");
}

#[tokio::test]
async fn a_batch_of_megabytes_goes_through() {
    let mesh = mesh().await;
    let bucket = |index: usize| json!({"service_id": "a", "start_time": "2026-11-01T00:00:00Z", "valid_count": index, "bad_count": 0});
    let buckets: Vec<_> = (0..20_000).map(bucket).collect();
    let answer = post("/api/v1/metrics", json!({"buckets": buckets})).send(mesh.address).await;
    assert_eq!(answer.json()["accepted_count"], 20_000);
    let kept = mesh.memory.buckets.lock().unwrap();
    assert_eq!(kept.last().map(|bucket| bucket.valid_count), Some(19_999.0));
}
