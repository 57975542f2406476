//! kill −9 during writes of buckets, exports of metrics, packing and retention, on both databases: what was acknowledged is
//! there exactly once, and what was not is there or not.
//!
//! A test runs itself again as a process of its own, which it kills.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners};
use attain_proto::columns;
use attain_proto::convert::timestamp;
use attain_proto::day;
use attain_proto::ingestion::v1 as wire;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, DAY_MS, SliBucket};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

const CHILD: &str = "ATTAIN_TEST_KILL_CHILD";
const POSTGRES_URL: &str = "ATTAIN_TEST_POSTGRES_URL";
/// Five hours into a day.
const NOW_MS: i64 = 20_752 * DAY_MS + 5 * DAY_MS / 24;
/// Longer than any step takes, so that what is stuck fails.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Serves until it is killed; only in the process that a test started.
async fn serve_where_told() -> bool {
    let Ok(told) = std::env::var(CHILD) else { return false };
    let told: Vec<&str> = told.split(' ').collect();
    let [database_url, mesh, otlp, history_days] = told[..] else { panic!("{told:?}") };
    let bound = async |address: &str| TcpListener::bind(address).await.unwrap();
    let listeners =
        Listeners { mesh: bound(mesh).await, otlp: bound(otlp).await, otlp_http: bound("127.0.0.1:0").await };
    let config = Config {
        database_url: database_url.to_owned(),
        history_days: history_days.parse().unwrap(),
        upkeep_interval_seconds: 1,
        ..Config::default()
    };
    attain_ingestion::serve(config, listeners, Clock::held(NOW_MS), Shutdown::new()).await.unwrap();
    true
}

/// A database, and a service on it that can be killed.
struct Member {
    test: &'static str,
    database_url: String,
    mesh: SocketAddr,
    otlp: SocketAddr,
    history_days: u32,
    child: Option<Child>,
    postgres: Option<(String, String)>,
    _folder: tempfile::TempDir,
}

