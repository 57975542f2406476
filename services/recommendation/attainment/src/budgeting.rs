//! Ways to count a budget other than by requests, in OpenSLO's words, each with a prediction from the same buckets.

use serde::{Deserialize, Serialize};

use crate::cells::Cells;
use crate::offers::{note, strictest_targets};
use crate::prediction::predict_from;
use crate::series::Sums;
use crate::timeline::Timeline;
use crate::{Ambition, Constants, TierPolicy};
use attain_vocabulary::{BUCKET_MS, UnixMillis};

/// Least share of good requests of a good slice (`timeSliceTarget`). The house's choice, between a slice in which
/// half of the requests fail and one in which a single one does; it is part of the answer.
pub const SLICE_TARGET: f64 = 0.95;
/// Length of a slice (`timeSliceWindow`), in minutes: a bucket.
pub const SLICE_MINUTES: u32 = (BUCKET_MS / 60_000) as u32;

/// How a budget is counted, beside by requests (`Occurrences`, which every other offer is by).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetingMethod {
    /// Share of slices that are good: those in which at least [`SLICE_TARGET`] of the requests were.
    Timeslices,
    /// Mean over slices of the share of good requests: availability weighted by time instead of by requests.
    RatioTimeslices,
}

/// What a service can attain, counted by slices of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budgeting {
    /// How it is counted.
    pub method: BudgetingMethod,
    /// Slices that counted.
    pub slice_count: u64,
    /// Slices without a request.
    pub quiet_slice_count: u64,
    /// Whether those count, as good; else they do not count.
    pub quiet_slices_good: bool,
    /// Good over all slices that counted, in [0, 1].
    pub attained_ratio: f64,
    /// At most one for each ambition, conservative first.
    pub offers: Vec<SliceOffer>,
    /// Why there are fewer offers than three; empty when there are three.
    pub offer_note: String,
}

/// A target counted by slices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SliceOffer {
    /// How much risk it takes.
    pub ambition: Ambition,
    /// The target, a fraction in (0, 1).
    pub target_ratio: f64,
    /// Probability that the next window misses it.
    pub miss_probability: f64,
}

/// Counts a history by slices, each way, and predicts; empty where no slice counts.
///
/// A slice is one observation, good, bad or in part, whatever its traffic, and goes through the same prediction as a request does: regimes,
/// episodes (told by the hour, since a slice by itself proves nothing), chronic level. A gap is no slice.
pub(crate) fn budgetings(
    constants: &Constants,
    timeline: &Timeline,
    bad: &[f64],
    quiet_slices_good: bool,
    window_days: f64,
    now_ms: UnixMillis,
    policy: &TierPolicy,
) -> Vec<Budgeting> {
    let (slices, columns) = slices(timeline, bad, quiet_slices_good, now_ms);
    let quiet = timeline.valid.iter().filter(|valid| **valid <= 0.0).count() as u64;
    let counted = |(method, bad): (BudgetingMethod, Vec<f64>)| {
        let prediction = predict_from(constants, Cells::along(&slices, &bad).all(), window_days, now_ms)?;
        let found = Ambition::ALL.into_iter().zip(strictest_targets(&prediction, policy));
        let offers: Vec<SliceOffer> = found
            .filter_map(|(ambition, found)| {
                let (target_ratio, miss_probability) = found?;
                Some(SliceOffer { ambition, target_ratio, miss_probability })
            })
            .collect();
        let ambitions: Vec<Ambition> = offers.iter().map(|offer| offer.ambition).collect();
        Some(Budgeting {
            method,
            slice_count: bad.len() as u64,
            quiet_slice_count: quiet,
            quiet_slices_good,
            attained_ratio: Sums::of_columns(&slices.valid, &bad).attained_ratio()?,
            offer_note: note(&ambitions, &prediction),
            offers,
        })
    };
    columns.into_iter().filter_map(counted).collect()
}

