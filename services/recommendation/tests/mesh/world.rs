//! A small system with thirty days of seeded history, and the members that tell of it.

mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use attain_proto::convert::{timestamp, unix_millis};
use attain_proto::graph::v1 as graph;
use attain_proto::graph::v1::graph_service_server::GraphService;
use attain_proto::graph::v1::latency_change::Change as By;
use attain_proto::graph::v1::scenario_change::Change;
use attain_proto::ingestion::v1 as ingestion;
use attain_proto::ingestion::v1::ingestion_service_server::IngestionService;
use attain_proto::rag::v1 as rag;
use attain_proto::rag::v1::answer_service_server::AnswerService;
use attain_proto::rag::v1::knowledge_service_server::KnowledgeService;
use attain_proto::vocabulary::v1::{
    Dependency, DependencyMode, Entity, EntityKind, SliBucket, Source, Tier, UtilisationKind,
};
use attain_runtime::context::CallContext;
use attain_vocabulary::{BUCKET_MS, LatencyHistogram};
use futures::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::harness::PATIENCE;
use crate::structure::State;

pub(crate) use members::Members;

/// Now, for the held clock: some way into a bucket.
pub(crate) const NOW_MS: i64 = 1_793_000_100_000 + 120_000;
const DAYS: i64 = 30;
const REQUESTS: u64 = 2_000;
/// Kinds of changes, by their places among the heads.
pub(crate) const TOPOLOGY: usize = 0;
pub(crate) const SLI: usize = 1;
pub(crate) const INCIDENT: usize = 2;

/// Something that happens in the middle of a call.
pub(crate) type Deed = Box<dyn FnOnce(&World) + Send>;

#[derive(Default)]
pub(crate) struct World {
    pub(crate) entities: Mutex<BTreeMap<String, Entity>>,
    pub(crate) dependencies: Mutex<Vec<Dependency>>,
    pub(crate) histories: Mutex<BTreeMap<String, Vec<SliBucket>>>,
    /// Histories by tenant, service and region.
    pub(crate) regional: Mutex<BTreeMap<(String, String, String), Vec<SliBucket>>>,
    pub(crate) incidents: Mutex<Vec<ingestion::Incident>>,
    /// Ages of what waits, by service: starts of slices, and seconds.
    pub(crate) ages: Mutex<BTreeMap<String, Vec<(i64, f64)>>>,
    /// Services with sampled requests, each with the callee that its slow ones wait for.
    pub(crate) waited_for: Mutex<BTreeMap<String, String>>,
    /// Newest changes of topology, measurements and incidents, by tenant and service.
    heads: Mutex<BTreeMap<(String, String), [u64; 3]>>,
    /// Number of the newest change of all.
    sequence: watch::Sender<u64>,
    /// Whether changes are streamed.
    pub(crate) streaming: AtomicBool,
    /// After which change each stream began.
    pub(crate) streams: Mutex<Vec<u64>>,
    /// Ends the streams there are.
    cuts: watch::Sender<u64>,
    /// Services whose changes were asked for together, more than one at a time: what a computation or a read asks.
    pub(crate) heads_asked: Mutex<Vec<Vec<String>>>,
    /// Done before the next such question is answered.
    pub(crate) before_heads: Mutex<Option<Deed>>,
    /// What the graph holds while it does not follow.
    frozen: Mutex<Option<(u64, Vec<Dependency>)>>,
    /// Whether it follows again as soon as it is waited for.
    pub(crate) thaws: AtomicBool,
    /// Versions that the graph was waited for.
    pub(crate) waits: Mutex<Vec<u64>>,
    pub(crate) passages: Mutex<Vec<rag::Citation>>,
    /// Documents that were kept, by name.
    pub(crate) documents: Mutex<BTreeMap<String, rag::Document>>,
    pub(crate) questions: Mutex<Vec<String>>,
    pub(crate) ingestion_down: AtomicBool,
    /// Whether ingestion answers for whole services alone.
    pub(crate) regions_down: AtomicBool,
    pub(crate) graph_down: AtomicBool,
    pub(crate) knowledge_down: AtomicBool,
    /// Whether knowledge takes questions and never answers.
    pub(crate) knowledge_hangs: AtomicBool,
    /// What knowledge answers to every question instead of passages.
    pub(crate) knowledge_refuses: Mutex<Option<tonic::Code>>,
    /// Whether the graph solves for no targets.
    pub(crate) targets_down: AtomicBool,
    /// Whether the graph answers for availability alone.
    pub(crate) latencies_down: AtomicBool,
    /// How many services of one evaluation the time suffices for.
    pub(crate) evaluates_at_most: AtomicUsize,
    /// While somebody holds it, the history of checkout alone is not answered.
    pub(crate) checkout_held: tokio::sync::Mutex<()>,
    /// Whether ingestion says which histories have latencies, and until when what is held of them stands.
    pub(crate) tells_tails: AtomicBool,
    /// From when on each change of measurements of a service reaches, with its number.
    pub(crate) touched: Mutex<BTreeMap<String, Vec<(u64, i64)>>>,
    /// Services of which what was held stood, and how many buckets were sent behind it.
    pub(crate) tails: Mutex<Vec<(String, usize)>>,
    /// Services whose histories were asked for without latency.
    pub(crate) histories_read: Mutex<Vec<String>>,
    /// Histories with latency that were asked for: one a computation, of services that may have any.
    pub(crate) computations: AtomicU64,
    /// Evaluations that asked for doubtful edges as well: one a computation.
    pub(crate) evaluations: AtomicU64,
}

