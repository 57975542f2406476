//! The use case: check who sends, read, keep, say what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_runtime::context::CallContext;
use attain_vocabulary::{DAY_MS, Source, TenantId, UnixMillis};
use prost::Message as _;
use tonic::Status;

use super::signature::Headers;
use super::{Complaint, Contents, CountedEdge, Format, Reading, ServiceNames, Signatures, read};
use crate::count::Count;
use crate::domain::{ObservationBatch, ObservedEdge, Sightings};
use crate::otlp::TraceDoor;
use crate::storage::Store;
use crate::{Config, Error};

/// Documents from here on are read on a thread of their own, so that other calls do not wait.
const LARGE_BYTES: usize = 256 * 1024;
/// Under which counted dependencies are remembered by the span of time that they were counted in.
const WINDOW_PREFIX: &str = "jaeger/";

/// Takes documents in.
pub(crate) struct Importer {
    store: Store,
    config: Arc<Config>,
    names: ServiceNames,
    signatures: Signatures,
    traces: TraceDoor,
    counts: Counts,
}

/// One document and how it came.
pub(crate) struct Import {
    pub(crate) context: CallContext,
    pub(crate) format: Format,
    pub(crate) body: Vec<u8>,
    pub(crate) headers: Headers,
    pub(crate) start_ms: Option<UnixMillis>,
    pub(crate) end_ms: Option<UnixMillis>,
    pub(crate) now_ms: UnixMillis,
}

/// What became of a document.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) incident_count: usize,
    pub(crate) dependency_count: usize,
    pub(crate) span_count: usize,
    pub(crate) ignored_count: usize,
    pub(crate) rejected: Vec<Complaint>,
    pub(crate) warnings: Vec<Complaint>,
}

struct Counts {
    incidents: Count,
    dependencies: Count,
    spans: Count,
    ignored: Count,
    rejected: Count,
    signatures_refused: Count,
}

/// Calls that were counted in one span of time, by caller and callee.
#[derive(Clone, PartialEq, prost::Message)]
struct WindowRecord {
    #[prost(message, repeated, tag = "1")]
    edges: Vec<EdgeCount>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EdgeCount {
    #[prost(string, tag = "1")]
    caller: String,
    #[prost(string, tag = "2")]
    callee: String,
    #[prost(uint64, tag = "3")]
    call_count: u64,
}

impl Importer {
    /// Reads the settings of senders.
    ///
    /// # Errors
    /// Names the setting that cannot be right.
    pub(crate) fn new(store: Store, config: Arc<Config>, traces: TraceDoor) -> Result<Self, Error> {
        let count = |what| Count::new("imports", what);
        Ok(Self {
            names: ServiceNames::new(&config.incidents.services)?,
            signatures: Signatures::read(&config.webhooks)?,
            store,
            config,
            traces,
            counts: Counts {
                incidents: count("incidents"),
                dependencies: count("dependencies"),
                spans: count("spans"),
                ignored: count("ignored"),
                rejected: count("rejected"),
                signatures_refused: count("signatures_refused"),
            },
        })
    }

    /// Takes a document in.
    ///
    /// # Errors
    /// Where it is not from who it says, cannot be right as a whole, or cannot be kept.
    pub(crate) async fn import(&self, import: Import) -> Result<Imported, Status> {
        let Import { context, format, body, headers, start_ms, end_ms, now_ms } = import;
        if let Err(reason) = self.signatures.check(format, &headers, &body, now_ms) {
            self.counts.signatures_refused.add(1);
            tracing::warn!(attain.format = ?format, reason, "a document was refused");
            return Err(Error::SignatureRefused(reason).into());
        }
        let window = window(&self.config, format, (start_ms, end_ms), now_ms)?;
        let reading = Reading {
            limits: self.config.bucket_limits(now_ms),
            rows_max: match format {
                Format::JaegerDependencies => self.config.dependencies_per_request_max,
                _ => self.config.incidents_per_request_max,
            },
            service_fields: self.config.incidents.service_fields.iter().map(|name| name.to_lowercase()).collect(),
            start_ms,
            end_ms,
        };
        let contents = read_aside(format, body, reading).await?;
        let imported = self.keep(context, contents, window, now_ms).await?;
        self.count(&imported);
        Ok(imported)
    }

