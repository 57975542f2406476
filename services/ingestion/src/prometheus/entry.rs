//! One `[[mapping]]` as it is written.

use attain_vocabulary::{EntityId, EntityKind, Source, UtilisationKind};
use serde::Deserialize;

use super::mapping::{EdgeQueries, LatencyQuery, Naming, Reading, SliQueries, UtilisationQueries};
use super::promql::{Counting, counted, observed};

const QUERY_CHARS_MAX: usize = 8_000;
/// Which label names the service where a mapping does not say.
const DEFAULT_LABEL: &str = "service";
/// Labels that name a target of every scrape.
const TARGET_LABELS: &str = "job, instance";

/// A key that cannot be right, and why.
pub(super) type Refusal = (&'static str, String);

/// Every key that a mapping may have. Of a preset the first group; otherwise one of the last three.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Entry {
    pub(super) name: Option<String>,
    pub(super) preset: Option<String>,
    /// Which of a preset's mappings; all when left out.
    pub(super) parts: Option<Vec<String>>,
    pub(super) selector: Option<String>,
    pub(super) window: Option<String>,
    pub(super) service: Option<String>,
    pub(super) label: Option<OneOrMany>,
    pub(super) strip_namespace: Option<bool>,
    pub(super) target_labels: Option<Vec<String>>,
    pub(super) native_histograms: Option<bool>,
    pub(super) latency_unit: Option<LatencyUnit>,
    pub(super) latency_histogram: Option<String>,

    pub(super) valid: Option<String>,
    pub(super) valid_counter: Option<OneOrMany>,
    pub(super) bad: Option<String>,
    pub(super) bad_counter: Option<OneOrMany>,
    pub(super) latency_buckets: Option<String>,
    /// Which label of requests names the region that answered.
    pub(super) region_label: Option<OneOrMany>,

    pub(super) client_label: Option<OneOrMany>,
    pub(super) server_label: Option<OneOrMany>,
    pub(super) connection_type_label: Option<String>,
    pub(super) calls_counter: Option<OneOrMany>,
    pub(super) failures_counter: Option<OneOrMany>,
    /// Whose counters these are, `istio` or `linkerd`; nobody's in particular when left out.
    pub(super) counted_by: Option<Source>,

    pub(super) utilisation: Option<UtilisationKind>,
    pub(super) entity_kind: Option<EntityKind>,
    pub(super) average: Option<String>,
    pub(super) maximum: Option<String>,
}

/// One selector or several that no series fits twice; one label, or several of which a series has one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum LatencyUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Milliseconds,
}

impl OneOrMany {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(selector) => std::slice::from_ref(selector),
            Self::Many(selectors) => selectors,
        }
    }

    pub(super) fn map(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::One(selector) => Self::One(change(selector)),
            Self::Many(selectors) => Self::Many(selectors.into_iter().map(change).collect()),
        }
    }
}

impl Entry {
    /// What is to be read; not for a preset.
    pub(super) fn check(self) -> Result<Reading, Refusal> {
        self.check_combination()?;
        if self.latency_unit.is_some() && self.latency_buckets.is_none() && self.latency_histogram.is_none() {
            return Err(("latency_unit", "has no meaning without latencies".to_owned()));
        }
        if self.counted_by.is_some() && self.calls_counter.is_none() {
            return Err(("counted_by", "has no meaning without `calls_counter`".to_owned()));
        }
        if self.region_label.is_some() && (self.utilisation.is_some() || self.calls_counter.is_some()) {
            return Err(("region_label", "has a meaning for requests alone".to_owned()));
        }
        if let Some(window) = &self.window {
            checked_window(window)?;
        }
        if self.utilisation.is_some() {
            self.utilisation_queries().map(Reading::Utilisation)
        } else if self.calls_counter.is_some() {
            self.edge_queries().map(Reading::Edges)
        } else {
            self.sli_queries().map(Reading::Sli)
        }
    }

