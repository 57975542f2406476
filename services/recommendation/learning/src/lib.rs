//! Which of the offers to suggest, learned from what teams decide.
//!
//! Entry points: [`State::learn`] takes decisions and feedback in, one by one and in the order of the log; [`suggest`] draws an
//! offer from what is known of a [`Cell`]; [`State::policies`] tells what other policies would have got; [`difference`] compares two
//! ways to recommend that units were drawn for by lot.
//!
//! ```text
//! decision, feedback ─ Evidence ─ State ─┬─ Arms of a cell at an instant ─ suggest ─ Suggestion (with its propensity)
//!                                        └─ off-policy estimates
//! ```
//!
//! Invariants:
//! - it moves which offer is *suggested* and nothing else: no probability, no target, no offer is read or changed here;
//! - the same evidence in the same order gives the same state, and the same arms and seed the same suggestion, to the last bit:
//!   nothing is random but the one draw, and that is a function of the seed;
//! - each offer that there is may be suggested with at least [`EXPLORATION`] shared by all: so no weight of an off-policy estimate
//!   is greater than the number of offers over that;
//! - the model of the doubly robust estimate is the one from before the decision, never one that has seen it.
//!
//! What it deliberately does not know: tenants, storage, the wire format, who decided, and why.

mod arms;
mod beta;
mod off_policy;
mod state;
mod suggestion;
mod trial;

pub use arms::{Arm, Arms, HALF_LIFE_DAYS, PRIOR};
pub use beta::Beta;
pub use off_policy::{Estimate, Policy, PolicyEstimate};
pub use state::{Cell, CellState, Direction, Evidence, Observed, Outcome, Shown, State, nearest};
pub use suggestion::{ArmView, EXPLORATION, Suggestion, suggest, suggest_always, views};
pub use trial::{Difference, Interval, Side, TooFewUnits, UNITS_MIN, UnitOutcome, difference, ratio};
