//! Several roots estimated from the same samples, in one state of a system or in two.
//!
//! One evaluation of all components for 64 sampled states a word gives every root at once, where `monte_carlo` would solve what
//! each root reaches anew. What is random is drawn by what it is (see `draws`): a root's estimate depends neither on which
//! other roots are asked about nor on the order of edges, and whatever is the same in two states fails in the same samples. So
//! two equal states have equal estimates, and a component that fails more often lowers no sample's availability but that of
//! samples in which it now fails.
//!
//! Nothing is factored out beforehand, as roots have different things in series. What retries leave of edges is read off the
//! bound from above of `association`, hence [`RetryMethod::Bounded`] for whoever reaches one.

use crate::association::Association;
use crate::bounds::{self, BoundsMethod};
use crate::draws::{BLOCK_STATES, BLOCK_WORDS, Block, Draws};
use crate::equations::{Clause, Equation, Numbering, Source, Variable};
use crate::evaluate::{Evaluation, EvaluationLimits, EvaluationMethod};
use crate::fixed_point::{Algebra, Schedule, Start, solve_component};
use crate::importance::{self, Importance};
use crate::monte_carlo::{cost_of, wilson_interval};
use crate::retries::{self, Attempts, RetryMethod};
use crate::structure::{Component, Structure};
use std::convert::Infallible;

/// Word operations spent on samples, all roots and states together: about a second on one core. Graphs of tens of thousands of
/// components get fewer samples for it, but at least one block.
const SAMPLE_OPERATIONS_MAX: usize = 800_000_000;
/// Word operations spent on importances: about as long as a quarter of the samples.
const IMPORTANCE_OPERATIONS_MAX: usize = 400_000_000;

/// What is estimated together.
#[derive(Debug, Clone, Copy)]
pub struct JointQuestion<'a> {
    /// One state.
    pub before: &'a Structure,
    /// Another one, in which a component is still the one of the same index.
    pub after: Option<&'a Structure>,
    /// Who is evaluated, in both states.
    pub roots: &'a [Component],
    /// Whose importances are wanted. The more they are, the fewer samples each is estimated from; where not even one block of
    /// them is left, only those that fail most often are.
    pub important: &'a [Component],
}

/// What joint sampling says of one root. Of importances it has those asked for that are not 0, and no common causes.
#[derive(Debug, Clone, PartialEq)]
pub struct JointEvaluation {
    /// In the first state.
    pub before: Evaluation,
    /// In the other one, if there is one.
    pub after: Option<Evaluation>,
}

/// Estimates the availability of every root, in the order asked; nothing when `give_up` says so between two blocks of samples.
///
/// # Panics
/// When a root or an important component is not of both structures.
#[must_use]
pub fn evaluate_jointly(
    question: &JointQuestion,
    limits: &EvaluationLimits,
    give_up: &dyn Fn() -> bool,
) -> Option<Vec<JointEvaluation>> {
    let mut draws = Draws::new(limits.seed);
    let side = |structure| Side::of(structure, question.roots, &mut draws);
    let mut sides: Vec<Side> = std::iter::once(question.before).chain(question.after).map(side).collect();
    let cost = sides.iter().map(|side| side.cost).sum();
    let block_count = block_count(limits.samples, draws.cost() + cost);
    let (important, ranked_count) = ranked(question, cost, block_count);
    for side in &mut sides {
        side.held = important.iter().filter_map(|&component| side.held(component)).collect();
    }
    for block in 0..block_count {
        if give_up() {
            return None;
        }
        draws.draw(block);
        for side in &mut sides {
            side.sample(&draws);
            if block < ranked_count {
                side.sample_importances(&draws);
            }
        }
    }
    let of_side = |side: &Side| side.evaluations(block_count * BLOCK_STATES, ranked_count * BLOCK_STATES);
    let mut evaluations = sides.iter().map(of_side);
    let before = evaluations.next().into_iter().flatten();
    let mut after = evaluations.next().into_iter().flatten();
    Some(before.map(|before| JointEvaluation { before, after: after.next() }).collect())
}

/// As many blocks as asked for, within what a call may take; `cost` is in operations a word.
fn block_count(sample_count: u32, cost: usize) -> u64 {
    let affordable = SAMPLE_OPERATIONS_MAX / (cost.max(1) * BLOCK_WORDS);
    u64::from(sample_count).div_ceil(BLOCK_STATES).clamp(1, (affordable as u64).max(1))
}

/// Whose importances there is a budget for, and from how many blocks; `cost` is in operations a word.
fn ranked(question: &JointQuestion, cost: usize, block_count: u64) -> (Vec<Component>, u64) {
    let failure_ratio = |component: Component| {
        let structures = std::iter::once(question.before).chain(question.after);
        structures.map(|structure| structure.own_failure_ratio(component)).fold(0.0, f64::max)
    };
    let mut important = question.important.to_vec();
    important.sort_by(|&a, &b| failure_ratio(b).total_cmp(&failure_ratio(a)).then(a.cmp(&b)));
    important.dedup();
    let affordable = IMPORTANCE_OPERATIONS_MAX / (2 * cost.max(1) * BLOCK_WORDS);
    important.truncate(affordable.max(1));
    let per_component = affordable / important.len().max(1);
    (important, (per_component as u64).clamp(1, block_count))
}

