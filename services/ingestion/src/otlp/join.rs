//! One trace joined: which requests each service answered, which calls they made, and who failed because of whom.
//!
//! - A *request* is a SERVER or CONSUMER span; one directly under another of the same kind and service is a layer of the
//!   same request.
//! - A *call* is a CLIENT or PRODUCER span that a request answers; or, where none does, the innermost of several that wrap
//!   each other; or a request whose parent belongs to another service and is no call itself.
//! - A call belongs to the request that it was made under, through whatever lies between within the service.
//! - A failed request with a failed call is *inherited*, charged to the failed call that ended last; without one it is
//!   *own*. A failed call under a good request was *rescued* (method of the product, section 2).
//!
//! The result does not depend on the order in which spans arrived.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use attain_vocabulary::{EntityId, EntityKind};

use super::span::{Peer, Span, SpanKind};

/// A trace of one sender, joined.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Joined {
    pub(super) requests: Vec<Request>,
    pub(super) calls: Vec<Call>,
}

/// A request that a service answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Request {
    pub(super) service: Arc<EntityId>,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) outcome: Outcome,
    /// Whom it called at least once.
    pub(super) callees: BTreeSet<Callee>,
}

/// Whom a request called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Callee {
    pub(super) id: EntityId,
    /// Nobody answered, and the name is that of a host: whoever is known to answer there was meant.
    pub(super) by_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    OwnFailure,
    /// By whom; `None` where the caller's side did not tell whom it called.
    InheritedFailure(Option<Callee>),
}

/// A call from one node to another.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) caller: Arc<EntityId>,
    pub(super) callee: EntityId,
    /// What the callee looks like where it did not answer with a span of its own.
    pub(super) leaf: Option<EntityKind>,
    /// The host that the caller named, where it is a name.
    pub(super) host: Option<EntityId>,
    pub(super) start_ns: u64,
    /// How long the caller waited; `None` where it did not wait.
    pub(super) duration_ns: Option<u64>,
    pub(super) failed: bool,
    /// Failed under a request that succeeded.
    pub(super) rescued: bool,
    /// `None` where nothing tells.
    pub(super) asynchronous: Option<bool>,
    pub(super) protocol: Option<Arc<str>>,
}

/// Joins the spans of one trace.
pub(super) fn join(mut spans: Vec<Span>) -> Joined {
    spans.sort_by_key(|span| (span.span_id, span.start_ns));
    let tree = Tree::new(&spans);
    let mut calls = tree.calls();
    let mut by_owner: HashMap<usize, Vec<usize>> = HashMap::new();
    for (number, (owner, _)) in calls.iter().enumerate() {
        if let Some(owner) = owner {
            by_owner.entry(*owner).or_default().push(number);
        }
    }
    let mut requests = Vec::new();
    for index in (0..spans.len()).filter(|index| tree.counts_as_request(*index)) {
        let own_calls = by_owner.remove(&index).unwrap_or_default();
        let made: Vec<&MadeCall> = own_calls.iter().map(|number| &calls[*number].1).collect();
        let failed = spans[index].failed;
        requests.push(request(&spans[index], &made));
        for number in own_calls {
            calls[number].1.rescued = calls[number].1.failed && !failed;
        }
    }
    let calls = calls.into_iter().filter_map(|(_, call)| call.into_call()).collect();
    Joined { requests, calls }
}

fn request(span: &Span, made: &[&MadeCall]) -> Request {
    let last_failed = made.iter().filter(|call| call.failed).max_by_key(|call| (call.end_ns, call.callee.clone()));
    let outcome = match (span.failed, last_failed) {
        (false, _) => Outcome::Good,
        (true, None) => Outcome::OwnFailure,
        (true, Some(call)) => Outcome::InheritedFailure(call.called()),
    };
    let callees = made.iter().filter_map(|call| call.called()).collect();
    Request {
        service: Arc::clone(&span.service),
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        outcome,
        callees,
    }
}

/// A call, perhaps to nobody known.
struct MadeCall {
    caller: Arc<EntityId>,
    callee: Option<EntityId>,
    leaf: Option<EntityKind>,
    host: Option<EntityId>,
    start_ns: u64,
    end_ns: u64,
    waited: bool,
    failed: bool,
    rescued: bool,
    asynchronous: Option<bool>,
    protocol: Option<Arc<str>>,
}

