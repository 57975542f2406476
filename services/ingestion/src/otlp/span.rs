//! A span reduced to what joining needs, and how the span log keeps it.

use attain_vocabulary::{EntityId, EntityKind};
use prost::Message;

use super::names::{Names, Symbol};

/// One span. Times are in nanoseconds since the Unix epoch; names are those of the settler's [`Names`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    /// 0 for none.
    pub(super) parent_id: u64,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    pub(super) service: Symbol,
    /// Whom a call went to, or which queue a message came from, as far as this side tells.
    pub(super) peer: Symbol,
    pub(super) operation: Symbol,
    pub(super) protocol: Symbol,
    /// Where a request was answered.
    pub(super) region: Symbol,
    /// How many spans it stands for.
    pub(super) weight: u32,
    pub(super) kind: SpanKind,
    pub(super) peer_kind: EntityKind,
    /// In the sense of an SLI.
    pub(super) failed: bool,
    /// The sender says that it repeats an earlier call.
    pub(super) resent: bool,
    /// It hands a message on: consumers may link to it.
    pub(super) sends: bool,
}

/// Spans of one row of the span log.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Spans {
    pub(super) spans: Vec<Span>,
    /// Place of a consumer's span, and the fingerprint of the span that sent what it consumed; by place.
    pub(super) links: Vec<(u32, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    /// A request from outside arrives.
    pub(super) fn is_request(self) -> bool {
        matches!(self, Self::Server | Self::Consumer)
    }

    /// A request goes out.
    pub(super) fn is_call(self) -> bool {
        matches!(self, Self::Client | Self::Producer)
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::Internal => 1,
            Self::Server => 2,
            Self::Client => 3,
            Self::Producer => 4,
            Self::Consumer => 5,
        }
    }

    /// By OpenTelemetry's numbers; what is not said is internal.
    pub(super) fn from_number(number: i64) -> Self {
        match number {
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => Self::Internal,
        }
    }
}

/// Reduced spans of one export, as one row of the span log keeps them. Names stand once. Fields are only ever added.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SpansRecord {
    #[prost(string, repeated, tag = "1")]
    pub(super) names: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) peers: Vec<PeerRecord>,
    #[prost(message, repeated, tag = "3")]
    pub(super) spans: Vec<SpanRecord>,
    /// By place of the span.
    #[prost(message, repeated, tag = "4")]
    pub(super) links: Vec<LinkRecord>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PeerRecord {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
}

/// What a consumer's span links to.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LinkRecord {
    /// Place in `spans`.
    #[prost(uint32, tag = "1")]
    pub(super) span: u32,
    #[prost(fixed64, tag = "2")]
    pub(super) fingerprint: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct SpanRecord {
    #[prost(fixed64, tag = "1")]
    pub(super) trace_id_high: u64,
    #[prost(fixed64, tag = "2")]
    pub(super) trace_id_low: u64,
    #[prost(fixed64, tag = "3")]
    pub(super) span_id: u64,
    #[prost(fixed64, tag = "4")]
    pub(super) parent_id: u64,
    /// Place in `names`.
    #[prost(uint32, tag = "5")]
    pub(super) service: u32,
    #[prost(uint32, tag = "6")]
    pub(super) kind: u32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_ns: u64,
    #[prost(uint64, tag = "8")]
    pub(super) duration_ns: u64,
    #[prost(bool, tag = "9")]
    pub(super) failed: bool,
    /// Place in `peers`, from 1; 0 for none.
    #[prost(uint32, tag = "10")]
    pub(super) peer: u32,
    /// Place in `names`, from 1; 0 for none.
    #[prost(uint32, tag = "11")]
    pub(super) protocol: u32,
    /// Place in `names`, from 1; 0 for none.
    #[prost(uint32, tag = "12")]
    pub(super) operation: u32,
    /// How many other spans it stands for; -1 where it does not even stand for itself.
    #[prost(sint32, tag = "13")]
    pub(super) further_count: i32,
    #[prost(bool, tag = "14")]
    pub(super) resent: bool,
    #[prost(bool, tag = "15")]
    pub(super) sends: bool,
    /// Place in `names`, from 1; 0 for none.
    #[prost(uint32, tag = "16")]
    pub(super) region: u32,
}

/// The kinds that a peer may have, by their number in the record.
const PEER_KINDS: [EntityKind; 4] = [EntityKind::External, EntityKind::Datastore, EntityKind::Cache, EntityKind::Queue];

pub(super) fn peer_kind_number(kind: EntityKind) -> u32 {
    PEER_KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u32
}

