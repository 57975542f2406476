use attain_vocabulary::{BUCKET_MS, DAY_MS, UnixMillis};
use serde::{Deserialize, Serialize};

/// Requests of one five-minute bucket; failures may be fractions (interpolated histograms, partly removed causes).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CountPoint {
    /// Start of the bucket.
    pub start_ms: UnixMillis,
    /// Requests that count.
    pub valid: f64,
    /// Requests among them that were not good.
    pub bad: f64,
}

/// Buckets by ascending start, each with `0 <= bad <= valid`, finite.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<CountPoint>", into = "Vec<CountPoint>")]
pub struct CountSeries {
    points: Vec<CountPoint>,
    /// Of all points: asked for many times.
    sums: Sums,
}

/// Requests and failures, added up point by point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sums {
    pub(crate) valid: f64,
    pub(crate) bad: f64,
}

/// As an iterator's sum begins.
impl Default for Sums {
    fn default() -> Self {
        Self { valid: -0.0, bad: -0.0 }
    }
}

impl Sums {
    fn of(points: &[CountPoint]) -> Self {
        let mut sums = Self::default();
        points.iter().for_each(|point| sums.add(point));
        sums
    }

    /// Of requests and failures, one for each request count.
    pub(crate) fn of_columns(valid: &[f64], bad: &[f64]) -> Self {
        let mut sums = Self::default();
        for (valid, bad) in valid.iter().zip(bad) {
            sums.valid += valid;
            sums.bad += bad;
        }
        sums
    }

    /// Good over valid; `None` without requests.
    pub(crate) fn attained_ratio(self) -> Option<f64> {
        (self.valid > 0.0).then(|| (1.0 - self.bad / self.valid).clamp(0.0, 1.0))
    }

    fn add(&mut self, point: &CountPoint) {
        self.valid += point.valid;
        self.bad += point.bad;
    }
}

impl CountSeries {
    /// Sorts by start; drops what is not finite and every second point with the same start; cuts `bad` to `[0, valid]`.
    #[must_use]
    pub fn new(mut points: Vec<CountPoint>) -> Self {
        let (mut sums, mut last_ms) = (Sums::default(), None);
        let as_it_should_be = points.iter().all(|point| {
            sums.add(point);
            let later = last_ms.is_none_or(|last_ms| last_ms < point.start_ms);
            last_ms = Some(point.start_ms);
            later && point.valid.is_finite() && point.bad >= 0.0 && point.bad <= point.valid
        });
        if as_it_should_be {
            return Self { points, sums };
        }
        points.retain(|point| point.valid.is_finite() && point.bad.is_finite());
        if !points.windows(2).all(|pair| pair[0].start_ms < pair[1].start_ms) {
            points.sort_by_key(|point| point.start_ms);
            points.dedup_by_key(|point| point.start_ms);
        }
        for point in &mut points {
            point.valid = point.valid.max(0.0);
            point.bad = point.bad.clamp(0.0, point.valid);
        }
        Self::of(points)
    }

    /// Of points that are known to ascend, each with `0 <= bad <= valid`, finite.
    pub(crate) fn of(points: Vec<CountPoint>) -> Self {
        Self { sums: Sums::of(&points), points }
    }

    /// The buckets.
    #[must_use]
    pub fn points(&self) -> &[CountPoint] {
        &self.points
    }

    /// Requests in all.
    #[must_use]
    pub fn valid(&self) -> f64 {
        self.sums.valid
    }

    /// Failures in all.
    #[must_use]
    pub fn bad(&self) -> f64 {
        self.sums.bad
    }

    /// Days of buckets present; a gap does not count.
    #[must_use]
    pub fn covered_days(&self) -> f64 {
        self.points.len() as f64 * BUCKET_MS as f64 / DAY_MS as f64
    }

    /// Good over valid; `None` without requests.
    #[must_use]
    pub fn attained_ratio(&self) -> Option<f64> {
        self.sums.attained_ratio()
    }

    /// Failures, bucket by bucket.
    pub(crate) fn failures(&self) -> Vec<f64> {
        self.points.iter().map(|point| point.bad).collect()
    }

    /// Requests and failures in all.
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// The buckets that start in `[start_ms, end_ms)`.
    #[must_use]
    pub fn between(&self, start_ms: UnixMillis, end_ms: UnixMillis) -> Self {
        let at = |time_ms| self.points.partition_point(|point| point.start_ms < time_ms);
        let (first, end) = (at(start_ms), at(end_ms));
        Self::of(self.points[first..end.max(first)].to_vec())
    }

    /// The same history with fewer failures: bucket by bucket, never below none nor above what was.
    #[must_use]
    pub fn relieved(&self, saved: &[f64]) -> Self {
        let relieve = |(point, saved): (&CountPoint, &f64)| {
            let saved = if saved.is_finite() { saved.clamp(0.0, point.bad) } else { 0.0 };
            CountPoint { bad: point.bad - saved, ..*point }
        };
        let rest = self.points.iter().skip(saved.len()).copied();
        Self::of(self.points.iter().zip(saved).map(relieve).chain(rest).collect())
    }
}

impl From<Vec<CountPoint>> for CountSeries {
    fn from(points: Vec<CountPoint>) -> Self {
        Self::new(points)
    }
}

impl From<CountSeries> for Vec<CountPoint> {
    fn from(series: CountSeries) -> Self {
        series.points
    }
}

/// A fraction handed in: cut to `[0, 1]`; `None` for what is not a number.
pub(crate) fn fraction(value: f64) -> Option<f64> {
    (!value.is_nan()).then(|| value.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_put_in_order_and_within_bounds() {
        let point = |start_ms, valid, bad| CountPoint { start_ms, valid, bad };
        let series = CountSeries::new(vec![
            point(BUCKET_MS, 10.0, 20.0),
            point(0, 10.0, -1.0),
            point(BUCKET_MS, 5.0, 1.0),
            point(2 * BUCKET_MS, f64::NAN, 0.0),
        ]);
        assert_eq!(series.points(), [point(0, 10.0, 0.0), point(BUCKET_MS, 10.0, 10.0)]);
        assert_eq!(series.attained_ratio(), Some(0.5));
        assert_eq!(CountSeries::default().attained_ratio(), None);
    }

    #[test]
    fn relief_never_goes_below_none() {
        let series = CountSeries::new(vec![CountPoint { start_ms: 0, valid: 10.0, bad: 4.0 }]);
        assert_eq!(series.relieved(&[9.0]).bad(), 0.0);
        assert_eq!(series.relieved(&[1.0]).bad(), 3.0);
        assert_eq!(series.relieved(&[f64::NAN, 7.0]).bad(), 4.0);
        assert_eq!(series.relieved(&[]).bad(), 4.0);
    }
}