/// What a component does of its own.
pub(crate) struct Behaviour {
    /// Share of requests that fail at any time.
    pub(crate) chronic: f64,
    /// Every so many days an hour in which a quarter fails; 0 for never.
    pub(crate) outage_days: i64,
}

impl World {
    /// The shop: gateway → checkout → {payment → provider, inventory}, gateway → auth → user-db; and a → b → d.
    pub(crate) fn shop() -> Arc<Self> {
        let world = Self { evaluates_at_most: AtomicUsize::new(usize::MAX), ..Self::default() };
        for (id, kind, tier) in [
            ("gateway", EntityKind::Service, Tier::Tier1),
            ("auth", EntityKind::Service, Tier::Tier1),
            ("user-db", EntityKind::Datastore, Tier::Tier1),
            ("checkout", EntityKind::Service, Tier::Tier2),
            ("payment", EntityKind::Service, Tier::Tier2),
            ("inventory", EntityKind::Service, Tier::Tier2),
            ("provider", EntityKind::External, Tier::Tier2),
            ("a", EntityKind::Service, Tier::Tier2),
            ("b", EntityKind::Service, Tier::Tier2),
            ("d", EntityKind::Service, Tier::Tier2),
            ("young", EntityKind::Service, Tier::Tier3),
        ] {
            world.entity(id, kind, tier);
        }
        world.entities.lock().unwrap().get_mut("provider").unwrap().published_availability_ratio = Some(0.995);
        for (caller, callee) in [
            ("gateway", "auth"),
            ("gateway", "checkout"),
            ("auth", "user-db"),
            ("checkout", "payment"),
            ("checkout", "inventory"),
            ("payment", "provider"),
            ("a", "b"),
            ("b", "d"),
        ] {
            world.depend(caller, callee);
        }
        let own = |chronic, outage_days| Behaviour { chronic, outage_days };
        world.simulate(&[
            ("user-db", own(0.0002, 0)),
            ("auth", own(0.0003, 9)),
            ("inventory", own(0.0003, 0)),
            ("payment", own(0.0005, 11)),
            ("checkout", own(0.0004, 13)),
            ("gateway", own(0.0002, 0)),
            ("d", own(0.0005, 0)),
            ("b", own(0.0003, 0)),
            ("a", own(0.0003, 0)),
        ]);
        world.passages.lock().unwrap().push(passage());
        Arc::new(world)
    }

    pub(crate) fn entity(&self, id: &str, kind: EntityKind, tier: Tier) {
        let entity = Entity {
            id: id.into(),
            display_name: id.into(),
            kind: kind as i32,
            tier: tier as i32,
            sources: vec![Source::Declared as i32],
            ..Entity::default()
        };
        self.entities.lock().unwrap().insert(id.into(), entity);
        self.touch("default", id, TOPOLOGY);
        self.touch("default", id, SLI);
    }

    /// Numbers a change and tells the streams.
    pub(crate) fn touch(&self, tenant: &str, id: &str, part: usize) {
        self.touch_from(tenant, id, part, i64::MIN);
    }

    /// A change of measurements that touched nothing before a time.
    pub(crate) fn measure_from(&self, id: &str, from_ms: i64) {
        self.touch_from("default", id, SLI, from_ms);
    }

    /// Until when a history stands that was read when a change was the newest.
    fn unchanged_before(&self, held: &ingestion::HeldHistory) -> i64 {
        let end_ms = unix_millis(held.end_time.as_ref().unwrap());
        let touched = self.touched.lock().unwrap();
        let later =
            touched.get(&held.service_id).into_iter().flatten().filter(|(sequence, _)| *sequence > held.sequence);
        later.map(|(_, from_ms)| *from_ms).fold(end_ms, i64::min)
    }

