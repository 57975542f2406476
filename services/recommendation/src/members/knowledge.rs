use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_runtime::channel::MESSAGE_BYTES_MAX;
use attain_runtime::context::CallContext;
use attain_vocabulary::Tier;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::Refusal;
use crate::domain::evidence::Question;
use crate::domain::kept::{Citation, Evidence};

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
pub(crate) struct Knowledge(KnowledgeServiceClient<Channel>);

impl Knowledge {
    pub(crate) fn new(channel: Channel) -> Self {
        let client = KnowledgeServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip);
        Self(client)
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
        let response = self.0.clone().search_knowledge(context.request(request)).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        Ok(found(&question.query, response))
    }

    /// Documents whose names begin so, without their texts.
    pub(crate) async fn documents(&self, context: &CallContext, prefix: &str) -> Result<Vec<wire::Document>, Refusal> {
        let (mut documents, mut page_token) = (Vec::new(), String::new());
        loop {
            let id_prefix = prefix.to_owned();
            let request =
                wire::ListDocumentsRequest { id_prefix, page_size: PAGE_SIZE, page_token, ..Default::default() };
            let response = self.0.clone().list_documents(context.request(request)).await;
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
        let response = self.0.clone().put_documents(request).await;
        let response = response.map_err(|status| Refusal::from_status(&status))?.into_inner();
        Ok(response.rejected.into_iter().map(|rejected| format!("{}: {}", rejected.pointer, rejected.reason)).collect())
    }

    /// Removes a document.
    pub(crate) async fn delete(&self, context: &CallContext, id: &str) -> Result<(), Refusal> {
        let request = context.request(wire::DeleteDocumentRequest { document_id: id.to_owned() });
        let response = self.0.clone().delete_document(request).await;
        response.map(|_| ()).map_err(|status| Refusal::from_status(&status))
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
    Found { evidence: Evidence { query: query.to_owned(), citations, note }, complete: !lexical }
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
