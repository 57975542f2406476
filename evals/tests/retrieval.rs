//! Search on the demo's documents and the project's own questions, against the built command: no kept figure may fall.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What `evals retrieval` prints, where the command that it starts is built.
fn retrieval(corpus: &Path, queries: &Path, baseline: Option<&Path>) -> Option<(Value, bool)> {
    let program = Path::new(env!("CARGO_BIN_EXE_evals"));
    if !program.with_file_name("attain").is_file() {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "attain is required and not built");
        println!("SKIPPED: attain is not built");
        return None;
    }
    let mut command = Command::new(program);
    command.args(["retrieval", "--corpus"]).arg(corpus).arg("--queries").arg(queries);
    if let Some(baseline) = baseline {
        command.arg("--baseline").arg(baseline);
    }
    let output = command.output().unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Some((report, output.status.success()))
}

#[test]
fn no_kept_figure_falls() {
    let own = root().join("evals/queries/demo.jsonl");
    let baseline = root().join("evals/data/retrieval-baseline.json");
    let Some((report, met)) = retrieval(&root().join("src/demo/knowledge"), &own, Some(&baseline)) else { return };
    println!("{report:#}");
    if report["mode"] == "RETRIEVAL_MODE_LEXICAL_ONLY" {
        assert!(std::env::var_os("ATTAIN_TEST_REQUIRE").is_none(), "the embedding model is required and not there");
        println!("SKIPPED: the kept figures are those of hybrid search, and there is no embedding model");
        return;
    }
    assert!(met, "{:#}", report["missed"]);
    assert!(report["questions"].as_u64().unwrap() >= 80);
    // The recipe earns its keep against both of its parts.
    for baseline in ["bm25", "dense"] {
        assert!(report["ndcg_at_10"].as_f64() > report["baselines"][baseline]["ndcg_at_10"].as_f64(), "{baseline}");
    }
}

#[test]
fn any_folder_and_any_questions_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("some notes");
    std::fs::create_dir_all(corpus.join("a b")).unwrap();
    std::fs::write(corpus.join("a b/Disk full.md"), "# Disk full\n\nDelete old logs when the disk is full.\n").unwrap();
    std::fs::write(corpus.join("queue.txt"), "The queue grows while consumers are down.\n").unwrap();
    std::fs::write(corpus.join("slo.yaml"), "kind: SLO\nmetadata:\n  name: checkout\nspec:\n  target: 0.999\n")
        .unwrap();
    std::fs::write(corpus.join("logo.png"), [0_u8; 8]).unwrap();
    std::fs::write(corpus.join("empty.md"), "").unwrap();
    let queries = folder.path().join("queries.jsonl");
    let line = |id: &str, query: &str, kind: &str, relevant: Value| {
        format!("{}\n", json!({"id": id, "query": query, "kind": kind, "relevant": relevant}))
    };
    let text = [
        line("1", "the disk is full", "symptom", json!([{"doc": "a b/Disk full.md", "grade": 2}])),
        line("2", "queue grows", "symptom", json!([{"doc": "queue.txt", "grade": 2}])),
        line("3", "Quokka census in Rottnest", "unanswerable", json!([])),
    ]
    .concat();
    std::fs::write(&queries, &text).unwrap();
    let Some((report, met)) = retrieval(&corpus, &queries, None) else { return };
    assert!(met && report["objective_met"].is_null(), "{report:#}");
    assert_eq!((report["documents"].as_u64(), report["documents_refused"].as_array().unwrap().len()), (Some(4), 1));
    assert_eq!(report["recall_at_5"], 1.0, "{report:#}");
    for whole in ["offset_validity", "citation_precision"] {
        assert_eq!(report[whole], 1.0, "{report:#}");
    }
    assert_eq!((report["tenant_leaks"].as_u64(), report["injection_success_rate"].as_f64()), (Some(0), Some(0.0)));
    for key in ["ndcg_at_10", "mrr", "abstention_auroc", "unanswerable_rejected_at_95", "latency_ms_p95"] {
        assert!(report[key].is_number(), "{key}: {report:#}");
    }
    assert!(report["by_kind"]["symptom"]["mrr"].is_number() && report["baselines"]["bm25"]["mrr"].is_number());

    // A judgement of a document that is not there is the file's mistake, and named.
    std::fs::write(&queries, line("4", "x", "symptom", json!([{"doc": "gone.md", "grade": 2}]))).unwrap();
    let program = env!("CARGO_BIN_EXE_evals");
    let output = Command::new(program)
        .args(["retrieval", "--corpus"])
        .arg(&corpus)
        .arg("--queries")
        .arg(&queries)
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("gone.md"));
}