/// Reads a row of the span log; `None` where it is not one.
pub(super) fn decode(payload: &[u8], names: &mut Names) -> Option<Spans> {
    read(&SpansRecord::decode(payload).ok()?, names)
}

/// The spans of a record; `None` where it contradicts itself.
pub(super) fn read(record: &SpansRecord, names: &mut Names) -> Option<Spans> {
    let symbols: Vec<Symbol> = record.names.iter().map(|name| names.intern(name)).collect();
    // A name may be a service, a protocol or an operation: only those that are used as services must name entities.
    let services: Vec<Symbol> = record
        .names
        .iter()
        .zip(&symbols)
        .map(|(name, symbol)| if EntityId::new("service", name).is_ok() { *symbol } else { Symbol::NONE })
        .collect();
    let peers = record.peers.iter().map(|peer| read_peer(peer, names)).collect::<Option<Vec<_>>>()?;
    let tables = Tables { services, symbols, peers };
    let spans = record.spans.iter().map(|span| tables.read_span(span)).collect::<Option<Vec<_>>>()?;
    let fits = |link: &LinkRecord| (link.span as usize) < spans.len();
    let ascend = record.links.is_sorted_by_key(|link| link.span);
    let links = (ascend && record.links.iter().all(fits))
        .then(|| record.links.iter().map(|link| (link.span, link.fingerprint)).collect())?;
    Some(Spans { spans, links })
}

fn read_peer(record: &PeerRecord, names: &mut Names) -> Option<(Symbol, EntityKind)> {
    EntityId::new("peer", &record.id).ok()?;
    Some((names.intern(&record.id), *PEER_KINDS.get(record.kind as usize)?))
}

struct Tables {
    /// None where a name cannot be a service's.
    services: Vec<Symbol>,
    symbols: Vec<Symbol>,
    peers: Vec<(Symbol, EntityKind)>,
}

impl Tables {
    fn read_span(&self, record: &SpanRecord) -> Option<Span> {
        let service = *self.services.get(record.service as usize)?;
        let (peer, peer_kind) = match record.peer.checked_sub(1) {
            None => (Symbol::NONE, EntityKind::External),
            Some(place) => *self.peers.get(place as usize)?,
        };
        (!service.is_none()).then_some(())?;
        Some(Span {
            trace_id: u128::from(record.trace_id_high) << 64 | u128::from(record.trace_id_low),
            span_id: record.span_id,
            parent_id: record.parent_id,
            start_ns: record.start_ns,
            duration_ns: record.duration_ns,
            service,
            peer,
            operation: self.name(record.operation)?,
            protocol: self.name(record.protocol)?,
            region: self.region(record.region)?,
            weight: u32::try_from(i64::from(record.further_count) + 1).ok()?,
            kind: SpanKind::from_number(i64::from(record.kind)),
            peer_kind,
            failed: record.failed,
            resent: record.resent,
            sends: record.sends,
        })
    }

    /// The region at a place counted from 1, none for 0 and for what cannot name one; `None` where there is no such place.
    fn region(&self, place: u32) -> Option<Symbol> {
        match place.checked_sub(1) {
            None => Some(Symbol::NONE),
            Some(place) => self.services.get(place as usize).copied(),
        }
    }

    /// The name at a place counted from 1, none for 0; `None` where there is no such place.
    fn name(&self, place: u32) -> Option<Symbol> {
        match place.checked_sub(1) {
            None => Some(Symbol::NONE),
            Some(place) => self.symbols.get(place as usize).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(record: &SpansRecord) -> bool {
        decode(&record.encode_to_vec(), &mut Names::default()).is_none()
    }

    #[test]
    fn what_is_no_row_is_none() {
        assert_eq!(decode(b"\xff\xff", &mut Names::default()), None);
        let named = |name: &str| SpansRecord {
            names: vec![name.into()],
            spans: vec![SpanRecord::default()],
            ..SpansRecord::default()
        };
        assert!(!refused(&named("a")) && refused(&named("not a name")));
        let of = |span| SpansRecord { spans: vec![span], ..named("a") };
        assert!(refused(&of(SpanRecord { service: 3, ..SpanRecord::default() })));
        assert!(refused(&of(SpanRecord { operation: 2, ..SpanRecord::default() })));
        assert!(refused(&of(SpanRecord { region: 2, ..SpanRecord::default() })));
        assert!(refused(&of(SpanRecord { peer: 1, ..SpanRecord::default() })));
        assert!(refused(&of(SpanRecord { further_count: -2, ..SpanRecord::default() })));
        assert!(refused(&SpansRecord { links: vec![LinkRecord { span: 1, fingerprint: 2 }], ..named("a") }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes, &mut Names::default());
        }
    }
}
