//! Reading and removing documents.

use std::sync::Arc;

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::about::Visibility;
use crate::domain::document::{DocumentId, Entry, Stored};
use crate::knowledge::Knowledge;
use crate::storage::Selection;

/// A document, and its publisher where that is another tenant.
pub(crate) type Listed = (Entry, Option<TenantId>);

impl Knowledge {
    /// A page of documents that the tenant may read, in the order of their names, and whether there are more: its own, and the public
    /// ones with their publisher that none of its own hides.
    pub(crate) async fn list_readable(
        &self,
        tenant: &TenantId,
        selection: Selection,
    ) -> Result<(Vec<Listed>, bool), Error> {
        let page = selection.limit as usize;
        let (own, more_of_own) = self.list(tenant, selection.clone()).await?;
        let mut listed: Vec<Listed> = own.into_iter().map(|entry| (entry, None)).collect();
        let Some(publisher) = self.publisher_for(tenant) else { return Ok((listed, more_of_own)) };
        let (public, more_of_public) = self.list(publisher, selection).await?;
        let public: Vec<Entry> =
            public.into_iter().filter(|entry| entry.about.visibility == Visibility::Public).collect();
        let hidden = self.store.existing(tenant, &public.iter().map(|entry| &entry.id).collect()).await?;
        let shown = public.into_iter().filter(|entry| !hidden.contains(&entry.id));
        listed.extend(shown.map(|entry| (entry, Some(publisher.clone()))));
        listed.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        let more = more_of_own || more_of_public || listed.len() > page;
        listed.truncate(page);
        Ok((listed, more))
    }

    /// A page of the tenant's own documents, and whether there are more.
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
        Ok(self.readable_of(tenant, id, version).await?.map(|(document, _)| document))
    }

    /// The same with its publisher, where it is not the tenant's own.
    async fn readable_of(
        &self,
        tenant: &TenantId,
        id: &DocumentId,
        version: Option<u32>,
    ) -> Result<Option<(Stored, Option<TenantId>)>, Error> {
        if let Some(own) = self.store.get(tenant, id, version).await? {
            return Ok(Some((own, None)));
        }
        let Some(publisher) = self.publisher_for(tenant) else { return Ok(None) };
        // A document of its own hides the public one in every version.
        if version.is_some() && self.store.get(tenant, id, None).await?.is_some() {
            return Ok(None);
        }
        let public = self.store.get(publisher, id, version).await?;
        Ok(public.map(|public| (public, Some(publisher.clone()))))
    }

    /// One version of a document that the tenant may read, or its newest, with its publisher where it is not the tenant's own.
    pub(crate) async fn get(
        &self,
        tenant: &TenantId,
        id: &DocumentId,
        version: Option<u32>,
    ) -> Result<(Stored, Option<TenantId>), Error> {
        let found = self.readable_of(tenant, id, version).await?;
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
