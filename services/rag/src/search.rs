//! Answering a question: gather what each signal finds, fuse, decide whether it answers at all, then quote.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, TenantId};

use crate::Error;
use crate::domain::about::Visibility;
use crate::domain::confidence::{Evidence, Strength, confidence};
use crate::domain::document::{DocumentId, Kind, Stored, sha256_hex};
use crate::domain::fusion::{self, Candidate};
use crate::domain::passage::slice_chars;
use crate::domain::query::{Question, Word};
use crate::domain::settings::{Settings, Threshold};
use crate::domain::standing::Standings;
use crate::domain::terms::{Frequencies, TermId};
use crate::embedding::EmbeddedQuestion;
use crate::index::{DocumentHit, Part, PassageHit, Scope};
use crate::knowledge::Knowledge;

/// Titles that an abstention names.
pub(crate) const NEAREST_TITLES: usize = 3;
/// Documents that are looked at for them.
pub(crate) const NEAREST_LOOKED_AT: usize = 10;
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
    /// Look in documents whose place another has taken as well.
    pub(crate) include_superseded: bool,
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
}

/// Documents in the order of their scores, before anything is decided.
#[derive(Debug, Clone)]
pub(crate) struct Ranking {
    /// Best first; equal scores in the order of names.
    pub(crate) documents: Vec<(DocumentId, f64)>,
    /// Passages of each of them, best first.
    pub(crate) passages: BTreeMap<DocumentId, Vec<PassageHit>>,
    pub(crate) confidence: f64,
    pub(crate) model: Option<String>,
}

/// What the signals found.
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
        let ranking = self.rank(asked).await?;
        let cuts = self.cuts(&ranking);
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
        };
        if abstained {
            answer.nearest_titles = self.titles(asked, &ranking).await?;
        } else {
            answer.citations = self.cite(asked, ranking).await?;
        }
        Ok(answer)
    }

    /// The thresholds that hold for how a ranking came about.
    pub(crate) fn cuts(&self, ranking: &Ranking) -> &Threshold {
        if ranking.model.is_some() { &self.calibration.hybrid } else { &self.calibration.lexical }
    }

    /// Ranks the tenant's documents by a question.
    pub(crate) async fn rank(&self, asked: &Asked) -> Result<Ranking, Error> {
        let question = &asked.question;
        let (embedded, model) = self.embed(question).await;
        let frequencies = self.frequencies(asked).await?;
        let scope = self.scope(asked).await?;
        let mut found = self.gather(asked, &scope, &frequencies, embedded.as_ref()).await?;
        self.drop_unreadable(asked, &scope, &mut found).await?;
        let standings = self.standings(&asked.tenant).await?;
        let (documents, named) = rank_documents(asked, &found, &standings, embedded.is_some(), &self.settings);
        // Whether anything answers is not for doubted documents to say.
        let doubted = found.doubted();
        let believed = documents.iter().map(|(id, _)| id).filter(|id| !doubted.contains(id));
        let first: Vec<DocumentId> = believed.take(self.settings.confidence.coverage_documents).cloned().collect();
        let terms: BTreeSet<TermId> = question.words.iter().map(|word| word.term).collect();
        let covered = self.held_terms(asked, &first, &terms, &found).await?;
        let words = with_specificity(&question.words, embedded.as_ref());
        let evidence = Evidence {
            lead: embedded
                .is_some()
                .then(|| found.leads.iter().filter(|hit| !hit.doubted).map(|hit| hit.score).fold(0.0, f64::max)),
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
    async fn embed(&self, question: &Question) -> (Option<EmbeddedQuestion>, Option<String>) {
        let Some(embedder) = self.embeddings.usable() else { return (None, None) };
        let words = question.words.iter().map(|word| word.plain.clone()).collect();
        match embedder.question(question.sentence.clone(), words).await {
            Ok(embedded) => (Some(embedded), Some(embedder.name().to_owned())),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!(reason, "a question was answered by words only");
                self.embeddings.set_absent(&reason);
                (None, None)
            }
        }
    }

    async fn gather(
        &self,
        asked: &Asked,
        scope: &Scope,
        frequencies: &Frequencies,
        embedded: Option<&EmbeddedQuestion>,
    ) -> Result<Found, Error> {
        let limit = self.settings.candidates_max;
        let weights = asked.question.weights(frequencies);
        let index = &self.index;
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
        let (named, words, passage_words, (titles, leads, passage_texts)) = tokio::try_join!(
            index.documents_named(scope, &asked.question.names),
            index.documents_by_words(scope, &weights, limit),
            index.passages_by_words(scope, &weights, limit),
            by_meaning,
        )?;
        Ok(Found { named, words, titles, leads, passage_words, passage_texts })
    }

    async fn titles(&self, asked: &Asked, ranking: &Ranking) -> Result<Vec<String>, Error> {
        let mut titles = Vec::new();
        for (id, _) in ranking.documents.iter().take(NEAREST_LOOKED_AT) {
            // A title is told without its document around it, so a doubted one is not told at all.
            let document = self.readable(&asked.tenant, id, None).await?;
            titles.extend(document.filter(|document| !document.about.is_doubted()).map(|document| document.title));
            if titles.len() == NEAREST_TITLES {
                break;
            }
        }
        Ok(titles)
    }

    /// Quotes the best passages out of the stored text. What was removed or replaced since it was found is left out.
    pub(crate) async fn cite(&self, asked: &Asked, mut ranking: Ranking) -> Result<Vec<Cited>, Error> {
        let scope = self.scope(asked).await?;
        let first: Vec<DocumentId> = ranking.documents.iter().take(asked.limit).map(|(id, _)| id.clone()).collect();
        let unseen: Vec<DocumentId> = first.iter().filter(|id| !ranking.passages.contains_key(*id)).cloned().collect();
        for passage in self.index.first_passages(&scope, &unseen).await? {
            ranking.passages.entry(passage.document.clone()).or_default().push(passage);
        }
        let mut citations = Vec::with_capacity(asked.limit);
        for (id, score) in ranking.documents.into_iter().take(asked.limit) {
            let Some(passage) = ranking.passages.get(&id).and_then(|passages| passages.first()) else { continue };
            let Some(document) = self.readable(&asked.tenant, &id, Some(passage.version)).await? else { continue };
            citations.extend(quote(&document, passage, score));
        }
        Ok(citations)
    }
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
    })
}

