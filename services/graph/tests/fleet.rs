//! The graph as a fleet whose targets have to hold together.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_consistency::{Contradiction, Limits, Problem, Weights};
use attain_graph::domain::fleet::{NamedPromise, Promise, assumed_perfect, fleet, promises, within};
use attain_graph::domain::recheck::Recheck;
use attain_graph::domain::scenario::{NamedRate, Scenario};
use attain_graph::domain::snapshot::{Snapshot, Terms};
use attain_graph::domain::structure::{COMMON_CAUSE_SHARE_PRIOR, Rate};
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DependencyMode, Objective};
use fixture::{at, edge, graph, hard, in_background, in_group, soft};

fn rate(entity_id: &str, failure_ratio: f64, includes_dependencies: bool) -> NamedRate {
    NamedRate { entity_id: entity_id.into(), rate: Rate { failure_ratio, includes_dependencies } }
}

fn promised(service_id: &str, target: f64) -> NamedPromise {
    let promise = Promise { target: Objective::new("target_ratio", target).unwrap(), fixed: false };
    NamedPromise { service_id: service_id.into(), promise }
}

fn impact(snapshot: &Snapshot, rates: &[NamedRate], caller: &str, callee: &str) -> Option<f64> {
    let state = Scenario::resolve(snapshot, rates, &[]).unwrap().before;
    let fleet = fleet(snapshot, &state, &vec![None; snapshot.nodes().len()]).unwrap();
    let ends = (at(snapshot, caller) as usize, at(snapshot, callee) as usize);
    fleet.edges().iter().find(|(caller, callee, _)| (*caller, *callee) == ends).map(|(_, _, impact)| *impact)
}

#[test]
fn what_a_failure_passes_on_is_what_the_edge_says() {
    let retried = Terms { retry_count: 1, call_fraction: Some(0.5), ..Terms::of_mode(DependencyMode::Hard) };
    let snapshot = graph([
        hard("web", "api"),
        soft("web", "cache", 0.75),
        in_background("web", "queue"),
        edge("api", "store", retried),
        in_group("api", "left", 1),
        in_group("api", "right", 1),
    ]);
    assert_eq!(impact(&snapshot, &[], "web", "api"), Some(1.0));
    assert_eq!(impact(&snapshot, &[], "web", "cache"), Some(0.25));
    assert_eq!(impact(&snapshot, &[], "web", "queue"), None);
    // Half of the requests call; of failures four in five outlast the retry, and a tenth of the rest fails again.
    let retried = impact(&snapshot, &[], "api", "store").unwrap();
    assert!((retried - 0.5 * (0.8 + 0.2 * 0.1)).abs() < 1e-12, "{retried}");
    assert_eq!(impact(&snapshot, &[], "api", "left"), None);
    // Who is rated as a whole rests on nothing further.
    assert_eq!(impact(&snapshot, &[rate("web", 0.01, true)], "web", "api"), None);
}

#[test]
fn what_nobody_rated_is_told_where_a_promise_rests_on_it() {
    let snapshot = graph([hard("web", "api"), hard("api", "store"), hard("vendor", "cloud"), hard("web", "vendor")]);
    let state =
        Scenario::resolve(&snapshot, &[rate("api", 0.01, false), rate("vendor", 0.1, true)], &[]).unwrap().before;
    let names = |promised: &[NamedPromise]| -> Vec<String> {
        let nodes = assumed_perfect(&state, &promises(&snapshot, promised).unwrap());
        nodes.into_iter().map(|node| snapshot.id(node).to_string()).collect()
    };
    assert_eq!(names(&[promised("web", 0.99)]), ["store", "web"]);
    assert_eq!(names(&[promised("cloud", 0.99)]), ["cloud"]);
    assert!(names(&[]).is_empty());
}

