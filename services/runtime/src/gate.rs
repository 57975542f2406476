//! A bound on calls in flight that gives way under overload, so that whoever is let in is answered soon.
//!
//! It begins where its owner says and grows by one with every call that is answered quickly while others wait, up to what is
//! configured. When those inside take longer than they should while others wait, as many are let in as would have been answered
//! in time: what keeps them is each other (Little's law). Who finds no place waits for a moment; no more may wait than may be
//! inside, and whoever comes on top is refused at once. While there is a place for everyone, the bound goes back, one at a time,
//! to where it began: calls that are slow by nature were perhaps cut for nothing.
//!
//! Who has to do something before it can come in, as to read what was sent, knocks first: where it would be refused afterwards
//! it is refused before. Whoever knocked counts among those who wait, but only for a moment: one who is slow keeps nobody out.
//! Its time counts from the knock, so that no more are on their way than are answered in time.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a call may wait for a place before it is refused.
const WAIT_MAX: Duration = Duration::from_millis(10);
/// How long one who knocked counts among those who wait: bodies of a common size have come by then.
const COMING_MAX: Duration = Duration::from_millis(25);
/// How often the bound is reconsidered.
const WINDOW: Duration = Duration::from_millis(50);

/// Lets in as many calls as can be answered soon.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    pace: Mutex<Pace>,
}

/// A place inside, left when dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
    since: Instant,
}

/// Leave to come to the door.
#[derive(Debug)]
pub struct Knock<'g> {
    gate: &'g Gate,
    waiter: Option<Waiter<'g>>,
    /// Since when it is on its way; `None` for one who kept nobody waiting but itself.
    since: Option<Instant>,
}

/// One who waits at the door.
#[derive(Debug)]
struct Waiter<'g>(&'g AtomicUsize);

/// The bound, and what tells how it should move.
#[derive(Debug, Clone, PartialEq)]
struct Pace {
    /// How long a call may take inside, on average, while others wait.
    target: Duration,
    least: usize,
    first: usize,
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
    /// At most `most` calls in flight, `first` of them to begin with, under overload never fewer than `least`. Whatever is
    /// out of that order gives way to `most`, then to `least`; one call is always let in. While others wait, a call may take
    /// `target` inside, on average.
    #[must_use]
    pub fn new(target: Duration, (least, first, most): (usize, usize, usize)) -> Self {
        let pace = Pace::new(target, (least, first, most), Instant::now());
        let places = Arc::new(Semaphore::new(pace.bound));
        Self(Arc::new(Shared { places, waiting: AtomicUsize::new(0), pace: Mutex::new(pace) }))
    }

    /// Asks before the work of coming in; `None` where so many are on their way already that there would be neither a place nor
    /// room to wait for one. It takes no place.
    #[must_use]
    pub fn knock(&self) -> Option<Knock<'_>> {
        let free = self.0.places.available_permits();
        let waiter = if free > 0 { self.0.queue(free) } else { self.0.wait() }?;
        Some(Knock { gate: self, waiter: Some(waiter), since: Some(Instant::now()) })
    }

    /// A place that is free now or becomes free in a moment; `None` where the call is to be refused.
    pub async fn enter(&self) -> Option<Place> {
        Knock { gate: self, waiter: None, since: None }.enter().await
    }

    fn place(&self, permit: OwnedSemaphorePermit, since: Option<Instant>) -> Place {
        Place { gate: Arc::clone(&self.0), permit: Some(permit), since: since.unwrap_or_else(Instant::now) }
    }
}

