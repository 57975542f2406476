//! Documents of other tools, through the gateway: webhooks in any order, signatures, exclusions, what Jaeger exports.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Up, attain, buckets, client, eventually, folder};

fn minutes_ago(minutes: i64) -> String {
    (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(minutes)).to_string()
}

/// A webhook of an incident that began two hours ago on the service `Checkout Service`.
fn webhook(kind: &str, minutes: i64) -> Value {
    json!({"event": {
        "id": "01DEN4HPBQAAAG05V5QQYBRZMF", "event_type": kind, "resource_type": "incident",
        "occurred_at": minutes_ago(minutes),
        "data": {
            "id": "PGR0VU2", "type": "incident", "number": 2, "status": "", "title": "Checkout answers 503",
            "created_at": minutes_ago(120), "urgency": "high", "resolve_reason": null,
            "service": {"id": "PF9KMXH", "summary": "Checkout Service", "type": "service_reference"},
            "priority": {"id": "PSO75BM", "summary": "P1", "type": "priority_reference"}
        }
    }})
}

/// POST of any bytes with headers: status and JSON.
async fn send(up: &Up, path: &str, headers: &[(&str, String)], body: Vec<u8>) -> (u16, Value) {
    let mut request = client().post(format!("{}{path}", up.gateway)).body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

async fn checkout(up: &Up) {
    let graph = json!({"services": [{"id": "checkout-service", "tier": "tier_1"}, {"id": "cart"}]});
    assert_eq!(up.post("/api/v1/services/dependencies", &graph).await.0, 200);
}

async fn incidents(up: &Up, service: &str) -> Vec<Value> {
    let (status, answer) = up.get(&format!("/api/v1/incidents?service_id={service}")).await;
    assert_eq!(status, 200, "{answer}");
    answer["incidents"].as_array().unwrap().clone()
}

#[tokio::test]
async fn webhooks_in_any_order_and_twice_make_one_incident() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    checkout(&up).await;
    let (resolved, triggered) = (webhook("incident.resolved", 60), webhook("incident.triggered", 119));
    for document in [&resolved, &triggered, &resolved, &json!([triggered, {"event": {"event_type": "pagey.ping"}}])] {
        let (status, answer) = up.post("/api/v1/imports/pagerduty", document).await;
        assert_eq!((status, &answer["accepted_incident_count"]), (200, &json!(1)), "{answer}");
        assert_eq!(answer["warnings"], json!([]), "{answer}");
    }
    let found = incidents(&up, "checkout-service").await;
    assert_eq!(found.len(), 1);
    let incident = &found[0];
    assert_eq!((&incident["id"], &incident["priority"]), (&json!("pagerduty:PGR0VU2"), &json!("P1")));
    assert_eq!((&incident["origin"], &incident["kind"]), (&json!("pagerduty"), &json!("incident")));
    let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(time(&incident["end_time"]) - time(&incident["start_time"]), 3600);
    assert_eq!(incident.get("severity_ratio"), None, "a priority is no share of failed requests");

    let (status, answer) = up.post("/api/v1/imports/pagerduty", &json!({"event": {"event_type": "pagey.ping"}})).await;
    assert_eq!((status, &answer["ignored_count"]), (200, &json!(1)), "{answer}");
}

