//! The presets against what genuine exporters write: what some answered once, recorded beside this file with the versions,
//! and a node exporter that runs, scraped by a genuine server.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use attain_ingestion::prometheus::planned_queries;
use tokio::process::{Child, Command};

use crate::harness::{WITHIN, provided, serve_http, start_prometheus};

const RECORDED: [(&str, &str); 3] = [
    ("node", include_str!("exporters/node.txt")),
    ("postgres", include_str!("exporters/postgres.txt")),
    ("redis", include_str!("exporters/redis.txt")),
];

/// A genuine server that scrapes each target each second, by the name of its preset.
async fn scraping(program: &str, folder: &Path, targets: &[(&str, String)]) -> (Child, String) {
    let job = |(name, address): &(&str, String)| {
        let target = address.trim_start_matches("http://");
        format!("- {{job_name: {name}, static_configs: [{{targets: [\"{target}\"]}}]}}\n")
    };
    let jobs: String = targets.iter().map(job).collect();
    start_prometheus(program, folder, &format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"), &[]).await
}

/// What a query gives now, once it gives something.
async fn value(url: &str, query: &str) -> f64 {
    let began = Instant::now();
    let mut asked = reqwest::Url::parse(&format!("{url}/api/v1/query")).unwrap();
    asked.query_pairs_mut().append_pair("query", query);
    loop {
        let answer = reqwest::get(asked.clone()).await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let value = answer.pointer("/data/result/0/value/1").and_then(serde_json::Value::as_str);
        if let Some(value) = value.and_then(|value| value.parse::<f64>().ok()).filter(|value| value.is_finite()) {
            return value;
        }
        assert!(began.elapsed() < WITHIN, "{query}: {answer}");
    }
}

/// Every query of these presets has a ratio as its answer.
async fn each_query_is_answered(program: &str, targets: &[(&str, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let (mut server, url) = scraping(program, folder.path(), targets).await;
    let mapping = folder.path().join("mapping.toml");
    // Rates over the little that was scraped.
    let text: String =
        targets.iter().map(|(name, _)| format!("[[mapping]]\npreset = '{name}'\nwindow = '10s'\n")).collect();
    std::fs::write(&mapping, text).unwrap();
    let planned = planned_queries(&mapping).unwrap();
    assert!(planned.len() >= targets.len());
    for planned in planned {
        // A minute's steps see nothing in ten seconds.
        let query = planned.query.replace("[10s:1m]", "[10s:1s]");
        let value = value(&url, &query).await;
        assert!((0.0..=1.05).contains(&value), "{} {}: {value}", planned.mapping, planned.what);
    }
    server.kill().await.unwrap();
}

#[tokio::test]
async fn presets_read_what_genuine_exporters_wrote() {
    let Some(program) = provided() else { return };
    let mut targets = Vec::new();
    for (name, text) in RECORDED {
        targets.push((name, serve_http(move |_, _| (200, text.to_owned())).await));
    }
    each_query_is_answered(&program, &targets).await;
}

/// The program of a genuine node exporter; `None`, and a line that says so, where there is none.
fn node_exporter() -> Option<String> {
    let named = std::env::var("ATTAIN_TEST_NODE_EXPORTER").ok().filter(|program| !program.is_empty());
    let installed = "/usr/bin/prometheus-node-exporter";
    let program = named.or_else(|| Path::new(installed).is_file().then(|| installed.to_owned()));
    if program.is_none() {
        let required = std::env::var_os("ATTAIN_TEST_REQUIRE").is_some();
        assert!(!required, "ATTAIN_TEST_NODE_EXPORTER is required and not set, and {installed} is not there");
        eprintln!("SKIPPED: ATTAIN_TEST_NODE_EXPORTER is not set, and {installed} is not there");
    }
    program
}

#[tokio::test]
async fn the_node_preset_reads_a_node_exporter_that_runs() {
    let (Some(program), Some(exporter)) = (provided(), node_exporter()) else { return };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut running = Command::new(exporter)
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    each_query_is_answered(&program, &[("node", format!("http://127.0.0.1:{port}"))]).await;
    running.kill().await.unwrap();
}
