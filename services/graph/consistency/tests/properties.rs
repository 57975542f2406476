//! What must hold of every plan, whatever the fleet: cycles, groups, soft edges, missing and fixed targets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

use attain_consistency::{
    Edge, Fleet, Group, Limits, Menu, Method, Plan, Problem, Service, Violation, Weights, solve, violations,
};
use attain_vocabulary::{EntityId, Objective, Tier};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Stated {
    services: Vec<Service>,
    edges: Vec<Edge>,
    groups: Vec<Group>,
}

impl Stated {
    fn fleet(&self) -> Fleet {
        Fleet::new(self.services.clone(), &self.edges, &self.groups).unwrap()
    }
}

fn id(number: usize) -> EntityId {
    EntityId::new("service_id", &format!("s{number:02}")).unwrap()
}

fn objective(budget: f64) -> Objective {
    Objective::new("target_ratio", 1.0 - budget).unwrap()
}

fn service(number: usize, fixed_share: f64) -> impl Strategy<Value = Service> {
    let tier = prop_oneof![Just(Tier::One), Just(Tier::Two), Just(Tier::Three), Just(Tier::Four)];
    let target = proptest::option::weighted(0.8, -4.5..-1.5_f64);
    (proptest::option::of(tier), target, -7.0..-4.0_f64, proptest::bool::weighted(fixed_share)).prop_map(
        move |(tier, target, floor, fixed)| Service {
            id: id(number),
            tier,
            target: target.map(|exponent| objective(10_f64.powf(exponent))),
            fixed,
            own_floor: 10_f64.powf(floor),
        },
    )
}

fn fleets(services_max: usize, edges_max: usize, fixed_share: f64) -> impl Strategy<Value = Stated> {
    (2..=services_max).prop_flat_map(move |count| {
        let services: Vec<_> = (0..count).map(|number| service(number, fixed_share)).collect();
        let impact = prop_oneof![2 => Just(1.0), 1 => 0.05..1.0_f64];
        let edge = (0..count, 0..count, impact);
        let edge = edge.prop_map(|(caller, callee, impact)| Edge { caller: id(caller), callee: id(callee), impact });
        let group = (0..count, proptest::collection::btree_set(0..count, 2..=3.min(count)), any::<bool>());
        let group = group.prop_map(|(caller, members, most)| Group {
            caller: id(caller),
            required_count: if most { members.len() - 1 } else { 1 },
            members: members.into_iter().map(id).collect(),
        });
        let edges = proptest::collection::vec(edge, 0..=edges_max);
        (services, edges, proptest::collection::vec(group, 0..=2)).prop_map(|(services, edges, groups)| Stated {
            services,
            edges,
            groups,
        })
    })
}

fn solved(fleet: &Fleet, menu: Option<&Menu>) -> Plan {
    solve(fleet, &Weights::default(), &Limits::default(), menu, None).unwrap()
}

fn menu() -> Menu {
    Menu::new(&[0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5].map(objective))
}

