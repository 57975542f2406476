//! Targets of a whole fleet that hold together: one solve over all services and what they rest on.
//!
//! Each service `i` with error budget `B_i = 1 − target` needs `B_i ≥ o_i + Σ_j c_ij · o_j` over everything below it, each
//! component once, and `B_i ≥ impact · B_j` of every callee. `o_j`, the own budget, is at least the service's own failures
//! in a bad window and at least an even share of its promise. Entry points: build a [`Fleet`], ask its [`Problem`] for a
//! [`Plan`] and for the cheapest changes that would settle its contradictions, and [`violations`] whether a set of targets
//! holds, by the definitions alone.
//!
//! Data flow, a module a step:
//!
//! | module | step |
//! |---|---|
//! | [`fleet`] | services, edges and groups, refused at construction when out of range, then sorted |
//! | `components` | strongly connected components, callees first |
//! | `closure` | `c_ij`: what a failure of each component does to each service above it |
//! | `demands` | what each service needs, and the least loosening that gives everyone enough |
//! | `contradictions` | where targets in force cannot all hold, and along which chain |
//! | `program` | the linear program and its duals |
//! | [`menu`] | targets that people are used to |
//! | [`solve`](mod@solve) | the order of all this, and the answer |
//! | [`repairs`] | single changes, each solved again and ranked |
//! | [`check`] | the rules once more, by other means |
//!
//! Invariants: the same fleet gives the same answer to the last bit, in whatever order it was stated; a fleet without
//! contradictions is not moved; every answer keeps every rule, whatever the program left open, because the least loosening
//! follows it; nothing recurses over the graph; work is bounded by [`Limits`].
//!
//! Deliberately unknown here: where own failures come from, exact structure functions (a caller may bring them as
//! [`ExactAvailability`]), asynchronous edges, the wire, storage and time.

pub mod check;
pub mod fleet;
pub mod menu;
pub mod repairs;
pub mod solve;

mod closure;
mod components;
mod contradictions;
mod demands;
mod error;
mod program;

#[cfg(test)]
mod fixtures;

pub use check::{Violation, violations};
pub use contradictions::Contradiction;
pub use error::Error;
pub use fleet::{Edge, Fleet, Group, Service};
pub use menu::Menu;
pub use repairs::{Change, Repair, Repairs};
pub use solve::{Binding, ExactAvailability, Limits, Method, Plan, Problem, Weights, solve};
