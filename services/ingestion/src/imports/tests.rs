use attain_vocabulary::DAY_MS;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::IncidentsConfig;
use crate::domain::IncidentSender;

/// 2026-11-01T12:00:00Z.
const NOW_MS: i64 = 1_793_534_400_000;

fn reading() -> Reading {
    Reading {
        limits: BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 400 },
        rows_max: 1_000,
        service_fields: IncidentsConfig::default().service_fields,
        start_ms: None,
        end_ms: None,
        sender: IncidentSender { name: "ci".into(), may_approve: true },
    }
}

fn read_json(format: Format, document: &Value) -> Contents {
    read(format, document.to_string().as_bytes(), &reading()).expect("a document")
}

fn event(contents: &Contents) -> (&IncidentEvent, Vec<&str>) {
    let told = contents.incidents.first().unwrap_or_else(|| panic!("{contents:?}"));
    let IncidentNews::Event(event) = &told.news else { panic!("a report") };
    (&**event, told.named.iter().flat_map(|service| &service.names).map(String::as_str).collect())
}

fn complaint(contents: Contents) -> (String, &'static str) {
    let mut list = contents.rejected.list();
    assert_eq!(list.len(), 1, "{list:?}");
    let complaint = list.remove(0);
    (complaint.pointer, complaint.code)
}

fn time(text: &str) -> Option<i64> {
    text.parse().ok().map(|time: jiff::Timestamp| time.as_millisecond())
}

fn pagerduty(kind: &str, status: &str) -> Value {
    json!({"event": {
        "id": "5ac64822-4adc-4fda-ade0-410becf0de4f",
        "event_type": kind,
        "resource_type": "incident",
        "occurred_at": "2026-11-01T10:05:00.169Z",
        "agent": {"id": "PLH1HKV", "summary": "Tenex Engineer", "type": "user_reference"},
        "client": {"name": "PagerDuty"},
        "data": {
            "id": "PGR0VU2", "type": "incident", "number": 2, "status": status,
            "created_at": "2026-11-01T10:00:00Z", "title": "Checkout answers 503",
            "service": {"id": "PF9KMXH", "summary": "API Service", "type": "service_reference"},
            "assignees": [{"id": "PTUXL6G", "summary": "User 123", "type": "user_reference"}],
            "priority": {"id": "PSO75BM", "summary": "P1", "type": "priority_reference"},
            "urgency": "high", "resolve_reason": null
        }
    }})
}

#[test]
fn events_of_pagerduty() {
    let occurred = time("2026-11-01T10:05:00.169Z");
    for (kind, status, end_ms) in [
        ("incident.triggered", "triggered", Some(None)),
        ("incident.acknowledged", "acknowledged", Some(None)),
        ("incident.reopened", "triggered", Some(None)),
        ("incident.resolved", "resolved", Some(occurred)),
        ("incident.priority_updated", "acknowledged", Some(None)),
        ("incident.priority_updated", "resolved", None),
    ] {
        let contents = read_json(Format::Pagerduty, &pagerduty(kind, status));
        let (event, names) = event(&contents);
        assert_eq!((event.id.as_str(), event.end_ms), ("pagerduty:PGR0VU2", end_ms), "{kind}");
        assert_eq!((Some(event.time_ms), event.start_ms), (occurred, time("2026-11-01T10:00:00Z")));
        assert_eq!((event.title.as_deref(), event.priority.as_deref()), (Some("Checkout answers 503"), Some("P1")));
        assert_eq!(names, ["API Service", "PF9KMXH"]);
    }
    let several =
        json!([pagerduty("incident.annotated", ""), pagerduty("pagey.ping", ""), pagerduty("incident.resolved", "")]);
    let contents = read_json(Format::Pagerduty, &several);
    assert_eq!((contents.ignored_count, contents.incidents.len()), (2, 1));
    assert_eq!((contents.incidents[0].index, contents.incidents[0].pointer.as_str()), (2, "/2"));
}

