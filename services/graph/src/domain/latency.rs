//! How long a service waits for its calls, composed from the latencies of the calls.
//!
//! In what order calls are made nobody says here, so both ends are told: all callees at once, and one after the other. How
//! calls move together nobody says either, so the answer is a range ([`attain_composition::bounds`]).

use attain_composition::{Bounds, Budget, Declared, Dependence, Distribution, Error, Order, split_budget};
use attain_vocabulary::LatencyHistogram;

use super::links::NodeIndex;

/// Quantiles that are told.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// Most calls of one request that are composed: each further one takes milliseconds.
pub const CALLS_MAX: u32 = 40;
/// Units that a threshold is split into.
const UNITS: usize = 200;

/// All calls of one callee in a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Who is called.
    pub callee: NodeIndex,
    /// Share of requests that call it, in `(0, 1]`.
    pub call_fraction: f64,
    /// Calls, one after the other, of a request that does; at least 1.
    pub count: u32,
    /// Latency of one call; not empty.
    pub latency: LatencyHistogram,
}

impl Call {
    /// Expected milliseconds of a request.
    #[must_use]
    pub fn wait_ms(&self) -> f64 {
        self.call_fraction * f64::from(self.count) * self.latency.mean().unwrap_or(0.0)
    }

    /// Latency of one call, no time where the request does not call.
    fn distribution(&self) -> Result<Distribution, Error> {
        let calling = self.latency.count() as f64;
        let others = (calling * (1.0 - self.call_fraction) / self.call_fraction).round();
        Distribution::from_histogram(self.latency.with_zeros(others as u64))
    }
}

/// What one quantile of the wait lies between, least and greatest milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WaitQuantile {
    /// In `[0, 1]`.
    pub quantile: f64,
    /// Callees at once, whatever moves together.
    pub at_once: (f64, f64),
    /// One after the other, whatever moves together.
    pub in_sequence: (f64, f64),
    /// At once, if calls are rather slow together than by chance.
    pub at_once_positive: (f64, f64),
    /// One after the other, likewise.
    pub in_sequence_positive: (f64, f64),
}

/// The dearest calls first; past [`CALLS_MAX`] calls of a request the rest is left out, which is said.
#[must_use]
pub fn dearest(mut calls: Vec<Call>) -> (Vec<Call>, bool) {
    calls.sort_by(|a, b| b.wait_ms().total_cmp(&a.wait_ms()).then(a.callee.cmp(&b.callee)));
    let mut left = CALLS_MAX;
    let before = calls.len();
    calls.retain(|call| {
        let fits = call.count <= left;
        left -= if fits { call.count } else { 0 };
        fits
    });
    let truncated = calls.len() < before;
    (calls, truncated)
}

/// Quantiles of the whole wait; none without calls.
///
/// # Errors
/// A latency without observations.
pub fn wait(calls: &[Call]) -> Result<Vec<WaitQuantile>, Error> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let of_callee = |(part, call): (usize, &Call)| match call.count {
        1 => Order::Part(part),
        count => Order::InSequence(vec![Order::Part(part); count as usize]),
    };
    let callees: Vec<Order> = calls.iter().enumerate().map(of_callee).collect();
    let parts: Result<Vec<Distribution>, Error> = calls.iter().map(Call::distribution).collect();
    let parts = parts?;
    let declared = |order: Order| Declared::new(order, parts.clone());
    let (at_once, in_sequence) = (declared(Order::AtOnce(callees.clone()))?, declared(Order::InSequence(callees))?);
    let bounds = |order: &Declared| [Dependence::Unknown, Dependence::Positive].map(|known| order.bounds(known));
    let [at_once, at_once_positive] = bounds(&at_once);
    let [in_sequence, in_sequence_positive] = bounds(&in_sequence);
    let of = |quantile: f64| {
        let at = |bounds: &Bounds| bounds.quantile(quantile);
        WaitQuantile {
            quantile,
            at_once: at(&at_once),
            in_sequence: at(&in_sequence),
            at_once_positive: at(&at_once_positive),
            in_sequence_positive: at(&in_sequence_positive),
        }
    };
    Ok(QUANTILES.map(of).to_vec())
}

/// A threshold split over calls one after the other: milliseconds by callee, for all its calls of a request, and the greatest
/// probability that the wait exceeds the threshold.
///
/// # Errors
/// No calls, or a threshold that is not a positive number.
pub fn split(calls: &[Call], threshold_ms: f64) -> Result<Budget, Error> {
    let mut stages = Vec::new();
    for call in calls {
        let distribution = call.distribution()?;
        stages.extend((0..call.count).map(|_| vec![distribution.clone()]));
    }
    let by_call = split_budget(&stages, threshold_ms, UNITS)?;
    let mut of_calls = by_call.stages_ms.iter();
    let sum = |call: &Call| of_calls.by_ref().take(call.count as usize).sum();
    Ok(Budget { stages_ms: calls.iter().map(sum).collect(), ..by_call })
}