impl MadeCall {
    fn called(&self) -> Option<Callee> {
        let by_host = self.leaf.is_some() && self.host == self.callee;
        self.callee.clone().map(|id| Callee { id, by_host })
    }

    fn into_call(self) -> Option<Call> {
        Some(Call {
            caller: self.caller,
            callee: self.callee?,
            leaf: self.leaf,
            host: self.host,
            start_ns: self.start_ns,
            duration_ns: self.waited.then(|| self.end_ns - self.start_ns),
            failed: self.failed,
            rescued: self.rescued,
            asynchronous: self.asynchronous,
            protocol: self.protocol,
        })
    }
}

/// Most call spans that wrap one another; nobody wraps more deeply.
const WRAPPERS_MAX: usize = 8;

struct Tree<'a> {
    spans: &'a [Span],
    /// Parents within the trace; never the span itself.
    parents: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// The counted request that each span belongs to.
    owners: Vec<Option<usize>>,
    /// Whether there is a call span below in the same service.
    calls_below: Vec<bool>,
}

impl<'a> Tree<'a> {
    fn new(spans: &'a [Span]) -> Self {
        let places: HashMap<u64, usize> = spans.iter().enumerate().map(|(index, span)| (span.span_id, index)).collect();
        let parent =
            |(index, span): (usize, &Span)| places.get(&span.parent_id).copied().filter(|parent| *parent != index);
        let parents: Vec<Option<usize>> = spans.iter().enumerate().map(parent).collect();
        let mut children = vec![Vec::new(); spans.len()];
        for (index, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                children[*parent].push(index);
            }
        }
        let mut tree = Self { spans, parents, children, owners: Vec::new(), calls_below: Vec::new() };
        tree.owners = tree.find_owners();
        tree.calls_below = tree.find_calls_below();
        tree
    }

    /// The parent, where it belongs to the same service.
    fn parent_within(&self, index: usize) -> Option<usize> {
        self.parents[index].filter(|parent| self.spans[*parent].service == self.spans[index].service)
    }

    fn counts_as_request(&self, index: usize) -> bool {
        let kind = self.spans[index].kind;
        kind.is_request() && self.parent_within(index).is_none_or(|parent| self.spans[parent].kind != kind)
    }

    /// Walks up from every span once; what was found for a span holds for all on the way to it.
    fn find_owners(&self) -> Vec<Option<usize>> {
        let mut owners: Vec<Option<Option<usize>>> = vec![None; self.spans.len()];
        for start in 0..self.spans.len() {
            let mut way = Vec::new();
            let mut at = start;
            let owner = loop {
                if let Some(known) = owners[at] {
                    break known;
                }
                if self.counts_as_request(at) {
                    owners[at] = Some(Some(at));
                    break Some(at);
                }
                // Marks the span as seen, so that parents in a circle end the walk.
                owners[at] = Some(None);
                way.push(at);
                match self.parent_within(at) {
                    Some(parent) => at = parent,
                    None => break None,
                }
            };
            way.into_iter().for_each(|index| owners[index] = Some(owner));
        }
        owners.into_iter().map(Option::flatten).collect()
    }

    /// Each span is marked once, so walks are short and circles end.
    fn find_calls_below(&self) -> Vec<bool> {
        let mut below = vec![false; self.spans.len()];
        for start in (0..self.spans.len()).filter(|index| self.spans[*index].kind.is_call()) {
            let mut at = start;
            while let Some(parent) = self.parent_within(at).filter(|parent| !self.spans[*parent].kind.is_request()) {
                if std::mem::replace(&mut below[parent], true) {
                    break;
                }
                at = parent;
            }
        }
        below
    }

    /// Call spans of the same service directly above, from below to above.
    fn wrappers(&self, index: usize) -> impl Iterator<Item = usize> {
        let above = |at: &usize| self.parent_within(*at).filter(|parent| self.spans[*parent].kind.is_call());
        std::iter::successors(above(&index), above).take(WRAPPERS_MAX)
    }

    fn answers(&self, index: usize) -> impl Iterator<Item = usize> {
        self.children[index].iter().copied().filter(|child| self.spans[*child].kind.is_request())
    }

    fn is_answered(&self, index: usize) -> bool {
        self.answers(index).next().is_some()
    }

    /// Every call with the request that made it.
    fn calls(&self) -> Vec<(Option<usize>, MadeCall)> {
        let mut calls = Vec::new();
        for (index, span) in self.spans.iter().enumerate() {
            if span.kind.is_call() {
                if self.is_answered(index) {
                    self.answered(index, &mut calls);
                } else if !self.calls_below[index] && !self.wrappers(index).any(|wrapper| self.is_answered(wrapper)) {
                    let call = self.unanswered(index);
                    // Who calls itself depends on nobody by it.
                    if call.callee.as_ref() != Some(&*span.service) {
                        calls.push((self.owners[index], call));
                    }
                }
            }
            if span.kind.is_request() {
                self.call_without_span(index, &mut calls);
            }
        }
        calls
    }

    /// One call for each other service that answered.
    fn answered(&self, index: usize, calls: &mut Vec<(Option<usize>, MadeCall)>) {
        let span = &self.spans[index];
        let mut answers: Vec<&Span> = self.answers(index).map(|answer| &self.spans[answer]).collect();
        answers.sort_by_key(|answer| (&answer.service, answer.start_ns, answer.span_id));
        answers.dedup_by_key(|answer| &answer.service);
        for answer in answers.into_iter().filter(|answer| answer.service != span.service) {
            let asynchronous = answer.kind == SpanKind::Consumer;
            let peer = self.peer(index).filter(|peer| is_host(peer));
            let call = MadeCall {
                callee: Some(EntityId::clone(&answer.service)),
                host: peer.map(|peer| peer.id.clone()),
                waited: !asynchronous,
                // A consumer fails on its own time: the caller is done when the message is out.
                failed: span.failed || (!asynchronous && answer.failed),
                asynchronous: Some(asynchronous),
                ..self.made(index, answer.protocol.as_ref())
            };
            calls.push((self.owners[index], call));
        }
    }

    fn unanswered(&self, index: usize) -> MadeCall {
        let peer = self.peer(index);
        MadeCall {
            callee: peer.map(|peer| peer.id.clone()),
            leaf: peer.map(|peer| peer.kind),
            host: peer.filter(|peer| is_host(peer)).map(|peer| peer.id.clone()),
            ..self.made(index, None)
        }
    }

    fn made(&self, index: usize, answered: Option<&Arc<str>>) -> MadeCall {
        let span = &self.spans[index];
        MadeCall {
            caller: Arc::clone(&span.service),
            callee: None,
            leaf: None,
            host: None,
            start_ns: span.start_ns,
            end_ns: span.start_ns.saturating_add(span.duration_ns),
            waited: true,
            failed: span.failed,
            rescued: false,
            asynchronous: None,
            protocol: span.protocol.as_ref().or(answered).cloned(),
        }
    }

    /// The peer of a call span. Where it is a bare host, a wrapper that knows the database or queue behind it knows better.
    fn peer(&self, index: usize) -> Option<&Peer> {
        let mut best = self.spans[index].peer.as_deref();
        for wrapper in self.wrappers(index) {
            let wrapped = self.spans[wrapper].peer.as_deref();
            if best.is_none_or(is_host) && (best.is_none() || wrapped.is_some_and(|peer| !is_host(peer))) {
                best = wrapped;
            }
        }
        best
    }

    /// A request whose parent belongs to another service and made no call span: seen from the answer alone.
    fn call_without_span(&self, index: usize, calls: &mut Vec<(Option<usize>, MadeCall)>) {
        let span = &self.spans[index];
        let Some(parent) = self.parents[index] else { return };
        let caller = &self.spans[parent];
        if caller.service == span.service || caller.kind.is_call() {
            return;
        }
        let asynchronous = span.kind == SpanKind::Consumer;
        let call = MadeCall {
            caller: Arc::clone(&caller.service),
            callee: Some(EntityId::clone(&span.service)),
            waited: !asynchronous,
            failed: span.failed && !asynchronous,
            asynchronous: Some(asynchronous),
            ..self.made(index, None)
        };
        calls.push((self.owners[parent], call));
    }
}

fn is_host(peer: &Peer) -> bool {
    peer.kind == EntityKind::External
}
