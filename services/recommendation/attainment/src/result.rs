use attain_vocabulary::{EntityId, SliKind, TimeRange, TimeWindow, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::sla::Suggestion;
use crate::{
    Backtest, Budgeting, Conditions, Exclusion, FleetLimit, Forecast, Importance, MissingInput, WindowInForce,
};

/// What a service can attain, and everything that this rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecommendationResult {
    /// The service.
    pub service: EntityId,
    /// Length of the window that targets cover, in days; of a calendar window that of the one that is offered for.
    pub window_days: u32,
    /// The calendar window that has begun; `None` for a rolling one and without requests.
    pub window_in_force: Option<WindowInForce>,
    /// Availability first; then latency, where there are histograms or a latency SLO in force; then freshness, where ages or a
    /// freshness SLO in force are.
    pub slis: Vec<SliResult>,
    /// Load and utilisation that every offer rests on; `None` where neither was measured.
    pub conditions: Option<Conditions>,
    /// The reasons in one paragraph; every number in it is a field of this result.
    pub explanation: String,
    /// How sure the answer is.
    pub confidence: Confidence,
    /// What it was computed from.
    pub data: DataUsed,
    /// Inputs that could not be had, as handed in, and `freshness` where something is called asynchronously and the age of what
    /// waits there is not measured.
    pub missing_inputs: Vec<MissingInput>,
    /// Whether the availability target is the tier's template because the data does not carry an estimate.
    pub fallback: bool,
    /// Version of the statistical model.
    pub model_version: String,
    /// Seed, as handed in.
    pub seed: u64,
}

/// Offers for one SLI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliResult {
    /// What is measured.
    pub kind: SliKind,
    /// Threshold of the balanced (else the first) offer, in milliseconds; for latency, and the age for freshness.
    pub latency_threshold_ms: Option<u32>,
    /// What was measured over the history used.
    pub measured: Measurement,
    /// The SLO in force; `None` when there is none.
    pub current_slo: Option<SloAssessment>,
    /// At most one for each ambition, conservative first; a single one from the template when `fallback`.
    pub offers: Vec<Offer>,
    /// Whether the offer is the tier's template.
    pub fallback: bool,
    /// Own and inherited failure; for availability.
    pub failure_split: Option<FailureSplit>,
    /// Availability that the structure allows; for availability, when the graph could be asked.
    pub ceiling_ratio: Option<f64>,
    /// What keeps the target where it is.
    pub binding_constraint: BindingConstraint,
    /// Components by what they contribute to unavailability, greatest first; for availability.
    pub importances: Vec<Importance>,
    /// What would relax it, the most useful first; for availability.
    pub counterfactuals: Vec<Counterfactual>,
    /// Why there are fewer offers than three; empty when there are three.
    pub offer_note: String,
    /// The predictive distribution that the offers were read from; `None` when no request was measured. For latency it is
    /// the one of [`SliResult::latency_threshold_ms`].
    pub forecast: Option<Forecast>,
    /// What the engine would have offered in the past, held against what followed; `None` for a template and where no window
    /// of the history can be scored. For latency the threshold stands and the target moves on the menu.
    pub backtest: Option<Backtest>,
    /// The same budget counted by slices of time; for availability, empty for a template.
    pub budgetings: Vec<Budgeting>,
}

/// What was measured over the history used.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Measurement {
    /// Good over valid; `None` without requests. For latency: faster than the threshold. For freshness slices of five minutes
    /// count instead of requests, here and below, and ages instead of latencies.
    pub attained_ratio: Option<f64>,
    /// Requests that counted.
    pub valid_count: u64,
    /// Requests among them that were not good, rounded for latency (histograms are interpolated).
    pub bad_count: u64,
    /// Latency at which half of the requests are answered, in milliseconds; `None` without histograms.
    pub latency_ms_p50: Option<f64>,
    /// The same for 95 %.
    pub latency_ms_p95: Option<f64>,
    /// The same for 99 %.
    pub latency_ms_p99: Option<f64>,
}

/// How much risk of a miss an offer takes. A tier's policy may set other risks: [`crate::TierPolicy::miss_probability_max`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ambition {
    /// At most 2 % probability of a miss.
    Conservative,
    /// At most 10 %.
    Balanced,
    /// At most 25 %.
    Ambitious,
}

impl Ambition {
    /// All three, the least risk first.
    pub const ALL: [Self; 3] = [Self::Conservative, Self::Balanced, Self::Ambitious];

