//! Own and inherited failure, told apart bucket by bucket.

mod regression;

use std::collections::BTreeMap;

use attain_vocabulary::{DependencyMode, EntityId};

use crate::sanity::Usable;
use crate::{
    CountPoint, CountSeries, DependencyHistory, FailureSplit, InheritedShare, RecommendationInput, SplitMethod,
};

/// Least share of the failures that traces must have told apart before they are believed for the rest.
const TRACED_SHARE_MIN: f64 = 0.5;

/// Failures of each point of the series by cause; own, inherited by dependency and unattributed sum to its failures.
pub(crate) struct Causes {
    pub(crate) own: Vec<f64>,
    pub(crate) by_dependency: BTreeMap<EntityId, Vec<f64>>,
}

/// A split and what it rests on.
pub(crate) struct Split {
    pub(crate) ratios: FailureSplit,
    pub(crate) causes: Causes,
}

/// Tells failures apart: by traces where they cover at least half of the failures (the rest is shared out alike), else by
/// regression on the histories of the dependencies, else not at all.
pub(crate) fn split(input: &RecommendationInput, usable: &Usable<'_>) -> Split {
    let series = &usable.series;
    if let Some(causes) = traced(usable) {
        let hardness = |id: &EntityId, failed: &[f64]| traced_hardness(input, series, id, failed);
        return assemble(series, causes, SplitMethod::Traces, hardness);
    }
    let candidates: Vec<&DependencyHistory> =
        input.dependencies.iter().filter(|d| d.mode != DependencyMode::Async).collect();
    if candidates.is_empty() {
        // Without a graph nobody knows that there are none.
        let method = if input.structure.is_some() { SplitMethod::NoDependencies } else { SplitMethod::Unknown };
        return assemble(series, all_own(series), method, |_, _| (None, 0.0));
    }
    match regression::fit(series, &candidates) {
        Some(fit) => {
            let causes = fit.causes(series);
            assemble(series, causes, SplitMethod::Regression, |id, _| fit.hardness(id))
        }
        None => assemble(series, all_own(series), SplitMethod::Unknown, |_, _| (None, 0.0)),
    }
}

/// Own and inherited failure alone, without a recommendation: how each component of a closure is rated. Reads the history,
/// the exclusions, the dependencies, and whether the structure is known.
#[must_use]
pub fn failure_split(input: &RecommendationInput) -> FailureSplit {
    split(input, &Usable::of(input)).ratios
}

/// The service's own failures, bucket by bucket, exclusions left out; `None` where they cannot be told from what it inherited.
/// Reads the same of the input as [`failure_split`].
#[must_use]
pub fn own_failures(input: &RecommendationInput) -> Option<CountSeries> {
    let usable = Usable::of(input);
    let split = split(input, &usable);
    if split.ratios.method == SplitMethod::Unknown {
        return None;
    }
    let points = usable.series.points().iter().zip(&split.causes.own);
    Some(CountSeries::new(points.map(|(point, own)| CountPoint { bad: *own, ..*point }).collect()))
}

fn all_own(series: &CountSeries) -> Causes {
    Causes { own: series.points().iter().map(|point| point.bad).collect(), by_dependency: BTreeMap::new() }
}

/// Failures by cause where traces told them apart; `None` when they told too little.
fn traced(usable: &Usable<'_>) -> Option<Causes> {
    let (points, mut own) = (usable.series.points(), vec![0.0; usable.buckets.len()]);
    let (mut told_bad, mut untold, mut columns) = (0.0, Vec::new(), Columns::default());
    for (i, bucket) in usable.buckets.iter().enumerate() {
        let (bad, Some(inherited)) = (bucket.counts.bad(), bucket.counts.inherited_bad()) else {
            untold.push(i);
            continue;
        };
        told_bad += bad as f64;
        own[i] = (bad - inherited) as f64;
        // Who it was is far away in memory, and mostly nobody.
        let by_whom = &bucket.inherited_by_dependency;
        match by_whom.first_key_value().filter(|_| inherited > 0) {
            None => {}
            // Most often one: to walk a map costs more than to look at it.
            Some((id, failed)) if by_whom.len() == 1 => columns.add(i, 0, id, *failed, points.len()),
            Some(_) => {
                let named = by_whom.iter().enumerate();
                named.for_each(|(nth, (id, failed))| columns.add(i, nth, id, *failed, points.len()));
            }
        }
    }
    if untold.len() == points.len() || told_bad < TRACED_SHARE_MIN * usable.series.bad() {
        return None;
    }
    let mut by_dependency = columns.by_dependency();
    for column in by_dependency.values_mut().chain([&mut own]) {
        share_out(points, &untold, told_bad, column);
    }
    Some(Causes { own, by_dependency })
}

