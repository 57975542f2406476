//! Leaves alone for a while what failed several times in a row.

use attain_vocabulary::UnixMillis;

/// Counts failures in a row; after `failures_max` of them it is open for `pause_ms`, then lets one try at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breaker {
    failures_max: u32,
    pause_ms: i64,
    failures: u32,
    /// Until when nobody tries; once it is over, one may, and the pause begins anew for the others.
    open_until_ms: Option<UnixMillis>,
}

impl Breaker {
    /// Closed.
    pub(crate) fn new(failures_max: u32, pause_ms: i64) -> Self {
        Self { failures_max: failures_max.max(1), pause_ms, failures: 0, open_until_ms: None }
    }

    /// Whether to try now.
    pub(crate) fn may_try(&mut self, now_ms: UnixMillis) -> bool {
        match self.open_until_ms {
            None => true,
            Some(until) if now_ms < until => false,
            Some(_) => {
                self.open_until_ms = Some(now_ms + self.pause_ms);
                true
            }
        }
    }

    /// Notes how a try went.
    pub(crate) fn note(&mut self, succeeded: bool, now_ms: UnixMillis) {
        if succeeded {
            (self.failures, self.open_until_ms) = (0, None);
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.failures_max {
            self.open_until_ms = Some(now_ms + self.pause_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_pauses_and_lets_one_try() {
        let mut breaker = Breaker::new(2, 100);
        breaker.note(false, 0);
        assert!(breaker.may_try(1));
        breaker.note(false, 1);
        assert!(!breaker.may_try(100));
        assert!(breaker.may_try(101), "the pause is over");
        assert!(!breaker.may_try(102), "one at a time");
        breaker.note(false, 103);
        assert!(!breaker.may_try(202) && breaker.may_try(203));
        breaker.note(true, 204);
        assert!(breaker.may_try(205));
        breaker.note(false, 206);
        assert!(breaker.may_try(207), "the count began anew");
    }
}
