//! The service as its callers meet it: over gRPC.

use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::answer_service_client::AnswerServiceClient;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::status::v1::{GetStatusRequest, GetStatusResponse};
use sha2::{Digest as _, Sha256};
use tonic::Status;
use tonic::transport::Channel;

use super::{LOOK_INTERVAL, PATIENCE, context};

/// Calls a service.
pub struct Caller {
    pub channel: Channel,
}

impl Caller {
    /// Of the service at an address.
    pub fn of(url: &str) -> Self {
        Self { channel: attain_runtime::channel::connect("test", url).unwrap() }
    }

    /// What it says of itself; `None` while it does not answer.
    pub async fn status(&self) -> Option<GetStatusResponse> {
        let mut client = StatusServiceClient::new(self.channel.clone());
        client.get_status(GetStatusRequest::default()).await.ok().map(tonic::Response::into_inner)
    }

    /// Asks until the status is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(&GetStatusResponse) -> bool) {
        let asking = async {
            while !self.status().await.is_some_and(|status| wanted(&status)) {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("as wanted in time");
    }

    /// Waits until it says so of its embedding model.
    pub async fn until_model_says(&self, part: &str) {
        self.wait_for(|status| {
            status.conditions.iter().any(|c| c.name == "embedding_model" && c.detail.contains(part))
        })
        .await;
    }

    /// Waits until every document has vectors of the model whose name begins so.
    pub async fn until_model(&self, name: &str) {
        self.wait_for(|status| {
            status.conditions.iter().any(|c| c.name == "embedding_model" && c.holds && c.detail.starts_with(name))
        })
        .await;
    }

    pub fn client(&self) -> KnowledgeServiceClient<Channel> {
        KnowledgeServiceClient::new(self.channel.clone())
    }

    pub async fn put(&self, tenant: &str, documents: Vec<wire::Document>) -> wire::PutDocumentsResponse {
        let request = context(tenant).request(wire::PutDocumentsRequest { documents });
        self.client().put_documents(request).await.unwrap().into_inner()
    }

    pub async fn delete(&self, tenant: &str, document_id: &str) -> Result<wire::DeleteDocumentResponse, Status> {
        let request = wire::DeleteDocumentRequest { document_id: document_id.to_owned() };
        self.client().delete_document(context(tenant).request(request)).await.map(tonic::Response::into_inner)
    }

    /// One version of a document, or its newest for 0.
    pub async fn document(&self, tenant: &str, document_id: &str, version: u32) -> Result<wire::Document, Status> {
        let request = wire::GetDocumentRequest { document_id: document_id.to_owned(), version };
        let answer = self.client().get_document(context(tenant).request(request)).await?;
        Ok(answer.into_inner().document.unwrap())
    }

    pub async fn list(&self, tenant: &str, request: wire::ListDocumentsRequest) -> wire::ListDocumentsResponse {
        self.client().list_documents(context(tenant).request(request)).await.unwrap().into_inner()
    }

    pub async fn search(&self, tenant: &str, query: &str) -> wire::SearchKnowledgeResponse {
        let request = wire::SearchKnowledgeRequest { query: query.to_owned(), ..Default::default() };
        self.search_by(tenant, request).await.unwrap()
    }

    pub async fn search_by(
        &self,
        tenant: &str,
        request: wire::SearchKnowledgeRequest,
    ) -> Result<wire::SearchKnowledgeResponse, Status> {
        self.client().search_knowledge(context(tenant).request(request)).await.map(tonic::Response::into_inner)
    }

    /// Documents cited for a question, sure or not, best first.
    pub async fn ids(&self, tenant: &str, query: &str) -> Vec<String> {
        let request = wire::SearchKnowledgeRequest {
            query: query.to_owned(),
            limit: 50,
            include_unsure: true,
            ..Default::default()
        };
        let answer = self.search_by(tenant, request).await.unwrap();
        answer.citations.into_iter().map(|citation| citation.document_id).collect()
    }

    pub async fn answer(
        &self,
        tenant: &str,
        request: wire::AnswerQuestionRequest,
    ) -> Result<wire::AnswerQuestionResponse, Status> {
        let mut client = AnswerServiceClient::new(self.channel.clone());
        client.answer_question(context(tenant).request(request)).await.map(tonic::Response::into_inner)
    }

    /// Holds citations against the stored documents, each of the version that it names.
    pub async fn check_citations<'a>(&self, tenant: &str, citations: impl IntoIterator<Item = &'a wire::Citation>) {
        for cited in citations {
            let stored = self.document(tenant, &cited.document_id, cited.document_version).await.unwrap();
            let (start, end) = (cited.start_offset as usize, cited.end_offset as usize);
            let there: String = stored.text.chars().skip(start).take(end - start).collect();
            assert!(!there.is_empty());
            assert_eq!(there, cited.quote);
            assert_eq!(cited.title, stored.title);
            let hash: String = Sha256::digest(&there).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, cited.quote_sha256);
        }
    }
}
