//! Small seeded histories for tests and benchmarks: a chronic level, incidents, and what each dependency hands on.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::expect_used)]

use std::collections::BTreeMap;

use attain_attainment::{
    CountPoint, DependencyBucket, DependencyHistory, Doubt, RecommendationInput, ServiceHistory, StructureFacts,
    TierPolicy, UtilisationFacts,
};
use attain_vocabulary::{
    BUCKET_MS, BucketCounts, DAY_MS, DependencyMode, EntityId, EntityKind, LatencyHistogram, SliBucket, Tier,
    TimeRange, TimeWindow,
};

/// Buckets in a day.
pub const PER_DAY: usize = 288;

/// SplitMix64 (Steele, Lea & Flood 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About normal: the sum of twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }

    /// About Poisson: by inversion when small, else rounded normal.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            let spread = (self.uniform() + self.uniform() + self.uniform() + self.uniform() - 2.0) * 3f64.sqrt();
            return (mean + mean.sqrt() * spread).round().max(0.0);
        }
        let (mut k, mut p, u) = (0.0, libm::exp(-mean), self.uniform());
        let mut sum = p;
        while u > sum && k < 200.0 {
            k += 1.0;
            p *= mean / k;
            sum += p;
        }
        k
    }
}

/// A span of buckets in which a share of requests fails.
#[derive(Clone, Copy)]
pub struct Incident {
    pub start: usize,
    pub buckets: usize,
    pub severity: f64,
}

/// Incidents at a rate a day, lengths and severities log-normal.
pub fn incidents(
    dice: &mut Dice,
    days: usize,
    per_day: f64,
    median_buckets: f64,
    median_severity: f64,
) -> Vec<Incident> {
    let mut all = Vec::new();
    for day in 0..days {
        for _ in 0..dice.poisson(per_day) as usize {
            all.push(Incident {
                start: day * PER_DAY + (dice.uniform() * PER_DAY as f64) as usize,
                buckets: (median_buckets * libm::exp(dice.normal())).ceil() as usize,
                severity: (median_severity * libm::exp(0.7 * dice.normal())).min(1.0),
            });
        }
    }
    all
}

/// Share of requests that incidents fail in each bucket.
pub fn severities(buckets: usize, incidents: &[Incident]) -> Vec<f64> {
    let mut all = vec![0.0f64; buckets];
    for incident in incidents {
        for share in all.iter_mut().skip(incident.start).take(incident.buckets) {
            *share = share.max(incident.severity);
        }
    }
    all
}

pub fn counts(dice: &mut Dice, valid: f64, chronic: f64, severities: &[f64]) -> Vec<CountPoint> {
    let point = |(i, severity): (usize, &f64)| {
        let bad = dice.poisson(valid * (chronic + severity)).min(valid);
        CountPoint { start_ms: i as i64 * BUCKET_MS, valid, bad }
    };
    severities.iter().enumerate().map(point).collect()
}

pub fn id(name: &str) -> EntityId {
    EntityId::new("id", name).expect("a valid name")
}

/// A service with one traced hard dependency; failures of the dependency are its own history's failures.
pub struct World {
    pub days: usize,
    pub valid: f64,
    pub own_chronic: f64,
    pub dependency_chronic: f64,
    pub own_incidents: Vec<Incident>,
    pub dependency_incidents: Vec<Incident>,
    pub traced: bool,
    pub latencies: bool,
    pub seed: u64,
}

impl World {
    /// A checkout that depends on an unreliable payment service.
    pub fn checkout(days: usize) -> Self {
        Self {
            days,
            valid: 1000.0,
            own_chronic: 0.0005,
            dependency_chronic: 0.003,
            own_incidents: vec![Incident { start: 5 * PER_DAY, buckets: 6, severity: 0.1 }],
            dependency_incidents: vec![
                Incident { start: 3 * PER_DAY, buckets: 8, severity: 0.4 },
                Incident { start: 12 * PER_DAY + 100, buckets: 12, severity: 0.3 },
                Incident { start: 21 * PER_DAY + 50, buckets: 6, severity: 0.5 },
            ],
            traced: true,
            latencies: false,
            seed: 7,
        }
    }

