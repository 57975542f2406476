//! Answering a question: gather what each signal finds, fuse, decide whether it answers at all, then quote (`quoting`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_vocabulary::{EntityId, TenantId, UnixMillis};

use crate::Error;
use crate::domain::about::Visibility;
use crate::domain::confidence::{Evidence, Strength, confidence};
use crate::domain::document::{DocumentId, Kind};
use crate::domain::fusion::{self, Candidate, Scored};
use crate::domain::query::{Question, Word};
use crate::domain::settings::{Settings, Threshold};
use crate::domain::standing::Standings;
use crate::domain::terms::TermId;
use crate::embedding::EmbeddedQuestion;
use crate::gathering::Found;
use crate::index::{Document, Facts, Index, Near, NearPassage, Revision, Scope};
use crate::knowledge::{Knowledge, Serving};
use crate::reranking::{Reranker, Reranking};

/// Documents whose sketches are read for each place that copies do not share: so many are hardly ever copies.
const SKETCHES_PER_PLACE: usize = 2;
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

/// Documents in the order of their scores, before anything is decided.
#[derive(Debug)]
pub(crate) struct Ranking {
    /// Best first; equal scores in the order of names.
    pub(crate) documents: Vec<(DocumentId, f64)>,
    /// Passages of each of them, best first.
    pub(crate) passages: BTreeMap<DocumentId, Vec<RankedPassage>>,
    /// Those of them that are the publisher's.
    pub(crate) public: BTreeSet<DocumentId>,
    /// What was looked in.
    pub(crate) scope: Scope,
    pub(crate) confidence: f64,
    pub(crate) model: Option<String>,
}

/// A passage of a ranked document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RankedPassage {
    /// Its place among the passages of the document.
    pub(crate) ordinal: u32,
    pub(crate) at: Revision,
    pub(crate) score: f64,
}

