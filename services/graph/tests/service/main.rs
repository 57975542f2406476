//! The service over gRPC, following an ingestion service in the same process.

#![allow(clippy::unwrap_used)]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../fixture/ingestion.rs"]
mod ingestion;
mod measured;
mod slowdown;

use std::net::SocketAddr;
use std::time::Duration;

use attain_graph::{Config, SERVICE_NAME, serve};
use attain_proto::convert;
use attain_proto::graph::v1 as wire;
use attain_proto::graph::v1::graph_service_client::GraphServiceClient;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1::Dependency;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use fixture::SHOP;
use ingestion::{Ingestion, Server, hard};
use tokio::net::{TcpListener, TcpSocket};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

const START_MS: i64 = 1_793_000_000_000;
/// Far more than anything here takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Mesh {
    ingestion: Ingestion,
    address: SocketAddr,
    _reserved: TcpSocket,
    server: Option<Server>,
    graph: GraphServiceClient<Channel>,
    channel: Channel,
    clock: Clock,
    shutdown: Shutdown,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Mesh {
    /// Both services; ingestion holds the brief's example.
    async fn up() -> Self {
        Self::up_with(Config::default()).await
    }

    async fn up_with(config: Config) -> Self {
        let mut mesh = Self::without_ingestion_with(config).await;
        mesh.ingestion.declare("default", &SHOP);
        mesh.start_ingestion().await;
        mesh.until(ServingStatus::Serving).await;
        // Ready is when the stream has been read; whoever asks before its first graph has come fetches it.
        assert_eq!(mesh.version().await, 1);
        mesh
    }

    async fn without_ingestion() -> Self {
        Self::without_ingestion_with(Config::default()).await
    }

    async fn without_ingestion_with(config: Config) -> Self {
        // Bound but not listening: connections are refused, and nobody else is given the port.
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = reserved.local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = Config { ingestion_url: format!("http://{address}"), stream_loss_ms_max: 50, ..config };
        let (clock, shutdown) = (Clock::held(START_MS), Shutdown::new());
        let serving = serve(config, listener, clock.clone(), shutdown.clone());
        tokio::spawn(async move { serving.await.unwrap() });
        let channel = attain_runtime::channel::connect("test", &url).unwrap();
        let graph = GraphServiceClient::new(channel.clone());
        Self {
            ingestion: Ingestion::default(),
            address,
            _reserved: reserved,
            server: None,
            graph,
            channel,
            clock,
            shutdown,
        }
    }

    async fn start_ingestion(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(self.ingestion.serve(listener));
    }

    async fn stop_ingestion(&mut self) {
        self.server.take().unwrap().stop().await;
    }

    /// Waits until the health service says so.
    async fn until(&self, wanted: ServingStatus) {
        let mut health = HealthClient::new(self.channel.clone());
        let request = HealthCheckRequest { service: SERVICE_NAME.into() };
        let waiting = async {
            let mut states = health.watch(request).await.unwrap().into_inner();
            while let Some(state) = states.message().await.unwrap() {
                let wanted = match wanted {
                    ServingStatus::Serving => tonic_health::pb::health_check_response::ServingStatus::Serving,
                    _ => tonic_health::pb::health_check_response::ServingStatus::NotServing,
                };
                if state.status() == wanted {
                    return;
                }
            }
            panic!("the health service ended");
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the service changes its health in time");
    }

    async fn snapshot(&mut self, version_min: u64, wait_ms: i64) -> wire::GetSnapshotResponse {
        let request =
            wire::GetSnapshotRequest { version_min, wait: Some(convert::duration(wait_ms)), service_ids: Vec::new() };
        self.graph.get_snapshot(request).await.unwrap().into_inner()
    }

    async fn version(&mut self) -> u64 {
        self.snapshot(0, 0).await.snapshot.unwrap().version
    }

    /// Follows the stream to a version, without asking for it.
    async fn reach(&mut self, version: u64) {
        let reached = async {
            while self.version().await < version {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("the stream brings the version");
    }

    async fn age_ms(&mut self) -> i64 {
        convert::duration_millis(&self.snapshot(0, 0).await.snapshot.unwrap().age.unwrap())
    }

    async fn walk(
        &mut self,
        service_id: &str,
        direction: wire::Direction,
        depth: u32,
    ) -> Result<wire::GetDependenciesResponse, Status> {
        let direction = direction.into();
        let request = wire::GetDependenciesRequest { service_id: service_id.into(), direction, depth, version: 0 };
        self.graph.get_dependencies(request).await.map(tonic::Response::into_inner)
    }

    async fn analyse(&mut self, service_id: &str) -> wire::AnalyzeServiceResponse {
        self.analyse_sure(service_id, 0.0).await
    }

    async fn analyse_sure(&mut self, service_id: &str, confidence_min: f64) -> wire::AnalyzeServiceResponse {
        let request = wire::AnalyzeServiceRequest {
            service_id: service_id.into(),
            with_betweenness: true,
            confidence_min,
            ..wire::AnalyzeServiceRequest::default()
        };
        self.graph.analyze_service(request).await.unwrap().into_inner()
    }

    async fn evaluate(
        &mut self,
        service_ids: &[&str],
        rates: &[(&str, f64)],
        changes: Vec<Change>,
    ) -> Result<wire::EvaluateAvailabilityResponse, Status> {
        let request = wire::EvaluateAvailabilityRequest {
            service_ids: service_ids.iter().map(ToString::to_string).collect(),
            rates: rates.iter().map(own).collect(),
            changes: changes.into_iter().map(|change| wire::ScenarioChange { change: Some(change) }).collect(),
            seed: 1,
            confidence_min: 0.0,
        };
        self.graph.evaluate_availability(request).await.map(tonic::Response::into_inner)
    }

    async fn changes(
        &mut self,
        from_version: u64,
        to_version: u64,
    ) -> Result<wire::GetTopologyChangesResponse, Status> {
        let request = wire::GetTopologyChangesRequest { from_version, to_version };
        self.graph.get_topology_changes(request).await.map(tonic::Response::into_inner)
    }

    async fn solve(
        &mut self,
        targets: &[(&str, f64)],
        rates: &[(&str, f64)],
        repairs_max: u32,
    ) -> Result<wire::SolveTargetsResponse, Status> {
        let target = |&(service_id, target_ratio): &(&str, f64)| wire::TargetInForce {
            service_id: service_id.into(),
            target_ratio,
            fixed: false,
        };
        let request = wire::SolveTargetsRequest {
            targets: targets.iter().map(target).collect(),
            rates: rates.iter().map(own).collect(),
            menu_ratios: Vec::new(),
            repairs_max,
            scope_ids: Vec::new(),
        };
        self.graph.solve_targets(request).await.map(tonic::Response::into_inner)
    }
}

fn own(&(entity_id, own_failure_ratio): &(&str, f64)) -> wire::ComponentRate {
    wire::ComponentRate { entity_id: entity_id.into(), own_failure_ratio, includes_dependencies: false }
}

fn attained(entity_id: &str, availability_ratio: f64) -> Change {
    Change::AttainedRatio(wire::AttainedRatio { entity_id: entity_id.into(), availability_ratio })
}

fn ids(walked: &wire::GetDependenciesResponse) -> Vec<(&str, u32)> {
    let reached = walked.entities.iter();
    reached.map(|reached| (reached.entity.as_ref().unwrap().id.as_str(), reached.distance)).collect()
}

#[tokio::test]
async fn the_example_of_the_brief_is_walked_and_analysed() {
    let mut mesh = Mesh::up().await;
    let walked = mesh.walk("api-gateway", wire::Direction::Unspecified, 1).await.unwrap();
    assert_eq!(
        ids(&walked),
        [("api-gateway", 0), ("auth-service", 1), ("checkout-service", 1), ("product-service", 1)]
    );
    assert_eq!((walked.dependencies.len(), walked.truncated), (3, false));
    assert_eq!(walked.entities[1].entity.as_ref().unwrap().owner, "team");
    let info = walked.snapshot.unwrap();
    assert_eq!((info.entity_count, info.dependency_count, info.version), (8, 7, 1));

    let analysis = mesh.analyse("checkout-service").await;
    assert_eq!((analysis.fan_in_count, analysis.fan_out_count), (1, 2));
    assert_eq!((analysis.downstream_count, analysis.depth), (3, 2));
    assert_eq!(analysis.longest_chain, ["checkout-service", "payment-service", "external-payment-api"]);
    assert_eq!(analysis.single_points_of_failure, ["external-payment-api", "inventory-service", "payment-service"]);
    let [gateway] = &analysis.blast_radius[..] else { panic!("only the gateway needs checkout") };
    assert_eq!((gateway.service_id.as_str(), gateway.impact_ratio, gateway.distance), ("api-gateway", 1.0, 1));
    assert_eq!(gateway.path, ["api-gateway", "checkout-service"]);
    assert!(analysis.findings.iter().any(|finding| finding.code == "call_fraction_unknown"));
}

#[tokio::test]
async fn who_writes_reads_the_write() {
    let mut mesh = Mesh::up().await;
    let version = mesh.ingestion.declare("default", &[("payment-service", "fraud-service")]);
    let found = mesh.snapshot(version, 2_000).await.snapshot.unwrap();
    assert!(found.version >= version);
    let walked = mesh.walk("payment-service", wire::Direction::Downstream, 0).await.unwrap();
    assert!(ids(&walked).contains(&("fraud-service", 1)));
}

#[tokio::test]
async fn a_wait_ends_with_the_write_or_with_the_time() {
    let mut mesh = Mesh::up().await;
    let late = mesh.snapshot(99, 10).await.snapshot.unwrap();
    assert_eq!(late.version, 1);

    let mut waiter = mesh.graph.clone();
    let request = wire::GetSnapshotRequest {
        version_min: 2,
        // The service's own bound of two seconds applies, and the write comes before.
        wait: Some(convert::duration(60_000)),
        service_ids: Vec::new(),
    };
    let fetches = mesh.ingestion.fetch_count();
    let waiting = tokio::spawn(async move { waiter.get_snapshot(request).await.unwrap().into_inner() });
    // The waiter has looked for the version itself and now waits for the stream.
    while mesh.ingestion.fetch_count() == fetches {
        tokio::task::yield_now().await;
    }
    mesh.ingestion.declare("default", &[("payment-service", "fraud-service")]);
    assert_eq!(waiting.await.unwrap().snapshot.unwrap().version, 2);
}

#[tokio::test]
async fn a_burst_of_changes_is_followed_with_few_fetches() {
    let mut mesh = Mesh::up().await;
    let before = mesh.ingestion.fetch_count();
    let mut version = 0;
    for number in 0..100 {
        version = mesh.ingestion.declare("default", &[("api-gateway", &format!("service-{number}"))]);
    }
    let following = async {
        while mesh.version().await < version {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, following).await.expect("the stream brings the newest version");
    assert!(mesh.ingestion.fetch_count() - before <= 10, "{} fetches", mesh.ingestion.fetch_count() - before);
    assert_eq!(mesh.age_ms().await, 0);
}

#[tokio::test]
async fn what_somebody_who_waits_fetches_is_not_fetched_again_for_the_stream() {
    let mut mesh = Mesh::up().await;
    let before = mesh.ingestion.fetch_count();
    // Longer than a burst is waited for.
    mesh.ingestion.delay_fetches(300);
    let version = mesh.ingestion.declare("default", &[("payment-service", "fraud-service")]);
    assert_eq!(mesh.snapshot(version, 2_000).await.snapshot.unwrap().version, version);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(mesh.ingestion.fetch_count() - before, 1);
    // The stream brings the next one nevertheless.
    let version = mesh.ingestion.declare("default", &[("payment-service", "bank")]);
    mesh.reach(version).await;
}

/// An edge on which calls were counted.
fn counted(count: u64) -> Vec<Dependency> {
    vec![Dependency { observed_call_count: count, ..hard("api-gateway", "auth-service") }]
}

#[tokio::test]
async fn while_only_counts_change_a_graph_is_fetched_at_its_own_pace_and_nothing_is_lost() {
    let mut mesh = Mesh::up_with(Config { count_refresh_interval_ms: 600_000, ..Config::default() }).await;
    let mut acme = mesh.graph.clone();
    let context = CallContext::new(TenantId::new("tenant", "acme").unwrap(), "test", PATIENCE);
    let mut acme_version = async || {
        let request = context.request(wire::GetSnapshotRequest::default());
        acme.get_snapshot(request).await.unwrap().into_inner().snapshot.unwrap().version
    };
    mesh.ingestion.declare("acme", &[("shop", "till")]);
    assert!(acme_version().await > 0);
    let version = mesh.ingestion.write("default", counted(1), true);
    mesh.reach(version).await;
    let fetches = mesh.ingestion.fetch_count();
    mesh.clock.set(START_MS + 1_000);
    let version = (2..50).map(|count| mesh.ingestion.write("default", counted(count), true)).max().unwrap();
    // Told after those, and of another tenant, whose graph is fetched at once.
    let last = mesh.ingestion.declare("acme", &[("shop", "stock")]);
    let told = async { while acme_version().await < last {} };
    tokio::time::timeout(PATIENCE, told).await.expect("the stream brings the version");
    mesh.clock.set(START_MS + 4_000);
    assert_eq!((mesh.version().await < version, mesh.age_ms().await), (true, 3_000), "it says how far it is behind");
    assert!(mesh.ingestion.fetch_count() - fetches <= 2, "{} fetches", mesh.ingestion.fetch_count() - fetches);
    // Whoever needs the newest gets it, structure that is new included.
    let version = mesh.ingestion.declare("default", &[("auth-service", "session-cache")]);
    assert_eq!(mesh.snapshot(version, 2_000).await.snapshot.unwrap().version, version);
    assert_eq!(mesh.age_ms().await, 0);
    // Where structure changed, the next change is followed at once.
    let version = mesh.ingestion.declare("default", &[("auth-service", "token-cache")]);
    mesh.reach(version).await;
}

#[tokio::test]
async fn counts_arrive_though_nobody_asks_for_them() {
    let mut mesh = Mesh::up_with(Config { count_refresh_interval_ms: 30, ..Config::default() }).await;
    for count in 1..=20 {
        let version = mesh.ingestion.write("default", counted(count), true);
        mesh.reach(version).await;
    }
}

#[tokio::test]
async fn what_changed_is_enough_and_a_whole_will_do_as_well() {
    let mut mesh = Mesh::up().await;
    let mut expected = 2;
    for only_wholes in [false, true, true] {
        if only_wholes {
            mesh.ingestion.answer_wholes();
        }
        let parts = mesh.ingestion.part_count();
        let version = mesh.ingestion.declare("default", &[("auth-service", &format!("cache-{expected}"))]);
        mesh.reach(version).await;
        expected += 1;
        let found = mesh.walk("auth-service", wire::Direction::Downstream, 0).await.unwrap();
        assert_eq!((ids(&found).len(), found.dependencies.len()), (expected, expected - 1));
        assert_eq!(found.entities[1].entity.as_ref().unwrap().owner, "team");
        assert_eq!(mesh.ingestion.part_count() > parts, !only_wholes);
        let all = mesh.walk("api-gateway", wire::Direction::Downstream, 0).await.unwrap();
        assert_eq!(ids(&all).len(), 8 + expected - 2, "the rest is as it was");
    }
}

#[tokio::test]
async fn a_restart_of_ingestion_is_survived() {
    let mut mesh = Mesh::up().await;
    mesh.stop_ingestion().await;
    mesh.until(ServingStatus::NotServing).await;
    // What is held still answers, and says how old it is.
    mesh.clock.set(START_MS + 7_000);
    assert_eq!(mesh.age_ms().await, 7_000);
    assert_eq!(ids(&mesh.walk("auth-service", wire::Direction::Downstream, 0).await.unwrap()).len(), 2);

    mesh.ingestion.write("default", vec![hard("auth-service", "session-cache")], false);
    mesh.start_ingestion().await;
    mesh.until(ServingStatus::Serving).await;
    // Not in the log, yet seen: after a loss every graph is fetched again.
    assert_eq!(ids(&mesh.walk("auth-service", wire::Direction::Downstream, 0).await.unwrap()).len(), 3);
    assert_eq!(mesh.age_ms().await, 0);
}

#[tokio::test]
async fn another_database_with_a_shorter_history_is_followed_from_its_beginning() {
    let mut mesh = Mesh::up().await;
    for callee in ["one", "two", "three"] {
        mesh.ingestion.declare("default", &[("api-gateway", callee)]);
    }
    assert_eq!(mesh.snapshot(4, 2_000).await.snapshot.unwrap().version, 4);
    mesh.stop_ingestion().await;
    mesh.ingestion = Ingestion::default();
    mesh.ingestion.declare("default", &[("a", "b")]);
    mesh.start_ingestion().await;
    let following = async {
        while mesh.version().await != 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, following).await.expect("the shorter history is taken over");
    let version = mesh.ingestion.declare("default", &[("b", "c")]);
    let following = async {
        while mesh.version().await != version {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, following).await.expect("its changes are followed");
}

#[tokio::test]
async fn nothing_is_promised_before_ingestion_was_ever_reached() {
    let mut mesh = Mesh::without_ingestion().await;
    let refused = mesh.walk("api-gateway", wire::Direction::Downstream, 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_error_details().retry_info().is_some());
    let status = StatusServiceClient::new(mesh.channel.clone()).get_status(GetStatusRequest {}).await;
    let status = status.unwrap().into_inner();
    assert_eq!((status.ready, status.conditions[0].name.as_str()), (false, "topology"));

    mesh.ingestion.declare("default", &SHOP);
    mesh.start_ingestion().await;
    mesh.until(ServingStatus::Serving).await;
    assert!(mesh.walk("api-gateway", wire::Direction::Downstream, 0).await.is_ok());
}

#[tokio::test]
async fn a_cycle_is_accepted_and_reported() {
    let mut mesh = Mesh::up().await;
    assert!(mesh.snapshot(0, 0).await.cycles.is_empty());
    let version = mesh.ingestion.declare("default", &[("user-db", "api-gateway")]);
    let found = mesh.snapshot(version, 2_000).await;
    let [cycle] = &found.cycles[..] else { panic!("one cycle") };
    assert_eq!(cycle.service_ids, ["api-gateway", "auth-service", "user-db"]);
    assert!(cycle.bootstrap_hazard);
    let analysis = mesh.analyse("auth-service").await;
    assert_eq!(analysis.cycles, found.cycles);
    let [cut] = &analysis.cycle_cuts[..] else { panic!("one cut a cycle") };
    assert_eq!((cut.edge_count, cut.edges.len(), cut.fewest), (1, 1, true));
    assert!(analysis.betweenness_ratio.is_some_and(|ratio| ratio > 0.0) && !analysis.betweenness_sampled);

    let through = |service: &str| {
        let request = wire::GetSnapshotRequest { service_ids: vec![service.into()], ..Default::default() };
        let mut graph = mesh.graph.clone();
        async move { graph.get_snapshot(request).await.unwrap().into_inner().cycles.len() }
    };
    assert_eq!((through("user-db").await, through("product-service").await), (1, 0));
}

#[tokio::test]
async fn an_unknown_service_is_looked_for_once_and_then_named() {
    let mesh = Mesh::up().await;
    let before = mesh.ingestion.fetch_count();
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let mut graph = mesh.graph.clone();
            let request =
                wire::AnalyzeServiceRequest { service_id: "nobody".into(), ..wire::AnalyzeServiceRequest::default() };
            tokio::spawn(async move { graph.analyze_service(request).await.unwrap_err() })
        })
        .collect();
    for asked in asking {
        let refused = asked.await.unwrap();
        assert_eq!(refused.code(), Code::NotFound);
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["service_id"].as_str()), ("UNKNOWN_SERVICE", "nobody"));
    }
    // Twenty calls take less than two intervals of a second.
    let fetches = mesh.ingestion.fetch_count() - before;
    assert!((1..=2).contains(&fetches), "{fetches} fetches");
}

#[tokio::test]
async fn a_service_that_the_stream_has_not_told_of_is_found() {
    let mut mesh = Mesh::up().await;
    mesh.ingestion.write("default", vec![hard("new-service", "user-db")], false);
    let walked = mesh.walk("new-service", wire::Direction::Downstream, 0).await.unwrap();
    assert_eq!(ids(&walked), [("new-service", 0), ("user-db", 1)]);
}

#[tokio::test]
async fn a_lowered_dependency_changes_everybody_above_it() {
    let mut mesh = Mesh::up().await;
    let version = mesh.ingestion.declare("default", &[("a", "b"), ("b", "d")]);
    mesh.snapshot(version, 2_000).await;
    let rates = [("a", 0.0005), ("b", 0.0005), ("d", 0.001)];
    let answer = mesh.evaluate(&["a", "nobody", "user-db"], &rates, vec![attained("d", 0.9)]).await.unwrap();
    let [a, db] = &answer.services[..] else { panic!("the unknown service is left out") };
    let (before, after) = (a.before.as_ref().unwrap(), a.after.as_ref().unwrap());
    assert!((before.availability_ratio - 0.9995 * 0.9995 * 0.999).abs() < 1e-12);
    assert!((after.availability_ratio - 0.9995 * 0.9995 * 0.9).abs() < 1e-12);
    assert_eq!(after.method(), wire::EvaluationMethod::Exact);
    assert_eq!(
        (after.interval_low_ratio, after.interval_high_ratio),
        (after.availability_ratio, after.availability_ratio)
    );
    assert!(after.bound_low_ratio <= after.availability_ratio && after.availability_ratio <= after.bound_high_ratio);
    assert_eq!(
        (after.retry_method(), after.bounds_method()),
        (wire::RetryMethod::Exact, wire::BoundsMethod::EsaryProschan)
    );
    assert_eq!((after.cold_start_method(), after.importances_truncated), (wire::EvaluationMethod::Exact, false));
    assert!((after.unavailability_ratio + after.availability_ratio - 1.0).abs() < 1e-15);
    assert_eq!(after.importances[0].entity_id, "d");
    assert_eq!(a.path, ["a", "b", "d"]);
    assert!(db.path.is_empty());
    assert_eq!(db.before, db.after);
    assert_eq!(answer.assumed_perfect_ids, ["user-db"]);
    assert_eq!(mesh.evaluate(&["a"], &rates, Vec::new()).await.unwrap().services[0].after, None);
}

#[tokio::test]
async fn earlier_versions_can_be_walked_and_compared_until_they_are_given_up() {
    let mut mesh = Mesh::up_with(Config { versions_kept: 2, ..Config::default() }).await;
    let first = mesh.version().await;
    let second = mesh.ingestion.declare("default", &[("user-db", "disk")]);
    mesh.snapshot(second, 2_000).await;
    let changes = mesh.changes(0, 0).await.unwrap();
    let version = |kept: &Option<wire::KeptVersion>| kept.as_ref().unwrap().version;
    assert_eq!((version(&changes.from), version(&changes.to)), (first, second));
    let added: Vec<&str> = changes.entities.iter().map(|entity| entity.after.as_ref().unwrap().id.as_str()).collect();
    assert!(added.contains(&"disk") && changes.entities.iter().any(|entity| entity.before.is_none()), "{added:?}");
    let [edge] = &changes.dependencies[..] else { panic!("one edge is new: {:?}", changes.dependencies) };
    assert_eq!((edge.before.as_ref(), edge.after.as_ref().unwrap().callee_id.as_str()), (None, "disk"));
    assert!(!changes.truncated && changes.kept.len() == 2 && changes.kept[0].read_time.is_some());

    let at = |version| wire::GetDependenciesRequest { service_id: "user-db".into(), version, ..Default::default() };
    let before = mesh.graph.get_dependencies(at(first)).await.unwrap().into_inner();
    assert_eq!((ids(&before), before.snapshot.unwrap().version), (vec![("user-db", 0)], first));
    let after = mesh.graph.get_dependencies(at(second)).await.unwrap().into_inner();
    assert_eq!(ids(&after), [("user-db", 0), ("disk", 1)]);
    let request = wire::AnalyzeServiceRequest { service_id: "user-db".into(), version: first, ..Default::default() };
    assert_eq!(mesh.graph.analyze_service(request).await.unwrap().into_inner().fan_out_count, 0);

    // What was not there is not found; what is kept no more is named beside what is.
    let absent = wire::GetDependenciesRequest { service_id: "disk".into(), version: first, ..Default::default() };
    let refused = mesh.graph.get_dependencies(absent).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "UNKNOWN_SERVICE");
    for number in 0..2 {
        let version = mesh.ingestion.declare("default", &[("disk", &format!("rack-{number}"))]);
        mesh.snapshot(version, 2_000).await;
    }
    let refused = mesh.graph.get_dependencies(at(first)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "UNKNOWN_VERSION");
    let kept: Vec<u64> = mesh.changes(0, 0).await.unwrap().kept.iter().map(|kept| kept.version).collect();
    assert_eq!((kept.len(), kept[0]), (3, second));
    let backwards = mesh.changes(kept[2], kept[0]).await.unwrap_err();
    assert_eq!(backwards.get_error_details().bad_request().unwrap().field_violations[0].field, "from_version");
    assert!(mesh.changes(kept[1], kept[1]).await.unwrap().dependencies.is_empty());
}

