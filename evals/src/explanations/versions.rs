//! What changed since the last version: what is told is so, and what is so is told.

use attain_attainment::{DependencyHistory, Importance, RecommendationInput};
use attain_recommendation::domain::differences::{Difference, Part, inputs};
use attain_simulator::fleet::{Fleet, Past};
use attain_vocabulary::{DependencyMode, Tier};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Case, input};
use crate::fleet::View;

/// Share of calls that change, and of those that nobody sees any more.
const CHANGED: f64 = 0.3;
const HIDDEN: f64 = 0.1;
const TIERS: [Tier; 4] = [Tier::One, Tier::Two, Tier::Three, Tier::Four];

/// Draws what else may be known of the same past, and holds the differences that are told against both inputs.
pub(super) fn changed(
    case: &mut Case,
    (fleet, past): (&Fleet, &Past),
    (at, index): (usize, u64),
    before: &RecommendationInput,
    random: &mut ChaCha8Rng,
) {
    let mut fleet = fleet.clone();
    for call in fleet.calls.iter_mut().filter(|call| call.mode != DependencyMode::Async) {
        if random.random_bool(CHANGED) {
            call.call_fraction *= random.random_range(0.3..1.0);
            call.fallback_success_ratio = random.random_bool(0.5).then(|| random.random_range(0.1..0.9));
            call.mode = if call.fallback_success_ratio.is_some() { DependencyMode::Soft } else { DependencyMode::Hard };
        }
    }
    fleet.components[at].tier = TIERS[random.random_range(0..TIERS.len())];
    let hidden = (0..fleet.calls.len()).map(|_| random.random_bool(HIDDEN)).collect();
    let mut after = input(&View::new(&fleet, past, hidden), at, index);
    after.incident_ids = (0..random.random_range(0..3)).map(|number| format!("INC-{number}")).collect();
    let told = inputs(before, &after);
    let wrong: Vec<&Difference> = told
        .iter()
        .filter(|told| (value(before, told), value(&after, told)) != (told.before.clone(), told.after.clone()))
        .collect();
    case.check("differences_are_so", wrong.is_empty(), || format!("{wrong:?}"));
    let mut made = before.clone();
    told.iter().for_each(|told| make(&mut made, &after, told));
    let left = inputs(&made, &after);
    case.check("differences_are_all_told", left.is_empty(), || format!("{left:?} after {told:?}"));
}

/// What an input says of what a difference is about.
fn value(input: &RecommendationInput, told: &Difference) -> Option<String> {
    let word = |value: Value| value.as_str().map(str::to_owned);
    let dependency = input.dependencies.iter().find(|dependency| dependency.id.as_str() == told.subject);
    let importance = importance(input, told);
    let own = |importance: &Importance| importance.contribution_ratio / importance.birnbaum;
    match (told.part, told.field) {
        (Part::Dependency, "mode") => word(json!(dependency?.mode)),
        (Part::Dependency, "call_fraction") => dependency?.call_fraction.map(|ratio| ratio.to_string()),
        (Part::Dependency, "fallback_success_ratio") => {
            dependency?.fallback_success_ratio.map(|ratio| ratio.to_string())
        }
        (Part::Component, "contribution_ratio") => Some(importance?.contribution_ratio.to_string()),
        (Part::Component, "birnbaum") => Some(importance?.birnbaum.to_string()),
        (Part::Component, "own_failure_ratio") => Some(own(importance?).to_string()),
        (Part::Component, "assumed_perfect") => assumed(input, told).then(|| "true".to_owned()),
        (Part::Service, "tier") => {
            TIERS.iter().position(|tier| *tier == input.tier).map(|at| format!("tier_{}", at + 1))
        }
        (Part::History, "incident") => input.incident_ids.iter().find(|id| **id == told.subject).cloned(),
        (Part::Method, "target_ratio_max") => Some(input.policy.target_ratio_max.to_string()),
        (Part::Method, "template_target_ratio") => Some(input.policy.template_target_ratio.to_string()),
        (Part::Method, "template_latency_threshold_ms") => Some(input.policy.template_latency_threshold_ms.to_string()),
        _ => Some(format!("{told:?} is none of what was changed")),
    }
}

/// Makes one input what the other is as far as a difference tells.
fn make(made: &mut RecommendationInput, after: &RecommendationInput, told: &Difference) {
    let is_it = |dependency: &&DependencyHistory| dependency.id.as_str() == told.subject;
    let new = after.dependencies.iter().find(is_it);
    let new_importance = importance(after, told).cloned();
    let assumed = assumed(after, told);
    let old = made.dependencies.iter_mut().find(|dependency| dependency.id.as_str() == told.subject);
    match (told.part, told.field) {
        (Part::Dependency, field) => match (old, new) {
            (Some(old), Some(new)) if field == "mode" => old.mode = new.mode,
            (Some(old), Some(new)) if field == "call_fraction" => old.call_fraction = new.call_fraction,
            (Some(old), Some(new)) => old.fallback_success_ratio = new.fallback_success_ratio,
            (None, Some(new)) => made.dependencies.push(new.clone()),
            (_, None) => made.dependencies.retain(|dependency| dependency.id.as_str() != told.subject),
        },
        (Part::Component, field) => {
            let Some(structure) = &mut made.structure else { return };
            let old = structure.importances.iter_mut().find(|importance| importance.entity_id.as_str() == told.subject);
            match (field, old, new_importance) {
                ("assumed_perfect", ..) if assumed => {
                    let ids = after.structure.iter().flat_map(|structure| &structure.assumed_perfect_ids);
                    structure.assumed_perfect_ids.extend(ids.filter(|id| id.as_str() == told.subject).cloned());
                }
                ("assumed_perfect", ..) => structure.assumed_perfect_ids.retain(|id| id.as_str() != told.subject),
                ("birnbaum", Some(old), Some(new)) => {
                    let of = if old.birnbaum > 0.0 { &*old } else { &new };
                    let own = of.contribution_ratio / of.birnbaum;
                    (old.birnbaum, old.contribution_ratio) = (new.birnbaum, new.birnbaum * own);
                }
                ("own_failure_ratio", Some(old), Some(new)) => {
                    old.contribution_ratio = old.birnbaum * (new.contribution_ratio / new.birnbaum);
                }
                (_, None, Some(new)) => structure.importances.push(new),
                (_, _, _) => structure.importances.retain(|importance| importance.entity_id.as_str() != told.subject),
            }
        }
        (Part::Service, _) => made.tier = after.tier,
        (Part::History, _) => made.incident_ids.clone_from(&after.incident_ids),
        _ => made.policy = after.policy,
    }
}

fn importance<'a>(input: &'a RecommendationInput, told: &Difference) -> Option<&'a Importance> {
    let importances = input.structure.iter().flat_map(|structure| &structure.importances);
    importances.into_iter().find(|importance| importance.entity_id.as_str() == told.subject)
}

fn assumed(input: &RecommendationInput, told: &Difference) -> bool {
    let mut ids = input.structure.iter().flat_map(|structure| &structure.assumed_perfect_ids);
    ids.any(|id| id.as_str() == told.subject)
}
