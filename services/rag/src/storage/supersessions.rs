//! Which documents others have taken the place of.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::TenantId;
use sqlx::{Any, Transaction};

use super::{Store, delete_of, rows};
use crate::Error;
use crate::domain::document::{DocumentId, Stored};

impl Store {
    /// Every document of a tenant whose place another has taken, with those that took it.
    pub(crate) async fn superseded(
        &self,
        tenant: &TenantId,
    ) -> Result<BTreeMap<DocumentId, BTreeSet<DocumentId>>, Error> {
        let rows = sqlx::query("SELECT superseded_id, by_id FROM document_supersessions WHERE tenant_id = $1")
            .bind(tenant.as_str())
            .fetch_all(self.database.pool())
            .await?;
        let mut superseded: BTreeMap<DocumentId, BTreeSet<DocumentId>> = BTreeMap::new();
        for row in &rows {
            let (document, by) = (rows::document_id(row, "superseded_id")?, rows::document_id(row, "by_id")?);
            superseded.entry(document).or_default().insert(by);
        }
        Ok(superseded)
    }

    /// Which of these documents a tenant has.
    pub(crate) async fn existing(
        &self,
        tenant: &TenantId,
        ids: &BTreeSet<&DocumentId>,
    ) -> Result<BTreeSet<DocumentId>, Error> {
        let mut existing = BTreeSet::new();
        for id in ids {
            let row = sqlx::query("SELECT 1 FROM documents WHERE tenant_id = $1 AND document_id = $2 AND removed = 0")
                .bind(tenant.as_str())
                .bind(id.as_str())
                .fetch_optional(self.database.pool())
                .await?;
            if row.is_some() {
                existing.insert((*id).clone());
            }
        }
        Ok(existing)
    }
}

/// Notes what the newest version of a document says of others.
pub(super) async fn write(
    transaction: &mut Transaction<'static, Any>,
    tenant: &TenantId,
    stored: &Stored,
) -> Result<(), Error> {
    delete_of(transaction, "document_supersessions", tenant, &stored.id).await?;
    for (superseded, by) in stored.about.supersessions(&stored.id) {
        sqlx::query(
            "INSERT INTO document_supersessions (tenant_id, superseded_id, by_id, document_id) VALUES ($1, $2, $3, $4)",
        )
        .bind(tenant.as_str())
        .bind(superseded.as_str())
        .bind(by.as_str())
        .bind(stored.id.as_str())
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
