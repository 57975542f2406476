//! RPCs as operations: parameters, bodies, answers and problems.

use http::StatusCode;
use prost_reflect::{FieldDescriptor, MethodDescriptor};
use serde_json::{Map, Value as JsonValue, json};

use super::schema::{self, Names};
use crate::contract::{Endpoint, comment};
use crate::transcode::answer;
use crate::transcode::request;

/// Requests to learn from, by operation; each is read by a test.
pub(super) const EXAMPLES: &str = include_str!("examples.json");
const EXAMPLE_SERVICE: &str = "checkout-service";

/// What each status says, for every route that can answer it.
const PROBLEMS: [(u16, &str); 16] = [
    (400, "The request cannot be read, or a value in it is refused; `errors` names each."),
    (401, "A key is needed, or the one given is not known; or the signature of a document is refused."),
    (403, "The key's role does not include this."),
    (404, "There is no such route, service or thing."),
    (405, "The path is there for the verbs in `Allow`."),
    (408, "The body did not arrive within the deadline."),
    (409, "The request does not go with the present state."),
    (412, "The version named in `If-Match` is not the one in force."),
    (413, "The body is too large."),
    (415, "The body is of another type than the route reads, or compressed."),
    (422, "Nothing in the batch could be kept; `errors` names each element."),
    (429, "The caller asked too often; `Retry-After` says when to try again."),
    (500, "The gateway or a member failed; the request id names the request in the logs."),
    (501, "A member does not serve this yet."),
    (503, "The gateway or a member is overloaded or cannot be reached; `Retry-After` says when to try again."),
    (504, "The answer did not come within the deadline."),
];

/// The operation of one binding.
pub(super) fn of_rpc(endpoint: &Endpoint, names: &Names, needs_keys: bool) -> JsonValue {
    let rpc = &endpoint.rpc;
    let description = comment(&rpc.parent_service().parent_file(), rpc.path());
    let mut operation = json!({
        "operationId": endpoint.operation_id,
        "tags": [tag(rpc)],
        "summary": description.split_once(". ").map_or(description.as_str(), |(first, _)| first),
        "description": description,
        "parameters": parameters(endpoint, names),
        "responses": responses(endpoint, names, needs_keys),
        "x-attain-role": endpoint.access.role.name(),
    });
    if endpoint.has_body {
        operation["requestBody"] = body(endpoint, names);
    }
    operation
}

/// `IngestionService` as `ingestion`.
pub(super) fn tag(rpc: &MethodDescriptor) -> String {
    let name = rpc.parent_service().name();
    name.strip_suffix("Service").unwrap_or(name).to_ascii_lowercase()
}

fn parameters(endpoint: &Endpoint, names: &Names) -> Vec<JsonValue> {
    let bound = endpoint.path_fields();
    let mut all: Vec<JsonValue> = bound.iter().map(|field| parameter(field, "path", names)).collect();
    if !endpoint.has_body || endpoint.raw_body.is_some() {
        let free = request::parameters(&endpoint.rpc.input(), &bound);
        all.extend(free.iter().map(|field| parameter(field, "query", names)));
    }
    if endpoint.takes_if_match() {
        let text = "The version that the request replaces, in double quotes, or the entity tag that came with it.";
        all.push(json!({"name": "If-Match", "in": "header", "description": text, "schema": {"type": "string"}}));
    }
    if endpoint.verb == http::Method::GET && answer::is_tagged(endpoint) {
        let text = "Entity tags that the caller holds; where one is still true the answer is 304 without a body.";
        all.push(json!({"name": "If-None-Match", "in": "header", "description": text, "schema": {"type": "string"}}));
    }
    all
}

fn parameter(field: &FieldDescriptor, place: &str, names: &Names) -> JsonValue {
    let mut parameter = json!({
        "name": field.name(),
        "in": place,
        "description": comment(&field.parent_message().parent_file(), field.path()),
        "schema": schema::of_field(field, names),
    });
    if place == "path" {
        parameter["required"] = json!(true);
        // Slashes of a name are written %2F.
        parameter["schema"]["minLength"] = json!(1);
        if field.name() == "service_id" {
            parameter["example"] = json!(EXAMPLE_SERVICE);
        }
    }
    parameter
}

