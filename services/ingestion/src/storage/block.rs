//! The format of a block: the buckets of one series and one UTC day, packed without loss.
//!
//! Two sections, so that whoever wants no latency reads none. Each is: version (1 byte), CRC-32 of all that follows
//! (4 bytes, little endian), length unpacked (varint), and a Zstandard frame of columns of varints:
//!
//! - counts: the day's number; which of the 288 buckets there are (36 bytes); `valid`, each less the one before; `bad`;
//!   `inherited_bad` plus 1, 0 for unknown; names of dependencies; how many shares each bucket has; and the shares.
//! - latency: the number of buckets; `scale` plus 11, 0 for no latency; zero counts; offsets, each less the one before;
//!   lengths; and the counts of all histograms, each less the count of the same bucket bounds in the histogram before.
//!
//! Differences are zigzag-coded. Histograms stay those of five minutes: on simulated traffic with the noise of counting
//! they take 27 to 53 bytes a bucket this way, against 6 to 10 merged by hour and 63 to 96 as rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use attain_vocabulary::{BUCKET_MS, BucketCounts, DAY_MS, EntityId, LatencyHistogram, SliBucket, UnixMillis};
use zstd::bulk::Decompressor;

/// Buckets of a day.
pub(super) const SLOTS: usize = (DAY_MS / BUCKET_MS) as usize;
const SLOT_BYTES: usize = SLOTS / 8;
const VERSION: u8 = 1;
/// Higher levels take several times as long and save less than a tenth.
const LEVEL: i32 = 1;
/// More than any request could fill; a damaged length must not ask for memory without bound.
const SECTION_BYTES_MAX: usize = 256 << 20;
const HISTOGRAM_BUCKETS_MAX: u64 = 4096;

/// Which of a day's buckets there are: bit `i % 8` of byte `i / 8` for the `i`-th.
pub(super) type Slots = [u8; SLOT_BYTES];

/// A packed day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packed {
    pub(super) slots: Slots,
    pub(super) counts: Vec<u8>,
    /// `None` where no bucket has latency.
    pub(super) latency: Option<Vec<u8>>,
}

/// What is wrong with a block.
pub(super) type Damage = &'static str;

/// Start of the UTC day that holds an instant.
pub(super) fn day_start(time_ms: UnixMillis) -> UnixMillis {
    time_ms.div_euclid(DAY_MS) * DAY_MS
}

/// Place of a bucket in its day.
pub(super) fn slot(start_ms: UnixMillis) -> usize {
    (start_ms.rem_euclid(DAY_MS) / BUCKET_MS) as usize
}

pub(super) fn mark(slots: &mut Slots, slot: usize) {
    slots[slot / 8] |= 1 << (slot % 8);
}

/// Places of the buckets that there are, ascending.
pub(super) fn marked(slots: &Slots) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (0..SLOTS).filter(|slot| slots[slot / 8] & (1 << (slot % 8)) != 0)
}

/// Packs buckets of one day, ascending by their start, each start once.
pub(super) fn pack(buckets: &[SliBucket]) -> Packed {
    let mut slots = [0; SLOT_BYTES];
    buckets.iter().for_each(|bucket| mark(&mut slots, slot(bucket.start_ms)));
    let timed = buckets.iter().any(|bucket| bucket.latency.is_some());
    Packed {
        slots,
        counts: seal(&counts_columns(&slots, buckets)),
        latency: timed.then(|| seal(&latency_columns(buckets))),
    }
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
    mut take: impl FnMut(SliBucket),
) -> Result<(), Damage> {
    let counts = read_counts(day_ms, &mut Reader(&open(counts)?))?;
    let latencies = match latency {
        Some(latency) => read_latency(counts.places.len(), &mut Reader(&open(latency)?))?,
        None => Vec::new(),
    };
    let mut latencies = latencies.into_iter();
    let mut shares = counts.shares.into_iter();
    for (i, place) in counts.places.into_iter().enumerate() {
        let bucket = BucketCounts::new(counts.valid[i], counts.bad[i], counts.inherited[i].checked_sub(1))
            .map_err(|_| "its counts do not nest")?;
        let start_ms = day_ms + place as i64 * BUCKET_MS;
        let (shares, latency) = (shares.next().unwrap_or_default(), latencies.next().flatten());
        take(SliBucket::new(start_ms, bucket, shares, latency).map_err(|_| "its shares exceed their sum")?);
    }
    Ok(())
}

