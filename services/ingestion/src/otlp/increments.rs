//! What the points of an export add to buckets and edges, and the states of their series after them.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{
    BucketCounts, EntityId, EntityKind, LatencyHistogram, SliBucket, Source, UnixMillis, bucket_start,
};
use prost::Message as _;

use super::chosen::{self, Chosen};
use super::hosts::{HOST_PREFIX, NamedHosts, read_named_hosts};
use super::meaning::{EdgeTold, Part, Told};
use super::points::Reading;
use super::receipts::Receipt;
use super::series::{self, Added, Series, Shape};
use crate::domain::{
    BucketMode, DependencyKey, Exemplar, ObservationBatch, ObservedBucket, ObservedEdge, ObservedEntity, Region,
    RegionalBucket, Sightings, most_certain,
};
use crate::storage::{CounterStates, LeftOut};

/// How much is followed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesLimits {
    pub(crate) now_ms: UnixMillis,
    /// Most series of a tenant.
    pub(crate) series_max: usize,
    /// Most processes of a series.
    pub(crate) streams_max: usize,
    /// How long receipts of exports are kept.
    pub(crate) receipt_ms: i64,
    /// Most of them within that time.
    pub(crate) receipts_max: usize,
}

impl SeriesLimits {
    fn day(self) -> i64 {
        series::day(self.now_ms)
    }
}

/// What became of the points.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Verdicts {
    /// Which points were counted, by their places.
    pub(super) counted: Vec<usize>,
    pub(super) reset: usize,
    pub(super) baseline: usize,
    pub(super) duplicate: usize,
    /// Points of series that are one too many.
    pub(super) surplus: usize,
    /// Points of processes that are one too many in their series.
    pub(super) streams_surplus: usize,
    /// Silent processes that made room for others.
    pub(super) streams_evicted: usize,
    /// Points of what is read under another name.
    pub(super) other_name: usize,
    /// Whether all of the export was counted before.
    pub(super) repeated: bool,
    /// Whether no receipt could be kept of it.
    pub(super) without_receipt: bool,
    hosts: NamedHosts,
}

impl Verdicts {
    /// How many of the points that were counted told of what was left out.
    pub(super) fn lost(&self, readings: &[Reading], left_out: &LeftOut) -> usize {
        let is_lost = |place: &&usize| match readings.get(**place).map(|reading| &reading.told) {
            Some(Told::Requests { service, .. }) => left_out.entities.contains(service),
            Some(Told::Edge(edge)) => {
                let key = DependencyKey::new(edge.caller.clone(), called(edge, &self.hosts).clone());
                key.is_ok_and(|key| left_out.has_edge(&key, edge.source))
            }
            None => false,
        };
        if left_out.is_empty() { 0 } else { self.counted.iter().filter(is_lost).count() }
    }
}

/// The states that must be known to count these points.
pub(super) fn state_keys(readings: &[Reading], receipt: Option<&Receipt>, limits: SeriesLimits) -> Vec<String> {
    let day = limits.day();
    let names: BTreeSet<&str> = readings.iter().map(|reading| reading.series.as_str()).collect();
    let hosts: BTreeSet<&EntityId> = readings
        .iter()
        .filter_map(|reading| match &reading.told {
            Told::Edge(edge) if edge.by_host => Some(&edge.callee),
            _ => None,
        })
        .collect();
    let of_series = names.into_iter().flat_map(|name| [series::key(day, name), series::key(day - 1, name)]);
    let counts = [series::count_key(day), series::count_key(day - 1)];
    let of_series = of_series.chain(counts).chain(chosen::state_keys(readings, day));
    let receipts = receipt.into_iter().flat_map(Receipt::state_keys);
    of_series.chain(receipts).chain(hosts.into_iter().map(|host| format!("{HOST_PREFIX}{host}"))).collect()
}

/// What points add, each to the bucket of its time, and the states of their series after them. Of series that were not
/// known yet only as many are begun as a tenant may have. Nothing where the receipt of the export is there already.
pub(super) fn increments(
    readings: &[Reading],
    receipt: Option<&Receipt>,
    states: &CounterStates,
    limits: SeriesLimits,
) -> (ObservationBatch, Verdicts) {
    let mut verdicts = Verdicts::default();
    if receipt.is_some_and(|receipt| receipt.is_kept(states)) {
        (verdicts.repeated, verdicts.duplicate) = (true, readings.len());
        return (ObservationBatch::default(), verdicts);
    }
    let chosen = Chosen::read(readings, states, limits.day());
    let mut kept = KeptSeries::read(states, limits);
    let mut sums = Sums { hosts: read_named_hosts(states), ..Sums::default() };
    let mut followed: BTreeSet<&str> = BTreeSet::new();
    for (place, reading) in readings.iter().enumerate() {
        if !chosen.reads(reading) {
            verdicts.other_name += 1;
            continue;
        }
        let Some(state) = kept.of(&reading.series) else {
            verdicts.surplus += 1;
            continue;
        };
        followed.insert(&*reading.resource);
        let (added, evicted) = state.take(&reading.point, limits.streams_max);
        verdicts.streams_evicted += evicted;
        verdicts.add(place, reading, added, &mut sums);
    }
    verdicts.hosts = std::mem::take(&mut sums.hosts);
    let mut counter_states = kept.states_after();
    chosen.states_after(&followed, &mut counter_states);
    if let Some(receipt) = receipt {
        verdicts.without_receipt = !receipt.keep(states, limits.receipts_max, &mut counter_states);
    }
    (ObservationBatch { counter_states, ..sums.into_batch() }, verdicts)
}

