use attain_runtime::database::values_placeholders;
use attain_vocabulary::{TenantId, UnixMillis};

use super::{Store, Transaction, deliveries, number};
use crate::Error;
use crate::domain::audit::{Encoding, Entry, GENESIS_SHA256, Record};

const COLUMNS: &str =
    "tenant_id, sequence, time_ms, caller, action, service_id, detail_json, previous_sha256, sha256, encoding";
const COLUMN_COUNT: usize = 10;
/// Records in one statement: ten parameters each, far below what either database takes.
const ROWS_MAX: usize = 500;

/// The end of a tenant's chain, held until the transaction ends.
pub(super) struct Head {
    pub(super) sequence: u64,
    previous_sha256: String,
}

/// The end of a tenant's chain as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEnd {
    /// Position of the newest record; 0 where there is none.
    pub(crate) sequence: u64,
    pub(crate) sha256: String,
    /// `None` where there is none.
    pub(crate) time_ms: Option<UnixMillis>,
}

/// Which records to read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sought<'a> {
    pub(crate) service_id: Option<&'a str>,
    pub(crate) without_reads: bool,
    pub(crate) after_sequence: u64,
}

/// Takes the tenant's place at the end of the chain; every other write of the tenant waits until the transaction ends.
pub(super) async fn lock(transaction: &mut Transaction, tenant: &TenantId) -> Result<Head, Error> {
    lock_places(transaction, tenant, 1).await
}

/// The same for several places in a row; the head is the first of them.
async fn lock_places(transaction: &mut Transaction, tenant: &TenantId, count: usize) -> Result<Head, Error> {
    let (last, previous_sha256): (i64, String) = sqlx::query_as(
        "INSERT INTO audit_heads (tenant_id, sequence, sha256) VALUES ($1, $2, $3) \
         ON CONFLICT (tenant_id) DO UPDATE SET sequence = audit_heads.sequence + excluded.sequence \
         RETURNING sequence, sha256",
    )
    .bind(tenant.as_str())
    .bind(count as i64)
    .bind(GENESIS_SHA256)
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Head { sequence: number("sequence", last - count as i64 + 1)?, previous_sha256 })
}

/// Writes the entry in the place that was taken, and the messages that tell of it.
pub(super) async fn append(
    transaction: &mut Transaction,
    tenant: &TenantId,
    head: Head,
    entry: Entry,
) -> Result<(), Error> {
    for record in append_all(transaction, tenant, head, vec![entry]).await? {
        deliveries::emit(transaction, tenant, &record).await?;
    }
    Ok(())
}

