//! The history of a component as it is kept: the JSON that [`attain_attainment::Written`] would make of its buckets, to the
//! byte, written from the columns in one pass.

use super::counted::Counted;

/// Bytes of a bucket's numbers, more or less.
const BUCKET_BYTES: usize = 8;

/// The history as it is kept.
#[must_use]
pub(crate) fn written(counted: &Counted) -> Vec<u8> {
    let mut valid = Column::with_room(counted.len() * BUCKET_BYTES);
    let (mut bad, mut told, mut inherited) = (Column::default(), Vec::new(), Column::default());
    counted.each(|row| {
        valid.next();
        valid.put(row.counts.valid());
        bad.put_pair(row.place, row.counts.bad());
        let Some(of_others) = row.counts.inherited_bad() else { return };
        inherited.put_pair(row.place, of_others);
        match told.last_mut() {
            Some((first, count)) if *first + *count as usize == row.place => *count += 1,
            _ => told.push((row.place, 1)),
        }
    });
    let mut json = Column::with_room(valid.0.len() + bad.0.len() + inherited.0.len() + 256);
    json.0.extend(b"{\"runs\":[");
    for (number, (start_ms, count)) in counted.runs().enumerate() {
        json.0.extend(if number == 0 { &b"["[..] } else { b",[" });
        if start_ms < 0 {
            json.0.push(b'-');
        }
        json.put(start_ms.unsigned_abs());
        json.0.push(b',');
        json.put(count as u64);
        json.0.push(b']');
    }
    json.0.extend(b"],\"valid\":[");
    json.0.extend(valid.0);
    json.0.push(b']');
    let mut runs_told = Column::default();
    told.into_iter().for_each(|(first, count): (usize, u64)| runs_told.put_pair(first, count));
    for (name, column) in [("bad", bad), ("told", runs_told), ("inherited", inherited)] {
        json.put_column(name, &column);
    }
    json.0.push(b'}');
    json.0
}

/// What stands between the brackets of a list.
#[derive(Default)]
struct Column(Vec<u8>);

impl Column {
    fn with_room(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn next(&mut self) {
        if !self.0.is_empty() {
            self.0.push(b',');
        }
    }

    /// A place and its number, where that is not 0.
    fn put_pair(&mut self, place: usize, number: u64) {
        if number > 0 {
            self.next();
            self.0.push(b'[');
            self.put(place as u64);
            self.0.push(b',');
            self.put(number);
            self.0.push(b']');
        }
    }

    /// A column by its name, where it has anything.
    fn put_column(&mut self, name: &str, column: &Self) {
        if !column.0.is_empty() {
            self.0.extend(b",\"");
            self.0.extend(name.as_bytes());
            self.0.extend(b"\":[");
            self.0.extend(&column.0);
            self.0.push(b']');
        }
    }

    fn put(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.0.extend_from_slice(&digits[first..]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use attain_attainment::Written;
    use attain_vocabulary::{BUCKET_MS, BucketCounts, SliBucket};
    use proptest::prelude::*;

    use super::*;

    fn bucket(step: i64, valid: u64, bad: u64, inherited: Option<u64>) -> SliBucket {
        let bad = bad.min(valid);
        let counts = BucketCounts::new(valid, bad, inherited.map(|inherited| inherited.min(bad))).expect("nested");
        SliBucket::new(step * BUCKET_MS, counts, BTreeMap::new(), None).expect("aligned")
    }

    fn same(buckets: &[SliBucket]) -> (String, String) {
        let counted = Counted::of(buckets);
        let expected = serde_json::to_string(&Written(&counted.counts())).expect("numbers");
        (String::from_utf8(written(&counted)).expect("text"), expected)
    }

    #[test]
    fn nothing_and_the_largest_numbers_are_written_alike() {
        for buckets in [vec![], vec![bucket(-7, 0, 0, None), bucket(1 << 40, u64::MAX, u64::MAX, Some(u64::MAX - 1))]] {
            let (written, expected) = same(&buckets);
            assert_eq!(written, expected);
        }
        let quarter: Vec<SliBucket> = (0..2_000).filter(|at| at % 700 != 9).map(|at| bucket(at, 12, 0, None)).collect();
        let (written, expected) = same(&quarter);
        assert_eq!(written, expected);
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_buckets_one_by_one(
            told in proptest::collection::vec((-40i64..40, 0u64..70_000, 0u64..400, proptest::option::of(0u64..300)), 0..80),
        ) {
            let buckets: Vec<SliBucket> = told.into_iter().map(|(at, valid, bad, by)| bucket(at, valid, bad, by)).collect();
            let (written, expected) = same(&buckets);
            prop_assert_eq!(written, expected);
        }
    }
}
