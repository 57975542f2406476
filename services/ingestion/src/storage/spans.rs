use attain_vocabulary::{TenantId, UnixMillis};
use sqlx::any::AnyRow;

use super::Store;
use super::changes::allocate;
use super::record::tenant;
use super::rows::{column, count, insert_many, stored};
use super::write::Write;
use crate::Error;
use crate::domain::SettledSpans;

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

impl Store {
    /// Keeps received spans; when it returns they are durable and may be acknowledged. Their sequence numbers, in order.
    /// Several payloads, also of several tenants, cost one transaction.
    ///
    /// # Errors
    /// Where storage does not answer; then none is kept.
    pub async fn append_spans(
        &self,
        received_ms: UnixMillis,
        payloads: &[(TenantId, Vec<u8>)],
    ) -> Result<Vec<i64>, Error> {
        if payloads.is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.database.dialect();
        let _turn = self.write_turn().await;
        let mut transaction = self.database.begin_write().await?;
        let last = stored(allocate(&mut transaction, "span_log", payloads.len()).await?);
        let first = last - payloads.len() as i64 + 1;
        let rows: Vec<(i64, &(TenantId, Vec<u8>))> = (first..).zip(payloads).collect();
        let statement = ("INSERT INTO span_log (tenant_id, sequence, received_ms, payload, revision)", 5, "");
        insert_many(&mut transaction, dialect, statement, &rows, |query, (sequence, (tenant, payload))| {
            query.bind(tenant.to_string()).bind(*sequence).bind(received_ms).bind(payload.clone()).bind(0i64)
        })
        .await?;
        transaction.commit().await?;
        Ok((first..=last).collect())
    }

    /// Rows that are not settled, of all tenants, with a greater sequence number, in the order of arrival, at most
    /// `limit`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn pending_spans(&self, after_sequence: i64, limit: usize) -> Result<Vec<PendingSpans>, Error> {
        let rows = sqlx::query(
            "SELECT tenant_id, sequence, received_ms, payload, remaining, revision FROM span_log \
             WHERE sequence > $1 ORDER BY sequence LIMIT $2",
        )
        .bind(after_sequence)
        .bind(stored(limit as u64))
        .fetch_all(self.database.pool())
        .await?;
        rows.iter().map(read_pending).collect()
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
}

impl Write {
    /// Removes rows of the span log, or keeps what is left of them.
    pub(super) async fn settle_spans(&mut self, settled: &[SettledSpans]) -> Result<(), Error> {
        for spans in settled {
            let query = match &spans.remaining {
                None => sqlx::query("DELETE FROM span_log WHERE tenant_id = $1 AND sequence = $2 AND revision = $3"),
                Some(_) => sqlx::query(
                    "UPDATE span_log SET revision = revision + 1, remaining = $4 \
                     WHERE tenant_id = $1 AND sequence = $2 AND revision = $3",
                ),
            };
            let query = query.bind(self.tenant.clone()).bind(spans.sequence).bind(spans.revision);
            let query = match spans.remaining.clone() {
                None => query,
                Some(remaining) => query.bind(remaining),
            };
            if query.execute(&mut *self.transaction).await?.rows_affected() != 1 {
                return Err(Error::AlreadySettled { sequence: spans.sequence });
            }
        }
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