#[tokio::test]
async fn other_pagers_and_csv_are_read_too() {
    let dir = folder();
    let up = Up::start(dir.path(), &["--set", "ingestion.incidents.services.till=checkout-service"]).await;
    checkout(&up).await;
    let alert = json!({
        "action": "Create",
        "alert": {"alertId": "0526-52ac", "message": "till down, password=hunter2", "tags": ["service:till", "x"],
                  "createdAt": jiff::Timestamp::now().as_millisecond(), "priority": "P2", "details": {"service": "nobody"}},
        "integrationType": "Webhook"
    });
    let (status, answer) = up.post("/api/v1/imports/opsgenie", &alert).await;
    assert_eq!((status, &answer["accepted_incident_count"]), (200, &json!(1)), "{answer}");
    assert_eq!(answer["warnings"][0]["code"], "unknown_service", "{answer}");
    let found = incidents(&up, "checkout-service").await;
    assert_eq!(found[0]["service_ids"], json!(["checkout-service"]));
    assert!(!found[0]["title"].as_str().unwrap().contains("hunter2"), "{found:?}");

    let kind = "public_incident.incident_created_v2";
    let created = json!({"event_type": kind, kind: {
        "id": "01FDAG4SAP", "name": "Sad database", "created_at": minutes_ago(5), "updated_at": minutes_ago(4),
        "incident_status": {"category": "live"}, "severity": {"name": "Minor"},
        "custom_field_entries": [{"custom_field": {"name": "Service"}, "values": [{"value_text": "Cart"}]}]
    }});
    let (status, answer) = up.post("/api/v1/imports/incident-io", &created).await;
    assert_eq!((status, &answer["warnings"]), (200, &json!([])), "{answer}");
    assert_eq!(incidents(&up, "cart").await[0]["id"], "incident-io:01FDAG4SAP");

    let csv = "id;title;start_time;end_time;service_ids\n\
               INC-1;Old;2026-01-01T00:00:00Z;2026-01-01T01:00:00Z;cart checkout-service\n\
               INC-2;Older;never;;cart\n";
    let headers = [("content-type", "text/csv".to_owned())];
    let (status, answer) = send(&up, "/api/v1/imports/incidents-csv", &headers, csv.into()).await;
    assert_eq!((status, &answer["accepted_incident_count"]), (200, &json!(1)), "{answer}");
    let refused = &answer["rejected"][0];
    assert_eq!((&refused["pointer"], &refused["index"]), (&json!("/lines/3/start_time"), &json!(3)));
    assert!(refused["reason"].as_str().unwrap().starts_with("line 3, column start_time"), "{refused}");
    assert_eq!(incidents(&up, "cart").await.len(), 2);
}

#[tokio::test]
async fn what_cannot_be_read_says_where() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let json_type = [("content-type", "application/json".to_owned())];
    let mut undated = webhook("incident.triggered", 5);
    undated["event"]["occurred_at"] = "yesterday".into();
    for (format, body, status, code, pointer) in [
        ("pagerduty", undated.to_string(), 422, "nothing_accepted", "/event/occurred_at"),
        ("pagerduty", "[1, 2]".to_owned(), 422, "nothing_accepted", "/0"),
        ("opsgenie", "{\"action\": ".to_owned(), 400, "invalid_request", "/document"),
        ("xml", "{}".to_owned(), 400, "invalid_request", "/format"),
        ("pagerduty?end_time=2026-01-01T00:00:00Z", "{}".to_owned(), 400, "invalid_request", "/end_time"),
    ] {
        let path = format!("/api/v1/imports/{format}");
        let (answered, problem) = send(&up, &path, &json_type, body.into_bytes()).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)), "{format}: {problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{format}: {problem}");
    }
    let (status, problem) = send(&up, "/api/v1/imports/incidents-csv", &[], vec![b'x'; 50 * 1024 * 1024]).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body_too_large")));
}

