use attain_vocabulary::{InvalidValue, TenantId, UnixMillis};

use super::{Intake, Refused, bounded, sorted};
use crate::domain::IncidentDraft;
use crate::storage::Store;
use crate::{Config, Error};

/// Checks, redacts and keeps incidents. Of two with the same id the later one stands; both count as accepted.
pub(crate) async fn keep_incidents(
    store: &Store,
    config: &Config,
    tenant: &TenantId,
    now_ms: UnixMillis,
    drafts: Vec<Result<IncidentDraft, InvalidValue>>,
) -> Result<Intake, Error> {
    bounded("incidents", drafts.len(), config.incidents_per_request_max)?;
    let mut intake = Intake::default();
    let mut kept = Vec::with_capacity(drafts.len());
    for (index, draft) in sorted("incidents", drafts, &mut intake.refused) {
        match draft.check(now_ms.saturating_add(config.future_skew_ms())) {
            Ok(incident) => kept.push(incident),
            Err(invalid) => intake.refused.push(Refused { list: "incidents", index, invalid }),
        }
    }
    intake.refused.sort_by_key(|refused| refused.index);
    intake.accepted_count = kept.len();
    if !kept.is_empty() {
        store.put_incidents(tenant, kept).await?;
    }
    Ok(intake)
}
