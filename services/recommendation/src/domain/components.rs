//! How often each component of a closure fails of its own, from its history and those of what it calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_attainment::{
    DependencyBucket, DependencyHistory, Doubt, Exclusion, RecommendationInput, ServiceHistory, SplitMethod,
    StructureFacts, TierPolicy, UtilisationFacts, failure_split,
};
use attain_vocabulary::{DependencyMode, EntityId, EntityKind, SliBucket, Tier, TimeRange, TimeWindow};

use super::flow::{Component, Edge};
use super::recorded::{Called, Recorded, SplitQuestion};

/// A component as the graph engine wants it rated.
#[derive(Debug, Clone, PartialEq)]
pub struct Rate {
    /// Which component.
    pub id: EntityId,
    /// Share of requests that it fails, in `[0, 1]`.
    pub own_failure_ratio: f64,
    /// Whether the ratio contains what its dependencies do to it.
    pub includes_dependencies: bool,
}

/// What is known of one entity beside its history.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What it is.
    pub kind: EntityKind,
    /// How much depends on it.
    pub tier: Tier,
    /// Availability that a contract promises.
    pub published_ratio: Option<f64>,
}

/// Tells own from inherited failure in every component that has requests in the span.
#[must_use]
pub fn components(
    range: TimeRange,
    facts: &BTreeMap<EntityId, Facts>,
    records: &BTreeMap<EntityId, Arc<Recorded>>,
    edges: &[Edge],
    exclusions: &BTreeMap<EntityId, Vec<Exclusion>>,
) -> BTreeMap<EntityId, Component> {
    let component = |(id, facts): (&EntityId, &Facts)| {
        let recorded = records.get(id).cloned().unwrap_or_default();
        let requests = recorded.counted().requests();
        let split = || split(id, range, &recorded, (edges, records));
        let split = (requests > 0).then(|| match exclusions.get(id).filter(|exclusions| !exclusions.is_empty()) {
            Some(exclusions) => failure_split(&RecommendationInput { exclusions: exclusions.clone(), ..split() }),
            None => {
                let question = SplitQuestion { range, called: called(id, edges, records) };
                recorded.split(question, || failure_split(&split()))
            }
        });
        (id.clone(), Component { recorded, split, published_ratio: facts.published_ratio })
    };
    facts.iter().map(component).collect()
}

/// Requests of a history without the rest.
#[must_use]
pub fn counts(buckets: &[SliBucket]) -> Vec<DependencyBucket> {
    buckets.iter().map(|bucket| DependencyBucket { start_ms: bucket.start_ms, counts: bucket.counts }).collect()
}

/// What a component calls directly, each callee with its history; several edges to one callee count once.
#[must_use]
pub fn dependencies(
    caller: &EntityId,
    edges: &[Edge],
    records: &BTreeMap<EntityId, Arc<Recorded>>,
) -> Vec<DependencyHistory> {
    let history = |edge: &Edge| DependencyHistory {
        id: edge.callee.clone(),
        mode: edge.mode,
        call_fraction: edge.call_fraction,
        fallback_success_ratio: edge.fallback_success_ratio,
        buckets: records.get(&edge.callee).map(|recorded| recorded.counted().counts()).unwrap_or_default(),
    };
    first_edges(caller, edges).map(history).collect()
}

/// The same without the histories, each told apart by its record.
fn called(caller: &EntityId, edges: &[Edge], records: &BTreeMap<EntityId, Arc<Recorded>>) -> Vec<Called> {
    let of = |edge: &Edge| Called {
        id: edge.callee.clone(),
        mode: edge.mode,
        call_fraction: edge.call_fraction,
        fallback_success_ratio: edge.fallback_success_ratio,
        recorded: records.get(&edge.callee).map(Arc::downgrade),
    };
    first_edges(caller, edges).map(of).collect()
}

/// The first edge to each callee, in the order of their names.
fn first_edges<'a>(caller: &EntityId, edges: &'a [Edge]) -> impl Iterator<Item = &'a Edge> + use<'a> {
    let mut first: BTreeMap<&EntityId, &Edge> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.caller == *caller && edge.callee != *caller) {
        first.entry(&edge.callee).or_insert(edge);
    }
    first.into_values()
}

/// Rates for the graph engine: own failure where it was measured; the contract where nothing was; nothing otherwise, so that
/// the engine takes the component as never failing and says so.
///
/// A component whose own failure cannot be told from what it inherits is rated as a whole: rating what it calls beside it
/// would count the same failures twice.
#[must_use]
pub fn rates(components: &BTreeMap<EntityId, Component>, edges: &[Edge]) -> Vec<Rate> {
    let calls = |id: &EntityId| edges.iter().any(|edge| edge.caller == *id && edge.mode != DependencyMode::Async);
    let rate = |(id, component): (&EntityId, &Component)| {
        let (own_failure_ratio, includes_dependencies) = match (&component.split, component.published_ratio) {
            (Some(split), _) if split.method == SplitMethod::Unknown && calls(id) => {
                (split.own_failure_ratio + split.inherited_failure_ratio, true)
            }
            (Some(split), _) => (split.own_failure_ratio, false),
            (None, Some(published)) => ((1.0 - published).clamp(0.0, 1.0), true),
            (None, None) => return None,
        };
        Some(Rate { id: id.clone(), own_failure_ratio, includes_dependencies })
    };
    components.iter().filter_map(rate).collect()
}

