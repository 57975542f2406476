//! The recipe's variants on the demo's documents: what is shipped finds them, and what cannot help does not.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Every so-manieth question is asked: each variant asks them all.
const STEP: usize = 8;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn each_part_is_measured_beside_what_is_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let queries = folder.path().join("queries.jsonl");
    let all = std::fs::read_to_string(root().join("evals/queries/demo.jsonl")).unwrap();
    let some: Vec<&str> = all.lines().step_by(STEP).collect();
    std::fs::write(&queries, some.join("\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evals"));
    command.args(["variants", "--up-to", "ranking", "--corpus"]).arg(root().join("src/demo/knowledge"));
    let output = command.arg("--queries").arg(&queries).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && told.contains("the embedding model cannot be used") {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "the embedding model is required: {told}");
        println!("SKIPPED: {told}");
        return;
    }
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!(report["questions"], some.len());
    assert!(report["shipped"]["ndcg_at_10"].as_f64().unwrap() > 0.7, "{report:#}");
    let variants = report["variants"].as_array().unwrap();
    let gain = |name: &str| {
        let row = variants.iter().find(|row| row["variant"] == name).unwrap_or_else(|| panic!("{name}: {report:#}"));
        row["gain_ndcg_at_10"].as_f64().unwrap()
    };
    // None of the 42 is a copy of another.
    assert_eq!(gain("without copies kept apart"), 0.0);
    assert!(gain("meaning alone") < 0.0, "{report:#}");
    assert!(variants.iter().all(|row| row["variant"] != "passages of 100 word pieces"), "{report:#}");
    let weights = &report["weights"];
    assert_eq!(weights["chosen"].as_array().map(Vec::len), Some(5));
    assert!(weights["best_on_all"]["ndcg_at_10"].as_f64() >= report["shipped"]["ndcg_at_10"].as_f64(), "{report:#}");
}
