//! The audit log as its keeper meets it: exported by the command line, verified as it is served and as a file.

use std::path::Path;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{Up, attain, folder};

fn command(up: &Up, arguments: &[&str]) -> Command {
    let mut command = attain();
    command.args(["--url", &up.gateway, "--format", "json", "audit"]).args(arguments);
    command
}

/// Whether it ended well, and what it printed.
async fn run(up: &Up, arguments: &[&str]) -> (bool, String) {
    let output = command(up, arguments).output().await.unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

async fn verified(up: &Up, arguments: &[&str]) -> (bool, Value) {
    let (ended_well, printed) = run(up, &[&["verify"][..], arguments].concat()).await;
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(answer["verified"], ended_well, "{answer}");
    (ended_well, answer)
}

fn declared(target_ratio: f64) -> Value {
    json!({"action": "declare", "kind": "availability", "target_ratio": target_ratio, "reason": "größer \"als\" zuvor"})
}

async fn with_decisions(dir: &Path) -> Up {
    let up = Up::start(dir, &["--set", "recommendation.reads_flush_ms=10"]).await;
    let declaration = json!({"services": [{"id": "shop", "tier": "tier_1"}], "dependencies": []});
    assert_eq!(up.post("/api/v1/services/dependencies", &declaration).await.0, 200);
    for target_ratio in [0.99, 0.98, 0.97] {
        let (status, answer) = up.post("/api/v1/services/shop/slos", &declared(target_ratio)).await;
        assert_eq!(status, 200, "{answer}");
    }
    up
}

#[tokio::test]
async fn an_export_holds_together_and_shows_what_was_done_to_it() {
    let dir = folder();
    let up = with_decisions(dir.path()).await;
    assert!(verified(&up, &[]).await.0);
    let (_, head) = run(&up, &["head"]).await;
    let head: Value = serde_json::from_str(&head).unwrap();
    let anchor = head["anchor"].as_str().unwrap().to_owned();
    assert!(verified(&up, &["--head", &anchor]).await.0);

    // In two parts, as somebody does who takes the log along every day.
    let (_, exported) = run(&up, &["export"]).await;
    let lines: Vec<&str> = exported.lines().collect();
    assert!(lines.len() as u64 >= head["sequence"].as_u64().unwrap());
    let (_, rest) = run(&up, &["export", "--after-sequence", "2"]).await;
    assert_eq!(rest.lines().next(), lines.get(2).copied());

    let file = dir.path().join("audit.jsonl");
    let file_name = file.to_str().unwrap();
    let kept = async |lines: &[&str], head: &str| {
        std::fs::write(&file, lines.join("\n")).unwrap();
        let (_, answer) = verified(&up, &["--file", file_name, "--head", head]).await;
        answer["sequence"].as_u64()
    };
    assert_eq!(kept(&lines, &anchor).await, None);
    let changed = lines[1].replace("größer", "kleiner");
    assert_ne!(changed, lines[1]);
    assert_eq!(kept(&[&[lines[0], changed.as_str()][..], &lines[2..]].concat(), &anchor).await, Some(2));
    assert_eq!(kept(&[&lines[..1], &lines[2..]].concat(), &anchor).await, Some(2));
    assert_eq!(kept(&[&[lines[1], lines[0]][..], &lines[2..]].concat(), &anchor).await, Some(1));
    assert_eq!(kept(&lines[..2], &anchor).await, Some(3));
    // Without an anchor nobody can tell, and that is said.
    let (ended_well, answer) = verified(&up, &["--file", file_name]).await;
    assert!(ended_well && answer["tail"].as_str().unwrap().starts_with("not checked"), "{answer}");
    assert!(up.stop().await);
}

#[tokio::test]
async fn what_was_read_is_in_the_log_of_a_drained_process() {
    let dir = folder();
    let up = with_decisions(dir.path()).await;
    assert_eq!(up.get("/api/v1/services/shop/slos").await.0, 200);
    assert_eq!(up.get("/api/v1/slo-recommendations/rec-none").await.0, 404);
    assert!(up.stop().await);
    let up = Up::start(dir.path(), &[]).await;
    let (_, log) = up.get("/api/v1/audit?page_size=500").await;
    let details: Vec<(String, Value)> = log["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| {
            let detail = serde_json::from_str(record["detail_json"].as_str().unwrap()).unwrap();
            (record["action"].as_str().unwrap().to_owned(), detail)
        })
        .collect();
    let found = |action: &str, outcome: &str| {
        details
            .iter()
            .any(|(found, detail)| found == action && detail["outcome"] == outcome && detail["role"] == "admin")
    };
    assert!(found("read.slos", "OK"), "{details:?}");
    assert!(found("read.recommendation", "UNKNOWN_RECOMMENDATION"), "{details:?}");
    let (_, without) = up.get("/api/v1/audit?page_size=500&without_reads=true").await;
    let writes: Vec<&str> =
        without["records"].as_array().unwrap().iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(writes, ["slo.declared"; 3]);
    assert!(verified(&up, &[]).await.0);
    assert!(up.stop().await);
}
