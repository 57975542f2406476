//! Kept figures that a run may not fall below.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

/// Figures by their path in the report (`by_kind/alert/mrr`), and how far each may be missed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Baseline {
    /// What the figures were measured on and with.
    #[serde(rename = "measured")]
    _measured: String,
    /// How much lower a figure may be.
    tolerance: f64,
    /// Figures that are better when they are higher.
    at_least: BTreeMap<String, f64>,
    /// Figures that are better when they are lower; without tolerance.
    at_most: BTreeMap<String, f64>,
}

/// Reads kept figures.
pub(super) fn read(file: &Path) -> anyhow::Result<Baseline> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| file.display().to_string())
}

/// The report with what it misses; `objective_met` is false where anything is.
pub(super) fn compare(mut report: Value, baseline: &Baseline) -> Value {
    let mut missed = Vec::new();
    for (path, kept) in &baseline.at_least {
        let found = report.pointer(&format!("/{path}")).and_then(Value::as_f64);
        if found.is_none_or(|found| found < kept - baseline.tolerance) {
            missed.push(json!({"figure": path, "found": found, "kept": kept, "tolerance": baseline.tolerance}));
        }
    }
    for (path, kept) in &baseline.at_most {
        let found = report.pointer(&format!("/{path}")).and_then(Value::as_f64);
        if found.is_none_or(|found| found > *kept) {
            missed.push(json!({"figure": path, "found": found, "kept": kept}));
        }
    }
    report["objective_met"] = json!(missed.is_empty());
    report["missed"] = Value::Array(missed);
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_falls_or_is_gone_is_missed() {
        let kept = json!({"measured": "x", "tolerance": 0.01, "at_least": {"mrr": 0.9, "by_kind/alert/mrr": 0.8}, "at_most": {"tenant_leaks": 0}});
        let baseline: Baseline = serde_json::from_value(kept).expect("valid");
        let report =
            |mrr: f64, leaks: u32| json!({"mrr": mrr, "by_kind": {"alert": {"mrr": 0.8}}, "tenant_leaks": leaks});
        assert_eq!(compare(report(0.895, 0), &baseline)["objective_met"], json!(true));
        assert_eq!(compare(report(0.88, 0), &baseline)["missed"][0]["figure"], json!("mrr"));
        assert_eq!(compare(report(0.9, 1), &baseline)["missed"][0]["figure"], json!("tenant_leaks"));
        assert_eq!(compare(json!({}), &baseline)["missed"].as_array().map(Vec::len), Some(3));
    }
}
