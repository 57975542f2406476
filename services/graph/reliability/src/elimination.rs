//! Exact probabilities by elimination over a frontier: the joint distribution of the components that somebody still has to
//! read, one number for each set of them that is up.
//!
//! Given which components below are down, the components above them fail independently of each other, so nothing else need be
//! remembered. It is bucket elimination (Dechter 1999) on a Bayesian network of noisy-ands, each taken a factor at a time
//! (Heckerman and Breese 1996; Díez and Galán 2003), in one path of tables as frontier methods keep one for a network's
//! boundary (Hardy, Lucet and Limnios 2007). The cost is exponential in how many components are on the frontier at once
//! (see `frontier`), and not in how many partial edges there are, each of which is one more variable to a decision
//! diagram: full layers of n take 2n components whatever their edges.
//!
//! Each step moves nonnegative mass from where a component is up to where it is down, so both the probability of being up and
//! that of being down keep their relative precision. Importances come from the same steps taken backwards (reverse
//! differentiation; for arithmetic circuits Darwiche 2003): the probability is linear in every variable.
//!
//! Only without cycles: round one, what is below is not known first.

use crate::frontier::{Plan, Step};

/// States written down for the way back, at most: 32 MB. Past it the way there is taken again from tables kept on the way.
const TAPE_MAX: usize = 1 << 22;

/// What a run asks and tells.
pub(crate) trait Weights {
    /// Failure ratio of a variable.
    fn failure_ratio(&self, variable: u32) -> f64;

    /// Told of every node before any of its callers reads it: the probability that it is down.
    fn completed(&mut self, node: usize, down: f64);
}

/// Probability that the root is up and that it is down, each with its relative precision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

/// Takes the plan's steps, asking for ratios as they come.
pub(crate) fn run(plan: &Plan, weights: &mut impl Weights) {
    let mut table = vec![1.0];
    for &step in &plan.steps {
        match step {
            Step::Complete { bit, node } => weights.completed(node as usize, down(&table, bit)),
            _ => advance(&mut table, step, &|variable| weights.failure_ratio(variable), None),
        }
    }
}

/// The outcome for the root of the plan, and by variable `P(up | variable up) − P(up | variable down)`.
pub(crate) fn differentiate(
    plan: &Plan,
    variable_count: usize,
    failure_ratio: impl Fn(u32) -> f64,
) -> (Outcome, Vec<f64>) {
    differentiate_within(plan, variable_count, failure_ratio, TAPE_MAX)
}

fn differentiate_within(
    plan: &Plan,
    variable_count: usize,
    failure_ratio: impl Fn(u32) -> f64,
    tape_max: usize,
) -> (Outcome, Vec<f64>) {
    let mut table = vec![1.0];
    let mut kept = vec![(0, table.clone())];
    let mut tape = Tape::default();
    for (position, &step) in plan.steps.iter().enumerate() {
        if tape.states.len() + table.len() > tape_max && !tape.states.is_empty() {
            kept.push((position, table.clone()));
            tape.clear();
        }
        advance(&mut table, step, &failure_ratio, Some(&mut tape));
    }
    let outcome = Outcome { up: table[1], down: table[0] };
    // Of both sides, the smaller one loses fewer digits in a difference.
    let of_failure = outcome.down < outcome.up;
    let mut slopes = Slopes {
        adjoint: if of_failure { vec![1.0, 0.0] } else { vec![0.0, 1.0] },
        of_failure,
        birnbaum: vec![0.0; variable_count],
    };
    let mut end = plan.steps.len();
    while let Some((start, mut table)) = kept.pop() {
        let steps = &plan.steps[start..end];
        if end < plan.steps.len() {
            tape.clear();
            for &step in steps {
                advance(&mut table, step, &failure_ratio, Some(&mut tape));
            }
        }
        for &step in steps.iter().rev() {
            slopes.back(step, &failure_ratio, &mut tape);
        }
        end = start;
    }
    (outcome, slopes.birnbaum)
}

/// Probability of those states in which variables moved mass, as it was before they did.
#[derive(Default)]
struct Tape {
    states: Vec<f64>,
    starts: Vec<usize>,
}

