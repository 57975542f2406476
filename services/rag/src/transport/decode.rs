//! Wire messages as words of the domain; whatever cannot be right is named.

use std::collections::BTreeSet;

use attain_proto::convert::{rejection, unix_millis};
use attain_proto::rag::v1 as wire;
use attain_proto::vocabulary::v1::Rejection;
use attain_vocabulary::{EntityId, InvalidValue, TenantId};

use crate::Error;
use crate::domain::about::{Source, Visibility};
use crate::domain::document::{DocumentId, Draft, Kind, Said, Sender, Written};
use crate::domain::query::Question;
use crate::domain::settings::Settings;
use crate::domain::standing::{Place, Rate, Rating};
use crate::search::{Asked, Strategy};
use crate::storage::Selection;

/// Most documents of one call.
const DOCUMENTS_MAX: usize = 200;
const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 500;
const LIMIT_DEFAULT: u32 = 5;
const LIMIT_MAX: u32 = 50;
/// Most services that a question may name beside its words.
const SERVICES_MAX: usize = 200;

/// A batch: what can be kept, and what cannot.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) drafts: Vec<Draft>,
    /// The place in the request of each of them.
    pub(super) places: Vec<usize>,
    pub(super) rejected: Vec<Rejection>,
}

/// Checks each document by itself.
pub(crate) fn documents(request: wire::PutDocumentsRequest, sender: Sender) -> Result<Batch, Error> {
    let count = request.documents.len();
    if count == 0 {
        return Err(InvalidValue::new("documents", "required", "at least one document is required").into());
    }
    if count > DOCUMENTS_MAX {
        let reason = format!("{count} documents; a call takes at most {DOCUMENTS_MAX}");
        return Err(InvalidValue::new("documents", "too_many", reason).into());
    }
    let (mut drafts, mut places, mut rejected, mut seen) = (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    for (index, document) in request.documents.iter().enumerate() {
        match draft(document, sender) {
            Ok(draft) if seen.insert(draft.id.clone()) => {
                drafts.push(draft);
                places.push(index);
            }
            Ok(_) => {
                let twice = InvalidValue::new("id", "duplicate", "an earlier document of the batch has the same name");
                rejected.push(rejection("documents", index, &twice));
            }
            Err(invalid) => rejected.push(rejection("documents", index, &invalid)),
        }
    }
    Ok(Batch { drafts, places, rejected })
}

/// Why a document of the batch could not be kept after all.
pub(super) fn refused(place: usize, invalid: &InvalidValue) -> Rejection {
    rejection("documents", place, invalid)
}

fn draft(document: &wire::Document, sender: Sender) -> Result<Draft, InvalidValue> {
    let written = Written {
        id: &document.id,
        kind: Kind::default(),
        title: &document.title,
        text: &document.text,
        service_ids: &document.service_ids,
    };
    let source = document.source.clone().unwrap_or_default();
    let said = Said {
        kind: kind("kind", document.kind)?,
        owner: document.owner.clone(),
        licence: document.licence.clone(),
        reviewed_ms: document.reviewed_time.as_ref().map(unix_millis),
        review_due_ms: document.review_due_time.as_ref().map(unix_millis),
        supersedes: document.supersedes.clone(),
        superseded_by: document.superseded_by.clone(),
        visibility: visibility(document.visibility)?,
        source: Source { uri: source.uri, revision: source.revision },
    };
    Draft::from_sender(written, said, sender)
}

fn visibility(number: i32) -> Result<Option<Visibility>, InvalidValue> {
    match wire::Visibility::try_from(number) {
        Ok(wire::Visibility::Unspecified) => Ok(None),
        Ok(wire::Visibility::Tenant) => Ok(Some(Visibility::Tenant)),
        Ok(wire::Visibility::Public) => Ok(Some(Visibility::Public)),
        Err(_) => Err(unknown("visibility", number)),
    }
}

/// A rating of a citation.
pub(super) fn rate(request: &wire::RateCitationRequest, by: &str) -> Result<Rate, InvalidValue> {
    let rating = match wire::Rating::try_from(request.rating) {
        Ok(wire::Rating::Helpful) => Rating::Helpful,
        Ok(wire::Rating::Unhelpful) => Rating::Unhelpful,
        Ok(wire::Rating::Wrong) => Rating::Wrong,
        Ok(wire::Rating::Unspecified) => {
            return Err(InvalidValue::new("rating", "required", "it is one of helpful, unhelpful and wrong"));
        }
        Err(_) => return Err(unknown("rating", request.rating)),
    };
    if request.document_version == 0 {
        return Err(InvalidValue::new("document_version", "required", "a citation is of one version, from 1"));
    }
    let place = Place {
        document: document_id(&request.document_id)?,
        version: request.document_version,
        start: request.start_offset,
        end: request.end_offset,
    };
    Rate::new(place, request.quote_sha256.clone(), rating, (&request.reason, &request.question), by.to_owned())
}

/// Which page of ratings: of which document, after which place, how many.
pub(super) fn ratings_page(
    request: &wire::ListCitationRatingsRequest,
) -> Result<(Option<DocumentId>, u64, u32), InvalidValue> {
    let document = Some(request.document_id.as_str()).filter(|id| !id.is_empty()).map(document_id).transpose()?;
    let after = match request.page_token.as_str() {
        "" => 0,
        token => token
            .parse()
            .map_err(|_| InvalidValue::new("page_token", "malformed", "it is the token that came with a page"))?,
    };
    Ok((document, after, bounded("page_size", request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?))
}

/// The name of one document.
pub(super) fn document_id(value: &str) -> Result<DocumentId, InvalidValue> {
    DocumentId::new("document_id", value)
}

/// Which page of which documents.
pub(super) fn selection(request: &wire::ListDocumentsRequest) -> Result<Selection, InvalidValue> {
    let service = Some(request.service_id.as_str()).filter(|id| !id.is_empty());
    let after = Some(request.page_token.as_str()).filter(|token| !token.is_empty());
    Ok(Selection {
        service: service.map(|id| EntityId::new("service_id", id)).transpose()?,
        kind: kind("kind", request.kind)?,
        after: after.map(|token| DocumentId::new("page_token", token)).transpose()?,
        prefix: match request.id_prefix.as_str() {
            "" => String::new(),
            prefix => DocumentId::new("id_prefix", prefix)?.to_string(),
        },
        limit: bounded("page_size", request.page_size, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)?,
    })
}

/// A question.
pub(super) fn asked(
    tenant: TenantId,
    request: &wire::SearchKnowledgeRequest,
    settings: &Settings,
) -> Result<Asked, InvalidValue> {
    if request.service_ids.len() > SERVICES_MAX {
        let reason = format!("{} services; at most {SERVICES_MAX} are taken", request.service_ids.len());
        return Err(InvalidValue::new("service_ids", "too_many", reason));
    }
    let service = |(index, id): (usize, &String)| EntityId::new(&format!("service_ids/{index}"), id);
    let kinds: Result<Vec<Option<Kind>>, InvalidValue> =
        request.kinds.iter().enumerate().map(|(index, number)| kind(&format!("kinds/{index}"), *number)).collect();
    Ok(Asked {
        tenant,
        question: Question::new(&request.query, settings)?,
        services: request.service_ids.iter().enumerate().map(service).collect::<Result<_, _>>()?,
        kinds: kinds?.into_iter().flatten().collect(),
        limit: bounded("limit", request.limit, LIMIT_DEFAULT, LIMIT_MAX)? as usize,
        strategy: strategy(request.strategy)?,
        include_unsure: request.include_unsure,
        tier: tier(request.tier)?,
        include_superseded: request.include_superseded,
    })
}

fn strategy(number: i32) -> Result<Strategy, InvalidValue> {
    match wire::SearchStrategy::try_from(number) {
        Ok(wire::SearchStrategy::Unspecified | wire::SearchStrategy::Hybrid) => Ok(Strategy::Hybrid),
        Ok(wire::SearchStrategy::LexicalOnly) => Ok(Strategy::Words),
        Ok(wire::SearchStrategy::DenseOnly) => Ok(Strategy::Meaning),
        Err(_) => {
            let reason = format!("{number} is no value that this version knows");
            Err(InvalidValue::new("strategy", "unknown_value", reason))
        }
    }
}

fn tier(number: u32) -> Result<Option<u8>, InvalidValue> {
    match number {
        0 => Ok(None),
        1..=4 => Ok(Some(number as u8)),
        _ => Err(InvalidValue::new("tier", "out_of_range", format!("{number} is outside 1 to 4"))),
    }
}

fn kind(field: &str, number: i32) -> Result<Option<Kind>, InvalidValue> {
    match wire::DocumentKind::try_from(number) {
        Ok(wire::DocumentKind::Unspecified) => Ok(None),
        Ok(wire::DocumentKind::Runbook) => Ok(Some(Kind::Runbook)),
        Ok(wire::DocumentKind::SloTemplate) => Ok(Some(Kind::SloTemplate)),
        Ok(wire::DocumentKind::Incident) => Ok(Some(Kind::Incident)),
        Ok(wire::DocumentKind::Lesson) => Ok(Some(Kind::Lesson)),
        Err(_) => Err(unknown(field, number)),
    }
}

fn unknown(field: &str, number: i32) -> InvalidValue {
    InvalidValue::new(field, "unknown_value", format!("{number} is no value that this version knows"))
}

/// A count within its range; 0 stands for the default.
pub(super) fn bounded(field: &str, value: u32, default: u32, max: u32) -> Result<u32, InvalidValue> {
    match value {
        0 => Ok(default),
        value if value <= max => Ok(value),
        value => Err(InvalidValue::new(field, "out_of_range", format!("{value} is outside 1 to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        Sender { is_mesh: false, publishes: false, may_approve: false, now_ms: 0 }
    }

    fn document(id: &str, text: &str, kind: i32) -> wire::Document {
        wire::Document { id: id.to_owned(), text: text.to_owned(), kind, ..Default::default() }
    }

    #[test]
    fn a_bad_document_does_not_cost_the_others() {
        let documents = vec![document("a", "x", 0), document("", "x", 0), document("b", "x", 9), document("a", "y", 3)];
        let batch = super::documents(wire::PutDocumentsRequest { documents }, sender()).expect("a batch");
        assert_eq!(batch.drafts.len(), 1);
        let told: Vec<(u32, &str, &str)> =
            batch.rejected.iter().map(|r| (r.index, r.pointer.as_str(), r.code.as_str())).collect();
        let expected = [
            (1, "/documents/1/id", "required"),
            (2, "/documents/2/kind", "unknown_value"),
            (3, "/documents/3/id", "duplicate"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_no_question_can_have_is_named() {
        let settings = Settings::shipped().expect("valid");
        let base = wire::SearchKnowledgeRequest { query: "why".into(), ..Default::default() };
        let cases = [
            ("query", wire::SearchKnowledgeRequest { query: " ".into(), ..base.clone() }),
            ("limit", wire::SearchKnowledgeRequest { limit: 51, ..base.clone() }),
            ("strategy", wire::SearchKnowledgeRequest { strategy: 9, ..base.clone() }),
            ("tier", wire::SearchKnowledgeRequest { tier: 5, ..base.clone() }),
            ("kinds/0", wire::SearchKnowledgeRequest { kinds: vec![7], ..base.clone() }),
            (
                "service_ids/1",
                wire::SearchKnowledgeRequest { service_ids: vec!["a".into(), "b c".into()], ..base.clone() },
            ),
        ];
        for (field, request) in cases {
            assert_eq!(asked(TenantId::default(), &request, &settings).expect_err(field).field, field);
        }
        let taken = asked(TenantId::default(), &base, &settings).expect("valid");
        assert_eq!((taken.limit, taken.kinds.len()), (5, 0));
    }

    #[test]
    fn a_page_is_bounded() {
        let request = |page_size| wire::ListDocumentsRequest { page_size, ..Default::default() };
        assert_eq!(selection(&request(0)).map(|s| s.limit), Ok(100));
        assert_eq!(selection(&request(501)).map_err(|e| e.field), Err("page_size".to_owned()));
    }
}
