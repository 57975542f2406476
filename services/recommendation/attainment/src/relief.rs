//! An input as it would have been without some of the failures: what a counterfactual says, done to the data itself.

use std::collections::BTreeMap;

use attain_vocabulary::{BucketCounts, EntityId, SliBucket, UnixMillis};

use crate::binding::causes;
use crate::counterfactual::{Arriving, OWN_FAILURES_HALVED, own_halved, saved_by, whole};
use crate::sanity::Usable;
use crate::split::split;
use crate::{BindingConstraint, RecommendationInput};

/// The input without the failures of the component that binds, by every way that they are known to arrive: its buckets count
/// that many failures less, of the whole and of what traces charge to an edge.
///
/// `None` where no component binds, or where no failure is charged to it.
#[must_use]
pub fn without_cause(input: &RecommendationInput, binding: &BindingConstraint) -> Option<RecommendationInput> {
    let (usable, traces) = Usable::seen_by(input);
    let split = split(input, &usable, traces);
    let starts = starts(&usable);
    let all = causes(input, &starts, &usable.series, &split);
    let cause = all.into_iter().find(|cause| {
        cause.kind == binding.kind
            && Some(&cause.entity_id) == binding.entity_id.as_ref()
            && cause.contribution_ratio > 0.0
    })?;
    Some(relieved(input, &usable, &cause.ways))
}

/// The input as it would have been with a change: one of its counterfactual structures by key, or [`OWN_FAILURES_HALVED`].
///
/// `None` for another key, and where the change saves no failure.
#[must_use]
pub fn with_change(input: &RecommendationInput, key: &str) -> Option<RecommendationInput> {
    let (usable, traces) = Usable::seen_by(input);
    let split = split(input, &usable, traces);
    let saved = if key == OWN_FAILURES_HALVED {
        own_halved(&split)
    } else {
        let change = input.changes().find(|change| change.key == key)?;
        saved_by(input, &starts(&usable), &split, change)?
    };
    Some(relieved(input, &usable, &saved))
}

fn starts(usable: &Usable<'_>) -> Vec<UnixMillis> {
    usable.series.points().iter().map(|point| point.start_ms).collect()
}

/// Takes whole failures out of the buckets that were read, each of whom it arrived by.
fn relieved(input: &RecommendationInput, usable: &Usable<'_>, ways: &[Arriving<'_>]) -> RecommendationInput {
    let taken = whole(ways, &usable.series.failures());
    let mut saved: BTreeMap<UnixMillis, Vec<(Option<&EntityId>, u64)>> = BTreeMap::new();
    for (way, taken) in ways.iter().zip(&taken) {
        for (point, taken) in usable.series.points().iter().zip(taken).filter(|(_, taken)| **taken > 0.0) {
            saved.entry(point.start_ms).or_default().push((way.by.as_ref(), *taken as u64));
        }
    }
    let mut input = input.clone();
    for bucket in &mut input.history.buckets {
        if let Some(saved) = saved.get(&bucket.start_ms) {
            *bucket = with_fewer_failures(bucket, saved);
        }
    }
    input
}

fn with_fewer_failures(bucket: &SliBucket, saved: &[(Option<&EntityId>, u64)]) -> SliBucket {
    let counts = bucket.counts;
    let bad = counts.bad().saturating_sub(saved.iter().map(|(_, saved)| saved).sum());
    let mut inherited_by_dependency = bucket.inherited_by_dependency.clone();
    let mut inherited = counts.inherited_bad();
    for (by, saved) in saved.iter().filter_map(|(by, saved)| Some(((*by)?, *saved))) {
        if let Some(failed) = inherited_by_dependency.get_mut(by) {
            *failed = failed.saturating_sub(saved);
        }
        inherited = inherited.map(|inherited| inherited.saturating_sub(saved));
    }
    inherited_by_dependency.retain(|_, failed| *failed > 0);
    // An own share that was only estimated may be more than what traces leave to it.
    let inherited = inherited.map(|inherited| inherited.min(bad));
    let fits = inherited_by_dependency.values().sum::<u64>() <= inherited.unwrap_or(0);
    let changed = BucketCounts::new(counts.valid(), bad, inherited).ok().and_then(|counts| {
        let shares = if fits { inherited_by_dependency } else { BTreeMap::new() };
        SliBucket::new(bucket.start_ms, counts, shares, bucket.latency.clone()).ok()
    });
    changed.unwrap_or_else(|| bucket.clone())
}
