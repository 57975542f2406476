//! What a node is decides what its edges mean: systems, APIs, infrastructure, regions.

#![allow(clippy::unwrap_used)]

mod fixture;

use attain_graph::domain::availability::{Availabilities, evaluate};
use attain_graph::domain::betweenness::betweenness;
use attain_graph::domain::chokes::separated_count;
use attain_graph::domain::confidence::{DOUBTFUL, below};
use attain_graph::domain::findings::findings;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Change, NamedRate, Place, Scenario};
use attain_graph::domain::snapshot::{Dependency, Node, Snapshot, Terms};
use attain_graph::domain::structure::Rate;
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DependencyMode, EntityKind};
use fixture::{at, edge, hard, in_background, in_group, names, node, said, set, soft};
use proptest::prelude::*;

const NOW_MS: i64 = 1_793_000_000_000;

fn of_kind(name: &str, kind: EntityKind) -> Node {
    Node { kind, ..node(name) }
}

fn system(edges: impl IntoIterator<Item = Dependency>) -> Snapshot {
    Snapshot::build(vec![of_kind("system", EntityKind::System)], edges.into_iter().collect())
}

fn members(names: &[&str]) -> Vec<Dependency> {
    names.iter().map(|name| hard("system", name)).collect()
}

/// Everybody fails a tenth of the requests, APIs and systems none.
fn rates(snapshot: &Snapshot) -> Vec<NamedRate> {
    let own = snapshot.nodes().iter().filter(|node| !node.kind.is_composite());
    let rate = Rate { failure_ratio: 0.1, includes_dependencies: false };
    own.map(|node| NamedRate { entity_id: node.id.to_string(), rate }).collect()
}

fn everybody(snapshot: &Snapshot, changes: &[Change]) -> Availabilities {
    let scenario = Scenario::resolve(snapshot, &rates(snapshot), changes).unwrap();
    let services: Vec<NodeIndex> = (0..snapshot.nodes().len() as NodeIndex).collect();
    evaluate(&scenario, &services, &EvaluationLimits::default(), &|| false).unwrap()
}

fn before(snapshot: &Snapshot, name: &str) -> f64 {
    everybody(snapshot, &[]).services[at(snapshot, name) as usize].before.availability_ratio
}

fn after(snapshot: &Snapshot, name: &str, change: Change) -> f64 {
    let found = everybody(snapshot, &[change]);
    let service = &found.services[at(snapshot, name) as usize];
    assert!(!service.path.is_empty(), "{name} is reached");
    service.after.as_ref().unwrap().availability_ratio
}

fn close(left: f64, right: f64) {
    assert!((left - right).abs() < 1e-12, "{left} is not {right}");
}

fn needed<'a>(snapshot: &'a Snapshot, name: &str) -> Vec<&'a str> {
    let needs = snapshot.needs().of_caller(at(snapshot, name));
    needs.iter().flat_map(|need| names(snapshot, &need.members)).collect()
}

#[test]
fn a_system_needs_its_entry_points() {
    let of = |names: &[&str], calls: Vec<Dependency>| system(members(names).into_iter().chain(calls));
    // Behind a fallback, a member that nobody else calls into counts as the fallback lets it.
    let shop = of(&["cart", "web"], vec![soft("web", "cart", 0.5)]);
    assert_eq!(needed(&shop, "system"), ["web"]);
    close(before(&shop, "system"), 0.9 * 0.95);
    close(before(&shop, "system"), before(&shop, "web"));
    // Nobody waits for a call in the background: what is called so is an entry point itself.
    let background = of(&["web", "worker"], vec![in_background("web", "worker")]);
    assert_eq!(needed(&background, "system"), ["web", "worker"]);
    // Whoever is called by somebody else alone is one too.
    let elsewhere = of(&["web", "worker"], vec![hard("web", "outside"), hard("outside", "worker")]);
    assert_eq!(needed(&elsewhere, "system"), ["web", "worker"]);
    // All of a ring that nobody calls into, none of one that somebody does.
    let ring = vec![hard("a", "b"), hard("b", "a"), hard("c", "d")];
    assert_eq!(needed(&of(&["a", "b", "c", "d"], ring.clone()), "system"), ["a", "b", "c"]);
    let entered = ring.into_iter().chain([hard("c", "a")]).collect();
    assert_eq!(needed(&of(&["a", "b", "c", "d"], entered), "system"), ["c"]);
}

