//! One request to a gateway, and what its problem details say.

use std::time::Duration;

use anyhow::{Context as _, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// Longer than any deadline of the gateway.
const TIMEOUT: Duration = Duration::from_secs(60);
/// What may stand in a path segment as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What to ask.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), query: Vec::new(), body: None }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::Delete, ..Self::get(path) }
    }

    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::post_bytes(path, body.to_string().into_bytes())
    }

    pub(crate) fn put(path: impl Into<String>, body: &Value) -> Self {
        Self { method: Method::Put, ..Self::post(path, body) }
    }

    pub(crate) fn post_bytes(path: impl Into<String>, body: Vec<u8>) -> Self {
        Self { method: Method::Post, body: Some(body), ..Self::get(path) }
    }

    /// Adds a query parameter where there is a value.
    pub(crate) fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// A gateway to talk to.
pub(crate) struct Gateway {
    client: reqwest::Client,
    url: String,
    api_key: Option<String>,
}

impl Gateway {
    pub(crate) fn new(url: &str, api_key: Option<&str>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), api_key: api_key.map(str::to_owned) })
    }

    /// Sends a request and reads the JSON answer.
    pub(crate) async fn send(&self, request: &Request) -> anyhow::Result<Value> {
        let url = format!("{}{}", self.url, request.path);
        let builder = match request.method {
            Method::Get => self.client.get(&url),
            Method::Post => self.client.post(&url),
            Method::Put => self.client.put(&url),
            Method::Delete => self.client.delete(&url),
        };
        let builder = match &self.api_key {
            Some(key) => builder.bearer_auth(key),
            None => builder,
        };
        let builder = match &request.body {
            Some(body) => builder.header("content-type", "application/json").body(body.clone()),
            None => builder,
        };
        let response = builder
            .query(&request.query)
            .send()
            .await
            .with_context(|| format!("no gateway answers at {}; is `attain up` running?", self.url))?;
        let status = response.status();
        let text = response.text().await?;
        let answer: Value =
            serde_json::from_str(&text).with_context(|| format!("{url} answered {status} without JSON"))?;
        // A process that is not ready still says what is missing.
        if status.is_success() || request.path == "/readyz" {
            return Ok(answer);
        }
        bail!(problem(&answer, status.as_u16()))
    }
}

/// Problem details as lines for a person.
fn problem(problem: &Value, status: u16) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![format!("{} ({status} {})", text("detail"), text("code"))];
    for error in problem["errors"].as_array().into_iter().flatten() {
        let part = |key: &str| error[key].as_str().unwrap_or_default();
        lines.push(format!("  {}: {}", part("pointer"), part("reason")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("component:default/pay ments"), "component%3Adefault%2Fpay%20ments");
        assert_eq!(segment("checkout-service"), "checkout-service");
    }

    #[test]
    fn a_problem_names_its_fields() {
        let answer = json!({"detail": "2 rows were refused", "code": "invalid", "errors": [{"pointer": "/buckets/0/bad_count", "reason": "too many"}]});
        assert_eq!(problem(&answer, 422), "2 rows were refused (422 invalid)\n  /buckets/0/bad_count: too many");
    }
}
