//! Every state of a structure, 64 of them a machine word, written from the definition alone.
//!
//! Bit `s` of a variable's row says whether it is up in state `s`. Both fixed points are reached by plain rounds over all
//! components; probabilities are sums over states.

use crate::cases::{Case, Group};
use std::collections::BTreeMap;

/// Rows of the six variables that differ inside a word; the others are the digits of the word's number.
const INSIDE: [u64; 6] = [
    0xAAAA_AAAA_AAAA_AAAA,
    0xCCCC_CCCC_CCCC_CCCC,
    0xF0F0_F0F0_F0F0_F0F0,
    0xFF00_FF00_FF00_FF00,
    0xFFFF_0000_FFFF_0000,
    0xFFFF_FFFF_0000_0000,
];

/// Rounds of the scalar fixed point inside a cycle of retried calls.
const ROUNDS_MAX: usize = 10_000;

/// What something random is in a state.
#[derive(Clone, Copy)]
pub enum Term {
    Up,
    Down,
    Varies(usize),
}

pub struct Enumeration<'a> {
    case: &'a Case,
    pub own: Vec<Term>,
    guards: Vec<Term>,
    pub causes: BTreeMap<Vec<u32>, Term>,
    /// Failure ratios in the steady state, by variable.
    pub steady_ratios: Vec<f64>,
    /// Failure ratios from a cold start: a retry does not help against a member of the caller's own cycle.
    pub cold_ratios: Vec<f64>,
    /// By component: the states in which it is up.
    pub steady: Vec<Vec<u64>>,
    pub cold: Vec<Vec<u64>>,
}

impl<'a> Enumeration<'a> {
    pub fn of(case: &'a Case) -> Self {
        let mut ratios = Vec::new();
        let mut term = |ratio: f64, fixed: bool| {
            if fixed && ratio <= 0.0 {
                return Term::Up;
            }
            if fixed && ratio >= 1.0 {
                return Term::Down;
            }
            ratios.push(ratio);
            Term::Varies(ratios.len() - 1)
        };
        let own = case.own.iter().map(|own| term(own.0, true)).collect();
        let guards = case.edges.iter().map(|edge| term(edge.effect.impact_ratio, !edge.is_retried())).collect();
        let causes = case.causes().into_iter().map(|(members, ratio)| (members, term(ratio, true))).collect();
        let mut enumeration = Self {
            case,
            own,
            guards,
            causes,
            cold_ratios: ratios.clone(),
            steady_ratios: ratios,
            steady: Vec::new(),
            cold: Vec::new(),
        };
        enumeration.solve();
        enumeration.weigh_retries();
        enumeration
    }

    /// Probability of the states in which a component is up.
    pub fn up(&self, rows: &[Vec<u64>], ratios: &[f64], component: usize) -> f64 {
        probability(&rows[component], ratios, |word| word)
    }

    /// Probability of the states in which a component is down, in the steady state.
    pub fn down(&self, component: usize) -> f64 {
        probability(&self.steady[component], &self.steady_ratios, |word| !word)
    }

    /// `P(component up | variable up) − P(component up | variable down)` by variable.
    pub fn birnbaum(&self, component: usize) -> Vec<f64> {
        let ratios = &self.steady_ratios;
        let up_given = |variable: usize, ratio: f64| {
            let mut given = ratios.clone();
            given[variable] = ratio;
            self.up(&self.steady, &given, component)
        };
        (0..ratios.len()).map(|variable| up_given(variable, 0.0) - up_given(variable, 1.0)).collect()
    }

    fn solve(&mut self) {
        let words = 1 << self.steady_ratios.len().saturating_sub(INSIDE.len());
        let count = self.case.own.len();
        let choices: Vec<Vec<u32>> = self.case.groups.iter().map(Group::sufficient_subsets).collect();
        let callees_of: Vec<Vec<(usize, Term)>> = (0..count)
            .map(|node| {
                let edges = self.case.edges.iter().zip(&self.guards);
                let of_node = edges.filter(|(edge, _)| edge.caller as usize == node);
                of_node.map(|(edge, &guard)| (edge.callee as usize, guard)).collect()
            })
            .collect();
        for start in [!0, 0] {
            let mut rows = vec![Vec::with_capacity(words); count];
            for word in 0..words {
                let mut values = vec![start; count];
                loop {
                    let before = values.clone();
                    for node in 0..count {
                        values[node] = self.works(node, word, &values, &callees_of[node], &choices);
                    }
                    if values == before {
                        break;
                    }
                }
                rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
            }
            if start == 0 { self.cold = rows } else { self.steady = rows }
        }
    }

