//! One trace joined: which requests each service answered, which calls they made, and who failed because of whom.
//!
//! - A *request* is a SERVER or CONSUMER span; one directly under another of the same kind and service is a layer of the
//!   same request.
//! - A *call* is a CLIENT or PRODUCER span that a request answers; or, where none does, the innermost of several that wrap
//!   each other; or a request whose parent belongs to another service and is no call itself.
//! - A consumer that links to spans which sent its messages, in this trace or another one, was called by their services;
//!   where no sender is known, by the queue that it names.
//! - A call belongs to the request that it was made under, through whatever lies between within the service, and counts at
//!   least as often as that request stands for.
//! - A call *retries* another one of the same parent, callee and operation that failed before it began, or where the sender
//!   says so. A failed call whose retry succeeded was *rescued*, and so was one under a good request.
//! - A failed request with a failed call that no retry saved is *inherited*, charged to the failed call that ended last;
//!   without one it is *own* (method of the product, section 2).
//!
//! The result does not depend on the order in which spans arrived. The time is that of sorting the spans, whatever their
//! shape: senders choose it.

use attain_vocabulary::EntityKind;

use super::effort;
use super::names::{Names, Symbol};
use super::recent::Producers;
use super::sampler::rank;
use super::span::{Span, SpanKind};
use super::tree::{Place, Tree};

/// Traces of one tenant, joined.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Joined {
    pub(super) requests: Vec<Request>,
    pub(super) calls: Vec<Call>,
    /// Whom the requests called, those of each together.
    pub(super) callees: Vec<Callee>,
}

/// A request that a service answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Request {
    pub(super) service: Symbol,
    pub(super) operation: Symbol,
    /// Where it was answered.
    pub(super) region: Symbol,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    /// How many requests it stands for.
    pub(super) weight: u32,
    pub(super) outcome: Outcome,
    /// From and to which place in the list of callees; each at least once.
    pub(super) callees: (u32, u32),
    /// From and to which place in the list of calls: those that it made.
    pub(super) calls: (u32, u32),
    /// What decides whether it is kept as a sample; `None` where it is not, since it stands for none or not all of its trace
    /// is there.
    pub(super) rank: Option<u64>,
}

/// Whom a request called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Callee {
    pub(super) id: Symbol,
    /// Nobody answered, and the name is that of a host: whoever is known to answer there was meant.
    pub(super) by_host: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    OwnFailure,
    /// By whom; `None` where the caller's side did not tell whom it called.
    InheritedFailure(Option<Callee>),
}

/// A call from one node to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Call {
    pub(super) caller: Symbol,
    pub(super) callee: Symbol,
    pub(super) operation: Symbol,
    /// What the callee looks like where it did not answer with a span of its own.
    pub(super) leaf: Option<EntityKind>,
    /// The host that the caller named, where it is a name.
    pub(super) host: Symbol,
    pub(super) start_ns: u64,
    /// How long the caller waited; `None` where it did not wait.
    pub(super) duration_ns: Option<u64>,
    /// How many calls it stands for.
    pub(super) weight: u32,
    pub(super) failed: bool,
    /// Failed, and a retry or the request above it succeeded.
    pub(super) rescued: bool,
    /// A further attempt after a failed one.
    pub(super) retry: bool,
    /// The caller is a queue.
    pub(super) from_queue: bool,
    /// Seen from the answer alone: its times are those of the callee's clock.
    pub(super) by_callee_clock: bool,
    /// `None` where nothing tells.
    pub(super) asynchronous: Option<bool>,
    pub(super) protocol: Symbol,
}

/// What a trace does not tell itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    pub(super) names: &'a Names,
    pub(super) producers: &'a Producers,
    /// Other spans of the trace were settled before, or are settled apart: what a request called may be among them.
    pub(super) is_part: bool,
}

/// Joins traces; keeps its lists from one to the next.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    tree: Tree,
    made: Vec<Made>,
    answers: Vec<Place>,
    sent: Vec<u64>,
}

/// A call, perhaps to nobody known.
#[derive(Debug, Clone, Copy)]
struct Made {
    call: Call,
    end_ns: u64,
    /// The request that made it.
    owner: Option<Place>,
    parent: Option<Place>,
}

