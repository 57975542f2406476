use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::answer_service_client::AnswerServiceClient;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use attain_vocabulary::Tier;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::Refusal;
use crate::domain::evidence::Question;
use crate::domain::kept::{Citation, Evidence, Place, Sentence};

/// Sentences of evidence that a recommendation carries at most.
const SENTENCES_MAX: u32 = 6;

/// Documents that are listed at a time.
const PAGE_SIZE: u32 = 500;

/// What the knowledge service said.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) evidence: Evidence,
    /// Whether the search used all that it has; by words only, another search may find more once a model is loaded.
    pub(crate) complete: bool,
}

/// Knowledge.
#[derive(Debug, Clone)]
pub(crate) struct Knowledge {
    knowledge: KnowledgeServiceClient<Channel>,
    answers: AnswerServiceClient<Channel>,
}

impl Knowledge {
    pub(crate) fn new(channel: Channel) -> Self {
        let answers = AnswerServiceClient::new(channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        let knowledge = KnowledgeServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        Self { knowledge, answers }
    }

    /// Searches for passages.
    pub(crate) async fn search(
        &self,
        context: &CallContext,
        question: &Question,
        limit: u32,
    ) -> Result<Found, Refusal> {
        let request = wire::SearchKnowledgeRequest {
            query: question.query.clone(),
            service_ids: question.services.iter().map(ToString::to_string).collect(),
            kinds: Vec::new(),
            limit,
            tier: tier_number(question.tier),
            ..Default::default()
        };
        let asked = wire::AnswerQuestionRequest {
            question: request.query.clone(),
            service_ids: request.service_ids.clone(),
            limit: SENTENCES_MAX,
            ..Default::default()
        };
        let (mut knowledge, mut answers) = (self.knowledge.clone(), self.answers.clone());
        let (response, answer) = futures::join!(
            knowledge.search_knowledge(context.request(request)),
            answers.answer_question(context.request(asked))
        );
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        let mut found = found(&question.query, response);
        match answer {
            Ok(answer) => found.add(answer.into_inner()),
            // Passages without sentences are worth having; the next reading asks again.
            Err(_) => found.complete = false,
        }
        Ok(found)
    }

    /// Documents whose names begin so, without their texts.
    pub(crate) async fn documents(&self, context: &CallContext, prefix: &str) -> Result<Vec<wire::Document>, Refusal> {
        let (mut documents, mut page_token) = (Vec::new(), String::new());
        loop {
            let id_prefix = prefix.to_owned();
            let request =
                wire::ListDocumentsRequest { id_prefix, page_size: PAGE_SIZE, page_token, ..Default::default() };
            let response = self.knowledge.clone().list_documents(context.request(request)).await;
            let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
            documents.extend(response.documents);
            page_token = response.next_page_token;
            if page_token.is_empty() {
                return Ok(documents);
            }
        }
    }

    /// Keeps documents; why some of them were refused.
    pub(crate) async fn put(
        &self,
        context: &CallContext,
        documents: Vec<wire::Document>,
    ) -> Result<Vec<String>, Refusal> {
        let request = context.request(wire::PutDocumentsRequest { documents });
        let response = self.knowledge.clone().put_documents(request).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        Ok(response.rejected.into_iter().map(|rejected| format!("{}: {}", rejected.pointer, rejected.reason)).collect())
    }

    /// Removes a document.
    pub(crate) async fn delete(&self, context: &CallContext, id: &str) -> Result<(), Refusal> {
        let request = context.request(wire::DeleteDocumentRequest { document_id: id.to_owned() });
        let response = self.knowledge.clone().delete_document(request).await;
        response.map(|_| ()).map_err(|status| Refusal::from_status(&status))
    }
}

impl Found {
    /// Adds what the documents say in sentences, where passages were found at all.
    fn add(&mut self, answer: wire::AnswerQuestionResponse) {
        if !self.evidence.citations.is_empty() {
            self.evidence.sentences = answer.sentences.into_iter().map(sentence).collect();
        }
    }
}

fn sentence(sentence: wire::AnswerSentence) -> Sentence {
    let place = |cited: wire::SentenceCitation| Place {
        document_id: cited.document_id,
        document_version: cited.document_version,
        title: cited.title,
        start_offset: cited.start_offset,
        end_offset: cited.end_offset,
        quote: cited.quote,
        quote_sha256: cited.quote_sha256,
        score: cited.score,
    };
    Sentence {
        text: sentence.text,
        places: sentence.citations.into_iter().map(place).collect(),
        quoted: sentence.quoted,
        table_row: sentence.table_row,
    }
}

fn tier_number(tier: Tier) -> u32 {
    match tier {
        Tier::One => 1,
        Tier::Two => 2,
        Tier::Three => 3,
        Tier::Four => 4,
    }
}

fn found(query: &str, response: wire::SearchKnowledgeResponse) -> Found {
    let lexical = response.mode() == wire::RetrievalMode::LexicalOnly;
    let strength = response.strength();
    let nothing = response.abstained || response.citations.is_empty();
    let citations = if nothing { Vec::new() } else { response.citations.into_iter().map(citation).collect() };
    let mut note = String::new();
    if nothing {
        note.push_str("No runbook, template or incident kept bears on the risks named.");
    }
    if lexical {
        let space = if note.is_empty() { "" } else { " " };
        note.push_str(&format!("{space}The search was by words only: no embedding model is loaded."));
    }
    if !nothing && strength == wire::EvidenceStrength::Weak {
        let space = if note.is_empty() { "" } else { " " };
        note.push_str(&format!("{space}What was found is weak evidence."));
    }
    let evidence =
        Evidence { query: query.to_owned(), citations, note, strength: strength.into(), sentences: Vec::new() };
    Found { evidence, complete: !lexical }
}

fn citation(citation: wire::Citation) -> Citation {
    Citation {
        document_id: citation.document_id,
        document_version: citation.document_version,
        title: citation.title,
        kind: citation.kind,
        start_offset: citation.start_offset,
        end_offset: citation.end_offset,
        quote: citation.quote,
        quote_sha256: citation.quote_sha256,
        score: citation.score,
        headings: citation.headings,
        trust: citation.trust,
        visibility: citation.visibility,
    }
}
