use std::collections::BTreeMap;

use attain_vocabulary::{
    BucketCounts, DependencyMode, EntityId, EntityKind, Objective, SliBucket, SliKind, Tier, TimeRange, TimeWindow,
    UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::calibration::Layer;
use crate::{Ambition, Constants, Record, SlowRequests, TierPolicy, UtilisationFacts};

/// Everything that a recommendation is computed from; kept and hashed, so that it can be computed again bit for bit.
///
/// Fractions are in `[0, 1]`; one outside is cut to the nearer end, and one that is not a number counts as not said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecommendationInput {
    /// The service that a target is sought for.
    pub service: EntityId,
    /// How much depends on it.
    pub tier: Tier,
    /// What it is.
    pub kind: EntityKind,
    /// The window that a target covers.
    pub window: TimeWindow,
    /// The instant that the recommendation is made for; nothing at or after it is read.
    pub as_of_ms: UnixMillis,
    /// What was measured.
    pub history: ServiceHistory,
    /// What it calls directly, each with its own history where there is one.
    pub dependencies: Vec<DependencyHistory>,
    /// Spans of time to leave out.
    pub exclusions: Vec<Exclusion>,
    /// Incidents on record for the service within the span of history.
    pub incident_ids: Vec<String>,
    /// What the dependency graph says; `None` when it could not be asked.
    pub structure: Option<StructureFacts>,
    /// Changes of structure to solve again on the history; at most [`COUNTERFACTUALS_MAX`] are read.
    pub counterfactuals: Vec<CounterfactualStructure>,
    /// SLOs in force; the first of a kind is assessed.
    pub current_slos: Vec<CurrentSlo>,
    /// Inputs that could not be had.
    pub missing_inputs: Vec<MissingInput>,
    /// What the tier allows; see [`TierPolicy::for_tier`].
    pub policy: TierPolicy,
    /// How the balanced availability offers of the other services of the same tier and kind fared in their back-tests; `None`
    /// where there is no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_record: Option<Record>,
    /// Whether slices of time without a request count as good where a budget is counted by time; else they do not count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet_slices_good: bool,
    /// What is known of queues and limits.
    #[serde(default, skip_serializing_if = "UtilisationFacts::is_none")]
    pub utilisation: UtilisationFacts,
    /// Seed of everything random; nothing is random at this model version, but the seed is part of the record.
    pub seed: u64,
    /// The model to predict with; `None` for the compiled one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Model>,
}

/// A version of the model other than the compiled one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name, handed back in the result.
    pub version: String,
    /// What it predicts with: for the service's class, where the model knows it.
    pub constants: Constants,
    /// What mends the stated probabilities of an availability window ahead, learned on past forecasts of the service's class; `None` where
    /// nothing earned its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
}

impl RecommendationInput {
    /// What mends what is predicted.
    #[must_use]
    pub fn layer(&self) -> Option<&Layer> {
        self.model.as_ref()?.layer.as_ref()
    }

    /// What to predict with.
    #[must_use]
    pub fn constants(&self) -> Constants {
        self.model.as_ref().map_or(Constants::DEFAULT, |model| model.constants)
    }
}

impl RecommendationInput {
    /// The window that is offered for: the first whole one from the instant of the recommendation on.
    #[must_use]
    pub fn window_ahead(&self) -> TimeRange {
        self.window.ahead_of(self.as_of_ms)
    }

    /// The counterfactual structures that are read: the first [`COUNTERFACTUALS_MAX`].
    pub(crate) fn changes(&self) -> impl Iterator<Item = &CounterfactualStructure> {
        self.counterfactuals.iter().take(COUNTERFACTUALS_MAX)
    }
}

/// Most counterfactual structures that are solved again for one recommendation.
pub const COUNTERFACTUALS_MAX: usize = 16;

/// Measured buckets of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceHistory {
    /// The span that was asked for; what it could hold decides the coverage.
    pub range: TimeRange,
    /// Buckets by ascending start; others than in the range, and a second one with the same start, are not read.
    #[serde(with = "crate::columns")]
    pub buckets: Vec<SliBucket>,
}

/// A direct dependency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DependencyHistory {
    /// Who is called.
    pub id: EntityId,
    /// What its failure does to the caller, as declared or seen.
    pub mode: DependencyMode,
    /// Share of the caller's requests that call it; `None` when not known.
    pub call_fraction: Option<f64>,
    /// Share of failed calls that a fallback saves; `None` when not known.
    pub fallback_success_ratio: Option<f64>,
    /// Its own buckets, by ascending start; empty when it has no history.
    #[serde(with = "crate::columns")]
    pub buckets: Vec<DependencyBucket>,
}

/// Requests of a dependency in five minutes, counted at the dependency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DependencyBucket {
    /// Start of the bucket.
    pub start_ms: UnixMillis,
    /// Its requests.
    pub counts: BucketCounts,
}

/// A span of time left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// The span.
    pub range: TimeRange,
    /// For example `declared maintenance`.
    pub reason: String,
}

