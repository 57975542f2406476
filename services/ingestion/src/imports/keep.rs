//! The use case: check who sends, read, keep, say what became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_runtime::context::CallContext;
use attain_vocabulary::{DAY_MS, TenantId, UnixMillis};
use prost::Message as _;
use tokio::sync::Mutex;
use tonic::Status;

use super::counted::{WINDOW_PREFIX, Window, WindowRecord, news, window};
use super::signature::Headers;
use super::{Complaint, Contents, CountedEdge, Format, Reading, ServiceNames, Signatures, read};
use crate::count::{Count, observed};
use crate::domain::{Incident, IncidentSender, ObservationBatch};
use crate::intake::moving_exclusions;
use crate::otlp::TraceDoor;
use crate::storage::{IncidentNews, Store};
use crate::{Config, Error};

/// Documents from here on are read on a thread of their own, so that other calls do not wait.
const LARGE_BYTES: usize = 256 * 1024;

/// Takes documents in.
pub(crate) struct Importer {
    store: Store,
    config: Arc<Config>,
    names: ServiceNames,
    signatures: Signatures,
    traces: TraceDoor,
    counts: Counts,
    /// Held while a span of time is let in.
    windows: Mutex<()>,
}

/// One document and how it came.
pub(crate) struct Import {
    pub(crate) context: CallContext,
    pub(crate) sender: IncidentSender,
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

impl Importer {
    /// Reads the settings of senders.
    ///
    /// # Errors
    /// Names the setting that cannot be right.
    pub(crate) fn new(store: Store, config: Arc<Config>, traces: TraceDoor) -> Result<Self, Error> {
        let count = |what| observed("imports", what);
        Ok(Self {
            names: ServiceNames::new(&config.incidents.services)?,
            signatures: Signatures::read(&config.webhooks)?,
            store,
            config,
            traces,
            windows: Mutex::new(()),
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
        let Import { context, sender, format, body, headers, start_ms, end_ms, now_ms } = import;
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
            sender: sender.clone(),
        };
        let contents = read_aside(format, body, reading).await?;
        let imported = self.keep((context, sender), contents, window, now_ms).await?;
        self.count(&imported);
        Ok(imported)
    }

    async fn keep(
        &self,
        (context, sender): (CallContext, IncidentSender),
        mut contents: Contents,
        window: Window,
        now_ms: UnixMillis,
    ) -> Result<Imported, Status> {
        let tenant = context.tenant.clone();
        self.refuse_moving(&tenant, &sender, &mut contents).await?;
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
            let left_out = self.keep_edges(&tenant, contents.edges, window, now_ms).await?;
            imported.dependency_count = imported.dependency_count.saturating_sub(left_out);
            if left_out > 0 {
                let reason = format!("{left_out} dependencies are more than one span of time has");
                contents.rejected.push(Complaint::new("/data".to_owned(), "too_many", reason));
            }
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

    /// Takes out reports that would move what an approver left out of estimates.
    async fn refuse_moving(
        &self,
        tenant: &TenantId,
        sender: &IncidentSender,
        contents: &mut Contents,
    ) -> Result<(), Error> {
        let mut reports: Vec<&Incident> = Vec::new();
        for told in &contents.incidents {
            if let IncidentNews::Report(incident) = &told.news {
                reports.push(incident);
            }
        }
        let mut refused = moving_exclusions(&self.store, tenant, sender, &reports).await?.into_iter();
        let rejected = &mut contents.rejected;
        contents.incidents.retain(|told| {
            let is_report = matches!(told.news, IncidentNews::Report(_));
            match is_report.then(|| refused.next()).flatten().flatten() {
                Some(invalid) => {
                    rejected.push(Complaint::of(invalid, &told.pointer).at(told.index));
                    false
                }
                None => true,
            }
        });
        Ok(())
    }

    /// Adds what a span of time has more of than was known of the same span: importing it again adds nothing. Spans that
    /// overlap would count the same calls twice, and are refused. How many dependencies are left out.
    async fn keep_edges(
        &self,
        tenant: &TenantId,
        edges: Vec<CountedEdge>,
        window: Window,
        now_ms: UnixMillis,
    ) -> Result<usize, Error> {
        // One at a time, so that no two that overlap are let in together.
        let _turn = self.windows.lock().await;
        let key = window.key();
        let end = format!("{WINDOW_PREFIX}A");
        let known = self.store.counter_keys(tenant, (WINDOW_PREFIX, &end), usize::MAX).await?;
        let oldest_ms = now_ms - i64::from(self.config.bucket_age_days_max) * DAY_MS;
        let (gone, known): (Vec<Window>, Vec<Window>) =
            known.iter().filter_map(|key| Window::read(key)).partition(|window| window.ended_before(oldest_ms));
        window.fits_between(&known, self.config.jaeger_spans_max)?;
        let edges_max = self.config.dependencies_per_request_max;
        let mut left_out = 0;
        self.store
            .observe(tenant, std::slice::from_ref(&key), |states| {
                let known = states.get(&key).and_then(|bytes| WindowRecord::decode(bytes.as_slice()).ok());
                let news = news(&edges, known.unwrap_or_default(), window, (now_ms, edges_max));
                left_out = news.left_out;
                let mut counter_states: BTreeMap<String, Option<Vec<u8>>> =
                    gone.iter().map(|window| (window.key(), None)).collect();
                counter_states.insert(key.clone(), Some(news.record.encode_to_vec()));
                ObservationBatch { edges: news.edges, counter_states, ..ObservationBatch::default() }
            })
            .await?;
        Ok(left_out)
    }

    fn count(&self, imported: &Imported) {
        self.counts.incidents.add(imported.incident_count);
        self.counts.dependencies.add(imported.dependency_count);
        self.counts.spans.add(imported.span_count);
        self.counts.ignored.add(imported.ignored_count);
        self.counts.rejected.add(imported.rejected.len());
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
