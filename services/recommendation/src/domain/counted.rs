//! The requests of a component bucket by bucket, without latencies, in few bytes: each column is as wide as its largest number.
//! Ninety days of five minutes are about a hundred kilobytes, where buckets one by one are three megabytes.

use std::collections::BTreeMap;

use attain_attainment::{CountPoint, CountSeries, DependencyBucket};
use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, SliBucket, UnixMillis};

/// Rows whose columns are read together: few enough to stay near.
const ROWS_AT_ONCE: usize = 512;

/// Buckets by ascending start, each start once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counted {
    /// Buckets that follow one another: start and place of the first.
    runs: Vec<(UnixMillis, usize)>,
    valid: Numbers,
    bad: Numbers,
    /// One more than what was inherited; 0 where nothing tells, and none at all where that is so everywhere.
    inherited: Numbers,
    names: Vec<EntityId>,
    /// By ascending place, and of one place by ascending name.
    shares: Vec<Share>,
}

/// Failures of one bucket that one dependency brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    place: u32,
    /// Among the names.
    name: u32,
    failed: u64,
}

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its number, from 0.
    pub place: usize,
    /// When it begins.
    pub start_ms: UnixMillis,
    /// Its requests.
    pub counts: BucketCounts,
}

impl Counted {
    /// Buckets in any order; of those with the same start the first is taken.
    #[must_use]
    pub fn of(buckets: &[SliBucket]) -> Self {
        let mut taking = Taking::default();
        buckets.iter().for_each(|bucket| taking.take(bucket));
        taking.done()
    }

