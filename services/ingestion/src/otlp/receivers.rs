//! The services of the protocol: traces and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{
    BucketCounts, EntityId, LatencyHistogram, SliBucket, Source, TenantId, UnixMillis, bucket_start,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceService;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::counts::Counts;
use super::known::KnownNames;
use super::log::SpanLog;
use super::points::{Reading, read_points};
use super::reduce::{Reduced, Rejected, reduce};
use super::series::{self, Added, Series};
use crate::Config;
use crate::domain::{BucketMode, ObservationBatch, ObservedBucket};
use crate::storage::{CounterStates, ReceivedSpans, Store};

/// Most spans that are reduced on the thread that received them: about a millisecond's work.
const SPANS_AT_ONCE_MAX: usize = 1_000;

/// Takes spans: durable before it answers, settled later.
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
        request: ExportTraceServiceRequest,
    ) -> Result<Option<ExportTracePartialSuccess>, Status> {
        if let Err(refusal) = self.log.refuse_when_full() {
            self.counts.exports_refused_full.add(1);
            return Err(refusal);
        }
        let reduced = self.reduced(request).await?;
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
    async fn reduced(&self, request: ExportTraceServiceRequest) -> Result<Reduced, Status> {
        let limits = self.config.span_limits(self.clock.now_ms());
        let scopes = request.resource_spans.iter().flat_map(|of_resource| &of_resource.scope_spans);
        let span_count: usize = scopes.map(|scope| scope.spans.len()).sum();
        if span_count <= SPANS_AT_ONCE_MAX {
            return Ok(reduce(&request, limits, &self.known));
        }
        let known = Arc::clone(&self.known);
        let reducing = tokio::task::spawn_blocking(move || reduce(&request, limits, &known));
        reducing.await.map_err(|_| Status::internal("the export could not be read"))
    }
}

#[tonic::async_trait]
impl TraceService for TraceReceiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let partial_success = self.accept(context, request.into_inner()).await?;
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// Takes data points that count requests; others are accepted and ignored.
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
        let now_ms = self.clock.now_ms();
        let points = read_points(request.get_ref(), self.config.bucket_limits(now_ms));
        if !points.readings.is_empty() {
            self.count(&context.tenant, points.readings, now_ms).await?;
        }
        self.counts.points_ignored.add(points.ignored_count);
        self.counts.points_rejected.add(points.rejected.count());
        let partial_success = partial(&points.rejected).map(|(rejected_data_points, error_message)| {
            ExportMetricsPartialSuccess { rejected_data_points, error_message }
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

impl MetricsReceiver {
    /// Counts points and moves the states of their series on, in one transaction.
    async fn count(&self, tenant: &TenantId, readings: Vec<Reading>, now_ms: UnixMillis) -> Result<(), Status> {
        let day = series::day(now_ms);
        let names: BTreeSet<&str> = readings.iter().map(|reading| reading.series.as_str()).collect();
        let keys: Vec<String> =
            names.into_iter().flat_map(|name| [series::key(day, name), series::key(day - 1, name)]).collect();
        let mut verdicts = Verdicts::default();
        self.store
            .observe(tenant, &keys, |states| {
                let (batch, counted) = increments(&readings, states, day);
                verdicts = counted;
                batch
            })
            .await?;
        self.counts.points_accepted.add(verdicts.counted);
        self.counts.points_duplicate.add(verdicts.duplicate);
        self.counts.points_baseline.add(verdicts.baseline);
        self.counts.series_reset.add(verdicts.reset);
        Ok(())
    }
}

/// What became of the points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Verdicts {
    counted: usize,
    reset: usize,
    baseline: usize,
    duplicate: usize,
}

#[derive(Debug, Default)]
struct Increment {
    valid: u64,
    bad: u64,
    latency: Option<LatencyHistogram>,
}

/// What points add to buckets, each to that of its time, and the states of their series after them.
fn increments(readings: &[Reading], states: &CounterStates, day: i64) -> (ObservationBatch, Verdicts) {
    let mut verdicts = Verdicts::default();
    let mut series: BTreeMap<&str, Series> = BTreeMap::new();
    let mut buckets: BTreeMap<(EntityId, UnixMillis), Increment> = BTreeMap::new();
    for reading in readings {
        let stored = || {
            states
                .get(&series::key(day, &reading.series))
                .or_else(|| states.get(&series::key(day - 1, &reading.series)))
        };
        let state = series.entry(&reading.series).or_insert_with(|| Series::read(stored()));
        let (count, shape) = match state.take(&reading.point) {
            Added::Count { count, shape } => (count, shape),
            Added::Reset { count, shape } => {
                verdicts.reset += 1;
                (count, shape)
            }
            Added::Baseline => {
                verdicts.baseline += 1;
                continue;
            }
            Added::Duplicate => {
                verdicts.duplicate += 1;
                continue;
            }
        };
        verdicts.counted += 1;
        if count > 0 {
            // A point tells of the time that it ends.
            let time_ms = ((reading.point.time_ns - 1) / 1_000_000) as i64;
            let bucket = buckets.entry((reading.service.clone(), bucket_start(time_ms))).or_default();
            bucket.add(count, reading.failed, shape.latency(reading.unit_ms));
        }
    }
    let counter_states = series.into_iter().flat_map(|(name, state)| {
        let yesterday = series::key(day - 1, name);
        let moved = states.contains_key(&yesterday).then_some((yesterday, None));
        std::iter::once((series::key(day, name), Some(state.encode_to_vec()))).chain(moved)
    });
    let batch = ObservationBatch {
        counter_states: counter_states.collect(),
        buckets: buckets.into_iter().filter_map(observed_bucket).collect(),
        ..ObservationBatch::default()
    };
    (batch, verdicts)
}

impl Increment {
    fn add(&mut self, count: u64, failed: bool, latency: Option<LatencyHistogram>) {
        self.valid = self.valid.saturating_add(count);
        if failed {
            self.bad = self.bad.saturating_add(count);
        }
        if let Some(latency) = latency.filter(|latency| latency.count() <= count) {
            self.latency.get_or_insert_with(LatencyHistogram::empty).merge(&latency);
        }
    }
}

fn observed_bucket(((service, start_ms), added): ((EntityId, UnixMillis), Increment)) -> Option<ObservedBucket> {
    // Failures are counted among the requests, so the counts nest.
    let counts = BucketCounts::new(added.valid, added.bad, None).ok()?;
    let bucket = SliBucket::new(start_ms, counts, BTreeMap::new(), added.latency).ok()?;
    Some(ObservedBucket { service, source: Source::OtlpMetrics, mode: BucketMode::Add, bucket })
}

/// What the protocol calls partial success; `None` when nothing was rejected.
fn partial(rejected: &Rejected) -> Option<(i64, String)> {
    let count = rejected.count();
    (count > 0).then(|| (count as i64, rejected.message()))
}
