//! Answering in sentences: find documents, cut them into claims, choose and check, have them reworded where that is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use attain_grounding::{Claim, Composed, Form, Sentence, Source, compose, cut, stems, verify_rephrasing};

use crate::Error;
use crate::domain::confidence::Strength;
use crate::domain::document::{DocumentId, Stored, sha256_hex};
use crate::domain::hidden;
use crate::domain::passage::slice_chars;
use crate::domain::terms::{Frequencies, TermId, term_id};
use crate::knowledge::Knowledge;
use crate::quoting::{Quoted, quote};
use crate::search::{Asked, Cited};

/// Passages of one document that sentences are chosen from.
const PASSAGES_MAX: usize = 3;

/// A question, how long its answer may be, and whether a language model may word it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) asked: Asked,
    /// The question as it was put.
    pub(crate) question: String,
    pub(crate) sentences_max: usize,
    pub(crate) rephrase: bool,
    /// When the answer is of no more use.
    pub(crate) deadline: Instant,
}

/// An answer in sentences.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Given {
    pub(crate) sentences: Vec<Said>,
    pub(crate) strength: Strength,
    pub(crate) confidence: f64,
    pub(crate) threshold: f64,
    pub(crate) strong_threshold: f64,
    /// Claims that did not pass, by check: how many, and what the first failed on.
    pub(crate) dropped: BTreeMap<&'static str, (u32, String)>,
    pub(crate) nearest: Vec<(DocumentId, String)>,
    pub(crate) model: Option<String>,
    pub(crate) language_model: ModelUse,
    pub(crate) passages: Vec<Cited>,
}

/// A sentence with where it is said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) text: String,
    /// The sentence that was reworded.
    pub(crate) original: Option<String>,
    pub(crate) citations: Vec<Cited>,
    pub(crate) is_quote: bool,
    pub(crate) is_row: bool,
}

/// What a language model had to do with an answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelUse {
    pub(crate) asked: bool,
    pub(crate) model: String,
    pub(crate) reason: String,
    pub(crate) rephrased_count: u32,
    pub(crate) refused: BTreeMap<&'static str, u32>,
}

/// A document read for an answer.
struct Read {
    document: Stored,
    claims: Vec<Claim>,
    passages: Vec<Range<usize>>,
}

impl Knowledge {
    /// Answers a question in sentences, or abstains.
    pub(crate) async fn answer(&self, wanted: &Wanted) -> Result<Given, Error> {
        self.check_level()?;
        let result = self.answer_now(wanted).await;
        if matches!(result, Err(Error::Index(_))) {
            // A server that lost its data gets it back.
            self.wake();
        }
        result
    }

    async fn answer_now(&self, wanted: &Wanted) -> Result<Given, Error> {
        let asked = &wanted.asked;
        let serving = self.serving();
        let ranking = self.rank(&serving, asked).await?;
        let cuts = self.cuts(asked, &ranking);
        let strength = cuts.strength(ranking.confidence, ranking.documents.is_empty());
        let mut given = Given {
            sentences: Vec::new(),
            strength,
            confidence: ranking.confidence,
            threshold: cuts.threshold,
            strong_threshold: cuts.strong_threshold,
            dropped: BTreeMap::new(),
            nearest: Vec::new(),
            model: ranking.model.clone(),
            language_model: ModelUse::default(),
            passages: Vec::new(),
        };
        if strength == Strength::Abstained {
            given.nearest = self.nearest(asked, &ranking).await?;
            given.language_model = self.unasked(wanted, "there was nothing to word");
            return Ok(given);
        }
        let quoted = self.quote_best(&serving, asked, &ranking, (asked.limit, PASSAGES_MAX)).await?;
        given.passages = quoted.iter().map(|quoted| quoted.cited.clone()).collect();
        let read = Arc::new(read(quoted, &mut given).await?);
        let frequencies = self.frequencies_of(asked, &[&wanted.question]).await?;
        let composed = self.composed(wanted, &read, frequencies).await?;
        for dropped in &composed.dropped {
            given.drop(dropped.failure.check.as_str(), &dropped.failure.detail);
        }
        given.sentences = composed.sentences.iter().map(|sentence| said(sentence, &read)).collect();
        given.language_model = self.reworded(wanted, &composed, &mut given.sentences).await?;
        Ok(given)
    }

    /// How frequent the words of these texts are in the readable documents.
    async fn frequencies_of(&self, asked: &Asked, texts: &[&str]) -> Result<Frequencies, Error> {
        let terms: BTreeSet<TermId> = texts.iter().flat_map(|text| stems(text)).map(|stem| term_id(&stem)).collect();
        self.frequencies(asked, &terms).await
    }

    async fn composed(
        &self,
        wanted: &Wanted,
        read: &Arc<Vec<Read>>,
        frequencies: Frequencies,
    ) -> Result<Composed, Error> {
        let (question, sentences_max, read) = (wanted.question.clone(), wanted.sentences_max, Arc::clone(read));
        let composing = tokio::task::spawn_blocking(move || {
            let sources: Vec<Source<'_>> = read
                .iter()
                .map(|read| Source { title: &read.document.title, claims: &read.claims, passages: &read.passages })
                .collect();
            compose(&question, &sources, &|stem| frequencies.idf(term_id(stem)), sentences_max)
        });
        Ok(composing.await?)
    }

