//! A service, everybody who depends on it, and everything that those need: what an impact or a what-if is computed on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::{Constants, Forecast, MissingInput, Model, predict_with};
use attain_proto::graph::v1 as graph;
use attain_runtime::context::CallContext;
use attain_vocabulary::{
    BUCKET_MS, DAY_MS, EntityId, EntityKind, InvalidValue, SliKind, TimeRange, TimeWindow, bucket_start,
};
use futures::StreamExt as _;

use crate::domain::calibration::Class;
use crate::domain::components::{Facts, components, rates};
use crate::domain::flow::{Component, Edge};
use crate::domain::recorded::{ForecastQuestion, Recorded};
use crate::domain::slo::Slo;
use crate::engine::Engine;
use crate::gather::blocking;
use crate::members::{Closure, Direction, Refusal, Topology};
use crate::message::topology;
use crate::{Error, models};

/// Most walks of the graph at a time.
const WALKS_MAX: usize = 8;
/// Most services of one evaluation; the graph engine takes twice as many. Those of one evaluation are estimated together, so few
/// large ones cost less than many small ones.
pub(crate) const EVALUATED_MAX: usize = 2_500;

/// A service of the request, and the field that names it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) field: String,
    pub(crate) id: EntityId,
}

/// What a question is about.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    /// Services that behave differently themselves; whoever depends on them is affected.
    pub(crate) changed: Vec<Named>,
    /// Services that must exist and whose closure counts as well.
    pub(crate) needed: Vec<Named>,
    /// Regions of which everything behaves differently, each with the field that names it.
    pub(crate) regions: Vec<(String, String)>,
    /// Those of the changed that are down: a region, an API or a system takes others along.
    pub(crate) down: BTreeSet<EntityId>,
}

/// Everything around a change.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Who is down with a region, an API or a system of the subject.
    pub(crate) struck: BTreeSet<EntityId>,
    /// The changed services and all that depend on them.
    pub(crate) affected: Vec<EntityId>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) components: BTreeMap<EntityId, Component>,
    pub(crate) rates: Vec<graph::ComponentRate>,
    /// Availability SLOs in force.
    pub(crate) slos: BTreeMap<EntityId, Slo>,
    /// Predictive distributions of the affected services that have an SLO in force and a history.
    pub(crate) forecasts: BTreeMap<EntityId, Forecast>,
    pub(crate) missing: Vec<MissingInput>,
}

/// Gathers the fleet around a subject. A window that is not said is each SLO's own.
pub(crate) async fn gather(
    engine: &Arc<Engine>,
    context: &CallContext,
    subject: &Subject,
    window: Option<TimeWindow>,
) -> Result<Fleet, Error> {
    let _place = engine.place(context).await?;
    let surroundings = surroundings(engine, context, subject).await?;
    let slos = engine.store.slos_of_kind(&context.tenant, SliKind::Availability).await?;
    let missing = surroundings.union.missing();
    assemble(engine, context, Known { surroundings, slos, missing }, window).await
}

/// Gathers all services that have an availability SLO in force, and everything that the tenant has beside them.
pub(crate) async fn promised(engine: &Arc<Engine>, context: &CallContext) -> Result<Fleet, Error> {
    let _place = engine.place(context).await?;
    let mut slos = engine.store.slos_of_kind(&context.tenant, SliKind::Availability).await?;
    let topology = engine.ingestion.topology(context).await.map_err(|refusal| refusal.fatal("ingestion"))?;
    let union = Union::of(topology.facts, topology.edges);
    let before = slos.len();
    slos.retain(|id, _| union.facts.contains_key(id));
    let mut missing = Vec::new();
    if slos.len() < before {
        let detail = format!("{} SLOs in force are of services that nobody knows any more", before - slos.len());
        missing.push(MissingInput { name: "slo_of_unknown_service".to_owned(), detail });
    }
    let surroundings = Surroundings { struck: BTreeSet::new(), affected: slos.keys().cloned().collect(), union };
    assemble(engine, context, Known { surroundings, slos, missing }, None).await
}

/// Everybody who depends on the changed services, and everything that those need.
struct Surroundings {
    struck: BTreeSet<EntityId>,
    affected: Vec<EntityId>,
    union: Union,
}