#[tokio::test]
async fn targets_that_contradict_each_other_are_settled_with_reasons() {
    let mut mesh = Mesh::up().await;
    let targets = [("api-gateway", 0.9995), ("auth-service", 0.999), ("payment-service", 0.99)];
    let answer = mesh.solve(&targets, &[("user-db", 0.0001)], 4).await.unwrap();
    let broken: Vec<(&str, &str)> =
        answer.contradictions.iter().map(|broken| (broken.service_id.as_str(), broken.callee_id.as_str())).collect();
    // Nobody promised anything of checkout-service, but it can be no better than payment-service lets it.
    assert_eq!(broken, [("api-gateway", "auth-service"), ("api-gateway", "checkout-service"), ("api-gateway", "")]);
    assert_eq!(answer.contradictions[2].chain, ["api-gateway", "checkout-service", "payment-service"]);
    assert!(answer.unresolved.is_empty(), "{:?}", answer.unresolved);
    assert_eq!(answer.method(), wire::SolveMethod::Program);
    assert_eq!(answer.targets.len(), 8);
    let of = |id: &str| answer.targets.iter().find(|target| target.service_id == id).unwrap();
    let gateway = of("api-gateway");
    assert_eq!(gateway.in_force_ratio, Some(0.9995));
    assert!(gateway.target_ratio <= of("auth-service").target_ratio);
    assert!(gateway.target_ratio <= of("payment-service").target_ratio);
    assert!(of("user-db").own_budget_ratio >= 0.0001 && of("user-db").in_force_ratio.is_none());
    assert!(!answer.bindings.is_empty() && answer.bindings.iter().all(|binding| binding.price > 0.0));
    assert!(!answer.repairs.is_empty() && answer.repairs_solved_count <= 4);
    assert!(answer.repairs.iter().all(|repair| repair.contradictions_left_count < 3));
    assert!(answer.assumed_perfect_ids.contains(&"external-payment-api".to_owned()));
    assert!(!answer.assumed_perfect_ids.contains(&"user-db".to_owned()));
    let in_force = answer.targets.iter().filter(|target| target.in_force_ratio.is_some());
    let settled: Vec<(&str, f64)> = in_force.map(|target| (target.service_id.as_str(), target.target_ratio)).collect();
    let again = mesh.solve(&settled, &[("user-db", 0.0001)], 4).await.unwrap();
    assert_eq!((again.contradictions.len(), again.method()), (0, wire::SolveMethod::AsTheyAre));
}

