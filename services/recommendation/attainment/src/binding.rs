use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, UnixMillis};

use crate::counterfactual::{Arriving, Today, arriving};
use crate::explain::percent;
use crate::menu::{TARGET_MENU, menu_position};
use crate::prediction::RULE_OF_THREE;
use crate::split::Split;
use crate::{
    Ambition, BindingConstraint, ConstraintKind, CountSeries, Prediction, Reach, RecommendationInput, TierPolicy,
    VolumeNeed,
};

/// Share of what arrives by a direct dependency that one component further down must bring to be named instead.
const DEEPER_SHARE_MIN: f64 = 0.5;
/// Most causes that are taken away one by one: each is a history solved again, and those that follow fail less.
const CAUSES_MAX: usize = 3;

/// A component and the failures that it brings, by whatever way.
pub(crate) struct Cause<'a> {
    pub(crate) kind: ConstraintKind,
    pub(crate) entity_id: EntityId,
    pub(crate) ways: Vec<Arriving<'a>>,
    pub(crate) contribution_ratio: f64,
}

/// What keeps the balanced target where it is.
///
/// Policy where it asks for no more, whatever else may be; volume where only it stands between the target and the next step of
/// the menu; else the greatest cause of failure whose absence gives a stricter target. Where none does alone, the greatest is
/// named, and the sentence says so.
pub(crate) fn binding(today: &Today<'_>) -> BindingConstraint {
    if let Some(limit) = limit(today) {
        return limit;
    }
    let causes = causes(today.input, &today.timeline.starts, &today.usable.series, today.split);
    let better = |target: Option<f64>| target.unwrap_or(0.0) > today.balanced.unwrap_or(0.0);
    let mut first = None;
    for cause in causes.into_iter().take(CAUSES_MAX) {
        let relaxed = today.without(&cause.ways).balanced;
        if better(relaxed) {
            return named(today, cause, relaxed, true);
        }
        first = first.or(Some((cause, relaxed)));
    }
    match first {
        Some((cause, relaxed)) => named(today, cause, relaxed, false),
        None => unseen(today),
    }
}

/// Too little data for an estimate.
pub(crate) fn data(detail: &str) -> BindingConstraint {
    BindingConstraint {
        kind: ConstraintKind::Data,
        entity_id: None,
        contribution_ratio: 0.0,
        relaxed_target_ratio: None,
        relaxed_latency_threshold_ms: None,
        volume_need: None,
        detail: detail.to_owned(),
    }
}

/// The next stricter step of the menu; the loosest where nothing can be offered, none above the strictest.
fn next_step(today: &Today<'_>) -> Option<f64> {
    match today.balanced {
        Some(target) => TARGET_MENU.get(menu_position(target) + 1).copied(),
        None => Some(TARGET_MENU[0]),
    }
}

/// Policy, where the next step is beyond it; volume, where that step would be met often enough.
fn limit(today: &Today<'_>) -> Option<BindingConstraint> {
    let prediction = today.prediction;
    let allowed = |next: &f64| *next <= today.input.policy.target_ratio_max + 1e-12;
    let Some(next) = next_step(today).filter(allowed) else {
        return Some(by_policy(today));
    };
    if prediction.forecast.miss_probability(1.0 - next) > today.input.policy.miss_probability_max(Ambition::Balanced) {
        return None;
    }
    let need = volume_need(prediction, next);
    let probes = need.probes_per_minute.map_or_else(
        || ". More of it at the same time would not help, because failures come together".to_owned(),
        |probes| format!(", or {probes:.1} more probes a minute"),
    );
    let detail = format!(
        "{} of requests would be promised, but that needs {} requests in a window to be told from less: {:.0} days at today's traffic{probes}.",
        percent(next),
        need.window_request_count,
        need.window_days_needed,
    );
    Some(BindingConstraint {
        kind: ConstraintKind::Volume,
        volume_need: Some(need),
        relaxed_target_ratio: Some(next),
        ..data(&detail)
    })
}

/// The tier asks for no more. Where a stricter target could not be told or would not be carried either, nothing is gained
/// without the policy, and that is said.
fn by_policy(today: &Today<'_>) -> BindingConstraint {
    let policy = today.input.policy;
    let relaxed = today.by_policy(&TierPolicy { target_ratio_max: 1.0, ..policy });
    let strictest = percent(policy.target_ratio_max);
    let gain = match relaxed {
        Some(target) if relaxed > today.balanced => format!("{} could be met", percent(target)),
        _ => "nor would this history carry a stricter one".to_owned(),
    };
    let detail = format!("{strictest} is the strictest target that the tier's policy allows; {gain}.");
    BindingConstraint { kind: ConstraintKind::Policy, relaxed_target_ratio: relaxed, ..data(&detail) }
}

/// Traffic is missing in length or in density. A longer window at today's density is told as much better as it has more
/// requests; denser traffic gains less, because outcomes within five minutes go together (design effect 1 + (m - 1) rho for m
/// requests a bucket): `f` times as dense, a budget `b` is told where 3 (1 + (f m - 1) rho) <= b f n.
fn volume_need(prediction: &Prediction, target: f64) -> VolumeNeed {
    let (budget, count) = (1.0 - target, prediction.expected_window_count);
    let longer = prediction.smallest_distinguishable_budget / budget;
    let correlation = prediction.intra_bucket_correlation;
    let together = RULE_OF_THREE * (prediction.design_effect - 1.0 + correlation);
    let left = budget * count - together;
    let denser = (left > 0.0).then(|| RULE_OF_THREE * (1.0 - correlation) / left);
    let minutes = prediction.window_days * 24.0 * 60.0;
    VolumeNeed {
        target_ratio: target,
        window_request_count: (count * longer).ceil() as u64,
        window_days_needed: prediction.window_days * longer,
        probes_per_minute: denser.map(|denser| ((denser - 1.0) * count / minutes).max(0.0)),
    }
}

