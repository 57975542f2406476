//! Progress of whatever takes over a second, on standard error.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error where that is a terminal, a line at the end where it is not.
pub(crate) struct Progress {
    bar: ProgressBar,
    what: &'static str,
}

impl Progress {
    /// Something without a count.
    pub(crate) fn start(what: &'static str) -> Self {
        let bar = ProgressBar::new_spinner().with_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self::announced(bar, what)
    }

    /// Something with a known total.
    pub(crate) fn count(what: &'static str, total: usize) -> Self {
        let bar = ProgressBar::new(total as u64).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:30}] {pos}/{len}") {
            bar.set_style(style);
        }
        Self::announced(bar, what)
    }

    fn announced(bar: ProgressBar, what: &'static str) -> Self {
        if bar.is_hidden() {
            eprintln!("{what} …");
        }
        Self { bar, what }
    }

    /// So many more are done.
    pub(crate) fn advance(&self, by: usize) {
        self.bar.inc(by as u64);
    }

    /// It is done.
    pub(crate) fn end(self) {
        if self.bar.is_hidden() {
            eprintln!("{}: done in {:.1} s", self.what, self.bar.elapsed().as_secs_f64());
        }
        self.bar.finish_and_clear();
    }
}
