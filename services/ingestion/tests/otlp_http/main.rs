//! OTLP/HTTP as SDKs and collectors send it: a served process, exports over real connections, answers by the mesh's gRPC.

#![allow(clippy::unwrap_used)]

mod metrics;
mod sdk;
mod transport;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners};
use attain_proto::ingestion::v1 as words;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::vocabulary::v1::{Dependency, SliBucket};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use prost::Message;
use reqwest::Response;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

/// When the examples of the protocol's own repository happened, and a little later.
const NOW_MS: i64 = 1_544_712_665_000;
const WITHIN: Duration = Duration::from_secs(30);
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

struct Served {
    clock: Clock,
    address: SocketAddr,
    http: reqwest::Client,
    ingestion: IngestionServiceClient<Channel>,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
    _folder: TempDir,
}

impl Served {
    async fn start(config: Config) -> Self {
        Self::start_at(Clock::held(NOW_MS), config).await
    }

    async fn start_at(clock: Clock, config: Config) -> Self {
        // Fails where another test of this process was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
        let mesh = format!("http://{}", listeners.mesh.local_addr().unwrap());
        let address = listeners.otlp_http.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let config = Config { database_url, ..config };
        let ended = tokio::spawn(attain_ingestion::serve(config, listeners, clock.clone(), shutdown.clone()));
        let ingestion = IngestionServiceClient::new(Channel::from_shared(mesh).unwrap().connect().await.unwrap());
        Self { clock, address, http: reqwest::Client::new(), ingestion, shutdown, ended, _folder: folder }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.post(self.url(path)).body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
    }

    /// Posts a message as protobuf; the answer's message.
    async fn export<A: Message + Default>(&self, path: &str, message: &impl Message) -> A {
        let response = self.post(path, &[("content-type", PROTOBUF)], message.encode_to_vec()).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &PROTOBUF.parse().unwrap())
        );
        A::decode(response.bytes().await.unwrap()).unwrap()
    }

    /// Buckets of a service; none while it is not known.
    async fn buckets(&self, service: &str) -> Vec<SliBucket> {
        let request = words::ListSliBucketsRequest { service_id: service.into(), ..Default::default() };
        match self.ingestion.clone().list_sli_buckets(request).await {
            Ok(answer) => answer.into_inner().buckets,
            Err(status) if status.code() == Code::NotFound => Vec::new(),
            Err(status) => panic!("{status:?}"),
        }
    }

    /// Lets time pass until the traces of a service came to rest; its bucket.
    async fn settled(&self, service: &str) -> SliBucket {
        eventually(service, async || {
            // A row of the span log is read some time after it was written, and rests from then on.
            self.clock.set(self.clock.now_ms() + 10_000);
            self.buckets(service).await.pop()
        })
        .await
    }

    async fn edges(&self) -> Vec<Dependency> {
        let request = words::GetTopologyRequest::default();
        self.ingestion.clone().get_topology(request).await.unwrap().into_inner().dependencies.to_vec().unwrap()
    }
}

/// Waits for what comes soon.
async fn eventually<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < WITHIN, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