    fn unasked(&self, wanted: &Wanted, why: &str) -> ModelUse {
        let model = self.language_model.as_ref().map(|model| model.name().to_owned()).unwrap_or_default();
        let reason = match (wanted.rephrase, model.is_empty()) {
            (false, _) => "rephrasing was not asked for",
            (true, true) => "no language model is configured",
            (true, false) => why,
        };
        ModelUse { model, reason: reason.to_owned(), ..ModelUse::default() }
    }

    /// Has the sentences reworded where that was asked for. Whatever does not pass leaves the sentence as it is.
    async fn reworded(&self, wanted: &Wanted, composed: &Composed, sentences: &mut [Said]) -> Result<ModelUse, Error> {
        let places: Vec<usize> = (0..sentences.len()).filter(|place| !sentences[*place].is_quote).collect();
        let Some(model) = self.language_model.as_ref().filter(|_| wanted.rephrase && !places.is_empty()) else {
            return Ok(self.unasked(wanted, "there was nothing to word"));
        };
        let originals: Vec<&str> = places.iter().map(|place| sentences[*place].text.as_str()).collect();
        let mut usage = ModelUse { asked: true, model: model.name().to_owned(), ..ModelUse::default() };
        let reworded = match model.reword(&originals, wanted.deadline, &self.clock).await {
            Ok(reworded) => reworded,
            Err(why) => {
                tracing::warn!(reason = %why, "a language model was not used");
                usage.asked = why.was_asked();
                usage.reason = why.to_string();
                return Ok(usage);
            }
        };
        let texts: Vec<&str> = originals.iter().copied().chain(reworded.iter().map(String::as_str)).collect();
        let frequencies = self.frequencies_of(&wanted.asked, &texts).await?;
        let weigh = |stem: &str| frequencies.idf(term_id(stem));
        for (place, new) in places.into_iter().zip(reworded) {
            let old = sentences[place].text.clone();
            match checked(&new, &old, &composed.sentences[place], &weigh) {
                Ok(()) if new == old => {}
                Ok(()) => {
                    usage.rephrased_count += 1;
                    sentences[place].original = Some(old);
                    sentences[place].text = new;
                }
                Err(reason) => *usage.refused.entry(reason).or_default() += 1,
            }
        }
        if usage.rephrased_count == 0 {
            usage.reason = "nothing that it wrote differs and passes the checks".to_owned();
        }
        Ok(usage)
    }
}

impl Given {
    fn drop(&mut self, check: &'static str, detail: &str) {
        let (count, _) = self.dropped.entry(check).or_insert_with(|| (0, detail.to_owned()));
        *count += 1;
    }
}

/// The quoted documents with their claims; what the index knows in another version than the store is left out and counted.
async fn read(quoted: Vec<Quoted>, given: &mut Given) -> Result<Vec<Read>, Error> {
    let mut read = Vec::new();
    for Quoted { cited, document, passages: best } in quoted {
        if document.about.is_doubted() {
            // A sentence is told without its document around it, so nothing is told of one that speaks to machines.
            given.drop("doubted", document.id.as_str());
            continue;
        }
        let mut passages: Vec<Range<usize>> = Vec::new();
        for placed in best {
            let of_this_version = placed.filter(|placed| placed.version == document.version);
            match of_this_version.and_then(|placed| quote(&document, &placed, cited.score)) {
                Some(found) => passages.push(found.start as usize..found.end as usize),
                None => given.drop("changed", document.id.as_str()),
            }
        }
        if passages.is_empty() {
            passages.push(cited.start as usize..cited.end as usize);
        }
        read.push(Read { document, claims: Vec::new(), passages });
    }
    let cutting = tokio::task::spawn_blocking(move || {
        for read in &mut read {
            let form = if read.document.id.is_yaml() { Form::Yaml } else { Form::Markdown };
            read.claims = cut(&read.document.text, form);
        }
        read
    });
    Ok(cutting.await?)
}

/// Why a rephrasing is not used, in a word.
fn checked(new: &str, old: &str, sentence: &Sentence, weigh: &dyn Fn(&str) -> f64) -> Result<(), &'static str> {
    if hidden::strip(new) != (new.to_owned(), 0) || attain_redaction::redact(new).1 > attain_redaction::redact(old).1 {
        return Err("hidden");
    }
    verify_rephrasing(new, old, &sentence.evidence, weigh).map_err(|fault| fault.as_str())
}

fn said(sentence: &Sentence, read: &[Read]) -> Said {
    let document = &read[sentence.source].document;
    let cited = |span: &Range<usize>| {
        let quote = slice_chars(&document.text, span.clone());
        Cited {
            document: document.id.clone(),
            version: document.version,
            title: document.title.clone(),
            kind: document.kind,
            start: u32::try_from(span.start).unwrap_or(u32::MAX),
            end: u32::try_from(span.end).unwrap_or(u32::MAX),
            quote: quote.to_owned(),
            quote_sha256: sha256_hex(quote.as_bytes()),
            score: sentence.score,
            headings: Vec::new(),
            doubted: document.about.is_doubted(),
            visibility: document.about.visibility,
            review_due_ms: document.about.review_due_ms,
        }
    };
    Said {
        text: sentence.text.clone(),
        original: None,
        citations: sentence.spans.iter().map(cited).collect(),
        is_quote: sentence.is_quote,
        is_row: sentence.is_row,
    }
}
