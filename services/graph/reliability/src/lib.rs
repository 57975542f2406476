//! Exact availability of a service from a structure function in which every component counts once.
//!
//! `W_i = O_i ∧ (every edge: W_callee ∨ F_edge) ∧ (every group: at least k of its members work)`, where `O_i` is the
//! component's own health and `F_edge` says that a failed callee does not fail the request. Multiplying the
//! availabilities of services instead would count what they share more than once.
//!
//! Entry points: build a [`Structure`] with [`StructureBuilder`], then ask [`evaluate()`] what it allows a component to
//! attain, or [`propagation::propagate`] what one component being down does to everybody above it.
//!
//! Data flow, a module a step:
//!
//! | module | step |
//! |---|---|
//! | [`structure`] | components, edges and groups, refused at construction when out of range |
//! | [`formulas`] | retries and common cause in closed form |
//! | `association` | a bound from below for every component |
//! | `retries` | what retries leave of each edge's impact |
//! | `equations` | the part of the structure that a root reaches, as monotone equations over independent variables; what the root cannot do without is factored out |
//! | `fixed_point` | greatest and least solution of those equations over any algebra of truth values |
//! | `bdd` | that algebra as reduced ordered binary decision diagrams: exact |
//! | `demand` | the same diagram from the root down, where shared layers make that cheaper |
//! | `frontier` | in which order components are added and left behind, and what that costs |
//! | `elimination` | the joint distribution of those on the frontier, step by step: exact, whatever the number of partial edges |
//! | `exact` | diagram or elimination, decided by structure and limits alone |
//! | `monte_carlo` | that algebra as 64 sampled states a word: where neither stays within its limit |
//! | `bounds` | Esary–Proschan from minimal paths and cuts, or a cheaper bracket |
//! | `modules`, `minimal_sets` | the diagram in independent pieces, and the minimal paths and cuts of each |
//! | `importance` | Birnbaum importances, ranked |
//! | [`evaluate`](mod@evaluate) | the order of all this, and the answer |
//! | `draws` | sampled states that depend on nothing but the seed and who is random |
//! | [`joint`] | many roots, in one state or two, from the same samples |
//! | [`propagation`] | impact of one component that is down on everybody above it |
//!
//! Invariants: the same structure, root and limits give the same answer to the last bit, in whatever order edges were
//! added; nothing recurses over the graph, so depth costs memory and never the stack; failure ratios stay failure
//! ratios (`q`, not `1 − q`), so that 1e-9 is not lost beside 1; work is bounded by [`EvaluationLimits`].
//!
//! Deliberately unknown here: names of services, the wire, storage, time, asynchronous edges (they are not on the
//! request path) and where a failure ratio came from.

pub mod evaluate;
pub mod formulas;
pub mod joint;
pub mod propagation;
pub mod structure;

mod association;
mod bdd;
mod bounds;
mod demand;
mod draws;
mod elimination;
mod equations;
mod error;
mod exact;
mod fixed_point;
mod frontier;
mod importance;
mod minimal_sets;
mod modules;
mod monte_carlo;
mod retries;

pub use bounds::BoundsMethod;
pub use error::Error;
pub use evaluate::{Evaluation, EvaluationLimits, EvaluationMethod, evaluate, evaluate_exactly};
pub use importance::{CommonCauseImportance, Importance};
pub use joint::{JointEvaluation, JointQuestion, evaluate_jointly};
pub use propagation::{Propagation, PropagationMethod, propagate};
pub use retries::RetryMethod;
pub use structure::{Component, EdgeEffect, Structure, StructureBuilder};
