//! Which requests are kept with the calls that they waited for: of each service and hour those of the least ranks.
//!
//! The rank of a request is a number drawn from the ids of its trace and its span, divided by how many requests it stands
//! for (bottom-k sampling, with weights by sequential Poisson sampling: Ohlsson, "Sequential Poisson sampling", Journal of
//! Official Statistics 14, 1998). A request that stands for ten is ten times as likely to be among the least, as long as it
//! is not certain to be; so every sample counts alike, whatever rates its senders sample at. How long a request took, when
//! its spans came and in which batches has no part in it, and whoever keeps the least of what was kept and of what came
//! keeps the least of all.
//!
//! Most requests are refused here, by the ranks that this process knows to be kept; storage decides on the others. What
//! this process forgot or never knew is asked there once more.

use attain_vocabulary::{EntityId, UnixMillis};

use super::hashing::NumberMap;
use super::hosts::Hosts;
use super::join::{Call, Joined, Outcome, Request};
use super::names::{Names, Symbol};
use super::recent::fingerprint;
use super::span::Span;
use crate::domain::{CALLS_PER_SAMPLE_MAX, RequestSample, SampledCall, hour_start};

/// Most services and hours whose ranks are remembered, of all tenants: about 200 bytes each where eight are kept.
const HOURS_MAX: usize = 100_000;
/// How much longer than its request a call may last that the request waited for, in nanoseconds: spans are not ended at the
/// same instant. As the composition of latencies has it (`docs/graph/latency.md`).
const OUTLIVED_NS_MAX: u64 = 1_000_000;

/// How many requests are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SampleLimits {
    /// Of a service and hour.
    pub(crate) per_hour: usize,
    /// For how long; older requests are not sampled.
    pub(crate) kept_ms: i64,
}

/// What decides whether a request is kept; `None` for one that stands for none.
pub(super) fn rank(span: &Span) -> Option<u64> {
    fingerprint(span.trace_id, span.span_id).checked_div(u64::from(span.weight))
}

/// An hour of a service: the tenant's salt, the service, and when the hour began.
type Hour = (u64, Symbol, UnixMillis);

/// The ranks that are kept of each service and hour, as far as this process kept them, in two generations.
#[derive(Debug)]
pub(super) struct Sampler {
    older: NumberMap<Hour, Vec<u64>>,
    newer: NumberMap<Hour, Vec<u64>>,
    hours_max: usize,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(HOURS_MAX)
    }
}

/// Requests of one settlement that may be among those kept.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// By service and hour the least ranks, ascending, with the places of the requests.
    hours: NumberMap<Hour, Vec<(u64, usize)>>,
}

impl Sampler {
    fn new(hours_max: usize) -> Self {
        Self { older: NumberMap::default(), newer: NumberMap::default(), hours_max }
    }

    /// Chooses among the requests of a tenant.
    pub(super) fn choose(&self, salt: u64, joined: &Joined, now_ms: UnixMillis, limits: SampleLimits) -> Chosen {
        let mut chosen = Chosen::default();
        let from_ms = hour_start(now_ms.saturating_sub(limits.kept_ms));
        for (place, request) in joined.requests.iter().enumerate() {
            let Some(rank) = request.rank else { continue };
            let hour_ms = hour_start((request.start_ns / 1_000_000) as i64);
            let hour = (salt, request.service, hour_ms);
            if hour_ms >= from_ms && self.admits(&hour, rank, limits.per_hour) {
                let least = chosen.hours.entry(hour).or_default();
                insert(least, (rank, place), |(rank, _)| *rank, limits.per_hour);
            }
        }
        chosen
    }

    fn admits(&self, hour: &Hour, rank: u64, max: usize) -> bool {
        let known = self.newer.get(hour).or_else(|| self.older.get(hour));
        let is_less = |known: &Vec<u64>| known.len() < max || known.last().is_some_and(|last| rank < *last);
        max > 0 && known.is_none_or(is_less)
    }

