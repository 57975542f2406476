use attain_vocabulary::EntityId;

use crate::counterfactual::{Today, arriving};
use crate::explain::percent;
use crate::menu::{TARGET_MENU, menu_position};
use crate::offers::strictest_target;
use crate::prediction::RULE_OF_THREE;
use crate::split::Split;
use crate::{
    Ambition, BindingConstraint, ConstraintKind, CountSeries, Prediction, Reach, RecommendationInput, TierPolicy,
    VolumeNeed,
};

/// Share of what arrives by a direct dependency that one component further down must bring to be named instead.
const DEEPER_SHARE_MIN: f64 = 0.5;

/// A component and the failures that it brings.
pub(crate) struct Cause {
    pub(crate) kind: ConstraintKind,
    pub(crate) entity_id: EntityId,
    /// The direct dependency by which they arrive; `None` for own failures.
    pub(crate) by: Option<EntityId>,
    /// In each bucket.
    pub(crate) failed: Vec<f64>,
    pub(crate) contribution_ratio: f64,
}

/// What keeps the balanced target where it is.
///
/// Policy or volume, where only they stand between it and the next step of the menu; else the greatest cause of failure
/// whose absence gives a stricter target. Where none does alone, the greatest is named, and the sentence says so.
pub(crate) fn binding(today: &Today<'_>) -> BindingConstraint {
    if let Some(limit) = limit(today) {
        return limit;
    }
    let causes = causes(today.input, today.series, today.split);
    let better = |target: Option<f64>| target.unwrap_or(0.0) > today.balanced.unwrap_or(0.0);
    let mut first = None;
    for cause in causes.into_iter().take(3) {
        let relaxed = today.without(&cause.failed).balanced;
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
        volume_need: None,
        detail: detail.to_owned(),
    }
}

/// Policy or volume, where the next step of the menu would be met often enough.
fn limit(today: &Today<'_>) -> Option<BindingConstraint> {
    let prediction = today.prediction;
    let next = match today.balanced {
        Some(target) => *TARGET_MENU.get(menu_position(target) + 1)?,
        None => TARGET_MENU[0],
    };
    let risk = today.input.policy.miss_probability_max(Ambition::Balanced);
    if prediction.forecast.miss_probability(1.0 - next) > risk {
        return None;
    }
    if !prediction.distinguishes(1.0 - next) {
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
        return Some(BindingConstraint {
            kind: ConstraintKind::Volume,
            volume_need: Some(need),
            relaxed_target_ratio: Some(next),
            ..data(&detail)
        });
    }
    let unlimited = TierPolicy { target_ratio_max: 1.0, ..today.input.policy };
    let relaxed = strictest_target(prediction, &unlimited, risk).unwrap_or(next);
    let detail = format!(
        "{} is the strictest target that the tier's policy allows; {} could be met.",
        percent(today.input.policy.target_ratio_max),
        percent(relaxed)
    );
    Some(BindingConstraint { kind: ConstraintKind::Policy, relaxed_target_ratio: Some(relaxed), ..data(&detail) })
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
/// hands its failures on.
pub(crate) fn causes(input: &RecommendationInput, series: &CountSeries, split: &Split) -> Vec<Cause> {
    let valid = series.valid();
    let cause = |kind, entity_id: &EntityId, by: Option<&EntityId>, failed: Vec<f64>| {
        let contribution_ratio = failed.iter().sum::<f64>() / valid;
        Cause { kind, entity_id: entity_id.clone(), by: by.cloned(), failed, contribution_ratio }
    };
    let mut causes = vec![cause(ConstraintKind::Own, &input.service, None, split.causes.own.clone())];
    for (id, failed) in &split.causes.by_dependency {
        let direct = cause(ConstraintKind::Dependency, id, Some(id), failed.clone());
        let deeper = input.changes().filter_map(|change| match &change.reach {
            Reach::Through { dependency, share } if dependency == id => {
                let failed = arriving(series, split, id, Some(share))?;
                Some(cause(ConstraintKind::Dependency, &change.callee, Some(id), failed))
            }
            _ => None,
        });
        let deepest = deeper
            .filter(|deeper| deeper.contribution_ratio >= DEEPER_SHARE_MIN * direct.contribution_ratio)
            .max_by(|a, b| {
                a.contribution_ratio.total_cmp(&b.contribution_ratio).then_with(|| b.entity_id.cmp(&a.entity_id))
            });
        causes.push(deepest.unwrap_or(direct));
    }
    causes.retain(|cause| cause.contribution_ratio > 0.0);
    causes.sort_by(|a, b| {
        b.contribution_ratio.total_cmp(&a.contribution_ratio).then_with(|| a.entity_id.cmp(&b.entity_id))
    });
    causes
}

fn named(today: &Today<'_>, cause: Cause, relaxed: Option<f64>, relaxes: bool) -> BindingConstraint {
    let what = match cause.kind {
        ConstraintKind::Dependency => {
            format!("{} fails {} of requests", cause.entity_id, percent(cause.contribution_ratio))
        }
        _ => format!("{} of requests fail of {} itself", percent(cause.contribution_ratio), today.input.service),
    };
    let gain = match relaxed {
        Some(target) if relaxes => format!("without that the balanced target would be {}", percent(target)),
        _ => "but no single cause, gone, would lift the target by a step: the chance of the unseen and of the rest holds it".to_owned(),
    };
    BindingConstraint {
        kind: cause.kind,
        entity_id: Some(cause.entity_id),
        contribution_ratio: cause.contribution_ratio,
        relaxed_target_ratio: relaxed,
        volume_need: None,
        detail: format!("{what}; {gain}."),
    }
}

/// Nothing failed and the target is still not stricter: the chance of what a history of this length has not shown yet.
fn unseen(today: &Today<'_>) -> BindingConstraint {
    let days = today.prediction.observed_days;
    data(&format!("Nothing failed in {days:.1} days; a longer history is what would allow a stricter target."))
}
