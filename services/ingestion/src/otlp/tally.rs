//! Joined traces of one tenant summed up to what storage keeps: entities, edges, five-minute buckets, operations.

use std::collections::BTreeMap;

use attain_vocabulary::{
    BucketCounts, DAY_MS, EntityId, EntityKind, LatencyHistogram, SliBucket, Source, UnixMillis, bucket_start,
};

use super::hashing::NumberMap;
use super::hosts::Hosts;
use super::join::{Call, Callee, Joined, Outcome, Request};
use super::names::{Names, Symbol};
use crate::domain::{
    BucketMode, DayCalls, DependencyKey, ObservationBatch, ObservedBucket, ObservedEdge, ObservedEntity,
    ObservedOperation, Region, RegionalBucket, RequestDays, Sightings, day_of, most_certain,
};

/// Sums of several traces.
#[derive(Debug, Default)]
pub(super) struct Tally {
    entities: NumberMap<Symbol, Seen>,
    edges: NumberMap<(Symbol, Symbol), Edge>,
    buckets: NumberMap<(Symbol, UnixMillis), Bucket>,
    /// By service and region, of requests that tell one.
    regional: NumberMap<(Symbol, Symbol, UnixMillis), Bucket>,
    leaf_buckets: NumberMap<(Symbol, UnixMillis), Bucket>,
    operations: NumberMap<OperationKey, Operation>,
    /// Callees of one request, kept from one to the next.
    callees: Vec<Callee>,
}

#[derive(Debug, Default)]
struct Seen {
    kind: Option<EntityKind>,
    request_count: u64,
}

#[derive(Debug, Default)]
struct Edge {
    asynchronous: Option<bool>,
    protocol: Symbol,
    sightings: Sightings,
}

#[derive(Debug, Default)]
struct Bucket {
    valid: u64,
    bad: u64,
    /// `None` where nothing tells, for leaves.
    inherited: Option<u64>,
    shares: NumberMap<Symbol, u64>,
    latency: Option<LatencyHistogram>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct OperationKey {
    service: Symbol,
    /// None where the service itself answered.
    callee: Symbol,
    name: Symbol,
    day: i64,
}

#[derive(Debug)]
struct Operation {
    request_count: u64,
    bad_count: u64,
    latency: LatencyHistogram,
}

impl Tally {
    /// Adds joined traces.
    pub(super) fn add(&mut self, joined: &Joined, hosts: &Hosts, names: &Names) {
        for request in &joined.requests {
            let mut request = *request;
            let mut callees = std::mem::take(&mut self.callees);
            callees.clear();
            callees.extend_from_slice(&joined.callees[request.callees.0 as usize..request.callees.1 as usize]);
            hosts.rename_in_request(&mut request, &mut callees);
            // One that was called by its name and by its host was called.
            callees.sort_unstable();
            callees.dedup_by_key(|callee| callee.id);
            self.add_request(&request, &callees);
            self.callees = callees;
        }
        for call in &joined.calls {
            let mut call = *call;
            hosts.rename_in_call(&mut call);
            self.add_call(&call, names);
        }
    }

    fn add_request(&mut self, request: &Request, callees: &[Callee]) {
        let weight = u64::from(request.weight);
        let start_ms = millis(request.start_ns);
        let seen = self.entities.entry(request.service).or_default();
        seen.kind = most_certain(seen.kind, Some(EntityKind::Service));
        seen.request_count = seen.request_count.saturating_add(weight);
        for callee in callees {
            if callee.id != request.service {
                let edge = self.edges.entry((request.service, callee.id)).or_default();
                edge.sightings.calling_request_count = edge.sightings.calling_request_count.saturating_add(weight);
                let of_day = edge.of_day(start_ms);
                of_day.calling_request_count = of_day.calling_request_count.saturating_add(weight);
            }
        }
        let failed = request.outcome != Outcome::Good;
        let start = bucket_start(start_ms);
        self.buckets.entry((request.service, start)).or_default().answered(request, Some(request.duration_ns));
        if !request.region.is_none() {
            let of_region = self.regional.entry((request.service, request.region, start)).or_default();
            of_region.answered(request, None);
        }
        self.operation(request.service, Symbol::NONE, request.operation, start_ms).count(
            failed,
            Some(request.duration_ns),
            weight,
        );
    }

