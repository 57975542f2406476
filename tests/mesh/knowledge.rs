//! Documents by the command line: a folder brought level, the index compared, a citation rated.

use std::path::Path;

use serde_json::Value;

use crate::harness::{Up, attain, folder};

/// What a command prints, and whether it says that all went well.
async fn run(up: &Up, arguments: &[&str]) -> (Value, bool) {
    let output = attain().args(["--format", "json", "--url", &up.gateway]).args(arguments).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{arguments:?}: {printed}{error}"));
    (answer, output.status.success())
}

fn write(docs: &Path, name: &str, text: &str) {
    std::fs::create_dir_all(docs).unwrap();
    std::fs::write(docs.join(name), text).unwrap();
}

#[tokio::test]
async fn a_folder_is_brought_level_and_its_citations_are_rated() {
    let dir = folder();
    let docs = dir.path().join("docs");
    write(&docs, "storm.md", "# Retry storm\n\nBound the retries of every client during a retry storm.\n");
    write(&docs, "cache.md", "---\nowner: team-a\n---\n# Cache\n\nWarm the cache before traffic returns.\n");
    write(&docs, "poem.md", "---\nkind: poem\n---\nRoses are red.\n");
    let up = Up::start(&dir.path().join("data"), &["--set", "rag.embeddings=false"]).await;
    let path = docs.to_string_lossy().into_owned();
    let sync = ["knowledge", "sync", &path, "--prefix", "team/", "--delete-missing"];

    let (first, well) = run(&up, &sync).await;
    assert!(!well, "one file could not be kept");
    assert_eq!((&first["sent_count"], &first["failed"][0]["file"]), (&Value::from(2), &Value::from("poem.md")));
    std::fs::remove_file(docs.join("poem.md")).unwrap();
    write(&docs, "storm.md", "# Retry storm\n\nBound the retries of each client during a retry storm.\n");
    let (second, well) = run(&up, &sync).await;
    assert!(well, "{second}");
    assert_eq!((&second["sent_count"], &second["unchanged_count"]), (&Value::from(1), &Value::from(1)));
    std::fs::remove_file(docs.join("cache.md")).unwrap();
    let (third, _) = run(&up, &sync).await;
    assert_eq!(third["removed_count"], 1, "{third}");
    let (level, _) = run(&up, &["knowledge", "reconcile"]).await;
    assert_eq!(
        (level["document_count"].as_u64(), level["indexed_count"].as_u64().unwrap_or(0)),
        (Some(1), 0),
        "{level}"
    );

    let (found, _) = run(&up, &["search", "retries during a retry storm"]).await;
    let citation = &found["citations"][0];
    assert_eq!(
        (&citation["document_id"], &citation["document_version"]),
        (&Value::from("team/storm.md"), &Value::from(2))
    );
    let number = |key: &str| citation[key].as_u64().unwrap_or(0).to_string();
    let (version, start, end) = (number("document_version"), number("start_offset"), number("end_offset"));
    let rate = ["knowledge", "rate", "team/storm.md", "wrong", "--version", &version, "--start", &start, "--end", &end];
    let quoted = ["--quote-sha256", citation["quote_sha256"].as_str().unwrap(), "--reason", "the breaker is gone"];
    let (rated, well) = run(&up, &[&rate[..], &quoted[..]].concat()).await;
    assert!(well, "{rated}");
    let (ratings, _) = run(&up, &["knowledge", "ratings", "--document-id", "team/storm.md"]).await;
    assert_eq!(ratings["ratings"][0]["reason"], "the breaker is gone", "{ratings}");
    assert!(up.stop().await);
}
