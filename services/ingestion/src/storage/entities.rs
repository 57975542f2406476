use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::Dialect;
use attain_vocabulary::{EntityId, EntityKind, Source, TenantId, UnixMillis};
use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Transaction};

use super::Store;
use super::changes::ChangeKind;
use super::history::Times;
use super::lines::{Line, Value, all_lines, read_lines};
use super::record::{decode_entity, decode_request_days, encode_entity, encode_request_days};
use super::rows::{column, count, insert_many, select_in, stored};
use super::said::neighbours;
use super::write::Write;
use crate::Error;
use crate::domain::{Entity, RequestDays};

/// Entities that are read at once in search of those of one kind.
const READ_AT_ONCE: usize = 500;

/// What becomes of new rows when the tenant has as many as are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
    /// The write fails.
    Refuse,
    /// They are left out, the rest is kept.
    Ignore,
}

/// How much is known of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DataSummary {
    /// Starts of the oldest and the newest bucket.
    pub first_and_last_ms: Option<(UnixMillis, UnixMillis)>,
    /// Buckets, whoever measured them.
    pub bucket_count: u64,
    /// Who measured them.
    pub sources: BTreeSet<Source>,
    /// Direct dependencies.
    pub dependency_count: u64,
    /// Direct callers.
    pub dependent_count: u64,
}

pub(super) const CALLEES: &str = "SELECT callee_id AS name FROM dependencies WHERE tenant_id = $1 AND caller_id = $2";
pub(super) const CALLERS: &str = "SELECT caller_id AS name FROM dependencies WHERE tenant_id = $1 AND callee_id = $2";
pub(super) const PAGE: &str = "SELECT id, record, request_count FROM entities \
     WHERE tenant_id = $1 AND id > $2 AND search LIKE $3 ESCAPE '\\' ORDER BY id LIMIT $4";
/// Up to how many entities are always named one by one where some of a tenant's are read.
const NAMED_MAX: usize = 1_000;
/// As [`read_entity_line`] reads them.
const VALUES: [Value; 4] =
    [Value::Plain("id"), Value::Bytes("record"), Value::Plain("request_count"), Value::OptionalBytes("request_days")];

impl Write {
    /// Reads entities, new ones with nothing but their names, lets `update` change each, and writes those that differ.
    /// Names left out because the tenant is full.
    pub(super) async fn update_entities(
        &mut self,
        ids: &BTreeSet<EntityId>,
        when_full: WhenFull,
        update: impl Fn(&mut Entity) + Send,
    ) -> Result<BTreeSet<EntityId>, Error> {
        let known = self.entities(ids).await?;
        let new: BTreeSet<&EntityId> = ids.iter().filter(|id| !known.contains_key(*id)).collect();
        let room = if new.is_empty() { 0 } else { self.entity_room().await? };
        if new.len() > room && when_full == WhenFull::Refuse {
            return Err(Error::TenantFull { what: "entities", max: self.capacity.entities_max });
        }
        let appeared: BTreeSet<EntityId> = new.iter().take(room).map(|id| (*id).clone()).collect();
        let ignored: BTreeSet<EntityId> = new.into_iter().skip(room).cloned().collect();
        let mut changed = Vec::with_capacity(ids.len());
        for id in ids.difference(&ignored) {
            let before = known.get(id);
            let mut after = before.cloned().unwrap_or_else(|| Entity::named(id.clone()));
            update(&mut after);
            if before != Some(&after) {
                changed.push(after);
            }
        }
        self.write_entities(&changed).await?;
        if !appeared.is_empty() {
            self.link_appeared(&appeared).await?;
        }
        Ok(ignored)
    }

    pub(super) async fn entities(&mut self, ids: &BTreeSet<EntityId>) -> Result<BTreeMap<EntityId, Entity>, Error> {
        let tenant = self.tenant.clone();
        let rows = if self.are_most(ids.len()).await? {
            let all = sqlx::query(AssertSqlSafe(entity_lines(self.dialect))).bind(tenant);
            all.fetch_all(&mut *self.transaction).await?
        } else {
            let keys: Vec<&str> = ids.iter().map(EntityId::as_str).collect();
            select_in(
                &mut self.transaction,
                (&format!("{} AND id IN", entity_lines(self.dialect)), 1),
                &keys,
                |query| query.bind(tenant.clone()),
                |query, key| query.bind(key.to_owned()),
            )
            .await?
        };
        let entities = read_lines(&rows, read_entity_line)?.into_iter().filter(|entity| ids.contains(&entity.id));
        Ok(entities.map(|entity| (entity.id.clone(), entity)).collect())
    }

    /// As [`are_most`].
    pub(super) async fn are_most(&mut self, asked_count: usize) -> Result<bool, Error> {
        are_most(&mut self.transaction, &self.tenant, asked_count).await
    }

    async fn entity_room(&mut self) -> Result<usize, Error> {
        let kept = entity_count(&mut self.transaction, &self.tenant).await?;
        Ok(self.capacity.entities_max.saturating_sub(kept))
    }

