//! The page under `/docs`: the routes of the OpenAPI document, readable without scripts and without the network.

use std::fmt::Write as _;

use serde_json::Value as JsonValue;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430;background:#fff}\
h2{margin-top:2rem;border-bottom:1px solid #cbd2dc}\
details{margin:.4rem 0}summary{cursor:pointer}code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}\
b{display:inline-block;min-width:4rem}pre{background:#f3f5f8;padding:.6rem;overflow:auto}\
@media(prefers-color-scheme:dark){body{color:#e4e8ee;background:#14181f}pre{background:#1f2630}a{color:#8ab4f8}}";

/// The page.
pub(crate) fn page(openapi: &JsonValue) -> String {
    let text = |pointer: &str| escape(openapi.pointer(pointer).and_then(JsonValue::as_str).unwrap_or_default());
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style><h1>{title} {version}</h1><p>{description}</p>\
         <p>The whole contract, for tools: <a href=\"/api/v1/openapi.json\">openapi.json</a> (OpenAPI 3.1).</p>",
        title = text("/info/title"),
        version = text("/info/version"),
        description = text("/info/description"),
    );
    for tag in openapi["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        let description = escape(tag["description"].as_str().unwrap_or_default());
        let _ = write!(html, "<h2>{}</h2><p>{description}</p>", escape(name));
        for (path, verb, operation) in operations(openapi) {
            if operation["tags"][0] == name {
                write_operation(&mut html, path, verb, operation);
            }
        }
    }
    html
}

fn operations(openapi: &JsonValue) -> impl Iterator<Item = (&str, &str, &JsonValue)> {
    let paths = openapi["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        item.as_object().into_iter().flatten().map(move |(verb, operation)| (path.as_str(), verb.as_str(), operation))
    })
}

fn write_operation(html: &mut String, path: &str, verb: &str, operation: &JsonValue) {
    let text = |value: &JsonValue| escape(value.as_str().unwrap_or_default());
    let _ = write!(
        html,
        "<details><summary><b>{}</b> <code>{}</code></summary><p>{}</p>",
        escape(&verb.to_uppercase()),
        escape(path),
        text(&operation["description"])
    );
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        html.push_str("<ul>");
        for parameter in parameters {
            let _ = write!(
                html,
                "<li><code>{}</code> ({}): {}",
                text(&parameter["name"]),
                text(&parameter["in"]),
                text(&parameter["description"])
            );
        }
        html.push_str("</ul>");
    }
    let example = &operation["requestBody"]["content"]["application/json"]["example"];
    if !example.is_null() {
        let _ = write!(html, "<pre>{}</pre>", escape(&format!("{example:#}")));
    }
    html.push_str("</details>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn operations_are_listed_and_escaped() {
        let openapi = json!({
            "info": {"title": "A & B", "version": "1", "description": "d"},
            "tags": [{"name": "t", "description": "<script>"}],
            "paths": {"/x/{id}": {"get": {"tags": ["t"], "description": "Reads x.", "parameters": [{"name": "id", "in": "path", "description": "Which."}]}}},
        });
        let html = page(&openapi);
        for part in ["A &amp; B", "&lt;script&gt;", "/x/{id}", "Reads x.", "<code>id</code> (path): Which."] {
            assert!(html.contains(part), "{part}");
        }
        assert!(!html.contains("<script"));
    }
}
