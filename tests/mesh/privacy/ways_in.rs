//! The ways in: every REST route that takes a body with a body it accepts, addresses with parameters, headers, and OTLP. A
//! new route with a body needs an entry in [`bodies`]; the test fails where one is missing.

use serde_json::{Value, json};

use crate::harness::bucket_times;

/// The route whose body is put in place; the others are posted.
pub(crate) const PUT_TO: &str = "/api/v1/policy";

/// A route that takes a body: its path in the OpenAPI document, the path asked, and a body in which every text is replaced
/// by each canary in turn.
pub(crate) type Body = (&'static str, &'static str, Value);

/// Stands in an address for the name of a recommendation that there is.
pub(crate) const RECOMMENDATION: &str = "RECOMMENDATION_ID";

pub(crate) fn bodies() -> Vec<Body> {
    let time = bucket_times();
    let bucket = json!({
        "service_id": "shop", "start_time": time(0), "valid_count": 10, "bad_count": 1, "inherited_bad_count": 1,
        "inherited_by_dependency": {"store": 1},
        "latency_explicit": {"bounds_ms": [1.0], "counts": [1, 9]},
    });
    let regional =
        json!({"service_id": "shop", "start_time": time(0), "valid_count": 5, "bad_count": 1, "region": "here"});
    let used = json!({"service_id": "shop", "start_time": time(0), "kind": "cpu", "average": 0.5});
    let incident = json!({
        "id": "INC-1", "title": "down", "service_ids": ["shop"], "cause_service_id": "store", "start_time": time(3),
        "end_time": time(1), "summary": "it broke", "excluded": true, "exclusion_reason": "planned",
    });
    let declare = json!({"action": "declare", "kind": "availability", "target_ratio": 0.99, "reason": "why",
        "recommendation_id": ""});
    vec![
        (
            "/api/v1/services/dependencies",
            "/api/v1/services/dependencies",
            json!({
                "services": [{"id": "shop", "display_name": "Shop", "kind": "service", "tier": "tier_1", "owner": "team",
                    "region": "here", "depends_on": ["store"]}],
                "dependencies": [{"caller_id": "shop", "callee_id": "store", "mode": "hard", "protocol": "http",
                    "redundancy_group": "a"}],
            }),
        ),
        ("/api/v1/services/{service_id}/metrics", "/api/v1/services/shop/metrics", json!({"buckets": [bucket]})),
        ("/api/v1/metrics", "/api/v1/metrics", json!({"buckets": [bucket, regional]})),
        ("/api/v1/services/{service_id}/utilisation", "/api/v1/services/shop/utilisation", json!({"buckets": [used]})),
        ("/api/v1/utilisation", "/api/v1/utilisation", json!({"buckets": [used]})),
        ("/api/v1/incidents", "/api/v1/incidents", json!({"incidents": [incident]})),
        ("/api/v1/imports/{format}", "/api/v1/imports/pagerduty", pagerduty()),
        ("/api/v1/imports/{format}", "/api/v1/imports/opsgenie", opsgenie()),
        ("/api/v1/imports/{format}", "/api/v1/imports/jaeger-dependencies", jaeger_dependencies()),
        (
            "/api/v1/incidents/{incident_id}/exclusion",
            "/api/v1/incidents/INC-1/exclusion",
            json!({"excluded": true, "reason": "planned", "by": "me"}),
        ),
        (
            "/api/v1/incidents/{incident_id}/services",
            "/api/v1/incidents/INC-1/services",
            json!({"service_ids": ["shop"], "by": "me"}),
        ),
        (
            "/api/v1/maintenance-windows",
            "/api/v1/maintenance-windows",
            json!({"window_id": "W-1", "start_time": time(4), "end_time": time(2), "service_ids": ["shop"], "reason": "work"}),
        ),
        (
            "/api/v1/maintenance-windows/{window_id}/end",
            "/api/v1/maintenance-windows/W-1/end",
            json!({"end_time": time(3)}),
        ),
        (
            "/api/v1/knowledge/documents",
            "/api/v1/knowledge/documents",
            json!({"documents": [{"id": "runbooks/shop", "kind": "runbook", "title": "Shop", "text": "# Shop\n\nRestart it.",
                "service_ids": ["shop"], "owner": "team", "licence": "CC0-1.0", "source": {"uri": "runbooks/shop.md", "revision": "1"}}]}),
        ),
        (
            "/api/v1/knowledge/documents",
            "/api/v1/knowledge/documents",
            json!({"documents": [{"id": "runbooks/till", "text": "# Till\n\nRestart it.", "supersedes": ["runbooks/old"],
                "superseded_by": "runbooks/shop"}]}),
        ),
        ("/api/v1/knowledge/reconciliation", "/api/v1/knowledge/reconciliation", json!({})),
        (
            "/api/v1/knowledge/ratings",
            "/api/v1/knowledge/ratings",
            json!({"document_id": "runbooks/shop", "document_version": 1, "start_offset": 8, "end_offset": 19,
                "quote_sha256": "d4f35ddcc92f3ca1638d925d24ecaef604c6a1366d4b0a8ff903c754d44a85dc", "rating": "wrong", "reason": "why", "question": "what"}),
        ),
        (
            "/api/v1/knowledge/answers",
            "/api/v1/knowledge/answers",
            json!({"question": "how to restart the shop", "service_ids": ["shop"], "kinds": ["runbook"], "phrasing": "rephrased"}),
        ),
        ("/api/v1/services/{service_id}/slos", "/api/v1/services/shop/slos", declare),
        ("/api/v1/decisions/{decision_id}/approve", "/api/v1/decisions/pending-1/approve", json!({"reason": "why"})),
        ("/api/v1/decisions/{decision_id}/refuse", "/api/v1/decisions/pending-1/refuse", json!({"reason": "why"})),
        ("/api/v1/decisions/{decision_id}/withdraw", "/api/v1/decisions/pending-1/withdraw", json!({"reason": "why"})),
        (
            PUT_TO,
            PUT_TO,
            json!({"tiers": [{"tier": "tier_2", "recommendation_days": 30, "review_days": 90, "renewal_days": 14, "four_eyes": false,
                "automatic": {"ambition": "balanced", "steps_max": 1, "per_day_max": 1, "days_between_min": 1,
                    "service_ids": ["shop"], "owners": ["team"]}}], "reason": "why"}),
        ),
        (
            "/api/v1/webhooks",
            "/api/v1/webhooks",
            json!({"url": "https://hooks.invalid/a", "event_types": ["slo.accepted"]}),
        ),
        ("/api/v1/webhooks/{webhook_id}/secret", "/api/v1/webhooks/webhook-1/secret", json!({"overlap_hours": 1})),
        (
            "/api/v1/webhooks/{webhook_id}/deliveries/{event_id}/retry",
            "/api/v1/webhooks/webhook-1/deliveries/evt-default-1/retry",
            json!({"webhook_id": "webhook-1", "event_id": "evt-default-1"}),
        ),
        (
            "/api/v1/slo-recommendations/{recommendation_id}/feedback",
            "/api/v1/slo-recommendations/RECOMMENDATION_ID/feedback",
            json!({"feedback_kind": "wrong_dependency", "dependency_id": "store", "text": "it is gone"}),
        ),
        ("/api/v1/slos/import", "/api/v1/slos/import", json!({"text": OPENSLO})),
        (
            "/api/v1/slos/impact-analysis",
            "/api/v1/slos/impact-analysis",
            json!({"proposals": [{"service_id": "shop", "target_ratio": 0.9}]}),
        ),
        (
            "/api/v1/slos/what-if",
            "/api/v1/slos/what-if",
            json!({"changes": [
                {"set_dependency": {"caller_id": "shop", "callee_id": "store", "mode": "soft", "protocol": "http"}},
                {"attained_ratio": {"entity_id": "store", "availability_ratio": 0.9}},
                {"remove_dependency": {"caller_id": "shop", "callee_id": "store"}},
                {"own_failure": {"entity_id": "store", "own_failure_ratio": 0.1}},
                {"outage": {"region": "here"}},
            ], "outage_duration": "3600s"}),
        ),
        ("/api/v1/models", "/api/v1/models", json!({"name": "wider", "constants": {"drift": 0.3}, "note": "why"})),
        ("/api/v1/models/{version}/promote", "/api/v1/models/x/promote", json!({})),
        ("/api/v1/models/roll-back", "/api/v1/models/roll-back", json!({"version": "", "reason": "why"})),
        (
            "/api/v1/experiments",
            "/api/v1/experiments",
            json!({"name": "bolder", "unit": "team", "metric": "acceptance", "duration_days": 56, "note": "why",
                "control": {"model_version": ""}, "treatment": {"ambition": "ambitious"}}),
        ),
        ("/api/v1/experiments/{experiment_id}/stop", "/api/v1/experiments/x/stop", json!({"reason": "why"})),
    ]
}

