//! What each part of the recipe is worth: the same documents and questions with one thing changed at a time, by the service's own
//! preparation, index and ranking. Nothing here serves; evaluations call it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attain_proto::rag::v1 as wire;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::readiness::Readiness;
use attain_vocabulary::{TenantId, UnixMillis};
use tokio::task::JoinHandle;

use crate::domain::document::Sender;
use crate::domain::query::Question;
use crate::domain::settings::Settings;
use crate::embedding::{DIMENSIONS, Embedder, Model};
use crate::knowledge::{Knowledge, Serving};
use crate::search::{Asked, Strategy};
use crate::start::open_index;
use crate::storage::Store;
use crate::{Config, Error, transport};

/// Documents that are kept at a time.
const DOCUMENTS_PER_BATCH: usize = 8;
/// Documents of a ranking that are told.
const RANKS: usize = 50;

/// A change to the recipe.
pub struct Variant {
    name: String,
    change: Box<dyn Fn(&mut Settings) + Send + Sync>,
    reach: Reach,
}

/// How far back a change reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The order and the confidence alone: the same index answers.
    Ranking,
    /// What is indexed of the words: nothing is embedded anew but titles.
    Words,
    /// The passages: all of them are embedded anew.
    Passages,
}

/// What a question found.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// Names of documents, best first, at most 50.
    pub documents: Vec<String>,
    /// As the service tells it.
    pub confidence: f64,
}

/// Documents and a model by which variants are measured.
pub struct Study {
    folder: PathBuf,
    documents: Vec<wire::Document>,
    embedder: Arc<Embedder>,
    now_ms: UnixMillis,
    shipped: Filled,
}

/// A service without its transport, filled with the documents.
struct Filled {
    knowledge: Arc<Knowledge>,
    stop: Shutdown,
    index: Option<JoinHandle<Result<(), Error>>>,
}

impl Variant {
    /// The recipe as it is.
    pub fn shipped() -> Self {
        Self::new("as shipped", Reach::Ranking, |_| {})
    }

    /// Other weights of the words, of the title's vector and of the beginning's; see `data/retrieval.toml`.
    pub fn weighted(words: f64, title: f64, lead: f64) -> Self {
        Self::new(format!("words {words}, title {title}, beginning {lead}"), Reach::Ranking, move |settings| {
            (settings.lexical_weight, settings.title_weight, settings.lead_weight) = (words, title, lead);
        })
    }

    fn new(name: impl Into<String>, reach: Reach, change: impl Fn(&mut Settings) + Send + Sync + 'static) -> Self {
        Self { name: name.into(), change: Box::new(change), reach }
    }

    /// What it changes, in a few words.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far back it reaches.
    pub fn reach(&self) -> Reach {
        self.reach
    }
}

