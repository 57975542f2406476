use serde::{Deserialize, Serialize};

/// What a node of the dependency graph is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntityKind {
    /// A service that a team of the tenant runs.
    Service,
    /// A database or other system of record.
    Datastore,
    /// A cache.
    Cache,
    /// A queue or a log.
    Queue,
    /// Infrastructure that is none of the more telling kinds: a cluster, load balancer, network or host.
    Infrastructure,
    /// A party outside the tenant, with a contract rather than a team.
    External,
    /// Machines of one sort that workloads are placed on.
    NodePool,
    /// An availability zone.
    Zone,
    /// A region of a cloud or of data centres.
    Region,
    /// What some services offer to others.
    Api,
    /// What its members do together.
    System,
}

impl EntityKind {
    /// Every kind, in their order.
    pub const ALL: [Self; 11] = [
        Self::Service,
        Self::Datastore,
        Self::Cache,
        Self::Queue,
        Self::Infrastructure,
        Self::External,
        Self::NodePool,
        Self::Zone,
        Self::Region,
        Self::Api,
        Self::System,
    ];

    /// Whether it is infrastructure of some sort.
    #[must_use]
    pub fn is_infrastructure(self) -> bool {
        matches!(self, Self::Infrastructure | Self::NodePool | Self::Zone | Self::Region)
    }

    /// Whether it is what others make of it: an API or a system. It fails by its parts alone and has no requests but theirs.
    #[must_use]
    pub fn is_composite(self) -> bool {
        matches!(self, Self::Api | Self::System)
    }

    /// Whether traces can show calls by it or to it.
    #[must_use]
    pub fn is_called(self) -> bool {
        !self.is_infrastructure() && !self.is_composite()
    }
}

/// How much depends on a service. The order is from the most to the least critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Failure stops the business.
    One,
    /// Failure is felt by customers at once.
    Two,
    /// Failure is felt by some, or later.
    Three,
    /// Internal or best effort.
    Four,
}

/// What a failure of the callee does to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DependencyMode {
    /// The caller fails when the callee fails.
    Hard,
    /// The caller has a fallback.
    Soft,
    /// The call is outside the request path.
    Async,
}

/// Where a statement about a dependency or a measurement came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Written by a person or a tool.
    Declared,
    /// Seen in traces.
    Traces,
    /// Computed from OTLP metrics.
    OtlpMetrics,
    /// Read from a Prometheus-compatible server.
    Prometheus,
    /// Synchronised from a service catalogue.
    Catalogue,
    /// Counted by a service graph that a Collector or a trace backend computed and sent as OTLP metrics.
    ServiceGraph,
    /// Counted by Istio's proxies.
    Istio,
    /// Counted by Linkerd's proxies.
    Linkerd,
    /// Counted by Jaeger.
    Jaeger,
}

impl Source {
    /// Every source, in their order.
    pub const ALL: [Self; 9] = [
        Self::Declared,
        Self::Traces,
        Self::OtlpMetrics,
        Self::Prometheus,
        Self::Catalogue,
        Self::ServiceGraph,
        Self::Istio,
        Self::Linkerd,
        Self::Jaeger,
    ];
}

/// What an SLO measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SliKind {
    /// Share of valid requests that did not fail.
    Availability,
    /// Share of valid requests answered faster than a threshold.
    Latency,
    /// Share of slices of five minutes in which what waited to be processed was never older than a threshold.
    Freshness,
}

/// What is used up: ratios of what there is, but for the number of things that wait and the age of the oldest of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UtilisationKind {
    /// Processor time over the limit.
    Cpu,
    /// Memory over the limit.
    Memory,
    /// Whatever runs out first where none of the other kinds says it: threads, file space, disk time.
    Saturation,
    /// Messages, requests or jobs that wait.
    QueueDepth,
    /// Connections in use over those there may be.
    ConnectionPool,
    /// Age of the oldest message that waits to be processed, or of the newest data that were, in seconds.
    MessageAge,
}

impl UtilisationKind {
    /// Whether it is a share of what there is; else a number or seconds.
    #[must_use]
    pub fn is_ratio(self) -> bool {
        !matches!(self, Self::QueueDepth | Self::MessageAge)
    }
}
