use serde::{Deserialize, Serialize};

use crate::{DAY_MS, InvalidValue, UnixMillis};

/// A rolling window of whole days: 7, 28, 30 or 90.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeWindow(u32);

impl TimeWindow {
    /// The lengths that are offered, in days.
    pub const DAYS: [u32; 4] = [7, 28, 30, 90];

    /// Checks a length in days; 0 is the default of 28.
    ///
    /// # Errors
    /// Refuses every length that is not offered.
    pub fn from_days(field: &str, days: u32) -> Result<Self, InvalidValue> {
        match days {
            0 => Ok(Self::default()),
            days if Self::DAYS.contains(&days) => Ok(Self(days)),
            days => {
                let reason = format!("{days} days is not offered; choose 7, 28, 30 or 90");
                Err(InvalidValue::new(field, "not_offered", reason))
            }
        }
    }

    /// Length in days.
    #[must_use]
    pub fn days(self) -> u32 {
        self.0
    }
}

impl Default for TimeWindow {
    /// 28 days: whole weeks, so that every window holds the same weekdays.
    fn default() -> Self {
        Self(28)
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