#[test]
fn what_a_person_says_of_a_member_stands() {
    // A group, a share of requests or a fallback is no mere membership.
    let group = system([in_group("system", "a", 1), in_group("system", "b", 1), hard("a", "b")]);
    assert_eq!(needed(&group, "system"), ["a", "b"]);
    let rarely = Terms { call_fraction: Some(0.1), ..Terms::of_mode(DependencyMode::Hard) };
    let shared = system([edge("system", "a", rarely), hard("system", "b"), hard("a", "b")]);
    assert_eq!(needed(&shared, "system"), ["a", "b"], "few requests reach b by a");
    // Only a system has entry points.
    let api = Snapshot::build(
        vec![of_kind("api", EntityKind::Api)],
        vec![hard("api", "a"), hard("api", "b"), soft("a", "b", 1.0)],
    );
    assert_eq!(needed(&api, "api"), ["a", "b"]);
    close(before(&api, "api"), 0.81);
}

#[test]
fn a_change_between_members_moves_the_entry_points() {
    let shop = system(members(&["cart", "web"]).into_iter().chain([soft("web", "cart", 1.0)]));
    close(before(&shop, "system"), 0.9);
    let apart = Change::Remove { caller_id: "web".into(), callee_id: "cart".into() };
    close(after(&shop, "system", apart), 0.81);
    let background = set(in_background("web", "cart"));
    close(after(&shop, "system", background), 0.81);
}

#[test]
fn apis_and_systems_have_no_failures_of_their_own_and_nothing_is_assumed_of_them() {
    let nodes = vec![of_kind("api", EntityKind::Api), of_kind("empty", EntityKind::System)];
    let snapshot = Snapshot::build(nodes, vec![hard("api", "a"), hard("a", "unknown")]);
    let given: Vec<NamedRate> = rates(&snapshot).into_iter().filter(|rate| rate.entity_id == "a").collect();
    let scenario = Scenario::resolve(&snapshot, &given, &[]).unwrap();
    let services = [at(&snapshot, "api"), at(&snapshot, "empty")];
    let found = evaluate(&scenario, &services, &EvaluationLimits::default(), &|| false).unwrap();
    close(found.services[0].before.availability_ratio, 0.9);
    // Of a system that nobody is part of nothing is known.
    assert_eq!(names(&snapshot, &found.assumed_perfect), ["empty", "unknown"]);
}

#[test]
fn a_region_that_is_down_takes_along_what_runs_there() {
    let placed = |name: &str| Node { region: Some("west".into()), ..node(name) };
    let nodes = vec![placed("db"), of_kind("west", EntityKind::Region), of_kind("zone-a", EntityKind::Zone)];
    let edges = vec![hard("web", "db"), hard("zone-a", "west"), hard("pod", "zone-a")];
    let snapshot = Snapshot::build(nodes, edges);
    for place in [Place::Entity("west".into()), Place::Region("west".into())] {
        for (name, expected) in [("db", 0.0), ("web", 0.0), ("zone-a", 0.0), ("pod", 0.0), ("west", 0.0)] {
            assert_eq!(after(&snapshot, name, Change::Outage(place.clone())), expected, "{name}, {place:?}");
        }
    }
    // A zone has no field; its edges tell who runs there. The region around it stays up.
    let zone = || Change::Outage(Place::Entity("zone-a".into()));
    assert_eq!(after(&snapshot, "pod", zone()), 0.0);
    assert!(everybody(&snapshot, &[zone()]).services[at(&snapshot, "db") as usize].path.is_empty());
    // A service that happens to be called like the region is none.
    let service = Snapshot::build(vec![placed("db"), node("west")], vec![hard("web", "west")]);
    assert_eq!(service.in_region("west").count(), 1);
    assert_eq!(service.down_with([at(&service, "west")]).len(), 1);
}

#[test]
fn a_system_or_an_api_that_is_down_takes_its_parts_along() {
    let nodes = vec![of_kind("outer", EntityKind::System), of_kind("inner", EntityKind::System)];
    let edges = vec![
        hard("outer", "inner"),
        hard("inner", "a"),
        hard("inner", "b"),
        soft("user", "b", 0.5),
        hard("inner", "outer"),
    ];
    let snapshot = Snapshot::build(nodes, edges);
    let down = snapshot.down_with([at(&snapshot, "outer")]);
    assert_eq!(names(&snapshot, &down), ["a", "b", "inner", "outer"]);
    close(after(&snapshot, "user", Change::Outage(Place::Entity("inner".into()))), 0.9 * 0.5);
}

fn declared(caller: &str, callee: &str) -> Dependency {
    edge(caller, callee, Terms { declared: true, ..Terms::of_mode(DependencyMode::Hard) })
}

