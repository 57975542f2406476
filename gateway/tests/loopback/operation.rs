//! How the gateway runs: limits, identity, deadlines, readiness, the stop.

use attain_gateway::{Auth, Config, KeyConfig, Rates, Role};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use http::StatusCode;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::net::TcpListener;

use super::client::{self, Answer, ask, get, post};
use super::{mesh, mesh_with, nobody};

#[tokio::test]
async fn callers_are_limited_and_told_when_to_come_back() {
    let rates = Rates { reads_per_minute: 1, reads_burst: 2, ..Rates::default() };
    let mesh = mesh_with(|config| config.rates = rates).await;
    let first = get("/api/v1/services").send(mesh.address).await;
    assert_eq!((first.status, first.header("ratelimit")), (StatusCode::OK, "\"reads\";r=1;t=60"));
    assert_eq!(first.header("ratelimit-policy"), "\"reads\";q=1;w=60");
    get("/api/v1/services").send(mesh.address).await;
    let third = get("/api/v1/services").send(mesh.address).await;
    assert_eq!((third.status, &third.problem()["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limited")));
    let delay: u64 = third.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&delay), "{delay}");
    assert_eq!(third.header("ratelimit"), format!("\"reads\";r=0;t={delay}"));
    assert_eq!(get("/readyz").send(mesh.address).await.status, StatusCode::OK, "probes are counted apart");
    assert_eq!(get("/healthz").send(mesh.address).await.status, StatusCode::OK, "health is never limited");
    let write = post("/api/v1/services/dependencies", json!({"services": [{"id": "a"}]})).send(mesh.address).await;
    assert_eq!(write.status, StatusCode::OK, "writes are counted apart");
}

fn key(secret: &str, tenant: &str, role: Role) -> KeyConfig {
    KeyConfig {
        sha256: hex::encode(Sha256::digest(secret)),
        tenant: tenant.into(),
        caller: format!("{tenant}-{secret}"),
        role,
    }
}

#[tokio::test]
async fn keys_open_one_tenant_and_allow_what_their_role_does() {
    let keys = vec![
        key("reader", "acme", Role::Reader),
        key("proposer", "acme", Role::Proposer),
        key("approver", "acme", Role::Approver),
        key("admin", "other", Role::Admin),
    ];
    let mesh = mesh_with(|config| {
        config.auth = Auth::Keys;
        config.keys = keys;
    })
    .await;
    let nobody = get("/api/v1/services").send(mesh.address).await;
    assert_eq!(
        (nobody.status, nobody.header("www-authenticate")),
        (StatusCode::UNAUTHORIZED, "Bearer realm=\"attain\"")
    );
    nobody.problem();

    let status = async |key: &str, ask: client::Ask| {
        ask.header("authorization", format!("Bearer {key}")).send(mesh.address).await.status
    };
    let declare = || post("/api/v1/services/a/slos", json!({"action": "declare"}));
    let ingest = || post("/api/v1/services/dependencies", json!({"services": [{"id": "a"}]}));
    assert_eq!(status("guess", get("/api/v1/services")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status("reader", get("/api/v1/services")).await, StatusCode::OK);
    assert_eq!(status("reader", ingest()).await, StatusCode::FORBIDDEN);
    assert_eq!(status("proposer", ingest()).await, StatusCode::OK);
    assert_eq!(status("proposer", declare()).await, StatusCode::FORBIDDEN);
    assert_eq!(status("approver", declare()).await, StatusCode::OK);
    assert_eq!(status("approver", get("/api/v1/audit")).await, StatusCode::FORBIDDEN);
    assert_eq!(status("admin", get("/api/v1/audit")).await, StatusCode::OK);

    let list = async |key: &str| {
        get("/api/v1/services")
            .header("x-api-key", key)
            .header("x-attain-tenant", "acme")
            .send(mesh.address)
            .await
            .json()
    };
    assert_eq!(list("reader").await["services"].as_array().unwrap().len(), 1);
    assert_eq!(list("admin").await["services"], json!([]), "a header does not choose the tenant");
    let seen = mesh.memory.metadata.lock().unwrap().clone();
    assert_eq!((seen["x-attain-tenant"].as_str(), seen["x-attain-caller"].as_str()), ("other", "other-admin"));

    let claiming = get("/api/v1/services").header("x-api-key", "reader").header("x-attain-role", "admin");
    assert_eq!(claiming.send(mesh.address).await.status, StatusCode::OK);
    let seen = mesh.memory.metadata.lock().unwrap().clone();
    assert_eq!(seen["x-attain-role"], "reader", "a member learns the role of the key, whatever the caller claims");
}

#[tokio::test]
async fn a_document_travels_as_it_came_with_no_header_but_its_signature() {
    let mesh = mesh().await;
    let import = |body: &[u8]| {
        ask("POST", "/api/v1/imports/pagerduty")
            .header("content-type", "application/octet-stream")
            .header("x-pagerduty-signature", "v1=ab")
            .header("webhook-id", "msg_1")
            .header("cookie", "secret")
            .header("x-attain-role", "reader")
            .header("x-forwarded-for", "198.51.100.7")
            .bytes(body)
            .send(mesh.address)
    };
    let answer = import(b"a\xff{b").await;
    assert_eq!(answer.status, StatusCode::OK);
    let json = answer.json();
    assert_eq!((&json["accepted_incident_count"], &json["rejected"][1]["pointer"]), (&json!(2), &json!("/2")));
    let seen = mesh.memory.metadata.lock().unwrap().clone();
    assert_eq!((seen["x-pagerduty-signature"].as_str(), seen["webhook-id"].as_str()), ("v1=ab", "msg_1"));
    assert_eq!(seen["x-attain-role"], "admin", "without keys everybody may do everything");
    assert!(!seen.contains_key("cookie") && !seen.contains_key("x-forwarded-for"), "{seen:?}");
    let refused = import(b"{}").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.problem()["code"], "nothing_accepted");
}

