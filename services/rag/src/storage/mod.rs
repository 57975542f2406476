//! The documents: the truth from which the index is derived. One set of statements for SQLite and PostgreSQL.

mod generations;
mod ratings;
mod rows;
mod supersessions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use attain_runtime::database::{Database, Dialect, Migrations, values_placeholders};
use attain_vocabulary::{EntityId, TenantId, UnixMillis};
use sqlx::{Any, AssertSqlSafe, Row as _, Transaction};

use crate::Error;
use crate::domain::document::{DocumentId, Draft, Entry, Kind, Stored};
use crate::domain::terms::{Frequencies, TermId};

pub(crate) use generations::Generation;

/// Rows of one insert.
const ROWS_PER_STATEMENT: usize = 500;

const COLUMNS: &str = "v.document_id, v.version, v.kind, v.title, v.text_sha256, v.service_ids, v.update_ms, v.owner, v.licence, \
    v.reviewed_ms, v.review_due_ms, v.supersedes, v.superseded_by, v.visibility, v.source_uri, v.source_revision, v.findings, \
    v.hidden_count, v.redacted_count, v.objectives";

/// The document store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

/// Which documents a list holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Selection {
    /// Only those about this service.
    pub(crate) service: Option<EntityId>,
    /// Only this kind.
    pub(crate) kind: Option<Kind>,
    /// Only those whose names begin so.
    pub(crate) prefix: String,
    /// Only those after this name.
    pub(crate) after: Option<DocumentId>,
    /// At most this many.
    pub(crate) limit: u32,
}

/// A document as the reconciliation of the index sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) tenant: TenantId,
    pub(crate) id: DocumentId,
}

/// The migrations of the store.
pub(crate) fn migrations() -> Migrations {
    Migrations { sqlite: sqlx::migrate!("./migrations/sqlite"), postgres: sqlx::migrate!("./migrations/postgres") }
}

