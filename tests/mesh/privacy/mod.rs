//! Secrets and personal data end nowhere: a mesh with debug logs is sent every canary by every way in, or finds it where it
//! asks, and then every file that it wrote, every line that it logged and every answer that it gave is searched, in every spelling.

mod asked;
mod canaries;
mod ways_in;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::harness::{attain, client, eventually, folder, provided};
use canaries::{Canary, Search, addresses, canaries, in_addresses};

const WITHIN: Duration = Duration::from_secs(120);
/// Requests at a time.
const CONCURRENT: usize = 8;

/// `attain up` with debug logs, whatever it prints kept in files.
struct Watched {
    child: Child,
    gateway: String,
    otlp_http: String,
}

impl Watched {
    async fn start(dir: &Path, more: &[String]) -> Self {
        Self::start_at(dir, "127.0.0.1:0", more).await
    }

    /// The same with a gateway that others than this machine may reach.
    async fn start_at(dir: &Path, listen: &str, more: &[String]) -> Self {
        let file = |name: &str| Stdio::from(std::fs::File::create(dir.join(name)).unwrap());
        let mut command = attain();
        command.args(["up", "--format", "json", "--listen", listen, "--otlp-listen", "127.0.0.1:0"]);
        command.args(["--otlp-http-listen", "127.0.0.1:0", "--data-dir"]).arg(dir.join("data"));
        let settings = [
            "telemetry.log_filter=debug",
            "ingestion.trace_idle_seconds=1",
            "rag.embeddings=false",
            "gateway.rates.reads_per_minute=1000000",
            "gateway.rates.reads_burst=1000000",
            "gateway.rates.writes_per_minute=1000000",
            "gateway.rates.writes_burst=1000000",
        ];
        let more = more.iter().map(String::as_str);
        command.args(settings.into_iter().chain(more).flat_map(|setting| ["--set", setting]));
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        let printed = eventually("the mesh", WITHIN, async || {
            serde_json::from_str::<Value>(std::fs::read_to_string(dir.join("stdout")).unwrap().lines().next()?).ok()
        })
        .await;
        let text = |key: &str| printed[key].as_str().unwrap().to_owned();
        Self { child, gateway: text("gateway"), otlp_http: text("otlp_http") }
    }

    async fn stop(mut self) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
        assert!(tokio::time::timeout(WITHIN, self.child.wait()).await.expect("drained").unwrap().success());
    }
}

/// Sends requests several at a time; the answers, headers included.
async fn send(requests: Vec<(String, reqwest::RequestBuilder)>) -> Vec<(String, Vec<u8>)> {
    let mut answers = Vec::new();
    let mut under_way = JoinSet::new();
    for (what, request) in requests {
        if under_way.len() >= CONCURRENT {
            answers.push(under_way.join_next().await.unwrap().unwrap());
        }
        under_way.spawn(async move {
            // What HTTP itself does not carry, such as some headers, is no way in.
            let Ok(answer) = request.send().await else { return (what, Vec::new()) };
            let head = format!("{} {:?}\n", answer.status(), answer.headers()).into_bytes();
            let body = answer.bytes().await.unwrap_or_default();
            (what, [head, body.to_vec()].concat())
        });
    }
    answers.extend(under_way.join_all().await);
    answers
}

/// The body with each of its texts replaced in turn, with a text in place of a number, with a name that nobody knows, and
/// broken off.
fn variations(body: &Value, text: &str) -> Vec<String> {
    let mut places = Vec::new();
    leaves(body, String::new(), &mut places);
    // Digits in the place of a number are that number, and no text.
    let digits = text.parse::<f64>().is_ok();
    let places = places.into_iter().filter(|place| !digits || !body.pointer(place).unwrap().is_number());
    let replaced = places.map(|place| {
        let mut body = body.clone();
        *body.pointer_mut(&place).unwrap() = json!(text);
        body.to_string()
    });
    let mut bodies: Vec<String> = replaced.collect();
    let mut unknown = body.clone();
    unknown[text] = json!(text);
    bodies.push(unknown.to_string());
    bodies.push(format!("{{\"services\": \"{text}"));
    bodies.push(text.to_owned());
    bodies
}