impl Joiner {
    /// Joins the spans of one trace and adds what it shows. `links` holds span ids of consumers with the fingerprints of the
    /// spans that sent what they consumed.
    pub(super) fn join(
        &mut self,
        spans: &mut [Span],
        links: &mut [(u64, u64)],
        surroundings: Surroundings<'_>,
        joined: &mut Joined,
    ) {
        spans.sort_unstable_by_key(|span| (span.span_id, span.start_ns));
        links.sort_unstable();
        self.tree.plant(spans);
        self.made.clear();
        let (made, answers, sent) = (&mut self.made, &mut self.answers, &mut self.sent);
        Maker { spans, tree: &self.tree, links, surroundings, made, answers, sent }.make_calls();
        self.find_retries();
        // By their requests, so that those of one stand together; of equal ones the order does not matter.
        self.made.sort_unstable_by_key(|made| made.owner);
        let mut rest = self.made.as_mut_slice();
        let ownerless = rest.partition_point(|made| made.owner.is_none());
        joined.calls.extend(to_somebody(&rest[..ownerless]));
        rest = &mut rest[ownerless..];
        for (place, span) in spans.iter().enumerate().filter(|(place, _)| self.tree.counts_as_request(spans, *place)) {
            let before = rest.partition_point(|made| made.owner < Some(place));
            let of_request = rest.partition_point(|made| made.owner <= Some(place));
            request(span, &mut rest[before..of_request], surroundings, joined);
            rest = &mut rest[of_request..];
        }
    }

    /// Attempts of the same call stand together once sorted.
    fn find_retries(&mut self) {
        if self.made.iter().all(|made| !made.call.failed) {
            return;
        }
        self.made.sort_unstable_by_key(|made| {
            let call = &made.call;
            (made.parent, call.caller, call.callee, call.operation, call.start_ns, made.end_ns)
        });
        let same = |a: &Made, b: &Made| {
            let key = |made: &Made| (made.parent, made.call.caller, made.call.callee, made.call.operation);
            key(a) == key(b) && a.parent.is_some()
        };
        self.made.chunk_by_mut(same).filter(|attempts| attempts.len() > 1).for_each(mark_retries);
    }
}

/// Attempts in the order of their start.
fn mark_retries(attempts: &mut [Made]) {
    let mut failed_by_ns: Option<u64> = None;
    for made in attempts.iter_mut() {
        made.call.retry |= failed_by_ns.is_some_and(|end_ns| end_ns <= made.call.start_ns);
        if made.call.failed {
            failed_by_ns = Some(failed_by_ns.map_or(made.end_ns, |end_ns| end_ns.min(made.end_ns)));
        }
    }
    let mut succeeds_from_ns = None;
    for made in attempts.iter_mut().rev() {
        if made.call.failed {
            made.call.rescued = succeeds_from_ns.is_some_and(|start_ns| made.end_ns <= start_ns);
        } else if made.call.retry {
            succeeds_from_ns = succeeds_from_ns.max(Some(made.call.start_ns));
        }
    }
}

/// A request with its calls: adds both, and tells its calls what became of it.
fn request(span: &Span, made: &mut [Made], surroundings: Surroundings<'_>, joined: &mut Joined) {
    let name = |made: &Made| surroundings.names.text(made.call.callee);
    let unsaved = made.iter().filter(|made| made.call.failed && !made.call.rescued);
    let last_failed = unsaved.max_by_key(|made| (made.end_ns, name(made), !made.by_host()));
    let outcome = match (span.failed, last_failed) {
        (false, _) => Outcome::Good,
        (true, None) => Outcome::OwnFailure,
        (true, Some(made)) => Outcome::InheritedFailure(made.called()),
    };
    let first = joined.callees.len();
    for made in &mut *made {
        made.call.rescued |= made.call.failed && !span.failed;
        made.call.weight = made.call.weight.max(span.weight);
        joined.callees.extend(made.called());
    }
    distinct_from(first, &mut joined.callees);
    let first_call = joined.calls.len();
    joined.calls.extend(to_somebody(made));
    joined.requests.push(Request {
        service: span.service,
        operation: span.operation,
        region: span.region,
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        weight: span.weight,
        outcome,
        callees: (first as u32, joined.callees.len() as u32),
        calls: (first_call as u32, joined.calls.len() as u32),
        rank: if surroundings.is_part { None } else { rank(span) },
    });
}

