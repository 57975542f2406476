//! A scripted server that is slow, overloaded, or knows only a part.

use std::sync::{Arc, Mutex};

use attain_ingestion::PrometheusConfig;
use attain_runtime::clock::Clock;
use attain_vocabulary::{BUCKET_MS, bucket_start};
use serde_json::json;

use crate::harness::{Asked, MAPPING, NEVER, NOW_MS, Served, serve_http};

const SHOP: &[(&str, &str)] = &[("service", "shop")];

/// 10 requests of `shop` in each five minutes, and no failures.
fn requests(asked: &Asked) -> (u16, String) {
    let labels = if asked.query.contains("http_requests_total[") { SHOP } else { &[] };
    asked.answer(labels, "10")
}

fn error(status: u16, kind: &str, text: &str) -> (u16, String) {
    (status, json!({"status": "error", "errorType": kind, "error": text}).to_string())
}

fn one_day(url: String) -> PrometheusConfig {
    PrometheusConfig {
        url,
        backfill_days: 1,
        server_share_ratio: 1.0,
        query_timeout_seconds: 1,
        ..PrometheusConfig::default()
    }
}

async fn start(settings: PrometheusConfig) -> Served {
    Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), settings, MAPPING).await
}

#[tokio::test]
async fn what_is_too_much_at_once_is_read_in_smaller_pieces() {
    let refusals = [
        error(503, "timeout", "query timed out in expression evaluation"),
        error(422, "execution", "the query exceeded the maximum number of chunks (err-mimir-max-chunks-per-query)"),
        error(422, "422", "cannot select more than -search.maxSamplesPerQuery=1000000000 samples"),
        error(422, "execution", "expanding series: proxy: some limit of its own"),
        (504, "<html>Gateway Timeout</html>".to_owned()),
        (NEVER, String::new()),
    ];
    for refusal in refusals {
        let longest = Arc::new(Mutex::new(0));
        let (told, refused) = (Arc::clone(&longest), refusal.clone());
        let url = serve_http(move |url, _| {
            let asked = Asked::of(url);
            if asked.buckets() > 80 {
                return refused.clone();
            }
            let mut longest = told.lock().unwrap();
            *longest = asked.buckets().max(*longest);
            requests(&asked)
        })
        .await;
        let served = start(one_day(url)).await;
        served.wait("read", |holds, _| holds).await;
        assert_eq!(served.buckets("shop", NOW_MS).await.len(), 288, "{refusal:?}");
        assert_eq!(*longest.lock().unwrap(), 72, "{refusal:?}");
        served.stop().await;
    }
}

#[tokio::test]
async fn what_was_asked_for_grows_again_and_late_samples_are_read_whatever_its_size() {
    let asked = Arc::new(Mutex::new(Vec::<Asked>::new()));
    let told = Arc::clone(&asked);
    let oldest_ms = bucket_start(NOW_MS) - 3 * 288 * BUCKET_MS;
    let url = serve_http(move |url, _| {
        let asked = Asked::of(url);
        // Of the oldest day only one bucket at a time.
        if asked.start_ms < oldest_ms + 288 * BUCKET_MS && asked.buckets() > 1 {
            return error(422, "execution", "query processing would load too many samples into memory");
        }
        if asked.query.contains("http_requests_total[") {
            told.lock().unwrap().push(asked.clone());
        }
        requests(&asked)
    })
    .await;
    let served = start(PrometheusConfig { backfill_days: 3, ..one_day(url) }).await;
    served.wait("read", |holds, _| holds).await;
    assert_eq!(served.buckets("shop", NOW_MS).await.len(), 3 * 288);
    let longest = asked.lock().unwrap().iter().map(Asked::buckets).max();
    assert!(longest > Some(30), "{longest:?}");
    asked.lock().unwrap().clear();
    served.clock.set(NOW_MS + BUCKET_MS);
    served.wait("asked", |_, _| !asked.lock().unwrap().is_empty()).await;
    let first = asked.lock().unwrap()[0].clone();
    assert_eq!(
        (first.start_ms, first.end_ms),
        (bucket_start(NOW_MS) - 2 * BUCKET_MS, bucket_start(NOW_MS) + BUCKET_MS)
    );
    served.stop().await;
}

#[tokio::test]
async fn one_bucket_that_is_too_large_is_passed_over_and_told() {
    let heavy_ms = bucket_start(NOW_MS) - 100 * BUCKET_MS;
    let url = serve_http(move |url, _| {
        let asked = Asked::of(url);
        if (asked.start_ms..=asked.end_ms).contains(&heavy_ms) {
            return error(422, "execution", "query processing would load too many samples into memory");
        }
        requests(&asked)
    })
    .await;
    let served = start(one_day(url)).await;
    served.wait("tried again", |holds, detail| !holds && detail.contains("too many samples")).await;
    served.wait("read", |holds, detail| holds && detail.contains("1 buckets were passed over")).await;
    let buckets = served.buckets("shop", NOW_MS).await;
    assert_eq!((buckets.len(), buckets.contains_key(&(heavy_ms - BUCKET_MS))), (287, false));
    served.stop().await;
}

