//! A bound on calls in flight that gives way under overload, so that whoever is let in is answered soon.
//!
//! As long as there is a place for everyone the bound is as configured. When callers find none and those inside take longer
//! than they should, fewer are let in, since what keeps them is each other; when those inside are quick again, or nobody has
//! to wait, more are. Multiplicative decrease, slow increase, as congestion control does it (Chiu and Jain, 1989).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a call may take inside while others find no place: with the wait at the door an answer within 50 ms.
const INSIDE_TARGET: Duration = Duration::from_millis(15);
/// How often the bound is reconsidered.
const WINDOW: Duration = Duration::from_millis(50);

/// Lets in as many calls as can be answered soon.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    pace: Mutex<Pace>,
}

/// A place inside, left when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
}

/// The bound, and what tells how it should move.
#[derive(Debug, Clone, PartialEq)]
struct Pace {
    least: usize,
    most: usize,
    bound: usize,
    /// Places that are taken out of use as soon as they are left.
    owed: usize,
    window: Instant,
    answered: u32,
    inside: Duration,
    /// Whether somebody found no place in this window.
    sought: bool,
}

impl Gate {
    /// At most `most` calls in flight, under overload never fewer than `least`.
    #[must_use]
    pub fn new(least: usize, most: usize) -> Self {
        let most = most.max(1);
        let pace = Pace::new(least.clamp(1, most), most, Instant::now());
        Self(Arc::new(Shared { places: Arc::new(Semaphore::new(most)), pace: Mutex::new(pace) }))
    }

    /// A place that is free now.
    #[must_use]
    pub fn try_enter(&self) -> Option<Place> {
        match Arc::clone(&self.0.places).try_acquire_owned() {
            Ok(permit) => Some(self.place(permit)),
            Err(_) => {
                self.0.pace().sought = true;
                None
            }
        }
    }

    /// A place that is free now or becomes free in time.
    pub async fn enter(&self, within: Duration) -> Option<Place> {
        if let Some(place) = self.try_enter() {
            return Some(place);
        }
        match tokio::time::timeout(within, Arc::clone(&self.0.places).acquire_owned()).await {
            Ok(Ok(permit)) => Some(self.place(permit)),
            Ok(Err(_)) | Err(_) => None,
        }
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Place {
        Place { gate: Arc::clone(&self.0), permit: Some(permit), since: Instant::now() }
    }
}

impl Shared {
    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut pace = self.gate.pace();
        let more = pace.left(Instant::now(), self.since.elapsed());
        if pace.owed > 0 {
            pace.owed -= 1;
            permit.forget();
        }
        self.gate.places.add_permits(more);
    }
}

impl Pace {
    fn new(least: usize, most: usize, now: Instant) -> Self {
        Self { least, most, bound: most, owed: 0, window: now, answered: 0, inside: Duration::ZERO, sought: false }
    }

    /// Notes a call that took so long; how many places come back into use.
    fn left(&mut self, now: Instant, inside: Duration) -> usize {
        self.answered += 1;
        self.inside += inside;
        if now.duration_since(self.window) < WINDOW {
            return 0;
        }
        let mean = self.inside / self.answered;
        let wanted = self.wanted(mean);
        (self.window, self.answered, self.inside, self.sought) = (now, 0, Duration::ZERO, false);
        self.move_to(wanted)
    }

    fn wanted(&self, mean: Duration) -> usize {
        let more = self.bound + (self.bound / 8).max(1);
        let wanted = match self.sought {
            true if mean > INSIDE_TARGET => self.bound * 2 / 3,
            true if mean > INSIDE_TARGET / 2 => self.bound,
            // Nobody waits, or those inside are quick.
            _ => more,
        };
        wanted.clamp(self.least, self.most)
    }

    fn move_to(&mut self, wanted: usize) -> usize {
        let more = wanted.saturating_sub(self.bound);
        self.owed += self.bound.saturating_sub(wanted);
        self.bound = wanted;
        // What is owed and what comes back cancel out.
        let cancelled = more.min(self.owed);
        self.owed -= cancelled;
        more - cancelled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One window of ten calls that took `inside_ms` each.
    fn window(pace: &mut Pace, sought: bool, inside_ms: u64) -> usize {
        pace.sought = sought;
        let now = pace.window + WINDOW;
        (0..9).for_each(|_| assert_eq!(pace.left(pace.window, Duration::from_millis(inside_ms)), 0));
        pace.left(now, Duration::from_millis(inside_ms))
    }

    #[test]
    fn slow_calls_alone_change_nothing() {
        let mut pace = Pace::new(4, 64, Instant::now());
        for _ in 0..20 {
            assert_eq!(window(&mut pace, false, 5_000), 0);
        }
        assert_eq!((pace.bound, pace.owed), (64, 0));
    }

    #[test]
    fn under_overload_fewer_are_let_in_and_afterwards_all_again() {
        let mut pace = Pace::new(4, 64, Instant::now());
        let mut places = 64;
        for _ in 0..20 {
            window(&mut pace, true, 100);
        }
        assert_eq!((pace.bound, pace.owed), (4, 60));
        // Those inside leave.
        places -= pace.owed;
        pace.owed = 0;
        for _ in 0..60 {
            places += window(&mut pace, false, 1);
        }
        assert_eq!((pace.bound, places), (64, 64));
    }

    #[test]
    fn quick_calls_let_more_in_though_others_wait() {
        let mut pace = Pace { bound: 8, ..Pace::new(4, 64, Instant::now()) };
        assert_eq!(window(&mut pace, true, 1), 1);
        assert_eq!(window(&mut pace, true, 10), 0, "neither quick nor slow");
    }

    #[tokio::test]
    async fn places_are_given_out_and_come_back() {
        let gate = Gate::new(1, 2);
        let (first, second) = (gate.try_enter().expect("free"), gate.try_enter().expect("free"));
        assert!(gate.try_enter().is_none());
        assert!(gate.enter(Duration::from_millis(1)).await.is_none());
        drop(first);
        assert!(gate.enter(Duration::from_millis(1)).await.is_some());
        drop(second);
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test]
    async fn what_is_owed_is_taken_from_those_who_leave() {
        let gate = Gate::new(1, 4);
        let inside: Vec<Place> = (0..4).map(|_| gate.try_enter().expect("free")).collect();
        gate.0.pace().move_to(1);
        drop(inside);
        let _one = gate.try_enter().expect("one place is left");
        assert!(gate.try_enter().is_none());
    }
}
