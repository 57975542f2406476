//! A folder of documents brought level with a running mesh, over its REST routes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use attain_rag::folder::{Known, Plan, Scan};
use serde_json::{Value, json};

use super::request::{Gateway, Request, segment};
use crate::cli::Format;
use crate::output;

/// Documents of one request …
const DOCUMENTS_PER_REQUEST: usize = 50;
/// … and the characters that end it sooner.
const CHARS_PER_REQUEST: usize = 1_000_000;

/// What to bring level, and how.
pub(super) struct Options<'a> {
    pub(super) folder: &'a Path,
    pub(super) prefix: &'a str,
    pub(super) delete_missing: bool,
    pub(super) allow_emptied: bool,
    /// Time between two looks; `None` for one look.
    pub(super) interval: Option<Duration>,
}

/// Brings the documents level with the folder, once or until it is stopped. Fails where a file could not be kept.
pub(super) async fn run(gateway: &Gateway, options: &Options<'_>, format: Format) -> anyhow::Result<()> {
    let Some(interval) = options.interval else {
        let report = look(gateway, options).await?;
        output::answer(&report, format);
        let failed = report["failed"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(failed == 0, "{failed} files could not be kept");
        return Ok(());
    };
    let mut before = Value::Null;
    loop {
        match look(gateway, options).await {
            Ok(report) => {
                let changed = report["sent_count"] != 0 || report["removed_count"] != 0;
                if changed || report["failed"] != before["failed"] || report["withheld"] != before["withheld"] {
                    output::answer(&report, format);
                }
                before = report;
            }
            // A mesh that is away now may be there at the next look.
            Err(error) => output::failure(&error, format),
        }
        tokio::time::sleep(interval).await;
    }
}

async fn look(gateway: &Gateway, options: &Options<'_>) -> anyhow::Result<Value> {
    let folder = options.folder;
    let scan = Scan::of(folder, options.prefix).with_context(|| format!("cannot read {}", folder.display()))?;
    let known = known(gateway, options.prefix).await?;
    let plan = scan.plan(&known, options.delete_missing, options.allow_emptied);
    let mut failed: Vec<Value> =
        scan.faults.iter().map(|(path, reason)| json!({"file": path, "reason": reason})).collect();
    let mut sent = 0;
    for names in requests(&scan, &plan) {
        let answer = gateway.send(&put(&scan, &names)).await?;
        sent += answer["documents"].as_array().map_or(0, Vec::len);
        for rejected in answer["rejected"].as_array().into_iter().flatten() {
            let index = rejected["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
            let path = names.get(index).and_then(|name| scan.files.get(*name)).map(|file| file.path.as_str());
            failed.push(json!({"file": path, "reason": rejected["reason"], "pointer": rejected["pointer"]}));
        }
    }
    for name in &plan.remove {
        gateway.send(&Request::delete(format!("/api/v1/knowledge/documents/{}", segment(name)))).await?;
    }
    Ok(json!({
        "sent_count": sent,
        "unchanged_count": plan.unchanged_count,
        "removed_count": plan.remove.len(),
        "withheld": plan.withheld,
        "commit": scan.commit,
        "failed": failed,
    }))
}

/// What is kept under the prefix, and where it came from.
async fn known(gateway: &Gateway, prefix: &str) -> anyhow::Result<BTreeMap<String, Known>> {
    let mut known = BTreeMap::new();
    let mut token: Option<String> = None;
    loop {
        let request = Request::get("/api/v1/knowledge/documents")
            .with("page_size", Some(500))
            .with("id_prefix", Some(prefix).filter(|prefix| !prefix.is_empty()))
            .with("page_token", token);
        let answer = gateway.send(&request).await?;
        for document in answer["documents"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            if !text(&document["publisher"]).is_empty() {
                // Somebody else's: it is not ours to remove.
                continue;
            }
            let source = &document["source"];
            let from = Known { uri: text(&source["uri"]), revision: text(&source["revision"]) };
            known.insert(text(&document["id"]), from);
        }
        match answer["next_page_token"].as_str().filter(|token| !token.is_empty()) {
            Some(next) => token = Some(next.to_owned()),
            None => return Ok(known),
        }
    }
}

/// The documents to send, by request.
fn requests<'a>(scan: &Scan, plan: &'a Plan) -> Vec<Vec<&'a str>> {
    let mut requests: Vec<Vec<&str>> = Vec::new();
    let mut chars = 0;
    for name in &plan.send {
        let length = scan.files.get(name).map_or(0, |file| file.text.len());
        let full = requests
            .last()
            .is_none_or(|last| last.len() >= DOCUMENTS_PER_REQUEST || chars + length > CHARS_PER_REQUEST);
        if full {
            requests.push(Vec::new());
            chars = 0;
        }
        chars += length;
        if let Some(last) = requests.last_mut() {
            last.push(name);
        }
    }
    requests
}

fn put(scan: &Scan, names: &[&str]) -> Request {
    let document = |name: &&str| {
        let file = scan.files.get(*name)?;
        let Known { uri, revision } = scan.source(file);
        Some(json!({"id": name, "text": file.text, "source": {"uri": uri, "revision": revision}}))
    };
    let documents: Vec<Value> = names.iter().filter_map(document).collect();
    Request::post("/api/v1/knowledge/documents", &json!({"documents": documents}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_sent_in_parts() {
        let folder = tempfile::tempdir().expect("a folder");
        for n in 0..60 {
            std::fs::write(folder.path().join(format!("{n}.md")), "text").expect("written");
        }
        std::fs::write(folder.path().join("a.md"), "x".repeat(700_000)).expect("written");
        std::fs::write(folder.path().join("b.md"), "x".repeat(700_000)).expect("written");
        let scan = Scan::of(folder.path(), "shop/").expect("read");
        let plan = scan.plan(&BTreeMap::new(), false, false);
        let sizes: Vec<usize> = requests(&scan, &plan).iter().map(Vec::len).collect();
        assert_eq!(sizes, [50, 11, 1]);
        let request = put(&scan, &["shop/0.md"]);
        let body: Value = serde_json::from_slice(&request.body.expect("a body")).expect("JSON");
        assert_eq!(body["documents"][0]["source"]["uri"], "folder:0.md");
    }
}
