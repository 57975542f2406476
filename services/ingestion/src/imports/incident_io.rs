//! Webhooks of incident.io, version 2: `{"event_type": T, T: {incident}}`.
//!
//! Source: incident.io API reference, webhooks. Events of private incidents carry an id and nothing else, and are ignored.

use std::collections::BTreeSet;

use attain_vocabulary::UnixMillis;
use serde_json::Value;

use super::node::Node;
use super::{Complaint, Event, NamedService};
use crate::domain::IncidentEvent;

const ORIGIN: &str = "incident-io";
const INCIDENT_EVENTS: [&str; 3] = [
    "public_incident.incident_created_v2",
    "public_incident.incident_updated_v2",
    "public_incident.incident_status_updated_v2",
];
/// Categories of a status in which an incident is over.
const OVER: [&str; 3] = ["learning", "post-incident", "closed"];
/// Categories in which it turned out to be none, or part of another one.
const DISMISSED: [&str; 4] = ["declined", "merged", "canceled", "cancelled"];
/// Categories in which it lasts.
const LASTING: [&str; 4] = ["triage", "active", "live", "paused"];
/// Modes of incidents that did not happen.
const DRILLS: [&str; 2] = ["test", "tutorial"];
/// Timestamps of an incident that tell its beginning and its end, the truest first. They can be renamed; then the times of
/// the incident itself stand.
const BEGAN: [&str; 2] = ["impact started at", "started at"];
const ENDED: [&str; 4] = ["impact ended at", "fixed at", "resolved at", "closed at"];

pub(super) fn read(envelope: &Node<'_>, service_fields: &[String]) -> Result<Event, Complaint> {
    let kind = envelope.required_text("event_type")?;
    if !INCIDENT_EVENTS.contains(&kind.as_str()) {
        return Ok(None);
    }
    let payload = envelope.require(&kind)?;
    // A change of status wraps the incident.
    let wrapped = payload.get("incident");
    let incident = wrapped.as_ref().unwrap_or(&payload);
    if incident.optional_text("mode")?.is_some_and(|mode| DRILLS.contains(&mode.as_str())) {
        return Ok(None);
    }
    let created_ms = incident.required_time("created_at")?;
    let time_ms = incident.optional_time("updated_at")?.unwrap_or(created_ms);
    let status = incident.get("incident_status");
    let category = status.map(|status| status.optional_text("category")).transpose()?.flatten();
    let end_ms = match category.as_deref() {
        Some(category) if OVER.contains(&category) || DISMISSED.contains(&category) => {
            Some(Some(marked(incident, &ENDED).unwrap_or(time_ms)))
        }
        Some(category) if LASTING.contains(&category) => Some(None),
        _ => None,
    };
    let dismissed = category.as_deref().and_then(|category| match category {
        category if DISMISSED.contains(&category) => Some(true),
        category if OVER.contains(&category) || LASTING.contains(&category) => Some(false),
        _ => None,
    });
    let severity = incident.get("severity");
    let told = IncidentEvent {
        id: format!("{ORIGIN}:{}", incident.required_text("id")?),
        origin: ORIGIN,
        time_ms,
        title: incident.optional_text("name")?,
        services: None,
        unknown: BTreeSet::new(),
        dismissed,
        start_ms: Some(marked(incident, &BEGAN).unwrap_or(created_ms)),
        end_ms,
        priority: severity.map(|severity| severity.optional_text("name")).transpose()?.flatten(),
        summary: incident.optional_text("summary")?,
    };
    Ok(Some((told, named(incident, service_fields))))
}

/// The first of the named timestamps that has a value.
fn marked(incident: &Node<'_>, names: &[&str]) -> Option<UnixMillis> {
    let all = incident.list("incident_timestamp_values");
    let of = |name: &str| {
        let marked = all.iter().find(|entry| {
            entry["incident_timestamp"]["name"].as_str().is_some_and(|given| given.eq_ignore_ascii_case(name))
        })?;
        let text = marked["value"]["value"].as_str().or_else(|| marked["value"].as_str())?;
        text.parse().ok().map(|time: jiff::Timestamp| time.as_millisecond())
    };
    names.iter().find_map(|name| of(name))
}

/// Services by the custom fields that name them.
fn named(incident: &Node<'_>, service_fields: &[String]) -> Vec<NamedService> {
    let is_field = |entry: &&Value| {
        entry["custom_field"]["name"].as_str().is_some_and(|n| service_fields.contains(&n.to_lowercase()))
    };
    let entries = incident.list("custom_field_entries");
    let values =
        entries.iter().filter(|entry| is_field(entry)).filter_map(|entry| entry["values"].as_array()).flatten();
    let name_of = |value: &Value| {
        let catalogued = &value["value_catalog_entry"];
        let texts =
            [&catalogued["name"], &catalogued["external_id"], &value["value_option"]["value"], &value["value_text"]];
        let names = texts.into_iter().filter_map(Value::as_str).map(str::to_owned);
        NamedService::known_as(names)
    };
    values.map(name_of).filter(|service| !service.names.is_empty()).collect()
}
