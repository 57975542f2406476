//! What changes do to latency, of every service above them, callees before callers.
//!
//! Where a service's requests were sampled, each of them is composed again: a call takes as much longer as its callee's request at
//! the same rank does, and stages decide anew who is waited for. Where they were not, the latency after lies in a range: nobody
//! knows the order of calls nor what moves together. A range below makes a range above.
//!
//! Members of a cycle are composed in rounds until nothing moves any more; of those that do not come to rest nobody knows.
//!
//! Entry points: [`Alterations::resolve`], [`Scope::of`], [`evaluate`].

mod alterations;
mod effect;
mod pace;
mod ranged;
mod sampled;
mod scope;
mod unsampled;

use std::collections::BTreeMap;

use attain_composition::Distribution;
use attain_vocabulary::LatencyHistogram;

pub use self::alterations::{Alterations, Change};
pub use self::scope::Scope;

pub(crate) use self::alterations::Wait;

use self::effect::{Effect, Point, Unknown};
use self::pace::Pace;
use self::ranged::{Term, Total, steps};
use super::links::{EdgeIndex, NodeIndex};
use super::requests::Requests;
use super::snapshot::Snapshot;

/// Most rounds that a cycle is composed in.
const ROUNDS_MAX: usize = 32;
/// Milliseconds that a round may still move a cycle that has come to rest: what samples are told in.
const REST_MS: f64 = 1e-3;

/// What is known.
pub struct Inputs<'a> {
    /// The graph.
    pub snapshot: &'a Snapshot,
    /// What changes.
    pub alterations: &'a Alterations,
    /// Sampled requests, by service.
    pub requests: &'a BTreeMap<NodeIndex, Requests>,
    /// Latencies that services were measured with as a whole; only asked for where there are no samples.
    pub own: &'a BTreeMap<NodeIndex, LatencyHistogram>,
    /// Latencies of the calls of an edge, where anybody counted them.
    pub of_calls: &'a dyn Fn(EdgeIndex) -> Option<LatencyHistogram>,
}

/// A service before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The service.
    pub node: NodeIndex,
    /// As measured.
    pub before: Distribution,
    /// Sampled requests that it was composed from; 0 where it is a range from latencies of calls.
    pub sample_count: usize,
    /// Whether it is part of a cycle of calls.
    pub in_cycle: bool,
    low: Distribution,
    high: Distribution,
    pace: Pace,
}

impl Outcome {
    /// Least and greatest milliseconds of a quantile in `[0, 1]` after the changes.
    #[must_use]
    pub fn after(&self, quantile: f64) -> (f64, f64) {
        let of = |ends: &Distribution| self.pace.of(ends.quantile(quantile));
        (of(&self.low), of(&self.high))
    }

