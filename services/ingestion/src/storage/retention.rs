//! What is kept how long, and how what is too old goes.
//!
//! | table | kept |
//! |---|---|
//! | `sli_blocks`, `sli_buckets` | as long as the setting `history_days` says; on PostgreSQL up to a partition (four weeks) longer |
//! | `utilisation_days` | as long as `history_days` says |
//! | `region_days`, `service_regions` | as long as `history_days` says; a region goes with its last day |
//! | `operations` | `operation_days`; `otlp::forgetting` has them deleted |
//! | `exemplars` | `exemplar_days`; `otlp::forgetting` too |
//! | `request_samples` | `request_sample_days`; `otlp::forgetting` too |
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

use super::Store;
use super::block::day_start;
use super::forgetting::Forgotten;
use crate::Error;

/// A table whose rows go when they are old.
struct Expiring {
    rows: Forgotten,
    /// Whether it goes with its partitions on PostgreSQL ([`super::partitions::TABLES`]).
    partitioned: bool,
}

/// Rows that stay in `sli_buckets` on SQLite are packed before they are old, and go as blocks.
const EXPIRING: &[Expiring] = &[
    Expiring { rows: days_of("sli_blocks"), partitioned: true },
    Expiring { rows: days_of("utilisation_days"), partitioned: false },
    Expiring {
        rows: Forgotten { table: "region_days", key: "tenant_id, service_id, day_ms, source, region", order: "day_ms" },
        partitioned: false,
    },
    Expiring {
        rows: Forgotten { table: "service_regions", key: "tenant_id, service_id, region", order: "day_ms" },
        partitioned: false,
    },
];

/// A row a day and series.
const fn days_of(table: &'static str) -> Forgotten {
    Forgotten { table, key: "tenant_id, service_id, day_ms, source", order: "day_ms" }
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
            gone += self.forget_step(expiring.rows, day_start(keep_from_ms), rows_max).await?;
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
    expiring(dialect).map(|expiring| expiring.rows.sql()).collect()
}
