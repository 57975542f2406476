//! How often offers are missed, as a person reads it.

use serde_json::Value;

use super::{Table, percent};

const AMBITIONS: [&str; 3] = ["conservative", "balanced", "ambitious"];

/// A line for each class, source and ambition.
pub(crate) fn readable(answer: &Value) -> String {
    let classes = answer["classes"].as_array().map(Vec::as_slice).unwrap_or_default();
    if classes.is_empty() {
        return "No recommendation has been made yet that could be held against anything.\n".to_owned();
    }
    let mut table = Table::new(&[
        "tier",
        "kind",
        "SLI",
        "window",
        "from",
        "offer",
        "forecasts",
        "met",
        "95 % interval",
        "stated P(miss)",
        "Brier",
        "allowed/observed",
    ]);
    for class in classes {
        for source in ["backtest", "lived"] {
            for ambition in AMBITIONS {
                let record = &class[source][ambition];
                if record["met_ratio"].is_number() {
                    table.row(row(class, source, ambition, record));
                }
            }
        }
    }
    let sum = |name: &str| classes.iter().filter_map(|class| plain(&class[name]).parse::<u64>().ok()).sum::<u64>();
    format!(
        "{}{} offers wait for their window to close; of {} too little was measured to judge them.\n",
        table.render(),
        sum("open_count"),
        sum("unjudged_count")
    )
}

fn row(class: &Value, source: &str, ambition: &str, record: &Value) -> Vec<String> {
    let word = |name: &str| class[name].as_str().unwrap_or_default().to_owned();
    let ratio = |name: &str| record[name].as_f64().map(percent).unwrap_or_default();
    let number = |name: &str| record[name].as_f64().map(|value| format!("{value:.3}")).unwrap_or_default();
    vec![
        word("tier"),
        word("kind"),
        word("sli_kind"),
        window(class),
        source.to_owned(),
        ambition.to_owned(),
        plain(&record["forecast_count"]),
        ratio("met_ratio"),
        format!("{} to {}", ratio("met_ratio_low"), ratio("met_ratio_high")),
        ratio("stated_miss_probability"),
        number("brier_score"),
        number("allowed_over_observed"),
    ]
}

fn window(class: &Value) -> String {
    match class["calendar_window"].as_str() {
        Some(word @ ("month" | "quarter")) => word.to_owned(),
        _ => format!("{}d", plain(&class["window_days"])),
    }
}

/// A number as it came: large ones are text in JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_record_is_a_line_and_what_is_not_there_is_none() {
        let balanced = json!({"forecast_count": "120", "met_ratio": 0.9, "met_ratio_low": 0.83, "met_ratio_high": 0.94,
            "stated_miss_probability": 0.085, "brier_score": 0.09, "allowed_over_observed": 1.75});
        let class = json!({"tier": "tier_1", "kind": "service", "sli_kind": "availability", "window_days": 31,
            "calendar_window": "month", "open_count": "3", "unjudged_count": "1", "backtest": {"balanced": balanced, "ambitious": {"forecast_count": "0"}}});
        let text = readable(&json!({"classes": [class]}));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[2].starts_with("3 offers wait") && lines[2].contains("of 1 too little"), "{text}");
        for part in
            ["tier_1", "month", "backtest", "balanced", "120", "90 %", "83 % to 94 %", "8.5 %", "0.090", "1.750"]
        {
            assert!(lines[1].contains(part), "{part} in {text}");
        }
        assert!(readable(&json!({"classes": []})).starts_with("No recommendation"));
    }
}
