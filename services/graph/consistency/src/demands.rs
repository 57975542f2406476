//! What error budget each service needs, given what the others promise; and the least loosening that gives everyone enough.
//!
//! `own_j = max(floor_j, share_j · B_j)`, where `share_j = 1 / (1 + services below j)`: a promise entitles its owner to an even
//! share of it at least. `B_i` needs `own_i + Σ c_ij · own_j` (the ceiling), and `impact · B_j` of every callee (the promise).
//! Both grow with every `B_j`, so there is a least set of budgets above any given one.

use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::closure::Closure;
use crate::{Error, Fleet, Menu};

/// Relative slack below which a budget counts as enough: what is left of `1 − 0.9999` in double precision, and sums of thousands.
pub(crate) const SLACK: f64 = 1e-9;
/// Passes over a fleet with cycles before it is given up.
const PASSES_MAX: usize = 2_000;
const PASSES_A_JUMP: usize = 8;
const RATIO_MAX: f64 = 0.999_9;

#[derive(Clone)]
pub(crate) struct Demands<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) closure: Arc<Closure>,
    /// Error budget in force.
    pub(crate) in_force: Vec<Option<f64>>,
    /// Share of its budget that a service may use up by itself; 0 where nothing is promised.
    pub(crate) share: Vec<f64>,
    pub(crate) edges_of: Vec<Vec<(usize, f64)>>,
    /// Least budget that an exact evaluation has asked for.
    pub(crate) cut: Vec<f64>,
}

impl<'a> Demands<'a> {
    pub(crate) fn of(fleet: &'a Fleet, closure: Closure) -> Self {
        let in_force = fleet.budgets_in_force();
        let share = in_force.iter().zip(&closure.rows);
        let share = share.map(|(target, row)| target.map_or(0.0, |_| 1.0 / (1.0 + row.len() as f64))).collect();
        let mut edges_of = vec![Vec::new(); in_force.len()];
        for (caller, callee, impact) in &fleet.edges {
            edges_of[*caller].push((*callee, *impact));
        }
        let cut = vec![0.0; in_force.len()];
        Self { fleet, closure: Arc::new(closure), in_force, share, edges_of, cut }
    }

    pub(crate) fn floor(&self, service: usize) -> f64 {
        self.fleet.services()[service].own_floor
    }

    pub(crate) fn is_fixed(&self, service: usize) -> bool {
        self.fleet.services()[service].fixed && self.in_force[service].is_some()
    }

    /// Own budgets that go with these budgets.
    pub(crate) fn own(&self, budgets: &[f64]) -> Vec<f64> {
        (0..budgets.len()).map(|service| self.own_of(service, budgets[service])).collect()
    }

    fn own_of(&self, service: usize, budget: f64) -> f64 {
        self.floor(service).max(self.share[service] * budget)
    }

    /// Least budget of the ceiling: own failures and those of everything below.
    pub(crate) fn ceiling(&self, service: usize, own: &[f64]) -> f64 {
        let below = self.closure.rows[service].iter();
        let load: f64 = below.map(|(j, c)| f64::from(*c) * own[*j as usize]).sum();
        // At budget B the service itself may use share · B: the least B with B ≥ share · B + load.
        let entitled = if load > 0.0 { load / (1.0 - self.share[service]) } else { 0.0 };
        (self.floor(service) + load).max(entitled)
    }

    /// Least budget of the callees' promises.
    pub(crate) fn promises(&self, service: usize, budgets: &[f64]) -> f64 {
        self.edges_of[service].iter().map(|(callee, impact)| impact * budgets[*callee]).fold(0.0, f64::max)
    }

    /// Services with a target whose promise the service needs, directly or through services without one, sorted: each with the
    /// greatest part of its budget that is passed on, along the way that passes on most.
    pub(crate) fn promising_below(&self, service: usize) -> Vec<(usize, f64)> {
        let mut most: BTreeMap<usize, f64> = BTreeMap::new();
        // Positive numbers are in the order of their bits, and what passes on most is looked at first.
        let mut open = BinaryHeap::from([(1.0_f64.to_bits(), service)]);
        while let Some((passed, at)) = open.pop() {
            let passed = f64::from_bits(passed);
            if at != service && passed < most.get(&at).copied().unwrap_or(0.0) {
                continue;
            }
            for (callee, impact) in self.edges_of[at].iter().filter(|(callee, _)| *callee != service) {
                let (passed, known) = (passed * impact, most.entry(*callee).or_insert(0.0));
                if passed > *known {
                    *known = passed;
                    if self.in_force[*callee].is_none() {
                        open.push((passed.to_bits(), *callee));
                    }
                }
            }
        }
        let promising = |(callee, passed): &(usize, f64)| self.in_force[*callee].is_some() && *passed > 0.0;
        most.into_iter().filter(promising).collect()
    }

