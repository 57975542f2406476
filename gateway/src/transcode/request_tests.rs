use std::sync::{Arc, LazyLock};

use attain_proto::ingestion::v1::{
    ImportDocumentRequest, ImportDocumentResponse, IngestDependenciesRequest, IngestDependenciesResponse,
    IngestSliBucketsRequest,
};
use attain_proto::rag::v1::{DocumentKind, SearchKnowledgeRequest};
use attain_proto::recommendation::v1::{AnalyzeWhatIfRequest, DecideSloRequest};
use attain_proto::vocabulary::v1::{Entity, Rejection, SliBucket, Tier};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value as JsonValue, json};

use super::*;
use crate::contract::Contract;
use crate::intake;
use crate::json::encode;
use crate::json::plan::MessageId;

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::read(attain_proto::DESCRIPTORS).expect("valid"));

fn endpoint(operation_id: &str) -> &'static Arc<Endpoint> {
    CONTRACT.endpoints().iter().find(|endpoint| endpoint.operation_id == operation_id).expect(operation_id)
}

fn assemble_with(
    operation_id: &str,
    captures: &[&str],
    query: &str,
    body: Option<&JsonValue>,
) -> Result<Assembled, Problem> {
    with_headers(endpoint(operation_id), Given { captures, query, headers: &HeaderMap::new() }, body)
}

fn with_headers(endpoint: &Endpoint, given: Given<'_>, body: Option<&JsonValue>) -> Result<Assembled, Problem> {
    let text = body.map(ToString::to_string);
    let document = text.as_deref().map(|text| Document::parse(text).expect("JSON"));
    assemble(endpoint, given, document.as_ref())
}

fn post_text(operation_id: &str, captures: &[&str], text: &str) -> Result<Assembled, Problem> {
    let document = intake::parse(text.as_bytes())?;
    assemble(endpoint(operation_id), Given { captures, query: "", headers: &HeaderMap::new() }, Some(&document))
}

fn post(operation_id: &str, captures: &[&str], body: JsonValue) -> Result<Assembled, Problem> {
    assemble_with(operation_id, captures, "", Some(&body))
}

fn typed<T: prost::Message + Default>(assembled: &Assembled) -> T {
    T::decode(&*assembled.message).expect("one contract")
}

/// An encoded message as JSON.
fn text_of(id: MessageId, message: &[u8]) -> String {
    let mut out = Vec::new();
    encode::write(CONTRACT.plans(), id, message, &mut out).expect("a message");
    String::from_utf8(out).expect("text")
}

/// A typed message as JSON.
fn json_of(name: &str, message: &impl prost::Message) -> JsonValue {
    serde_json::from_str(&text_of(CONTRACT.plans().find(name).expect(name), &message.encode_to_vec())).expect("JSON")
}

/// An assembled message as JSON.
fn written(endpoint: &Endpoint, assembled: &Assembled) -> String {
    text_of(endpoint.input, &assembled.message)
}

fn import(format: &str, query: &str, body: &[u8]) -> Result<Assembled, Problem> {
    let endpoint = endpoint("ImportDocument");
    let field = endpoint.raw_body.as_ref().expect("a body as it came");
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/csv".parse().expect("a header"))]);
    assemble_raw(endpoint, field, Given { captures: &[format], query, headers: &headers }, body)
}

#[test]
fn a_body_is_passed_on_as_it_came() {
    let body = b"\xff{not json";
    let assembled = import("incidents%2Dcsv", "end_time=2026-11-01T00:00:00Z", body).expect("any bytes");
    let request: ImportDocumentRequest = typed(&assembled);
    let document = request.document.expect("a document");
    assert_eq!((request.format.as_str(), document.content_type.as_str()), ("incidents-csv", "text/csv"));
    assert_eq!((document.data.as_slice(), request.end_time.map(|time| time.seconds)), (&body[..], Some(1_793_491_200)));
    for query in ["document=x", "format=y", "nothing=1"] {
        assert_eq!(import("x", query, b"").expect_err(query).errors[0].code, "unknown_parameter");
    }
}

