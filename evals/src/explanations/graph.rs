//! The graph, asked again without the edges that it doubts and with the fallbacks that were thought of.

use std::collections::BTreeSet;

use attain_attainment::{Doubt, RecommendationInput, RecommendationResult, percent};
use attain_graph::domain::availability::evaluate;
use attain_graph::domain::confidence::of_caller;
use attain_graph::domain::links::NodeIndex;
use attain_graph::domain::scenario::{Amendment, Change, SaidTerms, Scenario};
use attain_graph::domain::sensitivity::without_doubtful;
use attain_graph::domain::snapshot::{Dependency, Edge, Snapshot, Terms};
use attain_recommendation::domain::components::Rate;
use attain_recommendation::domain::doubt::{CONFIDENCE_MIN, doubtful_edges};
use attain_recommendation::domain::fallbacks::FALLBACK_SUCCESS_RATIO;
use attain_reliability::EvaluationLimits;
use attain_vocabulary::{DAY_MS, DependencyMode, EntityId};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::Case;
use crate::fleet::{END_MS, View, named};

/// Share of edges that are seen but seldom, and long ago.
const DOUBTFUL_SHARE: f64 = 0.3;
/// Two ways to the same number differ by rounding alone.
const ROUNDING: f64 = 1e-12;

/// Asks the graph what the service asks it, puts the answers into the input, and holds each against a graph that is built as
/// the answer supposes.
pub(super) fn asked(
    case: &mut Case,
    view: &View<'_>,
    rates: &[Rate],
    input: &mut RecommendationInput,
    random: &mut ChaCha8Rng,
) {
    let rates = named(rates);
    let limits = EvaluationLimits::default();
    let snapshot = amended(&view.snapshot, |_, terms| {
        if random.random_bool(DOUBTFUL_SHARE) {
            let (observed_call_count, last_seen_ms) = (random.random_range(1..9), END_MS - 20 * DAY_MS);
            *terms = Terms { declared: false, observed_call_count, last_seen_ms: Some(last_seen_ms), ..terms.clone() };
        }
        true
    });
    let Some(node) = snapshot.find(input.service.as_str()) else { return };
    let service = &[node];
    let ceiling = |snapshot: &Snapshot, change: &[Change]| {
        let scenario = Scenario::resolve(snapshot, &rates, change).ok()?;
        let found = evaluate(&scenario, service, &limits, &|| false).ok()?.services.into_iter().next()?;
        let before = found.before.availability_ratio;
        Some((before, found.after.map_or(before, |after| after.availability_ratio)))
    };
    let reached = reached(&snapshot, node);
    // What is rated together with its dependencies is opened for a change, before it and after it; built anew it would keep its
    // rate.
    let opened = rates.iter().filter(|named| named.rate.includes_dependencies);
    let opened = opened.filter_map(|named| snapshot.find(&named.entity_id)).any(|node| reached.contains(&node));
    for fallback in &mut input.counterfactuals {
        let is_it = |edge: &Edge| ends(&snapshot, edge) == (&fallback.caller, &fallback.callee);
        let said = SaidTerms {
            mode: Some(DependencyMode::Soft),
            fallback_success_ratio: Some(FALLBACK_SUCCESS_RATIO),
            ..SaidTerms::default()
        };
        let change = Amendment { caller: fallback.caller.clone(), callee: fallback.callee.clone(), said };
        let said = ceiling(&snapshot, &[Change::Set(Box::new(change))]);
        let said_ratio = said.map(|(_, after)| after);
        let built = amended(&snapshot, |edge, terms| {
            if is_it(edge) {
                terms.mode = DependencyMode::Soft;
                terms.fallback_success_ratio = Some(FALLBACK_SUCCESS_RATIO);
            }
            true
        });
        let found = ceiling(&built, &[]).map(|(found, _)| found);
        let holds = if opened {
            said.is_some_and(|(before, after)| after >= before - ROUNDING)
        } else {
            close(said_ratio, found)
        };
        let name = if opened { "ceilings_with_fallbacks_opened" } else { "ceilings_with_fallbacks" };
        case.check(name, holds, || format!("{}: {said_ratio:?} was said, {found:?} is found", fallback.key));
        fallback.ceiling_after_ratio = said_ratio;
    }
    let doubtful = doubtful(&snapshot, view, &reached);
    let said = without_doubtful(&snapshot, (CONFIDENCE_MIN, END_MS), (&rates, &[]), service, &limits, &|| false);
    let said = said.ok().and_then(|found| found.get(&node).map(|(ratio, _)| *ratio));
    let named: BTreeSet<(&EntityId, &EntityId)> =
        doubtful.edges.iter().map(|edge| (&edge.caller, &edge.callee)).collect();
    let built = amended(&snapshot, |edge, _| !named.contains(&ends(&snapshot, edge)));
    let found = ceiling(&built, &[]).map(|(found, _)| found);
    let today = ceiling(&snapshot, &[]).map(|(today, _)| today);
    // Where nothing is said, there is no such edge.
    case.check("ceilings_without_doubtful_edges", close(said.or(today), found), || {
        format!("{named:?}: {said:?} was said, {found:?} is found")
    });
    if let Some(structure) = &mut input.structure {
        let edges = doubtful.edges;
        let ceiling_without_edges_ratio = said.filter(|_| !edges.is_empty());
        structure.doubt = Doubt { edges, ceiling_without_edges_ratio, ..structure.doubt.clone() };
    }
}

