use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, Source, TenantId, UnixMillis};
use prost::Message;
use sqlx::{Any, Transaction};

use super::Store;
use super::changes::ChangeKind;
use super::entities::WhenFull;
use super::record::entity_id;
use super::rows::{column, insert_many, select_in};
use super::said::Said;
use super::write::Write;
use crate::Error;
use crate::domain::{CatalogueWords, DependencyKey, DependencyTerms};

/// An entity of the catalogue, as it is remembered from one sweep to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// Changes with what the catalogue says of it; empty for what only a relation names.
    pub etag: String,
    /// Its node of the graph; `None` for what is none, such as a library.
    pub service: Option<EntityId>,
}

/// Everything that one full sweep of the catalogue means.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CatalogueSnapshot {
    /// How the catalogue was understood: with other settings the same entities mean something else.
    pub understanding: String,
    /// By the catalogue's own names.
    pub entries: BTreeMap<String, CatalogueEntry>,
    /// Nodes of the graph.
    pub words: BTreeMap<EntityId, CatalogueWords>,
    /// Edges of the graph; both ends are among the nodes.
    pub edges: BTreeMap<DependencyKey, DependencyTerms>,
    /// What could not be taken over as it stands.
    pub problems: Vec<CatalogueProblem>,
}

/// One kind of entry that could not be taken over as it stands.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CatalogueProblem {
    /// Stable machine-readable reason.
    #[prost(string, tag = "1")]
    pub code: String,
    /// How often.
    #[prost(uint32, tag = "2")]
    pub count: u32,
    /// Some of them, in words.
    #[prost(string, repeated, tag = "3")]
    pub examples: Vec<String>,
}

/// What became of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatalogueOutcome {
    /// The same entities in the same versions as the last time: nothing was written.
    Unchanged,
    /// Taken over.
    Applied {
        /// Nodes that the catalogue did not have before.
        added_count: usize,
        /// Nodes that it has no more.
        gone_count: usize,
    },
    /// So much of what was there is gone that nothing was applied.
    Shrunken {
        /// Entities that are gone.
        gone_count: usize,
        /// Entities that there were.
        known_count: usize,
    },
}

/// The sweep that was applied last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedSweep {
    /// When.
    pub applied_ms: UnixMillis,
    /// Entities that the catalogue held.
    pub entity_count: u32,
    /// Nodes taken over.
    pub service_count: u32,
    /// Edges taken over.
    pub dependency_count: u32,
    /// What could not be taken over as it stands.
    pub problems: Vec<CatalogueProblem>,
}

#[derive(Clone, PartialEq, Message)]
struct SweepRecord {
    #[prost(string, tag = "1")]
    understanding: String,
    #[prost(uint32, tag = "2")]
    entity_count: u32,
    #[prost(uint32, tag = "3")]
    service_count: u32,
    #[prost(uint32, tag = "4")]
    dependency_count: u32,
    #[prost(message, repeated, tag = "5")]
    problems: Vec<CatalogueProblem>,
}

/// What is remembered of the last sweep.
#[derive(Debug, PartialEq, Default)]
struct Remembered {
    understanding: Option<String>,
    entries: BTreeMap<String, CatalogueEntry>,
}

impl Store {
    /// Takes over a full sweep of the catalogue: what it holds is known from it, with its words and edges; what it holds no
    /// more loses them, and is forgotten where nobody else knows it. All in one transaction, or nothing of it.
    ///
    /// A sweep of the same entities in the same versions, understood in the same way, writes nothing. One in which more than
    /// `gone_share_max` (in [0, 1]) of the entities are gone is not applied.
    ///
    /// # Errors
    /// [`Error::TenantFull`], or where storage does not answer.
    pub async fn apply_catalogue(
        &self,
        tenant: &TenantId,
        snapshot: &CatalogueSnapshot,
        gone_share_max: f64,
        now_ms: UnixMillis,
    ) -> Result<CatalogueOutcome, Error> {
        // Looked at before the tenant's lock is taken: mostly there is nothing to do.
        let mut transaction = self.begin_read().await?;
        let remembered = remembered(&mut transaction, tenant.as_str()).await?;
        transaction.commit().await?;
        if let Some(outcome) = nothing_to_do(&remembered, snapshot, gone_share_max) {
            return Ok(outcome);
        }
        let mut write = self.begin_write(tenant).await?;
        let outcome = write.apply_catalogue(snapshot, gone_share_max, now_ms).await?;
        write.commit().await?;
        Ok(outcome)
    }