    async fn write_entities(&mut self, entities: &[Entity]) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let statement = (
            "INSERT INTO entities (tenant_id, id, search, record, request_count, request_days)",
            6,
            "ON CONFLICT (tenant_id, id) DO UPDATE SET search = excluded.search, record = excluded.record, \
             request_count = excluded.request_count, request_days = excluded.request_days",
        );
        insert_many(&mut self.transaction, self.dialect, statement, entities, |query, entity| {
            query
                .bind(tenant.clone())
                .bind(entity.id.as_str().to_owned())
                .bind(entity.search_text())
                .bind(encode_entity(entity))
                .bind(stored(entity.request_count))
                .bind(encode_request_days(&entity.request_days))
        })
        .await?;
        entities.iter().for_each(|entity| self.changed(ChangeKind::Topology, &entity.id));
        Ok(())
    }
}

impl Store {
    /// One entity; `None` when nobody ever told of it.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn entity(&self, tenant: &TenantId, id: &EntityId) -> Result<Option<Entity>, Error> {
        let row = sqlx::query("SELECT id, record, request_count FROM entities WHERE tenant_id = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(read_entity).transpose()
    }

    /// Entities after a name in lexical order, at most `limit`, whose id, display name or owner contains `query` whatever
    /// the case.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn entities(
        &self,
        tenant: &TenantId,
        query: &str,
        after: Option<&EntityId>,
        limit: usize,
    ) -> Result<Vec<Entity>, Error> {
        let rows = sqlx::query(PAGE)
            .bind(tenant.as_str())
            .bind(after.map_or("", EntityId::as_str))
            .bind(format!("%{}%", escaped(&query.to_lowercase())))
            .bind(stored(limit as u64))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(read_entity).collect()
    }

    /// Those among them of one kind. What an entity is follows from who says it, so it is told by whoever is read.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn entities_of_kind(
        &self,
        tenant: &TenantId,
        (query, kind): (&str, EntityKind),
        after: Option<&EntityId>,
        limit: usize,
    ) -> Result<Vec<Entity>, Error> {
        let (mut found, mut after) = (Vec::new(), after.cloned());
        loop {
            let read = self.entities(tenant, query, after.as_ref(), READ_AT_ONCE.max(limit)).await?;
            let ended = read.len() < READ_AT_ONCE.max(limit);
            after = read.last().map(|entity| entity.id.clone());
            let left = limit - found.len();
            found.extend(read.into_iter().filter(|entity| entity.kind() == kind).take(left));
            if ended || found.len() == limit {
                return Ok(found);
            }
        }
    }

    /// How much is known of a service.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn data_summary(&self, tenant: &TenantId, service: &EntityId) -> Result<DataSummary, Error> {
        let mut transaction = self.begin_read().await?;
        let times = Times::read(&mut transaction, tenant, service).await?;
        let dialect = self.database.dialect();
        let (mut callees, mut callers) = neighbours(&mut transaction, dialect, (tenant, service)).await?;
        callees.extend(names(&mut transaction, CALLEES, (tenant, service)).await?);
        callers.extend(names(&mut transaction, CALLERS, (tenant, service)).await?);
        transaction.commit().await?;
        Ok(DataSummary {
            first_and_last_ms: times.first_and_last_ms(),
            bucket_count: times.count(),
            sources: times.sources,
            dependency_count: callees.len() as u64,
            dependent_count: callers.len() as u64,
        })
    }
}

/// Whether so many entities are so large a part of the tenant's that reading all is less work than naming each.
pub(super) async fn are_most(
    transaction: &mut Transaction<'static, Any>,
    tenant: &str,
    asked_count: usize,
) -> Result<bool, Error> {
    Ok(asked_count >= NAMED_MAX && asked_count >= entity_count(transaction, tenant).await? / 2)
}

async fn entity_count(transaction: &mut Transaction<'static, Any>, tenant: &str) -> Result<usize, Error> {
    let row = sqlx::query("SELECT COUNT(*) AS kept FROM entities WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_one(&mut **transaction)
        .await?;
    Ok(usize::try_from(count(&row, "kept")?).unwrap_or(usize::MAX))
}

async fn names(
    transaction: &mut Transaction<'static, Any>,
    sql: &'static str,
    (tenant, service): (&TenantId, &EntityId),
) -> Result<Vec<String>, Error> {
    let rows = sqlx::query(sql).bind(tenant.as_str()).bind(service.as_str()).fetch_all(&mut **transaction).await?;
    rows.iter().map(|row| column(row, "name")).collect()
}

/// Without its requests by day: only rates need them, and those read whole topologies.
fn read_entity(row: &AnyRow) -> Result<Entity, Error> {
    let (record, request_count) = (column(row, "record")?, count(row, "request_count")?);
    decode_entity(&column::<String>(row, "id")?, record, request_count, RequestDays::new())
}

/// All entities of a tenant, as one text.
pub(super) fn entity_lines(dialect: Dialect) -> String {
    format!("SELECT {} FROM entities WHERE tenant_id = $1", all_lines(dialect, &VALUES))
}

pub(super) fn read_entity_line(line: &mut Line<'_>) -> Result<Entity, Error> {
    let (id, record, request_count) = (line.text()?, line.bytes()?, line.count()?);
    decode_entity(id, record, request_count, decode_request_days(line.optional_bytes()?)?)
}

/// Text that `LIKE … ESCAPE '\'` takes as it stands.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