/// What is known before any history is read.
struct Known {
    surroundings: Surroundings,
    slos: BTreeMap<EntityId, Slo>,
    missing: Vec<MissingInput>,
}

async fn assemble(
    engine: &Engine,
    context: &CallContext,
    known: Known,
    window: Option<TimeWindow>,
) -> Result<Fleet, Error> {
    let Known { surroundings: Surroundings { struck, affected, union }, slos, mut missing } = known;
    let (promised, others): (Vec<EntityId>, Vec<EntityId>) = affected.into_iter().partition(|id| slos.contains_key(id));
    let affected = [promised, others].concat();
    let now_ms = bucket_start(engine.clock.now_ms()) + BUCKET_MS;
    let range = TimeRange::new("range", now_ms - i64::from(engine.config.history_days) * DAY_MS, now_ms)?;
    let records = records(engine, context, &affected, &union, range, &mut missing).await;
    let (facts, edges) = (union.facts, union.edges.into_values().collect::<Vec<_>>());
    let in_force = affected.iter().filter_map(|id| Some((id.clone(), window.unwrap_or(slos.get(id)?.window))));
    let asked: BTreeMap<EntityId, TimeWindow> = in_force.filter(|(id, _)| slos.contains_key(id)).collect();
    let class = |id: &EntityId| facts.get(id).map(|facts| Class { tier: facts.tier, kind: facts.kind });
    let models = models::live_of(engine, context, asked.keys().filter_map(|id| Some((id.clone(), class(id)?)))).await?;
    let (components, edges, forecasts) = blocking(move || {
        let known = components(range, &facts, &records, &edges, &BTreeMap::new());
        let forecasts = forecasts(&models, &known, asked, now_ms);
        (known, edges, forecasts)
    })
    .await?;
    let rates = topology::rates(&rates(&components, &edges));
    Ok(Fleet { struck, affected, edges, components, rates, slos, forecasts, missing })
}

async fn surroundings(engine: &Engine, context: &CallContext, subject: &Subject) -> Result<Surroundings, Error> {
    if subject.regions.is_empty() {
        let near = walked(engine, context, subject).await?;
        let kind = |id: &EntityId| near.union.facts.get(id).map(|facts| facts.kind);
        let alone = |kind: EntityKind| kind != EntityKind::Region && !kind.is_composite();
        if subject.down.iter().filter_map(kind).all(alone) {
            return Ok(near);
        }
    }
    surroundings_of_many(engine, context, subject).await
}

async fn walked(engine: &Engine, context: &CallContext, subject: &Subject) -> Result<Surroundings, Error> {
    let mut union = Union::default();
    let mut affected: Vec<EntityId> = Vec::new();
    for closure in walk_named(engine, context, &subject.changed, Direction::Upstream).await? {
        affected.extend(closure.order.iter().cloned());
        union.add(closure);
    }
    let affected = unique(affected);
    for closure in walk_named(engine, context, &subject.needed, Direction::Downstream).await? {
        union.add(closure);
    }
    cover(engine, context, &affected, &mut union).await?;
    Ok(Surroundings { struck: BTreeSet::new(), affected, union })
}

/// A region or a system may hold a large part of all services: the whole topology is read once instead of a walk from each.
async fn surroundings_of_many(
    engine: &Engine,
    context: &CallContext,
    subject: &Subject,
) -> Result<Surroundings, Error> {
    let topology = engine.ingestion.topology(context).await.map_err(|refusal| refusal.fatal("ingestion"))?;
    let known = |id: &EntityId| {
        topology.facts.contains_key(id) || topology.edges.iter().any(|edge| edge.caller == *id || edge.callee == *id)
    };
    let unknown = subject.changed.iter().chain(&subject.needed).filter(|named| !known(&named.id));
    let mut faults: Vec<InvalidValue> = unknown.map(unknown_service).collect();
    let mut struck: BTreeSet<EntityId> = BTreeSet::new();
    for (field, region) in &subject.regions {
        let inside = in_region(&topology, region);
        if inside.is_empty() {
            faults.push(InvalidValue::new(field.clone(), "unknown_region", "no service is said to run there"));
        }
        struck.extend(inside.into_iter().cloned());
    }
    struck = down_with(&topology, struck.iter().chain(&subject.down));
    if !faults.is_empty() {
        return Err(Error::Invalid(faults));
    }
    let changed = subject.changed.iter().map(|named| &named.id).chain(&struck).collect();
    let affected = upstream(&topology.edges, changed);
    Ok(Surroundings { struck, affected, union: Union::of(topology.facts, topology.edges) })
}