    /// The sweep that was applied last; `None` where none ever was.
    ///
    /// # Errors
    /// Where storage does not answer.
    pub async fn applied_sweep(&self, tenant: &TenantId) -> Result<Option<AppliedSweep>, Error> {
        let row = sqlx::query("SELECT applied_ms, record FROM catalogue_sweeps WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_optional(self.database.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let record = decode_sweep(column(&row, "record")?)?;
        Ok(Some(AppliedSweep {
            applied_ms: column(&row, "applied_ms")?,
            entity_count: record.entity_count,
            service_count: record.service_count,
            dependency_count: record.dependency_count,
            problems: record.problems,
        }))
    }
}

impl Write {
    async fn apply_catalogue(
        &mut self,
        snapshot: &CatalogueSnapshot,
        gone_share_max: f64,
        now_ms: UnixMillis,
    ) -> Result<CatalogueOutcome, Error> {
        let tenant = self.tenant.clone();
        let before = remembered(&mut self.transaction, &tenant).await?;
        // Somebody else may have applied a sweep in the meantime.
        if let Some(outcome) = nothing_to_do(&before, snapshot, gone_share_max) {
            return Ok(outcome);
        }
        let known: BTreeSet<&EntityId> = before.entries.values().filter_map(|entry| entry.service.as_ref()).collect();
        let gone: BTreeSet<EntityId> =
            known.iter().filter(|id| !snapshot.words.contains_key(**id)).map(|id| (*id).clone()).collect();
        let added_count = snapshot.words.keys().filter(|id| !known.contains(id)).count();

        let ids = snapshot.words.keys().cloned().collect();
        self.update_entities(&ids, WhenFull::Refuse, |entity| {
            if let Some(words) = snapshot.words.get(&entity.id) {
                entity.catalogued(words.clone());
            }
        })
        .await?;
        self.replace_all_said(Source::Catalogue, by_caller(&snapshot.edges)).await?;
        self.forget_catalogued(&gone).await?;
        self.remember(&before.entries, snapshot, now_ms).await?;
        Ok(CatalogueOutcome::Applied { added_count, gone_count: gone.len() })
    }

    /// Takes the catalogue's words from nodes, and the nodes away that nobody else knows.
    async fn forget_catalogued(&mut self, gone: &BTreeSet<EntityId>) -> Result<(), Error> {
        let known = self.entities(gone).await?;
        let (unknown, kept): (Vec<_>, Vec<_>) =
            known.into_values().partition(|entity| entity.known_from_catalogue_at_most());
        let kept = kept.into_iter().map(|entity| entity.id).collect();
        self.update_entities(&kept, WhenFull::Refuse, |entity| entity.uncatalogued()).await?;
        let ids: Vec<&str> = unknown.iter().map(|entity| entity.id.as_str()).collect();
        let tenant = self.tenant.clone();
        select_in(
            &mut self.transaction,
            ("DELETE FROM entities WHERE tenant_id = $1 AND id IN", 1),
            &ids,
            |query| query.bind(tenant.clone()),
            |query, id| query.bind(id.to_owned()),
        )
        .await?;
        unknown.iter().for_each(|entity| self.changed(ChangeKind::Topology, &entity.id));
        Ok(())
    }