#[test]
fn refusals_in_a_document_keep_their_pointers() {
    let answer = |rejected: Vec<Rejection>, accepted_incident_count: u32| {
        let message = ImportDocumentResponse { rejected, accepted_incident_count, ..ImportDocumentResponse::default() };
        Bytes::from(message.encode_to_vec())
    };
    let refused = |pointer: &str| Rejection { pointer: pointer.into(), code: "x".into(), ..Rejection::default() };
    let settle = |answer: &mut Bytes| {
        let batch = import("pagerduty", "", b"").expect("valid").batch.expect("rows");
        batch.settle(output("ImportDocument"), answer)
    };
    let mut mixed = answer(vec![refused("/7/event/data/id"), refused("/0/event")], 1);
    settle(&mut mixed).expect("something was kept");
    let told = ImportDocumentResponse::decode(mixed).expect("one contract");
    assert_eq!(
        told.rejected.iter().map(|row| row.pointer.as_str()).collect::<Vec<_>>(),
        ["/7/event/data/id", "/0/event"]
    );
    let problem = settle(&mut answer(vec![refused("/event")], 0)).expect_err("nothing was kept");
    assert_eq!((problem.status, problem.errors[0].pointer.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "/event"));
    settle(&mut answer(Vec::new(), 0)).expect("events that were ignored are no failure");
}

#[test]
fn query_parameters_become_fields() {
    let query = "query=late+payments%3F&kinds=runbook&kinds=slo-template&service_ids=a&service_ids=b%2Fc&limit=7";
    let request: SearchKnowledgeRequest = typed(&assemble_with("SearchKnowledge", &[], query, None).expect("valid"));
    assert_eq!((request.query.as_str(), request.limit), ("late payments?", 7));
    assert_eq!(request.service_ids, ["a", "b/c"]);
    assert_eq!(request.kinds, [DocumentKind::Runbook as i32, DocumentKind::SloTemplate as i32]);

    let query = "start_time=2026-11-01T00:00:00Z&page_size=3";
    let assembled = assemble_with("ListSliBuckets", &["shop%2Fcheckout"], query, None).expect("valid");
    let request: attain_proto::ingestion::v1::ListSliBucketsRequest = typed(&assembled);
    assert_eq!((request.service_id.as_str(), request.page_size), ("shop/checkout", 3));
    assert_eq!(request.start_time.map(|time| time.seconds), Some(1_793_491_200));
}

#[test]
fn odd_parameters_are_refused_by_name() {
    for (operation, captures, query, pointer, code) in [
        ("ListServices", vec![], "page_sice=3", "/page_sice", "unknown_parameter"),
        ("ListServices", vec![], "page_size=many", "/page_size", "wrong_type"),
        ("ListServices", vec![], "page_size=-1", "/page_size", "out_of_range"),
        ("ListServices", vec![], "page_size=4294967296", "/page_size", "out_of_range"),
        ("ListServices", vec![], "page_size=1&page_size=2", "/page_size", "repeated_parameter"),
        ("ListServices", vec![], "query=%ff", "", "invalid_utf8"),
        ("GetService", vec!["a"], "service_id=b", "/service_id", "unknown_parameter"),
        ("GetService", vec!["%ff"], "", "/service_id", "invalid_utf8"),
        ("GetDependencies", vec!["a"], "direction=sideways", "/direction", "unknown_value"),
        ("ListSliBuckets", vec!["a"], "start_time=yesterday", "/start_time", "malformed_time"),
    ] {
        let problem = assemble_with(operation, &captures, query, None).expect_err(query);
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        assert_eq!(
            (problem.errors[0].pointer.as_str(), problem.errors[0].code.as_str()),
            (pointer, code),
            "{operation}?{query}"
        );
    }
    let problem =
        assemble_with("AnalyzeImpact", &[], "window_days=7", Some(&json!({}))).expect_err("a query beside a body");
    assert_eq!(problem.errors[0].code, "unknown_parameter");
}