    /// What was chosen is durable.
    pub(super) fn note(&mut self, chosen: &Chosen, max: usize) {
        for (hour, ranks) in &chosen.hours {
            if !self.newer.contains_key(hour) {
                self.make_room();
                let known = self.older.remove(hour).unwrap_or_default();
                self.newer.insert(*hour, known);
            }
            let known = self.newer.entry(*hour).or_default();
            ranks.iter().for_each(|(rank, _)| insert(known, *rank, |rank| *rank, max));
        }
    }

    fn make_room(&mut self) {
        if self.newer.len() >= self.hours_max.div_ceil(2) {
            self.older = std::mem::take(&mut self.newer);
        }
    }

    /// The names in use.
    pub(super) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.newer.keys().chain(self.older.keys()).map(|(_, service, _)| *service)
    }
}

/// Inserts into a list that ascends by rank, of at most so many, each rank once.
fn insert<T>(least: &mut Vec<T>, new: T, rank: impl Fn(&T) -> u64, max: usize) {
    if let Err(place) = least.binary_search_by_key(&rank(&new), &rank)
        && place < max
    {
        least.insert(place, new);
        least.truncate(max);
    }
}

impl Chosen {
    /// The requests with their calls as storage takes them, by service and rank.
    pub(super) fn samples(&self, joined: &Joined, hosts: &Hosts, names: &Names) -> Vec<RequestSample> {
        let sampled = |(rank, place): &(u64, usize)| sample(joined.requests.get(*place)?, *rank, joined, hosts, names);
        let mut samples: Vec<RequestSample> = self.hours.values().flatten().filter_map(sampled).collect();
        samples.sort_by(|a, b| (&a.service, a.rank).cmp(&(&b.service, b.rank)));
        samples
    }
}

/// A call by its symbol: what is not listed in the end needs no name.
#[derive(Debug, Clone, Copy)]
struct Waited {
    callee: Symbol,
    offset_us: u64,
    duration_us: u64,
    failed: bool,
}

fn sample(request: &Request, rank: u64, joined: &Joined, hosts: &Hosts, names: &Names) -> Option<RequestSample> {
    let id = |symbol: Symbol| EntityId::new("id", names.text(symbol)).ok();
    let mut waited = waited_for(request, joined, hosts);
    let truncated = waited.len() > CALLS_PER_SAMPLE_MAX;
    if truncated {
        // The longest: what is left of the request is small.
        let order = |call: &Waited| (std::cmp::Reverse(call.duration_us), call.offset_us, names.text(call.callee));
        waited.sort_by(|a, b| (order(a), a.failed).cmp(&(order(b), b.failed)));
        waited.truncate(CALLS_PER_SAMPLE_MAX);
    }
    let order = |call: &Waited| (call.offset_us, call.duration_us, names.text(call.callee));
    waited.sort_by(|a, b| (order(a), a.failed).cmp(&(order(b), b.failed)));
    let named = |call: &Waited| {
        let Waited { callee, offset_us, duration_us, failed } = *call;
        Some(SampledCall { callee: id(callee)?, offset_us, duration_us, failed })
    };
    Some(RequestSample {
        service: id(request.service)?,
        rank,
        start_time_us: (request.start_ns / 1_000) as i64,
        duration_us: request.duration_ns / 1_000,
        failed: request.outcome != Outcome::Good,
        calls: waited.iter().filter_map(named).collect(),
        truncated,
    })
}

/// The calls to others that a request waited for, each within the time of the request.
fn waited_for(request: &Request, joined: &Joined, hosts: &Hosts) -> Vec<Waited> {
    let (first, end) = request.calls;
    let calls = joined.calls.get(first as usize..end as usize).unwrap_or_default();
    // Ends are rounded down like the request's own: a call that began when another one ended still does.
    let since_us = |time_ns: u64| time_ns.saturating_sub(request.start_ns) / 1_000;
    let waited = |call: &Call| {
        let mut call = *call;
        hosts.rename_in_call(&mut call);
        let (start_ns, end_ns) = within(request, &call).filter(|_| call.callee != request.service)?;
        let offset_us = since_us(start_ns);
        let duration_us = since_us(end_ns) - offset_us;
        Some(Waited { callee: call.callee, offset_us, duration_us, failed: call.failed })
    };
    calls.iter().filter_map(waited).collect()
}