#[test]
fn events_of_opsgenie() {
    let alert = |action: &str, more: Value| {
        let mut document = json!({
            "action": action,
            "alert": {
                "alertId": "052652ac-5d1c-464a-812a-7dd18bbfba8c", "message": "queue is full", "tinyId": "28",
                "tags": ["service:payment-service", "env:live"], "entity": "host-17", "alias": "x",
                "createdAt": 1_793_527_200_000_i64, "updatedAt": 1_793_527_500_000_000_173_i64,
                "username": "someone", "details": {"Service": "cart, checkout", "region": "eu"}, "priority": "P3"
            },
            "source": {"name": "web", "type": "API"}, "integrationType": "Webhook"
        });
        for (name, value) in more.as_object().expect("fields") {
            document["alert"][name] = value.clone();
        }
        document
    };
    for (action, end_ms) in [
        ("Create", Some(None)),
        ("Acknowledge", Some(None)),
        ("UpdatePriority", None),
        ("Close", Some(Some(1_793_527_500_000))),
    ] {
        let contents = read_json(Format::Opsgenie, &alert(action, json!({})));
        let (event, names) = event(&contents);
        assert_eq!((event.time_ms, event.start_ms), (1_793_527_500_000, Some(1_793_527_200_000)), "{action}");
        assert_eq!((event.end_ms, event.priority.as_deref()), (end_ms, Some("P3")), "{action}");
        assert_eq!(names, ["cart", "checkout", "payment-service", "host-17"]);
    }
    let texts = json!({"createdAt": "1793527200000", "updatedAt": "1793527500000000173"});
    assert_eq!(event(&read_json(Format::Opsgenie, &alert("Close", texts))).0.time_ms, 1_793_527_500_000);
    assert_eq!(read_json(Format::Opsgenie, &alert("AddNote", json!({}))).ignored_count, 1);
    let bad = alert("Create", json!({"createdAt": "yesterday"}));
    assert_eq!(complaint(read_json(Format::Opsgenie, &bad)), ("/alert/createdAt".into(), "out_of_range"));
}

fn incident_io(kind: &str, category: &str, marks: Value) -> Value {
    let incident = json!({
        "id": "01FDAG4SAP5TYPT98WGR2N7W91", "reference": "INC-123", "name": "Our database is sad",
        "summary": "password=hunter2 was logged", "mode": "standard", "visibility": "public",
        "created_at": "2026-11-01T10:00:00.801578Z", "updated_at": "2026-11-01T11:00:00Z",
        "incident_status": {"category": category, "name": "x"}, "severity": {"name": "Minor", "rank": 1},
        "incident_timestamp_values": marks,
        "custom_field_entries": [
            {"custom_field": {"name": "Affected services", "field_type": "multi_select"},
             "values": [{"value_catalog_entry": {"name": "Payment Service", "external_id": "payment-service"}},
                        {"value_option": {"value": "cart"}}]},
            {"custom_field": {"name": "Root cause"}, "values": [{"value_text": "disk"}]}
        ]
    });
    if kind.contains("status_updated") {
        return json!({"event_type": kind, kind: {"incident": incident, "message": "over", "new_status": {}}});
    }
    json!({"event_type": kind, kind: incident})
}