/// A document that copies are kept apart from.
type Ranked = Scored<(DocumentId, Revision)>;

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
            let quoted = self.quote_best(&serving, asked, &ranking, (read, 1)).await?;
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

    /// Ranks the tenant's documents by a question. While the model reads it, its words are looked for.
    pub(crate) async fn rank(&self, serving: &Serving, asked: &Asked) -> Result<Ranking, Error> {
        let (question, index) = (&asked.question, &serving.index);
        let terms = question.term_ids();
        let by_words = async {
            let (scope, frequencies) = tokio::try_join!(self.scope(asked), self.frequencies(asked, &terms))?;
            let found = self.by_words(index, asked, &scope, &frequencies).await?;
            Ok::<_, Error>((scope, frequencies, found))
        };
        let ((embedded, model), by_words) = tokio::join!(self.embed(serving, asked), by_words);
        let (scope, frequencies, found) = by_words?;
        let by_meaning = self.by_meaning(index, asked, &scope, embedded.as_ref(), found);
        let (mut found, standings) = tokio::try_join!(by_meaning, self.standings(&asked.tenant))?;
        self.drop_unreadable(asked, &scope, &mut found).await?;
        let public = found.ids(|document| document.public);
        if asked.strategy != Strategy::Hybrid {
            return Ok(rank_by_passages(asked.strategy, &found, model, (public, scope), &self.settings));
        }
        let ranker = Ranker { asked, standings: &standings, settings: &self.settings, now_ms: self.clock.now_ms() };
        let (documents, named) = ranker.documents(&found, embedded.is_some());
        let documents = self.apart(index, documents).await?;
        // Whether anything answers is not for doubted documents to say.
        let doubted = found.ids(|document| document.facts.doubted);
        let believed = documents.iter().map(|(id, _)| id).filter(|id| !doubted.contains(*id));
        let first: Vec<DocumentId> = believed.take(self.settings.confidence.coverage_documents).cloned().collect();
        let terms: BTreeSet<TermId> = question.words.iter().map(|word| word.term).collect();
        let covered = self.held_terms(asked, &first, &terms, &public).await?;
        let words = with_specificity(&question.words, embedded.as_ref());
        let evidence = Evidence {
            nearest: embedded.is_some().then(|| (best(&found, &found.titles) + best(&found, &found.leads)) / 2.0),
            named,
            words: &words,
            frequencies: &frequencies,
            covered: &covered,
        };
        let confidence = confidence(evidence, &self.settings.confidence);
        let passages = rank_passages(&found, embedded.is_some(), &self.settings);
        Ok(Ranking { documents, passages, public, scope, confidence, model })
    }

    /// The question's embedding where a model can be used; a model that fails is left out, and said so.
    async fn embed(&self, serving: &Serving, asked: &Asked) -> (Option<EmbeddedQuestion>, Option<String>) {
        let usable = serving.usable().filter(|_| asked.strategy != Strategy::Words);
        let (Some(embedder), question) = (usable, &asked.question) else { return (None, None) };
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

    /// Keeps copies apart among the first documents. Only of these the sketches are read, and of more where many of them are copies.
    async fn apart(&self, index: &Index, mut documents: Vec<Ranked>) -> Result<Vec<(DocumentId, f64)>, Error> {
        let copies = &self.settings.copies;
        let (mut read, mut until) = (0, documents.len().min(SKETCHES_PER_PLACE * copies.first));
        while read < until {
            let unread = &mut documents[read..until];
            let points: Vec<Revision> = unread.iter().map(|scored| scored.document.1).collect();
            let mut sketches = index.sketches(&points).await?;
            for scored in unread {
                scored.sketch = sketches.remove(&scored.document.1.point).unwrap_or_default();
            }
            let enough = fusion::originals(&documents[..until], copies) == copies.first;
            (read, until) = (until, if enough { until } else { documents.len().min(2 * until) });
        }
        let documents = fusion::apart(documents, copies);
        Ok(documents.into_iter().map(|scored| (scored.document.0, scored.score)).collect())
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

fn with_specificity(words: &[Word], embedded: Option<&EmbeddedQuestion>) -> Vec<(Word, f64)> {
    let of = |place: usize| {
        embedded.and_then(|embedded| embedded.specificities.get(place).copied()).unwrap_or(UNKNOWN_SPECIFICITY)
    };
    words.iter().enumerate().map(|(place, word)| (word.clone(), of(place))).collect()
}

/// The best score of a signal among what is believed; 0 where it found nothing.
fn best(found: &Found, hits: &[Near]) -> f64 {
    let believed = found.known(hits).filter(|(_, document)| !document.facts.doubted);
    believed.map(|(near, _)| near.score).fold(0.0, f64::max)
}

/// Documents in the order of their best passage by one signal alone; the confidence is that signal's best score.
fn rank_by_passages(
    strategy: Strategy,
    found: &Found,
    model: Option<String>,
    (public, scope): (BTreeSet<DocumentId>, Scope),
    settings: &Settings,
) -> Ranking {
    let hits = if strategy == Strategy::Words { &found.passage_words } else { &found.passage_texts };
    let mut by_document: BTreeMap<&DocumentId, f64> = BTreeMap::new();
    for (hit, document) in found.known_passages(hits) {
        let score = by_document.entry(&document.facts.id).or_insert(f64::NEG_INFINITY);
        *score = score.max(hit.score);
    }
    let mut documents: Vec<(DocumentId, f64)> =
        by_document.into_iter().map(|(id, score)| (id.clone(), score)).collect();
    documents.sort_by(|(a, left), (b, right)| right.total_cmp(left).then_with(|| a.cmp(b)));
    let confidence = documents.first().map_or(0.0, |(_, score)| *score);
    let passages = rank_passages(found, strategy == Strategy::Meaning, settings);
    Ranking { documents, passages, public, scope, confidence, model }
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
    /// Documents best first, without their sketches, and whether the question names one of them.
    fn documents(&self, found: &Found, hybrid: bool) -> (Vec<Ranked>, bool) {
        let mut pool: BTreeMap<&DocumentId, (Revision, Candidate)> = BTreeMap::new();
        let new = |document: &Document| (document.at, self.candidate(&document.facts));
        let signals: [(&[Near], Note); 4] = [
            (&found.words, |candidate, score| candidate.lexical = Some(score)),
            (&found.titles, |candidate, score| candidate.title = Some(score)),
            (&found.leads, |candidate, score| candidate.lead = Some(score)),
            (&found.named, |candidate, _| candidate.named = true),
        ];
        for (hits, note) in signals {
            for (near, document) in found.known(hits) {
                let (_, candidate) = pool.entry(&document.facts.id).or_insert_with(|| new(document));
                note(candidate, near.score);
            }
        }
        for (near, document) in found.known_passages(&found.passage_texts) {
            let (_, candidate) = pool.entry(&document.facts.id).or_insert_with(|| new(document));
            candidate.passage = Some(candidate.passage.map_or(near.score, |best| best.max(near.score)));
        }
        let (points, candidates): (Vec<(&DocumentId, Revision)>, Vec<Candidate>) =
            pool.into_iter().map(|(id, (at, candidate))| ((id, at), candidate)).unzip();
        let scores = fusion::scores(&candidates, hybrid, self.settings);
        let scored = |(((id, at), candidate), score): ((&(&DocumentId, Revision), &Candidate), f64)| Scored {
            document: ((*id).clone(), *at),
            score,
            named: candidate.named,
            sketch: Arc::default(),
        };
        let mut documents: Vec<Ranked> = points.iter().zip(&candidates).zip(scores).map(scored).collect();
        documents.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.document.0.cmp(&b.document.0)));
        let names = candidates.iter().any(|candidate| candidate.named && !candidate.doubted);
        (documents, names)
    }

    fn candidate(&self, document: &Facts) -> Candidate {
        let Self { asked, standings, now_ms, .. } = self;
        let is_asked_about = |name: &String| {
            EntityId::new("service_ids", name)
                .is_ok_and(|service| asked.services.contains(&service) || asked.question.names_service(&service))
        };
        Candidate {
            embedded: document.embedded,
            about_service: document.service_ids.iter().any(is_asked_about),
            answers_objective: asked.question.about_objectives && document.states_objective,
            fits_tier: asked.tier.is_some_and(|tier| document.tiers.contains(&u32::from(tier))),
            age_ms: Some(now_ms - document.review_ms),
            title_terms: Arc::clone(&document.title_terms),
            doubted: document.doubted,
            standing: standings.get(&(document.id.clone(), document.version)).copied().unwrap_or(0.0),
            ..Candidate::default()
        }
    }
}

