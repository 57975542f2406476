//! How much risk the offers of a tier take is the tenant's to say.

use attain_proto::recommendation::v1 as wire;
use attain_proto::recommendation::v1::lifecycle_service_client::LifecycleServiceClient;
use attain_proto::vocabulary::v1::Tier;
use tonic::Status;

use crate::harness::{Mesh, fault};

/// Sets the risks of tier 2, all else as it holds.
async fn set(mesh: &Mesh, risks: Option<[f64; 3]>) -> Result<wire::DecisionPolicy, Status> {
    let mut client = LifecycleServiceClient::new(mesh.channel.clone());
    let policy = client.get_policy(wire::GetPolicyRequest::default()).await?.into_inner().policy.unwrap();
    let mut rules = policy.tiers.into_iter().find(|rules| rules.tier() == Tier::Tier2).unwrap();
    rules.miss_probabilities =
        risks.map(|[conservative, balanced, ambitious]| wire::MissProbabilities { conservative, balanced, ambitious });
    let request = wire::SetPolicyRequest { tiers: vec![rules], reason: "as agreed".into(), ..Default::default() };
    Ok(client.set_policy(request).await?.into_inner().policy.unwrap())
}

fn risks(recommendation: &wire::Recommendation) -> Vec<f64> {
    recommendation.slis[0].offers.iter().map(|offer| offer.miss_probability_max).collect()
}

#[tokio::test]
async fn offers_follow_the_risks_that_policy_sets_for_their_tier() {
    let mesh = Mesh::start().await;
    let (house, other_tier) = (mesh.recommend("checkout").await, mesh.recommend("auth").await);
    assert_eq!(risks(&house), [0.02, 0.10, 0.25]);
    let policy = set(&mesh, Some([0.001, 0.02, 0.10])).await.unwrap();
    let told: Vec<f64> = policy.tiers.iter().map(|rules| rules.miss_probabilities.unwrap().balanced).collect();
    assert_eq!(told, [0.10, 0.02, 0.10, 0.10]);

    let careful = mesh.recommend("checkout").await;
    assert_eq!((careful.version, risks(&careful)), (2, vec![0.001, 0.02, 0.10]));
    let offers = &careful.slis[0].offers;
    assert!(offers.iter().all(|offer| offer.miss_probability.unwrap() <= offer.miss_probability_max));
    assert_eq!(offers[1].target_ratio, house.slis[0].offers[0].target_ratio, "what was conservative is balanced now");
    assert_eq!(mesh.recommend("checkout").await.id, careful.id, "and stands as long as the policy does");
    assert_eq!(mesh.recommend("auth").await.id, other_tier.id, "another tier has other rules");
    let replay = wire::ReplayRecommendationRequest { recommendation_id: careful.id.clone() };
    assert!(mesh.client.clone().replay_recommendation(replay).await.unwrap().into_inner().identical);
    let changes = wire::GetRecommendationChangesRequest { recommendation_id: careful.id, since: house.id };
    let changes = mesh.client.clone().get_recommendation_changes(changes).await.unwrap().into_inner();
    assert!(format!("{changes:?}").contains("by policy the balanced offer may be missed with 2 %, before 10 %"));

    // The house's own risks said aloud are the house's.
    set(&mesh, Some([0.02, 0.10, 0.25])).await.unwrap();
    assert_eq!(risks(&mesh.recommend("checkout").await), [0.02, 0.10, 0.25]);
    set(&mesh, None).await.unwrap();
    assert_eq!(mesh.recommend("checkout").await.version, 3);
}

#[tokio::test]
async fn risks_that_cannot_be_meant_are_refused_by_name() {
    let mesh = Mesh::start().await;
    for (risks, field, code) in [
        ([0.0, 0.1, 0.2], "conservative", "out_of_range"),
        ([0.01, 0.1, 0.9], "ambitious", "out_of_range"),
        ([0.1, 0.05, 0.2], "balanced", "not_in_order"),
    ] {
        let refused = set(&mesh, Some(risks)).await.unwrap_err();
        assert_eq!(fault(&refused), (format!("tiers/0/miss_probabilities/{field}"), code.to_owned()));
    }
}
