//! What binds, taken away.

use std::collections::BTreeSet;

use attain_attainment::{
    Ambition, BindingConstraint, ConstraintKind, CountPoint, CountSeries, Prediction, Reach, RecommendationInput,
    RecommendationResult, VolumeNeed, predict, recommend, strictest_target, without_cause,
};
use attain_simulator::fleet::Seen;
use attain_vocabulary::{DAY_MS, EntityId, SliBucket, TimeRange};

use super::{Case, balanced, moves_as_said, offered};
use crate::fleet::{END_MS, View};

/// Name of the check that decides.
pub(super) const CHECK: &str = "binding_constraints";
/// Times as much history as there is, until what was never seen is seldom enough.
const LONGER: [i64; 3] = [2, 4, 8];
/// A need is met by as much as was said, and not by this much less.
const LESS: f64 = 0.98;

pub(super) fn word(kind: ConstraintKind) -> &'static str {
    match kind {
        ConstraintKind::Own => "own",
        ConstraintKind::Dependency => "dependency",
        ConstraintKind::Volume => "volume",
        ConstraintKind::Policy => "policy",
        ConstraintKind::Data => "data",
    }
}

/// Takes what binds away, and holds what is found against what was said.
pub(super) fn taken_away(
    case: &mut Case,
    view: &View<'_>,
    at: usize,
    input: &RecommendationInput,
    result: &RecommendationResult,
) {
    let sli = &result.slis[0];
    let (binding, today) = (&sli.binding_constraint, balanced(sli));
    let said = binding.relaxed_target_ratio;
    case.relaxes = said.unwrap_or(0.0) > today.unwrap_or(0.0);
    let again = match binding.kind {
        ConstraintKind::Own | ConstraintKind::Dependency => {
            let changed = without_cause(input, binding);
            if let Some(changed) = &changed {
                counted(case, view, at, input, binding, changed);
            }
            changed.map(|changed| offered(&recommend(&changed)))
        }
        ConstraintKind::Policy => {
            let mut changed = input.clone();
            changed.policy.target_ratio_max = 1.0;
            Some(offered(&recommend(&changed)))
        }
        ConstraintKind::Volume => {
            volume_need(case, input, result);
            binding.volume_need.and_then(|need| told(input, need))
        }
        ConstraintKind::Data => {
            // A longer history is said to allow a stricter target, not which.
            let stricter = |times: &i64| longer(input, binding.volume_need, *times) > today;
            let found = LONGER.iter().any(stricter);
            case.check(CHECK, said.is_none() && found, || format!("{today:?} today, and no longer history helps"));
            return;
        }
    };
    let holds = again.is_some_and(|again| moves_as_said(today, said, again));
    case.check(CHECK, holds, || format!("{today:?} today, {said:?} was said, {again:?} is found"));
}

/// As many failures are gone as were blamed, and for a traced service those that the simulator knows to be of that cause.
fn counted(
    case: &mut Case,
    view: &View<'_>,
    at: usize,
    input: &RecommendationInput,
    binding: &BindingConstraint,
    changed: &RecommendationInput,
) {
    let sum =
        |input: &RecommendationInput, of: fn(&SliBucket) -> u64| input.history.buckets.iter().map(of).sum::<u64>();
    let gone = sum(input, |bucket| bucket.counts.bad()) - sum(changed, |bucket| bucket.counts.bad());
    let blamed = binding.contribution_ratio * sum(input, |bucket| bucket.counts.valid()) as f64;
    let through = by_whom(input, binding);
    // Each way may owe a part of a failure at the end.
    let owed = 1.0 + through.len() as f64;
    case.check("failures_blamed_are_gone", (gone as f64 - blamed).abs() < owed, || {
        format!("{blamed} are blamed on {:?}, {gone} are gone", binding.entity_id)
    });
    let Some(truth) = by_the_simulator(view, at, input, binding) else { return };
    let mut pairs = truth.iter().zip(&changed.history.buckets);
    let differing = pairs.find(|(truth, found)| !agree(truth, found, &through));
    let same = truth.len() == changed.history.buckets.len() && differing.is_none();
    case.check("the_simulator_takes_the_same", same, || {
        format!("{:?} by {through:?}: the first that differs is {differing:?}", binding.entity_id)
    });
}

/// Direct dependencies that hand failures of what binds on.
fn by_whom(input: &RecommendationInput, binding: &BindingConstraint) -> BTreeSet<EntityId> {
    let changes = input.counterfactuals.iter().filter(|change| Some(&change.callee) == binding.entity_id.as_ref());
    let through = |reach: &Reach| match reach {
        Reach::Through { dependency, .. } => Some(dependency.clone()),
        Reach::Direct => None,
    };
    changes.flat_map(|change| change.reaches().filter_map(through).collect::<Vec<_>>()).collect()
}

/// The history without the failures blamed as far as the simulator tells requests apart: by the call that they failed by.
fn by_the_simulator(
    view: &View<'_>,
    at: usize,
    input: &RecommendationInput,
    binding: &BindingConstraint,
) -> Option<Vec<SliBucket>> {
    let counts = &view.past.counts[at];
    if view.fleet.components[at].seen != Seen::Traced {
        return None;
    }
    let id = binding.entity_id.as_ref()?;
    let call = view.fleet.calls_of(at).find(|call| view.fleet.components[call.callee].id == *id);
    let without = match (binding.kind, call) {
        (ConstraintKind::Own, _) => counts.without_own(),
        (_, Some(call)) => counts.without(call.callee),
        (_, None) => counts.clone(),
    };
    let mut buckets = without.buckets(view.fleet, true, END_MS, |_| true);
    buckets.retain(|bucket| input.history.range.contains(bucket.start_ms));
    Some(buckets)
}

