//! A question about availability with every name resolved: rates of the present state, and the state after changes, which
//! shares with it what did not change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use attain_vocabulary::{DependencyMode, EntityId, InvalidValue};

use super::links::NodeIndex;
use super::needs::Needs;
use super::snapshot::{Edge, Node, Snapshot, Terms};
use super::structure::Rate;

/// What is known of one component, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRate {
    /// The component.
    pub entity_id: String,
    /// How often it fails.
    pub rate: Rate,
}

/// One change, by names.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A component attains exactly this availability, its dependencies included.
    Attained {
        /// The component.
        entity_id: String,
        /// Availability in `[0, 1]`.
        availability_ratio: f64,
    },
    /// A component fails this share of requests of its own; of a black box, its dependencies included.
    OwnFailure {
        /// The component.
        entity_id: String,
        /// In `[0, 1]`.
        failure_ratio: f64,
    },
    /// Something fails every request.
    Outage(Place),
    /// An edge is added, or amended where it exists.
    Set(Box<Amendment>),
    /// An edge is removed.
    Remove {
        /// Who calls.
        caller_id: String,
        /// Who is called.
        callee_id: String,
    },
    /// A component gets slower or faster, which means nothing for availability.
    Pace {
        /// The component.
        entity_id: String,
    },
}

/// What a question says of an edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Amendment {
    /// Who calls.
    pub caller: EntityId,
    /// Who is called.
    pub callee: EntityId,
    /// How.
    pub said: SaidTerms,
}

/// Terms that are said; where there is nothing, what is known stays. Ratios are fractions in `[0, 1]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SaidTerms {
    /// What a failure of the callee does to the caller; of a new edge hard, where nobody says.
    pub mode: Option<DependencyMode>,
    /// Calls for each request of the caller, at least 0.
    pub call_rate: Option<f64>,
    /// Share of the caller's requests that call the callee.
    pub call_fraction: Option<f64>,
    /// Share of failed calls that a fallback saves.
    pub fallback_success_ratio: Option<f64>,
    /// Further attempts after a failed one.
    pub retry_count: Option<u32>,
    /// Milliseconds of one attempt, above 0.
    pub timeout_ms: Option<u32>,
    /// Name of the redundancy group.
    pub group: Option<String>,
    /// How many members of the group must work, at least 1.
    pub group_required_count: Option<u32>,
}

impl SaidTerms {
    /// What is said, in place of what is known of the edge; `None` where there is none.
    #[must_use]
    pub fn over(&self, known: Option<&Terms>) -> Terms {
        let known = known.cloned().unwrap_or_else(|| Terms::of_mode(DependencyMode::Hard));
        Terms {
            mode: self.mode.unwrap_or(known.mode),
            call_rate: self.call_rate.or(known.call_rate),
            call_fraction: self.call_fraction.or(known.call_fraction),
            fallback_success_ratio: self.fallback_success_ratio.or(known.fallback_success_ratio),
            retry_count: self.retry_count.unwrap_or(known.retry_count),
            timeout_ms: self.timeout_ms.or(known.timeout_ms),
            group: self.group.clone().or(known.group),
            group_required_count: self.group_required_count.or(known.group_required_count),
            ..known
        }
    }
}

/// What an outage strikes.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// One component, and whoever is [down with it](Snapshot::down_with).
    Entity(String),
    /// Everything that is said to run in a region, and the region itself where it is a node.
    Region(String),
}

/// Structure and rates at one moment.
#[derive(Debug, Clone)]
pub struct State {
    /// What each caller needs.
    pub needs: Arc<Needs>,
    /// By node.
    pub rates: Vec<Rate>,
    /// Whether a rate was given, by node; the others are taken as never failing.
    pub rated: Vec<bool>,
}

/// The present state and the one after the changes; black boxes as they are rated, see [`opened`](super::opened).
#[derive(Debug, Clone)]
pub struct Scenario {
    /// As the snapshot and the rates say.
    pub before: State,
    /// After all changes, in their order; none without changes.
    pub after: Option<State>,
    /// Components whose own equation differs, in lexical order.
    pub changed: Vec<NodeIndex>,
    /// Those among them whose rate the question sets.
    pub rate_set: BTreeSet<NodeIndex>,
    /// Components whose part in everybody's failures the changes are about: those whose rate is set, and of an edge the callee.
    pub contributing: BTreeSet<NodeIndex>,
}

