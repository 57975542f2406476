use std::sync::Arc;

use attain_runtime::context::CallContext;
use attain_vocabulary::{InvalidValue, LatencyHistogram};

use super::Engine;
use crate::domain::latency::{Call, WaitQuantile, dearest, split, wait};
use crate::domain::links::NodeIndex;
use crate::domain::needs::{call_fraction, calls_per_request};
use crate::error::Error;
use crate::storage::held::Held;

/// Most calls of one callee in a request that are told apart.
const CALLS_OF_ONE_MAX: f64 = 10.0;

/// What is asked.
#[derive(Debug)]
pub(crate) struct LatencyQuestion {
    pub(crate) service_id: String,
    pub(crate) threshold_ms: Option<f64>,
    /// A callee, and how many times slower it is to be.
    pub(crate) slower: Option<(String, f64)>,
}

/// How long a service waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) calls: Vec<Call>,
    pub(crate) quantiles: Vec<WaitQuantile>,
    pub(crate) slower_quantiles: Vec<WaitQuantile>,
    /// By call, and the greatest probability of a miss.
    pub(crate) budget: Option<(Vec<f64>, f64)>,
    pub(crate) unknown: Vec<NodeIndex>,
    pub(crate) truncated: bool,
}

impl Engine {
    /// The wait for direct callees, and a threshold split over them.
    pub(crate) async fn latency(
        &self,
        context: &CallContext,
        question: LatencyQuestion,
    ) -> Result<(Arc<Held>, Waiting), Error> {
        let (held, node) = self.gather_service(context, &question.service_id, 0).await?;
        let graph = Arc::clone(&held);
        let job = move |_: &dyn Fn() -> bool| waiting(&graph, node, &question);
        let answer = self.workers.run(context.deadline, job).await?;
        Ok((held, answer))
    }
}

fn waiting(held: &Held, node: NodeIndex, question: &LatencyQuestion) -> Result<Waiting, Error> {
    let (known, unknown) = calls(held, node);
    let (calls, truncated) = dearest(known);
    let slower = question.slower.as_ref().map(|slower| with_slower(held, &calls, slower)).transpose()?;
    let judged = slower.as_ref().unwrap_or(&calls);
    let budget = match question.threshold_ms {
        Some(threshold_ms) if !judged.is_empty() => {
            let budget = split(judged, threshold_ms)?;
            Some((budget.stages_ms, budget.miss_probability_max))
        }
        _ => None,
    };
    let quantiles = wait(&calls)?;
    let slower_quantiles = slower.as_deref().map_or(Ok(Vec::new()), wait)?;
    Ok(Waiting { calls, quantiles, slower_quantiles, budget, unknown, truncated })
}

/// Calls of known latency, and callees of unknown.
fn calls(held: &Held, node: NodeIndex) -> (Vec<Call>, Vec<NodeIndex>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for &edge in held.snapshot.request_path().out_edges(node) {
        let edge = held.snapshot.edge(edge);
        let (fraction, rate) = (call_fraction(&edge.terms), calls_per_request(&edge.terms));
        if fraction <= 0.0 {
            continue;
        }
        match held.latency(edge.caller, edge.callee).filter(|latency| latency.count() > 0) {
            None => unknown.push(edge.callee),
            Some(latency) => {
                let count = (rate / fraction).round().clamp(1.0, CALLS_OF_ONE_MAX) as u32;
                known.push(Call { callee: edge.callee, call_fraction: fraction, count, latency });
            }
        }
    }
    (known, unknown)
}

fn with_slower(held: &Held, calls: &[Call], (callee_id, factor): &(String, f64)) -> Result<Vec<Call>, Error> {
    let slower = held.snapshot.find(callee_id);
    let scaled = |call: &Call| -> Result<Call, InvalidValue> {
        let latency: LatencyHistogram = if Some(call.callee) == slower {
            call.latency.scaled(*factor).map_err(|invalid| InvalidValue { field: "slower_factor".into(), ..invalid })?
        } else {
            call.latency.clone()
        };
        Ok(Call { latency, ..call.clone() })
    };
    if !calls.iter().any(|call| Some(call.callee) == slower) {
        let reason = "the service makes no calls of known latency to it";
        return Err(InvalidValue::new("slower_callee_id", "unknown_dependency", reason).into());
    }
    Ok(calls.iter().map(scaled).collect::<Result<_, _>>()?)
}
