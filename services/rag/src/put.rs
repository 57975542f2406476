//! Keeping documents: stored, then indexed, then acknowledged.

use std::sync::Arc;

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::document::{Draft, Entry, Stored};
use crate::embedding::Embedder;
use crate::index::Indexable;
use crate::indexing::is_level;
use crate::knowledge::{Knowledge, Serving};

/// Most passages that one call embeds before it answers: about ten seconds on two cores. What is more is searchable by words at
/// once and gets its vectors right after.
const EMBEDDED_PASSAGES_MAX: usize = 200;

impl Knowledge {
    /// Keeps documents and returns them as stored. They can be found as soon as this returns.
    ///
    /// Once begun it runs to its end, whether or not the caller still waits.
    pub(crate) async fn put(self: &Arc<Self>, tenant: TenantId, drafts: Vec<Draft>) -> Result<Vec<Entry>, Error> {
        self.check_level()?;
        let knowledge = Arc::clone(self);
        let result = tokio::spawn(async move { knowledge.put_now(&tenant, &drafts).await }).await?;
        if result.is_err() {
            // What was stored but not indexed is made good without waiting for the caller to try again.
            self.wake();
        }
        result
    }

    async fn put_now(&self, tenant: &TenantId, drafts: &[Draft]) -> Result<Vec<Entry>, Error> {
        log_what_was_taken_out(tenant, drafts);
        let _writing = self.writing.lock().await;
        let stored = self.store.put(tenant, drafts, self.clock.now_ms()).await?;
        let stored: Vec<Arc<Stored>> = stored.into_iter().map(Arc::new).collect();
        let serving = self.serving();
        let mut changed = self.prepare_changed(&serving, tenant, &stored).await?;
        let passages: usize = changed.iter().map(|document| document.prepared.passages.len()).sum();
        let embedder = serving.loaded().cloned();
        let inline = embedder.as_deref().filter(|_| passages <= EMBEDDED_PASSAGES_MAX);
        let is_changed = !changed.is_empty();
        if is_changed {
            self.index_new(&serving, tenant, &mut changed, inline).await?;
        }
        drop(changed);
        // Asked again: a model that was loaded meanwhile has not seen these documents.
        if inline.is_none() && serving.loaded().is_some() {
            if is_changed {
                self.model_is_behind("documents wait for their vectors");
            }
            self.wake();
        }
        Ok(stored.into_iter().map(|document| Entry::from(Arc::unwrap_or_clone(document))).collect())
    }

    /// The documents that are not indexed as they are now.
    async fn prepare_changed(
        &self,
        serving: &Serving,
        tenant: &TenantId,
        stored: &[Arc<Stored>],
    ) -> Result<Vec<Indexable>, Error> {
        let states = serving.index.states_of(tenant, stored.iter().map(|document| &document.id)).await?;
        let is_behind = |document: &&Arc<Stored>| !is_level(document, states.get(&document.id), None);
        self.prepare(stored.iter().filter(is_behind).cloned().collect()).await
    }

    /// A model that fails costs the documents their vectors for now, not their place in the index.
    async fn index_new(
        &self,
        serving: &Serving,
        tenant: &TenantId,
        documents: &mut [Indexable],
        embedder: Option<&Embedder>,
    ) -> Result<(), Error> {
        match self.index_documents(&serving.index, tenant, documents, embedder).await {
            Err(Error::Model(reason)) => {
                tracing::error!(reason, "documents were indexed without vectors");
                self.model_is_absent(serving, &reason);
                self.index_documents(&serving.index, tenant, documents, None).await
            }
            result => result,
        }
    }
}

fn log_what_was_taken_out(tenant: &TenantId, drafts: &[Draft]) {
    for draft in drafts.iter().filter(|draft| draft.hidden_count + draft.redacted_count > 0) {
        tracing::warn!(
            tenant_id = %tenant,
            document_id = %draft.id,
            hidden_count = draft.hidden_count,
            redacted_count = draft.redacted_count,
            "hidden parts or secrets were taken out of a document"
        );
    }
}