fn traced(caller: &str, callee: &str) -> Dependency {
    let terms = Terms::of_mode(DependencyMode::Hard);
    edge(caller, callee, Terms { traced: true, observed_call_count: 1_000, call_fraction: Some(1.0), ..terms })
}

#[test]
fn what_cannot_be_traced_is_not_missed_in_traces() {
    let kinds = [
        EntityKind::Infrastructure,
        EntityKind::NodePool,
        EntityKind::Zone,
        EntityKind::Region,
        EntityKind::Api,
        EntityKind::System,
    ];
    let found = |kind: EntityKind, edges: Vec<Dependency>, of: &str| {
        let web = Node { traced: true, ..node("web") };
        let snapshot = Snapshot::build(vec![web, of_kind("other", kind)], edges);
        let doubtful = below(&snapshot, DOUBTFUL, NOW_MS).contains(&true);
        let codes: Vec<_> = findings(&snapshot, at(&snapshot, of), 50).into_iter().map(|found| found.code).collect();
        (codes, doubtful)
    };
    for kind in kinds {
        assert_eq!(found(kind, vec![declared("web", "other")], "web"), (vec![], false), "{kind:?}");
        assert_eq!(found(kind, vec![declared("other", "web")], "other"), (vec![], false), "{kind:?}");
    }
    let (codes, doubtful) = found(EntityKind::Datastore, vec![declared("web", "other")], "web");
    assert_eq!((codes, doubtful), (vec!["declared_never_observed", "call_fraction_unknown"], true));
    // Whoever declares the whole has declared its parts.
    let through = || vec![declared("web", "other"), declared("other", "part"), traced("web", "part")];
    assert_eq!(found(EntityKind::Api, through(), "web").0, Vec::<&str>::new());
    assert_eq!(found(EntityKind::Zone, through(), "web").0, ["observed_never_declared"]);
    // What was traced all the same is a call.
    assert_eq!(found(EntityKind::Infrastructure, vec![traced("web", "other")], "web").0, Vec::<&str>::new());
    let mut counted = traced("web", "other");
    counted.terms.call_fraction = None;
    assert_eq!(found(EntityKind::Infrastructure, vec![counted], "web").0, ["call_fraction_unknown"]);
}

fn terms() -> impl Strategy<Value = Terms> {
    let mode = prop_oneof![
        4 => Just(Terms::of_mode(DependencyMode::Hard)),
        2 => Just(Terms { fallback_success_ratio: Some(0.5), ..Terms::of_mode(DependencyMode::Soft) }),
        1 => Just(Terms::of_mode(DependencyMode::Async)),
    ];
    (mode, proptest::option::weighted(0.2, 0..2_u32))
        .prop_map(|(terms, retries)| Terms { retry_count: retries.unwrap_or_default(), ..terms })
}

fn name(number: usize) -> String {
    format!("n{number}")
}

/// Edges between seven services.
fn calls() -> impl Strategy<Value = Vec<Dependency>> {
    let edges = proptest::collection::vec((0..7_usize, 0..7_usize, terms()), 0..18);
    edges.prop_map(|edges| {
        let edges = edges.into_iter().filter(|(from, to, _)| from != to);
        edges.map(|(from, to, terms)| edge(&name(from), &name(to), terms)).collect()
    })
}

/// An API and two systems, of which one may be a member of the other, and edges to their parts.
fn composites() -> impl Strategy<Value = (Vec<Node>, Vec<Dependency>)> {
    let parts = proptest::collection::vec((0..3_usize, 0..7_usize, terms()), 0..14);
    (parts, any::<bool>()).prop_map(|(parts, nested)| {
        let wholes = ["api", "system-1", "system-2"];
        let kinds = [EntityKind::Api, EntityKind::System, EntityKind::System];
        let mut edges: Vec<Dependency> =
            parts.into_iter().map(|(whole, part, terms)| edge(wholes[whole], &name(part), terms)).collect();
        edges.extend(nested.then(|| hard("system-1", "system-2")));
        (wholes.iter().zip(kinds).map(|(name, kind)| of_kind(name, kind)).collect(), edges)
    })
}