    fn touch_from(&self, tenant: &str, id: &str, part: usize, from_ms: i64) {
        let mut heads = self.heads.lock().unwrap();
        let sequence = *self.sequence.borrow() + 1;
        heads.entry((tenant.to_owned(), id.to_owned())).or_default()[part] = sequence;
        if part == SLI {
            self.touched.lock().unwrap().entry(id.to_owned()).or_default().push((sequence, from_ms));
        }
        self.sequence.send_replace(sequence);
    }

    /// The newest change of topology, as the graph knows it when it follows.
    pub(crate) fn topology_version(&self) -> u64 {
        self.heads.lock().unwrap().values().map(|head| head[TOPOLOGY]).max().unwrap()
    }

    /// The graph stops following.
    pub(crate) fn freeze_graph(&self) {
        *self.frozen.lock().unwrap() = Some((self.topology_version(), self.dependencies.lock().unwrap().clone()));
    }

    pub(crate) fn thaw_graph(&self) {
        self.frozen.lock().unwrap().take();
    }

    /// What the graph holds.
    fn held(&self) -> (u64, Vec<Dependency>) {
        let frozen = self.frozen.lock().unwrap().clone();
        frozen.unwrap_or_else(|| (self.topology_version(), self.dependencies.lock().unwrap().clone()))
    }