impl Verdicts {
    fn add(&mut self, place: usize, reading: &Reading, added: Added, sums: &mut Sums) {
        let (count, shape) = match added {
            Added::Count { count, shape } => (count, shape),
            Added::Reset { count, shape } => {
                self.reset += 1;
                (count, shape)
            }
            Added::Baseline => {
                self.baseline += 1;
                // Who called whom is known all the same.
                return sums.add(reading, 0, &Shape::Unknown);
            }
            Added::Duplicate => {
                self.duplicate += 1;
                return;
            }
            Added::Surplus => {
                self.streams_surplus += 1;
                return;
            }
        };
        self.counted.push(place);
        sums.add(reading, count, &shape);
    }
}

/// Whom a point tells of: the service that answers at the host, where one is known.
fn called<'a>(edge: &'a EdgeTold, hosts: &'a NamedHosts) -> &'a EntityId {
    let answering = if edge.by_host { hosts.get(&edge.callee).and_then(Option::as_ref) } else { None };
    answering.unwrap_or(&edge.callee)
}

/// The states of the series of an export, and how many the tenant has in all.
struct KeptSeries<'a> {
    before: &'a CounterStates,
    day: i64,
    touched: BTreeMap<&'a str, Series>,
    /// Of today, and of yesterday what did not come again yet.
    counts: [u64; 2],
    max: u64,
}

impl<'a> KeptSeries<'a> {
    fn read(before: &'a CounterStates, limits: SeriesLimits) -> Self {
        let (day, max) = (limits.day(), limits.series_max);
        let count = |day| series::read_count(before.get(&series::count_key(day)));
        Self { before, day, touched: BTreeMap::new(), counts: [count(day), count(day - 1)], max: max as u64 }
    }

    /// The state of a series; `None` for a new one that is one too many.
    fn of(&mut self, name: &'a str) -> Option<&mut Series> {
        if !self.touched.contains_key(name) {
            let of_day = |day| self.before.get(&series::key(day, name));
            let (today, yesterday) = (of_day(self.day), of_day(self.day - 1));
            match (today, yesterday) {
                (Some(_), _) => {}
                (None, Some(_)) => {
                    self.counts[0] += 1;
                    self.counts[1] = self.counts[1].saturating_sub(1);
                }
                (None, None) if self.counts.iter().sum::<u64>() >= self.max => return None,
                (None, None) => self.counts[0] += 1,
            }
            self.touched.insert(name, Series::read(today.or(yesterday)));
        }
        self.touched.get_mut(name)
    }

    fn states_after(self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut after = BTreeMap::new();
        for (name, state) in &self.touched {
            let yesterday = series::key(self.day - 1, name);
            if self.before.contains_key(&yesterday) {
                after.insert(yesterday, None);
            }
            after.insert(series::key(self.day, name), Some(state.encode_to_vec()));
        }
        if !self.touched.is_empty() {
            after.insert(series::count_key(self.day), Some(series::written_count(self.counts[0])));
            after.insert(series::count_key(self.day - 1), Some(series::written_count(self.counts[1])));
        }
        after
    }
}

/// What all points together add.
#[derive(Debug, Default)]
struct Sums {
    hosts: NamedHosts,
    buckets: BTreeMap<(EntityId, UnixMillis), Increment>,
    regional: BTreeMap<(EntityId, Region, UnixMillis), Increment>,
    edges: BTreeMap<(DependencyKey, Source), EdgeSum>,
    callees: BTreeMap<(EntityId, Source), Option<EntityKind>>,
    exemplars: Vec<Exemplar>,
}

#[derive(Debug, Default)]
struct Increment {
    valid: u64,
    bad: u64,
    latency: Option<LatencyHistogram>,
}

#[derive(Debug, Default)]
struct EdgeSum {
    asynchronous: Option<bool>,
    protocol: Option<String>,
    sightings: Sightings,
}

