use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners, PrometheusConfig};
use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::ingestion::v1 as words;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1::{Dependency, SliBucket};
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, DAY_MS};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

pub(crate) const NOW_MS: i64 = 1_793_000_000_000;
pub(crate) const WITHIN: Duration = Duration::from_secs(30);

/// As a status: no answer at all, and the connection stays open.
pub(crate) const NEVER: u16 = 0;

/// A range query that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) query: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
}

impl Asked {
    pub(crate) fn of(url: &reqwest::Url) -> Self {
        let value = |key: &str| url.query_pairs().find(|(known, _)| known == key).unwrap().1.into_owned();
        let at = |key: &str| value(key).parse::<i64>().unwrap() * 1000;
        Self { query: value("query"), start_ms: at("start"), end_ms: at("end") }
    }

    pub(crate) fn buckets(&self) -> i64 {
        (self.end_ms - self.start_ms) / BUCKET_MS + 1
    }

    /// An answer: the same value at each instant, of one series with these labels; of none without.
    pub(crate) fn answer(&self, labels: &[(&str, &str)], value: &str) -> (u16, String) {
        let values: Vec<_> =
            (self.start_ms..=self.end_ms).step_by(BUCKET_MS as usize).map(|t| json!([t / 1000, value])).collect();
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let result = if labels.is_empty() { json!([]) } else { json!([{"metric": labels, "values": values}]) };
        (200, json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string())
    }
}

/// Answers each request by its path, with a form's body as the query, and its head; its address.
pub(crate) async fn serve_http(
    answer: impl Fn(&reqwest::Url, &str) -> (u16, String) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let told = base.clone();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let (answer, base) = (Arc::clone(&answer), told.clone());
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let end = request.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
                let head = String::from_utf8_lossy(&request[..end]).into_owned();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                while request.len() < end + length.unwrap_or(0) {
                    if socket.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let mut url =
                    reqwest::Url::parse(&format!("{base}{}", head.split_whitespace().nth(1).unwrap())).unwrap();
                url.set_query(Some(&String::from_utf8_lossy(&request[end..])));
                let (status, body) = answer(&url, &head);
                if status == NEVER {
                    return std::future::pending().await;
                }
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                // A client that went away does not matter.
                let _ = socket.write_all(head.as_bytes()).await;
                let _ = socket.write_all(body.as_bytes()).await;
            });
        }
    });
    base
}

pub(crate) struct Served {
    pub(crate) clock: Clock,
    folder: TempDir,
    pub(crate) channel: Channel,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
}

pub(crate) const MAPPING: &str = r#"
[[mapping]]
name = "http"
valid = 'sum by (service) (increase(http_requests_total[5m]))'
bad = 'sum by (service) (increase(http_requests_total{code=~"5.."}[5m]))'
latency_buckets = 'sum by (service, le) (increase(http_request_duration_seconds_bucket[5m]))'
"#;

impl Served {
    pub(crate) async fn start(folder: TempDir, clock: Clock, url: &str, backfill_days: u32) -> Self {
        let settings = PrometheusConfig { url: url.into(), backfill_days, ..PrometheusConfig::default() };
        Self::start_with(folder, clock, settings, MAPPING).await
    }

