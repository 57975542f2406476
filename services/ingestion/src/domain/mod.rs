//! What ingestion means by an entity, a dependency, a bucket, an incident; checked when built, merged by stated rules.
//!
//! Pure: no transport, storage, clock or environment.

mod bucket;
mod dependency;
mod entity;
mod incident;
mod observation;
mod operation;
mod text;

pub use bucket::{BucketDraft, BucketLimits, Latency, MergedBucket, add_buckets, merge_sources, most_direct_first};
pub use dependency::{Dependency, DependencyKey, DependencyStatement, DependencyTerms, Sightings, merge_statements};
pub use entity::{Entity, EntityDeclaration, most_certain};
pub use incident::{Incident, IncidentDraft};
pub use observation::{
    BucketMode, ObservationBatch, ObservedBucket, ObservedEdge, ObservedEntity, SettledFingerprints, SettledSpans,
};
pub use operation::{OTHER_OPERATIONS, ObservedOperation, OperationCounts, OperationKey};
pub use text::{optional_text, required_text};
