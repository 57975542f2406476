use std::collections::BTreeMap;

use attain_vocabulary::{EntityId, EntityKind, SliBucket, Source, UnixMillis};

use super::{
    DependencyKey, Exemplar, ObservedOperation, ObservedUtilisation, RegionalBucket, RequestDays, RequestSample,
    Sightings,
};

/// What an observer (OTLP, Prometheus) learned, applied in one transaction or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ObservationBatch {
    /// Nodes that were seen. Nodes of edges and buckets need no entry here.
    pub entities: Vec<ObservedEntity>,
    /// Edges that were seen; what is stored of the same edge and source is added to.
    pub edges: Vec<ObservedEdge>,
    /// Requests that traces showed of services, by day: what call rates are measured against.
    pub requests: BTreeMap<EntityId, RequestDays>,
    /// Buckets that were measured.
    pub buckets: Vec<ObservedBucket>,
    /// What of them was answered in which region, as far as that is told.
    pub regional: Vec<RegionalBucket>,
    /// Utilisation that was measured.
    pub utilisation: Vec<ObservedUtilisation>,
    /// Requests that stand for others; of each service and hour the worst are kept.
    pub exemplars: Vec<Exemplar>,
    /// Requests with the calls that they waited for; of each service and hour those of the least ranks are kept.
    pub request_samples: Vec<RequestSample>,
    /// State to keep by key; `None` forgets it. Keys not named keep theirs.
    pub counter_states: BTreeMap<String, Option<Vec<u8>>>,
    /// Operations that were seen; what is stored of the same operation and day is added to.
    pub operations: Vec<ObservedOperation>,
    /// Rows of the span log that this batch accounts for.
    pub settled_spans: Vec<SettledSpans>,
    /// Fingerprints of the spans that this batch accounts for, and when it was made.
    pub settled_fingerprints: Option<SettledFingerprints>,
}

/// A node that was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedEntity {
    /// Its name.
    pub id: EntityId,
    /// What it looks like; `Service` for whoever answers requests of its own, `None` where nothing tells.
    pub kind: Option<EntityKind>,
    /// Who saw it.
    pub source: Source,
    /// Requests to it (server and consumer spans) since the last batch.
    pub request_count: u64,
}

/// An edge that was seen.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedEdge {
    /// Caller and callee.
    pub key: DependencyKey,
    /// Who saw it.
    pub source: Source,
    /// Whether the call is outside the request path (messaging); `None` where nothing tells.
    pub asynchronous: Option<bool>,
    /// For example `http`, `grpc`, `sql`.
    pub protocol: Option<String>,
    /// What was seen since the last batch.
    pub sightings: Sightings,
}

/// What to do with a bucket that is stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BucketMode {
    /// The new one stands.
    Replace,
    /// Counts and latency are added.
    Add,
}

/// A bucket that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct ObservedBucket {
    /// Of which service.
    pub service: EntityId,
    /// Who measured it.
    pub source: Source,
    /// What to do with a stored one of the same source.
    pub mode: BucketMode,
    /// The bucket.
    pub bucket: SliBucket,
}

/// Spans that were settled, by numbers that tell them apart: what comes again counts no second time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledFingerprints {
    /// When they were settled.
    pub settled_ms: UnixMillis,
    /// One each.
    pub fingerprints: Vec<u64>,
}

/// A row of the tenant's span log that was worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledSpans {
    /// Which row.
    pub sequence: i64,
    /// The state of the row that was worked on.
    pub revision: i64,
    /// What is left to do; `None` when nothing is and the row may go.
    pub remaining: Option<Vec<u8>>,
}
