//! Recommendations of single regions: beside the whole, worst named, stored, replayed, and nobody else's.

use std::sync::atomic::Ordering;

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::{Ambition, DecisionAction};
use attain_proto::vocabulary::v1::{EntityKind, SliBucket, SliKind, Source, Tier};
use attain_runtime::context::CallContext;
use attain_vocabulary::TenantId;
use tonic::{Code, Status};

use crate::harness::{Mesh, PATIENCE, fault, reason};
use crate::world::{NOW_MS, TOPOLOGY, World};

async fn ask_of(mesh: &Mesh, tenant: &str, service_id: &str, region: &str) -> Result<wire::Recommendation, Status> {
    let context = CallContext::new(TenantId::new("tenant", tenant).unwrap(), "test", PATIENCE);
    let request = wire::GetSloRecommendationsRequest {
        service_id: service_id.into(),
        region: region.into(),
        ..Default::default()
    };
    let answer = mesh.client.clone().get_slo_recommendations(context.request(request)).await?.into_inner();
    Ok(answer.recommendation.unwrap())
}

async fn ask(mesh: &Mesh, region: &str) -> Result<wire::Recommendation, Status> {
    ask_of(mesh, "default", "checkout", region).await
}

/// What checkout answers is split: a tenth in the region `us`, which has most of the failures.
fn split_checkout(world: &World, tenant: &str) {
    let whole = world.histories.lock().unwrap()["checkout"].clone();
    let us = |bucket: &SliBucket| {
        let valid = bucket.valid_count / 10;
        let bad = bucket.bad_count.min(valid) + u64::from(valid > bucket.bad_count);
        SliBucket { valid_count: valid, bad_count: bad.min(valid), ..without_detail(bucket) }
    };
    let eu = |bucket: &SliBucket| SliBucket {
        valid_count: bucket.valid_count - bucket.valid_count / 10,
        bad_count: bucket.bad_count / 20,
        ..without_detail(bucket)
    };
    let mut regional = world.regional.lock().unwrap();
    let key = |region: &str| (tenant.to_owned(), "checkout".to_owned(), region.to_owned());
    regional.insert(key("us"), whole.iter().map(us).collect());
    regional.insert(key("eu"), whole.iter().map(eu).collect());
}

fn without_detail(bucket: &SliBucket) -> SliBucket {
    SliBucket { start_time: bucket.start_time, ..SliBucket::default() }
}

fn balanced(of: &wire::Recommendation) -> f64 {
    of.slis[0].offers.iter().find(|offer| offer.ambition() == Ambition::Balanced).unwrap().target_ratio
}