/// The published example of HMAC with SHA-256 for the key `Jefe` (RFC 4231, test case 2): the body is no webhook, and is read
/// only where the signature is right.
#[tokio::test]
async fn a_signature_is_checked_over_the_body_as_it_came() {
    let dir = folder();
    let secrets = dir.path().join("pagerduty-secrets");
    std::fs::write(&secrets, "an older one\nJefe\n").unwrap();
    let setting = format!("ingestion.webhooks.pagerduty.secrets_file={}", secrets.display());
    let up = Up::start(&dir.path().join("data"), &["--set", &setting]).await;
    let signed = |signature: &str| [("x-pagerduty-signature", format!("v1={signature}"))];
    let right = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let post = async |headers: &[(&str, String)], body: &[u8]| {
        let (status, problem) = send(&up, "/api/v1/imports/pagerduty", headers, body.to_vec()).await;
        (status, problem["code"].as_str().unwrap().to_owned())
    };
    let body = b"what do ya want for nothing?";
    assert_eq!(post(&signed(right), body).await, (400, "invalid_request".into()), "let in, and no JSON");
    let refused = (401, "signature_refused".to_owned());
    assert_eq!(post(&signed(&right.replace('5', "6")), body).await, refused);
    assert_eq!(post(&signed(right), b"what do ya want for nothing!").await, refused);
    assert_eq!(post(&[], body).await, refused);
    // Other formats have secrets of their own.
    assert_eq!(up.post("/api/v1/imports/opsgenie", &json!({"action": "AddNote"})).await.0, 200);
}

fn availability(recommendation: &Value) -> Value {
    let slis = recommendation["slis"].as_array().unwrap();
    slis.iter().find(|sli| sli["kind"] == "availability").unwrap()["measured"]["attained_ratio"].clone()
}

/// Recommends until the answer is fresh and satisfies: changes travel to the recommendation service by a stream.
async fn recommended(up: &Up, what: &str, satisfies: impl Fn(&Value) -> bool) -> Value {
    let satisfies = &satisfies;
    let ask = || async move {
        let (status, answer) = up.get("/api/v1/services/checkout-service/slo-recommendations").await;
        (status == 200 && satisfies(&answer["recommendation"])).then(|| answer["recommendation"].clone())
    };
    eventually(what, Duration::from_secs(30), ask).await
}

/// Two weeks of checkout, one hour of which failed half of all requests.
async fn with_an_outage(up: &Up) {
    checkout(up).await;
    let mut rows = buckets("checkout-service", 14 * 288, 1000, 1);
    rows.iter_mut().skip(12).take(12).for_each(|row| row["bad_count"] = 500.into());
    let (status, answer) = up.post("/api/v1/services/checkout-service/metrics", &json!({"buckets": rows})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn an_exclusion_by_a_person_changes_the_estimate_and_no_webhook_undoes_it() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    with_an_outage(&up).await;
    let before = recommended(&up, "with the outage", |r| availability(r).is_number()).await;
    assert_eq!(up.post("/api/v1/imports/pagerduty", &webhook("incident.resolved", 60)).await.0, 200);

    let path = "/api/v1/incidents/pagerduty%3APGR0VU2/exclusion";
    let (status, problem) = up.post(path, &json!({"excluded": true})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/reason")), "{problem}");
    let (status, answer) = up.post(path, &json!({"excluded": true, "reason": "load test", "by": "jane"})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["incident"]["excluded"], &answer["incident"]["exclusion_by"]), (&json!(true), &json!("jane")));

    let excluded = |r: &Value| r["data"]["exclusions"].as_array().is_some_and(|list| list.len() == 1);
    let after = recommended(&up, "without the outage", excluded).await;
    assert!(availability(&after).as_f64() > availability(&before).as_f64(), "{before} {after}");
    assert_eq!(after["data"]["exclusions"][0]["reason"], "incident pagerduty:PGR0VU2: load test");

    assert_eq!(up.post("/api/v1/imports/pagerduty", &webhook("incident.reopened", 50)).await.0, 200);
    assert_eq!(up.post("/api/v1/imports/pagerduty", &webhook("incident.resolved", 40)).await.0, 200);
    let kept = incidents(&up, "checkout-service").await.remove(0);
    assert_eq!((&kept["excluded"], &kept["exclusion_reason"]), (&json!(true), &json!("load test")));
    assert!(kept["exclusion_time"].is_string());

    let (status, answer) = up.post(path, &json!({"excluded": false, "by": "jane"})).await;
    assert_eq!((status, &answer["incident"]["excluded"]), (200, &json!(false)), "{answer}");
    let counted = recommended(&up, "with it again", |r| r["data"]["exclusions"] == json!([])).await;
    assert_eq!(availability(&counted), availability(&before));

    let (status, problem) = up.post("/api/v1/incidents/nobody/exclusion", &json!({"excluded": false})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("unknown_incident")));
}

