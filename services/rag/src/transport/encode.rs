//! Words of the domain as wire messages; this cannot fail.

use attain_proto::convert::timestamp;
use attain_proto::rag::v1 as wire;

use crate::domain::document::{Entry, Kind, Stored};
use crate::reranking::Reranking;
use crate::search::{Answer, Cited};

/// A document with its text.
pub(super) fn stored(stored: Stored) -> wire::Document {
    let text = stored.text.clone();
    wire::Document { text, ..entry(Entry::from(stored)) }
}

/// A document without its text.
pub(super) fn entry(entry: Entry) -> wire::Document {
    wire::Document {
        id: entry.id.to_string(),
        kind: kind(entry.kind).into(),
        title: entry.title,
        text: String::new(),
        service_ids: entry.service_ids.into_iter().map(String::from).collect(),
        version: entry.version,
        text_sha256: entry.text_sha256,
        update_time: Some(timestamp(entry.update_ms)),
    }
}

/// Passages, or the statement that nothing answers.
pub(super) fn answer(answer: Answer) -> wire::SearchKnowledgeResponse {
    let mode = match &answer.model {
        Some(_) => wire::RetrievalMode::Hybrid,
        None => wire::RetrievalMode::LexicalOnly,
    };
    let (reranking, reranking_model) = match answer.reranking {
        Reranking::Off => (wire::Reranking::Off, String::new()),
        Reranking::Applied(model) => (wire::Reranking::Applied, model),
        Reranking::TimedOut => (wire::Reranking::TimedOut, String::new()),
        Reranking::Failed => (wire::Reranking::Failed, String::new()),
    };
    wire::SearchKnowledgeResponse {
        citations: answer.citations.into_iter().map(citation).collect(),
        abstained: answer.abstained,
        confidence: answer.confidence,
        threshold: answer.threshold,
        nearest_titles: answer.nearest_titles,
        mode: mode.into(),
        embedding_model: answer.model.unwrap_or_default(),
        reranking: reranking.into(),
        reranking_model,
    }
}

fn citation(cited: Cited) -> wire::Citation {
    wire::Citation {
        document_id: cited.document.to_string(),
        document_version: cited.version,
        title: cited.title,
        kind: kind(cited.kind).into(),
        start_offset: cited.start,
        end_offset: cited.end,
        quote: cited.quote,
        quote_sha256: cited.quote_sha256,
        score: cited.score,
        headings: cited.headings,
    }
}

fn kind(kind: Kind) -> wire::DocumentKind {
    match kind {
        Kind::Runbook => wire::DocumentKind::Runbook,
        Kind::SloTemplate => wire::DocumentKind::SloTemplate,
        Kind::Incident => wire::DocumentKind::Incident,
    }
}