    async fn keep(
        &self,
        context: CallContext,
        mut contents: Contents,
        window: Window,
        now_ms: UnixMillis,
    ) -> Result<Imported, Status> {
        let tenant = context.tenant.clone();
        self.names.link(&self.store, &tenant, &mut contents.incidents, &mut contents.warnings).await?;
        let ids: BTreeSet<&str> = contents.incidents.iter().map(|told| told.news.id()).collect();
        let mut imported = Imported {
            incident_count: ids.len(),
            dependency_count: contents.edges.len(),
            ignored_count: contents.ignored_count,
            ..Imported::default()
        };
        if !contents.incidents.is_empty() {
            let news = contents.incidents.into_iter().map(|told| told.news).collect();
            self.store.tell_incidents(&tenant, news).await?;
        }
        if !contents.edges.is_empty() {
            self.keep_edges(&tenant, contents.edges, window, now_ms).await?;
        }
        if contents.span_count > 0 {
            let refused = self.traces.export(&context, &contents.spans).await?;
            imported.span_count = contents.span_count.saturating_sub(refused.as_ref().map_or(0, |(count, _)| *count));
            if let Some((count, reason)) = refused {
                let reason = format!("{count} spans were refused: {reason}");
                contents.rejected.push(Complaint::new("/data".to_owned(), "refused_by_receiver", reason));
            }
        }
        imported.rejected = contents.rejected.list();
        imported.warnings = contents.warnings.list();
        Ok(imported)
    }

    /// Adds what a span of time has more of than was known of the same span: importing it again adds nothing.
    async fn keep_edges(
        &self,
        tenant: &TenantId,
        edges: Vec<CountedEdge>,
        window: Window,
        now_ms: UnixMillis,
    ) -> Result<(), Error> {
        let key = window.key();
        self.store
            .observe(tenant, std::slice::from_ref(&key), |states| {
                let known = states.get(&key).and_then(|bytes| WindowRecord::decode(bytes.as_slice()).ok());
                let (edges, record) = news(&edges, known.unwrap_or_default(), window, now_ms);
                let counter_states = BTreeMap::from([(key.clone(), Some(record.encode_to_vec()))]);
                ObservationBatch { edges, counter_states, ..ObservationBatch::default() }
            })
            .await?;
        let oldest_ms = now_ms - i64::from(self.config.bucket_age_days_max) * DAY_MS;
        self.store
            .forget_counter_states(&format!("{WINDOW_PREFIX}0"), &format!("{WINDOW_PREFIX}{:020}", oldest_ms.max(0)))
            .await
    }

