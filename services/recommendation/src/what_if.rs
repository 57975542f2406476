//! What a change does: a fallback, retries, an edge added or removed, a dependency's promise, more failures of its own, a slower
//! component, an outage of a component or a region.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::MissingInput;
use attain_proto::convert;
use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::latency_change::Change as By;
use attain_proto::graph::v1::outage::Place;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::recommendation::v1 as wire;
use attain_proto::vocabulary::v1 as vocabulary;
use attain_runtime::context::CallContext;
use attain_vocabulary::{DAY_MS, DependencyMode, EntityId, InvalidValue, Ratio, TimeWindow};

use crate::Error;
use crate::domain::harm::{Affected, During, Sides, by_harm_then_help};
use crate::engine::Engine;
use crate::fleet::{self, Fleet, Named, Subject};
use crate::impact::{DOUBTFUL, affected_service, asked_window, ceiling, checked_count, contribution};
use crate::message::recommendation::missing_input;
use crate::message::topology::by_service;
use crate::slowdown::{self, Slowdown};

/// Most further attempts after a failed call, as the contract has it.
const RETRIES_MAX: u32 = 10;
/// Most times as long, and most milliseconds longer, as the contract has it.
const FACTOR_MAX: f64 = 1e6;
const ADDED_MS_MAX: f64 = 1e9;

/// Evaluates the fleet as it is and after the changes; where outages end, also without them.
pub(crate) async fn analyze(
    engine: &Arc<Engine>,
    context: &CallContext,
    request: &wire::AnalyzeWhatIfRequest,
) -> Result<wire::AnalyzeWhatIfResponse, Error> {
    let checked = Checked::read(&request.changes)?;
    let window = asked_window(request.window_days)?;
    let outage_ms = outage_ms(request)?;
    let fleet = fleet::gather(engine, context, &checked.subject, window).await?;
    checked.removed_edges_exist(&fleet)?;
    let (response, slowdown) = futures::try_join!(
        fleet.evaluate(engine, context, request.changes.clone(), Some(DOUBTFUL)),
        slowdown::evaluate(engine, context, &fleet, &request.changes),
    )?;
    let lasting: Vec<graph::ScenarioChange> =
        request.changes.iter().filter(|change| !is_outage(change)).cloned().collect();
    let without = match outage_ms {
        Some(_) if !lasting.is_empty() => Some(fleet.evaluate(engine, context, lasting, Some(DOUBTFUL)).await?),
        _ => None,
    };
    let answers: Vec<_> = std::iter::once(&response).chain(&without).collect();
    let unevaluated = fleet::unevaluated(&answers);
    let without = without.as_ref().map(by_service).unwrap_or_default();
    let ending = outage_ms.map(|outage_ms| Ending { outage_ms, window, without });
    let affected = weigh(&fleet, &checked, (&response, &slowdown), ending);
    let about_latency = request.changes.iter().any(is_of_latency);
    let (counted, mut affected): (Vec<Affected>, Vec<Affected>) = affected
        .into_iter()
        .filter(Affected::moves)
        .partition(|affected| !about_latency && affected.may_move_unknown());
    let unknown_latencies = (!counted.is_empty()).then(|| latencies_unknown(counted.len()));
    affected.sort_by(by_harm_then_help);
    let missing = fleet.missing.iter().chain(&unevaluated).chain(&slowdown.missing).chain(&unknown_latencies);
    Ok(wire::AnalyzeWhatIfResponse {
        affected: affected.into_iter().map(affected_service).collect(),
        assumed_perfect_ids: response.assumed_perfect_ids,
        snapshot: response.snapshot,
        missing_inputs: missing.map(missing_input).collect(),
    })
}

/// How long the outages last; `None` where they last as long as everything else.
fn outage_ms(request: &wire::AnalyzeWhatIfRequest) -> Result<Option<i64>, Error> {
    let Some(duration) = &request.outage_duration else { return Ok(None) };
    let fault = |code, reason: &str| Err(InvalidValue::new("outage_duration", code, reason).into());
    if !request.changes.iter().any(is_outage) {
        return fault("out_of_place", "none of the changes is an outage");
    }
    match convert::duration_millis(duration) {
        ..=0 => fault("out_of_range", "an outage lasts longer than no time"),
        ms => Ok(Some(ms)),
    }
}

/// Services of which nothing but this is to be said are many after an outage, and no answer to a question about availability.
fn latencies_unknown(count: usize) -> MissingInput {
    let detail = format!(
        "the availability of {count} more services that the changes reach stays; what becomes of their latency nobody knows"
    );
    MissingInput { name: "latency_unknown".to_owned(), detail }
}