/// From when to when within the request a call lasted; `None` where the request did not wait for it. By the caller's clock a
/// call that goes on after the request ended was not waited for. The callee's clock may be another one: such a call keeps its
/// length and is moved inside.
fn within(request: &Request, call: &Call) -> Option<(u64, u64)> {
    let duration_ns = call.duration_ns?;
    let (from_ns, until_ns) = (request.start_ns, request.start_ns.saturating_add(request.duration_ns));
    if call.by_callee_clock {
        let is_shorter = duration_ns <= request.duration_ns.saturating_add(OUTLIVED_NS_MAX);
        let duration_ns = duration_ns.min(request.duration_ns);
        let start_ns = call.start_ns.clamp(from_ns, until_ns - duration_ns);
        return is_shorter.then_some((start_ns, start_ns + duration_ns));
    }
    let end_ns = call.start_ns.saturating_add(duration_ns);
    let is_waited_for = call.start_ns <= until_ns && end_ns <= until_ns.saturating_add(OUTLIVED_NS_MAX);
    is_waited_for.then(|| (call.start_ns.max(from_ns), end_ns.clamp(from_ns, until_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: SampleLimits = SampleLimits { per_hour: 3, kept_ms: 3 * 3_600_000 };
    const NOW_MS: i64 = 1_793_000_000_000;

    /// Requests of one service, each of a rank, so many hours ago.
    fn requests(ranks: &[(u64, i64)]) -> Joined {
        let request = |(rank, hours): &(u64, i64)| Request {
            service: Names::default().intern("shop"),
            operation: Symbol::NONE,
            region: Symbol::NONE,
            start_ns: (NOW_MS - hours * 3_600_000) as u64 * 1_000_000,
            duration_ns: 1,
            weight: 1,
            outcome: Outcome::Good,
            callees: (0, 0),
            calls: (0, 0),
            rank: Some(*rank),
        };
        Joined { requests: ranks.iter().map(request).collect(), ..Joined::default() }
    }

    /// The ranks that are chosen, and noted as kept.
    fn take(sampler: &mut Sampler, salt: u64, ranks: &[(u64, i64)]) -> Vec<u64> {
        let chosen = sampler.choose(salt, &requests(ranks), NOW_MS, LIMITS);
        sampler.note(&chosen, LIMITS.per_hour);
        let mut ranks: Vec<u64> = chosen.hours.values().flatten().map(|(rank, _)| *rank).collect();
        ranks.sort_unstable();
        ranks
    }

    #[test]
    fn what_cannot_be_among_the_least_is_refused_in_memory() {
        let mut sampler = Sampler::default();
        assert_eq!(take(&mut sampler, 1, &[(50, 0), (40, 0), (60, 0), (70, 0)]), [40, 50, 60]);
        assert_eq!(take(&mut sampler, 1, &[(61, 0), (99, 0)]), [0_u64; 0]);
        assert_eq!(take(&mut sampler, 1, &[(61, 0), (45, 0)]), [45]);
        assert_eq!(
            take(&mut sampler, 1, &[(50, 0), (55, 0)]),
            [0_u64; 0],
            "50 is among the least by now, but the last"
        );
        // Another hour and another tenant have places of their own.
        assert_eq!(take(&mut sampler, 1, &[(99, 1)]), [99]);
        assert_eq!(take(&mut sampler, 2, &[(99, 0)]), [99]);
        assert_eq!(take(&mut sampler, 1, &[(1, 4)]), [0_u64; 0], "older than is kept");
        assert_eq!(take(&mut sampler, 1, &[(1, 3)]), [1]);
    }

    #[test]
    fn what_was_not_kept_is_chosen_again() {
        let mut sampler = Sampler::default();
        let first = sampler.choose(1, &requests(&[(5, 0)]), NOW_MS, LIMITS);
        assert_eq!(first.hours.len(), 1);
        // Storage did not answer.
        assert_eq!(take(&mut sampler, 1, &[(5, 0)]), [5]);
        let none = SampleLimits { per_hour: 0, ..LIMITS };
        assert!(sampler.choose(3, &requests(&[(5, 0)]), NOW_MS, none).hours.is_empty());
        assert!(sampler.choose(1, &requests(&[(4, 0)]), NOW_MS, none).hours.is_empty());
    }

    #[test]
    fn hours_are_remembered_within_bounds() {
        let mut sampler = Sampler::new(10);
        for salt in 0..100 {
            take(&mut sampler, salt, &[(1, 0), (2, 0), (3, 0)]);
            take(&mut sampler, 0, &[(4, 0)]);
        }
        assert!(sampler.newer.len() + sampler.older.len() <= 10);
        assert_eq!(take(&mut sampler, 99, &[(4, 0)]), [0_u64; 0]);
        assert_eq!(take(&mut sampler, 50, &[(4, 0)]), [4], "what was forgotten is tried");
        assert!(sampler.symbols().count() <= 10);
    }

    proptest! {
        #[test]
        fn the_least_of_all_are_among_those_chosen_however_they_come(
            ranks in prop::collection::vec((0u64..1_000, 0i64..2), 1..80), batch in 1usize..20, hours_max in 1usize..4,
        ) {
            // So small a memory forgets all the time.
            let mut sampler = Sampler::new(hours_max);
            let mut chosen: Vec<u64> = Vec::new();
            let mut of_hour: Vec<u64> = ranks.iter().filter(|(_, hours)| *hours == 0).map(|(rank, _)| *rank).collect();
            for ranks in ranks.chunks(batch) {
                chosen.extend(take(&mut sampler, 1, ranks));
            }
            of_hour.sort_unstable();
            of_hour.dedup();
            prop_assert!(of_hour.iter().take(LIMITS.per_hour).all(|rank| chosen.contains(rank)));
        }

        #[test]
        fn a_request_that_stands_for_more_is_before_one_that_stands_for_less(trace_id: u128, span_id: u64, weight in 1u32..1_000) {
            let rank_of = |weight| rank(&Span { trace_id, span_id, weight, ..span() });
            prop_assert_eq!(rank_of(0), None);
            prop_assert_eq!(rank_of(1).map(|rank| rank / u64::from(weight)), rank_of(weight));
        }
    }

    fn span() -> Span {
        Span {
            trace_id: 1,
            span_id: 1,
            parent_id: 0,
            start_ns: 0,
            duration_ns: 0,
            service: Symbol::NONE,
            peer: Symbol::NONE,
            operation: Symbol::NONE,
            protocol: Symbol::NONE,
            region: Symbol::NONE,
            weight: 1,
            kind: super::super::span::SpanKind::Server,
            peer_kind: attain_vocabulary::EntityKind::External,
            failed: false,
            resent: false,
            sends: false,
        }
    }

    /// Of a population of which half stands for one request each and half for three, three quarters of the sample are of
    /// the second half.
    #[test]
    fn samples_count_alike_whatever_rates_their_senders_sample_at() {
        let mut ranks: Vec<(u64, bool)> = (1..=20_000)
            .map(|trace_id| {
                let heavy = trace_id % 2 == 0;
                (rank(&Span { trace_id, weight: if heavy { 3 } else { 1 }, ..span() }).expect("counts"), heavy)
            })
            .collect();
        ranks.sort_unstable();
        let heavy_count = ranks.iter().take(1_000).filter(|(_, heavy)| *heavy).count();
        // A standard error of 1,000 draws is 14.
        assert!((700..800).contains(&heavy_count), "{heavy_count}");
    }
}
