//! Asks a service every question and reads each citation again out of the stored documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use attain_grounding::verify;
use attain_proto::rag::v1::{AnswerQuestionResponse, AnswerSentence, EvidenceStrength};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::check::{is_said_at_all, is_said_in_order};
use super::study::Study;
use crate::knowledge::{Corpus, OwnService, Query, Tenant, between, is_stored};
use crate::scores;

const TENANT: &str = "evals-grounding";

/// What of an answer was found to hold.
#[derive(Debug, Default)]
struct Judged {
    citations: usize,
    /// The quote stands between the offsets of the stored version, and its hash is right.
    valid_citations: usize,
    sentences: usize,
    /// Every place is valid, and the sentence is said there.
    supported_sentences: usize,
    /// Sentences with at least one valid place.
    cited_sentences: usize,
    /// Examples of what does not hold.
    wrong: Vec<String>,
}

/// A question with its answer, what of that was found to hold, and the milliseconds it took.
type Answered<'a> = (&'a Query, AnswerQuestionResponse, Judged, f64);

/// Keeps the corpus, asks every question, judges the answers.
pub(super) async fn run(
    corpus: &Corpus,
    queries: &[Query],
    study: &Study,
    rag: Option<&str>,
    attain: Option<&Path>,
) -> anyhow::Result<Value> {
    let own = match rag {
        Some(_) => None,
        None => Some(OwnService::start(attain, None).await?),
    };
    let address =
        rag.map(str::to_owned).or_else(|| own.as_ref().map(|own| own.address.clone())).context("an address")?;
    let mut tenant = Tenant::connect(&address, TENANT).await?;
    for (path, reason) in tenant.load(corpus, own.as_ref()).await?.refused {
        eprintln!("{path} was refused: {reason}");
    }
    let progress = ProgressBar::new(queries.len() as u64).with_message("asking");
    let mut outcome = Vec::new();
    for query in queries {
        let (answer, latency_ms) = tenant.answer(&query.query).await.with_context(|| query.id.clone())?;
        let judged = judge(&mut tenant, &answer, study).await?;
        outcome.push((query, answer, judged, latency_ms));
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(report(&outcome, corpus))
}

async fn judge(tenant: &mut Tenant, answer: &AnswerQuestionResponse, study: &Study) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    for sentence in &answer.sentences {
        let mut valid = 0;
        let mut cited = Vec::new();
        for citation in &sentence.citations {
            let document = tenant.kept(&citation.document_id, citation.document_version).await?;
            let text = &document.with_context(|| format!("{} is cited and not kept", citation.document_id))?.text;
            let place = (citation.start_offset, citation.end_offset);
            valid += usize::from(is_stored(&citation.quote, &citation.quote_sha256, place, text));
            cited.extend(between(text, place.0, place.1));
        }
        judged.citations += sentence.citations.len();
        judged.valid_citations += valid;
        judged.sentences += 1;
        judged.cited_sentences += usize::from(valid > 0);
        let supported = valid == sentence.citations.len() && valid > 0 && is_supported(sentence, &cited, study);
        judged.supported_sentences += usize::from(supported);
        if !supported {
            judged.wrong.push(format!("{} <- {}", sentence.text, cited.join(" | ")));
        }
    }
    Ok(judged)
}

/// By this crate's own reading and, beside it, by the verifier on texts that were read again.
fn is_supported(sentence: &AnswerSentence, cited: &[String], study: &Study) -> bool {
    let weigh = |stem: &str| study.weigh(stem);
    if sentence.table_row {
        let [header, row] = cited else { return false };
        let pairs = attain_grounding::table_row(header, row);
        return is_said_at_all(&sentence.text, &cited.join("\n"))
            && verify(&sentence.text, &pairs, &weigh).is_supported();
    }
    let whole = cited.join(" ");
    let in_order = sentence.rephrased || is_said_in_order(&sentence.text, &whole);
    in_order && verify(&sentence.text, &whole, &weigh).is_supported()
}

fn report(outcome: &[Answered<'_>], corpus: &Corpus) -> Value {
    let sum = |of: fn(&Judged) -> usize| outcome.iter().map(|(_, _, judged, _)| of(judged)).sum::<usize>();
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let answerable: Vec<_> = outcome.iter().filter(|(query, ..)| !query.relevant.is_empty()).collect();
    let answered: Vec<_> = answerable.iter().filter(|(_, answer, ..)| !answer.sentences.is_empty()).collect();
    let cites_relevant = answered.iter().filter(|(query, answer, ..)| {
        let relevant: BTreeSet<&str> = query.relevant.iter().map(|judgement| judgement.doc.as_str()).collect();
        let mut cited = answer.sentences.iter().flat_map(|sentence| &sentence.citations);
        cited.any(|citation| relevant.contains(corpus.path_of(&citation.document_id)))
    });
    let of_strength = |strength: EvidenceStrength, is_answerable: bool| {
        let of = |(query, answer, ..): &&Answered<'_>| {
            answer.strength() == strength && query.relevant.is_empty() != is_answerable
        };
        outcome.iter().filter(of).count()
    };
    let mut dropped: BTreeMap<&str, u32> = BTreeMap::new();
    for reason in outcome.iter().flat_map(|(_, answer, ..)| &answer.dropped) {
        *dropped.entry(&reason.reason).or_default() += reason.count;
    }
    let latencies: Vec<f64> = outcome.iter().map(|(.., latency_ms)| *latency_ms).collect();
    let wrong: Vec<&String> = outcome.iter().flat_map(|(_, _, judged, _)| &judged.wrong).take(10).collect();
    let strengths = |is_answerable| {
        json!({
            "answered": of_strength(EvidenceStrength::Answered, is_answerable),
            "weak": of_strength(EvidenceStrength::Weak, is_answerable),
            "abstained": of_strength(EvidenceStrength::Abstained, is_answerable),
        })
    };
    json!({
        "questions": outcome.len(),
        "sentences": sum(|judged| judged.sentences),
        "citations": sum(|judged| judged.citations),
        "offset_validity": share(sum(|judged| judged.valid_citations), sum(|judged| judged.citations)),
        "citation_precision": share(sum(|judged| judged.supported_sentences), sum(|judged| judged.sentences)),
        "citation_recall": share(sum(|judged| judged.cited_sentences), sum(|judged| judged.sentences)),
        "answers_citing_a_relevant_document": share(cites_relevant.count(), answered.len()),
        "answerable": strengths(true),
        "unanswerable": strengths(false),
        "dropped": dropped,
        "latency_ms_p50": scores::quantile(&latencies, 0.5),
        "latency_ms_p95": scores::quantile(&latencies, 0.95),
        "wrong": wrong,
    })
}