#[test]
fn bodies_are_refused_at_the_value_that_does_not_fit() {
    for (operation, body, pointer, code) in [
        ("DecideSlo", json!([]), "", "wrong_type"),
        ("DecideSlo", json!({"reasons": "x"}), "/reasons", "unknown_field"),
        ("DecideSlo", json!({"action": "perhaps"}), "/action", "unknown_value"),
        ("DecideSlo", json!({"action": 1}), "/action", "wrong_type"),
        ("DecideSlo", json!({"target_ratio": "0.9"}), "/target_ratio", "wrong_type"),
        ("DecideSlo", json!({"target_ratio": "NaN"}), "/target_ratio", "not_finite"),
        ("DecideSlo", json!({"window_days": 2.5}), "/window_days", "out_of_range"),
        ("DecideSlo", json!({"window_days": -1}), "/window_days", "out_of_range"),
        ("DecideSlo", json!({"service_id": "another"}), "/service_id", "differs_from_path"),
        ("AnalyzeImpact", json!({"proposals": {}}), "/proposals", "wrong_type"),
        ("AnalyzeImpact", json!({"proposals": [null]}), "/proposals/0", "wrong_type"),
        ("AnalyzeImpact", json!({"proposals": [{}, {"a/b~c": 1}]}), "/proposals/1/a~1b~0c", "unknown_field"),
        (
            "AnalyzeWhatIf",
            json!({"changes": [{"remove_dependency": {}, "set_dependency": {}}]}),
            "/changes/0/set_dependency",
            "one_of",
        ),
        (
            "AnalyzeWhatIf",
            json!({"changes": [{"set_dependency": {"first_seen_time": "noon"}}]}),
            "/changes/0/set_dependency/first_seen_time",
            "malformed_time",
        ),
    ] {
        let captures: &[&str] = if operation == "DecideSlo" { &["checkout"] } else { &[] };
        let problem = post(operation, captures, body.clone()).expect_err(code);
        let error = &problem.errors[0];
        assert_eq!((error.pointer.as_str(), error.code.as_str()), (pointer, code), "{body}");
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
    }
    let problem = post("DecideSlo", &["a"], json!({"kind": "throughput"})).expect_err("unknown");
    assert!(problem.detail.contains("availability, latency"), "{}", problem.detail);
}

#[test]
fn bodies_become_messages() {
    let body = json!({
        "action": "modify", "kind": "SLI_KIND_LATENCY", "ambition": null, "target_ratio": 0.9995, "window_days": 28.0,
        "service_id": "shop/checkout", "reason": "β"
    });
    let request: DecideSloRequest = typed(&post("DecideSlo", &["shop%2Fcheckout"], body).expect("valid"));
    assert_eq!((request.service_id.as_str(), request.action, request.kind), ("shop/checkout", 2, 2));
    assert_eq!((request.target_ratio, request.window_days, request.reason.as_str()), (Some(0.9995), 28, "β"));
    assert_eq!((request.ambition, request.version_match), (0, None));

    let body = json!({"changes": [{"attained_ratio": {"entity_id": "a", "availability_ratio": 0.5}}]});
    let request: AnalyzeWhatIfRequest = typed(&post("AnalyzeWhatIf", &[], body).expect("valid"));
    assert_eq!(request.changes.len(), 1);
}

#[test]
fn if_match_names_the_version() {
    let with = |tag: &str, body: JsonValue| {
        let headers = HeaderMap::from_iter([(header::IF_MATCH, tag.parse().expect("a header"))]);
        let given = Given { captures: &["a"], query: "", headers: &headers };
        with_headers(endpoint("DecideSlo"), given, Some(&body))
            .map(|assembled| typed::<DecideSloRequest>(&assembled).version_match)
    };
    for tag in ["\"3\"", "\"3-abcdef\"", " \"3\" "] {
        assert_eq!(with(tag, json!({})).expect(tag), Some(3));
    }
    assert_eq!(with("\"3\"", json!({"version_match": 3})).expect("the same"), Some(3));
    for tag in ["3", "*", "W/\"3\"", "\"x\"", "\"3\", \"4\""] {
        assert_eq!(with(tag, json!({})).expect_err(tag).code, "malformed_if_match");
    }
    with("\"3\"", json!({"version_match": 4})).expect_err("another");
}

