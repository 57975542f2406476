//! The root's latency in a period of which only the parts are known: how composing is asked, and how it is scored.
//!
//! Of the period are known the self times of each part, as pools, and how many requests of which kind each minute had; not
//! which self times belong to one request, and no duration of a root. Plans, and how parts move together, are those of
//! training.

use std::collections::{BTreeMap, BTreeSet};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::distribution::{Distribution, interpolated};
use crate::learn::{Learned, Plan, Step};
use crate::pools::{Cell, LEVELS, Pool, Pools, rank_within};
use crate::predict::{Composer, Draws, Together, one_factor_ranks};
use crate::trace::Trace;
use crate::what_if::Changes;

/// Parts of a period.
#[derive(Debug, Clone)]
pub struct Period {
    requests: BTreeMap<Cell, usize>,
    pools: Pools,
}

impl Period {
    /// From traces in any order; nothing where there are none. What connects the self times of a trace is dropped.
    #[must_use]
    pub fn from_traces(traces: &[Trace]) -> Option<Self> {
        let mut traces: Vec<&Trace> = traces.iter().collect();
        traces.sort();
        let (pools, cells) = Pools::gather(&traces);
        let mut requests = BTreeMap::new();
        for cell in cells {
            *requests.entry(cell).or_default() += 1;
        }
        (!requests.is_empty()).then_some(Self { requests, pools })
    }

    /// Requests of the period.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.requests.values().sum()
    }

    /// Share of the requests, in `[0, 1]`, whose kind no training trace had; the plans of the most similar kind stand in.
    #[must_use]
    pub fn share_unseen(&self, learned: &Learned) -> f64 {
        let unseen = self.requests.iter().filter(|(cell, _)| !learned.has_kind(&self.parts_of(**cell)));
        unseen.map(|(_, count)| count).sum::<usize>() as f64 / self.request_count() as f64
    }

    /// The usual sum, in milliseconds: quantiles of all parts of the period, times the calls of each part a request.
    #[must_use]
    pub fn sum_of_quantiles(&self, quantile: f64) -> f64 {
        self.pools.sum_of_quantiles(self.request_count(), quantile)
    }

    fn parts_of(&self, cell: Cell) -> BTreeSet<&str> {
        self.pools.kinds[cell.kind].iter().map(|part| self.pools.parts[*part].as_str()).collect()
    }

    /// Pools of a cell by training part, finest first.
    fn pools_at(&self, cell: Cell, learned: &Learned) -> Vec<[Option<&Pool>; LEVELS]> {
        let of_part = |name: &String| match self.pools.part(name) {
            Some(part) => self.pools.at(cell, part).map(|pool| pool.map(|pool| self.pools.pool(pool))),
            None => [None; LEVELS],
        };
        learned.parts().iter().map(of_part).collect()
    }
}

/// Latency of the root in a period, at least `draws.count` requests composed, the same number for each of the period's.
///
/// A request has a plan of its kind, of its minute where training has enough. With [`Together::AsMeasured`] each self time
/// of the plan has a rank in its training pool, drawn within the step that it stands for, and is read at that rank in
/// the period's pool of the same level, the finest that is usable on both sides: the empirical copula of the plan's minute
/// and kind, interpolated like a checkerboard. A part that the period does not have keeps its training value.
#[must_use]
pub fn predict_in(learned: &Learned, period: &Period, together: Together, draws: Draws) -> Distribution {
    let mut random = ChaCha8Rng::seed_from_u64(draws.seed);
    let unchanged = Changes::default();
    let mut composer = Composer::new(learned, &unchanged);
    let each = draws.count.div_ceil(period.request_count()).max(1);
    let mut latencies_ms = Vec::with_capacity(each * period.request_count());
    for (cell, count) in &period.requests {
        let plans = learned.plans_for(cell.minute, &period.parts_of(*cell));
        let measured = period.pools_at(*cell, learned);
        let count = count * each;
        for request in 0..count {
            let plan = plans[request * plans.len() / count];
            let self_times = self_times(learned, plan, &measured, together, &mut random);
            latencies_ms.push(composer.compose(plan, |place| self_times[place]));
        }
    }
    Distribution::measured(latencies_ms)
}

/// Self times of one request in nanoseconds, by place.
fn self_times(
    learned: &Learned,
    plan: &Plan,
    measured: &[[Option<&Pool>; LEVELS]],
    together: Together,
    random: &mut ChaCha8Rng,
) -> Vec<f64> {
    let ranks = match together {
        Together::AsMeasured | Together::Independent => plan.steps.iter().map(|_| random.random()).collect(),
        Together::OneFactor => one_factor_ranks(plan, learned.rho_of(plan.cell.kind), random),
    };
    let read = |(step, rank): (&Step, f64)| {
        let measured = &measured[step.part];
        let trained = step.pools.map(|pool| learned.pools.pool(pool));
        let usable = (0..LEVELS).find_map(|level| {
            measured[level].filter(|pool| pool.is_usable() && trained[level].is_usable()).zip(Some(level))
        });
        let coarsest = LEVELS - 1;
        let Some((pool, level)) = usable.or(measured[coarsest].zip(Some(coarsest))) else { return step.self_ns };
        let rank = match together {
            Together::AsMeasured => rank_within(&trained[level].sorted, step.self_ns, rank),
            Together::OneFactor | Together::Independent => rank,
        };
        interpolated(&pool.sorted, rank)
    };
    plan.steps.iter().zip(ranks).map(read).collect()
}
