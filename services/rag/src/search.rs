//! Answering a question: gather what each signal finds, fuse, decide whether it answers at all, then quote.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use crate::Error;
use crate::domain::about::Visibility;
use crate::domain::confidence::{Evidence, Strength, confidence};
use crate::domain::document::{DocumentId, Kind, Stored, sha256_hex};
use crate::domain::fusion::{self, Candidate, Scored};
use crate::domain::passage::slice_chars;
use crate::domain::query::{Question, Word};
use crate::domain::settings::{Settings, Threshold};
use crate::domain::standing::Standings;
use crate::domain::terms::{Frequencies, TermId};
use crate::embedding::EmbeddedQuestion;
use crate::index::{About, DocumentHit, Index, Part, PassageHit, Scope};
use crate::knowledge::{Knowledge, Serving};
use crate::reranking::{Reranker, Reranking};

/// Titles that an abstention names.
const NEAREST_TITLES: usize = 3;
/// Documents that are looked at for them.
const NEAREST_LOOKED_AT: usize = 10;
/// Without a model nothing is known of general language: every word counts as fully specific.
const UNKNOWN_SPECIFICITY: f64 = 1.0;

/// A question with what is known of the service it is about.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) question: Question,
    /// Services whose documents count for more.
    pub(crate) services: BTreeSet<EntityId>,
    /// Only these kinds; empty for all.
    pub(crate) kinds: BTreeSet<Kind>,
    /// Most passages.
    pub(crate) limit: usize,
    pub(crate) strategy: Strategy,
    /// Whether passages are wanted below the threshold as well.
    pub(crate) include_unsure: bool,
    /// Tier of the service, 1 to 4, where it is known.
    pub(crate) tier: Option<u8>,
    /// Look in documents whose place another has taken as well.
    pub(crate) include_superseded: bool,
}

/// Which signals rank the passages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Strategy {
    /// All there are.
    #[default]
    Hybrid,
    /// BM25 of the passages alone.
    Words,
    /// Cosine of the passages alone.
    Meaning,
}

/// Passages, or the statement that nothing answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) citations: Vec<Cited>,
    pub(crate) abstained: bool,
    pub(crate) confidence: f64,
    pub(crate) threshold: f64,
    pub(crate) strong_threshold: f64,
    pub(crate) strength: Strength,
    pub(crate) nearest_titles: Vec<String>,
    /// The model that took part; `None` when search was by words only.
    pub(crate) model: Option<String>,
    pub(crate) reranking: Reranking,
}

/// A passage, to the character.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cited {
    pub(crate) document: DocumentId,
    pub(crate) version: u32,
    pub(crate) title: String,
    pub(crate) kind: Kind,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) quote: String,
    pub(crate) quote_sha256: String,
    pub(crate) score: f64,
    pub(crate) headings: Vec<String>,
    /// Whether something in the document speaks to a machine.
    pub(crate) doubted: bool,
    /// Who may read the document.
    pub(crate) visibility: Visibility,
    /// By when a person is to look at it again.
    pub(crate) review_due_ms: Option<UnixMillis>,
}

/// A passage with the stored document that it was quoted out of.
pub(crate) struct Quoted {
    pub(crate) cited: Cited,
    pub(crate) document: Stored,
}

/// Documents in the order of their scores, before anything is decided.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// Best first; equal scores in the order of names.
    pub(crate) documents: Vec<(DocumentId, f64)>,
    /// Passages of each of them, best first.
    pub(crate) passages: BTreeMap<DocumentId, Vec<PassageHit>>,
    pub(crate) confidence: f64,
    pub(crate) model: Option<String>,
}

/// What the signals found.
#[derive(Default)]
pub(crate) struct Found {
    named: Vec<DocumentHit>,
    words: Vec<DocumentHit>,
    titles: Vec<DocumentHit>,
    leads: Vec<DocumentHit>,
    passage_words: Vec<PassageHit>,
    passage_texts: Vec<PassageHit>,
}

impl Found {
    /// Keeps what `keep` says of a name and of whether the document is another tenant's.
    pub(crate) fn keep(&mut self, keep: impl Fn(&DocumentId, bool) -> bool) {
        for hits in [&mut self.named, &mut self.words, &mut self.titles, &mut self.leads] {
            hits.retain(|hit| keep(&hit.id, hit.public));
        }
        for hits in [&mut self.passage_words, &mut self.passage_texts] {
            hits.retain(|hit| keep(&hit.document, hit.public));
        }
    }

