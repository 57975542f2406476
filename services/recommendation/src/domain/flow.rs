//! Which way failures reach a service: the share of them that comes by each edge of its closure, and, bucket by bucket, the
//! share of a component's failures that comes by one edge further down.
//!
//! What a service inherits by a direct dependency contains what that dependency itself inherits, so shares multiply along a
//! walk and add up over walks. Edges that close a cycle are left out: a failure is charged to where it entered the cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::{FailureSplit, ShareSeries, SplitMethod};
use attain_vocabulary::{DependencyMode, EntityId, UnixMillis};

use super::counted::{Counted, Row};
use super::recorded::Recorded;

/// A dependency as far as failures are concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Edge {
    /// Who calls.
    pub caller: EntityId,
    /// Who is called.
    pub callee: EntityId,
    /// What a failure of the callee does to the caller.
    pub mode: DependencyMode,
    /// Share of the caller's requests that make the call; `None` where not known.
    pub call_fraction: Option<f64>,
    /// Share of failed calls that a fallback saves; `None` where not known.
    pub fallback_success_ratio: Option<f64>,
}

/// What is known of a component.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Component {
    /// Its buckets; empty without measurements.
    pub recorded: Arc<Recorded>,
    /// Own and inherited failure; `None` without measurements.
    pub split: Option<FailureSplit>,
    /// Availability that a contract promises.
    pub published_ratio: Option<f64>,
}

/// Failure of a service that comes by one edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeFlow {
    /// Position of the edge.
    pub edge: usize,
    /// Share of the service's requests that fail by it.
    pub failure_ratio: f64,
    /// The direct dependencies by which that arrives, the one that brings most first; none for an edge of the service itself.
    pub through: Vec<EntityId>,
}

/// The closure of one service, ready to be walked.
#[derive(Debug)]
pub struct Flows<'a> {
    service: &'a EntityId,
    components: &'a BTreeMap<EntityId, Component>,
    edges: &'a [Edge],
    /// Outgoing edges on the request path that close no cycle, by caller.
    out: BTreeMap<&'a EntityId, Vec<usize>>,
    /// Callees before callers.
    order: Vec<&'a EntityId>,
    failure: BTreeMap<&'a EntityId, f64>,
}

impl<'a> Flows<'a> {
    /// Walks the edges on the request path from the service.
    #[must_use]
    pub fn new(service: &'a EntityId, components: &'a BTreeMap<EntityId, Component>, edges: &'a [Edge]) -> Self {
        let (order, out) = acyclic(service, edges);
        let mut flows = Self { service, components, edges, out, order, failure: BTreeMap::new() };
        for id in flows.order.clone() {
            let ratio = flows.estimated_failure(id);
            flows.failure.insert(id, ratio);
        }
        flows
    }