/// Calls whose other side is known.
fn to_somebody(made: &[Made]) -> impl Iterator<Item = Call> {
    made.iter().filter(|made| !made.call.callee.is_none()).map(|made| made.call)
}

/// Leaves each callee from a place on once.
fn distinct_from(first: usize, callees: &mut Vec<Callee>) {
    callees[first..].sort_unstable();
    let mut kept = first;
    for place in first..callees.len() {
        if place == first || callees[place] != callees[kept - 1] {
            callees[kept] = callees[place];
            kept += 1;
        }
    }
    callees.truncate(kept);
}

impl Made {
    fn by_host(&self) -> bool {
        self.call.leaf.is_some() && !self.call.host.is_none() && self.call.host == self.call.callee
    }

    fn called(&self) -> Option<Callee> {
        (!self.call.callee.is_none()).then(|| Callee { id: self.call.callee, by_host: self.by_host() })
    }
}

/// Finds the calls of one trace.
struct Maker<'a> {
    spans: &'a [Span],
    tree: &'a Tree,
    /// In their order.
    links: &'a [(u64, u64)],
    surroundings: Surroundings<'a>,
    made: &'a mut Vec<Made>,
    /// Those of one span, and of one consumer: kept from one to the next.
    answers: &'a mut Vec<Place>,
    sent: &'a mut Vec<u64>,
}

