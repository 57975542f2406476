//! How sure it is that an edge is there, from who tells of it, how often it was seen and how long ago.
//!
//! All figures here are assumptions, meant to order edges and to ask what rests on the least sure ones; none enters an
//! availability.

use attain_vocabulary::{DAY_MS, UnixMillis};

use super::links::{EdgeIndex, NodeIndex};
use super::snapshot::{Snapshot, Terms};

/// Below this an edge is doubtful.
pub const DOUBTFUL: f64 = 0.5;
/// A declaration whose caller nobody observes.
const DECLARED: f64 = 0.8;
/// A declaration whose caller is observed, yet never made the call.
const DECLARED_NEVER_SEEN: f64 = 0.4;
/// Calls after which an observation is as likely to be real as to be a probe, a test or a mistake.
const CALLS_HALF_SURE: f64 = 10.0;
/// Days without a call after which an observed edge is half as likely to be there still.
const HALF_LIFE_DAYS: f64 = 30.0;

/// Confidence in an edge at a moment, in `[0, 1]`: it is there unless everybody who tells of it is wrong.
///
/// `would_be_seen` says whether a call would have been seen ([`Snapshot::is_observed`], [`Snapshot::can_be_traced`]).
#[must_use]
pub fn confidence(terms: &Terms, would_be_seen: bool, as_of_ms: UnixMillis) -> f64 {
    let seen = terms.observed_call_count as f64;
    let days = terms.last_seen_ms.map_or(0.0, |last_ms| (as_of_ms - last_ms).max(0) as f64 / DAY_MS as f64);
    let observed = seen / (seen + CALLS_HALF_SURE) * libm::exp2(-days / HALF_LIFE_DAYS);
    let declared = match (terms.declared, would_be_seen && !terms.traced && terms.observed_call_count == 0) {
        (false, _) => 0.0,
        (true, false) => DECLARED,
        (true, true) => DECLARED_NEVER_SEEN,
    };
    1.0 - (1.0 - observed) * (1.0 - declared)
}

/// Confidence in every edge of a caller, in the order of its edges.
pub fn of_caller(
    snapshot: &Snapshot,
    caller: NodeIndex,
    as_of_ms: UnixMillis,
) -> impl Iterator<Item = (EdgeIndex, f64)> + '_ {
    let observed = snapshot.is_observed(caller);
    let edges = snapshot.all().out_edges(caller).iter();
    edges.map(move |&position| {
        let edge = snapshot.edge(position);
        (position, confidence(&edge.terms, observed && snapshot.can_be_traced(edge), as_of_ms))
    })
}

/// Edges whose confidence is below a bound, by position.
#[must_use]
pub fn below(snapshot: &Snapshot, confidence_min: f64, as_of_ms: UnixMillis) -> Vec<bool> {
    let mut below = vec![false; snapshot.edges().len()];
    for caller in 0..snapshot.nodes().len() as NodeIndex {
        for (edge, confidence) in of_caller(snapshot, caller, as_of_ms) {
            below[edge as usize] = confidence < confidence_min;
        }
    }
    below
}
