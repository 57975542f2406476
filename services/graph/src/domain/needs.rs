//! Edges and redundancy groups as what each caller needs: the form from which structure functions and single points of
//! failure are read.
//!
//! Of its members a system needs the entry points. The others it reaches through those, with the fallbacks that stand in between;
//! needing them besides would say that a fallback within the system saves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_reliability::EdgeEffect;
use attain_vocabulary::{DependencyMode, EntityKind};

use super::cycles::strongly_connected;
use super::links::{Links, NodeIndex};
use super::snapshot::{Edge, Node, Terms};

/// Failed calls that must have been seen before the observed share of rescues is taken for the fallback's success: with 20
/// the standard error of a share is at most 0.11.
pub const FALLBACK_FAILURES_MIN: u64 = 20;
/// Success of a fallback that was declared soft, without a number and without enough observed failures. An assumption:
/// a path that is seldom exercised often fails when it is needed, so it is credited with less than its owner hopes.
pub const FALLBACK_SUCCESS_PRIOR: f64 = 0.8;
/// Share of a callee's failures that outlast every attempt of a retry. An assumption, on the safe side: most failed
/// requests fall into episodes of minutes, which no attempt within one request outlives.
pub const PERSISTENT_SHARE_PRIOR: f64 = 0.8;

/// One requirement of a caller: at least `required_count` of the members work, or else the effect.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Who is needed, in lexical order; one, unless they back each other up.
    pub members: Vec<NodeIndex>,
    /// How many must work; below the number of members where there is more than one.
    pub required_count: u32,
    /// What the failure does to a request.
    pub effect: EdgeEffect,
}

impl Need {
    /// Whether the failure fails every request of the caller.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.effect.impact_ratio >= 1.0
    }

    /// Whether the failure can fail a request at all.
    #[must_use]
    pub fn matters(&self) -> bool {
        self.effect.impact_ratio > 0.0
    }

    /// The member that every request needs, where nothing stands in for it: no other one, fallback or retry.
    fn sole_member(&self) -> Option<NodeIndex> {
        match self.members[..] {
            [member] if self.is_certain() && self.effect.retry_count == 0 => Some(member),
            _ => None,
        }
    }
}

/// The requirements of every caller on the request path; asynchronous edges are none. Copies share what is equal.
#[derive(Debug, Clone, PartialEq)]
pub struct Needs(Vec<Arc<[Need]>>);

impl Needs {
    /// Reads edges, sorted by caller; `request_path` links those that are on it. A group that needs all its members is as many
    /// single requirements, each with its own effect; one with members to spare takes the greatest impact and the fewest
    /// retries of its edges. Of a system that needs some members in every request, only its entry points count among them: those
    /// that no other of them calls, and where they call each other in a ring that no other one calls into, all of the ring.
    #[must_use]
    pub fn of(nodes: &[Node], edges: &[Edge], request_path: &Links) -> Self {
        let nothing: Arc<[Need]> = Arc::new([]);
        let mut needs = vec![nothing; nodes.len()];
        for edges in edges.chunk_by(|a, b| a.caller == b.caller) {
            let caller = edges[0].caller as usize;
            needs[caller] = of_node(&nodes[caller], edges, |member| request_path.callees(member));
        }
        Self(needs)
    }

    /// The same but for what one caller needs, read from all of its edges; `callees` tells whom a node calls on the request
    /// path. Whether it needs anything else than before; where not, nothing is copied.
    pub(crate) fn replace<'a>(
        self: &mut Arc<Self>,
        caller: NodeIndex,
        node: &Node,
        edges: &[Edge],
        callees: impl Fn(NodeIndex) -> &'a [NodeIndex],
    ) -> bool {
        let needs = of_node(node, edges, callees);
        let differs = self.0[caller as usize] != needs;
        if differs {
            Arc::make_mut(self).0[caller as usize] = needs;
        }
        differs
    }

    /// What one caller needs.
    #[must_use]
    pub fn of_caller(&self, caller: NodeIndex) -> &[Need] {
        &self.0[caller as usize]
    }

    /// Number of callers, whether they need anything or not.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.0.len()
    }
}

/// What a node with these edges needs.
fn of_node<'a>(node: &Node, edges: &[Edge], callees: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Arc<[Need]> {
    let mut needs = of_edges(edges);
    if node.kind == EntityKind::System {
        let mut members: Vec<NodeIndex> = needs.iter().filter_map(Need::sole_member).collect();
        members.sort_unstable();
        let entry = entry_points(&members, callees);
        needs.retain(|need| need.sole_member().is_none_or(|member| entry.binary_search(&member).is_ok()));
    }
    needs.into()
}