/// Everything that is said to run in a region, and the entity that stands for it where there is one.
fn in_region<'a>(topology: &'a Topology, region: &str) -> BTreeSet<&'a EntityId> {
    let inside = topology.regions.iter().filter(|(_, of)| *of == region).map(|(id, _)| id);
    let stands_for_it = |(id, facts): &(&EntityId, &Facts)| facts.kind == EntityKind::Region && id.as_str() == region;
    inside.chain(topology.facts.iter().filter(stands_for_it).map(|(id, _)| id)).collect()
}

/// Who is down when these are, as the graph engine has it: with a region what is said to run there, with an API or a system its
/// parts; those aside who are down by their edges.
fn down_with<'a>(topology: &'a Topology, down: impl Iterator<Item = &'a EntityId>) -> BTreeSet<EntityId> {
    let (mut struck, mut open) = (BTreeSet::new(), Vec::from_iter(down));
    while let Some(id) = open.pop() {
        if !struck.insert(id.clone()) {
            continue;
        }
        match topology.facts.get(id).map(|facts| facts.kind) {
            Some(EntityKind::Region) => open.extend(in_region(topology, id.as_str())),
            Some(kind) if kind.is_composite() => {
                open.extend(topology.edges.iter().filter(|edge| edge.caller == *id).map(|edge| &edge.callee));
            }
            _ => {}
        }
    }
    struck
}

/// The services and everybody who depends on one of them, by distance and then in lexical order.
fn upstream<'a>(edges: &'a [Edge], of: BTreeSet<&'a EntityId>) -> Vec<EntityId> {
    let mut callers: BTreeMap<&EntityId, Vec<&EntityId>> = BTreeMap::new();
    for edge in edges {
        callers.entry(&edge.callee).or_default().push(&edge.caller);
    }
    let mut seen = of.clone();
    let mut front = of;
    let mut order = Vec::new();
    while !front.is_empty() {
        order.extend(front.iter().map(|id| (*id).clone()));
        let above = front.iter().filter_map(|id| callers.get(id)).flatten().copied();
        front = above.filter(|id| !seen.contains(id)).collect();
        seen.extend(&front);
    }
    order
}

impl Fleet {
    /// Evaluates every affected service, as it is and after the changes; where a bound of confidence is given, also without the
    /// edges below it.
    pub(crate) async fn evaluate(
        &self,
        engine: &Engine,
        context: &CallContext,
        changes: Vec<graph::ScenarioChange>,
        confidence_min: Option<f64>,
    ) -> Result<graph::EvaluateAvailabilityResponse, Error> {
        let mut whole = graph::EvaluateAvailabilityResponse::default();
        let mut assumed: BTreeSet<String> = BTreeSet::new();
        for services in self.affected.chunks(EVALUATED_MAX) {
            let part = engine.graph.evaluate(context, services, &self.rates, changes.clone(), confidence_min).await;
            let part = match part {
                // What was evaluated before the engine was not to be had any more stands.
                Err(Refusal::Unreachable(_)) if !whole.services.is_empty() => graph::EvaluateAvailabilityResponse {
                    unevaluated_ids: services.iter().map(ToString::to_string).collect(),
                    snapshot: whole.snapshot,
                    ..graph::EvaluateAvailabilityResponse::default()
                },
                part => part.map_err(|refusal| refusal.fatal("graph"))?,
            };
            whole.services.extend(part.services);
            whole.unevaluated_ids.extend(part.unevaluated_ids);
            assumed.extend(part.assumed_perfect_ids);
            whole.snapshot = part.snapshot;
        }
        whole.assumed_perfect_ids = assumed.into_iter().collect();
        Ok(whole)
    }
}

/// Closures put together.
#[derive(Debug, Default)]
struct Union {
    facts: BTreeMap<EntityId, Facts>,
    edges: BTreeMap<(EntityId, EntityId), Edge>,
    truncated: bool,
}

