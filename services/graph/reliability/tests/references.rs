//! Values worked out by hand, and shapes that defeat path enumeration.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use attain_reliability::{
    BoundsMethod, Component, EdgeEffect, Evaluation, EvaluationLimits, EvaluationMethod, RetryMethod, Structure,
    StructureBuilder, evaluate,
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

fn retried(retry_count: u32, persistent_share: f64) -> EdgeEffect {
    EdgeEffect { impact_ratio: 1.0, retry_count, persistent_share }
}

#[test]
fn an_attempt_fails_by_everything_below_the_callee_each_part_once() {
    // 0 ⇢ 1 → {2, 3} → 4, ⇢ retried: 4 is shared, so the recursive product would overstate the failed attempt.
    let q = [0.0, 0.01, 0.02, 0.03, 0.1];
    let mut diamond = hard(&q, &[(1, 2), (1, 3), (2, 4), (3, 4)]);
    diamond.add_edge(Component(0), Component(1), retried(2, 0.25)).unwrap();
    let found = check(&diamond.build());
    let f = 1.0 - 0.99 * 0.98 * 0.97 * 0.9;
    assert_eq!(found.retries, RetryMethod::Exact);
    close(found.unavailability_ratio, f * (0.25 + 0.75 * f * f));
}

#[test]
fn retries_on_the_way_down_are_nested() {
    let mut chain = builder(&[0.01, 0.1, 0.2]);
    chain.add_edge(Component(0), Component(1), retried(1, 0.2)).unwrap();
    chain.add_edge(Component(1), Component(2), retried(3, 0.5)).unwrap();
    let found = check(&chain.build());
    let lost_below = 0.2 * (0.5 + 0.5 * 0.2_f64.powi(3));
    let f = 1.0 - 0.9 * (1.0 - lost_below);
    close(found.availability_ratio, 0.99 * (1.0 - f * (0.2 + 0.8 * f)));
}

#[test]
fn round_a_cycle_an_attempt_fails_by_the_least_solution() {
    // f = 1 − (1 − q)(1 − q f) for two alike that retry each other once.
    let q = 0.2;
    let mut pair = builder(&[q, q]);
    pair.add_edge(Component(0), Component(1), retried(1, 0.0)).unwrap();
    pair.add_edge(Component(1), Component(0), retried(1, 0.0)).unwrap();
    let found = check(&pair.build());
    let f = q / (1.0 - (1.0 - q) * q);
    close(found.unavailability_ratio, f);
    // What has never come up fails every attempt.
    assert_eq!(found.cold_start_ratio, 0.0);
}

#[test]
fn the_least_solution_is_found_where_the_members_of_a_cycle_pass_a_rise_on_unlike() {
    // 0 → 1 → 2 → 3 → 4 → 0, where 0 → 1, 1 → 2 and 2 → 3 retry once.
    let q = [0.04, 0.13, 0.0, 0.13, 0.27];
    let mut ring = hard(&q, &[(3, 4), (4, 0)]);
    for caller in 0..3 {
        ring.add_edge(Component(caller), Component(caller + 1), retried(1, 0.0)).unwrap();
    }
    let found = check(&ring.build());
    assert_eq!(found.retries, RetryMethod::Exact);
    // 3 and 4 call whatever they call for certain; 1 is down with its own parts, or when two retried calls in a row are
    // lost to what is down behind them.
    let [root, first, last] = [1.0 - q[0], 1.0 - q[1], (1.0 - q[3]) * (1.0 - q[4])];
    let down_1 = |lost: f64, behind: f64| 1.0 - first * (1.0 - lost * (1.0 - behind));
    let (mut f1, mut f2, mut f3) = (0.0, 0.0, 0.0);
    for _ in 0..10_000 {
        f1 = down_1(f2 * f3, last * root);
        f3 = 1.0 - last * root * (1.0 - f1 * (1.0 - first));
        f2 = f3 * f3;
    }
    close(found.availability_ratio, root * (1.0 - f1 * down_1(f2 * f3, last)));
}