/// As PagerDuty's webhooks of version 3.
fn pagerduty() -> Value {
    let now = jiff::Timestamp::now().to_string();
    json!({"event": {
        "id": "e1", "event_type": "incident.triggered", "resource_type": "incident", "occurred_at": now,
        "agent": {"id": "a", "type": "user_reference", "summary": "somebody"},
        "data": {
            "id": "Q1", "type": "incident", "self": "https://api.example/incidents/Q1", "html_url": "https://x.example/Q1",
            "number": 1, "status": "triggered", "incident_key": "k", "created_at": now, "title": "it broke",
            "service": {"id": "S1", "summary": "shop", "html_url": "https://x.example/S1"},
            "assignees": [{"id": "U1", "summary": "somebody"}], "priority": {"id": "P1", "summary": "P1"},
            "urgency": "high", "body": {"type": "incident_body", "details": "it broke"},
        },
    }})
}

fn opsgenie() -> Value {
    let now = jiff::Timestamp::now().as_millisecond();
    json!({
        "action": "Create", "integrationName": "web", "source": {"name": "x", "type": "api"},
        "alert": {
            "alertId": "A1", "message": "it broke", "description": "it broke", "tags": ["shop"], "tinyId": "1",
            "entity": "shop", "alias": "a", "createdAt": now, "updatedAt": now * 1_000_000, "username": "somebody",
            "priority": "P1", "team": "t", "details": {"service": "shop"},
        },
    })
}

