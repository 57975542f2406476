//! Bounds that bracket the exact availability.
//!
//! Esary and Proschan (1963): `Π over minimal cuts (1 − Π q) ≤ A ≤ 1 − Π over minimal paths (1 − Π p)`. What the root
//! cannot do without is factored out first and multiplied on again: the lower bound is the same with it or without
//! (each such part is a minimal cut of its own), the upper one gets tighter. Minimal sets can be exponentially many, so
//! they are only listed within a budget, a module of the diagram at a time (see `modules` and `minimal_sets`); past it the
//! bounds are a cheaper bracket, which always holds:
//!
//! * lower: the greater of the recursive product (see `association`) and the product over every component once;
//! * upper: the least, over what the root needs, of one need alone.

use crate::association::Association;
use crate::bdd::{Diagram, Function};
use crate::equations::{Clause, Equation, Source, System, Variable};
use crate::modules;
use crate::retries::Attempts;
use crate::structure::{Component, Structure};

/// Which bounds stand beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundsMethod {
    /// From all minimal paths and cuts of every module.
    EsaryProschan,
    /// Too many minimal sets, or no diagram to find them in: recursive product below, one need alone above.
    Bracket,
}

/// Bounds on the availability of a system's root from the diagram of its steady state, or nothing when there are too
/// many minimal sets.
pub(crate) fn esary_proschan(diagram: &Diagram, root: Function, variables: &[Variable]) -> Option<(f64, f64)> {
    modules::bounds(diagram, root, &|variable| variables[variable as usize].failure_ratio)
}

/// The cheaper bracket around the availability of a system's root, what is in series included.
pub(crate) fn bracket(system: &System, root: Component, association: &Association) -> (f64, f64) {
    let ratio = |v: u32| system.variables[v as usize].failure_ratio;
    let series: f64 = system.series.iter().map(|&v| 1.0 - ratio(v)).product();
    let all_up: f64 = system
        .variables
        .iter()
        .filter(|variable| variable.source != Source::Fallback)
        .map(|variable| 1.0 - variable.failure_ratio)
        .product();
    let recursive = 1.0 - association.failure_ratio_max(root);
    let one_need =
        system.steady[0].clauses.iter().map(|clause| need(clause, &system.steady, &ratio)).fold(1.0, f64::min);
    (all_up.max(recursive).min(series), series * one_need)
}

/// A bracket around everybody's availability in one pass: the recursive product below, the least available single need above,
/// which stands on its own needs in the same way. By component, of those that were bounded.
pub(crate) fn brackets(structure: &Structure, association: &Association) -> Vec<(f64, f64)> {
    let at_best = Attempts::at_best(structure);
    let mut brackets = vec![(0.0, 1.0); structure.component_count()];
    for members in association.callees_first() {
        let of_member = |&node: &usize| {
            let component = Component(node as u32);
            let outside = |callee: Component| !association.in_one_cycle(component, callee);
            let edges = structure.edges_of(component).filter(|&edge| outside(structure.edge(edge).callee));
            let edges = edges.map(|edge| {
                let impact = at_best.impact(structure, association, edge).steady();
                1.0 - impact * (1.0 - brackets[structure.edge(edge).callee.index()].1)
            });
            let groups = structure.groups_of(component).iter().map(|group| {
                let bound = || group.members.iter().filter(|&&member| outside(member));
                let required = group.required.saturating_sub(group.members.len() - bound().count());
                let expected: f64 = bound().map(|member| brackets[member.index()].1).sum();
                // Markov's inequality: so many of them are up on average.
                if required == 0 { 1.0 } else { f64::min(expected / required as f64, 1.0) }
            });
            let one_need = edges.chain(groups).fold(1.0, f64::min);
            let high = (1.0 - structure.own(component).failure_ratio) * one_need;
            ((1.0 - association.failure_ratio_max(component)).min(high), high)
        };
        let found: Vec<(f64, f64)> = members.iter().map(of_member).collect();
        members.iter().zip(found).for_each(|(&node, found)| brackets[node] = found);
    }
    brackets
}

/// At least the probability that a clause holds: its node's own health, or the fallback.
fn need(clause: &Clause, equations: &[Equation], ratio: &dyn Fn(u32) -> f64) -> f64 {
    let Clause::Needs { node, unless } = clause else {
        return 1.0;
    };
    let own: f64 = equations[*node].own.iter().map(|&v| 1.0 - ratio(v)).product();
    1.0 - unless.map_or(1.0, ratio) * (1.0 - own)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fixed_point::Algebra;

    /// Barlow and Proschan (1975, section 2.3): the bridge, whose minimal paths and cuts are {1,4}, {2,5}, {1,3,5},
    /// {2,3,4} and {1,2}, {4,5}, {1,3,5}, {2,3,4}.
    #[test]
    fn the_bridge_has_four_minimal_paths_and_four_minimal_cuts() {
        let mut diagram = Diagram::new(1_000);
        let paths = [vec![0, 3], vec![1, 4], vec![0, 2, 4], vec![1, 2, 3]];
        let mut bridge = diagram.constant(false);
        for path in paths {
            let mut all = diagram.constant(true);
            for v in path {
                let variable = diagram.variable(v).unwrap();
                all = diagram.and(all, variable).unwrap();
            }
            bridge = diagram.or(bridge, all).unwrap();
        }
        let variables = [Variable { failure_ratio: 0.1, cold_failure_ratio: 0.1, source: Source::Fallback }; 5];
        let (low, high) = esary_proschan(&diagram, bridge, &variables).unwrap();
        let (p, q): (f64, f64) = (0.9, 0.1);
        let expected_low = (1.0 - q * q) * (1.0 - q * q) * (1.0 - q * q * q) * (1.0 - q * q * q);
        let expected_high = 1.0 - (1.0 - p * p) * (1.0 - p * p) * (1.0 - p * p * p) * (1.0 - p * p * p);
        assert!((low - expected_low).abs() < 1e-12);
        assert!((high - expected_high).abs() < 1e-12);
    }
}
