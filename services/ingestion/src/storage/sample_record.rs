//! How the sampled requests of a service and hour are stored, all in one record: as the other records are, see
//! [`super::record`].

use std::collections::{BTreeMap, BTreeSet};

use attain_vocabulary::{EntityId, UnixMillis};
use prost::Message;

use super::record::{entity_id, undecodable};
use crate::Error;
use crate::domain::{RequestSample, SampledCall};

const HOUR_US: u64 = 3_600_000_000;

/// Names stand once.
#[derive(Clone, PartialEq, Message)]
struct HourRecord {
    /// Whom the requests called, in lexical order.
    #[prost(string, repeated, tag = "1")]
    callees: Vec<String>,
    /// By their ranks.
    #[prost(message, repeated, tag = "2")]
    samples: Vec<SampleRecord>,
}

/// Of the calls a column each, by the time of their beginning.
#[derive(Clone, PartialEq, Message)]
struct SampleRecord {
    #[prost(fixed64, tag = "1")]
    rank: u64,
    /// Since the beginning of the hour.
    #[prost(uint64, tag = "2")]
    start_us: u64,
    #[prost(uint64, tag = "3")]
    duration_us: u64,
    #[prost(bool, tag = "4")]
    failed: bool,
    #[prost(bool, tag = "5")]
    truncated: bool,
    /// Places in the list of callees.
    #[prost(uint32, repeated, tag = "6")]
    callees: Vec<u32>,
    #[prost(uint64, repeated, tag = "7")]
    offsets_us: Vec<u64>,
    #[prost(uint64, repeated, tag = "8")]
    durations_us: Vec<u64>,
    /// Places of the calls that failed.
    #[prost(uint32, repeated, tag = "9")]
    failed_calls: Vec<u32>,
}

/// Samples of one service and hour in the order of their ranks.
pub(super) fn encode_hour(hour_ms: UnixMillis, samples: &[RequestSample]) -> Vec<u8> {
    let callees: BTreeSet<&EntityId> =
        samples.iter().flat_map(|sample| sample.calls.iter().map(|call| &call.callee)).collect();
    let places: BTreeMap<&EntityId, u32> = callees.iter().copied().zip(0..).collect();
    let record = HourRecord {
        callees: callees.iter().map(ToString::to_string).collect(),
        samples: samples.iter().map(|sample| sample_record(hour_ms, sample, &places)).collect(),
    };
    record.encode_to_vec()
}

fn sample_record(hour_ms: UnixMillis, sample: &RequestSample, places: &BTreeMap<&EntityId, u32>) -> SampleRecord {
    let calls = &sample.calls;
    SampleRecord {
        rank: sample.rank,
        // It began within the hour.
        start_us: sample.start_time_us.saturating_sub(hour_ms.saturating_mul(1_000)).unsigned_abs(),
        duration_us: sample.duration_us,
        failed: sample.failed,
        truncated: sample.truncated,
        callees: calls.iter().filter_map(|call| places.get(&call.callee).copied()).collect(),
        offsets_us: calls.iter().map(|call| call.offset_us).collect(),
        durations_us: calls.iter().map(|call| call.duration_us).collect(),
        failed_calls: (0..).zip(calls).filter(|(_, call)| call.failed).map(|(place, _)| place).collect(),
    }
}

pub(super) fn decode_hour(service: &EntityId, hour_ms: UnixMillis, bytes: &[u8]) -> Result<Vec<RequestSample>, Error> {
    let record = HourRecord::decode(bytes).map_err(undecodable)?;
    let callees = record.callees.iter().map(|name| entity_id(name)).collect::<Result<Vec<_>, Error>>()?;
    record.samples.iter().map(|sample| read_sample(service, hour_ms, &callees, sample)).collect()
}