/// Own states and live edges drawn in every combination: the failure ratio of each service, exactly.
fn enumerated(stated: &Stated, own: &[f64]) -> Vec<f64> {
    let position = |id: &EntityId| stated.services.iter().position(|service| service.id == *id).unwrap();
    let (services, edges) = (stated.services.len(), stated.edges.len());
    let mut failing = vec![0.0; services];
    for state in 0_u32..1 << (services + edges) {
        let happens = |bit: usize| state & (1 << bit) != 0;
        let chance = |bit: usize, ratio: f64| if happens(bit) { ratio } else { 1.0 - ratio };
        let own_chance: f64 = (0..services).map(|at| chance(at, own[at])).product();
        let edge_chance: f64 =
            stated.edges.iter().enumerate().map(|(at, edge)| chance(services + at, edge.impact)).product();
        let mut fails: Vec<bool> = (0..services).map(happens).collect();
        for _ in 0..services {
            for (at, edge) in stated.edges.iter().enumerate() {
                if happens(services + at) && fails[position(&edge.callee)] {
                    fails[position(&edge.caller)] = true;
                }
            }
            for group in &stated.groups {
                let working = group.members.iter().filter(|member| !fails[position(member)]).count();
                if working < group.required_count {
                    fails[position(&group.caller)] = true;
                }
            }
        }
        for at in 0..services {
            failing[at] += if fails[at] { own_chance * edge_chance } else { 0.0 };
        }
    }
    failing
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn after_the_solve_nothing_is_violated(stated in fleets(12, 30, 0.0)) {
        let fleet = stated.fleet();
        let plan = solved(&fleet, None);
        prop_assert_eq!(violations(&fleet, &plan.budgets, &plan.own_budgets), vec![]);
        prop_assert!(plan.unresolved.is_empty());
    }

    #[test]
    fn nor_on_the_menu(stated in fleets(12, 30, 0.0)) {
        let fleet = stated.fleet();
        let plan = solved(&fleet, Some(&menu()));
        prop_assert_eq!(violations(&fleet, &plan.budgets, &plan.own_budgets), vec![]);
    }

    #[test]
    fn what_cannot_be_moved_stays_and_what_that_costs_is_said(stated in fleets(10, 20, 0.3)) {
        let fleet = stated.fleet();
        let plan = solved(&fleet, None);
        let left = violations(&fleet, &plan.budgets, &plan.own_budgets);
        let moved = left.iter().any(|violation| matches!(violation, Violation::Fixed { .. }));
        prop_assert!(!moved);
        let all_fixed = left.iter().all(|violation| match violation {
            Violation::Promise { caller: service, .. } | Violation::Ceiling { service, .. } =>
                fleet.services().iter().any(|known| known.id == *service && known.fixed),
            Violation::OwnBudget { .. } | Violation::Fixed { .. } => false,
        });
        prop_assert!(all_fixed, "{:?}", left);
        prop_assert!(left.len() <= plan.unresolved.len(), "{:?} {:?}", left, plan.unresolved);
    }

    #[test]
    fn the_order_of_what_is_stated_means_nothing(stated in fleets(10, 20, 0.1), by in 1..7_usize) {
        let mut turned = stated.clone();
        turned.services.reverse();
        let edges = turned.edges.len().max(1);
        turned.edges.rotate_left(by % edges);
        turned.groups.reverse();
        turned.groups.iter_mut().for_each(|group| group.members.reverse());
        prop_assert_eq!(solved(&stated.fleet(), None), solved(&turned.fleet(), None));
    }

    #[test]
    fn a_consistent_fleet_is_not_moved(stated in fleets(10, 20, 0.0)) {
        let fleet = stated.fleet();
        let plan = solved(&fleet, None);
        let mut consistent = stated.clone();
        consistent.services = fleet.services().to_vec();
        for (service, budget) in consistent.services.iter_mut().zip(&plan.budgets) {
            service.target = service.target.map(|_| objective(*budget));
        }
        let fleet = consistent.fleet();
        for menu in [None, Some(&menu())] {
            let again = solved(&fleet, menu);
            prop_assert_eq!(again.method, Method::AsTheyAre, "{:?}", again.contradictions);
            for (service, budget) in fleet.services().iter().zip(&again.budgets) {
                prop_assert!(service.target.is_none_or(|target| target.error_budget() == *budget));
            }
        }
    }

    #[test]
    fn prices_are_not_negative_and_belong_to_rules_that_bind(stated in fleets(10, 25, 0.1)) {
        for binding in solved(&stated.fleet(), None).bindings {
            prop_assert!(binding.price > 0.0);
            prop_assert!(binding.slack >= 0.0);
            prop_assert!(binding.slack < 1e-2, "{:?}", binding);
        }
    }

    #[test]
    fn every_repair_leaves_fewer_contradictions_and_they_are_ranked(stated in fleets(8, 16, 0.1)) {
        let fleet = stated.fleet();
        let before = solved(&fleet, None).contradictions.len();
        let repairs = Problem::of(&fleet, &Weights::default(), &Limits::default()).unwrap().repairs(6, &|| false);
        prop_assert!(repairs.considered_count <= 6 && repairs.considered_count <= repairs.suggested_count);
        prop_assert!(repairs.ranked.is_sorted_by(|a, b| a.cost <= b.cost));
        prop_assert!(repairs.ranked.iter().all(|repair| repair.contradictions_left < before));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn who_keeps_own_budgets_keeps_every_target_exactly(stated in fleets(4, 6, 0.0)) {
        let mut stated = stated;
        stated.groups.retain(|group| !group.members.contains(&group.caller));
        let fleet = stated.fleet();
        let plan = solved(&fleet, None);
        for (at, failing) in enumerated(&stated, &plan.own_budgets).into_iter().enumerate() {
            prop_assert!(failing <= plan.budgets[at] * (1.0 + 1e-6), "{} fails {} of {}", at, failing, plan.budgets[at]);
        }
    }

    #[test]
    fn what_an_exact_evaluation_finds_is_cut_away(stated in fleets(8, 12, 0.0), factor in 1.0..1.5_f64) {
        let fleet = stated.fleet();
        let plain = solved(&fleet, None);
        let worse = plain.budgets[0] * factor;
        let exact = move |service: usize, _: &[f64]| (service == 0).then_some(1.0 - worse);
        let plan = solve(&fleet, &Weights::default(), &Limits::default(), None, Some(&exact)).unwrap();
        prop_assert!(plan.budgets[0] >= worse * (1.0 - 1e-9));
        prop_assert_eq!(violations(&fleet, &plan.budgets, &plan.own_budgets), vec![]);
    }
}