/// Whether two buckets agree on every cause; of what others hand on a part may be gone.
fn agree(truth: &SliBucket, found: &SliBucket, through: &BTreeSet<EntityId>) -> bool {
    let own = |bucket: &SliBucket| bucket.counts.inherited_bad().map(|inherited| bucket.counts.bad() - inherited);
    let by = |bucket: &SliBucket, id: &EntityId| bucket.inherited_by_dependency.get(id).copied().unwrap_or(0);
    let mut ids = truth.inherited_by_dependency.keys().chain(found.inherited_by_dependency.keys());
    (truth.start_ms, truth.counts.valid(), own(truth)) == (found.start_ms, found.counts.valid(), own(found))
        && ids.all(|id| match (by(truth, id), by(found, id)) {
            (truth, found) if through.contains(id) => found <= truth,
            (truth, found) => found == truth,
        })
}

fn series(input: &RecommendationInput) -> CountSeries {
    let point = |bucket: &SliBucket| CountPoint {
        start_ms: bucket.start_ms,
        valid: bucket.counts.valid() as f64,
        bad: bucket.counts.bad() as f64,
    };
    CountSeries::new(input.history.buckets.iter().map(point).collect())
}

fn predicted(input: &RecommendationInput, days: f64) -> Option<Prediction> {
    predict(&series(input), days, END_MS)
}

/// The balanced target with as much traffic as was said to be needed: it tells exactly that budget.
fn told(input: &RecommendationInput, need: VolumeNeed) -> Option<Option<f64>> {
    let mut prediction = predicted(input, f64::from(input.window.days()))?;
    prediction.smallest_distinguishable_budget = 1.0 - need.target_ratio;
    Some(strictest_target(&prediction, &input.policy, Ambition::Balanced.miss_probability_max()))
}

/// Each of the ways out of too little traffic is enough, and not more than enough.
fn volume_need(case: &mut Case, input: &RecommendationInput, result: &RecommendationResult) {
    let Some(need) = result.slis[0].binding_constraint.volume_need else {
        return case.check("volume_needs", false, || "no need is told".to_owned());
    };
    let (budget, data) = (1.0 - need.target_ratio, &result.data);
    let tells = |days: f64| predicted(input, days).is_some_and(|prediction| prediction.distinguishes(budget));
    let longer = tells(need.window_days_needed) && !tells(LESS * need.window_days_needed);
    let count = data.expected_window_count;
    let days = f64::from(result.window_days);
    let requests = (need.window_request_count as f64 / count - need.window_days_needed / days).abs() <= 1.0 / count;
    // Denser traffic: outcomes within five minutes go together.
    let busy = input.history.buckets.iter().filter(|bucket| bucket.counts.valid() > 0).count();
    let (per_bucket, correlation) = (data.valid_count as f64 / busy as f64, data.intra_bucket_correlation);
    let enough = |times: f64| 3.0 * (1.0 + (times * per_bucket - 1.0) * correlation) <= budget * times * count;
    let denser = match need.probes_per_minute {
        Some(probes) => {
            let times = 1.0 + probes * days * 24.0 * 60.0 / count;
            enough(times * (1.0 + 1e-9)) && !enough(times * LESS)
        }
        None => !enough(1e12),
    };
    case.check("volume_needs", longer && requests && denser, || {
        format!("{need:?}: longer {longer}, requests {requests}, denser {denser}")
    });
}

/// The balanced target on a history that goes on as it is, as often as that; with traffic that tells where some is needed.
fn longer(input: &RecommendationInput, need: Option<VolumeNeed>, times: i64) -> Option<f64> {
    let mut input = input.clone();
    let range = input.history.range;
    let length_ms = (range.end_ms() - range.start_ms()).div_euclid(DAY_MS) * DAY_MS;
    let at = |back: i64| {
        let move_back =
            move |bucket: &SliBucket| SliBucket { start_ms: bucket.start_ms - back * length_ms, ..bucket.clone() };
        input.history.buckets.iter().map(move_back).collect::<Vec<_>>()
    };
    let buckets = (0..times).rev().flat_map(at).collect();
    let start_ms = range.start_ms() - (times - 1) * length_ms;
    input.history.range = TimeRange::new("range", start_ms, range.end_ms()).ok()?;
    input.history.buckets = buckets;
    match need {
        Some(need) => told(&input, need).flatten(),
        None => offered(&recommend(&input)),
    }
}

/// Too little history for an estimate: with all of it, the part of the confidence that was named is better.
pub(super) fn given_history(case: &mut Case, whole: &RecommendationInput, result: &RecommendationResult) {
    let parts = &result.confidence.parts;
    let Some(weakest) = parts.iter().min_by(|a, b| a.score.total_cmp(&b.score)) else { return };
    // Others are mended by something else.
    if weakest.name != "history_length" {
        return;
    }
    let given = recommend(whole);
    let after = given.confidence.parts.iter().find(|part| part.name == weakest.name).map(|part| part.score);
    let told = result.confidence.raise_with.first().is_some_and(|remedy| remedy.contains("more history"));
    let nothing_said = result.slis[0].binding_constraint.relaxed_target_ratio.is_none();
    case.check("history_given", told && nothing_said && after > Some(weakest.score), || {
        format!("{} was {}, with all of the history {after:?}", weakest.name, weakest.score)
    });
}
