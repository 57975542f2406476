//! kill −9 in the middle of decisions with webhooks due: no decision that was answered is lost, each is told of, in order, and the
//! audit log is one chain.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::{Up, attain, client, eventually, folder, get, post};

const SERVICES: [&str; 3] = ["one", "two", "three"];

/// Decisions that were answered: service, version and target.
type Acknowledged = Arc<Mutex<Vec<(String, u64, f64)>>>;

/// A receiver that lives through every kill: bodies as they came, with the id of the event.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    /// Every third request is dropped without an answer: it counts as sent and not noted.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            for count in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    let Some((id, body)) = request(&mut stream).await else { return };
                    kept.lock().unwrap().push((id, body));
                    if count % 3 != 2 {
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await;
                    }
                });
            }
        });
        Self { url, received }
    }

    fn received(&self) -> Vec<(String, Value)> {
        self.received.lock().unwrap().clone()
    }
}

/// Id and body of one request; `None` where it broke off, as it does when the sender is killed.
async fn request(stream: &mut tokio::net::TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}:")))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            };
            if body.len() >= header("content-length")?.parse::<usize>().ok()? {
                return Some((header("webhook-id")?, serde_json::from_str(body).ok()?));
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn start(data_dir: &Path) -> Up {
    let settings = [
        "recommendation.webhooks.allow_http=true",
        "recommendation.webhooks.allow_private_addresses=true",
        "recommendation.webhooks.poll_interval_ms=20",
        "recommendation.webhooks.first_wait_seconds=1",
        "recommendation.webhooks.timeout_seconds=1",
        "gateway.rates.writes_per_minute=1000000",
        "gateway.rates.writes_burst=100000",
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    Up::start(data_dir, &arguments).await
}

#[tokio::test]
async fn every_answered_decision_survives_and_is_told_of_in_order() {
    let dir = folder();
    let receiver = Receiver::start().await;
    let acknowledged = Acknowledged::default();
    let mut up = start(dir.path()).await;
    let services: Vec<Value> = SERVICES.iter().map(|id| json!({"id": id})).collect();
    assert_eq!(post(&up.gateway, "/api/v1/services/dependencies", &json!({"services": services})).await.0, 200);
    let hook = json!({"url": receiver.url, "event_types": ["slo.declared"]});
    let (status, hook) = post(&up.gateway, "/api/v1/webhooks", &hook).await;
    assert_eq!(status, 200, "{hook}");

    for round in 1..=3 {
        let stopped = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = SERVICES
            .into_iter()
            .map(|service| {
                tokio::spawn(decide(up.gateway.clone(), service, Arc::clone(&acknowledged), Arc::clone(&stopped)))
            })
            .collect();
        // In the middle: decisions are being made, some are told of and others are due.
        while acknowledged.lock().unwrap().len() < round * 30 || receiver.received().len() < round * 5 {
            tokio::task::yield_now().await;
        }
        up.kill_9().await;
        stopped.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
        up = start(dir.path()).await;
    }

    let acknowledged = acknowledged.lock().unwrap().clone();
    let mut decided = BTreeMap::new();
    for service in SERVICES {
        decided.extend(versions(&up.gateway, service).await);
    }
    for (service, version, target) in &acknowledged {
        assert_eq!(decided.get(&(service.clone(), *version)), Some(target), "{service} version {version}");
    }

    // Each decision that is there is told of, and nothing else is: also of those whose answer was lost with the process.
    let told = eventually("every decision is told of", Duration::from_secs(120), async || {
        let received = receiver.received();
        let told = received.iter().map(|(_, body)| key(body));
        (told.collect::<std::collections::BTreeSet<_>>().len() >= decided.len()).then(|| json!(received))
    })
    .await;
    let mut sequences: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for entry in told.as_array().unwrap() {
        let (id, body) = (entry[0].as_str().unwrap().to_owned(), entry[1].clone());
        let (service, version) = key(&body);
        assert_eq!(decided.get(&(service.clone(), version)), body["data"]["detail"]["target_ratio"].as_f64().as_ref());
        if let Some(before) = seen.insert(id, body.clone()) {
            assert_eq!(before, body, "sent again it is the same");
        } else {
            sequences.entry(service).or_default().push(body["data"]["sequence"].as_u64().unwrap());
        }
    }
    assert!(told.as_array().unwrap().len() > seen.len(), "some were sent more than once");
    // Who orders by sequence, as receivers are told to, has the versions in order.
    for (service, mut sequences) in sequences {
        sequences.sort_unstable();
        let by_sequence = |sequence: &u64| {
            let body = seen.values().find(|body| body["data"]["sequence"].as_u64() == Some(*sequence)).unwrap();
            key(body).1
        };
        let versions: Vec<u64> = sequences.iter().map(by_sequence).collect();
        assert_eq!(versions, (1..=versions.len() as u64).collect::<Vec<_>>(), "{service}");
    }

    let verify = attain().args(["--url", &up.gateway, "audit", "verify"]).output().await.unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    println!("{} answered decisions survived three kills, {} are there", acknowledged.len(), decided.len());
    up.kill_9().await;
}

fn key(body: &Value) -> (String, u64) {
    let data = &body["data"];
    (data["service_id"].as_str().unwrap().to_owned(), data["detail"]["slo_version"].as_u64().unwrap())
}

/// Declares one target after the other until the process is gone.
async fn decide(gateway: String, service: &'static str, acknowledged: Acknowledged, stopped: Arc<AtomicBool>) {
    let client = client();
    for number in 0.. {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        let target = 0.9 + f64::from(number % 9_000) / 100_000.0;
        let body = json!({"action": "declare", "kind": "availability", "target_ratio": target});
        let request = client
            .post(format!("{gateway}/api/v1/services/{service}/slos"))
            .header("content-type", "application/json")
            .body(body.to_string());
        let Ok(answer) = request.send().await else { return };
        let status = answer.status();
        let Ok(answer) = answer.json::<Value>().await else { return };
        if status.is_success() {
            let version = answer["slo"]["version"].as_u64().unwrap();
            acknowledged.lock().unwrap().push((service.to_owned(), version, target));
        }
    }
}

/// Every version of an SLO by service and number, with its target.
async fn versions(gateway: &str, service: &str) -> BTreeMap<(String, u64), f64> {
    let mut found = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let path =
            format!("/api/v1/services/{service}/slos/availability/versions?page_size=500&page_token={page_token}");
        let (status, page) = get(gateway, &path).await;
        assert_eq!(status, 200, "{page}");
        for version in page["versions"].as_array().unwrap() {
            let number = version["version"].as_u64().unwrap();
            found.insert((service.to_owned(), number), version["target_ratio"].as_f64().unwrap());
        }
        page_token = page["next_page_token"].as_str().unwrap_or_default().to_owned();
        if page_token.is_empty() {
            return found;
        }
    }
}