/// What the dependency graph says of the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StructureFacts {
    /// Availability that the structure allows, every component at its estimated rate.
    pub ceiling_ratio: f64,
    /// Whether the ceiling was computed exactly rather than by Monte Carlo.
    pub exact: bool,
    /// What each component does to it, the service itself among them.
    pub importances: Vec<Importance>,
    /// Components without a rate, taken as never failing.
    pub assumed_perfect_ids: Vec<EntityId>,
    /// Version of the snapshot that was read.
    pub snapshot_version: u64,
    /// Time since the snapshot was confirmed to be the newest.
    pub snapshot_age_ms: i64,
    /// What is doubtful in it, and how far the ceiling moves if it is otherwise.
    #[serde(default, skip_serializing_if = "Doubt::is_none")]
    pub doubt: Doubt,
    /// What holds beside the targets of the services below, for each offer that was held against them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consistent_targets: Vec<ConsistentTarget>,
    /// What sampled requests say of who makes requests slow; `None` where too few are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_requests: Option<SlowRequests>,
}

/// What is doubtful in the structure: each alternative is the structure solved again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Doubt {
    /// Edges on the request path that may not be there, the least sure first.
    pub edges: Vec<DoubtfulEdge>,
    /// Ceiling without all of them; `None` where there is none, or where it was not told.
    pub ceiling_without_edges_ratio: Option<f64>,
    /// What components without data were taken to fail, in `[0, 1]`, for the next ratio; `None` where there are none, or where
    /// no other component was measured to take an example from.
    pub unknown_failure_ratio: Option<f64>,
    /// Ceiling if components without data failed that much, instead of never.
    pub ceiling_with_unknown_ratio: Option<f64>,
}

impl Doubt {
    /// Whether there is nothing to doubt.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// An edge that may not be there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoubtfulEdge {
    /// Who calls.
    pub caller: EntityId,
    /// Who is called.
    pub callee: EntityId,
    /// How sure it is that the edge is there, in `[0, 1]`.
    pub confidence: f64,
}

/// What an offer becomes beside the targets of the services below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsistentTarget {
    /// Which offer.
    pub ambition: Ambition,
    /// The target offered that was held against the others; it says nothing of another one.
    pub offered_ratio: f64,
    /// The strictest target up to the offered one that contradicts nothing; `None` where none on the menu does.
    pub target_ratio: Option<f64>,
    /// Why it is no stricter; `None` where the offer holds.
    pub limited_by: Option<FleetLimit>,
}

/// The targets of other services that limit an offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetLimit {
    /// The callee whose promise is too little; `None` where all that lies below does it together.
    pub callee: Option<EntityId>,
    /// Share of requests that the promises below may fail, in `[0, 1]`.
    pub needed_ratio: f64,
    /// From the service to the component that uses most of its budget.
    pub chain: Vec<EntityId>,
}

/// What one component does to the service's availability.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The component.
    pub entity_id: EntityId,
    /// Birnbaum importance: change of availability by change of the component's reliability.
    pub birnbaum: f64,
    /// Importance times the component's own failure ratio.
    pub contribution_ratio: f64,
}

/// A change of structure to solve again on the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterfactualStructure {
    /// Stable name of the change, handed back in the result.
    pub key: String,
    /// The change in words.
    pub description: String,
    /// Availability that the structure allows after it; `None` when the graph was not asked.
    pub ceiling_after_ratio: Option<f64>,
    /// Who calls on the edge that changes.
    pub caller: EntityId,
    /// Who is called on it.
    pub callee: EntityId,
    /// Share of the failures by that edge that the change saves: a fallback's success.
    pub saved_ratio: f64,
    /// How the edge reaches the service.
    pub reach: Reach,
    /// The other ways by which it does, where it lies below several direct dependencies; none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_reaches: Vec<Reach>,
}

impl CounterfactualStructure {
    /// Every way by which the edge reaches the service, the one that brings most first.
    pub fn reaches(&self) -> impl Iterator<Item = &Reach> {
        std::iter::once(&self.reach).chain(&self.other_reaches)
    }
}

/// How a changed edge reaches the service that a target is sought for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It is an edge of the service itself.
    Direct,
    /// It lies further down, and its failures arrive by a direct dependency.
    Through {
        /// The direct dependency.
        dependency: EntityId,
        /// Share of that dependency's failures that came by the changed edge.
        share: ShareSeries,
    },
}

/// A share in `[0, 1]` that may differ from bucket to bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShareSeries {
    /// The share in buckets that are not listed.
    pub otherwise: f64,
    /// The share by start of the bucket.
    pub by_bucket: BTreeMap<UnixMillis, f64>,
}

/// An SLO in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurrentSlo {
    /// What it measures.
    pub kind: SliKind,
    /// Its target.
    pub target: Objective,
    /// Requests faster than this are good, slices in which nothing was older for freshness; `None` for availability.
    pub latency_threshold_ms: Option<u32>,
    /// Its window.
    pub window: TimeWindow,
}

/// An input that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingInput {
    /// For example `graph`, `knowledge`.
    pub name: String,
    /// Why, and what it means for the answer.
    pub detail: String,
}
