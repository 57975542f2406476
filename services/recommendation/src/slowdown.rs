//! What changes do to the latencies of the affected services.

use std::collections::{BTreeMap, BTreeSet};

use attain_attainment::MissingInput;
use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, LatencyHistogram, SliBucket, SliKind, TimeRange, bucket_start};

use crate::Error;
use crate::domain::latency_harm::LatencyEffect;
use crate::domain::slo::Slo;
use crate::engine::Engine;
use crate::fleet::{EVALUATED_MAX, Fleet};
use crate::gather::blocking;

/// Days of measurements that stand for a service of which no requests were sampled.
const MEASURED_DAYS: i64 = 7;
/// Most services whose measured latencies are read: a week of one is thousands of histograms.
const MEASURED_MAX: usize = 50;

/// Latencies of the affected services.
#[derive(Debug, Default)]
pub(crate) struct Slowdown {
    effects: BTreeMap<String, LatencyEffect>,
    /// The walks by which the changes reach them.
    paths: BTreeMap<String, Vec<String>>,
    pub(crate) missing: Vec<MissingInput>,
}

impl Slowdown {
    pub(crate) fn effect(&self, service: &EntityId) -> LatencyEffect {
        self.effects.get(service.as_str()).cloned().unwrap_or_default()
    }

    pub(crate) fn path(&self, service: &EntityId) -> Vec<String> {
        self.paths.get(service.as_str()).cloned().unwrap_or_default()
    }

    fn miss(&mut self, name: &str, detail: String) {
        self.missing.push(MissingInput { name: name.to_owned(), detail });
    }
}

/// Asks the graph engine, with what was measured and the latency SLOs in force. An answer that cannot be had is a missing input.
pub(crate) async fn evaluate(
    engine: &Engine,
    context: &CallContext,
    fleet: &Fleet,
    changes: &[graph::ScenarioChange],
) -> Result<Slowdown, Error> {
    let mut found = Slowdown::default();
    if !changes.iter().any(touches_latency) {
        return Ok(found);
    }
    let slos = engine.store.slos_of_kind(&context.tenant, SliKind::Latency).await?;
    let measured = measured(engine, context, fleet, &slos, &mut found).await?;
    let (mut unevaluated, mut without_samples) = (0, 0);
    for services in fleet.affected.chunks(EVALUATED_MAX) {
        let threshold = |id: &EntityId| {
            let threshold_ms = f64::from(slos.get(id)?.latency_threshold_ms?);
            Some(graph::LatencyThreshold { service_id: id.to_string(), threshold_ms })
        };
        let request = graph::EvaluateLatencyRequest {
            service_ids: services.iter().map(ToString::to_string).collect(),
            changes: changes.to_vec(),
            measured: measured.clone(),
            thresholds: services.iter().filter_map(threshold).collect(),
        };
        let answer = match engine.graph.evaluate_latency(context, request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                found.miss("latency", format!("{}: what becomes of latencies is not in the answer", refusal.detail()));
                return Ok(found);
            }
        };
        let asked: BTreeMap<&str, &EntityId> = services.iter().map(|id| (id.as_str(), id)).collect();
        for service in answer.services {
            found.paths.insert(service.service_id.clone(), service.path.clone());
            let slo = asked.get(&*service.service_id).and_then(|id| slos.get(*id));
            let id = service.service_id.clone();
            found.effects.insert(id, LatencyEffect::Known(Box::new(affected_latency(service, slo))));
        }
        found.effects.extend(answer.unknown_ids.into_iter().map(|id| (id, LatencyEffect::Unknown)));
        unevaluated += answer.unevaluated_ids.len();
        without_samples += answer.without_samples_count;
    }
    if unevaluated > 0 {
        let detail = format!("the latencies of {unevaluated} affected services were not evaluated in time");
        found.miss("latency_evaluation", detail);
    }
    if without_samples > 0 {
        let detail =
            format!("sampled requests of {without_samples} services were not to be had; they are composed without");
        found.miss("request_samples", detail);
    }
    Ok(found)
}

/// Whether a change can mean anything for latency.
fn touches_latency(change: &graph::ScenarioChange) -> bool {
    !matches!(change.change, Some(Change::AttainedRatio(_) | Change::OwnFailure(_)) | None)
}

fn affected_latency(service: graph::ServiceLatency, slo: Option<&Slo>) -> wire::AffectedLatency {
    let slow_after = service.slow_after_low_ratio.zip(service.slow_after_high_ratio);
    wire::AffectedLatency {
        quantiles: service.quantiles,
        sample_count: service.sample_count,
        in_cycle: service.in_cycle,
        threshold_ms: slo.and_then(|slo| slo.latency_threshold_ms),
        target_ratio: slo.map(|slo| slo.target.target_ratio()),
        slow_before_ratio: service.slow_before_ratio,
        slow_after_ratio: slow_after.map(|(low_ratio, high_ratio)| wire::RatioInterval { low_ratio, high_ratio }),
    }
}

/// What was measured of affected services as a whole: of those with a latency SLO in force, then of those that nobody calls, whose
/// latency no call tells.
async fn measured(
    engine: &Engine,
    context: &CallContext,
    fleet: &Fleet,
    slos: &BTreeMap<EntityId, Slo>,
    found: &mut Slowdown,
) -> Result<Vec<graph::MeasuredLatency>, Error> {
    let called: BTreeSet<&EntityId> = fleet.edges.iter().map(|edge| &edge.callee).collect();
    let promised = fleet.affected.iter().filter(|id| slos.contains_key(*id));
    let uncalled = fleet.affected.iter().filter(|id| !slos.contains_key(*id) && !called.contains(*id));
    let ids: Vec<EntityId> = promised.chain(uncalled).take(MEASURED_MAX).cloned().collect();
    let now_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let range = TimeRange::new("range", now_ms - MEASURED_DAYS * DAY_MS, now_ms)?;
    let histories = match engine.ingestion.histories(context, &ids, range, false).await {
        Ok(histories) => histories,
        Err(refusal) => {
            let detail = format!("{}: latencies of services are read from their calls alone", refusal.detail());
            found.miss("latency_history", detail);
            return Ok(Vec::new());
        }
    };
    blocking(move || {
        let of_service = |(id, history): (EntityId, crate::members::History)| {
            let latency = merged(&history.buckets)?;
            Some(graph::MeasuredLatency { service_id: id.to_string(), latency: Some((&latency).into()) })
        };
        histories.into_iter().filter_map(of_service).collect()
    })
    .await
}

/// All latencies together; nothing where none was measured.
fn merged(buckets: &[SliBucket]) -> Option<LatencyHistogram> {
    let latencies = buckets.iter().filter_map(|bucket| bucket.latency.as_ref()).filter(|latency| latency.count() > 0);
    latencies.cloned().reduce(|mut all, latency| {
        all.merge(&latency);
        all
    })
}
