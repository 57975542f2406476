//! The service on a port of its own, and a Qdrant that a test can look into, stall and cut off.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attain_embedded_qdrant::{EmbeddedQdrant, Options, random_api_key};
use attain_proto::rag::v1 as wire;
use attain_proto::rag::v1::knowledge_service_client::KnowledgeServiceClient;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::status::v1::{GetStatusRequest, GetStatusResponse};
use attain_rag::Config;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

pub const NOW_MS: i64 = 1_795_000_000_000;
/// Far more than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The published model in the user's cache; `None`, said aloud, where it is not.
#[allow(clippy::print_stdout)]
pub fn model_folder() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let folder = cache.unwrap_or_default().join("attain/models/all-MiniLM-L6-v2");
    if folder.join("model.safetensors").is_file() {
        return Some(folder);
    }
    assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "the embedding model is required and not there");
    println!("SKIPPED: no embedding model in {}", folder.display());
    None
}

pub fn document(id: &str, kind: wire::DocumentKind, text: &str, services: &[&str]) -> wire::Document {
    wire::Document {
        id: id.to_owned(),
        kind: kind.into(),
        text: text.to_owned(),
        service_ids: services.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

pub fn context(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new("tenant", tenant).unwrap(), "test", PATIENCE)
}

/// A running service.
pub struct Running {
    pub channel: Channel,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), attain_rag::Error>>,
}

/// Starts the service without waiting for anything.
pub async fn start_unready(config: Config) -> Running {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let task = tokio::spawn(attain_rag::serve(config, listener, Clock::held(NOW_MS), shutdown.clone()));
    let channel = attain_runtime::channel::connect("test", &url).unwrap();
    Running { channel, shutdown, task }
}

impl Running {
    /// Asks until the status is as wanted.
    pub async fn wait_for(&self, wanted: impl Fn(&GetStatusResponse) -> bool) {
        let asking = async {
            let mut client = StatusServiceClient::new(self.channel.clone());
            loop {
                if let Ok(status) = client.get_status(GetStatusRequest::default()).await
                    && wanted(status.get_ref())
                {
                    return;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("as wanted in time");
    }

    /// Waits until every document has vectors of the model whose name begins so.
    pub async fn until_model(&self, name: &str) {
        self.wait_for(|status| {
            status.conditions.iter().any(|c| c.name == "embedding_model" && c.holds && c.detail.starts_with(name))
        })
        .await;
    }

    /// Lets it end in order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        drop(self.channel);
        self.task.await.unwrap().unwrap();
    }

    /// Breaks it off wherever it is.
    pub async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    pub fn client(&self) -> KnowledgeServiceClient<Channel> {
        KnowledgeServiceClient::new(self.channel.clone())
    }

    pub async fn put(&self, tenant: &str, documents: Vec<wire::Document>) -> wire::PutDocumentsResponse {
        let request = context(tenant).request(wire::PutDocumentsRequest { documents });
        self.client().put_documents(request).await.unwrap().into_inner()
    }

    pub async fn delete(&self, tenant: &str, document_id: &str) {
        let request = wire::DeleteDocumentRequest { document_id: document_id.to_owned() };
        self.client().delete_document(context(tenant).request(request)).await.unwrap();
    }

    pub async fn search(&self, tenant: &str, query: &str) -> wire::SearchKnowledgeResponse {
        self.ask(tenant, wire::SearchKnowledgeRequest { query: query.to_owned(), ..Default::default() }).await.unwrap()
    }

    pub async fn ask(
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
        let answer = self.ask(tenant, request).await.unwrap();
        answer.citations.into_iter().map(|citation| citation.document_id).collect()
    }
}

/// A Qdrant of the test's own: embedded, or the genuine server that `QDRANT_URL` names.
pub struct Qdrant {
    pub url: String,
    pub api_key: Option<String>,
    /// Begins the names of this test's collections.
    pub prefix: String,
    client: qdrant_client::Qdrant,
    embedded: Option<(Shutdown, JoinHandle<()>)>,
}

impl Qdrant {
    pub async fn start(folder: &Path) -> Self {
        let prefix = folder.file_name().unwrap().to_string_lossy().replace('.', "test");
        let client = |url: &str, key: Option<&String>| {
            let builder = qdrant_client::Qdrant::from_url(url).skip_compatibility_check();
            match key {
                Some(key) => builder.api_key(key.as_str()),
                None => builder,
            }
            .build()
            .unwrap()
        };
        if let Ok(url) = std::env::var("QDRANT_URL") {
            let api_key = std::env::var("QDRANT_API_KEY").ok();
            return Self { client: client(&url, api_key.as_ref()), url, api_key, prefix, embedded: None };
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = random_api_key();
        let options = Options::new(folder.join("index"), key.clone()).unwrap();
        let server = EmbeddedQdrant::open(options).await.unwrap();
        let stop = Shutdown::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            server.serve(listener, async move { stopped.cancelled().await }).await.unwrap();
        });
        Self { client: client(&url, Some(&key)), url, api_key: Some(key), prefix, embedded: Some((stop, serving)) }
    }

    /// The ends of the names of this test's collections, in order.
    pub async fn collections(&self) -> Vec<String> {
        let listed = self.client.list_collections().await.unwrap().collections;
        let mut ends: Vec<String> =
            listed.iter().filter_map(|c| c.name.strip_prefix(&self.prefix).map(str::to_owned)).collect();
        ends.sort();
        ends
    }

    pub async fn until_collections(&self, wanted: &[&str]) {
        let looking = async {
            while self.collections().await != wanted {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.expect("collections as wanted in time");
    }

    pub async fn stop(self) {
        for end in self.collections().await {
            self.client.delete_collection(format!("{}{end}", self.prefix)).await.unwrap();
        }
        if let Some((stop, serving)) = self.embedded {
            stop.cancel();
            serving.await.unwrap();
        }
    }
}
