//! An answer in sentences with its sources, as a person reads it.

use serde_json::Value;

/// How sure it is, the sentences with numbers of their sources, and the sources.
pub(crate) fn readable(answer: &Value) -> String {
    let mut sources: Vec<String> = Vec::new();
    let mut out = heading(answer);
    for sentence in list(&answer["sentences"]) {
        let numbers: Vec<String> = list(&sentence["citations"])
            .iter()
            .map(|cited| number_of(source(cited), &mut sources).to_string())
            .collect();
        let text = text(&sentence["text"]);
        let reworded = if sentence["rephrased"] == true { " (reworded)" } else { "" };
        let marks = format!("[{}]{reworded}", numbers.join(", "));
        if sentence["quoted"] == true {
            let lines: Vec<String> = text.lines().map(|line| format!("    {line}")).collect();
            out.push_str(&format!("{} {marks}\n", lines.join("\n")));
        } else {
            out.push_str(&format!("- {text} {marks}\n"));
        }
    }
    if !sources.is_empty() {
        out.push_str("\nSources:\n");
    }
    for (place, source) in sources.iter().enumerate() {
        out.push_str(&format!("[{}] {source}\n", place + 1));
    }
    out.push_str(&remarks(answer));
    out
}

fn heading(answer: &Value) -> String {
    let number = |key: &str| answer[key].as_f64().unwrap_or_default();
    let (confidence, weak, strong) = (number("confidence"), number("threshold"), number("strong_threshold"));
    match answer["strength"].as_str().unwrap_or_default() {
        "answered" => String::new(),
        "weak" => format!(
            "Weak evidence: the confidence {confidence:.2} lies between {weak:.2} and {strong:.2}. Read the sources before acting.\n\n"
        ),
        _ => {
            let mut out = format!("Nothing kept answers this: the confidence {confidence:.2} is below {weak:.2}.\n");
            for near in list(&answer["nearest_titles"]) {
                out.push_str(&format!(
                    "Near, and not used: {} ({})\n",
                    text(&near["title"]),
                    text(&near["document_id"])
                ));
            }
            out
        }
    }
}

fn remarks(answer: &Value) -> String {
    let mut out = String::new();
    if let Some(count) = answer["dropped_claim_count"].as_u64().filter(|count| *count > 0) {
        let reasons: Vec<&str> =
            list(&answer["dropped"]).iter().filter_map(|dropped| dropped["reason"].as_str()).collect();
        out.push_str(&format!("{count} claims were dropped ({}).\n", reasons.join(", ")));
    }
    let model = &answer["language_model"];
    if model["asked"] == true && model["used"] != true {
        out.push_str(&format!("The language model's words are not used: {}.\n", text(&model["reason"])));
    }
    if answer["mode"] == "lexical_only" {
        out.push_str("The search was by words only: no embedding model is loaded.\n");
    }
    out
}

fn source(cited: &Value) -> String {
    format!(
        "{} ({} v{}, characters {} to {})",
        text(&cited["title"]),
        text(&cited["document_id"]),
        cited["document_version"],
        cited["start_offset"],
        cited["end_offset"]
    )
}

fn number_of(source: String, sources: &mut Vec<String>) -> usize {
    let place = sources.iter().position(|other| *other == source).unwrap_or_else(|| {
        sources.push(source);
        sources.len() - 1
    });
    place + 1
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sentences_carry_the_numbers_of_their_sources() {
        let cited = |start: u32| json!({"document_id": "runbooks/a", "document_version": 2, "title": "A", "start_offset": start, "end_offset": 9});
        let answer = json!({
            "strength": "weak", "confidence": 0.5, "threshold": 0.4, "strong_threshold": 0.6, "mode": "hybrid",
            "sentences": [
                {"text": "One.", "citations": [cited(1)]},
                {"text": "get x\n  -y", "quoted": true, "citations": [cited(2), cited(1)]},
            ],
            "dropped_claim_count": 1, "dropped": [{"reason": "number"}],
            "language_model": {"asked": true, "used": false, "reason": "it did not answer in time"},
        });
        let expected = "Weak evidence: the confidence 0.50 lies between 0.40 and 0.60. Read the sources before acting.\n\n\
            - One. [1]\n    get x\n      -y [2, 1]\n\nSources:\n[1] A (runbooks/a v2, characters 1 to 9)\n\
            [2] A (runbooks/a v2, characters 2 to 9)\n1 claims were dropped (number).\n\
            The language model's words are not used: it did not answer in time.\n";
        assert_eq!(readable(&answer), expected);
    }

    #[test]
    fn nothing_found_is_said_and_what_is_near_is_not_used() {
        let answer = json!({"strength": "abstained", "confidence": 0.1, "threshold": 0.4, "nearest_titles": [{"title": "T", "document_id": "d"}]});
        assert_eq!(
            readable(&answer),
            "Nothing kept answers this: the confidence 0.10 is below 0.40.\nNear, and not used: T (d)\n"
        );
    }
}
