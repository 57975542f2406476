//! How histories are written where an input is kept: in columns, with what repeats said once. Ninety days of buckets one by one are
//! megabytes of names, and hashing and packing those would cost more than the recommendation itself.
//!
//! What was kept as a list of buckets is read as well.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, LatencyHistogram, SliBucket, UnixMillis};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::DependencyBucket;

/// A history of any buckets. Places count from 0; what is not listed is 0, empty or not known.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Columns {
    /// Runs of buckets that follow one another: start of the first, and how many.
    runs: Vec<(UnixMillis, usize)>,
    /// Requests, one for each bucket.
    valid: Vec<u64>,
    /// Place and failures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    bad: Vec<(usize, u64)>,
    /// Runs of buckets that tell inherited failures: place of the first, and how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<(usize, usize)>,
    /// Place and inherited failures, of those that tell them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inherited: Vec<(usize, u64)>,
    /// Place and inherited failures by dependency.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inherited_by: Vec<(usize, BTreeMap<EntityId, u64>)>,
    /// Place and latencies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    latency: Vec<(usize, LatencyHistogram)>,
}

/// A bucket that is written in columns.
pub(crate) trait Bucket: Sized {
    fn start_ms(&self) -> UnixMillis;
    fn counts(&self) -> BucketCounts;
    fn inherited_by(&self) -> Option<&BTreeMap<EntityId, u64>>;
    fn latency(&self) -> Option<&LatencyHistogram>;
    fn of(
        start_ms: UnixMillis,
        counts: BucketCounts,
        by: BTreeMap<EntityId, u64>,
        latency: Option<LatencyHistogram>,
    ) -> Self;
}

/// Writes a history.
pub(crate) fn serialize<B: Bucket, S: Serializer>(buckets: &[B], serializer: S) -> Result<S::Ok, S::Error> {
    Columns::of(buckets).serialize(serializer)
}

/// Reads a history in columns, or one that was kept bucket by bucket.
pub(crate) fn deserialize<'de, B, D>(deserializer: D) -> Result<Vec<B>, D::Error>
where
    B: Bucket + Deserialize<'de>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(Either(PhantomData))
}

/// The history of a dependency, written as where an input is kept.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a>(pub &'a [DependencyBucket]);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self.0, serializer)
    }
}

struct Either<B>(PhantomData<B>);

impl<'de, B: Bucket + Deserialize<'de>> Visitor<'de> for Either<B> {
    type Value = Vec<B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a history in columns, or a list of buckets")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<B>, A::Error> {
        let mut buckets = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(1 << 16));
        while let Some(bucket) = seq.next_element()? {
            buckets.push(bucket);
        }
        Ok(buckets)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<B>, A::Error> {
        Columns::deserialize(MapAccessDeserializer::new(map))?.buckets().map_err(A::Error::custom)
    }
}

impl Columns {
    fn of<B: Bucket>(buckets: &[B]) -> Self {
        let mut columns = Self::default();
        let mut next_ms = None;
        for (place, bucket) in buckets.iter().enumerate() {
            let (start_ms, counts) = (bucket.start_ms(), bucket.counts());
            match columns.runs.last_mut() {
                Some((_, count)) if next_ms == Some(start_ms) => *count += 1,
                _ => columns.runs.push((start_ms, 1)),
            }
            next_ms = start_ms.checked_add(BUCKET_MS);
            columns.valid.push(counts.valid());
            if counts.bad() > 0 {
                columns.bad.push((place, counts.bad()));
            }
            if let Some(inherited) = counts.inherited_bad() {
                match columns.told.last_mut() {
                    Some((first, count)) if *first + *count == place => *count += 1,
                    _ => columns.told.push((place, 1)),
                }
                if inherited > 0 {
                    columns.inherited.push((place, inherited));
                }
            }
            if let Some(by) = bucket.inherited_by().filter(|by| !by.is_empty()) {
                columns.inherited_by.push((place, by.clone()));
            }
            if let Some(latency) = bucket.latency() {
                columns.latency.push((place, latency.clone()));
            }
        }
        columns
    }

    /// The buckets, or which column does not fit the others.
    fn buckets<B: Bucket>(self) -> Result<Vec<B>, String> {
        let count = self.valid.len();
        let outside = |column: &str| format!("the column `{column}` names a bucket beyond the {count} of the history");
        let (mut bad, mut inherited) = (vec![0; count], vec![None; count]);
        for (place, failed) in self.bad {
            *bad.get_mut(place).ok_or_else(|| outside("bad"))? = failed;
        }
        for (first, many) in self.told {
            let told = inherited.get_mut(first..first.saturating_add(many)).ok_or_else(|| outside("told"))?;
            told.fill(Some(0));
        }
        for (place, failed) in self.inherited {
            *inherited.get_mut(place).ok_or_else(|| outside("inherited"))? = Some(failed);
        }
        let mut starts = Vec::with_capacity(count);
        for (first, many) in self.runs {
            if many > count - starts.len() {
                return Err(outside("runs"));
            }
            let start = |place: usize| first.checked_add(i64::try_from(place).ok()?.checked_mul(BUCKET_MS)?);
            for place in 0..many {
                starts.push(start(place).ok_or("the column `runs` leaves the span of time that can be told")?);
            }
        }
        if starts.len() < count {
            return Err(format!("the column `runs` has {} buckets of the {count} of the history", starts.len()));
        }
        let mut by = self.inherited_by.into_iter().peekable();
        let mut latencies = self.latency.into_iter().peekable();
        let mut buckets = Vec::with_capacity(count);
        for (place, valid) in self.valid.into_iter().enumerate() {
            let counts =
                BucketCounts::new(valid, bad[place], inherited[place]).map_err(|invalid| invalid.to_string())?;
            let of_place = by.next_if(|(at, _)| *at == place).map(|(_, by)| by).unwrap_or_default();
            let latency = latencies.next_if(|(at, _)| *at == place).map(|(_, latency)| latency);
            buckets.push(B::of(starts[place], counts, of_place, latency));
        }
        match (by.next(), latencies.next()) {
            (Some(_), _) => Err(outside("inherited_by")),
            (_, Some(_)) => Err(outside("latency")),
            (None, None) => Ok(buckets),
        }
    }
}

