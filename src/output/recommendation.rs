//! A recommendation as a person reads it.

use serde_json::Value;

use super::{Table, milliseconds, percent};

/// The offers, the reasons, the evidence.
pub(crate) fn readable(recommendation: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let confidence = &recommendation["confidence"];
    let region = recommendation["region"].as_str().filter(|region| !region.is_empty());
    let mut out = format!(
        "{}{}, version {}, {}, confidence {} ({})\n",
        text(&recommendation["service_id"]),
        region.map(|region| format!(" in {region}")).unwrap_or_default(),
        recommendation["version"],
        window(recommendation),
        text(&confidence["level"]),
        text(&recommendation["id"]),
    );
    if recommendation["fallback"] == true {
        out.push_str("The data does not carry an estimate: these are the tier's template targets.\n");
    }
    for sli in list(&recommendation["slis"]) {
        out.push_str(&format!("\n{}\n", offers(sli)));
    }
    if let Some(table) = regions(&recommendation["regions"]) {
        out.push_str(&format!("\n{table}"));
    }
    out.push_str(&format!("\n{}\n", text(&recommendation["explanation"])));
    for suggested in list(&recommendation["suggested"]) {
        out.push_str(&format!(
            "Suggested for {}: {}. {}\n",
            text(&suggested["kind"]),
            text(&suggested["ambition"]),
            text(&suggested["reason"])
        ));
    }
    for missing in list(&recommendation["missing_inputs"]) {
        out.push_str(&format!("Missing: {}: {}\n", text(&missing["name"]), text(&missing["detail"])));
    }
    for raise in list(&confidence["raise_with"]) {
        out.push_str(&format!("Would raise the confidence: {}\n", text(raise)));
    }
    for said in list(&recommendation["evidence"]) {
        out.push_str(&format!("Said by {}: {}\n", text(&said["citations"][0]["document_id"]), text(&said["text"])));
    }
    for citation in list(&recommendation["citations"]) {
        out.push_str(&format!(
            "Source: {} ({} v{}, characters {} to {})\n",
            text(&citation["title"]),
            text(&citation["document_id"]),
            citation["document_version"],
            citation["start_offset"],
            citation["end_offset"]
        ));
    }
    let note = text(&recommendation["evidence_note"]);
    if !note.is_empty() {
        out.push_str(&format!("{note}\n"));
    }
    out
}

/// Every region in a row; `None` where no telemetry tells one.
fn regions(outlook: &Value) -> Option<String> {
    let worst = outlook["worst_region"].as_str()?;
    let mut table = Table::new(&["region", "requests", "attained", "balanced", "P(miss) of the whole's", ""]);
    for of in list(&outlook["regions"]) {
        let name = of["region"].as_str().unwrap_or_default();
        let ratio = |value: &Value| value.as_f64().map(percent).unwrap_or_default();
        let is_worst = if name == worst { "worst" } else { "" };
        table.row(vec![
            name.to_owned(),
            share(&of["request_share"]),
            ratio(&of["attained_ratio"]),
            ratio(&of["balanced_target_ratio"]),
            share(&of["whole_miss_probability"]),
            is_worst.to_owned(),
        ]);
    }
    Some(table.render())
}

fn window(recommendation: &Value) -> String {
    let days = &recommendation["window_days"];
    match recommendation["calendar_window"].as_str() {
        Some(word @ ("month" | "quarter")) => format!("calendar {word} of {days} days"),
        _ => format!("{days}-day window"),
    }
}

fn offers(sli: &Value) -> String {
    let measured = sli["measured"]["attained_ratio"].as_f64().map(percent).unwrap_or_else(|| "no data".into());
    let mut out = format!("{}: attained {measured}\n", sli["kind"].as_str().unwrap_or_default());
    let mut table = Table::new(&["offer", "target", "P(miss)", "budget used", "5 % to 95 %"]);
    for offer in list(&sli["offers"]) {
        table.row(vec![
            offer["ambition"].as_str().unwrap_or_default().to_owned(),
            target(offer),
            share(&offer["miss_probability"]),
            share(&offer["expected_budget_use"]),
            format!("{} to {}", share(&offer["budget_use_low"]), share(&offer["budget_use_high"])),
        ]);
    }
    out.push_str(&table.render());
    for offer in list(&sli["offers"]) {
        out.extend(beside(offer));
    }
    out.push_str(&agreements(sli));
    let note = sli["offer_note"].as_str().unwrap_or_default();
    if !note.is_empty() {
        out.push_str(&format!("{note}\n"));
    }
    for budgeting in list(&sli["budgetings"]) {
        out.push_str(&by_time(budgeting));
    }
    out
}

