//! Webhooks of PagerDuty, version 3: `{"event": {"event_type": …, "occurred_at": …, "data": {incident}}}`.
//!
//! Source: PagerDuty developer documentation, webhooks overview and event data types.

use std::collections::BTreeSet;

use super::node::Node;
use super::{Complaint, Event, NamedService};
use crate::domain::IncidentEvent;

const ORIGIN: &str = "pagerduty";
/// Events whose data is the incident; all others say nothing that is kept.
const INCIDENT_EVENTS: [&str; 10] = [
    "incident.triggered",
    "incident.acknowledged",
    "incident.unacknowledged",
    "incident.delegated",
    "incident.escalated",
    "incident.priority_updated",
    "incident.reassigned",
    "incident.reopened",
    "incident.resolved",
    "incident.service_updated",
];

pub(super) fn read(envelope: &Node<'_>) -> Result<Event, Complaint> {
    let event = envelope.require("event")?;
    let kind = event.required_text("event_type")?;
    if !INCIDENT_EVENTS.contains(&kind.as_str()) {
        return Ok(None);
    }
    let data = event.require("data")?;
    let time_ms = event.required_time("occurred_at")?;
    let status = data.optional_text("status")?;
    let end_ms = match (kind.as_str(), status.as_deref()) {
        ("incident.resolved", _) => Some(Some(time_ms)),
        ("incident.triggered" | "incident.acknowledged" | "incident.unacknowledged" | "incident.reopened", _)
        | (_, Some("triggered" | "acknowledged")) => Some(None),
        _ => None,
    };
    let priority = data.get("priority");
    let service = data.get("service");
    let names = |node: &Node<'_>| -> Result<NamedService, Complaint> {
        let names = [node.optional_text("summary")?, node.optional_text("id")?];
        Ok(NamedService::known_as(names.into_iter().flatten()))
    };
    let told = IncidentEvent {
        id: format!("{ORIGIN}:{}", data.required_text("id")?),
        origin: ORIGIN,
        time_ms,
        title: data.optional_text("title")?,
        services: None,
        unknown: BTreeSet::new(),
        dismissed: None,
        start_ms: data.optional_time("created_at")?,
        end_ms,
        priority: priority.map(|node| node.optional_text("summary")).transpose()?.flatten(),
        summary: None,
    };
    Ok(Some((told, service.as_ref().map(names).transpose()?.into_iter().collect())))
}
