//! Which targets a service will meet over its next window, with the probability that its team asked for.
//!
//! Entry points: [`recommend`] turns a [`RecommendationInput`] into a [`RecommendationResult`]; [`predict`] goes from a history
//! of counts to the predictive distribution of the next window, and [`IncidentForecast::fit`] from a list of incidents to it
//! (both are what an eval calls); [`backtest`] makes the offers of the past again; [`outcome`] says what a window turned out to be;
//! [`miss_probability_after_shift`] is what an impact analysis calls. For an SLO in force, read as an [`SliHistory`]: [`budget`]
//! (what is spent, and when the rest will be), [`alerts`] (rules and their back-test), [`sla`] (what to promise outside).
//!
//! ```text
//! input ─ sanity ─ cells ─┬─ back-test (the same before each origin of the past, held against what followed)
//!                 ┌───────┘
//!                 ├─ regime ─ episodes ─ forecast ─ offers ─┬─ counterfactual, binding (the same on a history with fewer failures)
//!                 ├─ split (own and inherited) ─────────────┤
//!                 └─ latency (the same on slow requests)    └─ confidence ─ explain ─ result
//! ```
//!
//! Invariants:
//! - the same input gives the same result to the last bit at one [`MODEL_VERSION`]: nothing is random, no clock is read, maps
//!   are ordered; the paths of a forecast of exhaustion are drawn from a seed that is handed in;
//! - nothing panics and nothing fails, however little or odd the data: too little is a result of low confidence that offers the
//!   tier's template and says so ([`OfferBasis::Template`]);
//! - a stricter target never has a smaller probability of a miss; a target that the traffic cannot tell is never offered;
//! - own, inherited by dependency and unattributed failure sum to what was measured;
//! - a history with fewer failures is never reported as worse;
//! - each number in the explanation is a field of the result;
//! - an offer of a back-test rests on nothing at or after its origin.
//!
//! Beside it, for whoever holds back-tests or histories of several services: [`calibration`] (layers that are applied only where
//! they earned it) and [`ClassPrior`] (what other services tell, with a learned weight). A recommendation uses what the [`Model`] brings of
//! them, and learns nothing itself.
//!
//! What it deliberately does not know: the wire format, storage, the network; the shape of the graph (it is handed a ceiling and
//! importances, and the share of a dependency's failures that an edge further down brings); who decides; citations; when a
//! recommendation is made, other services' histories (it is handed how offers of their class fared; no pooling, no consistency
//! across a fleet); how a latency is made up of others (it is handed how many slow requests there would be without each part).
//!
//! The statistical method and its sources stand at each module's functions: a bad fraction is predicted as a chronic level
//! (Beta, with counting noise, error of estimation and drift) plus incidents (drifting level, zero-inflated logit-t).

pub mod alerts;
mod backtest;
mod beta;
mod binding;
pub mod budget;
mod budgeting;
pub mod calibration;
mod cells;
mod class;
mod columns;
mod conditions;
mod confidence;
mod counterfactual;
mod episodes;
mod explain;
mod forecast;
mod freshness;
mod in_force;
mod input;
mod latency;
mod measured;
mod menu;
mod offers;
mod outcome;
mod prediction;
mod recommend;
mod record;
mod regime;
mod relief;
mod result;
mod sanity;
mod series;
pub mod sla;
mod sli;
mod slow;
mod split;
mod student;
mod timeline;
mod utilisation;

pub use backtest::{Backtest, OfferRecord, backtest};
pub use budgeting::{Budgeting, BudgetingMethod, SLICE_MINUTES, SLICE_TARGET, SliceOffer};
pub use class::{CLASS_INCIDENTS, ClassPrior, Peer};
pub use columns::Written;
pub use conditions::Conditions;
pub use counterfactual::OWN_FAILURES_HALVED;
pub use episodes::{Episode, episodes};
pub use explain::{number, percent};
pub use forecast::{
    ChronicEvidence, ChronicForecast, Constants, Forecast, IncidentForecast, Level, miss_probability_after_shift,
};
pub use freshness::{AGE_MENU_MS, AGES_HALVED, freshness_outcome};
pub use in_force::WindowInForce;
pub use input::{
    COUNTERFACTUALS_MAX, ConsistentTarget, CounterfactualStructure, CurrentSlo, DependencyBucket, DependencyHistory,
    Doubt, DoubtfulEdge, Exclusion, FleetLimit, Importance, MissingInput, Model, Reach, RecommendationInput,
    ServiceHistory, ShareSeries, StructureFacts,
};
pub use measured::{SliHistory, SliMeasured, Tally};
pub use menu::{LATENCY_MENU_MS, TARGET_MENU, TierPolicy};
pub use offers::strictest_target;
pub use outcome::{Outcome, outcome};
pub use prediction::{Prediction, predict, predict_with};
pub use recommend::{MODEL_VERSION, held_beside, recommend, recommend_told};
pub use record::{Held, Record};
pub use regime::{Regime, regimes};
pub use relief::{with_change, without_cause};
pub use result::{
    Ambition, BindingConstraint, Confidence, ConfidenceLevel, ConfidencePart, ConstraintKind, Counterfactual, DataUsed,
    FailureSplit, InheritedShare, Measurement, Offer, OfferBasis, RecommendationResult, SliResult, SloAssessment,
    SplitMethod, VolumeNeed,
};
pub use sanity::usable_counts;
pub use series::{CountPoint, CountSeries};
pub use slow::{SlowAbove, SlowRequests};
pub use split::{ToldApart, failure_split, own_failures};
pub use utilisation::{AgeBucket, AsynchronousEdge, Used, UtilisationFacts};
