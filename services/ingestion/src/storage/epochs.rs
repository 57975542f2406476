//! Which history a sequence number belongs to.
//!
//! Whoever follows the change log remembers a number. A database that was put back from a copy hands the numbers after
//! the copy out again, for other changes; once it has grown past what the follower saw, the number alone tells nothing. So
//! each start begins an epoch, a random name for the numbers from there on, and a follower remembers both. Of the epoch
//! that a number had before the copy was put back, the database then knows another one, or none.
//!
//! The end of an epoch is the start of the next, whichever process began it: on PostgreSQL several may run. A database
//! that is put back under a process which goes on running is not noticed: start it again.
//!
//! A topology is handed out with the epoch of the newest start ([`newest`]), and only what changed since is told to whoever
//! comes back with it: settings and code, on which rows rest too, are the same until the next start.

use attain_runtime::database::{Database, Dialect};
use sqlx::{Any, Transaction};

use super::Store;
use super::changes::allocate;
use super::rows::{column, count, stored};
use crate::Error;

/// Starts that are remembered; who follows from before them begins anew.
pub(super) const KEPT_MAX: u64 = 100;

pub(super) const OF: &str =
    "SELECT epoch FROM change_epochs WHERE first_sequence <= $1 ORDER BY first_sequence DESC LIMIT 1";
const NEWEST: &str = "SELECT epoch FROM change_epochs ORDER BY first_sequence DESC LIMIT 1";
/// Of a start after which nothing changed the name is replaced: nobody knows it.
const BEGIN: &str = "ON CONFLICT (first_sequence) DO UPDATE SET epoch = excluded.epoch";
const FORGET: &str = "DELETE FROM change_epochs WHERE first_sequence < \
     (SELECT MIN(first_sequence) FROM (SELECT first_sequence FROM change_epochs ORDER BY first_sequence DESC LIMIT $1) AS kept)";

/// Begins an epoch with the next number; the first one has what was before it, too.
pub(super) async fn begin(database: &Database) -> Result<(), Error> {
    let random = match database.dialect() {
        Dialect::Sqlite => "lower(hex(randomblob(16)))",
        Dialect::Postgres => "replace(CAST(gen_random_uuid() AS TEXT), '-', '')",
    };
    let mut transaction = database.begin_write().await?;
    // Locks the counter: nobody hands a number out in between.
    let last = allocate(&mut transaction, "changes", 0).await?;
    let row = sqlx::query("SELECT COUNT(*) AS kept FROM change_epochs").fetch_one(&mut *transaction).await?;
    let first = if count(&row, "kept")? == 0 { 0 } else { last + 1 };
    let begin = format!("INSERT INTO change_epochs (first_sequence, epoch) VALUES ($1, {random}) {BEGIN}");
    sqlx::query(sqlx::AssertSqlSafe(begin)).bind(stored(first)).execute(&mut *transaction).await?;
    sqlx::query(FORGET).bind(stored(KEPT_MAX)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// The epoch of the newest start.
pub(super) async fn newest(transaction: &mut Transaction<'static, Any>) -> Result<String, Error> {
    column(&sqlx::query(NEWEST).fetch_one(&mut **transaction).await?, "epoch")
}

impl Store {
    /// The epoch that a sequence number belongs to, or would if it were handed out next; `None` for one that is no longer
    /// remembered.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn change_epoch(&self, sequence: u64) -> Result<Option<String>, Error> {
        let row = sqlx::query(OF).bind(stored(sequence)).fetch_optional(self.database.pool()).await?;
        row.map(|row| column(&row, "epoch")).transpose()
    }
}
