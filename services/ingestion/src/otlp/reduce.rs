//! An export of spans reduced to what joining needs. Events and all other attributes are dropped here: nothing is kept that
//! nothing reads.

use std::collections::{BTreeMap, HashMap};

use attain_redaction::fold_machine;
use attain_vocabulary::{DAY_MS, EntityKind};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::conventions::{Facts, PeerName, text};
use super::known::{KnownNames, UNKNOWN_SERVICE};
use super::operation::{RawName, raw_name};
use super::recent::fingerprint;
use super::sampling::{Sampled, sampled, whole_weight};
use super::sent::{AttributeLimits, Malformed, SentResource, SentSpan, SentSpans};
use super::span::{LinkRecord, PeerRecord, SpanKind, SpanRecord, SpansRecord, peer_kind_number};
use crate::domain::{BucketLimits, Region};
use crate::storage::SpansDigest;

const NANOS_A_MILLI: u64 = 1_000_000;
/// The attribute of a resource that tells where it runs, by the conventions of OpenTelemetry.
pub(super) const REGION: &str = "cloud.region";

/// How much of a span is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanLimits {
    pub(crate) time: BucketLimits,
    /// Most attributes of one span, or of one resource.
    pub(crate) attributes_max: usize,
    /// Longest text of an attribute, in bytes.
    pub(crate) value_bytes_max: usize,
    /// Most links of one span that are read: a batch of messages links to each.
    pub(crate) links_max: usize,
    /// Most spans that one stands for.
    pub(crate) weight_max: u32,
}

impl SpanLimits {
    fn attributes(self) -> AttributeLimits {
        AttributeLimits { attributes_max: self.attributes_max, value_bytes_max: self.value_bytes_max }
    }
}

/// What is left of an export.
#[derive(Debug, PartialEq)]
pub(super) struct Reduced {
    pub(super) record: SpansRecord,
    /// A row of the span log; empty when no span was kept.
    pub(super) payload: Vec<u8>,
    pub(super) kept_count: usize,
    pub(super) rejected: Rejected,
    pub(super) ignored: Ignored,
}

/// Parts of spans that were kept which were not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ignored {
    /// Attributes beyond the number that is read, and too long ones.
    pub(super) attribute_count: usize,
    /// Links beyond the number that is read, and malformed ones.
    pub(super) link_count: usize,
    /// Sampling thresholds that cannot be understood or cannot be right.
    pub(super) weight_count: usize,
}

impl Reduced {
    /// What tells this export from every other one, so that a retry is known.
    pub(super) fn digest(&self) -> SpansDigest {
        let mut digest = SpansDigest::default();
        let length = digest.len();
        digest.copy_from_slice(&Sha256::digest(&self.payload)[..length]);
        digest
    }
}

/// Rows that were refused, by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rejected(BTreeMap<&'static str, usize>);

impl Rejected {
    pub(super) fn note(&mut self, reason: &'static str) {
        self.note_many(reason, 1);
    }

    pub(super) fn note_many(&mut self, reason: &'static str, count: usize) {
        *self.0.entry(reason).or_insert(0) += count;
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// For people: every reason and how often.
    pub(super) fn message(&self) -> String {
        let reasons: Vec<String> = self.0.iter().map(|(reason, count)| format!("{reason} ({count})")).collect();
        reasons.join("; ")
    }
}

/// Reduces an export; spans that cannot be right are left out and counted.
pub(super) fn reduce(export: &SentSpans, limits: SpanLimits, known: &KnownNames) -> Result<Reduced, Malformed> {
    let mut reducer = Reducer::new(limits, known);
    let mut rejected = Rejected::default();
    for resource in &export.resource_spans {
        let resource = SentResource::read(resource, limits.attributes())?;
        let of = (reducer.service(&resource), reducer.region(&resource));
        resource.each_span(limits.attributes(), |span| {
            match reducer.span(&span, of)? {
                Ok(record) => reducer.record.spans.push(record),
                Err(reason) => rejected.note(reason),
            }
            Ok(())
        })?;
    }
    let Reducer { record, ignored, .. } = reducer;
    let kept_count = record.spans.len();
    let payload = if kept_count == 0 { Vec::new() } else { record.encode_to_vec() };
    Ok(Reduced { record, payload, kept_count, rejected, ignored })
}

/// The name of the service that a resource describes.
pub(super) fn service_name(resource: Option<&Resource>, limits: AttributeLimits) -> attain_vocabulary::EntityId {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    let named = said_last(attributes, "service.name", limits).and_then(super::known::entity_name);
    named.unwrap_or_else(super::known::unknown_service)
}

/// Where a resource runs; `None` where it does not say.
pub(super) fn region(resource: Option<&Resource>, limits: AttributeLimits) -> Option<Region> {
    let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
    said_last(attributes, REGION, limits).and_then(super::known::entity_name).map(Region::observed)
}

/// The last text of an attribute among those that are read.
pub(super) fn said_last<'a>(attributes: &'a [KeyValue], key: &str, limits: AttributeLimits) -> Option<&'a str> {
    let read = &attributes[..attributes.len().min(limits.attributes_max)];
    let said = read.iter().rev().find(|attribute| attribute.key == key);
    let said = said.and_then(|attribute| attribute.value.as_ref()).and_then(text);
    said.filter(|said| said.len() <= limits.value_bytes_max)
}