    pub fn input(&self) -> RecommendationInput {
        let mut dice = Dice(self.seed);
        let buckets = self.days * PER_DAY;
        let own = counts(&mut dice, self.valid, self.own_chronic, &severities(buckets, &self.own_incidents));
        let payment =
            counts(&mut dice, self.valid, self.dependency_chronic, &severities(buckets, &self.dependency_incidents));
        let bucket = |(own, payment): (&CountPoint, &CountPoint)| {
            let (own_bad, inherited) = (own.bad as u64, payment.bad as u64);
            let valid = self.valid as u64;
            let bad = (own_bad + inherited).min(valid);
            let inherited = inherited.min(bad);
            let by: BTreeMap<EntityId, u64> = if self.traced && inherited > 0 {
                [(id("payment-service"), inherited)].into()
            } else {
                BTreeMap::new()
            };
            let counts = BucketCounts::new(valid, bad, self.traced.then_some(inherited)).expect("nested counts");
            let latency = self.latencies.then(|| latencies(valid, own.start_ms as u64));
            SliBucket::new(own.start_ms, counts, by, latency).expect("aligned")
        };
        let end = buckets as i64 * BUCKET_MS;
        let dependency_bucket = |point: &CountPoint| DependencyBucket {
            start_ms: point.start_ms,
            counts: BucketCounts::new(point.valid as u64, point.bad as u64, None).expect("nested counts"),
        };
        RecommendationInput {
            service: id("checkout-service"),
            tier: Tier::One,
            kind: EntityKind::Service,
            window: TimeWindow::default(),
            as_of_ms: end,
            history: ServiceHistory {
                range: TimeRange::new("range", 0, end).expect("ascending"),
                buckets: own.iter().zip(&payment).map(bucket).collect(),
            },
            dependencies: vec![DependencyHistory {
                id: id("payment-service"),
                mode: DependencyMode::Hard,
                call_fraction: Some(1.0),
                fallback_success_ratio: None,
                buckets: payment.iter().map(dependency_bucket).collect(),
            }],
            exclusions: vec![],
            incident_ids: vec![],
            structure: Some(StructureFacts {
                ceiling_ratio: 0.995,
                exact: true,
                importances: vec![],
                assumed_perfect_ids: vec![],
                snapshot_version: 12,
                snapshot_age_ms: 60_000,
                doubt: Doubt::default(),
                consistent_targets: Vec::new(),
                slow_requests: None,
            }),
            counterfactuals: vec![],
            current_slos: vec![],
            missing_inputs: vec![],
            policy: TierPolicy::for_tier(Tier::One),
            class_record: None,
            quiet_slices_good: false,
            utilisation: UtilisationFacts::default(),
            seed: self.seed,
            model: None,
        }
    }
}

/// Log-normal around 120 ms, the 95th percentile near 340 ms, at the resolution of the real histograms.
fn latencies(valid: u64, seed: u64) -> LatencyHistogram {
    let mut dice = Dice(seed ^ 0x5bd1_e995);
    let shift = 1.0 + 0.05 * dice.normal();
    let mut histogram = LatencyHistogram::empty();
    let steps = 40;
    for step in 0..steps {
        let z = -3.0 + 6.0 * (f64::from(step) + 0.5) / f64::from(steps);
        let share = libm::exp(-z * z / 2.0) / (2.0 * std::f64::consts::PI).sqrt() * 6.0 / f64::from(steps);
        histogram.record_many(120.0 * shift * libm::exp(0.63 * z), (share * valid as f64).round() as u64);
    }
    histogram
}

/// The last instant of a history of so many days.
pub fn end_of(days: usize) -> i64 {
    days as i64 * DAY_MS
}
