//! A genuine Prometheus server that scrapes an exporter in the test: its history becomes SLI buckets, and recommendations
//! follow.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::harness::{Up, client, eventually, folder, free_port, provided};

const SAMPLE_S: i64 = 15;
const MINUTES: i64 = 45;
const WITHIN: Duration = Duration::from_secs(60);

/// 45 minutes of counters of one service, a sample each 15 seconds with its own time, so that history needs no waiting:
/// 4 requests a sample, every 20th of them failed, 9 of 10 within 100 ms.
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
        for n in 0..=MINUTES * 60 / SAMPLE_S {
            let time_ms = (first_s + n * SAMPLE_S) * 1000;
            writeln!(text, "{name}{{service=\"bookshop\",{label}}} {} {time_ms}", rate * n as f64).unwrap();
        }
    }
    text
}

/// Answers every scrape with the same text; its address.
async fn export(text: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && socket.read_buf(&mut request).await.unwrap_or(0) > 0 {}
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\ncontent-length:";
            // A server that went away does not matter.
            let _ = socket.write_all(format!("{head} {}\r\n\r\n{text}", text.len()).as_bytes()).await;
        }
    });
    address
}

async fn start_prometheus(program: &str, folder: &Path, target: &str) -> (Child, String) {
    let config = folder.join("prometheus.yml");
    let scrape = format!("scrape_configs: [{{job_name: history, static_configs: [{{targets: [\"{target}\"]}}]}}]\n");
    std::fs::write(&config, format!("global: {{scrape_interval: 1s}}\n{scrape}")).unwrap();
    let port = free_port();
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
    let asked = format!("{url}/api/v1/query?query=count(http_requests_total)&time={time_s}");
    eventually("samples in Prometheus", WITHIN, async || {
        let answer = client().get(&asked).send().await.ok()?.text().await.ok()?;
        answer.contains("\"value\"").then_some(Value::Null)
    })
    .await;
}

#[tokio::test]
async fn what_prometheus_knows_is_recommended_from() {
    let Some(program) = provided("ATTAIN_TEST_PROMETHEUS") else { return };
    let last_s = jiff::Timestamp::now().as_second() / SAMPLE_S * SAMPLE_S;
    let first_s = last_s - MINUTES * 60;
    let target = export(history(first_s)).await;
    let prometheus_dir = folder();
    let (_prometheus, url) = start_prometheus(&program, prometheus_dir.path(), &target).await;
    scraped(&url, last_s).await;

    // The mapping that is shipped as an example reads these metrics, among others.
    let mapping =
        concat!("ingestion.prometheus.mapping_file=", env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus-mapping.toml");
    let url = format!("ingestion.prometheus.url={url}");
    let settings = [
        "--set",
        &url,
        "--set",
        mapping,
        "--set",
        "ingestion.prometheus.interval_seconds=1",
        "--set",
        "ingestion.prometheus.backfill_days=1",
    ];
    let dir = folder();
    let up = Up::start(dir.path(), &settings).await;

    let full = (first_s..).find(|second| second % 300 == 0).unwrap();
    let expected: Vec<i64> = (full..=last_s - 330).step_by(300).collect();
    assert!(expected.len() >= 7);
    let buckets = eventually("the buckets of the bookshop", WITHIN, async || {
        let (status, answer) = up.get("/api/v1/services/bookshop/metrics").await;
        let buckets =
            answer["buckets"].as_array().filter(|buckets| status == 200 && buckets.len() >= expected.len())?;
        Some(json!(buckets))
    })
    .await;
    for start_s in expected {
        let start = jiff::Timestamp::from_second(start_s).unwrap();
        let at = |bucket: &&Value| bucket["start_time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() == start;
        let bucket =
            buckets.as_array().unwrap().iter().find(at).unwrap_or_else(|| panic!("no bucket at {start} in {buckets}"));
        assert_eq!((bucket["valid_count"].as_u64(), bucket["bad_count"].as_u64()), (Some(80), Some(4)), "{bucket}");
        let latencies = bucket["latency"]["bucket_counts"].as_array().unwrap();
        assert_eq!(latencies.iter().map(|count| count.as_u64().unwrap()).sum::<u64>(), 80, "{bucket}");
    }

    let (_, service) = up.get("/api/v1/services/bookshop").await;
    assert_eq!(service["data"]["sources"], json!(["prometheus"]), "{service}");
    let (status, answer) = up.get("/api/v1/services/bookshop/slo-recommendations").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["recommendation"]["confidence"]["level"], "low", "{answer}");
    assert!(up.stop().await);
}
