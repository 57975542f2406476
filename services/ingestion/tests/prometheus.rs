//! Buckets from a Prometheus-compatible server: a scripted one for what goes wrong, and a genuine one where
//! `ATTAIN_TEST_PROMETHEUS` names the program.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attain_ingestion::{Config, Listeners, PrometheusConfig};
use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::ingestion::v1 as words;
use attain_proto::ingestion::v1::ingestion_service_client::IngestionServiceClient;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1::SliBucket;
use attain_runtime::Shutdown;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, DAY_MS, LatencyHistogram, bucket_start};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tonic::transport::Channel;

const NOW_MS: i64 = 1_793_000_000_000;
const WITHIN: Duration = Duration::from_secs(30);

/// Answers each GET by its path and query; its address.
async fn serve_http(answer: impl Fn(&reqwest::Url) -> (u16, String) + Send + Sync + 'static) -> String {
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
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split_whitespace().nth(1).unwrap();
                let (status, body) = answer(&reqwest::Url::parse(&format!("{base}{path}")).unwrap());
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

struct Served {
    clock: Clock,
    folder: TempDir,
    channel: Channel,
    shutdown: Shutdown,
    ended: JoinHandle<Result<(), attain_ingestion::Error>>,
}

const MAPPING: &str = r#"
[[mapping]]
name = "http"
valid = 'sum by (service) (increase(http_requests_total[5m]))'
bad = 'sum by (service) (increase(http_requests_total{code=~"5.."}[5m]))'
latency_buckets = 'sum by (service, le) (increase(http_request_duration_seconds_bucket[5m]))'
"#;

impl Served {
    async fn start(folder: TempDir, clock: Clock, url: &str, backfill_days: u32) -> Self {
        let mapping_file = folder.path().join("mapping.toml");
        std::fs::write(&mapping_file, MAPPING).unwrap();
        let prometheus =
            PrometheusConfig { url: url.into(), mapping_file, interval_seconds: 1, backfill_days, lag_seconds: 0 };
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

    async fn stop(self) -> TempDir {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
        self.folder
    }

    /// The condition `prometheus`: whether it holds, and its detail.
    async fn condition(&self) -> (bool, String) {
        let status = StatusServiceClient::new(self.channel.clone()).get_status(GetStatusRequest {}).await.unwrap();
        let conditions = status.into_inner().conditions;
        let condition = conditions.into_iter().find(|condition| condition.name == "prometheus").unwrap();
        assert!(!condition.required);
        (condition.holds, condition.detail)
    }

    async fn wait(&self, what: &str, reached: impl Fn(bool, &str) -> bool) {
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
    async fn buckets(&self, service: &str, now_ms: i64) -> BTreeMap<i64, SliBucket> {
        let mut buckets = BTreeMap::new();
        let mut page_token = String::new();
        loop {
            let request = words::ListSliBucketsRequest {
                service_id: service.into(),
                start_time: Some(timestamp(now_ms - 3 * DAY_MS)),
                end_time: Some(timestamp(now_ms)),
                page_size: 2_000,
                page_token,
            };
            let page =
                IngestionServiceClient::new(self.channel.clone()).list_sli_buckets(request).await.unwrap().into_inner();
            buckets.extend(page.buckets.into_iter().map(|b| (unix_millis(b.start_time.as_ref().unwrap()), b)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return buckets;
            }
        }
    }
}

/// Start and end of each question for requests, in milliseconds.
type Asked = Arc<Mutex<Vec<(i64, i64)>>>;

/// A server that says 10 requests at each instant, and refuses more points than it can.
async fn scripted(asked: Asked, points_max: i64, mut away: u32) -> String {
    let left = Mutex::new(std::mem::take(&mut away));
    serve_http(move |url| {
        let pairs: BTreeMap<_, _> = url.query_pairs().collect();
        let at = |key: &str| pairs[key].parse::<i64>().unwrap() * 1000;
        let (start, end) = (at("start"), at("end"));
        assert_eq!(
            (url.path(), at("step"), start % BUCKET_MS, end % BUCKET_MS),
            ("/prom/api/v1/query_range", BUCKET_MS, 0, 0)
        );
        let mut left = left.lock().unwrap();
        if *left > 0 {
            *left -= 1;
            return (503, "Service Unavailable".into());
        }
        if (end - start) / BUCKET_MS >= points_max {
            let error = "query processing would load too many samples into memory in query execution";
            return (422, json!({"status": "error", "errorType": "execution", "error": error}).to_string());
        }
        let requests = pairs["query"].contains("http_requests_total[");
        let values: Vec<_> = (start..=end).step_by(BUCKET_MS as usize).map(|t| json!([t / 1000, "10"])).collect();
        if requests {
            asked.lock().unwrap().push((start, end));
        }
        let result = if requests { json!([{"metric": {"service": "shop"}, "values": values}]) } else { json!([]) };
        (200, json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string())
    })
    .await
        + "/prom/"
}

#[tokio::test]
async fn the_past_is_read_in_pieces_and_a_restart_goes_on() {
    let asked = Asked::default();
    let url = scripted(Arc::clone(&asked), 100, 1).await;
    let served = Served::start(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), &url, 2).await;
    served.wait("away", |holds, detail| !holds && detail.contains("does not answer")).await;
    served.wait("read", |holds, _| holds).await;
    let buckets = served.buckets("shop", NOW_MS).await;
    assert_eq!(buckets.len(), 576);
    let newest = bucket_start(NOW_MS) - BUCKET_MS;
    assert_eq!((buckets.keys().next(), buckets.keys().last()), (Some(&(newest - 575 * BUCKET_MS)), Some(&newest)));
    assert!(buckets.values().all(|bucket| (bucket.valid_count, bucket.bad_count) == (10, 0)));
    {
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 8, "{asked:?}");
        assert!(asked.windows(2).all(|pair| pair[0].1 + BUCKET_MS == pair[1].0), "no gap and nothing twice: {asked:?}");
    }

    let folder = served.stop().await;
    asked.lock().unwrap().clear();
    let again = Served::start(folder, Clock::held(NOW_MS), &url, 2).await;
    again.wait("nothing new", |holds, _| holds).await;
    assert!(asked.lock().unwrap().is_empty());
    again.clock.set(NOW_MS + 2 * BUCKET_MS);
    let began = Instant::now();
    while asked.lock().unwrap().is_empty() {
        assert!(began.elapsed() < WITHIN, "not asked for what is new");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let next = bucket_start(NOW_MS);
    assert_eq!(*asked.lock().unwrap(), [(next + BUCKET_MS, next + 2 * BUCKET_MS)]);
    again.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_stops_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:{}@{}", "pw-canary", listener.local_addr().unwrap());
    drop(listener);
    let served = Served::start(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), &url, 1).await;
    served.wait("refused", |holds, detail| !holds && detail.contains("does not answer")).await;
    let (_, detail) = served.condition().await;
    assert!(!detail.contains("pw-canary"), "{detail}");
    let status = StatusServiceClient::new(served.channel.clone()).get_status(GetStatusRequest {}).await.unwrap();
    assert!(status.into_inner().ready);
    served.stop().await;
}

#[tokio::test]
async fn a_mapping_that_cannot_be_right_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mapping_file = folder.path().join("mapping.toml");
    std::fs::write(&mapping_file, "[[mapping]]\nvalid = 'up'\nbad = ''\n").unwrap();
    let url = "http://127.0.0.1:9090".into();
    let prometheus = PrometheusConfig { url, mapping_file, interval_seconds: 1, backfill_days: 1, lag_seconds: 0 };
    let config = Config { prometheus: Some(prometheus), ..Config::default() };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("mapping[0].bad"), "{error}");
}

