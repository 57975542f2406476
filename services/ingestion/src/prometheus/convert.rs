//! Samples of a range query as SLI buckets. Pure.
//!
//! A value at an instant counts the five minutes before it. Where the server says nothing of the requests of a service
//! there is no bucket: a gap is never counted as good. `increase` extrapolates, so counts come with fractions: they are
//! rounded, and failures never exceed requests.

use std::collections::BTreeMap;

use attain_redaction::redact;
use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, LatencyHistogram, SliBucket, Source, UnixMillis};

use super::client::RangeSeries;
use super::mapping::{Mapping, Naming};
use crate::domain::{BucketMode, ObservedBucket};

/// Largest count that a double holds exactly: 2^53.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// What the server told of some time.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) valid: Vec<RangeSeries>,
    pub(super) bad: Vec<RangeSeries>,
    pub(super) latency: Vec<RangeSeries>,
}

/// Buckets, and what was left out of them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Converted {
    pub(super) buckets: Vec<ObservedBucket>,
    /// Series without a service's name.
    pub(super) unnamed_count: usize,
    /// Buckets that are none because a count is no number.
    pub(super) not_a_number_count: usize,
    /// Buckets with more failures than requests, cut down to all.
    pub(super) clamped_count: usize,
    /// Histograms that are none.
    pub(super) latency_malformed_count: usize,
}

type Key = (EntityId, UnixMillis);

/// Cumulative counts by upper bound.
type Bounds = Vec<(f64, f64)>;

/// Buckets of what a mapping's queries gave.
pub(super) fn convert(mapping: &Mapping, answers: Answers) -> Converted {
    let mut converted = Converted::default();
    let valid = sums(&mapping.service, answers.valid, &mut converted.unnamed_count);
    // A query for failures has no series where there never was one: that is none, not unknown.
    let bad = sums(&mapping.service, answers.bad, &mut converted.unnamed_count);
    let mut latency = match &mapping.latency {
        Some(query) => bounds(&mapping.service, answers.latency, query.unit_ms, &mut converted),
        None => BTreeMap::new(),
    };
    for ((service, end_ms), requests) in valid {
        let key = (service, end_ms);
        let failures = bad.get(&key).copied().unwrap_or(0.0);
        let (Some(requests), Some(failures)) = (rounded(requests), rounded(failures)) else {
            converted.not_a_number_count += 1;
            continue;
        };
        converted.clamped_count += usize::from(failures > requests);
        let Ok(counts) = BucketCounts::new(requests, failures.min(requests), None) else { continue };
        let latency = latency.remove(&key).and_then(|bounds| {
            let histogram = histogram(bounds, requests);
            converted.latency_malformed_count += usize::from(histogram.is_none());
            histogram.filter(|histogram| histogram.count() > 0)
        });
        match SliBucket::new(end_ms - BUCKET_MS, counts, BTreeMap::new(), latency) {
            Ok(bucket) => converted.buckets.push(ObservedBucket {
                service: key.0,
                source: Source::Prometheus,
                mode: BucketMode::Replace,
                bucket,
            }),
            // An instant that was not asked for.
            Err(_) => converted.not_a_number_count += 1,
        }
    }
    converted
}

/// Values by service and instant; several series of one service are added up, and NaN stays NaN.
fn sums(naming: &Naming, series: Vec<RangeSeries>, unnamed_count: &mut usize) -> BTreeMap<Key, f64> {
    let mut sums = BTreeMap::new();
    for series in series {
        let Some(service) = service_of(naming, &series) else {
            *unnamed_count += 1;
            continue;
        };
        for (end_ms, value) in series.values {
            *sums.entry((service.clone(), end_ms)).or_insert(0.0) += value;
        }
    }
    sums
}

fn service_of(naming: &Naming, series: &RangeSeries) -> Option<EntityId> {
    match naming {
        Naming::Fixed(id) => Some(id.clone()),
        Naming::Label(label) => series.labels.get(label).and_then(|name| EntityId::from_observed(&redact(name).0)),
    }
}