/// The slices that count, and what of each is bad, each way.
fn slices(
    timeline: &Timeline,
    bad: &[f64],
    quiet_slices_good: bool,
    now_ms: UnixMillis,
) -> (Timeline, [(BudgetingMethod, Vec<f64>); 2]) {
    let (mut whole, mut ratios) = (Vec::with_capacity(bad.len()), Vec::with_capacity(bad.len()));
    for (valid, bad) in timeline.valid.iter().zip(bad) {
        if *valid > 0.0 {
            let bad_ratio = bad / valid;
            // A hair of tolerance: 1 - target is not exact.
            whole.push(f64::from(u8::from(bad_ratio > (1.0 - SLICE_TARGET) * (1.0 + 1e-9))));
            ratios.push(bad_ratio);
        } else if quiet_slices_good {
            whole.push(0.0);
            ratios.push(0.0);
        }
    }
    let slices = if whole.len() == bad.len() {
        timeline.by_slices()
    } else {
        let busy = timeline.starts.iter().zip(&timeline.valid).filter(|(_, valid)| **valid > 0.0);
        Timeline::new(busy.map(|(start_ms, _)| *start_ms).collect(), vec![1.0; whole.len()], now_ms)
    };
    (slices, [(BudgetingMethod::Timeslices, whole), (BudgetingMethod::RatioTimeslices, ratios)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CountPoint, CountSeries};
    use attain_vocabulary::{DAY_MS, Tier};

    /// Ninety days: busy by day, quiet by night (every fourth bucket without a request), an hour of outage a week at the busiest time.
    fn history() -> CountSeries {
        let point = |i: i64| {
            let (hour, busy) = (i / 12 % 24, (8..20).contains(&(i / 12 % 24)));
            let valid = if busy {
                1000.0
            } else if i % 4 == 0 {
                0.0
            } else {
                10.0
            };
            let ill = hour == 12 && i / 288 % 7 == 3;
            CountPoint { start_ms: i * BUCKET_MS, valid, bad: if ill { 300.0 } else { 0.0 } }
        };
        CountSeries::new((0..90 * 288).map(point).collect())
    }

    fn by_slices(series: &CountSeries, quiet_slices_good: bool, now_ms: UnixMillis) -> Vec<Budgeting> {
        let bad: Vec<f64> = series.points().iter().map(|point| point.bad).collect();
        let timeline = Timeline::of(series.points(), now_ms);
        let policy = TierPolicy::for_tier(Tier::One);
        budgetings(&Constants::DEFAULT, &timeline, &bad, quiet_slices_good, 28.0, now_ms, &policy)
    }

    fn counted(quiet_slices_good: bool) -> Vec<Budgeting> {
        by_slices(&history(), quiet_slices_good, 90 * DAY_MS)
    }

    #[test]
    fn time_weighs_the_night_as_much_as_the_day() {
        let [slices, ratios] = counted(false).try_into().expect("both ways");
        let quiet = 90 * 12 * 3;
        assert_eq!((slices.method, ratios.method), (BudgetingMethod::Timeslices, BudgetingMethod::RatioTimeslices));
        assert_eq!((slices.slice_count, slices.quiet_slice_count), (90 * 288 - quiet, quiet));
        // Thirteen hours of twelve slices, bad or three tenths bad.
        let (hours, all) = (13.0 * 12.0, (90 * 288 - quiet) as f64);
        assert!((slices.attained_ratio - (1.0 - hours / all)).abs() < 1e-12, "{}", slices.attained_ratio);
        assert!((ratios.attained_ratio - (1.0 - 0.3 * hours / all)).abs() < 1e-12, "{}", ratios.attained_ratio);
        let by_requests = history().attained_ratio().expect("requests");
        assert!(ratios.attained_ratio > by_requests, "outages at the busiest time weigh less by time");
        for of in [&slices, &ratios] {
            assert_eq!((of.offers.len(), of.offer_note.as_str()), (3, ""), "{of:?}");
            assert!(of.offers.windows(2).all(|pair| pair[0].target_ratio <= pair[1].target_ratio));
            let most = of.offers.iter().map(|offer| offer.ambition.miss_probability_max());
            assert!(of.offers.iter().zip(most).all(|(offer, most)| offer.miss_probability <= most));
        }
        assert!(slices.offers[1].target_ratio < ratios.offers[1].target_ratio, "{slices:?} {ratios:?}");
    }

    #[test]
    fn quiet_slices_count_only_where_that_is_said() {
        let (without, with) = (counted(false), counted(true));
        assert_eq!(with[0].slice_count, without[0].slice_count + without[0].quiet_slice_count);
        assert!(with[0].quiet_slices_good && with[0].attained_ratio > without[0].attained_ratio);
        let idle = CountSeries::new(vec![CountPoint { start_ms: 0, valid: 0.0, bad: 0.0 }]);
        assert_eq!(by_slices(&idle, false, DAY_MS), []);
        assert_eq!(by_slices(&idle, true, DAY_MS)[0].attained_ratio, 1.0);
    }
}
