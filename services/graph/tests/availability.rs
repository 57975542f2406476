//! What the structure allows, before and after changes.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::availability::{Availabilities, Availability, Interruption, evaluate};
use attain_graph::domain::needs::{self, Needs, fallback_success_ratio};
use attain_graph::domain::scenario::{Amendment, Change, NamedRate, Place, SaidTerms, Scenario};
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_graph::domain::structure::{COMMON_CAUSE_SHARE_PRIOR, Rate};
use attain_reliability::EvaluationLimits;
use attain_vocabulary::DependencyMode;
use fixture::{at, edge, graph, hard, id, in_background, in_group, names, node, set, shop, soft};

fn rates(list: &[(&str, f64)]) -> Vec<NamedRate> {
    let rate = |failure_ratio| Rate { failure_ratio, includes_dependencies: false };
    list.iter().map(|&(name, ratio)| NamedRate { entity_id: name.into(), rate: rate(ratio) }).collect()
}

fn attained(name: &str, availability_ratio: f64) -> Change {
    Change::Attained { entity_id: name.into(), availability_ratio }
}

fn ask(snapshot: &Snapshot, services: &[&str], rates: &[NamedRate], changes: &[Change]) -> Availabilities {
    let scenario = Scenario::resolve(snapshot, rates, changes).unwrap();
    let services: Vec<_> = services.iter().map(|name| at(snapshot, name)).collect();
    evaluate(&scenario, &services, &EvaluationLimits::default(), &|| false).unwrap()
}

fn availability(edges: Vec<Dependency>, list: &[(&str, f64)]) -> f64 {
    let snapshot = graph(edges);
    let mut given = rates(list);
    given.retain(|rate| snapshot.find(&rate.entity_id).is_some());
    ask(&snapshot, &["a"], &given, &[]).services[0].before.availability_ratio
}

fn close(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-12, "{left} is not {right}");
}

#[test]
fn every_mode_enters_as_it_is_meant() {
    let half = |mode| Terms { call_fraction: Some(0.5), ..Terms::of_mode(mode) };
    let q = [("b", 0.1), ("c", 0.2)];
    close(availability(vec![hard("a", "b")], &q), 0.9);
    close(availability(vec![edge("a", "b", half(DependencyMode::Hard))], &q), 0.95);
    close(availability(vec![soft("a", "b", 0.75)], &q), 0.975);
    close(availability(vec![in_background("a", "b")], &q), 1.0);
    // One of two, and what takes both along.
    let spares = vec![in_group("a", "b", 1), in_group("a", "c", 1)];
    close(availability(spares, &q), (1.0 - 0.1 * 0.2) * (1.0 - COMMON_CAUSE_SHARE_PRIOR * 0.1));
    // All of two is no redundancy.
    close(availability(vec![in_group("a", "b", 2), in_group("a", "c", 2)], &q), 0.9 * 0.8);
    // A retry: most failures persist.
    let retried = Terms { retry_count: 1, ..Terms::of_mode(DependencyMode::Hard) };
    let persistent = needs::PERSISTENT_SHARE_PRIOR;
    close(availability(vec![edge("a", "b", retried)], &q), 1.0 - 0.1 * (persistent + (1.0 - persistent) * 0.1));
}

#[test]
fn a_fallback_stands_behind_the_group_and_not_behind_each_member() {
    let member = |callee: &str| {
        let terms = Terms { group: Some("spare".into()), ..Terms::of_mode(DependencyMode::Soft) };
        edge("a", callee, Terms { fallback_success_ratio: Some(0.5), ..terms })
    };
    let group_fails = 1.0 - (1.0 - 0.1 * 0.2) * (1.0 - COMMON_CAUSE_SHARE_PRIOR * 0.1);
    let snapshot = graph([member("b"), member("c")]);
    let answer = ask(&snapshot, &["a"], &rates(&[("b", 0.1), ("c", 0.2)]), &[]);
    close(answer.services[0].before.availability_ratio, 1.0 - 0.5 * group_fails);
    assert_eq!(names(&snapshot, &answer.assumed_perfect), ["a"]);
}