/// What tells a span from every other one, and its texts.
struct Identity<'r> {
    trace_id: u128,
    span_id: u64,
    /// 0 for none.
    parent_id: u64,
    name: &'r str,
    trace_state: &'r str,
}

struct Reducer<'r> {
    limits: SpanLimits,
    known: &'r KnownNames,
    record: SpansRecord,
    ignored: Ignored,
    names: HashMap<String, u32>,
    peers: HashMap<PeerName, u32>,
    operations: HashMap<RawName<'r>, u32>,
}

impl<'r> Reducer<'r> {
    fn new(limits: SpanLimits, known: &'r KnownNames) -> Self {
        Self {
            limits,
            known,
            record: SpansRecord::default(),
            ignored: Ignored::default(),
            names: HashMap::new(),
            peers: HashMap::new(),
            operations: HashMap::new(),
        }
    }

    fn service(&mut self, resource: &SentResource<'_>) -> u32 {
        self.ignored.attribute_count += resource.ignored_attribute_count;
        match resource.service_name.and_then(|name| self.known.entity(name)) {
            Some(name) => self.name(&name),
            None => self.name(UNKNOWN_SERVICE),
        }
    }

    /// From 1; 0 where the resource does not say.
    fn region(&mut self, resource: &SentResource<'_>) -> u32 {
        let name = resource.region.and_then(|name| self.known.entity(name));
        name.map_or(0, |name| self.name(&name) + 1)
    }

