//! How a day is kept: its sections of [`attain_proto::day`] sealed, each by itself.
//!
//! A sealed section is: version (1 byte), CRC-32 of all that follows (4 bytes, little endian), length unpacked (varint), and a
//! Zstandard frame of the section.
//!
//! Histograms stay those of five minutes: on simulated traffic with the noise of counting they take 27 to 53 bytes a bucket
//! this way, against 6 to 10 merged by hour and 63 to 96 as rows.

use std::cell::RefCell;
use std::io;

use attain_proto::day;
pub(super) use attain_proto::day::{Damage, SLOTS, Slots, day_start, mark, marked, slot};
use attain_vocabulary::{SliBucket, UnixMillis};
use zstd::bulk::Decompressor;

/// Of seal and sections.
const VERSION: u8 = 1;
/// Higher levels take several times as long and save less than a tenth.
const LEVEL: i32 = 1;
/// More than any request could fill; a damaged length must not ask for memory without bound.
const SECTION_BYTES_MAX: usize = 256 << 20;

/// A packed day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) slots: Slots,
    pub(super) counts: Vec<u8>,
    /// `None` where no bucket has latency.
    pub(super) latency: Option<Vec<u8>>,
}

/// The sections of a day that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) counts: Vec<u8>,
    /// `None` where that section was not given.
    pub(super) latency: Option<Vec<u8>>,
}

/// Packs buckets of one day, ascending by their start, each start once.
pub(super) fn pack(buckets: &[SliBucket]) -> Packed {
    Packed {
        slots: day::slots(buckets),
        counts: seal(&day::counts_section(buckets)),
        latency: day::latency_section(buckets).map(|section| seal(&section)),
    }
}

/// The sections of a day; without latency where that section is not given.
///
/// # Errors
/// Says what is wrong with the block, as far as the seals and the day tell.
pub(super) fn unseal(day_ms: UnixMillis, counts: &[u8], latency: Option<&[u8]>) -> Result<Opened, Damage> {
    let opened = Opened { counts: open(counts)?, latency: latency.map(open).transpose()? };
    if day::start_of(&opened.counts)? == day_ms { Ok(opened) } else { Err("it is of another day") }
}

/// The buckets of a day, ascending; without latency where that section is not given.
///
/// # Errors
/// Says what is wrong with the block.
pub(super) fn unpack(day_ms: UnixMillis, counts: &[u8], latency: Option<&[u8]>) -> Result<Vec<SliBucket>, Damage> {
    let mut buckets = Vec::new();
    unpack_each(day_ms, counts, latency, |bucket| buckets.push(bucket))?;
    Ok(buckets)
}

/// Hands out the buckets of a day, ascending; without latency where that section is not given.
///
/// # Errors
/// Says what is wrong with the block, perhaps after some buckets.
pub(super) fn unpack_each(
    day_ms: UnixMillis,
    counts: &[u8],
    latency: Option<&[u8]>,
    take: impl FnMut(SliBucket),
) -> Result<(), Damage> {
    let Opened { counts, latency } = unseal(day_ms, counts, latency)?;
    day::each(&counts, latency.as_deref(), take)
}

pub(super) fn seal(columns: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(columns.len() / 2 + 16);
    day::put(&mut body, columns.len() as u64);
    let frame = zstd::bulk::compress(columns, LEVEL).expect("compressing into memory does not fail");
    body.extend_from_slice(&frame);
    let mut section = Vec::with_capacity(body.len() + 5);
    section.push(VERSION);
    section.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    section.extend_from_slice(&body);
    section
}

fn open(section: &[u8]) -> Result<Vec<u8>, Damage> {
    let (version, rest) = section.split_first().ok_or("a section is empty")?;
    if *version != VERSION {
        return Err("a section is of a version that is not known here");
    }
    let (checksum, body) = rest.split_first_chunk::<4>().ok_or("a section is cut off")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return Err("a checksum does not match");
    }
    let (length, frame) = day::take_varint(body)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= SECTION_BYTES_MAX);
    let length = length.ok_or("a section is longer than any")?;
    let columns = decompress(frame, length).map_err(|_| "a section does not unpack")?;
    if columns.len() == length { Ok(columns) } else { Err("a section is shorter than it says") }
}

