use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1::{DependencyMode, Tier};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{Mesh, reason};

async fn compare(mesh: &Mesh, id: &str, since: &str) -> Result<wire::GetRecommendationChangesResponse, Status> {
    let request = wire::GetRecommendationChangesRequest { recommendation_id: id.into(), since: since.into() };
    mesh.client.clone().get_recommendation_changes(request).await.map(tonic::Response::into_inner)
}

type Told<'a> = (wire::RecommendationPart, &'a str, &'a str, Option<&'a str>, Option<&'a str>);

fn told(differences: &[wire::RecommendationDifference]) -> Vec<Told<'_>> {
    differences.iter().map(one).collect()
}

fn one(difference: &wire::RecommendationDifference) -> Told<'_> {
    let wire::RecommendationDifference { subject, field, before, after, .. } = difference;
    (difference.part(), subject, field, before.as_deref(), after.as_deref())
}

/// One that names a field which cannot be right, and why.
fn violation(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    (status.code(), violation.field.clone(), violation.description.clone())
}

#[tokio::test]
async fn what_changed_between_two_recommendations_is_told_after_a_restart_too() {
    use wire::RecommendationPart::{Component, Dependency, Effect, Input, Service};
    let mut mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    {
        let mut dependencies = mesh.world.dependencies.lock().unwrap();
        dependencies.retain(|edge| (edge.caller_id.as_str(), edge.callee_id.as_str()) != ("checkout", "inventory"));
        let payment = dependencies.iter_mut().find(|edge| edge.callee_id == "payment").unwrap();
        payment.mode = DependencyMode::Soft as i32;
        payment.fallback_success_ratio = Some(0.9);
    }
    mesh.world.entities.lock().unwrap().get_mut("checkout").unwrap().tier = Tier::Tier1 as i32;
    mesh.world.depend("checkout", "user-db");
    mesh.world.touch_topology("checkout");
    mesh.declare("checkout", 0.99).await;
    let second = mesh.recommend("checkout").await;
    mesh.restart().await;

    let changes = compare(&mesh, &second.id, "").await.unwrap();
    let version = |version: &Option<wire::RecommendationVersion>| {
        let version = version.as_ref().unwrap();
        (version.recommendation_id.clone(), version.service_id.clone(), version.version)
    };
    assert_eq!(version(&changes.before), (first.id.clone(), "checkout".into(), 1));
    assert_eq!(version(&changes.after), (second.id.clone(), "checkout".into(), 2));
    assert!(changes.without_inputs.is_empty());
    let found = told(&changes.differences);
    for expected in [
        (Dependency, "inventory", "mode", Some("hard"), None),
        (Dependency, "payment", "mode", Some("hard"), Some("soft")),
        (Dependency, "payment", "fallback_success_ratio", None, Some("0.9")),
        (Dependency, "user-db", "mode", None, Some("hard")),
        (Service, "", "tier", Some("tier_2"), Some("tier_1")),
        (Service, "availability", "slo_in_force", None, Some("0.99")),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not among {found:#?}");
    }
    assert!(found.iter().any(|&(part, id, field, was, _)| {
        (part, id, field, was) == (Component, "user-db", "contribution_ratio", None)
    }));
    // A fallback between leaves less of the provider's failures.
    let provider = found.iter().find(|told| (told.0, told.1, told.2) == (Component, "provider", "birnbaum")).unwrap();
    let [was, is] = [provider.3, provider.4].map(|ratio| ratio.unwrap().parse::<f64>().unwrap());
    assert!(is < 0.2 * was, "{is} after {was}");
    assert!(found.iter().any(|told| (told.0, told.2) == (Effect, "ceiling_ratio")));
    assert!(found.iter().any(|told| (told.0, told.2) == (Input, "graph_version")));
    assert!(found.is_sorted_by_key(|told| told.0), "part by part: {found:#?}");
    assert!(changes.differences.iter().all(|difference| difference.detail.len() > 20), "{:#?}", changes.differences);

    // The other way round the same things are the other way round.
    let back = compare(&mesh, &first.id, &second.id).await.unwrap();
    let mut mirrored: Vec<Told<'_>> =
        told(&back.differences).into_iter().map(|(part, id, field, was, is)| (part, id, field, is, was)).collect();
    let mut found = found;
    found.sort_unstable();
    mirrored.sort_unstable();
    assert_eq!(mirrored, found);
    assert!(compare(&mesh, &second.id, &second.id).await.unwrap().differences.is_empty());
}

#[tokio::test]
async fn without_the_inputs_only_what_the_recommendations_say_is_compared() {
    let mesh = Mesh::start().await;
    let first = mesh.recommend("checkout").await;
    mesh.world.depend("checkout", "user-db");
    mesh.world.touch_topology("checkout");
    mesh.declare("checkout", 0.99).await;
    let second = mesh.recommend("checkout").await;
    mesh.tamper("DELETE FROM inputs WHERE version = 1").await;
    let changes = compare(&mesh, &second.id, &first.id).await.unwrap();
    assert_eq!(changes.without_inputs, [first.id]);
    let found = told(&changes.differences);
    assert!(found.contains(&(wire::RecommendationPart::Service, "availability", "slo_in_force", None, Some("0.99"))));
    assert!(!found.iter().any(|told| told.0 == wire::RecommendationPart::Dependency), "{found:#?}");
}

#[tokio::test]
async fn what_cannot_be_compared_is_said() {
    let mesh = Mesh::start().await;
    let (checkout, auth) = (mesh.recommend("checkout").await, mesh.recommend("auth").await);
    for (id, since) in [("rec-nothing", ""), (checkout.id.as_str(), "rec-nothing")] {
        let unknown = compare(&mesh, id, since).await.unwrap_err();
        assert_eq!(reason(&unknown), (Code::NotFound, "UNKNOWN_RECOMMENDATION".into()), "{id} since {since}");
    }
    let (code, field, why) = violation(&compare(&mesh, &checkout.id, &auth.id).await.unwrap_err());
    assert_eq!((code, field.as_str()), (Code::InvalidArgument, "since"));
    assert!(why.contains("another_service") && why.contains("auth") && why.contains("checkout"), "{why}");
    let (code, field, why) = violation(&compare(&mesh, &checkout.id, "").await.unwrap_err());
    assert_eq!((code, field.as_str()), (Code::InvalidArgument, "since"));
    assert!(why.contains("no_version_before"), "{why}");
}
