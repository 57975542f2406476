//! A simulated fleet as Attain sees it: what is measured, declared and traced of it, put together by the very functions that
//! the services put it together with.

pub(crate) mod accepted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_attainment::{
    ConsistentTarget, Doubt, Importance, RecommendationInput, ServiceHistory, StructureFacts, TierPolicy,
    UtilisationFacts,
};
use attain_graph::domain::availability::{Availability, evaluate};
use attain_graph::domain::scenario::{NamedRate, Scenario, State};
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_graph::domain::structure::Rate as GraphRate;
use attain_recommendation::domain::components::{Facts, Rate, components, dependencies, rates};
use attain_recommendation::domain::doubt::with_unknown_failing;
use attain_recommendation::domain::flow::{Component, Edge};
use attain_recommendation::domain::recorded::Recorded;
use attain_reliability::{EvaluationLimits, EvaluationMethod};
use attain_simulator::fleet::{Call, Counts, Fleet, Past, Seen};
use attain_vocabulary::{BUCKET_MS, EntityId, SliBucket, TimeRange, TimeWindow, UnixMillis};

/// End of the past: midnight of a Monday.
pub(crate) const END_MS: UnixMillis = 1_764_547_200_000;

/// Everything that is seen, the histories apart: those are made when they are asked for, so that a fleet fits in memory.
pub(crate) struct View<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) past: &'a Past,
    /// By position of the call.
    hidden: Vec<bool>,
    pub(crate) facts: BTreeMap<EntityId, Facts>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) snapshot: Snapshot,
}

/// What is known of the components, and what the structure allows.
pub(crate) struct Known {
    /// Without buckets.
    pub(crate) components: BTreeMap<EntityId, Component>,
    pub(crate) rates: Vec<Rate>,
    /// By position of the component; none without a ceiling.
    pub(crate) structures: Vec<Option<StructureFacts>>,
}

impl<'a> View<'a> {
    /// `hidden` tells, by position, the calls that nobody sees: their failures look like the caller's own.
    pub(crate) fn new(fleet: &'a Fleet, past: &'a Past, hidden: Vec<bool>) -> Self {
        let facts = fleet.components.iter().map(|component| {
            let facts =
                Facts { kind: component.kind, tier: component.tier, published_ratio: component.published_ratio };
            (component.id.clone(), facts)
        });
        let seen: Vec<&Call> =
            fleet.calls.iter().zip(&hidden).filter(|(_, hidden)| !**hidden).map(|(call, _)| call).collect();
        let edges = seen.iter().map(|call| Edge {
            caller: fleet.components[call.caller].id.clone(),
            callee: fleet.components[call.callee].id.clone(),
            mode: call.mode,
            call_fraction: Some(call.call_fraction),
            fallback_success_ratio: call.fallback_success_ratio,
        });
        Self { facts: facts.collect(), edges: edges.collect(), snapshot: snapshot(fleet, &seen), fleet, past, hidden }
    }

    fn counts(&self, at: usize) -> &Counts {
        &self.past.counts[at]
    }

    /// Whether the component has a history.
    pub(crate) fn is_measured(&self, at: usize) -> bool {
        !self.counts(at).valid.is_empty()
    }

    /// The history of a component with what traces tell.
    pub(crate) fn history(&self, at: usize) -> Vec<SliBucket> {
        let traced = self.fleet.components[at].seen == Seen::Traced;
        let calls = self.fleet.calls.iter().zip(&self.hidden).filter(|(call, hidden)| call.caller == at && !**hidden);
        let seen: BTreeSet<usize> = calls.map(|(call, _)| call.callee).collect();
        self.counts(at).buckets(self.fleet, traced, END_MS, |callee| seen.contains(&callee))
    }

    /// Edges out of a component.
    pub(crate) fn edges_of(&self, at: usize) -> Vec<Edge> {
        let id = &self.fleet.components[at].id;
        self.edges.iter().filter(|edge| edge.caller == *id).cloned().collect()
    }