    /// Ends every stream of changes.
    pub(crate) fn cut_streams(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Another database in place of the one before: the same services and rows, numbered from 1; the next change gets a
    /// number past `past`.
    pub(crate) fn replace_database(&self, past: u64) {
        let mut heads = self.heads.lock().unwrap();
        let mut sequence = 0;
        for head in heads.values_mut() {
            *head = [sequence + 1, sequence + 2, 0];
            sequence += 2;
        }
        self.sequence.send_replace(sequence.max(past));
        drop(heads);
        self.cut_streams();
    }

    /// What is left of the log after a number.
    fn log(&self, after: u64) -> Vec<ingestion::StreamChangesResponse> {
        let heads = self.heads.lock().unwrap();
        let of = |((tenant, service), head): (&(String, String), &[u64; 3])| {
            let change = |(part, sequence): (usize, &u64)| ingestion::StreamChangesResponse {
                sequence: *sequence,
                tenant_id: tenant.clone(),
                kind: part as i32 + 1,
                service_id: service.clone(),
                ..Default::default()
            };
            head.iter().enumerate().map(change).collect::<Vec<_>>()
        };
        let mut log: Vec<_> = heads.iter().flat_map(of).filter(|change| change.sequence > after).collect();
        log.sort_by_key(|change| change.sequence);
        log
    }

    pub(crate) fn depend(&self, caller: &str, callee: &str) {
        let dependency = Dependency {
            caller_id: caller.into(),
            callee_id: callee.into(),
            mode: DependencyMode::Hard as i32,
            ..Dependency::default()
        };
        self.dependencies.lock().unwrap().push(dependency);
    }

    /// Thirty days of buckets, callees before callers, failures of the callees traced. The provider, which is not measured,
    /// fails 0.4 % of payment's requests.
    fn simulate(&self, components: &[(&str, Behaviour)]) {
        let dependencies = self.dependencies.lock().unwrap().clone();
        let mut random = Random(42);
        for (id, behaviour) in components {
            let callees: Vec<String> =
                dependencies.iter().filter(|d| d.caller_id == *id).map(|d| d.callee_id.clone()).collect();
            let buckets = (0..DAYS * 288).map(|i| {
                let shares = callees.iter().map(|callee| (callee.clone(), self.failed(callee, i, &mut random)));
                let shares: std::collections::HashMap<String, u64> = shares.filter(|(_, failed)| *failed > 0).collect();
                let inherited: u64 = shares.values().sum();
                let own = random.round(own_ratio(behaviour, i) * REQUESTS as f64);
                let latency =
                    if ["gateway", "checkout"].contains(id) { Some((&latencies(&mut random)).into()) } else { None };
                SliBucket {
                    start_time: Some(timestamp(first_ms() + i * BUCKET_MS)),
                    valid_count: REQUESTS,
                    bad_count: (own + inherited).min(REQUESTS),
                    inherited_bad_count: Some(inherited.min(REQUESTS)),
                    latency,
                    inherited_by_dependency: shares,
                }
            });
            let buckets = buckets.collect();
            self.histories.lock().unwrap().insert((*id).into(), buckets);
        }
    }

    /// Failures of a callee that its caller sees in a bucket, one call a request.
    fn failed(&self, callee: &str, bucket: i64, random: &mut Random) -> u64 {
        let histories = self.histories.lock().unwrap();
        match histories.get(callee) {
            Some(buckets) => buckets[bucket as usize].bad_count,
            None => random.round(0.004 * REQUESTS as f64),
        }
    }

    /// Days more of history, in each bucket of which a share of requests fails.
    pub(crate) fn go_on(&self, id: &str, days: i64, bad_ratio: f64) {
        let mut histories = self.histories.lock().unwrap();
        let history = histories.get_mut(id).unwrap();
        let next_ms = unix_millis(history.last().unwrap().start_time.as_ref().unwrap()) + BUCKET_MS;
        history.extend((0..days * 288).map(|i| SliBucket {
            start_time: Some(timestamp(next_ms + i * BUCKET_MS)),
            valid_count: REQUESTS,
            bad_count: (bad_ratio * REQUESTS as f64) as u64,
            ..SliBucket::default()
        }));
        drop(histories);
        self.touch_measurements(id);
    }

    /// Writes a bucket anew, as ingestion would: the last write wins and the head moves.
    pub(crate) fn rewrite_last_bucket(&self, id: &str, bad_count: u64) {
        let mut histories = self.histories.lock().unwrap();
        let bucket = histories.get_mut(id).unwrap().last_mut().unwrap();
        bucket.bad_count = bad_count;
        bucket.inherited_bad_count = Some(0);
        bucket.inherited_by_dependency.clear();
        let from_ms = unix_millis(bucket.start_time.as_ref().unwrap());
        drop(histories);
        self.measure_from(id, from_ms);
    }

    pub(crate) fn touch_measurements(&self, id: &str) {
        self.touch("default", id, SLI);
    }

    pub(crate) fn touch_topology(&self, id: &str) {
        self.touch("default", id, TOPOLOGY);
    }

    pub(crate) fn touch_incidents(&self, id: &str) {
        self.touch("default", id, INCIDENT);
    }

    fn walk(&self, dependencies: &[Dependency], start: &str, upstream: bool) -> BTreeMap<String, u32> {
        let mut distances = BTreeMap::from([(start.to_owned(), 0)]);
        let mut front = vec![start.to_owned()];
        while let Some(id) = front.pop() {
            let next = distances[&id] + 1;
            for edge in dependencies {
                let (from, to) =
                    if upstream { (&edge.callee_id, &edge.caller_id) } else { (&edge.caller_id, &edge.callee_id) };
                if *from == id && distances.get(to).is_none_or(|known| *known > next) {
                    distances.insert(to.clone(), next);
                    front.push(to.clone());
                }
            }
        }
        distances
    }
}

pub(crate) fn first_ms() -> i64 {
    NOW_MS.div_euclid(BUCKET_MS) * BUCKET_MS - DAYS * 288 * BUCKET_MS
}

fn own_ratio(behaviour: &Behaviour, bucket: i64) -> f64 {
    let hour = bucket / 12;
    let down = behaviour.outage_days > 0 && hour % (24 * behaviour.outage_days) == 24 * behaviour.outage_days - 5;
    if down { 0.25 } else { behaviour.chronic }
}

fn latencies(random: &mut Random) -> LatencyHistogram {
    let mut histogram = LatencyHistogram::empty();
    for (milliseconds, share) in [(40.0, 0.5), (90.0, 0.4), (180.0, 0.08), (450.0, 0.02)] {
        histogram.record_many(milliseconds, random.round(share * REQUESTS as f64));
    }
    histogram
}

fn passage() -> rag::Citation {
    rag::Citation {
        document_id: "runbooks/payment-provider-errors".into(),
        document_version: 3,
        title: "Payment provider errors".into(),
        kind: rag::DocumentKind::Runbook as i32,
        start_offset: 120,
        end_offset: 152,
        quote: "Queue the charge and answer 202.".into(),
        quote_sha256: "0".repeat(64),
        score: 0.1 + 0.2,
        headings: vec!["Mitigation".into()],
        trust: rag::Trust::Normal as i32,
        visibility: rag::Visibility::Tenant as i32,
        review_is_due: false,
    }
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number with this mean.
    fn round(&mut self, mean: f64) -> u64 {
        (mean + self.next()).floor() as u64
    }
}

/// A thousand sampled requests with a tail of 80 ms, a twentieth of which would be left without the callee and all without the service.
fn sampled(request: &graph::AnalyzeLatencyRequest, callee_id: &str) -> graph::SampledLatency {
    let slow = |threshold_ms: &f64| {
        let slow_count = (1_000.0 * libm::exp(-threshold_ms / 80.0)) as u32;
        let without = |part_id: &str, slow_count| graph::SlowWithout { part_id: part_id.to_owned(), slow_count };
        let without = vec![without(callee_id, slow_count / 20), without(&request.service_id, slow_count)];
        graph::SlowRequests { threshold_ms: *threshold_ms, slow_count, without }
    };
    let slow = request.slow_thresholds_ms.iter().map(slow).collect();
    graph::SampledLatency { sample_count: 1_000, slow, ..graph::SampledLatency::default() }
}