fn is_of_latency(change: &graph::ScenarioChange) -> bool {
    matches!(change.change, Some(Change::Latency(_)))
}

fn is_outage(change: &graph::ScenarioChange) -> bool {
    matches!(change.change, Some(Change::Outage(_)))
}

/// Outages that end, and what holds without them.
struct Ending<'a> {
    outage_ms: i64,
    /// `None` for each SLO's own.
    window: Option<TimeWindow>,
    /// After the changes that last, by service; empty where nothing lasts.
    without: BTreeMap<&'a str, &'a graph::ServiceAvailability>,
}

impl Ending<'_> {
    fn window_share(&self, fleet: &Fleet, service: &EntityId) -> f64 {
        let of_slo = || fleet.slos.get(service).map(|slo| slo.window);
        let window = self.window.or_else(of_slo).unwrap_or_default();
        (self.outage_ms as f64 / (f64::from(window.days()) * DAY_MS as f64)).min(1.0)
    }
}

fn weigh(
    fleet: &Fleet,
    checked: &Checked,
    (response, slowdown): (&graph::EvaluateAvailabilityResponse, &Slowdown),
    ending: Option<Ending<'_>>,
) -> Vec<Affected> {
    let evaluated = by_service(response);
    let changed: BTreeSet<&EntityId> = checked.contributing.iter().chain(&fleet.struck).collect();
    let used = |state: &graph::Availability| contribution(state, &changed);
    let sides = fleet.affected.iter().filter_map(|id| {
        let service = evaluated.get(id.as_str())?;
        let (before, changed) = (service.before.as_ref()?, service.after.as_ref()?);
        let without_doubtful = service.without_doubtful_after_ratio;
        let (after, during, used_after, without_doubtful) = match &ending {
            None => (ceiling(changed), None, used(changed), without_doubtful),
            Some(ending) => {
                let lasting = ending.without.get(id.as_str());
                let states = lasting.and_then(|lasting| lasting.before.as_ref().zip(lasting.after.as_ref()));
                // Added to what was before, so that both are read with the same services opened.
                let moved = states.map_or(0.0, |(before, after)| after.availability_ratio - before.availability_ratio);
                let ceiling_without = ceiling(before).moved(moved);
                let sure = lasting.and_then(|lasting| lasting.without_doubtful_after_ratio);
                let sure = sure.or(service.without_doubtful_before_ratio);
                let window_share = ending.window_share(fleet, id);
                let mix = |during: f64, lasting: f64| window_share * during + (1.0 - window_share) * lasting;
                let during = During { ceiling: ceiling(changed), ceiling_without, window_share };
                let after = during.ceiling.mixed(window_share, ceiling_without);
                let used_without = used(states.map_or(before, |(_, after)| after));
                let sure = without_doubtful.zip(sure).map(|(during, lasting)| mix(during, lasting));
                (after, Some(during), mix(used(changed), used_without), sure)
            }
        };
        Some(Sides {
            service: id.clone(),
            changed: false,
            before: ceiling(before),
            after,
            during,
            without_doubtful,
            contribution: Some((used(before), used_after)),
            target: fleet.slos.get(id).map(|slo| slo.target.target_ratio()),
            forecast: fleet.forecasts.get(id),
            latency: slowdown.effect(id),
            path: if service.path.is_empty() { slowdown.path(id) } else { service.path.clone() },
        })
    });
    sides.map(Affected::weigh).collect()
}

