//! An optional language model that rewords sentences which were already checked: one call over HTTP, bounded in time, size and failures.

mod config;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use attain_runtime::clock::Clock;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;

pub use config::LanguageModelConfig;

use crate::domain::breaker::Breaker;
use crate::domain::rewording;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read, in bytes; twenty sentences take a hundredth of it.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// What of the caller's time is kept for checking and sending.
const TIME_KEPT: Duration = Duration::from_millis(200);
/// With less than this it is not asked.
const TIME_MIN: Duration = Duration::from_millis(50);

/// The model.
pub(crate) struct LanguageModel {
    http: reqwest::Client,
    endpoint: String,
    name: String,
    bearer: Option<HeaderValue>,
    timeout: Duration,
    max_tokens: u32,
    breaker: Mutex<Breaker>,
}

/// Why nothing of it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// It failed several times in a row and is left alone for a while.
    Paused,
    /// The caller waits too short a time.
    NoTime,
    /// It did not answer in time.
    Slow,
    /// It cannot be reached, or the connection broke.
    Unreachable,
    /// It refused.
    Status(u16),
    /// Its answer is too large.
    TooLarge,
    /// Its answer is not what was asked for.
    Unreadable(&'static str),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => f.write_str("it failed several times in a row and is left alone for a while"),
            Self::NoTime => f.write_str("the question left no time for it"),
            Self::Slow => f.write_str("it did not answer in time"),
            Self::Unreachable => f.write_str("it cannot be reached"),
            Self::Status(status) => write!(f, "it answered with status {status}"),
            Self::TooLarge => f.write_str("its answer is too large"),
            Self::Unreadable(what) => f.write_str(what),
        }
    }
}

impl Why {
    /// Whether anything was sent to it.
    pub(crate) fn was_asked(&self) -> bool {
        !matches!(self, Self::Paused | Self::NoTime)
    }
}

impl LanguageModel {
    /// The model of the settings; `None` where there is none.
    ///
    /// # Errors
    /// Names the setting that cannot be used.
    pub(crate) fn new(config: &LanguageModelConfig) -> Result<Option<Self>, attain_runtime::Error> {
        config.validate()?;
        let Some(url) = &config.url else { return Ok(None) };
        let wrong =
            |key: &str, reason: String| attain_runtime::Error::Config(format!("rag.language_model.{key}: {reason}"));
        // Every client of the process needs a provider, even for plain HTTP; a second call finds one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // Whoever answers with another address does not choose where sentences and the key go.
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("attain/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong("url", error.to_string()))?;
        let bearer = config.key()?.map(|key| HeaderValue::try_from(format!("Bearer {key}")));
        let mut bearer =
            bearer.transpose().map_err(|_| wrong("api_key", "holds characters that no header may".to_owned()))?;
        if let Some(bearer) = &mut bearer {
            bearer.set_sensitive(true);
        }
        Ok(Some(Self {
            http,
            endpoint: format!("{}/chat/completions", url.trim_end_matches('/')),
            name: config.model.clone(),
            bearer,
            timeout: Duration::from_millis(config.timeout_ms),
            max_tokens: config.max_tokens,
            breaker: Mutex::new(Breaker::new(config.failures_max, i64::from(config.pause_seconds) * 1000)),
        }))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The sentences in its words, in their order. What it wrote is not checked here.
    pub(crate) async fn reword(
        &self,
        sentences: &[&str],
        deadline: Instant,
        clock: &Clock,
    ) -> Result<Vec<String>, Why> {
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(TIME_KEPT);
        if left < TIME_MIN {
            return Err(Why::NoTime);
        }
        if !self.with_breaker(|breaker| breaker.may_try(clock.now_ms())) {
            return Err(Why::Paused);
        }
        let limit = left.min(self.timeout);
        let asked = tokio::time::timeout(limit, self.ask(sentences)).await;
        let answer = asked.unwrap_or(Err(Why::Slow));
        // A caller without patience says nothing about the model.
        if answer.is_ok() || limit == self.timeout || answer != Err(Why::Slow) {
            self.with_breaker(|breaker| breaker.note(answer.is_ok(), clock.now_ms()));
        }
        answer
    }

    async fn ask(&self, sentences: &[&str]) -> Result<Vec<String>, Why> {
        let body = rewording::request(&self.name, sentences, self.max_tokens);
        let body = body.map_err(|_| Why::Unreadable("the sentences cannot be written as JSON"))?;
        let mut request = self.http.post(&self.endpoint).body(body);
        request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        if let Some(bearer) = &self.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let mut answer = request.send().await.map_err(|_| Why::Unreachable)?;
        if !answer.status().is_success() {
            return Err(Why::Status(answer.status().as_u16()));
        }
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|_| Why::Unreachable)? {
            if bytes.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(Why::TooLarge);
            }
            bytes.extend_from_slice(&part);
        }
        rewording::read(&bytes, sentences.len()).map_err(Why::Unreadable)
    }

    fn with_breaker<T>(&self, work: impl FnOnce(&mut Breaker) -> T) -> T {
        work(&mut self.breaker.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