/// One state of the system.
struct Side<'a> {
    structure: &'a Structure,
    equations: Vec<Equation>,
    schedule: Schedule,
    /// Operations that solving one word takes, from a cold start too where that makes a difference.
    cost: usize,
    /// By variable: where its states are drawn, in the steady state and from a cold start.
    steady: Vec<u32>,
    cold: Vec<u32>,
    /// By variable.
    sources: Vec<Source>,
    roots: Vec<Root>,
    held: Vec<Held>,
    /// By node, in the samples at hand, and room to work in.
    values: Vec<Block>,
    others: Vec<Block>,
    operands: Vec<Block>,
}

struct Root {
    node: usize,
    /// Samples in which it is up.
    up_count: u64,
    cold_up_count: u64,
    bounds: (f64, f64),
    retries: RetryMethod,
}

/// A component that is held up and then down in the same samples.
struct Held {
    component: Component,
    variable: u32,
    /// Places in the schedule of whatever is above it, itself included.
    above: Vec<usize>,
    /// By root: samples in which it is up or down as the component is.
    gains: Vec<u64>,
}

impl<'a> Side<'a> {
    fn of(structure: &'a Structure, roots: &[Component], draws: &mut Draws) -> Self {
        let association = Association::below(structure, structure.components());
        let attempts = Attempts::bounded(structure, &association);
        let impact = |edge| attempts.impact(structure, &association, edge);
        let mut numbering = Numbering::new(structure, &impact);
        roots.iter().for_each(|&root| numbering.depth_first(root));
        let equations = numbering.equations();
        let node_of = |root| numbering.node_of(root).expect("every root was numbered");
        let schedule = Schedule::of(&equations, roots.iter().map(|&root| node_of(root)));
        let names = names(structure, &numbering, equations.len());
        let mut positions = |ratio: fn(&Variable) -> f64| -> Vec<u32> {
            numbering.variables.iter().zip(&names).map(|(v, &name)| draws.position(name, ratio(v))).collect()
        };
        let steady = positions(|variable| variable.failure_ratio);
        let cold = if schedule.is_cyclic() { positions(|variable| variable.cold_failure_ratio) } else { Vec::new() };
        let brackets = bounds::brackets(structure, &association);
        let retried = retries::rests_on_retries(structure, &association);
        let root = |&root: &Component| Root {
            node: node_of(root),
            up_count: 0,
            cold_up_count: 0,
            bounds: brackets[root.index()],
            retries: if retried[root.index()] { RetryMethod::Bounded } else { RetryMethod::Exact },
        };
        Self {
            structure,
            roots: roots.iter().map(root).collect(),
            cost: cost_of(&equations, &schedule) * if cold.is_empty() { 1 } else { 2 },
            sources: numbering.variables.iter().map(|variable| variable.source).collect(),
            held: Vec::new(),
            values: vec![[0; BLOCK_WORDS]; equations.len()],
            others: Vec::new(),
            operands: Vec::new(),
            equations,
            schedule,
            steady,
            cold,
        }
    }

    /// Nothing where no root reaches it.
    fn held(&self, component: Component) -> Option<Held> {
        let is_own = |source: &Source| *source == Source::Own(component);
        let variable = self.sources.iter().position(is_own)? as u32;
        let mut touched = vec![false; self.equations.len()];
        let mut above = Vec::new();
        for (place, members) in self.schedule.components().iter().enumerate() {
            let is_touched = |&node: &usize| {
                let equation = &self.equations[node];
                let mut callees = equation.clauses.iter().flat_map(Clause::nodes);
                equation.own.contains(&variable) || callees.any(|&callee| touched[callee])
            };
            if members.iter().any(is_touched) {
                members.iter().for_each(|&node| touched[node] = true);
                above.push(place);
            }
        }
        Some(Held { component, variable, above, gains: vec![0; self.roots.len()] })
    }

    fn sample(&mut self, draws: &Draws) {
        let Self { equations, schedule, values, others, operands, .. } = self;
        let mut solve = |positions: &[u32], start: Start, values: &mut Vec<Block>| {
            let mut world = World { draws, positions, held: None };
            values.clear();
            values.resize(equations.len(), world.constant(start == Start::AllUp));
            for members in schedule.components() {
                let Ok(()) = solve_component(equations, members, values, operands, &mut world);
            }
        };
        solve(&self.steady, Start::AllUp, values);
        self.roots.iter_mut().for_each(|root| root.up_count += count(&values[root.node]));
        if self.cold.is_empty() {
            self.roots.iter_mut().for_each(|root| root.cold_up_count = root.up_count);
        } else {
            solve(&self.cold, Start::AllDown, others);
            self.roots.iter_mut().for_each(|root| root.cold_up_count += count(&others[root.node]));
        }
    }

