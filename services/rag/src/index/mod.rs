//! The search index in Qdrant, derived from the documents: one point a document, one point a passage. The same client
//! speaks to an embedded server and to a cluster.
//!
//! An [`Index`] is one generation of collections, of the vectors of one model. [`Index::sibling`] is another generation on the same
//! server.
//!
//! Every read and write names its tenant; there is no way to ask without one but [`Index::states`], which reconciles all.

mod kept;
mod names;
mod payload;
mod read;
mod schema;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use qdrant_client::Qdrant;
use tokio::sync::Semaphore;

use crate::Error;
use crate::embedding::DIMENSIONS;
use crate::storage::Generation;
use kept::Kept;
use names::PassageNames;

pub(crate) use kept::Revision;
pub(crate) use payload::Point;
pub(crate) use read::{Document, Facts, Near, NearPassage, Part, Placed, Scope};
pub(crate) use write::{DocumentVectors, Indexable, State};

/// Longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Most calls under way: two a core keep small machines busy, and an embedded server refuses more than 64.
const CALLS_MAX: usize = 32;
/// Most documents of which is kept what ranking reads, about 20 MB.
const FACTS_MAX: usize = 20_000;
/// Most documents of which is kept by what copies of them are known, about 10 MB.
const SKETCHES_MAX: usize = 10_000;
/// Most passages of which is kept where they stand, about 20 MB.
const PLACES_MAX: usize = 50_000;

/// One generation of the index.
#[derive(Clone)]
pub(crate) struct Index {
    client: Arc<Qdrant>,
    prefix: String,
    documents: String,
    passages: String,
    dimensions: u64,
    calls: Arc<Semaphore>,
    names: Arc<PassageNames>,
    known: Arc<Known>,
}

/// What was read of the points of one generation.
struct Known {
    facts: Kept<Facts>,
    sketches: Kept<BTreeSet<u32>>,
    placed: Kept<Placed>,
}

impl Default for Known {
    fn default() -> Self {
        Self { facts: Kept::new(FACTS_MAX), sketches: Kept::new(SKETCHES_MAX), placed: Kept::new(PLACES_MAX) }
    }
}

impl Index {
    /// A client for the server at `url`, and its first generation. Whether anybody listens shows at the first call.
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
            prefix: collection_prefix.to_owned(),
            documents: format!("{collection_prefix}_documents"),
            passages: format!("{collection_prefix}_passages"),
            dimensions: DIMENSIONS as u64,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            names: Arc::default(),
            known: Arc::default(),
        })
    }

    /// The collections of a generation on the same server.
    pub(crate) fn sibling(&self, generation: &Generation) -> Self {
        let begin = match generation.name.as_str() {
            "" => self.prefix.clone(),
            name => format!("{}_{name}", self.prefix),
        };
        Self {
            documents: format!("{begin}_documents"),
            passages: format!("{begin}_passages"),
            dimensions: u64::from(generation.dimensions),
            known: Arc::default(),
            ..self.clone()
        }
    }

    /// A place among the calls under way.
    async fn place(&self) -> tokio::sync::OwnedSemaphorePermit {
        Arc::clone(&self.calls).acquire_owned().await.expect("the semaphore is never closed")
    }
}