fn leaves(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| leaves(value, format!("{place}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| leaves(value, format!("{place}/{i}"), found));
        }
        _ => found.push(place),
    }
}

async fn get_text(url: &str) -> String {
    client().get(url).send().await.unwrap().text().await.unwrap()
}

/// Every route of the mesh that takes a body has an entry, so that a new one is not forgotten.
async fn every_body_is_known(gateway: &str) {
    let document: Value = serde_json::from_str(&get_text(&format!("{gateway}/api/v1/openapi.json")).await).unwrap();
    let mut taking = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.as_object().unwrap().values().any(|method| method.get("requestBody").is_some()) {
            taking.insert(path.clone());
        }
    }
    let known: BTreeSet<String> = ways_in::bodies().into_iter().map(|(path, _, _)| path.to_owned()).collect();
    assert!(!taking.is_empty());
    assert_eq!(known, taking, "routes with a body and the entries in ways_in::bodies differ");
}

/// A request to a route that takes a body.
fn with_body(client: &reqwest::Client, gateway: &str, path: &str) -> reqwest::RequestBuilder {
    let url = format!("{gateway}{path}");
    let request = if path == ways_in::PUT_TO { client.put(url) } else { client.post(url) };
    request.header("content-type", "application/json")
}

/// The address with the name of a recommendation that there is, where it asks for one.
async fn named(gateway: &str, path: &str) -> String {
    if !path.contains(ways_in::RECOMMENDATION) {
        return path.to_owned();
    }
    let answer = get_text(&format!("{gateway}/api/v1/services/shop/slo-recommendations")).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    path.replace(ways_in::RECOMMENDATION, answer["recommendation"]["id"].as_str().unwrap())
}

async fn rest_requests(gateway: &str, canaries: &[Canary]) -> Vec<(String, reqwest::RequestBuilder)> {
    let client = client();
    let mut bodies = Vec::new();
    for (_, path, body) in ways_in::bodies() {
        bodies.push((named(gateway, path).await, body));
    }
    let mut requests = Vec::new();
    for canary in canaries {
        for (path, body) in &bodies {
            for body in variations(body, &canary.text) {
                let request = with_body(&client, gateway, path).body(body);
                requests.push((format!("a body to {path} with {}", canary.what), request));
            }
        }
        for (address, written) in ways_in::ADDRESSES
            .iter()
            .flat_map(|address| in_addresses(&canary.text).into_iter().map(move |written| (address, written)))
        {
            let url = format!("{gateway}{}", address.replace('@', &written));
            requests.push((format!("GET {address} with {}", canary.what), client.get(url)));
        }
        for header in ways_in::HEADERS {
            let request = client.post(format!("{gateway}/api/v1/incidents")).header(*header, &canary.text).body("{}");
            requests.push((format!("header {header} with {}", canary.what), request));
        }
    }
    requests
}

fn otlp_requests(otlp_http: &str, canaries: &[Canary]) -> Vec<(String, reqwest::RequestBuilder)> {
    let now_ns = jiff::Timestamp::now().as_nanosecond() as u64;
    let client = client();
    let post = |path: &str, body: String| {
        client.post(format!("{otlp_http}{path}")).header("content-type", "application/json").body(body)
    };
    let mut requests = Vec::new();
    for (number, canary) in canaries.iter().enumerate() {
        let text = &canary.text;
        let spans = ways_in::spans(text, number, now_ns).to_string();
        requests.push((format!("spans with {}", canary.what), post("/v1/traces", spans)));
        let points = ways_in::points(text, now_ns).to_string();
        requests.push((format!("points with {}", canary.what), post("/v1/metrics", points)));
        for path in ["/v1/traces", "/v1/metrics"] {
            for body in
                [text.clone(), json!({ text.clone(): text }).to_string(), json!({"resourceSpans": text}).to_string()]
            {
                requests.push((format!("{path} with {}", canary.what), post(path, body)));
            }
        }
    }
    let marker = ways_in::spans("canary-marker", 999_999, now_ns).to_string();
    requests.push(("the marker".to_owned(), post("/v1/traces", marker)));
    requests
}

