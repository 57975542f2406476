//! Between wire messages and the words of `attain-vocabulary`. Whatever comes in is checked; whatever goes out cannot fail.

use std::collections::BTreeMap;

use attain_vocabulary as words;
use attain_vocabulary::{EntityId, InvalidValue, UnixMillis};

use crate::vocabulary::v1 as wire;

/// Milliseconds since the Unix epoch as a wire timestamp.
#[must_use]
pub fn timestamp(time_ms: UnixMillis) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time_ms.div_euclid(1000), nanos: (time_ms.rem_euclid(1000) * 1_000_000) as i32 }
}

/// A wire timestamp in milliseconds since the Unix epoch; fractions of a millisecond are cut off.
#[must_use]
pub fn unix_millis(timestamp: &prost_types::Timestamp) -> UnixMillis {
    timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos) / 1_000_000)
}

/// A timestamp that has to be there.
///
/// # Errors
/// Names the field where it is not set.
pub fn required_time(field: &str, timestamp: Option<&prost_types::Timestamp>) -> Result<UnixMillis, InvalidValue> {
    timestamp
        .map(unix_millis)
        .ok_or_else(|| InvalidValue::new(field, "required", "a time is required, for example 2026-11-01T00:00:00Z"))
}

/// A span of milliseconds as a wire duration.
#[must_use]
pub fn duration(span_ms: i64) -> prost_types::Duration {
    prost_types::Duration { seconds: span_ms / 1000, nanos: ((span_ms % 1000) * 1_000_000) as i32 }
}

/// A wire duration in milliseconds.
#[must_use]
pub fn duration_millis(duration: &prost_types::Duration) -> i64 {
    duration.seconds.saturating_mul(1000).saturating_add(i64::from(duration.nanos) / 1_000_000)
}

impl From<words::TimeRange> for wire::TimeRange {
    fn from(range: words::TimeRange) -> Self {
        Self { start_time: Some(timestamp(range.start_ms())), end_time: Some(timestamp(range.end_ms())) }
    }
}

impl TryFrom<&wire::TimeRange> for words::TimeRange {
    type Error = InvalidValue;
    fn try_from(range: &wire::TimeRange) -> Result<Self, InvalidValue> {
        let start = required_time("range/start_time", range.start_time.as_ref())?;
        let end = required_time("range/end_time", range.end_time.as_ref())?;
        Self::new("range", start, end)
    }
}

impl From<&words::LatencyHistogram> for wire::LatencyHistogram {
    fn from(histogram: &words::LatencyHistogram) -> Self {
        Self {
            scale: i32::from(histogram.scale()),
            zero_count: histogram.zero_count(),
            offset: histogram.offset(),
            bucket_counts: histogram.bucket_counts().to_vec(),
        }
    }
}

impl TryFrom<&wire::LatencyHistogram> for words::LatencyHistogram {
    type Error = InvalidValue;
    fn try_from(histogram: &wire::LatencyHistogram) -> Result<Self, InvalidValue> {
        let scale = i8::try_from(histogram.scale)
            .map_err(|_| InvalidValue::new("latency/scale", "out_of_range", "the scale is outside -10 to 20"))?;
        Self::new(scale, histogram.zero_count, histogram.offset, histogram.bucket_counts.clone())
    }
}

impl From<&words::SliBucket> for wire::SliBucket {
    fn from(bucket: &words::SliBucket) -> Self {
        Self {
            start_time: Some(timestamp(bucket.start_ms)),
            valid_count: bucket.counts.valid(),
            bad_count: bucket.counts.bad(),
            inherited_bad_count: bucket.counts.inherited_bad(),
            latency: bucket.latency.as_ref().map(Into::into),
            inherited_by_dependency: bucket
                .inherited_by_dependency
                .iter()
                .map(|(id, n)| (id.to_string(), *n))
                .collect(),
        }
    }
}

impl TryFrom<&wire::SliBucket> for words::SliBucket {
    type Error = InvalidValue;
    fn try_from(bucket: &wire::SliBucket) -> Result<Self, InvalidValue> {
        let start_ms = required_time("start_time", bucket.start_time.as_ref())?;
        let counts = words::BucketCounts::new(bucket.valid_count, bucket.bad_count, bucket.inherited_bad_count)?;
        let shares = shares(&bucket.inherited_by_dependency)?;
        let latency = bucket.latency.as_ref().map(TryInto::try_into).transpose()?;
        Self::new(start_ms, counts, shares, latency)
    }
}

