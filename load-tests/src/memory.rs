//! Whether memory stays flat.

use std::time::Instant;

use serde_json::{Value, json};

/// The start of a run, in which caches fill, that is not judged.
const WARM_UP_SHARE: f64 = 0.2;
/// Growth over the judged time that counts as flat: the noise of an allocator.
const GROWTH_RATIO_MAX: f64 = 0.1;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

/// Samples of resident memory.
#[derive(Debug)]
pub(crate) struct Memory {
    began: Instant,
    samples: Vec<(f64, f64)>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), samples: Vec::new() }
    }

    pub(crate) fn note(&mut self, resident_bytes: u64) {
        self.samples.push((self.began.elapsed().as_secs_f64(), resident_bytes as f64 / MEBIBYTE));
    }

    /// Whether memory did not grow; `None` where there are too few samples to say.
    pub(crate) fn is_flat(&self) -> Option<bool> {
        growth_ratio(judged(&self.samples)).map(|growth| growth <= GROWTH_RATIO_MAX)
    }

    pub(crate) fn report(&self) -> Value {
        let judged = judged(&self.samples);
        json!({
            "samples": self.samples.len(),
            "resident_mib_first": self.samples.first().map(|(_, mib)| mib),
            "resident_mib_last": self.samples.last().map(|(_, mib)| mib),
            "resident_mib_max": self.samples.iter().map(|(_, mib)| *mib).fold(0.0, f64::max),
            "slope_mib_per_minute": slope(judged).map(|slope| slope * 60.0),
            "growth_ratio": growth_ratio(judged),
            "judged_seconds": judged.last().map_or(0.0, |(last, _)| last - judged[0].0),
        })
    }
}

/// Samples after the warm-up.
fn judged(samples: &[(f64, f64)]) -> &[(f64, f64)] {
    let end = samples.last().map_or(0.0, |(time, _)| *time);
    let first = samples.iter().position(|(time, _)| *time >= end * WARM_UP_SHARE).unwrap_or(samples.len());
    &samples[first..]
}

/// Least squares, in units of the value a second; `None` for fewer than three samples.
fn slope(samples: &[(f64, f64)]) -> Option<f64> {
    if samples.len() < 3 {
        return None;
    }
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, value) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let spread: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    let shared: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - value)).sum();
    (spread > 0.0).then(|| shared / spread)
}

/// What the fitted line rises over the samples, over their mean.
fn growth_ratio(samples: &[(f64, f64)]) -> Option<f64> {
    let rise = slope(samples)? * (samples.last()?.0 - samples.first()?.0);
    let mean = samples.iter().map(|(_, value)| value).sum::<f64>() / samples.len() as f64;
    (mean > 0.0).then(|| rise / mean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(mib: impl Fn(f64) -> f64) -> Memory {
        let samples = (0..1800).map(|second| (f64::from(second), mib(f64::from(second)))).collect();
        Memory { began: Instant::now(), samples }
    }

    #[test]
    fn a_leak_is_told_from_noise_and_from_the_warm_up() {
        assert_eq!(memory(|second| 200.0 + (second * 1.7).sin() * 20.0).is_flat(), Some(true));
        assert_eq!(memory(|second| if second < 300.0 { 100.0 } else { 200.0 }).is_flat(), Some(true));
        assert_eq!(memory(|second| 200.0 + second * 0.05).is_flat(), Some(false));
        assert_eq!(memory(|second| 200.0 - second * 0.05).is_flat(), Some(true));
        assert_eq!(Memory::new().is_flat(), None);
    }

    #[test]
    fn the_slope_is_that_of_the_line() {
        let line: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        assert!((slope(&line).expect("ten samples") - 2.0).abs() < 1e-12);
        assert_eq!(slope(&line[..2]), None);
    }
}