fn body(endpoint: &Endpoint, names: &Names) -> JsonValue {
    if let Some(field) = &endpoint.raw_body {
        return raw_body(field, endpoint);
    }
    let input = endpoint.rpc.input();
    let bound = endpoint.path_fields();
    let schema =
        if bound.is_empty() { names.reference(input.full_name()) } else { schema::of_message(&input, names, &bound) };
    let mut content = json!({"schema": schema});
    if let Some(example) = example(&endpoint.operation_id) {
        content["example"] = example;
    }
    json!({"required": true, "content": {"application/json": content}})
}

/// A body as it came: JSON of any shape, or text.
fn raw_body(field: &FieldDescriptor, endpoint: &Endpoint) -> JsonValue {
    let mut json = json!({"schema": {"description": "A document of the other tool."}});
    if let Some(example) = example(&endpoint.operation_id) {
        json["example"] = example;
    }
    let text = json!({"schema": {"type": "string", "description": "A document of the other tool."}});
    json!({
        "required": true,
        "description": comment(&field.parent_message().parent_file(), field.path()),
        "content": {"application/json": json, "text/csv": text},
    })
}

fn example(operation_id: &str) -> Option<JsonValue> {
    let examples: Map<String, JsonValue> = serde_json::from_str(EXAMPLES).ok()?;
    examples.get(operation_id).cloned()
}

fn responses(endpoint: &Endpoint, names: &Names, needs_keys: bool) -> JsonValue {
    let output = endpoint.rpc.output();
    let tagged = answer::is_tagged(endpoint);
    let mut headers = json!({
        "X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"},
        "RateLimit": {"$ref": "#/components/headers/RateLimit"},
        "RateLimit-Policy": {"$ref": "#/components/headers/RateLimit-Policy"},
    });
    if tagged {
        headers["ETag"] = json!({"$ref": "#/components/headers/ETag"});
    }
    let mut all = Map::new();
    all.insert(
        "200".into(),
        json!({
            "description": comment(&output.parent_file(), output.path()),
            "headers": headers,
            "content": {"application/json": {"schema": names.reference(output.full_name())}},
        }),
    );
    if tagged && endpoint.verb == http::Method::GET {
        all.insert("304".into(), json!({"description": "The caller holds the present version."}));
    }
    for status in statuses(endpoint, needs_keys) {
        all.insert(status.to_string(), json!({"$ref": format!("#/components/responses/{status}")}));
    }
    all.into()
}

/// Problems that an endpoint can answer with.
fn statuses(endpoint: &Endpoint, needs_keys: bool) -> Vec<u16> {
    let applies = |status: u16| match status {
        // A document may be asked to prove where it comes from.
        401 if endpoint.raw_body.is_some() => true,
        401 | 403 => needs_keys,
        // Only another verb on the same path gets these.
        405 => false,
        408 | 413 | 415 => endpoint.has_body,
        409 => endpoint.access.writes,
        412 => endpoint.takes_if_match(),
        422 => endpoint.reports_rejections(),
        _ => true,
    };
    PROBLEMS.iter().map(|(status, _)| *status).filter(|status| applies(*status)).collect()
}

/// One response a status.
pub(super) fn problem_responses() -> Map<String, JsonValue> {
    let response = |(status, description): &(u16, &str)| {
        let mut response = json!({
            "description": description,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        });
        let header = match *status {
            429 | 503 => Some(("Retry-After", "Seconds after which to try again.")),
            401 => Some(("WWW-Authenticate", "How to authenticate.")),
            405 => Some(("Allow", "Verbs that the path has.")),
            _ => None,
        };
        if let Some((name, text)) = header {
            response["headers"] = json!({name: {"description": text, "schema": {"type": "string"}}});
        }
        debug_assert!(StatusCode::from_u16(*status).is_ok());
        (status.to_string(), response)
    };
    PROBLEMS.iter().map(response).collect()
}

pub(super) fn headers() -> JsonValue {
    let header = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "X-Request-Id": header("Names the request in the gateway's logs; the caller's own where it sent one."),
        "RateLimit": header("What is left: `\"reads\";r=<requests left>;t=<seconds until one more>`."),
        "RateLimit-Policy": header("The caller's rate: `\"reads\";q=<requests>;w=<seconds>`."),
        "ETag": header("Version and hash of the content."),
    })
}

pub(super) fn security_schemes() -> JsonValue {
    json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    })
}
