//! What training traces say: the plan of each trace, and pools of self times by part that back off where data is thin.
//!
//! A pool is (minute, signature, part) where it holds at least eight self times, else (signature, part), else the part.
//! The signature of a trace is the set of its root's part and the parts that the root waits for directly: what kind of
//! request it was. Minutes are those of the clock that measured the spans.

use std::collections::{BTreeMap, BTreeSet};

use crate::dependence::{Dependence, cut_score_of};
use crate::trace::{Member, Trace};

/// Self times that a pool needs before it is asked; the measured value of the back-off.
const POOL_MIN: usize = 8;
const MINUTE_NS: u64 = 60_000_000_000;

/// Identifies a part within one [`Learned`].
pub(crate) type PartId = usize;
/// Identifies a pool within one [`Learned`].
pub(crate) type PoolId = usize;

/// One span of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) part: PartId,
    pub(crate) self_ns: f64,
    /// The finest pool that holds enough.
    pub(crate) pool: PoolId,
    pub(crate) stages: Vec<Vec<Member>>,
    /// The sibling whose time covers this one's, where there is one.
    pub(crate) covered_by: Option<usize>,
}

/// The tree of one training trace.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) signature: usize,
    pub(crate) steps: Vec<Step>,
}

/// What was learned from the traces of one root.
#[derive(Debug, Clone)]
pub struct Learned {
    pub(crate) parts: Vec<String>,
    pub(crate) plans: Vec<Plan>,
    /// Sorted self times in nanoseconds; the first are those of the parts, by their id.
    pub(crate) pools: Vec<Vec<f64>>,
    /// By signature.
    rhos: Vec<f64>,
    rho: Option<f64>,
}

impl Learned {
    /// Learns from traces in any order; nothing where there are none.
    #[must_use]
    pub fn from_traces(traces: &[Trace]) -> Option<Self> {
        let mut traces: Vec<&Trace> = traces.iter().collect();
        traces.sort();
        let names: BTreeSet<&str> =
            traces.iter().flat_map(|trace| trace.self_times_ns().map(|(part, _)| part)).collect();
        let ids: BTreeMap<&str, PartId> = names.iter().enumerate().map(|(id, name)| (*name, id)).collect();
        let mut signatures: BTreeMap<BTreeSet<PartId>, usize> = BTreeMap::new();
        let keyed: Vec<(usize, u64, &Trace)> = traces
            .iter()
            .map(|trace| {
                let count = signatures.len();
                let signature = *signatures.entry(signature(trace, &ids)).or_insert(count);
                (signature, trace.start_ns / MINUTE_NS, *trace)
            })
            .collect();
        let pools = Pools::gather(&keyed, &ids);
        let plans: Vec<Plan> = keyed.iter().map(|keyed| pools.plan(keyed, &ids)).collect();
        let (rho, rhos) = pools.rhos(&plans, signatures.len());
        let parts = names.into_iter().map(str::to_owned).collect();
        (!plans.is_empty()).then_some(Self { parts, plans, pools: pools.sorted, rhos, rho })
    }

    /// Traces learned from.
    #[must_use]
    pub fn trace_count(&self) -> usize {
        self.plans.len()
    }

    /// Kinds of requests seen.
    #[must_use]
    pub fn signature_count(&self) -> usize {
        self.rhos.len()
    }

    /// How strongly self times of one trace move together, over all signatures, in `[0, 0.97]`; nothing where no trace
    /// has two parts.
    #[must_use]
    pub fn rho(&self) -> Option<f64> {
        self.rho
    }

    /// Parts that the root's latency is composed of, in lexical order.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.parts
    }

    pub(crate) fn rho_of(&self, signature: usize) -> f64 {
        self.rhos[signature]
    }
}

fn signature(trace: &Trace, ids: &BTreeMap<&str, PartId>) -> BTreeSet<PartId> {
    let root = &trace.nodes[0];
    let direct = root.stages.iter().flatten().map(|member| ids[trace.nodes[member.node].part.as_str()]);
    direct.chain([ids[root.part.as_str()]]).collect()
}

