//! The buckets of one series and one UTC day as bytes, without loss: what ingestion stores, sealed and compressed, and what
//! members send one another as [`SliDay`].
//!
//! Two sections of columns of varints, so that whoever wants no latency reads none:
//!
//! - counts: the day's number; which of the 288 buckets there are (36 bytes); `valid`, each less the one before; `bad`;
//!   `inherited_bad` plus 1, 0 for unknown; names of dependencies; how many shares each bucket has; and the shares.
//! - latency: the number of buckets; `scale` plus 11, 0 for no latency; zero counts; offsets, each less the one before;
//!   lengths; and the counts of all histograms, each less the count of the same bucket bounds in the histogram before.
//!
//! Differences are zigzag-coded. The format is [`VERSION`]; stored days of it stay readable.

use std::collections::BTreeMap;

use attain_vocabulary::{
    BUCKET_MS, BucketCounts, DAY_MS, EntityId, InvalidValue, LatencyHistogram, SliBucket, UnixMillis,
};

use crate::vocabulary::v1::SliDay;

/// The version that is written and read.
pub const VERSION: u32 = 1;
/// Buckets of a day.
pub const SLOTS: usize = (DAY_MS / BUCKET_MS) as usize;
const SLOT_BYTES: usize = SLOTS / 8;
const HISTOGRAM_BUCKETS_MAX: u64 = 4096;

/// Which of a day's buckets there are: bit `i % 8` of byte `i / 8` for the `i`-th.
pub type Slots = [u8; SLOT_BYTES];

/// What is wrong with a day.
pub type Damage = &'static str;

/// Start of the UTC day that holds an instant.
#[must_use]
pub fn day_start(time_ms: UnixMillis) -> UnixMillis {
    time_ms.div_euclid(DAY_MS) * DAY_MS
}

/// Place of a bucket in its day.
#[must_use]
pub fn slot(start_ms: UnixMillis) -> usize {
    (start_ms.rem_euclid(DAY_MS) / BUCKET_MS) as usize
}

/// Marks the bucket at a place as there.
pub fn mark(slots: &mut Slots, slot: usize) {
    slots[slot / 8] |= 1 << (slot % 8);
}

/// Places of the buckets that there are, ascending.
pub fn marked(slots: &Slots) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (0..SLOTS).filter(|slot| slots[slot / 8] & (1 << (slot % 8)) != 0)
}

/// Which of their day's buckets these are.
#[must_use]
pub fn slots(buckets: &[SliBucket]) -> Slots {
    let mut slots = [0; SLOT_BYTES];
    buckets.iter().for_each(|bucket| mark(&mut slots, slot(bucket.start_ms)));
    slots
}