#[test]
fn events_of_incident_io() {
    let created = "public_incident.incident_created_v2";
    let changed = "public_incident.incident_status_updated_v2";
    let marks = json!([
        {"incident_timestamp": {"name": "Impact started at"}, "value": {"value": "2026-11-01T09:50:00Z"}},
        {"incident_timestamp": {"name": "Resolved at"}, "value": {"value": "2026-11-01T10:40:00Z"}},
        {"incident_timestamp": {"name": "Fixed at"}, "value": null},
    ]);
    let (ten, eleven) = (time("2026-11-01T10:00:00.801Z"), time("2026-11-01T11:00:00Z"));
    for (kind, category, marks, start_ms, end_ms, dismissed) in [
        (created, "triage", json!([]), ten, Some(None), Some(false)),
        (created, "live", json!([]), ten, Some(None), Some(false)),
        (changed, "learning", json!([]), ten, Some(eleven), Some(false)),
        (changed, "declined", json!([]), ten, Some(eleven), Some(true)),
        (changed, "merged", json!([]), ten, Some(eleven), Some(true)),
        (changed, "canceled", json!([]), ten, Some(eleven), Some(true)),
        (changed, "closed", marks, time("2026-11-01T09:50:00Z"), Some(time("2026-11-01T10:40:00Z")), Some(false)),
        (changed, "unheard-of", json!([]), ten, None, None),
    ] {
        let contents = read_json(Format::IncidentIo, &incident_io(kind, category, marks));
        let (event, names) = event(&contents);
        assert_eq!(
            (event.id.as_str(), event.start_ms),
            ("incident-io:01FDAG4SAP5TYPT98WGR2N7W91", start_ms),
            "{category}"
        );
        assert_eq!((event.end_ms, event.priority.as_deref()), (end_ms, Some("Minor")), "{category}");
        assert_eq!(event.dismissed, dismissed, "{category}");
        assert_eq!(names, ["Payment Service", "payment-service", "cart"]);
        assert!(!event.summary.as_deref().unwrap_or_default().contains("hunter2"));
    }
    let mut drill = incident_io(created, "live", json!([]));
    drill[created]["mode"] = "test".into();
    for ignored in [
        drill,
        json!({"event_type": "private_incident.incident_created_v2", "private_incident.incident_created_v2": {"id": "x"}}),
        json!({"event_type": "public_incident.follow_up_created_v2"}),
    ] {
        assert_eq!(read_json(Format::IncidentIo, &ignored).ignored_count, 1, "{ignored}");
    }
}

#[test]
fn a_malformed_event_is_placed() {
    let without = |pointer: &str| {
        let mut document = pagerduty("incident.triggered", "triggered");
        *document.pointer_mut(pointer).expect("there") = Value::Null;
        document
    };
    let with = |pointer: &str, value: Value| {
        let mut document = pagerduty("incident.triggered", "triggered");
        *document.pointer_mut(pointer).expect("there") = value;
        document
    };
    for (document, pointer, code) in [
        (json!({}), "/event", "required"),
        (json!(7), "", "wrong_type"),
        (without("/event/event_type"), "/event/event_type", "required"),
        (without("/event/data"), "/event/data", "required"),
        (without("/event/data/id"), "/event/data/id", "required"),
        (with("/event/occurred_at", json!("yesterday")), "/event/occurred_at", "malformed_time"),
        (with("/event/occurred_at", json!("2027-01-01T00:00:00Z")), "/time", "future_time"),
        (with("/event/data/title", json!(["x"])), "/event/data/title", "wrong_type"),
        (with("/event/data/id", json!("x".repeat(300))), "/id", "too_long"),
        (with("/event/data/service", json!({"summary": 7})), "/event/data/service/summary", "wrong_type"),
    ] {
        assert_eq!(complaint(read_json(Format::Pagerduty, &document)), (pointer.to_owned(), code));
    }
    let second = json!([pagerduty("incident.triggered", ""), {"event": {"event_type": 5}}]);
    assert_eq!(complaint(read_json(Format::Pagerduty, &second)), ("/1/event/event_type".into(), "wrong_type"));
}

#[test]
fn a_document_that_cannot_be_read_is_refused_whole() {
    for (format, bytes, code) in [
        (Format::Pagerduty, &b"{\"event\": "[..], "malformed_json"),
        (Format::Opsgenie, b"\xff\xfe", "malformed_json"),
        (Format::JaegerTraces, b"{\"data\": 5}", "wrong_type"),
        (Format::JaegerDependencies, b"{\"data\": {}}", "wrong_type"),
        (Format::IncidentsCsv, b"", "required"),
        (Format::IncidentsCsv, b"id,title\n", "missing_column"),
        (Format::IncidentsCsv, b"id,title,start_time,id\n", "repeated_column"),
    ] {
        let error = read(format, bytes, &reading()).expect_err(code);
        assert_eq!((error.field.as_str(), error.code), ("document", code));
    }
    let few = Reading { rows_max: 1, ..reading() };
    let two = json!([pagerduty("incident.triggered", ""), pagerduty("incident.triggered", "")]).to_string();
    assert_eq!(read(Format::Pagerduty, two.as_bytes(), &few).expect_err("too many").code, "too_many");
    let lines = b"id,title,start_time\na,b,2026-11-01T00:00:00Z\nc,d,2026-11-01T00:00:00Z\n";
    assert_eq!(read(Format::IncidentsCsv, lines, &few).expect_err("too many").code, "too_many");
    let edges = br#"[{"parent":"a","child":"b","callCount":1},{"parent":"a","child":"c","callCount":1}]"#;
    assert_eq!(read(Format::JaegerDependencies, edges, &few).expect_err("too many").code, "too_many");
    let error = Format::named("xml").expect_err("no such format");
    assert!(error.reason.contains("pagerduty") && error.field == "format");
}

