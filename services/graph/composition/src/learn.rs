//! What training traces say: the plan of each trace, and pools of self times that back off where data is thin.

use std::collections::BTreeSet;

use crate::dependence::{Dependence, cut_score_of};
use crate::pools::{Cell, KindId, LEVELS, PartId, PoolId, Pools, REQUESTS_MIN, middle_rank};
use crate::trace::{Member, Trace};

/// One span of a plan.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) part: PartId,
    pub(crate) self_ns: f64,
    /// Finest first.
    pub(crate) pools: [PoolId; LEVELS],
    pub(crate) stages: Vec<Vec<Member>>,
    /// The sibling whose time covers this one's, where there is one.
    pub(crate) covered_by: Option<usize>,
}

/// The tree of one training trace.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) cell: Cell,
    pub(crate) steps: Vec<Step>,
}

/// What was learned from the traces of one root.
#[derive(Debug, Clone)]
pub struct Learned {
    /// In the order of time.
    pub(crate) plans: Vec<Plan>,
    pub(crate) pools: Pools,
    /// By kind.
    rhos: Vec<f64>,
    rho: Option<f64>,
}

impl Learned {
    /// Learns from traces in any order; nothing where there are none.
    #[must_use]
    pub fn from_traces(traces: &[Trace]) -> Option<Self> {
        let mut traces: Vec<&Trace> = traces.iter().collect();
        traces.sort();
        let (pools, cells) = Pools::gather(&traces);
        let plans: Vec<Plan> = traces.into_iter().zip(cells).map(|(trace, cell)| plan(trace, cell, &pools)).collect();
        let (rho, rhos) = rhos(&plans, &pools);
        (!plans.is_empty()).then_some(Self { plans, pools, rhos, rho })
    }

    /// Traces learned from.
    #[must_use]
    pub fn trace_count(&self) -> usize {
        self.plans.len()
    }

    /// Kinds of requests seen: sets of parts that the root waits for at any depth.
    #[must_use]
    pub fn kind_count(&self) -> usize {
        self.rhos.len()
    }

    /// How strongly self times of one trace move together, over all kinds, in `[0, 0.97]`; nothing where no trace has two
    /// parts.
    #[must_use]
    pub fn rho(&self) -> Option<f64> {
        self.rho
    }

    /// Parts that the root's latency is composed of, in lexical order.
    #[must_use]
    pub fn parts(&self) -> &[String] {
        &self.pools.parts
    }

    pub(crate) fn rho_of(&self, kind: KindId) -> f64 {
        self.rhos[kind]
    }

    /// Self times of the finest usable pool of a step.
    pub(crate) fn finest(&self, step: &Step) -> &[f64] {
        let pool = step.pools.into_iter().find(|pool| self.pools.pool(*pool).is_usable());
        &self.pools.pool(pool.unwrap_or(step.part)).sorted
    }

    pub(crate) fn has_kind(&self, parts: &BTreeSet<&str>) -> bool {
        (0..self.kind_count()).any(|kind| self.names(kind) == *parts)
    }

    /// Plans for a request that began in a minute and waits for these parts: of that kind and minute where there are at least
    /// eight, else of that kind, else of the kind that shares most parts with it. At least one.
    pub(crate) fn plans_for(&self, minute: u64, parts: &BTreeSet<&str>) -> Vec<&Plan> {
        let likeness = |kind: KindId| {
            let names = self.names(kind);
            names.intersection(parts).count() as f64 / names.union(parts).count() as f64
        };
        let kinds = (0..self.kind_count()).map(|kind| (kind, likeness(kind)));
        let nearest = kinds.max_by(|(a_kind, a), (b_kind, b)| a.total_cmp(b).then(b_kind.cmp(a_kind)));
        let of_kind = self.plans.iter().filter(|plan| nearest.is_some_and(|(kind, _)| plan.cell.kind == kind));
        let of_minute: Vec<&Plan> = of_kind.clone().filter(|plan| plan.cell.minute == minute).collect();
        if of_minute.len() >= REQUESTS_MIN { of_minute } else { of_kind.collect() }
    }

    fn names(&self, kind: KindId) -> BTreeSet<&str> {
        self.pools.kinds[kind].iter().map(|part| self.pools.parts[*part].as_str()).collect()
    }
}

fn plan(trace: &Trace, cell: Cell, pools: &Pools) -> Plan {
    let steps = trace.nodes.iter().zip(pools.parts_of(trace)).map(|(node, part)| Step {
        part,
        self_ns: node.self_ns as f64,
        pools: pools.at(cell, part).map(|pool| pool.unwrap_or(part)),
        stages: node.stages.clone(),
        covered_by: None,
    });
    let mut steps: Vec<Step> = steps.collect();
    for stage in trace.nodes.iter().flat_map(|node| &node.stages) {
        for (place, member) in stage.iter().enumerate() {
            let ends = |m: &Member| m.lag_ns + trace.nodes[m.node].duration_ns;
            let covers = |other: &&Member| other.lag_ns <= member.lag_ns && ends(other) >= ends(member);
            steps[member.node].covered_by = stage[..place].iter().find(covers).map(|other| other.node);
        }
    }
    Plan { cell, steps }
}

/// ρ over all, and for each kind; a kind without two parts that vary has that of all.
fn rhos(plans: &[Plan], pools: &Pools) -> (Option<f64>, Vec<f64>) {
    let mut all = Dependence::default();
    let mut by_kind = vec![Dependence::default(); pools.kinds.len()];
    for plan in plans {
        let score = |step: &Step| {
            let pool = step.pools.into_iter().map(|pool| pools.pool(pool)).find(|pool| pool.is_usable())?;
            Some(cut_score_of(middle_rank(&pool.sorted, step.self_ns)))
        };
        let scores: Vec<f64> = plan.steps.iter().filter_map(score).collect();
        all.add(&scores);
        by_kind[plan.cell.kind].add(&scores);
    }
    let rho = all.rho();
    (rho, by_kind.iter().map(|of| of.rho().or(rho).unwrap_or(0.0)).collect())
}