    fn range(&self, at: usize) -> TimeRange {
        let start_ms = END_MS - self.counts(at).valid.len() as i64 * BUCKET_MS;
        TimeRange::new("range", start_ms, END_MS).expect("ascending")
    }

    fn position(&self, id: &EntityId) -> usize {
        self.fleet.components.iter().position(|component| component.id == *id).expect("an edge of the fleet")
    }

    /// Own and inherited failure of one component; with its buckets where they are wanted further.
    pub(crate) fn component(&self, at: usize, with_buckets: bool) -> Component {
        let id = &self.fleet.components[at].id;
        let edges = self.edges_of(at);
        let callees = edges.iter().map(|edge| self.position(&edge.callee)).filter(|callee| *callee != at);
        let bare = |callee: usize| self.counts(callee).buckets(self.fleet, false, END_MS, |_| false);
        let recorded = |buckets: Vec<SliBucket>| Arc::new(Recorded::from(buckets));
        let mut records: BTreeMap<EntityId, Arc<Recorded>> =
            callees.map(|callee| (self.fleet.components[callee].id.clone(), recorded(bare(callee)))).collect();
        records.insert(id.clone(), recorded(self.history(at)));
        let facts = BTreeMap::from([(id.clone(), self.facts[id].clone())]);
        let mut known = components(self.range(at), &facts, &records, &edges, &BTreeMap::new());
        let component = known.remove(id).expect("one of the facts");
        if with_buckets { component } else { Component { recorded: Arc::default(), ..component } }
    }

    /// What the structure allows, with every component split already.
    pub(crate) fn known(&self, split: Vec<Component>) -> Known {
        let ids = self.fleet.components.iter().map(|component| component.id.clone());
        let components: BTreeMap<EntityId, Component> = ids.zip(split).collect();
        let rates = rates(&components, &self.edges);
        let found = self.evaluate(&rates);
        let unknown = with_unknown_failing(&rates, &self.facts, &components);
        let with_unknown = unknown.map(|(failing, rates)| (failing, self.evaluate(&rates)));
        let assumed: Vec<EntityId> =
            self.facts.keys().filter(|id| !rates.iter().any(|rate| rate.id == **id)).cloned().collect();
        let structure = |at: usize| {
            let node = self.snapshot.find(self.fleet.components[at].id.as_str())?;
            let of = |found: &[Availability]| {
                found.iter().find(|found| found.node == node).map(|found| found.before.availability_ratio)
            };
            let here = found.iter().find(|found| found.node == node)?;
            let importance = |importance: &attain_reliability::Importance| Importance {
                entity_id: self.snapshot.id(importance.component.0).clone(),
                birnbaum: importance.birnbaum,
                contribution_ratio: importance.contribution,
            };
            let named = |importance: &&attain_reliability::Importance| {
                (importance.component.0 as usize) < self.fleet.components.len()
            };
            let reached: Vec<Importance> = here.before.importances.iter().filter(named).map(importance).collect();
            let reaches = |id: &&EntityId| reached.iter().any(|importance| importance.entity_id == **id);
            let assumed_perfect_ids: Vec<EntityId> = assumed.iter().filter(reaches).cloned().collect();
            let ceiling_with_unknown_ratio =
                with_unknown.as_ref().filter(|_| !assumed_perfect_ids.is_empty()).and_then(|(_, found)| of(found));
            let doubt = Doubt {
                unknown_failure_ratio: ceiling_with_unknown_ratio
                    .and(with_unknown.as_ref())
                    .map(|(failing, _)| *failing),
                ceiling_with_unknown_ratio,
                ..Doubt::default()
            };
            Some(StructureFacts {
                ceiling_ratio: here.before.availability_ratio,
                exact: here.before.method == EvaluationMethod::Exact,
                importances: reached
                    .iter()
                    .filter(|importance| !assumed.contains(&importance.entity_id))
                    .cloned()
                    .collect(),
                assumed_perfect_ids,
                snapshot_version: 1,
                snapshot_age_ms: 0,
                doubt,
                consistent_targets: Vec::new(),
                slow_requests: None,
            })
        };
        let structures = (0..self.fleet.components.len()).map(structure).collect();
        Known { components, rates, structures }
    }

