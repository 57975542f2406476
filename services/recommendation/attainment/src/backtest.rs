//! Rolling-origin back-test: what the engine would have offered in the past, held against what followed.

use attain_vocabulary::{DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::cells::{Cells, Span};
use crate::offers::strictest_targets;
use crate::prediction::predict_from;
use crate::{Ambition, Constants, CountSeries, Held, Record, TierPolicy};

/// Days from one origin to the next. A week: whole weeks have the same weekdays, and a window apart would leave ninety days
/// with a single forecast. The windows overlap, which [`Record::window_count`] accounts for.
const STEP_DAYS: i64 = 7;
/// Least history before an origin: days, and share of the window. Less than this gives a template (its confidence is low),
/// and a template claims no probability that could be tested.
const HISTORY_DAYS_MIN: f64 = 14.0;
const HISTORY_SHARE_MIN: f64 = 0.8;
/// Least share of a window that buckets cover before it is held against an offer.
const COVERED_SHARE_MIN: f64 = 0.5;
/// Most origins, the newest ones: what a service did more than half a year ago says little of its forecasts today.
const ORIGINS_MAX: usize = 26;

/// A back-test of one SLI of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Backtest {
    /// Length of the windows, in days.
    pub window_days: f64,
    /// Days from one origin to the next.
    pub step_days: f64,
    /// The first origin.
    pub first_origin_ms: UnixMillis,
    /// The last origin; its window ended by the instant of the recommendation.
    pub last_origin_ms: UnixMillis,
    /// One for each ambition, conservative first.
    pub offers: Vec<OfferRecord>,
}

/// How the offers of one ambition fared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OfferRecord {
    /// Which offers.
    pub ambition: Ambition,
    /// How they fared; of an origin without a target at this ambition nothing is counted.
    pub record: Record,
}

impl Backtest {
    /// The record of one ambition.
    #[must_use]
    pub fn of(&self, ambition: Ambition) -> Record {
        self.offers.iter().find(|offer| offer.ambition == ambition).map_or_else(Record::default, |offer| offer.record)
    }
}

/// Makes the offers of the past again and holds them against what followed; `None` where no window of the history can be
/// scored.
///
/// Origins lie a week apart, the last one a window before `now_ms`, at most 26. At each one the history before it, and nothing
/// else, goes through [`crate::predict`]: regimes, episodes, chronic level and forecast are what they would have been. The strictest
/// target of `policy` at each ambition is held against the window that begins at the origin. An origin needs 14 days of history
/// and 0.8 of a window before it; a window of which buckets cover less than a half is not scored.
///
/// The policy is today's; so are the buckets: what arrived late counts as if it had been there.
#[must_use]
pub fn backtest(series: &CountSeries, window_days: f64, now_ms: UnixMillis, policy: &TierPolicy) -> Option<Backtest> {
    backtest_from(&Constants::DEFAULT, &Cells::of(series.points(), now_ms), window_days, now_ms, policy)
}

/// The same from cells that were cut at `now_ms`.
pub(crate) fn backtest_from(
    constants: &Constants,
    cells: &Cells,
    window_days: f64,
    now_ms: UnixMillis,
    policy: &TierPolicy,
) -> Option<Backtest> {
    let rows = scored(constants, cells, window_days, now_ms, policy);
    let (first, last) = (rows.first()?.origin_ms, rows.last()?.origin_ms);
    let record = |(i, ambition): (usize, Ambition)| {
        let of: Vec<&Row> = rows.iter().filter(|row| row.held[i].is_some()).collect();
        let held: Vec<Held> = of.iter().filter_map(|row| row.held[i]).collect();
        let span = match (of.first(), of.last()) {
            (Some(first), Some(last)) => (last.origin_ms - first.origin_ms) as f64 / DAY_MS as f64,
            _ => 0.0,
        };
        OfferRecord { ambition, record: Record::of(&held, span, window_days) }
    };
    Some(Backtest {
        window_days,
        step_days: STEP_DAYS as f64,
        first_origin_ms: first,
        last_origin_ms: last,
        offers: Ambition::ALL.into_iter().enumerate().map(record).collect(),
    })
}

/// An origin and the offers made there, in the order of [`Ambition::ALL`].
struct Row {
    origin_ms: UnixMillis,
    held: [Option<Held>; Ambition::ALL.len()],
}

/// Scored origins, oldest first.
fn scored(constants: &Constants, cells: &Cells, window_days: f64, now_ms: UnixMillis, policy: &TierPolicy) -> Vec<Row> {
    let row = |Origin { origin_ms, before, after }: Origin<'_>| {
        let held = offers(constants, before, window_days, origin_ms, policy, after.bad() / after.valid());
        held.map(|held| Row { origin_ms, held })
    };
    let mut rows: Vec<Row> = origins(cells, window_days, now_ms).filter_map(row).take(ORIGINS_MAX).collect();
    rows.reverse();
    rows
}

/// An instant of the past with enough history before it and a window after it.
struct Origin<'a> {
    origin_ms: UnixMillis,
    before: Span<'a>,
    after: Span<'a>,
}

/// Origins that can be scored, newest first.
fn origins(cells: &Cells, window_days: f64, now_ms: UnixMillis) -> impl Iterator<Item = Origin<'_>> {
    let window_ms = (window_days * DAY_MS as f64) as i64;
    let needed_days = HISTORY_DAYS_MIN.max(HISTORY_SHARE_MIN * window_days);
    let earlier = |origin_ms: &UnixMillis| Some(origin_ms.saturating_sub(STEP_DAYS * DAY_MS));
    std::iter::successors(Some(now_ms.saturating_sub(window_ms)), earlier)
        .map(move |origin_ms| Origin {
            origin_ms,
            before: cells.between(i64::MIN, origin_ms),
            after: cells.between(origin_ms, origin_ms + window_ms),
        })
        .take_while(move |origin| origin.before.covered_days() >= needed_days)
        .filter(move |Origin { after, .. }| {
            let totals = after.totals();
            totals.covered_days() >= COVERED_SHARE_MIN * window_days && totals.valid > 0.0
        })
}

/// How many windows ([`Record::window_count`]) a back-test can be worth at most, without making it.
pub(crate) fn windows_max(cells: &Cells, window_days: f64, now_ms: UnixMillis) -> f64 {
    let mut all = origins(cells, window_days, now_ms).map(|origin| origin.origin_ms);
    let Some(last) = all.next() else { return 0.0 };
    let first = all.last().unwrap_or(last);
    1.0 + (last - first) as f64 / DAY_MS as f64 / window_days
}

/// What would have been offered, held against what followed.
fn offers(
    constants: &Constants,
    before: Span<'_>,
    window_days: f64,
    origin_ms: UnixMillis,
    policy: &TierPolicy,
    observed_ratio: f64,
) -> Option<[Option<Held>; Ambition::ALL.len()]> {
    let prediction = predict_from(constants, before, window_days, origin_ms)?;
    let held =
        |(target, miss_probability): (f64, f64)| Held { miss_probability, allowed_ratio: 1.0 - target, observed_ratio };
    Some(strictest_targets(&prediction, policy).map(|found| found.map(held)))
}