    async fn remember(
        &mut self,
        before: &BTreeMap<String, CatalogueEntry>,
        snapshot: &CatalogueSnapshot,
        now_ms: UnixMillis,
    ) -> Result<(), Error> {
        let tenant = self.tenant.clone();
        let gone: Vec<&str> =
            before.keys().filter(|reference| !snapshot.entries.contains_key(*reference)).map(String::as_str).collect();
        select_in(
            &mut self.transaction,
            ("DELETE FROM catalogue_entries WHERE tenant_id = $1 AND reference IN", 1),
            &gone,
            |query| query.bind(tenant.clone()),
            |query, reference| query.bind(reference.to_owned()),
        )
        .await?;
        let changed: Vec<(&String, &CatalogueEntry)> =
            snapshot.entries.iter().filter(|(reference, entry)| before.get(*reference) != Some(entry)).collect();
        let statement = (
            "INSERT INTO catalogue_entries (tenant_id, reference, etag, service_id)",
            4,
            "ON CONFLICT (tenant_id, reference) DO UPDATE SET etag = excluded.etag, service_id = excluded.service_id",
        );
        insert_many(&mut self.transaction, self.dialect, statement, &changed, |query, (reference, entry)| {
            let service = entry.service.as_ref().map(ToString::to_string).unwrap_or_default();
            query.bind(tenant.clone()).bind((*reference).clone()).bind(entry.etag.clone()).bind(service)
        })
        .await?;
        sqlx::query(
            "INSERT INTO catalogue_sweeps (tenant_id, applied_ms, record) VALUES ($1, $2, $3) \
             ON CONFLICT (tenant_id) DO UPDATE SET applied_ms = excluded.applied_ms, record = excluded.record",
        )
        .bind(tenant)
        .bind(now_ms)
        .bind(sweep_record(snapshot).encode_to_vec())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}

fn by_caller(edges: &BTreeMap<DependencyKey, DependencyTerms>) -> BTreeMap<EntityId, Said> {
    let mut by_caller: BTreeMap<EntityId, Said> = BTreeMap::new();
    for (key, terms) in edges {
        by_caller.entry(key.caller().clone()).or_default().push((key.callee().clone(), terms.clone()));
    }
    by_caller
}

/// The outcome, where it is known without a write.
fn nothing_to_do(
    remembered: &Remembered,
    snapshot: &CatalogueSnapshot,
    gone_share_max: f64,
) -> Option<CatalogueOutcome> {
    let understood_alike = remembered.understanding.as_ref() == Some(&snapshot.understanding);
    if understood_alike && remembered.entries == snapshot.entries {
        return Some(CatalogueOutcome::Unchanged);
    }
    let known = remembered.entries.iter().filter(|(_, entry)| !entry.etag.is_empty());
    let (known_count, gone_count) = known.fold((0, 0), |(known, gone), (reference, _)| {
        let there = snapshot.entries.get(reference).is_some_and(|entry| !entry.etag.is_empty());
        (known + 1, gone + usize::from(!there))
    });
    let shrunken = gone_count as f64 > gone_share_max * known_count as f64;
    shrunken.then_some(CatalogueOutcome::Shrunken { gone_count, known_count })
}

async fn remembered(transaction: &mut Transaction<'static, Any>, tenant: &str) -> Result<Remembered, Error> {
    let sweep = sqlx::query("SELECT record FROM catalogue_sweeps WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(sweep) = sweep else { return Ok(Remembered::default()) };
    let understanding = decode_sweep(column(&sweep, "record")?)?.understanding;
    let rows = sqlx::query("SELECT reference, etag, service_id FROM catalogue_entries WHERE tenant_id = $1")
        .bind(tenant.to_owned())
        .fetch_all(&mut **transaction)
        .await?;
    let mut entries = BTreeMap::new();
    for row in &rows {
        let service: String = column(row, "service_id")?;
        let service = if service.is_empty() { None } else { Some(entity_id(&service)?) };
        entries.insert(column(row, "reference")?, CatalogueEntry { etag: column(row, "etag")?, service });
    }
    Ok(Remembered { understanding: Some(understanding), entries })
}

fn sweep_record(snapshot: &CatalogueSnapshot) -> SweepRecord {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    SweepRecord {
        understanding: snapshot.understanding.clone(),
        entity_count: count(snapshot.entries.values().filter(|entry| !entry.etag.is_empty()).count()),
        service_count: count(snapshot.words.len()),
        dependency_count: count(snapshot.edges.len()),
        problems: snapshot.problems.clone(),
    }
}

fn decode_sweep(bytes: &[u8]) -> Result<SweepRecord, Error> {
    SweepRecord::decode(bytes).map_err(|error| Error::Corrupt(error.to_string()))
}