/// Passages of each document, best first; equal scores in the order of the text.
fn rank_passages(found: &Found, hybrid: bool, settings: &Settings) -> BTreeMap<DocumentId, Vec<RankedPassage>> {
    let mut pool: BTreeMap<(&DocumentId, u32), (Revision, Candidate)> = BTreeMap::new();
    // Compared within a document only, whose passages have vectors all or none.
    let new = || Candidate { embedded: true, ..Candidate::default() };
    let signals: [(&[NearPassage], Note); 2] = [
        (&found.passage_words, |candidate, score| candidate.lexical = Some(score)),
        (&found.passage_texts, |candidate, score| candidate.passage = Some(score)),
    ];
    for (hits, note) in signals {
        for (near, document) in found.known_passages(hits) {
            let place = (&document.facts.id, near.ordinal);
            let (_, candidate) = pool.entry(place).or_insert_with(|| (near.passage, new()));
            note(candidate, near.score);
        }
    }
    let (places, candidates): (Vec<(&DocumentId, u32, Revision)>, Vec<Candidate>) =
        pool.into_iter().map(|((id, ordinal), (at, candidate))| ((id, ordinal, at), candidate)).unzip();
    let scores = fusion::scores(&candidates, hybrid, settings);
    let mut by_document: BTreeMap<DocumentId, Vec<RankedPassage>> = BTreeMap::new();
    for ((id, ordinal, at), score) in places.into_iter().zip(scores) {
        by_document.entry(id.clone()).or_default().push(RankedPassage { ordinal, at, score });
    }
    for passages in by_document.values_mut() {
        passages.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.ordinal.cmp(&b.ordinal)));
    }
    by_document
}
