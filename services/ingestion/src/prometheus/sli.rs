//! Counts and latencies of range queries as SLI buckets. Pure.
//!
//! A value at an instant counts the five minutes before it. Where the server says nothing of the requests of a service
//! there is no bucket: a gap is never counted as good. Estimates come with fractions: they are rounded, and failures never
//! exceed requests.

use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, LatencyHistogram, SliBucket, Source, UnixMillis};

use super::answer::RangeSeries;
use super::counting::{Tally, region, rounded, sums};
use super::histogram::latencies;
use super::mapping::SliQueries;
use crate::domain::{BucketMode, ObservedBucket, RegionalBucket};

/// What the requests of services say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Requests {
    pub(super) buckets: Vec<ObservedBucket>,
    /// Those of single regions among them, where series tell one. Each count is rounded by itself.
    pub(super) regional: Vec<RegionalBucket>,
}

/// Buckets of what a mapping's queries gave, in the order of [`super::mapping::Reading::queries`].
pub(super) fn requests(queries: &SliQueries, mut answers: Vec<Vec<RangeSeries>>, tally: &mut Tally) -> Requests {
    let mut answer = || if answers.is_empty() { Vec::new() } else { answers.remove(0) };
    let service = |series: &RangeSeries| queries.service.service(series);
    let (all, failed) = (answer(), answer());
    let (valid, unnamed_valid) = sums(&all, service);
    let (bad, unnamed_bad) = sums(&failed, service);
    let unit_ms = queries.latency.as_ref().map_or(1.0, |latency| latency.unit_ms);
    let (mut latency, unnamed_latency) = latencies(answer(), unit_ms, service);
    tally.add("series_unnamed", unnamed_valid + unnamed_bad + unnamed_latency);

    let mut buckets = Vec::with_capacity(valid.len());
    for (key, requests) in valid {
        let Some(counts) = counts(requests, bad.get(&key), tally) else { continue };
        let latency = latency.remove(&key).and_then(|latency| {
            let histogram = latency.histogram(counts.valid());
            tally.add("latency_malformed", usize::from(histogram.is_none()));
            histogram.filter(|histogram| histogram.count() > 0)
        });
        let (service, end_ms) = key;
        buckets.extend(observed(service, end_ms, counts, latency, tally));
    }
    tally.add("buckets", buckets.len());
    Requests { buckets, regional: regional(queries, &all, &failed, tally) }
}

fn regional(
    queries: &SliQueries,
    all: &[RangeSeries],
    failed: &[RangeSeries],
    tally: &mut Tally,
) -> Vec<RegionalBucket> {
    if queries.region_labels.is_empty() {
        return Vec::new();
    }
    // What tells no region counts for the whole alone.
    let place =
        |series: &RangeSeries| Some((queries.service.service(series)?, region(&queries.region_labels, series)?));
    let (valid, bad) = (sums(all, place).0, sums(failed, place).0);
    let mut buckets = Vec::with_capacity(valid.len());
    for (key, requests) in valid {
        let Some(counts) = counts(requests, bad.get(&key), tally) else { continue };
        let ((service, region), end_ms) = key;
        let observed = observed(service, end_ms, counts, None, tally);
        buckets.extend(observed.map(|observed| RegionalBucket { region, observed }));
    }
    tally.add("regional_buckets", buckets.len());
    buckets
}

/// Counts of five minutes. A query for failures has no series where there never was one: that is none, not unknown.
fn counts(requests: f64, failures: Option<&f64>, tally: &mut Tally) -> Option<BucketCounts> {
    let failures = failures.copied().unwrap_or(0.0);
    let (Some(requests), Some(failures)) = (rounded(requests), rounded(failures)) else {
        tally.add("not_a_number", 1);
        return None;
    };
    tally.add("bad_clamped", usize::from(failures > requests));
    BucketCounts::new(requests, failures.min(requests), None).ok()
}

