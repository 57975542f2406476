//! Minimal paths and cuts of a part of a decision diagram, and the Esary–Proschan bounds from them.
//!
//! A set is as many machine words as its part has variables for, so it is only the number of sets that is bounded.

use crate::bdd::{Diagram, Function};
use crate::modules::Part;
use std::collections::BTreeMap;

/// Words of sets kept for all nodes of all parts together: 16 MB.
const SET_WORDS_MAX: usize = 2_000_000;
/// Comparisons of two sets, most of them decided by the first word: about 20 ms.
const COMPARISONS_MAX: usize = 20_000_000;

/// What may still be spent on one diagram.
pub(crate) struct Budget {
    set_words: usize,
    comparisons: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { set_words: SET_WORDS_MAX, comparisons: COMPARISONS_MAX }
    }
}

/// Natural logarithms of probabilities, so that neither a ratio near 0 nor one near 1 loses digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of the lower bound on being up.
    pub(crate) ln_up_low: f64,
    /// Of the upper bound on being up.
    pub(crate) ln_up_high: f64,
}

/// Bounds on the probability that a part ends at its upper end; nothing past the budget.
pub(crate) fn bounds(
    diagram: &Diagram,
    part: Part,
    failure_ratio: &dyn Fn(u32) -> f64,
    budget: &mut Budget,
) -> Option<Bounds> {
    let nodes = part.nodes(diagram);
    let mut positions: BTreeMap<u32, usize> =
        nodes.iter().filter_map(|&function| diagram.node(function)).map(|node| (node.variable, 0)).collect();
    (0..).zip(positions.values_mut()).for_each(|(index, position)| *position = index);
    let failing: Vec<f64> = positions.keys().map(|&variable| failure_ratio(variable)).collect();
    let search = Search { diagram, part, nodes: &nodes, positions: &positions };
    let cuts = search.minimal_sets(Kind::Cuts, budget)?;
    let paths = search.minimal_sets(Kind::Paths, budget)?;
    let no_cut: f64 = cuts.iter().map(|cut| libm::log1p(-product(cut, |i| failing[i]))).sum();
    let no_path: f64 = paths.iter().map(|path| libm::log1p(-product(path, |i| 1.0 - failing[i]))).sum();
    Some(Bounds { ln_up_low: no_cut, ln_up_high: libm::log1p(-libm::exp(no_path)) })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Least sets of variables whose being up makes the function true.
    Paths,
    /// Least sets of variables whose being down makes it false.
    Cuts,
}

struct Search<'a> {
    diagram: &'a Diagram,
    part: Part,
    nodes: &'a [Function],
    /// Position of each variable in a set.
    positions: &'a BTreeMap<u32, usize>,
}

impl Search<'_> {
    /// Minimal sets of a monotone function from the leaves up (Rauzy 1993): those of the branch that needs no help, and
    /// those of the other branch with the variable added unless one of the former is inside them.
    fn minimal_sets(&self, kind: Kind, budget: &mut Budget) -> Option<Sets> {
        let width = self.positions.len().div_ceil(u64::BITS as usize).max(1);
        let (reached, missed) = match kind {
            Kind::Paths => (self.part.up, self.part.down),
            Kind::Cuts => (self.part.down, self.part.up),
        };
        let mut sets: BTreeMap<Function, Sets> = BTreeMap::new();
        sets.insert(reached, Sets { width, words: vec![0; width] });
        sets.insert(missed, Sets { width, words: Vec::new() });
        for &function in self.nodes {
            let node = self.diagram.node(function)?;
            let (without, with) = match kind {
                Kind::Paths => (&sets[&node.low], &sets[&node.high]),
                Kind::Cuts => (&sets[&node.high], &sets[&node.low]),
            };
            let comparisons = without.iter().len().saturating_mul(with.iter().len());
            budget.comparisons = budget.comparisons.checked_sub(comparisons)?;
            let position = self.positions[&node.variable];
            let mut found = without.clone();
            for set in with.iter().filter(|set| !without.iter().any(|smaller| is_inside(smaller, set))) {
                let start = found.words.len();
                found.words.extend_from_slice(set);
                found.words[start + position / 64] |= 1 << (position % 64);
            }
            budget.set_words = budget.set_words.checked_sub(found.words.len())?;
            sets.insert(function, found);
        }
        sets.remove(&self.part.root)
    }
}

#[derive(Clone)]
struct Sets {
    width: usize,
    words: Vec<u64>,
}

impl Sets {
    fn iter(&self) -> std::slice::ChunksExact<'_, u64> {
        self.words.chunks_exact(self.width)
    }
}

fn is_inside(smaller: &[u64], set: &[u64]) -> bool {
    smaller.iter().zip(set).all(|(smaller, set)| smaller & !set == 0)
}

fn product(set: &[u64], factor: impl Fn(usize) -> f64) -> f64 {
    let mut product = 1.0;
    for (word, &bits) in set.iter().enumerate() {
        let mut rest = bits;
        while rest != 0 {
            product *= factor(word * 64 + rest.trailing_zeros() as usize);
            rest &= rest - 1;
        }
    }
    product
}
