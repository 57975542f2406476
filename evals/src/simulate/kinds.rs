//! Misses by kind of service: where a forecast is too sure.

use std::collections::BTreeSet;

use attain_attainment::{Ambition, ConfidenceLevel, RecommendationResult, SliResult};
use attain_simulator::fleet::Fleet;
use attain_vocabulary::DependencyMode;
use serde_json::{Map, Value, json};

use super::{Scored, ratio_of_sums};
use crate::scores;

/// A level that has held for less than a window has hardly been seen.
const LATELY_DAYS: f64 = 28.0;
const YOUNG_DAYS: f64 = 60.0;
/// Requests a window: a failure in a thousand is then a hundred, counted to a tenth.
const LITTLE_TRAFFIC: f64 = 1e5;
const MANY_COMPONENTS: usize = 5;
const FEW_EPISODES: u32 = 2;
const MANY_EPISODES: u32 = 13;
/// Of two domains and more a service is hit often enough for it to show.
const DOMAINS: usize = 2;
/// Share of the expected failure beyond which the one or the other leads.
const LEADING: f64 = 0.7;

/// Every kind, in the order that [`of`] asks for them.
pub(super) const ALL: [&str; 16] = [
    "level_steady",
    "level_changed",
    "level_changed_lately",
    "young",
    "little_traffic",
    "inherits_from_none",
    "inherits_from_few",
    "inherits_from_many",
    "hit_with_others",
    "few_episodes_seen",
    "many_episodes_seen",
    "chronic_failure_leads",
    "episodes_lead",
    "confidence_high",
    "confidence_medium",
    "confidence_low",
];

/// The kinds that a service is of.
pub(super) fn of(fleet: &Fleet, at: usize, whole: &RecommendationResult, sli: &SliResult) -> Vec<&'static str> {
    let (data, level) = (&whole.data, whole.confidence.level);
    let changed = data.regime_start_ms.is_some();
    let below = reached(fleet, at);
    let domains = fleet.domains.iter().filter(|domain| domain.members.contains(&at)).count();
    let chronic = sli.forecast.as_ref().map_or(0.0, |forecast| forecast.chronic_mean() / forecast.mean());
    let is = [
        !changed,
        changed,
        changed && data.regime_days < LATELY_DAYS,
        data.covered_days < YOUNG_DAYS,
        data.expected_window_count < LITTLE_TRAFFIC,
        below == 0,
        (1..MANY_COMPONENTS).contains(&below),
        below >= MANY_COMPONENTS,
        domains >= DOMAINS,
        data.episode_count <= FEW_EPISODES,
        data.episode_count >= MANY_EPISODES,
        chronic > LEADING,
        chronic < 1.0 - LEADING,
        level == ConfidenceLevel::High,
        level == ConfidenceLevel::Medium,
        level == ConfidenceLevel::Low,
    ];
    ALL.into_iter().zip(is).filter(|(_, is)| *is).map(|(kind, _)| kind).collect()
}

/// Components that requests of one may fail by.
fn reached(fleet: &Fleet, at: usize) -> usize {
    let (mut seen, mut open) = (BTreeSet::from([at]), vec![at]);
    while let Some(caller) = open.pop() {
        let waits = fleet.calls_of(caller).filter(|call| call.mode != DependencyMode::Async);
        open.extend(waits.map(|call| call.callee).filter(|callee| seen.insert(*callee)));
    }
    seen.len() - 1
}

/// How services of one kind fare; by fleet.
pub(super) fn report(by_fleet: &[Vec<&Scored>]) -> Value {
    let scored = by_fleet.concat();
    let missed = |goal: Ambition| -> Vec<f64> { scored.iter().map(|one| one.missed(one.unrounded(goal))).collect() };
    let missed = Ambition::ALL
        .iter()
        .map(|goal| (format!("{:.2}", goal.miss_probability_max()), json!(scores::mean(&missed(*goal)))));
    json!({
        "services": scored.len(),
        "missed": missed.collect::<Map<String, Value>>(),
        "interval_coverage": scores::mean(&scored.iter().filter_map(|one| one.covered()).collect::<Vec<_>>()),
        "budget_ratio": ratio_of_sums(&scored, Ambition::Balanced),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_and_asynchronous_calls_do_not_count() {
        let fleet = Fleet::draw(3, 200);
        let reaches_itself = |at: usize| reached(&fleet, at) < fleet.components.len();
        assert!((0..fleet.components.len()).all(reaches_itself));
        let leaf = fleet.components.iter().position(|component| component.id.as_str().starts_with("datastore"));
        assert_eq!(reached(&fleet, leaf.expect("a fleet has datastores")), 0);
        let entrance = fleet.components.iter().position(|component| component.id.as_str().starts_with("entrance"));
        let at = entrance.expect("a fleet has entrances");
        let waits = fleet.calls_of(at).filter(|call| call.mode != DependencyMode::Async).count();
        assert!(waits > 0 && reached(&fleet, at) >= waits);
    }
}
