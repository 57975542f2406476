//! The demo answers the design questions with numbers.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::attain;

async fn tour(format: &str) -> String {
    let output = attain()
        .args([
            "demo",
            "--once",
            "--listen",
            "127.0.0.1:0",
            "--otlp-listen",
            "127.0.0.1:0",
            "--otlp-http-listen",
            "127.0.0.1:0",
            "--format",
            format,
        ])
        .stderr(Stdio::inherit())
        .output()
        .await
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_tour_answers_both_design_questions() {
    let tour: Value = serde_json::from_str(&tour("json").await).unwrap();
    let recommendations = tour["recommendations"].as_array().unwrap();
    assert_eq!(recommendations.len(), 9);
    let checkout = recommendations.iter().find(|r| r["service_id"] == "checkout-service").unwrap();
    let availability = checkout["slis"].as_array().unwrap().iter().find(|sli| sli["kind"] == "availability").unwrap();
    let split = &availability["failure_split"];
    let (own, inherited) =
        (split["own_failure_ratio"].as_f64().unwrap(), split["inherited_failure_ratio"].as_f64().unwrap());
    assert!(inherited > 2.0 * own, "checkout fails mostly because of others: {split}");
    assert_eq!(availability["binding_constraint"]["entity_id"], "external-payment-api");
    assert_eq!(availability["offers"].as_array().unwrap().len(), 3);

    // What nobody waits for has a freshness of its own, and whoever sends to it knows that it is measured.
    let mailer = recommendations.iter().find(|r| r["service_id"] == "order-mailer").unwrap();
    let freshness = mailer["slis"].as_array().unwrap().iter().find(|sli| sli["kind"] == "freshness").unwrap();
    assert_eq!(freshness["offers"].as_array().unwrap().len(), 3, "{freshness}");
    assert!(freshness["offers"][0]["conditions"]["request_rate_max"].as_f64().unwrap() > 0.0);
    assert_eq!(checkout["asynchronous"][0]["callee_id"], "order-mailer");
    assert_eq!(checkout["asynchronous"][0]["age_measured"], true);

    // A fallback helps checkout and, through it, the gateway; a worse provider hurts both.
    for service in ["checkout-service", "api-gateway"] {
        let of = |answer: &Value| {
            let affected = answer["affected"].as_array().unwrap();
            let service = affected.iter().find(|entry| entry["service_id"] == service).unwrap().clone();
            (service["ceiling_before_ratio"].as_f64().unwrap(), service["ceiling_after_ratio"].as_f64().unwrap())
        };
        let (before, after) = of(&tour["fallback"]);
        assert!(after > before, "{service}");
        let (before, after) = of(&tour["worse_provider"]);
        assert!(after < before, "{service}");
    }
    // Nothing is recommended without saying what it rests on.
    assert!(!checkout["citations"].as_array().unwrap().is_empty() || checkout["evidence_note"] != "");
}

#[tokio::test]
async fn the_tour_prints_a_table_and_what_to_try() {
    let text = tour("text").await;
    for expected in ["api-gateway", "checkout-service", "external-payment-api", "limited by", "curl http://127.0.0.1:"]
    {
        assert!(text.contains(expected), "{expected} is missing from\n{text}");
    }
    assert_eq!(text.matches("  curl ").count(), 3, "{text}");
}
