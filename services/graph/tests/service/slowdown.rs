//! Latencies from sampled requests, alone and along the graph.

use attain_proto::convert;
use attain_proto::graph::v1 as wire;
use attain_proto::graph::v1::latency_change::Change as By;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::ingestion::v1::{RequestSample, SampledCall};
use attain_proto::vocabulary::v1::Dependency;
use attain_vocabulary::LatencyHistogram;
use tonic::{Code, Status};

use crate::ingestion::hard;
use crate::{Mesh, START_MS};

/// Requests, each a little longer than the one before, of a service that calls others one after the other.
fn samples(count: i64, calls: &[(&str, u64)]) -> Vec<RequestSample> {
    let sample = |place: i64| {
        let mut at_us = 1_000;
        let call = |&(callee_id, duration_us): &(&str, u64)| {
            let start_us = at_us;
            at_us += duration_us;
            SampledCall { callee_id: callee_id.to_owned(), start_us, duration_us, failed: false }
        };
        let calls: Vec<SampledCall> = calls.iter().map(call).collect();
        RequestSample {
            start_time: Some(convert::timestamp(START_MS - 1_000 * (count - place))),
            duration_us: at_us + 1_000 + place as u64,
            failed: place % 7 == 0,
            calls,
            truncated: false,
        }
    };
    (0..count).map(sample).collect()
}

fn slower(entity_id: &str, by: By) -> Change {
    Change::Latency(wire::LatencyChange { entity_id: entity_id.into(), change: Some(by) })
}

async fn evaluate(
    mesh: &Mesh,
    service_ids: &[&str],
    changes: Vec<Change>,
) -> Result<wire::EvaluateLatencyResponse, Status> {
    let request = wire::EvaluateLatencyRequest {
        service_ids: service_ids.iter().map(ToString::to_string).collect(),
        changes: changes.into_iter().map(|change| wire::ScenarioChange { change: Some(change) }).collect(),
        thresholds: vec![wire::LatencyThreshold { service_id: "api-gateway".into(), threshold_ms: 90.0 }],
        ..wire::EvaluateLatencyRequest::default()
    };
    mesh.graph.clone().evaluate_latency(request).await.map(tonic::Response::into_inner)
}

fn ids(services: &[wire::ServiceLatency]) -> Vec<&str> {
    services.iter().map(|service| service.service_id.as_str()).collect()
}

#[tokio::test]
async fn a_slower_provider_is_felt_up_to_the_gateway() {
    let mesh = Mesh::up().await;
    mesh.ingestion.sample("default", "payment-service", samples(40, &[("external-payment-api", 30_000)]));
    mesh.ingestion.sample("default", "checkout-service", samples(40, &[("payment-service", 32_000)]));
    mesh.ingestion.sample(
        "default",
        "api-gateway",
        samples(40, &[("auth-service", 9_000), ("checkout-service", 34_000)]),
    );
    let change = || vec![slower("external-payment-api", By::AddedMs(50.0))];
    let answer = evaluate(&mesh, &[], change()).await.unwrap();
    let above = ["api-gateway", "checkout-service", "external-payment-api", "payment-service"];
    assert_eq!((ids(&answer.services), answer.unknown_ids.len()), (above.to_vec(), 0));
    let provider = &answer.services[2].quantiles[0];
    assert_eq!(
        (provider.before_ms, provider.after_low_ms, provider.after_high_ms),
        (30.0, 80.0, 80.0),
        "as it was called"
    );
    let gateway = &answer.services[0];
    assert_eq!((gateway.sample_count, gateway.in_cycle), (40, false));
    assert_eq!(gateway.path, ["api-gateway", "checkout-service", "payment-service", "external-payment-api"]);
    for quantile in &gateway.quantiles {
        assert!((quantile.after_low_ms - quantile.before_ms - 50.0).abs() < 1e-6, "{quantile:?}");
        assert_eq!(quantile.after_low_ms, quantile.after_high_ms);
        assert!(quantile.before_interval_low_ms.unwrap() <= quantile.before_ms);
    }
    assert!(gateway.quantiles[3].before_interval_high_ms.is_none(), "40 requests tell no upper end of p99");
    assert_eq!((gateway.slow_before_ratio, gateway.slow_after_low_ratio), (Some(0.0), Some(1.0)));
    assert_eq!(answer.services[1].slow_before_ratio, None);
    assert_eq!(evaluate(&mesh, &[], change()).await.unwrap(), answer, "to the last bit");

    let asked = evaluate(&mesh, &["checkout-service", "auth-service"], change()).await.unwrap();
    assert_eq!((ids(&asked.services), asked.unknown_ids.len()), (vec!["checkout-service"], 0));
    assert_eq!(asked.services[0], answer.services[1]);
    let nothing =
        evaluate(&mesh, &["api-gateway"], vec![slower("external-payment-api", By::Factor(1.0))]).await.unwrap();
    for quantile in &nothing.services[0].quantiles {
        assert_eq!((quantile.after_low_ms, quantile.after_high_ms), (quantile.before_ms, quantile.before_ms));
    }
}