fn services() -> Vec<Node> {
    (0..7).map(|number| node(&name(number))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn apis_and_systems_move_nobody_else(edges in calls(), (wholes, parts) in composites()) {
        let plain = Snapshot::build(services(), edges.clone());
        let all = Snapshot::build([services(), wholes].concat(), [edges, parts].concat());
        let (expected, found) = (everybody(&plain, &[]), everybody(&all, &[]));
        let never = &|| false;
        let through = betweenness(plain.request_path(), never).unwrap();
        let through_all = betweenness(&all.calls_among(all.request_path()), never).unwrap();
        let calls = all.calls_among(all.all());
        for service in &plain.nodes().to_vec() {
            let (one, other) = (at(&plain, service.id.as_str()), at(&all, service.id.as_str()));
            let of = |found: &Availabilities, node: NodeIndex| {
                let state = &found.services[node as usize].before;
                (state.availability_ratio, state.cold_start_ratio)
            };
            let ((steady, cold), (same, same_cold)) = (of(&expected, one), of(&found, other));
            prop_assert!((steady - same).abs() < 1e-12 && (cold - same_cold).abs() < 1e-12);
            prop_assert!((through.ratios[one as usize] - through_all.ratios[other as usize]).abs() < 1e-12);
            prop_assert_eq!(separated_count(plain.all(), one), separated_count(&calls, other));
            prop_assert_eq!(plain.all().callers(one).len(), calls.callers(other).len());
        }
    }

    /// A member is an entry point exactly when whoever of the members reaches it is reached by it.
    #[test]
    fn entry_points_are_where_no_other_member_leads(edges in calls(), of in proptest::collection::btree_set(0..7_usize, 1..6)) {
        let members = of.iter().map(|&number| hard("system", &name(number)));
        let snapshot = system(edges.into_iter().chain(members));
        let of: Vec<NodeIndex> = of.iter().map(|&number| at(&snapshot, &name(number))).collect();
        let mut leads: Vec<Vec<bool>> =
            of.iter().map(|from| of.iter().map(|to| snapshot.request_path().callees(*from).contains(to)).collect()).collect();
        for by in 0..of.len() {
            for from in 0..of.len() {
                for to in 0..of.len() {
                    leads[from][to] |= leads[from][by] && leads[by][to];
                }
            }
        }
        let is_entry = |&to: &usize| (0..of.len()).all(|from| from == to || !leads[from][to] || leads[to][from]);
        let expected: Vec<&str> = (0..of.len()).filter(is_entry).map(|place| snapshot.id(of[place]).as_str()).collect();
        prop_assert_eq!(needed(&snapshot, "system"), expected);
    }

    /// Members that nothing stands between may as well be asked one by one; fallbacks only help.
    #[test]
    fn a_system_is_no_worse_than_all_its_members_and_no_better_than_an_entry_point(
        edges in calls(),
        of in proptest::collection::btree_set(0..7_usize, 1..6),
    ) {
        let both = of.iter().flat_map(|&number| ["api", "system"].map(|whole| hard(whole, &name(number))));
        let wholes = vec![of_kind("api", EntityKind::Api), of_kind("system", EntityKind::System)];
        let snapshot = Snapshot::build(wholes, edges.into_iter().chain(both).collect());
        let found = everybody(&snapshot, &[]);
        let of = |name: &str| found.services[at(&snapshot, name) as usize].before.availability_ratio;
        prop_assert!(of("system") >= of("api") - 1e-12);
        for entry in needed(&snapshot, "system") {
            prop_assert!(of("system") <= of(entry) + 1e-12);
        }
    }

    #[test]
    fn a_change_is_the_graph_with_the_change(
        edges in calls(),
        (wholes, parts) in composites(),
        which in any::<proptest::sample::Index>(),
        terms in proptest::option::of(terms()),
    ) {
        let all = [edges, parts].concat();
        prop_assume!(!all.is_empty());
        let changed = which.get(&all).clone();
        let nodes = || [services(), wholes.clone()].concat();
        let snapshot = Snapshot::build(nodes(), all.clone());
        let change = match &terms {
            Some(terms) => set(Dependency { terms: terms.clone(), ..changed.clone() }),
            None => Change::Remove { caller_id: changed.caller.to_string(), callee_id: changed.callee.to_string() },
        };
        let same = |edge: &Dependency| (&edge.caller, &edge.callee) == (&changed.caller, &changed.callee);
        let mut otherwise: Vec<Dependency> = all.into_iter().filter(|edge| !same(edge)).collect();
        let amended = |terms: Terms| said(&terms).over(Some(&changed.terms));
        otherwise.extend(terms.map(|terms| Dependency { terms: amended(terms), ..changed.clone() }));
        let rebuilt = everybody(&Snapshot::build(nodes(), otherwise), &[]);
        let found = everybody(&snapshot, std::slice::from_ref(&change));
        for (service, expected) in found.services.iter().zip(&rebuilt.services) {
            let after = service.after.as_ref().unwrap();
            prop_assert!((after.availability_ratio - expected.before.availability_ratio).abs() < 1e-12);
        }
    }
}
