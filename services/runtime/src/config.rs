//! Settings from, in rising order of precedence: defaults, a TOML file, environment variables, flags.
//!
//! The file has one section a service (`[graph]`, `[gateway]`, …) and, for all of them, `[telemetry]` and `[privacy]`. Variables are called
//! `ATTAIN_<SECTION>__<KEY>`, flags `--set section.key=value`. Whatever no section knows is refused by name, before a port
//! opens.

use std::path::PathBuf;

use attain_redaction::Redactor;
use figment::error::{Actual, Kind};
use figment::providers::{Env, Format as _, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use crate::Error;

/// Sections that a file or the environment may have.
pub const SECTIONS: [&str; 7] = ["telemetry", "privacy", "ingestion", "graph", "recommendation", "rag", "gateway"];

const ENVIRONMENT_PREFIX: &str = "ATTAIN_";

/// Where settings come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// Whether `ATTAIN_…` variables count.
    pub environment: bool,
    /// `section.key=value` that stand where nothing else says otherwise.
    pub defaults: Vec<String>,
    /// `section.key=value`, the last word.
    pub overrides: Vec<String>,
}

impl Sources {
    /// Reads one section.
    ///
    /// # Errors
    /// Names the setting, where it was read, and what is wrong with it: unknown section or key, wrong type, unreadable
    /// file.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> Result<T, Error> {
        let figment = self.figment()?;
        refuse_unknown_sections(&figment)?;
        // A section that nobody wrote is all defaults.
        let figment = Figment::from(Serialized::default(section, Dict::new())).merge(figment);
        figment.extract_inner(section).map_err(|error| describe(section, &error))
    }

    fn figment(&self) -> Result<Figment, Error> {
        let mut figment = Figment::new();
        for text in &self.defaults {
            figment = figment.merge(parse_override(text)?);
        }
        if let Some(file) = &self.file {
            if !file.is_file() {
                return Err(Error::Config(format!("there is no file {}", file.display())));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        if self.environment {
            figment =
                figment.merge(Env::prefixed(ENVIRONMENT_PREFIX).filter(|key| key.as_str().contains("__")).split("__"));
        }
        for text in &self.overrides {
            figment = figment.merge(parse_override(text)?);
        }
        Ok(figment)
    }
}

/// `graph.depth: invalid type: …, in --set`.
fn describe(section: &str, error: &figment::Error) -> Error {
    let below = error.path.iter().map(String::as_str).filter(|key| *key != section);
    let key = std::iter::once(section).chain(below).collect::<Vec<_>>().join(".");
    let source = error.metadata.as_ref().map(|metadata| format!(", in {}", metadata.name)).unwrap_or_default();
    Error::Config(format!("{key}: {}{source}", what(&error.kind)))
}

/// What is wrong, without the text of the setting: it may be a secret, or one that went to the wrong place.
fn what(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(Actual::Str(_), expected) => format!("invalid type: found a text, expected {expected}"),
        Kind::InvalidValue(Actual::Str(_), expected) => format!("invalid text, expected {expected}"),
        kind => redacted(&kind.to_string()),
    }
}

/// Without secrets; addresses in settings are the operator's own, and what an error has to show.
fn redacted(text: &str) -> String {
    Redactor::default().redact(text).0.into_owned()
}

fn refuse_unknown_sections(figment: &Figment) -> Result<(), Error> {
    let all: Dict = figment.extract().map_err(|error| Error::Config(error.to_string()))?;
    match all.keys().find(|key| !SECTIONS.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Error::Config(format!("there is no section `{key}`; sections are {}", SECTIONS.join(", ")))),
    }
}

fn parse_override(text: &str) -> Result<Flag, Error> {
    // The name only: what follows it may be a secret.
    let name = text.split('=').next().unwrap_or_default();
    let malformed = || Error::Config(format!("`{}` is not of the form section.key=value", redacted(name)));
    let (key, value) = text.split_once('=').ok_or_else(malformed)?;
    if !key.contains('.') || key.split('.').any(str::is_empty) {
        return Err(malformed());
    }
    // The same reading of plain text as for environment variables: numbers and booleans as such, the rest as text.
    let value: Value = value.parse().map_err(|_| malformed())?;
    Ok(Flag { key: key.to_owned(), value })
}

/// One `--set section.key=value`.
struct Flag {
    key: String,
    value: Value,
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named("--set")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let nested = figment::util::nest(&self.key, self.value.clone());
        Ok(Profile::Default.collect(nested.into_dict().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Example {
        listen: String,
        depth: u32,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { listen: "127.0.0.1:1".into(), depth: 3 }
        }
    }

    fn with(overrides: &[&str]) -> Sources {
        Sources { overrides: overrides.iter().map(ToString::to_string).collect(), ..Sources::default() }
    }

    #[test]
    fn later_sources_win_and_defaults_fill() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("attain.toml");
        std::fs::write(&file, "[graph]\ndepth = 5\nlisten = \"file\"").expect("written");
        let mut sources = with(&["graph.depth=7"]);
        sources.file = Some(file);
        let example: Example = sources.section("graph").expect("valid");
        assert_eq!(example, Example { listen: "file".into(), depth: 7 });
        assert_eq!(Sources::default().section::<Example>("graph").expect("defaults"), Example::default());
    }

    #[test]
    fn what_is_wrong_is_told_without_secrets() {
        #[derive(Debug, Deserialize)]
        struct Keys {
            #[serde(rename = "api_key")]
            _key: Vec<u8>,
        }
        let error = with(&["rag.api_key=hunter2"]).section::<Keys>("rag").expect_err("no list").to_string();
        assert!(error.contains("rag.api_key") && !error.contains("hunter2"), "{error}");
        let error = with(&["graph.depth=postgres://me:hunter2@db"]).section::<Example>("graph").expect_err("no number");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = with(&["hunter=2"]).section::<Example>("graph").expect_err("no section").to_string();
        assert!(!error.contains("=2"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("graph.depht=1", "depht"),
            ("graph.depth=deep", "graph.depth"),
            ("grpah.depth=1", "grpah"),
            ("graph.depth", "section.key=value"),
        ] {
            let error = with(&[text]).section::<Example>("graph").expect_err(text).to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
        let sources = Sources { file: Some("nowhere.toml".into()), ..Sources::default() };
        assert!(sources.section::<Example>("graph").expect_err("no file").to_string().contains("nowhere.toml"));
    }
}