    /// What a preset decides.
    pub(super) fn written_out(&self) -> Option<&'static str> {
        let keys = [
            ("valid", self.valid.is_some()),
            ("valid_counter", self.valid_counter.is_some()),
            ("bad", self.bad.is_some()),
            ("bad_counter", self.bad_counter.is_some()),
            ("latency_buckets", self.latency_buckets.is_some()),
            ("latency_histogram", self.latency_histogram.is_some()),
            ("latency_unit", self.latency_unit.is_some()),
            ("calls_counter", self.calls_counter.is_some()),
            ("failures_counter", self.failures_counter.is_some()),
            ("counted_by", self.counted_by.is_some()),
            ("utilisation", self.utilisation.is_some()),
            ("average", self.average.is_some()),
            ("maximum", self.maximum.is_some()),
        ];
        keys.into_iter().find_map(|(key, is_there)| is_there.then_some(key))
    }

    /// Requests, calls and utilisation are each a mapping of their own.
    fn check_combination(&self) -> Result<(), Refusal> {
        let of_requests = self.valid.is_some() || self.valid_counter.is_some();
        let alone = |key| Err((key, "cannot stand in one mapping with `valid` or another kind of reading".to_owned()));
        match (of_requests, self.calls_counter.is_some(), self.utilisation.is_some()) {
            (true, true, _) | (_, true, true) => alone("calls_counter"),
            (true, _, true) => alone("utilisation"),
            _ => Ok(()),
        }
    }

    fn sli_queries(self) -> Result<SliQueries, Refusal> {
        let service = self.naming()?;
        let region_labels = match &self.region_label {
            Some(labels) => checked_labels("region_label", labels.as_slice())?,
            None => Vec::new(),
        };
        // Latencies are not kept by region, so only counts are asked for by it.
        let by = service.labels().join(", ");
        let by_region = [service.labels(), &region_labels].concat().join(", ");
        let witness = self.valid_counter.as_ref().and_then(|counter| counter.as_slice().first().cloned());
        let witness = witness.or_else(|| self.bad_counter.as_ref().and_then(|c| c.as_slice().first().cloned()));
        let target = self.target()?;
        let counting = self.counting(&by, witness.as_deref().unwrap_or_default(), &target);
        let latency = match (&self.latency_buckets, &self.latency_histogram) {
            (Some(_), Some(_)) => return Err(("latency_histogram", "stands instead of `latency_buckets`".to_owned())),
            (Some(query), None) => Some(("latency_buckets", query.clone())),
            (None, Some(selector)) => {
                let own_witness = witness.as_deref().unwrap_or(selector);
                Some(("latency_histogram", observed(selector, Counting { witness: own_witness, ..counting })))
            }
            (None, None) => None,
        };
        let counting = Counting { by: &by_region, ..counting };
        Ok(SliQueries {
            valid: query_or_counter(("valid", &self.valid), ("valid_counter", &self.valid_counter), counting)?,
            bad: query_or_counter(("bad", &self.bad), ("bad_counter", &self.bad_counter), counting)?,
            latency: latency.map(|(key, query)| self.latency(key, &query)).transpose()?,
            service,
            region_labels,
        })
    }

    fn edge_queries(self) -> Result<EdgeQueries, Refusal> {
        let calls = self.calls_counter.as_ref().map(OneOrMany::as_slice).unwrap_or_default();
        let Some(failures) = self.failures_counter.as_ref().map(OneOrMany::as_slice) else {
            return Err(("failures_counter", "the selector of a counter is required".to_owned()));
        };
        let labels = |key, labels: &Option<OneOrMany>| match labels {
            Some(labels) => checked_labels(key, labels.as_slice()),
            None => Err((key, "a label is required".to_owned())),
        };
        let client = labels("client_label", &self.client_label)?;
        let server = labels("server_label", &self.server_label)?;
        let mut by = [client.clone(), server.clone()].concat();
        by.extend(self.connection_type_label.as_ref().map(|l| checked_label("connection_type_label", l)).transpose()?);
        let by = by.join(", ");
        let target = self.target()?;
        let witness = calls.first().map(String::as_str).unwrap_or_default();
        let counting = self.counting(&by, witness, &target);
        let strip_namespace = self.strip_namespace.unwrap_or(false);
        let latency = self.latency_histogram.as_ref().map(|selector| observed(selector, counting));
        Ok(EdgeQueries {
            calls: checked_query("calls_counter", &counted(calls, counting))?,
            failures: checked_query("failures_counter", &counted(failures, counting))?,
            latency: latency.map(|query| self.latency("latency_histogram", &query)).transpose()?,
            client: Naming::Label { labels: client, strip_namespace },
            server: Naming::Label { labels: server, strip_namespace },
            connection_type: self.connection_type_label.clone(),
            source: self.edge_source()?,
        })
    }

    /// Two observers of the same calls are kept apart by their sources.
    fn edge_source(&self) -> Result<Source, Refusal> {
        match self.counted_by {
            None => Ok(Source::Prometheus),
            Some(source @ (Source::Prometheus | Source::Istio | Source::Linkerd)) => Ok(source),
            Some(_) => Err(("counted_by", "is istio, linkerd or prometheus".to_owned())),
        }
    }

    fn utilisation_queries(self) -> Result<UtilisationQueries, Refusal> {
        let service = self.naming()?;
        let average = self.average.as_deref().unwrap_or_default();
        let kind = self.utilisation.ok_or(("utilisation", "a kind is required".to_owned()))?;
        Ok(UtilisationQueries {
            average: checked_query("average", average)?,
            maximum: self.maximum.as_deref().map(|query| checked_query("maximum", query)).transpose()?,
            entity_kind: self.entity_kind,
            service,
            kind,
        })
    }

    fn naming(&self) -> Result<Naming, Refusal> {
        match (&self.service, &self.label) {
            (Some(_), Some(_)) => Err(("label", "has no meaning where `service` names the service".to_owned())),
            (Some(name), None) => {
                let id = EntityId::new("service", name).map_err(|invalid| ("service", invalid.reason))?;
                Ok(Naming::Fixed(id))
            }
            (None, label) => {
                let labels = match label {
                    Some(labels) => checked_labels("label", labels.as_slice())?,
                    None => vec![DEFAULT_LABEL.to_owned()],
                };
                Ok(Naming::Label { labels, strip_namespace: self.strip_namespace.unwrap_or(false) })
            }
        }
    }

    fn target(&self) -> Result<String, Refusal> {
        match &self.target_labels {
            None => Ok(TARGET_LABELS.to_owned()),
            Some(labels) => {
                let checked: Result<Vec<String>, Refusal> =
                    labels.iter().map(|label| checked_label("target_labels", label)).collect();
                checked.map(|labels| labels.join(", "))
            }
        }
    }

    fn counting<'a>(&'a self, by: &'a str, witness: &'a str, target: &'a str) -> Counting<'a> {
        Counting { by, witness, target, native: self.native_histograms.unwrap_or(false) }
    }

    fn latency(&self, key: &'static str, query: &str) -> Result<LatencyQuery, Refusal> {
        let unit_ms = match self.latency_unit.unwrap_or(LatencyUnit::Seconds) {
            LatencyUnit::Seconds => 1_000.0,
            LatencyUnit::Milliseconds => 1.0,
        };
        Ok(LatencyQuery { query: checked_query(key, query)?, unit_ms })
    }
}

