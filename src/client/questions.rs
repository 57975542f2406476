//! Questions about changes, as the routes take them.

use anyhow::Context as _;
use serde_json::{Value, json};

pub(super) fn proposed(proposals: &[String]) -> anyhow::Result<Value> {
    let parsed: anyhow::Result<Vec<Value>> = proposals
        .iter()
        .map(|text| {
            let (service_id, ratio) =
                text.rsplit_once('=').with_context(|| format!("`{text}` is not SERVICE=RATIO"))?;
            let ratio: f64 = ratio.parse().with_context(|| format!("`{ratio}` is no fraction"))?;
            Ok(json!({"service_id": service_id, "target_ratio": ratio}))
        })
        .collect();
    Ok(json!({"proposals": parsed?}))
}

pub(super) fn with_fallback(caller_id: &str, callee_id: &str, fallback: f64, call_fraction: Option<f64>) -> Value {
    let mut edge = json!({
        "caller_id": caller_id, "callee_id": callee_id, "mode": "soft", "fallback_success_ratio": fallback,
    });
    if let Some(fraction) = call_fraction {
        edge["call_fraction"] = fraction.into();
    }
    json!({"changes": [{"set_dependency": edge}]})
}

pub(super) fn slow_callee(text: &str) -> Result<(String, f64), String> {
    let (callee_id, factor) = text.rsplit_once('=').ok_or("say CALLEE=FACTOR")?;
    let factor = factor.parse().map_err(|_| format!("`{factor}` is no number"))?;
    Ok((callee_id.to_owned(), factor))
}

pub(super) fn outage(entity_id: Option<String>, region: Option<String>, minutes: Option<u32>) -> Value {
    let place = match (entity_id, region) {
        (Some(id), _) => json!({"entity_id": id}),
        (None, region) => json!({"region": region}),
    };
    let mut question = json!({"changes": [{"outage": place}]});
    if let Some(minutes) = minutes {
        question["outage_duration"] = format!("{}s", u64::from(minutes) * 60).into();
    }
    question
}

pub(super) fn slower(entity_id: &str, factor: Option<f64>, added_ms: Option<f64>) -> Value {
    let mut latency = json!({"entity_id": entity_id});
    if let Some(factor) = factor {
        latency["factor"] = factor.into();
    }
    if let Some(added_ms) = added_ms {
        latency["added_ms"] = added_ms.into();
    }
    json!({"changes": [{"latency": latency}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_proposal_is_named() {
        let error = proposed(&["checkout".into()]).expect_err("no ratio");
        assert!(error.to_string().contains("`checkout`"));
        assert_eq!(proposed(&["a=b=0.9".into()]).expect("valid")["proposals"][0]["service_id"], "a=b");
    }

    #[test]
    fn what_gets_slower_is_sent_as_it_was_said() {
        let change = |question: Value| question["changes"][0]["latency"].clone();
        assert_eq!(change(slower("db", Some(2.0), None)), json!({"entity_id": "db", "factor": 2.0}));
        assert_eq!(change(slower("db", None, Some(-5.0))), json!({"entity_id": "db", "added_ms": -5.0}));
    }
}
