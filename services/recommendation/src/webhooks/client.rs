//! The way out: which addresses may be named, which may be connected to, and one attempt.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use attain_vocabulary::InvalidValue;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use super::config::WebhookConfig;
use crate::Error;
use crate::domain::webhook::is_public;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest address of an endpoint, in bytes.
const URL_LEN_MAX: usize = 2000;

/// Sends messages.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    allow_private: bool,
}

/// A message as it goes out.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) url: &'a str,
    pub(crate) id: &'a str,
    pub(crate) timestamp_seconds: i64,
    pub(crate) signatures: &'a str,
    pub(crate) body: &'a str,
}

impl Client {
    /// # Errors
    /// Where the process has no way to speak TLS.
    pub(crate) fn new(config: &WebhookConfig) -> Result<Self, Error> {
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let allow_private = config.allow_private_addresses;
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(Duration::from_secs(u64::from(config.timeout_seconds)))
            // Whoever answers with another address does not choose where signed messages go.
            .redirect(Policy::none())
            // A proxy would connect where this process may not.
            .no_proxy()
            // Each connection is checked when it is made; none outlives its message.
            .pool_max_idle_per_host(0)
            .dns_resolver(PublicOnly { allow_private })
            .user_agent(concat!("attain/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Runtime(format!("webhooks have no client: {error}")))?;
        Ok(Self { http, allow_private })
    }

    /// One attempt: the status of the answer. The body of the answer is not read.
    ///
    /// # Errors
    /// What went wrong, in words without the address.
    pub(crate) async fn post(&self, message: &Message<'_>) -> Result<StatusCode, String> {
        let url = Url::parse(message.url).map_err(|_| "the address cannot be read".to_owned())?;
        if literal(&url).is_some_and(|address| !self.allow_private && !is_public(address)) {
            return Err(PRIVATE.to_owned());
        }
        let sent = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp_seconds)
            .header("webhook-signature", message.signatures)
            .body(message.body.to_owned())
            .send()
            .await;
        sent.map(|answer| answer.status()).map_err(|error| failure(&error))
    }
}

const PRIVATE: &str = "the name leads to no public address";

/// Resolves names, and gives none but public addresses to connect to.
#[derive(Debug, Clone, Copy)]
struct PublicOnly {
    allow_private: bool,
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<SocketAddr> =
                found.into_iter().filter(|address| allow_private || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(PRIVATE.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The address that a URL names in place of a host.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// What went wrong, by the innermost cause.
fn failure(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    attain_redaction::redact(&text).0.chars().take(200).collect()
}

/// Checks the address of an endpoint to be.
///
/// # Errors
/// Names what is wrong with it.
pub(crate) fn checked_url(url: &str, config: &WebhookConfig) -> Result<String, InvalidValue> {
    let refuse = |code, reason: &str| Err(InvalidValue::new("url", code, reason));
    if url.len() > URL_LEN_MAX {
        return refuse("too_long", "an address has at most 2000 bytes");
    }
    let Ok(parsed) = Url::parse(url) else {
        return refuse("malformed", "write an address such as https://hooks.example.com/attain");
    };
    match parsed.scheme() {
        "https" => {}
        "http" if config.allow_http => {}
        "http" => return refuse("not_allowed", "messages go over https only; a setting of the service allows http"),
        _ => return refuse("malformed", "an address begins with https://"),
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return refuse("not_allowed", "an address carries no credentials; messages are signed instead");
    }
    if parsed.host_str().is_none_or(str::is_empty) || parsed.fragment().is_some() {
        return refuse("malformed", "an address has a host and no fragment");
    }
    if attain_redaction::redact(parsed.as_str()).1 > 0 {
        return refuse("secret", "the address holds a secret or personal data; messages are signed instead");
    }
    if literal(&parsed).is_some_and(|address| !config.allow_private_addresses && !is_public(address)) {
        return refuse("private_address", "the address is in a private network or on this machine");
    }
    Ok(parsed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_https_addresses_are_taken() {
        let strict = WebhookConfig::default();
        let code = |url: &str, config: &WebhookConfig| checked_url(url, config).map_err(|fault| fault.code);
        assert_eq!(code("https://hooks.example.com/a?b=c", &strict), Ok("https://hooks.example.com/a?b=c".into()));
        for (url, refused) in [
            ("hooks.example.com", "malformed"),
            ("ftp://hooks.example.com", "malformed"),
            ("https://hooks.example.com/#a", "malformed"),
            ("http://hooks.example.com", "not_allowed"),
            ("https://user:pass@hooks.example.com", "not_allowed"),
            ("https://127.0.0.1/", "private_address"),
            // Other ways to write the same address.
            ("https://2130706433/", "private_address"),
            ("https://0x7f.1/", "private_address"),
            ("https://0177.0.0.1/", "private_address"),
            ("https://[::ffff:127.0.0.1]/", "private_address"),
            ("https://[fd00::1]/", "private_address"),
            ("https://169.254.169.254/latest/meta-data", "private_address"),
        ] {
            assert_eq!(code(url, &strict), Err(refused), "{url}");
        }
        assert_eq!(code(&format!("https://h.example/{}", "x".repeat(2000)), &strict), Err("too_long"));
        let open = WebhookConfig { allow_http: true, allow_private_addresses: true, ..WebhookConfig::default() };
        assert!(code("http://127.0.0.1:9/", &open).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_here_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let client = Client::new(&WebhookConfig::default()).expect("a client");
        for host in ["localhost", "127.0.0.1", "[::1]"] {
            let url = format!("http://{host}:{port}/");
            let message = Message { url: &url, id: "evt-1", timestamp_seconds: 1, signatures: "v1,", body: "{}" };
            assert_eq!(client.post(&message).await, Err(PRIVATE.to_owned()), "{host}");
        }
        assert!(futures::poll!(Box::pin(listener.accept())).is_pending(), "nobody connected");
    }
}