    /// Documents of the tenant that publishes.
    pub(crate) fn public(&self) -> BTreeSet<&DocumentId> {
        self.all().filter(|(_, public, _)| *public).map(|(id, _, _)| id).collect()
    }

    /// Documents in which something speaks to a machine.
    fn doubted(&self) -> BTreeSet<&DocumentId> {
        self.all().filter(|(_, _, doubted)| *doubted).map(|(id, _, _)| id).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&DocumentId, bool, bool)> {
        let documents = [&self.named, &self.words, &self.titles, &self.leads].into_iter().flatten();
        let passages = [&self.passage_words, &self.passage_texts].into_iter().flatten();
        documents
            .map(|hit| (&hit.id, hit.public, hit.doubted))
            .chain(passages.map(|hit| (&hit.document, hit.public, hit.doubted)))
    }
}

impl Knowledge {
    /// Answers a question, or abstains.
    pub(crate) async fn search(&self, asked: &Asked) -> Result<Answer, Error> {
        self.check_level()?;
        let result = self.search_now(asked).await;
        if matches!(result, Err(Error::Index(_))) {
            // A server that lost its data gets it back.
            self.wake();
        }
        result
    }

    async fn search_now(&self, asked: &Asked) -> Result<Answer, Error> {
        let serving = self.serving();
        let ranking = self.rank(&serving, asked).await?;
        let cuts = self.cuts(asked, &ranking);
        let strength = cuts.strength(ranking.confidence, ranking.documents.is_empty());
        let abstained = strength == Strength::Abstained;
        let mut answer = Answer {
            citations: Vec::new(),
            abstained,
            confidence: ranking.confidence,
            threshold: cuts.threshold,
            strong_threshold: cuts.strong_threshold,
            strength,
            nearest_titles: Vec::new(),
            model: ranking.model.clone(),
            reranking: Reranking::Off,
        };
        if abstained {
            answer.nearest_titles = self.nearest(asked, &ranking).await?.into_iter().map(|(_, title)| title).collect();
        }
        if !abstained || asked.include_unsure {
            let reranker = self.reranker.get().filter(|_| asked.strategy == Strategy::Hybrid);
            let read = reranker.map_or(asked.limit, |reranker| asked.limit.max(reranker.passages));
            let quoted = self.quote_best(&serving, asked, &ranking, read).await?;
            let mut cited: Vec<Cited> = quoted.into_iter().map(|quoted| quoted.cited).collect();
            if let Some(reranker) = reranker {
                answer.reranking = rerank(reranker, &asked.question.sentence, &mut cited).await;
            }
            cited.truncate(asked.limit);
            answer.citations = cited;
        }
        Ok(answer)
    }

    /// The thresholds that hold for how a ranking came about. A baseline has none (0): its scores were never
    /// calibrated.
    pub(crate) fn cuts(&self, asked: &Asked, ranking: &Ranking) -> Threshold {
        let cuts = if ranking.model.is_some() { &self.calibration.hybrid } else { &self.calibration.lexical };
        match asked.strategy {
            Strategy::Hybrid => cuts.clone(),
            _ => Threshold { threshold: 0.0, strong_threshold: 0.0, ..cuts.clone() },
        }
    }

    /// Ranks the tenant's documents by a question.
    pub(crate) async fn rank(&self, serving: &Serving, asked: &Asked) -> Result<Ranking, Error> {
        let question = &asked.question;
        let (embedded, model) = match asked.strategy {
            Strategy::Words => (None, None),
            Strategy::Hybrid | Strategy::Meaning => self.embed(serving, question).await,
        };
        let frequencies = self.frequencies(asked, &question.term_ids()).await?;
        let scope = self.scope(asked).await?;
        let mut found = self.gather(&serving.index, asked, &scope, &frequencies, embedded.as_ref()).await?;
        self.drop_unreadable(asked, &scope, &mut found).await?;
        if asked.strategy != Strategy::Hybrid {
            return Ok(rank_by_passages(asked.strategy, &found, model, &self.settings));
        }
        let standings = self.standings(&asked.tenant).await?;
        let ranker = Ranker { asked, standings: &standings, settings: &self.settings, now_ms: self.clock.now_ms() };
        let (documents, named) = ranker.documents(&found, embedded.is_some());
        // Whether anything answers is not for doubted documents to say.
        let doubted = found.doubted();
        let believed = documents.iter().map(|(id, _)| id).filter(|id| !doubted.contains(id));
        let first: Vec<DocumentId> = believed.take(self.settings.confidence.coverage_documents).cloned().collect();
        let terms: BTreeSet<TermId> = question.words.iter().map(|word| word.term).collect();
        let covered = self.held_terms(asked, &first, &terms, &found).await?;
        let words = with_specificity(&question.words, embedded.as_ref());
        let evidence = Evidence {
            nearest: embedded.is_some().then(|| (best(&found.titles) + best(&found.leads)) / 2.0),
            named,
            words: &words,
            frequencies: &frequencies,
            covered: &covered,
        };
        let confidence = confidence(evidence, &self.settings.confidence);
        let passages = rank_passages(&found, embedded.is_some(), &self.settings);
        Ok(Ranking { documents, passages, confidence, model })
    }

