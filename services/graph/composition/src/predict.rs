//! The latency of the root from what was learned, by one of several assumptions about how parts move together.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::NS_PER_MS;
use crate::dependence::{rank_of, score_of};
use crate::distribution::{Distribution, interpolated};
use crate::learn::{Learned, Plan};
use crate::what_if::{Change, Changes};

/// How the self times of one request are taken to move together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// As they did in a training trace: the empirical copula of all its parts.
    AsMeasured,
    /// By one Gaussian factor a request, with ρ of the request's kind, within pools that back off; parts that a sibling
    /// covers share its rank.
    OneFactor,
    /// Not at all.
    Independent,
}

/// How many requests are drawn where something is drawn, and the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draws {
    /// Requests; 0 counts as 1.
    pub count: usize,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Draws {
    fn default() -> Self {
        Self { count: 20_000, seed: 7 }
    }
}

/// Latency of the root, with parts changed as `changes` say, for requests mixed as they were in training.
///
/// With [`Together::AsMeasured`] every trace is composed once and nothing is drawn; without a change this is, by construction,
/// the distribution of recomposed training traces. What composing adds is that it stays valid when a part changes: the ranks
/// stay, the changed part's latencies are read at them, and stages decide anew who is waited for. With
/// [`Together::Independent`] each self time is drawn from all of its part.
#[must_use]
pub fn predict(learned: &Learned, together: Together, changes: &Changes, draws: Draws) -> Distribution {
    let mut composer = Composer::new(learned, changes);
    let latencies_ms = match together {
        Together::AsMeasured => {
            learned.plans.iter().map(|plan| composer.compose(plan, |place| plan.steps[place].self_ns)).collect()
        }
        Together::OneFactor => draw(learned, draws, |plan, random| {
            let ranks = one_factor_ranks(plan, learned.rho_of(plan.cell.kind), random);
            composer.compose(plan, |place| interpolated(learned.finest(&plan.steps[place]), ranks[place]))
        }),
        Together::Independent => draw(learned, draws, |plan, random| {
            let pool = |place: usize| learned.pools.of_part(plan.steps[place].part);
            composer.compose(plan, |place| interpolated(pool(place), random.random()))
        }),
    };
    Distribution::measured(latencies_ms)
}

/// The usual sum: for each quantile the quantiles of all parts, times the calls of each part a request, in milliseconds.
/// It knows neither stages nor that parts are rarely slow at once.
#[must_use]
pub fn sum_of_quantiles(learned: &Learned, quantile: f64) -> f64 {
    learned.pools.sum_of_quantiles(learned.trace_count(), quantile)
}

fn draw(learned: &Learned, draws: Draws, mut one: impl FnMut(&Plan, &mut ChaCha8Rng) -> f64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(draws.seed);
    (0..draws.count.max(1))
        .map(|_| {
            let plan = &learned.plans[random.random_range(0..learned.plans.len())];
            one(plan, &mut random)
        })
        .collect()
}

/// `u = Φ(√ρ c + √(1 − ρ) ε)` for every step, `c` one a request.
pub(crate) fn one_factor_ranks(plan: &Plan, rho: f64, random: &mut ChaCha8Rng) -> Vec<f64> {
    let mut normal = || score_of(random.random());
    let common = rho.sqrt() * normal();
    let own = (1.0 - rho).sqrt();
    let mut ranks: Vec<f64> = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let rank = match step.covered_by {
            Some(sibling) => ranks[sibling],
            None => rank_of(common + own * normal()),
        };
        ranks.push(rank);
    }
    ranks
}

/// Composes plans over one buffer.
pub(crate) struct Composer<'a> {
    learned: &'a Learned,
    changes: Vec<Option<&'a Change>>,
    totals: Vec<f64>,
}

impl<'a> Composer<'a> {
    pub(crate) fn new(learned: &'a Learned, changes: &'a Changes) -> Self {
        Self { learned, changes: changes.by_part(learned), totals: Vec::new() }
    }

    /// Milliseconds of the root of a plan whose self times, in nanoseconds, are given by place.
    pub(crate) fn compose(&mut self, plan: &Plan, mut self_ns: impl FnMut(usize) -> f64) -> f64 {
        self.totals.clear();
        for (place, step) in plan.steps.iter().enumerate() {
            let self_ns = self_ns(place);
            let changed =
                self.changes[step.part].map(|change| change.apply(self_ns, self.learned.pools.of_part(step.part)));
            self.totals.push(changed.unwrap_or(self_ns));
        }
        for (place, step) in plan.steps.iter().enumerate().rev() {
            for stage in &step.stages {
                let ends = stage.iter().map(|member| member.lag_ns as f64 + self.totals[member.node]);
                self.totals[place] += ends.fold(0.0, f64::max);
            }
        }
        self.totals[0] / NS_PER_MS
    }
}