fn jaeger_dependencies() -> Value {
    json!({"data": [{"parent": "shop", "child": "store", "callCount": 3}]})
}

/// An SLO as OpenSLO has it.
const OPENSLO: &str = "apiVersion: openslo/v1
kind: SLO
metadata: {name: shop-availability}
spec:
  service: shop
  indicator: {metadata: {name: shop}, spec: {ratioMetric: {bad: {}, total: {}}}}
  timeWindow: [{duration: 28d, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{target: 0.99}]
";

/// Addresses whose parts and parameters may hold anything; `@` is replaced by the percent-encoded canary.
pub(crate) const ADDRESSES: &[&str] = &[
    "/api/v1/services/@",
    "/api/v1/services/@/slo-recommendations",
    "/api/v1/services/shop/slo-recommendations?region=@",
    "/api/v1/services/shop/metrics?region=@",
    "/api/v1/services/@/graph-analysis",
    "/api/v1/services/@/dependencies?direction=@",
    "/api/v1/services/shop/dependencies?depth=@",
    "/api/v1/services?query=@",
    "/api/v1/services?page_token=@",
    "/api/v1/services?unknown_@=@",
    "/api/v1/services/shop/metrics?start_time=@",
    "/api/v1/services/@/utilisation?kind=@",
    "/api/v1/incidents?service_id=@",
    "/api/v1/slo-recommendations?state=@",
    "/api/v1/slo-recommendations?service_id=@",
    "/api/v1/services/@/error-budgets",
    "/api/v1/services/@/alerts?target_ratio=@",
    "/api/v1/services/shop/sla-suggestion?credit_steps=@",
    "/api/v1/services/shop/slos/export?format=@",
    "/api/v1/services/shop/slos/export?format=openslo&valid_counter=@&bad_counter=a%7Bb%3D%22@%22%7D",
    "/api/v1/slo-recommendations/@/replay",
    "/api/v1/slos?owner=@",
    "/api/v1/slos?page_token=@",
    "/api/v1/services/shop/slos/@",
    "/api/v1/webhooks/@/deliveries",
    "/api/v1/slo-recommendations/@/changes?since=@",
    "/api/v1/knowledge/documents/@",
    "/api/v1/knowledge/documents?kind=@",
    "/api/v1/knowledge/documents?id_prefix=@",
    "/api/v1/knowledge/ratings?document_id=@",
    "/api/v1/knowledge/search?query=@",
    "/api/v1/knowledge/search?query=restart&service_ids=@",
    "/api/v1/imports/@",
    "/api/v1/fleet/consistency?repairs_max=@",
    "/api/v1/graph/changes?from_version=@",
    "/api/v1/imports/jaeger-dependencies?start_time=@",
    "/api/v1/audit?page_token=@",
    "/api/v1/services/@/slos",
    "/api/v1/services/@/feedback",
    "/api/v1/drift?service_id=@",
    "/api/v1/drift?state=@&page_token=@",
    "/api/v1/models/@/scores",
    "/api/v1/experiments/@",
    "/api/v1/experiments?page_token=@",
    "/@",
];

/// Headers that a caller may fill with anything.
pub(crate) const HEADERS: &[&str] = &[
    "authorization",
    "x-api-key",
    "cookie",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "user-agent",
    "referer",
    "traceparent",
    "tracestate",
    "baggage",
    "x-request-id",
    "x-forwarded-for",
    "accept",
    "content-type",
];

/// Attributes that some convention or SDK puts on spans and points, read by ingestion or not.
const ATTRIBUTES: &[&str] = &[
    "peer.service",
    "service.peer.name",
    "server.address",
    "net.peer.name",
    "net.sock.peer.addr",
    "network.peer.address",
    "http.host",
    "url.full",
    "http.url",
    "http.target",
    "url.path",
    "url.query",
    "http.route",
    "http.request.method",
    "http.request.header.authorization",
    "http.request.header.cookie",
    "http.user_agent",
    "user_agent.original",
    "client.address",
    "http.client_ip",
    "db.system",
    "db.system.name",
    "db.name",
    "db.namespace",
    "db.statement",
    "db.query.text",
    "db.connection_string",
    "db.user",
    "messaging.system",
    "messaging.destination.name",
    "messaging.destination.template",
    "messaging.source.name",
    "messaging.source.template",
    "server.socket.address",
    "server.socket.domain",
    "messaging.message.id",
    "rpc.system",
    "rpc.service",
    "rpc.method",
    "error.type",
    "exception.message",
    "exception.stacktrace",
    "enduser.id",
    "user.email",
    "code.function",
    "graphql.document",
    "faas.trigger",
    "client",
    "server",
    "connection_type",
];

/// An OTLP/JSON export of spans with the text wherever a text can stand.
pub(crate) fn spans(text: &str, number: usize, now_ns: u64) -> Value {
    let attribute = |key: &str| json!({"key": key, "value": {"stringValue": text}});
    let all: Vec<Value> = ATTRIBUTES.iter().map(|key| attribute(key)).chain([attribute(text)]).collect();
    let span = |place: usize, kind: u32, attributes: Vec<Value>| {
        json!({
            "traceId": format!("{:032x}", number * 1000 + place + 1), "spanId": format!("{:016x}", place + 1),
            "traceState": format!("a={text}"), "name": text, "kind": kind, "startTimeUnixNano": now_ns.to_string(),
            "endTimeUnixNano": (now_ns + 1_000_000).to_string(), "attributes": attributes,
            "events": [{"timeUnixNano": now_ns.to_string(), "name": text, "attributes": [attribute("exception.message")]}],
            "links": [{"traceId": "01".repeat(16), "spanId": "01".repeat(8), "traceState": text, "attributes": all}],
            "status": {"code": 2, "message": text},
        })
    };
    // Each attribute alone, so that none hides behind another; then all together.
    let mut spans: Vec<Value> = Vec::new();
    for (place, alone) in all.iter().enumerate() {
        // A system, so that names of databases and queues are looked at.
        for (offset, system) in [(0, None), (100, Some("db.system")), (200, Some("messaging.system"))] {
            let system = system.map(|key| json!({"key": key, "value": {"stringValue": "known"}}));
            spans.push(span(place + offset, 3, system.into_iter().chain([alone.clone()]).collect()));
        }
    }
    spans.push(span(900, 2, all.clone()));
    spans.push(span(901, 3, all.clone()));
    json!({"resourceSpans": [{
        "resource": {"attributes": [attribute("service.name"), attribute("host.name"), attribute("k8s.pod.name")]},
        "scopeSpans": [{"scope": {"name": text, "version": text, "attributes": all}, "spans": spans, "schemaUrl": text}],
        "schemaUrl": text,
    }]})
}

/// An OTLP/JSON export of points with the text wherever a text can stand.
pub(crate) fn points(text: &str, now_ns: u64) -> Value {
    let attribute = |key: &str| json!({"key": key, "value": {"stringValue": text}});
    let all: Vec<Value> = ATTRIBUTES.iter().map(|key| attribute(key)).chain([attribute(text)]).collect();
    let metric = |name: &str| {
        let points: Vec<Value> = all.iter().map(|alone| vec![alone.clone()]).chain([all.clone()]).map(|attributes| json!({
            "startTimeUnixNano": (now_ns - 1_000_000_000).to_string(), "timeUnixNano": now_ns.to_string(),
            "count": "2", "sum": 0.2, "explicitBounds": [0.1], "bucketCounts": ["1", "1"], "attributes": attributes,
            "exemplars": [{"timeUnixNano": now_ns.to_string(), "asDouble": 0.1, "traceId": "02".repeat(16),
                "spanId": "02".repeat(8), "filteredAttributes": all}],
        })).collect();
        json!({"name": name, "description": text, "unit": "s",
            "histogram": {"aggregationTemporality": 1, "dataPoints": points}})
    };
    let names = [
        "http.server.request.duration",
        "http.client.request.duration",
        "rpc.client.duration",
        "db.client.operation.duration",
        "messaging.process.duration",
        "traces_service_graph_request_server_seconds",
        text,
    ];
    json!({"resourceMetrics": [{
        "resource": {"attributes": [attribute("service.name"), attribute("deployment.environment")]},
        "scopeMetrics": [{"scope": {"name": text}, "metrics": names.map(metric), "schemaUrl": text}],
    }]})
}