    /// The question's embedding where a model can be used; a model that fails is left out, and said so.
    async fn embed(&self, serving: &Serving, question: &Question) -> (Option<EmbeddedQuestion>, Option<String>) {
        let Some(embedder) = serving.usable() else { return (None, None) };
        let words = question.words.iter().map(|word| word.plain.clone()).collect();
        match embedder.question(question.sentence.clone(), words).await {
            Ok(embedded) => (Some(embedded), Some(embedder.name().to_owned())),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(reason, "a question was answered by words only");
                self.model_is_absent(serving, &reason);
                (None, None)
            }
        }
    }

    async fn gather(
        &self,
        index: &Index,
        asked: &Asked,
        scope: &Scope,
        frequencies: &Frequencies,
        embedded: Option<&EmbeddedQuestion>,
    ) -> Result<Found, Error> {
        let limit = self.settings.candidates_max;
        let weights = asked.question.weights(frequencies);
        let by_meaning = async {
            let Some(EmbeddedQuestion { vector, .. }) = embedded else {
                return Ok((Vec::new(), Vec::new(), Vec::new()));
            };
            tokio::try_join!(
                index.documents_by_vector(scope, Part::Title, vector, limit),
                index.documents_by_vector(scope, Part::Lead, vector, limit),
                index.passages_by_vector(scope, vector, limit),
            )
        };
        match asked.strategy {
            Strategy::Hybrid => {}
            Strategy::Words => {
                let passage_words = index.passages_by_words(scope, &weights, limit).await?;
                return Ok(Found { passage_words, ..Found::default() });
            }
            Strategy::Meaning => {
                let Some(embedded) = embedded else { return Err(Error::NoModel) };
                let passage_texts = index.passages_by_vector(scope, &embedded.vector, limit).await?;
                return Ok(Found { passage_texts, ..Found::default() });
            }
        }
        let (named, words, passage_words, (titles, leads, passage_texts)) = tokio::try_join!(
            index.documents_named(scope, &asked.question.names),
            index.documents_by_words(scope, &weights, limit),
            index.passages_by_words(scope, &weights, limit),
            by_meaning,
        )?;
        Ok(Found { named, words, titles, leads, passage_words, passage_texts })
    }

    /// Documents that came nearest, with their titles.
    pub(crate) async fn nearest(&self, asked: &Asked, ranking: &Ranking) -> Result<Vec<(DocumentId, String)>, Error> {
        let mut nearest = Vec::new();
        for (id, _) in ranking.documents.iter().take(NEAREST_LOOKED_AT) {
            // A title is told without its document around it, so a doubted one is not told at all.
            let found = self.readable(&asked.tenant, id, None).await?;
            nearest.extend(found.filter(|found| !found.about.is_doubted()).map(|found| (found.id, found.title)));
            if nearest.len() == NEAREST_TITLES {
                break;
            }
        }
        Ok(nearest)
    }

    /// Quotes the best passage of each of the first documents out of the stored text, at most this many. What was removed or
    /// replaced since it was found is left out.
    pub(crate) async fn quote_best(
        &self,
        serving: &Serving,
        asked: &Asked,
        ranking: &Ranking,
        count: usize,
    ) -> Result<Vec<Quoted>, Error> {
        let scope = self.scope(asked).await?;
        let documents = &ranking.documents[..count.min(ranking.documents.len())];
        let unseen: Vec<DocumentId> =
            documents.iter().map(|(id, _)| id).filter(|id| !ranking.passages.contains_key(*id)).cloned().collect();
        let beginnings = serving.index.first_passages(&scope, &unseen).await?;
        let mut quoted = Vec::with_capacity(documents.len());
        for (id, score) in documents {
            let best = ranking.passages.get(id).and_then(|passages| passages.first());
            let best = best.or_else(|| beginnings.iter().find(|passage| passage.document == *id));
            let Some(passage) = best else { continue };
            let Some(document) = self.readable(&asked.tenant, id, Some(passage.version)).await? else { continue };
            quoted.extend(quote(&document, passage, *score).map(|cited| Quoted { cited, document }));
        }
        Ok(quoted)
    }
}

