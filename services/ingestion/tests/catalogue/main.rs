//! A catalogue followed over HTTP: the recorded answers of a genuine Backstage, and everything that may go wrong on the way.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod backstage;
mod kill;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use attain_ingestion::{CatalogueConfig, Config, Listeners};
use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1 as words;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

use backstage::{Asked, Backstage, LATER, Mishap, PARCELS, TOKEN, empty, pages, refusals};

const NOW_MS: i64 = 1_793_000_000_000;
const WITHIN: Duration = Duration::from_secs(30);

/// Settings of a catalogue whose pages are as small as the recorded ones.
pub(crate) fn catalogue(url: &str, more: Value) -> CatalogueConfig {
    let mut settings =
        json!({ "url": url, "token": TOKEN, "interval_seconds": 1, "timeout_seconds": 1, "page_size": 5 });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(settings).unwrap()
}

pub(crate) struct Served {
    folder: TempDir,
    channel: Channel,
    client: IngestionServiceClient<Channel>,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
}

impl Served {
    pub(crate) async fn start(folder: TempDir, catalogue: CatalogueConfig) -> Self {
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        Self::start_on(&database_url, folder, catalogue).await
    }

    pub(crate) async fn start_on(database_url: &str, folder: TempDir, catalogue: CatalogueConfig) -> Self {
        let config = Config { database_url: database_url.to_owned(), catalogue: Some(catalogue), ..Config::default() };
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
        let address = format!("http://{}", listeners.mesh.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = attain_ingestion::serve(config, listeners, Clock::held(NOW_MS), shutdown.clone());
        let ended = tokio::spawn(serving);
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        let client = IngestionServiceClient::new(channel.clone());
        Self { folder, channel, client, shutdown, ended }
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
        self.folder
    }

    async fn status(&self) -> wire::GetCatalogueStatusResponse {
        let request = wire::GetCatalogueStatusRequest {};
        self.client.clone().get_catalogue_status(request).await.unwrap().into_inner()
    }

    pub(crate) async fn wait(&self, what: &str, reached: impl Fn(&wire::GetCatalogueStatusResponse) -> bool) {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if reached(&status) {
                return;
            }
            assert!(began.elapsed() < WITHIN, "{what}: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn wait_current(&self) {
        self.wait("current", |status| status.current).await;
    }

    async fn condition(&self) -> (bool, String) {
        let status = StatusServiceClient::new(self.channel.clone()).get_status(GetStatusRequest {}).await.unwrap();
        let status = status.into_inner();
        assert!(status.ready, "a catalogue never keeps ingestion from serving");
        let condition = status.conditions.into_iter().find(|condition| condition.name == "catalogue").unwrap();
        assert!(!condition.required);
        (condition.holds, condition.detail)
    }

    /// Without its epoch, which is that of the start.
    pub(crate) async fn topology(&self) -> wire::GetTopologyResponse {
        let topology = self.client.clone().get_topology(wire::GetTopologyRequest::default()).await.unwrap();
        wire::GetTopologyResponse { epoch: String::new(), ..topology.into_inner() }
    }

    async fn service(&self, id: &str) -> words::Entity {
        let request = wire::GetServiceRequest { service_id: id.into() };
        self.client.clone().get_service(request).await.unwrap().into_inner().service.unwrap()
    }
}

/// `caller>callee` of every edge.
pub(crate) fn edges(topology: &wire::GetTopologyResponse) -> BTreeSet<String> {
    let edges = topology.dependencies.to_vec().unwrap();
    edges.iter().map(|edge| format!("{}>{}", edge.caller_id, edge.callee_id)).collect()
}

fn told(edges: &[&str]) -> BTreeSet<String> {
    edges.iter().map(ToString::to_string).collect()
}

const EDGES: [&str; 17] = [
    "api:default/labels-api>labels",
    "api:default/tracking-api>tracking",
    "api:depot/scans>scanner-svc",
    "depot/sorter>scanner-svc",
    "labels>fonts",
    "labels>resource:default/labels",
    "system:default/parcels>labels",
    "system:default/parcels>resource:default/labels",
    "system:default/parcels>tracking",
    "system:default/parcels>tracking-db",
    "system:default/parcels>tracking-site",
    "tracking-db>cluster",
    "tracking-site>tracking",
    "tracking>labels",
    "tracking>scanner-svc",
    "tracking>tracking-cache",
    "tracking>tracking-db",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_is_followed_asked_only_for_what_is_new_and_followed_when_it_changes() {
    let backstage = Backstage::start(PARCELS).await;
    let served = Served::start(tempfile::tempdir().unwrap(), catalogue(&backstage.url, json!({}))).await;
    served.wait_current().await;
    let first = served.topology().await;
    assert_eq!(edges(&first), told(&EDGES));
    let tracking = served.service("tracking").await;
    assert_eq!((tracking.tier(), tracking.kind()), (words::Tier::Tier1, words::EntityKind::Service));
    assert_eq!((tracking.owner.as_str(), tracking.display_name.as_str()), ("dispatch", "Tracking"));
    assert_eq!((tracking.system.as_str(), tracking.lifecycle.as_str()), ("parcels", "production"));
    assert_eq!(tracking.catalogue_ref, "component:default/tracking");
    assert_eq!(tracking.sources, [words::Source::Catalogue as i32]);
    for (id, kind) in
        [("system:default/parcels", words::EntityKind::System), ("api:default/customs-api", words::EntityKind::Api)]
    {
        let found = served.service(id).await;
        assert_eq!((found.kind(), found.catalogue_ref.as_str(), found.owner.as_str()), (kind, id, "dispatch"));
    }
    let (holds, detail) = served.condition().await;
    assert!(holds && detail.starts_with("16 entities"), "{detail}");
    let status = served.status().await;
    assert_eq!((status.entity_count, status.service_count, status.dependency_count), (16, 16, 17));
    let problems: Vec<(&str, u32)> = status.problems.iter().map(|p| (p.code.as_str(), p.count)).collect();
    let expected =
        ["api_without_provider", "name_collision", "not_in_catalogue", "tier_unknown", "type_ignored", "type_unknown"];
    assert_eq!(problems, expected.map(|code| (code, 1)));

    // A second sweep is answered by 304 throughout and changes nothing.
    let recorded = pages(PARCELS).len();
    backstage.answers(2 * recorded).await;
    let asked = backstage.asked();
    let answers = |conditional: bool, status: u16| {
        asked.iter().filter(|asked| (asked.conditional, asked.status) == (conditional, status)).count()
    };
    assert_eq!(answers(false, 200), recorded, "{asked:?}");
    assert!(answers(true, 304) >= recorded && answers(true, 200) == 0, "{asked:?}");
    assert_eq!(served.topology().await.version, first.version);

    // What the genuine catalogue held later: an entity changed, two gone, an API with a consumer more.
    backstage.holds(pages(LATER));
    served.wait("later", |status| status.entity_count == 14).await;
    let later = served.topology().await;
    let mut expected = told(&EDGES);
    expected.remove("depot/sorter>scanner-svc");
    expected.insert("tracking-site>labels".into());
    assert_eq!(edges(&later), expected);
    assert_eq!(served.service("labels").await.lifecycle, "retired");
    let request = wire::GetServiceRequest { service_id: "depot/sorter".into() };
    assert_eq!(served.client.clone().get_service(request).await.unwrap_err().code(), Code::NotFound);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_everything_and_changes_nothing() {
    let backstage = Backstage::start(PARCELS).await;
    let settings = || catalogue(&backstage.url, json!({}));
    let served = Served::start(tempfile::tempdir().unwrap(), settings()).await;
    served.wait_current().await;
    let before = served.topology().await;
    let folder = served.stop().await;
    let again = Served::start(folder, settings()).await;
    assert_eq!(again.status().await.entity_count, 16, "what was applied is known before anything is asked");
    again.wait_current().await;
    assert_eq!(again.topology().await, before);
    again.stop().await;
}

fn answer(status: u16, more: &'static str, body: impl Into<String>) -> Mishap {
    Mishap::Answer(status, more, body.into())
}

/// The second page of the later state, whose cursor leads back to the page itself.
fn looping() -> String {
    let mut page = pages(LATER).remove(1);
    page["body"]["pageInfo"]["nextCursor"] = page["cursor"].clone();
    page["body"].to_string()
}

/// The same page, as the end of a sweep that has come too early.
fn ending() -> String {
    let mut page = pages(LATER).remove(1);
    page["body"]["pageInfo"] = json!({});
    page["body"].to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_does_not_come_leaves_everything_as_it_was() {
    let backstage = Backstage::start(PARCELS).await;
    let served = Served::start(tempfile::tempdir().unwrap(), catalogue(&backstage.url, json!({}))).await;
    served.wait_current().await;
    let before = served.topology().await;
    // The first page of the later state is new; the second goes wrong.
    backstage.holds(pages(LATER));
    let html = "<html><body>Sign in to continue</body></html>";
    for (code, mishap) in [
        ("unauthorized", answer(401, "", refusals()[1].1.clone())),
        ("forbidden", answer(403, "", r#"{"error":{"name":"NotAllowedError","message":"not for you"}}"#)),
        ("not_found", answer(404, "", "Not Found")),
        ("refused", answer(400, "", refusals()[2].1.clone())),
        ("refused", answer(302, "location: /sign-in\r\n", html)),
        ("busy", answer(429, "retry-after: 1\r\n", "slow down")),
        ("busy", answer(503, "", "starting")),
        ("failed", answer(500, "", html)),
        ("malformed", answer(200, "", html)),
        ("malformed", answer(200, "", r#"{"items":[]}"#)),
        ("incomplete", answer(200, "", empty(14))),
        ("incomplete", answer(200, "", ending())),
        ("incomplete", answer(200, "", looping())),
        ("unreachable", Mishap::CutOff),
        ("unreachable", Mishap::Silence),
    ] {
        // Each is met by a service that just started: no waiting for its patience.
        let folder = served_copy(&served);
        backstage.fails(1, mishap.clone());
        let other = Served::start(folder, catalogue(&backstage.url, json!({}))).await;
        other.wait(code, |status| status.code == code).await;
        let (holds, detail) = other.condition().await;
        assert!(!holds && !detail.contains(TOKEN), "{mishap:?}: {detail}");
        assert_eq!(other.topology().await, before, "{mishap:?}");
        other.stop().await;
    }
    // The one that was there all the while goes on as soon as it can.
    backstage.heals();
    served.wait("healed", |status| status.current && status.entity_count == 14).await;
    served.stop().await;
}

/// A folder with the database as it stands.
fn served_copy(served: &Served) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(served.folder.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    copy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_lost_nearly_everything_is_not_believed_unless_told_so() {
    let backstage = Backstage::start(PARCELS).await;
    let served = Served::start(tempfile::tempdir().unwrap(), catalogue(&backstage.url, json!({}))).await;
    served.wait_current().await;
    let before = served.topology().await;
    backstage.fails(0, answer(200, "", empty(0)));
    served.wait("shrunken", |status| status.code == "shrunken").await;
    let (holds, detail) = served.condition().await;
    assert!(!holds && detail.contains("16 of 16 entities are gone"), "{detail}");
    assert_eq!(served.topology().await, before);
    let folder = served.stop().await;
    let trusting = Served::start(folder, catalogue(&backstage.url, json!({ "gone_share_max": 1.0 }))).await;
    trusting.wait("emptied", |status| status.current && status.entity_count == 0).await;
    let after = trusting.topology().await;
    assert!(after.entities.is_empty() && after.dependencies.is_empty());
    trusting.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_is_read_is_refused_by_name() {
    let backstage = Backstage::start(PARCELS).await;
    for more in [json!({ "entities_max": 15 }), json!({ "bytes_max": 4_000 })] {
        let served = Served::start(tempfile::tempdir().unwrap(), catalogue(&backstage.url, more)).await;
        served.wait("too large", |status| status.code == "too_large").await;
        assert!(served.topology().await.entities.is_empty());
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_may_be_replaced_and_is_told_to_nobody_else() {
    let backstage = Backstage::start(PARCELS).await;
    let secrets = tempfile::tempdir().unwrap();
    let token_file = secrets.path().join("token");
    std::fs::write(&token_file, "canary-old-token\n").unwrap();
    let more = json!({ "token": null, "token_file": token_file });
    let served = Served::start(tempfile::tempdir().unwrap(), catalogue(&backstage.url, more)).await;
    served.wait("refused", |status| status.code == "unauthorized").await;
    assert_eq!(backstage.asked()[0], Asked { page: 0, conditional: false, status: 401 });
    std::fs::write(&token_file, "").unwrap();
    served.wait("empty", |status| status.code == "token_unusable").await;
    std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    served.wait_current().await;
    backstage.accepts("canary-newer-token");
    served.wait("refused again", |status| status.code == "unauthorized").await;
    std::fs::write(&token_file, "canary-newer-token").unwrap();
    served.wait_current().await;
    let folder = served.stop().await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|six| six == b"canary"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_catalogue_the_answer_says_so() {
    let backstage = Backstage::start(PARCELS).await;
    let elsewhere = catalogue(&backstage.url, json!({ "tenant": "acme" }));
    let served = Served::start(tempfile::tempdir().unwrap(), elsewhere).await;
    // The question comes from the default tenant.
    assert_eq!(served.status().await, wire::GetCatalogueStatusResponse::default());
    served.stop().await;
}
