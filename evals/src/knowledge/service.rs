//! The knowledge service as a client meets it: as one tenant sees it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use attain_members::Usage;
use attain_proto::rag::v1::answer_service_client::AnswerServiceClient;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::rag::v1::{
    AnswerQuestionRequest, AnswerQuestionResponse, DeleteDocumentRequest, Document, GetDocumentRequest,
    PutDocumentsRequest, SearchKnowledgeRequest, SearchKnowledgeResponse, SearchStrategy,
};
use indicatif::ProgressBar;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::corpus::Corpus;
use super::{OwnService, wait_for_vectors};

/// Every document has its vectors within this.
const EMBEDDED_WITHIN: Duration = Duration::from_secs(3600);
/// One call takes at most this; documents are embedded within the call.
const CALL_SECONDS_MAX: &str = "120S";
/// Documents of one call.
const DOCUMENTS_PER_CALL: usize = 4;
/// Times that a batch is handed in again after a deadline: what was begun is finished all the same.
const ATTEMPTS_MAX: usize = 10;

/// What keeping the corpus took.
pub(crate) struct Loading {
    pub(crate) seconds: f64,
    /// Processor time of the service, where it is the evaluation's own.
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) usage: Option<Usage>,
    /// Paths that were refused, with the reason.
    pub(crate) refused: Vec<(String, String)>,
}

/// The service as one tenant sees it.
pub(crate) struct Tenant {
    client: KnowledgeServiceClient<Channel>,
    answers: AnswerServiceClient<Channel>,
    name: MetadataValue<tonic::metadata::Ascii>,
    address: String,
    /// Documents read before: a version never changes.
    read: BTreeMap<(String, u32), Document>,
}

impl Tenant {
    pub(crate) async fn connect(address: &str, name: &'static str) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(address.to_owned())?.connect().await?;
        let client = KnowledgeServiceClient::new(channel.clone()).max_decoding_message_size(64 * 1024 * 1024);
        let answers = AnswerServiceClient::new(channel);
        Ok(Self {
            client,
            answers,
            name: MetadataValue::from_static(name),
            address: address.to_owned(),
            read: BTreeMap::new(),
        })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-attain-tenant", self.name.clone());
        request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(CALL_SECONDS_MAX));
        request
    }

    /// Keeps the whole corpus and waits until it can be found by every signal.
    pub(crate) async fn load(&mut self, corpus: &Corpus, own: Option<&OwnService>) -> anyhow::Result<Loading> {
        let before = own.map(OwnService::usage).transpose()?;
        let began = Instant::now();
        let progress = ProgressBar::new(corpus.files.len() as u64).with_message("indexing");
        let mut refused = Vec::new();
        for part in corpus.documents().chunks(DOCUMENTS_PER_CALL) {
            for (index, reason) in self.put(part.to_vec()).await? {
                refused.push((corpus.path_of(&part[index].id).to_owned(), reason));
            }
            progress.inc(part.len() as u64);
        }
        wait_for_vectors(&self.address, EMBEDDED_WITHIN).await?;
        progress.finish_and_clear();
        let usage = own.map(OwnService::usage).transpose()?;
        let cpu_seconds = usage.zip(before).map(|(after, before)| after.cpu_since(&before));
        Ok(Loading { seconds: began.elapsed().as_secs_f64(), cpu_seconds, usage, refused })
    }

    /// Keeps documents; which were refused, and why.
    pub(crate) async fn put(&mut self, documents: Vec<Document>) -> anyhow::Result<Vec<(usize, String)>> {
        let mut attempt = 0;
        let answer = loop {
            attempt += 1;
            let request = self.request(PutDocumentsRequest { documents: documents.clone() });
            match self.client.put_documents(request).await {
                Ok(answer) => break answer.into_inner(),
                Err(status)
                    if attempt < ATTEMPTS_MAX && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {}
                Err(status) => return Err(status).context("keeping documents"),
            }
        };
        Ok(answer.rejected.into_iter().map(|rejected| (rejected.index as usize, rejected.reason)).collect())
    }

    /// Asks a question, with the milliseconds that the answer took; `None` where the service cannot search this way.
    pub(crate) async fn search(
        &mut self,
        query: &str,
        strategy: SearchStrategy,
        limit: u32,
    ) -> anyhow::Result<Option<(SearchKnowledgeResponse, f64)>> {
        let search = SearchKnowledgeRequest {
            query: query.to_owned(),
            limit,
            strategy: strategy.into(),
            include_unsure: true,
            ..Default::default()
        };
        let request = self.request(search);
        let began = Instant::now();
        match self.client.search_knowledge(request).await {
            Ok(answer) => Ok(Some((answer.into_inner(), began.elapsed().as_secs_f64() * 1000.0))),
            Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
            Err(status) => Err(status).context(query.to_owned()),
        }
    }

    /// Asks for an answer in sentences, with the milliseconds that it took.
    pub(crate) async fn answer(&mut self, question: &str) -> anyhow::Result<(AnswerQuestionResponse, f64)> {
        let asked = self.request(AnswerQuestionRequest { question: question.to_owned(), ..Default::default() });
        let began = Instant::now();
        let answer = self.answers.answer_question(asked).await.with_context(|| question.to_owned())?;
        Ok((answer.into_inner(), began.elapsed().as_secs_f64() * 1000.0))
    }

    /// A kept document; `None` where this tenant has none of that name.
    pub(crate) async fn document(&mut self, document_id: &str, version: u32) -> anyhow::Result<Option<Document>> {
        let request = self.request(GetDocumentRequest { document_id: document_id.to_owned(), version });
        match self.client.get_document(request).await {
            Ok(answer) => Ok(answer.into_inner().document),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    /// The same of a version, read once.
    pub(crate) async fn kept(&mut self, document_id: &str, version: u32) -> anyhow::Result<Option<&Document>> {
        let place = (document_id.to_owned(), version);
        if !self.read.contains_key(&place)
            && let Some(document) = self.document(document_id, version).await?
        {
            self.read.insert(place.clone(), document);
        }
        Ok(self.read.get(&place))
    }

    /// Removes a document and returns how many passages it had.
    pub(crate) async fn remove(&mut self, document_id: &str) -> anyhow::Result<u64> {
        let request = self.request(DeleteDocumentRequest { document_id: document_id.to_owned() });
        match self.client.delete_document(request).await {
            Ok(answer) => Ok(u64::from(answer.into_inner().removed_passage_count)),
            Err(status) if status.code() == Code::NotFound => Ok(0),
            Err(status) => Err(status.into()),
        }
    }

    /// Removes the corpus and returns how many passages it had.
    pub(crate) async fn clear(&mut self, corpus: &Corpus) -> anyhow::Result<u64> {
        let mut passages = 0;
        for name in corpus.files.keys() {
            passages += self.remove(name).await?;
        }
        Ok(passages)
    }
}