/// Own failures and those by each dependency, the greatest first; a component further down stands for the dependency that
/// hands its failures on. Each is there once, with all the ways by which its failures are known to arrive.
pub(crate) fn causes<'a>(
    input: &RecommendationInput,
    starts: &[UnixMillis],
    series: &CountSeries,
    split: &'a Split,
) -> Vec<Cause<'a>> {
    let valid = series.valid();
    let cause = |kind, entity_id: &EntityId, ways: Vec<Arriving<'a>>| {
        let contribution_ratio = ways.iter().map(|way| way.failed().sum::<f64>()).sum::<f64>() / valid;
        Cause { kind, entity_id: entity_id.clone(), ways, contribution_ratio }
    };
    let below: BTreeMap<&EntityId, BTreeMap<&EntityId, Vec<f64>>> =
        split.causes.by_dependency.keys().map(|id| (id, by_callee(input, starts, split, id))).collect();
    let mut named: BTreeSet<&EntityId> = BTreeSet::new();
    for (id, failed) in &split.causes.by_dependency {
        let sum = |failed: &[f64]| failed.iter().sum::<f64>();
        let deepest = below[id]
            .iter()
            .map(|(callee, failed)| (*callee, sum(failed)))
            .filter(|(_, deeper)| *deeper >= DEEPER_SHARE_MIN * sum(failed))
            .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(a.0)));
        named.insert(deepest.map_or(id, |(callee, _)| callee));
    }
    let by = |by: &EntityId, failed| Arriving::all(Some(by.clone()), failed);
    let ways = |id: &EntityId| -> Vec<Arriving<'a>> {
        let direct = split.causes.by_dependency.get(id).map(|failed| by(id, Cow::Borrowed(failed.as_slice())));
        let through = below.iter().filter(|(direct, _)| **direct != id);
        let through = through.filter_map(|(direct, below)| Some(by(direct, Cow::Owned(below.get(id)?.clone()))));
        direct.into_iter().chain(through).collect()
    };
    let own = Arriving::all(None, Cow::Borrowed(&split.causes.own));
    let mut causes = vec![cause(ConstraintKind::Own, &input.service, vec![own])];
    causes.extend(named.into_iter().map(|id| cause(ConstraintKind::Dependency, id, ways(id))));
    causes.retain(|cause| cause.contribution_ratio > 0.0);
    causes.sort_by(|a, b| {
        b.contribution_ratio.total_cmp(&a.contribution_ratio).then_with(|| a.entity_id.cmp(&b.entity_id))
    });
    causes
}

/// Failures by a direct dependency in each bucket that came from each component further down, as far as the changes that were
/// handed in tell: all calls of it together, and no more than arrive.
fn by_callee<'a>(
    input: &'a RecommendationInput,
    starts: &[UnixMillis],
    split: &Split,
    dependency: &EntityId,
) -> BTreeMap<&'a EntityId, Vec<f64>> {
    let mut below: BTreeMap<&EntityId, Vec<f64>> = BTreeMap::new();
    let all = split.causes.by_dependency.get(dependency).map(Vec::as_slice).unwrap_or_default();
    for change in input.changes() {
        for reach in change.reaches() {
            let Reach::Through { dependency: direct, share } = reach else { continue };
            let Some(failed) = (direct == dependency).then(|| arriving(starts, split, direct, Some(share))).flatten()
            else {
                continue;
            };
            let sum = below.entry(&change.callee).or_insert_with(|| vec![0.0; all.len()]);
            for ((sum, failed), all) in sum.iter_mut().zip(failed.failed()).zip(all) {
                *sum = (*sum + failed).min(*all);
            }
        }
    }
    below
}

fn named(today: &Today<'_>, cause: Cause<'_>, relaxed: Option<f64>, relaxes: bool) -> BindingConstraint {
    let what = match cause.kind {
        ConstraintKind::Dependency => {
            format!("{} fails {} of requests", cause.entity_id, percent(cause.contribution_ratio))
        }
        _ => format!("{} of requests fail of {} itself", percent(cause.contribution_ratio), today.input.service),
    };
    let gain = match relaxed {
        Some(target) if relaxes => format!("without that the balanced target would be {}", percent(target)),
        _ => "but none of the greatest causes, gone alone, would lift the target by a step: the rest and the chance of the unseen hold it".to_owned(),
    };
    BindingConstraint {
        kind: cause.kind,
        entity_id: Some(cause.entity_id),
        contribution_ratio: cause.contribution_ratio,
        relaxed_target_ratio: relaxed,
        ..data(&format!("{what}; {gain}."))
    }
}

/// Nothing failed and the target is still not stricter: the chance of what a history of this length has not shown yet.
fn unseen(today: &Today<'_>) -> BindingConstraint {
    let prediction = today.prediction;
    let told = |next: &f64| !prediction.distinguishes(1.0 - next);
    let volume_need = next_step(today).filter(told).map(|next| volume_need(prediction, next));
    let traffic = volume_need.map_or_else(String::new, |need| {
        format!(", together with {} requests in a window to tell it", need.window_request_count)
    });
    let days = prediction.observed_days;
    let detail =
        format!("Nothing failed in {days:.1} days; a longer history is what would allow a stricter target{traffic}.");
    BindingConstraint { volume_need, ..data(&detail) }
}
