//! The RPC that answers in sentences.

use std::sync::Arc;

use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::answer_service_server::{AnswerService, AnswerServiceServer};
use attain_runtime::context::CallContext;
use attain_runtime::serve::call_timeout;
use attain_vocabulary::{InvalidValue, UnixMillis};
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::{ANSWER_BYTES_MAX, decode, encode, within};
use crate::Error;
use crate::answer::{Given, ModelUse, Said, Wanted};
use crate::domain::settings::Settings;
use crate::knowledge::Knowledge;
use crate::search::Cited;

/// The service's full name, for health.
pub(crate) const SERVICE_NAME: &str = "attain.rag.v1.AnswerService";

/// Largest question: two thousand characters and the names of services.
const QUESTION_BYTES_MAX: usize = 256 * 1024;
const SENTENCES_DEFAULT: u32 = 8;
const SENTENCES_MAX: u32 = 20;
/// Documents that sentences are chosen from.
const DOCUMENTS: u32 = 5;

/// The gRPC face of answers.
pub(crate) struct Answers {
    knowledge: Arc<Knowledge>,
}

/// The service, ready to be routed.
pub(crate) fn server(knowledge: Arc<Knowledge>) -> AnswerServiceServer<Answers> {
    AnswerServiceServer::new(Answers { knowledge })
        .max_decoding_message_size(QUESTION_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
}

#[tonic::async_trait]
impl AnswerService for Answers {
    async fn answer_question(
        &self,
        request: Request<wire::AnswerQuestionRequest>,
    ) -> Result<Response<wire::AnswerQuestionResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let wanted = wanted(&context, request.into_inner(), &self.knowledge.settings).map_err(Error::from)?;
        let given = within(&context, self.knowledge.answer(&wanted)).await?;
        Ok(Response::new(answer(given, self.knowledge.clock.now_ms())))
    }
}

fn wanted(
    context: &CallContext,
    request: wire::AnswerQuestionRequest,
    settings: &Settings,
) -> Result<Wanted, InvalidValue> {
    let rephrase = match wire::Phrasing::try_from(request.phrasing) {
        Ok(wire::Phrasing::Unspecified | wire::Phrasing::Deterministic) => false,
        Ok(wire::Phrasing::Rephrased) => true,
        Err(_) => {
            let reason = format!("{} is no value that this version knows", request.phrasing);
            return Err(InvalidValue::new("phrasing", "unknown_value", reason));
        }
    };
    let sentences_max = decode::bounded("limit", request.limit, SENTENCES_DEFAULT, SENTENCES_MAX)? as usize;
    let search = wire::SearchKnowledgeRequest {
        query: request.question,
        service_ids: request.service_ids,
        kinds: request.kinds,
        limit: DOCUMENTS,
        ..wire::SearchKnowledgeRequest::default()
    };
    let named_as_asked = |invalid: InvalidValue| match invalid.field.as_str() {
        "query" => InvalidValue { field: "question".to_owned(), ..invalid },
        _ => invalid,
    };
    let asked = decode::asked(context.tenant.clone(), &search, settings).map_err(named_as_asked)?;
    Ok(Wanted { asked, question: search.query, sentences_max, rephrase, deadline: context.deadline })
}

fn answer(given: Given, now_ms: UnixMillis) -> wire::AnswerQuestionResponse {
    let dropped_claim_count = given.dropped.values().map(|(count, _)| count).sum();
    let dropped = given.dropped.into_iter().map(|(reason, (count, detail))| wire::DroppedClaims {
        reason: reason.to_owned(),
        count,
        detail,
    });
    let nearest = given.nearest.into_iter().map(|(id, title)| wire::NearestTitle {
        document_id: id.to_string(),
        title,
        used: false,
    });
    wire::AnswerQuestionResponse {
        sentences: given.sentences.into_iter().map(sentence).collect(),
        strength: encode::strength(given.strength).into(),
        confidence: given.confidence,
        threshold: given.threshold,
        strong_threshold: given.strong_threshold,
        dropped: dropped.collect(),
        dropped_claim_count,
        nearest_titles: nearest.collect(),
        mode: encode::mode(given.model.as_deref()).into(),
        embedding_model: given.model.unwrap_or_default(),
        language_model: Some(language_model(given.language_model)),
        passages: given.passages.into_iter().map(|cited| encode::citation(cited, now_ms)).collect(),
    }
}

fn sentence(said: Said) -> wire::AnswerSentence {
    wire::AnswerSentence {
        text: said.text,
        citations: said.citations.into_iter().map(citation).collect(),
        rephrased: said.original.is_some(),
        original: said.original.unwrap_or_default(),
        quoted: said.is_quote,
        table_row: said.is_row,
    }
}

fn citation(cited: Cited) -> wire::SentenceCitation {
    wire::SentenceCitation {
        document_id: cited.document.to_string(),
        document_version: cited.version,
        title: cited.title,
        start_offset: cited.start,
        end_offset: cited.end,
        quote: cited.quote,
        quote_sha256: cited.quote_sha256,
        score: cited.score,
    }
}

fn language_model(usage: ModelUse) -> wire::LanguageModelUse {
    let refused =
        usage.refused.into_iter().map(|(reason, count)| wire::RefusedRephrasings { reason: reason.to_owned(), count });
    wire::LanguageModelUse {
        asked: usage.asked,
        used: usage.rephrased_count > 0,
        model: usage.model,
        reason: usage.reason,
        rephrased_count: usage.rephrased_count,
        refused: refused.collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use attain_vocabulary::TenantId;

    use super::*;

    #[test]
    fn what_no_question_can_have_is_named() {
        let context = CallContext::new(TenantId::default(), "test", Duration::from_secs(1));
        let settings = Settings::shipped().expect("valid");
        let base = wire::AnswerQuestionRequest { question: "why".into(), ..Default::default() };
        for (field, request) in [
            ("question", wire::AnswerQuestionRequest { question: " ".into(), ..base.clone() }),
            ("limit", wire::AnswerQuestionRequest { limit: 21, ..base.clone() }),
            ("kinds/0", wire::AnswerQuestionRequest { kinds: vec![7], ..base.clone() }),
            ("phrasing", wire::AnswerQuestionRequest { phrasing: 9, ..base.clone() }),
            ("service_ids/0", wire::AnswerQuestionRequest { service_ids: vec!["b c".into()], ..base.clone() }),
        ] {
            assert_eq!(wanted(&context, request, &settings).expect_err(field).field, field);
        }
        let taken = wanted(&context, base, &settings).expect("valid");
        assert_eq!((taken.sentences_max, taken.rephrase), (8, false));
    }
}