    fn works(&self, node: usize, word: usize, values: &[u64], callees: &[(usize, Term)], choices: &[Vec<u32>]) -> u64 {
        let own = bits(self.own[node], word);
        if self.case.own[node].1 {
            return own;
        }
        let mut all = callees.iter().fold(own, |all, &(callee, guard)| all & (values[callee] | bits(guard, word)));
        for (group, choices) in self.case.groups.iter().zip(choices) {
            if group.caller as usize == node {
                let works = |choice: &u32| {
                    let chosen = group.members.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1);
                    chosen.fold(!0, |all, (_, &member)| all & values[member as usize])
                };
                all &= choices.iter().map(works).fold(0, |any, works| any | works);
                if group.is_redundant() {
                    all &= bits(self.causes[&group.members], word);
                }
            }
        }
        all
    }

    /// Failure ratios of one attempt by rounds from "never", which end at the least solution of
    /// `f = P(callee down | edges weigh impact · (c + (1 − c) · f^k))`.
    fn weigh_retries(&mut self) {
        let reaches = self.case.reaches();
        let retried: Vec<(usize, usize)> = self
            .guards
            .iter()
            .enumerate()
            .filter_map(|(edge, guard)| match guard {
                Term::Varies(variable) if self.case.edges[edge].is_retried() => Some((edge, *variable)),
                _ => None,
            })
            .collect();
        let mut failing = vec![0.0_f64; self.case.own.len()];
        for _ in 0..ROUNDS_MAX {
            for &(edge, variable) in &retried {
                let edge = &self.case.edges[edge];
                let (k, c) = (edge.effect.retry_count, edge.effect.persistent_share);
                let left = c + (1.0 - c) * failing[edge.callee as usize].powi(k as i32);
                let ratio = edge.effect.impact_ratio * left;
                self.steady_ratios[variable] = ratio;
                let in_cycle = reaches[edge.callee as usize][edge.caller as usize];
                self.cold_ratios[variable] = if in_cycle { edge.effect.impact_ratio } else { ratio };
            }
            let mut settled = true;
            let callees: std::collections::BTreeSet<usize> =
                retried.iter().map(|&(edge, _)| self.case.edges[edge].callee as usize).collect();
            for callee in callees {
                let next = self.down(callee);
                settled &= (next - failing[callee]).abs() <= 1e-15 * next;
                failing[callee] = next;
            }
            if settled {
                break;
            }
        }
    }
}

fn bits(term: Term, word: usize) -> u64 {
    match term {
        Term::Up => !0,
        Term::Down => 0,
        Term::Varies(variable) if variable < INSIDE.len() => INSIDE[variable],
        Term::Varies(variable) if word >> (variable - INSIDE.len()) & 1 == 1 => !0,
        Term::Varies(_) => 0,
    }
}

/// Sum of the probabilities of the states that `of` picks from each word.
fn probability(row: &[u64], ratios: &[f64], of: impl Fn(u64) -> u64) -> f64 {
    let ratio = |variable: usize| ratios.get(variable).copied().unwrap_or(0.0);
    let mut lanes = [0.0_f64; 64];
    for (word, &row) in row.iter().enumerate() {
        let outside = ratios.iter().enumerate().skip(INSIDE.len());
        let weight: f64 =
            outside.map(|(v, &q)| if word >> (v - INSIDE.len()) & 1 == 1 { 1.0 - q } else { q }).product();
        let picked = of(row);
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += (picked >> lane & 1) as f64 * weight;
        }
    }
    let of_lane = |lane: usize| {
        let share = |v: usize| if lane >> v & 1 == 1 { 1.0 - ratio(v) } else { ratio(v) };
        (0..INSIDE.len()).map(share).product::<f64>()
    };
    lanes.iter().enumerate().map(|(lane, sum)| sum * of_lane(lane)).sum()
}