    fn count(&self, imported: &Imported) {
        self.counts.incidents.add(imported.incident_count);
        self.counts.dependencies.add(imported.dependency_count);
        self.counts.spans.add(imported.span_count);
        self.counts.ignored.add(imported.ignored_count);
        self.counts.rejected.add(imported.rejected.len());
    }
}

/// The span of time that counts were taken in; `None` where nobody said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window(Option<(UnixMillis, UnixMillis)>);

impl Window {
    /// Sorts by the end, so that old ones can be forgotten.
    fn key(self) -> String {
        match self.0 {
            Some((start_ms, end_ms)) => format!("{WINDOW_PREFIX}{end_ms:020}/{start_ms:020}"),
            None => format!("{WINDOW_PREFIX}unnamed"),
        }
    }
}

fn window(
    config: &Config,
    format: Format,
    span: (Option<UnixMillis>, Option<UnixMillis>),
    now_ms: UnixMillis,
) -> Result<Window, Error> {
    let refuse = |field: &str, code, reason: &str| Err(Error::invalid(field, code, reason));
    let latest_ms = now_ms.saturating_add(config.future_skew_ms());
    if span.1.is_some_and(|end_ms| end_ms > latest_ms) {
        return refuse("end_time", "future_time", "the end is in the future");
    }
    match (format, span) {
        (_, (None, None)) | (Format::JaegerTraces, (None, Some(_))) => Ok(Window(None)),
        (Format::JaegerDependencies, (Some(start_ms), Some(end_ms))) => {
            if end_ms <= start_ms {
                return refuse("end_time", "ends_before_start", "the span does not end after it starts");
            }
            if end_ms < now_ms - i64::from(config.bucket_age_days_max) * DAY_MS || start_ms < 0 {
                return refuse("end_time", "too_old", "the span is too long ago");
            }
            Ok(Window(Some((start_ms, end_ms))))
        }
        (Format::JaegerDependencies, _) => {
            refuse("start_time", "required", "start_time and end_time are given together, or neither")
        }
        (Format::JaegerTraces, _) => refuse("start_time", "not_read", "traces are moved by end_time alone"),
        _ => refuse("end_time", "not_read", "documents of this format tell their own times"),
    }
}

async fn read_aside(format: Format, body: Vec<u8>, reading: Reading) -> Result<Contents, Error> {
    if body.len() < LARGE_BYTES {
        return Ok(read(format, &body, &reading)?);
    }
    let reading = tokio::task::spawn_blocking(move || read(format, &body, &reading));
    Ok(reading.await.unwrap_or_else(|_| {
        Err(attain_vocabulary::InvalidValue::new("document", "unreadable", "the document cannot be read"))
    })?)
}

/// What the counts have more than was known of the same span, and what is known of it now: of each dependency the greatest
/// count, since calls of a span are only ever found later, never taken back.
fn news(
    edges: &[CountedEdge],
    known: WindowRecord,
    window: Window,
    now_ms: UnixMillis,
) -> (Vec<ObservedEdge>, WindowRecord) {
    let mut counts: BTreeMap<(String, String), u64> =
        known.edges.into_iter().map(|edge| ((edge.caller, edge.callee), edge.call_count)).collect();
    let mut more = Vec::new();
    for edge in edges {
        let ends = (edge.key.caller().to_string(), edge.key.callee().to_string());
        let before = counts.get(&ends).copied();
        let added = edge.call_count.saturating_sub(before.unwrap_or(0));
        if before.is_some() && added == 0 {
            continue;
        }
        counts.insert(ends, edge.call_count);
        let (first_ms, last_ms) = window.0.unwrap_or((now_ms, now_ms));
        let sightings = Sightings {
            first_seen_ms: Some(first_ms),
            last_seen_ms: Some(last_ms.min(now_ms)),
            call_count: added,
            ..Sightings::default()
        };
        let source = Source::ServiceGraph;
        more.push(ObservedEdge { key: edge.key.clone(), source, asynchronous: None, protocol: None, sightings });
    }
    let edges = counts.into_iter().map(|((caller, callee), call_count)| EdgeCount { caller, callee, call_count });
    (more, WindowRecord { edges: edges.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DependencyKey;
    use attain_vocabulary::EntityId;

    fn edge(callee: &str, call_count: u64) -> CountedEdge {
        let id = |name| EntityId::new("id", name).expect("valid");
        CountedEdge { key: DependencyKey::new(id("a"), id(callee)).expect("two nodes"), call_count }
    }

    #[test]
    fn the_same_span_of_time_counts_once_and_grows_with_what_is_found_later() {
        let window = Window(Some((0, 100)));
        let added = |edges: &[CountedEdge], known: WindowRecord| {
            let (more, record) = news(edges, known, window, 200);
            (more.iter().map(|edge| edge.sightings.call_count).collect::<Vec<_>>(), record)
        };
        let (first, record) = added(&[edge("b", 5), edge("c", 0)], WindowRecord::default());
        assert_eq!(first, [5, 0], "an edge without a call is an edge");
        let (again, record) = added(&[edge("b", 5), edge("c", 0)], record);
        assert_eq!(again, [0; 0]);
        let (later, record) = added(&[edge("b", 9)], record);
        assert_eq!(later, [4]);
        let (fewer, record) = added(&[edge("b", 2)], record);
        assert_eq!((fewer, record.edges.len()), (vec![], 2));
    }

    #[test]
    fn spans_of_time_are_named_apart_and_sort_by_their_end() {
        let keys =
            [Window(Some((5, 90))), Window(Some((0, 100))), Window(Some((5, 100))), Window(None)].map(Window::key);
        assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        let config = Config::default();
        let now_ms = 1_793_491_200_000;
        for (format, span, field) in [
            (Format::JaegerDependencies, (Some(1), None), "start_time"),
            (Format::JaegerDependencies, (Some(now_ms), Some(now_ms)), "end_time"),
            (Format::JaegerDependencies, (Some(1), Some(2)), "end_time"),
            (Format::JaegerDependencies, (Some(1), Some(now_ms * 2)), "end_time"),
            (Format::JaegerTraces, (Some(1), Some(now_ms)), "start_time"),
            (Format::Pagerduty, (None, Some(now_ms)), "end_time"),
        ] {
            let Err(Error::Invalid(invalid)) = window(&config, format, span, now_ms) else {
                panic!("{format:?} {span:?}")
            };
            assert_eq!(invalid[0].field, field);
        }
    }
}
