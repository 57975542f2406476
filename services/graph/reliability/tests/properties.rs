//! What must hold for every structure, against enumeration of all states written from the definition alone.
#![allow(clippy::unwrap_used)]

use attain_reliability::{
    BoundsMethod, Component, EdgeEffect, Evaluation, EvaluationLimits, EvaluationMethod, RetryMethod, Structure,
    StructureBuilder, evaluate, propagate, propagation,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

const COMPONENTS_MAX: u32 = 6;
const PARTIAL_EDGES_MAX: usize = 6;

#[derive(Debug, Clone)]
struct Case {
    own: Vec<(f64, bool)>,
    edges: Vec<Edge>,
    groups: Vec<Group>,
}

#[derive(Debug, Clone)]
struct Edge {
    caller: u32,
    callee: u32,
    effect: EdgeEffect,
}

#[derive(Debug, Clone)]
struct Group {
    caller: u32,
    members: Vec<u32>,
    required: u32,
    beta: f64,
}

impl Case {
    fn build(&self) -> Structure {
        let mut builder = StructureBuilder::new();
        for &(q, black_box) in &self.own {
            builder.add_component(q, black_box).unwrap();
        }
        for edge in &self.edges {
            let (caller, callee) = (Component(edge.caller), Component(edge.callee));
            builder.add_edge(caller, callee, edge.effect).unwrap();
        }
        for group in &self.groups {
            let members: Vec<Component> = group.members.iter().map(|&m| Component(m)).collect();
            builder.add_group(Component(group.caller), &members, group.required, Some(group.beta)).unwrap();
        }
        builder.build()
    }

    /// Distinct member sets that share a cause, with its probability.
    fn causes(&self) -> BTreeMap<Vec<u32>, f64> {
        let mut causes = BTreeMap::<Vec<u32>, f64>::new();
        for group in self.redundant_groups() {
            let rarest = group.members.iter().map(|&m| self.own[m as usize].0);
            let probability = group.beta * rarest.fold(1.0, f64::min);
            let cause = causes.entry(group.members.clone()).or_default();
            *cause = cause.max(probability);
        }
        causes
    }

    fn redundant_groups(&self) -> impl Iterator<Item = &Group> {
        let redundant = |g: &&Group| (g.required as usize) < g.members.len() && g.beta > 0.0;
        self.groups.iter().filter(redundant)
    }
}

/// Probability of every state, and which of them are up from either start.
struct Enumeration {
    states: Vec<State>,
}

struct State {
    probability_of: Vec<f64>,
    up: Vec<bool>,
    steady: bool,
    cold: bool,
}

impl Enumeration {
    /// Variables: components, then edges, then causes.
    fn of(case: &Case, root: u32) -> Self {
        let causes = case.causes();
        let ratios: Vec<f64> = case
            .own
            .iter()
            .map(|(q, _)| *q)
            .chain(case.edges.iter().map(|edge| edge.effect.impact_ratio))
            .chain(causes.values().copied())
            .collect();
        let mut states = vec![Vec::new()];
        for &q in &ratios {
            let choices: &[bool] = match q {
                0.0 => &[true],
                1.0 => &[false],
                _ => &[true, false],
            };
            // A component's extreme is enumerated too: its importance needs the other branch.
            let is_component = states[0].len() < case.own.len();
            let choices = if is_component { &[true, false] } else { choices };
            states = states
                .into_iter()
                .flat_map(|state: Vec<bool>| {
                    choices.iter().map(move |&up| {
                        let mut next = state.clone();
                        next.push(up);
                        next
                    })
                })
                .collect();
        }
        let states = states
            .into_iter()
            .map(|up| State {
                probability_of: up.iter().zip(&ratios).map(|(&up, &q)| if up { 1.0 - q } else { q }).collect(),
                steady: fixed_point(case, &causes, &up, true)[root as usize],
                cold: fixed_point(case, &causes, &up, false)[root as usize],
                up,
            })
            .collect();
        Self { states }
    }

    fn sum(&self, of: impl Fn(&State) -> bool) -> f64 {
        let matching = self.states.iter().filter(|state| of(state));
        matching.map(|state| state.probability_of.iter().product::<f64>()).sum()
    }

    fn birnbaum(&self, variable: usize) -> f64 {
        let sums = |up: bool| -> f64 {
            let matching = self.states.iter().filter(|s| s.steady && s.up[variable] == up);
            matching
                .map(|state| {
                    let others = state.probability_of.iter().enumerate();
                    others.filter(|(i, _)| *i != variable).map(|(_, p)| p).product::<f64>()
                })
                .sum()
        };
        sums(true) - sums(false)
    }
}

fn fixed_point(case: &Case, causes: &BTreeMap<Vec<u32>, f64>, up: &[bool], start: bool) -> Vec<bool> {
    let count = case.own.len();
    let mut values = vec![start; count];
    loop {
        let next: Vec<bool> = (0..count).map(|node| works(case, causes, up, &values, node)).collect();
        if next == values {
            return values;
        }
        values = next;
    }
}

fn works(case: &Case, causes: &BTreeMap<Vec<u32>, f64>, up: &[bool], values: &[bool], node: usize) -> bool {
    let count = case.own.len();
    if !up[node] || case.own[node].1 {
        return up[node];
    }
    let edges = case
        .edges
        .iter()
        .enumerate()
        .all(|(i, edge)| edge.caller as usize != node || values[edge.callee as usize] || up[count + i]);
    let groups = case.groups.iter().all(|group| {
        let working = group.members.iter().filter(|&&m| values[m as usize]).count();
        group.caller as usize != node || working >= group.required as usize
    });
    let spared = case.redundant_groups().all(|group| {
        let cause = causes.keys().position(|members| *members == group.members);
        group.caller as usize != node || up[count + case.edges.len() + cause.unwrap()]
    });
    edges && groups && spared
}

fn ratio() -> impl Strategy<Value = f64> {
    prop_oneof![4 => 0.0..0.5_f64, 1 => Just(0.0), 1 => Just(1.0), 1 => Just(1e-9)]
}

fn effect(with_retries: bool) -> impl Strategy<Value = EdgeEffect> {
    let impact = prop_oneof![3 => Just(1.0), 3 => 0.01..0.99_f64, 1 => Just(0.0)];
    let retries: u32 = if with_retries { 3 } else { 0 };
    (impact, 0..=retries, 0.0..=1.0_f64).prop_map(|(impact_ratio, retry_count, persistent_share)| EdgeEffect {
        impact_ratio,
        retry_count,
        persistent_share,
    })
}

fn case(with_retries: bool) -> impl Strategy<Value = Case> {
    (2..=COMPONENTS_MAX).prop_flat_map(move |count| {
        let own = (ratio(), prop::bool::weighted(0.1));
        let edge = (0..count, 1..count, effect(with_retries));
        let members = prop::sample::subsequence((1..count).collect::<Vec<u32>>(), 1..count as usize);
        let beta = prop_oneof![Just(0.0), 0.0..1.0_f64];
        let group = (0..count, members, any::<prop::sample::Index>(), beta);
        (
            prop::collection::vec(own, count as usize),
            prop::collection::vec(edge, 0..10),
            prop::collection::vec(group, 0..3),
        )
            .prop_map(move |(own, edges, groups)| assemble(count, own, edges, groups))
    })
}

type DrawnGroup = (u32, Vec<u32>, prop::sample::Index, f64);

/// Turns offsets from the caller into callees, so that nobody calls itself, and keeps the enumeration small.
fn assemble(count: u32, own: Vec<(f64, bool)>, edges: Vec<(u32, u32, EdgeEffect)>, groups: Vec<DrawnGroup>) -> Case {
    let mut partial = 0;
    let edges = edges
        .into_iter()
        .map(|(caller, offset, effect)| Edge { caller, callee: (caller + offset) % count, effect })
        .filter(|edge| {
            let random = edge.effect.impact_ratio > 0.0 && edge.effect.impact_ratio < 1.0;
            partial += usize::from(random);
            !random || partial <= PARTIAL_EDGES_MAX
        })
        .collect();
    let groups = groups
        .into_iter()
        .map(|(caller, offsets, required, beta)| {
            let mut members: Vec<u32> = offsets.iter().map(|o| (caller + o) % count).collect();
            members.sort_unstable();
            Group { caller, required: required.index(members.len()) as u32 + 1, members, beta }
        })
        .collect();
    Case { own, edges, groups }
}

fn exact(structure: &Structure) -> Evaluation {
    let evaluation = evaluate(structure, Component(0), &EvaluationLimits::default());
    assert_eq!(evaluation.method, EvaluationMethod::Exact);
    evaluation
}

fn sampled(structure: &Structure, seed: u64) -> Evaluation {
    let limits = EvaluationLimits { bdd_nodes_max: 0, samples: 20_000, seed };
    evaluate(structure, Component(0), &limits)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_diagram_equals_enumeration(case in case(false)) {
        let found = exact(&case.build());
        let expected = Enumeration::of(&case, 0);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12;
        prop_assert!(close(found.availability_ratio, expected.sum(|s| s.steady)));
        prop_assert!(close(found.unavailability_ratio, expected.sum(|s| !s.steady)));
        prop_assert!(close(found.cold_start_ratio, expected.sum(|s| s.cold)));
        prop_assert!(found.importances_complete);
        for importance in &found.importances {
            let by_hand = expected.birnbaum(importance.component.index());
            prop_assert!(close(importance.birnbaum, by_hand), "{importance:?} is not {by_hand}");
        }
        let causes = case.causes();
        for cause in &found.common_causes {
            let members: Vec<u32> = cause.members.iter().map(|m| m.0).collect();
            let position = causes.keys().position(|m| *m == members).unwrap();
            prop_assert!(close(cause.failure_ratio, causes[&members]));
            // The enumeration fixes a cause that cannot happen, so it cannot weigh it.
            if cause.failure_ratio > 0.0 && cause.failure_ratio < 1.0 {
                let variable = case.own.len() + case.edges.len() + position;
                prop_assert!(close(cause.birnbaum, expected.birnbaum(variable)));
            }
        }
    }

    #[test]
    fn the_bounds_bracket_the_value(case in case(true)) {
        let structure = case.build();
        let found = exact(&structure);
        let value = found.availability_ratio;
        let listed = found.bounds_method == BoundsMethod::EsaryProschan;
        prop_assert_eq!(listed, found.retries == RetryMethod::Exact);
        prop_assert!(found.bounds.0 <= value && value <= found.bounds.1, "{:?}", found);
        let cheap = sampled(&structure, 1);
        let bounds = cheap.bounds;
        prop_assert!(bounds.0 <= value + 1e-12 && value <= bounds.1 + 1e-12, "{value} {cheap:?}");
    }

    #[test]
    fn a_worse_component_never_helps(case in case(true), which in any::<prop::sample::Index>(), by in 0.0..=1.0_f64) {
        let before = exact(&case.build());
        let mut worse = case.clone();
        let own = &mut worse.own[which.index(case.own.len())];
        own.0 += (1.0 - own.0) * by;
        let after = exact(&worse.build());
        // Where only a bound of the retries was known before, the answer was on the safe side and may be known better now.
        let (at_most, cold_at_most) = match before.retries {
            RetryMethod::Exact => (before.availability_ratio, before.cold_start_ratio),
            RetryMethod::Bounded => (before.bounds.1, before.bounds.1),
        };
        prop_assert!(after.availability_ratio <= at_most + 1e-12);
        prop_assert!(after.cold_start_ratio <= cold_at_most + 1e-12);
        prop_assert!(before.cold_start_ratio <= before.availability_ratio);
    }

    #[test]
    fn another_retry_never_hurts(case in case(true)) {
        let before = exact(&case.build());
        let mut more = case.clone();
        for edge in &mut more.edges {
            edge.effect.retry_count += 1;
        }
        let after = exact(&more.build());
        let at_least = match after.retries {
            RetryMethod::Exact => after.availability_ratio,
            RetryMethod::Bounded => after.bounds.1,
        };
        prop_assert!(at_least + 1e-12 >= before.availability_ratio);
    }

    #[test]
    fn the_order_of_edges_and_groups_changes_nothing(case in case(true), turn in any::<prop::sample::Index>()) {
        let mut other = case.clone();
        if !case.edges.is_empty() {
            other.edges.rotate_left(turn.index(case.edges.len()));
        }
        other.edges.reverse();
        other.groups.reverse();
        prop_assert_eq!(exact(&case.build()), exact(&other.build()));
        prop_assert_eq!(sampled(&case.build(), 3), sampled(&other.build(), 3));
    }

    /// Without retries: where no diagram fits, these are bounded, so that the values are not meant to agree.
    #[test]
    fn sampling_agrees_with_the_diagram(case in case(false), seed in 0..1_000_u64) {
        let structure = case.build();
        let (exact, sampled) = (exact(&structure), sampled(&structure, seed));
        let samples = 20_032.0;
        // Six standard errors and the granularity of rare events: once in 10^8 runs by chance.
        let near = |found: f64, expected: f64| {
            let error = (expected * (1.0 - expected) / samples).max(0.0).sqrt();
            (found - expected).abs() <= 6.0 * error + 20.0 / samples
        };
        prop_assert!(near(sampled.availability_ratio, exact.availability_ratio));
        prop_assert!(near(sampled.cold_start_ratio, exact.cold_start_ratio));
        prop_assert!(sampled.interval.0 <= sampled.availability_ratio);
        prop_assert!(sampled.availability_ratio <= sampled.interval.1);
        prop_assert!(sampled.importances_complete);
        let expected: BTreeMap<Component, f64> =
            exact.importances.iter().map(|i| (i.component, i.birnbaum)).collect();
        for importance in &sampled.importances {
            prop_assert!(near(importance.birnbaum, expected[&importance.component]));
        }
    }

    #[test]
    fn propagation_equals_enumeration(case in case(false), down in any::<prop::sample::Index>()) {
        let down = down.index(case.own.len());
        let found = propagate(&case.build(), Component(down as u32), 100_000);
        let mut perfect = case.clone();
        for (node, own) in perfect.own.iter_mut().enumerate() {
            // A black box keeps standing on its own, even above what is down.
            own.0 = if node == down { 1.0 } else { 0.0 };
        }
        for group in &mut perfect.groups {
            group.beta = 0.0;
        }
        for root in 0..case.own.len() {
            let expected = Enumeration::of(&perfect, root as u32).sum(|s| !s.steady);
            prop_assert!((found.impact_ratios[root] - expected).abs() <= 1e-12, "{root}: {expected} {found:?}");
        }
    }

    #[test]
    fn noisy_or_is_on_the_safe_side_without_cycles_and_groups(mut case in case(true)) {
        case.groups.clear();
        case.edges.retain(|edge| edge.caller < edge.callee);
        let structure = case.build();
        let down = Component(case.own.len() as u32 - 1);
        let exact = propagate(&structure, down, 100_000).impact_ratios;
        let approximate = propagation::noisy_or(&structure, down);
        for (exact, approximate) in exact.iter().zip(&approximate) {
            prop_assert!(approximate + 1e-12 >= *exact);
            prop_assert!((*exact == 0.0) == (*approximate == 0.0));
        }
    }
}
