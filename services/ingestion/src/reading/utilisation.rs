use attain_vocabulary::{DAY_MS, EntityId, TenantId, UnixMillis};

use crate::Error;
use crate::domain::{UtilisationBucket, UtilisationSummary, summarise_utilisation};
use crate::storage::{BucketSpan, Store};

/// How far back a summary looks, in days: a week holds every weekday once.
const SUMMARY_DAYS: i64 = 7;

/// What a service used in the last seven days, one for each kind that was measured.
pub(crate) async fn utilisation_summaries(
    store: &Store,
    tenant: &TenantId,
    service: &EntityId,
    now_ms: UnixMillis,
) -> Result<Vec<UtilisationSummary>, Error> {
    let mut span = BucketSpan { start_ms: now_ms - SUMMARY_DAYS * DAY_MS, end_ms: now_ms };
    let mut buckets: Vec<UtilisationBucket> = Vec::new();
    loop {
        // A bucket each five minutes: one page unless rows are cut off.
        let page = store.utilisation_page(tenant, service, span, 3_000).await?;
        buckets.extend(page.buckets.iter().map(|measured| measured.bucket));
        match page.next_start_ms {
            Some(next_start_ms) => span.start_ms = next_start_ms,
            None => return Ok(summarise_utilisation(&buckets)),
        }
    }
}