#[tokio::test]
async fn targets_that_cannot_be_right_are_named_by_their_place() {
    let mut mesh = Mesh::up().await;
    for (targets, repairs_max, field, code) in [
        (vec![("user-db", 1.0)], 0, "targets/0/target_ratio", "out_of_range"),
        (vec![("nobody", 0.9)], 0, "targets/0/service_id", "unknown_entity"),
        (vec![("user-db", 0.9), ("user-db", 0.99)], 0, "targets/1/service_id", "duplicate"),
        (vec![("user-db", 0.9)], 51, "repairs_max", "out_of_range"),
    ] {
        let refused = mesh.solve(&targets, &[], repairs_max).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let details = refused.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.starts_with(&format!("{code}: ")), "{}", violation.description);
    }
}

#[tokio::test]
async fn what_cannot_be_right_is_named_by_its_place() {
    let mut mesh = Mesh::up().await;
    let set = |row: Dependency| Change::SetDependency(row);
    let itself = set(hard("user-db", "user-db"));
    let ratio = set(Dependency { call_fraction: Some(99.9), ..hard("user-db", "api-gateway") });
    let removed =
        Change::RemoveDependency(wire::DependencyRef { caller_id: "user-db".into(), callee_id: "api-gateway".into() });
    let cases = [
        (vec![("user-db", f64::NAN)], Vec::new(), "rates/0/own_failure_ratio", "not_a_number"),
        (vec![("nobody", 0.1)], Vec::new(), "rates/0/entity_id", "unknown_entity"),
        (Vec::new(), vec![attained("user-db", 1.5)], "changes/0/attained_ratio/availability_ratio", "out_of_range"),
        (Vec::new(), vec![attained("nobody", 0.5)], "changes/0/attained_ratio/entity_id", "unknown_entity"),
        (Vec::new(), vec![itself], "changes/0/set_dependency/callee_id", "self_dependency"),
        (Vec::new(), vec![ratio], "changes/0/set_dependency/call_fraction", "out_of_range"),
        (Vec::new(), vec![removed], "changes/0/remove_dependency/callee_id", "unknown_dependency"),
    ];
    for (rates, changes, field, code) in cases {
        let refused = mesh.evaluate(&["user-db"], &rates, changes).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let details = refused.get_error_details();
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, field);
        assert!(violation.description.starts_with(&format!("{code}: ")), "{}", violation.description);
    }
    let many = vec!["user-db"; 5_001];
    let refused = mesh.evaluate(&many, &[], Vec::new()).await.unwrap_err();
    assert_eq!(refused.get_error_details().bad_request().unwrap().field_violations[0].field, "service_ids");
    let request = wire::GetDependenciesRequest { service_id: "user-db".into(), direction: 9, ..Default::default() };
    assert_eq!(mesh.graph.get_dependencies(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn tenants_do_not_see_one_another() {
    let mut mesh = Mesh::up().await;
    mesh.ingestion.declare("acme", &[("shop", "till")]);
    let acme = CallContext::new(TenantId::new("tenant", "acme").unwrap(), "test", PATIENCE);
    let asked = |service: &str| -> Request<_> {
        acme.request(wire::AnalyzeServiceRequest { service_id: service.into(), ..Default::default() })
    };
    assert_eq!(mesh.graph.analyze_service(asked("shop")).await.unwrap().into_inner().fan_out_count, 1);
    assert_eq!(mesh.graph.analyze_service(asked("user-db")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(mesh.walk("shop", wire::Direction::Downstream, 0).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_graph_that_cannot_be_read_leaves_the_one_before_standing() {
    let mut mesh = Mesh::up().await;
    let broken = Dependency { call_fraction: Some(2.0), ..hard("user-db", "disk") };
    mesh.ingestion.write("default", vec![broken], true);
    let fetches = mesh.ingestion.fetch_count();
    let refused = mesh.snapshot(2, 200).await.snapshot.unwrap();
    assert_eq!(refused.version, 1);
    assert!(mesh.ingestion.fetch_count() > fetches);
    let version = mesh.ingestion.declare("default", &[("user-db", "disk")]);
    assert_eq!(mesh.snapshot(version, 2_000).await.snapshot.unwrap().version, version);
}