/// Puts the first passages into the order of a cross-encoder, above the rest; where it has none, the fused order stands.
async fn rerank(reranker: &Reranker, question: &str, cited: &mut [Cited]) -> Reranking {
    let count = reranker.passages.min(cited.len());
    let floor = cited.get(count).map_or(0.0, |next| next.score);
    let read = |cited: &Cited| format!("{}\n{}", cited.title, cited.quote);
    let (outcome, scores) = reranker.scores(question, cited[..count].iter().map(read).collect()).await;
    if let Some(scores) = scores {
        for (cited, score) in cited.iter_mut().zip(scores) {
            // Logistic, so that the order stays and every one of them stands above the rest.
            cited.score = floor + 1.0 / (1.0 + libm::exp(-f64::from(score)));
        }
        // A doubted document is not lifted by what it says to a machine.
        cited[..count].sort_by(|a, b| {
            let believed_first = a.doubted.cmp(&b.doubted);
            believed_first.then_with(|| b.score.total_cmp(&a.score)).then_with(|| a.document.cmp(&b.document))
        });
    }
    outcome
}

/// The passage as it stands in the stored text; `None` where the index speaks of another text.
pub(crate) fn quote(document: &Stored, passage: &PassageHit, score: f64) -> Option<Cited> {
    let quote = slice_chars(&document.text, passage.start as usize..passage.end as usize);
    let quote_sha256 = sha256_hex(quote.as_bytes());
    (quote_sha256 == passage.quote_sha256).then(|| Cited {
        document: document.id.clone(),
        version: document.version,
        title: document.title.clone(),
        kind: document.kind,
        start: passage.start,
        end: passage.end,
        quote: quote.to_owned(),
        quote_sha256,
        score,
        headings: passage.headings.clone(),
        doubted: document.about.is_doubted(),
        visibility: document.about.visibility,
        review_due_ms: document.about.review_due_ms,
    })
}

fn with_specificity(words: &[Word], embedded: Option<&EmbeddedQuestion>) -> Vec<(Word, f64)> {
    let of = |place: usize| {
        embedded.and_then(|embedded| embedded.specificities.get(place).copied()).unwrap_or(UNKNOWN_SPECIFICITY)
    };
    words.iter().enumerate().map(|(place, word)| (word.clone(), of(place))).collect()
}

/// The best score of a signal among what is believed; 0 where it found nothing.
fn best(hits: &[DocumentHit]) -> f64 {
    hits.iter().filter(|hit| !hit.doubted).map(|hit| hit.score).fold(0.0, f64::max)
}

/// Documents in the order of their best passage by one signal alone; the confidence is that signal's best score.
fn rank_by_passages(strategy: Strategy, found: &Found, model: Option<String>, settings: &Settings) -> Ranking {
    let hits = if strategy == Strategy::Words { &found.passage_words } else { &found.passage_texts };
    let mut by_document: BTreeMap<&DocumentId, f64> = BTreeMap::new();
    for hit in hits {
        let score = by_document.entry(&hit.document).or_insert(f64::NEG_INFINITY);
        *score = score.max(hit.score);
    }
    let mut documents: Vec<(DocumentId, f64)> =
        by_document.into_iter().map(|(id, score)| (id.clone(), score)).collect();
    documents.sort_by(|(a, left), (b, right)| right.total_cmp(left).then_with(|| a.cmp(b)));
    let confidence = documents.first().map_or(0.0, |(_, score)| *score);
    let passages = rank_passages(found, strategy == Strategy::Meaning, settings);
    Ranking { documents, passages, confidence, model }
}

/// Notes what a signal says of a candidate.
type Note = fn(&mut Candidate, f64);

/// What documents are ranked by.
struct Ranker<'a> {
    asked: &'a Asked,
    standings: &'a Standings,
    settings: &'a Settings,
    now_ms: UnixMillis,
}

