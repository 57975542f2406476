//! Draws components, calls and domains.
//!
//! Shapes after what is published of large systems: few entrances, several layers of services that call a few others, the
//! popular ones far oftener; shared datastores, some of them replicated; external parties. None of the figures is of a system
//! that exists.

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, Tier};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal};

use super::{Call, Class, Component, Domain, Fleet, Law, Seen};

/// Fewest components of a fleet: one of each class.
const COMPONENTS_MIN: usize = 5;
const LAYERS: usize = 4;
const AGE_DAYS: u32 = 400;

impl Fleet {
    /// Draws a fleet of `count` components, at least five. The same seed gives the same fleet.
    #[must_use]
    pub fn draw(seed: u64, count: usize) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let classes = classes(count.max(COMPONENTS_MIN));
        let layers: Vec<usize> = classes.iter().map(|class| layer(*class, &mut random)).collect();
        let calls = calls(&classes, &layers, &mut random);
        let traffic = traffic(&classes, &layers, &calls, &mut random);
        let components = classes
            .iter()
            .zip(traffic)
            .enumerate()
            .map(|(at, (class, requests_per_second))| component(at, *class, requests_per_second, &mut random))
            .collect();
        let domains = domains(classes.len(), &mut random);
        Self::new(components, calls, domains)
    }
}

/// In a fixed proportion: 6 % entrances, 8 % external parties, 12 % of little traffic, 20 % datastores, services else.
fn classes(count: usize) -> Vec<Class> {
    let share = |share: f64| ((share * count as f64).round() as usize).max(1);
    let mut classes = Vec::with_capacity(count);
    for (class, share) in [
        (Class::Entrance, share(0.06)),
        (Class::LowTraffic, share(0.12)),
        (Class::Datastore, share(0.2)),
        (Class::External, share(0.08)),
    ] {
        classes.extend(std::iter::repeat_n(class, share));
    }
    classes.resize(count.max(classes.len() + 1), Class::Service);
    classes
}

fn layer(class: Class, random: &mut ChaCha8Rng) -> usize {
    match class {
        Class::Entrance | Class::LowTraffic => 0,
        Class::Service => random.random_range(1..=LAYERS),
        Class::Datastore | Class::External => LAYERS + 1,
    }
}

fn calls(classes: &[Class], layers: &[usize], random: &mut ChaCha8Rng) -> Vec<Call> {
    let of = |class: Class| -> Vec<usize> { (0..classes.len()).filter(|at| classes[*at] == class).collect() };
    let (services, datastores, externals) = (of(Class::Service), of(Class::Datastore), of(Class::External));
    let mut calls = Vec::new();
    for (caller, class) in classes.iter().enumerate() {
        let deeper: Vec<usize> = services.iter().copied().filter(|at| layers[*at] > layers[caller]).collect();
        let (of_services, of_datastores) = match class {
            Class::Entrance => (random.random_range(2..=5), 0),
            Class::Service => (random.random_range(0..=3), random.random_range(0..=2)),
            Class::LowTraffic => (random.random_range(1..=2), random.random_range(0..=1)),
            Class::Datastore | Class::External => continue,
        };
        for _ in 0..of_services {
            calls.extend(popular(&deeper, random).map(|callee| to_service(caller, callee, random)));
        }
        let replicated = of_datastores == 2 && datastores.len() > 1 && random.random_bool(0.5);
        for _ in 0..of_datastores {
            let fraction = random.random_range(0.4..1.0);
            let datastore = popular(&datastores, random);
            calls.extend(datastore.map(|callee| to_datastore(caller, callee, fraction, replicated, random)));
        }
        if *class == Class::Service && random.random_bool(0.2) {
            calls.extend(popular(&externals, random).map(|callee| to_external(caller, callee, random)));
        }
        // Now and then somebody below calls back.
        let above: Vec<usize> =
            services.iter().copied().filter(|at| layers[*at] < layers[caller] && layers[caller] <= LAYERS).collect();
        if random.random_bool(0.05) {
            let fraction = random.random_range(0.02..0.1);
            let back = |callee| Call {
                caller,
                callee,
                mode: DependencyMode::Soft,
                call_fraction: fraction,
                fallback_success_ratio: Some(0.5),
                replicated: false,
            };
            calls.extend(popular(&above, random).map(back));
        }
    }
    calls.retain(|call| call.caller != call.callee);
    calls
}

/// One of them, those at the front far oftener.
fn popular(among: &[usize], random: &mut ChaCha8Rng) -> Option<usize> {
    let share: f64 = random.random();
    among.get((share * share * among.len() as f64) as usize).copied()
}

fn to_service(caller: usize, callee: usize, random: &mut ChaCha8Rng) -> Call {
    let call_fraction = random.random_range(0.1..1.0);
    let kind: f64 = random.random();
    let (mode, fallback_success_ratio) = if kind < 0.6 {
        (DependencyMode::Hard, None)
    } else if kind < 0.85 {
        (DependencyMode::Soft, Some(random.random_range(0.7..0.98)))
    } else {
        (DependencyMode::Async, None)
    };
    Call { caller, callee, mode, call_fraction, fallback_success_ratio, replicated: false }
}

