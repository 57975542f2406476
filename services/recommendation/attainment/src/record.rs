//! How offers fared: counts that add up over services, and what they say.

use serde::{Deserialize, Serialize};

/// 97.5 % quantile of the normal distribution: two-sided intervals of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// Forecasts of one ambition and what became of them. Sums, so that records of many services add up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Windows that an offer was held against.
    pub forecast_count: u64,
    /// Windows among them that missed it.
    pub missed_count: u64,
    /// How many windows these are worth where they overlap: the span that they cover over the length of one, at most
    /// `forecast_count`.
    pub window_count: f64,
    /// Sum of the probabilities of a miss that were stated.
    pub probability_sum: f64,
    /// Sum of `(stated probability - missed)^2`, missed being 0 or 1.
    pub brier_sum: f64,
    /// Sum of the error budgets `1 - target`.
    pub allowed_sum: f64,
    /// Sum of the bad fractions that were observed.
    pub observed_sum: f64,
}

/// One offer, held against the window that it was made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Probability of a miss that was stated.
    pub miss_probability: f64,
    /// Its error budget, `1 - target`.
    pub allowed_ratio: f64,
    /// The bad fraction of the window.
    pub observed_ratio: f64,
}

impl Held {
    /// Whether the window was worse than allowed. `1 - target` is not exact: a hair of tolerance.
    #[must_use]
    pub fn missed(&self) -> bool {
        self.observed_ratio > self.allowed_ratio * (1.0 + 1e-9)
    }
}

impl Record {
    /// The record of one service's forecasts that follow one another and may overlap.
    ///
    /// `window_count` is 1 plus the time from the first start to the last one over the length of a window.
    #[must_use]
    pub fn of(held: &[Held], first_to_last_days: f64, window_days: f64) -> Self {
        let mut record = Self::default();
        for one in held {
            let missed = f64::from(u8::from(one.missed()));
            record.forecast_count += 1;
            record.missed_count += u64::from(one.missed());
            record.probability_sum += one.miss_probability;
            record.brier_sum += (one.miss_probability - missed) * (one.miss_probability - missed);
            record.allowed_sum += one.allowed_ratio;
            record.observed_sum += one.observed_ratio;
        }
        let most = record.forecast_count as f64;
        record.window_count = (1.0 + first_to_last_days.max(0.0) / window_days).min(most);
        record
    }

    /// Adds another service's record.
    pub fn add(&mut self, other: &Self) {
        self.forecast_count += other.forecast_count;
        self.missed_count += other.missed_count;
        self.window_count += other.window_count;
        self.probability_sum += other.probability_sum;
        self.brier_sum += other.brier_sum;
        self.allowed_sum += other.allowed_sum;
        self.observed_sum += other.observed_sum;
    }

    /// Share of the windows that met the offer; `None` without a forecast.
    #[must_use]
    pub fn met_ratio(&self) -> Option<f64> {
        self.mean(self.forecast_count.saturating_sub(self.missed_count) as f64)
    }

    /// Mean probability of a miss that was stated.
    #[must_use]
    pub fn stated_miss_probability(&self) -> Option<f64> {
        self.mean(self.probability_sum)
    }

    /// Mean of `(stated probability - missed)^2`; 0 is best.
    #[must_use]
    pub fn brier(&self) -> Option<f64> {
        self.mean(self.brier_sum)
    }

    /// Bad fraction allowed over bad fraction observed; `None` where none was observed. 1 is as tight as can be.
    #[must_use]
    pub fn allowed_over_observed(&self) -> Option<f64> {
        (self.observed_sum > 0.0).then(|| self.allowed_sum / self.observed_sum)
    }

    /// 95 % interval of the share of windows that meet the offer; `None` without a forecast.
    ///
    /// Wilson's score interval (Wilson, JASA 1927; recommended for small counts by Brown, Cai & DasGupta 2001), with
    /// `window_count` in place of the number of forecasts: windows that overlap miss together and prove less. It takes
    /// services as independent of one another; where they fail together it is too narrow.
    #[must_use]
    pub fn met_interval(&self) -> Option<(f64, f64)> {
        let (met, n) = (self.met_ratio()?, self.window_count);
        let square = Z * Z;
        let middle = (met + square / (2.0 * n)) / (1.0 + square / n);
        let half = Z / (1.0 + square / n) * (met * (1.0 - met) / n + square / (4.0 * n * n)).sqrt();
        Some(((middle - half).max(0.0), (middle + half).min(1.0)))
    }

    /// By how much the share missed exceeds what was stated, at least 0, shrunk as if `prior_windows` windows had been missed as
    /// often as stated.
    pub(crate) fn excess(&self, prior_windows: f64) -> f64 {
        let (Some(met), Some(stated)) = (self.met_ratio(), self.stated_miss_probability()) else { return 0.0 };
        (1.0 - met - stated).max(0.0) * self.window_count / (self.window_count + prior_windows)
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.forecast_count > 0).then(|| sum / self.forecast_count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(miss_probability: f64, allowed_ratio: f64, observed_ratio: f64) -> Held {
        Held { miss_probability, allowed_ratio, observed_ratio }
    }

    #[test]
    fn windows_that_overlap_count_for_their_span() {
        let all = [held(0.1, 0.01, 0.002), held(0.1, 0.01, 0.02), held(0.08, 0.01, 0.01)];
        let record = Record::of(&all, 14.0, 28.0);
        assert_eq!((record.forecast_count, record.missed_count, record.window_count), (3, 1, 1.5));
        assert!((record.stated_miss_probability().expect("scored") - 0.28 / 3.0).abs() < 1e-12);
        assert!((record.brier().expect("scored") - (0.01 + 0.81 + 0.0064) / 3.0).abs() < 1e-12);
        assert!((record.allowed_over_observed().expect("seen") - 0.03 / 0.032).abs() < 1e-12);
        assert_eq!(Record::of(&all[..1], 0.0, 28.0).window_count, 1.0);
        assert_eq!(Record::of(&all, 300.0, 28.0).window_count, 3.0, "no more than there are");
    }

    /// Reference: Newcombe (Statistics in Medicine 1998), table I, method 3 (score, no continuity correction).
    #[test]
    fn reference_intervals_of_wilson() {
        for (met, n, low, high) in
            [(81u64, 263u64, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let record =
                Record { forecast_count: n, missed_count: n - met, window_count: n as f64, ..Record::default() };
            let (got_low, got_high) = record.met_interval().expect("scored");
            assert!(
                (got_low - low).abs() < 5e-5 && (got_high - high).abs() < 5e-5,
                "{met} of {n}: {got_low} {got_high}"
            );
        }
    }

    #[test]
    fn nothing_scored_is_nothing_said() {
        let none = Record::of(&[], 0.0, 28.0);
        assert_eq!(none, Record::default());
        assert_eq!((none.met_ratio(), none.brier(), none.met_interval()), (None, None, None));
        assert_eq!(none.excess(2.0), 0.0);
    }
}
