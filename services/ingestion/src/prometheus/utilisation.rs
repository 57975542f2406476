//! Gauges of range queries as utilisation. Pure.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{BUCKET_MS, EntityId, Source, UnixMillis};

use super::answer::RangeSeries;
use super::counting::Tally;
use super::mapping::UtilisationQueries;
use crate::domain::{BucketMode, ObservedEntity, ObservedUtilisation, UtilisationBucket};

type Key = (EntityId, UnixMillis);

/// Utilisation, and what it is measured of.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Used {
    pub(super) utilisation: Vec<ObservedUtilisation>,
    pub(super) entities: Vec<ObservedEntity>,
}

/// Utilisation of what a mapping's queries gave, in the order of [`super::mapping::Reading::queries`]. Several series of one
/// service are its instances: the mean of their means, the largest of their largest values.
pub(super) fn utilisation(queries: &UtilisationQueries, mut answers: Vec<Vec<RangeSeries>>, tally: &mut Tally) -> Used {
    let mut answer = || if answers.is_empty() { Vec::new() } else { answers.remove(0) };
    let averages = values(queries, answer(), tally);
    let maxima = values(queries, answer(), tally);
    let mut used = Used::default();
    let mut measured = BTreeSet::new();
    for (key, averages) in averages {
        let average = averages.iter().sum::<f64>() / averages.len() as f64;
        // The two are asked for one by one, and a mean over samples may lie above the largest of fewer samples.
        let maximum = maxima.get(&key).into_iter().chain([&averages]).flatten().copied().fold(average, f64::max);
        let (service, end_ms) = key;
        let samples = u32::try_from(averages.len()).unwrap_or(u32::MAX);
        match UtilisationBucket::new(end_ms - BUCKET_MS, queries.kind, average, maximum, samples) {
            Ok(bucket) => {
                measured.insert(service.clone());
                used.utilisation.push(ObservedUtilisation {
                    service,
                    source: Source::Prometheus,
                    mode: BucketMode::Replace,
                    bucket,
                });
            }
            Err(_) => tally.add("utilisation_refused", 1),
        }
    }
    if let Some(kind) = queries.entity_kind {
        let entity = |id| ObservedEntity { id, kind: Some(kind), source: Source::Prometheus, request_count: 0 };
        used.entities = measured.into_iter().map(entity).collect();
    }
    tally.add("utilisation", used.utilisation.len());
    used
}

/// What is a number, by service and instant. A division by no limit at all gives none.
fn values(queries: &UtilisationQueries, series: Vec<RangeSeries>, tally: &mut Tally) -> BTreeMap<Key, Vec<f64>> {
    let mut found: BTreeMap<Key, Vec<f64>> = BTreeMap::new();
    for series in series {
        let Some(service) = queries.service.service(&series) else {
            tally.add("series_unnamed", 1);
            continue;
        };
        for (end_ms, value) in series.values {
            if value.is_finite() {
                found.entry((service.clone(), end_ms)).or_default().push(value);
            } else {
                tally.add("not_a_number", 1);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::mapping::Naming;
    use super::*;
    use attain_vocabulary::{EntityKind, UtilisationKind};

    const T: i64 = 1_793_000_100_000;

    fn series(job: &str, values: &[f64]) -> RangeSeries {
        RangeSeries {
            labels: [("job".to_owned(), job.to_owned())].into(),
            values: values.iter().enumerate().map(|(i, value)| (T + i as i64 * BUCKET_MS, *value)).collect(),
            histograms: Vec::new(),
        }
    }

    fn queries(kind: UtilisationKind) -> UtilisationQueries {
        UtilisationQueries {
            service: Naming::Label { labels: vec!["job".into()], strip_namespace: false },
            kind,
            entity_kind: Some(EntityKind::Datastore),
            average: "a".into(),
            maximum: Some("m".into()),
        }
    }

    #[test]
    fn means_and_largest_values_of_all_instances_are_one_bucket() {
        let averages = vec![series("db", &[0.25, f64::NAN, 0.5, 1.04, 45.0]), series("db", &[0.75])];
        let maxima = vec![series("db", &[0.8, 0.9, 0.4, 1.04, 45.0])];
        let mut tally = Tally::default();
        let used = utilisation(&queries(UtilisationKind::ConnectionPool), vec![averages, maxima], &mut tally);
        let told: Vec<_> = used
            .utilisation
            .iter()
            .map(|observed| observed.bucket)
            .map(|bucket| ((bucket.start_ms() - T) / BUCKET_MS, bucket.average(), bucket.maximum()))
            .collect();
        assert_eq!(told, [(-1, 0.5, 0.8), (1, 0.5, 0.5), (2, 1.0, 1.0)]);
        assert_eq!((used.entities.len(), used.entities[0].kind), (1, Some(EntityKind::Datastore)));
        assert_eq!((tally.of("not_a_number"), tally.of("utilisation_refused")), (1, 1));
    }

    #[test]
    fn a_depth_without_a_largest_value_is_its_mean() {
        let mut tally = Tally::default();
        let used = utilisation(&queries(UtilisationKind::QueueDepth), vec![vec![series("db", &[1_234.5])]], &mut tally);
        assert_eq!(used.utilisation[0].bucket.maximum(), 1_234.5);
    }
}
