//! Checks a set of targets by the definitions alone. Nothing here is shared with what builds or solves the program: impacts
//! are found component by component, upwards from the one that fails, until nothing changes.

use attain_vocabulary::EntityId;

use crate::Fleet;

/// Relative slack: budgets are differences from 1, and sums of thousands of terms.
const TOLERANCE: f64 = 1e-8;

/// A rule that a set of targets breaks.
#[derive(Debug, Clone, PartialEq)]
pub enum Violation {
    /// The caller promises more than its callee lets it.
    Promise {
        /// Who promises too much.
        caller: EntityId,
        /// On whom it rests.
        callee: EntityId,
        /// Error budget of the caller.
        budget: f64,
        /// What the callee's promise alone uses of it: impact times error budget.
        needed: f64,
    },
    /// Own failures and those of everything below are more than the budget.
    Ceiling {
        /// Who promises too much.
        service: EntityId,
        /// Its error budget.
        budget: f64,
        /// What its closure uses of it.
        needed: f64,
    },
    /// The own budget is less than the service's own failures, or than its even share of its promise.
    OwnBudget {
        /// Whose own budget.
        service: EntityId,
        /// What it was given.
        own_budget: f64,
        /// What it needs.
        needed: f64,
    },
    /// A target that cannot be moved was moved.
    Fixed {
        /// Whose target.
        service: EntityId,
        /// Its budget in force.
        in_force: f64,
        /// What it was given.
        budget: f64,
    },
}

/// Every rule that these error budgets and own budgets break; both in the order of [`Fleet::services`].
#[must_use]
pub fn violations(fleet: &Fleet, budgets: &[f64], own_budgets: &[f64]) -> Vec<Violation> {
    let services = fleet.services();
    let over = |needed: f64, budget: f64| needed > budget * (1.0 + TOLERANCE);
    let mut found = Vec::new();
    for (caller, callee, impact) in fleet.edges() {
        let needed = impact * budgets[*callee];
        if over(needed, budgets[*caller]) {
            let (caller_id, callee) = (services[*caller].id.clone(), services[*callee].id.clone());
            found.push(Violation::Promise { caller: caller_id, callee, budget: budgets[*caller], needed });
        }
    }
    let mut used = vec![0.0; services.len()];
    let mut below_count = vec![0_usize; services.len()];
    let rests = Rests::of(fleet);
    for (component, own_budget) in own_budgets.iter().enumerate() {
        for (service, impact) in fails_with(&rests, component).into_iter().enumerate() {
            used[service] += impact * own_budget;
            below_count[service] += usize::from(impact > 0.0 && service != component);
        }
    }
    for (index, service) in services.iter().enumerate() {
        let id = || service.id.clone();
        // Without a target nobody is promised that the service ever works.
        let needed = if service.target.is_some() { used[index] } else { used[index].min(1.0) };
        if over(needed, budgets[index]) {
            found.push(Violation::Ceiling { service: id(), budget: budgets[index], needed });
        }
        let share = service.target.map_or(0.0, |_| budgets[index] / (1.0 + below_count[index] as f64));
        let needed = service.own_floor.max(share);
        if over(needed, own_budgets[index]) {
            found.push(Violation::OwnBudget { service: id(), own_budget: own_budgets[index], needed });
        }
        if let Some(target) = service.target.filter(|_| service.fixed) {
            let in_force = target.error_budget();
            if (budgets[index] - in_force).abs() > in_force * TOLERANCE {
                found.push(Violation::Fixed { service: id(), in_force, budget: budgets[index] });
            }
        }
    }
    found
}

/// One way in which a service can fail by others: fails with `impact` once `broken_at` of the callees have.
struct Reason {
    callees: Vec<usize>,
    broken_at: f64,
    impact: f64,
}

/// Who rests on whom, and for which reasons: inside one's own cycle, and on what is below it.
struct Rests {
    /// Whether the first reaches the second.
    reaches: Vec<Vec<bool>>,
    inner: Vec<Vec<(usize, f64)>>,
    outer: Vec<Vec<Reason>>,
}

impl Rests {
    fn of(fleet: &Fleet) -> Self {
        let count = fleet.services().len();
        let mut steps = vec![Vec::new(); count];
        let edges = fleet.edges().iter().filter(|(_, _, impact)| *impact > 0.0);
        edges.clone().for_each(|(caller, callee, _)| steps[*caller].push(*callee));
        fleet.groups.iter().for_each(|group| steps[group.caller].extend(&group.members));
        let reaches: Vec<Vec<bool>> = (0..count).map(|from| reached(&steps, from)).collect();
        let mut rests = Self { reaches, inner: vec![Vec::new(); count], outer: Vec::new() };
        rests.outer.resize_with(count, Vec::new);
        for (caller, callee, impact) in edges {
            rests.add(*caller, vec![*callee], 1.0, *impact);
        }
        for group in &fleet.groups {
            let spare = group.members.len() - group.required_count;
            rests.add(group.caller, group.members.clone(), (spare + 1) as f64, 1.0);
        }
        rests
    }

