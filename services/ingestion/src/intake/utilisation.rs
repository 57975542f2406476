use attain_vocabulary::{EntityId, InvalidValue, TenantId, UnixMillis};

use super::{Intake, Refused, bounded, sorted};
use crate::domain::UtilisationDraft;
use crate::storage::Store;
use crate::{Config, Error};

/// Checks and keeps utilisation. Of two buckets for the same service, time and kind the later one stands; both count as
/// accepted.
pub(crate) async fn keep_utilisation(
    store: &Store,
    config: &Config,
    tenant: &TenantId,
    now_ms: UnixMillis,
    drafts: Vec<Result<(EntityId, UtilisationDraft), InvalidValue>>,
) -> Result<Intake, Error> {
    bounded("buckets", drafts.len(), config.buckets_per_request_max)?;
    let limits = config.bucket_limits(now_ms);
    let mut intake = Intake::default();
    let mut kept = Vec::with_capacity(drafts.len());
    for (index, (service, draft)) in sorted("buckets", drafts, &mut intake.refused) {
        match draft.check(limits) {
            Ok(bucket) => kept.push((service, bucket)),
            Err(invalid) => intake.refused.push(Refused { list: "buckets", index, invalid }),
        }
    }
    intake.refused.sort_by_key(|refused| refused.index);
    intake.accepted_count = kept.len();
    if !kept.is_empty() {
        store.replace_utilisation(tenant, kept).await?;
    }
    Ok(intake)
}
