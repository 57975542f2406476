//! Reading and removing documents.

use std::sync::Arc;

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::document::{DocumentId, Entry, Stored};
use crate::knowledge::Knowledge;
use crate::storage::Selection;

impl Knowledge {
    /// A page of documents, and whether there are more.
    pub(crate) async fn list(&self, tenant: &TenantId, mut selection: Selection) -> Result<(Vec<Entry>, bool), Error> {
        let page = selection.limit as usize;
        selection.limit += 1;
        let mut entries = self.store.list(tenant, &selection).await?;
        let more = entries.len() > page;
        entries.truncate(page);
        Ok((entries, more))
    }

    /// One version of a document that the tenant may read, or its newest: its own, or else a public one of that name.
    pub(crate) async fn readable(
        &self,
        tenant: &TenantId,
        id: &DocumentId,
        version: Option<u32>,
    ) -> Result<Option<Stored>, Error> {
        if let Some(own) = self.store.get(tenant, id, version).await? {
            return Ok(Some(own));
        }
        let Some(publisher) = self.publisher_for(tenant) else { return Ok(None) };
        // A document of its own hides the public one in every version.
        if version.is_some() && self.store.get(tenant, id, None).await?.is_some() {
            return Ok(None);
        }
        self.store.get(publisher, id, version).await
    }

    /// One version of a document that the tenant may read, or its newest.
    pub(crate) async fn get(&self, tenant: &TenantId, id: &DocumentId, version: Option<u32>) -> Result<Stored, Error> {
        let found = self.readable(tenant, id, version).await?;
        found.ok_or_else(|| Error::UnknownDocument { document_id: id.to_string(), version })
    }

    /// Removes a document and returns how many passages it had in the index. Removing again what a broken-off removal
    /// left in the index succeeds.
    pub(crate) async fn delete(self: &Arc<Self>, tenant: TenantId, id: DocumentId) -> Result<u64, Error> {
        self.check_level()?;
        let knowledge = Arc::clone(self);
        let task = async move {
            let _writing = knowledge.writing.lock().await;
            let stored = knowledge.store.remove(&tenant, &id).await?;
            let index = &knowledge.serving().index;
            let indexed = !index.states_of(&tenant, std::iter::once(&id)).await?.is_empty();
            if !stored && !indexed {
                return Err(Error::UnknownDocument { document_id: id.to_string(), version: None });
            }
            index.remove(&tenant, &id).await
        };
        let result = tokio::spawn(task).await?;
        if matches!(result, Err(Error::Index(_))) {
            self.wake();
        }
        result
    }
}
