//! The services of the protocol: traces and metrics.

use std::sync::Arc;

use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{Source, TenantId, UnixMillis};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::counts::Counts;
use super::increments::{Verdicts, increments, state_keys};
use super::known::KnownNames;
use super::log::SpanLog;
use super::points::{PointLimits, Reading, read_points};
use super::reduce::{Reduced, Rejected, reduce};
use super::sent::SentSpans;
use super::series;
use super::utilisation::{Sample, read_utilisation};
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
        reduced.map_err(|malformed| {
            self.counts.exports_malformed.add(1);
            let mut details = ErrorDetails::new();
            details.set_error_info("MALFORMED_BODY", "attain", std::collections::HashMap::new());
            Status::with_error_details(Code::InvalidArgument, malformed.to_string(), details)
        })
    }

    /// Answers an export of the protocol.
    pub(super) async fn export(
        &self,
        request: Request<SentSpans>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let partial_success = self.accept(context, request.into_inner()).await?;
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// Takes data points that tell of requests and calls; others are accepted and ignored.
pub(super) struct MetricsReceiver {
    pub(super) config: Arc<Config>,
    pub(super) clock: Clock,
    pub(super) store: Store,
    pub(super) counts: Arc<Counts>,
}

#[tonic::async_trait]
impl MetricsService for MetricsReceiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let partial_success = self.accept(context, request.into_inner()).await?;
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

impl MetricsReceiver {
    /// Takes an export, whichever transport brought it; when it returns, what was not refused is durable.
    pub(super) async fn accept(
        &self,
        context: CallContext,
        request: ExportMetricsServiceRequest,
    ) -> Result<Option<ExportMetricsPartialSuccess>, Status> {
        let now_ms = self.clock.now_ms();
        let limits = PointLimits {
            time: self.config.bucket_limits(now_ms),
            attributes_max: self.config.point_attributes_max,
            attribute_bytes_max: self.config.point_attribute_bytes_max,
        };
        let mut points = read_points(&request, limits);
        let samples = read_utilisation(&request, limits.time, &mut points.rejected);
        let utilisation = used(samples, &mut points.rejected);
        self.counts.utilisation_accepted.add(utilisation.len());
        if !points.readings.is_empty() || !utilisation.is_empty() {
            let surplus = self.count(&context.tenant, &points.readings, utilisation, now_ms).await?;
            if surplus > 0 {
                let reason = "the tenant has as many series as are followed (ingestion.series_per_tenant_max)";
                points.rejected.note_many(reason, surplus);
            }
        }
        self.counts.points_ignored.add(points.ignored_count);
        self.counts.points_rejected.add(points.rejected.count());
        Ok(partial(&points.rejected).map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
            rejected_data_points,
            error_message,
        }))
    }

    /// Counts points and moves the states of their series on, in one transaction; how many were of series too many.
    async fn count(
        &self,
        tenant: &TenantId,
        readings: &[Reading],
        utilisation: Vec<ObservedUtilisation>,
        now_ms: UnixMillis,
    ) -> Result<usize, Status> {
        let day = series::day(now_ms);
        let series_max = self.config.series_per_tenant_max;
        let mut verdicts = Verdicts::default();
        self.store
            .observe(tenant, &state_keys(readings, day), |states| {
                let (batch, counted) = increments(readings, states, day, series_max);
                verdicts = counted;
                ObservationBatch { utilisation, ..batch }
            })
            .await?;
        self.counts.points_accepted.add(verdicts.counted);
        self.counts.points_duplicate.add(verdicts.duplicate);
        self.counts.points_baseline.add(verdicts.baseline);
        self.counts.points_over_series_max.add(verdicts.surplus);
        self.counts.series_reset.add(verdicts.reset);
        Ok(verdicts.surplus)
    }
}

/// Samples as storage takes them; what cannot be a share or a depth is refused.
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
                rejected.note("a utilisation is neither a share of its limit nor a depth");
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
