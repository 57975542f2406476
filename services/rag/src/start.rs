//! Start-up: config → documents → index → serve; the model and the reconciliation follow in the background.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use attain_embedded_qdrant::{EmbeddedQdrant, Options, random_api_key};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::{Condition, Readiness};
use attain_runtime::serve::{Member, Windows};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tonic::service::Routes;

use crate::embedding::{DIMENSIONS, Embedder, Model};
use crate::index::Index;
use crate::knowledge::{Knowledge, Serving};
use crate::language_model::LanguageModel;
use crate::model_change::Change;
use crate::model_download::Download;
use crate::reranking::Reranker;
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
    let generation = store.generations(DIMENSIONS as u32).await?.serving;
    let serving = Serving::new(index.sibling(&generation), generation);
    let knowledge = Knowledge::new(store, serving, model, clock)?;
    let knowledge = knowledge.with_public_tenant(config.public_tenant()?).with_language_model(language_model);
    let knowledge = Arc::new(knowledge);
    // Ends with this call, however that ends.
    let mut keeping = JoinSet::new();
    keeping.spawn(keep_level(Arc::clone(&knowledge), config.clone(), level));

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
    keeping.abort_all();
    watching.iter().for_each(JoinHandle::abort);
    stop_index.cancel();
    if let Some(embedded) = embedded {
        embedded.await??;
    }
    Ok(served?)
}

