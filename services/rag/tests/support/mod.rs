//! The one harness of this crate's tests: the service in this process or in its own, its callers, and a Qdrant that a test can look into.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod caller;
mod child;
#[path = "../../embedded-qdrant/tests/contract/example.rs"]
mod example;
mod gate;
mod qdrant;

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use attain_proto::rag::v1 as wire;
use attain_rag::Config;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use tokio::task::JoinHandle;

pub use caller::Caller;
pub use child::ChildService;
pub use gate::{Gate, Hold};
pub use qdrant::Qdrant;

pub const NOW_MS: i64 = 1_796_500_000_000;
/// Far more than anything here takes; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A genuine Qdrant server, where the environment names one: the whole suite runs against that instead of the embedded one.
pub fn genuine_server() -> Option<String> {
    std::env::var("QDRANT_URL").ok()
}

/// A service with everything in a folder and search by words only.
pub fn words_only(folder: &Path) -> Config {
    Config {
        database_url: format!("sqlite:{}", folder.join("rag.db").display()),
        index_dir: folder.join("index"),
        qdrant_url: genuine_server(),
        qdrant_api_key: std::env::var("QDRANT_API_KEY").ok(),
        collection_prefix: folder.file_name().unwrap().to_string_lossy().replace('.', "test"),
        embeddings: false,
        ..Config::default()
    }
}

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

/// The demo's documents, by the names that the demo gives them.
pub fn demo() -> Vec<wire::Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/demo/knowledge");
    let mut documents = Vec::new();
    for folder in ["runbooks", "incidents", "slo-templates"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let id = format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy());
            documents.push(wire::Document { id, text: std::fs::read_to_string(path).unwrap(), ..Default::default() });
        }
    }
    documents.sort_by(|a, b| a.id.cmp(&b.id));
    documents
}

/// A running service.
pub struct Running {
    caller: Caller,
    pub clock: Clock,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), attain_rag::Error>>,
}

impl Deref for Running {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

/// Starts the service without waiting for anything.
pub async fn start_unready(config: Config) -> Running {
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (shutdown, clock) = (Shutdown::new(), Clock::held(NOW_MS));
    let task = tokio::spawn(attain_rag::serve(config, listener, clock.clone(), shutdown.clone()));
    Running { caller: Caller::of(&url), clock, shutdown, task }
}

/// Starts the service and waits until it is ready.
pub async fn start(config: Config) -> Running {
    let running = start_unready(config).await;
    running.wait_for(|status| status.ready).await;
    running
}

impl Running {
    /// Lets it end in order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        drop(self.caller);
        self.task.await.unwrap().unwrap();
    }

    /// Breaks it off wherever it is.
    pub async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}