/// What the mesh tells afterwards of what it keeps.
async fn read_back(gateway: &str) -> Vec<(String, Vec<u8>)> {
    let mut answers = Vec::new();
    for path in [
        "/api/v1/services?page_size=500",
        "/api/v1/services/shop",
        "/api/v1/services/shop/dependencies",
        "/api/v1/services/shop/graph-analysis",
        "/api/v1/services/shop/latency-analysis?threshold_ms=100",
        "/api/v1/services/shop/metrics",
        "/api/v1/services/shop/utilisation",
        "/api/v1/services/shop/slo-recommendations",
        "/api/v1/services/shop/slos",
        "/api/v1/services/shop/slo-history",
        "/api/v1/incidents?page_size=500",
        "/api/v1/knowledge/documents?page_size=500",
        "/api/v1/knowledge/documents/runbooks/shop",
        "/api/v1/knowledge/ratings",
        "/api/v1/knowledge/search?query=shop",
        "/api/v1/audit?page_size=500",
        "/api/v1/services/shop/feedback",
        "/api/v1/learning",
        "/api/v1/drift",
        "/api/v1/models",
        "/api/v1/experiments",
        "/api/v1/catalogue",
        "/metrics",
    ] {
        answers.push((format!("GET {path}"), get_text(&format!("{gateway}{path}")).await.into_bytes()));
    }
    answers
}