    /// How many buckets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.valid.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it takes in memory, names of dependencies aside.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let columns = self.valid.bytes() + self.bad.bytes() + self.inherited.bytes();
        columns + size_of_val(self.runs.as_slice()) + size_of_val(self.shares.as_slice())
    }

    /// Sees every bucket, oldest first.
    pub fn each(&self, mut see: impl FnMut(Row)) {
        let ends = self.runs.iter().skip(1).map(|(_, first)| *first).chain([self.len()]);
        let (mut valid, mut bad, mut inherited) = ([0; ROWS_AT_ONCE], [0; ROWS_AT_ONCE], [0; ROWS_AT_ONCE]);
        for (&(start_ms, first), end) in self.runs.iter().zip(ends) {
            for from in (first..end).step_by(ROWS_AT_ONCE) {
                let some = ROWS_AT_ONCE.min(end - from);
                self.valid.copy(from, &mut valid[..some]);
                self.bad.copy(from, &mut bad[..some]);
                self.inherited.copy(from, &mut inherited[..some]);
                let since_ms = start_ms + (from - first) as i64 * BUCKET_MS;
                let columns = valid.iter().zip(&bad).zip(&inherited);
                for (place, ((valid, bad), inherited)) in columns.take(some).enumerate() {
                    let counts = nested(*valid, *bad, inherited.checked_sub(1));
                    see(Row { place: from + place, start_ms: since_ms + place as i64 * BUCKET_MS, counts });
                }
            }
        }
    }

    /// Buckets that follow one another: start of the first, and how many.
    pub fn runs(&self) -> impl Iterator<Item = (UnixMillis, usize)> + '_ {
        let ends = self.runs.iter().skip(1).map(|(_, first)| *first).chain([self.len()]);
        self.runs.iter().zip(ends).map(|((start_ms, first), end)| (*start_ms, end - first))
    }

    /// How many buckets start before a time.
    #[must_use]
    pub fn place_from(&self, time_ms: UnixMillis) -> usize {
        let next = self.runs.partition_point(|(start_ms, _)| *start_ms < time_ms);
        let Some((start_ms, first)) = next.checked_sub(1).and_then(|run| self.runs.get(run)) else { return 0 };
        let end = self.runs.get(next).map_or(self.len(), |(_, first)| *first);
        // The run starts before: at least one of it does.
        let before = time_ms.abs_diff(*start_ms).div_ceil(BUCKET_MS as u64);
        usize::try_from(before).map_or(end, |before| first.saturating_add(before).min(end))
    }

    /// The buckets from one place to another, to be gone on with.
    #[must_use]
    pub fn resumed(&self, from: usize, to: usize) -> Taking {
        let mut taking = Taking::default();
        let mut first = 0;
        for (start_ms, count) in self.runs() {
            let (here, end) = (from.max(first), to.min(first + count));
            if here < end {
                let start_ms = start_ms + (here - first) as i64 * BUCKET_MS;
                taking.runs.push((start_ms, here - from));
                taking.next_ms = start_ms.saturating_add((end - here) as i64 * BUCKET_MS);
            }
            first += count;
        }
        let column = |numbers: &Numbers| {
            let mut column = vec![0; to - from];
            numbers.copy(from, &mut column);
            column
        };
        (taking.valid, taking.bad, taking.inherited) =
            (column(&self.valid), column(&self.bad), column(&self.inherited));
        taking.told = taking.inherited.iter().any(|inherited| *inherited > 0);
        let place = |share: &Share| share.place as usize;
        let shares = self.shares.partition_point(|share| place(share) < from);
        for share in self.shares[shares..].iter().take_while(|share| place(share) < to) {
            let name = taking.number(&self.names[share.name as usize]);
            taking.shares.push(Share { place: (place(share) - from) as u32, name, failed: share.failed });
        }
        taking
    }

    /// The bucket that begins then.
    #[must_use]
    pub fn at(&self, start_ms: UnixMillis) -> Option<BucketCounts> {
        let next = self.runs.partition_point(|(first_ms, _)| *first_ms <= start_ms);
        let (first_ms, first) = *self.runs.get(next.checked_sub(1)?)?;
        let since_ms = start_ms.checked_sub(first_ms).filter(|since_ms| since_ms % BUCKET_MS == 0)?;
        let place = usize::try_from(since_ms / BUCKET_MS).ok()?.checked_add(first)?;
        let end = self.runs.get(next).map_or(self.len(), |(_, first)| *first);
        (place < end).then(|| self.counts_at(place))
    }

    /// Failures of the bucket at a place that traces charge to a dependency; `None` where they name another or nobody.
    #[must_use]
    pub fn charged(&self, place: usize, dependency: &EntityId) -> Option<u64> {
        let shares = self.shares_at(place);
        shares.iter().find(|share| self.names[share.name as usize] == *dependency).map(|share| share.failed)
    }

    /// Whether no bucket tells whose failures it inherited.
    #[must_use]
    pub fn blames_nobody(&self) -> bool {
        self.shares.is_empty()
    }

    /// Requests in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.valid.sum()
    }

    /// Requests without the rest, as a caller's history wants them beside itself.
    #[must_use]
    pub fn counts(&self) -> Vec<DependencyBucket> {
        let mut counts = Vec::with_capacity(self.len());
        self.each(|row| counts.push(DependencyBucket { start_ms: row.start_ms, counts: row.counts }));
        counts
    }

    /// Requests and failures, as a prediction reads them.
    #[must_use]
    pub fn series(&self) -> CountSeries {
        let mut points = Vec::with_capacity(self.len());
        self.each(|row| {
            let (valid, bad) = (row.counts.valid() as f64, row.counts.bad() as f64);
            points.push(CountPoint { start_ms: row.start_ms, valid, bad });
        });
        CountSeries::new(points)
    }

    /// The buckets as they were taken, without latencies.
    #[must_use]
    pub fn buckets(&self) -> Vec<SliBucket> {
        let mut buckets = Vec::with_capacity(self.len());
        self.each(|row| {
            let inherited_by_dependency = self.shares_of(row.place);
            buckets.push(SliBucket {
                start_ms: row.start_ms,
                counts: row.counts,
                inherited_by_dependency,
                latency: None,
            });
        });
        buckets
    }

    fn counts_at(&self, place: usize) -> BucketCounts {
        let inherited = if self.inherited.len() == 0 { None } else { self.inherited.at(place).checked_sub(1) };
        nested(self.valid.at(place), self.bad.at(place), inherited)
    }

    fn shares_at(&self, place: usize) -> &[Share] {
        let first = self.shares.partition_point(|share| (share.place as usize) < place);
        let of = &self.shares[first..];
        &of[..of.iter().take_while(|share| share.place as usize == place).count()]
    }

    fn shares_of(&self, place: usize) -> BTreeMap<EntityId, u64> {
        if self.shares.is_empty() {
            return BTreeMap::new();
        }
        let name = |share: &Share| (self.names[share.name as usize].clone(), share.failed);
        self.shares_at(place).iter().map(name).collect()
    }
}

