//! Computations beside the threads that serve: a few at a time, none longer than somebody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use crate::error::Error;

/// Places for computations.
#[derive(Debug)]
pub(crate) struct Workers {
    places: Arc<Semaphore>,
}

impl Workers {
    /// Room for this many; 0 for as many as there are processors.
    pub(crate) fn new(computations_max: usize) -> Self {
        let processors = || std::thread::available_parallelism().map_or(1, usize::from);
        let places = if computations_max == 0 { processors() } else { computations_max };
        Self { places: Arc::new(Semaphore::new(places)) }
    }

    /// Runs a computation. It should look now and then whether its argument says to give up: the deadline has passed, or
    /// the caller has gone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let place = timeout_at(deadline.into(), Arc::clone(&self.places).acquire_owned()).await;
        let place = place.ok().and_then(Result::ok).ok_or(Error::Deadline)?;
        let gone = Arc::new(AtomicBool::new(false));
        let _caller = Caller(Arc::clone(&gone));
        let running = tokio::task::spawn_blocking(move || {
            let _place = place;
            job(&|| gone.load(Ordering::Relaxed) || Instant::now() >= deadline)
        });
        match timeout_at(deadline.into(), running).await {
            Ok(finished) => finished.map_err(Error::Broken)?,
            Err(_) => Err(Error::Deadline),
        }
    }
}

/// Tells the computation when its caller stops waiting.
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_computation_that_nobody_waits_for_gives_up_and_frees_its_place() {
        let workers = Workers::new(1);
        let soon = Instant::now() + Duration::from_millis(5);
        let endless = workers.run::<()>(soon, |give_up| {
            while !give_up() {
                std::hint::spin_loop();
            }
            Err(Error::Deadline)
        });
        assert!(matches!(endless.await, Err(Error::Deadline)));
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(workers.run(later, |_| Ok(7)).await.expect("the place is free again"), 7);
    }
}