    /// In the samples that were solved last.
    fn sample_importances(&mut self, draws: &Draws) {
        let Self { equations, schedule, steady, roots, held, values, others, operands, .. } = self;
        let schedule = schedule.components();
        for held in held {
            let mut up_count = |up: bool| -> Vec<u64> {
                let mut world = World { draws, positions: steady, held: Some((held.variable, up)) };
                others.clone_from(values);
                for members in held.above.iter().map(|&place| &schedule[place]) {
                    members.iter().for_each(|&node| others[node] = world.constant(true));
                    let Ok(()) = solve_component(equations, members, others, operands, &mut world);
                }
                roots.iter().map(|root| count(&others[root.node])).collect()
            };
            let (with, without) = (up_count(true), up_count(false));
            for (gain, (with, without)) in held.gains.iter_mut().zip(with.into_iter().zip(without)) {
                *gain += with - without;
            }
        }
    }

    fn evaluations(&self, sample_count: u64, ranked_sample_count: u64) -> Vec<Evaluation> {
        let of_root = |(index, root): (usize, &Root)| {
            let importances = self.held.iter().filter(|held| held.gains[index] > 0).map(|held| {
                let birnbaum = held.gains[index] as f64 / ranked_sample_count as f64;
                let contribution = birnbaum * self.structure.own_failure_ratio(held.component);
                Importance { component: held.component, birnbaum, contribution }
            });
            let mut importances: Vec<Importance> = importances.collect();
            importances.sort_by(importance::greatest_first);
            Evaluation { importances, ..root.evaluation(sample_count) }
        };
        self.roots.iter().enumerate().map(of_root).collect()
    }
}

impl Root {
    fn evaluation(&self, sample_count: u64) -> Evaluation {
        let (low, high) = self.bounds;
        let within = |ratio: f64| ratio.max(low).min(high);
        let share = |count: u64| count as f64 / sample_count as f64;
        let availability_ratio = within(share(self.up_count));
        let unsampled = availability_ratio != share(self.up_count);
        let interval = wilson_interval(self.up_count, sample_count);
        let interval_high = match self.retries {
            RetryMethod::Exact => within(interval.1),
            // Only what retries could save at best is a bound.
            RetryMethod::Bounded => high,
        };
        Evaluation {
            availability_ratio,
            unavailability_ratio: if unsampled {
                1.0 - availability_ratio
            } else {
                share(sample_count - self.up_count)
            },
            method: EvaluationMethod::MonteCarlo,
            retries: self.retries,
            interval: (within(interval.0), interval_high),
            bounds: self.bounds,
            bounds_method: BoundsMethod::Bracket,
            cold_start_ratio: if self.cold_up_count < self.up_count {
                share(self.cold_up_count).min(availability_ratio)
            } else {
                availability_ratio
            },
            cold_start_method: EvaluationMethod::MonteCarlo,
            importances: Vec::new(),
            importances_complete: false,
            common_causes: Vec::new(),
        }
    }
}

/// By variable: what samples call it.
fn names(structure: &Structure, numbering: &Numbering, node_count: usize) -> Vec<u64> {
    let of_source = |source| match source {
        Source::Own(component) => structure.own(component).name,
        Source::CommonCause(cause) => structure.cause_name(cause),
        Source::Fallback => 0,
    };
    let mut names: Vec<u64> = numbering.variables.iter().map(|variable| of_source(variable.source)).collect();
    for caller in (0..node_count).map(|node| numbering.component_of(node)) {
        for (edge, name) in structure.call_names(caller) {
            if let Some(variable) = numbering.guard_of(edge) {
                names[variable as usize] = name;
            }
        }
    }
    names
}

fn count(block: &Block) -> u64 {
    block.iter().map(|word| u64::from(word.count_ones())).sum()
}

/// The states at hand, with one variable held where importances are asked for.
struct World<'a> {
    draws: &'a Draws,
    positions: &'a [u32],
    held: Option<(u32, bool)>,
}

impl Algebra for World<'_> {
    type Value = Block;
    type Error = Infallible;

    fn constant(&self, up: bool) -> Block {
        [if up { !0 } else { 0 }; BLOCK_WORDS]
    }

    fn variable(&mut self, variable: u32) -> Result<Block, Infallible> {
        match self.held {
            Some((held, up)) if held == variable => Ok(self.constant(up)),
            _ => Ok(*self.draws.up(self.positions[variable as usize])),
        }
    }

    fn and(&mut self, a: Block, b: Block) -> Result<Block, Infallible> {
        Ok(std::array::from_fn(|word| a[word] & b[word]))
    }

    fn or(&mut self, a: Block, b: Block) -> Result<Block, Infallible> {
        Ok(std::array::from_fn(|word| a[word] | b[word]))
    }
}
