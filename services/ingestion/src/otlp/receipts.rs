//! Receipts of exports of metrics: by them a retry is known whose points alone do not tell, since points of delta
//! temporality are remembered for a while only and gauges not at all. A receipt is written in the transaction that counts
//! the export. Cumulative points need none: each says how far it had been counted.

use std::collections::BTreeMap;

use attain_vocabulary::UnixMillis;
use sha2::{Digest as _, Sha256};

use super::increments::SeriesLimits;
use super::points::Reading;
use super::series::{read_count, written_count};
use super::utilisation::Sample;
use crate::storage::CounterStates;

/// Where receipts are kept.
pub(super) const KEY_PREFIX: &str = "otlp-receipt/";

/// What tells one export of metrics from every other one, and when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Receipt {
    digest: String,
    /// Starts of its period and of the one before: receipts of both are there.
    periods: [UnixMillis; 2],
}

impl Receipt {
    /// `None` for an export that needs none.
    pub(super) fn of(readings: &[Reading], samples: &[Sample], limits: SeriesLimits) -> Option<Self> {
        if samples.is_empty() && readings.iter().all(|reading| reading.point.cumulative) {
            return None;
        }
        let mut digest = Sha256::new();
        for reading in readings {
            digest.update(reading.series.as_bytes());
            for number in [reading.point.start_ns, reading.point.time_ns, reading.point.count] {
                digest.update(number.to_be_bytes());
            }
        }
        for sample in samples {
            digest.update(format!("{}/{:?}/", sample.service, sample.kind));
            digest.update(sample.time_ms.to_be_bytes());
            digest.update(sample.value.to_bits().to_be_bytes());
        }
        let digest = format!("{:x}", digest.finalize())[..32].to_owned();
        Some(Self { digest, periods: periods(limits) })
    }

    /// The states that tell whether it is kept, and how many are.
    pub(super) fn state_keys(&self) -> [String; 3] {
        let [this, last] = self.periods;
        [self.key(this), self.key(last), count_key(this)]
    }

    pub(super) fn is_kept(&self, states: &CounterStates) -> bool {
        self.periods.iter().any(|period| states.contains_key(&self.key(*period)))
    }

    /// Keeps it; `false` where there are as many of this period as are kept.
    pub(super) fn keep(
        &self,
        states: &CounterStates,
        receipts_max: usize,
        after: &mut BTreeMap<String, Option<Vec<u8>>>,
    ) -> bool {
        let [period, _] = self.periods;
        let kept = read_count(states.get(&count_key(period)));
        if kept >= receipts_max as u64 {
            return false;
        }
        after.insert(count_key(period), Some(written_count(kept + 1)));
        after.insert(self.key(period), Some(Vec::new()));
        true
    }

    fn key(&self, period: UnixMillis) -> String {
        format!("{}{}", first_key(period), self.digest)
    }
}

/// Sorts before all keys that are still looked at, and after those that are not.
pub(super) fn first_key_kept(limits: SeriesLimits) -> String {
    first_key(periods(limits)[1])
}

/// Starts of the present period and of the one before.
fn periods(limits: SeriesLimits) -> [UnixMillis; 2] {
    let start_ms = limits.now_ms - limits.now_ms.rem_euclid(limits.receipt_ms);
    [start_ms, start_ms - limits.receipt_ms]
}

fn count_key(period: UnixMillis) -> String {
    format!("{}count", first_key(period))
}

fn first_key(period: UnixMillis) -> String {
    format!("{KEY_PREFIX}{period:015}/")
}
