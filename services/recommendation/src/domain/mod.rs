//! What is decided, free of transport, storage and time: everything comes in as an argument. What is public is what an
//! evaluation needs to make the inputs of a recommendation as this service makes them.

pub mod audit;
pub mod components;
pub mod consistent;
pub(crate) mod differences;
pub mod doubt;
pub(crate) mod evidence;
pub mod fallbacks;
pub mod flow;
pub(crate) mod freshness;
pub(crate) mod harm;
pub(crate) mod kept;
pub(crate) mod latency_harm;
pub(crate) mod mirror;
pub(crate) mod slo;
pub(crate) mod touched;
