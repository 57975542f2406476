//! Packs rows of hours that are over into the blocks of their days, a short transaction at a time.
//!
//! The block of the day that goes on is written again with each hour: 24 times in all, half full on average, so that a
//! series has rows of an hour or two instead of a day's.
//!
//! What is to be packed is what stands in the table of rows, so nothing is lost or done twice whenever the process ends:
//! a block and the end of its rows are one transaction. Where it was is remembered only to do the rest first.

use std::collections::BTreeMap;

use attain_runtime::database::Dialect;
use attain_vocabulary::{DAY_MS, EntityId, SliBucket, TenantId, UnixMillis};

use super::Store;
use super::block::{day_start, pack};
use super::blocks::{Day, SeriesDay, or_nothing};
use super::buckets::read_measurement;
use super::record::{entity_id, tenant};
use super::rows::{column, stored};
use super::write::Write;
use crate::Error;

/// Services after a name, each with its oldest row of an hour that is over: one look-up in the index each.
pub(super) const CANDIDATES: &str = "SELECT id, (SELECT MIN(start_ms) FROM sli_buckets \
     WHERE sli_buckets.tenant_id = entities.tenant_id AND sli_buckets.service_id = entities.id \
     AND sli_buckets.start_ms < $3) AS oldest \
     FROM entities WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $4";
pub(super) const ROWS: &str = "SELECT start_ms, source, valid_count, bad_count, inherited_bad_count, shares, latency \
     FROM sli_buckets WHERE tenant_id = $1 AND service_id = $2 AND start_ms >= $3 AND start_ms < $4";
pub(super) const NEXT_TENANT: &str = "SELECT tenant_id FROM tenants WHERE tenant_id > $1 ORDER BY tenant_id LIMIT 1";
/// Whoever does not get it leaves the work to whoever has it.
const TRY_LOCK: &str = "SELECT CASE WHEN pg_try_advisory_xact_lock(4736253) THEN 1 ELSE 0 END AS locked";

/// Services looked at a time.
const CANDIDATES_MAX: u64 = 250;
/// Rows after which a transaction ends: some 20 ms of the only writer that SQLite has.
const ROWS_A_STEP_MAX: usize = 2_000;
/// Blocks after which it ends: of the day that goes on each holds few of the rows.
const BLOCKS_A_STEP_MAX: usize = 100;
/// Days read at a time: of one source about as many rows as a step packs.
const DAYS_AT_ONCE: i64 = 4;
/// What is packed at a time of the day that goes on. Shorter spans write the block more often, longer ones leave more rows.
const HOUR_MS: i64 = DAY_MS / 24;

/// Where packing goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackCursor {
    tenant: Option<TenantId>,
    /// Services up to this one are done.
    service: String,
    /// Of the service after it, what starts before this is done.
    from_ms: Option<(EntityId, UnixMillis)>,
}

/// What one step packed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackStep {
    /// Rows that stand in blocks now.
    pub row_count: usize,
    /// Blocks written.
    pub block_count: usize,
    /// Days left as they are because their block is damaged.
    pub damaged_count: usize,
    /// Where to go on; `None` when everything is packed, or another process is packing.
    pub next: Option<PackCursor>,
}

impl Store {
    /// Packs some rows of hours that end at `closed_before_ms` or earlier, in at most one transaction. Nothing that is
    /// read changes, and no change is appended.
    ///
    /// # Errors
    /// Where storage does not answer; what earlier steps packed stays packed.
    pub async fn pack(&self, cursor: PackCursor, closed_before_ms: UnixMillis) -> Result<PackStep, Error> {
        let closed_before_ms = closed_before_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let Some(tenant) = cursor.tenant.clone() else {
            let next = self.next_tenant("").await?.map(|tenant| PackCursor { tenant: Some(tenant), ..cursor });
            return Ok(PackStep { next, ..PackStep::default() });
        };
        let (candidates, last) = self.pack_candidates(&tenant, &cursor, closed_before_ms).await?;
        if candidates.is_empty() {
            let next = match last {
                Some(service) => Some(PackCursor { tenant: Some(tenant), service, from_ms: None }),
                None => self
                    .next_tenant(tenant.as_str())
                    .await?
                    .map(|tenant| PackCursor { tenant: Some(tenant), ..PackCursor::default() }),
            };
            return Ok(PackStep { next, ..PackStep::default() });
        }
        let mut write = self.begin_write(&tenant).await?;
        if !write.may_pack().await? {
            return Ok(PackStep::default());
        }
        let done = PackCursor { tenant: Some(tenant.clone()), service: last.unwrap_or_default(), from_ms: None };
        let mut step = PackStep { next: Some(done), ..PackStep::default() };
        let mut before = cursor.service;
        for (service, oldest_ms) in candidates {
            if let Some(from_ms) = write.pack_service(&service, oldest_ms, closed_before_ms, &mut step).await? {
                let from_ms = Some((service, from_ms));
                step.next = Some(PackCursor { tenant: Some(tenant), service: before, from_ms });
                break;
            }
            before = service.to_string();
        }
        write.commit().await?;
        Ok(step)
    }

