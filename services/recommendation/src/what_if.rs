//! What a change of structure does: a fallback, retries, an edge added or removed, a dependency's promise.

use std::sync::Arc;

use attain_proto::convert;
use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{DependencyMode, EntityId, InvalidValue, Ratio};

use crate::Error;
use crate::domain::harm::{Affected, Sides, by_change};
use crate::engine::Engine;
use crate::fleet::{self, Fleet, Named};
use crate::impact::{affected_service, asked_window, checked_count};
use crate::message::recommendation::missing_input;
use crate::message::topology::by_service;

/// Most further attempts after a failed call, as the contract has it.
const RETRIES_MAX: u32 = 10;

/// Evaluates the fleet as it is and after the changes.
pub(crate) async fn analyze(
    engine: &Arc<Engine>,
    context: &CallContext,
    request: &wire::AnalyzeWhatIfRequest,
) -> Result<wire::AnalyzeWhatIfResponse, Error> {
    let checked = Checked::read(&request.changes)?;
    let window = asked_window(request.window_days)?;
    let fleet = fleet::gather(engine, context, &checked.changed, &checked.needed, window).await?;
    checked.removed_edges_exist(&fleet)?;
    let response = fleet.evaluate(engine, context, request.changes.clone()).await?;
    let mut affected: Vec<Affected> = weigh(&fleet, &response).into_iter().filter(Affected::moves).collect();
    affected.sort_by(by_change);
    Ok(wire::AnalyzeWhatIfResponse {
        affected: affected.into_iter().map(affected_service).collect(),
        assumed_perfect_ids: response.assumed_perfect_ids,
        snapshot: response.snapshot,
        missing_inputs: fleet.missing.iter().map(missing_input).collect(),
    })
}

fn weigh(fleet: &Fleet, response: &graph::EvaluateAvailabilityResponse) -> Vec<Affected> {
    let evaluated = by_service(response);
    let sides = fleet.affected.iter().filter_map(|id| {
        let service = evaluated.get(id.as_str())?;
        let (before, after) = (service.before.as_ref()?, service.after.as_ref()?);
        Some(Sides {
            service: id.clone(),
            changed: false,
            ceiling_before: before.availability_ratio,
            ceiling_after: after.availability_ratio,
            contribution: None,
            target: fleet.slos.get(id).map(|slo| slo.target.target_ratio()),
            forecast: fleet.forecasts.get(id),
            path: service.path.clone(),
        })
    });
    sides.map(Affected::weigh).collect()
}

/// The services that changes name, each field checked.
#[derive(Debug, Default)]
struct Checked {
    /// Services that behave differently themselves; whoever depends on them is affected.
    changed: Vec<Named>,
    /// Services that have to exist.
    needed: Vec<Named>,
    /// Edges that have to exist, with the field that names them.
    removed: Vec<(String, EntityId, EntityId)>,
}

impl Checked {
    fn read(changes: &[graph::ScenarioChange]) -> Result<Self, Error> {
        checked_count("changes", changes.len())?;
        let (mut checked, mut faults) = (Self::default(), Vec::new());
        for (i, change) in changes.iter().enumerate() {
            let place = format!("changes/{i}");
            let found = match &change.change {
                None => Err(vec![InvalidValue::new(
                    "change",
                    "required",
                    "say what changes: attained_ratio, set_dependency or remove_dependency",
                )]),
                Some(Change::AttainedRatio(attained)) => checked.attained(&place, attained),
                Some(Change::SetDependency(dependency)) => checked.set(&place, dependency),
                Some(Change::RemoveDependency(edge)) => checked.remove(&place, edge),
            };
            if let Err(found) = found {
                faults.extend(found.into_iter().map(|fault| fault.within(&place)));
            }
        }
        if faults.is_empty() { Ok(checked) } else { Err(Error::Invalid(faults)) }
    }

    fn attained(&mut self, place: &str, attained: &graph::AttainedRatio) -> Result<(), Vec<InvalidValue>> {
        let mut faults = Vec::new();
        let id = EntityId::new("entity_id", &attained.entity_id).map_err(|fault| faults.push(fault));
        if let Err(fault) = Ratio::new("availability_ratio", attained.availability_ratio) {
            faults.push(fault);
        }
        if let Ok(id) = id {
            self.changed.push(Named { field: format!("{place}/attained_ratio/entity_id"), id });
        }
        within("attained_ratio", faults)
    }

    fn set(&mut self, place: &str, dependency: &vocabulary::Dependency) -> Result<(), Vec<InvalidValue>> {
        let mut faults = settings(dependency);
        if let Some((caller, callee)) = ends(&dependency.caller_id, &dependency.callee_id, &mut faults) {
            self.changed.push(Named { field: format!("{place}/set_dependency/caller_id"), id: caller });
            self.needed.push(Named { field: format!("{place}/set_dependency/callee_id"), id: callee });
        }
        within("set_dependency", faults)
    }

    fn remove(&mut self, place: &str, edge: &graph::DependencyRef) -> Result<(), Vec<InvalidValue>> {
        let mut faults = Vec::new();
        if let Some((caller, callee)) = ends(&edge.caller_id, &edge.callee_id, &mut faults) {
            self.changed.push(Named { field: format!("{place}/remove_dependency/caller_id"), id: caller.clone() });
            self.needed.push(Named { field: format!("{place}/remove_dependency/callee_id"), id: callee.clone() });
            self.removed.push((format!("{place}/remove_dependency/callee_id"), caller, callee));
        }
        within("remove_dependency", faults)
    }