    /// Least and greatest share of requests slower than a threshold in milliseconds after the changes.
    #[must_use]
    pub fn share_above_after(&self, threshold_ms: f64) -> (f64, f64) {
        let of = |ends: &Distribution| ends.share_above(self.pace.before(threshold_ms));
        (of(&self.low), of(&self.high))
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcomes {
    /// In lexical order.
    pub services: Vec<Outcome>,
    /// Services that a change reaches and whose latency nobody knows, before or after; in lexical order. What is down has none.
    pub unknown: Vec<NodeIndex>,
    /// Services that were not composed, for they are too many or nobody waited for them any more; in lexical order.
    pub unevaluated: Vec<NodeIndex>,
}

/// What a component's callers see of it.
#[derive(Debug, Clone, PartialEq)]
enum Moved {
    /// Its own pace, and nothing else.
    Paced(Pace),
    /// Its requests one by one, by ascending duration before, and its own pace.
    Paired(Vec<Point>, Pace),
    /// A change of which nobody knows what requests it meets.
    Spread(ranged::Change),
    /// Nobody knows.
    Unknown,
}

/// What the calls of a service make of it, its own pace aside.
struct Composed {
    /// Before, least and greatest after, as far as it is known request by request; `None` where nobody measured it.
    base: Option<[Distribution; 3]>,
    /// One a sampled request, by ascending duration before.
    points: Vec<Point>,
    /// Changes of which nobody knows what requests they meet.
    terms: Vec<Term>,
}

/// Composes every service of the scope. When `give_up` says so between two services the rest is left out.
#[must_use]
pub fn evaluate(inputs: &Inputs<'_>, scope: &Scope, give_up: &dyn Fn() -> bool) -> Outcomes {
    let mut known = Known { inputs, moved: BTreeMap::new() };
    for &node in scope.left_out.iter().chain(&inputs.alterations.down) {
        known.moved.insert(node, Moved::Unknown);
    }
    let mut outcomes = Outcomes { services: Vec::new(), unknown: Vec::new(), unevaluated: scope.left_out.clone() };
    let is_up = |node: &NodeIndex| !inputs.alterations.down.contains(node);
    for members in &scope.in_turn {
        let members: Vec<NodeIndex> = members.iter().copied().filter(is_up).collect();
        let found = match members[..] {
            [] => Some(Vec::new()),
            _ if give_up() => None,
            [node] => Some(vec![known.compose(node)]),
            _ => known.compose_cycle(&members, give_up),
        };
        let Some(found) = found else {
            outcomes.unevaluated.extend(members);
            continue;
        };
        for (node, outcome) in members.into_iter().zip(found) {
            match outcome {
                Some(outcome) => outcomes.services.push(outcome),
                None => outcomes.unknown.push(node),
            }
        }
    }
    outcomes.services.sort_by_key(|outcome| outcome.node);
    outcomes.unknown.sort_unstable();
    outcomes.unevaluated.sort_unstable();
    outcomes
}

/// What is known so far.
struct Known<'a> {
    inputs: &'a Inputs<'a>,
    /// Of components that are not what they were.
    moved: BTreeMap<NodeIndex, Moved>,
}

impl Known<'_> {
    /// Composes one service from what is known of its callees.
    fn compose(&mut self, node: NodeIndex) -> Option<Outcome> {
        let composed = match self.inputs.requests.get(&node) {
            Some(requests) => sampled::compose(self, node, requests),
            None => unsampled::compose(self, node),
        };
        let pace = self.inputs.alterations.paces.get(&node).copied().unwrap_or(Pace::SAME);
        let (outcome, moved) = match composed {
            Err(Unknown) => (None, Some(Moved::Unknown)),
            Ok(composed) => composed.finish(node, pace),
        };
        match moved {
            None => self.moved.remove(&node),
            Some(moved) => self.moved.insert(node, moved),
        };
        outcome
    }

    /// Composes the members of a cycle until they come to rest; `None` when given up.
    fn compose_cycle(&mut self, members: &[NodeIndex], give_up: &dyn Fn() -> bool) -> Option<Vec<Option<Outcome>>> {
        for _ in 0..ROUNDS_MAX {
            let mut rests = true;
            let mut outcomes = Vec::with_capacity(members.len());
            for &node in members {
                if give_up() {
                    return None;
                }
                let before = self.moved.get(&node).cloned();
                let outcome = self.compose(node);
                rests &= is_near(before.as_ref(), self.moved.get(&node));
                outcomes.push(outcome.map(|outcome| Outcome { in_cycle: true, ..outcome }));
            }
            if rests {
                return Some(outcomes);
            }
        }
        for &node in members {
            self.moved.insert(node, Moved::Unknown);
        }
        Some(vec![None; members.len()])
    }