#[test]
fn a_fallback_is_what_is_declared_else_observed_else_assumed() {
    let observed = |failures, rescued| Terms {
        observed_failure_count: failures,
        observed_rescued_count: rescued,
        ..Terms::of_mode(DependencyMode::Soft)
    };
    for (terms, expected) in [
        (observed(Some(19), Some(19)), needs::FALLBACK_SUCCESS_PRIOR),
        (observed(Some(20), Some(5)), 0.25),
        (observed(Some(20), Some(0)), 0.0),
        // A proxy counts failures and never sees what became of them.
        (observed(Some(20), None), needs::FALLBACK_SUCCESS_PRIOR),
        (observed(None, None), needs::FALLBACK_SUCCESS_PRIOR),
        (Terms { fallback_success_ratio: Some(0.9), ..observed(Some(20), Some(5)) }, 0.9),
    ] {
        assert_eq!(fallback_success_ratio(&terms), expected);
    }
}

#[test]
fn a_shared_component_counts_once() {
    let diamond = vec![hard("a", "b"), hard("a", "c"), hard("b", "d"), hard("c", "d")];
    close(availability(diamond, &[("d", 0.1)]), 0.9);
}

#[test]
fn a_lowered_dependency_is_felt_at_the_top_and_the_walk_is_told() {
    let chain = graph([hard("a", "b"), hard("b", "d"), hard("x", "y")]);
    let given = rates(&[("a", 0.0005), ("b", 0.0005), ("d", 0.001)]);
    let answer = ask(&chain, &["a", "x", "d"], &given, &[attained("d", 0.9)]);
    let [a, x, d] = &answer.services[..] else { panic!("three were asked for") };
    close(a.before.availability_ratio, 0.9995 * 0.9995 * 0.999);
    close(a.after.as_ref().unwrap().availability_ratio, 0.9995 * 0.9995 * 0.9);
    assert_eq!(names(&chain, &a.path), ["a", "b", "d"]);
    assert_eq!((x.path.len(), x.after.as_ref()), (0, Some(&x.before)));
    assert_eq!(names(&chain, &d.path), ["d"]);
    assert_eq!(names(&chain, &answer.assumed_perfect), ["x", "y"]);
}

#[test]
fn what_the_shop_can_promise_with_its_payment_provider() {
    let shop = shop();
    let given = rates(&[("checkout-service", 4e-4), ("external-payment-api", 5e-3), ("api-gateway", 2e-4)]);
    let fallback = soft("payment-service", "external-payment-api", 0.9);
    let answer = ask(&shop, &["checkout-service", "api-gateway"], &given, &[set(fallback)]);
    let checkout = &answer.services[0];
    close(checkout.before.availability_ratio, (1.0 - 4e-4) * (1.0 - 5e-3));
    close(checkout.after.as_ref().unwrap().availability_ratio, (1.0 - 4e-4) * (1.0 - 5e-4));
    assert_eq!(names(&shop, &checkout.path), ["checkout-service", "payment-service"]);
    let binding = checkout.before.importances[0].component;
    assert_eq!(names(&shop, &[binding.0]), ["external-payment-api"]);
    assert_eq!(names(&shop, &answer.services[1].path), ["api-gateway", "checkout-service", "payment-service"]);
}

#[test]
fn what_a_question_does_not_say_of_an_edge_stays() {
    let seldom = Terms { call_fraction: Some(0.1), ..Terms::of_mode(DependencyMode::Hard) };
    let pair = graph([edge("a", "b", seldom)]);
    let of_a = |said: SaidTerms| {
        let amendment = Amendment { caller: id("a"), callee: id("b"), said };
        let a = &ask(&pair, &["a"], &rates(&[("b", 0.5)]), &[Change::Set(Box::new(amendment))]).services[0];
        a.after.as_ref().unwrap().availability_ratio
    };
    close(of_a(SaidTerms::default()), 1.0 - 0.1 * 0.5);
    let fallback =
        SaidTerms { mode: Some(DependencyMode::Soft), fallback_success_ratio: Some(0.8), ..SaidTerms::default() };
    close(of_a(fallback), 1.0 - 0.1 * 0.2 * 0.5);
    close(of_a(SaidTerms { call_fraction: Some(0.4), ..SaidTerms::default() }), 1.0 - 0.4 * 0.5);
}

