//! What was kept once is computed again to the last bit, by whatever machine and build runs this.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn kept_inputs_give_the_results_that_they_gave() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/replay");
    for threads in ["1", "3"] {
        let output = Command::new(env!("CARGO_BIN_EXE_evals"))
            .args(["replay", "--kept", folder, "--threads", threads])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(report["differing"], serde_json::json!([]), "{report}");
        assert_eq!(
            report["kept_by"], report["model_version"],
            "keep them anew: evals replay --cases 3 --keep {folder}"
        );
        assert!(output.status.success() && report["recomputed"].as_u64().unwrap() >= 3);
    }
}