fn to_datastore(caller: usize, callee: usize, call_fraction: f64, replicated: bool, random: &mut ChaCha8Rng) -> Call {
    let soft = !replicated && random.random_bool(0.2);
    let fallback_success_ratio = soft.then(|| random.random_range(0.7..0.98));
    let mode = if soft { DependencyMode::Soft } else { DependencyMode::Hard };
    Call { caller, callee, mode, call_fraction, fallback_success_ratio, replicated }
}

fn to_external(caller: usize, callee: usize, random: &mut ChaCha8Rng) -> Call {
    let call_fraction = random.random_range(0.05..0.4);
    let soft = random.random_bool(0.5);
    let fallback_success_ratio = soft.then(|| random.random_range(0.6..0.95));
    let mode = if soft { DependencyMode::Soft } else { DependencyMode::Hard };
    Call { caller, callee, mode, call_fraction, fallback_success_ratio, replicated: false }
}

/// Requests a second: what comes from outside, and what callers above pass on.
fn traffic(classes: &[Class], layers: &[usize], calls: &[Call], random: &mut ChaCha8Rng) -> Vec<f64> {
    let from_outside = |class: &Class| match class {
        Class::Entrance => 10f64.powf(random.random_range(0.0..2.0)),
        Class::LowTraffic => 10f64.powf(random.random_range(-2.3..-1.0)),
        Class::Service | Class::Datastore | Class::External => 10f64.powf(random.random_range(-1.5..0.0)),
    };
    let mut traffic: Vec<f64> = classes.iter().map(from_outside).collect();
    for layer in 0..=LAYERS {
        for call in calls.iter().filter(|call| layers[call.caller] == layer && layers[call.callee] > layer) {
            traffic[call.callee] += traffic[call.caller] * call.call_fraction;
        }
    }
    traffic
}

fn component(at: usize, class: Class, requests_per_second: f64, random: &mut ChaCha8Rng) -> Component {
    let seen = match (class, random.random::<f64>()) {
        (Class::Datastore, share) if share < 0.3 => Seen::Nothing,
        (Class::External, share) if share < 0.6 => Seen::Nothing,
        (Class::Datastore | Class::External, _) => Seen::Counted,
        (_, share) if share < 0.6 => Seen::Traced,
        _ => Seen::Counted,
    };
    let (kind, tiers) = match class {
        Class::Entrance => (EntityKind::Service, [Tier::One, Tier::Two]),
        Class::Service => (EntityKind::Service, [Tier::Two, Tier::Three]),
        Class::LowTraffic => (EntityKind::Service, [Tier::Three, Tier::Four]),
        Class::Datastore => (EntityKind::Datastore, [Tier::One, Tier::Two]),
        Class::External => (EntityKind::External, [Tier::Two, Tier::Three]),
    };
    let young = class != Class::External && random.random_bool(0.08);
    let law = law(class, random);
    let incidents = law.incidents_per_day * law.minutes_median / 1440.0;
    Component {
        id: EntityId::new("id", &format!("{}-{at:04}", class.name().replace('_', "-"))).expect("a plain name"),
        kind,
        tier: tiers[usize::from(random.random_bool(0.5))],
        class,
        seen,
        requests_per_second,
        published_ratio: (class == Class::External).then(|| (1.0 - law.chronic_ratio - incidents).clamp(0.9, 0.9999)),
        age_days: if young { random.random_range(25..60) } else { AGE_DAYS },
        law,
    }
}

fn law(class: Class, random: &mut ChaCha8Rng) -> Law {
    let (chronic, days_between) = match class {
        Class::Entrance | Class::Service | Class::LowTraffic => (-5.0..-3.2, 35.0),
        Class::Datastore => (-6.0..-4.5, 80.0),
        Class::External => (-4.0..-3.0, 30.0),
    };
    let spread = LogNormal::new(0.0, 0.8).expect("a finite deviation").sample(random);
    let restless = random.random_bool(0.25);
    Law {
        chronic_ratio: 10f64.powf(random.random_range(chronic)),
        changes_per_day: if restless { 1.0 / 60.0 } else { 1.0 / 400.0 },
        change_deviation: 0.7,
        incidents_per_day: spread / days_between,
        minutes_median: random.random_range(15.0..60.0),
        outage_share: 0.25,
    }
}

/// About one domain for thirty components, each of up to a sixth of the fleet.
fn domains(count: usize, random: &mut ChaCha8Rng) -> Vec<Domain> {
    let domain = |_| {
        let share = random.random_range(0.03..0.17);
        let members = (0..count).filter(|_| random.random_bool(share)).collect();
        Domain { members, incidents_per_day: 1.0 / random.random_range(60.0..150.0), hit_probability: 0.6 }
    };
    (0..count.div_ceil(30)).map(domain).collect()
}
