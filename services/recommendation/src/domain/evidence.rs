//! The question that is put to the knowledge service: the risks that a recommendation names, in words.

use attain_attainment::{ConstraintKind, RecommendationResult, SliResult};
use attain_vocabulary::{EntityId, EntityKind, SliKind, Tier};

/// Longest question that the knowledge service takes, in characters.
const QUERY_LEN_MAX: usize = 2000;

/// The question, and the services whose documents count for more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) query: String,
    pub(crate) services: Vec<EntityId>,
    /// Documents written for this tier count for more.
    pub(crate) tier: Tier,
}

/// Puts the question: what binds, what kind of thing it is, how it fails, and what the service is.
pub(crate) fn question(
    result: &RecommendationResult,
    kind: EntityKind,
    tier: Tier,
    kind_of: impl Fn(&EntityId) -> Option<EntityKind>,
) -> Question {
    let mut services = vec![result.service.clone()];
    let mut words: Vec<String> = Vec::new();
    for sli in &result.slis {
        let driver = sli.binding_constraint.entity_id.as_ref().filter(|id| **id != result.service);
        if let Some(id) = driver {
            services.push(id.clone());
            let what = kind_of(id).map_or("dependency", kind_words);
            let through = arrives_by(sli).filter(|direct| *direct != id);
            services.extend(through.cloned());
            let way = through.map_or_else(String::new, |direct| format!(" by way of {direct}"));
            words.push(format!("{} depends{way} on the {what} {id}, which fails {}", result.service, signature(sli)));
        } else {
            words.push(format!("{} {}", result.service, own_risk(sli)));
        }
    }
    words.push(format!("SLO target for a {}", kind_words(kind)));
    services.dedup();
    let query: String = words.join(". ").chars().take(QUERY_LEN_MAX).collect();
    Question { query, services, tier }
}

/// The direct dependency by which most failures arrive.
fn arrives_by(sli: &SliResult) -> Option<&EntityId> {
    sli.failure_split.as_ref()?.inherited.first().map(|share| &share.dependency)
}

/// What a person would call the failure: errors or slowness, now and then or all the time.
fn signature(sli: &SliResult) -> &'static str {
    let chronic = sli.forecast.as_ref().is_some_and(|forecast| forecast.chronic_mean() > forecast.mean() / 2.0);
    match (sli.kind, chronic) {
        (SliKind::Availability, true) => "with a steady rate of errors; timeout, retry, fallback, circuit breaker",
        (SliKind::Availability, false) => "in outages; incident, mitigation, fallback, failover",
        (SliKind::Latency, _) => "by slow responses; latency, timeout, saturation",
        (SliKind::Freshness, _) => "by messages that wait; backlog, consumer lag, queue",
    }
}

fn own_risk(sli: &SliResult) -> String {
    match (sli.binding_constraint.kind, sli.kind) {
        (ConstraintKind::Volume, _) => "has low traffic; low request volume, synthetic probes".to_owned(),
        (ConstraintKind::Data, _) => "has little data; SLO template".to_owned(),
        (ConstraintKind::Policy, _) => "meets the strictest target of its tier; error budget policy".to_owned(),
        (ConstraintKind::Own | ConstraintKind::Dependency, SliKind::Availability) => {
            format!("fails of its own {}", signature(sli))
        }
        (ConstraintKind::Own | ConstraintKind::Dependency, SliKind::Latency) => {
            "answers slowly; latency, saturation".to_owned()
        }
        (ConstraintKind::Own | ConstraintKind::Dependency, SliKind::Freshness) => {
            "processes messages late; backlog, consumer lag, scaling of consumers".to_owned()
        }
    }
}

fn kind_words(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Service => "service",
        EntityKind::Datastore => "database",
        EntityKind::Cache => "cache",
        EntityKind::Queue => "queue",
        EntityKind::Infrastructure => "infrastructure",
        EntityKind::External => "external provider",
        EntityKind::NodePool => "node pool",
        EntityKind::Zone => "availability zone",
        EntityKind::Region => "region",
        EntityKind::Api => "API",
        EntityKind::System => "system",
    }
}
