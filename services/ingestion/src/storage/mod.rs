//! What was observed, durable on SQLite and PostgreSQL, behind one [`Store`]. The promises below hold on both and are
//! tested by one suite.
//!
//! **Writes.** Each of [`Store::declare`], [`Store::replace_buckets`], [`Store::put_incidents`], [`Store::observe`],
//! [`Store::replace_utilisation`], [`Store::apply_catalogue`] and [`Store::append_spans`] is one transaction: when it
//! returns, everything is durable; when it fails or is dropped, nothing happened. Writes of one tenant follow one another
//! (each locks the tenant's row first), so read, merge and write
//! within one of them need no further care.
//!
//! **The observers' interface.** OTLP and Prometheus write through one function,
//!
//! ```text
//! store.observe(&tenant, &counter_keys, |states| -> ObservationBatch { … })
//! ```
//!
//! which reads the named counter states, hands them to the closure (pure, quick, called once) and applies the batch it
//! returns: entities, edges (added to what is stored of the same source), buckets (replaced or added to), counter states,
//! and the rows of the span log that the batch accounts for, all in that transaction. Received spans are made durable by
//! [`Store::append_spans`] *before* they are acknowledged; [`Store::pending_spans`] lists what is not settled, also after a
//! restart. Since what a batch changes and the log rows that it settles are committed together, each span counts exactly
//! once, whenever the process is killed. A row that somebody else settled since it was read (its revision moved on) fails
//! the whole batch with [`Error::AlreadySettled`]: read the pending rows again.
//!
//! **The catalogue** is taken over by [`Store::apply_catalogue`], whole sweeps only. Its words stand in the entities beside
//! what was declared, its edges beside those declared (`said`), and the versions of its entities are remembered, so that a
//! sweep that brings nothing new writes nothing. It alone takes away again what it brought.
//!
//! **The change log.** Every write appends to it in its own transaction. Sequence numbers are handed out under a lock that
//! lasts until the commit, so they become visible in their order and a follower skips none. The log is compacted: of each
//! (tenant, service, kind) the newest change stays, so it is never longer than four rows a service; also those of services
//! that the catalogue took away stay, and say that something changed. Writing what is stored already changes nothing and
//! appends nothing. A number belongs to an epoch, by which a follower notices that the database was put back (`epochs`). What
//! changed of a topology since a version is read by it (`topology`): every write that touches what a row rests on says so.
//!
//! **History** is rows while an hour is open and for a while after it, then part of one block a series and day (`block`
//! says the format). What is written late stands in rows again, which win over the block, until it is packed in too. A batch that
//! brings the whole of a day, or much of one that is over, writes the block at once. Nobody who reads or writes can tell
//! the difference: packing changes no answer and appends no change. [`Store::pack`] packs, in short transactions of its
//! own; PostgreSQL keeps history in partitions by time (`partitions`). What is kept how long is the list in
//! `retention`: a new table that grows with time is added there.
//!
//! **Regions.** Where telemetry tells the region, counts are kept by region beside the whole (`regions`): a bucket of a region
//! never changes that of the whole service.
//!
//! **Reads** never return more than they are asked for; all text sorts by bytes.

mod block;
mod blocks;
mod buckets;
mod catalogue;
mod changes;
mod dependencies;
mod entities;
mod epochs;
mod exemplars;
mod forgetting;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod history;
mod incident_record;
mod incidents;
mod left_out;
mod lines;
mod observations;
mod operations;
mod packing;
mod partitions;
mod record;
mod regions;
mod request_samples;
mod retention;
mod rows;
mod said;
mod sample_record;
mod spans;
mod tails;
mod tenants;
mod topology;
mod utilisation;
mod write;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod contract_catalogue;
#[cfg(test)]
mod contract_exemplars;
#[cfg(test)]
mod contract_following;
#[cfg(test)]
mod contract_history;
#[cfg(test)]
mod contract_incidents;
#[cfg(test)]
mod contract_members;
#[cfg(test)]
mod contract_observations;
#[cfg(test)]
mod contract_regions;
#[cfg(test)]
mod contract_request_samples;
#[cfg(test)]
mod contract_topology;
#[cfg(test)]
mod contract_traces;
#[cfg(test)]
mod contract_utilisation;
#[cfg(test)]
mod forward;
#[cfg(test)]
mod forward_seeds;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod recorded;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use attain_runtime::database::{Database, Dialect, Migrations};
use attain_vocabulary::{TenantId, UnixMillis};
use sqlx::{Any, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

pub use catalogue::{AppliedSweep, CatalogueEntry, CatalogueOutcome, CatalogueProblem, CatalogueSnapshot};
pub use changes::{Change, ChangeHead, ChangeKind};
pub use dependencies::DeclaredEdge;
pub use entities::DataSummary;
pub use exemplars::ExemplarPosition;
pub use history::{BucketSpan, HistorySize, SliPage};
pub(crate) use history::{FoundHistory, Handing, KeptDay, NextDays};
pub use incidents::{IncidentNews, IncidentPosition};
pub use left_out::{FullTenant, LeftOut};
pub use observations::{CounterStates, Observed};
pub use operations::{DaySpan, OperationPosition};
pub use packing::{PackCursor, PackStep};
pub use regions::{REGIONS_MAX, RegionalHistory};
pub use request_samples::SampledHour;
pub use spans::{ForgettableSpans, PendingSpans, ReceivedSpans, SpanLogSize, SpanMemory, SpansDigest};
pub use topology::{HandedTopology, HeldVersion, Topology};
pub use utilisation::UtilisationPage;

use crate::Error;
use crate::count::{Count, observed};

/// How much a tenant may have, and how much of it is kept in detail.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Entities.
    pub entities_max: usize,
    /// Dependencies, each counted once a source.
    pub dependencies_max: usize,
    /// Operations of one service on one day, those that it calls included; the others are counted together, for as many
    /// callees each by itself.
    pub operations_per_service_max: usize,
    /// Days of calls and requests that call rates are measured in.
    pub call_rate_days: u32,
    /// Requests of one service and hour that are kept with their calls.
    pub request_samples_per_hour: usize,
}