const DOWN: Rate = Rate { failure_ratio: 1.0, includes_dependencies: true };
/// Most complaints about one request: enough to mend it, few enough to read.
const COMPLAINTS_MAX: usize = 20;

impl Scenario {
    /// Resolves names and applies the changes, one after the other.
    ///
    /// # Errors
    /// Names every rate and change that speaks of what the snapshot does not hold, as a path below the request.
    pub fn resolve(snapshot: &Snapshot, rates: &[NamedRate], changes: &[Change]) -> Result<Self, Vec<InvalidValue>> {
        let mut complaints = Complaints::default();
        let before = present(snapshot, rates, &mut complaints);
        let mut draft = Draft::of(snapshot, &before);
        for (index, change) in changes.iter().enumerate() {
            if let Err(invalid) = draft.apply(change) {
                complaints.add(invalid.within(&format!("changes/{index}")));
            }
        }
        complaints.none_or(())?;
        let contributing = draft.rate_set.union(&draft.called).copied().collect();
        let (after, mut changed, rate_set) = draft.finish();
        let moved = |node: &NodeIndex| before.needs.of_caller(*node) != after.needs.of_caller(*node);
        changed.extend(snapshot.systems_above(&changed).into_iter().filter(moved));
        let after = (!changes.is_empty()).then_some(after);
        Ok(Self { before, after, changed: changed.into_iter().collect(), rate_set, contributing })
    }
}

#[derive(Default)]
pub(crate) struct Complaints(Vec<InvalidValue>);

impl Complaints {
    pub(crate) fn add(&mut self, invalid: InvalidValue) {
        if self.0.len() < COMPLAINTS_MAX {
            self.0.push(invalid);
        }
    }

    pub(crate) fn none_or<T>(self, value: T) -> Result<T, Vec<InvalidValue>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// APIs and systems that have parts fail of their own by no means: that is known, not assumed.
fn present(snapshot: &Snapshot, named: &[NamedRate], complaints: &mut Complaints) -> State {
    let mut rates = vec![Rate::default(); snapshot.nodes().len()];
    let made_of_parts =
        |(node, of): (NodeIndex, &Node)| of.kind.is_composite() && !snapshot.needs().of_caller(node).is_empty();
    let by_parts: Vec<bool> = (0..).zip(snapshot.nodes()).map(made_of_parts).collect();
    let (mut rated, mut given) = (by_parts, vec![false; snapshot.nodes().len()]);
    for (index, NamedRate { entity_id, rate }) in named.iter().enumerate() {
        let field = format!("rates/{index}/entity_id");
        match known(snapshot, &field, entity_id) {
            Err(invalid) => complaints.add(invalid),
            Ok(node) if std::mem::replace(&mut given[node as usize], true) => {
                complaints.add(InvalidValue::new(field, "duplicate", format!("`{entity_id}` has a rate already")));
            }
            Ok(node) => {
                rates[node as usize] = *rate;
                rated[node as usize] = true;
            }
        }
    }
    State { needs: Arc::clone(snapshot.needs()), rates, rated }
}

pub(crate) fn known(snapshot: &Snapshot, field: &str, id: &str) -> Result<NodeIndex, InvalidValue> {
    snapshot
        .find(id)
        .ok_or_else(|| InvalidValue::new(field, "unknown_entity", format!("the graph holds nothing called `{id}`")))
}

/// The state while changes are applied.
struct Draft<'a> {
    snapshot: &'a Snapshot,
    /// Edges of the callers of which one changed, by callee.
    edges: BTreeMap<NodeIndex, BTreeMap<NodeIndex, Arc<Terms>>>,
    rates: Vec<Rate>,
    rated: Vec<bool>,
    changed: BTreeSet<NodeIndex>,
    rate_set: BTreeSet<NodeIndex>,
    /// Callees of the edges that changed.
    called: BTreeSet<NodeIndex>,
}

