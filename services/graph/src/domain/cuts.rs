//! Which calls to give up so that no cycle is left: a feedback arc set of a strongly connected component.

use std::collections::BTreeSet;

use super::links::NodeIndex;
use super::needs::passes_on;
use super::snapshot::Snapshot;

/// Members up to which the fewest calls are found, by dynamic programming over sets of members.
const EXACT_MEMBERS_MAX: usize = 12;
/// How much a call that passes every failure on weighs beyond one that passes none on. So small that fewer calls always win:
/// a component of a million calls weighs less by it than one call.
const DISPENSABILITY: f64 = 1e-6;

/// Calls whose removal leaves no cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Caller and callee, in lexical order.
    pub edges: Vec<(NodeIndex, NodeIndex)>,
    /// Whether no fewer would do.
    pub fewest: bool,
}

/// The calls to cut among these members of one component, which are sorted. Of as many calls, those are cut that pass on the least.
#[must_use]
pub fn cut(snapshot: &Snapshot, members: &[NodeIndex]) -> Cut {
    let arcs = Arcs::of(snapshot, members);
    let exact = members.len() <= EXACT_MEMBERS_MAX;
    let order = if exact { arcs.best_order() } else { arcs.greedy_order() };
    let mut place = vec![0; members.len()];
    order.iter().enumerate().for_each(|(position, &member)| place[member] = position);
    let backward = |&(caller, callee, _): &(usize, usize, f64)| place[caller] > place[callee];
    let mut edges: Vec<(NodeIndex, NodeIndex)> =
        arcs.all.iter().filter(|arc| backward(arc)).map(|&(a, b, _)| (members[a], members[b])).collect();
    edges.sort_unstable();
    Cut { edges, fewest: exact }
}

/// Calls within a component, by positions of its members.
struct Arcs {
    /// Caller, callee, weight.
    all: Vec<(usize, usize, f64)>,
    callees: Vec<Vec<(usize, f64)>>,
    callers: Vec<Vec<(usize, f64)>>,
}

impl Arcs {
    fn of(snapshot: &Snapshot, members: &[NodeIndex]) -> Self {
        let mut arcs = Self {
            all: Vec::new(),
            callees: vec![Vec::new(); members.len()],
            callers: vec![Vec::new(); members.len()],
        };
        for (caller, &member) in members.iter().enumerate() {
            let calls = snapshot.all().callees(member).iter().zip(snapshot.all().out_edges(member));
            for (callee, &edge) in calls {
                let Ok(callee) = members.binary_search(callee) else { continue };
                let weight = 1.0 + DISPENSABILITY * passes_on(&snapshot.edge(edge).terms);
                arcs.all.push((caller, callee, weight));
                arcs.callees[caller].push((callee, weight));
                arcs.callers[callee].push((caller, weight));
            }
        }
        arcs
    }

    /// The order of members of whose backward calls the weight is least: the best order of a set ends with the member after
    /// whose removal the rest is best.
    fn best_order(&self) -> Vec<usize> {
        let count = self.callees.len();
        let mut least = vec![f64::INFINITY; 1 << count];
        let mut last = vec![0; 1 << count];
        least[0] = 0.0;
        for set in 1_usize..1 << count {
            for member in (0..count).filter(|member| set & (1 << member) != 0) {
                let before = set & !(1 << member);
                let inside = self.callees[member].iter().filter(|(callee, _)| before & (1 << callee) != 0);
                let weight = least[before] + inside.map(|(_, weight)| weight).sum::<f64>();
                if weight < least[set] {
                    least[set] = weight;
                    last[set] = member;
                }
            }
        }
        let mut order = Vec::with_capacity(count);
        let mut set = (1 << count) - 1;
        while set != 0 {
            order.push(last[set]);
            set &= !(1 << last[set]);
        }
        order.reverse();
        order
    }

    /// Eades, Lin and Smyth (1993): of those left, whoever calls nobody goes to the end, whom nobody calls to the beginning; where
    /// there is neither, whoever calls most beyond being called goes to the beginning.
    fn greedy_order(&self) -> Vec<usize> {
        let count = self.callees.len();
        let weight = |arcs: &[(usize, f64)]| arcs.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut out: Vec<f64> = self.callees.iter().map(|arcs| weight(arcs)).collect();
        let mut into: Vec<f64> = self.callers.iter().map(|arcs| weight(arcs)).collect();
        let rank = |out: f64, into: f64| match (near_zero(out), near_zero(into)) {
            (true, _) => f64::NEG_INFINITY,
            (_, true) => f64::INFINITY,
            _ => out - into,
        };
        let key = |rank: f64, member: usize| (Total(rank), std::cmp::Reverse(member));
        let mut left: BTreeSet<(Total, std::cmp::Reverse<usize>)> =
            (0..count).map(|member| key(rank(out[member], into[member]), member)).collect();
        let (mut first, mut last) = (Vec::new(), Vec::new());
        while let Some(&(lowest, std::cmp::Reverse(sink))) = left.first() {
            let member = if lowest.0 == f64::NEG_INFINITY {
                last.push(sink);
                sink
            } else {
                let Some(&(_, std::cmp::Reverse(source))) = left.last() else { break };
                first.push(source);
                source
            };
            left.remove(&key(rank(out[member], into[member]), member));
            let mut lighten = |of: &mut Vec<f64>, out_side: bool, arcs: &[(usize, f64)], other: &[f64]| {
                for &(neighbour, weight) in arcs {
                    let (before, beside) = (of[neighbour], other[neighbour]);
                    let old = if out_side { rank(before, beside) } else { rank(beside, before) };
                    if left.remove(&key(old, neighbour)) {
                        of[neighbour] = before - weight;
                        let new = if out_side { rank(of[neighbour], beside) } else { rank(beside, of[neighbour]) };
                        left.insert(key(new, neighbour));
                    }
                }
            };
            lighten(&mut out, true, &self.callers[member], &into);
            lighten(&mut into, false, &self.callees[member], &out);
        }
        last.reverse();
        first.extend(last);
        first
    }
}

/// What is left of a sum of weights, each at least 1, of which all were taken away.
fn near_zero(weight: f64) -> bool {
    weight < 0.5
}

/// A number with the total order of IEEE 754.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total(f64);

impl Eq for Total {}

impl Ord for Total {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Total {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
