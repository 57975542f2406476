use attain_vocabulary::{BUCKET_MS, DAY_MS, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::{CountPoint, CountSeries};

const PER_DAY: usize = 288;

/// Days of 1,000 requests a bucket, `edit`ed.
fn history(days: usize, edit: impl Fn(usize, &mut CountPoint)) -> SliHistory {
    let points = (0..days * PER_DAY).map(|i| {
        let mut point = CountPoint { start_ms: i as i64 * BUCKET_MS, valid: 1000.0, bad: 0.0 };
        edit(i, &mut point);
        point
    });
    let range = TimeRange::new("range", 0, days as i64 * DAY_MS).expect("ascending");
    SliHistory::of(CountSeries::new(points.filter(|point| point.valid >= 0.0).collect()), range)
}

fn now(days: usize) -> i64 {
    days as i64 * DAY_MS
}

const MONTH: Period = Period::Rolling { days: 28 };

#[test]
fn what_is_spent_is_counted_over_the_window_alone() {
    // 8,064 buckets of 1,000 requests may fail 8,064 times at 99.9 %; an outage before the window does not count.
    let history = history(60, |i, point| {
        if i == 100 || i == 50 * PER_DAY {
            point.bad = 1000.0;
        }
    });
    let status = status(&Constants::DEFAULT, &history, 0.001, MONTH, now(60), 1);
    assert_eq!((status.valid, status.bad), (8_064_000.0, 1000.0));
    assert!((status.spent_ratio.expect("requests") - 1000.0 / 8064.0).abs() < 1e-9);
    assert_eq!((status.coverage_ratio, status.exhausted, status.restored_ms), (1.0, false, None));
    assert_eq!(status.burn_rates.iter().map(|rate| rate.burn_rate).collect::<Vec<_>>(), [Some(0.0); 3]);
    assert_eq!(status.straight_line_ms, None);
}

#[test]
fn a_gap_is_no_success() {
    let gap = history(28, |i, point| {
        if i >= 14 * PER_DAY {
            point.valid = -1.0;
        } else if i == 0 {
            point.bad = 1000.0;
        }
    });
    let status = status(&Constants::DEFAULT, &gap, 0.001, MONTH, now(28), 1);
    assert_eq!(status.coverage_ratio, 0.5);
    assert!(
        (status.spent_ratio.expect("requests") - 1000.0 / 4032.0).abs() < 1e-9,
        "half the requests, half the budget"
    );
    assert_eq!((status.burn_rates[2].burn_rate, status.burn_rates[2].coverage_ratio), (None, 0.0));
}

#[test]
fn nothing_measured_is_nothing_said() {
    let nothing = SliHistory::of(CountSeries::default(), TimeRange::new("range", 0, DAY_MS).expect("ascending"));
    let status = status(&Constants::DEFAULT, &nothing, 0.001, MONTH, DAY_MS, 1);
    assert_eq!((status.spent_ratio, status.forecast, status.exhausted), (None, None, false));
}

#[test]
fn an_overspent_budget_says_when_the_failures_age_out() {
    let history = history(28, |i, point| {
        if i / PER_DAY == 9 && i % PER_DAY < 12 {
            point.bad = 1000.0;
        }
    });
    let status = status(&Constants::DEFAULT, &history, 0.001, MONTH, now(28), 1);
    assert!(status.exhausted && status.forecast.is_none());
    let days = (status.restored_ms.expect("it ages out") - now(28)) as f64 / DAY_MS as f64;
    assert!((9.0..9.5).contains(&days), "{days}");
}

#[test]
fn a_fixed_period_forgets_nothing_and_ends() {
    let history = history(28, |i, point| {
        if i / PER_DAY == 20 && i % PER_DAY < 6 {
            point.bad = 1000.0;
        }
    });
    let period = Period::Fixed { start_ms: 14 * DAY_MS, end_ms: 44 * DAY_MS };
    let status = status(&Constants::DEFAULT, &history, 0.001, period, now(28), 1);
    assert_eq!((status.window_start_ms, status.valid), (14 * DAY_MS, 14.0 * 288_000.0));
    assert!(status.exhausted, "6,000 of 4,032 allowed so far");
    let days = (status.restored_ms.expect("the month has room for 8,640") - now(28)) as f64 / DAY_MS as f64;
    assert!((6.5..7.5).contains(&days), "{days}");
}

#[test]
fn an_outage_that_goes_on_brings_the_date_near() {
    let calm = history(28, |_, point| point.bad = 0.2);
    let burning = history(28, |i, point| point.bad = if i >= 28 * PER_DAY - 3 { 500.0 } else { 0.2 });
    let forecast = |history: &SliHistory| {
        status(&Constants::DEFAULT, history, 0.001, MONTH, now(28), 7).forecast.expect("requests")
    };
    let (calm, burning) = (forecast(&calm), forecast(&burning));
    assert_eq!(calm.burning, None);
    let since = burning.burning.expect("it fails now");
    assert_eq!(since.start_ms, now(28) - 3 * BUCKET_MS);
    assert!((since.excess_bad_per_day / 144_000.0 - 1.0).abs() < 0.01, "{since:?}");
    assert!(burning.probability > calm.probability + 0.2, "{burning:?} against {calm:?}");
}

#[test]
fn the_same_seed_gives_the_same_answer_and_another_nearly_the_same() {
    let history = history(40, |i, point| point.bad = if i % 3000 < 4 { 300.0 } else { 0.5 });
    let of = |seed| status(&Constants::DEFAULT, &history, 0.001, MONTH, now(40), seed).forecast.expect("requests");
    assert_eq!(of(3), of(3));
    let (one, other) = (of(3), of(4));
    assert!((one.probability - other.probability).abs() < 5.0 * (one.standard_error + other.standard_error));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Counts, shares and probabilities nest, whatever the history.
    #[test]
    fn figures_nest(
        days in 1_usize..40,
        outages in prop::collection::vec((0_usize..40 * 288, 1_usize..40, 1.0f64..1000.0), 0..5),
        gap in (0_usize..40 * 288, 0_usize..2000),
        budget in 1e-5f64..0.5,
        window in prop::sample::select(vec![7_u32, 28, 30, 90]),
        seed in any::<u64>(),
    ) {
        let history = history(days, |i, point| {
            for (start, length, bad) in &outages {
                if (*start..start + length).contains(&i) {
                    point.bad = *bad;
                }
            }
            if (gap.0..gap.0 + gap.1).contains(&i) {
                point.valid = -1.0;
            }
        });
        let status = status(&Constants::DEFAULT, &history, budget, Period::Rolling { days: window }, now(days), seed);
        prop_assert!((0.0..=1.0).contains(&status.coverage_ratio));
        prop_assert!(status.bad <= status.valid);
        prop_assert_eq!(status.exhausted, status.spent_ratio.is_some_and(|spent| spent > 1.0 + 1e-6));
        if let Some(forecast) = status.forecast {
            prop_assert!((0.0..=1.0).contains(&forecast.probability));
            prop_assert!(forecast.by_date.windows(2).all(|pair| pair[0].probability <= pair[1].probability
                && pair[0].time_ms < pair[1].time_ms));
            prop_assert_eq!(forecast.by_date.last().map(|by| by.probability), Some(forecast.probability));
            prop_assert!(forecast.dates.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms));
            prop_assert!(forecast.dates.iter().all(|date| date.probability <= forecast.probability
                && date.time_ms <= forecast.horizon_end_ms));
            prop_assert!(forecast.remaining_ratio_low <= forecast.remaining_ratio_high + 1e-12);
            prop_assert!(forecast.remaining_ratio_high <= 1.0 + 1e-12);
        }
    }

    /// A smaller budget is never spent later, and a tighter one never likelier to last: the paths are the same.
    #[test]
    fn a_smaller_budget_never_lasts_longer(budget in 1e-4f64..0.1, share in 0.05f64..1.0, seed in any::<u64>()) {
        let history = history(30, |i, point| point.bad = if i % 2000 < 3 { 200.0 } else { 0.3 });
        let of = |budget| status(&Constants::DEFAULT, &history, budget, MONTH, now(30), seed);
        let (wide, narrow) = (of(budget), of(budget * share));
        prop_assert!(narrow.spent_ratio >= wide.spent_ratio);
        if let (Some(wide), Some(narrow)) = (&wide.forecast, &narrow.forecast) {
            prop_assert!(narrow.probability >= wide.probability);
            for (narrow, wide) in narrow.by_date.iter().zip(&wide.by_date) {
                prop_assert!(narrow.probability >= wide.probability);
            }
        }
    }
}
