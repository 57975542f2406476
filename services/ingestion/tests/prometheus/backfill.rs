//! 90 days of a genuine server's history, read by a process that is killed −9 on the way: no count is lost, none counts
//! twice.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use attain_vocabulary::{BUCKET_MS, DAY_MS, bucket_start};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::harness::{NOW_MS, buckets_of, edges_of, provided, with_history};

const WITHIN: Duration = Duration::from_secs(120);
const SAMPLE_MS: i64 = 120_000;
const NEWEST_MS: i64 = NOW_MS.div_euclid(BUCKET_MS) * BUCKET_MS;
const OLDEST_MS: i64 = NEWEST_MS - 90 * DAY_MS;
/// When the second instance of `shop` fails for the first time; when `cart` is restarted; when `old` is switched off.
const BIRTH_MS: i64 = OLDEST_MS + 30 * DAY_MS + 17 * SAMPLE_MS;
const RESET_MS: i64 = OLDEST_MS + 50 * DAY_MS + 5 * SAMPLE_MS;
const END_MS: i64 = OLDEST_MS + 40 * DAY_MS + 9 * SAMPLE_MS;

const MAPPING: &str = r#"
[[mapping]]
preset = "http-requests"
[[mapping]]
preset = "service-graph"
"#;

/// A counter of one series: whether it is there at an instant, and what it has counted.
struct Series {
    labels: &'static str,
    from_ms: i64,
    to_ms: i64,
    reset_ms: Option<i64>,
    /// One more in each so many samples.
    every: i64,
}

const BEFORE: i64 = OLDEST_MS - DAY_MS;

const fn series(labels: &'static str, every: i64) -> Series {
    Series { labels, from_ms: BEFORE, to_ms: NEWEST_MS, reset_ms: None, every }
}

