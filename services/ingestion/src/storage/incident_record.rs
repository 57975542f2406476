//! How incidents are stored: as the other records are, see [`super::record`].

use std::collections::BTreeSet;

use attain_vocabulary::{EntityId, Ratio};
use prost::Message;

use super::record::{entity_id, ratio, undecodable};
use crate::Error;
use crate::domain::{ExclusionDecision, Incident, IncidentKind, SaidTimes, ServiceLink, UnknownService};

#[derive(Clone, PartialEq, Message)]
struct IncidentRecord {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, repeated, tag = "2")]
    services: Vec<String>,
    #[prost(string, optional, tag = "3")]
    cause: Option<String>,
    #[prost(int64, tag = "4")]
    start_ms: i64,
    #[prost(int64, optional, tag = "5")]
    end_ms: Option<i64>,
    #[prost(double, optional, tag = "6")]
    severity: Option<f64>,
    #[prost(string, optional, tag = "7")]
    summary: Option<String>,
    #[prost(bool, tag = "8")]
    excluded: bool,
    #[prost(string, optional, tag = "9")]
    exclusion_reason: Option<String>,
    /// 0 is an incident, 1 maintenance.
    #[prost(uint32, tag = "10")]
    kind: u32,
    #[prost(string, optional, tag = "11")]
    priority: Option<String>,
    #[prost(string, optional, tag = "12")]
    origin: Option<String>,
    #[prost(message, optional, tag = "13")]
    decision: Option<DecisionRecord>,
    #[prost(message, optional, tag = "14")]
    link: Option<LinkRecord>,
    #[prost(message, optional, tag = "15")]
    said: Option<SaidRecord>,
    #[prost(string, optional, tag = "16")]
    excluded_by: Option<String>,
    #[prost(bool, tag = "17")]
    dismissed: bool,
    #[prost(message, repeated, tag = "18")]
    unknown: Vec<UnknownServiceRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct UnknownServiceRecord {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    candidates: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct DecisionRecord {
    #[prost(bool, tag = "1")]
    excluded: bool,
    #[prost(string, optional, tag = "2")]
    reason: Option<String>,
    #[prost(string, tag = "3")]
    by: String,
    #[prost(int64, tag = "4")]
    time_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct LinkRecord {
    #[prost(string, repeated, tag = "1")]
    services: Vec<String>,
    #[prost(string, tag = "2")]
    by: String,
    #[prost(int64, tag = "3")]
    time_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SaidRecord {
    #[prost(int64, optional, tag = "1")]
    title_ms: Option<i64>,
    #[prost(int64, optional, tag = "2")]
    services_ms: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    start_ms: Option<i64>,
    #[prost(int64, optional, tag = "4")]
    end_ms: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    priority_ms: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    summary_ms: Option<i64>,
    #[prost(int64, optional, tag = "7")]
    dismissed_ms: Option<i64>,
}

pub(super) fn encode_incident(incident: &Incident) -> Vec<u8> {
    let said = (incident.said != SaidTimes::default()).then(|| said_record(incident.said));
    let record = IncidentRecord {
        title: incident.title.clone(),
        services: names(&incident.services),
        cause: incident.cause.as_ref().map(ToString::to_string),
        start_ms: incident.start_ms,
        end_ms: incident.end_ms,
        severity: incident.severity.map(Ratio::get),
        summary: incident.summary.clone(),
        excluded: incident.excluded,
        exclusion_reason: incident.exclusion_reason.clone(),
        kind: u32::from(incident.kind == IncidentKind::Maintenance),
        priority: incident.priority.clone(),
        origin: incident.origin.clone(),
        decision: incident.decision.clone().map(|decision| DecisionRecord {
            excluded: decision.excluded,
            reason: decision.reason,
            by: decision.by,
            time_ms: decision.time_ms,
        }),
        link: incident.link.as_ref().map(|link| LinkRecord {
            services: names(&link.services),
            by: link.by.clone(),
            time_ms: link.time_ms,
        }),
        said,
        excluded_by: incident.excluded_by.clone(),
        dismissed: incident.dismissed,
        unknown: incident.unknown.iter().map(unknown_record).collect(),
    };
    record.encode_to_vec()
}

pub(super) fn decode_incident(id: &str, bytes: &[u8]) -> Result<Incident, Error> {
    let record = IncidentRecord::decode(bytes).map_err(undecodable)?;
    Ok(Incident {
        id: id.to_owned(),
        kind: kind(record.kind)?,
        title: record.title,
        services: ids(&record.services)?,
        cause: record.cause.as_deref().map(entity_id).transpose()?,
        start_ms: record.start_ms,
        end_ms: record.end_ms,
        severity: ratio(record.severity)?,
        priority: record.priority,
        summary: record.summary,
        excluded: record.excluded,
        exclusion_reason: record.exclusion_reason,
        origin: record.origin,
        decision: record.decision.map(|decision| ExclusionDecision {
            excluded: decision.excluded,
            reason: decision.reason,
            by: decision.by,
            time_ms: decision.time_ms,
        }),
        link: record.link.map(link).transpose()?,
        said: record.said.map(said_times).unwrap_or_default(),
        excluded_by: record.excluded_by,
        dismissed: record.dismissed,
        unknown: record.unknown.into_iter().map(unknown_service).collect::<Result<_, Error>>()?,
    })
}

fn unknown_record(unknown: &UnknownService) -> UnknownServiceRecord {
    let candidates = unknown.candidates.iter().map(ToString::to_string).collect();
    UnknownServiceRecord { names: unknown.names.clone(), candidates }
}

fn unknown_service(record: UnknownServiceRecord) -> Result<UnknownService, Error> {
    let candidates = record.candidates.iter().map(|name| entity_id(name)).collect::<Result<_, Error>>()?;
    Ok(UnknownService { names: record.names, candidates })
}

fn kind(number: u32) -> Result<IncidentKind, Error> {
    match number {
        0 => Ok(IncidentKind::Incident),
        1 => Ok(IncidentKind::Maintenance),
        number => Err(Error::Corrupt(format!("{number} is no kind of incident"))),
    }
}

fn link(record: LinkRecord) -> Result<ServiceLink, Error> {
    Ok(ServiceLink { services: ids(&record.services)?, by: record.by, time_ms: record.time_ms })
}

fn names(services: &BTreeSet<EntityId>) -> Vec<String> {
    services.iter().map(ToString::to_string).collect()
}

fn ids(names: &[String]) -> Result<BTreeSet<EntityId>, Error> {
    names.iter().map(|name| entity_id(name)).collect()
}

fn said_record(said: SaidTimes) -> SaidRecord {
    SaidRecord {
        title_ms: said.title_ms,
        services_ms: said.services_ms,
        start_ms: said.start_ms,
        end_ms: said.end_ms,
        priority_ms: said.priority_ms,
        summary_ms: said.summary_ms,
        dismissed_ms: said.dismissed_ms,
    }
}

fn said_times(record: SaidRecord) -> SaidTimes {
    SaidTimes {
        title_ms: record.title_ms,
        services_ms: record.services_ms,
        start_ms: record.start_ms,
        end_ms: record.end_ms,
        priority_ms: record.priority_ms,
        summary_ms: record.summary_ms,
        dismissed_ms: record.dismissed_ms,
    }
}