    /// The most probability of a miss that it allows where nobody set another.
    #[must_use]
    pub fn miss_probability_max(self) -> f64 {
        match self {
            Self::Conservative => 0.02,
            Self::Balanced => 0.10,
            Self::Ambitious => 0.25,
        }
    }
}

/// What an offered target rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferBasis {
    /// The predictive distribution of the service's own history.
    Estimate,
    /// The tier's template; not to be accepted without a person looking.
    Template,
}

/// One target and its risk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// How much risk it takes; balanced for a template.
    pub ambition: Ambition,
    /// What it rests on.
    pub basis: OfferBasis,
    /// The target, a fraction in (0, 1).
    pub target_ratio: f64,
    /// Requests faster than this are good, for latency; slices in which nothing was older, for freshness.
    pub latency_threshold_ms: Option<u32>,
    /// Probability that the next window misses the target; `None` for a template when no request was measured.
    pub miss_probability: Option<f64>,
    /// The most that the ambition allows; a template may exceed it.
    pub miss_probability_max: f64,
    /// Share of requests that may fail: 1 - target.
    pub error_budget_ratio: f64,
    /// Share of the budget that the next window is expected to use; 1 is all of it. `None` as for `miss_probability`.
    pub expected_budget_use: Option<f64>,
    /// 5 % quantile of the share used.
    pub budget_use_low: Option<f64>,
    /// 95 % quantile of the share used.
    pub budget_use_high: Option<f64>,
    /// Probability that the calendar window that has begun misses the target, what was spent of it counted; for availability, `None`
    /// for a rolling window.
    pub in_force_miss_probability: Option<f64>,
    /// The strictest target that holds beside those of the services below, where this one does not; `None` where it does,
    /// where none on the menu does, and where the fleet was not asked.
    pub consistent_target_ratio: Option<f64>,
    /// The targets below that this one contradicts; `None` where it contradicts none, and where the fleet was not asked.
    pub limited_by: Option<FleetLimit>,
    /// What could be promised outside beside this target; for availability, `None` for a template and where no level looser than
    /// the target is safe enough for the tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Suggestion>,
}

/// An SLO in force and its prospects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SloAssessment {
    /// Its target.
    pub target_ratio: f64,
    /// Requests faster than this are good; for latency.
    pub latency_threshold_ms: Option<u32>,
    /// Its window.
    pub window: TimeWindow,
    /// Probability that its next window misses it; `None` when no request was measured.
    pub miss_probability: Option<f64>,
    /// Good over valid for this SLO over the history used.
    pub attained_ratio: Option<f64>,
    /// Whether the history used attained it.
    pub attained: Option<bool>,
}

/// How failures were told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitMethod {
    /// Failed child calls in traces.
    Traces,
    /// Bounded least squares over buckets.
    Regression,
    /// Nothing is depended on: all failure is own.
    NoDependencies,
    /// The data does not tell: all failure is listed as own, and confidence is lowered.
    Unknown,
}

/// Own and inherited failure; `own_failure_ratio + inherited_failure_ratio` is the measured failure ratio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureSplit {
    /// Share of requests that failed of the service's own.
    pub own_failure_ratio: f64,
    /// Share of requests that failed because a dependency did.
    pub inherited_failure_ratio: f64,
    /// Part of the inherited share that no dependency is named for.
    pub unattributed_ratio: f64,
    /// How they were told apart.
    pub method: SplitMethod,
    /// By directly called dependency, greatest first.
    pub inherited: Vec<InheritedShare>,
}

/// What a service inherits by one edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InheritedShare {
    /// The dependency.
    pub dependency: EntityId,
    /// Share of the service's requests that failed by this edge.
    pub failure_ratio: f64,
    /// Probability that a failure of the dependency fails the caller's request, with the call fraction in it; `None` when
    /// the dependency has no history to compare with.
    pub hardness: Option<f64>,
    /// Standard error of the hardness; 0 when traced.
    pub hardness_standard_error: f64,
}

/// What kind of thing binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// The service's own failures; for latency, what it does itself, or everything where nothing tells more.
    Own,
    /// A component that it depends on, directly or not.
    Dependency,
    /// Too little traffic to tell a stricter target apart.
    Volume,
    /// The strictest target that policy allows.
    Policy,
    /// Too little data for an estimate.
    Data,
}

