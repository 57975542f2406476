//! The OpenAPI 3.1 document, written from the descriptors: [`schema`] describes messages, [`operation`] RPCs.

mod operation;
mod schema;

use serde_json::{Map, Value as JsonValue, json};

use crate::config::{Auth, Config};
use crate::contract::{Contract, comment};
use crate::routes::{Routes, System, Target};

const DESCRIPTION: &str = "Tells every team which SLOs its service can attain, given what it depends on. Ratios are fractions in [0, 1], \
times are RFC 3339, spans of time are seconds with an s, latencies are milliseconds. Unset fields are left out. Errors are problem details (RFC 9457).";
const SYSTEM_TAG: &str = "system";

/// The document of every route.
pub(crate) fn document(contract: &Contract, routes: &Routes, config: &Config) -> JsonValue {
    let needs_keys = config.auth == Auth::Keys;
    let names = schema::Names::new(contract.pool());
    let mut schemas = Map::new();
    let mut paths: Map<String, JsonValue> = Map::new();
    for route in routes.iter() {
        let operation = match &route.target {
            Target::Rpc(endpoint) => {
                let (input, output) = (endpoint.rpc.input(), endpoint.rpc.output());
                // A body as it came has no schema of ours.
                let described = if endpoint.raw_body.is_some() { &output } else { &input };
                schema::add(&mut schemas, &names, described, &output);
                operation::of_rpc(endpoint, &names, needs_keys)
            }
            Target::System(system) => of_system(*system),
        };
        let item = paths.entry(route.name.clone()).or_insert_with(|| json!({}));
        item[route.verb.as_str().to_ascii_lowercase()] = operation;
    }
    schemas.insert("Problem".into(), schema::problem());
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Attain",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway that served this document."}],
        "tags": tags(contract),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": operation::problem_responses(),
            "headers": operation::headers(),
            "securitySchemes": operation::security_schemes(),
        },
    });
    if needs_keys {
        document["security"] = json!([{"bearer": []}, {"api_key": []}]);
    }
    document
}

/// One tag a service of the contract that has a route, and one for the gateway's own.
fn tags(contract: &Contract) -> Vec<JsonValue> {
    let mut tags: Vec<JsonValue> = Vec::new();
    for endpoint in contract.endpoints() {
        let service = endpoint.rpc.parent_service();
        let name = operation::tag(&endpoint.rpc);
        if tags.iter().all(|tag| tag["name"] != name) {
            tags.push(json!({"name": name, "description": comment(&service.parent_file(), service.path())}));
        }
    }
    tags.push(json!({"name": SYSTEM_TAG, "description": "The gateway itself."}));
    tags
}

fn of_system(system: System) -> JsonValue {
    let (operation_id, media_type) = match system {
        System::OpenApi => ("GetOpenApi", "application/json"),
        System::Docs => ("GetDocs", "text/html"),
        System::Health => ("GetHealth", "application/json"),
        System::Readiness => ("GetReadiness", "application/json"),
        System::Metrics => ("GetMetrics", "text/plain"),
    };
    let purpose = System::ALL.iter().find(|(known, _, _)| *known == system).map_or("", |(_, _, purpose)| purpose);
    let content = json!({media_type: {}});
    let mut responses = json!({
        "200": {"description": purpose, "content": content.clone()},
        "429": {"$ref": "#/components/responses/429"},
        "503": {"$ref": "#/components/responses/503"},
    });
    if system == System::Readiness {
        responses["503"] =
            json!({"description": "Something required is missing; the body says what.", "content": content});
    }
    json!({
        "operationId": operation_id,
        "tags": [SYSTEM_TAG],
        "summary": purpose,
        "description": purpose,
        "security": [],
        "responses": responses,
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
