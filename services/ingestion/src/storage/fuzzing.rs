use super::block::{pack, seal, unpack};
use super::incident_record::decode_incident;
use super::record::{decode_call_days, decode_entity, decode_histogram, decode_shares, decode_terms};
use super::sample_record::decode_hour;
use super::utilisation::decode_day;

const DAY_MS: i64 = 20_000 * attain_vocabulary::DAY_MS;

/// The sections of a packed day, as they are and with a checksum that matches; the first byte parts counts from latency.
/// What can be read comes out of packing it again as it was; a day without buckets is never packed.
pub fn block(bytes: &[u8]) {
    let Some((length, columns)) = bytes.split_first() else { return };
    let (counts, latency) = columns.split_at(usize::from(*length).min(columns.len()));
    let _ = unpack(DAY_MS, counts, Some(latency));
    let latency = (!latency.is_empty()).then(|| seal(latency));
    if let Ok(buckets) = unpack(DAY_MS, &seal(counts), latency.as_deref())
        && !buckets.is_empty()
    {
        let packed = pack(&buckets);
        let again = unpack(DAY_MS, &packed.counts, packed.latency.as_deref()).expect("what was packed just now");
        assert_eq!(again, buckets);
    }
}

/// Records that stand in columns of their own.
pub fn stored_records(bytes: &[u8]) {
    let _ = decode_call_days(Some(bytes));
    let _ = super::record::decode_request_days(Some(bytes));
    let _ = decode_entity("a", bytes, 1, crate::domain::RequestDays::new());
    let _ = decode_terms(bytes);
    let _ = super::said::decode(bytes, super::record::entity_id);
    let _ = decode_histogram(bytes);
    let _ = decode_shares(Some(bytes));
    let _ = decode_incident("a", bytes);
    let _ = decode_day(DAY_MS, bytes);
    if let Ok(service) = super::record::entity_id("a") {
        let _ = decode_hour(&service, DAY_MS, bytes);
    }
}
