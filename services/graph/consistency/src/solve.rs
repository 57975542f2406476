//! The order of it all, and the answer.

use attain_vocabulary::{EntityId, Tier};

use crate::closure::Closure;
use crate::contradictions::{self, Contradiction, Found};
use crate::demands::{Demands, SLACK};
use crate::program::{self, Row, Rule};
use crate::{Error, Fleet, Menu};

/// Budgets this near to what is in force, relatively, have not moved: what an interior point leaves.
const UNMOVED: f64 = 1e-5;
/// By how much, relatively, a tightened budget is tightened further, so that nobody above has to give way to rounding.
const MARGIN: f64 = 1e-7;
const PRICE_MIN: f64 = 1e-6;
/// By what all budgets are multiplied, one after the other, to find where the program may start.
const TIGHTENED_ALIKE: [f64; 9] = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3];
/// By how much, relatively, costs may differ and count as the same.
const AS_GOOD: f64 = 1e-4;
/// Parts of the way to what the program found, by factors, where it knows only the largest terms.
const PARTS_OF_A_STEP: [f64; 5] = [1.0, 0.5, 0.25, 0.1, 0.03];
/// Part of the cost that a round has to leave at most for another one to follow.
const WORTH_A_ROUND: f64 = 0.7;

/// What moving a target costs, per tier-weighted relative change of its error budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Loosening: 1 where the budget doubles.
    pub loosen: f64,
    /// Tightening: 1 where the budget shrinks to 1/e.
    pub tighten: f64,
    /// Per caller, what a missing extra nine of its callees costs at most: far below the others, so that it only chooses among equals.
    pub extra_nine: f64,
    /// A fallback on one edge, as much as loosening that many targets of tier four to double their budget.
    pub fallback: f64,
    /// A second instance of one service, likewise.
    pub second_instance: f64,
    /// Of tiers one to four.
    pub tiers: [f64; 4],
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            loosen: 1.0,
            tighten: 1.0,
            extra_nine: 1e-3,
            fallback: 4.0,
            second_instance: 8.0,
            tiers: [8.0, 4.0, 2.0, 1.0],
        }
    }
}

impl Weights {
    pub(crate) fn of(&self, tier: Option<Tier>) -> f64 {
        match tier {
            Some(Tier::One) => self.tiers[0],
            Some(Tier::Two) => self.tiers[1],
            Some(Tier::Three) | None => self.tiers[2],
            Some(Tier::Four) => self.tiers[3],
        }
    }
}

/// Bounds of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of all closures together; 8 bytes each.
    pub closure_entries_max: usize,
    /// Variables in one closure row of the program; the others of a longer row stand at their value of the round before.
    pub row_terms_max: usize,
    /// Variables in all closure rows together.
    pub terms_max: usize,
    /// Rounds in which long rows and cuts of the exact evaluation are brought up to date.
    pub rounds_max: usize,
    /// Services up to which the program is solved; a larger fleet gets the least loosening.
    pub program_services_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            closure_entries_max: 30_000_000,
            row_terms_max: 64,
            terms_max: 20_000,
            rounds_max: 3,
            program_services_max: 10_000,
        }
    }
}

/// Availability in `[0, 1]` of the service at this position when these own budgets are used up; `None` where it is not known.
pub type ExactAvailability<'a> = &'a dyn Fn(usize, &[f64]) -> Option<f64>;

/// What found the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Nothing contradicted anything.
    AsTheyAre,
    /// The linear program, every closure in full.
    Program,
    /// The linear program with small terms of long closures held: feasible all the same, perhaps not the least movement.
    ProgramOfLargestTerms,
    /// The least loosening, where the program is too large, gave up, or was no cheaper: no target is tightened.
    Loosening,
    /// All targets tightened alike, then loosened where needed: where that was cheaper than loosening, and the program no help.
    TightenedAlike,
}

/// A rule that keeps a target where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Whose target is kept from being tighter.
    pub service: EntityId,
    /// The callee whose promise binds; `None` where the whole closure does.
    pub callee: Option<EntityId>,
    /// Services from this one to the component that uses most of its budget.
    pub chain: Vec<EntityId>,
    /// The dual: how much cheaper the solution is for one more budget in force of room, ≥ 0.
    pub price: f64,
    /// What is left before the rule binds, in budgets in force; next to nothing.
    pub slack: f64,
}

