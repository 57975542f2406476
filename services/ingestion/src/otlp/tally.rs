//! Joined traces of one tenant summed up to what storage keeps: entities, edges, five-minute buckets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use attain_vocabulary::{
    BucketCounts, EntityId, EntityKind, LatencyHistogram, SliBucket, Source, UnixMillis, bucket_start,
};

use super::join::{Call, Callee, Joined, Outcome, Request};
use crate::domain::{
    BucketMode, DependencyKey, ObservationBatch, ObservedBucket, ObservedEdge, ObservedEntity, Sightings, most_certain,
};

/// Which service answers at which host; `None` where several do.
pub(super) type Hosts = BTreeMap<EntityId, Option<EntityId>>;

/// Sums of several traces.
#[derive(Debug, Default)]
pub(super) struct Tally {
    entities: BTreeMap<EntityId, Seen>,
    edges: BTreeMap<DependencyKey, Edge>,
    buckets: BTreeMap<(EntityId, UnixMillis), Bucket>,
    leaf_buckets: BTreeMap<(EntityId, UnixMillis), Bucket>,
}

#[derive(Debug, Default)]
struct Seen {
    kind: Option<EntityKind>,
    request_count: u64,
}

#[derive(Debug, Default)]
struct Edge {
    asynchronous: Option<bool>,
    protocol: Option<String>,
    sightings: Sightings,
}

#[derive(Debug, Default)]
struct Bucket {
    valid: u64,
    bad: u64,
    /// `None` where nothing tells, for leaves.
    inherited: Option<u64>,
    shares: BTreeMap<EntityId, u64>,
    latency: Option<LatencyHistogram>,
}

/// Adds what calls tell of hosts.
pub(super) fn learn_hosts(joined: &[Joined], hosts: &mut Hosts) {
    for call in joined.iter().flat_map(|trace| &trace.calls).filter(|call| call.leaf.is_none()) {
        let Some(host) = call.host.as_ref().filter(|host| is_name(host)) else { continue };
        let answered_by = hosts.entry(host.clone()).or_insert_with(|| Some(call.callee.clone()));
        if answered_by.as_ref() != Some(&call.callee) {
            *answered_by = None;
        }
    }
}

/// An address is no name: another service may have it tomorrow.
pub(super) fn is_name(host: &EntityId) -> bool {
    let name = host.as_str().split_once(':').map_or(host.as_str(), |(name, _)| name);
    name != "localhost" && !name.starts_with("ipv6/") && name.parse::<IpAddr>().is_err()
}

/// Hosts that calls went to without an answer: whoever is known to answer there was meant.
pub(super) fn unanswered_hosts(joined: &[Joined]) -> impl Iterator<Item = &EntityId> {
    let calls = joined.iter().flat_map(|trace| &trace.calls);
    calls.filter(|call| call.leaf.is_some()).filter_map(|call| call.host.as_ref()).filter(|host| is_name(host))
}

impl Tally {
    pub(super) fn add(&mut self, mut trace: Joined, hosts: &Hosts) {
        trace.requests.iter_mut().for_each(|request| rename_in_request(request, hosts));
        trace.calls.iter_mut().for_each(|call| rename_in_call(call, hosts));
        trace.requests.iter().for_each(|request| self.add_request(request));
        trace.calls.iter().for_each(|call| self.add_call(call));
    }

    fn add_request(&mut self, request: &Request) {
        let seen = self.seen(&request.service, Some(EntityKind::Service));
        seen.request_count += 1;
        // One that was called by its name and by its host was called.
        let callees: BTreeSet<&EntityId> = request.callees.iter().map(|callee| &callee.id).collect();
        for callee in callees {
            if let Some(edge) = self.edge(&request.service, callee) {
                edge.sightings.calling_request_count += 1;
            }
        }
        let key = (EntityId::clone(&request.service), bucket_start(millis(request.start_ns)));
        let bucket = self.buckets.entry(key).or_default();
        let inherited = bucket.inherited.get_or_insert(0);
        if let Outcome::InheritedFailure(by) = &request.outcome {
            *inherited += 1;
            if let Some(by) = by {
                *bucket.shares.entry(by.id.clone()).or_insert(0) += 1;
            }
        }
        bucket.count(request.outcome != Outcome::Good, Some(request.duration_ns));
    }

