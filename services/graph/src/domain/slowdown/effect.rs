//! What the changes make of the calls between two components.

use super::Moved;
use super::alterations::{Altered, Wait};
use super::pace::Pace;
use super::ranged::Change;

/// A request before and after, least and greatest, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) before: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// What becomes of the calls of one caller to one callee.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effect<'a> {
    /// Share of the calling requests that go on calling, in `[0, 1]`.
    pub(super) kept: f64,
    /// Share of all requests that call in addition.
    pub(super) added: f64,
    /// Further attempts after a failed one, beyond those of today.
    pub(super) extra_attempts: u32,
    pub(super) callee: Callee<'a>,
    limit: Option<Limit>,
}

/// What becomes of the callee.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Callee<'a> {
    /// It takes longer or shorter whatever the call.
    Paced(Pace),
    /// Each call as its request at the same rank, one list entry a request by ascending duration before.
    Paired(&'a [Point], Pace),
    /// By so much, but nobody knows which calls.
    Spread(&'a Change),
    /// From an answer at once up to the limit.
    UpToLimit,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit {
    timeout_ms: f64,
    attempts: u32,
    /// Whether it holds for calls that took longer before.
    is_new: bool,
}

impl<'a> Effect<'a> {
    /// Nothing where the calls stay what they are; an error where nobody knows what becomes of them.
    ///
    /// `wait` is how the caller waits today, `None` where it does not.
    pub(super) fn of(
        wait: Option<Wait>,
        altered: Option<&Altered>,
        callee: Option<&'a Moved>,
    ) -> Result<Option<Self>, Unknown> {
        let unaltered = Altered::unaltered(wait);
        let altered = altered.unwrap_or(&unaltered);
        let (kept, added) = match (altered.before, altered.after) {
            (None, None) => return Ok(None),
            (Some(_), None) => (0.0, 0.0),
            (None, Some(after)) => (1.0, after.fraction),
            (Some(before), Some(after)) => {
                ((after.fraction / before.fraction).min(1.0), (after.fraction - before.fraction).max(0.0))
            }
        };
        let attempts = |wait: Option<Wait>| wait.map_or(1, |wait| wait.attempts);
        let limit = altered.after.and_then(|wait| {
            Some(Limit { timeout_ms: wait.timeout_ms?, attempts: wait.attempts, is_new: altered.timeout_set })
        });
        let is_called = altered.after.is_some();
        let callee = match callee {
            Some(Moved::Unknown) if is_called && limit.is_none() => return Err(Unknown),
            Some(Moved::Unknown) => Callee::UpToLimit,
            Some(Moved::Paced(pace)) => Callee::Paced(*pace),
            Some(Moved::Paired(points, pace)) => Callee::Paired(points, *pace),
            Some(Moved::Spread(change)) => Callee::Spread(change),
            None => Callee::Paced(Pace::SAME),
        };
        let before = altered.before.or(altered.after);
        let extra_attempts = attempts(altered.after).saturating_sub(attempts(before));
        let effect = Self { kept, added, extra_attempts, callee, limit };
        let nothing = callee == Callee::Paced(Pace::SAME)
            && (kept, added, extra_attempts) == (1.0, 0.0, 0)
            && !altered.timeout_set;
        Ok((!nothing).then_some(effect))
    }

    /// Least and greatest milliseconds of a call that took `ms`, at its rank in `(0, 1)` among calls of its kind. Changes of
    /// which nobody knows the calls are not in it.
    pub(super) fn after(&self, ms: f64, rank: f64) -> (f64, f64) {
        let (low, high) = match self.callee {
            Callee::Paced(pace) => (pace.of(ms), pace.of(ms)),
            Callee::Paired(points, pace) => {
                let point = points[((rank * points.len() as f64) as usize).min(points.len() - 1)];
                let moved = |to: f64| pace.of((ms + (to - point.before)).max(0.0));
                (moved(point.low), moved(point.high))
            }
            Callee::Spread(_) => (ms, ms),
            Callee::UpToLimit => (0.0, f64::INFINITY),
        };
        match self.limit {
            None => (low, high),
            Some(limit) => limit.cut(ms, low, high),
        }
    }

    /// Milliseconds that every call gets longer, besides what nobody knows the calls of; `None` where that depends on the call.
    pub(super) fn constant_ms(&self) -> Option<f64> {
        let added_ms = match self.callee {
            Callee::Paced(pace) => pace.constant_ms()?,
            Callee::Spread(_) => 0.0,
            Callee::Paired(..) | Callee::UpToLimit => return None,
        };
        let cut = self.limit.is_some_and(|limit| limit.is_new || added_ms > 0.0);
        (self.kept >= 1.0 && !cut).then_some(added_ms)
    }

    /// Greatest milliseconds that a call can take longer than before, where there is a limit.
    pub(super) fn longest_ms(&self) -> Option<f64> {
        self.limit.map(|limit| limit.all_attempts_ms())
    }
}

/// Nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unknown;

impl Limit {
    fn all_attempts_ms(self) -> f64 {
        self.timeout_ms * f64::from(self.attempts)
    }

    /// A call that would take longer than its timeout is given up then; further attempts take up to the timeout each. A call that
    /// took longer before shows that the timeout is not kept, unless the changes bring it.
    fn cut(self, before_ms: f64, low: f64, high: f64) -> (f64, f64) {
        let one = if self.is_new { self.timeout_ms } else { self.timeout_ms.max(before_ms) };
        let longest = if high <= one { high } else { self.all_attempts_ms().max(one) };
        (low.min(one), longest)
    }
}
