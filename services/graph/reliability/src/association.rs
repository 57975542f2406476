//! A bound from above on every component's failure ratio.
//!
//! Component states and fallbacks are independent and every `W` increases in them, so the `W`s are associated and a
//! conjunction is at least as probable as the product of its parts (Esary, Proschan and Walkup 1967). The recursive
//! product that counts shared parts repeatedly is therefore wrong as a value but valid as a bound on the safe side, in
//! time linear in the edges. A group is at least as available as its `k` best members together; a cycle is taken as if
//! all its edges were hard.

use crate::fixed_point::strongly_connected;
use crate::formulas::retry_remainder;
use crate::structure::{Component, Group, Structure};

/// Bounds for everything that some roots reach.
pub(crate) struct Association {
    /// By component index.
    failure_ratio_max: Vec<f64>,
    /// Which cycle a component is of, by component index.
    cycle_of: Vec<usize>,
    /// Members of each cycle, and of each component outside all of them; callees before callers.
    cycles: Vec<Vec<usize>>,
}

impl Association {
    pub(crate) fn below(structure: &Structure, roots: impl IntoIterator<Item = Component>) -> Self {
        let roots = roots.into_iter().map(Component::index);
        let cycles = strongly_connected(structure.component_count(), roots, |node| {
            let callees = structure.callees(Component(node as u32));
            callees.map(Component::index).collect()
        });
        let mut association = Self {
            failure_ratio_max: vec![0.0; structure.component_count()],
            cycle_of: vec![usize::MAX; structure.component_count()],
            cycles: Vec::new(),
        };
        for (cycle, members) in cycles.iter().enumerate() {
            for &node in members {
                association.cycle_of[node] = cycle;
            }
            let survival: f64 =
                members.iter().map(|&node| association.log_survival(structure, Component(node as u32))).sum();
            for &node in members {
                association.failure_ratio_max[node] = -libm::expm1(survival);
            }
        }
        Self { cycles, ..association }
    }

    /// Cycles, and components outside all of them, callees before callers.
    pub(crate) fn callees_first(&self) -> impl Iterator<Item = &[usize]> {
        self.cycles.iter().map(Vec::as_slice)
    }

    /// At least the probability that a request of the component fails.
    pub(crate) fn failure_ratio_max(&self, component: Component) -> f64 {
        self.failure_ratio_max[component.index()]
    }

    /// Whether two components need each other.
    pub(crate) fn in_one_cycle(&self, one: Component, other: Component) -> bool {
        self.cycle_of[one.index()] == self.cycle_of[other.index()]
    }

    /// At least the edge's impact with its retries taken into account.
    fn impact_ratio(&self, structure: &Structure, edge: usize) -> f64 {
        let edge = structure.edge(edge);
        let attempt = self.failure_ratio_max(edge.callee);
        let effect = edge.effect;
        effect.impact_ratio * retry_remainder(attempt, effect.retry_count, effect.persistent_share)
    }

    /// ln of the product of what the component needs outside its own cycle.
    fn log_survival(&self, structure: &Structure, component: Component) -> f64 {
        let cycle = self.cycle_of[component.index()];
        let inside = |other: Component| self.cycle_of[other.index()] == cycle;
        let own = libm::log1p(-structure.own(component).failure_ratio);
        let edges: f64 = structure
            .edges_of(component)
            .filter(|&edge| !inside(structure.edge(edge).callee))
            .map(|edge| {
                let callee = structure.edge(edge).callee;
                let lost = self.impact_ratio(structure, edge) * self.failure_ratio_max(callee);
                libm::log1p(-lost)
            })
            .sum();
        let groups: f64 =
            structure.groups_of(component).iter().map(|group| self.group_log_survival(structure, group, &inside)).sum();
        own + edges + groups
    }

    fn group_log_survival(&self, structure: &Structure, group: &Group, inside: &dyn Fn(Component) -> bool) -> f64 {
        let mut outside: Vec<f64> = group
            .members
            .iter()
            .filter(|&&member| !inside(member))
            .map(|&member| self.failure_ratio_max(member))
            .collect();
        outside.sort_by(f64::total_cmp);
        let needed = group.required.saturating_sub(group.members.len() - outside.len());
        let members: f64 = outside[..needed].iter().map(|lost| libm::log1p(-lost)).sum();
        let cause = group.cause.map_or(0.0, |cause| libm::log1p(-structure.cause(cause).failure_ratio));
        members + cause
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::structure::{EdgeEffect, StructureBuilder};

    #[test]
    fn a_retry_counts_everything_below_the_callee_as_a_failed_attempt() {
        let mut builder = StructureBuilder::new();
        let [top, middle, leaf] = [0.0, 0.0, 0.1].map(|q| builder.add_component(q, false).unwrap());
        let retried = EdgeEffect { impact_ratio: 1.0, retry_count: 2, persistent_share: 0.5 };
        builder.add_edge(top, middle, retried).unwrap();
        builder.add_edge(middle, leaf, EdgeEffect::hard()).unwrap();
        let structure = builder.build();
        let association = Association::below(&structure, [top]);
        let edge = structure.edges_of(top).next().unwrap();
        let expected = 0.5 + 0.5 * 0.1 * 0.1;
        assert!((association.impact_ratio(&structure, edge) - expected).abs() < 1e-12);
    }
}