/// The same offers counted by slices of time, in a line.
fn by_time(budgeting: &Value) -> String {
    let target = |ambition: &str| {
        budgeting[ambition]["target_ratio"].as_f64().map(|ratio| format!("{ambition} {}", percent(ratio)))
    };
    let offers: Vec<String> = ["conservative", "balanced", "ambitious"].into_iter().filter_map(target).collect();
    format!(
        "by {}: attained {}; {}\n",
        budgeting["method"].as_str().unwrap_or_default().replace('_', " "),
        budgeting["attained_ratio"].as_f64().map(percent).unwrap_or_default(),
        if offers.is_empty() { "no offer".to_owned() } else { offers.join(", ") }
    )
}

/// What an offer contradicts.
fn beside(offer: &Value) -> Option<String> {
    let limit = offer["limited_by"].as_object()?;
    let callee = match limit.get("callee_id").and_then(Value::as_str) {
        Some(callee) if !callee.is_empty() => callee,
        _ => "all that lies below",
    };
    let holds = match offer["consistent_target_ratio"].as_f64() {
        Some(ratio) => format!("{} would hold", percent(ratio)),
        None => "no target on the menu would hold".to_owned(),
    };
    let ambition = offer["ambition"].as_str().unwrap_or_default();
    Some(format!("The {ambition} offer contradicts what {callee} promises; {holds}.\n"))
}

/// What could be promised outside beside each offer; nothing where there is none.
fn agreements(sli: &Value) -> String {
    let mut table = Table::new(&["agreement beside", "promise", "margin", "P(missed month)", "credit expected"]);
    let mut found = false;
    for offer in list(&sli["offers"]) {
        let agreement = &offer["agreement"];
        let Some(ratio) = agreement["target_ratio"].as_f64() else { continue };
        found = true;
        let margin = agreement["margin_ratio"]
            .as_f64()
            .map(|margin| format!("{} points", percent(margin).trim_end_matches(" %")));
        table.row(vec![
            offer["ambition"].as_str().unwrap_or_default().to_owned(),
            percent(ratio),
            margin.unwrap_or_default(),
            share(&agreement["miss_probability"]),
            agreement["expected_credit_ratio"]
                .as_f64()
                .map(|credit| format!("{:.2} % of the fee", credit * 100.0))
                .unwrap_or_default(),
        ]);
    }
    if found { format!("\n{}", table.render()) } else { String::new() }
}

/// The target of an offer: `99.9 %`, or `95 % < 200 ms`.
pub(crate) fn target(offer: &Value) -> String {
    let ratio = offer["target_ratio"].as_f64().map(percent).unwrap_or_default();
    match offer["latency_threshold_ms"].as_u64().filter(|threshold| *threshold > 0) {
        Some(threshold) => format!("{ratio} < {}", milliseconds(threshold as f64)),
        None => ratio,
    }
}

fn share(value: &Value) -> String {
    value.as_f64().map(|share| format!("{:.1} %", share * 100.0)).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_offer_shows_what_it_contradicts_and_what_could_be_promised_outside() {
        let offer = json!({
            "ambition": "balanced", "target_ratio": 0.999, "consistent_target_ratio": 0.99,
            "limited_by": {"callee_id": "payment", "needed_ratio": 0.01, "chain": ["checkout", "payment"]},
            "agreement": {"target_ratio": 0.995, "margin_ratio": 0.004, "miss_probability": 0.008, "expected_credit_ratio": 0.0012},
        });
        let shown = offers(&json!({"kind": "availability", "measured": {"attained_ratio": 0.9991}, "offers": [offer]}));
        for part in [
            "balanced",
            "contradicts what payment promises; 99 % would hold",
            "99.5 %",
            "0.4 points",
            "0.8 %",
            "0.12 % of the fee",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let bare = offers(&json!({"kind": "latency", "offers": [{"ambition": "balanced", "target_ratio": 0.95}]}));
        assert!(!bare.contains("agreement") && !bare.contains("contradicts"), "{bare}");
    }
}
