//! Webhooks of Opsgenie alerts: `{"action": "Create", "alert": {"alertId": …, "updatedAt": …}}`.
//!
//! Source: Opsgenie documentation, webhook integration. `createdAt` is in milliseconds, `updatedAt` in nanoseconds, and older
//! accounts write both as texts.

use std::collections::BTreeSet;

use attain_vocabulary::UnixMillis;
use serde_json::Value;

use super::node::Node;
use super::{Complaint, Event, NamedService};
use crate::domain::IncidentEvent;

const ORIGIN: &str = "opsgenie";
/// Actions after which the alert is as it says in the event; all others say nothing that is kept.
const ACTIONS: [&str; 14] = [
    "Create",
    "Acknowledge",
    "UnAcknowledge",
    "Close",
    "Delete",
    "Escalate",
    "AddTags",
    "RemoveTags",
    "AddDetails",
    "RemoveDetails",
    "UpdatePriority",
    "UpdateMessage",
    "UpdateDescription",
    "AssignOwnership",
];
/// From this on a number counts nanoseconds since 1970, and not milliseconds: the year 5138 in milliseconds.
const NANOSECONDS_FROM: u64 = 100_000_000_000_000;

pub(super) fn read(envelope: &Node<'_>, service_fields: &[String]) -> Result<Event, Complaint> {
    let action = envelope.required_text("action")?;
    if !ACTIONS.contains(&action.as_str()) {
        return Ok(None);
    }
    let alert = envelope.require("alert")?;
    let created_ms = alert.get("createdAt").map(|node| instant(&node)).transpose()?;
    let updated_ms = alert.get("updatedAt").map(|node| instant(&node)).transpose()?;
    let time_ms = match updated_ms.or(created_ms) {
        Some(time_ms) => time_ms,
        None => instant(&alert.require("updatedAt")?)?,
    };
    let end_ms = match action.as_str() {
        "Close" | "Delete" => Some(Some(time_ms)),
        "Create" | "Acknowledge" | "UnAcknowledge" => Some(None),
        _ => None,
    };
    let told = IncidentEvent {
        id: format!("{ORIGIN}:{}", alert.required_text("alertId")?),
        origin: ORIGIN,
        time_ms,
        title: alert.optional_text("message")?,
        services: None,
        unknown: BTreeSet::new(),
        dismissed: None,
        start_ms: created_ms,
        end_ms,
        priority: alert.optional_text("priority")?,
        summary: alert.optional_text("description")?.filter(|text| !text.trim().is_empty()),
    };
    Ok(Some((told, named(&alert, service_fields))))
}

/// Milliseconds of a number of milliseconds or nanoseconds.
fn instant(node: &Node<'_>) -> Result<UnixMillis, Complaint> {
    let number = node.whole()?;
    let number = if number >= NANOSECONDS_FROM { number / 1_000_000 } else { number };
    UnixMillis::try_from(number).map_err(|_| node.complain("out_of_range", "no time is that late"))
}

/// Services by details and tags that say so, and the entity of the alert, which may be one.
fn named(alert: &Node<'_>, service_fields: &[String]) -> Vec<NamedService> {
    let is_field = |name: &str| service_fields.contains(&name.trim().to_lowercase());
    let mut named = Vec::new();
    if let Some(Value::Object(details)) = alert.get("details").map(|node| node.value()) {
        for (_, text) in details.iter().filter(|(name, _)| is_field(name)) {
            let parts = text.as_str().unwrap_or_default().split([',', ';']);
            named.extend(parts.map(|part| NamedService::known_as([part.trim().to_owned()])));
        }
    }
    for tag in alert.list("tags").into_iter().filter_map(Value::as_str) {
        if let Some((field, name)) = tag.split_once([':', '=']).filter(|(field, _)| is_field(field)) {
            debug_assert!(!field.is_empty());
            named.push(NamedService::known_as([name.trim().to_owned()]));
        }
    }
    if let Ok(Some(entity)) = alert.optional_text("entity") {
        named.push(NamedService { perhaps: true, ..NamedService::known_as([entity]) });
    }
    named.retain(|service| !service.names.is_empty());
    named
}
