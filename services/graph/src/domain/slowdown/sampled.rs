//! A service from its sampled requests: each is composed again.

use std::collections::BTreeMap;

use attain_composition::Distribution;

use super::alterations::Wait;
use super::effect::{Point, Unknown};
use super::{Composed, Known, spread};
use crate::domain::links::NodeIndex;
use crate::domain::requests::{NS_PER_MS, Requests};

/// A call within the sampled requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    ns: u64,
    request: usize,
    place: usize,
}

pub(super) fn compose(known: &Known<'_>, node: NodeIndex, requests: &Requests) -> Result<Composed, Unknown> {
    let traces = requests.traces();
    let mut low: Vec<Vec<u64>> = traces.iter().map(|trace| trace.calls().map(|(_, ns)| ns).collect()).collect();
    let mut high = low.clone();
    let mut terms = known.terms_of_alterations(node)?;
    for (name, mut calls) in by_callee(requests) {
        let Some(callee) = known.inputs.snapshot.find(name) else { continue };
        let wait = match known.inputs.snapshot.edge_between(node, callee) {
            Some(_) => known.wait(node, callee),
            // Sampled, but not in the graph: a call like any other.
            None => Some(Wait { fraction: 1.0, count: 1, timeout_ms: None, attempts: 1 }),
        };
        let Some(effect) = known.effect(node, callee, wait)? else { continue };
        let dropped = dropped(&calls, effect.kept, |request| traces[request].duration_ns());
        calls.sort_unstable();
        let count = calls.len() as f64;
        for (rank, call) in calls.iter().enumerate() {
            let after = if dropped[call.request] {
                (0.0, 0.0)
            } else {
                effect.after(call.ns as f64 / NS_PER_MS, (rank as f64 + 0.5) / count)
            };
            let ns = |ms: f64| (ms * NS_PER_MS).round() as u64;
            (low[call.request][call.place], high[call.request][call.place]) = (ns(after.0), ns(after.1));
        }
        let mut calls_of = vec![0_usize; traces.len()];
        calls.iter().filter(|call| !dropped[call.request]).for_each(|call| calls_of[call.request] += 1);
        // The first calls of all requests, then the second ones, and so on.
        let most = calls_of.iter().copied().max().unwrap_or_default();
        let share = |nth: usize| calls_of.iter().filter(|&&count| count >= nth).count() as f64 / traces.len() as f64;
        terms.extend((1..=most).filter_map(|nth| spread(&effect, share(nth))));
    }
    let ms = |ns: u64| ns as f64 / NS_PER_MS;
    let ends = low.iter().zip(&high);
    let point = |(trace, (low, high)): (&attain_composition::Trace, (&Vec<u64>, &Vec<u64>))| Point {
        before: ms(trace.duration_ns()),
        low: ms(trace.duration_with_ns(low)),
        high: ms(trace.duration_with_ns(high)),
    };
    let mut points: Vec<Point> = traces.iter().zip(ends).map(point).collect();
    points.sort_by(|a, b| a.before.total_cmp(&b.before));
    let of = |end: fn(&Point) -> f64| {
        Distribution::from_samples(points.iter().map(end).collect()).expect("there are samples, none is negative")
    };
    let base = [of(|point| point.before), of(|point| point.low), of(|point| point.high)];
    Ok(Composed { base: Some(base), points, terms })
}

fn by_callee(requests: &Requests) -> BTreeMap<&str, Vec<Call>> {
    let mut calls: BTreeMap<&str, Vec<Call>> = BTreeMap::new();
    for (request, trace) in requests.traces().iter().enumerate() {
        for (place, (callee, ns)) in trace.calls().enumerate() {
            calls.entry(callee).or_default().push(Call { ns, request, place });
        }
    }
    calls
}

/// Requests that do not make these calls any more: so many that the share is kept, spread evenly over their durations.
fn dropped(calls: &[Call], kept: f64, duration_ns: impl Fn(usize) -> u64) -> Vec<bool> {
    let mut calling: Vec<usize> = calls.iter().map(|call| call.request).collect();
    calling.dedup();
    calling.sort_by_key(|&request| (duration_ns(request), request));
    let mut dropped = vec![false; calls.iter().map(|call| call.request + 1).max().unwrap_or_default()];
    for (place, request) in calling.into_iter().enumerate() {
        let up_to = |place: usize| (place as f64 * kept).round();
        dropped[request] = up_to(place + 1) - up_to(place) < 1.0;
    }
    dropped
}
