use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::Store;
use super::changes::allocate;
use super::forgetting::Forgotten;
use super::record::tenant;
use super::rows::{column, count, insert_many, select_in, stored};
use super::write::Write;
use crate::Error;
use crate::domain::{SettledFingerprints, SettledSpans};

/// What tells one export of spans from every other one.
pub type SpansDigest = [u8; 16];

/// An export of spans that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpans {
    /// Whose.
    pub tenant: TenantId,
    /// What tells it from every other one.
    pub digest: SpansDigest,
    /// What is kept of it.
    pub payload: Vec<u8>,
}

/// A row of the span log that is not settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingSpans {
    /// Whose.
    pub tenant: TenantId,
    /// Position in the order of arrival.
    pub sequence: i64,
    /// When it arrived.
    pub received_ms: UnixMillis,
    /// What arrived.
    pub payload: Vec<u8>,
    /// What a settlement left of it; `None` before the first.
    pub remaining: Option<Vec<u8>>,
    /// Counts settlements; a settlement names the one it worked on.
    pub revision: i64,
}

/// How much waits in the span log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanLogSize {
    /// Rows.
    pub row_count: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
}

/// How long it is remembered what was received and settled.
#[derive(Debug, Clone, Copy)]
pub struct SpanMemory {
    /// Forgets what is older.
    pub before_ms: UnixMillis,
    /// Most receipts of exports; the newest stay.
    pub receipts_max: usize,
    /// Most fingerprints of settled spans, and those of one settlement more; the newest stay.
    pub settled_max: usize,
}

/// What is older or more than is remembered.
#[derive(Debug, Clone, Copy)]
pub struct ForgettableSpans {
    receipts_before_ms: UnixMillis,
    settlements_before: i64,
}

pub(super) const RECEIPTS: Forgotten =
    Forgotten { table: "span_receipts", key: "tenant_id, digest", order: "received_ms" };
pub(super) const SETTLEMENTS: Forgotten =
    Forgotten { table: "settled_spans", key: "tenant_id, settlement", order: "settlement" };
/// A settlement has up to some hundred kilobytes of fingerprints.
const SETTLEMENTS_FOR_ROWS: usize = 20;
/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: u64 = 8;

impl Store {
    /// Keeps received spans; when it returns they are durable and may be acknowledged. Their sequence numbers, in order;
    /// `None` for an export that was kept before and whose receipt is still there: it is not kept again. Several exports,
    /// also of several tenants, cost one transaction.
    ///
    /// # Errors
    /// Where storage does not answer; then none is kept.
    pub async fn append_spans(
        &self,
        received_ms: UnixMillis,
        exports: &[ReceivedSpans],
    ) -> Result<Vec<Option<i64>>, Error> {
        if exports.is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.database.dialect();
        let _turn = self.write_turn().await;
        let mut transaction = self.database.begin_write().await?;
        let statement = (
            "INSERT INTO span_receipts (tenant_id, digest, received_ms)",
            3,
            "ON CONFLICT (tenant_id, digest) DO NOTHING RETURNING tenant_id, digest",
        );
        let returned = insert_many(&mut transaction, dialect, statement, exports, |query, export| {
            query.bind(export.tenant.to_string()).bind(export.digest.to_vec()).bind(received_ms)
        })
        .await?;
        let mut new = BTreeSet::new();
        for row in &returned {
            new.insert((column::<String>(row, "tenant_id")?, column::<Vec<u8>>(row, "digest")?));
        }
        // Of copies among the exports the first is kept.
        let mut sequences = vec![None; exports.len()];
        let is_new = |export: &ReceivedSpans, new: &mut BTreeSet<(String, Vec<u8>)>| {
            new.remove(&(export.tenant.to_string(), export.digest.to_vec()))
        };
        let kept: Vec<usize> = (0..exports.len()).filter(|place| is_new(&exports[*place], &mut new)).collect();
        let last = if kept.is_empty() { 0 } else { stored(allocate(&mut transaction, "span_log", kept.len()).await?) };
        for (sequence, place) in (last - kept.len() as i64 + 1..).zip(&kept) {
            sequences[*place] = Some(sequence);
        }
        let rows: Vec<(i64, &ReceivedSpans)> =
            sequences.iter().zip(exports).filter_map(|(sequence, export)| Some(((*sequence)?, export))).collect();
        let statement = ("INSERT INTO span_log (tenant_id, sequence, received_ms, payload)", 4, "");
        insert_many(&mut transaction, dialect, statement, &rows, |query, (sequence, export)| {
            query.bind(export.tenant.to_string()).bind(*sequence).bind(received_ms).bind(export.payload.clone())
        })
        .await?;
        transaction.commit().await?;
        Ok(sequences)
    }