/// What is said of the doubtful edges is what the graph said.
pub(super) fn told(case: &mut Case, input: &RecommendationInput, result: &RecommendationResult) {
    let Some(structure) = &input.structure else { return };
    let Some(ratio) = structure.doubt.ceiling_without_edges_ratio else { return };
    let part = result.confidence.parts.iter().find(|part| part.name == "graph");
    let count = structure.doubt.edges.len();
    let words = format!("without {count} doubtful dependencies the ceiling would be {}", percent(ratio));
    case.check("doubt_is_told", part.is_some_and(|part| part.detail.contains(&words)), || format!("{part:?}"));
}

fn close(said: Option<f64>, found: Option<f64>) -> bool {
    said.zip(found).is_some_and(|(said, found)| (said - found).abs() <= ROUNDING)
}

fn ends<'a>(snapshot: &'a Snapshot, edge: &Edge) -> (&'a EntityId, &'a EntityId) {
    (snapshot.id(edge.caller), snapshot.id(edge.callee))
}

/// A graph with other terms, and without the edges for which nothing stays.
fn amended(snapshot: &Snapshot, mut amend: impl FnMut(&Edge, &mut Terms) -> bool) -> Snapshot {
    let dependency = |edge: &Edge| {
        let mut terms = (*edge.terms).clone();
        let (caller, callee) = ends(snapshot, edge);
        amend(edge, &mut terms).then(|| Dependency { caller: caller.clone(), callee: callee.clone(), terms })
    };
    let dependencies = snapshot.edges().iter().filter_map(dependency).collect();
    Snapshot::build(snapshot.nodes().to_vec(), dependencies)
}

/// Nodes that the service reaches by calls that it waits for, itself among them.
fn reached(snapshot: &Snapshot, node: NodeIndex) -> BTreeSet<NodeIndex> {
    let (mut reached, mut left) = (BTreeSet::from([node]), vec![node]);
    while let Some(caller) = left.pop() {
        left.extend(snapshot.request_path().callees(caller).iter().copied().filter(|callee| reached.insert(*callee)));
    }
    reached
}

/// Doubtful edges of what the service reaches, as it names them.
fn doubtful(snapshot: &Snapshot, view: &View<'_>, reached: &BTreeSet<NodeIndex>) -> Doubt {
    let (mut edges, mut confidences) = (Vec::new(), Vec::new());
    for &caller in reached {
        for (position, confidence) in of_caller(snapshot, caller, END_MS) {
            let (caller, callee) = ends(snapshot, snapshot.edge(position));
            edges.extend(view.edges.iter().find(|edge| (&edge.caller, &edge.callee) == (caller, callee)).cloned());
            confidences.push(confidence);
        }
    }
    Doubt { edges: doubtful_edges(&edges, &confidences), ..Doubt::default() }
}