/// Counts that nested when they were taken.
fn nested(valid: u64, bad: u64, inherited: Option<u64>) -> BucketCounts {
    BucketCounts::new(valid, bad, inherited).unwrap_or_default()
}

/// Whole numbers, each in as few bytes as the largest needs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Numbers {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
    Eight(Vec<u64>),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

impl Numbers {
    fn of(numbers: Vec<u64>) -> Self {
        let largest = numbers.iter().copied().max().unwrap_or(0);
        // Each fits: the largest does.
        match largest {
            0..=0xff => Self::One(numbers.iter().map(|number| *number as u8).collect()),
            0x100..=0xffff => Self::Two(numbers.iter().map(|number| *number as u16).collect()),
            0x1_0000..=0xffff_ffff => Self::Four(numbers.iter().map(|number| *number as u32).collect()),
            _ => Self::Eight(numbers),
        }
    }

    /// Those from a place on; nothing is copied where there are none.
    fn copy(&self, from: usize, to: &mut [u64]) {
        fn widened<N: Copy + Into<u64>>(numbers: &[N], to: &mut [u64]) {
            to.iter_mut().zip(numbers).for_each(|(to, number)| *to = (*number).into());
        }
        match self {
            Self::One(numbers) => widened(numbers.get(from..).unwrap_or_default(), to),
            Self::Two(numbers) => widened(numbers.get(from..).unwrap_or_default(), to),
            Self::Four(numbers) => widened(numbers.get(from..).unwrap_or_default(), to),
            Self::Eight(numbers) => widened(numbers.get(from..).unwrap_or_default(), to),
        }
    }

    /// Their sum, or the largest number there is.
    fn sum(&self) -> u64 {
        fn added<N: Copy + Into<u64>>(numbers: &[N]) -> u64 {
            numbers.iter().fold(0, |sum: u64, number| sum.saturating_add((*number).into()))
        }
        match self {
            Self::One(numbers) => added(numbers),
            Self::Two(numbers) => added(numbers),
            Self::Four(numbers) => added(numbers),
            Self::Eight(numbers) => added(numbers),
        }
    }

    fn at(&self, place: usize) -> u64 {
        match self {
            Self::One(numbers) => numbers[place].into(),
            Self::Two(numbers) => numbers[place].into(),
            Self::Four(numbers) => numbers[place].into(),
            Self::Eight(numbers) => numbers[place],
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(numbers) => numbers.len(),
            Self::Two(numbers) => numbers.len(),
            Self::Four(numbers) => numbers.len(),
            Self::Eight(numbers) => numbers.len(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::One(numbers) => size_of_val(numbers.as_slice()),
            Self::Two(numbers) => size_of_val(numbers.as_slice()),
            Self::Four(numbers) => size_of_val(numbers.as_slice()),
            Self::Eight(numbers) => size_of_val(numbers.as_slice()),
        }
    }
}

/// Buckets on their way into columns.
#[derive(Debug, Default)]
pub struct Taking {
    runs: Vec<(UnixMillis, usize)>,
    next_ms: UnixMillis,
    valid: Vec<u64>,
    bad: Vec<u64>,
    inherited: Vec<u64>,
    told: bool,
    names: Vec<EntityId>,
    numbers: BTreeMap<EntityId, u32>,
    shares: Vec<Share>,
    /// From the first one on that came out of order.
    unordered: Vec<SliBucket>,
}

impl Taking {
    /// How many there are so far; `None` where some came out of order.
    #[must_use]
    pub fn taken(&self) -> Option<usize> {
        self.unordered.is_empty().then_some(self.valid.len())
    }

