//! What the use cases share: the documents, the index derived from them, the model, and the state that ties them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use attain_runtime::clock::Clock;
use attain_runtime::readiness::Condition;
use attain_vocabulary::TenantId;
use tokio::sync::{Mutex, Notify};

use crate::Error;
use crate::domain::settings::{Calibration, Settings};
use crate::embedding::Embedder;
use crate::index::Index;
use crate::language_model::LanguageModel;
use crate::ratings::Ratings;
use crate::reranking::Reranker;
use crate::storage::{Generation, Store};

/// The service behind its transport.
pub(crate) struct Knowledge {
    pub(crate) store: Store,
    pub(crate) settings: Arc<Settings>,
    pub(crate) calibration: Calibration,
    /// A language model that may reword sentences.
    pub(crate) language_model: Option<LanguageModel>,
    pub(crate) clock: Clock,
    /// The tenant whose documents everybody reads.
    pub(crate) public_tenant: Option<TenantId>,
    /// What was said of citations, as it was read last.
    pub(crate) ratings: Ratings,
    /// Held while a document is written and indexed, and while the index that answers is swapped, so that no index ever goes
    /// back to an older version.
    pub(crate) writing: Mutex<()>,
    /// Where one is configured.
    pub(crate) reranker: OnceLock<Reranker>,
    serving: RwLock<Arc<Serving>>,
    /// Whether questions can be embedded, for people and probes.
    model: Condition,
    /// Whether the index has been brought level with the documents since the start.
    level: AtomicBool,
    /// Wakes the reconciliation.
    wake: Notify,
}

/// What answers at a moment: a generation of the index, with the model that its vectors are of. Whoever works with it keeps hold of
/// it, so that question and vectors are always of one model.
pub(crate) struct Serving {
    pub(crate) index: Index,
    pub(crate) generation: Generation,
    embedder: OnceLock<Arc<Embedder>>,
    /// Whether every document has vectors, so that questions may be asked of them.
    usable: AtomicBool,
}

impl Serving {
    /// A generation without a model yet.
    pub(crate) fn new(index: Index, generation: Generation) -> Self {
        Self { index, generation, embedder: OnceLock::new(), usable: AtomicBool::new(false) }
    }

    /// A generation that holds the vectors of this model for every document.
    pub(crate) fn filled(index: Index, generation: Generation, embedder: Arc<Embedder>) -> Self {
        Self { index, generation, embedder: OnceLock::from(embedder), usable: AtomicBool::new(true) }
    }

    /// The model, once it is loaded; documents are embedded from then on.
    pub(crate) fn loaded(&self) -> Option<&Arc<Embedder>> {
        self.embedder.get()
    }

    /// The model, once it is loaded and every document has vectors.
    pub(crate) fn usable(&self) -> Option<&Arc<Embedder>> {
        self.loaded().filter(|_| self.usable.load(Ordering::Acquire))
    }

    /// Every document has vectors.
    pub(crate) fn set_usable(&self) {
        self.usable.store(true, Ordering::Release);
    }

    /// The model of this generation is loaded. A second load would be of the same files: the first stays.
    pub(crate) fn set_loaded(&self, embedder: Arc<Embedder>) {
        let _ = self.embedder.set(embedder);
    }
}

impl Knowledge {
    /// Puts the parts together; the index counts as behind until it was reconciled.
    pub(crate) fn new(store: Store, serving: Serving, model: Condition, clock: Clock) -> Result<Self, Error> {
        Ok(Self {
            store,
            settings: Arc::new(Settings::shipped().map_err(Error::Settings)?),
            calibration: Calibration::shipped().map_err(Error::Settings)?,
            language_model: None,
            clock,
            public_tenant: None,
            ratings: Ratings::default(),
            writing: Mutex::new(()),
            reranker: OnceLock::new(),
            serving: RwLock::new(Arc::new(serving)),
            model,
            level: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// The same with a language model.
    pub(crate) fn with_language_model(self, language_model: Option<LanguageModel>) -> Self {
        Self { language_model, ..self }
    }

    /// The same with other settings.
    pub(crate) fn with_settings(self, settings: Settings) -> Self {
        Self { settings: Arc::new(settings), ..self }
    }

    /// What answers now.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        Arc::clone(&self.serving.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this answers; returns what did. The caller holds the writing lock.
    pub(crate) fn swap_serving(&self, serving: Serving) -> Arc<Serving> {
        let mut current = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut current, Arc::new(serving))
    }

    /// Every document has vectors of the model.
    pub(crate) fn model_is_usable(&self, serving: &Serving) {
        if let Some(embedder) = serving.loaded() {
            serving.set_usable();
            self.model.met(embedder.name().to_owned());
        }
    }

    /// Documents wait for their vectors; questions are still answered by what is there.
    pub(crate) fn model_is_behind(&self, what: &str) {
        self.model.unmet(format!("loaded; {what}"));
    }

    /// There is no model, or it no longer answers: search is by words only.
    pub(crate) fn model_is_absent(&self, serving: &Serving, reason: &str) {
        serving.usable.store(false, Ordering::Release);
        self.model.unmet(format!("search is by words only: {reason}"));
    }

    /// The same with a tenant whose documents everybody reads.
    pub(crate) fn with_public_tenant(self, public_tenant: Option<TenantId>) -> Self {
        Self { public_tenant, ..self }
    }

    /// The tenant, other than this one, whose documents it reads as well.
    pub(crate) fn publisher_for(&self, tenant: &TenantId) -> Option<&TenantId> {
        self.public_tenant.as_ref().filter(|public| *public != tenant)
    }

    /// Refuses work that needs the whole index before it is there.
    pub(crate) fn check_level(&self) -> Result<(), Error> {
        if self.level.load(Ordering::Acquire) { Ok(()) } else { Err(Error::NotReady) }
    }

    /// The index is level with the documents.
    pub(crate) fn set_level(&self) {
        self.level.store(true, Ordering::Release);
    }

    /// Has the index reconciled soon: something was left for later, or the index failed.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits until somebody asks for a reconciliation.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }
}
