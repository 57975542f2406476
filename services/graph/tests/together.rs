//! Many services of one question, evaluated together.

#![allow(clippy::unwrap_used)]

mod fixture;

use std::cell::Cell;

use attain_graph::domain::availability::{Availabilities, Availability, Interruption, evaluate};
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Change, NamedRate, Scenario};
use attain_graph::domain::snapshot::{Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_reliability::{EvaluationLimits, EvaluationMethod};
use attain_vocabulary::DependencyMode;
use fixture::{edge, graph, in_group};

const LAYERS: usize = 9;
const WIDTH: usize = 36;
const CALLEES: usize = 5;

fn name(layer: usize, place: usize) -> String {
    format!("layer-{layer}-{place:02}")
}

/// Layers whose services each may call five of the next, far too tangled for anything exact a few layers up; every ninth also
/// needs one of two of the layer below that.
fn layered() -> Snapshot {
    let mut edges = Vec::new();
    for layer in 0..LAYERS - 1 {
        for place in 0..WIDTH {
            for call in 0..CALLEES {
                let callee = name(layer + 1, (place * 7 + call * call * 3 + call) % WIDTH);
                let call_fraction = Some(0.3 + 0.1 * call as f64);
                edges.push(edge(
                    &name(layer, place),
                    &callee,
                    Terms { call_fraction, ..Terms::of_mode(DependencyMode::Hard) },
                ));
            }
            if place % 9 == 0 && layer + 2 < LAYERS {
                edges.push(in_group(&name(layer, place), &name(layer + 2, place), 1));
                edges.push(in_group(&name(layer, place), &name(layer + 2, place + 1), 1));
            }
        }
    }
    graph(edges)
}

const DOWN: &str = "layer-8-00";

fn worse(failure_ratio: f64) -> Change {
    Change::OwnFailure { entity_id: DOWN.into(), failure_ratio }
}

const PRESENT: f64 = 0.002;

fn scenario(snapshot: &Snapshot, changes: &[Change]) -> Scenario {
    let rate = Rate { failure_ratio: PRESENT, includes_dependencies: false };
    let rate = |node: &attain_graph::domain::snapshot::Node| NamedRate { entity_id: node.id.to_string(), rate };
    let rates: Vec<NamedRate> = snapshot.nodes().iter().map(rate).collect();
    Scenario::resolve(snapshot, &rates, changes).unwrap()
}

const LIMITS: EvaluationLimits = EvaluationLimits { bdd_nodes_max: 1_000, samples: 16_384, seed: 5 };

fn ask(snapshot: &Snapshot, services: &[NodeIndex], changes: &[Change]) -> Availabilities {
    evaluate(&scenario(snapshot, changes), services, &LIMITS, &|| false).unwrap()
}

fn everybody(snapshot: &Snapshot) -> Vec<NodeIndex> {
    (0..snapshot.nodes().len() as NodeIndex).collect()
}

fn is_estimate(service: &Availability) -> bool {
    service.before.method == EvaluationMethod::MonteCarlo
}

#[test]
fn everybody_is_answered_in_as_many_pieces_of_work_as_there_are_services_and_blocks() {
    let snapshot = layered();
    let services = everybody(&snapshot);
    let pieces = Cell::new(0);
    let count = || {
        pieces.set(pieces.get() + 1);
        false
    };
    let found = evaluate(&scenario(&snapshot, &[worse(0.2)]), &services, &LIMITS, &count).unwrap();
    assert!(found.unevaluated.is_empty());
    assert_eq!(found.services.len(), LAYERS * WIDTH);
    assert!(pieces.get() <= services.len() + 16_384 / 1_024, "{}", pieces.get());
    let estimated: Vec<&Availability> = found.services.iter().filter(|service| is_estimate(service)).collect();
    assert!(estimated.len() > 3 * WIDTH && estimated.len() < LAYERS * WIDTH, "{}", estimated.len());
    let down = snapshot.find(DOWN).unwrap();
    let mut told_count = 0;
    for service in estimated {
        let after = service.after.as_ref().unwrap();
        assert_eq!(after.method, EvaluationMethod::MonteCarlo, "both states, or neither");
        assert!(after.availability_ratio <= service.before.availability_ratio);
        let (low, high) = service.before.interval;
        assert!(low < high && service.before.bounds.0 <= low && high <= service.before.bounds.1);
        for (state, ratio) in [(&*service.before, PRESENT), (&**after, 0.2)] {
            assert!(!state.importances_complete);
            let importance = state.importances.iter().find(|importance| importance.component.0 == down);
            if let Some(of_down) = importance {
                told_count += 1;
                assert!(!service.path.is_empty() && of_down.birnbaum > 0.0);
                assert!((of_down.contribution - of_down.birnbaum * ratio).abs() < 1e-12);
            }
        }
    }
    assert!(told_count > 2 * WIDTH, "{told_count}");
}

#[test]
fn what_is_given_up_is_left_out() {
    let snapshot = layered();
    let services = everybody(&snapshot);
    let left = Cell::new(0);
    let asked = || {
        let before = left.get();
        left.set(before - 1);
        before <= 0
    };
    let scenario = scenario(&snapshot, &[]);
    left.set(10);
    let found = evaluate(&scenario, &services, &LIMITS, &asked).unwrap();
    assert_eq!(found.services.len(), 10);
    assert_eq!(found.services.len() + found.unevaluated.len(), services.len());
    left.set(0);
    assert_eq!(evaluate(&scenario, &services, &LIMITS, &asked), Err(Interruption::GivenUp));
}

#[test]
fn an_estimate_does_not_depend_on_who_else_is_asked() {
    let snapshot = layered();
    let all = ask(&snapshot, &everybody(&snapshot), &[worse(0.2)]);
    let of = |service: &Availability| (service.before.clone(), service.after.clone());
    let tops: Vec<NodeIndex> = (0..3).map(|place| snapshot.find(&name(0, place)).unwrap()).collect();
    for found in ask(&snapshot, &tops, &[worse(0.2)]).services {
        assert!(is_estimate(&found));
        assert_eq!(of(&found), of(&all.services[found.node as usize]));
    }
}

#[test]
fn changes_to_nothing_change_nothing() {
    let snapshot = layered();
    let edge = &snapshot.edges()[17];
    let (caller, callee) = (snapshot.id(edge.caller).clone(), snapshot.id(edge.callee).clone());
    let dependency = attain_graph::domain::snapshot::Dependency { caller, callee, terms: Terms::clone(&edge.terms) };
    let remove = Change::Remove { caller_id: dependency.caller.to_string(), callee_id: dependency.callee.to_string() };
    let set = fixture::set(dependency);
    for changes in [vec![set.clone()], vec![remove, set], vec![worse(0.3), worse(PRESENT)]] {
        let found = ask(&snapshot, &everybody(&snapshot), &changes);
        assert!(found.services.iter().any(|service| is_estimate(service) && !service.path.is_empty()));
        for service in found.services {
            assert_eq!(Some(&service.before), service.after.as_ref());
        }
    }
}

#[test]
fn one_service_alone_is_evaluated_for_itself() {
    let snapshot = layered();
    let top = snapshot.find(&name(0, 0)).unwrap();
    let found = &ask(&snapshot, &[top], &[]).services[0].before;
    let model = attain_graph::domain::structure::Model::new(snapshot.needs(), &scenario(&snapshot, &[]).before.rates);
    let alone = attain_reliability::evaluate(&model.unwrap().structure, attain_reliability::Component(top), &LIMITS);
    assert_eq!(**found, alone);
    let together = &ask(&snapshot, &[top, top + 1], &[]).services[0].before;
    let error = (alone.availability_ratio - together.availability_ratio).abs();
    assert!(error < 6.0 * (alone.unavailability_ratio / f64::from(LIMITS.samples)).sqrt(), "{alone:?} {together:?}");
}