    /// Takes one more; its latency is left.
    pub fn take(&mut self, bucket: &SliBucket) {
        let in_order = self.valid.is_empty() || bucket.start_ms >= self.next_ms;
        if !in_order || !self.unordered.is_empty() {
            let by_dependency = bucket.inherited_by_dependency.clone();
            self.unordered.push(SliBucket { latency: None, inherited_by_dependency: by_dependency, ..*bucket });
            return;
        }
        let place = self.valid.len();
        if place == 0 || bucket.start_ms != self.next_ms {
            self.runs.push((bucket.start_ms, place));
        }
        self.next_ms = bucket.start_ms.saturating_add(BUCKET_MS);
        self.valid.push(bucket.counts.valid());
        self.bad.push(bucket.counts.bad());
        self.inherited.push(bucket.counts.inherited_bad().map_or(0, |inherited| inherited.saturating_add(1)));
        self.told |= bucket.counts.inherited_bad().is_some();
        for (dependency, failed) in &bucket.inherited_by_dependency {
            let name = self.number(dependency);
            self.shares.push(Share { place: place as u32, name, failed: *failed });
        }
    }

    fn number(&mut self, dependency: &EntityId) -> u32 {
        if let Some(number) = self.numbers.get(dependency) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(dependency.clone());
        self.numbers.insert(dependency.clone(), number);
        number
    }

    /// Everything that was taken, by ascending start; of those with the same start the one that came first.
    #[must_use]
    pub fn done(mut self) -> Counted {
        let unordered = std::mem::take(&mut self.unordered);
        let ordered = self.columns();
        if unordered.is_empty() {
            return ordered;
        }
        let mut all = ordered.buckets();
        all.extend(unordered);
        all.sort_by_key(|bucket| bucket.start_ms);
        all.dedup_by_key(|bucket| bucket.start_ms);
        let mut taking = Self::default();
        all.iter().for_each(|bucket| taking.take(bucket));
        taking.columns()
    }

