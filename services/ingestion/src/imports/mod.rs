//! Documents of other tools: webhooks of pagers, incidents as CSV, what Jaeger exports.
//!
//! [`read`] is pure: bytes in, what they tell out, each row that cannot be right refused with its place in the document.
//! `keep` writes what was read: incidents through [`crate::storage::Store::tell_incidents`], counted dependencies through
//! [`crate::storage::Store::observe`], spans through the OTLP receiver, so that they meet the same bounds as any sender's.
//!
//! **Invariants**: a document of incidents or dependencies that is imported again changes nothing; events of a pager may
//! arrive twice and in any order; an event that is not known is accepted, ignored and counted; where a secret is set, nothing
//! is read before the signature was checked.
//!
//! **Deliberately unknown here**: what a pager's priority means for requests. It is kept in the pager's words, and no share of
//! failed requests is made of it.

mod counted;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod incident_io;
mod incidents_csv;
mod jaeger_dependencies;
mod jaeger_tags;
mod jaeger_traces;
mod keep;
mod node;
mod opsgenie;
mod pagerduty;
mod services;
mod signature;

use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::domain::{BucketLimits, DependencyKey, IncidentEvent, IncidentSender};
use crate::storage::IncidentNews;

pub(crate) use keep::{Import, Imported, Importer};
pub(crate) use services::ServiceNames;
pub(crate) use signature::Signatures;

/// More refusals of one document than this are counted and not told one by one.
const COMPLAINTS_MAX: usize = 1_000;

/// A format that documents come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Webhooks of PagerDuty, version 3.
    Pagerduty,
    /// Webhooks of Opsgenie alerts.
    Opsgenie,
    /// Webhooks of incident.io, version 2.
    IncidentIo,
    /// Incidents as comma- or semicolon-separated values.
    IncidentsCsv,
    /// Dependencies as Jaeger's query service lists them.
    JaegerDependencies,
    /// Traces as Jaeger's query service and its UI export them.
    JaegerTraces,
}

impl Format {
    /// Every format with its name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Pagerduty, "pagerduty"),
        (Self::Opsgenie, "opsgenie"),
        (Self::IncidentIo, "incident-io"),
        (Self::IncidentsCsv, "incidents-csv"),
        (Self::JaegerDependencies, "jaeger-dependencies"),
        (Self::JaegerTraces, "jaeger-traces"),
    ];

    /// The format of a name.
    ///
    /// # Errors
    /// Names the formats that there are.
    pub fn named(name: &str) -> Result<Self, InvalidValue> {
        let found = Self::ALL.into_iter().find(|(_, known)| *known == name);
        found.map(|(format, _)| format).ok_or_else(|| {
            let known = Self::ALL.map(|(_, name)| name).join(", ");
            InvalidValue::new("format", "unknown_value", format!("there is no such format; there are {known}"))
        })
    }
}

/// What reading a document has to know besides its bytes.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The time, and how old and how early telemetry may be.
    pub limits: BucketLimits,
    /// Most incidents, dependencies or events in one document.
    pub rows_max: usize,
    /// Names of custom fields and details that name services, in lower case.
    pub service_fields: Vec<String>,
    /// The span of time that the document tells of, where it does not say so itself.
    pub start_ms: Option<UnixMillis>,
    /// Its end.
    pub end_ms: Option<UnixMillis>,
    /// Who sends it.
    pub sender: IncidentSender,
}

/// What a document tells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// Incidents and events of incidents, in the order of the document.
    pub incidents: Vec<Told>,
    /// Dependencies with the number of their calls.
    pub edges: Vec<CountedEdge>,
    /// Spans, as OTLP has them.
    pub spans: ExportTraceServiceRequest,
    /// How many.
    pub span_count: usize,
    /// Events that say nothing that is kept.
    pub ignored_count: usize,
    /// What was refused.
    pub rejected: Complaints,
    /// What was kept with something missing.
    pub warnings: Complaints,
}

/// News of one incident, its services still under their sender's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// What is told.
    pub news: IncidentNews,
    /// Names of the services that were hurt; for events only, reports name theirs.
    pub named: Vec<NamedService>,
    /// Which row or event of the document.
    pub index: usize,
    /// Where it stands.
    pub pointer: String,
}

/// A service under the names that its sender has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedService {
    /// Names of the same service, the likeliest first.
    pub names: Vec<String>,
    /// Whether it may well be no service at all.
    pub perhaps: bool,
}

