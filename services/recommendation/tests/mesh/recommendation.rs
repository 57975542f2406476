use std::sync::atomic::Ordering;

use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::ingestion::v1::Incident;
use attain_proto::recommendation::v1 as wire;
use attain_proto::status::v1::GetStatusRequest;
use attain_proto::status::v1::status_service_client::StatusServiceClient;
use attain_proto::vocabulary::v1::{EntityKind, SliKind, Tier};
use futures::future::join_all;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Mesh, fault, reason};
use crate::world::{NOW_MS, first_ms};

fn sli(recommendation: &wire::Recommendation, kind: SliKind) -> &wire::SliRecommendation {
    recommendation.slis.iter().find(|sli| sli.kind == kind as i32).unwrap()
}

#[tokio::test]
async fn a_recommendation_tells_what_where_from_and_why() {
    let mesh = Mesh::start().await;
    let answer = mesh.ask("checkout").await.unwrap();
    assert!(!answer.stale);
    let recommendation = answer.recommendation.unwrap();
    assert_eq!((recommendation.version, recommendation.window_days, recommendation.fallback), (1, 28, false));
    assert_eq!(recommendation.missing_inputs, []);
    assert!(recommendation.changes.is_empty() && !recommendation.explanation.is_empty());

    let availability = sli(&recommendation, SliKind::Availability);
    assert!(!availability.offers.is_empty());
    for offer in &availability.offers {
        assert!(offer.miss_probability.unwrap() <= offer.miss_probability_max, "{offer:?}");
    }
    let split = availability.failure_split.as_ref().unwrap();
    assert_eq!(split.method(), wire::SplitMethod::Traces);
    assert_eq!(split.inherited[0].dependency_id, "payment");
    assert!(split.inherited_failure_ratio > 0.004 && split.own_failure_ratio < 0.002, "{split:?}");

    // The ceiling counts every component once: the provider by its contract or what payment's traces show, not both.
    let ceiling = availability.ceiling_ratio.unwrap();
    let attained = availability.measured.as_ref().unwrap().attained_ratio.unwrap();
    assert!((ceiling - attained).abs() < 0.003, "ceiling {ceiling}, attained {attained}");
    assert_eq!(availability.importances[0].entity_id, "provider");

    // Latency comes from the histograms of the service itself.
    let p95 = sli(&recommendation, SliKind::Latency).measured.as_ref().unwrap().latency_ms_p95.unwrap();
    assert!((100.0..250.0).contains(&p95), "{p95}");

    let data = recommendation.data.as_ref().unwrap();
    let range = data.range.as_ref().unwrap();
    assert_eq!(attain_proto::convert::unix_millis(range.start_time.as_ref().unwrap()), first_ms());
    assert!(data.coverage_ratio > 0.99, "{}", data.coverage_ratio);
    assert_eq!(data.snapshot.as_ref().unwrap().version, mesh.world.topology_version());
    assert_eq!(recommendation.create_time.map(|time| attain_proto::convert::unix_millis(&time)), Some(NOW_MS));
}

#[tokio::test]
async fn who_makes_requests_slow_is_named_where_samples_tell() {
    let mesh = Mesh::start().await;
    let untold = mesh.recommend("checkout").await;
    let binding = sli(&untold, SliKind::Latency).binding_constraint.clone().unwrap();
    assert_eq!((binding.kind(), binding.entity_id.as_str()), (wire::ConstraintKind::Own, "checkout"));
    assert_eq!(binding.relaxed_latency_threshold_ms, None);

    mesh.world.waited_for.lock().unwrap().insert("checkout".to_owned(), "payment".to_owned());
    mesh.world.rewrite_last_bucket("checkout", 1);
    mesh.clock.set(NOW_MS + 60_000);
    let told = mesh.ask("checkout").await.unwrap().recommendation.unwrap();
    let latency = sli(&told, SliKind::Latency);
    let binding = latency.binding_constraint.clone().unwrap();
    assert_eq!((binding.kind(), binding.entity_id.as_str()), (wire::ConstraintKind::Dependency, "payment"));
    let offered = latency.offers.iter().find(|offer| offer.ambition() == wire::Ambition::Balanced).unwrap();
    let relaxed = binding.relaxed_latency_threshold_ms.unwrap();
    assert!(relaxed < offered.latency_threshold_ms, "{binding:?}");
    let explained = format!("without that {relaxed} ms could be offered");
    assert!(told.explanation.contains(&explained), "{}", told.explanation);
    let question = mesh.world.questions.lock().unwrap().last().unwrap().clone();
    assert!(question.contains("payment, which fails by slow responses"), "{question}");
}