    fn add_call(&mut self, call: &Call, names: &Names) {
        let weight = u64::from(call.weight);
        let start_ms = millis(call.start_ns);
        let caller_kind = call.from_queue.then_some(EntityKind::Queue);
        for (id, kind) in [(call.caller, caller_kind), (call.callee, call.leaf)] {
            let seen = self.entities.entry(id).or_default();
            seen.kind = most_certain(seen.kind, kind);
        }
        if call.leaf.is_some() {
            let bucket = self.leaf_buckets.entry((call.callee, bucket_start(start_ms))).or_default();
            bucket.count(call.failed, call.duration_ns, weight);
        }
        // A node that calls itself depends on nobody by it.
        if call.caller == call.callee {
            return;
        }
        self.operation(call.caller, call.callee, call.operation, start_ms).count(call.failed, call.duration_ns, weight);
        let edge = self.edges.entry((call.caller, call.callee)).or_default();
        // One call that is waited for makes the edge part of the request path.
        edge.asynchronous = match (edge.asynchronous, call.asynchronous) {
            (Some(a), Some(b)) => Some(a && b),
            (a, b) => a.or(b),
        };
        if edge.protocol != call.protocol && !call.protocol.is_none() {
            // Of several the first in lexical order, so that the order of traces does not matter.
            let earlier = edge.protocol.is_none() || names.text(call.protocol) < names.text(edge.protocol);
            edge.protocol = if earlier { call.protocol } else { edge.protocol };
        }
        edge.count(call, start_ms);
    }

    fn operation(&mut self, service: Symbol, callee: Symbol, name: Symbol, start_ms: UnixMillis) -> &mut Operation {
        let key = OperationKey { service, callee, name, day: start_ms.div_euclid(DAY_MS) };
        self.operations.entry(key).or_insert_with(|| Operation {
            request_count: 0,
            bad_count: 0,
            latency: LatencyHistogram::empty(),
        })
    }

    /// Everything as storage takes it, in lexical order.
    pub(super) fn into_batch(self, names: &Names) -> ObservationBatch {
        let ids = Ids { names };
        let requests = ids.requests(&self.buckets);
        let answers = |id: Symbol| self.entities.get(&id).is_some_and(|seen| seen.kind == Some(EntityKind::Service));
        // Whoever answers with spans of its own is measured there, not a second time by its callers.
        let leaves = self.leaf_buckets.into_iter().filter(|((id, _), _)| !answers(*id));
        let mut buckets: Vec<ObservedBucket> =
            self.buckets.into_iter().chain(leaves).filter_map(|bucket| ids.bucket(bucket)).collect();
        let mut regional: Vec<RegionalBucket> =
            self.regional.into_iter().filter_map(|bucket| ids.regional(bucket)).collect();
        regional.sort_by(|a, b| {
            let key =
                |of: &RegionalBucket| (of.observed.service.clone(), of.region.clone(), of.observed.bucket.start_ms);
            key(a).cmp(&key(b))
        });
        buckets.sort_by(|a, b| (&a.service, a.bucket.start_ms).cmp(&(&b.service, b.bucket.start_ms)));
        let mut entities: Vec<ObservedEntity> =
            self.entities.into_iter().filter_map(|entity| ids.entity(entity)).collect();
        entities.sort_by(|a, b| a.id.cmp(&b.id));
        let mut edges: Vec<ObservedEdge> = self.edges.into_iter().filter_map(|edge| ids.edge(edge)).collect();
        edges.sort_by(|a, b| a.key.cmp(&b.key));
        let mut operations: Vec<ObservedOperation> =
            self.operations.into_iter().filter_map(|operation| ids.operation(operation)).collect();
        operations.sort_by(|a, b| a.key.cmp(&b.key));
        ObservationBatch { entities, edges, requests, buckets, regional, operations, ..ObservationBatch::default() }
    }
}

impl Bucket {
    /// Counts a request by its outcome; its duration where that is wanted.
    fn answered(&mut self, request: &Request, duration_ns: Option<u64>) {
        let weight = u64::from(request.weight);
        let inherited = self.inherited.get_or_insert(0);
        if let Outcome::InheritedFailure(by) = &request.outcome {
            *inherited += weight;
            if let Some(by) = by {
                *self.shares.entry(by.id).or_insert(0) += weight;
            }
        }
        self.count(request.outcome != Outcome::Good, duration_ns, weight);
    }

    fn count(&mut self, failed: bool, duration_ns: Option<u64>, weight: u64) {
        self.valid = self.valid.saturating_add(weight);
        self.bad = self.bad.saturating_add(if failed { weight } else { 0 });
        if let Some(duration_ns) = duration_ns {
            record(self.latency.get_or_insert_with(LatencyHistogram::empty), duration_ns, weight);
        }
    }
}

impl Operation {
    fn count(&mut self, failed: bool, duration_ns: Option<u64>, weight: u64) {
        self.request_count = self.request_count.saturating_add(weight);
        self.bad_count = self.bad_count.saturating_add(if failed { weight } else { 0 });
        if let Some(duration_ns) = duration_ns {
            record(&mut self.latency, duration_ns, weight);
        }
    }
}

impl Edge {
    fn of_day(&mut self, time_ms: UnixMillis) -> &mut DayCalls {
        self.sightings.days.entry(day_of(time_ms)).or_default()
    }