pub(super) fn seal(columns: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(columns.len() / 2 + 16);
    put(&mut body, columns.len() as u64);
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
    let mut frame = Reader(body);
    let length = usize::try_from(frame.varint()?).ok().filter(|length| *length <= SECTION_BYTES_MAX);
    let length = length.ok_or("a section is longer than any")?;
    let columns = decompress(frame.0, length).map_err(|_| "a section does not unpack")?;
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

fn counts_columns(slots: &Slots, buckets: &[SliBucket]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES + 8 * buckets.len());
    put(&mut out, zigzag(buckets.first().map_or(0, |bucket| bucket.start_ms.div_euclid(DAY_MS))));
    out.extend_from_slice(slots);
    let mut before = 0;
    for bucket in buckets {
        put_difference(&mut out, before, bucket.counts.valid());
        before = bucket.counts.valid();
    }
    buckets.iter().for_each(|bucket| put(&mut out, bucket.counts.bad()));
    for bucket in buckets {
        put(&mut out, bucket.counts.inherited_bad().map_or(0, |count| count.saturating_add(1)));
    }
    put_shares(&mut out, buckets);
    out
}

fn put_shares(out: &mut Vec<u8>, buckets: &[SliBucket]) {
    let mut names: BTreeMap<&EntityId, u64> = BTreeMap::new();
    for name in buckets.iter().flat_map(|bucket| bucket.inherited_by_dependency.keys()) {
        names.insert(name, 0);
    }
    put(out, names.len() as u64);
    for (place, (name, number)) in names.iter_mut().enumerate() {
        *number = place as u64;
        put(out, name.as_str().len() as u64);
        out.extend_from_slice(name.as_str().as_bytes());
    }
    buckets.iter().for_each(|bucket| put(out, bucket.inherited_by_dependency.len() as u64));
    for (name, count) in buckets.iter().flat_map(|bucket| &bucket.inherited_by_dependency) {
        put(out, names[name]);
        put(out, *count);
    }
}

/// The columns of a counts section, each as long as `places`.
struct Counts {
    places: Vec<usize>,
    valid: Vec<u64>,
    bad: Vec<u64>,
    /// Plus 1; 0 for unknown.
    inherited: Vec<u64>,
    /// None at all where no bucket has any.
    shares: Vec<BTreeMap<EntityId, u64>>,
}

fn read_counts(day_ms: UnixMillis, from: &mut Reader) -> Result<Counts, Damage> {
    if unzigzag(from.varint()?).checked_mul(DAY_MS) != Some(day_ms) {
        return Err("it is of another day");
    }
    let slots: Slots = from.bytes(SLOT_BYTES)?.try_into().map_err(|_| "a section is cut off")?;
    let mut places = Vec::with_capacity(SLOTS);
    places.extend(marked(&slots));
    let mut before = 0;
    let valid = from.column(places.len(), |value| {
        before = added(before, value);
        before
    })?;
    let bad = from.column(places.len(), |value| value)?;
    let inherited = from.column(places.len(), |value| value)?;
    let shares = read_shares(places.len(), from)?;
    Ok(Counts { places, valid, bad, inherited, shares })
}

fn read_shares(bucket_count: usize, from: &mut Reader) -> Result<Vec<BTreeMap<EntityId, u64>>, Damage> {
    let mut names = Vec::new();
    for _ in 0..from.varint()? {
        let length = usize::try_from(from.varint()?).map_err(|_| "a name is too long")?;
        let name = std::str::from_utf8(from.bytes(length)?).map_err(|_| "a name is no text")?;
        names.push(EntityId::new("id", name).map_err(|_| "a name is none")?);
    }
    let lengths = from.column(bucket_count, |value| value)?;
    if lengths.iter().all(|length| *length == 0) {
        return Ok(Vec::new());
    }
    let mut all = Vec::with_capacity(bucket_count);
    for length in lengths {
        let mut shares = BTreeMap::new();
        for _ in 0..length {
            let name =
                usize::try_from(from.varint()?).ok().and_then(|place| names.get(place)).ok_or("a name is missing")?;
            shares.insert(name.clone(), from.varint()?);
        }
        all.push(shares);
    }
    Ok(all)
}