impl Tape {
    fn clear(&mut self) {
        self.states.clear();
        self.starts.clear();
    }
}

fn advance(table: &mut Vec<f64>, step: Step, failure_ratio: &impl Fn(u32) -> f64, tape: Option<&mut Tape>) {
    match step {
        Step::Open => {
            let count = table.len();
            table.resize(2 * count, 0.0);
            let (down, up) = table.split_at_mut(count);
            up.swap_with_slice(down);
        }
        Step::Fail { bit, below, variable: None } => halves(table, bit, below, &mut |down, up| {
            for (down, up) in down.iter_mut().zip(up) {
                *down += std::mem::take(up);
            }
        }),
        Step::Fail { bit, below, variable: Some(variable) } => {
            let q = failure_ratio(variable);
            if let Some(tape) = tape {
                tape.starts.push(tape.states.len());
                halves(table, bit, below, &mut |_, up| tape.states.extend_from_slice(up));
            }
            halves(table, bit, below, &mut |down, up| {
                for (down, up) in down.iter_mut().zip(up) {
                    *down += q * *up;
                    *up *= 1.0 - q;
                }
            });
        }
        Step::FailBelow { bit, required, members } => failing(table, bit, required, members, |down, up| {
            *down += std::mem::take(up);
        }),
        Step::Complete { .. } => {}
        Step::Close { bit } => close(table, bit),
    }
}

fn close(table: &mut Vec<f64>, bit: u32) {
    let run = 1 << bit;
    let (down, up) = table[..2 * run].split_at_mut(run);
    down.iter_mut().zip(up).for_each(|(down, up)| *down += *up);
    for to in (run..table.len() / 2).step_by(run) {
        let (before, from) = table.split_at_mut(2 * to);
        let (down, up) = from[..2 * run].split_at(run);
        let states = down.iter().zip(up).map(|(down, up)| down + up);
        before[to..to + run].iter_mut().zip(states).for_each(|(state, sum)| *state = sum);
    }
    table.truncate(table.len() / 2);
}

fn down(table: &[f64], bit: u32) -> f64 {
    let run = 1 << bit;
    table.chunks_exact(2 * run).map(|block| block[..run].iter().sum::<f64>()).sum()
}

/// How the probability of the end depends on the mass of each state.
struct Slopes {
    /// `P(end | state)` after the step, by state.
    adjoint: Vec<f64>,
    /// Whether the end is the root's failure.
    of_failure: bool,
    birnbaum: Vec<f64>,
}

impl Slopes {
    fn back(&mut self, step: Step, failure_ratio: &impl Fn(u32) -> f64, tape: &mut Tape) {
        let adjoint = &mut self.adjoint;
        match step {
            Step::Open => {
                let count = adjoint.len() / 2;
                adjoint.copy_within(count.., 0);
                adjoint.truncate(count);
            }
            Step::Fail { bit, below, variable: None } => {
                halves(adjoint, bit, below, &mut |down, up| up.copy_from_slice(down));
            }
            Step::Fail { bit, below, variable: Some(variable) } => {
                let q = failure_ratio(variable);
                let start = tape.starts.pop().unwrap_or_default();
                let mut before = tape.states[start..].iter();
                let mut slope = 0.0;
                halves(adjoint, bit, below, &mut |down, up| {
                    for ((down, up), mass) in down.iter().zip(up).zip(&mut before) {
                        slope += mass * (*down - *up);
                        *up = (1.0 - q) * *up + q * *down;
                    }
                });
                tape.states.truncate(start);
                let gain = if self.of_failure { slope } else { -slope };
                self.birnbaum[variable as usize] += gain.max(0.0);
            }
            Step::FailBelow { bit, required, members } => {
                failing(adjoint, bit, required, members, |down, up| *up = *down)
            }
            Step::Complete { .. } => {}
            Step::Close { bit } => {
                let run = 1 << bit;
                let runs = adjoint.chunks_exact(run);
                *adjoint = runs.flat_map(|run| [run, run]).flatten().copied().collect();
            }
        }
    }
}