/// Targets that hold together.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Error budget of every service, in the order of [`Fleet::services`]; 1 where no target is attainable.
    pub budgets: Vec<f64>,
    /// How much of it each service may use up by itself. Whoever keeps these keeps all targets.
    pub own_budgets: Vec<f64>,
    /// Contradictions among the targets in force.
    pub contradictions: Vec<Contradiction>,
    /// Contradictions that stay: a target cannot be moved, or a service fails too often for any.
    pub unresolved: Vec<Contradiction>,
    /// What found the targets.
    pub method: Method,
    /// Rules with a price, dearest first; empty unless the program found the targets.
    pub bindings: Vec<Binding>,
    /// Tier-weighted movement, as [`Weights`] counts it.
    pub cost: f64,
}

/// A fleet with what its solution and its repairs both start from.
pub struct Problem<'a> {
    pub(crate) demands: Demands<'a>,
    /// Budgets in force, and for the others the least that they need.
    pub(crate) start: Vec<f64>,
    pub(crate) broken: Vec<Found>,
    pub(crate) weights: Weights,
    pub(crate) limits: Limits,
}

impl<'a> Problem<'a> {
    /// Looks for what is below each service, and for contradictions among the targets in force.
    ///
    /// # Errors
    /// When closures are larger than the limit, or cycles do not settle.
    pub fn of(fleet: &'a Fleet, weights: &Weights, limits: &Limits) -> Result<Self, Error> {
        let demands = Demands::of(fleet, Closure::of(fleet, limits.closure_entries_max)?);
        let start = demands.completed()?;
        let broken = contradictions::found(&demands, &start);
        Ok(Self { demands, start, broken, weights: *weights, limits: *limits })
    }

    /// Targets for every service that hold together and are moved least.
    ///
    /// The menu, where there is one, is applied to targets that move and to those that are new. `exact` is asked about every
    /// service whose target may move, and what it finds beyond the linear bound is added as a cut.
    ///
    /// # Errors
    /// When cycles or cuts do not settle.
    pub fn solve(&self, menu: Option<&Menu>, exact: Option<ExactAvailability<'_>>) -> Result<Plan, Error> {
        let mut demands = self.demands.clone();
        let mut rounds = 0;
        loop {
            let search = Search { demands: &demands, start: &self.start, weights: &self.weights, limits: &self.limits };
            let plan = search.plan(menu, &self.broken)?;
            let cuts = exact.map_or_else(Vec::new, |exact| cuts(&demands, &plan, exact));
            let Some((service, failure_ratio)) = cuts.first().copied() else {
                return Ok(plan);
            };
            rounds += 1;
            if rounds > self.limits.rounds_max {
                let (service, budget) = (demands.fleet.services()[service].id.clone(), plan.budgets[service]);
                return Err(Error::NotSettled { service, rounds, failure_ratio, budget });
            }
            cuts.into_iter().for_each(|(service, failure_ratio)| demands.cut[service] = failure_ratio);
        }
    }
}

/// The [`Problem`] of a fleet, solved.
///
/// # Errors
/// As [`Problem::of`] and [`Problem::solve`].
pub fn solve(
    fleet: &Fleet,
    weights: &Weights,
    limits: &Limits,
    menu: Option<&Menu>,
    exact: Option<ExactAvailability<'_>>,
) -> Result<Plan, Error> {
    Problem::of(fleet, weights, limits)?.solve(menu, exact)
}

/// Services whose exact failure ratio is over their budget.
fn cuts(demands: &Demands<'_>, plan: &Plan, exact: ExactAvailability<'_>) -> Vec<(usize, f64)> {
    let movable = (0..plan.budgets.len()).filter(|service| !demands.is_fixed(*service));
    let failing = movable.filter_map(|service| Some((service, 1.0 - exact(service, &plan.own_budgets)?)));
    failing.filter(|(service, failure_ratio)| *failure_ratio > plan.budgets[*service] * (1.0 + 1e-9)).collect()
}

/// Targets that may be the answer.
#[derive(Clone)]
struct Candidate {
    method: Method,
    budgets: Vec<f64>,
    rows: Vec<Row>,
    rank: Rank,
}