#[test]
fn past_the_limit_retries_are_bounded_and_the_answer_says_so() {
    let structure = layered(EdgeEffect { retry_count: 2, persistent_share: 0.5, ..EdgeEffect::partial(0.3) });
    let exact = check(&structure);
    assert_eq!(exact.retries, RetryMethod::Exact);
    let limits = EvaluationLimits { bdd_nodes_max: 500, samples: 50_000, seed: 1 };
    let found = evaluate(&structure, Component(0), &limits);
    assert_eq!(found.retries, RetryMethod::Bounded);
    assert_eq!(found.bounds_method, BoundsMethod::Bracket);
    assert!(found.bounds.0 <= exact.availability_ratio && exact.availability_ratio <= found.bounds.1);
    assert!(found.interval.0 <= exact.availability_ratio && exact.availability_ratio <= found.interval.1);
    assert!(found.interval.1 > found.availability_ratio);
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

/// Own failure ratios and effects, all different, of 9 layers of 6.
struct UnlikeLayers {
    own: Vec<f64>,
    effects: Vec<EdgeEffect>,
}

impl UnlikeLayers {
    fn new(retry_count: u32) -> Self {
        let own = (0..54).map(|node| 1e-6 * f64::from(1 + node * 37 % 54)).collect();
        let effects = (0..288).map(|edge| EdgeEffect {
            impact_ratio: 0.05 + 0.003 * f64::from(edge * 101 % 288),
            retry_count,
            persistent_share: 0.3,
        });
        Self { own, effects: effects.collect() }
    }

    fn build(&self) -> Structure {
        let mut layers = builder(&self.own);
        for (edge, &effect) in (0..).zip(&self.effects) {
            let caller = edge / 6;
            let callee = (caller / 6 + 1) * 6 + edge % 6;
            layers.add_edge(Component(caller), Component(callee), effect).unwrap();
        }
        layers.build()
    }

    /// Probability that component 0 is down, from the probability of every set of a layer's components that are down, layer
    /// by layer from below. What retries leave is taken as given, or from each callee's own probability where it is not.
    fn unavailability(&self, own: &[f64], left: Option<&[f64]>) -> (f64, Vec<f64>) {
        let mut lefts = vec![1.0; 288];
        let mut sets = vec![1.0];
        for layer in (0..9).rev() {
            let below = std::mem::take(&mut sets);
            let failing = |caller: usize, set: usize, lefts: &[f64]| {
                let mut down = own[caller];
                for callee in (0..6).filter(|callee| set >> callee & 1 == 1) {
                    let edge = caller * 6 + callee;
                    down += (1.0 - down) * self.effects[edge].impact_ratio * lefts[edge];
                }
                down
            };
            sets = vec![0.0; 64];
            for (set, &probability) in below.iter().enumerate() {
                let down: Vec<f64> = (0..6).map(|caller| failing(layer * 6 + caller, set, &lefts)).collect();
                for (above, sum) in sets.iter_mut().enumerate() {
                    let factor = |caller: usize| {
                        if above >> caller & 1 == 1 { down[caller] } else { 1.0 - down[caller] }
                    };
                    *sum += probability * (0..6).map(factor).product::<f64>();
                }
            }
            for edge in (0..288).filter(|edge| layer > 0 && edge / 36 == layer - 1) {
                let holds = |set: &usize| set >> (edge % 6) & 1 == 1;
                let f: f64 = (0..64).filter(holds).map(|set| sets[set]).sum();
                let effect = self.effects[edge];
                let of_callee =
                    effect.persistent_share + (1.0 - effect.persistent_share) * f.powi(effect.retry_count as i32);
                lefts[edge] = left.map_or(of_callee, |left| left[edge]);
            }
        }
        ((0..64).filter(|set| set & 1 == 1).map(|set| sets[set]).sum(), lefts)
    }
}

#[test]
fn unlike_layers_of_partial_edges_are_exact_with_retries_and_without() {
    for retry_count in [0, 2] {
        let layers = UnlikeLayers::new(retry_count);
        let found = check(&layers.build());
        assert_eq!(found.retries, RetryMethod::Exact);
        let (expected, left) = layers.unavailability(&layers.own, None);
        let relative = found.unavailability_ratio / expected - 1.0;
        assert!(relative.abs() < 1e-12, "{relative}");
        assert!(found.bounds.0 <= found.availability_ratio && found.availability_ratio <= found.bounds.1);
        assert_eq!(found.importances.len(), 49);
        for importance in &found.importances {
            let down_given = |ratio| {
                let mut own = layers.own.clone();
                own[importance.component.index()] = ratio;
                layers.unavailability(&own, Some(&left)).0
            };
            close(importance.birnbaum, down_given(1.0) - down_given(0.0));
        }
    }
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

/// Every component of a tree with fallbacks is a module of its own.
#[test]
fn a_wide_tree_has_esary_proschan_bounds_that_meet() {
    let count = 2_000_u32;
    let mut tree = builder(&vec![1e-3; count as usize]);
    for node in 1..count {
        tree.add_edge(Component((node - 1) / 3), Component(node), EdgeEffect::partial(0.3)).unwrap();
    }
    let found = check(&tree.build());
    assert_eq!(found.bounds_method, BoundsMethod::EsaryProschan);
    close(found.bounds.0, found.availability_ratio);
    close(found.bounds.1, found.availability_ratio);
}

#[test]
fn two_of_three_chains_of_forty_five_have_bounds_in_closed_form() {
    let (length, q) = (45_u32, 0.001_f64);
    let mut chains = builder(&vec![q; 1 + 3 * length as usize]);
    let heads = [0, 1, 2].map(|chain| Component(1 + chain * length));
    for head in heads {
        for step in 1..length {
            let (caller, callee) = (Component(head.0 + step - 1), Component(head.0 + step));
            chains.add_edge(caller, callee, EdgeEffect::hard()).unwrap();
        }
    }
    chains.add_group(Component(0), &heads, 2, None).unwrap();
    let found = check(&chains.build());
    assert_eq!(found.bounds_method, BoundsMethod::EsaryProschan);
    // Minimal cuts: one component in each of two chains. Minimal paths: all of two chains.
    let cuts = 3 * length * length;
    close(found.bounds.0, (1.0 - q) * (1.0 - q * q).powi(cuts as i32));
    close(found.bounds.1, (1.0 - q) * (1.0 - (1.0 - (1.0 - q).powi(2 * length as i32)).powi(3)));
    let chain = (1.0 - q).powi(length as i32);
    close(found.availability_ratio, (1.0 - q) * (3.0 * chain * chain - 2.0 * chain.powi(3)));
}

#[test]
fn two_hundred_diamonds_in_a_row_are_bracketed_by_esary_proschan() {
    // Each top calls two that share a store, by calls that are sometimes saved: 1,799 variables, and no tree.
    let count = 200_u32;
    let mut row = builder(&vec![0.01; 4 * count as usize]);
    for top in (0..count).map(|diamond| 4 * diamond) {
        for (caller, callee) in [(top, top + 1), (top, top + 2), (top + 1, top + 3), (top + 2, top + 3)] {
            row.add_edge(Component(caller), Component(callee), EdgeEffect::partial(0.4)).unwrap();
        }
        if top + 4 < 4 * count {
            row.add_edge(Component(top), Component(top + 4), EdgeEffect::partial(0.9)).unwrap();
        }
    }
    let found = check(&row.build());
    assert_eq!(found.bounds_method, BoundsMethod::EsaryProschan);
    assert!(found.bounds.0 < found.availability_ratio && found.availability_ratio < found.bounds.1, "{found:?}");
}

#[test]
fn too_many_minimal_sets_leave_the_bracket_and_its_label() {
    let found = check(&layered(EdgeEffect::partial(0.05)));
    assert_eq!(found.bounds_method, BoundsMethod::Bracket);
}
