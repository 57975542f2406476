//! Small fleets whose answers can be worked out by hand.
#![allow(clippy::unwrap_used, missing_docs)]

use attain_consistency::{
    Change, Contradiction, Edge, Error, Fleet, Group, Limits, Method, Problem, Service, Weights, solve, violations,
};
use attain_vocabulary::{EntityId, Objective, Tier};

fn id(name: &str) -> EntityId {
    EntityId::new("service_id", name).unwrap()
}

fn service(name: &str, tier: Tier, target: Option<f64>) -> Service {
    let target = target.map(|ratio| Objective::new("target_ratio", ratio).unwrap());
    Service { id: id(name), tier: Some(tier), target, fixed: false, own_floor: 1e-5 }
}

fn hard(caller: &str, callee: &str) -> Edge {
    Edge::new(id(caller), id(callee), 1.0, 1.0, 0.0).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs()
}

#[test]
fn a_component_that_two_callees_share_counts_once() {
    let services = ["a", "b", "c", "d"].map(|name| service(name, Tier::Two, None));
    let edges = [hard("a", "b"), hard("a", "c"), hard("b", "d"), hard("c", "d")];
    let fleet = Fleet::new(services.to_vec(), &edges, &[]).unwrap();
    let plan = solve(&fleet, &Weights::default(), &Limits::default(), None, None).unwrap();
    assert!(close(plan.budgets[0], 4e-5), "{:?}", plan.budgets);
    assert_eq!(plan.method, Method::AsTheyAre);
}

#[test]
fn the_dear_target_stays_and_the_cheap_one_moves() {
    for (caller, callee, moves) in [(Tier::One, Tier::Four, 1), (Tier::Four, Tier::One, 0)] {
        let services = vec![service("a", caller, Some(0.999)), service("b", callee, Some(0.998))];
        let fleet = Fleet::new(services, &[hard("a", "b")], &[]).unwrap();
        let plan = solve(&fleet, &Weights::default(), &Limits::default(), None, None).unwrap();
        assert_eq!(plan.method, Method::Program);
        let in_force = fleet.budgets_in_force();
        assert_eq!(in_force[1 - moves], Some(plan.budgets[1 - moves]));
        assert_ne!(in_force[moves], Some(plan.budgets[moves]));
        assert!(violations(&fleet, &plan.budgets, &plan.own_budgets).is_empty());
    }
}

#[test]
fn a_contradiction_names_the_chain_that_carries_it_and_what_would_settle_it() {
    let mut leaf = service("store", Tier::Three, Some(0.99));
    leaf.fixed = true;
    let services = vec![service("web", Tier::One, Some(0.999)), service("api", Tier::Two, None), leaf];
    let fleet = Fleet::new(services, &[hard("web", "api"), hard("api", "store")], &[]).unwrap();
    let plan = solve(&fleet, &Weights::default(), &Limits::default(), None, None).unwrap();
    let chain = plan.contradictions.iter().find_map(|contradiction| match contradiction {
        Contradiction::Ceiling { service, chain, .. } if *service == id("web") => Some(chain.clone()),
        _ => None,
    });
    assert_eq!(chain, Some(vec![id("web"), id("api"), id("store")]));
    let repairs = Problem::of(&fleet, &Weights::default(), &Limits::default()).unwrap().repairs(10, &|| false);
    let changes = repairs.ranked.iter().map(|repair| &repair.change);
    let stricter = changes
        .clone()
        .any(|change| matches!(change, Change::StricterPromise { service, .. } if *service == id("store")));
    let fallback = changes.clone().any(|change| matches!(change, Change::Fallback { .. }));
    assert!(stricter || fallback, "{repairs:?}");
}

#[test]
fn a_group_needs_less_than_its_members_in_series() {
    let need = |required_count: usize| {
        let services = ["a", "b", "c"].map(|name| service(name, Tier::Two, None)).to_vec();
        let group = Group { caller: id("a"), members: vec![id("b"), id("c")], required_count };
        let fleet = Fleet::new(services, &[], &[group]).unwrap();
        solve(&fleet, &Weights::default(), &Limits::default(), None, None).unwrap().budgets[0]
    };
    assert!(close(need(2), 3e-5));
    assert!(close(need(1), 2e-5));
}

#[test]
fn every_refusal_names_the_field_and_the_reason() {
    let a = || service("a", Tier::One, None);
    let message = |result: Result<Fleet, Error>| result.unwrap_err().to_string();
    assert_eq!(
        message(Fleet::new(vec![Service { own_floor: 1.5, ..a() }], &[], &[])),
        "own_floor must be a number from 0 to 1, not 1.5"
    );
    assert_eq!(message(Fleet::new(vec![a(), a()], &[], &[])), "service_id a was given twice; state each service once");
    assert_eq!(
        message(Fleet::new(vec![a()], &[hard("a", "b")], &[])),
        "callee names b, which is not among the services"
    );
    let group = Group { caller: id("a"), members: vec![id("a")], required_count: 2 };
    assert_eq!(
        message(Fleet::new(vec![a()], &[], &[group])),
        "required_count of a group of a must be from 1 to its 1 members, not 2"
    );
    assert!(Edge::new(id("a"), id("b"), 1.0, f64::NAN, 0.0).is_err());
}

#[test]
fn work_that_is_too_large_is_refused_with_the_reason() {
    let services = vec![service("a", Tier::One, None), service("b", Tier::One, None)];
    let fleet = Fleet::new(services.clone(), &[hard("a", "b")], &[]).unwrap();
    let limits = Limits { closure_entries_max: 0, ..Limits::default() };
    let refused = solve(&fleet, &Weights::default(), &limits, None, None);
    assert!(matches!(refused, Err(Error::ClosureTooLarge { service_count: 2, limit: 0 })));
}

#[test]
fn who_fails_always_has_no_target_and_the_others_keep_theirs() {
    let services = vec![
        Service { own_floor: 1.0, ..service("down", Tier::One, Some(0.99)) },
        service("elsewhere", Tier::One, Some(0.99)),
        service("upon-it", Tier::One, None),
    ];
    let fleet = Fleet::new(services, &[hard("upon-it", "down")], &[]).unwrap();
    let plan = solve(&fleet, &Weights::default(), &Limits::default(), None, None).unwrap();
    assert_eq!((plan.budgets[0], plan.budgets[2]), (1.0, 1.0));
    assert!((plan.budgets[1] - 0.01).abs() < 1e-12);
    let [Contradiction::Ceiling { service, .. }] = &plan.unresolved[..] else { panic!("{:?}", plan.unresolved) };
    assert_eq!(*service, id("down"));
}

#[test]
fn a_chain_too_long_for_its_promises_is_tightened_instead_of_given_up() {
    let names: Vec<String> = (0..200).map(|number| format!("s{number:03}")).collect();
    let services: Vec<Service> = names.iter().map(|name| service(name, Tier::Four, Some(0.99))).collect();
    let edges: Vec<Edge> = names.windows(2).map(|pair| hard(&pair[0], &pair[1])).collect();
    let fleet = Fleet::new(services, &edges, &[]).unwrap();
    for program_services_max in [0, 1_000] {
        let limits = Limits { program_services_max, ..Limits::default() };
        let plan = solve(&fleet, &Weights::default(), &limits, None, None).unwrap();
        assert_eq!(violations(&fleet, &plan.budgets, &plan.own_budgets), vec![], "{:?}", plan.method);
        assert!(plan.budgets.iter().all(|budget| *budget < 1.0));
    }
}
