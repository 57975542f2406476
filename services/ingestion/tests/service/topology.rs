//! Services and edges: kept, listed, and told by what changed.

use super::*;

#[tokio::test]
async fn a_graph_is_kept_but_for_the_rows_that_cannot_be_right() {
    let mut served = Served::start().await;
    let edge = |caller: &str, callee: &str| words::Dependency {
        caller_id: caller.into(),
        callee_id: callee.into(),
        ..Default::default()
    };
    let request = wire::IngestDependenciesRequest {
        services: vec![
            declared("api-gateway", &["checkout", "api-gateway", "a b"]),
            declared("checkout", &["payment"]),
            wire::ServiceDeclaration { tier: 9, ..declared("auth", &["user-db"]) },
            wire::ServiceDeclaration { published_availability_ratio: Some(99.9), ..declared("psp", &[]) },
            wire::ServiceDeclaration {
                kind: 6,
                published_availability_ratio: Some(0.995),
                ..declared("payment-api", &[])
            },
            declared("", &[]),
        ]
        .into(),
        dependencies: vec![
            edge("checkout", "checkout"),
            words::Dependency { mode: 2, call_fraction: Some(0.5), ..edge("checkout", "payment") },
            words::Dependency { call_fraction: Some(f64::NAN), ..edge("checkout", "payment-api") },
            words::Dependency { call_fraction: Some(50.0), ..edge("checkout", "payment-api") },
            words::Dependency { call_rate: Some(-1.0), ..edge("checkout", "payment-api") },
            words::Dependency { redundancy_required_count: Some(0), ..edge("checkout", "payment-api") },
            words::Dependency { retry_count: Some(11), ..edge("checkout", "payment-api") },
            words::Dependency { mode: 7, ..edge("checkout", "payment-api") },
            edge("payment", "payment-api"),
        ]
        .into(),
    };
    let first = served.client.ingest_dependencies(request.clone()).await.unwrap().into_inner();
    assert_eq!((first.accepted_service_count, first.accepted_dependency_count), (3, 3));
    let expected = [
        (0, "/services/0/depends_on/1", "self_dependency"),
        (0, "/services/0/depends_on/2", "malformed_name"),
        (2, "/services/2/tier", "unknown_value"),
        (3, "/services/3/published_availability_ratio", "out_of_range"),
        (5, "/services/5/id", "required"),
        (0, "/dependencies/0/callee_id", "self_dependency"),
        (2, "/dependencies/2/call_fraction", "not_a_number"),
        (3, "/dependencies/3/call_fraction", "out_of_range"),
        (4, "/dependencies/4/call_rate", "out_of_range"),
        (5, "/dependencies/5/redundancy_required_count", "out_of_range"),
        (6, "/dependencies/6/retry_count", "out_of_range"),
        (7, "/dependencies/7/mode", "unknown_value"),
    ];
    assert_eq!(complaints(&first.rejected), expected);
    assert!(first.rejected.iter().all(|rejection| !rejection.reason.is_empty()));

    let topology = served.client.get_topology(wire::GetTopologyRequest::default()).await.unwrap().into_inner();
    assert_eq!(topology.version, first.topology_version);
    let (entities, edges) = (topology.entities.to_vec().unwrap(), topology.dependencies.to_vec().unwrap());
    let names: Vec<&str> = entities.iter().map(|entity| entity.id.as_str()).collect();
    assert_eq!(names, ["api-gateway", "checkout", "payment", "payment-api"]);
    let kinds: Vec<i32> = entities.iter().map(|entity| entity.kind).collect();
    assert_eq!(kinds, [1, 1, 1, 6]);
    let edges: Vec<_> = edges.iter().map(|d| (d.caller_id.as_str(), d.callee_id.as_str(), d.mode)).collect();
    // Listed: hard. Listed and told to be soft: soft. Told without a mode: not said.
    assert_eq!(edges, [("api-gateway", "checkout", 1), ("checkout", "payment", 2), ("payment", "payment-api", 0)]);

    let again = served.client.ingest_dependencies(request).await.unwrap().into_inner();
    assert_eq!(again, first);
    served.stop().await;
}

