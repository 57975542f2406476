use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use crate::{DAY_MS, InvalidValue, UnixMillis};

/// The window that an SLO covers, in OpenSLO's words: rolling, of 7, 28, 30 or 90 whole days, or aligned with the calendar (UTC), a
/// month or a quarter.
///
/// It is kept as one number, its code: days of a rolling window, minus the months of a calendar one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeWindow(i32);

impl TimeWindow {
    /// The lengths of rolling windows that are offered, in days.
    pub const DAYS: [u32; 4] = [7, 28, 30, 90];
    /// The calendar month.
    pub const MONTH: Self = Self(-1);
    /// The calendar quarter.
    pub const QUARTER: Self = Self(-3);

    /// Checks a length in days; 0 is the default of 28.
    ///
    /// # Errors
    /// Refuses every length that is not offered.
    pub fn from_days(field: &str, days: u32) -> Result<Self, InvalidValue> {
        match days {
            0 => Ok(Self::default()),
            7 | 28 | 30 | 90 => Ok(Self(days as i32)),
            days => {
                let reason = format!("{days} days is not offered; choose 7, 28, 30 or 90, or a calendar window");
                Err(InvalidValue::new(field, "not_offered", reason))
            }
        }
    }

    /// Reads a code back.
    ///
    /// # Errors
    /// Refuses what is the code of no window.
    pub fn from_code(field: &str, code: i64) -> Result<Self, InvalidValue> {
        match code {
            -1 => Ok(Self::MONTH),
            -3 => Ok(Self::QUARTER),
            code => match u32::try_from(code) {
                Ok(days) if days > 0 => Self::from_days(field, days),
                _ => Err(InvalidValue::new(field, "not_offered", format!("{code} is the code of no window"))),
            },
        }
    }

    /// Days of a rolling window, minus the months of a calendar one.
    #[must_use]
    pub fn code(self) -> i64 {
        i64::from(self.0)
    }

    /// Whether it is aligned with the calendar.
    #[must_use]
    pub fn is_calendar(self) -> bool {
        self.0 < 0
    }

    /// Length in days; of a calendar window that of one of usual length: 30 for a month, 91 for a quarter.
    #[must_use]
    pub fn days(self) -> u32 {
        match self.0 {
            -1 => 30,
            -3 => 91,
            days => days.unsigned_abs(),
        }
    }

    /// The window that an instant belongs to: what a rolling window looks back on, or the month or quarter around it.
    #[must_use]
    pub fn in_force_at(self, time_ms: UnixMillis) -> TimeRange {
        if !self.is_calendar() {
            let start_ms = time_ms.saturating_sub(i64::from(self.days()) * DAY_MS);
            return TimeRange { start_ms, end_ms: time_ms };
        }
        let start = self.first_day(time_ms);
        TimeRange { start_ms: midnight(start), end_ms: midnight(self.next(start)) }
    }

    /// The first whole window from an instant on: a rolling one begins at once, a calendar one with the next month or quarter,
    /// unless the instant is the first of one.
    #[must_use]
    pub fn ahead_of(self, time_ms: UnixMillis) -> TimeRange {
        if !self.is_calendar() {
            let end_ms = time_ms.saturating_add(i64::from(self.days()) * DAY_MS);
            return TimeRange { start_ms: time_ms, end_ms };
        }
        let around = self.in_force_at(time_ms);
        if around.start_ms == time_ms { around } else { self.in_force_at(around.end_ms) }
    }

    fn months(self) -> i8 {
        if self == Self::QUARTER { 3 } else { 1 }
    }

    /// The day that the calendar window around an instant begins with.
    fn first_day(self, time_ms: UnixMillis) -> Date {
        let past = time_ms < 0;
        let date = Timestamp::from_millisecond(time_ms)
            .map_or(if past { Date::MIN } else { Date::MAX }, |time| TimeZone::UTC.to_datetime(time).date());
        let month = (date.month() - 1) / self.months() * self.months() + 1;
        Date::new(date.year(), month, 1).unwrap_or(date)
    }

    /// The day that the window after the one that begins with `first` begins with.
    fn next(self, first: Date) -> Date {
        first.checked_add(i32::from(self.months()).months()).unwrap_or(Date::MAX)
    }
}

/// Start of a day (UTC); days that are out of reach stand at the ends of time.
fn midnight(date: Date) -> UnixMillis {
    let start = date.to_zoned(TimeZone::UTC).map(|start| start.timestamp().as_millisecond());
    start.unwrap_or(if date.year() < 0 { i64::MIN } else { i64::MAX })
}

impl Default for TimeWindow {
    /// 28 days: whole weeks, so that every window holds the same weekdays.
    fn default() -> Self {
        Self(28)
    }
}

