//! Counts, in tests, the steps that joining and counting take, so that what grows faster than its input fails a test however
//! fast the machine is. Costs nothing otherwise.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// One step: a child looked at, a link found, two names compared.
#[inline(always)]
pub(super) fn step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}

/// The steps that work of this thread takes.
#[cfg(test)]
pub(super) fn steps_of(work: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    work();
    STEPS.get() - before
}
