//! Values worked out by hand, and shapes that defeat path enumeration.
#![allow(clippy::unwrap_used)]

use attain_reliability::{
    Component, EdgeEffect, Evaluation, EvaluationLimits, EvaluationMethod, Structure, StructureBuilder, evaluate,
};

fn close(found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-12, "{found} is not {expected}");
}

fn builder(ratios: &[f64]) -> StructureBuilder {
    let mut builder = StructureBuilder::new();
    for &q in ratios {
        builder.add_component(q, false).unwrap();
    }
    builder
}

fn hard(ratios: &[f64], edges: &[(u32, u32)]) -> StructureBuilder {
    let mut builder = builder(ratios);
    for &(caller, callee) in edges {
        builder.add_edge(Component(caller), Component(callee), EdgeEffect::hard()).unwrap();
    }
    builder
}

fn check(structure: &Structure) -> Evaluation {
    let evaluation = evaluate(structure, Component(0), &EvaluationLimits::default());
    assert_eq!(evaluation.method, EvaluationMethod::Exact);
    evaluation
}

#[test]
fn a_shared_database_counts_once_where_the_product_of_slis_counts_it_twice() {
    // 0 → {1, 2} → 3: the recursive product of measured availabilities is A0·(A1·A3)·(A2·A3).
    let q = [0.0, 0.001, 0.001, 0.01];
    let found = check(&hard(&q, &[(0, 1), (0, 2), (1, 3), (2, 3)]).build());
    let once: f64 = q.iter().map(|q| 1.0 - q).product();
    close(found.availability_ratio, once);
    let product_of_slis = (0.999 * 0.99) * (0.999 * 0.99);
    let overstated = (1.0 - product_of_slis) / found.unavailability_ratio;
    assert!(overstated > 1.8, "{overstated}");
}

#[test]
fn redundant_instances_over_one_database_are_no_better_than_it() {
    // Multiplying SLIs is optimistic here: it squares the database's failures away.
    let mut redundant = hard(&[0.0, 0.01, 0.01, 0.05], &[(1, 3), (2, 3)]);
    let members = [Component(1), Component(2)];
    redundant.add_group(Component(0), &members, 1, None).unwrap();
    let found = check(&redundant.build());
    close(found.availability_ratio, 0.95 * (1.0 - 1e-4));
    let of_slis = 1.0 - (1.0 - 0.99 * 0.95_f64).powi(2);
    assert!(of_slis > found.availability_ratio);
    assert_eq!(found.importances[0].component, Component(3));
    close(found.importances[0].contribution, 0.05 * (1.0 - 1e-4));
}

#[test]
fn two_of_three() {
    let mut group = builder(&[0.0, 0.1, 0.1, 0.1]);
    let members = [Component(1), Component(2), Component(3)];
    group.add_group(Component(0), &members, 2, None).unwrap();
    let found = check(&group.build());
    // 3p²q + p³ = 0.972; Birnbaum of each is 2pq.
    close(found.availability_ratio, 0.972);
    close(found.importances[1].birnbaum, 0.18);
    // Minimal cuts and paths are the three pairs.
    close(found.bounds.0, (1.0_f64 - 0.01).powi(3));
    close(found.bounds.1, 1.0 - (1.0_f64 - 0.81).powi(3));
}

#[test]
fn a_common_cause_is_what_remains_of_a_redundant_pair() {
    let mut pair = builder(&[0.0, 0.01, 0.01]);
    let members = [Component(1), Component(2)];
    pair.add_group(Component(0), &members, 1, Some(0.1)).unwrap();
    let found = check(&pair.build());
    close(found.unavailability_ratio, 0.001 + 0.999 * 1e-4);
    assert_eq!(found.common_causes[0].members, members);
    assert!(found.common_causes[0].contribution > 9.0 * found.importances[0].contribution);
}

#[test]
fn a_fallback_saves_its_share() {
    let mut soft = builder(&[0.001, 0.1]);
    let partial = EdgeEffect::partial(0.3 * (1.0 - 0.9));
    soft.add_edge(Component(0), Component(1), partial).unwrap();
    let found = check(&soft.build());
    close(found.availability_ratio, 0.999 * (1.0 - 0.1 * 0.03));
}

#[test]
fn retries_leave_the_persistent_share() {
    let mut retried = builder(&[0.0, 0.1]);
    let effect = EdgeEffect { impact_ratio: 1.0, retry_count: 1, persistent_share: 0.2 };
    retried.add_edge(Component(0), Component(1), effect).unwrap();
    let found = check(&retried.build());
    close(found.unavailability_ratio, 0.1 * (0.2 + 0.8 * 0.1));
}

#[test]
fn a_hard_cycle_runs_but_cannot_start() {
    let found = check(&hard(&[0.1, 0.2, 0.3], &[(0, 1), (1, 2), (2, 1)]).build());
    close(found.availability_ratio, 0.9 * 0.8 * 0.7);
    assert_eq!(found.cold_start_ratio, 0.0);
}

#[test]
fn a_soft_edge_lets_a_cycle_start() {
    let mut cycle = hard(&[0.1, 0.2], &[(0, 1)]);
    cycle.add_edge(Component(1), Component(0), EdgeEffect::partial(0.5)).unwrap();
    let found = check(&cycle.build());
    close(found.availability_ratio, 0.9 * 0.8);
    close(found.cold_start_ratio, 0.9 * 0.8 * 0.5);
}