    fn removed_edges_exist(&self, fleet: &Fleet) -> Result<(), Error> {
        let missing = self.removed.iter().filter(|(_, caller, callee)| {
            !fleet.edges.iter().any(|edge| edge.caller == *caller && edge.callee == *callee)
        });
        let faults: Vec<InvalidValue> = missing
            .map(|(field, caller, callee)| {
                InvalidValue::new(field.clone(), "unknown_dependency", format!("{caller} does not depend on {callee}"))
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
    }
}

fn within(message: &str, faults: Vec<InvalidValue>) -> Result<(), Vec<InvalidValue>> {
    if faults.is_empty() { Ok(()) } else { Err(faults.into_iter().map(|fault| fault.within(message)).collect()) }
}

fn ends(caller: &str, callee: &str, faults: &mut Vec<InvalidValue>) -> Option<(EntityId, EntityId)> {
    let caller = EntityId::new("caller_id", caller).map_err(|fault| faults.push(fault)).ok();
    let callee = EntityId::new("callee_id", callee).map_err(|fault| faults.push(fault)).ok();
    let (caller, callee) = (caller?, callee?);
    if caller == callee {
        faults.push(InvalidValue::new("callee_id", "self_dependency", format!("{caller} cannot depend on itself")));
        return None;
    }
    Some((caller, callee))
}

/// Everything of an edge but its ends.
fn settings(dependency: &vocabulary::Dependency) -> Vec<InvalidValue> {
    let mut faults = Vec::new();
    if let Err(fault) = convert::word::<vocabulary::DependencyMode, DependencyMode>("mode", dependency.mode) {
        faults.push(fault);
    }
    for (field, ratio) in
        [("call_fraction", dependency.call_fraction), ("fallback_success_ratio", dependency.fallback_success_ratio)]
    {
        if let Some(fault) = ratio.and_then(|ratio| Ratio::new(field, ratio).err()) {
            faults.push(fault);
        }
    }
    if let Some(rate) = dependency.call_rate.filter(|rate| !rate.is_finite() || *rate < 0.0) {
        faults.push(InvalidValue::new(
            "call_rate",
            "out_of_range",
            format!("{rate} is no number of calls of at least 0"),
        ));
    }
    if let Some(count) = dependency.retry_count.filter(|count| *count > RETRIES_MAX) {
        faults.push(InvalidValue::new(
            "retry_count",
            "out_of_range",
            format!("{count} retries; at most {RETRIES_MAX} are read"),
        ));
    }
    if dependency.redundancy_required_count == Some(0) {
        faults.push(InvalidValue::new(
            "redundancy_required_count",
            "out_of_range",
            "at least one member of the group has to work",
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(dependency: vocabulary::Dependency) -> graph::ScenarioChange {
        graph::ScenarioChange { change: Some(Change::SetDependency(dependency)) }
    }

    fn edge() -> vocabulary::Dependency {
        vocabulary::Dependency { caller_id: "a".into(), callee_id: "b".into(), ..vocabulary::Dependency::default() }
    }

    fn fault(change: graph::ScenarioChange) -> (String, &'static str) {
        match Checked::read(&[change]) {
            Err(Error::Invalid(faults)) => (faults[0].field.clone(), faults[0].code),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let attained = |entity_id: &str, availability_ratio| graph::ScenarioChange {
            change: Some(Change::AttainedRatio(graph::AttainedRatio {
                entity_id: entity_id.into(),
                availability_ratio,
            })),
        };
        for (change, field, code) in [
            (graph::ScenarioChange { change: None }, "changes/0/change", "required"),
            (attained("a", 1.1), "changes/0/attained_ratio/availability_ratio", "out_of_range"),
            (attained("", 0.9), "changes/0/attained_ratio/entity_id", "required"),
            (
                set(vocabulary::Dependency { callee_id: "a".into(), ..edge() }),
                "changes/0/set_dependency/callee_id",
                "self_dependency",
            ),
            (set(vocabulary::Dependency { mode: 9, ..edge() }), "changes/0/set_dependency/mode", "unknown_value"),
            (
                set(vocabulary::Dependency { call_fraction: Some(f64::NAN), ..edge() }),
                "changes/0/set_dependency/call_fraction",
                "not_a_number",
            ),
            (
                set(vocabulary::Dependency { call_rate: Some(-1.0), ..edge() }),
                "changes/0/set_dependency/call_rate",
                "out_of_range",
            ),
            (
                set(vocabulary::Dependency { retry_count: Some(11), ..edge() }),
                "changes/0/set_dependency/retry_count",
                "out_of_range",
            ),
            (
                set(vocabulary::Dependency { redundancy_required_count: Some(0), ..edge() }),
                "changes/0/set_dependency/redundancy_required_count",
                "out_of_range",
            ),
        ] {
            assert_eq!(fault(change), (field.to_owned(), code));
        }
        let checked = Checked::read(&[set(edge())]).expect("valid");
        assert_eq!((checked.changed[0].id.as_str(), checked.needed[0].id.as_str()), ("a", "b"));
    }
}