#[test]
fn incidents_as_comma_separated_values() {
    let text = "\u{feff}id,Title,start_time,end_time,service_ids,severity_ratio,excluded,exclusion_reason,kind,Team\r\n\
         INC-1,\"Down, \"\"hard\"\"\",2026-10-01T10:00:00Z,2026-10-01T11:00:00+01:00,cart checkout,0.25,yes,drill,,x\r\n\
         INC-2,\"two\nlines\",2026-10-02T10:00:00Z,2026-10-03T10:00:00Z,a|b,,,,maintenance,x\r\n\
         INC-3,Late,2026-10-02,,,,,,,x\r\n\
         INC-4,Bad,2026-10-02T10:00:00Z,2026-10-01T10:00:00Z,,,,,,x\r\n\
         INC-5,Bad,2026-10-02T10:00:00Z,,,much,,,,x\r\n\
         INC-6,Short,2026-10-02T10:00:00Z\r\n\
         INC-7,Bad,2026-10-02T10:00:00Z,,good b\u{e4}d,,,,,x\r\n";
    let contents = read(Format::IncidentsCsv, text.as_bytes(), &reading()).expect("a document");
    let reports: Vec<_> = contents
        .incidents
        .iter()
        .map(|told| match &told.news {
            IncidentNews::Report(incident) => (told.index, incident),
            IncidentNews::Event(_) => panic!("a report"),
        })
        .collect();
    let (line, first) = reports[0];
    assert_eq!((line, first.title.as_str(), first.exclusion()), (2, "Down, \"hard\"", (true, Some("drill"))));
    assert_eq!(first.services.len(), 2);
    assert_eq!(first.end_ms, Some(first.start_ms), "ten in the morning either way");
    assert_eq!((reports[1].0, reports[1].1.exclusion().0, reports.len()), (3, true, 2));
    let refused: Vec<_> = contents.rejected.list().into_iter().map(|c| (c.index, c.pointer, c.code)).collect();
    let at = |line: usize, column: &str, code| (line, format!("/lines/{line}{column}"), code);
    assert_eq!(
        refused,
        [
            at(5, "/start_time", "malformed_time"),
            at(6, "/end_time", "ends_before_start"),
            at(7, "/severity_ratio", "not_a_number"),
            at(8, "", "wrong_column_count"),
            at(9, "/service_ids", "malformed_name"),
        ]
    );
    let warnings = contents.warnings.list();
    assert_eq!((warnings.len(), warnings[0].pointer.as_str()), (1, "/lines/1/team"));

    let proposer = Reading { sender: IncidentSender::default(), ..reading() };
    let contents = read(Format::IncidentsCsv, text.as_bytes(), &proposer).expect("a document");
    let refused: Vec<_> = contents.rejected.list().into_iter().map(|c| (c.index, c.pointer, c.code)).collect();
    let unapproved = [at(2, "/excluded", "needs_approver"), at(3, "/start_time", "needs_approver")];
    assert_eq!((&refused[..2], contents.incidents.len()), (&unapproved[..], 0));

    let semicolons = "id;title;start_time\nINC-1;a, b;2026-10-01T10:00:00Z\n";
    assert_eq!(read(Format::IncidentsCsv, semicolons.as_bytes(), &reading()).expect("a document").incidents.len(), 1);
}

