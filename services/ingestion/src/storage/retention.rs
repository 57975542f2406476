//! What is kept how long, and how what is too old goes.
//!
//! | table | kept |
//! |---|---|
//! | `sli_blocks`, `sli_buckets` | as long as the setting `history_days` says; on PostgreSQL up to a partition (four weeks) longer |
//! | `utilisation_days` | as long as `history_days` says |
//! | `operations` | `operation_days`; the settler forgets them |
//! | `exemplars` | `exemplar_days`; the receiver forgets them |
//! | `changes` | the newest of each service and kind; those of a service that the catalogue took away stay |
//! | `change_epochs` | one for each of the last [`super::epochs::KEPT_MAX`] starts |
//! | `counter_states` | until its observer forgets it |
//! | `span_log`, `span_progress` | until it is settled |
//! | `span_receipts`, `settled_spans` | `span_receipt_minutes`, and so many at most |
//! | `catalogue_sweeps`, `catalogue_entries` | the sweep that was applied last |
//! | entities, dependencies, incidents | for ever: they do not grow with time alone |
//!
//! A new table whose rows get old is one entry in [`EXPIRING`].

use attain_runtime::database::Dialect;
use attain_vocabulary::UnixMillis;
use sqlx::AssertSqlSafe;

use super::Store;
use super::block::day_start;
use super::rows::stored;
use crate::Error;

/// A table whose rows go when they are old.
struct Expiring {
    table: &'static str,
    /// Columns of its primary key.
    key: &'static str,
    /// Start of the day that the row is of; an index begins with it.
    time: &'static str,
    /// Whether it goes with its partitions on PostgreSQL ([`super::partitions::TABLES`]).
    partitioned: bool,
}

/// Rows that stay in `sli_buckets` on SQLite are packed before they are old, and go as blocks.
const EXPIRING: &[Expiring] = &[
    Expiring { table: "sli_blocks", key: "tenant_id, service_id, day_ms, source", time: "day_ms", partitioned: true },
    Expiring {
        table: "utilisation_days",
        key: "tenant_id, service_id, day_ms, source",
        time: "day_ms",
        partitioned: false,
    },
];

impl Expiring {
    fn sql(&self) -> String {
        let Self { table, key, time, .. } = self;
        format!(
            "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {time} < $1 ORDER BY {time} LIMIT $2)"
        )
    }
}

impl Store {
    /// Deletes the days that end at `keep_from_ms` or earlier, at most so many rows of a table; on PostgreSQL whole
    /// partitions of history. The number of rows deleted and tables dropped; call again until it is 0. Appends no change: what goes is
    /// older than what anybody asks for.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn expire(&self, keep_from_ms: UnixMillis, rows_max: usize) -> Result<u64, Error> {
        let dialect = self.database.dialect();
        let mut gone = 0;
        if dialect == Dialect::Postgres {
            gone += self.drop_partitions(keep_from_ms).await?;
        }
        for expiring in expiring(dialect) {
            let _turn = self.write_turn().await;
            let mut transaction = self.database.begin_write().await?;
            let deleted = sqlx::query(AssertSqlSafe(expiring.sql()))
                .bind(day_start(keep_from_ms))
                .bind(stored(rows_max as u64))
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            gone += deleted.rows_affected();
        }
        Ok(gone)
    }
}

/// What goes row by row.
fn expiring(dialect: Dialect) -> impl Iterator<Item = &'static Expiring> {
    EXPIRING.iter().filter(move |expiring| dialect == Dialect::Sqlite || !expiring.partitioned)
}

#[cfg(test)]
pub(super) fn statements(dialect: Dialect) -> Vec<String> {
    expiring(dialect).map(Expiring::sql).collect()
}