/// A client of the configured server, or of an embedded one that is started here.
pub(crate) async fn open_index(
    config: &Config,
    stop: Shutdown,
) -> Result<(Index, Option<JoinHandle<Result<(), Error>>>), Error> {
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

/// Brings the index level with the documents, loads the models, adds the vectors, and does so again whenever it is asked.
async fn keep_level(knowledge: Arc<Knowledge>, config: Config, level: Condition) {
    let server = if config.qdrant_url.is_some() { "Qdrant server" } else { "embedded Qdrant" };
    reconcile_until_level(&knowledge, &level).await;
    knowledge.set_level();
    level.met(server);
    load_reranker(&knowledge, &config).await;
    let (mut change, mut download) = match load_model(&knowledge, &config).await {
        Ok(change) => (change, Download::default()),
        Err(reason) => (None, Download::begin(&knowledge, &config, &reason)),
    };
    loop {
        let embedded = reconcile_until_level(&knowledge, &level).await;
        level.met(server);
        let serving = knowledge.serving();
        match &change {
            None if embedded => knowledge.model_is_usable(&serving),
            Some(_) if embedded => serving.set_usable(),
            _ => {}
        }
        drop(serving);
        if let Some(pending) = &change {
            match change_until_failed(&knowledge, pending).await {
                Err(error) => {
                    level.unmet(error.with_causes());
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Ok(()) => change = None,
            }
            continue;
        }
        if let Err(error) = knowledge.drop_retired().await {
            tracing::warn!(reason = error.with_causes(), "collections that are left over could not be dropped");
        }
        tokio::select! {
            () = knowledge.woken() => {}
            downloaded = download.ended() => change = load_downloaded(&knowledge, &config, downloaded).await,
        }
    }
}

/// Changes to another model; a model that fails is given up, and the old one goes on.
async fn change_until_failed(knowledge: &Knowledge, change: &Change) -> Result<(), Error> {
    let name = change.embedder.name();
    let old = knowledge.serving().usable().map_or("words only", |_| "the old model");
    knowledge.model_is_behind(&format!("documents are being embedded by {name}; until then {old} answers"));
    match knowledge.change_model(change).await {
        Err(Error::Model(reason)) => {
            tracing::error!(reason, model = name, "another embedding model failed; what answered before goes on");
            let serving = knowledge.serving();
            match serving.usable() {
                Some(_) => knowledge.model_is_behind(&format!("{name} failed: {reason}")),
                None => knowledge.model_is_absent(&serving, &format!("{name} failed: {reason}")),
            }
            Ok(())
        }
        result => result,
    }
}

/// Tries until the index that answers is level; false where it has no model, or the model failed on the way and documents
/// may lack vectors.
async fn reconcile_until_level(knowledge: &Knowledge, level: &Condition) -> bool {
    let serving = knowledge.serving();
    let mut embedder = serving.loaded().map(Arc::as_ref);
    loop {
        match knowledge.reconcile(&serving.index, embedder).await {
            Ok(done) => {
                let (indexed, removed) = (done.indexed_count, done.removed_count);
                tracing::info!(
                    indexed_count = indexed,
                    removed_count = removed,
                    "the index is level with the documents"
                );
                return embedder.is_some();
            }
            Err(Error::Model(reason)) => {
                tracing::error!(reason, "documents could not be embedded");
                knowledge.model_is_absent(&serving, &reason);
                embedder = None;
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

/// Loads the model; returned where the index that answers has vectors of another, which is then loaded too.
async fn load_model(knowledge: &Knowledge, config: &Config) -> Result<Option<Change>, String> {
    let serving = knowledge.serving();
    if !config.embeddings {
        knowledge.model_is_absent(&serving, "embeddings are off in the configuration");
        return Ok(None);
    }
    let loaded = load_configured(knowledge, config).await;
    match &loaded {
        Ok(Some(_)) => load_old(&serving, config).await,
        Ok(None) => knowledge.model_is_behind("documents are being embedded"),
        Err(reason) => {
            tracing::warn!(reason, "search is by words only");
            knowledge.model_is_absent(&serving, reason);
        }
    }
    loaded
}

/// Loads what was downloaded; where nothing came, words go on.
async fn load_downloaded(knowledge: &Knowledge, config: &Config, downloaded: Result<(), String>) -> Option<Change> {
    match downloaded {
        Ok(()) => load_model(knowledge, config).await.ok().flatten(),
        Err(reason) => {
            tracing::warn!(reason, "search is by words only");
            knowledge.model_is_absent(&knowledge.serving(), &reason);
            None
        }
    }
}

async fn load_configured(knowledge: &Knowledge, config: &Config) -> Result<Option<Change>, String> {
    let model = Model::locate(config.model_dir.as_deref())?;
    let embedder = Arc::new(Embedder::load(&model, config.embedding_threads).await?);
    let calibration = &knowledge.calibration;
    if !model.is_calibrated(&calibration.model_sha256, &calibration.graph_sha256) {
        tracing::warn!(model = embedder.name(), "the hybrid threshold was calibrated on another model");
    }
    tracing::info!(model = embedder.name(), "the embedding model is loaded");
    knowledge.take_model(embedder, model.folder).await.map_err(|error| error.with_causes())
}

/// The model that the index that answers has vectors of, where its folder still holds it: it answers until the change is done.
async fn load_old(serving: &Serving, config: &Config) {
    let generation = &serving.generation;
    let model = Model::in_folder(Path::new(&generation.model_dir), config.model_dir.as_deref());
    let model = model.ok().filter(|model| model.identity().is_ok_and(|identity| identity == generation.model));
    let Some(model) = model else {
        tracing::warn!(model = generation.model, "the old model is gone; until the change is done words alone answer");
        return;
    };
    match Embedder::load(&model, config.embedding_threads).await {
        Ok(embedder) => serving.set_loaded(Arc::new(embedder)),
        Err(reason) => {
            tracing::warn!(reason, "the old model cannot be loaded; until the change is done words alone answer")
        }
    }
}

async fn load_reranker(knowledge: &Knowledge, config: &Config) {
    let Some(folder) = &config.reranker_dir else { return };
    let timeout = Duration::from_millis(config.reranker_timeout_ms);
    let reranker = Reranker::load(folder, config.model_dir.as_deref(), config.reranker_passages, timeout).await;
    // The only place that sets it.
    let _ = knowledge.reranker.set(reranker);
}
