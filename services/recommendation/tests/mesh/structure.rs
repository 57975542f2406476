//! Availability of a small system by looking at every combination of working and failing parts: each part once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::outage::Place;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::vocabulary::v1::{Dependency, DependencyMode, Entity, EntityKind};

/// Edges and rates at one moment.
#[derive(Clone)]
pub(crate) struct State {
    edges: BTreeMap<(String, String), Dependency>,
    /// Failure ratio, and whether it contains the dependencies.
    rates: BTreeMap<String, (f64, bool)>,
}

impl State {
    pub(crate) fn new(dependencies: &[Dependency], rates: &[graph::ComponentRate]) -> Self {
        let edges = dependencies.iter().map(|d| ((d.caller_id.clone(), d.callee_id.clone()), d.clone())).collect();
        let rates =
            rates.iter().map(|r| (r.entity_id.clone(), (r.own_failure_ratio, r.includes_dependencies))).collect();
        Self { edges, rates }
    }

    /// The state after the changes, and the components that they touch.
    pub(crate) fn after(&self, changes: &[graph::ScenarioChange], entities: &[Entity]) -> (Self, BTreeSet<String>) {
        let (mut after, mut touched) = (self.clone(), BTreeSet::new());
        for change in changes {
            match change.change.as_ref().unwrap() {
                Change::AttainedRatio(attained) => {
                    after.rates.insert(attained.entity_id.clone(), (1.0 - attained.availability_ratio, true));
                    touched.insert(attained.entity_id.clone());
                }
                Change::OwnFailure(own) => {
                    let whole = after.rates.get(&own.entity_id).is_some_and(|(_, whole)| *whole);
                    after.rates.insert(own.entity_id.clone(), (own.own_failure_ratio, whole));
                    touched.insert(own.entity_id.clone());
                }
                Change::Outage(outage) => {
                    for id in self.down(outage.place.as_ref().unwrap(), entities) {
                        after.rates.insert(id.clone(), (1.0, true));
                        touched.insert(id);
                    }
                }
                Change::Latency(_) => {}
                Change::SetDependency(dependency) => {
                    let key = (dependency.caller_id.clone(), dependency.callee_id.clone());
                    after.edges.insert(key, dependency.clone());
                    touched.insert(dependency.caller_id.clone());
                }
                Change::RemoveDependency(edge) => {
                    after.edges.remove(&(edge.caller_id.clone(), edge.callee_id.clone()));
                    touched.insert(edge.caller_id.clone());
                }
            }
        }
        (after, touched)
    }

    /// A region takes along what is said to run there, an API or a system what it is made of.
    fn down(&self, place: &Place, entities: &[Entity]) -> BTreeSet<String> {
        let in_region = |region: &str| {
            let stands_for_it = |entity: &&Entity| entity.id == region && entity.kind() == EntityKind::Region;
            let inside = entities.iter().filter(|entity| entity.region == region || stands_for_it(entity));
            inside.map(|entity| entity.id.clone()).collect()
        };
        let id = match place {
            Place::Region(region) => return in_region(region),
            Place::EntityId(id) => id,
        };
        match entities.iter().find(|entity| entity.id == *id).map(Entity::kind) {
            None => BTreeSet::new(),
            Some(EntityKind::Region) => in_region(id),
            Some(EntityKind::Api | EntityKind::System) => {
                let parts = self.edges.keys().filter(|(whole, _)| whole == id).map(|(_, part)| part.clone());
                parts.chain([id.clone()]).collect()
            }
            Some(_) => BTreeSet::from([id.clone()]),
        }
    }

    fn calls<'a>(&'a self, caller: &'a str) -> impl Iterator<Item = &'a Dependency> {
        let whole = self.rates.get(caller).is_some_and(|(_, whole)| *whole);
        self.edges
            .values()
            .filter(move |edge| !whole && edge.caller_id == caller && edge.mode() != DependencyMode::Async)
    }

    /// Everything that the service needs, itself included.
    pub(crate) fn reached(&self, service: &str) -> BTreeSet<String> {
        let (mut reached, mut queue) = (BTreeSet::from([service.to_owned()]), VecDeque::from([service.to_owned()]));
        while let Some(next) = queue.pop_front() {
            for edge in self.calls(&next) {
                if reached.insert(edge.callee_id.clone()) {
                    queue.push_back(edge.callee_id.clone());
                }
            }
        }
        reached
    }

    pub(crate) fn rated(&self, id: &str) -> bool {
        self.rates.contains_key(id)
    }

