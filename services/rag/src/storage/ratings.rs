//! What people said of citations: a log that only grows.

use attain_vocabulary::{TenantId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::{Store, rows};
use crate::Error;
use crate::domain::document::DocumentId;
use crate::domain::standing::{Place, Rate, Rated, Rating};

const COLUMNS: &str = "sequence, document_id, version, start_offset, end_offset, quote_sha256, rating, reason, question_sha256, caller, \
    time_ms, entry_sha256";

impl Store {
    /// Appends a rating and returns it as kept.
    pub(crate) async fn rate(&self, tenant: &TenantId, rate: Rate, now_ms: UnixMillis) -> Result<Rated, Error> {
        let mut transaction = self.begin(tenant).await?;
        let last = sqlx::query(
            "SELECT sequence, entry_sha256 FROM citation_ratings WHERE tenant_id = $1 ORDER BY sequence DESC LIMIT 1",
        )
        .bind(tenant.as_str())
        .fetch_optional(&mut *transaction)
        .await?;
        let (before, sequence) = match &last {
            Some(row) => (row.try_get::<String, _>(1)?, rows::count(row, 0)? + 1),
            None => (String::new(), 1),
        };
        let entry_sha256 = rate.entry_sha256(&before, sequence, now_ms);
        let sql = format!(
            "INSERT INTO citation_ratings (tenant_id, {COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(i64::try_from(sequence).unwrap_or(i64::MAX))
            .bind(rate.place.document.as_str())
            .bind(i64::from(rate.place.version))
            .bind(i64::from(rate.place.start))
            .bind(i64::from(rate.place.end))
            .bind(rate.quote_sha256.as_str())
            .bind(rate.rating.as_str())
            .bind(rate.reason.as_str())
            .bind(rate.question_sha256.as_str())
            .bind(rate.by.as_str())
            .bind(now_ms)
            .bind(entry_sha256.as_str())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Rated { sequence, rate, time_ms: now_ms, entry_sha256 })
    }

    /// Ratings after a place in their order, of one document or of all.
    pub(crate) async fn ratings(
        &self,
        tenant: &TenantId,
        document: Option<&DocumentId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Rated>, Error> {
        let of = if document.is_some() { "document_id = $2" } else { "CAST($2 AS TEXT) IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM citation_ratings WHERE tenant_id = $1 AND {of} AND sequence > $3 ORDER BY sequence LIMIT $4"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(document.map(|id| id.as_str().to_owned()))
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(rated).collect()
    }

    /// How many ratings a tenant has.
    pub(crate) async fn rating_count(&self, tenant: &TenantId) -> Result<u64, Error> {
        let row = sqlx::query("SELECT COALESCE(MAX(sequence), 0) FROM citation_ratings WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_one(self.database.pool())
            .await?;
        rows::count(&row, 0)
    }
}

fn rated(row: &AnyRow) -> Result<Rated, Error> {
    let word: String = row.try_get("rating")?;
    let place = Place {
        document: rows::document_id(row, "document_id")?,
        version: rows::version(row, "version")?,
        start: rows::version(row, "start_offset")?,
        end: rows::version(row, "end_offset")?,
    };
    let rate = Rate {
        place,
        quote_sha256: row.try_get("quote_sha256")?,
        rating: Rating::parse(&word).ok_or_else(|| Error::Corrupt(format!("rating `{word}`")))?,
        reason: row.try_get("reason")?,
        question_sha256: row.try_get("question_sha256")?,
        by: row.try_get("caller")?,
    };
    Ok(Rated {
        sequence: rows::count(row, 0)?,
        rate,
        time_ms: row.try_get("time_ms")?,
        entry_sha256: row.try_get("entry_sha256")?,
    })
}
