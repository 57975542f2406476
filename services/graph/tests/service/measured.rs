//! What follows from calls that were counted and timed.

use attain_proto::convert;
use attain_proto::graph::v1 as wire;
use attain_proto::vocabulary::v1::{Dependency, Source};
use attain_vocabulary::{DAY_MS, LatencyHistogram};
use tonic::Code;

use crate::ingestion::hard;
use crate::{Mesh, START_MS, own};

fn measured(caller: &str, callee: &str, mean_ms: f64, failure_count: u64, days_ago: i64) -> Dependency {
    let mut latency = LatencyHistogram::empty();
    latency.record_many(mean_ms, 1_000);
    Dependency {
        observed_call_count: 1_000,
        observed_failure_count: Some(failure_count),
        observed_latency: Some(Box::new((&latency).into())),
        call_rate: Some(2.0),
        sources: vec![Source::Traces.into()],
        last_seen_time: Some(convert::timestamp(START_MS - days_ago * DAY_MS)),
        ..hard(caller, callee)
    }
}

#[tokio::test]
async fn time_and_failures_are_followed_down_and_old_edges_doubted() {
    let mut mesh = Mesh::up().await;
    let rows = vec![
        measured("checkout-service", "slow", 40.0, 1, 0),
        measured("checkout-service", "weak", 5.0, 50, 0),
        measured("slow", "disk", 30.0, 0, 0),
        measured("weak", "legacy", 2.0, 40, 60),
    ];
    mesh.ingestion.write("default", rows, true);
    mesh.reach(2).await;
    let analysis = mesh.analyse("checkout-service").await;
    let slow: Vec<(&str, f64)> =
        analysis.latency_critical_path.iter().map(|call| (call.callee_id.as_str(), call.calls_per_request)).collect();
    assert_eq!(slow, [("slow", 2.0), ("disk", 4.0)]);
    let first = &analysis.latency_critical_path[0];
    assert!((first.mean_ms / 40.0 - 1.0).abs() < 0.05 && (first.p95_ms / 40.0 - 1.0).abs() < 0.05, "{first:?}");
    assert_eq!(first.wait_ms, 2.0 * first.mean_ms);
    let failing: Vec<(&str, f64)> =
        analysis.availability_critical_path.iter().map(|call| (call.callee_id.as_str(), call.lost_ratio)).collect();
    assert_eq!(failing, [("weak", 0.05), ("legacy", 0.04)]);
    assert_eq!(analysis.choke_points[0].behind_count, 1);
    // What is old first, then what is declared and was never seen in the traces that there are.
    let doubted = |doubtful: &wire::DoubtfulDependency| doubtful.dependency.clone().unwrap().callee_id;
    let names: Vec<String> = analysis.doubtful_dependencies.iter().map(doubted).collect();
    assert_eq!(names, ["legacy", "inventory-service", "payment-service"]);
    let legacy = &analysis.doubtful_dependencies[0];
    assert!(legacy.confidence < 0.3, "{legacy:?}");
    assert_eq!(convert::duration_millis(legacy.age.as_ref().unwrap()), 60 * DAY_MS);

    let sure = mesh.analyse_sure("checkout-service", 0.5).await;
    assert_eq!((sure.downstream_count, sure.fan_out_count), (3, 2));
    assert!(sure.single_points_of_failure.iter().all(|id| id != "legacy"));
    assert_eq!(sure.availability_critical_path.len(), 1);
    let walked = mesh.walk("weak", wire::Direction::Downstream, 0).await.unwrap();
    assert_eq!(walked.dependency_confidences, [legacy.confidence]);

    let evaluate = |confidence_min| {
        let request = wire::EvaluateAvailabilityRequest {
            service_ids: vec!["weak".into(), "slow".into()],
            rates: [("weak", 0.01), ("legacy", 0.1), ("slow", 0.1), ("disk", 0.0)].iter().map(own).collect(),
            confidence_min,
            ..wire::EvaluateAvailabilityRequest::default()
        };
        let mut graph = mesh.graph.clone();
        async move { graph.evaluate_availability(request).await.map(tonic::Response::into_inner) }
    };
    let answer = evaluate(0.5).await.unwrap();
    let [weak, slow] = &answer.services[..] else { panic!("{answer:?}") };
    assert!((weak.before.as_ref().unwrap().availability_ratio - 0.99 * 0.9).abs() < 1e-12);
    assert_eq!((weak.without_doubtful_before_ratio, weak.without_doubtful_after_ratio), (Some(0.99), None));
    assert_eq!(slow.without_doubtful_before_ratio, None);
    assert_eq!(evaluate(0.0).await.unwrap().services[0].without_doubtful_before_ratio, None);
    assert_eq!(evaluate(1.5).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_wait_for_calls_is_composed_and_a_threshold_split() {
    let mut mesh = Mesh::up().await;
    let once = |row: Dependency| Dependency { call_rate: Some(1.0), ..row };
    let rows = vec![
        once(measured("checkout-service", "slow", 40.0, 0, 0)),
        once(measured("checkout-service", "quick", 10.0, 0, 0)),
    ];
    mesh.ingestion.write("default", rows, true);
    mesh.reach(2).await;
    let mut ask = async |slower: Option<(&str, f64)>, threshold_ms: f64| {
        let (slower_callee_id, slower_factor) = slower.map_or((String::new(), 0.0), |(id, by)| (id.into(), by));
        let service_id = "checkout-service".into();
        let request = wire::AnalyzeLatencyRequest {
            service_id,
            threshold_ms,
            slower_callee_id,
            slower_factor,
            ..Default::default()
        };
        mesh.graph.analyze_latency(request).await.map(tonic::Response::into_inner)
    };
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.05, "{found} {expected}");
    let answer = ask(None, 100.0).await.unwrap();
    let callees: Vec<&str> = answer.calls.iter().map(|call| call.callee_id.as_str()).collect();
    assert_eq!(callees, ["slow", "quick"]);
    assert_eq!(answer.unknown_callee_ids, ["inventory-service", "payment-service"]);
    near(answer.quantiles[3].in_sequence.as_ref().unwrap().high_ms, 50.0);
    near(answer.quantiles[3].at_once.as_ref().unwrap().high_ms, 40.0);
    assert_eq!((answer.miss_probability_max, answer.slower_quantiles.len()), (Some(0.0), 0));
    assert!(answer.calls[0].budget_ms.unwrap() >= 40.0);
    let slower = ask(Some(("slow", 3.0)), 100.0).await.unwrap();
    near(slower.slower_quantiles[0].in_sequence.as_ref().unwrap().low_ms, 130.0);
    near(slower.quantiles[0].in_sequence.as_ref().unwrap().low_ms, 50.0);
    assert_eq!(slower.miss_probability_max, Some(1.0), "120 ms fit into no 100");
    assert_eq!(ask(None, 0.0).await.unwrap().miss_probability_max, None);
    for (slower, threshold_ms) in
        [(Some(("slow", -1.0)), 0.0), (Some(("", 2.0)), 0.0), (Some(("user-db", 2.0)), 0.0), (None, -5.0)]
    {
        assert_eq!(ask(slower, threshold_ms).await.unwrap_err().code(), Code::InvalidArgument);
    }
}
