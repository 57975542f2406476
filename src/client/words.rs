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

/// How own failures stand.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum DriftState {
    Steady,
    Drifted,
    CannotTell,
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
}

/// How much risk an offer takes.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Ambition {
    Conservative,
    Balanced,
    Ambitious,
}

/// The word that an enum value has on the command line and in JSON alike.
pub(super) fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}
