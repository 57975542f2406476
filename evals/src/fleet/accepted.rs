//! Offers as they hold beside one another, service by service from the bottom of the graph upwards, as they are accepted.

use std::collections::BTreeMap;

use attain_attainment::{Ambition, ConsistentTarget, FleetLimit, Forecast, TARGET_MENU};
use attain_consistency::{Contradiction, Limits, Menu, Problem, Weights, violations};
use attain_graph::domain::fleet::{Promise, fleet, within};
use attain_recommendation::domain::components::Rate;
use attain_recommendation::domain::consistent::{Offered, Promises, bad_window_factor, consistent_target};
use attain_vocabulary::{EntityId, Objective};

use super::{Known, View};

/// What came of the offers of one ambition.
pub(crate) struct Accepted {
    /// By position of the component; none where nothing was offered.
    pub(crate) targets: Vec<Option<ConsistentTarget>>,
    /// Contradictions among the offers as each service alone would have them.
    pub(crate) contradictions_before: usize,
    /// The same among the targets that were accepted, by the rules as they are checked independently of the solver.
    pub(crate) violations_after: usize,
}

/// Own failures; those of whoever promises something as they are in a bad window.
fn in_a_bad_window(known: &Known, forecasts: &BTreeMap<EntityId, &Forecast>) -> Vec<Rate> {
    let worse = |rate: &Rate| {
        let factor = forecasts.get(&rate.id).map_or(1.0, |forecast| bad_window_factor(forecast));
        Rate { own_failure_ratio: (rate.own_failure_ratio * factor).min(1.0), ..rate.clone() }
    };
    known.rates.iter().map(worse).collect()
}

/// Accepts the offers of one ambition, `offers` and `forecasts` by position of the component.
pub(crate) fn accept(
    view: &View<'_>,
    known: &Known,
    ambition: Ambition,
    offers: &[Option<f64>],
    forecasts: &[Option<&Forecast>],
) -> anyhow::Result<Accepted> {
    let components = &view.fleet.components;
    let offering = components.iter().zip(offers).zip(forecasts).filter(|((_, offer), _)| offer.is_some());
    let forecasts = offering.filter_map(|((component, _), forecast)| Some((component.id.clone(), (*forecast)?)));
    let rates = in_a_bad_window(known, &forecasts.collect());
    let state = view.state(&rates);
    let menu =
        Menu::new(&TARGET_MENU.iter().filter_map(|ratio| Objective::new("menu", *ratio).ok()).collect::<Vec<_>>());
    let solve = |targets: &BTreeMap<EntityId, f64>, own: Option<&EntityId>| -> anyhow::Result<Solved> {
        let promise = |node: &attain_graph::domain::snapshot::Node| {
            let target = Objective::new("target", *targets.get(&node.id)?).ok()?;
            Some(Promise { target, fixed: own.is_some_and(|own| *own != node.id) })
        };
        let promises: Vec<Option<Promise>> = view.snapshot.nodes().iter().map(promise).collect();
        let scope = own.and_then(|own| view.snapshot.find(own.as_str()));
        let state = match scope {
            Some(node) => within(&view.snapshot, state.clone(), &[node]),
            None => state.clone(),
        };
        let whole = fleet(&view.snapshot, &state, &promises)?;
        // As the graph engine answers for a part of the fleet: one target gives way, and no program is needed.
        let limits = Limits { program_services_max: 0, ..Limits::default() };
        let plan = Problem::of(&whole, &Weights::default(), &limits)?.solve(Some(&menu), None)?;
        let budgets =
            whole.services().iter().map(|service| service.id.clone()).zip(plan.budgets.iter().copied()).collect();
        let broken = if own.is_none() { violations(&whole, &plan.budgets, &plan.own_budgets).len() } else { 0 };
        let contradictions = plan.contradictions.into_iter().map(limit).collect();
        Ok(Solved { budgets, contradictions, broken })
    };
    let alone = components.iter().zip(offers).filter_map(|(component, offer)| Some((component.id.clone(), (*offer)?)));
    let contradictions_before = solve(&alone.collect(), None)?.contradictions.len();

    let mut promises = Promises::default();
    let mut targets = vec![None; components.len()];
    for at in callees_first(view) {
        let Some(offered) = offers[at] else { continue };
        let id = &components[at].id;
        let mut beside = promises.beside(ambition);
        beside.insert(id.clone(), offered);
        let solved = solve(&beside, Some(id))?;
        let own = solved.contradictions.into_iter().filter(|(service, _)| service == id).map(|(_, limit)| limit);
        let solved_ratio = (1.0 - solved.budgets.get(id).copied().unwrap_or(1.0)).max(0.0);
        let target = consistent_target((ambition, offered), solved_ratio, own.collect());
        if let Some(ratio) = target.target_ratio {
            promises.offered.insert(id.clone(), Offered::from([(ambition, ratio)]));
        }
        targets[at] = Some(target);
    }
    let accepted = solve(&promises.beside(ambition), None)?;
    Ok(Accepted { targets, contradictions_before, violations_after: accepted.contradictions.len() + accepted.broken })
}

struct Solved {
    budgets: BTreeMap<EntityId, f64>,
    contradictions: Vec<(EntityId, FleetLimit)>,
    broken: usize,
}

fn limit(contradiction: Contradiction) -> (EntityId, FleetLimit) {
    match contradiction {
        Contradiction::Promise { caller, callee, needed, .. } => {
            let chain = vec![caller.clone(), callee.clone()];
            (caller, FleetLimit { callee: Some(callee), needed_ratio: needed, chain })
        }
        Contradiction::Ceiling { service, needed, chain, .. } => {
            (service, FleetLimit { callee: None, needed_ratio: needed, chain })
        }
    }
}

/// Callees before callers; within a cycle by position.
fn callees_first(view: &View<'_>) -> Vec<usize> {
    let mut left: Vec<usize> = (0..view.fleet.components.len()).collect();
    let mut done = vec![false; left.len()];
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits = |at: &usize| view.fleet.calls_of(*at).any(|call| !done[call.callee] && call.callee != *at);
        let ready: Vec<usize> = left.iter().copied().filter(|at| !waits(at)).collect();
        // A cycle has to begin somewhere.
        let ready = if ready.is_empty() { vec![left[0]] } else { ready };
        ready.iter().for_each(|at| done[*at] = true);
        left.retain(|at| !done[*at]);
        order.extend(ready);
    }
    order
}
