//! Offers beside the targets of what a service depends on.

use std::sync::atomic::Ordering;

use attain_proto::recommendation::v1 as wire;

use crate::harness::Mesh;
use crate::world::NOW_MS;

fn balanced(recommendation: &wire::Recommendation) -> &wire::Offer {
    recommendation.slis[0].offers.iter().find(|offer| offer.ambition() == wire::Ambition::Balanced).unwrap()
}

#[tokio::test]
async fn an_offer_that_is_stricter_than_a_callee_promises_is_marked_and_another_one_given() {
    let mesh = Mesh::start().await;
    let alone = mesh.recommend("checkout").await;
    let offer = balanced(&alone);
    assert_eq!((offer.limited_by.as_ref(), offer.consistent_target_ratio), (None, None));

    mesh.declare("payment", 0.9).await;
    mesh.world.touch_measurements("checkout");
    mesh.clock.set(NOW_MS + 10_000);
    let beside = mesh.recommend("checkout").await;
    assert_eq!(beside.missing_inputs, []);
    for offer in &beside.slis[0].offers {
        let limit = offer.limited_by.as_ref().unwrap();
        assert_eq!(
            (limit.callee_id.as_str(), &limit.chain[..]),
            ("payment", &["checkout".into(), "payment".into()][..])
        );
        assert_eq!(offer.consistent_target_ratio, Some(0.9));
        assert!((limit.needed_ratio - 0.1).abs() < 1e-9);
    }
    assert_eq!(balanced(&beside).target_ratio, offer.target_ratio);
    assert!(beside.explanation.contains("stricter than payment promises"), "{}", beside.explanation);
    let request = wire::ReplayRecommendationRequest { recommendation_id: beside.id.clone() };
    let replay = mesh.client.clone().replay_recommendation(request).await.unwrap().into_inner();
    assert!(replay.identical);
}

#[tokio::test]
async fn what_was_recommended_below_counts_where_no_slo_is_in_force() {
    let mesh = Mesh::start().await;
    let (callee, caller) = (mesh.recommend("payment").await, mesh.recommend("checkout").await);
    for offer in &caller.slis[0].offers {
        let same = callee.slis[0].offers.iter().find(|other| other.ambition == offer.ambition).unwrap();
        let promised = same.consistent_target_ratio.unwrap_or(same.target_ratio);
        assert_eq!(offer.limited_by.is_some(), offer.target_ratio > promised, "{offer:?} beside {promised}");
        assert!(offer.consistent_target_ratio.unwrap_or(offer.target_ratio) <= promised);
    }
}

#[tokio::test]
async fn an_answer_says_when_the_fleet_could_not_be_asked() {
    let mesh = Mesh::start().await;
    mesh.declare("payment", 0.9).await;
    mesh.world.targets_down.store(true, Ordering::SeqCst);
    let answer = mesh.recommend("checkout").await;
    let names: Vec<&str> = answer.missing_inputs.iter().map(|missing| missing.name.as_str()).collect();
    assert_eq!(names, ["fleet"]);
    assert!(balanced(&answer).limited_by.is_none() && !answer.slis[0].offers.is_empty());
}
