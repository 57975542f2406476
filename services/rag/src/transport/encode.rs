//! Words of the domain as wire messages; this cannot fail.

use attain_proto::convert::timestamp;
use attain_proto::rag::v1 as wire;

use crate::domain::confidence::Strength;
use crate::domain::document::{Entry, Kind, Stored};
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
    wire::SearchKnowledgeResponse {
        citations: answer.citations.into_iter().map(citation).collect(),
        abstained: answer.abstained,
        confidence: answer.confidence,
        threshold: answer.threshold,
        nearest_titles: answer.nearest_titles,
        mode: mode(answer.model.as_deref()).into(),
        embedding_model: answer.model.unwrap_or_default(),
        strength: strength(answer.strength).into(),
        strong_threshold: answer.strong_threshold,
    }
}

/// How passages were found.
pub(super) fn mode(model: Option<&str>) -> wire::RetrievalMode {
    match model {
        Some(_) => wire::RetrievalMode::Hybrid,
        None => wire::RetrievalMode::LexicalOnly,
    }
}

/// How far what was found answers.
pub(super) fn strength(strength: Strength) -> wire::EvidenceStrength {
    match strength {
        Strength::Answered => wire::EvidenceStrength::Answered,
        Strength::Weak => wire::EvidenceStrength::Weak,
        Strength::Abstained => wire::EvidenceStrength::Abstained,
    }
}

/// A passage.
pub(super) fn citation(cited: Cited) -> wire::Citation {
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
