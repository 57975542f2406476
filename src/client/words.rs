//! What options choose from: the words of the API.

use clap::ValueEnum;

/// Which way to walk.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    Downstream,
    Upstream,
    Both,
}

/// What a node of the graph is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum EntityKind {
    Service,
    Datastore,
    Cache,
    Queue,
    Infrastructure,
    External,
    NodePool,
    Zone,
    Region,
    Api,
    System,
}

/// How much depends on a service.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Tier {
    #[value(name = "tier-1")]
    One,
    #[value(name = "tier-2")]
    Two,
    #[value(name = "tier-3")]
    Three,
    #[value(name = "tier-4")]
    Four,
}

/// The window that an SLO covers: rolling, or of the calendar (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Window {
    #[value(name = "7d")]
    Days7,
    #[value(name = "28d")]
    Days28,
    #[value(name = "30d")]
    Days30,
    #[value(name = "90d")]
    Days90,
    Month,
    Quarter,
}

impl Window {
    /// Days of a rolling window.
    pub(super) fn days(self) -> Option<u32> {
        match self {
            Self::Days7 => Some(7),
            Self::Days28 => Some(28),
            Self::Days30 => Some(30),
            Self::Days90 => Some(90),
            Self::Month | Self::Quarter => None,
        }
    }

    /// The word of a calendar window.
    pub(super) fn calendar(self) -> Option<String> {
        if self.days().is_some() { None } else { word(self) }
    }
}

/// What a document is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DocumentKind {
    Runbook,
    SloTemplate,
    Incident,
}

/// How own failures stand.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DriftState {
    Steady,
    Drifted,
    CannotTell,
}

/// What an experiment draws as one.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExperimentUnit {
    /// The owner of a service.
    Team,
    /// Services that call one another, directly or by others.
    Component,
}

/// What the verdict of an experiment is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExperimentMetric {
    /// Share of windows that missed the suggested offer, less the share that was stated.
    ExcessMisses,
    /// Error budget over bad fraction.
    Tightness,
    /// Share of suggestions that was accepted as it was.
    Acceptance,
}

/// What a pushed file holds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Pushed {
    Dependencies,
    Metrics,
    Utilisation,
    Incidents,
    Documents,
}

/// What is used up.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum UtilisationKind {
    Cpu,
    Memory,
    Saturation,
    QueueDepth,
    ConnectionPool,
    MessageAge,
}

/// A format of another tool.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Imported {
    Pagerduty,
    Opsgenie,
    IncidentIo,
    IncidentsCsv,
    JaegerDependencies,
    JaegerTraces,
}

/// What was decided.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Action {
    Accept,
    Modify,
    Reject,
    Declare,
}

/// What an SLO measures.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Sli {
    Availability,
    Latency,
    Freshness,
}

/// How much risk an offer takes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Ambition {
    Conservative,
    Balanced,
    Ambitious,
}

/// What became of a recommendation.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RecommendationState {
    Open,
    Accepted,
    Modified,
    Rejected,
    Expired,
    Superseded,
}

/// Where a decision stands that needs an approval.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PendingState {
    Waiting,
    Approved,
    Refused,
    Withdrawn,
    Expired,
}

/// Where a message to an endpoint stands.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DeliveryState {
    Waiting,
    Delivered,
    Dead,
}

/// The word that an enum value has on the command line and in JSON alike.
pub(super) fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_proto::vocabulary::v1 as wire;
    use attain_vocabulary as vocabulary;

    #[test]
    fn every_kind_of_the_contract_can_be_asked_for() {
        let name = |kind| wire::EntityKind::from(kind).as_str_name().to_owned();
        let known = vocabulary::EntityKind::ALL.map(name);
        let offered = EntityKind::value_variants().iter().filter_map(|kind| word(*kind));
        let offered: Vec<String> =
            offered.map(|word| format!("ENTITY_KIND_{}", word.to_uppercase().replace('-', "_"))).collect();
        assert_eq!(offered, known);
    }
}
