//! What the graph says against itself or does not know, around one service.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, EntityKind};

use super::links::{EdgeIndex, NodeIndex};
use super::needs::{FALLBACK_FAILURES_MIN, FALLBACK_SUCCESS_PRIOR, observed_fallback_ratio, required_count};
use super::snapshot::{Edge, Snapshot, Terms};

/// A declared fallback is doubted when it lies above the observed share of rescues by this many standard errors.
const DOUBT_STANDARD_ERRORS: f64 = 3.0;

/// Something doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Stable machine-readable kind.
    pub code: &'static str,
    /// Who is concerned; caller before callee.
    pub nodes: Vec<NodeIndex>,
    /// A sentence a person can act on.
    pub detail: String,
}

/// Findings about a service: its own edges first, then those of what it needs, the nearest first; at most `findings_max`
/// and one that says that there are more.
#[must_use]
pub fn findings(snapshot: &Snapshot, service: NodeIndex, findings_max: usize) -> Vec<Finding> {
    let closure = closure(snapshot, service);
    let mut findings = cycles(snapshot, &closure);
    for &node in &closure {
        findings.extend(of_node(snapshot, node));
        let caller = Caller::of(snapshot, node);
        for &edge in snapshot.all().out_edges(node) {
            findings.extend(of_edge(snapshot, edge, caller));
        }
        findings.extend(groups(snapshot, node));
        if node == service {
            let edges = snapshot.all().in_edges(node).iter();
            findings.extend(
                edges.flat_map(|&edge| of_edge(snapshot, edge, Caller::of(snapshot, snapshot.edge(edge).caller))),
            );
        }
        if findings.len() > findings_max {
            break;
        }
    }
    // An edge into the service from inside its own closure is met twice.
    let mut seen = BTreeSet::new();
    findings.retain(|finding| seen.insert((finding.code, finding.nodes.clone())));
    if findings.len() > findings_max {
        findings.truncate(findings_max);
        let detail = format!("there are more than {findings_max} findings; look at what the service needs one by one");
        findings.push(Finding { code: "findings_truncated", nodes: vec![service], detail });
    }
    findings
}

/// The service and what it needs, by distance and then in lexical order.
fn closure(snapshot: &Snapshot, service: NodeIndex) -> Vec<NodeIndex> {
    let links = snapshot.request_path();
    let mut seen = vec![false; links.node_count()];
    seen[service as usize] = true;
    let mut closure = vec![service];
    let mut start = 0;
    while start < closure.len() {
        let end = closure.len();
        for position in start..end {
            for &callee in links.callees(closure[position]) {
                if !std::mem::replace(&mut seen[callee as usize], true) {
                    closure.push(callee);
                }
            }
        }
        closure[end..].sort_unstable();
        start = end;
    }
    closure
}

fn cycles(snapshot: &Snapshot, closure: &[NodeIndex]) -> Vec<Finding> {
    let mut inside = vec![false; snapshot.nodes().len()];
    closure.iter().for_each(|&node| inside[node as usize] = true);
    let near = snapshot.cycles().iter().filter(|cycle| cycle.members.iter().any(|&node| inside[node as usize]));
    near.map(|cycle| {
        let count = cycle.members.len();
        let (code, detail) = if cycle.bootstrap_hazard {
            let advice = "after a full stop some of them cannot start; make one of the calls soft";
            ("bootstrap_hazard", format!("{count} services need one another with nothing to start from: {advice}"))
        } else {
            ("dependency_cycle", format!("{count} services need one another; a failure of one can come back to it"))
        };
        Finding { code, nodes: cycle.members.clone(), detail }
    })
    .collect()
}

fn of_node(snapshot: &Snapshot, node: NodeIndex) -> Option<Finding> {
    let entity = &snapshot.nodes()[node as usize];
    let called = |&edge: &EdgeIndex| snapshot.edge(edge).terms.observed_call_count > 0;
    let unknown = entity.kind == EntityKind::External
        && entity.published_availability_ratio.is_none()
        && !snapshot.all().in_edges(node).iter().any(called);
    unknown.then(|| Finding {
        code: "external_availability_unknown",
        nodes: vec![node],
        detail: format!(
            "`{}` is an external party with neither a published availability nor observed calls; state what its contract promises",
            entity.id
        ),
    })
}

/// What is known of a caller as a whole.
#[derive(Clone, Copy)]
struct Caller {
    /// Whether its calls would be seen.
    traced: bool,
    described: bool,
}

impl Caller {
    fn of(snapshot: &Snapshot, caller: NodeIndex) -> Self {
        let mut edges = snapshot.all().out_edges(caller).iter().map(|&edge| &*snapshot.edge(edge).terms);
        Self { traced: snapshot.is_observed(caller), described: edges.any(|terms| terms.declared) }
    }
}

fn of_edge(snapshot: &Snapshot, edge: EdgeIndex, told: Caller) -> Vec<Finding> {
    let edge = snapshot.edge(edge);
    let Edge { caller, callee, terms } = edge;
    let names = Names { caller: snapshot.id(*caller).as_str(), callee: snapshot.id(*callee).as_str() };
    // What is no call is neither seen nor made by a share of the requests.
    let of_calls = snapshot.can_be_traced(edge);
    let declared_as_a_whole = || declares_what_it_is_part_of(snapshot, edge);
    let provenance = provenance(told, terms, &names).filter(|_| of_calls && !declared_as_a_whole());
    let found = [provenance, fallback(terms, &names), call_fraction(terms, &names).filter(|_| of_calls)];
    let found = found.into_iter().flatten();
    found.map(|(code, detail)| Finding { code, nodes: vec![*caller, *callee], detail }).collect()
}

