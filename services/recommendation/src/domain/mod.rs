//! What is decided, free of transport, storage and time: everything comes in as an argument. What is public is what an
//! evaluation needs to make the inputs of a recommendation as this service makes them.

pub mod audit;
pub(crate) mod automatic;
pub(crate) mod calibration;
pub mod components;
pub mod consistent;
pub mod differences;
pub mod doubt;
pub(crate) mod drift;
pub(crate) mod evidence;
pub(crate) mod exchange;
pub mod fallbacks;
pub(crate) mod feedback;
pub mod flow;
pub(crate) mod freshness;
pub(crate) mod harm;
pub(crate) mod kept;
pub(crate) mod latency_harm;
pub(crate) mod learning;
pub(crate) mod lifecycle;
pub(crate) mod mirror;
pub(crate) mod models;
pub(crate) mod policy;
pub(crate) mod reads;
pub(crate) mod replay;
pub(crate) mod retraining;
pub(crate) mod scores;
pub(crate) mod slo;
pub(crate) mod touched;
pub(crate) mod turns;
pub(crate) mod webhook;