/// Runs a mesh, sends every canary by every way in, and returns where any was found.
async fn found_after_everything(dir: &Path, settings: &[String], canaries: &[Canary]) -> Vec<String> {
    let search = Arc::new(Search::new(canaries));
    // Not in the folder that is searched: what is searched for may not be written there by the test.
    let mappings = folder();
    let sources = asked::start(canaries, &mappings.path().join("mappings.toml")).await;
    let mesh = Watched::start(dir, &[settings, &sources].concat()).await;
    every_body_is_known(&mesh.gateway).await;
    // Something to find, so that the canaries reach past the question whether there is such a service.

    // One after the other: a window has to be there before it ends.
    for (_, path, body) in ways_in::bodies() {
        let path = named(&mesh.gateway, path).await;
        let request = with_body(&client(), &mesh.gateway, &path).body(body.to_string());
        let (path, answer) = send(vec![(path, request)]).await.remove(0);
        // The formats of other tools have tests of their own; nobody here is told apart from somebody who proposed something,
        // nothing was sent to an endpoint yet, there is one model only, and too few teams for an experiment: of these the canaries
        // matter.
        let unlike = ["/imports/", "/decisions/", "/webhooks/", "/models/", "/experiments"];
        assert!(
            answer.starts_with(b"200") || unlike.iter().any(|part| path.contains(part)),
            "{path}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    let mut answers = send(otlp_requests(&mesh.otlp_http, canaries)).await;
    answers.extend(send(rest_requests(&mesh.gateway, canaries).await).await);
    for marker in ["canary-marker", asked::PROMETHEUS_MARKER, asked::CATALOGUE_MARKER] {
        eventually(marker, WITHIN, async || {
            let found = get_text(&format!("{}/api/v1/services?query={marker}", mesh.gateway)).await;
            found.contains(&format!("\"id\":\"{marker}\"")).then_some(Value::Null)
        })
        .await;
    }
    eventually("troubles with both sources in the log", WITHIN, async || {
        let log = std::fs::read_to_string(dir.join("stderr")).unwrap();
        let told = ["Prometheus cannot be read", "the catalogue was not taken over"];
        told.iter().all(|told| log.contains(told)).then_some(Value::Null)
    })
    .await;
    answers.extend(read_back(&mesh.gateway).await);
    let mut found: Vec<String> = Vec::new();
    for (what, answer) in &answers {
        found.extend(search.found(answer).into_iter().map(|line| format!("answer to {what}: {line}")));
    }
    // While it runs the newest writes are in the write-ahead log; afterwards everything is in the file.
    found.extend(search.found_below(dir));
    mesh.stop().await;
    found.extend(search.found_below(dir));
    println!("{} canaries, {} answers", canaries.len(), answers.len());
    found
}

fn nothing(found: Vec<String>) {
    // One place of each canary says more than many of one.
    let mut some: BTreeMap<&str, &String> = BTreeMap::new();
    for line in &found {
        let place = line.split(" in …").next().unwrap_or_default();
        some.entry(place.rsplit(": ").next().unwrap_or_default()).or_insert(line);
    }
    assert!(found.is_empty(), "{} places of {} kinds: {some:#?}", found.len(), some.len());
}

#[tokio::test]
async fn no_canary_survives_anywhere() {
    let dir = folder();
    nothing(found_after_everything(dir.path(), &[], &canaries()).await);
}

#[tokio::test]
async fn no_address_of_a_machine_survives_where_they_are_redacted() {
    let dir = folder();
    // Of the others some: the test above sends them all.
    let others: Vec<Canary> = canaries().into_iter().step_by(5).collect();
    let canaries = [others, addresses()].concat();
    let settings = ["privacy.ip_addresses=redact".to_owned()];
    nothing(found_after_everything(dir.path(), &settings, &canaries).await);
    // Two machines are two still, each by its pseudonym, and so are two ports of one.
    let key = std::fs::read_to_string(dir.path().join("data/privacy.key")).unwrap();
    assert_eq!(key.trim().len(), 64);
    let mesh = Watched::start(dir.path(), &settings).await;
    let listed: Value =
        serde_json::from_str(&get_text(&format!("{}/api/v1/services?query=ip-&page_size=500", mesh.gateway)).await)
            .unwrap();
    let ids: BTreeSet<String> = listed["services"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|service| service["id"].as_str().map(str::to_owned))
        .filter(|id| {
            id.strip_prefix("ip-")
                .is_some_and(|rest| rest.len() >= 12 && rest.as_bytes()[..12].iter().all(u8::is_ascii_hexdigit))
        })
        .collect();
    let machines: BTreeSet<&str> = ids.iter().map(|id| &id[..15]).collect();
    assert!(machines.len() >= 5 && ids.iter().any(|id| id.ends_with(":8080")), "{ids:?}");
    // A port behind an IPv6 address is not taken for a part of it.
    assert!(ids.iter().any(|id| id.len() == 19 && id.ends_with(":443")), "{ids:?}");
    mesh.stop().await;
}

/// Whoever is refused leaves the address it came from in the log only as a pseudonym.
#[tokio::test]
async fn refused_callers_are_logged_by_pseudonyms() {
    // The machine's own address towards others; asking the system sends nothing.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    let Some(own) = own.ok().filter(|own| !own.is_loopback() && !own.is_unspecified()) else {
        println!("SKIPPED: the machine has no address but loopback");
        return;
    };
    let dir = folder();
    let hash = "ab".repeat(32);
    let settings = [
        "privacy.ip_addresses=redact".to_owned(),
        format!("gateway.keys=[{{sha256=\"{hash}\", tenant=\"acme\", caller=\"ci\", role=\"reader\"}}]"),
        "gateway.auth=keys".to_owned(),
    ];
    let mesh = Watched::start_at(dir.path(), &format!("{own}:0"), &settings).await;
    let answer = get_text(&format!("{}/api/v1/services", mesh.gateway)).await;
    assert!(answer.contains("unauthenticated"), "{answer}");
    mesh.stop().await;
    let log = std::fs::read_to_string(dir.path().join("stderr")).unwrap();
    let line = log.lines().find(|line| line.contains("/api/v1/services") && line.contains("401")).expect(&log);
    assert!(line.contains("ip-") && !log.contains(&own.to_string()), "{log}");
}

#[tokio::test]
async fn no_canary_survives_in_postgresql() {
    let Some(server) = provided("ATTAIN_TEST_POSTGRES_URL") else { return };
    let (dir, database) = (folder(), crate::processes::fresh_database(&server).await);
    let members = ["ingestion", "recommendation", "rag"].map(|member| format!("{member}.database_url={database}"));
    // Of the canaries some: what is kept was redacted before any database saw it.
    let canaries: Vec<Canary> = canaries().into_iter().step_by(4).collect();
    let mut found = found_after_everything(dir.path(), &members, &canaries).await;
    let Ok(dump) = Command::new("pg_dump").args(["--inserts", &database]).output().await else {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "pg_dump is required and not in the path");
        println!("SKIPPED: pg_dump is not in the path");
        return;
    };
    assert!(dump.status.success() && dump.stdout.len() > 1000, "{}", String::from_utf8_lossy(&dump.stderr));
    let search = Search::new(&canaries);
    found.extend(search.found(&dump.stdout).into_iter().map(|line| format!("dump: {line}")));
    nothing(found);
}