/// Writes the entries in the places that were taken, in their order, and gives them as they stand.
async fn append_all(
    transaction: &mut Transaction,
    tenant: &TenantId,
    head: Head,
    entries: Vec<Entry>,
) -> Result<Vec<Record>, Error> {
    let mut previous_sha256 = head.previous_sha256;
    let mut records = Vec::with_capacity(entries.len());
    for (sequence, entry) in (head.sequence..).zip(entries) {
        let record = Record::seal(tenant.as_str(), sequence, previous_sha256, entry);
        previous_sha256 = record.sha256.clone();
        records.push(record);
    }
    for rows in records.chunks(ROWS_MAX) {
        let statement =
            format!("INSERT INTO audit ({COLUMNS}) VALUES {}", values_placeholders(rows.len(), COLUMN_COUNT));
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
        for record in rows {
            query = query
                .bind(&record.tenant_id)
                .bind(record.sequence as i64)
                .bind(record.entry.time_ms)
                .bind(&record.entry.caller)
                .bind(&record.entry.action)
                .bind(&record.entry.service_id)
                .bind(&record.entry.detail_json)
                .bind(&record.previous_sha256)
                .bind(&record.sha256)
                .bind(i64::from(record.encoding.number()));
        }
        query.execute(&mut **transaction).await?;
    }
    sqlx::query("UPDATE audit_heads SET sha256 = $2 WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .bind(previous_sha256)
        .execute(&mut **transaction)
        .await?;
    Ok(records)
}

type Row = (String, i64, i64, String, String, String, String, String, String, i64);

impl Store {
    /// Appends records that go with no other write, in one transaction.
    pub(crate) async fn append_records(&self, tenant: &TenantId, entries: Vec<Entry>) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin_write().await?;
        let head = lock_places(&mut transaction, tenant, entries.len()).await?;
        append_all(&mut transaction, tenant, head, entries).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// At most `limit` records after a position, oldest first.
    pub(crate) async fn audit_records(
        &self,
        tenant: &TenantId,
        sought: Sought<'_>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(select(sought)))
            .bind(tenant.as_str())
            .bind(i64::try_from(sought.after_sequence).unwrap_or(i64::MAX))
            .bind(i64::from(limit));
        let query = match sought.service_id {
            Some(service_id) => query.bind(service_id),
            None => query,
        };
        let rows: Vec<Row> = query.fetch_all(self.database.pool()).await?;
        rows.into_iter().map(record).collect()
    }

    /// Where the tenant's chain ends, as its writers know it; what the records say is for whoever verifies them.
    pub(crate) async fn audit_end(&self, tenant: &TenantId) -> Result<LogEnd, Error> {
        let row: Option<(i64, String, i64)> = sqlx::query_as(
            "SELECT h.sequence, h.sha256, COALESCE(a.time_ms, 0) FROM audit_heads h \
             LEFT JOIN audit a ON a.tenant_id = h.tenant_id AND a.sequence = h.sequence WHERE h.tenant_id = $1",
        )
        .bind(tenant.as_str())
        .fetch_optional(self.database.pool())
        .await?;
        let Some((sequence, sha256, time_ms)) = row else {
            return Ok(LogEnd { sequence: 0, sha256: GENESIS_SHA256.to_owned(), time_ms: None });
        };
        Ok(LogEnd { sequence: number("sequence", sequence)?, sha256, time_ms: Some(time_ms) })
    }

    /// The ends of all tenants' chains.
    pub(crate) async fn audit_ends(&self) -> Result<Vec<(String, u64, String)>, Error> {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as("SELECT tenant_id, sequence, sha256 FROM audit_heads ORDER BY tenant_id")
                .fetch_all(self.database.pool())
                .await?;
        rows.into_iter()
            .map(|(tenant_id, sequence, sha256)| Ok((tenant_id, number("sequence", sequence)?, sha256)))
            .collect()
    }
}

/// A page of records: one statement for each way to seek, so that each goes by an index that holds nothing else. What the
/// indexes of migration 0017 leave out is said here in the same words; a planner takes them for nothing less.
fn select(sought: Sought<'_>) -> String {
    let of_service = if sought.service_id.is_some() { " AND service_id = $4" } else { "" };
    let no_reads = if sought.without_reads { " AND substr(action, 1, 5) <> 'read.'" } else { "" };
    format!(
        "SELECT {COLUMNS} FROM audit WHERE tenant_id = $1 AND sequence > $2{of_service}{no_reads} ORDER BY sequence LIMIT $3"
    )
}

fn record(row: Row) -> Result<Record, Error> {
    let (tenant_id, sequence, time_ms, caller, action, service_id, detail_json, previous_sha256, sha256, encoding) =
        row;
    let entry = Entry { time_ms, caller, action, service_id, detail_json };
    let encoding: u32 = number("encoding", encoding)?;
    let encoding = Encoding::from_number(encoding)
        .ok_or_else(|| Error::Broken(format!("the encoding {encoding} of audit record {sequence} is not known")))?;
    Ok(Record { tenant_id, sequence: number("sequence", sequence)?, entry, previous_sha256, sha256, encoding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::READ_PREFIX;

    #[tokio::test]
    async fn every_way_to_seek_goes_by_an_index_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&format!("sqlite:{}", folder.path().join("plans.db").display())).await.expect("opened");
        for (service_id, without_reads, index) in [
            (None, false, "sqlite_autoindex_audit_1 (tenant_id=? AND sequence>?)"),
            (Some("checkout"), false, "audit_by_service (tenant_id=? AND service_id=? AND sequence>?)"),
            (None, true, "audit_writes (tenant_id=? AND sequence>?)"),
            (Some("checkout"), true, "audit_writes_by_service (tenant_id=? AND service_id=? AND sequence>?)"),
        ] {
            let sought = Sought { service_id, without_reads, after_sequence: 0 };
            let statement = format!("EXPLAIN QUERY PLAN {}", select(sought));
            let query = sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind("default").bind(0_i64).bind(9_i64);
            let query = if service_id.is_some() { query.bind("checkout") } else { query };
            let plan: Vec<(i64, i64, i64, String)> = query.fetch_all(store.database.pool()).await.expect("explained");
            let told: Vec<&str> = plan.iter().map(|(.., detail)| detail.as_str()).collect();
            assert_eq!(told, [format!("SEARCH audit USING INDEX {index}")], "nothing is walked and nothing sorted");
        }
        assert!(select(Sought { without_reads: true, ..Sought::default() }).contains(&format!("'{READ_PREFIX}'")));
        assert_eq!(READ_PREFIX.len(), 5);
        store.close().await;
    }
}
