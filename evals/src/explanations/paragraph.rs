//! The paragraph, word by word.

use std::collections::BTreeSet;

use attain_attainment::{RecommendationResult, number, percent};
use attain_recommendation::domain::fallbacks::FALLBACK_SUCCESS_RATIO;
use serde_json::Value;

/// Numbers in the paragraph that are no field of the answer. Digits in names are no numbers.
pub(super) fn unknown_numbers(result: &RecommendationResult) -> Vec<String> {
    let mut fields = BTreeSet::new();
    let mut answer = serde_json::to_value(result).expect("results are JSON");
    if let Value::Object(answer) = &mut answer {
        answer.remove("explanation");
    }
    texts(&answer, &mut fields);
    // On the wire, a field of the change that a counterfactual carries.
    fields.insert(percent(FALLBACK_SUCCESS_RATIO));
    let words: Vec<&str> = result.explanation.split_whitespace().collect();
    let of = |(at, word): (usize, &&str)| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_digit());
        let is_number = !bare.is_empty() && !word.chars().any(char::is_alphabetic);
        let percent = words.get(at + 1).is_some_and(|next| next.starts_with('%'));
        let text = if percent { format!("{bare} %") } else { bare.to_owned() };
        (is_number && !fields.contains(&text)).then_some(text)
    };
    words.iter().enumerate().filter_map(of).collect()
}

/// Fields that no sentence speaks of; many of them are small integers that anything would be taken for.
const UNSPOKEN: [&str; 7] =
    ["forecast", "importances", "budgetings", "parts", "exclusions", "snapshot_version", "seed"];

/// Every number below a value, in each way in which a paragraph writes numbers.
fn texts(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Number(number_) => {
            let ratio = number_.as_f64().unwrap_or(f64::NAN);
            out.insert(percent(ratio));
            out.insert(number(ratio));
            if let Some(count) = number_.as_u64() {
                out.insert(grouped(count));
            }
        }
        Value::Array(values) => values.iter().for_each(|value| texts(value, out)),
        Value::Object(fields) => {
            fields
                .iter()
                .filter(|(name, _)| !UNSPOKEN.contains(&name.as_str()))
                .for_each(|(_, value)| texts(value, out));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).unwrap_or_default()).collect();
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use attain_attainment::recommend;
    use attain_simulator::fleet::Fleet;

    use super::super::input;
    use super::*;
    use crate::fleet::View;

    #[test]
    fn a_number_that_is_no_field_is_found() {
        let mut result = (0..).find_map(|index| {
            let fleet = Fleet::draw(index, 6);
            let past = fleet.past(index, 45);
            let view = View::new(&fleet, &past, vec![false; fleet.calls.len()]);
            let at = (0..6).find(|at| view.is_measured(*at))?;
            let result = recommend(&input(&view, at, index));
            (!result.fallback).then_some(result)
        });
        let result = result.as_mut().expect("a fleet with an estimate");
        assert_eq!(unknown_numbers(result), Vec::<String>::new(), "{}", result.explanation);
        result.explanation += " It fails 12.3456 % of requests.";
        assert_eq!(unknown_numbers(result), ["12.3456 %"]);
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