    /// What is kept of a span, or why nothing is.
    fn span(
        &mut self,
        span: &SentSpan<'r>,
        (service, region): (u32, u32),
    ) -> Result<Result<SpanRecord, &'static str>, Malformed> {
        let identity = match self.identity(span) {
            Ok(identity) => identity,
            Err(reason) => return Ok(Err(reason)),
        };
        let Identity { trace_id, span_id, parent_id, name, trace_state } = identity;
        self.ignored.attribute_count += span.ignored_attribute_count;
        let facts = &span.facts;
        let kind = SpanKind::from_number(span.kind);
        let status_error = span.status_code == StatusCode::Error as i64;
        self.links(span, kind, trace_id)?;
        let outside = kind != SpanKind::Internal;
        Ok(Ok(SpanRecord {
            trace_id_high: (trace_id >> 64) as u64,
            trace_id_low: trace_id as u64,
            span_id,
            parent_id,
            service,
            kind: kind.number(),
            start_ns: span.start_ns,
            duration_ns: span.end_ns - span.start_ns,
            failed: facts.failed(status_error),
            peer: if outside { self.peer_of(facts, kind) } else { 0 },
            protocol: facts.protocol().filter(|_| outside).map_or(0, |protocol| self.protocol(protocol)),
            operation: if outside { self.operation(facts, name) } else { 0 },
            further_count: self.weight(trace_state, trace_id) as i32 - 1,
            resent: facts.resent(),
            // Only requests are counted by region.
            region: if kind.is_request() { region } else { 0 },
            sends: kind == SpanKind::Producer || (kind.is_call() && facts.is_messaging() && facts.sends()),
        }))
    }

    /// What a span has to have to be kept.
    fn identity(&self, span: &SentSpan<'r>) -> Result<Identity<'r>, &'static str> {
        let trace_id = id::<16>(span.trace_id).map(u128::from_be_bytes).filter(|id| *id != 0);
        let span_id = id::<8>(span.span_id).map(u64::from_be_bytes).filter(|id| *id != 0);
        let parent_id =
            if span.parent_span_id.is_empty() { Some(0) } else { id::<8>(span.parent_span_id).map(u64::from_be_bytes) };
        let identity = Identity {
            trace_id: trace_id.ok_or("trace_id is not 16 bytes with one that is not zero")?,
            span_id: span_id.ok_or("span_id is not 8 bytes with one that is not zero")?,
            parent_id: parent_id.ok_or("parent_span_id is neither empty nor 8 bytes")?,
            name: str::from_utf8(span.name).map_err(|_| "the name is not UTF-8")?,
            trace_state: str::from_utf8(span.trace_state).map_err(|_| "trace_state is not UTF-8")?,
        };
        if span.start_ns == 0 {
            return Err("start_time_unix_nano is missing");
        }
        if span.end_ns < span.start_ns {
            return Err("the span ends before it starts");
        }
        within(self.limits.time, span.start_ns)?;
        within(self.limits.time, span.end_ns)?;
        Ok(identity)
    }

    /// Whom a call went to; of a consumer, where its messages came from.
    fn peer_of(&mut self, facts: &Facts<'r>, kind: SpanKind) -> u32 {
        let tells = kind.is_call() || (kind == SpanKind::Consumer && facts.is_messaging());
        let peer = if tells { facts.peer() } else { None };
        let of_kind = |peer: &PeerName| kind != SpanKind::Consumer || peer.kind == EntityKind::Queue;
        peer.filter(of_kind).map_or(0, |peer| self.peer(peer))
    }

    fn weight(&mut self, trace_state: &str, trace_id: u128) -> u32 {
        match sampled(trace_state) {
            Sampled::All => 1,
            Sampled::NotCounted => 0,
            Sampled::OneOf(factor) => {
                self.ignored.weight_count += usize::from(factor > f64::from(self.limits.weight_max));
                whole_weight(factor, trace_id, self.limits.weight_max)
            }
            Sampled::Malformed => {
                self.ignored.weight_count += 1;
                1
            }
        }
    }

    /// Keeps what a consumer's span links to, but for its parent, which joining finds by itself.
    fn links(&mut self, span: &SentSpan<'r>, kind: SpanKind, trace_id: u128) -> Result<(), Malformed> {
        if kind != SpanKind::Consumer || span.link_count == 0 {
            return Ok(());
        }
        let place = self.record.spans.len() as u32;
        self.ignored.link_count += span.link_count.saturating_sub(self.limits.links_max);
        for link in span.links(self.limits.links_max)? {
            let of_trace = id::<16>(link.trace_id).map(u128::from_be_bytes);
            let to = id::<8>(link.span_id).map(u64::from_be_bytes);
            match (of_trace, to) {
                (Some(of_trace), Some(_)) if of_trace == trace_id && link.span_id == span.parent_span_id => {}
                (Some(of_trace), Some(to)) if of_trace != 0 && to != 0 => {
                    self.record.links.push(LinkRecord { span: place, fingerprint: fingerprint(of_trace, to) });
                }
                _ => self.ignored.link_count += 1,
            }
        }
        Ok(())
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(place) = self.names.get(name) {
            return *place;
        }
        let place = self.record.names.len() as u32;
        self.record.names.push(name.to_owned());
        self.names.insert(name.to_owned(), place);
        place
    }

    /// From 1. A protocol is a word; whatever is not one is bent like a name.
    fn protocol(&mut self, protocol: &str) -> u32 {
        if let Some(place) = self.names.get(protocol) {
            return *place + 1;
        }
        self.known.entity(protocol).map_or(0, |bent| self.name(&bent) + 1)
    }

    /// From 1; 0 where nothing tells.
    fn operation(&mut self, facts: &Facts<'r>, span_name: &'r str) -> u32 {
        let Some(raw) = raw_name(facts, span_name) else { return 0 };
        if let Some(place) = self.operations.get(&raw) {
            return *place;
        }
        // A long name is not remembered, but redacted whole: what was cut first could not be known for a secret any more.
        let kept =
            if raw.is_longer_than(self.limits.value_bytes_max) { raw.kept().into() } else { self.known.operation(raw) };
        let place = if kept.is_empty() { 0 } else { self.name(&kept) + 1 };
        self.operations.insert(raw, place);
        place
    }

    /// From 1; 0 where the name has nothing that a name can have.
    fn peer(&mut self, peer: PeerName) -> u32 {
        if let Some(place) = self.peers.get(&peer) {
            return *place;
        }
        let Some(id) = self.known.entity(&peer.name) else { return 0 };
        // After redaction, which knows secrets by their whole shape.
        let id = fold_machine(&id).into_owned();
        self.record.peers.push(PeerRecord { id, kind: peer_kind_number(peer.kind) });
        let place = self.record.peers.len() as u32;
        self.peers.insert(peer, place);
        place
    }
}