fn latency_columns(buckets: &[SliBucket]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * buckets.len());
    put(&mut out, buckets.len() as u64);
    for bucket in buckets {
        put(&mut out, bucket.latency.as_ref().map_or(0, |latency| (i64::from(latency.scale()) + 11) as u64));
    }
    let timed: Vec<&LatencyHistogram> = buckets.iter().filter_map(|bucket| bucket.latency.as_ref()).collect();
    timed.iter().for_each(|latency| put(&mut out, latency.zero_count()));
    let mut before = 0;
    for latency in &timed {
        put(&mut out, zigzag(i64::from(latency.offset()) - before));
        before = i64::from(latency.offset());
    }
    timed.iter().for_each(|latency| put(&mut out, latency.bucket_counts().len() as u64));
    let mut earlier: Option<&LatencyHistogram> = None;
    let mut expected = Vec::new();
    for latency in timed {
        let (place, counts) = placed(latency);
        expect(&mut expected, earlier.map(placed), place, counts.len());
        expected.iter().zip(counts).for_each(|(expected, count)| put_difference(&mut out, *expected, *count));
        earlier = Some(latency);
    }
    out
}

/// Which bounds the buckets of a histogram have.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    scale: i8,
    offset: i32,
}

fn placed(latency: &LatencyHistogram) -> (Place, &[u64]) {
    (Place { scale: latency.scale(), offset: latency.offset() }, latency.bucket_counts())
}

/// What the counts of a histogram are expected to be: those of the one before at the same bounds, else 0.
fn expect(expected: &mut Vec<u64>, before: Option<(Place, &[u64])>, place: Place, length: usize) {
    expected.clear();
    expected.resize(length, 0);
    let Some((earlier, counts)) = before.filter(|(earlier, _)| earlier.scale == place.scale) else { return };
    let shift = i64::from(place.offset) - i64::from(earlier.offset);
    let (to, from) = if shift >= 0 { (0, shift as usize) } else { (shift.unsigned_abs() as usize, 0) };
    let common = length.saturating_sub(to).min(counts.len().saturating_sub(from));
    if common > 0 {
        expected[to..to + common].copy_from_slice(&counts[from..from + common]);
    }
}

/// The latency of each bucket.
fn read_latency(bucket_count: usize, from: &mut Reader) -> Result<Vec<Option<LatencyHistogram>>, Damage> {
    if from.varint()? != bucket_count as u64 {
        return Err("its sections do not match");
    }
    let scales = from.column(bucket_count, |value| value)?;
    let timed = scales.iter().filter(|scale| **scale > 0).count();
    let zero_counts = from.column(timed, |value| value)?;
    let mut before = 0i64;
    let offsets = from.column(timed, |value| {
        before = before.wrapping_add(unzigzag(value));
        before
    })?;
    let lengths = from.column(timed, |value| value)?;
    let mut latencies: Vec<Option<LatencyHistogram>> = Vec::with_capacity(bucket_count);
    let mut earlier: Option<usize> = None;
    let mut row = 0;
    for (i, scale) in scales.into_iter().enumerate() {
        if scale == 0 {
            latencies.push(None);
            continue;
        }
        let scale = i8::try_from((scale as i64).wrapping_sub(11)).map_err(|_| "a scale is none")?;
        let place = Place { scale, offset: i32::try_from(offsets[row]).map_err(|_| "an offset is none")? };
        if lengths[row] > HISTOGRAM_BUCKETS_MAX {
            return Err("a histogram is too long");
        }
        let mut counts = Vec::new();
        let before = earlier.and_then(|i| latencies[i].as_ref());
        expect(&mut counts, before.map(placed), place, lengths[row] as usize);
        from.add_differences(&mut counts)?;
        let histogram = LatencyHistogram::new(scale, zero_counts[row], place.offset, counts);
        latencies.push(Some(histogram.map_err(|_| "a histogram is none")?));
        earlier = Some(i);
        row += 1;
    }
    Ok(latencies)
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_difference(out: &mut Vec<u8>, before: u64, value: u64) {
    put(out, zigzag(value.wrapping_sub(before) as i64));
}

fn added(before: u64, difference: u64) -> u64 {
    before.wrapping_add(unzigzag(difference) as u64)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Columns that are left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("a section is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err("a section is cut off")
    }

    fn column<T>(&mut self, length: usize, mut read: impl FnMut(u64) -> T) -> Result<Vec<T>, Damage> {
        // Each value takes a byte at least: a damaged length asks for no memory.
        if length > self.0.len() {
            return Err("a section is cut off");
        }
        let mut values = Vec::with_capacity(length);
        for _ in 0..length {
            values.push(read(self.quick_varint()?));
        }
        Ok(values)
    }

    /// Most values take one byte.
    fn quick_varint(&mut self) -> Result<u64, Damage> {
        match self.0.split_first() {
            Some((byte, rest)) if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.varint(),
        }
    }

    /// Adds one difference to each count.
    fn add_differences(&mut self, counts: &mut [u64]) -> Result<(), Damage> {
        for count in counts {
            *count = added(*count, self.quick_varint()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