/// Failures by dependency while they are read. Neighbouring buckets mostly name the same ones in the same order.
#[derive(Default)]
struct Columns<'a> {
    columns: Vec<(&'a EntityId, Vec<f64>)>,
    by_id: BTreeMap<&'a EntityId, usize>,
    /// Column of the nth dependency that the last bucket with so many named.
    last: Vec<usize>,
}

impl<'a> Columns<'a> {
    /// Failures of bucket `i` of so many by the nth dependency that it names.
    fn add(&mut self, i: usize, nth: usize, id: &'a EntityId, failed: u64, len: usize) {
        if failed == 0 {
            return;
        }
        let again = self.last.get(nth).copied().filter(|at| self.columns[*at].0 == id);
        let at = again.unwrap_or_else(|| self.find(id, len));
        if self.last.len() <= nth {
            self.last.resize(nth + 1, at);
        }
        self.last[nth] = at;
        self.columns[at].1[i] = failed as f64;
    }

    fn find(&mut self, id: &'a EntityId, len: usize) -> usize {
        let columns = &mut self.columns;
        *self.by_id.entry(id).or_insert_with(|| {
            columns.push((id, vec![0.0; len]));
            columns.len() - 1
        })
    }

    fn by_dependency(self) -> BTreeMap<EntityId, Vec<f64>> {
        self.columns.into_iter().map(|(id, column)| (id.clone(), column)).collect()
    }
}

/// Gives the buckets without traces the cause's share of the failures that traces told apart.
fn share_out(points: &[CountPoint], untold: &[usize], told_bad: f64, column: &mut [f64]) {
    if untold.is_empty() {
        return;
    }
    let share = if told_bad > 0.0 { column.iter().sum::<f64>() / told_bad } else { 0.0 };
    for at in untold {
        column[*at] = share * points[*at].bad;
    }
}

/// Failures inherited by an edge over those that the dependency's own history leads to expect from certain inheritance.
fn traced_hardness(
    input: &RecommendationInput,
    series: &CountSeries,
    id: &EntityId,
    failed: &[f64],
) -> (Option<f64>, f64) {
    let Some(dependency) = input.dependencies.iter().find(|dependency| dependency.id == *id) else {
        return (None, 0.0);
    };
    let Some(ratios) = regression::failure_ratios(series, dependency) else {
        return (None, 0.0);
    };
    let expected: f64 = ratios.iter().zip(series.points()).map(|(ratio, point)| ratio * point.valid).sum();
    let inherited: f64 = failed.iter().sum();
    ((expected > 0.0).then(|| (inherited / expected).min(1.0)), 0.0)
}

fn assemble(
    series: &CountSeries,
    causes: Causes,
    method: SplitMethod,
    hardness: impl Fn(&EntityId, &[f64]) -> (Option<f64>, f64),
) -> Split {
    let valid = series.valid();
    let ratio = |failed: f64| if valid > 0.0 { failed / valid } else { 0.0 };
    // What is left of each bucket is a difference, whose rounding may leave less than nothing.
    let own_failure_ratio = ratio(causes.own.iter().sum()).max(0.0);
    let inherited_failure_ratio = (ratio(series.bad()) - own_failure_ratio).max(0.0);
    let mut inherited: Vec<InheritedShare> = causes
        .by_dependency
        .iter()
        .map(|(id, failed)| {
            let (hardness, hardness_standard_error) = hardness(id, failed);
            InheritedShare {
                dependency: id.clone(),
                failure_ratio: ratio(failed.iter().sum()),
                hardness,
                hardness_standard_error,
            }
        })
        .collect();
    inherited.sort_by(|a, b| b.failure_ratio.total_cmp(&a.failure_ratio).then_with(|| a.dependency.cmp(&b.dependency)));
    let named: f64 = inherited.iter().map(|share| share.failure_ratio).sum();
    let unattributed_ratio = (inherited_failure_ratio - named).max(0.0);
    Split {
        ratios: FailureSplit { own_failure_ratio, inherited_failure_ratio, unattributed_ratio, method, inherited },
        causes,
    }
}

#[cfg(test)]
mod tests;
