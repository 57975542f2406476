//! The services of the protocol: traces and metrics.

use std::sync::Arc;

use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::{Source, TenantId, UnixMillis};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
use tonic::Status;

use super::counts::Counts;
use super::increments::{Verdicts, increments, state_keys};
use super::known::KnownNames;
use super::log::SpanLog;
use super::points::{PointLimits, Points, Reading, read_points};
use super::receipts::Receipt;
use super::reduce::{Reduced, Rejected, reduce};
use super::refusal::malformed;
use super::sent::SentSpans;
use super::tenants::Tenants;
use super::utilisation::{AgeGauges, Sample, read_ages, read_utilisation};
use crate::Config;
use crate::domain::{BucketMode, ObservationBatch, ObservedUtilisation, UtilisationBucket};
use crate::storage::{ReceivedSpans, Store};

/// Most bytes that are reduced on the thread that received them: about a millisecond's work.
const BYTES_AT_ONCE_MAX: usize = 512 * 1024;

/// Takes spans: durable before it answers, settled later.
#[derive(Debug, Clone)]
pub(super) struct TraceReceiver {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) log: SpanLog,
    pub(super) known: Arc<KnownNames>,
    pub(super) counts: Arc<Counts>,
    /// Who may send; `None` where somebody has looked already.
    pub(super) tenants: Option<Arc<Tenants>>,
}

impl TraceReceiver {
    /// Keeps what can be right of an export: durable when it returns. What was left out is the partial success.
    pub(super) async fn accept(
        &self,
        context: CallContext,
        sent: SentSpans,
    ) -> Result<Option<ExportTracePartialSuccess>, Status> {
        if let Err(refusal) = self.log.refuse_when_full() {
            self.counts.exports_refused_full.add(1);
            return Err(refusal);
        }
        let reduced = self.reduced(sent).await?;
        self.counts.spans_rejected.add(reduced.rejected.count());
        self.counts.attributes_ignored.add(reduced.ignored.attribute_count);
        self.counts.links_ignored.add(reduced.ignored.link_count);
        self.counts.thresholds_ignored.add(reduced.ignored.weight_count);
        let partial_success = partial(&reduced.rejected)
            .map(|(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message });
        if reduced.kept_count > 0 {
            if let Some(tenants) = &self.tenants {
                admit(tenants, &context.tenant, &self.counts).await?;
            }
            let digest = reduced.digest();
            let received = ReceivedSpans { tenant: context.tenant, digest, payload: reduced.payload };
            if self.log.append(received, reduced.record).await? {
                self.counts.spans_accepted.add(reduced.kept_count);
            } else {
                self.counts.exports_duplicate.add(1);
                self.counts.spans_duplicate.add(reduced.kept_count);
            }
        }
        Ok(partial_success)
    }

    /// Large exports keep a thread busy: one for work that blocks, so that others are answered meanwhile.
    async fn reduced(&self, sent: SentSpans) -> Result<Reduced, Status> {
        let limits = self.config.span_limits(self.clock.now_ms());
        let bytes: usize = sent.resource_spans.iter().map(Bytes::len).sum();
        let reduced = if bytes <= BYTES_AT_ONCE_MAX {
            reduce(&sent, limits, &self.known)
        } else {
            let known = Arc::clone(&self.known);
            let reducing = tokio::task::spawn_blocking(move || reduce(&sent, limits, &known));
            reducing.await.map_err(|_| Status::internal("the export could not be read"))?
        };
        reduced.map_err(|wrong| {
            self.counts.exports_malformed.add(1);
            malformed(&wrong.to_string())
        })
    }
}

/// Lets a tenant in; whoever is refused is counted.
async fn admit(tenants: &Tenants, tenant: &TenantId, counts: &Counts) -> Result<(), Status> {
    tenants.admit(tenant).await.inspect_err(|status| {
        if status.code() == tonic::Code::FailedPrecondition {
            counts.exports_refused_tenant.add(1);
        }
    })
}

/// Takes data points that tell of requests and calls; others are accepted and ignored.
pub(super) struct MetricsReceiver {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) counts: Arc<Counts>,
    pub(super) tenants: Arc<Tenants>,
}

/// What an export of metrics tells.
struct Told {
    points: Points,
    samples: Vec<Sample>,
}

impl Told {
    fn read(request: &ExportMetricsServiceRequest, limits: PointLimits, ages: &AgeGauges) -> Self {
        let mut points = read_points(request, limits);
        let mut samples = read_utilisation(request, limits, &mut points.rejected);
        samples.extend(read_ages(request, limits, ages, &mut points));
        Self { points, samples }
    }
}