/// The database of ingestion; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    database: Database,
    capacity: Capacity,
    /// SQLite has one writer: queue here rather than poll for its lock.
    writer: Arc<Mutex<()>>,
    /// Newest sequence that this process committed.
    newest: watch::Sender<u64>,
    /// Days that end here or earlier are over.
    closed_before_ms: Arc<AtomicI64>,
    partitions: partitions::Known,
    over_capacity: left_out::OverCapacity,
    /// Operations that were counted together with others.
    other_operations: Arc<Count>,
}

impl Store {
    /// Opens `sqlite:path` or `postgres://…` and brings the schema up to date.
    ///
    /// # Errors
    /// Where the database cannot be opened or migrated.
    pub async fn open(url: &str, capacity: Capacity) -> Result<Self, Error> {
        let database = Database::open("ingestion", url, &migrations()).await?;
        epochs::begin(&database).await?;
        Ok(Self {
            database,
            capacity,
            writer: Arc::default(),
            newest: watch::Sender::new(0),
            closed_before_ms: Arc::new(AtomicI64::new(i64::MIN)),
            partitions: partitions::Known::default(),
            over_capacity: left_out::OverCapacity::default(),
            other_operations: Arc::new(observed("otlp", "operations_over_max")),
        })
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// [`Error::Storage`] where it does not.
    pub async fn check(&self) -> Result<(), Error> {
        sqlx::query("SELECT last FROM counters WHERE name = 'changes'").fetch_one(self.database.pool()).await?;
        Ok(())
    }

    /// The database's name, for people.
    #[must_use]
    pub fn dialect_name(&self) -> &'static str {
        match self.database.dialect() {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        }
    }

    /// Wakes whoever follows the change log when this process commits a change. Other processes may commit too: look
    /// from time to time all the same.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Sees each tenant of which this process left something out because it is full.
    #[must_use]
    pub fn watch_full(&self) -> watch::Receiver<Option<FullTenant>> {
        self.over_capacity.watch()
    }

    /// Says which days are over: those that end at this time or earlier. Much of such a day in one batch is packed at
    /// once. It changes how history is kept, never what is read.
    pub fn close_days_before(&self, time_ms: UnixMillis) {
        self.closed_before_ms.store(time_ms, Ordering::Relaxed);
    }

    fn closed_before_ms(&self) -> UnixMillis {
        self.closed_before_ms.load(Ordering::Relaxed)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// A transaction in which every read sees the same state.
    async fn begin_read(&self) -> Result<Transaction<'static, Any>, Error> {
        Ok(match self.database.dialect() {
            // Write-ahead log: the first read fixes what the transaction sees.
            Dialect::Sqlite => self.database.pool().begin().await?,
            Dialect::Postgres => {
                self.database.pool().begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?
            }
        })
    }

    /// The turn of this process's only writer; `None` where the database itself lets several write.
    async fn write_turn(&self) -> Option<OwnedMutexGuard<()>> {
        match self.database.dialect() {
            Dialect::Sqlite => Some(Arc::clone(&self.writer).lock_owned().await),
            Dialect::Postgres => None,
        }
    }

    async fn begin_write(&self, tenant: &TenantId) -> Result<write::Write, Error> {
        write::Write::begin(self, tenant).await
    }
}

fn migrations() -> Migrations {
    Migrations { sqlite: sqlx::migrate!("./migrations/sqlite"), postgres: sqlx::migrate!("./migrations/postgres") }
}