/// Settings that cannot be right or reach nobody: what is told of them must not repeat their secrets.
#[tokio::test]
async fn settings_are_told_without_their_secrets() {
    const SECRET: &str = "setting-canary-5150";
    for setting in [
        format!("ingestion.database_url=postgres://me:{SECRET}@127.0.0.1:1/x"),
        format!("ingestion.database_url=postgres://127.0.0.1:1/x?user=me&password={SECRET}"),
        format!("ingestion.database_url=mysql://me:{SECRET}@127.0.0.1:1/x"),
        format!("recommendation.database_url=postgres://me:{SECRET}@127.0.0.1:1/x"),
        format!("rag.database_url=postgres://me:{SECRET}@127.0.0.1:1/x"),
        format!("rag.qdrant_url=nothing://me:{SECRET}@"),
        format!("rag.qdrant_api_key=[{SECRET}]"),
        format!("gateway.keys={SECRET}"),
        format!("telemetry.otlp_endpoint=:// me:{SECRET}@x"),
        format!("ingestion.prometheus.url=ftp://me:{SECRET}@x"),
        format!("ingestion.limits=token {SECRET}"),
        format!("rag.listen=password={SECRET}"),
    ] {
        let dir = folder();
        let mut command = attain();
        command.args(["up", "--data-dir"]).arg(dir.path());
        for listen in ["--listen", "--otlp-listen", "--otlp-http-listen"] {
            command.args([listen, "127.0.0.1:0"]);
        }
        refused(command, &setting, SECRET).await;
    }
    // Within one process the members find one another without addresses.
    let mut command = attain();
    command.args(["serve", "graph"]);
    refused(command, &format!("graph.ingestion_url=:// me:{SECRET}@x"), SECRET).await;
}

/// The command ends with an error that does not repeat the secret.
async fn refused(mut command: Command, setting: &str, secret: &str) {
    command.args(["--set", "telemetry.log_filter=debug", "--set", setting]);
    let output = tokio::time::timeout(WITHIN, command.output()).await.expect("ends").unwrap();
    assert!(!output.status.success(), "{setting} was taken");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(!told.is_empty() && !told.contains(secret), "{setting}: {told}");
}

/// Members that run apart give an address the same pseudonym only by the same key.
#[tokio::test]
async fn members_that_run_apart_need_a_key_for_pseudonyms() {
    let dir = folder();
    let key = dir.path().join("key");
    std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
    let named = format!("privacy.ip_key_file={}", key.display());
    for (settings, accepted) in [
        (vec!["privacy.ip_addresses=redact"], false),
        (vec!["privacy.ip_addresses=redact", named.as_str()], true),
        (vec!["privacy.ip_addresses=keep"], true),
        (vec!["privacy.ip_adresses=redact"], false),
    ] {
        let mut command = attain();
        command.args(["serve", "graph", "--check"]).args(settings.iter().flat_map(|setting| ["--set", setting]));
        let output = command.output().await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), accepted, "{settings:?}: {told}");
        assert!(accepted || told.contains("privacy."), "{settings:?}: {told}");
    }
}
