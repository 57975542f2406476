//! The e-commerce system of the demo.
//!
//! Published figures over the last 30 days, which the simulation reproduces: api-gateway p99 250 ms and 0.1 % errors,
//! auth-service 50 ms and 0.05 %, checkout-service 800 ms and 0.5 %. SLOs in force: api-gateway 99.9 % and p95 < 200 ms,
//! checkout-service 99.5 % and p95 < 1000 ms. Everything else about the system is an assumption of this file.

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, SliBucket, SliKind, Tier, UnixMillis};

use crate::consumer::Consumer;
use crate::model::{Call, Component, DeclaredSlo, Episode, Simulation, System};
use crate::process;
use crate::regions::{RegionShare, split};

/// Days of history.
pub const DAYS: u32 = 30;
/// Seed of the published demo.
pub const SEED: u64 = 20;

/// Simulates 30 days of the system that end at the last full bucket before `end_ms`.
#[must_use]
pub fn simulate(seed: u64, end_ms: UnixMillis) -> Simulation {
    process::simulate(system(), seed, end_ms, DAYS)
}

/// The buckets of one component in each of two regions.
pub type InRegions = [(&'static str, Vec<SliBucket>); 2];

/// What of the shop is answered in two regions: checkout, in Europe and, a fifth of it, in America, where half of its failures are.
/// An assumption of this file, to show what the sum of both hides.
#[must_use]
pub fn regions(simulation: &Simulation, seed: u64) -> Vec<(EntityId, InRegions)> {
    let checkout = id("checkout-service");
    let europe = RegionShare { name: "eu-west-1", requests: 0.8, failures: 0.5 };
    let split = split(&simulation.buckets[&checkout], europe, "us-east-1", seed);
    vec![(checkout, split)]
}

/// The system: who calls whom, and how each component fails of its own.
#[must_use]
pub fn system() -> System {
    System {
        components: components(),
        calls: vec![
            call("api-gateway", "auth-service", 0.9, "grpc", 500),
            call("api-gateway", "product-service", 0.6, "grpc", 800),
            call("api-gateway", "checkout-service", 0.05, "grpc", 3000),
            call("auth-service", "user-db", 1.0, "sql", 300),
            call("checkout-service", "payment-service", 1.0, "grpc", 2500),
            call("checkout-service", "inventory-service", 1.0, "grpc", 500),
            call("payment-service", "external-payment-api", 1.0, "http", 2000),
        ],
        slos: vec![
            slo("api-gateway", SliKind::Availability, 0.999, 0),
            slo("api-gateway", SliKind::Latency, 0.95, 200),
            slo("checkout-service", SliKind::Availability, 0.995, 0),
            slo("checkout-service", SliKind::Latency, 0.95, 1000),
        ],
        entrance: id("api-gateway"),
        requests_per_second: 180.0,
    }
}

/// Who sends the confirmation of each order by mail, after checkout-service has answered: no part of the system above, since
/// nobody waits for it.
#[must_use]
pub fn mailer() -> Consumer {
    Consumer {
        id: id("order-mailer"),
        sender: id("checkout-service"),
        capacity_factor: 2.4,
        failure_ratio: 2.0e-4,
        seconds_p50: 1.6,
        slow: vec![(41_400, 30, 0.2), (30_540, 20, 0.1), (19_080, 45, 0.25), (7_620, 15, 0.0)],
    }
}

fn components() -> Vec<Component> {
    let service = |name, display_name, tier, owner, chronic, p50, p99| Component {
        id: id(name),
        display_name,
        kind: EntityKind::Service,
        tier,
        owner,
        published_availability_ratio: None,
        chronic_failure_ratio: chronic,
        episodes: episodes(name),
        latency_ms_p50: p50,
        latency_ms_p99: p99,
    };
    let auth_store = service("user-db", "User database", Tier::One, "team-identity", 2.0e-5, 3.0, 18.0);
    let provider = service("external-payment-api", "External payment API", Tier::Two, "provider", 5.5e-4, 70.0, 600.0);
    vec![
        service("api-gateway", "API gateway", Tier::One, "team-edge", 1.9e-4, 45.0, 250.0),
        service("auth-service", "Authentication", Tier::One, "team-identity", 2.9e-4, 12.0, 50.0),
        Component { kind: EntityKind::Datastore, ..auth_store },
        service("product-service", "Product catalogue", Tier::Two, "team-catalogue", 1.0e-4, 22.0, 120.0),
        service("checkout-service", "Checkout", Tier::One, "team-checkout", 9.1e-4, 120.0, 800.0),
        service("payment-service", "Payments", Tier::One, "team-payments", 1.5e-4, 85.0, 650.0),
        Component { kind: EntityKind::External, published_availability_ratio: Some(0.995), ..provider },
        service("inventory-service", "Inventory", Tier::Two, "team-warehouse", 1.5e-4, 15.0, 90.0),
    ]
}

/// Episodes: minutes before the end, minutes long, share of requests that fail meanwhile.
fn episodes(name: &str) -> Vec<Episode> {
    let table: &[(&str, &str, u32, u32, f64)] = match name {
        "external-payment-api" => &[
            ("INC-2101", "Payment provider answers 503 in one region", 40_320, 35, 0.42),
            ("INC-2104", "Payment provider time-outs after its release", 36_015, 25, 0.55),
            ("INC-2108", "Payment provider authorisation outage", 30_780, 45, 0.62),
            ("INC-2113", "Payment provider slow, then refusing", 25_200, 30, 0.35),
            ("INC-2117", "Payment provider rate limits our account", 19_530, 20, 0.30),
            ("INC-2121", "Payment provider certificate chain incomplete", 14_970, 25, 0.70),
            ("INC-2125", "Payment provider partial outage", 9_360, 40, 0.38),
            ("INC-2129", "Payment provider errors during maintenance", 3_885, 30, 0.33),
        ],
        "user-db" => &[
            ("INC-2106", "User database fails over", 33_120, 5, 0.55),
            ("INC-2123", "User database runs out of connections", 11_610, 15, 0.35),
        ],
        "auth-service" => &[("INC-2115", "Authentication rejects tokens after key rotation", 22_275, 10, 0.28)],
        "api-gateway" => &[
            ("INC-2110", "Gateway configuration rollout reverted", 28_440, 5, 0.22),
            ("INC-2127", "Gateway drops connections while scaling in", 6_240, 5, 0.12),
        ],
        "inventory-service" => &[("INC-2119", "Inventory lock contention during stock import", 17_460, 25, 0.22)],
        "checkout-service" => &[("INC-2112", "Checkout release rolled back", 26_730, 10, 0.3)],
        "product-service" => &[("INC-2120", "Product cache stampede", 16_200, 10, 0.15)],
        _ => &[],
    };
    table
        .iter()
        .map(|(incident_id, title, minutes_before_end, minutes, failure_ratio)| Episode {
            incident_id: (*incident_id).to_owned(),
            title: (*title).to_owned(),
            minutes_before_end: *minutes_before_end,
            minutes: *minutes,
            failure_ratio: *failure_ratio,
        })
        .collect()
}

fn call(caller: &str, callee: &str, call_fraction: f64, protocol: &'static str, timeout_ms: u32) -> Call {
    Call { caller: id(caller), callee: id(callee), mode: DependencyMode::Hard, call_fraction, protocol, timeout_ms }
}

fn slo(service: &str, kind: SliKind, target_ratio: f64, latency_threshold_ms: u32) -> DeclaredSlo {
    DeclaredSlo { service_id: id(service), kind, target_ratio, latency_threshold_ms }
}

fn id(name: &str) -> EntityId {
    EntityId::new("id", name).expect("the names of this file are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_vocabulary::LatencyHistogram;

    const END_MS: UnixMillis = 1_793_000_000_000;

    fn error_percent_and_p99(simulation: &Simulation, service: &str) -> (f64, f64) {
        let buckets = &simulation.buckets[&id(service)];
        let valid: u64 = buckets.iter().map(|bucket| bucket.counts.valid()).sum();
        let bad: u64 = buckets.iter().map(|bucket| bucket.counts.bad()).sum();
        let mut latency = LatencyHistogram::empty();
        buckets.iter().filter_map(|bucket| bucket.latency.as_ref()).for_each(|histogram| latency.merge(histogram));
        (100.0 * bad as f64 / valid as f64, latency.quantile(0.99).expect("not empty"))
    }

    #[test]
    fn the_published_figures_come_out() {
        let simulation = simulate(SEED, END_MS);
        for (service, error_percent, p99_ms) in
            [("api-gateway", 0.1, 250.0), ("auth-service", 0.05, 50.0), ("checkout-service", 0.5, 800.0)]
        {
            let (errors, p99) = error_percent_and_p99(&simulation, service);
            assert!((errors / error_percent - 1.0).abs() < 0.05, "{service}: {errors} % errors");
            assert!((p99 / p99_ms - 1.0).abs() < 0.02, "{service}: p99 {p99} ms");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_data_and_the_end_only_moves_it() {
        let (a, b, later) = (simulate(1, END_MS), simulate(1, END_MS), simulate(1, END_MS + 3_600_000));
        assert_eq!(a.buckets, b.buckets);
        for (id, buckets) in &a.buckets {
            let same =
                buckets.iter().zip(&later.buckets[id]).all(|(x, y)| x.counts == y.counts && x.latency == y.latency);
            assert!(same, "{id}");
        }
        assert_ne!(simulate(2, END_MS).buckets, a.buckets);
    }

    #[test]
    fn incidents_name_their_cause_and_everybody_above() {
        let simulation = simulate(SEED, END_MS);
        let outage = simulation.incidents.iter().find(|incident| incident.id == "INC-2108").expect("in the table");
        let affected: Vec<&str> = outage.affected.iter().map(EntityId::as_str).collect();
        assert_eq!(affected, ["api-gateway", "checkout-service", "external-payment-api", "payment-service"]);
        assert_eq!(outage.end_ms - outage.start_ms, 45 * 60_000);
    }
}
