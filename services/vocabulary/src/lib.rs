//! The field's words as validated types: what every engine of Attain means by a service, a target, a window, a bucket.
//!
//! Values are refused when they are built ([`InvalidValue`] names the field and says why); whoever holds one may trust
//! it. Everything here is pure and deterministic: no clock, no environment, no transport, no storage, no wire format.
//! Ratios are fractions in `[0, 1]`, times are milliseconds since the Unix epoch in UTC, latencies are milliseconds.

mod bucket;
mod histogram;
mod identity;
mod invalid;
mod ratio;
mod topology;
mod window;

pub use bucket::{BUCKET_MS, BucketCounts, SliBucket, bucket_start};
pub use histogram::{HistogramScale, LatencyHistogram};
pub use identity::{EntityId, TenantId};
pub use invalid::InvalidValue;
pub use ratio::{Objective, Ratio};
pub use topology::{DependencyMode, EntityKind, SliKind, Source, Tier, UtilisationKind};
pub use window::{TimeRange, TimeWindow};

/// Milliseconds since the Unix epoch, UTC.
pub type UnixMillis = i64;

/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;