/// First what contradicts itself least, then what moves least.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Rank {
    contradictions: usize,
    cost: f64,
}

impl Candidate {
    /// The better one; the other where it is as good, since it is found by more and explains more.
    fn or(self, other: Self) -> Self {
        let as_good = Rank { cost: self.rank.cost * (1.0 + AS_GOOD), ..self.rank };
        if other.rank < as_good { other } else { self }
    }
}

/// What is looked for: targets without contradictions that move the ones in force least.
struct Search<'a> {
    demands: &'a Demands<'a>,
    start: &'a [f64],
    weights: &'a Weights,
    limits: &'a Limits,
}

impl Search<'_> {
    fn plan(&self, menu: Option<&Menu>, broken: &[Found]) -> Result<Plan, Error> {
        let (demands, start) = (self.demands, self.start);
        let uncut = demands.cut.iter().zip(start).all(|(cut, budget)| cut <= budget);
        let mut best = self.candidate(Method::AsTheyAre, start.to_vec(), &[]);
        if !uncut || best.rank.contradictions > 0 {
            best = self.without_program()?;
            if start.len() <= self.limits.program_services_max {
                best = self.by_program(best)?;
            }
        }
        let Candidate { method, mut budgets, rows, .. } = best;
        if let Some(menu) = menu {
            budgets = on_menu(demands, start, budgets, menu)?;
        }
        let contradictions = |found: &[Found]| found.iter().map(|found| found.contradiction.clone()).collect();
        Ok(Plan {
            own_budgets: demands.own(&budgets),
            contradictions: contradictions(broken),
            unresolved: contradictions(&contradictions::found(demands, &budgets)),
            bindings: bindings(demands, &rows),
            cost: cost(demands, start, &budgets, self.weights),
            method,
            budgets,
        })
    }

    fn candidate(&self, method: Method, budgets: Vec<f64>, rows: &[Row]) -> Candidate {
        let moved = cost(self.demands, self.start, &budgets, self.weights);
        let rank = Rank { contradictions: contradictions::count(self.demands, &budgets), cost: moved };
        Candidate { method, budgets, rows: rows.to_vec(), rank }
    }

    /// The least feasible budgets above these.
    fn lifted(&self, method: Method, budgets: Vec<f64>, rows: &[Row]) -> Result<Candidate, Error> {
        let budgets = self.demands.settled(self.demands.lifted(budgets, None)?);
        Ok(self.candidate(method, budgets, rows))
    }

    fn without_program(&self) -> Result<Candidate, Error> {
        let mut best = self.lifted(Method::Loosening, self.start.to_vec(), &[])?;
        for factor in TIGHTENED_ALIKE {
            let tightened = tightened_alike(self.demands, self.start, factor);
            best = best.or(self.lifted(Method::TightenedAlike, tightened, &[])?);
        }
        Ok(best)
    }

    /// The program's terms that are no variables stand at the best budgets so far; where there are such terms, all of its step
    /// may be too far.
    fn by_program(&self, mut best: Candidate) -> Result<Candidate, Error> {
        for _ in 0..self.limits.rounds_max.max(1) {
            let from = best.clone();
            let Some(solved) = program::solve(self.demands, self.start, &from.budgets, self.weights, self.limits)
            else {
                break;
            };
            let (method, parts) = if solved.dropped_terms {
                (Method::ProgramOfLargestTerms, &PARTS_OF_A_STEP[..])
            } else {
                (Method::Program, &[1.0][..])
            };
            for part in parts {
                let ends = from.budgets.iter().zip(&solved.budgets);
                let stepped: Vec<f64> =
                    ends.map(|(from, to)| libm::pow(*from, 1.0 - part) * libm::pow(*to, *part)).collect();
                best = best.or(self.lifted(method, cleaned(self.demands, self.start, &stepped), &solved.rows)?);
            }
            let worth_it =
                best.rank.contradictions < from.rank.contradictions || best.rank.cost < from.rank.cost * WORTH_A_ROUND;
            if !solved.dropped_terms || !worth_it {
                break;
            }
        }
        Ok(best)
    }
}

fn tightened_alike(demands: &Demands<'_>, start: &[f64], factor: f64) -> Vec<f64> {
    let one = |service: usize| match demands.in_force[service] {
        None => 0.0,
        Some(budget) if demands.is_fixed(service) => budget,
        Some(_) => start[service] * factor,
    };
    (0..start.len()).map(one).collect()
}