const SAMPLE_S: i64 = 15;
const MINUTES: i64 = 45;

/// 45 minutes of counters, a sample each 15 seconds with its own time: 4 requests of `shop` a sample, every 20th of them
/// failed, 9 of 10 within 100 ms; `pay` the same, but silent from minute 20 to 35.
fn history(first_s: i64) -> String {
    let mut text = String::new();
    let rows: [(&str, &str, f64); 5] = [
        ("http_requests_total", "code=\"200\"", 3.8),
        ("http_requests_total", "code=\"503\"", 0.2),
        ("http_request_duration_seconds_bucket", "le=\"0.1\"", 3.6),
        ("http_request_duration_seconds_bucket", "le=\"0.25\"", 4.0),
        ("http_request_duration_seconds_bucket", "le=\"+Inf\"", 4.0),
    ];
    for (name, label, rate) in rows {
        for service in ["shop", "pay"] {
            for n in 0..=MINUTES * 60 / SAMPLE_S {
                let silent = service == "pay" && (20 * 4..35 * 4).contains(&n);
                if !silent {
                    let time_ms = (first_s + n * SAMPLE_S) * 1000;
                    writeln!(text, "{name}{{service=\"{service}\",{label}}} {} {time_ms}", rate * n as f64).unwrap();
                }
            }
        }
    }
    text
}

