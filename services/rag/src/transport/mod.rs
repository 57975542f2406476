//! gRPC: decode, run the use case within the caller's deadline, encode.

pub(crate) mod answers;
pub(crate) mod decode;
mod encode;

use std::sync::Arc;

use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::knowledge_service_server::{KnowledgeService, KnowledgeServiceServer};
use attain_runtime::admission::Class;
use attain_runtime::context::{CallContext, RECOMMENDATION_CALLER, Role};
use attain_runtime::serve::call_timeout;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use crate::Error;
use crate::domain::document::Sender;
use crate::knowledge::Knowledge;

/// The service's full name, for health.
pub(crate) const SERVICE_NAME: &str = "attain.rag.v1.KnowledgeService";

/// Largest request: a batch of documents.
const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest answer: one document, or fifty passages.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The gRPC face of the knowledge.
pub(crate) struct Transport {
    knowledge: Arc<Knowledge>,
}

/// The service, ready to be routed.
pub(crate) fn server(knowledge: Arc<Knowledge>) -> KnowledgeServiceServer<Transport> {
    KnowledgeServiceServer::new(Transport { knowledge })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(ANSWER_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
}

/// What a path costs.
pub(crate) fn classify(path: &str) -> Class {
    match path.rsplit('/').next() {
        Some("PutDocuments") => Class::Ingest,
        Some("DeleteDocument" | "ReconcileIndex" | "RateCitation") => Class::Write,
        _ => Class::Read,
    }
}

#[tonic::async_trait]
impl KnowledgeService for Transport {
    async fn put_documents(
        &self,
        request: Request<wire::PutDocumentsRequest>,
    ) -> Result<Response<wire::PutDocumentsResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let batch = decode::documents(request.into_inner(), self.sender(&context))?;
        let kept = if batch.drafts.is_empty() {
            Vec::new()
        } else {
            within(&context, self.knowledge.put(context.tenant.clone(), batch.drafts)).await?
        };
        let (mut documents, mut rejected) = (Vec::with_capacity(kept.len()), batch.rejected);
        for (place, kept) in batch.places.into_iter().zip(kept) {
            match kept {
                Ok(entry) => documents.push(encode::entry(entry, None, self.knowledge.clock.now_ms())),
                Err(invalid) => rejected.push(decode::refused(place, &invalid)),
            }
        }
        rejected.sort_by_key(|rejection| rejection.index);
        Ok(Response::new(wire::PutDocumentsResponse { documents, rejected }))
    }

    async fn list_documents(
        &self,
        request: Request<wire::ListDocumentsRequest>,
    ) -> Result<Response<wire::ListDocumentsResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let selection = decode::selection(request.get_ref()).map_err(Error::from)?;
        let (listed, more) = within(&context, self.knowledge.list_readable(&context.tenant, selection)).await?;
        let next_page_token = listed.last().filter(|_| more).map(|(entry, _)| entry.id.to_string()).unwrap_or_default();
        let now_ms = self.knowledge.clock.now_ms();
        let documents =
            listed.into_iter().map(|(entry, publisher)| encode::entry(entry, publisher.as_ref(), now_ms)).collect();
        Ok(Response::new(wire::ListDocumentsResponse { documents, next_page_token }))
    }

    async fn get_document(
        &self,
        request: Request<wire::GetDocumentRequest>,
    ) -> Result<Response<wire::GetDocumentResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let id = decode::document_id(&request.get_ref().document_id).map_err(Error::from)?;
        let version = Some(request.get_ref().version).filter(|version| *version > 0);
        let (document, publisher) = within(&context, self.knowledge.get(&context.tenant, &id, version)).await?;
        let document = encode::stored(document, publisher.as_ref(), self.knowledge.clock.now_ms());
        Ok(Response::new(wire::GetDocumentResponse { document: Some(document) }))
    }

    async fn delete_document(
        &self,
        request: Request<wire::DeleteDocumentRequest>,
    ) -> Result<Response<wire::DeleteDocumentResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let id = decode::document_id(&request.get_ref().document_id).map_err(Error::from)?;
        let removed = within(&context, self.knowledge.delete(context.tenant.clone(), id)).await?;
        let removed_passage_count = u32::try_from(removed).unwrap_or(u32::MAX);
        Ok(Response::new(wire::DeleteDocumentResponse { removed_passage_count }))
    }

    async fn reconcile_index(
        &self,
        request: Request<wire::ReconcileIndexRequest>,
    ) -> Result<Response<wire::ReconcileIndexResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let (documents, done) = within(&context, self.knowledge.reconcile_tenant(context.tenant.clone())).await?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(wire::ReconcileIndexResponse {
            document_count: count(documents),
            indexed_count: count(done.indexed_count),
            removed_count: count(done.removed_count),
        }))
    }

    async fn rate_citation(
        &self,
        request: Request<wire::RateCitationRequest>,
    ) -> Result<Response<wire::RateCitationResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let rate = decode::rate(request.get_ref(), &context.caller).map_err(Error::from)?;
        let rated = within(&context, self.knowledge.rate(&context.tenant, rate)).await?;
        Ok(Response::new(wire::RateCitationResponse { rating: Some(encode::rated(rated)) }))
    }

    async fn list_citation_ratings(
        &self,
        request: Request<wire::ListCitationRatingsRequest>,
    ) -> Result<Response<wire::ListCitationRatingsResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let (document, after, page) = decode::ratings_page(request.get_ref()).map_err(Error::from)?;
        let listing = self.knowledge.list_ratings(&context.tenant, document.as_ref(), after, page);
        let (ratings, more) = within(&context, listing).await?;
        let last = ratings.last().filter(|_| more).map(|rated| rated.sequence.to_string());
        let (ratings, next_page_token) = (ratings.into_iter().map(encode::rated).collect(), last.unwrap_or_default());
        Ok(Response::new(wire::ListCitationRatingsResponse { ratings, next_page_token }))
    }

    async fn search_knowledge(
        &self,
        request: Request<wire::SearchKnowledgeRequest>,
    ) -> Result<Response<wire::SearchKnowledgeResponse>, Status> {
        let context = CallContext::read(request.metadata(), call_timeout())?;
        let asked =
            decode::asked(context.tenant.clone(), request.get_ref(), &self.knowledge.settings).map_err(Error::from)?;
        let answer = within(&context, self.knowledge.search(&asked)).await?;
        Ok(Response::new(encode::answer(answer, self.knowledge.clock.now_ms())))
    }
}

impl Transport {
    /// What the caller may say of documents.
    fn sender(&self, context: &CallContext) -> Sender {
        Sender {
            is_mesh: context.role.is_none() && context.caller == RECOMMENDATION_CALLER,
            publishes: self.knowledge.public_tenant.as_ref() == Some(&context.tenant),
            // A call without a role comes from inside the mesh, where roles are not asked for.
            may_approve: context.role.is_none() || context.may(Role::Approver),
            now_ms: self.knowledge.clock.now_ms(),
        }
    }
}

/// The result, or the end of the caller's patience.
async fn within<T>(context: &CallContext, work: impl Future<Output = Result<T, Error>>) -> Result<T, Status> {
    match tokio::time::timeout(context.remaining(), work).await {
        Ok(result) => result.map_err(Status::from),
        Err(_) => Err(Error::Deadline.into()),
    }
}