    async fn next_tenant(&self, after: &str) -> Result<Option<TenantId>, Error> {
        let row = sqlx::query(NEXT_TENANT).bind(after).fetch_optional(self.database.pool()).await?;
        row.map(|row| tenant(&column::<String>(&row, "tenant_id")?)).transpose()
    }

    /// Services with rows to pack, and the last service that was looked at.
    async fn pack_candidates(
        &self,
        tenant: &TenantId,
        cursor: &PackCursor,
        closed_before_ms: UnixMillis,
    ) -> Result<(Vec<(EntityId, UnixMillis)>, Option<String>), Error> {
        let rows = sqlx::query(CANDIDATES)
            .bind(tenant.as_str())
            .bind(cursor.service.as_str())
            .bind(closed_before_ms)
            .bind(stored(CANDIDATES_MAX))
            .fetch_all(self.database.pool())
            .await?;
        let mut candidates = Vec::new();
        let mut last = None;
        for row in &rows {
            let name: String = column(row, "id")?;
            let service = entity_id(&name)?;
            if let Some(oldest_ms) = column::<Option<i64>>(row, "oldest")? {
                let from_ms =
                    cursor.from_ms.as_ref().filter(|(begun, _)| *begun == service).map(|(_, from_ms)| *from_ms);
                candidates.push((service, from_ms.unwrap_or(oldest_ms)));
            }
            last = Some(name);
        }
        Ok((candidates, last))
    }
}

impl Write {
    async fn may_pack(&mut self) -> Result<bool, Error> {
        if self.dialect == Dialect::Sqlite {
            return Ok(true);
        }
        let row = sqlx::query(TRY_LOCK).fetch_one(&mut *self.transaction).await?;
        Ok(column::<i32>(&row, "locked")? == 1)
    }

    /// Packs a service's closed hours from the day of `oldest_ms` on; where to go on when the step is full.
    async fn pack_service(
        &mut self,
        service: &EntityId,
        oldest_ms: UnixMillis,
        closed_before_ms: UnixMillis,
        step: &mut PackStep,
    ) -> Result<Option<UnixMillis>, Error> {
        let mut from_ms = day_start(oldest_ms);
        while from_ms < closed_before_ms {
            if step.row_count >= ROWS_A_STEP_MAX || step.block_count >= BLOCKS_A_STEP_MAX {
                return Ok(Some(from_ms));
            }
            let to_ms = (from_ms + DAYS_AT_ONCE * DAY_MS).min(closed_before_ms);
            self.pack_days(service, from_ms, to_ms, step).await?;
            match self.oldest_row(service, to_ms, closed_before_ms).await? {
                Some(next_ms) => from_ms = day_start(next_ms),
                None => break,
            }
        }
        Ok(None)
    }

    /// Packs what starts in `[from_ms, to_ms)`; the first is the start of a day, the second that of an hour.
    pub(super) async fn pack_days(
        &mut self,
        service: &EntityId,
        from_ms: UnixMillis,
        to_ms: UnixMillis,
        step: &mut PackStep,
    ) -> Result<(), Error> {
        let rows = sqlx::query(ROWS)
            .bind(self.tenant.clone())
            .bind(service.to_string())
            .bind(from_ms)
            .bind(to_ms)
            .fetch_all(&mut *self.transaction)
            .await?;
        let mut days: BTreeMap<SeriesDay, Day> = BTreeMap::new();
        for row in &rows {
            let (source, bucket) = read_measurement(row, true)?;
            days.entry(SeriesDay::of(service, bucket.start_ms, source)).or_default().insert(bucket.start_ms, bucket);
        }
        self.make_partitions(days.keys().map(|day| day.day_ms)).await?;
        let mut blocks = self.blocks(days.keys().cloned()).await?;
        let mut put = Vec::with_capacity(days.len());
        for (day, mut rows) in days {
            let block = blocks.remove(&day);
            if let Some(Err(error)) = &block {
                // The rows stay: whoever mends the block finds them.
                tracing::error!(error = %error, "a day is not packed");
                step.damaged_count += 1;
                continue;
            }
            step.row_count += rows.len();
            let mut all = or_nothing(block);
            all.append(&mut rows);
            self.forget_rows(&day, to_ms).await?;
            put.push((day, pack(&all.into_values().collect::<Vec<SliBucket>>())));
        }
        step.block_count += put.len();
        self.put_blocks(&put).await
    }
}
