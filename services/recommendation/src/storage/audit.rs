use attain_vocabulary::TenantId;

use super::{Store, Transaction, deliveries, number};
use crate::Error;
use crate::domain::audit::{Entry, GENESIS_SHA256, Record};

/// The end of a tenant's chain, held until the transaction ends.
pub(super) struct Head {
    pub(super) sequence: u64,
    previous_sha256: String,
}

/// Takes the tenant's place at the end of the chain; every other write of the tenant waits until the transaction ends.
pub(super) async fn lock(transaction: &mut Transaction, tenant: &TenantId) -> Result<Head, Error> {
    let (sequence, previous_sha256): (i64, String) = sqlx::query_as(
        "INSERT INTO audit_heads (tenant_id, sequence, sha256) VALUES ($1, 1, $2) \
         ON CONFLICT (tenant_id) DO UPDATE SET sequence = audit_heads.sequence + 1 RETURNING sequence, sha256",
    )
    .bind(tenant.as_str())
    .bind(GENESIS_SHA256)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Head { sequence: number("sequence", sequence)?, previous_sha256 })
}

/// Writes the entry in the place that was taken, and the messages that tell of it.
pub(super) async fn append(
    transaction: &mut Transaction,
    tenant: &TenantId,
    head: Head,
    entry: Entry,
) -> Result<(), Error> {
    let record = Record::seal(head.sequence, head.previous_sha256, entry);
    sqlx::query(
        "INSERT INTO audit (tenant_id, sequence, time_ms, caller, action, service_id, detail_json, previous_sha256, sha256) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.as_str())
    .bind(record.sequence as i64)
    .bind(record.entry.time_ms)
    .bind(&record.entry.caller)
    .bind(&record.entry.action)
    .bind(&record.entry.service_id)
    .bind(&record.entry.detail_json)
    .bind(&record.previous_sha256)
    .bind(&record.sha256)
    .execute(&mut **transaction)
    .await?;
    sqlx::query("UPDATE audit_heads SET sha256 = $2 WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .bind(&record.sha256)
        .execute(&mut **transaction)
        .await?;
    deliveries::emit(transaction, tenant, &record).await
}

type Row = (i64, i64, String, String, String, String, String, String);

impl Store {
    /// At most `limit` records after a position, oldest first; of one service where it is named.
    pub(crate) async fn audit_records(
        &self,
        tenant: &TenantId,
        service_id: Option<&str>,
        after_sequence: u64,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT sequence, time_ms, caller, action, service_id, detail_json, previous_sha256, sha256 FROM audit \
             WHERE tenant_id = $1 AND sequence > $2 AND ($3 = '' OR service_id = $3) ORDER BY sequence LIMIT $4",
        )
        .bind(tenant.as_str())
        .bind(after_sequence as i64)
        .bind(service_id.unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(self.database.pool())
        .await?;
        rows.into_iter().map(record).collect()
    }
}

fn record(row: Row) -> Result<Record, Error> {
    let (sequence, time_ms, caller, action, service_id, detail_json, previous_sha256, sha256) = row;
    let entry = Entry { time_ms, caller, action, service_id, detail_json };
    Ok(Record { sequence: number("sequence", sequence)?, entry, previous_sha256, sha256 })
}