#[tokio::test]
async fn answers_come_within_the_deadline() {
    let mesh = mesh_with(|config| config.deadline_ms = 200).await;
    let late = get("/api/v1/slo-recommendations/r/replay").send(mesh.address).await;
    assert_eq!((late.status, &late.problem()["code"]), (StatusCode::GATEWAY_TIMEOUT, &json!("deadline_exceeded")));
    get("/api/v1/services").send(mesh.address).await;
    let timeout = mesh.memory.metadata.lock().unwrap()["grpc-timeout"].clone();
    assert!(timeout.ends_with(['u', 'm', 'n']), "{timeout}");
}

#[tokio::test]
async fn what_does_not_fit_in_flight_is_refused_at_once() {
    let mesh = mesh_with(|config| config.requests_in_flight_max = 1).await;
    let waiting = tokio::spawn(get("/api/v1/slo-recommendations/r/replay").send(mesh.address));
    mesh.memory.replaying.notified().await;
    let refused = get("/api/v1/services").send(mesh.address).await;
    assert_eq!((refused.status, &refused.problem()["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("overloaded")));
    assert_eq!(refused.header("retry-after"), "1");
    mesh.memory.release.notify_one();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_tells_what_is_missing() {
    let mesh = mesh().await;
    let ready = get("/readyz").send(mesh.address).await;
    assert_eq!((ready.status, &ready.json()["ready"]), (StatusCode::OK, &json!(true)), "{}", ready.json());
    mesh.ingestion.storage.unmet("the disk is full");
    let unready = get("/readyz").send(mesh.address).await;
    assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE);
    let condition = &unready.json()["members"][0]["status"]["conditions"][0];
    assert_eq!(*condition, json!({"name": "storage", "holds": false, "required": true, "detail": "the disk is full"}));

    let rag_url = nobody().await;
    let mesh = mesh_with(|config| config.rag_url = rag_url).await;
    let unreachable = get("/readyz").send(mesh.address).await;
    assert_eq!(unreachable.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(unreachable.json()["members"][3]["reachable"], false);
}

#[tokio::test]
async fn the_gateway_tells_of_itself() {
    let mesh = mesh().await;
    let health = get("/healthz").send(mesh.address).await;
    assert_eq!(health.json()["start_time"], "2026-11-01T00:00:00Z");
    let openapi = get("/api/v1/openapi.json").send(mesh.address).await.json();
    assert_eq!(openapi["openapi"], "3.1.0");
    assert_eq!(openapi.to_string(), attain_gateway::openapi_document(&Config::default()).unwrap());
    let docs = get("/docs").send(mesh.address).await;
    assert!(docs.header("content-security-policy").contains("default-src 'none'"));
    assert!(String::from_utf8_lossy(&docs.body).contains("/api/v1/slos/impact-analysis"));
    get("/made/up").send(mesh.address).await;
    let metrics = get("/metrics").send(mesh.address).await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in [
        "http_server_request_duration_seconds_count{http_route=\"/docs\",http_request_method=\"GET\",http_response_status_code=\"200\"} 1",
        "http_server_request_duration_seconds_count{http_route=\"none\",http_request_method=\"GET\",http_response_status_code=\"404\"} 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn http2_and_head_are_answered() {
    let mesh = mesh().await;
    let answer = get("/api/v1/services").header("x-request-id", "mine-1").send_http2(mesh.address).await;
    assert_eq!((answer.status, answer.header("x-request-id")), (StatusCode::OK, "mine-1"));
    let head: Answer = ask("HEAD", "/api/v1/services").send(mesh.address).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn the_stop_lets_requests_in_flight_end() {
    let mesh = mesh().await;
    let waiting = tokio::spawn(get("/api/v1/slo-recommendations/r/replay").send(mesh.address));
    mesh.memory.replaying.notified().await;
    mesh.shutdown.cancel();
    mesh.memory.release.notify_one();
    assert_eq!(waiting.await.unwrap().status, StatusCode::OK);
    mesh.serving.await.unwrap().expect("a clean end");
}

#[tokio::test]
async fn the_stop_does_not_wait_for_ever() {
    let mesh = mesh_with(|config| config.drain_ms = 50).await;
    let waiting = tokio::spawn(get("/api/v1/slo-recommendations/r/replay").send(mesh.address));
    mesh.memory.replaying.notified().await;
    mesh.shutdown.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), mesh.serving).await.expect("in time");
    ended.unwrap().expect("a clean end");
    waiting.abort();
}

#[tokio::test]
async fn without_keys_only_loopback_is_served() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    // The setting says loopback; the socket that was handed in does not.
    let error = attain_gateway::serve(Config::default(), listener, Clock::system(), Shutdown::new())
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("gateway.auth"), "{error}");
}

#[tokio::test]
async fn a_trace_goes_on_in_the_member() {
    let endpoint = nobody().await;
    let config = attain_runtime::telemetry::TelemetryConfig {
        otlp_endpoint: Some(endpoint),
        log_filter: "off".into(),
        ..Default::default()
    };
    let telemetry = attain_runtime::telemetry::start("gateway", &config).expect("telemetry");
    let mesh = mesh().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    get("/api/v1/services").header("traceparent", format!("00-{trace}-b7ad6b7169203331-01")).send(mesh.address).await;
    let seen = mesh.memory.metadata.lock().unwrap()["traceparent"].clone();
    assert!(seen.contains(trace) && !seen.contains("b7ad6b7169203331"), "{seen}");
    std::mem::forget(telemetry);
}