#[test]
fn dependencies_of_jaeger() {
    let document = json!({"data": [
        {"parent": "frontend", "child": "customer service", "callCount": 5},
        {"parent": "frontend", "child": "customer service", "callCount": "2"},
        {"parent": "a", "child": "a", "callCount": 1},
        {"parent": "a", "callCount": 1},
        {"parent": "a", "child": "b", "callCount": -1},
    ], "total": 0, "errors": null});
    let contents = read_json(Format::JaegerDependencies, &document);
    let edges: Vec<_> = contents.edges.iter().map(|edge| (edge.key.callee().as_str(), edge.call_count)).collect();
    assert_eq!(edges, [("customer-service", 7)]);
    let refused: Vec<_> = contents.rejected.list().into_iter().map(|c| (c.index, c.pointer, c.code)).collect();
    let at = |index, pointer: &str, code| (index, pointer.to_owned(), code);
    assert_eq!(
        refused,
        [
            at(2, "/data/2/child", "self_dependency"),
            at(3, "/data/3/child", "required"),
            at(4, "/data/4/callCount", "out_of_range"),
        ]
    );
}

fn span(id: &str, process: &str, parent: Option<&str>) -> Value {
    let references: Vec<Value> =
        parent.map(|parent| json!({"refType": "CHILD_OF", "traceID": "1f", "spanID": parent})).into_iter().collect();
    json!({
        "traceID": "1f", "spanID": id, "operationName": "op", "references": references, "processID": process,
        "startTime": NOW_MS * 1_000 - 5_000_000, "duration": 1_500, "tags": [], "warnings": null
    })
}

fn trace(spans: Vec<Value>) -> Value {
    let processes = json!({"p1": {"serviceName": "front", "tags": []}, "p2": {"serviceName": "back", "tags": []}});
    json!({"data": [{"traceID": "1f", "spans": spans, "processes": processes}]})
}

#[test]
fn traces_of_jaeger_become_spans() {
    let mut called = span("b", "p2", Some("a"));
    called["tags"] = json!([
        {"key": "error", "type": "bool", "value": true},
        {"key": "http.status_code", "type": "int64", "value": "503"},
        {"key": "blob", "type": "binary", "value": "AA=="},
    ]);
    let mut asked = span("0000000000000a0c", "p1", Some("a"));
    asked["tags"] = json!([{"key": "span.kind", "type": "string", "value": "client"}]);
    let mut follows = span("not-hexadecimal", "p2", None);
    follows["references"] = json!([
        {"refType": "FOLLOWS_FROM", "traceID": "2f", "spanID": "c"},
        {"refType": "FOLLOWS_FROM", "traceID": "1f", "spanID": "a"},
    ]);
    let contents = read_json(Format::JaegerTraces, &trace(vec![span("a", "p1", None), called, asked, follows]));
    assert_eq!((contents.span_count, contents.rejected.count()), (4, 0));
    let found: std::collections::BTreeMap<Vec<u8>, _> = contents
        .spans
        .resource_spans
        .iter()
        .flat_map(|of| of.scope_spans.iter().flat_map(|scope| &scope.spans))
        .map(|span| (span.span_id.clone(), span))
        .collect();
    let of = |id: u64| found[&id.to_be_bytes().to_vec()];
    let (root, called, asked) = (of(0xa), of(0xb), of(0xa0c));
    assert_eq!((root.kind, root.parent_span_id.len(), root.trace_id.last()), (2, 0, Some(&0x1f)));
    assert_eq!((called.kind, called.parent_span_id.last()), (2, Some(&0xa)), "another service was called");
    assert_eq!(called.status.as_ref().map(|status| status.code), Some(2));
    assert_eq!(called.attributes.len(), 2, "no binary ones");
    assert_eq!(called.end_time_unix_nano - called.start_time_unix_nano, 1_500_000);
    assert_eq!(asked.kind, 3);
    let hashed = found.values().find(|span| !span.links.is_empty()).expect("one that follows");
    assert_eq!((hashed.parent_span_id.last(), hashed.links.len()), (Some(&0xa), 1));
    assert_eq!(contents.spans.resource_spans.len(), 2, "one for each process");
}