/// The program's budgets without what an interior point leaves.
fn cleaned(demands: &Demands<'_>, start: &[f64], found: &[f64]) -> Vec<f64> {
    let one = |service: usize| {
        let (before, after) = (start[service], found[service]);
        if demands.in_force[service].is_none() {
            return 0.0;
        }
        if (after - before).abs() <= before * UNMOVED {
            return before;
        }
        if after < before { after.max(demands.floor(service)) * (1.0 - MARGIN) } else { after }
    };
    (0..start.len()).map(one).collect()
}

/// Moved targets go to the menu. New ones too, unless that would move a target in force.
fn on_menu(demands: &Demands<'_>, start: &[f64], budgets: Vec<f64>, menu: &Menu) -> Result<Vec<f64>, Error> {
    let mut stepped = budgets;
    for service in (0..start.len()).filter(|service| !demands.is_fixed(*service)) {
        let before = start[service];
        if demands.in_force[service].is_none() {
            continue;
        } else if stepped[service] > before * (1.0 + SLACK) {
            stepped[service] = menu.at_least(stepped[service]);
        } else if stepped[service] < before {
            stepped[service] = menu.at_most(stepped[service]);
        }
    }
    let moved = demands.lifted(stepped, Some(menu))?;
    let new = (0..start.len()).map(|service| match demands.in_force[service] {
        Some(_) => moved[service],
        None => menu.at_least(moved[service]),
    });
    let all = demands.lifted(new.collect(), Some(menu))?;
    let in_force = |budgets: &[f64]| -> Vec<f64> {
        budgets.iter().zip(&demands.in_force).filter_map(|(budget, target)| target.and(Some(*budget))).collect()
    };
    let disturbs = in_force(&all) != in_force(&moved)
        || contradictions::count(demands, &all) > contradictions::count(demands, &moved);
    Ok(if disturbs { moved } else { all })
}

/// Tier-weighted movement of the targets in force.
fn cost(demands: &Demands<'_>, start: &[f64], budgets: &[f64], weights: &Weights) -> f64 {
    let moved = (0..start.len()).filter(|service| demands.in_force[*service].is_some());
    let one = |service: usize| {
        let ratio = budgets[service] / start[service];
        let movement = if ratio >= 1.0 { weights.loosen * (ratio - 1.0) } else { -weights.tighten * libm::log(ratio) };
        weights.of(demands.fleet.services()[service].tier) * movement
    };
    moved.map(one).sum()
}

fn bindings(demands: &Demands<'_>, rows: &[Row]) -> Vec<Binding> {
    let id = |service: usize| demands.fleet.services()[service].id.clone();
    // Of price and slack one is zero at the optimum; near it, where an interior point ends, the smaller one stands for zero.
    let binds = |row: &&Row| row.price > PRICE_MIN.max(row.slack);
    let mut priced: Vec<&Row> = rows.iter().filter(binds).collect();
    priced.sort_by(|a, b| b.price.total_cmp(&a.price).then(a.rule.cmp(&b.rule)));
    let binding = |row: &Row| {
        let (service, callee, chain) = match row.rule {
            Rule::Promise { caller, callee }
                if demands.edges_of[caller].iter().any(|(direct, _)| *direct == callee) =>
            {
                (caller, Some(id(callee)), vec![caller, callee])
            }
            Rule::Promise { caller, callee } => {
                (caller, Some(id(callee)), contradictions::chain(demands, caller, callee))
            }
            Rule::Ceiling { service } => {
                let below = demands.closure.rows[service].iter();
                let load = |j: u32, c: f32| f64::from(c) * demands.share[j as usize].max(demands.floor(j as usize));
                let heaviest = below.max_by(|a, b| load(a.0, a.1).total_cmp(&load(b.0, b.1)).then(b.0.cmp(&a.0)));
                let component = heaviest.map_or(service, |(j, _)| *j as usize);
                (service, None, contradictions::chain(demands, service, component))
            }
        };
        let chain = chain.into_iter().map(id).collect();
        Binding { service: id(service), callee, chain, price: row.price, slack: row.slack }
    };
    priced.into_iter().map(binding).collect()
}
