//! Buckets in columns and back.

use std::collections::BTreeMap;

use attain_vocabulary::{BUCKET_MS, BucketCounts, EntityId, InvalidValue, LatencyHistogram, SliBucket};

use crate::day;
use crate::ingestion::v1::StreamSliHistoryResponse;
use crate::vocabulary::v1::{InheritedShare, SliColumns};

/// Buckets in columns, in their order.
#[must_use]
pub fn columns<'a>(buckets: impl ExactSizeIterator<Item = &'a SliBucket>) -> SliColumns {
    let count = buckets.len();
    let mut columns = SliColumns {
        start_steps: Vec::with_capacity(count),
        valid_counts: Vec::with_capacity(count),
        bad_counts: Vec::with_capacity(count),
        inherited_bad_counts: Vec::with_capacity(count),
        ..SliColumns::default()
    };
    let mut before = 0;
    for (place, bucket) in buckets.enumerate() {
        let step = bucket.start_ms.div_euclid(BUCKET_MS);
        columns.start_steps.push(step - before);
        before = step;
        columns.valid_counts.push(bucket.counts.valid());
        columns.bad_counts.push(bucket.counts.bad());
        columns.inherited_bad_counts.push(bucket.counts.inherited_bad().map_or(0, |count| count.saturating_add(1)));
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        for (dependency, count) in &bucket.inherited_by_dependency {
            let dependency_id = dependency.to_string();
            columns.inherited_shares.push(InheritedShare { place, dependency_id, count: *count });
        }
        if let Some(latency) = &bucket.latency {
            columns.latency_places.push(place);
            columns.latencies.push(latency.into());
        }
    }
    columns
}

/// The buckets of a part of a history, columns or packed days, appended in their order, each checked.
///
/// # Errors
/// Names the first column that does not fit the others, the first field of a bucket that cannot be right, or `days`.
pub fn append(part: &StreamSliHistoryResponse, out: &mut Vec<SliBucket>) -> Result<(), InvalidValue> {
    if let Some(columns) = &part.buckets {
        out.append(&mut buckets(columns)?);
    }
    day::append(&part.days, out)
}

/// The buckets that stand in columns, in their order, each checked.
///
/// # Errors
/// Names the first column that does not fit the others, or the first field of a bucket that cannot be right.
pub fn buckets(columns: &SliColumns) -> Result<Vec<SliBucket>, InvalidValue> {
    let count = columns.start_steps.len();
    let lengths = [
        ("valid_counts", columns.valid_counts.len()),
        ("bad_counts", columns.bad_counts.len()),
        ("inherited_bad_counts", columns.inherited_bad_counts.len()),
    ];
    if let Some((field, length)) = lengths.into_iter().find(|(_, length)| *length != count) {
        return Err(InvalidValue::new(field, "wrong_length", format!("{length} values for {count} buckets")));
    }
    let mut shares = inherited_shares(columns, count)?.into_iter().peekable();
    let mut latencies = latencies(columns, count)?.into_iter().peekable();
    let mut step = 0i64;
    let mut buckets = Vec::with_capacity(count);
    for place in 0..count {
        step = step.saturating_add(columns.start_steps[place]);
        let inherited = columns.inherited_bad_counts[place].checked_sub(1);
        let counts = BucketCounts::new(columns.valid_counts[place], columns.bad_counts[place], inherited)?;
        let own_shares: BTreeMap<EntityId, u64> =
            std::iter::from_fn(|| shares.next_if(|(of, _)| *of == place)).map(|(_, share)| share).collect();
        let latency = latencies.next_if(|(of, _)| *of == place).map(|(_, latency)| latency);
        buckets.push(SliBucket::new(step.saturating_mul(BUCKET_MS), counts, own_shares, latency)?);
    }
    Ok(buckets)
}

/// What belongs to the bucket at a place.
type Placed<T> = (usize, T);

