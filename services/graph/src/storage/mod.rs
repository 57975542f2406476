//! What the service holds: one snapshot a tenant, in memory only. Ingestion owns the truth; whatever is here can be
//! fetched again.

pub(crate) mod follower;
pub(crate) mod held;
mod part;
pub(crate) mod snapshots;
pub(crate) mod source;