impl<'a> Draft<'a> {
    fn of(snapshot: &'a Snapshot, before: &State) -> Self {
        Self {
            snapshot,
            edges: BTreeMap::new(),
            rates: before.rates.clone(),
            rated: before.rated.clone(),
            changed: BTreeSet::new(),
            rate_set: BTreeSet::new(),
            called: BTreeSet::new(),
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), InvalidValue> {
        match change {
            Change::Attained { entity_id, availability_ratio } => {
                let node = known(self.snapshot, "attained_ratio/entity_id", entity_id)?;
                self.rate(node, Rate { failure_ratio: 1.0 - availability_ratio, includes_dependencies: true });
            }
            Change::OwnFailure { entity_id, failure_ratio } => {
                let node = known(self.snapshot, "own_failure/entity_id", entity_id)?;
                self.rate(node, Rate { failure_ratio: *failure_ratio, ..self.rates[node as usize] });
            }
            Change::Outage(Place::Entity(id)) => {
                let node = known(self.snapshot, "outage/entity_id", id)?;
                self.down([node]);
            }
            Change::Outage(Place::Region(region)) => {
                let struck: Vec<NodeIndex> = self.snapshot.in_region(region).collect();
                if struck.is_empty() {
                    let reason = "nothing in the graph is said to run there";
                    return Err(InvalidValue::new("outage/region", "unknown_region", reason));
                }
                self.down(struck);
            }
            Change::Set(amendment) => {
                let Amendment { caller, callee, said } = &**amendment;
                let caller = known(self.snapshot, "set_dependency/caller_id", caller.as_str())?;
                let callee = known(self.snapshot, "set_dependency/callee_id", callee.as_str())?;
                let edges = self.edges_of(caller);
                let terms = said.over(edges.get(&callee).map(Arc::as_ref));
                edges.insert(callee, Arc::new(terms));
                self.changed.insert(caller);
                self.called.insert(callee);
            }
            Change::Remove { caller_id, callee_id } => {
                let caller = known(self.snapshot, "remove_dependency/caller_id", caller_id)?;
                let callee = known(self.snapshot, "remove_dependency/callee_id", callee_id)?;
                if self.edges_of(caller).remove(&callee).is_none() {
                    let reason = format!("the graph holds no dependency of `{caller_id}` on `{callee_id}`");
                    return Err(InvalidValue::new("remove_dependency/callee_id", "unknown_dependency", reason));
                }
                self.changed.insert(caller);
                self.called.insert(callee);
            }
            Change::Pace { entity_id } => {
                known(self.snapshot, "latency/entity_id", entity_id)?;
            }
        }
        Ok(())
    }

    fn down(&mut self, struck: impl IntoIterator<Item = NodeIndex>) {
        self.snapshot.down_with(struck).into_iter().for_each(|node| self.rate(node, DOWN));
    }

    fn rate(&mut self, node: NodeIndex, rate: Rate) {
        self.rates[node as usize] = rate;
        self.rated[node as usize] = true;
        self.changed.insert(node);
        self.rate_set.insert(node);
    }

    fn edges_of(&mut self, caller: NodeIndex) -> &mut BTreeMap<NodeIndex, Arc<Terms>> {
        let present = present_edges(self.snapshot, caller);
        self.edges.entry(caller).or_insert_with(|| present.map(|edge| (edge.callee, edge.terms.clone())).collect())
    }

    /// The state after the changes, whose equation they change, and whose rate; systems above may differ as well.
    fn finish(self) -> (State, BTreeSet<NodeIndex>, BTreeSet<NodeIndex>) {
        let Self { snapshot, edges, rates, rated, changed, rate_set, .. } = self;
        let edges: BTreeMap<NodeIndex, Vec<Edge>> = edges
            .into_iter()
            .map(|(caller, edges)| {
                let edge = |(callee, terms)| Edge { caller, callee, terms };
                (caller, edges.into_iter().map(edge).collect())
            })
            .collect();
        let called: BTreeMap<NodeIndex, Vec<NodeIndex>> = edges
            .iter()
            .map(|(caller, edges)| {
                let waited_for = edges.iter().filter(|edge| edge.terms.on_request_path());
                (*caller, waited_for.map(|edge| edge.callee).collect())
            })
            .collect();
        let callees = |node: NodeIndex| match called.get(&node) {
            Some(callees) => callees.as_slice(),
            None => snapshot.request_path().callees(node),
        };
        let callers: BTreeSet<NodeIndex> = edges.keys().copied().collect();
        let mut needs = Arc::clone(snapshot.needs());
        for &caller in callers.union(&snapshot.systems_above(&callers)) {
            let present = || present_edges(snapshot, caller).cloned().collect();
            let of_caller = edges.get(&caller).cloned().unwrap_or_else(present);
            let node = &snapshot.nodes()[caller as usize];
            needs.replace(caller, node, &of_caller, callees);
        }
        (State { needs, rates, rated }, changed, rate_set)
    }
}

fn present_edges(snapshot: &Snapshot, caller: NodeIndex) -> impl Iterator<Item = &Edge> {
    snapshot.all().out_edges(caller).iter().map(|&edge| snapshot.edge(edge))
}
