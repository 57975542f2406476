//! Another model without a gap: its vectors go into collections of their own while the old ones answer; then the two are swapped.
//!
//! The record in SQL (`storage::generations`) is written before collections are made and after they are gone. A process that
//! breaks off finds there which collections answer; what was being filled goes on or goes, and what is left over is dropped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::embedding::Embedder;
use crate::indexing::RECONCILED_AT_ONCE;
use crate::knowledge::{Knowledge, Serving};

/// Longest that questions under way may keep the old collections; no call takes longer.
const OLD_KEPT_MAX: Duration = Duration::from_secs(30);
const OLD_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A loaded model that the index that answers has no vectors of.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) embedder: Arc<Embedder>,
    pub(crate) folder: PathBuf,
}

impl Knowledge {
    /// Takes a loaded model: into the index that answers where that has its vectors or none; otherwise it is returned, to be
    /// changed to.
    pub(crate) async fn take_model(&self, embedder: Arc<Embedder>, folder: PathBuf) -> Result<Option<Change>, Error> {
        let serving = self.serving();
        let generation = &serving.generation;
        let is_same = generation.model == embedder.name();
        let has_none = generation.model.is_empty() && generation.dimensions as usize == embedder.dimensions();
        if !is_same && !has_none {
            return Ok(Some(Change { embedder, folder }));
        }
        self.store.give_up_filling().await?;
        self.store.bind_generation(generation.sequence, embedder.name(), &folder.to_string_lossy()).await?;
        serving.set_loaded(embedder);
        Ok(None)
    }

    /// Fills collections with vectors of another model while the old ones answer, lets the new ones answer, and drops the old.
    /// After a failure it can be called again and goes on where it was.
    pub(crate) async fn change_model(&self, change: &Change) -> Result<(), Error> {
        let (embedder, folder) = (&change.embedder, change.folder.to_string_lossy());
        let dimensions = u32::try_from(embedder.dimensions()).unwrap_or(u32::MAX);
        let filling = self.store.begin_filling(embedder.name(), &folder, dimensions).await?;
        let index = self.serving().index.sibling(&filling);
        // Writers go on meanwhile; what they left for the last pass, they wait for.
        while self.reconcile(&index, Some(embedder)).await?.indexed_count > RECONCILED_AT_ONCE {}
        let old = {
            let _writing = self.writing.lock().await;
            self.reconcile_locked(&index, embedder).await?;
            self.store.swap_generations(&filling).await?;
            self.swap_serving(Serving::filled(index, filling, Arc::clone(embedder)))
        };
        self.model_is_usable(&self.serving());
        tracing::info!(model = embedder.name(), from = old.generation.model, "another embedding model answers");
        until_unused(old).await;
        self.drop_retired().await
    }

    /// Drops the collections that the record says are left over.
    pub(crate) async fn drop_retired(&self) -> Result<(), Error> {
        let serving = self.serving();
        let record = self.store.generations(serving.generation.dimensions).await?;
        for generation in record.retired {
            serving.index.sibling(&generation).drop_collections().await?;
            self.store.forget_generation(generation.sequence).await?;
        }
        Ok(())
    }
}

/// Waits until no question works with it any more.
async fn until_unused(old: Arc<Serving>) {
    let waiting = async {
        while Arc::strong_count(&old) > 1 {
            tokio::time::sleep(OLD_LOOK_INTERVAL).await;
        }
    };
    // One that takes longer than any call may is answered by an error, as one that waits too long is.
    let _ = tokio::time::timeout(OLD_KEPT_MAX, waiting).await;
}
