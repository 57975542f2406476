//! Webhooks against a genuine receiver over HTTP, which verifies what it gets by itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::DeliveryState;
use attain_proto::recommendation::v1::webhook_service_client::WebhookServiceClient;
use attain_recommendation::{Config, KeyText, WebhookConfig};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Mesh, PATIENCE, fault, reason};
use crate::world::NOW_MS;

/// What the receiver does with one request.
#[derive(Debug, Clone, Copy)]
enum Does {
    Answers(u16),
    Redirects,
    Dawdles,
    Stalls,
}

/// Well within the patience of the service.
const DAWDLING: Duration = Duration::from_millis(300);

/// A request as it came.
#[derive(Debug, Clone)]
struct Received {
    id: String,
    timestamp: String,
    signatures: Vec<String>,
    body: String,
}

impl Received {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Whether one of the signatures is the one of the secret.
    fn is_signed_with(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        self.signatures.iter().any(|signature| {
            let Some(("v1", code)) = signature.split_once(',') else { return false };
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
            STANDARD.decode(code).is_ok_and(|code| mac.verify_slice(&code).is_ok())
        })
    }
}

/// An HTTP server of the test's own; what it does comes from a list, then it answers 204.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(does: &[Does]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let does: Arc<Mutex<VecDeque<Does>>> = Arc::new(Mutex::new(does.iter().copied().collect()));
        let received = Arc::new(Mutex::new(Vec::new()));
        let receiver = Self { url, received: Arc::clone(&received) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (does, received) = (Arc::clone(&does), Arc::clone(&received));
                let service = service_fn(move |request| answer(request, Arc::clone(&does), Arc::clone(&received)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        receiver
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until so many requests came.
    async fn until(&self, count: usize) -> Vec<Received> {
        let reached = async {
            while self.received().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await;
        in_time.unwrap_or_else(|_| panic!("{count} requests, but {:?} came", self.received()));
        self.received()
    }
}

async fn answer(
    request: Request<Incoming>,
    does: Arc<Mutex<VecDeque<Does>>>,
    received: Arc<Mutex<Vec<Received>>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let header =
        |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert_eq!((request.method().as_str(), header("content-type").as_str()), ("POST", "application/json"));
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    let signatures = header("webhook-signature").split(' ').map(str::to_owned).collect();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    received.lock().unwrap().push(Received { id, timestamp, signatures, body });
    let next = does.lock().unwrap().pop_front().unwrap_or(Does::Answers(204));
    let mut response = Response::new(Empty::new());
    match next {
        Does::Answers(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
        Does::Redirects => {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        }
        Does::Dawdles => tokio::time::sleep(DAWDLING).await,
        Does::Stalls => std::future::pending::<()>().await,
    }
    Ok(response)
}

/// A key that secrets are encrypted with.
fn key(name: &str, byte: u8) -> KeyText {
    format!("{name}:{}", hex::encode([byte; 32])).into()
}

fn config() -> Config {
    let webhooks = WebhookConfig {
        allow_http: true,
        allow_private_addresses: true,
        poll_interval_ms: 10,
        timeout_seconds: 1,
        attempts_max: 3,
        endpoints_max: 2,
        keys: key("one", 1),
        ..WebhookConfig::default()
    };
    Config { webhooks, ..Config::default() }
}

fn client(mesh: &Mesh) -> WebhookServiceClient<Channel> {
    WebhookServiceClient::new(mesh.channel.clone())
}

async fn register(mesh: &Mesh, url: &str, event_types: &[&str]) -> (String, String) {
    let event_types = event_types.iter().map(ToString::to_string).collect();
    let request = wire::CreateWebhookRequest { url: url.into(), event_types };
    let answer = client(mesh).create_webhook(request).await.unwrap().into_inner();
    (answer.webhook.unwrap().id, answer.secret)
}

async fn deliveries(mesh: &Mesh, webhook_id: &str) -> Vec<wire::Delivery> {
    let request = wire::ListDeliveriesRequest { webhook_id: webhook_id.into(), ..Default::default() };
    client(mesh).list_deliveries(request).await.unwrap().into_inner().deliveries
}

/// Waits until the newest message to an endpoint is as expected.
async fn until(mesh: &Mesh, webhook_id: &str, expected: impl Fn(&wire::Delivery) -> bool) -> wire::Delivery {
    let reached = async {
        loop {
            if let Some(delivery) = deliveries(mesh, webhook_id).await.into_iter().next().filter(|one| expected(one)) {
                return delivery;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the delivery gets there")
}

#[tokio::test]
async fn what_happens_is_told_signed_and_in_order() {
    let mesh = Mesh::start_with(config()).await;
    let (all, some) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let (all_id, secret) = register(&mesh, &all.url, &[]).await;
    register(&mesh, &some.url, &["slo.rejected", "slo.rejected"]).await;
    let id = mesh.recommend("checkout").await.id;
    let request = |action: wire::DecisionAction| wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: action as i32,
        recommendation_id: id.clone(),
        reason: "why".into(),
        ..Default::default()
    };
    mesh.decide(request(wire::DecisionAction::Accept)).await.unwrap();
    mesh.decide(request(wire::DecisionAction::Reject)).await.unwrap();
    let received = all.until(3).await;
    let types: Vec<String> = received.iter().map(|one| one.json()["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types, ["recommendation.created", "slo.accepted", "slo.rejected"]);
    for one in &received {
        assert!(one.is_signed_with(&secret));
        assert!(!Received { body: format!("{} ", one.body), ..one.clone() }.is_signed_with(&secret));
        assert!(!Received { timestamp: "1".into(), ..one.clone() }.is_signed_with(&secret));
        assert_eq!(one.timestamp.parse::<i64>().unwrap(), NOW_MS / 1000);
    }
    let audit = mesh.audit().await;
    let accepted = audit.iter().find(|record| record.action == "slo.accepted").unwrap();
    let told = received[1].json();
    assert_eq!(told["data"]["sequence"].as_u64(), Some(accepted.sequence));
    assert_eq!(told["data"]["audit_sha256"].as_str(), Some(accepted.sha256.as_str()));
    assert_eq!(told["data"]["detail"]["recommendation_id"].as_str(), Some(id.as_str()));
    assert_eq!(some.until(1).await[0].id, received[2].id);
    let delivered = until(&mesh, &all_id, |one| one.state() == DeliveryState::Delivered).await;
    assert_eq!((delivered.event_id, delivered.attempt_count, delivered.last_status), (received[2].id.clone(), 1, 204));
}

#[tokio::test]
async fn a_message_on_its_way_is_delivered_before_the_service_stops() {
    let mut config = config();
    config.webhooks.timeout_seconds = 10;
    let mut mesh = Mesh::start_with(config).await;
    let receiver = Receiver::start(&[Does::Dawdles]).await;
    let (webhook_id, _) = register(&mesh, &receiver.url, &[]).await;
    mesh.declare("checkout", 0.99).await;
    receiver.until(1).await;
    mesh.restart_with(|_| {}).await.unwrap();
    // The clock stands: a claim that was left behind would never end.
    let delivered = until(&mesh, &webhook_id, |one| one.state() == DeliveryState::Delivered).await;
    assert_eq!((delivered.attempt_count, receiver.received().len()), (1, 1));
}

#[tokio::test]
async fn what_fails_is_sent_again_then_given_up_and_sent_again_on_request() {
    let mesh = Mesh::start_with(config()).await;
    let receiver = Receiver::start(&[Does::Answers(500), Does::Redirects, Does::Stalls]).await;
    let (webhook_id, secret) = register(&mesh, &receiver.url, &[]).await;
    mesh.declare("checkout", 0.99).await;
    let failed = until(&mesh, &webhook_id, |one| one.last_status == 500).await;
    assert_eq!((failed.state(), failed.attempt_count), (DeliveryState::Waiting, 1));
    // Five seconds, less up to a half by lot.
    let next_ms = attain_proto::convert::unix_millis(&failed.next_attempt_time.unwrap());
    assert!((NOW_MS + 2_500..=NOW_MS + 5_000).contains(&next_ms), "{next_ms}");
    mesh.clock.set(next_ms);
    let redirected = until(&mesh, &webhook_id, |one| one.attempt_count == 2 && one.last_status != 500).await;
    assert_eq!((redirected.last_status, redirected.last_error.as_str()), (307, "redirects are not followed"));
    mesh.clock.set(attain_proto::convert::unix_millis(&redirected.next_attempt_time.unwrap()));
    let dead = until(&mesh, &webhook_id, |one| one.state() == DeliveryState::Dead).await;
    assert_eq!((dead.attempt_count, dead.last_status, dead.last_error.as_str()), (3, 0, "no answer in time"));
    assert_eq!(dead.next_attempt_time, None);
    let retry = wire::RetryDeliveryRequest { webhook_id: webhook_id.clone(), event_id: dead.event_id.clone() };
    client(&mesh).retry_delivery(retry).await.unwrap();
    let delivered = until(&mesh, &webhook_id, |one| one.state() == DeliveryState::Delivered).await;
    assert_eq!((delivered.attempt_count, delivered.last_error.as_str()), (4, ""));
    let received = receiver.received();
    assert_eq!(received.len(), 4, "nothing went where the redirect led");
    // The same name and the same body each time.
    assert!(
        received
            .iter()
            .all(|one| one.id == dead.event_id && one.body == received[0].body && one.is_signed_with(&secret))
    );
    for (webhook_id, event_id, code) in [
        ("webhook-99", dead.event_id.as_str(), "UNKNOWN_WEBHOOK"),
        (&webhook_id, "evt-default-99", "UNKNOWN_DELIVERY"),
        (&webhook_id, "evt-other-1", "UNKNOWN_DELIVERY"),
    ] {
        let retry = wire::RetryDeliveryRequest { webhook_id: webhook_id.into(), event_id: event_id.into() };
        assert_eq!(reason(&client(&mesh).retry_delivery(retry).await.unwrap_err()), (Code::NotFound, code.into()));
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_holds_nobody_else_up() {
    let mesh = Mesh::start_with(config()).await;
    let (slow, quick) = (Receiver::start(&[Does::Stalls; 9]).await, Receiver::start(&[]).await);
    register(&mesh, &slow.url, &[]).await;
    register(&mesh, &quick.url, &[]).await;
    for target in [0.9, 0.91, 0.92, 0.93] {
        mesh.declare("checkout", target).await;
    }
    let received = quick.until(4).await;
    let sequences: Vec<u64> = received.iter().map(|one| one.json()["data"]["sequence"].as_u64().unwrap()).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
}

#[tokio::test]
async fn the_end_of_the_process_loses_nothing() {
    let mut mesh = Mesh::start_with(config()).await;
    let receiver = Receiver::start(&[Does::Stalls]).await;
    let (webhook_id, secret) = register(&mesh, &receiver.url, &[]).await;
    mesh.declare("checkout", 0.99).await;
    receiver.until(1).await;
    // It ends while the message is under way and nothing is noted of it.
    mesh.restart().await;
    assert_eq!(deliveries(&mesh, &webhook_id).await[0].state(), DeliveryState::Waiting);
    mesh.clock.set(NOW_MS + 60_000);
    until(&mesh, &webhook_id, |one| one.state() == DeliveryState::Delivered).await;
    let received = receiver.received();
    assert_eq!((received.len(), &received[0].id, &received[0].body), (2, &received[1].id, &received[1].body));
    assert!(received[1].is_signed_with(&secret));
    assert_ne!(received[0].timestamp, received[1].timestamp);
}

#[tokio::test]
async fn secrets_are_shown_once_and_rotate() {
    let mesh = Mesh::start_with(config()).await;
    let receiver = Receiver::start(&[]).await;
    let (webhook_id, old) = register(&mesh, &receiver.url, &[]).await;
    let rotate = |hours| {
        let request = wire::RotateWebhookSecretRequest { webhook_id: webhook_id.clone(), overlap_hours: hours };
        let mut client = client(&mesh);
        async move { client.rotate_webhook_secret(request).await.map(tonic::Response::into_inner) }
    };
    assert_eq!(fault(&rotate(Some(169)).await.unwrap_err()), ("overlap_hours".into(), "out_of_range".into()));
    let new = rotate(None).await.unwrap().secret;
    assert_ne!(old, new);
    mesh.declare("checkout", 0.99).await;
    let both = receiver.until(1).await.remove(0);
    assert!(both.is_signed_with(&old) && both.is_signed_with(&new));
    mesh.clock.set(NOW_MS + 24 * 3_600_000);
    mesh.declare("checkout", 0.98).await;
    let one = receiver.until(2).await.remove(1);
    assert!(!one.is_signed_with(&old) && one.is_signed_with(&new));
    let list = client(&mesh).list_webhooks(wire::ListWebhooksRequest {}).await.unwrap().into_inner();
    assert_eq!((list.webhooks.len(), list.webhooks[0].url.as_str()), (1, receiver.url.as_str()));
    let told = format!("{list:?}{:?}", mesh.audit().await);
    assert!(!told.contains(old.strip_prefix("whsec_").unwrap()) && !told.contains("whsec_"), "{told}");
    client(&mesh).delete_webhook(wire::DeleteWebhookRequest { webhook_id: webhook_id.clone() }).await.unwrap();
    mesh.declare("checkout", 0.97).await;
    let gone = wire::ListDeliveriesRequest { webhook_id, ..Default::default() };
    let status = client(&mesh).list_deliveries(gone).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_WEBHOOK".into()));
}

#[tokio::test]
async fn endpoints_of_private_networks_are_refused() {
    let strict =
        WebhookConfig { poll_interval_ms: 10, attempts_max: 1, keys: key("one", 1), ..WebhookConfig::default() };
    let mesh = Mesh::start_with(Config { webhooks: strict, ..Config::default() }).await;
    for (url, code) in [
        ("https://127.0.0.1/hook", "private_address"),
        ("https://[::1]/hook", "private_address"),
        ("https://169.254.169.254/latest", "private_address"),
        ("http://hooks.example.com/", "not_allowed"),
        ("https://user:secret@hooks.example.com/", "not_allowed"),
        ("hooks", "malformed"),
    ] {
        let request = wire::CreateWebhookRequest { url: url.into(), event_types: Vec::new() };
        let status = client(&mesh).create_webhook(request).await.unwrap_err();
        assert_eq!(fault(&status), ("url".into(), code.into()), "{url}");
    }
    let unknown =
        wire::CreateWebhookRequest { url: "https://hooks.example.com/".into(), event_types: vec!["slo".into()] };
    let status = client(&mesh).create_webhook(unknown).await.unwrap_err();
    assert_eq!(fault(&status), ("event_types".into(), "unknown_value".into()));
    // A name tells only when it is resolved: nobody is connected to.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let (webhook_id, _) = register(&mesh, &url, &[]).await;
    mesh.declare("checkout", 0.99).await;
    let dead = until(&mesh, &webhook_id, |one| one.state() == DeliveryState::Dead).await;
    assert_eq!(dead.last_error, "the name leads to no public address");
    assert!(futures::poll!(Box::pin(listener.accept())).is_pending(), "nobody connected");
}

#[tokio::test]
async fn without_a_key_there_are_no_webhooks_and_a_wrong_one_serves_nothing() {
    let mut mesh = Mesh::start().await;
    let request = || wire::CreateWebhookRequest { url: "https://hooks.example.com/".into(), event_types: Vec::new() };
    let status = client(&mesh).create_webhook(request()).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "NO_WEBHOOK_KEY".into()));
    assert!(status.message().contains("recommendation.webhooks.key_file"), "{}", status.message());

    mesh.restart_with(|config| config.webhooks = self::config().webhooks).await.unwrap();
    let receiver = Receiver::start(&[]).await;
    let (_, secret) = register(&mesh, &receiver.url, &[]).await;
    for (keys, said) in [
        (KeyText::default(), "there are 1 webhooks and no key"),
        (key("two", 2), "with the key `one`, which is not among"),
        (key("one", 2), "cannot be opened with the key `one`"),
    ] {
        let refused = mesh.restart_with(|config| config.webhooks.keys = keys).await.unwrap_err().to_string();
        assert!(refused.contains(said) && refused.contains("recommendation.webhooks"), "{refused}");
    }
    // A new key before the old one, then the new one alone: messages are signed with the same secret.
    let (new, old) = (hex::encode([2; 32]), hex::encode([1; 32]));
    let both: KeyText = format!("two:{new},one:{old}").into();
    mesh.restart_with(|config| config.webhooks.keys = both).await.unwrap();
    mesh.declare("checkout", 0.99).await;
    mesh.restart_with(|config| config.webhooks.keys = key("two", 2)).await.unwrap();
    mesh.declare("checkout", 0.98).await;
    let received = receiver.until(2).await;
    assert!(received.iter().all(|one| one.is_signed_with(&secret)), "{received:?}");
}

#[tokio::test]
async fn a_secret_lies_in_the_database_encrypted() {
    let mesh = Mesh::start_with(config()).await;
    let receiver = Receiver::start(&[]).await;
    let (_, secret) = register(&mesh, &receiver.url, &[]).await;
    let bytes = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    mesh.declare("checkout", 0.99).await;
    assert!(receiver.until(1).await[0].is_signed_with(&secret));
    for file in mesh.database_files() {
        let content = std::fs::read(&file).unwrap();
        assert!(!content.windows(bytes.len()).any(|part| part == bytes), "{}", file.display());
    }
}
