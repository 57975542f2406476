//! History on PostgreSQL is partitioned by ranges of time, so that what is too old goes by dropping a table.
//!
//! A partition is four weeks, numbered from the epoch; every table of [`TABLES`] has those of the same numbers. They are
//! made ahead for all the time that may be written, and by the write that first needs one. A new one is attached, not
//! created in place: that takes a lock which neither reads nor writes wait for. Whoever makes some holds one advisory
//! lock until its transaction ends, so that two never make the same.
//!
//! To drop one that is attached would take the lock on its table that every reader waits for. So it is detached first,
//! concurrently, which waits for those who read the table now and holds up nobody who comes after, and dropped when it
//! stands alone. That cannot be one transaction: what ended in between is finished in the next round.
//!
//! SQLite has no partitions; there [`super::retention`] deletes row by row.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use attain_runtime::database::Dialect;
use attain_vocabulary::{DAY_MS, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Transaction};

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

/// Tables of ours that are partitions, or were before they were detached. Of a table one at a time may be leaving; buckets
/// come before blocks, by which it is known which partitions there are.
const STANDING: &str = "SELECT CAST(child.relname AS TEXT) AS name, \
     CASE WHEN inhrelid IS NULL THEN 'alone' WHEN inhdetachpending THEN 'leaving' ELSE 'attached' END AS standing \
     FROM pg_class AS child LEFT JOIN pg_inherits ON inhrelid = child.oid \
     JOIN pg_namespace AS space ON space.oid = child.relnamespace \
     WHERE space.nspname = current_schema() AND child.relkind = 'r' AND child.relname ~ '^sli_(blocks|buckets)_p-?[0-9]+$' \
     ORDER BY COALESCE(inhdetachpending, FALSE) DESC, child.relname DESC";
/// Whoever does not get it leaves the work to whoever has it.
const TRY_DROP_LOCK: &str = "SELECT CASE WHEN pg_try_advisory_lock(4736254) THEN 1 ELSE 0 END AS locked";
/// PostgreSQL's code for a lock that was not had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

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
    rows.iter().map(|row| numbered(&column::<String>(row, "name")?)).collect()
}

fn numbered(name: &str) -> Result<i64, Error> {
    let number = name.rsplit_once("_p").and_then(|(_, number)| number.parse().ok());
    number.ok_or_else(|| Error::Corrupt(format!("{name} is no partition of ours")))
}

/// A table that is a partition, or was one.
struct Standing {
    name: String,
    number: i64,
    standing: String,
}

/// Those of which nothing is kept.
fn too_old(rows: &[AnyRow], keep_from_ms: UnixMillis) -> Result<Vec<Standing>, Error> {
    let mut old = Vec::new();
    for row in rows {
        let name: String = column(row, "name")?;
        let number = numbered(&name)?;
        if (number + 1) * WIDTH_MS <= keep_from_ms {
            old.push(Standing { name, number, standing: column(row, "standing")? });
        }
    }
    Ok(old)
}

impl Standing {
    /// Detaches it as far as it is not yet, and drops it.
    async fn drop(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        let name = &self.name;
        let table = name.rsplit_once("_p").map_or(name.as_str(), |(table, _)| table);
        let how = match self.standing.as_str() {
            "attached" => Some("CONCURRENTLY"),
            "leaving" => Some("FINALIZE"),
            _ => None,
        };
        if let Some(how) = how {
            let detach = format!("ALTER TABLE {table} DETACH PARTITION \"{name}\" {how}");
            connection.execute(AssertSqlSafe(detach)).await?;
        }
        connection.execute(AssertSqlSafe(format!("DROP TABLE \"{name}\""))).await?;
        Ok(())
    }
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

    /// Drops the partitions that hold nothing from `keep_from_ms` on, and says how many tables; fewer where somebody reads
    /// one for longer than a second, or another process is at it. The rest goes in a later round.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub(super) async fn drop_partitions(&self, keep_from_ms: UnixMillis) -> Result<u64, Error> {
        if too_old(&sqlx::query(STANDING).fetch_all(self.database.pool()).await?, keep_from_ms)?.is_empty() {
            return Ok(0);
        }
        // Out of the pool: with this value its locks and settings end, wherever this is cut off.
        let mut connection = self.database.pool().acquire().await?.detach();
        let row = sqlx::query(TRY_DROP_LOCK).fetch_one(&mut connection).await?;
        let mut dropped = 0;
        if column::<i32>(&row, "locked")? == 1 {
            connection.execute("SET lock_timeout = '1s'").await?;
            let standing = sqlx::query(STANDING).fetch_all(&mut connection).await?;
            for partition in too_old(&standing, keep_from_ms)? {
                self.partitions.remove(partition.number);
                match partition.drop(&mut connection).await {
                    Ok(()) => dropped += 1,
                    Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(LOCK_NOT_AVAILABLE) => {
                        tracing::info!(partition = partition.name, "somebody reads what is too old; it goes later");
                        break;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        connection.close().await?;
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
