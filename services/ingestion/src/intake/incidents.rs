use std::collections::BTreeSet;

use attain_vocabulary::{InvalidValue, TenantId};

use super::{Intake, Refused, bounded, sorted};
use crate::domain::{Bounds, Incident, IncidentDraft, IncidentSender};
use crate::storage::Store;
use crate::{Config, Error};

/// Checks, redacts and keeps incidents. Of two with the same id the later one stands; both count as accepted.
pub(crate) async fn keep_incidents(
    store: &Store,
    config: &Config,
    tenant: &TenantId,
    (sender, bounds): (&IncidentSender, Bounds),
    drafts: Vec<Result<IncidentDraft, InvalidValue>>,
) -> Result<Intake, Error> {
    bounded("incidents", drafts.len(), config.incidents_per_request_max)?;
    let mut intake = Intake::default();
    let mut admitted = Vec::with_capacity(drafts.len());
    for (index, draft) in sorted("incidents", drafts, &mut intake.refused) {
        match draft.admit(sender, bounds) {
            Ok(incident) => admitted.push((index, incident)),
            Err(invalid) => intake.refused.push(Refused { list: "incidents", index, invalid }),
        }
    }
    let reports: Vec<&Incident> = admitted.iter().map(|(_, incident)| incident).collect();
    let moving = moving_exclusions(store, tenant, sender, &reports).await?;
    let mut kept = Vec::with_capacity(admitted.len());
    for ((index, incident), refused) in admitted.into_iter().zip(moving) {
        match refused {
            None => kept.push(incident),
            Some(invalid) => intake.refused.push(Refused { list: "incidents", index, invalid }),
        }
    }
    intake.refused.sort_by_key(|refused| refused.index);
    intake.accepted_count = kept.len();
    if !kept.is_empty() {
        store.put_incidents(tenant, kept).await?;
    }
    Ok(intake)
}

/// Of each incident why it is refused, if it is: an approver decided what is left out of estimates, and a report by somebody
/// else does not move that.
pub(crate) async fn moving_exclusions(
    store: &Store,
    tenant: &TenantId,
    sender: &IncidentSender,
    incidents: &[&Incident],
) -> Result<Vec<Option<InvalidValue>>, Error> {
    if sender.may_approve {
        return Ok(vec![None; incidents.len()]);
    }
    let ids: BTreeSet<String> = incidents.iter().map(|incident| incident.id.clone()).collect();
    let known = store.incidents_by_id(tenant, &ids).await?;
    let refused = |incident: &&Incident| {
        let moves = known.get(&incident.id).is_some_and(|known| incident.moves_exclusion(known));
        moves.then(|| sender.approves("id", "to move what is left out of estimates").err()).flatten()
    };
    Ok(incidents.iter().map(refused).collect())
}