fn read_sample(
    service: &EntityId,
    hour_ms: UnixMillis,
    callees: &[EntityId],
    record: &SampleRecord,
) -> Result<RequestSample, Error> {
    let corrupt = |what: &str| Error::Corrupt(format!("a sampled request's {what}"));
    let call_count = record.callees.len();
    if record.offsets_us.len() != call_count || record.durations_us.len() != call_count {
        return Err(corrupt("calls are not whole"));
    }
    if record.start_us >= HOUR_US {
        return Err(corrupt("beginning is in another hour"));
    }
    let mut calls = Vec::with_capacity(call_count);
    for ((place, offset_us), duration_us) in record.callees.iter().zip(&record.offsets_us).zip(&record.durations_us) {
        let callee = callees.get(*place as usize).ok_or_else(|| corrupt("callee is none of those named"))?.clone();
        let within = offset_us.checked_add(*duration_us).is_some_and(|end_us| end_us <= record.duration_us);
        if !within {
            return Err(corrupt("call goes beyond it"));
        }
        calls.push(SampledCall { callee, offset_us: *offset_us, duration_us: *duration_us, failed: false });
    }
    for place in &record.failed_calls {
        calls.get_mut(*place as usize).ok_or_else(|| corrupt("failed call is not there"))?.failed = true;
    }
    Ok(RequestSample {
        service: service.clone(),
        rank: record.rank,
        start_time_us: hour_ms.saturating_mul(1_000).saturating_add_unsigned(record.start_us),
        duration_us: record.duration_us,
        failed: record.failed,
        calls,
        truncated: record.truncated,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::id;
    use super::*;
    use crate::domain::CALLS_PER_SAMPLE_MAX;
    use proptest::prelude::*;

    const HOUR_MS: UnixMillis = 500_000 * 3_600_000;

    fn sample(rank: u64, start_us: u64, duration_us: u64, calls: Vec<SampledCall>) -> RequestSample {
        RequestSample {
            service: id("shop"),
            rank,
            start_time_us: HOUR_MS * 1_000 + start_us as i64,
            duration_us,
            failed: rank.is_multiple_of(2),
            truncated: rank.is_multiple_of(3),
            calls,
        }
    }

    fn call(callee: &str, offset_us: u64, duration_us: u64) -> SampledCall {
        SampledCall { callee: id(callee), offset_us, duration_us, failed: offset_us.is_multiple_of(2) }
    }

    #[test]
    fn a_usual_hour_is_small_and_the_largest_bounded() {
        let usual = |n: u64| {
            let calls = (0..5).map(|i| call(&format!("callee-service-{i}"), i * 10_000, 9_000)).collect();
            sample(u64::MAX / 2 - n, n * 450_000_000, 52_000, calls)
        };
        let size = encode_hour(HOUR_MS, &(0..8).map(usual).collect::<Vec<_>>()).len();
        assert!(size <= 600, "{size} bytes");
        let largest = |n: u64| {
            let name = |i: usize| format!("{:0>128}", n as usize * CALLS_PER_SAMPLE_MAX + i);
            let calls = (0..CALLS_PER_SAMPLE_MAX).map(|i| call(&name(i), i as u64 * 1_000_000_000, 900_000_000));
            sample(u64::MAX / 2 - n, HOUR_US - 1, u64::from(u32::MAX) * 100, calls.collect())
        };
        let size = encode_hour(HOUR_MS, &(0..8).map(largest).collect::<Vec<_>>()).len();
        assert!(size <= 80 * 1_024, "{size} bytes");
    }

    #[test]
    fn what_cannot_be_right_is_corrupt() {
        let right = SampleRecord {
            duration_us: 10,
            callees: vec![0],
            offsets_us: vec![3],
            durations_us: vec![7],
            failed_calls: vec![0],
            ..SampleRecord::default()
        };
        let read = |of: SampleRecord| {
            let record = HourRecord { callees: vec!["cart".to_owned()], samples: vec![of] };
            decode_hour(&id("shop"), HOUR_MS, &record.encode_to_vec())
        };
        assert_eq!(read(right.clone()).expect("right")[0].calls, [SampledCall { failed: true, ..call("cart", 3, 7) }]);
        for wrong in [
            SampleRecord { callees: vec![1], ..right.clone() },
            SampleRecord { offsets_us: vec![], ..right.clone() },
            SampleRecord { durations_us: vec![7, 7], ..right.clone() },
            SampleRecord { durations_us: vec![8], ..right.clone() },
            SampleRecord { offsets_us: vec![u64::MAX], ..right.clone() },
            SampleRecord { failed_calls: vec![1], ..right.clone() },
            SampleRecord { start_us: HOUR_US, ..right },
        ] {
            assert!(matches!(read(wrong.clone()), Err(Error::Corrupt(_))), "{wrong:?}");
        }
        let unnamed = HourRecord { callees: vec!["no name".to_owned()], samples: Vec::new() };
        assert!(decode_hour(&id("shop"), HOUR_MS, &unnamed.encode_to_vec()).is_err());
    }

    proptest! {
        #[test]
        fn an_hour_comes_back_as_it_was_kept(
            requests in prop::collection::vec((any::<u64>(), 0..HOUR_US, 0u64..1 << 40, prop::collection::vec((0usize..4, 0.0..=1.0f64, 0.0..=1.0f64), 0..9)), 0..9),
        ) {
            let of = |(rank, start_us, duration_us, calls): &(u64, u64, u64, Vec<(usize, f64, f64)>)| {
                let call = |(callee, from, of_rest): &(usize, f64, f64)| {
                    let offset_us = (from * *duration_us as f64) as u64;
                    let rest_us = duration_us - offset_us.min(*duration_us);
                    call(["a", "b", "kafka/orders", "c"][*callee], offset_us.min(*duration_us), (of_rest * rest_us as f64) as u64)
                };
                sample(*rank, *start_us, *duration_us, calls.iter().map(call).collect())
            };
            let samples: Vec<RequestSample> = requests.iter().map(of).collect();
            prop_assert_eq!(decode_hour(&id("shop"), HOUR_MS, &encode_hour(HOUR_MS, &samples)).expect("read"), samples);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_hour(&id("shop"), HOUR_MS, &bytes);
        }
    }
}
