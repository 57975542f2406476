//! How long a service waits for its calls, composed from the latencies of the calls.
//!
//! In what order calls are made nobody says here, so both ends are told: all callees at once, and one after the other. How
//! calls move together nobody says either, so the answer is a range ([`attain_composition::bounds`]).

use attain_composition::{Bounds, Budget, Dependence, Distribution, Error, split_budget};
use attain_vocabulary::{InvalidValue, LatencyHistogram};

use super::links::NodeIndex;

/// Quantiles that are told.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.95, 0.99];
/// Most calls of one request that are composed: each further one takes milliseconds.
pub const CALLS_MAX: u32 = 40;
/// Units that a threshold is split into.
pub(crate) const UNITS: usize = 200;

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

    /// The same with every call so many times as long.
    ///
    /// # Errors
    /// A factor that no histogram holds.
    pub fn slower(&self, factor: f64) -> Result<Self, InvalidValue> {
        Ok(Self { latency: self.latency.scaled(factor)?, ..*self })
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

/// Quantiles of the whole wait; none without calls, and `None` where `give_up` says so between two steps of milliseconds each.
///
/// # Errors
/// A latency without observations.
pub fn wait(calls: &[Call], give_up: &dyn Fn() -> bool) -> Result<Option<Vec<WaitQuantile>>, Error> {
    let parts: Result<Vec<Bounds>, Error> = calls.iter().map(|call| Ok(Bounds::of(&call.distribution()?))).collect();
    let parts = parts?;
    if parts.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let joined = |dependence| joined(calls, &parts, dependence, give_up);
    let (Some(unknown), Some(positive)) = (joined(Dependence::Unknown), joined(Dependence::Positive)) else {
        return Ok(None);
    };
    let of = |quantile: f64| WaitQuantile {
        quantile,
        at_once: unknown.at_once.quantile(quantile),
        in_sequence: unknown.in_sequence.quantile(quantile),
        at_once_positive: positive.at_once.quantile(quantile),
        in_sequence_positive: positive.in_sequence.quantile(quantile),
    };
    Ok(Some(QUANTILES.map(of).to_vec()))
}

/// All callees in either order.
struct Joined {
    at_once: Bounds,
    in_sequence: Bounds,
}

/// Joins the calls, at least one; `parts` has one call of each callee.
fn joined(calls: &[Call], parts: &[Bounds], dependence: Dependence, give_up: &dyn Fn() -> bool) -> Option<Joined> {
    let mut joined: Option<Joined> = None;
    for (call, part) in calls.iter().zip(parts) {
        let mut all = part.clone();
        for _ in 1..call.count {
            all = (!give_up()).then(|| all.in_sequence(part, dependence))?;
        }
        joined = Some(match joined {
            None => Joined { at_once: all.clone(), in_sequence: all },
            Some(_) if give_up() => return None,
            Some(so_far) => Joined {
                at_once: so_far.at_once.at_once(&all, dependence),
                in_sequence: so_far.in_sequence.in_sequence(&all, dependence),
            },
        });
    }
    joined
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
