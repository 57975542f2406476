//! Opens a service's database: SQLite in a file, or PostgreSQL. Both speak the same SQL (`$1` parameters, upserts).

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{Any, AnyPool, AssertSqlSafe, Executor as _, Transaction};

use crate::Error;
use attain_redaction::Redactor;

const SQLITE_CONNECTIONS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 8;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database is behind a [`Database`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SQLite in a file of its own.
    Sqlite,
    /// PostgreSQL, in a schema of its own.
    Postgres,
}

/// The migrations of a service, one list a dialect.
#[derive(Debug)]
pub struct Migrations {
    /// For SQLite.
    pub sqlite: Migrator,
    /// For PostgreSQL.
    pub postgres: Migrator,
}

/// An open database with an up-to-date schema.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    dialect: Dialect,
}

impl Database {
    /// Opens `sqlite:path` or `postgres://…` and brings the schema up to date. On PostgreSQL every service has the schema
    /// of its name, so that services can share a database.
    ///
    /// An acknowledged write survives the end of the process at any moment, and the loss of power: on SQLite by the
    /// write-ahead log and `synchronous=FULL`, on PostgreSQL by `synchronous_commit`, which is turned on where the server
    /// or the user has it off. Stronger and weaker waits for replicas stay as they are set.
    ///
    /// # Errors
    /// Names the service and the address without credentials.
    pub async fn open(service: &'static str, url: &str, migrations: &Migrations) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let failed = |source| Error::OpenDatabase { service, url: without_credentials(url), source };
        let (dialect, pool) = if url.starts_with("sqlite:") {
            (Dialect::Sqlite, open_sqlite(url).await.map_err(failed)?)
        } else {
            (Dialect::Postgres, open_postgres(service, url).await.map_err(failed)?)
        };
        let migrator = match dialect {
            Dialect::Sqlite => &migrations.sqlite,
            Dialect::Postgres => &migrations.postgres,
        };
        migrator.run(&pool).await.map_err(|source| Error::Migrate { service, source })?;
        Ok(Self { pool, dialect })
    }

    /// The connections.
    #[must_use]
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Which database it is.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock at once, so that it never has to give up
    /// half way.
    ///
    /// # Errors
    /// Where no connection or lock can be had in time.
    pub async fn begin_write(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.dialect {
            Dialect::Sqlite => self.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.pool.begin().await,
        }
    }

    /// Closes every connection; on SQLite this folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The rows of a multi-row `VALUES`: `($1, $2), ($3, $4)` for two rows of two columns.
#[must_use]
pub fn values_placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells: Vec<String> = (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", cells.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// An address that may be shown: user and password left out, whatever else grants access replaced by a mark.
#[must_use]
pub fn without_credentials(url: &str) -> String {
    let shown = match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://{}", &url[..scheme], &url[at + 1..]),
        _ => url.to_owned(),
    };
    // The address itself is the operator's own.
    Redactor::default().redact(&shown).0.into_owned()
}

async fn open_sqlite(url: &str) -> Result<AnyPool, sqlx::Error> {
    // In memory every connection would have a database of its own.
    let in_memory = url.contains(":memory:");
    let separator = if url.contains('?') { '&' } else { '?' };
    let options =
        AnyConnectOptions::from_str(&format!("{url}{separator}mode={}", if in_memory { "memory" } else { "rwc" }))?;
    AnyPoolOptions::new()
        .max_connections(if in_memory { 1 } else { SQLITE_CONNECTIONS })
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // A file does not hang up.
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // busy_timeout first: the others may have to wait for a lock.
                for pragma in ["busy_timeout = 5000", "journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"] {
                    connection.execute(AssertSqlSafe(format!("PRAGMA {pragma}"))).await?;
                }
                Ok(())
            })
        })
        .connect_with(options)
        .await
}

async fn open_postgres(service: &'static str, url: &str) -> Result<AnyPool, sqlx::Error> {
    AnyPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                // The lock makes concurrent first starts queue up instead of failing on the same schema.
                let statements = [
                    "SELECT pg_advisory_lock(4736251)".to_owned(),
                    format!("CREATE SCHEMA IF NOT EXISTS {service}"),
                    "SELECT pg_advisory_unlock(4736251)".to_owned(),
                    format!("SET search_path TO {service}"),
                    "SET client_min_messages TO warning".to_owned(),
                    "SELECT set_config('synchronous_commit', 'on', false) \
                     WHERE current_setting('synchronous_commit') = 'off'"
                        .to_owned(),
                ];
                for statement in statements {
                    connection.execute(AssertSqlSafe(statement)).await?;
                }
                Ok(())
            })
        })
        .connect_with(AnyConnectOptions::from_str(url)?)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        assert_eq!(without_credentials("postgres://me:secret@db:5432/attain"), "postgres://db:5432/attain");
        assert_eq!(without_credentials("sqlite:data/x.db"), "sqlite:data/x.db");
        let shown = without_credentials("postgres://db/attain?user=me&password=secret");
        assert_eq!(shown, "postgres://db/attain?user=me&password=[redacted:secret]");
    }

    #[test]
    fn placeholders_count_through() {
        assert_eq!(values_placeholders(2, 2), "($1, $2), ($3, $4)");
    }
}
