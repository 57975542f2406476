//! What the observers need to forget: deletion in short steps, and what a tenant keeps by a prefix.

use attain_vocabulary::TenantId;
use sqlx::AssertSqlSafe;

use super::Store;
use super::rows::{column, stored};
use crate::Error;

/// A table whose rows go when they are old.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forgotten {
    pub(super) table: &'static str,
    /// Columns of its primary key.
    pub(super) key: &'static str,
    /// What orders the rows by age; an index begins with it.
    pub(super) order: &'static str,
}

impl Forgotten {
    pub(super) fn sql(&self) -> String {
        let Self { table, key, order } = self;
        format!(
            "DELETE FROM {table} WHERE ({key}) IN \
             (SELECT {key} FROM {table} WHERE {order} < $1 ORDER BY {order} LIMIT $2)"
        )
    }
}

pub(super) const KEYS: &str =
    "SELECT key FROM counter_states WHERE tenant_id = $1 AND key > $2 AND key < $3 ORDER BY key LIMIT $4";

impl Store {
    /// Deletes the oldest rows of before, at most so many, in a transaction of their own; how many.
    pub(super) async fn forget_step(&self, what: Forgotten, before: i64, rows_max: usize) -> Result<u64, Error> {
        let _turn = self.write_turn().await;
        let mut transaction = self.database.begin_write().await?;
        let deleted = sqlx::query(AssertSqlSafe(what.sql()))
            .bind(before)
            .bind(stored(rows_max as u64))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected())
    }

    /// Keys of a tenant's counter states between two, both excluded, in lexical order, at most `limit`.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn counter_keys(
        &self,
        tenant: &TenantId,
        (after, before): (&str, &str),
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let rows = sqlx::query(KEYS)
            .bind(tenant.as_str())
            .bind(after.to_owned())
            .bind(before.to_owned())
            .bind(stored(limit as u64))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(|row| column(row, "key")).collect()
    }
}
