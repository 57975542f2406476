//! Checks a set of targets by the definitions alone. Nothing here is shared with what builds or solves the program: impacts
//! are found component by component, upwards from the one that fails, until nothing changes.

use attain_vocabulary::EntityId;

use crate::Fleet;

/// Relative slack: budgets are differences from 1, and sums of thousands of terms.
const TOLERANCE: f64 = 1e-8;
const ROUNDS_MAX: usize = 100_000;
const CHANGE_MIN: f64 = 1e-15;

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
    for component in 0..services.len() {
        for (service, impact) in fails_with(fleet, component).into_iter().enumerate() {
            used[service] += impact * own_budgets[component];
            below_count[service] += usize::from(impact > 0.0 && service != component);
        }
    }
    for (index, service) in services.iter().enumerate() {
        let id = || service.id.clone();
        if over(used[index], budgets[index]) {
            found.push(Violation::Ceiling { service: id(), budget: budgets[index], needed: used[index] });
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

/// How far each service fails when one component does: the least solution of the equations, approached from nothing.
fn fails_with(fleet: &Fleet, component: usize) -> Vec<f64> {
    let mut fails = vec![0.0; fleet.services().len()];
    fails[component] = 1.0;
    for _ in 0..ROUNDS_MAX {
        let mut holds: Vec<f64> = vec![1.0; fails.len()];
        for (caller, callee, impact) in fleet.edges() {
            holds[*caller] *= 1.0 - impact * fails[*callee];
        }
        for group in &fleet.groups {
            let failed: f64 = group.members.iter().map(|member| fails[*member]).sum();
            let spare = group.members.len() - group.required_count;
            holds[group.caller] *= (1.0 - failed / (spare + 1) as f64).max(0.0);
        }
        let mut change = 0.0_f64;
        for (service, holds) in holds.iter().enumerate().filter(|(service, _)| *service != component) {
            change = change.max((1.0 - holds - fails[service]).abs());
            fails[service] = 1.0 - holds;
        }
        if change < CHANGE_MIN {
            break;
        }
    }
    fails
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
        assert_eq!(fails_with(&fleet, 3), [1.0; 4]);
        assert_eq!(fails_with(&fleet, 1), [0.5, 1.0, 0.0, 0.0]);
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
