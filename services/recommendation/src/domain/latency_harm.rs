//! What a change does to the latency of a service, and how much that hurts.

use attain_attainment::percent;
use attain_proto::graph::v1::LatencyQuantile;
use attain_proto::recommendation::v1 as wire;

/// Milliseconds of difference that are rounding of the evaluation: samples are told in microseconds.
const NOISE_MS: f64 = 1e-3;
/// The quantile that a sentence tells.
const TOLD_QUANTILE: f64 = 0.95;

/// What becomes of a latency.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum LatencyEffect {
    /// The changes do not reach it.
    #[default]
    None,
    /// They do, and nobody knows what becomes of it.
    Unknown,
    /// Before and after.
    Known(Box<wire::AffectedLatency>),
}

impl LatencyEffect {
    /// Whether it moves, or may.
    pub(crate) fn moves(&self) -> bool {
        *self == Self::Unknown
            || self.is_slower()
            || self.quantiles().iter().any(|q| q.before_ms - q.after_low_ms > NOISE_MS)
    }

    /// Whether requests take longer, or may.
    pub(crate) fn is_slower(&self) -> bool {
        self.quantiles().iter().any(|quantile| quantile.after_high_ms - quantile.before_ms > NOISE_MS)
    }

    /// Whether more requests than the latency SLO in force allows are slow after the change, for certain, and were not before.
    pub(crate) fn breaks_slo(&self) -> bool {
        let Self::Known(known) = self else { return false };
        let (Some(target), Some(before)) = (known.target_ratio, known.slow_before_ratio) else { return false };
        let after = known.slow_after_ratio.as_ref().map_or(0.0, |after| after.low_ratio);
        before <= 1.0 - target && after > 1.0 - target
    }

    /// Share of requests that may become slow by the SLO in force; below 0 where fewer are.
    pub(crate) fn slow_rise(&self) -> f64 {
        let Self::Known(known) = self else { return 0.0 };
        let after = known.slow_after_ratio.as_ref().map(|after| after.high_ratio);
        after.zip(known.slow_before_ratio).map_or(0.0, |(after, before)| after - before)
    }

    /// How many times as long the slow requests may take; 1 where nobody knows.
    pub(crate) fn growth(&self) -> f64 {
        self.told().filter(|told| told.before_ms > 0.0).map_or(1.0, |told| told.after_high_ms / told.before_ms)
    }

    /// In half a sentence; nothing where it does not move.
    pub(crate) fn clause(&self) -> Option<String> {
        if *self == Self::Unknown {
            return Some("what becomes of its latency nobody knows".to_owned());
        }
        let told = self.told().filter(|_| self.moves())?;
        let (before, after) =
            (milliseconds(told.before_ms), range(told.after_low_ms, told.after_high_ms, milliseconds));
        let moved = format!("95 of 100 requests take at most {after}, before {before}");
        let Self::Known(known) = self else { return Some(moved) };
        let slo = known.threshold_ms.zip(known.target_ratio);
        let slow = known.slow_before_ratio.zip(known.slow_after_ratio.as_ref());
        let Some(((threshold_ms, target), (slow_before, slow_after))) = slo.zip(slow) else { return Some(moved) };
        let slow_after_text = range(slow_after.low_ratio, slow_after.high_ratio, percent);
        let allowed = percent(1.0 - target);
        Some(format!(
            "{moved}, and {slow_after_text} are slower than {threshold_ms} ms, before {}, where its SLO allows {allowed}",
            percent(slow_before)
        ))
    }

    fn quantiles(&self) -> &[LatencyQuantile] {
        match self {
            Self::Known(known) => &known.quantiles,
            Self::None | Self::Unknown => &[],
        }
    }

    fn told(&self) -> Option<&LatencyQuantile> {
        self.quantiles().iter().find(|quantile| (quantile.quantile - TOLD_QUANTILE).abs() < 1e-9)
    }
}

/// As a person reads it.
fn milliseconds(ms: f64) -> String {
    if ms >= 100.0 { format!("{ms:.0} ms") } else { format!("{ms:.1} ms") }
}

fn range(low: f64, high: f64, text: impl Fn(f64) -> String) -> String {
    let (low, high) = (text(low), text(high));
    if low == high { low } else { format!("{low} to {high}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(before_ms: f64, after_ms: (f64, f64), slow: Option<(f64, f64, f64)>) -> LatencyEffect {
        let quantile = |quantile: f64| LatencyQuantile {
            quantile,
            before_ms,
            after_low_ms: after_ms.0,
            after_high_ms: after_ms.1,
            ..LatencyQuantile::default()
        };
        LatencyEffect::Known(Box::new(wire::AffectedLatency {
            quantiles: vec![quantile(0.5), quantile(0.95)],
            threshold_ms: slow.map(|_| 200),
            target_ratio: slow.map(|_| 0.99),
            slow_before_ratio: slow.map(|(before, ..)| before),
            slow_after_ratio: slow.map(|(_, low_ratio, high_ratio)| wire::RatioInterval { low_ratio, high_ratio }),
            ..wire::AffectedLatency::default()
        }))
    }

    #[test]
    fn what_moves_and_what_breaks_an_slo_is_told() {
        let same = effect(100.0, (100.0, 100.0), Some((0.001, 0.001, 0.001)));
        assert!(!same.moves() && same.clause().is_none() && !same.breaks_slo());
        let faster = effect(100.0, (80.0, 100.0), None);
        assert!(faster.moves() && !faster.is_slower());
        assert_eq!(
            faster.clause().as_deref(),
            Some("95 of 100 requests take at most 80.0 ms to 100 ms, before 100 ms")
        );
        let slower = effect(100.0, (150.0, 190.0), Some((0.001, 0.02, 0.05)));
        assert!(slower.is_slower() && slower.breaks_slo());
        assert!((slower.slow_rise() - 0.049).abs() < 1e-12 && (slower.growth() - 1.9).abs() < 1e-12);
        let clause = slower.clause().expect("it moves");
        assert!(clause.ends_with("slower than 200 ms, before 0.1 %, where its SLO allows 1 %"), "{clause}");
        assert!(!effect(100.0, (100.0, 190.0), Some((0.001, 0.001, 0.05))).breaks_slo(), "it may");
        assert!(!effect(100.0, (150.0, 190.0), Some((0.02, 0.03, 0.05))).breaks_slo(), "it did before");
        assert!(LatencyEffect::Unknown.moves() && !LatencyEffect::None.moves());
    }
}
