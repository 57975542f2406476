use std::collections::VecDeque;

use attain_vocabulary::{DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{Adwin, Cells, Direction, Found, PageHinkley, Psi, Spread};

/// Cells that are remembered to tell the levels before and after a change: a quarter of a year at four a day, and more.
const CELLS_KEPT_MAX: usize = 400;
/// Share of cells, the worst ones, that do not count for a level: incidents.
const TRIMMED_SHARE: f64 = 0.1;

/// What a watch looks at, and how certain it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Length of a cell, in milliseconds.
    pub cell_ms: i64,
    /// Fewest requests of a cell; with less a cell gets longer.
    pub valid_min: f64,
    /// Cells before anything is said.
    pub warm_cells: usize,
    /// Newest cells that centre and spread are read from.
    pub spread_cells: usize,
    /// Standard deviations beyond which a cell is no more certain: one incident must not be a drift.
    pub clip: f64,
    /// Page–Hinkley: change per cell that is tolerated, in standard deviations.
    pub page_hinkley_delta: f64,
    /// Page–Hinkley: sum that has to be exceeded, in standard deviations.
    pub page_hinkley_threshold: f64,
    /// ADWIN: probability that a window without a change is cut.
    pub adwin_delta: f64,
    /// PSI: bins.
    pub psi_bins: usize,
    /// PSI: newest cells that are compared with those before.
    pub psi_cells: usize,
    /// PSI: cells before that they are compared with, at most.
    pub psi_reference_cells: usize,
    /// PSI: normal deviate of the false alarms that are borne at one comparison.
    pub psi_deviate: f64,
    /// Detectors that have to agree on a change: 1 to 3.
    pub agreement: usize,
    /// Cells within which they have to: a week at four a day, longer where cells are.
    pub agreement_cells: u64,
    /// The detector whose find is a change by itself; the others are told beside it where they found the same. `None`: as many as
    /// `agreement` says have to find it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Detector>,
    /// How long after it was found a change is told as a drift; from then on it is how the service is. In milliseconds.
    pub settle_ms: i64,
}

impl Settings {
    /// For own failures of a service in five-minute buckets.
    ///
    /// Source: `evals drift`, thresholds chosen on simulated streams of other seeds than those scored (docs/recommendation/drift.md).
    pub const OWN_FAILURES: Self = Self {
        cell_ms: DAY_MS / 4,
        valid_min: 100.0,
        warm_cells: 28,
        spread_cells: 112,
        clip: 3.0,
        page_hinkley_delta: 0.5,
        page_hinkley_threshold: 14.0,
        adwin_delta: 0.05,
        psi_bins: 5,
        psi_cells: 28,
        psi_reference_cells: 224,
        psi_deviate: 3.5,
        agreement: 2,
        agreement_cells: 28,
        alone: Some(Detector::PageHinkley),
        settle_ms: 28 * DAY_MS,
    };
}

/// Who found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Detector {
    /// Page–Hinkley, on the level.
    PageHinkley,
    /// ADWIN, on the level.
    Adwin,
    /// The population stability index, on the distribution of failure ratios.
    Psi,
}

/// One detector's find.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Who.
    pub detector: Detector,
    /// Which way; `None` where only the shape of a distribution changed.
    pub direction: Option<Direction>,
    /// Start of the first cell that it counts to the time after.
    pub since_ms: UnixMillis,
    /// When it could be known.
    pub detected_ms: UnixMillis,
    /// What was measured, in the detector's own unit.
    pub statistic: f64,
    /// What it had to exceed.
    pub threshold: f64,
}

/// A change of level: found by the detector that decides alone, or by enough that agree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which way.
    pub direction: Direction,
    /// Start of the first cell at the new level, as estimated.
    pub since_ms: UnixMillis,
    /// When it was known.
    pub detected_ms: UnixMillis,
    /// Own failure ratio in cells before it, the worst tenth left out, in [0, 1].
    pub before_ratio: f64,
    /// The same of the cells since, up to the last one seen.
    pub after_ratio: f64,
    /// Who found it, in the order of their finds.
    pub signals: Vec<Signal>,
}

/// What a watch has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing changed as far as can be seen.
    Steady,
    /// The level changed lately.
    Drifted,
    /// Too little was seen.
    CannotTell,
}