/// By ascending place.
fn inherited_shares(columns: &SliColumns, count: usize) -> Result<Vec<Placed<(EntityId, u64)>>, InvalidValue> {
    ascending("inherited_shares/place", columns.inherited_shares.iter().map(|share| share.place), count, |a, b| {
        a <= b
    })?;
    let share = |share: &InheritedShare| {
        let id = EntityId::new("inherited_shares/dependency_id", &share.dependency_id)?;
        Ok((share.place as usize, (id, share.count)))
    };
    columns.inherited_shares.iter().map(share).collect()
}

fn latencies(columns: &SliColumns, count: usize) -> Result<Vec<Placed<LatencyHistogram>>, InvalidValue> {
    let places = &columns.latency_places;
    if places.len() != columns.latencies.len() {
        let reason = format!("{} places for {} histograms", places.len(), columns.latencies.len());
        return Err(InvalidValue::new("latency_places", "wrong_length", reason));
    }
    ascending("latency_places", places.iter().copied(), count, |a, b| a < b)?;
    let pairs = places.iter().zip(&columns.latencies);
    pairs.map(|(place, latency)| Ok((*place as usize, latency.try_into()?))).collect()
}

fn ascending(
    field: &str,
    places: impl Iterator<Item = u32> + Clone,
    count: usize,
    follows: fn(u32, u32) -> bool,
) -> Result<(), InvalidValue> {
    let in_order = places.clone().zip(places.clone().skip(1)).all(|(a, b)| follows(a, b));
    if in_order && places.clone().all(|place| (place as usize) < count) {
        return Ok(());
    }
    Err(InvalidValue::new(field, "out_of_order", format!("places ascend and are below {count}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(step: i64, shares: &[(&str, u64)], latency: bool) -> SliBucket {
        let inherited = (!shares.is_empty()).then_some(4);
        let counts = BucketCounts::new(9, 5, inherited).expect("nested");
        let id = |name: &str| EntityId::new("id", name).expect("valid");
        let shares = shares.iter().map(|(name, count)| (id(name), *count)).collect();
        let latency = latency.then(|| LatencyHistogram::from_explicit(&[10.0, 100.0], &[5, 3, 1]).expect("valid"));
        SliBucket::new(step * BUCKET_MS, counts, shares, latency).expect("valid")
    }

    fn several() -> Vec<SliBucket> {
        vec![
            bucket(-3, &[], true),
            bucket(5_900_000, &[("db", 1), ("cache", 2)], false),
            bucket(5_900_001, &[], false),
            bucket(5_900_700, &[("db", 4)], true),
        ]
    }

    #[test]
    fn buckets_come_back_from_columns() {
        assert_eq!(buckets(&columns(several().iter())), Ok(several()));
        assert_eq!(buckets(&SliColumns::default()), Ok(Vec::new()));
    }

    #[test]
    fn columns_that_do_not_fit_are_named() {
        type Spoil = fn(&mut SliColumns);
        let cases: [(&str, Spoil); 9] = [
            ("valid_counts", |columns| columns.valid_counts.truncate(3)),
            ("bad_counts", |columns| columns.bad_counts.push(0)),
            ("inherited_bad_counts", |columns| columns.inherited_bad_counts.clear()),
            ("bad_count", |columns| columns.bad_counts[0] = 10),
            ("inherited_shares/place", |columns| columns.inherited_shares[0].place = 4),
            ("inherited_shares/place", |columns| columns.inherited_shares.swap(0, 2)),
            ("inherited_shares/dependency_id", |columns| columns.inherited_shares[0].dependency_id.clear()),
            ("latency_places", |columns| columns.latency_places[1] = 0),
            ("latency_places", |columns| columns.latencies.truncate(1)),
        ];
        for (field, spoil) in cases {
            let mut spoilt = columns(several().iter());
            spoil(&mut spoilt);
            assert_eq!(buckets(&spoilt).map_err(|error| error.field), Err(field.to_owned()));
        }
    }
}