    /// Rows that are not settled, of all tenants, with a greater sequence number, in the order of arrival, at most
    /// `limit`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn pending_spans(&self, after_sequence: i64, limit: usize) -> Result<Vec<PendingSpans>, Error> {
        let rows = sqlx::query(
            "SELECT span_log.tenant_id AS tenant_id, span_log.sequence AS sequence, received_ms, payload, remaining, \
             COALESCE(revision, 0) AS revision FROM span_log LEFT JOIN span_progress \
             ON span_progress.tenant_id = span_log.tenant_id AND span_progress.sequence = span_log.sequence \
             WHERE span_log.sequence > $1 ORDER BY span_log.sequence LIMIT $2",
        )
        .bind(after_sequence)
        .bind(stored(limit as u64))
        .fetch_all(self.database.pool())
        .await?;
        rows.iter().map(read_pending).collect()
    }

    /// The sequence number of the newest row that was ever in the span log; 0 for none.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn newest_spans(&self) -> Result<i64, Error> {
        let row =
            sqlx::query("SELECT last FROM counters WHERE name = 'span_log'").fetch_one(self.database.pool()).await?;
        column(&row, "last")
    }

    /// How much is not settled.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn span_log_size(&self) -> Result<SpanLogSize, Error> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS kept, CAST(COALESCE(SUM(LENGTH(payload)), 0) AS BIGINT) AS bytes FROM span_log",
        )
        .fetch_one(self.database.pool())
        .await?;
        Ok(SpanLogSize { row_count: count(&row, "kept")?, payload_bytes: count(&row, "bytes")? })
    }

    /// The fingerprints of the newest settlements of all tenants, at most `count_max` and those of one settlement more;
    /// oldest first.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn settled_fingerprints(&self, count_max: usize) -> Result<Vec<SettledFingerprints>, Error> {
        let (mut settlements, mut fingerprint_count, mut before) = (Vec::new(), 0, i64::MAX);
        while fingerprint_count < count_max {
            let rows = sqlx::query(
                "SELECT settlement, settled_ms, fingerprints FROM settled_spans WHERE settlement < $1 \
                 ORDER BY settlement DESC LIMIT 16",
            )
            .bind(before)
            .fetch_all(self.database.pool())
            .await?;
            let Some(last) = rows.last() else { break };
            before = column(last, "settlement")?;
            for row in &rows {
                let read = read_fingerprints(row)?;
                if fingerprint_count < count_max {
                    fingerprint_count += read.fingerprints.len();
                    settlements.push(read);
                }
            }
        }
        settlements.reverse();
        Ok(settlements)
    }

    /// Finds what is older or more than is remembered of receipts and settled spans.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forgettable_spans(&self, memory: SpanMemory) -> Result<ForgettableSpans, Error> {
        let pool = self.database.pool();
        // Those of one millisecond go together.
        let surplus = sqlx::query("SELECT received_ms FROM span_receipts ORDER BY received_ms DESC LIMIT 1 OFFSET $1")
            .bind(stored(memory.receipts_max as u64))
            .fetch_optional(pool)
            .await?;
        let surplus_ms: Option<i64> = surplus.map(|row| column(&row, "received_ms")).transpose()?;
        let receipts_before_ms = surplus_ms.map_or(memory.before_ms, |ms| memory.before_ms.max(ms.saturating_add(1)));
        // The clock may have been put back: what is young enough stays, and all that came after it.
        let young = sqlx::query("SELECT MIN(settlement) AS settlement FROM settled_spans WHERE settled_ms >= $1")
            .bind(memory.before_ms)
            .fetch_one(pool)
            .await?;
        let young: Option<i64> = column(&young, "settlement")?;
        let surplus = sqlx::query(
            "SELECT settlement FROM (SELECT settlement, LENGTH(fingerprints) AS own, \
             SUM(LENGTH(fingerprints)) OVER (ORDER BY settlement DESC) AS bytes FROM settled_spans) AS summed \
             WHERE bytes - own >= $1 ORDER BY settlement DESC LIMIT 1",
        )
        .bind(stored(FINGERPRINT_BYTES.saturating_mul(memory.settled_max as u64)))
        .fetch_optional(pool)
        .await?;
        let surplus: Option<i64> = surplus.map(|row| column(&row, "settlement")).transpose()?;
        let settlements_before = young.unwrap_or(i64::MAX).max(surplus.map_or(i64::MIN, |last| last.saturating_add(1)));
        Ok(ForgettableSpans { receipts_before_ms, settlements_before })
    }

    /// Forgets the oldest of it, at most so many rows; how many. Call again until it is 0.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn forget_spans(&self, forgettable: ForgettableSpans, rows_max: usize) -> Result<u64, Error> {
        let receipt_count = self.forget_step(RECEIPTS, forgettable.receipts_before_ms, rows_max).await?;
        let settlements_max = rows_max.div_ceil(SETTLEMENTS_FOR_ROWS);
        Ok(receipt_count + self.forget_step(SETTLEMENTS, forgettable.settlements_before, settlements_max).await?)
    }
}