#[tokio::test]
async fn a_partial_answer_is_not_stored_but_asked_for_again() {
    let partial = Arc::new(Mutex::new(true));
    let told = Arc::clone(&partial);
    let url = serve_http(move |url, _| {
        let asked = Asked::of(url);
        let (status, body) = requests(&asked);
        if *told.lock().unwrap() {
            let warnings = r#"{"warnings":["receive series from Addr: 10.0.0.1:10901: rpc error"],"#;
            return (status, body.replacen('{', warnings, 1).replace("\"10\"", "\"4\""));
        }
        (status, body)
    })
    .await;
    let served = start(one_day(url)).await;
    served.wait("partial", |holds, detail| !holds && detail.contains("the answer is partial: receive series")).await;
    assert!(served.buckets("shop", NOW_MS).await.is_empty());
    *partial.lock().unwrap() = false;
    served.wait("read", |holds, _| holds).await;
    let buckets = served.buckets("shop", NOW_MS).await;
    assert_eq!(buckets.len(), 288);
    assert!(buckets.values().all(|bucket| bucket.valid_count == 10));
    served.stop().await;
}

/// Two mappings, of which the first has more to read and the second fails.
#[tokio::test]
async fn a_mapping_that_fails_holds_up_no_other() {
    let url = serve_http(|url, _| {
        let asked = Asked::of(url);
        if asked.query.contains("broken") { (400, "broken".into()) } else { requests(&asked) }
    })
    .await;
    let mapping = format!("[[mapping]]\nname = 'broken'\nvalid = 'broken'\nbad = 'broken'\n{MAPPING}");
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), one_day(url), &mapping).await;
    served.wait("refused", |holds, detail| !holds && detail.contains("broken: the server refuses")).await;
    let newest = bucket_start(NOW_MS) - BUCKET_MS;
    let began = std::time::Instant::now();
    while !served.buckets("shop", NOW_MS).await.contains_key(&newest) {
        assert!(began.elapsed() < crate::harness::WITHIN, "the other was not read");
    }
    served.stop().await;
}

#[tokio::test]
async fn the_past_of_one_mapping_holds_up_no_increment_of_another() {
    let clock = Clock::held(NOW_MS);
    let order = Arc::new(Mutex::new(Vec::<Asked>::new()));
    let (told, set) = (Arc::clone(&order), clock.clone());
    let url = serve_http(move |url, _| {
        let asked = Asked::of(url);
        let mut order = told.lock().unwrap();
        order.push(asked.clone());
        // In the middle of the past a bucket is over.
        if order.iter().filter(|asked| asked.query == "past_valid").count() == 3 {
            set.set(NOW_MS + BUCKET_MS);
        }
        requests(&asked)
    })
    .await;
    let settings = PrometheusConfig { backfill_days: 10, server_share_ratio: 1.0, url, ..PrometheusConfig::default() };
    let folder = tempfile::tempdir().unwrap();
    let served = Served::start_with(folder, clock.clone(), settings.clone(), MAPPING).await;
    served.wait("read", |holds, _| holds).await;
    let folder = served.stop().await;
    order.lock().unwrap().clear();
    let mapping = format!("[[mapping]]\nname = 'past'\nvalid = 'past_valid'\nbad = 'past_bad'\n{MAPPING}");
    let served = Served::start_with(folder, clock, settings, &mapping).await;
    served.wait("read", |holds, _| holds).await;
    let order: Vec<String> = order.lock().unwrap().iter().map(|asked| asked.query.clone()).collect();
    let past = |from: usize| order[from..].iter().filter(|query| *query == "past_valid").count();
    let other = order.iter().position(|query| query.contains("http_requests_total[")).unwrap();
    assert_eq!(past(0) - past(other), 3, "{order:?}");
    assert!(past(other) >= 7, "{order:?}");
    served.stop().await;
}

#[tokio::test]
async fn a_service_in_two_mappings_is_told() {
    let url = serve_http(|url, _| {
        let asked = Asked::of(url);
        let labels: &[_] = if asked.query.contains("valid") { SHOP } else { &[] };
        asked.answer(labels, "10")
    })
    .await;
    let mapping = "[[mapping]]\nname = 'http'\nvalid = 'http_valid'\nbad = 'b'\n\
                   [[mapping]]\nname = 'grpc'\nvalid = 'grpc_valid'\nbad = 'b'\n";
    let served = Served::start_with(tempfile::tempdir().unwrap(), Clock::held(NOW_MS), one_day(url), mapping).await;
    let told = "requests of shop are in http and in grpc: they do not add up";
    served.wait("told", |holds, detail| holds && detail.contains(told)).await;
    served.stop().await;
}