const fn all() -> [Series; 9] {
    let cart =
        Series { reset_ms: Some(RESET_MS), ..series(r#"http_requests_total{job="cart",instance="c",code="200"}"#, 1) };
    let old = Series { to_ms: END_MS, ..series(r#"http_requests_total{job="old",instance="o",code="200"}"#, 1) };
    // Nothing was ever wrong before: the series begins with its first failure.
    let birth =
        Series { from_ms: BIRTH_MS, ..series(r#"http_requests_total{job="shop",instance="b",code="503"}"#, 400) };
    [
        series(r#"http_requests_total{job="shop",instance="a",code="200"}"#, 1),
        series(r#"http_requests_total{job="shop",instance="a",code="500"}"#, 50),
        series(r#"http_requests_total{job="shop",instance="b",code="200"}"#, 2),
        birth,
        cart,
        old,
        series(r#"traces_service_graph_request_total{client="shop",server="cart"}"#, 1),
        series(r#"traces_service_graph_request_failed_total{client="shop",server="cart"}"#, 33),
        series(
            r#"traces_service_graph_request_total{client="shop",server="bus",connection_type="messaging_system"}"#,
            7,
        ),
    ]
}

impl Series {
    /// What the newest sample at `at_ms` says; a series begins with the first that it counted.
    fn value(&self, at_ms: i64) -> i64 {
        let at_ms = at_ms.min(self.to_ms);
        let begin_ms = self.reset_ms.filter(|reset_ms| *reset_ms <= at_ms).unwrap_or(self.from_ms);
        if at_ms < begin_ms { 0 } else { 1 + (at_ms - begin_ms) / SAMPLE_MS / self.every }
    }

    /// What it counted from the oldest instant on.
    fn rise(&self) -> u64 {
        (self.value(NEWEST_MS) - self.value(OLDEST_MS)) as u64
    }
}

fn history() -> String {
    let mut text = String::new();
    for series in all() {
        for at_ms in (series.from_ms..=series.to_ms).step_by(SAMPLE_MS as usize) {
            writeln!(text, "{} {} {}", series.labels, series.value(at_ms), at_ms / 1000).unwrap();
        }
    }
    text
}

/// The program of the example `follow`, which is built with the tests.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.parent().unwrap().parent().unwrap().join("examples/follow");
    assert!(program.is_file(), "{} is built with the tests", program.display());
    program
}

async fn follow(folder: &Path, url: &str) -> (Child, Channel) {
    let mapping = folder.join("mapping.toml");
    std::fs::write(&mapping, MAPPING).unwrap();
    let mut child = Command::new(program())
        .arg(folder)
        .arg(url)
        .arg(mapping)
        .arg(NOW_MS.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    let began = Instant::now();
    loop {
        match Channel::from_shared(address.clone()).unwrap().connect().await {
            Ok(channel) => return (child, channel),
            Err(error) => assert!(began.elapsed() < WITHIN, "{error}"),
        }
    }
}

/// Waits until so many days of `shop` are kept.
async fn reached(channel: &Channel, days: i64) {
    let began = Instant::now();
    while (buckets_of(channel, "shop", NOW_MS).await.len() as i64) < days * DAY_MS / BUCKET_MS {
        assert!(began.elapsed() < WITHIN, "no {days} days were read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ninety_days_are_counted_once_though_the_reader_is_killed() {
    let Some(prometheus) = provided() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mut server, url) = with_history(&prometheus, folder.path(), &history()).await;

    for days in [10, 45] {
        let (mut reader, channel) = follow(folder.path(), &url).await;
        reached(&channel, days).await;
        reader.kill().await.unwrap();
    }
    let began = Instant::now();
    let (mut reader, channel) = follow(folder.path(), &url).await;
    reached(&channel, 90).await;
    let edge = |callee: &str| ("shop".to_owned(), callee.to_owned());
    let complete_ms = |edges: &std::collections::BTreeMap<_, attain_proto::vocabulary::v1::Dependency>| {
        let seen = edges.get(&edge("cart"))?.last_seen_time.as_ref().map(attain_proto::convert::unix_millis)?;
        Some(seen)
    };
    let edges = loop {
        let edges = edges_of(&channel).await;
        if complete_ms(&edges) == Some(NEWEST_MS) && edges.contains_key(&edge("bus")) {
            break edges;
        }
        assert!(began.elapsed() < WITHIN, "the edges were not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };

    let shop = buckets_of(&channel, "shop", NOW_MS).await;
    assert_eq!((shop.len(), shop.keys().next()), (90 * 288, Some(&OLDEST_MS)));
    let valid: u64 = shop.values().map(|bucket| bucket.valid_count).sum();
    let bad: u64 = shop.values().map(|bucket| bucket.bad_count).sum();
    let [ok_a, bad_a, ok_b, bad_b, _, old, calls, failures, messages] = all();
    assert_eq!(bad, bad_a.rise() + bad_b.rise(), "not one failure is lost, the first of a series included");
    assert_eq!(valid, ok_a.rise() + ok_b.rise() + bad);
    assert_eq!(shop[&bucket_start(BIRTH_MS - 1)].bad_count, 1 + bad_between(&bad_a, bucket_start(BIRTH_MS - 1)));

    // A restart hides what was counted since the last sample before it, and no more than that.
    let cart = buckets_of(&channel, "cart", NOW_MS).await;
    let counted: u64 = cart.values().map(|bucket| bucket.valid_count).sum();
    let samples = (NEWEST_MS - OLDEST_MS) / SAMPLE_MS;
    assert!((counted as i64 - samples).abs() <= 3, "{counted} of {samples}");
    assert!(cart.values().all(|bucket| bucket.valid_count <= 4), "a reset is no burst");

    // What was switched off has no buckets, rather than buckets of nothing.
    let buckets = buckets_of(&channel, "old", NOW_MS).await;
    let last_ms = *buckets.keys().last().unwrap();
    assert!((END_MS - BUCKET_MS..END_MS + BUCKET_MS).contains(&last_ms), "{last_ms} {END_MS}");
    assert_eq!(buckets.values().map(|bucket| bucket.valid_count).sum::<u64>(), old.rise());

    let cart = &edges[&edge("cart")];
    assert_eq!((cart.observed_call_count, cart.observed_failure_count), (calls.rise(), Some(failures.rise())));
    assert_eq!((cart.observed_rescued_count, cart.call_rate), (None, None), "only traces know");
    assert_eq!(cart.sources, [attain_proto::vocabulary::v1::Source::Prometheus as i32]);
    let bus = &edges[&edge("bus")];
    assert_eq!(bus.observed_call_count, messages.rise());
    assert_eq!(bus.mode, attain_proto::vocabulary::v1::DependencyMode::Async as i32);
    reader.kill().await.unwrap();
    server.kill().await.unwrap();
}

/// What a series counted in the bucket that starts at `start_ms`.
fn bad_between(series: &Series, start_ms: i64) -> u64 {
    (series.value(start_ms + BUCKET_MS) - series.value(start_ms)) as u64
}
