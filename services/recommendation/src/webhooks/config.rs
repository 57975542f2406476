//! Settings of webhooks.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

/// Settings of the section `[recommendation.webhooks]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Most endpoints of one tenant, 1 to 100.
    pub endpoints_max: u32,
    /// Attempts after which a message is given up, 1 to 50.
    pub attempts_max: u32,
    /// Seconds to wait after the first failure, 1 to 3600; it doubles with each further one, and up to a half is taken off by
    /// lot.
    pub first_wait_seconds: u32,
    /// Longest wait in seconds, up to a day; no shorter than `first_wait_seconds`.
    pub wait_seconds_max: u32,
    /// Seconds that an endpoint may take to answer, 1 to 60.
    pub timeout_seconds: u32,
    /// Milliseconds between two looks for messages that are due, 10 to 60,000.
    pub poll_interval_ms: u64,
    /// Days for which messages are kept that wait no longer, 1 to 400.
    pub kept_days: u32,
    /// Whether messages may go in clear: `http` beside `https`.
    pub allow_http: bool,
    /// Whether endpoints may lie in private networks or on this machine.
    pub allow_private_addresses: bool,
    /// File with the keys that secrets are encrypted with, as in `keys`; a mesh in one process makes its own beside its data where
    /// none is named. Without keys there are no webhooks.
    pub key_file: Option<PathBuf>,
    /// The keys themselves, each `NAME:` and 64 hexadecimal digits, with commas between: the first encrypts, all of them decrypt.
    /// They go before `key_file`.
    pub keys: KeyText,
}

/// Keys as they are written in settings; never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct KeyText(String);

impl KeyText {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for KeyText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

impl Default for WebhookConfig {
    /// Only public endpoints over TLS. Fourteen attempts take between 6 and 12 hours: a night is survived.
    fn default() -> Self {
        Self {
            endpoints_max: 20,
            attempts_max: 14,
            first_wait_seconds: 5,
            wait_seconds_max: 21_600,
            timeout_seconds: 10,
            poll_interval_ms: 500,
            kept_days: 30,
            allow_http: false,
            allow_private_addresses: false,
            key_file: None,
            keys: KeyText::default(),
        }
    }
}

impl WebhookConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn validate(&self) -> Result<(), attain_runtime::Error> {
        let ranges: [(&str, u64, u64, u64); 7] = [
            ("endpoints_max", u64::from(self.endpoints_max), 1, 100),
            ("attempts_max", u64::from(self.attempts_max), 1, 50),
            ("first_wait_seconds", u64::from(self.first_wait_seconds), 1, 3600),
            ("wait_seconds_max", u64::from(self.wait_seconds_max), u64::from(self.first_wait_seconds), 86_400),
            ("timeout_seconds", u64::from(self.timeout_seconds), 1, 60),
            ("poll_interval_ms", self.poll_interval_ms, 10, 60_000),
            ("kept_days", u64::from(self.kept_days), 1, 400),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                let text = format!("recommendation.webhooks.{key}: {value} is outside {least} to {most}");
                return Err(attain_runtime::Error::Config(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::webhook::Backoff;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_setting_is_named() {
        assert!(WebhookConfig::default().validate().is_ok());
        let config = WebhookConfig { wait_seconds_max: 4, ..WebhookConfig::default() };
        let error = config.validate().expect_err("shorter than the first").to_string();
        assert!(error.contains("recommendation.webhooks.wait_seconds_max"), "{error}");
    }

    #[test]
    fn by_default_a_message_is_tried_for_six_to_twelve_hours() {
        let config = WebhookConfig::default();
        let backoff = Backoff {
            first_ms: i64::from(config.first_wait_seconds) * 1000,
            max_ms: i64::from(config.wait_seconds_max) * 1000,
            attempts_max: config.attempts_max,
        };
        for seed in 0..200 {
            let waits = (1..).map_while(|failed| backoff.wait_ms(failed, &format!("evt-{seed}")));
            let hours = waits.sum::<i64>() as f64 / 3_600_000.0;
            assert!((5.5..=12.0).contains(&hours), "{hours}");
        }
    }
}