/// Whether a time is neither in the future nor too long ago.
pub(super) fn within(limits: BucketLimits, time_ns: u64) -> Result<(), &'static str> {
    let time_ms = (time_ns / NANOS_A_MILLI) as i64;
    if time_ms > limits.now_ms.saturating_add(limits.future_skew_ms) {
        return Err("the time is in the future (ingestion.future_skew_seconds)");
    }
    if time_ms < limits.now_ms.saturating_sub(i64::from(limits.age_days_max) * DAY_MS) {
        return Err("the time is too long ago (ingestion.bucket_age_days_max, history_days)");
    }
    Ok(())
}

fn id<const LENGTH: usize>(bytes: &[u8]) -> Option<[u8; LENGTH]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::span::{Span, decode};
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::trace::v1::{self as wire, ResourceSpans, ScopeSpans};

    const NOW_MS: i64 = 1_793_000_000_000;
    const LIMITS: SpanLimits = SpanLimits {
        time: BucketLimits { now_ms: NOW_MS, future_skew_ms: 300_000, age_days_max: 400 },
        attributes_max: 4,
        value_bytes_max: 40,
        links_max: 128,
        weight_max: 1 << 20,
    };
    const NOW_NS: u64 = NOW_MS as u64 * NANOS_A_MILLI;

    fn span() -> wire::Span {
        wire::Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            kind: 3,
            start_time_unix_nano: NOW_NS,
            end_time_unix_nano: NOW_NS + 5,
            ..wire::Span::default()
        }
    }

    fn said(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    fn export(service: Option<&str>, spans: Vec<wire::Span>) -> SentSpans {
        let attributes = service.map(|name| said("service.name", name)).into_iter().collect();
        let resource = Some(Resource { attributes, ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        SentSpans::from(&ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
        })
    }

    #[test]
    fn spans_that_cannot_be_right_are_left_out_and_named() {
        let cases = [
            (wire::Span { trace_id: vec![1; 15], ..span() }, "trace_id"),
            (wire::Span { trace_id: vec![0; 16], ..span() }, "trace_id"),
            (wire::Span { span_id: vec![], ..span() }, "span_id"),
            (wire::Span { span_id: vec![0; 8], ..span() }, "span_id"),
            (wire::Span { parent_span_id: vec![1; 7], ..span() }, "parent_span_id"),
            (wire::Span { start_time_unix_nano: 0, ..span() }, "start_time_unix_nano"),
            (wire::Span { end_time_unix_nano: 0, ..span() }, "ends before"),
            (wire::Span { start_time_unix_nano: u64::MAX - 1, end_time_unix_nano: u64::MAX, ..span() }, "future"),
            (wire::Span { end_time_unix_nano: u64::MAX, ..span() }, "future"),
            (wire::Span { start_time_unix_nano: 1, ..span() }, "long ago"),
        ];
        for (bad, named) in cases {
            let reduced = reduce(&export(Some("cart"), vec![bad, span()]), LIMITS, &KnownNames::default());
            let reduced = reduced.expect("an export");
            assert_eq!((reduced.kept_count, reduced.rejected.count()), (1, 1), "{named}");
            assert!(reduced.rejected.message().contains(named), "{}", reduced.rejected.message());
        }
    }

    /// The first kept span, with what it names.
    fn kept(reduced: &Reduced) -> (Span, Names) {
        let mut names = Names::default();
        let spans = decode(&reduced.payload, &mut names).expect("a row");
        (spans.spans[0], names)
    }

    fn reduced(service: Option<&str>, span: wire::Span) -> Reduced {
        reduce(&export(service, vec![span]), LIMITS, &KnownNames::default()).expect("an export")
    }

    #[test]
    fn what_is_kept_is_what_joining_needs() {
        let mut sent = span();
        sent.parent_span_id = vec![3; 8];
        sent.name = "GET /users/jane@example.com".into();
        sent.attributes =
            vec![said("db.system", "postgresql"), said("db.name", "users"), said("db.statement", "SELECT secret")];
        sent.status = Some(wire::Status { code: 2, message: "secret".into() });
        let reduced = reduced(Some("user service"), sent);
        let (kept, names) = kept(&reduced);
        assert_eq!(names.text(kept.service), "user-service");
        assert_eq!((kept.trace_id, kept.parent_id), (u128::from_be_bytes([1; 16]), u64::from_be_bytes([3; 8])));
        assert_eq!((kept.kind, kept.failed, kept.duration_ns, kept.weight), (SpanKind::Client, true, 5, 1));
        assert_eq!((names.text(kept.peer), kept.peer_kind), ("postgresql/users", EntityKind::Datastore));
        assert_eq!((names.text(kept.protocol), names.text(kept.operation)), ("sql", "GET"));
        let bytes = String::from_utf8_lossy(&reduced.payload).into_owned();
        assert!(!bytes.contains("jane") && !bytes.contains("secret"), "{bytes}");
    }

    #[test]
    fn whoever_has_no_name_is_unknown_and_secrets_in_names_go() {
        for (name, expected) in [(None, "unknown_service"), (Some("***"), "unknown_service"), (Some("a"), "a")] {
            let (kept, names) = kept(&reduced(name, span()));
            assert_eq!(names.text(kept.service), expected);
        }
        let mut sent = span();
        sent.attributes = vec![said("peer.service", "mail to jane.doe@example.com")];
        let (kept, names) = kept(&reduced(None, sent));
        assert!(!names.text(kept.peer).is_empty() && !names.text(kept.peer).contains("jane"));
    }

    #[test]
    fn attributes_beyond_the_bounds_are_not_read_and_counted() {
        let mut sent = span();
        sent.attributes = vec![said("http.url", &format!("https://x.example.com/{}", "y".repeat(40)))];
        sent.attributes.extend((0..3).map(|n| said(&n.to_string(), "")));
        sent.attributes.push(said("peer.service", "too-late"));
        let reduced = reduced(Some(&"s".repeat(41)), sent);
        let (kept, names) = kept(&reduced);
        assert_eq!((names.text(kept.peer), names.text(kept.service)), ("", UNKNOWN_SERVICE));
        assert_eq!(reduced.ignored.attribute_count, 2);
    }

    #[test]
    fn machines_and_queues_that_are_drawn_anew_have_one_name() {
        for (attributes, expected) in [
            (vec![said("server.address", "cart-7d9f8b6c5-x2x4z.shop.svc")], "cart.shop.svc"),
            (
                vec![
                    said("messaging.system", "rabbitmq"),
                    said("messaging.destination.name", "amq.gen-JzTY20BRgKO-HjmUJj0wLg"),
                ],
                "rabbitmq/amq.gen-id",
            ),
        ] {
            let limits = SpanLimits { value_bytes_max: 100, ..LIMITS };
            let sent = wire::Span { attributes, ..span() };
            let reduced = reduce(&export(None, vec![sent]), limits, &KnownNames::default()).expect("an export");
            let (kept, names) = kept(&reduced);
            assert_eq!(names.text(kept.peer), expected);
        }
    }

    #[test]
    fn sampled_spans_stand_for_several() {
        for (state, weight, ignored) in [
            ("ot=th:c", 4, 0),
            ("ot=p:3", 8, 0),
            ("ot=p:63", 0, 0),
            ("ot=th:x", 1, 1),
            ("ot=p:62", LIMITS.weight_max, 1),
        ] {
            let reduced = reduced(None, wire::Span { trace_state: state.into(), ..span() });
            assert_eq!((kept(&reduced).0.weight, reduced.ignored.weight_count), (weight, ignored), "{state}");
        }
    }

    #[test]
    fn consumers_keep_what_they_link_to() {
        let link = |trace: u8, to: u8| wire::span::Link {
            trace_id: vec![trace; 16],
            span_id: vec![to; 8],
            ..wire::span::Link::default()
        };
        let links: Vec<wire::span::Link> = (1..=130).map(|to| link(9, to)).chain([link(0, 1)]).collect();
        let sent = wire::Span { kind: 5, links: links.clone(), ..span() };
        let consumer = reduced(None, sent.clone());
        assert_eq!((consumer.record.links.len(), consumer.ignored.link_count), (LIMITS.links_max, 3));
        let to_parent = wire::Span { parent_span_id: vec![4; 8], links: vec![link(1, 4), link(0, 1)], ..sent.clone() };
        let consumer = reduced(None, to_parent);
        assert_eq!((consumer.record.links.len(), consumer.ignored.link_count), (0, 1), "the parent is found without");
        assert!(reduced(None, wire::Span { kind: 2, ..sent }).record.links.is_empty());
    }

    #[test]
    fn a_long_name_is_redacted_before_it_is_cut() {
        // What is folded makes room, so that what stands where the name used to be cut would be kept.
        let folded = "x".repeat(70);
        for (name, expected) in [
            (format!("GET /{folded}/jane.doe@example.com/orders"), "GET /{id}/[redacted:email]/orders"),
            (format!("pay {folded} 4111 1111 1111 1111"), "pay {id} [redacted:card]"),
            (format!("{folded} password=hunter2secret"), "{id} password=[redacted:secret]"),
        ] {
            // Wherever the bound falls.
            for value_bytes_max in [10, 80, 85, 90, 95, 100] {
                let sent = wire::Span { name: name.clone(), ..span() };
                let limits = SpanLimits { value_bytes_max, ..LIMITS };
                let reduced = reduce(&export(None, vec![sent]), limits, &KnownNames::default()).expect("an export");
                let (kept, names) = kept(&reduced);
                assert_eq!(names.text(kept.operation), expected, "at {value_bytes_max}");
            }
        }
    }

    #[test]
    fn equal_exports_have_equal_digests_and_others_do_not() {
        let other = wire::Span { span_id: vec![3; 8], ..span() };
        assert_eq!(reduced(Some("a"), span()).digest(), reduced(Some("a"), span()).digest());
        assert_ne!(reduced(Some("a"), span()).digest(), reduced(Some("a"), other).digest());
        assert_ne!(reduced(Some("a"), span()).digest(), reduced(Some("b"), span()).digest());
    }

    #[test]
    fn nothing_kept_is_no_row() {
        let reduced = reduce(&SentSpans::default(), LIMITS, &KnownNames::default()).expect("an export");
        assert!(reduced.payload.is_empty());
    }

    #[test]
    fn texts_that_are_none_cost_their_span_alone() {
        for field in [3, 5] {
            let mut whole = span().encode_to_vec();
            whole.extend([field << 3 | 2, 1, 0xff]);
            let mut resource = vec![18, whole.len() as u8 + 2, 18, whole.len() as u8];
            resource.extend(whole);
            let good = export(None, vec![span()]).resource_spans;
            let sent = SentSpans { resource_spans: [vec![resource.into()], good].concat() };
            let reduced = reduce(&sent, LIMITS, &KnownNames::default()).expect("an export");
            assert_eq!(reduced.kept_count, 1);
            assert!(reduced.rejected.message().contains("not UTF-8"), "{}", reduced.rejected.message());
        }
        assert!(
            reduce(&SentSpans { resource_spans: vec![vec![18, 9].into()] }, LIMITS, &KnownNames::default()).is_err()
        );
    }
}