#[test]
fn a_black_box_hides_what_is_below_it_until_that_changes() {
    let chain = graph([hard("a", "b"), hard("b", "c")]);
    let mut given = rates(&[("a", 0.0), ("b", 0.2), ("c", 0.1)]);
    given[1].rate.includes_dependencies = true;
    let of_a = |changes: &[Change]| {
        let a = &ask(&chain, &["a"], &given, changes).services[0];
        (a.before.availability_ratio, a.after.as_ref().map(|after| after.availability_ratio), a.path.len())
    };
    assert_eq!(of_a(&[]), (0.8, None, 0));
    // What b inherits is told from its own as soon as somebody asks what a change below it does.
    let close_to = |(before, after, steps): (f64, Option<f64>, usize), expected: f64, path: usize| {
        close(before, 0.8);
        close(after.unwrap(), expected);
        assert_eq!(steps, path);
    };
    close_to(of_a(&[attained("c", 0.5)]), 0.8 / 0.9 * 0.5, 3);
    close_to(of_a(&[set(soft("b", "c", 0.5))]), 0.8 / 0.9 * 0.95, 2);
    close_to(of_a(&[Change::Remove { caller_id: "b".into(), callee_id: "c".into() }]), 0.8 / 0.9, 2);
    // What the question itself says of b stands, whatever is below.
    close_to(of_a(&[attained("c", 0.5), attained("b", 0.7)]), 0.7, 2);
}

#[test]
fn where_its_dependencies_are_worse_than_a_black_box_was_measured_it_fails_none_of_its_own() {
    let chain = graph([hard("a", "b"), hard("b", "c")]);
    let mut given = rates(&[("b", 0.2), ("c", 0.5)]);
    given[0].rate.includes_dependencies = true;
    let answer = ask(&chain, &["a"], &given, &[attained("c", 0.4)]);
    close(answer.services[0].before.availability_ratio, 0.5);
    close(answer.services[0].after.as_ref().unwrap().availability_ratio, 0.4);
}

#[test]
fn black_boxes_above_one_another_and_in_a_cycle_keep_what_they_were_rated_with() {
    let snapshot = graph([hard("a", "b"), hard("b", "c"), hard("c", "d"), hard("c", "b"), hard("b", "e")]);
    let mut given = rates(&[("a", 0.3), ("b", 0.25), ("c", 0.2), ("d", 0.1), ("e", 0.01)]);
    given[..3].iter_mut().for_each(|rate| rate.rate.includes_dependencies = true);
    let answer = ask(&snapshot, &["a", "b", "c"], &given, &[Change::Outage(Place::Entity("e".into()))]);
    close(answer.services[0].before.availability_ratio, 0.7);
    // Both of a hard cycle attain the same: the least that was measured of them.
    close(answer.services[1].before.availability_ratio, 0.75);
    close(answer.services[2].before.availability_ratio, 0.75);
    for service in &answer.services {
        assert_eq!(service.after.as_ref().unwrap().availability_ratio, 0.0);
    }
}

#[test]
fn an_outage_strikes_one_component_or_all_of_a_region() {
    let placed = |name: &str, region: &str| Node { region: Some(region.into()), ..node(name) };
    let nodes = vec![placed("db-east", "east"), placed("db-west", "west"), placed("cache", "west"), node("a")];
    let edges = vec![in_group("a", "db-east", 1), in_group("a", "db-west", 1), soft("a", "cache", 0.9)];
    let snapshot = Snapshot::build(nodes, edges);
    let during = |place: Place| {
        let answer = ask(&snapshot, &["a", "db-west"], &[], &[Change::Outage(place)]);
        let after = |service: &Availability| service.after.as_ref().unwrap().availability_ratio;
        assert!(!answer.services[0].path.is_empty());
        (after(&answer.services[0]), after(&answer.services[1]))
    };
    assert_eq!(during(Place::Entity("db-west".into())), (1.0, 0.0));
    // The other database takes over; the cache's fallback saves nine in ten.
    let (a, west) = during(Place::Region("west".into()));
    close(a, 0.9);
    assert_eq!(west, 0.0);
    // Nobody backs the cache up while both databases are down.
    let both = [Change::Outage(Place::Region("west".into())), Change::Outage(Place::Entity("db-east".into()))];
    assert_eq!(ask(&snapshot, &["a"], &[], &both).services[0].after.as_ref().unwrap().availability_ratio, 0.0);
}

