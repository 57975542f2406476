//! Which PromQL means what: a TOML file of `[[mapping]]` entries, checked when it is loaded.

use std::collections::BTreeSet;
use std::path::Path;

use attain_runtime::Error;
use attain_vocabulary::EntityId;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const MAPPINGS_MAX: usize = 200;
const QUERY_CHARS_MAX: usize = 4_000;
/// Which label names the service where a mapping does not say.
const DEFAULT_LABEL: &str = "service";

/// One way to read SLI buckets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mapping {
    /// For people.
    pub(super) name: String,
    pub(super) service: Naming,
    /// Requests of the five minutes before each instant.
    pub(super) valid: String,
    /// Failed requests among them.
    pub(super) bad: String,
    pub(super) latency: Option<LatencyQuery>,
}

/// Whose requests a series counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Naming {
    /// Always of this service.
    Fixed(EntityId),
    /// The value of this label.
    Label(String),
}

/// Requests of the five minutes before each instant by upper bound (`le`), cumulative.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LatencyQuery {
    pub(super) query: String,
    /// The unit of the bounds.
    pub(super) unit_ms: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    service: Option<String>,
    label: Option<String>,
    valid: String,
    bad: String,
    latency_buckets: Option<String>,
    latency_unit: Option<LatencyUnit>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum LatencyUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}

/// Loads and checks a mapping file.
///
/// # Errors
/// Names the file and the key that cannot be right.
pub(crate) fn read_mappings(file: &Path) -> Result<Vec<Mapping>, Error> {
    let refuse =
        |reason: String| Error::Config(format!("ingestion.prometheus.mapping_file: {}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    parse(&text).map_err(refuse)
}

pub(super) fn parse(text: &str) -> Result<Vec<Mapping>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(key) = table.keys().find(|key| *key != "mapping") {
        return Err(format!("there is no key `{key}`; a mapping begins with [[mapping]]"));
    }
    let entries = match table.get("mapping") {
        Some(toml::Value::Array(entries)) if !entries.is_empty() => entries,
        _ => return Err("mapping: there is none; each begins with [[mapping]]".to_owned()),
    };
    if entries.len() > MAPPINGS_MAX {
        return Err(format!("mapping: {} entries; at most {MAPPINGS_MAX} are read", entries.len()));
    }
    let mut names = BTreeSet::new();
    let mut mappings = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let at = format!("mapping[{index}]");
        let entry: Entry =
            entry.clone().try_into().map_err(|error: toml::de::Error| format!("{at}: {}", error.message()))?;
        let mapping = entry.check(index).map_err(|(key, reason)| format!("{at}.{key}: {reason}"))?;
        if !names.insert(mapping.name.clone()) {
            return Err(format!("{at}.name: there are two called `{}`", mapping.name));
        }
        mappings.push(mapping);
    }
    Ok(mappings)
}

impl Entry {
    fn check(self, index: usize) -> Result<Mapping, (&'static str, String)> {
        let service = match (self.service, self.label) {
            (Some(_), Some(_)) => return Err(("label", "has no meaning where `service` names the service".to_owned())),
            (Some(name), None) => {
                let id = EntityId::new("service", &name).map_err(|invalid| ("service", invalid.reason))?;
                Naming::Fixed(id)
            }
            (None, label) => Naming::Label(checked_label(label.as_deref().unwrap_or(DEFAULT_LABEL))?),
        };
        if self.latency_unit.is_some() && self.latency_buckets.is_none() {
            return Err(("latency_unit", "has no meaning without `latency_buckets`".to_owned()));
        }
        let unit_ms = match self.latency_unit.unwrap_or(LatencyUnit::Seconds) {
            LatencyUnit::Seconds => 1_000.0,
            LatencyUnit::Milliseconds => 1.0,
        };
        let latency = match self.latency_buckets {
            None => None,
            Some(query) => Some(LatencyQuery { query: checked_query("latency_buckets", &query)?, unit_ms }),
        };
        Ok(Mapping {
            name: self.name.unwrap_or_else(|| format!("mapping[{index}]")),
            service,
            valid: checked_query("valid", &self.valid)?,
            bad: checked_query("bad", &self.bad)?,
            latency,
        })
    }
}