    /// What becomes of the calls between two components; `wait` is how the caller waits today.
    fn effect(&self, caller: NodeIndex, callee: NodeIndex, wait: Option<Wait>) -> Result<Option<Effect<'_>>, Unknown> {
        Effect::of(wait, self.inputs.alterations.edges.get(&(caller, callee)), self.moved.get(&callee))
    }

    /// How the caller waits for the callee today; `None` where no edge says so.
    fn wait(&self, caller: NodeIndex, callee: NodeIndex) -> Option<Wait> {
        let snapshot = self.inputs.snapshot;
        Wait::of(&snapshot.edge(snapshot.edge_between(caller, callee)?).terms)
    }

    /// Calls that the changes add to a service, and further attempts that they give it.
    fn terms_of_alterations(&self, caller: NodeIndex) -> Result<Vec<Term>, Unknown> {
        let mut terms = Vec::new();
        for (&(_, callee), altered) in self.inputs.alterations.edges.range((caller, 0)..=(caller, NodeIndex::MAX)) {
            let Some(effect) = self.effect(caller, callee, altered.before)? else { continue };
            if effect.added > 0.0 {
                let count = altered.after.map_or(1, |wait| wait.count);
                let calls = self.of_calls(caller, callee).ok_or(Unknown)?;
                let added: Vec<(f64, f64)> =
                    at_ranks(&calls).map(|(ms, rank)| (0.0, effect.after(ms, rank).1)).collect();
                terms.extend((0..count).map(|_| Term::new(effect.added, added.iter().copied())));
                terms.extend((0..count).filter_map(|_| spread(&effect, effect.added)));
            }
            if effect.extra_attempts > 0 {
                terms.extend(self.retried(caller, callee, &effect)?);
            }
        }
        Ok(terms)
    }

    /// Failed calls that are tried again, each attempt as long as the failed one at most.
    fn retried(&self, caller: NodeIndex, callee: NodeIndex, effect: &Effect<'_>) -> Result<Option<Term>, Unknown> {
        let snapshot = self.inputs.snapshot;
        let longest = |(ms, rank): (f64, f64)| (0.0, f64::from(effect.extra_attempts) * effect.after(ms, rank).1);
        if let Some(requests) = self.inputs.requests.get(&caller) {
            let failed = requests.failed_calls_ms(snapshot.id(callee).as_str());
            let share = failed.len() as f64 / requests.traces().len() as f64;
            return Ok((share > 0.0).then(|| Term::new(share, at_ranks(failed).map(longest))));
        }
        let Some(edge) = snapshot.edge_between(caller, callee) else { return Ok(None) };
        let terms = &snapshot.edge(edge).terms;
        let Some(wait) = Wait::of(terms) else { return Ok(None) };
        let counted = terms.observed_failure_count.filter(|_| terms.observed_call_count > 0).ok_or(Unknown)?;
        let failing = counted as f64 / terms.observed_call_count as f64;
        let calls = self.of_calls(caller, callee).ok_or(Unknown)?;
        let share = wait.fraction * f64::from(wait.count) * failing;
        Ok((share > 0.0).then(|| Term::new(share, at_ranks(&calls).map(longest))))
    }

    /// Milliseconds of calls between two components, ascending: as the caller's requests show them, else as they were counted,
    /// else as long as the callee takes.
    fn of_calls(&self, caller: NodeIndex, callee: NodeIndex) -> Option<Vec<f64>> {
        let Inputs { snapshot, requests, of_calls, .. } = self.inputs;
        let name = snapshot.id(callee).as_str();
        if let Some(requests) = requests.get(&caller) {
            let mut calls: Vec<f64> = requests.calls_ms(name).collect();
            if !calls.is_empty() {
                calls.sort_by(f64::total_cmp);
                return Some(calls);
            }
        }
        let counted = snapshot.edge_between(caller, callee).and_then(of_calls);
        let counted = counted.and_then(|latency| Distribution::from_histogram(latency).ok());
        Some(steps(&counted.or_else(|| self.latency(callee))?))
    }

    /// How long a component takes today: as sampled, as measured as a whole, or as all calls of it together, those that were
    /// counted before those that were sampled.
    fn latency(&self, node: NodeIndex) -> Option<Distribution> {
        let Inputs { snapshot, requests, own, of_calls, .. } = self.inputs;
        if let Some(requests) = requests.get(&node) {
            return Some(requests.latency());
        }
        if let Some(own) = own.get(&node) {
            return Distribution::from_histogram(own.clone()).ok();
        }
        let edges = snapshot.request_path().in_edges(node);
        let counted = edges.iter().filter_map(|&edge| of_calls(edge)).reduce(|mut all, latency| {
            all.merge(&latency);
            all
        });
        if let Some(all) = counted {
            return Distribution::from_histogram(all).ok();
        }
        let name = snapshot.id(node).as_str();
        let callers = edges.iter().filter_map(|&edge| requests.get(&snapshot.edge(edge).caller));
        Distribution::from_samples(callers.flat_map(|requests| requests.calls_ms(name)).collect()).ok()
    }
}