impl Member {
    /// One on SQLite, and one on PostgreSQL where a server is named.
    async fn on_each_database(test: &'static str) -> Vec<Self> {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let member = |database_url: Option<String>, postgres| {
            let folder = tempfile::tempdir().unwrap();
            let embedded = format!("sqlite:{}", folder.path().join("ingestion.db").display());
            let database_url = database_url.unwrap_or(embedded);
            Self {
                test,
                database_url,
                mesh: free(),
                otlp: free(),
                history_days: 400,
                child: None,
                postgres,
                _folder: folder,
            }
        };
        let mut members = vec![member(None, None)];
        match std::env::var(POSTGRES_URL) {
            Ok(server) => {
                let name = format!("test_kill_{}_{}", std::process::id(), &test[..8]);
                execute(&server, &format!("CREATE DATABASE {name}")).await;
                let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
                members.push(member(Some(url), Some((server, name))));
            }
            Err(_) => {
                assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "{POSTGRES_URL} is required and not set");
                println!("SKIPPED on PostgreSQL: {POSTGRES_URL} is not set");
            }
        }
        members
    }

    fn start(&mut self) {
        let Self { database_url, mesh, otlp, history_days, .. } = &*self;
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.test, "--nocapture"])
            .env(CHILD, format!("{database_url} {mesh} {otlp} {history_days}"))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn ready(&self) {
        let (began, channel) = (Instant::now(), self.channel(self.mesh));
        loop {
            let status = StatusServiceClient::new(channel.clone()).get_status(GetStatusRequest {}).await;
            if status.is_ok_and(|status| status.into_inner().ready) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it does not become ready");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    async fn kill_9(&mut self) {
        let mut child = self.child.take().unwrap();
        assert_eq!(child.try_wait().unwrap(), None, "it runs until it is killed");
        child.kill().await.unwrap();
    }

    fn channel(&self, address: SocketAddr) -> Channel {
        Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
    }

    fn client(&self) -> IngestionServiceClient<Channel> {
        IngestionServiceClient::new(self.channel(self.mesh))
    }

    async fn history(&self, services: &[String]) -> BTreeMap<String, BTreeMap<i64, SliBucket>> {
        let service_ids = services.to_vec();
        let question =
            wire::StreamSliHistoryRequest { service_ids, day_version_max: day::VERSION, ..Default::default() };
        let mut chunks = self.client().stream_sli_history(question).await.unwrap().into_inner();
        let mut all: BTreeMap<String, BTreeMap<i64, SliBucket>> = BTreeMap::new();
        while let Some(chunk) = chunks.message().await.unwrap() {
            let mut buckets = Vec::new();
            columns::append(&chunk, &mut buckets).unwrap();
            for bucket in buckets {
                let twice = all.entry(chunk.service_id.clone()).or_default().insert(bucket.start_ms, bucket);
                assert_eq!(twice, None, "each time once");
            }
        }
        all
    }

    async fn end(mut self) {
        self.kill_9().await;
        if let Some((server, name)) = self.postgres.take() {
            execute(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }
}

async fn execute(server: &str, sql: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(server).await.unwrap();
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

fn service(number: u64) -> String {
    format!("service-{number}")
}

fn declared(service: &str, start_ms: i64, valid: u64) -> wire::SliBucketDeclaration {
    wire::SliBucketDeclaration {
        service_id: service.to_owned(),
        start_time: Some(timestamp(start_ms)),
        valid_count: valid as f64,
        bad_count: 1.0,
        ..Default::default()
    }
}

/// Until it is acknowledged, as a sender does that is told nothing of the other side's death.
async fn until_acknowledged<T, F: Future<Output = Result<T, tonic::Status>>>(mut call: impl FnMut() -> F) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(status) => assert!(began.elapsed() < PATIENCE, "never acknowledged: {status}"),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

const SERVICES: u64 = 4;
const BUCKETS: i64 = 30;
const VERSIONS: u64 = 120;
const METERED: &str = "metered";
const REQUESTS_A_STEP: u64 = 7;

/// Writes the same buckets in ever new versions, one after the other.
async fn write_versions(client: IngestionServiceClient<Channel>, acknowledged: Arc<AtomicU64>) {
    for version in 1..=VERSIONS {
        // Of the last hours: rows, and what is packed while they are written again.
        let buckets = (0..SERVICES).flat_map(|number| {
            (1..=BUCKETS).map(move |ago| declared(&service(number), NOW_MS - ago * BUCKET_MS, version + ago as u64))
        });
        let request = wire::IngestSliBucketsRequest { service_id: String::new(), buckets: buckets.collect() };
        let answer = until_acknowledged(|| {
            let (mut client, request) = (client.clone(), request.clone());
            async move { client.ingest_sli_buckets(request).await }
        });
        assert_eq!(answer.await.into_inner().accepted_count, SERVICES * BUCKETS as u64);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

/// A cumulative histogram after so many steps of one second.
fn metrics(step: u64) -> ExportMetricsServiceRequest {
    let text = |key: &str, text: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(text.into())) }),
        ..Default::default()
    };
    let (start_ns, count) = ((NOW_MS as u64 - 600_000) * 1_000_000, step * REQUESTS_A_STEP);
    let point = otlp::HistogramDataPoint {
        attributes: vec![text("http.route", "/pay")],
        start_time_unix_nano: start_ns,
        time_unix_nano: start_ns + (step + 1) * 1_000_000_000,
        count,
        bucket_counts: vec![count, 0],
        explicit_bounds: vec![0.25],
        ..Default::default()
    };
    let data = Data::Histogram(otlp::Histogram { data_points: vec![point], aggregation_temporality: 2 });
    let name = "http.server.request.duration".into();
    let metric = otlp::Metric { name, unit: "s".into(), data: Some(data), ..Default::default() };
    let resource = Resource { attributes: vec![text("service.name", METERED)], ..Default::default() };
    ExportMetricsServiceRequest {
        resource_metrics: vec![otlp::ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![otlp::ScopeMetrics { metrics: vec![metric], ..Default::default() }],
            ..Default::default()
        }],
    }
}

