//! The back-test on small series of the test's own making, against the built command.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// About one incident in four days over a year and a half; hours long, severity on the row.
fn rows(seed: u64) -> Vec<(f64, f64, f64)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut at = 0.0;
    (0..130)
        .map(|_| {
            at += 86_400.0 * 8.0 * random.random::<f64>();
            (at, at + 14_400.0 * random.random::<f64>(), random.random::<f64>())
        })
        .collect()
}

fn write(folder: &Path, name: &str, header: &str, rows: impl Iterator<Item = String>) {
    let mut text = format!("{header}\n");
    rows.for_each(|row| writeln!(text, "{row}").unwrap());
    std::fs::write(folder.join(name), text).unwrap();
}

fn run(folder: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evals"));
    command.args(["calibration", "--incidents"]).arg(folder).args(["--format", "json", "--history-days", "90"]);
    command.args(more).output().unwrap()
}

fn answer(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn other_columns_bad_rows_and_small_files_do_not_stop_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let plain = |(start, end, severity): (f64, f64, f64)| format!("{start},{end},{severity}");
    for seed in 0..4 {
        write(
            folder.path(),
            &format!("plain-{seed}.csv"),
            "start_time,end_time,severity",
            rows(seed).into_iter().map(plain),
        );
    }
    // The same service with its columns and its rows the other way round, and a row that cannot be right.
    let turned = rows(0).into_iter().rev().map(|(start, end, severity)| format!("x,{severity},{end},{start}"));
    let bad = std::iter::once("x,0.5,10,twelve".to_owned());
    write(folder.path(), "turned.csv", "service,status,end,start", turned.chain(bad));
    write(folder.path(), "small.csv", "start_time,end_time,severity", rows(9).into_iter().take(3).map(plain));
    write(folder.path(), "odd.csv", "when,what", std::iter::once("1,2".to_owned()));

    let answer = answer(&run(folder.path(), &["--window-days", "60"]));
    assert_eq!(answer["series"], 5);
    for key in [
        "missed",
        "intervals",
        "ece",
        "brier",
        "brier_climatology",
        "pinball",
        "log_pinball",
        "tightness",
        "corp",
        "pit",
        "objectives",
    ] {
        assert!(!answer[key].is_null(), "{key}");
    }
    for (name, baseline) in answer["baselines"].as_object().unwrap() {
        for key in
            ["missed", "intervals", "ece", "brier", "pinball", "log_pinball", "tightness", "corp", "own_less_this"]
        {
            assert!(!baseline[key].is_null(), "{key} of {name}");
        }
    }
    assert_eq!(answer["baselines"].as_object().unwrap().len(), 4);
    assert_eq!(answer["files_left_out"][0]["file"], "small.csv");
    let errors = answer["errors"].as_array().unwrap();
    let row = errors.iter().find(|error| error["file"] == "turned.csv").unwrap();
    assert_eq!((&row["row"], &row["field"]), (&Value::from(132), &Value::from("start_time")));
    assert_eq!(errors.iter().filter(|error| error["file"] == "odd.csv").count(), 3);
    let of = |name: &str| {
        let table = answer["per_series"].as_array().unwrap();
        let mut row = table.iter().find(|row| row["series"] == name).unwrap().clone();
        row["series"] = Value::Null;
        row
    };
    assert_eq!(of("plain-0"), of("turned"), "order does not matter");
}

#[test]
fn choosing_and_variants_are_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..4 {
        let plain = |(start, end, severity): (f64, f64, f64)| format!("{start},{end},{severity}");
        write(folder.path(), &format!("{seed}.csv"), "start_time,end_time,severity", rows(seed).into_iter().map(plain));
    }
    let asked = ["--choose", "--variants", "--window-days", "90"];
    let output = run(folder.path(), &asked);
    let answer = answer(&output);
    let folds = answer["choose"]["folds"].as_array().unwrap();
    assert_eq!((folds.len(), &folds[0]["chosen_on"]), (2, &folds[1]["scored_on"]));
    for fold in folds {
        let of = |part: &str| fold[part]["objective"].as_f64().unwrap();
        assert!(of("on_chosen").is_finite() && of("on_set_aside").is_finite());
    }
    for name in ["adaptive_0.005", "isotonic_where_earned", "class_of_the_others", "pareto_tail_0.5"] {
        assert!(answer["variants"][name]["brier"].is_f64(), "{name}");
    }
    assert_eq!(run(folder.path(), &asked).stdout, output.stdout);
}

#[test]
fn a_folder_without_a_series_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no CSV with at least 20 usable rows"));
}

#[test]
fn a_service_can_be_taken_for_young() {
    let folder = tempfile::tempdir().unwrap();
    for seed in 0..3 {
        let row = |(start, end, severity): (f64, f64, f64)| format!("{start},{end},{severity}");
        write(folder.path(), &format!("{seed}.csv"), "start_time,end_time,severity", rows(seed).into_iter().map(row));
    }
    let (old, young) = (answer(&run(folder.path(), &[])), answer(&run(folder.path(), &["--remembered-days", "90"])));
    assert_eq!(old["forecasts"], young["forecasts"]);
    assert_ne!(old["tightness"], young["tightness"], "what is forgotten matters");
    let output = run(folder.path(), &["--remembered-days", "30"]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("remembered_days: 30 is less than the 90 days of history")
    );
}