#[test]
fn numbers_survive_to_the_last_digit() {
    for number in [0.1 + 0.2, 0.9995, 1e-9, f64::MIN_POSITIVE, f64::MAX, -0.0, 5e-324, 0.999_999_999_999_999_9] {
        let text = format!("{{\"action\":\"modify\",\"target_ratio\":{number:?}}}");
        let assembled = post_text("DecideSlo", &["a"], &text).expect("valid");
        let request: DecideSloRequest = typed(&assembled);
        assert_eq!(request.target_ratio.map(f64::to_bits), Some(number.to_bits()), "{number:?}");
        let written = written(endpoint("DecideSlo"), &assembled);
        let back: JsonValue = serde_json::from_str(&written).expect("JSON");
        assert_eq!(back["target_ratio"].as_f64().map(f64::to_bits), Some(number.to_bits()), "{written}");
    }
    let text = r#"{"buckets":[{"inherited_by_dependency":{"db":18446744073709551615}}]}"#;
    let assembled = post_text("IngestSliBuckets", &["a"], text).expect("valid");
    let request: IngestSliBucketsRequest = typed(&assembled);
    assert_eq!(request.buckets[0].inherited_by_dependency["db"], u64::MAX);
    let written = written(endpoint("IngestSliBuckets"), &assembled);
    assert!(written.contains("18446744073709551615"), "{written}");
}

#[test]
fn messages_are_written_in_the_contracts_words() {
    let entity = Entity { id: "a".into(), tier: Tier::Tier1 as i32, sources: vec![3, 1], ..Entity::default() };
    assert_eq!(
        json_of("attain.vocabulary.v1.Entity", &entity),
        json!({
            "id": "a", "display_name": "", "kind": "unspecified", "tier": "tier_1", "owner": "", "region": "",
            "sources": ["otlp_metrics", "declared"], "system": "", "lifecycle": "", "catalogue_ref": ""
        }),
        "unset optional fields are left out, the others written with their defaults"
    );
    let bucket = SliBucket {
        start_time: Some(attain_proto::convert::timestamp(1_793_491_200_000)),
        valid_count: u64::MAX,
        inherited_bad_count: Some(0),
        inherited_by_dependency: [("b".to_owned(), 1), ("a".to_owned(), 2)].into(),
        ..SliBucket::default()
    };
    let id = CONTRACT.plans().find("attain.vocabulary.v1.SliBucket").expect("there");
    assert_eq!(
        text_of(id, &bucket.encode_to_vec()),
        "{\"start_time\":\"2026-11-01T00:00:00Z\",\"valid_count\":18446744073709551615,\"bad_count\":0,\
         \"inherited_bad_count\":0,\"inherited_by_dependency\":{\"a\":2,\"b\":1}}"
    );
    let snapshot = attain_proto::graph::v1::SnapshotInfo {
        age: Some(attain_proto::convert::duration(3500)),
        ..Default::default()
    };
    assert_eq!(json_of("attain.graph.v1.SnapshotInfo", &snapshot)["age"], "3.5s");
}

fn output(operation_id: &str) -> &'static Message {
    CONTRACT.plans().message(endpoint(operation_id).output)
}

fn answer(rejected: Vec<Rejection>, accepted_service_count: u32) -> Bytes {
    let message =
        IngestDependenciesResponse { accepted_service_count, rejected, ..IngestDependenciesResponse::default() };
    message.encode_to_vec().into()
}

fn mixed_batch() -> JsonValue {
    json!({
        "services": [{"id": 7}, {"id": "a"}, {"id": "b", "tier": "platinum"}, {"id": "c"}],
        "dependencies": [{"caller_id": "a", "callee_id": "c", "call_rate": "NaN"}, {"caller_id": "a", "callee_id": "a"}]
    })
}

