//! Edges of a scripted server: each call counts once, whatever the mapping and the server are called.

use attain_ingestion::PrometheusConfig;
use attain_runtime::clock::Clock;
use attain_vocabulary::BUCKET_MS;
use tempfile::TempDir;

use crate::harness::{Asked, NOW_MS, Served, edges_of, serve_http};

const CALLS: u64 = 10;
const DAY: u64 = 288;

/// 10 calls of `shop` to `pay` in each five minutes, without failures and latencies; and requests of nobody.
async fn server() -> String {
    serve_http(|url, _| {
        let asked = Asked::of(url);
        let of_edges = asked.query.contains("request_total") && !asked.query.contains("failed");
        let labels: &[_] = if of_edges { &[("client", "shop"), ("server", "pay")] } else { &[] };
        asked.answer(labels, &CALLS.to_string())
    })
    .await
}

/// Reads to `now_ms`; the calls that are counted then.
async fn counted(folder: TempDir, url: &str, now_ms: i64, mapping: &str) -> (u64, TempDir) {
    let settings =
        PrometheusConfig { url: url.into(), backfill_days: 1, server_share_ratio: 1.0, ..PrometheusConfig::default() };
    let served = Served::start_with(folder, Clock::held(now_ms), settings, mapping).await;
    served.wait("read", |holds, _| holds).await;
    let calls = edges_of(&served.channel).await[&("shop".to_owned(), "pay".to_owned())].observed_call_count;
    (calls, served.stop().await)
}

#[tokio::test]
async fn edges_count_once_whatever_the_mapping_and_the_server_are_called() {
    let url = server().await;
    let port = url.rsplit(':').next().unwrap();
    let edges = "[[mapping]]\npreset = 'service-graph'\n";
    let unnamed = "[[mapping]]\ncalls_counter = 'request_total'\nfailures_counter = 'failed'\n\
                   client_label = 'client'\nserver_label = 'server'\n";
    let inserted = format!("[[mapping]]\nvalid = 'a'\nbad = 'b'\n{unnamed}");
    let mut folder = tempfile::tempdir().unwrap();
    let mut calls;
    let steps: [(String, String); 7] = [
        (url.clone(), edges.to_owned()),
        (format!("{url}/"), edges.to_owned()),
        (format!("http://localhost:{port}"), edges.to_owned()),
        (url.clone(), format!("{edges}name = 'renamed'\n")),
        // Another query that shows the same calls, which begins again.
        (url.clone(), format!("{edges}selector = 'cluster=\"a\"'\n")),
        (url.clone(), unnamed.to_owned()),
        // Another index, and so another name.
        (url.clone(), inserted),
    ];
    for (step, (url, mapping)) in steps.iter().enumerate() {
        let now_ms = NOW_MS + step as i64 * BUCKET_MS;
        (calls, folder) = counted(folder, url, now_ms, mapping).await;
        assert_eq!(calls, (DAY + step as u64) * CALLS, "after step {step}: {url} {mapping}");
    }
    // Back to the first, which is behind by now.
    let now_ms = NOW_MS + 8 * BUCKET_MS;
    (calls, folder) = counted(folder, &url, now_ms, edges).await;
    assert_eq!(calls, (DAY + 8) * CALLS);
    drop(folder);
}

#[tokio::test]
async fn edges_of_two_mappings_add_up() {
    let mapping = "[[mapping]]\nname = 'a'\npreset = 'service-graph'\nselector = 'cluster=\"a\"'\n\
                   [[mapping]]\nname = 'b'\npreset = 'service-graph'\nselector = 'cluster=\"b\"'\n";
    let (calls, _folder) = counted(tempfile::tempdir().unwrap(), &server().await, NOW_MS, mapping).await;
    assert_eq!(calls, 2 * DAY * CALLS);
}
