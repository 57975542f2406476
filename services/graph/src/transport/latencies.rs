//! Latencies as messages.

use attain_proto::convert;
use attain_proto::graph::v1 as wire;

use super::encode::names;
use crate::domain::latency::{Call, QUANTILES, WaitQuantile};
use crate::domain::links::NodeIndex;
use crate::domain::sampled_latency::{SampledLatency, SampledQuantile, TimeShare};
use crate::domain::slow_requests::SlowRequests;
use crate::domain::slowdown::Outcome;
use crate::domain::snapshot::Snapshot;
use crate::queries::{Slowdown, Waiting};

pub(crate) fn waiting(snapshot: &Snapshot, waiting: Waiting) -> wire::AnalyzeLatencyResponse {
    let budgets = waiting.budget.as_ref().map(|(budgets, _)| budgets);
    let call = |(at, call): (usize, &Call)| {
        let quantile = |quantile| call.latency.quantile(quantile).unwrap_or_default();
        wire::WaitedCall {
            callee_id: snapshot.id(call.callee).to_string(),
            call_fraction: call.call_fraction,
            calls: call.count,
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            budget_ms: budgets.and_then(|budgets| budgets.get(at).copied()),
        }
    };
    wire::AnalyzeLatencyResponse {
        calls: waiting.calls.iter().enumerate().map(call).collect(),
        quantiles: waiting.quantiles.iter().map(wait_quantile).collect(),
        slower_quantiles: waiting.slower_quantiles.iter().map(wait_quantile).collect(),
        miss_probability_max: waiting.budget.as_ref().map(|(_, miss)| *miss),
        unknown_callee_ids: names(snapshot, &waiting.unknown),
        truncated: waiting.truncated,
        sampled: waiting.sampled.map(sampled),
        samples_missing: waiting.samples_missing,
        snapshot: None,
    }
}

fn wait_quantile(found: &WaitQuantile) -> wire::WaitQuantile {
    let range = |(low_ms, high_ms): (f64, f64)| Some(wire::MillisecondRange { low_ms, high_ms });
    wire::WaitQuantile {
        quantile: found.quantile,
        at_once: range(found.at_once),
        in_sequence: range(found.in_sequence),
        at_once_positive: range(found.at_once_positive),
        in_sequence_positive: range(found.in_sequence_positive),
    }
}

fn sampled(found: SampledLatency) -> wire::SampledLatency {
    let (start_ms, end_ms) = found.span_ms;
    let quantile = |found: SampledQuantile| wire::SampledQuantile {
        quantile: found.quantile,
        measured_ms: found.measured_ms,
        interval_low_ms: found.interval_ms.0,
        interval_high_ms: found.interval_ms.1,
        slower_ms: found.slower_ms,
    };
    let share = |found: TimeShare| wire::TimeShare {
        part_id: found.part,
        mean_ms: found.mean_ms,
        share_ratio: found.share_ratio,
        slower_mean_ms: found.slower_mean_ms,
        budget_ms: found.budget_ms,
    };
    wire::SampledLatency {
        sample_count: found.sample_count as u32,
        start_time: Some(convert::timestamp(start_ms)),
        end_time: Some(convert::timestamp(end_ms)),
        truncated_count: found.truncated_count as u32,
        quantiles: found.quantiles.into_iter().map(quantile).collect(),
        shares: found.shares.into_iter().map(share).collect(),
        miss_probability_max: found.miss_probability_max,
        slow: found.slow.into_iter().map(slow).collect(),
    }
}

fn slow(found: SlowRequests) -> wire::SlowRequests {
    let without = |(part_id, count): (String, usize)| wire::SlowWithout { part_id, slow_count: count as u32 };
    wire::SlowRequests {
        threshold_ms: found.threshold_ms,
        slow_count: found.count as u32,
        without: found.without.into_iter().map(without).collect(),
    }
}

pub(super) fn slowdown(snapshot: &Snapshot, found: &Slowdown) -> wire::EvaluateLatencyResponse {
    let services = found.services.iter();
    wire::EvaluateLatencyResponse {
        services: services.map(|(outcome, path, threshold)| service(snapshot, outcome, path, *threshold)).collect(),
        unknown_ids: names(snapshot, &found.unknown),
        unevaluated_ids: names(snapshot, &found.unevaluated),
        without_samples_count: found.without_samples_count as u32,
        snapshot: None,
    }
}

fn service(
    snapshot: &Snapshot,
    outcome: &Outcome,
    path: &[NodeIndex],
    threshold_ms: Option<f64>,
) -> wire::ServiceLatency {
    let quantile = |quantile: f64| {
        let (after_low_ms, after_high_ms) = outcome.after(quantile);
        let interval = outcome.before.quantile_interval(quantile);
        wire::LatencyQuantile {
            quantile,
            before_ms: outcome.before.quantile(quantile),
            before_interval_low_ms: interval.map(|(low, _)| low),
            before_interval_high_ms: interval.and_then(|(_, high)| high),
            after_low_ms,
            after_high_ms,
        }
    };
    let after = threshold_ms.map(|threshold_ms| outcome.share_above_after(threshold_ms));
    wire::ServiceLatency {
        service_id: snapshot.id(outcome.node).to_string(),
        sample_count: outcome.sample_count as u32,
        in_cycle: outcome.in_cycle,
        quantiles: QUANTILES.map(quantile).to_vec(),
        path: names(snapshot, path),
        slow_before_ratio: threshold_ms.map(|threshold_ms| outcome.before.share_above(threshold_ms)),
        slow_after_low_ratio: after.map(|(low, _)| low),
        slow_after_high_ratio: after.map(|(_, high)| high),
    }
}
