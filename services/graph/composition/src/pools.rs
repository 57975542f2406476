//! Self times by what they are asked under, from the finest pool to the coarsest.
//!
//! The finest is (minute, kind, part), then (minute, part), (kind, part) and the part alone. The kind of a request is the
//! set of parts that its root waits for at any depth, its own included. A pool is asked only where at least eight requests
//! left a self time in it: then none describes single requests, and its ranks mean something. A minute counts before a
//! kind: what a busy or a faulty minute does to a part is mostly more than what kinds of requests differ by. Minutes are
//! those of the clock that measured the spans.

use std::collections::{BTreeMap, BTreeSet};

use crate::NS_PER_MS;
use crate::distribution::interpolated;
use crate::trace::Trace;

/// Requests that a pool, or a choice of plans, needs before it is asked; the value that the method's back-off was measured
/// with.
pub(crate) const REQUESTS_MIN: usize = 8;
/// Pools that each self time lies in.
pub(crate) const LEVELS: usize = 4;
const MINUTE_NS: u64 = 60_000_000_000;

/// Identifies a part within one [`Pools`]; also the pool of that part alone.
pub(crate) type PartId = usize;
/// Identifies a kind of request within one [`Pools`].
pub(crate) type KindId = usize;
/// Identifies a pool within one [`Pools`].
pub(crate) type PoolId = usize;

/// When a request began and what kind it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    pub(crate) minute: u64,
    pub(crate) kind: KindId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    minute: Option<u64>,
    kind: Option<KindId>,
    part: PartId,
}

/// Self times in nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    pub(crate) sorted: Vec<f64>,
    request_count: usize,
}

impl Pool {
    pub(crate) fn is_usable(&self) -> bool {
        self.request_count >= REQUESTS_MIN
    }
}

/// All pools of one set of traces.
#[derive(Debug, Clone)]
pub(crate) struct Pools {
    /// In lexical order.
    pub(crate) parts: Vec<String>,
    pub(crate) kinds: Vec<BTreeSet<PartId>>,
    pools: Vec<Pool>,
    ids: BTreeMap<Key, PoolId>,
}

impl Pools {
    /// Gathers pools, and the cell of each trace.
    pub(crate) fn gather(traces: &[&Trace]) -> (Self, Vec<Cell>) {
        let names: BTreeSet<&str> =
            traces.iter().flat_map(|trace| trace.self_times_ns().map(|(part, _)| part)).collect();
        let parts: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let pools = vec![Pool::default(); parts.len()];
        let mut gathered = Self { parts, kinds: Vec::new(), pools, ids: BTreeMap::new() };
        let mut kinds: BTreeMap<BTreeSet<PartId>, KindId> = BTreeMap::new();
        let cells = traces.iter().map(|trace| {
            let parts: Vec<PartId> = gathered.parts_of(trace);
            let next = kinds.len();
            let kind = *kinds.entry(parts.iter().copied().collect()).or_insert(next);
            let cell = Cell { minute: trace.start_ns / MINUTE_NS, kind };
            gathered.add(trace, cell, &parts);
            cell
        });
        let cells = cells.collect();
        gathered.pools.iter_mut().for_each(|pool| pool.sorted.sort_by(f64::total_cmp));
        let mut kinds: Vec<(KindId, BTreeSet<PartId>)> = kinds.into_iter().map(|(kind, id)| (id, kind)).collect();
        kinds.sort();
        gathered.kinds = kinds.into_iter().map(|(_, kind)| kind).collect();
        (gathered, cells)
    }

    fn add(&mut self, trace: &Trace, cell: Cell, parts: &[PartId]) {
        let mut seen = BTreeSet::new();
        for (node, part) in trace.nodes.iter().zip(parts) {
            for key in keys(cell, *part) {
                let pool = self.insert(key);
                self.pools[pool].sorted.push(node.self_ns as f64);
                self.pools[pool].request_count += usize::from(seen.insert(pool));
            }
        }
    }

    fn insert(&mut self, key: Key) -> PoolId {
        if key.minute.is_none() && key.kind.is_none() {
            return key.part;
        }
        let next = self.pools.len();
        let pool = *self.ids.entry(key).or_insert(next);
        if pool == next {
            self.pools.push(Pool::default());
        }
        pool
    }

