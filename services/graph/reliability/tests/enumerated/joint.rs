//! Roots that are estimated together.

use crate::cases::{Edge, Size, case};
use crate::enumeration::{Enumeration, Term};
use crate::{WIDE, fixed_cases};
use attain_reliability::{
    Component, EdgeEffect, EvaluationLimits, JointEvaluation, JointQuestion, RetryMethod, Structure, evaluate_jointly,
};
use proptest::prelude::*;

const SAMPLES: u32 = 8_192;
const SMALL: Size = Size { components: (4, 10), variables_max: 14, with_retries: true };

fn everybody(structure: &Structure) -> Vec<Component> {
    (0..structure.component_count() as u32).map(Component).collect()
}

fn limits(seed: u64) -> EvaluationLimits {
    EvaluationLimits { samples: SAMPLES, seed, ..EvaluationLimits::default() }
}

fn both(before: &Structure, after: &Structure, roots: &[Component]) -> Vec<JointEvaluation> {
    let important = everybody(before);
    let question = JointQuestion { before, after: Some(after), roots, important: &important };
    evaluate_jointly(&question, &limits(3), &|| false).unwrap()
}

/// As for single roots: were cases and seeds drawn anew, more than 20 misses of 100 would have a probability below 1e-7, and a
/// value six standard errors away one below 1e-5 for all of them together.
#[test]
fn estimates_stay_within_their_intervals() {
    let (mut interval_count, mut missed_count) = (0, 0);
    for (seed, case) in (1..).zip(fixed_cases(WIDE, 100)) {
        let structure = case.build();
        let expected = Enumeration::of(&case);
        let roots = everybody(&structure);
        let question = JointQuestion { before: &structure, after: None, roots: &roots, important: &roots };
        let found = evaluate_jointly(&question, &limits(seed), &|| false).unwrap();
        for (root, found) in roots.iter().zip(found) {
            assert_eq!(found.after, None);
            let found = found.before;
            let near = |estimate: f64, value: f64| {
                let error = (value * (1.0 - value) / f64::from(SAMPLES)).max(0.0).sqrt();
                assert!((estimate - value).abs() <= 6.0 * error + 20.0 / f64::from(SAMPLES), "{value} {found:?}");
            };
            let up = expected.up(&expected.steady, &expected.steady_ratios, root.index());
            near(found.availability_ratio, up);
            near(1.0 - found.unavailability_ratio, up);
            near(found.cold_start_ratio, expected.up(&expected.cold, &expected.cold_ratios, root.index()));
            assert!(found.bounds.0 <= up + 1e-12 && up <= found.bounds.1 + 1e-12, "{up} {found:?}");
            assert!(found.interval.0 <= found.availability_ratio && found.availability_ratio <= found.interval.1);
            if root.index() > 0 {
                continue;
            }
            interval_count += 1;
            missed_count += u32::from(up < found.interval.0 - 1e-12 || up > found.interval.1 + 1e-12);
            let by_variable = expected.birnbaum(0);
            for importance in &found.importances {
                if let Term::Varies(variable) = expected.own[importance.component.index()] {
                    near(importance.birnbaum, by_variable[variable]);
                    let ratio = structure.own_failure_ratio(importance.component);
                    assert!((importance.contribution - importance.birnbaum * ratio).abs() < 1e-15);
                }
            }
        }
    }
    assert_eq!(interval_count, 100);
    assert!(missed_count <= 20, "{missed_count} of {interval_count} intervals miss");
}

/// Samples that are never given up, and those that are given up after one block.
#[test]
fn what_is_given_up_is_no_estimate() {
    let structure = fixed_cases(WIDE, 1)[0].build();
    let roots = everybody(&structure);
    let question = JointQuestion { before: &structure, after: None, roots: &roots, important: &[] };
    let turns = std::cell::Cell::new(0);
    let after_one_block = || turns.replace(turns.get() + 1) >= 1;
    assert_eq!(evaluate_jointly(&question, &limits(1), &after_one_block), None);
    assert!(evaluate_jointly(&question, &limits(1), &|| false).is_some());
}

