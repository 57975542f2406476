//! A service of its own with the demo's runbooks in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::answer_service_client::AnswerServiceClient;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_rag::{Config, LanguageModelConfig};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

const NOW_MS: i64 = 1_796_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Finds the runbook on errors of the payment provider.
pub(crate) const QUESTION: &str =
    "how to mitigate errors of the payment provider: circuit breaker and deferred capture";

pub(crate) struct Running {
    pub(crate) channel: Channel,
    pub(crate) clock: Clock,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), attain_rag::Error>>,
    folder: tempfile::TempDir,
}

/// Starts a service with the demo's runbooks.
pub(crate) async fn start(language_model: LanguageModelConfig) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        database_url: format!("sqlite:{}", folder.path().join("rag.db").display()),
        index_dir: folder.path().join("index"),
        embeddings: false,
        language_model,
        ..Config::default()
    };
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (shutdown, clock) = (Shutdown::new(), Clock::held(NOW_MS));
    let task = tokio::spawn(attain_rag::serve(config, listener, clock.clone(), shutdown.clone()));
    let channel = attain_runtime::channel::connect("test", &url).unwrap();
    let running = Running { channel, clock, shutdown, task, folder };
    running.ready().await;
    running.put(demo()).await;
    running
}

fn demo() -> Vec<wire::Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/demo/knowledge");
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for folder in ["runbooks", "incidents", "slo-templates"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            files.push((format!("{folder}/{}", path.file_name().unwrap().to_string_lossy()), path));
        }
    }
    files.sort();
    let document = |(id, path): (String, PathBuf)| wire::Document {
        id,
        text: std::fs::read_to_string(path).unwrap(),
        ..Default::default()
    };
    files.into_iter().map(document).collect()
}

pub(crate) fn context() -> CallContext {
    CallContext::new(TenantId::new("tenant", "acme").unwrap(), "test", PATIENCE)
}

pub(crate) fn question(text: &str) -> wire::AnswerQuestionRequest {
    wire::AnswerQuestionRequest { question: text.to_owned(), ..Default::default() }
}

impl Running {
    async fn ready(&self) {
        let asking = async {
            let mut client = StatusServiceClient::new(self.channel.clone());
            loop {
                if let Ok(status) = client.get_status(GetStatusRequest::default()).await
                    && status.get_ref().ready
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("ready in time");
    }

    pub(crate) fn knowledge(&self) -> KnowledgeServiceClient<Channel> {
        KnowledgeServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn put(&self, documents: Vec<wire::Document>) {
        let request = wire::PutDocumentsRequest { documents };
        let answer = self.knowledge().put_documents(context().request(request)).await.unwrap().into_inner();
        assert!(answer.rejected.is_empty(), "{:?}", answer.rejected);
    }

    pub(crate) async fn ask(
        &self,
        request: wire::AnswerQuestionRequest,
    ) -> Result<wire::AnswerQuestionResponse, Status> {
        let mut client = AnswerServiceClient::new(self.channel.clone());
        client.answer_question(context().request(request)).await.map(tonic::Response::into_inner)
    }

    /// Every place of every sentence, read again out of the stored document.
    pub(crate) async fn check(&self, answer: &wire::AnswerQuestionResponse) {
        for sentence in &answer.sentences {
            assert!(!sentence.citations.is_empty(), "{sentence:?}");
            for cited in &sentence.citations {
                let asked = wire::GetDocumentRequest {
                    document_id: cited.document_id.clone(),
                    version: cited.document_version,
                };
                let found = self.knowledge().get_document(context().request(asked)).await.unwrap().into_inner();
                let document = found.document.unwrap();
                let (start, end) = (cited.start_offset as usize, cited.end_offset as usize);
                let there: String = document.text.chars().skip(start).take(end - start).collect();
                assert_eq!(there, cited.quote);
                assert_eq!(cited.title, document.title);
                let hash: String = Sha256::digest(&there).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hash, cited.quote_sha256);
                assert!(cited.score > 0.0);
            }
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.channel);
        self.task.await.unwrap().unwrap();
        drop(self.folder);
    }
}
