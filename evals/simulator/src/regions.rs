//! What a simulated component answered, told apart by region.

use std::collections::BTreeMap;

use attain_vocabulary::{BucketCounts, EntityId, SliBucket};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _};

/// A region of a component.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegionShare {
    /// Its name.
    pub name: &'static str,
    /// Share of the requests that it answers, in [0, 1].
    pub requests: f64,
    /// Share of the failures that are its own, in [0, 1].
    pub failures: f64,
}

/// Tells two regions apart: what the first does not answer or fail, the second does, so that both together are the whole,
/// bucket by bucket. Latency is not told apart.
#[must_use]
pub fn split(
    buckets: &[SliBucket],
    first: RegionShare,
    second: &'static str,
    seed: u64,
) -> [(&'static str, Vec<SliBucket>); 2] {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (in_first, in_second) = buckets.iter().map(|bucket| split_bucket(bucket, first, &mut random)).unzip();
    [(first.name, in_first), (second, in_second)]
}

fn split_bucket(bucket: &SliBucket, first: RegionShare, random: &mut ChaCha8Rng) -> (SliBucket, SliBucket) {
    let counts = bucket.counts;
    let inherited = counts.inherited_bad().unwrap_or(0);
    let good = counts.valid() - counts.bad();
    let mut shares: BTreeMap<EntityId, u64> = BTreeMap::new();
    for (id, count) in &bucket.inherited_by_dependency {
        shares.insert(id.clone(), binomial(random, *count, first.failures));
    }
    let told: u64 = shares.values().sum();
    let untold = inherited - bucket.inherited_by_dependency.values().sum::<u64>();
    let inherited_first = told + binomial(random, untold, first.failures);
    let bad_first = inherited_first + binomial(random, counts.bad() - inherited, first.failures);
    let valid_first = bad_first + binomial(random, good, first.requests);
    let rest = |id: &EntityId, count: u64| count - shares.get(id).copied().unwrap_or(0);
    let left: BTreeMap<EntityId, u64> =
        bucket.inherited_by_dependency.iter().map(|(id, count)| (id.clone(), rest(id, *count))).collect();
    let part = |valid, bad, inherited, shares: BTreeMap<EntityId, u64>| {
        let counts = BucketCounts::new(valid, bad, counts.inherited_bad().map(|_| inherited)).expect("parts nest");
        let shares = shares.into_iter().filter(|(_, count)| *count > 0).collect();
        SliBucket::new(bucket.start_ms, counts, shares, None).expect("aligned, and shares sum up")
    };
    let second = part(counts.valid() - valid_first, counts.bad() - bad_first, inherited - inherited_first, left);
    (part(valid_first, bad_first, inherited_first, shares), second)
}

fn binomial(random: &mut ChaCha8Rng, count: u64, share: f64) -> u64 {
    Binomial::new(count, share).expect("a share").sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shop;

    #[test]
    fn regions_add_up_to_the_whole_and_one_of_them_is_worse() {
        let simulation = shop::simulate(shop::SEED, 1_793_000_000_000);
        for (service, regions) in shop::regions(&simulation, shop::SEED) {
            let whole = &simulation.buckets[&service];
            let [(_, first), (_, second)] = &regions;
            let ratio = |buckets: &[SliBucket]| {
                let sum = |of: fn(BucketCounts) -> u64| buckets.iter().map(|bucket| of(bucket.counts)).sum::<u64>();
                sum(BucketCounts::bad) as f64 / sum(BucketCounts::valid) as f64
            };
            for ((all, a), b) in whole.iter().zip(first).zip(second) {
                assert_eq!(all.counts.valid(), a.counts.valid() + b.counts.valid());
                assert_eq!(all.counts.bad(), a.counts.bad() + b.counts.bad());
                for (id, count) in &all.inherited_by_dependency {
                    let of = |bucket: &SliBucket| bucket.inherited_by_dependency.get(id).copied().unwrap_or(0);
                    assert_eq!(*count, of(a) + of(b));
                }
            }
            assert!(ratio(second) > 3.0 * ratio(first), "{} {}", ratio(first), ratio(second));
        }
    }
}