impl Sums {
    fn add(&mut self, reading: &Reading, count: u64, shape: &Shape) {
        // A point tells of the time that it ends.
        let time_ms = ((reading.point.time_ns - 1) / 1_000_000) as i64;
        let latency = if count > 0 { shape.latency(reading.unit_ms) } else { None };
        match &reading.told {
            Told::Requests { .. } if count == 0 => {}
            Told::Requests { service, region, failed } => {
                self.bucket(service, time_ms).add(count, *failed, latency);
                if let Some(region) = region {
                    let key = (service.clone(), region.clone(), bucket_start(time_ms));
                    self.regional.entry(key).or_default().add(count, *failed, None);
                }
                self.exemplars.extend(reading.exemplars.iter().map(|read| Exemplar {
                    service: service.clone(),
                    trace_id: u128::from_be_bytes(read.trace_id),
                    span_id: u64::from_be_bytes(read.span_id),
                    time_ms: read.time_ms,
                    latency_us: (read.latency_ms * 1_000.0).round() as u64,
                    failed: *failed,
                }));
            }
            // A count of nothing, for example of failures, shows no call.
            Told::Edge(_) if reading.point.count == 0 => {}
            Told::Edge(edge) => self.add_edge(edge, time_ms, count, latency),
        }
    }

    fn bucket(&mut self, service: &EntityId, time_ms: UnixMillis) -> &mut Increment {
        self.buckets.entry((service.clone(), bucket_start(time_ms))).or_default()
    }

    fn add_edge(&mut self, told: &EdgeTold, time_ms: UnixMillis, count: u64, latency: Option<LatencyHistogram>) {
        let callee = called(told, &self.hosts).clone();
        let answers = told.by_host && self.hosts.get(&told.callee).is_some_and(Option::is_some);
        let kind = if answers { None } else { told.callee_kind };
        if told.measures_callee && count > 0 {
            self.bucket(&callee, time_ms).add(count, told.failed, latency.clone());
        }
        // A node that calls itself has no edge.
        let Ok(key) = DependencyKey::new(told.caller.clone(), callee.clone()) else { return };
        let seen = self.callees.entry((callee, told.source)).or_default();
        *seen = most_certain(*seen, kind);
        let edge = self.edges.entry((key, told.source)).or_default();
        // One call that is waited for makes the edge part of the request path.
        edge.asynchronous = match (edge.asynchronous, told.asynchronous) {
            (Some(a), Some(b)) => Some(a && b),
            (a, b) => a.or(b),
        };
        // Of several the first in lexical order, so that the order of points does not matter.
        edge.protocol = [edge.protocol.take(), told.protocol.clone()].into_iter().flatten().min();
        edge.sightings.add(&Sightings {
            first_seen_ms: Some(time_ms),
            last_seen_ms: Some(time_ms),
            call_count: if told.part == Part::Calls { count } else { 0 },
            failure_count: Some(if told.part == Part::Failures || told.failed { count } else { 0 }),
            latency: latency.filter(|_| told.part != Part::Failures),
            ..Sightings::default()
        });
    }

    fn into_batch(self) -> ObservationBatch {
        let entities =
            self.callees.into_iter().map(|((id, source), kind)| ObservedEntity { id, kind, source, request_count: 0 });
        let edges = self.edges.into_iter().map(|((key, source), edge)| ObservedEdge {
            key,
            source,
            asynchronous: edge.asynchronous,
            protocol: edge.protocol,
            sightings: edge.sightings,
        });
        ObservationBatch {
            entities: entities.collect(),
            edges: edges.collect(),
            buckets: self.buckets.into_iter().filter_map(observed_bucket).collect(),
            regional: self.regional.into_iter().filter_map(regional_bucket).collect(),
            exemplars: self.exemplars,
            ..ObservationBatch::default()
        }
    }
}

impl Increment {
    fn add(&mut self, count: u64, failed: bool, latency: Option<LatencyHistogram>) {
        self.valid = self.valid.saturating_add(count);
        if failed {
            self.bad = self.bad.saturating_add(count);
        }
        if let Some(latency) = latency.filter(|latency| latency.count() <= count) {
            self.latency.get_or_insert_with(LatencyHistogram::empty).merge(&latency);
        }
    }
}

fn regional_bucket(
    ((service, region, start_ms), added): ((EntityId, Region, UnixMillis), Increment),
) -> Option<RegionalBucket> {
    Some(RegionalBucket { region, observed: observed_bucket(((service, start_ms), added))? })
}

fn observed_bucket(((service, start_ms), added): ((EntityId, UnixMillis), Increment)) -> Option<ObservedBucket> {
    // Failures are counted among the requests, so the counts nest.
    let counts = BucketCounts::new(added.valid, added.bad, None).ok()?;
    let bucket = SliBucket::new(start_ms, counts, BTreeMap::new(), added.latency).ok()?;
    Some(ObservedBucket { service, source: Source::OtlpMetrics, mode: BucketMode::Add, bucket })
}
