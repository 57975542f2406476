//! A fleet whose laws are known.
//!
//! Every component fails of its own by a [`Law`]: a chronic level that changes now and then, and incidents. Components of one
//! [`Domain`] are also hit together. A request fails when the component fails, or when a call that it cannot do without does.
//! [`topology`](self) draws who calls whom, [`past`](self) a history of counts, [`future`](self) the windows that may follow.

mod future;
mod past;
mod topology;

pub use future::Origin;
pub use past::{Counts, Past};

use attain_vocabulary::{DependencyMode, EntityId, EntityKind, Tier};

use crate::process::{BUCKETS_PER_DAY, season};

/// Streams of random numbers of one seed, apart so that nothing repeats another thing's draws: the topology has stream 0.
const PAST_EVENTS: u64 = 1;
const FIRST_COUNTS: u64 = 1 << 32;
const FIRST_FUTURE: u64 = 1 << 48;

/// Components, calls and what hits several of them at once.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// By position.
    pub components: Vec<Component>,
    /// By caller, then callee; one a pair.
    pub calls: Vec<Call>,
    /// What strikes several at once.
    pub domains: Vec<Domain>,
    /// Callees before callers, as far as cycles allow.
    order: Vec<usize>,
    /// By component: the ways in which calls fail a request.
    needs: Vec<Vec<Need>>,
    cyclic: bool,
}

/// What part a component plays, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Takes traffic from outside.
    Entrance,
    /// Called by others.
    Service,
    /// Has few requests.
    LowTraffic,
    /// Keeps data, calls nobody.
    Datastore,
    /// Belongs to somebody else.
    External,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Entrance, Self::Service, Self::LowTraffic, Self::Datastore, Self::External];

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entrance => "entrance",
            Self::Service => "service",
            Self::LowTraffic => "low_traffic",
            Self::Datastore => "datastore",
            Self::External => "external",
        }
    }
}

/// What is seen of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// Its requests, and for each failed one which call failed.
    Traced,
    /// Its requests.
    Counted,
    /// Nothing.
    Nothing,
}

/// One component.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name.
    pub id: EntityId,
    /// What it is.
    pub kind: EntityKind,
    /// How much depends on it.
    pub tier: Tier,
    /// What part it plays.
    pub class: Class,
    /// What is seen of it.
    pub seen: Seen,
    /// Mean requests a second.
    pub requests_per_second: f64,
    /// What its contract promises, in (0, 1); for external parties.
    pub published_ratio: Option<f64>,
    /// Days that it has been there at the end of the past.
    pub age_days: u32,
    /// How it fails of its own.
    pub law: Law,
}

/// How a component fails of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// Share of requests that fails outside incidents at the beginning, at mean load.
    pub chronic_ratio: f64,
    /// Changes of that level a day; each multiplies it by a log-normal factor.
    pub changes_per_day: f64,
    /// Standard deviation of the logarithm of that factor.
    pub change_deviation: f64,
    /// Incidents a day.
    pub incidents_per_day: f64,
    /// Median length of an incident in minutes; log-normal with standard deviation 1, at most a day.
    pub minutes_median: f64,
    /// Share of incidents that fail every request; the others fail from 1 % to all, log-uniformly.
    pub outage_share: f64,
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Position of the caller.
    pub caller: usize,
    /// Position of the callee.
    pub callee: usize,
    /// What a failure of the callee does.
    pub mode: DependencyMode,
    /// Share of the caller's requests that make it, in (0, 1].
    pub call_fraction: f64,
    /// Share of failed calls that a fallback saves; for soft calls.
    pub fallback_success_ratio: Option<f64>,
    /// Whether it goes to one of several replicas of which one has to work.
    pub replicated: bool,
}

/// Components that are hit together: a zone, a cluster, a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    /// Positions.
    pub members: Vec<usize>,
    /// Incidents a day.
    pub incidents_per_day: f64,
    /// Probability that a member is hit by one of them.
    pub hit_probability: f64,
}