#[test]
fn elements_that_cannot_be_read_are_set_aside() {
    let assembled = post("IngestDependencies", &[], mixed_batch()).expect("some can be read");
    let request: IngestDependenciesRequest = typed(&assembled);
    let services = request.services.to_vec().expect("of the contract");
    let ids: Vec<_> = services.iter().map(|service| service.id.as_str()).collect();
    assert_eq!((ids, request.dependencies.len()), (vec!["a", "c"], 1));

    let refused =
        |index: u32, pointer: &str| Rejection { index, pointer: pointer.into(), code: "x".into(), reason: "y".into() };
    let mut answer =
        answer(vec![refused(1, "/services/1/id"), refused(0, "/dependencies/0/callee_id"), refused(9, "/odd")], 1);
    assembled.batch.expect("a batch").settle(output("IngestDependencies"), &mut answer).expect("something was kept");
    let merged = IngestDependenciesResponse::decode(answer).expect("one contract");
    let mut places: Vec<_> =
        merged.rejected.iter().map(|row| (row.pointer.as_str(), row.index, row.code.as_str())).collect();
    places.retain(|(pointer, _, _)| *pointer != "/odd");
    assert_eq!(
        places,
        [
            ("/services/0/id", 0, "wrong_type"),
            ("/services/2/tier", 2, "unknown_value"),
            ("/services/3/id", 3, "x"),
            ("/dependencies/0/call_rate", 0, "not_finite"),
            ("/dependencies/1/callee_id", 1, "x"),
        ]
    );
}

#[test]
fn a_batch_of_which_nothing_is_kept_is_a_problem() {
    let problem =
        post("IngestDependencies", &[], json!({"services": [{"id": 7}, 8]})).expect_err("nothing can be read");
    assert_eq!((problem.status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "nothing_accepted"));
    let pointers: Vec<_> = problem.errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!(pointers, ["/services/0/id", "/services/1"]);

    let assembled = post("IngestDependencies", &[], mixed_batch()).expect("some can be read");
    let problem = assembled
        .batch
        .expect("a batch")
        .settle(output("IngestDependencies"), &mut answer(Vec::new(), 0))
        .expect_err("nothing was kept");
    assert_eq!((problem.status, problem.errors.len()), (StatusCode::UNPROCESSABLE_ENTITY, 3));

    let empty =
        post("IngestDependencies", &[], json!({"services": []})).expect("an empty batch is the service's to judge");
    empty
        .batch
        .expect("a batch")
        .settle(output("IngestDependencies"), &mut answer(Vec::new(), 0))
        .expect("nothing was refused");
}

#[test]
fn without_counters_the_kept_things_count() {
    let assembled = post("PutDocuments", &[], json!({"documents": [{"id": 1}, {"id": "a", "text": "t"}]}))
        .expect("one can be read");
    let kept =
        attain_proto::rag::v1::PutDocumentsResponse { documents: vec![Default::default()], rejected: Vec::new() };
    let mut answer = Bytes::from(kept.encode_to_vec());
    assembled.batch.expect("a batch").settle(output("PutDocuments"), &mut answer).expect("one was kept");
    let merged = attain_proto::rag::v1::PutDocumentsResponse::decode(answer).expect("one contract");
    assert_eq!(merged.rejected.len(), 1);
}

#[test]
fn too_many_unreadable_elements_are_not_told_one_by_one() {
    let body = json!({"buckets": vec![json!(1); 50_000]});
    let problem = post("IngestSliBuckets2", &[], body).expect_err("too many");
    assert_eq!((problem.status, problem.errors.len()), (StatusCode::UNPROCESSABLE_ENTITY, 10_000));
}

#[test]
fn a_callers_own_text_is_repeated_in_part_only() {
    let problem = post("DecideSlo", &["a"], json!({"kind": "x".repeat(100_000)})).expect_err("unknown");
    assert!(problem.detail.len() < 300, "{}", problem.detail.len());
    let problem = post("DecideSlo", &["a"], json!({"x".repeat(100_000): 1})).expect_err("unknown");
    assert!(problem.errors[0].pointer.len() < 300);
}