#[test]
fn what_fails_more_often_of_its_own_keeps_its_dependencies() {
    let chain = graph([hard("a", "b"), hard("b", "c")]);
    let mut given = rates(&[("a", 0.0), ("b", 0.2), ("c", 0.5)]);
    let own = |entity_id: &str, failure_ratio| Change::OwnFailure { entity_id: entity_id.into(), failure_ratio };
    let after = |given: &[NamedRate]| {
        ask(&chain, &["a"], given, &[own("b", 0.3)]).services[0].after.as_ref().unwrap().availability_ratio
    };
    close(after(&given), 0.7 * 0.5);
    given[1].rate.includes_dependencies = true;
    close(after(&given), 0.7);
}

#[test]
fn a_hard_cycle_cannot_start_and_a_soft_one_can() {
    let given = [("a", 0.1), ("b", 0.2)];
    for (back, cold) in [(hard("b", "a"), 0.0), (soft("b", "a", 1.0), 0.72)] {
        let snapshot = graph([hard("a", "b"), back]);
        let answer = ask(&snapshot, &["a"], &rates(&given), &[]);
        close(answer.services[0].before.availability_ratio, 0.72);
        close(answer.services[0].before.cold_start_ratio, cold);
    }
}

#[test]
fn what_speaks_of_nothing_is_named_by_its_place() {
    let shop = shop();
    let changes = [
        attained("api-gateway", 0.9),
        attained("nobody", 0.9),
        set(hard("api-gateway", "nobody")),
        Change::Remove { caller_id: "nobody".into(), callee_id: "user-db".into() },
        Change::Remove { caller_id: "api-gateway".into(), callee_id: "user-db".into() },
        Change::OwnFailure { entity_id: "nobody".into(), failure_ratio: 0.1 },
        Change::Outage(Place::Entity("nobody".into())),
        Change::Outage(Place::Region("nowhere".into())),
    ];
    let given = rates(&[("user-db", 0.1), ("nobody", 0.1), ("user-db", 0.2)]);
    let complaints = Scenario::resolve(&shop, &given, &changes).unwrap_err();
    let places: Vec<_> = complaints.iter().map(|invalid| (invalid.field.as_str(), invalid.code)).collect();
    assert_eq!(
        places,
        [
            ("rates/1/entity_id", "unknown_entity"),
            ("rates/2/entity_id", "duplicate"),
            ("changes/1/attained_ratio/entity_id", "unknown_entity"),
            ("changes/2/set_dependency/callee_id", "unknown_entity"),
            ("changes/3/remove_dependency/caller_id", "unknown_entity"),
            ("changes/4/remove_dependency/callee_id", "unknown_dependency"),
            ("changes/5/own_failure/entity_id", "unknown_entity"),
            ("changes/6/outage/entity_id", "unknown_entity"),
            ("changes/7/outage/region", "unknown_region"),
        ]
    );
}

#[test]
fn an_evaluation_that_nobody_waits_for_stops() {
    let shop = shop();
    let scenario = Scenario::resolve(&shop, &[], &[]).unwrap();
    let stopped = evaluate(&scenario, &[0, 1], &EvaluationLimits::default(), &|| true);
    assert_eq!(stopped, Err(Interruption::GivenUp));
    // What was evaluated by then stands: callees come first.
    let asked = std::cell::Cell::new(0);
    let after_two = || asked.replace(asked.get() + 1) >= 2;
    let partial = evaluate(&scenario, &[3, 0, 3, 5, 6], &EvaluationLimits::default(), &after_two).unwrap();
    let evaluated: Vec<_> = partial.services.iter().map(|service| service.node).collect();
    assert_eq!((evaluated, partial.unevaluated), (vec![3, 3, 5], vec![0, 6]));
}

#[test]
fn a_call_rate_bounds_a_call_fraction_that_nobody_knows() {
    let rate = Terms { call_rate: Some(0.3), ..Terms::of_mode(DependencyMode::Hard) };
    let snapshot = graph([edge("a", "b", rate.clone()), edge("a", "c", Terms { call_rate: Some(3.0), ..rate })]);
    let needs = Needs::of(snapshot.nodes(), snapshot.edges(), snapshot.request_path());
    let impacts: Vec<f64> = needs.of_caller(0).iter().map(|need| need.effect.impact_ratio).collect();
    assert_eq!(impacts, [0.3, 1.0]);
}