impl Write {
    /// Removes rows of the span log, or keeps what is left of them.
    pub(super) async fn settle_spans(&mut self, settled: &[SettledSpans]) -> Result<(), Error> {
        self.check_revisions(settled).await?;
        let done: Vec<i64> =
            settled.iter().filter(|spans| spans.remaining.is_none()).map(|spans| spans.sequence).collect();
        let begun: Vec<i64> = settled
            .iter()
            .filter(|spans| spans.remaining.is_none() && spans.revision > 0)
            .map(|spans| spans.sequence)
            .collect();
        let tenant = self.tenant.clone();
        for (head, sequences) in [
            ("DELETE FROM span_log WHERE tenant_id = $1 AND sequence IN", &done),
            ("DELETE FROM span_progress WHERE tenant_id = $1 AND sequence IN", &begun),
        ] {
            select_in(
                &mut self.transaction,
                (head, 1),
                sequences,
                |query| query.bind(tenant.clone()),
                |query, sequence| query.bind(sequence),
            )
            .await?;
        }
        let left: Vec<&SettledSpans> = settled.iter().filter(|spans| spans.remaining.is_some()).collect();
        let statement = (
            "INSERT INTO span_progress (tenant_id, sequence, revision, remaining)",
            4,
            "ON CONFLICT (tenant_id, sequence) DO UPDATE SET revision = excluded.revision, remaining = excluded.remaining",
        );
        insert_many(&mut self.transaction, self.dialect, statement, &left, |query, spans| {
            let remaining = spans.remaining.clone().unwrap_or_default();
            query.bind(tenant.clone()).bind(spans.sequence).bind(spans.revision + 1).bind(remaining)
        })
        .await?;
        Ok(())
    }

    /// Whether every row is in the state that was worked on; the tenant's lock keeps it there.
    async fn check_revisions(&mut self, settled: &[SettledSpans]) -> Result<(), Error> {
        let sequences: Vec<i64> = settled.iter().map(|spans| spans.sequence).collect();
        let tenant = self.tenant.clone();
        let rows = select_in(
            &mut self.transaction,
            (
                "SELECT span_log.sequence AS sequence, COALESCE(revision, 0) AS revision FROM span_log \
                 LEFT JOIN span_progress ON span_progress.tenant_id = span_log.tenant_id \
                 AND span_progress.sequence = span_log.sequence \
                 WHERE span_log.tenant_id = $1 AND span_log.sequence IN",
                1,
            ),
            &sequences,
            |query| query.bind(tenant.clone()),
            |query, sequence| query.bind(sequence),
        )
        .await?;
        let mut revisions: BTreeMap<i64, i64> = BTreeMap::new();
        for row in &rows {
            revisions.insert(column(row, "sequence")?, column(row, "revision")?);
        }
        let moved = settled.iter().find(|spans| revisions.get(&spans.sequence) != Some(&spans.revision));
        moved.map_or(Ok(()), |spans| Err(Error::AlreadySettled { sequence: spans.sequence }))
    }

    /// Remembers which spans were settled.
    pub(super) async fn keep_fingerprints(&mut self, settled: &SettledFingerprints) -> Result<(), Error> {
        let settlement = stored(allocate(&mut self.transaction, "settled_spans", 1).await?);
        let bytes: Vec<u8> = settled.fingerprints.iter().flat_map(|fingerprint| fingerprint.to_be_bytes()).collect();
        sqlx::query(
            "INSERT INTO settled_spans (tenant_id, settlement, settled_ms, fingerprints) VALUES ($1, $2, $3, $4)",
        )
        .bind(self.tenant.clone())
        .bind(settlement)
        .bind(settled.settled_ms)
        .bind(bytes)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

fn read_pending(row: &AnyRow) -> Result<PendingSpans, Error> {
    Ok(PendingSpans {
        tenant: tenant(&column::<String>(row, "tenant_id")?)?,
        sequence: column(row, "sequence")?,
        received_ms: column(row, "received_ms")?,
        payload: column(row, "payload")?,
        remaining: column(row, "remaining")?,
        revision: column(row, "revision")?,
    })
}

fn read_fingerprints(row: &AnyRow) -> Result<SettledFingerprints, Error> {
    let bytes: Vec<u8> = column(row, "fingerprints")?;
    let fingerprints =
        bytes.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes).collect();
    Ok(SettledFingerprints { settled_ms: column(row, "settled_ms")?, fingerprints })
}
