//! The latency of a request composed from its parts: what each part does is measured or declared, and the root follows.
//!
//! `T(span) = self + Σ over stages max over members (lag + T(member))`: calls that overlap are one stage and the slowest
//! counts, stages add up, and so does what the span does itself. Because the root is composed, a part can be changed and
//! the root asked again.
//!
//! Entry points: [`Trace::build`], [`Learned::from_traces`] and [`predict()`] where there are traces, [`predict_in`] where parts
//! of another period are known; [`Declared`] where there is only an order of calls.
//!
//! Data flow, a module a step:
//!
//! | module | step |
//! |---|---|
//! | [`trace`] | spans into a tree of self times, lags and stages; what does not fit is counted |
//! | [`critical_path`] | which part determined how much of a trace |
//! | `pools` | self times by minute, kind of request and part, with back-off where data is thin |
//! | [`learn`] | plans of traces over their pools |
//! | `dependence` | how strongly self times of one trace move together |
//! | [`predict`](mod@predict) | the root's latency, by one of three assumptions about that |
//! | [`period`] | the root's latency in a period of which only the parts are known |
//! | [`what_if`] | parts scaled, shifted or replaced before composing |
//! | [`bounds`] | what a sum or a maximum lies between when dependence is unknown or positive |
//! | [`declared`] | series-parallel orders without traces |
//! | [`budget`] | a threshold split over the stages of a critical path |
//! | `distribution` | measured latencies and histograms, by quantile |
//!
//! Invariants: the same input and seed give the same answer to the last bit, in whatever order spans and traces come; a
//! trace composed of its own parts has its own duration, to the nanosecond; no input panics; nothing recurses over spans.
//!
//! Deliberately unknown here: the wire, storage, the clock, sampling, and what a latency should be.

pub mod bounds;
pub mod budget;
pub mod critical_path;
pub mod declared;
pub mod learn;
pub mod period;
pub mod predict;
pub mod trace;
pub mod what_if;

mod dependence;
mod distribution;
mod error;
mod pools;

pub use bounds::{Bounds, Dependence};
pub use budget::{Budget, split_budget};
pub use critical_path::critical_path_ns;
pub use declared::{Declared, Order};
pub use distribution::Distribution;
pub use error::Error;
pub use learn::Learned;
pub use period::{Period, predict_in};
pub use predict::{Draws, Together, predict, sum_of_quantiles};
pub use trace::{Oddities, Span, Trace};
pub use what_if::{Change, Changes};

pub(crate) const NS_PER_MS: f64 = 1e6;
