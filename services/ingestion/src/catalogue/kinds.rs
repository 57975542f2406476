//! Types and tiers in the words of organisations.

use attain_vocabulary::{EntityKind, Tier};

/// Types of resources as organisations write them; the first word of the longer ones counts too (`redis-cluster`).
pub(super) const KINDS: &[(&str, EntityKind)] = &[
    ("bigquery", EntityKind::Datastore),
    ("bigtable", EntityKind::Datastore),
    ("blob-storage", EntityKind::Datastore),
    ("bucket", EntityKind::Datastore),
    ("cassandra", EntityKind::Datastore),
    ("cloudsql", EntityKind::Datastore),
    ("data-warehouse", EntityKind::Datastore),
    ("database", EntityKind::Datastore),
    ("datastore", EntityKind::Datastore),
    ("db", EntityKind::Datastore),
    ("dynamodb", EntityKind::Datastore),
    ("elasticsearch", EntityKind::Datastore),
    ("gcs-bucket", EntityKind::Datastore),
    ("mongodb", EntityKind::Datastore),
    ("mysql", EntityKind::Datastore),
    ("object-storage", EntityKind::Datastore),
    ("opensearch", EntityKind::Datastore),
    ("oracle", EntityKind::Datastore),
    ("postgres", EntityKind::Datastore),
    ("postgresql", EntityKind::Datastore),
    ("rds", EntityKind::Datastore),
    ("s3", EntityKind::Datastore),
    ("s3-bucket", EntityKind::Datastore),
    ("snowflake", EntityKind::Datastore),
    ("spanner", EntityKind::Datastore),
    ("sqlserver", EntityKind::Datastore),
    ("storage", EntityKind::Datastore),
    ("cache", EntityKind::Cache),
    ("elasticache", EntityKind::Cache),
    ("memcached", EntityKind::Cache),
    ("redis", EntityKind::Cache),
    ("valkey", EntityKind::Cache),
    ("event-bus", EntityKind::Queue),
    ("event-hub", EntityKind::Queue),
    ("kafka", EntityKind::Queue),
    ("kafka-topic", EntityKind::Queue),
    ("kinesis", EntityKind::Queue),
    ("message-broker", EntityKind::Queue),
    ("message-queue", EntityKind::Queue),
    ("nats", EntityKind::Queue),
    ("pubsub", EntityKind::Queue),
    ("pubsub-topic", EntityKind::Queue),
    ("queue", EntityKind::Queue),
    ("rabbitmq", EntityKind::Queue),
    ("sns", EntityKind::Queue),
    ("sqs", EntityKind::Queue),
    ("stream", EntityKind::Queue),
    ("topic", EntityKind::Queue),
    ("cdn", EntityKind::Infrastructure),
    ("cluster", EntityKind::Infrastructure),
    ("dns", EntityKind::Infrastructure),
    ("host", EntityKind::Infrastructure),
    ("infrastructure", EntityKind::Infrastructure),
    ("kubernetes-cluster", EntityKind::Infrastructure),
    ("load-balancer", EntityKind::Infrastructure),
    ("network", EntityKind::Infrastructure),
    ("server", EntityKind::Infrastructure),
    ("virtual-machine", EntityKind::Infrastructure),
    ("vm", EntityKind::Infrastructure),
    ("node-group", EntityKind::NodePool),
    ("node-pool", EntityKind::NodePool),
    ("nodegroup", EntityKind::NodePool),
    ("nodepool", EntityKind::NodePool),
    ("availability-zone", EntityKind::Zone),
    ("zone", EntityKind::Zone),
    ("cloud-region", EntityKind::Region),
    ("region", EntityKind::Region),
    ("external", EntityKind::External),
    ("external-service", EntityKind::External),
    ("saas", EntityKind::External),
    ("third-party", EntityKind::External),
];

/// A type in lower case, its words joined by hyphens.
pub(super) fn hyphenated(word: &str) -> String {
    word.trim().to_lowercase().replace(['_', ' '], "-")
}

/// A tier as organisations write it: `1`, `T1`, `tier-1`, `TIER_1`, or `critical`, `high`, `medium`, `low`.
pub(super) fn read_tier(text: &str) -> Option<Tier> {
    let word: String = text.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    match word.strip_prefix("tier").or(word.strip_prefix('t')).unwrap_or(&word) {
        "1" | "critical" => Some(Tier::One),
        "2" | "high" => Some(Tier::Two),
        "3" | "medium" => Some(Tier::Three),
        "4" | "low" => Some(Tier::Four),
        _ => None,
    }
}
