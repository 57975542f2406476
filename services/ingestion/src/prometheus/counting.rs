//! Counts of range queries by whose they are. Pure.

use std::collections::BTreeMap;

use attain_redaction::redact_name;
use attain_vocabulary::{EntityId, UnixMillis};

use super::answer::RangeSeries;
use super::mapping::Naming;
use crate::domain::Region;

/// Largest count that a double holds exactly: 2^53.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// How often something was left out or cut, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally(pub(super) BTreeMap<&'static str, usize>);

/// Every name that a tally or the follower counts under.
pub(super) const NAMES: [&str; 20] = [
    "buckets",
    "regional_buckets",
    "edges",
    "utilisation",
    // Series without the name of a service.
    "series_unnamed",
    // Buckets that are none because a count is no number.
    "not_a_number",
    // Buckets with more failures than requests, cut down to all.
    "bad_clamped",
    // Histograms that are none.
    "latency_malformed",
    // Calls of a service to itself.
    "edges_to_self",
    // Five minutes of an edge that were counted before: by this mapping, or by one that is no longer there.
    "edges_counted_before",
    // Ratios above 1, depths below 0.
    "utilisation_refused",
    "queries_failed",
    // Answers cut in halves.
    "answers_too_large",
    // Queries asked again for half the time because they took too long, or could not be executed.
    "queries_timed_out",
    "queries_not_executed",
    // Answers of a part of the data, asked for again.
    "answers_partial",
    // Warnings about the query itself.
    "query_warnings",
    // Buckets that are too large by themselves.
    "buckets_passed_over",
    // Services, or their utilisation, that two mappings measure at the same time.
    "measured_twice",
    // Answers refused because of the number of their series.
    "answers_too_many_series",
];

impl Tally {
    pub(super) fn add(&mut self, name: &'static str, count: usize) {
        if count > 0 {
            *self.0.entry(name).or_insert(0) += count;
        }
    }

    #[cfg(test)]
    pub(super) fn of(&self, name: &str) -> usize {
        assert!(NAMES.contains(&name), "{name}");
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// Values by what `key` makes of a series' labels, and by instant; several series of one key are added up, and NaN stays
/// NaN. How many series had no key.
pub(super) fn sums<K: Ord + Clone>(
    series: &[RangeSeries],
    key: impl Fn(&RangeSeries) -> Option<K>,
) -> (BTreeMap<(K, UnixMillis), f64>, usize) {
    let mut sums = BTreeMap::new();
    let mut unnamed_count = 0;
    for series in series {
        let Some(named) = key(series) else {
            unnamed_count += 1;
            continue;
        };
        for (end_ms, value) in &series.values {
            *sums.entry((named.clone(), *end_ms)).or_insert(0.0) += value;
        }
    }
    (sums, unnamed_count)
}

/// A count; `None` for what cannot be one. The least below zero is an error of floating point.
pub(super) fn rounded(value: f64) -> Option<u64> {
    (-0.5..=COUNT_MAX).contains(&value).then(|| value.round().max(0.0) as u64)
}

/// The value of the first of these labels that a series has.
fn first_of<'series>(labels: &[String], series: &'series RangeSeries) -> Option<&'series String> {
    labels.iter().find_map(|label| series.labels.get(label).filter(|value| !value.is_empty()))
}

/// The region that a series counts; `None` where it does not say.
pub(super) fn region(labels: &[String], series: &RangeSeries) -> Option<Region> {
    EntityId::from_observed(&redact_name(first_of(labels, series)?)).map(Region::observed)
}

impl Naming {
    /// The service that a series is about; `None` where it does not say.
    pub(super) fn service(&self, series: &RangeSeries) -> Option<EntityId> {
        match self {
            Self::Fixed(id) => Some(id.clone()),
            Self::Label { labels, strip_namespace } => {
                let value = first_of(labels, series)?;
                let name = if *strip_namespace { value.rsplit('/').next().unwrap_or(value) } else { value };
                // What meshes call a party that they do not know.
                let unknown = ["unknown", "PassthroughCluster", "BlackHoleCluster"].contains(&name);
                if unknown { None } else { EntityId::from_observed(&redact_name(name)) }
            }
        }
    }
}
