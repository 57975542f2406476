//! The search index in Qdrant, derived from the documents: one point a document, one point a passage. The same client
//! speaks to an embedded server and to a cluster.
//!
//! Every read and write names its tenant; there is no way to ask without one but [`Index::states`], which reconciles all.

mod payload;
mod read;
mod schema;
mod write;

use std::sync::Arc;
use std::time::Duration;

use qdrant_client::Qdrant;
use tokio::sync::Semaphore;

use crate::Error;

pub(crate) use read::{DocumentHit, Part, PassageHit, Scope};
pub(crate) use write::{DocumentVectors, Indexable, State};

/// Longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Most calls under way: two a core keep small machines busy, and an embedded server refuses more than 64.
const CALLS_MAX: usize = 32;

/// Numbers of an embedding.
pub(crate) const DIMENSIONS: usize = 384;

/// The index.
#[derive(Clone)]
pub(crate) struct Index {
    client: Arc<Qdrant>,
    documents: String,
    passages: String,
    calls: Arc<Semaphore>,
}

impl Index {
    /// A client for the server at `url`. Whether anybody listens shows at the first call.
    pub(crate) fn connect(url: &str, api_key: Option<&str>, collection_prefix: &str) -> Result<Self, Error> {
        let mut builder = Qdrant::from_url(url)
            .timeout(CALL_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // The check would print to standard output.
            .skip_compatibility_check()
            .keep_alive_while_idle();
        if let Some(key) = api_key {
            builder = builder.api_key(key);
        }
        Ok(Self {
            client: Arc::new(builder.build()?),
            documents: format!("{collection_prefix}_documents"),
            passages: format!("{collection_prefix}_passages"),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
        })
    }

    /// A place among the calls under way.
    async fn place(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.calls).acquire_owned().await.expect("the semaphore is never closed")
    }
}
