//! A window that has begun: what was spent of it counts, and only the rest is predicted.

use attain_vocabulary::{DAY_MS, TimeRange, TimeWindow, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{Constants, CountSeries, Forecast, predict_with};

/// The calendar window around the instant of a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WindowInForce {
    /// From its start to its end.
    pub range: TimeRange,
    /// Days left of it.
    pub remaining_days: f64,
    /// Share of its requests that has come already, of those expected in it.
    pub request_share: f64,
    /// Bad fraction so far; `None` without requests so far.
    pub bad_ratio: Option<f64>,
}

/// The same, with the forecast of what is left.
pub(crate) struct InProgress {
    pub(crate) window: WindowInForce,
    spent_valid: f64,
    spent_bad: f64,
    valid_ahead: f64,
    ahead: Forecast,
}

impl InProgress {
    /// `None` for a rolling window, whose prediction always begins now, and where no request was counted.
    pub(crate) fn of(
        constants: &Constants,
        series: &CountSeries,
        window: TimeWindow,
        now_ms: UnixMillis,
    ) -> Option<Self> {
        if !window.is_calendar() {
            return None;
        }
        let range = window.in_force_at(now_ms);
        let remaining_days = (range.end_ms() - now_ms) as f64 / DAY_MS as f64;
        let prediction = predict_with(constants, series, remaining_days, now_ms)?;
        let spent = series.between(range.start_ms(), now_ms);
        let (spent_valid, spent_bad) = (spent.valid(), spent.bad());
        let valid = spent_valid + prediction.expected_window_count;
        let window = WindowInForce {
            range,
            remaining_days,
            request_share: if valid > 0.0 { spent_valid / valid } else { 0.0 },
            bad_ratio: spent.attained_ratio().map(|attained| 1.0 - attained),
        };
        Some(Self {
            window,
            spent_valid,
            spent_bad,
            valid_ahead: prediction.expected_window_count,
            ahead: prediction.forecast,
        })
    }

    /// Probability that the window as a whole is worse than the budget: that what is left fails more than what is left of it,
    /// `P(X > b + (b v - s) / V)` with `s` failures among `v` requests so far and `V` requests to come, as many as expected.
    pub(crate) fn miss_probability(&self, budget: f64) -> f64 {
        let saved = budget * self.spent_valid - self.spent_bad;
        if self.valid_ahead > 0.0 {
            return self.ahead.miss_probability(budget + saved / self.valid_ahead);
        }
        f64::from(u8::from(saved < 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CountPoint;
    use attain_vocabulary::BUCKET_MS;

    /// A hundred days before 15 November 2026, 10:00 (UTC): a failure in a thousand, or each request on the second of November.
    fn november(ill: bool) -> (CountSeries, i64) {
        let now_ms = 1_794_736_800_000;
        let second = now_ms - 13 * DAY_MS - 10 * 3_600_000..now_ms - 12 * DAY_MS - 10 * 3_600_000;
        let point = |i: i64| {
            let start_ms = now_ms - i * BUCKET_MS;
            let bad = if ill && second.contains(&start_ms) { 1000.0 } else { 1.0 };
            CountPoint { start_ms, valid: 1000.0, bad }
        };
        (CountSeries::new((1..=100 * 288).map(point).collect()), now_ms)
    }

    #[test]
    fn what_was_spent_is_spent() {
        let (calm, now_ms) = november(false);
        let calm = InProgress::of(&Constants::DEFAULT, &calm, TimeWindow::MONTH, now_ms).expect("measured");
        assert_eq!(calm.window.range.days(), 30.0);
        assert!((calm.window.remaining_days - (15.0 + 14.0 / 24.0)).abs() < 1e-9, "{:?}", calm.window);
        assert!((calm.window.request_share - (1.0 - calm.window.remaining_days / 30.0)).abs() < 1e-9);
        assert!((calm.window.bad_ratio.expect("measured") - 0.001).abs() < 1e-12);
        let (ill, now_ms) = november(true);
        let ill = InProgress::of(&Constants::DEFAULT, &ill, TimeWindow::MONTH, now_ms).expect("measured");
        // A day of thirty is more than 3 % whatever comes, and less than 4 % if nothing does.
        assert_eq!(ill.miss_probability(0.03), 1.0);
        assert!(ill.miss_probability(0.04) < 1.0 && ill.miss_probability(0.04) > calm.miss_probability(0.04));
        assert_eq!(calm.miss_probability(0.0), 1.0);
        let budgets = [0.0005, 0.001, 0.002, 0.01, 0.1];
        assert!(budgets.windows(2).all(|pair| calm.miss_probability(pair[0]) >= calm.miss_probability(pair[1])));
    }

    #[test]
    fn a_rolling_window_has_nothing_spent() {
        let (series, now_ms) = november(false);
        assert!(InProgress::of(&Constants::DEFAULT, &series, TimeWindow::default(), now_ms).is_none());
        assert!(InProgress::of(&Constants::DEFAULT, &CountSeries::default(), TimeWindow::MONTH, now_ms).is_none());
        let start = TimeWindow::QUARTER.in_force_at(now_ms).start_ms();
        let at_start =
            InProgress::of(&Constants::DEFAULT, &series.between(i64::MIN, start), TimeWindow::QUARTER, start)
                .expect("measured");
        assert_eq!((at_start.window.request_share, at_start.window.bad_ratio), (0.0, None));
        let whole = crate::predict(&series.between(i64::MIN, start), 92.0, start).expect("measured");
        assert_eq!(
            at_start.miss_probability(0.002),
            whole.forecast.miss_probability(0.002),
            "at its start, the whole of it"
        );
    }
}
