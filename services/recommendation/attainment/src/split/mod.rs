//! Own and inherited failure, told apart bucket by bucket.

mod regression;

use std::borrow::Cow;
use std::collections::BTreeMap;

use attain_vocabulary::{DependencyMode, EntityId, SliBucket};

use crate::sanity::{Usable, Witness};
use crate::{
    CountPoint, CountSeries, DependencyHistory, FailureSplit, InheritedShare, RecommendationInput, SplitMethod,
};

/// Least share of the failures that traces must have told apart before they are believed for the rest.
const TRACED_SHARE_MIN: f64 = 0.5;

/// Failures of each point of the series by cause; own, inherited by dependency and unattributed sum to its failures.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Causes {
    pub(crate) own: Vec<f64>,
    pub(crate) by_dependency: BTreeMap<EntityId, Vec<f64>>,
}

/// A split and what it rests on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    pub(crate) ratios: FailureSplit,
    pub(crate) causes: Causes,
}

/// Tells failures apart: by traces where they cover at least half of the failures (the rest is shared out alike), else by
/// regression on the histories of the dependencies, else not at all.
pub(crate) fn split(input: &RecommendationInput, usable: &Usable<'_>, traces: Traces<'_>) -> Split {
    let series = &usable.series;
    if let Some(causes) = traces.causes(series) {
        let hardness = |id: &EntityId, failed: &[f64]| traced_hardness(input, series, id, failed);
        return assemble(series, causes, SplitMethod::Traces, hardness);
    }
    let candidates: Vec<&DependencyHistory> =
        input.dependencies.iter().filter(|d| d.mode != DependencyMode::Async).collect();
    if candidates.is_empty() {
        return assemble(series, all_own(series), without_candidates(input), |_, _| (None, 0.0));
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
    let (usable, traces) = Usable::seen_by(input);
    split(input, &usable, traces).ratios
}

/// The service's own failures, bucket by bucket, exclusions left out; `None` where they cannot be told from what it inherited.
/// Reads the same of the input as [`failure_split`].
#[must_use]
pub fn own_failures(input: &RecommendationInput) -> Option<CountSeries> {
    ToldApart::of(input).own_failures(input)
}

/// Own and inherited failures of a service bucket by bucket, told apart once for everything that is asked about them.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldApart {
    series: CountSeries,
    split: Split,
}

impl ToldApart {
    /// Reads the same of the input as [`failure_split`].
    #[must_use]
    pub fn of(input: &RecommendationInput) -> Self {
        let (usable, traces) = Usable::seen_by(input);
        let split = split(input, &usable, traces);
        Self { series: usable.series, split }
    }

    /// The split, as [`failure_split`] gives it.
    #[must_use]
    pub fn ratios(&self) -> &FailureSplit {
        &self.split.ratios
    }

    /// What [`own_failures`] says of the input that this was told of, or of one that differs from it in nothing that
    /// [`failure_split`] reads but in whether the structure is known.
    #[must_use]
    pub fn own_failures(&self, input: &RecommendationInput) -> Option<CountSeries> {
        let split = self.seen_by(input);
        if split.ratios.method == SplitMethod::Unknown {
            return None;
        }
        let points = self.series.points().iter().zip(&split.causes.own);
        Some(CountSeries::new(points.map(|(point, own)| CountPoint { bad: *own, ..*point }).collect()))
    }

    /// The split of an input of the same failures. Whether the structure is known decides only what a service without
    /// dependencies is called.
    pub(crate) fn seen_by(&self, input: &RecommendationInput) -> Cow<'_, Split> {
        let ratios = &self.split.ratios;
        let nothing_called = input.dependencies.iter().all(|dependency| dependency.mode == DependencyMode::Async);
        let told = matches!(ratios.method, SplitMethod::Traces | SplitMethod::Regression);
        let method = if told || !nothing_called { ratios.method } else { without_candidates(input) };
        if method == ratios.method {
            return Cow::Borrowed(&self.split);
        }
        let ratios = FailureSplit { method, ..ratios.clone() };
        Cow::Owned(Split { ratios, causes: self.split.causes.clone() })
    }
}

/// Without a graph nobody knows that there are none.
fn without_candidates(input: &RecommendationInput) -> SplitMethod {
    if input.structure.is_some() { SplitMethod::NoDependencies } else { SplitMethod::Unknown }
}

fn all_own(series: &CountSeries) -> Causes {
    Causes { own: series.points().iter().map(|point| point.bad).collect(), by_dependency: BTreeMap::new() }
}

/// What traces tell of each bucket, while the buckets are read.
pub(crate) struct Traces<'a> {
    rows_max: usize,
    /// None where nothing is told.
    own: Vec<f64>,
    /// Rows of which nothing is told.
    untold: Vec<usize>,
    /// Failures of the others.
    told_bad: f64,
    /// Rows that inherited, and of whom.
    named: Vec<(usize, &'a BTreeMap<EntityId, u64>)>,
}

impl<'a> Witness<'a> for Traces<'a> {
    fn with_room(rows: usize) -> Self {
        let (own, named) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Self { rows_max: rows, own, untold: Vec::new(), told_bad: 0.0, named }
    }

    fn see(&mut self, bucket: &'a SliBucket) {
        let row = self.own.len();
        let (bad, Some(inherited)) = (bucket.counts.bad(), bucket.counts.inherited_bad()) else {
            self.own.push(0.0);
            self.untold.push(row);
            return;
        };
        self.told_bad += bad as f64;
        self.own.push((bad - inherited) as f64);
        if inherited > 0 && !bucket.inherited_by_dependency.is_empty() {
            self.named.push((row, &bucket.inherited_by_dependency));
        }
    }
}

/// Rows whose first dependencies are looked up before anything else is done with them: what is far away comes faster when several are
/// waited for.
const FETCHED: usize = 32;

impl Traces<'_> {
    /// Failures by cause where traces told them apart; `None` when they told too little.
    fn causes(self, series: &CountSeries) -> Option<Causes> {
        let points = series.points();
        let Self { mut own, untold, told_bad, named, rows_max } = self;
        if untold.len() == points.len() || told_bad < TRACED_SHARE_MIN * series.bad() {
            return None;
        }
        let mut columns = Columns::default();
        for named in named.chunks(FETCHED) {
            let firsts = named.iter().map(|(_, by_whom)| by_whom.first_key_value().map(|(id, failed)| (id, *failed)));
            for ((row, by_whom), first) in named.iter().zip(firsts.collect::<Vec<_>>()) {
                // Most often one: to walk a map costs more than to look at it.
                if let Some((id, failed)) = first.filter(|_| by_whom.len() == 1) {
                    columns.add(*row, 0, id, failed, rows_max);
                    continue;
                }
                for (nth, (id, failed)) in by_whom.iter().enumerate() {
                    columns.add(*row, nth, id, *failed, rows_max);
                }
            }
        }
        let mut by_dependency = columns.by_dependency(points.len());
        for column in by_dependency.values_mut().chain([&mut own]) {
            share_out(points, &untold, told_bad, column);
        }
        Some(Causes { own, by_dependency })
    }
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

    /// Of so many rows in all.
    fn by_dependency(self, rows: usize) -> BTreeMap<EntityId, Vec<f64>> {
        let read = |(id, mut column): (&EntityId, Vec<f64>)| {
            column.truncate(rows);
            (id.clone(), column)
        };
        self.columns.into_iter().map(read).collect()
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
