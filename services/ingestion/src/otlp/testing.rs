//! Traces written as text, sent as the receiver does, settled, and read back from storage.

use std::collections::BTreeMap;
use std::sync::Arc;

use attain_vocabulary::{BUCKET_MS, DAY_MS, EntityId, EntityKind, TenantId, bucket_start};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as wire;
use tempfile::TempDir;

use super::assembler::Patience;
use super::backlog::{Backlog, Handed};
use super::counts::Counts;
use super::hosts::HostLimits;
use super::known::KnownNames;
use super::reduce::{Reduced, SpanLimits, reduce};
use super::sampler::SampleLimits;
use super::sent::SentSpans;
use super::settler::{Settler, Settling};
use crate::domain::{BucketLimits, Dependency, ObservedOperation, RequestSample};
use crate::storage::{BucketSpan, Capacity, DaySpan, ReceivedSpans, Store};

pub(super) const NOW_MS: i64 = 1_793_000_000_000;
pub(super) const LIMITS: SpanLimits = SpanLimits {
    time: BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 400 },
    attributes_max: 128,
    value_bytes_max: 1_024,
    links_max: 128,
    weight_max: 1 << 20,
};
pub(super) const PATIENCE: Patience = Patience {
    idle_ms: 10_000,
    max_ms: 60_000,
    spans_per_trace_max: 1_000,
    spans_per_settlement_max: 1_000,
    settled_max: 100_000,
    settled_ms: 3_600_000,
    producers_max: 10_000,
};
pub(super) const HOSTS: HostLimits = HostLimits { days: 7, hosts_max: 100 };
pub(super) const SAMPLES: SampleLimits = SampleLimits { per_hour: 4, kept_ms: 2 * DAY_MS };
pub(super) const SETTLING: Settling =
    Settling { patience: PATIENCE, spans_max: 100_000, hosts: HOSTS, samples: SAMPLES };
/// Everything is due.
pub(super) const LATER_MS: i64 = NOW_MS + 61_000;

/// `id parent service kind start end [!] [key=value …]`, times in milliseconds of the trace, `!` for status ERROR; the keys
/// `name`, `ot` (of the trace state) and `link` (`trace.span`) are no attributes.
pub(super) fn spans(trace: u128, text: &str) -> Vec<(String, wire::Span)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| span(trace, line)).collect()
}

pub(super) fn span(trace: u128, line: &str) -> (String, wire::Span) {
    let mut words = line.split_whitespace();
    let mut next = || words.next().expect(line);
    let (id, parent, service, kind) = (number(next()), number(next()), next().to_owned(), next());
    let (start, end) = (number(next()), number(next()));
    let mut span = wire::Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        kind: 1 + ["internal", "server", "client", "producer", "consumer"].iter().position(|k| *k == kind).expect(line)
            as i32,
        start_time_unix_nano: (NOW_MS as u64 + start) * 1_000_000,
        end_time_unix_nano: (NOW_MS as u64 + end) * 1_000_000,
        ..wire::Span::default()
    };
    for word in words {
        match word.split_once('=') {
            None => span.status = Some(wire::Status { code: 2, message: String::new() }),
            Some(("name", value)) => value.clone_into(&mut span.name),
            Some(("ot", value)) => span.trace_state = format!("ot={}", value.replacen('=', ":", 1)),
            Some(("link", value)) => span.links.push(link(value)),
            Some((key, value)) => span.attributes.push(attribute(key, value)),
        }
    }
    (service, span)
}

/// `trace.span`
fn link(written: &str) -> wire::span::Link {
    let (trace, span) = written.split_once('.').expect(written);
    wire::span::Link {
        trace_id: u128::from(number(trace)).to_be_bytes().to_vec(),
        span_id: number(span).to_be_bytes().to_vec(),
        ..wire::span::Link::default()
    }
}

pub(super) fn number(word: &str) -> u64 {
    word.parse().expect(word)
}

pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    let value = value.parse().map_or_else(|_| Value::StringValue(value.to_owned()), Value::IntValue);
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn export(spans: &[(String, wire::Span)]) -> ExportTraceServiceRequest {
    // `service~region`
    let resource = |service: &str| {
        let (name, region) = service.split_once('~').map_or((service, None), |(name, region)| (name, Some(region)));
        let region = region.map(|region| attribute("cloud.region", region));
        let attributes = std::iter::once(attribute("service.name", name)).chain(region).collect();
        Resource { attributes, ..Resource::default() }
    };
    let resource_spans = spans.iter().map(|(service, span)| wire::ResourceSpans {
        resource: Some(resource(service)),
        scope_spans: vec![wire::ScopeSpans { spans: vec![span.clone()], ..wire::ScopeSpans::default() }],
        ..wire::ResourceSpans::default()
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

pub(super) fn reduced(spans: &[(String, wire::Span)]) -> Reduced {
    reduce(&SentSpans::from(&export(spans)), LIMITS, &KnownNames::default()).expect("an export")
}

pub(super) fn received(tenant: &TenantId, payload: Vec<u8>) -> ReceivedSpans {
    ReceivedSpans { tenant: tenant.clone(), digest: [payload.len() as u8; 16], payload }
}

/// A store, a settler, and the log between them.
pub(super) struct Bench {
    pub(super) folder: TempDir,
    pub(super) store: Store,
    pub(super) settler: Settler,
    pub(super) backlog: Arc<Backlog>,
    pub(super) counts: Arc<Counts>,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Self::open(&folder).await;
        let (settler, backlog, counts) = Self::settler(&store, SETTLING);
        Self { folder, store, settler, backlog, counts }
    }

    pub(super) async fn open(folder: &TempDir) -> Store {
        let url = format!("sqlite:{}", folder.path().join("ingestion.db").display());
        Store::open(
            &url,
            Capacity {
                entities_max: 1_000,
                dependencies_max: 1_000,
                operations_per_service_max: 50,
                call_rate_days: 28,
                request_samples_per_hour: SAMPLES.per_hour,
            },
        )
        .await
        .expect("opened")
    }

    pub(super) fn settler(store: &Store, settling: Settling) -> (Settler, Arc<Backlog>, Arc<Counts>) {
        let (backlog, counts) = (Arc::new(Backlog::default()), Arc::new(Counts::default()));
        (Settler::new(store.clone(), Arc::clone(&backlog), settling, Arc::clone(&counts)), backlog, counts)
    }

    /// The process dies, whatever it had in memory, and starts again.
    pub(super) async fn restart(&mut self) {
        self.store.close().await;
        self.store = Self::open(&self.folder).await;
        (self.settler, self.backlog, self.counts) = Self::settler(&self.store, SETTLING);
    }

    pub(super) async fn send(&self, spans: &[(String, wire::Span)]) {
        assert!(self.send_at(spans, NOW_MS).await, "an export is kept once");
    }

    /// As the receiver does; whether the export was kept.
    pub(super) async fn send_at(&self, spans: &[(String, wire::Span)], now_ms: i64) -> bool {
        let reduced = reduced(spans);
        assert_eq!(reduced.kept_count, spans.len(), "{}", reduced.rejected.message());
        let (digest, tenant) = (reduced.digest(), TenantId::default());
        let received = ReceivedSpans { tenant: tenant.clone(), digest, payload: reduced.payload };
        let sequences = self.store.append_spans(now_ms, &[received]).await.expect("durable");
        let handed = sequences[0].map(|sequence| Handed { tenant, sequence, record: reduced.record });
        self.backlog.hand(handed.into_iter(), 0);
        sequences[0].is_some()
    }

    pub(super) async fn step(&mut self, now_ms: i64) {
        self.settler.step(now_ms).await.expect("settled");
    }

    /// Sends spans, settles them, and reads everything.
    pub(super) async fn settled(text: &str) -> Seen {
        let mut bench = Self::new().await;
        bench.send(&spans(1, text)).await;
        bench.step(NOW_MS).await;
        bench.step(LATER_MS).await;
        bench.seen().await
    }

    /// Operations of a service: callee, name, requests, failures.
    pub(super) async fn operations(&self, service: &str) -> Vec<(String, String, u64, u64)> {
        let service = EntityId::new("id", service).expect("valid");
        let days = DaySpan { first_day: NOW_MS / DAY_MS, end_day: NOW_MS / DAY_MS + 1 };
        let read = self.store.operations(&TenantId::default(), &service, days, None, 1_000).await.expect("read");
        let told = |ObservedOperation { key, seen }: ObservedOperation| {
            let callee = key.callee.map(|callee| callee.to_string()).unwrap_or_default();
            (callee, key.name, seen.request_count, seen.bad_count)
        };
        read.into_iter().map(told).collect()
    }

    /// Sampled requests of a service, newest hour first, those of an hour by rank.
    pub(super) async fn samples(&self, service: &str) -> Vec<RequestSample> {
        let (service, all) =
            (EntityId::new("id", service).expect("valid"), BucketSpan { start_ms: 0, end_ms: i64::MAX });
        let hours = self.store.request_samples(&TenantId::default(), &service, all, 1_000).await.expect("read");
        hours.into_iter().flat_map(|hour| hour.samples).collect()
    }

    pub(super) async fn seen(&self) -> Seen {
        let tenant = TenantId::default();
        let topology = self.store.topology(&tenant).await.expect("read");
        let mut buckets = BTreeMap::new();
        for entity in &topology.entities {
            let span = BucketSpan { start_ms: bucket_start(NOW_MS), end_ms: bucket_start(NOW_MS) + BUCKET_MS };
            let page = self.store.sli_page(&tenant, &entity.id, span, 10, true).await.expect("read");
            for merged in page.buckets {
                let counts = merged.bucket.counts;
                let shares: Vec<String> =
                    merged.bucket.inherited_by_dependency.iter().map(|(id, count)| format!("{id} {count}")).collect();
                let latency_count = merged.bucket.latency.map_or(0, |latency| latency.count());
                let told = (counts.valid(), counts.bad(), counts.inherited_bad(), shares.join(","), latency_count);
                buckets.insert(entity.id.to_string(), told);
            }
        }
        let waiting = self.store.span_log_size().await.expect("read").row_count;
        Seen {
            kinds: topology
                .entities
                .iter()
                .map(|entity| (entity.id.to_string(), (entity.kind(), entity.request_count)))
                .collect(),
            edges: topology
                .dependencies
                .into_iter()
                .map(|edge| (format!("{}>{}", edge.key.caller(), edge.key.callee()), edge))
                .collect(),
            buckets,
            waiting,
        }
    }
}

/// What is stored.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) kinds: BTreeMap<String, (EntityKind, u64)>,
    pub(super) edges: BTreeMap<String, Dependency>,
    /// Valid, bad, inherited, by whom, latencies.
    pub(super) buckets: BTreeMap<String, (u64, u64, Option<u64>, String, u64)>,
    pub(super) waiting: u64,
}

impl Seen {
    /// Calls, requests that called, failures, rescued.
    pub(super) fn edge(&self, edge: &str) -> (u64, u64, u64, u64) {
        let sightings =
            &self.edges.get(edge).unwrap_or_else(|| panic!("{edge} among {:?}", self.edges.keys())).sightings;
        let known = |count: Option<u64>| count.expect("traces know");
        (
            sightings.call_count,
            sightings.calling_request_count,
            known(sightings.failure_count),
            known(sightings.rescued_count),
        )
    }

    pub(super) fn edge_names(&self) -> Vec<&str> {
        self.edges.keys().map(String::as_str).collect()
    }

    pub(super) fn bucket(&self, service: &str) -> (u64, u64, Option<u64>, &str) {
        let (valid, bad, inherited, shares, _) = &self.buckets[service];
        (*valid, *bad, *inherited, shares)
    }
}
