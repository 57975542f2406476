//! Between the domain and the wire: what goes out cannot fail, what comes in is checked.

pub(crate) mod agreement;
pub(crate) mod alerts;
pub(crate) mod budget;
pub(crate) mod budgeting;
pub(crate) mod changes;
pub(crate) mod differences;
pub(crate) mod drift;
pub(crate) mod experiments;
pub(crate) mod feedback;
mod freshness;
pub(crate) mod learning;
pub(crate) mod lifecycle;
pub(crate) mod models;
pub(crate) mod policy;
pub(crate) mod recommendation;
pub(crate) mod record;
pub(crate) mod regions;
pub(crate) mod slo;
pub(crate) mod topology;
pub(crate) mod webhook;
pub(crate) mod window;
