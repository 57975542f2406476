//! The topology of compose.yaml as five processes on loopback, with PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;

use crate::compose::{Container, KEY, addresses, members};
use crate::harness::{attain, client, eventually, folder, free_port, provided};

/// Members as processes, each address of compose.yaml replaced by one on loopback.
struct Mesh {
    processes: BTreeMap<String, (Container, Option<Child>)>,
    gateway: String,
}

impl Mesh {
    fn start(data_dir: &std::path::Path, postgres_url: &str) -> Self {
        let members = members();
        let names: BTreeSet<String> = members.iter().map(|member| member.name.clone()).collect();
        let ports: BTreeMap<(String, u16), u16> = members
            .iter()
            .flat_map(|member| member.ports.iter().map(|port| ((member.name.clone(), *port), free_port())))
            .collect();
        let gateway = format!("http://127.0.0.1:{}", ports[&("gateway".to_owned(), 8080)]);
        let processes = members
            .into_iter()
            .map(|mut member| {
                for (variable, value) in &mut member.environment {
                    *value = on_loopback(&member.name, variable, value, &ports, &names, postgres_url);
                }
                // Two that need a server which no package registry has: no Collector to export to, Qdrant embedded.
                member.environment.retain(|name, _| !name.ends_with("OTLP_ENDPOINT") && !name.ends_with("QDRANT_URL"));
                member.environment.remove("ATTAIN_RAG__MODEL_DIR");
                if member.name == "rag" {
                    let index = data_dir.join("index").to_string_lossy().into_owned();
                    member.environment.insert("ATTAIN_RAG__INDEX_DIR".into(), index);
                }
                (member.name.clone(), (member, None))
            })
            .collect();
        let mut mesh = Self { processes, gateway };
        // The gateway first and ingestion last: nobody may depend on an order of starting.
        for name in ["gateway", "recommendation", "rag", "graph", "ingestion"] {
            mesh.spawn(name);
        }
        mesh
    }

    fn spawn(&mut self, name: &str) {
        let (member, process) = self.processes.get_mut(name).unwrap();
        *process = Some(attain().args(&member.command).envs(&member.environment).spawn().unwrap());
    }

    async fn kill_9(&mut self, name: &str) {
        let (_, process) = self.processes.get_mut(name).unwrap();
        process.take().unwrap().kill().await.unwrap();
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = client().request(method, format!("{}{path}", self.gateway)).bearer_auth(KEY);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                (status, answer.json().await.unwrap_or_default())
            }
            // Nobody listens yet.
            Err(_) => (0, Value::Null),
        }
    }

    async fn ready(&self) {
        eventually("every member is ready", Duration::from_secs(60), async || {
            let (status, answer) = self.ask(reqwest::Method::GET, "/readyz", None).await;
            (status == 200).then_some(answer)
        })
        .await;
    }
}

fn on_loopback(
    member: &str,
    variable: &str,
    value: &str,
    ports: &BTreeMap<(String, u16), u16>,
    names: &BTreeSet<String>,
    postgres_url: &str,
) -> String {
    if variable.ends_with("DATABASE_URL") {
        return postgres_url.to_owned();
    }
    if variable.ends_with("LISTEN") {
        let port: u16 = value.rsplit(':').next().unwrap().parse().unwrap();
        return format!("127.0.0.1:{}", ports[&(member.to_owned(), port)]);
    }
    addresses(value, names).into_iter().fold(value.to_owned(), |value, (host, port)| {
        let loopback = format!("127.0.0.1:{}", ports[&(host.clone(), port)]);
        value.replace(&format!("{host}:{port}"), &loopback)
    })
}

/// A database of its own on the server of the test run.
pub(crate) async fn fresh_database(server: &str) -> String {
    let name = format!("mesh_{}", free_port());
    let (base, _) = server.rsplit_once('/').unwrap();
    let output =
        tokio::process::Command::new("psql").args([server, "-qc", &format!("CREATE DATABASE {name}")]).output();
    let output = output.await.expect("psql is there where PostgreSQL is");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    format!("{base}/{name}")
}

#[tokio::test]
async fn five_processes_do_what_one_does_and_survive_one_another() {
    let Some(server) = provided("ATTAIN_TEST_POSTGRES_URL") else { return };
    let (dir, database) = (folder(), fresh_database(&server).await);
    let mut mesh = Mesh::start(dir.path(), &database);
    mesh.ready().await;

    let (status, _) = reqwest_without_key(&mesh.gateway).await;
    assert_eq!(status, 401, "outside loopback nobody gets in without a key");

    let graph = json!({"services": [{"id": "shop", "depends_on": ["store"]}, {"id": "store", "kind": "datastore"}]});
    let (status, answer) = mesh.ask(reqwest::Method::POST, "/api/v1/services/dependencies", Some(graph)).await;
    assert_eq!(status, 200, "{answer}");
    for service in ["shop", "store"] {
        let body = json!({"buckets": crate::harness::buckets(service, 8 * 288, 5000, 5)});
        let (status, answer) = mesh.ask(reqwest::Method::POST, "/api/v1/metrics", Some(body)).await;
        assert_eq!((status, &answer["accepted_count"]), (200, &json!(8 * 288)), "{answer}");
    }
    let recommended = "/api/v1/services/shop/slo-recommendations";
    let (status, first) = mesh.ask(reqwest::Method::GET, recommended, None).await;
    assert_eq!(status, 200, "{first}");

    // Knowledge gone: the answer still comes, and says what it lacks.
    mesh.kill_9("rag").await;
    let (status, body) = mesh
        .ask(
            reqwest::Method::POST,
            "/api/v1/metrics",
            Some(json!({"buckets": crate::harness::buckets("shop", 9 * 288, 5000, 6)})),
        )
        .await;
    assert_eq!(status, 200, "{body}");
    let degraded = eventually("a degraded answer", Duration::from_secs(60), async || {
        let (status, answer) = mesh.ask(reqwest::Method::GET, recommended, None).await;
        let missing = answer["recommendation"]["missing_inputs"].as_array().cloned().unwrap_or_default();
        (status == 200 && missing.iter().any(|input| input["name"] == "knowledge")).then_some(answer)
    })
    .await;
    assert!(degraded["recommendation"]["slis"][0]["offers"].as_array().is_some_and(|offers| !offers.is_empty()));

    // Every member killed and started again: everything acknowledged is there.
    for name in ["ingestion", "graph", "recommendation", "gateway"] {
        mesh.kill_9(name).await;
    }
    for name in ["gateway", "rag", "recommendation", "graph", "ingestion"] {
        mesh.spawn(name);
    }
    mesh.ready().await;
    let (status, answer) = mesh.ask(reqwest::Method::GET, "/api/v1/services/shop", None).await;
    assert_eq!((status, &answer["data"]["bucket_count"]), (200, &json!(9 * 288)), "{answer}");
    let id = first["recommendation"]["id"].as_str().unwrap();
    let (status, kept) = mesh.ask(reqwest::Method::GET, &format!("/api/v1/slo-recommendations/{id}"), None).await;
    assert_eq!((status, &kept["recommendation"]), (200, &first["recommendation"]));
}

async fn reqwest_without_key(gateway: &str) -> (u16, Value) {
    crate::harness::get(gateway, "/api/v1/services").await
}