/// `28d`, `month` or `quarter`.
impl fmt::Display for TimeWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MONTH => f.write_str("month"),
            Self::QUARTER => f.write_str("quarter"),
            rolling => write!(f, "{}d", rolling.days()),
        }
    }
}

/// A half-open span of time `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    start_ms: UnixMillis,
    end_ms: UnixMillis,
}

impl TimeRange {
    /// Checks that the span does not end before it starts.
    ///
    /// # Errors
    /// Refuses an end before the start.
    pub fn new(field: &str, start_ms: UnixMillis, end_ms: UnixMillis) -> Result<Self, InvalidValue> {
        if end_ms < start_ms {
            return Err(InvalidValue::new(field, "ends_before_start", "the span ends before it starts"));
        }
        Ok(Self { start_ms, end_ms })
    }

    /// Start, included.
    #[must_use]
    pub fn start_ms(self) -> UnixMillis {
        self.start_ms
    }

    /// End, excluded.
    #[must_use]
    pub fn end_ms(self) -> UnixMillis {
        self.end_ms
    }

    /// Length in days.
    #[must_use]
    pub fn days(self) -> f64 {
        (self.end_ms - self.start_ms) as f64 / DAY_MS as f64
    }

    /// Whether the instant lies inside.
    #[must_use]
    pub fn contains(self, time_ms: UnixMillis) -> bool {
        (self.start_ms..self.end_ms).contains(&time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> UnixMillis {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    fn ends(range: TimeRange) -> (String, String) {
        let day = |time_ms| Timestamp::from_millisecond(time_ms).expect("in reach").strftime("%F").to_string();
        (day(range.start_ms), day(range.end_ms))
    }

    #[test]
    fn months_and_quarters_follow_the_calendar() {
        for (window, time, start, end) in [
            (TimeWindow::MONTH, "2024-02-29T23:59:59Z", "2024-02-01", "2024-03-01"),
            (TimeWindow::MONTH, "2026-12-31T12:00:00Z", "2026-12-01", "2027-01-01"),
            (TimeWindow::MONTH, "2026-12-01T00:00:00Z", "2026-12-01", "2027-01-01"),
            (TimeWindow::QUARTER, "2026-11-29T10:00:00Z", "2026-10-01", "2027-01-01"),
            (TimeWindow::QUARTER, "2026-01-01T00:00:00Z", "2026-01-01", "2026-04-01"),
            (TimeWindow::MONTH, "1969-12-31T23:00:00Z", "1969-12-01", "1970-01-01"),
        ] {
            assert_eq!(ends(window.in_force_at(at(time))), (start.to_owned(), end.to_owned()), "{window} at {time}");
        }
        let next = TimeWindow::MONTH.ahead_of(at("2026-01-31T10:00:00Z"));
        assert_eq!(ends(next), ("2026-02-01".to_owned(), "2026-03-01".to_owned()));
        assert_eq!(next.days(), 28.0);
        let whole = at("2026-03-01T00:00:00Z");
        assert_eq!(TimeWindow::MONTH.ahead_of(whole).start_ms(), whole, "a window that begins now is whole");
        assert_eq!(TimeWindow::default().in_force_at(whole).end_ms(), whole);
        assert_eq!(TimeWindow::default().ahead_of(whole).days(), 28.0);
    }

    #[test]
    fn codes_and_words_read_back() {
        let rolling = TimeWindow::DAYS.map(|days| TimeWindow::from_days("window", days).expect("offered"));
        for window in rolling.into_iter().chain([TimeWindow::MONTH, TimeWindow::QUARTER]) {
            assert_eq!(TimeWindow::from_code("window", window.code()), Ok(window));
        }
        for code in [0, -2, 13, i64::MIN, i64::MAX] {
            assert!(TimeWindow::from_code("window", code).is_err(), "{code}");
        }
        assert_eq!(TimeWindow::default().to_string(), "28d");
        assert_eq!(TimeWindow::QUARTER.to_string(), "quarter");
    }

    proptest! {
        #[test]
        fn windows_tile_the_calendar(time_ms in prop_oneof![any::<i64>(), -10i64.pow(14)..10i64.pow(14)], quarter: bool) {
            let window = if quarter { TimeWindow::QUARTER } else { TimeWindow::MONTH };
            let range = window.in_force_at(time_ms);
            prop_assert!(range.start_ms() <= range.end_ms());
            if time_ms.abs() < 10i64.pow(14) {
                prop_assert!(range.contains(time_ms));
                prop_assert_eq!(window.in_force_at(range.start_ms()), range);
                prop_assert_eq!(window.in_force_at(range.end_ms() - 1), range);
                prop_assert_eq!(window.ahead_of(time_ms + 1).start_ms(), range.end_ms());
            }
        }
    }
}
