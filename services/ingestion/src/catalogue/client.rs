//! Conditional requests to the catalogue's REST API.

use std::path::PathBuf;
use std::time::Duration;

use attain_redaction::redact;
use reqwest::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Certificate, Response, StatusCode, redirect};

use super::settings::{CatalogueConfig, Token};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of an answer that is an error.
const ERROR_BYTES_MAX: usize = 16 * 1024;
/// Most characters of the server's words in ours.
const REASON_CHARS_MAX: usize = 200;
/// Longest wait that a server may ask for, in seconds.
const RETRY_AFTER_SECONDS_MAX: u64 = 3600;

/// A catalogue.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: reqwest::Url,
    token: TokenSource,
}

#[derive(Debug, Clone)]
enum TokenSource {
    None,
    File(PathBuf),
    Setting(Token),
}

/// A token as the header that carries it, for one sweep.
#[derive(Debug, Clone)]
pub(super) struct Authorization(Option<HeaderValue>);

/// What a conditional request brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The same as under the entity tag that was sent.
    Unchanged,
    /// The body, and its entity tag where it has one.
    Changed { etag: Option<String>, body: Vec<u8> },
}

/// Why there is no sweep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the catalogue does not answer: {0}")]
    Unreachable(String),
    #[error("the token cannot be used: {0}")]
    Token(String),
    #[error("the catalogue does not accept the token (HTTP 401): {0}")]
    Unauthorized(String),
    #[error("the token may not read the catalogue (HTTP 403): {0}")]
    Forbidden(String),
    #[error("there is no catalogue API at this address (HTTP 404): {0}")]
    NotFound(String),
    #[error("the catalogue is busy (HTTP {status}): {reason}")]
    Busy { status: u16, reason: String, retry_after: Option<Duration> },
    #[error("the catalogue refuses the question (HTTP {status}): {reason}")]
    Refused { status: u16, reason: String },
    #[error("the catalogue fails (HTTP {status}): {reason}")]
    Failed { status: u16, reason: String },
    #[error("the answer is no page of a catalogue: {0}")]
    Malformed(String),
    #[error("the pages do not add up: {0}")]
    Incomplete(String),
    #[error("the catalogue has more than is read: {0}")]
    TooLarge(String),
}

impl Trouble {
    /// A stable word for it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Token(_) => "token_unusable",
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Busy { .. } => "busy",
            Self::Refused { .. } => "refused",
            Self::Failed { .. } => "failed",
            Self::Malformed(_) => "malformed",
            Self::Incomplete(_) => "incomplete",
            Self::TooLarge(_) => "too_large",
        }
    }
}

impl Client {
    /// Reads the certificates that are trusted besides the system's.
    pub(super) fn new(config: &CatalogueConfig) -> Result<Self, String> {
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_secs(config.timeout_seconds))
            // A login page is no catalogue, and nobody else is to get the token.
            .redirect(redirect::Policy::none());
        if let Some(file) = &config.ca_file {
            let pem = std::fs::read(file).map_err(|error| format!("ca_file: {error}"))?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| format!("ca_file: {error}"))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let token = match (&config.token_file, &config.token) {
            (Some(file), _) => TokenSource::File(file.clone()),
            (None, Some(token)) => TokenSource::Setting(token.clone()),
            (None, None) => TokenSource::None,
        };
        let endpoint = format!("{}/api/catalog/entities/by-query", config.url.trim_end_matches('/'));
        Ok(Self {
            http: builder.build().map_err(|error| described(&error.without_url()))?,
            endpoint: endpoint.parse().map_err(|error| format!("url: {error}"))?,
            token,
        })
    }

    /// Reads the token anew.
    pub(super) async fn authorization(&self) -> Result<Authorization, Trouble> {
        let token = match &self.token {
            TokenSource::None => return Ok(Authorization(None)),
            TokenSource::Setting(token) => token.as_str().to_owned(),
            TokenSource::File(file) => tokio::fs::read_to_string(file)
                .await
                .map_err(|error| Trouble::Token(format!("{} cannot be read: {error}", file.display())))?,
        };
        let token = token.trim();
        if token.is_empty() {
            return Err(Trouble::Token("it is empty".to_owned()));
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Trouble::Token("it has characters that no header holds".to_owned()))?;
        value.set_sensitive(true);
        Ok(Authorization(Some(value)))
    }

    /// Asks for one page; with `etag` only for what is different.
    pub(super) async fn fetch(
        &self,
        authorization: &Authorization,
        asked: &[(&str, &str)],
        etag: Option<&str>,
        bytes_max: usize,
    ) -> Result<Fetched, Trouble> {
        let mut request = self.http.get(self.endpoint.clone()).query(asked);
        if let Some(value) = &authorization.0 {
            request = request.header(AUTHORIZATION, value.clone());
        }
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => Ok(Fetched::Unchanged),
            StatusCode::OK => {
                let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
                Ok(Fetched::Changed { etag, body: read(response, bytes_max).await? })
            }
            _ => Err(refusal(response).await),
        }
    }
}

fn unreachable(error: reqwest::Error) -> Trouble {
    let reason = if error.is_timeout() { "it takes too long".to_owned() } else { described(&error.without_url()) };
    Trouble::Unreachable(reason)
}

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(Trouble::TooLarge(format!("the answers have more bytes than the {bytes_max} that are left")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn refusal(mut response: Response) -> Trouble {
    let status = response.status();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds.min(RETRY_AFTER_SECONDS_MAX)));
    let mut body = Vec::new();
    while body.len() < ERROR_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(ERROR_BYTES_MAX - body.len())]),
            _ => break,
        }
    }
    let (reason, code) = (told(&body), status.as_u16());
    match code {
        300..=399 => Trouble::Refused { status: code, reason: "it sends elsewhere, as a login page does".to_owned() },
        401 => Trouble::Unauthorized(reason),
        403 => Trouble::Forbidden(reason),
        404 => Trouble::NotFound(reason),
        408 | 425 | 429 | 503 => Trouble::Busy { status: code, reason, retry_after },
        500.. => Trouble::Failed { status: code, reason },
        _ => Trouble::Refused { status: code, reason },
    }
}

/// The words of Backstage's error, or of whatever stands before it: cut, and without anything secret.
fn told(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<serde_json::Value>(body).ok();
    let text = match parsed.as_ref().and_then(|body| body.pointer("/error/message")?.as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(body).into_owned(),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = redact(&line).0.chars().take(REASON_CHARS_MAX).collect();
    if cut.is_empty() { "without a reason".to_owned() } else { cut }
}

/// An error and its causes in one line.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_cut_and_hold_no_secret() {
        let body =
            br#"{"error":{"name":"AuthenticationError","message":"Illegal token Bearer abcdefghijklmnopqrstuvwxyz"}}"#;
        assert_eq!(told(body), "Illegal token Bearer [redacted:token]");
        assert_eq!(told(b"<html>\n  <b>Bad gateway"), "<html> <b>Bad gateway");
        assert_eq!(told(b""), "without a reason");
        assert_eq!(told("é".repeat(9_999).as_bytes()).chars().count(), REASON_CHARS_MAX);
    }
}
