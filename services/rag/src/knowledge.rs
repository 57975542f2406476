//! What the use cases share: the documents, the index derived from them, the model, and the state that ties them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attain_runtime::clock::Clock;
use attain_vocabulary::TenantId;
use tokio::sync::{Mutex, Notify};

use crate::Error;
use crate::domain::settings::{Calibration, Settings};
use crate::embedding::Embeddings;
use crate::index::Index;
use crate::language_model::LanguageModel;
use crate::ratings::Ratings;
use crate::storage::Store;

/// The service behind its transport.
pub(crate) struct Knowledge {
    pub(crate) store: Store,
    pub(crate) index: Index,
    pub(crate) embeddings: Embeddings,
    pub(crate) settings: Arc<Settings>,
    pub(crate) calibration: Calibration,
    /// A language model that may reword sentences.
    pub(crate) language_model: Option<LanguageModel>,
    pub(crate) clock: Clock,
    /// The tenant whose documents everybody reads.
    pub(crate) public_tenant: Option<TenantId>,
    /// What was said of citations, as it was read last.
    pub(crate) ratings: Ratings,
    /// Held while a document is written and indexed, so that the index never goes back to an older version.
    pub(crate) writing: Mutex<()>,
    /// Whether the index has been brought level with the documents since the start.
    level: AtomicBool,
    /// Wakes the reconciliation.
    wake: Notify,
}

impl Knowledge {
    /// Puts the parts together; the index counts as behind until it was reconciled.
    pub(crate) fn new(store: Store, index: Index, embeddings: Embeddings, clock: Clock) -> Result<Self, Error> {
        Ok(Self {
            store,
            index,
            embeddings,
            settings: Arc::new(Settings::shipped().map_err(Error::Settings)?),
            calibration: Calibration::shipped().map_err(Error::Settings)?,
            language_model: None,
            clock,
            public_tenant: None,
            ratings: Ratings::default(),
            writing: Mutex::new(()),
            level: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// The same with a language model.
    pub(crate) fn with_language_model(self, language_model: Option<LanguageModel>) -> Self {
        Self { language_model, ..self }
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