#[tokio::test]
async fn an_api_is_answered_from_what_provides_it() {
    let mesh = Mesh::start().await;
    mesh.world.entity("api:default/checkout", EntityKind::Api, Tier::Tier2);
    mesh.world.depend("api:default/checkout", "checkout");
    let recommendation = mesh.ask("api:default/checkout").await.unwrap().recommendation.unwrap();
    let of_checkout = mesh.ask("checkout").await.unwrap().recommendation.unwrap();
    let (api, checkout) = (sli(&recommendation, SliKind::Availability), sli(&of_checkout, SliKind::Availability));
    let ceiling = api.ceiling_ratio.unwrap();
    assert!((ceiling - checkout.ceiling_ratio.unwrap()).abs() < 1e-12);
    assert!(recommendation.fallback && api.counterfactuals.is_empty());
    let [offer] = &api.offers[..] else { panic!("{:?}", api.offers) };
    assert!(offer.target_ratio <= ceiling && offer.miss_probability.is_none(), "{offer:?} above {ceiling}");
    assert_eq!(api.binding_constraint.as_ref().unwrap().entity_id, "provider");
    assert!(recommendation.explanation.contains("is an API"), "{}", recommendation.explanation);
}

#[tokio::test]
async fn what_would_relax_it_is_solved_again_along_the_walk() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("checkout").await;
    let availability = sli(&recommendation, SliKind::Availability);
    let attained = availability.measured.as_ref().unwrap().attained_ratio.unwrap();
    let of = |callee: &str| {
        availability.counterfactuals.iter().find(|counterfactual| {
            match counterfactual.change.as_ref().and_then(|c| c.change.as_ref()) {
                Some(Change::SetDependency(edge)) => edge.callee_id == callee,
                _ => false,
            }
        })
    };
    // A fallback for payment saves at least what one for the provider behind it saves, and that saves most of 0.4 %.
    let (payment, provider) = (of("payment").unwrap(), of("provider").unwrap());
    assert!(
        payment.attained_ratio >= provider.attained_ratio && provider.attained_ratio > attained + 0.003,
        "{availability:#?}"
    );
    assert!(provider.ceiling_ratio.unwrap() > availability.ceiling_ratio.unwrap() + 0.003);
    assert!(availability.counterfactuals.len() <= 4);
    // Each change can be sent to the what-if route as it is.
    let request = wire::AnalyzeWhatIfRequest { changes: vec![provider.change.clone().unwrap()], ..Default::default() };
    let answer = mesh.client.clone().analyze_what_if(request).await.unwrap().into_inner();
    let checkout = answer.affected.iter().find(|affected| affected.service_id == "checkout").unwrap();
    assert_eq!(Some(checkout.ceiling_after_ratio), provider.ceiling_ratio);
}

#[tokio::test]
async fn passages_are_cited_for_the_risk_that_binds() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("checkout").await;
    assert_eq!(recommendation.citations.len(), 1);
    let citation = &recommendation.citations[0];
    assert_eq!(recommendation.evidence_strength(), attain_proto::rag::v1::EvidenceStrength::Answered);
    let said = &recommendation.evidence[0];
    assert_eq!((&said.text, said.citations[0].start_offset), (&citation.quote, citation.start_offset));
    assert_eq!((citation.document_version, citation.start_offset, citation.end_offset), (3, 120, 152));
    assert_eq!(citation.score.to_bits(), (0.1f64 + 0.2).to_bits());
    let question = mesh.world.questions.lock().unwrap()[0].clone();
    assert!(question.contains("by way of payment on the external provider provider"), "{question}");
    // Nothing bears on a database's caller: it says so.
    let other = mesh.recommend("auth").await;
    assert!(other.citations.is_empty() && other.evidence_note.contains("No runbook"), "{}", other.evidence_note);
}

#[tokio::test]
async fn what_is_stored_is_what_is_given_for_ever() {
    let mut mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    assert_eq!(mesh.recommend("checkout").await, first);
    mesh.world.rewrite_last_bucket("checkout", 900);
    mesh.clock.set(NOW_MS + 20_000);
    let second = mesh.recommend("checkout").await;
    assert_eq!(second.version, 2);
    mesh.restart().await;
    let request = wire::GetRecommendationRequest { recommendation_id: first.id.clone() };
    let read = mesh.client.clone().get_recommendation(request).await.unwrap().into_inner();
    assert_eq!(read.recommendation, Some(first));
    assert_eq!(mesh.recommend("checkout").await, second);
}