/// The recipe without each of its parts, and with other numbers in their place; the cheapest to measure first.
pub fn variants() -> Vec<Variant> {
    let ranking = |name: &str, change: fn(&mut Settings)| Variant::new(name, Reach::Ranking, change);
    let words = |name: &str, change: fn(&mut Settings)| Variant::new(name, Reach::Words, change);
    let passages = |name: &str, change: fn(&mut Settings)| Variant::new(name, Reach::Passages, change);
    vec![
        ranking("without the beginning", |settings| settings.lead_weight = 0.0),
        ranking("without the title's vector", |settings| settings.title_weight = 0.0),
        ranking("best passage alone for meaning", |settings| {
            (settings.lead_weight, settings.title_weight) = (0.0, 0.0);
        }),
        ranking("without synonyms", |settings| settings.synonym_weight = 0.0),
        ranking("without the boost of objectives", |settings| settings.objective_boost = 0.0),
        ranking("without names", |settings| settings.exact_name_boost = 0.0),
        ranking("without twins", |settings| settings.twins.lift = 0.0),
        ranking("without copies kept apart", |settings| settings.copies.first = 0),
        ranking("without freshness", |settings| settings.freshness.boost = 0.0),
        ranking("words at 0.35", |settings| settings.lexical_weight = 0.35),
        ranking("words at 0.45", |settings| settings.lexical_weight = 0.45),
        ranking("words at 0.65", |settings| settings.lexical_weight = 0.65),
        ranking("words at 0.75", |settings| settings.lexical_weight = 0.75),
        ranking("meaning alone", |settings| settings.lexical_weight = 0.0),
        ranking("words alone", |settings| settings.lexical_weight = 1.0),
        ranking("fused by reciprocal ranks (k 60)", |settings| settings.reading.fuses_ranks = true),
        ranking("100 candidates a signal", |settings| settings.candidates_max = 100),
        ranking("50 candidates a signal", |settings| settings.candidates_max = 50),
        ranking("coverage over 8", |settings| settings.confidence.coverage_documents = 8),
        ranking("capitals at 0.5", |settings| settings.confidence.capital_weight = 0.5),
        ranking("without capitals", |settings| settings.confidence.capital_weight = 0.0),
        words("title at 1 among the words", |settings| settings.document.title.weight = 1.0),
        words("title at 3 among the words", |settings| settings.document.title.weight = 3.0),
        words("title at 8 among the words", |settings| settings.document.title.weight = 8.0),
        words("saturation 1.2", |settings| settings.document.saturation = 1.2),
        words("without headings among the words", |settings| settings.document.headings.weight = 0.0),
        words("without the path among the words", |settings| settings.document.path.weight = 0.0),
        words("without glosses among the words", |settings| settings.document.gloss.weight = 0.0),
        words("without glosses in the title's vector", |settings| settings.reading.embeds_glosses = false),
        words("without glosses", |settings| {
            settings.document.gloss.weight = 0.0;
            settings.reading.embeds_glosses = false;
        }),
        words("identifiers not split", |settings| settings.reading.splits_identifiers = false),
        passages("without title and headings before a passage", |settings| settings.reading.embeds_headings = false),
        passages("200 characters before a passage with it", |settings| settings.reading.neighbour_chars = 200),
        passages("passages of 100 word pieces", |settings| settings.reading.word_pieces_max = 100),
        passages("passages of 150 word pieces", |settings| settings.reading.word_pieces_max = 150),
    ]
}

impl Study {
    /// Keeps the documents as the service ships. `folder` is empty and takes a database and an index for each variant that reaches into
    /// them; `model` is the folder of the embedding model, without it the user's cache is looked in; `threads` are those of one
    /// embedding; `now_ms` is the time by which documents are new or old, in milliseconds since 1970.
    ///
    /// # Errors
    /// Where there is no model, or the database, the index or the model fails.
    pub async fn open(
        folder: &Path,
        documents: Vec<wire::Document>,
        model: Option<&Path>,
        threads: usize,
        now_ms: UnixMillis,
    ) -> Result<Self, Error> {
        let model = Model::locate(model).map_err(Error::Model)?;
        let embedder = Embedder::load(&model, threads).await.map_err(Error::Model)?;
        let embedder = Arc::new(embedder.remembering());
        let settings = Settings::shipped().map_err(Error::Settings)?;
        let shipped = Filled::new(&folder.join("shipped"), settings, &documents, &embedder, now_ms).await?;
        Ok(Self { folder: folder.to_owned(), documents, embedder, now_ms, shipped })
    }

    /// Ranks the documents by each of these questions under a variant.
    ///
    /// # Errors
    /// Names a question that is none; where the database, the index or the model fails.
    pub async fn rank(&self, variant: &Variant, questions: &[String]) -> Result<Vec<Ranked>, Error> {
        let mut settings = (*self.shipped.knowledge.settings).clone();
        (variant.change)(&mut settings);
        if variant.reach == Reach::Ranking {
            return rank_all(&self.shipped.asked_with(settings)?, questions).await;
        }
        let folder = self.folder.join("variant");
        let filled = Filled::new(&folder, settings, &self.documents, &self.embedder, self.now_ms).await?;
        let ranked = rank_all(&filled.knowledge, questions).await;
        filled.close().await?;
        // The next one begins with an empty folder.
        std::fs::remove_dir_all(&folder).map_err(Error::Folder)?;
        ranked
    }

