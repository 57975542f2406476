use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_vocabulary::{EntityId, TenantId};

use crate::Error;
use crate::domain::{RequestSample, hour_start};
use crate::storage::{BucketSpan, SampledHour, Store};

/// Most sampled requests of one service in an answer.
const SAMPLES_MAX: usize = 1_000;
/// Most bytes of all sampled requests in an answer: half of what a message of the mesh may have.
const SAMPLES_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;
/// Hours read at a time: more than are kept by default.
const HOURS_PAGE: usize = 100;

/// The newest sampled requests of services that began at a time or later, in lexical order of the services that have any,
/// those of each oldest first. Each service has an equal share of the bytes. Where not all fit, the oldest hours are left
/// out; of an hour that fits in part those of the least ranks stay, so that what stays is a fair sample too.
///
/// # Errors
/// Where storage does not answer.
pub(crate) async fn sampled_requests(
    store: &Store,
    tenant: &TenantId,
    mut services: Vec<EntityId>,
    from_us: i64,
) -> Result<Vec<(EntityId, Vec<RequestSample>)>, Error> {
    services.sort();
    let bytes_max = SAMPLES_BYTES_MAX / services.len().max(1);
    let mut found = Vec::new();
    for service in services {
        let mut answer = Answer { from_us, bytes_left: bytes_max, samples: Vec::new() };
        let mut hours = BucketSpan { start_ms: hour_start(from_us.div_euclid(1_000)), end_ms: i64::MAX };
        loop {
            let page = store.request_samples(tenant, &service, hours, HOURS_PAGE).await?;
            hours.end_ms = page.last().map_or(i64::MIN, |oldest| oldest.hour_ms);
            let is_last = page.len() < HOURS_PAGE;
            if !answer.take(page) || is_last {
                break;
            }
        }
        let mut samples = answer.samples;
        samples.sort_by_key(|sample| (sample.start_time_us, sample.rank));
        if !samples.is_empty() {
            found.push((service, samples));
        }
    }
    Ok(found)
}

/// What is answered of one service.
struct Answer {
    from_us: i64,
    bytes_left: usize,
    samples: Vec<RequestSample>,
}

impl Answer {
    /// Takes what fits of hours, newest first; whether all did.
    fn take(&mut self, hours: Vec<SampledHour>) -> bool {
        let samples = hours.into_iter().flat_map(|hour| hour.samples);
        for sample in samples.filter(|sample| sample.start_time_us >= self.from_us) {
            let bytes = wire_bytes(&sample);
            if self.samples.len() >= SAMPLES_MAX || bytes > self.bytes_left {
                return false;
            }
            self.bytes_left -= bytes;
            self.samples.push(sample);
        }
        true
    }
}

/// At least as many bytes as a sample takes in an answer.
pub(crate) fn wire_bytes(sample: &RequestSample) -> usize {
    sample.calls.iter().map(|call| 32 + call.callee.as_str().len()).sum::<usize>() + 48
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ObservationBatch, SampledCall};
    use crate::storage::Capacity;
    use crate::storage::testing::{CAPACITY, id, tenant};

    const HOUR_US: i64 = 3_600_000_000;

    async fn opened(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        Store::open(&url, Capacity { request_samples_per_hour: 8, ..CAPACITY }).await.expect("opened")
    }

    fn sample(service: &str, hour: i64, rank: u64, call_count: usize) -> RequestSample {
        // As long as names are.
        let callee = |n: usize| id(&format!("{n:0>128}"));
        let call = |n| SampledCall { callee: callee(n), offset_us: n as u64, duration_us: 1, failed: false };
        RequestSample {
            service: id(service),
            rank,
            // In an hour the order of ranks is not that of time.
            start_time_us: hour * HOUR_US + (rank as i64 * 7 % 8) * 1_000_000,
            duration_us: 1_000,
            failed: false,
            calls: (0..call_count).map(call).collect(),
            truncated: false,
        }
    }

    async fn keep(store: &Store, samples: Vec<RequestSample>) {
        let batch = ObservationBatch { request_samples: samples, ..ObservationBatch::default() };
        store.observe(&tenant("acme"), &[], |_| batch).await.expect("kept");
    }

    #[tokio::test]
    async fn the_newest_hours_are_answered_oldest_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = opened(&folder).await;
        let of_hours = (0..130).flat_map(|hour| (0..8).map(move |rank| sample("shop", hour, rank, 1)));
        keep(&store, of_hours.chain([sample("cart", 5, 1, 0)]).collect()).await;
        let asked = vec![id("shop"), id("nobody"), id("cart")];
        let found = sampled_requests(&store, &tenant("acme"), asked.clone(), 0).await.expect("read");
        let [(cart, of_cart), (shop, of_shop)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((cart.as_str(), of_cart.len(), shop.as_str()), ("cart", 1, "shop"));
        // 130 hours of 8 are 40 too many.
        assert_eq!((of_shop.len(), of_shop[0].start_time_us / HOUR_US), (1_000, 5));
        assert!(of_shop.is_sorted_by_key(|sample| sample.start_time_us));

        let from_us = 128 * HOUR_US + 4_000_000;
        let found = sampled_requests(&store, &tenant("acme"), asked, from_us).await.expect("read");
        let [(_, of_shop)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(of_shop.len(), 8 + 4, "those of the first hour that began from then on");
        assert_eq!(of_shop[0].start_time_us, from_us);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_left_out_from_the_oldest_on_and_by_rank() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = opened(&folder).await;
        let of_hours = (0..72).flat_map(|hour| (0..8).map(move |rank| sample("shop", hour, rank, 50)));
        keep(&store, of_hours.collect()).await;
        // The share of one of two hundred holds few of the largest samples.
        let asked: Vec<EntityId> = (0..199).map(|n| id(&format!("other-{n}"))).chain([id("shop")]).collect();
        let found = sampled_requests(&store, &tenant("acme"), asked, 0).await.expect("read");
        let [(_, of_shop)] = &found[..] else { panic!("{found:?}") };
        let share = SAMPLES_BYTES_MAX / 200 / wire_bytes(&of_shop[0]);
        assert_eq!(of_shop.len(), share);
        let oldest_hour = of_shop[0].start_time_us / HOUR_US;
        let mut ranks: Vec<u64> = of_shop
            .iter()
            .filter(|sample| sample.start_time_us / HOUR_US == oldest_hour)
            .map(|sample| sample.rank)
            .collect();
        ranks.sort_unstable();
        assert_eq!(ranks, (0..ranks.len() as u64).collect::<Vec<_>>(), "those of the least ranks");
        assert!(!share.is_multiple_of(8) && !ranks.is_empty() && ranks.len() < 8, "an hour that fits in part");
    }
}