/// One way in which calls fail a request: any one call, or all of several replicas.
#[derive(Debug, Clone, PartialEq)]
struct Need {
    /// Share of requests that fail when all of the callees do.
    weight: f64,
    callees: Vec<usize>,
}

impl Fleet {
    fn new(components: Vec<Component>, mut calls: Vec<Call>, domains: Vec<Domain>) -> Self {
        calls.sort_by_key(|call| (call.caller, call.callee));
        calls.dedup_by_key(|call| (call.caller, call.callee));
        let mut needs: Vec<Vec<Need>> = vec![Vec::new(); components.len()];
        for by_caller in calls.chunk_by(|a, b| a.caller == b.caller) {
            let waits = by_caller.iter().filter(|call| call.mode != DependencyMode::Async);
            let (replicas, single): (Vec<&Call>, Vec<&Call>) = waits.partition(|call| call.replicated);
            let of = &mut needs[by_caller[0].caller];
            for call in single {
                let escaping = 1.0 - call.fallback_success_ratio.unwrap_or(0.0);
                of.push(Need { weight: call.call_fraction * escaping, callees: vec![call.callee] });
            }
            if let Some(first) = replicas.first() {
                let callees = replicas.iter().map(|call| call.callee).collect();
                of.push(Need { weight: first.call_fraction, callees });
            }
        }
        let (order, cyclic) = callees_first(&needs);
        Self { components, calls, domains, order, needs, cyclic }
    }

    /// Calls of a component.
    pub fn calls_of(&self, caller: usize) -> impl Iterator<Item = &Call> {
        let start = self.calls.partition_point(|call| call.caller < caller);
        self.calls[start..].iter().take_while(move |call| call.caller == caller)
    }

    /// Probability that a request of each component fails, given with which probability it fails of its own. Cycles are gone
    /// round until a failure has passed them three times, after which next to nothing of it is left.
    fn failing(&self, own: &[f64], failing: &mut Vec<f64>) {
        failing.clear();
        failing.extend_from_slice(own);
        for _ in 0..if self.cyclic { 3 } else { 1 } {
            for &at in &self.order {
                let needs = self.needs[at].iter();
                let working: f64 = needs.map(|need| 1.0 - need.failing(failing)).product();
                failing[at] = 1.0 - (1.0 - own[at]) * working;
            }
        }
    }
}

impl Need {
    fn failing(&self, failing: &[f64]) -> f64 {
        self.weight * self.callees.iter().map(|&callee| failing[callee]).product::<f64>()
    }
}

/// Depth first from each component; whether a cycle was met.
fn callees_first(needs: &[Vec<Need>]) -> (Vec<usize>, bool) {
    let callees: Vec<Vec<usize>> =
        needs.iter().map(|needs| needs.iter().flat_map(|need| need.callees.iter().copied()).collect()).collect();
    let (mut order, mut cyclic) = (Vec::with_capacity(needs.len()), false);
    let (mut seen, mut open) = (vec![false; needs.len()], vec![false; needs.len()]);
    for start in 0..needs.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut stack = vec![(start, 0)];
        open[start] = true;
        while let Some((at, next)) = stack.pop() {
            let Some(&callee) = callees[at].get(next) else {
                open[at] = false;
                order.push(at);
                continue;
            };
            stack.push((at, next + 1));
            cyclic |= open[callee];
            if !std::mem::replace(&mut seen[callee], true) {
                open[callee] = true;
                stack.push((callee, 0));
            }
        }
    }
    (order, cyclic)
}

/// How much more fails at this time of day and week than at mean load: errors grow with it.
fn load(bucket: usize) -> f64 {
    0.6 + 0.4 * season(bucket)
}

/// Buckets of so many days.
#[must_use]
pub fn buckets(days: u32) -> usize {
    days as usize * BUCKETS_PER_DAY
}