#[tokio::test]
async fn a_recommendation_can_be_made_again_bit_for_bit() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    mesh.declare("checkout", 0.99).await;
    let second = mesh.recommend("checkout").await;
    assert_eq!(second.version, 2);
    assert!(!second.changes.is_empty());
    let replay = |id: &str| {
        let (mut client, request) =
            (mesh.client.clone(), wire::ReplayRecommendationRequest { recommendation_id: id.into() });
        async move { client.replay_recommendation(request).await.unwrap().into_inner() }
    };
    for recommendation in [&first, &second] {
        let replayed = replay(&recommendation.id).await;
        assert!(replayed.identical, "{replayed:?}");
        assert_eq!(replayed.input_sha256, recommendation.input_sha256);
        assert_eq!(replayed.stored_sha256, replayed.recomputed_sha256);
        assert_eq!((replayed.reason.as_str(), &replayed.model_version), ("", &recommendation.model_version));
        assert_eq!(replayed.statistics_version, recommendation.model_version);
    }
    // Inputs that belong to another version do not pass.
    mesh.tamper("UPDATE inputs SET content = (SELECT content FROM inputs WHERE version = 2) WHERE version = 1").await;
    let replayed = replay(&first.id).await;
    assert!(!replayed.identical && replayed.input_sha256 != first.input_sha256);
    assert!(replayed.reason.starts_with("the inputs no longer have the hash"), "{}", replayed.reason);
    mesh.tamper("DELETE FROM inputs WHERE version = 1").await;
    let request = wire::ReplayRecommendationRequest { recommendation_id: first.id };
    let status = mesh.client.clone().replay_recommendation(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "INPUTS_NOT_KEPT".into()));
}

#[tokio::test]
async fn all_who_ask_at_once_get_one_computation() {
    let mesh = Mesh::start().await;
    let answers = join_all((0..12).map(|_| mesh.ask("gateway"))).await;
    let ids: std::collections::BTreeSet<String> =
        answers.into_iter().map(|answer| answer.unwrap().recommendation.unwrap().id).collect();
    assert_eq!((ids.len(), mesh.world.computations.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(mesh.audit().await.len(), 1);
}

#[tokio::test]
async fn measurements_count_after_a_while_and_structure_at_once() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    // A dependency's measurements, too young to compute again.
    mesh.world.rewrite_last_bucket("payment", 1_000);
    mesh.clock.set(NOW_MS + 9_000);
    let answer = mesh.ask("checkout").await.unwrap();
    assert!(answer.stale);
    assert_eq!(answer.recommendation, Some(first.clone()));
    mesh.clock.set(NOW_MS + 10_000);
    let answer = mesh.ask("checkout").await.unwrap();
    let second = answer.recommendation.unwrap();
    assert_eq!((answer.stale, second.version), (false, 2));
    assert!(!second.changes.is_empty());
    // A new edge counts at once.
    mesh.world.depend("inventory", "user-db");
    mesh.world.touch_topology("inventory");
    let third = mesh.recommend("checkout").await;
    assert_eq!(third.version, 3);
    // So does an SLO.
    mesh.declare("checkout", 0.99).await;
    let fourth = mesh.recommend("checkout").await;
    assert_eq!(fourth.version, 4);
    assert!(fourth.changes.iter().any(|change| change.contains("SLO in force is 0.99")), "{:?}", fourth.changes);
    let assessment = sli(&fourth, SliKind::Availability).current_slo.as_ref().unwrap();
    assert!(assessment.miss_probability.is_some() && assessment.attained.is_some());
}

#[tokio::test]
async fn the_same_inputs_make_no_other_version() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("a").await;
    // The head moves because a bucket was written again with the same counts.
    mesh.world.touch_measurements("a");
    mesh.clock.set(NOW_MS + 60_000);
    assert_eq!(mesh.recommend("a").await, first);
    assert_eq!(mesh.world.computations.load(Ordering::SeqCst), 2);
    // And it is fresh from then on.
    let answer = mesh.ask("a").await.unwrap();
    assert!(!answer.stale);
    assert_eq!(mesh.world.computations.load(Ordering::SeqCst), 2);
    // Nothing changed for hours: still the same, and nothing is computed.
    mesh.clock.set(NOW_MS + 12 * 3_600_000);
    assert_eq!(mesh.recommend("a").await, first);
    assert_eq!(mesh.world.computations.load(Ordering::SeqCst), 2);
    // A day later history has moved on.
    mesh.clock.set(NOW_MS + 25 * 3_600_000);
    assert_eq!(mesh.recommend("a").await.version, 2);
}

