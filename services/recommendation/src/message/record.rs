//! How offers fared, as it is sent.

use attain_attainment::{Ambition, Backtest, Record};
use attain_proto::convert::timestamp;
use attain_proto::recommendation::v1 as wire;

use crate::domain::calibration::Records;

/// A back-test.
pub(crate) fn backtest(backtest: &Backtest) -> wire::Backtest {
    wire::Backtest {
        window_days: backtest.window_days,
        step_days: backtest.step_days,
        first_origin_time: Some(timestamp(backtest.first_origin_ms)),
        last_origin_time: Some(timestamp(backtest.last_origin_ms)),
        offers: Some(records(&Ambition::ALL.map(|ambition| backtest.of(ambition)))),
    }
}

/// One record for each ambition.
pub(crate) fn records(records: &Records) -> wire::OfferRecords {
    let [conservative, balanced, ambitious] = records.each_ref().map(|of| Some(record(of)));
    wire::OfferRecords { conservative, balanced, ambitious }
}

/// One record.
pub(crate) fn record(record: &Record) -> wire::OfferRecord {
    let interval = record.met_interval();
    wire::OfferRecord {
        forecast_count: record.forecast_count,
        missed_count: record.missed_count,
        window_count: record.window_count,
        met_ratio: record.met_ratio(),
        met_ratio_low: interval.map(|(low, _)| low),
        met_ratio_high: interval.map(|(_, high)| high),
        stated_miss_probability: record.stated_miss_probability(),
        brier_score: record.brier(),
        allowed_over_observed: record.allowed_over_observed(),
    }
}