#[tokio::test]
async fn planned_work_is_left_out_until_it_is_removed() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    with_an_outage(&up).await;
    let before = recommended(&up, "with the outage", |r| availability(r).is_number()).await;
    let window = json!({
        "window_id": "drill", "start_time": minutes_ago(125), "end_time": minutes_ago(60),
        "service_ids": ["checkout-service"], "reason": "failover drill"
    });
    let (status, answer) = up.post("/api/v1/maintenance-windows", &window).await;
    assert_eq!((status, &answer["window"]["kind"]), (200, &json!("maintenance")), "{answer}");
    assert_eq!(incidents(&up, "checkout-service").await[0]["excluded"], true);
    let excluded = |r: &Value| r["data"]["exclusions"].as_array().is_some_and(|list| list.len() == 1);
    let without = recommended(&up, "without the drill", excluded).await;
    assert!(availability(&without).as_f64() > availability(&before).as_f64());
    assert_eq!(without["data"]["exclusions"][0]["reason"], "maintenance drill: failover drill");
    assert_eq!(without["data"]["incident_count"], 0, "planned work is no incident");

    let (status, problem) = up.post("/api/v1/incidents/drill/exclusion", &json!({"excluded": false})).await;
    assert_eq!((status, &problem["errors"][0]["code"]), (400, &json!("is_maintenance")), "{problem}");
    let (status, ended) = up.post("/api/v1/maintenance-windows/drill/end", &json!({"end_time": minutes_ago(90)})).await;
    assert_eq!(status, 200, "{ended}");
    assert_ne!(ended["window"]["end_time"], answer["window"]["end_time"]);
    let (status, problem) =
        up.post("/api/v1/maintenance-windows/drill/end", &json!({"end_time": minutes_ago(200)})).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/end_time")), "{problem}");

    let path = "/api/v1/maintenance-windows/drill";
    let gone = client().delete(format!("{}{path}", up.gateway)).send().await.unwrap();
    assert_eq!(gone.status(), 200);
    let again = client().delete(format!("{}{path}", up.gateway)).send().await.unwrap();
    assert_eq!(again.status(), 404);
    let counted = recommended(&up, "with it again", |r| r["data"]["exclusions"] == json!([])).await;
    assert_eq!(availability(&counted), availability(&before));
}

#[tokio::test]
async fn an_incident_of_an_unknown_service_is_kept_and_linked_by_hand() {
    let dir = folder();
    let up = Up::start(dir.path(), &[]).await;
    let graph = json!({"services": [{"id": "till"}]});
    assert_eq!(up.post("/api/v1/services/dependencies", &graph).await.0, 200);
    let (status, answer) = up.post("/api/v1/imports/pagerduty", &webhook("incident.triggered", 5)).await;
    assert_eq!((status, &answer["warnings"][0]["code"]), (200, &json!("unknown_service")), "{answer}");
    assert!(answer["warnings"][0]["reason"].as_str().unwrap().contains("Checkout Service"));
    assert!(incidents(&up, "till").await.is_empty());

    let path = "/api/v1/incidents/pagerduty%3APGR0VU2/services";
    let (status, answer) = up.post(path, &json!({"service_ids": ["till"], "by": "jane"})).await;
    assert_eq!((status, &answer["incident"]["service_ids"]), (200, &json!(["till"])), "{answer}");
    assert_eq!(up.post("/api/v1/imports/pagerduty", &webhook("incident.resolved", 1)).await.0, 200);
    let linked = incidents(&up, "till").await.remove(0);
    assert!(linked["end_time"].is_string() && linked["services_by"] == "jane", "{linked}");
}