/// The state of a service's own failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// What it has come to.
    pub state: State,
    /// The last change, however long ago.
    pub change: Option<Change>,
    /// Cells that were seen.
    pub cell_count: u64,
    /// Cells that are missing before anything can be said; 0 where it can.
    pub lacking_cell_count: u32,
    /// Mean length of a cell in milliseconds: longer than asked where there is little traffic. 0 before the second.
    pub cell_ms: i64,
}

/// Takes a stream of buckets and tells of changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    settings: Settings,
    cells: Cells,
    spread: Spread,
    page_hinkley: PageHinkley,
    adwin: Adwin,
    psi: Psi,
    /// Cells since the last change, the newest ones.
    seen: VecDeque<(UnixMillis, f64)>,
    /// Finds that nobody else has agreed with yet, each with the number of the cell; one a detector.
    signals: Vec<(u64, Signal)>,
    change: Option<Change>,
    cell_count: u64,
    /// Start of the first cell and of the last.
    span: Option<(UnixMillis, UnixMillis)>,
}

/// A cell as the detectors read it.
struct Reading {
    start_ms: UnixMillis,
    level: f64,
    /// Variance of the level by counting alone.
    noise: f64,
    ratio: f64,
}

/// Watches a whole history: buckets by ascending start, each with requests and own failures.
#[must_use]
pub fn watch(settings: Settings, buckets: impl IntoIterator<Item = (UnixMillis, f64, f64)>) -> Watch {
    let mut watch = Watch::new(settings);
    for (start_ms, valid, bad) in buckets {
        watch.push(start_ms, valid, bad);
    }
    watch
}

