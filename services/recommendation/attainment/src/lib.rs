//! Which targets a service will meet over its next window, with the probability that its team asked for.
//!
//! Entry points: [`recommend`] turns a [`RecommendationInput`] into a [`RecommendationResult`]; [`predict`] goes from a history
//! of counts to the predictive distribution of the next window, and [`IncidentForecast::fit`] from a list of incidents to it
//! (both are what a back-test calls); [`miss_probability_after_shift`] is what an impact analysis calls.
//!
//! ```text
//! input ─ sanity ─┬─ regime ─ episodes ─ forecast ─ offers ─┬─ counterfactual, binding (the same on a history with fewer failures)
//!                 ├─ split (own and inherited) ─────────────┤
//!                 └─ latency (the same on slow requests)    └─ confidence ─ explain ─ result
//! ```
//!
//! Invariants:
//! - the same input gives the same result to the last bit at one [`MODEL_VERSION`]: nothing is random, no clock is read, maps
//!   are ordered;
//! - nothing panics and nothing fails, however little or odd the data: too little is a result of low confidence that offers the
//!   tier's template and says so ([`OfferBasis::Template`]);
//! - a stricter target never has a smaller probability of a miss; a target that the traffic cannot tell is never offered;
//! - own, inherited by dependency and unattributed failure sum to what was measured;
//! - a history with fewer failures is never reported as worse;
//! - each number in the explanation is a field of the result.
//!
//! What it deliberately does not know: the wire format, storage, the network; the shape of the graph (it is handed a ceiling and
//! importances, and the share of a dependency's failures that an edge further down brings); who decides; citations; other
//! services' histories (no pooling, no consistency across a fleet); how a latency is made up of others.
//!
//! The statistical method and its sources stand at each module's functions: a bad fraction is predicted as a chronic level
//! (Beta, with counting noise, error of estimation and drift) plus incidents (drifting level, zero-inflated logit-t).

mod binding;
mod confidence;
mod counterfactual;
mod episodes;
mod explain;
mod forecast;
mod input;
mod latency;
mod menu;
mod offers;
mod prediction;
mod recommend;
mod regime;
mod relief;
mod result;
mod sanity;
mod series;
mod sli;
mod split;
mod student;

pub use counterfactual::OWN_FAILURES_HALVED;
pub use episodes::{Episode, episodes};
pub use explain::{number, percent};
pub use forecast::{
    ChronicEvidence, ChronicForecast, Constants, Forecast, IncidentForecast, Level, miss_probability_after_shift,
};
pub use input::{
    COUNTERFACTUALS_MAX, ConsistentTarget, CounterfactualStructure, CurrentSlo, DependencyBucket, DependencyHistory,
    Doubt, DoubtfulEdge, Exclusion, FleetLimit, Importance, MissingInput, Reach, RecommendationInput, ServiceHistory,
    ShareSeries, StructureFacts,
};
pub use menu::{LATENCY_MENU_MS, TARGET_MENU, TierPolicy};
pub use offers::strictest_target;
pub use prediction::{Prediction, predict};
pub use recommend::{MODEL_VERSION, recommend};
pub use regime::{Regime, regimes};
pub use relief::{with_change, without_cause};
pub use result::{
    Ambition, BindingConstraint, Confidence, ConfidenceLevel, ConfidencePart, ConstraintKind, Counterfactual, DataUsed,
    FailureSplit, InheritedShare, Measurement, Offer, OfferBasis, RecommendationResult, SliResult, SloAssessment,
    SplitMethod, VolumeNeed,
};
pub use series::{CountPoint, CountSeries};
pub use split::failure_split;