    /// With these settings, but for the file of the mapping and how often the server is asked.
    pub(crate) async fn start_with(folder: TempDir, clock: Clock, settings: PrometheusConfig, mapping: &str) -> Self {
        let mapping_file = folder.path().join("mapping.toml");
        std::fs::write(&mapping_file, mapping).unwrap();
        let prometheus = PrometheusConfig { mapping_file, interval_seconds: 1, lag_seconds: 0, ..settings };
        let database_url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        let config = Config { database_url, prometheus: Some(prometheus), ..Config::default() };
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { mesh: free().await, otlp: free().await, otlp_http: free().await };
        let address = format!("http://{}", listeners.mesh.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let serving = attain_ingestion::serve(config, listeners, clock.clone(), shutdown.clone());
        let ended = tokio::spawn(serving);
        let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
        Self { clock, folder, channel, shutdown, ended }
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
        self.folder
    }

    /// The condition `prometheus`: whether it holds, and its detail.
    pub(crate) async fn condition(&self) -> (bool, String) {
        let status = StatusServiceClient::new(self.channel.clone()).get_status(GetStatusRequest {}).await.unwrap();
        let conditions = status.into_inner().conditions;
        let condition = conditions.into_iter().find(|condition| condition.name == "prometheus").unwrap();
        assert!(!condition.required);
        (condition.holds, condition.detail)
    }

    pub(crate) async fn wait(&self, what: &str, reached: impl Fn(bool, &str) -> bool) {
        let began = Instant::now();
        loop {
            let (holds, detail) = self.condition().await;
            if reached(holds, &detail) {
                return;
            }
            assert!(began.elapsed() < WITHIN, "{what}: {detail}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Every bucket of a service by its start.
    pub(crate) async fn buckets(&self, service: &str, now_ms: i64) -> BTreeMap<i64, SliBucket> {
        buckets_of(&self.channel, service, now_ms).await
    }
}

/// Buckets of a service, oldest first.
pub(crate) async fn buckets_of(channel: &Channel, service: &str, now_ms: i64) -> BTreeMap<i64, SliBucket> {
    regional_buckets_of(channel, service, "", now_ms).await
}

/// Buckets of a region of a service, or of the whole service where none is named, oldest first.
pub(crate) async fn regional_buckets_of(
    channel: &Channel,
    service: &str,
    region: &str,
    now_ms: i64,
) -> BTreeMap<i64, SliBucket> {
    let mut buckets = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = words::ListSliBucketsRequest {
            service_id: service.into(),
            region: region.into(),
            start_time: Some(timestamp(now_ms - 200 * DAY_MS)),
            end_time: Some(timestamp(now_ms)),
            page_size: 2_000,
            page_token,
        };
        let page = match IngestionServiceClient::new(channel.clone()).list_sli_buckets(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == tonic::Code::NotFound => return buckets,
            Err(status) => panic!("{status}"),
        };
        buckets.extend(page.buckets.into_iter().map(|b| (unix_millis(b.start_time.as_ref().unwrap()), b)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return buckets;
        }
    }
}

/// Every edge by caller and callee.
pub(crate) async fn edges_of(channel: &Channel) -> BTreeMap<(String, String), Dependency> {
    let request = words::GetTopologyRequest::default();
    let topology = IngestionServiceClient::new(channel.clone()).get_topology(request).await.unwrap().into_inner();
    let edges = topology.dependencies.to_vec().unwrap();
    edges.into_iter().map(|edge| ((edge.caller_id.clone(), edge.callee_id.clone()), edge)).collect()
}

/// The program of a genuine server; `None`, and a line that says so, where none is named.
pub(crate) fn provided() -> Option<String> {
    let program = std::env::var("ATTAIN_TEST_PROMETHEUS").ok().filter(|program| !program.is_empty());
    if program.is_none() {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "ATTAIN_TEST_PROMETHEUS is required and not set");
        eprintln!("SKIPPED: ATTAIN_TEST_PROMETHEUS is not set");
    }
    program
}

/// A genuine server whose database `promtool` made of a history, and its address.
pub(crate) async fn with_history(program: &str, folder: &Path, openmetrics: &str) -> (Child, String) {
    let file = folder.join("history.txt");
    std::fs::write(&file, format!("{openmetrics}# EOF\n")).unwrap();
    let promtool = Path::new(program).with_file_name("promtool");
    // One block for all: otherwise the file is read once for each two hours of it.
    let made = Command::new(promtool)
        .args(["tsdb", "create-blocks-from", "--max-block-duration=1458h", "-q", "openmetrics"])
        .arg(&file)
        .arg(folder.join("tsdb"))
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    start_prometheus(program, folder, "global: {}\n", &["--storage.tsdb.retention.time=20y"]).await
}

/// A genuine server, and its address once it is ready.
pub(crate) async fn start_prometheus(
    program: &str,
    folder: &Path,
    configuration: &str,
    arguments: &[&str],
) -> (Child, String) {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, configuration).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(arguments)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let began = Instant::now();
    while !client.get(format!("{url}/-/ready")).send().await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(began.elapsed() < WITHIN, "Prometheus is not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (child, url)
}