fn with_specificity(words: &[Word], embedded: Option<&EmbeddedQuestion>) -> Vec<(Word, f64)> {
    let of = |place: usize| {
        embedded.and_then(|embedded| embedded.specificities.get(place).copied()).unwrap_or(UNKNOWN_SPECIFICITY)
    };
    words.iter().enumerate().map(|(place, word)| (word.clone(), of(place))).collect()
}

/// Notes what a signal says of a candidate.
type Note = fn(&mut Candidate, f64);

/// Documents best first, and whether the question names one of them.
fn rank_documents(
    asked: &Asked,
    found: &Found,
    standings: &Standings,
    hybrid: bool,
    settings: &Settings,
) -> (Vec<(DocumentId, f64)>, bool) {
    let standing = |id: &DocumentId, version| standings.get(&(id.clone(), version)).copied().unwrap_or(0.0);
    let mut pool: BTreeMap<&DocumentId, Candidate> = BTreeMap::new();
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
                standing: standing(&hit.id, hit.version),
                ..candidate(asked, hit.kind, &hit.service_ids, hit.embedded)
            };
            note(pool.entry(&hit.id).or_insert_with(new), hit.score);
        }
    }
    for hit in &found.passage_texts {
        let new = || Candidate {
            doubted: hit.doubted,
            standing: standing(&hit.document, hit.version),
            ..candidate(asked, hit.kind, &hit.service_ids, true)
        };
        let candidate = pool.entry(&hit.document).or_insert_with(new);
        candidate.passage = Some(candidate.passage.map_or(hit.score, |best| best.max(hit.score)));
    }
    let (ids, candidates): (Vec<&DocumentId>, Vec<Candidate>) = pool.into_iter().unzip();
    let scores = fusion::scores(&candidates, hybrid, settings);
    let mut documents: Vec<(DocumentId, f64)> = ids.into_iter().cloned().zip(scores).collect();
    documents.sort_by(|(a, left), (b, right)| right.total_cmp(left).then_with(|| a.cmp(b)));
    (documents, candidates.iter().any(|candidate| candidate.named && !candidate.doubted))
}

fn candidate(asked: &Asked, kind: Kind, service_ids: &BTreeSet<String>, embedded: bool) -> Candidate {
    let about = |name: &String| {
        EntityId::new("service_ids", name)
            .is_ok_and(|service| asked.services.contains(&service) || asked.question.names_service(&service))
    };
    Candidate {
        embedded,
        about_service: service_ids.iter().any(about),
        answers_objective: asked.question.about_objectives && kind == Kind::SloTemplate,
        ..Candidate::default()
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
