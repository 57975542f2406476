//! Starts the service and its members on loopback ports of their own, and stops them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attain_proto::graph::v1::graph_service_server::GraphServiceServer;
use attain_proto::ingestion::v1::ingestion_service_server::IngestionServiceServer;
use attain_proto::rag::v1::answer_service_server::AnswerServiceServer;
use attain_proto::rag::v1::knowledge_service_server::KnowledgeServiceServer;
use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::recommendation_service_client::RecommendationServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_recommendation::{Config, Error, serve};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{Members, NOW_MS, World};

/// Far more than anything here takes; a test that waits this long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Client = RecommendationServiceClient<Channel>;

pub(crate) struct Mesh {
    pub(crate) world: Arc<World>,
    pub(crate) client: Client,
    pub(crate) channel: Channel,
    pub(crate) clock: Clock,
    folder: tempfile::TempDir,
    config: Config,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), attain_recommendation::Error>>,
}

impl Mesh {
    /// Without a stream of changes: whether what is stored holds is asked for at each read.
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// With a stream of changes that is followed already.
    pub(crate) async fn following(config: Config) -> Self {
        let mesh = Self::start_with(config).await;
        mesh.world.streaming.store(true, Ordering::SeqCst);
        mesh.until_following(true).await;
        mesh
    }

    /// Callers are computed anew only when they are asked for, so that versions are those of the test.
    pub(crate) async fn start_with(config: Config) -> Self {
        Self::started(Config { decisions_follow_interval_ms: 3_600_000, lessons_interval_seconds: 0, ..config }).await
    }

    /// Decisions are followed.
    pub(crate) async fn following_decisions() -> Self {
        Self::started(Config { decisions_follow_interval_ms: 10, lessons_interval_seconds: 0, ..Config::default() })
            .await
    }

    /// Incidents and decisions become documents.
    pub(crate) async fn keeping_lessons() -> Self {
        let mesh = Self::started(Config { lessons_interval_seconds: 1, ..Config::default() }).await;
        mesh.world.streaming.store(true, Ordering::SeqCst);
        mesh.until_following(true).await;
        mesh
    }

    async fn started(config: Config) -> Self {
        let world = World::shop();
        let members = serve_members(Arc::clone(&world)).await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::held(NOW_MS);
        let config = Config {
            database_url: url(&folder),
            ingestion_url: members.clone(),
            graph_url: members.clone(),
            rag_url: members,
            ..config
        };
        let (channel, shutdown, served) = begin(&config, &clock).await;
        Self { client: Client::new(channel.clone()), channel, world, clock, folder, config, shutdown, served }
    }

    /// Stops the service and starts it anew on the same database.
    pub(crate) async fn restart(&mut self) {
        self.shutdown.cancel();
        (&mut self.served).await.unwrap().unwrap();
        let (channel, shutdown, served) = begin(&self.config, &self.clock).await;
        (self.client, self.channel, self.shutdown, self.served) =
            (Client::new(channel.clone()), channel, shutdown, served);
    }

    /// Stops the service and starts it with other settings; what it ended with where it does not start.
    pub(crate) async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) -> Result<(), Error> {
        self.shutdown.cancel();
        // One that did not start has ended before.
        let _ = (&mut self.served).await.unwrap();
        let mut config = self.config.clone();
        change(&mut config);
        let (address, shutdown, mut served) = spawn(&config, &self.clock).await;
        let status = StatusServiceClient::new(Endpoint::from_shared(address.clone()).unwrap().connect_lazy());
        let answers = async {
            while status.clone().get_status(GetStatusRequest {}).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = &mut served => {
                let failed = ended.unwrap().unwrap_err();
                self.served = tokio::spawn(async { Ok(()) });
                return Err(failed);
            }
            () = answers => {}
        }
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        (self.client, self.channel, self.shutdown, self.served, self.config) =
            (Client::new(channel.clone()), channel, shutdown, served, config);
        Ok(())
    }

    /// Everything that the database consists of.
    pub(crate) fn database_files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// Waits until the stream of changes is followed, or not.
    pub(crate) async fn until_following(&self, expected: bool) {
        let mut status = StatusServiceClient::new(self.channel.clone());
        let reached = async {
            loop {
                let told = status.get_status(GetStatusRequest {}).await.unwrap().into_inner();
                let condition = told.conditions.into_iter().find(|condition| condition.name == "changes").unwrap();
                assert!(!condition.required);
                if condition.holds == expected {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the condition `changes` gets there");
    }

    /// Asks until the answer is as expected: changes travel by a stream.
    pub(crate) async fn until(
        &self,
        service_id: &str,
        expected: impl Fn(&wire::GetSloRecommendationsResponse) -> bool,
    ) -> wire::GetSloRecommendationsResponse {
        let reached = async {
            loop {
                let answer = self.ask(service_id).await.unwrap();
                if expected(&answer) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the answer gets there")
    }

    /// Changes what is stored behind the service's back.
    pub(crate) async fn tamper(&self, statement: &'static str) {
        sqlx::any::install_default_drivers();
        let pool = sqlx::AnyPool::connect(&url(&self.folder)).await.unwrap();
        assert_eq!(sqlx::query(statement).execute(&pool).await.unwrap().rows_affected(), 1);
        pool.close().await;
    }

    pub(crate) async fn ask(&self, service_id: &str) -> Result<wire::GetSloRecommendationsResponse, Status> {
        let request =
            wire::GetSloRecommendationsRequest { service_id: service_id.into(), window_days: 0, ..Default::default() };
        self.client.clone().get_slo_recommendations(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn ask_as(&self, tenant: &str, service_id: &str) -> wire::GetSloRecommendationsResponse {
        let context = CallContext::new(TenantId::new("tenant", tenant).unwrap(), "test", PATIENCE);
        let request =
            wire::GetSloRecommendationsRequest { service_id: service_id.into(), window_days: 0, ..Default::default() };
        self.client.clone().get_slo_recommendations(context.request(request)).await.unwrap().into_inner()
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

    /// The audit log without who read what.
    pub(crate) async fn audit(&self) -> Vec<wire::AuditRecord> {
        self.audit_records(true).await
    }

    /// The audit log, whether what was read is left out or not.
    pub(crate) async fn audit_records(&self, without_reads: bool) -> Vec<wire::AuditRecord> {
        let mut records = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                wire::ListAuditRecordsRequest { service_id: String::new(), page_size: 3, page_token, without_reads };
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
    config: &Config,
    clock: &Clock,
) -> (Channel, Shutdown, JoinHandle<Result<(), attain_recommendation::Error>>) {
    let (address, shutdown, served) = spawn(config, clock).await;
    let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    (channel, shutdown, served)
}

async fn spawn(config: &Config, clock: &Clock) -> (String, Shutdown, JoinHandle<Result<(), Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let served = tokio::spawn(serve(config.clone(), listener, clock.clone(), shutdown.clone()));
    (address, shutdown, served)
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
        .add_service(AnswerServiceServer::new(members.clone()))
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