    /// Part of every span of a trace that was gathered.
    pub(crate) fn parts_of(&self, trace: &Trace) -> Vec<PartId> {
        let id = |(part, _): (&str, u64)| self.part(part).expect("the trace was gathered");
        trace.self_times_ns().map(id).collect()
    }

    pub(crate) fn part(&self, name: &str) -> Option<PartId> {
        self.parts.binary_search_by(|part| part.as_str().cmp(name)).ok()
    }

    pub(crate) fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id]
    }

    /// Self times in nanoseconds of a part whatever the request.
    pub(crate) fn of_part(&self, part: PartId) -> &[f64] {
        &self.pools[part].sorted
    }

    /// Pools of a part in a cell, finest first; one that holds nothing is left out.
    pub(crate) fn at(&self, cell: Cell, part: PartId) -> [Option<PoolId>; LEVELS] {
        keys(cell, part).map(|key| match key {
            Key { minute: None, kind: None, part } => Some(part),
            key => self.ids.get(&key).copied(),
        })
    }

    /// For a quantile the quantiles of all parts, times the calls of each part a request, in milliseconds.
    pub(crate) fn sum_of_quantiles(&self, request_count: usize, quantile: f64) -> f64 {
        let of_part = |part: PartId| self.of_part(part).len() as f64 * interpolated(self.of_part(part), quantile);
        (0..self.parts.len()).map(of_part).sum::<f64>() / request_count as f64 / NS_PER_MS
    }
}

fn keys(cell: Cell, part: PartId) -> [Key; LEVELS] {
    let (minute, kind) = (Some(cell.minute), Some(cell.kind));
    [(minute, kind), (minute, None), (None, kind), (None, None)].map(|(minute, kind)| Key { minute, kind, part })
}

/// Share of a sorted pool below a value, equal ones counted half.
pub(crate) fn middle_rank(sorted: &[f64], value: f64) -> f64 {
    rank_within(sorted, value, 0.5)
}

/// Share of a sorted pool below a value, plus a share `within` in `[0, 1]` of those that are equal to it.
pub(crate) fn rank_within(sorted: &[f64], value: f64, within: f64) -> f64 {
    let below = sorted.partition_point(|other| *other < value);
    let up_to = sorted.partition_point(|other| *other <= value);
    (below as f64 + within * (up_to - below) as f64) / sorted.len() as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Oddities, Span};

    /// A root that calls `a` so many times, each for a millisecond.
    fn trace(minute: u64, calls: u64) -> Trace {
        let start_ns = minute * MINUTE_NS;
        let span = |id: u64, parent: Option<&str>, part: &str, from: u64, to: u64| Span {
            id: id.to_string(),
            parent_id: parent.map(str::to_owned),
            part: part.into(),
            start_ns: start_ns + from * 1_000_000,
            end_ns: start_ns + to * 1_000_000,
        };
        let mut spans = vec![span(0, None, "root", 0, 100)];
        spans.extend((1..=calls).map(|call| span(call, Some("0"), "a", call, call + 1)));
        Trace::build(&spans, &mut Oddities::default()).unwrap()
    }

    #[test]
    fn pools_count_requests_rather_than_calls() {
        let traces: Vec<Trace> = (0..9).map(|at| trace(u64::from(at == 0), 20)).chain([trace(0, 0)]).collect();
        let (pools, cells) = Pools::gather(&traces.iter().collect::<Vec<_>>());
        let usable = |cell, part| pools.at(cell, part).map(|pool| pool.is_some_and(|id| pools.pool(id).is_usable()));
        let (a, root) = (pools.part("a").unwrap(), pools.part("root").unwrap());
        assert_eq!(usable(cells[0], a), [false, false, true, true], "twenty calls of one request");
        assert_eq!(usable(cells[1], a), [true; LEVELS]);
        assert_eq!(usable(cells[9], root), [false, true, false, true]);
        assert_eq!(pools.at(cells[9], a)[0], None);
        assert_eq!(pools.kinds.len(), 2);
    }
}