#[tokio::test]
async fn an_excluded_incident_is_left_out_and_listed() {
    let mesh = Mesh::start().await;
    let before = mesh.recommend("checkout").await;
    let incident = |id: &str, service: &str, excluded: bool| Incident {
        id: id.into(),
        title: "Deploy".into(),
        service_ids: vec![service.into()],
        start_time: Some(attain_proto::convert::timestamp(NOW_MS - 86_400_000)),
        end_time: Some(attain_proto::convert::timestamp(NOW_MS - 80_000_000)),
        excluded,
        exclusion_reason: "planned maintenance".into(),
        ..Incident::default()
    };
    *mesh.world.incidents.lock().unwrap() = vec![
        incident("INC-2", "checkout", true),
        incident("INC-3", "checkout", false),
        incident("INC-4", "auth", true),
        Incident {
            kind: attain_proto::ingestion::v1::IncidentKind::Maintenance.into(),
            start_time: Some(attain_proto::convert::timestamp(NOW_MS - 40_000_000)),
            end_time: Some(attain_proto::convert::timestamp(NOW_MS - 30_000_000)),
            exclusion_reason: "failover drill".into(),
            ..incident("drill", "checkout", false)
        },
    ];
    mesh.world.touch_incidents("checkout");
    let after = mesh.recommend("checkout").await;
    let data = after.data.as_ref().unwrap();
    assert_eq!((after.version, data.incident_count, data.exclusions.len()), (2, 2, 2));
    assert_eq!(data.exclusions[0].reason, "incident INC-2: planned maintenance");
    assert_eq!(data.exclusions[1].reason, "maintenance drill: failover drill");
    assert!(data.bucket_count < before.data.as_ref().unwrap().bucket_count);
}

#[tokio::test]
async fn little_data_is_a_labelled_answer() {
    let mesh = Mesh::start().await;
    let recommendation = mesh.recommend("young").await;
    let availability = sli(&recommendation, SliKind::Availability);
    assert!(recommendation.fallback);
    assert_eq!(recommendation.confidence.as_ref().unwrap().level(), wire::ConfidenceLevel::Low);
    assert!(!recommendation.confidence.as_ref().unwrap().raise_with.is_empty());
    assert_eq!(availability.measured.as_ref().unwrap().attained_ratio, None);
    assert_eq!(availability.offers[0].miss_probability, None);
    assert!(!availability.offer_note.is_empty());
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_by_name() {
    let mesh = Mesh::start().await;
    let status = mesh.ask("nobody").await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_SERVICE".into()));
    assert!(status.message().contains("nobody"));
    assert_eq!(fault(&mesh.ask(" ").await.unwrap_err()), ("service_id".into(), "malformed_name".into()));
    let request =
        wire::GetSloRecommendationsRequest { service_id: "checkout".into(), window_days: 13, ..Default::default() };
    let status = mesh.client.clone().get_slo_recommendations(request).await.unwrap_err();
    assert_eq!(fault(&status), ("window_days".into(), "not_offered".into()));
    let request = wire::GetRecommendationRequest { recommendation_id: "rec-0".into() };
    let status = mesh.client.clone().get_recommendation(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
    // Windows are recommended for by themselves.
    let request =
        wire::GetSloRecommendationsRequest { service_id: "checkout".into(), window_days: 7, ..Default::default() };
    let week = mesh.client.clone().get_slo_recommendations(request).await.unwrap().into_inner().recommendation.unwrap();
    assert_eq!((week.window_days, week.version, mesh.recommend("checkout").await.version), (7, 1, 1));
}

#[tokio::test]
async fn it_serves_once_storage_and_ingestion_are_there() {
    let mesh = Mesh::start().await;
    let request = HealthCheckRequest { service: "attain.recommendation.v1.RecommendationService".into() };
    let mut health = HealthClient::new(mesh.channel.clone()).watch(request).await.unwrap().into_inner();
    while health.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    let status =
        StatusServiceClient::new(mesh.channel.clone()).get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert!(status.ready);
    let required: Vec<&str> = status.conditions.iter().filter(|c| c.required).map(|c| c.name.as_str()).collect();
    assert_eq!(required, ["storage", "ingestion"]);
    assert_eq!(status.conditions.len(), 5);
}
