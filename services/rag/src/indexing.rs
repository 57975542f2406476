//! Keeps the index level with the documents: one document at a time while it is written, all of them at the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_vocabulary::TenantId;
use tokio::sync::{Mutex, MutexGuard};

use crate::Error;
use crate::domain::document::{DocumentId, Stored};
use crate::domain::preparation::{self, Prepared};
use crate::embedding::Embedder;
use crate::index::{DocumentVectors, Index, Indexable, State};
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

/// Documents by tenant with what is indexed of each, and places of the index without a document.
type Compared = (BTreeMap<TenantId, Vec<(DocumentId, Option<State>)>>, Vec<Place>);

/// Documents that are reconciled at a time; writers wait meanwhile, at most for their embedding.
pub(crate) const RECONCILED_AT_ONCE: usize = 8;

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
        index: &Index,
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
        index.put(tenant, documents).await
    }

    /// Brings an index level with the documents: indexes what is missing or out of date, or has no vectors of this model
    /// where one is given, and removes what is gone. Without a model, vectors that are there stay.
    pub(crate) async fn reconcile(&self, index: &Index, embedder: Option<&Embedder>) -> Result<Reconciled, Error> {
        self.reconcile_by(index, embedder, Some(&self.writing)).await
    }

    /// The same by a caller that holds the writing lock, so that nothing changes under it.
    pub(crate) async fn reconcile_locked(&self, index: &Index, embedder: &Embedder) -> Result<Reconciled, Error> {
        self.reconcile_by(index, Some(embedder), None).await
    }

    async fn reconcile_by(
        &self,
        index: &Index,
        embedder: Option<&Embedder>,
        lock: Option<&Mutex<()>>,
    ) -> Result<Reconciled, Error> {
        let mut done = Reconciled::default();
        let (by_tenant, gone) = self.compare(index).await?;
        for (tenant, documents) in &by_tenant {
            for part in documents.chunks(RECONCILED_AT_ONCE) {
                let _writing = held(lock).await;
                done.indexed_count += self.reconcile_some(index, tenant, part, embedder).await?;
            }
        }
        for place in gone {
            let _writing = held(lock).await;
            done.removed_count += usize::from(self.remove_if_gone(index, &place.tenant, &place.id).await?);
        }
        Ok(done)
    }

    /// Every document with what is indexed of it, and what is indexed of documents that are gone.
    async fn compare(&self, index: &Index) -> Result<Compared, Error> {
        index.ensure_collections().await?;
        let mut indexed: BTreeMap<Place, State> =
            index.states().await?.into_iter().map(|state| (state.place.clone(), state)).collect();
        let mut by_tenant: BTreeMap<TenantId, Vec<(DocumentId, Option<State>)>> = BTreeMap::new();
        for place in self.store.places().await? {
            let state = indexed.remove(&place);
            by_tenant.entry(place.tenant).or_default().push((place.id, state));
        }
        Ok((by_tenant, indexed.into_keys().collect()))
    }

    /// The same for the documents of one tenant, with the model that is loaded; how many documents there are, too.
    pub(crate) async fn reconcile_tenant(self: &Arc<Self>, tenant: TenantId) -> Result<(usize, Reconciled), Error> {
        self.check_level()?;
        let knowledge = Arc::clone(self);
        let task = async move {
            let serving = knowledge.serving();
            let embedder = serving.loaded().map(Arc::as_ref);
            knowledge.reconcile_of(&serving.index, &tenant, embedder).await
        };
        tokio::spawn(task).await?
    }

    async fn reconcile_of(
        &self,
        index: &Index,
        tenant: &TenantId,
        embedder: Option<&Embedder>,
    ) -> Result<(usize, Reconciled), Error> {
        let of_tenant = |place: &Place| place.tenant == *tenant;
        let states = index.states().await?.into_iter().filter(|state| of_tenant(&state.place));
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
            let _writing = self.writing.lock().await;
            done.indexed_count += self.reconcile_some(index, tenant, part, embedder).await?;
        }
        for id in indexed.into_keys() {
            let _writing = self.writing.lock().await;
            done.removed_count += usize::from(self.remove_if_gone(index, tenant, &id).await?);
        }
        Ok((documents.len(), done))
    }

    async fn reconcile_some(
        &self,
        index: &Index,
        tenant: &TenantId,
        documents: &[(DocumentId, Option<State>)],
        embedder: Option<&Embedder>,
    ) -> Result<usize, Error> {
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
            self.index_documents(index, tenant, &mut behind, embedder).await?;
        }
        Ok(behind.len())
    }

    async fn has_terms(&self, tenant: &TenantId, id: &DocumentId) -> Result<bool, Error> {
        Ok(self.store.recipe(tenant, id).await?.as_deref() == Some(preparation::recipe()))
    }

    async fn remove_if_gone(&self, index: &Index, tenant: &TenantId, id: &DocumentId) -> Result<bool, Error> {
        let gone = self.store.get(tenant, id, None).await?.is_none();
        if gone {
            index.remove(tenant, id).await?;
        }
        Ok(gone)
    }
}

async fn held(lock: Option<&Mutex<()>>) -> Option<MutexGuard<'_, ()>> {
    match lock {
        Some(lock) => Some(lock.lock().await),
        None => None,
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
    let mut vectors = embedder.texts(texts).await?.into_iter();
    let (Some(title), Some(lead)) = (vectors.next(), vectors.next()) else {
        return Err(Error::Model("it gave fewer vectors than texts".to_owned()));
    };
    Ok(DocumentVectors { model: embedder.name().to_owned(), title, lead, passages: vectors.collect() })
}