impl Composed {
    fn finish(mut self, node: NodeIndex, pace: Pace) -> (Option<Outcome>, Option<Moved>) {
        let outcome = self.base.as_ref().map(|[before, low, high]| {
            let (low, high) = Total::of(&self.terms).on(low, high);
            let (before, sample_count) = (before.clone(), self.points.len());
            Outcome { node, before, sample_count, in_cycle: false, low, high, pace }
        });
        if self.terms.is_empty() {
            let is_same = |point: &Point| point.low == point.before && point.high == point.before;
            let moved = match (self.points.iter().all(is_same), pace.is_same()) {
                (true, true) => None,
                (true, false) => Some(Moved::Paced(pace)),
                (false, _) => Some(Moved::Paired(self.points, pace)),
            };
            return (outcome, moved);
        }
        if !self.points.is_empty() {
            let changes = self.points.iter().map(|point| (point.low - point.before, point.high - point.before));
            self.terms.push(Term::new(1.0, changes));
        }
        let paced = match &self.base {
            _ if pace.is_same() => None,
            None => pace.constant_ms().map(|added_ms| vec![(added_ms, added_ms)]),
            Some([before, ..]) => {
                let change = |ms: f64| (pace.of(ms) - ms, pace.of(ms) - ms);
                Some(steps(before).into_iter().map(change).collect())
            }
        };
        match paced {
            None if !pace.is_same() => return (outcome, Some(Moved::Unknown)),
            None => {}
            Some(changes) => {
                self.terms = self.terms.iter().map(|term| term.scaled(pace.factor())).collect();
                self.terms.push(Term::new(1.0, changes));
            }
        }
        (outcome, Some(Moved::Spread(Total::of(&self.terms).change())))
    }
}

/// A change of the callee of which nobody knows which calls it meets, for a share of requests; no call gets longer by more than its
/// limit.
fn spread(effect: &Effect<'_>, share: f64) -> Option<Term> {
    let effect::Callee::Spread(change) = effect.callee else { return None };
    let longest = effect.longest_ms().unwrap_or(f64::INFINITY);
    let changes = change.low.iter().zip(&change.high).map(|(low, high)| (*low, high.min(longest)));
    (share > 0.0).then(|| Term::new(share, changes))
}

/// Values, ascending, each with the middle of its ranks.
fn at_ranks(values: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let count = values.len() as f64;
    values.iter().enumerate().map(move |(place, value)| (*value, (place as f64 + 0.5) / count))
}

/// Whether two rounds found as good as the same.
fn is_near(a: Option<&Moved>, b: Option<&Moved>) -> bool {
    let near = |a: &f64, b: &f64| (a - b).abs() <= REST_MS;
    let all = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| near(a, b));
    match (a, b) {
        (Some(Moved::Paired(a, _)), Some(Moved::Paired(b, _))) => {
            a.iter().zip(b).all(|(a, b)| near(&a.low, &b.low) && near(&a.high, &b.high))
        }
        (Some(Moved::Spread(a)), Some(Moved::Spread(b))) => all(&a.low, &b.low) && all(&a.high, &b.high),
        (a, b) => a == b,
    }
}
