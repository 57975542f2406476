//! Ways in that Attain asks: a Prometheus and a catalogue in the test, whose every word is a canary.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::canaries::Canary;

/// What is found once an answer of the Prometheus was kept.
pub(crate) const PROMETHEUS_MARKER: &str = "prometheus-marker";
/// What is found once the catalogue was taken over.
pub(crate) const CATALOGUE_MARKER: &str = "catalogue-marker";

const STEP_S: i64 = 300;
/// Statuses with which the catalogue fails, in turn, after its first answer.
const FAILURES: [u16; 7] = [400, 401, 403, 404, 429, 500, 503];

/// Starts the server and returns the settings by which a mesh asks it; `mapping_file` is written.
pub(crate) async fn start(canaries: &[Canary], mapping_file: &std::path::Path) -> Vec<String> {
    let texts: Arc<Vec<String>> = Arc::new(canaries.iter().map(|canary| canary.text.clone()).collect());
    std::fs::write(mapping_file, mappings(texts.len())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (texts, asked) = (Arc::clone(&texts), Arc::clone(&asked));
            // One that goes away does not matter.
            tokio::spawn(async move { drop(answer(socket, &texts, &asked).await) });
        }
    });
    vec![
        format!("ingestion.prometheus.url=http://{address}"),
        format!("ingestion.prometheus.mapping_file={}", mapping_file.display()),
        "ingestion.prometheus.interval_seconds=1".to_owned(),
        "ingestion.prometheus.backfill_days=1".to_owned(),
        format!("ingestion.catalogue.url=http://{address}"),
        "ingestion.catalogue.interval_seconds=1".to_owned(),
    ]
}

/// Buckets, utilisation and edges from answers that are read; and for each canary one that is not, with it in its words.
fn mappings(count: usize) -> String {
    let mut text = "[[mapping]]\npreset = \"service-graph\"\n".to_owned();
    text += "[[mapping]]\nname = \"kept\"\nlabel = \"service\"\nvalid = \"kept\"\nbad = \"kept\"\n";
    text += "[[mapping]]\nname = \"used\"\nlabel = \"service\"\nutilisation = \"queue_depth\"\naverage = \"used\"\n";
    for query in (0..count).map(|n| format!("wrong_{n}")) {
        text +=
            &format!("[[mapping]]\nname = \"{query}\"\nlabel = \"service\"\nvalid = \"{query}\"\nbad = \"{query}\"\n");
    }
    text
}

async fn answer(mut socket: TcpStream, texts: &[String], asked: &AtomicUsize) -> std::io::Result<()> {
    let (head, body) = read(&mut socket).await?;
    let (status, answer) = if head.starts_with("POST /api/v1/query_range") {
        queried(&body, texts)
    } else {
        catalogued(asked.fetch_add(1, Ordering::Relaxed), texts)
    };
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

async fn read(socket: &mut TcpStream) -> std::io::Result<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok((head.to_owned(), body.to_owned()));
            }
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// As Prometheus answers a range query.
fn queried(form: &str, texts: &[String]) -> (u16, Value) {
    let address = reqwest::Url::parse(&format!("http://form/?{form}")).unwrap();
    let said = |name: &str| address.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    if let Some(number) = said("query").strip_prefix("wrong_") {
        let number: usize = number.parse().unwrap();
        return wrong(number, &texts[number]);
    }
    let time = |name: &str| said(name).parse::<f64>().unwrap() as i64;
    let newest = time("end");
    let instants = (0..3).map(|n| newest - n * STEP_S).filter(|instant| *instant >= time("start")).rev();
    let values: Vec<Value> = instants.map(|instant| json!([instant, "3"])).collect();
    let marker = PROMETHEUS_MARKER.to_owned();
    let series = texts.iter().chain([&marker]).map(|text| {
        let mut metric = json!({"service": text, "client": text, "server": text, "connection_type": text});
        metric[text] = json!(text);
        json!({"metric": metric, "values": values})
    });
    // A call of each by somebody with a name, for calls of a service to itself are no edge.
    let called =
        texts.iter().map(|text| json!({"metric": {"client": PROMETHEUS_MARKER, "server": text}, "values": values}));
    let result: Vec<Value> = series.chain(called).collect();
    // Of others an answer is taken for a part of one.
    let warnings: Vec<String> = texts.iter().map(|text| format!("PromQL warning: {text}")).collect();
    (
        200,
        json!({"status": "success", "warnings": warnings, "infos": texts, "data": {"resultType": "matrix", "result": result}}),
    )
}

/// An answer that is not read: a refusal, or one that is malformed or partial, in turn.
fn wrong(number: usize, text: &str) -> (u16, Value) {
    let matrix = |result: Value| json!({"status": "success", "data": {"resultType": "matrix", "result": result}});
    match number % 5 {
        0 => (422, json!({"status": "error", "errorType": text, "error": text, "warnings": [text]})),
        1 => (200, matrix(json!(text))),
        2 => (200, json!({"status": "success", "data": {"resultType": text, "result": []}})),
        3 => (200, json!({"status": "success", "warnings": [text], "data": {"resultType": "matrix", "result": []}})),
        _ => (400, json!([text])),
    }
}

/// As Backstage answers: one sweep, and errors ever after.
fn catalogued(asked: usize, texts: &[String]) -> (u16, Value) {
    if let Some(failed) = asked.checked_sub(1) {
        let text = &texts[failed % texts.len()];
        return (FAILURES[failed % FAILURES.len()], json!({"error": {"name": text, "message": text}}));
    }
    let marks = |text: &str| json!({"attain.dev/service-id": text, "attain.dev/tier": text, "attain.dev/lifecycle": text, text: text});
    let item = |kind: &str, name: &str, text: &str| {
        let relations: Vec<Value> = ["dependsOn", "ownedBy", "partOf", "providesApi", "consumesApi", text]
            .iter()
            .flat_map(|relation| {
                [text.to_owned(), format!("component:default/{text}")]
                    .map(|to| json!({"type": relation, "targetRef": to}))
            })
            .collect();
        json!({
            "kind": kind, "relations": relations,
            "metadata": {"name": name, "namespace": "default", "title": text, "etag": text, "annotations": marks(text), "labels": marks(text)},
            "spec": {"type": text, "lifecycle": text, "owner": text, "system": text},
        })
    };
    let each = texts.iter().enumerate().flat_map(|(n, text)| {
        let mut unannotated = item("Resource", &format!("resource-{n}"), text);
        unannotated["metadata"]["annotations"] = json!({});
        unannotated["metadata"]["labels"] = json!({});
        let mut elsewhere = item("Component", &format!("elsewhere-{n}"), text);
        elsewhere["metadata"]["namespace"] = json!(text);
        [
            item("Component", &format!("component-{n}"), text),
            item("Component", text, text),
            item(text, "x", text),
            unannotated,
            elsewhere,
        ]
    });
    let mut items: Vec<Value> = each.collect();
    items.push(
        json!({"kind": "Component", "metadata": {"name": CATALOGUE_MARKER, "etag": "1"}, "spec": {"type": "service"}}),
    );
    (200, json!({"items": items, "totalItems": items.len(), "pageInfo": {}}))
}