    fn add_call(&mut self, call: &Call) {
        self.seen(&call.caller, None);
        self.seen(&call.callee, call.leaf);
        if call.leaf.is_some() {
            let key = (call.callee.clone(), bucket_start(millis(call.start_ns)));
            self.leaf_buckets.entry(key).or_default().count(call.failed, call.duration_ns);
        }
        let Some(edge) = self.edge(&call.caller, &call.callee) else { return };
        // One call that is waited for makes the edge part of the request path.
        edge.asynchronous = match (edge.asynchronous, call.asynchronous) {
            (Some(a), Some(b)) => Some(a && b),
            (a, b) => a.or(b),
        };
        let protocol = call.protocol.as_deref().map(str::to_owned);
        // Of several the first in lexical order, so that the order of traces does not matter.
        edge.protocol = [edge.protocol.take(), protocol].into_iter().flatten().min();
        let start_ms = millis(call.start_ns);
        let mut latency = None;
        if let Some(duration_ns) = call.duration_ns {
            latency.get_or_insert_with(LatencyHistogram::empty).record(milliseconds(duration_ns));
        }
        edge.sightings.add(&Sightings {
            first_seen_ms: Some(start_ms),
            last_seen_ms: Some(start_ms),
            call_count: 1,
            calling_request_count: 0,
            failure_count: u64::from(call.failed),
            rescued_count: u64::from(call.rescued),
            latency,
        });
    }

    fn seen(&mut self, id: &EntityId, kind: Option<EntityKind>) -> &mut Seen {
        let seen = self.entities.entry(id.clone()).or_default();
        seen.kind = most_certain(seen.kind, kind);
        seen
    }

    /// `None` for a node that calls itself.
    fn edge(&mut self, caller: &EntityId, callee: &EntityId) -> Option<&mut Edge> {
        let key = DependencyKey::new(caller.clone(), callee.clone()).ok()?;
        Some(self.edges.entry(key).or_default())
    }

    /// Everything as storage takes it.
    pub(super) fn into_batch(self) -> ObservationBatch {
        let answers = |id: &EntityId| self.entities.get(id).is_some_and(|seen| seen.kind == Some(EntityKind::Service));
        // Whoever answers with spans of its own is measured there, not a second time by its callers.
        let leaves = self.leaf_buckets.into_iter().filter(|((id, _), _)| !answers(id));
        let buckets = self.buckets.into_iter().chain(leaves).filter_map(observed_bucket).collect();
        let entities = self.entities.into_iter().map(|(id, seen)| ObservedEntity {
            id,
            kind: seen.kind,
            source: Source::Traces,
            request_count: seen.request_count,
        });
        let edges = self.edges.into_iter().map(|(key, edge)| ObservedEdge {
            key,
            source: Source::Traces,
            asynchronous: edge.asynchronous,
            protocol: edge.protocol,
            sightings: edge.sightings,
        });
        ObservationBatch {
            entities: entities.collect(),
            edges: edges.collect(),
            buckets,
            ..ObservationBatch::default()
        }
    }
}

impl Bucket {
    fn count(&mut self, failed: bool, duration_ns: Option<u64>) {
        self.valid += 1;
        self.bad += u64::from(failed);
        if let Some(duration_ns) = duration_ns {
            self.latency.get_or_insert_with(LatencyHistogram::empty).record(milliseconds(duration_ns));
        }
    }
}

fn observed_bucket(((service, start_ms), bucket): ((EntityId, UnixMillis), Bucket)) -> Option<ObservedBucket> {
    // Counts nest by the way they were counted.
    let counts = BucketCounts::new(bucket.valid, bucket.bad, bucket.inherited).ok()?;
    let bucket = SliBucket::new(start_ms, counts, bucket.shares, bucket.latency).ok()?;
    Some(ObservedBucket { service, source: Source::Traces, mode: BucketMode::Add, bucket })
}

fn rename_in_request(request: &mut Request, hosts: &Hosts) {
    if let Outcome::InheritedFailure(Some(by)) = &mut request.outcome
        && by.by_host
        && rename(&mut by.id, hosts)
        && by.id == *request.service
    {
        // The host turned out to be the service's own: nobody else failed.
        request.outcome = Outcome::OwnFailure;
    }
    if request.callees.iter().any(|callee| callee.by_host && hosts.contains_key(&callee.id)) {
        let named = |mut callee: Callee| {
            if callee.by_host {
                rename(&mut callee.id, hosts);
            }
            callee
        };
        request.callees = std::mem::take(&mut request.callees).into_iter().map(named).collect();
    }
}

fn rename_in_call(call: &mut Call, hosts: &Hosts) {
    if call.leaf.is_some() && call.host.as_ref() == Some(&call.callee) && rename(&mut call.callee, hosts) {
        call.leaf = None;
    }
}

/// Whether one service is known to answer at the host.
fn rename(id: &mut EntityId, hosts: &Hosts) -> bool {
    match hosts.get(id) {
        Some(Some(service)) => {
            *id = service.clone();
            true
        }
        _ => false,
    }
}

fn millis(time_ns: u64) -> UnixMillis {
    (time_ns / 1_000_000) as i64
}

fn milliseconds(duration_ns: u64) -> f64 {
    duration_ns as f64 / 1e6
}
