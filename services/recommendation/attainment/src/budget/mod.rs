//! The error budget of an SLO: what is spent now, how fast, and when the rest will be.
//!
//! Entry point: [`status`]. A gap in the history is not counted, neither as good nor as bad: each figure says what share of its
//! span was covered. The forecast is a distribution (`exhaustion`); a straight line stands beside it only under its name.

mod exhaustion;

pub use exhaustion::{Burning, DateQuantile, Exhaustion, PATHS, ProbabilityBy};

use attain_vocabulary::{DAY_MS, UnixMillis};

use crate::{Constants, SliHistory};

const HOUR_MS: i64 = 3_600_000;

/// Windows that burn rates are told for, shortest first, in milliseconds: those that the burn-rate alerts of *The Site
/// Reliability Workbook* (2018), chapter 5, look at.
pub const BURN_WINDOWS_MS: [i64; 3] = [HOUR_MS, 6 * HOUR_MS, 3 * DAY_MS];

/// Which requests a budget is for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Period {
    /// Those of the last so many days, at any time.
    Rolling {
        /// Days.
        days: u32,
    },
    /// Those of one span, such as a calendar month; the budget is whole again after it.
    Fixed {
        /// Its start.
        start_ms: UnixMillis,
        /// Its end.
        end_ms: UnixMillis,
    },
}

impl Period {
    /// From when on requests count at an instant.
    fn start_at(self, at_ms: UnixMillis) -> UnixMillis {
        match self {
            Self::Rolling { days } => at_ms.saturating_sub(i64::from(days) * DAY_MS),
            Self::Fixed { start_ms, .. } => start_ms,
        }
    }

    /// Until when a forecast looks: one window ahead, by when nothing of today counts any more, or the end of the span.
    fn end_at(self, now_ms: UnixMillis) -> UnixMillis {
        match self {
            Self::Rolling { days } => now_ms.saturating_add(i64::from(days) * DAY_MS),
            Self::Fixed { end_ms, .. } => end_ms.max(now_ms),
        }
    }
}

/// How fast a budget burns: 1 spends exactly the budget over a whole window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurnRate {
    /// Length of the look back, in milliseconds.
    pub window_ms: i64,
    /// Error ratio over budget; `None` without a request.
    pub burn_rate: Option<f64>,
    /// Requests that were seen.
    pub valid: f64,
    /// Share of the look back that was covered.
    pub coverage_ratio: f64,
}

/// An error budget now.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// `1 - target`.
    pub budget_ratio: f64,
    /// From when on requests count.
    pub window_start_ms: UnixMillis,
    /// Until when: now.
    pub window_end_ms: UnixMillis,
    /// Requests that count.
    pub valid: f64,
    /// Those that were not good.
    pub bad: f64,
    /// Requests that may be bad: budget times requests.
    pub allowed: f64,
    /// Share of the budget that is spent, above 1 where it is overspent; `None` without a request.
    pub spent_ratio: Option<f64>,
    /// What is left of it, below 0 where it is overspent.
    pub remaining_ratio: Option<f64>,
    /// Share of the window that was covered; before the first bucket of a young service nothing is.
    pub coverage_ratio: f64,
    /// Burn rates by [`BURN_WINDOWS_MS`].
    pub burn_rates: Vec<BurnRate>,
    /// Whether more is spent than there is.
    pub exhausted: bool,
    /// Where it is overspent: when it no longer is, if nothing more fails and traffic stays; `None` where not by the end.
    pub restored_ms: Option<UnixMillis>,
    /// When a straight line from the burn rate of the last six hours ends the budget; `None` where it never does before the
    /// end. It knows nothing of incidents to come nor of failures that age out: the forecast does.
    pub straight_line_ms: Option<UnixMillis>,
    /// When the rest will be spent; `None` without a request, and where nothing is left.
    pub forecast: Option<Exhaustion>,
}

