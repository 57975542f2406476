//! Words of the domain as wire messages; this cannot fail.

use attain_proto::convert::timestamp;
use attain_proto::rag::v1 as wire;
use attain_vocabulary::{TenantId, UnixMillis};

use crate::domain::about::{About, Visibility};
use crate::domain::confidence::Strength;
use crate::domain::document::{Entry, Kind, Stored};
use crate::domain::instructions::{self, Finding};
use crate::domain::standing::{Place, Rate, Rated, Rating};
use crate::reranking::Reranking;
use crate::search::{Answer, Cited};

/// A document with its text.
pub(super) fn stored(stored: Stored, publisher: Option<&TenantId>, now_ms: UnixMillis) -> wire::Document {
    let text = stored.text.clone();
    wire::Document { text, ..entry(Entry::from(stored), publisher, now_ms) }
}

/// A document without its text, and whose it is where it is another tenant's.
pub(super) fn entry(entry: Entry, publisher: Option<&TenantId>, now_ms: UnixMillis) -> wire::Document {
    let doubted = entry.about.is_doubted();
    let review_is_due = entry.about.review_is_due(now_ms);
    let About {
        owner,
        licence,
        reviewed_ms,
        review_due_ms,
        supersedes,
        superseded_by,
        visibility: visible,
        source,
        findings,
        hidden_count,
        redacted_count,
        objectives,
    } = entry.about;
    let has_source = !source.uri.is_empty() || !source.revision.is_empty();
    wire::Document {
        owner,
        licence,
        reviewed_time: reviewed_ms.map(timestamp),
        review_due_time: review_due_ms.map(timestamp),
        supersedes: supersedes.iter().map(ToString::to_string).collect(),
        superseded_by: superseded_by.map(|by| by.to_string()).unwrap_or_default(),
        visibility: visibility(visible).into(),
        source: has_source.then_some(wire::DocumentSource { uri: source.uri, revision: source.revision }),
        trust: trust(doubted).into(),
        findings: findings.into_iter().map(finding).collect(),
        hidden_count,
        redacted_count,
        objectives,
        id: entry.id.to_string(),
        kind: kind(entry.kind).into(),
        title: entry.title,
        text: String::new(),
        service_ids: entry.service_ids.into_iter().map(String::from).collect(),
        version: entry.version,
        text_sha256: entry.text_sha256,
        update_time: Some(timestamp(entry.update_ms)),
        publisher: publisher.map(ToString::to_string).unwrap_or_default(),
        review_is_due,
    }
}

/// Passages, or the statement that nothing answers.
pub(super) fn answer(answer: Answer, now_ms: UnixMillis) -> wire::SearchKnowledgeResponse {
    let (reranking, reranking_model) = match answer.reranking {
        Reranking::Off => (wire::Reranking::Off, String::new()),
        Reranking::Applied(model) => (wire::Reranking::Applied, model),
        Reranking::TimedOut => (wire::Reranking::TimedOut, String::new()),
        Reranking::Failed => (wire::Reranking::Failed, String::new()),
    };
    wire::SearchKnowledgeResponse {
        citations: answer.citations.into_iter().map(|cited| citation(cited, now_ms)).collect(),
        abstained: answer.abstained,
        confidence: answer.confidence,
        threshold: answer.threshold,
        nearest_titles: answer.nearest_titles,
        mode: mode(answer.model.as_deref()).into(),
        embedding_model: answer.model.unwrap_or_default(),
        reranking: reranking.into(),
        reranking_model,
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

/// A passage, as it is now.
pub(super) fn citation(cited: Cited, now_ms: UnixMillis) -> wire::Citation {
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
        trust: trust(cited.doubted).into(),
        visibility: visibility(cited.visibility).into(),
        review_is_due: cited.review_due_ms.is_some_and(|due_ms| due_ms <= now_ms),
    }
}

fn kind(kind: Kind) -> wire::DocumentKind {
    match kind {
        Kind::Runbook => wire::DocumentKind::Runbook,
        Kind::SloTemplate => wire::DocumentKind::SloTemplate,
        Kind::Incident => wire::DocumentKind::Incident,
        Kind::Lesson => wire::DocumentKind::Lesson,
    }
}

fn visibility(visibility: Visibility) -> wire::Visibility {
    match visibility {
        Visibility::Tenant => wire::Visibility::Tenant,
        Visibility::Public => wire::Visibility::Public,
    }
}

fn trust(doubted: bool) -> wire::Trust {
    if doubted { wire::Trust::Lowered } else { wire::Trust::Normal }
}

fn finding(finding: Finding) -> wire::Finding {
    let reason = instructions::reason(&finding.code).to_owned();
    wire::Finding { code: finding.code, reason, line: finding.line }
}

/// What somebody said of a citation.
pub(super) fn rated(rated: Rated) -> wire::CitationRating {
    let Rated { sequence, rate, time_ms, entry_sha256 } = rated;
    let Rate { place: Place { document, version, start, end }, quote_sha256, rating, reason, question_sha256, by } =
        rate;
    let rating = match rating {
        Rating::Helpful => wire::Rating::Helpful,
        Rating::Unhelpful => wire::Rating::Unhelpful,
        Rating::Wrong => wire::Rating::Wrong,
    };
    wire::CitationRating {
        sequence,
        document_id: document.to_string(),
        document_version: version,
        start_offset: start,
        end_offset: end,
        quote_sha256,
        rating: rating.into(),
        reason,
        question_sha256,
        by,
        time: Some(timestamp(time_ms)),
        entry_sha256,
    }
}
