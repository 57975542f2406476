//! Changes with every name resolved.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{DependencyMode, InvalidValue};

use super::pace::Pace;
use crate::domain::links::NodeIndex;
use crate::domain::needs::{call_fraction, calls_per_request};
use crate::domain::scenario::{Amendment, Complaints, Place, SaidTerms, known};
use crate::domain::snapshot::{Snapshot, Terms};

/// Most calls of one callee in a request that are told apart.
const CALLS_OF_ONE_MAX: f64 = 10.0;

/// One change, by names. Changes of availability mean nothing for latency.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A component takes so many times as long, as its callers see it; a positive number.
    Times {
        /// The component.
        entity_id: String,
        /// Above 0.
        factor: f64,
    },
    /// A component takes so much longer, as its callers see it.
    Plus {
        /// The component.
        entity_id: String,
        /// Finite; below 0 it gets faster.
        added_ms: f64,
    },
    /// Something answers nothing any more.
    Outage(Place),
    /// An edge is added, or what is said replaces what it has.
    Set(Box<Amendment>),
    /// An edge is removed.
    Remove {
        /// Who calls.
        caller_id: String,
        /// Who is called.
        callee_id: String,
    },
    /// Nothing that has to do with latency.
    Other,
}

/// How a request waits for calls of one callee.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wait {
    /// Share of requests that call, in `(0, 1]`.
    pub(crate) fraction: f64,
    /// Calls, one after the other, of a request that does.
    pub(crate) count: u32,
    pub(super) timeout_ms: Option<f64>,
    pub(super) attempts: u32,
}

impl Wait {
    /// `None` where no request waits.
    pub(crate) fn of(terms: &Terms) -> Option<Self> {
        let (fraction, rate) = (call_fraction(terms), calls_per_request(terms));
        (terms.on_request_path() && fraction > 0.0).then(|| Self {
            fraction,
            count: (rate / fraction).round().clamp(1.0, CALLS_OF_ONE_MAX) as u32,
            timeout_ms: terms.timeout_ms.map(f64::from),
            attempts: terms.retry_count + 1,
        })
    }
}

/// An edge before and after the changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Altered {
    pub(super) before: Option<Wait>,
    pub(super) after: Option<Wait>,
    /// Whether the timeout is one that the changes bring.
    pub(super) timeout_set: bool,
    /// Whether the edge is there after the changes so far, waited for or not.
    exists: bool,
}

/// All changes together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alterations {
    pub(super) paces: BTreeMap<NodeIndex, Pace>,
    pub(super) down: BTreeSet<NodeIndex>,
    pub(super) edges: BTreeMap<(NodeIndex, NodeIndex), Altered>,
}

impl Alterations {
    /// Resolves names; changes apply one after the other.
    ///
    /// # Errors
    /// Names every change that speaks of what the snapshot does not hold, as a path below the request.
    pub fn resolve(snapshot: &Snapshot, changes: &[Change]) -> Result<Self, Vec<InvalidValue>> {
        let mut complaints = Complaints::default();
        let mut alterations = Self::default();
        for (index, change) in changes.iter().enumerate() {
            if let Err(invalid) = alterations.apply(snapshot, change) {
                complaints.add(invalid.within(&format!("changes/{index}")));
            }
        }
        complaints.none_or(alterations)
    }

    /// Components that take longer or shorter of themselves, those that are down, and callers of edges that differ; in lexical
    /// order.
    #[must_use]
    pub fn changed(&self) -> Vec<NodeIndex> {
        let callers = self.edges.keys().map(|(caller, _)| caller);
        let changed: BTreeSet<NodeIndex> = self.paces.keys().chain(&self.down).chain(callers).copied().collect();
        changed.into_iter().collect()
    }

    /// Calls that no edge of the snapshot knows: caller and callee.
    pub(super) fn added(&self) -> impl Iterator<Item = (NodeIndex, NodeIndex)> {
        let added = self.edges.iter().filter(|(_, altered)| altered.before.is_none() && altered.after.is_some());
        added.map(|(ends, _)| *ends)
    }

    fn apply(&mut self, snapshot: &Snapshot, change: &Change) -> Result<(), InvalidValue> {
        match change {
            Change::Times { entity_id, factor } => {
                let node = known(snapshot, "latency/entity_id", entity_id)?;
                let pace = self.paces.entry(node).or_insert(Pace::SAME);
                *pace = pace.times(*factor);
            }
            Change::Plus { entity_id, added_ms } => {
                let node = known(snapshot, "latency/entity_id", entity_id)?;
                let pace = self.paces.entry(node).or_insert(Pace::SAME);
                *pace = pace.plus_ms(*added_ms);
            }
            Change::Outage(Place::Entity(id)) => {
                self.down.extend(snapshot.down_with([known(snapshot, "outage/entity_id", id)?]));
            }
            Change::Outage(Place::Region(region)) => {
                let struck: Vec<NodeIndex> = snapshot.in_region(region).collect();
                if struck.is_empty() {
                    let reason = "nothing in the graph is said to run there";
                    return Err(InvalidValue::new("outage/region", "unknown_region", reason));
                }
                self.down.extend(snapshot.down_with(struck));
            }
            Change::Set(edge) => {
                let caller = known(snapshot, "set_dependency/caller_id", edge.caller.as_str())?;
                let callee = known(snapshot, "set_dependency/callee_id", edge.callee.as_str())?;
                self.edge(snapshot, caller, callee).set(&edge.said);
            }
            Change::Remove { caller_id, callee_id } => {
                let caller = known(snapshot, "remove_dependency/caller_id", caller_id)?;
                let callee = known(snapshot, "remove_dependency/callee_id", callee_id)?;
                let edge = self.edge(snapshot, caller, callee);
                (edge.after, edge.exists) = (None, false);
            }
            Change::Other => {}
        }
        Ok(())
    }

    fn edge(&mut self, snapshot: &Snapshot, caller: NodeIndex, callee: NodeIndex) -> &mut Altered {
        self.edges.entry((caller, callee)).or_insert_with(|| {
            let edge = snapshot.edge_between(caller, callee).map(|edge| snapshot.edge(edge));
            let before = edge.and_then(|edge| Wait::of(&edge.terms));
            Altered { before, after: before, timeout_set: false, exists: edge.is_some() }
        })
    }
}

impl Altered {
    /// An edge that the changes leave alone.
    pub(super) fn unaltered(wait: Option<Wait>) -> Self {
        Self { before: wait, after: wait, timeout_set: false, exists: true }
    }

    fn set(&mut self, said: &SaidTerms) {
        let of_new = Wait { fraction: 1.0, count: 1, timeout_ms: None, attempts: 1 };
        let was = self.after.or(self.before).filter(|_| self.exists).unwrap_or(of_new);
        let waits = said.mode.map_or(!self.exists || self.after.is_some(), |mode| mode != DependencyMode::Async);
        let fraction = said.call_fraction.unwrap_or(was.fraction);
        self.after = (waits && fraction > 0.0).then(|| Wait {
            fraction,
            count: was.count,
            timeout_ms: said.timeout_ms.map(f64::from).or(was.timeout_ms),
            attempts: said.retry_count.map_or(was.attempts, |count| count + 1),
        });
        self.exists = true;
        self.timeout_set |= said.timeout_ms.is_some();
    }
}
