//! History on PostgreSQL is partitioned by ranges of time, so that what is too old goes by dropping a table.
//!
//! A partition is four weeks, numbered from the epoch; every table of [`TABLES`] has those of the same numbers. They are
//! made ahead for all the time that may be written, and by the write that first needs one. A new one is attached, not
//! created in place: that takes a lock which neither reads nor writes wait for. Whoever makes some holds one advisory
//! lock until its transaction ends, so that two never make the same.
//!
//! SQLite has no partitions; there [`super::retention`] deletes row by row.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use attain_runtime::database::Dialect;
use attain_vocabulary::{DAY_MS, UnixMillis};
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::Store;
use super::rows::column;
use crate::Error;

/// What is partitioned. Add a table here, and its partitioned parent to a migration, and it is made, extended and
/// dropped with the others.
pub(super) const TABLES: [&str; 2] = ["sli_blocks", "sli_buckets"];

const WIDTH_MS: i64 = 28 * DAY_MS;
const LOCK: &str = "SELECT 1 AS locked WHERE pg_advisory_xact_lock(4736252) IS NOT NULL";
const NAMES: &str = "SELECT CAST(child.relname AS TEXT) AS name FROM pg_inherits \
     JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid \
     JOIN pg_class AS parent ON parent.oid = pg_inherits.inhparent \
     JOIN pg_namespace AS space ON space.oid = parent.relnamespace \
     WHERE space.nspname = current_schema() AND parent.relname = 'sli_blocks' AND parent.relkind = 'p'";

/// Numbers of partitions that are known to be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<BTreeSet<i64>>>);

impl Known {
    pub(super) fn missing(&self, wanted: &BTreeSet<i64>) -> BTreeSet<i64> {
        wanted - &self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, made: &BTreeSet<i64>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
    }

    fn remove(&self, number: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// The partition that holds an instant.
pub(super) fn number(time_ms: UnixMillis) -> i64 {
    time_ms.div_euclid(WIDTH_MS)
}

/// Makes those of `numbers` that are not there, in every table.
pub(super) async fn make(transaction: &mut Transaction<'static, Any>, numbers: &BTreeSet<i64>) -> Result<(), Error> {
    sqlx::query(LOCK).execute(&mut **transaction).await?;
    let there = present(transaction).await?;
    for number in numbers - &there {
        let (from, to) = (number * WIDTH_MS, (number + 1) * WIDTH_MS);
        for table in TABLES {
            let name = format!("\"{table}_p{number}\"");
            let create = format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL)");
            let attach = format!("ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})");
            for statement in [create, attach] {
                sqlx::query(AssertSqlSafe(statement)).execute(&mut **transaction).await?;
            }
        }
    }
    Ok(())
}

async fn present(transaction: &mut Transaction<'static, Any>) -> Result<BTreeSet<i64>, Error> {
    let rows = sqlx::query(NAMES).fetch_all(&mut **transaction).await?;
    let number = |name: &str| name.rsplit_once("_p").and_then(|(_, number)| number.parse().ok());
    let names = rows.iter().map(|row| column::<String>(row, "name")).collect::<Result<Vec<_>, Error>>()?;
    names
        .iter()
        .map(|name| number(name).ok_or_else(|| Error::Corrupt(format!("{name} is no partition of ours"))))
        .collect()
}

impl Store {
    /// Makes the partitions from one time to another ahead of what will be written; nothing on SQLite.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn prepare_partitions(&self, from_ms: UnixMillis, to_ms: UnixMillis) -> Result<(), Error> {
        let wanted: BTreeSet<i64> = (number(from_ms)..=number(to_ms)).collect();
        if self.database.dialect() == Dialect::Sqlite || self.partitions.missing(&wanted).is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin_write().await?;
        make(&mut transaction, &wanted).await?;
        transaction.commit().await?;
        self.partitions.add(&wanted);
        Ok(())
    }

    /// Drops the partitions that hold nothing from `keep_from_ms` on. How many rows they are believed to have held is not
    /// known; the number of tables dropped.
    ///
    /// # Errors
    /// Where storage does not answer, also because somebody held a lock for longer than a second: try again later.
    pub(super) async fn drop_partitions(&self, keep_from_ms: UnixMillis) -> Result<u64, Error> {
        let mut transaction = self.database.begin_write().await?;
        sqlx::query(LOCK).execute(&mut *transaction).await?;
        // Dropping waits for every reader, and everybody would wait behind it.
        sqlx::query("SET LOCAL lock_timeout = '1s'").execute(&mut *transaction).await?;
        let old = present(&mut transaction).await?.into_iter().filter(|number| (number + 1) * WIDTH_MS <= keep_from_ms);
        let mut dropped = 0;
        for number in old {
            self.partitions.remove(number);
            for table in TABLES {
                let drop = format!("DROP TABLE IF EXISTS \"{table}_p{number}\"");
                sqlx::query(AssertSqlSafe(drop)).execute(&mut *transaction).await?;
                dropped += 1;
            }
        }
        transaction.commit().await?;
        Ok(dropped)
    }

    #[cfg(test)]
    pub(super) async fn partition_count(&self) -> Result<usize, Error> {
        let mut transaction = self.begin_read().await?;
        let there = present(&mut transaction).await?;
        let row =
            sqlx::query("SELECT COUNT(*) AS kept FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind = 'r'")
                .fetch_one(&mut *transaction)
                .await?;
        transaction.commit().await?;
        assert_eq!(
            super::rows::count(&row, "kept")?,
            (there.len() * TABLES.len()) as u64,
            "every table has every partition"
        );
        Ok(there.len())
    }
}
