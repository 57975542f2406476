//! What is simulated: components with failure and latency processes, and who calls whom.

use std::collections::BTreeMap;

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, SliBucket, SliKind, Tier, UnixMillis};

/// A component of the system.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name.
    pub id: EntityId,
    /// What people call it.
    pub display_name: &'static str,
    /// What it is.
    pub kind: EntityKind,
    /// How much depends on it.
    pub tier: Tier,
    /// The team that answers for it.
    pub owner: &'static str,
    /// What its contract promises, in (0, 1]; for external parties.
    pub published_availability_ratio: Option<f64>,
    /// Share of requests that fail of its own at any time, in [0, 1).
    pub chronic_failure_ratio: f64,
    /// When it fails of its own more than that.
    pub episodes: Vec<Episode>,
    /// Latency at which half of the requests are answered, in milliseconds.
    pub latency_ms_p50: f64,
    /// Latency at which 99 % of the requests are answered over the whole simulated span, in milliseconds.
    pub latency_ms_p99: f64,
}

/// A span of time in which a component fails of its own.
#[derive(Debug, Clone)]
pub struct Episode {
    /// Name of the incident.
    pub incident_id: String,
    /// One line about it.
    pub title: String,
    /// How long before the end of the data it begins, in minutes.
    pub minutes_before_end: u32,
    /// How long it lasts, in minutes; a multiple of five.
    pub minutes: u32,
    /// Share of requests that fail meanwhile, in (0, 1].
    pub failure_ratio: f64,
}

/// Who calls whom.
#[derive(Debug, Clone)]
pub struct Call {
    /// The caller.
    pub caller: EntityId,
    /// The callee.
    pub callee: EntityId,
    /// What a failure of the callee does to the caller.
    pub mode: DependencyMode,
    /// Share of the caller's requests that call it, in (0, 1].
    pub call_fraction: f64,
    /// For example `http`.
    pub protocol: &'static str,
    /// When the caller gives up, in milliseconds.
    pub timeout_ms: u32,
}

/// An SLO in force.
#[derive(Debug, Clone)]
pub struct DeclaredSlo {
    /// The service.
    pub service_id: EntityId,
    /// What is measured.
    pub kind: SliKind,
    /// The target, a fraction.
    pub target_ratio: f64,
    /// Requests faster than this are good; 0 for availability.
    pub latency_threshold_ms: u32,
}

/// A system to simulate. Calls must be acyclic.
#[derive(Debug, Clone)]
pub struct System {
    /// Every component.
    pub components: Vec<Component>,
    /// Every call.
    pub calls: Vec<Call>,
    /// The SLOs in force.
    pub slos: Vec<DeclaredSlo>,
    /// The component that takes the traffic from outside.
    pub entrance: EntityId,
    /// Its mean requests a second.
    pub requests_per_second: f64,
}

/// Something that went wrong, with its known cause.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedIncident {
    /// Its name.
    pub id: String,
    /// One line.
    pub title: String,
    /// The component that caused it.
    pub cause: EntityId,
    /// The cause and everybody who inherited it.
    pub affected: Vec<EntityId>,
    /// When it began.
    pub start_ms: UnixMillis,
    /// When it ended.
    pub end_ms: UnixMillis,
    /// Share of the cause's requests that failed.
    pub failure_ratio: f64,
}

/// What the simulation gave.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The system.
    pub system: System,
    /// Buckets of each component, oldest first.
    pub buckets: BTreeMap<EntityId, Vec<SliBucket>>,
    /// Incidents, oldest first.
    pub incidents: Vec<SimulatedIncident>,
}
