//! How structured values are stored: small protobuf messages, whose encoding is the same for the same value, so that equal
//! bytes mean equal values. Fields are only ever added.

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{
    DependencyMode, EntityId, EntityKind, InvalidValue, LatencyHistogram, Ratio, Source, TenantId, Tier,
    UtilisationKind,
};
use prost::Message;

use super::lines::append_length;
use crate::Error;
use crate::domain::{CallDays, CatalogueWords, DayCalls, DependencyTerms, Entity, FirstDay, RequestDays, Sightings};

#[derive(Clone, PartialEq, Message)]
struct EntityRecord {
    #[prost(string, optional, tag = "1")]
    display_name: Option<String>,
    #[prost(uint32, optional, tag = "2")]
    declared_kind: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    observed_kind: Option<u32>,
    #[prost(uint32, optional, tag = "4")]
    tier: Option<u32>,
    #[prost(string, optional, tag = "5")]
    owner: Option<String>,
    #[prost(string, optional, tag = "6")]
    region: Option<String>,
    #[prost(double, optional, tag = "7")]
    published_availability: Option<f64>,
    #[prost(uint32, repeated, tag = "8")]
    sources: Vec<u32>,
    #[prost(message, optional, tag = "9")]
    catalogue: Option<CatalogueWordsRecord>,
}

/// Requests by day, none left out, from the oldest on.
#[derive(Clone, PartialEq, Message)]
struct RequestDaysRecord {
    #[prost(int64, tag = "1")]
    oldest_day: i64,
    #[prost(uint64, repeated, tag = "2")]
    request_counts: Vec<u64>,
}

