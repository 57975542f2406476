//! When the buckets of a history are and how many requests they held: read once, and shared by every column of failures over it
//! (as they were, without a cause, by slices, slower than a threshold).

use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};

use crate::CountPoint;
use crate::episodes::HOUR_MS;
use crate::series::Sums;

/// Buckets of a whole hour.
const OF_AN_HOUR: usize = (HOUR_MS / BUCKET_MS) as usize;

/// Buckets by ascending start, each a row; hours and days are spans of rows.
#[derive(Default)]
pub(crate) struct Timeline {
    pub(crate) starts: Vec<UnixMillis>,
    /// Requests; one for each of `starts`.
    pub(crate) valid: Vec<f64>,
    pub(crate) hours: Vec<Hour>,
    pub(crate) days: Vec<Day>,
    /// Ends of the parts that the cut parts days into.
    pub(crate) parts: Vec<usize>,
    /// Requests in all.
    pub(crate) valid_sum: f64,
    /// The instant whose time of day days are cut at.
    pub(crate) now_ms: UnixMillis,
}

/// Rows of one hour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hour {
    pub(crate) first: usize,
    /// The first row after the cut of the day; where the cut is not within the hour, `first` or `end`.
    pub(crate) cut_at: usize,
    pub(crate) end: usize,
    /// Requests before the cut, and after it.
    pub(crate) valid: [f64; 2],
    /// Fewest requests of a row.
    pub(crate) valid_min: f64,
}

/// Hours of one day (UTC).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Day {
    /// The first hour after it.
    pub(crate) hours_end: usize,
    /// Requests.
    pub(crate) valid: f64,
}

impl Timeline {
    /// Of points in order. Days are cut at the time of day of `now_ms`.
    pub(crate) fn of(points: &[CountPoint], now_ms: UnixMillis) -> Self {
        let starts = points.iter().map(|point| point.start_ms).collect();
        Self::new(starts, points.iter().map(|point| point.valid).collect(), now_ms)
    }

    /// Of ascending starts, and the requests of each.
    pub(crate) fn new(starts: Vec<UnixMillis>, valid: Vec<f64>, now_ms: UnixMillis) -> Self {
        let cut = now_ms.rem_euclid(DAY_MS);
        let hours = hours(&starts, cut);
        let parts = parts(&starts, cut);
        Self { starts, valid, hours, parts, now_ms, ..Self::default() }.added_up()
    }

    /// The same rows, each with one request: slices of time.
    pub(crate) fn by_slices(&self) -> Self {
        let (starts, hours, parts) = (self.starts.clone(), self.hours.clone(), self.parts.clone());
        Self { valid: vec![1.0; starts.len()], starts, hours, parts, now_ms: self.now_ms, ..Self::default() }.added_up()
    }

    /// Whether sums of whole failures are exact, whatever their order.
    pub(crate) fn adds_exactly(&self) -> bool {
        self.valid_sum < (1u64 << f64::MANTISSA_DIGITS) as f64
    }

    /// Requests, and whole failures of each row, no more than requests.
    pub(crate) fn sums_of_whole(&self, bad: &[f64]) -> Sums {
        if self.adds_exactly() {
            Sums { valid: self.valid_sum, bad: sum_of_whole(bad) }
        } else {
            Sums::of_columns(&self.valid, bad)
        }
    }

    /// Adds up requests by hours and days, row by row.
    fn added_up(mut self) -> Self {
        let (mut sum, mut day_sum, mut day_end) = (0.0, 0.0, i64::MIN);
        for (i, hour) in self.hours.iter_mut().enumerate() {
            let start_ms = self.starts[hour.first];
            if start_ms >= day_end {
                if i > 0 {
                    self.days.push(Day { hours_end: i, valid: day_sum });
                }
                day_end = (start_ms.div_euclid(DAY_MS) * DAY_MS).saturating_add(DAY_MS);
                day_sum = 0.0;
            }
            let mut least = f64::INFINITY;
            let mut part = |rows: &[f64]| {
                let mut part_sum = 0.0;
                for valid in rows {
                    part_sum += valid;
                    day_sum += valid;
                    sum += valid;
                    least = if *valid < least { *valid } else { least };
                }
                part_sum
            };
            hour.valid = [part(&self.valid[hour.first..hour.cut_at]), part(&self.valid[hour.cut_at..hour.end])];
            hour.valid_min = least;
        }
        if !self.hours.is_empty() {
            self.days.push(Day { hours_end: self.hours.len(), valid: day_sum });
        }
        self.valid_sum = sum;
        self
    }
}

/// Whole numbers whose sum is exact, several at a time.
#[inline]
pub(crate) fn sum_of_whole(numbers: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    let chunks = numbers.chunks_exact(lanes.len());
    let rest: f64 = chunks.remainder().iter().fold(0.0, |sum, number| sum + number);
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, number)| *lane += number);
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]) + rest
}

/// The hours of ascending starts, each parted at the time of day `cut`.
fn hours(starts: &[UnixMillis], cut: i64) -> Vec<Hour> {
    let mut hours = Vec::with_capacity(starts.len() / OF_AN_HOUR + 2);
    let mut first = 0;
    while let Some(start_ms) = starts.get(first) {
        let day_cut = start_ms.div_euclid(DAY_MS) * DAY_MS + cut;
        let hour_end = (start_ms.div_euclid(HOUR_MS) * HOUR_MS).saturating_add(HOUR_MS);
        let end = first + count_before(&starts[first..], hour_end);
        let cut_at = match () {
            () if *start_ms >= day_cut => first,
            () if hour_end <= day_cut => end,
            () => first + count_before(&starts[first..end], day_cut),
        };
        hours.push(Hour { first, cut_at, end, valid: [0.0; 2], valid_min: f64::INFINITY });
        first = end;
    }
    hours
}

/// Ends of the parts of days, before the time of day `cut` and after it, that have a row.
fn parts(starts: &[UnixMillis], cut: i64) -> Vec<usize> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while let Some(start_ms) = starts.get(at) {
        let day = start_ms.div_euclid(DAY_MS) * DAY_MS;
        let end_ms = if *start_ms < day + cut { day + cut } else { day.saturating_add(DAY_MS) };
        at += starts[at..].partition_point(|start_ms| *start_ms < end_ms);
        parts.push(at);
    }
    parts
}

/// How many rows start before an instant: mostly those of a whole hour, so that is looked at first.
fn count_before(starts: &[UnixMillis], end_ms: UnixMillis) -> usize {
    let whole = OF_AN_HOUR.min(starts.len());
    let before = |at: usize| starts.get(at).is_some_and(|start_ms| *start_ms < end_ms);
    if before(whole - 1) && !before(whole) {
        return whole;
    }
    starts.iter().take_while(|start_ms| **start_ms < end_ms).count()
}