/// Says how many affected services the time did not suffice for: those with an SLO in force are asked for first.
pub(crate) fn unevaluated(answers: &[&graph::EvaluateAvailabilityResponse]) -> Option<MissingInput> {
    let ids: BTreeSet<&String> = answers.iter().flat_map(|answer| &answer.unevaluated_ids).collect();
    let detail = format!("{} of the affected services were not evaluated in time and are not in the answer", ids.len());
    (!ids.is_empty()).then(|| MissingInput { name: "evaluation".to_owned(), detail })
}

impl Union {
    /// A whole topology.
    fn of(facts: BTreeMap<EntityId, Facts>, edges: Vec<Edge>) -> Self {
        let edges = edges.into_iter().map(|edge| ((edge.caller.clone(), edge.callee.clone()), edge)).collect();
        Self { facts, edges, truncated: false }
    }

    fn add(&mut self, closure: Closure) {
        self.facts.extend(closure.facts);
        self.edges.extend(closure.edges.into_iter().map(|edge| ((edge.caller.clone(), edge.callee.clone()), edge)));
        self.truncated |= closure.truncated;
    }

    fn missing(&self) -> Vec<MissingInput> {
        let detail = "a walk stopped at the graph engine's bound; what lies further away is left out";
        let missing = MissingInput { name: "closure".to_owned(), detail: detail.to_owned() };
        self.truncated.then_some(missing).into_iter().collect()
    }
}

/// Walks from each named service; a service that nobody knows is a fault of its field.
async fn walk_named(
    engine: &Engine,
    context: &CallContext,
    named: &[Named],
    direction: Direction,
) -> Result<Vec<Closure>, Error> {
    let ids = named.iter().map(|named| named.id.clone()).collect();
    let answers = walk(engine, context, ids, direction).await;
    let (mut closures, mut faults) = (Vec::new(), Vec::new());
    for (named, answer) in named.iter().zip(answers) {
        match answer {
            Ok(closure) => closures.push(closure),
            Err(Refusal::Unknown) => faults.push(unknown_service(named)),
            Err(other) => return Err(other.fatal("graph")),
        }
    }
    if faults.is_empty() { Ok(closures) } else { Err(Error::Invalid(faults)) }
}

fn unknown_service(named: &Named) -> InvalidValue {
    InvalidValue::new(named.field.clone(), "unknown_service", format!("there is no service `{}`", named.id))
}

/// Walks from each service, a few at a time; the answers are in the order of the services.
async fn walk(
    engine: &Engine,
    context: &CallContext,
    ids: Vec<EntityId>,
    direction: Direction,
) -> Vec<Result<Closure, Refusal>> {
    let graph = &engine.graph;
    let walks = ids.into_iter().map(|id| async move { graph.closure(context, &id, direction).await });
    futures::stream::iter(walks).buffered(WALKS_MAX).collect().await
}

/// Walks down from as few services as reach everything that the affected ones need: those that no other affected one calls,
/// then whatever a cycle kept from being reached.
async fn cover(engine: &Engine, context: &CallContext, affected: &[EntityId], union: &mut Union) -> Result<(), Error> {
    let mut called: BTreeSet<EntityId> = BTreeSet::new();
    for edge in union.edges.values().filter(|edge| edge.caller != edge.callee) {
        called.insert(edge.callee.clone());
    }
    let mut roots: Vec<EntityId> = affected.iter().filter(|id| !called.contains(*id)).cloned().collect();
    let mut reached: BTreeSet<EntityId> = BTreeSet::new();
    loop {
        for answer in walk(engine, context, roots.clone(), Direction::Downstream).await {
            let closure = answer.map_err(|refusal| refusal.fatal("graph"))?;
            reached.extend(closure.order.iter().cloned());
            union.add(closure);
        }
        reached.extend(roots);
        match affected.iter().find(|id| !reached.contains(*id)) {
            None => return Ok(()),
            Some(next) => roots = vec![next.clone()],
        }
    }
}

