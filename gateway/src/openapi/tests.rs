use std::collections::BTreeSet;

use super::*;
use crate::json::decode::{self, At};
use crate::json::document::Document;

fn document() -> (Contract, Routes, JsonValue) {
    let contract = Contract::read(attain_proto::DESCRIPTORS).expect("the contract can be served");
    let routes = Routes::build(&contract).expect("no conflicts");
    let document = super::document(&contract, &routes, &Config::default());
    (contract, routes, document)
}

/// Verb and path of every annotation, read from the contract by other means than the gateway's.
fn annotated() -> BTreeSet<(String, String)> {
    use prost_reflect::{DescriptorPool, Value};
    let pool = DescriptorPool::decode(attain_proto::DESCRIPTORS).expect("valid");
    let extension = pool
        .get_message_by_name("google.protobuf.MethodOptions")
        .expect("there")
        .get_extension(72_295_728)
        .expect("the annotation");
    let mut all = BTreeSet::new();
    let mut add = |rule: &prost_reflect::DynamicMessage| {
        for verb in ["get", "put", "post", "delete", "patch"] {
            if rule.has_field_by_name(verb) {
                let path = rule.get_field_by_name(verb).expect("there");
                all.insert((verb.to_owned(), path.as_str().expect("text").to_owned()));
            }
        }
    };
    for rpc in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let options = rpc.options();
        if options.has_extension(&extension) {
            let rule = options.get_extension(&extension);
            let rule = rule.as_message().expect("a rule");
            add(rule);
            let more = rule.get_field_by_name("additional_bindings").expect("there");
            more.as_list().expect("a list").iter().filter_map(Value::as_message).for_each(&mut add);
        }
    }
    all
}

#[test]
fn every_annotation_has_a_route_and_a_path_and_the_other_way_round() {
    let (_, routes, document) = document();
    let annotated = annotated();
    assert!(annotated.len() >= 20, "{}", annotated.len());
    let of_rpcs = routes.iter().filter(|route| matches!(route.target, Target::Rpc(_)));
    let routed: BTreeSet<_> =
        of_rpcs.map(|route| (route.verb.as_str().to_ascii_lowercase(), route.name.clone())).collect();
    assert_eq!(routed, annotated);
    let paths = document["paths"].as_object().expect("paths");
    let mut documented = BTreeSet::new();
    for (path, item) in paths {
        for (verb, operation) in item.as_object().expect("an item") {
            if operation["tags"][0] != SYSTEM_TAG {
                documented.insert((verb.clone(), path.clone()));
            }
        }
    }
    assert_eq!(documented, annotated);
    for (_, path, _) in System::ALL {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[test]
fn references_lead_somewhere_and_operations_have_names_of_their_own() {
    let (_, _, document) = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("local");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let operations = document["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|item| item.as_object().expect("an item").values());
    let names: Vec<_> =
        operations.map(|operation| operation["operationId"].as_str().expect("a name").to_owned()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

fn collect(value: &JsonValue, references: &mut Vec<String>) {
    match value {
        JsonValue::Object(members) => {
            references.extend(members.get("$ref").and_then(JsonValue::as_str).map(str::to_owned));
            members.values().for_each(|member| collect(member, references));
        }
        JsonValue::Array(items) => items.iter().for_each(|item| collect(item, references)),
        _ => {}
    }
}

#[test]
fn everything_is_described() {
    let (_, _, document) = document();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        assert!(schema["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        for (field, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}.{field}");
        }
    }
    let tier = &document["components"]["schemas"]["Tier"];
    assert_eq!(tier["enum"], json!(["unspecified", "tier_1", "tier_2", "tier_3", "tier_4"]));
    let impact = &document["paths"]["/api/v1/slos/impact-analysis"]["post"];
    assert_eq!(
        impact["requestBody"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/AnalyzeImpactRequest"
    );
    let decide = &document["paths"]["/api/v1/services/{service_id}/slos"]["post"];
    assert_eq!(decide["requestBody"]["content"]["application/json"]["schema"]["properties"].get("service_id"), None);
}

#[test]
fn a_body_as_it_came_is_any_json_or_text() {
    let (_, _, document) = document();
    let import = &document["paths"]["/api/v1/imports/{format}"]["post"];
    let content = import["requestBody"]["content"].as_object().expect("content");
    assert_eq!(content.keys().collect::<Vec<_>>(), ["application/json", "text/csv"]);
    let parameters: Vec<_> = import["parameters"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
    assert_eq!(parameters, ["format", "start_time", "end_time"]);
    assert!(import["responses"]["401"].is_object() && import["responses"]["422"].is_object());
    assert!(document["components"]["schemas"].get("HttpBody").is_none());
}

#[test]
fn keys_are_documented_only_where_they_are_needed() {
    let (contract, routes, without) = document();
    let with = super::document(&contract, &routes, &Config { auth: Auth::Keys, ..Config::default() });
    assert_eq!(without.get("security"), None);
    assert!(with["security"].is_array());
    let responses = |document: &JsonValue| document["paths"]["/api/v1/audit"]["get"]["responses"].get("403").cloned();
    assert_eq!((responses(&without).is_some(), responses(&with).is_some()), (false, true));
}

#[test]
fn the_examples_can_be_read() {
    let (contract, _, document) = document();
    let examples: Map<String, JsonValue> = serde_json::from_str(operation::EXAMPLES).expect("JSON");
    for (operation_id, example) in &examples {
        let endpoint =
            contract.endpoints().iter().find(|endpoint| endpoint.operation_id == *operation_id).expect(operation_id);
        let text = example.to_string();
        let document = Document::parse(&text).expect("JSON");
        decode::message(&endpoint.plans, endpoint.input, document.top(), &At::Top, &mut Vec::new())
            .expect(operation_id);
    }
    let impact =
        &document["paths"]["/api/v1/slos/impact-analysis"]["post"]["requestBody"]["content"]["application/json"];
    assert_eq!(impact["example"], examples["AnalyzeImpact"]);
}
