//! Between the domain and the wire: what goes out cannot fail, what comes in is checked.

pub(crate) mod changes;
pub(crate) mod differences;
pub(crate) mod drift;
pub(crate) mod models;
pub(crate) mod recommendation;
pub(crate) mod slo;
pub(crate) mod topology;
