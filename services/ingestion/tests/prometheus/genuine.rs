//! A genuine server that scrapes an exporter in the test.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use attain_ingestion::PrometheusConfig;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, LatencyHistogram, bucket_start};
use tempfile::TempDir;
use tokio::process::Child;

use crate::harness::{Served, WITHIN, provided, regional_buckets_of, serve_http, start_prometheus};

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

/// The same time of `shop` alone, by region: 4 requests a sample in one, every 20th of them failed, 2 in another, half of
/// them, and 1 in two samples where no region is told.
fn regional_history(first_s: i64) -> String {
    let mut text = String::new();
    for (labels, rate) in [
        ("region=\"eu-1\",code=\"200\"", 3.8),
        ("region=\"eu-1\",code=\"503\"", 0.2),
        ("region=\"us-1\",code=\"200\"", 1.0),
        ("region=\"us-1\",code=\"503\"", 1.0),
        ("code=\"200\"", 0.5),
    ] {
        for n in 0..=MINUTES * 60 / SAMPLE_S {
            let time_ms = (first_s + n * SAMPLE_S) * 1000;
            writeln!(text, "http_requests_total{{service=\"shop\",{labels}}} {} {time_ms}", rate * n as f64).unwrap();
        }
    }
    text
}

async fn scraping(program: &str, folder: &Path, target: &str) -> (Child, String) {
    let target = target.trim_start_matches("http://");
    let scrape = format!("scrape_configs: [{{job_name: history, static_configs: [{{targets: [\"{target}\"]}}]}}]\n");
    start_prometheus(program, folder, &format!("global: {{scrape_interval: 1s}}\n{scrape}"), &[]).await
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

/// A server that has scraped what an exporter counted until now.
struct Exported {
    now_ms: i64,
    /// First and last sample.
    first_s: i64,
    last_s: i64,
    child: Child,
    url: String,
    folder: TempDir,
}

async fn exported(program: &str, history: fn(i64) -> String) -> Exported {
    let now_ms = Clock::system().now_ms();
    let last_s = now_ms / 1000 / SAMPLE_S * SAMPLE_S;
    let first_s = last_s - MINUTES * 60;
    let exporter = serve_http(move |_, _| (200, history(first_s))).await;
    let folder = tempfile::tempdir().unwrap();
    let (child, url) = scraping(program, folder.path(), &exporter).await;
    scraped(&url, last_s).await;
    Exported { now_ms, first_s, last_s, child, url, folder }
}

#[tokio::test]
async fn a_genuine_server_tells_what_an_exporter_counted() {
    let Some(program) = provided() else { return };
    let Exported { now_ms, first_s, last_s, mut child, url, folder: _folder } = exported(&program, history).await;
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

#[tokio::test]
async fn a_genuine_server_tells_the_regions_that_answered() {
    let Some(program) = provided() else { return };
    let Exported { now_ms, first_s, last_s, mut child, url, folder: _folder } =
        exported(&program, regional_history).await;
    let settings = PrometheusConfig { url, backfill_days: 1, ..PrometheusConfig::default() };
    let mapping = "[[mapping]]\npreset = 'http-requests'\nlabel = 'service'\nregion_label = 'region'\n";
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::system(), settings, mapping).await;
    served.wait("read", |holds, _| holds).await;
    let covered = |start_ms: &i64| *start_ms >= first_s * 1000 && start_ms + BUCKET_MS <= last_s * 1000;
    for (region, valid, bad) in [("", 130, 24), ("eu-1", 80, 4), ("us-1", 40, 20)] {
        let buckets = regional_buckets_of(&served.channel, "shop", region, now_ms).await;
        let whole: Vec<_> = buckets.iter().filter(|(start_ms, _)| covered(start_ms)).collect();
        assert!(whole.len() >= 8, "{region}: {:?}", buckets.keys());
        for (start_ms, bucket) in whole {
            assert_eq!((bucket.valid_count, bucket.bad_count), (valid, bad), "{region} at {start_ms}");
        }
    }

    child.kill().await.unwrap();
    served.stop().await;
}
