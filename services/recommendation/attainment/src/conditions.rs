//! Under which load and utilisation offers hold: what was measured while they were, and nothing beyond.

use attain_vocabulary::{BUCKET_MS, UtilisationKind};
use serde::{Deserialize, Serialize};

use crate::sanity::Usable;
use crate::{RecommendationInput, Used};

/// Seconds of a bucket.
const BUCKET_SECONDS: f64 = BUCKET_MS as f64 / 1000.0;
/// Share of slices that count as the busiest.
const BUSIEST_SHARE: f64 = 0.05;

/// Load and utilisation that offers rest on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Requests a second in the busiest slice of five minutes; `None` where no request was measured.
    pub request_rate_max: Option<f64>,
    /// Requests a second that one slice in 20 exceeds.
    pub request_rate_p95: Option<f64>,
    /// Share of bad requests in those busiest slices, in `[0, 1]`; `None` where no slice is busier than the others.
    pub busiest_bad_ratio: Option<f64>,
    /// The same of the other slices.
    pub other_bad_ratio: Option<f64>,
    /// How much was used of limits, by kind; of age, which has an SLI of its own, nothing.
    pub utilisation: Vec<Used>,
}

impl Conditions {
    /// `None` where neither load nor utilisation was measured.
    pub(crate) fn of(input: &RecommendationInput, usable: &Usable<'_>) -> Option<Self> {
        let sane = |used: &&Used| used.average_p95.is_finite() && used.maximum.is_finite();
        let of_limits = |used: &&Used| used.kind != UtilisationKind::MessageAge;
        let utilisation: Vec<Used> = input.utilisation.used.iter().filter(of_limits).filter(sane).copied().collect();
        let points = usable.series.points();
        let most = points.iter().map(|point| point.valid).fold(0.0, f64::max);
        if most <= 0.0 {
            let none = Self {
                request_rate_max: None,
                request_rate_p95: None,
                busiest_bad_ratio: None,
                other_bad_ratio: None,
                utilisation,
            };
            return (!none.utilisation.is_empty()).then_some(none);
        }
        // Numbers that are not negative are in the order of their bits, and whole numbers are put in order faster.
        let mut counts: Vec<u64> = points.iter().map(|point| point.valid.to_bits()).collect();
        let rank = ((1.0 - BUSIEST_SHARE) * counts.len() as f64).ceil() as usize;
        let (_, p95, _) = counts.select_nth_unstable(rank.clamp(1, points.len()) - 1);
        let p95 = f64::from_bits(*p95);
        let (mut busiest, mut others) = ((0.0, 0.0), (0.0, 0.0));
        for point in points {
            // To both, for which it is says nothing of the next one: what is not its own adds nothing.
            let share = if point.valid > p95 { [1.0, 0.0] } else { [0.0, 1.0] };
            busiest = (busiest.0 + share[0] * point.valid, busiest.1 + share[0] * point.bad);
            others = (others.0 + share[1] * point.valid, others.1 + share[1] * point.bad);
        }
        let told = busiest.0 > 0.0 && others.0 > 0.0;
        let ratio = |(valid, bad): (f64, f64)| told.then(|| (bad / valid).clamp(0.0, 1.0));
        Some(Self {
            request_rate_max: Some(most / BUCKET_SECONDS),
            request_rate_p95: Some(p95 / BUCKET_SECONDS),
            busiest_bad_ratio: ratio(busiest),
            other_bad_ratio: ratio(others),
            utilisation,
        })
    }
}

/// What people call a kind.
pub(crate) fn kind_words(kind: UtilisationKind) -> &'static str {
    match kind {
        UtilisationKind::Cpu => "cpu",
        UtilisationKind::Memory => "memory",
        UtilisationKind::Saturation => "saturation",
        UtilisationKind::QueueDepth => "queue depth",
        UtilisationKind::ConnectionPool => "connection pool",
        UtilisationKind::MessageAge => "message age",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::{BucketCounts, EntityId, EntityKind, SliBucket, Tier, TimeRange, TimeWindow};
    use std::collections::BTreeMap;

    use crate::{ServiceHistory, TierPolicy, UtilisationFacts};

    fn found(counts: &[(u64, u64)], used: Vec<Used>) -> Option<Conditions> {
        let bucket = |(i, (valid, bad)): (usize, &(u64, u64))| {
            let counts = BucketCounts::new(*valid, *bad, None).expect("nested");
            SliBucket::new(i as i64 * BUCKET_MS, counts, BTreeMap::new(), None).expect("aligned")
        };
        let range = TimeRange::new("range", 0, counts.len() as i64 * BUCKET_MS).expect("ascending");
        let input = RecommendationInput {
            service: EntityId::new("id", "svc").expect("a name"),
            tier: Tier::Two,
            kind: EntityKind::Service,
            window: TimeWindow::default(),
            as_of_ms: range.end_ms(),
            history: ServiceHistory { range, buckets: counts.iter().enumerate().map(bucket).collect() },
            dependencies: vec![],
            exclusions: vec![],
            incident_ids: vec![],
            structure: None,
            counterfactuals: vec![],
            current_slos: vec![],
            missing_inputs: vec![],
            policy: TierPolicy::for_tier(Tier::Two),
            class_record: None,
            quiet_slices_good: false,
            utilisation: UtilisationFacts { used, ..UtilisationFacts::default() },
            seed: 0,
            model: None,
        };
        Conditions::of(&input, &Usable::of(&input))
    }

    #[test]
    fn the_busiest_slices_are_told_apart_from_the_others() {
        let mut counts = vec![(300u64, 3u64); 38];
        counts.extend([(900, 90), (1200, 120)]);
        let found = found(&counts, vec![]).expect("requests were counted");
        assert_eq!((found.request_rate_max, found.request_rate_p95), (Some(4.0), Some(1.0)));
        assert_eq!((found.busiest_bad_ratio, found.other_bad_ratio), (Some(0.1), Some(0.01)));
    }

    #[test]
    fn an_even_load_has_no_busiest_slices() {
        let found = found(&[(600, 6); 40], vec![]).expect("requests were counted");
        assert_eq!((found.request_rate_max, found.request_rate_p95), (Some(2.0), Some(2.0)));
        assert_eq!((found.busiest_bad_ratio, found.other_bad_ratio), (None, None));
    }

    #[test]
    fn what_was_not_measured_is_no_condition() {
        assert_eq!(found(&[(0, 0); 5], vec![]), None);
        let used = |kind, average_p95| Used { kind, average_p95, maximum: 1.0, bucket_count: 9 };
        let cpu = used(UtilisationKind::Cpu, 0.6);
        let all = vec![cpu, used(UtilisationKind::Memory, f64::NAN), used(UtilisationKind::MessageAge, 30.0)];
        let found = found(&[], all).expect("utilisation was measured");
        assert_eq!((found.request_rate_max, found.utilisation), (None, vec![cpu]));
    }
}
