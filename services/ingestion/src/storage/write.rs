use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{Any, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::changes::{ChangeKind, append_changes};
use super::partitions;
use super::record::entity_id;
use super::rows::{column, count};
use super::tails::Touched;
use super::{Capacity, Store};
use crate::Error;

/// One write of one tenant: a transaction, and what it changed.
pub(super) struct Write {
    pub(super) transaction: Transaction<'static, Any>,
    pub(super) dialect: Dialect,
    pub(super) tenant: String,
    pub(super) capacity: Capacity,
    /// No block of the tenant holds a bucket of this time or later; one that holds earlier buckets of its day may be there.
    pub(super) packed_until_ms: UnixMillis,
    /// Partitions that this transaction made.
    partitions_made: BTreeSet<i64>,
    /// As noted: in any order, some more than once.
    changed: Vec<(ChangeKind, EntityId)>,
    /// From when on measurements changed.
    touched: Touched,
    topology_version: u64,
    pub(super) store: Store,
    /// Held until the transaction ends.
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Write {
    pub(super) async fn begin(store: &Store, tenant: &TenantId) -> Result<Self, Error> {
        let dialect = store.database.dialect();
        let turn = store.write_turn().await;
        let mut transaction = store.database.begin_write().await?;
        // The update that changes nothing locks the row.
        let row = sqlx::query(
            "INSERT INTO tenants (tenant_id, topology_version) VALUES ($1, 0) \
             ON CONFLICT (tenant_id) DO UPDATE SET tenant_id = excluded.tenant_id RETURNING topology_version, packed_until_ms",
        )
        .bind(tenant.as_str())
        .fetch_one(&mut *transaction)
        .await?;
        Ok(Self {
            topology_version: count(&row, "topology_version")?,
            packed_until_ms: column(&row, "packed_until_ms")?,
            partitions_made: BTreeSet::new(),
            transaction,
            dialect,
            tenant: tenant.as_str().to_owned(),
            capacity: store.capacity,
            changed: Vec::new(),
            touched: Touched::default(),
            store: store.clone(),
            _turn: turn,
        })
    }

    /// Notes what changed; commit appends it to the log.
    pub(super) fn changed(&mut self, kind: ChangeKind, service: &EntityId) {
        self.changed.push((kind, service.clone()));
    }

    /// Notes that measurements of a time, or of some after it, changed.
    pub(super) fn measured(&mut self, service: &EntityId, from_ms: UnixMillis) {
        self.touched.note(service, from_ms);
        self.changed(ChangeKind::Sli, service);
    }

    /// Notes the services whose measurements a statement returned, each with the time in a column.
    pub(super) fn measured_by(&mut self, written: &[AnyRow], time: &str) -> Result<(), Error> {
        let mut earliest: BTreeMap<String, UnixMillis> = BTreeMap::new();
        for row in written {
            let from_ms = column(row, time)?;
            let known = earliest.entry(column(row, "service_id")?).or_insert(from_ms);
            *known = from_ms.min(*known);
        }
        for (service, from_ms) in earliest {
            self.measured(&entity_id(&service)?, from_ms);
        }
        Ok(())
    }

    /// Notes once each the services whose rows a statement returned.
    pub(super) fn changed_by(&mut self, kind: ChangeKind, written: &[AnyRow]) -> Result<(), Error> {
        let services =
            written.iter().map(|row| column::<String>(row, "service_id")).collect::<Result<BTreeSet<_>, _>>()?;
        for service in services {
            self.changed(kind, &entity_id(&service)?);
        }
        Ok(())
    }

    /// Makes the partitions that rows of these times need; nothing on SQLite. Comes before the transaction touches the
    /// tables, so that it sees them.
    pub(super) async fn make_partitions(&mut self, times: impl Iterator<Item = UnixMillis>) -> Result<(), Error> {
        if self.dialect == Dialect::Sqlite {
            return Ok(());
        }
        let missing = self.store.partitions.missing(&times.map(partitions::number).collect());
        if !missing.is_empty() {
            partitions::make(&mut self.transaction, &missing).await?;
            self.partitions_made.extend(missing);
        }
        Ok(())
    }

    /// Whether the day is over for whoever writes it whole.
    pub(super) fn closed_before_ms(&self) -> UnixMillis {
        self.store.closed_before_ms()
    }

    /// Appends what changed to the log, makes everything durable, and wakes the followers. The tenant's topology version
    /// after the write.
    pub(super) async fn commit(mut self) -> Result<u64, Error> {
        if self.changed.is_empty() {
            self.transaction.commit().await?;
            self.store.partitions.add(&self.partitions_made);
            return Ok(self.topology_version);
        }
        self.changed.sort();
        self.changed.dedup();
        let appended = append_changes(&mut self.transaction, self.dialect, &self.tenant, &self.changed, &self.touched);
        let appended = appended.await?;
        if let Some(version) = appended.topology {
            self.topology_version = version;
            sqlx::query("UPDATE tenants SET topology_version = $1 WHERE tenant_id = $2")
                .bind(super::rows::stored(version))
                .bind(&self.tenant)
                .execute(&mut *self.transaction)
                .await?;
        }
        self.transaction.commit().await?;
        self.store.partitions.add(&self.partitions_made);
        self.store.newest.send_if_modified(|newest| {
            let newer = appended.newest > *newest;
            *newest = appended.newest.max(*newest);
            newer
        });
        Ok(self.topology_version)
    }
}
