//! What persons decide: which incidents count, whom they hurt, when work is planned.

use attain_vocabulary::{TenantId, UnixMillis};
use sha2::{Digest as _, Sha256};

use crate::Error;
use crate::domain::{Bounds, ExclusionDecision, Incident, IncidentKind, IncidentSender, MaintenanceDraft, ServiceLink};
use crate::storage::Store;

/// How the name of a window begins that was given none.
const WINDOW_PREFIX: &str = "maintenance-";
/// Bytes of the hash that such a name keeps.
const WINDOW_HASH_BYTES: usize = 8;

/// Leaves an incident out of estimates, or takes it in again.
pub(crate) async fn decide_exclusion(
    store: &Store,
    tenant: &TenantId,
    id: &str,
    decision: ExclusionDecision,
) -> Result<Incident, Error> {
    let decide = |incident: &mut Incident| {
        if incident.kind == IncidentKind::Maintenance {
            let reason = "a maintenance window is always left out; end or delete it instead";
            return Err(Error::invalid("incident_id", "is_maintenance", reason));
        }
        // The same decision again keeps the time of the first.
        let same = incident.decision.as_ref().is_some_and(|known| {
            (known.excluded, &known.reason, &known.by) == (decision.excluded, &decision.reason, &decision.by)
        });
        if !same {
            incident.decision = Some(decision);
        }
        Ok(())
    };
    store.change_incident(tenant, id, decide).await?.ok_or_else(|| Error::UnknownIncident(shortened(id)))
}

/// Says which services an incident hurt. What an approver left out of the estimates of some services is not left out of
/// those of others but by an approver.
pub(crate) async fn link_services(
    store: &Store,
    tenant: &TenantId,
    id: &str,
    (sender, link): (&IncidentSender, ServiceLink),
) -> Result<Incident, Error> {
    let put = |incident: &mut Incident| {
        if incident.exclusion().0 && !link.services.is_subset(incident.hurt()) {
            sender.approves("service_ids", "leaving an incident out of the estimates of further services")?;
        }
        let same =
            incident.link.as_ref().is_some_and(|known| (&known.services, &known.by) == (&link.services, &link.by));
        if !same {
            incident.link = Some(link);
        }
        Ok(())
    };
    store.change_incident(tenant, id, put).await?.ok_or_else(|| Error::UnknownIncident(shortened(id)))
}

/// Declares or replaces a maintenance window. What was measured already is taken out of estimates by an approver alone.
pub(crate) async fn put_window(
    store: &Store,
    tenant: &TenantId,
    draft: MaintenanceDraft,
    (sender, bounds): (&IncidentSender, Bounds),
) -> Result<Incident, Error> {
    let window = draft.check(sender, bounds, unnamed)?;
    let replace = |known: &mut Incident| {
        if known.kind != IncidentKind::Maintenance {
            let reason = "an incident has this name already";
            return Err(Error::invalid("window_id", "is_incident", reason));
        }
        window.plans_ahead(Some(known), sender, bounds)?;
        *known = window.clone().replacing(known);
        Ok(())
    };
    match store.change_incident(tenant, &window.id, replace).await? {
        Some(window) => Ok(window),
        None => {
            window.plans_ahead(None, sender, bounds)?;
            store.put_incidents(tenant, vec![window.clone()]).await?;
            Ok(window)
        }
    }
}

/// Ends a window before its declared end; one that is over already stays as it is.
pub(crate) async fn end_window(
    store: &Store,
    tenant: &TenantId,
    id: &str,
    end_ms: UnixMillis,
) -> Result<Incident, Error> {
    let end = |window: &mut Incident| {
        if window.kind != IncidentKind::Maintenance {
            return Err(Error::UnknownWindow(shortened(id)));
        }
        if end_ms <= window.start_ms {
            let reason = "the window has not begun by then; delete it instead";
            return Err(Error::invalid("end_time", "ends_before_start", reason));
        }
        window.end_ms = window.end_ms.map_or(Some(end_ms), |declared_ms| Some(declared_ms.min(end_ms)));
        Ok(())
    };
    store.change_incident(tenant, id, end).await?.ok_or_else(|| Error::UnknownWindow(shortened(id)))
}

/// Removes a window.
pub(crate) async fn delete_window(store: &Store, tenant: &TenantId, id: &str) -> Result<(), Error> {
    let gone = store.remove_incident(tenant, id, |known| known.kind == IncidentKind::Maintenance).await?;
    if gone { Ok(()) } else { Err(Error::UnknownWindow(shortened(id))) }
}

/// A name made of what a window says, so that declaring it again changes nothing.
fn unnamed(draft: &MaintenanceDraft) -> String {
    let mut services = draft.service_ids.clone();
    services.sort();
    services.dedup();
    let said = format!("{}\n{}\n{}\n{}", draft.start_ms, draft.end_ms, services.join("\n"), draft.reason.trim());
    format!("{WINDOW_PREFIX}{}", hex::encode(&Sha256::digest(said)[..WINDOW_HASH_BYTES]))
}

/// A caller's own words are repeated in part only.
fn shortened(id: &str) -> String {
    id.chars().take(200).collect()
}
