//! A latency distribution, measured or kept as a histogram, asked by quantile.

use attain_vocabulary::LatencyHistogram;
use statrs::distribution::{Binomial, DiscreteCDF};

use crate::Error;

/// Probability that a quantile lies below its interval, and that it lies above.
const TAIL: f64 = 0.025;

/// Latencies in milliseconds, at least one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Samples(Vec<f64>),
    Histogram(LatencyHistogram),
}

impl Distribution {
    /// From measured latencies in milliseconds, in any order.
    ///
    /// # Errors
    /// Refuses none at all, and any that is negative or not finite.
    pub fn from_samples(latencies_ms: Vec<f64>) -> Result<Self, Error> {
        if latencies_ms.is_empty() {
            return Err(Error::Empty { field: "latencies_ms" });
        }
        if let Some(&value) = latencies_ms.iter().find(|value| !(value.is_finite() && **value >= 0.0)) {
            return Err(Error::OutOfRange { field: "latencies_ms", expected: "a number of at least 0", value });
        }
        Ok(Self::measured(latencies_ms))
    }

    /// From latencies that are known to be usable.
    pub(crate) fn measured(mut latencies_ms: Vec<f64>) -> Self {
        latencies_ms.sort_by(f64::total_cmp);
        Self(Kind::Samples(latencies_ms))
    }

    /// From a base-2 exponential histogram; its resolution bounds the error of every quantile.
    ///
    /// # Errors
    /// Refuses an empty histogram.
    pub fn from_histogram(histogram: LatencyHistogram) -> Result<Self, Error> {
        if histogram.count() == 0 {
            return Err(Error::Empty { field: "histogram" });
        }
        Ok(Self(Kind::Histogram(histogram)))
    }

    /// Milliseconds below which a share `quantile` in `[0, 1]` lies; linear between measured values (Hazen's
    /// rule: value i of n, from 0, lies at (i + ½)/n), logarithmic within a bucket.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        match &self.0 {
            Kind::Samples(sorted) => interpolated(sorted, quantile),
            Kind::Histogram(histogram) => histogram.quantile(quantile).unwrap_or(0.0),
        }
    }

    /// 95 % interval of a quantile in milliseconds, by order statistics, of a sample of independent latencies: how many of
    /// them lie below the quantile is binomial. No upper end where even the greatest may well lie below; nothing for a
    /// histogram and for a quantile outside `[0, 1]`.
    #[must_use]
    pub fn quantile_interval(&self, quantile: f64) -> Option<(f64, Option<f64>)> {
        let Kind::Samples(sorted) = &self.0 else { return None };
        let below = Binomial::new(quantile, sorted.len() as u64).ok()?;
        let (low, high) = (below.inverse_cdf(TAIL), below.inverse_cdf(1.0 - TAIL));
        // The place of an order statistic counts from 1.
        let low = low.checked_sub(1).map_or(0.0, |place| sorted[place as usize]);
        Some((low, sorted.get(high as usize).copied()))
    }

    /// Share of latencies above a threshold in milliseconds, in `[0, 1]`.
    #[must_use]
    pub fn share_above(&self, threshold_ms: f64) -> f64 {
        match &self.0 {
            Kind::Samples(sorted) => {
                let above = sorted.len() - sorted.partition_point(|value| *value <= threshold_ms);
                above as f64 / sorted.len() as f64
            }
            Kind::Histogram(histogram) => histogram.count_above(threshold_ms) / histogram.count() as f64,
        }
    }
}

/// Quantile of sorted values by Hazen's rule; 0 when there are none.
pub(crate) fn interpolated(sorted: &[f64], quantile: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = (quantile * sorted.len() as f64 - 0.5).clamp(0.0, last as f64);
    let (below, above) = (position.floor() as usize, position.ceil() as usize);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_histogram_and_its_samples_agree_within_a_bucket() {
        let values: Vec<f64> = (1..=1_000).map(|i| f64::from(i) * 0.7).collect();
        let mut histogram = LatencyHistogram::empty();
        values.iter().for_each(|value| histogram.record(*value));
        let (samples, histogram) =
            (Distribution::from_samples(values).unwrap(), Distribution::from_histogram(histogram).unwrap());
        for quantile in [0.1, 0.5, 0.95, 0.99] {
            let (a, b) = (samples.quantile(quantile), histogram.quantile(quantile));
            assert!(libm::log2(a / b).abs() < 0.125, "{quantile}: {a} {b}");
            assert!((samples.share_above(a) - (1.0 - quantile)).abs() < 0.002);
        }
    }

    #[test]
    fn an_interval_of_a_quantile_is_read_from_order_statistics() {
        let hundred = Distribution::from_samples((1..=100).map(f64::from).collect()).unwrap();
        // Binomial with 100 and one half: cdf(39) = 0.0176, cdf(40) = 0.0284, cdf(59) = 0.9716, cdf(60) = 0.9824.
        assert_eq!(hundred.quantile_interval(0.5), Some((40.0, Some(61.0))));
        // 0.99^100 = 0.37: the greatest of a hundred may well lie below p99.
        assert_eq!(hundred.quantile_interval(0.99), Some((97.0, None)));
        assert_eq!(hundred.quantile_interval(1.5), None);
        let few = Distribution::from_samples(vec![1.0, 2.0]).unwrap();
        assert_eq!(few.quantile_interval(0.5), Some((0.0, None)));
    }

    #[test]
    fn refuses_what_is_no_latency() {
        let refused = |values| Distribution::from_samples(values).unwrap_err().to_string();
        assert_eq!(refused(vec![]), "latencies_ms holds no latency; at least one is needed");
        assert_eq!(refused(vec![1.0, -2.0]), "latencies_ms must be a number of at least 0, not -2");
        assert!(refused(vec![f64::NAN]).ends_with("not NaN"));
        assert!(Distribution::from_histogram(LatencyHistogram::empty()).is_err());
    }
}