#[tokio::test]
async fn who_holds_a_version_of_the_topology_is_told_what_changed_since() {
    let mut served = Served::start().await;
    for services in [vec![declared("checkout", &["payment"]), declared("auth", &["user-db"])], Vec::new()] {
        let request = wire::IngestDependenciesRequest { services: services.into(), ..Default::default() };
        served.client.ingest_dependencies(request).await.unwrap();
    }
    let whole = served.client.get_topology(wire::GetTopologyRequest::default()).await.unwrap().into_inner();
    assert_eq!((whole.base_version, whole.changed_service_ids.len(), whole.dependencies.len()), (0, 0, 2));
    assert!(!whole.epoch.is_empty());

    let services = vec![declared("checkout", &["payment", "inventory"])].into();
    served
        .client
        .ingest_dependencies(wire::IngestDependenciesRequest { services, ..Default::default() })
        .await
        .unwrap();
    let held = wire::GetTopologyRequest { after_version: whole.version, epoch: whole.epoch.clone() };
    let part = served.client.get_topology(held.clone()).await.unwrap().into_inner();
    assert_eq!((part.base_version, &part.epoch), (whole.version, &whole.epoch));
    assert!(part.version > whole.version);
    assert_eq!(part.changed_service_ids, ["checkout", "inventory"]);
    let ids: Vec<String> = part.entities.to_vec().unwrap().into_iter().map(|entity| entity.id).collect();
    assert_eq!(ids, ["checkout", "inventory"]);
    assert_eq!(part.dependencies.len(), 2, "all edges of checkout, also the one that is held");

    let other = wire::GetTopologyRequest { epoch: "another".into(), ..held };
    let told = served.client.get_topology(other).await.unwrap().into_inner();
    assert_eq!((told.base_version, told.dependencies.len()), (0, 3));
    served.stop().await;
}

#[tokio::test]
async fn services_are_listed_page_by_page() {
    let mut served = Served::start().await;
    let services = (0..7).map(|i| declared(&format!("service-{i}"), &[])).collect();
    let request = wire::IngestDependenciesRequest { services, ..Default::default() };
    served.client.ingest_dependencies(request).await.unwrap();
    let mut names = Vec::new();
    let mut request = wire::ListServicesRequest { query: "SERVICE".into(), page_size: 3, ..Default::default() };
    loop {
        let page = served.client.list_services(request.clone()).await.unwrap().into_inner();
        assert!(page.services.len() <= 3);
        names.extend(page.services.into_iter().map(|service| service.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, (0..7).map(|i| format!("service-{i}")).collect::<Vec<_>>());

    let of_kind =
        |id: &str, kind: words::EntityKind| wire::ServiceDeclaration { kind: kind.into(), ..declared(id, &[]) };
    let zones = ["zone-a", "zone-b"].map(|id| of_kind(id, words::EntityKind::Zone));
    let services = zones.into_iter().chain([of_kind("zone-of-no-kind", words::EntityKind::System)]).collect();
    let request = wire::IngestDependenciesRequest { services, ..Default::default() };
    served.client.ingest_dependencies(request).await.unwrap();
    let mut zones =
        wire::ListServicesRequest { page_size: 1, kind: words::EntityKind::Zone.into(), ..Default::default() };
    for (id, more) in [("zone-a", true), ("zone-b", false)] {
        let page = served.client.list_services(zones.clone()).await.unwrap().into_inner();
        assert_eq!((page.services[0].id.as_str(), !page.next_page_token.is_empty()), (id, more));
        zones.page_token = page.next_page_token;
    }
    let unknown = wire::ListServicesRequest { kind: 99, ..Default::default() };
    assert_eq!(served.client.list_services(unknown).await.unwrap_err().code(), Code::InvalidArgument);
    served.stop().await;
}