fn observed(
    service: EntityId,
    end_ms: UnixMillis,
    counts: BucketCounts,
    latency: Option<LatencyHistogram>,
    tally: &mut Tally,
) -> Option<ObservedBucket> {
    match SliBucket::new(end_ms - BUCKET_MS, counts, BTreeMap::new(), latency) {
        Ok(bucket) => Some(ObservedBucket { service, source: Source::Prometheus, mode: BucketMode::Replace, bucket }),
        Err(_) => {
            // An instant that was not asked for.
            tally.add("not_a_number", 1);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping::{LatencyQuery, Naming};
    use super::*;
    use proptest::prelude::*;

    const T: UnixMillis = 1_793_000_100_000;

    fn mapping(service: Naming) -> SliQueries {
        SliQueries {
            service,
            region_labels: Vec::new(),
            valid: "v".into(),
            bad: "b".into(),
            latency: Some(LatencyQuery { query: "l".into(), unit_ms: 1_000.0 }),
        }
    }

    fn by_label() -> SliQueries {
        mapping(Naming::Label { labels: vec!["service".into()], strip_namespace: false })
    }

    fn series(labels: &[(&str, &str)], values: &[f64]) -> RangeSeries {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        RangeSeries {
            labels,
            values: values.iter().enumerate().map(|(i, value)| (T + i as i64 * BUCKET_MS, *value)).collect(),
            histograms: Vec::new(),
        }
    }

    #[derive(Default)]
    struct Answers {
        valid: Vec<RangeSeries>,
        bad: Vec<RangeSeries>,
        latency: Vec<RangeSeries>,
    }

    struct Converted {
        buckets: Vec<ObservedBucket>,
        regional: Vec<RegionalBucket>,
        tally: Tally,
    }

    fn convert(queries: &SliQueries, answers: Answers) -> Converted {
        let mut tally = Tally::default();
        let told = requests(queries, vec![answers.valid, answers.bad, answers.latency], &mut tally);
        Converted { buckets: told.buckets, regional: told.regional, tally }
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
        assert_eq!((converted.tally.of("not_a_number"), converted.tally.of("bad_clamped")), (3, 0));
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
        assert_eq!(converted.tally.of("bad_clamped"), 1);
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
        assert_eq!((counts(&converted), converted.tally.of("series_unnamed")), (vec![("a-b".to_owned(), -1, 3, 0)], 1));
        let fixed = mapping(Naming::Fixed(EntityId::new("id", "shop").expect("valid")));
        assert_eq!(
            counts(&convert(&fixed, Answers { valid: valid(), ..Answers::default() })),
            [("shop".to_owned(), -1, 7, 0)]
        );
    }

    #[test]
    fn regions_are_counted_beside_the_whole() {
        let of = |region: &str, values: &[f64]| series(&[("service", "a"), ("region", region)], values);
        let answers = || Answers {
            valid: vec![of("eu", &[10.0, 20.0]), of("us", &[5.0]), of("", &[2.0]), of("jane@mail.example", &[1.0])],
            bad: vec![of("us", &[4.0]), of("", &[1.0])],
            latency: Vec::new(),
        };
        let queries = SliQueries { region_labels: vec!["zone".into(), "region".into()], ..by_label() };
        let told = convert(&queries, answers());
        let whole = [("a".to_owned(), -1, 18, 5), ("a".to_owned(), 0, 20, 0)];
        assert_eq!(counts(&told), whole);
        let mut regional: Vec<(&str, i64, u64, u64)> = told
            .regional
            .iter()
            .map(|RegionalBucket { region, observed: ObservedBucket { bucket, .. } }| {
                let place = (bucket.start_ms - T) / BUCKET_MS;
                (region.as_str(), place, bucket.counts.valid(), bucket.counts.bad())
            })
            .collect();
        let redacted = regional.iter().position(|(region, ..)| !["eu", "us"].contains(region)).expect("a region");
        assert!(!regional.remove(redacted).0.contains("jane"));
        assert_eq!(regional, [("eu", -1, 10, 0), ("eu", 0, 20, 0), ("us", -1, 5, 4)]);
        assert_eq!(told.tally.of("regional_buckets"), 4);
        // Without the label nothing is told by region, and the whole is the same.
        let plain = convert(&by_label(), answers());
        assert_eq!((counts(&plain), plain.regional.len()), (whole.to_vec(), 0));
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
            assert_eq!(converted.tally.of("latency_malformed"), malformed);
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