/// Counts of the affected services first, then of what they need.
async fn records(
    engine: &Engine,
    context: &CallContext,
    affected: &[EntityId],
    union: &Union,
    range: TimeRange,
    missing: &mut Vec<MissingInput>,
) -> BTreeMap<EntityId, Arc<Recorded>> {
    let all = unique(affected.iter().chain(union.facts.keys()).cloned().collect());
    let left_out = all.len().saturating_sub(engine.config.components_max);
    if left_out > 0 {
        let detail = format!("the history of {left_out} components was not read; they count as never failing");
        missing.push(MissingInput { name: "component_history".to_owned(), detail });
    }
    let read = &all[..all.len() - left_out];
    match engine.ingestion.recorded(context, read, range, &BTreeMap::new()).await {
        Ok(records) => records,
        Err(refusal) => {
            let detail = format!(
                "{}: only published availabilities are known, everything else counts as never failing",
                refusal.detail()
            );
            missing.push(MissingInput { name: "history".to_owned(), detail });
            BTreeMap::new()
        }
    }
}

fn forecasts(
    models: &BTreeMap<EntityId, Model>,
    known: &BTreeMap<EntityId, Component>,
    asked: BTreeMap<EntityId, TimeWindow>,
    now_ms: i64,
) -> BTreeMap<EntityId, Forecast> {
    let of = |(id, window): (EntityId, TimeWindow)| {
        let model = models.get(&id);
        let constants = model.map_or(Constants::DEFAULT, |model| model.constants);
        let forecast = forecast(&constants, known.get(&id)?, window, now_ms)?;
        Some((id, forecast.with_layer(model.and_then(|model| model.layer.clone()))))
    };
    asked.into_iter().filter_map(of).collect()
}

/// The predictive distribution of a component's next window by the constants of the model that is live; `None` without requests.
pub(crate) fn forecast(
    constants: &Constants,
    component: &Component,
    window: TimeWindow,
    now_ms: i64,
) -> Option<Forecast> {
    let question = ForecastQuestion { constants: *constants, window, now_ms };
    component.recorded.forecast(question, || {
        let series = component.recorded.counted().series();
        predict_with(constants, &series, f64::from(window.days()), now_ms).map(|prediction| prediction.forecast)
    })
}

fn unique(ids: Vec<EntityId>) -> Vec<EntityId> {
    let mut seen = BTreeSet::new();
    ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use attain_vocabulary::{DependencyMode, Tier};

    use super::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn topology(kinds: &[(&str, EntityKind)], edges: &[(&str, &str)], regions: &[(&str, &str)]) -> Topology {
        let facts = |kind| Facts { kind, tier: Tier::Three, published_ratio: None };
        let edge = |&(caller, callee): &(&str, &str)| Edge {
            caller: id(caller),
            callee: id(callee),
            mode: DependencyMode::Hard,
            call_fraction: None,
            fallback_success_ratio: None,
        };
        Topology {
            facts: kinds.iter().map(|&(name, kind)| (id(name), facts(kind))).collect(),
            edges: edges.iter().map(edge).collect(),
            regions: regions.iter().map(|&(name, region)| (id(name), region.to_owned())).collect(),
        }
    }

    #[test]
    fn regions_apis_and_systems_take_others_along() {
        use EntityKind::{Api, Region, Service, System, Zone};
        let known = topology(
            &[("west", Region), ("api", Api), ("outer", System), ("inner", System), ("a", Service), ("zone", Zone)],
            &[("api", "a"), ("outer", "inner"), ("inner", "west"), ("inner", "outer"), ("a", "b"), ("zone", "b")],
            &[("db", "west"), ("far", "east"), ("a", "zone")],
        );
        let with = |name: &str| {
            let down = down_with(&known, [&id(name)].into_iter());
            down.into_iter().map(String::from).collect::<Vec<_>>()
        };
        assert_eq!(with("west"), ["db", "west"]);
        assert_eq!(with("api"), ["a", "api"]);
        assert_eq!(with("outer"), ["db", "inner", "outer", "west"]);
        // Whoever calls a service, or is in a zone, is hit by its edges.
        assert_eq!(with("a"), ["a"]);
        assert_eq!(with("zone"), ["zone"]);
        assert_eq!(in_region(&known, "west"), BTreeSet::from([&id("db"), &id("west")]));
        assert_eq!(in_region(&known, "api"), BTreeSet::new());
    }
}
