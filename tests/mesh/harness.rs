//! Starts real processes and talks to them.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const START_WITHIN: Duration = Duration::from_secs(60);

/// A port that nobody holds right now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The built command.
pub(crate) fn attain() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_attain"));
    // Settings of the machine must not reach a test.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ATTAIN_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

/// What the test run says is there; `None`, said aloud, where it is not. With `ATTAIN_TEST_REQUIRE` missing means failing.
pub(crate) fn provided(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "{variable} is required and not set");
        println!("SKIPPED: {variable} is not set");
    }
    value
}

/// `attain up` as a process.
pub(crate) struct Up {
    child: Child,
    /// Base address of the REST routes.
    pub(crate) gateway: String,
    /// What `up` printed.
    pub(crate) printed: Value,
}

impl Up {
    /// Starts on ports of the system's choosing and waits until every member is ready.
    pub(crate) async fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        Self::start_with_otlp(data_dir, "127.0.0.1:0", arguments).await
    }

    /// The same with a chosen OTLP address.
    pub(crate) async fn start_with_otlp(data_dir: &Path, otlp: &str, arguments: &[&str]) -> Self {
        let mut child = attain()
            .args(["up", "--format", "json", "--listen", "127.0.0.1:0", "--otlp-listen", otlp])
            .args(["--otlp-http-listen", "127.0.0.1:0", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(START_WITHIN, lines.next_line()).await.expect("ready in time").unwrap();
        let printed: Value = serde_json::from_str(&line.expect("one line when ready")).unwrap();
        let text = |key: &str| printed[key].as_str().unwrap().to_owned();
        Self { child, gateway: text("gateway"), printed }
    }

    /// GET: status and JSON.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        get(&self.gateway, path).await
    }

    /// POST of JSON: status and JSON.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        post(&self.gateway, path, body).await
    }

    /// Ends the process as `kill -9` does.
    pub(crate) async fn kill_9(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks the process to end and returns whether it did so in good order.
    pub(crate) async fn stop(mut self) -> bool {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        tokio::time::timeout(Duration::from_secs(20), self.child.wait())
            .await
            .expect("drained in time")
            .unwrap()
            .success()
    }
}

pub(crate) async fn get(base: &str, path: &str) -> (u16, Value) {
    read(client().get(format!("{base}{path}"))).await
}

pub(crate) async fn post(base: &str, path: &str, body: &Value) -> (u16, Value) {
    read(client().post(format!("{base}{path}")).header("content-type", "application/json").body(body.to_string())).await
}

/// A client that trusts nothing kept from another test.
pub(crate) fn client() -> reqwest::Client {
    // Every client of the process needs a provider, even for plain HTTP; the second call finds one installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status} without JSON: {text}"));
    (status, body)
}

/// Asks until the answer satisfies, within a bound; returns the satisfying answer.
pub(crate) async fn eventually<F, Fut>(what: &str, within: Duration, mut ask: F) -> Value
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<Value>>,
{
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A folder that goes with the test.
pub(crate) fn folder() -> TempDir {
    tempfile::Builder::new().prefix("attain-test-").tempdir().unwrap()
}

/// Starts of five-minute buckets, the newest full one first, RFC 3339. Taken once a test: a second look may be in the next
/// bucket.
pub(crate) fn bucket_times() -> impl Fn(i64) -> String + Clone {
    let newest = jiff::Timestamp::now().as_second().div_euclid(300) * 300 - 300;
    move |buckets_before| jiff::Timestamp::from_second(newest - 300 * buckets_before).unwrap().to_string()
}

/// `count` buckets of a service, the newest first, each with the same counts.
pub(crate) fn buckets(service: &str, count: i64, valid: u64, bad: u64) -> Vec<Value> {
    let time = bucket_times();
    (0..count)
        .map(|before| {
            serde_json::json!({"service_id": service, "start_time": time(before), "valid_count": valid, "bad_count": bad})
        })
        .collect()
}
