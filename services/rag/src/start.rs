//! Start-up: config → documents → index → serve; the model and the reconciliation follow in the background.

use std::sync::Arc;
use std::time::Duration;

use attain_embedded_qdrant::{EmbeddedQdrant, Options, random_api_key};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::{Condition, Readiness};
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;

use crate::embedding::{self, Embedder, Embeddings, GRAPH_SHA256};
use crate::index::Index;
use crate::knowledge::Knowledge;
use crate::language_model::LanguageModel;
use crate::storage::Store;
use crate::{Config, Error, transport, watch};

/// Pause before a failed reconciliation is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Serves the knowledge service on `listener` until `shutdown`, then drains.
///
/// It listens at once; `index` and, where there is a model, `embedding_model` are conditions of its readiness that are met
/// in the background.
///
/// # Errors
/// Where a setting is out of range, the database or the embedded index cannot be opened, or the transport fails.
pub async fn serve(config: Config, listener: TcpListener, clock: Clock, shutdown: Shutdown) -> Result<(), Error> {
    config.validate()?;
    let language_model = LanguageModel::new(&config.language_model)?;
    let readiness = Readiness::new("rag", clock.now_ms());
    let storage = readiness.require("storage", "not opened yet");
    let level = readiness.require("index", "not level with the documents yet");
    let model = readiness.prefer("embedding_model", "not loaded yet");

    let store = Store::open(&config.database_url).await?;
    storage.met(store.describe());
    let stop_index = Shutdown::new();
    let (index, embedded) = open_index(&config, stop_index.clone()).await?;
    let knowledge = Knowledge::new(store, index, Embeddings::new(model), clock)?;
    let knowledge = knowledge.with_public_tenant(config.public_tenant()?).with_language_model(language_model);
    let knowledge = Arc::new(knowledge);
    let keeping = tokio::spawn(keep_level(Arc::clone(&knowledge), config.clone(), level));

    let watching =
        watch::follow(Arc::clone(&knowledge), config.watched()?, Duration::from_secs(config.watch_interval_seconds));
    let watching = (!config.watch.is_empty()).then(|| tokio::spawn(watching));

    let member = Member {
        readiness,
        service_names: &[transport::SERVICE_NAME, transport::answers::SERVICE_NAME],
        listener,
        limits: config.limits,
        classify: transport::classify,
        drain: Duration::from_secs(config.drain_seconds),
        windows: Windows::default(),
    };
    let routes = Routes::new(transport::server(Arc::clone(&knowledge)))
        .add_service(transport::answers::server(Arc::clone(&knowledge)));
    let served = member.serve(routes, shutdown).await;
    // The index goes last: calls in flight still needed it.
    keeping.abort();
    watching.iter().for_each(JoinHandle::abort);
    stop_index.cancel();
    if let Some(embedded) = embedded {
        embedded.await??;
    }
    Ok(served?)
}

/// A client of the configured server, or of an embedded one that is started here.
async fn open_index(config: &Config, stop: Shutdown) -> Result<(Index, Option<JoinHandle<Result<(), Error>>>), Error> {
    if let Some(url) = &config.qdrant_url {
        let index = Index::connect(url, config.qdrant_api_key.as_deref(), &config.collection_prefix)?;
        return Ok((index, None));
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(Error::Port)?;
    let url = format!("http://{}", listener.local_addr().map_err(Error::Port)?);
    // The port is open to everybody on the machine; the key keeps them out.
    let key = random_api_key();
    let embedded = EmbeddedQdrant::open(Options::new(&config.index_dir, key.clone())?).await?;
    let serving = async move { Ok(embedded.serve(listener, async move { stop.cancelled().await }).await?) };
    let serving = tokio::spawn(serving);
    Ok((Index::connect(&url, Some(&key), &config.collection_prefix)?, Some(serving)))
}

/// Brings the index level with the documents, loads the model, adds the vectors, and does so again whenever it is asked.
async fn keep_level(knowledge: Arc<Knowledge>, config: Config, level: Condition) {
    let server = if config.qdrant_url.is_some() { "Qdrant server" } else { "embedded Qdrant" };
    reconcile_until_level(&knowledge, None, &level).await;
    knowledge.set_level();
    level.met(server);
    load_model(&knowledge, &config).await;
    loop {
        let embedder = knowledge.embeddings.loaded();
        let embedded = reconcile_until_level(&knowledge, embedder.as_deref(), &level).await;
        level.met(server);
        if let Some(embedder) = embedder.filter(|_| embedded) {
            knowledge.embeddings.set_usable(&embedder);
        }
        knowledge.woken().await;
    }
}

/// Tries until the index is level; false where the model failed on the way and documents may lack vectors.
async fn reconcile_until_level(knowledge: &Knowledge, mut embedder: Option<&Embedder>, level: &Condition) -> bool {
    let mut embedded = true;
    loop {
        match knowledge.reconcile(embedder).await {
            Ok(done) => {
                let (indexed, removed) = (done.indexed_count, done.removed_count);
                tracing::info!(
                    indexed_count = indexed,
                    removed_count = removed,
                    "the index is level with the documents"
                );
                return embedded;
            }
            Err(Error::Model(reason)) => {
                tracing::error!(reason, "documents could not be embedded");
                knowledge.embeddings.set_absent(&reason);
                (embedder, embedded) = (None, false);
            }
            Err(error) => {
                let reason = error.with_causes();
                tracing::error!(reason, "the index could not be brought level with the documents");
                level.unmet(reason);
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

async fn load_model(knowledge: &Knowledge, config: &Config) {
    if !config.embeddings {
        return knowledge.embeddings.set_absent("embeddings are off in the configuration");
    }
    let loaded = match embedding::locate(config.model_dir.as_deref()) {
        Ok(folder) => Embedder::load(&folder, config.embedding_threads).await,
        Err(reason) => Err(reason),
    };
    match loaded {
        Ok(embedder) => {
            let calibration = &knowledge.calibration;
            if calibration.graph_sha256 != GRAPH_SHA256 || calibration.model_sha256 != embedding::WEIGHTS_SHA256 {
                tracing::warn!("the hybrid threshold was calibrated on another model");
            }
            tracing::info!(model = embedder.name(), "the embedding model is loaded");
            knowledge.embeddings.set_loaded(embedder);
        }
        Err(reason) => {
            tracing::warn!(reason, "search is by words only");
            knowledge.embeddings.set_absent(&reason);
        }
    }
}