    fn columns(self) -> Counted {
        let mut shares = self.shares;
        shares.shrink_to_fit();
        Counted {
            runs: self.runs,
            valid: Numbers::of(self.valid),
            bad: Numbers::of(self.bad),
            inherited: if self.told { Numbers::of(self.inherited) } else { Numbers::default() },
            names: self.names,
            shares,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> EntityId {
        EntityId::new("id", text).expect("valid")
    }

    fn bucket(step: i64, valid: u64, bad: u64, inherited: Option<u64>) -> SliBucket {
        let bad = bad.min(valid);
        let inherited = inherited.map(|inherited| inherited.min(bad));
        let shares = match inherited {
            Some(inherited) if inherited > 1 => BTreeMap::from([(id("db"), inherited / 2), (id("cache"), 1)]),
            Some(1) => BTreeMap::from([(id("queue"), 1)]),
            _ => BTreeMap::new(),
        };
        let counts = BucketCounts::new(valid, bad, inherited).expect("nested");
        SliBucket::new(step * BUCKET_MS, counts, shares, None).expect("aligned")
    }

    fn sorted(mut buckets: Vec<SliBucket>) -> Vec<SliBucket> {
        buckets.sort_by_key(|bucket| bucket.start_ms);
        buckets.dedup_by_key(|bucket| bucket.start_ms);
        buckets
    }

    #[test]
    fn each_column_is_as_wide_as_its_largest_number() {
        let of = |valid: u64| Counted::of(&[bucket(0, valid, 1, None), bucket(1, 0, 0, None)]).bytes();
        let widths = [255, 256, 65_536, u64::MAX].map(|valid| of(valid) - of(0));
        assert_eq!(widths, [0, 2, 6, 14], "two buckets");
        let quarter: Vec<SliBucket> = (0..90 * 288).map(|step| bucket(step, 5_000, 3, None)).collect();
        assert!(Counted::of(&quarter).bytes() < 80_000);
    }

    #[test]
    fn a_bucket_is_found_by_its_start_and_a_gap_is_none() {
        let counted = Counted::of(&[bucket(-2, 1, 0, None), bucket(-1, 2, 0, None), bucket(3, 3, 1, Some(1))]);
        let valid = |start_ms: i64| counted.at(start_ms).map(BucketCounts::valid);
        let found = [-3, -2, -1, 0, 2, 3, 4].map(|step| valid(step * BUCKET_MS));
        assert_eq!(found, [None, Some(1), Some(2), None, None, Some(3), None]);
        assert_eq!((valid(1 - 2 * BUCKET_MS), valid(i64::MIN), valid(i64::MAX)), (None, None, None));
        assert_eq!((counted.charged(2, &id("queue")), counted.charged(2, &id("db"))), (Some(1), None));
        assert_eq!(counted.charged(0, &id("queue")), None);
    }

    proptest! {
        /// Whatever was taken, in whatever order, is read as the list of buckets would be.
        #[test]
        fn columns_tell_what_the_buckets_told(
            told in proptest::collection::vec((-40i64..40, 0u64..70_000, 0u64..400, proptest::option::of(0u64..300)), 0..80),
            in_order: bool,
        ) {
            let taken: Vec<SliBucket> = told.into_iter().map(|(at, valid, bad, by)| bucket(at, valid, bad, by)).collect();
            let taken = if in_order { sorted(taken) } else { taken };
            let (counted, expected) = (Counted::of(&taken), sorted(taken));
            prop_assert_eq!(&counted.buckets(), &expected);
            prop_assert_eq!(counted.requests(), expected.iter().map(|bucket| bucket.counts.valid()).sum::<u64>());
            let counts: Vec<DependencyBucket> = expected
                .iter()
                .map(|bucket| DependencyBucket { start_ms: bucket.start_ms, counts: bucket.counts })
                .collect();
            prop_assert_eq!(&counted.counts(), &counts);
            let mut rows = Vec::new();
            counted.each(|row| rows.push(row));
            prop_assert_eq!(rows.len(), expected.len());
            for (row, bucket) in rows.iter().zip(&expected) {
                prop_assert_eq!((row.start_ms, row.counts), (bucket.start_ms, bucket.counts));
                prop_assert_eq!(counted.at(bucket.start_ms), Some(bucket.counts));
                for name in ["db", "cache", "queue", "other"].map(id) {
                    prop_assert_eq!(counted.charged(row.place, &name), bucket.inherited_by_dependency.get(&name).copied());
                }
            }
            prop_assert_eq!(Counted::of(&expected), counted);
        }

        /// What is gone on with is what would have been taken as a whole.
        #[test]
        fn a_part_that_is_gone_on_with_is_the_whole(
            told in proptest::collection::vec((-40i64..40, 0u64..70_000, 0u64..400, proptest::option::of(0u64..300)), 0..80),
            (from, until) in (-45i64..45, -45i64..45),
        ) {
            let taken = sorted(told.into_iter().map(|(at, valid, bad, by)| bucket(at, valid, bad, by)).collect());
            let whole = Counted::of(&taken);
            let (from_ms, until_ms) = (from * BUCKET_MS, until.max(from) * BUCKET_MS);
            let places = [from_ms, from_ms + 1, until_ms].map(|time_ms| whole.place_from(time_ms));
            let before = |time_ms: i64| taken.iter().filter(|bucket| bucket.start_ms < time_ms).count();
            prop_assert_eq!(places, [from_ms, from_ms + 1, until_ms].map(before));
            let mut taking = whole.resumed(places[0], places[2]);
            prop_assert_eq!(taking.taken(), Some(places[2] - places[0]));
            taken.iter().filter(|bucket| bucket.start_ms >= until_ms).for_each(|bucket| taking.take(bucket));
            let expected: Vec<SliBucket> = taken.into_iter().filter(|bucket| bucket.start_ms >= from_ms).collect();
            prop_assert_eq!(taking.done(), Counted::of(&expected));
        }
    }
}
