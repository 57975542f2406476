use attain_vocabulary::{EntityId, InvalidValue, TenantId, UnixMillis};

use super::{Intake, Refused, bounded, sorted};
use crate::domain::{BucketDraft, Region};
use crate::storage::Store;
use crate::{Config, Error};

/// A bucket of a service, or of a region of it.
type Draft = (EntityId, Option<Region>, BucketDraft);

/// Checks and keeps SLI buckets. Of two for the same service, region and time the later one stands; both count as accepted.
pub(crate) async fn keep_buckets(
    store: &Store,
    config: &Config,
    tenant: &TenantId,
    now_ms: UnixMillis,
    drafts: Vec<Result<Draft, InvalidValue>>,
) -> Result<Intake, Error> {
    bounded("buckets", drafts.len(), config.buckets_per_request_max)?;
    let limits = config.bucket_limits(now_ms);
    let mut intake = Intake::default();
    let mut kept = Vec::with_capacity(drafts.len());
    let mut regional = Vec::new();
    for (index, (service, region, draft)) in sorted("buckets", drafts, &mut intake.refused) {
        match draft.check(limits) {
            Ok(bucket) => match region {
                None => kept.push((service, bucket)),
                Some(region) => regional.push((service, region, bucket)),
            },
            Err(invalid) => intake.refused.push(Refused { list: "buckets", index, invalid }),
        }
    }
    intake.refused.sort_by_key(|refused| refused.index);
    intake.accepted_count = kept.len() + regional.len();
    if intake.accepted_count > 0 {
        store.replace_measured(tenant, kept, regional).await?;
    }
    Ok(intake)
}