impl Ranker<'_> {
    /// Documents best first, copies kept apart, and whether the question names one of them.
    fn documents(&self, found: &Found, hybrid: bool) -> (Vec<(DocumentId, f64)>, bool) {
        let settings = self.settings;
        let mut pool: BTreeMap<&DocumentId, Candidate> = BTreeMap::new();
        let mut sketches: BTreeMap<&DocumentId, &BTreeSet<u32>> = BTreeMap::new();
        let signals: [(&[DocumentHit], Note); 4] = [
            (&found.words, |candidate, score| candidate.lexical = Some(score)),
            (&found.titles, |candidate, score| candidate.title = Some(score)),
            (&found.leads, |candidate, score| candidate.lead = Some(score)),
            (&found.named, |candidate, _| candidate.named = true),
        ];
        for (hits, note) in signals {
            for hit in hits {
                let new = || Candidate {
                    doubted: hit.doubted,
                    ..self.candidate(&hit.id, hit.version, &hit.about, hit.embedded)
                };
                note(pool.entry(&hit.id).or_insert_with(new), hit.score);
                sketches.insert(&hit.id, &hit.sketch);
            }
        }
        for hit in &found.passage_texts {
            let new =
                || Candidate { doubted: hit.doubted, ..self.candidate(&hit.document, hit.version, &hit.about, true) };
            let candidate = pool.entry(&hit.document).or_insert_with(new);
            candidate.passage = Some(candidate.passage.map_or(hit.score, |best| best.max(hit.score)));
        }
        let (ids, candidates): (Vec<&DocumentId>, Vec<Candidate>) = pool.into_iter().unzip();
        let scores = fusion::scores(&candidates, hybrid, settings);
        let scored = |((id, candidate), score): ((&&DocumentId, &Candidate), f64)| Scored {
            document: (*id).clone(),
            score,
            named: candidate.named,
            sketch: sketches.get(*id).map(|sketch| (*sketch).clone()).unwrap_or_default(),
        };
        let mut documents: Vec<Scored<DocumentId>> = ids.iter().zip(&candidates).zip(scores).map(scored).collect();
        documents.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.document.cmp(&b.document)));
        let documents = fusion::apart(documents, &settings.copies);
        let names = candidates.iter().any(|candidate| candidate.named && !candidate.doubted);
        (documents.into_iter().map(|scored| (scored.document, scored.score)).collect(), names)
    }

    fn candidate(&self, id: &DocumentId, version: u32, about: &About, embedded: bool) -> Candidate {
        let Self { asked, standings, now_ms, .. } = self;
        let is_asked_about = |name: &String| {
            EntityId::new("service_ids", name)
                .is_ok_and(|service| asked.services.contains(&service) || asked.question.names_service(&service))
        };
        Candidate {
            embedded,
            about_service: about.service_ids.iter().any(is_asked_about),
            answers_objective: asked.question.about_objectives && about.states_objective,
            fits_tier: asked.tier.is_some_and(|tier| about.tiers.contains(&u32::from(tier))),
            age_ms: Some(now_ms - about.review_ms),
            title_terms: about.title_terms.clone(),
            standing: standings.get(&(id.clone(), version)).copied().unwrap_or(0.0),
            ..Candidate::default()
        }
    }
}

/// Passages of each document, best first; equal scores in the order of the text.
fn rank_passages(found: &Found, hybrid: bool, settings: &Settings) -> BTreeMap<DocumentId, Vec<PassageHit>> {
    let mut pool: BTreeMap<(&DocumentId, u32), (&PassageHit, Candidate)> = BTreeMap::new();
    // Compared within a document only, whose passages have vectors all or none.
    let new = || Candidate { embedded: true, ..Candidate::default() };
    for hit in &found.passage_words {
        pool.entry((&hit.document, hit.ordinal)).or_insert_with(|| (hit, new())).1.lexical = Some(hit.score);
    }
    for hit in &found.passage_texts {
        pool.entry((&hit.document, hit.ordinal)).or_insert_with(|| (hit, new())).1.passage = Some(hit.score);
    }
    let (hits, candidates): (Vec<&PassageHit>, Vec<Candidate>) = pool.into_values().unzip();
    let scores = fusion::scores(&candidates, hybrid, settings);
    let mut ranked: Vec<PassageHit> =
        hits.into_iter().zip(scores).map(|(hit, score)| PassageHit { score, ..hit.clone() }).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.ordinal.cmp(&b.ordinal)));
    let mut by_document: BTreeMap<DocumentId, Vec<PassageHit>> = BTreeMap::new();
    for passage in ranked {
        by_document.entry(passage.document.clone()).or_default().push(passage);
    }
    by_document
}
