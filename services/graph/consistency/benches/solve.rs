//! Time to solve a tenant: services that call downwards, targets by tier, a few cycles and soft edges.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use attain_consistency::{Edge, Fleet, Limits, Service, Weights, solve};
use attain_vocabulary::{EntityId, Objective, Tier};
use criterion::{Criterion, criterion_group, criterion_main};

const TIERS: [(Tier, f64); 4] = [(Tier::One, 0.999), (Tier::Two, 0.998), (Tier::Three, 0.995), (Tier::Four, 0.99)];

/// A fixed sequence of numbers below the bound.
fn sequence(bound: usize) -> impl FnMut() -> usize {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    }
}

/// Callees stand at most `reach` places further down, so that closures are deep but not everybody's; every second edge goes
/// to one of the hubs, which stand last; one in `promising` services has a target.
fn fleet(count: usize, edge_count: usize, reach: usize, hubs: usize, promising: usize) -> Fleet {
    let id = |number: usize| EntityId::new("service_id", &format!("s{number}")).unwrap();
    let mut draw = sequence(1 << 20);
    let service = |number: usize| {
        let (tier, target) = TIERS[number % 4];
        let target = number.is_multiple_of(promising).then(|| Objective::new("target_ratio", target).unwrap());
        Service { id: id(number), tier: Some(tier), target, fixed: false, own_floor: 1e-6 }
    };
    let services = (0..count).map(service).collect();
    let edges: Vec<Edge> = (0..edge_count)
        .map(|number| {
            let caller = draw() % count;
            let callee = match number % 2 {
                1 if hubs > 0 => count - 1 - draw() % hubs,
                _ => (caller + 1 + draw() % reach).min(count - 1),
            };
            let impact = if number % 3 == 0 { 0.2 } else { 1.0 };
            let (caller, callee) = if number % 1_000 == 0 { (callee, caller) } else { (caller, callee) };
            Edge { caller: id(caller), callee: id(callee), impact }
        })
        .collect();
    Fleet::new(services, &edges, &[]).unwrap()
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("solve");
    group.sample_size(10);
    let sizes = [
        (100, 300, 20, 0, 1),
        (1_000, 3_000, 50, 0, 1),
        (5_000, 15_000, 50, 0, 1),
        (5_000, 15_000, 500, 20, 1),
        (5_000, 15_000, 500, 20, 7),
    ];
    for (services, edges, reach, hubs, promising) in sizes {
        let fleet = fleet(services, edges, reach, hubs, promising);
        group.bench_function(
            format!("{services} services, {edges} edges, {hubs} hubs, a target in {promising}"),
            |bencher| {
                bencher.iter(|| solve(black_box(&fleet), &Weights::default(), &Limits::default(), None, None).unwrap());
            },
        );
    }
    group.finish();
}

criterion_group!(fleets, benches);
criterion_main!(fleets);
