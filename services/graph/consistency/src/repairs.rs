//! Single changes that would settle contradictions, each solved again and ranked by what everything then costs.

use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, Objective};

use crate::Fleet;
use crate::contradictions::Found;
use crate::demands::Demands;
use crate::solve::{Limits, Problem, Weights, solve};

/// Share of a failed callee's requests that a new fallback is taken to save.
const FALLBACK_SAVES: f64 = 0.9;
/// Share of failures that two instances have in common: the usual β of a common cause.
const COMMON_CAUSE: f64 = 0.1;
/// A promise is tightened by no more than this factor at once.
const TIGHTENED_MAX: f64 = 100.0;

/// One change to a fleet.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The service promises more, and keeps that.
    StricterPromise {
        /// Whose promise.
        service: EntityId,
        /// Its new error budget.
        budget: f64,
    },
    /// The service promises less.
    LooserTarget {
        /// Whose target.
        service: EntityId,
        /// Its new error budget.
        budget: f64,
    },
    /// The caller gets a fallback for nine in ten failures of the callee.
    Fallback {
        /// Who gets it.
        caller: EntityId,
        /// Whose failures it answers for.
        callee: EntityId,
        /// Impact with the fallback.
        impact: f64,
    },
    /// A second instance takes over, except for a tenth of failures that both have in common; the promise follows.
    SecondInstance {
        /// Of what.
        service: EntityId,
        /// Own failures with both.
        own_floor: f64,
        /// The error budget that it can then promise.
        budget: f64,
    },
}

/// A change, and the fleet after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Repair {
    /// What to change.
    pub change: Change,
    /// The change itself and all movement that is still needed, in units of [`Weights`].
    pub cost: f64,
    /// Contradictions that are left when nothing else is changed.
    pub contradictions_left: usize,
    /// Targets that still have to move after the change.
    pub moved_count: usize,
}

/// Repairs, cheapest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Repairs {
    /// Those that were solved again and leave fewer contradictions than there were.
    pub ranked: Vec<Repair>,
    /// Changes that were solved again.
    pub considered_count: usize,
    /// Changes that the contradictions suggest; more than were considered where the bound cut them off.
    pub suggested_count: usize,
}

struct Candidate {
    change: Change,
    fleet: Fleet,
    cost: f64,
    key: (u8, usize, usize),
}

impl Problem<'_> {
    /// Up to `candidates_max` single changes, taken from the contradictions that are broken widest, each solved again until
    /// `enough` says to stop. A change that cannot be solved is left out.
    #[must_use]
    pub fn repairs(&self, candidates_max: usize, enough: &dyn Fn() -> bool) -> Repairs {
        let mut broken: Vec<&Found> = self.broken.iter().collect();
        let width = |found: &Found| found.needed / self.start[found.service];
        broken.sort_by(|a, b| width(b).total_cmp(&width(a)).then(a.service.cmp(&b.service)));
        let mut seen = BTreeSet::new();
        let mut candidates: Vec<Candidate> = Vec::new();
        for found in broken {
            let suggested = suggestions(&self.demands, &self.start, found, &self.weights);
            candidates.extend(suggested.into_iter().filter(|candidate| seen.insert(candidate.key)));
        }
        let suggested_count = candidates.len();
        candidates.truncate(candidates_max);
        let solved: Vec<Option<Repair>> = candidates
            .into_iter()
            .take_while(|_| !enough())
            .map(|candidate| solved_again(candidate, &self.weights, &self.limits))
            .collect();
        let considered_count = solved.len();
        let mut ranked: Vec<Repair> = solved.into_iter().flatten().collect();
        ranked.retain(|repair| repair.contradictions_left < self.broken.len());
        ranked.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.contradictions_left.cmp(&b.contradictions_left)));
        Repairs { ranked, considered_count, suggested_count }
    }
}

fn suggestions(demands: &Demands<'_>, budgets: &[f64], found: &Found, weights: &Weights) -> Vec<Candidate> {
    let (service, heaviest) = (found.service, found.heaviest);
    let fleet = demands.fleet;
    let id = |service: usize| fleet.services()[service].id.clone();
    let tier = |service: usize| weights.of(fleet.services()[service].tier);
    let mut candidates = Vec::new();
    let mut add = |kind: u8, at: (usize, usize), cost: f64, change: Change, fleet: Fleet| {
        candidates.push(Candidate { change, fleet, cost, key: (kind, at.0, at.1) });
    };
    if let (true, Ok(target)) = (!demands.is_fixed(service), Objective::new("target_ratio", 1.0 - found.needed)) {
        let cost = tier(service) * weights.loosen * (found.needed / budgets[service] - 1.0);
        let looser = fleet.with_service(service, |service| (service.target, service.fixed) = (Some(target), false));
        add(0, (service, service), cost, Change::LooserTarget { service: id(service), budget: found.needed }, looser);
    }
    let promised = demands.in_force[heaviest].is_some() && heaviest != service;
    let stricter = (budgets[heaviest] * budgets[service] / found.needed)
        .max(demands.floor(heaviest))
        .max(budgets[heaviest] / TIGHTENED_MAX);
    let stricter_target = Objective::new("target_ratio", 1.0 - stricter);
    if let (true, true, Ok(target)) = (promised, stricter < budgets[heaviest], stricter_target) {
        let cost = tier(heaviest) * weights.tighten * libm::log(budgets[heaviest] / stricter);
        let changed = fleet.with_service(heaviest, |service| service.target = Some(target));
        let change = Change::StricterPromise { service: id(heaviest), budget: stricter };
        add(1, (heaviest, heaviest), cost, change, changed);
    }
    for pair in found.chain.windows(2) {
        let edge = fleet.edges.binary_search_by_key(&(pair[0], pair[1]), |(caller, callee, _)| (*caller, *callee));
        let Ok(edge) = edge else { continue };
        let impact = fleet.edges[edge].2 * (1.0 - FALLBACK_SAVES);
        let change = Change::Fallback { caller: id(pair[0]), callee: id(pair[1]), impact };
        add(2, (pair[0], pair[1]), weights.fallback, change, fleet.with_impact(edge, impact));
    }
    let twice = |failing: f64| COMMON_CAUSE * failing + (1.0 - COMMON_CAUSE) * failing * (1.0 - COMMON_CAUSE) * failing;
    let own = demands.own(budgets)[heaviest];
    let own_floor = twice(demands.floor(heaviest));
    let budget = budgets[heaviest] - own + twice(own);
    let target = Objective::new("target_ratio", 1.0 - budget).ok();
    if heaviest != service && budget < budgets[heaviest] && !demands.fleet.services()[heaviest].fixed {
        let changed = fleet.with_service(heaviest, |service| {
            service.own_floor = own_floor;
            service.target = service.target.and(target);
        });
        let change = Change::SecondInstance { service: id(heaviest), own_floor, budget };
        add(3, (heaviest, heaviest), weights.second_instance, change, changed);
    }
    candidates
}

fn solved_again(candidate: Candidate, weights: &Weights, limits: &Limits) -> Option<Repair> {
    let plan = solve(&candidate.fleet, weights, limits, None, None).ok()?;
    let services = candidate.fleet.services().iter().zip(&plan.budgets);
    let moved = services.filter(|(service, budget)| service.target.is_some_and(|t| t.error_budget() != **budget));
    Some(Repair {
        change: candidate.change,
        cost: candidate.cost + plan.cost,
        contradictions_left: plan.contradictions.len(),
        moved_count: moved.count(),
    })
}