impl Store {
    /// Opens the store and brings its schema up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, Error> {
        Ok(Self { database: Database::open("rag", url, &migrations()).await? })
    }

    /// What the store runs on, for people.
    pub(crate) fn describe(&self) -> &'static str {
        match self.database.dialect() {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        }
    }

    /// Keeps documents in one transaction and returns them as stored. A text that did not change keeps its version, and
    /// its update time where nothing else changed either.
    pub(crate) async fn put(
        &self,
        tenant: &TenantId,
        drafts: &[Draft],
        now_ms: UnixMillis,
    ) -> Result<Vec<Stored>, Error> {
        let mut transaction = self.begin(tenant).await?;
        let mut stored = Vec::with_capacity(drafts.len());
        for draft in drafts {
            stored.push(put_one(&mut transaction, tenant, draft, now_ms).await?);
        }
        transaction.commit().await?;
        Ok(stored)
    }

    /// Notes which terms the newest versions of documents hold, under the recipe that found them. A version that is no longer
    /// the newest is passed over.
    pub(crate) async fn set_terms(
        &self,
        tenant: &TenantId,
        documents: &[(&DocumentId, u32, &BTreeSet<TermId>)],
        recipe: &str,
    ) -> Result<(), Error> {
        let mut transaction = self.begin(tenant).await?;
        for (id, version, terms) in documents {
            let current = sqlx::query(
                "UPDATE documents SET recipe = $1 \
                 WHERE tenant_id = $2 AND document_id = $3 AND version = $4 AND removed = 0",
            );
            let current = current.bind(recipe).bind(tenant.as_str()).bind(id.as_str()).bind(i64::from(*version));
            if current.execute(&mut *transaction).await?.rows_affected() == 1 {
                delete_of(&mut transaction, "document_terms", tenant, id).await?;
                insert_terms(&mut transaction, tenant, id, terms).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The recipe under which the terms of the newest version were found; empty before.
    pub(crate) async fn recipe(&self, tenant: &TenantId, id: &DocumentId) -> Result<Option<String>, Error> {
        let row = sqlx::query("SELECT recipe FROM documents WHERE tenant_id = $1 AND document_id = $2 AND removed = 0")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(self.database.pool())
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }

    /// Removes a document with all its versions; false when there is none.
    pub(crate) async fn remove(&self, tenant: &TenantId, id: &DocumentId) -> Result<bool, Error> {
        let mut transaction = self.begin(tenant).await?;
        let removed = sqlx::query(
            "UPDATE documents SET removed = 1, recipe = '' WHERE tenant_id = $1 AND document_id = $2 AND removed = 0",
        )
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await?;
        for table in ["document_versions", "document_services", "document_terms", "document_supersessions"] {
            delete_of(&mut transaction, table, tenant, id).await?;
        }
        transaction.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// One version of a document, or its newest.
    pub(crate) async fn get(
        &self,
        tenant: &TenantId,
        id: &DocumentId,
        version: Option<u32>,
    ) -> Result<Option<Stored>, Error> {
        let sql = format!(
            "SELECT {COLUMNS}, v.text FROM documents d JOIN document_versions v \
             ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id \
             WHERE d.tenant_id = $1 AND d.document_id = $2 AND d.removed = 0 \
             AND v.version = CASE WHEN $3 = 0 THEN d.version ELSE $4 END"
        );
        let version = i64::from(version.unwrap_or(0));
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(id.as_str())
            .bind(version)
            .bind(version)
            .fetch_optional(self.database.pool())
            .await?;
        row.as_ref().map(rows::stored).transpose()
    }

    /// These versions of documents, by document; those that are not there are left out.
    pub(crate) async fn versions(
        &self,
        tenant: &TenantId,
        wanted: &BTreeMap<&DocumentId, u32>,
    ) -> Result<BTreeMap<DocumentId, Stored>, Error> {
        let mut found = BTreeMap::new();
        let versions: BTreeSet<u32> = wanted.values().copied().collect();
        if wanted.is_empty() {
            return Ok(found);
        }
        let sql = format!(
            "SELECT {COLUMNS}, v.text FROM documents d JOIN document_versions v \
             ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id \
             WHERE d.tenant_id = $1 AND d.removed = 0 AND d.document_id IN ({}) AND v.version IN ({})",
            placeholders(2, wanted.len()),
            placeholders(2 + wanted.len(), versions.len())
        );
        let mut select = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
        for id in wanted.keys() {
            select = select.bind(id.as_str());
        }
        for version in &versions {
            select = select.bind(i64::from(*version));
        }
        for row in select.fetch_all(self.database.pool()).await? {
            let stored = rows::stored(&row)?;
            if wanted.get(&stored.id) == Some(&stored.version) {
                found.insert(stored.id.clone(), stored);
            }
        }
        Ok(found)
    }

    /// Documents in the order of their names.
    pub(crate) async fn list(&self, tenant: &TenantId, selection: &Selection) -> Result<Vec<Entry>, Error> {
        let about = if selection.service.is_some() {
            "JOIN document_services s ON s.tenant_id = d.tenant_id AND s.document_id = d.document_id AND s.service_id = $3"
        } else {
            // A parameter that is not used has no type on PostgreSQL.
            "AND CAST($3 AS TEXT) IS NULL"
        };
        let kind = if selection.kind.is_some() { "v.kind = $4" } else { "CAST($4 AS TEXT) IS NULL" };
        let sql = format!(
            "SELECT {COLUMNS} FROM documents d JOIN document_versions v \
             ON v.tenant_id = d.tenant_id AND v.document_id = d.document_id AND v.version = d.version {about} \
             WHERE d.tenant_id = $1 AND d.removed = 0 AND d.document_id > $2 AND {kind} \
             AND d.document_id >= $5 AND d.document_id < $6 ORDER BY d.document_id LIMIT $7"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(selection.after.as_ref().map_or("", |id| id.as_str()))
            .bind(selection.service.as_ref().map(|id| id.as_str().to_owned()))
            .bind(selection.kind.map(|kind| kind.as_str().to_owned()))
            .bind(selection.prefix.as_str())
            // Names are ASCII: this is after all that begin with the prefix.
            .bind(format!("{}\u{7f}", selection.prefix))
            .bind(i64::from(selection.limit))
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(rows::entry).collect()
    }

    /// Every document of every tenant.
    pub(crate) async fn places(&self) -> Result<BTreeSet<Place>, Error> {
        let rows = sqlx::query("SELECT tenant_id, document_id FROM documents WHERE removed = 0")
            .fetch_all(self.database.pool())
            .await?;
        rows.iter().map(rows::place).collect()
    }

    /// How many documents a tenant has and how many hold each of these terms.
    pub(crate) async fn frequencies(&self, tenant: &TenantId, terms: &BTreeSet<TermId>) -> Result<Frequencies, Error> {
        let count = sqlx::query("SELECT COUNT(*) FROM documents WHERE tenant_id = $1 AND removed = 0")
            .bind(tenant.as_str())
            .fetch_one(self.database.pool())
            .await?;
        let mut frequencies = Frequencies { document_count: rows::count(&count, 0)?, by_term: BTreeMap::new() };
        let terms: Vec<TermId> = terms.iter().copied().collect();
        for part in terms.chunks(ROWS_PER_STATEMENT) {
            let sql = format!(
                "SELECT term, COUNT(*) FROM document_terms WHERE tenant_id = $1 AND term IN ({}) GROUP BY term",
                placeholders(2, part.len())
            );
            let mut select = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
            for term in part {
                select = select.bind(i64::from(*term));
            }
            for row in select.fetch_all(self.database.pool()).await? {
                frequencies.by_term.insert(rows::term(&row, 0)?, rows::count(&row, 1)?);
            }
        }
        Ok(frequencies)
    }

    /// Which of these terms each of these documents holds, in the order of the documents.
    pub(crate) async fn held_terms(
        &self,
        tenant: &TenantId,
        ids: &[DocumentId],
        terms: &BTreeSet<TermId>,
    ) -> Result<Vec<BTreeSet<TermId>>, Error> {
        let mut held: BTreeMap<String, BTreeSet<TermId>> = BTreeMap::new();
        let terms: Vec<TermId> = terms.iter().copied().collect();
        for part in terms.chunks(ROWS_PER_STATEMENT).filter(|_| !ids.is_empty()) {
            let sql = format!(
                "SELECT document_id, term FROM document_terms WHERE tenant_id = $1 AND document_id IN ({}) AND term IN ({})",
                placeholders(2, ids.len()),
                placeholders(2 + ids.len(), part.len())
            );
            let mut select = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
            for id in ids {
                select = select.bind(id.as_str());
            }
            for term in part {
                select = select.bind(i64::from(*term));
            }
            for row in select.fetch_all(self.database.pool()).await? {
                held.entry(row.try_get(0)?).or_default().insert(rows::term(&row, 1)?);
            }
        }
        Ok(ids.iter().map(|id| held.remove(id.as_str()).unwrap_or_default()).collect())
    }

    async fn begin(&self, tenant: &TenantId) -> Result<Transaction<'static, Any>, Error> {
        let mut transaction = self.database.begin_write().await?;
        if self.database.dialect() == Dialect::Postgres {
            // Writers of one tenant queue up, as they do on SQLite: a version number is read before it is written.
            sqlx::query("SELECT CAST(pg_advisory_xact_lock(hashtextextended($1, 7104)) AS TEXT)")
                .bind(tenant.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction)
    }
}

async fn put_one(
    transaction: &mut Transaction<'static, Any>,
    tenant: &TenantId,
    draft: &Draft,
    now_ms: UnixMillis,
) -> Result<Stored, Error> {
    let text_sha256 = draft.text_sha256();
    let stored = |version, update_ms| Stored {
        id: draft.id.clone(),
        kind: draft.kind,
        title: draft.title.clone(),
        text: draft.text.clone(),
        service_ids: draft.service_ids.clone(),
        version,
        text_sha256: text_sha256.clone(),
        update_ms,
        about: draft.about.clone(),
    };
    let stored = match newest(transaction, tenant, &draft.id).await? {
        Newest::Never => stored(1, now_ms),
        Newest::Removed(version) => stored(version + 1, now_ms),
        Newest::Kept(entry) if entry.text_sha256 != text_sha256 => stored(entry.version + 1, now_ms),
        Newest::Kept(entry) => {
            let same = (entry.kind, &entry.title, &entry.service_ids, &entry.about)
                == (draft.kind, &draft.title, &draft.service_ids, &draft.about);
            if same {
                return Ok(stored(entry.version, entry.update_ms));
            }
            stored(entry.version, now_ms)
        }
    };
    write(transaction, tenant, &stored).await?;
    Ok(stored)
}

enum Newest {
    Never,
    Removed(u32),
    Kept(Box<Entry>),
}

async fn newest(
    transaction: &mut Transaction<'static, Any>,
    tenant: &TenantId,
    id: &DocumentId,
) -> Result<Newest, Error> {
    let head = sqlx::query("SELECT version, removed FROM documents WHERE tenant_id = $1 AND document_id = $2")
        .bind(tenant.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut **transaction)
        .await?;
    let Some(head) = head else { return Ok(Newest::Never) };
    let (version, removed): (u32, i64) = (rows::version(&head, 0)?, head.try_get(1)?);
    if removed != 0 {
        return Ok(Newest::Removed(version));
    }
    let sql =
        format!("SELECT {COLUMNS} FROM document_versions v WHERE tenant_id = $1 AND document_id = $2 AND version = $3");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(tenant.as_str())
        .bind(id.as_str())
        .bind(i64::from(version))
        .fetch_one(&mut **transaction)
        .await?;
    Ok(Newest::Kept(Box::new(rows::entry(&row)?)))
}

async fn write(transaction: &mut Transaction<'static, Any>, tenant: &TenantId, stored: &Stored) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO documents (tenant_id, document_id, version, removed, recipe) VALUES ($1, $2, $3, 0, '') \
         ON CONFLICT (tenant_id, document_id) DO UPDATE SET version = excluded.version, removed = 0, recipe = ''",
    )
    .bind(tenant.as_str())
    .bind(stored.id.as_str())
    .bind(i64::from(stored.version))
    .execute(&mut **transaction)
    .await?;
    let about = &stored.about;
    sqlx::query(
        "INSERT INTO document_versions \
         (tenant_id, document_id, version, kind, title, text, text_sha256, service_ids, update_ms, owner, licence, reviewed_ms, \
         review_due_ms, supersedes, superseded_by, visibility, source_uri, source_revision, findings, hidden_count, \
         redacted_count, objectives) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) \
         ON CONFLICT (tenant_id, document_id, version) DO UPDATE SET \
         kind = excluded.kind, title = excluded.title, service_ids = excluded.service_ids, update_ms = excluded.update_ms, \
         owner = excluded.owner, licence = excluded.licence, reviewed_ms = excluded.reviewed_ms, \
         review_due_ms = excluded.review_due_ms, supersedes = excluded.supersedes, superseded_by = excluded.superseded_by, \
         visibility = excluded.visibility, source_uri = excluded.source_uri, source_revision = excluded.source_revision, \
         findings = excluded.findings, hidden_count = excluded.hidden_count, redacted_count = excluded.redacted_count, \
         objectives = excluded.objectives",
    )
    .bind(tenant.as_str())
    .bind(stored.id.as_str())
    .bind(i64::from(stored.version))
    .bind(stored.kind.as_str())
    .bind(stored.title.as_str())
    .bind(stored.text.as_str())
    .bind(stored.text_sha256.as_str())
    .bind(rows::encode_services(&stored.service_ids))
    .bind(stored.update_ms)
    .bind(about.owner.as_str())
    .bind(about.licence.as_str())
    .bind(about.reviewed_ms)
    .bind(about.review_due_ms)
    .bind(rows::encode_ids(&about.supersedes))
    .bind(about.superseded_by.as_ref().map_or("", |by| by.as_str()))
    .bind(about.visibility.as_str())
    .bind(about.source.uri.as_str())
    .bind(about.source.revision.as_str())
    .bind(rows::encode_findings(&about.findings))
    .bind(i64::from(about.hidden_count))
    .bind(i64::from(about.redacted_count))
    .bind(about.objectives.join("\n"))
    .execute(&mut **transaction)
    .await?;
    supersessions::write(transaction, tenant, stored).await?;
    delete_of(transaction, "document_services", tenant, &stored.id).await?;
    for service in &stored.service_ids {
        sqlx::query("INSERT INTO document_services (tenant_id, service_id, document_id) VALUES ($1, $2, $3)")
            .bind(tenant.as_str())
            .bind(service.as_str())
            .bind(stored.id.as_str())
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn insert_terms(
    transaction: &mut Transaction<'static, Any>,
    tenant: &TenantId,
    id: &DocumentId,
    terms: &BTreeSet<TermId>,
) -> Result<(), Error> {
    let terms: Vec<TermId> = terms.iter().copied().collect();
    for rows in terms.chunks(ROWS_PER_STATEMENT) {
        let values = values_placeholders(rows.len(), 3);
        let sql = format!("INSERT INTO document_terms (tenant_id, term, document_id) VALUES {values}");
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for term in rows {
            insert = insert.bind(tenant.as_str()).bind(i64::from(*term)).bind(id.as_str());
        }
        insert.execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn delete_of(
    transaction: &mut Transaction<'static, Any>,
    table: &'static str,
    tenant: &TenantId,
    id: &DocumentId,
) -> Result<(), Error> {
    sqlx::query(AssertSqlSafe(format!("DELETE FROM {table} WHERE tenant_id = $1 AND document_id = $2")))
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// `$2, $3, …`
fn placeholders(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}