/// Exports a counter that rises, one reading after the other.
async fn export_steps(channel: Channel, acknowledged: Arc<AtomicU64>) {
    for step in 0..=VERSIONS {
        let answer = until_acknowledged(|| {
            let (mut client, request) = (MetricsServiceClient::new(channel.clone()), metrics(step));
            async move { client.export(request).await }
        });
        assert_eq!(answer.await.into_inner().partial_success, None, "nothing is refused");
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_buckets_and_metrics_stand_once_whenever_it_is_killed() {
    const KILLS: u64 = 5;
    if serve_where_told().await {
        return;
    }
    for mut member in
        Member::on_each_database("acknowledged_buckets_and_metrics_stand_once_whenever_it_is_killed").await
    {
        member.start();
        member.ready().await;
        let acknowledged = Arc::new(AtomicU64::new(0));
        let senders = [
            tokio::spawn(write_versions(member.client(), Arc::clone(&acknowledged))),
            tokio::spawn(export_steps(member.channel(member.otlp), Arc::clone(&acknowledged))),
        ];
        for kill in 1..=KILLS {
            let began = Instant::now();
            while acknowledged.load(Ordering::Relaxed) < kill * 2 * VERSIONS / (KILLS + 1) {
                assert!(began.elapsed() < PATIENCE, "nothing is acknowledged any more");
                tokio::task::yield_now().await;
            }
            member.kill_9().await;
            member.start();
            member.ready().await;
        }
        for sender in senders {
            sender.await.unwrap();
        }
        let services: Vec<String> = (0..SERVICES).map(service).chain([METERED.to_owned()]).collect();
        let mut history = member.history(&services).await;
        let metered: u64 = history.remove(METERED).unwrap().values().map(|bucket| bucket.counts.valid()).sum();
        assert_eq!(metered, VERSIONS * REQUESTS_A_STEP, "each request once, {}", member.database_url);
        let last = |ago: i64| (NOW_MS - ago * BUCKET_MS, VERSIONS + ago as u64);
        let expected: BTreeMap<i64, u64> = (1..=BUCKETS).map(last).collect();
        assert_eq!(history.len() as u64, SERVICES);
        for (service, buckets) in history {
            let valid: BTreeMap<i64, u64> =
                buckets.iter().map(|(start_ms, bucket)| (*start_ms, bucket.counts.valid())).collect();
            assert_eq!(valid, expected, "{service} has what was written last, {}", member.database_url);
        }
        member.end().await;
    }
}

const DAYS: i64 = 70;
const HISTORY_DAYS: u32 = 30;

/// Some buckets of each day, too few to be packed at once.
fn of_all_days(number: u64) -> impl Iterator<Item = wire::SliBucketDeclaration> {
    let starts =
        (1..=DAYS).flat_map(|day| (0..8).map(move |place| (NOW_MS / DAY_MS - day) * DAY_MS + place * 17 * BUCKET_MS));
    starts.map(move |start_ms| declared(&service(number), start_ms, 2 + (start_ms / BUCKET_MS) as u64 % 1_000))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packing_and_retention_lose_nothing_that_is_kept_whenever_they_are_killed() {
    const ROUNDS: u32 = 8;
    if serve_where_told().await {
        return;
    }
    let test = "packing_and_retention_lose_nothing_that_is_kept_whenever_they_are_killed";
    for mut member in Member::on_each_database(test).await {
        member.start();
        member.ready().await;
        for number in 0..SERVICES {
            let buckets: Vec<_> = of_all_days(number).collect();
            let sent = buckets.len() as u64;
            let request = wire::IngestSliBucketsRequest { service_id: String::new(), buckets };
            let answer = member.client().ingest_sli_buckets(request).await.unwrap().into_inner();
            assert_eq!((answer.accepted_count, answer.rejected), (sent, Vec::new()));
        }
        member.kill_9().await;
        member.history_days = HISTORY_DAYS;
        let services: Vec<String> = (0..SERVICES).map(service).collect();
        for round in 0..ROUNDS {
            member.start();
            member.ready().await;
            // Not to wait for anything: each round kills at another moment of its upkeep.
            tokio::time::sleep(Duration::from_millis((1 << round) - 1)).await;
            holds_what_is_kept(&member, &services).await;
            member.kill_9().await;
        }
        member.start();
        member.ready().await;
        packed_and_expired(&member.database_url).await;
        holds_what_is_kept(&member, &services).await;
        member.end().await;
    }
}

/// Everything of the days that are kept, as it was sent; of older days nothing that was not sent.
async fn holds_what_is_kept(member: &Member, services: &[String]) {
    let keep_from_ms = NOW_MS - i64::from(HISTORY_DAYS) * DAY_MS;
    let history = member.history(services).await;
    for number in 0..SERVICES {
        let found = &history[&service(number)];
        let sent: BTreeMap<i64, u64> = of_all_days(number)
            .map(|bucket| (bucket.start_time.unwrap().seconds * 1_000, bucket.valid_count as u64))
            .collect();
        let lost: Vec<i64> = sent
            .keys()
            .copied()
            .filter(|start_ms| *start_ms >= keep_from_ms && !found.contains_key(start_ms))
            .collect();
        assert_eq!(lost, Vec::<i64>::new(), "{} of {}", service(number), member.database_url);
        for (start_ms, bucket) in found {
            assert_eq!(sent.get(start_ms), Some(&bucket.counts.valid()), "{} at {start_ms}", service(number));
        }
    }
}

/// Waits until every row is in a block and the oldest history is gone.
async fn packed_and_expired(database_url: &str) {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(database_url).await.unwrap();
    let (schema, kept_days) = if database_url.starts_with("sqlite:") {
        ("", i64::from(HISTORY_DAYS))
    } else {
        ("ingestion.", i64::from(HISTORY_DAYS) + 28)
    };
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM {schema}sli_buckets) AS bucket_rows, \
         (SELECT COUNT(*) FROM {schema}sli_blocks WHERE day_ms < {}) AS old_blocks",
        (NOW_MS / DAY_MS - kept_days) * DAY_MS
    );
    let began = Instant::now();
    loop {
        let row = connection.fetch_one(AssertSqlSafe(sql.clone())).await.unwrap();
        if row.get::<i64, _>("bucket_rows") + row.get::<i64, _>("old_blocks") == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it is never all packed and deleted");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    connection.close().await.unwrap();
}