/// What is spent of a budget at `now_ms` and when the rest will be. `budget_ratio` is `1 - target`, in (0, 1); `constants` are
/// those of the model that offers are made with. The seed draws the paths of the forecast: the same constants, history, instant
/// and seed give the same answer to the last bit.
#[must_use]
pub fn status(
    constants: &Constants,
    history: &SliHistory,
    budget_ratio: f64,
    period: Period,
    now_ms: UnixMillis,
    seed: u64,
) -> Status {
    let start_ms = period.start_at(now_ms);
    let counted = history.tally(start_ms, now_ms);
    let allowed = budget_ratio * counted.valid;
    let spent_ratio = (allowed > 0.0).then(|| counted.bad / allowed);
    let exhausted = overspent(counted.bad, allowed);
    let burn_rates: Vec<BurnRate> = BURN_WINDOWS_MS
        .into_iter()
        .map(|window_ms| {
            let seen = history.tally(now_ms - window_ms, now_ms);
            let burn_rate = seen.error_ratio().map(|ratio| ratio / budget_ratio);
            BurnRate { window_ms, burn_rate, valid: seen.valid, coverage_ratio: seen.coverage_ratio }
        })
        .collect();
    let horizon = Horizon::new(history, budget_ratio, period, now_ms);
    Status {
        budget_ratio,
        window_start_ms: start_ms,
        window_end_ms: now_ms,
        valid: counted.valid,
        bad: counted.bad,
        allowed,
        spent_ratio,
        remaining_ratio: spent_ratio.map(|spent| 1.0 - spent),
        coverage_ratio: counted.coverage_ratio,
        exhausted,
        restored_ms: if exhausted { horizon.restored_ms() } else { None },
        straight_line_ms: burn_rates[1].burn_rate.and_then(|rate| horizon.straight_line_ms(rate)),
        burn_rates,
        forecast: if exhausted { None } else { exhaustion::forecast(constants, history, &horizon, seed) },
    }
}

/// Whether more failed than may; a hair of tolerance, since `1 - target` is not exact.
fn overspent(bad: f64, allowed: f64) -> bool {
    bad > allowed * (1.0 + 1e-9) + 1e-9
}

/// Steps that the time ahead is looked at in: of 28 days seven hours each.
const STEPS: usize = 96;

/// What is known already of each instant ahead: of the requests that will count then, those that were seen.
#[derive(Debug, Clone)]
struct Horizon {
    now_ms: UnixMillis,
    end_ms: UnixMillis,
    budget_ratio: f64,
    valid_per_day: f64,
    /// Valid and bad that count now.
    now: (f64, f64),
    /// Valid and bad of the past that still count at the end of each step.
    known: Vec<(f64, f64)>,
}

impl Horizon {
    fn new(history: &SliHistory, budget_ratio: f64, period: Period, now_ms: UnixMillis) -> Self {
        let end_ms = period.end_at(now_ms);
        let counted = |at_ms: UnixMillis| {
            let known = history.tally(period.start_at(at_ms), now_ms);
            (known.valid, known.bad)
        };
        let at = |step: usize| {
            let ahead = (end_ms - now_ms) as f64 * (step + 1) as f64 / STEPS as f64;
            counted(now_ms + ahead.round() as i64)
        };
        let known = (0..STEPS).map(at).collect();
        Self { now_ms, end_ms, budget_ratio, valid_per_day: history.valid_per_day(), now: counted(now_ms), known }
    }

    fn days(&self) -> f64 {
        (self.end_ms - self.now_ms) as f64 / DAY_MS as f64
    }

    /// End of a step.
    fn ms(&self, step: usize) -> UnixMillis {
        self.now_ms + ((self.end_ms - self.now_ms) as f64 * (step + 1) as f64 / STEPS as f64).round() as i64
    }

    /// Requests from now to the end of a step.
    fn ahead_valid(&self, step: usize) -> f64 {
        self.valid_per_day * self.days() * (step + 1) as f64 / STEPS as f64
    }

    /// Whether the budget is overspent at the end of a step, with so many failures from now on.
    fn overspent(&self, step: usize, bad_ahead: f64) -> bool {
        let (valid, bad) = self.known[step];
        overspent(bad + bad_ahead, self.budget_ratio * (valid + self.ahead_valid(step)))
    }

    /// What is left of the budget at the end of a step, as a share of it.
    fn remaining_ratio(&self, step: usize, bad_ahead: f64) -> f64 {
        let (valid, bad) = self.known[step];
        let allowed = self.budget_ratio * (valid + self.ahead_valid(step));
        if allowed > 0.0 { 1.0 - (bad + bad_ahead) / allowed } else { 0.0 }
    }

    fn restored_ms(&self) -> Option<UnixMillis> {
        (0..STEPS).find(|step| !self.overspent(*step, 0.0)).map(|step| self.ms(step))
    }

    /// Where a constant burn rate overspends what is left, the failures of the past all kept.
    fn straight_line_ms(&self, burn_rate: f64) -> Option<UnixMillis> {
        let (valid, bad) = self.now;
        let left = self.budget_ratio * valid - bad;
        // Beyond 1 each day takes more than it adds to the budget.
        let net_per_day = (burn_rate - 1.0) * self.budget_ratio * self.valid_per_day;
        if net_per_day <= 0.0 {
            return None;
        }
        let days = (left / net_per_day).max(0.0);
        (days <= self.days()).then(|| self.now_ms + (days * DAY_MS as f64) as i64)
    }
}

#[cfg(test)]
mod tests;
