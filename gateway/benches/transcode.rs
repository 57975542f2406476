//! What JSON costs the gateway: a dependency graph of 5,000 services and 15,000 edges in one body becomes the request that is
//! sent on, and the dependencies of a hub become the body of an answer. Sizes are bytes of JSON.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use attain_gateway::fuzzing::{answer, request};
use attain_proto::graph::v1::{GetDependenciesResponse, ReachedEntity};
use attain_proto::vocabulary::v1::{Dependency, Entity};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use serde_json::{Value, json};

const SERVICES: u64 = 5_000;
const EDGES: u64 = 15_000;

fn name(number: u64) -> String {
    format!("team-{}/service-{number}", number % 97)
}

/// Caller and callee of an edge.
fn ends(edge: u64) -> (u64, u64) {
    let caller = edge % SERVICES;
    (caller, (caller + 1 + edge * 7 % (SERVICES - 1)) % SERVICES)
}

/// The body that `load-tests graph` sends.
fn graph() -> String {
    let service = |number: u64| {
        json!({
            "id": name(number), "display_name": format!("Service {number}"), "tier": format!("tier_{}", number % 4 + 1),
            "owner": format!("team-{}", number % 97), "region": "eu-west-1",
        })
    };
    let edge = |edge: u64| {
        let (caller, callee) = ends(edge);
        json!({
            "caller_id": name(caller), "callee_id": name(callee), "mode": if callee % 5 == 0 { "soft" } else { "hard" },
            "call_fraction": 0.8, "protocol": "grpc", "timeout_ms": 500,
        })
    };
    let (services, dependencies): (Vec<Value>, Vec<Value>) =
        ((0..SERVICES).map(service).collect(), (0..EDGES).map(edge).collect());
    json!({"services": services, "dependencies": dependencies}).to_string()
}

/// A thousand services around one, and three thousand edges between them.
fn hub() -> Vec<u8> {
    let entity = |number: u64| ReachedEntity {
        entity: Some(Entity {
            id: name(number),
            display_name: format!("Service {number}"),
            tier: 2,
            owner: format!("team-{}", number % 97),
            sources: vec![1, 2],
            ..Entity::default()
        }),
        ..ReachedEntity::default()
    };
    let dependency = |edge: u64| Dependency {
        caller_id: name(ends(edge).0),
        callee_id: name(ends(edge).1),
        mode: 1,
        call_fraction: Some(0.8),
        protocol: "grpc".into(),
        sources: vec![1],
        first_seen_time: Some(attain_proto::convert::timestamp(1_793_491_200_000)),
        observed_call_count: edge,
        ..Dependency::default()
    };
    let answer = GetDependenciesResponse {
        entities: (0..1_000).map(entity).collect(),
        dependencies: (0..3_000).map(dependency).collect(),
        ..GetDependenciesResponse::default()
    };
    answer.encode_to_vec()
}

fn transcode(criterion: &mut Criterion) {
    let (graph, hub) = (graph(), hub());
    let mut group = criterion.benchmark_group("transcode");
    group.throughput(Throughput::Bytes(graph.len() as u64));
    group.bench_function("request/5,000 services and 15,000 edges", |bencher| {
        bencher.iter(|| request("IngestDependencies", black_box(graph.as_bytes())).unwrap());
    });
    group.throughput(Throughput::Bytes(answer("GetDependencies", &hub).unwrap().len() as u64));
    group.bench_function("answer/1,000 services and 3,000 edges", |bencher| {
        bencher.iter(|| answer("GetDependencies", black_box(&hub)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, transcode);
criterion_main!(benches);