#[tokio::test]
async fn the_worst_region_is_named_and_each_is_decided_on_by_itself() {
    let mesh = Mesh::start().await;
    assert_eq!(mesh.recommend("checkout").await.regions, None, "no telemetry tells a region");
    split_checkout(&mesh.world, "default");
    mesh.world.touch_measurements("checkout");
    mesh.clock.set(NOW_MS + 2 * 3_600_000);

    let whole = mesh.recommend("checkout").await;
    let outlook = whole.regions.clone().unwrap();
    let names: Vec<&str> = outlook.regions.iter().map(|of| of.region.as_str()).collect();
    assert_eq!((names, outlook.worst_region.as_str()), (vec!["eu", "us"], "us"));
    assert_eq!(outlook.hidden_regions, ["us"]);
    assert_eq!(outlook.whole_target_ratio, Some(balanced(&whole)));
    assert!(whole.explanation.contains("us is the worst"), "{}", whole.explanation);

    for summary in &outlook.regions {
        let region = ask(&mesh, &summary.region).await.unwrap();
        assert_eq!(
            (region.id.clone(), region.region.clone()),
            (format!("{}@{}", whole.id, summary.region), summary.region.clone())
        );
        assert_eq!((region.version, region.create_time), (whole.version, whole.create_time));
        assert_eq!(summary.balanced_target_ratio, Some(balanced(&region)));
        let measured = region.slis[0].measured.unwrap();
        assert_eq!((measured.attained_ratio, measured.valid_count), (summary.attained_ratio, summary.valid_count));
        assert!(region.slis.iter().all(|sli| sli.kind() == SliKind::Availability), "latency is not kept by region");
        assert_eq!(region.data.as_ref().unwrap().sources, [Source::OtlpMetrics as i32]);
        assert!(region.explanation.starts_with(&format!("In {}:", summary.region)), "{}", region.explanation);
        assert_eq!((region.regions.clone(), region.suggested.len()), (None, 0));

        let get = wire::GetRecommendationRequest { recommendation_id: region.id.clone() };
        let got = mesh.client.clone().get_recommendation(get).await.unwrap().into_inner();
        assert_eq!((got.recommendation, got.lifecycle), (Some(region.clone()), None));
        let replay = wire::ReplayRecommendationRequest { recommendation_id: region.id };
        let replayed = mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner();
        assert!(replayed.identical && replayed.stored_sha256 == summary.result_sha256, "{replayed:?}");
    }
    assert!(balanced(&ask(&mesh, "us").await.unwrap()) < balanced(&ask(&mesh, "eu").await.unwrap()));
    let replay = wire::ReplayRecommendationRequest { recommendation_id: whole.id };
    assert!(mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner().identical);

    // Reads name the region; what cannot be meant of a region alone is refused.
    let read_of_us = async {
        // Reads are written behind, several at a time.
        while !mesh.audit_records(false).await.iter().any(|record| record.detail_json.contains("@us\"")) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let written = tokio::time::timeout(std::time::Duration::from_secs(30), read_of_us).await;
    written.expect("the read of a region is in the audit log");
}

#[tokio::test]
async fn what_cannot_be_meant_of_a_region_is_refused_by_name() {
    let mesh = Mesh::start().await;
    split_checkout(&mesh.world, "default");
    let status = ask(&mesh, "mars").await.unwrap_err();
    assert_eq!(fault(&status), ("region".into(), "unknown_region".into()));
    let details = tonic_types::StatusExt::get_error_details(&status);
    let said = &details.bad_request().unwrap().field_violations[0].description;
    assert!(said.contains("eu, us"), "{said}");
    let none = ask_of(&mesh, "default", "inventory", "eu").await.unwrap_err();
    assert_eq!(fault(&none), ("region".into(), "unknown_region".into()));

    let id = ask(&mesh, "us").await.unwrap().id;
    let accept = wire::DecideSloRequest {
        service_id: "checkout".into(),
        action: DecisionAction::Accept as i32,
        recommendation_id: id.clone(),
        ambition: Ambition::Balanced as i32,
        ..wire::DecideSloRequest::default()
    };
    let of_a_region = ("recommendation_id".to_owned(), "of_a_region".to_owned());
    assert_eq!(fault(&mesh.decide(accept).await.unwrap_err()), of_a_region);
    let compare = wire::GetRecommendationChangesRequest { recommendation_id: id.clone(), since: String::new() };
    assert_eq!(fault(&mesh.client.clone().get_recommendation_changes(compare).await.unwrap_err()), of_a_region);
    let feedback = wire::SubmitFeedbackRequest {
        recommendation_id: id.clone(),
        feedback_kind: wire::FeedbackKind::TooStrict as i32,
        kind: SliKind::Availability as i32,
        ..Default::default()
    };
    assert_eq!(fault(&mesh.client.clone().submit_feedback(feedback).await.unwrap_err()), of_a_region);
    let get = wire::GetRecommendationRequest { recommendation_id: id.replace("@us", "@mars") };
    let status = mesh.client.clone().get_recommendation(get).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
}

#[tokio::test]
async fn a_region_of_another_tenant_is_never_seen() {
    let mesh = Mesh::start().await;
    split_checkout(&mesh.world, "other");
    let (own, others) = (mesh.recommend("checkout").await, ask_of(&mesh, "other", "checkout", "us").await.unwrap());
    assert_eq!((own.regions, others.region.as_str()), (None, "us"));
    assert_eq!(fault(&ask(&mesh, "us").await.unwrap_err()), ("region".into(), "unknown_region".into()));
    let get = wire::GetRecommendationRequest { recommendation_id: others.id.clone() };
    let status = mesh.client.clone().get_recommendation(get).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
    let replay = wire::ReplayRecommendationRequest { recommendation_id: others.id };
    let status = mesh.client.clone().replay_recommendation(replay).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()));
}

#[tokio::test]
async fn what_runs_in_other_regions_does_not_count_in_the_ceiling() {
    let mesh = Mesh::start().await;
    split_checkout(&mesh.world, "default");
    let ceiling = async |region: &str| ask(&mesh, region).await.unwrap().slis[0].ceiling_ratio.unwrap();
    let without = [ceiling("").await, ceiling("eu").await, ceiling("us").await];
    for region in ["eu", "us"] {
        let pool = format!("pool-{region}");
        mesh.world.entity(&pool, EntityKind::NodePool, Tier::Tier2);
        let mut entities = mesh.world.entities.lock().unwrap();
        let entity = entities.get_mut(&pool).unwrap();
        entity.region = region.into();
        entity.published_availability_ratio = Some(if region == "us" { 0.9 } else { 0.95 });
        drop(entities);
        mesh.world.depend("checkout", &pool);
    }
    mesh.world.touch("default", "checkout", TOPOLOGY);
    let with = [ceiling("").await, ceiling("eu").await, ceiling("us").await];
    // The whole pays for both pools, a region for its own alone.
    for ((before, after), pools) in without.iter().zip(with).zip([0.95 * 0.9, 0.95, 0.9]) {
        assert!((after / before - pools).abs() < 0.005, "{before} became {after}, and not {pools} of it");
    }
}

#[tokio::test]
async fn where_regions_cannot_be_read_the_whole_says_so_and_a_region_is_unreachable() {
    let mesh = Mesh::start().await;
    split_checkout(&mesh.world, "default");
    mesh.world.regions_down.store(true, Ordering::SeqCst);
    let whole = mesh.recommend("checkout").await;
    assert_eq!(whole.missing_inputs[0].name, "regional_history");
    let status = ask(&mesh, "us").await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "MEMBER_UNREACHABLE".into()));
}