/// Self times by every key that a plan may back off to.
struct Pools {
    sorted: Vec<Vec<f64>>,
    by_signature: BTreeMap<(usize, PartId), PoolId>,
    by_minute: BTreeMap<(u64, usize, PartId), PoolId>,
}

impl Pools {
    fn gather(traces: &[(usize, u64, &Trace)], ids: &BTreeMap<&str, PartId>) -> Self {
        let mut pools =
            Self { sorted: vec![Vec::new(); ids.len()], by_signature: BTreeMap::new(), by_minute: BTreeMap::new() };
        for (signature, minute, trace) in traces {
            for node in &trace.nodes {
                let part = ids[node.part.as_str()];
                let mut next = pools.sorted.len();
                let of_signature = *pools.by_signature.entry((*signature, part)).or_insert(next);
                next += usize::from(of_signature == next);
                let of_minute = *pools.by_minute.entry((*minute, *signature, part)).or_insert(next);
                pools.sorted.resize(pools.sorted.len().max(of_signature.max(of_minute) + 1), Vec::new());
                for pool in [part, of_signature, of_minute] {
                    pools.sorted[pool].push(node.self_ns as f64);
                }
            }
        }
        pools.sorted.iter_mut().for_each(|pool| pool.sort_by(f64::total_cmp));
        pools
    }

    fn plan(&self, (signature, minute, trace): &(usize, u64, &Trace), ids: &BTreeMap<&str, PartId>) -> Plan {
        let mut steps: Vec<Step> = Vec::with_capacity(trace.nodes.len());
        for node in &trace.nodes {
            let part = ids[node.part.as_str()];
            let candidates = [self.by_minute[&(*minute, *signature, part)], self.by_signature[&(*signature, part)]];
            let pool = candidates.into_iter().find(|pool| self.sorted[*pool].len() >= POOL_MIN).unwrap_or(part);
            let self_ns = node.self_ns as f64;
            steps.push(Step { part, self_ns, pool, stages: node.stages.clone(), covered_by: None });
        }
        for stage in trace.nodes.iter().flat_map(|node| &node.stages) {
            for (place, member) in stage.iter().enumerate() {
                let ends = |m: &Member| m.lag_ns + trace.nodes[m.node].duration_ns;
                let covers =
                    |(_, other): &(usize, &Member)| other.lag_ns <= member.lag_ns && ends(other) >= ends(member);
                steps[member.node].covered_by =
                    stage.iter().enumerate().take(place).find(covers).map(|(_, other)| other.node);
            }
        }
        Plan { signature: *signature, steps }
    }

    /// ρ over all, and for each signature; a signature without two parts that vary has that of all.
    fn rhos(&self, plans: &[Plan], signature_count: usize) -> (Option<f64>, Vec<f64>) {
        let mut all = Dependence::default();
        let mut by_signature = vec![Dependence::default(); signature_count];
        for plan in plans {
            let scores: Vec<f64> = plan
                .steps
                .iter()
                .filter(|step| self.sorted[step.pool].len() >= POOL_MIN)
                .map(|step| cut_score_of(middle_rank(&self.sorted[step.pool], step.self_ns)))
                .collect();
            all.add(&scores);
            by_signature[plan.signature].add(&scores);
        }
        let rho = all.rho();
        (rho, by_signature.iter().map(|of| of.rho().or(rho).unwrap_or(0.0)).collect())
    }
}

/// Share of a sorted pool below a value, equal ones counted half.
pub(crate) fn middle_rank(sorted: &[f64], value: f64) -> f64 {
    let below = sorted.partition_point(|other| *other < value);
    let up_to = sorted.partition_point(|other| *other <= value);
    (below + up_to) as f64 / 2.0 / sorted.len() as f64
}
