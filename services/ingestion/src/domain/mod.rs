//! What ingestion means by an entity, a dependency, a bucket, an incident; checked when built, merged by stated rules.
//!
//! Pure: no transport, storage, clock or environment.

mod bucket;
mod call_days;
mod dependency;
mod entity;
mod exemplar;
mod incident;
mod incident_event;
mod maintenance;
mod observation;
mod operation;
mod region;
mod request_sample;
mod text;
mod utilisation;

pub use bucket::{
    BucketDraft, BucketLimits, Latency, MergedBucket, SourceSet, add_buckets, merge_sources, most_direct_first,
};
pub use call_days::{CallDays, CallerRequests, DayCalls, FirstDay, RequestDays, day_of, keep_newest};
pub use dependency::{Dependency, DependencyKey, DependencyStatement, DependencyTerms, Sightings, merge_statements};
pub use entity::{CatalogueWords, Entity, EntityDeclaration, most_certain};
pub use exemplar::{Exemplar, hour_start, worst};
pub use incident::{
    ExclusionDecision, Incident, IncidentDraft, IncidentKind, IncidentSender, NEEDS_APPROVER, ServiceLink,
    UnknownService,
};
pub use incident_event::{IncidentEvent, SaidTimes};
pub use maintenance::{Bounds, MaintenanceDraft};
pub use observation::{
    BucketMode, ObservationBatch, ObservedBucket, ObservedEdge, ObservedEntity, SettledFingerprints, SettledSpans,
};
pub use operation::{OTHER_CALLEES, OTHER_OPERATIONS, ObservedOperation, OperationCounts, OperationKey};
pub use region::{Region, RegionalBucket};
pub use request_sample::{CALLS_PER_SAMPLE_MAX, RequestSample, SampledCall, least_ranks};
pub use text::{entity_name, optional_text, required_text, without_secrets};
pub use utilisation::{
    MeasuredUtilisation, ObservedUtilisation, UtilisationBucket, UtilisationDraft, UtilisationSummary, add_utilisation,
    from_millionths, merge_utilisation, millionths, summarise_utilisation,
};

use bucket::check_start;
