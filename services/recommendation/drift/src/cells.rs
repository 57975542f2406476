use attain_vocabulary::UnixMillis;
use serde::{Deserialize, Serialize};

/// A stretch of time with enough requests to say how many of them fail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Start of its first bucket.
    pub start_ms: UnixMillis,
    /// Requests that count; above 0.
    pub valid: f64,
    /// Failures of the service's own among them, in [0, `valid`]; may be a fraction.
    pub bad: f64,
}

impl Cell {
    /// Share of requests that failed, in [0, 1].
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.bad / self.valid
    }

    /// The arcsine of the root of the ratio, in [0, pi/2]: failures of a Beta-binomial law, whatever their ratio, spread alike
    /// on this scale, by `(1/n + rho)/4` (the counting part is [`Self::noise`]; the rest is measured). Nothing is added to the
    /// counts, so that no failures are 0 however many requests there were, and a change of traffic alone moves little.
    #[must_use]
    pub fn level(&self) -> f64 {
        transform(self.ratio())
    }

    /// Variance of [`Self::level`] by counting alone.
    #[must_use]
    pub fn noise(&self) -> f64 {
        0.25 / self.valid
    }
}

/// The arcsine of the root of a ratio, which is cut to [0, 1].
#[must_use]
pub fn transform(ratio: f64) -> f64 {
    libm::asin(ratio.clamp(0.0, 1.0).sqrt())
}

/// Puts buckets together to cells: whole multiples of a length of time, as many as hold enough requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cells {
    cell_ms: i64,
    valid_min: f64,
    open: Option<Cell>,
}

impl Cells {
    /// Cells end at multiples of `cell_ms` since 1970 once they hold `valid_min` requests.
    #[must_use]
    pub fn new(cell_ms: i64, valid_min: f64) -> Self {
        Self { cell_ms: cell_ms.max(1), valid_min: valid_min.max(1.0), open: None }
    }

    /// Takes a bucket, and gives the cell that ended before it. What cannot be right (not finite, negative, or earlier than what
    /// was seen) is not read; `bad` is cut to `valid`.
    pub fn push(&mut self, start_ms: UnixMillis, valid: f64, bad: f64) -> Option<Cell> {
        if !(valid.is_finite() && bad.is_finite()) || valid <= 0.0 {
            return None;
        }
        let bucket = Cell { start_ms, valid, bad: bad.clamp(0.0, valid) };
        let Some(open) = &mut self.open else {
            self.open = Some(bucket);
            return None;
        };
        if start_ms < open.start_ms {
            return None;
        }
        let another = start_ms.div_euclid(self.cell_ms) != open.start_ms.div_euclid(self.cell_ms);
        if another && open.valid >= self.valid_min {
            return self.open.replace(bucket);
        }
        open.valid += bucket.valid;
        open.bad += bucket.bad;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_ends_with_its_time_once_it_holds_enough() {
        let mut cells = Cells::new(100, 10.0);
        let ended: Vec<Option<Cell>> = [(0, 6.0), (50, 6.0), (100, 4.0), (150, 4.0), (200, 4.0), (300, 1.0)]
            .map(|(at, n)| cells.push(at, n, 1.0))
            .to_vec();
        assert_eq!(ended[2], Some(Cell { start_ms: 0, valid: 12.0, bad: 2.0 }));
        // Eight requests at the turn of 200 are too few.
        assert_eq!(ended[4], None);
        assert_eq!(ended[5], Some(Cell { start_ms: 100, valid: 12.0, bad: 3.0 }));
        assert_eq!(cells.push(310, f64::NAN, 0.0).or(cells.push(10, 5.0, 0.0)), None);
    }

    #[test]
    fn the_scale_spreads_alike_at_every_ratio() {
        // By the delta method the variance of a binomial ratio p(1-p)/n becomes 1/(4n) whatever p is.
        for ratio in [0.01f64, 0.2, 0.7] {
            let slope = (transform(ratio + 1e-6) - transform(ratio - 1e-6)) / 2e-6;
            let variance = slope * slope * ratio * (1.0 - ratio) / 400.0;
            let cell = Cell { start_ms: 0, valid: 400.0, bad: 400.0 * ratio };
            assert!((variance / cell.noise() - 1.0).abs() < 1e-3, "{ratio}");
        }
    }
}