    fn evaluate(&self, rates: &[Rate]) -> Vec<Availability> {
        let scenario = Scenario::resolve(&self.snapshot, &named(rates), &[]).expect("rates of the fleet");
        let nodes: Vec<u32> = (0..self.snapshot.nodes().len() as u32).collect();
        let limits = EvaluationLimits::default();
        evaluate(&scenario, &nodes, &limits, &|| false).expect("a structure within its limits").services
    }

    /// Requirements and rates, for the solve of the fleet.
    pub(crate) fn state(&self, rates: &[Rate]) -> State {
        Scenario::resolve(&self.snapshot, &named(rates), &[]).expect("rates of the fleet").before
    }

    /// What a recommendation for the component is computed from.
    pub(crate) fn input(
        &self,
        at: usize,
        known: &Known,
        consistent_targets: Vec<ConsistentTarget>,
    ) -> RecommendationInput {
        let component = &self.fleet.components[at];
        let edges = self.edges_of(at);
        let bare = |id: &EntityId| self.counts(self.position(id)).buckets(self.fleet, false, END_MS, |_| false);
        let recorded = |edge: &Edge| (edge.callee.clone(), Arc::new(Recorded::from(bare(&edge.callee))));
        let records = edges.iter().map(recorded).collect();
        let structure = known.structures[at].clone();
        RecommendationInput {
            service: component.id.clone(),
            tier: component.tier,
            kind: component.kind,
            window: TimeWindow::default(),
            as_of_ms: END_MS,
            history: ServiceHistory { range: self.range(at), buckets: self.history(at) },
            dependencies: dependencies(&component.id, &edges, &records),
            exclusions: Vec::new(),
            incident_ids: Vec::new(),
            structure: structure.map(|structure| StructureFacts { consistent_targets, ..structure }),
            counterfactuals: Vec::new(),
            current_slos: Vec::new(),
            missing_inputs: Vec::new(),
            policy: TierPolicy::for_tier(component.tier),
            class_record: None,
            quiet_slices_good: false,
            utilisation: UtilisationFacts::default(),
            model: None,
            seed: 0,
        }
    }
}

/// Rates as the graph engine reads them.
pub(crate) fn named(rates: &[Rate]) -> Vec<NamedRate> {
    let named = |rate: &Rate| NamedRate {
        entity_id: rate.id.to_string(),
        rate: GraphRate { failure_ratio: rate.own_failure_ratio, includes_dependencies: rate.includes_dependencies },
    };
    rates.iter().map(named).collect()
}

fn snapshot(fleet: &Fleet, seen: &[&Call]) -> Snapshot {
    let node = |component: &attain_simulator::fleet::Component| Node {
        id: component.id.clone(),
        kind: component.kind,
        tier: Some(component.tier),
        region: None,
        published_availability_ratio: component.published_ratio,
        traced: component.seen == Seen::Traced,
    };
    let dependency = |call: &&Call| Dependency {
        caller: fleet.components[call.caller].id.clone(),
        callee: fleet.components[call.callee].id.clone(),
        terms: Terms {
            call_fraction: Some(call.call_fraction),
            fallback_success_ratio: call.fallback_success_ratio,
            group: call.replicated.then(|| "replicas".to_owned()),
            group_required_count: call.replicated.then_some(1),
            declared: true,
            traced: fleet.components[call.caller].seen == Seen::Traced,
            last_seen_ms: Some(END_MS),
            ..Terms::of_mode(call.mode)
        },
    };
    Snapshot::build(fleet.components.iter().map(node).collect(), seen.iter().map(dependency).collect())
}

/// Does the work for every position on all cores; the answer is in the order of positions, whatever the number of threads.
pub(crate) fn each<T: Send>(count: usize, threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let mut done: Vec<(usize, T)> = std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if at >= count {
                    return done;
                }
                done.push((at, work(at)));
            }
        };
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, value)| value).collect()
}

/// Cores of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