/// Whether the caller of an edge declares that it needs an API or a system of which the callee is a part.
fn declares_what_it_is_part_of(snapshot: &Snapshot, edge: &Edge) -> bool {
    let all = snapshot.all();
    let declared =
        all.out_edges(edge.caller).iter().map(|&edge| snapshot.edge(edge)).filter(|edge| edge.terms.declared);
    let mut wholes = declared.filter(|edge| snapshot.nodes()[edge.callee as usize].kind.is_composite());
    wholes.any(|whole| all.callees(whole.callee).binary_search(&edge.callee).is_ok())
}

struct Names<'a> {
    caller: &'a str,
    callee: &'a str,
}

type Doubt = Option<(&'static str, String)>;

/// Declared and observed are compared only where both could be: a caller that sends traces, a caller that somebody
/// described.
fn provenance(told: Caller, terms: &Terms, Names { caller: from, callee: to }: &Names) -> Doubt {
    if terms.declared && !terms.traced && told.traced {
        let detail = format!(
            "`{from}` declares that it needs `{to}`, but its traces never showed a call; remove the declaration or look for missing instrumentation"
        );
        return Some(("declared_never_observed", detail));
    }
    if terms.traced && !terms.declared && told.described {
        let detail =
            format!("traces show `{from}` calling `{to}`, which its declaration leaves out; declare it with its mode");
        return Some(("observed_never_declared", detail));
    }
    None
}

fn fallback(terms: &Terms, Names { caller: from, callee: to }: &Names) -> Doubt {
    // Only failures whose outcome was seen prove anything.
    let (failures, rescued) = match terms.observed_rescued_count {
        Some(rescued) => (terms.observed_failure_count.unwrap_or(0), rescued),
        None => (0, 0),
    };
    match (terms.mode, terms.fallback_success_ratio) {
        (DependencyMode::Hard, _) if rescued > 0 => {
            let detail = format!(
                "`{from}` answered although its call to `{to}` failed, {rescued} of {failures} times: proof of a fallback, yet the dependency is called hard; declare it soft"
            );
            Some(("hard_with_observed_fallback", detail))
        }
        (DependencyMode::Hard, Some(_)) => {
            let detail = format!(
                "the dependency of `{from}` on `{to}` is called hard and has a fallback; the fallback is not counted until it is declared soft"
            );
            Some(("hard_with_declared_fallback", detail))
        }
        (DependencyMode::Soft, None) if failures < FALLBACK_FAILURES_MIN => {
            let detail = format!(
                "`{from}` is said to survive without `{to}`, but nobody says how often its fallback works and traces showed only {failures} failures; {FALLBACK_SUCCESS_PRIOR} is assumed"
            );
            Some(("soft_without_fallback", detail))
        }
        (DependencyMode::Soft, Some(declared)) => {
            let observed = observed_fallback_ratio(terms)?;
            let error = (observed * (1.0 - observed) / failures as f64).sqrt().max(1.0 / failures as f64);
            (declared > observed + DOUBT_STANDARD_ERRORS * error).then(|| {
                let detail = format!("the fallback of `{from}` for `{to}` is said to save {declared} of failed calls, but saved {rescued} of {failures}");
                ("fallback_weaker_than_declared", detail)
            })
        }
        _ => None,
    }
}

fn call_fraction(terms: &Terms, Names { caller: from, callee: to }: &Names) -> Doubt {
    let unknown = terms.on_request_path() && terms.call_fraction.is_none() && terms.call_rate.is_none();
    unknown.then(|| {
        let detail =
            format!("nobody says which share of the requests of `{from}` calls `{to}`; every request is assumed to");
        ("call_fraction_unknown", detail)
    })
}

fn groups(snapshot: &Snapshot, caller: NodeIndex) -> Vec<Finding> {
    let mut groups: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for &edge in snapshot.all().out_edges(caller) {
        let edge = snapshot.edge(edge);
        if let Some(group) = &edge.terms.group {
            groups.entry(group).or_default().push(edge);
        }
    }
    let from = snapshot.id(caller);
    let doubts = groups.into_iter().filter_map(|(name, edges)| {
        let required = required_count(edges.iter().map(|edge| &*edge.terms));
        let count = edges.len();
        let (code, detail) = if edges.iter().any(|edge| !edge.terms.on_request_path()) {
            ("redundancy_group_with_async", format!("the redundancy group `{name}` of `{from}` has asynchronous members, which do not count"))
        } else if count == 1 {
            ("redundancy_group_of_one", format!("the redundancy group `{name}` of `{from}` has one member: nothing backs it up"))
        } else if required as usize > count {
            ("redundancy_group_too_small", format!("the redundancy group `{name}` of `{from}` needs {required} of {count} members; all of them are taken as needed"))
        } else if edges.iter().any(|edge| edge.terms.group_required_count.is_some_and(|count| count != required)) {
            ("redundancy_count_contradicts", format!("the edges of the redundancy group `{name}` of `{from}` disagree on how many must work; {required} is assumed"))
        } else {
            return None;
        };
        let members = edges.iter().map(|edge| edge.callee);
        Some(Finding { code, nodes: std::iter::once(caller).chain(members).collect(), detail })
    });
    doubts.collect()
}