#[test]
fn a_black_box_hides_what_is_below_it() {
    let mut builder = StructureBuilder::new();
    let top = builder.add_component(0.01, false).unwrap();
    let opaque = builder.add_component(0.05, true).unwrap();
    let below = builder.add_component(0.5, false).unwrap();
    builder.add_edge(top, opaque, EdgeEffect::hard()).unwrap();
    builder.add_edge(opaque, below, EdgeEffect::hard()).unwrap();
    let found = check(&builder.build());
    close(found.availability_ratio, 0.99 * 0.95);
    assert_eq!(found.importances.len(), 2);
}

#[test]
fn one_failure_in_a_billion_keeps_its_digits() {
    let mut pair = builder(&[1e-18, 1e-9, 1e-9]);
    let members = [Component(1), Component(2)];
    pair.add_group(Component(0), &members, 1, None).unwrap();
    let found = check(&pair.build());
    let relative = found.unavailability_ratio / 2e-18 - 1.0;
    assert!(relative.abs() < 1e-9, "{relative}");
}

#[test]
fn components_that_never_work_still_have_an_importance() {
    let found = check(&hard(&[0.1, 1.0], &[(0, 1)]).build());
    assert_eq!(found.availability_ratio, 0.0);
    assert_eq!(found.importances[0].component, Component(1));
    close(found.importances[0].birnbaum, 0.9);
    assert_eq!(found.importances[1].birnbaum, 0.0);
}

/// 9 layers of 6, each calling all of the next: 54 components, 288 edges, 6^8 = 1,679,616 paths from the top.
fn layered(effect: EdgeEffect) -> Structure {
    let mut layers = builder(&[0.001; 54]);
    for caller in 0..48 {
        let next = (caller / 6 + 1) * 6;
        for callee in next..next + 6 {
            layers.add_edge(Component(caller), Component(callee), effect).unwrap();
        }
    }
    layers.build()
}

#[test]
fn full_layers_need_no_path_enumeration() {
    let found = check(&layered(EdgeEffect::hard()));
    close(found.availability_ratio, 0.999_f64.powi(49));
    assert_eq!(found.importances.len(), 49);
}

#[test]
fn full_layers_of_partial_edges_are_exact_too() {
    let structure = layered(EdgeEffect::partial(0.05));
    assert_eq!(structure.edge_count(), 288);
    let found = check(&structure);
    assert!(found.bounds.0 <= found.availability_ratio);
    assert!(found.availability_ratio <= found.bounds.1);
    // Whoever is called works or does not for all callers alike, so a layer is a chain over how many of its members
    // are demanded and down: the same number from a recursion over subsets.
    close(found.unavailability_ratio, layers_by_recursion(0.001, 0.05, 6, 8));
}

/// Failure of a top component over `depth` full layers of `width`, all alike: the joint distribution of how many of a
/// layer are down, from the bottom up. Given m down below, members fail independently with 1 − p(1 − impact)^m.
fn layers_by_recursion(q: f64, impact: f64, width: usize, depth: usize) -> f64 {
    let binomial = |n: usize, k: usize| (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product::<f64>();
    let fail = |below: usize| 1.0 - (1.0 - q) * (1.0 - impact).powi(below as i32);
    let layer = |f: f64| -> Vec<f64> {
        (0..=width).map(|k| binomial(width, k) * f.powi(k as i32) * (1.0 - f).powi((width - k) as i32)).collect()
    };
    let mut down = layer(q);
    for _ in 1..depth {
        let mut next = vec![0.0; width + 1];
        for (below, probability) in down.iter().enumerate() {
            for (k, share) in layer(fail(below)).into_iter().enumerate() {
                next[k] += probability * share;
            }
        }
        down = next;
    }
    let top = down.iter().enumerate();
    top.map(|(below, probability)| probability * fail(below)).sum()
}

#[test]
fn a_hundred_thousand_in_a_row_are_exact() {
    let count = 100_000_u32;
    let mut chain = builder(&vec![1e-6; count as usize]);
    for caller in 0..count - 1 {
        let effect = EdgeEffect::partial(if caller % 2 == 0 { 1.0 } else { 0.5 });
        chain.add_edge(Component(caller), Component(caller + 1), effect).unwrap();
    }
    let found = check(&chain.build());
    let mut down = 0.0;
    for caller in (0..count).rev() {
        let impact = if caller == count - 1 {
            0.0
        } else if caller % 2 == 0 {
            1.0
        } else {
            0.5
        };
        down = 1.0 - (1.0 - 1e-6) * (1.0 - impact * down);
    }
    assert!((found.unavailability_ratio - down).abs() < 1e-9);
    assert_eq!(found.importances.len(), count as usize);
}

#[test]
fn past_the_limit_a_seeded_estimate_covers_the_exact_value() {
    let structure = layered(EdgeEffect::partial(0.3));
    let exact = layers_by_recursion(0.001, 0.3, 6, 8);
    for seed in [1, 2, 3] {
        let limits = EvaluationLimits { bdd_nodes_max: 500, samples: 50_000, seed };
        let found = evaluate(&structure, Component(0), &limits);
        assert_eq!(found.method, EvaluationMethod::MonteCarlo);
        assert_eq!(found, evaluate(&structure, Component(0), &limits));
        let four_sigma = 4.0 * (exact * (1.0 - exact) / 50_000.0).sqrt();
        assert!((found.unavailability_ratio - exact).abs() <= four_sigma);
        let width = found.interval.1 - found.interval.0;
        assert!(width > 0.0 && width < four_sigma, "{:?}", found.interval);
    }
}
