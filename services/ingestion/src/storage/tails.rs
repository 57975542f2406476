//! How far back the newest changes of a service's measurements reach, so that who read a history before reads again only what may
//! differ since.
//!
//! The log keeps the newest change of each service and kind. Beside it stand two numbers of earlier changes, each with a time
//! that no change after it touched anything before. They move on as measurements do: once what changes lies six hours behind
//! the first time (21,600,000 ms: 144 buckets are read at most where measurements come in order), the second takes the place of the first and begins anew. Who read within hours finds a short tail; who read
//! before both reads the whole.

use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use super::Store;
use super::changes::ChangeKind;
use super::rows::{column, count};
use crate::Error;

/// Appends changes: tenant, service, kind, number; and of measurements 0, the earliest time that changed, and both again.
pub(super) const APPEND: (&str, usize, &str) = (
    "INSERT INTO changes (tenant_id, service_id, kind, sequence, tail_after, tail_from_ms, longer_tail_after, longer_tail_from_ms)",
    8,
    "ON CONFLICT (tenant_id, service_id, kind) DO UPDATE SET sequence = excluded.sequence, \
     tail_after = CASE WHEN changes.tail_after IS NULL OR excluded.tail_from_ms >= changes.tail_from_ms + 21600000 \
     THEN changes.sequence ELSE changes.tail_after END, \
     tail_from_ms = CASE WHEN changes.tail_after IS NULL OR excluded.tail_from_ms >= changes.tail_from_ms + 21600000 \
     OR excluded.tail_from_ms < changes.tail_from_ms THEN excluded.tail_from_ms ELSE changes.tail_from_ms END, \
     longer_tail_after = CASE WHEN changes.tail_after IS NULL THEN changes.sequence \
     WHEN excluded.tail_from_ms >= changes.tail_from_ms + 21600000 THEN changes.tail_after \
     ELSE changes.longer_tail_after END, \
     longer_tail_from_ms = CASE WHEN changes.tail_after IS NULL THEN excluded.tail_from_ms \
     WHEN excluded.tail_from_ms >= changes.tail_from_ms + 21600000 THEN changes.tail_from_ms \
     WHEN excluded.tail_from_ms < changes.longer_tail_from_ms THEN excluded.tail_from_ms \
     ELSE changes.longer_tail_from_ms END",
);

pub(super) const OF_SERVICE: &str = "SELECT sequence, tail_after, tail_from_ms, longer_tail_after, longer_tail_from_ms \
     FROM changes WHERE tenant_id = $1 AND service_id = $2 AND kind = $3";

/// From when on measurements changed in one write, by service.
#[derive(Debug, Default)]
pub(super) struct Touched(BTreeMap<EntityId, UnixMillis>);

impl Touched {
    pub(super) fn note(&mut self, service: &EntityId, from_ms: UnixMillis) {
        match self.0.get_mut(service) {
            Some(known) => *known = from_ms.min(*known),
            None => drop(self.0.insert(service.clone(), from_ms)),
        }
    }

    /// `None` of what is no measurement.
    pub(super) fn earliest_ms(&self, kind: ChangeKind, service: &EntityId) -> Option<UnixMillis> {
        self.0.get(service).copied().filter(|_| kind == ChangeKind::Sli)
    }
}

impl Store {
    /// The time before which no measurement of a service changed since a number: the end of time where none changed at all,
    /// `None` where that is not known.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub(crate) async fn unchanged_before_ms(
        &self,
        tenant: &TenantId,
        service: &EntityId,
        since: u64,
    ) -> Result<Option<UnixMillis>, Error> {
        let row = sqlx::query(OF_SERVICE)
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(ChangeKind::Sli.number())
            .fetch_optional(self.database.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        if count(&row, "sequence")? <= since {
            return Ok(Some(UnixMillis::MAX));
        }
        for (after, from_ms) in [("tail_after", "tail_from_ms"), ("longer_tail_after", "longer_tail_from_ms")] {
            let after = column::<Option<i64>>(&row, after)?.and_then(|after| u64::try_from(after).ok());
            if after.is_some_and(|after| after <= since) {
                return column(&row, from_ms);
            }
        }
        Ok(None)
    }
}
