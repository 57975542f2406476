//! Keeps the index level with the documents: one document at a time while it is written, all of them at the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_vocabulary::TenantId;

use crate::Error;
use crate::domain::document::{DocumentId, Stored};
use crate::domain::preparation::{self, Prepared};
use crate::embedding::Embedder;
use crate::index::{DocumentVectors, Indexable, State};
use crate::knowledge::Knowledge;
use crate::storage::Place;

/// What a reconciliation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reconciled {
    /// Documents indexed because they were missing, out of date or without vectors.
    pub(crate) indexed_count: usize,
    /// Documents taken out of the index because they are gone.
    pub(crate) removed_count: usize,
}

/// Documents that are reconciled at a time; writers wait meanwhile, at most for their embedding.
const RECONCILED_AT_ONCE: usize = 8;

impl Knowledge {
    /// Reads documents for the index; away from the threads that serve, for long texts take a while.
    pub(crate) async fn prepare(&self, documents: Vec<Arc<Stored>>) -> Result<Vec<Indexable>, Error> {
        let settings = Arc::clone(&self.settings);
        let prepare = move |stored: Arc<Stored>| {
            let prepared = preparation::prepare(&stored, &settings);
            Indexable { stored, prepared, vectors: None }
        };
        Ok(tokio::task::spawn_blocking(move || documents.into_iter().map(prepare).collect()).await?)
    }

    /// Indexes documents that are stored. The caller holds the writing lock.
    pub(crate) async fn index_documents(
        &self,
        tenant: &TenantId,
        documents: &mut [Indexable],
        embedder: Option<&Embedder>,
    ) -> Result<(), Error> {
        let recipe = preparation::recipe();
        let mut terms = Vec::new();
        for Indexable { stored, prepared, .. } in documents.iter() {
            if self.store.recipe(tenant, &stored.id).await?.as_deref() != Some(recipe) {
                terms.push((&stored.id, stored.version, &prepared.terms));
            }
        }
        if !terms.is_empty() {
            self.store.set_terms(tenant, &terms, recipe).await?;
        }
        if let Some(embedder) = embedder {
            for document in documents.iter_mut() {
                document.vectors = Some(embed(embedder, &document.prepared).await?);
            }
        }
        self.index.put(tenant, documents).await
    }

    /// Brings the index level with the documents: indexes what is missing or out of date, or has no vectors of this model
    /// where one is given, and removes what is gone. Without a model, vectors that are there stay.
    pub(crate) async fn reconcile(&self, embedder: Option<&Embedder>) -> Result<Reconciled, Error> {
        self.index.ensure_collections().await?;
        let mut indexed: BTreeMap<Place, State> =
            self.index.states().await?.into_iter().map(|state| (state.place.clone(), state)).collect();
        let mut by_tenant: BTreeMap<TenantId, Vec<(DocumentId, Option<State>)>> = BTreeMap::new();
        for place in self.store.places().await? {
            let state = indexed.remove(&place);
            by_tenant.entry(place.tenant).or_default().push((place.id, state));
        }
        let mut done = Reconciled::default();
        for (tenant, documents) in &by_tenant {
            for part in documents.chunks(RECONCILED_AT_ONCE) {
                done.indexed_count += self.reconcile_some(tenant, part, embedder).await?;
            }
        }
        for place in indexed.into_keys() {
            done.removed_count += usize::from(self.remove_if_gone(&place.tenant, &place.id).await?);
        }
        Ok(done)
    }

    /// The same for the documents of one tenant, with the model that is loaded; how many documents there are, too.
    pub(crate) async fn reconcile_tenant(self: &Arc<Self>, tenant: TenantId) -> Result<(usize, Reconciled), Error> {
        self.check_level()?;
        let knowledge = Arc::clone(self);
        let task = async move {
            let embedder = knowledge.embeddings.loaded();
            knowledge.reconcile_of(&tenant, embedder.as_deref()).await
        };
        tokio::spawn(task).await?
    }

    async fn reconcile_of(&self, tenant: &TenantId, embedder: Option<&Embedder>) -> Result<(usize, Reconciled), Error> {
        let of_tenant = |place: &Place| place.tenant == *tenant;
        let states = self.index.states().await?.into_iter().filter(|state| of_tenant(&state.place));
        let mut indexed: BTreeMap<DocumentId, State> = states.map(|state| (state.place.id.clone(), state)).collect();
        let places = self.store.places().await?.into_iter().filter(of_tenant);
        let documents: Vec<(DocumentId, Option<State>)> = places
            .map(|place| {
                let state = indexed.remove(&place.id);
                (place.id, state)
            })
            .collect();
        let mut done = Reconciled::default();
        for part in documents.chunks(RECONCILED_AT_ONCE) {
            done.indexed_count += self.reconcile_some(tenant, part, embedder).await?;
        }
        for id in indexed.into_keys() {
            done.removed_count += usize::from(self.remove_if_gone(tenant, &id).await?);
        }
        Ok((documents.len(), done))
    }

    async fn reconcile_some(
        &self,
        tenant: &TenantId,
        documents: &[(DocumentId, Option<State>)],
        embedder: Option<&Embedder>,
    ) -> Result<usize, Error> {
        let _writing = self.writing.lock().await;
        let mut behind = Vec::new();
        for (id, state) in documents {
            // Read again under the lock: it may have changed since the list was made.
            let Some(document) = self.store.get(tenant, id, None).await? else { continue };
            if !is_level(&document, state.as_ref(), embedder) || !self.has_terms(tenant, id).await? {
                behind.push(Arc::new(document));
            }
        }
        let mut behind = self.prepare(behind).await?;
        if !behind.is_empty() {
            self.index_documents(tenant, &mut behind, embedder).await?;
        }
        Ok(behind.len())
    }

    async fn has_terms(&self, tenant: &TenantId, id: &DocumentId) -> Result<bool, Error> {
        Ok(self.store.recipe(tenant, id).await?.as_deref() == Some(preparation::recipe()))
    }

    async fn remove_if_gone(&self, tenant: &TenantId, id: &DocumentId) -> Result<bool, Error> {
        let _writing = self.writing.lock().await;
        let gone = self.store.get(tenant, id, None).await?.is_none();
        if gone {
            self.index.remove(tenant, id).await?;
        }
        Ok(gone)
    }
}

/// Whether what is indexed is this content and, where there is a model, has its vectors.
pub(crate) fn is_level(document: &Stored, state: Option<&State>, embedder: Option<&Embedder>) -> bool {
    state.is_some_and(|state| {
        state.key == preparation::key(document) && embedder.is_none_or(|embedder| state.model == embedder.name())
    })
}

async fn embed(embedder: &Embedder, prepared: &Prepared) -> Result<DocumentVectors, Error> {
    let mut texts = vec![prepared.title_sentence.clone(), prepared.lead_sentence.clone()];
    texts.extend(prepared.passages.iter().map(|passage| passage.sentence.clone()));
    let mut vectors = embedder.texts(&texts).await?.into_iter();
    let (Some(title), Some(lead)) = (vectors.next(), vectors.next()) else {
        return Err(Error::Model("it gave fewer vectors than texts".to_owned()));
    };
    Ok(DocumentVectors { model: embedder.name().to_owned(), title, lead, passages: vectors.collect() })
}