/// A month of blocks is unpacked at a time: to make a decompressor for each takes longer than to use it.
fn decompress(frame: &[u8], length: usize) -> io::Result<Vec<u8>> {
    thread_local! {
        static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress(frame, length)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use attain_vocabulary::{BUCKET_MS, BucketCounts, DAY_MS, EntityId, LatencyHistogram};
    use proptest::prelude::*;

    fn id(name: &str) -> EntityId {
        EntityId::new("id", name).expect("valid")
    }

    prop_compose! {
        fn any_histogram()(scale in 0i8..=8, zero in 0u64..50, offset in -300i32..300, counts in prop::collection::vec(0u64..1 << 40, 0..170)) -> LatencyHistogram {
            LatencyHistogram::new(scale, zero, offset, counts).expect("valid")
        }
    }

    prop_compose! {
        fn any_bucket()(
            valid in 0u64..1 << 53, bad in 0.0f64..=1.0, inherited in prop::option::of(0.0f64..=1.0),
            names in prop::collection::btree_set("[a-c]{1,2}", 0..4), latency in prop::option::of(any_histogram()),
        ) -> (BucketCounts, BTreeMap<EntityId, u64>, Option<LatencyHistogram>) {
            let bad = (valid as f64 * bad) as u64;
            let inherited = inherited.map(|part| ((bad as f64 * part) as u64).min(bad));
            let each = inherited.unwrap_or(0) / 4;
            let shares = names.iter().filter(|_| each > 0).map(|name| (id(name), each)).collect();
            (BucketCounts::new(valid, bad.min(valid), inherited).expect("nested"), shares, latency)
        }
    }

    prop_compose! {
        fn any_day()(day in 0i64..30_000, rows in prop::collection::btree_map(0i64..SLOTS as i64, any_bucket(), 1..40)) -> (i64, Vec<SliBucket>) {
            let day_ms = day * DAY_MS;
            let bucket = |(slot, (counts, shares, latency))| SliBucket::new(day_ms + slot * BUCKET_MS, counts, shares, latency).expect("valid");
            (day_ms, rows.into_iter().map(bucket).collect())
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_bit_for_bit((day_ms, buckets) in any_day()) {
            let packed = pack(&buckets);
            prop_assert_eq!(unpack(day_ms, &packed.counts, packed.latency.as_deref()), Ok(buckets.clone()));
            let places: Vec<usize> = buckets.iter().map(|bucket| slot(bucket.start_ms)).collect();
            prop_assert_eq!(marked(&packed.slots).collect::<Vec<_>>(), places);
            let without: Vec<SliBucket> = buckets.into_iter().map(|bucket| SliBucket { latency: None, ..bucket }).collect();
            prop_assert_eq!(unpack(day_ms, &packed.counts, None), Ok(without));
        }

        #[test]
        fn a_changed_byte_is_noticed((day_ms, buckets) in any_day(), place: prop::sample::Index, flip in 1u8.., cut: bool) {
            let packed = pack(&buckets);
            let mut counts = packed.counts.clone();
            if cut {
                counts.truncate(place.index(counts.len()));
            } else {
                let at = place.index(counts.len());
                counts[at] ^= flip;
            }
            prop_assert!(unpack(day_ms, &counts, packed.latency.as_deref()).is_err());
            if let Some(mut latency) = packed.latency {
                let at = place.index(latency.len());
                latency[at] ^= flip;
                prop_assert!(unpack(day_ms, &packed.counts, Some(&latency)).is_err());
            }
        }

        #[test]
        fn any_bytes_with_a_right_checksum_are_refused_or_read(columns in prop::collection::vec(any::<u8>(), 0..400), day in 0i64..3) {
            // Nothing panics, and nothing asks for memory that was not sent.
            let section = seal(&columns);
            if let Ok(buckets) = unpack(day * DAY_MS, &section, Some(&section)) {
                prop_assert!(buckets.len() <= SLOTS);
            }
        }
    }

    #[test]
    fn a_block_of_another_day_or_version_is_refused() {
        let bucket = SliBucket::new(DAY_MS, BucketCounts::default(), BTreeMap::new(), None).expect("valid");
        let packed = pack(std::slice::from_ref(&bucket));
        assert_eq!(unpack(DAY_MS, &packed.counts, None), Ok(vec![bucket]));
        assert_eq!(unpack(0, &packed.counts, None), Err("it is of another day"));
        let mut newer = packed.counts;
        newer[0] = VERSION + 1;
        assert_eq!(unpack(DAY_MS, &newer, None), Err("a section is of a version that is not known here"));
    }
}
