//! The service as its callers meet it: over gRPC, with an embedded index, documents in SQLite, and no model.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_rag::Config;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

pub(crate) const NOW_MS: i64 = 1_796_500_000_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Running {
    pub(crate) channel: Channel,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), attain_rag::Error>>,
}

pub(crate) fn config(folder: &Path) -> Config {
    Config {
        database_url: format!("sqlite:{}", folder.join("rag.db").display()),
        index_dir: folder.join("index"),
        qdrant_url: genuine_server(),
        collection_prefix: folder.file_name().unwrap().to_string_lossy().replace('.', "test"),
        embeddings: false,
        ..Config::default()
    }
}

/// With a genuine Qdrant server named, the whole suite runs against that instead of the embedded one.
pub(crate) fn genuine_server() -> Option<String> {
    std::env::var("ATTAIN_TEST_QDRANT_URL").ok()
}

/// Starts the service and waits until it is ready.
pub(crate) async fn start(config: Config) -> Running {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let task = tokio::spawn(attain_rag::serve(config, listener, Clock::held(NOW_MS), shutdown.clone()));
    let channel = attain_runtime::channel::connect("test", &url).unwrap();
    let running = Running { channel, shutdown, task };
    running.wait_for(|status| status.ready).await;
    running
}

impl Running {
    /// Asks until the status is as wanted; the service tells when, no clock does.
    pub(crate) async fn wait_for(&self, wanted: impl Fn(&attain_proto::status::v1::GetStatusResponse) -> bool) {
        let asking = async {
            let mut client = StatusServiceClient::new(self.channel.clone());
            loop {
                if let Ok(status) = client.get_status(GetStatusRequest::default()).await
                    && wanted(status.get_ref())
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("ready in time");
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        drop(self.channel);
        self.task.await.unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> KnowledgeServiceClient<Channel> {
        KnowledgeServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn put(&self, tenant: &str, documents: Vec<wire::Document>) -> wire::PutDocumentsResponse {
        let request = context(tenant).request(wire::PutDocumentsRequest { documents });
        self.client().put_documents(request).await.unwrap().into_inner()
    }

    pub(crate) async fn search(&self, tenant: &str, query: &str) -> wire::SearchKnowledgeResponse {
        self.search_by(tenant, wire::SearchKnowledgeRequest { query: query.to_owned(), ..Default::default() })
            .await
            .unwrap()
    }

    pub(crate) async fn search_by(
        &self,
        tenant: &str,
        request: wire::SearchKnowledgeRequest,
    ) -> Result<wire::SearchKnowledgeResponse, Status> {
        self.client().search_knowledge(context(tenant).request(request)).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn text(&self, tenant: &str, document_id: &str, version: u32) -> Result<wire::Document, Status> {
        let request = wire::GetDocumentRequest { document_id: document_id.to_owned(), version };
        let answer = self.client().get_document(context(tenant).request(request)).await?;
        Ok(answer.into_inner().document.unwrap())
    }
}

pub(crate) fn context(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new("tenant", tenant).unwrap(), "test", PATIENCE)
}