fn bounds(naming: &Naming, series: Vec<RangeSeries>, unit_ms: f64, converted: &mut Converted) -> BTreeMap<Key, Bounds> {
    let mut found: BTreeMap<Key, Bounds> = BTreeMap::new();
    for series in series {
        let bound = series.labels.get("le").and_then(|le| le.parse::<f64>().ok()).filter(|bound| !bound.is_nan());
        let (Some(service), Some(bound)) = (service_of(naming, &series), bound) else {
            converted.unnamed_count += 1;
            continue;
        };
        for (end_ms, value) in series.values {
            let bounds = found.entry((service.clone(), end_ms)).or_default();
            match bounds.iter_mut().find(|(known, _)| *known == bound * unit_ms) {
                Some((_, count)) => *count += value,
                None => bounds.push((bound * unit_ms, value)),
            }
        }
    }
    found
}

/// A classic histogram of at most `requests` observations; `None` without a bucket for all, or where a count is no number.
fn histogram(mut bounds: Bounds, requests: u64) -> Option<LatencyHistogram> {
    bounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    if bounds.last()?.0 != f64::INFINITY {
        return None;
    }
    let mut below = 0;
    let mut counts = Vec::with_capacity(bounds.len());
    for (_, cumulative) in &bounds {
        // Extrapolation may make a wider bucket hold less than a narrower one; it holds no less.
        let up_to_here = rounded(*cumulative)?.min(requests).max(below);
        counts.push(up_to_here - below);
        below = up_to_here;
    }
    let finite: Vec<f64> = bounds.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
    LatencyHistogram::from_explicit(&finite, &counts).ok()
}

