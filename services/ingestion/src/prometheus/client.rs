//! Range queries to a Prometheus-compatible server.

use std::path::Path;
use std::time::Duration;

use attain_vocabulary::{BUCKET_MS, UnixMillis};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;

use super::answer::{Answer, QueryError, read_answer};
use crate::PrometheusConfig;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: String,
    settings: PrometheusConfig,
}

impl Client {
    /// Checks what the settings say of the way to the server.
    ///
    /// # Errors
    /// Names the setting: a certificate file, a header.
    pub(super) fn new(settings: &PrometheusConfig) -> Result<Self, (&'static str, String)> {
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_secs(settings.query_timeout_seconds))
            .default_headers(headers(settings)?)
            // Credentials are for the server that was named, and for nobody else.
            .redirect(Policy::none());
        if let Some(file) = &settings.ca_file {
            let refuse = |reason: String| ("ca_file", format!("{}: {reason}", file.display()));
            let pem = std::fs::read(file).map_err(|error| refuse(error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| refuse(error.to_string()))?;
            if certificates.is_empty() {
                return Err(refuse("has no certificate".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder.build().map_err(|error| ("url", described(&error)))?;
        let endpoint = format!("{}/api/v1/query_range", settings.url.trim_end_matches('/'));
        Ok(Self { http, endpoint, settings: settings.clone() })
    }

    /// The values of a query at each five minutes from `start_ms` to `end_ms`, both included.
    pub(super) async fn query_range(
        &self,
        query: &str,
        start_ms: UnixMillis,
        end_ms: UnixMillis,
    ) -> Result<Answer, QueryError> {
        let instants = [("start", start_ms / 1000), ("end", end_ms / 1000), ("step", BUCKET_MS / 1000)];
        let instants = instants.map(|(key, seconds)| (key, seconds.to_string()));
        let asked = instants.iter().map(|(key, value)| (*key, value.as_str()));
        // The address may hold credentials: no error repeats it.
        let unavailable = |error: reqwest::Error| match error.is_timeout() && !error.is_connect() {
            true => QueryError::TimedOut(described(&error.without_url())),
            false => QueryError::Unavailable(described(&error.without_url())),
        };
        // Queries may be longer than an address can be.
        let mut request = self
            .http
            .post(&self.endpoint)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(asked.chain([("query", query)])));
        if let Some(authorization) = self.authorization()? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let bytes_max = self.settings.answer_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(QueryError::TooLarge(format!("more than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        read_answer(status.as_u16(), &body, self.settings.series_per_answer_max)
    }

    /// Read at each query: whoever issues tokens renews the file.
    fn authorization(&self) -> Result<Option<HeaderValue>, QueryError> {
        let refuse =
            |key: &str, reason: String| QueryError::Credentials(format!("ingestion.prometheus.{key}: {reason}"));
        let text = match (&self.settings.bearer_token_file, &self.settings.basic_username) {
            (Some(file), _) => {
                format!("Bearer {}", secret(file).map_err(|reason| refuse("bearer_token_file", reason))?)
            }
            (None, Some(user)) => {
                use base64::Engine as _;
                let password = match &self.settings.basic_password_file {
                    Some(file) => secret(file).map_err(|reason| refuse("basic_password_file", reason))?,
                    None => String::new(),
                };
                let pair = format!("{user}:{password}");
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            (None, None) => return Ok(None),
        };
        let mut value =
            HeaderValue::from_str(&text).map_err(|_| refuse("bearer_token_file", "is no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// What is in a file, without the line's end; no error repeats it.
fn secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn headers(settings: &PrometheusConfig) -> Result<HeaderMap, (&'static str, String)> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let refuse = |what: &str| ("headers", format!("`{name}`: {what}"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refuse("no name of a header"))?;
        let mut value = HeaderValue::from_str(value.reveal()).map_err(|_| refuse("its value is none of a header"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Names and values as a form's body.
fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut address = reqwest::Url::parse("http://form").expect("an address");
    address.query_pairs_mut().extend_pairs(pairs);
    address.query().unwrap_or_default().to_owned()
}

/// An error and its causes in one line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