/// The counts section of buckets of one day, ascending by their start, each start once.
#[must_use]
pub fn counts_section(buckets: &[SliBucket]) -> Vec<u8> {
    let mut out = Vec::with_capacity(SLOT_BYTES + 8 * buckets.len());
    put(&mut out, zigzag(buckets.first().map_or(0, |bucket| bucket.start_ms.div_euclid(DAY_MS))));
    out.extend_from_slice(&slots(buckets));
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

/// The latency section of the same buckets; `None` where none has latency.
#[must_use]
pub fn latency_section(buckets: &[SliBucket]) -> Option<Vec<u8>> {
    buckets.iter().any(|bucket| bucket.latency.is_some()).then(|| latency_columns(buckets))
}

/// Start of the day that a counts section is of.
///
/// # Errors
/// Says what is wrong with the section.
pub fn start_of(counts: &[u8]) -> Result<UnixMillis, Damage> {
    day_number(&mut Reader(counts))
}

/// Hands out the buckets of a day, ascending; without latency where that section is not given.
///
/// # Errors
/// Says what is wrong with the day, perhaps after some buckets.
pub fn each(counts: &[u8], latency: Option<&[u8]>, mut take: impl FnMut(SliBucket)) -> Result<(), Damage> {
    let counts = read_counts(&mut Reader(counts))?;
    let mut latencies = match latency {
        Some(latency) => read_latency(counts.places.len(), &mut Reader(latency))?,
        None => Vec::new(),
    }
    .into_iter();
    let mut shares = counts.shares.into_iter();
    let columns = counts.valid.into_iter().zip(counts.bad).zip(counts.inherited);
    for (place, ((valid, bad), inherited)) in counts.places.into_iter().zip(columns) {
        let bucket = BucketCounts::new(valid, bad, inherited.checked_sub(1)).map_err(|_| "its counts do not nest")?;
        let start_ms = counts.day_ms + place as i64 * BUCKET_MS;
        let (shares, latency) = (shares.next().unwrap_or_default(), latencies.next().flatten());
        take(SliBucket::new(start_ms, bucket, shares, latency).map_err(|_| "its shares exceed their sum")?);
    }
    Ok(())
}

/// Appends the buckets of days as they were sent.
///
/// # Errors
/// Names `days` and says what is wrong with the first that cannot be right.
pub fn append(days: &[SliDay], out: &mut Vec<SliBucket>) -> Result<(), InvalidValue> {
    out.reserve(days.len() * SLOTS);
    for day in days {
        if day.version != VERSION {
            let reason = format!("version {} is not known here", day.version);
            return Err(InvalidValue::new("days/version", "unknown_value", reason));
        }
        let latency = Some(&day.latency[..]).filter(|latency| !latency.is_empty());
        each(&day.counts, latency, |bucket| out.push(bucket))
            .map_err(|damage| InvalidValue::new("days", "malformed", damage))?;
    }
    Ok(())
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
    day_ms: UnixMillis,
    places: Vec<usize>,
    valid: Vec<u64>,
    bad: Vec<u64>,
    /// Plus 1; 0 for unknown.
    inherited: Vec<u64>,
    /// None at all where no bucket has any.
    shares: Vec<BTreeMap<EntityId, u64>>,
}

/// The varint at the front, and what follows it.
///
/// # Errors
/// Where there is none.
pub fn take_varint(bytes: &[u8]) -> Result<(u64, &[u8]), Damage> {
    let mut reader = Reader(bytes);
    Ok((reader.varint()?, reader.0))
}

fn day_number(from: &mut Reader) -> Result<UnixMillis, Damage> {
    let day_ms = unzigzag(from.varint()?).checked_mul(DAY_MS);
    day_ms.filter(|day_ms| day_ms.checked_add(DAY_MS).is_some()).ok_or("it is of no day")
}

fn read_counts(from: &mut Reader) -> Result<Counts, Damage> {
    let day_ms = day_number(from)?;
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
    Ok(Counts { day_ms, places, valid, bad, inherited, shares })
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

/// Appends a varint.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
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

    /// Most values take one byte or two.
    #[inline]
    fn varint(&mut self) -> Result<u64, Damage> {
        match self.0 {
            [low, rest @ ..] if *low < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*low))
            }
            [low, high, rest @ ..] if *high < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Damage> {
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
            values.push(read(self.varint()?));
        }
        Ok(values)
    }

    /// Adds one difference to each count.
    fn add_differences(&mut self, counts: &mut [u64]) -> Result<(), Damage> {
        for count in counts {
            *count = added(*count, self.varint()?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets() -> Vec<SliBucket> {
        let latency = LatencyHistogram::from_explicit(&[10.0, 100.0], &[5, 3, 1]).expect("valid");
        let one = |place: i64| {
            let counts = BucketCounts::new(200 + 97 * place as u64, 5, (place > 3).then_some(4)).expect("nested");
            let shares = (place > 5).then(|| (EntityId::new("id", "db").expect("valid"), 3)).into_iter().collect();
            let latency = (place % 2 == 0).then(|| latency.clone());
            SliBucket::new(-DAY_MS + place * BUCKET_MS, counts, shares, latency).expect("valid")
        };
        [0, 1, 4, 6, 7, 287].map(one).to_vec()
    }

    fn day() -> SliDay {
        let latency = latency_section(&buckets()).expect("some have latency");
        SliDay { version: VERSION, counts: counts_section(&buckets()), latency }
    }

    #[test]
    fn a_day_comes_back_as_it_was() {
        let mut read = Vec::new();
        assert_eq!(append(&[day(), day()], &mut read), Ok(()));
        assert_eq!(read, [buckets(), buckets()].concat());
        assert_eq!(start_of(&day().counts), Ok(-DAY_MS));
        read.clear();
        let without_latency = SliDay { latency: Vec::new(), ..day() };
        assert_eq!(append(&[without_latency], &mut read), Ok(()));
        assert!(read.iter().all(|bucket| bucket.latency.is_none()) && read.len() == buckets().len());
    }

    #[test]
    fn a_day_that_cannot_be_right_is_named() {
        let mut shorter = day();
        shorter.latency.pop();
        let mut far = Vec::new();
        put(&mut far, zigzag(i64::MAX / DAY_MS));
        far.extend(&day().counts[1..]);
        let cases = [
            (SliDay { version: 2, ..day() }, "days/version"),
            (SliDay { counts: Vec::new(), ..day() }, "days"),
            (SliDay { counts: far, ..day() }, "days"),
            (SliDay { latency: latency_section(&buckets()[..3]).expect("latency"), ..day() }, "days"),
            (shorter, "days"),
        ];
        for (day, field) in cases {
            assert_eq!(append(&[day], &mut Vec::new()).map_err(|invalid| invalid.field), Err(field.to_owned()));
        }
    }

    #[test]
    fn varints_of_every_length_come_back() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                put(&mut bytes, value);
                bytes.push(7);
                assert_eq!(take_varint(&bytes), Ok((value, &[7u8][..])));
            }
        }
        assert!(take_varint(&[0x80]).is_err() && take_varint(&[0xff; 11]).is_err());
    }
}