impl Knock<'_> {
    /// Does what has to be done before coming in. Who is not ready in a moment loses its place in the queue, not its turn
    /// to ask for another.
    pub async fn prepare<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Ok(done) = tokio::time::timeout(COMING_MAX, work.as_mut()).await {
            return done;
        }
        (self.waiter, self.since) = (None, None);
        work.await
    }

    /// See [`Gate::enter`].
    pub async fn enter(self) -> Option<Place> {
        let Self { gate, waiter, since } = self;
        let shared = &gate.0;
        if let Ok(permit) = Arc::clone(&shared.places).try_acquire_owned() {
            return Some(gate.place(permit, since));
        }
        let _waiter = waiter.or_else(|| shared.wait())?;
        match tokio::time::timeout(WAIT_MAX, Arc::clone(&shared.places).acquire_owned()).await {
            Ok(Ok(permit)) => Some(gate.place(permit, since)),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Shared {
    fn pace(&self) -> std::sync::MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place in the queue of one who found no place inside.
    fn wait(&self) -> Option<Waiter<'_>> {
        self.pace().sought = true;
        self.queue(0)
    }

    /// A place in the queue, where there is one; those who are to take the free places may queue on top.
    fn queue(&self, free: usize) -> Option<Waiter<'_>> {
        let most = self.pace().bound + free;
        // Counted first: two who come at once must not both take the last one.
        let waiter = Waiter(&self.waiting);
        (self.waiting.fetch_add(1, Ordering::Relaxed) < most).then_some(waiter)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
    fn new(target: Duration, (least, first, most): (usize, usize, usize), now: Instant) -> Self {
        let most = most.max(1);
        let least = least.clamp(1, most);
        let first = first.clamp(least, most);
        Self {
            target,
            least,
            first,
            most,
            bound: first,
            owed: 0,
            window: now,
            answered: 0,
            inside: Duration::ZERO,
            sought: false,
        }
    }

    /// Notes a call that took so long; how many places come back into use.
    fn left(&mut self, now: Instant, inside: Duration) -> usize {
        self.answered += 1;
        self.inside += inside;
        let mut wanted = self.bound + usize::from(self.sought && inside < self.target / 2);
        if now.duration_since(self.window) >= WINDOW {
            let mean = self.inside / self.answered;
            if self.sought && mean > self.target {
                wanted = (self.bound as f64 * self.target.as_secs_f64() / mean.as_secs_f64()) as usize;
            } else if !self.sought && self.bound < self.first {
                wanted = self.bound + 1;
            }
            (self.window, self.answered, self.inside, self.sought) = (now, 0, Duration::ZERO, false);
        }
        self.move_to(wanted.clamp(self.least, self.most))
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
    use std::task::Poll;

    const TARGET: Duration = Duration::from_millis(12);

    /// One window of ten calls that took `inside_ms` each; places that came back.
    fn window(pace: &mut Pace, sought: bool, inside_ms: u64) -> usize {
        pace.sought = sought;
        let inside = Duration::from_millis(inside_ms);
        let before: usize = (0..9).map(|_| pace.left(pace.window, inside)).sum();
        before + pace.left(pace.window + WINDOW, inside)
    }

    #[test]
    fn while_nobody_waits_nothing_moves() {
        let mut pace = Pace::new(TARGET, (4, 16, 64), Instant::now());
        for inside_ms in [5_000, 1].repeat(20) {
            assert_eq!(window(&mut pace, false, inside_ms), 0);
        }
        assert_eq!((pace.bound, pace.owed), (16, 0));
    }

    #[test]
    fn when_the_rush_is_over_the_bound_goes_back_to_where_it_began() {
        let mut pace = Pace::new(TARGET, (4, 16, 64), Instant::now());
        window(&mut pace, true, 1_000);
        assert_eq!((pace.bound, pace.owed), (4, 12));
        pace.owed = 0;
        let came_back: usize = (0..20).map(|_| window(&mut pace, false, 1_000)).sum();
        assert_eq!((pace.bound, came_back), (16, 12));
    }

    #[test]
    fn slow_calls_let_as_few_in_as_are_answered_in_time_and_quick_ones_more() {
        let mut pace = Pace::new(TARGET, (4, 64, 64), Instant::now());
        window(&mut pace, true, 36);
        assert_eq!((pace.bound, pace.owed), (21, 43), "a third of the time is wanted, so a third of the calls");
        window(&mut pace, true, 1_000);
        assert_eq!((pace.bound, pace.owed), (4, 60), "never fewer than the fewest");
        pace.owed = 0;
        assert_eq!((window(&mut pace, true, 1), pace.bound), (10, 14), "one for each quick answer");
        assert_eq!((window(&mut pace, true, 10), pace.bound), (0, 14), "neither quick nor slow");
        (0..20).for_each(|_| _ = window(&mut pace, true, 1));
        assert_eq!(pace.bound, 64);
    }

    #[test]
    fn the_bound_begins_within_what_is_configured() {
        let bound = |least, first, most| Gate::new(TARGET, (least, first, most)).0.pace().bound;
        assert_eq!([bound(1, 16, 64), bound(32, 16, 64), bound(1, 16, 2), bound(9, 16, 0)], [16, 32, 2, 1]);
    }

    #[tokio::test]
    async fn places_are_given_out_and_come_back() {
        let gate = Gate::new(TARGET, (1, 2, 2));
        let (first, second) = (gate.enter().await.expect("free"), gate.enter().await.expect("free"));
        assert!(gate.enter().await.is_none());
        drop(first);
        assert!(gate.enter().await.is_some());
        drop(second);
        assert!(gate.enter().await.is_some());
    }

    #[tokio::test]
    async fn no_more_wait_than_may_be_inside() {
        let gate = Gate::new(TARGET, (1, 2, 2));
        let _inside = (gate.enter().await.expect("free"), gate.enter().await.expect("free"));
        let callers = (0..10).map(|_| {
            let gate = gate.clone();
            async move {
                let began = Instant::now();
                assert!(gate.enter().await.is_none());
                began.elapsed() >= WAIT_MAX
            }
        });
        let waited = tokio::task::JoinSet::from_iter(callers).join_all().await;
        assert_eq!(waited.into_iter().filter(|waited| *waited).count(), 2);
        assert_eq!(gate.0.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn who_knocks_is_refused_where_it_would_find_no_place() {
        let gate = Gate::new(TARGET, (1, 2, 2));
        let inside = (gate.enter().await.expect("free"), gate.enter().await.expect("free"));
        let coming = (gate.knock().expect("room to wait"), gate.knock().expect("room to wait"));
        assert!(gate.knock().is_none());
        drop(inside);
        let third = gate.knock().expect("a place is free");
        let fourth = gate.knock().expect("a place is free");
        assert!(gate.knock().is_none(), "as many are on their way as there would be room for");
        drop(fourth);
        assert!(third.enter().await.is_some(), "who is ready first comes in first");
        assert!(coming.0.enter().await.is_some());
        assert_eq!(gate.0.waiting.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_is_slow_to_come_keeps_nobody_out() {
        let gate = Gate::new(TARGET, (1, 1, 1));
        let _inside = gate.enter().await.expect("free");
        let mut slow = gate.knock().expect("room to wait");
        let mut preparing = pin!(slow.prepare(std::future::pending::<()>()));
        let mut is_ready =
            async || std::future::poll_fn(|context| Poll::Ready(preparing.as_mut().poll(context).is_ready())).await;
        assert!(!is_ready().await);
        assert!(gate.knock().is_none(), "it may be here any moment");
        tokio::time::sleep(COMING_MAX * 2).await;
        assert!(!is_ready().await);
        assert!(gate.knock().is_some(), "it is slow");
    }

    #[tokio::test]
    async fn time_counts_from_the_knock_of_all_but_the_slow() {
        let gate = Gate::new(TARGET, (1, 1, 1));
        let mut quick = gate.knock().expect("free");
        quick.prepare(tokio::time::sleep(COMING_MAX / 5)).await;
        assert!(quick.enter().await.is_some_and(|place| place.since.elapsed() >= COMING_MAX / 5));
        let mut slow = gate.knock().expect("free");
        slow.prepare(tokio::time::sleep(COMING_MAX * 2)).await;
        assert!(slow.enter().await.is_some_and(|place| place.since.elapsed() < COMING_MAX));
    }

    #[tokio::test]
    async fn what_is_owed_is_taken_from_those_who_leave() {
        let gate = Gate::new(TARGET, (1, 4, 4));
        let mut inside = Vec::new();
        for _ in 0..4 {
            inside.push(gate.enter().await.expect("free"));
        }
        gate.0.pace().move_to(1);
        drop(inside);
        let _one = gate.enter().await.expect("one place is left");
        assert!(gate.enter().await.is_none());
    }
}