async fn import(up: &Up, arguments: &[&str], file: &Path) -> (bool, Value) {
    let output = attain()
        .args(["--url", &up.gateway, "--format", "json", "import"])
        .args(arguments)
        .arg(file)
        .output()
        .await
        .unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (
        output.status.success(),
        serde_json::from_slice(&text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&text))),
    )
}

#[tokio::test]
async fn what_jaeger_exports_becomes_edges_by_the_command() {
    let dir = folder();
    let fast = ["--set", "ingestion.trace_idle_seconds=1", "--set", "ingestion.trace_max_seconds=5"];
    let up = Up::start(&dir.path().join("data"), &fast).await;
    let file = dir.path().join("dependencies.json");
    let rows = json!({"data": [
        {"parent": "front", "child": "cart", "callCount": 7},
        {"parent": "front", "child": "front", "callCount": 2},
    ]});
    std::fs::write(&file, rows.to_string()).unwrap();
    let (start, end) = (minutes_ago(60), minutes_ago(5));
    let window = ["jaeger-dependencies", "--start-time", &start, "--end-time", &end];
    for _ in 0..2 {
        let (ok, answer) = import(&up, &window, &file).await;
        assert!(ok && answer["accepted_dependency_count"] == 1, "{answer}");
        assert_eq!(answer["rejected"][0]["pointer"], "/data/1/child");
    }
    let edge = async |caller: &str| up.get(&format!("/api/v1/services/{caller}/dependencies?depth=1")).await.1;
    let counted = |answer: Value| {
        let first = answer["dependencies"].get(0)?.clone();
        (first["observed_call_count"] != 0).then_some(first)
    };
    let cart = eventually("the edge", Duration::from_secs(20), || async { counted(edge("front").await) }).await;
    assert_eq!((&cart["callee_id"], &cart["observed_call_count"]), (&json!("cart"), &json!(7)), "twice adds nothing");
    assert_eq!(cart["sources"], json!(["jaeger"]));
    assert!(cart["observed_failure_count"].is_null() && cart["call_rate"].is_null(), "Jaeger knows calls only: {cart}");
    let other_start = minutes_ago(90);
    let overlapping = ["jaeger-dependencies", "--start-time", &other_start, "--end-time", &end];
    let (ok, answer) = import(&up, &overlapping, &file).await;
    assert!(!ok, "the same calls would count twice: {answer}");

    let span = |id: &str, process: &str, parent: Option<&str>, start: i64| {
        let references: Vec<Value> =
            parent.map(|id| json!({"refType": "CHILD_OF", "traceID": "7e57", "spanID": id})).into_iter().collect();
        json!({"traceID": "7e57", "spanID": id, "operationName": "op", "references": references, "startTime": start,
               "duration": 100, "processID": process, "tags": [], "logs": [], "warnings": null})
    };
    let spans = [span("a", "p1", None, 0), span("b", "p2", Some("a"), 10), span("0", "p2", Some("a"), 10)];
    let processes = json!({"p1": {"serviceName": "web", "tags": []}, "p2": {"serviceName": "store", "tags": []}});
    let traces = json!({"data": [{"traceID": "7e57", "spans": spans, "processes": processes}]});
    let file = dir.path().join("traces.json");
    std::fs::write(&file, traces.to_string()).unwrap();
    let (ok, answer) = import(&up, &["jaeger-traces"], &file).await;
    assert!(!ok, "fifty years old: {answer}");
    let (ok, answer) = import(&up, &["jaeger-traces", "--end-time", &minutes_ago(1)], &file).await;
    assert!(ok && answer["accepted_span_count"] == 2, "{answer}");
    assert_eq!(answer["rejected"][0]["pointer"], "/data/0/spans/2/spanID", "{answer}");
    let store = eventually("the traced edge", Duration::from_secs(60), || async { counted(edge("web").await) }).await;
    assert_eq!((&store["callee_id"], &store["sources"]), (&json!("store"), &json!(["traces"])), "{store}");
}