    fn count(&mut self, call: &Call, start_ms: UnixMillis) {
        let weight = u64::from(call.weight);
        let seen = &mut self.sightings;
        let add = |count: &mut u64, counts: bool| *count = count.saturating_add(if counts { weight } else { 0 });
        seen.first_seen_ms = Some(seen.first_seen_ms.map_or(start_ms, |first| first.min(start_ms)));
        seen.last_seen_ms = seen.last_seen_ms.max(Some(start_ms));
        add(&mut seen.call_count, true);
        add(seen.failure_count.get_or_insert(0), call.failed);
        add(seen.rescued_count.get_or_insert(0), call.rescued);
        add(seen.retry_count.get_or_insert(0), call.retry);
        if let Some(duration_ns) = call.duration_ns {
            record(seen.latency.get_or_insert_with(LatencyHistogram::empty), duration_ns, weight);
        }
        add(&mut self.of_day(start_ms).call_count, true);
    }
}

/// What stands for none is not in the distribution.
fn record(latency: &mut LatencyHistogram, duration_ns: u64, weight: u64) {
    if weight > 0 {
        latency.record_many(duration_ns as f64 / 1e6, weight);
    }
}

/// Turns numbers back into names.
struct Ids<'a> {
    names: &'a Names,
}

impl Ids<'_> {
    fn id(&self, symbol: Symbol) -> Option<EntityId> {
        EntityId::new("id", self.names.text(symbol)).ok()
    }

    /// Every request is in one bucket of its service.
    fn requests(&self, buckets: &NumberMap<(Symbol, UnixMillis), Bucket>) -> BTreeMap<EntityId, RequestDays> {
        let mut by_day: NumberMap<(Symbol, i64), u64> = NumberMap::default();
        for ((service, start_ms), bucket) in buckets {
            *by_day.entry((*service, day_of(*start_ms))).or_insert(0) += bucket.valid;
        }
        let mut requests: BTreeMap<EntityId, RequestDays> = BTreeMap::new();
        for ((service, day), count) in by_day {
            if let Some(id) = self.id(service) {
                requests.entry(id).or_default().insert(day, count);
            }
        }
        requests
    }

    fn bucket(&self, ((service, start_ms), bucket): ((Symbol, UnixMillis), Bucket)) -> Option<ObservedBucket> {
        // Counts nest by the way they were counted.
        let counts = BucketCounts::new(bucket.valid, bucket.bad, bucket.inherited).ok()?;
        let shares = bucket.shares.into_iter().filter_map(|(id, count)| Some((self.id(id)?, count)));
        let shares = shares.filter(|(_, count)| *count > 0).collect();
        let bucket = SliBucket::new(start_ms, counts, shares, bucket.latency).ok()?;
        Some(ObservedBucket { service: self.id(service)?, source: Source::Traces, mode: BucketMode::Add, bucket })
    }

    fn regional(
        &self,
        ((service, region, start_ms), bucket): ((Symbol, Symbol, UnixMillis), Bucket),
    ) -> Option<RegionalBucket> {
        let region = Region::observed(self.id(region)?);
        Some(RegionalBucket { region, observed: self.bucket(((service, start_ms), bucket))? })
    }

    fn entity(&self, (id, seen): (Symbol, Seen)) -> Option<ObservedEntity> {
        let (kind, request_count) = (seen.kind, seen.request_count);
        Some(ObservedEntity { id: self.id(id)?, kind, source: Source::Traces, request_count })
    }

    fn edge(&self, ((caller, callee), edge): ((Symbol, Symbol), Edge)) -> Option<ObservedEdge> {
        let protocol = self.names.text(edge.protocol);
        Some(ObservedEdge {
            key: DependencyKey::new(self.id(caller)?, self.id(callee)?).ok()?,
            source: Source::Traces,
            asynchronous: edge.asynchronous,
            protocol: (!protocol.is_empty()).then(|| protocol.to_owned()),
            sightings: edge.sightings,
        })
    }

    fn operation(&self, (key, operation): (OperationKey, Operation)) -> Option<ObservedOperation> {
        let name = self.names.text(key.name);
        if name.is_empty() {
            return None;
        }
        Some(ObservedOperation {
            key: crate::domain::OperationKey {
                service: self.id(key.service)?,
                callee: if key.callee.is_none() { None } else { Some(self.id(key.callee)?) },
                name: name.to_owned(),
                day: key.day,
            },
            seen: crate::domain::OperationCounts {
                request_count: operation.request_count,
                bad_count: operation.bad_count,
                latency: operation.latency,
            },
        })
    }
}

fn millis(time_ns: u64) -> UnixMillis {
    (time_ns / 1_000_000) as i64
}