fn query_or_counter(
    (key, query): (&'static str, &Option<String>),
    (counter_key, counter): (&'static str, &Option<OneOrMany>),
    counting: Counting<'_>,
) -> Result<String, Refusal> {
    match (query, counter.as_ref().map(OneOrMany::as_slice)) {
        (Some(_), Some(_)) => Err((counter_key, format!("stands instead of `{key}`"))),
        (None, Some(selectors)) if !selectors.is_empty() => checked_query(counter_key, &counted(selectors, counting)),
        (query, _) => checked_query(key, query.as_deref().unwrap_or_default()),
    }
}

fn checked_label(key: &'static str, label: &str) -> Result<String, Refusal> {
    let starts_well = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err((key, format!("`{label}` is no label of Prometheus")));
    }
    Ok(label.to_owned())
}

fn checked_labels(key: &'static str, labels: &[String]) -> Result<Vec<String>, Refusal> {
    if labels.is_empty() {
        return Err((key, "a label is required".to_owned()));
    }
    labels.iter().map(|label| checked_label(key, label)).collect()
}

fn checked_window(window: &str) -> Result<(), Refusal> {
    let number = window.strip_suffix(['s', 'm', 'h']).unwrap_or_default();
    match number.parse::<u32>() {
        Ok(1..) => Ok(()),
        _ => Err(("window", format!("`{window}` is no span of time such as 5m"))),
    }
}

fn checked_query(key: &'static str, query: &str) -> Result<String, Refusal> {
    let query = query.trim();
    if query.is_empty() {
        return Err((key, "a PromQL query is required".to_owned()));
    }
    if query.chars().count() > QUERY_CHARS_MAX {
        return Err((key, format!("is longer than {QUERY_CHARS_MAX} characters")));
    }
    Ok(query.to_owned())
}