/// What keeps the target where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindingConstraint {
    /// What kind of thing binds.
    pub kind: ConstraintKind,
    /// The component; for a dependency, and the service itself for own failures.
    pub entity_id: Option<EntityId>,
    /// Share of requests that it fails, by every way that its failures are known to arrive; for latency, that it makes slow.
    pub contribution_ratio: f64,
    /// Balanced target if it were gone; `None` where it cannot be computed or none can be offered.
    pub relaxed_target_ratio: Option<f64>,
    /// Threshold of the balanced offer, in milliseconds, without the time of the part; for latency, `None` where it is not told or
    /// would be no tighter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relaxed_latency_threshold_ms: Option<u32>,
    /// What traffic would allow the next target; for volume.
    pub volume_need: Option<VolumeNeed>,
    /// A sentence a person can act on.
    pub detail: String,
}

/// Traffic that a stricter target needs to be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VolumeNeed {
    /// The next stricter target on the menu.
    pub target_ratio: f64,
    /// Requests in a window that tell it apart.
    pub window_request_count: u64,
    /// Days that the present traffic takes for as many.
    pub window_days_needed: f64,
    /// Extra probes a minute that would make up for what is missing; `None` where failures within five minutes go together
    /// so much that no number of probes would.
    pub probes_per_minute: Option<f64>,
}

/// A change and what it would buy, solved again on the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counterfactual {
    /// The key of the change; [`crate::OWN_FAILURES_HALVED`] for the one that needs no structure.
    pub key: String,
    /// In words.
    pub description: String,
    /// Ceiling after it, where known.
    pub ceiling_ratio: Option<f64>,
    /// Balanced target after it; `None` when none can be offered.
    pub balanced_target_ratio: Option<f64>,
    /// Probability that the balanced target of today would be missed after it; of the loosest target on the menu when none
    /// is offered today.
    pub miss_probability: f64,
    /// Attained ratio that the history used would have had.
    pub attained_ratio: f64,
}

/// How sure an answer is, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfidenceLevel {
    /// A person should look before anything is done.
    Low,
    /// Good enough to discuss.
    Medium,
    /// Good enough to act on.
    High,
}

/// How sure an answer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// In a word.
    pub level: ConfidenceLevel,
    /// In [0, 1]: the least of its parts.
    pub score: f64,
    /// The parts.
    pub parts: Vec<ConfidencePart>,
    /// Data that would raise it, the weakest part first.
    pub raise_with: Vec<String>,
}

/// One reason to be sure or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfidencePart {
    /// `history_length`, `effective_sample`, `coverage`, `regime`, `graph`, `split`, `sensitivity`, `backtest` or `inputs`.
    pub name: String,
    /// In [0, 1].
    pub score: f64,
    /// What it rests on.
    pub detail: String,
}

/// What a recommendation was computed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataUsed {
    /// The span of history asked for.
    pub range: TimeRange,
    /// Buckets read.
    pub bucket_count: u64,
    /// Buckets read over buckets that the span, exclusions taken out, could hold.
    pub coverage_ratio: f64,
    /// Days of buckets read.
    pub covered_days: f64,
    /// Spans left out that overlap the history.
    pub exclusions: Vec<Exclusion>,
    /// When the level of failure last changed; `None` when it did not.
    pub regime_start_ms: Option<UnixMillis>,
    /// Days since then, or of the whole history.
    pub regime_days: f64,
    /// Failure level since then over the level before; `None` without a change.
    pub regime_level_factor: Option<f64>,
    /// Requests that counted.
    pub valid_count: u64,
    /// Requests that count as independent: valid / (1 + (mean bucket - 1) x rho).
    pub effective_sample_count: f64,
    /// Correlation of outcomes within a bucket outside episodes, in [0, 1].
    pub intra_bucket_correlation: f64,
    /// Requests expected in the next window.
    pub expected_window_count: f64,
    /// Least error budget that the next window's traffic tells from none: 3 / effective requests; `None` without traffic.
    pub smallest_distinguishable_budget: Option<f64>,
    /// Incidents on record in the span.
    pub incident_count: u32,
    /// Episodes found in the buckets: failure in excess of the chronic level.
    pub episode_count: u32,
    /// Age of the newest bucket's end; `None` without buckets.
    pub data_age_ms: Option<i64>,
    /// Version of the graph snapshot; `None` when the graph could not be asked.
    pub snapshot_version: Option<u64>,
    /// Age of that snapshot.
    pub snapshot_age_ms: Option<i64>,
}