/// States in which a component is down beside the same in which it is up, run by run; those in which the other is down where
/// there is one.
fn halves(table: &mut [f64], bit: u32, below: Option<u32>, each: &mut impl FnMut(&mut [f64], &mut [f64])) {
    let run = 1_usize << bit;
    match below.map(|below| 1_usize << below) {
        None => split(table, run, each),
        Some(other) if other > run => {
            table.chunks_exact_mut(2 * other).for_each(|block| split(&mut block[..other], run, each));
        }
        Some(other) => split(table, run, &mut |down: &mut [f64], up: &mut [f64]| {
            for (down, up) in down.chunks_exact_mut(2 * other).zip(up.chunks_exact_mut(2 * other)) {
                each(&mut down[..other], &mut up[..other]);
            }
        }),
    }
}

fn split(table: &mut [f64], run: usize, each: &mut impl FnMut(&mut [f64], &mut [f64])) {
    for block in table.chunks_exact_mut(2 * run) {
        let (down, up) = block.split_at_mut(run);
        each(down, up);
    }
}

/// States in which too few of the members are up.
fn failing(table: &mut [f64], bit: u32, required: u32, members: u32, each: impl Fn(&mut f64, &mut f64)) {
    let mut first = 0_u32;
    halves(table, bit, None, &mut |down, up| {
        for (state, (down, up)) in (first..).zip(down.iter_mut().zip(up)) {
            if (state & members).count_ones() < required {
                each(down, up);
            }
        }
        first += 2 << bit;
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bdd::Diagram;
    use crate::equations::{Impact, Order, System};
    use crate::fixed_point::{Schedule, Start, solve};
    use crate::structure::{Component, EdgeEffect, Structure, StructureBuilder};
    use proptest::prelude::*;

    fn system(structure: &Structure) -> System {
        let impact = |edge| {
            let ratio = structure.edge(edge).effect.impact_ratio;
            Impact::of(ratio, ratio)
        };
        System::compile(structure, Component(0), &impact, Order::DepthFirst)
    }

    fn plan(system: &System) -> Option<Plan> {
        Plan::of(&system.steady, &Schedule::of(&system.steady, [0]), Some(0), usize::MAX)
    }

    /// The same probabilities and importances as a diagram's, to a share of 1e-12 of the smaller side.
    fn check(structure: &Structure) -> Result<(), TestCaseError> {
        let system = system(structure);
        let ratio = |v: u32| system.variables[v as usize].failure_ratio;
        let mut diagram = Diagram::new(1_000_000);
        let schedule = Schedule::of(&system.steady, [0]);
        let root = solve(&system.steady, &schedule, Start::AllUp, &mut diagram).unwrap()[0];
        let measures = diagram.measure(root, ratio);
        let (up, down) = (measures.up[root as usize], measures.down[root as usize]);
        let expected = diagram.birnbaum(root, &measures, ratio, system.variables.len());

        let plan = plan(&system).unwrap();
        for tape_max in [TAPE_MAX, 0, 9] {
            let (outcome, birnbaum) = differentiate_within(&plan, system.variables.len(), ratio, tape_max);
            prop_assert!((outcome.up - up).abs() <= 1e-12 * up, "{outcome:?} is not {up}");
            prop_assert!((outcome.down - down).abs() <= 1e-12 * down, "{outcome:?} is not {down}");
            for (found, expected) in birnbaum.iter().zip(&expected) {
                prop_assert!(
                    (found - expected).abs() <= 1e-12 * up.min(down).max(*expected),
                    "{found} is not {expected}"
                );
            }
        }
        Ok(())
    }

    /// Calls lead to greater numbers; a group's members follow its caller.
    fn acyclic() -> impl Strategy<Value = Structure> {
        let ratio = prop_oneof![4 => 0.0..0.4_f64, 1 => Just(0.0), 1 => Just(1.0), 2 => Just(1e-9)];
        let impact = prop_oneof![1 => Just(1.0), 3 => 0.01..0.99_f64];
        (4..12_u32).prop_flat_map(move |count| {
            let groups = (0..count - 3, 1..3_u32, 2..4_u32, any::<bool>(), any::<bool>());
            (
                prop::collection::vec((ratio.clone(), prop::bool::weighted(0.1)), count as usize),
                prop::collection::vec((0..count - 1, 0..count, impact.clone()), 0..24),
                prop::collection::vec(groups, 0..4),
            )
                .prop_map(move |(own, edges, groups)| {
                    let mut builder = StructureBuilder::new();
                    for (ratio, black_box) in own {
                        builder.add_component(ratio, black_box).unwrap();
                    }
                    for (caller, offset, impact) in edges {
                        let callee = Component(caller + 1 + offset % (count - 1 - caller));
                        builder.add_edge(Component(caller), callee, EdgeEffect::partial(impact)).unwrap();
                    }
                    for (caller, required, size, from_the_end, shocked) in groups {
                        let size = size.min(count - 1 - caller);
                        let first = if from_the_end { count - size } else { caller + 1 };
                        let members: Vec<Component> = (first..first + size).map(Component).collect();
                        let share = shocked.then_some(0.3);
                        builder.add_group(Component(caller), &members, required.min(size), share).unwrap();
                    }
                    builder.build()
                })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn elimination_equals_the_diagram(structure in acyclic()) {
            check(&structure)?;
        }
    }

    #[test]
    fn a_cause_that_two_groups_share_is_counted_once() {
        // 0 ⇢ {1, 2}, each with a spare among {3, 4}.
        let mut builder = StructureBuilder::new();
        let [root, one, two, left, right] =
            [0.0, 0.01, 0.02, 0.1, 0.1].map(|q| builder.add_component(q, false).unwrap());
        for (caller, impact) in [(one, 0.5), (two, 0.25)] {
            builder.add_edge(root, caller, EdgeEffect::partial(impact)).unwrap();
            builder.add_group(caller, &[left, right], 1, Some(0.1)).unwrap();
        }
        let structure = builder.build();
        check(&structure).unwrap();
        let system = system(&structure);
        let ratio = |v: u32| system.variables[v as usize].failure_ratio;
        let (outcome, _) = differentiate(&plan(&system).unwrap(), system.variables.len(), ratio);
        let both = 0.01 + 0.99 * 0.01;
        let without = 1.0 - (1.0 - 0.5 * 0.01) * (1.0 - 0.25 * 0.02);
        let expected = both * (1.0 - 0.5 * 0.75) + (1.0 - both) * without;
        assert!((outcome.down - expected).abs() < 1e-15, "{outcome:?} is not {expected}");
    }

    #[test]
    fn a_failure_in_a_million_million_keeps_its_digits() {
        // 0 ⇢ {1, 2} ⇢ 3, all twice in a million million.
        let mut builder = StructureBuilder::new();
        let q = 2e-12;
        let [root, one, two, below] = [q; 4].map(|q| builder.add_component(q, false).unwrap());
        for (caller, callee) in [(root, one), (root, two), (one, below), (two, below)] {
            builder.add_edge(caller, callee, EdgeEffect::partial(0.5)).unwrap();
        }
        let system = system(&builder.build());
        let ratio = |v: u32| system.variables[v as usize].failure_ratio;
        let (outcome, _) = differentiate(&plan(&system).unwrap(), system.variables.len(), ratio);
        // The root's own failures stand in series; of the rest, first and second order by hand.
        let first = 0.5 * q + 0.5 * q + (1.0 - 0.75 * 0.75) * q;
        let relative = outcome.down / first - 1.0;
        assert!(relative.abs() < 1e-11, "{relative}");
    }

    #[test]
    fn round_a_cycle_there_is_no_plan() {
        let mut builder = StructureBuilder::new();
        let [root, other] = [0.1; 2].map(|q| builder.add_component(q, false).unwrap());
        builder.add_edge(root, other, EdgeEffect::partial(0.5)).unwrap();
        builder.add_edge(other, root, EdgeEffect::partial(0.5)).unwrap();
        // Given that the root is up, so is what it needs of itself; from another component's view it is a cycle.
        assert!(plan(&system(&builder.build())).is_some());
        let mut builder = StructureBuilder::new();
        let [root, one, two] = [0.1; 3].map(|q| builder.add_component(q, false).unwrap());
        for (caller, callee) in [(root, one), (one, two), (two, one)] {
            builder.add_edge(caller, callee, EdgeEffect::partial(0.5)).unwrap();
        }
        assert!(plan(&system(&builder.build())).is_none());
    }
}
