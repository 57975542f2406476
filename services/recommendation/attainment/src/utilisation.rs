use attain_vocabulary::{EntityId, UnixMillis, UtilisationKind};
use serde::{Deserialize, Serialize};

/// What is known of queues and limits: how old what waits is, what is used of limits, and what is called without waiting.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct UtilisationFacts {
    /// The oldest age in each slice of five minutes, by ascending start; a second one with the same start is not read. Empty where
    /// none is measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ages: Vec<AgeBucket>,
    /// How much is used of each kind of limit, by kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub used: Vec<Used>,
    /// What the service calls without waiting for it, as far as it was asked about; others count as not measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asynchronous: Vec<AsynchronousEdge>,
}

impl UtilisationFacts {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How old the oldest message that waited in five minutes became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgeBucket {
    /// Start of the bucket.
    pub start_ms: UnixMillis,
    /// The largest age in it, in milliseconds.
    pub oldest_ms: u64,
}

/// How much was used of one kind of limit in the days before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// What is used up.
    pub kind: UtilisationKind,
    /// The five-minute mean that one bucket in 20 exceeds: a ratio in `[0, 1]`, or a depth.
    pub average_p95: f64,
    /// Largest value.
    pub maximum: f64,
    /// Buckets that this sums up.
    pub bucket_count: u32,
}

/// Something that is called without waiting for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsynchronousEdge {
    /// Who is called.
    pub callee: EntityId,
    /// Whether the age of what waits there is measured.
    pub age_measured: bool,
    /// Age in milliseconds of the freshness SLO in force there; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_threshold_ms: Option<u32>,
    /// Target of that SLO, in (0, 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ratio: Option<f64>,
}