async fn start_prometheus(program: &str, folder: &Path, target: &str) -> (Child, String) {
    let config = folder.join("prometheus.yml");
    let target = target.trim_start_matches("http://");
    let scrape = format!("scrape_configs: [{{job_name: history, static_configs: [{{targets: [\"{target}\"]}}]}}]\n");
    std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\n{scrape}")).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    (child, format!("http://127.0.0.1:{port}"))
}

async fn scraped(url: &str, time_s: i64) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let began = Instant::now();
    let asked = format!("{url}/api/v1/query?query=count(http_requests_total)&time={time_s}");
    loop {
        if let Ok(answer) = client.get(&asked).send().await
            && answer.text().await.is_ok_and(|text| text.contains("\"value\""))
        {
            return;
        }
        assert!(began.elapsed() < WITHIN, "Prometheus has no samples");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_genuine_server_tells_what_an_exporter_counted() {
    let Some(program) = std::env::var("ATTAIN_TEST_PROMETHEUS").ok().filter(|program| !program.is_empty()) else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "ATTAIN_TEST_PROMETHEUS is required and not set");
        eprintln!("SKIPPED: ATTAIN_TEST_PROMETHEUS is not set");
        return;
    };
    let now_ms = Clock::system().now_ms();
    let last_s = now_ms / 1000 / SAMPLE_S * SAMPLE_S;
    let first_s = last_s - MINUTES * 60;
    let exporter = serve_http(move |_| (200, history(first_s))).await;
    let folder = tempfile::tempdir().unwrap();
    let (mut child, url) = start_prometheus(&program, folder.path(), &exporter).await;
    scraped(&url, last_s).await;

    let served = Served::start(tempfile::tempdir().unwrap(), Clock::system(), &url, 1).await;
    served.wait("read", |holds, _| holds).await;
    let shop = served.buckets("shop", now_ms).await;
    // Those that the samples cover from end to end.
    let covered = |start_ms: &i64| *start_ms >= first_s * 1000 && start_ms + BUCKET_MS <= last_s * 1000;
    let starts: Vec<i64> = (0..10).map(|n| bucket_start(first_s * 1000) + n * BUCKET_MS).filter(covered).collect();
    assert!(starts.len() >= 8, "{starts:?}");
    for start_ms in &starts {
        let bucket = shop.get(start_ms).unwrap_or_else(|| panic!("no bucket at {start_ms} among {:?}", shop.keys()));
        assert_eq!((bucket.valid_count, bucket.bad_count, bucket.inherited_bad_count), (80, 4, None));
        let latency = LatencyHistogram::try_from(bucket.latency.as_ref().unwrap()).unwrap();
        assert_eq!((latency.count(), latency.count_above(260.0)), (80, 0.0));
        assert!((latency.count_above(100.0) - 8.0).abs() < 2.0, "{latency:?}");
    }
    let pay = served.buckets("pay", now_ms).await;
    let silent_s = (first_s + 20 * 60)..(first_s + 35 * 60);
    let silent = |start_ms: &i64| start_ms / 1000 >= silent_s.start && (start_ms + BUCKET_MS) / 1000 < silent_s.end;
    assert!(starts.iter().filter(|start| silent(start)).count() >= 1);
    assert!(pay.keys().all(|start_ms| !silent(start_ms)), "a gap is no bucket: {:?}", pay.keys());
    assert!(pay.len() >= 4, "{:?}", pay.keys());

    child.kill().await.unwrap();
    served.stop().await;
}
