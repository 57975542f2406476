use std::sync::Arc;

use attain_runtime::context::CallContext;
use attain_vocabulary::InvalidValue;

use super::Engine;
use crate::domain::latency::{Call, WaitQuantile, dearest, split, wait};
use crate::domain::links::NodeIndex;
use crate::domain::requests::Requests;
use crate::domain::sampled_latency::{SampledLatency, sampled_latency};
use crate::domain::slowdown::Wait;
use crate::error::Error;
use crate::storage::held::Held;

/// What is asked.
#[derive(Debug)]
pub(crate) struct LatencyQuestion {
    pub(crate) service_id: String,
    pub(crate) threshold_ms: Option<f64>,
    /// A callee, and how many times slower it is to be.
    pub(crate) slower: Option<(String, f64)>,
    /// Thresholds that sampled requests are held against.
    pub(crate) slow_thresholds_ms: Vec<f64>,
    /// Whether what is composed without samples is left out.
    pub(crate) sampled_only: bool,
}

/// How long a service waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) calls: Vec<Call>,
    pub(crate) quantiles: Vec<WaitQuantile>,
    pub(crate) slower_quantiles: Vec<WaitQuantile>,
    /// By call, and the greatest probability of a miss.
    pub(crate) budget: Option<(Vec<f64>, f64)>,
    pub(crate) unknown: Vec<NodeIndex>,
    pub(crate) truncated: bool,
    pub(crate) sampled: Option<SampledLatency>,
    pub(crate) samples_missing: bool,
}

impl Engine {
    /// The wait for direct callees, and a threshold split over them.
    pub(crate) async fn latency(
        &self,
        context: &CallContext,
        question: LatencyQuestion,
    ) -> Result<(Arc<Held>, Waiting), Error> {
        let (held, node) = self.gather_service(context, &question.service_id, 0).await?;
        let mut samples = self.samples(context, &held, &[node]).await;
        let graph = Arc::clone(&held);
        let requests = samples.requests.remove(&node);
        let job = move |give_up: &dyn Fn() -> bool| waiting(&graph, node, requests.as_ref(), &question, give_up);
        let answer = self.workers.run(context.deadline, job).await?;
        Ok((held, Waiting { samples_missing: samples.missing_count > 0, ..answer }))
    }
}

fn waiting(
    held: &Held,
    node: NodeIndex,
    requests: Option<&Requests>,
    question: &LatencyQuestion,
    give_up: &dyn Fn() -> bool,
) -> Result<Waiting, Error> {
    let slower = question.slower.as_ref().map(|(callee_id, factor)| (callee_id.as_str(), *factor));
    let read = |requests| sampled_latency(requests, slower, question.threshold_ms, &question.slow_thresholds_ms);
    let sampled = requests.map(read).transpose()?;
    if question.sampled_only {
        return Ok(Waiting { sampled, ..Waiting::default() });
    }
    let (known, unknown) = calls(held, node);
    let (calls, truncated) = dearest(known);
    let slower_calls = match slower {
        None => None,
        // Known from samples alone.
        Some((callee_id, _)) if requests.is_some_and(|requests| requests.calls_ms(callee_id).next().is_some()) => {
            with_slower(held, &calls, slower)?
        }
        Some(_) => Some(with_slower(held, &calls, slower)?.ok_or_else(not_called)?),
    };
    let judged = slower_calls.as_ref().unwrap_or(&calls);
    let budget = match question.threshold_ms {
        Some(threshold_ms) if !judged.is_empty() => {
            let budget = split(judged, threshold_ms)?;
            Some((budget.stages_ms, budget.miss_probability_max))
        }
        _ => None,
    };
    let quantiles = |calls: &[Call]| wait(calls, give_up)?.ok_or(Error::Deadline);
    let slower_quantiles = slower_calls.as_deref().map_or(Ok(Vec::new()), quantiles)?;
    let quantiles = quantiles(&calls)?;
    let samples_missing = false;
    Ok(Waiting { calls, quantiles, slower_quantiles, budget, unknown, truncated, sampled, samples_missing })
}

/// Calls of known latency, and callees of unknown.
fn calls(held: &Held, node: NodeIndex) -> (Vec<Call>, Vec<NodeIndex>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for &position in held.snapshot.request_path().out_edges(node) {
        let edge = held.snapshot.edge(position);
        let Some(wait) = Wait::of(&edge.terms) else { continue };
        match held.latency(position) {
            None => unknown.push(edge.callee),
            Some(latency) => {
                known.push(Call { callee: edge.callee, call_fraction: wait.fraction, count: wait.count, latency })
            }
        }
    }
    (known, unknown)
}

/// The calls with one callee slower; `None` where none of them is to it.
fn with_slower(held: &Held, calls: &[Call], slower: Option<(&str, f64)>) -> Result<Option<Vec<Call>>, Error> {
    let Some((callee_id, factor)) = slower else { return Ok(None) };
    let Some(place) = calls.iter().position(|call| held.snapshot.id(call.callee).as_str() == callee_id) else {
        return Ok(None);
    };
    let slower = calls[place].slower(factor);
    let slower = slower.map_err(|invalid| InvalidValue { field: "slower_factor".into(), ..invalid })?;
    let (before, after) = (&calls[..place], &calls[place + 1..]);
    Ok(Some([before, &[slower], after].concat()))
}

fn not_called() -> Error {
    let reason = "the service makes no calls of known latency to it";
    InvalidValue::new("slower_callee_id", "unknown_dependency", reason).into()
}