/// Any JSON, with the contract's own names often enough to get past the first check.
fn arbitrary_json() -> impl Strategy<Value = JsonValue> {
    let leaf = prop_oneof![
        Just(JsonValue::Null),
        any::<bool>().prop_map(JsonValue::from),
        any::<i64>().prop_map(JsonValue::from),
        any::<u64>().prop_map(JsonValue::from),
        any::<f64>().prop_map(JsonValue::from),
        ".{0,12}".prop_map(JsonValue::from),
        prop_oneof![
            Just("hard"),
            Just("tier-1"),
            Just("accept"),
            Just("2026-11-01T00:00:00Z"),
            Just("NaN"),
            Just("3.5s")
        ]
        .prop_map(JsonValue::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        let name = prop_oneof![proptest::sample::select(field_names()), ".{0,8}",];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(JsonValue::from),
            proptest::collection::btree_map(name, inner, 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn field_names() -> Vec<String> {
    let messages = CONTRACT.pool().all_messages().filter(|message| message.package_name().starts_with("attain."));
    messages.flat_map(|message| message.fields().map(|field| field.name().to_owned()).collect::<Vec<_>>()).collect()
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(body in arbitrary_json(), which in 0usize..100, tag in ".{0,6}") {
        let with_body: Vec<_> = CONTRACT.endpoints().iter().filter(|endpoint| endpoint.has_body && endpoint.raw_body.is_none()).collect();
        let endpoint = with_body[which % with_body.len()];
        let captures = vec!["a"; endpoint.path_fields().len()];
        let headers: HeaderMap = tag.parse().ok().map(|value| (header::IF_MATCH, value)).into_iter().collect();
        match with_headers(endpoint, Given { captures: &captures, query: "", headers: &headers }, Some(&body)) {
            Ok(assembled) => {
                // What was read is written in a form that is read as the same.
                let text = written(endpoint, &assembled);
                let document = Document::parse(&text).expect("JSON");
                let given = Given { captures: &captures, query: "", headers: &HeaderMap::new() };
                let again = assemble(endpoint, given, Some(&document)).expect("readable");
                prop_assert_eq!(written(endpoint, &again), text);
            }
            Err(problem) => {
                prop_assert!(problem.status.is_client_error());
                prop_assert!(problem.errors.iter().all(|error| error.pointer.is_empty() || error.pointer.starts_with('/')));
            }
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(problem) = intake::parse(&bytes) {
            prop_assert_eq!(problem.status, StatusCode::BAD_REQUEST);
            prop_assert_eq!(problem.errors.len(), 1);
        }
    }

    #[test]
    fn any_query_is_read_or_refused(query in ".{0,60}", which in 0usize..100) {
        let without_body: Vec<_> = CONTRACT.endpoints().iter().filter(|endpoint| !endpoint.has_body).collect();
        let endpoint = without_body[which % without_body.len()];
        let captures = vec!["a"; endpoint.path_fields().len()];
        if let Err(problem) = assemble(endpoint, Given { captures: &captures, query: &query, headers: &HeaderMap::new() }, None) {
            prop_assert_eq!(problem.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn every_number_survives(number in any::<f64>().prop_filter("finite", |number| number.is_finite()), count in any::<u64>()) {
        let text = format!("{{\"buckets\":[{{\"inherited_bad_count\":{number:?},\"inherited_by_dependency\":{{\"a\":{count}}}}}]}}");
        let assembled = post_text("IngestSliBuckets2", &[], &text).expect("valid");
        let request: IngestSliBucketsRequest = typed(&assembled);
        prop_assert_eq!(request.buckets[0].inherited_bad_count.map(f64::to_bits), Some(number.to_bits()));
        prop_assert_eq!(request.buckets[0].inherited_by_dependency["a"], count);
    }
}