impl MetricsReceiver {
    /// Takes an export of so many bytes, whichever transport brought it; when it returns, what was not refused is durable.
    pub(super) async fn accept(
        &self,
        context: CallContext,
        request: ExportMetricsServiceRequest,
        bytes: usize,
    ) -> Result<Option<ExportMetricsPartialSuccess>, Status> {
        let now_ms = self.clock.now_ms();
        let limits = self.config.point_limits(now_ms);
        let Told { mut points, samples } = if bytes <= BYTES_AT_ONCE_MAX {
            Told::read(&request, limits, &self.config.message_age_gauges)
        } else {
            let config = Arc::clone(&self.config);
            let reading = tokio::task::spawn_blocking(move || Told::read(&request, limits, &config.message_age_gauges));
            reading.await.map_err(|_| Status::internal("the export could not be read"))?
        };
        if !points.readings.is_empty() || !samples.is_empty() {
            admit(&self.tenants, &context.tenant, &self.counts).await?;
            self.count(&context.tenant, &mut points, samples, now_ms).await?;
        }
        self.counts.points_ignored.add(points.ignored_count);
        self.counts.points_rejected.add(points.rejected.count());
        Ok(partial(&points.rejected).map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
            rejected_data_points,
            error_message,
        }))
    }

    /// Counts points and moves the states of their series on, in one transaction.
    async fn count(
        &self,
        tenant: &TenantId,
        points: &mut Points,
        samples: Vec<Sample>,
        now_ms: UnixMillis,
    ) -> Result<(), Status> {
        let limits = self.config.series_limits(now_ms);
        let receipt = Receipt::of(&points.readings, &samples, limits);
        let utilisation = used(samples, &mut points.rejected);
        let utilisation_count = utilisation.len();
        let readings: &[Reading] = &points.readings;
        let mut verdicts = Verdicts::default();
        let keys = state_keys(readings, receipt.as_ref(), limits);
        let observed = self
            .store
            .observe_telling(tenant, &keys, |states| {
                let (batch, counted) = increments(readings, receipt.as_ref(), states, limits);
                verdicts = counted;
                let utilisation = if verdicts.repeated { Vec::new() } else { utilisation };
                ObservationBatch { utilisation, ..batch }
            })
            .await
            .map_err(Status::from)?;
        let lost = verdicts.lost(readings, &observed.left_out);
        if !verdicts.repeated {
            let kept = utilisation_count.saturating_sub(observed.left_out.utilisation_count);
            self.counts.utilisation_accepted.add(kept);
        }
        self.note(&verdicts, lost);
        for (reason, count) in [
            ("the tenant has as many series as are followed (ingestion.series_per_tenant_max)", verdicts.surplus),
            (
                "more processes report under one name than are told apart (ingestion.streams_per_series_max): set \
                 service.instance.id",
                verdicts.streams_surplus,
            ),
            (
                "the tenant has as much as is kept, and this is new (ingestion.entities_per_tenant_max, \
                 dependencies_per_tenant_max)",
                lost + observed.left_out.utilisation_count,
            ),
        ] {
            if count > 0 {
                points.rejected.note_many(reason, count);
            }
        }
        Ok(())
    }

    fn note(&self, verdicts: &Verdicts, lost: usize) {
        let counts = &self.counts;
        counts.points_accepted.add(verdicts.counted.len() - lost);
        counts.points_over_capacity.add(lost);
        counts.points_duplicate.add(verdicts.duplicate);
        counts.points_baseline.add(verdicts.baseline);
        counts.points_over_series_max.add(verdicts.surplus);
        counts.points_over_streams_max.add(verdicts.streams_surplus);
        counts.points_other_name.add(verdicts.other_name);
        counts.series_reset.add(verdicts.reset);
        counts.streams_evicted.add(verdicts.streams_evicted);
        counts.exports_duplicate.add(usize::from(verdicts.repeated));
        counts.receipts_over_max.add(usize::from(verdicts.without_receipt));
    }
}

/// Samples as storage takes them; what cannot be a share, a depth or an age is refused.
fn used(samples: Vec<Sample>, rejected: &mut Rejected) -> Vec<ObservedUtilisation> {
    let observed = samples.into_iter().filter_map(|sample| {
        match UtilisationBucket::of_sample(sample.time_ms, sample.kind, sample.value) {
            Ok(bucket) => Some(ObservedUtilisation {
                service: sample.service,
                source: Source::OtlpMetrics,
                mode: BucketMode::Add,
                bucket,
            }),
            Err(_) => {
                rejected.note("a utilisation is neither a share of its limit, a depth nor an age in seconds");
                None
            }
        }
    });
    observed.collect()
}

/// What the protocol calls partial success; `None` when nothing was rejected.
fn partial(rejected: &Rejected) -> Option<(i64, String)> {
    let count = rejected.count();
    (count > 0).then(|| (count as i64, rejected.message()))
}
