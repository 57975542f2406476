use attain_vocabulary::{EntityId, LatencyHistogram};

/// Name under which operations beyond the most that are kept are counted together.
pub const OTHER_OPERATIONS: &str = "other";

/// Callee under which calls to services beyond the most that are kept are counted together.
pub const OTHER_CALLEES: &str = "other-callees";

/// One operation of one service on one day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OperationKey {
    /// Whose.
    pub service: EntityId,
    /// Whom the service called by it; `None` where the service itself answered.
    pub callee: Option<EntityId>,
    /// For example `GET /users/{id}`; without ids.
    pub name: String,
    /// Days since the Unix epoch.
    pub day: i64,
}

/// How often, how well and how fast an operation was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationCounts {
    /// Requests that the service answered, or calls that it made.
    pub request_count: u64,
    /// Those that failed; at most `request_count`.
    pub bad_count: u64,
    /// Latency of those that somebody waited for.
    pub latency: LatencyHistogram,
}

/// What was seen of an operation since the last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedOperation {
    /// Which.
    pub key: OperationKey,
    /// What was seen.
    pub seen: OperationCounts,
}

impl Default for OperationCounts {
    fn default() -> Self {
        Self { request_count: 0, bad_count: 0, latency: LatencyHistogram::empty() }
    }
}

impl OperationCounts {
    /// Adds what another observer, or a later look, saw.
    pub fn add(&mut self, more: &Self) {
        self.request_count = self.request_count.saturating_add(more.request_count);
        self.bad_count = self.bad_count.saturating_add(more.bad_count);
        self.latency.merge(&more.latency);
    }
}