    fn together(&self, a: usize, b: usize) -> bool {
        a == b || (self.reaches[a][b] && self.reaches[b][a])
    }

    fn add(&mut self, caller: usize, callees: Vec<usize>, broken_at: f64, impact: f64) {
        if !callees.iter().any(|callee| self.together(caller, *callee)) {
            return self.outer[caller].push(Reason { callees, broken_at, impact });
        }
        // Whatever rests on its own cycle counts as hard on each, as no less strict.
        for callee in callees.into_iter().filter(|callee| *callee != caller) {
            if self.together(caller, callee) {
                self.inner[caller].push((callee, impact));
            } else {
                self.outer[caller].push(Reason { callees: vec![callee], broken_at: 1.0, impact });
            }
        }
    }
}

fn reached(steps: &[Vec<usize>], from: usize) -> Vec<bool> {
    let mut reached = vec![false; steps.len()];
    let mut open = vec![from];
    while let Some(at) = open.pop() {
        for next in &steps[at] {
            if !std::mem::replace(&mut reached[*next], true) {
                open.push(*next);
            }
        }
    }
    reached
}

/// How far each service fails when one component does, from nothing upwards until nothing changes.
fn fails_with(rests: &Rests, component: usize) -> Vec<f64> {
    let count = rests.inner.len();
    let holds_inner = |service: usize| rests.inner[service].iter().map(|(_, impact)| 1.0 - impact).product::<f64>();
    let entering = (0..count).flat_map(|service| &rests.inner[service]).filter(|(callee, _)| *callee == component);
    let holds_entered = entering.map(|(_, impact)| 1.0 - impact).product::<f64>();
    let above: Vec<usize> =
        (0..count).filter(|service| *service != component && rests.reaches[*service][component]).collect();
    let mut fails = vec![0.0; count];
    fails[component] = 1.0;
    for service in &above {
        if rests.together(*service, component) {
            fails[*service] = (1.0 - holds_inner(*service)).min(1.0 - holds_entered);
        }
    }
    loop {
        let mut changed = false;
        for service in above.iter().copied().filter(|service| !rests.together(*service, component)) {
            let holds = |reasons: &[Reason]| -> f64 {
                let one = |reason: &Reason| {
                    let failed: f64 = reason.callees.iter().map(|callee| fails[*callee]).sum();
                    1.0 - reason.impact * (failed / reason.broken_at).min(1.0)
                };
                reasons.iter().map(one).product()
            };
            let beside = above.iter().filter(|other| rests.together(service, **other));
            let holds_any: f64 = beside.map(|other| holds(&rests.outer[*other])).product();
            let around = (1.0 - holds_inner(service)) * (1.0 - holds_any);
            let now = 1.0 - holds(&rests.outer[service]) * (1.0 - around);
            changed |= now != fails[service];
            fails[service] = now;
        }
        if !changed {
            return fails;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{edge, fleet, group, service};

    #[test]
    fn a_component_that_all_members_share_breaks_the_group() {
        let services =
            vec![service("a", None, 0.0), service("b", None, 0.0), service("c", None, 0.0), service("d", None, 0.1)];
        let fleet = fleet(services, &[edge("b", "d", 1.0), edge("c", "d", 1.0)], &[group("a", &["b", "c"], 1)]);
        assert_eq!(fails_with(&Rests::of(&fleet), 3), [1.0; 4]);
        assert_eq!(fails_with(&Rests::of(&fleet), 1), [0.5, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn each_rule_is_seen_when_it_alone_is_broken() {
        let services = vec![service("a", Some(0.9), 0.01), service("b", Some(0.95), 0.01)];
        let fleet = fleet(services, &[edge("a", "b", 1.0)], &[]);
        let names = |budgets: &[f64], own: &[f64]| -> Vec<&str> {
            let name = |violation: &Violation| match violation {
                Violation::Promise { .. } => "promise",
                Violation::Ceiling { .. } => "ceiling",
                Violation::OwnBudget { .. } => "own",
                Violation::Fixed { .. } => "fixed",
            };
            violations(&fleet, budgets, own).iter().map(name).collect()
        };
        assert!(names(&[0.1, 0.05], &[0.05, 0.05]).is_empty());
        assert_eq!(names(&[0.04, 0.05], &[0.02, 0.05]), ["promise", "ceiling"]);
        assert_eq!(names(&[0.1, 0.05], &[0.06, 0.05]), ["ceiling"]);
        assert_eq!(names(&[0.1, 0.05], &[0.05, 0.04]), ["own"]);
    }
}
