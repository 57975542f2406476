//! A scripted server: pieces, restarts, what goes wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attain_ingestion::{Config, PrometheusConfig};
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, bucket_start};
use serde_json::json;
use tokio::net::TcpListener;

use crate::harness::{NOW_MS, Served, WITHIN, serve_http};

/// Start and end of each question for requests, in milliseconds.
type Asked = Arc<Mutex<Vec<(i64, i64)>>>;

/// A server that says 10 requests at each instant, and refuses more points than it can.
async fn scripted(asked: Asked, points_max: i64, mut away: u32) -> String {
    let left = Mutex::new(std::mem::take(&mut away));
    serve_http(move |url, _| {
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
    // And what may have come late: 15 minutes more.
    assert_eq!(*asked.lock().unwrap(), [(next - 2 * BUCKET_MS, next + 2 * BUCKET_MS)]);
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
    let prometheus = PrometheusConfig { url, mapping_file, ..PrometheusConfig::default() };
    let config = Config { prometheus: Some(prometheus), ..Config::default() };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("mapping[0].bad"), "{error}");
}

#[tokio::test]
async fn each_query_carries_the_credentials_and_no_answer_repeats_them() {
    let heads = Arc::new(Mutex::new(Vec::<String>::new()));
    let told = Arc::clone(&heads);
    let url = serve_http(move |_, head| {
        told.lock().unwrap().push(head.to_lowercase());
        (401, "Unauthorized".into())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "token-canary\n").unwrap();
    let with = |settings: PrometheusConfig| PrometheusConfig {
        url: url.clone(),
        headers: [("X-Scope-OrgID".to_owned(), "tenant-canary".into())].into(),
        ..settings
    };
    let bearer = with(PrometheusConfig { bearer_token_file: Some(token.clone()), ..PrometheusConfig::default() });
    let basic = with(PrometheusConfig {
        basic_username: Some("attain".into()),
        basic_password_file: Some(token),
        ..PrometheusConfig::default()
    });
    // `attain:token-canary` in base 64.
    for (settings, expected) in
        [(bearer, "authorization: bearer token-canary"), (basic, "authorization: basic yxr0ywlu")]
    {
        assert!(!format!("{settings:?}").contains("canary\""), "{settings:?}");
        heads.lock().unwrap().clear();
        let served =
            Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, crate::harness::MAPPING)
                .await;
        served.wait("refused", |holds, detail| !holds && detail.contains("refuses")).await;
        assert!(!served.condition().await.1.contains("canary"));
        served.stop().await;
        let heads = heads.lock().unwrap();
        assert!(!heads.is_empty());
        for head in heads.iter() {
            assert!(head.contains(expected) && head.contains("x-scope-orgid: tenant-canary"), "{head}");
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_be_right_end_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mapping_file = folder.path().join("mapping.toml");
    std::fs::write(&mapping_file, crate::harness::MAPPING).unwrap();
    let base = || PrometheusConfig {
        url: "http://127.0.0.1:9090".into(),
        mapping_file: mapping_file.clone(),
        ..PrometheusConfig::default()
    };
    let missing = || Some(folder.path().join("missing"));
    for (settings, named) in [
        (PrometheusConfig { bearer_token_file: missing(), ..base() }, "bearer_token_file"),
        (PrometheusConfig { basic_password_file: missing(), ..base() }, "basic_password_file"),
        (PrometheusConfig { ca_file: missing(), ..base() }, "ca_file"),
        (PrometheusConfig { ca_file: Some(mapping_file.clone()), ..base() }, "ca_file"),
        (PrometheusConfig { headers: [("a b".to_owned(), "x".into())].into(), ..base() }, "headers"),
        (PrometheusConfig { server_share_ratio: 0.0, ..base() }, "server_share_ratio"),
        (PrometheusConfig { answer_bytes_max: 1, ..base() }, "answer_bytes_max"),
        (PrometheusConfig { url: String::new(), ..base() }, "url"),
    ] {
        let error = Config { prometheus: Some(settings), ..Config::default() }.validate().expect_err(named).to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    assert!(Config { prometheus: Some(base()), ..Config::default() }.validate().is_ok());
}

#[tokio::test]
async fn an_answer_of_too_many_series_is_refused_by_name() {
    let url = serve_http(|_, _| {
        let series: Vec<_> = (0..11).map(|i| json!({"metric": {"service": format!("s{i}")}, "values": []})).collect();
        (200, json!({"status": "success", "data": {"resultType": "matrix", "result": series}}).to_string())
    })
    .await;
    let settings = PrometheusConfig { url, series_per_answer_max: 10, ..PrometheusConfig::default() };
    let served =
        Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, crate::harness::MAPPING).await;
    served.wait("refused", |holds, detail| !holds && detail.contains("11 series; at most 10 are read")).await;
    served.stop().await;
}