/// The services that changes name, each field checked.
#[derive(Debug, Default)]
struct Checked {
    subject: Subject,
    /// Components whose part in everybody's failures changes: of an edge the callee.
    contributing: BTreeSet<EntityId>,
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
                    "say what changes: attained_ratio, own_failure, outage, latency, set_dependency or remove_dependency",
                )]),
                Some(Change::AttainedRatio(attained)) => checked.attained(&place, attained),
                Some(Change::OwnFailure(own)) => checked.own_failure(&place, own),
                Some(Change::Outage(outage)) => checked.outage(&place, outage),
                Some(Change::Latency(latency)) => checked.latency(&place, latency),
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
        let ratio = Ratio::new("availability_ratio", attained.availability_ratio);
        let faults = ratio.err().into_iter().collect();
        self.component(&format!("{place}/attained_ratio"), &attained.entity_id, faults, "attained_ratio")
    }

    fn own_failure(&mut self, place: &str, own: &graph::OwnFailure) -> Result<(), Vec<InvalidValue>> {
        let ratio = Ratio::new("own_failure_ratio", own.own_failure_ratio);
        let faults = ratio.err().into_iter().collect();
        self.component(&format!("{place}/own_failure"), &own.entity_id, faults, "own_failure")
    }

    fn outage(&mut self, place: &str, outage: &graph::Outage) -> Result<(), Vec<InvalidValue>> {
        let required = |field, reason| within("outage", vec![InvalidValue::new(field, "required", reason)]);
        match &outage.place {
            None => required("place", "say what is down: entity_id or region"),
            Some(Place::Region(region)) if region.is_empty() => required("region", "name the region that is down"),
            Some(Place::Region(region)) => {
                self.subject.regions.push((format!("{place}/outage/region"), region.clone()));
                Ok(())
            }
            Some(Place::EntityId(id)) => {
                self.subject.down.extend(EntityId::new("entity_id", id));
                self.component(&format!("{place}/outage"), id, Vec::new(), "outage")
            }
        }
    }

    fn latency(&mut self, place: &str, latency: &graph::LatencyChange) -> Result<(), Vec<InvalidValue>> {
        let out_of_range = |field, reason: String| vec![InvalidValue::new(field, "out_of_range", reason)];
        let faults = match latency.change {
            None => vec![InvalidValue::new("change", "required", "say by how much: factor or added_ms")],
            Some(By::Factor(factor)) if !(f64::MIN_POSITIVE..=FACTOR_MAX).contains(&factor) => {
                out_of_range("factor", format!("{factor} is not above 0 and at most {FACTOR_MAX}"))
            }
            Some(By::AddedMs(added_ms)) if !(-ADDED_MS_MAX..=ADDED_MS_MAX).contains(&added_ms) => {
                out_of_range("added_ms", format!("{added_ms} is not between -{ADDED_MS_MAX} and {ADDED_MS_MAX}"))
            }
            Some(_) => Vec::new(),
        };
        self.component(&format!("{place}/latency"), &latency.entity_id, faults, "latency")
    }

    /// A component that behaves differently itself.
    fn component(
        &mut self,
        place: &str,
        id: &str,
        mut faults: Vec<InvalidValue>,
        message: &str,
    ) -> Result<(), Vec<InvalidValue>> {
        match EntityId::new("entity_id", id) {
            Err(fault) => faults.insert(0, fault),
            Ok(id) => {
                self.contributing.insert(id.clone());
                self.subject.changed.push(Named { field: format!("{place}/entity_id"), id });
            }
        }
        within(message, faults)
    }

    fn set(&mut self, place: &str, dependency: &vocabulary::Dependency) -> Result<(), Vec<InvalidValue>> {
        let mut faults = settings(dependency);
        if let Some((caller, callee)) = ends(&dependency.caller_id, &dependency.callee_id, &mut faults) {
            self.contributing.insert(callee.clone());
            self.subject.changed.push(Named { field: format!("{place}/set_dependency/caller_id"), id: caller });
            self.subject.needed.push(Named { field: format!("{place}/set_dependency/callee_id"), id: callee });
        }
        within("set_dependency", faults)
    }

    fn remove(&mut self, place: &str, edge: &graph::DependencyRef) -> Result<(), Vec<InvalidValue>> {
        let mut faults = Vec::new();
        if let Some((caller, callee)) = ends(&edge.caller_id, &edge.callee_id, &mut faults) {
            self.contributing.insert(callee.clone());
            let field = |end: &str| format!("{place}/remove_dependency/{end}");
            self.subject.changed.push(Named { field: field("caller_id"), id: caller.clone() });
            self.subject.needed.push(Named { field: field("callee_id"), id: callee.clone() });
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
        let own = |entity_id: &str, own_failure_ratio| graph::ScenarioChange {
            change: Some(Change::OwnFailure(graph::OwnFailure { entity_id: entity_id.into(), own_failure_ratio })),
        };
        let outage = |place| graph::ScenarioChange { change: Some(Change::Outage(graph::Outage { place })) };
        for (change, field, code) in [
            (graph::ScenarioChange { change: None }, "changes/0/change", "required"),
            (attained("a", 1.1), "changes/0/attained_ratio/availability_ratio", "out_of_range"),
            (attained("", 0.9), "changes/0/attained_ratio/entity_id", "required"),
            (own("a", -0.1), "changes/0/own_failure/own_failure_ratio", "out_of_range"),
            (outage(None), "changes/0/outage/place", "required"),
            (outage(Some(Place::EntityId(" ".into()))), "changes/0/outage/entity_id", "malformed_name"),
            (outage(Some(Place::Region(String::new()))), "changes/0/outage/region", "required"),
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
        assert_eq!((checked.subject.changed[0].id.as_str(), checked.subject.needed[0].id.as_str()), ("a", "b"));
    }
}