fn checked_label(label: &str) -> Result<String, (&'static str, String)> {
    let starts_well = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(("label", format!("`{label}` is no label of Prometheus")));
    }
    Ok(label.to_owned())
}

fn checked_query(key: &'static str, query: &str) -> Result<String, (&'static str, String)> {
    let query = query.trim();
    if query.is_empty() {
        return Err((key, "a PromQL query is required".to_owned()));
    }
    if query.chars().count() > QUERY_CHARS_MAX {
        return Err((key, format!("is longer than {QUERY_CHARS_MAX} characters")));
    }
    Ok(query.to_owned())
}

impl Mapping {
    /// Names what is read, so that another server or another query begins again: the old buckets are replaced.
    pub(super) fn cursor_key(&self, server: &str) -> String {
        let service = match &self.service {
            Naming::Fixed(id) => format!("service {id}"),
            Naming::Label(label) => format!("label {label}"),
        };
        let latency =
            self.latency.as_ref().map(|latency| format!("{} {}", latency.unit_ms, latency.query)).unwrap_or_default();
        let mut identity = Sha256::new();
        for part in [server, &service, &self.valid, &self.bad, &latency] {
            identity.update((part.len() as u64).to_be_bytes());
            identity.update(part);
        }
        format!("prometheus/{}", &format!("{:x}", identity.finalize())[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "[[mapping]]\nvalid = 'up'\nbad = 'down'\n";

    #[test]
    fn what_is_left_out_has_a_meaning() {
        let mappings = parse(&format!("{MINIMAL}latency_buckets = 'le'\n")).expect("valid");
        assert_eq!(mappings[0].name, "mapping[0]");
        assert_eq!(mappings[0].service, Naming::Label("service".into()));
        assert_eq!(mappings[0].latency, Some(LatencyQuery { query: "le".into(), unit_ms: 1_000.0 }));
        let fixed =
            parse(&format!("{MINIMAL}service = 'cart'\nlatency_buckets = 'le'\nlatency_unit = 'ms'\n")).expect("valid");
        assert_eq!(fixed[0].service, Naming::Fixed(EntityId::new("id", "cart").expect("valid")));
        assert_eq!(fixed[0].latency.as_ref().map(|latency| latency.unit_ms), Some(1.0));
    }

    #[test]
    fn what_cannot_be_right_is_named() {
        for (text, named) in [
            (String::new(), "mapping"),
            ("mapping = 3".into(), "mapping"),
            ("[[mappings]]\nvalid = 'a'\nbad = 'b'".into(), "`mappings`"),
            ("[[mapping]]\nbad = 'b'".into(), "mapping[0]: missing field `valid`"),
            ("[[mapping]]\nvalid = ' '\nbad = 'b'".into(), "mapping[0].valid"),
            (format!("{MINIMAL}{MINIMAL}service = 'a b'"), "mapping[1].service"),
            (format!("{MINIMAL}service = 'a'\nlabel = 'b'"), "mapping[0].label"),
            (format!("{MINIMAL}label = '1b'"), "mapping[0].label"),
            (format!("{MINIMAL}latency_unit = 'ms'"), "mapping[0].latency_unit"),
            (format!("{MINIMAL}latency_buckets = 'x'\nlatency_unit = 'minutes'"), "minutes"),
            (format!("{MINIMAL}valud = 'x'"), "valud"),
            (format!("{MINIMAL}name = 'a'\n{MINIMAL}name = 'a'"), "mapping[1].name"),
            ("[[mapping".into(), "mapping"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn the_shipped_example_is_valid() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus-mapping.toml");
        assert!(!read_mappings(&file).expect("valid").is_empty());
    }

    #[test]
    fn another_query_or_server_has_another_cursor() {
        let mappings = parse(&format!("{MINIMAL}{MINIMAL}label = 'job'\n")).expect("valid");
        let keys = [
            mappings[0].cursor_key("http://a"),
            mappings[1].cursor_key("http://a"),
            mappings[0].cursor_key("http://b"),
        ];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(mappings[0].cursor_key("http://a"), keys[0]);
    }
}
