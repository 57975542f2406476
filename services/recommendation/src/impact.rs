//! What proposed SLO changes do to everybody who depends on them, directly or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_proto::graph::v1 as graph;
use attain_proto::recommendation::v1 as wire;
use attain_runtime::context::CallContext;
use attain_vocabulary::{EntityId, InvalidValue, Objective, TimeWindow};

use crate::Error;
use crate::domain::harm::{Affected, Ceiling, Sides, by_harm};
use crate::domain::latency_harm::LatencyEffect;
use crate::engine::Engine;
use crate::fleet::{self, Fleet, Named, Subject};
use crate::message::recommendation::missing_input;
use crate::message::topology::{attained, by_service};

/// Edges whose confidence is below this are doubtful: what is left without them is told as well.
pub(crate) use crate::domain::doubt::CONFIDENCE_MIN as DOUBTFUL;
/// Most changes of one request.
pub(crate) const CHANGES_MAX: usize = 50;

/// A checked proposal.
#[derive(Debug, Clone, PartialEq)]
struct Proposal {
    service: EntityId,
    target: Objective,
}

/// Evaluates the fleet twice: the changed services at what they are taken to attain today, and at what is proposed.
pub(crate) async fn analyze(
    engine: &Arc<Engine>,
    context: &CallContext,
    request: &wire::AnalyzeImpactRequest,
) -> Result<wire::AnalyzeImpactResponse, Error> {
    let proposals = proposals(request)?;
    let window = asked_window(request.window_days)?;
    let named = proposals
        .iter()
        .enumerate()
        .map(|(i, proposal)| Named { field: format!("proposals/{i}/service_id"), id: proposal.service.clone() });
    let subject = Subject { changed: named.collect(), ..Subject::default() };
    let fleet = fleet::gather(engine, context, &subject, window).await?;
    let known: Vec<Option<(f64, &'static str)>> =
        proposals.iter().map(|proposal| baseline(&fleet, &proposal.service)).collect();
    let today = proposals
        .iter()
        .zip(&known)
        .filter_map(|(proposal, known)| known.map(|(ratio, _)| attained(&proposal.service, ratio)));
    let proposed = proposals.iter().map(|proposal| attained(&proposal.service, proposal.target.target_ratio()));
    let (before, after) = futures::try_join!(
        fleet.evaluate(engine, context, today.collect(), None),
        fleet.evaluate(engine, context, proposed.collect(), Some(DOUBTFUL)),
    )?;
    let changed: BTreeSet<&EntityId> = proposals.iter().map(|proposal| &proposal.service).collect();
    let mut affected = weigh(&fleet, &changed, &before, &after);
    affected.sort_by(by_harm);
    let baselines =
        proposals.iter().zip(known).map(|(proposal, known)| wire_baseline(&proposal.service, known, &before)).collect();
    let unevaluated = fleet::unevaluated(&[&before, &after]);
    Ok(wire::AnalyzeImpactResponse {
        affected: affected.into_iter().map(affected_service).collect(),
        assumed_perfect_ids: assumed_perfect(&after, &changed),
        snapshot: after.snapshot,
        baselines,
        missing_inputs: fleet.missing.iter().chain(&unevaluated).map(missing_input).collect(),
    })
}

fn proposals(request: &wire::AnalyzeImpactRequest) -> Result<Vec<Proposal>, Error> {
    checked_count("proposals", request.proposals.len())?;
    let (mut proposals, mut faults, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (i, proposal) in request.proposals.iter().enumerate() {
        let place = format!("proposals/{i}");
        let service =
            EntityId::new("service_id", &proposal.service_id).map_err(|fault| faults.push(fault.within(&place)));
        let target =
            Objective::new("target_ratio", proposal.target_ratio).map_err(|fault| faults.push(fault.within(&place)));
        if let (Ok(service), Ok(target)) = (service, target) {
            if !seen.insert(service.clone()) {
                let reason = format!("{service} is proposed twice");
                faults.push(InvalidValue::new("service_id", "duplicate", reason).within(&place));
            }
            proposals.push(Proposal { service, target });
        }
    }
    if faults.is_empty() { Ok(proposals) } else { Err(Error::Invalid(faults)) }
}

/// Refuses a list that is empty or too long.
pub(crate) fn checked_count(list: &str, count: usize) -> Result<(), Error> {
    match count {
        0 => Err(InvalidValue::new(list, "required", "name at least one change").into()),
        count if count > CHANGES_MAX => {
            Err(InvalidValue::new(list, "too_long", format!("{count} changes; at most {CHANGES_MAX} are read")).into())
        }
        _ => Ok(()),
    }
}

/// The window asked for; `None` for each SLO's own.
pub(crate) fn asked_window(days: u32) -> Result<Option<TimeWindow>, Error> {
    if days == 0 { Ok(None) } else { Ok(Some(TimeWindow::from_days("window_days", days)?)) }
}

/// What a changed service is taken to attain today: its SLO in force, else what was measured, else its contract.
fn baseline(fleet: &Fleet, service: &EntityId) -> Option<(f64, &'static str)> {
    if let Some(slo) = fleet.slos.get(service) {
        return Some((slo.target.target_ratio(), "slo_in_force"));
    }
    let component = fleet.components.get(service)?;
    if let Some(split) = &component.split {
        let failed = split.own_failure_ratio + split.inherited_failure_ratio;
        return Some(((1.0 - failed).clamp(0.0, 1.0), "measured"));
    }
    component.published_ratio.map(|published| (published, "published"))
}

/// Where nothing is known of the service itself, what the structure allows it stands in.
fn wire_baseline(
    service: &EntityId,
    known: Option<(f64, &'static str)>,
    before: &graph::EvaluateAvailabilityResponse,
) -> wire::Baseline {
    let structure = || {
        by_service(before)
            .get(service.as_str())
            .and_then(|service| state(service))
            .map_or(1.0, |state| state.availability_ratio)
    };
    let (availability_ratio, origin) = known.unwrap_or_else(|| (structure(), "structure"));
    wire::Baseline { service_id: service.to_string(), availability_ratio, origin: origin.to_owned() }
}

/// After the changes of an evaluation; without any, the present state.
fn state(service: &graph::ServiceAvailability) -> Option<&graph::Availability> {
    service.after.as_ref().or(service.before.as_ref())
}

fn weigh(
    fleet: &Fleet,
    changed: &BTreeSet<&EntityId>,
    before: &graph::EvaluateAvailabilityResponse,
    after: &graph::EvaluateAvailabilityResponse,
) -> Vec<Affected> {
    let (before, after) = (by_service(before), by_service(after));
    let sides = fleet.affected.iter().filter_map(|id| {
        let before = state(before.get(id.as_str())?)?;
        let service = after.get(id.as_str())?;
        let after = state(service)?;
        let is_changed = changed.contains(id);
        let path = if is_changed && service.path.is_empty() { vec![id.to_string()] } else { service.path.clone() };
        Some(Sides {
            service: id.clone(),
            changed: is_changed,
            before: ceiling(before),
            after: ceiling(after),
            during: None,
            without_doubtful: service.without_doubtful_after_ratio,
            contribution: Some((contribution(before, changed), contribution(after, changed))),
            target: fleet.slos.get(id).map(|slo| slo.target.target_ratio()),
            forecast: fleet.forecasts.get(id),
            latency: LatencyEffect::None,
            path,
        })
    });
    sides.map(Affected::weigh).collect()
}

/// Unavailability that some components contribute.
pub(crate) fn contribution(state: &graph::Availability, of: &BTreeSet<&EntityId>) -> f64 {
    let named = state.importances.iter().filter(|importance| of.iter().any(|id| id.as_str() == importance.entity_id));
    named.map(|importance| importance.contribution_ratio).sum()
}

pub(crate) fn ceiling(state: &graph::Availability) -> Ceiling {
    let (low, high) = (state.interval_low_ratio, state.interval_high_ratio);
    Ceiling { ratio: state.availability_ratio, interval: (low < high).then_some((low, high)) }
}

/// Components without data, those left out whose availability was part of the question.
fn assumed_perfect(response: &graph::EvaluateAvailabilityResponse, changed: &BTreeSet<&EntityId>) -> Vec<String> {
    let names: BTreeMap<&str, ()> = changed.iter().map(|id| (id.as_str(), ())).collect();
    response.assumed_perfect_ids.iter().filter(|id| !names.contains_key(id.as_str())).cloned().collect()
}

/// As the wire has it.
pub(crate) fn affected_service(affected: Affected) -> wire::AffectedService {
    wire::AffectedService {
        detail: affected.sentence(),
        service_id: affected.service.to_string(),
        ceiling_before_ratio: affected.before.ratio,
        ceiling_after_ratio: affected.after.ratio,
        ceiling_before_interval: affected.before.interval.map(interval),
        ceiling_after_interval: affected.after.interval.map(interval),
        ceiling_during_ratio: affected.during.map(|during| during.ceiling.ratio),
        outage_budget_share: affected.outage_budget_share(),
        ceiling_without_doubtful_ratio: affected.without_doubtful,
        target_ratio: affected.target,
        miss_probability_before: affected.miss_before,
        miss_probability_after: affected.miss_after,
        budget_share_before: affected.budget_share_before,
        budget_share_after: affected.budget_share_after,
        slo_out_of_reach: affected.out_of_reach,
        latency_unknown: affected.latency == LatencyEffect::Unknown,
        latency: match affected.latency {
            LatencyEffect::Known(latency) => Some(*latency),
            LatencyEffect::None | LatencyEffect::Unknown => None,
        },
        path: affected.path,
    }
}

fn interval((low_ratio, high_ratio): (f64, f64)) -> wire::RatioInterval {
    wire::RatioInterval { low_ratio, high_ratio }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(proposals: &[(&str, f64)]) -> wire::AnalyzeImpactRequest {
        let proposal = |(service_id, target_ratio): &(&str, f64)| wire::ProposedSlo {
            service_id: (*service_id).to_owned(),
            target_ratio: *target_ratio,
        };
        wire::AnalyzeImpactRequest { proposals: proposals.iter().map(proposal).collect(), window_days: 0 }
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let faults = |proposals: &[(&str, f64)]| match super::proposals(&request(proposals)) {
            Err(Error::Invalid(faults)) => {
                faults.into_iter().map(|fault| (fault.field, fault.code)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(faults(&[]), [("proposals".to_owned(), "required")]);
        assert_eq!(
            faults(&[("a", 0.9), (" ", 1.5), ("a", 0.8), ("b", f64::NAN)]),
            [
                ("proposals/1/service_id".to_owned(), "malformed_name"),
                ("proposals/1/target_ratio".to_owned(), "out_of_range"),
                ("proposals/2/service_id".to_owned(), "duplicate"),
                ("proposals/3/target_ratio".to_owned(), "not_a_number"),
            ]
        );
        assert_eq!(faults(&[("a", 0.9); 51]), [("proposals".to_owned(), "too_long")]);
        assert!(super::proposals(&request(&[("a", 0.9), ("b", 0.99)])).is_ok());
    }
}
