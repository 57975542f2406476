//! Settings of the optional language model.

use std::fmt;
use std::path::PathBuf;

use attain_runtime::Error;
use serde::Deserialize;

/// Longest key that is read, in bytes.
const KEY_LEN_MAX: u64 = 8192;

/// Settings of the section `[rag.language_model]`. Without `url` there is none.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageModelConfig {
    /// Address of an endpoint that speaks OpenAI's chat completions, up to and without `/chat/completions`, for example
    /// `http://127.0.0.1:11434/v1`.
    pub url: Option<String>,
    /// Name of the model.
    pub model: String,
    /// The key that is sent as bearer; it goes before `api_key_file`.
    pub api_key: Option<String>,
    /// A file with the key, read at the start.
    pub api_key_file: Option<PathBuf>,
    /// Milliseconds that it may take to answer, 100 to 60,000, and never more than the question has left.
    pub timeout_ms: u64,
    /// Most tokens of its answer, 64 to 16,384.
    pub max_tokens: u32,
    /// Failures in a row after which it is left alone, 1 to 100.
    pub failures_max: u32,
    /// Seconds for which it is left alone, 1 to 3600.
    pub pause_seconds: u32,
}

impl Default for LanguageModelConfig {
    /// None.
    fn default() -> Self {
        Self {
            url: None,
            model: String::new(),
            api_key: None,
            api_key_file: None,
            timeout_ms: 5_000,
            max_tokens: 1_024,
            failures_max: 5,
            pause_seconds: 30,
        }
    }
}

impl fmt::Debug for LanguageModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LanguageModelConfig")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("api_key", &self.api_key.as_ref().map(|_| "[hidden]"))
            .field("api_key_file", &self.api_key_file)
            .field("timeout_ms", &self.timeout_ms)
            .field("max_tokens", &self.max_tokens)
            .field("failures_max", &self.failures_max)
            .field("pause_seconds", &self.pause_seconds)
            .finish()
    }
}

impl LanguageModelConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that makes no sense.
    pub fn validate(&self) -> Result<(), Error> {
        let wrong = |key: &str, reason: String| Err(Error::Config(format!("rag.language_model.{key}: {reason}")));
        let ranges = [
            ("timeout_ms", self.timeout_ms, 100, 60_000),
            ("max_tokens", u64::from(self.max_tokens), 64, 16_384),
            ("failures_max", u64::from(self.failures_max), 1, 100),
            ("pause_seconds", u64::from(self.pause_seconds), 1, 3600),
        ];
        for (key, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return wrong(key, format!("{value} is outside {least} to {most}"));
            }
        }
        let Some(url) = &self.url else {
            let orphan = !self.model.is_empty() || self.api_key.is_some() || self.api_key_file.is_some();
            return if orphan { wrong("url", "is needed where a model or a key is named".to_owned()) } else { Ok(()) };
        };
        let Ok(parsed) = reqwest::Url::parse(url) else {
            return wrong("url", "is no address such as http://127.0.0.1:11434/v1".to_owned());
        };
        if !["http", "https"].contains(&parsed.scheme()) || parsed.host_str().is_none_or(str::is_empty) {
            return wrong("url", "begins with http:// or https:// and has a host".to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return wrong("url", "carries no credentials; name a key in api_key_file".to_owned());
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return wrong("url", "has no query and no fragment".to_owned());
        }
        if self.model.trim().is_empty() || self.model.len() > 200 {
            return wrong("model", "is a name of 1 to 200 characters".to_owned());
        }
        Ok(())
    }

    /// The key of the settings, from the file where it is there.
    ///
    /// # Errors
    /// Names the file that cannot be read, without what is in it.
    pub(crate) fn key(&self) -> Result<Option<String>, Error> {
        if let Some(key) = &self.api_key {
            return Ok(Some(key.trim().to_owned()));
        }
        let Some(file) = &self.api_key_file else { return Ok(None) };
        let refused =
            |reason: String| Error::Config(format!("rag.language_model.api_key_file: {}: {reason}", file.display()));
        let length = std::fs::metadata(file).map_err(|error| refused(error.to_string()))?.len();
        if length > KEY_LEN_MAX {
            return Err(refused(format!("{length} bytes are no key")));
        }
        let text = std::fs::read_to_string(file).map_err(|error| refused(error.to_string()))?;
        let key = text.trim();
        if key.is_empty() { Err(refused("no key is there".to_owned())) } else { Ok(Some(key.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> LanguageModelConfig {
        LanguageModelConfig {
            url: Some("http://127.0.0.1:1/v1".into()),
            model: "small".into(),
            ..LanguageModelConfig::default()
        }
    }

    type Change = fn(&mut LanguageModelConfig);

    #[test]
    fn a_bad_setting_is_named() {
        LanguageModelConfig::default().validate().expect("off");
        set().validate().expect("on");
        let cases: [(&str, Change); 9] = [
            ("timeout_ms", |c| c.timeout_ms = 99),
            ("max_tokens", |c| c.max_tokens = 1),
            ("failures_max", |c| c.failures_max = 0),
            ("pause_seconds", |c| c.pause_seconds = 3601),
            ("url", |c| c.url = None),
            ("url", |c| c.url = Some("ftp://x".into())),
            ("url", |c| c.url = Some("http://me:word-to-hide@x/v1".into())),
            ("url", |c| c.url = Some("http://x/v1?key=word-to-hide".into())),
            ("model", |c| c.model = " ".into()),
        ];
        for (name, change) in cases {
            let mut config = set();
            change(&mut config);
            let error = config.validate().expect_err(name).to_string();
            assert!(error.contains(&format!("rag.language_model.{name}")) && !error.contains("to-hide"), "{error}");
        }
    }

    #[test]
    fn a_key_comes_from_the_settings_or_a_file_and_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        assert_eq!(set().key().expect("none"), None);
        let named = LanguageModelConfig { api_key_file: Some(file.clone()), ..set() };
        assert!(named.key().expect_err("missing").to_string().contains("rag.language_model.api_key_file"));
        std::fs::write(&file, " key-in-file\n").expect("written");
        assert_eq!(named.key().expect("read").as_deref(), Some("key-in-file"));
        std::fs::write(&file, "x".repeat(9000)).expect("written");
        assert!(named.key().is_err());
        let both = LanguageModelConfig { api_key: Some("key-to-hide".into()), ..named };
        assert_eq!(both.key().expect("set").as_deref(), Some("key-to-hide"));
        assert!(!format!("{both:?}").contains("to-hide"));
    }
}