impl Maker<'_> {
    /// Every call with the request that made it.
    fn make_calls(&mut self) {
        for (place, span) in self.spans.iter().enumerate() {
            if span.kind.is_call() {
                if self.tree.is_answered(place) {
                    self.answered(place);
                } else if self.is_innermost(place) {
                    self.unanswered(place);
                }
            }
            if span.kind.is_request() {
                self.call_without_span(place);
            }
            if span.kind == SpanKind::Consumer && self.tree.counts_as_request(self.spans, place) {
                self.consumed(place);
            }
        }
    }

    fn is_innermost(&self, place: usize) -> bool {
        !self.tree.calls_below(place)
            && !self.tree.wrappers(self.spans, place).any(|wrapper| self.tree.is_answered(wrapper))
    }

    /// One call for each other service that answered, by its first answer.
    fn answered(&mut self, place: usize) {
        let span = &self.spans[place];
        self.find_first_answers(place);
        for answer in self.answers.iter().map(|answer| &self.spans[*answer]) {
            let asynchronous = answer.kind == SpanKind::Consumer;
            let host = self.peer(place).filter(|(_, kind)| is_host(*kind)).map_or(Symbol::NONE, |(id, _)| id);
            let mut made = self.made(place);
            made.call = Call {
                callee: answer.service,
                operation: if answer.operation.is_none() { span.operation } else { answer.operation },
                host,
                duration_ns: made.call.duration_ns.filter(|_| !asynchronous),
                // A consumer fails on its own time: the caller is done when the message is out.
                failed: span.failed || (!asynchronous && answer.failed),
                asynchronous: Some(asynchronous),
                protocol: if span.protocol.is_none() { answer.protocol } else { span.protocol },
                ..made.call
            };
            self.made.push(made);
        }
    }

    /// Of each other service that answered the first answer.
    fn find_first_answers(&mut self, place: usize) {
        let service = |answer: &Place| self.spans[*answer].service;
        self.answers.clear();
        self.answers.extend(self.tree.answers(self.spans, place).filter(|answer| service(answer) != service(&place)));
        let order = |answer: &Place| (self.spans[*answer].start_ns, self.spans[*answer].span_id);
        self.answers.sort_unstable_by_key(|answer| (service(answer), order(answer)));
        self.answers.dedup_by_key(|answer| service(answer));
    }

    fn unanswered(&mut self, place: usize) {
        let peer = self.peer(place);
        let host = peer.filter(|(_, kind)| is_host(*kind));
        let mut made = self.made(place);
        made.call.callee = peer.map_or(Symbol::NONE, |(id, _)| id);
        made.call.leaf = peer.map(|(_, kind)| kind);
        made.call.host = host.map_or(Symbol::NONE, |(id, _)| id);
        // Who calls itself depends on nobody by it.
        if made.call.callee != made.call.caller {
            self.made.push(made);
        }
    }

    fn made(&self, place: usize) -> Made {
        let span = &self.spans[place];
        let call = Call {
            caller: span.service,
            callee: Symbol::NONE,
            operation: span.operation,
            leaf: None,
            host: Symbol::NONE,
            start_ns: span.start_ns,
            duration_ns: Some(span.duration_ns),
            weight: span.weight,
            failed: span.failed,
            rescued: false,
            retry: span.resent,
            from_queue: false,
            by_callee_clock: false,
            asynchronous: None,
            protocol: span.protocol,
        };
        Made {
            call,
            end_ns: span.start_ns.saturating_add(span.duration_ns),
            owner: self.tree.owner(place),
            parent: self.tree.parent(place),
        }
    }

    /// The peer of a call span. Where it is a bare host, a wrapper that knows the database or queue behind it knows better.
    fn peer(&self, place: usize) -> Option<(Symbol, EntityKind)> {
        let of = |place: usize| {
            let span = &self.spans[place];
            (!span.peer.is_none()).then_some((span.peer, span.peer_kind))
        };
        let mut best = of(place);
        if best.is_some_and(|(_, kind)| !is_host(kind)) {
            return best;
        }
        for wrapper in self.tree.wrappers(self.spans, place) {
            let wrapped = of(wrapper);
            let bare = best.is_none_or(|(_, kind)| is_host(kind));
            if bare && (best.is_none() || wrapped.is_some_and(|(_, kind)| !is_host(kind))) {
                best = wrapped;
            }
        }
        best
    }

    /// A request whose parent belongs to another service and made no call span: seen from the answer alone.
    fn call_without_span(&mut self, place: usize) {
        let span = &self.spans[place];
        let Some(parent) = self.tree.parent(place) else { return };
        let caller = &self.spans[parent];
        if caller.service == span.service || caller.kind.is_call() {
            return;
        }
        let asynchronous = span.kind == SpanKind::Consumer;
        let mut made = self.made(place);
        made.owner = self.tree.owner(parent);
        made.parent = Some(parent);
        made.call = Call {
            caller: caller.service,
            callee: span.service,
            duration_ns: made.call.duration_ns.filter(|_| !asynchronous),
            failed: span.failed && !asynchronous,
            by_callee_clock: true,
            asynchronous: Some(asynchronous),
            ..made.call
        };
        self.made.push(made);
    }

    /// A consumer whose sender is not above it in the trace: called by those it links to, or by its queue.
    fn consumed(&mut self, place: usize) {
        let span = &self.spans[place];
        let parent = self.tree.parent(place).map(|parent| &self.spans[parent]);
        if parent.is_some_and(|parent| parent.service != span.service) {
            return;
        }
        let mut sent = std::mem::take(self.sent);
        sent.clear();
        let layers = self.tree.layers(self.spans, place);
        layers.for_each(|layer| sent.extend(linked(self.links, self.spans[layer].span_id)));
        sent.sort_unstable();
        sent.dedup();
        let mut is_known = false;
        for sent in &sent {
            let sender = self.surroundings.producers.service(*sent).filter(|service| *service != span.service);
            sender.into_iter().for_each(|service| self.push_consumed(place, service, false));
            is_known |= sender.is_some();
        }
        *self.sent = sent;
        if !is_known && !span.peer.is_none() && span.peer != span.service {
            self.push_consumed(place, span.peer, true);
        }
    }

    fn push_consumed(&mut self, place: usize, caller: Symbol, from_queue: bool) {
        let mut made = self.made(place);
        (made.owner, made.parent) = (None, None);
        made.call = Call {
            caller,
            callee: self.spans[place].service,
            duration_ns: None,
            failed: false,
            asynchronous: Some(true),
            from_queue,
            retry: false,
            ..made.call
        };
        self.made.push(made);
    }
}

/// What a span links to.
fn linked(links: &[(u64, u64)], span_id: u64) -> impl Iterator<Item = u64> + '_ {
    let first = links.partition_point(|(from, _)| *from < span_id);
    let of_span = links[first..].iter().inspect(|_| effort::step()).take_while(move |(from, _)| *from == span_id);
    of_span.map(|(_, to)| *to)
}

fn is_host(kind: EntityKind) -> bool {
    kind == EntityKind::External
}