#[test]
fn only_what_the_scope_needs_is_looked_at() {
    let snapshot =
        graph([hard("web", "api"), hard("api", "store"), hard("batch", "store"), in_background("api", "batch")]);
    let state = Scenario::resolve(&snapshot, &[], &[]).unwrap().before;
    let named = [promised("web", 0.999), promised("api", 0.99), promised("store", 0.9), promised("batch", 0.99)];
    let named = promises(&snapshot, &named).unwrap();
    let contradictions = |scope: &[&str]| -> Vec<String> {
        let scope: Vec<_> = scope.iter().map(|name| at(&snapshot, name)).collect();
        let fleet = fleet(&snapshot, &within(&snapshot, state.clone(), &scope), &named).unwrap();
        let plan = Problem::of(&fleet, &Weights::default(), &Limits::default()).unwrap().solve(None, None).unwrap();
        let mut callers: Vec<String> = plan
            .contradictions
            .iter()
            .filter_map(|found| match found {
                Contradiction::Promise { caller, .. } => Some(caller.to_string()),
                Contradiction::Ceiling { .. } => None,
            })
            .collect();
        callers.sort();
        callers
    };
    // Both of web and api promise more than is promised to them; batch is not on their way, and store rests on nothing.
    assert_eq!(contradictions(&["web"]), ["api", "web"]);
    assert_eq!(contradictions(&["batch"]), ["batch"]);
    assert_eq!(contradictions(&["web", "batch"]), ["api", "batch", "web"]);
    assert!(contradictions(&["store"]).is_empty());
}

#[test]
fn promises_of_strangers_and_second_promises_are_named() {
    let snapshot = graph([hard("web", "api")]);
    let named = [promised("web", 0.9), promised("nobody", 0.9), promised("web", 0.99)];
    let refused = promises(&snapshot, &named).unwrap_err();
    let fields: Vec<(&str, &str)> = refused.iter().map(|one| (one.field.as_str(), one.code)).collect();
    assert_eq!(fields, [("targets/1/service_id", "unknown_entity"), ("targets/2/service_id", "duplicate")]);
}

#[test]
fn what_rests_on_redundancy_is_held_against_the_exact_value() {
    let snapshot =
        graph([hard("web", "api"), in_group("api", "left", 1), in_group("api", "right", 1), hard("other", "left")]);
    let state = Scenario::resolve(&snapshot, &[rate("left", 0.01, false)], &[]).unwrap().before;
    let own_budgets: Vec<f64> = snapshot
        .nodes()
        .iter()
        .map(|node| match node.id.as_str() {
            "left" => 0.1,
            "right" => 0.2,
            _ => 0.001,
        })
        .collect();
    let recheck = Recheck::new(&snapshot, &state, EvaluationLimits::default(), &|| false);
    let of = |name: &str| recheck.availability(at(&snapshot, name) as usize, &own_budgets);
    let both = (1.0 - 0.1 * 0.2) * (1.0 - COMMON_CAUSE_SHARE_PRIOR * 0.1);
    assert!((of("web").unwrap() - 0.999 * 0.999 * both).abs() < 1e-12);
    assert_eq!((of("other"), of("left")), (None, None));
    assert_eq!(recheck.counts(), (1, 0));
    let late = Recheck::new(&snapshot, &state, EvaluationLimits::default(), &|| true);
    assert_eq!((late.availability(at(&snapshot, "web") as usize, &own_budgets), late.counts()), (None, (0, 1)));

    // The rules of the fleet are never looser than that.
    let named = [promised("web", 0.99), promised("left", 0.9), promised("right", 0.9)];
    let fleet = fleet(&snapshot, &state, &promises(&snapshot, &named).unwrap()).unwrap();
    let exact = |service: usize, own: &[f64]| recheck.availability(service, own);
    let problem = Problem::of(&fleet, &Weights::default(), &Limits::default()).unwrap();
    assert_eq!(problem.solve(None, Some(&exact)).unwrap(), problem.solve(None, None).unwrap());
}