    /// Every edge by which failures arrive, the most first.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeFlow> {
        // What arrives at the service by way of a component, in all and by direct dependency.
        let mut arriving: BTreeMap<&EntityId, BTreeMap<Option<&EntityId>, f64>> = BTreeMap::new();
        arriving.insert(self.service, BTreeMap::from([(None, self.failure_of(self.service))]));
        let mut flows = Vec::new();
        for caller in self.order.iter().rev() {
            let Some(through) = arriving.get(caller).cloned() else { continue };
            for &edge in self.out.get(caller).into_iter().flatten() {
                let callee = &self.edges[edge].callee;
                let share = self.share_of_edge(edge);
                for (direct, amount) in &through {
                    let by = if *caller == self.service { Some(callee) } else { *direct };
                    *arriving.entry(callee).or_default().entry(by).or_default() += amount * share;
                }
                let failure_ratio = through.values().sum::<f64>() * share;
                let mut by: Vec<(&EntityId, f64)> =
                    through.iter().filter_map(|(direct, amount)| Some(((*direct)?, *amount))).collect();
                by.retain(|(_, amount)| *amount > 0.0);
                // Of those that bring as much the last by name.
                by.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| b.0.cmp(a.0)));
                flows.push(EdgeFlow {
                    edge,
                    failure_ratio,
                    through: by.into_iter().map(|(id, _)| id.clone()).collect(),
                });
            }
        }
        flows.retain(|flow| flow.failure_ratio > 0.0);
        flows.sort_by(|a, b| {
            let name = |flow: &EdgeFlow| (&self.edges[flow.edge].caller, &self.edges[flow.edge].callee);
            b.failure_ratio.total_cmp(&a.failure_ratio).then_with(|| name(a).cmp(&name(b)))
        });
        flows
    }

    /// Share of the failures of `of` that come by `edge`, bucket by bucket.
    #[must_use]
    pub fn share_series(&self, of: &EntityId, edge: usize) -> ShareSeries {
        let mut memo: BTreeMap<&EntityId, ShareSeries> = BTreeMap::new();
        let concerned = self.callers_of(&self.edges[edge].caller);
        for id in self.order.iter().filter(|id| concerned.contains(**id)) {
            let series = self.share_at(id, edge, &memo);
            memo.insert(id, series);
        }
        memo.remove(of).unwrap_or(ShareSeries { otherwise: 0.0, by_bucket: BTreeMap::new() })
    }

    fn share_at(&self, id: &EntityId, edge: usize, below: &BTreeMap<&EntityId, ShareSeries>) -> ShareSeries {
        let out = self.out.get(id).map(Vec::as_slice).unwrap_or_default();
        let combine = |at: Option<UnixMillis>, share: &dyn Fn(usize) -> f64| -> f64 {
            let parts = out.iter().map(|&candidate| {
                if candidate == edge {
                    return share(candidate);
                }
                let Some(series) = below.get(&self.edges[candidate].callee) else { return 0.0 };
                share(candidate) * at.and_then(|at| series.by_bucket.get(&at)).copied().unwrap_or(series.otherwise)
            });
            parts.sum::<f64>().clamp(0.0, 1.0)
        };
        let otherwise = combine(None, &|candidate| self.share_of_edge(candidate));
        let mut by_bucket = BTreeMap::new();
        if let Some(counted) = self.components.get(id).map(|component| component.recorded.counted()) {
            counted.each(|row| {
                if row.counts.bad() == 0 {
                    return;
                }
                let share = combine(Some(row.start_ms), &|candidate| self.share_in_bucket(candidate, counted, row));
                if share != otherwise {
                    by_bucket.insert(row.start_ms, share);
                }
            });
        }
        ShareSeries { otherwise, by_bucket }
    }

    /// Components from which `target` can be reached, itself included.
    fn callers_of(&self, target: &EntityId) -> BTreeSet<&'a EntityId> {
        let mut reached: BTreeSet<&EntityId> = BTreeSet::new();
        // Callees come before callers, so one pass is enough.
        for id in &self.order {
            let calls = self.out.get(id).into_iter().flatten().any(|&edge| reached.contains(&self.edges[edge].callee));
            if *id == target || calls {
                reached.insert(id);
            }
        }
        reached
    }

    /// Share of the caller's failures that come by the edge, over the whole history.
    fn share_of_edge(&self, edge: usize) -> f64 {
        let Edge { caller, callee, .. } = &self.edges[edge];
        match self.components.get(caller).and_then(|component| component.split.as_ref()) {
            Some(split) => {
                let total = split.own_failure_ratio + split.inherited_failure_ratio;
                let inherited = split.inherited.iter().find(|share| share.dependency == *callee);
                let inherited = inherited.map_or_else(|| self.promised(edge, split), |share| share.failure_ratio);
                if total > 0.0 { (inherited / total).min(1.0) } else { 0.0 }
            }
            None => {
                let total = self.failure_of(caller);
                if total > 0.0 { (self.expected(edge) / total).min(1.0) } else { 0.0 }
            }
        }
    }

    /// The same in one bucket of the caller: by its traces, else by what the regression says and the callee did then.
    fn share_in_bucket(&self, edge: usize, counted: &Counted, row: Row) -> f64 {
        let Edge { caller, callee, .. } = &self.edges[edge];
        let bad = row.counts.bad() as f64;
        if row.counts.inherited_bad().is_some() {
            return counted.charged(row.place, callee).map_or(0.0, |failed| failed as f64 / bad);
        }
        let split = self.components.get(caller).and_then(|component| component.split.as_ref());
        let hardness = split
            .filter(|split| split.method == SplitMethod::Regression)
            .and_then(|split| split.inherited.iter().find(|share| share.dependency == *callee))
            .and_then(|share| share.hardness);
        match (hardness, self.failure_in_bucket(callee, row.start_ms)) {
            (Some(hardness), Some(failure)) => {
                let ratio = bad / row.counts.valid() as f64;
                (hardness * failure / ratio).min(1.0)
            }
            _ => self.share_of_edge(edge),
        }
    }

    fn failure_in_bucket(&self, id: &EntityId, start_ms: UnixMillis) -> Option<f64> {
        let counts = self.components.get(id)?.recorded.counted().at(start_ms)?;
        (counts.valid() > 0).then(|| counts.bad() as f64 / counts.valid() as f64)
    }

    /// What an unmeasured callee's contract lets through, where the caller's own data does not tell its failures apart from
    /// the caller's own.
    fn promised(&self, edge: usize, split: &FailureSplit) -> f64 {
        let measured = self.components.get(&self.edges[edge].callee).is_some_and(|component| component.split.is_some());
        if measured || split.method == SplitMethod::Traces { 0.0 } else { self.expected(edge) }
    }

    /// Failure that the edge is expected to pass on.
    fn expected(&self, edge: usize) -> f64 {
        let Edge { callee, call_fraction, fallback_success_ratio, mode, .. } = &self.edges[edge];
        let saved = if *mode == DependencyMode::Soft { fallback_success_ratio.unwrap_or(0.0) } else { 0.0 };
        self.failure_of(callee) * call_fraction.unwrap_or(1.0) * (1.0 - saved)
    }

    /// Measured failure; what its dependencies pass on or its contract allows where nothing was measured.
    fn estimated_failure(&self, id: &EntityId) -> f64 {
        let component = self.components.get(id);
        if let Some(split) = component.and_then(|component| component.split.as_ref()) {
            return split.own_failure_ratio + split.inherited_failure_ratio;
        }
        if let Some(published) = component.and_then(|component| component.published_ratio) {
            return (1.0 - published).clamp(0.0, 1.0);
        }
        let passed: f64 = self.out.get(id).into_iter().flatten().map(|&edge| self.expected(edge)).sum();
        passed.min(1.0)
    }

    fn failure_of(&self, id: &EntityId) -> f64 {
        self.failure.get(id).copied().unwrap_or(0.0)
    }
}

