//! What options choose from: the words of the API.

use attain_proto::vocabulary::v1 as vocabulary;
use attain_vocabulary::EntityKind;
use clap::ValueEnum;
use clap::builder::PossibleValuesParser;

/// Which way to walk.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Direction {
    Downstream,
    Upstream,
    Both,
}

/// What nodes of the graph may be, by the contract's words.
pub(crate) fn entity_kinds() -> PossibleValuesParser {
    let word = |kind: EntityKind| {
        let name = vocabulary::EntityKind::from(kind).as_str_name();
        name.trim_start_matches("ENTITY_KIND_").to_lowercase().replace('_', "-")
    };
    PossibleValuesParser::new(EntityKind::ALL.map(word))
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
