//! SLOs as documents of other tools: OpenSLO out and in, Sloth, Pyrra, and rules of Prometheus with their tests.
//!
//! Entry points: [`export`] writes the SLOs in force of a service, [`import::read`] reads what [`Format::OpenSlo`] writes and
//! what others write. Queries come from names of metrics (`metrics`). Nothing here asks anybody: whether a service is known is
//! the use case's question.

pub(crate) mod import;
mod indicator;
mod metrics;
mod openslo;
mod prometheus;
mod pyrra;
mod rule_tests;
mod selector;
mod sloth;

#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;

pub use metrics::MetricNames;

use attain_attainment::alerts::{AlertPolicy, Counted, policy};
use attain_vocabulary::{EntityId, InvalidValue, SliKind, TimeWindow};
use serde::Serialize;

use super::kept::sha256_hex;
use super::slo::{Slo, kind_word};
use crate::Error;
use metrics::Queries;

/// Names of annotations that carry what a document has no field for.
const SERVICE_ID: &str = "attain/service-id";
const KIND: &str = "attain/sli-kind";
const THRESHOLD_MS: &str = "attain/latency-threshold-ms";
/// Longest label of the domain name system, which most documents are named by.
const LABEL_LEN_MAX: usize = 63;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    OpenSlo,
    Sloth,
    Pyrra,
    Prometheus,
}

impl Format {
    const ALL: [Self; 4] = [Self::OpenSlo, Self::Sloth, Self::Pyrra, Self::Prometheus];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::OpenSlo => "openslo",
            Self::Sloth => "sloth",
            Self::Pyrra => "pyrra",
            Self::Prometheus => "prometheus",
        }
    }

    /// # Errors
    /// Lists the formats there are.
    pub(crate) fn from_word(word: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|format| format.word() == word);
        known.ok_or_else(|| {
            let code = if word.is_empty() { "required" } else { "unknown_value" };
            InvalidValue::new("format", code, "say openslo, sloth, pyrra or prometheus")
        })
    }
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) content: String,
}

/// Documents and what to know of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Export {
    pub(crate) files: Vec<File>,
    pub(crate) notes: Vec<String>,
}

/// An SLO with everything that is said of it.
struct Subject<'a> {
    slo: &'a Slo,
    /// Name as a label of the domain name system, one a service and SLI.
    name: String,
    queries: Queries,
    alerts: AlertPolicy,
}

impl Subject<'_> {
    /// For example `99.9 % over 28 days`.
    fn promise(&self) -> String {
        let window = match self.slo.window {
            TimeWindow::MONTH => "a calendar month".to_owned(),
            TimeWindow::QUARTER => "a calendar quarter".to_owned(),
            rolling => format!("{} days", rolling.days()),
        };
        let target = format!("{} % over {window}", percent(self.slo));
        match (self.slo.kind, self.slo.latency_threshold_ms) {
            (SliKind::Freshness, Some(threshold)) => format!("nothing older than {threshold} ms in {target}"),
            (_, Some(threshold)) => format!("faster than {threshold} ms for {target}"),
            (_, None) => target,
        }
    }

    fn description(&self) -> String {
        match self.slo.kind {
            SliKind::Availability => format!("Requests of {} that succeed: {}.", self.slo.service, self.promise()),
            SliKind::Latency => format!("Requests of {}, {}.", self.slo.service, self.promise()),
            SliKind::Freshness => format!("Slices of time at {}: {}.", self.slo.service, self.promise()),
        }
    }
}

/// Writes SLOs of one service. `requests_per_day` is what the service answers where that is known: rules that they are too few for are
/// guarded.
///
/// # Errors
/// Names the metric that cannot be used.
pub(crate) fn export(
    format: Format,
    slos: &[Slo],
    metrics: &MetricNames,
    requests_per_day: Option<f64>,
) -> Result<Export, Error> {
    let mut subjects = Vec::new();
    for slo in slos {
        let counted = match slo.kind {
            SliKind::Freshness => Counted::Slices(None),
            SliKind::Availability | SliKind::Latency => Counted::Requests(requests_per_day),
        };
        subjects.push(Subject {
            slo,
            name: label(&format!("{}-{}", slo.service, kind_word(slo.kind))),
            queries: metrics.queries(slo)?,
            alerts: policy(slo.target.error_budget(), f64::from(slo.window.days()), counted),
        });
    }
    if subjects.is_empty() {
        return Ok(Export { notes: vec!["There is no SLO in force.".to_owned()], ..Export::default() });
    }
    let mut exported = match format {
        Format::OpenSlo => openslo::export(&subjects)?,
        Format::Sloth => sloth::export(&subjects)?,
        Format::Pyrra => pyrra::export(&subjects)?,
        Format::Prometheus => prometheus::export(&subjects)?,
    };
    if format != Format::OpenSlo {
        let of_calendar = subjects.iter().filter(|subject| subject.slo.window.is_calendar());
        exported.notes.extend(of_calendar.map(|subject| {
            let (name, days) = (&subject.name, subject.slo.window.days());
            format!(
                "{name} has a calendar window, which {} cannot say: it is written as one of {days} rolling days.",
                format.word()
            )
        }));
    }
    exported.notes.extend(subjects.iter().filter_map(needed));
    Ok(exported)
}

/// What has to be there for the SLO to be measured.
fn needed(subject: &Subject<'_>) -> Option<String> {
    match &subject.queries {
        Queries::Counters { .. } => None,
        Queries::Histogram { bound, .. } => Some(format!(
            "The latency histogram has to have a bucket that ends at {bound}: without it there is no such series, and nothing is \
             measured."
        )),
        Queries::Ages { ages, .. } => Some(format!(
            "{} counts slices of five minutes by the largest age of {}; a slice without a sample does not count.",
            subject.name,
            ages.render()
        )),
    }
}

/// The target in percent, to ten digits after the point: a product with 100 is not exact.
fn percent(slo: &Slo) -> f64 {
    (slo.target.target_ratio() * 100.0 * 1e10).round() / 1e10
}

/// A number to twelve digits: what arithmetic leaves behind does not belong into a document.
fn tidy(value: f64) -> String {
    let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    format!("{rounded}")
}

/// Bends a text into a label of the domain name system; one that has to be bent ends in a part of its hash, so that two never
/// become one.
fn label(text: &str) -> String {
    if is_label(text) {
        return text.to_owned();
    }
    let mut bent = String::new();
    for c in text.to_ascii_lowercase().chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !bent.ends_with('-') {
            bent.push(c);
        }
    }
    let hash = &sha256_hex(text.as_bytes())[..8];
    let kept: String = bent.trim_start_matches('-').chars().take(LABEL_LEN_MAX - hash.len() - 1).collect();
    match kept.trim_end_matches('-') {
        "" => hash.to_owned(),
        kept => format!("{kept}-{hash}"),
    }
}

/// RFC 1123: lower-case letters, digits and hyphens, neither at the ends, at most 63.
fn is_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=LABEL_LEN_MAX).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn service_label(service: &EntityId) -> String {
    label(service.as_str())
}

fn yaml<T: Serialize>(document: &T) -> Result<String, Error> {
    serde_yaml_ng::to_string(document).map_err(|error| Error::Broken(format!("a document cannot be written: {error}")))
}
