//! A span reduced to what joining needs, and how the span log keeps it.

use std::sync::Arc;

use attain_vocabulary::{EntityId, EntityKind};
use prost::Message;

/// One span. Times are in nanoseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) trace_id: u128,
    pub(super) span_id: u64,
    /// 0 for none.
    pub(super) parent_id: u64,
    pub(super) service: Arc<EntityId>,
    pub(super) kind: SpanKind,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    /// In the sense of an SLI.
    pub(super) failed: bool,
    /// Whom a call went to, as far as the caller's side tells.
    pub(super) peer: Option<Arc<Peer>>,
    pub(super) protocol: Option<Arc<str>>,
}

/// Whom a call went to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) id: EntityId,
    pub(super) kind: EntityKind,
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

    fn number(self) -> u32 {
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
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PeerRecord {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
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
}

impl SpanRecord {
    pub(super) fn kind_number(kind: SpanKind) -> u32 {
        kind.number()
    }
}

/// The kinds that a peer may have, by their number in the record.
const PEER_KINDS: [EntityKind; 4] = [EntityKind::External, EntityKind::Datastore, EntityKind::Cache, EntityKind::Queue];

pub(super) fn peer_kind_number(kind: EntityKind) -> u32 {
    PEER_KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u32
}

/// Reads a row of the span log; `None` where it is not one.
pub(super) fn decode(payload: &[u8]) -> Option<Vec<Span>> {
    let record = SpansRecord::decode(payload).ok()?;
    // A name may be a service, a protocol or both: only those that are used as services must be names of entities.
    let services: Vec<Option<Arc<EntityId>>> =
        record.names.iter().map(|name| EntityId::new("service", name).ok().map(Arc::new)).collect();
    let protocols: Vec<Arc<str>> = record.names.iter().map(|name| Arc::from(name.as_str())).collect();
    let peers = record.peers.iter().map(read_peer).collect::<Option<Vec<_>>>()?;
    record.spans.iter().map(|span| read_span(span, &services, &protocols, &peers)).collect()
}

fn read_peer(record: &PeerRecord) -> Option<Arc<Peer>> {
    let id = EntityId::new("peer", &record.id).ok()?;
    Some(Arc::new(Peer { id, kind: *PEER_KINDS.get(record.kind as usize)? }))
}

fn read_span(
    record: &SpanRecord,
    services: &[Option<Arc<EntityId>>],
    protocols: &[Arc<str>],
    peers: &[Arc<Peer>],
) -> Option<Span> {
    Some(Span {
        trace_id: u128::from(record.trace_id_high) << 64 | u128::from(record.trace_id_low),
        span_id: record.span_id,
        parent_id: record.parent_id,
        service: services.get(record.service as usize)?.clone()?,
        kind: SpanKind::from_number(i64::from(record.kind)),
        start_ns: record.start_ns,
        duration_ns: record.duration_ns,
        failed: record.failed,
        peer: from_one(peers, record.peer)?,
        protocol: from_one(protocols, record.protocol)?,
    })
}

/// The element at a place counted from 1; `Some(None)` for 0, `None` where there is no such place.
fn from_one<T: Clone>(list: &[T], place: u32) -> Option<Option<T>> {
    match place.checked_sub(1) {
        None => Some(None),
        Some(index) => list.get(index as usize).cloned().map(Some),
    }
}

/// Which spans of a row wait, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    bits: Vec<u8>,
    count: usize,
}

impl Waiting {
    /// All of `length`.
    pub(super) fn all(length: usize) -> Self {
        let mut waiting = Self { bits: vec![0; length.div_ceil(8)], count: length };
        for index in 0..length {
            waiting.bits[index / 8] |= 1 << (index % 8);
        }
        waiting
    }

    /// What a settlement left of a row of `length` spans; `None` where the bits are not of such a row.
    pub(super) fn read(bits: &[u8], length: usize) -> Option<Self> {
        let fits = bits.len() == length.div_ceil(8);
        let count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        (fits && count <= length).then(|| Self { bits: bits.to_vec(), count })
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.bits.get(index / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0)
    }

    pub(super) fn remove(&mut self, index: usize) {
        if self.contains(index) {
            self.bits[index / 8] &= !(1 << (index % 8));
            self.count -= 1;
        }
    }

    /// How the log keeps it; `None` when none waits.
    pub(super) fn stored(&self) -> Option<Vec<u8>> {
        (self.count > 0).then(|| self.bits.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_row_is_none() {
        assert_eq!(decode(b"\xff\xff"), None);
        let dangling =
            SpansRecord { spans: vec![SpanRecord { service: 3, ..SpanRecord::default() }], ..SpansRecord::default() };
        assert_eq!(decode(&dangling.encode_to_vec()), None);
        let nameless = SpansRecord {
            names: vec!["not a name".into()],
            spans: vec![SpanRecord::default()],
            ..SpansRecord::default()
        };
        assert_eq!(decode(&nameless.encode_to_vec()), None);
        assert_eq!(Waiting::read(&[0xff, 0xff], 3), None);
        assert_eq!(Waiting::read(&[0xff], 3), None);
    }

    proptest! {
        #[test]
        fn what_waits_is_what_was_not_removed(length in 0usize..40, removed in prop::collection::vec(0usize..40, 0..60)) {
            let mut waiting = Waiting::all(length);
            removed.iter().for_each(|index| waiting.remove(*index));
            let left: Vec<usize> = (0..length).filter(|index| !removed.contains(index)).collect();
            prop_assert_eq!((0..50).filter(|index| waiting.contains(*index)).collect::<Vec<_>>(), left.clone());
            match waiting.stored() {
                None => prop_assert!(left.is_empty()),
                Some(bits) => prop_assert_eq!(Waiting::read(&bits, length), Some(waiting)),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