#[tokio::test]
async fn samples_of_another_tenant_and_samples_that_cannot_be_had_are_not_used() {
    let mut mesh = Mesh::up().await;
    let mut latency = LatencyHistogram::empty();
    latency.record_many(40.0, 1_000);
    let counted = |caller: &str, callee: &str| Dependency {
        observed_latency: Some(Box::new((&latency).into())),
        observed_call_count: 1_000,
        ..hard(caller, callee)
    };
    let rows = vec![counted("api-gateway", "checkout-service"), counted("checkout-service", "payment-service")];
    mesh.ingestion.write("default", rows, true);
    mesh.reach(2).await;
    mesh.ingestion.sample("other", "checkout-service", samples(40, &[("payment-service", 32_000)]));
    let change = || vec![slower("payment-service", By::AddedMs(50.0))];
    let answer = evaluate(&mesh, &[], change()).await.unwrap();
    assert_eq!(ids(&answer.services), ["checkout-service", "payment-service"]);
    assert_eq!((answer.unknown_ids.clone(), answer.without_samples_count), (vec!["api-gateway".to_owned()], 0));
    let checkout = &answer.services[0];
    assert_eq!(checkout.sample_count, 0);
    let p99 = &checkout.quantiles[3];
    assert!(p99.before_ms == p99.after_low_ms && (p99.after_high_ms - p99.before_ms - 50.0).abs() < 0.1, "{p99:?}");

    mesh.ingestion.sample("default", "checkout-service", samples(40, &[("payment-service", 32_000)]));
    assert_eq!(evaluate(&mesh, &[], change()).await.unwrap().services[0].sample_count, 40);
    mesh.ingestion.refuse_samples();
    let refused = evaluate(&mesh, &[], change()).await.unwrap();
    assert_eq!((refused.services, refused.without_samples_count), (answer.services, 3));
    let request = wire::AnalyzeLatencyRequest { service_id: "checkout-service".into(), ..Default::default() };
    let latency = mesh.graph.analyze_latency(request).await.unwrap().into_inner();
    assert!(latency.samples_missing && latency.sampled.is_none() && latency.calls.len() == 1);
}

#[tokio::test]
async fn bad_questions_are_refused_by_field() {
    let mesh = Mesh::up().await;
    for (change, field) in [
        (slower("payment-service", By::Factor(0.0)), "changes/0/latency/factor"),
        (slower("payment-service", By::Factor(f64::NAN)), "changes/0/latency/factor"),
        (slower("payment-service", By::AddedMs(f64::INFINITY)), "changes/0/latency/added_ms"),
        (slower("nobody", By::Factor(2.0)), "changes/0/latency/entity_id"),
        (Change::Latency(wire::LatencyChange::default()), "changes/0/latency/change"),
    ] {
        let refused = evaluate(&mesh, &[], vec![change]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{}", refused.message());
    }
    let mut mesh = mesh;
    let pace = slower("payment-service", By::Factor(2.0));
    let availability = mesh.evaluate(&["checkout-service"], &[("payment-service", 0.1)], vec![pace]).await.unwrap();
    let checkout = &availability.services[0];
    assert_eq!((&checkout.before, checkout.path.len()), (&checkout.after, 0), "slower is not less available");
}

#[tokio::test]
async fn slow_requests_are_counted_without_each_part() {
    let mut mesh = Mesh::up().await;
    mesh.reach(1).await;
    let given = samples(60, &[("payment-service", 30_000), ("inventory-service", 10_000)]);
    mesh.ingestion.sample("default", "checkout-service", given);
    let mut ask = async |slow_thresholds_ms: Vec<f64>| {
        let service_id = "checkout-service".into();
        let request =
            wire::AnalyzeLatencyRequest { service_id, slow_thresholds_ms, sampled_only: true, ..Default::default() };
        mesh.graph.analyze_latency(request).await.map(tonic::Response::into_inner)
    };
    let answer = ask(vec![35.0, 1.0, 500.0]).await.unwrap();
    assert!(answer.calls.is_empty() && answer.unknown_callee_ids.is_empty(), "without samples nothing is composed");
    let slow = answer.sampled.unwrap().slow;
    let told = |of: &wire::SlowRequests| {
        let without = of.without.iter().map(|part| (part.part_id.clone(), part.slow_count));
        (of.threshold_ms, of.slow_count, without.collect::<Vec<_>>())
    };
    let parts = |counts: [u32; 3], order: [&str; 3]| -> Vec<(String, u32)> {
        order.into_iter().map(str::to_owned).zip(counts).collect()
    };
    // Each request takes about 42 ms: 30 of payment, 10 of inventory, 2 of its own.
    let waits = ["inventory-service", "payment-service", "checkout-service"];
    assert_eq!(told(&slow[0]), (35.0, 60, parts([0, 0, 60], waits)));
    let by_name = ["checkout-service", "inventory-service", "payment-service"];
    assert_eq!(told(&slow[1]), (1.0, 60, parts([60; 3], by_name)));
    assert_eq!(told(&slow[2]), (500.0, 0, parts([0; 3], by_name)));
    for (thresholds, field) in [(vec![5.0, 0.0], "slow_thresholds_ms/1"), (vec![1.0; 65], "slow_thresholds_ms")] {
        let refused = ask(thresholds).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(field), "{}", refused.message());
    }
}