/// A dependency and the number of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedEdge {
    /// Caller and callee.
    pub key: DependencyKey,
    /// Calls.
    pub call_count: u64,
}

/// Something about one place of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Which row or event.
    pub index: usize,
    /// Where in the document.
    pub pointer: String,
    /// Machine-readable, snake case.
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

/// Complaints, bounded: what is more is counted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complaints {
    listed: Vec<Complaint>,
    count: usize,
}

impl Complaints {
    /// Adds one.
    pub fn push(&mut self, complaint: Complaint) {
        self.count += 1;
        if self.listed.len() < COMPLAINTS_MAX {
            self.listed.push(complaint);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The first of them; where there are more, the last one says how many.
    #[must_use]
    pub fn list(mut self) -> Vec<Complaint> {
        let more = self.count - self.listed.len();
        if more > 0 {
            let reason = format!("{more} more are not listed");
            self.listed.push(Complaint { index: 0, pointer: String::new(), code: "and_more", reason });
        }
        self.listed
    }
}

impl Complaint {
    fn new(pointer: String, code: &'static str, reason: impl Into<String>) -> Self {
        Self { index: 0, pointer, code, reason: reason.into() }
    }

    /// A refused value of the row at `pointer`.
    fn of(invalid: InvalidValue, pointer: &str) -> Self {
        Self::new(format!("{pointer}/{}", invalid.field), invalid.code, invalid.reason)
    }

    fn at(self, index: usize) -> Self {
        Self { index, ..self }
    }
}

impl NamedService {
    fn known_as(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().filter(|name| !name.trim().is_empty()).collect(), perhaps: false }
    }
}

/// Reads a document.
///
/// # Errors
/// Where the document as a whole cannot be right: no JSON, another shape, too many rows.
pub fn read(format: Format, bytes: &[u8], reading: &Reading) -> Result<Contents, InvalidValue> {
    match format {
        Format::IncidentsCsv => incidents_csv::read(bytes, reading),
        Format::Pagerduty => events(bytes, reading, pagerduty::read),
        Format::Opsgenie => events(bytes, reading, |node| opsgenie::read(node, &reading.service_fields)),
        Format::IncidentIo => events(bytes, reading, |node| incident_io::read(node, &reading.service_fields)),
        Format::JaegerDependencies => jaeger_dependencies::read(&json(bytes)?, reading),
        Format::JaegerTraces => jaeger_traces::read(&json(bytes)?, reading),
    }
}

fn json(bytes: &[u8]) -> Result<serde_json::Value, InvalidValue> {
    serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default().to_owned();
        InvalidValue::new("document", "malformed_json", format!("{what} ({place})"))
    })
}

/// An event and the names of the services that it hurt; `None` for one that says nothing that is kept.
type Event = Option<(IncidentEvent, Vec<NamedService>)>;

/// Webhooks: one event, or a list of them.
fn events(
    bytes: &[u8],
    reading: &Reading,
    read: impl Fn(&node::Node<'_>) -> Result<Event, Complaint>,
) -> Result<Contents, InvalidValue> {
    let document = json(bytes)?;
    let top = node::Node::top(&document);
    let several = top.elements().ok();
    let nodes = several.as_deref().unwrap_or(std::slice::from_ref(&top));
    if nodes.len() > reading.rows_max {
        let reason = format!("{} events; at most {} a document", nodes.len(), reading.rows_max);
        return Err(InvalidValue::new("document", "too_many", reason));
    }
    let latest_ms = reading.limits.now_ms.saturating_add(reading.limits.future_skew_ms);
    let mut contents = Contents::default();
    for (index, node) in nodes.iter().enumerate() {
        let checked = read(node).and_then(|event| {
            event
                .map(|(event, named)| Ok((event.check(latest_ms)?, named)))
                .transpose()
                .map_err(|invalid: InvalidValue| Complaint::of(invalid, &node.pointer()))
        });
        match checked {
            Ok(Some((event, named))) => {
                let news = IncidentNews::Event(Box::new(event));
                contents.incidents.push(Told { news, named, index, pointer: node.pointer() });
            }
            Ok(None) => contents.ignored_count += 1,
            Err(complaint) => contents.rejected.push(complaint.at(index)),
        }
    }
    Ok(contents)
}

/// A name of a service as a sender has it, secrets taken out, bent into a name.
fn observed_name(text: &str) -> Option<EntityId> {
    EntityId::from_observed(&attain_redaction::redact_name(text))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