/// What the failures of a component are told apart from.
fn split(
    id: &EntityId,
    range: TimeRange,
    recorded: &Recorded,
    (edges, records): (&[Edge], &BTreeMap<EntityId, Arc<Recorded>>),
) -> RecommendationInput {
    failures(id, range, recorded.counted().buckets(), dependencies(id, edges, records), Vec::new())
}

/// What own and inherited failures are told apart from; everything else of the input says nothing.
pub(crate) fn failures(
    id: &EntityId,
    range: TimeRange,
    buckets: Vec<SliBucket>,
    dependencies: Vec<DependencyHistory>,
    exclusions: Vec<Exclusion>,
) -> RecommendationInput {
    RecommendationInput {
        service: id.clone(),
        tier: Tier::Three,
        kind: EntityKind::Service,
        window: TimeWindow::default(),
        as_of_ms: range.end_ms(),
        history: ServiceHistory { range, buckets },
        dependencies,
        exclusions,
        incident_ids: Vec::new(),
        structure: Some(StructureFacts {
            ceiling_ratio: 1.0,
            exact: true,
            importances: Vec::new(),
            assumed_perfect_ids: Vec::new(),
            snapshot_version: 0,
            snapshot_age_ms: 0,
            doubt: Doubt::default(),
            consistent_targets: Vec::new(),
            slow_requests: None,
        }),
        counterfactuals: Vec::new(),
        current_slos: Vec::new(),
        missing_inputs: Vec::new(),
        policy: TierPolicy::for_tier(Tier::Three),
        class_record: None,
        quiet_slices_good: false,
        utilisation: UtilisationFacts::default(),
        seed: 0,
        model: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attain_attainment::FailureSplit;
    use attain_vocabulary::{BUCKET_MS, BucketCounts};

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn facts(published_ratio: Option<f64>) -> Facts {
        Facts { kind: EntityKind::Service, tier: Tier::Two, published_ratio }
    }

    fn history(bad: u64, inherited: Option<u64>) -> Vec<SliBucket> {
        let bucket = |i| {
            let counts = BucketCounts::new(1000, bad, inherited).expect("valid");
            let shares = inherited.map(|failed| (id("db"), failed)).into_iter().collect();
            SliBucket::new(i * BUCKET_MS, counts, shares, None).expect("valid")
        };
        (0..288).map(bucket).collect()
    }

    fn edge(caller: &str, callee: &str) -> Edge {
        Edge {
            caller: id(caller),
            callee: id(callee),
            mode: DependencyMode::Hard,
            call_fraction: None,
            fallback_success_ratio: None,
        }
    }

    #[test]
    fn each_component_is_rated_by_what_is_known_of_it() {
        let range = TimeRange::new("range", 0, 288 * BUCKET_MS).expect("ascending");
        let entities: BTreeMap<EntityId, Facts> =
            [("shop", None), ("db", None), ("provider", Some(0.99)), ("queue", None)]
                .map(|(name, published)| (id(name), facts(published)))
                .into();
        let records = BTreeMap::from(
            [("shop", history(5, Some(3))), ("db", history(3, None))]
                .map(|(name, buckets)| (id(name), Arc::new(Recorded::from(buckets)))),
        );
        let edges = [edge("shop", "db"), edge("shop", "provider")];
        let known = components(range, &entities, &records, &edges, &BTreeMap::new());
        let rates = rates(&known, &edges);
        let of = |name: &str| {
            rates
                .iter()
                .find(|rate| rate.id == id(name))
                .map(|rate| (rate.own_failure_ratio, rate.includes_dependencies))
        };
        let (own, whole) = of("shop").expect("measured");
        assert!((own - 0.002).abs() < 1e-9 && !whole);
        let (own, _) = of("db").expect("measured");
        assert!((own - 0.003).abs() < 1e-9);
        let (own, _) = of("provider").expect("published");
        assert!((own - 0.01).abs() < 1e-12);
        assert_eq!(of("queue"), None);
        assert_eq!(known[&id("shop")].recorded.counted().len(), 288);
    }

    #[test]
    fn what_cannot_be_told_apart_is_rated_as_a_whole() {
        let split = FailureSplit {
            own_failure_ratio: 0.01,
            inherited_failure_ratio: 0.0,
            unattributed_ratio: 0.0,
            method: SplitMethod::Unknown,
            inherited: Vec::new(),
        };
        let known = BTreeMap::from([(id("shop"), Component { split: Some(split), ..Component::default() })]);
        assert!(rates(&known, &[edge("shop", "db")])[0].includes_dependencies);
        assert!(!rates(&known, &[])[0].includes_dependencies);
    }
}