/// Calls by day, none left out, from the oldest on.
#[derive(Clone, PartialEq, Message)]
struct CallDaysRecord {
    #[prost(int64, tag = "1")]
    oldest_day: i64,
    #[prost(uint64, repeated, tag = "2")]
    call_counts: Vec<u64>,
    #[prost(uint64, repeated, tag = "3")]
    calling_request_counts: Vec<u64>,
    #[prost(int64, optional, tag = "4")]
    first_day: Option<i64>,
    #[prost(uint64, tag = "5")]
    earlier_request_count: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CatalogueWordsRecord {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, optional, tag = "2")]
    display_name: Option<String>,
    #[prost(uint32, optional, tag = "3")]
    kind: Option<u32>,
    #[prost(uint32, optional, tag = "4")]
    tier: Option<u32>,
    #[prost(string, optional, tag = "5")]
    owner: Option<String>,
    #[prost(string, optional, tag = "6")]
    system: Option<String>,
    #[prost(string, optional, tag = "7")]
    lifecycle: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TermsRecord {
    #[prost(uint32, optional, tag = "1")]
    mode: Option<u32>,
    #[prost(double, optional, tag = "2")]
    call_rate: Option<f64>,
    #[prost(double, optional, tag = "3")]
    call_fraction: Option<f64>,
    #[prost(double, optional, tag = "4")]
    fallback_success: Option<f64>,
    #[prost(uint32, optional, tag = "5")]
    retry_count: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    timeout_ms: Option<u32>,
    #[prost(string, optional, tag = "7")]
    protocol: Option<String>,
    #[prost(string, optional, tag = "8")]
    redundancy_group: Option<String>,
    #[prost(uint32, optional, tag = "9")]
    redundancy_required_count: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramRecord {
    #[prost(sint32, tag = "1")]
    scale: i32,
    #[prost(uint64, tag = "2")]
    zero_count: u64,
    #[prost(sint32, tag = "3")]
    offset: i32,
    #[prost(uint64, repeated, tag = "4")]
    counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct SharesRecord {
    #[prost(btree_map = "string, uint64", tag = "1")]
    shares: BTreeMap<String, u64>,
}

pub(super) fn encode_entity(entity: &Entity) -> Vec<u8> {
    let record = EntityRecord {
        display_name: entity.display_name.clone(),
        declared_kind: entity.declared_kind.map(kind_number),
        observed_kind: entity.observed_kind.map(kind_number),
        tier: entity.tier.map(tier_number),
        owner: entity.owner.clone(),
        region: entity.region.clone(),
        published_availability: entity.published_availability.map(Ratio::get),
        sources: entity.sources.iter().map(|source| source_number(*source) as u32).collect(),
        catalogue: entity.catalogue.as_ref().map(catalogue_record),
    };
    record.encode_to_vec()
}

pub(super) fn decode_entity(
    id: &str,
    bytes: &[u8],
    request_count: u64,
    request_days: RequestDays,
) -> Result<Entity, Error> {
    let record = EntityRecord::decode(bytes).map_err(undecodable)?;
    let sources = record.sources.iter().map(|number| source(i64::from(*number)));
    Ok(Entity {
        id: entity_id(id)?,
        display_name: record.display_name,
        declared_kind: record.declared_kind.map(kind).transpose()?,
        observed_kind: record.observed_kind.map(kind).transpose()?,
        tier: record.tier.map(tier).transpose()?,
        owner: record.owner,
        region: record.region,
        published_availability: ratio(record.published_availability)?,
        sources: sources.collect::<Result<BTreeSet<Source>, Error>>()?,
        request_count,
        request_days,
        catalogue: record.catalogue.map(catalogue_words).transpose()?,
    })
}

fn catalogue_record(words: &CatalogueWords) -> CatalogueWordsRecord {
    CatalogueWordsRecord {
        reference: words.reference.clone(),
        display_name: words.display_name.clone(),
        kind: words.kind.map(kind_number),
        tier: words.tier.map(tier_number),
        owner: words.owner.clone(),
        system: words.system.clone(),
        lifecycle: words.lifecycle.clone(),
    }
}

fn catalogue_words(record: CatalogueWordsRecord) -> Result<CatalogueWords, Error> {
    Ok(CatalogueWords {
        reference: record.reference,
        display_name: record.display_name,
        kind: record.kind.map(kind).transpose()?,
        tier: record.tier.map(tier).transpose()?,
        owner: record.owner,
        system: record.system,
        lifecycle: record.lifecycle,
    })
}

pub(super) fn encode_terms(terms: &DependencyTerms) -> Vec<u8> {
    terms_record(terms).encode_to_vec()
}

/// Appends terms to a run of values.
pub(super) fn append_terms(run: &mut Vec<u8>, terms: &DependencyTerms) {
    let record = terms_record(terms);
    append_length(run, record.encoded_len());
    record.encode_raw(run);
}

fn terms_record(terms: &DependencyTerms) -> TermsRecord {
    TermsRecord {
        mode: terms.mode.map(mode_number),
        call_rate: terms.call_rate,
        call_fraction: terms.call_fraction.map(Ratio::get),
        fallback_success: terms.fallback_success.map(Ratio::get),
        retry_count: terms.retry_count,
        timeout_ms: terms.timeout_ms,
        protocol: terms.protocol.clone(),
        redundancy_group: terms.redundancy_group.clone(),
        redundancy_required_count: terms.redundancy_required_count,
    }
}

pub(super) fn decode_terms(bytes: &[u8]) -> Result<DependencyTerms, Error> {
    let record = TermsRecord::decode(bytes).map_err(undecodable)?;
    Ok(DependencyTerms {
        mode: record.mode.map(mode).transpose()?,
        call_rate: record.call_rate,
        call_fraction: ratio(record.call_fraction)?,
        fallback_success: ratio(record.fallback_success)?,
        retry_count: record.retry_count,
        timeout_ms: record.timeout_ms,
        protocol: record.protocol,
        redundancy_group: record.redundancy_group,
        redundancy_required_count: record.redundancy_required_count,
    })
}

/// `None` for no days.
pub(super) fn encode_request_days(days: &RequestDays) -> Option<Vec<u8>> {
    let (oldest_day, newest_day) = (*days.first_key_value()?.0, *days.last_key_value()?.0);
    let count = |day| days.get(&day).copied().unwrap_or(0);
    let record = RequestDaysRecord { oldest_day, request_counts: (oldest_day..=newest_day).map(count).collect() };
    Some(record.encode_to_vec())
}

pub(super) fn decode_request_days(bytes: Option<&[u8]>) -> Result<RequestDays, Error> {
    let Some(bytes) = bytes else { return Ok(RequestDays::new()) };
    let record = RequestDaysRecord::decode(bytes).map_err(undecodable)?;
    Ok((record.oldest_day..i64::MAX).zip(record.request_counts).filter(|(_, count)| *count > 0).collect())
}

/// `None` where traces showed none.
pub(super) fn encode_call_days(seen: &Sightings) -> Option<Vec<u8>> {
    let (oldest_day, newest_day) = match (seen.days.first_key_value(), seen.days.last_key_value()) {
        (Some((oldest, _)), Some((newest, _))) => (*oldest, *newest),
        _ => (0, -1),
    };
    if seen.days.is_empty() && seen.first_day.is_none() {
        return None;
    }
    let days = || (oldest_day..=newest_day).map(|day| seen.days.get(&day).copied().unwrap_or_default());
    let record = CallDaysRecord {
        oldest_day,
        call_counts: days().map(|day| day.call_count).collect(),
        calling_request_counts: days().map(|day| day.calling_request_count).collect(),
        first_day: seen.first_day.map(|first| first.day),
        earlier_request_count: seen.first_day.map_or(0, |first| first.earlier_request_count),
    };
    Some(record.encode_to_vec())
}

pub(super) fn decode_call_days(bytes: Option<&[u8]>) -> Result<(CallDays, Option<FirstDay>), Error> {
    let Some(bytes) = bytes else { return Ok((CallDays::new(), None)) };
    let record = CallDaysRecord::decode(bytes).map_err(undecodable)?;
    let counts = record.call_counts.into_iter().zip(record.calling_request_counts);
    let calls = counts.map(|(call_count, calling_request_count)| DayCalls { call_count, calling_request_count });
    let days = (record.oldest_day..i64::MAX).zip(calls).filter(|(_, calls)| *calls != DayCalls::default()).collect();
    let earlier_request_count = record.earlier_request_count;
    Ok((days, record.first_day.map(|day| FirstDay { day, earlier_request_count })))
}

pub(super) fn encode_histogram(histogram: &LatencyHistogram) -> Vec<u8> {
    let record = HistogramRecord {
        scale: i32::from(histogram.scale()),
        zero_count: histogram.zero_count(),
        offset: histogram.offset(),
        counts: histogram.bucket_counts().to_vec(),
    };
    record.encode_to_vec()
}

pub(super) fn decode_histogram(bytes: &[u8]) -> Result<LatencyHistogram, Error> {
    let record = HistogramRecord::decode(bytes).map_err(undecodable)?;
    let scale = i8::try_from(record.scale).map_err(|error| Error::Corrupt(error.to_string()))?;
    LatencyHistogram::new(scale, record.zero_count, record.offset, record.counts).map_err(invalid)
}

/// `None` for no shares.
pub(super) fn encode_shares(shares: &BTreeMap<EntityId, u64>) -> Option<Vec<u8>> {
    let shares: BTreeMap<String, u64> = shares.iter().map(|(id, count)| (id.to_string(), *count)).collect();
    (!shares.is_empty()).then(|| SharesRecord { shares }.encode_to_vec())
}

pub(super) fn decode_shares(bytes: Option<&[u8]>) -> Result<BTreeMap<EntityId, u64>, Error> {
    let Some(bytes) = bytes else { return Ok(BTreeMap::new()) };
    let record = SharesRecord::decode(bytes).map_err(undecodable)?;
    record.shares.iter().map(|(id, count)| Ok((entity_id(id)?, *count))).collect()
}

pub(super) fn entity_id(text: &str) -> Result<EntityId, Error> {
    EntityId::new("id", text).map_err(invalid)
}

pub(super) fn tenant(text: &str) -> Result<TenantId, Error> {
    TenantId::new("tenant_id", text).map_err(invalid)
}

/// A value that was checked before it was stored and does not pass now.
pub(super) fn invalid(error: InvalidValue) -> Error {
    Error::Corrupt(error.to_string())
}

pub(super) fn undecodable(error: prost::DecodeError) -> Error {
    Error::Corrupt(error.to_string())
}

pub(super) fn ratio(value: Option<f64>) -> Result<Option<Ratio>, Error> {
    value.map(|value| Ratio::new("ratio", value)).transpose().map_err(invalid)
}

macro_rules! numbered {
    ($word:ident, $encode:ident, $decode:ident, $number:ty, { $($value:ident = $n:literal),+ }) => {
        pub(super) fn $encode(value: $word) -> $number {
            match value { $($word::$value => $n),+ }
        }
        pub(super) fn $decode(number: $number) -> Result<$word, Error> {
            match number {
                $($n => Ok($word::$value),)+
                number => Err(Error::Corrupt(format!("{number} is no {}", stringify!($word)))),
            }
        }
    };
}

numbered!(Source, source_number, source, i64, { Declared = 1, Traces = 2, OtlpMetrics = 3, Prometheus = 4, Catalogue = 5, ServiceGraph = 6, Istio = 7, Linkerd = 8, Jaeger = 9 });
numbered!(EntityKind, kind_number, kind, u32, { Service = 1, Datastore = 2, Cache = 3, Queue = 4, Infrastructure = 5, External = 6, NodePool = 7, Zone = 8, Region = 9, Api = 10, System = 11 });
numbered!(Tier, tier_number, tier, u32, { One = 1, Two = 2, Three = 3, Four = 4 });
numbered!(UtilisationKind, utilisation_kind_number, utilisation_kind, u32, { Cpu = 1, Memory = 2, Saturation = 3, QueueDepth = 4, ConnectionPool = 5, MessageAge = 6 });
numbered!(DependencyMode, mode_number, mode, u32, { Hard = 1, Soft = 2, Async = 3 });