#[tokio::test]
async fn sampled_requests_say_who_takes_the_time_and_what_a_slower_callee_does() {
    let mut mesh = Mesh::up().await;
    let mut given = samples(60, &[("payment-service", 30_000), ("inventory-service", 10_000)]);
    given[3].truncated = true;
    mesh.ingestion.sample("default", "checkout-service", given);
    let mut ask = async |slower_callee_id: &str, slower_factor: f64, threshold_ms: f64| {
        let (service_id, slower_callee_id) = ("checkout-service".into(), slower_callee_id.into());
        let request = wire::AnalyzeLatencyRequest {
            service_id,
            threshold_ms,
            slower_callee_id,
            slower_factor,
            ..Default::default()
        };
        mesh.graph.analyze_latency(request).await.map(tonic::Response::into_inner)
    };
    let answer = ask("", 0.0, 0.0).await.unwrap();
    assert_eq!(answer.unknown_callee_ids, ["inventory-service", "payment-service"]);
    let sampled = answer.sampled.unwrap();
    assert_eq!((sampled.sample_count, sampled.truncated_count, answer.samples_missing), (59, 1, false));
    assert_eq!(convert::unix_millis(&sampled.end_time.unwrap()), START_MS - 1_000);
    let median = &sampled.quantiles[0];
    assert!((median.measured_ms - 42.03).abs() < 0.01 && median.slower_ms.is_none(), "{median:?}");
    assert!(median.interval_low_ms < median.measured_ms && median.interval_high_ms.unwrap() > median.measured_ms);
    let shares: Vec<(&str, f64)> =
        sampled.shares.iter().map(|share| (share.part_id.as_str(), share.mean_ms.round())).collect();
    assert_eq!(shares, [("payment-service", 30.0), ("inventory-service", 10.0), ("checkout-service", 2.0)]);
    assert!((sampled.shares.iter().map(|share| share.share_ratio).sum::<f64>() - 1.0).abs() < 1e-9);
    assert_eq!((sampled.miss_probability_max, sampled.shares[0].budget_ms), (None, None));

    // Nobody counted calls: the samples alone know them.
    let slower = ask("payment-service", 2.0, 80.0).await.unwrap().sampled.unwrap();
    assert!((slower.quantiles[0].slower_ms.unwrap() - slower.quantiles[0].measured_ms - 30.0).abs() < 1e-6);
    assert_eq!(slower.shares[0].slower_mean_ms, Some(60.0));
    assert_eq!(slower.miss_probability_max, Some(0.0));
    assert!(slower.shares[0].budget_ms.unwrap() >= 60.0 && slower.shares[1].budget_ms.unwrap() >= 10.0);
    assert_eq!(slower.shares[2].budget_ms, None);
    assert_eq!(ask("", 0.0, 35.0).await.unwrap().sampled.unwrap().miss_probability_max, Some(1.0));
    assert_eq!(ask("user-db", 2.0, 0.0).await.unwrap_err().code(), Code::InvalidArgument);
}