/// Components in an order with callees before callers, and the edges on the request path that close no cycle.
fn acyclic<'a>(service: &'a EntityId, edges: &'a [Edge]) -> (Vec<&'a EntityId>, BTreeMap<&'a EntityId, Vec<usize>>) {
    let mut all: BTreeMap<&EntityId, Vec<usize>> = BTreeMap::new();
    for (at, edge) in edges.iter().enumerate().filter(|(_, edge)| edge.mode != DependencyMode::Async) {
        all.entry(&edge.caller).or_default().push(at);
    }
    let mut order = Vec::new();
    let mut kept: BTreeMap<&EntityId, Vec<usize>> = BTreeMap::new();
    let mut open: BTreeSet<&EntityId> = BTreeSet::from([service]);
    let mut seen: BTreeSet<&EntityId> = BTreeSet::from([service]);
    // Depth first without recursion: closures can be thousands of calls deep.
    let mut stack: Vec<(&EntityId, usize)> = vec![(service, 0)];
    while let Some((id, next)) = stack.pop() {
        let Some(&edge) = all.get(id).and_then(|out| out.get(next)) else {
            open.remove(id);
            order.push(id);
            continue;
        };
        stack.push((id, next + 1));
        let callee = &edges[edge].callee;
        if open.contains(callee) {
            continue;
        }
        kept.entry(id).or_default().push(edge);
        if seen.insert(callee) {
            open.insert(callee);
            stack.push((callee, 0));
        }
    }
    (order, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_attainment::InheritedShare;
    use attain_vocabulary::{BUCKET_MS, BucketCounts, SliBucket};
    use proptest::prelude::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn edge(caller: &str, callee: &str) -> Edge {
        Edge {
            caller: id(caller),
            callee: id(callee),
            mode: DependencyMode::Hard,
            call_fraction: None,
            fallback_success_ratio: None,
        }
    }

    fn split(own: f64, inherited: &[(&str, f64)]) -> FailureSplit {
        let share = |(dependency, failure_ratio): &(&str, f64)| InheritedShare {
            dependency: id(dependency),
            failure_ratio: *failure_ratio,
            hardness: None,
            hardness_standard_error: 0.0,
        };
        FailureSplit {
            own_failure_ratio: own,
            inherited_failure_ratio: inherited.iter().map(|(_, ratio)| ratio).sum(),
            unattributed_ratio: 0.0,
            method: SplitMethod::Traces,
            inherited: inherited.iter().map(share).collect(),
        }
    }

    fn measured(own: f64, inherited: &[(&str, f64)]) -> Component {
        Component { split: Some(split(own, inherited)), ..Component::default() }
    }

    fn traced(start: i64, bad: u64, inherited: &[(&str, u64)]) -> SliBucket {
        let sum = inherited.iter().map(|(_, failed)| failed).sum();
        let counts = BucketCounts::new(1000, bad, Some(sum)).expect("valid");
        let shares = inherited.iter().map(|(name, failed)| (id(name), *failed)).collect();
        SliBucket::new(start * BUCKET_MS, counts, shares, None).expect("valid")
    }

    /// checkout inherits 0.4 % by payment, of which half is the provider's; payment fails 0.4 %.
    fn example() -> (BTreeMap<EntityId, Component>, Vec<Edge>) {
        let components = BTreeMap::from([
            (id("checkout"), measured(0.001, &[("payment", 0.004)])),
            (
                id("payment"),
                Component {
                    recorded: Arc::new(Recorded::from(vec![
                        traced(0, 8, &[("provider", 8)]),
                        traced(1, 4, &[]),
                        traced(2, 0, &[]),
                    ])),
                    split: Some(split(0.002, &[("provider", 0.002)])),
                    published_ratio: None,
                },
            ),
        ]);
        (components, vec![edge("checkout", "payment"), edge("payment", "provider")])
    }

    #[test]
    fn inheritance_is_carried_along_the_walk() {
        let (components, edges) = example();
        let checkout = id("checkout");
        let flows = Flows::new(&checkout, &components, &edges).edges();
        assert_eq!(flows.len(), 2);
        assert_eq!((flows[0].edge, flows[0].through.clone()), (0, Vec::new()));
        assert!((flows[0].failure_ratio - 0.004).abs() < 1e-12);
        assert_eq!((flows[1].edge, flows[1].through.clone()), (1, vec![id("payment")]));
        assert!((flows[1].failure_ratio - 0.002).abs() < 1e-12);
    }

    #[test]
    fn the_share_of_a_deeper_edge_differs_from_bucket_to_bucket() {
        let (components, edges) = example();
        let checkout = id("checkout");
        let series = Flows::new(&checkout, &components, &edges).share_series(&id("payment"), 1);
        assert_eq!(series.otherwise, 0.5);
        assert_eq!(series.by_bucket, BTreeMap::from([(0, 1.0), (BUCKET_MS, 0.0)]));
    }

    #[test]
    fn an_unmeasured_middle_passes_on_what_its_parts_promise() {
        let provider = Component { published_ratio: Some(0.99), ..Component::default() };
        let components = BTreeMap::from([(id("a"), measured(0.0, &[("b", 0.01)])), (id("provider"), provider)]);
        let edges = vec![edge("a", "b"), edge("b", "provider")];
        let a = id("a");
        let flows = Flows::new(&a, &components, &edges).edges();
        assert_eq!(flows.len(), 2);
        assert!(flows.iter().all(|flow| (flow.failure_ratio - 0.01).abs() < 1e-12), "{flows:?}");
    }

    #[test]
    fn several_walks_add_up_and_cycles_end() {
        let components = BTreeMap::from([
            (id("a"), measured(0.0, &[("b", 0.01), ("c", 0.02)])),
            (id("b"), measured(0.0, &[("d", 0.01)])),
            (id("c"), measured(0.01, &[("d", 0.01)])),
            (id("d"), measured(0.01, &[("a", 0.0)])),
        ]);
        let edges = vec![edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"), edge("d", "a")];
        let a = id("a");
        let flows = Flows::new(&a, &components, &edges);
        let by_edge: BTreeMap<usize, f64> =
            flows.edges().into_iter().map(|flow| (flow.edge, flow.failure_ratio)).collect();
        assert!((by_edge[&2] - 0.01).abs() < 1e-12 && (by_edge[&3] - 0.01).abs() < 1e-12, "{by_edge:?}");
        assert_eq!(flows.share_series(&id("c"), 3).otherwise, 0.5);
        assert!(!by_edge.contains_key(&4));
    }

    #[test]
    fn async_edges_carry_nothing() {
        let components = BTreeMap::from([(id("a"), measured(0.0, &[("b", 0.01)]))]);
        let edges = vec![Edge { mode: DependencyMode::Async, ..edge("a", "b") }];
        let a = id("a");
        assert_eq!(Flows::new(&a, &components, &edges).edges(), []);
    }

    proptest! {
        /// Layers of three components, each calling some of the next layer: what arrives is never more than what fails.
        #[test]
        fn no_edge_brings_more_than_fails(seeds in proptest::collection::vec((0.0f64..0.01, 0.0f64..0.01, 0u8..8), 9)) {
            let name = |at: usize| id(&format!("c{at}"));
            let mut edges = vec![edge("root", "c0"), edge("root", "c1"), edge("root", "c2")];
            let mut components = BTreeMap::from([(id("root"), measured(0.001, &[("c0", 0.002), ("c1", 0.001), ("c2", 0.0005)]))]);
            for (at, (own, inherited, calls)) in seeds.iter().enumerate() {
                let below: Vec<usize> = (0..3).filter(|bit| at < 6 && calls & (1 << bit) != 0).map(|bit| (at / 3 + 1) * 3 + bit).collect();
                let names: Vec<String> = below.iter().map(|callee| format!("c{callee}")).collect();
                let shares: Vec<(&str, f64)> = names.iter().map(|callee| (callee.as_str(), inherited / names.len() as f64)).collect();
                components.insert(name(at), measured(*own, &shares));
                edges.extend(names.iter().map(|callee| edge(&format!("c{at}"), callee)));
            }
            let root = id("root");
            let flows = Flows::new(&root, &components, &edges);
            let all = flows.edges();
            let direct: f64 = all.iter().filter(|flow| flow.through.is_empty()).map(|flow| flow.failure_ratio).sum();
            prop_assert!((direct - 0.0035).abs() < 1e-12);
            for layer in 1..3usize {
                let into = |flow: &&EdgeFlow| edges[flow.edge].callee.as_str()[1..].parse::<usize>().is_ok_and(|at| at / 3 == layer);
                let arriving: f64 = all.iter().filter(into).map(|flow| flow.failure_ratio).sum();
                prop_assert!(arriving <= direct + 1e-12);
            }
            for flow in &all {
                for through in &flow.through {
                    let share = flows.share_series(through, flow.edge).otherwise;
                    prop_assert!((0.0..=1.0).contains(&share));
                }
            }
        }
    }
}