impl Bucket for SliBucket {
    fn start_ms(&self) -> UnixMillis {
        self.start_ms
    }

    fn counts(&self) -> BucketCounts {
        self.counts
    }

    fn inherited_by(&self) -> Option<&BTreeMap<EntityId, u64>> {
        Some(&self.inherited_by_dependency)
    }

    fn latency(&self) -> Option<&LatencyHistogram> {
        self.latency.as_ref()
    }

    fn of(
        start_ms: UnixMillis,
        counts: BucketCounts,
        inherited_by_dependency: BTreeMap<EntityId, u64>,
        latency: Option<LatencyHistogram>,
    ) -> Self {
        Self { start_ms, counts, inherited_by_dependency, latency }
    }
}

impl Bucket for DependencyBucket {
    fn start_ms(&self) -> UnixMillis {
        self.start_ms
    }

    fn counts(&self) -> BucketCounts {
        self.counts
    }

    fn inherited_by(&self) -> Option<&BTreeMap<EntityId, u64>> {
        None
    }

    fn latency(&self) -> Option<&LatencyHistogram> {
        None
    }

    fn of(
        start_ms: UnixMillis,
        counts: BucketCounts,
        _by: BTreeMap<EntityId, u64>,
        _latency: Option<LatencyHistogram>,
    ) -> Self {
        Self { start_ms, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Kept {
        #[serde(with = "super")]
        buckets: Vec<SliBucket>,
    }

    /// As histories were kept before.
    #[derive(Serialize)]
    struct Listed<'a> {
        buckets: &'a [SliBucket],
    }

    fn bucket() -> impl Strategy<Value = SliBucket> {
        let start = prop_oneof![0i64..40, Just(i64::MAX / BUCKET_MS), -3i64..3];
        let latency = prop::option::of(prop::collection::vec(0u64..5, 1..4));
        (start, 0u64..50, 0.0f64..1.0, prop::option::of(0.0f64..1.0), any::<bool>(), latency).prop_map(
            |(start, valid, bad, inherited, named, latency)| {
                let bad = (valid as f64 * bad * bad) as u64;
                let inherited = inherited.map(|share| (bad as f64 * share) as u64);
                let id = EntityId::new("id", "callee").expect("a name");
                let by =
                    inherited.filter(|failed| named && *failed > 0).map(|failed| (id, failed)).into_iter().collect();
                let latency = latency.map(|counts| LatencyHistogram::new(3, 1, 20, counts).expect("a histogram"));
                let counts = BucketCounts::new(valid, bad, inherited).expect("nested");
                SliBucket::new(start * BUCKET_MS, counts, by, latency).expect("aligned")
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_so_is_what_was_kept_before(buckets in prop::collection::vec(bucket(), 0..60)) {
            let kept = Kept { buckets };
            let text = serde_json::to_string(&kept).expect("written");
            prop_assert_eq!(&serde_json::from_str::<Kept>(&text).expect("read"), &kept);
            let listed = serde_json::to_string(&Listed { buckets: &kept.buckets }).expect("written");
            prop_assert_eq!(&serde_json::from_str::<Kept>(&listed).expect("read"), &kept);
        }
    }

    #[test]
    fn columns_that_do_not_fit_are_refused_by_name() {
        let fault = |text: &str| serde_json::from_str::<Kept>(text).map_err(|error| error.to_string());
        let whole = r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"bad":[[1,2]]}}"#;
        assert_eq!(fault(whole).expect("read").buckets[1].counts.bad(), 2);
        for (text, column) in [
            (r#"{"buckets":{"runs":[[0,1]],"valid":[3,4]}}"#, "runs"),
            (r#"{"buckets":{"runs":[[0,3]],"valid":[3,4]}}"#, "runs"),
            (r#"{"buckets":{"runs":[[9223372036854775807,2]],"valid":[3,4]}}"#, "runs"),
            (r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"bad":[[2,1]]}}"#, "bad"),
            (r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"bad":[[0,4]]}}"#, "bad"),
            (r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"told":[[1,2]]}}"#, "told"),
            (r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"inherited":[[7,0]]}}"#, "inherited"),
            (r#"{"buckets":{"runs":[[0,2]],"valid":[3,4],"inherited_by":[[2,{}]]}}"#, "inherited_by"),
            (r#"{"buckets":3}"#, "columns"),
        ] {
            let told = fault(text).expect_err(text);
            assert!(told.contains(column), "{told}");
        }
    }

    #[test]
    fn ninety_days_are_small() {
        let bucket = |i: i64| {
            let counts = BucketCounts::new(1_234, u64::from(i % 20 == 0), None).expect("nested");
            SliBucket::new(i * BUCKET_MS, counts, BTreeMap::new(), None).expect("aligned")
        };
        let kept = Kept { buckets: (0..90 * 288).map(bucket).collect() };
        let (columns, listed) = (
            serde_json::to_string(&kept).expect("written").len(),
            serde_json::to_string(&Listed { buckets: &kept.buckets }).expect("written").len(),
        );
        assert!(columns * 15 < listed, "{columns} of {listed} bytes");
    }
}
