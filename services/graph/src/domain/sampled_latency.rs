//! What sampled requests say of a service's latency: quantiles, who determines it, a threshold split over callees, and all of it
//! with one callee slower.

use std::collections::{BTreeMap, BTreeSet};

use attain_composition::{Budget, Distribution, Error, Trace, split_budget};
use attain_vocabulary::UnixMillis;

use super::latency::{QUANTILES, UNITS};
use super::requests::{Requests, critical_times_ms, durations};
use super::slow_requests::{SlowRequests, slow_requests};

/// From the sampled requests of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledLatency {
    /// Requests that it is composed from.
    pub sample_count: usize,
    /// When the oldest and the newest began.
    pub span_ms: (UnixMillis, UnixMillis),
    /// Requests left out because not all of their calls are known.
    pub truncated_count: usize,
    /// One for each of [`QUANTILES`].
    pub quantiles: Vec<SampledQuantile>,
    /// Who determines how long requests take, the greatest share first.
    pub shares: Vec<TimeShare>,
    /// Greatest probability that the wait exceeds the threshold; `None` without one, and where nobody is waited for.
    pub miss_probability_max: Option<f64>,
    /// One for each threshold that slow requests were asked for.
    pub slow: Vec<SlowRequests>,
}

/// A quantile of whole requests, in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledQuantile {
    /// In `[0, 1]`.
    pub quantile: f64,
    /// As measured.
    pub measured_ms: f64,
    /// 95 % interval; no upper end where the samples are too few.
    pub interval_ms: (f64, Option<f64>),
    /// With the callee slower; `None` without one.
    pub slower_ms: Option<f64>,
}

/// What one part determines of the time of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeShare {
    /// The callee, or the service itself.
    pub part: String,
    /// Milliseconds of a request on average.
    pub mean_ms: f64,
    /// Of the time of all requests, in `[0, 1]`.
    pub share_ratio: f64,
    /// The mean with the callee slower; `None` without one.
    pub slower_mean_ms: Option<f64>,
    /// Milliseconds of the threshold; `None` without one, and for the service itself.
    pub budget_ms: Option<f64>,
}

/// Reads requests; `slower` names a callee and how many times as long its calls are to take, `slow_thresholds_ms` are those that
/// they are held against.
///
/// A threshold is split over the times of callees on the critical path of each request, as they are with the slower callee.
/// Those of one request add up to what it waits for, so whatever moves together, `P(miss) ≤ Σ P(time > budget)`.
///
/// # Errors
/// A threshold that is not a positive number.
pub fn sampled_latency(
    requests: &Requests,
    slower: Option<(&str, f64)>,
    threshold_ms: Option<f64>,
    slow_thresholds_ms: &[f64],
) -> Result<SampledLatency, Error> {
    let traces = requests.traces();
    let after: Option<Vec<Trace>> =
        slower.map(|(callee_id, factor)| traces.iter().map(|trace| with_slower(trace, callee_id, factor)).collect());
    let (measured, latency_after) = (requests.latency(), after.as_deref().map(durations));
    let quantile = |quantile: f64| SampledQuantile {
        quantile,
        measured_ms: measured.quantile(quantile),
        interval_ms: measured.quantile_interval(quantile).unwrap_or_default(),
        slower_ms: latency_after.as_ref().map(|after| after.quantile(quantile)),
    };
    let (times, times_after) = (critical_times_ms(traces), after.as_deref().map(critical_times_ms));
    let own = traces.first().map_or("", Trace::root);
    let judged = times_after.as_ref().unwrap_or(&times).iter().map(|(part, ms)| (*part, ms));
    let waited: Vec<(&str, &Vec<f64>)> = judged.filter(|(part, _)| *part != own).collect();
    let budget = match threshold_ms {
        Some(threshold_ms) if !waited.is_empty() => Some(split(&waited, threshold_ms)?),
        _ => None,
    };
    let budget_of = |part: &str| {
        let place = waited.iter().position(|(callee, _)| *callee == part)?;
        budget.as_ref().map(|budget| budget.stages_ms[place])
    };
    let mean = |times: &BTreeMap<&str, Vec<f64>>, part: &str| {
        times.get(part).map_or(0.0, |ms| ms.iter().sum::<f64>() / traces.len() as f64)
    };
    let parts: BTreeSet<&str> = times.keys().chain(times_after.iter().flat_map(BTreeMap::keys)).copied().collect();
    let whole: f64 = parts.iter().map(|part| mean(&times, part)).sum();
    let share = |part: &&str| {
        let mean_ms = mean(&times, part);
        TimeShare {
            part: (*part).to_owned(),
            mean_ms,
            share_ratio: if whole > 0.0 { mean_ms / whole } else { 0.0 },
            slower_mean_ms: times_after.as_ref().map(|times| mean(times, part)),
            budget_ms: budget_of(part),
        }
    };
    let mut shares: Vec<TimeShare> = parts.iter().map(share).collect();
    shares.sort_by(|a, b| b.mean_ms.total_cmp(&a.mean_ms).then_with(|| a.part.cmp(&b.part)));
    Ok(SampledLatency {
        sample_count: traces.len(),
        span_ms: requests.span_ms(),
        truncated_count: requests.truncated_count(),
        quantiles: QUANTILES.map(quantile).to_vec(),
        shares,
        miss_probability_max: budget.map(|budget| budget.miss_probability_max),
        slow: slow_requests(traces, slow_thresholds_ms),
    })
}

fn split(waited: &[(&str, &Vec<f64>)], threshold_ms: f64) -> Result<Budget, Error> {
    let stage = |(_, ms): &(&str, &Vec<f64>)| Ok(vec![Distribution::from_samples((*ms).clone())?]);
    let stages: Result<Vec<Vec<Distribution>>, Error> = waited.iter().map(stage).collect();
    split_budget(&stages?, threshold_ms, UNITS)
}

fn with_slower(trace: &Trace, callee_id: &str, factor: f64) -> Trace {
    let after = |(part, ns): (&str, u64)| if part == callee_id { (ns as f64 * factor).round() as u64 } else { ns };
    trace.with_calls_ns(&trace.calls().map(after).collect::<Vec<u64>>())
}
