//! Starts the service and its members on loopback ports of their own, and stops them.

use std::sync::Arc;

use attain_proto::graph::v1::graph_service_server::GraphServiceServer;
use attain_proto::ingestion::v1::ingestion_service_server::IngestionServiceServer;
use attain_proto::rag::v1::knowledge_service_server::KnowledgeServiceServer;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use attain_recommendation::{Config, serve};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{Members, NOW_MS, World};

pub(crate) type Client = RecommendationServiceClient<Channel>;

pub(crate) struct Mesh {
    pub(crate) world: Arc<World>,
    pub(crate) client: Client,
    pub(crate) channel: Channel,
    pub(crate) clock: Clock,
    folder: tempfile::TempDir,
    members: String,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), attain_recommendation::Error>>,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        let world = World::shop();
        let members = serve_members(Arc::clone(&world)).await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::held(NOW_MS);
        let (channel, shutdown, served) = begin(&folder, &members, &clock).await;
        Self { client: Client::new(channel.clone()), channel, world, clock, folder, members, shutdown, served }
    }

    /// Stops the service and starts it anew on the same database.
    pub(crate) async fn restart(&mut self) {
        self.shutdown.cancel();
        (&mut self.served).await.unwrap().unwrap();
        let (channel, shutdown, served) = begin(&self.folder, &self.members, &self.clock).await;
        (self.client, self.channel, self.shutdown, self.served) =
            (Client::new(channel.clone()), channel, shutdown, served);
    }

    /// Changes what is stored behind the service's back.
    pub(crate) async fn tamper(&self, statement: &'static str) {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url(&self.folder)).await.unwrap();
        assert_eq!(sqlx::query(statement).execute(&pool).await.unwrap().rows_affected(), 1);
        pool.close().await;
    }

    pub(crate) async fn ask(&self, service_id: &str) -> Result<wire::GetSloRecommendationsResponse, Status> {
        let request = wire::GetSloRecommendationsRequest { service_id: service_id.into(), window_days: 0 };
        self.client.clone().get_slo_recommendations(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn recommend(&self, service_id: &str) -> wire::Recommendation {
        self.ask(service_id).await.unwrap().recommendation.unwrap()
    }

    pub(crate) async fn decide(&self, request: wire::DecideSloRequest) -> Result<wire::DecideSloResponse, Status> {
        self.client.clone().decide_slo(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn declare(&self, service_id: &str, target_ratio: f64) -> wire::Slo {
        let request = wire::DecideSloRequest {
            service_id: service_id.into(),
            action: wire::DecisionAction::Declare as i32,
            target_ratio: Some(target_ratio),
            ..wire::DecideSloRequest::default()
        };
        self.decide(request).await.unwrap().slo.unwrap()
    }

    pub(crate) async fn audit(&self) -> Vec<wire::AuditRecord> {
        let mut records = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = wire::ListAuditRecordsRequest { service_id: String::new(), page_size: 3, page_token };
            let page = self.client.clone().list_audit_records(request).await.unwrap().into_inner();
            records.extend(page.records);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return records;
            }
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("recommendation.db").display())
}

async fn begin(
    folder: &tempfile::TempDir,
    members: &str,
    clock: &Clock,
) -> (Channel, Shutdown, JoinHandle<Result<(), attain_recommendation::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config {
        database_url: url(folder),
        ingestion_url: members.into(),
        graph_url: members.into(),
        rag_url: members.into(),
        ..Config::default()
    };
    let shutdown = Shutdown::new();
    let served = tokio::spawn(serve(config, listener, clock.clone(), shutdown.clone()));
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (channel, shutdown, served)
}

async fn serve_members(world: Arc<World>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let members = Members(world);
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder()
        .add_service(health)
        .add_service(IngestionServiceServer::new(members.clone()))
        .add_service(GraphServiceServer::new(members.clone()))
        .add_service(KnowledgeServiceServer::new(members));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    format!("http://{address}")
}

/// Code and machine-readable reason of a refusal.
pub(crate) fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
}

/// The first field complained about, and the code of the complaint.
pub(crate) fn fault(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    (violation.field.clone(), violation.description.split(':').next().unwrap().to_owned())
}