    /// Shortest walk from the service to one of the targets.
    pub(crate) fn path(&self, service: &str, targets: &BTreeSet<String>) -> Vec<String> {
        let mut queue = VecDeque::from([vec![service.to_owned()]]);
        let mut seen = BTreeSet::from([service.to_owned()]);
        while let Some(path) = queue.pop_front() {
            let last = path.last().unwrap().clone();
            if targets.contains(&last) {
                return path;
            }
            for edge in self.calls(&last) {
                if seen.insert(edge.callee_id.clone()) {
                    queue.push_back([path.clone(), vec![edge.callee_id.clone()]].concat());
                }
            }
        }
        Vec::new()
    }

    pub(crate) fn availability(&self, service: &str) -> graph::Availability {
        let ratio = self.probability(service, None);
        let mut importances: Vec<graph::Importance> = self
            .reached(service)
            .into_iter()
            .filter_map(|id| {
                let (failure, _) = *self.rates.get(&id)?;
                let birnbaum =
                    self.probability(service, Some((&id, true))) - self.probability(service, Some((&id, false)));
                Some(graph::Importance { entity_id: id, birnbaum, contribution_ratio: birnbaum * failure })
            })
            .collect();
        importances.sort_by(|a, b| b.contribution_ratio.total_cmp(&a.contribution_ratio));
        graph::Availability {
            availability_ratio: ratio,
            method: graph::EvaluationMethod::Exact as i32,
            interval_low_ratio: ratio,
            interval_high_ratio: ratio,
            bound_low_ratio: ratio,
            bound_high_ratio: ratio,
            cold_start_ratio: ratio,
            importances,
            ..graph::Availability::default()
        }
    }

    fn probability(&self, service: &str, held: Option<(&str, bool)>) -> f64 {
        let reached = self.reached(service);
        let mut parts: Vec<(String, f64)> = Vec::new();
        for id in &reached {
            match held {
                Some((name, up)) if name == id => parts.push((id.clone(), f64::from(u8::from(up)))),
                _ => parts.push((id.clone(), 1.0 - self.rates.get(id).map_or(0.0, |(failure, _)| *failure))),
            }
            for edge in self.calls(id).filter(|edge| edge.mode() == DependencyMode::Soft) {
                parts.push((fallback(edge), edge.fallback_success_ratio.unwrap_or(1.0)));
            }
        }
        // Only what may go either way doubles the work.
        let open: Vec<usize> = (0..parts.len()).filter(|i| parts[*i].1 > 0.0 && parts[*i].1 < 1.0).collect();
        let mut up: BTreeMap<&str, bool> = parts.iter().map(|(name, p)| (name.as_str(), *p >= 1.0)).collect();
        let mut sum = 0.0;
        for combination in 0u32..(1 << open.len()) {
            let mut weight = 1.0;
            for (bit, &at) in open.iter().enumerate() {
                let works = combination & (1 << bit) != 0;
                weight *= if works { parts[at].1 } else { 1.0 - parts[at].1 };
                up.insert(&parts[at].0, works);
            }
            if self.works(service, &up) {
                sum += weight;
            }
        }
        sum
    }

    fn works(&self, id: &str, up: &BTreeMap<&str, bool>) -> bool {
        up[id]
            && self.calls(id).all(|edge| {
                self.works(&edge.callee_id, up) || (edge.mode() == DependencyMode::Soft && up[fallback(edge).as_str()])
            })
    }
}

fn fallback(edge: &Dependency) -> String {
    format!("{} falls back from {}", edge.caller_id, edge.callee_id)
}

#[test]
fn two_parts_in_a_row_and_one_with_a_fallback() {
    let edge = |caller: &str, callee: &str| Dependency {
        caller_id: caller.into(),
        callee_id: callee.into(),
        ..Dependency::default()
    };
    let rate = |id: &str, own: f64| graph::ComponentRate {
        entity_id: id.into(),
        own_failure_ratio: own,
        includes_dependencies: false,
    };
    let soft = Dependency { mode: DependencyMode::Soft as i32, fallback_success_ratio: Some(0.9), ..edge("a", "c") };
    let state = State::new(&[edge("a", "b"), soft], &[rate("a", 0.1), rate("b", 0.2), rate("c", 0.5)]);
    let availability = state.availability("a");
    assert!((availability.availability_ratio - 0.9 * 0.8 * 0.95).abs() < 1e-12);
    assert_eq!(state.path("a", &BTreeSet::from(["c".to_owned()])), ["a", "c"]);
}
