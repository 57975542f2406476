//! An input as it would have been without some of the failures: what a counterfactual says, done to the data itself.

use std::collections::BTreeMap;

use attain_vocabulary::{BucketCounts, EntityId, SliBucket, UnixMillis};

use crate::binding::causes;
use crate::counterfactual::{OWN_FAILURES_HALVED, own_halved, saved_by, whole};
use crate::sanity::Usable;
use crate::split::split;
use crate::{BindingConstraint, Reach, RecommendationInput};

/// The input without the failures of the component that binds: its buckets count that many failures less, of the whole and of
/// what traces charge to an edge.
///
/// `None` where no component binds, or where no failure is charged to it.
#[must_use]
pub fn without_cause(input: &RecommendationInput, binding: &BindingConstraint) -> Option<RecommendationInput> {
    let usable = Usable::of(input);
    let split = split(input, &usable);
    let all = causes(input, &usable.series, &split);
    let cause = all.into_iter().find(|cause| {
        cause.kind == binding.kind
            && Some(&cause.entity_id) == binding.entity_id.as_ref()
            && cause.contribution_ratio > 0.0
    })?;
    let saved = whole(&cause.failed, &usable.series);
    Some(relieved(input, &usable, &saved, cause.by.as_ref()))
}

/// The input as it would have been with a change: one of its counterfactual structures by key, or [`OWN_FAILURES_HALVED`].
///
/// `None` for another key, and where the change saves no failure.
#[must_use]
pub fn with_change(input: &RecommendationInput, key: &str) -> Option<RecommendationInput> {
    let usable = Usable::of(input);
    let split = split(input, &usable);
    let (saved, by) = if key == OWN_FAILURES_HALVED {
        (own_halved(&split), None)
    } else {
        let change = input.changes().find(|change| change.key == key)?;
        let by = match &change.reach {
            Reach::Direct => &change.callee,
            Reach::Through { dependency, .. } => dependency,
        };
        (saved_by(input, &usable.series, &split, change)?, Some(by))
    };
    Some(relieved(input, &usable, &whole(&saved, &usable.series), by))
}

/// Takes whole failures out of the buckets that were read: those by a direct dependency, else own ones.
fn relieved(
    input: &RecommendationInput,
    usable: &Usable<'_>,
    saved: &[f64],
    by: Option<&EntityId>,
) -> RecommendationInput {
    let saved: BTreeMap<UnixMillis, u64> =
        usable.series.points().iter().zip(saved).map(|(point, saved)| (point.start_ms, *saved as u64)).collect();
    let mut input = input.clone();
    for bucket in &mut input.history.buckets {
        if let Some(saved) = saved.get(&bucket.start_ms).filter(|saved| **saved > 0) {
            *bucket = with_fewer_failures(bucket, *saved, by);
        }
    }
    input
}

fn with_fewer_failures(bucket: &SliBucket, saved: u64, by: Option<&EntityId>) -> SliBucket {
    let counts = bucket.counts;
    let bad = counts.bad().saturating_sub(saved);
    let mut inherited_by_dependency = bucket.inherited_by_dependency.clone();
    let mut inherited = counts.inherited_bad();
    if let Some(by) = by {
        if let Some(failed) = inherited_by_dependency.get_mut(by) {
            *failed = failed.saturating_sub(saved);
        }
        inherited_by_dependency.retain(|_, failed| *failed > 0);
        inherited = inherited.map(|inherited| inherited.saturating_sub(saved));
    }
    // An own share that was only estimated may be more than what traces leave to it.
    let inherited = inherited.map(|inherited| inherited.min(bad));
    let fits = inherited_by_dependency.values().sum::<u64>() <= inherited.unwrap_or(0);
    let changed = BucketCounts::new(counts.valid(), bad, inherited).ok().and_then(|counts| {
        let shares = if fits { inherited_by_dependency } else { BTreeMap::new() };
        SliBucket::new(bucket.start_ms, counts, shares, bucket.latency.clone()).ok()
    });
    changed.unwrap_or_else(|| bucket.clone())
}
