//! Whether the level at which a service fails of its own has changed, and since when.
//!
//! Entry points: [`Watch`] takes the own failures of a service bucket by bucket and tells of [`Change`]s; [`watch`] does so for
//! a whole history. The detectors stand by themselves for other streams: [`PageHinkley`], [`Adwin`], [`Psi`].
//!
//! ```text
//! buckets ─ cells (six hours, or as many as hold enough requests) ─ arcsine of the root ─ centre and spread ─┬─ Page–Hinkley ─┐
//!                                                                                                            ├─ ADWIN ────────┼─ decision  ─ change
//!                                                                                   failure ratios ──────────└─ PSI ──────────┘
//! ```
//!
//! Invariants:
//! - the same stream gives the same findings to the last bit: nothing is random, no clock is read;
//! - memory does not grow with the stream, and a state that was written and read back goes on as if it had not been;
//! - what is worse and what is better are found alike: the detectors know no preferred direction;
//! - one cell, however bad, is no drift: an incident is what the predictor calls an episode;
//! - too little traffic or history is a result ([`State::CannotTell`]), never "steady".
//!
//! What it deliberately does not know: how own failures are told from inherited ones (it is handed them, so that a fault
//! further down does not mark every caller), what a recommendation does about a change, storage, the wire.

mod adwin;
mod cells;
mod page_hinkley;
mod psi;
mod sorted;
mod spread;
mod watch;

pub use adwin::Adwin;
pub use cells::{Cell, Cells, transform};
pub use page_hinkley::PageHinkley;
pub use psi::Psi;
pub use spread::Spread;
pub use watch::{Change, Detector, Drift, Settings, Signal, State, Watch, watch};

use serde::{Deserialize, Serialize};

/// Which way a level moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More than before.
    Up,
    /// Less than before.
    Down,
}

/// What a detector found in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Which way; `None` where a distribution changed and its middle did not.
    pub direction: Option<Direction>,
    /// How many of the newest values the detector counts to the time after the change; at least 1.
    pub values_since: usize,
    /// What was measured, in the detector's own unit.
    pub statistic: f64,
    /// What it had to exceed.
    pub threshold: f64,
}