#[test]
fn calls_that_nobody_makes_twice_fail_by_themselves() {
    // Two calls between the same two, each with a fallback of its own, and two shielded groups of the same members.
    let structure = |q: f64| {
        let mut builder = attain_reliability::StructureBuilder::new();
        let [root, one, two] = [0.0, q, q].map(|q| builder.add_component(q, false).unwrap());
        let half = EdgeEffect::partial(0.5);
        builder.add_edge(root, one, half).unwrap();
        builder.add_edge(root, one, half).unwrap();
        builder.add_shielded_group(root, &[one, two], 1, None, half).unwrap();
        builder.build()
    };
    let structure = structure(1.0);
    let question = JointQuestion { before: &structure, after: None, roots: &[Component(0)], important: &[] };
    let found = &evaluate_jointly(&question, &limits(1), &|| false).unwrap()[0].before;
    assert!(found.interval.0 <= 0.125 && 0.125 <= found.interval.1, "{found:?}");
}

fn is_at_most(after: &JointEvaluation) -> bool {
    let JointEvaluation { before, after } = after;
    let after = after.as_ref().unwrap();
    // Where a bound cuts an estimate, the last digit of its logarithm may be any.
    after.availability_ratio <= before.availability_ratio + 1e-14
        && after.cold_start_ratio <= before.cold_start_ratio + 1e-14
        && after.interval.0 <= before.interval.0 + 1e-14
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_estimate_depends_neither_on_who_else_is_asked_nor_on_the_order(
        case in case(SMALL),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut other = case.clone();
        if !case.edges.is_empty() {
            other.edges.rotate_left(turn.index(case.edges.len()));
        }
        other.groups.reverse();
        let (structure, other) = (case.build(), other.build());
        let roots = everybody(&structure);
        let together = both(&structure, &structure, &roots);
        let backwards: Vec<Component> = roots.iter().rev().copied().collect();
        let mut reordered = both(&other, &other, &backwards);
        reordered.reverse();
        prop_assert_eq!(&together, &reordered);
        for (root, found) in roots.iter().zip(&together) {
            prop_assert_eq!(&both(&structure, &structure, &[*root])[0], found);
            prop_assert_eq!(Some(&found.before), found.after.as_ref(), "nothing changed");
        }
    }

    #[test]
    fn a_change_and_its_reverse_cancel(case in case(SMALL), other in case(SMALL)) {
        let mut changed = case.clone();
        changed.own[0] = other.own[0];
        changed.edges.pop();
        let (before, after) = (case.build(), changed.build());
        let roots = everybody(&before);
        let reverse = both(&after, &before, &roots);
        for (there, back) in both(&before, &after, &roots).into_iter().zip(reverse) {
            prop_assert_eq!(Some(there.before), back.after);
            prop_assert_eq!(there.after, Some(back.before));
        }
    }

    #[test]
    fn whatever_gets_worse_helps_nobody(
        case in case(SMALL),
        which in any::<prop::sample::Index>(),
        by in 0.0..=1.0_f64,
    ) {
        let more = |ratio: f64| (ratio + (1.0 - ratio) * by).min(1.0);
        let mut worse = case.clone();
        let own = &mut worse.own[which.index(case.own.len())];
        own.0 = more(own.0);
        let roots = everybody(&case.build());
        let found = both(&case.build(), &worse.build(), &roots);
        prop_assert!(found.iter().all(is_at_most), "{found:?}");
        if let Some(last) = case.edges.len().checked_sub(1) {
            let mut harder = case.clone();
            let edge: &mut Edge = &mut harder.edges[which.index(last + 1)];
            edge.effect.impact_ratio = more(edge.effect.impact_ratio);
            let parallel = |other: &&Edge| (other.caller, other.callee) == (edge.caller, edge.callee);
            let twice = case.edges.iter().filter(parallel).count() > 1;
            let found = both(&case.build(), &harder.build(), &roots);
            // Of calls between the same two the order among them may change, and a call that did not matter may close a cycle,
            // whose bounds are wider.
            let new = case.edges[which.index(last + 1)].effect.impact_ratio == 0.0;
            prop_assert!(twice || new || found.iter().all(is_at_most), "{found:?}");
        }
    }

    #[test]
    fn bounds_hold_with_retries(case in case(SMALL)) {
        let structure = case.build();
        let expected = Enumeration::of(&case);
        let roots = everybody(&structure);
        for (root, found) in roots.iter().zip(both(&structure, &structure, &roots)) {
            let up = expected.up(&expected.steady, &expected.steady_ratios, root.index());
            let found = found.before;
            prop_assert!(found.bounds.0 <= up + 1e-12 && up <= found.bounds.1 + 1e-12, "{} {:?}", up, found);
            if found.retries == RetryMethod::Bounded {
                prop_assert_eq!(found.interval.1, found.bounds.1);
            }
        }
    }
}
