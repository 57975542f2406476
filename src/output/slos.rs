//! Error budgets and alerts as a person reads them.

use serde_json::Value;

use super::{Table, percent, target};

/// Each budget: what is spent, how fast, and when the rest will be.
pub(crate) fn budgets(answer: &Value) -> String {
    let mut out = String::new();
    for budget in list(&answer["budgets"]) {
        out.push_str(&format!(
            "{}: {} over {}\n{}\n",
            text(&budget["slo_id"]),
            target(budget),
            window(budget),
            text(&budget["detail"])
        ));
        let mut rates = Table::new(&["last", "burn rate", "covered"]);
        for rate in list(&budget["burn_rates"]) {
            rates.row(vec![text(&rate["window"]), number(&rate["burn_rate"]), share(&rate["coverage_ratio"])]);
        }
        out.push_str(&rates.render());
        let mut dates = Table::new(&["overspent with", "by"]);
        for date in list(&budget["forecast"]["dates"]) {
            dates.row(vec![share(&date["probability"]), text(&date["time"])]);
        }
        if !list(&budget["forecast"]["dates"]).is_empty() {
            out.push_str(&dates.render());
        }
        for (what, field) in [("A straight line ends", "straight_line_time"), ("Restored at best", "restored_time")] {
            if let Some(time) = budget[field].as_str() {
                out.push_str(&format!("{what}: {time}\n"));
            }
        }
        out.push('\n');
    }
    out + &notes(&answer["notes"])
}

/// Each policy: its rules, what they would have done, and what to know of them.
pub(crate) fn alerts(answer: &Value) -> String {
    let mut out = String::new();
    for policy in list(&answer["policies"]) {
        let name = policy["slo_id"].as_str().filter(|id| !id.is_empty()).unwrap_or("asked about");
        out.push_str(&format!("{name}: {} over {}\n", target(policy), window(policy)));
        let mut rules = Table::new(&["severity", "long", "short", "burn rate", "budget", "failures", "fired"]);
        for rule in list(&policy["rules"]) {
            let least = rule["bad_count_min"].as_u64().filter(|least| *least > 0);
            rules.row(vec![
                text(&rule["severity"]),
                text(&rule["long_window"]),
                text(&rule["short_window"]),
                number(&rule["burn_rate"]),
                share(&rule["budget_share"]),
                least.map(|least| format!("at least {least}")).unwrap_or_default(),
                rule["alert_count"].as_u64().unwrap_or(0).to_string(),
            ]);
        }
        out.push_str(&rules.render());
        let mut tested = Table::new(&[
            "severity",
            "a week",
            "against",
            "precision",
            "recall",
            "found after",
            "at most",
            "over after",
        ]);
        for severity in list(&policy["back_test"]["severities"]) {
            for score in list(&severity["scores"]) {
                tested.row(vec![
                    text(&severity["severity"]),
                    number(&severity["alerts_per_week"]),
                    format!("{} {}", score["reference_count"].as_u64().unwrap_or(0), text(&score["reference"])),
                    share(&score["precision"]),
                    share(&score["recall"]),
                    text(&score["detection_median"]),
                    text(&score["detection_max"]),
                    text(&score["reset_median"]),
                ]);
            }
        }
        if policy["back_test"].is_object() {
            out.push_str(&format!("Tested on {} days:\n", number(&policy["back_test"]["covered_days"])));
            out.push_str(&tested.render());
        }
        out.push_str(&notes(&policy["notes"]));
        out.push('\n');
    }
    out + &notes(&answer["notes"])
}

fn window(of: &Value) -> String {
    match of["calendar_window"].as_str() {
        Some(word @ ("month" | "quarter")) => format!("a calendar {word}"),
        _ => format!("{} days", of["window_days"]),
    }
}

fn notes(notes: &Value) -> String {
    list(notes).iter().map(|note| format!("{}\n", text(note))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn share(value: &Value) -> String {
    value.as_f64().map(percent).unwrap_or_default()
}

fn number(value: &Value) -> String {
    value.as_f64().map(|number| format!("{}", (number * 100.0).round() / 100.0)).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_calendar_window_is_called_so() {
        let of = |calendar: &str| json!({"window_days": 30, "calendar_window": calendar});
        assert_eq!(window(&of("month")), "a calendar month");
        assert_eq!(window(&of("unspecified")), "30 days");
        assert_eq!(window(&json!({"window_days": 28})), "28 days");
    }

    #[test]
    fn a_budget_is_read_in_lines() {
        let answer = json!({"budgets": [{
            "slo_id": "shop/availability", "target_ratio": 0.999, "window_days": 28, "detail": "12 % is spent.",
            "burn_rates": [{"window": "3600s", "burn_rate": 1.204, "coverage_ratio": 1.0}, {"window": "21600s", "coverage_ratio": 0.5}],
            "forecast": {"dates": [{"probability": 0.1, "time": "2026-12-01T00:00:00Z"}]},
        }], "notes": ["Something was left out."]});
        let expected = "shop/availability: 99.9 % over 28 days\n12 % is spent.\nlast    burn rate  covered\n3600s   1.2        100 %\n\
                        21600s             50 %\noverspent with  by\n10 %            2026-12-01T00:00:00Z\n\nSomething was left out.\n";
        assert_eq!(budgets(&answer), expected);
    }

    #[test]
    fn alerts_without_a_history_say_nothing_of_a_test() {
        let answer = json!({"policies": [{"target_ratio": 0.99, "window_days": 7, "notes": ["Few requests."],
            "rules": [{"severity": "page", "long_window": "3600s", "short_window": "300s", "burn_rate": 3.36, "budget_share": 0.02,
                "bad_count_min": 3}]}]});
        let said = alerts(&answer);
        assert!(said.starts_with("asked about: 99 % over 7 days\n") && said.contains("at least 3"), "{said}");
        assert!(!said.contains("Tested on") && said.contains("Few requests."), "{said}");
    }
}