/// Those of the members, in lexical order, that no other one calls, or only members of a ring that it is in itself.
fn entry_points<'a>(members: &[NodeIndex], callees: impl Fn(NodeIndex) -> &'a [NodeIndex]) -> Vec<NodeIndex> {
    let mut calls = Vec::new();
    for (caller, &member) in (0..).zip(members) {
        let called = callees(member).iter().filter_map(|callee| members.binary_search(callee).ok());
        calls.extend(called.map(|callee| (caller, callee as NodeIndex, 0)));
    }
    let calls = Links::new(members.len(), &calls);
    let mut entry = Vec::new();
    for ring in strongly_connected(&calls) {
        let outside = |caller: &NodeIndex| ring.binary_search(caller).is_err();
        let from_outside = |&member: &NodeIndex| calls.callers(member).iter().any(outside);
        if !ring.iter().any(from_outside) {
            entry.extend(ring.iter().map(|&member| members[member as usize]));
        }
    }
    entry.sort_unstable();
    entry
}

/// What a caller of these edges needs.
fn of_edges(edges: &[Edge]) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut groups: BTreeMap<&str, Vec<&Edge>> = BTreeMap::new();
    for edge in edges.iter().filter(|edge| edge.terms.on_request_path()) {
        match &edge.terms.group {
            Some(group) => groups.entry(group).or_default().push(edge),
            None => needs.push(single(edge)),
        }
    }
    for members in groups.into_values() {
        let required_count = required_count(members.iter().map(|edge| &*edge.terms)).clamp(1, members.len() as u32);
        if required_count == members.len() as u32 {
            needs.extend(members.into_iter().map(single));
        } else {
            needs.push(redundant(&members, required_count));
        }
    }
    needs
}

/// How many members of a group must work, as its edges say: the most that any of them asks for, 1 where none does.
pub(crate) fn required_count<'a>(group: impl Iterator<Item = &'a Terms>) -> u32 {
    group.filter_map(|terms| terms.group_required_count).max().unwrap_or(1)
}

/// Share of failed calls that the fallback of a soft edge saves: as declared, else as observed, else the prior.
#[must_use]
pub fn fallback_success_ratio(terms: &Terms) -> f64 {
    terms.fallback_success_ratio.or_else(|| observed_fallback_ratio(terms)).unwrap_or(FALLBACK_SUCCESS_PRIOR)
}

/// Share of failed calls whose parent succeeded, where both were counted and enough failures were seen. Whoever counts
/// failures alone does not know what became of them.
#[must_use]
pub fn observed_fallback_ratio(terms: &Terms) -> Option<f64> {
    let (failures, rescued) = (terms.observed_failure_count?, terms.observed_rescued_count?);
    (failures >= FALLBACK_FAILURES_MIN).then(|| (rescued as f64 / failures as f64).min(1.0))
}

/// Calls for each request of the caller; one where nobody says.
pub(crate) fn calls_per_request(terms: &Terms) -> f64 {
    terms.call_rate.or(terms.call_fraction).unwrap_or(1.0)
}

/// Share of the caller's requests that call the callee. Where only the rate is known it is a bound from above; where
/// nothing is, every request is taken to call.
pub(crate) fn call_fraction(terms: &Terms) -> f64 {
    terms.call_fraction.or(terms.call_rate).map_or(1.0, |fraction| fraction.clamp(0.0, 1.0))
}

/// Probability that a failure of the callee fails a request of the caller, without any retry.
pub(crate) fn passes_on(terms: &Terms) -> f64 {
    let escaping = match terms.mode {
        DependencyMode::Soft => 1.0 - fallback_success_ratio(terms),
        DependencyMode::Hard => 1.0,
        DependencyMode::Async => 0.0,
    };
    call_fraction(terms) * escaping
}

fn single(edge: &Edge) -> Need {
    let terms = &edge.terms;
    Need {
        members: vec![edge.callee],
        required_count: 1,
        effect: EdgeEffect {
            impact_ratio: passes_on(terms),
            retry_count: terms.retry_count,
            persistent_share: PERSISTENT_SHARE_PRIOR,
        },
    }
}

fn redundant(edges: &[&Edge], required_count: u32) -> Need {
    let singles: Vec<Need> = edges.iter().map(|edge| single(edge)).collect();
    let impact = singles.iter().map(|need| need.effect.impact_ratio).fold(0.0, f64::max);
    let retries = singles.iter().map(|need| need.effect.retry_count).min();
    Need {
        members: edges.iter().map(|edge| edge.callee).collect(),
        required_count,
        effect: EdgeEffect {
            impact_ratio: impact,
            retry_count: retries.unwrap_or_default(),
            persistent_share: PERSISTENT_SHARE_PRIOR,
        },
    }
}
