//! Bounds that bracket the exact availability.
//!
//! Esary and Proschan (1963): `Π over minimal cuts (1 − Π q) ≤ A ≤ 1 − Π over minimal paths (1 − Π p)`. What the root
//! cannot do without is factored out first and multiplied on again: the lower bound is the same with it or without
//! (each such part is a minimal cut of its own), the upper one gets tighter. Minimal sets can be exponentially many, so
//! they are only listed within a budget; past it the bounds are a cheaper bracket, which always holds:
//!
//! * lower: the greater of the recursive product (see `association`) and the product over every component once;
//! * upper: the least, over what the root needs, of one need alone.

use crate::association::Association;
use crate::bdd::{Diagram, Function};
use crate::equations::{Clause, Equation, Source, System, Variable};
use crate::structure::Component;
use std::collections::BTreeMap;

/// Minimal sets are machine words of this many variables.
const SET_VARIABLES_MAX: usize = u128::BITS as usize;
/// Sets kept for all nodes of a diagram together: 16 MB.
const SETS_MAX: usize = 1_000_000;
/// Comparisons of two sets: about 20 ms.
const COMPARISONS_MAX: usize = 20_000_000;

/// Which bounds stand beside a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundsMethod {
    /// From all minimal paths and cuts.
    EsaryProschan,
    /// Too many minimal sets: recursive product below, one need alone above.
    Bracket,
}

/// Bounds on the availability of a system's root from the diagram of its steady state, or nothing when there are too
/// many minimal sets.
pub(crate) fn esary_proschan(diagram: &Diagram, root: Function, variables: &[Variable]) -> Option<(f64, f64)> {
    let nodes = diagram.nodes_below(root);
    let positions = positions(diagram, &nodes)?;
    let mut budget = Budget { sets: SETS_MAX, comparisons: COMPARISONS_MAX };
    let cuts = minimal_sets(diagram, root, &nodes, &positions, Kind::Cuts, &mut budget)?;
    let paths = minimal_sets(diagram, root, &nodes, &positions, Kind::Paths, &mut budget)?;
    let ratio = |variable: &u32| variables[*variable as usize].failure_ratio;
    let failure: Vec<f64> = positions.keys().map(ratio).collect();
    let no_cut: f64 = cuts.iter().map(|&cut| (-product(cut, |i| failure[i])).ln_1p()).sum();
    let no_path: f64 = paths.iter().map(|&path| (-product(path, |i| 1.0 - failure[i])).ln_1p()).sum();
    Some((no_cut.exp(), -no_path.exp_m1()))
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

/// At least the probability that a clause holds: its node's own health, or the fallback.
fn need(clause: &Clause, equations: &[Equation], ratio: &dyn Fn(u32) -> f64) -> f64 {
    let Clause::Needs { node, unless } = clause else {
        return 1.0;
    };
    let own: f64 = equations[*node].own.iter().map(|&v| 1.0 - ratio(v)).product();
    1.0 - unless.map_or(1.0, ratio) * (1.0 - own)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Least sets of variables whose being up makes the function true.
    Paths,
    /// Least sets of variables whose being down makes it false.
    Cuts,
}

struct Budget {
    sets: usize,
    comparisons: usize,
}

/// Position of each variable of the diagram in a set.
fn positions(diagram: &Diagram, nodes: &[Function]) -> Option<BTreeMap<u32, usize>> {
    let mut positions = BTreeMap::new();
    for node in nodes.iter().filter_map(|&function| diagram.node(function)) {
        positions.insert(node.variable, 0);
        if positions.len() > SET_VARIABLES_MAX {
            return None;
        }
    }
    let renumbered = positions.into_keys().enumerate();
    Some(renumbered.map(|(i, variable)| (variable, i)).collect())
}

/// Minimal sets of a monotone function from the leaves up (Rauzy 1993): those of the branch that needs no help, and those
/// of the other branch with the variable added unless one of the former is inside them.
fn minimal_sets(
    diagram: &Diagram,
    root: Function,
    nodes: &[Function],
    positions: &BTreeMap<u32, usize>,
    kind: Kind,
    budget: &mut Budget,
) -> Option<Vec<u128>> {
    let reached = diagram_constant(kind);
    let mut sets: BTreeMap<Function, Vec<u128>> = BTreeMap::new();
    sets.insert(reached, vec![0]);
    sets.insert(1 - reached, Vec::new());
    for &function in nodes {
        let node = diagram.node(function)?;
        let (without, with) = match kind {
            Kind::Paths => (&sets[&node.low], &sets[&node.high]),
            Kind::Cuts => (&sets[&node.high], &sets[&node.low]),
        };
        budget.comparisons = budget.comparisons.checked_sub(without.len() * with.len())?;
        let bit = 1_u128 << positions[&node.variable];
        let mut found = without.clone();
        let minimal = with.iter().filter(|&&set| !without.iter().any(|&smaller| smaller & !set == 0));
        found.extend(minimal.map(|&set| set | bit));
        budget.sets = budget.sets.checked_sub(found.len())?;
        sets.insert(function, found);
    }
    sets.remove(&root)
}

/// The constant function that the empty set reaches.
fn diagram_constant(kind: Kind) -> Function {
    match kind {
        Kind::Paths => 1,
        Kind::Cuts => 0,
    }
}

fn product(set: u128, factor: impl Fn(usize) -> f64) -> f64 {
    let mut rest = set;
    let mut product = 1.0;
    while rest != 0 {
        product *= factor(rest.trailing_zeros() as usize);
        rest &= rest - 1;
    }
    product
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
        let variables = [Variable { failure_ratio: 0.1, source: Source::Fallback }; 5];
        let (low, high) = esary_proschan(&diagram, bridge, &variables).unwrap();
        let (p, q): (f64, f64) = (0.9, 0.1);
        let expected_low = (1.0 - q.powi(2)).powi(2) * (1.0 - q.powi(3)).powi(2);
        let expected_high = 1.0 - (1.0 - p.powi(2)).powi(2) * (1.0 - p.powi(3)).powi(2);
        assert!((low - expected_low).abs() < 1e-12);
        assert!((high - expected_high).abs() < 1e-12);
    }
}
