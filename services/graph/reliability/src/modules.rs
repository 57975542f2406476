//! A decision diagram taken apart into independent modules in series and in parallel.
//!
//! Where every way from a part's root to its upper end leads through one node, what lies before and after it is in series;
//! where every way to its lower end does, in parallel. No variable occurs twice on a way, so the pieces share none and are
//! independent. Bounds are found of pieces that come apart no further and put together again (Barlow and Proschan 1975,
//! section 2.4: at least as tight as those from the minimal sets of the whole). A tree thus has as many pieces as
//! variables, where its minimal paths would be exponentially many.

use crate::bdd::{Diagram, FALSE, Function, TRUE};
use crate::minimal_sets::{self, Bounds, Budget};
use std::collections::BTreeSet;

/// Nodes visited while pieces are looked for: some tenths of a second; linear in the diagram for trees and chains.
const STEPS_MAX: usize = 4_000_000;

/// The ways of a diagram from a root to one of two ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) root: Function,
    /// Where it works.
    pub(crate) up: Function,
    /// Where it fails.
    pub(crate) down: Function,
}

impl Part {
    /// Nodes from the root to the ends, these not included, children before parents.
    pub(crate) fn nodes(self, diagram: &Diagram) -> Vec<Function> {
        let mut seen = BTreeSet::from([self.root]);
        let mut open = vec![self.root];
        while let Some(node) = open.pop().and_then(|function| diagram.node(function)) {
            open.extend([node.low, node.high].into_iter().filter(|&child| !self.is_end(child) && seen.insert(child)));
        }
        seen.into_iter().collect()
    }

    fn is_end(self, function: Function) -> bool {
        function == self.up || function == self.down
    }
}

enum Task {
    Take(Part),
    InSeries(usize),
    InParallel(usize),
}

/// Lower and upper bound on the probability that the root is up; nothing where minimal sets or steps are too many.
pub(crate) fn bounds(diagram: &Diagram, root: Function, failure_ratio: &dyn Fn(u32) -> f64) -> Option<(f64, f64)> {
    if root == TRUE || root == FALSE {
        let up = f64::from(root);
        return Some((up, up));
    }
    let mut budget = Budget::default();
    let mut steps_left = STEPS_MAX;
    let mut tasks = vec![Task::Take(Part { root, up: TRUE, down: FALSE })];
    let mut found: Vec<Bounds> = Vec::new();
    while let Some(task) = tasks.pop() {
        match task {
            Task::InSeries(count) => {
                let pieces = found.split_off(found.len() - count);
                found.push(in_series(&pieces));
            }
            Task::InParallel(count) => {
                let pieces = found.split_off(found.len() - count);
                found.push(in_parallel(&pieces));
            }
            Task::Take(part) => {
                let series = passed_by_all(diagram, part.root, part.up, part.down, &mut steps_left)?;
                if series.len() > 1 {
                    tasks.push(Task::InSeries(series.len()));
                    let ends = series.iter().skip(1).copied().chain([part.up]);
                    let pieces = series.iter().zip(ends);
                    tasks.extend(pieces.map(|(&root, up)| Task::Take(Part { root, up, ..part })));
                    continue;
                }
                let parallel = passed_by_all(diagram, part.root, part.down, part.up, &mut steps_left)?;
                if parallel.len() > 1 {
                    tasks.push(Task::InParallel(parallel.len()));
                    let ends = parallel.iter().skip(1).copied().chain([part.down]);
                    let pieces = parallel.iter().zip(ends);
                    tasks.extend(pieces.map(|(&root, down)| Task::Take(Part { root, down, ..part })));
                    continue;
                }
                found.push(minimal_sets::bounds(diagram, part, failure_ratio, &mut budget)?);
            }
        }
    }
    let whole = found.pop().expect("every task leaves one result");
    Some((libm::exp(whole.ln_up_low), libm::exp(whole.ln_up_high)))
}

/// The root and every later node that each way to `end` leads through, in their order.
///
/// Nodes are met from the greatest index on, so a way only leads to nodes not yet met; a node is passed by all where
/// nothing else is left open. Once the end itself is open there are no more.
fn passed_by_all(
    diagram: &Diagram,
    root: Function,
    end: Function,
    other_end: Function,
    steps_left: &mut usize,
) -> Option<Vec<Function>> {
    let mut passed = Vec::new();
    let mut open = BTreeSet::from([root]);
    while let Some(function) = open.pop_last() {
        if open.is_empty() {
            passed.push(function);
        }
        *steps_left = steps_left.checked_sub(1)?;
        let node = diagram.node(function)?;
        let children = [node.low, node.high];
        if children.contains(&end) {
            break;
        }
        open.extend(children.into_iter().filter(|&child| child != other_end));
    }
    Some(passed)
}

fn in_series(pieces: &[Bounds]) -> Bounds {
    Bounds {
        ln_up_low: pieces.iter().map(|piece| piece.ln_up_low).sum(),
        ln_up_high: pieces.iter().map(|piece| piece.ln_up_high).sum(),
    }
}

fn in_parallel(pieces: &[Bounds]) -> Bounds {
    let ln_up = |of: fn(&Bounds) -> f64| {
        let ln_down: f64 = pieces.iter().map(|piece| libm::log(-libm::expm1(of(piece)))).sum();
        libm::log1p(-libm::exp(ln_down))
    };
    Bounds { ln_up_low: ln_up(|piece| piece.ln_up_low), ln_up_high: ln_up(|piece| piece.ln_up_high) }
}