impl Watch {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let s = &settings;
        Self {
            cells: Cells::new(s.cell_ms, s.valid_min),
            spread: Spread::new(s.warm_cells, s.spread_cells),
            page_hinkley: PageHinkley::new(s.page_hinkley_delta, s.page_hinkley_threshold),
            adwin: Adwin::new(s.adwin_delta, CELLS_KEPT_MAX as u64),
            psi: Psi::new(s.psi_bins, s.psi_cells, s.psi_reference_cells, s.psi_deviate),
            seen: VecDeque::new(),
            signals: Vec::new(),
            change: None,
            cell_count: 0,
            span: None,
            settings,
        }
    }

    /// Takes a bucket: start, requests, own failures among them (may be a fraction). Tells of the change that it completes.
    pub fn push(&mut self, start_ms: UnixMillis, valid: f64, bad: f64) -> Option<&Change> {
        let cell = self.cells.push(start_ms, valid, bad)?;
        // The bucket that ends a cell is the first moment at which the cell is known.
        let read = Reading { start_ms: cell.start_ms, level: cell.level(), noise: cell.noise(), ratio: cell.ratio() };
        if self.take(read, start_ms) { self.change.as_ref() } else { None }
    }

    /// Takes a value of a stream that counts nothing, for example a share of CPU, as one cell that was known at an instant;
    /// one that is not finite is not read.
    pub fn push_value(&mut self, start_ms: UnixMillis, known_ms: UnixMillis, value: f64) -> Option<&Change> {
        let read = Reading { start_ms, level: value, noise: 0.0, ratio: value };
        if value.is_finite() && self.take(read, known_ms) { self.change.as_ref() } else { None }
    }

    /// What it has come to at an instant.
    #[must_use]
    pub fn state(&self, now_ms: UnixMillis) -> Drift {
        let lately = |change: &Change| now_ms.saturating_sub(change.detected_ms) < self.settings.settle_ms;
        let lacking = self.spread.lacking();
        let state = match &self.change {
            Some(change) if lately(change) => State::Drifted,
            _ if lacking > 0 => State::CannotTell,
            _ => State::Steady,
        };
        let (first, last) = self.span.unwrap_or_default();
        let steps = i64::try_from(self.cell_count.saturating_sub(1)).unwrap_or(i64::MAX);
        Drift {
            state,
            change: self.change.clone(),
            cell_count: self.cell_count,
            lacking_cell_count: u32::try_from(lacking).unwrap_or(u32::MAX),
            cell_ms: if steps > 0 { last.saturating_sub(first) / steps } else { 0 },
        }
    }

    /// Whether the cell completes a change.
    fn take(&mut self, cell: Reading, known_ms: UnixMillis) -> bool {
        self.cell_count += 1;
        self.span = Some((self.span.map_or(cell.start_ms, |(first, _)| first), cell.start_ms));
        if self.seen.len() == CELLS_KEPT_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((cell.start_ms, cell.ratio));
        let s = self.settings;
        let mut finds = [None; 3];
        if let Some(distance) = self.spread.push(cell.level, cell.noise, s.clip) {
            finds[0] = self.page_hinkley.push(distance).map(|found| (Detector::PageHinkley, found));
            finds[1] = self.adwin.push((distance / s.clip + 1.0) / 2.0).map(|found| (Detector::Adwin, found));
        }
        finds[2] = self.psi.push(cell.ratio).map(|found| (Detector::Psi, found));
        for (detector, found) in finds.into_iter().flatten() {
            self.note(detector, &found, known_ms);
        }
        self.settle();
        let agreed = self.agreed(known_ms);
        let changed = agreed.is_some();
        if let Some(change) = agreed {
            self.restart(change);
        } else {
            self.follow();
        }
        changed
    }

    fn note(&mut self, detector: Detector, found: &Found, detected_ms: UnixMillis) {
        let first = self.seen.len().saturating_sub(found.values_since).min(self.seen.len().saturating_sub(1));
        let since_ms = self.seen.get(first).map_or(detected_ms, |(start_ms, _)| *start_ms);
        self.signals.retain(|(_, signal)| signal.detector != detector);
        let Found { direction, statistic, threshold, .. } = *found;
        self.signals
            .push((self.cell_count, Signal { detector, direction, since_ms, detected_ms, statistic, threshold }));
    }

    /// Forgets finds that nobody agreed with in time.
    fn settle(&mut self) {
        let (now, within) = (self.cell_count, self.settings.agreement_cells);
        self.signals.retain(|(cell, _)| now - cell <= within);
    }

    /// The change, where enough finds point the same way.
    fn agreed(&self, detected_ms: UnixMillis) -> Option<Change> {
        [Direction::Up, Direction::Down].into_iter().find_map(|direction| {
            let agrees = |signal: &Signal| signal.direction.is_none_or(|way| way == direction);
            let signals: Vec<Signal> =
                self.signals.iter().map(|(_, signal)| *signal).filter(|signal| agrees(signal)).collect();
            let mut pointing = signals.iter().filter(|signal| signal.direction.is_some());
            let found = match self.settings.alone {
                Some(detector) => pointing.any(|signal| signal.detector == detector),
                None => pointing.next().is_some() && signals.len() >= self.settings.agreement,
            };
            if !found {
                return None;
            }
            // The finest estimate of when: Page–Hinkley's lowest point, then ADWIN's cut, then the begin of PSI's newest cells.
            let since_ms = signals.iter().min_by_key(|signal| signal.detector).map(|signal| signal.since_ms)?;
            let (before_ratio, after_ratio) = (self.level(|at| at < since_ms), self.level(|at| at >= since_ms));
            Some(Change { direction, since_ms, detected_ms, before_ratio, after_ratio, signals })
        })
    }

    /// The new level is learned from nothing but the cells since the change.
    fn restart(&mut self, change: Change) {
        self.seen.retain(|(start_ms, _)| *start_ms >= change.since_ms);
        self.spread.reset();
        self.page_hinkley.reset();
        self.adwin.reset();
        self.psi.reset();
        self.signals.clear();
        self.change = Some(change);
    }

    /// What came after the last change says how large it is.
    fn follow(&mut self) {
        if self.change.is_none() {
            return;
        }
        let after_ratio = self.level(|_| true);
        if let Some(change) = &mut self.change {
            change.after_ratio = after_ratio;
        }
    }

    /// Mean failure ratio of cells, the worst ones left out; 0 without any.
    fn level(&self, of: impl Fn(UnixMillis) -> bool) -> f64 {
        let mut ratios: Vec<f64> =
            self.seen.iter().filter(|(start_ms, _)| of(*start_ms)).map(|(_, ratio)| *ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.truncate(ratios.len() - (ratios.len() as f64 * TRIMMED_SHARE) as usize);
        if ratios.is_empty() { 0.0 } else { ratios.iter().sum::<f64>() / ratios.len() as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL_MS: i64 = Settings::OWN_FAILURES.cell_ms;

    /// Own failures of `valid` requests a cell that go up and down by a tenth around a level: by five steps, since the middle of two values
    /// is one of them or the other by turns.
    fn stream(levels: &[(i64, f64)], valid: f64) -> Vec<(UnixMillis, f64, f64)> {
        let cells = levels.iter().flat_map(|(count, ratio)| (0..*count).map(move |_| *ratio));
        cells
            .enumerate()
            .map(|(i, ratio)| (i as i64 * CELL_MS, valid, valid * ratio * [0.9, 1.05, 1.0, 0.95, 1.1][i * 2 % 5]))
            .collect()
    }

    fn seen(levels: &[(i64, f64)], valid: f64) -> Drift {
        let stream = stream(levels, valid);
        let now = stream.last().map_or(0, |(at, _, _)| *at);
        watch(Settings::OWN_FAILURES, stream).state(now)
    }

    #[test]
    fn a_step_is_found_where_it_is_with_its_size() {
        let drift = seen(&[(120, 0.001), (60, 0.004)], 1e6);
        let change = drift.change.expect("four times as many failures");
        assert_eq!((drift.state, change.direction), (State::Drifted, Direction::Up));
        assert!((change.since_ms / CELL_MS - 120).abs() <= 1, "{}", change.since_ms / CELL_MS);
        assert!(change.detected_ms - change.since_ms <= 28 * CELL_MS, "{change:?}");
        assert!((change.after_ratio / change.before_ratio / 4.0 - 1.0).abs() < 0.05, "{change:?}");
        assert!(change.signals.iter().any(|signal| signal.detector == Detector::PageHinkley), "{change:?}");
    }

    #[test]
    fn enough_decide_together_or_one_alone() {
        let signal = |detector, direction| Signal {
            detector,
            direction: Some(direction),
            since_ms: 0,
            detected_ms: 1,
            statistic: 2.0,
            threshold: 1.0,
        };
        let found = |alone: Option<Detector>, directions: [Direction; 3]| {
            let mut watch = Watch::new(Settings { alone, ..Settings::OWN_FAILURES });
            let detectors = [Detector::PageHinkley, Detector::Adwin, Detector::Psi];
            watch.signals = detectors.into_iter().zip(directions).map(|(d, way)| (0, signal(d, way))).collect();
            watch.agreed(1).map(|change| (change.direction, change.signals.len()))
        };
        let (up, down) = (Direction::Up, Direction::Down);
        assert_eq!(found(None, [up, up, up]), Some((up, 3)));
        assert_eq!(found(None, [up, up, down]), Some((up, 2)));
        // Whoever decides alone does, and who found the same is told beside it.
        assert_eq!(found(Some(Detector::PageHinkley), [up, up, down]), Some((up, 2)));
        assert_eq!(found(Some(Detector::PageHinkley), [down, up, up]), Some((down, 1)));
    }

    #[test]
    fn settings_from_before_one_detector_could_decide_alone_read_as_they_were() {
        let written = serde_json::to_value(Settings { alone: None, ..Settings::OWN_FAILURES }).expect("JSON");
        assert!(written.get("alone").is_none());
        assert_eq!(serde_json::from_value::<Settings>(written).expect("read").alone, None);
    }

    #[test]
    fn an_incident_is_no_drift() {
        let drift = seen(&[(120, 0.001), (1, 0.5), (120, 0.001)], 1e6);
        assert_eq!((drift.state, drift.change), (State::Steady, None));
    }

    #[test]
    fn after_a_while_a_new_level_is_how_the_service_is() {
        let drift = seen(&[(120, 0.001), (200, 0.004)], 1e6);
        assert_eq!(drift.state, State::Steady);
        assert!(drift.change.is_some());
    }

    #[test]
    fn too_little_is_said_to_be_too_little() {
        let drift = seen(&[(20, 0.001)], 1e6);
        assert_eq!((drift.state, drift.lacking_cell_count, drift.cell_count), (State::CannotTell, 9, 19));
        // Ten requests in six hours: a cell is sixty hours long, and there are too few of them in 45 days.
        let drift = seen(&[(180, 0.1)], 10.0);
        assert_eq!((drift.state, drift.cell_ms), (State::CannotTell, 10 * CELL_MS));
        assert_eq!(watch(Settings::OWN_FAILURES, []).state(0).state, State::CannotTell);
    }
}