/// Inherited failures by dependency, each name checked.
///
/// # Errors
/// Names the first key that is no entity name.
pub fn shares<'a>(
    shares: impl IntoIterator<Item = (&'a String, &'a u64)>,
) -> Result<BTreeMap<EntityId, u64>, InvalidValue> {
    shares.into_iter().map(|(id, count)| Ok((EntityId::new("inherited_by_dependency", id)?, *count))).collect()
}

macro_rules! enumeration {
    ($(#[$doc:meta])* $wire:ident => $words:ident, unspecified: $default:expr, { $($from:ident <=> $to:ident),+ $(,)? }) => {
        impl From<words::$words> for wire::$wire {
            fn from(value: words::$words) -> Self {
                match value { $(words::$words::$to => Self::$from),+ }
            }
        }
        impl From<wire::$wire> for Option<words::$words> {
            fn from(value: wire::$wire) -> Self {
                match value {
                    wire::$wire::Unspecified => $default,
                    $(wire::$wire::$from => Some(words::$words::$to)),+
                }
            }
        }
    };
}

enumeration!(EntityKind => EntityKind, unspecified: None, {
    Service <=> Service, Datastore <=> Datastore, Cache <=> Cache, Queue <=> Queue,
    Infrastructure <=> Infrastructure, External <=> External, NodePool <=> NodePool, Zone <=> Zone, Region <=> Region,
    Api <=> Api, System <=> System,
});
enumeration!(Tier => Tier, unspecified: None, { Tier1 <=> One, Tier2 <=> Two, Tier3 <=> Three, Tier4 <=> Four });
enumeration!(DependencyMode => DependencyMode, unspecified: None, { Hard <=> Hard, Soft <=> Soft, Async <=> Async });
enumeration!(Source => Source, unspecified: None, {
    Declared <=> Declared, Traces <=> Traces, OtlpMetrics <=> OtlpMetrics, Prometheus <=> Prometheus,
    Catalogue <=> Catalogue, ServiceGraph <=> ServiceGraph, Istio <=> Istio, Linkerd <=> Linkerd, Jaeger <=> Jaeger,
});
enumeration!(SliKind => SliKind, unspecified: None, {
    Availability <=> Availability, Latency <=> Latency, Freshness <=> Freshness,
});
enumeration!(UtilisationKind => UtilisationKind, unspecified: None, {
    Cpu <=> Cpu, Memory <=> Memory, Saturation <=> Saturation, QueueDepth <=> QueueDepth,
    ConnectionPool <=> ConnectionPool, MessageAge <=> MessageAge,
});

/// The word behind an enum number of the wire: `None` where it was left unspecified.
///
/// # Errors
/// Refuses a number that this version of the contract does not know.
pub fn word<Wire, Word>(field: &str, number: i32) -> Result<Option<Word>, InvalidValue>
where
    Wire: TryFrom<i32> + Into<Option<Word>>,
{
    Wire::try_from(number)
        .map(Into::into)
        .map_err(|_| InvalidValue::new(field, "unknown_value", format!("{number} is no value that this version knows")))
}

/// A refused row of a batch as the wire reports it. `list` is the field that holds the batch; without a field the complaint is
/// about the row as a whole.
#[must_use]
pub fn rejection(list: &str, index: usize, invalid: &InvalidValue) -> wire::Rejection {
    let field = if invalid.field.is_empty() { String::new() } else { format!("/{}", invalid.field) };
    wire::Rejection {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        pointer: format!("/{list}/{index}{field}"),
        code: invalid.code.to_owned(),
        reason: invalid.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_survives_the_wire() {
        for time_ms in [0, 1, -1, 1_793_000_000_123] {
            assert_eq!(unix_millis(&timestamp(time_ms)), time_ms);
        }
    }

    #[test]
    fn a_bucket_survives_the_wire() {
        let latency = words::LatencyHistogram::from_explicit(&[10.0, 100.0], &[5, 3, 1]).expect("valid");
        let counts = words::BucketCounts::new(9, 2, Some(1)).expect("valid");
        let shares = BTreeMap::from([(EntityId::new("id", "db").expect("valid"), 1)]);
        let bucket = words::SliBucket::new(600_000, counts, shares, Some(latency)).expect("valid");
        let back = words::SliBucket::try_from(&wire::SliBucket::from(&bucket));
        assert_eq!(back, Ok(bucket));
    }

    #[test]
    fn an_unknown_enum_number_is_named() {
        let error = word::<wire::Tier, words::Tier>("tier", 99).expect_err("unknown");
        assert_eq!((error.field.as_str(), error.code), ("tier", "unknown_value"));
        assert_eq!(word::<wire::Tier, words::Tier>("tier", 0), Ok(None));
    }
}
