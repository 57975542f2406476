//! What observers of traces and metrics remember and need no more, forgotten in the background: in short transactions, with
//! a rest after each, so that whoever writes has SQLite's one write lock for half of the time at least.

use std::sync::Arc;
use std::time::Duration;

use attain_runtime::clock::Clock;
use attain_vocabulary::{DAY_MS, UnixMillis};
use tokio::time::Instant;

use super::hosts::forget_hosts;
use super::{receipts, series};
use crate::storage::{SpanMemory, Store};
use crate::{Config, Error};

/// How often it is looked for what is too old or too many.
const INTERVAL: Duration = Duration::from_secs(60);
/// Rows deleted in a transaction.
const ROWS_MAX: usize = 500;

/// Forgets at the start and from time to time; what could not be forgotten is at the next time.
pub(super) async fn run(store: Store, config: Arc<Config>, clock: Clock) {
    let mut day = None;
    loop {
        let now_ms = clock.now_ms();
        let today = now_ms.div_euclid(DAY_MS);
        let result = if day == Some(today) {
            of_the_minute(&store, &config, now_ms).await
        } else {
            of_the_day(&store, &config, now_ms, today).await
        };
        match result {
            Ok(()) => day = Some(today),
            Err(error) => tracing::warn!(error = %error, "what is old could not be forgotten; trying again later"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn of_the_minute(store: &Store, config: &Config, now_ms: UnixMillis) -> Result<(), Error> {
    let memory = SpanMemory {
        before_ms: now_ms - i64::from(config.span_receipt_minutes) * 60_000,
        receipts_max: config.span_receipts_max,
        settled_max: config.settled_spans_max,
    };
    let forgettable = store.forgettable_spans(memory).await?;
    stepwise(|| store.forget_spans(forgettable, ROWS_MAX)).await?;
    let before_ms = now_ms.saturating_sub(i64::from(config.exemplar_days) * DAY_MS);
    stepwise(|| store.forget_exemplars(before_ms, ROWS_MAX)).await?;
    let before_ms = now_ms.saturating_sub(config.sample_limits().kept_ms);
    stepwise(|| store.forget_request_samples(before_ms, ROWS_MAX)).await?;
    let first_kept = receipts::first_key_kept(config.series_limits(now_ms));
    store.forget_counter_states(receipts::KEY_PREFIX, &first_kept).await
}

async fn of_the_day(store: &Store, config: &Config, now_ms: UnixMillis, today: i64) -> Result<(), Error> {
    of_the_minute(store, config, now_ms).await?;
    store.forget_counter_states(series::KEY_PREFIX, &series::first_key_of_day(today - 1)).await?;
    let first_day = today - i64::from(config.operation_days);
    let operation_count = stepwise(|| store.forget_operations(first_day, ROWS_MAX)).await?;
    let host_count = forget_hosts(store, today, i64::from(config.host_days)).await?;
    tracing::info!(operation.count = operation_count, host.count = host_count, "what is old is forgotten");
    Ok(())
}

/// Takes steps until one finds nothing, with a rest after each as long as it took; the sum of what they found.
async fn stepwise<F: Future<Output = Result<u64, Error>>>(step: impl Fn() -> F) -> Result<u64, Error> {
    let mut sum = 0;
    loop {
        let begun = Instant::now();
        match step().await? {
            0 => return Ok(sum),
            count => sum += count,
        }
        tokio::time::sleep(begun.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, LATER_MS, NOW_MS, spans};
    use super::*;
    use attain_vocabulary::TenantId;

    #[tokio::test]
    async fn what_is_old_goes_and_what_is_young_stays() {
        let mut bench = Bench::new().await;
        let sent =
            spans(1, "1 0 a server 0 9 name=in\n2 1 a client 1 8 server.address=b.internal name=out\n3 2 b server 2 7");
        bench.send(&sent).await;
        bench.step(NOW_MS).await;
        bench.step(LATER_MS).await;
        let config = Config::default();
        let left = async |bench: &Bench| {
            let fingerprints = bench.store.settled_fingerprints(100).await.expect("read");
            let keys = ("otlp-host/", "otlp-host0");
            let hosts = bench.store.counter_keys(&TenantId::default(), keys, 10).await.expect("read");
            (fingerprints.len(), hosts.len(), bench.operations("a").await.len(), bench.samples("a").await.len())
        };
        let forget = async |bench: &Bench, days: i64| {
            let now_ms = LATER_MS + days * DAY_MS;
            of_the_day(&bench.store, &config, now_ms, now_ms / DAY_MS).await.expect("forgotten");
        };
        forget(&bench, 0).await;
        assert_eq!(left(&bench).await, (1, 1, 2, 1));
        assert!(!bench.send_at(&sent, LATER_MS).await, "the receipt is there");
        forget(&bench, 1).await;
        assert_eq!(left(&bench).await, (0, 1, 2, 1));
        assert!(bench.send_at(&sent, LATER_MS).await, "the receipt is gone");
        forget(&bench, 8).await;
        assert_eq!(left(&bench).await, (0, 0, 2, 0));
        forget(&bench, 91).await;
        assert_eq!(left(&bench).await, (0, 0, 0, 0));
    }
}