    /// Least budget by every rule.
    pub(crate) fn need(&self, service: usize, budgets: &[f64], own: &[f64]) -> f64 {
        self.ceiling(service, own).max(self.promises(service, budgets)).max(self.cut[service])
    }

    /// Budgets in force, and for services without one the least that the others allow; 1 where they allow no target.
    pub(crate) fn completed(&self) -> Result<Vec<f64>, Error> {
        let known: Vec<f64> = self.in_force.iter().map(|budget| budget.unwrap_or(0.0)).collect();
        self.raised(known, None, &|service| self.in_force[service].is_none())
    }

    /// The least budgets at or above these that give every service that may move what it needs; on the menu where there is one.
    /// 1 where no target is loose enough: that contradiction stays.
    pub(crate) fn lifted(&self, budgets: Vec<f64>, menu: Option<&Menu>) -> Result<Vec<f64>, Error> {
        self.raised(budgets, menu, &|service| !self.is_fixed(service))
    }

    fn raised(
        &self,
        budgets: Vec<f64>,
        menu: Option<&Menu>,
        may_move: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<f64>, Error> {
        let jumped = self.stepped_up(budgets.clone(), menu, may_move, PASSES_A_JUMP)?;
        // A jump may have gone too far: only steps tell that there is no such target.
        let hopeless = jumped.iter().any(|budget| *budget >= 1.0);
        if hopeless { self.stepped_up(budgets, menu, may_move, usize::MAX).or(Ok(jumped)) } else { Ok(jumped) }
    }

    fn stepped_up(
        &self,
        mut budgets: Vec<f64>,
        menu: Option<&Menu>,
        may_move: &dyn Fn(usize) -> bool,
        passes_a_jump: usize,
    ) -> Result<Vec<f64>, Error> {
        let mut own = self.own(&budgets);
        let mut last_rise = vec![0.0; budgets.len()];
        for pass in 1..=PASSES_MAX {
            let mut moved = false;
            for service in self.closure.order.iter().copied().filter(|service| may_move(*service)) {
                // Who fails always has the budget of a target of nothing.
                let need = self.need(service, &budgets, &own).min(1.0);
                let rise = need - budgets[service];
                if rise <= budgets[service] * SLACK {
                    last_rise[service] = 0.0;
                    continue;
                }
                let jump = if pass % passes_a_jump == 0 { remaining(rise, last_rise[service]) } else { 0.0 };
                let raised = if need + jump < 1.0 { need + jump } else { need };
                budgets[service] = menu.map_or(raised, |menu| menu.at_least(need));
                own[service] = self.own_of(service, budgets[service]);
                last_rise[service] = rise;
                moved = true;
            }
            if !moved || !self.closure.has_cycles {
                return Ok(budgets);
            }
        }
        Err(Error::CycleNotSettled { passes: PASSES_MAX })
    }

    /// Takes back loosening that turned out not to be needed, callees first; nobody's need grows by it.
    pub(crate) fn settled(&self, mut budgets: Vec<f64>) -> Vec<f64> {
        let mut own = self.own(&budgets);
        for service in self.closure.order.iter().copied() {
            let least = self.in_force[service].unwrap_or(0.0);
            if budgets[service] > least && !self.is_fixed(service) {
                let need = self.need(service, &budgets, &own).max(least);
                budgets[service] = budgets[service].min(need);
                own[service] = self.own_of(service, budgets[service]);
            }
        }
        budgets
    }
}

/// Sum of the rises that are to come in a cycle whose rises shrink geometrically; what is too much is taken back later.
fn remaining(rise: f64, last_rise: f64) -> f64 {
    let ratio = if last_rise > 0.0 { (rise / last_rise).min(RATIO_MAX) } else { 0.0 };
    rise * ratio / (1.0 - ratio)
}
