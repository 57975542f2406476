//! The embedding model: where its files are, how it is run, and whether it can be used right now.

mod engine;
mod files;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use attain_runtime::readiness::Condition;

pub(crate) use engine::{EmbeddedQuestion, Embedder};
pub(crate) use files::{GRAPH_SHA256, WEIGHTS_SHA256, locate};

/// Whether questions and documents can be embedded.
#[derive(Debug)]
pub(crate) struct Embeddings {
    embedder: OnceLock<Arc<Embedder>>,
    /// Whether every document has vectors, so that questions may be asked of them.
    usable: AtomicBool,
    condition: Condition,
}

impl Embeddings {
    /// No model yet.
    pub(crate) fn new(condition: Condition) -> Self {
        Self { embedder: OnceLock::new(), usable: AtomicBool::new(false), condition }
    }

    /// The model, once it is loaded; documents are embedded from then on.
    pub(crate) fn loaded(&self) -> Option<Arc<Embedder>> {
        self.embedder.get().cloned()
    }

    /// The model, once it is loaded and every document has vectors.
    pub(crate) fn usable(&self) -> Option<Arc<Embedder>> {
        self.loaded().filter(|_| self.usable.load(Ordering::Acquire))
    }

    /// The model is loaded.
    pub(crate) fn set_loaded(&self, embedder: Embedder) {
        self.condition.unmet("loaded; documents are being embedded");
        // A second load would be of the same files: the first stays.
        let _ = self.embedder.set(Arc::new(embedder));
    }

    /// Every document has vectors.
    pub(crate) fn set_usable(&self, embedder: &Embedder) {
        self.usable.store(true, Ordering::Release);
        self.condition.met(embedder.name().to_owned());
    }

    /// There is no model, or it no longer answers: search is by words only.
    pub(crate) fn set_absent(&self, reason: &str) {
        self.usable.store(false, Ordering::Release);
        self.condition.unmet(format!("search is by words only: {reason}"));
    }
}