    /// Lets the index end in order.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn close(self) -> Result<(), Error> {
        self.shipped.close().await
    }
}

impl Filled {
    async fn new(
        folder: &Path,
        settings: Settings,
        documents: &[wire::Document],
        embedder: &Arc<Embedder>,
        now_ms: UnixMillis,
    ) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(Error::Folder)?;
        let config = Config {
            database_url: format!("sqlite:{}", folder.join("rag.db").display()),
            index_dir: folder.join("index"),
            ..Config::default()
        };
        let store = Store::open(&config.database_url).await?;
        let stop = Shutdown::new();
        let (index, running) = open_index(&config, stop.clone()).await?;
        let generation = store.generations(DIMENSIONS as u32).await?.serving;
        let serving = Serving::new(index.sibling(&generation), generation);
        serving.set_loaded(Arc::clone(embedder));
        let knowledge = Arc::new(knowledge(store, serving, settings, now_ms)?);
        let serving = knowledge.serving();
        serving.index.ensure_collections().await?;
        for part in documents.chunks(DOCUMENTS_PER_BATCH) {
            let request = wire::PutDocumentsRequest { documents: part.to_vec() };
            let sender = Sender { is_mesh: false, publishes: false, may_approve: false, now_ms };
            let drafts = transport::decode::documents(request, sender)?.drafts;
            knowledge.put(TenantId::default(), drafts).await?;
        }
        // What was too long to be embedded at once.
        knowledge.reconcile(&serving.index, Some(embedder)).await?;
        knowledge.model_is_usable(&serving);
        Ok(Self { knowledge, stop, index: running })
    }

    /// The same documents, index and model, asked with other settings.
    fn asked_with(&self, settings: Settings) -> Result<Knowledge, Error> {
        let serving = self.knowledge.serving();
        let embedder = serving.usable().ok_or(Error::NoModel)?;
        let serving = Serving::filled(serving.index.clone(), serving.generation.clone(), Arc::clone(embedder));
        knowledge(self.knowledge.store.clone(), serving, settings, self.knowledge.clock.now_ms())
    }

    async fn close(self) -> Result<(), Error> {
        drop(self.knowledge);
        self.stop.cancel();
        match self.index {
            Some(running) => running.await?,
            None => Ok(()),
        }
    }
}

fn knowledge(store: Store, serving: Serving, settings: Settings, now_ms: UnixMillis) -> Result<Knowledge, Error> {
    let model = Readiness::new("rag", 0).prefer("embedding_model", "");
    let knowledge = Knowledge::new(store, serving, model, Clock::held(now_ms))?.with_settings(settings);
    knowledge.set_level();
    Ok(knowledge)
}

async fn rank_all(knowledge: &Knowledge, questions: &[String]) -> Result<Vec<Ranked>, Error> {
    let mut ranked = Vec::with_capacity(questions.len());
    for question in questions {
        let asked = Asked {
            tenant: TenantId::default(),
            question: Question::new(question, &knowledge.settings)?,
            services: BTreeSet::new(),
            kinds: BTreeSet::new(),
            limit: RANKS,
            strategy: Strategy::Hybrid,
            include_unsure: true,
            tier: None,
            include_superseded: false,
        };
        let ranking = knowledge.rank(&knowledge.serving(), &asked).await?;
        let documents = ranking.documents.iter().take(RANKS).map(|(id, _)| id.to_string()).collect();
        ranked.push(Ranked { documents, confidence: ranking.confidence });
    }
    Ok(ranked)
}