#[test]
fn spans_that_cannot_be_right_are_placed_and_old_ones_can_be_moved() {
    let with = |name: &str, value: Value| {
        let mut bad = span("b", "p1", None);
        bad[name] = value;
        trace(vec![span("a", "p1", None), bad])
    };
    for (document, pointer, code) in [
        (with("spanID", Value::Null), "/data/0/spans/1/spanID", "required"),
        (with("spanID", json!("0000")), "/data/0/spans/1/spanID", "malformed_id"),
        (with("traceID", json!(7)), "/data/0/spans/1/traceID", "wrong_type"),
        (with("processID", json!("p9")), "/data/0/spans/1/processID", "required"),
        (with("startTime", json!("late")), "/data/0/spans/1/startTime", "out_of_range"),
        (with("startTime", json!(0)), "/data/0/spans/1/startTime", "too_old"),
        (with("startTime", json!(u64::MAX)), "/data/0/spans/1/startTime", "out_of_range"),
        (with("startTime", json!((NOW_MS + DAY_MS) * 1_000)), "/data/0/spans/1/startTime", "future_time"),
        (with("duration", json!(-1)), "/data/0/spans/1/duration", "out_of_range"),
    ] {
        let contents = read_json(Format::JaegerTraces, &document);
        assert_eq!(contents.span_count, 1, "{pointer}");
        assert_eq!(complaint(contents), (pointer.to_owned(), code));
    }
    let relative = |id: &str, start: i64| {
        let mut span = span(id, "p1", None);
        span["startTime"] = start.into();
        span
    };
    let document = trace(vec![relative("a", 0), relative("b", 500)]).to_string();
    let moved = Reading { end_ms: Some(NOW_MS), ..reading() };
    let contents = read(Format::JaegerTraces, document.as_bytes(), &moved).expect("a document");
    let spans = &contents.spans.resource_spans[0].scope_spans[0].spans;
    assert_eq!(spans[1].end_time_unix_nano, NOW_MS as u64 * 1_000_000);
    assert_eq!(spans[1].start_time_unix_nano - spans[0].start_time_unix_nano, 500_000);
}

#[test]
fn complaints_are_bounded() {
    let events: Vec<Value> = (0..900).map(|_| json!({})).chain((0..500).map(|_| json!([]))).collect();
    let many = Reading { rows_max: 10_000, ..reading() };
    let contents = read(Format::Opsgenie, json!(events).to_string().as_bytes(), &many).expect("a document");
    assert_eq!(contents.rejected.count(), 1_400);
    let list = contents.rejected.list();
    assert_eq!(
        (list.len(), list[1_000].code, list[1_000].reason.as_str()),
        (1_001, "and_more", "400 more are not listed")
    );
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "event",
        "event_type",
        "data",
        "id",
        "occurred_at",
        "alert",
        "action",
        "alertId",
        "createdAt",
        "updatedAt",
        "tags",
        "details",
        "parent",
        "child",
        "callCount",
        "spans",
        "processes",
        "traceID",
        "spanID",
        "references",
        "startTime",
        "duration",
        "processID",
        "serviceName",
        "incident_timestamp_values",
        "custom_field_entries",
        "key",
        "value",
        "public_incident.incident_created_v2",
        "created_at",
        "incident_status",
        "service",
        "priority",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "incident.triggered",
            "Create",
            "2026-11-01T10:00:00Z",
            "public_incident.incident_created_v2",
            "CHILD_OF",
            "1f",
            "",
        ])
        .prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused_with_its_place(document in arbitrary_json(), which in 0usize..6) {
        let (format, _) = Format::ALL[which];
        if let Ok(contents) = read(format, document.to_string().as_bytes(), &reading()) {
            for complaint in contents.rejected.list() {
                prop_assert!(complaint.pointer.is_empty() || complaint.pointer.starts_with('/'));
                prop_assert!(!complaint.reason.is_empty());
            }
        }
    }

    #[test]
    fn any_lines_are_read_or_refused(rows in prop::collection::vec("[\\PC,;\"\n]{0,40}", 0..6)) {
        let text = format!("id,title,start_time,service_ids\n{}", rows.join("\n"));
        let _ = read(Format::IncidentsCsv, text.as_bytes(), &reading());
    }
}