/// A count; `None` for what cannot be one. The least below zero is an error of floating point.
fn rounded(value: f64) -> Option<u64> {
    (-0.5..=COUNT_MAX).contains(&value).then(|| value.round().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::super::mapping::LatencyQuery;
    use super::*;
    use proptest::prelude::*;

    const T: UnixMillis = 1_793_000_100_000;

    fn mapping(service: Naming) -> Mapping {
        Mapping {
            name: "m".into(),
            service,
            valid: "v".into(),
            bad: "b".into(),
            latency: Some(LatencyQuery { query: "l".into(), unit_ms: 1_000.0 }),
        }
    }

    fn by_label() -> Mapping {
        mapping(Naming::Label("service".into()))
    }

    fn series(labels: &[(&str, &str)], values: &[f64]) -> RangeSeries {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        RangeSeries {
            labels,
            values: values.iter().enumerate().map(|(i, value)| (T + i as i64 * BUCKET_MS, *value)).collect(),
        }
    }

    fn counts(converted: &Converted) -> Vec<(String, i64, u64, u64)> {
        let of = |bucket: &ObservedBucket| {
            let (start, counts) = (bucket.bucket.start_ms, bucket.bucket.counts);
            (bucket.service.to_string(), (start - T) / BUCKET_MS, counts.valid(), counts.bad())
        };
        converted.buckets.iter().map(of).collect()
    }

    #[test]
    fn a_value_counts_the_five_minutes_before_it() {
        let answers = Answers {
            valid: vec![series(&[("service", "cart")], &[99.6, 0.0, f64::NAN, 50.0, f64::INFINITY, 10.0])],
            bad: vec![series(&[("service", "cart")], &[1.4, 0.0, 1.0, 50.4, 0.0, f64::NAN])],
            latency: Vec::new(),
        };
        let converted = convert(&by_label(), answers);
        let cart = |place, valid, bad| ("cart".to_owned(), place, valid, bad);
        assert_eq!(counts(&converted), [cart(-1, 100, 1), cart(0, 0, 0), cart(2, 50, 50)]);
        assert_eq!((converted.not_a_number_count, converted.clamped_count), (3, 0));
    }

    #[test]
    fn more_failures_than_requests_are_cut_and_counted() {
        let answers = Answers {
            valid: vec![series(&[("service", "a")], &[10.0])],
            bad: vec![series(&[("service", "a")], &[12.0]), series(&[("service", "b")], &[5.0])],
            latency: Vec::new(),
        };
        let converted = convert(&by_label(), answers);
        assert_eq!(counts(&converted), [("a".to_owned(), -1, 10, 10)], "failures without requests are no bucket");
        assert_eq!(converted.clamped_count, 1);
    }

    #[test]
    fn a_service_without_failures_has_none() {
        let answers = Answers { valid: vec![series(&[("service", "a")], &[10.0])], ..Answers::default() };
        assert_eq!(counts(&convert(&by_label(), answers)), [("a".to_owned(), -1, 10, 0)]);
    }

    #[test]
    fn names_come_from_the_label_or_the_mapping() {
        let valid =
            || vec![series(&[("service", "a b")], &[1.0]), series(&[("service", "a-b")], &[2.0]), series(&[], &[4.0])];
        let converted = convert(&by_label(), Answers { valid: valid(), ..Answers::default() });
        assert_eq!((counts(&converted), converted.unnamed_count), (vec![("a-b".to_owned(), -1, 3, 0)], 1));
        let fixed = mapping(Naming::Fixed(EntityId::new("id", "shop").expect("valid")));
        assert_eq!(
            counts(&convert(&fixed, Answers { valid: valid(), ..Answers::default() })),
            [("shop".to_owned(), -1, 7, 0)]
        );
    }

    #[test]
    fn classic_histograms_become_exponential_ones() {
        let le = |le: &str, count: f64| series(&[("service", "a"), ("le", le)], &[count]);
        let with = |latency: Vec<RangeSeries>| {
            let valid = vec![series(&[("service", "a")], &[100.0])];
            convert(&by_label(), Answers { valid, latency, ..Answers::default() })
        };
        let converted = with(vec![le("+Inf", 100.2), le("0.25", 99.0), le("0.1", 90.0)]);
        let latency = converted.buckets[0].bucket.latency.clone().expect("a histogram");
        assert_eq!(latency.count(), 100);
        assert!((latency.count_above(250.0) - 1.0).abs() < 1.5, "{latency:?}");
        for (latency, malformed) in [
            (vec![le("0.1", 90.0)], 1),
            (vec![le("0.1", f64::NAN), le("+Inf", 100.0)], 1),
            (vec![le("0.1", 0.0), le("+Inf", 0.0)], 0),
            (vec![le("+Inf", 100.0)], 1),
        ] {
            let converted = with(latency);
            assert_eq!(converted.buckets[0].bucket.latency, None);
            assert_eq!(converted.latency_malformed_count, malformed);
        }
        // More observations than requests, and a wider bucket with less than a narrower one.
        let converted = with(vec![le("0.1", 90.0), le("0.25", 89.9), le("+Inf", 130.0)]);
        assert_eq!(converted.buckets[0].bucket.latency.as_ref().map(LatencyHistogram::count), Some(100));
    }

    proptest! {
        #[test]
        fn whatever_the_server_says_counts_nest(
            valid in prop::collection::vec(prop::num::f64::ANY, 0..8),
            bad in prop::collection::vec(prop::num::f64::ANY, 0..8),
            le in prop::collection::vec((prop::num::f64::ANY, prop::num::f64::ANY), 0..6),
        ) {
            let labels = [("service", "a")];
            let mut latency: Vec<RangeSeries> =
                le.iter().map(|(bound, count)| series(&[("service", "a"), ("le", &bound.to_string())], &[*count])).collect();
            latency.push(series(&[("service", "a"), ("le", "+Inf")], &[100.0]));
            let answers = Answers { valid: vec![series(&labels, &valid)], bad: vec![series(&labels, &bad)], latency };
            for observed in convert(&by_label(), answers).buckets {
                let counts = observed.bucket.counts;
                prop_assert!(counts.bad() <= counts.valid());
                prop_assert!(observed.bucket.latency.is_none_or(|latency| latency.count() <= counts.valid()));
            }
        }
    }
}
